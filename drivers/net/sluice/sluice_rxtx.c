/* SPDX-License-Identifier: BSD-3-Clause */
/* Bursts: ethdev's calling convention around lib/vnet, and software where offloads lack. */
#include <errno.h>
#include <string.h>

#include <rte_errno.h>
#include <rte_ether.h>

#include "sluice_pmd.h"

/*
 * Theory of operation
 *
 * Ownership of packets changes hands as ethdev has it. Received ones are the
 * application's. Of those to be sent, the ones a burst returns are the driver's, which
 * frees them: the guest has its copy, or they were dropped and counted. The others found
 * no room at the guest; they stay the application's and are no drops.
 *
 * The burst functions proper do nothing else. The _soft ones stand in where the
 * application asked for something that a guest may or may not be able to do itself:
 * q->soften holds the mbuf flags that need work with the guest as it is now, zero for
 * most.
 */

uint16_t sl_rx_burst(void *rxq, struct rte_mbuf **pkts, uint16_t n)
{
	struct sl_queue *q = rxq;
	uint16_t done = 0, want, got;

	do {
		want = RTE_MIN((uint16_t)(n - done), (uint16_t)VIRTQ_BURST);
		got = vnet_dequeue(q->vq, pkts + done, want);
		done = (uint16_t)(done + got);
	} while (got == want && done < n);
	return done;
}

static uint16_t enqueue(struct sl_queue *q, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t done = 0;

	while (done < n) {
		uint16_t want = RTE_MIN((uint16_t)(n - done), (uint16_t)VIRTQ_BURST);
		uint16_t sent = vnet_enqueue(q->vq, pkts + done, want);

		vnet_free_bulk(pkts + done, sent);
		done = (uint16_t)(done + sent);
		if (sent < want)
			break;
	}
	return done;
}

uint16_t sl_tx_burst(void *txq, struct rte_mbuf **pkts, uint16_t n)
{
	struct sl_queue *q = txq;
	uint16_t done = enqueue(q, pkts, n);

	if (unlikely(done < n))
		virtq_count(&q->unsent, n - done);
	return done;
}

/* ---- receiving in software ---- */

/*
 * The guest left the checksum to us and the application does not want to hear of that:
 * compute it. A segment larger than the wire's stays one. NULL: its headers are not what
 * the guest said.
 */
static struct rte_mbuf *complete_checksum(struct rte_mbuf *m)
{
	uint64_t large = m->ol_flags & VNET_SEG_FLAGS;

	if (large)
		m->ol_flags = (m->ol_flags & ~(large | RTE_MBUF_F_TX_L4_MASK)) |
			      (large & RTE_MBUF_F_TX_TCP_SEG ? RTE_MBUF_F_TX_TCP_CKSUM
							     : RTE_MBUF_F_TX_UDP_CKSUM);
	/* Nobody else has it, so it is mended in place: no pools. */
	if (vnet_soften(NULL, m, RTE_ETH_TX_OFFLOAD_MULTI_SEGS, &m, 1) != 1)
		return NULL;
	m->ol_flags &= ~RTE_MBUF_F_TX_OFFLOAD_MASK;
	m->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	if (large & VNET_MBUF_F_UFO)
		m->tso_segsz = 0; /* one datagram, however large: nothing was coalesced */
	else if (large)
		m->ol_flags |= RTE_MBUF_F_RX_LRO;
	return m;
}

/* The ring has counted it as received, but it was not. What is told of sizes stays: the
 * guest did send it. */
static void drop_received(struct sl_queue *q, uint32_t len)
{
	struct virtq_stats *st = &q->vq->stats;

	virtq_store(&st->packets, st->packets - 1);
	virtq_store(&st->bytes, st->bytes - len);
	virtq_drop(q->vq, VIRTQ_DROP_RX_BAD_HEADER, 1);
}

uint16_t sl_rx_burst_soft(void *rxq, struct rte_mbuf **pkts, uint16_t n)
{
	struct sl_queue *q = rxq;
	uint16_t got = sl_rx_burst(rxq, pkts, n), kept = 0;
	uint64_t soften = virtq_load(&q->soften);

	if (!soften && !q->vlan_strip)
		return got;
	for (uint16_t i = 0; i < got; i++) {
		struct rte_mbuf *m = pkts[i];
		uint32_t len = m->pkt_len;

		if (unlikely(m->ol_flags & soften))
			m = complete_checksum(m);
		if (unlikely(!m)) {
			drop_received(q, len);
			continue;
		}
		/* DPDK's function does not look whether the tag is there in full. */
		if (q->vlan_strip && m->data_len >= RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN)
			rte_vlan_strip(m);
		pkts[kept++] = m;
	}
	return kept;
}

/* ---- sending in software ---- */

/*
 * DPDK inserts a tag only where the first segment's memory is the mbuf's own. That of a lent packet, and any other
 * external one that nobody else refers to, is as good: for the time of the call it looks like that.
 */
static int tag_insert(struct rte_mbuf **pkt)
{
	struct rte_mbuf *m = *pkt;
	int err;

	if (!RTE_MBUF_HAS_EXTBUF(m) || rte_mbuf_ext_refcnt_read(m->shinfo) > 1)
		return rte_vlan_insert(pkt);
	m->ol_flags &= ~RTE_MBUF_F_EXTERNAL;
	err = rte_vlan_insert(pkt);
	m->ol_flags |= RTE_MBUF_F_EXTERNAL;
	return err;
}

/* Segments of one large packet: the shortest a guest's stack makes fill 64 KiB. */
#define SEGMENTS_MAX 256

/* Cut one large packet and send what comes of it. It is the driver's from here on. */
static void send_segments(struct sl_queue *q, struct rte_mbuf *m)
{
	struct rte_mbuf *out[SEGMENTS_MAX];
	uint16_t n = 0, sent;

	if (!(m->ol_flags & RTE_MBUF_F_TX_VLAN) || tag_insert(&m) == 0)
		n = vnet_soften(q->soft, m, virtq_load(&q->offloads), out, SEGMENTS_MAX);
	else
		rte_pktmbuf_free(m);
	if (n == 0)
		virtq_drop(q->vq, VIRTQ_DROP_TX_OFFLOAD, 1);
	sent = enqueue(q, out, n);
	if (sent < n) {
		vnet_give_up(q->vq, (uint16_t)(n - sent));
		vnet_free_bulk(out + sent, n - sent);
	}
}

/* What can be done to a packet that stays one packet. False: it was dropped. */
static bool touch_up(struct sl_queue *q, struct rte_mbuf **pkt)
{
	bool kept = true;

	if (((*pkt)->ol_flags & RTE_MBUF_F_TX_VLAN) && tag_insert(pkt) != 0) {
		rte_pktmbuf_free(*pkt);
		kept = false;
	} else if ((*pkt)->ol_flags & virtq_load(&q->soften)) {
		kept = vnet_soften(q->soft, *pkt, virtq_load(&q->offloads), pkt, 1) == 1;
	}
	if (!kept)
		virtq_drop(q->vq, VIRTQ_DROP_TX_OFFLOAD, 1);
	return kept;
}

/* pkts[i] was dropped: send those from done up to it. Any that cannot be sent move up by
 * one, so that what is done with stays a prefix. Returns its new length. */
static uint16_t send_around(struct sl_queue *q, struct rte_mbuf **pkts, uint16_t done, uint16_t i)
{
	done = (uint16_t)(done + enqueue(q, pkts + done, (uint16_t)(i - done)));
	memmove(pkts + done + 1, pkts + done, (i - done) * sizeof(*pkts));
	return (uint16_t)(done + 1);
}

/* Runs of packets go out together, interrupted only by a large one to be cut. */
uint16_t sl_tx_burst_soft(void *txq, struct rte_mbuf **pkts, uint16_t n)
{
	struct sl_queue *q = txq;
	uint64_t soften = virtq_load(&q->soften);
	uint16_t done = 0, i;

	for (i = 0; i < n; i++) {
		uint64_t flags = pkts[i]->ol_flags & (soften | RTE_MBUF_F_TX_VLAN);

		if (likely(!flags))
			continue;
		if (flags & VNET_SEG_FLAGS) {
			done = (uint16_t)(done + enqueue(q, pkts + done, (uint16_t)(i - done)));
			if (done < i)
				break;
			send_segments(q, pkts[i]);
			done++;
		} else if (!touch_up(q, &pkts[i])) {
			done = send_around(q, pkts, done, i);
		}
	}
	if (i == n)
		done = (uint16_t)(done + enqueue(q, pkts + done, (uint16_t)(n - done)));
	if (unlikely(done < n))
		virtq_count(&q->unsent, n - done);
	return done;
}

/* Say before the burst which packets nobody could make sense of. */
uint16_t sl_tx_prepare(void *txq, struct rte_mbuf **pkts, uint16_t n)
{
	const uint64_t known =
		VNET_OFFLOAD_FLAGS | RTE_MBUF_F_TX_VLAN | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IPV6;

	(void)txq;
	for (uint16_t i = 0; i < n; i++) {
		if (pkts[i]->ol_flags & RTE_MBUF_F_TX_OFFLOAD_MASK & ~known) {
			rte_errno = ENOTSUP;
			return i;
		}
	}
	return n;
}

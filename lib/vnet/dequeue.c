/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest to mbufs. */
#include <rte_arp.h>
#include <rte_ether.h>
#include <rte_malloc.h>

#include "burst.h"
#include "offload.h"
#include "virtq_log.h"
#include "virtq_packed.h"
#include "virtq_split.h"

/*
 * Theory of operation
 *
 * Three passes over a burst:
 *
 *   take   walk every chain into an array of segments, prefetching the payload
 *   copy   each chain into an mbuf of ours; from here on nothing of the guest's is read
 *   give   hand all chains back, publish once, call the guest at most once
 *
 * A chain whose packet must not go on is given back like any other.
 */

/* The frame's first line, which with most drivers is not the header's: that one is fetched only
 * if anybody will look. */
virtq_inline void chain_prefetch(
	const struct virtq_view *v, const struct virtq_chain *chain, const int variant)
{
	if (unlikely(chain->nseg == 0))
		return;
	if (variant & VNET_OFFLOADS)
		rte_prefetch0(chain->seg[0].va);
	rte_prefetch0(chain->seg[0].va + v->hdr_len);
	if (chain->nseg > 1)
		rte_prefetch0(chain->seg[1].va);
}

/* As many mbufs as there are chains, or as many as the pool has. */
static uint16_t alloc_some(struct rte_mempool *pool, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t got = 0;

	while (got < n && rte_mempool_get(pool, (void **)&pkts[got]) == 0)
		got++;
	return got;
}

/*
 * What a driver has to fill in of an mbuf, data_off to hash, lies side by side: it is copied
 * from a template instead of set field by field. The rest is as the pool keeps it, so that the
 * mbuf's second line is not touched.
 */
#define MBUF_RX_AT  offsetof(struct rte_mbuf, data_off)
#define MBUF_RX_LEN (offsetof(struct rte_mbuf, hash) + sizeof(uint32_t) - MBUF_RX_AT)
_Static_assert(MBUF_RX_AT == 16 && MBUF_RX_LEN == 32 && offsetof(struct rte_mbuf, ol_flags) == 24,
	"a driver's part of an mbuf has moved: look whether it still lies side by side");

static struct rte_mbuf mbuf_template(const struct vnet_rx_conf *conf)
{
	uint32_t pinned = rte_pktmbuf_priv_flags(conf->pool) & RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF;

	return (struct rte_mbuf){
		.data_off = RTE_MIN(RTE_PKTMBUF_HEADROOM, rte_pktmbuf_data_room_size(conf->pool)),
		.refcnt = 1,
		.nb_segs = 1,
		.port = conf->port,
		.ol_flags = pinned ? RTE_MBUF_F_EXTERNAL : 0,
	};
}

virtq_inline void mbuf_init(struct rte_mbuf *m, const struct rte_mbuf *template)
{
	memcpy((uint8_t *)m + MBUF_RX_AT, (const uint8_t *)template + MBUF_RX_AT, MBUF_RX_LEN);
}

/* Copy what the chain holds from the cursor on, chaining mbufs as needed. */
static int copy_scattered(
	struct vnet_cursor c, uint32_t len, struct rte_mbuf *head, struct rte_mempool *pool)
{
	struct rte_mbuf *m = head;

	head->pkt_len = len;
	while (len > 0) {
		uint32_t part = vnet_cursor_room(&c, len);

		if (rte_pktmbuf_tailroom(m) == 0) {
			m->next = rte_pktmbuf_alloc(pool);
			if (!m->next)
				return -ENOMEM;
			m = m->next;
			m->pkt_len = 0;
			head->nb_segs++;
		}
		part = RTE_MIN(part, rte_pktmbuf_tailroom(m));
		memcpy(rte_pktmbuf_mtod_offset(m, void *, m->data_len), c.seg->va + c.off, part);
		m->data_len += part;
		c.off += part;
		len -= part;
	}
	return 0;
}

static void ext_free(void *addr, void *opaque)
{
	(void)addr;
	rte_free(opaque);
}

/* Give the mbuf one external buffer large enough for the packet. */
static int attach_external(struct rte_mbuf *m, uint32_t len)
{
	struct rte_mbuf_ext_shared_info *info;
	uint32_t total = RTE_PKTMBUF_HEADROOM + len + sizeof(*info) + sizeof(uintptr_t);
	uint16_t buf_len;
	void *buf;

	if (total > UINT16_MAX)
		return -EMSGSIZE;
	buf = rte_malloc(NULL, total, RTE_CACHE_LINE_SIZE);
	if (!buf)
		return -ENOMEM;
	buf_len = (uint16_t)total;
	info = rte_pktmbuf_ext_shinfo_init_helper(buf, &buf_len, ext_free, buf);
	if (!info) {
		rte_free(buf);
		return -ENOMEM;
	}
	rte_pktmbuf_attach_extbuf(m, buf, rte_malloc_virt2iova(buf), buf_len, info);
	rte_pktmbuf_reset_headroom(m);
	return 0;
}

union header {
	struct virtio_net_hdr h;
	uint8_t raw[sizeof(struct virtio_net_hdr_v1)];
};

/* The virtio-net header, which the driver may have cut anywhere. Returns where it ends. */
static struct vnet_cursor header_copy(struct vnet_cursor c, uint8_t *hdr, uint32_t len)
{
	for (uint32_t done = 0; done < len;) {
		uint32_t part = vnet_cursor_room(&c, len - done);

		memcpy(hdr + done, c.seg->va + c.off, part);
		c.off += part;
		done += part;
	}
	return c;
}

/* Anything but one segment into one mbuf. Returns what the packet is lost for, or -1. */
static __rte_noinline int copy_slow(const struct virtq_view *v, const struct virtq_chain *chain,
	union header *hdr, struct rte_mbuf *m, bool linear)
{
	const struct vnet_rx_conf *conf = v->arg;
	struct vnet_cursor c = header_copy(vnet_cursor_at(chain), hdr->raw, v->hdr_len);
	uint32_t len = chain->len - v->hdr_len;
	bool fits = len <= rte_pktmbuf_tailroom(m);

	if (len > VNET_FRAME_MAX)
		return VIRTQ_DROP_RX_TOO_BIG;
	if (!fits && conf->ext_buf)
		fits = attach_external(m, len) == 0;
	if (!fits && linear)
		return VIRTQ_DROP_RX_TOO_BIG;
	if (copy_scattered(c, len, m, conf->pool) != 0)
		return VIRTQ_DROP_RX_NO_MBUF;
	return -1;
}

/* One chain into one packet. Returns what the packet is lost for, or -1. */
virtq_inline int chain_to_mbuf(const struct virtq_view *v, const struct virtq_chain *chain,
	struct rte_mbuf *m, uint32_t room, const int variant)
{
	const struct vnet_rx_conf *conf = v->arg;
	const uint32_t len = chain->len - v->hdr_len;
	union header hdr;

	if (unlikely(chain->len < v->hdr_len + (uint32_t)RTE_ETHER_HDR_LEN))
		return VIRTQ_DROP_RX_SHORT;
	if (likely(chain->nseg == 1 && len <= room)) {
		if (variant & VNET_OFFLOADS)
			memcpy(&hdr.h, chain->seg[0].va, sizeof(hdr.h));
		memcpy(rte_pktmbuf_mtod(m, void *), chain->seg[0].va + v->hdr_len, len);
		m->data_len = (uint16_t)len;
		m->pkt_len = len;
	} else {
		int lost = copy_slow(v, chain, &hdr, m, variant & VNET_LINEAR);

		if (lost >= 0)
			return lost;
	}
	if ((variant & VNET_OFFLOADS) && unlikely(hdr.h.flags | hdr.h.gso_type) &&
		vnet_hdr_to_mbuf(&hdr.h, v->features, conf->style, m) != 0)
		return VIRTQ_DROP_RX_BAD_HEADER;
	return -1;
}

/* Nothing of the guest's is written but the ring. */
static __rte_noinline void log_burst(
	const struct virtq *vq, const struct virtq_view *v, uint16_t from)
{
	virtq_log_begin();
	virtq_log_used(vq, v, from);
}

#define RARP_LEN     60 /* what the wire wants, without the frame check sequence */
#define RARP_REQUEST 3

/* RFC 903: who am I? The answer does not matter, the source address does. */
static void write_rarp(uint8_t *at, const uint8_t mac[6])
{
	struct rte_ether_hdr *eth = (void *)at;
	struct rte_arp_hdr *arp = (void *)(eth + 1);

	memset(at, 0, RARP_LEN);
	memset(&eth->dst_addr, 0xff, sizeof(eth->dst_addr));
	memcpy(&eth->src_addr, mac, sizeof(eth->src_addr));
	eth->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_RARP);
	arp->arp_hardware = rte_cpu_to_be_16(RTE_ARP_HRD_ETHER);
	arp->arp_protocol = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
	arp->arp_hlen = sizeof(eth->src_addr);
	arp->arp_plen = sizeof(uint32_t);
	arp->arp_opcode = rte_cpu_to_be_16(RARP_REQUEST);
	memcpy(&arp->arp_data.arp_sha, mac, sizeof(arp->arp_data.arp_sha));
	memcpy(&arp->arp_data.arp_tha, mac, sizeof(arp->arp_data.arp_tha));
}

/* What virtq_announce() asked for. 0: it must wait for an mbuf. */
static __rte_noinline uint16_t announce(
	struct virtq *vq, const struct virtq_view *v, struct rte_mbuf **pkt)
{
	const struct vnet_rx_conf *conf = v->arg;
	struct rte_mbuf *m = rte_pktmbuf_alloc(conf->pool);
	uint8_t mac[6];
	char *at;

	if (!m)
		return 0;
	at = rte_pktmbuf_append(m, RARP_LEN);
	if (!at || !virtq_announced(vq, mac)) {
		rte_pktmbuf_free(m);
		return 0;
	}
	write_rarp((uint8_t *)at, mac);
	m->port = conf->port;
	virtq_count_frame(&vq->stats, (uint8_t *)at, RARP_LEN);
	vnet_count_burst(&vq->stats, 1, RARP_LEN);
	*pkt = m;
	return 1;
}

virtq_inline uint16_t dequeue(struct virtq *vq, const struct virtq_view *v, void **out, uint16_t n,
	const struct virtq_ops *ops, const int variant)
{
	const struct vnet_rx_conf *conf = v->arg;
	struct rte_mbuf **pkts = (struct rte_mbuf **)out;
	struct virtq_chain chain[VIRTQ_BURST];
	struct virtq_segs segs;
	uint16_t taken = 0, have, kept = 0, from;
	uint64_t bytes = 0;
	struct rte_mbuf template;
	uint32_t room;

	if (unlikely(vq->fault))
		return 0;
	if (unlikely(virtq_load(&vq->announce)) && n > 0 && announce(vq, v, pkts))
		return 1;
	n = ops->ready(vq, v, RTE_MIN(n, VIRTQ_BURST));
	if (n == 0)
		return 0;

	ops->prefetch(vq, v, n);
	virtq_segs_begin(&segs);
	while (taken < n && ops->take(vq, v, VIRTQ_FROM_GUEST, &segs, &chain[taken]))
		chain_prefetch(v, &chain[taken++], variant);
	if (taken == 0) {
		if (unlikely(segs.full))
			virtq_park(vq, VIRTQ_FAULT_TOO_LONG);
		return 0;
	}

	have = taken;
	if (unlikely(rte_mempool_get_bulk(conf->pool, out, taken) != 0)) {
		have = alloc_some(conf->pool, pkts, taken);
		if (have < taken)
			ops->untake(vq, v, &chain[have]);
		virtq_count(&vq->stats.no_mbuf, 1);
		if (have == 0)
			return 0;
	}

	template = mbuf_template(conf);
	room = rte_pktmbuf_data_room_size(conf->pool) - template.data_off;
	for (uint16_t i = 0; i < have; i++) {
		struct rte_mbuf *m = pkts[i];
		int lost;

		mbuf_init(m, &template);
		lost = chain_to_mbuf(v, &chain[i], m, room, variant);

		if (unlikely(lost >= 0)) {
			virtq_drop(vq, (enum virtq_drop)lost, 1);
			rte_pktmbuf_free(m);
			continue;
		}
		bytes += m->pkt_len;
		virtq_count_frame(&vq->stats, rte_pktmbuf_mtod(m, uint8_t *), m->pkt_len);
		pkts[kept++] = m;
	}

	from = vq->used;
	for (uint16_t i = 0; i < have; i++)
		ops->give(vq, v, &chain[i], 0);
	ops->publish(vq, v);
	if (unlikely(v->log))
		log_burst(vq, v, from);
	vnet_count_burst(&vq->stats, kept, bytes);
	return kept;
}

#define INSTANCE(name, ops, variant)                                                             \
	static uint16_t name(struct virtq *vq, const struct virtq_view *v, void **p, uint16_t n) \
	{                                                                                        \
		return dequeue(vq, v, p, n, ops, variant);                                       \
	}

#define INSTANCES(ring)                                                           \
	INSTANCE(dequeue_##ring, &virtq_##ring##_ops, 0)                          \
	INSTANCE(dequeue_##ring##_offloads, &virtq_##ring##_ops, VNET_OFFLOADS)   \
	INSTANCE(dequeue_##ring##_linear, &virtq_##ring##_ops, VNET_LINEAR)       \
	INSTANCE(dequeue_##ring##_offloads_linear, &virtq_##ring##_ops,           \
		VNET_OFFLOADS | VNET_LINEAR)                                      \
	static const virtq_burst_fn dequeue_##ring##_fns[] = {                    \
		[0] = dequeue_##ring,                                             \
		[VNET_OFFLOADS] = dequeue_##ring##_offloads,                      \
		[VNET_LINEAR] = dequeue_##ring##_linear,                          \
		[VNET_OFFLOADS | VNET_LINEAR] = dequeue_##ring##_offloads_linear, \
	};

INSTANCES(split)
INSTANCES(packed)

virtq_burst_fn vnet_dequeue_fn(uint64_t features, const struct vnet_rx_conf *conf)
{
	int variant = (features & (1ull << VIRTIO_NET_F_CSUM) ? VNET_OFFLOADS : 0) |
		      (conf->linear ? VNET_LINEAR : 0);

	return vnet_packed(features) ? dequeue_packed_fns[variant] : dequeue_split_fns[variant];
}

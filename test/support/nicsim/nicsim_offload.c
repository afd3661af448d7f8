/* SPDX-License-Identifier: BSD-3-Clause */
/* What a NIC does to frames it sends when told to: checksums and TCP segmentation. */
#include <netinet/in.h>
#include <string.h>

#include <rte_tcp.h>

#include "nicsim_priv.h"
#include "ts_pkt.h"

/*
 * Theory of operation
 *
 * As Intel's NICs, and unlike what an application may expect: the header lengths are believed, the
 * checksum fields are part of the sum (so IPv4's must be zero and TCP's and UDP's the pseudo
 * header's sum, without the length for segmentation), and nothing is said about mistakes. The frame
 * is wrong then, which tx_wrong_checksum counts.
 */

#define SEGMENT RTE_MBUF_F_TX_TCP_SEG

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void sum_up(const uint8_t *from, size_t len, uint8_t *field, bool udp)
{
	uint16_t sum = ts_csum_end(ts_csum_add(0, from, len));

	if (udp && !sum)
		sum = 0xffff;
	memcpy(field, &sum, sizeof(sum));
}

static void checksums(uint8_t *p, uint32_t len, const struct tx_desc *d)
{
	uint32_t l3 = d->l2_len, l4 = l3 + d->l3_len;
	uint64_t kind = d->ol_flags & RTE_MBUF_F_TX_L4_MASK;

	if (d->ol_flags & RTE_MBUF_F_TX_IP_CKSUM)
		sum_up(p + l3, d->l3_len, p + l3 + 10, false);
	if (kind == RTE_MBUF_F_TX_TCP_CKSUM || (d->ol_flags & SEGMENT))
		sum_up(p + l4, len - l4, p + l4 + 16, false);
	else if (kind == RTE_MBUF_F_TX_UDP_CKSUM)
		sum_up(p + l4, len - l4, p + l4 + 6, true);
}

/* Lengths, numbers and flags of one segment's headers. */
static void adapt(uint8_t *p, const struct tx_desc *d, uint32_t done, uint32_t n, bool last)
{
	uint8_t *ip = p + d->l2_len, *tcp = ip + d->l3_len;
	uint32_t l4_bytes = d->l4_len + n, seq, pseudo;

	if (d->ol_flags & RTE_MBUF_F_TX_IPV4) {
		put16(ip + 2, d->l3_len + l4_bytes);
		put16(ip + 4, get16(ip + 4) + done / d->mss);
	} else {
		put16(ip + 4, d->l3_len - 40u + l4_bytes);
	}
	memcpy(&seq, tcp + 4, sizeof(seq));
	seq = rte_cpu_to_be_32(rte_be_to_cpu_32(seq) + done);
	memcpy(tcp + 4, &seq, sizeof(seq));
	if (!last)
		tcp[13] &= (uint8_t) ~(RTE_TCP_FIN_FLAG | RTE_TCP_PSH_FLAG);
	if (done)
		tcp[13] &= (uint8_t)~RTE_TCP_CWR_FLAG;
	pseudo = get16(tcp + 16) + l4_bytes;
	put16(tcp + 16, (pseudo & 0xffff) + (pseudo >> 16));
}

static void segment(struct tx_queue *q, const struct tx_desc *d, uint32_t len,
	void (*emit)(struct tx_queue *q, const uint8_t *frame, uint32_t len))
{
	const uint32_t headers = d->l2_len + d->l3_len + d->l4_len, payload = len - headers;

	for (uint32_t done = 0; done < payload; done += d->mss) {
		uint32_t n = RTE_MIN(payload - done, (uint32_t)d->mss);

		memcpy(q->piece, q->frame, headers);
		memcpy(q->piece + headers, q->frame + headers + done, n);
		adapt(q->piece, d, done, n, done + n == payload);
		checksums(q->piece, headers + n, d);
		emit(q, q->piece, headers + n);
	}
}

/* The bytes the device looks at are there. */
static bool plausible(const struct tx_desc *d, uint32_t len)
{
	uint32_t l4 = d->l2_len + d->l3_len;

	if ((d->ol_flags & RTE_MBUF_F_TX_IP_CKSUM) && (d->l3_len < 20 || l4 > len))
		return false;
	if (d->ol_flags & SEGMENT)
		return d->mss && d->l3_len >= 20 && d->l4_len >= 20 && l4 + d->l4_len < len;
	return !(d->ol_flags & RTE_MBUF_F_TX_L4_MASK) || l4 + 18 <= len ||
	       ((d->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_UDP_CKSUM && l4 + 8 <= len);
}

bool nicsim_offload(struct tx_queue *q, const struct tx_desc *d, uint32_t len,
	void (*emit)(struct tx_queue *q, const uint8_t *frame, uint32_t len))
{
	if (!plausible(d, len))
		return false;
	if (d->ol_flags & SEGMENT) {
		segment(q, d, len, emit);
		return true;
	}
	checksums(q->frame, len, d);
	emit(q, q->frame, len);
	return true;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Software instead of offloads: checksums and segmentation for destinations that lack them. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_errno.h>
#include <rte_ether.h>
#include <rte_gso.h>
#include <rte_hash_crc.h>
#include <rte_ip.h>
#include <rte_random.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "offload.h"

/*
 * Theory of operation
 *
 * A packet whose requests the destination cannot take all goes one of two ways:
 *
 *   mend  checksums are computed in place. A packet that somebody else holds too, or that
 *	   must be in one piece, is copied first.
 *   cut   headers and payload are taken apart (rte_gso, which refers to the payload instead
 *	   of copying it, where it can; a copy otherwise), then the headers of all pieces are
 *	   made right, then their checksums.
 *
 * rte_gso of DPDK 22.11 cuts IPv4 only. It also writes to the flags of the packet it cuts,
 * takes the flag of an external buffer over to mbufs that have none, and makes an empty mbuf
 * where the first segment ends with the headers. Such packets are copied.
 *
 * UDP is cut in two ways (see VNET_MBUF_F_UFO): into datagrams, as TCP is into segments, or into
 * IP fragments, where the checksum is that of the whole datagram. rte_gso knows the latter only.
 */

/* Pieces stay in a NIC's queue for a while: enough for one with 1024 descriptors. */
#define DIRECT_COUNT   2047
#define INDIRECT_COUNT 4095
#define LARGE_COUNT    63
#define LARGE_ROOM     (9728 + RTE_PKTMBUF_HEADROOM) /* jumbo frames */
#define POOL_CACHE     128

#define HEADERS_MAX    1024 /* the mbuf's length fields add up to less */

struct vnet_soft {
	struct rte_mempool *direct;   /* headers of pieces, and copies */
	struct rte_mempool *indirect; /* payloads of pieces */
	struct rte_mempool *large;    /* copies that must not be chains */
};

/* What a piece is made from. */
struct cut {
	const struct rte_mbuf *pkt;
	const struct vnet_frame *frame; /* of pkt */
	uint16_t n;                     /* pieces */
	uint16_t unit;                  /* payload bytes in each but the last */
	uint16_t from;                  /* where the payload begins in pkt */
	uint16_t hdr_len;               /* of each piece: from, and an IPv6 fragment header */
	bool segs;                      /* the destination takes chains */
	bool l4;                        /* the destination computes their checksums */
	uint8_t hdr[HEADERS_MAX];
};

static struct rte_mempool *pool_create(
	const char *name, const char *what, unsigned n, unsigned cache, uint16_t room, int socket)
{
	char full[RTE_MEMPOOL_NAMESIZE];

	if (snprintf(full, sizeof(full), "%s_%s", name, what) >= (int)sizeof(full)) {
		rte_errno = ENAMETOOLONG;
		return NULL;
	}
	return rte_pktmbuf_pool_create(full, n, cache, 0, room, socket);
}

struct vnet_soft *vnet_soft_create(const char *name, int socket)
{
	struct vnet_soft *soft = calloc(1, sizeof(*soft));

	if (!soft)
		return NULL;
	soft->direct = pool_create(
		name, "dir", DIRECT_COUNT, POOL_CACHE, RTE_MBUF_DEFAULT_BUF_SIZE, socket);
	soft->indirect = pool_create(name, "ind", INDIRECT_COUNT, POOL_CACHE, 0, socket);
	soft->large = pool_create(name, "big", LARGE_COUNT, 0, LARGE_ROOM, socket);
	if (soft->direct && soft->indirect && soft->large)
		return soft;
	vnet_soft_destroy(soft);
	return NULL;
}

void vnet_soft_destroy(struct vnet_soft *soft)
{
	if (!soft)
		return;
	rte_mempool_free(soft->direct);
	rte_mempool_free(soft->indirect);
	rte_mempool_free(soft->large);
	free(soft);
}

/* The L4 flags are a field of two bits: a lack of TCP (01) or SCTP (10) also catches UDP (11),
 * for which vnet_soften() then finds nothing to do. */
uint64_t vnet_soft_mask(uint64_t offloads)
{
	static const struct {
		uint64_t offload, flag;
	} map[] = {
		{TX_IPV4_CKSUM, RTE_MBUF_F_TX_IP_CKSUM},
		{TX_TCP_CKSUM, RTE_MBUF_F_TX_TCP_CKSUM | RTE_MBUF_F_TX_TCP_SEG},
		{TX_UDP_CKSUM, RTE_MBUF_F_TX_UDP_CKSUM | RTE_MBUF_F_TX_UDP_SEG | VNET_MBUF_F_UFO},
		{TX_SCTP_CKSUM, RTE_MBUF_F_TX_SCTP_CKSUM},
		{TX_TCP_TSO, RTE_MBUF_F_TX_TCP_SEG},
		{TX_UDP_TSO, RTE_MBUF_F_TX_UDP_SEG},
		{TX_UFO, VNET_MBUF_F_UFO},
	};
	uint64_t mask = offloads & NO_CWR ? RTE_MBUF_F_TX_TCP_SEG : 0;

	for (unsigned i = 0; i < RTE_DIM(map); i++)
		if (!(offloads & map[i].offload))
			mask |= map[i].flag;
	return mask;
}

/* The exact offloads a packet needs. */
static uint64_t packet_needs(const struct rte_mbuf *m)
{
	uint64_t needs = 0;

	switch (m->ol_flags & RTE_MBUF_F_TX_L4_MASK) {
	case RTE_MBUF_F_TX_TCP_CKSUM:
		needs = TX_TCP_CKSUM;
		break;
	case RTE_MBUF_F_TX_UDP_CKSUM:
		needs = TX_UDP_CKSUM;
		break;
	case RTE_MBUF_F_TX_SCTP_CKSUM:
		needs = TX_SCTP_CKSUM;
		break;
	}
	if (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG)
		needs |= TX_TCP_TSO | TX_TCP_CKSUM;
	if (m->ol_flags & RTE_MBUF_F_TX_UDP_SEG)
		needs |= TX_UDP_TSO | TX_UDP_CKSUM;
	if (m->ol_flags & VNET_MBUF_F_UFO)
		needs |= TX_UFO | TX_UDP_CKSUM;
	if (m->ol_flags & RTE_MBUF_F_TX_IP_CKSUM)
		needs |= TX_IPV4_CKSUM;
	if (m->nb_segs > 1)
		needs |= TX_MULTI_SEGS;
	return needs;
}

/* ---- copies ---- */

static struct rte_mempool *pool_for(const struct vnet_soft *soft, uint32_t len)
{
	if (len <= RTE_MBUF_DEFAULT_DATAROOM || len > LARGE_ROOM - RTE_PKTMBUF_HEADROOM)
		return soft->direct;
	return soft->large;
}

/* Do all headers lie in memory that nobody else refers to? */
static bool is_alone(const struct rte_mbuf *m)
{
	if (rte_mbuf_refcnt_read(m) != 1)
		return false;
	if (RTE_MBUF_HAS_EXTBUF(m))
		return rte_mbuf_ext_refcnt_read(m->shinfo) == 1;
	return RTE_MBUF_DIRECT(m);
}

/* A packet we may write to, in one piece if it must be. Consumes pkt; NULL: no memory. */
static struct rte_mbuf *own(const struct vnet_soft *soft, struct rte_mbuf *pkt, uint64_t lack)
{
	struct rte_mbuf *copy = NULL;

	if (is_alone(pkt) && !(lack & TX_MULTI_SEGS))
		return pkt;
	if (soft)
		copy = rte_pktmbuf_copy(pkt, pool_for(soft, pkt->pkt_len), 0, UINT32_MAX);
	rte_pktmbuf_free(pkt);
	return copy;
}

/* ---- mend ---- */

static uint32_t crc_range(const struct rte_mbuf *m, uint32_t off, uint32_t len, uint32_t crc)
{
	for (; m && len > 0; m = m->next) {
		uint32_t part;

		if (off >= m->data_len) {
			off -= m->data_len;
			continue;
		}
		part = RTE_MIN(len, m->data_len - off);
		crc = rte_hash_crc(rte_pktmbuf_mtod_offset(m, const void *, off), part, crc);
		len -= part;
		off = 0;
	}
	return crc;
}

/* RFC 9260, appendix A: CRC32c over the packet with a checksum of 0. */
static void sctp_checksum(struct rte_mbuf *m, const struct vnet_frame *f)
{
	const uint32_t zero = 0;
	uint32_t crc = crc_range(m, f->l4, f->field - f->l4, UINT32_MAX), after = f->field + 4u;

	crc = rte_hash_crc(&zero, sizeof(zero), crc);
	crc = crc_range(m, after, f->l4 + f->l4_bytes - after, crc);
	crc = rte_cpu_to_le_32(~crc);
	memcpy(rte_pktmbuf_mtod_offset(m, void *, f->field), &crc, sizeof(crc));
}

static void put16(struct rte_mbuf *m, uint32_t off, uint16_t value)
{
	memcpy(rte_pktmbuf_mtod_offset(m, void *, off), &value, sizeof(value));
}

static void l4_checksum(struct rte_mbuf *m, const struct vnet_frame *f)
{
	if (f->proto == IPPROTO_SCTP)
		sctp_checksum(m, f);
	else
		put16(m, f->field, vnet_l4_checksum(m, f));
	m->ol_flags &= ~RTE_MBUF_F_TX_L4_MASK;
}

static int ipv4_checksum(struct rte_mbuf *m)
{
	uint16_t value;

	if (vnet_ipv4_checksum(m, &value) != 0)
		return -EINVAL;
	put16(m, m->l2_len + offsetof(struct rte_ipv4_hdr, hdr_checksum), value);
	m->ol_flags &= ~RTE_MBUF_F_TX_IP_CKSUM;
	return 0;
}

static int checksums(struct rte_mbuf *m, uint64_t offloads)
{
	const uint64_t l4 = TX_TCP_CKSUM | TX_UDP_CKSUM | TX_SCTP_CKSUM;
	uint64_t lack = packet_needs(m) & ~offloads;
	struct vnet_frame f;

	if (lack & l4) {
		if (vnet_frame_asked(m, &f) != 0)
			return -EINVAL;
		l4_checksum(m, &f);
	}
	if (lack & TX_IPV4_CKSUM)
		return ipv4_checksum(m);
	return lack & TX_MULTI_SEGS ? -EMSGSIZE : 0;
}

/* Everything but cutting. Consumes pkt. */
static uint16_t mend(const struct vnet_soft *soft, struct rte_mbuf *pkt, uint64_t offloads,
	struct rte_mbuf **out)
{
	pkt = own(soft, pkt, packet_needs(pkt) & ~offloads);
	if (!pkt)
		return 0;
	if (checksums(pkt, offloads) != 0) {
		rte_pktmbuf_free(pkt);
		return 0;
	}
	out[0] = pkt;
	return 1;
}

/* ---- cut ---- */

static void free_all(struct rte_mbuf **pkts, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		rte_pktmbuf_free(pkts[i]);
}

/* Where the payload goes on. */
struct source {
	const struct rte_mbuf *m;
	uint32_t off;
};

static int append(struct rte_mbuf *seg, struct source *from, uint32_t len, struct rte_mempool *pool)
{
	struct rte_mbuf *tail = rte_pktmbuf_lastseg(seg);

	seg->pkt_len += len;
	while (len > 0) {
		uint32_t part;

		if (from->off >= from->m->data_len) {
			from->off -= from->m->data_len;
			from->m = from->m->next;
			continue;
		}
		if (rte_pktmbuf_tailroom(tail) == 0) {
			tail->next = rte_pktmbuf_alloc(pool);
			if (!tail->next)
				return -ENOMEM;
			tail = tail->next;
			seg->nb_segs++;
		}
		part = RTE_MIN(len, from->m->data_len - from->off);
		part = RTE_MIN(part, rte_pktmbuf_tailroom(tail));
		memcpy(rte_pktmbuf_mtod_offset(tail, void *, tail->data_len),
			rte_pktmbuf_mtod_offset(from->m, const void *, from->off), part);
		tail->data_len += part;
		from->off += part;
		len -= part;
	}
	return 0;
}

static int cut_by_copy(const struct vnet_soft *soft, const struct cut *c, struct rte_mbuf **out)
{
	struct rte_mempool *pool = pool_for(soft, c->hdr_len + c->unit);
	struct source from = {c->pkt, c->from};
	uint32_t left = c->pkt->pkt_len - c->from;

	for (uint16_t i = 0; i < c->n; i++) {
		uint32_t len = RTE_MIN(left, c->unit);

		out[i] = rte_pktmbuf_alloc(pool);
		if (!out[i]) {
			free_all(out, i);
			return -ENOMEM;
		}
		memcpy(rte_pktmbuf_append(out[i], c->hdr_len), c->hdr, c->hdr_len);
		if (append(out[i], &from, len, pool) != 0 || (out[i]->nb_segs > 1 && !c->segs)) {
			free_all(out, i + 1);
			return -ENOMEM;
		}
		left -= len;
	}
	return 0;
}

static bool gso_can(const struct cut *c)
{
	uint32_t size = c->from + c->unit;

	if (c->frame->proto == IPPROTO_UDP && !c->frame->ufo)
		return false;
	return c->frame->v4 && c->segs && size <= UINT16_MAX && size >= RTE_GSO_SEG_SIZE_MIN &&
	       rte_mbuf_refcnt_read(c->pkt) == 1 && RTE_MBUF_DIRECT(c->pkt) &&
	       c->pkt->data_len > c->from;
}

static int cut_by_gso(const struct vnet_soft *soft, const struct cut *c, struct rte_mbuf *pkt,
	struct rte_mbuf **out)
{
	const struct rte_gso_ctx ctx = {
		.direct_pool = soft->direct,
		.indirect_pool = soft->indirect,
		.gso_types = TX_TCP_TSO | TX_UDP_TSO,
		.gso_size = c->from + c->unit,
	};
	int n;

	/* It does not look at the checksum flag, but at these. */
	pkt->ol_flags |= RTE_MBUF_F_TX_IPV4 | (c->frame->ufo ? RTE_MBUF_F_TX_UDP_SEG : 0);
	n = rte_gso_segment(pkt, &ctx, out, c->n);
	if (n == c->n)
		return 0;
	free_all(out, n > 0 ? (uint16_t)n : 0);
	return -EINVAL;
}

/* What rte_pktmbuf_copy() would take over. The requests are renewed by finish(); those about
 * the buffer do not hold for the piece's first mbuf, which is one of ours. */
static void metadata(struct rte_mbuf *m, const struct rte_mbuf *pkt)
{
	m->port = pkt->port;
	m->ol_flags =
		pkt->ol_flags & ~(VNET_OFFLOAD_FLAGS | RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL);
	m->packet_type = pkt->packet_type;
	m->vlan_tci = pkt->vlan_tci;
	m->vlan_tci_outer = pkt->vlan_tci_outer;
	m->hash = pkt->hash;
	m->tx_offload = pkt->tx_offload;
	m->tso_segsz = 0;
	rte_mbuf_dynfield_copy(m, pkt);
}

/* Lengths, and for IPv4 the identification (fragments share one) and the place. */
static void finish_ip(struct rte_mbuf *m, const struct cut *c, uint16_t i)
{
	uint8_t *ip = rte_pktmbuf_mtod_offset(m, uint8_t *, c->frame->l3);
	uint16_t len = (uint16_t)(m->pkt_len - c->frame->l3), place = i * c->unit;
	bool ufo = c->frame->ufo, more = i + 1 < c->n;

	if (c->frame->v4) {
		struct rte_ipv4_hdr *ip4 = (struct rte_ipv4_hdr *)ip;
		const struct rte_ipv4_hdr *old = (const struct rte_ipv4_hdr *)&c->hdr[c->frame->l3];
		uint16_t id = rte_be_to_cpu_16(old->packet_id);

		ip4->total_length = rte_cpu_to_be_16(len);
		if (!ufo)
			ip4->packet_id = rte_cpu_to_be_16((uint16_t)(id + i));
		else
			ip4->fragment_offset =
				rte_cpu_to_be_16(place / 8 | (more ? RTE_IPV4_HDR_MF_FLAG : 0));
	} else {
		struct rte_ipv6_hdr *ip6 = (struct rte_ipv6_hdr *)ip;

		ip6->payload_len = rte_cpu_to_be_16((uint16_t)(len - sizeof(*ip6)));
		if (ufo)
			put16(m, c->from + 2u, rte_cpu_to_be_16((uint16_t)(place | more)));
	}
}

static void finish_tcp(struct rte_mbuf *m, const struct cut *c, uint16_t i)
{
	const struct rte_tcp_hdr *old = (const struct rte_tcp_hdr *)&c->hdr[c->frame->l4];
	struct rte_tcp_hdr *tcp = rte_pktmbuf_mtod_offset(m, struct rte_tcp_hdr *, c->frame->l4);

	tcp->sent_seq = rte_cpu_to_be_32(rte_be_to_cpu_32(old->sent_seq) + (uint32_t)i * c->unit);
	tcp->tcp_flags = old->tcp_flags;
	if (i > 0)
		tcp->tcp_flags &= ~RTE_TCP_CWR_FLAG;
	if (i + 1 < c->n)
		tcp->tcp_flags &= ~(RTE_TCP_FIN_FLAG | RTE_TCP_PSH_FLAG);
}

/* The transport header of a piece that is a packet of its own. */
static void finish_l4(struct rte_mbuf *m, const struct cut *c, uint16_t i)
{
	struct vnet_frame f = *c->frame;
	bool tcp = f.proto == IPPROTO_TCP;

	f.l4_bytes = (uint16_t)(m->pkt_len - f.l4);
	if (tcp)
		finish_tcp(m, c, i);
	else
		put16(m, f.l4 + (uint32_t)offsetof(struct rte_udp_hdr, dgram_len),
			rte_cpu_to_be_16(f.l4_bytes));
	if (c->l4) {
		m->ol_flags |= tcp ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM;
		m->ol_flags |= f.v4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
		put16(m, f.field, vnet_pseudo_sum(m, &f, f.l4_bytes));
	} else {
		l4_checksum(m, &f);
	}
}

static void finish(struct rte_mbuf *m, const struct cut *c, uint16_t i)
{
	metadata(m, c->pkt);
	finish_ip(m, c, i);
	if (!c->frame->ufo)
		finish_l4(m, c, i);
	if (c->frame->v4)
		ipv4_checksum(m);
}

/* An IPv6 datagram is fragmented by putting a header before the transport (RFC 8200, 4.5). */
static void add_fragment_header(struct cut *c)
{
	uint32_t id = (uint32_t)rte_rand();
	uint8_t *h = &c->hdr[c->from];

	h[0] = c->frame->proto;
	h[1] = h[2] = h[3] = 0;
	memcpy(h + 4, &id, sizeof(id));
	c->hdr[c->frame->link] = IPPROTO_FRAGMENT;
	c->hdr_len += 8;
}

static uint16_t cut(const struct vnet_soft *soft, struct rte_mbuf *pkt, const struct vnet_frame *f,
	uint64_t offloads, struct rte_mbuf **out, uint16_t max)
{
	uint64_t csum = f->proto == IPPROTO_TCP ? TX_TCP_CKSUM : TX_UDP_CKSUM;
	uint16_t unit = f->ufo ? pkt->tso_segsz & ~7u : pkt->tso_segsz;
	uint32_t n = unit ? (vnet_frame_cuttable(pkt, f) + unit - 1) / unit : UINT32_MAX;
	struct cut c = {
		.pkt = pkt,
		.frame = f,
		.n = (uint16_t)n,
		.unit = unit,
		.from = f->ufo ? f->l4 : f->data,
		.hdr_len = f->ufo ? f->l4 : f->data,
		.segs = offloads & TX_MULTI_SEGS,
		.l4 = offloads & csum,
	};
	int err;

	if (n > max || !soft)
		return 0;
	memcpy(c.hdr, rte_pktmbuf_mtod(pkt, const void *), c.from);
	if (f->ufo && !f->v4)
		add_fragment_header(&c);
	err = gso_can(&c) ? cut_by_gso(soft, &c, pkt, out) : cut_by_copy(soft, &c, out);
	if (err)
		return 0;
	for (uint16_t i = 0; i < c.n; i++)
		finish(out[i], &c, i);
	return c.n;
}

static void forget_segmentation(struct rte_mbuf *m, const struct vnet_frame *f)
{
	bool udp = f->proto == IPPROTO_UDP;

	m->ol_flags &= ~(VNET_SEG_FLAGS | RTE_MBUF_F_TX_L4_MASK);
	m->ol_flags |= udp ? RTE_MBUF_F_TX_UDP_CKSUM : RTE_MBUF_F_TX_TCP_CKSUM;
	m->tso_segsz = 0;
}

/* Consumes pkt. */
static uint16_t segment(const struct vnet_soft *soft, struct rte_mbuf *pkt, uint64_t offloads,
	struct rte_mbuf **out, uint16_t max)
{
	struct vnet_frame f;
	bool whole;
	uint16_t n;

	if (vnet_frame_asked(pkt, &f) != 0) {
		rte_pktmbuf_free(pkt);
		return 0;
	}
	whole = vnet_frame_cuttable(pkt, &f) <= pkt->tso_segsz;
	if (f.ufo || whole)
		pkt = own(soft, pkt, 0);
	if (!pkt)
		return 0;
	if (whole) {
		forget_segmentation(pkt, &f);
		return mend(soft, pkt, offloads, out);
	}
	if (f.ufo)
		put16(pkt, f.field, vnet_l4_checksum(pkt, &f));
	n = cut(soft, pkt, &f, offloads, out, max);
	rte_pktmbuf_free(pkt);
	return n;
}

/* Does the packet ask for more than these offloads? A guest may take TSO, but not with CWR set. */
static bool can_take(const struct rte_mbuf *m, uint64_t offloads)
{
	struct vnet_frame f;

	if (packet_needs(m) & ~offloads)
		return false;
	return !(offloads & NO_CWR) || !(m->ol_flags & RTE_MBUF_F_TX_TCP_SEG) ||
	       vnet_frame_asked(m, &f) != 0 || !vnet_frame_cwr(m, &f);
}

uint16_t vnet_soften(struct vnet_soft *soft, struct rte_mbuf *pkt, uint64_t offloads,
	struct rte_mbuf **out, uint16_t max)
{
	if (max == 0) {
		rte_pktmbuf_free(pkt);
		return 0;
	}
	if (can_take(pkt, offloads)) {
		out[0] = pkt;
		return 1;
	}
	if (pkt->ol_flags & VNET_SEG_FLAGS)
		return segment(soft, pkt, offloads, out, max);
	return mend(soft, pkt, offloads, out);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Checksum and segmentation requests: virtio-net header <-> mbuf. */
#include "offload.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_net.h>
#include <rte_sctp.h>
#include <rte_tcp.h>
#include <rte_udp.h>

/*
 * Theory of operation
 *
 * A guest says: "sum up everything from csum_start to the end and put the result at
 * csum_offset; then cut into pieces of gso_size". An mbuf says: "TCP over IPv4, with headers of
 * these lengths". The first can express anything, the second what NICs can do. So:
 *
 *   guest to mbuf  the frame is parsed; where the guest's numbers are those of the TCP or UDP
 *		    header found there the request becomes flags. Any other checksum (inner
 *		    headers of a tunnel, SCTP, padded frames) is computed at once, as the
 *		    guest put it. Any other segmentation is refused.
 *   mbuf to guest  flags and lengths, which some program has written, are checked against
 *		    the frame. What the guest wants different from DPDK (its checksum field
 *		    holds the sum of the pseudo-header, with the length even for segmentation)
 *		    becomes patches for the guest's copy: the mbuf may be on its way to others.
 *
 * rte_net_get_ptype() is not enough for the parsing: that of DPDK 22.11 does not find the
 * IP header behind a single 802.1ad tag or two 802.1Q tags, does not check lengths and
 * follows extension headers that change the pseudo-header.
 */

/* What fits the mbuf's fields. */
#define L2_MAX ((1u << RTE_MBUF_L2_LEN_BITS) - 1)
#define L3_MAX ((1u << RTE_MBUF_L3_LEN_BITS) - 1)

/* ---- sums ---- */

static uint16_t fold(uint32_t sum)
{
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)sum;
}

/* Of len bytes from off on, all of them in the packet. DPDK 22.11's rte_raw_cksum_mbuf() is
 * wrong for chains with odd pieces. */
static uint16_t sum_range(const struct rte_mbuf *m, uint32_t off, uint32_t len)
{
	uint32_t sum = 0;
	bool odd = false;

	for (; m && len > 0; m = m->next) {
		uint32_t part;
		uint16_t s;

		if (off >= m->data_len) {
			off -= m->data_len;
			continue;
		}
		part = RTE_MIN(len, m->data_len - off);
		s = rte_raw_cksum(rte_pktmbuf_mtod_offset(m, const void *, off), part);
		sum = fold(sum + (odd ? rte_bswap16(s) : s));
		odd ^= part & 1;
		len -= part;
		off = 0;
	}
	return (uint16_t)sum;
}

static void put_bytes(struct rte_mbuf *m, uint32_t off, const void *from, uint32_t len)
{
	const uint8_t *byte = from;

	for (; m && len > 0; m = m->next) {
		for (; off < m->data_len && len > 0; len--)
			*rte_pktmbuf_mtod_offset(m, uint8_t *, off++) = *byte++;
		off -= RTE_MIN(off, m->data_len);
	}
}

static uint16_t word_at(const struct rte_mbuf *m, uint32_t off)
{
	uint16_t value;

	memcpy(&value, rte_pktmbuf_mtod_offset(m, const void *, off), sizeof(value));
	return value;
}

uint16_t vnet_pseudo_sum(const struct rte_mbuf *m, const struct vnet_frame *f, uint16_t len)
{
	uint32_t addresses = f->l3 + (f->v4 ? offsetof(struct rte_ipv4_hdr, src_addr)
					    : offsetof(struct rte_ipv6_hdr, src_addr));

	return fold((uint32_t)sum_range(m, addresses, f->v4 ? 8 : 32) + rte_cpu_to_be_16(f->proto) +
		    rte_cpu_to_be_16(len));
}

uint16_t vnet_l4_checksum(const struct rte_mbuf *m, const struct vnet_frame *f)
{
	/* The old content of the field is taken out by adding its complement. */
	uint32_t sum = (uint32_t)vnet_pseudo_sum(m, f, f->l4_bytes) +
		       sum_range(m, f->l4, f->l4_bytes) + (uint16_t)~word_at(m, f->field);
	uint16_t value = (uint16_t)~fold(sum);

	return value == 0 && f->proto == IPPROTO_UDP ? 0xffff : value;
}

static uint16_t ipv4_checksum(const struct rte_mbuf *m, uint32_t l3, uint32_t len)
{
	uint32_t field = l3 + offsetof(struct rte_ipv4_hdr, hdr_checksum);

	return (uint16_t)~fold((uint32_t)sum_range(m, l3, len) + (uint16_t)~word_at(m, field));
}

int vnet_ipv4_checksum(const struct rte_mbuf *m, uint16_t *value)
{
	uint32_t len = m->l3_len;

	if (len < sizeof(struct rte_ipv4_hdr) || m->data_len < m->l2_len + len ||
		*rte_pktmbuf_mtod_offset(m, const uint8_t *, m->l2_len) != (0x40 | len / 4))
		return -EINVAL;
	*value = ipv4_checksum(m, m->l2_len, len);
	return 0;
}

/* ---- finding the headers ---- */

static bool ipv4_parse(const uint8_t *p, uint32_t room, struct vnet_frame *f)
{
	const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)p;
	uint32_t len, total;

	if (room < sizeof(*ip))
		return false;
	len = rte_ipv4_hdr_len(ip);
	total = rte_be_to_cpu_16(ip->total_length);
	if (len < sizeof(*ip) || len > room)
		return false;
	if (ip->fragment_offset & rte_cpu_to_be_16(RTE_IPV4_HDR_OFFSET_MASK | RTE_IPV4_HDR_MF_FLAG))
		return false;
	f->v4 = true;
	f->proto = ip->next_proto_id;
	f->link = f->l3 + offsetof(struct rte_ipv4_hdr, next_proto_id);
	f->l4 = (uint16_t)(f->l3 + len);
	f->l4_bytes = (uint16_t)(total > len ? total - len : 0);
	return true;
}

/* A fragment has no transport header to speak of. A routing header that is not used up
 * hides the address the pseudo-header is made of. */
static bool ipv6_parse(const uint8_t *p, uint32_t room, struct vnet_frame *f)
{
	const struct rte_ipv6_hdr *ip = (const struct rte_ipv6_hdr *)p;
	uint32_t off = sizeof(*ip), link = offsetof(struct rte_ipv6_hdr, proto), payload;

	if (room < sizeof(*ip))
		return false;
	while (p[link] == IPPROTO_HOPOPTS || p[link] == IPPROTO_DSTOPTS ||
		p[link] == IPPROTO_ROUTING) {
		if (room - off < 8 || (p[link] == IPPROTO_ROUTING && p[off + 3] != 0))
			return false;
		link = off;
		off += (p[off + 1] + 1u) * 8;
		if (off > room || off > L3_MAX)
			return false;
	}
	payload = rte_be_to_cpu_16(ip->payload_len) + (uint32_t)sizeof(*ip);
	f->v4 = false;
	f->proto = p[link];
	f->link = (uint16_t)(f->l3 + link);
	f->l4 = (uint16_t)(f->l3 + off);
	f->l4_bytes = (uint16_t)(payload > off ? payload - off : 0);
	return true;
}

static bool l4_parse(const uint8_t *p, uint32_t room, struct vnet_frame *f)
{
	uint32_t len, field;

	switch (f->proto) {
	case IPPROTO_TCP:
		if (room < sizeof(struct rte_tcp_hdr))
			return false;
		len = (p[offsetof(struct rte_tcp_hdr, data_off)] >> 4) * 4u;
		if (len < sizeof(struct rte_tcp_hdr))
			return false;
		field = offsetof(struct rte_tcp_hdr, cksum);
		break;
	case IPPROTO_UDP:
		len = sizeof(struct rte_udp_hdr);
		field = offsetof(struct rte_udp_hdr, dgram_cksum);
		break;
	case IPPROTO_SCTP:
		len = sizeof(struct rte_sctp_hdr);
		field = offsetof(struct rte_sctp_hdr, cksum);
		break;
	default:
		return false;
	}
	f->data = (uint16_t)(f->l4 + len);
	f->field = (uint16_t)(f->l4 + field);
	return len <= room;
}

/* From the IP header at f->l3 on. */
static bool frame_parse(const struct rte_mbuf *m, struct vnet_frame *f)
{
	const uint8_t *p = rte_pktmbuf_mtod(m, const uint8_t *);
	uint32_t len = m->data_len;

	if (f->l3 >= len)
		return false;
	switch (p[f->l3] >> 4) {
	case 4:
		if (!ipv4_parse(p + f->l3, len - f->l3, f))
			return false;
		break;
	case 6:
		if (!ipv6_parse(p + f->l3, len - f->l3, f))
			return false;
		break;
	default:
		return false;
	}
	return l4_parse(p + f->l4, len - f->l4, f);
}

/* From the Ethernet header on: any number of tags that the mbuf can express. */
static bool frame_find(const struct rte_mbuf *m, struct vnet_frame *f)
{
	const uint8_t *p = rte_pktmbuf_mtod(m, const uint8_t *);
	uint32_t off = RTE_ETHER_HDR_LEN;
	uint16_t type;

	for (;; off += RTE_VLAN_HLEN) {
		if (off > m->data_len || off > L2_MAX)
			return false;
		memcpy(&type, p + off - sizeof(type), sizeof(type));
		if (type != RTE_BE16(RTE_ETHER_TYPE_VLAN) && type != RTE_BE16(RTE_ETHER_TYPE_QINQ))
			break;
	}
	f->l3 = (uint16_t)off;
	return frame_parse(m, f) &&
	       type == (f->v4 ? RTE_BE16(RTE_ETHER_TYPE_IPV4) : RTE_BE16(RTE_ETHER_TYPE_IPV6));
}

int vnet_frame_asked(const struct rte_mbuf *m, struct vnet_frame *f)
{
	const uint64_t tunnel =
		RTE_MBUF_F_TX_TUNNEL_MASK | RTE_MBUF_F_TX_OUTER_IPV4 | RTE_MBUF_F_TX_OUTER_IPV6;
	uint64_t ol = m->ol_flags, l4 = ol & RTE_MBUF_F_TX_L4_MASK;
	uint8_t proto = ol & RTE_MBUF_F_TX_TCP_SEG      ? IPPROTO_TCP
			: ol & VNET_SEG_FLAGS           ? IPPROTO_UDP
			: l4 == RTE_MBUF_F_TX_TCP_CKSUM ? IPPROTO_TCP
			: l4 == RTE_MBUF_F_TX_UDP_CKSUM ? IPPROTO_UDP
							: IPPROTO_SCTP;

	f->ufo = ol & VNET_MBUF_F_UFO;
	f->l3 = m->l2_len;
	if ((ol & tunnel) || !frame_parse(m, f) || f->proto != proto || f->l4 - f->l3 != m->l3_len)
		return -EINVAL;
	if (ol & (f->v4 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4))
		return -EINVAL;
	if (f->l4_bytes < f->data - f->l4 || f->l4_bytes > m->pkt_len - f->l4)
		return -EINVAL;
	if ((ol & VNET_SEG_FLAGS) && (m->tso_segsz == 0 || f->data - f->l4 != m->l4_len ||
					     f->l4_bytes != m->pkt_len - f->l4))
		return -EINVAL;
	return 0;
}

uint32_t vnet_frame_cuttable(const struct rte_mbuf *m, const struct vnet_frame *f)
{
	return m->pkt_len - (f->ufo ? f->l4 : f->data);
}

bool vnet_frame_cwr(const struct rte_mbuf *m, const struct vnet_frame *f)
{
	return f->proto == IPPROTO_TCP &&
	       (*rte_pktmbuf_mtod_offset(
			m, const uint8_t *, f->l4 + offsetof(struct rte_tcp_hdr, tcp_flags)) &
		       RTE_TCP_CWR_FLAG);
}

/* ---- guest to mbuf ---- */

static bool csum_in_packet(const struct virtio_net_hdr *h, uint32_t pkt_len)
{
	return h->csum_start <= pkt_len &&
	       pkt_len - h->csum_start >= h->csum_offset + (uint32_t)sizeof(uint16_t);
}

/* Do what the guest said, word for word. 0xffff is as good a zero, also where 0 means "none". */
static void csum_now(const struct virtio_net_hdr *h, struct rte_mbuf *m)
{
	uint16_t value = (uint16_t)~sum_range(m, h->csum_start, m->pkt_len - h->csum_start);

	if (value == 0)
		value = 0xffff;
	put_bytes(m, (uint32_t)h->csum_start + h->csum_offset, &value, sizeof(value));
}

static bool csum_is_transport(
	const struct virtio_net_hdr *h, const struct rte_mbuf *m, struct vnet_frame *f)
{
	return frame_find(m, f) && f->proto != IPPROTO_SCTP && h->csum_start == f->l4 &&
	       h->csum_offset == f->field - f->l4;
}

static uint16_t udp_len(const struct rte_mbuf *m, const struct vnet_frame *f)
{
	return rte_be_to_cpu_16(word_at(m, f->l4 + offsetof(struct rte_udp_hdr, dgram_len)));
}

/* Do all headers say that the packet is as long as it is? */
static bool lengths_agree(const struct rte_mbuf *m, const struct vnet_frame *f)
{
	return f->l4_bytes == m->pkt_len - f->l4 &&
	       (f->proto != IPPROTO_UDP || udp_len(m, f) == f->l4_bytes);
}

static bool gso_negotiated(
	const struct virtio_net_hdr *h, uint64_t features, const struct vnet_frame *f)
{
	bool ecn = h->gso_type & VIRTIO_NET_HDR_GSO_ECN, tcp = f->proto == IPPROTO_TCP;

	/* Old drivers know one bit for everything there was. */
	if (features & FEATURE(GSO))
		features |= FEATURE(HOST_TSO4) | FEATURE(HOST_TSO6) | FEATURE(HOST_UFO) |
			    FEATURE(HOST_ECN);
	if (ecn && !(features & FEATURE(HOST_ECN)))
		return false;
	switch (h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return tcp && f->v4 && (features & FEATURE(HOST_TSO4));
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return tcp && !f->v4 && (features & FEATURE(HOST_TSO6));
	case VIRTIO_NET_HDR_GSO_UDP:
		return !tcp && !ecn && (features & FEATURE(HOST_UFO));
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		return !tcp && !ecn && (features & FEATURE(HOST_USO));
	default:
		return false;
	}
}

/* Some stacks leave the IP length of what is to be segmented open. */
static bool gso_mend_length(struct rte_mbuf *m, struct vnet_frame *f)
{
	uint32_t len = m->pkt_len - f->l3 - (f->v4 ? 0 : (uint32_t)sizeof(struct rte_ipv6_hdr));
	uint16_t wire = rte_cpu_to_be_16((uint16_t)len), check;

	if (len > UINT16_MAX)
		return false;
	if (f->l4_bytes == m->pkt_len - f->l4)
		return true;
	f->l4_bytes = (uint16_t)(m->pkt_len - f->l4);
	if (!f->v4) {
		put_bytes(m, f->l3 + offsetof(struct rte_ipv6_hdr, payload_len), &wire, 2);
		return true;
	}
	put_bytes(m, f->l3 + offsetof(struct rte_ipv4_hdr, total_length), &wire, 2);
	check = ipv4_checksum(m, f->l3, f->l4 - f->l3);
	put_bytes(m, f->l3 + offsetof(struct rte_ipv4_hdr, hdr_checksum), &check, 2);
	return true;
}

static bool gso_valid(const struct virtio_net_hdr *h, uint64_t features, const struct vnet_frame *f)
{
	/* Fragments are cut at multiples of 8. */
	uint16_t least = f->ufo ? 8 : 1;

	return gso_negotiated(h, features, f) && h->gso_size >= least;
}

static void ask_for(struct rte_mbuf *m, const struct vnet_frame *f, uint16_t segsz)
{
	bool tcp = f->proto == IPPROTO_TCP;
	uint64_t seg = tcp      ? RTE_MBUF_F_TX_TCP_SEG
		       : f->ufo ? VNET_MBUF_F_UFO
				: RTE_MBUF_F_TX_UDP_SEG;

	m->l2_len = f->l3;
	m->l3_len = f->l4 - f->l3;
	m->l4_len = f->data - f->l4;
	m->ol_flags |= f->v4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
	m->ol_flags |= tcp ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM;
	if (segsz == 0)
		return;
	m->tso_segsz = segsz;
	m->ol_flags |= seg;
	if (f->v4)
		m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
}

/* A large datagram is what it is: only segments can have been coalesced. */
static void report(struct rte_mbuf *m, const struct vnet_frame *f, uint16_t segsz)
{
	m->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_NONE;
	if (segsz == 0 || f->ufo)
		return;
	m->tso_segsz = segsz;
	m->ol_flags |= RTE_MBUF_F_RX_LRO;
}

int vnet_hdr_to_mbuf(const struct virtio_net_hdr *h, uint64_t features, enum vnet_style style,
	struct rte_mbuf *m)
{
	bool gso = h->gso_type != VIRTIO_NET_HDR_GSO_NONE, transport;
	struct vnet_frame f = {.ufo = h->gso_type == VIRTIO_NET_HDR_GSO_UDP};
	uint16_t segsz = 0;

	if (!(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return gso ? -EINVAL : 0;
	if (!(features & FEATURE(CSUM)) || !csum_in_packet(h, m->pkt_len))
		return -EINVAL;

	transport = csum_is_transport(h, m, &f);
	if (gso) {
		if (!transport || !gso_valid(h, features, &f))
			return -EINVAL;
		/* What fits one segment needs no cutting. */
		if (vnet_frame_cuttable(m, &f) > h->gso_size)
			segsz = h->gso_size;
		if (segsz && (!gso_mend_length(m, &f) || !lengths_agree(m, &f)))
			return -EINVAL;
	}
	if (style == VNET_STYLE_RECEIVE)
		m->packet_type = rte_net_get_ptype(m, NULL, RTE_PTYPE_ALL_MASK);
	if (!transport || !lengths_agree(m, &f))
		csum_now(h, m);
	else if (style == VNET_STYLE_FORWARD)
		ask_for(m, &f, segsz);
	else
		report(m, &f, segsz);
	return 0;
}

/* ---- mbuf to guest ---- */

static void patch(
	const struct rte_mbuf *m, struct vnet_patches *patches, uint32_t off, uint16_t value)
{
	if (word_at(m, off) != value)
		patches->at[patches->n++] = (struct vnet_patch){off, value};
}

/* A guest without GUEST_ECN should not be given CWR in a packet to be cut ("SHOULD NOT" in the
 * specification): its driver might repeat the flag in every segment, and the sender's window would
 * count as reduced as often. vnet_soften() cuts those before they come here. */
static int gso_to_hdr(const struct rte_mbuf *m, const struct vnet_frame *f, uint64_t features,
	struct virtio_net_hdr *h)
{
	uint64_t needs;

	if (f->ufo) {
		needs = FEATURE(GUEST_UFO);
		h->gso_type = VIRTIO_NET_HDR_GSO_UDP;
	} else if (f->proto == IPPROTO_UDP) {
		needs = f->v4 ? FEATURE(GUEST_USO4) : FEATURE(GUEST_USO6);
		h->gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
	} else {
		needs = f->v4 ? FEATURE(GUEST_TSO4) : FEATURE(GUEST_TSO6);
		h->gso_type = f->v4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
		if (vnet_frame_cwr(m, f)) {
			needs |= FEATURE(GUEST_ECN);
			h->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
		}
	}
	h->gso_size = m->tso_segsz;
	h->hdr_len = f->data;
	return (features & needs) == needs ? 0 : -ENOTSUP;
}

static int l4_to_hdr(const struct rte_mbuf *m, uint64_t features, struct virtio_net_hdr *h,
	struct vnet_patches *patches)
{
	struct vnet_frame f;
	int err = vnet_frame_asked(m, &f);

	if (err)
		return err;
	if (!(features & FEATURE(GUEST_CSUM)) || f.proto == IPPROTO_SCTP)
		return -ENOTSUP;
	h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	h->csum_start = f.l4;
	h->csum_offset = f.field - f.l4;
	patch(m, patches, f.field, vnet_pseudo_sum(m, &f, f.l4_bytes));
	if ((m->ol_flags & VNET_SEG_FLAGS) && vnet_frame_cuttable(m, &f) > m->tso_segsz)
		return gso_to_hdr(m, &f, features, h);
	return 0;
}

static int ipv4_to_hdr(const struct rte_mbuf *m, struct vnet_patches *patches)
{
	uint16_t value;
	int err = vnet_ipv4_checksum(m, &value);

	if (!err)
		patch(m, patches, m->l2_len + offsetof(struct rte_ipv4_hdr, hdr_checksum), value);
	return err;
}

int vnet_mbuf_to_hdr(const struct rte_mbuf *m, uint64_t features, struct virtio_net_hdr *h,
	struct vnet_patches *patches)
{
	uint64_t good = m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
	int err = 0;

	memset(h, 0, sizeof(*h));
	patches->n = 0;
	if (m->ol_flags & (RTE_MBUF_F_TX_L4_MASK | VNET_SEG_FLAGS))
		err = l4_to_hdr(m, features, h, patches);
	else if (good == RTE_MBUF_F_RX_L4_CKSUM_GOOD && (features & FEATURE(GUEST_CSUM)))
		h->flags = VIRTIO_NET_HDR_F_DATA_VALID;
	if (!err && (m->ol_flags & RTE_MBUF_F_TX_IP_CKSUM))
		err = ipv4_to_hdr(m, patches);
	return err;
}

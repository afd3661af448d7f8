/* SPDX-License-Identifier: BSD-3-Clause */
/* The engine that computes checksums: itself, or by asking the transmitting port to. */
#include <rte_ip.h>
#include <rte_net.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "forward.h"

/*
 * As testpmd's: addresses are rewritten as by mac, then the IPv4, TCP and UDP checksums
 * of packets that are not tunnelled are made anew; `csum set (ip|tcp|udp) hw PORT` leaves
 * them to the port they leave by. Whatever lies elsewhere than at the start of the first
 * segment, fragments and frames still to be segmented keep the checksums they have.
 */

static void count_bad(const struct stream *st, const struct rte_mbuf *pkt)
{
	struct stream_stats *stats = &st->q->stats;

	if ((pkt->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_BAD)
		virtq_count(&stats->bad_ip_csum, 1);
	if ((pkt->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_BAD)
		virtq_count(&stats->bad_l4_csum, 1);
}

static void sum_ipv4(struct rte_mbuf *pkt, struct rte_ipv4_hdr *ip, uint64_t hw)
{
	ip->hdr_checksum = 0;
	if (hw & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM)
		pkt->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
	else
		ip->hdr_checksum = rte_ipv4_cksum(ip);
}

/* The port sums the rest; the pseudo header's part is ours. */
static rte_be16_t sum_in_port(struct rte_mbuf *pkt, void *ip, bool v4, uint64_t flag)
{
	pkt->ol_flags |= flag | (v4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6);
	return v4 ? rte_ipv4_phdr_cksum(ip, pkt->ol_flags) : rte_ipv6_phdr_cksum(ip, pkt->ol_flags);
}

/* Over what the IP header calls the payload: Ethernet padding is no part of it. */
static rte_be16_t sum_here(const struct rte_mbuf *pkt, const void *ip, bool v4)
{
	const struct rte_ipv4_hdr *ip4 = ip;
	const struct rte_ipv6_hdr *ip6 = ip;
	uint16_t len = v4 ? rte_be_to_cpu_16(ip4->total_length) - pkt->l3_len
			  : rte_be_to_cpu_16(ip6->payload_len);
	uint16_t raw;
	uint32_t sum;

	if (rte_raw_cksum_mbuf(pkt, pkt->l2_len + pkt->l3_len, len, &raw) < 0)
		return 0;
	sum = raw + (v4 ? rte_ipv4_phdr_cksum(ip4, 0) : rte_ipv6_phdr_cksum(ip6, 0));
	sum = (sum & 0xffff) + (sum >> 16);
	/* All zeros mean "none" in UDP; both are zero in ones' complement. */
	return sum == 0xffff ? 0xffff : (rte_be16_t)~sum;
}

static void sum_udp(struct rte_mbuf *pkt, void *ip, bool v4, struct rte_udp_hdr *udp, uint64_t hw)
{
	if (v4 && udp->dgram_cksum == 0)
		return; /* the sender chose none */
	udp->dgram_cksum = 0;
	if (hw & RTE_ETH_TX_OFFLOAD_UDP_CKSUM)
		udp->dgram_cksum = sum_in_port(pkt, ip, v4, RTE_MBUF_F_TX_UDP_CKSUM);
	else
		udp->dgram_cksum = sum_here(pkt, ip, v4);
}

static void sum_tcp(struct rte_mbuf *pkt, void *ip, bool v4, struct rte_tcp_hdr *tcp, uint64_t hw)
{
	tcp->cksum = 0;
	if (hw & RTE_ETH_TX_OFFLOAD_TCP_CKSUM)
		tcp->cksum = sum_in_port(pkt, ip, v4, RTE_MBUF_F_TX_TCP_CKSUM);
	else
		tcp->cksum = sum_here(pkt, ip, v4);
}

static void sum_packet(struct rte_mbuf *pkt, uint64_t hw)
{
	struct rte_net_hdr_lens len;
	uint32_t type = rte_net_get_ptype(
		pkt, &len, RTE_PTYPE_L2_MASK | RTE_PTYPE_L3_MASK | RTE_PTYPE_L4_MASK);
	bool v4 = RTE_ETH_IS_IPV4_HDR(type);
	uint32_t l4 = len.l2_len + len.l3_len;
	void *ip = rte_pktmbuf_mtod_offset(pkt, void *, len.l2_len);

	/* Extension headers would be summed as payload. */
	if (!v4 && (!RTE_ETH_IS_IPV6_HDR(type) || len.l3_len != sizeof(struct rte_ipv6_hdr)))
		return;
	if (l4 + len.l4_len > pkt->data_len)
		return;
	pkt->ol_flags &= ~(RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_IP_CKSUM);
	pkt->l2_len = len.l2_len;
	pkt->l3_len = len.l3_len;
	if (v4)
		sum_ipv4(pkt, ip, hw);
	if ((type & RTE_PTYPE_L4_MASK) == RTE_PTYPE_L4_UDP)
		sum_udp(pkt, ip, v4, rte_pktmbuf_mtod_offset(pkt, struct rte_udp_hdr *, l4), hw);
	else if ((type & RTE_PTYPE_L4_MASK) == RTE_PTYPE_L4_TCP)
		sum_tcp(pkt, ip, v4, rte_pktmbuf_mtod_offset(pkt, struct rte_tcp_hdr *, l4), hw);
}

static uint16_t csum_poll(struct worker *w, const struct plan *plan, const struct stream *st)
{
	struct rte_mbuf *pkts[BURST_MAX];
	uint16_t n = forward_receive(w, st, pkts);

	for (uint16_t i = 0; i < n; i++) {
		struct rte_ether_hdr *eth = rte_pktmbuf_mtod(pkts[i], struct rte_ether_hdr *);

		count_bad(st, pkts[i]);
		eth->dst_addr = st->dst;
		eth->src_addr = st->src;
		if (!(pkts[i]->ol_flags & VNET_SEG_FLAGS))
			sum_packet(pkts[i], st->csum_hw);
	}
	if (n)
		forward_stream(w, plan, st, pkts, n);
	return n;
}

const struct engine engine_csum = {
	.name = "csum",
	.help = "as mac, with checksums made anew (see `csum set`)",
	.peer = ENGINE_PEER_TOPOLOGY,
	.poll = csum_poll,
};

/* SPDX-License-Identifier: BSD-3-Clause */
/* The engine that answers ARP and ping for every IPv4 address. */
#include <string.h>

#include <rte_arp.h>
#include <rte_icmp.h>
#include <rte_ip.h>

#include "forward.h"

/* The headers are read from the first segment; an answer is made in place. */
static void *header_at(struct rte_mbuf *pkt, uint32_t offset, uint32_t len)
{
	if (offset + len > pkt->data_len)
		return NULL;
	return rte_pktmbuf_mtod_offset(pkt, void *, offset);
}

static bool answer_arp(struct rte_mbuf *pkt, uint32_t offset, const struct rte_ether_addr *us)
{
	struct rte_arp_hdr *arp = header_at(pkt, offset, sizeof(*arp));
	rte_be32_t asked;

	if (!arp || arp->arp_hardware != RTE_BE16(RTE_ARP_HRD_ETHER) ||
		arp->arp_protocol != RTE_BE16(RTE_ETHER_TYPE_IPV4) ||
		arp->arp_hlen != sizeof(struct rte_ether_addr) || arp->arp_plen != 4 ||
		arp->arp_opcode != RTE_BE16(RTE_ARP_OP_REQUEST))
		return false;
	asked = arp->arp_data.arp_tip;
	arp->arp_opcode = RTE_BE16(RTE_ARP_OP_REPLY);
	arp->arp_data.arp_tha = arp->arp_data.arp_sha;
	arp->arp_data.arp_tip = arp->arp_data.arp_sip;
	arp->arp_data.arp_sha = *us;
	arp->arp_data.arp_sip = asked;
	return true;
}

/* RFC 1624: the checksum after one 16-bit word went from `from` to `to`. */
static rte_be16_t update_checksum(rte_be16_t sum, rte_be16_t from, rte_be16_t to)
{
	uint32_t s = (uint16_t)~sum + (uint32_t)(uint16_t)~from + to;

	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return (rte_be16_t)~s;
}

/* Address and type change places or value: the IP header's sum stays, ICMP's is updated. */
static bool answer_echo(struct rte_mbuf *pkt, uint32_t offset)
{
	struct rte_ipv4_hdr *ip = header_at(pkt, offset, sizeof(*ip));
	struct rte_icmp_hdr *icmp;
	rte_be32_t asked;
	rte_be16_t before, after;

	if (!ip || ip->version != 4 || ip->next_proto_id != IPPROTO_ICMP ||
		(ip->fragment_offset & RTE_BE16(RTE_IPV4_HDR_OFFSET_MASK)) ||
		rte_be_to_cpu_32(ip->dst_addr) >> 28 == 0xe)
		return false;
	icmp = header_at(pkt, offset + rte_ipv4_hdr_len(ip), sizeof(*icmp));
	if (!icmp || rte_ipv4_hdr_len(ip) < sizeof(*ip) ||
		icmp->icmp_type != RTE_IP_ICMP_ECHO_REQUEST || icmp->icmp_code != 0)
		return false;
	asked = ip->dst_addr;
	ip->dst_addr = ip->src_addr;
	ip->src_addr = asked;
	memcpy(&before, icmp, sizeof(before));
	icmp->icmp_type = RTE_IP_ICMP_ECHO_REPLY;
	memcpy(&after, icmp, sizeof(after));
	icmp->icmp_cksum = update_checksum(icmp->icmp_cksum, before, after);
	return true;
}

/* Make the answer out of the question. */
static bool answer(struct rte_mbuf *pkt, const struct rte_ether_addr *us)
{
	struct rte_ether_hdr *eth = header_at(pkt, 0, sizeof(*eth));
	uint32_t offset = sizeof(*eth);
	rte_be16_t type;
	bool answered = false;

	if (!eth)
		return false;
	type = eth->ether_type;
	if (type == RTE_BE16(RTE_ETHER_TYPE_VLAN)) {
		const struct rte_vlan_hdr *vlan = header_at(pkt, offset, sizeof(*vlan));

		if (!vlan)
			return false;
		type = vlan->eth_proto;
		offset += sizeof(*vlan);
	}
	if (type == RTE_BE16(RTE_ETHER_TYPE_ARP))
		answered = answer_arp(pkt, offset, us);
	else if (type == RTE_BE16(RTE_ETHER_TYPE_IPV4))
		answered = answer_echo(pkt, offset);
	if (answered) {
		eth->dst_addr = eth->src_addr;
		eth->src_addr = *us;
	}
	return answered;
}

static uint16_t icmpecho_poll(struct worker *w, const struct plan *plan, const struct stream *st)
{
	struct rte_mbuf *pkts[BURST_MAX], *others[BURST_MAX];
	uint16_t n = forward_receive(w, st, pkts), n_answers = 0, n_others = 0;

	for (uint16_t i = 0; i < n; i++) {
		if (answer(pkts[i], &st->src))
			pkts[n_answers++] = pkts[i];
		else
			others[n_others++] = pkts[i];
	}
	if (n_answers)
		forward_stream(w, plan, st, pkts, n_answers);
	if (n_others)
		forward_drop(w, st->port, SWITCH_DROP_CONSUMED, others, n_others);
	return n;
}

const struct engine engine_icmpecho = {
	.name = "icmpecho",
	.help = "answer ARP and ping for any IPv4 address, discard the rest",
	.peer = ENGINE_PEER_SELF,
	.poll = icmpecho_poll,
};

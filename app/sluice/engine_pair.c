/* SPDX-License-Identifier: BSD-3-Clause */
/* Engines that pass a burst from a port to its partner, or end it: io, cross, mac, macswap, rxonly. */
#include "forward.h"

static uint16_t io_poll(struct worker *w, const struct plan *plan, const struct stream *st)
{
	struct rte_mbuf *pkts[BURST_MAX];
	uint16_t n = st->direct ? forward_direct(w, st, NULL, NULL) : VNET_DIRECT_NOT;

	if (n != VNET_DIRECT_NOT)
		return n;
	n = forward_receive(w, st, pkts);
	if (n)
		forward_stream(w, plan, st, pkts, n);
	return n;
}

/* As if the packets had been routed: from us, to whoever `set eth-peer` says is there. */
static uint16_t mac_poll(struct worker *w, const struct plan *plan, const struct stream *st)
{
	struct rte_mbuf *pkts[BURST_MAX];
	uint16_t n = forward_receive(w, st, pkts);

	for (uint16_t i = 0; i < n; i++) {
		struct rte_ether_hdr *eth = rte_pktmbuf_mtod(pkts[i], struct rte_ether_hdr *);

		eth->dst_addr = st->dst;
		eth->src_addr = st->src;
	}
	if (n)
		forward_stream(w, plan, st, pkts, n);
	return n;
}

static uint16_t macswap_poll(struct worker *w, const struct plan *plan, const struct stream *st)
{
	struct rte_mbuf *pkts[BURST_MAX];
	uint16_t n = forward_receive(w, st, pkts);

	for (uint16_t i = 0; i < n; i++) {
		struct rte_ether_hdr *eth = rte_pktmbuf_mtod(pkts[i], struct rte_ether_hdr *);
		struct rte_ether_addr dst = eth->dst_addr;

		eth->dst_addr = eth->src_addr;
		eth->src_addr = dst;
	}
	if (n)
		forward_stream(w, plan, st, pkts, n);
	return n;
}

static uint16_t rxonly_poll(struct worker *w, const struct plan *plan, const struct stream *st)
{
	struct rte_mbuf *pkts[BURST_MAX];
	uint16_t n = forward_receive(w, st, pkts);

	if (n)
		forward_drop(w, st->port, SWITCH_DROP_CONSUMED, pkts, n);
	return n;
}

const struct engine engine_cross = {
	.name = "cross",
	.help = "point-to-point cross-connect: pairs made by `cross add`",
	.peer = ENGINE_PEER_CROSS,
	.poll = io_poll,
};

const struct engine engine_io = {
	.name = "io",
	.help = "pass packets to the paired port, untouched",
	.peer = ENGINE_PEER_TOPOLOGY,
	.poll = io_poll,
};

const struct engine engine_mac = {
	.name = "mac",
	.help = "as io, with our and the peer's Ethernet address put in",
	.peer = ENGINE_PEER_TOPOLOGY,
	.poll = mac_poll,
};

const struct engine engine_macswap = {
	.name = "macswap",
	.help = "as io, with the Ethernet addresses swapped",
	.peer = ENGINE_PEER_TOPOLOGY,
	.poll = macswap_poll,
};

const struct engine engine_rxonly = {
	.name = "rxonly",
	.help = "receive and discard",
	.peer = ENGINE_PEER_TOPOLOGY,
	.poll = rxonly_poll,
};

/* SPDX-License-Identifier: BSD-3-Clause */
/* Engines that make packets: txonly and flowgen. */
#include <string.h>

#include <rte_ip.h>
#include <rte_udp.h>

#include "forward.h"

struct gen_headers {
	struct rte_ether_hdr eth;
	struct rte_ipv4_hdr ip;
	struct rte_udp_hdr udp;
} __rte_packed __rte_aligned(2);

_Static_assert(sizeof(struct gen_headers) == ENGINE_TX_HEADERS, "what engine.h promises");

static void make_headers(struct gen_headers *h, uint32_t len)
{
	h->eth.ether_type = RTE_BE16(RTE_ETHER_TYPE_IPV4);
	h->ip = (struct rte_ipv4_hdr){
		.version_ihl = RTE_IPV4_VHL_DEF,
		.total_length = rte_cpu_to_be_16((uint16_t)(len - sizeof(h->eth))),
		.time_to_live = 64,
		.next_proto_id = IPPROTO_UDP,
	};
	h->udp.dgram_len = rte_cpu_to_be_16((uint16_t)(len - sizeof(h->eth) - sizeof(h->ip)));
	h->udp.dgram_cksum = 0; /* none */
}

/* The headers differ per packet only by the flow; whoever uses them finishes the checksum. */
static void finish(struct gen_headers *h)
{
	h->ip.hdr_checksum = 0;
	h->ip.hdr_checksum = rte_ipv4_cksum(&h->ip);
}

/* Zeroed: never what somebody else's packet left in the memory. */
static void fill_segment(struct rte_mbuf *head, struct rte_mbuf *seg, uint16_t len)
{
	seg->data_len = len;
	head->pkt_len += len;
	memset(rte_pktmbuf_mtod(seg, void *), 0, len);
}

/* Lay out a fresh mbuf as a packet of these segments. False: no mbuf for one of them. */
static bool fill_packet(
	struct rte_mempool *pool, struct rte_mbuf *head, const uint16_t *len, unsigned segs)
{
	struct rte_mbuf *last = head;

	fill_segment(head, head, len[0]);
	for (unsigned i = 1; i < segs; i++) {
		last->next = rte_pktmbuf_alloc(pool);
		if (!last->next)
			return false;
		last = last->next;
		fill_segment(head, last, len[i]);
		head->nb_segs++;
	}
	return true;
}

static unsigned choose_segs(struct worker *w, const struct engine_conf *conf)
{
	if (conf->tx_split == TXSPLIT_RAND)
		return 1 + worker_random(w) % conf->tx_segs;
	return conf->tx_segs;
}

/* Make up to a burst; set_flow() writes what tells one flow from the next. */
static uint16_t make_burst(struct worker *w, const struct plan *plan, const struct stream *st,
	struct rte_mbuf **pkts,
	void (*set_flow)(struct gen_headers *, const struct engine_conf *, uint64_t))
{
	const struct engine_conf *conf = &plan->conf;
	uint64_t gen = st->q->gen;
	uint16_t n;

	if (rte_pktmbuf_alloc_bulk(w->pool, pkts, conf->burst) < 0)
		return 0;
	for (n = 0; n < conf->burst; n++) {
		struct gen_headers *h = rte_pktmbuf_mtod(pkts[n], struct gen_headers *);

		if (!fill_packet(w->pool, pkts[n], conf->tx_seg_len, choose_segs(w, conf)))
			break;
		make_headers(h, pkts[n]->pkt_len);
		h->eth.src_addr = st->src;
		h->eth.dst_addr = st->dst;
		set_flow(h, conf, gen++);
		finish(h);
	}
	vnet_free_bulk(pkts + n, conf->burst - n);
	virtq_store(&st->q->gen, gen);
	return n;
}

static void txonly_flow(struct gen_headers *h, const struct engine_conf *conf, uint64_t i)
{
	uint16_t vary = conf->tx_multi_flow ? (uint16_t)i : 0;

	h->ip.src_addr = rte_cpu_to_be_32(conf->tx_ip_src);
	h->ip.dst_addr = rte_cpu_to_be_32(conf->tx_ip_dst);
	h->udp.src_port = rte_cpu_to_be_16((uint16_t)(conf->tx_udp_src + vary));
	h->udp.dst_port = rte_cpu_to_be_16(conf->tx_udp_dst);
}

static uint16_t txonly_poll(struct worker *w, const struct plan *plan, const struct stream *st)
{
	struct rte_mbuf *pkts[BURST_MAX];
	uint16_t n;

	if (plan->conf.tx_first && st->q->tx_first >= plan->conf.tx_first)
		return 0;
	n = make_burst(w, plan, st, pkts, txonly_flow);
	if (n == 0)
		return 0;
	forward_stream(w, plan, st, pkts, n);
	virtq_store(&st->q->tx_first, st->q->tx_first + 1);
	return n;
}

/* testpmd's addresses: 10.254.0.0 to 10.253.0.0 + flow, ports 1000 and 1001. */
static void flowgen_flow(struct gen_headers *h, const struct engine_conf *conf, uint64_t i)
{
	uint32_t flow = (uint32_t)(i % conf->flowgen_flows);

	h->ip.src_addr = rte_cpu_to_be_32(RTE_IPV4(10u, 254, 0, 0));
	h->ip.dst_addr = rte_cpu_to_be_32(RTE_IPV4(10u, 253, 0, 0) + flow);
	h->udp.src_port = RTE_BE16(1000);
	h->udp.dst_port = RTE_BE16(1001);
}

static uint16_t flowgen_poll(struct worker *w, const struct plan *plan, const struct stream *st)
{
	struct rte_mbuf *pkts[BURST_MAX];
	uint16_t received = forward_receive(w, st, pkts), n;

	if (received)
		forward_drop(w, st->port, SWITCH_DROP_CONSUMED, pkts, received);
	n = make_burst(w, plan, st, pkts, flowgen_flow);
	if (n)
		forward_stream(w, plan, st, pkts, n);
	return received + n;
}

const struct engine engine_txonly = {
	.name = "txonly",
	.help = "send packets made here (see `set txpkts`), receive none",
	.peer = ENGINE_PEER_TOPOLOGY,
	.poll = txonly_poll,
};

const struct engine engine_flowgen = {
	.name = "flowgen",
	.help = "send packets of many flows, discard what arrives",
	.peer = ENGINE_PEER_TOPOLOGY,
	.poll = flowgen_poll,
};

/* SPDX-License-Identifier: BSD-3-Clause */
/* The learning L2 bridge. */
#include "fdb.h"
#include "forward.h"

/*
 * Theory of operation
 *
 * A burst comes from one port, so it is learnt, looked up and flooded as one. Each packet
 * then goes one of four ways: dropped for a reason, held back (its destination is where it
 * came from), to the one port that has its destination, or to all ports but its own.
 * What waits for one port (forward_later) and what is flooded keep their order as far as
 * one flow is concerned: a flow is either known or not during a burst.
 *
 * A guest's burst that goes to one other guest as a whole needs no mbufs: to_one() finds that out from the beginnings
 * of its frames. Any other is left to the rest, which looks again.
 */

struct verdict {
	struct rte_mbuf *flood[BURST_MAX];
	struct rte_mbuf *same[BURST_MAX];
	struct rte_mbuf *local[BURST_MAX];
	struct rte_mbuf *bad[BURST_MAX];
	uint16_t n_flood, n_same, n_local, n_bad;
};

/* 01:80:c2:00:00:00 to 0f, as a key: the first octet is the lowest. */
static bool is_link_local(uint64_t key)
{
	return (key & UINT64_C(0xf0ffffffffff)) == UINT64_C(0x000000c28001);
}

static void burst_keys(struct rte_mbuf *const *pkts, uint16_t n, uint64_t *dst, uint64_t *src)
{
	for (uint16_t i = 0; i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(pkts[i], void *));
	for (uint16_t i = 0; i < n; i++)
		fdb_keys(rte_pktmbuf_mtod(pkts[i], void *), 0, &dst[i], &src[i]);
}

static void drop_some(struct worker *w, const struct stream *st, struct verdict *v)
{
	if (unlikely(v->n_bad))
		forward_drop(w, st->port, SWITCH_DROP_BAD_SOURCE, v->bad, v->n_bad);
	if (unlikely(v->n_local))
		forward_drop(w, st->port, SWITCH_DROP_LINK_LOCAL, v->local, v->n_local);
	if (unlikely(v->n_same))
		forward_drop(w, st->port, SWITCH_DROP_SAME_PORT, v->same, v->n_same);
}

static void flood(
	struct worker *w, const struct plan *plan, const struct stream *st, struct verdict *v)
{
	if (forward_copies(w, plan, st->port, v->flood, v->n_flood))
		vnet_free_bulk(v->flood, v->n_flood);
	else
		forward_drop(w, st->port, SWITCH_DROP_NO_DESTINATION, v->flood, v->n_flood);
}

static uint16_t by_mbufs(struct worker *w, const struct plan *plan, const struct stream *st)
{
	struct rte_mbuf *pkts[BURST_MAX];
	uint64_t dst[BURST_MAX], src[BURST_MAX], bad;
	uint16_t port[BURST_MAX];
	uint16_t n = forward_receive(w, st, pkts);
	struct verdict v;

	if (n == 0)
		return 0;
	v.n_flood = v.n_same = v.n_local = v.n_bad = 0;
	burst_keys(pkts, n, dst, src);
	bad = fdb_learn(plan->fdb, &w->fdb_cache, st->port, src, n, virtq_load(w->now));
	fdb_lookup(plan->fdb, &w->fdb_cache, dst, n, port);
	for (uint16_t i = 0; i < n; i++) {
		if (unlikely(bad >> i & 1))
			v.bad[v.n_bad++] = pkts[i];
		else if (unlikely(is_link_local(dst[i])))
			v.local[v.n_local++] = pkts[i];
		else if (unlikely(port[i] == st->port))
			v.same[v.n_same++] = pkts[i];
		else if (likely(port[i] < plan->n_ports))
			forward_later(w, plan, st->port, port[i], pkts[i]);
		else
			v.flood[v.n_flood++] = pkts[i];
	}
	drop_some(w, st, &v);
	if (v.n_flood)
		flood(w, plan, st, &v);
	return n;
}

/* ---- without mbufs ---- */

struct poll {
	struct worker *w;
	const struct plan *plan;
	const struct stream *st;
};

static bool all_equal(const uint16_t *port, uint16_t n)
{
	for (uint16_t i = 1; i < n; i++)
		if (port[i] != port[0])
			return false;
	return true;
}

/* vnet_decide_fn: does all of this go to one guest, another one? */
static uint16_t to_one(
	void *arg, const struct vnet_beginning *begin, uint16_t n, struct vnet_direct_to *way)
{
	const struct poll *p = arg;
	const struct plan *plan = p->plan;
	struct fdb_cache *cache = &p->w->fdb_cache;
	uint64_t dst[BURST_MAX], src[BURST_MAX];
	uint16_t port[BURST_MAX], i = 0;
	const struct outlet *out;

	do
		fdb_keys(begin[i].byte, 0, &dst[i], &src[i]);
	while (++i < n);
	if (fdb_lookup(plan->fdb, cache, dst, n, port) || !all_equal(port, n) ||
		port[0] == p->st->port || port[0] >= plan->n_ports)
		return 0;
	out = &p->w->work->outlets[port[0]];
	if (out->kind != PORT_VM || !out->up)
		return 0;
	/* What waits there came first, and is delivered at the expense of who sent it. */
	if (p->w->outputs[port[0]].n)
		return VNET_DIRECT_NOT_NOW;
	if (fdb_learn(plan->fdb, cache, p->st->port, src, n, virtq_load(p->w->now)))
		return 0;
	*way = (struct vnet_direct_to){out->vq, out->limits.max_len, out->lock};
	return n;
}

static uint16_t bridge_poll(struct worker *w, const struct plan *plan, const struct stream *st)
{
	struct poll poll = {w, plan, st};
	uint16_t n = VNET_DIRECT_NOT;

	if (st->rx.kind == PORT_VM)
		n = forward_direct(w, st, to_one, &poll);
	return n == VNET_DIRECT_NOT ? by_mbufs(w, plan, st) : n;
}

const struct engine engine_bridge = {
	.name = "bridge",
	.help = "learning L2 bridge",
	.peer = ENGINE_PEER_NONE,
	.poll = bridge_poll,
};

/* SPDX-License-Identifier: BSD-3-Clause */
/* Sending: to one outlet, to many, with software where a port lacks an offload. */
#include "forward.h"

#include <errno.h>

#include <rte_cycles.h>

#include "plan.h"

/* Packets one call of a ring or a driver gets. */
#define CHUNK VIRTQ_BURST

/* Bursts with packets at most before it is tried again whether a guest's packets go to another one directly: one that asks for
 * offloads, or sends in pieces, mostly goes on to do so. */
#define DIRECT_PAUSE 31

/* Segments software may cut one packet into: 64 KiB at the smallest MSS TCP must take. */
#define SOFT_SEGS 128

/* ---- what a burst is like, and who takes it ---- */

/* Of all packets of a burst together. */
struct shape {
	uint64_t flags;
	uint32_t shortest, longest; /* frames, as they leave */
	uint16_t segs, tso_segs;    /* mbufs at most; of packets to be cut */
};

static uint32_t frame_len(const struct rte_mbuf *pkt)
{
	if (!(pkt->ol_flags & VNET_SEG_FLAGS))
		return pkt->pkt_len;
	return pkt->l2_len + pkt->l3_len + pkt->l4_len + pkt->tso_segsz;
}

/* Some are to be cut. */
static __rte_noinline struct shape shape_of_large(struct rte_mbuf *const *pkts, uint16_t n)
{
	struct shape s = {.shortest = UINT32_MAX};

	for (uint16_t i = 0; i < n; i++) {
		const struct rte_mbuf *pkt = pkts[i];
		uint16_t *segs = pkt->ol_flags & VNET_SEG_FLAGS ? &s.tso_segs : &s.segs;

		s.flags |= pkt->ol_flags;
		s.shortest = RTE_MIN(s.shortest, pkt->pkt_len);
		s.longest = RTE_MAX(s.longest, frame_len(pkt));
		*segs = RTE_MAX(*segs, pkt->nb_segs);
	}
	return s;
}

static inline struct shape shape_of(struct rte_mbuf *const *pkts, uint16_t n)
{
	uint32_t shortest = UINT32_MAX, longest = 0, segs = 0;
	uint64_t flags = 0;

	for (uint16_t i = 0; i < n; i++) {
		const struct rte_mbuf *pkt = pkts[i];

		flags |= pkt->ol_flags;
		shortest = RTE_MIN(shortest, pkt->pkt_len);
		longest = RTE_MAX(longest, pkt->pkt_len);
		segs = RTE_MAX(segs, pkt->nb_segs);
	}
	if (unlikely(flags & VNET_SEG_FLAGS))
		return shape_of_large(pkts, n);
	return (struct shape){flags, shortest, longest, (uint16_t)segs, 0};
}

/* Does the outlet take all this as it is? */
static inline bool fits(const struct outlet *out, const struct shape *s)
{
	const struct outlet_limits *l = &out->limits;

	return !(s->flags & (out->soften | out->copy)) && s->shortest >= l->min_len &&
	       s->longest <= l->max_len && s->segs <= l->max_segs && s->tso_segs <= l->max_tso_segs;
}

/* ---- sending ---- */

static inline void outlet_lock(const struct outlet *out)
{
	if (out->lock)
		rte_spinlock_lock(out->lock);
}

static inline void outlet_unlock(const struct outlet *out)
{
	if (out->lock)
		rte_spinlock_unlock(out->lock);
}

/* Try again only where somebody makes room. */
static inline unsigned retries(const struct plan *plan, const struct outlet *out)
{
	return plan->conf.retry && out->up ? plan->conf.retry_count : 0;
}

void forward_drop(
	struct worker *w, uint16_t port, enum switch_drop why, struct rte_mbuf **pkts, uint16_t n)
{
	worker_drop(w, port, why, n);
	vnet_free_bulk(pkts, n);
}

static uint16_t vm_try(const struct outlet *out, struct rte_mbuf **pkts, uint16_t n, uint32_t *sent)
{
	uint64_t before;
	uint16_t done;

	outlet_lock(out);
	before = out->vq->stats.packets;
	done = vnet_enqueue(out->vq, pkts, n);
	*sent += (uint32_t)(out->vq->stats.packets - before);
	outlet_unlock(out);
	return done;
}

/* Copy into the guest's buffers; the mbufs stay the caller's. */
static struct forward_result vm_send(
	const struct plan *plan, const struct outlet *out, struct rte_mbuf **pkts, uint16_t n)
{
	uint32_t sent = 0;
	uint16_t done = vm_try(out, pkts, n, &sent);

	for (unsigned i = retries(plan, out); done < n && i > 0; i--) {
		rte_delay_us_block(plan->conf.retry_delay_us);
		done += vm_try(out, pkts + done, n - done, &sent);
	}
	if (done < n) {
		outlet_lock(out);
		vnet_give_up(out->vq, n - done);
		outlet_unlock(out);
	}
	return (struct forward_result){sent, n - sent};
}

static uint16_t dev_try(const struct outlet *out, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t done;

	outlet_lock(out);
	done = rte_eth_tx_burst(out->eth, out->queue, pkts, n);
	outlet_unlock(out);
	return done;
}

/* Let the driver prepare packets that ask for something. @return how many are left */
static uint16_t dev_prepare(
	struct worker *w, const struct outlet *out, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t ok = 0;

	for (;;) {
		ok += rte_eth_tx_prepare(out->eth, out->queue, pkts + ok, n - ok);
		if (ok == n)
			return n;
		forward_drop(w, out->port, SWITCH_DROP_TX_OFFLOAD, &pkts[ok], 1);
		n--;
		memmove(&pkts[ok], &pkts[ok + 1], (n - ok) * sizeof(pkts[0]));
	}
}

/* Hand mbufs to a driver, which keeps them. */
static struct forward_result dev_send(struct worker *w, const struct plan *plan,
	const struct outlet *out, struct rte_mbuf **pkts, uint16_t n, const struct shape *s)
{
	uint16_t ready = n, done;

	if ((s->flags & RTE_MBUF_F_TX_OFFLOAD_MASK) || s->segs > 1)
		ready = dev_prepare(w, out, pkts, n);
	if ((s->flags & VNET_MBUF_F_LENT) && out->reclaim)
		worker_lends(w, out->port);
	done = dev_try(out, pkts, ready);
	for (unsigned i = retries(plan, out); done < ready && i > 0; i--) {
		rte_delay_us_block(plan->conf.retry_delay_us);
		done += dev_try(out, pkts + done, ready - done);
	}
	if (done < ready)
		forward_drop(w, out->port,
			out->up ? SWITCH_DROP_TX_NIC_FULL : SWITCH_DROP_TX_LINK_DOWN, pkts + done,
			ready - done);
	return (struct forward_result){done, n - done};
}

static struct forward_result relay_send(
	struct worker *w, const struct outlet *out, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t done = (uint16_t)rte_ring_enqueue_burst(out->relay, (void **)pkts, n, NULL);

	if (done < n)
		forward_drop(w, out->port, SWITCH_DROP_TX_MIGRATING, pkts + done, n - done);
	return (struct forward_result){done, n - done};
}

/* To an outlet that takes every packet as it is. At most CHUNK. */
static struct forward_result send_plain(struct worker *w, const struct plan *plan,
	const struct outlet *out, struct rte_mbuf **pkts, uint16_t n, const struct shape *s)
{
	struct forward_result r;

	if (out->kind == PORT_DEV)
		return dev_send(w, plan, out, pkts, n, s);
	if (unlikely(out->kind == PORT_RELAY))
		return relay_send(w, out, pkts, n);
	r = vm_send(plan, out, pkts, n);
	vnet_free_bulk(pkts, n);
	return r;
}

/* The same packet in memory of ours. NULL: no mbuf. */
static struct rte_mbuf *copy_of(const struct worker *w, const struct rte_mbuf *pkt)
{
	struct rte_mbuf *copy = rte_pktmbuf_copy(pkt, w->pool, 0, UINT32_MAX);

	if (copy)
		copy->ol_flags &= ~VNET_LENT_FLAGS;
	return copy;
}

/* As few mbufs as it can be. Always consumes pkt; NULL: more than max, or no mbuf. */
static struct rte_mbuf *compact(struct worker *w, struct rte_mbuf *pkt, uint16_t max)
{
	struct rte_mbuf *copy = copy_of(w, pkt);

	rte_pktmbuf_free(pkt);
	if (copy && copy->nb_segs > max) {
		rte_pktmbuf_free(copy);
		copy = NULL;
	}
	return copy;
}

/* Zeros up to the least length of a frame. Always consumes pkt; NULL: no mbuf. */
static struct rte_mbuf *pad(struct worker *w, struct rte_mbuf *pkt, uint32_t len)
{
	uint16_t more = (uint16_t)(len - pkt->pkt_len);
	char *end;

	if (pkt->nb_segs > 1 || rte_mbuf_refcnt_read(pkt) > 1 || !RTE_MBUF_DIRECT(pkt) ||
		rte_pktmbuf_tailroom(pkt) < more)
		pkt = compact(w, pkt, 1);
	end = pkt ? rte_pktmbuf_append(pkt, more) : NULL;
	if (end)
		memset(end, 0, more);
	return pkt;
}

/* Bring one packet, whose offloads the outlet takes, within its limits. Always consumes pkt.
 * NULL: dropped and counted. */
static struct rte_mbuf *limit(struct worker *w, const struct outlet *out, struct rte_mbuf *pkt)
{
	const struct outlet_limits *l = &out->limits;
	uint16_t max = pkt->ol_flags & VNET_SEG_FLAGS ? l->max_tso_segs : l->max_segs;

	if (frame_len(pkt) > l->max_len) {
		forward_drop(w, out->port, SWITCH_DROP_TX_MTU_EXCEEDED, &pkt, 1);
		return NULL;
	}
	if (pkt->nb_segs > max)
		pkt = compact(w, pkt, max);
	if (pkt && pkt->pkt_len < l->min_len)
		pkt = pad(w, pkt, l->min_len);
	if (!pkt)
		worker_drop(w, out->port, SWITCH_DROP_TX_OFFLOAD, 1);
	return pkt;
}

/* Make one packet fit. @return how many packets it became; *lost: how many did not make it */
static uint16_t make_fit(struct worker *w, const struct outlet *out, struct rte_mbuf *pkt,
	struct rte_mbuf **fit, uint32_t *lost)
{
	uint16_t n = 1, left = 0;

	if (pkt->ol_flags & out->copy)
		pkt = compact(w, pkt, UINT16_MAX);
	if (!pkt) {
		worker_drop(w, out->port, SWITCH_DROP_TX_NO_MBUF, 1);
		*lost = 1;
		return 0;
	}
	fit[0] = pkt;
	if (pkt->ol_flags & out->soften)
		n = vnet_soften(w->soft, pkt, out->offloads, fit, SOFT_SEGS);
	if (n == 0)
		worker_drop(w, out->port, SWITCH_DROP_TX_OFFLOAD, 1);
	for (uint16_t i = 0; i < n; i++) {
		pkt = limit(w, out, fit[i]);
		if (pkt)
			fit[left++] = pkt;
	}
	*lost = n ? n - left : 1;
	return left;
}

static void add_result(struct forward_result *sum, struct forward_result r)
{
	sum->sent += r.sent;
	sum->lost += r.lost;
}

static void send_chunks(struct worker *w, const struct plan *plan, const struct outlet *out,
	struct rte_mbuf **pkts, uint16_t n, struct forward_result *sum)
{
	for (uint16_t i = 0; i < n; i += CHUNK) {
		uint16_t part = RTE_MIN(n - i, CHUNK);
		struct shape s = shape_of(pkts + i, part);

		add_result(sum, send_plain(w, plan, out, pkts + i, part, &s));
	}
}

/* Out of line: the burst that needs nothing must stay small. */
static __rte_noinline struct forward_result send_soft(struct worker *w, const struct plan *plan,
	const struct outlet *out, struct rte_mbuf **pkts, uint16_t n)
{
	struct rte_mbuf *fit[CHUNK + SOFT_SEGS];
	struct forward_result sum = {0, 0};
	uint16_t ready = 0;

	for (uint16_t i = 0; i < n; i++) {
		uint32_t lost;

		ready += make_fit(w, out, pkts[i], fit + ready, &lost);
		sum.lost += lost;
		if (ready >= CHUNK) {
			send_chunks(w, plan, out, fit, ready, &sum);
			ready = 0;
		}
	}
	send_chunks(w, plan, out, fit, ready, &sum);
	return sum;
}

struct forward_result forward_burst(struct worker *w, const struct plan *plan,
	const struct outlet *out, struct rte_mbuf **pkts, uint16_t n)
{
	struct shape s;

	if (unlikely(out->kind == PORT_NONE)) {
		forward_drop(w, out->port, SWITCH_DROP_TX_NO_PORT, pkts, n);
		return (struct forward_result){0, n};
	}
	s = shape_of(pkts, n);
	if (likely(fits(out, &s)))
		return send_plain(w, plan, out, pkts, n, &s);
	return send_soft(w, plan, out, pkts, n);
}

void forward_stream(struct worker *w, const struct plan *plan, const struct stream *st,
	struct rte_mbuf **pkts, uint16_t n)
{
	struct stream_stats *stats = &st->q->stats;
	struct forward_result r;

	if (!st->has_peer) {
		forward_drop(w, st->port, SWITCH_DROP_NO_DESTINATION, pkts, n);
		return;
	}
	r = forward_burst(w, plan, &st->tx, pkts, n);
	virtq_count(&stats->tx_packets, r.sent);
	if (r.lost)
		virtq_count(&stats->dropped, r.lost);
}

uint16_t forward_direct(
	const struct worker *w, const struct stream *st, vnet_decide_fn decide, void *arg)
{
	struct stream_direct *direct = &st->q->direct;
	struct vnet_direct_to way = {st->tx.vq, st->tx.limits.max_len, st->tx.lock};
	uint16_t n;

	if (unlikely(direct->pause))
		return VNET_DIRECT_NOT;
	n = vnet_direct_by(st->rx.vq, w->burst, &way, decide, arg);
	if (n == 0)
		return 0;
	if (unlikely(n == VNET_DIRECT_NOT_NOW))
		return VNET_DIRECT_NOT;
	if (unlikely(n == VNET_DIRECT_NOT)) {
		direct->doubt = RTE_MIN(2 * direct->doubt + 1, DIRECT_PAUSE);
		direct->pause = direct->doubt;
		return n;
	}
	direct->doubt /= 2;
	virtq_count(&st->q->stats.rx_packets, n);
	if (st->has_peer)
		virtq_count(&st->q->stats.tx_packets, n);
	return n;
}

void forward_flush(struct worker *w, const struct plan *plan, uint16_t port)
{
	struct output *out = &w->outputs[port];
	uint16_t n = out->n;

	out->n = 0;
	if (n)
		forward_burst(w, plan, &w->work->outlets[port], out->pkts, n);
}

/*
 * Devices free what they have sent when they need room for more, which may be never: they are asked to.
 * One that was given something long ago is asked less and less often.
 */
#define RECLAIM_MIN_US 20
#define RECLAIM_MAX_US 10000
#define RECLAIM_SHARE  8 /* of the time since */

static void reclaim_from(const struct outlet *out)
{
	outlet_lock(out);
	/* Where that is not supported, some drivers do it in a burst, also in an empty one. */
	if (rte_eth_tx_done_cleanup(out->eth, out->queue, 0) == -ENOTSUP)
		rte_eth_tx_burst(out->eth, out->queue, NULL, 0);
	outlet_unlock(out);
}

static bool is_time(struct lending *l, uint64_t now)
{
	const uint64_t us = rte_get_tsc_hz() / US_PER_S;
	uint64_t pause = RTE_MAX((now - l->given) / RECLAIM_SHARE, RECLAIM_MIN_US * us);

	if (now - l->asked < RTE_MIN(pause, RECLAIM_MAX_US * us))
		return false;
	l->asked = now;
	return true;
}

void forward_reclaim(struct worker *w, const struct plan *plan)
{
	uint64_t now = rte_rdtsc();
	uint16_t kept = 0;

	for (uint16_t i = 0; i < w->n_lending; i++) {
		uint16_t port = w->lending[i];
		struct output *o = &w->outputs[port];
		const struct outlet *out = &w->work->outlets[port];

		if (port >= plan->n_ports || !out->reclaim) {
			o->lending.listed = false;
			continue;
		}
		w->lending[kept++] = port;
		if (o->lending.fresh)
			o->lending.given = now;
		o->lending.fresh = false;
		if (is_time(&o->lending, now))
			reclaim_from(out);
	}
	w->n_lending = kept;
}

/* One of several senders is to pay for a delivery: by lot, weighed by their bytes, so that in the long
 * run each pays his part. */
static __rte_noinline uint16_t draw_payer(struct worker *w, const struct output *out)
{
	uint64_t bytes = 0, lot;
	uint16_t i = 0;

	for (uint16_t k = 0; k < out->n; k++)
		bytes += out->pkts[k]->pkt_len;
	lot = worker_random(w) % RTE_MAX(bytes, UINT64_C(1));
	while (i + 1 < out->n && lot >= out->pkts[i]->pkt_len)
		lot -= out->pkts[i++]->pkt_len;
	return out->from[i];
}

/* Who sent what waits: streams of a port are polled one after the other, so the first and the last
 * packet tell whether it was one. */
static uint16_t payer(struct worker *w, const struct output *out)
{
	return likely(out->from[0] == out->from[out->n - 1]) ? out->from[0] : draw_payer(w, out);
}

uint64_t forward_flush_all(struct worker *w, const struct plan *plan)
{
	uint64_t begin = w->stamp;

	for (uint16_t i = 0; i < w->n_dirty; i++) {
		struct output *out = &w->outputs[w->dirty[i]];

		if (out->n) {
			uint16_t from = payer(w, out);

			forward_flush(w, plan, w->dirty[i]);
			worker_charge(w, from, worker_lap(w));
		}
		out->dirty = false;
	}
	w->n_dirty = 0;
	return w->stamp - begin;
}

/* One more owner, or where the outlet would have to change the packet, a copy. */
static struct rte_mbuf *duplicate(
	const struct worker *w, const struct outlet *out, struct rte_mbuf *pkt)
{
	struct shape s = shape_of(&pkt, 1);

	if (!fits(out, &s) || (s.flags & RTE_MBUF_F_TX_OFFLOAD_MASK))
		return copy_of(w, pkt);
	for (struct rte_mbuf *seg = pkt; seg; seg = seg->next)
		rte_mbuf_refcnt_update(seg, 1);
	return pkt;
}

static void send_duplicates(struct worker *w, const struct plan *plan, const struct outlet *out,
	struct rte_mbuf **pkts, uint16_t n)
{
	struct rte_mbuf *dup[BURST_MAX];
	uint16_t ready = 0;

	for (uint16_t i = 0; i < n; i++) {
		struct rte_mbuf *pkt = duplicate(w, out, pkts[i]);

		if (pkt)
			dup[ready++] = pkt;
	}
	if (ready < n)
		worker_drop(w, out->port, SWITCH_DROP_TX_NO_MBUF, n - ready);
	if (ready)
		forward_burst(w, plan, out, dup, ready);
}

unsigned forward_copies(struct worker *w, const struct plan *plan, uint16_t except,
	struct rte_mbuf **pkts, uint16_t n)
{
	struct shape s = shape_of(pkts, n);
	unsigned ports = 0;

	for (uint16_t i = 0; i < plan->n_flood; i++) {
		const struct outlet *out = &w->work->outlets[plan->flood[i]];

		if (out->port == except)
			continue;
		ports++;
		/* What waits there came first. */
		forward_flush(w, plan, out->port);
		if (out->kind == PORT_VM && fits(out, &s))
			vm_send(plan, out, pkts, n);
		else
			send_duplicates(w, plan, out, pkts, n);
	}
	return ports;
}

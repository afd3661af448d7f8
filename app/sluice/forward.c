/* SPDX-License-Identifier: BSD-3-Clause */
/* Sending: to one outlet, to many, with software where a port lacks an offload. */
#include "forward.h"

#include <rte_cycles.h>

#include "plan.h"

/* Packets one call of a ring or a driver gets. */
#define CHUNK VIRTQ_BURST

/* Segments software may cut one packet into: 64 KiB at the smallest MSS TCP must take. */
#define SOFT_SEGS 128

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
	rte_pktmbuf_free_bulk(pkts, n);
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

/* Let the driver prepare packets that ask for offloads. @return how many are left */
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
	const struct outlet *out, struct rte_mbuf **pkts, uint16_t n, uint64_t flags)
{
	uint16_t ready = n, done;

	if (flags & RTE_MBUF_F_TX_OFFLOAD_MASK)
		ready = dev_prepare(w, out, pkts, n);
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

/* To an outlet that takes every packet as it is. At most CHUNK. */
static struct forward_result send_plain(struct worker *w, const struct plan *plan,
	const struct outlet *out, struct rte_mbuf **pkts, uint16_t n, uint64_t flags)
{
	struct forward_result r;

	if (out->kind == PORT_DEV)
		return dev_send(w, plan, out, pkts, n, flags);
	r = vm_send(plan, out, pkts, n);
	rte_pktmbuf_free_bulk(pkts, n);
	return r;
}

static inline bool takes_chains(const struct outlet *out)
{
	return out->offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
}

/* Does the outlet take this packet as it is? */
static inline bool fits(const struct outlet *out, const struct rte_mbuf *pkt)
{
	return !(pkt->ol_flags & out->soften) && (pkt->nb_segs == 1 || takes_chains(out));
}

/* The same of a whole burst; *flags: all mbuf flags in it. */
static inline bool all_fit(
	const struct outlet *out, struct rte_mbuf *const *pkts, uint16_t n, uint64_t *flags)
{
	uint64_t all = 0;
	uint16_t segs = 0;

	for (uint16_t i = 0; i < n; i++) {
		all |= pkts[i]->ol_flags;
		segs |= pkts[i]->nb_segs;
	}
	*flags = all;
	return !(all & out->soften) && (segs <= 1 || takes_chains(out));
}

/* One mbuf instead of a chain. Always consumes pkt; NULL: too long, or no mbuf. */
static struct rte_mbuf *flatten(struct worker *w, struct rte_mbuf *pkt)
{
	struct rte_mbuf *flat = rte_pktmbuf_copy(pkt, w->pool, 0, UINT32_MAX);

	rte_pktmbuf_free(pkt);
	if (flat && flat->nb_segs > 1) {
		rte_pktmbuf_free(flat);
		flat = NULL;
	}
	return flat;
}

static uint16_t flatten_all(struct worker *w, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t left = 0;

	for (uint16_t i = 0; i < n; i++) {
		struct rte_mbuf *pkt = pkts[i];

		if (pkt->nb_segs > 1)
			pkt = flatten(w, pkt);
		if (pkt)
			pkts[left++] = pkt;
	}
	return left;
}

/* Make one packet fit. @return how many packets it became; *lost: how many did not make it */
static uint16_t make_fit(struct worker *w, const struct outlet *out, struct rte_mbuf *pkt,
	struct rte_mbuf **fit, uint32_t *lost)
{
	uint16_t n = 1, left;

	fit[0] = pkt;
	if (pkt->ol_flags & out->soften)
		n = vnet_soften(w->soft, pkt, out->offloads, fit, SOFT_SEGS);
	left = takes_chains(out) ? n : flatten_all(w, fit, n);
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
		uint64_t flags;

		all_fit(out, pkts + i, part, &flags);
		add_result(sum, send_plain(w, plan, out, pkts + i, part, flags));
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
		if (lost) {
			worker_drop(w, out->port, SWITCH_DROP_TX_OFFLOAD, lost);
			sum.lost += lost;
		}
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
	uint64_t flags;

	if (unlikely(out->kind == PORT_NONE)) {
		forward_drop(w, out->port, SWITCH_DROP_TX_NO_PORT, pkts, n);
		return (struct forward_result){0, n};
	}
	if (likely(all_fit(out, pkts, n, &flags)))
		return send_plain(w, plan, out, pkts, n, flags);
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

void forward_flush(struct worker *w, const struct plan *plan, uint16_t port)
{
	struct output *out = &w->outputs[port];
	uint16_t n = out->n;

	out->n = 0;
	if (n)
		forward_burst(w, plan, &w->work->outlets[port], out->pkts, n);
}

void forward_flush_all(struct worker *w, const struct plan *plan)
{
	for (uint16_t i = 0; i < w->n_dirty; i++) {
		forward_flush(w, plan, w->dirty[i]);
		w->outputs[w->dirty[i]].dirty = false;
	}
	w->n_dirty = 0;
}

/* One more owner, or where the outlet would have to change the packet, a copy. */
static struct rte_mbuf *duplicate(
	const struct worker *w, const struct outlet *out, struct rte_mbuf *pkt)
{
	if (!fits(out, pkt) || (pkt->ol_flags & RTE_MBUF_F_TX_OFFLOAD_MASK))
		return rte_pktmbuf_copy(pkt, w->pool, 0, UINT32_MAX);
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
	unsigned ports = 0;

	for (uint16_t i = 0; i < plan->n_flood; i++) {
		const struct outlet *out = &w->work->outlets[plan->flood[i]];
		uint64_t flags;

		if (out->port == except)
			continue;
		ports++;
		/* What waits there came first. */
		forward_flush(w, plan, out->port);
		if (out->kind == PORT_VM && all_fit(out, pkts, n, &flags))
			vm_send(plan, out, pkts, n);
		else
			send_duplicates(w, plan, out, pkts, n);
	}
	return ports;
}

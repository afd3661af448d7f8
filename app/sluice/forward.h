/* SPDX-License-Identifier: BSD-3-Clause */
/* The data path's vocabulary: receive from a source, send to an outlet. */
#ifndef FORWARD_H
#define FORWARD_H

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "vnet.h"
#include "vnet_direct.h"
#include "worker.h"

/*
 * Theory of operation
 *
 * An engine receives a burst from its stream's source and passes every packet on in one
 * of four ways:
 *
 *	forward_burst()	 a whole burst to one outlet, now           (pairwise engines)
 *	forward_later()	 one packet to a port, at the end of the    (bridge, known address)
 *			 iteration or when 64 have gathered
 *	forward_copies() a burst to many ports, and keep it          (bridge, flood)
 *	forward_drop()	 to nobody, for a named reason
 *
 * or has none made of what is in a guest's buffers at all:
 *
 *	forward_direct() a whole burst to one other guest           (io, cross, bridge)
 *
 * The first two take the packets over. A VM copies what it is sent and keeps nothing, a
 * device keeps the mbufs; forward_burst() hides that. Towards an outlet that lacks an
 * offload which packets ask for, they go through lib/vnet's software first.
 */

/** Up to n packets, which the caller owns then. */
static inline uint16_t port_rx(const struct source *src, struct rte_mbuf **pkts, uint16_t n)
{
	if (src->kind == PORT_VM)
		return vnet_dequeue(src->vq, pkts, n);
	if (unlikely(src->kind == PORT_RELAY))
		return (uint16_t)rte_ring_dequeue_burst(src->relay, (void **)pkts, n, NULL);
	return rte_eth_rx_burst(src->eth, src->queue, pkts, n);
}

/** Receive from a stream, and count. */
static inline uint16_t forward_receive(
	const struct worker *w, const struct stream *st, struct rte_mbuf **pkts)
{
	uint16_t n = port_rx(&st->rx, pkts, w->burst);

	if (n == 0)
		return 0;
	virtq_count(&st->q->stats.rx_packets, n);
	if (st->q->direct.pause)
		st->q->direct.pause--;
	return n;
}

/**
 * From guest to guest: forward_receive() and forward_burst() in one, for packets that need nothing.
 * @param st	comes from a guest
 * @param decide NULL: to the stream's peer, a guest
 * @return how many; VNET_DIRECT_NOT: forward_receive() has to be asked
 */
uint16_t forward_direct(
	const struct worker *w, const struct stream *st, vnet_decide_fn decide, void *arg);

/* Software segmentation counts as its segments. */
struct forward_result {
	uint32_t sent;
	uint32_t lost; /* counted already */
};

/**
 * Send a burst and give it away. What the outlet does not take, after plan->conf's
 * retries, is dropped and counted at the outlet's port (a VM's in its ring).
 */
struct forward_result forward_burst(struct worker *w, const struct plan *plan,
	const struct outlet *out, struct rte_mbuf **pkts, uint16_t n);

/** forward_burst() to the stream's peer, counted in the stream. Without a peer: dropped. */
void forward_stream(struct worker *w, const struct plan *plan, const struct stream *st,
	struct rte_mbuf **pkts, uint16_t n);

/** Send what waits for a port. */
void forward_flush(struct worker *w, const struct plan *plan, uint16_t port);

/** Have devices give back what was lent to them, if it is time. Now and then, if worker.n_lending. */
void forward_reclaim(struct worker *w, const struct plan *plan);

/** Send all that waits, and charge who sent it. @return the cycles it took, worker.stamp being now */
uint64_t forward_flush_all(struct worker *w, const struct plan *plan);

/** Send one packet that came in by port @from to a port, soon, and give it away. port < plan->n_ports. */
static inline void forward_later(struct worker *w, const struct plan *plan, uint16_t from,
	uint16_t port, struct rte_mbuf *pkt)
{
	struct output *out = &w->outputs[port];

	if (!out->dirty) {
		out->dirty = true;
		w->dirty[w->n_dirty++] = port;
	}
	out->from[out->n] = from;
	out->pkts[out->n++] = pkt;
	if (out->n == OUTPUT_MAX)
		forward_flush(w, plan, port);
}

/**
 * Send copies of a burst to every port of the flood list but one.
 * @return how many ports there were
 */
unsigned forward_copies(struct worker *w, const struct plan *plan, uint16_t except,
	struct rte_mbuf **pkts, uint16_t n);

/** Free packets that came in by this port, and count why. */
void forward_drop(
	struct worker *w, uint16_t port, enum switch_drop why, struct rte_mbuf **pkts, uint16_t n);

#endif

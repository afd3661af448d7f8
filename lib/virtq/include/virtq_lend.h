/* SPDX-License-Identifier: BSD-3-Clause */
/* Chains that are taken and not given back yet, because their buffers are lent out. */
#ifndef VIRTQ_LEND_H
#define VIRTQ_LEND_H

#include "virtq_ring.h"
#include "virtq_track.h"

/*
 * Theory of operation
 *
 * A burst that copies gives every chain back before it ends. One that lends a chain's buffers
 * (lib/vnet/lend.c makes mbufs of them) gives it back when the last of them has come home. Until
 * then the chain is in the ring's window, in the order in which chains were taken:
 *
 *	head                                   tail
 *	 | lent | done | lent | lent | done |   taken next ->
 *
 * Chains are given back in that order, up to the first whose buffers are out. So a burst that
 * copies adds its chains to a window that is not empty; they are done at once. While it is so, the
 * ring looks to the driver, and to a back-end that follows one that died, as if chains just took
 * longer.
 *
 * Somebody may keep a buffer for long, though: a NIC frees what it has sent when it needs room.
 * When the window has waited too long, or has grown too long, later chains overtake (virtio 1.2,
 * 2.7.8: used entries come in any order): whatever is done is given back at once and only what is
 * lent stays, until the window is empty. Not with IN_ORDER and not with a front-end's in-flight
 * region, whose record says that order is kept: there who lends must see to it that buffers come
 * home. A record of our own (virtq_track.h) is told which chains stay.
 */

/* Places of the largest window. Only what is used of it takes memory. */
#define VIRTQ_WINDOW 65536u

struct virtq_lent {
	uint16_t id, ndesc; /* what give() needs */
	uint16_t out;       /* buffers that have not come home */
	bool given;         /* already, in overtaking */
	bool lent;          /* counted in virtq_window.out */
};

/* Whoever is inside the gate; control with the gate closed. */
struct virtq_window {
	uint32_t head, tail; /* free running */
	uint32_t out;        /* ring entries of chains with buffers that are not home */
	uint32_t changed;    /* virtq_track.h: id + 1 of the first chain announced; 0: none */
	bool ordered;        /* never overtake */
	bool overtaking;
	uint32_t mask;            /* places - 1 */
	struct virtq_lent *chain; /* VIRTQ_WINDOW of them */
};

/* Who lends a ring's buffers. The owner of the ring fills it in; lib/vhost_user calls it. */
struct virtq_lender {
	/**
	 * Give back the chains whose buffers have come home.
	 * @return how many ring entries are still lent. Control thread, gate closed.
	 */
	uint32_t (*settle)(
		struct virtq_lender *lender, struct virtq *vq, const struct virtq_view *v);
	/**
	 * Give back all chains, whoever may be reading their buffers.
	 * @return how many ring entries were still lent. Control thread, gate closed.
	 */
	uint32_t (*abandon)(
		struct virtq_lender *lender, struct virtq *vq, const struct virtq_view *v);
	/**
	 * Let go of memory that no buffer refers to any more.
	 * @param stopped the gate is closed and the window empty
	 * @return true: some is still referred to, call again. Control thread.
	 */
	bool (*reap)(struct virtq_lender *lender, bool stopped);

	struct virtq_window window;
};

static inline uint32_t virtq_window_len(const struct virtq_window *w)
{
	return w->tail - w->head;
}

/**
 * How many places an empty window has: more than a ring of num entries, and no more than stay in the cache. With a
 * driver that keeps to its ring it gets full only in overtaking, behind a chain that does not come home. Control thread.
 */
static inline void virtq_window_resize(struct virtq_window *w, uint16_t num)
{
	uint32_t size = VIRTQ_WINDOW;

	while (size / 2 >= num + 2u * VIRTQ_BURST)
		size /= 2;
	if (virtq_load(&w->head) == virtq_load(&w->tail) && w->mask != size - 1)
		w->mask = size - 1;
}

/* Room for a burst? A driver that makes chains available again before they were given back can
 * fill it. */
static inline bool virtq_window_full(const struct virtq_window *w)
{
	return w->tail - w->head > w->mask - VIRTQ_BURST;
}

/* With the window up to this place: must a chain that is done wait for its turn? */
virtq_inline bool virtq_window_waits(const struct virtq_window *w, uint32_t tail)
{
	return w->head != tail && !w->overtaking;
}

virtq_inline struct virtq_lent *virtq_window_at(const struct virtq_window *w, uint32_t place)
{
	return &w->chain[place & w->mask];
}

/* Add a chain that was taken. @param out buffers of it that were lent; 0: it is done with
 * @param publishes the burst gives something back */
virtq_inline void virtq_window_add(const struct virtq_view *v, struct virtq_window *w,
	const struct virtq_chain *chain, uint16_t out, bool publishes)
{
	if (virtq_unlikely(w->overtaking) && out && v->tracked)
		virtq_track_lent(v, chain, publishes);
	*virtq_window_at(w, w->tail++) =
		(struct virtq_lent){chain->id, chain->ndesc, out, false, out > 0};
	if (out)
		virtq_store(&w->out, w->out + chain->ndesc);
}

virtq_inline void virtq_lent_give(struct virtq *vq, const struct virtq_view *v,
	const struct virtq_lent *e, const struct virtq_ops *ops)
{
	const struct virtq_chain chain = {.id = e->id, .ndesc = e->ndesc};

	ops->give(vq, v, &chain, 0);
}

/* A buffer of the chain at this place is home. True: that gave the chain back. */
virtq_inline bool virtq_window_home(struct virtq *vq, const struct virtq_view *v,
	struct virtq_window *w, uint32_t place, const struct virtq_ops *ops)
{
	struct virtq_lent *e = virtq_window_at(w, place);

	if (--e->out > 0)
		return false;
	virtq_store(&w->out, w->out - e->ndesc);
	if (virtq_likely(!w->overtaking))
		return false;
	e->given = true;
	if (v->tracked)
		virtq_track_given(v, e->id);
	virtq_lent_give(vq, v, e, ops);
	return true;
}

/* Give back what is at its turn. True: that was something. */
virtq_inline bool virtq_window_give(struct virtq *vq, const struct virtq_view *v,
	struct virtq_window *w, const struct virtq_ops *ops)
{
	bool gave = false;

	for (; w->head != w->tail; w->head++) {
		const struct virtq_lent *e = virtq_window_at(w, w->head);

		if (e->out > 0)
			return gave;
		if (virtq_unlikely(e->given))
			continue;
		if (virtq_unlikely(w->overtaking) && v->tracked)
			virtq_track_given(v, e->id);
		virtq_lent_give(vq, v, e, ops);
		gave = true;
	}
	w->overtaking = false;
	return gave;
}

/* From now on what is done does not wait for its turn. True: that gave something back. */
virtq_inline bool virtq_window_overtake(struct virtq *vq, const struct virtq_view *v,
	struct virtq_window *w, const struct virtq_ops *ops)
{
	bool gave = false;

	if (w->ordered || w->overtaking)
		return false;
	w->overtaking = true;
	for (uint32_t i = w->head; i != w->tail && !gave; i++)
		gave = virtq_window_at(w, i)->out == 0;
	for (uint32_t i = w->head; i != w->tail; i++) {
		struct virtq_lent *e = virtq_window_at(w, i);
		const struct virtq_chain chain = {.id = e->id, .ndesc = e->ndesc};

		if (e->out > 0) {
			if (v->tracked)
				virtq_track_lent(v, &chain, gave);
			continue;
		}
		e->given = true;
		ops->give(vq, v, &chain, 0);
	}
	return gave;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* A record of our own of what a ring has in flight: chains taken, chains given back out of order. */
#ifndef VIRTQ_TRACK_H
#define VIRTQ_TRACK_H

#include "virtq_ring.h"

/*
 * Theory of operation
 *
 * Few front-ends keep an in-flight region for a network device. Where there is none, the back-end
 * keeps one by itself, in a file that outlives it (lib/vhost_user/vu_state.h). It is laid out as the
 * front-end's (virtq_inflight.h), and its position is kept the same way. But no other back-end ever
 * reads it, so it may tell more, and nobody else writes to it.
 *
 * What it tells besides are chains whose buffers are lent (virtq_lend.h):
 *
 *   in order	everything from the used position to the one we have taken up to is in flight. That
 *		position is noted at the end of each burst (VIRTQ_TRACK_TAKEN).
 *
 *   overtaken	once later chains overtake, each chain that stays is marked, in the entry of its id.
 *		What we have taken up to is then the used position and all that is marked.
 *
 * Marks must change with the one store that publishes, and at no other moment. So chains that
 * a batch gives back are only announced before it (GOING), as those are that it lends (COMING), and
 * settled behind it. Whoever finds an announcement asks the ring whether the batch was published.
 * A burst that lends and gives nothing back marks its chains one by one in the order of the ring:
 * after each of them the sum is right.
 *
 * The next process gives back what is in flight, with nothing written, in one such batch: once, also
 * when it dies of that. Most of those packets were sent; those that were not are lost. What was taken
 * in the last burst and not noted yet is taken again: it was not sent, a burst notes before it returns.
 *
 * A driver that was reset while nobody was here must not be met with such a record. It has cleared its
 * ring. Of a packed one we note the descriptor that we used last: it must be as it was, or made
 * available anew. Of a split one the used index must be the one we wrote, and chains that are marked
 * must have the addresses they had.
 *
 * QEMU serves a ring whose back-end is gone by itself: it throws away what the guest sends. Of a
 * packed ring it does not know where we were. When its own position happens to be available, it
 * uses what it finds there, and the base it gives to the next process is another one than before.
 * Then all up to the old base is given back, and we go on at the new one.
 */

/** The chain's buffers are lent while others overtake. @param publishes its burst gives something back */
void virtq_track_lent(const struct virtq_view *v, const struct virtq_chain *chain, bool publishes);

/** A chain that was lent is about to be given back. */
void virtq_track_given(const struct virtq_view *v, uint16_t id);

/** What was announced has been published. */
void virtq_track_settle(const struct virtq_view *v);

/** Where we have taken up to. The end of a burst that lends. */
static inline void virtq_track_taken(const struct virtq *vq, const struct virtq_view *v)
{
	if (v->tracked)
		virtq_store((uint64_t *)v->inflight_ring, vq->avail);
}

/**
 * Go on by what the record says, if it is this ring's; else begin a new one at the position that
 * the ring has been given. True: it goes on, and the driver must be called. For virtq_inflight_start().
 */
bool virtq_track_start(struct virtq *vq, const struct virtq_view *v);

/* A descriptor of a packed ring that was used, the second half of it. */
struct virtq_track_last {
	uint16_t pos;
	uint64_t rest;
};

/** The last one of a batch that is about to be published; and note it, behind that. */
struct virtq_track_last virtq_track_last(const struct virtq *vq, const struct virtq_view *v);
void virtq_track_note(const struct virtq_view *v, struct virtq_track_last last);

/** Does the record tell of a ring that was not stopped? Control thread. */
bool virtq_track_tells(const void *part, bool packed);

#endif

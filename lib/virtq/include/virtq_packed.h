/* SPDX-License-Identifier: BSD-3-Clause */
/* The packed virtqueue: its verbs. */
#ifndef VIRTQ_PACKED_H
#define VIRTQ_PACKED_H

#include "virtq_inflight.h"
#include "virtq_ring.h"

/*
 * Theory of operation (virtio 1.2, section 2.8)
 *
 * One table for both sides: the driver marks a chain's first descriptor available last, we
 * overwrite it with a used descriptor and go on behind the whole chain. Whose a descriptor is say
 * two flags, compared with a counter that flips at each wrap of the ring. A position is index and
 * wrap counter in one word (bit 15), which is also how SET_VRING_BASE puts it. Any size will do.
 *
 * Length, id and flags of a descriptor are its second eight bytes: they are read and written at
 * once. So availability is decided on the same fetch as everything else, and a used descriptor
 * needs no barrier of its own. Fences, with their pairs in the driver:
 *
 *   C  acquire of a chain's first flags	the driver wrote the chain, then (release) the flags
 *   D  release of the burst's first flags	the driver goes through used descriptors one by one:
 *	behind that one it finds all the others
 *   E  full fence between D and reading whether the driver wants a call; the driver stores that it
 *	wants one, full fence, reads flags
 */

#define PACKED_WRAP  (1u << 15) /* in a position */
#define PACKED_INDEX 0x7fffu
#define PACKED_OWNER ((1u << VRING_PACKED_DESC_F_AVAIL) | (1u << VRING_PACKED_DESC_F_USED))

virtq_inline uint16_t packed_advance(uint16_t pos, uint16_t n, uint16_t num)
{
	uint32_t i = (pos & PACKED_INDEX) + n;

	if (i >= num)
		return (uint16_t)(((pos ^ PACKED_WRAP) & PACKED_WRAP) | (i - num));
	return (uint16_t)(pos + n);
}

/* What has been given and not published. */
enum packed_pending {
	PACKED_NOTHING,
	PACKED_PENDING,
	PACKED_TRACKED, /* and the in-flight region must know what it replaces */
};

/* How far from one position to a later one, at most a ring. */
virtq_inline uint16_t packed_distance(uint16_t from, uint16_t to, uint16_t num)
{
	uint16_t n = (uint16_t)((to & PACKED_INDEX) - (from & PACKED_INDEX));

	return (uint16_t)(((from ^ to) & PACKED_WRAP) ? n + num : n);
}

/* Made available to us in this round of the ring? */
virtq_inline bool packed_available(uint16_t flags, uint16_t pos)
{
	uint32_t avail = pos & PACKED_WRAP ? 1u << VRING_PACKED_DESC_F_AVAIL
					   : 1u << VRING_PACKED_DESC_F_USED;

	return (flags & PACKED_OWNER) == avail;
}

/* take() finds out on the descriptor itself: one look less. */
virtq_inline uint16_t packed_ready(struct virtq *vq, const struct virtq_view *v, uint16_t max)
{
	(void)vq, (void)v;
	return max;
}

/*
 * Descriptors are read and overwritten. They lie side by side, but the guest has just written them, and the
 * CPU does not fetch lines early that it would have to take from another one. As many as the last
 * burst went through, so that a ring with little traffic does not take lines from under the driver.
 */
virtq_inline void packed_prefetch(struct virtq *vq, const struct virtq_view *v, uint16_t n)
{
	const uint32_t line = 64 / sizeof(struct vring_packed_desc), at = vq->avail & PACKED_INDEX;
	uint16_t moved = packed_distance(vq->avail_seen, vq->avail, v->num);

	vq->avail_seen = vq->avail;
	for (uint32_t i = line; i < n && i < moved; i += line)
		virtq_prefetch_write(&v->desc[at + i < v->num ? at + i : at + i - v->num]);
}

/* The head at our position. False if the driver has not made it available. */
virtq_inline bool packed_head(
	const struct virtq *vq, const struct virtq_view *v, struct virtq_desc *head)
{
	const uint64_t *raw = (const uint64_t *)&v->desc[vq->avail & PACKED_INDEX];
	uint64_t rest = virtq_load_acquire(&raw[1]); /* C */

	*head = virtq_desc_of(0, rest, true);
	if (!packed_available(head->flags, vq->avail))
		return false;
	head->addr = virtq_load(&raw[0]);
	return true;
}

virtq_inline bool packed_take(struct virtq *vq, const struct virtq_view *v, enum virtq_dir dir,
	struct virtq_segs *segs, struct virtq_chain *chain)
{
	struct virtq_desc head;

	if (!packed_head(vq, v, &head) ||
		!virtq_take_at(vq, v, head, vq->avail & PACKED_INDEX, dir, segs, chain, true))
		return false;
	virtq_move(&vq->avail, packed_advance(vq->avail, chain->ndesc, v->num));
	return true;
}

virtq_inline void packed_untake(
	struct virtq *vq, const struct virtq_view *v, const struct virtq_chain *chain)
{
	(void)v;
	virtq_move(&vq->avail, chain->pos);
}

virtq_inline bool packed_skip(
	struct virtq *vq, const struct virtq_view *v, struct virtq_chain *chain)
{
	uint16_t at = vq->avail & PACKED_INDEX;
	struct virtq_desc d;

	if (!packed_head(vq, v, &d))
		return false;
	for (chain->ndesc = 1; d.flags & VRING_DESC_F_NEXT; chain->ndesc++) {
		if (chain->ndesc == v->num) {
			virtq_park(vq, VIRTQ_FAULT_LOOP);
			return false;
		}
		at = (uint16_t)(at + 1 == v->num ? 0 : at + 1);
		d = virtq_desc_fetch(&v->desc[at], true);
	}
	chain->id = d.link;
	virtq_move(&vq->avail, packed_advance(vq->avail, chain->ndesc, v->num));
	return true;
}

virtq_inline void packed_give(struct virtq *vq, const struct virtq_view *v,
	const struct virtq_chain *chain, uint32_t written)
{
	uint16_t at = vq->used & PACKED_INDEX;
	uint64_t flags =
		(vq->used & PACKED_WRAP ? PACKED_OWNER : 0) | (written ? VRING_DESC_F_WRITE : 0);
	uint64_t rest = written | (uint64_t)chain->id << 32 | flags << 48;

	if (virtq_likely(vq->pending == PACKED_PENDING)) {
		virtq_store((uint64_t *)&v->desc[at] + 1, rest);
	} else if (vq->pending == PACKED_TRACKED) {
		virtq_inflight_keep(v, at);
		virtq_store_release((uint64_t *)&v->desc[at] + 1, rest);
	} else {
		vq->pending = v->inflight_ring ? PACKED_TRACKED : PACKED_PENDING;
		vq->head_at = at;
		vq->head_rest = rest;
	}
	virtq_move(&vq->used, packed_advance(vq->used, chain->ndesc, v->num));
}

virtq_inline bool packed_wants_call(struct virtq *vq, const struct virtq_view *v)
{
	uint32_t event = virtq_load((const uint32_t *)v->driver);
	uint16_t moved = packed_distance(vq->called, vq->used, v->num);
	uint16_t now = vq->used & PACKED_INDEX, at = event & PACKED_INDEX;

	vq->called = vq->used;
	switch (event >> 16 & 3) {
	case VRING_PACKED_EVENT_FLAG_DISABLE:
		return false;
	case VRING_PACKED_EVENT_FLAG_DESC:
		if (!v->event_idx)
			return true;
		if ((event ^ vq->used) & PACKED_WRAP)
			at = (uint16_t)(at - v->num);
		return virtq_event_due(vq, at, now, (uint16_t)(now - moved));
	default:
		return true;
	}
}

virtq_inline bool packed_show(struct virtq *vq, const struct virtq_view *v)
{
	vq->pending = PACKED_NOTHING;
	if (virtq_likely(!v->inflight_ring))
		virtq_store_release((uint64_t *)&v->desc[vq->head_at] + 1, vq->head_rest); /* D */
	else
		virtq_inflight_publish(vq, v);
	if (v->call_fd < 0) {
		/* Nobody was called, so the next call cannot be reckoned from the last. */
		vq->called_valid = false;
		return false;
	}
	virtq_fence_full(); /* E */
	return packed_wants_call(vq, v);
}

virtq_inline void packed_publish(struct virtq *vq, const struct virtq_view *v)
{
	if (packed_show(vq, v))
		virtq_call(vq, v);
}

static const struct virtq_ops virtq_packed_ops = {
	.ready = packed_ready,
	.prefetch = packed_prefetch,
	.take = packed_take,
	.untake = packed_untake,
	.skip = packed_skip,
	.give = packed_give,
	.show = packed_show,
	.publish = packed_publish,
};

#endif

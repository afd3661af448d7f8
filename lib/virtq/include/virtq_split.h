/* SPDX-License-Identifier: BSD-3-Clause */
/* The split virtqueue: its verbs. */
#ifndef VIRTQ_SPLIT_H
#define VIRTQ_SPLIT_H

#include <string.h>

#include "virtq_inflight.h"
#include "virtq_ring.h"

/*
 * Theory of operation (virtio 1.2, section 2.7)
 *
 * avail->idx and the entries before it belong to us until we publish used->idx behind
 * them. Fences, with their pairs in the driver:
 *
 *   C  acquire of avail->idx	  the driver wrote descriptors, then (release) the index
 *   D  release of used->idx	  the driver reads the index, then (acquire) the entries
 *   E  full fence between storing used->idx and reading whether the driver wants a call;
 *	the driver stores that it wants one, full fence, reads used->idx
 */

virtq_inline uint16_t split_ready(struct virtq *vq, const struct virtq_view *v, uint16_t max)
{
	uint16_t n = (uint16_t)(vq->avail_seen - vq->avail);

	if (n < max) {
		vq->avail_seen = virtq_load_acquire(&v->avail->idx); /* C */
		n = (uint16_t)(vq->avail_seen - vq->avail);
		if (virtq_unlikely(n > v->num)) {
			vq->avail_seen = vq->avail;
			virtq_park(vq, VIRTQ_FAULT_AVAIL_JUMP);
			return 0;
		}
	}
	return n < max ? n : max;
}

/* Available entries come a line at a time with the first one that is read; the descriptors they
 * name may lie anywhere. Heads are not checked: a prefetch reads nothing. */
virtq_inline void split_prefetch(struct virtq *vq, const struct virtq_view *v, uint16_t n)
{
	uint16_t mask = (uint16_t)(v->num - 1);

	for (uint16_t i = 0; i < n; i++)
		__builtin_prefetch(&v->desc[virtq_load(&v->avail->ring[(vq->avail + i) & mask])]);
	for (uint16_t i = 0; i < n; i += 64 / sizeof(struct vring_used_elem))
		virtq_prefetch_write(&v->used->ring[(vq->used + i) & mask]);
}

virtq_inline uint16_t split_head(const struct virtq *vq, const struct virtq_view *v)
{
	return virtq_load(&v->avail->ring[vq->avail & (v->num - 1)]);
}

virtq_inline bool split_take(struct virtq *vq, const struct virtq_view *v, enum virtq_dir dir,
	struct virtq_segs *segs, struct virtq_chain *chain)
{
	uint16_t head = split_head(vq, v);

	if (virtq_unlikely(head >= v->num)) {
		virtq_park(vq, VIRTQ_FAULT_BAD_INDEX);
		return false;
	}
	chain->id = head;
	if (!virtq_take_at(
		    vq, v, virtq_desc_fetch(&v->desc[head], false), head, dir, segs, chain, false))
		return false;
	virtq_move(&vq->avail, (uint16_t)(vq->avail + 1));
	return true;
}

virtq_inline void split_untake(
	struct virtq *vq, const struct virtq_view *v, const struct virtq_chain *chain)
{
	(void)v;
	virtq_move(&vq->avail, chain->pos);
}

virtq_inline bool split_skip(
	struct virtq *vq, const struct virtq_view *v, struct virtq_chain *chain)
{
	if (split_ready(vq, v, 1) == 0)
		return false;
	chain->id = split_head(vq, v);
	chain->ndesc = 1;
	virtq_move(&vq->avail, (uint16_t)(vq->avail + 1));
	return true;
}

virtq_inline void split_give(struct virtq *vq, const struct virtq_view *v,
	const struct virtq_chain *chain, uint32_t written)
{
	/* Both at once; not aligned to their eight bytes. */
	const uint64_t e = chain->id | (uint64_t)written << 32;

	memcpy(&v->used->ring[vq->used & (v->num - 1)], &e, sizeof(e));
	virtq_move(&vq->used, (uint16_t)(vq->used + 1));
}

virtq_inline bool split_wants_call(struct virtq *vq, const struct virtq_view *v)
{
	uint16_t event;
	bool want;

	if (!v->event_idx)
		return !(virtq_load(&v->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	event = virtq_load(&v->avail->ring[v->num]);
	want = virtq_event_due(vq, event, vq->used, vq->called);
	vq->called = vq->used;
	return want;
}

virtq_inline bool split_show(struct virtq *vq, const struct virtq_view *v)
{
	if (virtq_likely(!v->inflight_ring))
		virtq_store_release(&v->used->idx, vq->used); /* D */
	else
		virtq_inflight_publish(vq, v);
	if (v->call_fd < 0) {
		/* Nobody was called, so the next call cannot be reckoned from the last. */
		vq->called_valid = false;
		return false;
	}
	virtq_fence_full(); /* E */
	return split_wants_call(vq, v);
}

virtq_inline void split_publish(struct virtq *vq, const struct virtq_view *v)
{
	if (split_show(vq, v))
		virtq_call(vq, v);
}

static const struct virtq_ops virtq_split_ops = {
	.ready = split_ready,
	.prefetch = split_prefetch,
	.take = split_take,
	.untake = split_untake,
	.skip = split_skip,
	.give = split_give,
	.show = split_show,
	.publish = split_publish,
};

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* The split virtqueue: its verbs and the walk along a descriptor chain. */
#ifndef VIRTQ_SPLIT_H
#define VIRTQ_SPLIT_H

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
 *
 * Guest memory is read through virtq_load() once per field; each descriptor is copied
 * into a local before any of it is checked.
 */

/* The walk lives here and only here: direct chains, indirect tables, both directions. */
struct split_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

virtq_inline struct split_desc split_desc_fetch(const struct vring_desc *d)
{
	const uint64_t *raw = (const uint64_t *)d;
	uint64_t lo = virtq_load(&raw[0]);
	uint64_t hi = virtq_load(&raw[1]);

	return (struct split_desc){lo, (uint32_t)hi, (uint16_t)(hi >> 32), (uint16_t)(hi >> 48)};
}

/**
 * Walk an indirect table, which ends the chain.
 * Out of line: the direct walk must stay small.
 */
enum virtq_fault virtq_walk_indirect(const struct virtq_view *v, struct split_desc table,
	enum virtq_dir dir, struct virtq_segs *segs, uint64_t *bytes);

virtq_inline enum virtq_fault split_desc_add(const struct virtq_view *v, struct split_desc d,
	enum virtq_dir dir, struct virtq_segs *segs, uint64_t *bytes)
{
	if (virtq_unlikely(!(d.flags & VRING_DESC_F_WRITE) != (dir == VIRTQ_FROM_GUEST)))
		return VIRTQ_FAULT_BAD_DIRECTION;
	*bytes += d.len;
	return virtq_segs_add(v->mem, segs, d.addr, d.len);
}

virtq_inline enum virtq_fault split_walk(const struct virtq_view *v, uint16_t head,
	enum virtq_dir dir, struct virtq_segs *segs, uint64_t *bytes)
{
	uint32_t budget = v->num;
	uint16_t i = head;

	for (;;) {
		struct split_desc d;
		enum virtq_fault fault;

		if (virtq_unlikely(i >= v->num))
			return VIRTQ_FAULT_BAD_INDEX;
		d = split_desc_fetch(&v->desc[i]);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			/* A variable of its own, or *bytes could not stay in a register. */
			uint64_t all = *bytes;

			fault = virtq_walk_indirect(v, d, dir, segs, &all);
			*bytes = all;
			return fault;
		}
		fault = split_desc_add(v, d, dir, segs, bytes);
		if (virtq_unlikely(fault))
			return fault;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return VIRTQ_FAULT_NONE;
		if (virtq_unlikely(--budget == 0))
			return VIRTQ_FAULT_LOOP;
		if (virtq_unlikely(segs->links++ == VIRTQ_LINKS))
			return VIRTQ_FAULT_TOO_LONG;
		i = d.next;
	}
}

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
virtq_inline void split_prefetch(const struct virtq *vq, const struct virtq_view *v, uint16_t n)
{
	uint16_t mask = (uint16_t)(v->num - 1);

	for (uint16_t i = 0; i < n; i++)
		__builtin_prefetch(&v->desc[virtq_load(&v->avail->ring[(vq->avail + i) & mask])]);
	for (uint16_t i = 0; i < n; i += 64 / sizeof(struct vring_used_elem))
		virtq_prefetch_write(&v->used->ring[(vq->used + i) & mask]);
}

virtq_inline bool split_take(struct virtq *vq, const struct virtq_view *v, enum virtq_dir dir,
	struct virtq_segs *segs, struct virtq_chain *chain)
{
	uint16_t mask = (uint16_t)(v->num - 1);
	uint16_t head = virtq_load(&v->avail->ring[vq->avail & mask]);
	uint32_t first = segs->n;
	uint64_t bytes = 0;
	enum virtq_fault fault;

	chain->seg = &segs->seg[first];
	chain->id = head;
	chain->ndesc = 1;
	fault = split_walk(v, head, dir, segs, &bytes);

	if (virtq_unlikely(bytes > UINT32_MAX) && !fault)
		fault = VIRTQ_FAULT_TOO_MANY_BYTES;
	if (dir == VIRTQ_TO_GUEST && virtq_unlikely(bytes == 0) && !fault)
		fault = VIRTQ_FAULT_EMPTY;
	if (virtq_unlikely(fault)) {
		segs->n = first;
		segs->full = fault == VIRTQ_FAULT_TOO_LONG;
		if (!segs->full)
			virtq_park(vq, fault);
		return false;
	}
	chain->nseg = (uint16_t)(segs->n - first);
	chain->len = (uint32_t)bytes;
	virtq_store(&vq->avail, (uint16_t)(vq->avail + 1));
	return true;
}

virtq_inline void split_untake(struct virtq *vq, const struct virtq_view *v, uint16_t n)
{
	(void)v;
	virtq_store(&vq->avail, (uint16_t)(vq->avail - n));
}

virtq_inline void split_give(struct virtq *vq, const struct virtq_view *v,
	const struct virtq_chain *chain, uint32_t written)
{
	struct vring_used_elem *e = &v->used->ring[vq->used & (v->num - 1)];

	virtq_store(&e->id, chain->id);
	virtq_store(&e->len, written);
	virtq_store(&vq->used, (uint16_t)(vq->used + 1));
}

virtq_inline bool split_wants_call(struct virtq *vq, const struct virtq_view *v)
{
	uint16_t event;
	bool want;

	if (!v->event_idx)
		return !(virtq_load(&v->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	event = virtq_load(&v->avail->ring[v->num]);
	want = !vq->called_valid || vring_need_event(event, vq->used, vq->called);
	vq->called = vq->used;
	vq->called_valid = true;
	return want;
}

virtq_inline void split_publish(struct virtq *vq, const struct virtq_view *v)
{
	virtq_store_release(&v->used->idx, vq->used); /* D */
	if (v->call_fd < 0) {
		/* Nobody was called, so the next call cannot be reckoned from the last. */
		vq->called_valid = false;
		return;
	}
	virtq_fence_full(); /* E */
	if (split_wants_call(vq, v))
		virtq_call(vq, v);
}

static const struct virtq_ops virtq_split_ops = {
	.ready = split_ready,
	.prefetch = split_prefetch,
	.take = split_take,
	.untake = split_untake,
	.give = split_give,
	.publish = split_publish,
};

#endif

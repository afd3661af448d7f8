/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver's half of a virtqueue whose chains are one descriptor each, for a polling guest. */
#ifndef LEAN_RING_H
#define LEAN_RING_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include <linux/virtio_net.h>

#include "ts_ring.h"

/*
 * Theory of operation
 *
 * Identifiers are handed out in a circle, in the order in which they came back. A device that
 * negotiated IN_ORDER may say only the last of a batch: on a split ring it moves the index over
 * all of them, on a packed one the entry of the first has the identifier of the last. Nobody wants calls; a
 * device that wants kicks gets one for each publication.
 */

#define LEAN_HDR sizeof(struct virtio_net_hdr_v1)

struct lean_ring {
	struct ts_ring *ring;
	uint32_t num, mask;
	bool packed, in_order;
	uint32_t room;  /* entries that are free */
	uint16_t added; /* split: index; packed: entry */
	uint16_t used;  /* likewise */
	uint16_t avail_bits, used_bits;
	uint16_t upto; /* in order: split: the device's index; packed: the last one's identifier */
	bool within;   /* packed, in order: before `upto` */
	bool unpublished;
	uint16_t first, last; /* of the identifiers that are free, in their circle */
	uint16_t *ids;
	uint8_t **buffers; /* by identifier */
};

static inline int lean_ring_init(struct lean_ring *r, struct ts_ring *ring)
{
	*r = (struct lean_ring){.ring = ring,
		.num = ring->size,
		.mask = ring->size - 1,
		.packed = ring->pdesc != NULL,
		.in_order = ring->features & TS_BIT(VIRTIO_F_IN_ORDER),
		.room = ring->size,
		.avail_bits = ts_packed_avail_bits(true),
		.used_bits = ts_packed_used_bits(true),
		.ids = calloc(ring->size, sizeof(*r->ids)),
		.buffers = calloc(ring->size, sizeof(*r->buffers))};
	if (!r->ids || !r->buffers)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->num; i++)
		r->ids[i] = (uint16_t)i;
	ts_ring_disable_cb(ring);
	return 0;
}

static inline void lean_ring_fini(struct lean_ring *r)
{
	free(r->ids);
	free(r->buffers);
}

/** Put a buffer into the ring, which has room for it; packed rings show it at once. */
static inline void lean_ring_add(
	struct lean_ring *r, uint8_t *buffer, const uint8_t *data, uint32_t len, uint16_t flags)
{
	struct ts_region *memory = &r->ring->guest->r[0];
	uint64_t gpa = memory->gpa + (uint64_t)(data - memory->va);
	uint16_t id = r->ids[r->first++ & r->mask];

	r->buffers[id] = buffer;
	r->room--;
	r->unpublished = true;
	if (r->packed) {
		struct vring_packed_desc *d = &r->ring->pdesc[r->added];

		d->addr = gpa;
		/* len, id and flags together */
		__atomic_store_n((uint64_t *)&d->len,
			len | (uint64_t)id << 32 | (uint64_t)(flags | r->avail_bits) << 48,
			__ATOMIC_RELEASE);
		if (++r->added == r->num) {
			r->added = 0;
			r->avail_bits ^= TS_PACKED_BITS;
		}
		return;
	}
	r->ring->desc[id] = (struct vring_desc){gpa, len, flags, 0};
	r->ring->avail->ring[r->added++ & r->mask] = id;
}

static inline void lean_ring_publish(struct lean_ring *r)
{
	uint16_t flags;

	if (!r->unpublished)
		return;
	r->unpublished = false;
	if (!r->packed)
		__atomic_store_n(&r->ring->avail->idx, r->added, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	flags = r->packed ? r->ring->device->flags ^ VRING_PACKED_EVENT_FLAG_DISABLE
			  : !(r->ring->used->flags & VRING_USED_F_NO_NOTIFY);
	if (flags)
		eventfd_write(r->ring->kick_fd, 1);
}

/* The identifier of what came back is free; its buffer is the caller's. */
static inline uint8_t *lean_ring_done(struct lean_ring *r, uint16_t id)
{
	r->ids[r->last++ & r->mask] = id;
	r->room++;
	return r->buffers[id];
}

/* What came back next, or -1. A device that says an identifier there is none of ends us: it is no attacker. */
static inline int32_t lean_ring_next(struct lean_ring *r, uint32_t *len)
{
	uint64_t word;
	uint32_t id;

	if (r->packed) {
		struct vring_packed_desc *d = &r->ring->pdesc[r->used];

		if (!r->within) {
			word = __atomic_load_n((uint64_t *)&d->len, __ATOMIC_ACQUIRE);
			if ((word >> 48 & TS_PACKED_BITS) != r->used_bits)
				return -1;
			*len = (uint32_t)word;
			r->upto = (uint16_t)(word >> 32);
		}
		id = r->in_order ? r->ids[r->last & r->mask] : r->upto;
		r->within = id != r->upto;
		if (++r->used == r->num) {
			r->used = 0;
			r->used_bits ^= TS_PACKED_BITS;
		}
	} else {
		struct vring_used_elem *e = &r->ring->used->ring[r->used & r->mask];

		if (r->used == r->upto) {
			r->upto = __atomic_load_n(&r->ring->used->idx, __ATOMIC_ACQUIRE);
			if (r->used == r->upto)
				return -1;
		}
		id = r->in_order ? r->ids[r->last & r->mask] : e->id;
		*len = e->len;
		r->used++;
	}
	if (id > r->mask)
		abort();
	return (int32_t)id;
}

/** A buffer the device is done with; it has written `*len` bytes, a header among them. NULL when there is none. */
static inline uint8_t *lean_ring_take(struct lean_ring *r, uint32_t *len)
{
	int32_t id = lean_ring_next(r, len);

	return id < 0 ? NULL : lean_ring_done(r, (uint16_t)id);
}

#endif

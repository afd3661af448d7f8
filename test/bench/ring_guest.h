/* SPDX-License-Identifier: BSD-3-Clause */
/* The simplest guest there is: a ring whose buffer i has descriptor i, offered in this order for ever. */
#ifndef BENCH_RING_GUEST_H
#define BENCH_RING_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#include "virtq.h"

#define HDR sizeof(struct virtio_net_hdr_v1)

struct ring_guest {
	/* what is wanted */
	uint16_t num;  /* entries, a power of two */
	uint32_t room; /* of a buffer, for a frame */
	uint32_t size; /* of what it sends; 0: nothing, we send to it */
	bool packed, mergeable;

	/* what there is */
	struct virtq *vq;
	struct virtq_view *view;
	struct vring_desc *desc; /* packed: struct vring_packed_desc */
	uint16_t *avail;
	uint8_t *used;
	uint8_t *buffers;
	uint32_t stride; /* odd, in lines, lest all headers share a few sets of the cache */

	_Alignas(64) uint32_t offered; /* chains so far */
};

/** A view of its ring, stopped; dies when memory is short. The burst is the caller's to choose. */
struct virtq_view ring_guest_init(struct ring_guest *g);

/** Run with this view. Nothing is offered yet. */
void ring_guest_start(struct ring_guest *g, const struct virtq_view *view);

void ring_guest_fini(struct ring_guest *g);

/** Make the next n buffers available. */
void ring_guest_offer(struct ring_guest *g, uint32_t n);

/** Where chain i has its header; the frame is behind it, at the beginning of a line. */
static inline uint8_t *ring_guest_buffer(const struct ring_guest *g, uint32_t i)
{
	return g->buffers + (size_t)(i % g->num) * g->stride + 128 - HDR;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* What a ring format must be able to do, and the one way to gather a chain's memory. */
#ifndef VIRTQ_RING_H
#define VIRTQ_RING_H

#include "virtq.h"

#define virtq_inline static inline __attribute__((always_inline))

/* A piece of a buffer, in our addresses, contiguous and inside guest memory. */
struct virtq_seg {
	uint8_t *va;
	uint32_t len;
};

/* One descriptor chain, walked. */
struct virtq_chain {
	struct virtq_seg *seg;
	uint32_t len; /* bytes in all segments */
	uint16_t nseg;
	uint16_t id;    /* what the used entry must carry */
	uint16_t ndesc; /* ring entries it occupies (packed rings) */
};

/* Where a burst collects the segments of all its chains. On the lcore's stack: hot in its
 * cache whichever ring is polled. */
struct virtq_segs {
	uint32_t n;
	uint32_t links; /* steps along chains so far, up to VIRTQ_LINKS */
	bool full;      /* a chain did not fit: not wrong, unless it was the first */
	uint32_t hint;  /* last memory span, see virtq_mem_gpa() */
	struct virtq_seg seg[VIRTQ_SEGS];
};

enum virtq_dir {
	VIRTQ_FROM_GUEST,
	VIRTQ_TO_GUEST
};

/*
 * The verbs. A burst function names one constant struct of these, so each call is
 * inlined; test/style/inlined looks at the object code.
 *
 *   ready	how many chains the driver has made available, at most max
 *   prefetch	start fetching what take() and give() of the next n chains touch; n is what
 *		ready() said
 *   take	walk the next chain; false if there is no room (segs->full), or the ring got
 *		parked
 *   untake	put the last n chains taken (and not given) back
 *   give	hand a chain back with the bytes written to it; not yet visible to the driver
 *   publish	make all that was given visible and call the driver if it asked to be
 */
struct virtq_ops {
	uint16_t (*ready)(struct virtq *vq, const struct virtq_view *v, uint16_t max);
	void (*prefetch)(const struct virtq *vq, const struct virtq_view *v, uint16_t n);
	bool (*take)(struct virtq *vq, const struct virtq_view *v, enum virtq_dir dir,
		struct virtq_segs *segs, struct virtq_chain *chain);
	void (*untake)(struct virtq *vq, const struct virtq_view *v, uint16_t n);
	void (*give)(struct virtq *vq, const struct virtq_view *v, const struct virtq_chain *chain,
		uint32_t written);
	void (*publish)(struct virtq *vq, const struct virtq_view *v);
};

virtq_inline void virtq_segs_begin(struct virtq_segs *segs)
{
	segs->n = segs->links = segs->hint = 0;
	segs->full = false;
}

/* A descriptor that crosses memory regions: more than one segment. Out of line. */
enum virtq_fault virtq_segs_add_slow(
	const struct virtq_mem *mem, struct virtq_segs *segs, uint64_t gpa, uint32_t len);

/* Translate one descriptor's buffer and append it. An empty one adds nothing and its
 * address is not looked at. */
virtq_inline enum virtq_fault virtq_segs_add(
	const struct virtq_mem *mem, struct virtq_segs *segs, uint64_t gpa, uint32_t len)
{
	uint64_t part = len;
	uint8_t *va;

	if (virtq_unlikely(len == 0))
		return VIRTQ_FAULT_NONE;
	if (virtq_unlikely(segs->n == VIRTQ_SEGS))
		return VIRTQ_FAULT_TOO_LONG;
	va = virtq_mem_gpa(mem, &segs->hint, gpa, &part);
	if (virtq_unlikely(!va))
		return VIRTQ_FAULT_BAD_ADDRESS;
	if (virtq_unlikely(part != len))
		return virtq_segs_add_slow(mem, segs, gpa, len);
	segs->seg[segs->n++] = (struct virtq_seg){va, len};
	return VIRTQ_FAULT_NONE;
}

/* Signal the guest. Non-blocking: a full counter means it has not even looked at the
 * last one. */
void virtq_call(struct virtq *vq, const struct virtq_view *v);

#endif

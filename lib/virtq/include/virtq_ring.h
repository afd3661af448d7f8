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
	uint16_t pos;   /* where we were before it was taken */
};

/* A descriptor, fetched: what both formats have. */
struct virtq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t link; /* split: the next one's index; packed: the buffer's id */
};

/* Where a burst collects the segments of all its chains. On the lcore's stack: hot in its
 * cache whichever ring is polled. */
struct virtq_segs {
	uint32_t n;
	uint32_t links;    /* steps along chains so far, up to VIRTQ_LINKS */
	bool full;         /* a chain did not fit: not wrong, unless it was the first */
	uint32_t hint;     /* last memory span, see virtq_mem_gpa() */
	uint64_t miss;     /* VIRTQ_MISS: what was not found, */
	uint8_t miss_perm; /* and what for */
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
 *   ready	how many chains the driver may have made available, at most max; 0: none
 *   prefetch	start fetching what take() and give() of the next n chains touch; n is what
 *		ready() said
 *   take	walk the next chain; false if there is none, no room (segs->full), or the ring
 *		got parked
 *   untake	put a chain and all that were taken after it (none of them given) back
 *   skip	take the next chain without looking into its buffers; false if there is none, or
 *		the ring got parked
 *   give	hand a chain back with the bytes written to it; not yet visible to the driver
 *   show	make all that was given visible; true: the driver asked to be called for it
 *   publish	show, and call the driver if it asked for it
 */
struct virtq_ops {
	uint16_t (*ready)(struct virtq *vq, const struct virtq_view *v, uint16_t max);
	void (*prefetch)(struct virtq *vq, const struct virtq_view *v, uint16_t n);
	bool (*take)(struct virtq *vq, const struct virtq_view *v, enum virtq_dir dir,
		struct virtq_segs *segs, struct virtq_chain *chain);
	void (*untake)(
		struct virtq *vq, const struct virtq_view *v, const struct virtq_chain *chain);
	bool (*skip)(struct virtq *vq, const struct virtq_view *v, struct virtq_chain *chain);
	void (*give)(struct virtq *vq, const struct virtq_view *v, const struct virtq_chain *chain,
		uint32_t written);
	bool (*show)(struct virtq *vq, const struct virtq_view *v);
	void (*publish)(struct virtq *vq, const struct virtq_view *v);
};

virtq_inline void virtq_segs_begin(struct virtq_segs *segs)
{
	segs->n = segs->links = segs->hint = 0;
	segs->full = false;
}

/* ---- taking a chain: here, and the walk in virtq.c, for both formats ---- */

/* One fetch: what is checked is what is used. */
virtq_inline struct virtq_desc virtq_desc_of(uint64_t addr, uint64_t rest, const bool packed)
{
	uint16_t third = (uint16_t)(rest >> 32), fourth = (uint16_t)(rest >> 48);

	return (struct virtq_desc){
		addr, (uint32_t)rest, packed ? fourth : third, packed ? third : fourth};
}

virtq_inline struct virtq_desc virtq_desc_fetch(const void *d, const bool packed)
{
	const uint64_t *raw = d;
	uint64_t addr = virtq_load(&raw[0]);

	return virtq_desc_of(addr, virtq_load(&raw[1]), packed);
}

/**
 * Walk a chain, direct or indirect, and judge it. Out of line: most packets are one buffer.
 * @param d	its first descriptor, which has been fetched, and
 * @param i	its index
 * @return false if the chain was not taken
 */
bool virtq_walk(struct virtq *vq, const struct virtq_view *v, struct virtq_desc d, uint16_t i,
	enum virtq_dir dir, struct virtq_segs *segs, struct virtq_chain *chain);

/* A descriptor that is a chain by itself, in the right direction. */
virtq_inline bool virtq_desc_is_chain(struct virtq_desc d, enum virtq_dir dir)
{
	return (d.flags & (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)) ==
	       (dir == VIRTQ_TO_GUEST ? VRING_DESC_F_WRITE : 0);
}

/* What take() does once it has the head, which lies at i. */
virtq_inline bool virtq_take_at(struct virtq *vq, const struct virtq_view *v, struct virtq_desc d,
	uint16_t i, enum virtq_dir dir, struct virtq_segs *segs, struct virtq_chain *chain,
	const bool packed)
{
	const struct virtq_span *s = &v->mem->spans[segs->hint];
	const uint64_t off = d.addr - s->gpa;
	const uint32_t n = segs->n;

	chain->pos = vq->avail;
	if (packed)
		chain->id = d.link;
	/* A length of 0 is turned away by the wrap of the subtraction. */
	if (virtq_unlikely(!virtq_desc_is_chain(d, dir) || off >= s->size ||
			   d.len - 1ull >= s->size - off || n == VIRTQ_SEGS))
		return virtq_walk(vq, v, d, i, dir, segs, chain);
	segs->seg[n] = (struct virtq_seg){s->hva + off, d.len};
	segs->n = n + 1;
	chain->seg = &segs->seg[n];
	chain->len = d.len;
	chain->nseg = 1;
	chain->ndesc = 1;
	return true;
}

/* Does the driver want to be called for the position new, being at old when it was last asked? */
virtq_inline bool virtq_event_due(struct virtq *vq, uint16_t event, uint16_t new, uint16_t old)
{
	bool due = !vq->called_valid || vring_need_event(event, new, old);

	vq->called_valid = true;
	return due;
}

/* Signal the guest. A hostile front-end can have it sleep until control notices: with nothing of another guest's
 * held. Non-blocking: a full counter means it has not even looked at the
 * last one. */
void virtq_call(struct virtq *vq, const struct virtq_view *v);

#endif

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
 *   publish	make all that was given visible and call the driver if it asked to be
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
	void (*publish)(struct virtq *vq, const struct virtq_view *v);
};

virtq_inline void virtq_segs_begin(struct virtq_segs *segs)
{
	segs->n = segs->links = segs->hint = 0;
	segs->full = false;
}

/* What it means that an address is not in a table. Out of line. */
enum virtq_fault virtq_segs_unmapped(
	const struct virtq_mem *mem, struct virtq_segs *segs, uint64_t gpa);

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
		return virtq_segs_unmapped(mem, segs, gpa);
	if (virtq_unlikely(part != len))
		return virtq_segs_add_slow(mem, segs, gpa, len);
	segs->seg[segs->n++] = (struct virtq_seg){va, len};
	return VIRTQ_FAULT_NONE;
}

/* ---- the walk: here and only here, both formats, direct chains and indirect tables ---- */

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
 * Walk an indirect table, which ends the chain.
 * Out of line: the direct walk must stay small.
 */
enum virtq_fault virtq_walk_indirect(const struct virtq_view *v, struct virtq_desc table,
	enum virtq_dir dir, struct virtq_segs *segs, uint64_t *bytes);

virtq_inline enum virtq_fault virtq_desc_add(const struct virtq_view *v, struct virtq_desc d,
	enum virtq_dir dir, struct virtq_segs *segs, uint64_t *bytes)
{
	if (virtq_unlikely(!(d.flags & VRING_DESC_F_WRITE) != (dir == VIRTQ_FROM_GUEST)))
		return VIRTQ_FAULT_BAD_DIRECTION;
	*bytes += d.len;
	return virtq_segs_add(v->mem, segs, d.addr, d.len);
}

/* From the descriptor at index i on, which has been fetched. */
virtq_inline enum virtq_fault virtq_walk(const struct virtq_view *v, struct virtq_desc d,
	uint16_t i, enum virtq_dir dir, struct virtq_segs *segs, struct virtq_chain *chain,
	uint64_t *bytes, const bool packed)
{
	uint32_t budget = v->num;

	for (chain->ndesc = 1;; chain->ndesc++) {
		enum virtq_fault fault;

		if (packed)
			chain->id = d.link;
		if (d.flags & VRING_DESC_F_INDIRECT) {
			/* A variable of its own, or *bytes could not stay in a register. */
			uint64_t all = *bytes;

			fault = virtq_walk_indirect(v, d, dir, segs, &all);
			*bytes = all;
			return fault;
		}
		fault = virtq_desc_add(v, d, dir, segs, bytes);
		if (virtq_unlikely(fault))
			return fault;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return VIRTQ_FAULT_NONE;
		if (virtq_unlikely(--budget == 0))
			return VIRTQ_FAULT_LOOP;
		if (virtq_unlikely(segs->links++ >= VIRTQ_LINKS))
			return VIRTQ_FAULT_TOO_LONG;
		if (packed) {
			i = (uint16_t)(i + 1 == v->num ? 0 : i + 1);
		} else {
			i = d.link;
			if (virtq_unlikely(i >= v->num))
				return VIRTQ_FAULT_BAD_INDEX;
		}
		d = virtq_desc_fetch(&v->desc[i], packed);
	}
}

/* A chain could not be walked: park the ring, tell control of a miss, or note that there was no
 * room. Out of line. */
void virtq_walk_failed(struct virtq *vq, const struct virtq_view *v, struct virtq_segs *segs,
	enum virtq_fault fault);

/* What take() does once it has the head: walk, and judge. */
virtq_inline bool virtq_take_at(struct virtq *vq, const struct virtq_view *v,
	struct virtq_desc head, uint16_t i, enum virtq_dir dir, struct virtq_segs *segs,
	struct virtq_chain *chain, const bool packed)
{
	uint32_t first = segs->n;
	uint64_t bytes = 0;
	enum virtq_fault fault;

	chain->seg = &segs->seg[first];
	chain->pos = vq->avail;
	fault = virtq_walk(v, head, i, dir, segs, chain, &bytes, packed);

	if (virtq_unlikely(bytes > UINT32_MAX) && !fault)
		fault = VIRTQ_FAULT_TOO_MANY_BYTES;
	if (dir == VIRTQ_TO_GUEST && virtq_unlikely(bytes == 0) && !fault)
		fault = VIRTQ_FAULT_EMPTY;
	if (virtq_unlikely(fault)) {
		segs->n = first;
		virtq_walk_failed(vq, v, segs, fault);
		return false;
	}
	chain->nseg = (uint16_t)(segs->n - first);
	chain->len = (uint32_t)bytes;
	return true;
}

/* Does the driver want to be called for the position new, being at old when it was last asked? */
virtq_inline bool virtq_event_due(struct virtq *vq, uint16_t event, uint16_t new, uint16_t old)
{
	bool due = !vq->called_valid || vring_need_event(event, new, old);

	vq->called_valid = true;
	return due;
}

/* Signal the guest. Non-blocking: a full counter means it has not even looked at the
 * last one. */
void virtq_call(struct virtq *vq, const struct virtq_view *v);

#endif

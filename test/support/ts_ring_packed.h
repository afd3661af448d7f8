/* SPDX-License-Identifier: BSD-3-Clause */
/* Private to the packed driver's two files: its state, and counting places in the ring. */
#ifndef TS_RING_PACKED_H
#define TS_RING_PACKED_H

#include "ts_ring_impl.h"

struct buffer {
	void *token; /* NULL: not out */
	uint32_t writable;
	uint32_t n_desc;
	uint64_t chain; /* how many were added before it */
	uint64_t end;   /* place behind its last descriptor */
	struct ts_table table;
};

struct packed {
	struct ts_ring r;
	struct vring_packed_desc *shadow; /* by index, flags as published */
	struct buffer *buffers;           /* by id */
	uint16_t *free_ids;
	uint32_t n_ids;
	uint16_t *order; /* ids by chain, modulo size */
	uint64_t avail_next, avail_pub, avail_kicked, last_used;
	uint64_t chain_next, chain_pub, chain_done; /* the same in chains; done only IN_ORDER */
	uint64_t seen;                              /* at least so far has the device come */
	struct vring_packed_desc_event wish;        /* what is in the driver area */
	uint64_t event;                             /* wish.off_wrap as a place */
	uint64_t armed_at; /* where the device was just after that: what came before cannot call */
	bool cb_on;
	int batch; /* IN_ORDER: id that ends the batch being handed out, or -1 */
	uint32_t batch_len;
	bool audited; /* since something was last added */
	bool shuffle;
};

/* ---- places ---- */

static inline uint32_t ts_packed_index(const struct packed *p, uint64_t at)
{
	return (uint32_t)(at % p->r.size);
}

static inline bool ts_packed_wrap(const struct packed *p, uint64_t at)
{
	return !(at / p->r.size & 1);
}

/* As in half a base, and in an event's off_wrap. */
static inline uint16_t ts_packed_half(const struct packed *p, uint64_t at)
{
	return (uint16_t)(ts_packed_index(p, at) | (ts_packed_wrap(p, at) ? 1u << 15 : 0));
}

/* The first place in the first two rounds with this half of a base. */
static inline uint64_t ts_packed_place(const struct packed *p, uint32_t half)
{
	return (half & 0x7fff) + (half & 0x8000 ? 0 : p->r.size);
}

/* Does [old, now), at most a round, hold an event's place? Off by whole rounds of both wraps. */
static inline bool ts_packed_passed(
	const struct packed *p, uint64_t event, uint64_t old, uint64_t now)
{
	const uint64_t both = 2ull * p->r.size;

	return (event % both + both - old % both) % both < now - old;
}

/* Length, id and flags of a descriptor, as devices may read and write them: at once. */
static inline uint64_t *ts_packed_rest(struct vring_packed_desc *d)
{
	return (uint64_t *)d + 1;
}

/* ts_ring_packed_used.c: what the device gives back, and when it must say so */
bool ts_packed_more_used(const struct ts_ring *r);
void *ts_packed_get_used(struct ts_ring *r, uint32_t *len);
bool ts_packed_enable_cb(struct ts_ring *r, bool delayed);
void ts_packed_disable_cb(struct ts_ring *r);
bool ts_packed_call_due(const struct ts_ring *r);
void *ts_packed_detach(struct ts_ring *r);
uint32_t ts_packed_avail_pos(const struct ts_ring *r);
uint32_t ts_packed_used_pos(const struct ts_ring *r);

#endif

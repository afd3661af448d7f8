/* SPDX-License-Identifier: BSD-3-Clause */
/* Private to the ring formats: what their drivers do alike. */
#ifndef TS_RING_IMPL_H
#define TS_RING_IMPL_H

#include "ts_ring.h"

#define TS_RING_MAX 32768u

/** A chain as add() got it: `n` segments, the first `n_out` of them readable. */
struct ts_chain {
	const struct ts_seg *out, *in;
	unsigned n_out, n;
	uint64_t iova; /* added to every guest address the device is told */
};

static inline const struct ts_seg *ts_chain_seg(const struct ts_chain *c, unsigned i)
{
	return i < c->n_out ? &c->out[i] : &c->in[i - c->n_out];
}

/** The WRITE flag of segment i, and NEXT unless it is the last one. */
uint16_t ts_chain_flags(const struct ts_chain *c, unsigned i);

/** Bytes the device may write. */
uint32_t ts_chain_writable(const struct ts_chain *c);

/** An indirect table that is reused; all zeros: none yet. */
struct ts_table {
	uint64_t gpa;
	uint32_t cap; /* entries */
};

/** Where a table of `n` entries goes: where the test said, or `own`, made larger if need be. */
uint64_t ts_ring_table(struct ts_ring *r, struct ts_table *own, uint32_t n);

/** Aligned as the specification demands and no better, so that nobody relies on more. */
uint64_t ts_ring_alloc(struct ts_ring *r, uint64_t len, uint64_t align);

/** ids[i] = i, in random order if wished. */
void ts_ring_ids(uint16_t *ids, uint32_t n, bool shuffle);

/** What every format sets at creation. */
struct ts_ring ts_ring_begin(const struct ts_ring_ops *ops, const struct ts_ring_conf *conf);

#endif

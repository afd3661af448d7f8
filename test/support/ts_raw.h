/* SPDX-License-Identifier: BSD-3-Clause */
/* A driver without manners: descriptors written past the strict driver's bookkeeping. */
#ifndef TS_RAW_H
#define TS_RAW_H

#include "ts_ring.h"

/** Split: make a chain available that begins at this index, whatever it is. */
void ts_raw_offer(struct ts_ring *r, uint16_t head);

/**
 * Packed: write these descriptors from a position on (as in half a base: index, wrap counter in
 * bit 15) and make them available, the first one last. What `flags` says of AVAIL and USED is
 * flipped afterwards, so 0 makes a descriptor available as it should be.
 * Returns the position behind them; `n` may be larger than the ring.
 */
uint16_t ts_raw_put(struct ts_ring *r, uint16_t pos, const struct vring_packed_desc *d, unsigned n);

/** Packed: the position `n` descriptors (at most a ring) behind another one. */
uint16_t ts_raw_behind(const struct ts_ring *r, uint16_t pos, uint32_t n);

/**
 * Behind what was published, something no device can make sense of without looking at buffers:
 * split an available index beyond the ring, packed a chain that never ends. The ring must be
 * reset afterwards.
 */
void ts_raw_break(struct ts_ring *r);

#endif

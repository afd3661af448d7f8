/* SPDX-License-Identifier: BSD-3-Clause */
/* What virtq_inflight.c and virtq_track.c share: positions of packed rings, and undoing. */
#ifndef VIRTQ_RECORD_H
#define VIRTQ_RECORD_H

#include "virtq_inflight.h"
#include "virtq_packed.h"

/* Behind all that was stored before. */
void virtq_record_pos(struct virtq_inflight_packed *part, uint16_t used, uint16_t old);

/* Where the last batch of a dead process began and ended, and whether the driver has seen it. */
struct virtq_record_batch {
	uint16_t begin, end; /* the same: there was none */
	bool published;
};

/* False: the part makes no sense. */
bool virtq_record_batch(const struct virtq_view *v, const struct virtq_inflight_packed *part,
	struct virtq_record_batch *batch);

/* A chain's place gets back what was there before virtq_inflight_keep(). Returns what that is. */
struct virtq_desc virtq_record_restore(
	const struct virtq_view *v, const struct virtq_inflight_packed *part, uint16_t at);

/* Used in this round of the ring? */
static inline bool virtq_record_used(uint16_t flags, uint16_t pos)
{
	return (flags & PACKED_OWNER) == (pos & PACKED_WRAP ? PACKED_OWNER : 0);
}

#endif

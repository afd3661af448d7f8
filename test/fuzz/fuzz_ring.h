/* SPDX-License-Identifier: BSD-3-Clause */
/* What targets with a bare ring share: fenced guest memory, a view of it, and a burst whose promises are checked. */
#ifndef FUZZ_RING_H
#define FUZZ_RING_H

#include "fuzz.h"
#include "ts_guest.h"
#include "virtq_packed.h"
#include "virtq_split.h"

/*
 * The guest has three regions: the first begins with the descriptor table, the avail ring and the used
 * ring, or a packed ring and what it has of these; the second is its neighbour, the third lies behind a hole.
 * Pages that may not be touched (PROT_NONE) are around each, so that an access outside is a fault.
 */

enum fuzz_setting {
	TO_GUEST = 1 << 0,
	INDIRECT = 1 << 1,
	EVENT_IDX = 1 << 2,
	DISCARD = 1 << 3,
	/* the upper four bits: log2 of a split ring's size, above 8 the size of a packed one */
};

#define FUZZ_A_SIZE  0x4000u
#define FUZZ_B_SIZE  0x1000u
#define FUZZ_C_SIZE  0x1000u
#define FUZZ_REGIONS 3u

extern struct ts_guest *fuzz_guest;
extern struct virtq_mem *fuzz_mem; /* a table of it, onto the fenced mappings */
extern struct virtq *fuzz_vq;

void fuzz_ring_prepare(void);

/** Write the rest of an input to memory: where, how many bytes, the bytes. fuzz_load() clears it before. */
void fuzz_patch(struct fuzz_input *in);
void fuzz_load(struct fuzz_input *in);

struct virtq_view fuzz_view(uint8_t settings);

/** Both halves of a packed ring's base; lib/vhost_user sees to it that they are in the ring. */
uint32_t fuzz_base(const struct virtq_view *v, uint16_t base);

/** Whether this lies in one region. */
bool fuzz_in_guest(const uint8_t *va, uint64_t len);

/** Take what there is, use both ends of it, put some back and give back the rest.
 * @param back how many chains to put back, modulo what there is */
void fuzz_take_and_give(const struct virtq_view *v, enum virtq_dir dir, uint8_t back);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Offering chains no sane driver writes, in the layout of the column, and what becomes of them. */
#ifndef VQ_HOSTILE_H
#define VQ_HOSTILE_H

#include "ts_raw.h"
#include "vq.h"

#define VQ_TABLE_GPA 0x200000ull /* in VQ_RINGS, behind everything else */
#define W            VRING_DESC_F_WRITE
#define N            VRING_DESC_F_NEXT
#define I            VRING_DESC_F_INDIRECT

/** A descriptor as both formats have it; NEXT is added where the chain goes on. */
struct vq_part {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags;
};

/** Offer a chain of these: in the ring, or in an indirect table if the column is about those. */
void vq_offer(struct vq *t, const struct vq_part *part, unsigned n);

/** Write a table, as the format has it, to any address; it must be guest memory. */
void vq_write_table(struct vq *t, uint64_t gpa, const struct vq_part *part, unsigned n);

/** Offer one descriptor of the ring, whatever the column is about. */
void vq_offer_one(struct vq *t, uint64_t gpa, uint32_t len, uint16_t flags);

/** One burst with one chain. */
bool vq_walk(struct vq *t, enum virtq_dir dir, struct virtq_chain *chain);

/** What was offered is refused for this reason, without a trace; a restart of the ring mends it. */
void vq_refused(struct vq *t, enum virtq_dir dir, enum virtq_fault why);

/** What was offered has this many bytes in this many segments, all of them guest memory. */
void vq_accepted(struct vq *t, enum virtq_dir dir, uint32_t len, uint16_t nseg);

#define FOR_EACH_DIR(dir)                                                              \
	for (unsigned dir##_i = 0; dir##_i < 2; dir##_i++)                             \
		for (enum virtq_dir dir = dir##_i ? VIRTQ_TO_GUEST : VIRTQ_FROM_GUEST, \
				    *once_ = &dir;                                     \
			once_; once_ = NULL)

static inline uint16_t vq_flag_of(enum virtq_dir dir)
{
	return dir == VIRTQ_TO_GUEST ? W : 0;
}

#endif

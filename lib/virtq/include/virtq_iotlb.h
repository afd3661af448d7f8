/* SPDX-License-Identifier: BSD-3-Clause */
/* What the front-end told us of the guest's IOMMU: a bounded cache, and tables made of it. */
#ifndef VIRTQ_IOTLB_H
#define VIRTQ_IOTLB_H

#include <stdbool.h>

#include "virtq_mem.h"

/*
 * Theory of operation
 *
 * With VIRTIO_F_ACCESS_PLATFORM descriptors contain I/O addresses (IOVAs), and the front-end tells
 * us page by page where they are. The control thread keeps what it was told, sorted and bounded,
 * in a struct virtq_iotlb. Lcores never see that: they get memory tables (struct virtq_mem) like
 * any other, whose spans are keyed by IOVA and point into the guest's memory table, on which they
 * hold a reference. So the bursts are what they are without an IOMMU, and a changed cache is a new
 * table in a new view: once the gate has switched nobody uses what was invalidated.
 *
 * There are two tables of each state, one of what may be read and one of what may be written, and
 * nobody checks a permission: a ring the guest sends on looks up its buffers in the first, one it
 * receives on in the second.
 *
 * Entries that are contiguous in both address spaces become one, so that a ring of many pages is one
 * entry if its pages lie side by side. When the cache is full the one whose last virtq_iotlb_touch()
 * or update is the longest ago goes; it is asked for again when it is needed.
 */

/* Enough for 8 MiB in pieces of 4 KiB; DPDK's back-end has as many. */
#define VIRTQ_IOTLB_MAX 2048

struct virtq_iotlb; /* control thread */

/** An empty cache, or NULL without memory. */
struct virtq_iotlb *virtq_iotlb_new(void);
void virtq_iotlb_free(struct virtq_iotlb *tlb);

/**
 * Insert a translation; what it overlaps is replaced.
 *
 * @param guest	the guest's memory; the range must lie in one of its regions. Another one than
 *		that of the other entries only after virtq_iotlb_clear()
 * @param perm	enum virtq_perm, at least one
 * @param why	on failure one line saying what is wrong
 * @return 0 or -EINVAL
 *
 * vhost-user specification, "VHOST_IOTLB_UPDATE".
 */
int virtq_iotlb_update(struct virtq_iotlb *tlb, const struct virtq_mem *guest, uint64_t iova,
	uint64_t size, uint64_t uva, uint8_t perm, char *why, size_t why_len);

/**
 * Remove a range, which may cut entries; size 0, and what goes beyond the last address, means
 * until there.
 * @return whether anything was removed
 */
bool virtq_iotlb_invalidate(struct virtq_iotlb *tlb, uint64_t iova, uint64_t size);

void virtq_iotlb_clear(struct virtq_iotlb *tlb);

/** These entries are in use: let them stay. */
void virtq_iotlb_touch(struct virtq_iotlb *tlb, uint64_t iova, uint64_t size);

/** How many there are. */
uint32_t virtq_iotlb_count(const struct virtq_iotlb *tlb);

/** What is permitted at an address: enum virtq_perm, 0: it is not mapped. */
uint8_t virtq_iotlb_perm(const struct virtq_iotlb *tlb, uint64_t iova);

/**
 * Make the table of what may be read, or written. Tables made of the same state may share hints
 * (virtq_mem_gpa()).
 * @param guest	the guest's memory, that of the updates
 * @return a table with one reference, which the caller owns, or NULL without memory
 */
struct virtq_mem *virtq_iotlb_table(
	const struct virtq_iotlb *tlb, struct virtq_mem *guest, enum virtq_perm perm);

/**
 * Translate a range that must be contiguous in our memory, like a ring.
 * @param missing	the first address without translation, with -ENOENT
 * @return 0, -ENOENT, or -EFAULT: it is in pieces
 */
int virtq_iotlb_range(const struct virtq_mem *table, uint64_t iova, uint64_t len, uint8_t **va,
	uint64_t *missing);

#endif

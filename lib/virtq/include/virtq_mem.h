/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest's memory as the back-end sees it: an immutable, reference-counted table. */
#ifndef VIRTQ_MEM_H
#define VIRTQ_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtq_limits.h"
#include "virtq_order.h"

/*
 * Theory of operation
 *
 * A table is a value. SET_MEM_TABLE builds a whole new one beside the old, ADD_MEM_REG and
 * REM_MEM_REG one that has a region more or less and shares the others; only when every
 * region checked out and is mapped does anybody get to see it, and an error leaves the old
 * table untouched. Tables hold references on regions and views hold references on tables,
 * so a mapping goes away exactly when its last user is gone.
 *
 * Three address spaces meet here:
 *   gpa  guest physical: what descriptors contain
 *   uva  the front-end's virtual address: what SET_VRING_ADDR contains
 *   hva  ours, valid in this process
 *
 * There is no translation of an address alone: every one takes a length and says how
 * much of it is contiguous, because neighbours in gpa need not be neighbours in hva.
 *
 * A lookup first tries the region used last. Else an index over equal pieces of the guest's
 * address space tells which few regions to look at, so that its cost does not grow with
 * their number; in a piece that holds many there is a binary search.
 */

struct virtq_region; /* one mapping, private to virtq_mem.c */

/* What a device may do with guest memory; as the IOTLB messages have it. */
enum virtq_perm {
	VIRTQ_PERM_READ = 1,
	VIRTQ_PERM_WRITE = 2,
	VIRTQ_PERM_BOTH = 3
};

/* One region as lookups need it. */
struct virtq_span {
	uint64_t gpa; /* in a table made by virtq_iotlb_table(): the I/O address */
	uint64_t size;
	uint8_t *hva;
};

struct virtq_mem {
	uint32_t refs; /* any thread, atomic */
	uint32_t n;
	struct virtq_region **regions; /* by gpa, as spans */

	/* Piece i of the address space starts at spans[0].gpa + (i << shift), and the first
	 * span that reaches into it or lies behind it is first[i]. No pieces, no index. */
	uint32_t pieces;
	uint32_t shift;
	uint16_t *first; /* pieces + 1 of them, behind the spans */

	/* Of a table keyed by I/O addresses (virtq_iotlb.h): the guest's memory, a reference, and
	 * enum virtq_perm. NULL in the guest's own table. */
	struct virtq_mem *guest;
	uint8_t perm;

	struct virtq_span spans[]; /* n of them, then one of size 0 */
};

/* What was mapped, so that another process can map it, too. */
struct virtq_share {
	int fd; /* kept as long as the mapping; -1: there was no descriptor left for it */
	uint64_t offset, size;
};

/* What the front-end asks for: one row of SET_MEM_TABLE, or ADD_MEM_REG's. */
struct virtq_mem_req {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t mmap_offset;
	int fd; /* borrowed: not kept, not closed */
};

/**
 * Build a table from n requests.
 *
 * Checks count, sizes, overflow, overlap in guest and in front-end addresses, and that
 * each file is a regular one and long enough; maps what @old does not already map.
 *
 * @param old	table to share unchanged mappings with, or NULL
 * @param out	on success the new table with one reference, which the caller owns
 * @param why	on failure one line saying which region is wrong and how
 * @return 0, or -EINVAL (bad request), -EEXIST (a region is there twice), -ENOMEM, or mmap's
 *	   error
 *
 * Any thread. vhost-user specification, "Memory regions description".
 */
int virtq_mem_create(const struct virtq_mem_req *reqs, uint32_t n, const struct virtq_mem *old,
	struct virtq_mem **out, char *why, size_t why_len);

/**
 * Build a table that has one region more than another; the checks are virtq_mem_create()'s.
 *
 * @param old	table to share all regions with; NULL: there are none yet
 * @param out	on success the new table with one reference, which the caller owns
 * @param why	on failure one line; the new region has the number after the old ones'
 * @return 0, or -EINVAL (bad request, no slot left), -EEXIST (this very region is there),
 *	   -ENOMEM, or mmap's error
 *
 * Any thread. vhost-user specification, "VHOST_USER_ADD_MEM_REG".
 */
int virtq_mem_add(struct virtq_mem *old, const struct virtq_mem_req *req, struct virtq_mem **out,
	char *why, size_t why_len);

/**
 * Build a table without the region whose gpa, size and uva are all as in @req.
 *
 * @param old	table to share the other regions with, or NULL
 * @param out	on success the new table with one reference, which the caller owns; NULL after
 *		the last region
 * @return 0, -ENOENT (there is no such region) or -ENOMEM
 *
 * Any thread. vhost-user specification, "VHOST_USER_REM_MEM_REG".
 */
int virtq_mem_remove(struct virtq_mem *old, const struct virtq_mem_req *req, struct virtq_mem **out,
	char *why, size_t why_len);

struct virtq_mem *virtq_mem_get(struct virtq_mem *mem);

/** Drop a reference (NULL is fine); the last one unmaps. Not for lcores: it may munmap. */
void virtq_mem_put(struct virtq_mem *mem);

/** The table keyed by guest addresses. */
static inline const struct virtq_mem *virtq_mem_of_guest(const struct virtq_mem *mem)
{
	return mem->guest ? mem->guest : mem;
}

/** Has a page of it vanished (virtq_trap.h)? Any thread that has a reference. */
bool virtq_mem_gone(const struct virtq_mem *mem);

/** One region in full, for people: uva, size of the pages behind it. False past the end. */
struct virtq_region_info {
	uint64_t gpa, size, uva, page_size;
	const uint8_t *hva;
	void *map; /* all of it that is mapped: whole pages */
	uint64_t map_len;
	struct virtq_share share;
};
int virtq_mem_region(const struct virtq_mem *mem, uint32_t i, struct virtq_region_info *info);

/** Which file our address lies in, and where in it. False: in none. Control thread. */
bool virtq_mem_file(const struct virtq_mem *mem, const void *hva, uint64_t *dev, uint64_t *ino,
	uint64_t *offset);

/* Somebody who has to know when a region ends: its memory is known to devices, say. */
struct virtq_region_user {
	/** The region is about to be unmapped; this struct is the user's again. Whatever thread
	 * drops the last reference. */
	void (*closing)(struct virtq_region_user *user);
};

/**
 * Where region i has its user, one at most, NULL as long as there is none. Regions are shared by tables:
 * what one finds is found by the next. One thread at a time. NULL past the end.
 */
struct virtq_region_user **virtq_mem_user(const struct virtq_mem *mem, uint32_t i);

/**
 * Translate a front-end address; the whole range must lie in one region.
 * @return our address, or NULL
 */
uint8_t *virtq_mem_uva(const struct virtq_mem *mem, uint64_t uva, uint64_t len);

/** The span that holds gpa, or NULL. By the index, then at most ten steps. */
const struct virtq_span *virtq_mem_find(const struct virtq_mem *mem, uint64_t gpa);

/**
 * Translate a guest physical address.
 *
 * @param hint	index of the span used last; kept by the caller for the length of a burst
 * @param len	in: bytes wanted; out: bytes contiguous here, at most what was wanted
 * @return our address, or NULL if not even the first byte is mapped
 *
 * Lcore, inside the gate.
 */
static inline uint8_t *virtq_mem_gpa(
	const struct virtq_mem *mem, uint32_t *hint, uint64_t gpa, uint64_t *len)
{
	const struct virtq_span *s = &mem->spans[*hint];
	uint64_t off = gpa - s->gpa;

	if (virtq_unlikely(off >= s->size)) {
		s = virtq_mem_find(mem, gpa);
		if (!s)
			return NULL;
		*hint = (uint32_t)(s - mem->spans);
		off = gpa - s->gpa;
	}
	if (virtq_unlikely(*len > s->size - off))
		*len = s->size - off;
	return s->hva + off;
}

/**
 * Copy guest memory out, across regions.
 * @return 0, or -EFAULT if any byte is not mapped
 */
int virtq_mem_read(const struct virtq_mem *mem, uint64_t gpa, void *buf, size_t len);

#endif

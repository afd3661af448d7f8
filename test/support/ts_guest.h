/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory as a front-end owns it: memfd regions with guest, user and file addresses. */
#ifndef TS_GUEST_H
#define TS_GUEST_H

#include <stddef.h>
#include <stdint.h>

#define TS_MAX_REGIONS 512
#define TS_NOMEM       UINT64_MAX /* what the allocators return when the region is full */

enum ts_region_flags {
	TS_REGION_HUGE = 1 << 0,    /* 2 MiB hugetlb pages */
	TS_REGION_NOGUARD = 1 << 1, /* no PROT_NONE page before and after our mapping */
};

struct ts_region_conf {
	uint64_t gpa;         /* guest physical address, 4 KiB aligned */
	uint64_t size;        /* bytes, a multiple of 4 KiB (2 MiB with TS_REGION_HUGE) */
	uint64_t uva;         /* user address told on the wire; 0: our own mapping's */
	uint64_t mmap_offset; /* where in the file the region starts; a multiple of 4 KiB */
	unsigned flags;
};

/**
 * One region. Everything may be read by tests; gpa, size, uva and mmap_offset may be changed to
 * send lies, as long as our own helpers are not used on that region afterwards.
 */
struct ts_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t mmap_offset;
	int fd;      /* the memfd; -1 after ts_region_close_fd() */
	uint8_t *va; /* our own address of gpa */
	uint64_t lo; /* allocators: [lo, hi) is free, offsets into the region */
	uint64_t hi;
	void *map; /* what ts_guest_free() unmaps: guards included */
	size_t map_len;
};

struct ts_guest {
	unsigned n;
	uint64_t
		iova; /* I/O address less guest address, where rings have VIRTIO_F_ACCESS_PLATFORM */
	struct ts_region r[TS_MAX_REGIONS];
};

/** An empty guest; NULL without memory. Free with ts_guest_free(). */
struct ts_guest *ts_guest_new(void);

/** A guest with one ordinary region of `size` bytes at GPA 1 MiB; NULL on failure. */
struct ts_guest *ts_guest_one(uint64_t size);

/** Unmap and close everything; NULL is allowed. */
void ts_guest_free(struct ts_guest *g);

/**
 * Add a region backed by its own memfd, zero-filled. Regions may be neighbours in guest addresses;
 * in our memory they never are (guards). Returns its number, or -EINVAL (alignment, overlap of
 * guest addresses, wrap), -ENOSPC, or what the system said (-ENOMEM: no free hugepages).
 */
int ts_guest_add(struct ts_guest *g, const struct ts_region_conf *conf);

/** Our pointer for [gpa, gpa + len); NULL unless one region holds all of it. */
void *ts_va(const struct ts_guest *g, uint64_t gpa, uint64_t len);

/** The guest address of a pointer into guest memory; TS_NOMEM if it is none. */
uint64_t ts_gpa(const struct ts_guest *g, const void *va);

/** The user address (as on the wire) of a guest address; TS_NOMEM if unmapped. */
uint64_t ts_uva(const struct ts_guest *g, uint64_t gpa);

/** Copy into or out of guest memory, across regions that are neighbours; -EFAULT at a hole. */
int ts_guest_write(struct ts_guest *g, uint64_t gpa, const void *src, size_t len);
int ts_guest_read(const struct ts_guest *g, uint64_t gpa, void *dst, size_t len);

/**
 * Take `len` bytes from the bottom or the top of a region. `align` is a power of two. From the top
 * with align 1 the first allocation ends exactly at the region's end, where the guard begins.
 * Returns a guest address or TS_NOMEM. There is no free(): see ts_guest_forget().
 */
uint64_t ts_alloc(struct ts_guest *g, unsigned region, uint64_t len, uint64_t align);
uint64_t ts_alloc_top(struct ts_guest *g, unsigned region, uint64_t len, uint64_t align);

/**
 * Take the last `before` bytes of a region and the first `after` bytes of the region that follows
 * it in guest addresses: one legal buffer in two pieces of memory. Both must still be untaken.
 */
uint64_t ts_alloc_cross(struct ts_guest *g, unsigned region, uint64_t before, uint64_t after);

/** Forget all allocations; contents stay. */
void ts_guest_forget(struct ts_guest *g);

/**
 * Faults a front-end can cause behind the back-end's back. After truncating or punching, our own
 * mapping of the lost pages raises SIGBUS (truncate) or reads zeros (punch).
 * Return 0 or a negative errno.
 */
int ts_region_truncate(struct ts_guest *g, unsigned region, uint64_t file_size);
int ts_region_punch(struct ts_guest *g, unsigned region, uint64_t offset, uint64_t len);
void ts_region_close_fd(struct ts_guest *g, unsigned region);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory regions on memfds, their three address spaces, and two bump allocators per region. */
#include "ts_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_4K UINT64_C(4096)
#define PAGE_2M (UINT64_C(2) << 20)

struct ts_guest *ts_guest_new(void)
{
	return calloc(1, sizeof(struct ts_guest));
}

struct ts_guest *ts_guest_one(uint64_t size)
{
	const struct ts_region_conf conf = {.gpa = UINT64_C(1) << 20, .size = size};
	struct ts_guest *g = ts_guest_new();

	if (g && ts_guest_add(g, &conf) < 0) {
		ts_guest_free(g);
		g = NULL;
	}
	return g;
}

void ts_guest_free(struct ts_guest *g)
{
	if (!g)
		return;
	for (unsigned i = 0; i < g->n; i++) {
		munmap(g->r[i].map, g->r[i].map_len);
		ts_region_close_fd(g, i);
	}
	free(g);
}

static bool conf_ok(const struct ts_guest *g, const struct ts_region_conf *c, uint64_t page)
{
	if (!c->size || (c->size | c->mmap_offset) > UINT64_MAX / 4 ||
		c->gpa > UINT64_MAX - c->size)
		return false;
	if ((c->gpa | c->mmap_offset) % PAGE_4K || c->size % page)
		return false;
	for (unsigned i = 0; i < g->n; i++) {
		const struct ts_region *r = &g->r[i];

		if (c->gpa < r->gpa + r->size && r->gpa < c->gpa + c->size)
			return false;
	}
	return true;
}

/* Reserve room with guards, then put the whole file in its middle: the offset needs no alignment. */
static int map_region(struct ts_region *r, size_t file_len, uint64_t page, bool guard)
{
	size_t len = file_len + 2 * page;
	uint8_t *room, *at;

	room = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return -errno;
	at = (uint8_t *)(((uintptr_t)room + PAGE_4K + page - 1) & ~(page - 1));
	if (mmap(at, file_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, r->fd, 0) ==
		MAP_FAILED) {
		int err = -errno;

		munmap(room, len);
		return err;
	}
	if (r->mmap_offset >= page)
		mprotect(at, r->mmap_offset & ~(page - 1), PROT_NONE);
	r->va = at + r->mmap_offset;
	r->map = room;
	r->map_len = len;
	if (!guard) {
		munmap(room, (size_t)(at - room));
		munmap(at + file_len, len - file_len - (size_t)(at - room));
		r->map = at;
		r->map_len = file_len;
	}
	return 0;
}

int ts_guest_add(struct ts_guest *g, const struct ts_region_conf *c)
{
	const bool huge = c->flags & TS_REGION_HUGE;
	const uint64_t page = huge ? PAGE_2M : PAGE_4K;
	struct ts_region *r = &g->r[g->n];
	size_t file_len;
	int rc;

	if (g->n == TS_MAX_REGIONS)
		return -ENOSPC;
	if (!conf_ok(g, c, page))
		return -EINVAL;
	*r = (struct ts_region){
		.gpa = c->gpa, .size = c->size, .mmap_offset = c->mmap_offset, .hi = c->size};
	r->fd = memfd_create("ts-guest",
		MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
	if (r->fd < 0)
		return -errno;
	file_len = (c->mmap_offset + c->size + page - 1) & ~(page - 1);
	rc = ftruncate(r->fd, (off_t)file_len) ? -errno : 0;
	if (!rc)
		rc = map_region(r, file_len, page, !(c->flags & TS_REGION_NOGUARD));
	if (rc) {
		close(r->fd);
		return rc;
	}
	r->uva = c->uva ? c->uva : (uintptr_t)r->va;
	return (int)g->n++;
}

static const struct ts_region *find_gpa(const struct ts_guest *g, uint64_t gpa)
{
	for (unsigned i = 0; i < g->n; i++)
		if (gpa - g->r[i].gpa < g->r[i].size)
			return &g->r[i];
	return NULL;
}

/* As much of [gpa, gpa + *len) as the first region holds; NULL at a hole. */
static uint8_t *span(const struct ts_guest *g, uint64_t gpa, uint64_t *len)
{
	const struct ts_region *r = find_gpa(g, gpa);
	uint64_t off;

	if (!r)
		return NULL;
	off = gpa - r->gpa;
	if (*len > r->size - off)
		*len = r->size - off;
	return r->va + off;
}

void *ts_va(const struct ts_guest *g, uint64_t gpa, uint64_t len)
{
	uint64_t got = len;
	uint8_t *p = span(g, gpa, &got);

	return got == len ? p : NULL;
}

uint64_t ts_gpa(const struct ts_guest *g, const void *va)
{
	for (unsigned i = 0; i < g->n; i++) {
		uint64_t off = (uintptr_t)va - (uintptr_t)g->r[i].va;

		if (off < g->r[i].size)
			return g->r[i].gpa + off;
	}
	return TS_NOMEM;
}

uint64_t ts_uva(const struct ts_guest *g, uint64_t gpa)
{
	const struct ts_region *r = find_gpa(g, gpa);

	return r ? r->uva + (gpa - r->gpa) : TS_NOMEM;
}

int ts_guest_write(struct ts_guest *g, uint64_t gpa, const void *src, size_t len)
{
	const uint8_t *from = src;

	while (len) {
		uint64_t n = len;
		uint8_t *p = span(g, gpa, &n);

		if (!p)
			return -EFAULT;
		memcpy(p, from, n);
		from += n;
		gpa += n;
		len -= n;
	}
	return 0;
}

int ts_guest_read(const struct ts_guest *g, uint64_t gpa, void *dst, size_t len)
{
	uint8_t *to = dst;

	while (len) {
		uint64_t n = len;
		const uint8_t *p = span(g, gpa, &n);

		if (!p)
			return -EFAULT;
		memcpy(to, p, n);
		to += n;
		gpa += n;
		len -= n;
	}
	return 0;
}

uint64_t ts_alloc(struct ts_guest *g, unsigned region, uint64_t len, uint64_t align)
{
	struct ts_region *r;
	uint64_t at;

	if (region >= g->n)
		return TS_NOMEM;
	r = &g->r[region];
	at = ((r->gpa + r->lo + align - 1) & ~(align - 1)) - r->gpa;
	if (at > r->hi || len > r->hi - at)
		return TS_NOMEM;
	r->lo = at + len;
	return r->gpa + at;
}

uint64_t ts_alloc_top(struct ts_guest *g, unsigned region, uint64_t len, uint64_t align)
{
	struct ts_region *r;
	uint64_t at;

	if (region >= g->n || len > g->r[region].hi - g->r[region].lo)
		return TS_NOMEM;
	r = &g->r[region];
	at = (r->gpa + r->hi - len) & ~(align - 1);
	if (at < r->gpa + r->lo)
		return TS_NOMEM;
	r->hi = at - r->gpa;
	return at;
}

uint64_t ts_alloc_cross(struct ts_guest *g, unsigned region, uint64_t before, uint64_t after)
{
	struct ts_region *r;

	if (region >= g->n)
		return TS_NOMEM;
	r = &g->r[region];
	if (r->hi != r->size || before > r->hi - r->lo)
		return TS_NOMEM;
	for (unsigned i = 0; i < g->n; i++) {
		struct ts_region *next = &g->r[i];

		if (next->gpa != r->gpa + r->size || next->lo || after > next->hi)
			continue;
		next->lo = after;
		r->hi -= before;
		return r->gpa + r->hi;
	}
	return TS_NOMEM;
}

void ts_guest_forget(struct ts_guest *g)
{
	for (unsigned i = 0; i < g->n; i++) {
		g->r[i].lo = 0;
		g->r[i].hi = g->r[i].size;
	}
}

int ts_region_truncate(struct ts_guest *g, unsigned region, uint64_t file_size)
{
	return ftruncate(g->r[region].fd, (off_t)file_size) ? -errno : 0;
}

int ts_region_punch(struct ts_guest *g, unsigned region, uint64_t offset, uint64_t len)
{
	const struct ts_region *r = &g->r[region];
	const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	return fallocate(r->fd, mode, (off_t)(r->mmap_offset + offset), (off_t)len) ? -errno : 0;
}

void ts_region_close_fd(struct ts_guest *g, unsigned region)
{
	if (g->r[region].fd >= 0)
		close(g->r[region].fd);
	g->r[region].fd = -1;
}

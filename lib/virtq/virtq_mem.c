/* SPDX-License-Identifier: BSD-3-Clause */
/* Building, sharing and taking down guest memory tables. */
#include "virtq_mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "virtq_map.h"

struct virtq_region {
	uint32_t refs;
	uint64_t gpa, size, uva, mmap_offset;
	struct virtq_map map;
	struct virtq_file file;
	struct virtq_region_user *user;
};

static int refuse(char *why, size_t len, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, len, fmt, ap);
	va_end(ap);
	return -err;
}

static bool ranges_overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b ? b - a < a_len : a - b < b_len;
}

static int check_range(const struct virtq_mem_req *r, uint32_t i, char *why, size_t why_len)
{
	if (r->size == 0)
		return refuse(why, why_len, EINVAL, "memory region %u is empty", i);
	if (r->gpa > UINT64_MAX - r->size || r->uva > UINT64_MAX - r->size ||
		r->mmap_offset > INT64_MAX - (r->size & INT64_MAX) || r->size > INT64_MAX)
		return refuse(why, why_len, EINVAL,
			"memory region %u wraps around: guest 0x%" PRIx64 " size 0x%" PRIx64
			" offset 0x%" PRIx64,
			i, r->gpa, r->size, r->mmap_offset);
	return 0;
}

/* May it stand beside the regions the table has so far? */
static int check_overlap(
	const struct virtq_mem *mem, const struct virtq_mem_req *r, char *why, size_t why_len)
{
	for (uint32_t j = 0; j < mem->n; j++) {
		const struct virtq_region *o = mem->regions[j];

		if (ranges_overlap(r->gpa, r->size, o->gpa, o->size))
			return refuse(why, why_len, EINVAL,
				"memory regions %u and %u overlap in guest addresses", j, mem->n);
		if (ranges_overlap(r->uva, r->size, o->uva, o->size))
			return refuse(why, why_len, EINVAL,
				"memory regions %u and %u overlap in front-end addresses", j,
				mem->n);
	}
	return 0;
}

static struct virtq_region *find_shared(
	const struct virtq_mem *old, const struct virtq_mem_req *r, struct virtq_file file)
{
	for (uint32_t i = 0; old && i < old->n; i++) {
		struct virtq_region *o = old->regions[i];

		if (!virtq_trap_sprung(o->map.trap) && o->file.dev == file.dev &&
			o->file.ino == file.ino && o->gpa == r->gpa && o->size == r->size &&
			o->uva == r->uva && o->mmap_offset == r->mmap_offset)
			return o;
	}
	return NULL;
}

static void region_put(struct virtq_region *region)
{
	if (__atomic_sub_fetch(&region->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	if (region->user)
		region->user->closing(region->user);
	virtq_map_close(&region->map);
	free(region);
}

static int region_new(const struct virtq_mem_req *r, uint32_t i, struct virtq_file file,
	struct virtq_region **out, char *why, size_t why_len)
{
	struct virtq_region *region;
	int err;

	region = calloc(1, sizeof(*region));
	if (!region)
		return refuse(why, why_len, ENOMEM, "out of memory for memory region %u", i);
	*region = (struct virtq_region){.refs = 1,
		.gpa = r->gpa,
		.size = r->size,
		.uva = r->uva,
		.mmap_offset = r->mmap_offset,
		.file = file};
	err = virtq_map_open(&region->map, r->fd, r->mmap_offset, r->size);
	if (err) {
		free(region);
		return refuse(why, why_len, -err,
			"memory region %u: cannot map %" PRIu64 " bytes: %s", i, r->size,
			strerror(-err));
	}
	*out = region;
	return 0;
}

/* Eight pieces a region, so that most hold one border at most; 4096 are 8 KiB. */
#define PIECES_MAX 4096u

static uint32_t pieces_for(uint32_t n)
{
	return n < 2 ? 0 : 8 * n < PIECES_MAX ? 8 * n : PIECES_MAX;
}

/* A table with room for n regions, and none yet. */
static int table_new(uint32_t n, struct virtq_mem **out, char *why, size_t why_len)
{
	size_t spans = (n + 1) * sizeof(struct virtq_span);
	struct virtq_mem *mem;

	if (n == 0 || n > VIRTQ_MEM_SLOTS)
		return refuse(why, why_len, EINVAL, "%u memory regions: 1 to %u are possible", n,
			VIRTQ_MEM_SLOTS);
	mem = calloc(1, sizeof(*mem) + spans + (pieces_for(n) + 1) * sizeof(mem->first[0]));
	if (mem)
		mem->regions = calloc(n, sizeof(mem->regions[0]));
	if (!mem || !mem->regions) {
		free(mem);
		return refuse(why, why_len, ENOMEM, "out of memory for a table of %u regions", n);
	}
	mem->refs = 1;
	mem->first = (uint16_t *)((char *)mem->spans + spans);
	*out = mem;
	return 0;
}

/* One region more, checked against those that are there; of @old's, if that has it. */
static int table_take(struct virtq_mem *mem, const struct virtq_mem_req *r,
	const struct virtq_mem *old, char *why, size_t why_len)
{
	struct virtq_region *region;
	struct virtq_file file;
	char wrong[120];
	int err = check_range(r, mem->n, why, why_len);

	if (err)
		return err;
	if (virtq_map_check(r->fd, r->mmap_offset, r->size, &file, wrong, sizeof(wrong)) != 0)
		return refuse(why, why_len, EINVAL, "memory region %u: %s", mem->n, wrong);
	if (find_shared(mem, r, file))
		return refuse(why, why_len, EEXIST, "memory region %u is the same as one before it",
			mem->n);
	err = check_overlap(mem, r, why, why_len);
	if (err)
		return err;
	region = find_shared(old, r, file);
	if (region)
		__atomic_add_fetch(&region->refs, 1, __ATOMIC_RELAXED);
	else
		err = region_new(r, mem->n, file, &region, why, why_len);
	if (!err)
		mem->regions[mem->n++] = region;
	return err;
}

/* Regions of another table, but for one. */
static void table_share(struct virtq_mem *mem, const struct virtq_mem *old, uint32_t but)
{
	for (uint32_t i = 0; i < old->n; i++) {
		if (i == but)
			continue;
		__atomic_add_fetch(&old->regions[i]->refs, 1, __ATOMIC_RELAXED);
		mem->regions[mem->n++] = old->regions[i];
	}
}

static int by_gpa(const void *a, const void *b)
{
	const struct virtq_region *ra = *(struct virtq_region *const *)a;
	const struct virtq_region *rb = *(struct virtq_region *const *)b;

	return ra->gpa < rb->gpa ? -1 : ra->gpa > rb->gpa;
}

static void make_index(struct virtq_mem *mem)
{
	const struct virtq_span *last = &mem->spans[mem->n - 1];
	uint64_t lowest = mem->spans[0].gpa, highest = last->gpa - lowest + (last->size - 1);
	uint32_t most = pieces_for(mem->n), at = 0;

	if (most == 0)
		return;
	while (highest >> mem->shift >= most)
		mem->shift++;
	mem->pieces = (uint32_t)(highest >> mem->shift) + 1;
	for (uint64_t i = 0; i < mem->pieces; i++) {
		while (mem->spans[at].gpa - lowest + (mem->spans[at].size - 1) < i << mem->shift)
			at++;
		mem->first[i] = (uint16_t)at;
	}
	mem->first[mem->pieces] = (uint16_t)(mem->n - 1);
}

/* All regions are in: what lookups need. */
static struct virtq_mem *table_finish(struct virtq_mem *mem)
{
	qsort(mem->regions, mem->n, sizeof(mem->regions[0]), by_gpa);
	for (uint32_t i = 0; i < mem->n; i++)
		mem->spans[i] = (struct virtq_span){
			mem->regions[i]->gpa, mem->regions[i]->size, mem->regions[i]->map.at};
	make_index(mem);
	return mem;
}

int virtq_mem_create(const struct virtq_mem_req *reqs, uint32_t n, const struct virtq_mem *old,
	struct virtq_mem **out, char *why, size_t why_len)
{
	struct virtq_mem *mem;
	int err = table_new(n, &mem, why, why_len);

	if (err)
		return err;
	for (uint32_t i = 0; i < n && !err; i++)
		err = table_take(mem, &reqs[i], old, why, why_len);
	if (err)
		virtq_mem_put(mem);
	else
		*out = table_finish(mem);
	return err;
}

int virtq_mem_add(struct virtq_mem *old, const struct virtq_mem_req *req, struct virtq_mem **out,
	char *why, size_t why_len)
{
	struct virtq_mem *mem;
	int err = table_new(old ? old->n + 1 : 1, &mem, why, why_len);

	if (err)
		return err;
	if (old)
		table_share(mem, old, old->n);
	err = table_take(mem, req, NULL, why, why_len);
	if (err)
		virtq_mem_put(mem);
	else
		*out = table_finish(mem);
	return err;
}

int virtq_mem_remove(struct virtq_mem *old, const struct virtq_mem_req *req, struct virtq_mem **out,
	char *why, size_t why_len)
{
	uint32_t n = old ? old->n : 0, but = 0;
	struct virtq_mem *mem;
	int err;

	while (but < n &&
		(old->regions[but]->gpa != req->gpa || old->regions[but]->size != req->size ||
			old->regions[but]->uva != req->uva))
		but++;
	if (but == n)
		return refuse(why, why_len, ENOENT,
			"there is no memory region at guest 0x%" PRIx64 " size 0x%" PRIx64
			" front-end 0x%" PRIx64,
			req->gpa, req->size, req->uva);
	if (n == 1) {
		*out = NULL;
		return 0;
	}
	err = table_new(n - 1, &mem, why, why_len);
	if (err)
		return err;
	table_share(mem, old, but);
	*out = table_finish(mem);
	return 0;
}

struct virtq_mem *virtq_mem_get(struct virtq_mem *mem)
{
	__atomic_add_fetch(&mem->refs, 1, __ATOMIC_RELAXED);
	return mem;
}

void virtq_mem_put(struct virtq_mem *mem)
{
	if (!mem || __atomic_sub_fetch(&mem->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	for (uint32_t i = 0; mem->regions && i < mem->n; i++)
		region_put(mem->regions[i]);
	virtq_mem_put(mem->guest);
	free(mem->regions);
	free(mem);
}

bool virtq_mem_gone(const struct virtq_mem *mem)
{
	mem = virtq_mem_of_guest(mem);
	for (uint32_t i = 0; i < mem->n; i++)
		if (virtq_trap_sprung(mem->regions[i]->map.trap))
			return true;
	return false;
}

int virtq_mem_region(const struct virtq_mem *mem, uint32_t i, struct virtq_region_info *info)
{
	const struct virtq_region *r;

	mem = virtq_mem_of_guest(mem);
	if (i >= mem->n)
		return 0;
	r = mem->regions[i];
	*info = (struct virtq_region_info){r->gpa, r->size, r->uva, r->map.page_size, r->map.at,
		r->map.map, r->map.map_len, r->map.share};
	return 1;
}

struct virtq_region_user **virtq_mem_user(const struct virtq_mem *mem, uint32_t i)
{
	mem = virtq_mem_of_guest(mem);
	return i < mem->n ? &mem->regions[i]->user : NULL;
}

bool virtq_mem_file(const struct virtq_mem *mem, const void *hva, uint64_t *dev, uint64_t *ino,
	uint64_t *offset)
{
	for (uint32_t i = 0; i < mem->n; i++) {
		const struct virtq_region *r = mem->regions[i];
		uint64_t at = (uintptr_t)hva - (uintptr_t)r->map.at;

		if (at >= r->size)
			continue;
		*dev = r->file.dev;
		*ino = r->file.ino;
		*offset = r->mmap_offset + at;
		return true;
	}
	return false;
}

uint8_t *virtq_mem_uva(const struct virtq_mem *mem, uint64_t uva, uint64_t len)
{
	for (uint32_t i = 0; i < mem->n; i++) {
		const struct virtq_region *r = mem->regions[i];
		uint64_t off = uva - r->uva;

		if (off < r->size)
			return len <= r->size - off ? r->map.at + off : NULL;
	}
	return NULL;
}

const struct virtq_span *virtq_mem_find(const struct virtq_mem *mem, uint64_t gpa)
{
	uint64_t piece = (gpa - mem->spans[0].gpa) >> mem->shift;
	const struct virtq_span *s = mem->spans;
	uint32_t n = mem->n;

	if (virtq_likely(piece < mem->pieces)) {
		s += mem->first[piece];
		n = mem->first[piece + 1] - mem->first[piece] + 1u;
	}
	/* The last that does not start behind gpa; without a branch that depends on gpa. */
	while (n > 1) {
		uint32_t half = n / 2;

		s = s[half].gpa <= gpa ? s + half : s;
		n -= half;
	}
	return gpa - s->gpa < s->size ? s : NULL;
}

int virtq_mem_read(const struct virtq_mem *mem, uint64_t gpa, void *buf, size_t len)
{
	uint8_t *dst = buf;
	uint32_t hint = 0;

	while (len > 0) {
		uint64_t part = len;
		const uint8_t *src = virtq_mem_gpa(mem, &hint, gpa, &part);

		if (!src)
			return -EFAULT;
		memcpy(dst, src, part);
		dst += part;
		gpa += part;
		len -= part;
	}
	return 0;
}

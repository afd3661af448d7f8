/* SPDX-License-Identifier: BSD-3-Clause */
/* Building, sharing and taking down guest memory tables. */
#include "virtq_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define HUGETLBFS_MAGIC 0x958458f6

struct virtq_region {
	uint32_t refs;
	uint64_t gpa, size, uva, mmap_offset, page_size;
	uint8_t *hva;
	void *map;
	size_t map_len;
	dev_t dev;
	ino_t ino;
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

static int check_request(const struct virtq_mem_req *reqs, uint32_t i, char *why, size_t why_len)
{
	const struct virtq_mem_req *r = &reqs[i];

	if (r->size == 0)
		return refuse(why, why_len, EINVAL, "memory region %u is empty", i);
	if (r->gpa > UINT64_MAX - r->size || r->uva > UINT64_MAX - r->size ||
		r->mmap_offset > INT64_MAX - (r->size & INT64_MAX) || r->size > INT64_MAX)
		return refuse(why, why_len, EINVAL,
			"memory region %u wraps around: guest 0x%" PRIx64 " size 0x%" PRIx64
			" offset 0x%" PRIx64,
			i, r->gpa, r->size, r->mmap_offset);
	for (uint32_t j = 0; j < i; j++) {
		if (ranges_overlap(r->gpa, r->size, reqs[j].gpa, reqs[j].size))
			return refuse(why, why_len, EINVAL,
				"memory regions %u and %u overlap in guest addresses", j, i);
		if (ranges_overlap(r->uva, r->size, reqs[j].uva, reqs[j].size))
			return refuse(why, why_len, EINVAL,
				"memory regions %u and %u overlap in front-end addresses", j, i);
	}
	return 0;
}

static uint64_t backing_page_size(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) == 0 && (uint32_t)fs.f_type == HUGETLBFS_MAGIC && fs.f_bsize > 0)
		return (uint64_t)fs.f_bsize;
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

static struct virtq_region *find_shared(
	const struct virtq_mem *old, const struct virtq_mem_req *r, const struct stat *st)
{
	for (uint32_t i = 0; old && i < old->n; i++) {
		struct virtq_region *o = old->regions[i];

		if (o->dev == st->st_dev && o->ino == st->st_ino && o->gpa == r->gpa &&
			o->size == r->size && o->uva == r->uva && o->mmap_offset == r->mmap_offset)
			return o;
	}
	return NULL;
}

static void region_put(struct virtq_region *region)
{
	if (__atomic_sub_fetch(&region->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	munmap(region->map, region->map_len);
	free(region);
}

/* Map from the page that holds the offset, so that hugetlbfs accepts it. */
static int region_mmap(struct virtq_region *region, int fd)
{
	uint64_t start = region->mmap_offset & ~(region->page_size - 1);
	uint64_t lead = region->mmap_offset - start;
	uint64_t len = (lead + region->size + region->page_size - 1) & ~(region->page_size - 1);
	void *map = mmap(
		NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)start);

	if (map == MAP_FAILED)
		return -errno;
	/* A core file of the switch must not contain its guests. */
	madvise(map, len, MADV_DONTDUMP);
	region->map = map;
	region->map_len = len;
	region->hva = (uint8_t *)map + lead;
	return 0;
}

static int region_get(const struct virtq_mem_req *r, uint32_t i, const struct virtq_mem *old,
	struct virtq_region **out, char *why, size_t why_len)
{
	struct virtq_region *region;
	struct stat st;
	int err;

	/* Only memory: another file's server could let fstat(), or a page fault, wait for ever.
	 * This call asks no file system, and only memory files know seals. */
	if (fcntl(r->fd, F_GET_SEALS) < 0 || fstat(r->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return refuse(why, why_len, EINVAL,
			"memory region %u: its descriptor is not a memory file (memfd, tmpfs or "
			"hugetlbfs)",
			i);
	if ((uint64_t)st.st_size < r->mmap_offset + r->size)
		return refuse(why, why_len, EINVAL,
			"memory region %u: its file holds %" PRIu64 " bytes, %" PRIu64
			" are needed",
			i, (uint64_t)st.st_size, r->mmap_offset + r->size);
	region = find_shared(old, r, &st);
	if (region) {
		__atomic_add_fetch(&region->refs, 1, __ATOMIC_RELAXED);
		*out = region;
		return 0;
	}
	region = calloc(1, sizeof(*region));
	if (!region)
		return refuse(why, why_len, ENOMEM, "out of memory for memory region %u", i);
	*region = (struct virtq_region){.refs = 1,
		.gpa = r->gpa,
		.size = r->size,
		.uva = r->uva,
		.mmap_offset = r->mmap_offset,
		.page_size = backing_page_size(r->fd),
		.dev = st.st_dev,
		.ino = st.st_ino};
	err = region_mmap(region, r->fd);
	if (err) {
		free(region);
		return refuse(why, why_len, -err,
			"memory region %u: cannot map %" PRIu64 " bytes: %s", i, r->size,
			strerror(-err));
	}
	*out = region;
	return 0;
}

static int by_gpa(const void *a, const void *b)
{
	const struct virtq_region *ra = *(struct virtq_region *const *)a;
	const struct virtq_region *rb = *(struct virtq_region *const *)b;

	return ra->gpa < rb->gpa ? -1 : ra->gpa > rb->gpa;
}

int virtq_mem_create(const struct virtq_mem_req *reqs, uint32_t n, const struct virtq_mem *old,
	struct virtq_mem **out, char *why, size_t why_len)
{
	struct virtq_mem *mem;
	int err;

	if (n == 0 || n > VIRTQ_MEM_SLOTS)
		return refuse(why, why_len, EINVAL, "%u memory regions: 1 to %u are possible", n,
			VIRTQ_MEM_SLOTS);
	for (uint32_t i = 0; i < n; i++) {
		err = check_request(reqs, i, why, why_len);
		if (err)
			return err;
	}
	mem = calloc(1, sizeof(*mem) + (n + 1) * sizeof(mem->spans[0]));
	if (mem)
		mem->regions = calloc(n, sizeof(mem->regions[0]));
	if (!mem || !mem->regions) {
		free(mem);
		return refuse(why, why_len, ENOMEM, "out of memory for a table of %u regions", n);
	}
	mem->refs = 1;
	for (; mem->n < n; mem->n++) {
		err = region_get(&reqs[mem->n], mem->n, old, &mem->regions[mem->n], why, why_len);
		if (err) {
			virtq_mem_put(mem);
			return err;
		}
	}
	qsort(mem->regions, n, sizeof(mem->regions[0]), by_gpa);
	for (uint32_t i = 0; i < n; i++)
		mem->spans[i] = (struct virtq_span){
			mem->regions[i]->gpa, mem->regions[i]->size, mem->regions[i]->hva};
	*out = mem;
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
	for (uint32_t i = 0; i < mem->n; i++)
		region_put(mem->regions[i]);
	free(mem->regions);
	free(mem);
}

int virtq_mem_region(const struct virtq_mem *mem, uint32_t i, struct virtq_region_info *info)
{
	const struct virtq_region *r;

	if (i >= mem->n)
		return 0;
	r = mem->regions[i];
	*info = (struct virtq_region_info){r->gpa, r->size, r->uva, r->page_size, r->hva};
	return 1;
}

uint8_t *virtq_mem_uva(const struct virtq_mem *mem, uint64_t uva, uint64_t len)
{
	for (uint32_t i = 0; i < mem->n; i++) {
		const struct virtq_region *r = mem->regions[i];
		uint64_t off = uva - r->uva;

		if (off < r->size)
			return len <= r->size - off ? r->hva + off : NULL;
	}
	return NULL;
}

const struct virtq_span *virtq_mem_find(const struct virtq_mem *mem, uint64_t gpa)
{
	uint32_t lo = 0, hi = mem->n;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;
		const struct virtq_span *s = &mem->spans[mid];

		if (gpa < s->gpa)
			hi = mid;
		else if (gpa - s->gpa < s->size)
			return s;
		else
			lo = mid + 1;
	}
	return NULL;
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

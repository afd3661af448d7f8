/* SPDX-License-Identifier: BSD-3-Clause */
/* Tables that gain and lose one region at a time: what is refused, shared, mapped and for how long. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ts_tap.h"
#include "ts_util.h"
#include "virtq.h"

#define K        1024ull
#define M        (1024 * K)
#define FILE_LEN (1 * M)

#define MAPPED() ts_count_maps("memfd:vm")

static int file_of(uint64_t len)
{
	int fd = memfd_create("vm", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	return fd;
}

/* The reference on the old one goes over to the new one. */
static void add(struct virtq_mem **mem, const struct virtq_mem_req *req)
{
	struct virtq_mem *old = *mem;
	char why[200] = "";

	if (virtq_mem_add(old, req, mem, why, sizeof(why)) != 0)
		fail_msg("refused: %s", why);
	virtq_mem_put(old);
}

static void del(struct virtq_mem **mem, const struct virtq_mem_req *req)
{
	struct virtq_mem *old = *mem;
	char why[200] = "";

	if (virtq_mem_remove(old, req, mem, why, sizeof(why)) != 0)
		fail_msg("refused: %s", why);
	virtq_mem_put(old);
}

typedef int (*change_fn)(struct virtq_mem *old, const struct virtq_mem_req *req,
	struct virtq_mem **out, char *why, size_t why_len);

/* Nothing happens but this line. */
static void refused(change_fn change, struct virtq_mem *old, const struct virtq_mem_req *req,
	int err, const char *line)
{
	const int fds = ts_count_fds(NULL), maps = MAPPED();
	struct virtq_mem *out = (struct virtq_mem *)(uintptr_t)1;
	char why[200] = "";

	assert_int_equal(change(old, req, &out, why, sizeof(why)), err);
	assert_string_equal(why, line);
	assert_ptr_equal(out, (void *)(uintptr_t)1);
	assert_int_equal(MAPPED(), maps);
	assert_int_equal(ts_count_fds(NULL), fds);
	if (old)
		assert_int_equal(old->refs, 1);
}

/* [64K, 128K) and [1M, 1M + 64K) in both spaces; apart in the file, lest the kernel merge them. */
static struct virtq_mem *two_regions(int fd)
{
	const struct virtq_mem_req high = {M, 64 * K, M, 512 * K, fd};
	const struct virtq_mem_req low = {64 * K, 64 * K, 64 * K, 0, fd};
	struct virtq_mem *mem = NULL;

	add(&mem, &high);
	add(&mem, &low);
	assert_int_equal(mem->n, 2);
	assert_int_equal(mem->spans[0].gpa, 64 * K);
	assert_int_equal(mem->spans[1].gpa, M);
	return mem;
}

static void refused_overlaps(void **state)
{
	const int fd = file_of(2 * FILE_LEN);
	const struct {
		uint64_t gpa, uva, size;
		const char *line;
	} cases[] = {
		{64 * K, 64 * K, 64 * K, "memory regions 0 and 2 overlap in guest addresses"},
		{127 * K, 2 * M, 4 * K, "memory regions 0 and 2 overlap in guest addresses"},
		{0, 2 * M, 64 * K + 1, "memory regions 0 and 2 overlap in guest addresses"},
		{M + 63 * K, 2 * M, 4 * K, "memory regions 1 and 2 overlap in guest addresses"},
		{M - 1, 2 * M, 2, "memory regions 1 and 2 overlap in guest addresses"},
		{2 * M, 127 * K, 4 * K, "memory regions 0 and 2 overlap in front-end addresses"},
		{2 * M, M, 64 * K, "memory regions 1 and 2 overlap in front-end addresses"},
		{2 * M, 256 * K, M, "memory regions 1 and 2 overlap in front-end addresses"},
	};
	struct virtq_mem *mem = two_regions(fd);

	(void)state;
	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		const struct virtq_mem_req req = {
			cases[i].gpa, cases[i].size, cases[i].uva, 4 * K, fd};

		refused(virtq_mem_add, mem, &req, -EINVAL, cases[i].line);
	}
	for (uint64_t at = 0; at <= 128 * K; at += 128 * K) { /* neighbours are no overlap */
		const struct virtq_mem_req req = {at, 64 * K, at, 128 * K + at, fd};

		add(&mem, &req);
	}
	assert_int_equal(mem->n, 4);
	virtq_mem_put(mem);
	assert_int_equal(MAPPED(), 0);
	close(fd);
}

/* The very same one, and all that differ from it in one thing. */
static void refused_twice(void **state)
{
	const int fd = file_of(FILE_LEN), duplicate = dup(fd), other = file_of(FILE_LEN);
	const struct virtq_mem_req same = {M, 64 * K, M, 512 * K, duplicate};
	const struct virtq_mem_req offset = {M, 64 * K, M, 256 * K, fd};
	const struct virtq_mem_req file = {M, 64 * K, M, 512 * K, other};
	struct virtq_mem *mem = two_regions(fd);

	(void)state;
	refused(virtq_mem_add, mem, &same, -EEXIST, "memory region 2 is the same as one before it");
	refused(virtq_mem_add, mem, &offset, -EINVAL,
		"memory regions 1 and 2 overlap in guest addresses");
	refused(virtq_mem_add, mem, &file, -EINVAL,
		"memory regions 1 and 2 overlap in guest addresses");
	virtq_mem_put(mem);
	close(other);
	close(duplicate);
	close(fd);
}

/* The same checks as for a whole table. */
static void refused_requests(void **state)
{
	const int fd = file_of(FILE_LEN), event = eventfd(0, EFD_CLOEXEC);
	const struct {
		struct virtq_mem_req r;
		const char *line;
	} cases[] = {
		{{2 * M, 0, 2 * M, 0, fd}, "memory region 2 is empty"},
		{{UINT64_MAX - 4 * K + 1, 8 * K, 2 * M, 0, fd},
			"memory region 2 wraps around: guest 0xfffffffffffff000 size 0x2000 "
			"offset 0x0"},
		{{2 * M, 8 * K, 2 * M, INT64_MAX, fd},
			"memory region 2 wraps around: guest 0x200000 size 0x2000 offset "
			"0x7fffffffffffffff"},
		{{2 * M, FILE_LEN, 2 * M, 1, fd},
			"memory region 2: its file holds 1048576 bytes, 1048577 are needed"},
		{{2 * M, 4 * K, 2 * M, 0, event},
			"memory region 2: its descriptor is not a memory file (memfd, tmpfs or "
			"hugetlbfs)"},
		{{2 * M, 4 * K, 2 * M, 0, -1},
			"memory region 2: its descriptor is not a memory file (memfd, tmpfs or "
			"hugetlbfs)"},
	};
	struct virtq_mem *mem = two_regions(fd);

	(void)state;
	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++)
		refused(virtq_mem_add, mem, &cases[i].r, -EINVAL, cases[i].line);
	refused(virtq_mem_add, NULL, &(struct virtq_mem_req){0, 0, 0, 0, fd}, -EINVAL,
		"memory region 0 is empty");
	virtq_mem_put(mem);
	close(event);
	close(fd);
}

static void refused_removals(void **state)
{
	const int fd = file_of(FILE_LEN);
	const struct {
		struct virtq_mem_req r;
		const char *line;
	} cases[] = {
		{{0, 64 * K, 64 * K, 0, fd},
			"there is no memory region at guest 0x0 size 0x10000 front-end 0x10000"},
		{{64 * K, 60 * K, 64 * K, 0, fd},
			"there is no memory region at guest 0x10000 size 0xf000 front-end 0x10000"},
		{{64 * K, 64 * K, M, 0, fd},
			"there is no memory region at guest 0x10000 size 0x10000 front-end "
			"0x100000"},
		{{64 * K, 0, 64 * K, 0, fd},
			"there is no memory region at guest 0x10000 size 0x0 front-end 0x10000"},
	};
	struct virtq_mem *mem = two_regions(fd);

	(void)state;
	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		refused(virtq_mem_remove, mem, &cases[i].r, -ENOENT, cases[i].line);
		refused(virtq_mem_remove, NULL, &cases[i].r, -ENOENT, cases[i].line);
	}
	virtq_mem_put(mem);
	close(fd);
}

static void as_many_as_there_are_slots(void **state)
{
	struct virtq_mem_req req = {0, 64 * K, 0, 0, file_of(FILE_LEN)};
	struct virtq_mem *mem = NULL;

	(void)state;
	for (uint32_t i = 0; i < VIRTQ_MEM_SLOTS; i++) {
		req.gpa = req.uva = (i * 7 % VIRTQ_MEM_SLOTS) * M;
		add(&mem, &req);
	}
	assert_int_equal(mem->n, VIRTQ_MEM_SLOTS);
	assert_int_equal(MAPPED(), VIRTQ_MEM_SLOTS);
	for (uint32_t i = 0; i < VIRTQ_MEM_SLOTS; i++)
		assert_int_equal(mem->spans[i].gpa, i * M);
	req.gpa = req.uva = 1000 * M;
	refused(virtq_mem_add, mem, &req, -EINVAL, "510 memory regions: 1 to 509 are possible");
	req.gpa = req.uva = 77 * M;
	del(&mem, &req);
	req.gpa = req.uva = 1000 * M;
	add(&mem, &req);
	refused(virtq_mem_add, mem, &req, -EINVAL, "510 memory regions: 1 to 509 are possible");
	virtq_mem_put(mem);
	assert_int_equal(MAPPED(), 0);
	close(req.fd);
}

/* Who still uses an old table keeps exactly what that one had. */
static void shared_and_kept(void **state)
{
	const int fd = file_of(FILE_LEN);
	/* Where in the file it was, and the file itself, is nothing REM_MEM_REG must know. */
	const struct virtq_mem_req low = {64 * K, 64 * K, 64 * K, 999, -1};
	const struct virtq_mem_req high = {M, 64 * K, M, 0, -1};
	const struct virtq_mem_req more = {2 * M, 64 * K, 2 * M, 256 * K, fd};
	struct virtq_mem *mem = two_regions(fd), *bigger, *smaller, *none = mem;
	struct virtq_view from = {.mem = mem}, *view = virtq_view_new(&from);
	char why[200];

	(void)state;
	assert_int_equal(virtq_mem_add(mem, &more, &bigger, why, sizeof(why)), 0);
	assert_int_equal(MAPPED(), 3);
	assert_int_equal(mem->n, 2);
	assert_int_equal(bigger->n, 3);
	assert_ptr_equal(bigger->spans[0].hva, mem->spans[0].hva);
	assert_ptr_equal(bigger->spans[1].hva, mem->spans[1].hva);
	assert_int_equal(virtq_mem_remove(mem, &low, &smaller, why, sizeof(why)), 0);
	virtq_mem_put(mem);
	virtq_mem_put(bigger);
	assert_int_equal(smaller->n, 1);
	assert_int_equal(smaller->spans[0].gpa, M);
	assert_ptr_equal(smaller->spans[0].hva, view->mem->spans[1].hva);
	assert_int_equal(MAPPED(), 2);
	view->mem->spans[0].hva[64 * K - 1] = 1; /* removed, but not for who is still inside */
	virtq_view_free(view);
	assert_int_equal(MAPPED(), 1);
	assert_int_equal(virtq_mem_remove(smaller, &high, &none, why, sizeof(why)), 0);
	assert_null(none); /* a table without regions is no table */
	virtq_mem_put(smaller);
	assert_int_equal(MAPPED(), 0);
	close(fd);
}

/* The region that cannot be mapped is not in, the others still are. */
static void refused_by_mmap(void **state)
{
	const int fd = file_of(FILE_LEN);
	struct virtq_mem *mem = two_regions(fd), *out = NULL;
	struct virtq_mem_req req = {2 * M, 8 * K, 2 * M, 0, -1};
	char path[40], why[200];

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	req.fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(req.fd >= 0);
	assert_int_equal(virtq_mem_add(mem, &req, &out, why, sizeof(why)), -EACCES);
	assert_string_equal(why, "memory region 2: cannot map 8192 bytes: Permission denied");
	assert_null(out);
	assert_int_equal(MAPPED(), 2);
	mem->spans[0].hva[0] = mem->spans[1].hva[64 * K - 1] = 1;
	virtq_mem_put(mem);
	close(req.fd);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused_overlaps),
		cmocka_unit_test(refused_twice),
		cmocka_unit_test(refused_requests),
		cmocka_unit_test(refused_removals),
		cmocka_unit_test(as_many_as_there_are_slots),
		cmocka_unit_test(shared_and_kept),
		cmocka_unit_test(refused_by_mmap),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

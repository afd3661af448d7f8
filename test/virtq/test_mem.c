/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory tables: what is refused and in which words, what is mapped when, what is where. */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ts_tap.h"
#include "ts_util.h"
#include "virtq.h"

#define K        1024ull
#define M        (1024 * K)
#define FILE_LEN (1 * M)

/* Lines of /proc/self/maps that are ours. */
#define MAPPED() ts_count_maps("memfd:vm")

static int file_of(uint64_t len)
{
	int fd = memfd_create("vm", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	return fd;
}

/* A table that must come to be. */
static struct virtq_mem *make(
	const struct virtq_mem_req *reqs, uint32_t n, const struct virtq_mem *old)
{
	struct virtq_mem *mem = NULL;
	char why[200] = "";

	if (virtq_mem_create(reqs, n, old, &mem, why, sizeof(why)) != 0)
		fail_msg("refused: %s", why);
	return mem;
}

/* A table that must not, for this reason and without a trace. */
static void refused(const struct virtq_mem_req *reqs, uint32_t n, int err, const char *line)
{
	const int fds = ts_count_fds(NULL);
	struct virtq_mem *mem = NULL;
	char why[200] = "";

	assert_int_equal(virtq_mem_create(reqs, n, NULL, &mem, why, sizeof(why)), err);
	assert_string_equal(why, line);
	assert_null(mem);
	assert_int_equal(MAPPED(), 0);
	assert_int_equal(ts_count_fds(NULL), fds);
}

/* ---- refusals ---- */

static void refused_counts(void **state)
{
	static struct virtq_mem_req many[VIRTQ_MEM_SLOTS + 1];
	int fd = file_of(FILE_LEN);

	(void)state;
	for (uint32_t i = 0; i < VIRTQ_MEM_SLOTS + 1; i++)
		many[i] = (struct virtq_mem_req){i * 64 * K, 4 * K, i * 64 * K, 0, fd};
	refused(many, 0, -EINVAL, "0 memory regions: 1 to 509 are possible");
	refused(many, 510, -EINVAL, "510 memory regions: 1 to 509 are possible");
	virtq_mem_put(make(many, VIRTQ_MEM_SLOTS, NULL));
	close(fd);
}

static void refused_ranges(void **state)
{
	const int fd = file_of(FILE_LEN);
	const struct {
		struct virtq_mem_req r;
		const char *line;
	} cases[] = {
		{{0, 0, 0, 0, fd}, "memory region 1 is empty"},
		{{M, UINT64_MAX, 0x10000, 0, fd},
			"memory region 1 wraps around: guest 0x100000 size 0xffffffffffffffff "
			"offset 0x0"},
		{{UINT64_MAX - 4 * K + 1, 8 * K, 0x10000, 0, fd},
			"memory region 1 wraps around: guest 0xfffffffffffff000 size 0x2000 "
			"offset 0x0"},
		{{M, 8 * K, UINT64_MAX - 4 * K + 1, 0, fd},
			"memory region 1 wraps around: guest 0x100000 size 0x2000 offset 0x0"},
		{{M, 8 * K, 0x10000, UINT64_MAX - 4 * K + 1, fd},
			"memory region 1 wraps around: guest 0x100000 size 0x2000 offset "
			"0xfffffffffffff000"},
		{{M, 8 * K, 0x10000, INT64_MAX, fd},
			"memory region 1 wraps around: guest 0x100000 size 0x2000 offset "
			"0x7fffffffffffffff"},
		{{M, 1ull << 63, 0x10000, 0, fd},
			"memory region 1 wraps around: guest 0x100000 size 0x8000000000000000 "
			"offset 0x0"},
	};

	(void)state;
	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		const struct virtq_mem_req reqs[] = {{0, 4 * K, 0, 0, fd}, cases[i].r};

		refused(reqs, 2, -EINVAL, cases[i].line);
	}
	close(fd);
}

static void refused_overlaps(void **state)
{
	const int fd = file_of(FILE_LEN);
	/* Against [64K, 128K) in both address spaces. */
	const struct {
		uint64_t gpa, uva, size;
		const char *line;
	} cases[] = {
		{64 * K, 0, 64 * K, "memory regions 0 and 1 overlap in guest addresses"},
		{127 * K, 0, 4 * K, "memory regions 0 and 1 overlap in guest addresses"},
		{0, 256 * K, 64 * K + 1, "memory regions 0 and 1 overlap in guest addresses"},
		{80 * K, 256 * K, 1, "memory regions 0 and 1 overlap in guest addresses"},
		{32 * K, 256 * K, 128 * K, "memory regions 0 and 1 overlap in guest addresses"},
		{256 * K, 64 * K, 64 * K, "memory regions 0 and 1 overlap in front-end addresses"},
		{256 * K, 127 * K, 4 * K, "memory regions 0 and 1 overlap in front-end addresses"},
		{256 * K, 0, 64 * K + 1, "memory regions 0 and 1 overlap in front-end addresses"},
		{0, 128 * K, 64 * K, NULL}, /* neighbours are no overlap */
		{128 * K, 0, 64 * K, NULL},
	};

	(void)state;
	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		const struct virtq_mem_req reqs[] = {{64 * K, 64 * K, 64 * K, 0, fd},
			{cases[i].gpa, cases[i].size, cases[i].uva, 0, fd}};

		if (cases[i].line)
			refused(reqs, 2, -EINVAL, cases[i].line);
		else
			virtq_mem_put(make(reqs, 2, NULL));
	}
	close(fd);
}

static void refused_files(void **state)
{
	const int fd = file_of(FILE_LEN);
	int not_memory[6], pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	not_memory[0] = eventfd(0, EFD_CLOEXEC);
	not_memory[1] = open("/dev/null", O_RDWR | O_CLOEXEC);
	not_memory[2] = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	not_memory[3] = pair[0];
	not_memory[4] = pair[1];
	not_memory[5] = -1;
	for (unsigned i = 0; i < TS_ARRAY_SIZE(not_memory); i++) {
		const struct virtq_mem_req reqs[] = {
			{0, 4 * K, 0, 0, fd}, {M, 4 * K, M, 0, not_memory[i]}};

		refused(reqs, 2, -EINVAL,
			"memory region 1: its descriptor is not a memory file (memfd, tmpfs or "
			"hugetlbfs)");
	}
	for (unsigned i = 0; i < 5; i++)
		close(not_memory[i]);
	close(fd);
}

static void refused_short_files(void **state)
{
	const int fd = file_of(FILE_LEN);
	const struct {
		uint64_t size, offset;
		const char *line;
	} cases[] = {
		{FILE_LEN + 1, 0,
			"memory region 1: its file holds 1048576 bytes, 1048577 are needed"},
		{FILE_LEN, 1, "memory region 1: its file holds 1048576 bytes, 1048577 are needed"},
		{4 * K, FILE_LEN,
			"memory region 1: its file holds 1048576 bytes, 1052672 are needed"},
		{INT64_MAX - 1, 1,
			"memory region 1: its file holds 1048576 bytes, 9223372036854775807 are "
			"needed"},
		{FILE_LEN, 0, NULL},
		{4 * K, FILE_LEN - 4 * K, NULL},
	};

	(void)state;
	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		const struct virtq_mem_req reqs[] = {
			{0, 4 * K, 0, 0, fd}, {M, cases[i].size, M, cases[i].offset, fd}};

		if (cases[i].line)
			refused(reqs, 2, -EINVAL, cases[i].line);
		else
			virtq_mem_put(make(reqs, 2, NULL));
	}
	close(fd);
}

/* The k-th region cannot be mapped: those before it go again. */
static void refused_by_mmap(void **state)
{
	const int fd = file_of(FILE_LEN);
	char path[40], line[100];
	int read_only;

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read_only >= 0);
	for (unsigned k = 0; k < 8; k++) {
		struct virtq_mem_req reqs[8];

		for (unsigned i = 0; i < 8; i++)
			reqs[i] = (struct virtq_mem_req){
				i * M, 8 * K, i * M, 0, i == k ? read_only : fd};
		snprintf(line, sizeof(line),
			"memory region %u: cannot map 8192 bytes: Permission denied", k);
		refused(reqs, 8, -EACCES, line);
	}
	close(read_only);
	close(fd);
}

/* ---- what is mapped, and until when ---- */

static void unmapped_with_the_last_user(void **state)
{
	const int fd = file_of(FILE_LEN);
	const struct virtq_mem_req reqs[] = {{0, 64 * K, 0, 0, fd}, {M, 64 * K, M, 64 * K, fd}};
	struct virtq_mem *mem = make(reqs, 2, NULL);
	struct virtq_view from = {.mem = mem}, *view[3];

	(void)state;
	close(fd); /* the mapping does not need it */
	assert_int_equal(MAPPED(), 2);
	for (unsigned i = 0; i < 3; i++) {
		view[i] = virtq_view_new(&from);
		assert_ptr_equal(view[i]->mem, mem);
	}
	virtq_mem_put(mem);
	virtq_view_free(view[1]);
	virtq_view_free(view[0]);
	assert_int_equal(MAPPED(), 2);
	mem->spans[1].hva[64 * K - 1] = 1; /* still there */
	virtq_view_free(view[2]);
	assert_int_equal(MAPPED(), 0);
	virtq_view_free(NULL);
	virtq_mem_put(NULL);
}

static void unchanged_regions_are_shared(void **state)
{
	const int fd[] = {file_of(FILE_LEN), file_of(FILE_LEN), file_of(FILE_LEN)};
	struct virtq_mem_req reqs[] = {{0, 64 * K, 0, 0, fd[0]}, {M, 64 * K, M, 64 * K, fd[1]},
		{2 * M, 64 * K, 2 * M, 0, fd[2]}};
	struct virtq_mem *old = make(reqs, 3, NULL), *same, *other;
	int duplicate = dup(fd[1]);

	(void)state;
	assert_int_equal(MAPPED(), 3);
	reqs[1].fd = duplicate; /* another descriptor, the same file */
	same = make(reqs, 3, old);
	assert_int_equal(MAPPED(), 3);
	assert_ptr_equal(same->spans[1].hva, old->spans[1].hva);

	/* Each field alone makes it another region. */
	for (unsigned i = 0; i < 5; i++) {
		struct virtq_mem_req changed[3];

		memcpy(changed, reqs, sizeof(changed));
		changed[2].gpa += i == 0 ? 4 * K : 0;
		changed[2].size -= i == 1 ? 4 * K : 0;
		changed[2].uva += i == 2 ? 4 * K : 0;
		changed[2].mmap_offset += i == 3 ? 4 * K : 0;
		changed[2].fd = i == 4 ? fd[0] : changed[2].fd;
		other = make(changed, 3, same);
		assert_int_equal(MAPPED(), 4);
		virtq_mem_put(other);
		assert_int_equal(MAPPED(), 3);
	}
	virtq_mem_put(old);
	assert_int_equal(MAPPED(), 3);
	other = make(reqs, 1, same); /* a table with fewer regions keeps only its own */
	virtq_mem_put(same);
	assert_int_equal(MAPPED(), 1);
	virtq_mem_put(other);
	assert_int_equal(MAPPED(), 0);
	close(duplicate);
	for (unsigned i = 0; i < 3; i++)
		close(fd[i]);
}

/* Ten thousand changes of table, as a front-end that plugs memory would make: nothing grows. */
static void many_tables(void **state)
{
	const int fd[] = {file_of(FILE_LEN), file_of(FILE_LEN)};
	struct virtq_mem *mem = NULL;
	struct ts_rng rng;
	int maps = 0;

	(void)state;
	ts_rng_init(&rng, ts_seed());
	for (unsigned round = 0; round < 10000; round++) {
		struct virtq_mem_req reqs[8];
		uint32_t n = 1 + ts_rand_below(&rng, 8);
		struct virtq_mem *old = mem;

		for (uint32_t i = 0; i < n; i++)
			reqs[i] =
				(struct virtq_mem_req){i * M, 4 * K * (1 + ts_rand_below(&rng, 3)),
					i * M, 0, fd[ts_rand_below(&rng, 2)]};
		mem = make(reqs, n, old);
		virtq_mem_put(old);
		if (round == 100)
			maps = ts_count_maps(NULL) + 64; /* as in test_slots.c */
	}
	assert_in_range(ts_count_maps(NULL), 1, maps);
	virtq_mem_put(mem);
	assert_int_equal(MAPPED(), 0);
	close(fd[0]);
	close(fd[1]);
}

/* A core file of the switch must not contain its guests. */
static void left_out_of_core_files(void **state)
{
	const int fd = file_of(FILE_LEN);
	const struct virtq_mem_req req = {0, 64 * K, 0, 0, fd};
	struct virtq_mem *mem = make(&req, 1, NULL);
	FILE *f = fopen("/proc/self/smaps", "re");
	bool ours = false, found = false;
	char line[300];

	(void)state;
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (strstr(line, "memfd:vm"))
			ours = true;
		if (ours && strncmp(line, "VmFlags:", 8) == 0) {
			assert_non_null(strstr(line, " dd"));
			found = true;
			ours = false;
		}
	}
	fclose(f);
	assert_true(found);
	virtq_mem_put(mem);
	close(fd);
}

/* ---- what is where ---- */

static void put_u64(int fd, uint64_t at, uint64_t value)
{
	assert_int_equal(pwrite(fd, &value, sizeof(value), (off_t)at), sizeof(value));
}

/* Any offset into the file, whatever its alignment: the region starts at that very byte. */
static void offsets(void **state)
{
	static const uint64_t offset[] = {0, 1, 8, 4095, 4096, 4097, 12345, 512 * K + 100};
	const int fd = file_of(FILE_LEN);

	(void)state;
	for (unsigned i = 0; i < TS_ARRAY_SIZE(offset); i++) {
		const uint64_t size = FILE_LEN - offset[i];
		const struct virtq_mem_req req = {10 * M, size, 77 * M, offset[i], fd};
		struct virtq_mem *mem = make(&req, 1, NULL);
		uint64_t got;

		put_u64(fd, offset[i], 0x1111 + i);
		put_u64(fd, FILE_LEN - 8, 0x2222 + i);
		assert_int_equal(virtq_mem_read(mem, 10 * M, &got, 8), 0);
		assert_int_equal(got, 0x1111 + i);
		assert_int_equal(virtq_mem_read(mem, 10 * M + size - 8, &got, 8), 0);
		assert_int_equal(got, 0x2222 + i);
		assert_int_equal(virtq_mem_read(mem, 10 * M + size - 7, &got, 8), -EFAULT);
		memcpy(&got, virtq_mem_uva(mem, 77 * M, 8), 8);
		assert_int_equal(got, 0x1111 + i);
		virtq_mem_put(mem);
		assert_int_equal(MAPPED(), 0);
	}
	close(fd);
}

static void borders(void **state)
{
	const int fd = file_of(FILE_LEN);
	/* Not in order, two of them neighbours in guest addresses but not in ours. */
	const struct virtq_mem_req reqs[] = {{5 * M, 64 * K, 900 * M, 0, fd},
		{M + 64 * K, 64 * K, 100 * M, 64 * K, fd}, {M, 64 * K, 500 * M, 256 * K, fd}};
	struct virtq_mem *mem = make(reqs, 3, NULL);
	const struct {
		uint64_t gpa, want, got; /* got 0: not mapped */
	} cases[] = {
		{M, 1, 1},
		{M, 64 * K, 64 * K},
		{M, 64 * K + 1, 64 * K},
		{M + 64 * K - 1, 1, 1},
		{M + 64 * K - 1, 100, 1},
		{M + 64 * K, 100, 100},
		{M + 128 * K - 1, UINT64_MAX, 1},
		{M + 128 * K, 1, 0},
		{M - 1, 1, 0},
		{M - 1, 100, 0},
		{0, 1, 0},
		{UINT64_MAX, 1, 0},
		{5 * M - 1, 2, 0},
		{5 * M + 64 * K - 1, 2, 1},
		{5 * M + 64 * K, 1, 0},
	};

	(void)state;
	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		for (uint32_t start = 0; start < 3; start++) {
			uint32_t hint = start;
			uint64_t len = cases[i].want;
			uint8_t *va = virtq_mem_gpa(mem, &hint, cases[i].gpa, &len);

			assert_int_equal(va != NULL, cases[i].got != 0);
			assert_true(hint < 3);
			if (va)
				assert_int_equal(len, cases[i].got);
		}
	}
	virtq_mem_put(mem);
	close(fd);
}

/* A ring must lie in one region: neighbours do not count. */
static void front_end_addresses(void **state)
{
	const int fd = file_of(FILE_LEN);
	const struct virtq_mem_req reqs[] = {
		{M, 64 * K, 500 * M, 0, fd}, {5 * M, 64 * K, 500 * M + 64 * K, 64 * K, fd}};
	struct virtq_mem *mem = make(reqs, 2, NULL);
	struct virtq_region_info info;

	(void)state;
	assert_ptr_equal(virtq_mem_uva(mem, 500 * M, 1), mem->spans[0].hva);
	assert_ptr_equal(virtq_mem_uva(mem, 500 * M, 64 * K), mem->spans[0].hva);
	assert_null(virtq_mem_uva(mem, 500 * M, 64 * K + 1));
	assert_null(virtq_mem_uva(mem, 500 * M + 64 * K - 1, 2));
	assert_ptr_equal(virtq_mem_uva(mem, 500 * M + 64 * K, 1), mem->spans[1].hva);
	assert_null(virtq_mem_uva(mem, 500 * M + 128 * K, 1));
	assert_null(virtq_mem_uva(mem, 500 * M - 1, 1));
	assert_null(virtq_mem_uva(mem, UINT64_MAX, 2));
	assert_null(virtq_mem_uva(mem, 500 * M, UINT64_MAX));
	assert_null(virtq_mem_uva(mem, M, 1));

	assert_true(virtq_mem_region(mem, 1, &info));
	assert_int_equal(info.gpa, 5 * M);
	assert_int_equal(info.size, 64 * K);
	assert_int_equal(info.uva, 500 * M + 64 * K);
	assert_int_equal(info.page_size, 4 * K);
	assert_ptr_equal(info.hva, mem->spans[1].hva);
	assert_false(virtq_mem_region(mem, 2, &info));
	virtq_mem_put(mem);
	close(fd);
}

static void hugetlb_pages(void **state)
{
	const uint64_t page = 2 * M;
	int fd = memfd_create("vm-huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	/* The second starts inside a page, as a region behind a hole in the guest does. */
	const struct virtq_mem_req reqs[] = {
		{0, page, 0, 0, fd}, {100 * M, page, 100 * M, page + 4 * K, fd}};
	struct virtq_region_info info;
	struct virtq_mem *mem;
	void *test;

	(void)state;
	if (fd < 0)
		ts_skip("no hugetlb memory files: %s", strerror(errno));
	assert_int_equal(ftruncate(fd, (off_t)(3 * page)), 0);
	test = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (test == MAP_FAILED) {
		close(fd);
		ts_skip("three 2 MiB pages are not free (vm.nr_hugepages)");
	}
	mem = make(reqs, 2, NULL);
	assert_true(virtq_mem_region(mem, 1, &info));
	assert_int_equal(info.page_size, page);
	mem->spans[1].hva[0] = 42;
	mem->spans[1].hva[page - 1] = 43;
	assert_int_equal(((uint8_t *)test)[page + 4 * K], 42);
	assert_int_equal(((uint8_t *)test)[2 * page + 4 * K - 1], 43);
	assert_int_equal(ts_count_maps("vm-huge"), 3);
	virtq_mem_put(mem);
	assert_int_equal(ts_count_maps("vm-huge"), 1);
	munmap(test, 3 * page);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused_counts),
		cmocka_unit_test(refused_ranges),
		cmocka_unit_test(refused_overlaps),
		cmocka_unit_test(refused_files),
		cmocka_unit_test(refused_short_files),
		cmocka_unit_test(refused_by_mmap),
		cmocka_unit_test(unmapped_with_the_last_user),
		cmocka_unit_test(unchanged_regions_are_shared),
		cmocka_unit_test(many_tables),
		cmocka_unit_test(left_out_of_core_files),
		cmocka_unit_test(offsets),
		cmocka_unit_test(borders),
		cmocka_unit_test(front_end_addresses),
		cmocka_unit_test(hugetlb_pages),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

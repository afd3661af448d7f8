/* SPDX-License-Identifier: BSD-3-Clause */
/* Address translation against a table written for clarity, over random tables. */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ts_tap.h"
#include "ts_util.h"
#include "virtq_mem.h"

#define K 1024ull
#define M (1024 * K)

static const struct virtq_mem_req *model_find(
	const struct virtq_mem_req *reqs, uint32_t n, uint64_t gpa)
{
	for (uint32_t i = 0; i < n; i++)
		if (gpa >= reqs[i].gpa && gpa - reqs[i].gpa < reqs[i].size)
			return &reqs[i];
	return NULL;
}

/* Neighbours, small holes, and for the index also large ones. */
static uint64_t random_hole(struct ts_rng *rng, bool large)
{
	if (large && ts_rand_below(rng, 10) == 0)
		return 1ull << ts_rand_below(rng, 50);
	return ts_rand_below(rng, 2) * ts_rand_below(rng, 5000);
}

static uint32_t random_table(struct ts_rng *rng, struct virtq_mem_req *reqs, int fd)
{
	uint32_t n = 1 + ts_rand_below(rng, ts_rand_below(rng, 4) ? 40 : VIRTQ_MEM_SLOTS);
	bool high = ts_rand_below(rng, 2);
	uint64_t gpa = high ? UINT64_MAX - 64 * M : 0;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t size = 1 + ts_rand_below(rng, 3 * 4096);

		gpa += random_hole(rng, !high);
		reqs[i] = (struct virtq_mem_req){gpa, size, (gpa ^ 1ull << 40) & ~(1ull << 62),
			ts_rand_below(rng, 4096), fd};
		gpa += size;
	}
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t j = ts_rand_below(rng, i + 1);
		struct virtq_mem_req swap = reqs[i];

		reqs[i] = reqs[j];
		reqs[j] = swap;
	}
	return n;
}

static void query(struct ts_rng *rng, const struct virtq_mem *mem, const struct virtq_mem_req *reqs,
	uint32_t n, const uint8_t *file)
{
	const struct virtq_mem_req *near = &reqs[ts_rand_below(rng, n)];
	uint64_t gpa = near->gpa + ts_rand_below(rng, (uint32_t)near->size + 20) - 10;
	uint64_t want = 1 + ts_rand_below(rng, 9000), len = want;
	const struct virtq_mem_req *r = model_find(reqs, n, gpa);
	uint32_t hint = ts_rand_below(rng, n);
	const uint8_t *va = virtq_mem_gpa(mem, &hint, gpa, &len);
	uint8_t got[9000];
	uint64_t done = 0;

	assert_int_equal(va != NULL, r != NULL);
	if (r) {
		uint64_t room = r->gpa + r->size - gpa;

		assert_int_equal(len, want < room ? want : room);
		assert_memory_equal(va, file + r->mmap_offset + (gpa - r->gpa), len);
	}
	while (done < want && (r = model_find(reqs, n, gpa + done)) != NULL)
		done++;
	assert_int_equal(virtq_mem_read(mem, gpa, got, want), done == want ? 0 : -EFAULT);
	for (uint64_t i = 0; done == want && i < want; i++) {
		r = model_find(reqs, n, gpa + i);
		if (got[i] != file[r->mmap_offset + (gpa + i - r->gpa)])
			fail_msg("byte %" PRIu64 " of guest address 0x%" PRIx64, i, gpa);
	}
}

static void must(int err, const char *why)
{
	if (err)
		fail_msg("refused: %s", why);
}

/* At once, or one by one and then some of them out and in again. */
static struct virtq_mem *build(
	struct ts_rng *rng, const struct virtq_mem_req *reqs, uint32_t n, bool at_once)
{
	struct virtq_mem *mem = NULL, *next;
	char why[200];

	if (at_once) {
		must(virtq_mem_create(reqs, n, NULL, &mem, why, sizeof(why)), why);
		return mem;
	}
	for (uint32_t i = 0; i < n; i++) {
		must(virtq_mem_add(mem, &reqs[i], &next, why, sizeof(why)), why);
		virtq_mem_put(mem);
		mem = next;
	}
	for (uint32_t i = 0; i < 10; i++) {
		const struct virtq_mem_req *r = &reqs[ts_rand_below(rng, n)];
		struct virtq_mem *without;

		must(virtq_mem_remove(mem, r, &without, why, sizeof(why)), why);
		virtq_mem_put(mem);
		must(virtq_mem_add(without, r, &mem, why, sizeof(why)), why);
		virtq_mem_put(without);
	}
	return mem;
}

static void model(void **state)
{
	struct virtq_mem_req reqs[VIRTQ_MEM_SLOTS];
	const int fd = memfd_create("vm", MFD_CLOEXEC);
	struct ts_rng rng;
	uint8_t *file;

	(void)state;
	assert_int_equal(ftruncate(fd, 64 * K), 0);
	file = mmap(NULL, 64 * K, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(file != MAP_FAILED);
	ts_rng_init(&rng, ts_seed());
	for (uint32_t i = 0; i < 64 * K; i++)
		file[i] = (uint8_t)ts_rand(&rng);
	for (unsigned round = 0; round < 60; round++) {
		uint32_t n = random_table(&rng, reqs, fd);
		struct virtq_mem *mem = build(&rng, reqs, n, round & 1);

		for (unsigned i = 0; i < 60; i++)
			query(&rng, mem, reqs, n, file);
		virtq_mem_put(mem);
	}
	munmap(file, 64 * K);
	close(fd);
	assert_int_equal(ts_count_maps("memfd:vm"), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(model)};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

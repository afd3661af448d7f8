/* SPDX-License-Identifier: BSD-3-Clause */
/* The IOTLB, and tables made of it, against a model written for clarity. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ts_tap.h"
#include "ts_util.h"
#include "virtq_iotlb.h"

/* An address space of cells, each mapped to a cell of memory or to none. */

#define CELL    64ull
#define CELLS   256u
#define MEMORY  (4 * CELLS) /* cells of guest memory */
#define UVA     0x7f0000000000ull
#define NOWHERE UINT32_MAX

struct model {
	uint32_t to[CELLS];
	uint8_t perm[CELLS];
	uint64_t base; /* I/O address of cell 0 */
	struct virtq_mem *mem;
	const uint8_t *va;
	struct virtq_iotlb *tlb;
};

static void model_open(struct model *m, uint64_t base)
{
	int fd = memfd_create("iotlb", MFD_CLOEXEC);
	const struct virtq_mem_req req = {0x100000, MEMORY * CELL, UVA, 0, fd};
	char why[200];

	assert_int_equal(ftruncate(fd, MEMORY * CELL), 0);
	assert_int_equal(virtq_mem_create(&req, 1, NULL, &m->mem, why, sizeof(why)), 0);
	close(fd);
	m->va = virtq_mem_uva(m->mem, UVA, 1);
	m->tlb = virtq_iotlb_new();
	m->base = base;
	memset(m->to, 0xff, sizeof(m->to));
}

static void model_close(struct model *m)
{
	virtq_iotlb_free(m->tlb);
	virtq_mem_put(m->mem);
}

static int update(struct model *m, uint32_t cell, uint32_t n, uint32_t to, uint8_t perm)
{
	char why[200];

	for (uint32_t i = 0; i < n; i++) {
		m->to[cell + i] = to + i;
		m->perm[cell + i] = perm;
	}
	return virtq_iotlb_update(m->tlb, m->mem, m->base + cell * CELL, n * CELL, UVA + to * CELL,
		perm, why, sizeof(why));
}

static void invalidate(struct model *m, uint32_t cell, uint32_t n)
{
	bool any = false;

	for (uint32_t i = cell; i < cell + n; i++) {
		any |= m->to[i] != NOWHERE;
		m->to[i] = NOWHERE;
	}
	assert_int_equal(virtq_iotlb_invalidate(m->tlb, m->base + cell * CELL, n * CELL), any);
}

/* Does cell i go on what cell i - 1 began, for who needs perm (0: as the cache has it)? */
static bool goes_on(const struct model *m, uint32_t i, uint8_t perm)
{
	if (i == 0 || m->to[i] == NOWHERE || m->to[i - 1] == NOWHERE ||
		m->to[i - 1] + 1 != m->to[i])
		return false;
	return perm ? m->perm[i] & m->perm[i - 1] & perm : m->perm[i] == m->perm[i - 1];
}

static void check_table(
	const struct model *m, const struct virtq_mem *table, uint8_t perm, struct ts_rng *rng)
{
	uint32_t hint = 0;

	for (uint32_t i = 0; i < CELLS; i++) {
		uint64_t off = ts_rand_below(rng, CELL), len = UINT32_MAX, cells = 1;
		uint64_t iova = m->base + i * CELL + off;
		const uint8_t *va = virtq_mem_gpa(table, &hint, iova, &len);

		if (m->to[i] == NOWHERE || !(m->perm[i] & perm)) {
			assert_null(va);
			continue;
		}
		while (i + cells < CELLS && goes_on(m, i + (uint32_t)cells, perm))
			cells++;
		assert_ptr_equal(va, m->va + m->to[i] * CELL + off);
		assert_int_equal(len, cells * CELL - off);
	}
}

static void check(const struct model *m, struct ts_rng *rng)
{
	uint32_t entries = 0;

	for (uint32_t i = 0; i < CELLS; i++) {
		uint64_t iova = m->base + i * CELL + ts_rand_below(rng, CELL);

		assert_int_equal(
			virtq_iotlb_perm(m->tlb, iova), m->to[i] == NOWHERE ? 0 : m->perm[i]);
		entries += m->to[i] != NOWHERE && !goes_on(m, i, 0);
	}
	assert_int_equal(virtq_iotlb_count(m->tlb), entries);
	for (uint8_t perm = VIRTQ_PERM_READ; perm <= VIRTQ_PERM_WRITE; perm++) {
		struct virtq_mem *table = virtq_iotlb_table(m->tlb, m->mem, perm);

		check_table(m, table, perm, rng);
		virtq_mem_put(table);
	}
}

/* Anywhere in the address space, also at its very end; cells that follow each other often. */
static void as_the_model(void **state)
{
	static const uint64_t bases[] = {0, 0xfffff000, UINT64_MAX - CELLS * CELL + 1};
	struct ts_rng rng;

	(void)state;
	ts_rng_init(&rng, ts_seed());
	for (unsigned b = 0; b < TS_ARRAY_SIZE(bases); b++) {
		struct model m;

		model_open(&m, bases[b]);
		for (unsigned i = 0; i < 1500; i++) {
			uint32_t cell = ts_rand_below(&rng, CELLS);
			uint32_t n = 1 + ts_rand_below(&rng, CELLS - cell < 20 ? CELLS - cell : 20);
			uint32_t to =
				ts_rand_below(&rng, 3) ? cell : ts_rand_below(&rng, MEMORY - n);
			uint8_t perm = (uint8_t)(1 + ts_rand_below(&rng, 3));

			if (ts_rand_below(&rng, 3))
				assert_int_equal(update(&m, cell, n, to, perm), 0);
			else
				invalidate(&m, cell, n);
			check(&m, &rng);
		}
		virtq_iotlb_clear(m.tlb);
		memset(m.to, 0xff, sizeof(m.to));
		check(&m, &rng);
		model_close(&m);
	}
}

static void refused(void **state)
{
	const struct {
		uint64_t iova, size, uva;
		uint8_t perm;
	} rows[] = {
		{0, 0, UVA, 3},
		{0, MEMORY * CELL + 1, UVA, 3},
		{0, CELL, UVA - 1, 3},
		{0, CELL, UVA + MEMORY * CELL, 3},
		{0, CELL, UVA + MEMORY * CELL - 1, 3},
		{0, UINT64_MAX, UVA, 3},
		{UINT64_MAX - 1, 3, UVA, 3},
		{0, CELL, UINT64_MAX, 3},
		{0, CELL, UVA, 0},
		{0, CELL, UVA, 4},
		{0, CELL, UVA, 0xff},
	};
	struct model m;
	struct ts_rng rng;
	char why[200] = "";

	(void)state;
	ts_rng_init(&rng, ts_seed());
	model_open(&m, 0);
	update(&m, 10, 3, 7, 3);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(rows); i++) {
		assert_int_equal(virtq_iotlb_update(m.tlb, m.mem, rows[i].iova, rows[i].size,
					 rows[i].uva, rows[i].perm, why, sizeof(why)),
			-EINVAL);
		assert_true(strstr(why, "not in one memory region") != NULL);
	}
	assert_int_equal(
		virtq_iotlb_update(m.tlb, NULL, 0, CELL, UVA, 3, why, sizeof(why)), -EINVAL);
	check(&m, &rng);
	model_close(&m);
}

/* The last byte of the address space can be mapped, and size 0 reaches it. */
static void ends_of_the_address_space(void **state)
{
	struct model m;
	char why[200];

	(void)state;
	model_open(&m, 0);
	assert_int_equal(virtq_iotlb_update(m.tlb, m.mem, UINT64_MAX, 1, UVA, 1, why, 200), 0);
	assert_int_equal(virtq_iotlb_update(m.tlb, m.mem, 0, 1, UVA + 1, 1, why, 200), 0);
	assert_int_equal(virtq_iotlb_count(m.tlb), 2); /* no wrapping neighbours */
	assert_int_equal(virtq_iotlb_perm(m.tlb, UINT64_MAX), 1);
	assert_false(virtq_iotlb_invalidate(m.tlb, 1, UINT64_MAX - 1));
	assert_true(virtq_iotlb_invalidate(m.tlb, 1, UINT64_MAX));
	assert_int_equal(virtq_iotlb_perm(m.tlb, UINT64_MAX), 0);
	assert_int_equal(virtq_iotlb_perm(m.tlb, 0), 1);
	assert_true(virtq_iotlb_invalidate(m.tlb, 0, 0));
	assert_int_equal(virtq_iotlb_count(m.tlb), 0);
	model_close(&m);
}

/* Two cells apart, so that none merge: the oldest goes, unless it was touched. */
static void full(void **state)
{
	struct model m;
	char why[200];

	(void)state;
	model_open(&m, 0);
	for (uint64_t i = 0; i <= VIRTQ_IOTLB_MAX + 1; i++) {
		virtq_iotlb_touch(m.tlb, 0, 1);
		assert_int_equal(
			virtq_iotlb_update(m.tlb, m.mem, 4096 * i, 1, UVA, 3, why, 200), 0);
	}
	assert_int_equal(virtq_iotlb_count(m.tlb), VIRTQ_IOTLB_MAX);
	assert_int_equal(virtq_iotlb_perm(m.tlb, 0), 3);
	assert_int_equal(virtq_iotlb_perm(m.tlb, 4096), 0);
	assert_int_equal(virtq_iotlb_perm(m.tlb, 2 * 4096), 0);
	assert_int_equal(virtq_iotlb_perm(m.tlb, 3 * 4096), 3);
	/* One in the middle of another makes three of it. */
	virtq_iotlb_clear(m.tlb);
	for (uint64_t i = 0; i < VIRTQ_IOTLB_MAX; i++)
		assert_int_equal(
			virtq_iotlb_update(m.tlb, m.mem, 4096 * i, 9, UVA, 3, why, 200), 0);
	assert_int_equal(virtq_iotlb_update(m.tlb, m.mem, 4096 * 999 + 4, 1, UVA, 1, why, 200), 0);
	assert_int_equal(virtq_iotlb_count(m.tlb), VIRTQ_IOTLB_MAX);
	assert_true(virtq_iotlb_invalidate(m.tlb, 4096 * 1000 + 4, 1));
	assert_int_equal(virtq_iotlb_count(m.tlb), VIRTQ_IOTLB_MAX);
	assert_int_equal(virtq_iotlb_perm(m.tlb, 4096 * 1000 + 3), 3);
	model_close(&m);
}

static void ranges(void **state)
{
	struct model m;
	struct virtq_mem *table;
	uint64_t missing;
	uint8_t *va;

	(void)state;
	model_open(&m, 0);
	update(&m, 0, 2, 0, 3);
	update(&m, 2, 2, 2, 1); /* goes on, with less permission */
	update(&m, 4, 2, 100, 3);
	update(&m, 8, 2, 104, 3);
	table = virtq_iotlb_table(m.tlb, m.mem, VIRTQ_PERM_READ);
	assert_int_equal(virtq_iotlb_range(table, 10, 4 * CELL - 10, &va, &missing), 0);
	assert_ptr_equal(va, m.va + 10);
	assert_int_equal(virtq_iotlb_range(table, 0, 4 * CELL + 1, &va, &missing), -EFAULT);
	assert_int_equal(virtq_iotlb_range(table, 5 * CELL, 2 * CELL, &va, &missing), -ENOENT);
	assert_int_equal(missing, 6 * CELL);
	assert_int_equal(virtq_iotlb_range(table, 7 * CELL, 2 * CELL, &va, &missing), -ENOENT);
	assert_int_equal(missing, 7 * CELL);
	virtq_mem_put(table);
	table = virtq_iotlb_table(m.tlb, m.mem, VIRTQ_PERM_WRITE);
	assert_int_equal(virtq_iotlb_range(table, 0, 2 * CELL + 1, &va, &missing), -ENOENT);
	assert_int_equal(missing, 2 * CELL);
	/* The mapping lives as long as a table does. */
	virtq_mem_put(m.mem);
	m.mem = NULL;
	assert_int_equal(virtq_iotlb_range(table, 0, CELL, &va, &missing), 0);
	*va = 1;
	assert_ptr_equal(virtq_mem_of_guest(table)->regions ? m.va : NULL, va);
	virtq_mem_put(table);
	model_close(&m);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_the_model),
		cmocka_unit_test(refused),
		cmocka_unit_test(ends_of_the_address_space),
		cmocka_unit_test(full),
		cmocka_unit_test(ranges),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of the test library: clock, randomness, counting, guest memory. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ts_guest.h"
#include "ts_tap.h"
#include "ts_util.h"

#define MIB (UINT64_C(1) << 20)

/* ---- tools ---- */

static void test_rng(void **state)
{
	struct ts_rng a, b;
	uint64_t first;
	unsigned seen = 0;

	ts_rng_init(&a, 7);
	ts_rng_init(&b, 7);
	first = ts_rand(&a);
	assert_int_equal(first, ts_rand(&b));
	assert_int_not_equal(first, ts_rand(&a));
	for (int i = 0; i < 1000; i++) {
		uint32_t v = ts_rand_below(&a, 5);

		assert_true(v < 5);
		seen |= 1u << v;
	}
	assert_int_equal(seen, 0x1f);
	assert_int_equal(ts_rand_below(&a, 0), 0);
	assert_int_equal(ts_seed(), ts_seed());
}

static void test_wait(void **state)
{
	uint64_t t = ts_now_ms();
	int looks = 0;

	assert_true(TS_WAIT(++looks == 3, 10000));
	assert_int_equal(looks, 3);
	assert_false(TS_WAIT(false, 20));
	assert_true(ts_now_ms() - t >= 20);
	assert_true(TS_WAIT(true, 0));
}

static void test_faults(void **state)
{
	struct ts_faults f = {0};

	ts_fault(&f, "one %d", 1);
	ts_fault(&f, "two");
	assert_int_equal(f.count, 2);
	assert_string_equal(f.first, "one 1");
	assert_string_equal(f.last, "two");
}

static void test_counting(void **state)
{
	int fds = ts_count_fds(NULL), memfds = ts_count_fds("memfd:"),
	    maps = ts_count_maps("ts-guest");
	struct ts_guest *g = ts_guest_one(MIB);

	assert_non_null(g);
	assert_true(fds >= 3);
	assert_int_equal(ts_count_fds(NULL), fds + 1);
	assert_int_equal(ts_count_fds("memfd:ts-guest"), memfds + 1);
	assert_int_equal(ts_count_maps("ts-guest"), maps + 1);
	ts_guest_free(g);
	assert_int_equal(ts_count_fds(NULL), fds);
	assert_int_equal(ts_count_maps("ts-guest"), maps);
}

/* ---- guest memory ---- */

/* Does touching this address kill a process? */
static bool faults_at(const volatile uint8_t *p)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		_exit(*p ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status);
}

static struct ts_guest *two_neighbours(void)
{
	struct ts_guest *g = ts_guest_new();
	const struct ts_region_conf a = {.gpa = 16 * MIB, .size = MIB, .uva = 0x7000000000};
	const struct ts_region_conf b = {.gpa = 17 * MIB, .size = MIB, .mmap_offset = 3 * 4096};

	assert_int_equal(ts_guest_add(g, &a), 0);
	assert_int_equal(ts_guest_add(g, &b), 1);
	return g;
}

static void test_guest_addresses(void **state)
{
	struct ts_guest *g = two_neighbours();

	assert_ptr_equal(ts_va(g, 16 * MIB + 5, MIB - 5), g->r[0].va + 5);
	assert_null(ts_va(g, 17 * MIB - 1, 2));
	assert_null(ts_va(g, 18 * MIB, 1));
	assert_null(ts_va(g, 16 * MIB - 1, 1));
	assert_int_equal(ts_gpa(g, g->r[1].va + 9), 17 * MIB + 9);
	assert_true(ts_gpa(g, g) == TS_NOMEM);
	assert_int_equal(ts_uva(g, 16 * MIB + 3), 0x7000000003);
	assert_int_equal(ts_uva(g, 17 * MIB), (uintptr_t)g->r[1].va);
	assert_true(ts_uva(g, 18 * MIB) == TS_NOMEM);
	ts_guest_free(g);
}

static void test_guest_file(void **state)
{
	struct ts_guest *g = two_neighbours();
	char buf[8] = "";

	memcpy(g->r[1].va, "hello", 6);
	assert_int_equal(pread(g->r[1].fd, buf, 6, 3 * 4096), 6);
	assert_string_equal(buf, "hello");
	assert_int_equal(ts_region_punch(g, 1, 0, 4096), 0);
	assert_int_equal(g->r[1].va[0], 0);
	assert_int_equal(ts_region_truncate(g, 1, 0), 0);
	assert_true(faults_at(g->r[1].va));
	ts_region_close_fd(g, 1);
	assert_int_equal(g->r[1].fd, -1);
	ts_guest_free(g);
}

static void test_guest_guards(void **state)
{
	struct ts_guest *g = two_neighbours();

	for (unsigned i = 0; i < 2; i++) {
		assert_false(faults_at(g->r[i].va));
		assert_false(faults_at(g->r[i].va + MIB - 1));
		assert_true(faults_at(g->r[i].va - 1));
		assert_true(faults_at(g->r[i].va + MIB));
	}
	ts_guest_free(g);
}

static void test_guest_rejects(void **state)
{
	const struct ts_region_conf bad[] = {
		{.gpa = 0, .size = 0},
		{.gpa = 1, .size = 4096},
		{.gpa = 0, .size = 4095},
		{.gpa = 0, .size = 4096, .mmap_offset = 1},
		{.gpa = 0, .size = 4096, .flags = TS_REGION_HUGE},
		{.gpa = UINT64_MAX - 4095, .size = 8192},
		{.gpa = 17 * MIB - 4096, .size = 8192},
	};
	struct ts_guest *g = two_neighbours();

	for (unsigned i = 0; i < TS_ARRAY_SIZE(bad); i++)
		assert_int_equal(ts_guest_add(g, &bad[i]), -EINVAL);
	assert_int_equal(g->n, 2);
	ts_guest_free(g);
}

static void test_guest_alloc(void **state)
{
	struct ts_guest *g = two_neighbours();
	uint8_t in[100], out[100] = {0};
	uint64_t at;

	assert_int_equal(ts_alloc(g, 0, 3, 1), 16 * MIB);
	assert_int_equal(ts_alloc(g, 0, 8, 64), 16 * MIB + 64);
	assert_int_equal(ts_alloc_top(g, 1, 10, 1), 18 * MIB - 10);
	assert_int_equal(ts_alloc_top(g, 1, 10, 16), 18 * MIB - 32);
	at = ts_alloc_cross(g, 0, 40, 60);
	assert_int_equal(at, 17 * MIB - 40);
	for (unsigned i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i + 1);
	assert_int_equal(ts_guest_write(g, at, in, sizeof(in)), 0);
	assert_int_equal(ts_guest_read(g, at, out, sizeof(out)), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(g->r[1].va[0], 41);
	assert_int_equal(ts_guest_write(g, 18 * MIB - 50, in, 100), -EFAULT);
	assert_true(ts_alloc_cross(g, 0, 1, 1) == TS_NOMEM);
	assert_true(ts_alloc(g, 0, MIB, 1) == TS_NOMEM);
	assert_true(ts_alloc(g, 7, 1, 1) == TS_NOMEM);
	ts_guest_forget(g);
	assert_int_equal(ts_alloc(g, 0, MIB, 1), 16 * MIB);
	ts_guest_free(g);
}

static void test_guest_huge(void **state)
{
	const struct ts_region_conf c = {.gpa = 0, .size = 2 * MIB, .flags = TS_REGION_HUGE};
	struct ts_guest *g = ts_guest_new();
	int rc = ts_guest_add(g, &c);

	if (rc) {
		ts_guest_free(g);
		ts_skip("no free 2 MiB hugepage: %s", strerror(-rc));
	}
	assert_int_equal((uintptr_t)g->r[0].va % (2 * MIB), 0);
	g->r[0].va[2 * MIB - 1] = 1;
	assert_true(faults_at(g->r[0].va + 2 * MIB));
	ts_guest_free(g);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rng),
		cmocka_unit_test(test_wait),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_counting),
		cmocka_unit_test(test_guest_addresses),
		cmocka_unit_test(test_guest_file),
		cmocka_unit_test(test_guest_guards),
		cmocka_unit_test(test_guest_rejects),
		cmocka_unit_test(test_guest_alloc),
		cmocka_unit_test(test_guest_huge),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The watch on guest memory sees each access once, as wide as it is, and finds what is read twice. */
#include <stdio.h>
#include <string.h>

#include "ts_tap.h"
#include "ts_util.h"
#include "ts_watch.h"

#ifdef TS_WATCH_CAN

#define AT 0x100100ull /* a guest address */

static struct ts_guest *guest;
static struct ts_watch *watch;
static uint8_t *va; /* of AT */

static int setup(void **state)
{
	(void)state;
	guest = ts_guest_one(64 << 10);
	watch = guest ? ts_watch_new(guest) : NULL;
	va = guest ? ts_va(guest, AT, 1) : NULL;
	return watch ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	ts_watch_free(watch);
	ts_guest_free(guest);
	return 0;
}

/* One instruction, whose memory operand is va + off, was one access. */
#define ONE(text, off, width, reads, writes)                                                \
	do {                                                                                \
		ts_watch_begin(watch);                                                      \
		__asm__ volatile(text : : "r"(va + (off)) : "rax", "xmm0", "memory", "cc"); \
		ts_watch_end(watch);                                                        \
		expect_one(text, AT + (off), width, reads, writes);                         \
	} while (0)

static void expect_one(const char *text, uint64_t gpa, unsigned len, bool reads, bool writes)
{
	const struct ts_access *a = watch->access;

	if (watch->n != 1 || a->gpa != gpa || a->len != len || a->read != reads ||
		a->write != writes)
		fail_msg("\"%s\": %u accesses, the first of %u bytes at %#llx, read %d, write %d",
			text, watch->n, a->len, (unsigned long long)a->gpa, a->read, a->write);
}

static void loads(void **state)
{
	(void)state;
	for (unsigned off = 0; off < 9; off++) {
		ONE("movb (%0), %%al", off, 1, true, false);
		ONE("movzbl (%0), %%eax", off, 1, true, false);
		ONE("movzwl (%0), %%eax", off, 2, true, false);
		ONE("movw (%0), %%ax", off, 2, true, false);
		ONE("movl (%0), %%eax", off, 4, true, false);
		ONE("movslq (%0), %%rax", off, 4, true, false);
		ONE("movq (%0), %%rax", off, 8, true, false);
		ONE("cmpw $3, (%0)", off, 2, true, false);
		ONE("cmpq $3, (%0)", off, 8, true, false);
		ONE("testb $3, (%0)", off, 1, true, false);
		ONE("addl (%0), %%eax", off, 4, true, false);
		ONE("cmovel (%0), %%eax", off, 4, true, false);
		ONE("movd (%0), %%xmm0", off, 4, true, false);
		ONE("movq (%0), %%xmm0", off, 8, true, false);
		ONE("movss (%0), %%xmm0", off, 4, true, false);
		ONE("movsd (%0), %%xmm0", off, 8, true, false);
		ONE("movhps (%0), %%xmm0", off, 8, true, false);
		ONE("movdqu (%0), %%xmm0", off, 16, true, false);
		ONE("movups (%0), %%xmm0", off, 16, true, false);
		ONE("pinsrw $1, (%0), %%xmm0", off, 2, true, false);
		ONE("rolw $8, (%0)", off, 2, true, true);
	}
	if (__builtin_cpu_supports("sse4.1"))
		ONE("pinsrq $1, (%0), %%xmm0", 0, 8, true, false);
	if (__builtin_cpu_supports("avx2")) {
		ONE("vmovdqu (%0), %%ymm0", 0, 32, true, false);
		ONE("vpcmpeqb (%0), %%ymm0, %%ymm0", 0, 32, true, false);
	}
	if (__builtin_cpu_supports("avx512vl"))
		ONE("vmovdqu64 (%0), %%zmm0", 0, 64, true, false);
}

static void stores(void **state)
{
	(void)state;
	ONE("movb $1, (%0)", 0, 1, false, true);
	ONE("movw %%ax, (%0)", 1, 2, false, true);
	ONE("movl $1, (%0)", 2, 4, false, true);
	ONE("movq %%rax, (%0)", 3, 8, false, true);
	ONE("movntil %%eax, (%0)", 4, 4, false, true);
	ONE("movdqu %%xmm0, (%0)", 5, 16, false, true);
	ONE("movntdq %%xmm0, (%0)", 0, 16, false, true);
	ONE("movq %%xmm0, (%0)", 6, 8, false, true);
	ONE("sete (%0)", 7, 1, false, true);
	ONE("addl $1, (%0)", 8, 4, true, true);
	ONE("lock; orb $1, (%0)", 9, 1, true, true);
	ONE("xchgl %%eax, (%0)", 10, 4, true, true);
	ONE("lock; cmpxchgl %%eax, (%0)", 11, 4, true, true);
}

/* One access, though it takes two faults. */
static void across_pages(void **state)
{
	const unsigned end = 4096 - (AT & 4095);

	(void)state;
	for (unsigned before = 1; before < 8; before++) {
		ONE("movq (%0), %%rax", end - before, 8, true, false);
		ONE("movq %%rax, (%0)", end - before, 8, false, true);
	}
	ONE("movdqu (%0), %%xmm0", end - 3, 16, true, false);
}

/* From guest to guest, step by step. */
static void strings(void **state)
{
	const uint8_t *from = va;
	uint8_t *to = va + 8192;
	size_t n = 5;

	(void)state;
	memset(va, 7, 8);
	ts_watch_begin(watch);
	__asm__ volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(n) : : "memory");
	ts_watch_end(watch);
	assert_int_equal(watch->n, 10);
	for (unsigned i = 0; i < 10; i++) {
		const struct ts_access *a = &watch->access[i];

		assert_int_equal(a->len, 1);
		assert_int_equal(a->read, i % 2 == 0);
		assert_int_equal(a->gpa, AT + i / 2 + (a->write ? 8192 : 0));
	}
	assert_int_equal(va[8192 + 4], 7);
}

static void read_twice(void **state)
{
	volatile uint64_t *q = (volatile uint64_t *)va;
	volatile uint16_t *h = (volatile uint16_t *)(va + 6);
	char why[200];

	(void)state;
	ts_watch_begin(watch);
	(void)q[0], (void)q[1];
	ts_watch_end(watch);
	assert_true(ts_watch_once(watch, why, sizeof(why)));
	ts_watch_begin(watch);
	(void)q[0], (void)h[1], (void)h[0];
	ts_watch_end(watch);
	assert_false(ts_watch_once(watch, why, sizeof(why)));
	assert_non_null(strstr(why, "byte 0x100106 of the guest is read 2 times"));
	assert_int_equal(ts_watch_reads(watch, AT + 5), 1);
	assert_int_equal(ts_watch_reads(watch, AT + 7), 2);
	assert_int_equal(ts_watch_reads(watch, AT + 9), 1);
	ts_watch_allow(watch, AT + 6, 2, 1);
	assert_true(ts_watch_once(watch, why, sizeof(why)));
	ts_watch_allow(watch, AT + 6, 1, 0);
	assert_false(ts_watch_once(watch, why, sizeof(why)));
	ts_watch_begin(watch);
	ts_watch_end(watch);
	assert_int_equal(watch->n, 0);
	assert_int_equal(ts_watch_reads(watch, AT + 7), 0);
}

/* Whoever reads again sees what was written meanwhile. */
static void flip(void *arg, const struct ts_access *a)
{
	(void)arg;
	if (a->read)
		*(uint8_t *)ts_va(guest, a->gpa, 1) ^= 0xff;
}

static void rewritten_behind(void **state)
{
	volatile uint8_t *b = va;
	unsigned first, second;

	(void)state;
	va[0] = 0x55;
	watch->after = flip;
	ts_watch_begin(watch);
	first = b[0];
	second = b[0];
	ts_watch_end(watch);
	assert_int_equal(first, 0x55);
	assert_int_equal(second, 0xaa);
}

/* The copies a program that watches is linked with. */
static void copies(void **state)
{
	static uint8_t ours[300], back[300];
	char why[200];

	(void)state;
	for (unsigned n = 0; n < sizeof(ours); n++) {
		volatile size_t len = n; /* no copy of a known length */

		for (unsigned i = 0; i < n; i++)
			va[i] = (uint8_t)(i * 7 + n);
		ts_watch_begin(watch);
		memcpy(ours, va, len);
		ts_watch_end(watch);
		assert_true(ts_watch_once(watch, why, sizeof(why)));
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(ours[i], (uint8_t)(i * 7 + n));
		assert_int_equal(memcmp(ours, va, len), 0);
		memcpy(back, ours, sizeof(back));
		memmove(back + 1, back, len < 299 ? len : 299);
		memmove(back, back + 1, len < 299 ? len : 299);
		assert_int_equal(memcmp(back, ours, len < 299 ? len : 299), 0);
	}
	ours[100] = 1, va[100] = 2;
	assert_true(memcmp(ours + 90, va + 90, 20) < 0);
	assert_true(memcmp(va + 90, ours + 90, 20) > 0);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(loads, setup, teardown),
		cmocka_unit_test_setup_teardown(stores, setup, teardown),
		cmocka_unit_test_setup_teardown(across_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(strings, setup, teardown),
		cmocka_unit_test_setup_teardown(read_twice, setup, teardown),
		cmocka_unit_test_setup_teardown(rewritten_behind, setup, teardown),
		cmocka_unit_test_setup_teardown(copies, setup, teardown),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}
#else
int main(void)
{
	puts("1..0 # SKIP one instruction at a time goes on x86-64 without sanitizers only");
	return 0;
}
#endif

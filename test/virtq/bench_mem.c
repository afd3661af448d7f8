/* SPDX-License-Identifier: BSD-3-Clause */
/* What the translation of a guest address costs, over tables of 1 to 509 regions. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virtq_mem.h"

#define K       1024ull
#define M       (1024 * K)
#define G       (1024 * M)
#define BUFFER  (2 * K)
#define BUFFERS (1u << 16)
#define BURST   64 /* translations with one hint */
#define ROUNDS  31

/* A guest: what it booted with, then memory modules of one size. */
struct layout {
	const char *name;
	uint64_t boot, module;
};

static const struct layout layouts[] = {
	{"modules as large as what it booted with", 128 * M, 128 * M},
	{"small modules beside much memory", 64 * G, 2 * M},
};

static const uint32_t counts[] = {1, 8, 64, VIRTQ_MEM_SLOTS};

static uint64_t address[BUFFERS];
static int file;

static uint64_t xorshift(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	return *x ^= *x << 17;
}

static struct virtq_mem *make(const struct layout *l, uint32_t n)
{
	static struct virtq_mem_req reqs[VIRTQ_MEM_SLOTS];
	struct virtq_mem *mem;
	char why[200];
	uint64_t at = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t size = i ? l->module : l->boot;

		reqs[i] = (struct virtq_mem_req){at, size, at, 0, file};
		at += size;
	}
	if (virtq_mem_create(reqs, n, NULL, &mem, why, sizeof(why)) == 0)
		return mem;
	fprintf(stderr, "bench_mem: %s\n", why);
	exit(1);
}

/* Buffers as a driver has them that took them one after the other, or from everywhere: from each
 * region as many, so that small ones count. */
static void place(const struct virtq_mem *mem, bool mixed)
{
	uint64_t seed = 88172645463325252;
	uint32_t each = BUFFERS / mem->n + 1;

	for (uint32_t i = 0; i < BUFFERS; i++) {
		uint32_t at = mixed ? (uint32_t)(xorshift(&seed) % mem->n) : i / each;
		uint64_t buffers = mem->spans[at].size / BUFFER;
		uint64_t k = mixed ? xorshift(&seed) : i % each;

		address[i] = mem->spans[at].gpa + k % buffers * BUFFER;
	}
}

static uint64_t run(const struct virtq_mem *mem)
{
	uint64_t start = __builtin_ia32_rdtsc(), sum = 0;
	uint32_t hint = 0;

	for (uint32_t i = 0; i < BUFFERS; i++) {
		uint64_t len = 1526;

		if (i % BURST == 0)
			hint = 0;
		sum += (uintptr_t)virtq_mem_gpa(mem, &hint, address[i], &len) + len;
	}
	__asm__ volatile("" ::"r"(sum));
	return __builtin_ia32_rdtsc() - start;
}

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void measure(const struct layout *l, uint32_t n, bool mixed)
{
	struct virtq_mem *mem = make(l, n);
	uint64_t cycles[ROUNDS];

	place(mem, mixed);
	run(mem);
	for (unsigned i = 0; i < ROUNDS; i++)
		cycles[i] = run(mem);
	qsort(cycles, ROUNDS, sizeof(cycles[0]), by_value);
	printf("%7u %-10s %8.1f %8.1f %8.1f\n", n, mixed ? "random" : "sequential",
		(double)cycles[0] / BUFFERS, (double)cycles[ROUNDS / 2] / BUFFERS,
		(double)cycles[ROUNDS * 9 / 10] / BUFFERS);
	virtq_mem_put(mem);
}

int main(void)
{
	file = memfd_create("bench", MFD_CLOEXEC);
	if (file < 0 || ftruncate(file, (off_t)(64 * G)) != 0) {
		perror("bench_mem: memory file");
		return 1;
	}
	for (size_t l = 0; l < sizeof(layouts) / sizeof(layouts[0]); l++) {
		printf("%s: TSC cycles per translation\n", layouts[l].name);
		printf("%7s %-10s %8s %8s %8s\n", "regions", "buffers", "best", "median", "90 %");
		for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
			for (int mixed = 0; mixed < 2; mixed++)
				measure(&layouts[l], counts[i], mixed);
	}
	return 0;
}

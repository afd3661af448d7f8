/* SPDX-License-Identifier: BSD-3-Clause */
/* What is left of a copy between two guests when everything but their cache lines is taken away. */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <emmintrin.h>
#include <x86intrin.h>

#include "measure.h"

/*
 * Theory of operation
 *
 * One thread is both guests: it writes a word into each line of what it sends and reads one of each line of what it
 * gets. The other is the switch: it copies each frame, and does nothing else; no ring, no descriptor, no mbuf. Batches
 * of frames are handed over by two counters. So a switch that copies in the same way can be no cheaper: this is its
 * limit on this machine, with these CPUs as far from each other as they are just now. Buffers are as many as a ring's, and
 * follow each other in no order, as a guest's do: what lies side by side the CPU would fetch by itself.
 *
 *	lines [SIZE [GUESTS-CPU SWITCH-CPU]]	TSC cycles a frame, of the switch and of the guest
 *
 * Ways take turns of TURN batches, so that what drifts meets all of them.
 */

#define FRAMES 1024  /* a power of two */
#define SPREAD 77    /* odd: one buffer and the next are so many apart */
#define ROOM   16384 /* of a frame, at most */
#define HEAD   128
#define BATCH  32
#define AHEAD  4 /* batches the guest may be before the switch */
#define TURN   200
#define ROUNDS 40
#define LINE   64

static uint8_t *sent, *got, *between;
static uint32_t size = 1518,
		stride; /* an odd number of lines, lest all share a few sets of the caches */
static uint32_t produced, copied; /* batches; written by the guest, by the switch */
static bool ending;
static struct {
	uint64_t cycles, frames;
} reading;

static uint8_t *frame_of(uint8_t *all, uint32_t batch, unsigned i)
{
	return all + (size_t)((batch * BATCH + i) * SPREAD % FRAMES) * stride + HEAD;
}

static void *memory(size_t len)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);

	if (at == MAP_FAILED) {
		perror("lines: 48 MiB of huge pages");
		exit(1);
	}
	return at;
}

/* ---- the guests ---- */

static void write_batch(uint32_t n)
{
	for (unsigned i = 0; i < BATCH; i++)
		for (uint32_t at = 0; at < size; at += LINE)
			*(volatile uint64_t *)(void *)(frame_of(sent, n, i) + at) = n + at;
}

static void read_batch(uint32_t n)
{
	uint64_t start = __rdtsc();

	for (unsigned i = 0; i < BATCH; i++)
		for (uint32_t at = 0; at < size; at += LINE)
			(void)*(volatile uint64_t *)(void *)(frame_of(got, n, i) + at);
	__atomic_store_n(&reading.cycles, reading.cycles + __rdtsc() - start, __ATOMIC_RELAXED);
	__atomic_store_n(&reading.frames, reading.frames + BATCH, __ATOMIC_RELAXED);
}

static void *guests(void *cpu)
{
	uint32_t made = 0, read = 0;

	stay_on(*(int *)cpu);
	while (!__atomic_load_n(&ending, __ATOMIC_RELAXED)) {
		uint32_t there = __atomic_load_n(&copied, __ATOMIC_ACQUIRE);

		if (made - there < AHEAD) {
			write_batch(made);
			__atomic_store_n(&produced, ++made, __ATOMIC_RELEASE);
		}
		if (read != there)
			read_batch(read++);
	}
	return NULL;
}

/* ---- the switch ---- */

static void own_next(uint32_t n, unsigned i)
{
	uint8_t *to = frame_of(got, n, i + 1);

	for (uint32_t at = 0; i + 1 < BATCH && at < size; at += LINE)
		__asm__ volatile("prefetchw %0" : : "m"(to[at]));
}

static void once(uint32_t n)
{
	for (unsigned i = 0; i < BATCH; i++)
		memcpy(frame_of(got, n, i), frame_of(sent, n, i), size);
}

static void once_owning(uint32_t n)
{
	for (unsigned i = 0; i < BATCH; i++) {
		own_next(n, i);
		memcpy(frame_of(got, n, i), frame_of(sent, n, i), size);
	}
}

static void take_in(uint32_t n)
{
	for (unsigned i = 0; i < BATCH; i++)
		memcpy(frame_of(between, 0, i), frame_of(sent, n, i), size);
}

static void twice(uint32_t n)
{
	take_in(n);
	for (unsigned i = 0; i < BATCH; i++)
		memcpy(frame_of(got, n, i), frame_of(between, 0, i), size);
}

static void twice_owning(uint32_t n)
{
	take_in(n);
	for (unsigned i = 0; i < BATCH; i++) {
		own_next(n, i);
		memcpy(frame_of(got, n, i), frame_of(between, 0, i), size);
	}
}

static void once_past(uint32_t n)
{
	for (unsigned i = 0; i < BATCH; i++) {
		__m128i *to = (void *)frame_of(got, n, i), *from = (void *)frame_of(sent, n, i);

		for (uint32_t k = 0; k < size / sizeof(*to); k++)
			_mm_stream_si128(to + k, _mm_load_si128(from + k));
	}
	_mm_sfence();
}

static void once_past_asking(uint32_t n)
{
	for (unsigned i = 0; i < BATCH; i++) {
		const uint8_t *from = frame_of(sent, n, i),
			      *next = i + 1 < BATCH ? frame_of(sent, n, i + 1) : from;
		uint8_t *to = frame_of(got, n, i);

		for (uint32_t at = 0; at < size; at += LINE) {
			const uint32_t ahead = at + 1024;

			_mm_prefetch(
				ahead < size ? from + ahead : next + (ahead - size), _MM_HINT_T0);
			for (uint32_t k = at; k < at + LINE; k += sizeof(__m128i))
				_mm_stream_si128(
					(void *)(to + k), _mm_load_si128((const void *)(from + k)));
		}
	}
	_mm_sfence();
}

static const struct {
	const char *name;
	void (*copy)(uint32_t batch);
} ways[] = {
	{"two copies", twice},
	{"two, lines owned in time", twice_owning},
	{"one copy", once},
	{"one, lines owned in time", once_owning},
	{"one, past the cache", once_past},
	{"the same, asked for in time", once_past_asking},
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* Cycles a frame, of batches of a way; and what reading them cost. */
static double turn(unsigned way, double *read)
{
	uint64_t busy = 0, cycles = __atomic_load_n(&reading.cycles, __ATOMIC_RELAXED),
		 frames = __atomic_load_n(&reading.frames, __ATOMIC_RELAXED);

	for (unsigned k = 0; k < TURN; k++) {
		uint64_t start;

		while (__atomic_load_n(&produced, __ATOMIC_ACQUIRE) == copied)
			;
		start = __rdtsc();
		ways[way].copy(copied);
		busy += __rdtsc() - start;
		__atomic_store_n(&copied, copied + 1, __ATOMIC_RELEASE);
	}
	frames = __atomic_load_n(&reading.frames, __ATOMIC_RELAXED) - frames;
	*read = (double)(__atomic_load_n(&reading.cycles, __ATOMIC_RELAXED) - cycles) /
		(double)(frames ? frames : 1);
	return (double)busy / (TURN * BATCH);
}

int main(int argc, char **argv)
{
	static double took[WAYS][ROUNDS], read[WAYS][ROUNDS];
	int cpu[2] = {0, 1};
	pthread_t thread;

	if (argc > 1)
		size = (uint32_t)atoi(argv[1]);
	if (argc > 3)
		cpu[0] = atoi(argv[2]), cpu[1] = atoi(argv[3]);
	if (argc > 4 || argc == 3 || size < LINE || size > ROOM - 2 * HEAD) {
		fputs("usage: lines [SIZE(64-16128) [GUESTS-CPU SWITCH-CPU]]\n", stderr);
		return 2;
	}
	stride = (HEAD + size + 2 * LINE - 1) / (2 * LINE) * (2 * LINE) + LINE;
	sent = memory(FRAMES * ROOM);
	got = memory(FRAMES * ROOM);
	between = memory(FRAMES * ROOM);
	if (pthread_create(&thread, NULL, guests, &cpu[0]) != 0)
		return 1;
	stay_on(cpu[1]);
	for (unsigned r = 0; r < ROUNDS; r++)
		for (unsigned w = 0; w < WAYS; w++)
			took[w][r] = turn(w, &read[w][r]);
	__atomic_store_n(&ending, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	printf("%u bytes, TSC cycles a frame     median  quartiles      guest reads\n", size);
	for (unsigned w = 0; w < WAYS; w++)
		printf("%-31s %7.0f  %5.0f %5.0f  %7.0f\n", ways[w].name,
			quantile(took[w], ROUNDS, 0.5), quantile(took[w], ROUNDS, 0.25),
			quantile(took[w], ROUNDS, 0.75), quantile(read[w], ROUNDS, 0.5));
	return 0;
}

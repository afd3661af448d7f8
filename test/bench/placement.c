/* SPDX-License-Identifier: BSD-3-Clause */
/* Prints, ten times a second, how far two CPUs are from each other right now, and their clocks. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <x86intrin.h>

/*
 * Theory of operation
 *
 * A virtual CPU may be moved by its host at any time, and what two of them share moves a
 * back-end's speed by a factor of three. So: two real-time threads, one on each CPU, wake at the same
 * instant, bounce a cache line and go back to sleep: about 0.1 % of the time of whatever
 * else runs there. The leader prints a line for each time:
 *
 *	<CLOCK_MONOTONIC seconds> <TSC cycles a round trip> <GHz of first CPU> <GHz of second>
 *
 * after a first line with the TSC's frequency in MHz.
 *
 * A thread that was itself interrupted would report too much, so of three groups of
 * bounces the fastest counts. It ends when nobody reads any more, or by a signal.
 */

#define PERIOD_NS 100000000ll
#define GROUPS    3
#define BOUNCES   100 /* in a group */
#define ADDS      8000

struct shared {
	/* Odd: written by the leader, read by the follower; even: the other way round. */
	_Alignas(128) uint32_t line;
	/* Written by the follower before its last bounce, read by the leader after it. */
	_Alignas(128) double follower_ghz;
};

static struct shared shared;
static int cpu[2];
static int64_t first_tick;

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static void sleep_until(int64_t ns)
{
	struct timespec ts = {ns / 1000000000ll, ns % 1000000000ll};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static double tsc_mhz(void)
{
	int64_t ns = now_ns();
	uint64_t tsc = __rdtsc();

	sleep_until(ns + PERIOD_NS);
	tsc = __rdtsc() - tsc;
	return (double)tsc * 1e3 / (double)(now_ns() - ns);
}

/* Additions that need each other's result take one cycle each. */
static double clock_ghz(void)
{
	int64_t best = INT64_MAX;

	for (int run = 0; run < 3; run++) {
		int64_t start = now_ns(), took;
		uint64_t x = 0;

		for (int i = 0; i < ADDS / 8; i++)
			__asm__ volatile("add %1, %0; add %1, %0; add %1, %0; add %1, %0;"
					 "add %1, %0; add %1, %0; add %1, %0; add %1, %0"
					 : "+r"(x)
					 : "r"((uint64_t)run));
		took = now_ns() - start;
		if (took < best)
			best = took;
	}
	return (double)ADDS / (double)best;
}

static void wait_for(uint32_t value)
{
	while (__atomic_load_n(&shared.line, __ATOMIC_ACQUIRE) != value)
		;
}

static void say(uint32_t value)
{
	__atomic_store_n(&shared.line, value, __ATOMIC_RELEASE);
}

/* One group of bounces; their first value is base + 1. TSC cycles a round trip. */
static double bounce(uint32_t base)
{
	uint64_t start;

	say(base + 1); /* the first waits for the follower to wake */
	wait_for(base + 2);
	start = __rdtsc();
	for (uint32_t i = 1; i <= BOUNCES; i++) {
		say(base + 2 * i + 1);
		wait_for(base + 2 * i + 2);
	}
	return (double)(__rdtsc() - start) / BOUNCES;
}

static void pin(int which)
{
	struct sched_param param = {.sched_priority = 50};
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu[which], &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0) {
		fprintf(stderr, "placement: cannot run on CPU %d: %s\n", cpu[which],
			strerror(errno));
		exit(1);
	}
	if (sched_setscheduler(0, SCHED_FIFO, &param) != 0) {
		fprintf(stderr, "placement: cannot get real-time priority: %s: run as root\n",
			strerror(errno));
		exit(1);
	}
}

#define ROUND (2u * (BOUNCES + 1)) /* values a group uses up */

static void *follower(void *arg)
{
	uint32_t value = 0;

	(void)arg;
	pin(1);
	for (int64_t tick = first_tick;; tick += PERIOD_NS) {
		sleep_until(tick);
		shared.follower_ghz = clock_ghz();
		for (unsigned i = 0; i < GROUPS * (BOUNCES + 1); i++, value += 2) {
			wait_for(value + 1);
			say(value + 2);
		}
	}
	return NULL;
}

static void leader(void)
{
	uint32_t value = 0;

	pin(0);
	for (int64_t tick = first_tick;; tick += PERIOD_NS) {
		double best = 1e9, ghz;

		sleep_until(tick);
		ghz = clock_ghz();
		for (int i = 0; i < GROUPS; i++, value += ROUND) {
			double took = bounce(value);

			if (took < best)
				best = took;
		}
		if (printf("%.3f %.0f %.3f %.3f\n", (double)now_ns() / 1e9, best, ghz,
			    shared.follower_ghz) < 0 ||
			fflush(stdout) != 0)
			exit(0);
	}
}

static int cpu_number(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || value < 0 || value >= CPU_SETSIZE) {
		fprintf(stderr, "placement: no CPU number: %s\n", text);
		exit(2);
	}
	return (int)value;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	int err;

	if (argc != 3) {
		fprintf(stderr, "usage: placement FIRST-CPU SECOND-CPU\n");
		return 2;
	}
	for (int i = 0; i < 2; i++)
		cpu[i] = cpu_number(argv[i + 1]);
	if (cpu[0] == cpu[1]) {
		fprintf(stderr, "placement: two different CPUs are needed\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	printf("%.3f\n", tsc_mhz());
	first_tick = now_ns() + PERIOD_NS;
	err = pthread_create(&thread, NULL, follower, NULL);
	if (err) {
		fprintf(stderr, "placement: no second thread: %s\n", strerror(err));
		return 1;
	}
	leader();
}

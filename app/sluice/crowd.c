/* SPDX-License-Identifier: BSD-3-Clause */
/* Workers that are not alone on their CPU. */
#include "crowd.h"

#include <ctype.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sleep.h"
#include "sluice.h"

/*
 * Theory of operation
 *
 * Polling is worth a CPU if the CPU is there. Where the kernel gives it to other threads by turns, a worker that polls
 * finds packets no sooner: it is away for milliseconds at a time, often when they come, and what it polls in vain is
 * taken from the others, which may be the very guests that are to send them. One that sleeps when it has nothing to do
 * is woken at once, for it has slept.
 *
 * A worker that polls wants its CPU always: what its thread neither had nor slept, it waited for. When that is much,
 * and other threads had the CPU meanwhile (it was not the hypervisor), the worker is crowded, until the others have
 * gone for some seconds. The kernel's count of a CPU's time is by ticks, good enough for that.
 */

#define NS           UINT64_C(1000000000)
#define WAITS_LEAST  100 /* per mille of a second that somebody who is crowded waited */
#define OTHERS_LEAST 50  /* and that others had */
#define ALONE_S      5   /* seconds without others, after which they are gone */
#define ALONE_MAX_S  320 /* the same, if they have come back again and again */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts = {0};

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS + (uint64_t)ts.tv_nsec;
}

/* What a thread has had of a CPU so far. */
static uint64_t thread_ns(pthread_t thread)
{
	clockid_t clock;

	return pthread_getcpuclockid(thread, &clock) == 0 ? clock_ns(clock) : 0;
}

/* Of all CPUs, at one moment. */
struct cpu_times {
	bool read;
	cpu_set_t known;
	uint64_t ns[CPU_SETSIZE];
};

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* What all threads have had of each CPU so far, interrupts not counted. Empty if the system does not say. */
static void read_cpus(struct cpu_times *now)
{
	const uint64_t tick = NS / (uint64_t)sysconf(_SC_CLK_TCK);
	FILE *f = fopen("/proc/stat", "re");
	char line[512];

	CPU_ZERO(&now->known);
	while (f && fgets(line, sizeof(line), f) && strncmp(line, "cpu", 3) == 0) {
		uint64_t user, nice, kernel;
		unsigned cpu;

		if (!isdigit((unsigned char)line[3]) ||
			sscanf(line + 3, "%u %" SCNu64 " %" SCNu64 " %" SCNu64, &cpu, &user, &nice,
				&kernel) != 4 ||
			cpu >= CPU_SETSIZE)
			continue;
		now->ns[cpu] = (user + nice + kernel) * tick;
		CPU_SET(cpu, &now->known);
	}
	if (f)
		fclose(f);
	now->read = true;
}

/* Of the CPUs that this thread may run on together. 0: not known. @param n how many these are */
static uint64_t cpu_ns(struct cpu_times *now, pthread_t thread, uint32_t *n)
{
	uint64_t sum = 0;
	cpu_set_t cpus;

	if (!now->read)
		read_cpus(now);
	if (pthread_getaffinity_np(thread, sizeof(cpus), &cpus) != 0)
		CPU_ZERO(&cpus);
	CPU_AND(&cpus, &cpus, &now->known);
	*n = (uint32_t)CPU_COUNT(&cpus);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &cpus))
			sum += now->ns[cpu];
	return sum;
}

/* Others leave and come again: who has just been crowded is believed to be alone after a longer while. */
static void leave(const struct worker *w, struct crowd *c)
{
	c->crowded = false;
	c->left = w->sl->now;
	SL_LOG(INFO, "lcore %u has its CPU for itself again", w->lcore);
}

static void enter(const struct worker *w, struct crowd *c)
{
	const bool again = c->left && w->sl->now - c->left < 2 * c->patience;

	c->patience = again ? RTE_MIN(2 * c->patience, ALONE_MAX_S) : ALONE_S;
	c->alone = 0;
	c->crowded = true;
	SL_LOG(NOTICE,
		"lcore %u shares its CPU with other threads and waited for it %u.%u %% of the last "
		"second: "
		"give it one of its own; until then it sleeps when idle, if its ports can wake it",
		w->lcore, c->waits / 10, c->waits % 10);
}

/* @param others per mille of a CPU that other threads had where the worker might have been */
static bool judge(const struct worker *w, struct crowd *c, uint32_t others)
{
	if (!c->crowded) {
		if (c->waits < WAITS_LEAST || others < OTHERS_LEAST)
			return false;
		enter(w, c);
		return true;
	}
	c->alone = others < OTHERS_LEAST ? c->alone + 1 : 0;
	if (c->alone < c->patience)
		return false;
	leave(w, c);
	return true;
}

/* `set sleep` says what it is to do. */
static void forget(struct crowd *c)
{
	c->crowded = false;
	c->cpu = 0;
	c->left = 0;
}

/* @param judging	false: whether it is crowded interests nobody */
static bool look(struct worker *w, struct cpu_times *cpus, bool judging)
{
	struct crowd *c = &w->crowd, before = *c;
	uint64_t elapsed, ran, slept, others, spare;
	uint32_t n;

	if (!virtq_load_acquire(&w->runs))
		return false;
	c->time = clock_ns(CLOCK_MONOTONIC);
	c->ran = thread_ns(w->thread);
	c->asleep = RTE_MAX(worker_asleep(w, rte_rdtsc()), before.asleep);
	elapsed = RTE_MAX(c->time - before.time, UINT64_C(1));
	ran = minus(c->ran, before.ran);
	slept = (c->asleep - before.asleep) * 1000 / w->us;
	c->waits = before.time ? (uint32_t)(minus(elapsed, ran + slept) * 1000 / elapsed) : 0;
	if (!judging) {
		forget(c);
		return false;
	}
	c->cpu = 0;
	if (!c->crowded && c->waits < WAITS_LEAST)
		return false;
	c->cpu = cpu_ns(cpus, w->thread, &n);
	if (before.cpu == 0 || c->cpu == 0)
		return false;
	/* Where it may run on several, what others have of all but one is not in its way. */
	others = minus(minus(c->cpu, before.cpu), ran);
	spare = (n - 1) * elapsed;
	return judge(w, c, (uint32_t)(minus(others, spare) * 1000 / elapsed));
}

bool crowd_measure(struct sluice *sl)
{
	static struct cpu_times cpus;
	bool changed = false;

	cpus.read = false;
	for (unsigned i = 0; i < sl->n_workers; i++)
		changed |= look(sl->workers[i], &cpus, sl->conf.sleep_auto);
	return changed;
}

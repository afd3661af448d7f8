/* SPDX-License-Identifier: BSD-3-Clause */
/* Workers that are not alone on their CPU. */
#include "crowd.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
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
#define ALONE_S      5

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

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* What all threads have had so far of the CPUs this one may run on, interrupts not counted.
 * 0: the system does not say. */
static uint64_t cpu_ns(pthread_t thread)
{
	FILE *f = fopen("/proc/stat", "re");
	uint64_t ticks = 0;
	char line[512];
	cpu_set_t cpus;

	if (pthread_getaffinity_np(thread, sizeof(cpus), &cpus) != 0)
		CPU_ZERO(&cpus);
	while (f && fgets(line, sizeof(line), f)) {
		uint64_t user, nice, kernel;
		unsigned cpu;

		if (sscanf(line, "cpu%u %" SCNu64 " %" SCNu64 " %" SCNu64, &cpu, &user, &nice,
			    &kernel) == 4 &&
			cpu < CPU_SETSIZE && CPU_ISSET(cpu, &cpus))
			ticks += user + nice + kernel;
	}
	if (f)
		fclose(f);
	return ticks * (NS / (uint64_t)sysconf(_SC_CLK_TCK));
}

static bool judge(const struct worker *w, struct crowd *c, uint32_t others)
{
	if (c->crowded) {
		c->alone = others < OTHERS_LEAST ? c->alone + 1 : 0;
		if (c->alone < ALONE_S)
			return false;
		SL_LOG(INFO, "lcore %u has its CPU for itself again", w->lcore);
	} else {
		if (c->waits < WAITS_LEAST || others < OTHERS_LEAST)
			return false;
		SL_LOG(NOTICE,
			"lcore %u shares its CPU with other threads and waited for it %u.%u %% of "
			"the "
			"last second: it sleeps when idle until they are gone (`set sleep 0`: "
			"never)",
			w->lcore, c->waits / 10, c->waits % 10);
	}
	c->crowded = !c->crowded;
	c->alone = 0;
	return true;
}

/* @param judging	false: whether it is crowded interests nobody */
static bool look(struct worker *w, bool judging)
{
	struct crowd *c = &w->crowd, now = *c;
	uint64_t elapsed, ran, slept, others;

	if (!virtq_load_acquire(&w->runs))
		return false;
	now.time = clock_ns(CLOCK_MONOTONIC);
	now.ran = thread_ns(w->thread);
	now.asleep = worker_asleep(w, rte_rdtsc());
	elapsed = RTE_MAX(now.time - c->time, UINT64_C(1));
	ran = minus(now.ran, c->ran);
	slept = minus(now.asleep, c->asleep) * 1000 / w->us;
	now.waits = c->time ? (uint32_t)(minus(elapsed, ran + slept) * 1000 / elapsed) : 0;
	now.cpu = judging && (now.crowded || now.waits >= WAITS_LEAST) ? cpu_ns(w->thread) : 0;
	others = c->cpu && now.cpu ? minus(now.cpu - c->cpu, ran) * 1000 / elapsed : 0;
	*c = now;
	return judging && judge(w, c, (uint32_t)others);
}

bool crowd_measure(struct sluice *sl)
{
	bool changed = false;

	for (unsigned i = 0; i < sl->n_workers; i++)
		changed |= look(sl->workers[i], sl->conf.sleep_auto);
	return changed;
}

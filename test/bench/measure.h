/* SPDX-License-Identifier: BSD-3-Clause */
/* What benchmarks of our own share. */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static inline __attribute__((noreturn)) void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
	exit(1);
}

static inline void stay_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		die("there is no such CPU for us");
}

static inline int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/** Sorts the values. @param q 0.5: the median */
static inline double quantile(double *values, unsigned n, double q)
{
	qsort(values, n, sizeof(*values), by_value);
	return values[(unsigned)(q * (n - 1))];
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Clock, repeatable randomness, and what /proc says this process holds. */
#include "ts_util.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void ts_fault(struct ts_faults *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->last, sizeof(f->last), fmt, ap);
	va_end(ap);
	if (f->count++ == 0)
		memcpy(f->first, f->last, sizeof(f->first));
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t ts_now_ms(void)
{
	return now_ns() / 1000000;
}

void ts_nap(void)
{
	const struct timespec nap = {.tv_nsec = 100000};

	nanosleep(&nap, NULL);
}

static uint64_t read_seed(void)
{
	const char *s = getenv("SLUICE_SEED");
	unsigned long long v;
	char *end;

	if (!s || !*s)
		return 0x51u;
	if (strcmp(s, "random") == 0)
		return now_ns();
	errno = 0;
	v = strtoull(s, &end, 0);
	if (errno || *end) {
		fprintf(stderr, "SLUICE_SEED=%s: expected a number or \"random\"\n", s);
		exit(2);
	}
	return v;
}

bool ts_all(void)
{
	const char *all = getenv("SLUICE_ALL");

	return all && strcmp(all, "1") == 0;
}

uint64_t ts_seed(void)
{
	static uint64_t seed;
	static bool known;

	if (!known) {
		seed = read_seed();
		known = true;
		fprintf(stderr, "# repeat with SLUICE_SEED=%#llx\n", (unsigned long long)seed);
	}
	return seed;
}

void ts_rng_init(struct ts_rng *rng, uint64_t seed)
{
	/* Zero is the one state xorshift never leaves. */
	rng->state = seed ^ UINT64_C(0x9e3779b97f4a7c15);
	if (!rng->state)
		rng->state = 1;
}

uint64_t ts_rand(struct ts_rng *rng)
{
	uint64_t x = rng->state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	rng->state = x;
	return x * UINT64_C(0x2545f4914f6cdd1d);
}

uint32_t ts_rand_below(struct ts_rng *rng, uint32_t n)
{
	return n ? (uint32_t)((ts_rand(rng) >> 32) * n >> 32) : 0;
}

static bool fd_matches(const char *name, const char *target)
{
	char path[300], link[512];
	ssize_t n;

	if (!target)
		return true;
	snprintf(path, sizeof(path), "/proc/self/fd/%s", name);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		return false;
	link[n] = '\0';
	return strstr(link, target) != NULL;
}

int ts_count_fds(const char *target)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	int n = 0;

	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(d))
			continue;
		n += fd_matches(e->d_name, target);
	}
	closedir(d);
	return n;
}

int ts_count_maps(const char *what)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char *line = NULL;
	size_t cap = 0;
	int n = 0;

	if (!f)
		return -errno;
	while (getline(&line, &cap, f) > 0)
		n += !what || strstr(line, what);
	free(line);
	fclose(f);
	return n;
}

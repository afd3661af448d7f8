/* SPDX-License-Identifier: BSD-3-Clause */
/* A crowd of front-ends in one process: they attach one after the other, rest, and leave, as it is told. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ts_frontend.h"
#include "ts_util.h"

/*
 * Theory of operation
 *
 * Each line of standard input is a word: `attach` has all of them connect, negotiate and start two queue pairs; `leave`
 * has them close their connections without a word, as processes that are killed. Each is answered with a line of
 * microseconds: how long the median and the slowest of them took.
 */

#define RING   64
#define MEMORY (1u << 20)

static int fail(const char *path, int err, const struct ts_fe *fe)
{
	fprintf(stderr, "crowd: %s: %s (%s)\n", path, strerror(-err), fe->why);
	return 1;
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void say(uint64_t *us, unsigned n)
{
	qsort(us, n, sizeof(*us), compare);
	printf("%llu %llu\n", (unsigned long long)us[n / 2], (unsigned long long)us[n - 1]);
	fflush(stdout);
}

static int make(struct ts_fe *fe, unsigned pairs)
{
	const struct ts_region_conf conf = {.gpa = 1 << 20, .size = MEMORY};
	struct ts_guest *guest = ts_guest_new();
	int err = guest ? ts_guest_add(guest, &conf) : -ENOMEM;

	ts_fe_init(fe, &ts_virtio_user, guest);
	fe->pairs = fe->active = pairs;
	fe->timeout_ms = 60000;
	return err < 0 ? err : 0;
}

static int attach(struct ts_fe *fe, const char *path)
{
	int err = ts_fe_connect(fe, path);

	if (!err)
		err = ts_fe_negotiate(fe);
	ts_guest_forget(fe->guest);
	if (!err)
		err = ts_fe_make_rings(fe, 0, RING, 0);
	if (!err)
		err = ts_fe_start(fe);
	return err ? err : ts_fe_barrier(fe);
}

int main(int argc, char **argv)
{
	unsigned n = argc == 4 ? (unsigned)atoi(argv[2]) : 0;
	struct ts_fe *fe = calloc(n, sizeof(*fe));
	uint64_t *us = calloc(n, sizeof(*us));
	char line[32], path[200];
	int err = 0;

	if (n == 0 || !fe || !us) {
		fputs("usage: crowd PATH_PREFIX FRONT_ENDS PAIRS\n", stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	for (unsigned i = 0; i < n && !err; i++)
		err = make(&fe[i], (unsigned)atoi(argv[3]));
	if (err)
		return fail("memory", err, &fe[0]);
	while (fgets(line, sizeof(line), stdin)) {
		const bool come = strcmp(line, "attach\n") == 0;

		for (unsigned i = 0; i < n && !err; i++) {
			const uint64_t begin = now_us();

			snprintf(path, sizeof(path), "%s%u", argv[1], i);
			if (come)
				err = attach(&fe[i], path);
			else
				ts_fe_disconnect(&fe[i]);
			us[i] = now_us() - begin;
			if (err)
				return fail(path, err, &fe[i]);
		}
		say(us, n);
	}
	for (unsigned i = 0; i < n; i++) {
		struct ts_guest *guest = fe[i].guest;

		ts_fe_free(&fe[i]);
		ts_guest_free(guest);
	}
	free(us);
	free(fe);
	return 0;
}

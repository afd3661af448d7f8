/* SPDX-License-Identifier: BSD-3-Clause */
/* Preloaded into a program: its clock of the day jumps at each reading, by up to a day to and fro; the monotonic ones do not. */
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define DAY 86400

#pragma GCC visibility push(default)

static time_t jump(void)
{
	static uint32_t n;

	return (time_t)(__atomic_add_fetch(&n, 1, __ATOMIC_RELAXED) * 2654435761u % (2 * DAY)) -
	       DAY;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, clock, ts);

	if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		ts->tv_sec += jump();
	return rc;
}

int gettimeofday(struct timeval *tv, void *zone)
{
	struct timespec ts;
	int rc = clock_gettime(CLOCK_REALTIME, &ts);

	(void)zone;
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return rc;
}

time_t time(time_t *at)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (at)
		*at = ts.tv_sec;
	return ts.tv_sec;
}

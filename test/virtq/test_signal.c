/* SPDX-License-Identifier: BSD-3-Clause */
/* Eventfds that somebody else made blocking, full or something else. */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "ts_tap.h"
#include "ts_util.h"
#include "virtq_signal.h"

static void counted(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC), fds;

	(void)state;
	assert_int_equal(virtq_signal(fd), 0);
	fds = ts_count_fds(NULL);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(virtq_signal(fd), 0);
	assert_int_equal(ts_count_fds(NULL), fds);
	assert_int_equal(virtq_signal_take(fd), 1001);
	assert_int_equal(virtq_signal_take(fd), 0);
	assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
	close(fd);
}

/* A write() to it would sleep for ever, and so would a read() of the one that is empty. */
static void full_and_blocking(void **state)
{
	const uint64_t full = UINT64_MAX - 1;
	int fd = eventfd(0, EFD_CLOEXEC);

	(void)state;
	assert_int_equal(write(fd, &full, sizeof(full)), sizeof(full));
	alarm(10);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(virtq_signal(fd), 0);
	assert_true(virtq_signal_take(fd) >= full);
	assert_int_equal(virtq_signal_take(fd), 0);
	assert_int_equal(virtq_signal(fd), 0);
	assert_int_equal(virtq_signal_take(fd), 1);
	alarm(0);
	close(fd);
}

static void no_eventfd(void **state)
{
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	(void)state;
	assert_int_equal(virtq_signal(-1), -EBADF);
	assert_int_equal(virtq_signal_take(-1), 0);
	assert_true(virtq_signal(timer) < 0);
	close(timer);
	assert_true(virtq_signal(timer) < 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counted),
		cmocka_unit_test(full_and_blocking),
		cmocka_unit_test(no_eventfd),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

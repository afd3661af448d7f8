/* SPDX-License-Identifier: BSD-3-Clause */
/* What a configuration may say, and what may be at its path already. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vd.h"

/* The configuration is refused with this error and line (%s: the path). */
static void refused(struct vd *t, int err, const char *line)
{
	char why[300] = "", expect[400];
	int fds = ts_count_fds(NULL);

	snprintf(expect, sizeof(expect), "%s", line);
	assert_int_equal(vu_device_create(t->base, &t->conf, &t->dev, why, sizeof(why)), err);
	assert_string_equal(why, expect);
	assert_null(t->dev);
	assert_int_equal(ts_count_fds(NULL), fds);
}

static char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *text(const char *fmt, ...)
{
	static char buf[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	return buf;
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* ---- configurations ---- */

static void bad_configurations(void **state)
{
	struct vd *t = *state;
	char longest[200];

	vd_conf(t, 1);
	t->conf.path = "";
	refused(t, -EINVAL, "a socket path is missing");
	t->conf.path = NULL;
	refused(t, -EINVAL, "a socket path is missing");
	memset(longest, 'x', sizeof(longest));
	longest[108] = '\0';
	t->conf.path = longest;
	refused(t, -ENAMETOOLONG,
		"the socket path has 108 bytes and its last name 108, at most 85 are possible "
		"there: choose a shorter one");
	vd_conf(t, 0);
	refused(t, -EINVAL, "0 queue pairs: 1 to 128 are possible");
	vd_conf(t, 129);
	refused(t, -EINVAL, "129 queue pairs: 1 to 128 are possible");
	vd_conf(t, 1);
	t->conf.features |= TS_BIT(VIRTIO_F_SR_IOV) | TS_BIT(63);
	refused(t, -EINVAL, "features 0x8000002000000000 are not implemented");
}

static void paths_that_cannot_be(void **state)
{
	struct vd *t = *state;
	char path[100];

	vd_conf(t, 1);
	t->conf.path = path;
	snprintf(path, sizeof(path), "%s/missing/s", t->dir);
	refused(t, -ENOENT,
		text("cannot listen at %s: No such file or directory: make its directory, or "
		     "choose another path",
			path));
	snprintf(path, sizeof(path), "/dev/null/s");
	refused(t, -ENOTDIR,
		text("cannot listen at %s: Not a directory: choose another path", path));
}

static void longest_path(void **state)
{
	struct vd *t = *state;
	char path[108];

	vd_conf(t, 1);
	memset(path, 'x', sizeof(path));
	memcpy(path, t->dir, strlen(t->dir));
	path[strlen(t->dir)] = '/';
	path[107] = '\0';
	t->conf.path = path;
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	vd_ok(t, ts_fe_connect(&t->fe, path));
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_destroy(t);
	assert_false(exists(path));
}

/* ---- what is at the path already ---- */

static void somebody_elses_file(void **state)
{
	struct vd *t = *state;
	int fd = open(t->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	vd_conf(t, 1);
	refused(t, -EADDRINUSE,
		text("%s exists and is not a socket: choose another path", t->path));
	assert_true(exists(t->path));
	close(fd);
	unlink(t->path);
	/* A link is not what it points to. */
	assert_int_equal(symlink("/nowhere", t->path), 0);
	refused(t, -EADDRINUSE,
		text("%s exists and is not a socket: choose another path", t->path));
	unlink(t->path);
	assert_int_equal(mkdir(t->path, 0700), 0);
	refused(t, -EADDRINUSE,
		text("%s exists and is not a socket: choose another path", t->path));
	rmdir(t->path);
}

static void live_sockets(void **state)
{
	static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
	struct vd *t = *state;

	vd_conf(t, 1);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(types); i++) {
		int fd = vd_socket_at(t->path, types[i], types[i] == SOCK_DGRAM ? -1 : 4);

		refused(t, -EADDRINUSE,
			text("another program serves %s: stop it or choose another path", t->path));
		assert_true(exists(t->path));
		close(fd);
		unlink(t->path);
	}
}

/* Nobody accepts and its queue is full: still alive. */
static void live_socket_with_a_full_queue(void **state)
{
	struct vd *t = *state;
	int fd = vd_socket_at(t->path, SOCK_STREAM, 0);

	vd_conf(t, 1);
	for (unsigned i = 0; i < 3; i++)
		refused(t, -EADDRINUSE,
			text("another program serves %s: stop it or choose another path", t->path));
	close(fd);
	unlink(t->path);
}

static void no_descriptor_left(void **state)
{
	struct vd *t = *state;
	struct rlimit old, low;
	char why[200] = "";
	int rc;

	close(vd_socket_at(t->path, SOCK_STREAM, 4));
	vd_conf(t, 1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = (struct rlimit){3, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	rc = vu_device_create(t->base, &t->conf, &t->dev, why, sizeof(why));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(rc, -EMFILE);
	assert_string_equal(
		why, text("cannot listen at %s: Too many open files: raise the limit (ulimit -n)",
			     t->path));
	assert_true(exists(t->path));
	unlink(t->path);
}

static void one_of_our_own(void **state)
{
	struct vd *t = *state;
	struct vu_device *first;

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	first = t->dev;
	t->dev = NULL;
	refused(t, -EADDRINUSE,
		text("another program serves %s: stop it or choose another path", t->path));
	t->dev = first;
	vd_assert_traffic(t, 0, 1);
}

static void stale_socket(void **state)
{
	struct vd *t = *state;

	for (unsigned i = 0; i < 3; i++) {
		close(vd_socket_at(t->path, SOCK_STREAM, 4));
		vd_listen(t, 1, &ts_qemu_10);
		vd_start(t);
		vd_assert_traffic(t, 0, 1);
		vd_destroy(t);
		assert_false(exists(t->path));
	}
}

static void stale_socket_of_another_user(void **state)
{
	struct vd *t = *state;

	if (geteuid() != 0)
		ts_skip("only root can make a file of another user");
	close(vd_socket_at(t->path, SOCK_STREAM, 4));
	assert_int_equal(chown(t->path, 4242, 4242), 0);
	vd_conf(t, 1);
	refused(t, -EADDRINUSE,
		text("%s is a stale socket of user 4242: remove it or choose another path",
			t->path));
	assert_true(exists(t->path));
	unlink(t->path);
}

/* At the end only the file we made is removed. */
static void replaced_while_we_listened(void **state)
{
	struct vd *t = *state;
	int fd;

	vd_conf(t, 1);
	vd_create(t);
	unlink(t->path);
	fd = vd_socket_at(t->path, SOCK_STREAM, 4);
	vd_destroy(t);
	assert_true(exists(t->path));
	close(fd);
	unlink(t->path);
	vd_create(t);
	unlink(t->path);
	vd_destroy(t);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, vd_setup, vd_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(bad_configurations),
		CASE(paths_that_cannot_be),
		CASE(longest_path),
		CASE(somebody_elses_file),
		CASE(live_sockets),
		CASE(live_socket_with_a_full_queue),
		CASE(no_descriptor_left),
		CASE(one_of_our_own),
		CASE(stale_socket),
		CASE(stale_socket_of_another_user),
		CASE(replaced_while_we_listened),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

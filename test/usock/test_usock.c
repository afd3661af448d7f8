/* SPDX-License-Identifier: BSD-3-Clause */
/* Who may connect to a socket, and what somebody with a hand in its directory can do. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ts_tap.h"
#include "ts_wire.h"
#include "usock.h"

static char dir[64], path[80], why[256];
static struct usock_file file;

static int setup(void **state)
{
	strcpy(dir, "/tmp/usock-XXXXXX");
	why[0] = '\0';
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/s", dir);
	return 0;
}

static int teardown(void **state)
{
	unlink(path);
	return rmdir(dir);
}

static struct usock_access access_of(const char *owner, const char *group, const char *mode)
{
	struct usock_access a = USOCK_ACCESS_DEFAULT;

	assert_int_equal(usock_parse_access(owner, group, mode, &a, why, sizeof(why)), 0);
	return a;
}

static int make(const struct usock_access *a)
{
	return usock_listen(path, 4, a, &file, why, sizeof(why));
}

static struct stat look(const char *at)
{
	struct stat st;

	assert_int_equal(lstat(at, &st), 0);
	return st;
}

/* ---- words ---- */

static void words(void **state)
{
	struct usock_access a = access_of("root", "0", "0660");

	assert_int_equal(a.uid, 0);
	assert_int_equal(a.gid, 0);
	assert_int_equal(a.mode, 0660);
	a = access_of(NULL, NULL, NULL);
	assert_int_equal(a.uid, (uid_t)-1);
	assert_int_equal(a.gid, (gid_t)-1);
	assert_int_equal(a.mode, 0);
	assert_int_equal(access_of("4294967294", NULL, "200").uid, 4294967294u);
}

static void wrong_words(void **state)
{
	static const char *const names[] = {
		"", "no such", "-1", "4294967295", "99999999999", "0x10"};
	static const char *const modes[] = {
		"", "8", "0o660", "1777", "-1", "0440", "rw", "00000000660"};
	struct usock_access a = access_of("1", "2", "0600"), before = a;
	char want[160];

	for (unsigned i = 0; i < TS_ARRAY_SIZE(names); i++) {
		assert_int_equal(
			usock_parse_access(names[i], NULL, NULL, &a, why, sizeof(why)), -ENOENT);
		snprintf(want, sizeof(want),
			"there is no user '%s': give the name or number of one", names[i]);
		assert_string_equal(why, want);
		assert_int_equal(
			usock_parse_access("3", names[i], NULL, &a, why, sizeof(why)), -ENOENT);
	}
	for (unsigned i = 0; i < TS_ARRAY_SIZE(modes); i++) {
		assert_int_equal(
			usock_parse_access("3", "4", modes[i], &a, why, sizeof(why)), -EINVAL);
		snprintf(want, sizeof(want),
			"mode '%s': expected up to three octal digits in which the owner may "
			"write, "
			"such as 0660",
			modes[i]);
		assert_string_equal(why, want);
	}
	assert_memory_equal(&a, &before, sizeof(a));
}

/* ---- the socket ---- */

static void as_it_was_asked_for(void **state)
{
	static const mode_t masks[] = {0, 022, 0777};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(masks); i++) {
		struct usock_access a = access_of(NULL, NULL, "0660"), any = USOCK_ACCESS_DEFAULT;
		mode_t old = umask(masks[i]);
		int fd = make(&a);

		umask(old);
		assert_true(fd >= 0);
		assert_int_equal(look(path).st_mode, S_IFSOCK | 0660);
		assert_int_equal(look(path).st_ino, file.ino);
		usock_remove(path, &file);
		close(fd);
		umask(masks[i]);
		fd = make(&any);
		umask(old);
		assert_int_equal(look(path).st_mode, S_IFSOCK | (0777 & ~masks[i]));
		usock_remove(path, &file);
		close(fd);
	}
}

static void given_away(void **state)
{
	struct usock_access a = access_of("4242", "4343", "0600"), other = USOCK_ACCESS_DEFAULT;
	int fd;

	if (geteuid() != 0)
		ts_skip("only root can give a socket away");
	/* A stale one of whom it is given to is ours; nobody else's. */
	for (unsigned i = 0; i < 2; i++) {
		fd = make(&a);
		assert_true(fd >= 0);
		assert_int_equal(look(path).st_uid, 4242);
		assert_int_equal(look(path).st_gid, 4343);
		close(fd);
	}
	assert_int_equal(make(&other), -EADDRINUSE);
	assert_non_null(strstr(why, "is a stale socket of user 4242"));
}

/* A directory behind a link is a directory, and a relative path is one as well. */
static void other_ways_there(void **state)
{
	struct usock_access any = USOCK_ACCESS_DEFAULT;
	char link[80], through[120];
	int fd, there;

	snprintf(link, sizeof(link), "%s/link", dir);
	snprintf(through, sizeof(through), "%s/s", link);
	assert_int_equal(symlink(".", link), 0);
	fd = usock_listen(through, 4, &any, &file, why, sizeof(why));
	assert_true(fd >= 0);
	there = usock_connect(path);
	assert_true(there >= 0);
	close(there);
	usock_remove(path, &file);
	close(fd);
	assert_int_equal(chdir(dir), 0);
	fd = usock_listen("s", 4, &any, &file, why, sizeof(why));
	assert_true(fd >= 0);
	there = usock_connect(path);
	assert_true(there >= 0);
	close(there);
	usock_remove("s", &file);
	close(fd);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(usock_connect(path), -ENOENT);
	unlink(link);
}

/* ---- somebody else may write to the directory ---- */

static char victim[80];
static int (*plant)(const char *of, const char *at); /* a link where a socket has just been bound */

int __real_bind(int fd, const struct sockaddr *addr, socklen_t len);
int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t len);

int __wrap_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	int rc = __real_bind(fd, addr, len);

	if (plant) {
		unlink(path);
		assert_int_equal(plant(victim, path), 0);
	}
	return rc;
}

static void links_are_not_followed(void **state)
{
	const struct usock_access a = access_of("4242", "4242", "0666"),
				  own = access_of(NULL, NULL, "0600");
	int (*const ways[])(const char *, const char *) = {symlink, link};
	int fd;

	if (geteuid() != 0)
		ts_skip("only root can give a socket away");
	snprintf(victim, sizeof(victim), "%s/victim", dir);
	fd = usock_listen(victim, 4, &own, &file, why, sizeof(why));
	assert_true(fd >= 0);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(ways); i++) {
		plant = ways[i];
		assert_true(make(&a) < 0);
		plant = NULL;
		assert_int_equal(look(victim).st_uid, geteuid());
		assert_int_equal(look(victim).st_mode, S_IFSOCK | 0600);
	}
	close(fd);
	unlink(victim);
}

/* ---- what the process before has left ---- */

static unsigned made, removed;

static void on_made(int fd, const struct usock_file *f)
{
	assert_true(fd >= 0 && f->ino);
	made++;
}

static void on_removed(const struct usock_file *f)
{
	assert_true(f->ino);
	removed++;
}

static int no_heir(void **state)
{
	usock_keep(&(struct usock_keeper){0});
	return teardown(state);
}

/* A socket that listens already, and has somebody waiting in it. */
static int left_behind(int *waits)
{
	static const struct usock_keeper keeper = {on_made, on_removed};
	struct usock_access a = access_of(NULL, NULL, "0600");
	int fd;

	made = removed = 0;
	usock_keep(&keeper);
	fd = make(&a);
	assert_true(fd >= 0);
	*waits = usock_connect(path);
	assert_true(*waits >= 0);
	assert_int_equal(made, 1);
	return fd;
}

static void inherited(void **state)
{
	struct usock_access a = access_of(NULL, NULL, "0620");
	struct usock_file before;
	int waits, fd = left_behind(&waits), again, peer;

	before = file;
	assert_int_equal(usock_inherit(fd, &file), 0);
	again = make(&a);
	assert_int_equal(again, fd);
	assert_true(file.dev == before.dev && file.ino == before.ino);
	assert_int_equal(look(path).st_mode, S_IFSOCK | 0620);
	peer = accept(again, NULL, NULL);
	assert_true(peer >= 0);
	close(peer);
	close(waits);
	assert_int_equal(made, 1);
	assert_int_equal(usock_disinherit(), 0);
	usock_remove(path, &file);
	assert_int_equal(removed, 1);
	close(fd);
}

static void inherited_by_another_owner(void **state)
{
	struct usock_access before = access_of("4242", "4242", "0600"),
			    now = access_of("4343", NULL, "0660"), any = USOCK_ACCESS_DEFAULT;
	int fd, again;

	if (geteuid() != 0)
		ts_skip("only root can give a socket away");
	fd = make(&before);
	assert_true(fd >= 0);
	assert_int_equal(usock_inherit(fd, &file), 0);
	again = make(&now);
	assert_int_equal(again, fd);
	assert_int_equal(look(path).st_uid, 4343);
	assert_int_equal(look(path).st_mode, S_IFSOCK | 0660);
	assert_int_equal(usock_inherit(fd, &file), 0);
	assert_int_equal(make(&any), fd);
	close(fd);
}

/* Another file is there by now: nobody would ever reach the old one. */
static void not_inherited(void **state)
{
	struct usock_access a = access_of(NULL, NULL, "0600");
	struct usock_file before;
	int waits, fd = left_behind(&waits), again;

	before = file;
	assert_int_equal(usock_inherit(dup(fd), &file), 0);
	close(fd);
	unlink(path);
	again = make(&a);
	assert_true(again >= 0 && file.ino != before.ino);
	assert_int_equal(made, 2);
	assert_int_equal(usock_disinherit(), 1);
	assert_int_equal(removed, 1);
	assert_int_equal(look(path).st_ino, file.ino);
	assert_int_equal(usock_inherit(waits, &file), -1); /* does not listen */
	close(again);
}

static void nobody_wants_it(void **state)
{
	int waits, fd = left_behind(&waits);

	assert_int_equal(usock_inherit(dup(fd), &file), 0);
	usock_claim(&file);
	assert_int_equal(usock_disinherit(), 0);
	assert_int_equal(removed, 0);
	assert_int_equal(usock_inherit(fd, &file), 0);
	assert_int_equal(usock_disinherit(), 1);
	assert_int_equal(removed, 1);
	assert_int_equal(access(path, F_OK), -1);
	close(waits);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(words),
		CASE(wrong_words),
		CASE(as_it_was_asked_for),
		CASE(given_away),
		CASE(other_ways_there),
		CASE(links_are_not_followed),
		cmocka_unit_test_setup_teardown(inherited, setup, no_heir),
		cmocka_unit_test_setup_teardown(inherited_by_another_owner, setup, no_heir),
		cmocka_unit_test_setup_teardown(not_inherited, setup, no_heir),
		cmocka_unit_test_setup_teardown(nobody_wants_it, setup, no_heir),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

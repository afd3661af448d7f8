/* SPDX-License-Identifier: BSD-3-Clause */
/* Making, reaching and removing sockets by their paths. */
#include "usock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "usock_priv.h"

/* Where a path leads to. */
struct place {
	int dir;
	const char *name; /* in there, points into the path */
	struct sockaddr_un addr;
};

static int place_address(struct place *p, const char *path)
{
	const int room = sizeof(p->addr.sun_path);

	p->addr.sun_family = AF_UNIX;
	if (strlen(path) < (size_t)room) {
		strcpy(p->addr.sun_path, path);
		return 0;
	}
	return snprintf(p->addr.sun_path, room, "/proc/self/fd/%d/%s", p->dir, p->name) < room
		       ? 0
		       : -ENAMETOOLONG;
}

/* 0: the directory is open. */
static int place_open(struct place *p, const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[USOCK_PATH_MAX];
	int err;

	if (strlen(path) >= sizeof(dir))
		return -ENAMETOOLONG;
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
	*p = (struct place){.name = slash ? slash + 1 : path};
	if (!*p->name)
		p->name = ".";
	p->dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->dir < 0)
		return -errno;
	err = place_address(p, path);
	if (err)
		close(p->dir);
	return err;
}

static int place_stat(const struct place *p, struct stat *st)
{
	return fstatat(p->dir, p->name, st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int place_connect(const struct place *p)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&p->addr, sizeof(p->addr)) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

int usock_check(const char *path, char *why, size_t why_len)
{
	const size_t room =
		sizeof(((struct sockaddr_un *)0)->sun_path) - sizeof("/proc/self/fd/1048576/");
	const char *slash = path ? strrchr(path, '/') : NULL;
	const char *name = slash ? slash + 1 : path;

	if (!path || !*path) {
		snprintf(why, why_len, "a socket path is missing");
		return -EINVAL;
	}
	if (strlen(path) >= USOCK_PATH_MAX) {
		snprintf(why, why_len,
			"the socket path has %zu bytes, at most %u are possible: choose a shorter "
			"one",
			strlen(path), USOCK_PATH_MAX - 1);
		return -ENAMETOOLONG;
	}
	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path) && strlen(name) > room) {
		snprintf(why, why_len,
			"the socket path has %zu bytes and its last name %zu, at most %zu are "
			"possible "
			"there: choose a shorter one",
			strlen(path), strlen(name), room);
		return -ENAMETOOLONG;
	}
	return 0;
}

int usock_connect(const char *path)
{
	struct place p;
	int fd = place_open(&p, path);

	if (fd < 0)
		return fd;
	fd = place_connect(&p);
	close(p.dir);
	return fd;
}

/* ---- making one ---- */

static int in_use(char *why, size_t why_len, const char *path, const char *what)
{
	snprintf(why, why_len, "%s %s: choose another path", path, what);
	return -EADDRINUSE;
}

/* 0: nobody serves what is there. */
static int probe(const struct place *p, const char *path, char *why, size_t why_len)
{
	int fd = place_connect(p);

	if (fd == -ECONNREFUSED || fd == -ENOENT)
		return 0;
	/* A full queue, or another kind of socket: somebody is there. */
	if (fd >= 0 || fd == -EAGAIN || fd == -EPROTOTYPE) {
		if (fd >= 0)
			close(fd);
		snprintf(why, why_len, "another program serves %s: stop it or choose another path",
			path);
		return -EADDRINUSE;
	}
	snprintf(why, why_len, "cannot tell who serves %s: %s", path, strerror(-fd));
	return fd;
}

/* Remove a socket that nobody serves any more and that is ours; say what else it is. */
static int clear(const struct place *p, const char *path, const struct usock_access *access,
	char *why, size_t why_len)
{
	struct stat before, after;
	int err;

	if (place_stat(p, &before) != 0)
		return 0;
	if (!S_ISSOCK(before.st_mode))
		return in_use(why, why_len, path, "exists and is not a socket");
	err = probe(p, path, why, why_len);
	if (err)
		return err;
	if (before.st_uid != geteuid() && before.st_uid != access->uid) {
		snprintf(why, why_len,
			"%s is a stale socket of user %u: remove it or choose another path", path,
			before.st_uid);
		return -EADDRINUSE;
	}
	if (place_stat(p, &after) == 0 &&
		(after.st_ino != before.st_ino || after.st_dev != before.st_dev))
		return in_use(why, why_len, path, "is just being taken by another program");
	unlinkat(p->dir, p->name, 0);
	return 0;
}

static const char *advice(int err)
{
	switch (err) {
	case -ENOENT:
		return ": make its directory, or choose another path";
	case -EACCES:
		return ": choose a path this user may write to";
	case -EPERM:
		return ": only root may give a socket away";
	case -EMFILE:
	case -ENFILE:
		return ": raise the limit (ulimit -n)";
	default:
		return ": choose another path";
	}
}

static int apply(int handle, const struct usock_access *access)
{
	char link[32];

	if ((access->uid != (uid_t)-1 || access->gid != (gid_t)-1) &&
		fchownat(handle, "", access->uid, access->gid, AT_EMPTY_PATH) < 0)
		return -errno;
	if (!access->mode)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", handle);
	return chmod(link, access->mode) < 0 ? -errno : 0;
}

/*
 * Nobody can connect before we listen. Who may write to the directory could have put a link to
 * something else there meanwhile: a socket of ours with one name is nobody's but ours.
 */
static int give_away(const struct place *p, uid_t owner, const struct usock_access *access,
	struct usock_file *file)
{
	int handle = openat(p->dir, p->name, O_PATH | O_NOFOLLOW | O_CLOEXEC), err = 0;
	struct stat st;

	if (handle < 0)
		return -errno;
	if (fstat(handle, &st) < 0)
		err = -errno;
	else if (!S_ISSOCK(st.st_mode) || st.st_uid != owner || st.st_nlink != 1)
		err = -EADDRINUSE;
	else
		err = apply(handle, access);
	close(handle);
	*file = (struct usock_file){.dev = st.st_dev, .ino = st.st_ino};
	return err;
}

static int bind_and_listen(const struct place *p, int fd, int backlog,
	const struct usock_access *access, struct usock_file *file)
{
	int err;

	/* So that it never has more than this. */
	if (access->mode)
		fchmod(fd, access->mode);
	if (bind(fd, (const struct sockaddr *)&p->addr, sizeof(p->addr)) < 0)
		return -errno;
	err = give_away(p, geteuid(), access, file);
	if (!err && listen(fd, backlog) < 0)
		err = -errno;
	if (err)
		unlinkat(p->dir, p->name, 0);
	return err;
}

/* What a process before us left listening there, as it is asked for now; or -1. That one made the file,
 * whoever owns it by now. */
static int inherited(const struct place *p, int backlog, const struct usock_access *access,
	struct usock_file *file)
{
	struct usock_file now;
	struct stat st;
	int fd;

	if (place_stat(p, &st) != 0)
		return -1;
	*file = (struct usock_file){.dev = st.st_dev, .ino = st.st_ino};
	fd = usock_take_inherited(file);
	if (fd < 0)
		return -1;
	if (give_away(p, st.st_uid, access, &now) == 0 && now.dev == file->dev &&
		now.ino == file->ino && listen(fd, backlog) == 0)
		return fd;
	close(fd);
	usock_was_removed(file);
	return -1;
}

static int make(const struct place *p, const char *path, int backlog,
	const struct usock_access *access, struct usock_file *file, char *why, size_t why_len)
{
	int fd = inherited(p, backlog, access, file), err;

	if (fd >= 0)
		return fd;
	err = clear(p, path, access, why, why_len);
	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	err = fd < 0 ? -errno : bind_and_listen(p, fd, backlog, access, file);
	if (!err) {
		usock_was_made(fd, file);
		return fd;
	}
	snprintf(why, why_len, "cannot listen at %s: %s%s", path, strerror(-err), advice(err));
	if (fd >= 0)
		close(fd);
	return err;
}

int usock_listen(const char *path, int backlog, const struct usock_access *access,
	struct usock_file *file, char *why, size_t why_len)
{
	struct place p;
	int fd = usock_check(path, why, why_len);

	if (fd < 0)
		return fd;
	fd = place_open(&p, path);
	if (fd < 0) {
		snprintf(
			why, why_len, "cannot listen at %s: %s%s", path, strerror(-fd), advice(fd));
		return fd;
	}
	fd = make(&p, path, backlog, access, file, why, why_len);
	close(p.dir);
	return fd;
}

void usock_remove(const char *path, const struct usock_file *file)
{
	struct place p;
	struct stat st;

	usock_was_removed(file);
	if (place_open(&p, path) != 0)
		return;
	if (place_stat(&p, &st) == 0 && st.st_dev == file->dev && st.st_ino == file->ino)
		unlinkat(p.dir, p.name, 0);
	close(p.dir);
}

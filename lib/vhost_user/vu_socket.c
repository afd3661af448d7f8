/* SPDX-License-Identifier: BSD-3-Clause */
/* Where connections come from: a socket we made, or one we try to reach. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vu_device.h"

#define RETRY_MS 100
#define BACKLOG  16

static void retry_soon(struct vu_device *dev)
{
	static const struct timeval soon = {.tv_usec = RETRY_MS * 1000};

	evtimer_add(dev->retry, &soon);
}

static struct sockaddr_un address_of(const struct vu_device *dev)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	memcpy(addr.sun_path, dev->path, sizeof(addr.sun_path));
	return addr;
}

/* 0, or the negative error of one attempt to connect to the path. */
static int connect_once(const struct vu_device *dev, int *out)
{
	struct sockaddr_un addr = address_of(dev);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	*out = fd;
	return 0;
}

/* ---- we listen ---- */

/* The front-end went away and came back before we noticed the first, or while there is
 * still something to read of what it said. */
static bool peer_is_gone(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) == 1;
}

static void on_acceptable(evutil_socket_t lfd, short what, void *arg)
{
	struct vu_device *dev = arg;
	int fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)what;
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
			vu_log(dev, VU_LOG_WARNING, "cannot accept a front-end: %s",
				strerror(errno));
			event_del(dev->accepting);
			retry_soon(dev);
		}
		return;
	}
	if (dev->conn.fd >= 0 && peer_is_gone(dev->conn.fd))
		vu_conn_close(dev, "the front-end closed it");
	if (dev->conn.fd >= 0) {
		vu_log(dev, VU_LOG_WARNING, "a second front-end was turned away: one is connected");
		close(fd);
		return;
	}
	vu_conn_open(dev, fd);
}

/* Remove a socket file that nobody serves any more and that is ours; say what else it is. */
static int clear_path(const struct vu_device *dev, char *why, size_t why_len)
{
	struct stat st;
	int fd, err;

	if (lstat(dev->path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode)) {
		snprintf(why, why_len, "%s exists and is not a socket: choose another path",
			dev->path);
		return -EADDRINUSE;
	}
	err = connect_once(dev, &fd);
	if (err == 0)
		close(fd);
	/* A full queue, or another kind of socket: somebody is there. */
	if (err == 0 || err == -EAGAIN || err == -EPROTOTYPE) {
		snprintf(why, why_len, "another program serves %s: stop it or choose another path",
			dev->path);
		return -EADDRINUSE;
	}
	if (err != -ECONNREFUSED) {
		snprintf(why, why_len, "cannot tell who serves %s: %s", dev->path, strerror(-err));
		return err;
	}
	if (st.st_uid != geteuid()) {
		snprintf(why, why_len,
			"%s is a stale socket of user %u: remove it or choose another path",
			dev->path, st.st_uid);
		return -EADDRINUSE;
	}
	unlink(dev->path);
	return 0;
}

static const char *advice(int err)
{
	switch (err) {
	case -ENOENT:
		return ": make its directory, or choose another path";
	case -EACCES:
		return ": choose a path this user may write to";
	default:
		return ": choose another path";
	}
}

static int listen_on(struct vu_device *dev, char *why, size_t why_len)
{
	struct sockaddr_un addr = address_of(dev);
	int err = clear_path(dev, why, why_len);

	if (err)
		return err;
	dev->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (dev->listen_fd < 0 ||
		bind(dev->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		err = -errno;
	} else if (listen(dev->listen_fd, BACKLOG) < 0 || lstat(dev->path, &dev->listen_stat) < 0) {
		err = -errno;
		unlink(dev->path);
	}
	if (err) {
		snprintf(why, why_len, "cannot listen at %s: %s%s", dev->path, strerror(-err),
			advice(err));
		vu_close_fd(&dev->listen_fd);
		return err;
	}
	dev->accepting =
		event_new(dev->base, dev->listen_fd, EV_READ | EV_PERSIST, on_acceptable, dev);
	if (!dev->accepting || event_add(dev->accepting, NULL) < 0) {
		snprintf(why, why_len, "out of memory");
		return -ENOMEM;
	}
	return 0;
}

/* ---- we connect ---- */

static void try_connect(struct vu_device *dev)
{
	int fd, err = connect_once(dev, &fd);

	if (err == 0) {
		vu_conn_open(dev, fd);
		return;
	}
	if (err != -dev->connect_errno)
		vu_log(dev, VU_LOG_INFO, "cannot connect to %s yet: %s", dev->path, strerror(-err));
	dev->connect_errno = -err;
	retry_soon(dev);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct vu_device *dev = arg;

	(void)fd, (void)what;
	if (dev->listen)
		event_add(dev->accepting, NULL);
	else if (dev->conn.fd < 0)
		try_connect(dev);
}

/* ---- both ---- */

int vu_socket_open(struct vu_device *dev, char *why, size_t why_len)
{
	dev->retry = evtimer_new(dev->base, on_retry, dev);
	if (!dev->retry) {
		snprintf(why, why_len, "out of memory");
		return -ENOMEM;
	}
	if (dev->listen)
		return listen_on(dev, why, why_len);
	try_connect(dev);
	return 0;
}

void vu_socket_again(struct vu_device *dev)
{
	if (!dev->listen && dev->retry)
		retry_soon(dev);
}

static void remove_socket_file(const struct vu_device *dev)
{
	struct stat st;

	if (lstat(dev->path, &st) == 0 && st.st_dev == dev->listen_stat.st_dev &&
		st.st_ino == dev->listen_stat.st_ino)
		unlink(dev->path);
}

void vu_socket_close(struct vu_device *dev)
{
	if (dev->accepting)
		event_free(dev->accepting);
	if (dev->retry)
		event_free(dev->retry);
	dev->accepting = dev->retry = NULL;
	if (dev->listen_fd >= 0) {
		remove_socket_file(dev);
		vu_close_fd(&dev->listen_fd);
	}
}

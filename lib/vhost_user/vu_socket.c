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

	vu_timer_set(dev->retry, &soon);
}

/* ---- we listen ---- */

/* The front-end went away and came back before we noticed the first, or while there is
 * still something to read of what it said. */
static bool peer_is_gone(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) == 1;
}

/* Asked about again in a moment, for the socket stays readable. */
static void cannot_accept(struct vu_device *dev, int err)
{
	if (err != dev->socket_errno)
		vu_log(dev, VU_LOG_WARNING, "cannot accept a front-end: %s", strerror(err));
	dev->socket_errno = err;
	event_del(dev->accepting);
	retry_soon(dev);
}

static void try_accept(struct vu_device *dev)
{
	int fd = accept4(dev->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			cannot_accept(dev, errno);
		else
			dev->socket_errno = 0;
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

static void on_acceptable(evutil_socket_t lfd, short what, void *arg)
{
	(void)lfd, (void)what;
	try_accept(arg);
}

static int listen_on(struct vu_device *dev, char *why, size_t why_len)
{
	int fd = usock_listen(dev->path, BACKLOG, &dev->access, &dev->listen_file, why, why_len);

	if (fd < 0)
		return fd;
	dev->listen_fd = fd;
	return 0;
}

/* ---- we connect ---- */

static void try_connect(struct vu_device *dev)
{
	int fd = usock_connect(dev->path);

	if (fd >= 0) {
		vu_conn_open(dev, fd);
		return;
	}
	if (fd != -dev->socket_errno)
		vu_log(dev, VU_LOG_INFO, "cannot connect to %s yet: %s", dev->path, strerror(-fd));
	dev->socket_errno = -fd;
	retry_soon(dev);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct vu_device *dev = arg;

	(void)fd, (void)what;
	vu_socket_go(dev);
	if (dev->listen && dev->socket_errno != 0)
		try_accept(dev); /* who waited may have gone */
}

/* ---- both ---- */

/* Of the socket that is there. */
static int make_events(struct vu_device *dev, char *why, size_t why_len)
{
	dev->retry = evtimer_new(dev->base, on_retry, dev);
	if (dev->listen_fd >= 0)
		dev->accepting = event_new(
			dev->base, dev->listen_fd, EV_READ | EV_PERSIST, on_acceptable, dev);
	if (dev->retry && (dev->listen_fd < 0 || dev->accepting))
		return 0;
	snprintf(why, why_len, "out of memory");
	return -ENOMEM;
}

int vu_socket_open(struct vu_device *dev, char *why, size_t why_len)
{
	int err = dev->listen ? listen_on(dev, why, why_len) : 0;

	if (!err)
		err = make_events(dev, why, why_len);
	if (!err)
		vu_socket_go(dev);
	return err;
}

int vu_socket_adopt(struct vu_device *dev, char *why, size_t why_len)
{
	usock_claim(&dev->listen_file);
	return make_events(dev, why, why_len);
}

void vu_socket_pause(struct vu_device *dev)
{
	if (dev->accepting)
		event_del(dev->accepting);
	event_del(dev->retry);
}

void vu_socket_go(struct vu_device *dev)
{
	if (dev->listen && event_add(dev->accepting, NULL) < 0)
		retry_soon(dev);
	else if (!dev->listen && dev->conn.fd < 0)
		try_connect(dev);
}

void vu_socket_again(struct vu_device *dev)
{
	if (!dev->listen && dev->retry && !dev->frozen)
		retry_soon(dev);
}

void vu_socket_close(struct vu_device *dev)
{
	if (dev->accepting)
		event_free(dev->accepting);
	if (dev->retry)
		event_free(dev->retry);
	dev->accepting = dev->retry = NULL;
	if (dev->listen_fd >= 0) {
		if (!dev->frozen) /* else it is, or may be, somebody else's */
			usock_remove(dev->path, &dev->listen_file);
		vu_close_fd(&dev->listen_fd);
	}
}

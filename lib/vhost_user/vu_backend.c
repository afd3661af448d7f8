/* SPDX-License-Identifier: BSD-3-Clause */
/* The back-end channel: a bounded queue to the front-end, and the answers that come back. */
#include "vu_backend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <linux/sockios.h>

#include "vu_device.h"
#include "vu_record.h"

/*
 * Theory of operation
 *
 * One stream socket, given by SET_BACKEND_REQ_FD and gone with the connection. A request goes into
 * a ring of VU_BACKEND_QUEUE messages and from there to the socket as far as it takes them; the
 * rest when it becomes writable. A front-end that does not read loses the oldest requests but for
 * one that is half sent, which must be completed.
 *
 * Answers come only to requests that asked for one, and nobody waits for them: they are read,
 * checked and, if they say failure, logged. Whoever sends anything else loses this channel and not
 * the connection, as it is with QEMU in the other direction.
 */

struct message {
	struct vu_header header;
	uint8_t payload[VU_BACKEND_PAYLOAD_MAX];
};

struct vu_backend {
	int fd;
	struct event *readable, *writable;
	struct message queue[VU_BACKEND_QUEUE];
	unsigned first, n;
	size_t done;    /* bytes of the first that are sent */
	uint64_t asked; /* answers that may come */
	struct {
		uint32_t padding; /* see struct vu_message */
		struct vu_header header;
		uint64_t status;
	} in;
	size_t in_len;
};

static void lose(struct vu_device *dev, const char *why)
{
	vu_log(dev, VU_LOG_WARNING, "back-end channel closed: %s", why);
	vu_backend_close(dev);
}

static size_t wire_size(const struct message *m)
{
	return sizeof(m->header) + m->header.size;
}

/* Send what the socket takes. False: the channel is gone. */
static bool flush(struct vu_device *dev)
{
	struct vu_backend *b = dev->backend;

	while (b->n > 0) {
		const struct message *m = &b->queue[b->first];
		ssize_t n = send(b->fd, (const char *)m + b->done, wire_size(m) - b->done,
			MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			if (event_add(b->writable, NULL) == 0)
				return true;
			lose(dev, "out of memory");
			return false;
		}
		if (n < 0) {
			lose(dev, strerror(errno));
			return false;
		}
		b->done += (size_t)n;
		if (b->done < wire_size(m))
			continue;
		b->done = 0;
		b->first = (b->first + 1) % VU_BACKEND_QUEUE;
		b->n--;
	}
	event_del(b->writable);
	return true;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	flush(arg);
}

/* The oldest goes; what is half sent stays, in the place of the next. */
static void drop_oldest(struct vu_backend *b)
{
	unsigned next = (b->first + 1) % VU_BACKEND_QUEUE;

	if (b->done > 0)
		b->queue[next] = b->queue[b->first];
	b->first = next;
	b->n--;
}

int vu_backend_send(struct vu_device *dev, enum vu_backend_request request, const void *payload,
	uint32_t size, bool need_reply)
{
	struct vu_backend *b = dev->backend;
	struct message *m;

	if (!b)
		return -ENOTCONN;
	if (dev->frozen || !vu_any_started(dev))
		return -ESHUTDOWN;
	if (b->n == VU_BACKEND_QUEUE)
		drop_oldest(b);
	m = &b->queue[(b->first + b->n++) % VU_BACKEND_QUEUE];
	m->header =
		(struct vu_header){request, VU_VERSION | (need_reply ? VU_FLAG_NEED_ACK : 0), size};
	memcpy(m->payload, payload, size);
	b->asked += need_reply;
	return flush(dev) ? 0 : -ENOTCONN;
}

bool vu_backend_is_read(const struct vu_device *dev)
{
	const struct vu_backend *b = dev->backend;
	int unread = 0;

	return !b || (b->n == 0 && (ioctl(b->fd, SIOCOUTQ, &unread) < 0 || unread == 0));
}

void vu_backend_suspend(struct vu_device *dev)
{
	struct vu_backend *b = dev->backend;

	if (b)
		b->n = b->done > 0;
}

/* ---- answers ---- */

static const char *header_wrong(const struct vu_backend *b)
{
	const struct vu_header *h = &b->in.header;

	if ((h->flags & VU_VERSION_MASK) != VU_VERSION || !(h->flags & VU_FLAG_REPLY))
		return "what came is not an answer";
	return h->size == sizeof(b->in.status) ? NULL : "an answer has a wrong size";
}

static const char *take_answer(struct vu_device *dev)
{
	struct vu_backend *b = dev->backend;

	b->in_len = 0;
	if (b->asked == 0)
		return "an answer came to no question";
	b->asked--;
	if (b->in.status)
		vu_log(dev, VU_LOG_INFO, "the front-end could not serve our request %u",
			b->in.header.request);
	return NULL;
}

#define ANSWER (sizeof(struct vu_header) + sizeof(uint64_t))

/* One read. Returns false when there is nothing more, or no channel. */
static bool read_some(struct vu_device *dev)
{
	struct vu_backend *b = dev->backend;
	size_t want = b->in_len < sizeof(b->in.header) ? sizeof(b->in.header) : ANSWER;
	ssize_t n = recv(b->fd, (char *)&b->in.header + b->in_len, want - b->in_len, MSG_DONTWAIT);
	const char *why = NULL;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		lose(dev, n == 0 ? "by the front-end" : strerror(errno));
		return false;
	}
	b->in_len += (size_t)n;
	if (b->in_len == sizeof(b->in.header))
		why = header_wrong(b);
	else if (b->in_len == ANSWER)
		why = take_answer(dev);
	if (why)
		lose(dev, why);
	return !why;
}

/* At most this many before other connections get their turn. */
#define READS_PER_TURN 64

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	for (int i = 0; i < READS_PER_TURN; i++)
		if (!read_some(arg))
			return;
}

/* ---- life ---- */

static bool is_stream(int fd)
{
	int type;
	socklen_t len = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

/* There, and silent. */
static int make(struct vu_device *dev, int fd)
{
	struct vu_backend *b;

	if (!is_stream(fd)) {
		vu_close_fd(&fd);
		return -ENOTSOCK;
	}
	b = calloc(1, sizeof(*b));
	if (!b) {
		vu_close_fd(&fd);
		return -ENOMEM;
	}
	vu_backend_close(dev);
	dev->backend = b;
	b->fd = fd;
	b->readable = event_new(dev->base, fd, EV_READ | EV_PERSIST, on_readable, dev);
	b->writable = event_new(dev->base, fd, EV_WRITE | EV_PERSIST, on_writable, dev);
	if (!b->readable || !b->writable) {
		vu_backend_close(dev);
		return -ENOMEM;
	}
	return 0;
}

int vu_backend_open(struct vu_device *dev, int fd)
{
	int err = make(dev, fd);

	if (!err && event_add(dev->backend->readable, NULL) < 0) {
		vu_backend_close(dev);
		err = -ENOMEM;
	}
	return err;
}

void vu_backend_pause(struct vu_device *dev)
{
	if (!dev->backend)
		return;
	event_del(dev->backend->readable);
	event_del(dev->backend->writable);
}

void vu_backend_go(struct vu_device *dev)
{
	if (!dev->backend)
		return;
	if (event_add(dev->backend->readable, NULL) < 0 ||
		(dev->backend->n > 0 && event_add(dev->backend->writable, NULL) < 0))
		lose(dev, "out of memory");
}

/* A request that is half sent, or an answer half read, goes on where it is. */
static void channel_fields(struct vu_cursor *c, struct vu_backend *b)
{
	VU_RECORD(c, b->asked, UINT64_MAX);
	VU_RECORD(c, b->in_len, ANSWER - 1);
	vu_record_bytes(c, &b->in.header, b->in_len);
	VU_RECORD(c, b->n, VU_BACKEND_QUEUE);
	VU_RECORD(c, b->done, sizeof(struct message) - 1);
	for (unsigned i = 0; i < b->n; i++) {
		struct message *m = &b->queue[(b->first + i) % VU_BACKEND_QUEUE];

		vu_record_bytes(c, m, sizeof(*m));
		if (m->header.size > VU_BACKEND_PAYLOAD_MAX)
			vu_record_wrong(c, "a request of ours is too long");
	}
	if (b->done > 0 && (b->n == 0 || b->done >= wire_size(&b->queue[b->first])))
		vu_record_wrong(c, "of a request more is sent than it has");
	if (b->in_len >= sizeof(b->in.header) && header_wrong(b))
		vu_record_wrong(c, header_wrong(b));
}

void vu_backend_fields(struct vu_cursor *c, struct vu_device *dev)
{
	int fd = dev->backend ? dev->backend->fd : -1;

	vu_record_fd(c, &fd);
	if (fd < 0)
		return;
	if (c->reading && make(dev, fd) != 0) {
		vu_record_wrong(c, "its back-end channel cannot be used");
		return;
	}
	channel_fields(c, dev->backend);
}

void vu_backend_close(struct vu_device *dev)
{
	struct vu_backend *b = dev->backend;

	if (!b)
		return;
	dev->backend = NULL;
	if (b->readable)
		event_free(b->readable);
	if (b->writable)
		event_free(b->writable);
	vu_close_fd(&b->fd);
	free(b);
}

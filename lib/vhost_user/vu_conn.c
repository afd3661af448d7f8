/* SPDX-License-Identifier: BSD-3-Clause */
/* One connection: bytes and file descriptors in, whole messages out, replies back. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vu_device.h"

/*
 * Theory of operation
 *
 * The socket never blocks. A message is read as a header, then its payload; what has
 * arrived stays in the connection until the rest comes or the deadline passes. File
 * descriptors come with the first byte of a header and nowhere else. Every descriptor
 * received is either taken by a handler (which then sets its slot to -1) or closed by
 * vu_close_fds(), the only close() of what a front-end sends.
 *
 * One reply is outstanding at most: while it cannot be written nothing more is read, so
 * a front-end that does not listen stops itself, until the deadline ends it.
 */

#define HASTY 3 /* so many in a row are no accident */

void vu_close_fds(int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

/* The message as bytes, header first. */
static char *wire(struct vu_message *msg)
{
	return (char *)msg + offsetof(struct vu_message, header);
}

static void deadline_start(struct vu_device *dev)
{
	const struct timeval limit = {.tv_sec = dev->peer_timeout_ms / 1000,
		.tv_usec = dev->peer_timeout_ms % 1000 * 1000};

	vu_timer_set(dev->conn.deadline, &limit);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct vu_device *dev = arg;

	(void)fd, (void)what;
	vu_conn_close(dev, dev->conn.out_len ? "it does not read our replies"
					     : "a message stayed incomplete for too long");
}

static unsigned collect_fds(struct msghdr *mh, int *fds)
{
	unsigned n = 0;

	for (struct cmsghdr *cm = CMSG_FIRSTHDR(mh); cm; cm = CMSG_NXTHDR(mh, cm)) {
		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		n = (unsigned)((cm->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(cm), n * sizeof(int));
	}
	return n;
}

/*
 * Read up to len bytes to where the message goes on. Returns bytes, 0 if there are none
 * for now, or -1 with the reason.
 */
static ssize_t receive(struct vu_conn *c, size_t len, const char **why)
{
	union {
		char buf[CMSG_SPACE(VU_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {wire(&c->in) + c->in_len, len};
	struct msghdr mh = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};
	ssize_t n = recvmsg(c->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int fds[VU_FDS_MAX];
	unsigned nfds;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		*why = n == 0 ? "the front-end closed it" : strerror(errno);
		return -1;
	}
	nfds = collect_fds(&mh, fds);
	if (mh.msg_flags & MSG_CTRUNC)
		*why = nfds == VU_FDS_MAX ? "a message carried too many file descriptors"
					  : "we are out of file descriptors: raise the limit "
					    "(ulimit -n)";
	else if (nfds > 0 && c->in_len > 0)
		*why = "file descriptors came in the middle of a message";
	if (*why) {
		vu_close_fds(fds, nfds);
		return -1;
	}
	if (nfds > 0) {
		memcpy(c->fds, fds, nfds * sizeof(int));
		c->nfds = nfds;
	}
	return n;
}

static const char *header_wrong(const struct vu_header *h)
{
	if ((h->flags & VU_VERSION_MASK) != VU_VERSION || (h->flags & VU_FLAG_REPLY))
		return "a message header has wrong flags: this is not vhost-user version 1";
	if (h->size > sizeof(union vu_payload))
		return "a message is longer than any request";
	return NULL;
}

/* A whole message is in; hand it on. False: the connection is gone. */
static bool dispatch(struct vu_device *dev)
{
	struct vu_conn *c = &dev->conn;
	struct vu_message msg = c->in;
	int fds[VU_FDS_MAX];
	unsigned nfds = c->nfds;
	bool go_on;

	memset((char *)&msg.payload + msg.header.size, 0, sizeof(msg.payload) - msg.header.size);
	memcpy(fds, c->fds, sizeof(fds));
	c->in_len = 0;
	c->nfds = 0;
	evtimer_del(c->deadline);
	go_on = vu_message_handle(dev, &msg, fds, nfds);
	vu_close_fds(fds, nfds);
	if (!go_on)
		vu_conn_close(dev, dev->last_error);
	return go_on;
}

static bool read_some(struct vu_device *dev)
{
	struct vu_conn *c = &dev->conn;
	size_t want = sizeof(struct vu_header);
	const char *why = NULL;
	ssize_t n;

	if (c->in_len >= want)
		want += c->in.header.size;
	n = receive(c, want - c->in_len, &why);
	if (n > 0) {
		if (c->in_len == 0)
			deadline_start(dev);
		c->in_len += (size_t)n;
		if (c->in_len == sizeof(struct vu_header))
			why = header_wrong(&c->in.header);
	}
	if (why) {
		vu_conn_close(dev, why);
		return false;
	}
	if (n == 0)
		return false;
	if (c->in_len < sizeof(struct vu_header) ||
		c->in_len < sizeof(struct vu_header) + c->in.header.size)
		return true;
	return dispatch(dev);
}

/* At most this many reads before other connections get their turn. */
#define READS_PER_TURN 64

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct vu_device *dev = arg;

	(void)fd, (void)what;
	for (int i = 0; i < READS_PER_TURN && dev->conn.out_len == 0; i++)
		if (!read_some(dev))
			return;
}

static ssize_t send_some(struct vu_conn *c)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {.buf = {0}};
	struct iovec iov = {wire(&c->out) + c->out_done, c->out_len - c->out_done};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (c->out_fd >= 0) {
		control.align = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(&control.align), &c->out_fd, sizeof(int));
		mh.msg_control = control.buf;
		mh.msg_controllen = sizeof(control.buf);
	}
	n = sendmsg(c->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0)
		vu_close_fd(&c->out_fd);
	return n;
}

/* Write what is left of the reply. Returns 0, or -1: the connection must end. */
static int flush(struct vu_device *dev)
{
	struct vu_conn *c = &dev->conn;

	while (c->out_done < c->out_len) {
		ssize_t n = send_some(c);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			event_del(c->readable);
			deadline_start(dev);
			return event_add(c->writable, NULL);
		}
		if (n < 0)
			return -1;
		c->out_done += (size_t)n;
	}
	c->out_len = c->out_done = 0;
	return 0;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct vu_device *dev = arg;
	struct vu_conn *c = &dev->conn;

	(void)fd, (void)what;
	if (flush(dev) < 0) {
		vu_conn_close(dev, "the front-end closed it");
		return;
	}
	if (c->out_len == 0) {
		event_del(c->writable);
		evtimer_del(c->deadline);
		if (event_add(c->readable, NULL) < 0)
			vu_conn_close(dev, "out of memory");
	}
}

/* Send the reply prepared in conn.out. */
int vu_conn_reply(struct vu_device *dev, uint32_t payload_size, int fd)
{
	struct vu_conn *c = &dev->conn;

	c->out.header.flags = VU_VERSION | VU_FLAG_REPLY;
	c->out.header.size = payload_size;
	c->out_len = sizeof(struct vu_header) + payload_size;
	c->out_done = 0;
	c->out_fd = fd;
	if (flush(dev) == 0)
		return 0;
	snprintf(dev->last_error, sizeof(dev->last_error), "the front-end closed it");
	return -1;
}

static bool make_events(struct vu_device *dev)
{
	struct vu_conn *c = &dev->conn;

	c->readable = event_new(dev->base, c->fd, EV_READ | EV_PERSIST, on_readable, dev);
	c->writable = event_new(dev->base, c->fd, EV_WRITE | EV_PERSIST, on_writable, dev);
	c->deadline = evtimer_new(dev->base, on_deadline, dev);
	return c->readable && c->writable && c->deadline;
}

int vu_conn_open(struct vu_device *dev, int fd)
{
	struct vu_conn *c = &dev->conn;

	*c = (struct vu_conn){.fd = fd, .out_fd = -1};
	evutil_make_socket_nonblocking(fd);
	if (!make_events(dev) || event_add(c->readable, NULL) < 0) {
		vu_conn_close(dev, "out of memory");
		return -ENOMEM;
	}
	dev->connections++;
	dev->socket_errno = 0;
	vu_tick_start(dev);
	vu_log(dev, VU_LOG_INFO, "front-end connected");
	return 0;
}

static void free_event(struct event **ev)
{
	if (*ev)
		event_free(*ev);
	*ev = NULL;
}

/* QEMU asks how many queues we have and, if it wants more, leaves and comes back at once. */
static void notice_haste(struct vu_device *dev)
{
	bool hasty = !dev->features_set && (dev->protocol_features & 1ull << VU_PROTOCOL_F_MQ);

	dev->hasty = hasty ? dev->hasty + 1 : 0;
	if (dev->hasty >= HASTY)
		dev->refused = VU_TROUBLE_QUEUES;
}

const char *vu_conn_adopt(struct vu_device *dev)
{
	const struct vu_conn *c = &dev->conn;
	const struct vu_header *h = &c->in.header;
	size_t in = c->in_len, head = sizeof(*h);

	if ((in == 0 && c->nfds > 0) || c->out_done > c->out_len ||
		(c->out_fd >= 0 && c->out_len == 0))
		return "it is in an impossible state";
	if (in >= head && header_wrong(h))
		return header_wrong(h);
	if (in >= head && in >= head + h->size)
		return "a message is there that was not handled";
	evutil_make_socket_nonblocking(c->fd);
	return make_events(dev) ? NULL : "out of memory";
}

void vu_conn_pause(struct vu_device *dev)
{
	struct vu_conn *c = &dev->conn;

	if (c->fd < 0)
		return;
	event_del(c->readable);
	event_del(c->writable);
	evtimer_del(c->deadline);
}

void vu_conn_go(struct vu_device *dev)
{
	struct vu_conn *c = &dev->conn;

	dev->conn_again = false;
	if (c->fd < 0)
		return;
	/* The front-end has done nothing wrong: the tick tries again. */
	dev->conn_again = event_add(c->out_len ? c->writable : c->readable, NULL) < 0;
	if (c->out_len || c->in_len)
		deadline_start(dev);
}

/* What belongs to the connection itself. */
static void let_go(struct vu_conn *c)
{
	free_event(&c->readable);
	free_event(&c->writable);
	free_event(&c->deadline);
	vu_close_fds(c->fds, c->nfds);
	c->nfds = 0;
	vu_close_fd(&c->out_fd);
	vu_close_fd(&c->fd);
}

void vu_conn_drop(struct vu_device *dev)
{
	if (dev->conn.fd >= 0)
		let_go(&dev->conn);
	vu_device_reset(dev, VU_RESET_CONNECTION);
}

/* End the connection: the lcores first, then everything it brought. */
void vu_conn_close(struct vu_device *dev, const char *reason)
{
	struct vu_conn *c = &dev->conn;

	if (c->fd < 0)
		return;
	if (reason && reason != dev->last_error)
		snprintf(dev->last_error, sizeof(dev->last_error), "%s", reason);
	vu_log(dev, VU_LOG_INFO, "connection ended: %s", reason ? reason : "we closed it");
	let_go(c);
	notice_haste(dev);
	vu_device_reset(dev, VU_RESET_CONNECTION);
	vu_socket_again(dev);
}

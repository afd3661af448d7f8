/* SPDX-License-Identifier: BSD-3-Clause */
/* The front-end's socket: connecting, and reading and writing that never hang. */
#include "ts_wire.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char *const request_names[TS_REQUEST_MAX + 1] = {
	[TS_GET_FEATURES] = "GET_FEATURES",
	[TS_SET_FEATURES] = "SET_FEATURES",
	[TS_SET_OWNER] = "SET_OWNER",
	[TS_RESET_OWNER] = "RESET_OWNER",
	[TS_SET_MEM_TABLE] = "SET_MEM_TABLE",
	[TS_SET_VRING_NUM] = "SET_VRING_NUM",
	[TS_SET_VRING_ADDR] = "SET_VRING_ADDR",
	[TS_SET_VRING_BASE] = "SET_VRING_BASE",
	[TS_GET_VRING_BASE] = "GET_VRING_BASE",
	[TS_SET_VRING_KICK] = "SET_VRING_KICK",
	[TS_SET_VRING_CALL] = "SET_VRING_CALL",
	[TS_SET_VRING_ERR] = "SET_VRING_ERR",
	[TS_GET_PROTOCOL_FEATURES] = "GET_PROTOCOL_FEATURES",
	[TS_SET_PROTOCOL_FEATURES] = "SET_PROTOCOL_FEATURES",
	[TS_GET_QUEUE_NUM] = "GET_QUEUE_NUM",
	[TS_SET_VRING_ENABLE] = "SET_VRING_ENABLE",
	[TS_SET_BACKEND_REQ_FD] = "SET_BACKEND_REQ_FD",
	[TS_GET_INFLIGHT_FD] = "GET_INFLIGHT_FD",
	[TS_SET_INFLIGHT_FD] = "SET_INFLIGHT_FD",
	[TS_GET_MAX_MEM_SLOTS] = "GET_MAX_MEM_SLOTS",
	[TS_ADD_MEM_REG] = "ADD_MEM_REG",
	[TS_SET_STATUS] = "SET_STATUS",
	[TS_GET_STATUS] = "GET_STATUS",
};

int ts_fail(struct ts_fe *fe, int rc, uint32_t request, const char *fmt, ...)
{
	const char *name = request <= TS_REQUEST_MAX ? request_names[request] : NULL;
	int n = 0;
	va_list ap;

	if (name)
		n = snprintf(fe->why, sizeof(fe->why), "%s: ", name);
	else if (request)
		n = snprintf(fe->why, sizeof(fe->why), "request %u: ", request);
	va_start(ap, fmt);
	vsnprintf(fe->why + n, sizeof(fe->why) - (size_t)n, fmt, ap);
	va_end(ap);
	return rc;
}

static uint64_t deadline_of(const struct ts_fe *fe)
{
	return ts_now_ms() + (uint64_t)fe->timeout_ms;
}

int ts_wait_io(struct ts_fe *fe, int fd, short events, uint64_t deadline)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = events};
		const uint64_t now = ts_now_ms();
		int n;

		if (fe->pump)
			fe->pump(fe->pump_arg);
		n = poll(&p, 1, fe->pump || now >= deadline ? 0 : (int)(deadline - now));
		if (n > 0)
			return 0;
		if (now >= deadline)
			return -ETIMEDOUT;
		if (fe->pump)
			ts_nap();
	}
}

/* ---- connecting ---- */

static int path_ok(struct ts_fe *fe, const char *path, struct sockaddr_un *un)
{
	*un = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(un->sun_path))
		return ts_fail(fe, -ENAMETOOLONG, 0, "socket path longer than 107 bytes: %s", path);
	memcpy(un->sun_path, path, strlen(path) + 1);
	return 0;
}

int ts_fe_pair(struct ts_fe *fe, int *peer)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		return ts_fail(fe, -errno, 0, "socketpair: %s", strerror(errno));
	ts_fe_disconnect(fe);
	fe->sock = sv[0];
	*peer = sv[1];
	return 0;
}

static int try_connect(struct ts_fe *fe, const struct sockaddr_un *un)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)un, sizeof(*un))) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	fe->sock = fd;
	return 0;
}

int ts_fe_connect(struct ts_fe *fe, const char *path)
{
	const uint64_t deadline = deadline_of(fe);
	struct sockaddr_un un;
	int rc = path_ok(fe, path, &un);

	if (rc)
		return rc;
	ts_fe_disconnect(fe);
	for (;;) {
		rc = try_connect(fe, &un);
		if (!rc)
			return 0;
		if (ts_now_ms() >= deadline ||
			(rc != -ENOENT && rc != -ECONNREFUSED && rc != -EAGAIN))
			return ts_fail(fe, rc, 0, "connect %s: %s", path, strerror(-rc));
		if (fe->pump)
			fe->pump(fe->pump_arg);
		ts_nap();
	}
}

int ts_fe_listen(struct ts_fe *fe, const char *path)
{
	struct sockaddr_un un;
	struct stat st;
	int rc = path_ok(fe, path, &un);

	if (rc)
		return rc;
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path);
	fe->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fe->listener < 0)
		return ts_fail(fe, -errno, 0, "socket: %s", strerror(errno));
	if (bind(fe->listener, (const struct sockaddr *)&un, sizeof(un)) ||
		listen(fe->listener, 1)) {
		rc = ts_fail(fe, -errno, 0, "listen on %s: %s", path, strerror(errno));
		close(fe->listener);
		fe->listener = -1;
		return rc;
	}
	memcpy(fe->path, un.sun_path, sizeof(fe->path));
	return 0;
}

int ts_fe_accept(struct ts_fe *fe)
{
	int rc = ts_wait_io(fe, fe->listener, POLLIN, deadline_of(fe));

	if (rc)
		return ts_fail(fe, rc, 0, "nobody connected to %s", fe->path);
	ts_fe_disconnect(fe);
	fe->sock = accept4(fe->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fe->sock < 0)
		return ts_fail(fe, -errno, 0, "accept: %s", strerror(errno));
	return 0;
}

void ts_fe_disconnect(struct ts_fe *fe)
{
	if (fe->sock >= 0)
		close(fe->sock);
	if (fe->backend_req >= 0)
		close(fe->backend_req);
	fe->sock = fe->backend_req = -1;
	fe->protocol = 0;
	fe->added = 0;
}

/* ---- writing ---- */

union fd_control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(int) * TS_MAX_FDS)];
};

static ssize_t send_some(int sock, const uint8_t *data, size_t len, const int *fds, unsigned n_fds)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	union fd_control control;

	if (n_fds) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	return sendmsg(sock, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int write_all(struct ts_fe *fe, const uint8_t *p, size_t len, const int *fds, unsigned n_fds)
{
	const uint64_t deadline = deadline_of(fe);

	while (len) {
		ssize_t n = send_some(fe->sock, p, len, fds, n_fds);
		int rc;

		if (n > 0) {
			p += n;
			len -= (size_t)n;
			n_fds = 0;
			continue;
		}
		if (errno == EPIPE || errno == ECONNRESET)
			return -ECONNRESET;
		if (errno != EAGAIN)
			return -errno;
		rc = ts_wait_io(fe, fe->sock, POLLOUT, deadline);
		if (rc)
			return rc;
	}
	return 0;
}

int ts_write_all(struct ts_fe *fe, const void *data, size_t len, const int *fds, unsigned n_fds)
{
	if (n_fds > TS_MAX_FDS)
		return -EINVAL;
	if (fe->cut_after == 0 || len < fe->cut_after) {
		fe->cut_after -= fe->cut_after ? len : 0;
		return write_all(fe, data, len, fds, n_fds);
	}
	write_all(fe, data, fe->cut_after, fds, n_fds);
	shutdown(fe->sock, SHUT_RDWR);
	fe->cut_after = 0;
	return -ECONNRESET;
}

/* ---- reading ---- */

static void take_fds(struct ts_reply *r, struct msghdr *mh)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		unsigned n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (unsigned i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (r->n_fds < TS_MAX_FDS)
				r->fds[r->n_fds++] = fd;
			else
				close(fd);
		}
	}
}

static int read_exact(
	struct ts_fe *fe, void *buf, size_t len, struct ts_reply *r, uint64_t deadline)
{
	uint8_t *p = buf;

	while (len) {
		union fd_control control;
		struct iovec iov = {.iov_base = p, .iov_len = len};
		struct msghdr mh = {.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control)};
		ssize_t n;
		int rc = ts_wait_io(fe, fe->sock, POLLIN, deadline);

		if (rc)
			return rc;
		n = recvmsg(fe->sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return -ECONNRESET;
		if (n < 0 && errno != EAGAIN)
			return -errno;
		if (n < 0)
			continue;
		take_fds(r, &mh);
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

void ts_reply_close(struct ts_reply *r)
{
	while (r->n_fds)
		close(r->fds[--r->n_fds]);
}

int ts_recv_reply(struct ts_fe *fe, struct ts_reply *r)
{
	const uint64_t deadline = deadline_of(fe);
	int rc;

	r->n_fds = 0;
	rc = read_exact(fe, &r->hdr, sizeof(r->hdr), r, deadline);
	if (!rc && r->hdr.size > sizeof(r->payload))
		rc = -EPROTO;
	if (!rc)
		rc = read_exact(fe, r->payload, r->hdr.size, r, deadline);
	if (rc)
		ts_reply_close(r);
	return rc;
}

static const char *words(int rc)
{
	if (rc == -ETIMEDOUT)
		return "no answer in time";
	if (rc == -ECONNRESET)
		return "connection closed instead of an answer";
	return strerror(-rc);
}

int ts_recv_answer(struct ts_fe *fe, uint32_t request, void *payload, uint32_t size)
{
	struct ts_reply r;
	int rc = ts_recv_reply(fe, &r);

	if (rc)
		return ts_fail(fe, rc, request, "%s", words(rc));
	if (r.n_fds) {
		rc = ts_fail(fe, -EPROTO, request, "%u unexpected fds in the answer", r.n_fds);
		ts_reply_close(&r);
		return rc;
	}
	if (r.hdr.request != request || r.hdr.flags != (TS_VERSION | TS_REPLY) ||
		r.hdr.size != size)
		return ts_fail(fe, -EPROTO, request,
			"answer is request %u flags %#x size %u, expected flags 0x5 size %u",
			r.hdr.request, r.hdr.flags, r.hdr.size, size);
	memcpy(payload, r.payload, size);
	return 0;
}

bool ts_fe_closed(struct ts_fe *fe)
{
	const uint64_t deadline = deadline_of(fe);

	for (;;) {
		char c;
		ssize_t n;

		if (ts_wait_io(fe, fe->sock, POLLIN, deadline)) {
			ts_fail(fe, 0, 0, "the back-end kept the connection");
			return false;
		}
		n = recv(fe->sock, &c, 1, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return true;
		if (n > 0) {
			ts_fail(fe, 0, 0, "the back-end sent something before closing");
			return false;
		}
	}
}

bool ts_fe_quiet(struct ts_fe *fe)
{
	char c;

	return recv(fe->sock, &c, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

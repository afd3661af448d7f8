/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames over a stream socket: a header, then a byte for each batch of descriptors, then the payload. */
#include "handover_wire.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 128u /* the kernel takes 253 */

uint64_t frame_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The end of so many milliseconds; 0: there is none. */
static uint64_t deadline_in(int ms)
{
	return ms < 0 ? 0 : frame_clock() + (uint64_t)ms * 1000000u;
}

/* Until the socket can be read or written. */
static int wait_for(int sock, short what, uint64_t deadline)
{
	struct pollfd p = {.fd = sock, .events = what};
	int ms = -1;

	if (deadline) {
		uint64_t now = frame_clock();

		if (now >= deadline)
			return -ETIMEDOUT;
		ms = (int)((deadline - now) / 1000000u) + 1;
	}
	return poll(&p, 1, ms) < 0 && errno != EINTR ? -errno : 0;
}

static int send_part(
	int sock, const void *p, size_t len, const int *fds, unsigned nfds, uint64_t deadline)
{
	union {
		char buf[CMSG_SPACE(BATCH * sizeof(int))];
		struct cmsghdr align;
	} control = {0};

	while (len > 0) {
		struct iovec iov = {(void *)(uintptr_t)p, len};
		struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
		ssize_t n;
		int err;

		if (nfds > 0) {
			control.align = (struct cmsghdr){.cmsg_len = CMSG_LEN(nfds * sizeof(int)),
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS};
			memcpy(CMSG_DATA(&control.align), fds, nfds * sizeof(int));
			mh.msg_control = control.buf;
			mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		}
		n = sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n >= 0) {
			p = (const char *)p + n;
			len -= (size_t)n;
			nfds = 0;
			continue;
		}
		err = wait_for(sock, POLLOUT, deadline);
		if (err)
			return err;
	}
	return 0;
}

int frame_send(int sock, enum frame_type type, const void *payload, size_t len, const int *fds,
	unsigned nfds, int ms)
{
	const struct frame_header h = {
		FRAME_MAGIC, FRAME_VERSION, (uint32_t)type, (uint32_t)len, nfds};
	uint64_t deadline = deadline_in(ms);
	int err = send_part(sock, &h, sizeof(h), NULL, 0, deadline);

	for (unsigned at = 0; at < nfds && !err; at += BATCH)
		err = send_part(
			sock, "", 1, fds + at, nfds - at < BATCH ? nfds - at : BATCH, deadline);
	return err ? err : send_part(sock, payload, len, NULL, 0, deadline);
}

/* Descriptors that came; more than there is room for are closed. */
static void keep_fds(struct msghdr *mh, int *fds, unsigned room, unsigned *got)
{
	for (struct cmsghdr *cm = CMSG_FIRSTHDR(mh); cm; cm = CMSG_NXTHDR(mh, cm)) {
		unsigned n = (unsigned)((cm->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		for (unsigned i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(fd));
			if (*got < room)
				fds[(*got)++] = fd;
			else
				close(fd);
		}
	}
}

static int recv_part(
	int sock, void *p, size_t len, int *fds, unsigned room, unsigned *got, uint64_t deadline)
{
	union {
		char buf[CMSG_SPACE(BATCH * sizeof(int))];
		struct cmsghdr align;
	} control;

	while (len > 0) {
		struct iovec iov = {p, len};
		struct msghdr mh = {.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control.buf,
			.msg_controllen = sizeof(control.buf)};
		ssize_t n = recvmsg(sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		int err;

		if (n == 0)
			return -ECONNRESET;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0) {
			keep_fds(&mh, fds, room, got);
			if (mh.msg_flags & MSG_CTRUNC)
				return -EMFILE;
			p = (char *)p + n;
			len -= (size_t)n;
			continue;
		}
		err = wait_for(sock, POLLIN, deadline);
		if (err)
			return err;
	}
	return 0;
}

static int recv_rest(int sock, struct frame *f, unsigned expect, uint64_t deadline)
{
	int err = 0;
	char byte;

	while (f->nfds < expect && !err) {
		unsigned before = f->nfds;

		err = recv_part(sock, &byte, 1, f->fds, expect, &f->nfds, deadline);
		if (!err && f->nfds == before)
			err = -EPROTO;
	}
	if (!err)
		err = recv_part(sock, f->payload, f->len, NULL, 0, &(unsigned){0}, deadline);
	return err;
}

static int recv_header(int sock, struct frame_header *h, uint64_t deadline)
{
	int err = recv_part(sock, h, sizeof(*h), NULL, 0, &(unsigned){0}, deadline);

	if (err)
		return err;
	return h->magic != FRAME_MAGIC || h->version != FRAME_VERSION || h->len > FRAME_MAX ||
			       h->nfds > FRAME_FDS_MAX
		       ? -EPROTO
		       : 0;
}

bool frame_is_next(int sock, enum frame_type type, int ms)
{
	struct frame_header h;

	return recv_header(sock, &h, deadline_in(ms)) == 0 && h.type == (uint32_t)type;
}

int frame_recv(int sock, struct frame *f, int ms)
{
	uint64_t deadline = deadline_in(ms);
	struct frame_header h;
	int err = recv_header(sock, &h, deadline);

	*f = (struct frame){0};
	if (err)
		return err;
	f->type = h.type;
	f->len = h.len;
	f->payload = calloc(1, h.len + 1u);
	f->fds = calloc(h.nfds + 1u, sizeof(int));
	err = f->payload && f->fds ? recv_rest(sock, f, h.nfds, deadline) : -ENOMEM;
	if (err)
		frame_clear(f);
	return err;
}

void frame_clear(struct frame *f)
{
	for (unsigned i = 0; i < f->nfds; i++)
		if (f->fds[i] >= 0)
			close(f->fds[i]);
	free(f->payload);
	free(f->fds);
	*f = (struct frame){0};
}

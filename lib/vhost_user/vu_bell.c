/* SPDX-License-Identifier: BSD-3-Clause */
/* Bells: how an lcore that sleeps hears the guest's kicks. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "virtq_signal.h"
#include "vu_device.h"

/*
 * Theory of operation
 *
 * A front-end may replace a ring's kick eventfd at any moment, and it may set whatever flags on it.
 * So nobody who sleeps ever sees it. He waits for the ring's bell, an epoll instance that stays the
 * same as long as the device and holds the kick eventfd of the moment. It is edge-triggered: what
 * rang is forgotten by asking the bell (vu_bell_silence()), not by reading the front-end's
 * descriptor.
 *
 * Only this file changes vu_queue.kick_fd, because a descriptor must be taken out of the bell before
 * it is closed: the front-end holds another one of the same eventfd.
 */

void vu_bell_init(struct vu_queue *q)
{
	q->kick_fd = q->bell = -1;
}

static int hang(struct vu_queue *q)
{
	struct epoll_event on_edge = {.events = EPOLLIN | EPOLLET};

	if (q->bell < 0 || q->kick_fd < 0)
		return 0;
	return epoll_ctl(q->bell, EPOLL_CTL_ADD, q->kick_fd, &on_edge) < 0 ? -errno : 0;
}

/**
 * Have another kick eventfd, or (-1) none.
 * @return 0, or why the bell does not take it: then it is there all the same, but silent
 */
int vu_kick_set(struct vu_queue *q, int fd)
{
	if (q->bell >= 0 && q->kick_fd >= 0)
		epoll_ctl(q->bell, EPOLL_CTL_DEL, q->kick_fd, NULL);
	vu_close_fd(&q->kick_fd);
	q->kick_fd = fd;
	q->own_kicks = 0;
	return hang(q);
}

/** Wake who sleeps by the ring, as a kick does. */
void vu_bell_ring(struct vu_queue *q)
{
	if (q->kick_fd >= 0 && virtq_signal(q->kick_fd) == 0)
		q->own_kicks++;
}

int vu_device_bell(struct vu_device *dev, unsigned ring)
{
	struct vu_queue *q;

	if (ring >= dev->nrings)
		return -EINVAL;
	q = &dev->queue[ring];
	if (q->bell < 0) {
		q->bell = epoll_create1(EPOLL_CLOEXEC);
		if (q->bell < 0)
			return -errno;
		hang(q);
	}
	return q->bell;
}

void vu_bell_silence(int bell)
{
	struct epoll_event rang;

	/* One descriptor hangs in it: one answer. */
	while (epoll_wait(bell, &rang, 1, 0) < 0 && errno == EINTR)
		;
}

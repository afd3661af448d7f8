/* SPDX-License-Identifier: BSD-3-Clause */
/* Rings whose buffers are lent: waiting for them when a ring stops, and letting go of their memory. */
#include <time.h>
#include <unistd.h>

#include "virtq_lend.h"
#include "vu_device.h"

/*
 * Theory of operation
 *
 * A ring that stops must have nothing in flight: the front-end is told one position, and the driver
 * gets no used entry after that. So whoever closes a gate waits until all lent buffers have come
 * home, which they do while lcores go on with other rings, and gives them back.
 *
 * Somebody may not let go of them: many a NIC keeps the last it has sent until there are more, one may
 * stand still, a program may keep packets. So there is no more waiting when nothing has come home for
 * LEND_QUIET_MS, which is long after a NIC that works has sent it, nor after LEND_WAIT_MS in all. Then
 * all chains are given back, and what should be sent of them later is whatever the guest has put
 * there since, its own in any case. Our mapping of the memory stays until the last one is home. All
 * rings of a device share that time, and once it is over others stop without a wait for a second: a
 * device with many rings keeps control from its other work no longer than one ring does.
 */

#define LEND_QUIET_MS 20
#define LEND_WAIT_MS  100
#define LEND_AGAIN_MS 1000
#define LEND_LOOK_US  100

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Wait for what is out. */
static void wait_home(struct vu_device *dev, struct vu_queue *q, const struct virtq_view *v)
{
	int64_t now = now_us(), quiet = now + LEND_QUIET_MS * 1000;
	uint32_t out = v->lender->window.out;

	if (now > dev->lend_wait_us + LEND_AGAIN_MS * 1000)
		dev->lend_wait_us = now + LEND_WAIT_MS * 1000;
	while (out > 0 && now < quiet && now < dev->lend_wait_us) {
		uint32_t left;

		usleep(LEND_LOOK_US);
		left = v->lender->settle(v->lender, q->vq, v);
		now = now_us();
		if (left < out)
			quiet = now + LEND_QUIET_MS * 1000;
		out = left;
	}
}

/* The gate is closed, and nobody is in with the old view. */
void vu_lend_drain(struct vu_device *dev, struct vu_queue *q, const struct virtq_view *old)
{
	struct virtq_lender *lender = old->lender;
	struct virtq_view v = *old;
	uint32_t out;

	if (!lender)
		return;
	v.patient = true;
	if (lender->settle(lender, q->vq, &v) > 0)
		wait_home(dev, q, &v);
	out = lender->abandon(lender, q->vq, &v);
	if (out)
		vu_log(dev, VU_LOG_INFO,
			"a ring stops while somebody keeps buffers of %u entries: given back to "
			"the guest",
			out);
	if (lender->reap(lender, true)) {
		dev->lend_later = true;
		vu_tick_start(dev);
	}
}

/* Called every tick: a running ring may have got another memory table. */
void vu_lend_reap(struct vu_device *dev)
{
	dev->lend_later = false;
	for (unsigned i = 0; i < dev->nrings; i++) {
		struct vu_queue *q = &dev->queue[i];
		bool stopped = !virtq_gate_view(&q->vq->gate) && !q->stuck[0];

		if (q->lender && q->lender->reap(q->lender, stopped))
			dev->lend_later = true;
	}
}

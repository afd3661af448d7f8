/* SPDX-License-Identifier: BSD-3-Clause */
/* What the control thread looks at from time to time. */
#include "virtq_signal.h"
#include "vu_backend.h"
#include "vu_device.h"
#include "vu_iommu.h"

#define DRAIN_MS 10
#define WATCH_MS 100 /* how soon a parked ring is noticed */

static void notice_fault(struct vu_device *dev, unsigned ring)
{
	const struct vu_queue *q = &dev->queue[ring];
	enum virtq_fault fault = virtq_load(&q->vq->fault);

	if (q->positioned && !q->fault && fault)
		vu_park(dev, ring, fault);
}

/* Chains one tick discards for a device: bounded, whatever its guest does. */
#define DRAIN_BUDGET 8192

/* Each tick begins with another ring, so that a busy one does not starve the others. */
static void drain(struct vu_device *dev)
{
	uint32_t budget = DRAIN_BUDGET;

	dev->drain_first++;
	for (unsigned i = 0; i < dev->nrings && budget > 0; i++) {
		struct vu_queue *q = &dev->queue[(dev->drain_first + i) % dev->nrings];

		if (q->drain)
			budget -= virtq_discard(q->vq, q->drain, budget);
	}
}

static void signal_log(struct vu_device *dev)
{
	if (dev->log && vu_has_feature(dev, VU_F_LOG_ALL) && dev->log_fd >= 0 &&
		virtq_signal(dev->log_fd) < 0)
		vu_log(dev, VU_LOG_DEBUG, "the dirty log's eventfd is none");
}

/* An lcore that has not moved for a whole watch period may sleep in a call. */
static bool lcore_was_trapped(struct vu_queue *q)
{
	const struct virtq_view *v = virtq_gate_view(&q->vq->gate);
	uint32_t turn = virtq_load(&q->vq->gate.turn);
	bool same = v && (turn & 1) && turn == q->last_turn;

	q->last_turn = turn;
	return same && vu_wake_caller(v);
}

static bool has_drain(const struct vu_device *dev)
{
	for (unsigned i = 0; i < dev->nrings; i++)
		if (dev->queue[i].drain)
			return true;
	return false;
}

void vu_timer_set(struct event *timer, const struct timeval *after)
{
	if (evtimer_add(timer, after) < 0)
		event_active(timer, EV_TIMEOUT, 0);
}

/* Never later than it was due: a front-end that keeps talking must not put it off. */
void vu_tick_start(struct vu_device *dev)
{
	bool soon = vu_iommu_used(dev) || has_drain(dev) || dev->postcopy.listening;
	struct timeval next = {.tv_usec = (soon ? DRAIN_MS : WATCH_MS) * 1000};

	if (dev->frozen)
		return;
	if (evtimer_pending(dev->tick, NULL) && dev->tick_us <= next.tv_usec)
		return;
	if (dev->conn.fd >= 0 || vu_any_stuck(dev) || dev->lend_later) {
		dev->tick_us = next.tv_usec;
		vu_timer_set(dev->tick, &next);
	}
}

/* The tick event's callback, installed by vu_device_create(). */
void vu_on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct vu_device *dev = arg;

	(void)fd, (void)what;
	drain(dev);
	for (unsigned i = 0; i < dev->nrings; i++) {
		notice_fault(dev, i);
		if (lcore_was_trapped(&dev->queue[i])) {
			vu_conn_close(dev, "its call eventfd was made to block an lcore");
			break;
		}
	}
	signal_log(dev);
	vu_iommu_tick(dev);
	vu_reap_stuck(dev);
	vu_lend_reap(dev);
	if (dev->conn_again)
		vu_conn_go(dev);
	if (dev->try_again) {
		dev->try_again = false;
		vu_reconcile(dev);
	}
	vu_tick_start(dev);
}

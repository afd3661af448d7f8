/* SPDX-License-Identifier: BSD-3-Clause */
/* From what the front-end said to what the lcores do. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/virtio_net.h>

#include "vu_device.h"

/*
 * Theory of operation
 *
 * vu_reconcile_ring() looks at a ring's whole configuration and decides which of three
 * things it should be; it then makes it so and is the only caller of the gate's swap.
 *
 *   runs and enabled	a published view: the lcore works
 *   runs, not enabled	gate closed; a transmit ring gets a private view with which the
 *			control thread consumes and discards, every DRAIN_MS
 *   does not run	gate closed, nothing touches the ring
 *
 * It runs when it was kicked, its size and addresses are known, features and memory
 * table are there, the addresses are in that table, it is not parked, no lcore is stuck in
 * it, and the owner's prepare() gave it a burst.
 */

#define DRAIN_MS 10
#define WATCH_MS 100 /* how soon a parked ring is noticed */

/* A front-end that negotiates as the text of 2015 had it: it expects the first pair to be
 * enabled, and enables pairs by their even ring. */
static bool negotiated_like_2015(const struct vu_device *dev)
{
	return dev->features_set && (dev->features & (1ull << VU_F_PROTOCOL_FEATURES)) &&
	       !(dev->protocol_features & ~(1ull << VU_PROTOCOL_F_MQ));
}

bool vu_queue_enabled(const struct vu_device *dev, unsigned ring)
{
	bool old = negotiated_like_2015(dev);
	enum vu_enable e = dev->queue[ring].enable;

	if (e == VU_ENABLE_UNSET && (ring & 1) && old && !dev->odd_enable_seen)
		e = dev->queue[ring - 1].enable;
	if (e != VU_ENABLE_UNSET)
		return e == VU_ENABLE_ON;
	switch (dev->initial_enable) {
	case VU_ENABLE_FIRST_PAIR:
		return ring < 2;
	case VU_ENABLE_NONE:
		return false;
	default:
		return old && ring < 2;
	}
}

/* An lcore has not come out since the gate was closed: what it may touch is still its own. */
static bool is_stuck(const struct vu_device *dev, const struct vu_queue *q)
{
	for (const struct vu_stuck_view *s = dev->stuck; s; s = s->next)
		if (s->gate == &q->vq->gate)
			return true;
	return false;
}

/* Fill in what is true of the ring. False: it cannot run. */
static bool describe(struct vu_device *dev, unsigned ring, struct virtq_view *v)
{
	struct vu_queue *q = &dev->queue[ring];
	bool known = q->started && q->num && q->have_addr && dev->features_set && dev->mem;
	uint64_t n = q->num;

	memset(v, 0, sizeof(*v));
	q->bad_addr = false;
	if (!known || q->fault || is_stuck(dev, q))
		return false;
	/* virtio 1.2, 2.7: sizes of the three parts, event indexes included. */
	v->desc = (void *)virtq_mem_uva(dev->mem, q->addr.desc, 16 * n);
	v->avail = (void *)virtq_mem_uva(dev->mem, q->addr.avail, 6 + 2 * n);
	v->used = (void *)virtq_mem_uva(dev->mem, q->addr.used, 6 + 8 * n);
	/* What is aligned for the front-end need not be so where we have the region. */
	if (!v->desc || !v->avail || !v->used || (uintptr_t)v->desc % 16 != 0 ||
		(uintptr_t)v->avail % 2 != 0 || (uintptr_t)v->used % 4 != 0) {
		q->bad_addr = true;
		return false;
	}
	v->num = q->num;
	v->features = dev->features;
	v->hdr_len = dev->features & (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_NET_F_MRG_RXBUF)
			     ? sizeof(struct virtio_net_hdr_v1)
			     : sizeof(struct virtio_net_hdr);
	v->event_idx = dev->features & (1ull << VIRTIO_RING_F_EVENT_IDX);
	v->indirect = dev->features & (1ull << VIRTIO_RING_F_INDIRECT_DESC);
	v->call_fd = q->call_fd;
	v->mem = dev->mem;
	dev->ops->prepare(dev->arg, ring, v);
	return v->burst != NULL;
}

/* An lcore sits inside with this view: it must outlive that. */
static int keep_until_left(struct vu_device *dev, struct virtq_view *view,
	const struct virtq_gate *gate, uint32_t ticket)
{
	struct vu_stuck_view *s = malloc(sizeof(*s));

	/* Without memory for the note the view is leaked, which is safe. */
	if (s) {
		*s = (struct vu_stuck_view){view, gate, ticket, false, dev->stuck};
		dev->stuck = s;
	}
	vu_log(dev, VU_LOG_ERROR, "an lcore has not left a ring within %d ms: is it stopped?",
		VIRTQ_GATE_WAIT_MS);
	return -ETIMEDOUT;
}

/* Free what no lcore uses any more. Rings that waited for that go on. */
void vu_reap_stuck(struct vu_device *dev)
{
	struct vu_stuck_view **p = &dev->stuck;
	bool reaped = false;

	while (*p) {
		struct vu_stuck_view *s = *p;

		if (virtq_gate_wait(s->gate, s->ticket, 0) != 0) {
			p = &s->next;
			continue;
		}
		*p = s->next;
		if (s->owns_call_fd)
			vu_close_fd(&s->view->call_fd);
		virtq_view_free(s->view);
		free(s);
		reaped = true;
	}
	if (reaped)
		vu_reconcile(dev);
}

/* A stuck lcore may still write to it, so its number must not become another file's. */
void vu_close_call_fd(struct vu_device *dev, int *fd)
{
	for (struct vu_stuck_view *s = dev->stuck; s && *fd >= 0; s = s->next) {
		if (s->view->call_fd == *fd) {
			s->owns_call_fd = true;
			*fd = -1;
		}
	}
	vu_close_fd(fd);
}

static int publish(struct vu_device *dev, struct vu_queue *q, struct virtq_view *view)
{
	uint32_t ticket;
	struct virtq_view *old = virtq_gate_swap(&q->vq->gate, view, &ticket);

	if (!old)
		return 0; /* who is inside found the gate closed and touches nothing */
	if (virtq_gate_wait(&q->vq->gate, ticket, VIRTQ_GATE_WAIT_MS) != 0)
		return keep_until_left(dev, old, &q->vq->gate, ticket);
	virtq_view_free(old);
	return 0;
}

static void drain_stop(struct vu_queue *q)
{
	virtq_view_free(q->drain);
	q->drain = NULL;
}

static int close_gate(struct vu_device *dev, struct vu_queue *q, enum virtq_drop why)
{
	virtq_store(&q->vq->closed, (uint8_t)why);
	return virtq_gate_view(&q->vq->gate) ? publish(dev, q, NULL) : 0;
}

static struct virtq_view *view_or_log(struct vu_device *dev, const struct virtq_view *v)
{
	struct virtq_view *view = virtq_view_new(v);

	if (!view)
		vu_log(dev, VU_LOG_ERROR, "out of memory: a ring stays closed");
	return view;
}

static int open_gate(struct vu_device *dev, struct vu_queue *q, const struct virtq_view *v)
{
	struct virtq_view *now = virtq_gate_view(&q->vq->gate);
	struct virtq_view *view;

	if (now && memcmp(now, v, sizeof(*v)) == 0)
		return 0;
	view = view_or_log(dev, v);
	if (!view)
		return close_gate(dev, q, VIRTQ_DROP_TX_STOPPED);
	drain_stop(q);
	return publish(dev, q, view);
}

/* Started and disabled: a transmit ring is consumed and discarded ("Ring states"). */
static int disable(struct vu_device *dev, unsigned ring, const struct virtq_view *v)
{
	struct vu_queue *q = &dev->queue[ring];
	int err = close_gate(dev, q, VIRTQ_DROP_TX_DISABLED);

	if (err)
		return err;
	drain_stop(q);
	if (ring & 1) {
		q->drain = view_or_log(dev, v);
		vu_tick_start(dev);
	}
	return 0;
}

static enum virtq_drop why_stopped(const struct vu_device *dev, const struct vu_queue *q)
{
	if (dev->conn.fd < 0)
		return VIRTQ_DROP_TX_DISCONNECTED;
	return q->started && q->fault ? VIRTQ_DROP_TX_BROKEN : VIRTQ_DROP_TX_STOPPED;
}

static int stop(struct vu_device *dev, struct vu_queue *q)
{
	int err = close_gate(dev, q, why_stopped(dev, q));

	if (err || is_stuck(dev, q))
		return err;
	drain_stop(q);
	if (!q->started && q->positioned) {
		q->base = q->vq->avail;
		q->positioned = false;
		q->fault = VIRTQ_FAULT_NONE;
	}
	return 0;
}

static void update_link(struct vu_device *dev)
{
	bool up = false;

	for (unsigned i = 0; i < dev->nrings && !up; i++)
		up = virtq_gate_view(&dev->queue[i].vq->gate) != NULL;
	if (up == dev->link)
		return;
	dev->link = up;
	if (up)
		dev->refused = VU_TROUBLE_NONE;
	vu_log(dev, VU_LOG_INFO, "link is %s", up ? "up" : "down");
	if (dev->ops->link_changed)
		dev->ops->link_changed(dev->arg, up);
}

static int reconcile(struct vu_device *dev, unsigned ring)
{
	struct vu_queue *q = &dev->queue[ring];
	bool was_usable = virtq_gate_view(&q->vq->gate) != NULL;
	bool usable;
	struct virtq_view v;
	int err;

	if (!describe(dev, ring, &v)) {
		err = stop(dev, q);
	} else {
		if (!q->positioned)
			virtq_start(q->vq, &v, q->base);
		q->positioned = true;
		err = vu_queue_enabled(dev, ring) ? open_gate(dev, q, &v) : disable(dev, ring, &v);
	}
	usable = virtq_gate_view(&q->vq->gate) != NULL;
	if (usable != was_usable && dev->ops->ring_changed)
		dev->ops->ring_changed(dev->arg, ring, usable);
	return err;
}

int vu_reconcile_ring(struct vu_device *dev, unsigned ring)
{
	int err = reconcile(dev, ring);

	update_link(dev);
	return err;
}

int vu_reconcile(struct vu_device *dev)
{
	int first = 0;

	for (unsigned i = 0; i < dev->nrings; i++) {
		int err = reconcile(dev, i);

		first = first ? first : err;
	}
	update_link(dev);
	return first;
}

/**
 * Stop every ring and forget who enabled it; with the connection everything else the
 * front-end said goes too.
 */
void vu_device_reset(struct vu_device *dev, bool forget_connection)
{
	for (unsigned i = 0; i < dev->nrings; i++) {
		dev->queue[i].started = false;
		dev->queue[i].enable = VU_ENABLE_UNSET;
	}
	dev->odd_enable_seen = false;
	vu_reconcile(dev);
	if (!forget_connection)
		return;
	for (unsigned i = 0; i < dev->nrings; i++) {
		struct vu_queue *q = &dev->queue[i];

		vu_close_fd(&q->kick_fd);
		vu_close_call_fd(dev, &q->call_fd);
		vu_close_fd(&q->err_fd);
		q->num = q->base = 0;
		q->have_addr = q->bad_addr = false;
		/* Also of a ring in which an lcore is stuck. */
		q->positioned = false;
		q->fault = VIRTQ_FAULT_NONE;
	}
	virtq_mem_put(dev->mem);
	dev->mem = NULL;
	dev->features_set = false;
	dev->features = dev->protocol_features = 0;
}

/* ---- what has to be looked at from time to time ---- */

static void notice_fault(struct vu_device *dev, unsigned ring)
{
	struct vu_queue *q = &dev->queue[ring];
	enum virtq_fault fault = virtq_load(&q->vq->fault);
	static const uint64_t one = 1;

	if (!q->positioned || q->fault || !fault)
		return;
	q->fault = fault;
	snprintf(dev->last_error, sizeof(dev->last_error), "ring %u is parked: %s", ring,
		virtq_fault_text(fault));
	vu_log(dev, VU_LOG_WARNING, "%s", dev->last_error);
	if (q->err_fd >= 0 && write(q->err_fd, &one, sizeof(one)) < 0)
		vu_log(dev, VU_LOG_DEBUG, "ring %u: the error eventfd is full", ring);
	vu_reconcile_ring(dev, ring);
}

/* Never later than it was due: a front-end that keeps talking must not put it off. */
void vu_tick_start(struct vu_device *dev)
{
	struct timeval next = {.tv_usec = WATCH_MS * 1000};

	for (unsigned i = 0; i < dev->nrings; i++)
		if (dev->queue[i].drain)
			next.tv_usec = DRAIN_MS * 1000;
	if (evtimer_pending(dev->tick, NULL) && dev->tick_us <= next.tv_usec)
		return;
	if (dev->conn.fd >= 0 || dev->stuck) {
		dev->tick_us = next.tv_usec;
		evtimer_add(dev->tick, &next);
	}
}

/* The tick event's callback, installed by vu_device_create(). */
void vu_on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct vu_device *dev = arg;

	(void)fd, (void)what;
	for (unsigned i = 0; i < dev->nrings; i++) {
		if (dev->queue[i].drain)
			virtq_discard(dev->queue[i].vq, dev->queue[i].drain);
		notice_fault(dev, i);
	}
	vu_reap_stuck(dev);
	vu_tick_start(dev);
}

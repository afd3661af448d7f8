/* SPDX-License-Identifier: BSD-3-Clause */
/* From what the front-end said to what the lcores do. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_net.h>

#include "virtq_inflight.h"
#include "virtq_log.h"
#include "virtq_signal.h"
#include "vu_backend.h"
#include "vu_device.h"
#include "vu_iommu.h"
#include "vu_state.h"

/*
 * Theory of operation
 *
 * vu_reconcile_ring() looks at a ring's whole configuration and decides which of three
 * things it should be; it then makes it so and is the only caller of the gate's swap.
 *
 *   runs and enabled	a published view: the lcore works
 *   runs, not enabled	gate closed; a transmit ring gets a private view with which the
 *			control thread consumes and discards (vu_tick.c); the same if
 *			the owner's prepare() gave it no burst, because nobody polls it
 *   does not run	gate closed, nothing touches the ring
 *
 * It runs when it was kicked, its size and addresses are known, features and memory
 * table are there and have not vanished, the addresses are in that table, it is not parked,
 * no lcore is stuck in it, the device is not frozen, and the owner's prepare() gave it a burst.
 */

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
	/* Without the protocol features there is no SET_VRING_ENABLE: all rings are enabled. */
	if (dev->features_set && !(dev->features & (1ull << VU_F_PROTOCOL_FEATURES)))
		return true;
	switch (dev->initial_enable) {
	case VU_ENABLE_FIRST_PAIR:
		return ring < 2;
	case VU_ENABLE_NONE:
		return false;
	default:
		return old && ring < 2;
	}
}

/* virtio 1.2, 5.1.6: the header has num_buffers. */
#define LONG_HEADER \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_NET_F_MRG_RXBUF | 1ull << VIRTIO_F_RING_PACKED)

static uint8_t *find_area(struct vu_device *dev, struct vu_queue *q, uint64_t addr, uint64_t len,
	enum virtq_perm perm)
{
	if (vu_iommu_used(dev))
		return vu_iommu_area(dev, addr, len, perm, &q->waits);
	return virtq_mem_uva(dev->mem, addr, len);
}

/* Sizes and alignments of the three areas: virtio 1.2, 2.7 (event indexes included) and 2.8.10.
 * What is aligned for the front-end need not be so where we have the region. */
static bool find_areas(
	struct vu_device *dev, struct vu_queue *q, struct virtq_view *v, struct vu_range area[3])
{
	uint64_t n = q->num, event = sizeof(struct vring_packed_desc_event);

	area[0].len = 16 * n;
	area[1].len = v->packed ? event : 6 + 2 * n;
	area[2].len = v->packed ? event : 6 + 8 * n;
	area[0].at = find_area(
		dev, q, q->addr.desc, area[0].len, v->packed ? VIRTQ_PERM_BOTH : VIRTQ_PERM_READ);
	area[1].at = find_area(dev, q, q->addr.avail, area[1].len, VIRTQ_PERM_READ);
	area[2].at = find_area(dev, q, q->addr.used, area[2].len, VIRTQ_PERM_BOTH);
	v->desc = (void *)area[0].at;
	v->avail = (void *)area[1].at;
	v->used = (void *)area[2].at;
	return v->desc && v->avail && v->used && (uintptr_t)v->desc % 16 == 0 &&
	       (uintptr_t)v->avail % (v->packed ? 4 : 2) == 0 && (uintptr_t)v->used % 4 == 0;
}

/* NUM and BASE were not judged by what other messages said later. */
static bool position_is_possible(const struct vu_queue *q, const struct virtq_view *v)
{
	if (v->packed)
		return (q->base & 0x7fff) < q->num && (q->base >> 16 & 0x7fff) < q->num;
	return (q->num & (q->num - 1)) == 0 && q->base <= UINT16_MAX;
}

/* Fill in what is true of the ring. False: it cannot run. */
static bool describe(struct vu_device *dev, unsigned ring, struct virtq_view *v)
{
	struct vu_queue *q = &dev->queue[ring];
	struct vu_range area[3];
	bool known = q->started && q->num && q->have_addr && dev->features_set && dev->mem;

	memset(v, 0, sizeof(*v));
	q->bad_addr = q->bad_position = q->waits = false;
	if (!known || q->fault || q->stuck[0] || dev->frozen || vu_memory_gone(dev))
		return false;
	v->packed = vu_has_feature(dev, VIRTIO_F_RING_PACKED);
	v->num = q->num;
	q->bad_position = !position_is_possible(q, v);
	if (q->bad_position)
		return false;
	if (!find_areas(dev, q, v, area)) {
		q->bad_addr = !q->waits;
		return false;
	}
	if (!vu_postcopy_has(dev, q, area))
		return false;
	v->features = dev->features;
	v->hdr_len = dev->features & LONG_HEADER ? sizeof(struct virtio_net_hdr_v1)
						 : sizeof(struct virtio_net_hdr);
	v->event_idx = dev->features & (1ull << VIRTIO_RING_F_EVENT_IDX);
	v->indirect = dev->features & (1ull << VIRTIO_RING_F_INDIRECT_DESC);
	v->call_fd = q->call_fd;
	v->patient = true;
	v->kicks = q->kick_fd >= 0;
	v->mem = dev->mem;
	v->log = vu_has_feature(dev, VU_F_LOG_ALL) ? dev->log : NULL;
	v->log_ring = q->addr.flags & VU_RING_F_LOG;
	v->log_used = q->addr.log;
	v->inflight = dev->inflight;
	v->inflight_ring = virtq_inflight_ring(dev->inflight, ring, q->num, v->packed);
	vu_state_describe(dev, ring, v);
	if (vu_iommu_used(dev))
		vu_iommu_describe(dev, ring, v);
	dev->ops->prepare(dev->arg, ring, v);
	vu_state_spare(dev, ring, v);
	if (v->lender)
		q->lender = v->lender;
	return true;
}

/*
 * An lcore has not come out, and its ring stays closed until it does. It is in with the old
 * view or, if it was slow to look, with the newer one: both must outlive that.
 */
static int keep_until_left(
	struct vu_device *dev, struct vu_queue *q, struct virtq_view *old, uint32_t ticket)
{
	struct virtq_view *newer = virtq_gate_swap(&q->vq->gate, NULL, &q->stuck_ticket);

	vu_log(dev, VU_LOG_ERROR, "an lcore has not left a ring within %d ms: is it stopped?",
		VIRTQ_GATE_WAIT_MS);
	if (q->stuck_ticket == ticket || !newer) {
		q->stuck[0] = old;
		q->stuck[1] = newer;
	} else { /* it came out this very moment, and may be in again with the newer one */
		virtq_view_free(old);
		q->stuck[0] = newer;
		q->stuck[1] = NULL;
	}
	q->stuck_owns_call[0] = q->stuck_owns_call[1] = false;
	return -ETIMEDOUT;
}

static void free_stuck(struct vu_device *dev, struct vu_queue *q)
{
	vu_lend_drain(dev, q, q->stuck[0]);
	for (unsigned i = 0; i < 2; i++) {
		if (q->stuck[i] && q->stuck_owns_call[i])
			vu_close_fd(&q->stuck[i]->call_fd);
		virtq_view_free(q->stuck[i]);
		q->stuck[i] = NULL;
	}
}

/* Free what no lcore uses any more. Rings that waited for that go on. */
void vu_reap_stuck(struct vu_device *dev)
{
	bool reaped = false;

	for (unsigned i = 0; i < dev->nrings; i++) {
		struct vu_queue *q = &dev->queue[i];

		if (!q->stuck[0] || virtq_gate_wait(&q->vq->gate, q->stuck_ticket, 0) != 0)
			continue;
		free_stuck(dev, q);
		reaped = true;
	}
	if (reaped)
		vu_reconcile(dev);
}

bool vu_any_stuck(const struct vu_device *dev)
{
	for (unsigned i = 0; dev->queue && i < dev->nrings; i++)
		if (dev->queue[i].stuck[0])
			return true;
	return false;
}

/* A stuck lcore may still write to it, so its number must not become another file's. */
void vu_close_call_fd(struct vu_queue *q, int *fd)
{
	for (unsigned i = 0; i < 2 && *fd >= 0; i++) {
		if (q->stuck[i] && q->stuck[i]->call_fd == *fd) {
			q->stuck_owns_call[i] = true;
			*fd = -1;
		}
	}
	vu_close_fd(fd);
}

/*
 * The front-end shares the eventfd and can make it blocking and full behind our back; the
 * lcore that calls then sleeps in write(). Emptying it wakes the lcore. True if that is
 * what happened: nobody else fills a counter of 64 bits.
 */
bool vu_wake_caller(const struct virtq_view *v)
{
	uint64_t count;

	if (v->call_fd < 0 || fcntl(v->call_fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
		return false;
	count = virtq_signal_take(v->call_fd);
	if (count >= UINT64_MAX / 2)
		return true;
	/* Only a slow lcore; the guest must not lose its call. */
	if (count)
		virtq_signal(v->call_fd);
	return false;
}

/* Long enough that only a preempted or blocked lcore is still inside. */
#define PATIENCE_MS 20

/* Wait until an lcore cannot be in with the old view any more, and free it. */
static int let_go(
	struct vu_device *dev, struct vu_queue *q, struct virtq_view *old, uint32_t ticket)
{
	const struct virtq_gate *gate = &q->vq->gate;

	if (virtq_gate_wait(gate, ticket, PATIENCE_MS) != 0) {
		vu_wake_caller(old);
		if (virtq_gate_wait(gate, ticket, VIRTQ_GATE_WAIT_MS - PATIENCE_MS) != 0)
			return keep_until_left(dev, q, old, ticket);
	}
	if (!virtq_gate_view(gate))
		vu_lend_drain(dev, q, old);
	virtq_view_free(old);
	return 0;
}

static int publish(struct vu_device *dev, struct vu_queue *q, struct virtq_view *view)
{
	uint32_t ticket;
	struct virtq_view *old = virtq_gate_swap(&q->vq->gate, view, &ticket);

	/* Without one, who is inside found the gate closed and touches nothing. */
	return old ? let_go(dev, q, old, ticket) : 0;
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

/* Without memory for a view the ring stays closed; the tick tries again. */
static int no_memory(struct vu_device *dev)
{
	vu_log(dev, VU_LOG_ERROR, "out of memory: a ring stays closed for now");
	dev->try_again = true;
	vu_tick_start(dev);
	return -ENOMEM;
}

static int open_gate(struct vu_device *dev, struct vu_queue *q, const struct virtq_view *v)
{
	struct virtq_view *now = virtq_gate_view(&q->vq->gate);
	struct virtq_view *view;
	int err;

	if (now && memcmp(now, v, sizeof(*v)) == 0)
		return 0;
	view = virtq_view_new(v);
	if (!view) {
		err = close_gate(dev, q, VIRTQ_DROP_TX_STOPPED);
		return err ? err : no_memory(dev);
	}
	drain_stop(q);
	q->replaced = virtq_gate_put(&q->vq->gate, view);
	return 0;
}

/* What open_gate() replaced goes, one fence for all. */
static int free_replaced(struct vu_device *dev, unsigned from, unsigned to)
{
	bool fenced = false;
	int first = 0;

	for (unsigned i = from; i < to; i++) {
		struct vu_queue *q = &dev->queue[i];
		struct virtq_view *old = q->replaced;
		int err;

		if (!old)
			continue;
		if (!fenced)
			virtq_gate_fence();
		fenced = true;
		q->replaced = NULL;
		err = let_go(dev, q, old, virtq_gate_ticket(&q->vq->gate));
		if (err && dev->ops->ring_changed)
			dev->ops->ring_changed(dev->arg, i, false);
		first = first ? first : err;
	}
	return first;
}

/* Started and disabled: a transmit ring is consumed and discarded ("Ring states"). */
static int disable(struct vu_device *dev, unsigned ring, const struct virtq_view *v)
{
	struct vu_queue *q = &dev->queue[ring];
	int err = close_gate(dev, q, VIRTQ_DROP_TX_DISABLED);

	if (err)
		return err;
	drain_stop(q);
	if (!(ring & 1))
		return 0;
	q->drain = virtq_view_new(v);
	if (!q->drain)
		return no_memory(dev);
	vu_tick_start(dev);
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

	if (err || q->stuck[0])
		return err;
	drain_stop(q);
	if (!q->started)
		q->fetching = q->fetched = false;
	if (!q->started && q->positioned) {
		q->base = virtq_position(q->vq, vu_has_feature(dev, VIRTIO_F_RING_PACKED));
		q->positioned = false;
		q->fault = VIRTQ_FAULT_NONE;
	}
	return 0;
}

static void update_link(struct vu_device *dev)
{
	bool up = false;

	for (unsigned i = 0; i < dev->nrings && !up; i++) {
		const struct vu_queue *q = &dev->queue[i];

		/* An invalidation of the IOMMU's is no reason to take the link away. */
		up = virtq_gate_view(&q->vq->gate) || (q->waits && q->positioned);
	}
	if (up == dev->link)
		return;
	dev->link = up;
	if (up)
		dev->refused = VU_TROUBLE_NONE;
	vu_log(dev, VU_LOG_INFO, "link is %s", up ? "up" : "down");
	if (dev->ops->link_changed)
		dev->ops->link_changed(dev->arg, up);
}

static void position(struct vu_device *dev, unsigned ring, struct virtq_view *v)
{
	struct vu_queue *q = &dev->queue[ring];

	if (q->positioned)
		return;
	vu_state_position(dev, ring, v);
	virtq_start(q->vq, v, q->base);
	q->start = virtq_position(q->vq, v->packed);
	q->positioned = true;
	vu_state_spare(dev, ring, v);
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
		position(dev, ring, &v);
		v.patient = !(v.burst && vu_queue_enabled(dev, ring));
		err = v.patient ? disable(dev, ring, &v) : open_gate(dev, q, &v);
	}
	vu_iommu_look_again(dev, ring);
	usable = virtq_gate_view(&q->vq->gate) != NULL;
	if (usable != was_usable && dev->ops->ring_changed)
		dev->ops->ring_changed(dev->arg, ring, usable);
	return err;
}

/* What follows for the device as a whole. */
static void settle(struct vu_device *dev)
{
	if (!dev->frozen) /* the guest notices nothing */
		update_link(dev);
	if (!vu_any_started(dev))
		vu_backend_suspend(dev);
}

int vu_reconcile_ring(struct vu_device *dev, unsigned ring)
{
	int err, late;

	vu_iommu_sync(dev);
	err = reconcile(dev, ring);
	late = free_replaced(dev, ring, ring + 1);

	settle(dev);
	return err ? err : late;
}

int vu_reconcile(struct vu_device *dev)
{
	int first = 0, late;

	vu_iommu_sync(dev);
	for (unsigned i = 0; i < dev->nrings; i++) {
		int err = reconcile(dev, i);

		first = first ? first : err;
	}
	late = free_replaced(dev, 0, dev->nrings);
	settle(dev);
	return first ? first : late;
}

/* ---- rings that are done for ---- */

static void fault_ring(struct vu_device *dev, unsigned ring, enum virtq_fault fault)
{
	struct vu_queue *q = &dev->queue[ring];

	q->fault = fault;
	if (q->err_fd >= 0 && virtq_signal(q->err_fd) < 0)
		vu_log(dev, VU_LOG_DEBUG, "ring %u: the error eventfd is none", ring);
}

/* Close a ring for a fault of its driver's, and say so. */
void vu_park(struct vu_device *dev, unsigned ring, enum virtq_fault fault)
{
	snprintf(dev->last_error, sizeof(dev->last_error), "ring %u is parked: %s", ring,
		virtq_fault_text(fault));
	vu_log(dev, VU_LOG_WARNING, "%s", dev->last_error);
	fault_ring(dev, ring, fault);
	vu_reconcile_ring(dev, ring);
}

/* Close all rings that are at work. False: there was none. */
bool vu_park_all(struct vu_device *dev, enum virtq_fault fault)
{
	bool any = false;

	for (unsigned i = 0; i < dev->nrings; i++) {
		if (!dev->queue[i].positioned || dev->queue[i].fault)
			continue;
		fault_ring(dev, i, fault);
		any = true;
	}
	if (any)
		vu_reconcile(dev);
	return any;
}

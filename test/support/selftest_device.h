/* SPDX-License-Identifier: BSD-3-Clause */
/* The smallest split-ring device that can be trusted by reading it: the driver is tested against it. */
#ifndef SELFTEST_DEVICE_H
#define SELFTEST_DEVICE_H

#include <string.h>

#include "ts_ring.h"

struct dev {
	struct ts_ring *r;
	uint16_t avail, used, called;
};

struct dev_chain {
	uint16_t head;
	unsigned n_out, n_in;
	struct ts_seg out[64], in[64];
};

static inline struct dev dev_of(struct ts_ring *r)
{
	return (struct dev){r, r->used->idx, r->used->idx, r->used->idx};
}

static inline void dev_walk(struct dev *d, uint64_t table, unsigned i, struct dev_chain *c)
{
	struct vring_desc x;

	do {
		if (ts_guest_read(d->r->guest, table + 16ull * i, &x, sizeof(x)))
			return;
		if (x.flags & VRING_DESC_F_INDIRECT)
			dev_walk(d, x.addr, 0, c);
		else if (x.flags & VRING_DESC_F_WRITE)
			c->in[c->n_in++] = (struct ts_seg){x.addr, x.len};
		else
			c->out[c->n_out++] = (struct ts_seg){x.addr, x.len};
		i = x.next;
	} while (x.flags & VRING_DESC_F_NEXT);
}

static inline bool dev_empty(const struct dev *d)
{
	return d->avail == __atomic_load_n(&d->r->avail->idx, __ATOMIC_ACQUIRE);
}

static inline bool dev_pop(struct dev *d, struct dev_chain *c)
{
	if (dev_empty(d))
		return false;
	c->head = d->r->avail->ring[d->avail++ & (d->r->size - 1)];
	c->n_out = c->n_in = 0;
	dev_walk(d, d->r->desc_gpa, c->head, c);
	return true;
}

static inline void dev_push(struct dev *d, uint32_t id, uint32_t len)
{
	d->r->used->ring[d->used++ & (d->r->size - 1)] = (struct vring_used_elem){id, len};
}

/* Show what was pushed; true if the driver wants a call for it. */
static inline bool dev_flush(struct dev *d)
{
	const uint16_t old = d->called;

	__atomic_store_n(&d->r->used->idx, d->used, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	d->called = d->used;
	if (ts_ring_has(d->r, VIRTIO_RING_F_EVENT_IDX))
		return vring_need_event(
			__atomic_load_n(&d->r->avail->ring[d->r->size], __ATOMIC_RELAXED), d->used,
			old);
	return d->used != old && !(__atomic_load_n(&d->r->avail->flags, __ATOMIC_RELAXED) &
					 VRING_AVAIL_F_NO_INTERRUPT);
}

/* Kick me when you publish position `at` (EVENT_IDX), or always/never (flags). */
static inline void dev_want_kick(struct dev *d, uint16_t at, bool on)
{
	if (ts_ring_has(d->r, VIRTIO_RING_F_EVENT_IDX))
		__atomic_store_n((uint16_t *)&d->r->used->ring[d->r->size], at, __ATOMIC_RELAXED);
	else
		__atomic_store_n(
			&d->r->used->flags, on ? 0 : VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Write `len` bytes of `data` over the writable segments: how many fitted. */
static inline uint32_t dev_write(
	struct dev *d, const struct dev_chain *c, const void *data, uint32_t len)
{
	uint32_t done = 0;

	for (unsigned i = 0; i < c->n_in && done < len; i++) {
		uint32_t n = c->in[i].len < len - done ? c->in[i].len : len - done;

		ts_guest_write(d->r->guest, c->in[i].gpa, (const uint8_t *)data + done, n);
		done += n;
	}
	return done;
}

/* Read all readable segments: how many bytes. */
static inline uint32_t dev_read(struct dev *d, const struct dev_chain *c, void *to)
{
	uint32_t done = 0;

	for (unsigned i = 0; i < c->n_out; i++) {
		ts_guest_read(d->r->guest, c->out[i].gpa, (uint8_t *)to + done, c->out[i].len);
		done += c->out[i].len;
	}
	return done;
}

#endif

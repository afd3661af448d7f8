/* SPDX-License-Identifier: BSD-3-Clause */
/* The smallest devices that can be trusted by reading them, and cases that run over both formats. */
#ifndef SELFTEST_DEVICE_H
#define SELFTEST_DEVICE_H

#include <string.h>

#include "ts_ring.h"
#include "ts_tap.h"

#define V1     TS_BIT(VIRTIO_F_VERSION_1)
#define PACKED TS_BIT(VIRTIO_F_RING_PACKED)

/* A case's initial state: the features that select the format. */
static uint64_t format_split = V1, format_packed = V1 | PACKED;

#define CASE(fn, format) \
	((struct CMUnitTest){#fn "[" #format "]", fn, NULL, NULL, &format_##format})
#define CASE_SPLIT(fn)  CASE(fn, split)
#define CASE_PACKED(fn) CASE(fn, packed)
#define CASE_BOTH(fn)   CASE_SPLIT(fn), CASE_PACKED(fn)

struct dev_chain {
	uint16_t head; /* packed: the buffer id */
	unsigned n_out, n_in;
	struct ts_seg out[64], in[64];
};

/* Split: wrap is not used. Packed: an index and the wrap counter there. */
struct dev_pos {
	uint16_t at;
	bool wrap;
};

struct dev {
	struct ts_ring *r;
	struct dev_pos avail, used, called;
	/* packed */
	uint16_t n_desc[32768]; /* by buffer id: how many descriptors to skip */
	struct dev_used {
		struct dev_pos pos;
		struct vring_packed_desc d;
	} pushed[1024]; /* not yet shown */
	unsigned n_pushed;
};

static inline bool dev_packed(const struct dev *d)
{
	return d->r->pdesc;
}

static inline void dev_advance(const struct dev *d, struct dev_pos *pos, unsigned n)
{
	if (!dev_packed(d)) {
		pos->at = (uint16_t)(pos->at + n);
		return;
	}
	for (; n > 0; n--) {
		if (++pos->at == d->r->size) {
			pos->at = 0;
			pos->wrap = !pos->wrap;
		}
	}
}

/* A device that knows where the driver is. */
static inline void dev_init(struct dev *d, struct ts_ring *r)
{
	const uint32_t base = ts_ring_used_pos(r);

	memset(d, 0, sizeof(*d));
	d->r = r;
	d->avail.at = dev_packed(d) ? base & 0x7fff : (uint16_t)base;
	d->avail.wrap = dev_packed(d) && (base & 0x8000);
	d->used = d->called = d->avail;
}

static inline uint16_t dev_off_wrap(struct dev_pos pos)
{
	return (uint16_t)(pos.at | (pos.wrap ? 1u << 15 : 0));
}

/* ---- taking ---- */

static inline bool dev_empty(const struct dev *d)
{
	if (!dev_packed(d))
		return d->avail.at == __atomic_load_n(&d->r->avail->idx, __ATOMIC_ACQUIRE);
	return (__atomic_load_n(&d->r->pdesc[d->avail.at].flags, __ATOMIC_ACQUIRE) &
		       TS_PACKED_BITS) != ts_packed_avail_bits(d->avail.wrap);
}

static inline void dev_append(struct dev_chain *c, uint16_t flags, uint64_t gpa, uint32_t len)
{
	if (flags & VRING_DESC_F_WRITE)
		c->in[c->n_in++] = (struct ts_seg){gpa, len};
	else
		c->out[c->n_out++] = (struct ts_seg){gpa, len};
}

static inline void dev_walk(struct dev *d, uint64_t table, unsigned i, struct dev_chain *c)
{
	struct vring_desc x;

	do {
		if (ts_guest_read(d->r->guest, table + 16ull * i, &x, sizeof(x)))
			return;
		if (x.flags & VRING_DESC_F_INDIRECT)
			dev_walk(d, x.addr, 0, c);
		else
			dev_append(c, x.flags, x.addr, x.len);
		i = x.next;
	} while (x.flags & VRING_DESC_F_NEXT);
}

static inline void dev_table(struct dev *d, uint64_t table, uint32_t len, struct dev_chain *c)
{
	struct vring_packed_desc x;

	for (uint32_t i = 0; i < len / sizeof(x); i++)
		if (ts_guest_read(d->r->guest, table + 16ull * i, &x, sizeof(x)) == 0)
			dev_append(c, x.flags, x.addr, x.len);
}

static inline void dev_pop_packed(struct dev *d, struct dev_chain *c)
{
	uint16_t n = 0, flags;

	do {
		const struct vring_packed_desc *x = &d->r->pdesc[d->avail.at];

		flags = x->flags;
		if (flags & VRING_DESC_F_INDIRECT)
			dev_table(d, x->addr, x->len, c);
		else
			dev_append(c, flags, x->addr, x->len);
		c->head = x->id;
		n++;
		dev_advance(d, &d->avail, 1);
	} while (flags & VRING_DESC_F_NEXT);
	d->n_desc[c->head] = n;
}

static inline bool dev_pop(struct dev *d, struct dev_chain *c)
{
	if (dev_empty(d))
		return false;
	c->n_out = c->n_in = 0;
	if (dev_packed(d)) {
		dev_pop_packed(d, c);
		return true;
	}
	c->head = d->r->avail->ring[d->avail.at & (d->r->size - 1)];
	dev_advance(d, &d->avail, 1);
	dev_walk(d, d->r->desc_gpa, c->head, c);
	return true;
}

/* ---- giving back ---- */

/* A chain is done, but nothing will say so: a later one in its IN_ORDER batch does. */
static inline void dev_skip(struct dev *d, uint32_t id)
{
	const unsigned n = dev_packed(d) && id < d->r->size ? d->n_desc[id] : 0;

	dev_advance(d, &d->used, n ? n : 1);
}

static inline void dev_push(struct dev *d, uint32_t id, uint32_t len)
{
	if (dev_packed(d)) {
		struct vring_packed_desc x = {.len = len, .id = (uint16_t)id};

		x.flags = ts_packed_used_bits(d->used.wrap) | (len ? VRING_DESC_F_WRITE : 0);
		d->pushed[d->n_pushed++] = (struct dev_used){d->used, x};
	} else {
		d->r->used->ring[d->used.at & (d->r->size - 1)] = (struct vring_used_elem){id, len};
	}
	dev_skip(d, id);
}

/* The last first, so that the driver sees all or nothing. */
static inline void dev_show_packed(struct dev *d)
{
	while (d->n_pushed > 0) {
		const struct dev_used *u = &d->pushed[--d->n_pushed];
		struct vring_packed_desc *to = &d->r->pdesc[u->pos.at];

		__atomic_store_n((uint64_t *)to + 1,
			u->d.len | (uint64_t)u->d.id << 32 | (uint64_t)u->d.flags << 48,
			__ATOMIC_RELEASE);
	}
}

static inline bool dev_wants_call_packed(const struct dev *d, struct dev_pos old)
{
	const struct vring_packed_desc_event *e = d->r->driver;
	const uint16_t flags = __atomic_load_n(&e->flags, __ATOMIC_ACQUIRE);
	const uint16_t off_wrap = __atomic_load_n(&e->off_wrap, __ATOMIC_RELAXED);

	if (flags != VRING_PACKED_EVENT_FLAG_DESC)
		return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
	for (; dev_off_wrap(old) != dev_off_wrap(d->used); dev_advance(d, &old, 1))
		if (dev_off_wrap(old) == off_wrap)
			return true;
	return false;
}

/* Show what was pushed; true if the driver wants a call for it. */
static inline bool dev_flush(struct dev *d)
{
	const struct dev_pos old = d->called;
	const uint16_t *event;

	if (dev_packed(d))
		dev_show_packed(d);
	else
		__atomic_store_n(&d->r->used->idx, d->used.at, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	d->called = d->used;
	if (dev_off_wrap(d->used) == dev_off_wrap(old))
		return false;
	if (dev_packed(d))
		return dev_wants_call_packed(d, old);
	event = &d->r->avail->ring[d->r->size];
	if (ts_ring_has(d->r, VIRTIO_RING_F_EVENT_IDX))
		return vring_need_event(
			__atomic_load_n(event, __ATOMIC_RELAXED), d->used.at, old.at);
	return !(__atomic_load_n(&d->r->avail->flags, __ATOMIC_RELAXED) &
		 VRING_AVAIL_F_NO_INTERRUPT);
}

/* ---- kicks ---- */

static inline void dev_want_kick_packed(struct dev *d, uint16_t off_wrap, bool on)
{
	uint16_t flags = on ? VRING_PACKED_EVENT_FLAG_ENABLE : VRING_PACKED_EVENT_FLAG_DISABLE;

	if (ts_ring_has(d->r, VIRTIO_RING_F_EVENT_IDX))
		flags = VRING_PACKED_EVENT_FLAG_DESC;
	__atomic_store_n(&d->r->device->off_wrap, off_wrap, __ATOMIC_RELAXED);
	__atomic_store_n(&d->r->device->flags, flags, __ATOMIC_RELEASE);
}

/* Kick me when you publish position `at` (EVENT_IDX; packed: off_wrap), or always or never. */
static inline void dev_want_kick(struct dev *d, uint16_t at, bool on)
{
	if (dev_packed(d))
		dev_want_kick_packed(d, at, on);
	else if (ts_ring_has(d->r, VIRTIO_RING_F_EVENT_IDX))
		__atomic_store_n((uint16_t *)&d->r->used->ring[d->r->size], at, __ATOMIC_RELAXED);
	else
		__atomic_store_n(
			&d->r->used->flags, on ? 0 : VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* ---- data ---- */

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

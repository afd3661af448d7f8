/* SPDX-License-Identifier: BSD-3-Clause */
/* The packed driver's half that looks at what the device did; see ts_ring_packed.c. */
#include <string.h>

#include "ts_ring_packed.h"

static struct packed *packed_of(struct ts_ring *r)
{
	return (struct packed *)r;
}

static const struct packed *cpacked_of(const struct ts_ring *r)
{
	return (const struct packed *)r;
}

/* ---- how far the device is ---- */

/* One look: what is judged is what is used. */
static struct vring_packed_desc look(const struct packed *p, uint64_t at)
{
	struct vring_packed_desc *d = &p->r.pdesc[ts_packed_index(p, at)];
	uint64_t rest = __atomic_load_n(ts_packed_rest(d), __ATOMIC_ACQUIRE);

	return (struct vring_packed_desc){
		.len = (uint32_t)rest, .id = (uint16_t)(rest >> 32), .flags = rest >> 48};
}

/* What the entry at a place that the device may write next says. */
enum state {
	NOTHING,
	USED,
	WRONG
};

static enum state state_of(const struct packed *p, uint64_t at, uint16_t flags)
{
	if ((flags & TS_PACKED_BITS) == ts_packed_used_bits(ts_packed_wrap(p, at)))
		return USED;
	return at < p->avail_pub && flags != p->shadow[ts_packed_index(p, at)].flags ? WRONG
										     : NOTHING;
}

static bool is_out(const struct packed *p, uint32_t id)
{
	return id < p->r.size && p->buffers[id].token && p->buffers[id].chain < p->chain_pub;
}

/* Where the device goes on after a used descriptor at `at` with this id; `at` if it cannot be. */
static uint64_t after(const struct packed *p, uint64_t at, uint32_t id)
{
	const struct buffer *b = &p->buffers[id];

	if (!is_out(p, id))
		return at;
	if (ts_ring_has(&p->r, VIRTIO_F_IN_ORDER))
		return b->end > at ? b->end : at;
	return b->n_desc <= p->avail_pub - at ? at + b->n_desc : at;
}

/* How far the device has come; it may be working on. */
static uint64_t used_now(const struct packed *p)
{
	uint64_t at = p->seen;

	while (at < p->avail_pub) {
		const struct vring_packed_desc d = look(p, at);
		const uint64_t next = after(p, at, d.id);

		if (state_of(p, at, d.flags) != USED || next == at)
			break;
		at = next;
	}
	return at;
}

/* ---- calls ---- */

static void ask(struct packed *p, uint16_t flags, uint64_t event)
{
	p->event = event;
	if (flags == VRING_PACKED_EVENT_FLAG_DESC) {
		p->wish.off_wrap = ts_packed_half(p, event);
		__atomic_store_n(&p->r.driver->off_wrap, p->wish.off_wrap, __ATOMIC_RELAXED);
	}
	p->wish.flags = flags;
	__atomic_store_n(&p->r.driver->flags, flags, __ATOMIC_RELEASE);
	/* The device must see the wish before we decide that nothing was used yet. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	p->armed_at = p->seen = used_now(p);
}

bool ts_packed_enable_cb(struct ts_ring *r, bool delayed)
{
	const bool idx = ts_ring_has(r, VIRTIO_RING_F_EVENT_IDX);
	struct packed *p = packed_of(r);
	uint64_t ahead = 0;

	if (delayed && idx)
		ahead = (p->avail_pub - p->last_used) * 3 / 4;
	p->cb_on = true;
	ask(p, idx ? VRING_PACKED_EVENT_FLAG_DESC : VRING_PACKED_EVENT_FLAG_ENABLE,
		p->last_used + ahead);
	return p->armed_at - p->last_used <= ahead;
}

void ts_packed_disable_cb(struct ts_ring *r)
{
	struct packed *p = packed_of(r);

	p->cb_on = false;
	ask(p, VRING_PACKED_EVENT_FLAG_DISABLE, p->last_used);
}

bool ts_packed_call_due(const struct ts_ring *r)
{
	const struct packed *p = cpacked_of(r);
	const uint64_t now = used_now(p);

	if (p->wish.flags == VRING_PACKED_EVENT_FLAG_DESC)
		return p->cb_on && ts_packed_passed(p, p->event, p->armed_at, now);
	return p->cb_on && now != p->armed_at;
}

/* ---- getting back ---- */

bool ts_packed_more_used(const struct ts_ring *r)
{
	const struct packed *p = cpacked_of(r);

	return !r->broken &&
	       (p->batch >= 0 || state_of(p, p->last_used, look(p, p->last_used).flags) != NOTHING);
}

static void check_untouched(struct packed *p, uint64_t from, uint64_t to)
{
	for (uint64_t at = from; at < to; at++) {
		const uint32_t i = ts_packed_index(p, at);

		if (memcmp(&p->shadow[i], &p->r.pdesc[i], sizeof(p->shadow[i])))
			ts_fault(&p->r.faults, "descriptor %u was changed while the device had it",
				i);
	}
}

static void check_wish(struct packed *p)
{
	if (memcmp(&p->wish, p->r.driver, sizeof(p->wish)) == 0)
		return;
	ts_fault(&p->r.faults, "the driver event area was changed to %#x, flags %#x",
		p->r.driver->off_wrap, p->r.driver->flags);
	*p->r.driver = p->wish;
}

static void *release(struct packed *p, uint16_t id)
{
	struct buffer *b = &p->buffers[id];
	void *token = b->token;

	p->free_ids[p->n_ids++] = id;
	p->r.n_free += b->n_desc;
	p->r.n_out--;
	b->token = NULL;
	return token;
}

static void *complete(struct packed *p, uint16_t id, uint32_t len, uint32_t *len_out)
{
	const struct buffer *b = &p->buffers[id];

	if (len > b->writable) {
		ts_fault(&p->r.faults, "used length %u of id %u is more than the %u writable bytes",
			len, id, b->writable);
		len = b->writable;
	}
	if (len_out)
		*len_out = len;
	p->last_used += b->n_desc;
	return release(p, id);
}

static void *give_up(struct packed *p)
{
	p->r.broken = true;
	return NULL;
}

/* The next chain of an IN_ORDER batch; those before its last one count as filled entirely. */
static void *next_of_batch(struct packed *p, uint32_t *len)
{
	const uint16_t id = p->order[p->chain_done++ % p->r.size];
	uint32_t n = p->buffers[id].writable;

	if (id == p->batch) {
		n = p->batch_len;
		p->batch = -1;
	}
	return complete(p, id, n, len);
}

/* What the device wrote: its length, if that counts. */
static uint32_t used_len(struct packed *p, const struct vring_packed_desc *d)
{
	if (d->flags & (uint16_t) ~(TS_PACKED_BITS | VRING_DESC_F_WRITE))
		ts_fault(&p->r.faults, "used descriptor of id %u has flags %#x", d->id, d->flags);
	if (d->flags & VRING_DESC_F_WRITE) {
		if (!d->len && !p->buffers[d->id].writable)
			ts_fault(&p->r.faults, "used id %u has WRITE, but nothing was writable",
				d->id);
		return d->len;
	}
	if (d->len)
		ts_fault(&p->r.faults, "used length %u of id %u does not count without WRITE",
			d->len, d->id);
	return 0;
}

static void *take_used(struct packed *p, struct vring_packed_desc d, uint32_t *len)
{
	const uint64_t next = after(p, p->last_used, d.id);

	if (next == p->last_used) {
		ts_fault(&p->r.faults, "used id %u at descriptor %u is not one the device has",
			d.id, ts_packed_index(p, p->last_used));
		return give_up(p);
	}
	if (p->seen < next)
		p->seen = next;
	check_untouched(p, p->last_used + 1, next);
	if (!ts_ring_has(&p->r, VIRTIO_F_IN_ORDER))
		return complete(p, d.id, used_len(p, &d), len);
	p->batch = d.id;
	p->batch_len = used_len(p, &d);
	return next_of_batch(p, len);
}

static void *get_one(struct packed *p, uint32_t *len)
{
	const uint64_t at = p->last_used;
	struct vring_packed_desc d;

	if (p->r.broken)
		return NULL;
	if (p->batch >= 0)
		return next_of_batch(p, len);
	check_wish(p);
	d = look(p, at);
	switch (state_of(p, at, d.flags)) {
	case NOTHING:
		return NULL;
	case WRONG:
		ts_fault(&p->r.faults, "flags %#x at descriptor %u are neither available nor used",
			d.flags, ts_packed_index(p, at));
		return give_up(p);
	default:
		if (at < p->avail_pub)
			return take_used(p, d, len);
		ts_fault(&p->r.faults, "descriptor %u was used, but the device has none",
			ts_packed_index(p, at));
		return give_up(p);
	}
}

void *ts_packed_get_used(struct ts_ring *r, uint32_t *len)
{
	struct packed *p = packed_of(r);
	void *token = get_one(p, len);

	if (token && p->cb_on)
		ask(p, p->wish.flags, p->last_used);
	return token;
}

/* With the device at rest: used descriptors not yet got, and behind them only what we wrote. */
static void audit(struct packed *p)
{
	uint64_t at = p->last_used;

	while (at < p->avail_pub) {
		const struct vring_packed_desc d = look(p, at);
		const uint64_t next = after(p, at, d.id);

		if (state_of(p, at, d.flags) != USED || next == at)
			break;
		check_untouched(p, at + 1, next);
		at = next;
	}
	check_untouched(p, at, p->avail_pub);
	check_wish(p);
	p->audited = true;
}

void *ts_packed_detach(struct ts_ring *r)
{
	struct packed *p = packed_of(r);

	if (!p->audited && !r->broken && p->batch < 0)
		audit(p);
	for (uint32_t i = 0; i < r->size; i++)
		if (p->buffers[i].token)
			return release(p, (uint16_t)i);
	return NULL;
}

uint32_t ts_packed_avail_pos(const struct ts_ring *r)
{
	const struct packed *p = cpacked_of(r);

	return ts_packed_half(p, p->avail_pub) | (uint32_t)ts_packed_half(p, used_now(p)) << 16;
}

uint32_t ts_packed_used_pos(const struct ts_ring *r)
{
	const struct packed *p = cpacked_of(r);
	const uint32_t half = ts_packed_half(p, used_now(p));

	return half | half << 16;
}

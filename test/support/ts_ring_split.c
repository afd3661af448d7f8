/* SPDX-License-Identifier: BSD-3-Clause */
/* A strict driver of the split virtqueue (VIRTIO 1.2 section 2.7). */

/*
 * Theory of operation
 *
 * Everything the driver needs to know it keeps in private memory: the free descriptors, a shadow of
 * every descriptor it wrote, and per head what was promised to the device. Shared memory is only
 * written, except for the used ring and the event word, and the descriptor table, which is compared
 * with its shadow when a chain comes back: the device owns no right to write there.
 *
 * Positions are free-running 16-bit counters:
 *
 *	last_used <= used->idx <= avail_pub <= avail_next	(modulo 2^16, at most `size` apart)
 *
 * add() moves avail_next, publish() copies it to avail_pub and to avail->idx, kick_prepare()
 * remembers in avail_kicked up to where the device was asked to look. Each chain stays in
 * order[position % size], so the oldest one out is order[last_used % size] as long as the device
 * completes in order, which is what IN_ORDER promises and where it is checked.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ts_ring_impl.h"

struct head {
	void *token; /* NULL: not out */
	uint32_t writable;
	uint32_t n_desc;
	uint16_t pos; /* avail position it was added at */
	bool shown;   /* published */
	struct ts_table table;
};

struct split {
	struct ts_ring r;
	struct vring_desc *shadow;
	struct head *heads;
	uint16_t *free_ids; /* a ring: [free_at, free_at + n_free) */
	uint16_t *order;
	uint32_t free_at;
	uint16_t avail_next, avail_pub, avail_kicked, last_used;
	uint16_t event;    /* what used_event was last set to */
	uint16_t armed_at; /* used->idx just after that: what came before cannot call */
	bool cb_on;
	int batch; /* IN_ORDER: head that ends the batch being handed out, or -1 */
	uint32_t batch_len;
	bool shuffle;
};

static struct split *split_of(struct ts_ring *r)
{
	return (struct split *)r;
}

static const struct split *csplit_of(const struct ts_ring *r)
{
	return (const struct split *)r;
}

static uint16_t *used_event(struct ts_ring *r)
{
	return &r->avail->ring[r->size];
}

static uint16_t avail_event(const struct ts_ring *r)
{
	return __atomic_load_n((const uint16_t *)&r->used->ring[r->size], __ATOMIC_RELAXED);
}

static uint16_t used_idx(const struct ts_ring *r)
{
	return __atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE);
}

static uint32_t mask(const struct split *s)
{
	return s->r.size - 1;
}

/* ---- free descriptors ---- */

static uint16_t take_id(struct split *s)
{
	uint16_t id = s->free_ids[s->free_at & mask(s)];

	s->free_at++;
	s->r.n_free--;
	return id;
}

/* IN_ORDER wants the table used round and round; otherwise the last one freed is reused first. */
static void put_id(struct split *s, uint16_t id)
{
	if (ts_ring_has(&s->r, VIRTIO_F_IN_ORDER))
		s->free_ids[(s->free_at + s->r.n_free) & mask(s)] = id;
	else
		s->free_ids[--s->free_at & mask(s)] = id;
	s->r.n_free++;
}

static void fill_free(struct split *s)
{
	ts_ring_ids(s->free_ids, s->r.size, s->shuffle);
	s->free_at = 0;
	s->r.n_free = s->r.size;
}

/* ---- life ---- */

static int place(struct ts_ring *r)
{
	const uint64_t desc_len = 16ull * r->size, avail_len = 2ull * r->size + 6;
	const uint64_t used_len = 8ull * r->size + 6;

	if (ts_ring_has(r, VIRTIO_F_VERSION_1)) {
		r->desc_gpa = ts_ring_alloc(r, desc_len, VRING_DESC_ALIGN_SIZE);
		r->driver_gpa = ts_ring_alloc(r, avail_len, VRING_AVAIL_ALIGN_SIZE);
		r->device_gpa = ts_ring_alloc(r, used_len, VRING_USED_ALIGN_SIZE);
	} else {
		r->desc_gpa = ts_alloc(r->guest, r->region, vring_size(r->size, 4096), 4096);
		r->driver_gpa = r->desc_gpa + desc_len;
		r->device_gpa = (r->driver_gpa + avail_len + 4095) & ~UINT64_C(4095);
	}
	r->desc = ts_va(r->guest, r->desc_gpa, desc_len);
	r->avail = ts_va(r->guest, r->driver_gpa, avail_len);
	r->used = ts_va(r->guest, r->device_gpa, used_len);
	return r->desc && r->avail && r->used ? 0 : -ENOMEM;
}

static void split_destroy(struct ts_ring *r)
{
	struct split *s = split_of(r);

	free(s->shadow);
	free(s->heads);
	free(s->free_ids);
	free(s->order);
	free(s);
}

static void split_reset(struct ts_ring *r, uint32_t base)
{
	struct split *s = split_of(r);

	memset(r->desc, 0, 16ull * r->size);
	memset(r->avail, 0, 2ull * r->size + 6);
	memset(r->used, 0, 8ull * r->size + 6);
	for (uint32_t i = 0; i < r->size; i++)
		s->heads[i].token = NULL;
	fill_free(s);
	r->n_out = 0;
	r->broken = false;
	s->batch = -1;
	s->avail_next = s->avail_pub = s->avail_kicked = s->last_used = (uint16_t)base;
	s->event = s->armed_at = s->last_used;
	s->cb_on = true;
	r->avail->idx = s->avail_pub;
	r->used->idx = s->last_used;
	if (ts_ring_has(r, VIRTIO_RING_F_EVENT_IDX))
		*used_event(r) = s->event;
}

static int split_create(const struct ts_ring_conf *c, struct ts_ring **out)
{
	struct split *s;
	int rc = -ENOMEM;

	if (!c->size || c->size > TS_RING_MAX || (c->size & (c->size - 1)) || c->base > UINT16_MAX)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return rc;
	s->r = ts_ring_begin(&ts_ring_split_ops, c);
	s->shuffle = (c->flags & TS_RING_SHUFFLE) && !ts_ring_has(&s->r, VIRTIO_F_IN_ORDER);
	s->shadow = calloc(c->size, sizeof(*s->shadow));
	s->heads = calloc(c->size, sizeof(*s->heads));
	s->free_ids = calloc(c->size, sizeof(*s->free_ids));
	s->order = calloc(c->size, sizeof(*s->order));
	if (s->shadow && s->heads && s->free_ids && s->order)
		rc = place(&s->r);
	if (rc) {
		split_destroy(&s->r);
		return rc;
	}
	split_reset(&s->r, c->base);
	*out = &s->r;
	return 0;
}

/* ---- adding ---- */

static struct vring_desc chain_desc(const struct ts_chain *c, unsigned i)
{
	const struct ts_seg *seg = ts_chain_seg(c, i);

	return (struct vring_desc){
		.addr = seg->gpa + c->iova, .len = seg->len, .flags = ts_chain_flags(c, i)};
}

static int write_table(struct split *s, uint64_t table, const struct ts_chain *c, unsigned from)
{
	for (unsigned i = from; i < c->n; i++) {
		struct vring_desc d = chain_desc(c, i);
		int rc;

		if (d.flags & VRING_DESC_F_NEXT)
			d.next = (uint16_t)(i - from + 1);
		rc = ts_guest_write(s->r.guest, table + 16ull * (i - from), &d, sizeof(d));
		if (rc)
			return rc;
	}
	return 0;
}

static void set_desc(struct split *s, uint16_t id, struct vring_desc d)
{
	s->shadow[id] = d;
	s->r.desc[id] = d;
}

/* Descriptors are linked through the shadow: what the device sees is never read back. */
static void link_chain(
	struct split *s, uint16_t head, const struct ts_chain *c, unsigned n_direct, uint64_t table)
{
	uint16_t id = head;

	for (unsigned i = 0; i < n_direct; i++) {
		struct vring_desc d = chain_desc(c, i);

		if (d.flags & VRING_DESC_F_NEXT)
			d.next = take_id(s);
		set_desc(s, id, d);
		id = d.next;
	}
	if (n_direct < c->n)
		set_desc(s, id,
			(struct vring_desc){.addr = table + c->iova,
				.len = 16 * (c->n - n_direct),
				.flags = VRING_DESC_F_INDIRECT});
}

static unsigned count_direct(const struct ts_chain *c, enum ts_mode mode)
{
	switch (mode) {
	case TS_INDIRECT:
		return 0;
	case TS_MIXED:
		return c->n / 2;
	default:
		return c->n;
	}
}

static int split_add(struct ts_ring *r, const struct ts_seg *out, unsigned n_out,
	const struct ts_seg *in, unsigned n_in, void *token, enum ts_mode mode)
{
	const struct ts_chain c = {
		.out = out, .in = in, .n_out = n_out, .n = n_out + n_in, .iova = ts_ring_iova(r)};
	const unsigned n_direct = count_direct(&c, mode);
	const unsigned need = n_direct + (n_direct < c.n);
	struct split *s = split_of(r);
	uint64_t table = 0;
	uint16_t head;

	if (!c.n || c.n > r->size || !token)
		return -EINVAL;
	if (mode != TS_DIRECT && !ts_ring_has(r, VIRTIO_RING_F_INDIRECT_DESC))
		return -ENOTSUP;
	if (need > r->n_free)
		return -ENOSPC;
	head = s->free_ids[s->free_at & mask(s)];
	if (n_direct < c.n) {
		table = ts_ring_table(r, &s->heads[head].table, c.n - n_direct);
		if (table == TS_NOMEM || write_table(s, table, &c, n_direct))
			return -ENOMEM;
	}
	take_id(s);
	link_chain(s, head, &c, n_direct, table);
	s->heads[head].token = token;
	s->heads[head].n_desc = need;
	s->heads[head].pos = s->avail_next;
	s->heads[head].shown = false;
	s->heads[head].writable = ts_chain_writable(&c);
	s->order[s->avail_next & mask(s)] = head;
	r->avail->ring[s->avail_next & mask(s)] = head;
	s->avail_next++;
	r->n_out++;
	return 0;
}

static void split_publish(struct ts_ring *r)
{
	struct split *s = split_of(r);

	while (s->avail_pub != s->avail_next)
		s->heads[s->order[s->avail_pub++ & mask(s)]].shown = true;
	__atomic_store_n(&r->avail->idx, s->avail_pub, __ATOMIC_RELEASE);
}

static bool split_kick_prepare(struct ts_ring *r)
{
	struct split *s = split_of(r);
	uint16_t old = s->avail_kicked;

	split_publish(r);
	s->avail_kicked = s->avail_pub;
	if (old == s->avail_pub)
		return false;
	/* Our index must be visible before we read whether the device sleeps (2.7.13.4.1). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (ts_ring_has(r, VIRTIO_RING_F_EVENT_IDX))
		return vring_need_event(avail_event(r), s->avail_pub, old);
	return !(__atomic_load_n(&r->used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
}

/* ---- calls ---- */

static void ask(struct split *s, uint16_t event, uint16_t flags)
{
	s->event = event;
	if (ts_ring_has(&s->r, VIRTIO_RING_F_EVENT_IDX))
		__atomic_store_n(used_event(&s->r), event, __ATOMIC_RELAXED);
	else
		__atomic_store_n(&s->r.avail->flags, flags, __ATOMIC_RELAXED);
	/* The device must see the wish before we decide that nothing was used yet. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	s->armed_at = used_idx(&s->r);
}

static bool split_enable_cb(struct ts_ring *r, bool delayed)
{
	struct split *s = split_of(r);
	uint16_t ahead = 0;

	if (delayed && ts_ring_has(r, VIRTIO_RING_F_EVENT_IDX))
		ahead = (uint16_t)(r->n_out * 3 / 4);
	s->cb_on = true;
	ask(s, (uint16_t)(s->last_used + ahead), 0);
	return (uint16_t)(s->armed_at - s->last_used) <= ahead;
}

static void split_disable_cb(struct ts_ring *r)
{
	struct split *s = split_of(r);

	s->cb_on = false;
	ask(s, (uint16_t)(s->last_used - 1), VRING_AVAIL_F_NO_INTERRUPT);
}

static bool split_call_due(const struct ts_ring *r)
{
	const struct split *s = csplit_of(r);
	uint16_t now = used_idx(r);

	if (!ts_ring_has(r, VIRTIO_RING_F_EVENT_IDX))
		return s->cb_on && now != s->armed_at;
	return s->cb_on && vring_need_event(s->event, now, s->armed_at);
}

/* ---- getting back ---- */

static bool split_more_used(const struct ts_ring *r)
{
	const struct split *s = csplit_of(r);

	return !r->broken && (s->batch >= 0 || used_idx(r) != s->last_used);
}

static void check_untouched(struct split *s, uint16_t id)
{
	if (memcmp(&s->shadow[id], &s->r.desc[id], sizeof(s->shadow[id])))
		ts_fault(&s->r.faults, "descriptor %u was changed while the device had it", id);
}

static void *release(struct split *s, uint16_t head)
{
	struct head *h = &s->heads[head];
	void *token = h->token;
	uint16_t id = head;

	for (uint32_t i = 0; i < h->n_desc; i++) {
		uint16_t next = s->shadow[id].next;

		check_untouched(s, id);
		put_id(s, id);
		id = next;
	}
	h->token = NULL;
	s->r.n_out--;
	return token;
}

static void *complete(struct split *s, uint16_t head, uint32_t len, uint32_t *len_out)
{
	const struct head *h = &s->heads[head];

	if (len > h->writable) {
		ts_fault(&s->r.faults, "used.len %u of head %u is more than the %u writable bytes",
			len, head, h->writable);
		len = h->writable;
	}
	if (len_out)
		*len_out = len;
	s->last_used++;
	return release(s, head);
}

static bool is_out(const struct split *s, uint32_t id)
{
	return id < s->r.size && s->heads[id].token && s->heads[id].shown;
}

/*
 * One used entry may stand for a batch under IN_ORDER (2.7.9): it names the last chain of it, and
 * everything older is complete too, taken as filled entirely.
 */
static void *get_in_order(
	struct split *s, const struct vring_used_elem *e, uint16_t idx, uint32_t *len)
{
	uint16_t oldest = s->order[s->last_used & mask(s)];
	uint32_t n = s->heads[oldest].writable;

	if (s->batch < 0) {
		uint16_t pos = is_out(s, e->id) ? s->heads[e->id].pos : s->last_used;

		if (!is_out(s, e->id) ||
			(uint16_t)(pos - s->last_used) >= (uint16_t)(idx - s->last_used)) {
			ts_fault(&s->r.faults, "used.id %u breaks the order, head %u is next",
				e->id, oldest);
			s->r.broken = true;
			return NULL;
		}
		s->batch = (int)e->id;
		s->batch_len = e->len;
	}
	if (oldest == s->batch) {
		n = s->batch_len;
		s->batch = -1;
	}
	return complete(s, oldest, n, len);
}

static void *get_any(struct split *s, const struct vring_used_elem *e, uint32_t *len)
{
	if (is_out(s, e->id))
		return complete(s, (uint16_t)e->id, e->len, len);
	ts_fault(&s->r.faults, "used.id %u at position %u is not a head the device has", e->id,
		s->last_used);
	s->last_used++;
	return NULL;
}

static bool jumped(struct split *s, uint16_t idx)
{
	uint16_t done = (uint16_t)(idx - s->last_used);
	uint16_t out = (uint16_t)(s->avail_pub - s->last_used);

	if (done <= out)
		return false;
	ts_fault(&s->r.faults, "used index moved by %u to %u with %u chains out", done, idx, out);
	s->r.broken = true;
	return true;
}

static void *split_get_used(struct ts_ring *r, uint32_t *len)
{
	struct split *s = split_of(r);
	void *token = NULL;

	while (!token && !r->broken) {
		uint16_t idx = used_idx(r);
		struct vring_used_elem e;

		if (idx == s->last_used || jumped(s, idx))
			break;
		e = r->used->ring[s->last_used & mask(s)];
		if (ts_ring_has(r, VIRTIO_F_IN_ORDER))
			token = get_in_order(s, &e, idx, len);
		else
			token = get_any(s, &e, len);
	}
	if (token && s->cb_on)
		ask(s, s->last_used, 0);
	return token;
}

static void *split_detach(struct ts_ring *r)
{
	struct split *s = split_of(r);

	for (uint32_t i = 0; i < r->size; i++)
		if (s->heads[i].token)
			return release(s, (uint16_t)i);
	return NULL;
}

static uint32_t split_avail_pos(const struct ts_ring *r)
{
	return csplit_of(r)->avail_pub;
}

static uint32_t split_used_pos(const struct ts_ring *r)
{
	return used_idx(r);
}

const struct ts_ring_ops ts_ring_split_ops = {
	.name = "split",
	.create = split_create,
	.destroy = split_destroy,
	.reset = split_reset,
	.add = split_add,
	.publish = split_publish,
	.kick_prepare = split_kick_prepare,
	.more_used = split_more_used,
	.get_used = split_get_used,
	.enable_cb = split_enable_cb,
	.disable_cb = split_disable_cb,
	.call_due = split_call_due,
	.detach = split_detach,
	.avail_pos = split_avail_pos,
	.used_pos = split_used_pos,
};

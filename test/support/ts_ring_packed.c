/* SPDX-License-Identifier: BSD-3-Clause */
/* A strict driver of the packed virtqueue (VIRTIO 1.2 section 2.8). */

/*
 * Theory of operation
 *
 * As in ts_ring_split.c the driver keeps in private memory all it must know: a shadow of every
 * descriptor it wrote, and per buffer id what was promised to the device. Of shared memory it reads
 * the descriptor the device may mark used next, and the device's event word; what the device owns
 * no right to write is compared with its shadow when a chain comes back.
 *
 * A place in the ring is a free-running count of descriptors: `at % size` is its index and the
 * wrap counter there is 1 in even rounds, 0 in odd ones. At any time
 *
 *	last_used <= avail_pub <= avail_next	(at most `size` apart)
 *
 * Ring entries in [last_used, avail_pub) belong to the device. It marks a chain used by overwriting
 * the first of the entries it has not yet overwritten or skipped, whichever chain that entry
 * once began, and skips as many as the chain it names had. So a used descriptor whose id makes no
 * sense ends everything: nobody knows where the next one will be.
 *
 * add() writes everything but the flags; publish() writes these from the last descriptor to the
 * first, so that all that was added becomes visible with one store. Only the last descriptor of a
 * chain bears its id, the others bear another one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ts_ring_packed.h"

static struct packed *packed_of(struct ts_ring *r)
{
	return (struct packed *)r;
}

/* ---- life ---- */

static void packed_destroy(struct ts_ring *r)
{
	struct packed *p = packed_of(r);

	free(p->shadow);
	free(p->buffers);
	free(p->free_ids);
	free(p->order);
	free(p);
}

static int place(struct ts_ring *r)
{
	r->desc_gpa = ts_ring_alloc(r, 16ull * r->size, 16);
	r->driver_gpa = ts_ring_alloc(r, sizeof(*r->driver), 4);
	r->device_gpa = ts_ring_alloc(r, sizeof(*r->device), 4);
	r->pdesc = ts_va(r->guest, r->desc_gpa, 16ull * r->size);
	r->driver = ts_va(r->guest, r->driver_gpa, sizeof(*r->driver));
	r->device = ts_va(r->guest, r->device_gpa, sizeof(*r->device));
	return r->pdesc && r->driver && r->device ? 0 : -ENOMEM;
}

static bool is_base(uint32_t size, uint32_t base)
{
	const uint32_t avail = (base & 0x7fff) + (base & 0x8000 ? 0 : size);
	const uint32_t used = (base >> 16 & 0x7fff) + (base >> 31 ? 0 : size);

	return (base & 0x7fff) < size && (base >> 16 & 0x7fff) < size &&
	       (avail + 2 * size - used) % (2 * size) <= size;
}

/* What a ring looks like whose driver and device have come this far. */
static void lay_flags(struct packed *p)
{
	for (uint64_t at = p->last_used; at < p->last_used + p->r.size; at++) {
		const uint32_t i = ts_packed_index(p, at);
		const bool wrap = ts_packed_wrap(p, at);

		p->r.pdesc[i].flags =
			at < p->avail_pub ? ts_packed_avail_bits(wrap) : ts_packed_used_bits(!wrap);
		p->shadow[i] = p->r.pdesc[i];
	}
}

static void packed_reset(struct ts_ring *r, uint32_t base)
{
	struct packed *p = packed_of(r);
	const uint64_t both = 2ull * r->size;

	if (!is_base(r->size, base)) {
		ts_fault(&r->faults, "base %#x is no position in a ring of %u", base, r->size);
		base = ts_base_fresh(r->features);
	}
	memset(r->pdesc, 0, 16ull * r->size);
	memset(r->driver, 0, sizeof(*r->driver));
	memset(r->device, 0, sizeof(*r->device));
	for (uint32_t i = 0; i < r->size; i++)
		p->buffers[i].token = NULL;
	ts_ring_ids(p->free_ids, r->size, p->shuffle);
	p->n_ids = r->size;
	r->n_out = 0;
	r->broken = false;
	p->batch = -1;
	p->last_used = p->seen = p->event = p->armed_at = ts_packed_place(p, base >> 16);
	p->avail_pub = p->last_used + (ts_packed_place(p, base) + both - p->last_used) % both;
	p->avail_next = p->avail_kicked = p->avail_pub;
	p->chain_next = p->chain_pub = p->chain_done = 0;
	r->n_free = r->size - (uint32_t)(p->avail_pub - p->last_used);
	p->wish = *r->driver;
	p->cb_on = true;
	p->audited = false;
	lay_flags(p);
}

static int packed_create(const struct ts_ring_conf *c, struct ts_ring **out)
{
	struct packed *p;
	int rc = -ENOMEM;

	if (!c->size || c->size > TS_RING_MAX || !is_base(c->size, c->base))
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return rc;
	p->r = ts_ring_begin(&ts_ring_packed_ops, c);
	p->shuffle = c->flags & TS_RING_SHUFFLE;
	p->shadow = calloc(c->size, sizeof(*p->shadow));
	p->buffers = calloc(c->size, sizeof(*p->buffers));
	p->free_ids = calloc(c->size, sizeof(*p->free_ids));
	p->order = calloc(c->size, sizeof(*p->order));
	if (p->shadow && p->buffers && p->free_ids && p->order)
		rc = place(&p->r);
	if (rc) {
		packed_destroy(&p->r);
		return rc;
	}
	packed_reset(&p->r, c->base);
	*out = &p->r;
	return 0;
}

/* ---- adding ---- */

static struct vring_packed_desc chain_desc(const struct ts_chain *c, unsigned i)
{
	const struct ts_seg *seg = ts_chain_seg(c, i);

	return (struct vring_packed_desc){
		.addr = seg->gpa + c->iova, .len = seg->len, .flags = ts_chain_flags(c, i)};
}

/* In a table only WRITE means anything: entries follow each other without being chained. */
static int write_table(struct packed *p, uint64_t table, const struct ts_chain *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct vring_packed_desc d = chain_desc(c, i);
		int rc;

		d.flags &= VRING_DESC_F_WRITE;
		rc = ts_guest_write(p->r.guest, table + 16ull * i, &d, sizeof(d));
		if (rc)
			return rc;
	}
	return 0;
}

static void put_desc(struct packed *p, struct vring_packed_desc d)
{
	struct vring_packed_desc *to = &p->r.pdesc[ts_packed_index(p, p->avail_next)];

	/* A device may look already, and believe nothing. */
	__atomic_store_n(&to->addr, d.addr, __ATOMIC_RELAXED);
	__atomic_store_n(&to->len, d.len, __ATOMIC_RELAXED);
	__atomic_store_n(&to->id, d.id, __ATOMIC_RELAXED);
	d.flags |= ts_packed_avail_bits(ts_packed_wrap(p, p->avail_next));
	p->shadow[ts_packed_index(p, p->avail_next++)] = d;
	p->r.n_free--;
}

static void put_chain(struct packed *p, const struct ts_chain *c, uint16_t id)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct vring_packed_desc d = chain_desc(c, i);

		d.id = i + 1 < c->n ? (uint16_t)~id : id;
		put_desc(p, d);
	}
}

static void remember(
	struct packed *p, const struct ts_chain *c, uint16_t id, uint32_t n_desc, void *token)
{
	struct buffer *b = &p->buffers[id];

	b->token = token;
	b->writable = ts_chain_writable(c);
	b->n_desc = n_desc;
	b->end = p->avail_next;
	b->chain = p->chain_next++;
	p->order[b->chain % p->r.size] = id;
	p->r.n_out++;
	p->audited = false;
}

static int packed_add(struct ts_ring *r, const struct ts_seg *out, unsigned n_out,
	const struct ts_seg *in, unsigned n_in, void *token, enum ts_mode mode)
{
	const struct ts_chain c = {
		.out = out, .in = in, .n_out = n_out, .n = n_out + n_in, .iova = ts_ring_iova(r)};
	const uint32_t need = mode == TS_INDIRECT ? 1 : c.n;
	struct packed *p = packed_of(r);
	uint64_t table;
	uint16_t id;

	if (!c.n || c.n > r->size || !token)
		return -EINVAL;
	if (mode == TS_MIXED ||
		(mode == TS_INDIRECT && !ts_ring_has(r, VIRTIO_RING_F_INDIRECT_DESC)))
		return -ENOTSUP;
	if (need > r->n_free)
		return -ENOSPC;
	id = p->free_ids[p->n_ids - 1];
	if (mode == TS_INDIRECT) {
		table = ts_ring_table(r, &p->buffers[id].table, c.n);
		if (table == TS_NOMEM || write_table(p, table, &c))
			return -ENOMEM;
		put_desc(p, (struct vring_packed_desc){
				    .addr = table + c.iova,
				    .len = 16 * c.n,
				    .id = id,
				    .flags = VRING_DESC_F_INDIRECT,
			    });
	} else {
		put_chain(p, &c, id);
	}
	p->n_ids--;
	remember(p, &c, id, need, token);
	return 0;
}

static void packed_publish(struct ts_ring *r)
{
	struct packed *p = packed_of(r);

	for (uint64_t at = p->avail_next; at-- > p->avail_pub;) {
		const uint32_t i = ts_packed_index(p, at);

		/* Changes nothing, but ThreadSanitizer relates only accesses of one size, and a
		 * device may read more than the flags at once. */
		__atomic_fetch_add(ts_packed_rest(&r->pdesc[i]), 0, __ATOMIC_RELEASE);
		__atomic_store_n(&r->pdesc[i].flags, p->shadow[i].flags, __ATOMIC_RELEASE);
	}
	p->avail_pub = p->avail_next;
	p->chain_pub = p->chain_next;
}

/* Does what the device wrote into its area mean anything? */
static bool device_event_ok(struct packed *p, uint16_t flags, uint16_t off_wrap)
{
	if (flags > VRING_PACKED_EVENT_FLAG_DESC)
		ts_fault(&p->r.faults, "device event flags are %#x", flags);
	else if (flags != VRING_PACKED_EVENT_FLAG_DESC)
		return true;
	else if (!ts_ring_has(&p->r, VIRTIO_RING_F_EVENT_IDX))
		ts_fault(&p->r.faults, "device event for one descriptor without EVENT_IDX");
	else if ((off_wrap & 0x7fff) >= p->r.size)
		ts_fault(&p->r.faults, "device event at descriptor %u of %u", off_wrap & 0x7fff,
			p->r.size);
	else
		return true;
	return false;
}

static bool packed_kick_prepare(struct ts_ring *r)
{
	struct packed *p = packed_of(r);
	const uint64_t old = p->avail_kicked;
	uint16_t flags, off_wrap;

	packed_publish(r);
	p->avail_kicked = p->avail_pub;
	if (old == p->avail_pub)
		return false;
	/* Our descriptors must be visible before we read whether the device sleeps. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	flags = __atomic_load_n(&r->device->flags, __ATOMIC_ACQUIRE);
	off_wrap = __atomic_load_n(&r->device->off_wrap, __ATOMIC_RELAXED);
	if (!device_event_ok(p, flags, off_wrap))
		return true;
	if (flags == VRING_PACKED_EVENT_FLAG_DESC)
		return ts_packed_passed(p, ts_packed_place(p, off_wrap), old, p->avail_pub);
	return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
}

const struct ts_ring_ops ts_ring_packed_ops = {
	.name = "packed",
	.create = packed_create,
	.destroy = packed_destroy,
	.reset = packed_reset,
	.add = packed_add,
	.publish = packed_publish,
	.kick_prepare = packed_kick_prepare,
	.more_used = ts_packed_more_used,
	.get_used = ts_packed_get_used,
	.enable_cb = ts_packed_enable_cb,
	.disable_cb = ts_packed_disable_cb,
	.call_due = ts_packed_call_due,
	.detach = ts_packed_detach,
	.avail_pos = ts_packed_avail_pos,
	.used_pos = ts_packed_used_pos,
};

/* SPDX-License-Identifier: BSD-3-Clause */
/* The reference device: both formats from the specification's text. */
#include "ref.h"

#include <string.h>

/* 2.7.5 and 2.8.13: flags of descriptors */
enum {
	F_NEXT = 1,
	F_WRITE = 2,
	F_INDIRECT = 4,
	F_AVAIL = 1 << 7,
	F_USED = 1 << 15
};

/* 2.8.14: flags of an event suppression structure */
enum {
	EVENT_ENABLE,
	EVENT_DISABLE,
	EVENT_DESC
};

/* All fields are little-endian (1.4), and so is every machine this is built for. */
static uint16_t get16(const struct ref_device *d, uint64_t at)
{
	uint16_t v;

	memcpy(&v, d->r.memory + at, 2);
	return v;
}

static uint32_t get32(const struct ref_device *d, uint64_t at)
{
	return get16(d, at) | (uint32_t)get16(d, at + 2) << 16;
}

static uint64_t get64(const struct ref_device *d, uint64_t at)
{
	return get32(d, at) | (uint64_t)get32(d, at + 4) << 32;
}

static void put16(struct ref_device *d, uint64_t at, uint16_t v)
{
	memcpy(d->r.memory + at, &v, 2);
}

static void put32(struct ref_device *d, uint64_t at, uint32_t v)
{
	put16(d, at, (uint16_t)v);
	put16(d, at + 2, (uint16_t)(v >> 16));
}

void ref_start(struct ref_device *d, const struct ref_ring *r, uint32_t used, bool wrap)
{
	*d = (struct ref_device){.r = *r,
		.avail = used,
		.used = used,
		.avail_wrap = wrap,
		.used_wrap = wrap,
		.next_batch = used,
		.next_wrap = wrap};
}

static void add_part(struct ref_chain *c, uint64_t addr, uint32_t len, uint16_t flags)
{
	c->part[c->n++] = (struct ref_part){addr, len, flags & F_WRITE};
}

/* ---- split ---- */

/* 2.7.5 "The Virtqueue Descriptor Table": addr, len, flags, next */
static void split_chain(
	const struct ref_device *d, struct ref_chain *c, uint64_t table, uint16_t first)
{
	for (uint64_t at = table + 16ull * first;;) {
		const uint64_t addr = get64(d, at);
		const uint32_t len = get32(d, at + 8);
		const uint16_t flags = get16(d, at + 12);

		if (flags & F_INDIRECT) { /* 2.7.5.3: the first of a table is its entry 0 */
			split_chain(d, c, addr, 0);
			return;
		}
		add_part(c, addr, len, flags);
		if (!(flags & F_NEXT))
			return;
		at = table + 16ull * get16(d, at + 14);
	}
}

/* 2.7.6 "The Virtqueue Available Ring": flags, idx, ring[], used_event */
static bool split_take(struct ref_device *d, struct ref_chain *c)
{
	if ((uint16_t)d->avail == get16(d, d->r.driver + 2))
		return false;
	c->id = get16(d, d->r.driver + 4 + 2 * (d->avail % d->r.num));
	c->entries = 1;
	split_chain(d, c, d->r.desc, c->id);
	d->avail = (uint16_t)(d->avail + 1);
	return true;
}

/* 2.7.8 "The Virtqueue Used Ring": flags, idx, ring[] of {id, len}, avail_event */
static void split_use(struct ref_device *d, const struct ref_chain *c, uint32_t written)
{
	const uint32_t at = d->r.device + 4 + 8 * (d->used % d->r.num);

	put32(d, at, c->id);
	put32(d, at + 4, written);
	d->used = (uint16_t)(d->used + 1);
}

/* 2.7.7.2: with EVENT_IDX, when the entry with the driver's index was written */
static bool split_notify(const struct ref_device *d)
{
	const uint16_t event = get16(d, d->r.driver + 4 + 2 * d->r.num);

	if (!d->r.event_idx)
		return !(get16(d, d->r.driver) & 1);
	for (uint16_t i = (uint16_t)d->batch_used; i != (uint16_t)d->used; i++)
		if (i == event)
			return true;
	return false;
}

/* ---- packed ---- */

static void step(const struct ref_device *d, uint32_t *at, bool *wrap)
{
	if (++*at == d->r.num) {
		*at = 0;
		*wrap = !*wrap;
	}
}

/* 2.8.1 "Driver and Device Ring Wrap Counters" */
static bool packed_is_available(const struct ref_device *d)
{
	const uint16_t flags = get16(d, d->r.desc + 16 * d->avail + 14);

	return !!(flags & F_AVAIL) == d->avail_wrap && !!(flags & F_USED) != d->avail_wrap;
}

/* 2.8.7: a table is a list as long as the descriptor says */
static void packed_table(
	const struct ref_device *d, struct ref_chain *c, uint64_t table, uint32_t len)
{
	for (uint64_t at = table; at < table + len; at += 16)
		add_part(c, get64(d, at), get32(d, at + 8), get16(d, at + 14));
}

/* 2.8.5: addr, len, id, flags; the id of a chain is its last one's (2.8.6) */
static bool packed_take(struct ref_device *d, struct ref_chain *c)
{
	uint16_t flags;

	if (!packed_is_available(d))
		return false;
	do {
		const uint64_t at = d->r.desc + 16ull * d->avail;

		flags = get16(d, at + 14);
		c->id = get16(d, at + 12);
		c->entries++;
		if (flags & F_INDIRECT)
			packed_table(d, c, get64(d, at), get32(d, at + 8));
		else
			add_part(c, get64(d, at), get32(d, at + 8), flags);
		step(d, &d->avail, &d->avail_wrap);
	} while (flags & F_NEXT);
	return true;
}

/* 2.8.8: one used descriptor where the chain began, the others are skipped */
static void packed_use(struct ref_device *d, const struct ref_chain *c, uint32_t written)
{
	d->batch[d->n_batch].at = d->r.desc + 16 * d->used;
	d->batch[d->n_batch].len = written;
	d->batch[d->n_batch].id = c->id;
	d->batch[d->n_batch++].flags =
		(uint16_t)((d->used_wrap ? F_AVAIL | F_USED : 0) | (written ? F_WRITE : 0));
	for (uint32_t i = 0; i < c->entries; i++)
		step(d, &d->used, &d->used_wrap);
}

static void packed_show(struct ref_device *d)
{
	while (d->n_batch > 0) {
		const uint32_t i = --d->n_batch;

		put32(d, d->batch[i].at + 8, d->batch[i].len);
		put16(d, d->batch[i].at + 12, d->batch[i].id);
		put16(d, d->batch[i].at + 14, d->batch[i].flags);
	}
}

/* 2.8.10: off_wrap (offset, and wrap counter in bit 15), flags */
static bool packed_notify(const struct ref_device *d)
{
	const uint16_t off_wrap = get16(d, d->r.driver);
	uint32_t at = d->batch_used;
	bool wrap = d->batch_wrap, over = false;

	if ((get16(d, d->r.driver + 2) & 3) != EVENT_DESC)
		return (get16(d, d->r.driver + 2) & 3) == EVENT_ENABLE;
	for (; at != d->used || wrap != d->used_wrap; step(d, &at, &wrap))
		over |= at == (off_wrap & 0x7fffu) && wrap == (bool)(off_wrap >> 15);
	return over;
}

/* ---- either ---- */

bool ref_take(struct ref_device *d, struct ref_chain *c)
{
	c->n = c->entries = 0;
	return d->r.packed ? packed_take(d, c) : split_take(d, c);
}

void ref_use(struct ref_device *d, const struct ref_chain *c, uint32_t written)
{
	if (d->r.packed)
		packed_use(d, c, written);
	else
		split_use(d, c, written);
}

void ref_show(struct ref_device *d)
{
	d->batch_used = d->next_batch;
	d->batch_wrap = d->next_wrap;
	d->next_batch = d->used;
	d->next_wrap = d->used_wrap;
	if (d->r.packed)
		packed_show(d);
	else
		put16(d, d->r.device + 2, (uint16_t)d->used);
}

bool ref_notify(const struct ref_device *d)
{
	return d->r.packed ? packed_notify(d) : split_notify(d);
}

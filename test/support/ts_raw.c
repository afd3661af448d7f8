/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing into a ring what no driver writes. */
#include "ts_raw.h"

void ts_raw_offer(struct ts_ring *r, uint16_t head)
{
	struct vring_avail *a = r->avail;

	a->ring[a->idx & (r->size - 1)] = head;
	__atomic_store_n(&a->idx, (uint16_t)(a->idx + 1), __ATOMIC_RELEASE);
}

uint16_t ts_raw_behind(const struct ts_ring *r, uint16_t pos, uint32_t n)
{
	const uint32_t at = (pos & 0x7fff) + n;

	return at < r->size ? (uint16_t)(pos + n) : (uint16_t)((~pos & 0x8000) | (at - r->size));
}

static void put_one(struct ts_ring *r, uint16_t pos, const struct vring_packed_desc *d)
{
	struct vring_packed_desc *to = &r->pdesc[pos & 0x7fff];

	/* Another thread may write here too. */
	__atomic_store_n(&to->addr, d->addr, __ATOMIC_RELAXED);
	__atomic_store_n(&to->len, d->len, __ATOMIC_RELAXED);
	__atomic_store_n(&to->id, d->id, __ATOMIC_RELAXED);
	__atomic_store_n(
		&to->flags, d->flags ^ ts_packed_avail_bits(pos & 0x8000), __ATOMIC_RELEASE);
}

uint16_t ts_raw_put(struct ts_ring *r, uint16_t pos, const struct vring_packed_desc *d, unsigned n)
{
	uint16_t at = pos;

	for (unsigned i = 1; i < n; i++) {
		at = ts_raw_behind(r, at, 1);
		put_one(r, at, &d[i]);
	}
	if (n > 0)
		put_one(r, pos, d);
	return n > 0 ? ts_raw_behind(r, at, 1) : pos;
}

void ts_raw_break(struct ts_ring *r)
{
	const struct vring_packed_desc on = {.flags = VRING_DESC_F_NEXT};
	const uint16_t pos = (uint16_t)ts_ring_avail_pos(r);

	if (!r->pdesc) {
		__atomic_store_n(
			&r->avail->idx, (uint16_t)(r->avail->idx + r->size + 1), __ATOMIC_RELEASE);
		return;
	}
	for (uint32_t i = r->size; i-- > 0;)
		put_one(r, ts_raw_behind(r, pos, i), &on);
}

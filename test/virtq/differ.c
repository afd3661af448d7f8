/* SPDX-License-Identifier: BSD-3-Clause */
/* A polite driver that writes two memories alike. */
#include "differ.h"

#include <string.h>

static void put(struct differ *x, uint32_t at, const void *from, size_t n)
{
	memcpy(x->ours + at, from, n);
	memcpy(x->its + at, from, n);
}

static void put16(struct differ *x, uint32_t at, uint16_t v)
{
	put(x, at, &v, 2);
}

static void put_desc(
	struct differ *x, uint32_t at, uint64_t addr, uint32_t len, uint16_t third, uint16_t fourth)
{
	put(x, at, &addr, 8);
	put(x, at + 8, &len, 4);
	put16(x, at + 12, third);
	put16(x, at + 14, fourth);
}

static uint16_t take_free(struct differ *x, struct ts_rng *rng)
{
	const uint32_t i = ts_rand_below(rng, x->n_free);
	const uint16_t id = x->free[i];

	x->free[i] = x->free[--x->n_free];
	return id;
}

/* Parts of a chain: where in memory, as long as says the generator. */
static struct ref_part random_part(const struct differ *x, struct ts_rng *rng)
{
	return (struct ref_part){BUFFERS + ts_rand_below(rng, 0x1000),
		1 + ts_rand_below(rng, 0xfff), x->dir == VIRTQ_TO_GUEST};
}

static void write_table(struct differ *x, uint32_t at, uint32_t n, struct ts_rng *rng)
{
	const uint16_t w = x->dir == VIRTQ_TO_GUEST ? VRING_DESC_F_WRITE : 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct ref_part p = random_part(x, rng);

		if (packed(x))
			put_desc(x, at + 16 * i, p.addr, p.len, (uint16_t)ts_rand(rng), w);
		else
			put_desc(x, at + 16 * i, p.addr, p.len,
				(uint16_t)(w | (i + 1 < n ? VRING_DESC_F_NEXT : 0)),
				(uint16_t)(i + 1));
	}
}

/* `direct` parts in the ring, then perhaps a table of `n_table` more. */
static void add_split(struct differ *x, uint32_t direct, uint32_t n_table, struct ts_rng *rng)
{
	const uint16_t w = x->dir == VIRTQ_TO_GUEST ? VRING_DESC_F_WRITE : 0;
	const uint32_t n = direct + (n_table > 0);
	uint16_t at[PARTS] = {0};

	if (n > x->n_free)
		return;
	for (uint32_t i = 0; i < n; i++)
		at[i] = take_free(x, rng);
	for (uint32_t i = 0; i < n; i++) {
		const struct ref_part p = random_part(x, rng);
		const uint16_t next = i + 1 < n ? at[i + 1] : 0;

		if (i < direct)
			put_desc(x, DESC + 16u * at[i], p.addr, p.len,
				(uint16_t)(w | (i + 1 < n ? VRING_DESC_F_NEXT : 0)), next);
		else
			put_desc(x, DESC + 16u * at[i], TABLES + 16u * PARTS * at[i], 16 * n_table,
				VRING_DESC_F_INDIRECT, 0);
		x->owns[at[0]][i] = at[i];
	}
	if (n_table)
		write_table(x, TABLES + 16u * PARTS * at[n - 1], n_table, rng);
	x->n_owns[at[0]] = n;
	put16(x, DRIVER + 4 + 2 * (x->avail % x->num), at[0]);
	x->avail = (uint16_t)(x->avail + 1);
}

static void step_packed(const struct differ *x, uint32_t *at, bool *wrap)
{
	if (++*at == x->num) {
		*at = 0;
		*wrap = !*wrap;
	}
}

static void add_packed(struct differ *x, uint32_t direct, uint32_t n_table, struct ts_rng *rng)
{
	const uint16_t w = x->dir == VIRTQ_TO_GUEST ? VRING_DESC_F_WRITE : 0;
	const uint32_t n = n_table ? 1 : direct;
	uint16_t id;

	if (n > x->room || x->n_free == 0)
		return;
	id = take_free(x, rng);
	for (uint32_t i = 0; i < n; i++) {
		const struct ref_part p = random_part(x, rng);
		const uint16_t flags = (uint16_t)((n_table ? VRING_DESC_F_INDIRECT : w) |
						  (i + 1 < n ? VRING_DESC_F_NEXT : 0) |
						  ts_packed_avail_bits(x->avail_wrap));
		const uint32_t at = DESC + 16 * x->avail;

		put(x, at, n_table ? &(uint64_t){TABLES + 16u * PARTS * id} : &p.addr, 8);
		put(x, at + 8, n_table ? &(uint32_t){16 * n_table} : &p.len, 4);
		put16(x, at + 12, i + 1 < n ? (uint16_t)ts_rand(rng) : id);
		if (i > 0) {
			put16(x, at + 14, flags);
		} else {
			x->hidden[x->n_hidden].at = at + 14;
			x->hidden[x->n_hidden++].flags = flags;
		}
		step_packed(x, &x->avail, &x->avail_wrap);
	}
	if (n_table)
		write_table(x, TABLES + 16u * PARTS * id, n_table, rng);
	x->n_owns[id] = n;
	x->room -= n;
}

void driver_adds(struct differ *x, struct ts_rng *rng)
{
	for (uint32_t k = 1 + ts_rand_below(rng, 8); k > 0; k--) {
		const uint32_t n = 1 + ts_rand_below(rng, PARTS - 1);
		const uint32_t n_table =
			x->c->indirect && ts_rand_below(rng, 2) ? 1 + ts_rand_below(rng, PARTS) : 0;

		if (packed(x))
			add_packed(x, n, n_table, rng);
		else
			add_split(x, n_table && ts_rand_below(rng, 2) ? 0 : n, n_table, rng);
	}
}

void driver_publishes(struct differ *x)
{
	if (!packed(x))
		put16(x, DRIVER + 2, (uint16_t)x->avail);
	while (x->n_hidden > 0) {
		x->n_hidden--;
		put16(x, x->hidden[x->n_hidden].at, x->hidden[x->n_hidden].flags);
	}
}

void driver_wishes(struct differ *x, struct ts_rng *rng)
{
	if (!packed(x)) {
		put16(x, DRIVER, (uint16_t)ts_rand_below(rng, 2));
		put16(x, DRIVER + 4 + 2 * x->num, (uint16_t)(x->used + ts_rand_below(rng, 40) - 8));
		return;
	}
	put16(x, DRIVER, (uint16_t)(ts_rand_below(rng, x->num) | ts_rand_below(rng, 2) << 15));
	put16(x, DRIVER + 2, (uint16_t)ts_rand_below(rng, x->c->event_idx ? 3 : 2));
}

static void came_back(struct differ *x, uint16_t id)
{
	if (packed(x)) {
		x->free[x->n_free++] = id;
		x->room += x->n_owns[id];
		return;
	}
	for (uint32_t i = 0; i < x->n_owns[id]; i++)
		x->free[x->n_free++] = x->owns[id][i];
}

void driver_reaps(struct differ *x)
{
	uint16_t id, idx, flags;

	for (;;) {
		if (packed(x)) {
			memcpy(&flags, x->its + DESC + 16 * x->used + 14, 2);
			if ((flags & TS_PACKED_BITS) != ts_packed_used_bits(x->used_wrap))
				return;
			memcpy(&id, x->its + DESC + 16 * x->used + 12, 2);
			came_back(x, id);
			for (uint32_t i = 0; i < x->n_owns[id]; i++)
				step_packed(x, &x->used, &x->used_wrap);
			continue;
		}
		memcpy(&idx, x->its + DEVICE + 2, 2);
		if (idx == (uint16_t)x->used)
			return;
		memcpy(&id, x->its + DEVICE + 4 + 8 * (x->used % x->num), 2);
		came_back(x, id);
		x->used = (uint16_t)(x->used + 1);
	}
}

bool driver_kicks(const struct differ *x, uint16_t before)
{
	const uint16_t flags = *(const uint16_t *)(x->ours + DEVICE + (packed(x) ? 2 : 0));
	uint16_t event;

	if (packed(x))
		return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
	if (!x->c->event_idx)
		return !(flags & VRING_USED_F_NO_NOTIFY);
	memcpy(&event, x->ours + DEVICE + 4 + 8 * x->num, 2);
	for (uint16_t i = before; i != (uint16_t)x->avail; i++)
		if (i == event)
			return true;
	return false;
}

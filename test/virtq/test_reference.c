/* SPDX-License-Identifier: BSD-3-Clause */
/* Both ring formats beside a reference device: the same driver, the same answers, byte for byte. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ref.h"
#include "vq.h"

/*
 * Theory of operation
 *
 * There are two copies of a guest's memory, one with our code as its device, one with the reference
 * (ref.h). A polite driver does the same in both: chains of random parts, direct, in tables or mixed;
 * published now or later; any wish for notifications. After each burst the chains that were taken, the
 * bytes of both memories and what the driver is told must be the same. Each step draws from a generator
 * of its own, so that a history with steps left out is one as well: what fails is shrunk before it is
 * shown.
 */

#define PARTS    6u
#define MAX_RING 64u
#define STEPS    400u
#define MEMORY   0x8000u
#define DESC     0u
#define DRIVER   0x0800u
#define DEVICE   0x1000u
#define TABLES   0x2000u /* one for each id */
#define BUFFERS  0x6000u

struct differ {
	const struct vq_case *c;
	uint32_t num;
	enum virtq_dir dir;
	uint8_t *ours, *its; /* memories */
	struct ref_device ref;
	struct virtq_mem *mem;
	struct virtq_view view;
	struct virtq *q;
	struct virtq_segs *segs;
	int call_fd;
	bool first; /* no notification has gone by positions since the start */

	/* the driver */
	uint16_t free[MAX_RING]; /* split: descriptors; packed: ids */
	uint32_t n_free;
	uint32_t room;                  /* packed: descriptors of the ring */
	uint16_t owns[MAX_RING][PARTS]; /* by id: descriptors that come back with it, */
	uint32_t n_owns[MAX_RING];
	uint32_t avail, used; /* split: indexes; packed: positions without wrap counters */
	bool avail_wrap, used_wrap;
	struct {
		uint32_t at;
		uint16_t flags;
	} hidden[MAX_RING]; /* packed: heads to be published */
	uint32_t n_hidden;
	char why[200];
};

static bool packed(const struct differ *x)
{
	return x->c->format->features;
}

/* ---- the driver: writes both memories ---- */

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
	uint16_t at[PARTS];

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

static void driver_adds(struct differ *x, struct ts_rng *rng)
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

static void driver_publishes(struct differ *x)
{
	if (!packed(x))
		put16(x, DRIVER + 2, (uint16_t)x->avail);
	while (x->n_hidden > 0) {
		x->n_hidden--;
		put16(x, x->hidden[x->n_hidden].at, x->hidden[x->n_hidden].flags);
	}
}

/* A wish for notifications: at once, never, or at some position near. */
static void driver_wishes(struct differ *x, struct ts_rng *rng)
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

/* Both memories are the same by now. */
static void driver_reaps(struct differ *x)
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

/* ---- both devices ---- */

static bool differs(struct differ *x, const char *what, uint64_t ours, uint64_t its)
{
	if (ours != its && !x->why[0])
		snprintf(x->why, sizeof(x->why), "%s: ours %#llx, the reference's %#llx", what,
			(unsigned long long)ours, (unsigned long long)its);
	return ours != its;
}

static bool chains_differ(
	struct differ *x, const struct virtq_chain *ours, const struct ref_chain *its)
{
	uint64_t bytes = 0;

	if (differs(x, "a chain's id", ours->id, its->id) ||
		differs(x, "its parts", ours->nseg, its->n))
		return true;
	for (uint32_t i = 0; i < its->n; i++) {
		bytes += its->part[i].len;
		if (differs(x, "a part's address", (uint64_t)(ours->seg[i].va - x->ours),
			    its->part[i].addr) ||
			differs(x, "a part's length", ours->seg[i].len, its->part[i].len))
			return true;
	}
	return differs(x, "a chain's length", ours->len, bytes);
}

static bool memories_differ(struct differ *x)
{
	for (uint32_t i = 0; i < MEMORY; i++) {
		/* What it says of kicks is its own affair. */
		if (packed(x) ? i >= DEVICE && i < DEVICE + 4
			      : i - DEVICE < 2 || i - DEVICE - 4 - 8 * x->num < 2)
			continue;
		if (x->ours[i] == x->its[i])
			continue;
		snprintf(x->why, sizeof(x->why),
			"byte %#x of memory: ours %#x, the reference's %#x", i, x->ours[i],
			x->its[i]);
		return true;
	}
	return false;
}

/* The first one that goes by positions may be one too many: nobody was notified before. */
static bool notifications_differ(struct differ *x, bool due)
{
	const bool by_position = x->c->event_idx && (!packed(x) || (x->its[DRIVER + 2] & 3) == 2);
	uint64_t n = 0;
	const bool called = read(x->call_fd, &n, sizeof(n)) == sizeof(n);

	if (by_position && x->first && called)
		due = true;
	x->first = x->first && !by_position;
	return differs(x, "notifications", called, due);
}

static bool positions_differ(struct differ *x)
{
	const uint32_t its = packed(x)
				     ? x->ref.avail | (uint32_t)x->ref.avail_wrap << 15 |
					       x->ref.used << 16 | (uint32_t)x->ref.used_wrap << 31
				     : x->ref.avail;

	return differs(x, "the position", virtq_position(x->q, packed(x)), its);
}

/* Take, put some back, use the rest. True: they differ. */
static bool devices_burst(struct differ *x, struct ts_rng *rng)
{
	const uint16_t max = (uint16_t)(1 + ts_rand_below(rng, 20));
	const uint16_t ready = x->c->format->ops->ready(x->q, &x->view, max);
	const struct ref_device before = x->ref;
	struct virtq_chain chain[20];
	struct ref_chain its;
	uint16_t n = 0, keep;

	virtq_segs_begin(x->segs);
	x->c->format->ops->prefetch(x->q, &x->view, ready);
	for (; n < ready; n++) {
		const bool ours =
			x->c->format->ops->take(x->q, &x->view, x->dir, x->segs, &chain[n]);

		if (differs(x, "a chain is there", ours, ref_take(&x->ref, &its)))
			return true;
		if (!ours)
			break;
		if (chains_differ(x, &chain[n], &its))
			return true;
	}
	if (n < max && differs(x, "another chain is there", 0, ref_take(&x->ref, &its)))
		return true;
	if (n == 0)
		return false;
	keep = ts_rand_below(rng, 3) ? n : (uint16_t)ts_rand_below(rng, n);
	if (keep < n)
		x->c->format->ops->untake(x->q, &x->view, &chain[keep]);
	x->ref = before;
	for (uint16_t i = 0; i < keep; i++) {
		const uint32_t written =
			x->dir == VIRTQ_TO_GUEST ? ts_rand_below(rng, chain[i].len + 1) : 0;

		x->c->format->ops->give(x->q, &x->view, &chain[i], written);
		ref_take(&x->ref, &its);
		ref_use(&x->ref, &its, written);
	}
	if (keep == 0)
		return positions_differ(x);
	x->c->format->ops->publish(x->q, &x->view);
	ref_show(&x->ref);
	return notifications_differ(x, ref_notify(&x->ref)) || memories_differ(x) ||
	       positions_differ(x);
}

static bool devices_discard(struct differ *x, struct ts_rng *rng)
{
	const uint32_t max = 1 + ts_rand_below(rng, 2 * x->num);
	const uint32_t limit = max < x->num ? max : x->num;
	const uint32_t ours = virtq_discard(x->q, &x->view, max);
	struct ref_chain its;
	uint32_t done = 0;

	while (done < limit && ref_take(&x->ref, &its)) {
		ref_use(&x->ref, &its, 0);
		done += its.entries;
	}
	if (differs(x, "entries discarded", ours, done))
		return true;
	if (done == 0)
		return false;
	ref_show(&x->ref);
	return notifications_differ(x, ref_notify(&x->ref)) || memories_differ(x) ||
	       positions_differ(x);
}

/* A device that stops and another that goes on. */
static bool devices_restart(struct differ *x)
{
	const uint32_t base = virtq_position(x->q, packed(x));
	const struct ref_ring r = x->ref.r;

	memset(x->q, 0xee, sizeof(*x->q));
	virtq_start(x->q, &x->view, base);
	x->first = true;
	ref_start(&x->ref, &r, x->ref.used, x->ref.used_wrap);
	return memories_differ(x) || positions_differ(x);
}

/* ---- histories ---- */

static const char *const actions[] = {
	"add", "publish", "wish", "reap", "burst", "discard", "restart"};

static unsigned action_of(struct ts_rng *rng)
{
	static const uint8_t often[] = {0, 0, 0, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4, 4, 5, 6};

	return often[ts_rand_below(rng, sizeof(often))];
}

static unsigned act(struct differ *x, struct ts_rng *rng, bool *bad)
{
	const unsigned what = action_of(rng);

	switch (what) {
	case 0:
		driver_adds(x, rng);
		break;
	case 1:
		driver_publishes(x);
		break;
	case 2:
		driver_wishes(x, rng);
		break;
	case 3:
		driver_reaps(x);
		break;
	case 4:
		*bad = devices_burst(x, rng);
		break;
	case 5:
		*bad = devices_discard(x, rng);
		break;
	default:
		*bad = ts_rand_below(rng, 4) == 0 && devices_restart(x);
		break;
	}
	return what;
}

static void begin(struct differ *x)
{
	const struct ref_ring r = {
		x->its, DESC, DRIVER, DEVICE, x->num, packed(x), x->c->event_idx};

	memset(x->ours, 0, MEMORY);
	memset(x->its, 0, MEMORY);
	x->view = (struct virtq_view){.desc = (struct vring_desc *)(x->ours + DESC),
		.avail = (struct vring_avail *)(x->ours + DRIVER),
		.used = (struct vring_used *)(x->ours + DEVICE),
		.num = (uint16_t)x->num,
		.packed = packed(x),
		.hdr_len = 12,
		.event_idx = x->c->event_idx,
		.indirect = x->c->indirect,
		.call_fd = x->call_fd,
		.mem = x->mem};
	virtq_start(x->q, &x->view, packed(x) ? 0x80008000 : 0);
	ref_start(&x->ref, &r, 0, true);
	x->n_free = x->room = x->num;
	for (uint32_t i = 0; i < x->num; i++)
		x->free[i] = (uint16_t)i;
	x->avail = x->used = x->n_hidden = 0;
	x->avail_wrap = x->used_wrap = x->first = true;
	x->why[0] = '\0';
}

static void seed_step(struct ts_rng *rng, uint64_t seed, unsigned step)
{
	ts_rng_init(rng, seed * 1000003 + step);
	ts_rand(rng);
}

/* All steps but those left out. Returns the one at which they differ, or STEPS. */
static unsigned history(struct differ *x, uint64_t seed, const bool *out)
{
	begin(x);
	for (unsigned step = 0; step < STEPS; step++) {
		struct ts_rng rng;
		bool bad = false;

		if (out[step])
			continue;
		seed_step(&rng, seed, step);
		act(x, &rng, &bad);
		if (bad)
			return step;
	}
	return STEPS;
}

/* Leave out whatever the difference does not need, in ever smaller pieces. */
static void shrink(struct differ *x, uint64_t seed, bool *out)
{
	for (unsigned step = history(x, seed, out) + 1; step < STEPS; step++)
		out[step] = true;
	for (unsigned piece = STEPS / 2; piece > 0; piece /= 2) {
		for (unsigned at = 0; at + piece <= STEPS; at += piece) {
			bool without[STEPS];

			memcpy(without, out, sizeof(without));
			memset(without + at, true, piece);
			if (history(x, seed, without) < STEPS)
				memcpy(out, without, sizeof(without));
		}
	}
}

static void show(struct differ *x, uint64_t seed, const bool *out)
{
	fprintf(stderr, "# seed %#llx, %u descriptors:", (unsigned long long)seed, x->num);
	for (unsigned step = 0; step < STEPS; step++) {
		struct ts_rng rng;

		if (out[step])
			continue;
		seed_step(&rng, seed, step);
		fprintf(stderr, " %s(%u)", actions[action_of(&rng)], step);
	}
	fprintf(stderr, "\n");
	history(x, seed, out);
}

static void compare(struct vq *t)
{
	static const uint32_t sizes[2][4] = {{1, 2, 16, 64}, {1, 7, 16, 63}};
	struct differ x = {.c = &t->c,
		.ours = aligned_alloc(4096, MEMORY),
		.its = aligned_alloc(4096, MEMORY),
		.mem = calloc(1, sizeof(struct virtq_mem) + 2 * sizeof(struct virtq_span)),
		.q = virtq_new(),
		.segs = t->segs,
		.call_fd = t->ring->call_fd};

	assert_true(x.ours && x.its && x.mem && x.q);
	x.mem->refs = x.mem->n = 1;
	x.mem->spans[0] = (struct virtq_span){0, MEMORY, x.ours};
	for (unsigned i = 0; i < (ts_all() ? 1000 : 48); i++) {
		bool out[STEPS] = {false};
		const uint64_t seed = ts_seed() + i + (t->c.mergeable ? 1000 : 0);

		x.num = sizes[packed(&x)][i % 4];
		x.dir = i / 4 % 2 ? VIRTQ_TO_GUEST : VIRTQ_FROM_GUEST;
		if (history(&x, seed, out) == STEPS)
			continue;
		shrink(&x, seed, out);
		show(&x, seed, out);
		fail_msg("%s", x.why);
	}
	virtq_free(x.q);
	free(x.mem);
	free(x.ours);
	free(x.its);
}

static const struct vq_test tests[] = {
	{"compare", compare, 16, 0, VQ_OVER_ALL},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Both ring formats beside a reference device: the same driver, the same answers, byte for byte. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "differ.h"

#define STEPS 400u

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

/* The driver adds and publishes. True: it has to kick and should not, or the reverse. */
static bool kicks_differ(struct differ *x, struct ts_rng *rng, bool due)
{
	const uint32_t room = x->n_free;
	bool some = x->n_hidden > 0;
	uint16_t before;

	memcpy(&before, x->ours + DRIVER + 2, 2);
	some |= !packed(x) && before != (uint16_t)x->avail;
	driver_adds(x, rng);
	driver_publishes(x);
	some |= x->n_free != room;
	return some && differs(x, "a kick", driver_kicks(x, before), due);
}

/* Asleep until it is kicked, if there is nothing; awake again it needs none. */
static bool devices_sleep(struct differ *x, struct ts_rng *rng)
{
	struct ref_device copy = x->ref;
	struct ref_chain its;
	const bool idle = virtq_arm(x->q);

	if (differs(x, "nothing to do", idle, !ref_take(&copy, &its)) ||
		(idle && kicks_differ(x, rng, true)))
		return true;
	virtq_disarm(x->q);
	return kicks_differ(x, rng, false) || memories_differ(x);
}

/* A device that stops and another that goes on. */
static bool devices_restart(struct differ *x)
{
	const uint32_t base = virtq_position(x->q, packed(x));
	const struct ref_ring r = x->ref.r;

	memset(&x->q->avail, 0xee, sizeof(*x->q) - offsetof(struct virtq, avail));
	x->q->armed = false;
	x->q->announce = x->q->miss_perm = 0;
	virtq_start(x->q, &x->view, base);
	x->first = true;
	ref_start(&x->ref, &r, x->ref.used, x->ref.used_wrap);
	return memories_differ(x) || positions_differ(x);
}

/* ---- histories ---- */

static const char *const actions[] = {
	"add", "publish", "wish", "reap", "burst", "discard", "restart", "sleep"};

static unsigned action_of(struct ts_rng *rng)
{
	static const uint8_t often[] = {0, 0, 0, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4, 4, 5, 6, 7};

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
	case 6:
		*bad = ts_rand_below(rng, 4) == 0 && devices_restart(x);
		break;
	default:
		*bad = devices_sleep(x, rng);
		break;
	}
	return what;
}

static void begin(struct differ *x)
{
	uint32_t ticket;
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
		.kicks = true,
		.mem = x->mem};
	virtq_gate_swap(&x->q->gate, &x->view, &ticket);
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

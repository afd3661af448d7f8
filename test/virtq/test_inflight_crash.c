/* SPDX-License-Identifier: BSD-3-Clause */
/* Going on after a death at any instruction, by what the in-flight region says; also another back-end's. */
#include <string.h>

#include "vq_death.h"
#include "vq_inflight.h"

/* ---- death between two bursts, or in the middle of one ---- */

static void crash_one_size(struct vq *t, uint32_t size)
{
	struct virtq_inflight *region = vq_inflight_begin(t, size, (uint16_t)(65536 - size - 3));
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;

	for (unsigned round = 0; round < 300 || reaped < 2 * size; round++) {
		uint16_t n;

		vq_post_some(t, ts_rand_below(&t->rng, 3 * VIRTQ_BURST), &posted);
		n = vq_take_some(t, chain, (uint16_t)(1 + ts_rand_below(&t->rng, VIRTQ_BURST)));
		if (ts_rand_below(&t->rng, 3) == 0)
			vq_inflight_crash(t); /* with chains in its hands */
		else
			vq_give_all(t, chain, n);
		if (ts_rand_below(&t->rng, 3) == 0)
			vq_inflight_crash(t);
		if (ts_rand_below(&t->rng, 2) == 0)
			vq_reap_all(t, &reaped);
	}
	while (reaped < posted) {
		vq_give_all(t, chain, vq_take_some(t, chain, VIRTQ_BURST));
		vq_reap_all(t, &reaped);
	}
	virtq_inflight_put(region);
}

static void trap_5_13_crash(struct vq *t)
{
	for (const uint32_t *size = t->c.format->sizes; *size; size++)
		crash_one_size(t, *size);
}

/* ---- death at any instruction ---- */

/* What the process that dies is about to do. */
typedef void (*last_deed)(struct vq *t, const struct virtq_chain *chain, uint16_t n);

static struct doing {
	struct vq *t;
	last_deed deed;
	const struct virtq_chain *chain;
	uint16_t n;
} doing;

static void do_it(void)
{
	doing.deed(doing.t, doing.chain, doing.n);
}

/* Let it execute so many instructions, then kill it. Returns how many it executed before its end. */
static unsigned kill_after(
	struct vq *t, last_deed deed, const struct virtq_chain *chain, uint16_t n, unsigned steps)
{
	doing = (struct doing){t, deed, chain, n};
	return vq_kill_after(do_it, steps);
}

/* From one place to the next, so that all of them together take no more than some seconds. */
static unsigned few(unsigned all)
{
	return 1 + (unsigned)((uint64_t)all * all / 100000);
}

/* A burst of several chains is cut off at one place after another (at every instruction unless a
 * sanitizer makes thousands of them), and each time the next process goes on. */
static void trap_5_13_killed_at_any_instruction(struct vq *t)
{
	struct virtq_inflight *region = vq_inflight_begin(t, 8, 65530);
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;
	unsigned all = UINT32_MAX, step = 1, before = 0, after = 0;

	for (unsigned at = 0; all == UINT32_MAX || at <= all; at += all == UINT32_MAX ? 0 : step) {
		const uint16_t shown = vq_shown(t);
		uint16_t n;
		unsigned done;

		vq_post_some(t, 1 + at % 4, &posted);
		n = vq_take_some(t, chain, VIRTQ_BURST);
		assert_true(n > 0);
		done = kill_after(t, vq_give_all, chain, n, all == UINT32_MAX ? 1000000 : at);
		if (all == UINT32_MAX) {
			all = done;
			step = few(all);
		}
		if (vq_shown(t) == shown)
			before++;
		else
			after++;
		vq_inflight_crash(t);
		vq_give_all(t, chain, vq_take_some(t, chain, VIRTQ_BURST));
		vq_reap_all(t, &reaped);
		assert_int_equal(reaped, posted);
	}
	assert_true(all > 20 && before > 0 && after > 0);
	virtq_inflight_put(region);
}

/* The batch was as long as the ring: both indexes are the same then. */
static void a_batch_of_the_whole_ring(struct vq *t)
{
	for (uint32_t size = t->view.packed ? 1 : 2; size <= 64; size *= 2) {
		struct virtq_inflight *region = vq_inflight_begin(t, size, 0);
		struct virtq_chain chain[VIRTQ_BURST];
		uint64_t posted = 0, reaped = 0;

		for (unsigned at = 0; at < 120; at += 7) {
			uint16_t n;

			assert_int_equal(vq_post_some(t, size, &posted), size);
			n = vq_take_some(t, chain, VIRTQ_BURST);
			assert_int_equal(n, size);
			kill_after(t, vq_give_all, chain, n, at * size / 4);
			vq_inflight_crash(t);
			vq_give_all(t, chain, vq_take_some(t, chain, VIRTQ_BURST));
			vq_reap_all(t, &reaped);
			assert_int_equal(reaped, posted);
		}
		virtq_inflight_put(region);
	}
}

/* ---- what others leave ---- */

/* A back-end that completes out of order marks what it takes. */
static void mark(struct vq *t, const struct virtq_chain *chain, uint64_t counter)
{
	struct virtq_inflight_split *split = t->view.inflight_ring;
	struct virtq_inflight_packed *packed = t->view.inflight_ring;
	uint16_t e;

	if (!t->view.packed) {
		split->desc[chain->id].inflight = 1;
		split->desc[chain->id].counter = counter;
		return;
	}
	e = packed->free_head;
	packed->desc[e].inflight = 1;
	packed->desc[e].num = chain->ndesc;
	packed->desc[e].last = e;
	packed->desc[e].id = chain->id;
	packed->desc[e].counter = counter;
	packed->free_head = packed->old_free_head = packed->desc[e].next;
}

static void unmark(struct vq *t, const struct virtq_chain *chain)
{
	struct virtq_inflight_split *split = t->view.inflight_ring;
	struct virtq_inflight_packed *packed = t->view.inflight_ring;

	if (!t->view.packed) {
		split->desc[chain->id].inflight = 0;
		return;
	}
	for (uint16_t i = 0; i < t->view.num; i++) {
		if (!packed->desc[i].inflight || packed->desc[i].id != chain->id)
			continue;
		packed->desc[i].inflight = 0;
		packed->desc[i].next = packed->free_head;
		packed->free_head = packed->old_free_head = i;
	}
}

static void reap_set(struct vq *t, bool *seen, unsigned n, unsigned *got)
{
	void *token;

	while ((token = ts_ring_get_used(t->ring, NULL))) {
		uintptr_t i = (uintptr_t)token - 1;

		assert_true(i < n && !seen[i]);
		seen[i] = true;
		++*got;
	}
	vq_assert_polite(t);
}

/* Died with some of its chains given back and others not: those come back, once. */
static void out_of_order(struct vq *t)
{
	for (unsigned round = 0; round < 50; round++) {
		struct virtq_inflight *region = vq_inflight_begin(t, 32, (uint16_t)(65500 + round));
		struct virtq_chain chain[VIRTQ_BURST];
		bool seen[32] = {false};
		uint64_t posted = 0;
		unsigned got = 0;
		uint16_t n;

		vq_post_some(t, 32, &posted);
		n = vq_take_some(t, chain, 16);
		for (uint16_t i = 0; i < n; i++)
			mark(t, &chain[i], i);
		for (uint16_t i = n; i-- > 0;)
			if (i == n - 1 || ts_rand_below(&t->rng, 2)) {
				vq_give_all(t, &chain[i], 1);
				unmark(t, &chain[i]);
			}
		memset(t->q, 0xee, sizeof(*t->q));
		virtq_start(t->q, &t->view, 0);
		reap_set(t, seen, 32, &got);
		assert_int_equal(got, n); /* all that were taken, none that was not */
		vq_give_all(t, chain, vq_take_some(t, chain, VIRTQ_BURST));
		reap_set(t, seen, 32, &got);
		assert_int_equal(got, 32);
		for (uint16_t i = 0; i < 32; i++)
			assert_true(seen[i]);
		/* And it is over: nothing comes twice after another death. */
		vq_inflight_crash(t);
		assert_int_equal(vq_take_some(t, chain, VIRTQ_BURST), 0);
		virtq_inflight_put(region);
	}
}

/* The next process hands back what the dead one had. */
static void succeed(struct vq *t, const struct virtq_chain *chain, uint16_t n)
{
	(void)chain, (void)n;
	virtq_start(t->q, &t->view, 0);
}

/* The same, killed while handing back. */
static void killed_while_handing_back(struct vq *t)
{
	unsigned all = 100000;

	for (unsigned at = 0; at <= all; at += few(all)) {
		struct virtq_inflight *region = vq_inflight_begin(t, 8, (uint16_t)at);
		struct virtq_chain chain[VIRTQ_BURST];
		bool seen[8] = {false};
		uint64_t posted = 0;
		unsigned got = 0, done;

		vq_post_some(t, 8, &posted);
		assert_int_equal(vq_take_some(t, chain, 5), 5);
		for (uint16_t i = 0; i < 5; i++)
			mark(t, &chain[i], i);
		vq_give_all(t, &chain[3], 1);
		unmark(t, &chain[3]);
		done = kill_after(t, succeed, NULL, 0, at == 0 ? 1000000 : at);
		all = at == 0 ? done : all;
		memset(t->q, 0xee, sizeof(*t->q));
		virtq_start(t->q, &t->view, 0);
		vq_give_all(t, chain, vq_take_some(t, chain, VIRTQ_BURST));
		reap_set(t, seen, 8, &got);
		assert_int_equal(got, 8);
		virtq_inflight_put(region);
	}
}

/* Split: marked, but as we would take them anyway: they are taken, nothing is lost. */
static void in_order_is_taken_again(struct vq *t)
{
	struct virtq_inflight *region = vq_inflight_begin(t, 32, 65520);
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0;

	vq_post_some(t, 20, &posted);
	assert_int_equal(vq_take_some(t, chain, 9), 9);
	for (uint16_t i = 0; i < 9; i++)
		mark(t, &chain[i], i);
	vq_inflight_crash(t);
	assert_int_equal(vq_take_some(t, chain, VIRTQ_BURST), 20);
	for (uint16_t i = 0; i < 32; i++)
		assert_int_equal(
			((struct virtq_inflight_split *)t->view.inflight_ring)->desc[i].inflight,
			0);
	virtq_inflight_put(region);
}

/* Split: published, but still marked: the batch list says which. */
static void an_unfinished_batch(struct vq *t)
{
	struct virtq_inflight *region = vq_inflight_begin(t, 32, 65520);
	struct virtq_inflight_split *part = t->view.inflight_ring;
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;

	vq_post_some(t, 20, &posted);
	assert_int_equal(vq_take_some(t, chain, 9), 9);
	for (uint16_t i = 0; i < 9; i++)
		mark(t, &chain[i], i);
	for (uint16_t i = 0; i < 4; i++) {
		part->desc[chain[i].id].next = part->last_batch_head;
		part->last_batch_head = chain[i].id;
	}
	t->view.inflight_ring = NULL; /* used_idx stays behind */
	vq_give_all(t, chain, 4);
	t->view.inflight_ring = part;
	vq_inflight_crash(t);
	assert_int_equal(vq_take_some(t, chain, VIRTQ_BURST), 16);
	vq_give_all(t, chain, 16);
	vq_reap_all(t, &reaped);
	assert_int_equal(reaped, 20);
	virtq_inflight_put(region);
}

static const struct vq_test tests[] = {
	{"trap_5_13_crash", trap_5_13_crash, 256, 0, VQ_OVER_LAYOUT},
	{"trap_5_13_killed_at_any_instruction", trap_5_13_killed_at_any_instruction, 256, 0,
		VQ_OVER_LAYOUT},
	{"a_batch_of_the_whole_ring", a_batch_of_the_whole_ring, 256, 0, VQ_OVER_FORMAT},
	{"out_of_order", out_of_order, 256, 0, VQ_OVER_LAYOUT},
	{"killed_while_handing_back", killed_while_handing_back, 256, 0, VQ_OVER_FORMAT},
	{"in_order_is_taken_again", in_order_is_taken_again, 256, 0, VQ_OVER_FORMAT | VQ_SPLIT},
	{"an_unfinished_batch", an_unfinished_batch, 256, 0, VQ_OVER_FORMAT | VQ_SPLIT},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

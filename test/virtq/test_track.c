/* SPDX-License-Identifier: BSD-3-Clause */
/* Chains that are lent when a back-end dies, at any instruction: each comes back once. */
#include <signal.h>
#include <string.h>

#include "virtq_lend.h"
#include "virtq_packed.h"
#include "virtq_split.h"
#include "vq_death.h"
#include "vq_inflight.h"

/*
 * Theory of operation
 *
 * A back-end that lends takes bursts of chains of one to three descriptors, keeps some, and lets
 * buffers come home in any order, so that it overtakes soon. All that it does follows from a seed: one
 * scenario is played again and again, its last burst in a process of its own that is killed after
 * one instruction more each time. The next process then goes on; at the end every chain that
 * was posted must have come back, once.
 */

#define SIZE   32
#define CHAINS 300

static struct virtq_lent places[VIRTQ_WINDOW];

struct play {
	struct vq *t;
	struct virtq_inflight *region;
	struct virtq_lender lender;
	struct ts_rng rng;
	uint32_t base; /* where the ring began: all a front-end knows of it */
	uint64_t posted;
	unsigned back;
	bool seen[CHAINS];
};

static struct play *playing; /* for deeds */
static bool simple;          /* chains of one descriptor, none overtaken */

static void post(struct play *p, unsigned n)
{
	const struct ts_seg seg[] = {
		{VQ_LOW_GPA, 100}, {VQ_LOW_GPA + 0x1000, 200}, {VQ_FAR_GPA, 60}};
	struct ts_ring *ring = p->t->ring;

	for (; n > 0 && p->posted < CHAINS; n--) {
		unsigned segs = simple ? 1 : 1 + ts_rand_below(&p->rng, 3);

		if (ts_ring_add(ring, seg, segs, NULL, 0, (void *)(uintptr_t)(p->posted + 1),
			    vq_mode(p->t)) != 0)
			break;
		p->posted++;
	}
	ts_ring_publish(ring);
}

static void reap(struct play *p)
{
	void *token;
	uint32_t len;

	while ((token = ts_ring_get_used(p->t->ring, &len))) {
		uintptr_t i = (uintptr_t)token - 1;

		assert_true(i < p->posted && !p->seen[i]);
		assert_int_equal(len, 0);
		p->seen[i] = true;
		p->back++;
	}
	vq_assert_polite(p->t);
}

/* Some buffers come home. */
static bool homes(struct play *p, struct virtq *vq, const struct virtq_view *v)
{
	struct virtq_window *w = &p->lender.window;
	bool gave = false;

	for (uint32_t i = w->head; i != w->tail; i++)
		if (virtq_window_at(w, i)->out > 0 && ts_rand_below(&p->rng, 4) == 0)
			gave |= virtq_window_home(vq, v, w, i, p->t->ops);
	return virtq_window_give(vq, v, w, p->t->ops) || gave;
}

/* As vnet_dequeue() does it. */
static void lend_burst(struct play *p)
{
	struct virtq *vq = p->t->q;
	const struct virtq_view *v = &p->t->view;
	struct virtq_window *w = &p->lender.window;
	struct virtq_chain chain[VIRTQ_BURST];
	uint16_t lent[VIRTQ_BURST];
	bool gave = homes(p, vq, v), publishes;
	uint16_t n;

	if (!gave && !simple && ts_rand_below(&p->rng, 3) == 0)
		gave = virtq_window_overtake(vq, v, w, p->t->ops);
	publishes = gave;
	n = vq_take_some(p->t, chain, (uint16_t)ts_rand_below(&p->rng, 6));
	for (uint16_t i = 0; i < n; i++) {
		lent[i] = ts_rand_below(&p->rng, 3) > 0;
		publishes |= lent[i] == 0;
	}
	for (uint16_t i = 0; i < n; i++) {
		if (lent[i] || virtq_window_waits(w, w->tail)) {
			virtq_window_add(v, w, &chain[i], lent[i], publishes);
		} else {
			p->t->ops->give(vq, v, &chain[i], 0);
			gave = true;
		}
	}
	if (gave)
		p->t->ops->publish(vq, v);
	virtq_track_taken(vq, v);
}

static void a_burst(void)
{
	lend_burst(playing);
}

/* What a process knows is gone. */
static void forget(struct play *p)
{
	p->lender.window = (struct virtq_window){.chain = places};
	virtq_window_resize(&p->lender.window, SIZE);
	memset(p->t->q, 0xee, sizeof(*p->t->q));
	virtq_start(p->t->q, &p->t->view, p->base);
	assert_int_equal(p->t->q->used, p->t->q->avail);
}

static void a_start(void)
{
	virtq_start(playing->t->q, &playing->t->view, playing->base);
}

static void begin(struct play *p, struct vq *t, uint64_t seed)
{
	*p = (struct play){.t = t};
	playing = p;
	ts_rng_init(&p->rng, seed);
	vq_new_ring(t, SIZE, (uint16_t)ts_rand_below(&p->rng, 65536));
	p->region = vq_inflight_region(1, SIZE);
	t->view.inflight_ring = virtq_inflight_ring(p->region, 0, SIZE, t->view.packed);
	t->view.tracked = true;
	t->view.lender = &p->lender;
	p->lender.window = (struct virtq_window){.chain = places};
	virtq_window_resize(&p->lender.window, SIZE);
	p->base = vq_base(
		t, (uint16_t)ts_ring_used_pos(t->ring), (uint16_t)ts_ring_used_pos(t->ring));
	virtq_start(t->q, &t->view, p->base);
	for (unsigned n = 3 + ts_rand_below(&p->rng, 30); n > 0; n--) {
		post(p, 1 + ts_rand_below(&p->rng, 6));
		lend_burst(p);
		reap(p);
	}
	post(p, 6);
}

static void end(struct play *p)
{
	struct virtq_chain chain[VIRTQ_BURST];
	uint16_t n;

	/* The ring has its full size, and still works when it goes round. */
	for (unsigned round = 0; round < 3; round++) {
		post(p, SIZE);
		while ((n = vq_take_some(p->t, chain, VIRTQ_BURST)) > 0)
			vq_give_all(p->t, chain, n);
		reap(p);
	}
	assert_int_equal(p->back, p->posted);
	assert_int_equal(p->t->ring->n_free, SIZE);
	p->t->view.inflight_ring = NULL;
	p->t->view.tracked = false;
	p->t->view.lender = NULL;
	virtq_inflight_put(p->region);
}

/* Another place to die at, so that all of them together take no more than some seconds: a sanitizer makes
 * many instructions of one. */
static unsigned next_place(unsigned at, unsigned all)
{
	return at + 1 + all / (TS_SANITIZED ? 4 : 20);
}

#define SCENARIOS (TS_SANITIZED ? 1u : 6u)

static void killed_at_any_instruction(struct vq *t)
{
	uint64_t seed = ts_seed();

	for (unsigned scenario = 0; scenario < SCENARIOS; scenario++, seed++) {
		unsigned all = 0;

		for (unsigned at = scenario % 7; at == scenario % 7 || at <= all;
			at = next_place(at, all)) {
			struct play p;
			unsigned done;

			begin(&p, t, seed);
			if (all == 0) {
				all = vq_kill_after(a_burst, 1000000);
			} else {
				done = vq_kill_after(a_burst, at);
				assert_true(done <= at);
			}
			forget(&p);
			reap(&p);
			end(&p);
		}
	}
}

/* And once more while the next process is about to go on. */
static void killed_while_going_on(struct vq *t)
{
	uint64_t seed = ts_seed();

	for (unsigned scenario = 0; scenario < SCENARIOS; scenario++, seed++) {
		unsigned all = 0;

		for (unsigned at = scenario % 7; at == scenario % 7 || at <= all;
			at = next_place(at, all)) {
			struct play p;

			begin(&p, t, seed);
			vq_kill_after(a_burst, 50 + 80 * scenario);
			p.lender.window = (struct virtq_window){.chain = places};
			if (all == 0)
				all = vq_kill_after(a_start, 1000000);
			else
				vq_kill_after(a_start, at);
			forget(&p);
			reap(&p);
			end(&p);
		}
	}
}

/* Between two publications, of which the first was the next process's, who gave back what it found. */
static void killed_soon_after_going_on(struct vq *t)
{
	uint64_t seed = ts_seed();

	for (unsigned scenario = 0; scenario < 10 * SCENARIOS; scenario++, seed++) {
		for (unsigned at = scenario % 7; at < 600; at += TS_SANITIZED ? 150 : 30) {
			struct play p;

			begin(&p, t, seed);
			forget(&p);
			reap(&p);
			post(&p, SIZE);
			for (unsigned n = ts_rand_below(&p.rng, 3); n > 0; n--)
				lend_burst(&p);
			vq_kill_after(a_burst, at);
			forget(&p);
			reap(&p);
			end(&p);
		}
	}
}

/* Died again and again between bursts, never emptied. */
static void killed_between_bursts(struct vq *t)
{
	uint64_t seed = ts_seed();

	for (unsigned scenario = 0; scenario < 200; scenario++, seed++) {
		struct play p;

		begin(&p, t, seed);
		for (unsigned n = ts_rand_below(&p.rng, 20); n > 0; n--) {
			post(&p, 1 + ts_rand_below(&p.rng, 6));
			lend_burst(&p);
			if (ts_rand_below(&p.rng, 2))
				forget(&p);
			if (ts_rand_below(&p.rng, 2))
				reap(&p);
		}
		forget(&p);
		reap(&p);
		end(&p);
	}
}

/* What the next process gives back is what it says, and nothing is taken again. */
static void given_back_is_counted(struct vq *t)
{
	uint64_t seed = ts_seed(), total = 0;

	for (unsigned scenario = 0; scenario < 200; scenario++, seed++) {
		struct play p;
		unsigned before;

		begin(&p, t, seed);
		reap(&p);
		before = p.back;
		p.lender.window = (struct virtq_window){.chain = places};
		virtq_window_resize(&p.lender.window, SIZE);
		memset(t->q, 0, sizeof(*t->q));
		virtq_start(t->q, &t->view, p.base);
		reap(&p);
		assert_int_equal(t->q->stats.recovered, p.back - before);
		assert_int_equal(t->q->stats.repeated, 0);
		total += t->q->stats.recovered;
		end(&p);
	}
	assert_true(total > 200);
}

/* Nobody was here when the driver was reset: its ring begins anew, whatever the record says. */
static void the_driver_was_reset_meanwhile(struct vq *t)
{
	uint64_t seed = ts_seed();

	for (unsigned scenario = 0; scenario < 200; scenario++, seed++) {
		struct virtq_inflight *region;
		struct play p;
		void *part = NULL;

		begin(&p, t, seed);
		region = p.region;
		part = t->view.inflight_ring;
		/* Rings come to lie where they were. */
		ts_guest_forget(t->guest);
		vq_new_ring(t, SIZE, 0);
		t->view.inflight_ring = part;
		t->view.tracked = true;
		t->view.lender = &p.lender;
		p.lender.window = (struct virtq_window){.chain = places};
		virtq_window_resize(&p.lender.window, SIZE);
		memset(p.seen, 0, sizeof(p.seen));
		p.posted = p.back = 0;
		post(&p, ts_rand_below(&p.rng, SIZE));
		virtq_start(t->q, &t->view, vq_base(t, vq_pos(t, 0), vq_pos(t, 0)));
		assert_int_equal(t->q->used, vq_pos(t, 0));
		assert_int_equal(t->q->avail, vq_pos(t, 0));
		p.region = region;
		end(&p);
	}
}

/* QEMU, while nobody is here: it uses what is available at its own position, and asks for kicks. */
static void front_end_serves(struct play *p)
{
	struct vq *t = p->t;
	struct virtq_view v = t->view;
	struct virtq_chain chain;
	struct virtq own = {.avail = (uint16_t)p->base, .used = (uint16_t)(p->base >> 16)};

	v.inflight_ring = NULL;
	v.tracked = false;
	v.call_fd = -1;
	while (packed_skip(&own, &v, &chain))
		packed_give(&own, &v, &chain, 0);
	if (own.pending)
		packed_publish(&own, &v);
	v.device->off_wrap = own.avail;
	p->base = vq_base(t, own.avail, own.used);
}

/* Its position is where a chain begins, and no chain has been overtaken: it knows of neither. */
static void the_front_end_served_meanwhile(struct vq *t)
{
	uint64_t seed = ts_seed();
	unsigned served = 0;

	simple = true;
	for (unsigned scenario = 0; scenario < 300; scenario++, seed++) {
		struct play p;
		uint32_t base;

		begin(&p, t, seed);
		base = p.base;
		forget(&p);
		reap(&p);
		for (unsigned round = 0; round < 12 && p.base == base; round++) {
			post(&p, 1 + ts_rand_below(&p.rng, SIZE));
			lend_burst(&p);
			reap(&p);
			front_end_serves(&p);
			forget(&p);
			reap(&p);
		}
		served += p.base != base;
		end(&p);
	}
	simple = false;
	assert_true(served > 30);
}

/* Between announcing and publishing somebody else writes to the file. */
static void announcements_of_somebody_elses(struct vq *t)
{
	static const uint16_t next[] = {1, UINT16_MAX, SIZE + 1};
	struct play p;

	begin(&p, t, ts_seed());
	for (unsigned i = 0; i < TS_ARRAY_SIZE(next); i++) {
		struct virtq_inflight_split *split = t->view.inflight_ring;
		struct virtq_inflight_packed *packed = t->view.inflight_ring;

		if (t->view.packed)
			packed->desc[0].next = next[i];
		else
			split->desc[0].next = next[i];
		p.lender.window.changed = 1;
		virtq_track_settle(&t->view);
		assert_int_equal(p.lender.window.changed, 0);
	}
	t->view.inflight_ring = NULL;
	t->view.tracked = false;
	t->view.lender = NULL;
	virtq_inflight_put(p.region);
}

static const struct vq_test tests[] = {
	{"killed_at_any_instruction", killed_at_any_instruction, SIZE, 0, VQ_OVER_LAYOUT},
	{"killed_while_going_on", killed_while_going_on, SIZE, 0, VQ_OVER_FORMAT},
	{"killed_soon_after_going_on", killed_soon_after_going_on, SIZE, 0, VQ_OVER_FORMAT},
	{"killed_between_bursts", killed_between_bursts, SIZE, 0, VQ_OVER_LAYOUT},
	{"announcements_of_somebody_elses", announcements_of_somebody_elses, SIZE, 0,
		VQ_OVER_FORMAT},
	{"given_back_is_counted", given_back_is_counted, SIZE, 0, VQ_OVER_LAYOUT},
	{"the_driver_was_reset_meanwhile", the_driver_was_reset_meanwhile, SIZE, 0, VQ_OVER_FORMAT},
	{"the_front_end_served_meanwhile", the_front_end_served_meanwhile, SIZE, 0,
		VQ_OVER_FORMAT | VQ_PACKED},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

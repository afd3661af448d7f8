/* SPDX-License-Identifier: BSD-3-Clause */
/* Two threads on one ring: a driver that rewrites what was checked, and one that sleeps. */
#include <pthread.h>
#include <stdio.h>

#include "ts_raw.h"
#include "vq.h"

#define TABLE_GPA 0x200000ull
#define TIME_MS   1500u

/* ---- descriptors that change while they are walked ---- */

struct mutator {
	struct vq *t;
	void *ring, *table; /* of descriptors of either format, which are as large */
	bool stop;
	uint64_t writes;
};

static uint64_t random_address(struct ts_rng *rng)
{
	static const uint64_t at[] = {
		VQ_LOW_GPA,
		VQ_HIGH_GPA - 8,
		VQ_HOLE_GPA - 8,
		VQ_FAR_GPA + VQ_REGION_SIZE - 16,
		0,
		UINT64_MAX - 7,
		TABLE_GPA,
#ifndef VIRTQ_TSAN
		/* Copied byte by byte, which the sanitizer rightly calls a race. */
		TABLE_GPA + 4,
		VQ_HIGH_GPA - 20,
#endif
	};

	return at[ts_rand_below(rng, TS_ARRAY_SIZE(at))];
}

static uint32_t random_length(struct ts_rng *rng)
{
	return ts_rand_below(rng, 4) ? 16 * ts_rand_below(rng, 9) : (uint32_t)ts_rand(rng);
}

static void mutate_split(struct vring_desc *d, struct ts_rng *rng)
{
	switch (ts_rand_below(rng, 4)) {
	case 0:
		virtq_store(&d->addr, random_address(rng));
		break;
	case 1:
		virtq_store(&d->len, random_length(rng));
		break;
	case 2:
		virtq_store(&d->flags, (uint16_t)ts_rand_below(rng, 8));
		break;
	default:
		virtq_store(&d->next, (uint16_t)ts_rand_below(rng, 10));
		break;
	}
}

/* Now and then it is not even said to be available, or to have been used. */
static uint16_t random_flags(struct ts_rng *rng)
{
	static const uint16_t owner[] = {
		0, 1u << VRING_PACKED_DESC_F_AVAIL, 1u << VRING_PACKED_DESC_F_USED, TS_PACKED_BITS};

	return (uint16_t)(ts_rand_below(rng, 8) | owner[ts_rand_below(rng, 4)]);
}

static void mutate_packed(struct vring_packed_desc *d, struct ts_rng *rng)
{
	switch (ts_rand_below(rng, 4)) {
	case 0:
		virtq_store(&d->addr, random_address(rng));
		break;
	case 1:
		virtq_store(&d->len, random_length(rng));
		break;
	case 2:
		virtq_store(&d->flags, random_flags(rng));
		break;
	default:
		virtq_store(&d->id, (uint16_t)ts_rand(rng));
		break;
	}
}

static void *mutate(void *arg)
{
	struct mutator *m = arg;
	struct ts_rng rng;

	ts_rng_init(&rng, ts_seed() + 1);
	while (!virtq_load(&m->stop)) {
		void *at = ts_rand_below(&rng, 2) ? m->ring : m->table;
		uint32_t i = ts_rand_below(&rng, m->t->ring->size);

		if (m->t->view.packed)
			mutate_packed((struct vring_packed_desc *)at + i, &rng);
		else
			mutate_split((struct vring_desc *)at + i, &rng);
		m->writes++;
	}
	return NULL;
}

/* Make something available where the device looks next. */
static void offer(struct vq *t)
{
	const struct vring_packed_desc d = {.addr = random_address(&t->rng),
		.len = random_length(&t->rng),
		.flags = (uint16_t)ts_rand_below(&t->rng, 8)};

	if (t->view.packed) {
		ts_raw_put(t->ring, t->q->avail, &d, 1);
		return;
	}
	t->ring->avail->idx = t->q->avail;
	ts_raw_offer(t->ring, (uint16_t)ts_rand_below(&t->rng, 9));
}

/* Both ends of every segment are memory: outside there are guard pages. */
static void touch(struct vq *t, const struct virtq_chain *chain)
{
	uint64_t sum = 0;

	for (uint16_t i = 0; i < chain->nseg; i++) {
		const struct virtq_seg *s = &chain->seg[i];

		assert_true(s->len > 0);
		assert_true(vq_in_guest(t, s->va, s->len));
		virtq_load(&s->va[0]);
		virtq_load(&s->va[s->len - 1]);
		sum += s->len;
	}
	assert_int_equal(sum, chain->len);
}

static void double_fetch(struct vq *t)
{
	struct mutator m = {.t = t,
		.ring = t->view.desc,
		.table = ts_va(t->guest, TABLE_GPA, 16 * VIRTQ_INDIRECT_MAX)};
	const uint64_t end = ts_now_ms() + TIME_MS;
	uint64_t good = 0, bad = 0, gone = 0;
	pthread_t thread;

	ts_seed(); /* say it before there are two who might */
	assert_int_equal(pthread_create(&thread, NULL, mutate, &m), 0);
	while (good + bad < 1000 || ts_now_ms() < end) {
		enum virtq_dir dir = ts_rand_below(&t->rng, 2) ? VIRTQ_TO_GUEST : VIRTQ_FROM_GUEST;
		struct virtq_chain chain;

		offer(t);
		vq_burst_begin(t);
		if (t->ops->ready(t->q, &t->view, 1) == 1 &&
			t->ops->take(t->q, &t->view, dir, t->segs, &chain)) {
			touch(t, &chain);
			t->ops->give(t->q, &t->view, &chain, 0);
			good++;
		} else if (t->q->fault) {
			virtq_start(t->q, &t->view, virtq_position(t->q, t->view.packed));
			bad++;
		} else {
			assert_true(t->view.packed); /* only there it can be taken back */
			gone++;
		}
	}
	virtq_store(&m.stop, true);
	pthread_join(thread, NULL);
	fprintf(stderr, "# %llu writes, %llu chains, %llu faults, %llu taken back\n",
		(unsigned long long)m.writes, (unsigned long long)good, (unsigned long long)bad,
		(unsigned long long)gone);
	assert_true(good > 0 && bad > 0);
}

/* ---- a driver that goes to sleep when there is nothing to do ---- */

struct device {
	struct vq *t;
	bool stop;
};

static void *complete(void *arg)
{
	struct device *d = arg;
	struct vq *t = d->t;

	while (!virtq_load(&d->stop)) {
		struct virtq_chain chain;

		vq_burst_begin(t);
		if (t->ops->ready(t->q, &t->view, 1) == 0 ||
			!t->ops->take(t->q, &t->view, VIRTQ_FROM_GUEST, t->segs, &chain))
			continue;
		t->ops->give(t->q, &t->view, &chain, 0);
		t->ops->publish(t->q, &t->view);
	}
	return NULL;
}

/*
 * The driver says that it wants to be called and sees nothing used: then it must be called when
 * something is. It waits by looking at the count of calls, not in poll(), so that it is awake at
 * the very moment the device decides. False: the call was lost.
 */
static bool await_call(struct vq *t, uint64_t calls)
{
	uint64_t since = 0;

	while (virtq_load(&t->q->stats.calls) == calls) {
		/* It may be between publishing and calling, and not be running: give it time. */
		if (!ts_ring_more_used(t->ring) || since == 0)
			since = ts_now_ms();
		else if (ts_now_ms() - since > 5000)
			return false;
	}
	return true;
}

static void no_lost_calls(struct vq *t)
{
	const struct ts_seg seg = {VQ_LOW_GPA, 64};
	const uint64_t end = ts_now_ms() + TIME_MS;
	struct device d = {.t = t};
	uint64_t rounds = 0, waits = 0;
	bool lost = false;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, complete, &d), 0);
	while (!lost && (rounds < 100 || ts_now_ms() < end)) {
		uint64_t calls;

		ts_ring_disable_cb(t->ring);
		ts_ring_add(t->ring, &seg, 1, NULL, 0, t, vq_mode(t));
		calls = virtq_load(&t->q->stats.calls);
		ts_ring_publish(t->ring);
		for (uint32_t i = ts_rand_below(&t->rng, 100); i > 0; i--)
			virtq_pause();
		if (ts_ring_enable_cb(t->ring)) {
			lost = !await_call(t, calls);
			waits++;
		}
		while (!lost && !ts_ring_get_used(t->ring, NULL))
			virtq_pause();
		rounds++;
	}
	virtq_store(&d.stop, true);
	pthread_join(thread, NULL);
	fprintf(stderr, "# %llu rounds, %llu waits\n", (unsigned long long)rounds,
		(unsigned long long)waits);
	assert_false(lost);
	vq_assert_polite(t);
}

static const struct vq_test tests[] = {
	{"trap_5_9_double_fetch", double_fetch, 8, 0, VQ_OVER_FORMAT},
	{"trap_5_9_double_fetch_seven", double_fetch, 7, 0, VQ_OVER_FORMAT | VQ_PACKED},
	{"trap_5_12_no_lost_calls", no_lost_calls, 16, 65000, VQ_OVER_FORMAT},
	{"trap_5_12_no_lost_calls", no_lost_calls, 16, 65000, VQ_OVER_EVENT_IDX},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

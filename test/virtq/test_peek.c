/* SPDX-License-Identifier: BSD-3-Clause */
/* Looking at what the driver has made available, without taking it: nothing else, and not for ever. */
#include <pthread.h>

#include "vq.h"

#define MAX     64u
#define TIME_MS 1000u

/* ---- what is seen ---- */

struct seen {
	uint64_t addr[4 * MAX];
	unsigned n, tables;
	bool shallow; /* no table is to be read */
};

static bool see(void *arg, uint64_t addr, uint32_t len, bool table)
{
	struct seen *s = arg;

	(void)len;
	if (table)
		s->tables++;
	else if (s->n < TS_ARRAY_SIZE(s->addr))
		s->addr[s->n++] = addr;
	return !s->shallow;
}

static struct seen peek(const struct vq *t, uint32_t max)
{
	struct seen s = {.n = 0};

	virtq_peek(t->q, &t->view, max, see, &s);
	return s;
}

/* Chains of one to three buffers; each has another address. Returns how many buffers. */
static unsigned post_chains(struct vq *t, unsigned chains)
{
	unsigned n = 0;

	for (unsigned i = 0; i < chains; i++) {
		const unsigned len = 1 + i % 3;
		struct ts_seg seg[3];

		for (unsigned k = 0; k < len; k++)
			seg[k] = (struct ts_seg){VQ_LOW_GPA + 64ull * n++, 64};
		vq_post(t, VIRTQ_FROM_GUEST, seg, len, NULL);
	}
	return n;
}

static void all_that_is_available(struct vq *t)
{
	for (unsigned round = 0; round < 40; round++) {
		const unsigned chains = 1 + round % 9, n = post_chains(t, chains);
		const uint16_t avail = t->q->avail;
		struct seen s = peek(t, 4 * MAX);

		assert_int_equal(s.n, n);
		assert_int_equal(s.tables, t->c.indirect ? chains : 0);
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(s.addr[i], VQ_LOW_GPA + 64ull * i);
		/* As often as one likes, and it is all still there. */
		assert_int_equal(peek(t, 4 * MAX).n, n);
		assert_int_equal(t->q->avail, avail);
		for (unsigned i = 0; i < chains; i++) {
			struct virtq_chain chain = vq_take(t, VIRTQ_FROM_GUEST);

			t->ops->give(t->q, &t->view, &chain, 0);
			vq_burst_begin(t);
		}
		t->ops->publish(t->q, &t->view);
		assert_int_equal(peek(t, 4 * MAX).n, 0);
		while (ts_ring_get_used(t->ring, NULL))
			;
	}
	vq_assert_polite(t);
}

/* Whoever must not read the tables is told of them all the same. */
static void tables_only(struct vq *t)
{
	struct seen s = {.shallow = true};

	post_chains(t, 9);
	virtq_peek(t->q, &t->view, MAX, see, &s);
	assert_int_equal(s.tables, t->c.indirect ? 9 : 0);
	assert_int_equal(s.n, t->c.indirect ? 0 : 18);
}

/* A budget of so many descriptors, of a table as well. */
static void no_more_than_asked_for(struct vq *t)
{
	post_chains(t, 30);
	for (uint32_t max = 0; max < 60; max++) {
		struct seen s = peek(t, max);

		assert_true(s.n + s.tables <= max + 1);
	}
}

/* ---- rings that make no sense ---- */

/* Whatever is there, and whatever the index says: an end is found. */
static void nonsense(struct vq *t)
{
	for (unsigned round = 0; round < 3000; round++) {
		uint64_t *raw = t->view.packed ? (void *)t->ring->pdesc : t->ring->desc;

		for (uint32_t i = 0; i < 2 * t->ring->size; i++)
			raw[i] = ts_rand_below(&t->rng, 4)
					 ? ts_rand(&t->rng)
					 : VQ_LOW_GPA + ts_rand_below(&t->rng, 4096);
		if (!t->view.packed) {
			for (uint32_t i = 0; i < t->ring->size; i++)
				t->ring->avail->ring[i] =
					(uint16_t)ts_rand_below(&t->rng, 2 * t->ring->size);
			t->ring->avail->idx = (uint16_t)(t->q->avail + ts_rand_below(&t->rng, 40));
		}
		assert_true(peek(t, MAX).n <= MAX + 1);
	}
	assert_int_equal(t->q->fault, VIRTQ_FAULT_NONE);
}

/* ---- while they are taken ---- */

/* The n-th chain is one buffer, whose address tells n. */
#define NUMBERS 1024u

struct worker {
	struct vq *t;
	uint64_t done;
	bool stop;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct vq *t = w->t;
	uint64_t posted = 0;

	while (!virtq_load(&w->stop)) {
		const struct ts_seg seg = {VQ_LOW_GPA + 64 * (posted++ % NUMBERS), 64};
		struct virtq_chain chain;

		vq_post(t, VIRTQ_FROM_GUEST, &seg, 1, NULL);
		vq_burst_begin(t);
		chain = vq_take(t, VIRTQ_FROM_GUEST);
		t->ops->give(t->q, &t->view, &chain, 0);
		t->ops->publish(t->q, &t->view);
		ts_ring_get_used(t->ring, NULL);
		virtq_store(&w->done, posted);
	}
	return NULL;
}

/* What was taken long ago is not seen again: with an IOMMU the guest would be reported for it. */
static void nothing_that_was_taken(struct vq *t)
{
#ifdef VIRTQ_TSAN
	(void)work, (void)t;
	skip(); /* descriptors are looked at that may just be written: that is what it is for */
#else
	const uint64_t end = ts_now_ms() + TIME_MS;
	struct worker w = {.t = t};
	unsigned late = 0;
	pthread_t thread;

	ts_seed();
	assert_int_equal(pthread_create(&thread, NULL, work, &w), 0);
	while (ts_now_ms() < end) {
		for (unsigned i = 0; i < 1000; i++) {
			const uint64_t before = virtq_load(&w.done);
			struct seen s = peek(t, MAX);

			/* Who slept meanwhile cannot tell old numbers from new ones. */
			if (virtq_load(&w.done) - before > NUMBERS / 4)
				continue;
			for (unsigned k = 0; k < s.n; k++)
				late += ((s.addr[k] - VQ_LOW_GPA) / 64 - before) % NUMBERS >
					NUMBERS / 2;
		}
	}
	virtq_store(&w.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(late, 0);
	vq_assert_polite(t);
#endif
}

static const struct vq_test tests[] = {
	{"all_that_is_available", all_that_is_available, 64, 65500, VQ_OVER_LAYOUT},
	{"tables_only", tables_only, 64, 0, VQ_OVER_LAYOUT},
	{"no_more_than_asked_for", no_more_than_asked_for, 256, 0, VQ_OVER_LAYOUT},
	{"nonsense", nonsense, 16, 65530, VQ_OVER_LAYOUT},
	{"nothing_that_was_taken", nothing_that_was_taken, 4, 0, VQ_OVER_FORMAT},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* An lcore that sleeps until the driver kicks: no kick may be missing, and none may be asked for in vain. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vq.h"

#define TIME_MS 1500u

struct lcore {
	struct vq *t;
	int kick_fd;
	bool stop;
	uint64_t sleeps, refused; /* virtq_arm() said yes, and no */
	bool asleep;
};

static void publish_view(struct vq *t)
{
	uint32_t ticket;

	t->view.kicks = true;
	virtq_gate_swap(&t->q->gate, &t->view, &ticket);
}

static void withdraw_view(struct vq *t)
{
	uint32_t ticket;

	virtq_gate_swap(&t->q->gate, NULL, &ticket);
}

/* One chain, if there is one. Outside a burst function, so the gate is not asked. */
static bool complete_one(struct vq *t)
{
	struct virtq_chain chain;

	vq_burst_begin(t);
	if (t->ops->ready(t->q, &t->view, 1) == 0 ||
		!t->ops->take(t->q, &t->view, VIRTQ_FROM_GUEST, t->segs, &chain))
		return false;
	t->ops->give(t->q, &t->view, &chain, 0);
	t->ops->publish(t->q, &t->view);
	return true;
}

static void doze(struct lcore *l)
{
	struct pollfd p = {.fd = l->kick_fd, .events = POLLIN};
	uint64_t n;

	virtq_store(&l->asleep, true);
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	virtq_store(&l->asleep, false);
	if (read(l->kick_fd, &n, sizeof(n)) != sizeof(n))
		virtq_store(&l->stop, true);
}

static void *lcore_main(void *arg)
{
	struct lcore *l = arg;

	while (!virtq_load(&l->stop)) {
		if (complete_one(l->t))
			continue;
		if (!virtq_arm(l->t->q)) {
			l->refused++;
			continue;
		}
		l->sleeps++;
		doze(l);
		virtq_disarm(l->t->q);
	}
	return NULL;
}

/* The chain must come back; nobody kicks again for it. */
static bool await_used(struct vq *t)
{
	const uint64_t end = ts_now_ms() + 5000;

	while (!ts_ring_get_used(t->ring, NULL)) {
		if (ts_now_ms() > end)
			return false;
		virtq_pause();
	}
	return true;
}

static void trap_5_12_no_lost_kicks(struct vq *t)
{
	const struct ts_seg seg = {VQ_LOW_GPA, 64};
	const uint64_t end = ts_now_ms() + TIME_MS, one = 1;
	struct lcore l = {.t = t, .kick_fd = eventfd(0, 0)};
	uint64_t rounds = 0;
	bool lost = false;
	pthread_t thread;

	ts_seed(); /* say it before there are two who might */
	t->ring->kick_fd = l.kick_fd;
	publish_view(t);
	assert_int_equal(pthread_create(&thread, NULL, lcore_main, &l), 0);
	while (!lost && (rounds < 100 || ts_now_ms() < end)) {
		/* Around the moment in which it makes up its mind. */
		for (uint32_t i = ts_rand_below(&t->rng, 400); i > 0; i--)
			virtq_pause();
		if (ts_rand_below(&t->rng, 50) == 0)
			usleep(200);
		ts_ring_add(t->ring, &seg, 1, NULL, 0, t, vq_mode(t));
		ts_ring_kick(t->ring);
		lost = !await_used(t);
		rounds++;
	}
	virtq_store(&l.stop, true);
	assert_int_equal(write(l.kick_fd, &one, sizeof(one)), sizeof(one));
	pthread_join(thread, NULL);
	withdraw_view(t);
	t->ring->kick_fd = -1;
	close(l.kick_fd);
	fprintf(stderr, "# %llu rounds, %llu kicks, %llu sleeps, %llu times there was work\n",
		(unsigned long long)rounds, (unsigned long long)t->ring->n_kicks,
		(unsigned long long)l.sleeps, (unsigned long long)l.refused);
	assert_false(lost);
	assert_true(l.sleeps > 0);
	vq_assert_polite(t);
}

/* While we poll the driver must not pay for kicks; armed, it must, and what is there already counts. */
static void arm_and_disarm(struct vq *t)
{
	const struct ts_seg seg = {VQ_LOW_GPA, 64};

	publish_view(t);
	for (unsigned round = 0; round < 200; round++) {
		ts_ring_add(t->ring, &seg, 1, NULL, 0, t, vq_mode(t));
		assert_false(ts_ring_kick_prepare(t->ring));
		assert_false(virtq_arm(t->q));
		ts_ring_add(t->ring, &seg, 1, NULL, 0, t, vq_mode(t));
		assert_false(ts_ring_kick_prepare(t->ring));
		assert_true(complete_one(t) && complete_one(t));
		assert_true(virtq_arm(t->q));
		ts_ring_add(t->ring, &seg, 1, NULL, 0, t, vq_mode(t));
		assert_true(ts_ring_kick_prepare(t->ring));
		virtq_disarm(t->q);
		assert_true(complete_one(t));
		while (ts_ring_get_used(t->ring, NULL))
			;
	}
	withdraw_view(t);
	vq_assert_polite(t);
}

/* Without a kick eventfd nobody could wake us; a closed ring is woken for by its owner. */
static void who_cannot_kick(struct vq *t)
{
	publish_view(t);
	withdraw_view(t);
	assert_true(virtq_arm(t->q));
	publish_view(t);
	withdraw_view(t);
	t->view.kicks = false;
	virtq_gate_swap(&t->q->gate, &t->view, &(uint32_t){0});
	assert_false(virtq_arm(t->q));
	withdraw_view(t);
	vq_assert_polite(t);
}

static const struct vq_test tests[] = {
	{"trap_5_12_no_lost_kicks", trap_5_12_no_lost_kicks, 16, 65000, VQ_OVER_FORMAT},
	{"trap_5_12_no_lost_kicks", trap_5_12_no_lost_kicks, 16, 65000, VQ_OVER_EVENT_IDX},
	{"arm_and_disarm", arm_and_disarm, 16, 65500, VQ_OVER_ALL},
	{"who_cannot_kick", who_cannot_kick, 16, 0, VQ_OVER_FORMAT},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest to guest without mbufs: what an lcore holds meanwhile, and two of them in opposite directions. */
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "guests.h"

/* Calls that sleep: each holds nothing of the other guest's. */
struct caller {
	struct guests *g;
	rte_spinlock_t lock;
	uint16_t went;
	bool done;
};

static void *calls(void *arg)
{
	struct caller *c = arg;

	c->went = guests_direct(c->g, VIRTQ_BURST, UINT32_MAX, &c->lock);
	virtq_store(&c->done, true);
	return NULL;
}

/* An eventfd that a front-end has made to block whoever writes to it. */
static int full_eventfd(void)
{
	const uint64_t full = UINT64_MAX - 1;
	int fd = eventfd(0, EFD_CLOEXEC);

	assert_int_equal(write(fd, &full, sizeof(full)), sizeof(full));
	return fd;
}

static bool is_inside(const struct virtq *vq)
{
	return virtq_load(&vq->gate.turn) & 1;
}

static void wait_inside(const struct virtq *vq, const struct virtq * not )
{
	for (unsigned i = 0; i < 5000 && (!is_inside(vq) || is_inside(not )); i++)
		usleep(1000);
	usleep(20000);
	assert_true(is_inside(vq));
	assert_false(is_inside(not ));
}

static void calls_hold_nothing(void **state)
{
	const struct column c = guests_column(*state);
	struct guests g;
	struct caller caller = {&g, RTE_SPINLOCK_INITIALIZER, 0, false};
	pthread_t thread;
	uint64_t count;
	int from, to;

	guests_open(&g, &c, &c);
	ts_net_fill_rx(&g.to.net, 1, 2048);
	guests_sends(&g.from, 64, NULL, 0, TS_DIRECT);
	ts_ring_kick(g.from.tx_ring);
	ts_ring_enable_cb(g.from.tx_ring);
	ts_ring_enable_cb(g.to.rx_ring);
	g.from.rx_view.call_fd = from = full_eventfd();
	g.to.tx_view.call_fd = to = full_eventfd();
	assert_int_equal(pthread_create(&thread, NULL, calls, &caller), 0);
	wait_inside(g.from.rx, g.to.tx);
	assert_int_equal(rte_spinlock_is_locked(&caller.lock), 0);
	guests_receives(&g.to, 64, 0); /* nor does the other guest wait for its packet */
	assert_int_equal(read(from, &count, sizeof(count)), sizeof(count));
	wait_inside(g.to.tx, g.from.rx);
	assert_int_equal(read(to, &count, sizeof(count)), sizeof(count));
	pthread_join(thread, NULL);
	assert_true(caller.done);
	assert_int_equal(caller.went, 1);
	assert_int_equal(g.from.rx->stats.calls, 1);
	assert_int_equal(g.to.tx->stats.calls, 1);
	assert_int_equal(rte_spinlock_is_locked(&caller.lock), 0);
	close(from);
	close(to);
	guests_close(&g);
}

/* ---- two lcores, and control ---- */

struct lcore {
	struct guests *g; /* its guests, in its direction */
	rte_spinlock_t *lock;
	bool stop;
};

static void *lcore(void *arg)
{
	struct lcore *l = arg;

	while (!virtq_load(&l->stop))
		guests_direct(l->g, VIRTQ_BURST, UINT32_MAX, l->lock);
	return NULL;
}

/* Control takes each ring's view away, waits until nobody is in it, and gives it back. */
static void take_away(struct virtq *vq)
{
	struct virtq_view *view;
	uint32_t ticket;

	view = virtq_gate_swap(&vq->gate, NULL, &ticket);
	assert_int_equal(virtq_gate_wait(&vq->gate, ticket, 5000), 0);
	virtq_gate_swap(&vq->gate, view, &ticket);
}

static void pass_some(struct pair *from, struct pair *to, uint32_t round)
{
	const unsigned n = 1 + round % 9;

	assert_int_equal(ts_net_fill_rx(&to->net, n, 2048), n);
	for (uint32_t i = 0; i < n; i++)
		guests_sends(from, 60 + round, NULL, i, TS_DIRECT);
	ts_ring_kick(from->tx_ring);
	take_away(round % 2 ? from->rx : to->tx);
	for (uint32_t i = 0; i < n; i++) {
		assert_true(TS_WAIT(ts_ring_more_used(to->rx_ring), 5000));
		guests_receives(to, 60 + round, i);
	}
	assert_true(TS_WAIT(ts_net_reap(&from->net) == n || from->tx_ring->n_out == 0, 5000));
}

static void both_ways_at_once(void **state)
{
	const struct column c = guests_column(*state);
	rte_spinlock_t lock[2] = {RTE_SPINLOCK_INITIALIZER, RTE_SPINLOCK_INITIALIZER};
	struct guests g, back;
	struct lcore l[2] = {{&g, &lock[0], false}, {&back, &lock[1], false}};
	pthread_t thread[2];

	guests_open(&g, &c, &c);
	back = (struct guests){g.to, g.from}; /* the same rings */
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, lcore, &l[i]), 0);
	for (uint32_t round = 0; round < 200; round++) {
		pass_some(&g.from, &g.to, round);
		pass_some(&g.to, &g.from, round);
	}
	for (unsigned i = 0; i < 2; i++) {
		virtq_store(&l[i].stop, true);
		pthread_join(thread[i], NULL);
	}
	guests_close(&g);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_hold_nothing),
		cmocka_unit_test(both_ways_at_once),
	};

	return pair_run(tests, RTE_DIM(tests), argc, argv);
}

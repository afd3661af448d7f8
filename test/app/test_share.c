/* SPDX-License-Identifier: BSD-3-Clause */
/* Shares of an lcore: a worker's rounds under a clock that only its polls move. */
#include <string.h>

#include <rte_cycles.h>

#include "ts_tap.h"

static uint64_t clock_now = 1;

#define rte_rdtsc() clock_now
#include "share.c"
#include "worker.c"

#define US    1000u /* cycles in a microsecond */
#define PORTS 40
#define IDLE  20u /* cycles of a poll that finds nothing */

/* What the guest behind a port does. */
struct guest {
	uint64_t cost;    /* cycles of a full burst; of its delivery besides */
	uint64_t every;   /* a packet comes after so many cycles; 0: there is always a burst */
	uint16_t packets; /* in a full burst; 0: chains that are dropped */
	bool device;

	uint64_t next, waited; /* when the next packet comes; the longest any of them waited */
	uint64_t polls, spent; /* that found something; cycles of these and of deliveries */
};

static struct guest guests[PORTS];
static struct worker_port ports[PORTS];
static struct worker worker;
static struct stream streams[PORTS];
static struct port_rxq queues[PORTS];
static struct outlet outlets[PORTS];
static uint16_t working[PORTS], left_out[PORTS];
static union {
	struct plan plan;
	char room[sizeof(struct plan) + sizeof(struct plan_worker)];
} all;
static struct plan_worker *const work = &all.plan.workers[0];
static uint16_t owes; /* who has sent what is to be delivered; PORTS: nobody */
static uint64_t delivery;

static uint16_t poll(struct worker *w, const struct plan *plan, const struct stream *st)
{
	struct guest *g = &guests[st->port];
	uint16_t n = RTE_MIN(g->packets, w->burst);
	uint64_t cost = g->packets ? g->cost * n / g->packets : g->cost;

	if (g->every && clock_now < g->next) {
		clock_now += IDLE;
		return 0;
	}
	if (g->every) {
		g->waited = RTE_MAX(g->waited, clock_now - g->next);
		g->next = clock_now + g->every;
	}
	w->n_dirty += st->port == owes;
	clock_now += cost;
	g->spent += cost;
	g->polls++;
	return n;
}

static const struct engine engine = {.poll = poll};

/* ---- what worker.c needs of others ---- */

uint64_t forward_flush_all(struct worker *w, const struct plan *plan)
{
	w->n_dirty = 0;
	clock_now += delivery;
	guests[owes].spent += delivery;
	worker_charge(w, owes, worker_lap(w));
	return delivery;
}

void forward_reclaim(struct worker *w, const struct plan *plan)
{
}

void worker_sleep(struct worker *w, const struct plan *plan)
{
}

int worker_sleep_init(struct worker *w)
{
	return 0;
}

void worker_sleep_fini(struct worker *w)
{
}

uint64_t worker_asleep(const struct worker *w, uint64_t at)
{
	return 0;
}

void workers_ring(const struct sluice *sl)
{
}

struct rte_mempool *sluice_pool(const struct sluice *sl, int node)
{
	return NULL;
}

struct port *port_next(const struct sluice *sl, const struct port *prev)
{
	return NULL;
}

/* ---- running it ---- */

static void set_up(uint32_t share_us)
{
	memset(guests, 0, sizeof(guests));
	memset(ports, 0, sizeof(ports));
	memset(&worker, 0, sizeof(worker));
	worker.ports = ports;
	worker.working = working;
	worker.left_out = left_out;
	worker.us = US;
	all.plan.engine = &engine;
	all.plan.conf = (struct engine_conf){.burst = 64, .share_us = share_us};
	*work = (struct plan_worker){.streams = streams, .outlets = outlets};
	owes = PORTS;
}

static void add(struct guest g)
{
	uint32_t i = work->n_streams++;

	guests[i] = g;
	queues[i] = (struct port_rxq){0};
	outlets[i].kind = g.device ? PORT_DEV : PORT_VM;
	streams[i] = (struct stream){.port = (uint16_t)i, .q = &queues[i]};
	streams[i].rx.kind = outlets[i].kind;
}

static void run(uint64_t cycles)
{
	for (uint64_t end = clock_now + cycles; clock_now < end;)
		worker_iterate(&worker, &all.plan);
}

static uint64_t spent(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < work->n_streams; i++)
		sum += guests[i].spent;
	return sum;
}

static const struct guest small = {.cost = 5 * US, .packets = 64};
static const struct guest dear = {.cost = 200 * US, .packets = 64};

/* Those that cost the same are polled as often, none of them is put off, no cycle is lost. */
static void test_equals_are_not_put_off(void **state)
{
	set_up(SHARE_US);
	for (unsigned i = 0; i < 8; i++)
		add(small);
	run(8000 * 5 * US);
	for (unsigned i = 0; i < 8; i++) {
		assert_in_range(guests[i].polls, 999, 1001);
		assert_int_equal(ports[i].left_out, 0);
	}
}

static void test_alone(void **state)
{
	set_up(SHARE_US);
	add(dear);
	for (unsigned i = 0; i < 8; i++)
		add((struct guest){.every = UINT64_MAX, .next = UINT64_MAX});
	run(1000 * 200 * US);
	assert_in_range(guests[0].polls, 998, 1000);
	assert_int_equal(ports[0].left_out, 0);
}

/* Who costs forty times as much gets the same part of the lcore, and all of it is used. */
static void test_dear_among_small(void **state)
{
	const uint64_t cycles = 100000 * US;

	set_up(SHARE_US);
	for (unsigned i = 0; i < 3; i++)
		add(small);
	add(dear);
	run(cycles);
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(guests[i].spent, cycles * 24 / 100, cycles * 26 / 100);
	assert_true(ports[3].left_out > 1000);
	assert_true(spent() * 100 > cycles * 98);
}

/* The same without: it has nine tenths. */
static void test_switched_off(void **state)
{
	const uint64_t cycles = 100000 * US;
	uint64_t before;

	set_up(0);
	for (unsigned i = 0; i < 3; i++)
		add(small);
	add(dear);
	run(cycles);
	assert_true(guests[3].spent > cycles * 9 / 10);
	assert_int_equal(ports[3].left_out, 0);
	set_up(SHARE_US);
	for (unsigned i = 0; i < 3; i++)
		add(small);
	add(dear);
	run(cycles / 10);
	assert_true(ports[3].left_out > 0);
	all.plan.conf.share_us = 0;
	run(1000 * US);
	before = ports[3].left_out;
	run(cycles / 10);
	assert_int_equal(ports[3].left_out, before);
	assert_int_equal(worker.n_left_out + worker.n_halved, 0);
}

/* Chains that are dropped cost, too. */
static void test_for_nothing(void **state)
{
	const uint64_t cycles = 100000 * US;

	set_up(SHARE_US);
	add(small);
	add((struct guest){.cost = 200 * US});
	run(cycles);
	assert_in_range(guests[0].spent, cycles * 48 / 100, cycles * 52 / 100);
}

/* A packet waits for a part of a dear burst, not for thirty; and what the others do is no less. */
static void test_a_light_neighbour(void **state)
{
	const uint64_t cycles = 300000 * US;
	uint64_t waited[2], others[2];

	for (unsigned off = 0; off < 2; off++) {
		set_up(off ? 0 : SHARE_US);
		add((struct guest){.cost = US, .packets = 1, .every = 100 * US});
		for (unsigned i = 0; i < 30; i++)
			add(dear);
		run(cycles / 3); /* it takes a while to know them */
		guests[0].waited = 0;
		run(cycles);
		waited[off] = guests[0].waited;
		others[off] = spent() - guests[0].spent;
	}
	assert_true(waited[1] > 30 * 190 * US);
	assert_true(waited[0] < 3 * SHARE_US * US);
	assert_true(others[0] * 100 > others[1] * 95);
}

/* Who sends pays for the delivery. */
static void test_deliveries(void **state)
{
	const uint64_t cycles = 100000 * US;

	set_up(SHARE_US);
	add(small);
	add(small);
	owes = 1;
	delivery = 50 * US;
	run(cycles);
	assert_in_range(guests[0].spent, cycles * 40 / 100, cycles * 60 / 100);
	assert_true(ports[1].left_out > 100);
	assert_int_equal(ports[0].left_out, 0);
}

/* A device brings what is for all: it is polled in every round, and others wait for it. */
static void test_a_device(void **state)
{
	const uint64_t cycles = 100000 * US;

	set_up(SHARE_US);
	add((struct guest){.cost = 20 * US, .packets = 64, .device = true});
	for (unsigned i = 0; i < 4; i++)
		add(dear);
	run(cycles);
	assert_int_equal(ports[0].left_out, 0);
	assert_true(guests[0].spent * 100 > cycles * 19);
}

/* A worker that was interrupted for long in a poll does not make its port pay all of it. */
static void test_an_interruption(void **state)
{
	const uint64_t long_time = 1000000 * US;

	set_up(SHARE_US);
	add(small);
	add(small);
	run(1000 * US);
	guests[1].cost = long_time;
	run(1);
	guests[1].cost = small.cost;
	guests[1].polls = 0;
	run(20000 * US);
	assert_true(guests[1].polls > 1000);
}

/* Who has nothing to do when it may go on again has no debts. */
static void test_forgiven(void **state)
{
	set_up(SHARE_US);
	add((struct guest){.cost = US, .packets = 1, .every = 100 * US});
	add(dear);
	run(10000 * US);
	assert_true(ports[1].share.left_out);
	guests[1].every = guests[1].next = UINT64_MAX;
	run(1000 * US);
	assert_false(ports[1].share.left_out);
	assert_int_equal(ports[1].share.debt, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equals_are_not_put_off),
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_dear_among_small),
		cmocka_unit_test(test_switched_off),
		cmocka_unit_test(test_for_nothing),
		cmocka_unit_test(test_a_light_neighbour),
		cmocka_unit_test(test_deliveries),
		cmocka_unit_test(test_a_device),
		cmocka_unit_test(test_an_interruption),
		cmocka_unit_test(test_forgiven),
	};

	return ts_run_tests(tests, RTE_DIM(tests), argc, argv);
}

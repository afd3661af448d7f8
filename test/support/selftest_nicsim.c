/* SPDX-License-Identifier: BSD-3-Clause */
/* The NIC for tests: that it holds, reads and frees mbufs as it says, and counts what others do wrong. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_bus_vdev.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_string_fns.h>

#include "nicsim.h"
#include "ts_tap.h"
#include "ts_util.h"

#define RING 128
#define LEN  300

static struct rte_mempool *pool, *other_pool;

static struct test {
	uint16_t port;
	uint32_t seq;
} test;

/* ---- a port ---- */

static void port_probe(struct test *t, const char *args)
{
	assert_int_equal(rte_vdev_init("net_nicsim0", args), 0);
	assert_int_equal(rte_eth_dev_get_port_by_name("net_nicsim0", &t->port), 0);
}

static void port_start(struct test *t, uint64_t offloads, uint16_t free_thresh)
{
	struct rte_eth_conf conf = {.txmode.offloads = offloads};
	struct rte_eth_txconf tx = {.offloads = offloads, .tx_free_thresh = free_thresh};

	assert_int_equal(rte_eth_dev_configure(t->port, 1, 1, &conf), 0);
	assert_int_equal(rte_eth_rx_queue_setup(t->port, 0, RING, 0, NULL, pool), 0);
	assert_int_equal(rte_eth_tx_queue_setup(t->port, 0, RING, 0, &tx), 0);
	assert_int_equal(rte_eth_dev_start(t->port), 0);
}

static void port_open(struct test *t, const char *args)
{
	port_probe(t, args);
	port_start(t, 0, 0);
}

static void expect(struct test *t, const char *name, uint64_t value)
{
	uint64_t is = nicsim_stat(t->port, name);

	if (is != value)
		fail_msg("%s is %llu, not %llu", name, (unsigned long long)is,
			(unsigned long long)value);
}

/* ---- traffic ---- */

static struct rte_mbuf *make(struct test *t)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	assert_non_null(m);
	nicsim_frame(rte_pktmbuf_append(m, LEN), LEN, t->seq++);
	return m;
}

static uint16_t send_one(struct test *t, struct rte_mbuf *m)
{
	uint16_t n = rte_eth_tx_burst(t->port, 0, &m, 1);

	if (!n)
		rte_pktmbuf_free(m);
	return n;
}

static unsigned send_some(struct test *t, unsigned n)
{
	unsigned sent = 0;

	for (unsigned i = 0; i < n; i++)
		sent += send_one(t, make(t));
	return sent;
}

/* ---- cases ---- */

static void test_holds_until_threshold(void **state)
{
	struct test *t = &test;

	(void)state;
	port_open(t, "");
	assert_int_equal(send_some(t, 96), 96);
	assert_int_equal(nicsim_tx_held(t->port, 0), 96);
	assert_int_equal(rte_mempool_in_use_count(pool), 96);
	expect(t, "tx_pending", 1); /* nobody has polled since the last */
	assert_int_equal(send_some(t, 1), 1);
	assert_int_equal(nicsim_tx_held(t->port, 0), 97 - 32);
	assert_int_equal(rte_eth_tx_done_cleanup(t->port, 0, 0), 64);
	assert_int_equal(nicsim_tx_held(t->port, 0), 1);
	expect(t, "tx_marked_good", 97);
	expect(t, "tx_changed", 0);
}

static void test_stall(void **state)
{
	struct test *t = &test;

	(void)state;
	port_open(t, "");
	assert_int_equal(nicsim_stall(t->port, true), 0);
	assert_int_equal(send_some(t, RING + 10), RING - 1);
	expect(t, "tx_refused", 11);
	expect(t, "tx_pending", RING - 1);
	assert_int_equal(rte_eth_tx_done_cleanup(t->port, 0, 0), 0);
	assert_int_equal(nicsim_stall(t->port, false), 0);
	assert_int_equal(send_some(t, 10), 10);
	expect(t, "tx_marked_good", RING - 1 + 9);
	assert_int_equal(rte_eth_dev_tx_queue_stop(t->port, 0), 0);
	assert_int_equal(rte_mempool_in_use_count(pool), 0);
	expect(t, "tx_dropped", 1);
}

static void test_changed(void **state)
{
	struct test *t = &test;
	struct rte_mbuf *m;

	(void)state;
	port_open(t, "");
	m = make(t);
	assert_int_equal(send_one(t, m), 1);
	*rte_pktmbuf_mtod_offset(m, uint8_t *, LEN - 1) ^= 1;
	assert_int_equal(nicsim_poll(t->port), 0);
	expect(t, "tx_changed", 1);
	expect(t, "tx_marked_bad", 1);
	m = make(t);
	assert_int_equal(send_one(t, m), 1);
	m->data_off += 2;
	assert_int_equal(nicsim_poll(t->port), 0);
	expect(t, "tx_mbuf_changed", 1);
	m->data_off -= 2;
}

/* ---- fixture ---- */

static int setup(void **state)
{
	(void)state;
	memset(&test, 0, sizeof(test));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rte_vdev_uninit("net_nicsim0");
	return rte_mempool_in_use_count(pool) + rte_mempool_in_use_count(other_pool) != 0;
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	static char line[] = "nicsim --no-huge -m 64 --no-pci --no-shconf --no-telemetry -l 0 "
			     "--log-level error";
	const struct CMUnitTest tests[] = {
		CASE(test_holds_until_threshold),
		CASE(test_stall),
		CASE(test_changed),
	};
	char *eal[16];
	int neal = rte_strsplit(line, sizeof(line), eal, RTE_DIM(eal), ' '), err = 1;

	if (rte_eal_init(neal, eal) < 0)
		return 1;
	pool = rte_pktmbuf_pool_create("a", 2047, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	other_pool = rte_pktmbuf_pool_create(
		"b", 63, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (pool && other_pool)
		err = ts_run_tests(tests, RTE_DIM(tests), argc, argv);
	rte_mempool_free(pool);
	rte_mempool_free(other_pool);
	return rte_eal_cleanup() != 0 || err;
}

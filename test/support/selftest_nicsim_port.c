/* SPDX-License-Identifier: BSD-3-Clause */
/* nicsim ports and what they send, for its own tests. */
#include "selftest_nicsim_port.h"

#include <stdio.h>

#include <rte_bus_vdev.h>
#include <rte_eal.h>
#include <rte_string_fns.h>

struct rte_mempool *tx_pool, *rx_pool, *other_pool;

static uint32_t next_seq;

/* ---- ports ---- */

static const char *name_of(unsigned i)
{
	static char name[16];

	snprintf(name, sizeof(name), "net_nicsim%u", i);
	return name;
}

uint16_t port_probe(unsigned i, const char *args)
{
	uint16_t port;

	assert_int_equal(rte_vdev_init(name_of(i), args), 0);
	assert_int_equal(rte_eth_dev_get_port_by_name(name_of(i), &port), 0);
	return port;
}

void port_start(uint16_t port, const struct port_conf *c)
{
	const struct rte_eth_conf conf = {
		.txmode.offloads = c->tx_offloads,
		.rxmode.offloads = c->rx_offloads,
		.intr_conf.lsc = c->lsc,
	};
	const struct rte_eth_txconf tx = {
		.offloads = c->tx_offloads,
		.tx_free_thresh = c->free_thresh,
		.tx_deferred_start = c->deferred,
	};

	assert_int_equal(rte_eth_dev_configure(port, QUEUES, QUEUES, &conf), 0);
	for (uint16_t q = 0; q < QUEUES; q++) {
		assert_int_equal(rte_eth_rx_queue_setup(port, q, RING, 0, NULL, rx_pool), 0);
		assert_int_equal(rte_eth_tx_queue_setup(port, q, RING, 0, &tx), 0);
	}
	assert_int_equal(rte_eth_dev_start(port), 0);
}

uint16_t port_open(unsigned i, const char *args)
{
	uint16_t port = port_probe(i, args);

	port_start(port, &(struct port_conf){0});
	return port;
}

void expect(uint16_t port, const char *name, uint64_t value)
{
	uint64_t is = nicsim_stat(port, name);

	if (is != value)
		fail_msg("port %u: %s is %lld, not %llu", port, name, (long long)is,
			(unsigned long long)value);
}

/* ---- traffic ---- */

struct rte_mbuf *make_chain(uint32_t len, uint32_t segs)
{
	struct rte_mbuf *m = NULL, *seg;
	uint8_t frame[9728];

	assert_true(len <= sizeof(frame) && len % segs == 0);
	nicsim_frame(frame, len, next_seq++);
	for (uint32_t i = segs; i-- > 0; m = seg) {
		seg = rte_pktmbuf_alloc(tx_pool);
		assert_non_null(seg);
		memcpy(rte_pktmbuf_append(seg, (uint16_t)(len / segs)), frame + i * (len / segs),
			len / segs);
		if (m)
			assert_int_equal(rte_pktmbuf_chain(seg, m), 0);
	}
	return m;
}

struct rte_mbuf *make(uint32_t len)
{
	return make_chain(len, 1);
}

bool send_one(uint16_t port, uint16_t queue, struct rte_mbuf *m)
{
	if (rte_eth_tx_burst(port, queue, &m, 1) == 1)
		return true;
	rte_pktmbuf_free(m);
	return false;
}

unsigned send_some(uint16_t port, unsigned n)
{
	unsigned sent = 0;

	for (unsigned i = 0; i < n; i++)
		sent += send_one(port, 0, make(LEN));
	return sent;
}

unsigned in_use(void)
{
	return rte_mempool_in_use_count(tx_pool);
}

/* ---- programs ---- */

int nicsim_setup(void **state)
{
	(void)state;
	next_seq = 0;
	return 0;
}

int nicsim_teardown(void **state)
{
	unsigned left;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		rte_vdev_uninit(name_of(i));
	left = in_use() + rte_mempool_in_use_count(rx_pool) + rte_mempool_in_use_count(other_pool);
	if (left)
		fprintf(stderr, "%u mbufs are left\n", left);
	return left != 0;
}

int nicsim_main(const struct CMUnitTest *tests, size_t n, int argc, char **argv)
{
	static char line[] = "nicsim --no-huge -m 64 --no-pci --no-shconf --no-telemetry -l 0 "
			     "--log-level error --log-level pmd.net.nicsim:critical";
	const uint16_t room = RTE_MBUF_DEFAULT_BUF_SIZE;
	char *eal[16];
	int neal = rte_strsplit(line, sizeof(line), eal, RTE_DIM(eal), ' '), err = 1;

	if (rte_eal_init(neal, eal) < 0)
		return 1;
	tx_pool = rte_pktmbuf_pool_create("tx", 1023, 0, 0, room, SOCKET_ID_ANY);
	rx_pool = rte_pktmbuf_pool_create("rx", 1023, 0, 0, room, SOCKET_ID_ANY);
	other_pool = rte_pktmbuf_pool_create("other", 63, 0, 0, room, SOCKET_ID_ANY);
	if (tx_pool && rx_pool && other_pool)
		err = ts_run_tests(tests, n, argc, argv);
	rte_mempool_free(tx_pool);
	rte_mempool_free(rx_pool);
	rte_mempool_free(other_pool);
	return rte_eal_cleanup() != 0 || err;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The receive side of the NIC for tests, and what goes from one to another. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <rte_bus_vdev.h>

#include "selftest_nicsim_port.h"

static unsigned rx_in_use(void)
{
	return rte_mempool_in_use_count(rx_pool);
}

/* Take what there is on a queue; all of it must be right, numbered from `seq`. How many. */
static unsigned receive(uint16_t port, uint16_t queue, uint32_t len, uint32_t seq)
{
	struct rte_mbuf *pkts[32];
	unsigned n = 0;
	uint16_t got;

	while ((got = rte_eth_rx_burst(port, queue, pkts, RTE_DIM(pkts))) != 0) {
		for (uint16_t i = 0; i < got; i++, n++) {
			uint8_t copy[9728];
			const void *p = rte_pktmbuf_read(pkts[i], 0, len, copy);
			uint32_t is;

			assert_int_equal(pkts[i]->pkt_len, len);
			assert_int_equal(pkts[i]->port, port);
			assert_int_equal(nicsim_verify(p, len, &is), NICSIM_GOOD);
			assert_int_equal(is, seq + n);
		}
		rte_pktmbuf_free_bulk(pkts, got);
	}
	return n;
}

static unsigned inject(uint16_t port, unsigned n, uint32_t len)
{
	uint8_t frame[9728];
	unsigned in = 0;

	for (unsigned i = 0; i < n; i++) {
		nicsim_frame(frame, len, i);
		in += nicsim_inject(port, 0, frame, len) == 0;
	}
	return in;
}

/* ---- buffers ---- */

static void test_buffers_wait(void **state)
{
	uint16_t port = port_open(0, "");
	struct rte_mbuf *m[40];

	(void)state;
	assert_int_equal(rx_in_use(), QUEUES * RING); /* taken before anything comes */
	expect(port, "rx_posted", QUEUES * RING);
	assert_int_equal(inject(port, 40, LEN), 40);
	assert_int_equal(rte_eth_rx_queue_count(port, 0), 40);
	assert_int_equal(rte_eth_rx_descriptor_status(port, 0, 39), RTE_ETH_RX_DESC_DONE);
	assert_int_equal(rte_eth_rx_descriptor_status(port, 0, 40), RTE_ETH_RX_DESC_AVAIL);
	assert_int_equal(rte_eth_rx_burst(port, 0, m, 31), 31);
	assert_int_equal(rx_in_use(), QUEUES * RING); /* not yet worth the trouble */
	assert_int_equal(rte_eth_rx_burst(port, 0, m + 31, 1), 1);
	assert_int_equal(rx_in_use(), QUEUES * RING + 32); /* in bulk */
	rte_pktmbuf_free_bulk(m, 32);
	assert_int_equal(receive(port, 0, LEN, 32), 8);
	assert_int_equal(rte_eth_dev_rx_queue_stop(port, 0), 0);
	assert_int_equal(rx_in_use(), RING);
	assert_int_equal(inject(port, 1, LEN), 0);
	assert_int_equal(rte_eth_dev_rx_queue_start(port, 0), 0);
	assert_int_equal(inject(port, 1, LEN), 1);
	assert_int_equal(rte_eth_dev_stop(port), 0);
	assert_int_equal(rx_in_use(), 0);
}

static void test_no_buffers(void **state)
{
	uint16_t port = port_open(0, "");
	struct rte_mbuf *all[1023];
	unsigned n = 1023 - rx_in_use();

	(void)state;
	assert_int_equal(inject(port, RING + 5, LEN), RING);
	expect(port, "rx_missed", 5);
	assert_int_equal(rte_pktmbuf_alloc_bulk(rx_pool, all, n), 0);
	assert_int_equal(receive(port, 0, LEN, 0), RING); /* of which the last came back too late */
	assert_true(nicsim_stat(port, "rx_no_mbuf") > 0);
	rte_pktmbuf_free_bulk(all, n);
	assert_int_equal(receive(port, 0, LEN, 0), 0);
	expect(port, "rx_posted", QUEUES * RING);

	/* A queue does not start with half its buffers. */
	assert_int_equal(rte_eth_dev_stop(port), 0);
	n = 1023 - RING / 2;
	assert_int_equal(rte_pktmbuf_alloc_bulk(rx_pool, all, n), 0);
	assert_int_equal(rte_eth_dev_start(port), -ENOMEM);
	rte_pktmbuf_free_bulk(all, n);
	assert_int_equal(rx_in_use(), 0);
}

static void test_sizes(void **state)
{
	uint16_t port = port_open(0, "");

	(void)state;
	assert_int_equal(inject(port, 1, 1522), 1); /* MTU 1500, two VLAN tags */
	assert_int_equal(receive(port, 0, 1522, 0), 1);
	assert_int_equal(inject(port, 1, 1523), 0);
	assert_int_equal(rte_eth_dev_stop(port), 0);
	assert_int_equal(rte_eth_dev_set_mtu(port, 9000), 0);
	assert_int_equal(rte_eth_dev_set_mtu(port, 9217), -EINVAL);
	assert_int_equal(rte_eth_dev_start(port), 0);
	assert_int_equal(inject(port, 1, 2048), 1);
	assert_int_equal(receive(port, 0, 2048, 0), 1);
	assert_int_equal(inject(port, 1, 2049), 0); /* one buffer each, without SCATTER */
	expect(port, "rx_oversize", 2);

	assert_int_equal(rte_eth_dev_stop(port), 0);
	port_start(port, &(struct port_conf){.rx_offloads = RTE_ETH_RX_OFFLOAD_SCATTER});
	assert_int_equal(rte_eth_dev_set_mtu(port, 9000), 0);
	assert_int_equal(inject(port, 50, 9000), RING / 5); /* 5 buffers each */
	assert_int_equal(receive(port, 0, 9000, 0), RING / 5);
}

static void test_generator(void **state)
{
	uint16_t port = port_open(0, "rxgen=20,rxlen=600");
	struct rte_mbuf *m[32];

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		assert_int_equal(rte_eth_rx_burst(port, 0, m, 32), 20);
		for (unsigned i = 0; i < 20; i++) {
			uint32_t seq;

			assert_int_equal(nicsim_verify(rte_pktmbuf_mtod(m[i], void *), 600, &seq),
				NICSIM_GOOD);
			assert_int_equal(seq, 20 * round + i);
		}
		rte_pktmbuf_free_bulk(m, 20);
	}
	expect(port, "rx_missed", 0);
}

/* ---- from one to another ---- */

static void test_pair(void **state)
{
	uint16_t a = port_open(0, "peer=net_nicsim1"), b;

	(void)state;
	assert_int_equal(send_some(a, 2), 2);
	assert_int_equal(nicsim_poll(a), 0);
	expect(a, "tx_undelivered", 2); /* there is none yet */
	b = port_open(1, "peer=net_nicsim0");
	assert_int_equal(send_some(a, 60), 60);
	assert_int_equal(receive(b, 0, LEN, 2), 60); /* polling this end is enough */
	assert_int_equal(receive(b, 1, LEN, 0), 0);
	assert_true(send_one(a, 1, make(LEN)));
	assert_int_equal(receive(b, 1, LEN, 62), 1);
	assert_true(send_one(b, 0, make(LEN)));
	assert_int_equal(receive(a, 0, LEN, 63), 1);
	expect(a, "tx_undelivered", 2);

	assert_int_equal(rte_eth_dev_stop(b), 0);
	assert_int_equal(send_some(a, 1), 1);
	assert_int_equal(nicsim_poll(a), 0);
	expect(a, "tx_undelivered", 3);
	assert_int_equal(rte_eth_dev_close(b), 0);
	assert_int_equal(send_some(a, 1), 1);
	assert_int_equal(nicsim_poll(a), 0);
	expect(a, "tx_undelivered", 4);
}

/* To itself: the frame is copied when it is due, not when it is posted. */
static void test_self(void **state)
{
	uint16_t port = port_probe(0, "peer=net_nicsim0");
	struct rte_mbuf *m;

	(void)state;
	port_start(port, &(struct port_conf){.tx_offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS});
	m = make_chain(LEN, 3);
	nicsim_frame(rte_pktmbuf_mtod(m, void *), LEN / 3, 0); /* other bytes than what follows */
	assert_true(send_one(port, 0, m));
	nicsim_frame(rte_pktmbuf_mtod(m, void *), LEN / 3, 1);
	assert_int_equal(rte_eth_rx_burst(port, 0, &m, 1), 1);
	expect(port, "tx_changed", 1);
	assert_int_equal(nicsim_verify(rte_pktmbuf_mtod(m, void *), LEN / 3, NULL), NICSIM_GOOD);
	rte_pktmbuf_free(m);
	for (unsigned i = 0; i < 1000; i++) {
		struct rte_mbuf *chain = make_chain(1500, 1 + i % 3);

		assert_true(send_one(port, i % QUEUES, chain));
		assert_int_equal(receive(port, i % QUEUES, 1500, i + 1), 1);
	}
	expect(port, "tx_changed", 1);
}

/* ---- all at once ---- */

static struct all {
	uint16_t a, b;
	uint64_t sent, received;
	bool interfered, sent_all, stop;
} all;

static bool load(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static void *sender(void *arg)
{
	(void)arg;
	while (all.sent < 5000) {
		struct rte_mbuf *m;

		if (all.sent == 4000 && !load(&all.interfered)) {
			ts_nap();
			continue;
		}
		m = rte_pktmbuf_alloc(tx_pool);

		if (!m)
			continue;
		nicsim_frame(rte_pktmbuf_append(m, LEN), LEN, (uint32_t)all.sent);
		all.sent += send_one(all.a, 0, m);
	}
	__atomic_store_n(&all.sent_all, true, __ATOMIC_RELEASE);
	return NULL;
}

static void *receiver(void *arg)
{
	struct rte_mbuf *pkts[32];

	(void)arg;
	while (!load(&all.stop)) {
		uint16_t n = rte_eth_rx_burst(all.b, 0, pkts, RTE_DIM(pkts));

		rte_pktmbuf_free_bulk(pkts, n);
		__atomic_fetch_add(&all.received, n, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* Ends on different threads, a third one interferes, a fourth comes and goes. */
static void test_all_at_once(void **state)
{
	pthread_t threads[2];
	unsigned rounds = 0;

	(void)state;
	all = (struct all){.a = port_open(0, "peer=net_nicsim1"), .b = port_open(1, "")};
	assert_int_equal(pthread_create(&threads[0], NULL, sender, NULL), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, receiver, NULL), 0);
	for (; !load(&all.sent_all); rounds++) {
		uint16_t c = port_open(2, "peer=net_nicsim1");

		assert_int_equal(nicsim_stall(all.a, rounds % 2), 0);
		assert_int_equal(nicsim_delay(all.a, rounds % 3 * 100), 0);
		rte_eth_tx_done_cleanup(all.a, 1, 0);
		send_one(c, 1, make(LEN)); /* to a queue nobody reads */
		assert_int_equal(rte_vdev_uninit("net_nicsim2"), 0);
		assert_int_equal(nicsim_stall(all.a, false), 0);
		if (rounds == 3)
			__atomic_store_n(&all.interfered, true, __ATOMIC_RELEASE);
	}
	assert_true(TS_WAIT(nicsim_stat(all.a, "tx_pending") == 0, 5000));
	expect(all.a, "tx_marked_good", 5000);
	assert_true(TS_WAIT(__atomic_load_n(&all.received, __ATOMIC_ACQUIRE) +
					    nicsim_stat(all.a, "tx_undelivered") ==
				    5000,
		5000));
	__atomic_store_n(&all.stop, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	expect(all.a, "tx_changed", 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(test_buffers_wait),
		CASE(test_no_buffers),
		CASE(test_sizes),
		CASE(test_generator),
		CASE(test_pair),
		CASE(test_self),
		CASE(test_all_at_once),
	};

	return nicsim_main(tests, RTE_DIM(tests), argc, argv);
}

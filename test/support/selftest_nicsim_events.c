/* SPDX-License-Identifier: BSD-3-Clause */
/* Cables that are pulled and devices that fail, as an application hears of it. */
#include <errno.h>

#include "selftest_nicsim_port.h"

static struct heard {
	unsigned lsc, reset;
	bool close; /* in the callback */
} heard;

static int on_event(uint16_t port, enum rte_eth_event_type type, void *arg, void *ret)
{
	(void)arg, (void)ret;
	if (heard.close) {
		rte_eth_dev_stop(port);
		rte_eth_dev_close(port);
	}
	__atomic_add_fetch(
		type == RTE_ETH_EVENT_INTR_LSC ? &heard.lsc : &heard.reset, 1, __ATOMIC_RELEASE);
	return 0;
}

static bool is(const unsigned *counter, unsigned n)
{
	return __atomic_load_n(counter, __ATOMIC_ACQUIRE) == n;
}

static uint16_t open_listening(void)
{
	uint16_t port = port_probe(0, "");

	heard = (struct heard){0};
	assert_int_equal(
		rte_eth_dev_callback_register(port, RTE_ETH_EVENT_INTR_LSC, on_event, NULL), 0);
	assert_int_equal(
		rte_eth_dev_callback_register(port, RTE_ETH_EVENT_INTR_RESET, on_event, NULL), 0);
	port_start(port, &(struct port_conf){.lsc = true});
	return port;
}

static unsigned link_of(uint16_t port)
{
	struct rte_eth_link link;

	assert_int_equal(rte_eth_link_get_nowait(port, &link), 0);
	return link.link_status;
}

static void test_link(void **state)
{
	uint16_t port = open_listening();

	(void)state;
	assert_int_equal(link_of(port), RTE_ETH_LINK_UP);
	assert_int_equal(nicsim_link(port, false), 0);
	assert_true(TS_WAIT(is(&heard.lsc, 1), 5000));
	assert_int_equal(link_of(port), RTE_ETH_LINK_DOWN);
	assert_int_equal(send_some(port, 200), RING - 1); /* held, not sent */
	expect(port, "tx_sent_packets", 0);
	assert_int_equal(rte_eth_dev_set_link_up(port), 0);
	assert_true(TS_WAIT(is(&heard.lsc, 2), 5000));
	assert_int_equal(nicsim_link(port, true), 0); /* no news */
	assert_int_equal(nicsim_poll(port), 0);
	expect(port, "tx_marked_good", RING - 1);
	assert_true(is(&heard.lsc, 2));
}

static void test_failure(void **state)
{
	uint16_t port = open_listening();

	(void)state;
	assert_int_equal(send_some(port, 50), 50);
	assert_int_equal(nicsim_fail(port), 0);
	assert_true(TS_WAIT(is(&heard.reset, 1), 5000));
	assert_int_equal(send_some(port, 1), 0);
	assert_int_equal(nicsim_poll(port), 0);
	expect(port, "tx_sent_packets", 49);
	assert_int_equal(rte_eth_tx_done_cleanup(port, 0, 0), 0);
	assert_int_equal(in_use(), 50);
	assert_int_equal(rte_eth_dev_stop(port), 0);
	assert_int_equal(in_use(), 0);
	assert_int_equal(rte_eth_dev_start(port), -EIO);
	assert_int_equal(rte_eth_dev_reset(port), 0);
	assert_int_equal(rte_eth_dev_start(port), 0);
	assert_int_equal(send_some(port, 1), 1);
}

static void test_closes_in_callback(void **state)
{
	uint16_t port = open_listening();

	(void)state;
	heard.close = true;
	assert_int_equal(send_some(port, 50), 50);
	assert_int_equal(nicsim_fail(port), 0);
	assert_true(TS_WAIT(is(&heard.reset, 1), 5000));
	assert_int_equal(in_use(), 0);
	assert_int_equal(nicsim_stall(port, true), -ENODEV);
}

static void test_deferred_start(void **state)
{
	uint16_t port = port_probe(0, "");

	(void)state;
	port_start(port, &(struct port_conf){.deferred = true});
	assert_int_equal(send_some(port, 1), 0);
	assert_int_equal(rte_eth_dev_tx_queue_start(port, 0), 0);
	assert_int_equal(send_some(port, 1), 1);
}

static void test_modes(void **state)
{
	uint16_t port = port_open(0, "");
	struct rte_ether_addr mac = {{2, 0, 0, 0, 0, 9}}, now;

	(void)state;
	assert_int_equal(rte_eth_promiscuous_enable(port), 0);
	assert_int_equal(rte_eth_promiscuous_disable(port), 0);
	assert_int_equal(rte_eth_allmulticast_enable(port), 0);
	assert_int_equal(rte_eth_dev_default_mac_addr_set(port, &mac), 0);
	assert_int_equal(rte_eth_macaddr_get(port, &now), 0);
	assert_memory_equal(&now, &mac, sizeof(mac));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(test_link),
		CASE(test_failure),
		CASE(test_closes_in_callback),
		CASE(test_deferred_start),
		CASE(test_modes),
	};

	return nicsim_main(tests, RTE_DIM(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver seen by a program: ethdev's calls, its callbacks, and both at the same time. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_bus_vdev.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_string_fns.h>

#include "ts_frontend.h"
#include "ts_net.h"
#include "ts_pkt.h"
#include "ts_tap.h"
#include "ts_util.h"

#define LEN     300
#define BUFFERS 64

static struct rte_mempool *pool;

static struct test {
	char folder[32], path[64];
	uint16_t port;
	bool open;
	struct ts_guest *guest;
	struct ts_fe fe;
	struct ts_net net;

	/* what callbacks saw; written on the interrupt thread */
	unsigned lsc, queue_events, waiting;
	int (*in_callback)(struct test *t);
	int result;
} test;

#define EVENTUALLY(condition)                                               \
	do {                                                                \
		uint64_t end = ts_now_ms() + 5000;                          \
		while (!(condition)) {                                      \
			if (ts_now_ms() > end)                              \
				fail_msg("did not happen: %s", #condition); \
			ts_nap();                                           \
		}                                                           \
	} while (0)

static unsigned load(const unsigned *counter)
{
	return __atomic_load_n(counter, __ATOMIC_ACQUIRE);
}

/* ---- the port ---- */

static int on_event(uint16_t port, enum rte_eth_event_type type, void *arg, void *ret)
{
	struct test *t = arg;

	(void)port, (void)ret;
	if (type == RTE_ETH_EVENT_INTR_LSC && t->in_callback)
		t->result = t->in_callback(t);
	__atomic_add_fetch(
		type == RTE_ETH_EVENT_INTR_LSC ? &t->lsc : &t->queue_events, 1, __ATOMIC_RELEASE);
	return 0;
}

static void port_configure(struct test *t, uint16_t queues)
{
	struct rte_eth_conf conf = {.intr_conf.rxq = 1};

	assert_int_equal(rte_eth_dev_configure(t->port, queues, queues, &conf), 0);
	for (uint16_t i = 0; i < queues; i++) {
		assert_int_equal(rte_eth_rx_queue_setup(t->port, i, 0, 0, NULL, pool), 0);
		assert_int_equal(rte_eth_tx_queue_setup(t->port, i, 0, 0, NULL), 0);
	}
}

static void port_probe(struct test *t, const char *more)
{
	char args[128];

	snprintf(args, sizeof(args), "iface=%s%s", t->path, more);
	assert_int_equal(rte_vdev_init("net_sluice0", args), 0);
	assert_int_equal(rte_eth_dev_get_port_by_name("net_sluice0", &t->port), 0);
	t->open = true;
}

static void port_open(struct test *t, const char *more)
{
	static const enum rte_eth_event_type types[] = {
		RTE_ETH_EVENT_INTR_LSC, RTE_ETH_EVENT_QUEUE_STATE};

	port_probe(t, more);
	for (size_t i = 0; i < RTE_DIM(types); i++)
		assert_int_equal(rte_eth_dev_callback_register(t->port, types[i], on_event, t), 0);
	port_configure(t, 1);
	assert_int_equal(rte_eth_dev_start(t->port), 0);
}

static int woken(int ms)
{
	struct rte_epoll_event event;

	return rte_epoll_wait(RTE_EPOLL_PER_THREAD, &event, 1, ms);
}

static int port_close(struct test *t)
{
	int err = t->open ? rte_eth_dev_stop(t->port) : 0;

	if (!err && t->open)
		err = rte_eth_dev_close(t->port);
	t->open = false;
	return err;
}

static bool link_is(struct test *t, unsigned status)
{
	struct rte_eth_link link;

	assert_int_equal(rte_eth_link_get_nowait(t->port, &link), 0);
	return link.link_status == status;
}

/* ---- the guest ---- */

static void guest_connect(struct test *t)
{
	ts_guest_forget(t->guest);
	ts_fe_init(&t->fe, &ts_qemu_7, t->guest);
	assert_int_equal(ts_fe_connect(&t->fe, t->path), 0);
	assert_int_equal(ts_fe_negotiate(&t->fe), 0);
	assert_int_equal(ts_fe_make_rings(&t->fe, 0, 256, 0), 0);
	ts_net_init(&t->net, t->guest, 0, t->fe.rings[0].ring, t->fe.rings[1].ring);
	assert_int_equal(ts_fe_start(&t->fe), 0);
	assert_int_equal(ts_net_fill_rx(&t->net, BUFFERS, 2048), BUFFERS);
}

static void guest_leave(struct test *t)
{
	ts_fe_disconnect(&t->fe);
	ts_net_fini(&t->net);
	ts_fe_free(&t->fe);
}

/* ---- traffic ---- */

static void guest_sends(struct test *t, unsigned n)
{
	uint8_t frame[LEN];

	for (unsigned i = 0; i < n; i++) {
		ts_pkt_fill(frame, LEN, i);
		assert_int_equal(ts_net_send(&t->net, NULL, frame, LEN, NULL, 0, TS_DIRECT), 0);
	}
	ts_ring_kick(t->net.tx);
}

static void port_receives(struct test *t, unsigned n)
{
	struct rte_mbuf *pkts[64];
	uint16_t got = rte_eth_rx_burst(t->port, 0, pkts, RTE_DIM(pkts));
	uint32_t seq;

	assert_int_equal(got, n);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(pkts[i]->port, t->port);
		assert_int_equal(
			ts_pkt_check(rte_pktmbuf_mtod(pkts[i], void *), pkts[i]->pkt_len, &seq), 0);
		assert_int_equal(seq, i);
	}
	rte_pktmbuf_free_bulk(pkts, got);
	assert_int_equal(ts_net_reap(&t->net), n);
}

static void port_sends(struct test *t, uint16_t n)
{
	struct rte_mbuf *pkts[32];

	for (uint16_t i = 0; i < n; i++) {
		pkts[i] = rte_pktmbuf_alloc(pool);
		ts_pkt_fill(rte_pktmbuf_append(pkts[i], LEN), LEN, i);
	}
	assert_int_equal(rte_eth_tx_burst(t->port, 0, pkts, n), n);
}

static void guest_receives(struct test *t, unsigned n)
{
	uint8_t frame[LEN];
	uint32_t seq;

	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(ts_net_recv(&t->net, frame, sizeof(frame), NULL), LEN);
		assert_int_equal(ts_pkt_check(frame, LEN, &seq), 0);
		assert_int_equal(seq, i);
	}
	assert_int_equal(ts_net_fill_rx(&t->net, n, 2048), n);
	assert_string_equal(ts_net_why(&t->net), "");
}

static void traffic(struct test *t)
{
	guest_sends(t, 10);
	assert_int_equal(rte_eth_rx_queue_count(t->port, 0), 10);
	port_receives(t, 10);
	assert_int_equal(rte_eth_rx_queue_count(t->port, 0), 0);
	port_sends(t, 7);
	guest_receives(t, 7);
}

/* ---- cases ---- */

static unsigned entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void test_port_without_guest(void **state)
{
	struct test *t = &test;
	struct rte_eth_dev_info info;
	struct rte_ether_addr mac = {{2, 0, 0, 0, 0, 9}}, now;
	char text[8192] = "";
	FILE *file = fmemopen(text, sizeof(text), "w");
	uint16_t mtu;

	(void)state;
	port_open(t, "");
	assert_true(link_is(t, RTE_ETH_LINK_DOWN));
	assert_int_equal(rte_eth_dev_info_get(t->port, &info), 0);
	assert_int_equal(info.max_rx_queues, 1);
	assert_string_equal(info.driver_name, "net_sluice");
	assert_int_equal(rte_eth_dev_set_mtu(t->port, 9000), 0);
	assert_int_equal(rte_eth_dev_get_mtu(t->port, &mtu), 0);
	assert_int_equal(mtu, 9000);
	assert_int_not_equal(rte_eth_dev_set_mtu(t->port, 20), 0);
	assert_int_equal(rte_eth_dev_default_mac_addr_set(t->port, &mac), 0);
	assert_int_equal(rte_eth_macaddr_get(t->port, &now), 0);
	assert_memory_equal(&now, &mac, sizeof(mac));
	assert_int_equal(rte_eth_promiscuous_get(t->port), 1);
	assert_int_equal(rte_eth_promiscuous_enable(t->port), 0);
	assert_int_equal(rte_eth_promiscuous_disable(t->port), -ENOTSUP);
	assert_int_equal(rte_eth_tx_done_cleanup(t->port, 0, 0), 0);
	assert_int_equal(rte_eth_rx_queue_count(t->port, 0), 0);
	assert_int_equal(rte_eth_dev_priv_dump(t->port, file), 0);
	fclose(file);
	assert_non_null(strstr(text, t->path));
	assert_non_null(strstr(text, "no front-end has connected"));
}

static void test_guest_comes_and_goes(void **state)
{
	struct test *t = &test;

	(void)state;
	port_open(t, "");
	for (unsigned round = 1; round <= 3; round++) {
		guest_connect(t);
		EVENTUALLY(load(&t->lsc) == 2 * round - 1);
		assert_true(link_is(t, RTE_ETH_LINK_UP));
		traffic(t);
		guest_leave(t);
		EVENTUALLY(load(&t->lsc) == 2 * round);
		assert_true(link_is(t, RTE_ETH_LINK_DOWN));
		assert_int_equal(load(&t->queue_events), 4 * round);
	}
}

/* The guest is there before anybody is interested: it waits, and loses nothing. */
/* As l3fwd-power: ask for an interrupt, sleep, poll. The guest comes and goes meanwhile. */
static void test_sleep_until_a_packet(void **state)
{
	struct test *t = &test;
	unsigned naps = 0;

	(void)state;
	port_open(t, "");
	assert_int_equal(rte_eth_dev_rx_intr_ctl_q(
				 t->port, 0, RTE_EPOLL_PER_THREAD, RTE_INTR_EVENT_ADD, NULL),
		0);
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(rte_eth_dev_rx_intr_enable(t->port, 0), 0);
		guest_connect(t);
		assert_int_equal(woken(5000), 1); /* by the ring, which is usable now */
		do {
			assert_int_equal(rte_eth_dev_rx_intr_disable(t->port, 0), 0);
			port_receives(t, 0);
			assert_int_equal(rte_eth_dev_rx_intr_enable(t->port, 0), 0);
		} while (woken(50) && ++naps < 10); /* it is told more than once */
		assert_true(naps < 10);
		guest_sends(t, 3);
		assert_int_equal(woken(5000), 1);
		assert_int_equal(rte_eth_dev_rx_intr_disable(t->port, 0), 0);
		assert_int_equal(woken(20), 0);
		port_receives(t, 3);
		guest_sends(t, 2); /* not asked for: no kick */
		assert_int_equal(woken(20), 0);
		assert_int_equal(rte_eth_dev_rx_intr_enable(t->port, 0), 0);
		assert_int_equal(woken(5000), 1);
		assert_int_equal(rte_eth_dev_rx_intr_disable(t->port, 0), 0);
		port_receives(t, 2);
		guest_leave(t);
		EVENTUALLY(link_is(t, RTE_ETH_LINK_DOWN));
	}
	assert_int_equal(rte_eth_dev_rx_intr_ctl_q(
				 t->port, 0, RTE_EPOLL_PER_THREAD, RTE_INTR_EVENT_DEL, NULL),
		0);
}

static void test_guest_first(void **state)
{
	struct test *t = &test;

	(void)state;
	port_probe(t, "");
	guest_connect(t);
	guest_sends(t, 10);
	EVENTUALLY(link_is(t, RTE_ETH_LINK_UP));
	port_configure(t, 1);
	assert_int_equal(rte_eth_dev_start(t->port), 0);
	port_receives(t, 10);
	traffic(t);
	guest_leave(t);
}

static uint64_t xstat(struct test *t, const char *name)
{
	uint64_t id, value;

	assert_int_equal(rte_eth_xstats_get_id_by_name(t->port, name, &id), 0);
	assert_int_equal(rte_eth_xstats_get_by_id(t->port, &id, &value, 1), 1);
	return value;
}

static void test_statistics(void **state)
{
	struct test *t = &test;
	struct rte_eth_stats stats;
	struct rte_eth_xstat_name names[200];
	int n;

	(void)state;
	port_open(t, "");
	guest_connect(t);
	EVENTUALLY(link_is(t, RTE_ETH_LINK_UP));
	traffic(t);
	assert_int_equal(rte_eth_stats_get(t->port, &stats), 0);
	assert_int_equal(stats.ipackets, 10);
	assert_int_equal(stats.ibytes, 10 * LEN);
	assert_int_equal(stats.opackets, 7);
	assert_int_equal(stats.obytes, 7 * LEN);
	assert_int_equal(xstat(t, "rx_q0_size_256_511_packets"), 10);
	assert_int_equal(xstat(t, "tx_q0_good_packets"), 7);
	assert_int_equal(xstat(t, "tx_q0_packets"), 7); /* ethdev's own */
	assert_int_equal(rte_eth_xstats_reset(t->port), 0);
	assert_int_equal(xstat(t, "rx_q0_size_256_511_packets"), 0);
	traffic(t);
	assert_int_equal(xstat(t, "rx_q0_good_bytes"), 10 * LEN);

	/* Too small a table is told the right size and left alone. */
	n = rte_eth_xstats_get_names(t->port, NULL, 0);
	assert_in_range(n, 40, RTE_DIM(names));
	names[3].name[0] = '!';
	assert_int_equal(rte_eth_xstats_get_names(t->port, names, 3), n);
	assert_int_equal(names[3].name[0], '!');
	guest_leave(t);
}

/* From a callback everything may be asked, and nothing waits for itself. */
static int ask_everything(struct test *t)
{
	struct rte_eth_stats stats;
	struct rte_eth_link link;

	if (rte_eth_link_get(t->port, &link) != 0 || rte_eth_stats_get(t->port, &stats) != 0)
		return -1;
	if (rte_eth_xstats_get_names(t->port, NULL, 0) <= 0 ||
		rte_eth_rx_queue_count(t->port, 0) < 0)
		return -2;
	return link.link_status;
}

static void test_callback_asks(void **state)
{
	struct test *t = &test;

	(void)state;
	t->in_callback = ask_everything;
	port_open(t, "");
	guest_connect(t);
	EVENTUALLY(load(&t->lsc) == 1);
	assert_int_equal(t->result, RTE_ETH_LINK_UP);
	traffic(t);
	guest_leave(t);
	EVENTUALLY(load(&t->lsc) == 2);
	assert_int_equal(t->result, RTE_ETH_LINK_DOWN);
}

static int restart(struct test *t)
{
	t->in_callback = NULL;
	return rte_eth_dev_stop(t->port) ? -1 : rte_eth_dev_start(t->port);
}

static void test_callback_restarts(void **state)
{
	struct test *t = &test;

	(void)state;
	t->in_callback = restart;
	port_open(t, "");
	guest_connect(t);
	EVENTUALLY(load(&t->lsc) == 1);
	assert_int_equal(t->result, 0);
	assert_int_equal(load(&t->queue_events), 2); /* the guest's doing, not the restart's */
	assert_true(link_is(t, RTE_ETH_LINK_UP));
	traffic(t);
	guest_leave(t);
}

static void test_callback_closes(void **state)
{
	struct test *t = &test;

	(void)state;
	t->in_callback = port_close;
	port_open(t, "");
	guest_connect(t);
	EVENTUALLY(!rte_eth_dev_is_valid_port(t->port) && load(&t->lsc) == 1);
	assert_int_equal(t->result, 0);
	assert_true(ts_fe_closed(&t->fe));
	guest_leave(t);
}

static pthread_mutex_t application = PTHREAD_MUTEX_INITIALIZER;

static int wait_for_lock(struct test *t)
{
	t->in_callback = NULL;
	__atomic_store_n(&t->waiting, 1, __ATOMIC_RELEASE);
	pthread_mutex_lock(&application);
	pthread_mutex_unlock(&application);
	return 1;
}

/* A program may hold a lock that its callback waits for, whatever it calls meanwhile. */
static void test_callback_waits(void **state)
{
	struct test *t = &test;

	(void)state;
	t->in_callback = wait_for_lock;
	port_open(t, "");
	pthread_mutex_lock(&application);
	guest_connect(t);
	EVENTUALLY(load(&t->waiting));
	assert_int_equal(rte_eth_dev_stop(t->port), 0);
	assert_int_equal(rte_eth_dev_start(t->port), 0);
	traffic(t);
	assert_int_equal(port_close(t), 0);
	assert_int_equal(load(&t->lsc), 0);
	pthread_mutex_unlock(&application);
	EVENTUALLY(load(&t->lsc) == 1);
	assert_int_equal(t->result, 1);
	guest_leave(t);
}

static void *come_and_go(void *arg)
{
	struct test *t = arg;

	for (unsigned round = 0; round < 100; round++) {
		guest_connect(t);
		guest_sends(t, 5);
		guest_leave(t);
	}
	__atomic_store_n(&t->result, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* A guest that reconnects all the time, a port that is restarted and polled all the time. */
static void test_all_at_once(void **state)
{
	struct test *t = &test;
	struct rte_mbuf *pkts[32];
	unsigned rounds = 0;
	pthread_t guest;

	(void)state;
	port_open(t, ",queues=2");
	assert_int_equal(pthread_create(&guest, NULL, come_and_go, t), 0);
	while (!__atomic_load_n(&t->result, __ATOMIC_ACQUIRE)) {
		for (unsigned i = 0; i < 200; i++)
			rte_pktmbuf_free_bulk(
				pkts, rte_eth_rx_burst(t->port, 0, pkts, RTE_DIM(pkts)));
		assert_int_equal(rte_eth_dev_stop(t->port), 0);
		port_configure(t, 1 + rounds % 2);
		assert_int_equal(rte_eth_dev_start(t->port), 0);
		rounds++;
	}
	pthread_join(guest, NULL);
	assert_true(rounds > 10);
	guest_connect(t);
	EVENTUALLY(link_is(t, RTE_ETH_LINK_UP));
	traffic(t);
	guest_leave(t);
}

static void test_open_and_close(void **state)
{
	struct test *t = &test;
	unsigned fds = entries("/proc/self/fd"), threads = entries("/proc/self/task");

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		port_probe(t, i % 2 ? "" : ",client=1");
		assert_int_equal(access(t->path, F_OK), i % 2 ? 0 : -1);
		assert_int_equal(rte_vdev_uninit("net_sluice0"), 0);
		t->open = false;
	}
	assert_int_equal(entries("/proc/self/fd"), fds);
	assert_int_equal(entries("/proc/self/task"), threads);
}

/* ---- fixture ---- */

static int setup(void **state)
{
	struct test *t = &test;

	(void)state;
	memset(t, 0, sizeof(*t));
	strcpy(t->folder, "/tmp/sl-ethdev-XXXXXX");
	if (!mkdtemp(t->folder))
		return -1;
	snprintf(t->path, sizeof(t->path), "%s/s", t->folder);
	t->guest = ts_guest_one(8u << 20);
	return t->guest ? 0 : -1;
}

/* Whatever happened: no port, no mbuf, no socket is left. */
static int teardown(void **state)
{
	struct test *t = &test;

	(void)state;
	rte_vdev_uninit("net_sluice0");
	ts_guest_free(t->guest);
	return rmdir(t->folder) != 0 || rte_mempool_in_use_count(pool) != 0;
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	static char line[] = "ethdev --no-huge -m 64 --no-pci --no-shconf --no-telemetry -l 0 "
			     "--log-level error";
	const struct CMUnitTest tests[] = {
		CASE(test_port_without_guest),
		CASE(test_guest_comes_and_goes),
		CASE(test_sleep_until_a_packet),
		CASE(test_guest_first),
		CASE(test_statistics),
		CASE(test_callback_asks),
		CASE(test_callback_restarts),
		CASE(test_callback_closes),
		CASE(test_callback_waits),
		CASE(test_all_at_once),
		CASE(test_open_and_close),
	};
	const char *driver = getenv("SLUICE_PMD");
	char *eal[16];
	int neal = rte_strsplit(line, sizeof(line), eal, RTE_DIM(eal), ' '), err = 1;

	/* It registers itself when loaded. (-d refuses files below folders like /tmp.) */
	if (!driver || !dlopen(driver, RTLD_NOW)) {
		fprintf(stderr, "SLUICE_PMD=%s: %s\n", driver, driver ? dlerror() : "not set");
		return 1;
	}
	if (rte_eal_init(neal, eal) < 0)
		return 1;
	pool = rte_pktmbuf_pool_create(
		"ethdev", 1023, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (pool)
		err = ts_run_tests(tests, RTE_DIM(tests), argc, argv);
	rte_mempool_free(pool);
	return rte_eal_cleanup() != 0 || err;
}

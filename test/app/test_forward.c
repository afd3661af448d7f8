/* SPDX-License-Identifier: BSD-3-Clause */
/* Sending: what a device is given, whatever a guest sent. */
#include <string.h>

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_string_fns.h>

#include "forward.h"
#include "plan.h"
#include "ts_tap.h"

#define PORT     1
#define MAX_LEN  1522
#define MAX_SEGS 3

static struct rte_mempool *pool;
static struct worker_port ports[PORT + 3];
static struct worker worker;
static const struct plan plan; /* no retries */
static struct outlet out = {
	.kind = PORT_DEV,
	.up = true,
	.port = PORT,
	.offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS,
	.limits = {60, MAX_LEN, MAX_SEGS, 10},
};

/* A packet of so many bytes in so many mbufs, byte i being i. */
static struct rte_mbuf *packet(uint32_t len, unsigned segs)
{
	struct rte_mbuf *pkt = NULL;
	uint32_t done = 0;

	for (unsigned s = 0; s < segs; s++) {
		struct rte_mbuf *seg = rte_pktmbuf_alloc(pool);
		uint32_t part = len / segs + (s < len % segs);
		uint8_t *to = (uint8_t *)rte_pktmbuf_append(seg, (uint16_t)part);

		assert_non_null(to);
		for (uint32_t i = 0; i < part; i++)
			to[i] = (uint8_t)done++;
		if (pkt)
			assert_int_equal(0, rte_pktmbuf_chain(pkt, seg));
		else
			pkt = seg;
	}
	return pkt;
}

/* What comes back from net_ring is what the device was given. */
static struct rte_mbuf *received(void)
{
	struct rte_mbuf *pkt;

	return rte_eth_rx_burst(out.eth, 0, &pkt, 1) ? pkt : NULL;
}

static void check_content(const struct rte_mbuf *pkt, uint32_t len)
{
	uint8_t flat[MAX_LEN];
	const uint8_t *got = rte_pktmbuf_read(pkt, 0, pkt->pkt_len, flat);

	assert_non_null(got);
	for (uint32_t i = 0; i < pkt->pkt_len; i++)
		assert_int_equal(got[i], i < len ? (uint8_t)i : 0);
}

static struct rte_mbuf *send_one(struct rte_mbuf *pkt)
{
	struct forward_result r = forward_burst(&worker, &plan, &out, &pkt, 1);
	struct rte_mbuf *got = received();

	assert_int_equal(r.sent, got != NULL);
	assert_int_equal(r.sent + r.lost, 1);
	return got;
}

static void expect(uint32_t len, unsigned segs, uint32_t got_len, unsigned got_segs)
{
	struct rte_mbuf *got = send_one(packet(len, segs));

	assert_non_null(got);
	assert_int_equal(got->pkt_len, got_len);
	assert_int_equal(got->nb_segs, got_segs);
	check_content(got, len);
	rte_pktmbuf_free(got);
}

static void test_as_it_is(void **state)
{
	expect(60, 1, 60, 1);
	expect(MAX_LEN, 1, MAX_LEN, 1);
	expect(1000, MAX_SEGS, 1000, MAX_SEGS);
}

static void test_runts_are_padded(void **state)
{
	expect(14, 1, 60, 1);
	expect(59, 1, 60, 1);
	expect(20, 2, 60, 1);
}

/* Another owner has it too: not in place. */
static void test_a_shared_runt(void **state)
{
	struct rte_mbuf *pkt = packet(20, 1), *got;

	rte_mbuf_refcnt_update(pkt, 1);
	got = send_one(pkt);
	assert_non_null(got);
	assert_ptr_not_equal(got, pkt);
	assert_int_equal(got->pkt_len, 60);
	assert_int_equal(pkt->pkt_len, 20);
	rte_pktmbuf_free(got);
	rte_pktmbuf_free(pkt);
}

static void test_too_many_mbufs(void **state)
{
	expect(1000, MAX_SEGS + 1, 1000, 1);
	expect(1000, 40, 1000, 1);
}

static void test_longer_than_the_mtu(void **state)
{
	uint64_t *drops = &ports[PORT].drops[SWITCH_DROP_TX_MTU_EXCEEDED], before = *drops;

	assert_null(send_one(packet(MAX_LEN + 1, 1)));
	assert_null(send_one(packet(65000, 33)));
	assert_int_equal(*drops - before, 2);
}

/* A packet that the device cuts is as long as it likes, but what comes of it is not. */
static void test_segmentation(void **state)
{
	uint64_t *drops = &ports[PORT].drops[SWITCH_DROP_TX_MTU_EXCEEDED], before = *drops;
	struct rte_mbuf *pkt, *got;

	for (unsigned i = 0; i < 2; i++) {
		pkt = packet(9000, 10);
		pkt->ol_flags = RTE_MBUF_F_TX_TCP_SEG;
		pkt->l2_len = 14;
		pkt->l3_len = pkt->l4_len = 20;
		pkt->tso_segsz = i == 0 ? MAX_LEN - 54 : MAX_LEN - 53;
		got = send_one(pkt);
		assert_int_equal(got != NULL, i == 0);
		rte_pktmbuf_free(got);
	}
	assert_int_equal(*drops - before, 1);
}

/* One bad packet does not harm its neighbours, nor their order. */
static void test_in_a_burst(void **state)
{
	static const uint32_t len[] = {100, 3000, 30, 200}, left[] = {100, 60, 200};
	struct rte_mbuf *pkts[4], *got;
	struct forward_result r;

	for (unsigned i = 0; i < 4; i++)
		pkts[i] = packet(len[i], i == 1 ? 2 : 1);
	r = forward_burst(&worker, &plan, &out, pkts, 4);
	assert_int_equal(r.sent, 3);
	assert_int_equal(r.lost, 1);
	for (unsigned i = 0; i < 3; i++) {
		got = received();
		assert_non_null(got);
		assert_int_equal(got->pkt_len, left[i]);
		rte_pktmbuf_free(got);
	}
	assert_null(received());
}

static int check_no_leak(void **state)
{
	return rte_mempool_in_use_count(pool) == 0 ? 0 : -1;
}

static int set_up(void)
{
	static char line[] = "forward --no-huge -m 64 --no-pci --no-shconf --no-telemetry "
			     "--lcores=0 --vdev=net_ring0 --log-level error";
	char *argv[16];
	int argc = rte_strsplit(line, sizeof(line), argv, RTE_DIM(argv), ' ');
	struct rte_eth_conf conf = {0};

	if (rte_eal_init(argc, argv) < 0)
		return -1;
	pool = rte_pktmbuf_pool_create("pool", 511, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	worker.pool = pool;
	worker.ports = ports;
	if (!pool || rte_eth_dev_get_port_by_name("net_ring0", &out.eth) < 0 ||
		rte_eth_dev_configure(out.eth, 1, 1, &conf) < 0 ||
		rte_eth_rx_queue_setup(out.eth, 0, 64, SOCKET_ID_ANY, NULL, pool) < 0 ||
		rte_eth_tx_queue_setup(out.eth, 0, 64, SOCKET_ID_ANY, NULL) < 0)
		return -1;
	return rte_eth_dev_start(out.eth);
}

/* Deliver frames of these lengths from these ports. @return which of them it was charged to */
static uint16_t payer_of(const uint16_t *from, const uint32_t *len, unsigned n)
{
	struct rte_mbuf *got;
	uint64_t took;
	uint16_t paid;

	worker_lap(&worker);
	for (unsigned i = 0; i < n; i++)
		forward_later(&worker, &plan, from[i], PORT, packet(len[i], 1));
	took = forward_flush_all(&worker, &plan);
	assert_int_equal(took, worker.unsettled);
	while ((got = received()) != NULL)
		rte_pktmbuf_free(got);
	assert_int_equal(worker.n_working, 1);
	paid = worker.working[--worker.n_working];
	assert_int_equal(ports[paid].share.used, worker.unsettled);
	ports[paid].share.used = worker.unsettled = 0;
	return paid;
}

/* Where several have sent, one in sixteen frames of 100 bytes, and fifteen of 1500. */
static void test_senders_pay(void **state)
{
	struct output outputs[PORT + 1] = {0};
	uint16_t dirty[1], working[1];
	struct plan_worker work = {.outlets = (struct outlet[]){out, out}};
	unsigned paid = 0;

	worker.outputs = outputs;
	worker.dirty = dirty;
	worker.working = working;
	worker.work = &work;
	worker.rand = 1;
	assert_int_equal(payer_of((uint16_t[]){2, 2, 2}, (uint32_t[]){60, 1500, 100}, 3), 2);
	for (unsigned i = 0; i < 2000; i++)
		paid += payer_of((uint16_t[]){2, 3}, (uint32_t[]){100, 1500}, 2) == 3;
	assert_in_range(paid, 1800, 1940);
}

#define TEST(name) cmocka_unit_test_teardown(test_##name, check_no_leak)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(as_it_is),
		TEST(runts_are_padded),
		TEST(a_shared_runt),
		TEST(too_many_mbufs),
		TEST(longer_than_the_mtu),
		TEST(segmentation),
		TEST(in_a_burst),
		TEST(senders_pay),
	};

	int failed;

	if (set_up() != 0)
		return 1;
	failed = ts_run_tests(tests, RTE_DIM(tests), argc, argv);
	rte_eal_cleanup();
	return failed;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The NIC for tests: that it holds, reads and frees mbufs as NICs do, and notices what others do wrong. */
#include <errno.h>
#include <string.h>

#include <rte_bus_vdev.h>

#include "selftest_nicsim_port.h"
#include "ts_pkt.h"

#define MULTI_SEGS RTE_ETH_TX_OFFLOAD_MULTI_SEGS
#define FAST_FREE  RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE

/* ---- holding ---- */

static void test_holds_until_threshold(void **state)
{
	uint16_t port = port_open(0, "");

	(void)state;
	assert_int_equal(send_some(port, 96), 96); /* 31 are free */
	assert_int_equal(nicsim_tx_held(port, 0), 96);
	assert_int_equal(in_use(), 96);
	expect(port, "tx_pending", 1); /* nobody has polled since the last */
	assert_int_equal(send_some(port, 1), 1);
	assert_int_equal(in_use(), 97 - 32);
	assert_int_equal(rte_eth_tx_done_cleanup(port, 0, 1), 32);
	assert_int_equal(rte_eth_tx_done_cleanup(port, 0, 0), 32);
	assert_int_equal(rte_eth_tx_done_cleanup(port, 0, 0), 0);
	assert_int_equal(in_use(), 1); /* no whole group */
	expect(port, "tx_held", 1);
	expect(port, "tx_freed", 96);
	expect(port, "tx_marked_good", 97);
	expect(port, "tx_changed", 0);
	expect(port, "tx_refused", 0);
	assert_int_equal(rte_eth_dev_tx_queue_stop(port, 0), 0);
	assert_int_equal(in_use(), 0);
	assert_int_equal(send_some(port, 1), 0);
	assert_int_equal(rte_eth_dev_tx_queue_start(port, 0), 0);
	assert_int_equal(send_some(port, 1), 1);
}

/* As the paths with offloads: the mbuf goes when its descriptor is used again. */
static void test_holds_a_whole_ring(void **state)
{
	uint16_t port = port_open(0, "lazy=1");

	(void)state;
	assert_int_equal(send_some(port, 3 * RING + 5), 3 * RING + 5);
	assert_int_equal(in_use(), RING);
	assert_int_equal(nicsim_tx_held(port, 0), RING);
	assert_int_equal(rte_eth_tx_done_cleanup(port, 0, 0), RING - 5);
	assert_int_equal(in_use(), 5);
	assert_int_equal(rte_eth_dev_stop(port), 0);
	assert_int_equal(in_use(), 0);
	expect(port, "tx_freed", 3 * RING + 5);
}

/* For benchmarks: it holds and counts as ever, and looks at nothing. */
static void test_blind(void **state)
{
	uint16_t port = port_open(0, "blind=1");

	(void)state;
	assert_int_equal(send_some(port, 97), 97);
	assert_int_equal(in_use(), 97 - 32);
	assert_int_equal(nicsim_poll(port), 0);
	expect(port, "tx_pending", 0);
	expect(port, "tx_marked_good", 0);
	expect(port, "tx_changed", 0);
}

static void test_cleanup(void **state)
{
	uint16_t gentle = port_open(0, "rs_thresh=1"), none = port_open(1, "nocleanup=1");

	(void)state;
	assert_int_equal(send_some(gentle, 5), 5);
	assert_int_equal(rte_eth_tx_done_cleanup(gentle, 0, 2), 2);
	assert_int_equal(rte_eth_tx_done_cleanup(gentle, 0, 0), 3);
	assert_int_equal(send_some(none, 5), 5);
	assert_int_equal(rte_eth_tx_done_cleanup(none, 0, 0), -ENOTSUP);
	assert_int_equal(in_use(), 5);
}

static void test_ring_full(void **state)
{
	uint16_t port = port_open(0, "");

	(void)state;
	assert_int_equal(nicsim_stall(port, true), 0);
	assert_int_equal(send_some(port, RING + 9), RING - 1);
	expect(port, "tx_refused", 10);
	expect(port, "tx_pending", RING - 1);
	assert_int_equal(rte_eth_tx_done_cleanup(port, 0, 0), 0);
	assert_int_equal(nicsim_stall(port, false), 0);
	assert_int_equal(send_some(port, 10), 10);
	expect(port, "tx_marked_good", RING - 1 + 9);
	assert_int_equal(rte_eth_dev_tx_queue_stop(port, 0), 0);
	assert_int_equal(in_use(), 0);
	expect(port, "tx_dropped", 1);
}

static void test_reset_drops(void **state)
{
	uint16_t port = port_open(0, "delay_us=60000000");

	(void)state;
	assert_int_equal(send_some(port, 50), 50);
	assert_true(send_one(port, 1, make(LEN)));
	assert_int_equal(nicsim_reset(port), 0);
	assert_int_equal(in_use(), 0);
	expect(port, "tx_dropped", 51);
	expect(port, "tx_sent_packets", 0);
	assert_int_equal(send_some(port, 1), 1);
	assert_int_equal(rte_eth_dev_stop(port), 0);
	assert_int_equal(in_use(), 0);
	expect(port, "tx_dropped", 52);
	assert_int_equal(rte_eth_dev_close(port), 0);
}

static void test_thresholds(void **state)
{
	static const struct rte_eth_txconf wrong[] = {
		{.tx_rs_thresh = 33},
		{.tx_rs_thresh = 24, .tx_free_thresh = 24}, /* 128 % 24 */
		{.tx_rs_thresh = 64, .tx_free_thresh = 32},
		{.tx_free_thresh = 125},
	};
	const struct rte_eth_txconf right = {.tx_rs_thresh = 8, .tx_free_thresh = 124};
	struct rte_eth_txq_info info;
	uint16_t port = port_open(0, "");

	(void)state;
	assert_int_equal(rte_eth_dev_stop(port), 0);
	for (size_t i = 0; i < RTE_DIM(wrong); i++)
		assert_int_equal(rte_eth_tx_queue_setup(port, 0, RING, 0, &wrong[i]), -EINVAL);
	assert_int_equal(rte_eth_tx_queue_setup(port, 0, RING, 0, &right), 0);
	assert_int_equal(rte_eth_tx_queue_info_get(port, 0, &info), 0);
	assert_int_equal(info.conf.tx_rs_thresh, 8);
	assert_int_equal(info.nb_desc, RING);
	assert_int_equal(rte_eth_dev_start(port), 0);
	assert_int_equal(send_some(port, 9), 9);
	assert_int_equal(rte_eth_tx_descriptor_status(port, 0, 0), RTE_ETH_TX_DESC_DONE);
	assert_int_equal(rte_eth_tx_descriptor_status(port, 0, RING - 1), RTE_ETH_TX_DESC_FULL);
	assert_int_equal(in_use(), 1); /* freed as soon as a group was through */
}

/* ---- reading late ---- */

static void test_change_is_seen(void **state)
{
	uint16_t port = port_open(0, "");
	struct rte_mbuf *m = make(LEN);

	(void)state;
	assert_true(send_one(port, 0, m));
	*rte_pktmbuf_mtod_offset(m, uint8_t *, LEN - 1) ^= 1;
	assert_int_equal(nicsim_poll(port), 0);
	expect(port, "tx_changed", 1);
	expect(port, "tx_marked_bad", 1);

	/* Frames without a mark as well, and the other kind of mark. */
	m = make(LEN);
	memset(rte_pktmbuf_mtod(m, void *), 0x55, LEN);
	assert_true(send_one(port, 0, m));
	*rte_pktmbuf_mtod(m, uint8_t *) = 0;
	m = make(LEN);
	ts_pkt_fill(rte_pktmbuf_mtod(m, void *), LEN, 7);
	assert_true(send_one(port, 0, m));
	assert_int_equal(nicsim_poll(port), 0);
	expect(port, "tx_unmarked", 1);
	expect(port, "tx_changed", 2);
	expect(port, "tx_marked_good", 1);

	m = make(LEN);
	assert_true(send_one(port, 0, m));
	m->data_off += 2;
	assert_int_equal(nicsim_poll(port), 0);
	expect(port, "tx_mbuf_changed", 1);
	expect(port, "tx_marked_good", 2); /* what was posted is what is sent */
}

static void test_delay(void **state)
{
	uint16_t port = port_open(0, "delay_us=60000000");
	struct rte_mbuf *first = make(LEN), *second = make(LEN);

	(void)state;
	assert_true(send_one(port, 0, first));
	assert_int_equal(nicsim_poll(port), 0);
	assert_int_equal(rte_eth_tx_done_cleanup(port, 0, 0), 0);
	expect(port, "tx_pending", 1);
	assert_int_equal(nicsim_reset(port), 0);

	assert_int_equal(nicsim_delay(port, 2000), 0);
	assert_true(send_one(port, 0, second));
	*rte_pktmbuf_mtod_offset(second, uint8_t *, 100) ^= 1;
	assert_true(TS_WAIT(nicsim_poll(port) == 0 && nicsim_stat(port, "tx_pending") == 0, 5000));
	expect(port, "tx_changed", 1);
}

/* ---- what is wrong with an mbuf ---- */

static void test_segments(void **state)
{
	uint16_t port = port_probe(0, "nb_seg_max=4");
	struct rte_eth_dev_info info;

	(void)state;
	assert_int_equal(rte_eth_dev_info_get(port, &info), 0);
	assert_int_equal(info.tx_desc_lim.nb_seg_max, 4);
	assert_true(info.tx_offload_capa & MULTI_SEGS);
	port_start(port, &(struct port_conf){.tx_offloads = MULTI_SEGS});
	for (unsigned i = 0; i < 200; i++)
		assert_true(send_one(port, 0, make_chain(LEN, 1 + i % 4)));
	assert_int_equal(nicsim_poll(port), 0);
	expect(port, "tx_marked_good", 200);
	expect(port, "tx_malformed_segs", 0);
	assert_true(send_one(port, 0, make_chain(LEN, 5)));
	expect(port, "tx_malformed_segs", 1);

	/* One descriptor a segment: four do not fit where three are free. */
	assert_int_equal(nicsim_reset(port), 0);
	assert_int_equal(nicsim_stall(port, true), 0);
	assert_int_equal(send_some(port, RING - 4), RING - 4);
	assert_false(send_one(port, 0, make_chain(LEN, 4)));
	assert_true(send_one(port, 0, make_chain(LEN, 3)));
	assert_int_equal(nicsim_tx_held(port, 0), RING - 1);
}

static void test_no_segments(void **state)
{
	uint16_t port = port_probe(0, "nosegs=1"), other = port_open(1, "");
	struct rte_eth_dev_info info;
	struct rte_mbuf *m;

	(void)state;
	assert_int_equal(rte_eth_dev_info_get(port, &info), 0);
	assert_false(info.tx_offload_capa & MULTI_SEGS);
	port_start(port, &(struct port_conf){0});
	m = make_chain(LEN, 2);
	assert_int_equal(rte_eth_tx_prepare(port, 0, &m, 1), 0);
	assert_true(send_one(port, 0, m));
	assert_true(send_one(other, 0, make_chain(LEN, 2))); /* it can, but was not told to */
	expect(port, "tx_malformed_segs", 1);
	expect(other, "tx_malformed_segs", 1);
	assert_int_equal(nicsim_poll(port), 0);
	expect(port, "tx_sent_packets", 0);
}

static void test_malformed(void **state)
{
	uint16_t port = port_open(0, "");
	struct rte_mbuf *m[5];

	(void)state;
	for (size_t i = 0; i < RTE_DIM(m); i++)
		m[i] = make(LEN);
	m[0]->pkt_len++;
	m[1]->data_len = 0;
	m[2]->nb_segs = 2;
	m[3]->ol_flags = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
	m[4]->ol_flags = RTE_MBUF_F_TX_IPV4; /* nothing to do */
	for (size_t i = 0; i < RTE_DIM(m); i++) {
		assert_int_equal(rte_eth_tx_prepare(port, 0, &m[i], 1), i == 4);
		assert_int_equal(rte_eth_tx_burst(port, 0, &m[i], 1), 1);
	}
	m[2]->nb_segs = 1;
	assert_int_equal(nicsim_poll(port), 0);
	expect(port, "tx_malformed_len", 2);
	expect(port, "tx_malformed_segs", 1);
	expect(port, "tx_malformed_offload", 1);
	expect(port, "tx_sent_packets", 1);
	expect(port, "tx_held", 5);
}

static void test_fast_free(void **state)
{
	uint16_t port = port_probe(0, "fastfree=1"), plain = port_probe(1, "");
	struct rte_mbuf *shared = make(LEN), *alien, *chain = make_chain(LEN, 2);
	struct rte_eth_dev_info info;

	(void)state;
	assert_int_equal(rte_eth_dev_info_get(plain, &info), 0);
	assert_false(info.tx_offload_capa & FAST_FREE);
	assert_int_equal(rte_eth_dev_info_get(port, &info), 0);
	assert_true(info.tx_offload_capa & FAST_FREE);
	port_start(port, &(struct port_conf){.tx_offloads = FAST_FREE | MULTI_SEGS});
	assert_int_equal(send_some(port, 32), 32);
	assert_int_equal(rte_eth_tx_done_cleanup(port, 0, 0), 32);
	assert_int_equal(in_use(), 3);
	expect(port, "tx_fast_free_wrong", 0);

	alien = rte_pktmbuf_alloc(other_pool);
	nicsim_frame(rte_pktmbuf_append(alien, LEN), LEN, 0);
	rte_mbuf_refcnt_update(shared, 1);
	assert_int_equal(send_some(port, 28), 28);
	assert_true(send_one(port, 0, shared));
	assert_true(send_one(port, 0, alien));
	assert_true(send_one(port, 0, chain)); /* its first segment has a next */
	assert_int_equal(rte_eth_tx_done_cleanup(port, 0, 0), 31);
	expect(port, "tx_fast_free_wrong", 3);
	assert_int_equal(in_use(), 1);
	assert_int_equal(rte_mempool_in_use_count(other_pool), 0);
	rte_pktmbuf_free(shared);
}

/* ---- the rest ---- */

static void test_statistics(void **state)
{
	uint16_t port = port_open(0, "");
	struct rte_eth_stats stats;

	(void)state;
	assert_int_equal(send_some(port, 10), 10);
	assert_true(send_one(port, 1, make(LEN)));
	assert_int_equal(nicsim_poll(port), 0);
	assert_int_equal(rte_eth_stats_get(port, &stats), 0);
	assert_int_equal(stats.opackets, 11);
	assert_int_equal(stats.obytes, 11 * LEN);
	expect(port, "tx_q1_packets", 1);
	assert_int_equal(rte_eth_dev_stop(port), 0);
	port_start(port, &(struct port_conf){0}); /* other queues, the same counters */
	assert_int_equal(send_some(port, 1), 1);
	assert_int_equal(nicsim_poll(port), 0);
	expect(port, "tx_marked_good", 12);
	assert_int_equal(rte_eth_xstats_reset(port), 0);
	expect(port, "tx_marked_good", 0);
	expect(port, "tx_held", 1);
	assert_int_equal(nicsim_stat(port, "no_such"), UINT64_MAX);
	assert_int_equal(nicsim_tx_held(port, 5), -EINVAL);
	assert_int_equal(nicsim_stall(77, true), -ENODEV);
}

static void test_devargs(void **state)
{
	static const char *const wrong[] = {"no_such=1", "delay_us=", "delay_us=-1", "lazy=2",
		"peer=", "queues=0", "queues=65", "rs_thresh=0", "rxlen=59", "rxlen=9729"};
	struct rte_eth_dev_info info;
	uint16_t port;

	(void)state;
	for (size_t i = 0; i < RTE_DIM(wrong); i++)
		assert_true(rte_vdev_init("net_nicsim0", wrong[i]) < 0);
	port = port_probe(0, "queues=3,peer=x,delay_us=7,rs_thresh=16,lazy=0");
	assert_int_equal(rte_eth_dev_info_get(port, &info), 0);
	assert_int_equal(info.max_tx_queues, 3);
	assert_int_equal(info.default_txconf.tx_rs_thresh, 16);
	assert_string_equal(info.driver_name, "net_nicsim");
}

static void test_marks(void **state)
{
	uint8_t frame[1514], payload[600];
	uint32_t seq;

	(void)state;
	for (uint32_t len = NICSIM_FRAME_MIN; len <= sizeof(frame); len += 7) {
		nicsim_frame(frame, len, len);
		assert_int_equal(nicsim_verify(frame, len, &seq), NICSIM_GOOD);
		assert_int_equal(seq, len);
		assert_int_equal(
			ts_pkt_ip_check(frame, len, false, NULL), -EBADMSG); /* other payload */
		frame[42 + NICSIM_MARK] ^= 0x10; /* behind the mark, or nothing */
		assert_int_equal(nicsim_verify(frame, len, NULL), NICSIM_BAD);
		frame[42 + NICSIM_MARK] ^= 0x10;
		assert_int_equal(nicsim_verify(frame, len - 1, NULL), NICSIM_UNMARKED);
		frame[42] ^= 1;
		assert_int_equal(nicsim_verify(frame, len, NULL), NICSIM_UNMARKED);
	}
	nicsim_mark(payload, sizeof(payload), 1);
	assert_memory_equal(payload, "NSIM\0\0\0\1\0\0\2\x48", 12);
}

/* CRC32C, RFC 3720 B.4: so other programs can make marks. */
static void test_mark_crc(void **state)
{
	static const uint8_t mark[NICSIM_MARK] = {
		'N', 'S', 'I', 'M', 0, 0, 0, 0, 0, 0, 0, 32, 0x8a, 0x91, 0x36, 0xaa};
	uint8_t frame[90];

	(void)state;
	nicsim_frame(frame, sizeof(frame), 0);
	memcpy(frame + 42, mark, sizeof(mark));
	memset(frame + 58, 0, 32);
	assert_int_equal(nicsim_verify(frame, sizeof(frame), NULL), NICSIM_GOOD);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(test_holds_until_threshold),
		CASE(test_holds_a_whole_ring),
		CASE(test_blind),
		CASE(test_cleanup),
		CASE(test_ring_full),
		CASE(test_reset_drops),
		CASE(test_thresholds),
		CASE(test_change_is_seen),
		CASE(test_delay),
		CASE(test_segments),
		CASE(test_no_segments),
		CASE(test_malformed),
		CASE(test_fast_free),
		CASE(test_statistics),
		CASE(test_devargs),
		CASE(test_marks),
		CASE(test_mark_crc),
	};

	return nicsim_main(tests, RTE_DIM(tests), argc, argv);
}

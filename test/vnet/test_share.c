/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest's share of an lcore: how much one burst does for it, whatever it asks for. */
#include <string.h>

#include "pair.h"
#include "ts_pkt.h"

#define LARGE 60000u

static uint8_t frame[LARGE];
static uint8_t got[LARGE];

static void guest_sends(struct pair *p, uint32_t len, const uint32_t *cuts, unsigned n_cuts,
	uint32_t seq)
{
	ts_pkt_fill(frame, len, seq);
	assert_int_equal(
		ts_net_send(&p->net, NULL, frame, len, cuts, n_cuts, TS_INDIRECT), 0);
	p->offered++;
}

/* Poll until all n are here, in order and whole. Returns the most one burst brought. */
static unsigned receive_all(struct pair *p, unsigned n, uint32_t len)
{
	struct rte_mbuf *m[VIRTQ_BURST];
	unsigned most = 0;

	ts_ring_kick(p->tx_ring);
	for (uint32_t seq = 0; seq < n;) {
		unsigned now = vnet_dequeue(p->rx, m, VIRTQ_BURST);

		assert_int_not_equal(now, 0);
		most = RTE_MAX(most, now);
		for (unsigned i = 0; i < now; i++, seq++) {
			uint32_t number;

			assert_int_equal(pair_bytes(m[i], got), len);
			assert_int_equal(ts_pkt_check(got, len, &number), 0);
			assert_int_equal(number, seq);
			rte_pktmbuf_free(m[i]);
		}
		pair_reap(p);
	}
	assert_int_equal(vnet_dequeue(p->rx, m, VIRTQ_BURST), 0);
	assert_int_equal(p->rx->fault, VIRTQ_FAULT_NONE);
	return most;
}

/* 64 frames of 60 000 bytes do not come at once; frames as Ethernet has them do. */
static void large_frames(void **state)
{
	const struct column c = {*state, true, true, false, true};
	struct pair p;

	pair_open(&p, &c, 0, 0);
	for (unsigned i = 0; i < 16; i++)
		guest_sends(&p, LARGE, NULL, 0, i);
	assert_int_equal(receive_all(&p, 16, LARGE), VIRTQ_SHARE / LARGE + 1);
	for (unsigned i = 0; i < 64; i++)
		guest_sends(&p, 1514, NULL, 0, i);
	assert_int_equal(receive_all(&p, 64, 1514), 64);
	pair_close(&p);
}

/* Nor do frames in many pieces. */
static void scattered_frames(void **state)
{
	const struct column c = {*state, true, true, false, true};
	const uint32_t cuts[32] = {12, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
		1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
	struct pair p;
	unsigned most;

	pair_open(&p, &c, 0, 0);
	for (unsigned i = 0; i < 64; i++)
		guest_sends(&p, 100, cuts, RTE_DIM(cuts), i);
	most = receive_all(&p, 64, 100);
	assert_in_range(most, 8, VIRTQ_SHARE / VIRTQ_SHARE_PIECE / RTE_DIM(cuts) + 1);
	pair_close(&p);
}

/* A ring full of buffers that are too small for all that is sent: few of them are walked in vain. */
static void hopeless_packets(void **state)
{
	const struct column c = {*state, true, true, false, true};
	const uint32_t cut[] = {12, 8, 8, 8, 8, 8, 8, 8};
	struct rte_mbuf *m[VIRTQ_BURST];
	struct pair p;
	unsigned calls = 0;

	pair_open(&p, &c, 0, 0);
	memset(frame, 0, sizeof(frame));
	for (unsigned i = 0; i < p.rx_ring->size; i++)
		assert_int_equal(ts_net_post_rx(&p.net, cut, RTE_DIM(cut), TS_INDIRECT), 0);
	ts_ring_kick(p.rx_ring);
	for (unsigned i = 0; i < 8; i++)
		m[i] = pair_mbuf(frame, LARGE);
	for (unsigned done = 0; done < 8; calls++) {
		unsigned n = vnet_enqueue(p.tx, m + done, (uint16_t)(8 - done));

		assert_in_range(n, 1, 2);
		done += n;
	}
	assert_true(calls >= 4);
	assert_int_equal(p.tx->stats.drops[VIRTQ_DROP_TX_TOO_BIG], 8);
	assert_int_equal(p.tx->fault, VIRTQ_FAULT_NONE);
	for (unsigned i = 0; i < 8; i++)
		rte_pktmbuf_free(m[i]);
	pair_close(&p);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(large_frames),
		cmocka_unit_test(scattered_frames),
		cmocka_unit_test(hopeless_packets),
	};

	return pair_run_with(PAIR_COPY | PAIR_LEND, tests, RTE_DIM(tests), argc, argv);
}

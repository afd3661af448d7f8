/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest's share of an lcore: how much one burst does for it, whatever it asks for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>

#include "pair.h"
#include "ts_pkt.h"

#define LARGE 60000u

static uint8_t frame[LARGE];
static uint8_t got[LARGE];

static void guest_sends(
	struct pair *p, uint32_t len, const uint32_t *cuts, unsigned n_cuts, uint32_t seq)
{
	ts_pkt_fill(frame, len, seq);
	assert_int_equal(ts_net_send(&p->net, NULL, frame, len, cuts, n_cuts, TS_INDIRECT), 0);
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

/* ---- beside a neighbour ---- */

/* What the other guest of an lcore does, once a round; and what the lcore does for it. */
struct beside {
	const char *what;
	void (*offer)(struct pair *p);
	bool sends; /* we poll it; else we send to it */
};

static void nothing(struct pair *p)
{
	(void)p;
}

static void sends_small(struct pair *p)
{
	for (unsigned i = 0; i < 64; i++)
		guest_sends(p, 64, NULL, 0, i);
}

static void sends_full(struct pair *p)
{
	for (unsigned i = 0; i < 64; i++)
		guest_sends(p, 1514, NULL, 0, i);
}

static void sends_large(struct pair *p)
{
	for (unsigned i = 0; i < 16; i++)
		guest_sends(p, LARGE, NULL, 0, i);
}

static void sends_pieces(struct pair *p)
{
	const uint32_t cuts[16] = {12, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

	for (unsigned i = 0; i < 64; i++)
		guest_sends(p, 64, cuts, RTE_DIM(cuts), i);
}

static void sends_empty(struct pair *p)
{
	const struct ts_seg empty[256] = {0};

	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(ts_ring_add(p->tx_ring, empty, 128, NULL, 0, p, TS_INDIRECT), 0);
	p->offered += 16;
}

static void posts_tiny(struct pair *p)
{
	const uint32_t cut[] = {12, 8, 8, 8, 8, 8, 8, 8};

	while (ts_net_post_rx(&p->net, cut, RTE_DIM(cut), TS_INDIRECT) == 0)
		;
	ts_ring_kick(p->rx_ring);
}

/* The ring is emptied before the next round, but not on the lcore's time. */
static uint64_t poll_one(struct pair *p, unsigned want)
{
	struct rte_mbuf *m[VIRTQ_BURST];
	uint64_t start = rte_rdtsc_precise(), took;
	uint16_t n = vnet_dequeue(p->rx, m, VIRTQ_BURST);

	took = rte_rdtsc_precise() - start;
	for (uint16_t i = 0; i < n; i++)
		rte_pktmbuf_free(m[i]);
	if (want)
		assert_int_equal(n, want);
	return took;
}

static uint64_t send_hopeless(struct pair *p)
{
	struct rte_mbuf *m[16];
	uint64_t start, took;

	for (unsigned i = 0; i < RTE_DIM(m); i++)
		m[i] = pair_mbuf(frame, LARGE);
	start = rte_rdtsc_precise();
	vnet_enqueue(p->tx, m, RTE_DIM(m));
	took = rte_rdtsc_precise() - start;
	for (unsigned i = 0; i < RTE_DIM(m); i++)
		rte_pktmbuf_free(m[i]);
	return took;
}

static void rest(struct pair *p, const struct beside *row)
{
	for (unsigned i = 0; i < 64; i++) {
		poll_one(p, 0);
		while (row->offer == sends_empty && ts_ring_get_used(p->tx_ring, NULL))
			;
		pair_reap(p);
	}
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* One lcore polls both in turn: the neighbour, who loses nothing, waits for a burst of the other. */
static void beside_a_neighbour(void **state)
{
	static const struct beside rows[] = {
		{"sends nothing", nothing, true},
		{"sends 64 frames of 64 bytes", sends_small, true},
		{"sends 64 frames of 1514 bytes", sends_full, true},
		{"sends 16 frames of 60000 bytes", sends_large, true},
		{"sends 64 frames in 16 pieces", sends_pieces, true},
		{"sends 16 chains of 128 empty pieces", sends_empty, true},
		{"is sent 16 frames it has no room for", posts_tiny, false},
	};
	const struct column c = {*state, true, true, false, true};
	uint64_t took[100];

	for (const struct beside *row = rows; row != rows + RTE_DIM(rows); row++) {
		struct pair a, b;

		pair_open(&a, &c, 0, 0);
		pair_open(&b, &c, 0, 0);
		for (unsigned round = 0; round < RTE_DIM(took); round++) {
			for (unsigned i = 0; i < 32; i++)
				guest_sends(&a, 64, NULL, 0, i);
			ts_ring_kick(a.tx_ring);
			row->offer(&b);
			ts_ring_kick(b.tx_ring);
			took[round] = poll_one(&a, 32);
			took[round] += row->sends ? poll_one(&b, 0) : send_hopeless(&b);
			pair_reap(&a);
			rest(&b, row);
		}
		qsort(took, RTE_DIM(took), sizeof(took[0]), by_value);
		fprintf(stderr,
			"# beside one that %s: a round takes %llu TSC cycles, 9 of 10 %llu\n",
			row->what, (unsigned long long)took[50], (unsigned long long)took[90]);
		assert_int_equal(a.rx->stats.packets, 32 * RTE_DIM(took));
		b.tx_ring->broken = row->offer == sends_empty;
		pair_close(&a);
		pair_close(&b);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(large_frames),
		cmocka_unit_test(scattered_frames),
		cmocka_unit_test(hopeless_packets),
		cmocka_unit_test(beside_a_neighbour),
	};

	return pair_run_with(PAIR_COPY | PAIR_LEND, tests, RTE_DIM(tests), argc, argv);
}

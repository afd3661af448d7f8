/* SPDX-License-Identifier: BSD-3-Clause */
/* What a burst writes to the guest is in the dirty log, and little else; and the RARP of a guest that
 * has just moved here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ether.h>

#include "pair.h"
#include "ts_log.h"
#include "ts_pkt.h"
#include "virtq_log.h"

#define PACKET_ROOM 70000

static uint8_t frame[PACKET_ROOM], got[PACKET_ROOM];

/* Pages over all columns. */
static uint64_t changed, marked, packets;

static struct ts_log *log_open(struct pair *p)
{
	struct ts_log *l = ts_log_new(p->guest, 0, 4096);
	struct virtq_log *log;
	char why[160];

	assert_non_null(l);
	assert_int_equal(virtq_log_create(l->fd, l->size, l->offset, &log, why, sizeof(why)), 0);
	p->rx_view.log = p->tx_view.log = log;
	p->rx_view.log_ring = p->tx_view.log_ring = true;
	p->rx_view.log_used = p->tx_ring->device_gpa;
	p->tx_view.log_used = p->rx_ring->device_gpa;
	return l;
}

static void log_close(struct pair *p, struct ts_log *l)
{
	virtq_log_put(p->rx_view.log);
	ts_log_free(l);
}

/* A superset, and at most two pages more for each packet. */
static void look(const struct ts_log *l, unsigned n)
{
	struct ts_log_result r;

	assert_true(ts_log_end(l, &r));
	if (r.missed || r.stray || r.marked > r.changed + 2 * n)
		fail_msg("%u packets: %u pages changed, %u marked, %u missed (first 0x%llx), %u "
			 "stray",
			n, r.changed, r.marked, r.missed, (unsigned long long)r.first, r.stray);
	changed += r.changed;
	marked += r.marked;
	packets += n;
}

static const uint32_t lengths[] = {26, 60, 1514, 2049, 4096, 9014, 65550};

/* Buffers as drivers post them; 0 ends. */
static const uint32_t buffers[][8] = {
	{66000},
	{12, 66000},
	{10, 2, 14, 66000},
	{4096, 60000, 4096},
};

static unsigned pieces(const uint32_t *sizes)
{
	unsigned n = 0;

	while (n < 8 && sizes[n])
		n++;
	return n;
}

static void send(struct pair *p, const uint32_t *len, unsigned n, uint32_t seq)
{
	struct rte_mbuf *m[VIRTQ_BURST];

	for (unsigned i = 0; i < n; i++) {
		ts_pkt_fill(frame, len[i], seq + i);
		m[i] = pair_mbuf(frame, len[i]);
	}
	assert_int_equal(vnet_enqueue(p->tx, m, (uint16_t)n), n);
	rte_pktmbuf_free_bulk(m, n);
}

static void receive(struct pair *p, const uint32_t *len, unsigned n, uint32_t seq)
{
	for (unsigned i = 0; i < n; i++) {
		uint32_t number;

		assert_int_equal(ts_net_recv(&p->net, got, sizeof(got), NULL), len[i]);
		assert_int_equal(ts_pkt_check(got, len[i], &number), 0);
		assert_int_equal(number, seq + i);
	}
}

/* To the guest: headers, num_buffers, frames, used entries and index. */
static void send_column(const struct column *c)
{
	const unsigned n = RTE_DIM(lengths);
	struct ts_log *l;
	struct pair p;
	uint32_t seq = 0;

	pair_open(&p, c, 0, 65530);
	l = log_open(&p);
	for (unsigned b = 0; b < RTE_DIM(buffers); b++) {
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(ts_net_post_rx(&p.net, buffers[b], pieces(buffers[b]),
						 pair_mode(c, i)),
				0);
		ts_ring_kick(p.rx_ring);
		ts_log_begin(l);
		send(&p, lengths, n, seq);
		look(l, n);
		receive(&p, lengths, n, seq);
		seq += n;
	}
	log_close(&p, l);
	pair_close(&p);
}

static void trap_5_10_to_the_guest(void **state)
{
	pair_over_columns(*state, send_column);
}

/* A packet over many buffers, which lie anywhere. */
static void merge_column(const struct column *c)
{
	const uint32_t big[] = {9000, 65550, 60};
	struct ts_log *l;
	struct pair p;

	if (!c->mergeable)
		return;
	pair_open(&p, c, 0, 3);
	l = log_open(&p);
	assert_int_equal(ts_net_fill_rx(&p.net, 90, 1024), 90);
	ts_log_begin(l);
	send(&p, big, 3, 0);
	look(l, 3);
	receive(&p, big, 3, 0);
	log_close(&p, l);
	pair_close(&p);
}

static void trap_5_10_merged_buffers(void **state)
{
	pair_over_columns(*state, merge_column);
}

/* From the guest: its ring only, also where the packet is dropped or waits for an mbuf. */
static void receive_column(const struct column *c)
{
	struct rte_mbuf *m[VIRTQ_BURST];
	struct ts_log *l;
	struct pair p;

	pair_open(&p, c, 0, 65500);
	l = log_open(&p);
	for (uint32_t round = 0; round < 8; round++) {
		for (unsigned i = 0; i < 10; i++, p.offered++) {
			ts_pkt_fill(frame, 64, i);
			assert_int_equal(ts_net_send(&p.net, NULL, frame, i == 3 ? 5 : 64, NULL, 0,
						 pair_mode(c, i)),
				0);
		}
		ts_ring_kick(p.tx_ring);
		ts_log_begin(l);
		assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 9);
		look(l, 10);
		rte_pktmbuf_free_bulk(m, 9);
		assert_int_equal(ts_net_reap(&p.net), 10);
	}
	log_close(&p, l);
	pair_close(&p);
}

static void trap_5_10_from_the_guest(void **state)
{
	pair_over_columns(*state, receive_column);
	fprintf(stderr, "# %llu packets: %llu pages written, %llu marked\n",
		(unsigned long long)packets, (unsigned long long)changed,
		(unsigned long long)marked);
}

/* ---- RARP ---- */

static void rarp_as_if_from_the_guest(void **state)
{
	static const uint8_t mac[] = {0x52, 0x54, 0, 1, 2, 3}, request[] = {0, 1, 8, 0, 6, 4, 0, 3};
	const struct column c = {*state, true, true, false, true};
	struct rte_mbuf *m[VIRTQ_BURST];
	struct pair p;

	pair_open(&p, &c, 0, 0);
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 0);
	virtq_announce(p.rx, mac);
	virtq_announce(p.rx, mac);
	assert_int_equal(vnet_dequeue(p.rx, m, 0), 0);
	ts_pkt_fill(frame, 64, 0);
	assert_int_equal(ts_net_send(&p.net, NULL, frame, 64, NULL, 0, TS_DIRECT), 0);
	ts_ring_kick(p.tx_ring);
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 1);
	assert_int_equal(pair_bytes(m[0], got), 60);
	assert_int_equal(m[0]->port, 7);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(got[i], 0xff);
	assert_memory_equal(got + 6, mac, 6);
	assert_int_equal(got[12] << 8 | got[13], 0x8035);
	assert_memory_equal(got + 14, request, 8);
	assert_memory_equal(got + 22, mac, 6);
	assert_memory_equal(got + 32, mac, 6);
	rte_pktmbuf_free(m[0]);
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 1);
	assert_int_equal(pair_bytes(m[0], got), 64);
	rte_pktmbuf_free(m[0]);
	assert_int_equal(ts_net_reap(&p.net), 1);
	p.offered = 2; /* as if the guest had sent it */
	assert_int_equal(p.rx->stats.broadcast, 1);
	virtq_announce(p.rx, mac);
	virtq_announce(p.rx, NULL);
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 0);
	pair_close(&p);
}

/* Without an mbuf it waits, and so it does for a ring that is closed. */
static void rarp_waits(void **state)
{
	static const uint8_t mac[] = {0x52, 0x54, 0, 1, 2, 3};
	const struct column c = {*state, true, true, false, true};
	unsigned all = rte_mempool_avail_count(pair_pool);
	struct rte_mbuf *m[VIRTQ_BURST], **hoard = calloc(all, sizeof(*hoard));
	struct pair p;
	uint32_t ticket;

	pair_open(&p, &c, 0, 0);
	virtq_gate_swap(&p.rx->gate, NULL, &ticket);
	virtq_announce(p.rx, mac);
	assert_int_equal(vnet_dequeue(p.rx, m, 1), 0);
	virtq_gate_swap(&p.rx->gate, &p.rx_view, &ticket);
	assert_int_equal(rte_pktmbuf_alloc_bulk(pair_pool, hoard, all), 0);
	assert_int_equal(vnet_dequeue(p.rx, m, 1), 0);
	rte_pktmbuf_free_bulk(hoard, all);
	assert_int_equal(vnet_dequeue(p.rx, m, 1), 1);
	rte_pktmbuf_free(m[0]);
	p.offered = 1;
	free(hoard);
	pair_close(&p);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trap_5_10_to_the_guest),
		cmocka_unit_test(trap_5_10_merged_buffers),
		cmocka_unit_test(trap_5_10_from_the_guest),
		cmocka_unit_test(rarp_as_if_from_the_guest),
		cmocka_unit_test(rarp_waits),
	};

	return pair_run_with(PAIR_COPY | PAIR_LEND, tests, RTE_DIM(tests), argc, argv);
}

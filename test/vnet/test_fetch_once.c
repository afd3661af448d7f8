/* SPDX-License-Identifier: BSD-3-Clause */
/* Whatever a guest writes is read once in a burst: each access of the burst functions is watched. */
#include <string.h>

#include "fetch.h"
#include "ts_pkt.h"
#include "ts_raw.h"
#include "virtq_lend.h"
#include "vnet_direct.h"

#define ROOM 70000

static uint8_t frame[ROOM], got[ROOM];

static void send_all(struct watched *t);
static void direct_all(struct watched *t);

static void each(const struct vq_format *format, void (*run)(struct watched *), uint64_t extra)
{
	for (unsigned bits = 0; bits < 16; bits++) {
		const struct column c = {format, bits & 1, bits & 2, bits & 4, bits & 8};
		struct watched t;

		fetch_open(&t, &c, extra);
		if (run == send_all || run == direct_all ||
			!t.p.tx->far.on) /* which is about sending */
			run(&t);
		fetch_close(&t);
	}
}

/* ---- guest to mbufs ---- */

static void receive_all(struct watched *t)
{
	static const uint32_t lengths[] = {60, 300, VNET_LEND_MIN};
	struct rte_mbuf *m[VIRTQ_BURST];

	for (uint32_t cut = 0; cut < FETCH_CUTS; cut++) {
		for (uint32_t i = 0; i < RTE_DIM(lengths); i++) {
			ts_pkt_fill(frame, lengths[i], i);
			fetch_sends(t, NULL, frame, lengths[i], fetch_cuts[cut],
				fetch_count(fetch_cuts[cut]), pair_mode(&t->p.c, cut + i));
		}
		ts_ring_kick(t->p.tx_ring);
		assert_int_equal(fetch_dequeue(t, m), RTE_DIM(lengths));
		fetch_judge(t);
		for (uint32_t i = 0; i < RTE_DIM(lengths); i++) {
			assert_int_equal(ts_pkt_check(got, pair_bytes(m[i], got), NULL), 0);
			rte_pktmbuf_free(m[i]);
		}
		pair_reap(&t->p);
	}
}

static void receive(void **state)
{
	each(*state, receive_all, 0);
}

/* Where requests are looked at. */
static void receive_offloads_all(struct watched *t)
{
	const struct ts_ip ip = {.proto = 6, .payload = 1400, .partial = true};
	struct virtio_net_hdr_v1 hdr;
	const uint32_t len = ts_pkt_ip(frame, sizeof(frame), &ip, &hdr);
	struct rte_mbuf *m[VIRTQ_BURST];

	hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	hdr.gso_size = 500;
	for (uint32_t cut = 0; cut < FETCH_CUTS; cut++) {
		fetch_sends(t, &hdr, frame, len, fetch_cuts[cut], fetch_count(fetch_cuts[cut]),
			pair_mode(&t->p.c, cut));
		hdr.csum_start ^= !t->p.lender; /* every second one asks for nonsense */
	}
	ts_ring_kick(t->p.tx_ring);
	rte_pktmbuf_free_bulk(m, fetch_dequeue(t, m));
	fetch_judge(t);
	pair_reap(&t->p);
}

static void receive_offloads(void **state)
{
	each(*state, receive_offloads_all, F(CSUM) | F(HOST_TSO4));
}

/* Of a packet that is lent the first bytes are read, and nothing else. */
static void lent_payload_is_not_read(void **state)
{
	const struct column c = {*state, true, true, true, true};
	struct rte_mbuf *m[VIRTQ_BURST];
	struct ts_seg seg;
	struct watched t;

	fetch_open(&t, &c, 0);
	seg = (struct ts_seg){ts_alloc(t.p.guest, 0, 4096, 4096), 12 + 1500};
	ts_pkt_fill(frame, 1500, 0);
	assert_int_equal(ts_net_send_at(&t.p.net, NULL, frame, 1500, &seg, 1, TS_DIRECT), 0);
	t.p.offered++;
	ts_ring_kick(t.p.tx_ring);
	assert_int_equal(fetch_dequeue(&t, m), 1);
	fetch_judge(&t);
	for (uint32_t i = 0; i < 1500; i++)
		assert_int_equal(ts_watch_reads(t.watch, seg.gpa + 12 + i), !t.p.lender || i < 128);
	/* Who sends it on reads it once. */
	ts_net_fill_rx(&t.p.net, 1, 2048);
	assert_int_equal(fetch_enqueue(&t, m, 1), 1);
	fetch_judge(&t);
	for (uint32_t i = 0; i < 1500; i++)
		assert_int_equal(ts_watch_reads(t.watch, seg.gpa + 12 + i), t.p.lender && i >= 128);
	assert_int_equal(ts_net_recv(&t.p.net, got, sizeof(got), NULL), 1500);
	rte_pktmbuf_free(m[0]);
	pair_reap(&t.p);
	fetch_close(&t);
}

/* Without mbufs chains are put back, and not looked at again. */
static void receive_without_mbufs(void **state)
{
	const struct column c = {*state, true, true, true, true};
	unsigned all = rte_mempool_avail_count(pair_pool) - 3;
	struct rte_mbuf *m[VIRTQ_BURST], *hoard[1024];
	struct watched t;

	fetch_open(&t, &c, 0);
	for (uint32_t i = 0; i < 10; i++)
		fetch_sends(&t, NULL, frame, 64, NULL, 0, pair_mode(&c, i));
	ts_ring_kick(t.p.tx_ring);
	assert_int_equal(rte_pktmbuf_alloc_bulk(pair_pool, hoard, all), 0);
	assert_int_equal(fetch_dequeue(&t, m), 3);
	fetch_judge(&t);
	rte_pktmbuf_free_bulk(m, 3);
	rte_pktmbuf_free_bulk(hoard, all);
	rte_pktmbuf_free_bulk(m, vnet_dequeue(t.p.rx, m, VIRTQ_BURST));
	pair_reap(&t.p);
	fetch_close(&t);
}

/* ---- mbufs to guest ---- */

static void send_all(struct watched *t)
{
	static const uint32_t layouts[][4] = {{5000}, {12, 5000}, {1, 11, 5000}, {3000, 3000}};
	static const uint32_t lengths[] = {60, 300, 1514, 4200};
	struct rte_mbuf *m[VIRTQ_BURST];
	const uint32_t small = 600;

	for (uint32_t k = 0; k <= RTE_DIM(layouts); k++) {
		for (uint32_t i = 0; i < 16; i++) {
			unsigned n = 0;

			while (k < RTE_DIM(layouts) && n < 4 && layouts[k][n])
				n++;
			ts_net_post_rx(&t->p.net, n ? layouts[k] : &small, n ? n : 1,
				pair_mode(&t->p.c, i));
		}
		ts_ring_kick(t->p.rx_ring);
		for (uint32_t i = 0; i < RTE_DIM(lengths); i++) {
			ts_pkt_fill(frame, lengths[i], i);
			m[i] = pair_mbuf(frame, lengths[i]);
		}
		if (k < RTE_DIM(layouts))
			assert_int_equal(fetch_enqueue(t, m, RTE_DIM(lengths)), RTE_DIM(lengths));
		else /* several buffers a packet, or too large for one: then it is the last */
			fetch_enqueue(t, m, t->p.c.mergeable ? RTE_DIM(lengths) : 3);
		fetch_judge(t);
		rte_pktmbuf_free_bulk(m, RTE_DIM(lengths));
		while (ts_net_recv(&t->p.net, got, sizeof(got), NULL) > 0)
			;
	}
}

static void send(void **state)
{
	each(*state, send_all, 0);
}

/* Too few buffers: what was reserved is put back. */
static void send_short_of_buffers(void **state)
{
	const struct column c = {*state, true, true, true, true};
	struct rte_mbuf *m[4];
	struct watched t;

	fetch_open(&t, &c, 0);
	ts_net_fill_rx(&t.p.net, 5, 600);
	ts_pkt_fill(frame, 1400, 0);
	for (unsigned i = 0; i < 4; i++)
		m[i] = pair_mbuf(frame, 1400);
	assert_int_equal(fetch_enqueue(&t, m, 4), 1);
	fetch_judge(&t);
	rte_pktmbuf_free_bulk(m, 4);
	assert_int_equal(ts_net_recv(&t.p.net, got, sizeof(got), NULL), 1400);
	fetch_close(&t);
}

/* ---- guest to guest ---- */

#define DIRECT 7u

/* What was left, and then all that came. */
static void direct_rest(struct watched *t, unsigned went, unsigned buffers)
{
	struct rte_mbuf *m[VIRTQ_BURST];
	uint16_t n = vnet_dequeue(t->p.rx, m, VIRTQ_BURST);

	assert_int_equal(went + n, DIRECT);
	ts_net_fill_rx(&t->p.net, DIRECT - buffers, 5000);
	assert_int_equal(vnet_enqueue(t->p.tx, m, n), n);
	rte_pktmbuf_free_bulk(m, n);
	pair_reap(&t->p);
	for (uint32_t i = 0, number; i < DIRECT; i++) {
		const int len = ts_net_recv(&t->p.net, got, sizeof(got), NULL);

		assert_int_equal(ts_pkt_check(got, (uint32_t)len, &number), 0);
		assert_int_equal(number, i);
	}
}

/* With one that is not plain, and so many buffers. */
static void direct_some(struct watched *t, unsigned odd, unsigned buffers)
{
	static const uint32_t lengths[DIRECT] = {60, 64, 300, 1514, 4200, 200, 60}, cut = 20;
	const unsigned expect = RTE_MIN(odd, buffers);

	ts_net_fill_rx(&t->p.net, buffers, 5000);
	for (uint32_t i = 0; i < DIRECT; i++) {
		ts_pkt_fill(frame, lengths[i], i);
		fetch_sends(t, NULL, frame, lengths[i], &cut, i == odd, TS_DIRECT);
	}
	ts_ring_kick(t->p.tx_ring);
	assert_int_equal(fetch_direct(t), expect    ? expect
					  : buffers ? VNET_DIRECT_NOT
						    : VNET_DIRECT_NOT_NOW);
	fetch_judge(t);
	direct_rest(t, expect, buffers);
}

static void direct_all(struct watched *t)
{
	for (unsigned i = 0; i <= DIRECT; i++) {
		direct_some(t, i, DIRECT);
		direct_some(t, DIRECT, i);
	}
}

static void direct(void **state)
{
	each(*state, direct_all, 0);
	each(*state, direct_all, F(CSUM) | F(GUEST_CSUM));
}

static void send_offloads(void **state)
{
	const struct column c = {*state, true, true, true, true};
	const struct ts_ip ip = {.proto = 6, .payload = 3000, .partial = true};
	struct virtio_net_hdr_v1 hdr;
	struct rte_mbuf *m;
	struct watched t;
	uint32_t len;

	fetch_open(&t, &c, F(GUEST_CSUM) | F(GUEST_TSO4));
	len = ts_pkt_ip(frame, sizeof(frame), &ip, &hdr);
	m = pair_mbuf(frame, len);
	m->ol_flags = RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_TCP_CKSUM | RTE_MBUF_F_TX_IPV4 |
		      RTE_MBUF_F_TX_IP_CKSUM;
	m->l2_len = 14, m->l3_len = 20, m->l4_len = 20, m->tso_segsz = 1000;
	ts_net_fill_rx(&t.p.net, 16, 1000);
	assert_int_equal(fetch_enqueue(&t, &m, 1), 1);
	fetch_judge(&t);
	rte_pktmbuf_free(m);
	assert_int_equal(ts_net_recv(&t.p.net, got, sizeof(got), NULL), len);
	fetch_close(&t);
}

/* ---- who else reads rings ---- */

static bool look(void *arg, uint64_t addr, uint32_t len, bool table)
{
	(void)arg, (void)addr, (void)len, (void)table;
	return true;
}

static void others_all(struct watched *t)
{
	for (uint32_t i = 0; i < 12; i++)
		fetch_sends(t, NULL, frame, 64, fetch_cuts[i % FETCH_CUTS],
			fetch_count(fetch_cuts[i % FETCH_CUTS]), pair_mode(&t->p.c, i));
	ts_ring_kick(t->p.tx_ring);
	ts_watch_begin(t->watch);
	virtq_peek(t->p.rx, &t->p.rx_view, 1000, look, NULL);
	ts_watch_end(t->watch);
	fetch_judge(t);
	ts_watch_begin(t->watch);
	virtq_fill(t->p.rx, &t->p.rx_view);
	ts_watch_end(t->watch);
	fetch_judge(t);
	ts_watch_begin(t->watch);
	assert_false(virtq_arm(t->p.rx) && t->p.rx_view.kicks);
	ts_watch_end(t->watch);
	ts_watch_begin(t->watch);
	virtq_discard(t->p.rx, &t->p.rx_view, 1000);
	ts_watch_end(t->watch);
	fetch_judge(t);
	pair_reap(&t->p);
}

static void others(void **state)
{
	each(*state, others_all, 0);
}

/* A start takes its position from the device area, once; in a packed ring from what is there. */
static void start(void **state)
{
	const struct column c = {*state, false, true, true, true};
	struct watched t;
	char why[400];

	fetch_open(&t, &c, 0);
	for (uint32_t n = 0; n < 12; n++) {
		const uint32_t base = t.p.rx_view.packed ? 0x8000u | n : n;

		/* Base 0: whatever is in the ring decides what a half that was left out means. */
		for (uint32_t i = 0; i < t.p.tx_ring->size && t.p.tx_ring->pdesc; i++)
			t.p.tx_ring->pdesc[i].flags =
				(uint16_t)(ts_packed_avail_bits(false) | (i + 1 < n ? 1 : 0));
		ts_watch_begin(t.watch);
		virtq_start(t.p.rx, &t.p.rx_view, n % 2 ? base & 0x7fff : base);
		ts_watch_end(t.watch);
		assert_int_not_equal(t.watch->n, 0);
		if (!ts_watch_once(t.watch, why, sizeof(why)))
			fail_msg("%s", why);
	}
	ts_ring_reset(t.p.tx_ring, ts_base_fresh(t.p.tx_ring->features));
	fetch_close(&t);
}

/* ---- what is no driver's: every way out of the walk, each descriptor named once ---- */

static struct vring_desc random_desc(struct ts_rng *rng, uint64_t table, uint16_t next)
{
	const uint64_t at[] = {table, table + 16 * ts_rand_below(rng, 64), table + 5, 0x100000,
		0x100000 + (48u << 20) - 8, 0, UINT64_MAX - 3};
	static const uint16_t flags[] = {0, 0, 1, 1, 1, 2, 3, 4, 4, 5, 6};

	return (struct vring_desc){at[ts_rand_below(rng, RTE_DIM(at))],
		ts_rand_below(rng, 3) ? 16 * ts_rand_below(rng, 5) : ts_rand_below(rng, 80),
		flags[ts_rand_below(rng, RTE_DIM(flags))], next};
}

/* Buffers and tables may overlap; what is read of the ring and of each table is read once. */
static void offer_anything(
	struct ts_ring *r, const struct virtq *vq, uint64_t table, struct ts_rng *rng)
{
	for (uint16_t i = 0; i < 8; i++) {
		struct vring_desc d = random_desc(rng, table, (uint16_t)(i + 1));

		if (i == 7)
			d.flags &= (uint16_t)~VRING_DESC_F_NEXT;
		if (r->pdesc) {
			const struct vring_packed_desc p = {d.addr, d.len, i, d.flags};

			ts_raw_put(r, ts_raw_behind(r, vq->avail, i), &p, 1);
		} else {
			r->desc[i] = d;
		}
	}
	if (!r->pdesc) {
		r->avail->idx = vq->avail;
		ts_raw_offer(r, (uint16_t)ts_rand_below(rng, 8));
	}
}

static void only_ring_twice(const struct watched *t, const struct ts_ring *r, unsigned round)
{
	const uint64_t end = r->desc_gpa + 16ull * r->size;

	for (unsigned i = 0; i < t->watch->n; i++) {
		const struct ts_access *a = &t->watch->access[i];

		if (a->read && a->gpa >= r->desc_gpa && a->gpa < end &&
			ts_watch_reads(t->watch, a->gpa) > 1)
			fail_msg("round %u: descriptor %u is read twice", round,
				(unsigned)(a->gpa - r->desc_gpa) / 16);
	}
	fetch_never_device(t, r);
}

/* One burst over it, in the one direction or the other. */
static void burst_over_anything(
	struct watched *t, uint64_t table, unsigned round, struct ts_rng *rng)
{
	const bool rx = round % 2;
	struct virtq *vq = rx ? t->p.rx : t->p.tx;
	const struct virtq_view *v = rx ? &t->p.rx_view : &t->p.tx_view;
	struct ts_ring *r = rx ? t->p.tx_ring : t->p.rx_ring;
	struct rte_mbuf *m[VIRTQ_BURST];

	for (uint16_t i = 0; i < 64; i++)
		*(struct vring_desc *)ts_va(t->p.guest, table + 16 * i, 16) =
			random_desc(rng, table, (uint16_t)(i + 1));
	virtq_start(vq, v, virtq_position(vq, v->packed));
	offer_anything(r, vq, table, rng);
	if (rx) {
		rte_pktmbuf_free_bulk(m, fetch_dequeue(t, m));
	} else {
		m[0] = pair_mbuf(frame, 20);
		fetch_enqueue(t, m, 1);
		rte_pktmbuf_free(m[0]);
	}
	only_ring_twice(t, r, round);
}

static void anything(void **state)
{
	const struct column c = {*state, true, true, true, true};
	unsigned faults = 0;
	struct ts_rng rng;
	struct watched t;
	uint64_t table;

	ts_rng_init(&rng, ts_seed());
	fetch_open(&t, &c, F(CSUM));
	table = ts_alloc(t.p.guest, 0, 4096, 4096);
	for (unsigned round = 0; round < 600; round++) {
		burst_over_anything(&t, table, round, &rng);
		faults += (round % 2 ? t.p.rx : t.p.tx)->fault != VIRTQ_FAULT_NONE;
		if (t.p.lender)
			t.p.rx_view.lender->settle(t.p.rx_view.lender, t.p.rx, &t.p.rx_view);
	}
	assert_true(faults > 100);
	assert_true(t.p.tx->stats.packets > 5);
	t.p.offered = t.p.rx->stats.packets;
	for (unsigned i = 0; i < VIRTQ_DROP_COUNT; i++)
		t.p.offered += t.p.rx->stats.drops[i];
	assert_true(t.p.offered > 5);
	ts_ring_reset(t.p.rx_ring, ts_base_fresh(t.p.rx_ring->features));
	ts_ring_reset(t.p.tx_ring, ts_base_fresh(t.p.tx_ring->features));
	fetch_close(&t);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(receive),
		cmocka_unit_test(receive_offloads),
		cmocka_unit_test(lent_payload_is_not_read),
		cmocka_unit_test(receive_without_mbufs),
		cmocka_unit_test(direct),
		cmocka_unit_test(send),
		cmocka_unit_test(send_short_of_buffers),
		cmocka_unit_test(send_offloads),
		cmocka_unit_test(others),
		cmocka_unit_test(start),
		cmocka_unit_test(anything),
	};

	return pair_run(tests, RTE_DIM(tests), argc, argv);
}

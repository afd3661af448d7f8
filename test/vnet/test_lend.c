/* SPDX-License-Identifier: BSD-3-Clause */
/* Lent packets: whose memory they are, when their chains go back, and what becomes of those kept long. */
#include <pthread.h>
#include <string.h>

#include <rte_cycles.h>

#include "lend.h"
#include "pair.h"
#include "ts_pkt.h"

#define ROOM 70000

static uint8_t frame[ROOM], got[ROOM];

static void guest_sends(struct pair *p, uint32_t len, uint32_t seq)
{
	ts_pkt_fill(frame, len, seq);
	assert_int_equal(ts_net_send(&p->net, NULL, frame, len, NULL, 0, TS_DIRECT), 0);
	ts_ring_kick(p->tx_ring);
	p->offered++;
}

static struct rte_mbuf *we_receive(struct pair *p)
{
	struct rte_mbuf *m[VIRTQ_BURST];

	assert_int_equal(vnet_dequeue(p->rx, m, VIRTQ_BURST), 1);
	return m[0];
}

/* A packet of the guest's that we hold. */
static struct rte_mbuf *a_packet(struct pair *p, uint32_t len, uint32_t seq)
{
	guest_sends(p, len, seq);
	return we_receive(p);
}

static bool is_lent(const struct rte_mbuf *m)
{
	return m->ol_flags & VNET_MBUF_F_LENT;
}

static bool in_guest(const struct pair *p, const struct rte_mbuf *m)
{
	const uint8_t *at = rte_pktmbuf_mtod(m, const uint8_t *);

	return at >= p->mem->spans[0].hva && at < p->mem->spans[0].hva + p->mem->spans[0].size;
}

static void check(const struct rte_mbuf *m, uint32_t len, uint32_t seq)
{
	uint32_t number;

	assert_int_equal(pair_bytes(m, got), len);
	assert_int_equal(ts_pkt_check(got, len, &number), 0);
	assert_int_equal(number, seq);
}

static void open_pair(struct pair *p, void **state, uint64_t extra)
{
	const struct column c = {*state, true, true, true, true};

	pair_open(p, &c, extra, 0);
}

/* Time as the lender sees it: none passes, or all the time there is. */
static void time_stands(struct pair *p)
{
	p->lender->overtake = p->lender->too_late = UINT64_MAX;
}

static void it_is_time(struct pair *p, uint64_t *limit)
{
	struct virtq_lender *lender = p->rx_view.lender;

	lender->settle(lender, p->rx, &p->rx_view); /* sees that nothing moves */
	rte_delay_us_block(1);
	*limit = 0;
}

/* ---- what is lent ---- */

static void large_packets_are_lent_small_ones_copied(void **state)
{
	const uint32_t len[] = {60, VNET_LEND_MIN - 1, VNET_LEND_MIN, 1514, 9014, 65550};
	struct pair p;

	open_pair(&p, state, 0);
	for (unsigned i = 0; i < RTE_DIM(len); i++) {
		struct rte_mbuf *m = a_packet(&p, len[i], i);
		bool large = len[i] >= VNET_LEND_MIN;

		check(m, len[i], i);
		assert_int_equal(is_lent(m), large);
		assert_false(in_guest(&p, m));
		assert_int_equal(pair_reap(&p), !large);
		if (large) {
			assert_int_equal(m->nb_segs, 2);
			assert_int_equal(m->data_len, LEND_HEADER);
			assert_true(in_guest(&p, m->next));
			assert_true(m->next->buf_iova == (uintptr_t)m->next->buf_addr);
		}
		rte_pktmbuf_free(m);
		assert_int_equal(pair_reap(&p), large);
	}
	assert_int_equal(p.rx->stats.lent, 4);
	pair_close(&p);
}

static void least_length_can_be_set(void **state)
{
	struct pair p;

	open_pair(&p, state, 0);
	vnet_lender_least(p.lender, VNET_LEND_MIN_TO_GUEST);
	for (uint32_t more = 0; more < 2; more++) {
		struct rte_mbuf *m = a_packet(&p, VNET_LEND_MIN_TO_GUEST - 1 + more, more);

		assert_int_equal(is_lent(m), more);
		rte_pktmbuf_free(m);
	}
	pair_close(&p);
}

/* What is looked at was copied: a guest that changes its buffer changes only what is sent of it. */
static void headers_are_not_the_guests(void **state)
{
	struct pair p;
	struct rte_mbuf *m;

	open_pair(&p, state, 0);
	m = a_packet(&p, 1514, 1);
	memset(rte_pktmbuf_mtod(m->next, void *), 0xee, 100);
	pair_bytes(m, got);
	assert_memory_equal(got, frame, LEND_HEADER);
	assert_int_equal(got[LEND_HEADER], 0xee);
	memcpy(rte_pktmbuf_mtod(m->next, void *), frame + LEND_HEADER,
		100); /* the test guest checks */
	rte_pktmbuf_free(m);
	assert_int_equal(pair_reap(&p), 1);
	pair_close(&p);
}

static void there_is_room_for_encapsulation(void **state)
{
	struct pair p;
	struct rte_mbuf *m;

	open_pair(&p, state, 0);
	m = a_packet(&p, 1514, 1);
	assert_non_null(rte_pktmbuf_prepend(m, RTE_PKTMBUF_HEADROOM));
	assert_int_equal(rte_pktmbuf_headroom(m), 0);
	rte_pktmbuf_free(m);
	m = a_packet(&p, 1514, 2);
	assert_int_equal(rte_pktmbuf_headroom(m), RTE_PKTMBUF_HEADROOM);
	rte_pktmbuf_free(m);
	pair_close(&p);
}

/* A large frame as Linux sends it: headers, then pages. */
static void many_pieces(void **state)
{
	const uint32_t cut[] = {12 + 66, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096,
		4096, 4096, 4096, 4096, 4096};
	struct pair p;
	struct rte_mbuf *m;

	open_pair(&p, state, 0);
	ts_pkt_fill(frame, 65000, 3);
	assert_int_equal(
		ts_net_send(&p.net, NULL, frame, 65000, cut, RTE_DIM(cut), TS_INDIRECT), 0);
	ts_ring_kick(p.tx_ring);
	p.offered++;
	m = we_receive(&p);
	assert_true(is_lent(m));
	assert_int_equal(m->nb_segs, 17);
	check(m, 65000, 3);
	rte_pktmbuf_free(m);
	assert_int_equal(pair_reap(&p), 1);
	pair_close(&p);
}

/* Checksum and segmentation are asked for in the copied part, or the packet is copied. */
static void requests_go_with_lent_packets(void **state)
{
	const struct ts_ip ip = {.proto = 6, .payload = 64000, .partial = true};
	struct virtio_net_hdr_v1 hdr;
	struct rte_mbuf *m;
	struct pair p;
	uint32_t len;

	open_pair(&p, state, F(CSUM) | F(HOST_TSO4));
	len = ts_pkt_ip(frame, sizeof(frame), &ip, &hdr);
	hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	hdr.gso_size = 1448;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(ts_net_send(&p.net, &hdr, frame, len, NULL, 0, TS_DIRECT), 0);
		ts_ring_kick(p.tx_ring);
		p.offered++;
		m = we_receive(&p);
		assert_int_equal(is_lent(m), i == 0);
		assert_int_equal(!(m->ol_flags & RTE_MBUF_F_TX_TCP_SEG), i);
		rte_pktmbuf_free(m);
		assert_int_equal(pair_reap(&p), 1);
		hdr.gso_type = VIRTIO_NET_HDR_GSO_NONE; /* a plain sum, of bytes far behind */
		hdr.csum_start = 5000;
		hdr.csum_offset = 20;
	}
	pair_close(&p);
}

/* ---- coming home ---- */

static void clones_and_copies_keep_the_buffer(void **state)
{
	struct rte_mbuf *m, *clone, *copy;
	struct pair p;

	open_pair(&p, state, 0);
	m = a_packet(&p, 1514, 1);
	clone = rte_pktmbuf_clone(m, pair_pool);
	assert_non_null(clone);
	rte_pktmbuf_free(m);
	assert_int_equal(pair_reap(&p), 0);
	check(clone, 1514, 1);
	copy = rte_pktmbuf_copy(clone, pair_pool, 0, UINT32_MAX);
	rte_pktmbuf_free(clone);
	assert_int_equal(pair_reap(&p), 1);
	check(copy, 1514, 1);
	rte_pktmbuf_free(copy);

	m = a_packet(&p, 1514, 2); /* as the switch floods: one more owner of each segment */
	for (struct rte_mbuf *s = m; s; s = s->next)
		rte_mbuf_refcnt_update(s, 1);
	rte_pktmbuf_free(m);
	assert_int_equal(pair_reap(&p), 0);
	rte_pktmbuf_free(m);
	assert_int_equal(pair_reap(&p), 1);
	pair_close(&p);
}

/* Together: what nobody else holds comes home, the rest when it is let go. */
static void freed_in_bulk(void **state)
{
	const uint32_t len[] = {1514, 60, 1514, 1514, 9014};
	struct rte_mbuf *m[RTE_DIM(len)], *kept, *clone;
	struct pair p;
	uint32_t out;

	open_pair(&p, state, 0);
	for (uint32_t i = 0; i < RTE_DIM(len); i++)
		m[i] = a_packet(&p, len[i], i);
	out = vnet_lender_out(p.lender);
	kept = m[2];
	for (struct rte_mbuf *s = kept; s; s = s->next)
		rte_mbuf_refcnt_update(s, 1);
	clone = rte_pktmbuf_clone(m[3], pair_pool);
	assert_non_null(clone);
	vnet_free_bulk(m, RTE_DIM(m));
	pair_reap(&p);
	assert_int_equal(vnet_lender_out(p.lender), out / 2);
	check(kept, 1514, 2);
	check(clone, 1514, 3);
	vnet_free_bulk(&kept, 1);
	vnet_free_bulk(&clone, 1);
	pair_reap(&p);
	assert_int_equal(vnet_lender_out(p.lender), 0);
	check(m[0] = a_packet(&p, 1514, 9), 1514, 9);
	assert_int_equal(m[0]->nb_segs, 2);
	vnet_free_bulk(m, 1);
	pair_close(&p);
}

static void chains_go_back_in_order(void **state)
{
	struct rte_mbuf *m[4];
	struct pair p;

	open_pair(&p, state, 1ull << VIRTIO_F_IN_ORDER);
	time_stands(&p);
	for (unsigned i = 0; i < 4; i++)
		m[i] = a_packet(&p, i == 2 ? 60 : 1514, i);
	assert_int_equal(pair_reap(&p), 0); /* the small one has its turn behind two others */
	rte_pktmbuf_free(m[3]);
	rte_pktmbuf_free(m[2]);
	rte_pktmbuf_free(m[1]);
	it_is_time(&p, &p.lender->overtake);
	assert_int_equal(pair_reap(&p), 0);
	assert_true(m[0]->ol_flags & VNET_MBUF_F_LENT_ORDERED);
	rte_pktmbuf_free(m[0]);
	assert_int_equal(pair_reap(&p), 4);
	pair_close(&p);
}

/* Without IN_ORDER a buffer that is kept holds up nothing but itself. */
static void others_overtake_what_is_kept(void **state)
{
	struct rte_mbuf *m[4];
	struct pair p;

	open_pair(&p, state, 0);
	time_stands(&p);
	for (unsigned i = 0; i < 4; i++)
		m[i] = a_packet(&p, i == 2 ? 60 : 1514, i);
	rte_pktmbuf_free(m[3]);
	assert_int_equal(pair_reap(&p), 0);
	it_is_time(&p, &p.lender->overtake);
	assert_int_equal(pair_reap(&p), 2);
	rte_pktmbuf_free(m[2]);
	rte_pktmbuf_free(a_packet(&p, 60, 4));
	rte_pktmbuf_free(a_packet(&p, 1514, 5));
	assert_int_equal(pair_reap(&p), 2);
	rte_pktmbuf_free(m[0]);
	assert_int_equal(pair_reap(&p), 1);
	rte_pktmbuf_free(m[1]);
	assert_int_equal(pair_reap(&p), 1);
	assert_false(p.rx_view.lender->window.overtaking);
	pair_close(&p);
}

/* ---- those who keep them ---- */

/* However little comes back, the guest goes on: half of its ring is never lent. */
/* Somebody keeps one packet; more than the window has places for come and go meanwhile. */
static void one_kept_stops_nobody(void **state)
{
	struct rte_mbuf *kept;
	uint64_t limit;
	struct pair p;

	open_pair(&p, state, 0);
	kept = a_packet(&p, 1514, 0);
	it_is_time(&p, &limit);
	p.lender->overtake = 0;
	p.lender->too_late = UINT64_MAX;
	for (uint32_t i = 1; i < 3 * (p.rx_view.lender->window.mask + 1); i++) {
		struct rte_mbuf *m = a_packet(&p, 1514, i);

		check(m, 1514, i);
		vnet_free_bulk(&m, 1);
		pair_reap(&p);
	}
	assert_true(p.rx_view.lender->window.overtaking);
	assert_true(p.rx->stats.lent_not > 0);
	check(kept, 1514, 0);
	vnet_free_bulk(&kept, 1);
	pair_reap(&p);
	assert_int_equal(vnet_lender_out(p.lender), 0);
	kept = a_packet(&p, 1514, 7);
	assert_true(is_lent(kept));
	vnet_free_bulk(&kept, 1);
	pair_close(&p);
}

/* A body comes home as whoever had it left it, and goes out as new. */
static void bodies_go_out_as_new(void **state)
{
	struct rte_mbuf *m, *body;
	struct pair p;

	open_pair(&p, state, 0);
	m = a_packet(&p, 1514, 1);
	body = m->next;
	body->data_off = 100;
	vnet_free_bulk(&m, 1);
	rte_mbuf_refcnt_set(body, 0);
	pair_reap(&p);
	m = a_packet(&p, 1514, 2);
	assert_ptr_equal(m->next, body);
	check(m, 1514, 2);
	vnet_free_bulk(&m, 1);
	assert_int_equal(pair_reap(&p), 1);
	pair_close(&p);
}

static void half_a_ring_at_most_is_lent(void **state)
{
	struct rte_mbuf *kept[VIRTQ_BURST * 4];
	unsigned half, lent = 0, copied = 0, i = 0;
	struct pair p;

	open_pair(&p, state, 0);
	time_stands(&p);
	half = p.rx_view.num / 2u;
	for (; i < 2 * half; i++) {
		struct rte_mbuf *m = a_packet(&p, 1514, i);

		check(m, 1514, i);
		if (is_lent(m)) {
			kept[lent++] = m;
		} else {
			rte_pktmbuf_free(m);
			copied++;
		}
		pair_reap(&p);
	}
	assert_true(lent >= half - 1 && lent <= half);
	assert_int_equal(copied, i - lent);
	assert_int_equal(p.rx->stats.lent_not, copied);
	rte_pktmbuf_free_bulk(kept, lent);
	pair_close(&p);
}

/* Whoever keeps a buffer for too long gets no more of them. */
static void nothing_is_lent_while_one_is_late(void **state)
{
	struct rte_mbuf *kept, *m;
	struct pair p;

	open_pair(&p, state, 0);
	time_stands(&p);
	kept = a_packet(&p, 1514, 0);
	it_is_time(&p, &p.lender->too_late);
	it_is_time(&p, &p.lender->overtake);
	assert_int_equal(pair_reap(&p), 0);
	m = a_packet(&p, 1514, 1);
	assert_false(is_lent(m));
	rte_pktmbuf_free(m);
	assert_int_equal(pair_reap(&p), 1);
	rte_pktmbuf_free(kept);
	assert_int_equal(pair_reap(&p), 1);
	m = a_packet(&p, 1514, 2);
	assert_true(is_lent(m));
	rte_pktmbuf_free(m);
	pair_close(&p);
}

/* A device came that does not reach the memory: nothing more is lent, what is lent comes home. */
static void lending_may_pause(void **state)
{
	struct rte_mbuf *m[2];
	struct pair p;

	open_pair(&p, state, 0);
	m[0] = a_packet(&p, 1514, 0);
	assert_false(vnet_lend(&p.rx_view, p.lender, VNET_LEND_NONE));
	m[1] = a_packet(&p, 1514, 1);
	assert_false(is_lent(m[1]));
	rte_pktmbuf_free_bulk(m, 2);
	assert_int_equal(pair_reap(&p), 2);
	assert_true(vnet_lend(&p.rx_view, p.lender, VNET_LEND_LOCAL));
	m[0] = a_packet(&p, 1514, 2);
	assert_true(m[0]->ol_flags & VNET_MBUF_F_LENT_UNMAPPED);
	rte_pktmbuf_free(m[0]);
	pair_close(&p);
}

/* When a ring stops, all its chains go back; what comes home later is kept apart. */
static void what_is_not_home_is_abandoned(void **state)
{
	struct virtq_lender *lender;
	struct rte_mbuf *m[3];
	struct pair p;

	open_pair(&p, state, 0);
	time_stands(&p);
	lender = p.rx_view.lender;
	for (unsigned i = 0; i < 3; i++)
		m[i] = a_packet(&p, 1514, i);
	it_is_time(&p, &p.lender->too_late);
	rte_pktmbuf_free(m[1]);
	assert_int_equal(lender->settle(lender, p.rx, &p.rx_view), 2);
	assert_int_equal(lender->abandon(lender, p.rx, &p.rx_view), 2);
	assert_int_equal(pair_reap(&p), 3);
	assert_int_equal(virtq_position(p.rx, p.rx_view.packed), ts_ring_used_pos(p.tx_ring));
	for (unsigned i = 0; i < 3; i++)
		assert_true(lender->reap(lender, true));
	assert_int_equal(p.mem->refs, 2); /* a NIC may read there still */
	assert_true(vnet_lend(&p.rx_view, p.lender, VNET_LEND_ALL));
	m[1] = a_packet(&p, 1514, 3);
	assert_true(is_lent(m[1])); /* being late ended with the ring */
	rte_pktmbuf_free(m[1]);
	rte_pktmbuf_free(m[0]);
	assert_int_equal(pair_reap(&p), 1);
	rte_pktmbuf_free(m[2]);
	assert_int_equal(pair_reap(&p), 0);
	lender->reap(lender, true);
	assert_false(lender->reap(lender, true));
	assert_int_equal(p.mem->refs, 1);
	assert_true(vnet_lend(&p.rx_view, p.lender, VNET_LEND_ALL));
	pair_close(&p);
}

/* A ring that runs gets another memory table: the old one stays as long as its buffers are out. */
static void memory_lasts_as_long_as_its_buffers(void **state)
{
	struct virtq_mem *old;
	struct virtq_lender *lender;
	struct rte_mbuf *m;
	struct pair p;

	open_pair(&p, state, 0);
	lender = p.rx_view.lender;
	old = p.mem;
	m = a_packet(&p, 1514, 0);
	p.mem = vq_guarded_mem(p.guest);
	p.rx_view.mem = p.mem;
	assert_true(vnet_lend(&p.rx_view, p.lender, VNET_LEND_ALL));
	assert_true(lender->reap(lender, false)); /* sees that lcores have left it */
	rte_pktmbuf_free(a_packet(&p, 1514, 1));
	assert_int_equal(pair_reap(&p), 0);
	assert_true(lender->reap(lender, false));
	assert_int_equal(old->refs, 2);
	rte_pktmbuf_free(m);
	assert_int_equal(pair_reap(&p), 2);
	assert_false(lender->reap(lender, false));
	assert_int_equal(old->refs, 1);
	free(old);
	pair_close(&p);
}

/* Its port goes while a NIC has its buffers: the lender follows when they have come home. */
static void lender_outlives_its_ring(void **state)
{
	struct virtq_lender *lender;
	struct rte_mbuf *m;
	struct pair p;

	open_pair(&p, state, 0);
	lender = p.rx_view.lender;
	m = a_packet(&p, 1514, 0);
	lender->abandon(lender, p.rx, &p.rx_view);
	p.rx_view.lender = NULL;
	vnet_lender_release(p.lender);
	p.lender = NULL;
	assert_int_equal(vnet_lenders_reap(), 1);
	check(m, 1514, 0);
	rte_pktmbuf_free(m);
	assert_int_equal(vnet_lenders_reap(), 0);
	pair_close(&p);
}

/* ---- by other threads ---- */

#define HANDED 4096

struct hands {
	struct rte_mbuf *slot[HANDED];
	uint32_t given;
};

static void *free_them(void *arg)
{
	struct hands *h = arg;

	for (uint32_t i = 0; i < HANDED;) {
		uint32_t n = __atomic_load_n(&h->given, __ATOMIC_ACQUIRE) - i;

		n = RTE_MIN(n, 32u);
		rte_pktmbuf_free_bulk(&h->slot[i], n);
		i += n;
	}
	return NULL;
}

static void any_thread_may_free(void **state)
{
	static struct hands h[2];
	uint32_t received = 0, reaped = 0, sent = 0;
	pthread_t thread[2];
	struct pair p;

	open_pair(&p, state, 0);
	memset(h, 0, sizeof(h));
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, free_them, &h[i]);
	while (received < 2 * HANDED) {
		struct rte_mbuf *m[VIRTQ_BURST];
		uint16_t n;

		while (sent < 2 * HANDED && sent - reaped < 200)
			guest_sends(&p, VNET_LEND_MIN, sent++);
		n = vnet_dequeue(p.rx, m, VIRTQ_BURST);
		for (uint16_t i = 0; i < n; i++, received++) {
			struct hands *to = &h[received % 2];

			check(m[i], VNET_LEND_MIN, received);
			to->slot[to->given] = m[i];
			__atomic_store_n(&to->given, to->given + 1, __ATOMIC_RELEASE);
		}
		reaped += ts_net_reap(&p.net);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(reaped + pair_reap(&p), 2 * HANDED);
	assert_true(p.rx->stats.lent > 0);
	pair_close(&p);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(large_packets_are_lent_small_ones_copied),
		cmocka_unit_test(least_length_can_be_set),
		cmocka_unit_test(headers_are_not_the_guests),
		cmocka_unit_test(there_is_room_for_encapsulation),
		cmocka_unit_test(many_pieces),
		cmocka_unit_test(requests_go_with_lent_packets),
		cmocka_unit_test(clones_and_copies_keep_the_buffer),
		cmocka_unit_test(freed_in_bulk),
		cmocka_unit_test(chains_go_back_in_order),
		cmocka_unit_test(others_overtake_what_is_kept),
		cmocka_unit_test(one_kept_stops_nobody),
		cmocka_unit_test(bodies_go_out_as_new),
		cmocka_unit_test(half_a_ring_at_most_is_lent),
		cmocka_unit_test(nothing_is_lent_while_one_is_late),
		cmocka_unit_test(lending_may_pause),
		cmocka_unit_test(what_is_not_home_is_abandoned),
		cmocka_unit_test(memory_lasts_as_long_as_its_buffers),
		cmocka_unit_test(lender_outlives_its_ring),
		cmocka_unit_test(any_thread_may_free),
	};

	return pair_run_with(PAIR_LEND, tests, RTE_DIM(tests), argc, argv);
}

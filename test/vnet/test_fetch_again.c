/* SPDX-License-Identifier: BSD-3-Clause */
/* What a burst may read again is rewritten between: the second reading is judged as if it were the first. */
#include <string.h>
#include <unistd.h>

#include "fetch.h"
#include "ts_pkt.h"
#include "virtq_inflight.h"

static uint8_t frame[4096], got[70000];

/* At the first read of a byte, this is written. */
struct rewrite {
	struct watched *t;
	uint64_t gpa;
	uint64_t to_gpa;
	uint64_t value;
	size_t len;
	unsigned seen;
};

static void rewrite(void *arg, const struct ts_access *a)
{
	struct rewrite *r = arg;

	if (!a->read || r->gpa - a->gpa >= a->len || r->seen++ > 0)
		return;
	ts_guest_write(r->t->p.guest, r->to_gpa, &r->value, r->len);
}

static void rewrite_at(struct rewrite *r)
{
	r->seen = 0;
	r->t->watch->after = rewrite;
	r->t->watch->arg = r;
}

/* The index grows to what is there, or beyond all sense: the second look is judged like the first. */
static void index_again(void **state)
{
	const struct column c = {*state, false, false, true, true};

	for (unsigned wild = 0; wild < 2; wild++) {
		struct rte_mbuf *m[3];
		struct watched t;
		struct rewrite r = {.t = &t, .len = 2};

		fetch_open(&t, &c, 0);
		ts_net_fill_rx(&t.p.net, 3, 2048);
		r.gpa = r.to_gpa = t.p.rx_ring->driver_gpa + 2;
		r.value = t.p.rx_ring->avail->idx + (wild ? t.p.rx_ring->size : 0u);
		t.p.rx_ring->avail->idx -= 2;
		for (unsigned i = 0; i < 3; i++)
			m[i] = pair_mbuf(frame, 60);
		rewrite_at(&r);
		assert_int_equal(fetch_enqueue(&t, m, 3), wild ? 1 : 3);
		assert_int_equal(r.seen, 2);
		fetch_judge(&t);
		assert_int_equal(t.p.tx->fault, wild ? VIRTQ_FAULT_AVAIL_JUMP : VIRTQ_FAULT_NONE);
		rte_pktmbuf_free_bulk(m, 3);
		t.p.rx_ring->avail->idx = (uint16_t)(r.value - (wild ? t.p.rx_ring->size : 0));
		while (ts_net_recv(&t.p.net, got, sizeof(got), NULL) > 0)
			;
		fetch_close(&t);
	}
}

/* Where prefetch() read nonsense take() reads a head, and the reverse: the latter counts. */
static void head_again(void **state)
{
	const struct column c = {*state, false, true, true, true};

	for (unsigned wild = 0; wild < 2; wild++) {
		struct rte_mbuf *m[VIRTQ_BURST];
		struct watched t;
		struct rewrite r = {.t = &t, .len = 2};
		uint16_t head, *at;

		fetch_open(&t, &c, 0);
		at = &t.p.tx_ring->avail->ring[t.p.tx_ring->avail->idx % t.p.tx_ring->size];
		ts_pkt_fill(frame, 60, 5);
		fetch_sends(&t, NULL, frame, 60, NULL, 0, TS_DIRECT);
		ts_ring_kick(t.p.tx_ring);
		head = *at;
		r.gpa = r.to_gpa = ts_gpa(t.p.guest, at);
		r.value = wild ? 0xffff : head;
		*at = wild ? head : 0xffff;
		rewrite_at(&r);
		assert_int_equal(fetch_dequeue(&t, m), !wild);
		assert_int_equal(r.seen, 2);
		fetch_judge(&t);
		assert_int_equal(t.p.rx->fault, wild ? VIRTQ_FAULT_BAD_INDEX : VIRTQ_FAULT_NONE);
		if (wild) { /* mended, it is taken after all */
			*at = head;
			virtq_start(t.p.rx, &t.p.rx_view, t.p.rx->avail);
			assert_int_equal(vnet_dequeue(t.p.rx, m, 1), 1);
		}
		assert_int_equal(ts_pkt_check(got, pair_bytes(m[0], got), NULL), 0);
		rte_pktmbuf_free(m[0]);
		pair_reap(&t.p);
		fetch_close(&t);
	}
}

/* Where in the table the next receive buffer is. */
static uint16_t next_head(const struct pair *p)
{
	const struct ts_ring *r = p->rx_ring;

	return r->pdesc ? p->tx->avail & 0x7fff : r->avail->ring[p->tx->avail % r->size];
}

/* A packet too large for a buffer, then one that finds another buffer in the same descriptor. */
static void chain_again(void **state)
{
	const struct column c = {*state, false, false, true, true};
	struct rte_mbuf *m[2];
	struct watched t;
	struct rewrite r = {.t = &t, .len = 8};
	struct ts_seg a, b;

	fetch_open(&t, &c, 0);
	a = (struct ts_seg){ts_alloc(t.p.guest, 0, 1024, 64), 1000};
	b = (struct ts_seg){ts_alloc(t.p.guest, 0, 1024, 64), 1000};
	assert_int_equal(ts_net_post_rx_at(&t.p.net, &a, 1, TS_DIRECT), 0);
	ts_ring_kick(t.p.rx_ring);
	r.gpa = r.to_gpa = t.p.rx_ring->desc_gpa + 16ull * next_head(&t.p);
	ts_watch_allow(t.watch, r.gpa, 16, 1);
	if (!t.p.rx_ring->pdesc) /* and the entry that names it, beside what prefetch() reads */
		ts_watch_allow(t.watch, t.p.rx_ring->driver_gpa + 4, 2ull * t.p.rx_ring->size, 2);
	r.value = b.gpa;
	m[0] = pair_mbuf(frame, 1500);
	ts_pkt_fill(frame, 900, 9);
	m[1] = pair_mbuf(frame, 900);
	rewrite_at(&r);
	assert_int_equal(fetch_enqueue(&t, m, 2), 2);
	assert_int_equal(r.seen, 2);
	fetch_judge(&t);
	assert_int_equal(t.p.tx->stats.drops[VIRTQ_DROP_TX_TOO_BIG], 1);
	assert_memory_equal((uint8_t *)ts_va(t.p.guest, b.gpa, 1000) + 12, frame, 900);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_not_equal(*(uint8_t *)ts_va(t.p.guest, a.gpa + i, 1), frame[0]);
	rte_pktmbuf_free_bulk(m, 2);
	r.value = a.gpa; /* the strict driver knows of no other */
	ts_guest_write(t.p.guest, r.to_gpa, &r.value, 8);
	ts_guest_write(t.p.guest, a.gpa, ts_va(t.p.guest, b.gpa, 1000), 1000);
	assert_int_equal(ts_net_recv(&t.p.net, got, sizeof(got), NULL), 900);
	fetch_close(&t);
}

/* The header asked for what cannot be lent. When it is copied it asks for nothing. */
static void header_again(void **state)
{
	const struct column c = {*state, false, true, true, true};
	const struct virtio_net_hdr_v1 hdr = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 1000, .csum_offset = 6};
	struct rte_mbuf *m[1];
	struct watched t;
	struct rewrite r = {.t = &t, .len = 1};
	struct ts_seg seg;

	fetch_open(&t, &c, F(CSUM));
	if (!t.p.lender) {
		fetch_close(&t);
		return;
	}
	seg = (struct ts_seg){ts_alloc(t.p.guest, 0, 2048, 64), 12 + 1500};
	r.gpa = r.to_gpa = seg.gpa;
	ts_watch_allow(t.watch, seg.gpa, 12 + 128, 1);
	ts_pkt_fill(frame, 1500, 0);
	assert_int_equal(ts_net_send_at(&t.p.net, &hdr, frame, 1500, &seg, 1, TS_DIRECT), 0);
	t.p.offered++;
	ts_ring_kick(t.p.tx_ring);
	rewrite_at(&r);
	assert_int_equal(fetch_dequeue(&t, m), 1);
	assert_int_equal(r.seen, 2);
	fetch_judge(&t);
	assert_int_equal(m[0]->ol_flags, 0);
	assert_int_equal(pair_bytes(m[0], got), 1500);
	assert_memory_equal(got, frame, 1500);
	rte_pktmbuf_free(m[0]);
	ts_guest_write(t.p.guest, seg.gpa, &hdr, 1); /* the strict driver checks */
	pair_reap(&t.p);
	fetch_close(&t);
}

/* ---- what is read once stays as it was read ---- */

/* What a driver writes over a descriptor that has been read, byte by byte. */
static void descriptor_rewritten(struct watched *t, unsigned place, unsigned field)
{
	static const struct {
		uint8_t at, len;
	} fields[] = {{0, 8}, {8, 4}, {12, 2}, {14, 2}};
	struct rewrite r = {.t = t, .value = UINT64_MAX, .len = fields[field].len};
	const struct ts_ring *ring = t->p.tx_ring;
	struct rte_mbuf *m[VIRTQ_BURST];
	uint32_t number, desc;
	uint64_t keep = 0;

	for (uint32_t i = 0; i < 4; i++) {
		ts_pkt_fill(frame, 60 + i, i);
		fetch_sends(t, NULL, frame, 60 + i, NULL, 0, TS_DIRECT);
	}
	ts_ring_kick(t->p.tx_ring);
	desc = ring->pdesc ? ((t->p.rx->avail & 0x7fffu) + place) % ring->size
			   : ring->avail->ring[(t->p.rx->avail + place) % ring->size];
	r.gpa = r.to_gpa = ring->desc_gpa + 16 * desc + fields[field].at;
	ts_guest_read(t->p.guest, r.gpa, &keep, r.len);
	rewrite_at(&r);
	assert_int_equal(fetch_dequeue(t, m), 4);
	assert_int_equal(r.seen, 1);
	fetch_judge(t);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(pair_bytes(m[i], got), 60 + i);
		assert_int_equal(ts_pkt_check(got, 60 + i, &number), 0);
		assert_int_equal(number, i);
		rte_pktmbuf_free(m[i]);
	}
	if (!ring->pdesc || field == 0) /* else a used descriptor is there by now */
		ts_guest_write(t->p.guest, r.gpa, &keep, r.len);
	assert_int_equal(pair_reap(&t->p), 4);
}

static void rewritten_48cae0bfa6_af584d21bf(void **state)
{
	const struct column c = {*state, false, true, true, true};
	struct watched t;

	fetch_open(&t, &c, 0);
	for (unsigned place = 0; place < 4; place++)
		for (unsigned field = 0; field < 4; field++)
			descriptor_rewritten(&t, place, field);
	fetch_close(&t);
}

/* The fix of CVE-2024-11614 read csum_start again behind the check. */
static void csum_start_rewritten_285e6b8b18(void **state)
{
	const struct column c = {*state, false, true, true, true};
	const struct ts_ip ip = {.proto = 17, .payload = 100, .partial = true};
	struct virtio_net_hdr_v1 hdr;
	struct rewrite r = {.value = 0xfff0, .len = 2};
	struct rte_mbuf *m[1];
	struct watched t;
	struct ts_seg seg;
	uint32_t len;

	for (uint32_t field = 0; field < 5; field++) {
		static const uint8_t at[] = {0, 2, 4, 6, 8}; /* flags, hdr_len, gso_size, csum */

		fetch_open(&t, &c, F(CSUM));
		len = ts_pkt_ip(frame, sizeof(frame), &ip, &hdr);
		seg = (struct ts_seg){ts_alloc(t.p.guest, 0, 2048, 64), 12 + len};
		assert_int_equal(ts_net_send_at(&t.p.net, &hdr, frame, len, &seg, 1, TS_DIRECT), 0);
		t.p.offered++;
		ts_ring_kick(t.p.tx_ring);
		r.t = &t;
		r.len = at[field] == 8 ? 1 : 2; /* which is read a byte at a time */
		r.gpa = r.to_gpa = seg.gpa + at[field];
		rewrite_at(&r);
		assert_int_equal(fetch_dequeue(&t, m), 1);
		assert_int_equal(r.seen, 1);
		fetch_judge(&t);
		assert_true(m[0]->ol_flags & RTE_MBUF_F_TX_UDP_CKSUM);
		assert_int_equal(m[0]->l2_len + m[0]->l3_len, hdr.csum_start);
		rte_pktmbuf_free(m[0]);
		ts_guest_write(t.p.guest, seg.gpa, &hdr, 12);
		pair_reap(&t.p);
		fetch_close(&t);
	}
}

/* Descriptors that are kept before they are overwritten: what they say then is only kept. */
static void kept_in_flight(void **state)
{
	const struct column c = {*state, false, true, true, true};
	const uint16_t size = (uint16_t)pair_ring_size(&c);
	const uint64_t bytes = virtq_inflight_size(1, size, true);
	struct virtq_inflight *region = NULL;
	struct rte_mbuf *m[VIRTQ_BURST];
	struct watched t;
	char why[160];
	int fd = virtq_inflight_create(bytes);

	assert_int_equal(
		virtq_inflight_map(fd, bytes, 0, 1, size, true, &region, why, sizeof(why)), 0);
	close(fd);
	fetch_open(&t, &c, 0);
	t.p.rx_view.inflight_ring = virtq_inflight_ring(region, 0, size, t.p.rx_view.packed);
	virtq_start(t.p.rx, &t.p.rx_view, ts_ring_used_pos(t.p.tx_ring));
	if (t.p.tx_ring->pdesc)
		ts_watch_allow(t.watch, t.p.tx_ring->desc_gpa, 16ull * size, 1);
	for (uint32_t i = 0; i < 20; i++)
		fetch_sends(&t, NULL, frame, 64, fetch_cuts[i % 5], fetch_count(fetch_cuts[i % 5]),
			TS_DIRECT);
	ts_ring_kick(t.p.tx_ring);
	assert_int_equal(fetch_dequeue(&t, m), 20);
	fetch_judge(&t);
	rte_pktmbuf_free_bulk(m, 20);
	pair_reap(&t.p);
	fetch_close(&t);
	virtq_inflight_put(region);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		PAIR_SPLIT(index_again),
		PAIR_SPLIT(head_again),
		cmocka_unit_test(chain_again),
		cmocka_unit_test(header_again),
		cmocka_unit_test(rewritten_48cae0bfa6_af584d21bf),
		cmocka_unit_test(csum_start_rewritten_285e6b8b18),
		cmocka_unit_test(kept_in_flight),
	};

	return pair_run(tests, RTE_DIM(tests), argc, argv);
}

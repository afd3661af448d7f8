/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest to guest without mbufs: what goes that way, what is left to the ordinary one, and that none can tell. */
#include <string.h>

#include "guests.h"
#include "ts_pkt.h"
#include "virtq_log.h"

#define ROOM 70000

static uint8_t frame[ROOM], got[ROOM];

static uint16_t direct(struct pair *from, struct pair *to)
{
	return vnet_direct(
		from->rx, (struct vnet_direct_to){to->tx, UINT32_MAX, NULL}, VIRTQ_BURST);
}

/* The ordinary way. */
static uint16_t by_mbufs(struct pair *from, struct pair *to)
{
	struct rte_mbuf *m[VIRTQ_BURST];
	uint16_t n = vnet_dequeue(from->rx, m, VIRTQ_BURST);

	assert_int_equal(vnet_enqueue(to->tx, m, n), n);
	vnet_free_bulk(m, n);
	return n;
}

static void sends_plain(struct pair *p, uint32_t len, uint32_t seq)
{
	guests_sends(p, len, NULL, seq, TS_DIRECT);
	ts_ring_kick(p->tx_ring);
}

/* ---- every layout ---- */

static const uint32_t lengths[] = {26, 60, 64, 65, 128, 512, 1514, 2049, 4096, 9014, 65550};
static const uint32_t cuts[][4] = {{0}, {12}, {16, 1}};
static const uint32_t buffers[][4] = {{66000}, {12, 66000}, {2000, 64000}};

/* As a switch does: what does not go direct goes the other way. @return how much went direct */
static unsigned pass_all(struct guests *g, unsigned n)
{
	unsigned went = 0, all = 0;

	while (all < n) {
		uint16_t now = direct(&g->from, &g->to);

		if (vnet_direct_went(now))
			went += now;
		else
			now = by_mbufs(&g->from, &g->to);
		assert_int_not_equal(now, 0);
		all += now;
		pair_reap(&g->from);
	}
	return went;
}

static void layout(struct guests *g, unsigned cut, unsigned buffer)
{
	const struct column *from = &g->from.c, *to = &g->to.c;
	const unsigned n = RTE_DIM(lengths);
	unsigned pieces = 0, direct_ones;

	while (buffers[buffer][pieces])
		pieces++;
	for (unsigned i = 0; i < n; i++) {
		guests_sends(&g->from, lengths[i], cuts[cut], i, pair_mode(from, i));
		assert_int_equal(
			ts_net_post_rx(&g->to.net, buffers[buffer], pieces, pair_mode(to, i + 1)),
			0);
	}
	ts_ring_kick(g->from.tx_ring);
	ts_ring_kick(g->to.rx_ring);
	direct_ones = pass_all(g, n);
	assert_int_equal(direct_ones, cut || buffer ? 0 : n);
	for (unsigned i = 0; i < n; i++)
		guests_receives(&g->to, lengths[i], i);
	assert_int_equal(direct(&g->from, &g->to), 0);
}

static void every_layout(void **state)
{
	for (unsigned bits = 0; bits < 16; bits++) {
		const struct column from = {*state, bits & 1, true, bits & 2, bits & 4};
		const struct column to = {
			&vq_formats[bits >> 3], bits & 1, bits & 4, bits & 2, true};
		struct guests g;

		guests_open(&g, &from, &to);
		for (unsigned i = 0; i < RTE_DIM(cuts) * RTE_DIM(buffers); i++)
			layout(&g, i % RTE_DIM(cuts), i / RTE_DIM(cuts));
		guests_close(&g);
	}
}

/* Virtio-net headers of the two sides may differ in length. */
static void headers_of_both_lengths(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct column old = {*state, false, false, false, false};
		const struct column new = guests_column(*state);
		struct guests g;

		guests_open(&g, i ? &old : &new, i ? &new : &old);
		ts_net_fill_rx(&g.to.net, 1, 2048);
		sends_plain(&g.from, 300, 1);
		assert_int_equal(direct(&g.from, &g.to), 1);
		guests_receives(&g.to, 300, 1);
		guests_close(&g);
	}
}

/* ---- what does not go this way is not touched ---- */

static void nothing_moved(struct guests *g, uint16_t why, uint16_t avail, uint64_t packets)
{
	assert_int_equal(direct(&g->from, &g->to), why);
	assert_int_equal(g->from.rx->avail, avail);
	assert_int_equal(g->from.rx->stats.packets, packets);
	assert_int_equal(g->to.tx->stats.packets, packets);
	assert_int_equal(pair_reap(&g->from), 0);
}

/* One that is plain, one that is not, one that is: the first goes, the second is where the burst ends. */
static void second_is_not(struct guests *g, uint16_t why)
{
	uint16_t avail;

	ts_ring_kick(g->from.tx_ring);
	assert_int_equal(direct(&g->from, &g->to), 1);
	assert_int_equal(pair_reap(&g->from), 1);
	avail = g->from.rx->avail;
	for (unsigned i = 0; i < 2; i++)
		nothing_moved(g, why, avail, 1);
	assert_int_equal(g->from.rx->fault | g->to.tx->fault, 0);
}

static void what_is_not_plain(void **state)
{
	const struct column c = guests_column(*state);
	const uint32_t two[] = {40, 0};
	struct virtio_net_hdr_v1 hdr;
	const struct ts_ip ip = {.proto = 6, .payload = 100, .partial = true};
	struct rte_mbuf *m[VIRTQ_BURST];
	struct guests g;
	uint32_t len;

	for (unsigned what = 0; what < 4; what++) {
		pair_open(&g.from, &c, F(CSUM), 0);
		pair_open(&g.to, &c, F(GUEST_CSUM), 0);
		ts_net_fill_rx(&g.to.net, 3, 2048);
		guests_sends(&g.from, 64, NULL, 0, TS_DIRECT);
		len = ts_pkt_ip(frame, sizeof(frame), &ip, &hdr);
		if (what == 0)
			assert_int_equal(
				ts_net_send(&g.from.net, &hdr, frame, len, NULL, 0, TS_DIRECT), 0);
		else if (what == 1)
			guests_sends(&g.from, 64, two, 1, TS_DIRECT);
		else
			assert_int_equal(ts_net_send(&g.from.net, NULL, frame,
						 what == 2 ? 13 : 66000, NULL, 0, TS_DIRECT),
				0);
		g.from.offered += what != 1;
		guests_sends(&g.from, 64, NULL, 2, TS_DIRECT);
		second_is_not(&g, VNET_DIRECT_NOT);
		/* The ordinary way has its reasons. */
		len = vnet_dequeue(g.from.rx, m, VIRTQ_BURST);
		assert_int_equal(len, what < 2 ? 2 : 1);
		assert_int_equal(vnet_enqueue(g.to.tx, m, (uint16_t)len), len);
		vnet_free_bulk(m, (uint16_t)len);
		guests_close(&g);
	}
}

/* The receiver's: no buffer, too small a one, one in pieces; and a frame that is longer than it is told to expect. */
static void what_has_no_place(void **state)
{
	const struct column c = guests_column(*state);
	const uint32_t sizes[][2] = {{0}, {60 + 12 - 1}, {32, 2048}};
	struct guests g;

	for (unsigned what = 0; what < RTE_DIM(sizes); what++) {
		guests_open(&g, &c, &c);
		ts_net_fill_rx(&g.to.net, 1, 2048);
		if (what)
			ts_net_post_rx(&g.to.net, sizes[what], what, TS_DIRECT);
		ts_ring_kick(g.to.rx_ring);
		for (uint32_t i = 0; i < 2; i++)
			guests_sends(&g.from, 60, NULL, i, TS_DIRECT);
		second_is_not(&g, what ? VNET_DIRECT_NOT : VNET_DIRECT_NOT_NOW);
		ts_net_fill_rx(&g.to.net, 1, 2048);
		assert_int_equal(by_mbufs(&g.from, &g.to), 1);
		guests_receives(&g.to, 60, 0);
		assert_int_equal(ts_net_recv(&g.to.net, got, sizeof(got), NULL), 60);
		guests_close(&g);
	}
	guests_open(&g, &c, &c);
	ts_net_fill_rx(&g.to.net, 2, 2048);
	sends_plain(&g.from, 1514, 0);
	assert_int_equal(guests_direct(&g, VIRTQ_BURST, 1513, NULL), VNET_DIRECT_NOT);
	assert_int_equal(guests_direct(&g, VIRTQ_BURST, 1514, NULL), 1);
	guests_receives(&g.to, 1514, 0);
	guests_close(&g);
}

/* ---- who decides ---- */

struct decision {
	struct guests *g;
	uint16_t seen, goes; /* frames */
	uint8_t *rewrite;    /* the guest's memory, or NULL */
};

static uint16_t decide(
	void *arg, const struct vnet_beginning *begin, uint16_t n, struct vnet_direct_to *way)
{
	struct decision *d = arg;

	for (uint32_t i = 0; i < n; i++) {
		const uint32_t len = i ? 200 : 60;

		ts_pkt_fill(frame, len, i);
		assert_memory_equal(begin[i].byte, frame, RTE_MIN(len, (uint32_t)VNET_BEGINNING));
	}
	d->seen = n;
	if (d->rewrite)
		memset(d->rewrite, 0xee, VNET_BEGINNING);
	*way = (struct vnet_direct_to){d->g->to.tx, UINT32_MAX, NULL};
	return d->goes;
}

static uint16_t direct_by(struct decision *d)
{
	struct vnet_direct_to way;

	return vnet_direct_by(d->g->from.rx, VIRTQ_BURST, &way, decide, d);
}

/* As far as is decided, and nothing if that is nothing. */
static void somebody_decides(void **state)
{
	const struct column c = guests_column(*state);
	struct guests g;
	struct decision d = {&g, 0, 0, NULL};

	guests_open(&g, &c, &c);
	ts_net_fill_rx(&g.to.net, 4, 2048);
	assert_int_equal(direct_by(&d), 0);
	for (uint32_t i = 0; i < 4; i++)
		sends_plain(&g.from, i ? 200 : 60, i);
	assert_int_equal(direct_by(&d), VNET_DIRECT_NOT);
	assert_int_equal(d.seen, 4);
	assert_int_equal(pair_reap(&g.from), 0);
	d.goes = 3;
	assert_int_equal(direct_by(&d), 3);
	assert_int_equal(pair_reap(&g.from), 3);
	for (uint32_t i = 0; i < 3; i++)
		guests_receives(&g.to, i ? 200 : 60, i);
	assert_int_equal(direct(&g.from, &g.to), 1);
	guests_receives(&g.to, 200, 3);
	guests_close(&g);
}

/* What was decided by is what arrives, whatever the guest writes afterwards. */
static void what_was_seen_arrives(void **state)
{
	const struct column c = guests_column(*state);
	struct ts_seg seg = {0, 12 + 60};
	struct guests g;
	struct decision d = {&g, 0, 1, NULL};

	guests_open(&g, &c, &c);
	ts_net_fill_rx(&g.to.net, 1, 2048);
	seg.gpa = ts_alloc(g.from.guest, 0, 4096, 4096);
	d.rewrite = (uint8_t *)ts_va(g.from.guest, seg.gpa + 12, 60);
	ts_pkt_fill(frame, 60, 0);
	assert_int_equal(ts_net_send_at(&g.from.net, NULL, frame, 60, &seg, 1, TS_DIRECT), 0);
	g.from.offered++;
	ts_ring_kick(g.from.tx_ring);
	assert_int_equal(direct_by(&d), 1);
	assert_int_equal(d.rewrite[0], 0xee);
	guests_receives(&g.to, 60, 0);
	guests_close(&g);
}

/* ---- rings that are not just running ---- */

/* One frame, and room for some. */
static void one_waits(struct guests *g, const struct vq_format *format)
{
	const struct column c = guests_column(format);

	guests_open(g, &c, &c);
	ts_net_fill_rx(&g->to.net, 3, 2048);
	sends_plain(&g->from, 64, 0);
}

static struct virtq_view logged_view(const struct virtq_view *v)
{
	struct virtq_view logged = *v;

	logged.log = (struct virtq_log *)(uintptr_t)64; /* which nobody may look into */
	return logged;
}

static void receivers_that_are_not(void **state)
{
	struct virtq_view logged;
	struct guests g;
	uint32_t ticket;

	one_waits(&g, *state);
	virtq_gate_swap(&g.to.tx->gate, NULL, &ticket);
	nothing_moved(&g, VNET_DIRECT_NOT, g.from.rx->avail, 0);
	logged = logged_view(&g.to.tx_view);
	virtq_gate_swap(&g.to.tx->gate, &logged, &ticket);
	nothing_moved(&g, VNET_DIRECT_NOT, g.from.rx->avail, 0);
	virtq_gate_swap(&g.to.tx->gate, &g.to.tx_view, &ticket);
	virtq_park(g.to.tx, VIRTQ_FAULT_LOOP);
	nothing_moved(&g, VNET_DIRECT_NOT, g.from.rx->avail, 0);
	virtq_store(&g.to.tx->fault, VIRTQ_FAULT_NONE);
	assert_int_equal(direct(&g.from, &g.to), 1);
	guests_receives(&g.to, 64, 0);
	guests_close(&g);
}

static void senders_that_are_not(void **state)
{
	const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
	struct virtq_view logged;
	struct guests g;
	uint32_t ticket;

	one_waits(&g, *state);
	virtq_announce(g.from.rx, mac);
	nothing_moved(&g, VNET_DIRECT_NOT_NOW, g.from.rx->avail, 0);
	g.from.offered++;
	assert_int_equal(by_mbufs(&g.from, &g.to), 1); /* the announcement */
	assert_int_equal(ts_net_recv(&g.to.net, got, sizeof(got), NULL), 60);
	logged = logged_view(&g.from.rx_view);
	virtq_gate_swap(&g.from.rx->gate, &logged, &ticket);
	nothing_moved(&g, VNET_DIRECT_NOT_NOW, g.from.rx->avail, 1);
	virtq_gate_swap(&g.from.rx->gate, NULL, &ticket);
	assert_int_equal(direct(&g.from, &g.to), 0);
	virtq_gate_swap(&g.from.rx->gate, &g.from.rx_view, &ticket);
	virtq_park(g.from.rx, VIRTQ_FAULT_LOOP);
	assert_int_equal(direct(&g.from, &g.to), 0);
	virtq_store(&g.from.rx->fault, VIRTQ_FAULT_NONE);
	assert_int_equal(direct(&g.from, &g.to), 1);
	guests_receives(&g.to, 64, 0);
	guests_close(&g);
}

/* What is lent was taken first: nothing overtakes it, until it has come home and was given back. */
static void behind_what_is_lent(void **state)
{
	const struct column c = guests_column(*state);
	struct rte_mbuf *m[VIRTQ_BURST];
	struct guests g;

	guests_open(&g, &c, &c);
	ts_net_fill_rx(&g.to.net, 3, 2048);
	sends_plain(&g.from, 1514, 0);
	assert_int_equal(vnet_dequeue(g.from.rx, m, 1), 1);
	assert_int_equal(vnet_enqueue(g.to.tx, m, 1), 1);
	sends_plain(&g.from, 64, 1);
	if (g.from.lender) {
		nothing_moved(&g, VNET_DIRECT_NOT_NOW, g.from.rx->avail, 1);
		rte_pktmbuf_free(m[0]);
	} else {
		rte_pktmbuf_free(m[0]);
	}
	/* At home, and given back first. */
	assert_int_equal(direct(&g.from, &g.to), 1);
	assert_int_equal(pair_reap(&g.from), 2);
	guests_receives(&g.to, 1514, 0);
	guests_receives(&g.to, 64, 1);
	guests_close(&g);
}

/* ---- how much, and what is counted ---- */

static void a_burst_is_bounded(void **state)
{
	const struct column c = guests_column(*state);
	const uint32_t large = 60000;
	const unsigned share = VIRTQ_SHARE / large + 1;
	struct guests g;

	guests_open(&g, &c, &c);
	assert_int_equal(ts_net_fill_rx(&g.to.net, 100, 2048), 100);
	for (uint32_t i = 0; i < 90; i++)
		guests_sends(&g.from, 1514, NULL, i, TS_DIRECT);
	ts_ring_kick(g.from.tx_ring);
	assert_int_equal(guests_direct(&g, 7, UINT32_MAX, NULL), 7);
	assert_int_equal(guests_direct(&g, 1000, UINT32_MAX, NULL), VIRTQ_BURST);
	assert_int_equal(direct(&g.from, &g.to), 90 - 7 - VIRTQ_BURST);
	assert_int_equal(direct(&g.from, &g.to), 0);
	for (uint32_t i = 0; i < 90; i++)
		guests_receives(&g.to, 1514, i);
	guests_close(&g);
	guests_open(&g, &c, &c);
	assert_int_equal(ts_net_fill_rx(&g.to.net, 8, 66000), 8);
	for (uint32_t i = 0; i < 8; i++)
		guests_sends(&g.from, large, NULL, i, TS_DIRECT);
	ts_ring_kick(g.from.tx_ring);
	for (unsigned left = 8; left > 0; left -= RTE_MIN(left, share))
		assert_int_equal(direct(&g.from, &g.to), RTE_MIN(left, share));
	for (uint32_t i = 0; i < 8; i++)
		guests_receives(&g.to, large, i);
	guests_close(&g);
}

static void both_count(void **state)
{
	const struct column c = guests_column(*state);
	struct guests g;

	guests_open(&g, &c, &c);
	ts_net_fill_rx(&g.to.net, 3, 2048);
	for (unsigned i = 0; i < 3; i++) {
		memset(frame, i == 1 ? 0xff : i, 200);
		assert_int_equal(
			ts_net_send(&g.from.net, NULL, frame, i ? 200 : 60, NULL, 0, TS_DIRECT), 0);
		g.from.offered++;
	}
	frame[0] = 1;
	ts_ring_kick(g.from.tx_ring);
	assert_int_equal(direct(&g.from, &g.to), 3);
	for (unsigned i = 0; i < 2; i++) {
		const struct virtq_stats *s = i ? &g.to.tx->stats : &g.from.rx->stats;

		assert_int_equal(s->packets, 3);
		assert_int_equal(s->bytes, 460);
		assert_int_equal(s->size[0], 1);
		assert_int_equal(s->size[3], 2);
		assert_int_equal(s->broadcast, 1);
		assert_int_equal(s->multicast, 0);
		assert_int_equal(s->lent, 0);
	}
	guests_close(&g);
}

/* Who shares the receiver's ring does not wait for it inside the sender's gate. */
static void holds_the_lock(void **state)
{
	const struct column c = guests_column(*state);
	rte_spinlock_t lock = RTE_SPINLOCK_INITIALIZER;
	struct guests g;

	guests_open(&g, &c, &c);
	ts_net_fill_rx(&g.to.net, 3, 2048);
	rte_spinlock_lock(&lock);
	assert_int_equal(guests_direct(&g, VIRTQ_BURST, UINT32_MAX, &lock), 0);
	sends_plain(&g.from, 64, 0);
	assert_int_equal(guests_direct(&g, VIRTQ_BURST, UINT32_MAX, &lock), VNET_DIRECT_NOT_NOW);
	assert_int_equal(pair_reap(&g.from), 0);
	rte_spinlock_unlock(&lock);
	assert_int_equal(guests_direct(&g, VIRTQ_BURST, UINT32_MAX, &lock), 1);
	assert_int_equal(rte_spinlock_is_locked(&lock), 0);
	guests_receives(&g.to, 64, 0);
	guests_close(&g);
}

/* A guest that sends to itself from one buffer to the same one gets nonsense, and nobody else notices. */
static void onto_itself(void **state)
{
	const struct column c = guests_column(*state);
	const uint32_t len = 5000;
	struct ts_seg seg = {0, 12 + len};
	struct pair p;

	pair_open(&p, &c, 0, 0);
	seg.gpa = ts_alloc(p.guest, 0, 8192, 4096);
	ts_pkt_fill(frame, len, 0);
	assert_int_equal(ts_net_send_at(&p.net, NULL, frame, len, &seg, 1, TS_DIRECT), 0);
	p.offered++;
	ts_ring_kick(p.tx_ring);
	seg.gpa += 7;
	assert_int_equal(ts_net_post_rx_at(&p.net, &seg, 1, TS_DIRECT), 0);
	ts_ring_kick(p.rx_ring);
	assert_int_equal(direct(&p, &p), 1);
	assert_int_equal(ts_net_recv(&p.net, got, sizeof(got), NULL), len);
	p.net.faults = (struct ts_faults){0}; /* it was read only, and written to */
	pair_reap(&p);
	p.net.faults = (struct ts_faults){0};
	pair_close(&p);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_layout),
		cmocka_unit_test(headers_of_both_lengths),
		cmocka_unit_test(what_is_not_plain),
		cmocka_unit_test(what_has_no_place),
		cmocka_unit_test(somebody_decides),
		cmocka_unit_test(what_was_seen_arrives),
		cmocka_unit_test(receivers_that_are_not),
		cmocka_unit_test(senders_that_are_not),
		cmocka_unit_test(behind_what_is_lent),
		cmocka_unit_test(a_burst_is_bounded),
		cmocka_unit_test(both_count),
		cmocka_unit_test(holds_the_lock),
		cmocka_unit_test(onto_itself),
	};

	return pair_run(tests, RTE_DIM(tests), argc, argv);
}

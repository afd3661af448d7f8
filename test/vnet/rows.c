/* SPDX-License-Identifier: BSD-3-Clause */
/* The lcore, the neighbours, the second thread, and the cases of the fault matrix. */
#include "rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lend.h"
#include "ts_pkt.h"
#include "ts_raw.h"
#include "vnet_direct.h"

#define CPU_MS 100 /* a burst copies 4 MiB at most */
#define FRAME  70000

static uint8_t frame[FRAME], got[FRAME];

/* ---- the neighbours ---- */

static struct pair neighbours[2];

static void neighbours_open(void)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct column c = {&vq_formats[i], i, true, true, true};

		pair_open(&neighbours[i], &c, 0, 0);
	}
}

/* What was offered, in every second round without mbufs. */
static void pass(struct pair *from, struct pair *to, uint32_t seq)
{
	struct rte_mbuf *m[VIRTQ_BURST];

	if (seq % 2) {
		assert_int_equal(
			vnet_direct(from->rx, (struct vnet_direct_to){to->tx, UINT32_MAX, NULL},
				VIRTQ_BURST),
			4);
		return;
	}
	assert_int_equal(vnet_dequeue(from->rx, m, VIRTQ_BURST), 4);
	assert_int_equal(vnet_enqueue(to->tx, m, 4), 4);
	rte_pktmbuf_free_bulk(m, 4);
}

/* A few packets from one to the other, all of them in this round. */
static void exchange(struct pair *from, struct pair *to, uint32_t seq)
{
	const uint32_t len = 60 + seq % 1400;
	uint32_t number;

	for (uint32_t i = 0; i < 4; i++) {
		ts_pkt_fill(frame, len, seq + i);
		assert_int_equal(ts_net_send(&from->net, NULL, frame, len, NULL, 0, TS_DIRECT), 0);
	}
	from->offered += 4;
	ts_ring_kick(from->tx_ring);
	assert_int_equal(ts_net_fill_rx(&to->net, 4, 2048), 4);
	pass(from, to, seq);
	assert_int_equal(pair_reap(from), 4);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(ts_net_recv(&to->net, got, sizeof(got), NULL), len);
		assert_int_equal(ts_pkt_check(got, len, &number), 0);
		assert_int_equal(number, seq + i);
	}
}

/* The last case: of all that passed between them nothing is missing. */
static void neighbours_close(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2 && neighbours[i].guest; i++)
		pair_close(&neighbours[i]);
	memset(neighbours, 0, sizeof(neighbours));
}

/* ---- one burst, and what must hold of it ---- */

struct before {
	uint64_t packets, drops;
	uint16_t used;
	bool parked;
	uint64_t cpu, calls;
};

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t all_drops(const struct virtq *vq)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < VIRTQ_DROP_COUNT; i++)
		sum += vq->stats.drops[i];
	return sum;
}

static struct before look(const struct virtq *vq)
{
	return (struct before){vq->stats.packets, all_drops(vq), vq->used,
		vq->fault != VIRTQ_FAULT_NONE, cpu_ns(), vq->stats.calls + vq->stats.calls_failed};
}

static void judge(const struct trial *t, const struct virtq *vq, const struct before *b)
{
	assert_true(cpu_ns() - b->cpu < CPU_MS * 1000000ull);
	assert_true(vq->stats.calls + vq->stats.calls_failed - b->calls <= 1);
	assert_int_equal(vq->pending, 0);
	if (!t->p.rx_view.packed)
		assert_true((uint16_t)(vq->used - b->used) <= VIRTQ_SEGS);
	else
		assert_true((vq->used & 0x7fffu) < t->p.rx_view.num);
	if (b->parked) {
		assert_int_equal(vq->used, b->used);
		assert_int_equal(vq->stats.packets, b->packets);
	}
}

static void poll_from_guest(struct trial *t)
{
	struct virtq *vq = t->p.rx;
	const struct before b = look(vq);
	struct rte_mbuf *m[VIRTQ_BURST];
	const uint16_t n = vnet_dequeue(vq, m, VIRTQ_BURST);

	judge(t, vq, &b);
	assert_in_range(n, 0, VIRTQ_BURST);
	assert_int_equal(vq->stats.packets - b.packets, n);
	if (!t->p.rx_view.packed && !t->p.lender)
		assert_int_equal(n + all_drops(vq) - b.drops, (uint16_t)(vq->used - b.used));
	for (uint16_t i = 0; i < n; i++)
		assert_in_range(pair_bytes(m[i], got), 14, 65600);
	rte_pktmbuf_free_bulk(m, n);
}

static void poll_to_guest(struct trial *t)
{
	const uint16_t n = (uint16_t)(rows_chains(t) < 8 ? rows_chains(t) : 8);
	struct virtq *vq = t->p.tx;
	const struct before b = look(vq);
	struct rte_mbuf *m[VIRTQ_BURST];
	uint16_t taken;

	for (uint16_t i = 0; i < n; i++)
		m[i] = pair_mbuf(frame, (uint32_t[]){60, 1514, 9000, 64}[i % 4]);
	taken = vnet_enqueue(vq, m, n);
	judge(t, vq, &b);
	assert_in_range(taken, 0, n);
	assert_int_equal(vq->stats.packets - b.packets + all_drops(vq) - b.drops, taken);
	vnet_give_up(vq, n - taken);
	assert_int_equal(vq->stats.packets - b.packets + all_drops(vq) - b.drops, n);
	rte_pktmbuf_free_bulk(m, n);
	t->offered += n;
}

/* From the hostile guest to itself: it has both ends. */
static void poll_direct(struct trial *t)
{
	struct virtq *from = t->p.rx, *to = t->p.tx;
	const struct before b = look(from), to_b = look(to);
	uint16_t n = vnet_direct(from, (struct vnet_direct_to){to, UINT32_MAX, NULL}, VIRTQ_BURST);

	judge(t, from, &b);
	judge(t, to, &to_b);
	if (!vnet_direct_went(n))
		n = 0;
	assert_in_range(n, 0, VIRTQ_BURST);
	assert_int_equal(from->stats.packets - b.packets, n);
	assert_int_equal(to->stats.packets - to_b.packets, n);
	assert_int_equal(all_drops(from) + all_drops(to), b.drops + to_b.drops);
	t->offered += n;
}

void rows_poll(struct trial *t)
{
	if (t->round % 2)
		poll_direct(t);
	poll_from_guest(t);
	poll_to_guest(t);
	t->rx.ahead = t->tx.ahead = 0;
}

/* ---- the second thread ---- */

static void scribble(uint8_t *at, uint64_t len, struct ts_rng *rng)
{
	static const uint64_t values[] = {0, 1, 2, 3, 4, 7, 12, 0xffff, 0x8080, 0x80, 0x8000,
		ROWS_MEMORY, ROWS_END - 8, UINT64_MAX, 65536, 1ull << 31, VQ_TABLE_GPA};
	const uint64_t v =
		ts_rand_below(rng, 3) ? values[ts_rand_below(rng, RTE_DIM(values))] : ts_rand(rng);
	uint8_t *p = at + (ts_rand(rng) % len & ~7ull);

	switch (ts_rand_below(rng, 4)) {
	case 0:
		virtq_store((uint64_t *)p, v);
		break;
	case 1:
		virtq_store((uint32_t *)p + ts_rand_below(rng, 2), (uint32_t)v);
		break;
	default:
		virtq_store((uint16_t *)p + ts_rand_below(rng, 4), (uint16_t)v);
		break;
	}
}

/* Descriptors, driver areas, tables, headers. Not the device areas: there the guest only fools itself. */
static void *mutate(void *arg)
{
	struct trial *t = arg;
	struct ts_rng rng;

	ts_rng_init(&rng, ts_seed() + t->intensity);
	while (!virtq_load(&t->stop)) {
		const struct ts_ring *r = ts_rand_below(&rng, 2) ? t->rx.ring : t->tx.ring;

		switch (ts_rand_below(&rng, 4)) {
		case 0:
			scribble(ts_va(r->guest, VQ_TABLE_GPA, 1024), 1024, &rng);
			break;
		case 1:
			scribble(ts_va(r->guest, ROWS_MEMORY, 4096), 4096, &rng);
			break;
		case 2:
			if (!r->pdesc)
				scribble((uint8_t *)r->avail, 8 + 2ull * 8, &rng);
			else
				virtq_store((uint32_t *)r->driver, (uint32_t)ts_rand(&rng));
			break;
		default:
			scribble(
				r->pdesc ? (uint8_t *)r->pdesc : (uint8_t *)r->desc, 16 * 64, &rng);
			break;
		}
	}
	return NULL;
}

/* ---- a case ---- */

uint64_t rows_anywhere(struct trial *t)
{
	return ROWS_MEMORY + rows_below(t, ROWS_SIZE / 2);
}

void rows_restart(struct vq *q)
{
	const uint32_t base = virtq_position(q->q, q->view.packed);

	if (!q->view.packed)
		virtq_store(&q->ring->avail->idx, q->q->avail);
	virtq_start(q->q, &q->view, q->view.packed ? (base & 0xffff) * 0x10001u : base);
}

/* As control does with a ring whose front-end asked for it: nothing is in flight afterwards. */
static void settle(struct trial *t)
{
	struct virtq_lender *l = t->p.rx_view.lender;

	if (l)
		l->abandon(l, t->p.rx, &t->p.rx_view);
}

/* A driver that was reset is served again, both ways. */
static void revive(struct trial *t)
{
	struct rte_mbuf *m[VIRTQ_BURST];
	struct pair *p = &t->p;

	settle(t);
	ts_net_reset(
		&p->net, ts_base_fresh(p->rx_ring->features), ts_base_fresh(p->tx_ring->features));
	/* What the hostile half wrote is not the device's doing. */
	p->rx_ring->faults = p->tx_ring->faults = p->net.faults = (struct ts_faults){0};
	virtq_start(p->rx, &p->rx_view, ts_ring_used_pos(p->tx_ring));
	virtq_start(p->tx, &p->tx_view, ts_ring_used_pos(p->rx_ring));
	ts_pkt_fill(frame, 200, 1);
	assert_int_equal(ts_net_send(&p->net, NULL, frame, 200, NULL, 0, TS_DIRECT), 0);
	ts_ring_kick(p->tx_ring);
	assert_int_equal(ts_net_fill_rx(&p->net, 1, 2048), 1);
	assert_int_equal(vnet_dequeue(p->rx, m, VIRTQ_BURST), 1);
	assert_int_equal(vnet_enqueue(p->tx, m, 1), 1);
	rte_pktmbuf_free(m[0]);
	assert_int_equal(ts_net_recv(&p->net, got, sizeof(got), NULL), 200);
	assert_memory_equal(got, frame, 200);
	pair_reap(p);
	p->offered = p->rx->stats.packets + all_drops(p->rx);
}

static void run(void **state)
{
	struct trial *t = *state;
	const unsigned rounds = t->intensity == 1 ? 16 : t->intensity == 2 ? 32 : 60;
	uint64_t extra = t->row->features | (t->in_order ? TS_BIT(VIRTIO_F_IN_ORDER) : 0);
	const struct column c = t->p.c;

	if (!neighbours[0].guest)
		neighbours_open();
	ts_rng_init(&t->rng, ts_seed());
	t->offered = 0;
	t->stop = false;
	pair_open(&t->p, &c, extra, 0);
	t->rx = pair_vq(&t->p, true);
	t->tx = pair_vq(&t->p, false);
	if (t->row->mutate)
		assert_int_equal(pthread_create(&t->thread, NULL, mutate, t), 0);
	for (t->round = 0; t->round < rounds; t->round++) {
		t->row->offer(t);
		rows_poll(t);
		exchange(&neighbours[0], &neighbours[1], t->round);
		exchange(&neighbours[1], &neighbours[0], t->round);
		if (t->rx.q->fault)
			rows_restart(&t->rx);
		if (t->tx.q->fault)
			rows_restart(&t->tx);
	}
	virtq_store(&t->stop, true);
	if (t->row->mutate)
		pthread_join(t->thread, NULL);
	assert_int_equal(t->p.tx->stats.packets + all_drops(t->p.tx), t->offered);
	revive(t);
	pair_close(&t->p);
}

/* ---- all cases ---- */

static void name_case(const struct trial *t, char *name, size_t cap)
{
	snprintf(name, cap, "%s[%s,%s%s%s%s]x%u", t->row->name, t->p.c.format->name,
		t->indirect ? "indirect" : "direct", t->p.c.mergeable ? ",mergeable" : "",
		t->p.c.event_idx ? ",event_idx" : "", t->in_order ? ",in_order" : "", t->intensity);
}

int rows_main(const struct row *rows, size_t n, int argc, char **argv)
{
	const unsigned intensities = ts_all() ? 3 : 1;
	const size_t count = n * vq_n_formats * 16 * intensities;
	struct trial *trials = calloc(count, sizeof(*trials));
	struct CMUnitTest *cases = calloc(count + 1, sizeof(*cases));
	char(*name)[96] = calloc(count, sizeof(*name));
	int rc = 99;

	for (size_t i = 0; trials && cases && name && i < count; i++) {
		const unsigned bits = i / intensities % 16;
		struct trial *t = &trials[i];

		t->row = &rows[i / (count / n)];
		t->intensity = 1 + i % intensities;
		t->indirect = bits & 1;
		t->in_order = bits & 8;
		t->p.c = (struct column){&vq_formats[i / intensities / 16 % vq_n_formats],
			t->indirect, bits & 2, bits & 4, true};
		name_case(t, name[i], sizeof(*name));
		cases[i] = (struct CMUnitTest){name[i], run, NULL, NULL, t};
	}
	if (cases)
		cases[count] =
			(struct CMUnitTest){"neighbours", neighbours_close, NULL, NULL, NULL};
	if (trials && cases && name)
		rc = pair_run_cases(PAIR_COPY | PAIR_LEND, cases, count + 1, argc, argv);
	free(name);
	free(cases);
	free(trials);
	return rc;
}

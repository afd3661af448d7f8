/* SPDX-License-Identifier: BSD-3-Clause */
/* Rows R1 to R13 of the fault matrix: hostile rings, over everything a driver can negotiate. */
#include <string.h>

#include "rows.h"

/* R12, the control queue, is the front-end's with vhost-user: no ring of ours is one. */

#define OFFLOADS \
	(F(CSUM) | F(HOST_TSO4) | F(HOST_TSO6) | F(HOST_UFO) | F(GUEST_CSUM) | F(GUEST_TSO4))

/* Of what fits the ring beside what was offered already. */
static void offer(struct vq *q, const struct vq_part *part, unsigned n)
{
	if (q->ahead + n < 240)
		vq_offer(q, part, n);
}

static void offer_one(struct vq *q, uint64_t gpa, uint32_t len, uint16_t flags)
{
	if (q->ahead < 240)
		vq_offer_one(q, gpa, len, flags);
}

/* Which of the two rings, and the flag its descriptors have. */
static struct vq *either(struct trial *t, uint16_t *w)
{
	const bool rx = rows_below(t, 2);

	*w = rx ? 0 : W;
	return rx ? &t->rx : &t->tx;
}

/* Chains nobody could object to. */
static void offer_good(struct trial *t)
{
	const struct vq_part out[] = {{ROWS_MEMORY, 12, 0}, {ROWS_MEMORY + 12, 100, 0}};
	const struct vq_part in[] = {
		{ROWS_MEMORY + 0x100000, 12, W}, {ROWS_MEMORY + 0x110000, 9600, W}};

	offer(&t->rx, out, 2);
	offer(&t->tx, in, 2);
}

#define MANY(t) for (unsigned many = rows_chains(t); many > 0; many--)

/* ---- R1: the available index goes anywhere ---- */

static void packed_bits(struct trial *t, struct vq *q, uint16_t w)
{
	const struct vring_packed_desc d = {rows_anywhere(t), 100, (uint16_t)ts_rand(&t->rng),
		(uint16_t)(w | (ts_rand(&t->rng) & (TS_PACKED_BITS | N)))};

	ts_raw_put(q->ring, ts_raw_behind(q->ring, q->q->avail, q->ahead), &d, 1);
	q->ahead = (q->ahead + 1) % 240;
}

/* What goes beyond the ring parks it, as soon as it is looked at. */
static void poll_wild_index(struct trial *t)
{
	const struct vq *q = &t->rx;
	const uint16_t ahead = (uint16_t)(q->ring->avail->idx - q->q->avail);
	const bool seen = (uint16_t)(q->q->avail_seen - q->q->avail) < VIRTQ_BURST;

	rows_poll(t);
	if (seen && ahead > q->ring->size)
		assert_int_equal(q->q->fault, VIRTQ_FAULT_AVAIL_JUMP);
}

static void r1_index(struct trial *t)
{
	uint16_t w;

	offer_good(t);
	MANY(t)
	{
		struct vq *q = either(t, &w);
		const uint32_t size = q->ring->size;
		const uint16_t to[] = {(uint16_t)(q->q->avail + size + 1 + rows_below(t, 100)),
			(uint16_t)(q->q->avail - 1 - rows_below(t, size)),
			(uint16_t)ts_rand(&t->rng), (uint16_t)(q->q->avail + 1)};

		if (q->view.packed)
			packed_bits(t, q, w);
		else
			virtq_store(&q->ring->avail->idx, to[rows_below(t, 4)]);
	}
	if (!t->rx.view.packed)
		poll_wild_index(t);
}

/* ---- R2: links ---- */

static void split_links(struct trial *t, struct vq *q, uint16_t w)
{
	struct vring_desc *d =
		t->indirect ? ts_va(q->guest, VQ_TABLE_GPA, 16 * 256) : q->ring->desc;
	const uint16_t size = (uint16_t)q->ring->size;
	const uint16_t next[] = {0, 1, size, (uint16_t)(size + 1), 0x8000, UINT16_MAX, 3};
	const unsigned kind = rows_below(t, 4);

	for (uint16_t i = 0; i < size; i++)
		d[i] = (struct vring_desc){
			rows_anywhere(t), kind % 2 ? 1 : 0, w | N, (uint16_t)(i + 1)};
	if (kind < 2)
		d[rows_below(t, 4)].next = next[rows_below(t, RTE_DIM(next))];
	else if (kind == 2)
		d[size - 1].flags = w; /* as long as the table: legal */
	else
		d[size - 1].next = next[rows_below(t, RTE_DIM(next))];
	if (t->indirect)
		offer_one(q, VQ_TABLE_GPA, 16u * size, I);
	else
		ts_raw_offer(q->ring, kind < 2 ? (uint16_t)rows_below(t, 4) : 0);
}

static void packed_links(struct trial *t, struct vq *q, uint16_t w)
{
	const uint32_t last = (q->q->avail & 0x7fffu) + q->ring->size - 1;

	for (uint32_t i = q->ring->size; i-- > 0;) {
		const struct vring_packed_desc d = {rows_anywhere(t), rows_below(t, 2), 1, w | N};

		ts_raw_put(q->ring, ts_raw_behind(q->ring, q->q->avail, i), &d, 1);
	}
	if (rows_below(t, 2))
		q->ring->pdesc[last % q->ring->size].flags &= (uint16_t)~N;
}

static void r2_links(struct trial *t)
{
	uint16_t w;
	struct vq *q = either(t, &w);

	if (q->view.packed)
		packed_links(t, q, w);
	else
		split_links(t, q, w);
}

/* ---- R3: indirect tables ---- */

static void r3_tables(struct trial *t)
{
	static const uint32_t len[] = {0, 1, 15, 16, 17, 32, 64, 16 * 1024, 16 * 1025, 16 * 65536,
		UINT32_MAX, UINT32_MAX - 15};
	static const uint64_t at[] = {VQ_TABLE_GPA, VQ_TABLE_GPA + 5, ROWS_END - 16, ROWS_END - 24,
		ROWS_END, 0, UINT64_MAX - 15};
	struct vq_part part[4];
	uint16_t w;

	MANY(t)
	{
		struct vq *q = either(t, &w);

		for (unsigned i = 0; i < 4; i++)
			part[i] = (struct vq_part){rows_anywhere(t), 40,
				rows_below(t, 6)   ? w
				: rows_below(t, 2) ? I
						   : w ^ W};
		vq_write_table(q, VQ_TABLE_GPA, part, 4);
		offer_one(q, at[rows_below(t, 3) ? 0 : rows_below(t, RTE_DIM(at))],
			len[rows_below(t, RTE_DIM(len))],
			(uint16_t)(I | (rows_below(t, 6) ? 0 : N) | (rows_below(t, 6) ? 0 : W)));
	}
}

/* ---- R4: lengths ---- */

static void r4_lengths(struct trial *t)
{
	static const uint32_t len[] = {
		0, 1, 9, 10, 11, 12, 13, 25, 26, 27, 1514, 65550, 1u << 24, 1u << 31, UINT32_MAX};
	struct vq_part part[16];
	uint16_t w;

	MANY(t)
	{
		struct vq *q = either(t, &w);
		const unsigned n = 1 + rows_below(t, RTE_DIM(part));
		const bool bytewise = rows_below(t, 2);

		for (unsigned i = 0; i < n; i++)
			part[i] = (struct vq_part){
				ROWS_MEMORY + i, len[rows_below(t, RTE_DIM(len))], w};
		for (unsigned i = 0; i < n && bytewise; i++)
			part[i].len = i < 12 ? 1 : part[i].len;
		offer(q, part, n);
	}
}

/* ---- R5: addresses, in every place of a batch ---- */

static void r5_addresses(struct trial *t)
{
	static const struct vq_part bad[] = {{ROWS_END, 0, 0}, {ROWS_END, 64, 0},
		{ROWS_END - 8, 64, 0}, {0, 1, 0}, {0, 0, 0}, {UINT64_MAX - 3, 64, 0},
		{UINT64_MAX, 0, 0}, {1ull << 63, 64, 0}, {ROWS_MEMORY | 1ull << 32, 64, 0},
		{UINT64_MAX - 63, 64, 0}};
	uint16_t w;

	MANY(t)
	{
		struct vq *q = either(t, &w);
		const unsigned place = rows_below(t, 4);

		for (unsigned i = 0; i < 4; i++) {
			struct vq_part p = {rows_anywhere(t), 64, w};

			if (i == place)
				p = bad[rows_below(t, RTE_DIM(bad))];
			p.flags = w;
			offer(q, &p, 1);
		}
	}
}

/* ---- R6: whatever is offered is rewritten by the second thread ---- */

static void r6_rewritten(struct trial *t)
{
	MANY(t) offer_good(t);
}

/* ---- R7: identities ---- */

static void r7_identities(struct trial *t)
{
	uint16_t w;

	MANY(t)
	{
		struct vq *q = either(t, &w);

		if (q->view.packed) {
			packed_bits(t, q, w);
			q->ring->driver->off_wrap = (uint16_t)ts_rand(&t->rng);
			q->ring->driver->flags = (uint16_t)ts_rand(&t->rng);
			continue;
		}
		q->ring->desc[5] = (struct vring_desc){rows_anywhere(t), 100, w, 5};
		ts_raw_offer(q->ring, 5); /* again and again */
		ts_raw_offer(q->ring, rows_below(t, 4) ? 5 : (uint16_t)ts_rand(&t->rng));
		q->ring->avail->ring[q->ring->size] = (uint16_t)ts_rand(&t->rng);
	}
}

/* ---- R8: receive buffers that are none ---- */

static void r8_buffers(struct trial *t)
{
	const struct vq_part part[] = {{ROWS_MEMORY, 1 + rows_below(t, 14), W},
		{rows_anywhere(t), 60, W}, {ROWS_END - rows_below(t, 2) * 4, 60, W},
		{rows_anywhere(t), 2000, 0}, {rows_anywhere(t), 70000, W}};

	MANY(t) switch (t->round % 4)
	{
	case 0:
		return; /* a reader that is too slow has posted none */
	case 1:
		offer(&t->tx, part, 1);
		break;
	case 2: /* one that takes a buffer of a chain away */
		offer(&t->tx, part, 1 + rows_below(t, 3));
		break;
	default:
		offer(&t->tx, &part[rows_below(t, 5)], 1);
		break;
	}
}

/* ---- R9: areas of a ring over each other, over another ring, over buffers ---- */

static void r9_overlaps(struct trial *t)
{
	struct virtq_view *v = rows_below(t, 2) ? &t->p.rx_view : &t->p.tx_view;
	const struct virtq_view keep = *v,
				*other = v == &t->p.rx_view ? &t->p.tx_view : &t->p.rx_view;
	struct vq *q = v == &t->p.rx_view ? &t->rx : &t->tx;
	const uint64_t ring = ts_gpa(t->p.guest, rows_below(t, 2) ? keep.desc : other->desc);
	const uint16_t w = v == &t->p.rx_view ? 0 : W;

	offer_good(t);
	MANY(t) offer(q, &(const struct vq_part){ring, 1 + rows_below(t, 2000), w}, 1);
	switch (rows_below(t, 4)) {
	case 0:
		v->used = (struct vring_used *)v->desc;
		break;
	case 1:
		v->used = (struct vring_used *)v->avail;
		break;
	case 2:
		v->used = other->used;
		break;
	default:
		break; /* buffers over rings are enough */
	}
	rows_poll(t);
	rows_poll(t);
	*v = keep;
	if (q->q->fault)
		rows_restart(q);
}

/* ---- R10: wishes for notifications ---- */

static void r10_wishes(struct trial *t)
{
	uint16_t w;

	MANY(t)
	{
		struct vq *q = either(t, &w);

		offer_good(t);
		if (q->view.packed) {
			virtq_store((uint32_t *)q->ring->driver, (uint32_t)ts_rand(&t->rng));
			continue;
		}
		virtq_store(&q->ring->avail->ring[q->ring->size], (uint16_t)ts_rand(&t->rng));
		virtq_store(&q->ring->avail->flags, (uint16_t)ts_rand(&t->rng));
	}
}

/* ---- R11: virtio-net headers ---- */

static void r11_headers(struct trial *t)
{
	uint8_t *at = ts_va(t->p.guest, ROWS_MEMORY, 65536);
	static const uint8_t gso[] = {0, 1, 3, 4, 5, 0x81, 0x84, 0x85, 0xff};

	MANY(t)
	{
		struct virtio_net_hdr_v1 h = {.flags = (uint8_t)ts_rand(&t->rng),
			.gso_type = rows_below(t, 2) ? gso[rows_below(t, RTE_DIM(gso))]
						     : (uint8_t)ts_rand(&t->rng),
			.hdr_len = (uint16_t)rows_below(t, 3000),
			.gso_size = (uint16_t)rows_below(t, 3),
			.csum_start = (uint16_t)rows_below(t, 100),
			.csum_offset = (uint16_t)rows_below(t, 30)};
		const unsigned slot = many * 1024;

		memcpy(at + slot, &h, sizeof(h));
		for (unsigned i = 0; i < 60; i++)
			at[slot + 12 + i] = (uint8_t)ts_rand(&t->rng);
		memcpy(at + slot + 12 + 12, (const uint8_t[]){8, 0, 0x45}, 3);
		offer(&t->rx,
			&(const struct vq_part){
				ROWS_MEMORY + slot, 12 + 14 + rows_below(t, 900), 0},
			1);
	}
}

/* ---- R13: kicks without need, and sleep ---- */

struct sender {
	struct trial *t;
	unsigned n;
	bool done;
};

static void *send_some(void *arg)
{
	static const uint8_t bytes[60];
	struct sender *s = arg;
	struct ts_rng rng;

	ts_rng_init(&rng, ts_seed() + 3);
	for (unsigned i = 0; i < s->n;) {
		ts_net_reap(&s->t->p.net);
		if (ts_net_send(&s->t->p.net, NULL, bytes, sizeof(bytes), NULL, 0, TS_DIRECT) != 0)
			continue;
		i++;
		ts_ring_kick(s->t->p.tx_ring);
		for (uint32_t k = ts_rand_below(&rng, 3000); k > 0; k--)
			virtq_pause();
	}
	virtq_store_release(&s->done, true);
	return NULL;
}

/* The lcore sleeps when there is nothing, until it is kicked. Nothing is missed. */
static void r13_sleep(struct trial *t)
{
	struct sender s = {.t = t, .n = 10 * rows_chains(t)};
	uint64_t before, since;
	struct rte_mbuf *m[VIRTQ_BURST];
	unsigned n = 0, got;
	pthread_t thread;

	t->p.rx_view.kicks = true;
	assert_int_equal(pthread_create(&thread, NULL, send_some, &s), 0);
	while (n < s.n) {
		got = vnet_dequeue(t->p.rx, m, VIRTQ_BURST);
		rte_pktmbuf_free_bulk(m, got);
		if (t->p.lender)
			vnet_dequeue(t->p.rx, m, 0);
		n += got;
		before = virtq_load(&t->p.tx_ring->n_kicks);
		if (got || n == s.n || !virtq_arm(t->p.rx))
			continue;
		since = ts_now_ms();
		while (virtq_load(&t->p.tx_ring->n_kicks) == before)
			if (ts_now_ms() - since > 5000)
				fail_msg("asleep after %u of %u packets", n, s.n);
		virtq_disarm(t->p.rx);
	}
	pthread_join(thread, NULL);
	ts_net_reap(&t->p.net);
}

static const struct row rows[] = {
	{"R1_index", r1_index, 0, false},
	{"R2_links", r2_links, 0, false},
	{"R3_tables", r3_tables, 0, false},
	{"R4_lengths", r4_lengths, OFFLOADS, false},
	{"R5_addresses", r5_addresses, 0, false},
	{"R6_rewritten", r6_rewritten, OFFLOADS, true},
	{"R7_identities", r7_identities, 0, true},
	{"R8_buffers", r8_buffers, 0, false},
	{"R9_overlaps", r9_overlaps, 0, true},
	{"R10_wishes", r10_wishes, 0, true},
	{"R11_headers", r11_headers, OFFLOADS, false},
	{"R11_headers_rewritten", r11_headers, OFFLOADS, true},
	{"R13_sleep", r13_sleep, 0, false},
};

int main(int argc, char **argv)
{
	return rows_main(rows, RTE_DIM(rows), argc, argv);
}

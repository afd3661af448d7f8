/* SPDX-License-Identifier: BSD-3-Clause */
/* Descriptors no sane driver writes: each ends the walk with a fault, or is legal after all. */
#include <string.h>

#include "vq.h"

#define TABLE_GPA 0x200000ull /* in VQ_RINGS, behind everything else */
#define W         VRING_DESC_F_WRITE
#define N         VRING_DESC_F_NEXT
#define I         VRING_DESC_F_INDIRECT

/* The table a column is about: the ring's own, or an indirect one its first entry points to. */
static struct vring_desc *table_of(struct vq *t)
{
	if (!t->c.indirect)
		return t->ring->desc;
	t->ring->desc[0] = (struct vring_desc){TABLE_GPA, 16 * t->ring->size, I, 0};
	return ts_va(t->guest, TABLE_GPA, 16ull * VIRTQ_INDIRECT_MAX);
}

static void offer(struct vq *t, uint16_t head)
{
	struct vring_avail *a = t->ring->avail;

	a->ring[a->idx & (t->ring->size - 1)] = head;
	__atomic_store_n(&a->idx, (uint16_t)(a->idx + 1), __ATOMIC_RELEASE);
}

static bool walk(struct vq *t, enum virtq_dir dir, struct virtq_chain *chain)
{
	vq_burst_begin(t);
	assert_int_equal(t->ops->ready(t->q, &t->view, 1), 1);
	return t->ops->take(t->q, &t->view, dir, t->segs, chain);
}

/* The chain at head is refused for this reason, without a trace. */
static void refused(struct vq *t, enum virtq_dir dir, uint16_t head, enum virtq_fault why)
{
	const uint16_t avail = t->q->avail, used = t->ring->used->idx;
	struct virtq_chain chain;

	offer(t, head);
	assert_false(walk(t, dir, &chain));
	if (t->q->fault != why)
		fail_msg("\"%s\" instead of \"%s\"", virtq_fault_text(t->q->fault),
			virtq_fault_text(why));
	assert_int_equal(t->segs->n, 0);
	assert_int_equal(t->q->avail, avail);
	assert_int_equal(t->ring->used->idx, used);
	/* Only a start of the ring mends it. */
	t->ring->avail->idx = avail;
	virtq_start(t->q, &t->view, avail);
	assert_int_equal(t->q->fault, VIRTQ_FAULT_NONE);
}

static void accepted(struct vq *t, enum virtq_dir dir, uint16_t head, uint32_t len, uint16_t nseg)
{
	struct virtq_chain chain;

	offer(t, head);
	if (!walk(t, dir, &chain))
		fail_msg("refused: %s", virtq_fault_text(t->q->fault));
	assert_int_equal(chain.id, head);
	assert_int_equal(chain.len, len);
	assert_int_equal(chain.nseg, nseg);
	for (uint16_t i = 0; i < nseg; i++)
		assert_true(vq_in_guest(t, chain.seg[i].va, chain.seg[i].len));
}

static const enum virtq_dir dirs[] = {VIRTQ_FROM_GUEST, VIRTQ_TO_GUEST};
#define FOR_EACH_DIR(dir)                                  \
	for (unsigned dir##_i = 0; dir##_i < 2; dir##_i++) \
		for (enum virtq_dir dir = dirs[dir##_i], *once_ = &dir; once_; once_ = NULL)

static uint16_t flag_of(enum virtq_dir dir)
{
	return dir == VIRTQ_TO_GUEST ? W : 0;
}

/* An indirect table is entered at its first descriptor, the ring's own anywhere. */
static uint16_t entry_of(const struct vq *t)
{
	return t->c.indirect ? 0 : 5;
}

static void loops(struct vq *t)
{
	struct vring_desc *d = table_of(t);
	const uint16_t a = entry_of(t);

	FOR_EACH_DIR(dir)
	{
		const uint16_t w = flag_of(dir);

		for (uint32_t len = 0; len < 2; len++) {
			d[a] = (struct vring_desc){VQ_LOW_GPA, len, w | N, a};
			refused(t, dir, a, VIRTQ_FAULT_LOOP);
			d[a].next = 6;
			d[6] = (struct vring_desc){VQ_LOW_GPA, len, w | N, a};
			refused(t, dir, a, VIRTQ_FAULT_LOOP);
		}
	}
}

/* As many descriptors as the table has is the longest chain; one more is a loop. */
static void one_too_many(struct vq *t)
{
	struct vring_desc *d = table_of(t);
	uint32_t size = t->ring->size;

	for (uint32_t i = 0; i < size; i++)
		d[i] = (struct vring_desc){VQ_LOW_GPA, 1, i + 1 < size ? N : 0, (uint16_t)(i + 1)};
	accepted(t, VIRTQ_FROM_GUEST, 0, size, (uint16_t)size);
	d[size - 1] = (struct vring_desc){VQ_LOW_GPA, 1, N, 3};
	refused(t, VIRTQ_FROM_GUEST, 0, VIRTQ_FAULT_LOOP);
}

/* Empty descriptors use no segment: only the budget ends this, and it is the burst's, so that
 * many such chains cost no more than one. */
static void longest_loop(struct vq *t)
{
	struct virtq_chain chain;

	for (uint32_t i = 0; i < t->ring->size; i++)
		t->ring->desc[i] = (struct vring_desc){0, 0, N, (uint16_t)(i + 1)};
	t->ring->desc[t->ring->size - 1].next = 0;
	offer(t, 0);
	assert_false(walk(t, VIRTQ_FROM_GUEST, &chain));
	assert_true(t->segs->full);
	assert_int_equal(t->segs->links, VIRTQ_LINKS + 1);
	/* In a table shorter than the budget it is known to be a loop. */
	t->ring->desc[VIRTQ_LINKS / 2].next = 0;
	t->ring->desc[VIRTQ_LINKS / 2].flags = 0;
	vq_burst_begin(t);
	assert_true(t->ops->take(t->q, &t->view, VIRTQ_FROM_GUEST, t->segs, &chain));
	assert_int_equal(chain.nseg, 0);
}

static void next_out_of_range(struct vq *t)
{
	const uint16_t next[] = {
		(uint16_t)t->ring->size, (uint16_t)(t->ring->size + 1), 0x8000, UINT16_MAX};
	struct vring_desc *d = table_of(t);

	FOR_EACH_DIR(dir)
	{
		for (unsigned i = 0; i < TS_ARRAY_SIZE(next); i++) {
			d[0] = (struct vring_desc){VQ_LOW_GPA, 10, flag_of(dir) | N, next[i]};
			refused(t, dir, 0, VIRTQ_FAULT_BAD_INDEX);
		}
	}
}

static void head_out_of_range(struct vq *t)
{
	const uint16_t head[] = {
		(uint16_t)t->ring->size, (uint16_t)(t->ring->size + 1), 0x8000, UINT16_MAX};

	FOR_EACH_DIR(dir)
	for (unsigned i = 0; i < TS_ARRAY_SIZE(head); i++)
		refused(t, dir, head[i], VIRTQ_FAULT_BAD_INDEX);
}

/* A descriptor put alone, first or second in a chain. */
static void try_buffer(struct vq *t, uint64_t gpa, uint32_t len, int expect_nseg)
{
	FOR_EACH_DIR(dir)
	{
		struct vring_desc *d = table_of(t);
		uint16_t w = flag_of(dir);

		d[1] = (struct vring_desc){gpa, len, w, 0};
		d[0] = d[1];
		if (expect_nseg < 0)
			refused(t, dir, 0, VIRTQ_FAULT_BAD_ADDRESS);
		else if (len == 0 && dir == VIRTQ_TO_GUEST)
			refused(t, dir, 0, VIRTQ_FAULT_EMPTY);
		else
			accepted(t, dir, 0, len, (uint16_t)expect_nseg);
		d[0] = (struct vring_desc){VQ_LOW_GPA, 5, w | N, 1};
		if (expect_nseg < 0)
			refused(t, dir, 0, VIRTQ_FAULT_BAD_ADDRESS);
		else
			accepted(t, dir, 0, len + 5, (uint16_t)(expect_nseg + 1));
	}
}

static void addresses(struct vq *t)
{
	static const struct {
		uint64_t gpa;
		uint32_t len;
		int nseg; /* -1: outside */
	} cases[] = {
		{VQ_LOW_GPA, VQ_REGION_SIZE, 1},
		{VQ_LOW_GPA, 2 * VQ_REGION_SIZE, 2},
		{VQ_LOW_GPA, 2 * VQ_REGION_SIZE + 1, -1},
		{VQ_LOW_GPA - 1, 2, -1},
		{VQ_LOW_GPA - 1, 0, 0},
		{VQ_HIGH_GPA - 1, 2, 2},
		{VQ_HIGH_GPA - 1, 1, 1},
		{VQ_HOLE_GPA - 1, 1, 1},
		{VQ_HOLE_GPA - 1, 2, -1},
		{VQ_HOLE_GPA, 1, -1},
		{VQ_HOLE_GPA - 1, VQ_REGION_SIZE + 2,
			-1}, /* both ends are memory, the middle not */
		{VQ_FAR_GPA + VQ_REGION_SIZE - 1, 1, 1},
		{VQ_FAR_GPA + VQ_REGION_SIZE - 1, UINT32_MAX, -1},
		{VQ_FAR_GPA + VQ_REGION_SIZE, 1, -1},
		{0, 1, -1},
		{UINT64_MAX, 1, -1},
		{UINT64_MAX - 3, 10, -1},
		{1ull << 63, UINT32_MAX, -1},
		{VQ_LOW_GPA | 1ull << 32, 64, -1},
	};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++)
		try_buffer(t, cases[i].gpa, cases[i].len, cases[i].nseg);
}

static void wrong_direction(struct vq *t)
{
	struct vring_desc *d = table_of(t);

	d[0] = (struct vring_desc){VQ_LOW_GPA, 10, W, 0};
	refused(t, VIRTQ_FROM_GUEST, 0, VIRTQ_FAULT_BAD_DIRECTION);
	d[0].flags = 0;
	refused(t, VIRTQ_TO_GUEST, 0, VIRTQ_FAULT_BAD_DIRECTION);
	d[0] = (struct vring_desc){VQ_LOW_GPA, 10, N, 1};
	d[1] = (struct vring_desc){VQ_LOW_GPA, 10, W, 0};
	refused(t, VIRTQ_FROM_GUEST, 0, VIRTQ_FAULT_BAD_DIRECTION);
	d[0].flags = N | W;
	d[1].flags = 0;
	refused(t, VIRTQ_TO_GUEST, 0, VIRTQ_FAULT_BAD_DIRECTION);
}

/* ---- indirect tables ---- */

static void set_indirect(struct vq *t, uint64_t gpa, uint32_t len, uint16_t flags)
{
	t->ring->desc[3] = (struct vring_desc){gpa, len, flags, 0};
}

static void table_lengths(struct vq *t)
{
	static const struct {
		uint32_t len;
		bool ok;
	} cases[] = {{0, false}, {1, false}, {15, false}, {16, true}, {17, false}, {24, false},
		{32, true}, {16 * 1024, true}, {16 * 1024 + 1, false}, {16 * 1025, false},
		{16 * 65536, false}, {UINT32_MAX, false}, {UINT32_MAX - 15, false}};
	struct vring_desc *d = table_of(t);

	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		d[0] = (struct vring_desc){VQ_LOW_GPA, 77, 0, 0};
		set_indirect(t, TABLE_GPA, cases[i].len, I);
		if (cases[i].ok)
			accepted(t, VIRTQ_FROM_GUEST, 3, 77, 1);
		else
			refused(t, VIRTQ_FROM_GUEST, 3, VIRTQ_FAULT_BAD_INDIRECT);
	}
	/* The longest table, used to its end. */
	for (uint32_t i = 0; i < VIRTQ_INDIRECT_MAX; i++)
		d[i] = (struct vring_desc){VQ_LOW_GPA, 1, N, (uint16_t)(i + 1)};
	d[VIRTQ_INDIRECT_MAX - 1].flags = 0;
	set_indirect(t, TABLE_GPA, 16 * VIRTQ_INDIRECT_MAX, I);
	accepted(t, VIRTQ_FROM_GUEST, 3, VIRTQ_INDIRECT_MAX, VIRTQ_INDIRECT_MAX);
}

static void table_rules(struct vq *t)
{
	struct vring_desc *d = table_of(t);

	d[0] = (struct vring_desc){TABLE_GPA + 64, 16, I, 0};
	d[4] = (struct vring_desc){VQ_LOW_GPA, 1, 0, 0};
	set_indirect(t, TABLE_GPA, 64, I);
	refused(t, VIRTQ_FROM_GUEST, 3, VIRTQ_FAULT_BAD_INDIRECT); /* nested */
	d[0] = (struct vring_desc){VQ_LOW_GPA, 20, N, 1};
	d[1] = (struct vring_desc){TABLE_GPA + 64, 16, I, 0};
	refused(t, VIRTQ_FROM_GUEST, 3, VIRTQ_FAULT_BAD_INDIRECT); /* nested, second */

	d[0] = (struct vring_desc){VQ_LOW_GPA, 20, 0, 0};
	set_indirect(t, TABLE_GPA, 64, I | N);
	refused(t, VIRTQ_FROM_GUEST, 3, VIRTQ_FAULT_BAD_INDIRECT); /* goes on after the table */
	/* A table is the device's to read whatever its write flag says (virtio 1.2, 2.7.5.3.2). */
	set_indirect(t, TABLE_GPA, 64, I | W);
	accepted(t, VIRTQ_FROM_GUEST, 3, 20, 1);

	set_indirect(t, TABLE_GPA, 64, I);
	t->view.indirect = false;
	refused(t, VIRTQ_FROM_GUEST, 3, VIRTQ_FAULT_BAD_INDIRECT); /* not negotiated */
}

/* A table may lie anywhere, across regions and at any byte. */
static void table_anywhere(struct vq *t)
{
	struct vring_desc table[4];

	for (uint64_t gpa = VQ_HIGH_GPA - 70; gpa < VQ_HIGH_GPA + 20; gpa++) {
		FOR_EACH_DIR(dir)
		{
			for (uint16_t i = 0; i < 4; i++)
				table[i] = (struct vring_desc){VQ_FAR_GPA + 100 * i, 10,
					flag_of(dir) | (i < 3 ? N : 0), (uint16_t)(i + 1)};
			assert_int_equal(ts_guest_write(t->guest, gpa, table, sizeof(table)), 0);
			set_indirect(t, gpa, sizeof(table), I);
			accepted(t, dir, 3, 40, 4);
		}
	}
	/* Into a hole: the table breaks off before its last entry. */
	for (uint64_t gpa = VQ_HOLE_GPA - 63; gpa < VQ_HOLE_GPA; gpa++) {
		ts_guest_write(t->guest, gpa, table, VQ_HOLE_GPA - gpa);
		set_indirect(t, gpa, sizeof(table), I);
		refused(t, VIRTQ_TO_GUEST, 3, VIRTQ_FAULT_BAD_ADDRESS);
	}
	set_indirect(t, VQ_HOLE_GPA, 64, I);
	refused(t, VIRTQ_TO_GUEST, 3, VIRTQ_FAULT_BAD_ADDRESS);
	set_indirect(t, UINT64_MAX - 15, 64, I);
	refused(t, VIRTQ_TO_GUEST, 3, VIRTQ_FAULT_BAD_ADDRESS);
}

/* ---- the index ---- */

static void avail_jumps(struct vq *t)
{
	static const uint16_t bases[] = {0, 1, 100, 65535};

	for (unsigned b = 0; b < TS_ARRAY_SIZE(bases); b++) {
		const uint32_t size = t->ring->size;
		const uint32_t by[] = {size + 1, size + 2, 0x8000 + size, 65535, 65534};

		for (unsigned i = 0; i < TS_ARRAY_SIZE(by); i++) {
			if (by[i] <= size || by[i] > UINT16_MAX)
				continue;
			virtq_start(t->q, &t->view, bases[b]);
			t->ring->avail->idx = (uint16_t)(bases[b] + by[i]);
			assert_int_equal(t->ops->ready(t->q, &t->view, 64), 0);
			assert_int_equal(t->q->fault, VIRTQ_FAULT_AVAIL_JUMP);
			assert_int_equal(t->q->avail, bases[b]);
		}
		virtq_start(t->q, &t->view, bases[b]);
		t->ring->avail->idx = (uint16_t)(bases[b] + size);
		assert_int_equal(t->ops->ready(t->q, &t->view, 64), size < 64 ? size : 64);
		assert_int_equal(t->q->fault, VIRTQ_FAULT_NONE);
	}
}

/* Chains taken before the bad one are given back as if nothing had happened. */
static void good_before_bad(struct vq *t)
{
	struct vring_desc *d = table_of(t);
	struct virtq_chain chain[4];
	unsigned n = 0;

	d[0] = (struct vring_desc){VQ_LOW_GPA, 10, 0, 0};
	t->ring->desc[7] = (struct vring_desc){VQ_HOLE_GPA, 10, 0, 0};
	offer(t, 0);
	offer(t, 0);
	offer(t, 7);
	offer(t, 0);
	vq_burst_begin(t);
	assert_int_equal(t->ops->ready(t->q, &t->view, 64), 4);
	while (n < 4 && t->ops->take(t->q, &t->view, VIRTQ_FROM_GUEST, t->segs, &chain[n]))
		n++;
	assert_int_equal(n, 2);
	assert_int_equal(t->segs->n, 2);
	assert_int_equal(t->q->fault, VIRTQ_FAULT_BAD_ADDRESS);
	for (unsigned i = 0; i < n; i++)
		t->ops->give(t->q, &t->view, &chain[i], 0);
	t->ops->publish(t->q, &t->view);
	assert_int_equal(t->ring->used->idx, 2);
}

/* ---- any table at all, against a walk written for clarity ---- */

struct model {
	const struct vq *t;
	enum virtq_dir dir;
	uint32_t nseg, budget;
	uint64_t len;
};

static bool model_buffer(struct model *m, const struct vring_desc *d)
{
	if (!(d->flags & W) != (m->dir == VIRTQ_FROM_GUEST))
		return false;
	for (uint32_t i = 0; i < d->len; i++) {
		const uint8_t *va = ts_va(m->t->guest, d->addr + i, 1);

		if (!va)
			return false;
		m->nseg +=
			i == 0 || va != (const uint8_t *)ts_va(m->t->guest, d->addr + i - 1, 1) + 1;
	}
	m->len += d->len;
	return true;
}

static bool model_walk(struct model *m, uint64_t table, uint32_t n, uint16_t i, bool nested)
{
	for (uint32_t budget = n; budget > 0; budget--) {
		struct vring_desc d;

		if (i >= n || ts_guest_read(m->t->guest, table + 16ull * i, &d, sizeof(d)) != 0)
			return false;
		if (d.flags & I) {
			if (nested || !m->t->c.indirect || (d.flags & N) || d.len == 0 ||
				d.len % 16 || d.len > 16 * VIRTQ_INDIRECT_MAX)
				return false;
			return model_walk(m, d.addr, d.len / 16, 0, true);
		}
		if (!model_buffer(m, &d))
			return false;
		if (!(d.flags & N))
			return true;
		i = d.next;
	}
	return false;
}

static struct vring_desc random_desc(struct vq *t)
{
	static const uint64_t at[] = {VQ_LOW_GPA, VQ_HIGH_GPA - 8, VQ_HOLE_GPA - 8, VQ_FAR_GPA,
		TABLE_GPA, TABLE_GPA + 5, VQ_HIGH_GPA - 24, 0};
	static const uint16_t flags[] = {0, 0, N, N, N, N, W, N | W, I, I | N, I | W};

	return (struct vring_desc){at[ts_rand_below(&t->rng, 8)],
		ts_rand_below(&t->rng, 3) ? 16 * ts_rand_below(&t->rng, 5)
					  : ts_rand_below(&t->rng, 40),
		flags[ts_rand_below(&t->rng, TS_ARRAY_SIZE(flags))],
		(uint16_t)ts_rand_below(&t->rng, 9)};
}

static void random_tables(struct vq *t)
{
	unsigned good = 0;

	for (unsigned round = 0; round < 30000; round++) {
		struct model m = {.t = t, .dir = dirs[ts_rand_below(&t->rng, 2)]};
		uint16_t head = (uint16_t)ts_rand_below(&t->rng, 9);
		struct virtq_chain chain;
		bool legal;

		for (unsigned i = 0; i < 8; i++) {
			struct vring_desc d = random_desc(t);

			t->ring->desc[i] = random_desc(t);
			ts_guest_write(t->guest, TABLE_GPA + 16 * i + ts_rand_below(&t->rng, 2) * 5,
				&d, sizeof(d));
			ts_guest_write(t->guest, VQ_HIGH_GPA - 24 + 16 * i, &d, sizeof(d));
		}
		legal = model_walk(&m, t->ring->desc_gpa, t->ring->size, head, false) &&
			(m.len > 0 || m.dir == VIRTQ_FROM_GUEST);
		offer(t, head);
		if (walk(t, m.dir, &chain) != legal)
			fail_msg("round %u: the model says %s, the walk \"%s\"", round,
				legal ? "legal" : "illegal", virtq_fault_text(t->q->fault));
		if (legal) {
			good++;
			assert_int_equal(chain.len, m.len);
			assert_int_equal(chain.nseg, m.nseg);
		} else {
			t->ring->avail->idx = t->q->avail;
			virtq_start(t->q, &t->view, t->q->avail);
		}
	}
	assert_in_range(good, 1000, 29000);
}

static const struct vq_test tests[] = {
	{"loops", loops, 256, 0, VQ_OVER_LAYOUT},
	{"one_too_many", one_too_many, 256, 0, VQ_OVER_LAYOUT},
	{"longest_loop", longest_loop, 32768, 0, VQ_OVER_FORMAT},
	{"next_out_of_range", next_out_of_range, 256, 0, VQ_OVER_LAYOUT},
	{"head_out_of_range", head_out_of_range, 256, 0, VQ_OVER_FORMAT},
	{"addresses", addresses, 256, 65500, VQ_OVER_LAYOUT},
	{"wrong_direction", wrong_direction, 256, 0, VQ_OVER_LAYOUT},
	{"table_lengths", table_lengths, 256, 0, VQ_OVER_FORMAT},
	{"table_rules", table_rules, 256, 0, VQ_OVER_FORMAT},
	{"table_anywhere", table_anywhere, 256, 0, VQ_OVER_FORMAT},
	{"avail_jumps", avail_jumps, 256, 0, VQ_OVER_FORMAT},
	{"avail_jumps_smallest", avail_jumps, 2, 0, VQ_OVER_FORMAT},
	{"avail_jumps_largest", avail_jumps, 32768, 0, VQ_OVER_FORMAT},
	{"good_before_bad", good_before_bad, 256, 0, VQ_OVER_LAYOUT},
	{"random_tables", random_tables, 8, 0, VQ_OVER_LAYOUT},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

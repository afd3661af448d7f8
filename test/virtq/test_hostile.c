/* SPDX-License-Identifier: BSD-3-Clause */
/* Buffers and tables no sane driver offers: each ends the walk with a fault, or is legal after all. */
#include <string.h>

#include "vq_hostile.h"

/* A buffer put alone, and second in a chain. */
static void try_buffer(struct vq *t, uint64_t gpa, uint32_t len, int expect_nseg)
{
	FOR_EACH_DIR(dir)
	{
		const uint16_t w = vq_flag_of(dir);
		const struct vq_part part[] = {{VQ_LOW_GPA, 5, w}, {gpa, len, w}};

		vq_offer(t, &part[1], 1);
		if (expect_nseg < 0)
			vq_refused(t, dir, VIRTQ_FAULT_BAD_ADDRESS);
		else if (len == 0 && dir == VIRTQ_TO_GUEST)
			vq_refused(t, dir, VIRTQ_FAULT_EMPTY);
		else
			vq_accepted(t, dir, len, (uint16_t)expect_nseg);
		vq_offer(t, part, 2);
		if (expect_nseg < 0)
			vq_refused(t, dir, VIRTQ_FAULT_BAD_ADDRESS);
		else
			vq_accepted(t, dir, len + 5, (uint16_t)(expect_nseg + 1));
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
		{VQ_LOW_GPA - 1, 0, 0},
		{VQ_HIGH_GPA - 1, 2, 2},
		{VQ_HIGH_GPA - 1, 1, 1},
		{VQ_HOLE_GPA - 1, 1, 1},
		{VQ_HOLE_GPA - 1, 2, -1},
		{VQ_FAR_GPA + VQ_REGION_SIZE - 1, 1, 1},
		{VQ_FAR_GPA + VQ_REGION_SIZE - 1, UINT32_MAX, -1},
		{VQ_FAR_GPA + VQ_REGION_SIZE, 1, -1},
		{0, 1, -1},
		{UINT64_MAX, 1, -1},
		{1ull << 63, UINT32_MAX, -1},
		{VQ_LOW_GPA | 1ull << 32, 64, -1},
	};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++)
		try_buffer(t, cases[i].gpa, cases[i].len, cases[i].nseg);
}

/* What the driver says is writable, and we read. In a packed ring's tables DPDK's driver says it of all. */
static void read_writable(struct vq *t, unsigned n)
{
	if (t->view.packed && t->c.indirect)
		vq_accepted(t, VIRTQ_FROM_GUEST, 10 * n, (uint16_t)n);
	else
		vq_refused(t, VIRTQ_FROM_GUEST, VIRTQ_FAULT_BAD_DIRECTION);
}

static void wrong_direction(struct vq *t)
{
	static const struct vq_part to_guest[] = {{VQ_LOW_GPA, 10, W}, {VQ_LOW_GPA, 10, 0}};
	static const struct vq_part from_guest[] = {{VQ_LOW_GPA, 10, 0}, {VQ_LOW_GPA, 10, W}};

	for (unsigned n = 1; n <= 2; n++) {
		vq_offer(t, to_guest, n);
		read_writable(t, n);
		vq_offer(t, from_guest, n);
		vq_refused(t, VIRTQ_TO_GUEST, VIRTQ_FAULT_BAD_DIRECTION);
	}
	vq_offer(t, to_guest, 2);
	vq_refused(t, VIRTQ_TO_GUEST, VIRTQ_FAULT_BAD_DIRECTION);
	vq_offer(t, from_guest, 2);
	read_writable(t, 2);
}

/* As many descriptors as the ring, or the table, has is the longest chain. */
static void longest_chain(struct vq *t)
{
	struct vq_part part[256];

	for (unsigned i = 0; i < TS_ARRAY_SIZE(part); i++)
		part[i] = (struct vq_part){VQ_LOW_GPA + i, 1, 0};
	for (unsigned n = 250; n <= TS_ARRAY_SIZE(part); n++) {
		if (!t->view.packed && !t->c.indirect && n > 253)
			break; /* where these chains begin; test_hostile_split.c has the rest */
		vq_offer(t, part, n);
		vq_accepted(t, VIRTQ_FROM_GUEST, n, (uint16_t)n);
	}
}

/* ---- indirect tables ---- */

static void table_lengths(struct vq *t)
{
	static const struct {
		uint32_t len;
		bool ok;
	} cases[] = {{0, false}, {1, false}, {15, false}, {16, true}, {17, false}, {24, false},
		{32, true}, {16 * 1024, true}, {16 * 1024 + 1, false}, {16 * 1025, false},
		{16 * 65536, false}, {UINT32_MAX, false}, {UINT32_MAX - 15, false}};
	struct vq_part part[VIRTQ_INDIRECT_MAX];

	for (uint32_t i = 0; i < VIRTQ_INDIRECT_MAX; i++)
		part[i] = (struct vq_part){VQ_LOW_GPA, 1, 0};
	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		/* A split table's chain may end early, a packed one is used to its end. */
		const uint32_t n = t->view.packed && cases[i].ok ? cases[i].len / 16 : 1;

		vq_write_table(t, VQ_TABLE_GPA, part, n);
		vq_offer_one(t, VQ_TABLE_GPA, cases[i].len, I);
		if (cases[i].ok)
			vq_accepted(t, VIRTQ_FROM_GUEST, n, (uint16_t)n);
		else
			vq_refused(t, VIRTQ_FROM_GUEST, VIRTQ_FAULT_BAD_INDIRECT);
	}
	vq_write_table(t, VQ_TABLE_GPA, part, VIRTQ_INDIRECT_MAX);
	vq_offer_one(t, VQ_TABLE_GPA, 16 * VIRTQ_INDIRECT_MAX, I);
	vq_accepted(t, VIRTQ_FROM_GUEST, VIRTQ_INDIRECT_MAX, VIRTQ_INDIRECT_MAX);
}

static void table_rules(struct vq *t)
{
	static const struct vq_part nested[] = {
		{VQ_LOW_GPA, 20, 0}, {VQ_TABLE_GPA + 64, 16, I}, {VQ_LOW_GPA, 1, 0}};
	static const struct vq_part good[] = {{VQ_LOW_GPA, 20, 0}};

	vq_write_table(t, VQ_TABLE_GPA + 64, good, 1);
	vq_write_table(t, VQ_TABLE_GPA, &nested[1], 2);
	vq_offer_one(t, VQ_TABLE_GPA, 32, I);
	vq_refused(t, VIRTQ_FROM_GUEST, VIRTQ_FAULT_BAD_INDIRECT);
	for (unsigned n = 2; n <= 3; n++) {
		vq_write_table(t, VQ_TABLE_GPA, nested, n);
		vq_offer_one(t, VQ_TABLE_GPA, 16 * n, I);
		vq_refused(t, VIRTQ_FROM_GUEST, VIRTQ_FAULT_BAD_INDIRECT);
	}

	vq_write_table(t, VQ_TABLE_GPA, good, 1);
	vq_offer_one(t, VQ_TABLE_GPA, 16, I | N);
	vq_refused(t, VIRTQ_FROM_GUEST, VIRTQ_FAULT_BAD_INDIRECT); /* goes on after the table */
	/* A table is the device's to read whatever its write flag says (virtio 1.2, 2.7.5.3.2 and
	 * 2.8.7). */
	vq_offer_one(t, VQ_TABLE_GPA, 16, I | W);
	vq_accepted(t, VIRTQ_FROM_GUEST, 20, 1);

	vq_offer_one(t, VQ_TABLE_GPA, 16, I);
	t->view.indirect = false;
	vq_refused(t, VIRTQ_FROM_GUEST, VIRTQ_FAULT_BAD_INDIRECT); /* not negotiated */
}

/* A table may lie anywhere, across regions and at any byte. */
static void table_anywhere(struct vq *t)
{
	struct vq_part part[4];
	uint8_t table[64];

	for (uint64_t gpa = VQ_HIGH_GPA - 70; gpa < VQ_HIGH_GPA + 20; gpa++) {
		FOR_EACH_DIR(dir)
		{
			for (unsigned i = 0; i < 4; i++)
				part[i] =
					(struct vq_part){VQ_FAR_GPA + 100 * i, 10, vq_flag_of(dir)};
			vq_write_table(t, gpa, part, 4);
			vq_offer_one(t, gpa, 64, I);
			vq_accepted(t, dir, 40, 4);
		}
	}
	/* Into a hole: the table breaks off before its last entry. */
	vq_write_table(t, VQ_LOW_GPA, part, 4);
	ts_guest_read(t->guest, VQ_LOW_GPA, table, sizeof(table));
	for (uint64_t gpa = VQ_HOLE_GPA - 63; gpa < VQ_HOLE_GPA; gpa++) {
		ts_guest_write(t->guest, gpa, table, VQ_HOLE_GPA - gpa);
		vq_offer_one(t, gpa, sizeof(table), I);
		vq_refused(t, VIRTQ_TO_GUEST, VIRTQ_FAULT_BAD_ADDRESS);
	}
	vq_offer_one(t, VQ_HOLE_GPA, 64, I);
	vq_refused(t, VIRTQ_TO_GUEST, VIRTQ_FAULT_BAD_ADDRESS);
	vq_offer_one(t, UINT64_MAX - 15, 64, I);
	vq_refused(t, VIRTQ_TO_GUEST, VIRTQ_FAULT_BAD_ADDRESS);
}

/* Chains taken before the bad one are given back as if nothing had happened. */
static void good_before_bad(struct vq *t)
{
	static const struct vq_part good = {VQ_LOW_GPA, 10, 0};
	struct virtq_chain chain[4];
	unsigned n = 0;

	vq_offer(t, &good, 1);
	vq_offer(t, &good, 1);
	vq_offer_one(t, VQ_HOLE_GPA, 10, 0);
	vq_offer(t, &good, 1);
	vq_burst_begin(t);
	assert_int_not_equal(t->ops->ready(t->q, &t->view, 64), 0);
	while (n < 4 && t->ops->take(t->q, &t->view, VIRTQ_FROM_GUEST, t->segs, &chain[n]))
		n++;
	assert_int_equal(n, 2);
	assert_int_equal(t->segs->n, 2);
	assert_int_equal(t->q->fault, VIRTQ_FAULT_BAD_ADDRESS);
	for (unsigned i = 0; i < n; i++)
		t->ops->give(t->q, &t->view, &chain[i], 0);
	t->ops->publish(t->q, &t->view);
	assert_int_equal(t->q->used, vq_pos(t, 2));
	assert_int_equal(t->q->avail, vq_pos(t, 2));
}

static const struct vq_test tests[] = {
	{"trap_5_9_addresses", addresses, 256, 65500, VQ_OVER_LAYOUT},
	{"trap_5_9_wrong_direction", wrong_direction, 256, 0, VQ_OVER_LAYOUT},
	{"trap_5_9_longest_chain", longest_chain, 256, 100, VQ_OVER_LAYOUT},
	{"trap_5_9_table_lengths", table_lengths, 256, 0, VQ_OVER_FORMAT},
	{"trap_5_9_table_rules", table_rules, 256, 0, VQ_OVER_FORMAT},
	{"trap_5_9_table_anywhere", table_anywhere, 256, 0, VQ_OVER_FORMAT},
	{"trap_5_9_good_before_bad", good_before_bad, 256, 0, VQ_OVER_LAYOUT},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

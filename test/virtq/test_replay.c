/* SPDX-License-Identifier: BSD-3-Clause */
/* What broke other back-ends' walks, played again: each case is named after the fix or the CVE it led to. */
#include <string.h>

#include "vq_hostile.h"

/*
 * Theory of operation
 *
 * A row says what a driver offers and what must become of it: a fault, or so many bytes in so many
 * segments. DPDK's commits have no prefix. Packets have their own: test/vnet/test_replay.c. Rings whose
 * memory changes while it is read: test/vnet/test_fetch_again.c, test_race.c.
 */

#define SIZE 256u
#define OK   VIRTQ_FAULT_NONE

enum how {
	CHAIN, /* parts, in the column's layout */
	TABLE, /* parts in a table, and one descriptor of this length at this address */
	LINKS, /* split: descriptors whose links are as given, in the ring or a table */
	HEAD,  /* split: an available entry */
};

struct replay {
	const char *name;
	enum how how;
	enum vq_over over;
	unsigned dirs; /* 1: from the guest, 2: to it */
	enum virtq_fault fault;
	uint32_t len;  /* accepted: bytes, */
	uint16_t nseg; /* segments */
	uint64_t at;   /* TABLE */
	uint32_t table_len;
	uint16_t first; /* HEAD, LINKS: where it begins */
	unsigned n;
	struct vq_part part[4]; /* WRITE is added for chains to the guest */
	uint16_t next[4];       /* LINKS */
};

#define FROM 1u
#define TO   2u
#define BOTH 3u

static const struct replay replays[] = {
	/* addresses and lengths */
	{"CVE-2018-1059_c6ae7de0de_past_a_region", CHAIN, VQ_OVER_LAYOUT, BOTH,
		VIRTQ_FAULT_BAD_ADDRESS, .n = 1, .part = {{VQ_HOLE_GPA - 16, 65536, 0}}},
	{"CVE-2018-1059_070aceda33_across_regions_is_legal", CHAIN, VQ_OVER_LAYOUT, BOTH, OK, 65536,
		2, .n = 1, .part = {{VQ_HIGH_GPA - 16, 65536, 0}}},
	{"CVE-2018-1059_41333fba5b_second_in_a_chain", CHAIN, VQ_OVER_LAYOUT, BOTH,
		VIRTQ_FAULT_BAD_ADDRESS, .n = 2,
		.part = {{VQ_LOW_GPA, 64, 0}, {VQ_HOLE_GPA - 1, 2, 0}}},
	{"CVE-2018-1059_30920b1e2b_table_into_a_hole", TABLE, VQ_OVER_FORMAT, BOTH,
		VIRTQ_FAULT_BAD_ADDRESS, .at = VQ_HOLE_GPA - 16, .table_len = 32, .n = 1,
		.part = {{VQ_LOW_GPA, 64, N}}},
	{"CVE-2018-1059_91b7b40806_table_across_regions_is_legal", TABLE, VQ_OVER_FORMAT, BOTH, OK,
		96, 2, .at = VQ_HIGH_GPA - 16, .table_len = 32, .n = 2,
		.part = {{VQ_LOW_GPA, 64, 0}, {VQ_FAR_GPA, 32, 0}}},
	{"CVE-2018-1059_fb3815cc61_both_ends_are_memory", CHAIN, VQ_OVER_LAYOUT, BOTH,
		VIRTQ_FAULT_BAD_ADDRESS, .n = 1,
		.part = {{VQ_HOLE_GPA - 1, VQ_REGION_SIZE + 2, 0}}},
	{"qemu_293084a719_one_byte_before_a_region", CHAIN, VQ_OVER_LAYOUT, BOTH,
		VIRTQ_FAULT_BAD_ADDRESS, .n = 1, .part = {{VQ_LOW_GPA - 1, 2, 0}}},
	{"ebd02c060a_unmapped", CHAIN, VQ_OVER_LAYOUT, BOTH, VIRTQ_FAULT_BAD_ADDRESS, .n = 1,
		.part = {{VQ_HOLE_GPA, 64, 0}}},
	{"passt_4592719_wraps_64_bits", CHAIN, VQ_OVER_LAYOUT, BOTH, VIRTQ_FAULT_BAD_ADDRESS,
		.n = 1, .part = {{UINT64_MAX - 3, 64, 0}}},
	{"passt_e43e007_longest_length", CHAIN, VQ_OVER_LAYOUT, BOTH, VIRTQ_FAULT_BAD_ADDRESS,
		.n = 1, .part = {{VQ_FAR_GPA, UINT32_MAX, 0}}},
	{"729199397f_longer_than_16_bits", CHAIN, VQ_OVER_LAYOUT, BOTH, OK, 0x20000, 1, .n = 1,
		.part = {{VQ_LOW_GPA, 0x20000, 0}}},

	/* nothing in it */
	{"623bc47054_zeroed_memory_sends", CHAIN, VQ_OVER_LAYOUT, FROM, OK, 0, 0, .n = 1},
	{"623bc47054_zeroed_memory_receives", CHAIN, VQ_OVER_LAYOUT, TO, VIRTQ_FAULT_EMPTY, .n = 1},
	{"CVE-2020-10725_97ecc1c85c_unmapped_and_empty", CHAIN, VQ_OVER_LAYOUT, FROM, OK, 0, 0,
		.n = 1, .part = {{VQ_HOLE_GPA, 0, 0}}},
	{"CVE-2020-10725_97ecc1c85c_unmapped_and_empty_receives", CHAIN, VQ_OVER_LAYOUT, TO,
		VIRTQ_FAULT_EMPTY, .n = 1, .part = {{VQ_HOLE_GPA, 0, 0}}},
	{"CVE-2019-14835_empty_between", CHAIN, VQ_OVER_LAYOUT, BOTH, OK, 20, 2, .n = 4,
		.part = {{VQ_LOW_GPA, 10, 0}, {0, 0, 0}, {UINT64_MAX, 0, 0}, {VQ_LOW_GPA, 10, 0}}},

	/* loops */
	{"CVE-2019-9547_self", LINKS, VQ_OVER_LAYOUT | VQ_SPLIT, BOTH, VIRTQ_FAULT_LOOP, .n = 1,
		.part = {{VQ_LOW_GPA, 1, N}}, .next = {0}},
	{"CVE-2019-9547_two", LINKS, VQ_OVER_LAYOUT | VQ_SPLIT, BOTH, VIRTQ_FAULT_LOOP, .n = 2,
		.part = {{VQ_LOW_GPA, 1, N}, {VQ_LOW_GPA, 1, N}}, .next = {1, 0}},
	{"a436f53ebf_behind_a_good_one", LINKS, VQ_OVER_LAYOUT | VQ_SPLIT, FROM, VIRTQ_FAULT_LOOP,
		.n = 3, .part = {{VQ_LOW_GPA, 9, N}, {VQ_LOW_GPA, 1, N}, {VQ_LOW_GPA, 1, N}},
		.next = {1, 2, 1}},
	{"cc7301908c_behind_a_good_one_receives", LINKS, VQ_OVER_LAYOUT | VQ_SPLIT, TO,
		VIRTQ_FAULT_LOOP, .n = 3,
		.part = {{VQ_LOW_GPA, 9, N}, {VQ_LOW_GPA, 1, N}, {VQ_LOW_GPA, 1, N}},
		.next = {1, 2, 1}},
	{"450539b47e_empty_self", LINKS, VQ_OVER_LAYOUT | VQ_SPLIT, BOTH, VIRTQ_FAULT_LOOP, .n = 1,
		.part = {{VQ_LOW_GPA, 0, N}}, .next = {0}},
	{"spdk_4d74fad8b5_empty_two", LINKS, VQ_OVER_LAYOUT | VQ_SPLIT, BOTH, VIRTQ_FAULT_LOOP,
		.n = 2, .part = {{0, 0, N}, {0, 0, N}}, .next = {1, 0}},

	/* indexes */
	{"c687b0b635_next_is_size", LINKS, VQ_OVER_LAYOUT | VQ_SPLIT, BOTH, VIRTQ_FAULT_BAD_INDEX,
		.n = 1, .part = {{VQ_LOW_GPA, 10, N}}, .next = {SIZE}},
	{"06fc8545fd_next_is_above", LINKS, VQ_OVER_LAYOUT | VQ_SPLIT, BOTH, VIRTQ_FAULT_BAD_INDEX,
		.n = 1, .part = {{VQ_LOW_GPA, 10, N}}, .next = {SIZE + 1}},
	{"06fc8545fd_next_is_largest", LINKS, VQ_OVER_LAYOUT | VQ_SPLIT, BOTH,
		VIRTQ_FAULT_BAD_INDEX, .n = 1, .part = {{VQ_LOW_GPA, 10, N}}, .next = {UINT16_MAX}},
	{"06fc8545fd_next_has_a_sign", LINKS, VQ_OVER_LAYOUT | VQ_SPLIT, BOTH,
		VIRTQ_FAULT_BAD_INDEX, .n = 1, .part = {{VQ_LOW_GPA, 10, N}}, .next = {0x8000}},
	{"85936f0546_head_is_size", HEAD, VQ_OVER_FORMAT | VQ_SPLIT, BOTH, VIRTQ_FAULT_BAD_INDEX,
		.first = SIZE},
	{"85936f0546_head_is_above", HEAD, VQ_OVER_FORMAT | VQ_SPLIT, BOTH, VIRTQ_FAULT_BAD_INDEX,
		.first = SIZE + 1},
	{"4800639000_head_is_largest", HEAD, VQ_OVER_FORMAT | VQ_SPLIT, BOTH, VIRTQ_FAULT_BAD_INDEX,
		.first = UINT16_MAX},
	{"4800639000_head_has_a_sign", HEAD, VQ_OVER_FORMAT | VQ_SPLIT, BOTH, VIRTQ_FAULT_BAD_INDEX,
		.first = 0x8000},
};

static void offer_links(struct vq *t, const struct replay *r, uint16_t w)
{
	struct vring_desc *d = t->ring->desc;

	if (t->c.indirect) {
		d[0] = (struct vring_desc){VQ_TABLE_GPA, 16 * SIZE, I, 0};
		d = ts_va(t->guest, VQ_TABLE_GPA, 16ull * SIZE);
	}
	for (unsigned i = 0; i < r->n; i++)
		d[i] = (struct vring_desc){
			r->part[i].gpa, r->part[i].len, r->part[i].flags | w, r->next[i]};
	ts_raw_offer(t->ring, r->first);
}

static void offer(struct vq *t, const struct replay *r, uint16_t w)
{
	struct vq_part part[4];

	for (unsigned i = 0; i < r->n; i++)
		part[i] = (struct vq_part){r->part[i].gpa, r->part[i].len, r->part[i].flags | w};
	switch (r->how) {
	case CHAIN:
		vq_offer(t, part, r->n);
		break;
	case TABLE:
		vq_write_table(t, r->at, part, r->n);
		vq_offer_one(t, r->at, r->table_len, I);
		break;
	case LINKS:
		offer_links(t, r, w);
		break;
	case HEAD:
		ts_raw_offer(t->ring, r->first);
		break;
	}
}

/* The same buffer behind a good one. */
static void play_second(struct vq *t, const struct replay *r, enum virtq_dir dir)
{
	const uint16_t w = vq_flag_of(dir);
	const struct vq_part part[] = {
		{VQ_LOW_GPA, 5, w}, {r->part[r->n - 1].gpa, r->part[r->n - 1].len, w}};

	vq_offer(t, part, 2);
	vq_refused(t, dir, r->fault);
}

static void play(struct vq *t)
{
	const struct replay *r = t->arg;

	FOR_EACH_DIR(dir)
	{
		if (!(r->dirs & (dir == VIRTQ_TO_GUEST ? TO : FROM)))
			continue;
		offer(t, r, vq_flag_of(dir));
		if (r->fault)
			vq_refused(t, dir, r->fault);
		else
			vq_accepted(t, dir, r->len, r->nseg);
		if (r->how == CHAIN && r->fault == VIRTQ_FAULT_BAD_ADDRESS)
			play_second(t, r, dir);
	}
}

/* ---- what needs more than a row ---- */

/* A bad one at each place of what vector paths take at once: it is not passed over, nor taken for the others. */
static void batch(struct vq *t)
{
	for (unsigned i = 0; i < 8; i++) {
		const uint32_t base = virtq_position(t->q, t->view.packed);
		const unsigned place = i / 2, empty = i % 2;
		struct virtq_chain chain[4];
		unsigned n = 0;

		for (unsigned k = 0; k < 4; k++)
			vq_offer_one(t, k == place ? VQ_HOLE_GPA : VQ_LOW_GPA,
				k == place && empty ? 0 : 10, 0);
		t->ahead = 0;
		vq_burst_begin(t);
		t->ops->ready(t->q, &t->view, 64);
		while (n < 4 && t->ops->take(t->q, &t->view, VIRTQ_FROM_GUEST, t->segs, &chain[n]))
			n++;
		/* An empty descriptor's address is nobody's business. */
		assert_int_equal(n, empty ? 4 : place);
		assert_int_equal(t->q->fault, empty ? VIRTQ_FAULT_NONE : VIRTQ_FAULT_BAD_ADDRESS);
		for (unsigned k = 0; k < n; k++)
			assert_int_equal(chain[k].len, k == place ? 0 : 10);
		if (!t->view.packed)
			t->ring->avail->idx = (uint16_t)base;
		virtq_start(t->q, &t->view, base);
	}
}

/* As many descriptors as there are is a chain, one more is a loop. */
static void as_many_as_there_are(struct vq *t)
{
	struct replay r = {.how = LINKS};
	struct vring_desc *d;
	struct virtq_chain chain;

	offer_links(t, &r, 0);
	d = t->c.indirect ? ts_va(t->guest, VQ_TABLE_GPA, 16ull * SIZE) : t->ring->desc;
	for (uint32_t i = 0; i < SIZE; i++)
		d[i] = (struct vring_desc){VQ_LOW_GPA, 1, i + 1 < SIZE ? N : 0, (uint16_t)(i + 1)};
	assert_true(vq_walk(t, VIRTQ_FROM_GUEST, &chain));
	assert_int_equal(chain.nseg, SIZE);
	d[SIZE - 1] = (struct vring_desc){VQ_LOW_GPA, 1, N, 3};
	if (t->c.indirect)
		t->ring->desc[0] = (struct vring_desc){VQ_TABLE_GPA, 16 * SIZE, I, 0};
	ts_raw_offer(t->ring, 0);
	vq_refused(t, VIRTQ_FROM_GUEST, VIRTQ_FAULT_LOOP);
}

static bool look(void *arg, uint64_t addr, uint32_t len, bool table)
{
	(void)addr, (void)len;
	++*(unsigned *)arg;
	return table;
}

/* Every walker has a bound, also those that only look or throw away. */
static void other_walkers(struct vq *t)
{
	const uint32_t base = virtq_position(t->q, t->view.packed);
	unsigned seen = 0;

	if (t->view.packed) {
		ts_raw_break(t->ring);
	} else {
		t->ring->desc[0] = (struct vring_desc){VQ_LOW_GPA, 0, N, 0};
		for (unsigned i = 0; i < SIZE; i++)
			ts_raw_offer(t->ring, 0);
	}
	virtq_peek(t->q, &t->view, 1000, look, &seen);
	assert_in_range(seen, SIZE, 1000);
	assert_int_equal(virtq_fill(t->q, &t->view), SIZE);
	assert_in_range(virtq_discard(t->q, &t->view, UINT32_MAX), 0, SIZE);
	assert_int_equal(t->q->fault, t->view.packed ? VIRTQ_FAULT_LOOP : VIRTQ_FAULT_NONE);
	virtq_start(t->q, &t->view, base);
}

/* A full ring is not an empty one, before and behind the wrap of the index. */
static void full_ring(struct vq *t)
{
	uint64_t in = 0, out = 0;
	struct virtq_chain chain[SIZE];

	for (unsigned round = 0; round < 4; round++) {
		uint16_t n = 0;

		assert_int_equal(vq_post_some(t, SIZE + 1, &in), SIZE);
		assert_int_equal(virtq_fill(t->q, &t->view), SIZE);
		while (n < SIZE) {
			const uint16_t got = vq_take_some(t, chain, 64);

			assert_int_equal(got, 64);
			vq_give_all(t, chain, got);
			n = (uint16_t)(n + got);
		}
		vq_reap_all(t, &out);
		assert_int_equal(out, in);
	}
}

/* More segments than a burst holds: refused, and what is beside the array is left alone. */
static void too_many_segments(struct vq *t)
{
	struct {
		struct virtq_segs segs;
		uint64_t beside;
	} room = {.beside = 0x5a5a5a5a5a5a5a5a};
	struct vq_part part[VIRTQ_INDIRECT_MAX];
	struct virtq_chain chain;

	for (unsigned i = 0; i < VIRTQ_INDIRECT_MAX; i++)
		part[i] = (struct vq_part){VQ_HIGH_GPA - 1, i ? 2 : 1, 0}; /* two segments each */
	vq_write_table(t, VQ_TABLE_GPA, part, VIRTQ_INDIRECT_MAX);
	vq_offer_one(t, VQ_TABLE_GPA, 16 * VIRTQ_INDIRECT_MAX, I);
	virtq_segs_begin(&room.segs);
	assert_int_equal(t->ops->ready(t->q, &t->view, 1), 1);
	assert_false(t->ops->take(t->q, &t->view, VIRTQ_FROM_GUEST, &room.segs, &chain));
	assert_true(room.segs.full);
	assert_int_equal(room.segs.n, 0);
	assert_true(room.beside == 0x5a5a5a5a5a5a5a5a);
}

static const struct vq_test others[] = {
	{"CVE-2020-10725_af584d21bf_place_in_a_batch", batch, SIZE, 0, VQ_OVER_FORMAT},
	{"b7aabd7a87_as_many_as_there_are", as_many_as_there_are, SIZE, 0,
		VQ_OVER_LAYOUT | VQ_SPLIT},
	{"6ec1778134_other_walkers", other_walkers, SIZE, 0, VQ_OVER_FORMAT},
	{"spdk_808a2b05c2_full_ring", full_ring, SIZE, 0, VQ_OVER_LAYOUT},
	{"38e6400387_full_ring_at_the_wrap", full_ring, SIZE, 65400, VQ_OVER_LAYOUT},
	{"3e1e9c2464_too_many_segments", too_many_segments, SIZE, 0, VQ_OVER_FORMAT},
};

int main(int argc, char **argv)
{
	struct vq_test tests[TS_ARRAY_SIZE(replays) + TS_ARRAY_SIZE(others)];
	const void *args[TS_ARRAY_SIZE(tests)] = {NULL};
	size_t n = 0;

	for (; n < TS_ARRAY_SIZE(replays); n++) {
		tests[n] = (struct vq_test){replays[n].name, play, SIZE, 0, replays[n].over};
		args[n] = &replays[n];
	}
	memcpy(&tests[n], others, sizeof(others));
	return vq_main_with(tests, args, TS_ARRAY_SIZE(tests), argc, argv);
}

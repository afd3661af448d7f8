/* SPDX-License-Identifier: BSD-3-Clause */
/* Links and indexes of split rings that no sane driver writes. */
#include "vq_hostile.h"

/* The table a column is about: the ring's own, or an indirect one its first entry points to. */
static struct vring_desc *table_of(struct vq *t)
{
	if (!t->c.indirect)
		return t->ring->desc;
	t->ring->desc[0] = (struct vring_desc){VQ_TABLE_GPA, 16 * t->ring->size, I, 0};
	return ts_va(t->guest, VQ_TABLE_GPA, 16ull * VIRTQ_INDIRECT_MAX);
}

/* The chain at head is refused for this reason. */
static void refused(struct vq *t, enum virtq_dir dir, uint16_t head, enum virtq_fault why)
{
	ts_raw_offer(t->ring, head);
	vq_refused(t, dir, why);
}

static void accepted(struct vq *t, uint16_t head, uint32_t len, uint16_t nseg)
{
	struct virtq_chain chain;

	ts_raw_offer(t->ring, head);
	if (!vq_walk(t, VIRTQ_FROM_GUEST, &chain))
		fail_msg("refused: %s", virtq_fault_text(t->q->fault));
	assert_int_equal(chain.id, head);
	assert_int_equal(chain.len, len);
	assert_int_equal(chain.nseg, nseg);
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
		const uint16_t w = vq_flag_of(dir);

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
	accepted(t, 0, size, (uint16_t)size);
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
	ts_raw_offer(t->ring, 0);
	assert_false(vq_walk(t, VIRTQ_FROM_GUEST, &chain));
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
			d[0] = (struct vring_desc){VQ_LOW_GPA, 10, vq_flag_of(dir) | N, next[i]};
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

static void avail_jumps(struct vq *t)
{
	static const uint16_t bases[] = {0, 1, 100, 65535};

	for (unsigned b = 0; b < TS_ARRAY_SIZE(bases); b++) {
		const uint32_t size = t->ring->size;
		const uint32_t by[] = {size + 1, size + 2, 0x8000 + size, 65535, 65534};

		for (unsigned i = 0; i < TS_ARRAY_SIZE(by); i++) {
			if (by[i] <= size || by[i] > UINT16_MAX)
				continue;
			t->ring->used->idx = t->ring->avail->idx = bases[b];
			virtq_start(t->q, &t->view, bases[b]);
			t->ring->avail->idx = (uint16_t)(bases[b] + by[i]);
			assert_int_equal(t->ops->ready(t->q, &t->view, 64), 0);
			assert_int_equal(t->q->fault, VIRTQ_FAULT_AVAIL_JUMP);
			assert_int_equal(t->q->avail, bases[b]);
		}
		t->ring->avail->idx = bases[b];
		virtq_start(t->q, &t->view, bases[b]);
		t->ring->avail->idx = (uint16_t)(bases[b] + size);
		assert_int_equal(t->ops->ready(t->q, &t->view, 64), size < 64 ? size : 64);
		assert_int_equal(t->q->fault, VIRTQ_FAULT_NONE);
	}
}

static const struct vq_test tests[] = {
	{"trap_5_9_loops", loops, 256, 0, VQ_OVER_LAYOUT | VQ_SPLIT},
	{"trap_5_9_one_too_many", one_too_many, 256, 0, VQ_OVER_LAYOUT | VQ_SPLIT},
	{"trap_5_9_longest_loop", longest_loop, 32768, 0, VQ_OVER_FORMAT | VQ_SPLIT},
	{"trap_5_9_next_out_of_range", next_out_of_range, 256, 0, VQ_OVER_LAYOUT | VQ_SPLIT},
	{"trap_5_9_head_out_of_range", head_out_of_range, 256, 0, VQ_OVER_FORMAT | VQ_SPLIT},
	{"trap_5_9_avail_jumps", avail_jumps, 256, 0, VQ_OVER_FORMAT | VQ_SPLIT},
	{"trap_5_9_avail_jumps_smallest", avail_jumps, 2, 0, VQ_OVER_FORMAT | VQ_SPLIT},
	{"trap_5_9_avail_jumps_largest", avail_jumps, 32768, 0, VQ_OVER_FORMAT | VQ_SPLIT},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

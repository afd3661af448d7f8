/* SPDX-License-Identifier: BSD-3-Clause */
/* Packed descriptors no sane driver writes: flags, chains without end, ids. */
#include "vq_hostile.h"

/* Nothing there: no chain, no fault, nothing counted, and it may come later. */
static void assert_nothing(struct vq *t)
{
	const uint32_t position = virtq_position(t->q, true);
	struct virtq_chain chain;

	assert_false(vq_walk(t, VIRTQ_FROM_GUEST, &chain));
	assert_false((t->ops->skip)(t->q, &t->view, &chain));
	assert_int_equal(virtq_discard(t->q, &t->view, UINT32_MAX), 0);
	assert_int_equal(t->q->fault, VIRTQ_FAULT_NONE);
	assert_int_equal(virtq_position(t->q, true), position);
}

/* Every state of the two bits at every position of both rounds: only one of them is available. */
static void bits(struct vq *t)
{
	static const uint16_t flips[] = {
		1u << VRING_PACKED_DESC_F_AVAIL, 1u << VRING_PACKED_DESC_F_USED, TS_PACKED_BITS, 0};

	for (unsigned n = 0; n < 2 * t->ring->size; n++) {
		const uint16_t pos = vq_pos(t, n);

		ts_ring_reset(t->ring, ts_base_at(t->ring->features, t->ring->size, n));
		virtq_start(t->q, &t->view, vq_base(t, pos, pos));
		assert_nothing(t);
		for (unsigned i = 0; i < TS_ARRAY_SIZE(flips); i++) {
			const struct vring_packed_desc d = {VQ_LOW_GPA, 60, 77, flips[i]};

			ts_raw_put(t->ring, pos, &d, 1);
			if (flips[i])
				assert_nothing(t);
			else
				vq_accepted(t, VIRTQ_FROM_GUEST, 60, 1);
		}
		assert_int_equal(t->q->avail, vq_pos(t, n + 1));
		assert_nothing(t);
	}
}

/* NEXT all the way round. Skipping a chain must notice as well. */
static void without_end(struct vq *t)
{
	const uint32_t base = virtq_position(t->q, true);
	struct virtq_chain chain;

	ts_raw_break(t->ring);
	assert_false(vq_walk(t, VIRTQ_FROM_GUEST, &chain));
	assert_int_equal(t->q->fault, VIRTQ_FAULT_LOOP);
	virtq_start(t->q, &t->view, base);
	assert_false((t->ops->skip)(t->q, &t->view, &chain));
	assert_int_equal(t->q->fault, VIRTQ_FAULT_LOOP);
	assert_int_equal(virtq_position(t->q, true), base);
	virtq_start(t->q, &t->view, base);
	assert_int_equal(virtq_discard(t->q, &t->view, 1), 0);
	assert_int_equal(t->q->fault, VIRTQ_FAULT_LOOP);
	assert_int_equal(virtq_position(t->q, true), base);
}

/* As long as the ring is the longest chain: its last descriptor lies just before its first. */
static void as_long_as_the_ring(struct vq *t)
{
	const uint16_t last = (uint16_t)((t->q->avail & 0x7fff) + t->ring->size - 1);
	struct virtq_chain chain;

	ts_raw_break(t->ring);
	t->ring->pdesc[last % t->ring->size].flags &= (uint16_t)~N;
	assert_true(vq_walk(t, VIRTQ_FROM_GUEST, &chain));
	assert_int_equal(chain.ndesc, t->ring->size);
	assert_int_equal(chain.nseg, 0);
	t->ops->give(t->q, &t->view, &chain, 0);
	t->ops->publish(t->q, &t->view);
	assert_int_equal(t->q->avail, t->q->used);
	assert_nothing(t);
}

/* Where a ring is larger than what one burst walks, the budget ends a chain. */
static void longer_than_a_burst(struct vq *t)
{
	struct virtq_chain chain;

	ts_raw_break(t->ring);
	assert_false(vq_walk(t, VIRTQ_FROM_GUEST, &chain));
	assert_true(t->segs->full);
	assert_int_equal(t->segs->links, VIRTQ_LINKS + 1);
	assert_int_equal(t->q->fault, VIRTQ_FAULT_NONE);
	/* So it does for those who only skip it: a chain as long as the ring. */
	assert_false((t->ops->skip)(t->q, &t->view, &chain));
	assert_int_equal(t->q->fault, VIRTQ_FAULT_LOOP);
}

/* An id is the driver's own business: it comes back as it was in the chain's last descriptor. */
static void any_id(struct vq *t)
{
	static const uint16_t ids[] = {0, 255, 256, 0x7fff, 0x8000, UINT16_MAX};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(ids); i++) {
		const struct vring_packed_desc d[2] = {
			{VQ_LOW_GPA, 1, (uint16_t)~ids[i], N}, {VQ_LOW_GPA, 1, ids[i], 0}};
		const uint16_t at = t->q->used & 0x7fff;
		struct virtq_chain chain;

		ts_raw_put(t->ring, t->q->avail, d, 2);
		assert_true(vq_walk(t, VIRTQ_FROM_GUEST, &chain));
		assert_int_equal(chain.id, ids[i]);
		assert_int_equal(chain.ndesc, 2);
		t->ops->give(t->q, &t->view, &chain, 0);
		t->ops->publish(t->q, &t->view);
		assert_int_equal(t->ring->pdesc[at].id, ids[i]);
		assert_int_equal(t->ring->pdesc[at].len, 0);
	}
}

/* What a used descriptor says: its bits, WRITE if something was written, nothing else. */
static void used_flags(struct vq *t)
{
	for (unsigned n = 0; n < 600; n++) {
		const struct vring_packed_desc d = {VQ_LOW_GPA, 1000, 5, W};
		const uint16_t pos = t->q->used;
		const struct vring_packed_desc *u = &t->ring->pdesc[pos & 0x7fff];
		const uint32_t len = n % 3 ? n : 0;
		struct virtq_chain chain;

		ts_raw_put(t->ring, t->q->avail, &d, 1);
		assert_true(vq_walk(t, VIRTQ_TO_GUEST, &chain));
		t->ops->give(t->q, &t->view, &chain, len);
		t->ops->publish(t->q, &t->view);
		assert_int_equal(u->flags, ts_packed_used_bits(pos & 0x8000) | (len ? W : 0));
		assert_int_equal(u->len, len);
		assert_int_equal(u->addr, VQ_LOW_GPA);
	}
}

/* Nothing of a burst is to be seen before all of it is. */
static void all_or_nothing(struct vq *t)
{
	const struct vring_packed_desc d = {VQ_LOW_GPA, 60, 5, 0};
	const uint16_t pos = t->q->avail;
	struct virtq_chain chain[4];

	for (unsigned i = 0; i < 4; i++)
		ts_raw_put(t->ring, ts_raw_behind(t->ring, pos, i), &d, 1);
	for (unsigned i = 0; i < 4; i++)
		chain[i] = vq_take(t, VIRTQ_FROM_GUEST);
	for (unsigned i = 0; i < 4; i++)
		t->ops->give(t->q, &t->view, &chain[i], 0);
	assert_int_equal(t->ring->pdesc[pos & 0x7fff].flags, ts_packed_avail_bits(pos & 0x8000));
	t->ops->publish(t->q, &t->view);
	for (unsigned i = 0; i < 4; i++) {
		const uint16_t at = ts_raw_behind(t->ring, pos, i);

		assert_int_equal(
			t->ring->pdesc[at & 0x7fff].flags, ts_packed_used_bits(at & 0x8000));
	}
}

static const struct vq_test tests[] = {
	{"trap_5_9_bits", bits, 5, 0, VQ_OVER_FORMAT | VQ_PACKED},
	{"trap_5_9_bits_of_one", bits, 1, 0, VQ_OVER_FORMAT | VQ_PACKED},
	{"trap_5_9_without_end_1", without_end, 1, 0, VQ_OVER_FORMAT | VQ_PACKED},
	{"trap_5_9_without_end_7", without_end, 7, 11, VQ_OVER_FORMAT | VQ_PACKED},
	{"trap_5_9_without_end_256", without_end, 256, 200, VQ_OVER_FORMAT | VQ_PACKED},
	{"trap_5_9_as_long_as_the_ring_1", as_long_as_the_ring, 1, 1, VQ_OVER_FORMAT | VQ_PACKED},
	{"trap_5_9_as_long_as_the_ring_7", as_long_as_the_ring, 7, 11, VQ_OVER_FORMAT | VQ_PACKED},
	{"trap_5_9_as_long_as_the_ring_1024", as_long_as_the_ring, 1024, 99,
		VQ_OVER_FORMAT | VQ_PACKED},
	{"trap_5_9_longer_than_a_burst", longer_than_a_burst, 32768, 60000,
		VQ_OVER_FORMAT | VQ_PACKED},
	{"trap_5_9_any_id", any_id, 7, 0, VQ_OVER_FORMAT | VQ_PACKED},
	{"trap_5_9_used_flags", used_flags, 255, 0, VQ_OVER_FORMAT | VQ_PACKED},
	{"trap_5_9_all_or_nothing", all_or_nothing, 6, 4, VQ_OVER_FORMAT | VQ_PACKED},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

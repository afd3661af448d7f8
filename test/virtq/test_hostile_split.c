/* SPDX-License-Identifier: BSD-3-Clause */
/* Indexes of split rings that no sane driver writes, and the longest loop; test_replay.c has the others. */
#include "vq_hostile.h"

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
	{"spdk_d555e54681_longest_loop", longest_loop, 32768, 0, VQ_OVER_FORMAT | VQ_SPLIT},
	{"CVE-2016-5403_avail_jumps", avail_jumps, 256, 0, VQ_OVER_FORMAT | VQ_SPLIT},
	{"CVE-2016-5403_avail_jumps_smallest", avail_jumps, 2, 0, VQ_OVER_FORMAT | VQ_SPLIT},
	{"CVE-2016-5403_avail_jumps_largest", avail_jumps, 32768, 0, VQ_OVER_FORMAT | VQ_SPLIT},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

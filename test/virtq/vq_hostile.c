/* SPDX-License-Identifier: BSD-3-Clause */
/* The hostile driver of the ring tests, for both formats. */
#include "vq_hostile.h"

#include <string.h>

#define HEAD 3u /* split: where chains begin in the descriptor table */
#define ID   77 /* packed: of the chain; the others' differ */

static void offer_split(struct vq *t, const struct vq_part *part, unsigned n)
{
	const uint32_t head = HEAD + t->ahead;

	for (unsigned i = 0; i < n; i++)
		t->ring->desc[head + i] = (struct vring_desc){part[i].gpa, part[i].len,
			part[i].flags | (i + 1 < n ? N : 0), (uint16_t)(head + i + 1)};
	ts_raw_offer(t->ring, (uint16_t)head);
	t->ahead += n;
}

static void offer_packed(struct vq *t, const struct vq_part *part, unsigned n)
{
	struct vring_packed_desc d[256];

	assert_true(n <= TS_ARRAY_SIZE(d));
	for (unsigned i = 0; i < n; i++)
		d[i] = (struct vring_packed_desc){part[i].gpa, part[i].len,
			i + 1 < n ? (uint16_t)i : ID, part[i].flags | (i + 1 < n ? N : 0)};
	ts_raw_put(t->ring, ts_raw_behind(t->ring, t->q->avail, t->ahead), d, n);
	t->ahead += n;
}

void vq_write_table(struct vq *t, uint64_t gpa, const struct vq_part *part, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct vring_desc split = {part[i].gpa, part[i].len,
			part[i].flags | (i + 1 < n ? N : 0), (uint16_t)(i + 1)};
		const struct vring_packed_desc packed = {
			part[i].gpa, part[i].len, (uint16_t)i, part[i].flags};

		assert_int_equal(ts_guest_write(t->guest, gpa + 16 * i,
					 t->view.packed ? (const void *)&packed : &split, 16),
			0);
	}
}

void vq_offer_one(struct vq *t, uint64_t gpa, uint32_t len, uint16_t flags)
{
	const struct vq_part one = {gpa, len, flags};

	if (t->view.packed)
		offer_packed(t, &one, 1);
	else
		offer_split(t, &one, 1);
}

void vq_offer(struct vq *t, const struct vq_part *part, unsigned n)
{
	if (t->c.indirect) {
		vq_write_table(t, VQ_TABLE_GPA, part, n);
		vq_offer_one(t, VQ_TABLE_GPA, 16 * n, I);
	} else if (t->view.packed) {
		offer_packed(t, part, n);
	} else {
		offer_split(t, part, n);
	}
}

bool vq_walk(struct vq *t, enum virtq_dir dir, struct virtq_chain *chain)
{
	t->ahead = 0;
	vq_burst_begin(t);
	assert_int_equal(t->ops->ready(t->q, &t->view, 1), 1);
	return t->ops->take(t->q, &t->view, dir, t->segs, chain);
}

void vq_refused(struct vq *t, enum virtq_dir dir, enum virtq_fault why)
{
	const uint32_t base = virtq_position(t->q, t->view.packed);
	const uint16_t used = t->q->used;
	const size_t size = 16ull * t->ring->size;
	struct virtq_chain chain;
	uint8_t before[16 * 256];

	assert_true(size <= sizeof(before));
	memcpy(before, t->view.desc, size);
	assert_false(vq_walk(t, dir, &chain));
	if (t->q->fault != why)
		fail_msg("\"%s\" instead of \"%s\"", virtq_fault_text(t->q->fault),
			virtq_fault_text(why));
	assert_int_equal(t->segs->n, 0);
	assert_int_equal(virtq_position(t->q, t->view.packed), base);
	assert_int_equal(t->q->used, used);
	assert_int_equal(vq_shown(t), used);
	assert_memory_equal(t->view.desc, before, size);
	/* Only a start of the ring mends it. */
	if (!t->view.packed)
		t->ring->avail->idx = (uint16_t)base;
	virtq_start(t->q, &t->view, base);
	assert_int_equal(t->q->fault, VIRTQ_FAULT_NONE);
}

void vq_accepted(struct vq *t, enum virtq_dir dir, uint32_t len, uint16_t nseg)
{
	struct virtq_chain chain;

	if (!vq_walk(t, dir, &chain))
		fail_msg("refused: %s", virtq_fault_text(t->q->fault));
	assert_int_equal(chain.id, t->view.packed ? ID : HEAD);
	assert_int_equal(chain.len, len);
	assert_int_equal(chain.nseg, nseg);
	for (uint16_t i = 0; i < nseg; i++)
		assert_true(vq_in_guest(t, chain.seg[i].va, chain.seg[i].len));
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Any descriptors at all, against a walk written for clarity. */
#include "vq_hostile.h"

struct model {
	const struct vq *t;
	enum virtq_dir dir;
	uint32_t nseg, ndesc;
	uint64_t len;
	uint16_t id;
};

static bool model_buffer(struct model *m, uint64_t gpa, uint32_t len, uint16_t flags)
{
	if (!(flags & W) != (m->dir == VIRTQ_FROM_GUEST))
		return false;
	for (uint32_t i = 0; i < len; i++) {
		const uint8_t *va = ts_va(m->t->guest, gpa + i, 1);

		if (!va)
			return false;
		m->nseg += i == 0 || va != (const uint8_t *)ts_va(m->t->guest, gpa + i - 1, 1) + 1;
	}
	m->len += len;
	return true;
}

static bool model_may_be_table(const struct model *m, uint32_t len, uint16_t flags)
{
	return m->t->c.indirect && !(flags & N) && len > 0 && len % 16 == 0 &&
	       len <= 16 * VIRTQ_INDIRECT_MAX;
}

/* ---- split ---- */

static bool model_split(struct model *m, uint64_t table, uint32_t n, uint16_t i, bool nested)
{
	for (uint32_t budget = n; budget > 0; budget--) {
		struct vring_desc d;

		if (i >= n || ts_guest_read(m->t->guest, table + 16ull * i, &d, sizeof(d)) != 0)
			return false;
		if (d.flags & I)
			return !nested && model_may_be_table(m, d.len, d.flags) &&
			       model_split(m, d.addr, d.len / 16, 0, true);
		if (!model_buffer(m, d.addr, d.len, d.flags))
			return false;
		if (!(d.flags & N))
			return true;
		i = d.next;
	}
	return false;
}

/* ---- packed ---- */

/* A table is a list of its whole length, in which INDIRECT is refused. What may be written may be read. */
static bool model_list(struct model *m, uint64_t table, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct vring_packed_desc d;

		if (ts_guest_read(m->t->guest, table + 16ull * i, &d, sizeof(d)) != 0)
			return false;
		if ((d.flags & I) ||
			!model_buffer(m, d.addr, d.len, m->dir == VIRTQ_FROM_GUEST ? 0 : d.flags))
			return false;
	}
	return true;
}

static bool model_packed(struct model *m, uint32_t i)
{
	const struct ts_ring *r = m->t->ring;

	while (m->ndesc < r->size) {
		const struct vring_packed_desc d = r->pdesc[i];

		m->id = d.id;
		m->ndesc++;
		if (d.flags & I)
			return model_may_be_table(m, d.len, d.flags) &&
			       model_list(m, d.addr, d.len / 16);
		if (!model_buffer(m, d.addr, d.len, d.flags))
			return false;
		if (!(d.flags & N))
			return true;
		i = (i + 1) % r->size;
	}
	return false;
}

/* ---- anything ---- */

static struct vq_part random_part(struct vq *t)
{
	static const uint64_t at[] = {VQ_LOW_GPA, VQ_HIGH_GPA - 8, VQ_HOLE_GPA - 8, VQ_FAR_GPA,
		VQ_TABLE_GPA, VQ_TABLE_GPA + 5, VQ_HIGH_GPA - 24, 0};
	static const uint16_t flags[] = {0, 0, N, N, N, N, W, N | W, I, I | N, I | W};

	return (struct vq_part){at[ts_rand_below(&t->rng, 8)],
		ts_rand_below(&t->rng, 3) ? 16 * ts_rand_below(&t->rng, 5)
					  : ts_rand_below(&t->rng, 40),
		flags[ts_rand_below(&t->rng, TS_ARRAY_SIZE(flags))]};
}

static struct vring_desc random_split(struct vq *t)
{
	const struct vq_part p = random_part(t);

	return (struct vring_desc){p.gpa, p.len, p.flags, (uint16_t)ts_rand_below(&t->rng, 9)};
}

static struct vring_packed_desc random_packed(struct vq *t)
{
	const struct vq_part p = random_part(t);

	return (struct vring_packed_desc){p.gpa, p.len, (uint16_t)ts_rand(&t->rng), p.flags};
}

/* Two tables, one of them across regions and unaligned. */
static void random_tables(struct vq *t)
{
	for (unsigned i = 0; i < 8; i++) {
		const struct vring_desc split = random_split(t);
		const struct vring_packed_desc packed = random_packed(t);
		const void *d = t->view.packed ? (const void *)&packed : &split;

		ts_guest_write(
			t->guest, VQ_TABLE_GPA + 16 * i + ts_rand_below(&t->rng, 2) * 5, d, 16);
		ts_guest_write(t->guest, VQ_HIGH_GPA - 24 + 16 * i, d, 16);
	}
}

/* What the walk did is what the model says; a refused chain leaves the ring to be restarted. */
static bool judge(struct vq *t, const struct model *m, bool legal, unsigned round)
{
	const uint16_t avail = t->q->avail;
	struct virtq_chain chain;

	if (m->len == 0 && m->dir == VIRTQ_TO_GUEST)
		legal = false;
	if (vq_walk(t, m->dir, &chain) != legal)
		fail_msg("round %u: the model says %s, the walk \"%s\"", round,
			legal ? "legal" : "illegal", virtq_fault_text(t->q->fault));
	if (!legal) {
		assert_int_not_equal(t->q->fault, VIRTQ_FAULT_NONE);
		assert_int_equal(t->q->avail, avail);
		virtq_start(t->q, &t->view, virtq_position(t->q, t->view.packed));
		return false;
	}
	assert_int_equal(chain.len, m->len);
	assert_int_equal(chain.nseg, m->nseg);
	assert_int_equal(chain.id, m->id);
	return true;
}

static void any_split_ring(struct vq *t)
{
	unsigned good = 0;

	for (unsigned round = 0; round < 30000; round++) {
		struct model m = {.t = t, .dir = ts_rand_below(&t->rng, 2)};
		bool legal;

		m.id = (uint16_t)ts_rand_below(&t->rng, 9);
		random_tables(t);
		for (unsigned i = 0; i < 8; i++)
			t->ring->desc[i] = random_split(t);
		t->ring->avail->idx = t->q->avail;
		ts_raw_offer(t->ring, m.id);
		legal = model_split(&m, t->ring->desc_gpa, t->ring->size, m.id, false);
		good += judge(t, &m, legal, round);
	}
	assert_in_range(good, 1000, 29000);
}

/* The head's bits say that it is somebody else's, in each of the three ways. */
static void head_not_available(struct vq *t)
{
	static const uint16_t flips[] = {
		1u << VRING_PACKED_DESC_F_AVAIL, 1u << VRING_PACKED_DESC_F_USED, TS_PACKED_BITS};
	const uint16_t pos = t->q->avail;
	struct virtq_chain chain;

	t->ring->pdesc[pos & 0x7fff].flags ^= flips[ts_rand_below(&t->rng, 3)];
	assert_false(vq_walk(t, VIRTQ_FROM_GUEST, &chain));
	assert_int_equal(t->q->fault, VIRTQ_FAULT_NONE);
	assert_int_equal(t->q->avail, pos);
	assert_int_equal(virtq_fill(t->q, &t->view), 0);
}

static void any_packed_ring(struct vq *t)
{
	unsigned good = 0;

	for (unsigned round = 0; round < 30000; round++) {
		const uint16_t pos = vq_pos(t, ts_rand_below(&t->rng, 64));
		struct model m = {.t = t, .dir = ts_rand_below(&t->rng, 2)};
		struct vring_packed_desc d[8];
		bool legal;

		random_tables(t);
		for (unsigned i = 0; i < t->ring->size; i++)
			d[i] = random_packed(t);
		virtq_start(t->q, &t->view, vq_base(t, pos, pos));
		ts_raw_put(t->ring, pos, d, t->ring->size);
		assert_int_equal(virtq_fill(t->q, &t->view), t->ring->size);
		legal = model_packed(&m, pos & 0x7fff);
		if (judge(t, &m, legal, round)) {
			good++;
			assert_int_equal(t->q->avail, ts_raw_behind(t->ring, pos, m.ndesc));
		} else {
			head_not_available(t);
		}
	}
	assert_in_range(good, 1000, 29000);
}

static const struct vq_test tests[] = {
	{"trap_5_9_any_split_ring", any_split_ring, 8, 0, VQ_OVER_LAYOUT | VQ_SPLIT},
	{"trap_5_9_any_packed_ring", any_packed_ring, 8, 0, VQ_OVER_LAYOUT | VQ_PACKED},
	{"trap_5_9_any_packed_ring_of_seven", any_packed_ring, 7, 0, VQ_OVER_LAYOUT | VQ_PACKED},
	{"trap_5_9_any_packed_ring_of_one", any_packed_ring, 1, 0, VQ_OVER_LAYOUT | VQ_PACKED},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

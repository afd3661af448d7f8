/* SPDX-License-Identifier: BSD-3-Clause */
/* What the driver posts is what the walk finds, for every layout a driver may choose. */
#include <string.h>

#include "vq.h"

#define ROUNDS    300
#define MAX_PARTS 20

/* A random buffer, sometimes one that lies across two neighbouring regions. */
static struct ts_seg random_seg(struct vq *t)
{
	static const uint64_t at[] = {VQ_LOW_GPA, VQ_HIGH_GPA, VQ_FAR_GPA};
	uint32_t len = ts_rand_below(&t->rng, 3000);

	if (ts_rand_below(&t->rng, 4) == 0)
		return (struct ts_seg){VQ_HIGH_GPA - ts_rand_below(&t->rng, len + 1), len};
	return (struct ts_seg){
		at[ts_rand_below(&t->rng, 3)] + ts_rand_below(&t->rng, VQ_REGION_SIZE - len), len};
}

static void walk_random(struct vq *t, enum virtq_dir dir)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct ts_seg seg[MAX_PARTS];
		unsigned n = 1 + ts_rand_below(&t->rng, MAX_PARTS);
		struct virtq_chain chain;
		uint32_t len;

		for (unsigned i = 0; i < n; i++)
			seg[i] = random_seg(t);
		vq_post(t, dir, seg, n, t);
		vq_burst_begin(t);
		chain = vq_take(t, dir);
		vq_assert_segments(t, &chain, seg, n);
		assert_int_equal(chain.ndesc, t->view.packed && !t->c.indirect ? n : chain.ndesc);
		len = dir == VIRTQ_TO_GUEST ? ts_rand_below(&t->rng, chain.len + 1) : 0;
		t->ops->give(t->q, &t->view, &chain, len);
		t->ops->publish(t->q, &t->view);
		assert_ptr_equal(ts_ring_get_used(t->ring, &n), t);
		assert_int_equal(n, len);
	}
	vq_assert_polite(t);
}

static void from_guest(struct vq *t)
{
	walk_random(t, VIRTQ_FROM_GUEST);
}

static void to_guest(struct vq *t)
{
	walk_random(t, VIRTQ_TO_GUEST);
}

/* A packet with its header cut at every pair of places reads as if it were in one piece. */
static void cut_anywhere(struct vq *t)
{
	uint8_t packet[40], got[sizeof(packet)];

	for (unsigned i = 0; i < sizeof(packet); i++)
		packet[i] = (uint8_t)(i * 7 + 1);
	ts_guest_write(t->guest, VQ_HIGH_GPA - 20, packet, sizeof(packet));
	for (uint32_t a = 0; a <= sizeof(packet); a++) {
		for (uint32_t b = a; b <= sizeof(packet); b++) {
			const uint64_t at = VQ_HIGH_GPA - 20;
			const struct ts_seg seg[] = {
				{at, a}, {at + a, b - a}, {at + b, (uint32_t)sizeof(packet) - b}};
			struct virtq_chain chain;
			uint32_t done = 0;

			vq_post(t, VIRTQ_FROM_GUEST, seg, 3, NULL);
			vq_burst_begin(t);
			chain = vq_take(t, VIRTQ_FROM_GUEST);
			for (uint16_t i = 0; i < chain.nseg; i++) {
				memcpy(got + done, chain.seg[i].va, chain.seg[i].len);
				done += chain.seg[i].len;
			}
			assert_int_equal(done, sizeof(packet));
			assert_memory_equal(got, packet, sizeof(packet));
			t->ops->give(t->q, &t->view, &chain, 0);
			t->ops->publish(t->q, &t->view);
			assert_non_null(ts_ring_get_used(t->ring, NULL));
		}
	}
	vq_assert_polite(t);
}

/* As a driver posts receive buffers: one piece each if they may be merged, else large. */
static void post_receive_buffers(struct vq *t)
{
	const struct ts_seg small[] = {{VQ_LOW_GPA, 1526}};
	const struct ts_seg large[] = {{VQ_LOW_GPA, 12}, {VQ_LOW_GPA + 4096, 4096},
		{VQ_HIGH_GPA, 4096}, {VQ_FAR_GPA, 1526}};

	for (;;) {
		int rc = t->c.mergeable ? ts_ring_add(t->ring, NULL, 0, small, 1, t, vq_mode(t))
					: ts_ring_add(t->ring, NULL, 0, large, 4, t, vq_mode(t));

		if (rc != 0)
			break;
	}
	ts_ring_publish(t->ring);
}

/* One packet into as many buffers as it needs. */
static unsigned receive(struct vq *t, uint32_t len)
{
	struct virtq_chain chain[16];
	uint32_t room = 0;
	unsigned n = 0;

	while (room < len) {
		assert_true(n < TS_ARRAY_SIZE(chain));
		chain[n] = vq_take(t, VIRTQ_TO_GUEST);
		room += chain[n++].len;
	}
	for (unsigned i = 0; i < n; i++) {
		uint32_t part = len < chain[i].len ? len : chain[i].len;

		t->ops->give(t->q, &t->view, &chain[i], part);
		len -= part;
	}
	return n;
}

static void receive_bursts(struct vq *t)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint32_t want[8];
		unsigned chains[8];

		post_receive_buffers(t);
		vq_burst_begin(t);
		for (unsigned i = 0; i < 8; i++) {
			want[i] = 60 + ts_rand_below(&t->rng, 9000);
			chains[i] = receive(t, want[i]);
			assert_int_equal(chains[i], t->c.mergeable ? (want[i] + 1525) / 1526 : 1);
		}
		assert_false(ts_ring_more_used(t->ring));
		t->ops->publish(t->q, &t->view);
		for (unsigned i = 0; i < 8; i++) {
			uint32_t len, sum = 0;

			while (chains[i]-- > 0) {
				assert_non_null(ts_ring_get_used(t->ring, &len));
				sum += len;
			}
			assert_int_equal(sum, want[i]);
		}
		assert_false(ts_ring_more_used(t->ring));
	}
	vq_assert_polite(t);
}

/* A chain may have as many parts as the ring has entries. */
static void as_long_as_the_ring(struct vq *t)
{
	struct ts_seg seg[VIRTQ_SEGS];
	struct virtq_chain chain;

	assert_int_equal(t->ring->size, VIRTQ_SEGS);
	for (unsigned i = 0; i < VIRTQ_SEGS; i++)
		seg[i] = (struct ts_seg){VQ_FAR_GPA + i, 1 + i % 5};
	for (unsigned n = VIRTQ_SEGS - 1; n <= VIRTQ_SEGS; n++) {
		vq_post(t, VIRTQ_FROM_GUEST, seg, n, NULL);
		vq_burst_begin(t);
		chain = vq_take(t, VIRTQ_FROM_GUEST);
		vq_assert_segments(t, &chain, seg, n);
		t->ops->give(t->q, &t->view, &chain, 0);
		t->ops->publish(t->q, &t->view);
		assert_non_null(ts_ring_get_used(t->ring, NULL));
	}
	vq_assert_polite(t);
}

/* Chains that together have too many segments for a burst wait for the next one. */
static void too_much_for_one_burst(struct vq *t)
{
	struct ts_seg seg[300];
	struct virtq_chain chain;
	unsigned taken = 0;

	for (unsigned i = 0; i < 300; i++)
		seg[i] = (struct ts_seg){VQ_LOW_GPA + 64 * i, 60};
	for (unsigned i = 0; i < 3; i++)
		vq_post(t, VIRTQ_FROM_GUEST, seg, 300, NULL);
	/* The fourth lies across two regions at its end: the slow path must stop as well. */
	seg[VIRTQ_SEGS - 901] = (struct ts_seg){VQ_HIGH_GPA - 30, 60};
	vq_post(t, VIRTQ_FROM_GUEST, seg, VIRTQ_SEGS - 900, NULL);

	vq_burst_begin(t);
	assert_int_equal(t->ops->ready(t->q, &t->view, 64), t->view.packed ? 64 : 4);
	while (taken < 4 && t->ops->take(t->q, &t->view, VIRTQ_FROM_GUEST, t->segs, &chain))
		taken++;
	assert_int_equal(taken, 3);
	assert_int_equal(t->q->fault, VIRTQ_FAULT_NONE);
	assert_int_equal(t->segs->n, 900);
	vq_burst_begin(t);
	chain = vq_take(t, VIRTQ_FROM_GUEST);
	vq_assert_segments(t, &chain, seg, VIRTQ_SEGS - 900);
}

/* An empty part adds nothing, wherever it claims to be. */
static void empty_parts(struct vq *t)
{
	static const uint64_t wild[] = {0, VQ_HOLE_GPA, UINT64_MAX, 1ull << 63, VQ_LOW_GPA - 1};
	const struct ts_seg real[] = {{VQ_LOW_GPA, 12}, {VQ_FAR_GPA, 60}};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(wild); i++) {
		const struct ts_seg seg[] = {
			{wild[i], 0}, real[0], {wild[i], 0}, real[1], {wild[i], 0}};
		struct virtq_chain chain;

		for (unsigned n = 1; n <= 5; n += 4) {
			vq_post(t, VIRTQ_FROM_GUEST, seg, n, NULL);
			vq_burst_begin(t);
			chain = vq_take(t, VIRTQ_FROM_GUEST);
			vq_assert_segments(t, &chain, real, n / 2);
		}
	}
}

/* 4 GiB less a byte is a chain; 4 GiB is not, because used.len could not say so. */
static void four_gib(struct vq *t)
{
	struct ts_seg seg[VIRTQ_SEGS];
	struct virtq_chain chain;

	for (unsigned i = 0; i < VIRTQ_SEGS; i++)
		seg[i] = (struct ts_seg){t->guest->r[VQ_RINGS].gpa, 4u << 20};
	seg[7].len--;
	vq_post(t, VIRTQ_TO_GUEST, seg, VIRTQ_SEGS, NULL);
	chain = vq_take(t, VIRTQ_TO_GUEST);
	assert_int_equal(chain.len, UINT32_MAX);
	assert_int_equal(chain.nseg, VIRTQ_SEGS);
	t->ops->give(t->q, &t->view, &chain, 0);
	t->ops->publish(t->q, &t->view);
	assert_non_null(ts_ring_get_used(t->ring, NULL));

	seg[7].len++;
	vq_post(t, VIRTQ_TO_GUEST, seg, VIRTQ_SEGS, NULL);
	vq_burst_begin(t);
	assert_int_equal(t->ops->ready(t->q, &t->view, 1), 1);
	assert_false(t->ops->take(t->q, &t->view, VIRTQ_TO_GUEST, t->segs, &chain));
	assert_int_equal(t->q->fault, VIRTQ_FAULT_TOO_MANY_BYTES);
	assert_int_equal(t->segs->n, 0);
}

/* Both kinds of descriptor: split in one chain, packed only in one ring. */
static enum ts_mode half_mode(const struct vq *t, unsigned n)
{
	if (!t->c.indirect)
		return TS_DIRECT;
	if (!t->view.packed)
		return TS_MIXED;
	return n % 2 ? TS_DIRECT : TS_INDIRECT;
}

static void half_indirect(struct vq *t)
{
	for (unsigned n = 2; n < 12; n++) {
		struct ts_seg seg[12];
		struct virtq_chain chain;

		for (unsigned i = 0; i < n; i++)
			seg[i] = random_seg(t);
		assert_int_equal(ts_ring_add(t->ring, seg, n, NULL, 0, t, half_mode(t, n)), 0);
		ts_ring_publish(t->ring);
		vq_burst_begin(t);
		chain = vq_take(t, VIRTQ_FROM_GUEST);
		vq_assert_segments(t, &chain, seg, n);
		t->ops->give(t->q, &t->view, &chain, 0);
	}
	t->ops->publish(t->q, &t->view);
	for (unsigned n = 2; n < 12; n++)
		assert_ptr_equal(ts_ring_get_used(t->ring, NULL), t);
	vq_assert_polite(t);
}

static const struct vq_test tests[] = {
	{"from_guest", from_guest, 256, 0, VQ_OVER_ALL},
	{"to_guest", to_guest, 256, 65000, VQ_OVER_ALL},
	{"from_guest_23", from_guest, 23, 40, VQ_OVER_LAYOUT | VQ_PACKED},
	{"to_guest_23", to_guest, 23, 40, VQ_OVER_LAYOUT | VQ_PACKED},
	{"cut_anywhere", cut_anywhere, 64, 0, VQ_OVER_LAYOUT},
	{"receive_bursts", receive_bursts, 256, 65500, VQ_OVER_ALL},
	{"as_long_as_the_ring", as_long_as_the_ring, VIRTQ_SEGS, 0, VQ_OVER_LAYOUT},
	{"too_much_for_one_burst", too_much_for_one_burst, 1024, 0, VQ_OVER_LAYOUT},
	{"empty_parts", empty_parts, 256, 0, VQ_OVER_LAYOUT},
	{"four_gib", four_gib, 1024, 0, VQ_OVER_LAYOUT},
	{"half_indirect", half_indirect, 256, 0, VQ_OVER_LAYOUT},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Where we start: by the base, and by what the ring itself says. */
#include <string.h>

#include "vq.h"

static const struct ts_seg one_buffer[] = {{VQ_LOW_GPA, 64}};

static void reap_in_order(struct vq *t, uint32_t n, uint64_t *number)
{
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal((uintptr_t)ts_ring_get_used(t->ring, NULL), ++*number);
	assert_false(ts_ring_more_used(t->ring));
}

/* A back-end that died had used what the ring says; the driver goes on from there. */
static void start_after_a_crash(struct vq *t)
{
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;

	vq_post_some(t, 20, &posted);
	assert_int_equal(vq_take_some(t, chain, 12), 12);
	vq_give_all(t, chain, 7); /* five more were in its hands when it died */
	memset(t->q, 0xee, sizeof(*t->q));
	virtq_start(t->q, &t->view, ts_ring_used_pos(t->ring));

	assert_int_equal(vq_take_some(t, chain, VIRTQ_BURST), 13);
	vq_give_all(t, chain, 13);
	reap_in_order(t, 20, &reaped);
	vq_assert_polite(t);
}

/* The front-end's base is where we take; where we give back a split ring says itself, and a packed
 * one's base. */
static void start_between(struct vq *t)
{
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0;
	uint16_t avail;

	vq_post_some(t, 20, &posted);
	assert_int_equal(vq_take_some(t, chain, 12), 12);
	vq_give_all(t, chain, 7);
	avail = t->q->avail;
	virtq_start(t->q, &t->view, vq_base(t, avail, vq_shown(t)));
	assert_int_equal(t->q->avail, avail);
	assert_int_equal(t->q->used, vq_shown(t));
	assert_int_equal(virtq_position(t->q, t->view.packed), vq_base(t, avail, vq_shown(t)));
	assert_int_equal(vq_take_some(t, chain, VIRTQ_BURST), 8);
}

/* ---- a packed base without its used half ---- */

/* From an end of the ring on: so many chains, of so many descriptors, that a device takes. */
struct round {
	uint64_t at; /* where it starts, in descriptors */
	unsigned len, chains;
};

static void post_round(struct vq *t, const struct round *r)
{
	struct ts_seg seg[5];

	for (unsigned i = 0; i < r->len; i++)
		seg[i] = one_buffer[0];
	for (unsigned i = 0; i < r->chains; i++)
		assert_int_equal(ts_ring_add(t->ring, seg, r->len, NULL, 0, t, TS_DIRECT), 0);
	ts_ring_publish(t->ring);
}

/* Taken and given back; then the base is told without the half that is the same. */
static void left_out(struct vq *t, uint32_t size, const struct round *r)
{
	struct virtq_chain chain[VIRTQ_BURST];
	uint16_t avail;

	vq_new_ring(t, size, (uint16_t)r->at);
	post_round(t, r);
	assert_int_equal(vq_take_some(t, chain, VIRTQ_BURST), r->chains);
	vq_give_all(t, chain, (uint16_t)r->chains);
	avail = t->q->avail;
	for (unsigned more = 0; more < 2; more++) { /* also with work waiting */
		memset(t->q, 0xee, sizeof(*t->q));
		virtq_start(t->q, &t->view, avail);
		assert_int_equal(t->q->avail, avail);
		assert_int_equal(t->q->used, avail);
		while (ts_ring_get_used(t->ring, NULL))
			;
		if (more == 0)
			post_round(t, r);
	}
}

/* Taken and not given back, by somebody who stops without draining: the used half says 0 and means it. */
static void meant(struct vq *t, uint32_t size, const struct round *r)
{
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0;
	uint16_t avail;

	vq_new_ring(t, size, (uint16_t)r->at);
	assert_int_equal(t->q->used, 0);
	post_round(t, r);
	assert_int_equal(vq_take_some(t, chain, VIRTQ_BURST), r->chains);
	avail = t->q->avail;
	if (r->chains > 1) /* also with a ring that is full */
		vq_post_some(t, size, &posted);
	else if (r->len < size) /* the id of what was used last; the same would be a rest */
		t->ring->pdesc[size - 1].id = (uint16_t)~t->ring->pdesc[r->len - 1].id;
	memset(t->q, 0xee, sizeof(*t->q));
	virtq_start(t->q, &t->view, avail);
	assert_int_equal(t->q->avail, avail);
	assert_int_equal(t->q->used, 0);
	/* And there the driver finds them. */
	vq_give_all(t, chain, (uint16_t)r->chains);
	for (unsigned i = 0; i < r->chains; i++)
		assert_non_null(ts_ring_get_used(t->ring, NULL));
	vq_assert_polite(t);
}

static void trap_5_11_used_half_of_0(struct vq *t)
{
	for (const uint32_t *size = t->c.format->sizes; *size && *size <= 1000; size++) {
		for (unsigned len = 1; len <= 5; len++) {
			const unsigned most = (*size < 60 ? *size : 60) / len;

			for (unsigned chains = 1; chains <= most; chains++) {
				for (unsigned before = 0; before <= 2 * len; before++) {
					struct round r = {*size - before % *size, len, chains};

					left_out(t, *size, &r);
					r.at += *size;
					left_out(t, *size, &r);
				}
				meant(t, *size, &(struct round){*size, len, chains});
			}
		}
	}
}

/* Bases outside what the driver has in the ring; with them used ids would come twice, or none. */
static void trap_5_13_base_that_cannot_be(struct vq *t)
{
	static const int from_used[] = {-1, -60, -30000, 21, 300, 32768};
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;

	for (unsigned i = 0; i < TS_ARRAY_SIZE(from_used); i++) {
		assert_int_equal(vq_post_some(t, 20, &posted), 20);
		virtq_start(t->q, &t->view, (uint16_t)(vq_shown(t) + from_used[i]));
		assert_int_equal(t->q->avail, vq_shown(t));
		assert_int_equal(vq_take_some(t, chain, VIRTQ_BURST), 20);
		vq_give_all(t, chain, 20);
		reap_in_order(t, 20, &reaped);
	}
	vq_assert_polite(t);
}

static void start_asks_for_no_kicks(struct vq *t)
{
	uint64_t posted = 0;

	for (unsigned i = 0; i < 200; i++) {
		vq_post_some(t, 1, &posted);
		assert_false(ts_ring_kick_prepare(t->ring));
	}
}

static void start_clears_a_fault(struct vq *t)
{
	virtq_park(t->q, VIRTQ_FAULT_LOOP);
	ts_ring_reset(t->ring, ts_base_at(t->ring->features, 256, 7));
	virtq_start(t->q, &t->view, ts_base_at(t->ring->features, 256, 7));
	assert_int_equal(t->q->fault, VIRTQ_FAULT_NONE);
	assert_int_equal(t->q->avail, vq_pos(t, 7));
}

static const struct vq_test tests[] = {
	{"start_after_a_crash", start_after_a_crash, 256, 65530, VQ_OVER_LAYOUT},
	{"start_between", start_between, 256, 65530, VQ_OVER_LAYOUT},
	{"trap_5_11_used_half_of_0", trap_5_11_used_half_of_0, 256, 0,
		VQ_OVER_EVENT_IDX | VQ_PACKED},
	{"trap_5_13_base_that_cannot_be", trap_5_13_base_that_cannot_be, 256, 65530,
		VQ_OVER_LAYOUT | VQ_SPLIT},
	{"start_asks_for_no_kicks", start_asks_for_no_kicks, 256, 65500, VQ_OVER_ALL},
	{"start_clears_a_fault", start_clears_a_fault, 256, 0, VQ_OVER_FORMAT},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

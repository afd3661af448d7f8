/* SPDX-License-Identifier: BSD-3-Clause */
/* Where we are in the ring: wrapping, putting back, discarding, and calling the guest. */
#include <string.h>
#include <unistd.h>

#include "ts_raw.h"
#include "vq.h"

static const struct ts_seg one_buffer[] = {{VQ_LOW_GPA, 64}};

static void reap_in_order(struct vq *t, uint32_t n, uint64_t *number)
{
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal((uintptr_t)ts_ring_get_used(t->ring, NULL), ++*number);
	assert_false(ts_ring_more_used(t->ring));
}

/* Random bursts through the end of the index, for one size. */
static void wrap_one_size(struct vq *t, uint32_t size)
{
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;
	uint32_t waiting = 0;

	vq_new_ring(t, size, (uint16_t)(65536 - size / 2 - 3));
	while (reaped < 2 * size + 300) {
		uint16_t n;

		waiting += vq_post_some(t, 1 + ts_rand_below(&t->rng, 2 * VIRTQ_BURST), &posted);
		n = vq_take_some(t, chain, (uint16_t)(1 + ts_rand_below(&t->rng, VIRTQ_BURST)));
		assert_true(n > 0 && n <= waiting);
		waiting -= n;
		vq_give_all(t, chain, n);
		reap_in_order(t, n, &reaped);
		assert_int_equal(t->q->avail, t->q->used);
		assert_int_equal(vq_shown(t), t->q->used);
	}
	vq_assert_polite(t);
}

static void wrap(struct vq *t)
{
	for (const uint32_t *size = t->c.format->sizes; *size; size++)
		wrap_one_size(t, *size);
}

/* How many a burst of at most max would get. */
static uint16_t could_take(struct vq *t, uint16_t max)
{
	struct virtq_chain chain[256];
	uint16_t n;

	assert_true(t->ops->ready(t->q, &t->view, max) <= max);
	n = vq_take_some(t, chain, max);
	if (n > 0)
		t->ops->untake(t->q, &t->view, &chain[0]);
	return n;
}

static void ready_is_capped(struct vq *t)
{
	uint64_t posted = 0;

	assert_int_equal(could_take(t, 64), 0);
	vq_post_some(t, 10, &posted);
	assert_int_equal(could_take(t, 3), 3);
	assert_int_equal(could_take(t, 64), 10);
	vq_post_some(t, 200, &posted);
	assert_int_equal(could_take(t, 64), 64);
	assert_int_equal(could_take(t, 250), 210);
	assert_int_equal(could_take(t, 0), 0);
}

/* What was put back comes again, the same and in the same order. */
static void untake(struct vq *t)
{
	struct virtq_chain chain[VIRTQ_BURST], again[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;

	for (unsigned round = 0; round < 3000; round++) {
		uint16_t n, back;

		vq_post_some(t, 1 + ts_rand_below(&t->rng, VIRTQ_BURST), &posted);
		n = vq_take_some(t, chain, VIRTQ_BURST);
		back = (uint16_t)ts_rand_below(&t->rng, n + 1u);
		if (back > 0)
			t->ops->untake(t->q, &t->view, &chain[n - back]);
		assert_int_equal(vq_take_some(t, again, back), back);
		for (uint16_t i = 0; i < back; i++)
			assert_int_equal(again[i].id, chain[n - back + i].id);
		if (back > 0)
			t->ops->untake(t->q, &t->view, &again[0]);
		vq_give_all(t, chain, (uint16_t)(n - back));
		reap_in_order(t, n - back, &reaped);
	}
	vq_assert_polite(t);
}

/* ---- discarding ---- */

static void discard(struct vq *t)
{
	uint64_t posted = 0, reaped = 0;

	for (unsigned round = 0; round < 5; round++) {
		uint32_t n = vq_post_some(t, round == 4 ? 256 : 60, &posted);

		virtq_discard(t->q, &t->view, UINT32_MAX);
		assert_true(!ts_ring_call_due(t->ring) || ts_ring_calls(t->ring) == 1);
		for (uint32_t i = 0; i < n; i++) {
			uint32_t len = 1;

			assert_int_equal((uintptr_t)ts_ring_get_used(t->ring, &len), ++reaped);
			assert_int_equal(len, 0);
		}
		assert_false(ts_ring_more_used(t->ring));
		assert_int_equal(t->q->stats.drops[VIRTQ_DROP_RX_DISABLED], posted);
	}
	/* Nothing to discard: nothing said. */
	virtq_discard(t->q, &t->view, UINT32_MAX);
	assert_int_equal(ts_ring_calls(t->ring), 0);
	assert_int_equal(t->q->stats.packets, 0);
	vq_assert_polite(t);
}

static void discard_parks_too(struct vq *t)
{
	const uint16_t start = t->q->used;
	uint64_t posted = 0;

	ts_raw_break(t->ring);
	assert_int_equal(virtq_discard(t->q, &t->view, UINT32_MAX), 0);
	assert_int_equal(t->q->fault, t->view.packed ? VIRTQ_FAULT_LOOP : VIRTQ_FAULT_AVAIL_JUMP);
	/* Parked it stays, also when the ring makes sense again. */
	ts_ring_reset(t->ring, ts_base_at(t->ring->features, 256, 0));
	vq_post_some(t, 4, &posted);
	assert_int_equal(virtq_discard(t->q, &t->view, UINT32_MAX), 0);
	assert_int_equal(t->q->used, start);
	assert_int_equal(vq_shown(t), start);
	assert_int_equal(t->q->stats.drops[VIRTQ_DROP_RX_DISABLED], 0);
	assert_int_equal(ts_ring_calls(t->ring), 0);
	assert_false(ts_ring_more_used(t->ring));
}

/* No more chains than fit what is allowed, which is counted in entries of the ring. */
static void discard_stops(struct vq *t)
{
	const struct ts_seg three[] = {one_buffer[0], one_buffer[0], one_buffer[0]};
	const uint32_t each = t->view.packed && !t->c.indirect ? 3 : 1;
	uint32_t first = 0;

	for (unsigned i = 0; i < 20; i++)
		vq_post(t, VIRTQ_FROM_GUEST, three, 3, t);
	assert_int_equal(virtq_fill(t->q, &t->view), 20 * each);
	assert_int_equal(virtq_discard(t->q, &t->view, 10), each == 3 ? 12 : 10);
	while (ts_ring_get_used(t->ring, NULL))
		first++;
	assert_int_equal(first, each == 3 ? 4 : 10);
	assert_int_equal(virtq_discard(t->q, &t->view, UINT32_MAX), (20 - first) * each);
	assert_int_equal(virtq_fill(t->q, &t->view), 0);
	for (unsigned i = first; i < 20; i++)
		assert_non_null(ts_ring_get_used(t->ring, NULL));
	assert_int_equal(t->q->stats.drops[VIRTQ_DROP_RX_DISABLED], 20);
	vq_assert_polite(t);
}

/* ---- calling the guest ---- */

/* The driver changes its mind about calls. True: it has just said what it wants. */
static bool change_wish(struct vq *t)
{
	switch (ts_rand_below(&t->rng, 4)) {
	case 0:
		ts_ring_disable_cb(t->ring);
		return true;
	case 1:
		ts_ring_enable_cb(t->ring);
		return true;
	case 2:
		ts_ring_enable_cb_delayed(t->ring);
		return true;
	default:
		return false;
	}
}

/* The driver's own reckoning says when a call was due. */
static void calls_when_due(struct vq *t)
{
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, given = 0, reaped = 0, calls = 0, since_wish = 0;
	unsigned bursts = 0;

	for (unsigned round = 0; round < 4000; round++) {
		uint16_t n;

		if (change_wish(t))
			since_wish = 0;
		vq_post_some(t, ts_rand_below(&t->rng, 2 * VIRTQ_BURST), &posted);
		n = vq_take_some(t, chain, (uint16_t)ts_rand_below(&t->rng, VIRTQ_BURST + 1));
		if (n == 0)
			continue;
		bursts++;
		vq_give_all(t, chain, n);
		given += n;
		n = (uint16_t)ts_ring_calls(t->ring);
		calls += n;
		since_wish += n;
		if (ts_ring_call_due(t->ring))
			assert_int_not_equal(since_wish, 0);
		if (ts_rand_below(&t->rng, 3) == 0)
			continue;
		reap_in_order(t, (uint32_t)(given - reaped), &reaped);
		since_wish = 0;
	}
	assert_in_range(calls, 1, bursts - 1);
	assert_int_equal(t->q->stats.calls, calls);
	vq_assert_polite(t);
}

/* The driver wants to be called at the n-th descriptor of the ring's life (split: chain). */
static void set_event(struct vq *t, uint64_t n)
{
	if (t->view.packed)
		*t->ring->driver = (struct vring_packed_desc_event){
			vq_pos(t, n), VRING_PACKED_EVENT_FLAG_DESC};
	else
		t->ring->avail->ring[t->ring->size] = (uint16_t)n;
}

static void give_some(struct vq *t, unsigned n)
{
	const struct virtq_chain chain = {.id = 0, .ndesc = 1};

	for (unsigned i = 0; i < n; i++)
		t->ops->give(t->q, &t->view, &chain, 0);
	t->ops->publish(t->q, &t->view);
}

/* At every distance between where the driver wants to be called and where we are: any below which
 * a position cannot mean another one two rounds of a packed ring away. */
static void event_at_every_distance(struct vq *t)
{
	static const uint16_t starts[] = {0, 100, 32767, 65535, 65500};
	static const uint16_t steps[] = {1, 2, 63, 64, 256};
	const int far = t->view.packed ? 256 : 300;

	for (unsigned s = 0; s < TS_ARRAY_SIZE(starts); s++) {
		for (unsigned k = 0; k < TS_ARRAY_SIZE(steps); k++) {
			for (int distance = 1 - far; distance < far; distance++) {
				const uint64_t from = 65536 + starts[s];

				t->q->used = t->q->called = vq_pos(t, from);
				t->q->called_valid = true;
				set_event(t, from + (uint64_t)distance);
				give_some(t, steps[k]);
				assert_int_equal(ts_ring_calls(t->ring),
					distance >= 0 && distance < steps[k]);
			}
		}
	}
}

/* A packed ring's chain covers several positions: an event at any of them is due with it. */
static void event_inside_a_chain(struct vq *t)
{
	const struct virtq_chain chain = {.id = 0, .ndesc = 5};

	for (uint64_t from = 0; from < 520; from++) {
		for (int distance = -6; distance <= 12; distance++) {
			t->q->used = t->q->called = vq_pos(t, from);
			t->q->called_valid = true;
			set_event(t, 512 + from + (uint64_t)distance);
			t->ops->give(t->q, &t->view, &chain, 0);
			t->ops->give(t->q, &t->view, &chain, 0);
			t->ops->publish(t->q, &t->view);
			assert_int_equal(t->q->used, vq_pos(t, from + 10));
			assert_int_equal(ts_ring_calls(t->ring), distance >= 0 && distance < 10);
		}
	}
}

/* Always, never, and what means nothing: called once too often is better than not at all. */
static void event_flags(struct vq *t)
{
	static const struct {
		uint16_t flags;
		bool call;
	} cases[] = {{VRING_PACKED_EVENT_FLAG_ENABLE, true},
		{VRING_PACKED_EVENT_FLAG_DISABLE, false}, {3, true}};

	for (unsigned round = 0; round < 6; round++) {
		const unsigned i = round % TS_ARRAY_SIZE(cases);

		t->q->called_valid = true;
		*t->ring->driver = (struct vring_packed_desc_event){0xffff, cases[i].flags};
		give_some(t, 1);
		assert_int_equal(ts_ring_calls(t->ring), cases[i].call);
	}
}

/* An event for one descriptor that was not negotiated is no reason to sleep for ever. */
static void event_not_negotiated(struct vq *t)
{
	set_event(t, 100);
	for (unsigned i = 0; i < 3; i++) {
		give_some(t, 1);
		assert_int_equal(ts_ring_calls(t->ring), 1);
	}
}

static void no_interrupt_flag(struct vq *t)
{
	for (unsigned round = 0; round < 4; round++) {
		if (t->view.packed)
			t->ring->driver->flags = round & 1 ? VRING_PACKED_EVENT_FLAG_DISABLE
							   : VRING_PACKED_EVENT_FLAG_ENABLE;
		else
			t->ring->avail->flags = round & 1 ? VRING_AVAIL_F_NO_INTERRUPT : 0;
		give_some(t, 1);
		assert_int_equal(ts_ring_calls(t->ring), !(round & 1));
	}
}

/* What the driver wanted before we started cannot be known: the first completion calls. */
static void first_completion_calls(struct vq *t)
{
	for (unsigned i = 0; i < 50; i++) {
		const uint16_t start = (uint16_t)ts_rand(&t->rng);

		vq_new_ring(t, 256, start);
		set_event(t, start + 100u + i);
		give_some(t, 1);
		assert_int_equal(ts_ring_calls(t->ring), 1);
		give_some(t, 1);
		assert_int_equal(ts_ring_calls(t->ring), 0);
	}
}

static void without_call_fd(struct vq *t)
{
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;

	t->view.call_fd = -1;
	vq_post_some(t, 100, &posted);
	for (unsigned n = 0; n < 100; n += 50) {
		assert_int_equal(vq_take_some(t, chain, 50), 50);
		vq_give_all(t, chain, 50);
	}
	reap_in_order(t, 100, &reaped);
	assert_int_equal(t->q->stats.calls, 0);
	assert_int_equal(t->q->stats.calls_failed, 0);
	assert_int_equal(ts_ring_calls(t->ring), 0);
	vq_assert_polite(t);
}

/* Without an eventfd nobody was called, so the next call cannot be reckoned from the last. */
static void call_fd_comes_back(struct vq *t)
{
	int call_fd = t->view.call_fd;

	set_event(t, 0);
	give_some(t, 1);
	assert_int_equal(ts_ring_calls(t->ring), 1);
	set_event(t, 500);
	t->view.call_fd = -1;
	for (unsigned i = 0; i < 65536; i++)
		give_some(t, 1);
	t->view.call_fd = call_fd;
	give_some(t, 1);
	assert_int_equal(ts_ring_calls(t->ring), 1);
}

/* A full counter: the guest has been called and has not even looked. */
static void full_eventfd(struct vq *t)
{
	const uint64_t almost = UINT64_MAX - 1;

	assert_int_equal(write(t->view.call_fd, &almost, sizeof(almost)), sizeof(almost));
	if (t->c.event_idx)
		set_event(t, 0);
	give_some(t, 1);
	assert_int_equal(t->q->stats.calls, 0);
	assert_int_equal(t->q->stats.calls_failed, 1);
	assert_int_equal(ts_ring_calls(t->ring), almost);
}

/* ---- frames as statistics see them ---- */

static void frame_bins(struct vq *t)
{
	static const struct {
		uint32_t len;
		unsigned bin;
	} cases[] = {{14, 0}, {63, 0}, {64, 1}, {65, 2}, {127, 2}, {128, 3}, {255, 3}, {256, 4},
		{511, 4}, {512, 5}, {1023, 5}, {1024, 6}, {1518, 6}, {1519, 7}, {65535, 7}};
	uint8_t frame[6] = {0x02};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		uint64_t before = t->q->stats.size[cases[i].bin];

		virtq_count_frame(&t->q->stats, frame, cases[i].len);
		assert_int_equal(t->q->stats.size[cases[i].bin], before + 1);
	}
	frame[0] = 0x33;
	virtq_count_frame(&t->q->stats, frame, 64);
	memset(frame, 0xff, sizeof(frame));
	virtq_count_frame(&t->q->stats, frame, 64);
	assert_int_equal(t->q->stats.multicast, 1);
	assert_int_equal(t->q->stats.broadcast, 1);
}

static const struct vq_test tests[] = {
	{"wrap", wrap, 256, 0, VQ_OVER_ALL},
	{"ready_is_capped", ready_is_capped, 256, 65530, VQ_OVER_FORMAT},
	{"untake", untake, 256, 60000, VQ_OVER_ALL},
	{"discard", discard, 256, 65500, VQ_OVER_ALL},
	{"discard_stops", discard_stops, 256, 230, VQ_OVER_LAYOUT},
	{"discard_parks_too", discard_parks_too, 256, 0, VQ_OVER_FORMAT},
	{"calls_when_due", calls_when_due, 256, 0, VQ_OVER_ALL},
	{"event_at_every_distance", event_at_every_distance, 256, 0, VQ_OVER_EVENT_IDX},
	{"event_inside_a_chain", event_inside_a_chain, 256, 0, VQ_OVER_EVENT_IDX | VQ_PACKED},
	{"event_flags", event_flags, 256, 0, VQ_OVER_EVENT_IDX | VQ_PACKED},
	{"event_not_negotiated", event_not_negotiated, 256, 0, VQ_OVER_FORMAT | VQ_PACKED},
	{"no_interrupt_flag", no_interrupt_flag, 256, 0, VQ_OVER_FORMAT},
	{"first_completion_calls", first_completion_calls, 256, 0, VQ_OVER_EVENT_IDX},
	{"without_call_fd", without_call_fd, 256, 0, VQ_OVER_ALL},
	{"call_fd_comes_back", call_fd_comes_back, 256, 0, VQ_OVER_EVENT_IDX},
	{"full_eventfd", full_eventfd, 256, 0, VQ_OVER_ALL},
	{"frame_bins", frame_bins, 256, 0, VQ_OVER_FORMAT},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

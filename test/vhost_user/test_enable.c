/* SPDX-License-Identifier: BSD-3-Clause */
/* Who is enabled when: both texts of the specification, and what disabled means. */
#include <errno.h>
#include <stdio.h>

#include "vd.h"

#define BIT_30         TS_BIT(TS_F_PROTOCOL_FEATURES)
#define MODERN         (TS_BIT(VIRTIO_F_VERSION_1) | TS_BIT(VIRTIO_RING_F_INDIRECT_DESC))
#define MQ             TS_BIT(TS_PROTO_MQ)
#define REPLY_ACK      TS_BIT(TS_PROTO_REPLY_ACK)
#define NOT_SENT       UINT64_MAX
#define ON(a, b, c, d) ((a) | (b) << 1 | (c) << 2 | (d) << 3)

/* A front-end whose messages the test sends one by one; rings are there, but not started. */
static void begin(struct vd *t, enum vu_initial_enable initial)
{
	vd_conf(t, 2);
	t->conf.initial_enable = initial;
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	vd_connect(t);
	t->fe.features = MODERN | t->format;
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, 0));
}

static void negotiate(struct vd *t, uint64_t features, uint64_t protocol)
{
	if (protocol != NOT_SENT)
		vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_PROTOCOL_FEATURES, protocol));
	if (features != NOT_SENT)
		vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, features | t->format));
	vd_ok(t, ts_fe_barrier(&t->fe));
}

static void start_rings(struct vd *t)
{
	static const struct ts_step steps[] = {
		{.op = TS_S_MEM_TABLE},
		{.op = TS_S_EACH_RING},
		{.op = TS_S_NUM},
		{.op = TS_S_BASE},
		{.op = TS_S_ADDR},
		{.op = TS_S_CALL},
		{.op = TS_S_KICK},
		{.op = TS_S_NEXT},
		{.op = TS_S_END},
	};

	vd_ok(t, ts_fe_run(&t->fe, steps));
	vd_ok(t, ts_fe_barrier(&t->fe));
}

static void enable(struct vd *t, unsigned ring, bool on)
{
	vd_ok(t, ts_fe_enable(&t->fe, ring, on));
	vd_ok(t, ts_fe_barrier(&t->fe));
}

static void assert_enabled(struct vd *t, unsigned expect, const char *when)
{
	unsigned got = 0;

	for (unsigned i = 0; i < 4; i++)
		got |= (unsigned)vd_ring_info(t, i).enabled << i;
	if (got != expect)
		fail_msg("%s: rings enabled %#x instead of %#x", when, got, expect);
}

/* ---- before any SET_VRING_ENABLE ---- */

static void trap_5_1_initially(void **state)
{
	static const struct {
		const char *when;
		uint64_t features, protocol;
		unsigned expect[3]; /* auto, first pair, none */
	} cases[] = {
		{"nothing said yet", NOT_SENT, NOT_SENT, {0, ON(1, 1, 0, 0), 0}},
		{"protocol features, but no features yet", NOT_SENT, MQ, {0, ON(1, 1, 0, 0), 0}},
		{"2015 with MQ", MODERN | BIT_30, MQ, {ON(1, 1, 0, 0), ON(1, 1, 0, 0), 0}},
		{"2015 without MQ", MODERN | BIT_30, 0, {ON(1, 1, 0, 0), ON(1, 1, 0, 0), 0}},
		{"2015 that asks for nothing", MODERN | BIT_30, NOT_SENT,
			{ON(1, 1, 0, 0), ON(1, 1, 0, 0), 0}},
		{"today", MODERN | BIT_30, MQ | REPLY_ACK, {0, ON(1, 1, 0, 0), 0}},
		{"today without MQ", MODERN | BIT_30, REPLY_ACK, {0, ON(1, 1, 0, 0), 0}},
		{"no protocol features at all", MODERN, NOT_SENT,
			{ON(1, 1, 1, 1), ON(1, 1, 1, 1), ON(1, 1, 1, 1)}},
		{"bit 30 offered, not acknowledged", MODERN, MQ | REPLY_ACK,
			{ON(1, 1, 1, 1), ON(1, 1, 1, 1), ON(1, 1, 1, 1)}},
	};
	struct vd *t = *state;

	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		for (unsigned initial = 0; initial < 3; initial++) {
			unsigned expect = cases[i].expect[initial];

			begin(t, (enum vu_initial_enable)initial);
			negotiate(t, cases[i].features, cases[i].protocol);
			assert_enabled(t, expect, cases[i].when);
			start_rings(t);
			assert_enabled(t, expect, cases[i].when);
			for (unsigned r = 0; r < 4; r++)
				assert_int_equal(vd_ring_info(t, r).usable,
					cases[i].features != NOT_SENT && (expect >> r & 1));
			if (cases[i].features != NOT_SENT && (expect & 3) == 3)
				vd_assert_traffic(t, 0, 1);
			vd_destroy(t);
		}
	}
}

/* ---- SET_VRING_ENABLE ---- */

/* The 2015 front-end names pairs by their even ring. */
static void even_index_is_a_pair(void **state)
{
	struct vd *t = *state;

	begin(t, VU_ENABLE_AUTO);
	negotiate(t, MODERN | BIT_30, MQ);
	start_rings(t);
	assert_enabled(t, ON(1, 1, 0, 0), "at first");
	enable(t, 2, true);
	assert_enabled(t, ON(1, 1, 1, 1), "second pair on");
	vd_assert_traffic(t, 0, 2);
	enable(t, 0, false);
	assert_enabled(t, ON(0, 0, 1, 1), "first pair off");
	enable(t, 2, false);
	enable(t, 0, true);
	assert_enabled(t, ON(1, 1, 0, 0), "changed over");
	/* Whoever names an odd ring names every ring: those never named are as at first. */
	enable(t, 1, false);
	assert_enabled(t, ON(1, 0, 0, 0), "odd ring off");
	enable(t, 2, true);
	assert_enabled(t, ON(1, 0, 1, 0), "only the third");
	enable(t, 3, true);
	assert_enabled(t, ON(1, 0, 1, 1), "and the fourth");
	/* Who comes next may be another kind of front-end, or the same after id 4. */
	vd_ok(t, ts_fe_simple(&t->fe, TS_RESET_OWNER));
	enable(t, 2, true);
	assert_enabled(t, ON(1, 1, 1, 1), "after id 4");
	enable(t, 1, false);
	vd_disconnect(t);
	vd_connect(t);
	negotiate(t, MODERN | BIT_30, MQ);
	enable(t, 2, true);
	assert_enabled(t, ON(1, 1, 1, 1), "next connection");
}

static void each_index_is_a_ring(void **state)
{
	struct vd *t = *state;

	begin(t, VU_ENABLE_AUTO);
	negotiate(t, MODERN | BIT_30, MQ | REPLY_ACK);
	start_rings(t);
	for (unsigned i = 0; i < 4; i++) {
		enable(t, i, true);
		assert_enabled(t, (2u << i) - 1, "one more");
	}
	vd_assert_traffic(t, 0, 2);
	for (unsigned i = 0; i < 4; i++) {
		enable(t, i, false);
		assert_enabled(t, 0xf & ~((2u << i) - 1), "one less");
	}
}

/* ENABLE comes before SET_FEATURES (QEMU), and SET_FEATURES must not undo it. */
static void trap_5_1_enable_before_features(void **state)
{
	struct vd *t = *state;

	begin(t, VU_ENABLE_AUTO);
	negotiate(t, NOT_SENT, MQ | REPLY_ACK);
	enable(t, 0, true);
	enable(t, 3, true);
	negotiate(t, MODERN | BIT_30, NOT_SENT);
	assert_enabled(t, ON(1, 0, 0, 1), "after SET_FEATURES");
	/* Without bit 30 all are enabled, also those that were turned off. */
	enable(t, 1, false);
	negotiate(t, MODERN, NOT_SENT);
	assert_enabled(t, ON(1, 1, 1, 1), "after SET_FEATURES without bit 30");
	negotiate(t, MODERN | BIT_30, NOT_SENT);
	assert_enabled(t, ON(1, 1, 1, 1), "SET_FEATURES never clears");
}

static void forgotten_with_the_connection(void **state)
{
	struct vd *t = *state;

	begin(t, VU_ENABLE_AUTO);
	negotiate(t, MODERN, NOT_SENT);
	assert_enabled(t, ON(1, 1, 1, 1), "before");
	vd_disconnect(t);
	assert_enabled(t, 0, "after");
	vd_connect(t);
	negotiate(t, MODERN | BIT_30, MQ | REPLY_ACK);
	assert_enabled(t, 0, "again");
	assert_int_equal(vd_info(t).features, MODERN | BIT_30 | t->format);
}

/* ---- SET_FEATURES ---- */

/* No frame is lost, no ring and no link goes down: the lcores do not even get another view. */
static void trap_5_1_features_again_while_running(void **state)
{
	struct vd *t = *state;
	const struct virtq_view *view;
	unsigned changes[4];

	vd_listen(t, 2, &ts_qemu_10);
	vd_start(t);
	view = virtq_gate_view(&vu_device_ring(t->dev, 1)->gate);
	for (unsigned i = 0; i < 4; i++)
		changes[i] = t->ring[i].changes;
	vd_poll_begin(t);
	for (unsigned round = 0; round < 100; round++) {
		vd_guest_sends(t, 1, 8);
		vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, t->fe.features));
		vd_ok(t, ts_fe_barrier(&t->fe));
		assert_true(TS_WAIT((vd_guest_reaps(t, 1), t->fe.rings[1].ring->n_out == 0), 2000));
	}
	vd_poll_end(t);
	assert_int_equal(t->ring[1].consumed, 800);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(t->ring[i].changes, changes[i]);
	assert_int_equal(t->link_changes, 1);
	assert_ptr_equal(virtq_gate_view(&vu_device_ring(t->dev, 1)->gate), view);
}

static void trap_5_1_other_features_while_running(void **state)
{
	struct vd *t = *state;

	vd_listen(t, 2, &ts_qemu_10);
	vd_start(t);
	t->fe.need_reply = UINT64_MAX;
	for (unsigned bit = 0; bit < 64; bit++) {
		if (bit == TS_F_LOG_ALL && (vd_info(t).features_offered & TS_BIT(bit)))
			continue;
		assert_int_equal(
			ts_fe_set_u64(&t->fe, TS_SET_FEATURES, t->fe.features ^ TS_BIT(bit)),
			-EREMOTEIO);
		assert_int_equal(vd_info(t).features, t->fe.features);
	}
	vd_assert_traffic(t, 0, 2);
	/* Stopped, it may think again. */
	vd_ok(t, ts_fe_stop(&t->fe));
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, BIT_30));
	assert_int_equal(vd_info(t).features, BIT_30);
}

/* ---- started, not enabled ---- */

/* How long it takes until n frames sent on a disabled ring came back, milliseconds. */
static unsigned drain_time(struct vd *t, unsigned ring, unsigned n)
{
	uint64_t start = ts_now_ms();
	unsigned done = 0;

	vd_guest_sends(t, ring, n);
	assert_true(VD_WAIT(t, (done += vd_guest_reaps(t, ring)) >= n, 5000));
	return (unsigned)(ts_now_ms() - start);
}

static void trap_5_4_disabled_ring_is_drained(void **state)
{
	struct vd *t = *state;
	unsigned best = UINT32_MAX;

	vd_listen(t, 2, &ts_qemu_10);
	vd_start(t);
	vd_assert_traffic(t, 1, 1);
	vd_guest_sends(t, 3, VD_RING_SIZE / 4);
	vd_guest_posts(t, 2, 10);
	t->ring[2].to_send += 10;
	enable(t, 2, false);
	enable(t, 3, false);
	/* The rest of the ring, and again: once must be quick, however busy the machine. */
	for (unsigned i = 0; i < 5; i++) {
		unsigned ms = drain_time(t, 3, i ? 7 : VD_RING_SIZE / 4);

		best = ms < best ? ms : best;
	}
	assert_in_range(best, 0, 100);
	vd_guest_reaps(t, 3);
	assert_int_equal(
		vd_ring_info(t, 3).stats.drops[VIRTQ_DROP_RX_DISABLED], VD_RING_SIZE / 2 + 4 * 7);
	assert_int_equal(t->ring[3].consumed, 20); /* none of them went out */
	assert_int_equal(vd_burst(t, 2), 0);
	vd_run_ms(t, 30);
	assert_int_equal(vd_guest_reaps(t, 2), 0);

	enable(t, 2, true);
	enable(t, 3, true);
	vd_guest_sends(t, 3, 5);
	vd_run_ms(t, 50); /* the drain is over: these are for the lcore */
	assert_int_equal(vd_guest_reaps(t, 3), 0);
	assert_int_equal(vd_burst(t, 3), 5);
	assert_int_equal(vd_guest_reaps(t, 3), 5);
	assert_int_equal(vd_burst(t, 2), 10);
	assert_int_equal(vd_guest_reaps(t, 2), 10);
	vd_assert_traffic(t, 0, 2);
}

/*
 * A front-end that keeps talking must not keep the drain from its turn. Only time in which it did
 * keep talking counts: a busy machine may leave us without the CPU for longer than that.
 */
static void trap_5_4_drained_while_it_talks(void **state)
{
	struct vd *t = *state;
	struct ts_ring *r;
	uint64_t since, last;

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	enable(t, 1, false);
	r = t->fe.rings[1].ring;
	for (unsigned round = 0; round < 20; round++) {
		vd_guest_sends(t, 1, 5);
		since = last = ts_now_ms();
		while (!ts_ring_more_used(r)) {
			uint64_t now = ts_now_ms();

			since = now - last > 5 ? now : since;
			last = now;
			assert_true(now - since < 40);
			enable(t, 1, false);
		}
		assert_int_equal(vd_guest_reaps(t, 1), 5);
	}
}

/* Turned off and on while the guest sends: every frame is consumed or counted, once. */
static void trap_5_4_toggled_under_load(void **state)
{
	struct vd *t = *state;
	uint64_t sent = 0, reaped = 0;
	struct virtq_stats *st;
	uint64_t end = ts_now_ms() + 1500;

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	st = &vu_device_ring(t->dev, 1)->stats;
	vd_poll_begin(t);
	for (unsigned round = 0; round < 100 || ts_now_ms() < end; round++) {
		unsigned n = t->fe.rings[1].ring->n_free / 8;

		vd_guest_sends(t, 1, n);
		sent += n;
		/* Now and then for long enough to be discarded, or to be polled on a busy machine. */
		if (round % 16 == 1 || round % 16 == 2)
			assert_true(VD_WAIT(t, (reaped += vd_guest_reaps(t, 1)) == sent, 3000));
		vd_ok(t, ts_fe_enable(&t->fe, 1, round & 1));
		reaped += vd_guest_reaps(t, 1);
	}
	assert_true(VD_WAIT(t, (reaped += vd_guest_reaps(t, 1)) == sent, 3000));
	vd_poll_end(t);
	assert_int_equal(t->ring[1].consumed + st->drops[VIRTQ_DROP_RX_DISABLED], sent);
	assert_true(t->ring[1].consumed > 0 && st->drops[VIRTQ_DROP_RX_DISABLED] > 0);
}

/* The owner may leave a ring closed for a while. */
static void unpolled_ring(void **state)
{
	struct vd *t = *state;

	vd_listen(t, 1, &ts_qemu_10);
	t->ring[1].unpolled = true;
	vd_start(t);
	assert_true(vd_ring_info(t, 0).usable);
	assert_false(vd_ring_info(t, 1).usable);
	t->ring[1].unpolled = false;
	assert_int_equal(vu_device_reconcile(t->dev), 0);
	vd_assert_traffic(t, 0, 1);
	t->ring[1].unpolled = true;
	assert_int_equal(vu_device_reconcile(t->dev), 0);
	/* What the guest sends meanwhile is thrown away, so that its queue does not fill up. */
	vd_guest_sends(t, 1, 5);
	assert_int_equal(vd_burst(t, 1), 0);
	vd_run_ms(t, 100);
	assert_int_equal(vd_guest_reaps(t, 1), 5);
	assert_int_equal(vd_ring_info(t, 1).stats.drops[VIRTQ_DROP_RX_DISABLED], 5);
	t->ring[1].unpolled = false;
	assert_int_equal(vu_device_reconcile(t->dev), 0);
	vd_assert_traffic(t, 0, 1);
}

/* ---- the device status ---- */

#define UP (TS_STATUS_ACKNOWLEDGE | TS_STATUS_DRIVER)

static uint64_t status_of(struct vd *t)
{
	uint64_t status = UINT64_MAX;

	vd_ok(t, ts_fe_get_u64(&t->fe, TS_GET_STATUS, &status));
	assert_int_equal(vd_info(t).status, status);
	return status;
}

/* FEATURES_OK can be read back only if the features were. */
static void status_judges_features(void **state)
{
	const uint64_t good = TS_BIT(TS_F_PROTOCOL_FEATURES) | TS_BIT(VIRTIO_F_VERSION_1);
	struct vd *t = *state;

	vd_listen(t, 1, &ts_qemu_10);
	t->fe.need_reply = UINT64_MAX;
	vd_ok(t, ts_fe_negotiate(&t->fe));
	assert_true(t->fe.protocol & TS_BIT(TS_PROTO_STATUS));
	assert_int_equal(status_of(t), 0);
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_STATUS, UP | TS_STATUS_FEATURES_OK));
	assert_int_equal(status_of(t), UP);
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(
			ts_fe_set_u64(&t->fe, TS_SET_FEATURES, good | TS_BIT(63)), -EREMOTEIO);
		vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_STATUS, UP | TS_STATUS_FEATURES_OK));
		assert_int_equal(status_of(t), UP);
		vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, good));
		vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_STATUS, UP | TS_STATUS_FEATURES_OK));
		assert_int_equal(status_of(t), UP | TS_STATUS_FEATURES_OK);
	}
	assert_int_equal(ts_fe_set_u64(&t->fe, TS_SET_STATUS, 256), -EREMOTEIO);
	assert_int_equal(ts_fe_set_u64(&t->fe, TS_SET_STATUS, UINT64_MAX), -EREMOTEIO);
	assert_int_equal(status_of(t), UP | TS_STATUS_FEATURES_OK);
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_STATUS, 255));
	assert_int_equal(status_of(t), 255);
	vd_disconnect(t);
	assert_int_equal(vd_info(t).status, 0);
}

/* 0 says that the driver is gone: no ring is touched any more, memory and descriptors stay. */
static void status_zero(void **state)
{
	struct vd *t = *state;
	struct vu_info before;

	vd_listen(t, 2, &ts_qemu_10);
	vd_start(t);
	assert_int_equal(status_of(t), UP | TS_STATUS_FEATURES_OK | TS_STATUS_DRIVER_OK);
	vd_assert_traffic(t, 0, 2);
	before = vd_info(t);
	for (unsigned twice = 0; twice < 2; twice++) {
		vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_STATUS, 0));
		assert_int_equal(status_of(t), 0);
		assert_ptr_equal(vd_info(t).mem, before.mem);
		assert_int_equal(vd_info(t).features, before.features);
		assert_false(t->link);
		for (unsigned i = 0; i < 4; i++) {
			assert_false(vd_ring_info(t, i).started);
			assert_true(vd_ring_info(t, i).enabled);
			assert_true(vd_ring_info(t, i).call_fd >= 0);
			vd_assert_dead(t, i);
			vd_ok(t, ts_fe_get_base(&t->fe, i));
			assert_int_equal(t->fe.rings[i].base, vd_shown(t, i));
		}
	}
	/* As QEMU does it: after the rings were stopped; and then it starts them again. */
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_assert_traffic(t, 0, 2);
	vd_ok(t, ts_fe_stop(&t->fe));
	assert_int_equal(status_of(t), 0);
	vd_ok(t, ts_fe_start(&t->fe));
	vd_assert_traffic(t, 0, 2);
	assert_int_equal(status_of(t), UP | TS_STATUS_FEATURES_OK | TS_STATUS_DRIVER_OK);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(trap_5_1_initially),
		VD_BOTH(even_index_is_a_pair),
		VD_BOTH(each_index_is_a_ring),
		VD_BOTH(trap_5_1_enable_before_features),
		VD_BOTH(forgotten_with_the_connection),
		VD_BOTH(trap_5_1_features_again_while_running),
		VD_BOTH(trap_5_1_other_features_while_running),
		VD_BOTH(trap_5_4_disabled_ring_is_drained),
		VD_BOTH(trap_5_4_drained_while_it_talks),
		VD_BOTH(trap_5_4_toggled_under_load),
		VD_BOTH(unpolled_ring),
		VD_BOTH(status_judges_features),
		VD_BOTH(status_zero),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

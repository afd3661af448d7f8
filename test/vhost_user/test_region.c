/* SPDX-License-Identifier: BSD-3-Clause */
/* Packed rings that stop at every position, and what becomes of an in-flight region meanwhile. */
#include <errno.h>

#include "vd.h"

/* ---- GET_VRING_BASE of packed rings ---- */

enum halves {
	BOTH,
	AVAIL_ONLY /* as DPDK's front-end has it */
};

static void post_and_serve(struct vd *t, unsigned ring, unsigned n)
{
	const struct ts_seg frame = {0x400000, 76}, buffer = {0x480000, 1526};
	struct ts_ring *r = t->fe.rings[ring].ring;

	for (unsigned i = 0; i < n; i++)
		assert_int_equal(ring & 1 ? ts_ring_add(r, &frame, 1, NULL, 0, r, TS_DIRECT)
					  : ts_ring_add(r, NULL, 0, &buffer, 1, r, TS_DIRECT),
			0);
	ts_ring_publish(r);
	t->ring[ring].to_send = t->ring[ring].sent + n;
	for (unsigned done = 0; done < n;) {
		unsigned now = vd_burst(t, ring);

		assert_true(now > 0);
		done += now;
	}
	assert_int_equal(vd_guest_reaps(t, ring), n);
}

/* Stop, compare with the driver's own count, start again there. */
static void stop_and_go_on(struct vd *t, unsigned ring, uint64_t at, enum halves halves)
{
	struct ts_fe_ring *r = &t->fe.rings[ring];
	uint32_t expect = ts_base_at(t->fe.features, r->ring->size, at);

	vd_ok(t, ts_fe_get_base(&t->fe, ring));
	assert_int_equal(r->base, expect);
	assert_int_equal(ts_ring_used_pos(r->ring), expect);
	vd_ok(t, ts_fe_get_base(&t->fe, ring));
	assert_int_equal(r->base, expect);
	vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, ring,
			 halves == BOTH ? r->base : r->base & UINT16_MAX));
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, ring, r->kick));
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_int_equal(vd_ring_info(t, ring).avail, expect & UINT16_MAX);
	assert_int_equal(vd_ring_info(t, ring).used, expect >> 16);
}

/* Two rounds of the ring and a bit; a large one around its ends only. */
static void every_position(struct vd *t, uint32_t size, bool region)
{
	const unsigned step = size > 1000 ? size - 40 : 0;
	uint64_t at[2] = {0, 0};

	vd_listen(t, 1, &ts_qemu_10);
	t->fe.want |= TS_BIT(VIRTIO_F_RING_PACKED);
	t->fe.want_protocol |= region ? TS_BIT(TS_PROTO_INFLIGHT_SHMFD) : 0;
	vd_ok(t, ts_fe_negotiate(&t->fe));
	ts_guest_forget(t->guest);
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, size, TS_RING_SHUFFLE));
	if (region) {
		vd_ok(t, ts_fe_get_inflight(&t->fe, 2, (uint16_t)size));
		vd_ok(t, ts_fe_set_inflight(&t->fe));
	}
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
	while (at[0] <= 2 * size + 3) {
		for (unsigned ring = 0; ring < 2; ring++) {
			unsigned n = step && at[ring] % size == 20 ? step : 1;

			stop_and_go_on(t, ring, at[ring], at[ring] & 1 ? BOTH : AVAIL_ONLY);
			post_and_serve(t, ring, n);
			at[ring] += n;
		}
	}
	vd_disconnect(t);
	vd_destroy(t);
}

static void trap_5_11_stop_at_every_position(void **state)
{
	static const uint32_t sizes[] = {1, 3, 255, 256, 32768};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(sizes); i++)
		every_position(*state, sizes[i], false);
}

static void trap_5_11_with_a_region(void **state)
{
	static const uint32_t sizes[] = {1, 3, 255, 32768};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(sizes); i++)
		every_position(*state, sizes[i], true);
}

/* ---- what becomes of the region ---- */

static void ask_for_a_region(struct vd *t)
{
	vd_listen(t, 1, &ts_qemu_10);
	t->fe.want |= TS_BIT(VIRTIO_F_RING_PACKED);
	t->fe.want_protocol |= TS_BIT(TS_PROTO_INFLIGHT_SHMFD);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	vd_ok(t, ts_fe_get_inflight(&t->fe, 2, VD_RING_SIZE));
}

/* We did not die, but the front-end believes it, and knows nothing. */
static void trap_5_13_a_connection_breaks(void **state)
{
	struct vd *t = *state;

	ask_for_a_region(t);
	vd_ok(t, ts_fe_set_inflight(&t->fe));
	ts_guest_forget(t->guest);
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, TS_RING_SHUFFLE));
	for (unsigned round = 0; round < 40; round++) {
		vd_ok(t, ts_fe_start(&t->fe));
		vd_ok(t, ts_fe_barrier(&t->fe));
		/* Not while rings have their state in the other one. */
		assert_int_equal(ts_count_maps("sluice-inflight"), 1);
		vd_assert_traffic(t, 0, 1);
		vd_disconnect(t);
		assert_int_equal(ts_count_maps("sluice-inflight"), 0);
		vd_connect(t);
		vd_ok(t, ts_fe_negotiate(&t->fe));
		vd_ok(t, ts_fe_set_inflight(&t->fe));
		t->fe.rings[0].base = t->fe.rings[1].base = round & 1 ? 0 : 0x80008000;
	}
}

/* A driver that was reset starts from the beginning, whatever the region said before. */
static void a_driver_is_reset(void **state)
{
	struct vd *t = *state;

	ask_for_a_region(t);
	for (unsigned round = 0; round < 6; round++) {
		vd_ok(t, ts_fe_set_inflight(&t->fe));
		ts_guest_forget(t->guest);
		t->fe.rings[0].base = t->fe.rings[1].base = TS_FRESH;
		vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, TS_RING_SHUFFLE));
		vd_ok(t, ts_fe_start(&t->fe));
		vd_ok(t, ts_fe_barrier(&t->fe));
		vd_assert_traffic(t, 0, 1);
		if (round & 1) {
			vd_ok(t, ts_fe_stop(&t->fe));
		} else {
			vd_ok(t, ts_fe_simple(&t->fe, TS_RESET_DEVICE));
			vd_ok(t, ts_fe_barrier(&t->fe));
			assert_int_equal(ts_count_maps("sluice-inflight"), 0);
		}
	}
}

/* CVE-2020-10726: asked for again and again, nothing piles up. */
static void trap_5_7_regions_again_and_again(void **state)
{
	struct vd *t = *state;
	int fds;

	vd_listen(t, 1, &ts_qemu_10);
	t->fe.want_protocol |= TS_BIT(TS_PROTO_INFLIGHT_SHMFD);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	vd_ok(t, ts_fe_get_inflight(&t->fe, 2, 32768));
	vd_ok(t, ts_fe_set_inflight(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
	fds = ts_count_fds(NULL);
	for (unsigned i = 0; i < 2000; i++) {
		vd_ok(t, ts_fe_get_inflight(&t->fe, 2, (uint16_t)(1 + i)));
		if (i % 3)
			vd_ok(t, ts_fe_set_inflight(&t->fe));
	}
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_int_equal(ts_count_fds(NULL), fds);
	assert_int_equal(ts_count_maps("sluice-inflight"), 1);
}

/* Negotiated and never used: nothing is different. */
static void negotiated_and_not_used(void **state)
{
	struct vd *t = *state;

	vd_listen(t, 1, &ts_qemu_10);
	t->fe.want_protocol |= TS_BIT(TS_PROTO_INFLIGHT_SHMFD);
	vd_start(t);
	assert_true(vd_info(t).protocol_features & TS_BIT(TS_PROTO_INFLIGHT_SHMFD));
	vd_assert_traffic(t, 0, 1);
}

/* While rings run their state is in the region they have. */
static void not_while_running(void **state)
{
	struct vd *t = *state;

	vd_listen(t, 2, &ts_cloud_hypervisor); /* it counts in rings */
	t->fe.pairs = t->fe.active = 1;
	t->fe.want_protocol &= ~TS_BIT(TS_PROTO_BACKEND_REQ);
	vd_start(t);
	assert_true(t->fe.inflight_fd >= 0);
	vd_assert_traffic(t, 0, 1);
	assert_int_equal(ts_fe_set_inflight(&t->fe), -EREMOTEIO);
	assert_true(vd_logged(t, "SET_INFLIGHT_FD while ring 0 is running"));
	vd_assert_traffic(t, 0, 1);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, vd_setup, vd_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(trap_5_11_stop_at_every_position),
		CASE(trap_5_11_with_a_region),
		CASE(trap_5_13_a_connection_breaks),
		CASE(a_driver_is_reset),
		CASE(trap_5_7_regions_again_and_again),
		CASE(negotiated_and_not_used),
		CASE(not_while_running),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

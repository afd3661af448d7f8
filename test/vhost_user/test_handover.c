/* SPDX-License-Identifier: BSD-3-Clause */
/* A device that moves while its front-end and its guest go on, inside this process. */
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vd_handover.h"
#include "vd_iommu.h"

/* ---- rings ---- */

static void traffic_goes_on(void **state)
{
	struct vd *t = *state;

	vd_up(t, 2);
	for (unsigned i = 0; i < 30; i++) {
		vd_assert_traffic(t, 0, 2);
		vd_move(t);
		assert_true(t->link);
	}
	assert_int_equal(t->link_changes, 1 + 30); /* each device says so once, and never "down" */
	assert_int_equal(vd_info(t).connections, 1);
	vd_assert_traffic(t, 0, 2);
	vd_disconnect(t);
	vd_connect(t);
	vd_start(t);
	vd_assert_traffic(t, 0, 2);
}

/* What waits in the rings is there afterwards, at every position of the ring and its wrap. */
static void what_waits_in_rings(void **state)
{
	struct vd *t = *state;

	vd_up(t, 1);
	for (unsigned i = 0; i < 60; i++) {
		uint64_t consumed = t->ring[1].consumed, sent = t->ring[0].sent;

		vd_guest_sends(t, 1, 7 + i % 13);
		vd_guest_posts(t, 0, 11 + i % 5);
		t->ring[0].to_send = sent + 5;
		vd_burst(t, 0);
		vd_move(t);
		assert_int_equal(t->ring[1].consumed, consumed);
		t->ring[0].to_send = sent + 11 + i % 5;
		while (vd_burst(t, 0) + vd_burst(t, 1) > 0)
			;
		assert_int_equal(t->ring[1].consumed, consumed + 7 + i % 13);
		assert_int_equal(vd_guest_reaps(t, 1), 7 + i % 13);
		assert_int_equal(vd_guest_reaps(t, 0), 11 + i % 5);
	}
}

/* A thread polls all the while, and finds closed gates. */
static void freezing_under_load(void **state)
{
	struct vd *t = *state;

	vd_up(t, 2);
	vd_poll_begin(t);
	for (unsigned i = 0; i < 50; i++) {
		vd_guest_sends(t, 1, 20);
		vd_guest_sends(t, 3, 20);
		vd_freeze(t);
		assert_false(vd_ring_info(t, 1).usable);
		assert_int_equal(vu_device_resume(t->dev), 0);
		assert_true(TS_WAIT(vd_all_used(t, 1) && vd_all_used(t, 3), 5000));
		assert_int_equal(vd_guest_reaps(t, 1), 20);
		assert_int_equal(vd_guest_reaps(t, 3), 20);
	}
	vd_poll_end(t);
	assert_int_equal(t->link_changes, 1);
}

/* An lcore that does not come out: nothing is handed over, and later all goes on. */
static void a_stuck_lcore(void **state)
{
	struct vd *t = *state;
	char why[200] = "";

	vd_up(t, 1);
	t->ring[1].hold = true;
	vd_poll_begin(t);
	assert_true(TS_WAIT(virtq_load(&t->ring[1].held), 5000));
	assert_int_not_equal(vu_device_freeze(t->dev, why, sizeof(why)), 0);
	assert_non_null(strstr(why, "lcore"));
	virtq_store(&t->ring[1].hold, false);
	vd_poll_end(t);
	assert_true(VD_WAIT(t, vd_ring_info(t, 1).usable, 5000));
	vd_assert_traffic(t, 0, 1);
	vd_move(t);
	vd_assert_traffic(t, 0, 1);
}

static void stopped_and_disabled_rings(void **state)
{
	struct vd *t = *state;

	vd_up(t, 3);
	vd_assert_traffic(t, 0, 3);
	vd_ok(t, ts_fe_enable(&t->fe, 1, false));
	vd_ok(t, ts_fe_get_base(&t->fe, 2));
	vd_ok(t, ts_fe_get_base(&t->fe, 3));
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_move(t);
	assert_false(vd_ring_info(t, 1).usable);
	assert_false(vd_ring_info(t, 2).started);
	vd_guest_sends(t, 1, 5); /* a disabled ring is consumed and discarded */
	assert_true(VD_WAIT(t, vd_all_used(t, 1), 5000));
	assert_int_equal(vd_guest_reaps(t, 1), 5);
	vd_assert_traffic(t, 2, 1);
	vd_ok(t, ts_fe_enable(&t->fe, 1, true));
	for (unsigned i = 2; i < 4; i++) {
		vd_ok(t, ts_fe_get_base(&t->fe, i)); /* the same as before */
		assert_int_equal(t->fe.rings[i].base, ts_ring_used_pos(t->fe.rings[i].ring));
		vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, i, t->fe.rings[i].base));
		vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, i, t->fe.rings[i].kick));
	}
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_assert_traffic(t, 0, 3);
}

static void a_parked_ring(void **state)
{
	struct vd *t = *state;
	struct vu_ring_info before;
	enum virtq_fault fault;

	vd_up(t, 2);
	vd_assert_traffic(t, 0, 2);
	fault = vd_park(t, 1);
	assert_true(VD_WAIT(t, vd_ring_info(t, 1).fault == fault, 5000));
	before = vd_ring_info(t, 1);
	vd_move(t);
	assert_int_equal(vd_ring_info(t, 1).fault, fault);
	assert_false(vd_ring_info(t, 1).usable);
	vd_assert_traffic(t, 1, 1);
	vd_ok(t, ts_fe_get_base(&t->fe, 1));
	assert_int_equal(t->fe.rings[1].base,
		t->format ? before.avail | (uint32_t)before.used << 16 : before.avail);
	assert_int_equal(vd_ring_info(t, 1).fault, VIRTQ_FAULT_NONE);
}

/* ---- what was said ---- */

static void all_that_was_said(void **state)
{
	struct vd *t = *state;
	struct vu_ring_info before[4], now;
	struct vu_info i, j;

	vd_listen(t, 2, &ts_qemu_10);
	t->fe.want_protocol = ~0ull;
	vd_start(t);
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_NET_SET_MTU, 1400));
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_assert_traffic(t, 0, 2);
	i = vd_info(t);
	for (unsigned r = 0; r < 4; r++)
		before[r] = vd_ring_info(t, r);
	vd_move(t);
	j = vd_info(t);
	assert_int_equal(j.connection, VU_CONNECTED);
	assert_int_equal(j.features, i.features);
	assert_int_equal(j.features_offered, i.features_offered);
	assert_int_equal(j.protocol_features, i.protocol_features);
	assert_int_equal(j.protocol_features_offered, i.protocol_features_offered);
	assert_int_equal(j.status, i.status);
	assert_int_equal(j.mtu, i.mtu);
	assert_int_equal(j.mem->n, 2);
	for (unsigned r = 0; r < 4; r++) {
		now = vd_ring_info(t, r);
		assert_int_equal(now.num, before[r].num);
		assert_int_equal(now.avail, before[r].avail);
		assert_int_equal(now.used, before[r].used);
		assert_int_equal(now.call_fd >= 0, before[r].call_fd >= 0);
		assert_int_equal(now.kick_fd >= 0, before[r].kick_fd >= 0);
		assert_memory_equal(&now.stats, &before[r].stats, sizeof(now.stats));
	}
}

/* A dirty log, an in-flight region and the back-end channel. */
static void log_region_and_channel(void **state)
{
	struct vd *t = *state;
	int log = memfd_create("log", MFD_CLOEXEC);
	uint8_t *bits;

	assert_int_equal(ftruncate(log, 4096), 0);
	bits = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, log, 0);
	vd_listen(t, 1, &ts_qemu_10);
	t->fe.want_protocol |= TS_BIT(TS_PROTO_INFLIGHT_SHMFD) | TS_BIT(TS_PROTO_LOG_SHMFD) |
			       TS_BIT(TS_PROTO_BACKEND_REQ);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, t->fe.features));
	vd_ok(t, ts_fe_get_inflight(&t->fe, 2, VD_RING_SIZE));
	vd_ok(t, ts_fe_set_inflight(&t->fe));
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, TS_RING_SHUFFLE));
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_set_log(&t->fe, log, 4096, 0));
	vd_ok(t, ts_fe_log(&t->fe, true));
	vd_ok(t, ts_fe_barrier(&t->fe));
	for (unsigned i = 0; i < 5; i++) {
		vd_assert_traffic(t, 0, 1);
		vd_move(t);
		memset(bits, 0, 4096);
		vd_assert_traffic(t, 0, 1);
		assert_true(bits[0x480 / 8] & 1); /* the page of receive buffers */
		assert_int_equal(ts_count_maps("sluice-inflight"), 1);
	}
	munmap(bits, 4096);
	close(log);
}

/* Translations stay behind, and are asked for again. */
static void behind_an_iommu(void **state)
{
	struct vd *t = *state;

	vd_iommu_start(t, 1);
	for (unsigned i = 0; i < 5; i++) {
		vd_iommu_traffic(t, VD_PAGE);
		vd_move(t);
		assert_true(VD_WAIT(t, (vd_iommu_serve(t, VD_PAGE), vd_all_usable(t)), 5000));
		assert_int_equal(vd_info(t).connections, 1);
	}
	vd_iommu_traffic(t, VD_PAGE);
}

/* A message that has come in part, cut behind every byte. */
static void in_the_middle_of_a_message(void **state)
{
	const int fd = eventfd(0, EFD_CLOEXEC);
	struct vd *t = *state;
	const uint32_t m[] = {TS_SET_VRING_ERR, TS_VERSION, 8, 1, 0};

	vd_up(t, 1);
	for (size_t at = 1; at < sizeof(m); at++) {
		const struct ts_frag begin = {m, at, &fd, 1, 0};
		const struct ts_frag end = {(const char *)m + at, sizeof(m) - at, NULL, 0, 0};

		vd_ok(t, ts_send_frags(&t->fe, &begin, 1));
		vd_run(t);
		vd_move(t);
		vd_ok(t, ts_send_frags(&t->fe, &end, 1));
		vd_ok(t, ts_fe_barrier(&t->fe));
	}
	close(fd);
	vd_assert_traffic(t, 0, 1);
}

static void enable(struct vd *t, bool on)
{
	const struct {
		uint32_t ring, on;
	} state = {1, on};
	struct ts_msg m;

	ts_msg_make(&m, TS_SET_VRING_ENABLE, &state, sizeof(state));
	vd_ok(t, ts_send_msg(&t->fe, &m));
}

/* Messages that nobody has read yet are read by who comes. */
static void messages_meanwhile(void **state)
{
	struct vd *t = *state;

	vd_up(t, 1);
	vd_freeze(t);
	enable(t, false);
	vd_run_ms(t, 20);
	assert_true(vd_ring_info(t, 1).enabled);
	assert_int_equal(vu_device_resume(t->dev), 0);
	vd_run(t);
	assert_false(vd_ring_info(t, 1).enabled);
	vd_freeze(t);
	enable(t, true);
	assert_int_equal(vu_device_resume(t->dev), 0);
	vd_move(t);
	vd_run(t);
	vd_assert_traffic(t, 0, 1);
}

/* Nobody is connected; the one who comes meanwhile is served. */
static void without_a_front_end(void **state)
{
	struct vd *t = *state;

	vd_conf(t, 1);
	vd_create(t);
	vd_move(t);
	vd_front_end(t, &ts_qemu_10);
	vd_freeze(t);
	vd_ok(t, ts_fe_connect(&t->fe, t->path));
	assert_int_equal(vu_device_resume(t->dev), 0);
	vd_move(t);
	assert_true(VD_WAIT(t, vd_info(t).connections == 1, 5000));
	vd_start(t);
	vd_assert_traffic(t, 0, 1);
}

static void connecting(void **state)
{
	struct vd *t = *state;

	vd_front_end(t, &ts_qemu_10);
	vd_conf(t, 1);
	t->conf.listen = false;
	vd_create(t);
	vd_move(t);
	t->fe.pairs = t->fe.active = 1;
	vd_ok(t, ts_fe_listen(&t->fe, t->path));
	assert_true(VD_WAIT(t, vd_info(t).connection == VU_CONNECTED, 5000));
	vd_ok(t, ts_fe_accept(&t->fe));
	vd_start(t);
	vd_move(t);
	vd_assert_traffic(t, 0, 1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(traffic_goes_on),
		VD_BOTH(what_waits_in_rings),
		VD_BOTH(freezing_under_load),
		VD_BOTH(a_stuck_lcore),
		VD_BOTH(stopped_and_disabled_rings),
		VD_BOTH(a_parked_ring),
		VD_BOTH(all_that_was_said),
		VD_BOTH(log_region_and_channel),
		VD_BOTH(behind_an_iommu),
		VD_BOTH(in_the_middle_of_a_message),
		VD_BOTH(messages_meanwhile),
		VD_BOTH(without_a_front_end),
		VD_BOTH(connecting),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

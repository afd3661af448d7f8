/* SPDX-License-Identifier: BSD-3-Clause */
/* What a device says of itself: why there is no traffic, what was negotiated, where rings are. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "vd.h"

static void assert_trouble(struct vd *t, enum vu_trouble expect)
{
	assert_int_equal(vd_info(t).trouble, expect);
	assert_string_not_equal(vu_trouble_text(expect), "unknown");
}

/* From an empty socket to a working guest, each step with the reason that is missing. */
static void troubles_on_the_way(void **state)
{
	struct vd *t = *state;

	vd_conf(t, 1);
	vd_create(t);
	assert_trouble(t, VU_TROUBLE_NO_FRONT_END);
	vd_front_end(t, &ts_qemu_10);
	vd_connect(t);
	assert_trouble(t, VU_TROUBLE_NO_DRIVER);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, 0));
	assert_trouble(t, VU_TROUBLE_NO_DRIVER);
	vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, 1, 0x10000)); /* not yet wrong */
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, t->fe.features));
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_trouble(t, VU_TROUBLE_NO_MEMORY_TABLE); /* the first thing a driver causes */
	for (unsigned i = 0; i < 2; i++) {
		vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_NUM, i, VD_RING_SIZE));
		vd_ok(t, ts_fe_set_addr(&t->fe, i));
		vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, i, t->fe.rings[i].kick));
	}
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_trouble(t, VU_TROUBLE_NO_MEMORY_TABLE);
	t->guest->n = 1;
	t->guest->r[0].uva += 1u << 30;
	vd_ok(t, ts_fe_set_mem_table(&t->fe));
	assert_trouble(t, VU_TROUBLE_RING_ADDRESSES);
	t->guest->r[0].uva -= 1u << 30;
	t->guest->n = 2;
	vd_ok(t, ts_fe_set_mem_table(&t->fe));
	assert_trouble(t, VU_TROUBLE_RING_POSITION);
	vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, 1, 0));
	vd_ok(t, ts_fe_set_mem_table(&t->fe));
	assert_trouble(t, VU_TROUBLE_NOT_ENABLED);
	assert_false(t->link);
	vd_ok(t, ts_fe_enable(&t->fe, 0, true));
	vd_ok(t, ts_fe_enable(&t->fe, 1, true));
	assert_trouble(t, VU_TROUBLE_NONE);
	assert_true(t->link);
	vd_disconnect(t);
	assert_trouble(t, VU_TROUBLE_NO_FRONT_END);
}

/* A driver that announces buffers in a memory that is not ours (QEMU's share=off). */
static void trouble_not_shared(void **state)
{
	struct vd *t = *state;

	vd_listen(t, 1, &ts_qemu_10);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	vd_start(t);
	assert_true(eventfd_write(t->fe.rings[0].kick, 1) == 0);
	assert_trouble(t, VU_TROUBLE_NONE); /* QEMU begins with one */
	assert_true(eventfd_write(t->fe.rings[0].kick, 1) == 0);
	assert_trouble(t, VU_TROUBLE_NOT_SHARED);
	assert_true(t->link);
	vd_guest_posts(t, 0, 1);
	assert_trouble(t, VU_TROUBLE_NONE);
}

/* QEMU compares its queues with ours, leaves, and comes back at once, for ever. */
static void trouble_hasty(void **state)
{
	struct vd *t = *state;

	vd_conf(t, 1);
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	for (int i = 0; i < 3; i++) {
		assert_trouble(t, VU_TROUBLE_NO_FRONT_END);
		vd_connect(t);
		assert_trouble(t, VU_TROUBLE_NO_DRIVER);
		vd_ok(t, ts_fe_negotiate(&t->fe));
		vd_disconnect(t);
	}
	assert_trouble(t, VU_TROUBLE_QUEUES);
	vd_connect(t);
	vd_start(t);
	assert_trouble(t, VU_TROUBLE_NONE);
	vd_disconnect(t);
	assert_trouble(t, VU_TROUBLE_NO_FRONT_END);
}

/* What was refused explains the silence until there is traffic. */
static void troubles_refused(void **state)
{
	struct vd *t = *state;

	vd_listen(t, 1, &ts_qemu_10);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	assert_int_equal(
		ts_fe_set_fd(&t->fe, TS_SET_VRING_CALL, 2, t->fe.rings[0].call), -EREMOTEIO);
	assert_trouble(t, VU_TROUBLE_QUEUES);
	assert_string_equal(vd_info(t).last_error,
		"SET_VRING_CALL for ring 2, but this port has 1 queue pairs");
	t->guest->r[1].size += 4096;
	assert_int_equal(ts_fe_set_mem_table(&t->fe), -EREMOTEIO);
	t->guest->r[1].size -= 4096;
	assert_trouble(t, VU_TROUBLE_MEMORY_REJECTED);
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, TS_BIT(63)));
	assert_true(ts_fe_closed(&t->fe));
	assert_trouble(t, VU_TROUBLE_FEATURES);
	assert_string_equal(vd_info(t).last_error,
		"the front-end wants features 0x8000000000000000 that are not offered");
	vd_connect(t);
	vd_start(t);
	assert_trouble(t, VU_TROUBLE_NONE);
	vd_ok(t, ts_fe_stop(&t->fe));
	assert_trouble(t, VU_TROUBLE_NO_DRIVER); /* the old refusal is forgotten */
}

static void every_text(void **state)
{
	(void)state;
	for (int i = 0; i <= VU_TROUBLE_NOT_SHARED; i++)
		assert_string_not_equal(vu_trouble_text((enum vu_trouble)i), "unknown");
	assert_string_equal(vu_trouble_text((enum vu_trouble)99), "unknown");
	for (int i = 0; i < VIRTQ_FAULT_COUNT; i++)
		assert_string_not_equal(virtq_fault_text((enum virtq_fault)i), "unknown");
	assert_string_equal(virtq_fault_text(VIRTQ_FAULT_COUNT), "unknown");
	for (int i = 0; i < VIRTQ_DROP_COUNT; i++) {
		assert_string_not_equal(virtq_drop_name((enum virtq_drop)i), "unknown");
		assert_string_not_equal(virtq_drop_advice((enum virtq_drop)i), "unknown");
		for (int k = 0; k < i; k++)
			assert_string_not_equal(virtq_drop_name((enum virtq_drop)i),
				virtq_drop_name((enum virtq_drop)k));
	}
	assert_string_equal(virtq_drop_name(VIRTQ_DROP_COUNT), "unknown");
}

static void feature_names(void **state)
{
	char buf[2000], small[12];

	(void)state;
	assert_string_equal(vu_feature_names(0, buf, sizeof(buf)), "");
	assert_string_equal(vu_feature_names(1, buf, sizeof(buf)), "CSUM");
	assert_string_equal(vu_feature_names(TS_BIT(VIRTIO_F_VERSION_1) | TS_BIT(15) | TS_BIT(37),
				    buf, sizeof(buf)),
		"MRG_RXBUF VERSION_1 bit37");
	assert_string_equal(
		vu_protocol_feature_names(TS_BIT(0) | TS_BIT(3) | TS_BIT(63), buf, sizeof(buf)),
		"MQ REPLY_ACK bit63");
	vu_feature_names(UINT64_MAX, buf, sizeof(buf));
	assert_non_null(strstr(buf, " bit58"));
	for (size_t len = 1; len <= sizeof(small); len++) {
		memset(small, '#', sizeof(small));
		vu_feature_names(UINT64_MAX, small, len);
		assert_int_equal(strnlen(small, len), len - 1);
		for (size_t i = len; i < sizeof(small); i++)
			assert_int_equal(small[i], '#');
	}
	/* None of what we offer is without a name. */
	assert_null(strstr(vu_feature_names(vu_default_features(), buf, sizeof(buf)), "bit"));
}

/* An offer is for ever: QEMU refuses a back-end that comes back with less. A bit that is added to the
 * tables is added here too; none is taken away. */
static const unsigned offered[] = {VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MTU,
	VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_ECN,
	VIRTIO_NET_F_GUEST_UFO, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
	VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_UFO, VIRTIO_NET_F_GSO, 54 /* GUEST_USO4 */,
	55 /* GUEST_USO6 */, 56 /* HOST_USO */, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_CTRL_VQ,
	VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_NET_F_MQ, VIRTIO_F_ANY_LAYOUT,
	VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX, TS_F_PROTOCOL_FEATURES,
	VIRTIO_F_VERSION_1, VIRTIO_F_RING_PACKED};
static const unsigned offered_protocol[] = {TS_PROTO_MQ, TS_PROTO_REPLY_ACK, TS_PROTO_NET_MTU,
	TS_PROTO_BACKEND_REQ, TS_PROTO_RESET_DEVICE, TS_PROTO_CONFIGURE_MEM_SLOTS, TS_PROTO_STATUS};

static void offers_never_shrink(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TS_ARRAY_SIZE(offered); i++)
		assert_true(vu_default_features() & TS_BIT(offered[i]));
	for (unsigned i = 0; i < TS_ARRAY_SIZE(offered_protocol); i++)
		assert_true(vu_default_protocol_features() & TS_BIT(offered_protocol[i]));
}

/* Each bit says what it is for or why it is not offered; a number nobody knows says nothing. */
static void every_bit(void **state)
{
	struct vu_bit_info info;

	(void)state;
	for (unsigned bit = 0; bit < 70; bit++) {
		if (vu_feature_info(bit, &info)) {
			assert_true(strlen(info.name) > 0 && strlen(info.why) > 5);
			assert_int_equal(info.offer == VU_OFFER_ALWAYS,
				(vu_default_features() & TS_BIT(bit)) != 0);
		}
		if (vu_protocol_feature_info(bit, &info)) {
			assert_true(strlen(info.name) > 0 && strlen(info.why) > 5);
			assert_int_equal(info.offer == VU_OFFER_ALWAYS,
				(vu_default_protocol_features() & TS_BIT(bit)) != 0);
		}
	}
	assert_false(vu_feature_info(4, &info) || vu_feature_info(64, &info));
	assert_false(vu_protocol_feature_info(24, &info) || vu_protocol_feature_info(64, &info));
}

/* It counts where the driver was told of it too. */
static void mtu(void **state)
{
	static const uint64_t good[] = {68, 1400, 1500, 9000, 65535};
	static const uint64_t bad[] = {0, 1, 67, 65536, 65536 + 1500, 1ull << 32, UINT64_MAX};
	struct vd *t = *state;

	vd_listen(t, 1, &ts_qemu_10);
	t->fe.want |= TS_BIT(VIRTIO_NET_F_MTU);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_NET_SET_MTU, 1400));
	assert_int_equal(vd_info(t).mtu, 0);
	vd_start(t);
	assert_int_equal(vd_info(t).mtu, 1400);
	assert_int_equal(t->mtu_changes, 1);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(good); i++) {
		vd_ok(t, ts_fe_set_u64(&t->fe, TS_NET_SET_MTU, good[i]));
		assert_int_equal(vd_info(t).mtu, good[i]);
		for (unsigned k = 0; k < TS_ARRAY_SIZE(bad); k++) {
			assert_int_equal(ts_fe_set_u64(&t->fe, TS_NET_SET_MTU, bad[k]), -EREMOTEIO);
			assert_int_equal(vd_info(t).mtu, good[i]);
		}
	}
	assert_int_equal(t->mtu_changes, 1 + TS_ARRAY_SIZE(good));
	vd_assert_traffic(t, 0, 1);
	vd_disconnect(t);
	assert_int_equal(vd_info(t).mtu, 0);
	vd_connect(t);
	t->fe.want &= ~TS_BIT(VIRTIO_NET_F_MTU);
	vd_start(t);
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_NET_SET_MTU, 1400));
	assert_int_equal(vd_info(t).mtu, 0);
}

/* Entries that n frames take up: of three, a packed ring holds one in a table. */
static uint32_t entries(const struct vd *t, uint32_t n)
{
	return t->format ? 2 * n - (n + 2) / 3 : n;
}

static void ring_positions(void **state)
{
	struct vd *t = *state;
	struct vu_ring_info info;

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	vd_guest_sends(t, 1, 70);
	info = vd_ring_info(t, 1);
	assert_false(info.untouched);
	assert_int_equal(info.fill, entries(t, 70));
	assert_int_equal(info.num, VD_RING_SIZE);
	assert_int_equal(info.packed, t->format != 0);
	vd_burst(t, 1);
	info = vd_ring_info(t, 1);
	assert_int_equal(info.avail, (uint16_t)vd_base(t, entries(t, 64)));
	assert_int_equal(info.used, info.avail);
	assert_int_equal(info.fill, entries(t, 70) - entries(t, 64));
	assert_int_equal(info.stats.calls, vu_device_ring(t->dev, 1)->stats.calls);
	vd_ok(t, ts_fe_enable(&t->fe, 1, false));
	assert_true(VD_WAIT(t, vd_ring_info(t, 1).fill == 0, 1000));
	assert_int_equal(vd_ring_info(t, 1).stats.drops[VIRTQ_DROP_RX_DISABLED], 6);
	/* A jump of the index is no fill level. */
	if (!t->format)
		t->fe.rings[1].ring->avail->idx += 9999;
	assert_int_equal(vd_ring_info(t, 1).fill, 0);
}

static void what_was_negotiated(void **state)
{
	struct vd *t = *state;
	struct virtq_region_info region;
	struct vu_info info;

	vd_conf(t, 3);
	t->conf.features &= ~TS_BIT(VIRTIO_RING_F_EVENT_IDX);
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	vd_connect(t);
	vd_start(t);
	info = vd_info(t);
	assert_string_equal(info.path, t->path);
	assert_true(info.listen && info.link);
	assert_int_equal(info.queue_pairs, 3);
	assert_int_equal(
		info.features_offered, vu_default_features() & ~TS_BIT(VIRTIO_RING_F_EVENT_IDX));
	assert_int_equal(info.features, t->fe.features);
	assert_int_equal(info.protocol_features, t->fe.protocol);
	assert_true(virtq_mem_region(info.mem, 1, &region));
	assert_int_equal(region.gpa, t->guest->r[1].gpa);
	assert_int_equal(region.uva, t->guest->r[1].uva);
	assert_null(vu_device_ring(t->dev, 6));
	vd_assert_traffic(t, 0, 3);
	vd_disconnect(t);
	info = vd_info(t);
	assert_int_equal(info.features | info.protocol_features, 0);
	assert_null(info.mem);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, vd_setup, vd_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(troubles_on_the_way),
		VD_BOTH(trouble_not_shared),
		CASE(trouble_hasty),
		CASE(troubles_refused),
		cmocka_unit_test(every_text),
		cmocka_unit_test(feature_names),
		cmocka_unit_test(offers_never_shrink),
		cmocka_unit_test(every_bit),
		CASE(mtu),
		VD_BOTH(ring_positions),
		VD_BOTH(what_was_negotiated),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

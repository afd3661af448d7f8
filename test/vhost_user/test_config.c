/* SPDX-License-Identifier: BSD-3-Clause */
/* The configuration space, for front-ends that take it from us. */
#include <errno.h>
#include <string.h>

#include <linux/virtio_net.h>

#include "vd.h"

#define SPACE 256u
#define PROTO (TS_BIT(TS_PROTO_MQ) | TS_BIT(TS_PROTO_REPLY_ACK) | TS_BIT(TS_PROTO_NET_MTU))

struct wire_config {
	uint32_t offset, size, flags;
	uint8_t space[SPACE + 8];
};

static const uint8_t address[6] = {0x52, 0x54, 0, 1, 2, 3};

static struct vd *connected(void **state, bool has_space)
{
	struct vd *t = *state;

	vd_conf(t, 3);
	t->conf.mac = has_space ? address : NULL;
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	t->fe.want_protocol = PROTO | TS_BIT(TS_PROTO_CONFIG);
	t->fe.need_reply = UINT64_MAX;
	vd_connect(t);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	return t;
}

/* Ask with a payload of this length; how many bytes of the space came. Without an answer: -1. */
static int ask(
	struct vd *t, uint32_t offset, uint32_t size, uint32_t payload, struct wire_config *got)
{
	const struct wire_config c = {.offset = offset, .size = size};
	static struct ts_reply r;

	vd_ok(t, ts_send_raw(&t->fe, TS_GET_CONFIG, TS_VERSION, payload, &c, payload, NULL, 0));
	if (ts_recv_reply(&t->fe, &r) != 0)
		return -1;
	assert_int_equal(r.hdr.request, TS_GET_CONFIG);
	assert_int_equal(r.hdr.flags, 5);
	assert_int_equal(r.n_fds, 0);
	if (r.hdr.size == 0)
		return 0;
	assert_int_equal(r.hdr.size, 12 + size);
	memcpy(got, r.payload, r.hdr.size);
	assert_int_equal(got->offset, offset);
	assert_int_equal(got->size, size);
	return (int)size;
}

static struct virtio_net_config net_config(struct vd *t)
{
	struct virtio_net_config net;
	struct wire_config got;

	assert_int_equal(ask(t, 0, sizeof(net), 12 + sizeof(net), &got), sizeof(net));
	memcpy(&net, got.space, sizeof(net));
	return net;
}

static void what_is_in_it(void **state)
{
	struct vd *t = connected(state, true);
	struct virtio_net_config net = net_config(t);

	assert_true(t->fe.offered & TS_BIT(VIRTIO_NET_F_MAC));
	assert_memory_equal(net.mac, address, 6);
	assert_int_equal(net.status, VIRTIO_NET_S_LINK_UP);
	assert_int_equal(net.max_virtqueue_pairs, 3);
	assert_int_equal(net.mtu, 1500);
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_NET_SET_MTU, 9000));
	assert_int_equal(net_config(t).mtu, 9000);
}

/* Each part of it, and each that it has not. */
static void parts(void **state)
{
	struct vd *t = connected(state, true);
	struct wire_config all, part;

	assert_int_equal(ask(t, 0, SPACE, 12 + SPACE, &all), SPACE);
	for (uint32_t offset = 0; offset < SPACE; offset += offset < 20 ? 1 : 47) {
		for (uint32_t size = 1; size <= SPACE; size += size < 9 ? 1 : 61) {
			bool inside = offset + size <= SPACE;

			assert_int_equal(
				ask(t, offset, size, 12 + size, &part), inside ? (int)size : 0);
			if (inside)
				assert_memory_equal(part.space, all.space + offset, size);
		}
	}
	/* No size, one that is not the message's, offsets that wrap. */
	assert_int_equal(ask(t, 0, 0, 12, &part), 0);
	assert_int_equal(ask(t, 0, 8, 12 + 7, &part), 0);
	assert_int_equal(ask(t, 0, 8, 12 + 9, &part), 0);
	assert_int_equal(ask(t, SPACE, 1, 13, &part), 0);
	assert_int_equal(ask(t, UINT32_MAX, 1, 13, &part), 0);
	assert_int_equal(ask(t, UINT32_MAX - 7, 8, 20, &part), 0);
	assert_int_equal(ask(t, 0, UINT32_MAX, 20, &part), 0);
	vd_ok(t, ts_fe_barrier(&t->fe));
	/* Not even a message. */
	assert_int_equal(ask(t, 0, 0, 11, &part), -1);
	assert_int_equal(vd_info(t).connection, VU_WAITING);
}

static int set(struct vd *t, uint32_t offset, uint32_t size, const void *bytes)
{
	struct wire_config c = {.offset = offset, .size = size};
	uint64_t ack = 2;

	memcpy(c.space, bytes, size);
	vd_ok(t, ts_send_raw(&t->fe, TS_SET_CONFIG, TS_VERSION | TS_NEED_REPLY, 12 + size, &c,
			 12 + size, NULL, 0));
	vd_ok(t, ts_recv_answer(&t->fe, TS_SET_CONFIG, &ack, sizeof(ack)));
	return (int)ack;
}

/* A driver older than virtio 1.0 may set its address; nobody may set anything else. */
static void writing(void **state)
{
	static const uint8_t other[8] = {2, 4, 6, 8, 10, 12, 14, 16};
	struct vd *t = connected(state, true);
	uint64_t legacy = t->fe.features & ~TS_BIT(VIRTIO_F_VERSION_1);

	assert_int_equal(set(t, 0, 6, other), 1);
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, t->fe.features));
	assert_int_equal(set(t, 0, 6, other), 1);
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, legacy));
	assert_int_equal(set(t, 0, 7, other), 1);
	assert_int_equal(set(t, 5, 2, other), 1);
	assert_int_equal(set(t, 6, 1, other), 1);
	assert_int_equal(set(t, 8, 2, other), 1);
	assert_int_equal(set(t, UINT32_MAX, 1, other), 1);
	assert_int_equal(set(t, 0, 0, other), 1);
	assert_memory_equal(net_config(t).mac, address, 6);
	assert_int_equal(set(t, 0, 6, other), 0);
	assert_memory_equal(net_config(t).mac, other, 6);
	assert_int_equal(set(t, 5, 1, address), 0);
	assert_int_equal(net_config(t).mac[5], address[0]);
	/* The next front-end finds it as it was. */
	vd_disconnect(t);
	vd_connect(t);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	assert_memory_equal(net_config(t).mac, address, 6);
}

/* A port without a space does not offer one. */
static void not_offered(void **state)
{
	struct vd *t = connected(state, false);
	struct wire_config got;

	assert_false(t->fe.offered_protocol & TS_BIT(TS_PROTO_CONFIG));
	assert_false(t->fe.offered & TS_BIT(VIRTIO_NET_F_MAC));
	assert_int_equal(ask(t, 0, 6, 18, &got), -1);
	assert_int_equal(vd_info(t).connection, VU_WAITING);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, vd_setup, vd_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(what_is_in_it),
		CASE(parts),
		CASE(writing),
		CASE(not_offered),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

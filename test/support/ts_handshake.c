/* SPDX-License-Identifier: BSD-3-Clause */
/* What the known front-ends send, as tables of steps; ts_steps.c runs them. */

/*
 * Theory of operation
 *
 * A profile is four tables: `init` once per connection, `start` when the guest's driver is ready,
 * `stop` when it goes away, `channels` when it changes its number of queues. A table is a list of
 * messages with two kinds of loop; conditions are data too. Sources: reference/protocol.md section
 * 1.17 for the orders, 5.2 for the early ENABLE of QEMU 2.5, 4 for the 2015 tree.
 *
 * A ring the guest did not set up (ring == NULL) gets ENABLE, CALL_MASKED and ERR, but never NUM,
 * BASE, ADDR, KICK, CALL or GET_VRING_BASE: that is what QEMU does for firmware that uses only one
 * pair of many.
 */
#include <stddef.h>

#include "ts_frontend.h"

#define P(name) TS_BIT(TS_PROTO_##name)
#define R(name) TS_BIT(TS_##name)

/* ---- QEMU ---- */

#define QEMU_INIT_HEAD                                                                  \
	{.op = TS_S_EACH_PAIR}, {.op = TS_S_GET_FEATURES},                              \
		{.op = TS_S_GET_PROTOCOL, .flags = TS_IF_PROTOCOL},                     \
		{.op = TS_S_SET_PROTOCOL, .flags = TS_IF_PROTOCOL},                     \
		{.op = TS_S_GET_QUEUE_NUM, .flags = TS_ONCE, .protocol = P(MQ)},        \
		{.op = TS_S_GET_MEM_SLOTS, .protocol = P(CONFIGURE_MEM_SLOTS)},         \
		{.op = TS_S_BACKEND_REQ, .flags = TS_ONCE, .protocol = P(BACKEND_REQ)}, \
		{.op = TS_S_SET_OWNER, .flags = TS_ONCE}, {.op = TS_S_GET_FEATURES},    \
		{.op = TS_S_EACH_RING},                                                 \
	{                                                                               \
		.op = TS_S_CALL_MASKED                                                  \
	}

static const struct ts_step qemu_init[] = {
	QEMU_INIT_HEAD,
	{.op = TS_S_NEXT},
	{.op = TS_S_NEXT},
	{.op = TS_S_END},
};

/* Since 7.1 the error eventfd is always sent. */
static const struct ts_step qemu_init_err[] = {
	QEMU_INIT_HEAD,
	{.op = TS_S_ERR},
	{.op = TS_S_NEXT},
	{.op = TS_S_NEXT},
	{.op = TS_S_END},
};

/* ENABLE came with the queue set-up, long before the rings; once per pair, and only with MQ. */
static const struct ts_step qemu_seed_start[] = {
	{.op = TS_S_EACH_PAIR},
	{.op = TS_S_ENABLE, .arg = TS_BY_ACTIVE, .protocol = P(MQ)},
	{.op = TS_S_NEXT},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_CALL},
	{.op = TS_S_NEXT},
	{.op = TS_S_EACH_PAIR},
	{.op = TS_S_SET_FEATURES},
	{.op = TS_S_MEM_TABLE, .flags = TS_ONCE},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_NUM},
	{.op = TS_S_BASE},
	{.op = TS_S_ADDR},
	{.op = TS_S_KICK},
	{.op = TS_S_NEXT},
	{.op = TS_S_NEXT},
	{.op = TS_S_END},
};

/* Id 4 once per ring of the first pair, before the bases are asked for. */
static const struct ts_step qemu_seed_stop[] = {
	{.op = TS_S_EACH_PAIR},
	{.op = TS_S_RESET_OWNER, .flags = TS_ONCE},
	{.op = TS_S_RESET_OWNER, .flags = TS_ONCE},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_GET_BASE},
	{.op = TS_S_NEXT},
	{.op = TS_S_NEXT},
	{.op = TS_S_END},
};

static const struct ts_step qemu_seed_channels[] = {
	{.op = TS_S_EACH_PAIR},
	{.op = TS_S_ENABLE, .arg = TS_BY_ACTIVE, .protocol = P(MQ)},
	{.op = TS_S_NEXT},
	{.op = TS_S_END},
};

/* The release: one ENABLE per ring, still before any address. */
static const struct ts_step qemu_2_5_start[] = {
	{.op = TS_S_EACH_RING},
	{.op = TS_S_ENABLE, .arg = TS_BY_ACTIVE, .flags = TS_IF_PROTOCOL},
	{.op = TS_S_NEXT},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_CALL},
	{.op = TS_S_NEXT},
	{.op = TS_S_EACH_PAIR},
	{.op = TS_S_SET_FEATURES},
	{.op = TS_S_MEM_TABLE, .flags = TS_ONCE},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_NUM},
	{.op = TS_S_BASE},
	{.op = TS_S_ADDR},
	{.op = TS_S_KICK},
	{.op = TS_S_NEXT},
	{.op = TS_S_NEXT},
	{.op = TS_S_END},
};

/* 2.7 to 6.x: each pair is enabled after its rings were started. */
static const struct ts_step qemu_4_start[] = {
	{.op = TS_S_EACH_PAIR},
	{.op = TS_S_SET_FEATURES},
	{.op = TS_S_MEM_TABLE, .flags = TS_ONCE},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_NUM},
	{.op = TS_S_BASE},
	{.op = TS_S_ADDR},
	{.op = TS_S_KICK},
	{.op = TS_S_CALL},
	{.op = TS_S_NEXT},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_ENABLE, .arg = TS_ON_IF_ACTIVE, .flags = TS_IF_PROTOCOL},
	{.op = TS_S_NEXT},
	{.op = TS_S_NEXT},
	{.op = TS_S_END},
};

/* Since 7.2: ENABLE before SET_FEATURES and before any address. */
static const struct ts_step qemu_7_start[] = {
	{.op = TS_S_EACH_PAIR},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_ENABLE, .arg = TS_ON_IF_ACTIVE, .flags = TS_IF_PROTOCOL},
	{.op = TS_S_NEXT},
	{.op = TS_S_SET_FEATURES},
	{.op = TS_S_ADD_STATUS, .arg = TS_STATUS_FEATURES_OK, .protocol = P(STATUS)},
	{.op = TS_S_MEM_TABLE, .arg = 1, .flags = TS_ONCE},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_NUM},
	{.op = TS_S_BASE},
	{.op = TS_S_ADDR},
	{.op = TS_S_KICK},
	{.op = TS_S_CALL},
	{.op = TS_S_NEXT},
	{.op = TS_S_ADD_STATUS,
		.arg = TS_STATUS_ACKNOWLEDGE | TS_STATUS_DRIVER | TS_STATUS_DRIVER_OK,
		.flags = TS_LAST,
		.protocol = P(STATUS)},
	{.op = TS_S_NEXT},
	{.op = TS_S_END},
};

static const struct ts_step qemu_stop[] = {
	{.op = TS_S_EACH_RING},
	{.op = TS_S_GET_BASE},
	{.op = TS_S_NEXT},
	{.op = TS_S_SET_STATUS, .protocol = P(STATUS)},
	{.op = TS_S_END},
};

static const struct ts_step by_ring_channels[] = {
	{.op = TS_S_EACH_RING},
	{.op = TS_S_ENABLE, .arg = TS_BY_ACTIVE, .flags = TS_IF_PROTOCOL},
	{.op = TS_S_NEXT},
	{.op = TS_S_END},
};

const struct ts_profile ts_qemu_seed = {
	.name = "QEMU 2015 (seed)",
	.protocol = P(MQ),
	.init = qemu_init,
	.start = qemu_seed_start,
	.stop = qemu_seed_stop,
	.channels = qemu_seed_channels,
};

const struct ts_profile ts_qemu_2_5 = {
	.name = "QEMU 2.5",
	.protocol = P(MQ) | P(LOG_SHMFD) | P(RARP),
	.init = qemu_init,
	.start = qemu_2_5_start,
	.stop = qemu_stop,
	.channels = by_ring_channels,
};

#define QEMU_4_PROTOCOL \
	(P(MQ) | P(LOG_SHMFD) | P(RARP) | P(REPLY_ACK) | P(NET_MTU) | P(BACKEND_REQ))
#define QEMU_4_ACKS (R(SET_MEM_TABLE) | R(NET_SET_MTU) | R(SET_BACKEND_REQ_FD))
#define QEMU_7_ACKS (QEMU_4_ACKS | R(ADD_MEM_REG) | R(REM_MEM_REG))

const struct ts_profile ts_qemu_4 = {
	.name = "QEMU 4",
	.protocol = QEMU_4_PROTOCOL,
	.need_reply = QEMU_4_ACKS,
	.init = qemu_init,
	.start = qemu_4_start,
	.stop = qemu_stop,
	.channels = by_ring_channels,
};

const struct ts_profile ts_qemu_7 = {
	.name = "QEMU 7.2",
	.protocol = QEMU_4_PROTOCOL | P(CONFIGURE_MEM_SLOTS),
	.need_reply = QEMU_7_ACKS,
	.init = qemu_init_err,
	.start = qemu_7_start,
	.stop = qemu_stop,
	.channels = by_ring_channels,
};

const struct ts_profile ts_qemu_10 = {
	.name = "QEMU 10.2",
	.protocol = QEMU_4_PROTOCOL | P(CONFIGURE_MEM_SLOTS) | P(STATUS) | P(RESET_DEVICE),
	.need_reply = QEMU_7_ACKS | R(SET_VRING_ENABLE) | R(SET_VRING_KICK) | R(SET_VRING_CALL) |
		      R(SET_VRING_ERR),
	.init = qemu_init_err,
	.start = qemu_7_start,
	.stop = qemu_stop,
	.channels = by_ring_channels,
};

/* ---- cloud-hypervisor ---- */

static const struct ts_step clh_init[] = {
	{.op = TS_S_SET_OWNER},
	{.op = TS_S_GET_FEATURES},
	{.op = TS_S_GET_PROTOCOL, .flags = TS_IF_PROTOCOL},
	{.op = TS_S_SET_PROTOCOL, .flags = TS_IF_PROTOCOL},
	{.op = TS_S_GET_QUEUE_NUM, .arg = 1, .protocol = P(MQ)},
	{.op = TS_S_END},
};

static const struct ts_step clh_start[] = {
	{.op = TS_S_SET_FEATURES},
	{.op = TS_S_MEM_TABLE},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_NUM},
	{.op = TS_S_NEXT},
	{.op = TS_S_INFLIGHT, .protocol = P(INFLIGHT_SHMFD)},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_ADDR},
	{.op = TS_S_BASE, .arg = TS_BASE_AVAIL},
	{.op = TS_S_CALL},
	{.op = TS_S_KICK},
	{.op = TS_S_NEXT},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_ENABLE, .arg = TS_ON, .flags = TS_IF_PROTOCOL},
	{.op = TS_S_NEXT},
	{.op = TS_S_BACKEND_REQ, .protocol = P(BACKEND_REQ)},
	{.op = TS_S_END},
};

static const struct ts_step clh_stop[] = {
	{.op = TS_S_EACH_RING},
	{.op = TS_S_ENABLE, .arg = TS_OFF, .flags = TS_IF_PROTOCOL},
	{.op = TS_S_GET_BASE},
	{.op = TS_S_NEXT},
	{.op = TS_S_END},
};

const struct ts_profile ts_cloud_hypervisor = {
	.name = "cloud-hypervisor",
	.protocol = P(MQ) | P(LOG_SHMFD) | P(REPLY_ACK) | P(BACKEND_REQ) | P(CONFIGURE_MEM_SLOTS) |
		    P(INFLIGHT_SHMFD),
	.need_reply = UINT64_MAX, /* it puts the flag on everything, GET_* included */
	.init = clh_init,
	.start = clh_start,
	.stop = clh_stop,
};

/* ---- DPDK virtio-user ---- */

static const struct ts_step virtio_user_init[] = {
	{.op = TS_S_SET_OWNER},
	{.op = TS_S_GET_FEATURES},
	{.op = TS_S_GET_PROTOCOL, .flags = TS_IF_PROTOCOL},
	{.op = TS_S_SET_PROTOCOL, .flags = TS_IF_PROTOCOL},
	{.op = TS_S_END},
};

static const struct ts_step virtio_user_start[] = {
	{.op = TS_S_SET_STATUS, .protocol = P(STATUS)},
	{.op = TS_S_ADD_STATUS, .arg = TS_STATUS_ACKNOWLEDGE, .protocol = P(STATUS)},
	{.op = TS_S_ADD_STATUS, .arg = TS_STATUS_DRIVER, .protocol = P(STATUS)},
	{.op = TS_S_EACH_RX},
	{.op = TS_S_CALL},
	{.op = TS_S_NEXT},
	{.op = TS_S_EACH_TX},
	{.op = TS_S_CALL},
	{.op = TS_S_NEXT},
	{.op = TS_S_SET_FEATURES},
	{.op = TS_S_ADD_STATUS, .arg = TS_STATUS_FEATURES_OK, .protocol = P(STATUS)},
	{.op = TS_S_MEM_TABLE},
	{.op = TS_S_EACH_RX},
	{.op = TS_S_NUM},
	{.op = TS_S_BASE, .arg = TS_BASE_AVAIL_HALF},
	{.op = TS_S_ADDR},
	{.op = TS_S_KICK},
	{.op = TS_S_NEXT},
	{.op = TS_S_EACH_TX},
	{.op = TS_S_NUM},
	{.op = TS_S_BASE, .arg = TS_BASE_AVAIL_HALF},
	{.op = TS_S_ADDR},
	{.op = TS_S_KICK},
	{.op = TS_S_NEXT},
	{.op = TS_S_EACH_PAIR},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_ENABLE, .arg = TS_ON, .flags = TS_ONCE | TS_IF_PROTOCOL},
	{.op = TS_S_NEXT},
	{.op = TS_S_NEXT},
	{.op = TS_S_ADD_STATUS, .arg = TS_STATUS_DRIVER_OK, .protocol = P(STATUS)},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_ENABLE, .arg = TS_BY_ACTIVE, .flags = TS_IF_PROTOCOL | TS_IF_MANY},
	{.op = TS_S_NEXT},
	{.op = TS_S_END},
};

static const struct ts_step virtio_user_stop[] = {
	{.op = TS_S_EACH_RING},
	{.op = TS_S_ENABLE, .arg = TS_OFF, .flags = TS_IF_PROTOCOL},
	{.op = TS_S_NEXT},
	{.op = TS_S_EACH_RING},
	{.op = TS_S_GET_BASE},
	{.op = TS_S_NEXT},
	{.op = TS_S_SET_STATUS, .protocol = P(STATUS)},
	{.op = TS_S_END},
};

const struct ts_profile ts_virtio_user = {
	.name = "DPDK virtio-user",
	.protocol = P(MQ) | P(REPLY_ACK) | P(STATUS),
	.need_reply = R(SET_MEM_TABLE) | R(SET_STATUS),
	.init = virtio_user_init,
	.start = virtio_user_start,
	.stop = virtio_user_stop,
	.channels = by_ring_channels,
};

const struct ts_profile *const ts_profiles[] = {&ts_qemu_seed, &ts_qemu_2_5, &ts_qemu_4, &ts_qemu_7,
	&ts_qemu_10, &ts_cloud_hypervisor, &ts_virtio_user, NULL};

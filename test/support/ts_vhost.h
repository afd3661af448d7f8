/* SPDX-License-Identifier: BSD-3-Clause */
/* The vhost-user wire format, written down a second time so that tests do not share our mistakes. */
#ifndef TS_VHOST_H
#define TS_VHOST_H

#include <assert.h>
#include <stdint.h>

enum ts_request {
	TS_GET_FEATURES = 1,
	TS_SET_FEATURES = 2,
	TS_SET_OWNER = 3,
	TS_RESET_OWNER = 4, /* RESET_DEVICE in the 2015 text */
	TS_SET_MEM_TABLE = 5,
	TS_SET_LOG_BASE = 6,
	TS_SET_LOG_FD = 7,
	TS_SET_VRING_NUM = 8,
	TS_SET_VRING_ADDR = 9,
	TS_SET_VRING_BASE = 10,
	TS_GET_VRING_BASE = 11,
	TS_SET_VRING_KICK = 12,
	TS_SET_VRING_CALL = 13,
	TS_SET_VRING_ERR = 14,
	TS_GET_PROTOCOL_FEATURES = 15,
	TS_SET_PROTOCOL_FEATURES = 16,
	TS_GET_QUEUE_NUM = 17,
	TS_SET_VRING_ENABLE = 18,
	TS_SEND_RARP = 19,
	TS_NET_SET_MTU = 20,
	TS_SET_BACKEND_REQ_FD = 21,
	TS_IOTLB_MSG = 22,
	TS_SET_VRING_ENDIAN = 23,
	TS_GET_CONFIG = 24,
	TS_SET_CONFIG = 25,
	TS_POSTCOPY_ADVISE = 28,
	TS_POSTCOPY_LISTEN = 29,
	TS_POSTCOPY_END = 30,
	TS_GET_INFLIGHT_FD = 31,
	TS_SET_INFLIGHT_FD = 32,
	TS_RESET_DEVICE = 34,
	TS_VRING_KICK = 35,
	TS_GET_MAX_MEM_SLOTS = 36,
	TS_ADD_MEM_REG = 37,
	TS_REM_MEM_REG = 38,
	TS_SET_STATUS = 39,
	TS_GET_STATUS = 40,
	TS_REQUEST_MAX = 45,
};

/* Header flags. */
#define TS_VERSION    0x1u
#define TS_REPLY      0x4u
#define TS_NEED_REPLY 0x8u

/* Virtio feature bits that exist only between front-end and back-end. */
#define TS_F_LOG_ALL           26
#define TS_F_PROTOCOL_FEATURES 30

enum ts_protocol_bit {
	TS_PROTO_MQ = 0,
	TS_PROTO_LOG_SHMFD = 1,
	TS_PROTO_RARP = 2,
	TS_PROTO_REPLY_ACK = 3,
	TS_PROTO_NET_MTU = 4,
	TS_PROTO_BACKEND_REQ = 5,
	TS_PROTO_PAGEFAULT = 8,
	TS_PROTO_CONFIG = 9,
	TS_PROTO_INFLIGHT_SHMFD = 12,
	TS_PROTO_RESET_DEVICE = 13,
	TS_PROTO_INBAND_NOTIFICATIONS = 14,
	TS_PROTO_CONFIGURE_MEM_SLOTS = 15,
	TS_PROTO_STATUS = 16,
};

/* Device status, SET_STATUS and GET_STATUS. */
#define TS_STATUS_ACKNOWLEDGE 0x01u
#define TS_STATUS_DRIVER      0x02u
#define TS_STATUS_DRIVER_OK   0x04u
#define TS_STATUS_FEATURES_OK 0x08u

/* SET_VRING_KICK, _CALL, _ERR: ring in bits 0-7. */
#define TS_VRING_NOFD      0x100u
#define TS_MAX_TABLE_SLOTS 8 /* regions in one SET_MEM_TABLE */

struct ts_hdr {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
};

struct ts_vring_state {
	uint32_t index;
	uint32_t num;
};

struct ts_vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc;
	uint64_t used;
	uint64_t avail;
	uint64_t log;
};

/* SET_VRING_ADDR, flags: what the device writes to the ring is logged. */
#define TS_VRING_F_LOG 1u

struct ts_log_area {
	uint64_t size;
	uint64_t offset;
};

struct ts_mem_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t mmap_offset;
};

struct ts_mem_table {
	uint32_t n;
	uint32_t pad;
	struct ts_mem_region region[TS_MAX_TABLE_SLOTS];
};

struct ts_inflight {
	uint64_t mmap_size;
	uint64_t mmap_offset;
	uint16_t num_queues;
	uint16_t queue_size;
	uint32_t pad;
};

/* IOTLB_MSG, and request 1 of the back-end channel. */
enum ts_iotlb_type {
	TS_IOTLB_MISS = 1,
	TS_IOTLB_UPDATE = 2,
	TS_IOTLB_INVALIDATE = 3,
};

struct ts_iotlb {
	uint64_t iova;
	uint64_t size;
	uint64_t uva;
	uint8_t perm; /* 1 read, 2 write, 3 both */
	uint8_t type;
	uint8_t pad[6];
};

struct ts_mem_slot {
	uint64_t pad;
	struct ts_mem_region region;
};

static_assert(sizeof(struct ts_hdr) == 12, "header");
static_assert(sizeof(struct ts_vring_state) == 8, "vring state");
static_assert(sizeof(struct ts_vring_addr) == 40, "vring address");
static_assert(sizeof(struct ts_log_area) == 16, "log");
static_assert(sizeof(struct ts_mem_region) == 32, "region");
static_assert(sizeof(struct ts_mem_table) == 8 + 8 * 32, "memory table");
static_assert(sizeof(struct ts_inflight) == 24, "in-flight region");
static_assert(sizeof(struct ts_iotlb) == 32, "IOTLB message");
static_assert(sizeof(struct ts_mem_slot) == 40, "single region");

#endif

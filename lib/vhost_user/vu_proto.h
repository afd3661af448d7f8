/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost-user on the wire: numbers and layouts, nothing else. */
#ifndef VU_PROTO_H
#define VU_PROTO_H

#include <stddef.h>
#include <stdint.h>

/* vhost-user specification, "Message types": front-end to back-end. */
enum vu_request_id {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_RESET_OWNER = 4,
	VU_SET_MEM_TABLE = 5,
	VU_SET_LOG_BASE = 6,
	VU_SET_LOG_FD = 7,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_SEND_RARP = 19,
	VU_NET_SET_MTU = 20,
	VU_SET_BACKEND_REQ_FD = 21,
	VU_IOTLB_MSG = 22,
	VU_GET_CONFIG = 24,
	VU_SET_CONFIG = 25,
	VU_POSTCOPY_ADVISE = 28,
	VU_POSTCOPY_LISTEN = 29,
	VU_POSTCOPY_END = 30,
	VU_GET_INFLIGHT_FD = 31,
	VU_SET_INFLIGHT_FD = 32,
	VU_RESET_DEVICE = 34,
	VU_GET_MAX_MEM_SLOTS = 36,
	VU_ADD_MEM_REG = 37,
	VU_REM_MEM_REG = 38,
	VU_SET_STATUS = 39,
	VU_GET_STATUS = 40,
	VU_REQUEST_MAX
};

#define VU_PROTOCOL_F_MQ                  0
#define VU_PROTOCOL_F_LOG_SHMFD           1
#define VU_PROTOCOL_F_RARP                2
#define VU_PROTOCOL_F_REPLY_ACK           3
#define VU_PROTOCOL_F_NET_MTU             4
#define VU_PROTOCOL_F_BACKEND_REQ         5
#define VU_PROTOCOL_F_PAGEFAULT           8
#define VU_PROTOCOL_F_CONFIG              9
#define VU_PROTOCOL_F_INFLIGHT_SHMFD      12
#define VU_PROTOCOL_F_RESET_DEVICE        13
#define VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS 15
#define VU_PROTOCOL_F_STATUS              16

/* Virtio bits of front-ends alone, and a flag of SET_VRING_ADDR. */
#define VU_F_LOG_ALL  26
#define VU_RING_F_LOG (1u << 0)

/* Shares its number with a virtio bit that is reserved for the transport. */
#define VU_F_PROTOCOL_FEATURES 30

#define VU_VERSION             1u
#define VU_VERSION_MASK        3u
#define VU_FLAG_REPLY          (1u << 2)
#define VU_FLAG_NEED_ACK       (1u << 3)

#define VU_MEM_REGIONS_MAX     8 /* in one SET_MEM_TABLE */
#define VU_FDS_MAX             8
#define VU_RING_INDEX_MASK     0xffull
#define VU_RING_NO_FD          0x100ull

struct vu_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* of the payload, bytes */
};

struct vu_ring_state {
	uint32_t index;
	uint32_t num;
};

struct vu_ring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc;
	uint64_t used;
	uint64_t avail;
	uint64_t log;
};

struct vu_mem_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t mmap_offset;
};

struct vu_mem_table {
	uint32_t n;
	uint32_t padding;
	struct vu_mem_region region[VU_MEM_REGIONS_MAX];
};

struct vu_log_area {
	uint64_t size;
	uint64_t offset; /* in its file */
};

struct vu_mem_slot {
	uint64_t padding;
	struct vu_mem_region region;
};

/* Fields of 20 bytes; everybody sends the padding as well. */
struct vu_inflight {
	uint64_t mmap_size;
	uint64_t mmap_offset;
	uint16_t num_queues;
	uint16_t queue_size;
	uint32_t padding;
};

#define VU_CONFIG_MAX 256u

struct vu_config {
	uint32_t offset;
	uint32_t size; /* of what follows */
	uint32_t flags;
	uint8_t space[VU_CONFIG_MAX];
};

enum vu_iotlb_type {
	VU_IOTLB_MISS = 1,
	VU_IOTLB_UPDATE = 2,
	VU_IOTLB_INVALIDATE = 3
};

struct vu_iotlb {
	uint64_t iova;
	uint64_t size;
	uint64_t uva;
	uint8_t perm; /* enum virtq_perm */
	uint8_t type;
	uint8_t padding[6];
};

union vu_payload {
	uint64_t u64;
	struct vu_log_area log;
	struct vu_ring_state state;
	struct vu_ring_addr addr;
	struct vu_mem_table mem;
	struct vu_iotlb iotlb;
	struct vu_mem_slot slot;
	struct vu_inflight inflight;
	struct vu_config config;
};

/* As on the wire from header on; the padding puts the payload where it is both aligned and
 * right behind the header. */
struct vu_message {
	uint32_t padding;
	struct vu_header header;
	union vu_payload payload;
};

_Static_assert(sizeof(struct vu_header) == 12, "wire format");
_Static_assert(offsetof(struct vu_message, payload) ==
		       offsetof(struct vu_message, header) + sizeof(struct vu_header),
	"wire format");
_Static_assert(sizeof(struct vu_ring_state) == 8, "wire format");
_Static_assert(sizeof(struct vu_iotlb) == 32, "wire format");
_Static_assert(sizeof(struct vu_ring_addr) == 40, "wire format");
_Static_assert(sizeof(struct vu_log_area) == 16, "wire format");
_Static_assert(sizeof(struct vu_inflight) == 24, "wire format");
_Static_assert(sizeof(struct vu_mem_region) == 32, "wire format");
_Static_assert(sizeof(struct vu_config) == 12 + 256, "wire format");
_Static_assert(sizeof(struct vu_mem_slot) == 40, "wire format");
_Static_assert(sizeof(struct vu_mem_table) == 8 + 8 * 32, "wire format");

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Every request: what it must look like, what it does, what follows from it. */
#include <errno.h>
#include <string.h>

#include "vu_message.h"

/*
 * Theory of operation
 *
 * requests[] is the policy: one row per request, checked by one gate (admit) before any
 * handler runs. Handlers only edit configuration; what the table says is reconciled
 * afterwards, and only then the front-end gets its answer. No handler depends on what
 * came before it: rings start when everything they need is there, in whatever order.
 *
 * A refused message changed nothing. It is answered with a failure where an answer was
 * asked for (VHOST_USER_PROTOCOL_F_REPLY_ACK); otherwise the connection ends, because the
 * front-end would go on believing something that is not so. The same if an lcore is stuck in a
 * ring (-ETIMEDOUT): the configuration has changed, but nobody can say that the rings have.
 *
 * doc/protocol.md is made from the table.
 */

/* Where a request names a ring. */
enum ring_at {
	RING_NONE,
	RING_IN_STATE,
	RING_IN_ADDR,
	RING_IN_FD_WORD
};

enum reconcile {
	RECONCILE_NOTHING,
	RECONCILE_RING,
	RECONCILE_ALL
};

struct request {
	const char *name;
	int (*handle)(struct vu_context *);
	uint16_t size_min, size_max; /* payload, bytes */
	uint8_t fds_min, fds_max;
	enum ring_at ring;
	bool ring_stopped; /* only while we have no position in its ring */
	int16_t reply;     /* bytes; ACK: none of its own; ACKS: nor need that be asked for */
	enum reconcile reconcile;
	int8_t needs; /* protocol feature, negotiated; ANY: none */
	const char *does;
};

#define ACK    (-1)
#define ACKS   (-2)
#define ANY    (-1)

#define U64    sizeof(uint64_t)
#define STATE  sizeof(struct vu_ring_state)
#define ADDR   sizeof(struct vu_ring_addr)
#define CONFIG sizeof(struct vu_config)
#define IOTLB  sizeof(struct vu_iotlb)
#define TABLE  sizeof(struct vu_mem_table)
#define LOG    sizeof(struct vu_log_area)
#define KEPT   sizeof(struct vu_inflight)
#define SLOT   sizeof(struct vu_mem_slot)

/* QEMU 5.1 cut off the last four bytes (3009edff81): what is missing is 0. */
#define SLOT_MIN offsetof(struct vu_mem_slot, region.mmap_offset)

#define SLOTS    VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS

/* clang-format off */
static const struct request requests[VU_REQUEST_MAX] = {
/*                              name, handler,
                                payload min max, fds min max, ring, only stopped, reply, then, needs, what it does */
[VU_GET_FEATURES]           = {"GET_FEATURES", vu_on_get_features,
				0, 0, 0, 0, RING_NONE, false, U64, RECONCILE_NOTHING, ANY,
				"answers the virtio features offered"},
[VU_SET_FEATURES]           = {"SET_FEATURES", vu_on_set_features,
				U64, U64, 0, 0, RING_NONE, false, ACK, RECONCILE_ALL, ANY,
				"sets the virtio features; without VHOST_USER_F_PROTOCOL_FEATURES enables all rings"},
[VU_SET_OWNER]              = {"SET_OWNER", vu_on_set_owner,
				0, 0, 0, 0, RING_NONE, false, ACK, RECONCILE_NOTHING, ANY,
				"nothing: a connection is an owner"},
[VU_RESET_OWNER]            = {"RESET_OWNER", vu_on_reset_owner,
				0, 0, 0, 0, RING_NONE, false, ACK, RECONCILE_NOTHING, ANY,
				"stops all rings and forgets who enabled them; all else is kept"},
[VU_SET_MEM_TABLE]          = {"SET_MEM_TABLE", vu_on_set_mem_table,
				8, TABLE, 0, VU_FDS_MAX, RING_NONE, false, ACK, RECONCILE_ALL, ANY,
				"replaces the guest's memory table"},
[VU_SET_LOG_BASE]           = {"SET_LOG_BASE", vu_on_set_log_base,
				LOG, LOG, 1, 1, RING_NONE, false, LOG, RECONCILE_ALL, VU_PROTOCOL_F_LOG_SHMFD,
				"takes the dirty log of a migration, at any time also a larger one; answers the same"},
[VU_SET_LOG_FD]             = {"SET_LOG_FD", vu_on_set_log_fd,
				0, 0, 1, 1, RING_NONE, false, ACK, RECONCILE_NOTHING, ANY,
				"takes an eventfd, signalled every 100 ms while the dirty log is used"},
[VU_SET_VRING_NUM]          = {"SET_VRING_NUM", vu_on_set_vring_num,
				STATE, STATE, 0, 0, RING_IN_STATE, true, ACK, RECONCILE_RING, ANY,
				"sets a ring's size"},
[VU_SET_VRING_ADDR]         = {"SET_VRING_ADDR", vu_on_set_vring_addr,
				ADDR, ADDR, 0, 0, RING_IN_ADDR, false, ACK, RECONCILE_RING, ANY,
				"sets a ring's addresses"},
[VU_SET_VRING_BASE]         = {"SET_VRING_BASE", vu_on_set_vring_base,
				STATE, STATE, 0, 0, RING_IN_STATE, true, ACK, RECONCILE_NOTHING, ANY,
				"sets where a ring starts"},
[VU_GET_VRING_BASE]         = {"GET_VRING_BASE", vu_on_get_vring_base,
				STATE, STATE, 0, 0, RING_IN_STATE, false, STATE, RECONCILE_NOTHING, ANY,
				"stops a ring and answers where"},
[VU_SET_VRING_KICK]         = {"SET_VRING_KICK", vu_on_set_vring_kick,
				U64, U64, 0, 1, RING_IN_FD_WORD, false, ACK, RECONCILE_RING, ANY,
				"starts a ring; takes its kick eventfd"},
[VU_SET_VRING_CALL]         = {"SET_VRING_CALL", vu_on_set_vring_call,
				U64, U64, 0, 1, RING_IN_FD_WORD, false, ACK, RECONCILE_NOTHING, ANY,
				"takes the eventfd with which the guest is called"},
[VU_SET_VRING_ERR]          = {"SET_VRING_ERR", vu_on_set_vring_err,
				U64, U64, 0, 1, RING_IN_FD_WORD, false, ACK, RECONCILE_NOTHING, ANY,
				"takes the eventfd that tells of a parked ring"},
[VU_GET_PROTOCOL_FEATURES]  = {"GET_PROTOCOL_FEATURES", vu_on_get_protocol_features,
				0, 0, 0, 0, RING_NONE, false, U64, RECONCILE_NOTHING, ANY,
				"answers the protocol features offered"},
[VU_SET_PROTOCOL_FEATURES]  = {"SET_PROTOCOL_FEATURES", vu_on_set_protocol_features,
				U64, U64, 0, 0, RING_NONE, false, ACK, RECONCILE_ALL, ANY,
				"sets the protocol features"},
[VU_GET_QUEUE_NUM]          = {"GET_QUEUE_NUM", vu_on_get_queue_num,
				0, 0, 0, 0, RING_NONE, false, U64, RECONCILE_NOTHING, ANY,
				"answers the number of queue pairs"},
[VU_SET_VRING_ENABLE]       = {"SET_VRING_ENABLE", vu_on_set_vring_enable,
				STATE, STATE, 0, 0, RING_IN_STATE, false, ACK, RECONCILE_ALL, ANY,
				"switches a ring on or off"},
[VU_SEND_RARP]              = {"SEND_RARP", vu_on_send_rarp,
				U64, U64, 0, 0, RING_NONE, false, ACK, RECONCILE_NOTHING, VU_PROTOCOL_F_RARP,
				"announces the guest's address to the network, as if the guest had sent a RARP"},
[VU_NET_SET_MTU]            = {"NET_SET_MTU", vu_on_net_set_mtu,
				U64, U64, 0, 0, RING_NONE, false, ACK, RECONCILE_NOTHING, VU_PROTOCOL_F_NET_MTU,
				"tells the MTU the guest is told; 68 to 65535"},
[VU_SET_BACKEND_REQ_FD]     = {"SET_BACKEND_REQ_FD", vu_on_set_backend_req_fd,
				0, 0, 1, 1, RING_NONE, false, ACK, RECONCILE_ALL, VU_PROTOCOL_F_BACKEND_REQ,
				"takes the socket for requests of ours"},
[VU_IOTLB_MSG]              = {"IOTLB_MSG", vu_on_iotlb_msg,
				IOTLB, IOTLB, 0, 0, RING_NONE, false, ACKS, RECONCILE_ALL, ANY,
				"adds or removes a translation of the guest's IOMMU; always acknowledged"},
[VU_GET_CONFIG]             = {"GET_CONFIG", vu_on_get_config,
				12, CONFIG, 0, 0, RING_NONE, false, CONFIG, RECONCILE_NOTHING, VU_PROTOCOL_F_CONFIG,
				"answers a part of the configuration space; nothing for a part there is not"},
[VU_SET_CONFIG]             = {"SET_CONFIG", vu_on_set_config,
				12, CONFIG, 0, 0, RING_NONE, false, ACK, RECONCILE_NOTHING, VU_PROTOCOL_F_CONFIG,
				"changes the guest's address, for drivers older than virtio 1.0; nothing else may be written"},
[VU_GET_INFLIGHT_FD]        = {"GET_INFLIGHT_FD", vu_on_get_inflight_fd,
				KEPT, KEPT, 0, 0, RING_NONE, false, KEPT, RECONCILE_NOTHING, VU_PROTOCOL_F_INFLIGHT_SHMFD,
				"answers a new in-flight region, for the front-end to keep"},
[VU_SET_INFLIGHT_FD]        = {"SET_INFLIGHT_FD", vu_on_set_inflight_fd,
				KEPT, KEPT, 1, 1, RING_NONE, false, ACK, RECONCILE_NOTHING, VU_PROTOCOL_F_INFLIGHT_SHMFD,
				"takes the in-flight region: rings that start go on where it says a back-end died"},
[VU_RESET_DEVICE]           = {"RESET_DEVICE", vu_on_reset_device,
				0, 0, 0, 0, RING_NONE, false, ACK, RECONCILE_NOTHING, VU_PROTOCOL_F_RESET_DEVICE,
				"stops and disables all rings, forgets their addresses and the virtio features"},
[VU_POSTCOPY_ADVISE]        = {"POSTCOPY_ADVISE", vu_on_postcopy_advise,
				0, 0, 0, 0, RING_NONE, false, 0, RECONCILE_NOTHING, VU_PROTOCOL_F_PAGEFAULT,
				"answers a userfaultfd"},
[VU_POSTCOPY_LISTEN]        = {"POSTCOPY_LISTEN", vu_on_postcopy_listen,
				0, 0, 0, 0, RING_NONE, false, ACK, RECONCILE_NOTHING, VU_PROTOCOL_F_PAGEFAULT,
				"memory that is shared from now on comes page by page: answers then say where it is mapped"},
[VU_POSTCOPY_END]           = {"POSTCOPY_END", vu_on_postcopy_end,
				0, 0, 0, 0, RING_NONE, false, U64, RECONCILE_NOTHING, VU_PROTOCOL_F_PAGEFAULT,
				"all pages have come"},
[VU_GET_MAX_MEM_SLOTS]      = {"GET_MAX_MEM_SLOTS", vu_on_get_max_mem_slots,
				0, 0, 0, 0, RING_NONE, false, U64, RECONCILE_NOTHING, SLOTS,
				"answers how many regions there can be, always the same"},
[VU_ADD_MEM_REG]            = {"ADD_MEM_REG", vu_on_add_mem_reg,
				SLOT_MIN, SLOT, 1, 1, RING_NONE, false, ACK, RECONCILE_ALL, SLOTS,
				"adds a region to the guest's memory table"},
[VU_REM_MEM_REG]            = {"REM_MEM_REG", vu_on_rem_mem_reg,
				SLOT_MIN, SLOT, 0, 1, RING_NONE, false, ACK, RECONCILE_ALL, SLOTS,
				"takes a region out of the guest's memory table"},
[VU_SET_STATUS]             = {"SET_STATUS", vu_on_set_status,
				U64, U64, 0, 0, RING_NONE, false, ACK, RECONCILE_NOTHING, VU_PROTOCOL_F_STATUS,
				"keeps the device status; without good features not FEATURES_OK; 0 stops all rings"},
[VU_GET_STATUS]             = {"GET_STATUS", vu_on_get_status,
				0, 0, 0, 0, RING_NONE, false, U64, RECONCILE_NOTHING, VU_PROTOCOL_F_STATUS,
				"answers the device status"},
};
/* clang-format on */

/* ---- the gate ---- */

static const struct request *find(uint32_t id)
{
	return id < VU_REQUEST_MAX && requests[id].handle ? &requests[id] : NULL;
}

const char *vu_message_name(uint32_t id)
{
	const struct request *r = find(id);

	return r ? r->name : "unknown request";
}

bool vu_request_info(uint32_t id, struct vu_request_info *info)
{
	const struct request *r = find(id);

	if (r)
		*info = (struct vu_request_info){r->name, r->does, r->needs, r->reply != ACK};
	return r != NULL;
}

static int find_ring(struct vu_context *c, const struct request *r)
{
	const union vu_payload *p = &c->msg->payload;
	uint64_t ring = r->ring == RING_IN_STATE  ? p->state.index
			: r->ring == RING_IN_ADDR ? p->addr.index
						  : p->u64 & ~VU_RING_NO_FD;

	if (ring >= c->dev->nrings)
		return vu_refuse(c->dev, VU_TROUBLE_QUEUES,
			"%s for ring %llu, but this port has %u queue pairs", r->name,
			(unsigned long long)ring, c->dev->nrings / 2);
	c->ring = (unsigned)ring;
	c->q = &c->dev->queue[ring];
	if (r->ring == RING_IN_FD_WORD && !(p->u64 & VU_RING_NO_FD) != (c->nfds == 1))
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "%s for ring %u with %u descriptors",
			r->name, c->ring, c->nfds);
	/* Kicked is not yet running: what it waits for may still come, in any order. */
	if (r->ring_stopped && c->q->positioned)
		return vu_refuse(
			c->dev, VU_TROUBLE_NONE, "%s while ring %u is running", r->name, c->ring);
	return 0;
}

/* In post-copy eight bytes by themselves are the acknowledgement of an answer. */
static bool is_ack(const struct vu_context *c)
{
	uint32_t request = c->msg->header.request;

	return (request == VU_SET_MEM_TABLE || request == VU_ADD_MEM_REG) && vu_postcopy_is_ack(c);
}

/* May this message reach its handler? */
static int admit(struct vu_context *c, const struct request *r)
{
	const struct vu_header *h = &c->msg->header;

	if (!r)
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "request %u is unknown", h->request);
	if (is_ack(c))
		return 0;
	if (h->size < r->size_min || h->size > r->size_max)
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "%s with %u bytes", r->name, h->size);
	if (c->nfds < r->fds_min || c->nfds > r->fds_max)
		return vu_refuse(
			c->dev, VU_TROUBLE_NONE, "%s with %u file descriptors", r->name, c->nfds);
	if (r->needs != ANY && !vu_has_protocol_feature(c->dev, (unsigned)r->needs))
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "%s without its protocol feature %d",
			r->name, r->needs);
	return r->ring == RING_NONE ? 0 : find_ring(c, r);
}

static int consequences(struct vu_context *c, const struct request *r)
{
	switch (r->reconcile) {
	case RECONCILE_RING:
		return vu_reconcile_ring(c->dev, c->ring);
	case RECONCILE_ALL:
		return vu_reconcile(c->dev);
	default:
		return 0;
	}
}

bool vu_message_handle(struct vu_device *dev, struct vu_message *msg, int *fds, unsigned nfds)
{
	const struct request *r = find(msg->header.request);
	struct vu_message *out = &dev->conn.out;
	struct vu_context c = {.dev = dev,
		.msg = msg,
		.fds = fds,
		.nfds = nfds,
		.reply = &out->payload,
		.reply_fd = -1};
	int err;

	memset(out, 0, sizeof(*out));
	out->header.request = msg->header.request;
	vu_log(dev, VU_LOG_DEBUG, "%s", vu_message_name(msg->header.request));
	err = admit(&c, r);
	c.replies = r && r->reply >= 0;
	if (c.replies)
		c.reply_size = (uint32_t)r->reply;
	if (!err)
		err = r->handle(&c);
	if (!err)
		err = consequences(&c, r);
	if (c.replies && !err)
		return vu_conn_reply(dev, c.reply_size, c.reply_fd) == 0;
	vu_close_fd(&c.reply_fd);
	if (err == -ETIMEDOUT) { /* neither done nor refused */
		vu_refuse(dev, VU_TROUBLE_NONE, "an lcore does not leave a ring");
		return false;
	}
	if (!c.replies && ((r && r->reply == ACKS) || (msg->header.flags & VU_FLAG_NEED_ACK))) {
		out->payload.u64 = err ? 1 : 0;
		return vu_conn_reply(dev, sizeof(uint64_t), -1) == 0;
	}
	return err == 0;
}

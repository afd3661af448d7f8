/* SPDX-License-Identifier: BSD-3-Clause */
/* Every request: what it must look like, what it does, what follows from it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <linux/virtio_config.h>

#include "vu_device.h"

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
 * front-end would go on believing something that is not so.
 */

/* Where a request names a ring. */
enum ring_at {
	RING_NONE,
	RING_IN_STATE,
	RING_IN_ADDR,
	RING_IN_FD_WORD
};

enum reply {
	REPLY_ACK_ONLY,
	REPLY_U64,
	REPLY_STATE
};

enum reconcile {
	RECONCILE_NOTHING,
	RECONCILE_RING,
	RECONCILE_ALL
};

struct context {
	struct vu_device *dev;
	const struct vu_message *msg;
	int *fds;
	unsigned nfds;
	unsigned ring; /* valid if the row has a ring_at */
	struct vu_queue *q;
	union vu_payload *reply;
};

struct request {
	const char *name;
	int (*handle)(struct context *);
	uint16_t size_min, size_max; /* payload, bytes */
	uint8_t fds_min, fds_max;
	enum ring_at ring;
	bool ring_stopped; /* only while we have no position in its ring */
	enum reply reply;
	enum reconcile reconcile;
};

/* ---- device ---- */

static int get_features(struct context *c)
{
	c->reply->u64 = c->dev->offered;
	return 0;
}

static bool any_started(const struct vu_device *dev)
{
	for (unsigned i = 0; i < dev->nrings; i++)
		if (dev->queue[i].started)
			return true;
	return false;
}

/* "Ring states": without the protocol features there is no SET_VRING_ENABLE, all rings are
 * enabled; with them nothing changes here, because SET_VRING_ENABLE may have come first. */
static int set_features(struct context *c)
{
	struct vu_device *dev = c->dev;
	uint64_t features = c->msg->payload.u64;

	if (features & ~dev->offered)
		return vu_refuse(dev, VU_TROUBLE_FEATURES,
			"the front-end wants features 0x%llx that are not offered",
			(unsigned long long)(features & ~dev->offered));
	if (dev->features_set && features != dev->features && any_started(dev))
		return vu_refuse(dev, VU_TROUBLE_FEATURES,
			"the front-end changes features while a ring is running");
	dev->features = features;
	dev->features_set = true;
	if (!(features & (1ull << VU_F_PROTOCOL_FEATURES)))
		for (unsigned i = 0; i < dev->nrings; i++)
			dev->queue[i].enable = VU_ENABLE_ON;
	return 0;
}

static int set_owner(struct context *c)
{
	(void)c;
	return 0;
}

/* Both texts: the one of 2015 ("the front-end will usually close the connection") and
 * today's ("deprecated: ignore, or disable all rings"). Everything else is kept. */
static int reset_owner(struct context *c)
{
	vu_device_reset(c->dev, false);
	return 0;
}

static uint64_t protocol_features_offered(void)
{
	return 1ull << VU_PROTOCOL_F_MQ | 1ull << VU_PROTOCOL_F_REPLY_ACK;
}

static int get_protocol_features(struct context *c)
{
	c->reply->u64 = protocol_features_offered();
	return 0;
}

static int set_protocol_features(struct context *c)
{
	uint64_t features = c->msg->payload.u64;

	if (features & ~protocol_features_offered())
		return vu_refuse(c->dev, VU_TROUBLE_FEATURES,
			"the front-end wants protocol features 0x%llx that are not offered",
			(unsigned long long)(features & ~protocol_features_offered()));
	c->dev->protocol_features = features;
	return 0;
}

/* QEMU compares this with its queue pairs. */
static int get_queue_num(struct context *c)
{
	c->reply->u64 = c->dev->nrings / 2;
	return 0;
}

/* ---- memory ---- */

static int set_mem_table(struct context *c)
{
	const struct vu_mem_table *t = &c->msg->payload.mem;
	struct virtq_mem_req reqs[VU_MEM_REGIONS_MAX];
	struct vu_device *dev = c->dev;
	struct virtq_mem *mem, *old = dev->mem;
	char why[160];

	if (t->n == 0 || t->n > VU_MEM_REGIONS_MAX || t->n != c->nfds ||
		c->msg->header.size != 8 + t->n * sizeof(t->region[0]))
		return vu_refuse(dev, VU_TROUBLE_MEMORY_REJECTED,
			"a memory table of %u regions came with %u descriptors in %u bytes", t->n,
			c->nfds, c->msg->header.size);
	for (uint32_t i = 0; i < t->n; i++)
		reqs[i] = (struct virtq_mem_req){t->region[i].gpa, t->region[i].size,
			t->region[i].uva, t->region[i].mmap_offset, c->fds[i]};
	if (virtq_mem_create(reqs, t->n, old, &mem, why, sizeof(why)) != 0)
		return vu_refuse(dev, VU_TROUBLE_MEMORY_REJECTED, "%s", why);
	/* Views hold their own references; the old mappings go when the last view does. */
	dev->mem = mem;
	virtq_mem_put(old);
	return 0;
}

/* ---- rings ---- */

static bool known_split(const struct vu_device *dev)
{
	return dev->features_set && !vu_has_feature(dev, VIRTIO_F_RING_PACKED);
}

static int set_vring_num(struct context *c)
{
	uint32_t num = c->msg->payload.state.num;

	if (num == 0 || num > VIRTQ_NUM_MAX)
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "ring %u: %u entries: a ring has 1 to %u",
			c->ring, num, VIRTQ_NUM_MAX);
	if (known_split(c->dev) && (num & (num - 1)) != 0)
		return vu_refuse(c->dev, VU_TROUBLE_NONE,
			"ring %u: %u entries: a split ring has a power of two", c->ring, num);
	c->q->num = (uint16_t)num;
	return 0;
}

static int set_vring_addr(struct context *c)
{
	const struct vu_ring_addr *a = &c->msg->payload.addr;

	if (a->desc % 16 != 0 || a->avail % 2 != 0 || a->used % 4 != 0)
		return vu_refuse(c->dev, VU_TROUBLE_RING_ADDRESSES,
			"ring %u: its addresses are not aligned", c->ring);
	c->q->addr = *a;
	c->q->have_addr = true;
	return 0;
}

static int set_vring_base(struct context *c)
{
	if (known_split(c->dev) && c->msg->payload.state.num > UINT16_MAX)
		return vu_refuse(c->dev, VU_TROUBLE_NONE,
			"ring %u: base %u is outside a split ring's 0 to 65535", c->ring,
			c->msg->payload.state.num);
	c->q->base = c->msg->payload.state.num;
	return 0;
}

/* Stops this ring and no other; asking again gives the same answer. While an lcore is stuck
 * inside there is no answer: the ring may still move. */
static int get_vring_base(struct context *c)
{
	int err;

	c->q->started = false;
	err = vu_reconcile_ring(c->dev, c->ring);
	if (err || c->q->positioned)
		return vu_refuse(
			c->dev, VU_TROUBLE_NONE, "ring %u: an lcore does not leave it", c->ring);
	vu_close_fd(&c->q->kick_fd);
	c->reply->state = (struct vu_ring_state){c->ring, c->q->base};
	return 0;
}

/* The gate made sure that fds and the no-fd bit agree. */
static int take_fd(struct context *c)
{
	int fd = c->nfds ? c->fds[0] : -1;

	if (c->nfds)
		c->fds[0] = -1;
	return fd;
}

/* An lcore will write to it: it must be an eventfd (an anonymous inode), not a file on a
 * slow disk, and must not block. */
static int take_eventfd(struct context *c, int *fd)
{
	struct stat st;

	if (c->nfds && (fstat(c->fds[0], &st) < 0 || (st.st_mode & S_IFMT) != 0 ||
			       fcntl(c->fds[0], F_SETFL, O_RDWR | O_NONBLOCK) < 0))
		return vu_refuse(c->dev, VU_TROUBLE_NONE,
			"ring %u: its descriptor is not an eventfd", c->ring);
	*fd = take_fd(c);
	return 0;
}

/* We poll, so this message is the kick: waiting for a real one would lose receive rings,
 * which a Linux guest kicks once and which nobody kicks after a reconnection. */
static int set_vring_kick(struct context *c)
{
	vu_close_fd(&c->q->kick_fd);
	c->q->kick_fd = take_fd(c);
	c->q->started = true;
	return 0;
}

/* The lcore must be off the old descriptor before it is closed. */
static int set_vring_call(struct context *c)
{
	int old = c->q->call_fd, err;

	err = take_eventfd(c, &c->q->call_fd);
	if (err)
		return err;
	err = vu_reconcile_ring(c->dev, c->ring);
	vu_close_call_fd(c->q, &old);
	return err;
}

static int set_vring_err(struct context *c)
{
	int old = c->q->err_fd, err;

	err = take_eventfd(c, &c->q->err_fd);
	if (!err)
		vu_close_fd(&old);
	return err;
}

static int set_vring_enable(struct context *c)
{
	uint32_t num = c->msg->payload.state.num;

	if (num > 1)
		return vu_refuse(
			c->dev, VU_TROUBLE_NONE, "ring %u: enable is 0 or 1, not %u", c->ring, num);
	c->q->enable = num ? VU_ENABLE_ON : VU_ENABLE_OFF;
	if (c->ring & 1)
		c->dev->odd_enable_seen = true;
	return 0;
}

/* ---- the table ---- */

#define U64   sizeof(uint64_t), sizeof(uint64_t)
#define STATE sizeof(struct vu_ring_state), sizeof(struct vu_ring_state)
#define ADDR  sizeof(struct vu_ring_addr), sizeof(struct vu_ring_addr)
#define TABLE 8, sizeof(struct vu_mem_table)
#define EMPTY 0, 0

/* clang-format off */
static const struct request requests[VU_REQUEST_MAX] = {
/*                              name, handler, payload, fds min max, ring, only stopped, reply, then */
[VU_GET_FEATURES]           = {"GET_FEATURES", get_features, EMPTY, 0, 0, RING_NONE, false, REPLY_U64, RECONCILE_NOTHING},
[VU_SET_FEATURES]           = {"SET_FEATURES", set_features, U64, 0, 0, RING_NONE, false, REPLY_ACK_ONLY, RECONCILE_ALL},
[VU_SET_OWNER]              = {"SET_OWNER", set_owner, EMPTY, 0, 0, RING_NONE, false, REPLY_ACK_ONLY, RECONCILE_NOTHING},
[VU_RESET_OWNER]            = {"RESET_OWNER", reset_owner, EMPTY, 0, 0, RING_NONE, false, REPLY_ACK_ONLY, RECONCILE_NOTHING},
[VU_SET_MEM_TABLE]          = {"SET_MEM_TABLE", set_mem_table, TABLE, 0, VU_FDS_MAX, RING_NONE, false, REPLY_ACK_ONLY, RECONCILE_ALL},
[VU_SET_VRING_NUM]          = {"SET_VRING_NUM", set_vring_num, STATE, 0, 0, RING_IN_STATE, true, REPLY_ACK_ONLY, RECONCILE_RING},
[VU_SET_VRING_ADDR]         = {"SET_VRING_ADDR", set_vring_addr, ADDR, 0, 0, RING_IN_ADDR, false, REPLY_ACK_ONLY, RECONCILE_RING},
[VU_SET_VRING_BASE]         = {"SET_VRING_BASE", set_vring_base, STATE, 0, 0, RING_IN_STATE, true, REPLY_ACK_ONLY, RECONCILE_NOTHING},
[VU_GET_VRING_BASE]         = {"GET_VRING_BASE", get_vring_base, STATE, 0, 0, RING_IN_STATE, false, REPLY_STATE, RECONCILE_NOTHING},
[VU_SET_VRING_KICK]         = {"SET_VRING_KICK", set_vring_kick, U64, 0, 1, RING_IN_FD_WORD, false, REPLY_ACK_ONLY, RECONCILE_RING},
[VU_SET_VRING_CALL]         = {"SET_VRING_CALL", set_vring_call, U64, 0, 1, RING_IN_FD_WORD, false, REPLY_ACK_ONLY, RECONCILE_NOTHING},
[VU_SET_VRING_ERR]          = {"SET_VRING_ERR", set_vring_err, U64, 0, 1, RING_IN_FD_WORD, false, REPLY_ACK_ONLY, RECONCILE_NOTHING},
[VU_GET_PROTOCOL_FEATURES]  = {"GET_PROTOCOL_FEATURES", get_protocol_features, EMPTY, 0, 0, RING_NONE, false, REPLY_U64, RECONCILE_NOTHING},
[VU_SET_PROTOCOL_FEATURES]  = {"SET_PROTOCOL_FEATURES", set_protocol_features, U64, 0, 0, RING_NONE, false, REPLY_ACK_ONLY, RECONCILE_ALL},
[VU_GET_QUEUE_NUM]          = {"GET_QUEUE_NUM", get_queue_num, EMPTY, 0, 0, RING_NONE, false, REPLY_U64, RECONCILE_NOTHING},
[VU_SET_VRING_ENABLE]       = {"SET_VRING_ENABLE", set_vring_enable, STATE, 0, 0, RING_IN_STATE, false, REPLY_ACK_ONLY, RECONCILE_ALL},
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

static int find_ring(struct context *c, const struct request *r)
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

/* May this message reach its handler? */
static int admit(struct context *c, const struct request *r)
{
	const struct vu_header *h = &c->msg->header;

	if (!r)
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "request %u is unknown", h->request);
	if (h->size < r->size_min || h->size > r->size_max)
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "%s with %u bytes", r->name, h->size);
	if (c->nfds < r->fds_min || c->nfds > r->fds_max)
		return vu_refuse(
			c->dev, VU_TROUBLE_NONE, "%s with %u file descriptors", r->name, c->nfds);
	return r->ring == RING_NONE ? 0 : find_ring(c, r);
}

static int consequences(struct context *c, const struct request *r)
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
	struct context c = {
		.dev = dev, .msg = msg, .fds = fds, .nfds = nfds, .reply = &out->payload};
	bool replies = r && r->reply != REPLY_ACK_ONLY;
	int err;

	memset(out, 0, sizeof(*out));
	out->header.request = msg->header.request;
	vu_log(dev, VU_LOG_DEBUG, "%s", vu_message_name(msg->header.request));
	err = admit(&c, r);
	if (!err)
		err = r->handle(&c);
	if (!err)
		err = consequences(&c, r);
	if (err == -ETIMEDOUT)
		vu_refuse(dev, VU_TROUBLE_NONE, "an lcore does not leave a ring");
	if (replies && !err)
		return vu_conn_reply(dev, r->reply == REPLY_U64
						  ? sizeof(uint64_t)
						  : sizeof(struct vu_ring_state)) == 0;
	if (!replies && (msg->header.flags & VU_FLAG_NEED_ACK)) {
		out->payload.u64 = err ? 1 : 0;
		return vu_conn_reply(dev, sizeof(uint64_t)) == 0;
	}
	return err == 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Freezing a device, writing it down, and reading it in another process. */
#include "vu_handover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>

#include "virtq_inflight.h"
#include "virtq_log.h"
#include "vu_backend.h"
#include "vu_device.h"
#include "vu_message.h"
#include "vu_record.h"
#include "vu_state.h"

/*
 * Theory of operation
 *
 * There is one description of the record, the functions below named *_fields(). They are walked with
 * a cursor that writes, or reads: so what one build writes is what the same build reads, and a
 * field that is added is added once. VERSION changes with every change of them.
 *
 * Reading fills in a dormant device, which has no events and no views, and so does nothing. What
 * is wrong shows in the cursor, at the end; then everything read so far is forgotten the way it is
 * when a connection ends.
 *
 * A ring that was running gets its position as a base, and is started with it like one that a
 * front-end starts. A ring that was parked stays so, and so keeps its position.
 */

#define MAGIC 0x7265766f65756c73ull
#ifndef VERSION
#define VERSION 1u
#endif
#define BIT(n) (1ull << (n))

static void check_eventfd(struct vu_cursor *c, int fd)
{
	if (c->reading && fd >= 0 && !vu_is_eventfd(fd))
		vu_record_wrong(c, "a descriptor is not an eventfd");
}

static bool has_option(int fd, int option, int value)
{
	socklen_t len = sizeof(int);
	int is;

	return getsockopt(fd, SOL_SOCKET, option, &is, &len) == 0 && is == value;
}

/* ---- what was offered, and agreed ---- */

static uint64_t possible_features(void)
{
	return vu_possible_features() | BIT(VU_F_PROTOCOL_FEATURES) | BIT(VIRTIO_NET_F_MAC);
}

static uint64_t possible_protocol_features(void)
{
	return vu_default_protocol_features() | BIT(VU_PROTOCOL_F_PAGEFAULT) |
	       BIT(VU_PROTOCOL_F_CONFIG);
}

int vu_handover_check(uint64_t features, uint64_t protocol_features, char *why, size_t why_len)
{
	uint64_t missing = features & ~possible_features();
	uint64_t missing_protocol = protocol_features & ~possible_protocol_features();
	char names[128], protocol_names[128];

	if (!missing && !missing_protocol)
		return 0;
	snprintf(why, why_len, "this build lacks features that were offered: %s%s%s",
		vu_feature_names(missing, names, sizeof(names)),
		missing && missing_protocol ? " " : "",
		vu_protocol_feature_names(
			missing_protocol, protocol_names, sizeof(protocol_names)));
	return -ENOTSUP;
}

/* Its configuration, which the reader has already, must be the same. */
static void same(struct vu_cursor *c, uint64_t ours, const char *wrong)
{
	uint64_t v = ours;

	vu_record_number(c, &v, UINT64_MAX);
	if (v != ours)
		vu_record_wrong(c, wrong);
}

static void path_fields(struct vu_cursor *c, struct vu_device *dev)
{
	char path[sizeof(dev->path)];

	memcpy(path, dev->path, sizeof(path));
	vu_record_bytes(c, path, sizeof(path));
	if (memcmp(path, dev->path, sizeof(path)) != 0)
		vu_record_wrong(c, "it is of another socket");
}

static void offer_fields(struct vu_cursor *c, struct vu_device *dev)
{
	const uint64_t opted = BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(VIRTIO_NET_F_MAC);
	uint64_t before = dev->offered;

	same(c, MAGIC, "it is no record");
	same(c, VERSION, "it is of another version");
	same(c, dev->nrings, "it has another number of queues");
	same(c, dev->listen, "one listens and the other connects");
	path_fields(c, dev);
	VU_RECORD(c, dev->offered, UINT64_MAX);
	VU_RECORD(c, dev->protocol_offered, UINT64_MAX);
	if ((dev->offered ^ before) & opted)
		vu_record_wrong(c, "it is configured differently");
	VU_RECORD(c, dev->features_set, 1);
	VU_RECORD(c, dev->features_refused, 1);
	VU_RECORD(c, dev->features, UINT64_MAX);
	VU_RECORD(c, dev->protocol_features, UINT64_MAX);
	if ((dev->features & ~dev->offered) || (dev->protocol_features & ~dev->protocol_offered))
		vu_record_wrong(c, "features were accepted that were not offered");
	VU_RECORD(c, dev->status, UINT8_MAX);
	VU_RECORD(c, dev->mtu, UINT16_MAX);
	vu_record_bytes(c, dev->mac, sizeof(dev->mac));
	VU_RECORD(c, dev->odd_enable_seen, 1);
	VU_RECORD(c, dev->connections, UINT64_MAX);
}

/* ---- sockets ---- */

static void listen_fields(struct vu_cursor *c, struct vu_device *dev)
{
	vu_record_fd(c, &dev->listen_fd);
	VU_RECORD(c, dev->listen_file.dev, UINT64_MAX);
	VU_RECORD(c, dev->listen_file.ino, UINT64_MAX);
	if (c->reading && (dev->listen_fd >= 0) != dev->listen)
		vu_record_wrong(c, "its listening socket is missing");
	if (c->reading && dev->listen_fd >= 0 && !has_option(dev->listen_fd, SO_ACCEPTCONN, 1))
		vu_record_wrong(c, "its listening socket does not listen");
}

static void conn_fields(struct vu_cursor *c, struct vu_device *dev)
{
	const size_t most = sizeof(struct vu_header) + sizeof(union vu_payload);
	struct vu_conn *conn = &dev->conn;

	if (c->reading && (!has_option(conn->fd, SO_TYPE, SOCK_STREAM) ||
				  !has_option(conn->fd, SO_ACCEPTCONN, 0)))
		vu_record_wrong(c, "its connection is no stream socket");
	VU_RECORD(c, conn->in_len, most);
	vu_record_bytes(c, &conn->in.header, conn->in_len);
	VU_RECORD(c, conn->nfds, VU_FDS_MAX);
	for (unsigned i = 0; i < conn->nfds; i++)
		vu_record_fd(c, &conn->fds[i]);
	VU_RECORD(c, conn->out_len, most);
	VU_RECORD(c, conn->out_done, most);
	vu_record_bytes(c, &conn->out.header, conn->out_len);
	vu_record_fd(c, &conn->out_fd);
	if (c->reading && !c->wrong)
		vu_record_wrong(c, vu_conn_adopt(dev));
}

/* ---- memory ---- */

/* Without one this hand-over would be the last. */
static void must_be_kept(struct vu_cursor *c, int fd)
{
	if (fd < 0)
		vu_record_wrong(c, "a descriptor of its memory could not be kept: raise the limit "
				   "(ulimit -n)");
}

static void share_fields(struct vu_cursor *c, struct virtq_share *share)
{
	if (!c->reading)
		must_be_kept(c, share->fd);
	VU_RECORD(c, share->offset, INT64_MAX);
	VU_RECORD(c, share->size, INT64_MAX);
	vu_record_fd(c, &share->fd);
}

static void region_fields(struct vu_cursor *c, struct virtq_mem_req *req)
{
	struct virtq_share share = {req->fd, req->mmap_offset, req->size};

	VU_RECORD(c, req->gpa, UINT64_MAX);
	VU_RECORD(c, req->uva, UINT64_MAX);
	share_fields(c, &share);
	req->mmap_offset = share.offset;
	req->size = share.size;
	req->fd = share.fd;
}

static void make_table(
	struct vu_cursor *c, struct vu_device *dev, struct virtq_mem_req *reqs, uint32_t n)
{
	if (!c->wrong && virtq_mem_create(reqs, n, NULL, &dev->mem, dev->last_error,
				 sizeof(dev->last_error)) != 0)
		vu_record_wrong(c, dev->last_error);
	for (uint32_t i = 0; i < n; i++) {
		struct virtq_region_info info;

		if (!c->wrong && virtq_mem_region(dev->mem, i, &info))
			must_be_kept(c, info.share.fd);
		vu_close_fd(&reqs[i].fd);
	}
}

static void table_fields(struct vu_cursor *c, struct vu_device *dev)
{
	uint32_t n = dev->mem ? dev->mem->n : 0;
	struct virtq_mem_req *reqs;

	VU_RECORD(c, n, VIRTQ_MEM_SLOTS);
	reqs = calloc(n + 1, sizeof(*reqs));
	if (!reqs) {
		vu_record_wrong(c, "out of memory");
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		struct virtq_region_info info;

		if (!c->reading && virtq_mem_region(dev->mem, i, &info))
			reqs[i] = (struct virtq_mem_req){
				info.gpa, info.size, info.uva, info.share.offset, info.share.fd};
		region_fields(c, &reqs[i]);
	}
	if (c->reading && n > 0)
		make_table(c, dev, reqs, n);
	free(reqs);
}

static void again_fields(struct vu_cursor *c, struct vu_device *dev)
{
	VU_RECORD(c, dev->n_mem_again, VIRTQ_MEM_SLOTS);
	if (c->reading && dev->n_mem_again > 0)
		dev->mem_again = calloc(dev->n_mem_again, sizeof(dev->mem_again[0]));
	if (!dev->mem_again && dev->n_mem_again > 0) {
		dev->n_mem_again = 0;
		vu_record_wrong(c, "out of memory");
	}
	for (unsigned i = 0; i < dev->n_mem_again; i++) {
		VU_RECORD(c, dev->mem_again[i].gpa, UINT64_MAX);
		VU_RECORD(c, dev->mem_again[i].size, UINT64_MAX);
		VU_RECORD(c, dev->mem_again[i].uva, UINT64_MAX);
		VU_RECORD(c, dev->mem_again[i].times, VU_QUEUE_PAIRS_MAX);
		if (dev->mem_again[i].times == 0)
			vu_record_wrong(c, "a region was added again, but never");
	}
}

static void log_fields(struct vu_cursor *c, struct vu_device *dev)
{
	struct virtq_share share = {.fd = -1};
	bool there = dev->log;

	VU_RECORD(c, there, 1);
	if (there && !c->reading)
		share = virtq_log_share(dev->log);
	if (there)
		share_fields(c, &share);
	if (there && c->reading && !c->wrong &&
		virtq_log_create(share.fd, share.size, share.offset, &dev->log, dev->last_error,
			sizeof(dev->last_error)) != 0)
		vu_record_wrong(c, dev->last_error);
	if (c->reading && dev->log)
		must_be_kept(c, virtq_log_share(dev->log).fd);
	if (c->reading)
		vu_close_fd(&share.fd);
	vu_record_fd(c, &dev->log_fd);
	check_eventfd(c, dev->log_fd);
}

static void inflight_fields(struct vu_cursor *c, struct vu_device *dev)
{
	bool there = dev->inflight, packed = vu_has_feature(dev, VIRTIO_F_RING_PACKED);
	struct virtq_share share = {.fd = -1};
	uint16_t rings = 0, num = 0;

	VU_RECORD(c, there, 1);
	if (!there)
		return;
	if (!c->reading)
		share = virtq_inflight_share(dev->inflight, &rings, &num);
	share_fields(c, &share);
	VU_RECORD(c, rings, dev->nrings);
	VU_RECORD(c, num, VIRTQ_NUM_MAX);
	if (!c->reading)
		return;
	if (!c->wrong && virtq_inflight_map(share.fd, share.size, share.offset, rings, num, packed,
				 &dev->inflight, dev->last_error, sizeof(dev->last_error)) != 0)
		vu_record_wrong(c, dev->last_error);
	vu_close_fd(&share.fd);
}

/* ---- rings ---- */

#define COUNTERS (sizeof(struct virtq_stats) / sizeof(uint64_t))

/* Of a build that counts other things nothing is taken over. */
static void stats_fields(struct vu_cursor *c, struct virtq_stats *stats)
{
	uint64_t *counter = (uint64_t *)stats, n = COUNTERS, unknown = 0;

	VU_RECORD(c, n, 4096);
	for (uint64_t i = 0; i < n; i++)
		VU_RECORD(c, *(n == COUNTERS ? &counter[i] : &unknown), UINT64_MAX);
}

static void fd_fields(struct vu_cursor *c, struct vu_queue *q)
{
	int kick = q->kick_fd;

	vu_record_fd(c, &kick);
	vu_record_fd(c, &q->call_fd);
	vu_record_fd(c, &q->err_fd);
	check_eventfd(c, kick);
	check_eventfd(c, q->call_fd);
	check_eventfd(c, q->err_fd);
	if (c->reading)
		vu_kick_set(q, kick);
	VU_RECORD(c, q->own_kicks, UINT32_MAX);
}

/* A parked ring keeps its position; any other is given one when it starts. */
static void position_fields(struct vu_cursor *c, struct vu_device *dev, struct vu_queue *q)
{
	bool packed = vu_has_feature(dev, VIRTIO_F_RING_PACKED);

	if (q->positioned)
		q->base = virtq_position(q->vq, packed);
	VU_RECORD(c, q->base, UINT32_MAX);
	VU_RECORD(c, q->fault, VIRTQ_FAULT_COUNT - 1);
	VU_RECORD(c, q->vq->announce, UINT64_MAX);
	if (!c->reading || !q->fault)
		return;
	q->positioned = q->started;
	q->vq->avail = (uint16_t)q->base;
	q->vq->used = (uint16_t)(q->base >> 16);
}

static void ring_fields(struct vu_cursor *c, struct vu_device *dev, struct vu_queue *q)
{
	VU_RECORD(c, q->num, VIRTQ_NUM_MAX);
	VU_RECORD(c, q->started, 1);
	VU_RECORD(c, q->have_addr, 1);
	VU_RECORD(c, q->enable, VU_ENABLE_OFF);
	VU_RECORD(c, q->addr.index, UINT32_MAX);
	VU_RECORD(c, q->addr.flags, UINT32_MAX);
	VU_RECORD(c, q->addr.desc, UINT64_MAX);
	VU_RECORD(c, q->addr.used, UINT64_MAX);
	VU_RECORD(c, q->addr.avail, UINT64_MAX);
	VU_RECORD(c, q->addr.log, UINT64_MAX);
	fd_fields(c, q);
	position_fields(c, dev, q);
	stats_fields(c, &q->vq->stats);
}

/* ---- all of it ---- */

/* Without a front-end there is nothing but what was offered, and counters. */
static void device_fields(struct vu_cursor *c, struct vu_device *dev)
{
	offer_fields(c, dev);
	listen_fields(c, dev);
	vu_record_fd(c, &dev->conn.fd);
	if (dev->conn.fd >= 0) {
		conn_fields(c, dev);
		table_fields(c, dev);
		again_fields(c, dev);
		log_fields(c, dev);
		inflight_fields(c, dev);
		vu_backend_fields(c, dev);
	}
	for (unsigned i = 0; i < dev->nrings; i++) {
		if (dev->conn.fd >= 0)
			ring_fields(c, dev, &dev->queue[i]);
		else
			stats_fields(c, &dev->queue[i].vq->stats);
	}
}

int vu_device_record(struct vu_device *dev, struct vu_record *out, char *why, size_t why_len)
{
	struct vu_cursor c = {.rec = out};

	*out = (struct vu_record){0};
	device_fields(&c, dev);
	if (!c.wrong && (out->len > VU_RECORD_MAX || out->nfds > VU_RECORD_FDS_MAX))
		vu_record_wrong(&c, "it is larger than any");
	if (!c.wrong)
		return 0;
	snprintf(why, why_len, "%s: %s", dev->path, c.wrong);
	return out->fds_room && out->room ? -EMFILE : -ENOMEM;
}

/* As if nothing had been read. */
static void forget(struct vu_device *dev, uint64_t offered, uint64_t protocol_offered)
{
	vu_conn_drop(dev);
	vu_close_fd(&dev->listen_fd);
	vu_socket_close(dev);
	for (unsigned i = 0; i < dev->nrings; i++)
		memset(&dev->queue[i].vq->stats, 0, sizeof(dev->queue[i].vq->stats));
	dev->offered = offered;
	dev->protocol_offered = protocol_offered;
	dev->connections = 0;
	dev->last_error[0] = '\0';
}

int vu_device_restore(struct vu_device *dev, struct vu_record *rec, char *why, size_t why_len)
{
	uint64_t offered = dev->offered, protocol_offered = dev->protocol_offered;
	struct vu_cursor c = {.rec = rec, .reading = true};
	char odd[200] = "";
	int err = -EINVAL;

	if (!dev->frozen || dev->conn.fd >= 0 || dev->listen_fd >= 0)
		vu_record_wrong(&c, "the port is not waiting for one");
	else
		device_fields(&c, dev);
	if (!c.wrong && (c.at != rec->len || c.fd_at != rec->nfds))
		vu_record_wrong(&c, "there is more than belongs to it");
	vu_close_fds(rec->fds, rec->nfds);
	if (!c.wrong)
		err = vu_handover_check(dev->offered, dev->protocol_offered, odd, sizeof(odd));
	if (!c.wrong && !err)
		err = vu_socket_adopt(dev, odd, sizeof(odd));
	if (!err)
		return 0;
	snprintf(why, why_len, "%s: %s%s", dev->path, c.wrong ? "the record is no good: " : "",
		c.wrong ? c.wrong : odd);
	forget(dev, offered, protocol_offered);
	return err;
}

/* ---- freezing and going on ---- */

static const char *why_not(const struct vu_device *dev)
{
	if (dev->frozen)
		return "it is being handed over already";
	if (dev->postcopy.uffd >= 0 || dev->postcopy.listening)
		return "its guest is arriving by post-copy migration: wait for its end";
	return vu_any_stuck(dev) ? "an lcore does not leave a ring: is it stopped?" : NULL;
}

int vu_device_freeze(struct vu_device *dev, char *why, size_t why_len)
{
	const char *reason = why_not(dev);

	if (reason) {
		snprintf(why, why_len, "%s: %s", dev->path, reason);
		return -EBUSY;
	}
	dev->frozen = true;
	evtimer_del(dev->tick);
	vu_socket_pause(dev);
	vu_conn_pause(dev);
	vu_backend_pause(dev);
	if (vu_reconcile(dev) == 0 && !vu_any_stuck(dev))
		return 0;
	vu_device_resume(dev);
	snprintf(why, why_len, "%s: an lcore does not leave a ring: is it stopped?", dev->path);
	return -ETIMEDOUT;
}

int vu_device_resume(struct vu_device *dev)
{
	int err;

	dev->frozen = false;
	if (!dev->retry) { /* dormant, and nobody gave it anything */
		char why[200];

		err = vu_socket_open(dev, why, sizeof(why));
		if (err)
			vu_log(dev, VU_LOG_ERROR, "%s", why);
		else
			dev->state = vu_state_anew(dev);
		return err;
	}
	if (!dev->state)
		dev->state = vu_state_anew(dev);
	err = vu_reconcile(dev);
	vu_conn_go(dev);
	vu_backend_go(dev);
	vu_socket_go(dev);
	vu_tick_start(dev);
	return err;
}

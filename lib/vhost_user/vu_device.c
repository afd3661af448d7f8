/* SPDX-License-Identifier: BSD-3-Clause */
/* A device's life, and what it says of itself. */
#include "vu_device.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <linux/virtio_net.h>

#include "virtq_trap.h"
#include "vu_iommu.h"
#include "vu_state.h"

#define BIT(n)          (1ull << (n))
#define PEER_TIMEOUT_MS 5000

/* What a front-end can make us say in a second; the rest is only counted. */
#define LINES_PER_SECOND 20

static bool may_speak(struct vu_device *dev)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (now.tv_sec == dev->log_second)
		return ++dev->log_lines <= LINES_PER_SECOND;
	if (dev->log_lines > LINES_PER_SECOND) {
		char line[64];

		snprintf(line, sizeof(line), "%u more lines were not logged",
			dev->log_lines - LINES_PER_SECOND);
		dev->ops->log(dev->arg, VU_LOG_WARNING, line);
	}
	dev->log_second = now.tv_sec;
	dev->log_lines = 1;
	return true;
}

void vu_log(struct vu_device *dev, enum vu_log_level level, const char *fmt, ...)
{
	char line[320];
	va_list ap;

	if (!dev->ops->log || (level != VU_LOG_DEBUG && !may_speak(dev)))
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	dev->ops->log(dev->arg, level, line);
}

int vu_refuse(struct vu_device *dev, enum vu_trouble trouble, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(dev->last_error, sizeof(dev->last_error), fmt, ap);
	va_end(ap);
	if (trouble != VU_TROUBLE_NONE)
		dev->refused = trouble;
	vu_log(dev, VU_LOG_WARNING, "refused: %s", dev->last_error);
	return -EINVAL;
}

static int check_conf(const struct vu_device_conf *conf, char *why, size_t why_len)
{
	int err = usock_check(conf->path, why, why_len);

	if (err)
		return err;
	if (conf->queue_pairs < 1 || conf->queue_pairs > VU_QUEUE_PAIRS_MAX) {
		snprintf(why, why_len, "%u queue pairs: 1 to %u are possible", conf->queue_pairs,
			VU_QUEUE_PAIRS_MAX);
		return -EINVAL;
	}
	if (conf->features & ~vu_possible_features()) {
		snprintf(why, why_len, "features 0x%llx are not implemented",
			(unsigned long long)(conf->features & ~vu_possible_features()));
		return -EINVAL;
	}
	return 0;
}

static bool make_rings(struct vu_device *dev, uint16_t nrings)
{
	dev->queue = calloc(nrings, sizeof(dev->queue[0]));
	if (!dev->queue)
		return false;
	dev->nrings = nrings;
	for (unsigned i = 0; i < dev->nrings; i++) {
		vu_bell_init(&dev->queue[i]);
		dev->queue[i].call_fd = dev->queue[i].err_fd = -1;
	}
	for (unsigned i = 0; i < dev->nrings; i++) {
		dev->queue[i].vq = virtq_new();
		if (!dev->queue[i].vq)
			return false;
	}
	return true;
}

/* From what was configured. */
static void fill_in(
	struct vu_device *dev, struct event_base *base, const struct vu_device_conf *conf)
{
	dev->base = base;
	dev->ops = conf->ops;
	dev->arg = conf->arg;
	strcpy(dev->path, conf->path);
	dev->access = conf->access ? *conf->access : USOCK_ACCESS_DEFAULT;
	dev->listen = conf->listen;
	dev->offered = conf->features | BIT(VU_F_PROTOCOL_FEATURES);
	dev->protocol_offered = vu_default_protocol_features();
	if (conf->postcopy)
		dev->protocol_offered |= BIT(VU_PROTOCOL_F_PAGEFAULT);
	if (conf->mac) {
		dev->offered |= BIT(VIRTIO_NET_F_MAC);
		dev->protocol_offered |= BIT(VU_PROTOCOL_F_CONFIG);
		memcpy(dev->mac, conf->mac, sizeof(dev->mac));
		memcpy(dev->mac_at_first, conf->mac, sizeof(dev->mac_at_first));
	}
	dev->frozen = conf->dormant;
	dev->state_path = conf->state_path ? strdup(conf->state_path) : NULL;
	dev->initial_enable = conf->initial_enable;
	dev->peer_timeout_ms = conf->peer_timeout_ms ? conf->peer_timeout_ms : PEER_TIMEOUT_MS;
	dev->postcopy.uffd = -1;
	dev->listen_fd = dev->conn.fd = dev->conn.out_fd = dev->log_fd = -1;
}

int vu_device_create(struct event_base *base, const struct vu_device_conf *conf,
	struct vu_device **out, char *why, size_t why_len)
{
	struct vu_device *dev;
	int err = check_conf(conf, why, why_len);

	if (err)
		return err;
	virtq_gate_init();
	dev = calloc(1, sizeof(*dev));
	if (!dev) {
		snprintf(why, why_len, "out of memory");
		return -ENOMEM;
	}
	fill_in(dev, base, conf);
	dev->tick = evtimer_new(base, vu_on_tick, dev);
	dev->vanished =
		event_new(base, virtq_trap_fd(), EV_READ | EV_ET | EV_PERSIST, vu_on_vanished, dev);
	if (conf->features & BIT(VIRTIO_F_ACCESS_PLATFORM))
		err = vu_iommu_open(dev);
	if (err) {
		snprintf(why, why_len, "no IOMMU: %s", strerror(-err));
	} else if (!dev->tick || !dev->vanished || event_add(dev->vanished, NULL) < 0 ||
		   (conf->state_path && !dev->state_path) ||
		   !make_rings(dev, (uint16_t)(conf->queue_pairs * 2))) {
		snprintf(why, why_len, "out of memory");
		err = -ENOMEM;
	} else if (!dev->frozen) {
		err = vu_socket_open(dev, why, why_len);
		if (!err)
			dev->state = vu_state_open(dev);
	}
	if (err)
		vu_device_destroy(dev);
	else
		*out = dev;
	return err;
}

static const struct vu_device_ops silent; /* during destruction; prepare is never reached */

void vu_device_leave(struct vu_device *dev)
{
	dev->leaving = true;
}

void vu_device_abandon(struct vu_device *dev)
{
	vu_socket_close(dev);
}

void vu_device_destroy(struct vu_device *dev)
{
	if (!dev)
		return;
	dev->ops = &silent;
	vu_socket_close(dev);
	vu_conn_close(dev, NULL);
	vu_reap_stuck(dev);
	for (unsigned i = 0; dev->queue && i < dev->nrings; i++) {
		vu_close_fd(&dev->queue[i].bell);
		if (!dev->queue[i].stuck[0]) /* else an lcore is still inside: leak it */
			virtq_free(dev->queue[i].vq);
	}
	vu_iommu_close(dev);
	vu_state_close(dev->state, dev->leaving);
	free(dev->state_path);
	if (dev->tick)
		event_free(dev->tick);
	if (dev->vanished)
		event_free(dev->vanished);
	free(dev->queue);
	free(dev);
}

struct virtq *vu_device_ring(struct vu_device *dev, unsigned ring)
{
	return ring < dev->nrings ? dev->queue[ring].vq : NULL;
}

const struct virtq_mem *vu_device_memory(const struct vu_device *dev)
{
	return dev->mem;
}

int vu_device_reconcile(struct vu_device *dev)
{
	int err = vu_reconcile(dev);

	return err ? err : vu_any_stuck(dev) ? -ETIMEDOUT : 0;
}

int vu_device_attach(struct vu_device *dev, int fd)
{
	if (dev->conn.fd < 0 && !dev->frozen)
		return vu_conn_open(dev, fd);
	vu_close_fd(&fd);
	return -EBUSY;
}

void vu_device_disconnect(struct vu_device *dev, const char *reason)
{
	vu_conn_close(dev, reason);
}

/* ---- for people ---- */

/* How often a ring was kicked; nobody reads its eventfd, because we poll. */
static unsigned long long kicks(int fd)
{
	char path[64], line[80];
	unsigned long long n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fd < 0 ? NULL : fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "eventfd-count: %llx", &n) == 1)
			break;
	if (f)
		fclose(f);
	return n;
}

/* The lcore polls it and has never found anything. */
static bool untouched(const struct vu_queue *q)
{
	const struct virtq_view *v = virtq_gate_view(&q->vq->gate);

	return v && virtq_load(&q->vq->avail) == (uint16_t)q->start && virtq_fill(q->vq, v) == 0;
}

/*
 * The driver announced buffers, and the ring has never held any: what it writes goes to memory
 * of its own. One kick means nothing, with that QEMU starts.
 */
static bool writes_elsewhere(const struct vu_queue *q)
{
	return untouched(q) && kicks(q->kick_fd) > 1 + q->own_kicks;
}

static enum vu_trouble ring_trouble(const struct vu_device *dev)
{
	bool started = false, addressed = true, enabled = false, elsewhere = false;
	bool misplaced = false, waits = false;

	for (unsigned i = 0; i < dev->nrings; i++) {
		const struct vu_queue *q = &dev->queue[i];

		if (q->fault)
			return VU_TROUBLE_PARKED;
		started |= q->started;
		addressed &= !q->bad_addr;
		misplaced |= q->bad_position;
		waits |= q->waits;
		enabled |= q->started && vu_queue_enabled(dev, i);
		elsewhere = elsewhere || writes_elsewhere(q);
	}
	if (!started) /* a QEMU without shared memory gives up between the two messages */
		return dev->features_set && !dev->mem ? VU_TROUBLE_NO_MEMORY_TABLE
						      : VU_TROUBLE_NO_DRIVER;
	if (!dev->mem)
		return VU_TROUBLE_NO_MEMORY_TABLE;
	if (!addressed)
		return VU_TROUBLE_RING_ADDRESSES;
	if (misplaced)
		return VU_TROUBLE_RING_POSITION;
	if (waits)
		return VU_TROUBLE_IOMMU;
	if (!enabled)
		return VU_TROUBLE_NOT_ENABLED;
	return elsewhere ? VU_TROUBLE_NOT_SHARED : VU_TROUBLE_NONE;
}

/* A refusal explains a silence only as long as there is one. */
static enum vu_trouble find_trouble(const struct vu_device *dev)
{
	enum vu_trouble trouble;

	if (dev->conn.fd < 0) {
		if (dev->refused != VU_TROUBLE_NONE)
			return dev->refused;
		if (dev->socket_errno == 0)
			return VU_TROUBLE_NO_FRONT_END;
		return dev->listen ? VU_TROUBLE_CANNOT_ACCEPT : VU_TROUBLE_CONNECT_REFUSED;
	}
	trouble = vu_memory_gone(dev) ? VU_TROUBLE_MEMORY_GONE : ring_trouble(dev);
	if (trouble != VU_TROUBLE_NONE && trouble != VU_TROUBLE_PARKED &&
		trouble != VU_TROUBLE_MEMORY_GONE && dev->refused != VU_TROUBLE_NONE)
		return dev->refused;
	return trouble;
}

const char *vu_trouble_text(enum vu_trouble trouble)
{
	static const char *const text[] = {
		[VU_TROUBLE_NONE] = "none",
		[VU_TROUBLE_NO_FRONT_END] =
			"no front-end has connected: is the VM running (or short of hugepages?), "
			"is its socket path right, may it open it?",
		[VU_TROUBLE_CONNECT_REFUSED] =
			"the front-end's socket cannot be reached: is the VM running with "
			"server=on, is the path right, may we open it?",
		[VU_TROUBLE_CANNOT_ACCEPT] =
			"a front-end waits, but cannot be accepted: raise the limit of open files "
			"(LimitNOFILE= of the service) or remove ports",
		[VU_TROUBLE_NO_DRIVER] =
			"connected, but the guest's driver has not started: is the "
			"guest booted, is its virtio-net driver loaded and the link up?",
		[VU_TROUBLE_NO_MEMORY_TABLE] =
			"the guest's driver has started, but no memory was shared: give the VM "
			"shared memory (QEMU: memory-backend-memfd,share=on; libvirt: <access "
			"mode='shared'/>)",
		[VU_TROUBLE_MEMORY_REJECTED] =
			"the memory table was refused: give the VM shared file-backed memory "
			"(QEMU: memory-backend-memfd,share=on; libvirt: <access mode='shared'/>)",
		[VU_TROUBLE_RING_ADDRESSES] =
			"the rings lie outside the memory the VM shares: is all "
			"of its memory shared (share=on)?",
		[VU_TROUBLE_RING_POSITION] =
			"the front-end gave a ring a size or a start position that its format "
			"(split or packed) does not allow: restart the VM",
		[VU_TROUBLE_FEATURES] = "the front-end and this port disagree on features: after a "
					"change of features the VM must be restarted",
		[VU_TROUBLE_QUEUES] =
			"the VM uses more queues than the port has: add the port with "
			"more queues, or give the VM fewer",
		[VU_TROUBLE_NOT_ENABLED] =
			"rings are started but the front-end has not enabled them",
		[VU_TROUBLE_PARKED] =
			"a ring is parked after an error of the guest's driver: reset "
			"the driver or reboot the guest",
		[VU_TROUBLE_IOMMU] = "the front-end has not told how the guest's IOMMU translates "
				     "the addresses of "
				     "the rings",
		[VU_TROUBLE_NOT_SHARED] =
			"the guest's driver is at work, but not in the memory we see: give the VM "
			"shared memory (QEMU: share=on; libvirt: <access mode='shared'/>)",
		[VU_TROUBLE_MEMORY_GONE] = "memory the VM shares has vanished: its file was "
					   "truncated, or there was no "
					   "free hugepage for it: restart the VM",
	};

	return trouble < sizeof(text) / sizeof(text[0]) && text[trouble] ? text[trouble]
									 : "unknown";
}

void vu_device_info(const struct vu_device *dev, struct vu_info *info)
{
	*info = (struct vu_info){
		.path = dev->path,
		.listen = dev->listen,
		.connection = dev->conn.fd >= 0 ? VU_CONNECTED : VU_WAITING,
		.socket_errno = dev->socket_errno,
		.link = dev->link,
		.queue_pairs = dev->nrings / 2,
		.features_offered = dev->offered,
		.protocol_features_offered = dev->protocol_offered,
		.features = dev->features,
		.protocol_features = dev->protocol_features,
		.status = dev->status,
		.mtu = vu_has_feature(dev, VIRTIO_NET_F_MTU) ? dev->mtu : 0,
		.mem = dev->mem,
		.connections = dev->connections,
		.trouble = find_trouble(dev),
	};
	memcpy(info->last_error, dev->last_error, sizeof(info->last_error));
}

void vu_ring_info(const struct vu_device *dev, unsigned ring, struct vu_ring_info *info)
{
	const struct vu_queue *q = &dev->queue[ring];
	const struct virtq_view *v = virtq_gate_view(&q->vq->gate);

	*info = (struct vu_ring_info){
		.started = q->started,
		.enabled = vu_queue_enabled(dev, ring),
		.usable = v != NULL,
		.untouched = untouched(q),
		.num = q->num,
		.packed = vu_has_feature(dev, VIRTIO_F_RING_PACKED),
		.avail = virtq_load(&q->vq->avail),
		.used = virtq_load(&q->vq->used),
		.call_fd = q->call_fd,
		.kick_fd = q->kick_fd,
		.fault = q->fault,
	};
	v = v ? v : q->drain;
	if (v)
		info->fill = virtq_fill(q->vq, v);
	for (size_t i = 0; i < sizeof(info->stats) / sizeof(uint64_t); i++)
		((uint64_t *)&info->stats)[i] = virtq_load(&((uint64_t *)&q->vq->stats)[i]);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The IOTLB of a device: its tables for lcores, and the way of a miss. */
#include "vu_iommu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include "virtq_iotlb.h"
#include "vu_backend.h"
#include "vu_message.h"

/*
 * Theory of operation (vhost-user specification, "IOMMU support")
 *
 * IOTLB_MSG changes the cache, and the cache becomes two memory tables (virtq_iotlb.h); reconcile
 * gives every ring a view with one of them. So an invalidation is answered when no lcore uses the
 * old translation any more, like a change of memory.
 *
 * A miss takes this way, on which nobody waits for anybody:
 *
 *   lcore	puts the chain back, notes the address in its struct virtq, wakes us by an eventfd
 *   control	asks the front-end on the back-end channel
 *   front-end	answers with an update, or never
 *   control	new tables, new views; then clears the note: the lcore finds the address, or notes
 *		the next one
 *
 * While a ring waits, what is sent to the guest is lost. So with each miss, and from time to time,
 * we look ahead for the buffers that will come next (virtq_peek()), and most translations are there
 * before they are needed.
 *
 * A ring notes one address at a time. Areas of a ring that is to start are asked for when it is
 * described; until all are there it does not run. What was asked is remembered for a while, so that
 * rings that miss the same page ask once; what is still missing a while after the front-end has read
 * all requests is asked for again, for one may have been lost (vu_backend.h). Not sooner: a front-end
 * that is busy answers the first of two, the guest unmaps the page, and the second is an access
 * that its IOMMU reports as a fault.
 */

#define ASKED_MAX   512
#define AHEAD_MAX   256
#define PATIENCE_MS 1000
#define PAGE        4096ull

struct vu_iommu {
	struct virtq_iotlb *cache;
	struct virtq_mem *guest;        /* whose addresses are cached; a reference */
	struct virtq_mem *read, *write; /* made of the cache; NULL: must be made */
	bool ran;                       /* a ring has been started since the last flush */

	int missed_fd; /* lcores write to it */
	struct event *missed;

	struct {
		uint64_t page, at_ms;
		uint8_t perm;
	} asked[ASKED_MAX];
	unsigned next; /* to be overwritten */
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

bool vu_iommu_used(const struct vu_device *dev)
{
	return dev->iommu && vu_has_feature(dev, VIRTIO_F_ACCESS_PLATFORM);
}

/* ---- tables ---- */

/* Views have references of their own. */
static void drop_tables(struct vu_iommu *io)
{
	virtq_mem_put(io->read);
	virtq_mem_put(io->write);
	io->read = io->write = NULL;
}

void vu_iommu_flush(struct vu_device *dev)
{
	struct vu_iommu *io = dev->iommu;

	if (!io)
		return;
	drop_tables(io);
	virtq_iotlb_clear(io->cache);
	virtq_mem_put(io->guest);
	io->guest = dev->mem ? virtq_mem_get(dev->mem) : NULL;
	memset(io->asked, 0, sizeof(io->asked));
	io->ran = false;
}

/* Without memory for tables all rings wait, and the tick tries again. */
static void make_tables(struct vu_device *dev)
{
	struct vu_iommu *io = dev->iommu;

	io->read = virtq_iotlb_table(io->cache, io->guest, VIRTQ_PERM_READ);
	io->write = virtq_iotlb_table(io->cache, io->guest, VIRTQ_PERM_WRITE);
	if (io->read && io->write)
		return;
	drop_tables(io);
	vu_log(dev, VU_LOG_ERROR, "out of memory: rings wait for a table of translations");
	dev->try_again = true;
	vu_tick_start(dev);
}

void vu_iommu_sync(struct vu_device *dev)
{
	struct vu_iommu *io = dev->iommu;
	bool runs;

	if (!io)
		return;
	runs = vu_any_started(dev);
	if (io->guest != dev->mem || (io->ran && !runs))
		vu_iommu_flush(dev);
	io->ran = io->ran || runs;
	if (vu_iommu_used(dev) && io->guest && !io->read)
		make_tables(dev);
}

/* ---- misses ---- */

static bool asked_already(struct vu_device *dev, uint64_t page, uint8_t perm, uint64_t now)
{
	struct vu_iommu *io = dev->iommu;

	for (unsigned i = 0; i < ASKED_MAX; i++) {
		if (io->asked[i].perm != perm || io->asked[i].page != page)
			continue;
		if (now - io->asked[i].at_ms < PATIENCE_MS)
			return true;
		if (vu_backend_is_read(dev))
			continue;
		io->asked[i].at_ms = now;
		return true;
	}
	return false;
}

static void ask(struct vu_device *dev, uint64_t iova, uint8_t perm)
{
	const struct vu_iotlb miss = {.iova = iova, .perm = perm, .type = VU_IOTLB_MISS};
	struct vu_iommu *io = dev->iommu;
	uint64_t now = now_ms();

	if (asked_already(dev, iova / PAGE, perm, now) ||
		vu_backend_send(dev, VU_BACKEND_IOTLB_MSG, &miss, sizeof(miss), false) != 0)
		return;
	io->asked[io->next].page = iova / PAGE;
	io->asked[io->next].perm = perm;
	io->asked[io->next].at_ms = now;
	io->next = (io->next + 1) % ASKED_MAX;
}

/* They may have to be asked for again. */
static void forget_asked(struct vu_iommu *io, uint64_t first, uint64_t last)
{
	for (unsigned i = 0; i < ASKED_MAX; i++)
		if (io->asked[i].page >= first / PAGE && io->asked[i].page <= last / PAGE)
			io->asked[i].perm = 0;
}

struct ahead {
	struct vu_device *dev;
	uint8_t perm;
};

/* The first and the last page: few buffers have more, and those wait for the miss. In a post-copy
 * migration the page of a table may not have come: then the lcore looks first. */
static bool ask_ahead(void *arg, uint64_t addr, uint32_t len, bool table)
{
	const struct ahead *a = arg;
	const struct virtq_iotlb *cache = a->dev->iommu->cache;
	uint64_t last = addr + (len ? len - 1 : 0);
	uint8_t perm = table ? VIRTQ_PERM_READ : a->perm;

	if (len && !virtq_iotlb_perm(cache, addr))
		ask(a->dev, addr, perm);
	if (last / PAGE != addr / PAGE && !virtq_iotlb_perm(cache, last))
		ask(a->dev, last, perm);
	return !a->dev->postcopy.listening;
}

static void look_ahead(struct vu_device *dev, unsigned ring)
{
	const struct vu_queue *q = &dev->queue[ring];
	const struct virtq_view *v = virtq_gate_view(&q->vq->gate);
	struct ahead ahead = {dev, ring & 1 ? VIRTQ_PERM_READ : VIRTQ_PERM_WRITE};

	if (v)
		virtq_peek(q->vq, v, AHEAD_MAX, ask_ahead, &ahead);
}

/* What the lcore noted: ask, or it will never come. */
static void serve_miss(struct vu_device *dev, unsigned ring)
{
	struct virtq *vq = dev->queue[ring].vq;
	uint8_t perm = virtq_load_acquire(&vq->miss_perm); /* G' */
	uint64_t iova = virtq_load(&vq->miss);
	uint8_t have;

	if (!perm || !virtq_gate_view(&vq->gate))
		return;
	have = virtq_iotlb_perm(dev->iommu->cache, iova);
	if (have & perm)
		virtq_store(&vq->miss_perm, 0); /* it came in the meantime */
	else if (have)
		vu_park(dev, ring, VIRTQ_FAULT_NO_PERMISSION);
	else
		ask(dev, iova, perm);
	look_ahead(dev, ring);
}

void vu_iommu_look_again(struct vu_device *dev, unsigned ring)
{
	if (vu_iommu_used(dev))
		virtq_store(&dev->queue[ring].vq->miss_perm, 0);
}

void vu_iommu_tick(struct vu_device *dev)
{
	for (unsigned i = 0; vu_iommu_used(dev) && i < dev->nrings; i++) {
		serve_miss(dev, i);
		look_ahead(dev, i);
		if (dev->queue[i].waits)
			vu_reconcile_ring(dev, i);
	}
}

static void on_missed(evutil_socket_t fd, short what, void *arg)
{
	struct vu_device *dev = arg;
	uint64_t count;

	(void)what;
	if (read(fd, &count, sizeof(count)) < 0)
		return;
	for (unsigned i = 0; vu_iommu_used(dev) && i < dev->nrings; i++)
		serve_miss(dev, i);
}

/* ---- views ---- */

void *vu_iommu_area(
	struct vu_device *dev, uint64_t iova, uint64_t len, enum virtq_perm perm, bool *waits)
{
	struct vu_iommu *io = dev->iommu;
	uint64_t missing;
	uint8_t *va;

	if (!io->read) {
		*waits = true;
		return NULL;
	}
	virtq_iotlb_touch(io->cache, iova, len);
	switch (virtq_iotlb_range(
		perm & VIRTQ_PERM_WRITE ? io->write : io->read, iova, len, &va, &missing)) {
	case 0:
		return va;
	case -ENOENT:
		if (virtq_iotlb_perm(io->cache, missing))
			return NULL; /* it is there, and not permitted */
		*waits = true;
		ask(dev, missing, perm);
		return NULL;
	default:
		return NULL;
	}
}

/* The log is by guest address, whatever the ring's is. */
static uint64_t guest_address(const struct virtq_mem *guest, const void *va)
{
	for (uint32_t i = 0; i < guest->n; i++) {
		uint64_t off = (uintptr_t)va - (uintptr_t)guest->spans[i].hva;

		if (off < guest->spans[i].size)
			return guest->spans[i].gpa + off;
	}
	return 0;
}

void vu_iommu_describe(struct vu_device *dev, unsigned ring, struct virtq_view *v)
{
	struct vu_iommu *io = dev->iommu;

	v->mem = ring & 1 ? io->read : io->write;
	v->tables = io->read;
	v->miss_fd = io->missed_fd;
	v->log_used = guest_address(io->guest, v->used);
}

/* ---- IOTLB_MSG ---- */

static int update(struct vu_context *c, const struct vu_iotlb *m)
{
	struct vu_iommu *io = c->dev->iommu;
	char why[160];

	if (virtq_iotlb_update(
		    io->cache, io->guest, m->iova, m->size, m->uva, m->perm, why, sizeof(why)) != 0)
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "%s", why);
	forget_asked(io, m->iova, m->iova + (m->size - 1));
	drop_tables(io);
	return 0;
}

int vu_on_iotlb_msg(struct vu_context *c)
{
	const struct vu_iotlb *m = &c->msg->payload.iotlb;
	struct vu_iommu *io = c->dev->iommu;

	if (!io)
		return vu_refuse(
			c->dev, VU_TROUBLE_FEATURES, "IOTLB_MSG, but this port offers no IOMMU");
	vu_iommu_sync(c->dev);
	switch (m->type) {
	case VU_IOTLB_UPDATE:
		return update(c, m);
	case VU_IOTLB_INVALIDATE:
		if (virtq_iotlb_invalidate(io->cache, m->iova, m->size))
			drop_tables(io);
		return 0;
	default:
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "IOTLB_MSG of type %u", m->type);
	}
}

/* ---- life ---- */

int vu_iommu_open(struct vu_device *dev)
{
	struct vu_iommu *io = calloc(1, sizeof(*io));

	if (!io)
		return -ENOMEM;
	dev->iommu = io;
	io->cache = virtq_iotlb_new();
	io->missed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (io->missed_fd < 0)
		return -errno;
	io->missed = event_new(dev->base, io->missed_fd, EV_READ | EV_PERSIST, on_missed, dev);
	if (!io->cache || !io->missed || event_add(io->missed, NULL) < 0)
		return -ENOMEM;
	return 0;
}

/* A stuck lcore may still write to the eventfd: then its number stays taken. */
void vu_iommu_close(struct vu_device *dev)
{
	struct vu_iommu *io = dev->iommu;

	if (!io)
		return;
	if (io->missed)
		event_free(io->missed);
	if (!vu_any_stuck(dev))
		vu_close_fd(&io->missed_fd);
	drop_tables(io);
	virtq_mem_put(io->guest);
	virtq_iotlb_free(io->cache);
	free(io);
	dev->iommu = NULL;
}

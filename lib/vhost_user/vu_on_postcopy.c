/* SPDX-License-Identifier: BSD-3-Clause */
/* Post-copy migration: a guest that runs here before its memory has come. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vu_message.h"

/*
 * Theory of operation (vhost-user specification, "Migration": "Post-copy")
 *
 *   POSTCOPY_ADVISE	we make a userfaultfd and hand it over
 *   POSTCOPY_LISTEN	from now on memory is mapped, but not touched
 *   SET_MEM_TABLE	mapped; the answer says where. A second message of the same name, eight zero
 *   or ADD_MEM_REG	bytes, says that the front-end serves faults there: only then the mappings are
 *			registered with the userfaultfd, and only then anybody uses them
 *   POSTCOPY_END	all pages have come
 *
 * From the second message to the end, whoever touches a page that has not come sleeps until the
 * front-end has fetched it over the network. Lcores must not, because other ports wait for them, nor
 * must this thread:
 *
 *   the owner	is told by the op postcopy() and has the port's packets moved by a thread that may
 *		sleep
 *   a ring's own pages, which control reads and writes when it starts the ring, are fetched first, by
 *		a thread of this file (fetch); the ring waits for that, and the tick looks again. Then
 *		nobody can sleep for them any more: a front-end that takes one away leaves zeros
 *   indirect tables, into which control looks for a guest with an IOMMU, are left alone
 *
 * A front-end that leaves meanwhile would leave sleepers behind. Unregistering wakes them; what has
 * not come reads as zeros.
 */

static int uffd_open(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	int fd = (int)syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	/* Without CAP_SYS_PTRACE, for our own accesses only, and there are no others: nothing of such a
	 * guest's is lent, to a device or in a system call. */
	if (fd < 0 && errno == EPERM)
		fd = (int)syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) < 0)
		vu_close_fd(&fd);
	return fd;
}

static struct uffdio_range range_of(const struct virtq_mem *mem, uint32_t i)
{
	struct virtq_region_info r;
	uint64_t at, end;

	virtq_mem_region(mem, i, &r);
	at = (uintptr_t)r.hva & ~(r.page_size - 1);
	end = ((uintptr_t)r.hva + r.size + r.page_size - 1) & ~(r.page_size - 1);
	return (struct uffdio_range){at, end - at};
}

static int uffd_register(int uffd, const struct virtq_mem *mem)
{
	for (uint32_t i = 0; i < mem->n; i++) {
		struct uffdio_register reg = {
			.range = range_of(mem, i), .mode = UFFDIO_REGISTER_MODE_MISSING};

		if (ioctl(uffd, UFFDIO_REGISTER, &reg) < 0)
			return -errno;
	}
	return 0;
}

static void uffd_unregister(int uffd, const struct virtq_mem *mem)
{
	for (uint32_t i = 0; mem && i < mem->n; i++) {
		struct uffdio_range range = range_of(mem, i);

		/* A region that was never registered is as good. */
		if (ioctl(uffd, UFFDIO_UNREGISTER, &range) < 0)
			continue;
	}
}

/* ---- the messages ---- */

int vu_on_postcopy_advise(struct vu_context *c)
{
	struct vu_postcopy *p = &c->dev->postcopy;

	if (p->uffd >= 0)
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "POSTCOPY_ADVISE came twice");
	p->uffd = uffd_open();
	c->reply_fd = p->uffd < 0 ? -1 : fcntl(p->uffd, F_DUPFD_CLOEXEC, 0);
	if (c->reply_fd >= 0)
		return 0;
	vu_close_fd(&p->uffd);
	return vu_refuse(c->dev, VU_TROUBLE_NONE,
		"post-copy: there is no userfaultfd for us: %s (may we? see sysctl "
		"vm.unprivileged_userfaultfd)",
		strerror(errno));
}

int vu_on_postcopy_listen(struct vu_context *c)
{
	struct vu_postcopy *p = &c->dev->postcopy;

	if (p->uffd < 0 || p->listening || c->dev->mem)
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "POSTCOPY_LISTEN %s",
			p->uffd < 0    ? "without POSTCOPY_ADVISE"
			: p->listening ? "came twice"
				       : "with a memory table: its pages may have been touched");
	p->listening = true;
	if (c->dev->ops->postcopy)
		c->dev->ops->postcopy(c->dev->arg, true);
	return 0;
}

int vu_on_postcopy_end(struct vu_context *c)
{
	if (c->dev->postcopy.waiting)
		return vu_refuse(c->dev, VU_TROUBLE_NONE,
			"POSTCOPY_END before the memory table was acknowledged");
	vu_postcopy_end(c->dev);
	c->reply->u64 = 0;
	return 0;
}

/* ---- memory while it comes ---- */

bool vu_postcopy_is_ack(const struct vu_context *c)
{
	const struct vu_postcopy *p = &c->dev->postcopy;

	return p->waiting && c->msg->header.size == sizeof(uint64_t) && c->nfds == 0;
}

void vu_postcopy_wait(struct vu_device *dev, struct virtq_mem *mem)
{
	virtq_mem_put(dev->postcopy.waiting);
	dev->postcopy.waiting = mem;
	for (uint32_t i = 0; i < mem->n; i++) {
		struct uffdio_range range = range_of(mem, i);

		/* A huge page would come at the touch of any of its small ones. */
		madvise((void *)(uintptr_t)range.start, range.len, MADV_NOHUGEPAGE);
	}
}

struct virtq_mem *vu_postcopy_acked(struct vu_context *c)
{
	struct vu_postcopy *p = &c->dev->postcopy;
	struct virtq_mem *mem = p->waiting;
	int err = uffd_register(p->uffd, mem);

	if (err) {
		vu_refuse(c->dev, VU_TROUBLE_MEMORY_REJECTED,
			"post-copy: the guest's memory cannot be watched: %s", strerror(-err));
		return NULL;
	}
	p->waiting = NULL;
	return mem;
}

/* Idempotent: also when the connection ends. */
void vu_postcopy_end(struct vu_device *dev)
{
	struct vu_postcopy *p = &dev->postcopy;

	if (p->uffd < 0)
		return;
	uffd_unregister(p->uffd, dev->mem);
	virtq_mem_put(p->waiting);
	p->waiting = NULL;
	vu_close_fd(&p->uffd);
	if (p->listening && dev->ops->postcopy)
		dev->ops->postcopy(dev->arg, false);
	p->listening = false;
}

/* ---- a ring's own pages ---- */

struct fetch {
	struct virtq_mem *mem;
	struct vu_range range[3];
};

static void *fetch_main(void *arg)
{
	struct fetch *f = arg;

	for (unsigned i = 0; i < 3; i++) {
		uint8_t *at = (uint8_t *)((uintptr_t)f->range[i].at & ~(uintptr_t)4095);

		for (; at < f->range[i].at + f->range[i].len; at += 4096)
			virtq_load(at);
	}
	virtq_mem_put(f->mem);
	free(f);
	return NULL;
}

static bool is_here(struct vu_range r)
{
	const uintptr_t page = 4096, start = (uintptr_t)r.at & ~(page - 1);
	uint64_t pages = ((uintptr_t)r.at + r.len - start + page - 1) / page;
	unsigned char there[256];

	for (uint64_t i = 0; i < pages; i += sizeof(there)) {
		uint64_t n = pages - i < sizeof(there) ? pages - i : sizeof(there);

		if (mincore((void *)(start + i * page), n * page, there) < 0)
			return false;
		for (uint64_t k = 0; k < n; k++)
			if (!(there[k] & 1))
				return false;
	}
	return true;
}

/* Faults of these pages are no longer the front-end's to serve. */
static void keep(struct vu_device *dev, struct vu_range r)
{
	struct virtq_region_info region;

	for (uint32_t i = 0; virtq_mem_region(dev->mem, i, &region); i++) {
		uint64_t off = (uintptr_t)r.at - (uintptr_t)region.hva, mask = region.page_size - 1;
		uint64_t start = (uintptr_t)r.at & ~mask,
			 end = ((uintptr_t)r.at + r.len + mask) & ~mask;
		struct uffdio_range range = {start, end - start};

		if (off < region.size && ioctl(dev->postcopy.uffd, UFFDIO_UNREGISTER, &range) < 0)
			vu_log(dev, VU_LOG_WARNING,
				"post-copy: pages that have come are watched still: %s",
				strerror(errno));
	}
}

/* False: short of memory or threads, to be tried again. */
static bool start_fetching(struct vu_device *dev, const struct vu_range range[3])
{
	struct fetch *f = calloc(1, sizeof(*f));
	pthread_t thread;

	if (!f)
		return false;
	memcpy(f->range, range, sizeof(f->range));
	f->mem = virtq_mem_get(dev->mem);
	if (pthread_create(&thread, NULL, fetch_main, f) == 0) {
		pthread_detach(thread);
		return true;
	}
	virtq_mem_put(f->mem);
	free(f);
	return false;
}

bool vu_postcopy_has(struct vu_device *dev, struct vu_queue *q, const struct vu_range range[3])
{
	if (!dev->postcopy.listening)
		return true;
	/* Addresses may change while a ring runs, by the front-end or the guest's IOMMU. */
	if (memcmp(q->pages, range, sizeof(q->pages)) != 0) {
		memcpy(q->pages, range, sizeof(q->pages));
		q->fetching = q->fetched = false;
	}
	if (q->fetched)
		return true;
	if (!q->fetching)
		q->fetching = start_fetching(dev, range);
	q->fetched = is_here(range[0]) && is_here(range[1]) && is_here(range[2]);
	if (!q->fetched) {
		dev->try_again = true;
		vu_tick_start(dev);
	}
	for (unsigned i = 0; q->fetched && i < 3; i++)
		keep(dev, range[i]);
	return q->fetched;
}

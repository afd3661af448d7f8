/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests about the guest's memory. */
#include <errno.h>
#include <stdlib.h>

#include "virtq_inflight.h"
#include "virtq_log.h"
#include "vu_message.h"
#include "vu_state.h"

/*
 * Theory of operation
 *
 * A front-end says its memory as a whole (SET_MEM_TABLE) or, with CONFIGURE_MEM_SLOTS, region by
 * region. Each request makes a new table; reconcile then gives every ring a view with it, and what
 * only the old one had is unmapped when no lcore is in with it any more, before the answer.
 *
 * QEMU from 5.1 to 7.2 says each region once for every queue pair, because each is a vhost device
 * of its own there, and a pair that is stopped may follow much later. So a region may be added as
 * often as there are pairs, which changes nothing; the first REM_MEM_REG takes it out, because
 * what follows may lie in its place, and as many more are let pass as there were ADD_MEM_REGs.
 *
 * Where a page vanishes under us (virtq_trap.h) all rings of the device are parked, and none starts
 * until the front-end has said its memory anew: the pages we have in its place are not the guest's.
 */

static const char *what_vanished(const struct vu_device *dev)
{
	if (dev->mem && virtq_mem_gone(dev->mem))
		return "guest memory";
	if (dev->log && virtq_log_gone(dev->log))
		return "the dirty log";
	return dev->inflight && virtq_inflight_gone(dev->inflight) ? "the in-flight region" : NULL;
}

bool vu_memory_gone(const struct vu_device *dev)
{
	return what_vanished(dev) != NULL;
}

/* Of some device. */
void vu_on_vanished(evutil_socket_t fd, short what, void *arg)
{
	struct vu_device *dev = arg;
	const char *vanished = what_vanished(dev);

	(void)fd, (void)what;
	vu_state_look(dev);
	if (!vanished || !vu_park_all(dev, VIRTQ_FAULT_NO_MEMORY))
		return;
	snprintf(dev->last_error, sizeof(dev->last_error), "%s", vanished);
	vu_log(dev, VU_LOG_WARNING,
		"all rings are parked: %s has vanished: its file was truncated, or there was no "
		"free hugepage for it",
		vanished);
}

static void replace_table(struct vu_device *dev, struct virtq_mem *mem)
{
	struct virtq_mem *old = dev->mem;

	dev->mem = mem;
	virtq_mem_put(old);
}

static void forget_again(struct vu_device *dev)
{
	free(dev->mem_again);
	dev->mem_again = NULL;
	dev->n_mem_again = 0;
}

void vu_memory_forget(struct vu_device *dev)
{
	replace_table(dev, NULL);
	forget_again(dev);
}

static uint64_t address_of(const struct virtq_mem *mem, uint64_t gpa)
{
	uint64_t len = 1;
	uint32_t hint = 0;

	return (uintptr_t)virtq_mem_gpa(mem, &hint, gpa, &len);
}

/* In a post-copy migration the front-end wants to know where, and the table waits for its word. */
static void answer_where(
	struct vu_context *c, struct virtq_mem *mem, struct vu_mem_region *region, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		region[i].uva = address_of(mem, region[i].gpa);
	c->replies = true;
	c->reply_size = c->msg->header.size;
	vu_postcopy_wait(c->dev, mem);
}

static int take_acked(struct vu_context *c)
{
	struct virtq_mem *mem = vu_postcopy_acked(c);

	if (!mem)
		return -EINVAL;
	replace_table(c->dev, mem);
	return 0;
}

static struct virtq_mem_req request_of(const struct vu_mem_region *r, int fd)
{
	return (struct virtq_mem_req){r->gpa, r->size, r->uva, r->mmap_offset, fd};
}

int vu_on_set_mem_table(struct vu_context *c)
{
	const struct vu_mem_table *t = &c->msg->payload.mem;
	struct virtq_mem_req reqs[VU_MEM_REGIONS_MAX];
	struct vu_device *dev = c->dev;
	struct virtq_mem *mem;
	char why[160];

	if (vu_postcopy_is_ack(c))
		return take_acked(c);
	if (t->n == 0 || t->n > VU_MEM_REGIONS_MAX || t->n != c->nfds ||
		c->msg->header.size != 8 + t->n * sizeof(t->region[0]))
		return vu_refuse(dev, VU_TROUBLE_MEMORY_REJECTED,
			"a memory table of %u regions came with %u descriptors in %u bytes", t->n,
			c->nfds, c->msg->header.size);
	for (uint32_t i = 0; i < t->n; i++)
		reqs[i] = request_of(&t->region[i], c->fds[i]);
	if (virtq_mem_create(reqs, t->n, dev->mem, &mem, why, sizeof(why)) != 0)
		return vu_refuse(dev, VU_TROUBLE_MEMORY_REJECTED, "%s", why);
	forget_again(dev);
	if (dev->postcopy.listening) {
		c->reply->mem = *t;
		answer_where(c, mem, c->reply->mem.region, t->n);
	} else {
		replace_table(dev, mem);
	}
	return 0;
}

/* QEMU refuses a back-end whose answer has become smaller since it saw the first. */
int vu_on_get_max_mem_slots(struct vu_context *c)
{
	c->reply->u64 = VIRTQ_MEM_SLOTS;
	return 0;
}

static struct vu_mem_again *find_again(struct vu_device *dev, const struct virtq_mem_req *r)
{
	struct vu_mem_again *a = dev->mem_again;

	for (unsigned i = 0; i < dev->n_mem_again; i++, a++)
		if (a->gpa == r->gpa && a->size == r->size && a->uva == r->uva)
			return a;
	return NULL;
}

/* False: more often than there are pairs. */
static bool added_again(struct vu_device *dev, const struct virtq_mem_req *r)
{
	unsigned most = dev->nrings / 2 - 1u, n = dev->n_mem_again;
	struct vu_mem_again *a = find_again(dev, r);

	if (!a && most > 0 && n < VIRTQ_MEM_SLOTS) {
		a = realloc(dev->mem_again, (n + 1) * sizeof(*a));
		if (!a)
			return false;
		dev->mem_again = a;
		dev->n_mem_again++;
		a += n;
		*a = (struct vu_mem_again){r->gpa, r->size, r->uva, 0};
	}
	if (!a || a->times >= most)
		return false;
	a->times++;
	return true;
}

static bool removed_again(struct vu_device *dev, const struct virtq_mem_req *r)
{
	struct vu_mem_again *a = find_again(dev, r);

	if (!a)
		return false;
	if (--a->times == 0)
		*a = dev->mem_again[--dev->n_mem_again];
	return true;
}

int vu_on_add_mem_reg(struct vu_context *c)
{
	struct virtq_mem_req req = request_of(&c->msg->payload.slot.region, c->fds[0]);
	struct vu_postcopy *p = &c->dev->postcopy;
	struct virtq_mem *mem;
	char why[160];
	int err;

	if (vu_postcopy_is_ack(c))
		return take_acked(c);
	err = virtq_mem_add(p->waiting ? p->waiting : c->dev->mem, &req, &mem, why, sizeof(why));
	if (!err && p->listening) {
		c->reply->slot = c->msg->payload.slot;
		answer_where(c, mem, &c->reply->slot.region, 1);
	} else if (!err)
		replace_table(c->dev, mem);
	else if (err != -EEXIST || !added_again(c->dev, &req))
		return vu_refuse(c->dev, VU_TROUBLE_MEMORY_REJECTED, "%s", why);
	return 0;
}

/* A descriptor may come along (older QEMUs send one): it says nothing and is closed. */
int vu_on_rem_mem_reg(struct vu_context *c)
{
	struct virtq_mem_req req = request_of(&c->msg->payload.slot.region, -1);
	struct virtq_mem *mem;
	char why[160];
	int err;

	if (c->dev->postcopy.waiting)
		return vu_refuse(c->dev, VU_TROUBLE_MEMORY_REJECTED,
			"REM_MEM_REG before the regions added were acknowledged");
	err = virtq_mem_remove(c->dev->mem, &req, &mem, why, sizeof(why));

	if (!err)
		replace_table(c->dev, mem);
	else if (err != -ENOENT || !removed_again(c->dev, &req))
		return vu_refuse(c->dev, VU_TROUBLE_MEMORY_REJECTED, "%s", why);
	return 0;
}

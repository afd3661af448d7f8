/* SPDX-License-Identifier: BSD-3-Clause */
/* Two copies of a guest's memory, our code and the reference as their devices, and one driver of both. */
#ifndef DIFFER_H
#define DIFFER_H

#include "ref.h"
#include "vq.h"

/*
 * Theory of operation
 *
 * There are two copies of a guest's memory, one with our code as its device, one with the reference
 * (ref.h). A polite driver does the same in both: chains of random parts, direct, in tables or mixed;
 * published now or later; any wish for notifications. After each burst the chains that were taken, the
 * bytes of both memories and what the driver is told must be the same. Each step draws from a generator
 * of its own, so that a history with steps left out is one as well: what fails is shrunk before it is
 * shown.
 */

#define PARTS    6u
#define MAX_RING 64u
#define MEMORY   0x8000u
#define DESC     0u
#define DRIVER   0x0800u
#define DEVICE   0x1000u
#define TABLES   0x2000u /* one for each id */
#define BUFFERS  0x6000u

struct differ {
	const struct vq_case *c;
	uint32_t num;
	enum virtq_dir dir;
	uint8_t *ours, *its; /* memories */
	struct ref_device ref;
	struct virtq_mem *mem;
	struct virtq_view view;
	struct virtq *q;
	struct virtq_segs *segs;
	int call_fd;
	bool first; /* no notification has gone by positions since the start */

	/* the driver */
	uint16_t free[MAX_RING]; /* split: descriptors; packed: ids */
	uint32_t n_free;
	uint32_t room;                  /* packed: descriptors of the ring */
	uint16_t owns[MAX_RING][PARTS]; /* by id: descriptors that come back with it, */
	uint32_t n_owns[MAX_RING];
	uint32_t avail, used; /* split: indexes; packed: positions without wrap counters */
	bool avail_wrap, used_wrap;
	struct {
		uint32_t at;
		uint16_t flags;
	} hidden[MAX_RING]; /* packed: heads to be published */
	uint32_t n_hidden;
	char why[200];
};

static inline bool packed(const struct differ *x)
{
	return x->c->format->features;
}

/* What the driver does; each draws from its own generator. */
void driver_adds(struct differ *x, struct ts_rng *rng);
void driver_publishes(struct differ *x);

/** A wish for notifications: at once, never, or at some position near. */
void driver_wishes(struct differ *x, struct ts_rng *rng);

/** Take what came back. Both memories are the same by now. */
void driver_reaps(struct differ *x);

/** Published up to here before, does the driver have to kick? 2.7.10 and 2.8.14 */
bool driver_kicks(const struct differ *x, uint16_t before);

#endif

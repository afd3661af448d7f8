/* SPDX-License-Identifier: BSD-3-Clause */
/* A ring and a trusted device, for single rules. */
#ifndef SELFTEST_RING_H
#define SELFTEST_RING_H

#include "selftest_device.h"
#include "ts_guest.h"
#include "ts_ring.h"
#include "ts_tap.h"

#define EVENT    TS_BIT(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT TS_BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define IN_ORDER TS_BIT(VIRTIO_F_IN_ORDER)

struct one {
	struct ts_guest *g;
	struct ts_ring *r;
	struct dev d;
};

static const struct ts_seg seg_out = {.gpa = 0x1000, .len = 10};
static const struct ts_seg seg_in = {.gpa = 0x2000, .len = 100};
static int tokens[64];

static inline struct ts_ring *make_ring(
	struct ts_guest *g, uint32_t size, uint64_t features, uint64_t start, unsigned flags)
{
	const struct ts_ring_conf c = {.guest = g,
		.size = size,
		.features = features,
		.base = ts_base_at(features, size, start),
		.flags = flags};
	struct ts_ring *r;

	assert_int_equal(ts_ring_new(&c, &r), 0);
	return r;
}

/* A ring of eight that has come as far as `start`. */
static inline void one_ring(struct one *o, uint64_t features, uint64_t start)
{
	o->g = ts_guest_one(1 << 20);
	assert_non_null(o->g);
	o->r = make_ring(o->g, 8, features, start, 0);
	dev_init(&o->d, o->r);
}

static inline void one_free(struct one *o)
{
	ts_ring_free(o->r);
	ts_guest_free(o->g);
}

static inline void add_in(struct one *o, int n)
{
	for (int i = 0; i < n; i++)
		assert_int_equal(ts_ring_add(o->r, NULL, 0, &seg_in, 1, &tokens[i], TS_DIRECT), 0);
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest's half of a virtqueue: what any ring format must do, for tests that do not care which. */
#ifndef TS_RING_H
#define TS_RING_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "ts_guest.h"
#include "ts_util.h"

/** One buffer of a chain, by guest address. */
struct ts_seg {
	uint64_t gpa;
	uint32_t len;
};

/** How add() lays a chain out. */
enum ts_mode {
	TS_DIRECT,   /* one descriptor per segment */
	TS_INDIRECT, /* one descriptor pointing to a table */
	TS_MIXED, /* the first half direct, then one descriptor pointing to a table; split only */
};

enum ts_ring_flags {
	TS_RING_SHUFFLE = 1 << 0, /* free descriptors (packed: buffer ids) start in random order */
};

struct ts_ring_conf {
	struct ts_guest *guest;
	unsigned region;   /* where rings and indirect tables are allocated */
	uint32_t size;     /* up to 32768; split: a power of two */
	uint64_t features; /* virtio feature bits as acknowledged */
	uint32_t base;     /* starting position, in the form SET_VRING_BASE carries */
	unsigned flags;    /* enum ts_ring_flags */
};

struct ts_ring;

/** One ring format. Every function has the contract of its ts_ring_*() wrapper below. */
struct ts_ring_ops {
	const char *name;
	int (*create)(const struct ts_ring_conf *conf, struct ts_ring **out);
	void (*destroy)(struct ts_ring *r);
	void (*reset)(struct ts_ring *r, uint32_t base);
	int (*add)(struct ts_ring *r, const struct ts_seg *out, unsigned n_out,
		const struct ts_seg *in, unsigned n_in, void *token, enum ts_mode mode);
	void (*publish)(struct ts_ring *r);
	bool (*kick_prepare)(struct ts_ring *r);
	bool (*more_used)(const struct ts_ring *r);
	void *(*get_used)(struct ts_ring *r, uint32_t *len);
	bool (*enable_cb)(struct ts_ring *r, bool delayed);
	void (*disable_cb)(struct ts_ring *r);
	bool (*call_due)(const struct ts_ring *r);
	void *(*detach)(struct ts_ring *r);
	uint32_t (*avail_pos)(const struct ts_ring *r);
	uint32_t (*used_pos)(const struct ts_ring *r);
};

/**
 * A ring seen from the guest. The three areas are public, by guest address and by pointer, so that
 * a hostile test can write them directly. One thread drives a ring at a time; the device may run in
 * another one.
 */
struct ts_ring {
	const struct ts_ring_ops *ops;
	struct ts_guest *guest;
	unsigned region;
	uint32_t size;
	uint64_t features;
	uint64_t desc_gpa;   /* descriptor area */
	uint64_t driver_gpa; /* driver area: the avail ring, or what calls the driver wants */
	uint64_t device_gpa; /* device area: the used ring, or what kicks the device wants */
	/* split; NULL for packed */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	/* packed; NULL for split */
	struct vring_packed_desc *pdesc;
	struct vring_packed_desc_event *driver;
	struct vring_packed_desc_event *device;
	uint32_t n_free;      /* descriptors add() may still take */
	uint32_t n_out;       /* chains added and not yet got back */
	uint64_t force_table; /* guest address for the next indirect table; TS_NOMEM: we choose */
	int kick_fd;          /* eventfd ts_ring_kick() writes; -1 none; owned by the caller */
	int call_fd;          /* eventfd ts_ring_calls() reads; -1 none; owned by the caller */
	uint64_t n_kicks;     /* how often ts_ring_kick() found a kick necessary */
	bool broken;          /* the device's answers make no sense any more: get_used() is NULL */
	struct ts_faults faults; /* what the device did that it must not */
};

extern const struct ts_ring_ops ts_ring_split_ops;
extern const struct ts_ring_ops ts_ring_packed_ops;

/**
 * The position after `n` descriptors (packed) or chains (split) of a ring that began at its
 * beginning, in the form of SET_VRING_BASE. Split: a 16-bit index. Packed: bits 0-14 the next
 * available descriptor, 15 its wrap counter, 16-30 the next used one, 31 its wrap counter.
 */
uint32_t ts_base_at(uint64_t features, uint32_t size, uint64_t n);

/** Where a new ring begins: 0, packed 0x80008000. */
static inline uint32_t ts_base_fresh(uint64_t features)
{
	return ts_base_at(features, 1, 0);
}

/**
 * Allocate a ring in guest memory. The format follows the features (VIRTIO_F_RING_PACKED).
 * Without VERSION_1 the split areas are laid out as one legacy block; otherwise areas are separate
 * and no better aligned than the specification demands.
 * Returns 0, -EINVAL (size, or a base that is no position in it), -ENOMEM (region full).
 */
int ts_ring_new(const struct ts_ring_conf *conf, struct ts_ring **out);

/** Free the driver's state; the guest memory stays allocated. NULL is allowed. */
void ts_ring_free(struct ts_ring *r);

/**
 * Clear the areas and start again at `base`; chains still out are forgotten (detach() first).
 * Descriptors between the two halves of a packed base stay taken, and nobody knows what for.
 */
static inline void ts_ring_reset(struct ts_ring *r, uint32_t base)
{
	r->ops->reset(r, base);
}

/**
 * Put one chain (device-readable `out` segments, then device-writable `in` segments) into the ring
 * without publishing it. `token` (not NULL) comes back from get_used().
 * Returns 0, -ENOSPC (too few descriptors), -EINVAL (no segment, NULL token, longer than the ring),
 * -ENOTSUP (mode not negotiated, or not this format's), -ENOMEM (no room for the table).
 */
static inline int ts_ring_add(struct ts_ring *r, const struct ts_seg *out, unsigned n_out,
	const struct ts_seg *in, unsigned n_in, void *token, enum ts_mode mode)
{
	return r->ops->add(r, out, n_out, in, n_in, token, mode);
}

/** Make everything added visible to the device. */
static inline void ts_ring_publish(struct ts_ring *r)
{
	r->ops->publish(r);
}

/** publish(), then: does the device ask for a kick for what was published since the last call? */
static inline bool ts_ring_kick_prepare(struct ts_ring *r)
{
	return r->ops->kick_prepare(r);
}

/** kick_prepare(), and if it says yes, count and write kick_fd. Returns what it said. */
bool ts_ring_kick(struct ts_ring *r);

/** Is there anything for get_used()? */
static inline bool ts_ring_more_used(const struct ts_ring *r)
{
	return r->ops->more_used(r);
}

/**
 * Take one completed chain: its token, and in *len (may be NULL) the bytes the device says it
 * wrote. NULL when there is none. Each entry is checked: an outstanding, published head, once,
 * not more bytes than were writable, in order if negotiated, no index jump, descriptors untouched.
 * A violation is recorded in r->faults; the length is cut to what was writable. What a packed ring
 * cannot go on after (which chain, and so how far to skip, is unknown) sets r->broken.
 */
static inline void *ts_ring_get_used(struct ts_ring *r, uint32_t *len)
{
	return r->ops->get_used(r, len);
}

/** Ask for calls from now on. False: something is used already, look again (calls stay asked). */
static inline bool ts_ring_enable_cb(struct ts_ring *r)
{
	return r->ops->enable_cb(r, false);
}

/** As enable_cb(), but with EVENT_IDX only after three quarters of what is out came back. */
static inline bool ts_ring_enable_cb_delayed(struct ts_ring *r)
{
	return r->ops->enable_cb(r, true);
}

/** Ask for no calls: a flag, or with EVENT_IDX an event as far away as possible. */
static inline void ts_ring_disable_cb(struct ts_ring *r)
{
	r->ops->disable_cb(r);
}

/**
 * With the device at rest: must it have called since calls were last asked for (by enable_cb() or
 * get_used())? Ask before reaping. Calls that were not due are allowed, missing ones never.
 */
static inline bool ts_ring_call_due(const struct ts_ring *r)
{
	return r->ops->call_due(r);
}

/** Drain call_fd: how many calls came since the last time (0 also without call_fd). */
uint64_t ts_ring_calls(struct ts_ring *r);

/**
 * Take back one chain the device did not complete: its token, NULL when there is none. Only on a
 * stopped ring, and ts_ring_reset() must follow before it is used again.
 */
static inline void *ts_ring_detach(struct ts_ring *r)
{
	return r->ops->detach(r);
}

/** Position behind the last published chain, in the form of SET_VRING_BASE. The used half of a
 * packed ring's is as in ts_ring_used_pos(). */
static inline uint32_t ts_ring_avail_pos(const struct ts_ring *r)
{
	return r->ops->avail_pos(r);
}

/** Position the device has completed up to (read from the ring), in the same form: where a device
 * goes on that does everything once more that was not completed. */
static inline uint32_t ts_ring_used_pos(const struct ts_ring *r)
{
	return r->ops->used_pos(r);
}

/** The bits of an available packed descriptor, and of a used one, under this wrap counter. */
#define TS_PACKED_BITS (1u << VRING_PACKED_DESC_F_AVAIL | 1u << VRING_PACKED_DESC_F_USED)

static inline uint16_t ts_packed_avail_bits(bool wrap)
{
	return 1u << (wrap ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED);
}

static inline uint16_t ts_packed_used_bits(bool wrap)
{
	return wrap ? TS_PACKED_BITS : 0;
}

static inline bool ts_ring_has(const struct ts_ring *r, unsigned bit)
{
	return r->features & TS_BIT(bit);
}

/** What the driver adds to guest addresses before it tells them the device. */
static inline uint64_t ts_ring_iova(const struct ts_ring *r)
{
	return ts_ring_has(r, VIRTIO_F_ACCESS_PLATFORM) ? r->guest->iova : 0;
}

#endif

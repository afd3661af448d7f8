/* SPDX-License-Identifier: BSD-3-Clause */
/* A virtqueue between a strict driver and the code under test, and the table of its variants. */
#ifndef VQ_H
#define VQ_H

#include "ts_guest.h"
#include "ts_ring.h"
#include "ts_tap.h"
#include "ts_util.h"
#include "virtq_ring.h"

/* A ring format as tests see it: what selects it, and its verbs. */
struct vq_format {
	const char *name;
	uint64_t features;
	const struct virtq_ops *ops;
	uint32_t sizes[12]; /* worth testing, 0 at the end */
};

extern const struct vq_format vq_formats[];
extern const unsigned vq_n_formats;

/* One column of the table. */
struct vq_case {
	const struct vq_format *format;
	bool indirect, mergeable, event_idx;
};

/* Regions of the guest: rings, then data in two neighbours, a hole, and one more. */
enum vq_region {
	VQ_RINGS,
	VQ_LOW,
	VQ_HIGH,
	VQ_FAR
};
#define VQ_REGION_SIZE 0x20000u
#define VQ_LOW_GPA     0x40000000ull
#define VQ_HIGH_GPA    (VQ_LOW_GPA + VQ_REGION_SIZE)
#define VQ_HOLE_GPA    (VQ_HIGH_GPA + VQ_REGION_SIZE)
#define VQ_FAR_GPA     (VQ_HOLE_GPA + VQ_REGION_SIZE)

struct vq {
	struct vq_case c;
	const struct virtq_ops *ops;
	struct ts_guest *guest;
	struct virtq_mem *mem; /* onto the guest's own mappings, which have guard pages */
	struct ts_ring *ring;
	struct virtq_view view;
	struct virtq *q;
	struct virtq_segs *segs;
	struct ts_rng rng;
	uint32_t ahead;  /* descriptors offered by vq_hostile.c and not looked at yet */
	const void *arg; /* of vq_main_with() */
};

enum vq_over {
	VQ_OVER_ALL,
	VQ_OVER_LAYOUT, /* {direct, indirect} */
	VQ_OVER_FORMAT,
	VQ_OVER_EVENT_IDX, /* formats, with it negotiated */
	/* What is about one format only, one of these added. */
	VQ_SPLIT = 16,
	VQ_PACKED = 32,
};

/** A test over all columns (formats x indirect x mergeable x event index), or over formats. */
struct vq_test {
	const char *name;
	void (*run)(struct vq *t);
	uint32_t size; /* of the ring */
	uint16_t base; /* so many descriptors (split: chains) into the ring's life it starts */
	unsigned over; /* enum vq_over */
};

/** Run tests over their columns; main()'s value. */
int vq_main(const struct vq_test *tests, size_t n, int argc, char **argv);

/** Likewise; each test finds its own arg in t->arg. */
int vq_main_with(
	const struct vq_test *tests, const void *const *args, size_t n, int argc, char **argv);

void vq_open(struct vq *t, const struct vq_case *c, uint32_t size, uint16_t base);
void vq_close(struct vq *t);

/** A table over the guest's guarded mappings: an access outside faults. Free with free(). */
struct virtq_mem *vq_guarded_mem(const struct ts_guest *g);

/** Replace the ring by one of another size or position (as in struct vq_test), started. */
void vq_new_ring(struct vq *t, uint32_t size, uint16_t base);

/** What a view says of where a ring lies, how large it is and what was negotiated. */
struct virtq_view vq_view_of(const struct ts_ring *r);

/** The position after n descriptors (split: chains), as in struct virtq. */
static inline uint16_t vq_pos(const struct vq *t, uint64_t n)
{
	return (uint16_t)ts_base_at(t->ring->features, t->ring->size, n);
}

/** A base for virtq_start() out of two positions; a split one has no used half. */
static inline uint32_t vq_base(const struct vq *t, uint16_t avail, uint16_t used)
{
	return t->view.packed ? avail | (uint32_t)used << 16 : avail;
}

/** How far the device has come by what the ring says, as in struct virtq. */
static inline uint16_t vq_shown(const struct vq *t)
{
	return (uint16_t)ts_ring_used_pos(t->ring);
}

/** How the driver of this column lays a chain out. */
static inline enum ts_mode vq_mode(const struct vq *t)
{
	return t->c.indirect ? TS_INDIRECT : TS_DIRECT;
}

/** Forget collected segments, as the start of a burst does. */
static inline void vq_burst_begin(struct vq *t)
{
	virtq_segs_begin(t->segs);
}

/** Take one chain that must be there. */
struct virtq_chain vq_take(struct vq *t, enum virtq_dir dir);

/** Add and publish one chain. */
void vq_post(struct vq *t, enum virtq_dir dir, const struct ts_seg *seg, unsigned n, void *token);

/** Add and publish numbered chains of one buffer, as many as asked for or as fit: how many. */
uint32_t vq_post_some(struct vq *t, uint32_t n, uint64_t *number);

/** The chains of one burst, at most max. */
uint16_t vq_take_some(struct vq *t, struct virtq_chain *chain, uint16_t max);

/** Hand chains back as the end of a burst does. */
void vq_give_all(struct vq *t, const struct virtq_chain *chain, uint16_t n);

/** All that came back, which is each number once and in order. */
void vq_reap_all(struct vq *t, uint64_t *number);

/** The chain's segments are exactly these buffers, cut where regions end. */
void vq_assert_segments(
	struct vq *t, const struct virtq_chain *chain, const struct ts_seg *seg, unsigned n);

/** The driver has seen nothing it must not see. */
void vq_assert_polite(const struct vq *t);

/** Is [va, va + len) inside guest memory? */
bool vq_in_guest(const struct vq *t, const uint8_t *va, uint64_t len);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* A device's half of a virtqueue for reading along with the specification: slow, and nothing else. */
#ifndef REF_H
#define REF_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Theory of operation
 *
 * Written from the text of virtio 1.2, 2.7 "Split Virtqueues" and 2.8 "Packed Virtqueues", byte by byte
 * where they lie, with no header, type or idea of lib/virtq's. A reference for drivers that keep to the
 * rules: what hostile ones get is test_hostile_model.c's.
 */

/* The three areas of a ring and the guest's memory they and its tables lie in. */
struct ref_ring {
	uint8_t *memory; /* guest address 0 */
	uint32_t desc, driver, device;
	uint32_t num;
	bool packed, event_idx;
};

struct ref_device {
	struct ref_ring r;
	/* split: free-running indexes; packed: descriptors, with a wrap counter each */
	uint32_t avail, used;
	bool avail_wrap, used_wrap;
	/* packed: what was used in this batch is made visible from the last to the first */
	struct {
		uint32_t at, len;
		uint16_t id, flags;
	} batch[1024];
	uint32_t n_batch;
	/* where what was shown last began */
	uint32_t batch_used, next_batch;
	bool batch_wrap, next_wrap;
};

struct ref_part {
	uint64_t addr;
	uint32_t len;
	bool writable;
};

struct ref_chain {
	struct ref_part part[256];
	uint32_t n;
	uint16_t id;
	uint32_t entries; /* of the ring */
};

/** Where a device stands that has used all it took: next available, next used. */
void ref_start(struct ref_device *d, const struct ref_ring *r, uint32_t used, bool wrap);

/** Take the next chain the driver made available. False: there is none. */
bool ref_take(struct ref_device *d, struct ref_chain *c);

/** Hand a chain back with so many bytes written, and let the driver see all that was handed back. */
void ref_use(struct ref_device *d, const struct ref_chain *c, uint32_t written);
void ref_show(struct ref_device *d);

/** After ref_show(): has the driver asked to be notified of what it showed? */
bool ref_notify(const struct ref_device *d);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* The in-flight region: what of a ring outlives a back-end that crashes. */
#ifndef VIRTQ_INFLIGHT_H
#define VIRTQ_INFLIGHT_H

#include "virtq.h"

/*
 * Theory of operation (vhost-user specification, "Inflight I/O tracking")
 *
 * Memory that the front-end keeps while back-ends come and go. Each ring has a part of it. A burst
 * of ours takes chains and gives them back in order before it ends, so between bursts none is in
 * flight, and one that is cut off before it publishes has changed nothing the driver sees: the next
 * back-end takes the same chains again. All it must know is where the driver saw us stop.
 *
 *   split	the used index says that itself. We repeat it (used_idx) behind publishing, which
 *		says that the batch is over.
 *
 *   packed	nothing in the ring says it. Before publishing we write where we are going to be
 *		(used_idx) beside where we are (old_used_idx); publishing is one store, to the
 *		descriptor at old_used_idx; then old becomes new. Whoever finds two different
 *		positions looks at that descriptor. Still available: the batch was not published,
 *		back to the old one. Otherwise on to the new one. Chains behind the first are
 *		overwritten before that store; what was there we keep in the region, in the entry
 *		of the same index, and whoever goes back puts it there again.
 *
 * Both positions, indexes and wrap counters, are eight aligned bytes and written at once, so there
 * is no moment in which an index has moved and its counter has not.
 *
 * Flags, counters and lists are for back-ends that complete out of order. We set none and so cost no
 * more than this; what another back-end has left is honoured (virtq_inflight_start).
 *
 * A part describes a ring while it runs. Where it was stopped in order (GET_VRING_BASE), whoever
 * starts it again says where, and the part is as good as new (version 0). So a part that has a
 * version tells of a crash and is right, whatever the front-end says: QEMU has no base for a packed
 * ring then, cloud-hypervisor a wrong one for a split ring.
 *
 * The front-end can write anything into it at any time: indexes are checked, loops are bounded,
 * and no address is made of what it says. At worst its own guest loses its ring.
 */

#define VIRTQ_INFLIGHT_VERSION 1

struct virtq_inflight_split_desc {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next; /* of the last batch */
	uint64_t counter;
};

struct virtq_inflight_split {
	uint64_t features; /* 0 */
	uint16_t version;  /* 0: not in use yet */
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct virtq_inflight_split_desc desc[];
};

struct virtq_inflight_packed_desc {
	uint8_t inflight;
	uint8_t padding;
	uint16_t next; /* free one */
	uint16_t last; /* of the chain */
	uint16_t num;  /* its length */
	uint64_t counter;
	uint16_t id;
	uint16_t flags;
	uint32_t len;
	union {
		uint64_t addr; /* with the three above: the descriptor, if it is in flight */
		uint64_t kept; /* ours is not: its second half, about to be overwritten */
	};
};

union virtq_inflight_pos {
	struct {
		uint16_t used_idx;
		uint16_t old_used_idx;
		uint8_t used_wrap_counter;
		uint8_t old_used_wrap_counter;
	};
	uint64_t all;
};

struct virtq_inflight_packed {
	uint64_t features; /* 0 */
	uint16_t version;  /* 0: not in use yet */
	uint16_t desc_num;
	uint16_t free_head;
	uint16_t old_free_head;
	union virtq_inflight_pos pos;
	uint8_t padding[8];
	struct virtq_inflight_packed_desc desc[];
};

/* A region, mapped: immutable and reference-counted, like a memory table; its bytes change. */
struct virtq_inflight;

/** Bytes a region needs for so many rings of at most @num entries. */
uint64_t virtq_inflight_size(uint16_t rings, uint16_t num, bool packed);

/**
 * Make an empty region.
 * @return its file, the caller's to close, which nobody can make shorter; or a negative errno.
 *	   Any thread.
 */
int virtq_inflight_create(uint64_t size);

/**
 * Map a region.
 * @param fd	borrowed; a memory file that is long enough
 * @param size	bytes; @param offset where in the file it begins
 * @param rings	that have a part in it, of at most @num entries each
 * @param packed they are so for certain: then it must be large enough for that
 * @param out	on success the region with one reference, which the caller owns
 * @param why	on failure one line saying what is wrong
 * @return 0, -EINVAL, -ENOMEM, or mmap's error. Any thread.
 */
int virtq_inflight_map(int fd, uint64_t size, uint64_t offset, uint16_t rings, uint16_t num,
	bool packed, struct virtq_inflight **out, char *why, size_t why_len);

/** Both take NULL. The last put unmaps: not for lcores. */
struct virtq_inflight *virtq_inflight_get(struct virtq_inflight *region);
void virtq_inflight_put(struct virtq_inflight *region);

/** Has a page of it vanished (virtq_trap.h)? */
bool virtq_inflight_gone(const struct virtq_inflight *region);

/** Its file (borrowed), and for how many rings of how many entries it was mapped. */
struct virtq_share virtq_inflight_share(
	const struct virtq_inflight *region, uint16_t *rings, uint16_t *num);

/** A ring's part for view->inflight_ring; NULL: it has none, or the region is NULL. */
void *virtq_inflight_ring(
	const struct virtq_inflight *region, unsigned ring, uint16_t num, bool packed);

/* ---- control thread, gate closed ---- */

/**
 * The ring has been given a position by its base; correct that if its part knows better, else let
 * the part begin there. Chains that another back-end had in flight out of order are handed back
 * with nothing written: the guest gets its descriptors back, and loses those packets. For
 * virtq_start().
 */
void virtq_inflight_start(struct virtq *vq, const struct virtq_view *v);

/** The ring was stopped and its position is known: the part is not needed. @param part may be NULL */
void virtq_inflight_stop(void *part, bool packed);

/* ---- lcore inside the gate, or control with the gate closed ---- */

/** The packed descriptor at this index is about to be overwritten, and not yet published. */
static inline void virtq_inflight_keep(const struct virtq_view *v, uint16_t at)
{
	struct virtq_inflight_packed *part = v->inflight_ring;

	virtq_store(&part->desc[at].kept, virtq_load((uint64_t *)&v->desc[at] + 1));
}

/** What publish() stores, and the record of it. Only where view->inflight_ring is not NULL. */
void virtq_inflight_publish(struct virtq *vq, const struct virtq_view *v);

#endif

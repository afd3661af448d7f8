/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty log of a live migration: which guest pages we have written. */
#ifndef VIRTQ_LOG_H
#define VIRTQ_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "virtq_ring.h"

/*
 * Theory of operation (vhost-user specification, "Migration")
 *
 * The log is a bitmap in memory the front-end shares, a bit for each guest page of 4 KiB. While
 * it copies the guest elsewhere it fetches and clears bits, and copies those pages again. We set
 * bits, after what they tell of has been written:
 *
 *	lcore				front-end
 *	write to the page		bit = exchange(bit, 0)
 *	--- F ---			(a full fence on its side)
 *	is the bit set? no: set it	read the page
 *
 * F is a full fence: an lcore that finds the bit set and leaves it may rely on the front-end, which
 * has not fetched it yet, to find the page as written. Without the look first, eight queues that
 * mark one byte again and again would keep its line from each other. Setting is atomic because
 * other queues, and the front-end, write to the same byte.
 *
 * A view that has no log costs a burst one comparison; with one, bursts are looked through once
 * more at their end, still inside the gate: when control has taken the view away, as it does before
 * it answers GET_VRING_BASE, all marks are there.
 */

#define VIRTQ_LOG_PAGE 4096u

/* Immutable and reference-counted, like a memory table; only the bits change. */
struct virtq_log;

/**
 * Map a log.
 * @param fd	borrowed; a memory file that is long enough
 * @param size	bytes; @param offset where in the file it begins
 * @param out	on success the log with one reference, which the caller owns
 * @param why	on failure one line saying what is wrong
 * @return 0, -EINVAL, -ENOMEM, or mmap's error. Any thread.
 */
int virtq_log_create(
	int fd, uint64_t size, uint64_t offset, struct virtq_log **out, char *why, size_t why_len);

/** Both take NULL. The last put unmaps: not for lcores. */
struct virtq_log *virtq_log_get(struct virtq_log *log);
void virtq_log_put(struct virtq_log *log);

/** Has a page of it vanished (virtq_trap.h)? */
bool virtq_log_gone(const struct virtq_log *log);

/** Its file; borrowed. */
struct virtq_share virtq_log_share(const struct virtq_log *log);

/**
 * Mark the pages of [gpa, gpa + len); what lies past the end of the log is left out. Between the
 * writes and this there must be a full fence. Any thread.
 */
void virtq_log_mark(struct virtq_log *log, uint64_t gpa, uint64_t len);

/* ---- of a view that has a log; lcore inside the gate, or control with the gate closed ---- */

/** Begin to mark what was written before this. */
static inline void virtq_log_begin(void)
{
	virtq_fence_full(); /* F */
}

/** The first bytes of a chain, as written by us. @param hint 0, and kept for a burst */
void virtq_log_chain(const struct virtq_view *v, uint32_t *hint, const struct virtq_chain *chain,
	uint32_t written);

/** What give() and publish() wrote since the ring's used position was @from. */
void virtq_log_used(const struct virtq *vq, const struct virtq_view *v, uint16_t from);

/** Where we say whether we want to be kicked. */
void virtq_log_kicks(const struct virtq_view *v);

#endif

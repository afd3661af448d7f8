/* SPDX-License-Identifier: BSD-3-Clause */
/* Packets from one guest's buffers to another's, without mbufs. */
#ifndef VNET_DIRECT_H
#define VNET_DIRECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_spinlock.h>

#include "virtq.h"

/* Of vnet_direct(): the ordinary way. */
#define VNET_DIRECT_NOT     UINT16_MAX /* what there is, or where it is to go, is not made for this */
#define VNET_DIRECT_NOT_NOW (UINT16_MAX - 1) /* just now; the next burst may */

static inline bool vnet_direct_went(uint16_t n)
{
	return n < VNET_DIRECT_NOT_NOW;
}

/* A private copy of so many bytes of a frame's beginning, or of all of a shorter one, 14 at least. */
#define VNET_BEGINNING 64
struct vnet_beginning {
	uint8_t byte[VNET_BEGINNING];
};

/* Where a burst goes. */
struct vnet_direct_to {
	struct virtq *vq;     /* that we send to */
	uint32_t max_len;     /* its guest takes no longer frames */
	rte_spinlock_t *lock; /* taken while it is used; NULL: nobody else sends there */
};

/**
 * Decide where a burst goes, by what its frames begin with.
 * @param way	to be filled in
 * @return how many of the first n frames go there; 0 is VNET_DIRECT_NOT, and VNET_DIRECT_NOT_NOW itself.
 *
 * Lcore, inside the sender's gate: it must not wait for anybody.
 */
typedef uint16_t (*vnet_decide_fn)(
	void *arg, const struct vnet_beginning *begin, uint16_t n, struct vnet_direct_to *way);

/**
 * Move up to n packets from a ring we receive from to one we send to, copying each once. Both were
 * given to vnet_prepare(). Packets are counted in both rings' stats.
 *
 * @param way	where to; with decide, only room for it
 * @param decide NULL: *way says it
 * @return how many were moved; 0: the sender has none, or its ring is down. VNET_DIRECT_NOT, VNET_DIRECT_NOT_NOW:
 *	   none was, and whatever there is must go by vnet_dequeue() and vnet_enqueue(). Not: a packet that asks for
 *	   something, comes or goes in pieces or is too long; a receiver's ring that is down. Not now: no
 *	   buffer; @lock is taken; buffers of the sender's are lent, its memory is logged, an announcement waits
 *
 * Lcore that polls @from, instead of vnet_dequeue(). Holds both rings' gates, but calls each guest with nothing of the
 * other's held.
 */
uint16_t vnet_direct_by(struct virtq *from, uint16_t n, struct vnet_direct_to *way,
	vnet_decide_fn decide, void *arg);

/** Where all of a guest's packets go to one other. */
static inline uint16_t vnet_direct(struct virtq *from, struct vnet_direct_to to, uint16_t n)
{
	return vnet_direct_by(from, n, &to, NULL, NULL);
}

#endif

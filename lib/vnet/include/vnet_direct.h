/* SPDX-License-Identifier: BSD-3-Clause */
/* Packets from one guest's buffers to another's, without mbufs. */
#ifndef VNET_DIRECT_H
#define VNET_DIRECT_H

#include <stddef.h>
#include <stdint.h>

#include <rte_spinlock.h>

#include "virtq.h"

/* Of vnet_direct(): the ordinary way. */
#define VNET_DIRECT_NOT UINT16_MAX

/* A private copy of so many bytes of a frame's beginning, or of all of a shorter one, 14 at least. */
#define VNET_BEGINNING 64
struct vnet_beginning {
	uint8_t byte[VNET_BEGINNING];
};

/* Where a burst goes. */
struct vnet_direct_to {
	struct virtq *vq;     /* that we send to */
	uint32_t max_len;     /* its guest takes no longer frames */
	rte_spinlock_t *lock; /* held while it is used; NULL: nobody else sends there */
};

/**
 * Decide where a burst goes, by what its frames begin with.
 * @param way	to be filled in
 * @return how many of the first n frames go there; 0: VNET_DIRECT_NOT. Lcore, inside the sender's gate.
 */
typedef uint16_t (*vnet_decide_fn)(
	void *arg, const struct vnet_beginning *begin, uint16_t n, struct vnet_direct_to *way);

/**
 * Move up to n packets from a ring we receive from to one we send to, copying each once. Both were
 * given to vnet_prepare(). Packets are counted in both rings' stats.
 *
 * @param way	where to; with decide, only room for it
 * @param decide NULL: *way says it
 * @return how many were moved; 0: the sender has none. VNET_DIRECT_NOT: none was, and whatever there is
 *	   must go by vnet_dequeue() and vnet_enqueue(): a packet that asks for something, comes or goes in pieces,
 *	   is too long or has no buffer; a ring that is down, about to end, or from which buffers are lent
 *
 * Lcore that polls @from, instead of vnet_dequeue().
 */
uint16_t vnet_direct_by(struct virtq *from, uint16_t n, struct vnet_direct_to *way,
	vnet_decide_fn decide, void *arg);

/** Where all of a guest's packets go to one other. */
static inline uint16_t vnet_direct(struct virtq *from, struct vnet_direct_to to, uint16_t n)
{
	return vnet_direct_by(from, n, &to, NULL, NULL);
}

#endif

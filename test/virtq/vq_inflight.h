/* SPDX-License-Identifier: BSD-3-Clause */
/* A ring with an in-flight region, and its back-end's death. */
#ifndef VQ_INFLIGHT_H
#define VQ_INFLIGHT_H

#include "virtq_inflight.h"
#include "vq.h"

/** A region for so many rings of at most num entries. */
struct virtq_inflight *vq_inflight_region(uint16_t rings, uint16_t num);

/** Replace the ring, as vq_new_ring(), by one whose state is in a new region. */
struct virtq_inflight *vq_inflight_begin(struct vq *t, uint32_t size, uint16_t base);

/** All that a process knows is gone, what the front-end says is wrong, and the next one goes on. */
void vq_inflight_crash(struct vq *t);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Two guests, and packets that go from one to the other without mbufs. */
#ifndef GUESTS_H
#define GUESTS_H

#include "pair.h"
#include "vnet_direct.h"

struct guests {
	struct pair from, to;
};

/** Most of them: mergeable buffers, event index, virtio 1. */
struct column guests_column(const struct vq_format *format);

void guests_open(struct guests *g, const struct column *from, const struct column *to);

/** What one has sent the other has got; and as pair_close(). */
void guests_close(struct guests *g);

/** vnet_direct() from one to the other. */
uint16_t guests_direct(const struct guests *g, uint16_t n, uint32_t max_len, rte_spinlock_t *lock);

/** A numbered packet, not published. @param cuts lengths of descriptors, ending with 0; or NULL */
void guests_sends(
	struct pair *p, uint32_t len, const uint32_t *cuts, uint32_t seq, enum ts_mode mode);

/** That packet has come, plain. */
void guests_receives(struct pair *p, uint32_t len, uint32_t seq);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* What dequeue.c and enqueue.c share: variants of a burst, and limits of a frame. */
#ifndef VNET_BURST_H
#define VNET_BURST_H

#include <linux/virtio_config.h>

#include <rte_ether.h>
#include <rte_prefetch.h>

#include "virtq_ring.h"
#include "vnet.h"

/* The longest frame: a 64 KiB IP packet and every header Ethernet may put before it. */
#define VNET_FRAME_MAX (65536 + 64)

/* A variant of a burst function: bits the compiler sees as constants. */
enum {
	VNET_OFFLOADS = 1, /* checksum or segmentation negotiated: look at headers */
	VNET_MERGEABLE = 2,
	VNET_LINEAR = 4,
	VNET_LEND = 8, /* the view has a lender */
};

virtq_burst_fn vnet_dequeue_fn(uint64_t features, const struct vnet_rx_conf *conf, bool lend);
virtq_burst_fn vnet_enqueue_fn(uint64_t features);

static inline bool vnet_packed(uint64_t features)
{
	return features & (1ull << VIRTIO_F_RING_PACKED);
}

/* Frame bytes of a ring's stats, once per burst. */
virtq_inline void vnet_count_burst(struct virtq_stats *st, uint32_t packets, uint64_t bytes)
{
	virtq_count(&st->packets, packets);
	virtq_count(&st->bytes, bytes);
}

/**
 * Receive what virtq_announce() asked for, instead of what the ring holds.
 * @param pkt where the packet goes
 * @return 1; 0: it must wait for an mbuf. Lcore, inside the gate.
 */
uint16_t vnet_announce(struct virtq *vq, const struct virtq_view *v, struct rte_mbuf **pkt);

/* A place in a chain's segments. */
struct vnet_cursor {
	const struct virtq_seg *seg, *end;
	uint32_t off; /* into *seg */
};

virtq_inline struct vnet_cursor vnet_cursor_at(const struct virtq_chain *chain)
{
	return (struct vnet_cursor){chain->seg, chain->seg + chain->nseg, 0};
}

/* What is contiguous here, at most want; 0 at the end. */
virtq_inline uint32_t vnet_cursor_room(struct vnet_cursor *c, uint32_t want)
{
	while (c->seg != c->end && c->off == c->seg->len) {
		c->seg++;
		c->off = 0;
	}
	if (c->seg == c->end)
		return 0;
	return RTE_MIN(want, c->seg->len - c->off);
}

#endif

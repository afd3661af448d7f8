/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing a packet to a guest's buffer that is one piece: what enqueue.c and direct.c share. */
#ifndef VNET_PLACE_H
#define VNET_PLACE_H

#include <string.h>

#include <linux/virtio_net.h>

#include "burst.h"
#include "far.h"

/* Header, most often only to be read (see place_header()), and frame, which with most drivers are
 * not on one line. */
virtq_inline void place_prefetch(const struct virtq_seg *seg, uint32_t hdr_len)
{
	rte_prefetch0(seg->va);
	virtq_prefetch_write(seg->va + hdr_len);
}

/*
 * The rest of a frame, while the one before is copied: the first line was fetched when the buffer was
 * taken. The guest has had these lines last, and the CPU asks for them one by one as they are stored to.
 */
virtq_inline void place_own(
	const struct virtq_seg *seg, uint32_t hdr_len, uint32_t len, const bool past)
{
	const uint8_t *va = seg->va + hdr_len;

	if (len <= RTE_CACHE_LINE_SIZE)
		return;
	if (unlikely(past && len >= FAR_LEAST && seg->len >= hdr_len + len)) {
		virtq_prefetch_write(va + len - 1);
		return;
	}
	len = RTE_MIN(len, seg->len);
	/* Two at a time: past the end is the next line of the same buffer, or nothing. */
	for (uint32_t at = RTE_CACHE_LINE_SIZE; at < len; at += 2 * RTE_CACHE_LINE_SIZE) {
		virtq_prefetch_write(va + at);
		virtq_prefetch_write(va + at + RTE_CACHE_LINE_SIZE);
	}
}

/* Most headers are what the buffer held the last time: then its line need not change owner,
 * neither now nor when the guest looks. */
virtq_inline void place_header_of(
	uint8_t *va, const struct virtio_net_hdr_v1 *hdr, const size_t len)
{
	if (unlikely(memcmp(va, hdr, len) != 0))
		memcpy(va, hdr, len);
}

virtq_inline void place_header(uint8_t *va, const struct virtio_net_hdr_v1 *hdr, uint32_t hdr_len)
{
	if (likely(hdr_len == sizeof(*hdr)))
		place_header_of(va, hdr, sizeof(*hdr));
	else
		place_header_of(va, hdr, sizeof(struct virtio_net_hdr));
}

/* A piece of a frame. @param past past the cache, and then @next is what comes after it. Two guests may share memory: it
 * may overlap. */
virtq_inline void place_write(
	uint8_t *va, const uint8_t *from, uint32_t len, const bool past, const uint8_t *next)
{
	if (unlikely(past))
		far_copy(va, from, len, next);
	else
		memmove(va, from, len);
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest that is nothing but a ring, for benchmarks. */
#include <linux/virtio_config.h>

#include <rte_malloc.h>

#include "measure.h"
#include "ring_guest.h"

#define GPA 0x100000000ull

static void *zeroed(size_t len)
{
	void *p = rte_zmalloc(NULL, len, 4096);

	if (!p)
		die("out of memory");
	return p;
}

struct virtq_view ring_guest_init(struct ring_guest *g)
{
	struct virtq_mem *mem = calloc(1, sizeof(*mem) + 2 * sizeof(mem->spans[0]));

	g->stride = ((128 + g->room + 63) / 64 | 1) * 64;
	g->desc = zeroed(g->num * sizeof(*g->desc));
	g->avail = zeroed((g->num + 4u) * sizeof(*g->avail));
	g->used = zeroed(8u * g->num + 8);
	g->buffers = zeroed((size_t)g->num * g->stride);
	g->vq = virtq_new();
	g->offered = 0;
	if (!mem || !g->vq)
		die("out of memory");
	mem->refs = 1;
	mem->n = 1;
	mem->spans[0] = (struct virtq_span){GPA, (uint64_t)g->num * g->stride, g->buffers};
	return (struct virtq_view){
		.desc = g->desc,
		.avail = (void *)g->avail,
		.used = (void *)g->used,
		.num = g->num,
		.hdr_len = HDR,
		.call_fd = -1,
		.mem = mem,
		.packed = g->packed,
		.features = 1ull << VIRTIO_F_VERSION_1 |
			    (uint64_t)g->mergeable << VIRTIO_NET_F_MRG_RXBUF |
			    (uint64_t)g->packed << VIRTIO_F_RING_PACKED,
	};
}

void ring_guest_start(struct ring_guest *g, const struct virtq_view *view)
{
	uint32_t ticket;

	g->view = virtq_view_new(view);
	if (!g->view)
		die("out of memory");
	virtq_start(g->vq, g->view, g->packed ? 1u << 15 | 1u << 31 : 0);
	virtq_gate_swap(&g->vq->gate, g->view, &ticket);
}

void ring_guest_fini(struct ring_guest *g)
{
	free(g->view->mem);
	free(g->view);
	virtq_free(g->vq);
	rte_free(g->buffers);
	rte_free(g->used);
	rte_free(g->avail);
	rte_free(g->desc);
}

static void offer_one(struct ring_guest *g, uint32_t n)
{
	uint16_t i = (uint16_t)(n % g->num), flags = g->size ? 0 : VRING_DESC_F_WRITE;
	uint64_t gpa = GPA + (uint64_t)(ring_guest_buffer(g, i) - g->buffers);
	uint32_t len = g->size ? (uint32_t)HDR + g->size : g->stride - 128;
	struct vring_packed_desc *packed = (void *)g->desc;
	bool odd = n / g->num & 1;

	if (!g->packed) {
		g->desc[i] = (struct vring_desc){gpa, len, flags, 0};
		if (g->avail[2 + i] != i)
			g->avail[2 + i] = i;
		return;
	}
	packed[i].addr = gpa;
	packed[i].len = len;
	packed[i].id = i;
	flags |= 1u << (odd ? VRING_PACKED_DESC_F_USED : VRING_PACKED_DESC_F_AVAIL);
	virtq_store_release(&packed[i].flags, flags);
}

void ring_guest_offer(struct ring_guest *g, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		offer_one(g, g->offered + i);
	if (!g->packed)
		virtq_store_release(&g->avail[1], (uint16_t)(g->offered + n));
	virtq_store_release(&g->offered, g->offered + n);
}

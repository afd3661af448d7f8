/* SPDX-License-Identifier: BSD-3-Clause */
/* Fuzz target: a ring that starts over an in-flight region of any content, and is served. */

/*
 * An input is a byte of settings, a byte for the ring's size, two positions, the length of the
 * region's content and that content; the rest is the ring's memory. Region and ring end where
 * guard pages begin, so that an access outside is a fault.
 */
#include "fuzz.h"
#include "ts_guest.h"
#include "virtq_packed.h"
#include "virtq_split.h"

enum setting {
	PACKED = 1 << 0,
	TWICE = 1 << 1, /* it crashes once more */
	DISCARD = 1 << 2,
};

#define SIZE 0x4000u

static struct ts_guest *guest;
static struct virtq_mem *mem;
static struct virtq *vq;

static void prepare(void)
{
	static const struct ts_region_conf regions[] = {
		{.gpa = 0, .size = SIZE},
		{.gpa = 0x100000, .size = SIZE},
	};

	guest = ts_guest_new();
	mem = calloc(1, sizeof(*mem) + 2 * sizeof(mem->spans[0]));
	vq = virtq_new();
	PROMISE(guest && mem && vq);
	PROMISE(ts_guest_add(guest, &regions[0]) == 0 && ts_guest_add(guest, &regions[1]) == 1);
	mem->spans[mem->n++] = (struct virtq_span){0, SIZE, guest->r[0].va};
	mem->refs = 1;
}

/* Descriptors first; the other two areas behind them. */
static struct virtq_view view_of(uint8_t settings, uint16_t num)
{
	uint8_t *at = guest->r[0].va, *avail = at + 16u * num;

	return (struct virtq_view){
		.desc = (struct vring_desc *)at,
		.avail = (struct vring_avail *)avail,
		.used = (struct vring_used *)(avail + ((6u + 2u * num + 3) & ~3u)),
		.num = num,
		.packed = settings & PACKED,
		.hdr_len = 12,
		.call_fd = -1,
		.mem = mem,
	};
}

static void burst(const struct virtq_view *v)
{
	const struct virtq_ops *ops = v->packed ? &virtq_packed_ops : &virtq_split_ops;
	struct virtq_chain chain[VIRTQ_BURST];
	uint16_t n = ops->ready(vq, v, VIRTQ_BURST), taken = 0;
	struct virtq_segs segs;

	virtq_segs_begin(&segs);
	while (taken < n && ops->take(vq, v, VIRTQ_FROM_GUEST, &segs, &chain[taken]))
		taken++;
	for (uint16_t i = 0; i < taken; i++)
		ops->give(vq, v, &chain[i], 0);
	if (taken > 0)
		ops->publish(vq, v);
}

static void start(const struct virtq_view *v, uint32_t base)
{
	virtq_start(vq, v, base);
	PROMISE(!v->packed ||
		((vq->avail & PACKED_INDEX) < v->num && (vq->used & PACKED_INDEX) < v->num));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	uint16_t num, avail, used;
	struct virtq_view v;
	uint8_t settings;
	uint64_t part;

	if (!guest)
		prepare();
	settings = fuzz_u8(&in);
	num = (uint16_t)(1 + fuzz_u8(&in));
	if (!(settings & PACKED))
		num = (uint16_t)(1u << num % 9);
	avail = fuzz_u16(&in);
	used = fuzz_u16(&in);
	if (settings & PACKED) {
		avail = (avail & PACKED_WRAP) | (avail & PACKED_INDEX) % num;
		used = (used & PACKED_WRAP) | (used & PACKED_INDEX) % num;
	}
	memset(guest->r[0].va, 0, SIZE);
	memset(guest->r[1].va, 0, SIZE);
	v = view_of(settings, num);
	part = virtq_inflight_size(1, num, settings & PACKED);
	v.inflight_ring = guest->r[1].va + SIZE - part;
	size = fuzz_u16(&in);
	fuzz_bytes(&in, v.inflight_ring, size < part ? size : part);
	fuzz_bytes(&in, guest->r[0].va, in.left < SIZE ? in.left : SIZE);
	for (unsigned i = 0; i < (settings & TWICE ? 2 : 1); i++) {
		start(&v, avail | (uint32_t)used << 16);
		burst(&v);
		burst(&v);
	}
	if (settings & DISCARD)
		virtq_discard(vq, &v, UINT32_MAX);
	return 0;
}

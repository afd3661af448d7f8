/* SPDX-License-Identifier: BSD-3-Clause */
/* Fuzz target: a ring and all of guest memory, walked in both directions. */

/*
 * An input is four bytes of settings and then pieces of the guest's memory: where, how many bytes,
 * the bytes. The first region begins with the descriptor table, the avail ring and the used ring;
 * the second is its neighbour, the third lies behind a hole; guard pages are around each, so that
 * an access outside is a fault.
 */
#include <sys/eventfd.h>

#include "fuzz.h"
#include "ts_guest.h"
#include "virtq_split.h"

enum setting {
	TO_GUEST = 1 << 0,
	INDIRECT = 1 << 1,
	EVENT_IDX = 1 << 2,
	DISCARD = 1 << 3, /* the upper four bits: log2 of the ring's size */
};

#define A_SIZE 0x4000u
#define B_SIZE 0x1000u
#define C_SIZE 0x1000u

static struct ts_guest *guest;
static struct virtq_mem *mem;
static struct virtq *vq;
static int call_fd;

static void prepare(void)
{
	static const struct ts_region_conf regions[] = {
		{.gpa = 0, .size = A_SIZE},
		{.gpa = A_SIZE, .size = B_SIZE},
		{.gpa = 0x8000, .size = C_SIZE},
	};

	guest = ts_guest_new();
	PROMISE(guest != NULL);
	mem = calloc(1, sizeof(*mem) + 4 * sizeof(mem->spans[0]));
	vq = virtq_new();
	PROMISE(mem && vq);
	for (unsigned i = 0; i < 3; i++) {
		PROMISE(ts_guest_add(guest, &regions[i]) == (int)i);
		mem->spans[mem->n++] =
			(struct virtq_span){regions[i].gpa, regions[i].size, guest->r[i].va};
	}
	mem->refs = 1;
	call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static void load_memory(struct fuzz_input *in)
{
	for (unsigned i = 0; i < 3; i++)
		memset(guest->r[i].va, 0, guest->r[i].size);
	while (in->left > 0) {
		uint64_t at = fuzz_u16(in);
		uint8_t len = fuzz_u8(in), bytes[255];

		fuzz_bytes(in, bytes, len);
		ts_guest_write(guest, at, bytes, len);
	}
}

static struct virtq_view view_of(uint8_t settings)
{
	uint16_t num = (uint16_t)(1u << ((settings >> 4) % 9));
	uint8_t *at = guest->r[0].va;

	return (struct virtq_view){
		.desc = (struct vring_desc *)at,
		.avail = (struct vring_avail *)(at + 16u * num),
		.used = (struct vring_used *)(at + ((16u * num + 6 + 2 * num + 3) & ~3u)),
		.num = num,
		.hdr_len = 12,
		.event_idx = settings & EVENT_IDX,
		.indirect = settings & INDIRECT,
		.call_fd = call_fd,
		.mem = mem,
	};
}

static bool in_guest(const uint8_t *va, uint64_t len)
{
	for (unsigned i = 0; i < 3; i++) {
		uint64_t off = (uint64_t)(va - guest->r[i].va);

		if (off < guest->r[i].size)
			return len <= guest->r[i].size - off;
	}
	return false;
}

/* Read or write both ends of every segment, and so perhaps the very descriptors. */
static void use(const struct virtq_chain *chain, enum virtq_dir dir)
{
	uint64_t sum = 0;

	for (uint16_t i = 0; i < chain->nseg; i++) {
		const struct virtq_seg *s = &chain->seg[i];

		PROMISE(s->len > 0 && in_guest(s->va, s->len));
		if (dir == VIRTQ_TO_GUEST)
			s->va[0] = s->va[s->len - 1] = (uint8_t)(0x11 * i);
		else
			sum += virtq_load(&s->va[0]) & virtq_load(&s->va[s->len - 1]) & 0;
		sum += s->len;
	}
	PROMISE(sum == chain->len);
}

static void burst(const struct virtq_view *v, enum virtq_dir dir, uint8_t back)
{
	struct virtq_chain chain[VIRTQ_BURST];
	const uint16_t avail = vq->avail, used = vq->used;
	uint16_t n = virtq_split_ops.ready(vq, v, VIRTQ_BURST), taken = 0;
	struct virtq_segs segs;

	PROMISE(n <= VIRTQ_BURST && n <= v->num);
	virtq_segs_begin(&segs);
	while (taken < n && virtq_split_ops.take(vq, v, dir, &segs, &chain[taken])) {
		PROMISE(segs.n <= VIRTQ_SEGS);
		use(&chain[taken++], dir);
	}
	PROMISE(vq->avail == (uint16_t)(avail + taken));
	PROMISE(taken == n || vq->fault || segs.full);
	if (taken == 0 && segs.full) /* alone too long for any burst */
		virtq_park(vq, VIRTQ_FAULT_TOO_LONG);
	back = taken ? back % (taken + 1) : 0;
	if (back > 0)
		virtq_split_ops.untake(vq, v, &chain[taken - back]);
	for (uint16_t i = 0; i < taken - back; i++)
		virtq_split_ops.give(vq, v, &chain[i], chain[i].len);
	if (taken > back)
		virtq_split_ops.publish(vq, v);
	PROMISE(vq->avail == (uint16_t)(avail + taken - back));
	PROMISE(vq->used == (uint16_t)(used + taken - back));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	struct virtq_view v;
	uint8_t settings, back;
	uint16_t base;

	if (!guest)
		prepare();
	settings = fuzz_u8(&in);
	back = fuzz_u8(&in);
	base = fuzz_u16(&in);
	load_memory(&in);
	v = view_of(settings);
	virtq_start(vq, &v, base);
	for (unsigned i = 0; i < 4 && !vq->fault; i++)
		burst(&v, settings & TO_GUEST ? VIRTQ_TO_GUEST : VIRTQ_FROM_GUEST,
			i == 0 ? back : 0);
	if (settings & DISCARD)
		virtq_discard(vq, &v, UINT32_MAX);
	return 0;
}

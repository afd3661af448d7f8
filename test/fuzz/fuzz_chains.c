/* SPDX-License-Identifier: BSD-3-Clause */
/* Fuzz target: a ring and all of guest memory, walked in both directions. */

/*
 * An input is four bytes of settings (flags and size of the ring, chains to put back, position) and
 * then pieces of the guest's memory: where, how many bytes, the bytes. The first region begins with
 * the descriptor table, the avail ring and the used ring, or a packed ring and what it has of these;
 * the second is its neighbour, the third lies behind a hole; guard pages are around each, so that
 * an access outside is a fault.
 */
#include <sys/eventfd.h>

#include "fuzz.h"
#include "ts_guest.h"
#include "virtq_packed.h"
#include "virtq_split.h"

enum setting {
	TO_GUEST = 1 << 0,
	INDIRECT = 1 << 1,
	EVENT_IDX = 1 << 2,
	DISCARD = 1 << 3,
	/* the upper four bits: log2 of a split ring's size, above 8 the size of a packed one */
};

static const uint16_t packed_sizes[] = {1, 3, 7, 16, 100, 255, 256};

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
	const bool packed = settings >> 4 > 8;
	uint16_t num =
		packed ? packed_sizes[(settings >> 4) - 9] : (uint16_t)(1u << (settings >> 4));
	uint8_t *at = guest->r[0].va;
	uint32_t used = packed ? 16u * num + 4 : (16u * num + 6 + 2 * num + 3) & ~3u;

	return (struct virtq_view){
		.desc = (struct vring_desc *)at,
		.avail = (struct vring_avail *)(at + 16u * num),
		.used = (struct vring_used *)(at + used),
		.num = num,
		.packed = packed,
		.hdr_len = 12,
		.event_idx = settings & EVENT_IDX,
		.indirect = settings & INDIRECT,
		.call_fd = call_fd,
		.mem = mem,
	};
}

/* Both halves of a packed ring's base; lib/vhost_user sees to it that they are in the ring. */
static uint32_t base_of(const struct virtq_view *v, uint16_t base)
{
	if (!v->packed)
		return base;
	base = (uint16_t)((base & PACKED_WRAP) | (base & PACKED_INDEX) % v->num);
	return base | (uint32_t)base << 16;
}

/* The position behind a chain at another one. */
static uint16_t behind(const struct virtq_view *v, uint16_t pos, const struct virtq_chain *chain)
{
	return v->packed ? packed_advance(pos, chain->ndesc, v->num) : (uint16_t)(pos + 1);
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

/* As many chains as there are. */
static uint16_t take(const struct virtq_view *v, const struct virtq_ops *ops, enum virtq_dir dir,
	struct virtq_segs *segs, struct virtq_chain *chain)
{
	uint16_t n = ops->ready(vq, v, VIRTQ_BURST), taken = 0, pos = vq->avail;

	PROMISE(n <= VIRTQ_BURST && (v->packed || n <= v->num));
	virtq_segs_begin(segs);
	while (taken < n && ops->take(vq, v, dir, segs, &chain[taken])) {
		PROMISE(segs->n <= VIRTQ_SEGS && chain[taken].pos == pos);
		PROMISE(chain[taken].ndesc > 0 && chain[taken].ndesc <= v->num);
		pos = behind(v, pos, &chain[taken]);
		use(&chain[taken++], dir);
	}
	PROMISE(vq->avail == pos);
	PROMISE(taken == n || vq->fault || segs->full || v->packed);
	if (taken == 0 && segs->full) /* alone too long for any burst */
		virtq_park(vq, VIRTQ_FAULT_TOO_LONG);
	return taken;
}

static void burst(const struct virtq_view *v, enum virtq_dir dir, uint8_t back)
{
	const struct virtq_ops *ops = v->packed ? &virtq_packed_ops : &virtq_split_ops;
	struct virtq_chain chain[VIRTQ_BURST];
	struct virtq_segs segs;
	uint16_t taken = take(v, ops, dir, &segs, chain), pos = vq->used;

	back = taken ? back % (taken + 1) : 0;
	if (back > 0) {
		ops->untake(vq, v, &chain[taken - back]);
		PROMISE(vq->avail == chain[taken - back].pos);
	}
	for (uint16_t i = 0; i < taken - back; i++) {
		ops->give(vq, v, &chain[i], chain[i].len);
		pos = behind(v, pos, &chain[i]);
	}
	if (taken > back)
		ops->publish(vq, v);
	PROMISE(vq->used == pos && !vq->pending);
	PROMISE(!v->packed || (pos & PACKED_INDEX) < v->num);
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
	virtq_start(vq, &v, base_of(&v, base));
	for (unsigned i = 0; i < 4 && !vq->fault; i++)
		burst(&v, settings & TO_GUEST ? VIRTQ_TO_GUEST : VIRTQ_FROM_GUEST,
			i == 0 ? back : 0);
	if (settings & DISCARD)
		virtq_discard(vq, &v, UINT32_MAX);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* A ring in fenced memory, and what must be true of whatever is taken from it. */
#include "fuzz_ring.h"

#include <sys/eventfd.h>

static const uint16_t packed_sizes[] = {1, 3, 7, 16, 100, 255, 256};

struct ts_guest *fuzz_guest;
struct virtq_mem *fuzz_mem;
struct virtq *fuzz_vq;
static int call_fd;

void fuzz_ring_prepare(void)
{
	static const struct ts_region_conf regions[] = {
		{.gpa = 0, .size = FUZZ_A_SIZE},
		{.gpa = FUZZ_A_SIZE, .size = FUZZ_B_SIZE},
		{.gpa = 0x8000, .size = FUZZ_C_SIZE},
	};

	fuzz_guest = ts_guest_new();
	PROMISE(fuzz_guest != NULL);
	fuzz_mem = calloc(1, sizeof(*fuzz_mem) + 4 * sizeof(fuzz_mem->spans[0]));
	fuzz_vq = virtq_new();
	PROMISE(fuzz_mem && fuzz_vq);
	for (unsigned i = 0; i < FUZZ_REGIONS; i++) {
		PROMISE(ts_guest_add(fuzz_guest, &regions[i]) == (int)i);
		fuzz_mem->spans[fuzz_mem->n++] =
			(struct virtq_span){regions[i].gpa, regions[i].size, fuzz_guest->r[i].va};
	}
	fuzz_mem->refs = 1;
	fuzz_mem->perm = VIRTQ_PERM_BOTH; /* looked at only where it is a table of I/O addresses */
	call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void fuzz_load(struct fuzz_input *in)
{
	for (unsigned i = 0; i < FUZZ_REGIONS; i++)
		memset(fuzz_guest->r[i].va, 0, fuzz_guest->r[i].size);
	fuzz_patch(in);
}

void fuzz_patch(struct fuzz_input *in)
{
	while (in->left > 0) {
		uint64_t at = fuzz_u16(in);
		uint8_t len = fuzz_u8(in), bytes[255];

		fuzz_bytes(in, bytes, len);
		ts_guest_write(fuzz_guest, at, bytes, len);
	}
}

struct virtq_view fuzz_view(uint8_t settings)
{
	const bool packed = settings >> 4 > 8;
	uint16_t num =
		packed ? packed_sizes[(settings >> 4) - 9] : (uint16_t)(1u << (settings >> 4));
	uint8_t *at = fuzz_guest->r[0].va;
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
		.miss_fd = call_fd,
		.mem = fuzz_mem,
	};
}

uint32_t fuzz_base(const struct virtq_view *v, uint16_t base)
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

bool fuzz_in_guest(const uint8_t *va, uint64_t len)
{
	for (unsigned i = 0; i < FUZZ_REGIONS; i++) {
		uint64_t off = (uint64_t)(va - fuzz_guest->r[i].va);

		if (off < fuzz_guest->r[i].size)
			return len <= fuzz_guest->r[i].size - off;
	}
	return false;
}

/* Read or write both ends of every segment, and so perhaps the very descriptors. */
static void use(const struct virtq_chain *chain, enum virtq_dir dir)
{
	uint64_t sum = 0;

	for (uint16_t i = 0; i < chain->nseg; i++) {
		const struct virtq_seg *s = &chain->seg[i];

		PROMISE(s->len > 0 && fuzz_in_guest(s->va, s->len));
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
	uint16_t n = ops->ready(fuzz_vq, v, VIRTQ_BURST), taken = 0, pos = fuzz_vq->avail;

	PROMISE(n <= VIRTQ_BURST && (v->packed || n <= v->num));
	virtq_segs_begin(segs);
	while (taken < n && ops->take(fuzz_vq, v, dir, segs, &chain[taken])) {
		PROMISE(segs->n <= VIRTQ_SEGS && chain[taken].pos == pos);
		PROMISE(chain[taken].ndesc > 0 && chain[taken].ndesc <= v->num);
		pos = behind(v, pos, &chain[taken]);
		use(&chain[taken++], dir);
	}
	PROMISE(fuzz_vq->avail == pos);
	PROMISE(taken == n || fuzz_vq->fault || segs->full || v->packed || fuzz_vq->miss_perm);
	if (taken == 0 && segs->full) /* alone too long for any burst */
		virtq_park(fuzz_vq, VIRTQ_FAULT_TOO_LONG);
	return taken;
}

void fuzz_take_and_give(const struct virtq_view *v, enum virtq_dir dir, uint8_t back)
{
	const struct virtq_ops *ops = v->packed ? &virtq_packed_ops : &virtq_split_ops;
	struct virtq_chain chain[VIRTQ_BURST];
	struct virtq_segs segs;
	uint16_t taken = take(v, ops, dir, &segs, chain), pos = fuzz_vq->used;

	back = taken ? back % (taken + 1) : 0;
	if (back > 0) {
		ops->untake(fuzz_vq, v, &chain[taken - back]);
		PROMISE(fuzz_vq->avail == chain[taken - back].pos);
	}
	for (uint16_t i = 0; i < taken - back; i++) {
		ops->give(fuzz_vq, v, &chain[i], chain[i].len);
		pos = behind(v, pos, &chain[i]);
	}
	if (taken > back)
		ops->publish(fuzz_vq, v);
	PROMISE(fuzz_vq->used == pos && !fuzz_vq->pending);
	PROMISE(!v->packed || (pos & PACKED_INDEX) < v->num);
}

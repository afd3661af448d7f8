/* SPDX-License-Identifier: BSD-3-Clause */
/* Fuzz target: indirect tables of both formats, looked up in the guest's memory or behind an IOMMU. */

/*
 * An input is four bytes of settings as of fuzz_chains, a byte of which tables there are of, and then for each
 * chain: how it begins, where its table lies and how long it says it is; and for each descriptor
 * of the table a byte that chooses among sensible ones, or says that all of it follows. So what mutates is
 * tables, while the ring itself stays one that is walked. What is left is written over memory as by fuzz_load().
 */
#include "fuzz_ring.h"

/* How memory and table are looked up. */
enum lookup {
	TRANSLATED =
		1 << 0, /* the table of memory is one of an IOTLB: what is not in it is asked for */
	APART = 1 << 1, /* tables are looked up in another one, which has the first region only */
	PEEK = 1 << 2,  /* somebody looks ahead, too */
	TWICE = 1 << 3,
};

/* How a chain begins, before its table. */
enum beginning {
	DIRECT = 3,           /* so many descriptors */
	NESTED = 1 << 2,      /* the table is said to go on in the ring */
	WRITABLE = 1 << 3,    /* the descriptor of the table says so */
	FAR_ENTRIES = 1 << 4, /* a table of as many entries as there may be, and one more */
};

static struct virtq_mem *tables;

static const uint16_t places[] = {0x3000, 0x3008, 0x3001, FUZZ_A_SIZE - 16, FUZZ_A_SIZE - 24,
	FUZZ_A_SIZE + FUZZ_B_SIZE - 32, 0x8000, 0x8000 + FUZZ_C_SIZE - 16};

static void prepare(void)
{
	fuzz_ring_prepare();
	/* Room for all: a hint may come from the other table, see virtq_iotlb.h. */
	tables = calloc(1, sizeof(*tables) + (FUZZ_REGIONS + 1) * sizeof(tables->spans[0]));
	PROMISE(tables);
	tables->spans[tables->n++] = fuzz_mem->spans[0];
	tables->refs = 1;
	tables->perm = VIRTQ_PERM_READ;
}

/* One descriptor of a table, the i-th. */
static struct vring_desc entry(struct fuzz_input *in, uint16_t i, uint16_t flags)
{
	static const uint64_t at[] = {0x3800, FUZZ_A_SIZE - 8, FUZZ_A_SIZE + FUZZ_B_SIZE - 8,
		0x8000 + FUZZ_C_SIZE - 8, 0, 0x6000, UINT64_MAX - 7, 0x3010};
	static const uint32_t lengths[] = {12, 60, 0, 8, 9, 0x1000, UINT32_MAX, 1};
	const uint8_t how = fuzz_u8(in);
	struct vring_desc d = {at[how & 7], lengths[how >> 3 & 7], flags, (uint16_t)(i + 1)};

	if (how & 0x40)
		d.flags |= VRING_DESC_F_NEXT;
	if (how == 0xff)
		fuzz_bytes(in, &d, sizeof(d));
	else if (how & 0x80)
		d.next = fuzz_u8(in);
	return d;
}

static void put(uint64_t at, struct vring_desc d, const struct virtq_view *v, bool ring)
{
	const struct vring_packed_desc p = {.addr = d.addr,
		.len = d.len,
		.id = d.next,
		.flags = (uint16_t)(d.flags | (ring ? 1u << VRING_PACKED_DESC_F_AVAIL : 0))};

	if (v->packed)
		ts_guest_write(fuzz_guest, at, &p, sizeof(p));
	else
		ts_guest_write(fuzz_guest, at, &d, sizeof(d));
}

/* Returns the ring entry behind it. */
static uint16_t make_chain(
	struct fuzz_input *in, const struct virtq_view *v, uint16_t i, uint16_t flags)
{
	const uint8_t how = fuzz_u8(in), where = fuzz_u8(in), n = fuzz_u8(in) % 32;
	uint16_t at = (uint16_t)(places[where & 7] + (where >> 3) * 64);
	uint32_t len = 16u * n;

	for (unsigned k = how & DIRECT; k > 0 && i + 1 < v->num; k--, i++)
		put(16u * i,
			(struct vring_desc){
				0x3c00, 20, flags | VRING_DESC_F_NEXT, (uint16_t)(i + 1)},
			v, true);
	if (how & FAR_ENTRIES)
		len = 16u * (VIRTQ_INDIRECT_MAX + (where & 1)) + (where >> 1 & 1);
	put(16u * i,
		(struct vring_desc){at, len,
			(uint16_t)(VRING_DESC_F_INDIRECT | (how & NESTED ? VRING_DESC_F_NEXT : 0) |
				   (how & WRITABLE ? VRING_DESC_F_WRITE : 0)),
			(uint16_t)(i + 1)},
		v, true);
	for (uint16_t k = 0; k < n; k++)
		put(at + 16u * k, entry(in, k, flags), v, false);
	return (uint16_t)(i + 1);
}

/* Chains one behind the other; split: all of them available. */
static void make_ring(struct fuzz_input *in, const struct virtq_view *v, uint16_t flags)
{
	uint16_t avail[3] = {0}, head = 0, heads[8];

	for (unsigned n = 1 + fuzz_u8(in) % 8u; n > 0 && head < v->num && in->left > 0; n--) {
		heads[avail[1]++] = head;
		head = make_chain(in, v, head, flags);
	}
	if (v->packed)
		return;
	ts_guest_write(fuzz_guest, 16u * v->num, avail, 4);
	ts_guest_write(fuzz_guest, 16u * v->num + 4, heads, 2u * avail[1]);
}

static bool look(void *arg, uint64_t addr, uint32_t len, bool table)
{
	unsigned *seen = arg;

	(void)addr, (void)len;
	PROMISE(++*seen <= 2 * 40);
	return table;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	uint8_t settings, back, lookup;
	enum virtq_dir dir;
	struct virtq_view v;
	unsigned seen = 0;

	if (!tables)
		prepare();
	settings = fuzz_u8(&in) | INDIRECT;
	dir = settings & TO_GUEST ? VIRTQ_TO_GUEST : VIRTQ_FROM_GUEST;
	back = fuzz_u8(&in);
	lookup = fuzz_u8(&in);
	fuzz_load(&(struct fuzz_input){0});
	v = fuzz_view(settings);
	make_ring(&in, &v, settings & TO_GUEST ? VRING_DESC_F_WRITE : 0);
	fuzz_patch(&in);
	fuzz_mem->guest = tables->guest = lookup & TRANSLATED ? fuzz_mem : NULL;
	v.tables = lookup & APART ? tables : NULL;
	virtq_start(fuzz_vq, &v, fuzz_base(&v, v.packed ? PACKED_WRAP : 0));
	fuzz_vq->miss_perm = 0;
	if (lookup & PEEK)
		virtq_peek(fuzz_vq, &v, 40, look, &seen);
	for (unsigned i = 0; i < (lookup & TWICE ? 4 : 2) && !fuzz_vq->fault; i++)
		fuzz_take_and_give(&v, dir, i == 0 ? back : 0);
	if (settings & DISCARD)
		virtq_discard(fuzz_vq, &v, UINT32_MAX);
	fuzz_mem->guest = tables->guest = NULL;
	return 0;
}

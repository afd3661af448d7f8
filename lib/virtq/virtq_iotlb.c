/* SPDX-License-Identifier: BSD-3-Clause */
/* The cache of an IOMMU's translations, as the control thread keeps it. */
#include "virtq_iotlb.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	uint64_t iova, last; /* both included */
	uint64_t uva;
	uint8_t *va;
	uint64_t touched;
	uint8_t perm;
};

struct virtq_iotlb {
	uint64_t clock;
	uint32_t n;
	/* By iova, never overlapping. Two more than may stay: one that is inserted in the middle
	 * of another leaves three. */
	struct entry e[VIRTQ_IOTLB_MAX + 2];
};

struct virtq_iotlb *virtq_iotlb_new(void)
{
	return calloc(1, sizeof(struct virtq_iotlb));
}

void virtq_iotlb_free(struct virtq_iotlb *tlb)
{
	free(tlb);
}

void virtq_iotlb_clear(struct virtq_iotlb *tlb)
{
	tlb->n = 0;
}

uint32_t virtq_iotlb_count(const struct virtq_iotlb *tlb)
{
	return tlb->n;
}

/* The first entry that does not end before iova. */
static uint32_t find(const struct virtq_iotlb *tlb, uint64_t iova)
{
	uint32_t lo = 0, hi = tlb->n;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (tlb->e[mid].last < iova)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static uint64_t last_of(uint64_t iova, uint64_t size)
{
	return size == 0 || size - 1 > UINT64_MAX - iova ? UINT64_MAX : iova + (size - 1);
}

/* Move what begins at from to where it begins at to. */
static void shift(struct virtq_iotlb *tlb, uint32_t from, uint32_t to)
{
	memmove(&tlb->e[to], &tlb->e[from], (tlb->n - from) * sizeof(tlb->e[0]));
	tlb->n += to - from;
}

static void skip(struct entry *e, uint64_t to)
{
	e->va += to - e->iova;
	e->uva += to - e->iova;
	e->iova = to;
}

/* Make [iova, last] empty. Returns whether it was not. */
static bool cut(struct virtq_iotlb *tlb, uint64_t iova, uint64_t last)
{
	uint32_t i = find(tlb, iova), end;

	if (i == tlb->n || tlb->e[i].iova > last)
		return false;
	if (tlb->e[i].iova < iova) {
		if (tlb->e[i].last > last) { /* out of its middle */
			shift(tlb, i, i + 1);
			tlb->e[i].last = iova - 1;
			skip(&tlb->e[i + 1], last + 1);
			return true;
		}
		tlb->e[i++].last = iova - 1;
	}
	for (end = i; end < tlb->n && tlb->e[end].last <= last; end++)
		;
	if (end < tlb->n && tlb->e[end].iova <= last)
		skip(&tlb->e[end], last + 1);
	shift(tlb, end, i);
	return true;
}

static void evict(struct virtq_iotlb *tlb)
{
	while (tlb->n > VIRTQ_IOTLB_MAX) {
		uint32_t oldest = 0;

		for (uint32_t i = 1; i < tlb->n; i++)
			if (tlb->e[i].touched < tlb->e[oldest].touched)
				oldest = i;
		shift(tlb, oldest + 1, oldest);
	}
}

/* Make one of entry i and the one behind it, if they are. */
static void merge(struct virtq_iotlb *tlb, uint32_t i)
{
	struct entry *a = &tlb->e[i], *b = a + 1;
	uint64_t size = a->last - a->iova + 1;

	if (i + 1 >= tlb->n || a->last + 1 != b->iova || a->perm != b->perm ||
		a->va + size != b->va || a->uva + size != b->uva)
		return;
	a->last = b->last;
	if (a->touched < b->touched)
		a->touched = b->touched;
	shift(tlb, i + 2, i + 1);
}

int virtq_iotlb_update(struct virtq_iotlb *tlb, const struct virtq_mem *guest, uint64_t iova,
	uint64_t size, uint64_t uva, uint8_t perm, char *why, size_t why_len)
{
	uint8_t *va = guest && size ? virtq_mem_uva(guest, uva, size) : NULL;
	uint32_t i;

	if (!va || size - 1 > UINT64_MAX - iova || perm == 0 || perm > VIRTQ_PERM_BOTH) {
		snprintf(why, why_len,
			"the IOMMU maps 0x%" PRIx64 " bytes at 0x%" PRIx64 " to 0x%" PRIx64
			" (permissions %u), which is not in one memory region",
			size, iova, uva, perm);
		return -EINVAL;
	}
	cut(tlb, iova, iova + (size - 1));
	i = find(tlb, iova);
	shift(tlb, i, i + 1);
	tlb->e[i] = (struct entry){.iova = iova,
		.last = iova + (size - 1),
		.uva = uva,
		.va = va,
		.touched = ++tlb->clock,
		.perm = perm};
	merge(tlb, i);
	if (i > 0)
		merge(tlb, i - 1);
	evict(tlb);
	return 0;
}

bool virtq_iotlb_invalidate(struct virtq_iotlb *tlb, uint64_t iova, uint64_t size)
{
	bool changed = cut(tlb, iova, last_of(iova, size));

	evict(tlb);
	return changed;
}

void virtq_iotlb_touch(struct virtq_iotlb *tlb, uint64_t iova, uint64_t size)
{
	uint64_t last = last_of(iova, size);

	tlb->clock++;
	for (uint32_t i = find(tlb, iova); i < tlb->n && tlb->e[i].iova <= last; i++)
		tlb->e[i].touched = tlb->clock;
}

uint8_t virtq_iotlb_perm(const struct virtq_iotlb *tlb, uint64_t iova)
{
	uint32_t i = find(tlb, iova);

	return i < tlb->n && tlb->e[i].iova <= iova ? tlb->e[i].perm : 0;
}

struct virtq_mem *virtq_iotlb_table(
	const struct virtq_iotlb *tlb, struct virtq_mem *guest, enum virtq_perm perm)
{
	/* Room for all, whatever the permission: a hint may come from the other table. */
	struct virtq_mem *mem = calloc(1, sizeof(*mem) + (tlb->n + 1) * sizeof(mem->spans[0]));

	if (!mem)
		return NULL;
	mem->refs = 1;
	mem->guest = virtq_mem_get(guest);
	mem->perm = perm;
	for (uint32_t i = 0; i < tlb->n; i++) {
		const struct entry *e = &tlb->e[i];
		struct virtq_span *s = &mem->spans[mem->n], *before = s - 1;
		uint64_t size = e->last - e->iova + 1;

		if (!(e->perm & perm))
			continue;
		if (mem->n > 0 && before->gpa + before->size == e->iova &&
			before->hva + before->size == e->va) {
			before->size += size;
			continue;
		}
		*s = (struct virtq_span){e->iova, size, e->va};
		mem->n++;
	}
	return mem;
}

int virtq_iotlb_range(
	const struct virtq_mem *table, uint64_t iova, uint64_t len, uint8_t **va, uint64_t *missing)
{
	uint64_t part = len;
	uint32_t hint = 0;

	*va = virtq_mem_gpa(table, &hint, iova, &part);
	if (*va && part == len)
		return 0;
	*missing = *va ? iova + part : iova;
	return *va && virtq_mem_find(table, *missing) ? -EFAULT : -ENOENT;
}

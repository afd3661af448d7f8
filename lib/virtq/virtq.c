/* SPDX-License-Identifier: BSD-3-Clause */
/* What of a virtqueue is not on the hot path. */
#include "virtq.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtq_inflight.h"
#include "virtq_lend.h"
#include "virtq_log.h"
#include "virtq_packed.h"
#include "virtq_signal.h"
#include "virtq_split.h"

_Static_assert(sizeof(struct vring_desc) == 16, "virtio 1.2, 2.7.5");
_Static_assert(sizeof(struct vring_packed_desc) == 16, "virtio 1.2, 2.8.13");
_Static_assert(sizeof(struct vring_used_elem) == 8, "virtio 1.2, 2.7.8");
_Static_assert(offsetof(struct virtq, stats) == 64, "an idle poll touches one line");
_Static_assert(VIRTQ_SEGS >= VIRTQ_BURST, "a burst needs a segment per packet");

const char *virtq_fault_text(enum virtq_fault fault)
{
	static const char *const text[] = {
#define X(name, str) str,
		VIRTQ_FAULTS(X)
#undef X
	};

	return fault < VIRTQ_FAULT_COUNT ? text[fault] : "unknown";
}

#define X(name, str, advice) {str, advice},
static const struct {
	const char *name, *advice;
} drops[] = {VIRTQ_DROPS(X)};
#undef X

const char *virtq_drop_name(enum virtq_drop drop)
{
	return drop < VIRTQ_DROP_COUNT ? drops[drop].name : "unknown";
}

const char *virtq_drop_advice(enum virtq_drop drop)
{
	return drop < VIRTQ_DROP_COUNT ? drops[drop].advice : "unknown";
}

struct virtq *virtq_new(void)
{
	struct virtq *vq = aligned_alloc(64, (sizeof(*vq) + 63) & ~(size_t)63);

	if (vq) {
		memset(vq, 0, sizeof(*vq));
		vq->closed = VIRTQ_DROP_TX_DISCONNECTED;
	}
	return vq;
}

void virtq_free(struct virtq *vq)
{
	free(vq);
}

void virtq_count_frame_slow(struct virtq_stats *st, const uint8_t *frame)
{
	static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	if (memcmp(frame, broadcast, sizeof(broadcast)) == 0)
		virtq_count(&st->broadcast, 1);
	else
		virtq_count(&st->multicast, 1);
}

/* ---- the walk: here and only here, both formats, direct chains and indirect tables ---- */

/* What it means that an address is not in a table. */
static enum virtq_fault unmapped(const struct virtq_mem *mem, struct virtq_segs *segs, uint64_t gpa)
{
	if (!mem->guest)
		return VIRTQ_FAULT_BAD_ADDRESS;
	segs->miss = gpa;
	segs->miss_perm = mem->perm;
	return VIRTQ_MISS;
}

/* One at a time: the ring cannot go on before it is answered anyway. */
static void tell_miss(struct virtq *vq, const struct virtq_view *v, const struct virtq_segs *segs)
{
	static const uint64_t one = 1;

	if (virtq_load(&vq->miss_perm))
		return;
	virtq_store(&vq->miss, segs->miss);
	virtq_store_release(&vq->miss_perm, segs->miss_perm); /* G */
	virtq_count(&vq->stats.iotlb_misses, 1);
	if (write(v->miss_fd, &one, sizeof(one)) < 0)
		return; /* full: it will be looked at anyway */
}

/* Park the ring, tell control of a miss, or note that there was no room. */
static void walk_failed(struct virtq *vq, const struct virtq_view *v, struct virtq_segs *segs,
	enum virtq_fault fault)
{
	if (fault == VIRTQ_MISS)
		tell_miss(vq, v, segs);
	else if (fault == VIRTQ_FAULT_TOO_LONG)
		segs->full = true;
	else
		virtq_park(vq, fault);
}

/* Translate one descriptor's buffer and append it, in pieces if it crosses memory regions. An empty
 * one adds nothing and its address is not looked at. */
static enum virtq_fault desc_add(const struct virtq_view *v, struct virtq_desc d,
	enum virtq_dir dir, struct virtq_segs *segs, uint64_t *bytes)
{
	if (!(d.flags & VRING_DESC_F_WRITE) != (dir == VIRTQ_FROM_GUEST))
		return VIRTQ_FAULT_BAD_DIRECTION;
	*bytes += d.len;
	while (d.len > 0) {
		uint64_t part = d.len;
		uint8_t *va;

		if (segs->n == VIRTQ_SEGS)
			return VIRTQ_FAULT_TOO_LONG;
		va = virtq_mem_gpa(v->mem, &segs->hint, d.addr, &part);
		if (!va)
			return unmapped(v->mem, segs, d.addr);
		segs->seg[segs->n++] = (struct virtq_seg){va, (uint32_t)part};
		d.addr += part;
		d.len -= (uint32_t)part;
	}
	return VIRTQ_FAULT_NONE;
}

/* A table that lies across regions, or unaligned, is copied descriptor by descriptor. */
static enum virtq_fault indirect_copy(const struct virtq_view *v, const struct virtq_mem *mem,
	struct virtq_segs *segs, uint64_t gpa, struct virtq_desc *d)
{
	const struct virtq_span *s;
	struct vring_desc copy;

	if (virtq_mem_read(mem, gpa, &copy, sizeof(copy)) == 0) {
		*d = virtq_desc_fetch(&copy, v->packed);
		return VIRTQ_FAULT_NONE;
	}
	while ((s = virtq_mem_find(mem, gpa))) /* to the hole, 15 bytes away at most */
		gpa = s->gpa + s->size;
	return unmapped(mem, segs, gpa);
}

/* Where the table goes on: a packed one is a plain list ("Indirect Flag: Scatter-Gather
 * Support", virtio 1.2, 2.8.7). False: here it ends. */
static bool indirect_next(const struct virtq_view *v, struct virtq_desc d, uint32_t n, uint32_t *i)
{
	if (v->packed)
		return ++*i < n;
	*i = d.link;
	return d.flags & VRING_DESC_F_NEXT;
}

static enum virtq_fault walk_indirect(const struct virtq_view *v, struct virtq_desc head,
	enum virtq_dir dir, struct virtq_segs *segs, uint64_t *bytes)
{
	uint32_t n = head.len / sizeof(struct vring_desc);
	const struct virtq_mem *mem = v->tables ? v->tables : v->mem;
	uint64_t contiguous = head.len;
	const struct vring_desc *table;
	uint32_t i = 0, budget = n;

	if (!v->indirect || (head.flags & VRING_DESC_F_NEXT) || n == 0 ||
		head.len % sizeof(struct vring_desc) != 0 || n > VIRTQ_INDIRECT_MAX)
		return VIRTQ_FAULT_BAD_INDIRECT;
	table = (const void *)virtq_mem_gpa(mem, &segs->hint, head.addr, &contiguous);
	if (!table)
		return unmapped(mem, segs, head.addr);
	if (contiguous != head.len || (uintptr_t)table % sizeof(uint64_t) != 0)
		table = NULL;
	for (;;) {
		enum virtq_fault fault = VIRTQ_FAULT_NONE;
		struct virtq_desc d;

		if (virtq_likely(table != NULL))
			d = virtq_desc_fetch(&table[i], v->packed);
		else
			fault = indirect_copy(v, mem, segs, head.addr + i * sizeof(*table), &d);
		if (fault)
			return fault;
		if (d.flags & VRING_DESC_F_INDIRECT)
			return VIRTQ_FAULT_BAD_INDIRECT;
		/* DPDK's driver says so of everything in a packed ring's tables; we only read it. */
		if (v->packed && dir == VIRTQ_FROM_GUEST)
			d.flags &= (uint16_t)~VRING_DESC_F_WRITE;
		fault = desc_add(v, d, dir, segs, bytes);
		if (fault)
			return fault;
		if (!indirect_next(v, d, n, &i))
			return VIRTQ_FAULT_NONE;
		if (--budget == 0)
			return VIRTQ_FAULT_LOOP;
		if (segs->links++ >= VIRTQ_LINKS)
			return VIRTQ_FAULT_TOO_LONG;
		if (i >= n)
			return VIRTQ_FAULT_BAD_INDEX;
	}
}

/* From the descriptor at index i on. */
static enum virtq_fault walk(const struct virtq_view *v, struct virtq_desc d, uint16_t i,
	enum virtq_dir dir, struct virtq_segs *segs, struct virtq_chain *chain, uint64_t *bytes)
{
	uint32_t budget = v->num;

	for (chain->ndesc = 1;; chain->ndesc++) {
		enum virtq_fault fault;

		if (v->packed)
			chain->id = d.link;
		if (d.flags & VRING_DESC_F_INDIRECT)
			return walk_indirect(v, d, dir, segs, bytes);
		fault = desc_add(v, d, dir, segs, bytes);
		if (fault)
			return fault;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return VIRTQ_FAULT_NONE;
		if (--budget == 0)
			return VIRTQ_FAULT_LOOP;
		if (segs->links++ >= VIRTQ_LINKS)
			return VIRTQ_FAULT_TOO_LONG;
		if (v->packed)
			i = (uint16_t)(i + 1 == v->num ? 0 : i + 1);
		else
			i = d.link;
		if (i >= v->num)
			return VIRTQ_FAULT_BAD_INDEX;
		d = virtq_desc_fetch(&v->desc[i], v->packed);
	}
}

bool virtq_walk(struct virtq *vq, const struct virtq_view *v, struct virtq_desc d, uint16_t i,
	enum virtq_dir dir, struct virtq_segs *segs, struct virtq_chain *chain)
{
	uint32_t first = segs->n;
	uint64_t bytes = 0;
	enum virtq_fault fault;

	chain->seg = &segs->seg[first];
	fault = walk(v, d, i, dir, segs, chain, &bytes);
	if (bytes > UINT32_MAX && !fault)
		fault = VIRTQ_FAULT_TOO_MANY_BYTES;
	if (dir == VIRTQ_TO_GUEST && bytes == 0 && !fault)
		fault = VIRTQ_FAULT_EMPTY;
	if (fault) {
		segs->n = first;
		walk_failed(vq, v, segs, fault);
		return false;
	}
	chain->nseg = (uint16_t)(segs->n - first);
	chain->len = (uint32_t)bytes;
	return true;
}

void virtq_call(struct virtq *vq, const struct virtq_view *v)
{
	static const uint64_t one = 1;
	bool called = v->patient ? virtq_signal(v->call_fd) == 0
				 : write(v->call_fd, &one, sizeof(one)) == sizeof(one);

	if (virtq_likely(called))
		virtq_count(&vq->stats.calls, 1);
	else
		virtq_count(&vq->stats.calls_failed, 1);
}

/* With event index the flag is ignored: the driver kicks when it makes the entry of that index
 * available, which for the one before ours is long past. */
static void want_kicks(struct virtq *vq, const struct virtq_view *v, bool want)
{
	if (v->packed)
		virtq_store(&v->device->flags,
			want ? VRING_PACKED_EVENT_FLAG_ENABLE : VRING_PACKED_EVENT_FLAG_DISABLE);
	else
		virtq_store(&v->used->flags, want ? 0 : VRING_USED_F_NO_NOTIFY);
	if (!v->packed && v->event_idx)
		virtq_store((uint16_t *)&v->used->ring[v->num], (uint16_t)(vq->avail - !want));
	vq->armed = want;
	if (v->log) {
		virtq_log_begin();
		virtq_log_kicks(v);
	}
}

/* Buffers that come home wake nobody. */
static bool has_work(struct virtq *vq, const struct virtq_view *v)
{
	struct virtq_desc head;

	if (v->lender && virtq_window_len(&v->lender->window) > 0)
		return true;
	return v->packed ? packed_head(vq, v, &head) : split_ready(vq, v, 1) > 0;
}

bool virtq_arm(struct virtq *vq)
{
	const struct virtq_view *v = virtq_gate_enter(&vq->gate);
	bool idle = true;

	if (v && !v->kicks) {
		idle = false;
	} else if (v && !vq->fault) {
		want_kicks(vq, v, true);
		/* The driver makes available, full fence, looks whether we want a kick. */
		virtq_fence_full();
		idle = !has_work(vq, v) && !virtq_load(&vq->announce);
		if (!idle)
			want_kicks(vq, v, false);
	}
	virtq_gate_leave(&vq->gate);
	return idle;
}

void virtq_disarm(struct virtq *vq)
{
	const struct virtq_view *v;

	if (!vq->armed)
		return;
	v = virtq_gate_enter(&vq->gate);
	if (v)
		want_kicks(vq, v, false);
	virtq_gate_leave(&vq->gate);
}

#define ANNOUNCE (1ull << 63)

void virtq_announce(struct virtq *vq, const uint8_t mac[6])
{
	uint64_t word = 0;

	if (mac)
		memcpy(&word, mac, 6);
	__atomic_store_n(&vq->announce, mac ? word | ANNOUNCE : 0, __ATOMIC_RELAXED);
}

bool virtq_announced(struct virtq *vq, uint8_t mac[6])
{
	uint64_t word = __atomic_exchange_n(&vq->announce, 0, __ATOMIC_RELAXED);

	memcpy(mac, &word, 6);
	return word != 0;
}

/*
 * A base behind what was used would give chains back twice, one ahead of what is available points at
 * nothing: DPDK's virtio-user sends 0 to whoever follows a back-end that died. Then the ring's own
 * word counts.
 */
static void start_split(struct virtq *vq, const struct virtq_view *v)
{
	uint16_t out;

	vq->used = virtq_load(&v->used->idx);
	out = (uint16_t)(virtq_load_acquire(&v->avail->idx) - vq->used);
	if (out <= v->num && (uint16_t)(vq->avail - vq->used) > out)
		virtq_store(&vq->avail, vq->used);
	vq->avail_seen = vq->avail;
}

/* What lies from 0 to this end is one chain, or the rest of one that began before the end of the ring and
 * was used there: what is on the other side of that end says which, unless it has been overwritten. */
static bool may_be_rest(const struct virtq_view *v, struct virtq_desc end)
{
	struct virtq_desc before = virtq_desc_fetch(&v->desc[v->num - 1], true);

	if ((before.flags & VRING_DESC_F_NEXT) || packed_available(before.flags, v->num - 1u))
		return true;
	return (before.flags & PACKED_OWNER) == PACKED_OWNER && before.link == end.link;
}

/*
 * DPDK's front-end, and its back-end, whose answer may come to us, leave the used half of a base 0:
 * it is where the other half is. But 0 is also where a ring is in every second round, and what lies
 * between the two halves was in flight when somebody stopped without draining. Then it is, all of it,
 * as the driver made it available in that round; else, and where nobody can tell, the half was left
 * out: a back-end must drain.
 */
static uint16_t used_half(const struct virtq_view *v, uint32_t base)
{
	const uint16_t avail = (uint16_t)base, n = packed_distance(0, avail, v->num);
	struct virtq_desc d;
	bool one = true;

	if (base >> 16 || n == 0)
		return (uint16_t)(base >> 16);
	for (uint16_t i = 0; i < n; i++) {
		if (i == v->num)
			return avail;
		d = virtq_desc_fetch(&v->desc[i], true);
		if (!packed_available(d.flags, i))
			return avail;
		one = one && ((d.flags & VRING_DESC_F_NEXT) || i + 1 == n);
	}
	return one && n < v->num && may_be_rest(v, d) ? avail : 0;
}

static void start_packed(struct virtq *vq, const struct virtq_view *v, uint32_t base)
{
	vq->used = used_half(v, base);
	vq->avail_seen = vq->avail;
	vq->pending = PACKED_NOTHING;
}

void virtq_start(struct virtq *vq, const struct virtq_view *v, uint32_t base)
{
	vq->avail = (uint16_t)base;
	vq->called_valid = false;
	virtq_store(&vq->fault, VIRTQ_FAULT_NONE);
	if (v->packed)
		start_packed(vq, v, base);
	else
		start_split(vq, v);
	if (v->inflight_ring)
		virtq_inflight_start(vq, v);
	want_kicks(vq, v, false);
	vq->called = vq->used;
}

uint32_t virtq_position(const struct virtq *vq, bool packed)
{
	return packed ? vq->avail | (uint32_t)vq->used << 16 : vq->avail;
}

static uint16_t fill_packed(uint16_t pos, const struct virtq_view *v)
{
	uint16_t n = 0;

	for (; n < v->num; n++, pos = packed_advance(pos, 1, v->num))
		if ((pos & PACKED_INDEX) >= v->num ||
			!packed_available(
				virtq_desc_fetch(&v->desc[pos & PACKED_INDEX], true).flags, pos))
			break;
	return n;
}

static uint16_t fill_from(uint16_t pos, const struct virtq_view *v)
{
	uint16_t n;

	if (v->packed)
		return fill_packed(pos, v);
	n = (uint16_t)(virtq_load(&v->avail->idx) - pos);
	return n <= v->num ? n : 0; /* else between two looks, or a parked ring */
}

uint16_t virtq_fill(const struct virtq *vq, const struct virtq_view *v)
{
	return fill_from(virtq_load(&vq->avail), v);
}

/* A table that cannot be read yet will be looked at another time. */
static uint32_t peek_table(const struct virtq_view *v, struct virtq_desc head, uint32_t max,
	virtq_peek_fn fn, void *arg)
{
	const struct virtq_mem *mem = v->tables ? v->tables : v->mem;
	uint32_t n = head.len / sizeof(struct vring_desc), i;

	if (!fn(arg, head.addr, head.len, true))
		return 1;
	for (i = 0; i < n && i < max; i++) {
		struct vring_desc copy;
		struct virtq_desc d;

		if (virtq_mem_read(mem, head.addr + i * sizeof(copy), &copy, sizeof(copy)) != 0)
			break;
		d = virtq_desc_fetch(&copy, v->packed);
		fn(arg, d.addr, d.len, false);
	}
	return i + 1;
}

static uint32_t peek_desc(
	const struct virtq_view *v, struct virtq_desc d, uint32_t max, virtq_peek_fn fn, void *arg)
{
	if (d.flags & VRING_DESC_F_INDIRECT)
		return peek_table(v, d, max, fn, arg);
	fn(arg, d.addr, d.len, false);
	return 1;
}

static void peek_split(
	uint16_t pos, const struct virtq_view *v, uint32_t max, virtq_peek_fn fn, void *arg)
{
	uint16_t n = fill_from(pos, v), mask = v->num - 1;
	uint32_t seen = 0;

	for (; n > 0 && seen < max; n--, pos++) {
		uint16_t i = virtq_load(&v->avail->ring[pos & mask]);
		struct virtq_desc d;

		do {
			if (i >= v->num)
				return;
			d = virtq_desc_fetch(&v->desc[i], false);
			seen += peek_desc(v, d, max - seen, fn, arg);
			i = d.link;
		} while ((d.flags & VRING_DESC_F_NEXT) && seen < max);
	}
}

/* Each descriptor is judged by what was read of it: it may have been used since. */
static void peek_packed(
	uint16_t pos, const struct virtq_view *v, uint32_t max, virtq_peek_fn fn, void *arg)
{
	uint32_t seen = 0;

	for (uint16_t n = 0; n < v->num && seen < max && (pos & PACKED_INDEX) < v->num; n++) {
		struct virtq_desc d = virtq_desc_fetch(&v->desc[pos & PACKED_INDEX], true);

		if (!packed_available(d.flags, pos))
			return;
		seen += peek_desc(v, d, max - seen, fn, arg);
		pos = packed_advance(pos, 1, v->num);
	}
}

void virtq_peek(const struct virtq *vq, const struct virtq_view *v, uint32_t max, virtq_peek_fn fn,
	void *arg)
{
	/* Once: with a later one behind it we would look beyond what is available. */
	const uint16_t pos = virtq_load(&vq->avail);

	if (v->packed)
		peek_packed(pos, v, max, fn, arg);
	else
		peek_split(pos, v, max, fn, arg);
}

uint32_t virtq_discard(struct virtq *vq, const struct virtq_view *v, uint32_t max)
{
	const struct virtq_ops *ops = v->packed ? &virtq_packed_ops : &virtq_split_ops;
	uint32_t limit = max < v->num ? max : v->num, chains = 0, done = 0;
	const uint16_t from = vq->used;
	struct virtq_chain chain;

	while (done < limit && !vq->fault && ops->skip(vq, v, &chain)) {
		ops->give(vq, v, &chain, 0);
		done += chain.ndesc;
		chains++;
	}
	if (chains == 0)
		return 0;
	virtq_drop(vq, VIRTQ_DROP_RX_DISABLED, (uint16_t)chains);
	ops->publish(vq, v);
	if (v->log) {
		virtq_log_begin();
		virtq_log_used(vq, v, from);
	}
	return done;
}

struct virtq_view *virtq_view_new(const struct virtq_view *from)
{
	struct virtq_view *view = aligned_alloc(64, (sizeof(*view) + 63) & ~(size_t)63);

	if (view) {
		*view = *from;
		virtq_mem_get(view->mem);
		if (view->tables)
			virtq_mem_get(view->tables);
		virtq_log_get(view->log);
		virtq_inflight_get(view->inflight);
	}
	return view;
}

void virtq_view_free(struct virtq_view *view)
{
	if (!view)
		return;
	virtq_mem_put(view->mem);
	virtq_mem_put(view->tables);
	virtq_log_put(view->log);
	virtq_inflight_put(view->inflight);
	free(view);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The in-flight region: sharing it, recording, and going on where a back-end died. */
#include "virtq_inflight.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virtq_lend.h"
#include "virtq_map.h"
#include "virtq_record.h"
#include "virtq_split.h"

_Static_assert(sizeof(struct virtq_inflight_split_desc) == 16, "as others have it");
_Static_assert(offsetof(struct virtq_inflight_split, used_idx) == 14, "as others have it");
_Static_assert(offsetof(struct virtq_inflight_split, desc) == 16, "as others have it");
_Static_assert(sizeof(struct virtq_inflight_packed_desc) == 32, "as others have it");
_Static_assert(offsetof(struct virtq_inflight_packed, pos) == 16, "as others have it");
_Static_assert(sizeof(union virtq_inflight_pos) == 8, "written at once");
_Static_assert(offsetof(struct virtq_inflight_packed, desc) == 32, "as others have it");

struct virtq_inflight {
	uint32_t refs;
	uint16_t rings, num;
	uint64_t size;
	struct virtq_map map;
};

/* ---- the region ---- */

/* Others begin each part on a line of its own, too. */
static uint64_t stride(uint16_t num, bool packed)
{
	uint64_t bytes = packed ? sizeof(struct virtq_inflight_packed) +
					  num * sizeof(struct virtq_inflight_packed_desc)
				: sizeof(struct virtq_inflight_split) +
					  num * sizeof(struct virtq_inflight_split_desc);

	return (bytes + 63) & ~UINT64_C(63);
}

uint64_t virtq_inflight_size(uint16_t rings, uint16_t num, bool packed)
{
	return rings * stride(num, packed);
}

int virtq_inflight_create(uint64_t size)
{
	int fd = memfd_create("sluice-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) == 0 &&
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static int check(int fd, uint64_t size, uint64_t offset, uint64_t needed, char *why, size_t why_len)
{
	if (offset % sizeof(uint64_t) != 0) {
		snprintf(why, why_len, "its offset 0x%" PRIx64 " is not a multiple of 8", offset);
		return -EINVAL;
	}
	if (size < needed) {
		snprintf(why, why_len, "it has %" PRIu64 " bytes, %" PRIu64 " are needed", size,
			needed);
		return -EINVAL;
	}
	return virtq_map_check(fd, offset, size, NULL, why, why_len);
}

int virtq_inflight_map(int fd, uint64_t size, uint64_t offset, uint16_t rings, uint16_t num,
	bool packed, struct virtq_inflight **out, char *why, size_t why_len)
{
	int err = check(fd, size, offset, virtq_inflight_size(rings, num, packed), why, why_len);
	struct virtq_inflight *region;

	if (err)
		return err;
	/* It may be larger than needed: nothing looks behind the largest it could have to be. */
	if (size > virtq_inflight_size(rings, num, true))
		size = virtq_inflight_size(rings, num, true);
	region = calloc(1, sizeof(*region));
	err = region ? virtq_map_open(&region->map, fd, offset, size) : -ENOMEM;
	if (err) {
		snprintf(why, why_len, "it cannot be mapped: %s", strerror(-err));
		free(region);
		return err;
	}
	region->refs = 1;
	region->rings = rings;
	region->num = num;
	region->size = size;
	*out = region;
	return 0;
}

struct virtq_inflight *virtq_inflight_get(struct virtq_inflight *region)
{
	if (region)
		__atomic_add_fetch(&region->refs, 1, __ATOMIC_RELAXED);
	return region;
}

void virtq_inflight_put(struct virtq_inflight *region)
{
	if (!region || __atomic_sub_fetch(&region->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	virtq_map_close(&region->map);
	free(region);
}

bool virtq_inflight_gone(const struct virtq_inflight *region)
{
	return virtq_trap_sprung(region->map.trap);
}

struct virtq_share virtq_inflight_share(
	const struct virtq_inflight *region, uint16_t *rings, uint16_t *num)
{
	*rings = region->rings;
	*num = region->num;
	return region->map.share;
}

void *virtq_inflight_ring(
	const struct virtq_inflight *region, unsigned ring, uint16_t num, bool packed)
{
	uint64_t part;

	if (!region || ring >= region->rings || num > region->num)
		return NULL;
	part = stride(region->num, packed);
	return (ring + 1) * part <= region->size ? region->map.at + ring * part : NULL;
}

/* ---- recording ---- */

static union virtq_inflight_pos pos_of(uint16_t used, uint16_t old)
{
	return (union virtq_inflight_pos){
		.used_idx = used & PACKED_INDEX,
		.old_used_idx = old & PACKED_INDEX,
		.used_wrap_counter = (used & PACKED_WRAP) != 0,
		.old_used_wrap_counter = (old & PACKED_WRAP) != 0,
	};
}

void virtq_record_pos(struct virtq_inflight_packed *part, uint16_t used, uint16_t old)
{
	virtq_store_release(&part->pos.all, pos_of(used, old).all);
}

/* Where the batch began that ends at vq->used: a batch is a descriptor at least and a ring at most. */
static uint16_t batch_from(const struct virtq *vq)
{
	uint16_t wrap = vq->used & PACKED_WRAP;

	return vq->head_at | (vq->head_at < (vq->used & PACKED_INDEX) ? wrap : wrap ^ PACKED_WRAP);
}

/* It is known to the driver: what else the record says of that. */
static void published(const struct virtq *vq, const struct virtq_view *v)
{
	if (!v->tracked)
		return;
	virtq_track_settle(v);
	/* Nothing is lent: who notes that after each burst may not do so here. */
	if (!v->lender || virtq_window_len(&v->lender->window) == 0)
		virtq_track_taken(vq, v);
}

void virtq_inflight_publish(struct virtq *vq, const struct virtq_view *v)
{
	if (v->packed) {
		struct virtq_inflight_packed *part = v->inflight_ring;
		struct virtq_track_last last = {0};

		if (v->tracked)
			last = virtq_track_last(vq, v);
		virtq_record_pos(part, vq->used, batch_from(vq));
		virtq_store_release((uint64_t *)&v->desc[vq->head_at] + 1, vq->head_rest); /* D */
		if (v->tracked)
			virtq_track_note(v, last);
		published(vq, v);
		virtq_record_pos(part, vq->used, vq->used);
	} else {
		struct virtq_inflight_split *part = v->inflight_ring;

		virtq_store_release(&v->used->idx, vq->used); /* D */
		published(vq, v);
		virtq_store_release(&part->used_idx, vq->used);
	}
}

/* ---- a split ring that starts ---- */

static void split_clear(struct virtq_inflight_split *part, uint16_t num)
{
	for (uint16_t i = 0; i < num; i++)
		virtq_store(&part->desc[i].inflight, 0);
}

static void split_begin(struct virtq_inflight_split *part, uint16_t num)
{
	virtq_store(&part->features, 0);
	virtq_store(&part->desc_num, num);
	virtq_store(&part->last_batch_head, 0);
	split_clear(part, num);
}

/* A batch that was published, but whose descriptors may still be marked. */
static void split_finish_batch(
	const struct virtq *vq, struct virtq_inflight_split *part, uint16_t num)
{
	uint16_t left = (uint16_t)(vq->used - virtq_load(&part->used_idx));
	uint16_t i = virtq_load(&part->last_batch_head);

	for (left = left < num ? left : num; left > 0 && i < num; left--) {
		virtq_store(&part->desc[i].inflight, 0);
		i = virtq_load(&part->desc[i].next);
	}
}

/* What is in flight, and whether it is what we would take next. */
static uint16_t split_in_flight(const struct virtq *vq, const struct virtq_view *v,
	const struct virtq_inflight_split *part, bool *in_order)
{
	uint16_t n = 0;

	for (uint16_t i = 0; i < v->num; i++)
		n = (uint16_t)(n + (virtq_load(&part->desc[i].inflight) == 1));
	*in_order = true;
	for (uint16_t i = 0; i < n && *in_order; i++) {
		uint16_t head = virtq_load(&v->avail->ring[(vq->used + i) & (v->num - 1)]);

		*in_order = head < v->num && virtq_load(&part->desc[head].inflight) == 1;
	}
	return n;
}

/* As the specification has it, so that we may be killed here as well. */
static void split_hand_back(
	struct virtq *vq, const struct virtq_view *v, struct virtq_inflight_split *part)
{
	for (uint16_t i = 0; i < v->num; i++) {
		if (virtq_load(&part->desc[i].inflight) != 1)
			continue;
		virtq_store(&part->desc[i].next, virtq_load(&part->last_batch_head));
		virtq_store_release(&part->last_batch_head, i);
		split_give(vq, v, &(const struct virtq_chain){.id = i}, 0);
		virtq_count(&vq->stats.recovered, 1);
	}
	virtq_store_release(&v->used->idx, vq->used); /* D */
	split_clear(part, v->num);
}

/* True: something was handed back. */
static bool split_recover(
	struct virtq *vq, const struct virtq_view *v, struct virtq_inflight_split *part)
{
	uint16_t waiting = (uint16_t)(virtq_load_acquire(&v->avail->idx) - vq->used), n;
	bool in_order, back;

	split_finish_batch(vq, part, v->num);
	n = split_in_flight(vq, v, part, &in_order);
	back = n > 0 && !in_order && n <= waiting;
	if (back)
		split_hand_back(vq, v, part);
	else if (n > 0)
		split_clear(part, v->num);
	vq->avail = vq->avail_seen = vq->used;
	return back;
}

static bool split_start(struct virtq *vq, const struct virtq_view *v)
{
	struct virtq_inflight_split *part = v->inflight_ring;
	bool back = false;

	if (virtq_load(&part->version) == VIRTQ_INFLIGHT_VERSION)
		back = split_recover(vq, v, part);
	else
		split_begin(part, v->num);
	virtq_store_release(&part->used_idx, vq->used);
	virtq_store_release(&part->version, VIRTQ_INFLIGHT_VERSION);
	return back;
}

/* ---- a packed ring that starts ---- */

static void packed_begin(const struct virtq *vq, struct virtq_inflight_packed *part, uint16_t num)
{
	virtq_store(&part->features, 0);
	virtq_store(&part->desc_num, num);
	virtq_store(&part->free_head, 0);
	virtq_store(&part->old_free_head, 0);
	for (uint16_t i = 0; i < num; i++) {
		virtq_store(&part->desc[i].inflight, 0);
		virtq_store(&part->desc[i].next, (uint16_t)(i + 1));
	}
	virtq_record_pos(part, vq->used, vq->used);
}

bool virtq_record_batch(const struct virtq_view *v, const struct virtq_inflight_packed *part,
	struct virtq_record_batch *batch)
{
	union virtq_inflight_pos pos = {.all = virtq_load(&part->pos.all)};

	if (pos.used_idx >= v->num || pos.old_used_idx >= v->num)
		return false;
	batch->end = pos.used_idx | (pos.used_wrap_counter & 1 ? PACKED_WRAP : 0);
	batch->begin = pos.old_used_idx | (pos.old_used_wrap_counter & 1 ? PACKED_WRAP : 0);
	batch->published =
		batch->end != batch->begin &&
		!packed_available(
			virtq_desc_fetch(&v->desc[pos.old_used_idx], true).flags, batch->begin);
	return true;
}

/* Where the driver saw the last batch end. False: the part makes no sense. */
static bool packed_find(
	const struct virtq_view *v, struct virtq_inflight_packed *part, uint16_t *at)
{
	struct virtq_record_batch batch;

	if (!virtq_record_batch(v, part, &batch))
		return false;
	*at = batch.published ? batch.end : batch.begin;
	if (batch.published)
		virtq_store(&part->old_free_head, virtq_load(&part->free_head));
	else
		virtq_store(&part->free_head, virtq_load(&part->old_free_head));
	virtq_record_pos(part, *at, *at);
	return true;
}

/* What is free is not in flight. */
static void packed_clear_free(struct virtq_inflight_packed *part, uint16_t num)
{
	uint16_t i = virtq_load(&part->free_head);

	for (uint16_t left = num; left > 0 && i < num; left--) {
		virtq_store(&part->desc[i].inflight, 0);
		i = virtq_load(&part->desc[i].next);
	}
}

struct virtq_desc virtq_record_restore(
	const struct virtq_view *v, const struct virtq_inflight_packed *part, uint16_t at)
{
	uint64_t rest = virtq_load(&part->desc[at].kept);

	virtq_store((uint64_t *)&v->desc[at] + 1, rest);
	return virtq_desc_of(0, rest, true);
}

/*
 * A burst that was cut off before it published has overwritten some chains behind its first: put
 * back what was there, up to the first that is as the driver left it. In this round of the ring
 * nobody but that burst has used anything from here on.
 */
static void packed_undo(
	const struct virtq_view *v, const struct virtq_inflight_packed *part, uint16_t pos)
{
	bool first = true, head = true;

	for (uint16_t left = v->num; left > 0; left--, pos = packed_advance(pos, 1, v->num)) {
		uint16_t at = pos & PACKED_INDEX;
		struct virtq_desc d = virtq_desc_fetch(&v->desc[at], true);

		if (first && !packed_available(d.flags, pos))
			return;
		if (head && !first && !virtq_record_used(d.flags, pos))
			return;
		if (head && !first)
			d = virtq_record_restore(v, part, at);
		head = !(d.flags & VRING_DESC_F_NEXT);
		first = false;
	}
}

/* Give back a chain another back-end had in flight. False: there can be no such chain. */
static bool packed_hand_back_one(struct virtq *vq, const struct virtq_view *v,
	struct virtq_inflight_packed *part, uint16_t i, uint16_t *total)
{
	uint16_t last = virtq_load(&part->desc[i].last), n = virtq_load(&part->desc[i].num);
	struct virtq_chain chain = {.ndesc = n};

	if (last >= v->num || n == 0 || n > v->num - *total)
		return false;
	chain.id = virtq_load(&part->desc[last].id);
	virtq_store(&part->desc[last].next, virtq_load(&part->free_head));
	virtq_store_release(&part->free_head, i);
	packed_give(vq, v, &chain, 0);
	virtq_count(&vq->stats.recovered, 1);
	*total = (uint16_t)(*total + n);
	return true;
}

/* As the specification has it, so that we may be killed here as well. */
static bool packed_hand_back(
	struct virtq *vq, const struct virtq_view *v, struct virtq_inflight_packed *part)
{
	struct virtq_view plain = *v;
	uint16_t from = vq->used, total = 0;

	plain.inflight_ring = NULL; /* the entries tell of other things here */
	for (uint16_t i = 0; i < v->num; i++)
		if (virtq_load(&part->desc[i].inflight) == 1 &&
			!packed_hand_back_one(vq, &plain, part, i, &total))
			virtq_store(&part->desc[i].inflight, 0);
	if (total == 0)
		return false;
	vq->pending = PACKED_NOTHING;
	virtq_record_pos(part, vq->used, from);
	virtq_store_release((uint64_t *)&v->desc[vq->head_at] + 1, vq->head_rest); /* D */
	for (uint16_t i = 0; i < v->num; i++)
		virtq_store(&part->desc[i].inflight, 0);
	virtq_store(&part->old_free_head, virtq_load(&part->free_head));
	virtq_record_pos(part, vq->used, vq->used);
	return true;
}

static bool packed_start(struct virtq *vq, const struct virtq_view *v)
{
	struct virtq_inflight_packed *part = v->inflight_ring;
	bool back = false;
	uint16_t at;

	if (virtq_load(&part->version) == VIRTQ_INFLIGHT_VERSION && packed_find(v, part, &at)) {
		packed_clear_free(part, v->num);
		vq->used = at;
		back = packed_hand_back(vq, v, part);
		if (!back)
			packed_undo(v, part, vq->used);
		vq->avail = vq->used;
	} else {
		packed_begin(vq, part, v->num);
	}
	virtq_store_release(&part->version, VIRTQ_INFLIGHT_VERSION);
	return back;
}

/*
 * What a burst has copied it gives back before anybody sends it. What it lends is sent before, and is home
 * again by the next burst; of that a front-end's region does not tell. Ours does.
 */
static uint32_t may_be_repeated(struct virtq *vq, const struct virtq_view *v)
{
	const struct virtq_ops *ops = v->packed ? &virtq_packed_ops : &virtq_split_ops;
	struct virtq_chain chain;
	uint32_t n = 0;

	while (n < VIRTQ_BURST && ops->skip(vq, v, &chain))
		n++;
	vq->avail = vq->avail_seen = vq->used;
	return n;
}

void virtq_inflight_start(struct virtq *vq, const struct virtq_view *v)
{
	const bool died = virtq_track_tells(v->inflight_ring, v->packed);
	bool back = v->tracked  ? virtq_track_start(vq, v)
		    : v->packed ? packed_start(vq, v)
				: split_start(vq, v);

	if (died && !back && v->lender && !v->tracked)
		virtq_count(&vq->stats.repeated, may_be_repeated(vq, v));
	if (back && v->call_fd >= 0)
		virtq_call(vq, v);
}

void virtq_inflight_stop(void *part, bool packed)
{
	struct virtq_inflight_split *split = part;
	struct virtq_inflight_packed *other = part;

	if (part)
		virtq_store_release(packed ? &other->version : &split->version, 0);
}

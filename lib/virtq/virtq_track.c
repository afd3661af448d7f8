/* SPDX-License-Identifier: BSD-3-Clause */
/* Our own record of what is in flight: keeping it, and going on by it. */
#include "virtq_track.h"

#include "virtq_lend.h"
#include "virtq_record.h"
#include "virtq_split.h"

/* What becomes of a chain, in the entry of its id. */
enum state {
	FREE,
	IN_FLIGHT,
	GOING,  /* given back, if the batch is published; else in flight */
	COMING, /* lent, if the batch is published; else not taken */
};

/* An entry of either layout. */
struct entry {
	uint8_t *state;
	uint16_t *next; /* id + 1, of the chains announced */
};

static struct entry entry_of(const struct virtq_view *v, uint16_t id)
{
	struct virtq_inflight_split *split = v->inflight_ring;
	struct virtq_inflight_packed *packed = v->inflight_ring;

	if (v->packed)
		return (struct entry){&packed->desc[id].inflight, &packed->desc[id].next};
	return (struct entry){&split->desc[id].inflight, &split->desc[id].next};
}

/* What a chain is known by: its length, or its address. */
static void remember(const struct virtq_view *v, uint16_t id, uint16_t ndesc)
{
	struct virtq_inflight_split *split = v->inflight_ring;
	struct virtq_inflight_packed *packed = v->inflight_ring;

	if (v->packed)
		virtq_store(&packed->desc[id].num, ndesc);
	else
		virtq_store(&split->desc[id].counter, virtq_load(&v->desc[id].addr));
}

static void set_state(struct entry e, enum state state)
{
	virtq_store_release(e.state, (uint8_t)state);
}

static void announce(const struct virtq_view *v, uint16_t id, enum state state)
{
	struct entry e = entry_of(v, id);
	uint32_t *first = &v->lender->window.changed;

	virtq_store(e.next, (uint16_t)*first);
	*first = id + 1u;
	set_state(e, state);
}

/* A driver that uses an id twice, or one outside its ring, has itself to blame. */
void virtq_track_lent(const struct virtq_view *v, const struct virtq_chain *chain, bool publishes)
{
	if (chain->id >= v->num || virtq_load(entry_of(v, chain->id).state) != FREE)
		return;
	remember(v, chain->id, chain->ndesc);
	if (publishes)
		announce(v, chain->id, COMING);
	else
		set_state(entry_of(v, chain->id), IN_FLIGHT);
}

void virtq_track_given(const struct virtq_view *v, uint16_t id)
{
	if (id < v->num && virtq_load(entry_of(v, id).state) == IN_FLIGHT)
		announce(v, id, GOING);
}

static enum state settled(enum state state, bool published)
{
	switch (state) {
	case GOING:
		return published ? FREE : IN_FLIGHT;
	case COMING:
		return published ? IN_FLIGHT : FREE;
	default:
		return state;
	}
}

/* Each id is announced once; whoever else can write to the record ends neither us nor the loop. */
void virtq_track_settle(const struct virtq_view *v)
{
	struct virtq_window *w = v->lender ? &v->lender->window : NULL;
	uint32_t next, left = v->num;

	if (!w)
		return;
	for (next = w->changed; next != 0 && next <= v->num && left > 0; left--) {
		struct entry e = entry_of(v, (uint16_t)(next - 1));

		next = virtq_load(e.next);
		set_state(e, settled(virtq_load(e.state), true));
	}
	w->changed = 0;
}

/* ---- the next process ---- */

/* Settle all that a dead one had announced. Returns ring entries in flight, more than there are: it makes no sense. */
static uint32_t settle_all(const struct virtq_view *v, bool published)
{
	const struct virtq_inflight_split *split = v->inflight_ring;
	const struct virtq_inflight_packed *packed = v->inflight_ring;
	uint32_t n = 0;

	for (uint16_t i = 0; i < v->num; i++) {
		struct entry e = entry_of(v, i);
		enum state state = settled(virtq_load(e.state), published);

		set_state(e, state);
		if (state == FREE)
			continue;
		if (state != IN_FLIGHT)
			return UINT32_MAX;
		if (!v->packed &&
			virtq_load(&split->desc[i].counter) != virtq_load(&v->desc[i].addr))
			return UINT32_MAX;
		n += v->packed ? virtq_load(&packed->desc[i].num) : 1u;
	}
	return n;
}

/* All that is marked, in one batch: given, but not published. */
static void give_marked(struct virtq *vq, const struct virtq_view *v, const struct virtq_ops *ops)
{
	const struct virtq_inflight_packed *packed = v->inflight_ring;

	for (uint16_t i = 0; i < v->num; i++) {
		struct virtq_chain chain = {.id = i, .ndesc = 1};

		if (virtq_load(entry_of(v, i).state) != IN_FLIGHT)
			continue;
		if (v->packed)
			chain.ndesc = virtq_load(&packed->desc[i].num);
		set_state(entry_of(v, i), GOING);
		ops->give(vq, v, &chain, 0);
		virtq_count(&vq->stats.recovered, 1);
	}
}

/* All from here to where the dead one had taken up to. */
static void give_taken(
	struct virtq *vq, const struct virtq_view *v, uint32_t n, const struct virtq_ops *ops)
{
	struct virtq_chain chain;

	while (n > 0 && ops->skip(vq, v, &chain)) {
		ops->give(vq, v, &chain, 0);
		virtq_count(&vq->stats.recovered, 1);
		n -= chain.ndesc < n ? chain.ndesc : n;
	}
}

/* ---- split ---- */

/* False: the record is not this ring's. */
static bool split_resume(struct virtq *vq, const struct virtq_view *v)
{
	struct virtq_inflight_split *part = v->inflight_ring;
	uint16_t waiting = (uint16_t)(virtq_load_acquire(&v->avail->idx) - vq->used);
	uint16_t batch = (uint16_t)(vq->used - virtq_load(&part->used_idx));
	uint16_t ahead = (uint16_t)(virtq_load(&part->features) - vq->used);
	uint32_t marked;

	if (waiting > v->num || batch > v->num)
		return false;
	marked = settle_all(v, batch > 0);
	if (marked > waiting)
		return false;
	virtq_store_release(&part->used_idx, vq->used);
	vq->avail = vq->avail_seen = vq->used;
	if (marked > 0)
		give_marked(vq, v, &virtq_split_ops);
	else if (ahead <= waiting)
		give_taken(vq, v, ahead, &virtq_split_ops);
	virtq_store_release(&v->used->idx, vq->used); /* D */
	settle_all(v, true);
	/* The next batch is another one: who dies before it is published announced in vain. */
	virtq_store_release(&part->used_idx, vq->used);
	vq->avail = vq->avail_seen = vq->used;
	virtq_store(&part->features, vq->used);
	return true;
}

static void split_renew(const struct virtq *vq, const struct virtq_view *v)
{
	struct virtq_inflight_split *part = v->inflight_ring;

	virtq_store_release(&part->features, vq->avail);
	virtq_store_release(&part->used_idx, vq->used);
	virtq_store_release(&part->version, VIRTQ_INFLIGHT_VERSION);
}

/* ---- packed ---- */

/* The base that the front-end gave before. */
static uint16_t *last_base(struct virtq_inflight_packed *part)
{
	return &part->old_free_head;
}

/* Nobody but a batch that was not published has used anything of the next n entries. */
static void packed_undo(const struct virtq_view *v, const struct virtq_inflight_packed *part,
	uint16_t pos, uint16_t n)
{
	for (; n > 0; n--, pos = packed_advance(pos, 1, v->num)) {
		uint16_t at = pos & PACKED_INDEX;

		if (virtq_record_used(virtq_desc_fetch(&v->desc[at], true).flags, pos))
			virtq_record_restore(v, part, at);
	}
}

/* What was given, if anything was. */
static void packed_show_given(struct virtq *vq, const struct virtq_view *v, uint16_t from)
{
	struct virtq_inflight_packed *part = v->inflight_ring;
	struct virtq_track_last last;

	if (vq->pending == PACKED_NOTHING)
		return;
	vq->pending = PACKED_NOTHING;
	last = virtq_track_last(vq, v);
	virtq_record_pos(part, vq->used, from);
	virtq_store_release((uint64_t *)&v->desc[vq->head_at] + 1, vq->head_rest); /* D */
	settle_all(v, true);
	virtq_track_note(v, last);
	virtq_record_pos(part, vq->used, vq->used);
	vq->avail = vq->used;
}

static void packed_give_back(
	struct virtq *vq, const struct virtq_view *v, uint32_t marked, uint16_t taken)
{
	const uint16_t from = vq->used, ahead = packed_distance(from, taken, v->num);

	if (marked > 0)
		give_marked(vq, v, &virtq_packed_ops);
	else if (ahead <= v->num)
		give_taken(vq, v, ahead, &virtq_packed_ops);
	packed_show_given(vq, v, from);
}

/* Has the front-end used the ring itself, from its last base on, and how far is that? See virtq_track.h. */
static bool packed_served(const struct virtq_view *v, struct virtq_inflight_packed *part,
	uint16_t at, uint16_t given, uint16_t *gap)
{
	uint16_t last = virtq_load(last_base(part));

	*gap = packed_distance(at, last, v->num);
	return given != last && *gap < v->num &&
	       packed_distance(last, given, v->num) <= v->num - *gap &&
	       virtq_record_used(virtq_desc_fetch(&v->desc[last & PACKED_INDEX], true).flags, last);
}

/* What lies before that is given back, and we go on behind it. */
static void packed_pass(struct virtq *vq, const struct virtq_view *v, uint16_t gap, uint16_t given)
{
	const uint16_t from = vq->used;

	give_taken(vq, v, gap, &virtq_packed_ops);
	packed_show_given(vq, v, from);
	vq->avail = vq->used = given;
	virtq_record_pos(v->inflight_ring, given, given);
}

/*
 * Is what we published last still there, or has the driver come round to it (and the front-end)? A
 * driver's reset leaves flags of 0, and then those of a first round. That looks like a round of the other
 * counter only where we would go on at the beginning anyway.
 */
static bool packed_is_same(
	const struct virtq_view *v, const struct virtq_inflight_packed *part, uint16_t at)
{
	uint16_t last = virtq_load(&part->free_head), i = last & PACKED_INDEX;
	uint16_t next = virtq_desc_fetch(&v->desc[at & PACKED_INDEX], true).flags, flags;
	uint64_t rest;

	if (i >= v->num || virtq_record_used(next, at))
		return false;
	rest = virtq_load((uint64_t *)&v->desc[i] + 1);
	flags = (uint16_t)(rest >> 48);
	if (rest == virtq_load(&part->desc[i].counter))
		return (last & PACKED_WRAP) || (at & PACKED_WRAP) || (next & PACKED_OWNER);
	last ^= PACKED_WRAP;
	return (packed_available(flags, last) || virtq_record_used(flags, last)) &&
	       packed_available(next, at);
}

struct virtq_track_last virtq_track_last(const struct virtq *vq, const struct virtq_view *v)
{
	struct virtq_track_last last = {.pos = vq->used};

	do {
		last.pos = last.pos & PACKED_INDEX
				   ? (uint16_t)(last.pos - 1)
				   : (uint16_t)((last.pos ^ PACKED_WRAP) | (v->num - 1u));
		if ((last.pos & PACKED_INDEX) == vq->head_at) {
			last.rest = vq->head_rest;
			break;
		}
		last.rest = virtq_load((uint64_t *)&v->desc[last.pos & PACKED_INDEX] + 1);
	} while (!virtq_record_used((uint16_t)(last.rest >> 48), last.pos));
	return last;
}

void virtq_track_note(const struct virtq_view *v, struct virtq_track_last last)
{
	struct virtq_inflight_packed *part = v->inflight_ring;

	virtq_store(&part->desc[last.pos & PACKED_INDEX].counter, last.rest);
	virtq_store_release(&part->free_head, last.pos);
}

/* False: the record is not this ring's. */
static bool packed_resume(struct virtq *vq, const struct virtq_view *v)
{
	struct virtq_inflight_packed *part = v->inflight_ring;
	const uint16_t given = vq->avail;
	struct virtq_record_batch batch;
	uint16_t at, gap;
	uint32_t marked;

	if (!virtq_record_batch(v, part, &batch))
		return false;
	at = batch.published ? batch.end : batch.begin;
	if (!packed_is_same(v, part, at))
		return false;
	marked = settle_all(v, batch.published);
	if (marked > v->num)
		return false;
	virtq_record_pos(part, at, at);
	packed_undo(v, part, at, packed_served(v, part, at, given, &gap) ? gap : v->num);
	vq->avail = vq->used = at;
	packed_give_back(vq, v, marked, (uint16_t)virtq_load(&part->features));
	if (packed_served(v, part, vq->used, given, &gap))
		packed_pass(vq, v, gap, given);
	virtq_store(last_base(part), given);
	vq->avail = vq->avail_seen = vq->used;
	virtq_store(&part->features, vq->used);
	return true;
}

static void packed_renew(const struct virtq *vq, const struct virtq_view *v)
{
	struct virtq_inflight_packed *part = v->inflight_ring;
	virtq_store_release(&part->features, vq->avail);
	virtq_record_pos(part, vq->used, vq->used);
	virtq_store(last_base(part), vq->avail);
	virtq_store(&part->free_head, UINT16_MAX);
	virtq_store_release(&part->version, VIRTQ_INFLIGHT_VERSION);
}

/* ---- both ---- */

static uint16_t *version_of(const void *part, bool packed)
{
	union {
		const void *from;
		struct virtq_inflight_split *split;
		struct virtq_inflight_packed *packed;
	} at = {part};

	return packed ? &at.packed->version : &at.split->version;
}

bool virtq_track_tells(const void *part, bool packed)
{
	return virtq_load(version_of(part, packed)) == VIRTQ_INFLIGHT_VERSION;
}

bool virtq_track_start(struct virtq *vq, const struct virtq_view *v)
{
	const uint16_t avail = vq->avail, used = vq->used;

	/* Whoever died may have published and not called: the driver is called in any case. */
	if (virtq_track_tells(v->inflight_ring, v->packed) &&
		(v->packed ? packed_resume(vq, v) : split_resume(vq, v)))
		return true;
	vq->avail = vq->avail_seen = avail;
	vq->used = used;
	virtq_store_release(version_of(v->inflight_ring, v->packed), 0);
	for (uint16_t i = 0; i < v->num; i++)
		set_state(entry_of(v, i), FREE);
	if (v->packed)
		packed_renew(vq, v);
	else
		split_renew(vq, v);
	return false;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest to guest, from buffer to buffer. */
#include "vnet_direct.h"

#include "lend.h"
#include "place.h"
#include "virtq_packed.h"
#include "virtq_split.h"

/*
 * Theory of operation
 *
 * Between two guests an mbuf would only be something to copy to and from: all that anybody looks at is the beginning of
 * a frame. Five passes over a burst:
 *
 *   take	walk the sender's chains, as long as they are one piece each, prefetching them
 *   look	copy the beginning of each frame to private memory; whoever has to decide where it
 *		goes decides by that
 *   match	find a buffer of the receiver's for each, prefetching for writing
 *   copy	header, beginning, and the rest
 *   give	both rings' chains back. The sender's first: should the process end in between, what
 *		was under way is lost, as it would be in an mbuf, and not sent twice
 *
 * Then the guests are called. A hostile one can have a call sleep, and may hold up nobody with that but itself: so each
 * is called with no gate and no lock of the other's held. Nor is the receiver's lock waited for inside the sender's gate.
 *
 * Only what is plain goes this way: one piece on either side, with room, and a header that asks for nothing. The first
 * chain that is not so ends the burst, and is put back. The burst that would begin with it is VNET_DIRECT_NOT, and
 * vnet_dequeue() and vnet_enqueue() see to it, with all their reasons for dropping a packet, waiting for buffers, merging
 * and parking. So there is no packet that only one of the two ways would deliver.
 *
 * A guest may write to a frame meanwhile: what is decided by and counted is the private copy, which is also what the
 * other guest gets.
 */

/* One side of a burst. */
struct side {
	struct virtq *vq;
	const struct virtq_view *v;
	struct virtq_segs segs;
	struct virtq_chain chain[VIRTQ_BURST];
};

/* A packet is a chain of either side and the beginning of a frame: they go by the same index. */
struct direct {
	struct side from, to;
	struct vnet_beginning begin[VIRTQ_BURST];
	uint16_t taken; /* chains of the sender's */
	bool unfit;     /* the receiver is down, or has a buffer that is not for this frame */
	bool call_from, call_to;
	uint32_t shortest; /* frame that goes */
	uint64_t bytes;
};

/* Bytes of a frame whose lines we fetch ahead. */
#define FETCHED 512

virtq_inline uint32_t frame_len(const struct side *from, const struct virtq_chain *chain)
{
	return chain->len - from->v->hdr_len;
}

/* Does a header ask for something? Only if the driver may ask is it looked at. */
virtq_inline bool asks(const uint8_t *hdr)
{
	struct {
		uint8_t flags, gso_type;
	} first;

	memcpy(&first, hdr, sizeof(first));
	return (first.flags | first.gso_type) != 0;
}

virtq_inline bool may_ask(const struct virtq_view *v)
{
	return v->features & (1ull << VIRTIO_NET_F_CSUM);
}

/* Walk up to n chains of the sender's. */
virtq_inline uint16_t take(struct direct *d, uint16_t n, const struct virtq_ops *ops)
{
	struct side *from = &d->from;
	const uint32_t shortest = from->v->hdr_len + (uint32_t)RTE_ETHER_HDR_LEN;
	const bool headers = may_ask(from->v);
	uint64_t bytes = 0;
	uint16_t i;

	ops->prefetch(from->vq, from->v, n);
	for (i = 0; i < n && bytes < VIRTQ_SHARE; i++) {
		struct virtq_chain *chain = &from->chain[i];

		if (!ops->take(from->vq, from->v, VIRTQ_FROM_GUEST, &from->segs, chain))
			break;
		if (unlikely(chain->nseg != 1 ||
			     chain->len - shortest > VNET_FRAME_MAX - RTE_ETHER_HDR_LEN)) {
			ops->untake(from->vq, from->v, chain);
			from->segs.full = true;
			break;
		}
		bytes += chain->len;
		if (headers)
			rte_prefetch0(chain->seg->va);
		rte_prefetch0(chain->seg->va + from->v->hdr_len);
	}
	return i;
}

/* The beginning of each frame, up to one that asks for something. */
virtq_inline uint16_t look(struct direct *d, uint16_t n)
{
	const struct side *from = &d->from;
	const bool headers = may_ask(from->v);

	for (uint16_t i = 0; i < n; i++) {
		const struct virtq_chain *chain = &from->chain[i];
		const uint32_t len = frame_len(from, chain);
		uint8_t *begin = d->begin[i].byte;

		if (headers && unlikely(asks(chain->seg->va)))
			return i;
		if (likely(len >= VNET_BEGINNING))
			memcpy(begin, chain->seg->va + from->v->hdr_len, VNET_BEGINNING);
		else
			memcpy(begin, chain->seg->va + from->v->hdr_len, len);
	}
	return n;
}

/* Find a buffer for each. */
virtq_inline uint16_t match(
	struct direct *d, uint16_t n, uint32_t max_len, const struct virtq_ops *ops)
{
	struct side *to = &d->to;
	uint16_t i;

	virtq_segs_begin(&to->segs);
	n = ops->ready(to->vq, to->v, n);
	ops->prefetch(to->vq, to->v, n);
	for (i = 0; i < n; i++) {
		const uint32_t len = frame_len(&d->from, &d->from.chain[i]);
		struct virtq_chain *place = &to->chain[i];

		d->unfit = len > max_len;
		if (unlikely(d->unfit) ||
			!ops->take(to->vq, to->v, VIRTQ_TO_GUEST, &to->segs, place))
			break;
		d->unfit = place->nseg != 1 || place->len < to->v->hdr_len + len;
		if (unlikely(d->unfit)) {
			ops->untake(to->vq, to->v, place);
			break;
		}
		place_prefetch(place->seg, to->v->hdr_len);
		d->bytes += len;
		d->shortest = RTE_MIN(d->shortest, len);
	}
	return i;
}

/* The frame after the one that is copied. Of a long one the CPU fetches what is read by itself, and does it better. */
virtq_inline void prefetch(const struct direct *d, uint16_t i, const bool past)
{
	const struct virtq_chain *chain = &d->from.chain[i];
	const uint8_t *frame = chain->seg->va + d->from.v->hdr_len;
	const uint32_t len = frame_len(&d->from, chain);

	if (len <= FETCHED)
		for (uint32_t at = RTE_CACHE_LINE_SIZE; at < len; at += RTE_CACHE_LINE_SIZE)
			rte_prefetch0(frame + at);
	place_own(d->to.chain[i].seg, d->to.v->hdr_len, len, past);
}

/* @param next frame after it, or any */
virtq_inline void frame_copy(struct direct *d, uint16_t i, const bool past, const uint8_t *next)
{
	static const struct virtio_net_hdr_v1 plain = {.num_buffers = 1};
	const struct virtq_chain *chain = &d->from.chain[i];
	const uint8_t *frame = chain->seg->va + d->from.v->hdr_len, *begin = d->begin[i].byte;
	const uint32_t len = frame_len(&d->from, chain);
	uint8_t *va = d->to.chain[i].seg->va;

	place_header(va, &plain, d->to.v->hdr_len);
	va += d->to.v->hdr_len;
	if (likely(len >= VNET_BEGINNING)) {
		memcpy(va, begin, VNET_BEGINNING);
		if (len > VNET_BEGINNING)
			place_write(va + VNET_BEGINNING, frame + VNET_BEGINNING,
				len - VNET_BEGINNING, past && len >= FAR_LEAST, next);
	} else {
		memcpy(va, begin, len);
	}
	virtq_count_frame(&d->from.vq->stats, begin, len);
	virtq_count_frame(&d->to.vq->stats, begin, len);
}

virtq_inline void copy(struct direct *d, uint16_t n)
{
	const struct far_burst far = far_begin(d->to.vq, frame_len(&d->from, d->from.chain));

	for (uint16_t i = 0; i < n; i++) {
		const uint16_t next = likely(i + 1 < n) ? i + 1 : i;

		if (likely(next != i))
			prefetch(d, next, far.past);
		frame_copy(d, i, far.past, d->from.chain[next].seg->va);
	}
	far_end(far);
	if (unlikely(far.start))
		far_judge(
			d->to.vq, rte_rdtsc() - far.start, d->shortest < FAR_LEAST ? 0 : d->bytes);
}

/* Both rings' chains. */
virtq_inline void give(struct direct *d, uint16_t n, const struct virtq_ops *from_ops,
	const struct virtq_ops *to_ops)
{
	struct side *from = &d->from, *to = &d->to;

	for (uint16_t i = 0; i < n; i++)
		from_ops->give(from->vq, from->v, &from->chain[i], 0);
	d->call_from = from_ops->show(from->vq, from->v);
	for (uint16_t i = 0; i < n; i++)
		to_ops->give(to->vq, to->v, &to->chain[i],
			to->v->hdr_len + frame_len(from, &from->chain[i]));
	d->call_to = to_ops->show(to->vq, to->v);
	vnet_count_burst(&from->vq->stats, n, d->bytes);
	virtq_count(&from->vq->stats.direct, n);
	vnet_count_burst(&to->vq->stats, n, d->bytes);
}

/* What was taken, as far as it goes. */
virtq_inline uint16_t pass(struct direct *d, uint16_t n, uint32_t max_len,
	const struct virtq_ops *from_ops, const struct virtq_ops *to_ops)
{
	n = match(d, n, max_len, to_ops);
	if (unlikely(n == 0))
		return 0;
	if (unlikely(n < d->taken))
		from_ops->untake(d->from.vq, d->from.v, &d->from.chain[n]);
	copy(d, n);
	give(d, n, from_ops, to_ops);
	return n;
}

virtq_inline bool can_receive(const struct virtq *vq, const struct virtq_view *v)
{
	return v && !vq->fault && !v->log;
}

/* With what the sender offers in our hands, and its gate and the other's lock held. */
virtq_inline uint16_t to_other(struct direct *d, uint16_t n, const struct vnet_direct_to *way,
	const struct virtq_ops *from_ops)
{
	struct side *to = &d->to;

	to->vq = way->vq;
	to->v = virtq_gate_enter(&to->vq->gate);
	d->unfit = !can_receive(to->vq, to->v);
	if (unlikely(d->unfit))
		n = 0;
	else
		n = to->v->packed ? pass(d, n, way->max_len, from_ops, &virtq_packed_ops)
				  : pass(d, n, way->max_len, from_ops, &virtq_split_ops);
	virtq_gate_leave(&to->vq->gate);
	if (likely(n))
		return n;
	return d->unfit ? VNET_DIRECT_NOT : VNET_DIRECT_NOT_NOW;
}

/* Where the first n that were taken go, and there. */
virtq_inline uint16_t send(struct direct *d, uint16_t n, struct vnet_direct_to *way,
	vnet_decide_fn decide, void *arg, const struct virtq_ops *ops)
{
	if (decide)
		n = decide(arg, d->begin, n, way);
	if (unlikely(n == 0 || !vnet_direct_went(n)))
		return n ? n : VNET_DIRECT_NOT;
	if (way->lock && !rte_spinlock_trylock(way->lock))
		return VNET_DIRECT_NOT_NOW;
	n = to_other(d, n, way, ops);
	if (way->lock)
		rte_spinlock_unlock(way->lock);
	return n;
}

/* @param decide who says where they go; NULL: *way does */
virtq_inline uint16_t direct(struct direct *d, uint16_t n, struct vnet_direct_to *way,
	vnet_decide_fn decide, void *arg, const struct virtq_ops *ops)
{
	struct side *from = &d->from;

	n = ops->ready(from->vq, from->v, n);
	if (n == 0)
		return 0;
	virtq_segs_begin(&from->segs);
	d->taken = take(d, n, ops);
	if (d->taken == 0)
		return from->segs.full ? VNET_DIRECT_NOT : 0;
	n = look(d, d->taken);
	n = likely(n) ? send(d, n, way, decide, arg, ops) : VNET_DIRECT_NOT;
	if (unlikely(!vnet_direct_went(n)))
		ops->untake(from->vq, from->v, &from->chain[0]);
	return n;
}

/* A ring has a format, and its burst is inlined for it. */
static __rte_noinline uint16_t direct_split(
	struct direct *d, uint16_t n, struct vnet_direct_to *way, vnet_decide_fn decide, void *arg)
{
	return direct(d, n, way, decide, arg, &virtq_split_ops);
}

static __rte_noinline uint16_t direct_packed(
	struct direct *d, uint16_t n, struct vnet_direct_to *way, vnet_decide_fn decide, void *arg)
{
	return direct(d, n, way, decide, arg, &virtq_packed_ops);
}

static bool nothing_is_lent(const struct vnet_lender *l)
{
	return !lend_any_away(l) && virtq_window_len(&l->base.window) == 0;
}

/* Is nothing lent? What is home already goes back now: else, as each burst that lends leaves some for the next one,
 * none would ever be direct. */
static bool is_settled(struct virtq *vq, const struct virtq_view *v)
{
	struct vnet_lender *l = lender_of(v);

	if (likely(!l || nothing_is_lent(l)))
		return true;
	if (!virtq_load(&l->home->first))
		return false;
	l->base.settle(&l->base, vq, v);
	return nothing_is_lent(l);
}

/* Nothing but packets is asked of the sender's ring just now. */
static bool can_send(struct virtq *vq, const struct virtq_view *v)
{
	return !v->log && !virtq_load(&vq->announce) && is_settled(vq, v);
}

static void call(const struct vnet_direct_to *way)
{
	const struct virtq_view *v;

	if (way->lock)
		rte_spinlock_lock(way->lock);
	v = virtq_gate_enter(&way->vq->gate);
	if (v && v->call_fd >= 0)
		virtq_call(way->vq, v);
	virtq_gate_leave(&way->vq->gate);
	if (way->lock)
		rte_spinlock_unlock(way->lock);
}

uint16_t vnet_direct_by(struct virtq *from, uint16_t n, struct vnet_direct_to *way,
	vnet_decide_fn decide, void *arg)
{
	const struct virtq_view *v = virtq_gate_enter(&from->gate);
	uint16_t done = 0;
	struct direct d;

	d.call_from = d.call_to = false;
	if (likely(v && !from->fault)) {
		d.from.vq = from;
		d.from.v = v;
		d.shortest = UINT32_MAX;
		d.bytes = 0;
		n = RTE_MIN(n, VIRTQ_BURST);
		if (unlikely(!can_send(from, v)))
			done = VNET_DIRECT_NOT_NOW;
		else
			done = v->packed ? direct_packed(&d, n, way, decide, arg)
					 : direct_split(&d, n, way, decide, arg);
		if (v->lender)
			virtq_track_taken(from, v);
		if (d.call_from)
			virtq_call(from, v);
	}
	virtq_gate_leave(&from->gate);
	if (d.call_to)
		call(way);
	return done;
}

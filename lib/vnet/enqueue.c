/* SPDX-License-Identifier: BSD-3-Clause */
/* Mbufs to guest. */
#include "offload.h"
#include "place.h"
#include "virtq_log.h"
#include "virtq_packed.h"
#include "virtq_split.h"

/*
 * Theory of operation
 *
 * Three passes over a burst, as in dequeue.c:
 *
 *   take   reserve the chains every packet needs (several, if receive buffers may be
 *	    merged), prefetching for writing
 *   copy   header and payload
 *   give   hand all chains back, publish once, call the guest at most once
 *
 * The second may write past the cache (far.h). A packet that finds too few buffers puts back what it
 * took and ends the burst; the guest sees nothing of it. So does a guest whose buffers are too small
 * again and again: chains taken in vain are bounded for all of a burst (VIRTQ_SEGS), not for each packet.
 */

/* One packet's share of the burst. */
struct slot {
	struct virtio_net_hdr_v1 hdr;
	uint16_t n;                      /* chains; 0: the packet was dropped */
	const struct virtq_chain *chain; /* the first one */
	struct vnet_patches patches;
};

struct reservation {
	struct virtq_segs segs;
	uint32_t vain; /* chains that were taken and put back */
	struct virtq_chain chain[VIRTQ_SEGS];
};

virtq_inline void chain_prefetch(const struct virtq_view *v, const struct virtq_chain *chain)
{
	place_prefetch(chain->seg, v->hdr_len);
	if (unlikely(chain->nseg > 1))
		virtq_prefetch_write(chain->seg[1].va);
}

/* Room of the burst's that is free again; steps along chains are spent. */
virtq_inline void segs_back(struct virtq_segs *segs, uint32_t n)
{
	segs->n = n;
	segs->full = false;
}

/* Put back what one packet took, from first on. Alone in its burst and still without room, it never will
 * have any: then it is dropped, or if one chain did that, the ring parked. Returns as reserve(). */
virtq_inline int reserve_failed(struct virtq *vq, const struct virtq_view *v, struct reservation *r,
	uint32_t seg0, const struct virtq_chain *first, const struct virtq_chain *end,
	const struct virtq_ops *ops)
{
	bool hopeless = first == r->chain && (r->segs.full || end == &r->chain[VIRTQ_SEGS]);

	if (hopeless && first == end) {
		virtq_park(vq, VIRTQ_FAULT_TOO_LONG);
		hopeless = false;
	}
	if (first != end)
		ops->untake(vq, v, first);
	r->vain += (uint32_t)(end - first);
	segs_back(&r->segs, seg0);
	return hopeless ? -1 : 0;
}

/* Take chains, from first on, until they hold need bytes. Returns how many, 0 if there are too few for
 * now, -1 if the guest's buffer is too small. */
virtq_inline int reserve(struct virtq *vq, const struct virtq_view *v, struct reservation *r,
	struct virtq_chain *first, uint32_t need, const struct virtq_ops *ops, const int variant)
{
	const uint32_t seg0 = r->segs.n;
	struct virtq_chain *chain = first;
	uint64_t got = 0;

	do {
		if (unlikely(chain == &r->chain[VIRTQ_SEGS] || ops->ready(vq, v, 1) == 0 ||
			     !ops->take(vq, v, VIRTQ_TO_GUEST, &r->segs, chain)))
			return reserve_failed(vq, v, r, seg0, first, chain, ops);
		chain_prefetch(v, chain);
		got += chain->len;
		chain++;
	} while ((variant & VNET_MERGEABLE) && unlikely(got < need));

	if (likely(got >= need))
		return (int)(chain - first);
	ops->untake(vq, v, first);
	r->vain += (uint32_t)(chain - first);
	segs_back(&r->segs, seg0);
	return -1;
}

/* Write len bytes of the packet's image into its chains, wherever they are cut. */
struct target {
	struct vnet_cursor c;
	const struct virtq_chain *chain, *end;
};

static bool target_write(struct target *t, const void *src, uint32_t len)
{
	const uint8_t *from = src;

	while (len > 0) {
		uint32_t part = vnet_cursor_room(&t->c, len);

		if (part == 0) {
			if (++t->chain == t->end)
				return false;
			t->c = vnet_cursor_at(t->chain);
			continue;
		}
		memcpy(t->c.seg->va + t->c.off, from, part);
		t->c.off += part;
		from += part;
		len -= part;
	}
	return true;
}

static void target_skip(struct target *t, uint32_t len)
{
	while (len > 0) {
		uint32_t part = vnet_cursor_room(&t->c, len);

		if (part == 0) {
			if (++t->chain == t->end)
				return;
			t->c = vnet_cursor_at(t->chain);
			continue;
		}
		t->c.off += part;
		len -= part;
	}
}

static struct target target_of(const struct slot *s)
{
	return (struct target){vnet_cursor_at(s->chain), s->chain, s->chain + s->n};
}

static __rte_noinline void copy_slow(
	const struct virtq_view *v, const struct slot *s, const struct rte_mbuf *m)
{
	struct target t = target_of(s);

	if (!target_write(&t, &s->hdr, v->hdr_len))
		return;
	for (; m; m = m->next)
		if (!target_write(&t, rte_pktmbuf_mtod(m, const void *), m->data_len))
			return;
}

/* Checksums that must differ between the guest's copy and a possibly shared mbuf. */
static __rte_noinline void patch_slow(const struct virtq_view *v, const struct slot *s)
{
	for (unsigned i = 0; i < s->patches.n; i++) {
		struct target t = target_of(s);

		target_skip(&t, v->hdr_len + s->patches.at[i].offset);
		target_write(&t, &s->patches.at[i].value, sizeof(s->patches.at[i].value));
	}
}

virtq_inline void frame_prefetch(
	const struct virtq_view *v, const struct slot *s, const struct rte_mbuf *m, const bool past)
{
	if (likely(s->n))
		place_own(s->chain->seg, v->hdr_len, m->pkt_len, past);
}

virtq_inline const uint8_t *data_of(const struct rte_mbuf *m)
{
	return rte_pktmbuf_mtod(m, const uint8_t *);
}

/* A packet to one place with room for it, whatever its segments say. @param next packet, or any */
virtq_inline void packet_write(
	uint8_t *va, const struct rte_mbuf *m, const bool past, const struct rte_mbuf *next)
{
	uint32_t left = m->pkt_len, part = m->data_len;

	if (likely(part == left)) {
		place_write(va, data_of(m), part, past, data_of(next));
		return;
	}
	part = RTE_MIN(part, left);
	place_write(va, data_of(m), part, past, data_of(m->next ? m->next : next));
	while ((left -= part) && (m = m->next)) {
		va += part;
		part = RTE_MIN(m->data_len, left);
		place_write(va, data_of(m), part, past, data_of(m->next ? m->next : next));
	}
}

virtq_inline void packet_copy(const struct virtq_view *v, const struct slot *s,
	const struct rte_mbuf *m, const bool past, const struct rte_mbuf *next, const int variant)
{
	const struct virtq_seg *seg = s->chain->seg;

	if (likely(seg->len >= v->hdr_len + m->pkt_len)) {
		place_header(seg->va, &s->hdr, v->hdr_len);
		packet_write(seg->va + v->hdr_len, m, past && m->pkt_len >= FAR_LEAST, next);
	} else {
		copy_slow(v, s, m);
	}
	if ((variant & VNET_OFFLOADS) && unlikely(s->patches.n))
		patch_slow(v, s);
}

/* What goes before the packet. False if the guest did not negotiate what it needs. */
virtq_inline bool packet_header(
	const struct virtq_view *v, struct slot *s, const struct rte_mbuf *m, const int variant)
{
	const uint64_t asks = variant & VNET_OFFLOADS
				      ? VNET_OFFLOAD_FLAGS | RTE_MBUF_F_RX_L4_CKSUM_MASK
				      : VNET_OFFLOAD_FLAGS;

	memset(&s->hdr, 0, sizeof(s->hdr));
	if (variant & VNET_OFFLOADS)
		s->patches.n = 0;
	if (likely(!(m->ol_flags & asks)))
		return true;
	return (variant & VNET_OFFLOADS) &&
	       vnet_mbuf_to_hdr(m, v->features, (struct virtio_net_hdr *)&s->hdr, &s->patches) == 0;
}

/* Reserve and describe as many packets as possible. */
virtq_inline uint16_t packets_reserve(struct virtq *vq, const struct virtq_view *v,
	struct rte_mbuf **pkts, uint16_t n, struct slot *slots, struct reservation *r,
	const struct virtq_ops *ops, const int variant)
{
	struct virtq_chain *chain = r->chain;
	struct rte_mbuf **pkt = pkts;

	for (struct slot *s = slots; s != slots + n; s++, pkt++) {
		int got;

		s->n = 0;
		if (unlikely(!packet_header(v, s, *pkt, variant))) {
			virtq_drop(vq, VIRTQ_DROP_TX_OFFLOAD, 1);
			continue;
		}
		got = reserve(vq, v, r, chain, (*pkt)->pkt_len + v->hdr_len, ops, variant);
		if (unlikely(got == 0))
			break;
		if (unlikely(got < 0)) {
			virtq_drop(vq, VIRTQ_DROP_TX_TOO_BIG, 1);
			if (r->vain < VIRTQ_SEGS && r->segs.links <= VIRTQ_SEGS)
				continue;
			pkt++;
			break;
		}
		s->chain = chain;
		s->n = (uint16_t)got;
		s->hdr.num_buffers = (uint16_t)got;
		chain += got;
	}
	return (uint16_t)(pkt - pkts);
}

virtq_inline void packet_give(struct virtq *vq, const struct virtq_view *v, const struct slot *s,
	uint32_t len, const struct virtq_ops *ops)
{
	len += v->hdr_len;
	if (likely(s->n == 1)) {
		ops->give(vq, v, s->chain, len);
		return;
	}
	for (uint16_t i = 0; i < s->n; i++) {
		uint32_t part = RTE_MIN(len, s->chain[i].len);

		ops->give(vq, v, &s->chain[i], part);
		len -= part;
	}
}

/* Mark all that was written: headers, frames and patches lie within what was given. */
static __rte_noinline void log_burst(const struct virtq *vq, const struct virtq_view *v,
	uint16_t from, struct rte_mbuf *const *pkts, uint16_t n, const struct slot *slots)
{
	uint32_t hint = 0;

	virtq_log_begin();
	virtq_log_used(vq, v, from);
	for (uint16_t i = 0; i < n; i++) {
		const struct virtq_chain *chain = slots[i].chain;
		uint32_t len = pkts[i]->pkt_len + v->hdr_len;

		if (slots[i].n == 0)
			continue;
		for (uint16_t k = 0; k < slots[i].n; k++) {
			virtq_log_chain(v, &hint, &chain[k], len);
			len -= RTE_MIN(len, chain[k].len);
		}
	}
}

virtq_inline uint16_t enqueue(struct virtq *vq, const struct virtq_view *v, void **in, uint16_t n,
	const struct virtq_ops *ops, const int variant)
{
	struct rte_mbuf **pkts = (struct rte_mbuf **)in;
	struct rte_mbuf **pkt = pkts;
	struct slot slots[VIRTQ_BURST], *end;
	struct reservation r;
	struct far_burst far;
	uint32_t sent = 0;
	uint64_t bytes = 0;
	uint16_t from;

	if (unlikely(vq->fault))
		return 0;
	n = RTE_MIN(n, VIRTQ_BURST);
	ops->prefetch(vq, v, ops->ready(vq, v, n));
	virtq_segs_begin(&r.segs);
	r.vain = 0;
	n = packets_reserve(vq, v, pkts, n, slots, &r, ops, variant);
	end = slots + n;
	if (unlikely(n == 0))
		return 0;

	far = far_begin(vq, pkts[0]->pkt_len);
	for (struct slot *s = slots; s != end; s++) {
		const struct rte_mbuf *m = *pkt++;

		const struct rte_mbuf *next = likely(s + 1 != end) ? *pkt : m;

		if (likely(next != m))
			frame_prefetch(v, s + 1, next, far.past);
		if (unlikely(s->n == 0))
			continue;
		packet_copy(v, s, m, far.past, next, variant);
		sent++;
		bytes += m->pkt_len;
		virtq_count_frame(&vq->stats, rte_pktmbuf_mtod(m, uint8_t *), m->pkt_len);
	}
	far_end(far);
	if (unlikely(far.start))
		far_judge(vq, rte_rdtsc() - far.start, far_bytes(pkts, n));
	if (sent == 0)
		return n;

	from = vq->used;
	pkt = pkts;
	for (const struct slot *s = slots; s != end; s++)
		packet_give(vq, v, s, (*pkt++)->pkt_len, ops);
	ops->publish(vq, v);
	if (unlikely(v->log))
		log_burst(vq, v, from, pkts, n, slots);
	vnet_count_burst(&vq->stats, sent, bytes);
	return n;
}

#define INSTANCE(name, ops, variant)                                                             \
	static uint16_t name(struct virtq *vq, const struct virtq_view *v, void **p, uint16_t n) \
	{                                                                                        \
		return enqueue(vq, v, p, n, ops, variant);                                       \
	}

#define INSTANCES(ring)                                                                 \
	INSTANCE(enqueue_##ring, &virtq_##ring##_ops, 0)                                \
	INSTANCE(enqueue_##ring##_offloads, &virtq_##ring##_ops, VNET_OFFLOADS)         \
	INSTANCE(enqueue_##ring##_mergeable, &virtq_##ring##_ops, VNET_MERGEABLE)       \
	INSTANCE(enqueue_##ring##_offloads_mergeable, &virtq_##ring##_ops,              \
		VNET_OFFLOADS | VNET_MERGEABLE)                                         \
	static const virtq_burst_fn enqueue_##ring##_fns[] = {                          \
		[0] = enqueue_##ring,                                                   \
		[VNET_OFFLOADS] = enqueue_##ring##_offloads,                            \
		[VNET_MERGEABLE] = enqueue_##ring##_mergeable,                          \
		[VNET_OFFLOADS | VNET_MERGEABLE] = enqueue_##ring##_offloads_mergeable, \
	};

INSTANCES(split)
INSTANCES(packed)

virtq_burst_fn vnet_enqueue_fn(uint64_t features)
{
	int variant = (features & (1ull << VIRTIO_NET_F_GUEST_CSUM) ? VNET_OFFLOADS : 0) |
		      (features & (1ull << VIRTIO_NET_F_MRG_RXBUF) ? VNET_MERGEABLE : 0);

	return vnet_packed(features) ? enqueue_packed_fns[variant] : enqueue_split_fns[variant];
}

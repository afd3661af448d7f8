/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest to mbufs. */
#include <rte_ether.h>
#include <rte_malloc.h>

#include "lend.h"
#include "mbuf_rx.h"
#include "offload.h"
#include "virtq_log.h"
#include "virtq_packed.h"
#include "virtq_split.h"

/*
 * Theory of operation
 *
 * Three passes over a burst:
 *
 *   take   walk every chain into an array of segments, prefetching the payload
 *   copy   each chain into an mbuf of ours, or lend its buffers (lend.h); from here on nothing
 *	    of the guest's is read but what is lent
 *   give   hand all chains back that are not lent, publish once, call the guest at most once
 *
 * A chain whose packet must not go on is given back like any other.
 *
 * Large packets, and those in many pieces, end a burst early (VIRTQ_SHARE): what was taken and not copied
 * is put back, and comes with the next burst. A packet that is one piece and fits one mbuf is no more
 * than its share, and is not counted.
 */

/* The frame's first line, which with most drivers is not the header's: that one is fetched only
 * if anybody will look. */
virtq_inline void chain_prefetch(
	const struct virtq_view *v, const struct virtq_chain *chain, const int variant)
{
	if (unlikely(chain->nseg != 1)) {
		if (chain->nseg == 0)
			return;
		rte_prefetch0(chain->seg[1].va);
	}
	if (variant & VNET_OFFLOADS)
		rte_prefetch0(chain->seg[0].va);
	rte_prefetch0(chain->seg[0].va + v->hdr_len);
	if ((variant & VNET_LEND) && chain->len >= VNET_LEND_MIN)
		rte_prefetch0(chain->seg[0].va + v->hdr_len + RTE_CACHE_LINE_SIZE);
}

/* As many mbufs as there are chains, or as many as the pool has. */
static uint16_t alloc_some(struct rte_mempool *pool, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t got = 0;

	while (got < n && rte_mempool_get(pool, (void **)&pkts[got]) == 0)
		got++;
	return got;
}

/* Copy what the chain holds from the cursor on, chaining mbufs as needed. */
static int copy_scattered(
	struct vnet_cursor c, uint32_t len, struct rte_mbuf *head, struct rte_mempool *pool)
{
	struct rte_mbuf *m = head;

	head->pkt_len = len;
	while (len > 0) {
		uint32_t part = vnet_cursor_room(&c, len);

		if (rte_pktmbuf_tailroom(m) == 0) {
			m->next = rte_pktmbuf_alloc(pool);
			if (!m->next)
				return -ENOMEM;
			m = m->next;
			m->pkt_len = 0;
			head->nb_segs++;
		}
		part = RTE_MIN(part, rte_pktmbuf_tailroom(m));
		memcpy(rte_pktmbuf_mtod_offset(m, void *, m->data_len), c.seg->va + c.off, part);
		m->data_len += part;
		c.off += part;
		len -= part;
	}
	return 0;
}

static void ext_free(void *addr, void *opaque)
{
	(void)addr;
	rte_free(opaque);
}

/* Give the mbuf one external buffer large enough for the packet. */
static int attach_external(struct rte_mbuf *m, uint32_t len)
{
	struct rte_mbuf_ext_shared_info *info;
	uint32_t total = RTE_PKTMBUF_HEADROOM + len + sizeof(*info) + sizeof(uintptr_t);
	uint16_t buf_len;
	void *buf;

	if (total > UINT16_MAX)
		return -EMSGSIZE;
	buf = rte_malloc(NULL, total, RTE_CACHE_LINE_SIZE);
	if (!buf)
		return -ENOMEM;
	buf_len = (uint16_t)total;
	info = rte_pktmbuf_ext_shinfo_init_helper(buf, &buf_len, ext_free, buf);
	if (!info) {
		rte_free(buf);
		return -ENOMEM;
	}
	rte_pktmbuf_attach_extbuf(m, buf, rte_malloc_virt2iova(buf), buf_len, info);
	rte_pktmbuf_reset_headroom(m);
	return 0;
}

union header {
	struct virtio_net_hdr h;
	uint8_t raw[sizeof(struct virtio_net_hdr_v1)];
};

/* The virtio-net header, which the driver may have cut anywhere. Returns where it ends. */
static struct vnet_cursor header_copy(struct vnet_cursor c, uint8_t *hdr, uint32_t len)
{
	for (uint32_t done = 0; done < len;) {
		uint32_t part = vnet_cursor_room(&c, len - done);

		memcpy(hdr + done, c.seg->va + c.off, part);
		c.off += part;
		done += part;
	}
	return c;
}

/* Anything but one segment into one mbuf. Returns what the packet is lost for, or -1. */
static __rte_noinline int copy_slow(const struct virtq_view *v, const struct virtq_chain *chain,
	union header *hdr, struct rte_mbuf *m, bool linear)
{
	const struct vnet_rx_conf *conf = v->arg;
	struct vnet_cursor c = header_copy(vnet_cursor_at(chain), hdr->raw, v->hdr_len);
	uint32_t len = chain->len - v->hdr_len;
	bool fits = len <= rte_pktmbuf_tailroom(m);

	if (len > VNET_FRAME_MAX)
		return VIRTQ_DROP_RX_TOO_BIG;
	if (!fits && conf->ext_buf)
		fits = attach_external(m, len) == 0;
	if (!fits && linear)
		return VIRTQ_DROP_RX_TOO_BIG;
	if (copy_scattered(c, len, m, conf->pool) != 0)
		return VIRTQ_DROP_RX_NO_MBUF;
	return -1;
}

/* What a burst has taken, and what it makes of it. */
struct taking {
	struct virtq_chain chain[VIRTQ_BURST];
	uint16_t lent[VIRTQ_BURST]; /* buffers of each chain that are lent */
	const struct virtq_chain *end;
	uint16_t n;             /* chains up to there; fewer if mbufs or its share run out */
	uint16_t n_lent;        /* of them, not copied */
	struct rte_mbuf **pkts; /* where packets go */
	uint16_t kept;          /* packets */
	uint64_t bytes;         /* in them */
	uint64_t work;          /* of the burst's share that is used up */
};

/* Packets so far. Not in struct taking, so that it stays in registers. */
struct made {
	struct rte_mbuf **end; /* where the next one goes */
	uint64_t bytes;
};

/* So much of the burst's share is used up; with all of it the burst ends behind this chain. */
static __rte_noinline void share_used(
	struct taking *t, const struct virtq_chain *chain, uint32_t work)
{
	t->work += work;
	if (t->work < VIRTQ_SHARE)
		return;
	t->end = chain + 1;
	t->n = (uint16_t)(t->end - t->chain);
}

/* One chain into one packet. Returns what the packet is lost for, or -1. */
virtq_inline int chain_to_mbuf(const struct virtq_view *v, const struct virtq_chain *chain,
	struct rte_mbuf *m, uint32_t room, struct taking *t, const int variant)
{
	const struct vnet_rx_conf *conf = v->arg;
	const uint32_t len = chain->len - v->hdr_len;
	union header hdr;

	if (unlikely(chain->len < v->hdr_len + (uint32_t)RTE_ETHER_HDR_LEN))
		return VIRTQ_DROP_RX_SHORT;
	if (likely(chain->nseg == 1 && len <= room)) {
		if (variant & VNET_OFFLOADS)
			memcpy(&hdr.h, chain->seg[0].va, sizeof(hdr.h));
		memcpy(rte_pktmbuf_mtod(m, void *), chain->seg[0].va + v->hdr_len, len);
		m->data_len = (uint16_t)len;
		m->pkt_len = len;
	} else {
		int lost = copy_slow(v, chain, &hdr, m, variant & VNET_LINEAR);

		share_used(t, chain, (lost < 0 ? len : 0) + chain->nseg * VIRTQ_SHARE_PIECE);

		if (lost >= 0)
			return lost;
	}
	if ((variant & VNET_OFFLOADS) && unlikely(hdr.h.flags | hdr.h.gso_type) &&
		vnet_hdr_to_mbuf(&hdr.h, v->features, conf->style, m) != 0)
		return VIRTQ_DROP_RX_BAD_HEADER;
	return -1;
}

/* Nothing of the guest's is written but the ring. */
static __rte_noinline void log_burst(
	const struct virtq *vq, const struct virtq_view *v, uint16_t from)
{
	virtq_log_begin();
	virtq_log_used(vq, v, from);
}

/* A chain has become a packet, or (lost >= 0) why not. */
virtq_inline void packet_made(struct virtq *vq, struct made *made, struct rte_mbuf *m, int lost)
{
	if (unlikely(lost >= 0)) {
		virtq_drop(vq, (enum virtq_drop)lost, 1);
		rte_pktmbuf_free(m);
		return;
	}
	made->bytes += m->pkt_len;
	virtq_count_frame(&vq->stats, rte_pktmbuf_mtod(m, uint8_t *), m->pkt_len);
	*made->end++ = m;
}

virtq_inline void all_made(struct taking *t, const struct made *made)
{
	t->kept = (uint16_t)(made->end - t->pkts);
	t->bytes = made->bytes;
}

/* So many mbufs, or as many as the pool has. */
virtq_inline uint16_t mbufs_get(
	struct virtq *vq, const struct virtq_view *v, struct rte_mbuf **pkts, uint16_t n)
{
	const struct vnet_rx_conf *conf = v->arg;

	if (likely(rte_mempool_get_bulk(conf->pool, (void **)pkts, n) == 0))
		return n;
	virtq_count(&vq->stats.no_mbuf, 1);
	return alloc_some(conf->pool, pkts, n);
}

virtq_inline void copy_all(
	struct virtq *vq, const struct virtq_view *v, struct taking *t, const int variant)
{
	const struct vnet_rx_conf *conf = v->arg;
	const struct mbuf_rx template = mbuf_template(conf);
	const uint32_t room = rte_pktmbuf_data_room_size(conf->pool) - template.data_off;

	const uint16_t got = mbufs_get(vq, v, t->pkts, t->n);
	struct made made = {t->pkts, 0};
	struct rte_mbuf **pkt = t->pkts;

	t->n = got;
	t->end = t->chain + got;
	for (const struct virtq_chain *chain = t->chain; chain != t->end; chain++) {
		struct rte_mbuf *m = *pkt++;

		mbuf_init(m, &template);
		packet_made(vq, &made, m, chain_to_mbuf(v, chain, m, room, t, variant));
	}
	if (unlikely(t->n < got))
		rte_mempool_put_bulk(conf->pool, (void **)pkt, got - t->n);
	all_made(t, &made);
}

/* ---- lending: lend.h ---- */

static struct mbuf_rx lent_template(const struct virtq_view *v)
{
	const struct vnet_rx_conf *conf = v->arg;

	return (struct mbuf_rx){
		.data_off = RTE_PKTMBUF_HEADROOM,
		.refcnt = 1,
		.nb_segs = 1,
		.port = conf->port,
		.ol_flags = RTE_MBUF_F_EXTERNAL | lend_flags(lender_of(v)),
		.data_len = LEND_HEADER,
	};
}

/* Several pieces. Returns how many are lent, 0: none, and head is back where it was. */
static __rte_noinline uint16_t lend_scattered(const struct virtq_view *v,
	const struct virtq_chain *chain, union header *hdr, struct rte_mbuf *head, uint32_t place)
{
	struct vnet_cursor c = header_copy(vnet_cursor_at(chain), hdr->raw, v->hdr_len);

	return lend_pieces(lender_of(v),
		header_copy(c, rte_pktmbuf_mtod(head, uint8_t *), LEND_HEADER), head, place);
}

/* Does all the guest asks for concern the part that was copied? */
virtq_inline bool asks_for_header(const struct virtio_net_hdr *h)
{
	return !(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) ||
	       (uint32_t)h->csum_start + h->csum_offset + sizeof(uint16_t) <= LEND_HEADER;
}

/* Lend a chain. Returns how many of its buffers, 0: it must be copied. */
virtq_inline uint16_t lend(const struct virtq_view *v, const struct virtq_chain *chain,
	const struct mbuf_rx *template, uint32_t place, struct rte_mbuf **pkt, const int variant)
{
	const struct vnet_rx_conf *conf = v->arg;
	const uint32_t len = chain->len - v->hdr_len;
	struct vnet_lender *l = lender_of(v);
	struct rte_mbuf *m = l->heads[--l->n_heads];
	union header hdr;
	uint16_t n = 1;

	mbuf_init(m, template);
	m->pkt_len = len;
	if (likely(chain->nseg == 1 && len - LEND_HEADER <= UINT16_MAX)) {
		uint8_t *va = chain->seg[0].va;

		if (variant & VNET_OFFLOADS)
			memcpy(&hdr.h, va, sizeof(hdr.h));
		va += v->hdr_len;
		memcpy(rte_pktmbuf_mtod(m, void *), va, LEND_HEADER);
		m->next = lend_body(l, va + LEND_HEADER, len - LEND_HEADER, place);
		m->nb_segs = 2;
	} else {
		n = lend_scattered(v, chain, &hdr, m, place);
		if (n == 0)
			return 0;
	}
	if ((variant & VNET_OFFLOADS) && unlikely(hdr.h.flags | hdr.h.gso_type) &&
		(!asks_for_header(&hdr.h) ||
			vnet_hdr_to_mbuf(&hdr.h, v->features, conf->style, m) != 0)) {
		lend_undo(l, m);
		return 0;
	}
	*pkt = m;
	return n;
}

virtq_inline bool is_large(
	const struct virtq_view *v, const struct virtq_chain *chain, uint32_t least)
{
	return chain->len - v->hdr_len >= least && chain->len >= v->hdr_len &&
	       chain->len <= VNET_FRAME_MAX;
}

/* How many packets are too small to be lent. */
virtq_inline uint16_t count_small(
	const struct virtq_view *v, const struct taking *t, uint32_t least)
{
	uint16_t small = 0;

	for (const struct virtq_chain *chain = t->chain; chain != t->end; chain++)
		small += !is_large(v, chain, least);
	return small;
}

/* As copy_all(), but packets of @least bytes or more are lent; the @small ones are others. */
virtq_inline void lend_all(struct virtq *vq, const struct virtq_view *v, struct taking *t,
	uint32_t least, uint16_t small, const int variant)
{
	const struct vnet_rx_conf *conf = v->arg;
	const struct mbuf_rx template = mbuf_template(conf), lent = lent_template(v);
	const uint32_t data_room = rte_pktmbuf_data_room_size(conf->pool) - template.data_off;
	struct vnet_lender *l = lender_of(v);
	struct rte_mbuf *mbuf[VIRTQ_BURST];
	const struct virtq_window *w = &l->base.window;
	uint32_t room = lend_room(l), place = w->tail; /* in the window, of the next that waits */
	struct made made = {t->pkts, 0};
	uint16_t got = small ? mbufs_get(vq, v, mbuf, small) : 0, used = 0, i;

	for (i = 0; i < t->n; i++) {
		const struct virtq_chain *chain = &t->chain[i];
		struct rte_mbuf *m = NULL;

		t->lent[i] = 0;
		if (is_large(v, chain, least)) {
			if (likely(chain->ndesc <= room && l->n_heads && l->n_bodies))
				t->lent[i] = lend(v, chain, &lent, place, &m, variant);
			if (likely(t->lent[i])) {
				room -= chain->ndesc;
				place++;
				t->n_lent++;
				packet_made(vq, &made, m, -1);
				if (unlikely(made.bytes >= VIRTQ_SHARE))
					share_used(t, chain, made.bytes);
				continue;
			}
			virtq_count(&vq->stats.lent_not, 1);
			if (mbufs_get(vq, v, &m, 1) == 0)
				break;
		} else {
			if (unlikely(used == got))
				break;
			m = mbuf[used++];
		}
		place += virtq_window_waits(w, place);
		mbuf_init(m, &template);
		packet_made(vq, &made, m, chain_to_mbuf(v, chain, m, data_room, t, variant));
	}
	if (unlikely(used < got))
		rte_mempool_put_bulk(conf->pool, (void **)&mbuf[used], got - used);
	t->n = i;
	all_made(t, &made);
	virtq_count(&vq->stats.lent, t->n_lent);
}

/* What a ring with a lender does with what was taken, whichever its format: once, not inlined into each of its bursts.
 * With nothing to lend, and nothing lent that what was taken must wait for, which is so of most bursts of small
 * packets, it is as if there were no lender. True: there was something. */
#define LEND_OR_COPY(name, variant)                                             \
	static __rte_noinline bool name(                                        \
		struct virtq *vq, const struct virtq_view *v, struct taking *t) \
	{                                                                       \
		const uint32_t least = virtq_load(&lender_of(v)->least);        \
		const struct virtq_window *w = &v->lender->window;              \
		const uint16_t small = count_small(v, t, least);                \
                                                                                \
		if (small == t->n && !virtq_window_waits(w, w->tail)) {         \
			copy_all(vq, v, t, variant);                            \
			return false;                                           \
		}                                                               \
		lend_all(vq, v, t, least, small, variant);                      \
		return true;                                                    \
	}

LEND_OR_COPY(lend_or_copy, 0)
LEND_OR_COPY(lend_or_copy_offloads, VNET_OFFLOADS)

/* Chains that are done with go back, now or when it is their turn. True: something went back. @param gave: before */
virtq_inline bool lend_give(struct virtq *vq, const struct virtq_view *v, const struct taking *t,
	bool gave, const struct virtq_ops *ops)
{
	struct virtq_window *w = &v->lender->window;
	const bool publishes = gave || t->n_lent < t->n;

	for (uint16_t i = 0; i < t->n; i++) {
		if (t->lent[i] || virtq_window_waits(w, w->tail)) {
			virtq_window_add(v, w, &t->chain[i], t->lent[i], publishes);
		} else {
			ops->give(vq, v, &t->chain[i], 0);
			gave = true;
		}
	}
	return gave;
}

/* ---- the burst ---- */

/* Walk up to n chains. */
virtq_inline void take_all(struct virtq *vq, const struct virtq_view *v, struct taking *t,
	struct virtq_segs *segs, uint16_t n, const struct virtq_ops *ops, const int variant)
{
	struct virtq_chain *chain = t->chain, *end = chain + n;

	t->n_lent = 0;
	t->work = 0;
	ops->prefetch(vq, v, n);
	virtq_segs_begin(segs);
	for (; chain != end && ops->take(vq, v, VIRTQ_FROM_GUEST, segs, chain); chain++)
		chain_prefetch(v, chain, variant);
	t->n = (uint16_t)(chain - t->chain);
	t->end = chain;
	if (t->n == 0 && unlikely(segs->full))
		virtq_park(vq, VIRTQ_FAULT_TOO_LONG);
}

/* Make packets of what there is. True: chains were given back, here or (gave) before. */
virtq_inline bool receive(struct virtq *vq, const struct virtq_view *v, struct taking *t,
	uint16_t n, bool gave, const struct virtq_ops *ops, const int variant)
{
	struct virtq_segs segs;
	uint16_t taken;
	bool lends = false;

	take_all(vq, v, t, &segs, n, ops, variant);
	taken = t->n;
	if (taken == 0)
		return gave;
	if (variant & VNET_LEND)
		lends = variant & VNET_OFFLOADS ? lend_or_copy_offloads(vq, v, t)
						: lend_or_copy(vq, v, t);
	else
		copy_all(vq, v, t, variant);
	if (unlikely(t->n < taken))
		ops->untake(vq, v, &t->chain[t->n]);

	if (lends) {
		gave = lend_give(vq, v, t, gave, ops);
	} else {
		for (const struct virtq_chain *chain = t->chain, *end = chain + t->n; chain != end;
			chain++)
			ops->give(vq, v, chain, 0);
		gave = gave || t->n > 0;
	}
	vnet_count_burst(&vq->stats, t->kept, t->bytes);
	return gave;
}

virtq_inline uint16_t dequeue(struct virtq *vq, const struct virtq_view *v, void **out, uint16_t n,
	const struct virtq_ops *ops, const int variant)
{
	const uint16_t from = vq->used;
	struct taking t;
	bool gave = false;

	if (unlikely(vq->fault))
		return 0;
	t.pkts = (struct rte_mbuf **)out; /* not the rest, which is large */
	t.kept = 0;
	if (variant & VNET_LEND)
		gave = lend_settle(vq, v, lender_of(v), ops);
	if (unlikely(virtq_load(&vq->announce)) && n > 0 && vnet_announce(vq, v, t.pkts)) {
		t.kept = 1;
	} else {
		n = ops->ready(vq, v, RTE_MIN(n, VIRTQ_BURST));
		/* While others overtake, what is copied needs no place in it. */
		if ((variant & VNET_LEND) && unlikely(virtq_window_full(&v->lender->window)) &&
			!v->lender->window.overtaking)
			n = 0;
		if (n > 0)
			gave = receive(vq, v, &t, n, gave, ops, variant);
	}
	if (gave) {
		ops->publish(vq, v);
		if (unlikely(v->log))
			log_burst(vq, v, from);
	}
	if (variant & VNET_LEND)
		virtq_track_taken(vq, v);
	return t.kept;
}

#define INSTANCE(name, ops, variant)                                                             \
	static uint16_t name(struct virtq *vq, const struct virtq_view *v, void **p, uint16_t n) \
	{                                                                                        \
		return dequeue(vq, v, p, n, ops, variant);                                       \
	}

#define INSTANCES(ring)                                                                          \
	INSTANCE(dequeue_##ring, &virtq_##ring##_ops, 0)                                         \
	INSTANCE(dequeue_##ring##_offloads, &virtq_##ring##_ops, VNET_OFFLOADS)                  \
	INSTANCE(dequeue_##ring##_linear, &virtq_##ring##_ops, VNET_LINEAR)                      \
	INSTANCE(dequeue_##ring##_offloads_linear, &virtq_##ring##_ops,                          \
		VNET_OFFLOADS | VNET_LINEAR)                                                     \
	INSTANCE(dequeue_##ring##_lend, &virtq_##ring##_ops, VNET_LEND)                          \
	INSTANCE(dequeue_##ring##_offloads_lend, &virtq_##ring##_ops, VNET_OFFLOADS | VNET_LEND) \
	static const virtq_burst_fn dequeue_##ring##_fns[] = {                                   \
		[0] = dequeue_##ring,                                                            \
		[VNET_OFFLOADS] = dequeue_##ring##_offloads,                                     \
		[VNET_LINEAR] = dequeue_##ring##_linear,                                         \
		[VNET_OFFLOADS | VNET_LINEAR] = dequeue_##ring##_offloads_linear,                \
		[VNET_LEND] = dequeue_##ring##_lend,                                             \
		[VNET_OFFLOADS | VNET_LEND] = dequeue_##ring##_offloads_lend,                    \
	};

INSTANCES(split)
INSTANCES(packed)

virtq_burst_fn vnet_dequeue_fn(uint64_t features, const struct vnet_rx_conf *conf, bool lend)
{
	int variant = (features & (1ull << VIRTIO_NET_F_CSUM) ? VNET_OFFLOADS : 0) |
		      (lend                  ? VNET_LEND
			      : conf->linear ? VNET_LINEAR
					     : 0);

	return vnet_packed(features) ? dequeue_packed_fns[variant] : dequeue_split_fns[variant];
}

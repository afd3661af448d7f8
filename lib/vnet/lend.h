/* SPDX-License-Identifier: BSD-3-Clause */
/* Lending a guest's buffers: mbufs over guest memory, for dequeue.c. */
#ifndef VNET_LEND_H
#define VNET_LEND_H

#include <rte_cycles.h>
#include <rte_mempool.h>

#include "burst.h"
#include "virtq_lend.h"

/*
 * Theory of operation
 *
 * A packet of VNET_LEND_MIN bytes or more (vnet_lender_least()) is not copied but becomes a chain of mbufs:
 *
 *	head	the first LEND_HEADER bytes, copied: what is looked at and changed is ours, and the
 *		guest may rewrite its buffer as it likes
 *	body	one for each piece of the guest's buffer, pointing into it
 *
 * All come from a pool that belongs to the ring, and which nobody but its lender takes from. Whoever
 * frees them, on whatever lcore, puts them into the pool with rte_mempool's operations, which are
 * ours and make it a list of what has come home (lend_home). The next burst of the ring takes that
 * list, and chains whose bodies are all there go back to the guest (virtq_lend.h).
 *
 * To DPDK they are mbufs with a pinned external buffer: so clones and copies of all kinds count
 * their references at the body, which comes home with the last of them.
 *
 * A packet is copied all the same when the lender has no buffers left, when half of the ring is lent,
 * or when the oldest buffer is out for longer than LEND_LATE_US: whoever holds buffers for long gets
 * no more of them, and the ring works on.
 */

#define LEND_HEADER      128
#define LEND_OVERTAKE_US 50
#define LEND_LATE_US     5000

/* The private part of each mbuf. */
struct lend_buf {
	struct rte_mbuf_ext_shared_info shared; /* DPDK's: mbufs that refer to the buffer */
	struct rte_mbuf *next;                  /* in lend_home */
	uint32_t place;                         /* of a body: its chain's in the window */
	bool is_head;
	bool orphan; /* of a body: its chain was given back without it */
};

/* What has come home. Many add, the lender takes all at once. */
struct lend_home {
	_Alignas(RTE_CACHE_LINE_SIZE) struct rte_mbuf *first;
};

/* A memory table buffers may still refer to. Control's. */
struct lend_held {
	struct lend_held *next;
	struct virtq_mem *mem;
	bool left;      /* no lcore lends from it any more: */
	uint32_t until; /* its last chains are before this place of the window */
};

struct vnet_lender {
	struct virtq_lender base;

	/* the lcore's, or control's with the gate closed */
	struct lend_home *home;
	struct rte_mbuf **heads, **bodies; /* stacks of what is here */
	uint32_t n_heads, n_bodies;
	uint32_t orphans; /* read by control */
	uint64_t since;   /* TSC: the window's head has not moved since; 0: it has just moved */
	bool late;
	uint32_t limit;    /* ring entries that may be lent; written by control */
	uint32_t least;    /* bytes of a packet to be lent; written by control */
	uint64_t unmapped; /* VNET_MBUF_F_LENT_UNMAPPED or 0; written by control */

	/* constant */
	uint32_t max_heads, max_bodies;
	uint64_t overtake, too_late; /* TSC cycles */
	struct rte_mempool *pool;

	/* control's */
	struct virtq_mem *mem; /* lent from now */
	struct lend_held *held;
	struct vnet_lender *next; /* after its release, while buffers are out */
};

static inline struct lend_buf *lend_buf_of(struct rte_mbuf *m)
{
	return rte_mbuf_to_priv(m);
}

static inline struct vnet_lender *lender_of(const struct virtq_view *v)
{
	return (struct vnet_lender *)v->lender;
}

static inline bool lend_any_away(const struct vnet_lender *l)
{
	return l->n_heads + l->n_bodies < l->max_heads + l->max_bodies;
}

/* Of the packets. */
static inline uint64_t lend_flags(const struct vnet_lender *l)
{
	return VNET_MBUF_F_LENT | virtq_load(&l->unmapped) |
	       (l->base.window.ordered ? VNET_MBUF_F_LENT_ORDERED : 0);
}

/* Put an mbuf to those that are here. */
static inline void lend_keep(struct vnet_lender *l, struct rte_mbuf *m, const struct lend_buf *b)
{
	if (b->is_head)
		l->heads[l->n_heads++] = m;
	else
		l->bodies[l->n_bodies++] = m;
}

/* Take what has come home. True: that gave chains back. */
virtq_inline bool lend_collect(struct virtq *vq, const struct virtq_view *v, struct vnet_lender *l,
	const struct virtq_ops *ops)
{
	struct rte_mbuf *m = NULL;
	bool gave = false;

	if (virtq_load(&l->home->first))
		m = __atomic_exchange_n(&l->home->first, NULL, __ATOMIC_ACQUIRE);
	while (m) {
		struct lend_buf *b = lend_buf_of(m);
		struct rte_mbuf *next = b->next;

		if (!b->is_head) {
			if (unlikely(b->orphan))
				virtq_store(&l->orphans, l->orphans - 1);
			else
				gave |= virtq_window_home(vq, v, &l->base.window, b->place, ops);
			b->orphan = false;
		}
		lend_keep(l, m, b);
		m = next;
	}
	return gave;
}

/* Nothing has moved. True: chains were given back. Out of line. */
bool lend_wait(struct virtq *vq, const struct virtq_view *v, struct vnet_lender *l);

/* Give back what can be. True: there was something, to be published. */
virtq_inline bool lend_settle(struct virtq *vq, const struct virtq_view *v, struct vnet_lender *l,
	const struct virtq_ops *ops)
{
	struct virtq_window *w = &l->base.window;
	uint32_t head = w->head;
	bool gave;

	if (!lend_any_away(l))
		return false;
	gave = lend_collect(vq, v, l, ops);
	gave |= virtq_window_give(vq, v, w, ops);
	if (likely(w->head != head || w->head == w->tail)) {
		l->since = 0;
		l->late = false;
		return gave;
	}
	return lend_wait(vq, v, l) || gave;
}

/* How much may be lent in a burst. */
static inline uint32_t lend_room(const struct vnet_lender *l)
{
	uint32_t limit = virtq_load(&l->limit), out = l->base.window.out;

	if (unlikely(l->late || out >= limit || virtq_window_full(&l->base.window)))
		return 0;
	return limit - out;
}

/* A body over a piece of guest memory. */
virtq_inline struct rte_mbuf *lend_body(
	struct vnet_lender *l, uint8_t *va, uint32_t len, uint32_t place)
{
	struct rte_mbuf *m = l->bodies[--l->n_bodies];

	/* Whoever had it last may have left these in another state. */
	m->data_off = 0;
	m->nb_segs = 1;
	rte_mbuf_refcnt_set(m, 1);
	m->ol_flags = RTE_MBUF_F_EXTERNAL;
	m->buf_addr = va;
	m->buf_iova = (rte_iova_t)(uintptr_t)va;
	m->buf_len = m->data_len = (uint16_t)len;
	m->pkt_len = len;
	lend_buf_of(m)->place = place;
	return m;
}

/* A chain of several pieces, from a cursor on: bodies behind @head. Returns how many, 0: it cannot be
 * lent. Out of line. */
uint16_t lend_pieces(
	struct vnet_lender *l, struct vnet_cursor c, struct rte_mbuf *head, uint32_t place);

/* Take a packet back that nobody has got. Out of line. */
void lend_undo(struct vnet_lender *l, struct rte_mbuf *head);

#endif

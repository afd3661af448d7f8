/* SPDX-License-Identifier: BSD-3-Clause */
/* Lenders: the pools behind lent packets, their life, and what is not on the hot path. */
#include "lend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_malloc.h>
#include <rte_spinlock.h>

#include "virtq_log.h"
#include "virtq_packed.h"
#include "virtq_split.h"

_Static_assert(sizeof(struct lend_buf) <= RTE_CACHE_LINE_SIZE, "one line beside the mbuf's two");

#define LEND_PRIV RTE_CACHE_LINE_SIZE
#define LEND_ROOM (RTE_PKTMBUF_HEADROOM + LEND_HEADER)

/* Bodies a head: a Linux guest's large frame has up to 18 pieces, most packets have one. */
#define BODIES 2

/* ---- coming home: the pool's operations ---- */

static int home_alloc(struct rte_mempool *mp)
{
	mp->pool_data = rte_zmalloc_socket(
		"lend_home", sizeof(struct lend_home), RTE_CACHE_LINE_SIZE, mp->socket_id);
	return mp->pool_data ? 0 : -ENOMEM;
}

static void home_free(struct rte_mempool *mp)
{
	rte_free(mp->pool_data);
}

/* On their way, linked: to one home. */
struct returning {
	struct lend_home *home;
	struct rte_mbuf *first;
	struct lend_buf *last;
};

/* Any lcore. */
static void arrive(const struct returning *r)
{
	r->last->next = virtq_load(&r->home->first);
	while (!__atomic_compare_exchange_n(&r->home->first, &r->last->next, r->first, true,
		__ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
}

static int home_enqueue(struct rte_mempool *mp, void *const *objs, unsigned n)
{
	struct rte_mbuf *const *m = (struct rte_mbuf *const *)objs;

	for (unsigned i = 0; i + 1 < n; i++)
		lend_buf_of(m[i])->next = m[i + 1];
	arrive(&(struct returning){mp->pool_data, m[0], lend_buf_of(m[n - 1])});
	return 0;
}

/* Only the lender takes from the pool, by itself. */
static int home_dequeue(struct rte_mempool *mp, void **objs, unsigned n)
{
	(void)mp, (void)objs, (void)n;
	return -ENOBUFS;
}

static unsigned home_count(const struct rte_mempool *mp)
{
	(void)mp;
	return 0;
}

static const struct rte_mempool_ops home_ops = {
	.name = "sluice_home",
	.alloc = home_alloc,
	.free = home_free,
	.enqueue = home_enqueue,
	.dequeue = home_dequeue,
	.get_count = home_count,
};
RTE_MEMPOOL_REGISTER_OPS(home_ops)

static inline bool is_lend_pool(const struct rte_mempool *mp)
{
	return rte_mempool_get_ops(mp->ops_index)->enqueue == home_enqueue;
}

/* The last mbuf that referred to a body, but is not the body itself, was freed. */
static void body_home(void *addr, void *opaque)
{
	struct rte_mbuf *m = opaque;

	(void)addr;
	rte_mbuf_ext_refcnt_set(m->shinfo, 1);
	m->ol_flags = RTE_MBUF_F_EXTERNAL;
	m->next = NULL;
	m->nb_segs = 1;
	rte_mbuf_raw_free(m);
}

/* Nobody else refers to it, in whatever way. */
static inline bool is_ours(const struct rte_mbuf *m, const struct lend_buf *b)
{
	return rte_mbuf_refcnt_read(m) == 1 && rte_mbuf_ext_refcnt_read(&b->shared) == 1;
}

/* What is left of it and has other owners, too, goes DPDK's way. */
static void lent_free(struct returning *r, struct rte_mbuf *m)
{
	struct lend_home *home = m->pool->pool_data;

	if (r->home != home && r->last)
		arrive(r);
	if (r->home != home)
		*r = (struct returning){.home = home};
	while (m) {
		struct rte_mbuf *next = m->next;
		struct lend_buf *b = lend_buf_of(m);

		if (m->pool->pool_data != home || !is_ours(m, b)) {
			rte_pktmbuf_free(m);
			return;
		}
		m->next = NULL;
		m->nb_segs = 1;
		b->next = r->first;
		r->first = m;
		if (!r->last)
			r->last = b;
		m = next;
	}
}

static inline bool is_lent(const struct rte_mbuf *m)
{
	return (m->ol_flags & VNET_MBUF_F_LENT) && is_lend_pool(m->pool);
}

void vnet_free_others(struct rte_mbuf **pkts, uint16_t n)
{
	struct returning r = {.home = NULL};

	for (uint16_t i = 0, run; i < n; i += run) {
		for (run = 0; i + run < n && !is_lent(pkts[i + run]); run++)
			;
		if (run > 0) {
			rte_pktmbuf_free_bulk(&pkts[i], run);
		} else {
			lent_free(&r, pkts[i]);
			run = 1;
		}
	}
	if (r.last)
		arrive(&r);
}

/* ---- a lender's life ---- */

static void buf_init(struct rte_mempool *mp, void *arg, void *obj, unsigned i)
{
	struct vnet_lender *l = arg;
	struct rte_mbuf *m = obj;
	uint8_t *room = (uint8_t *)(m + 1) + LEND_PRIV;
	struct lend_buf *b;

	memset(m, 0, sizeof(*m) + LEND_PRIV);
	m->pool = mp;
	m->priv_size = LEND_PRIV;
	m->ol_flags = RTE_MBUF_F_EXTERNAL;
	m->nb_segs = 1;
	m->port = RTE_MBUF_PORT_INVALID;
	rte_mbuf_refcnt_set(m, 1);
	m->buf_addr = room;
	m->buf_iova = rte_mempool_virt2iova(obj) + sizeof(*m) + LEND_PRIV;
	m->buf_len = LEND_ROOM;
	b = lend_buf_of(m);
	m->shinfo = &b->shared;
	b->shared.free_cb = body_home;
	b->shared.fcb_opaque = m;
	rte_mbuf_ext_refcnt_set(&b->shared, 1);
	b->is_head = i < l->max_heads;
	lend_keep(l, m, b);
}

static struct rte_mempool *pool_new(struct vnet_lender *l, const char *name, int socket)
{
	struct rte_pktmbuf_pool_private priv = {
		.mbuf_data_room_size = LEND_ROOM,
		.mbuf_priv_size = LEND_PRIV,
		.flags = RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF,
	};
	uint32_t n = l->max_heads + l->max_bodies;
	/* No cache: what an lcore keeps there would not come home. */
	struct rte_mempool *mp = rte_mempool_create_empty(name, n,
		sizeof(struct rte_mbuf) + LEND_PRIV + LEND_ROOM, 0, sizeof(priv), socket, 0);

	if (!mp)
		return NULL;
	rte_pktmbuf_pool_init(mp, &priv);
	if (rte_mempool_set_ops_byname(mp, home_ops.name, NULL) < 0 ||
		rte_mempool_populate_default(mp) != (int)n) {
		rte_mempool_free(mp);
		return NULL;
	}
	return mp;
}

static void lender_free(struct vnet_lender *l)
{
	while (l->held) {
		struct lend_held *next = l->held->next;

		virtq_mem_put(l->held->mem);
		free(l->held);
		l->held = next;
	}
	virtq_mem_put(l->mem);
	rte_mempool_free(l->pool);
	rte_free(l->heads);
	free(l->base.window.chain);
	rte_free(l);
}

static uint32_t lender_settle(
	struct virtq_lender *lender, struct virtq *vq, const struct virtq_view *v);
static uint32_t lender_abandon(
	struct virtq_lender *lender, struct virtq *vq, const struct virtq_view *v);
static bool lender_reap(struct virtq_lender *lender, bool stopped);

struct vnet_lender *vnet_lender_create(uint16_t packets, int socket)
{
	static uint32_t count;
	struct vnet_lender *l =
		rte_zmalloc_socket("lender", sizeof(*l), RTE_CACHE_LINE_SIZE, socket);
	uint32_t n = packets * (1u + BODIES);
	char name[RTE_MEMPOOL_NAMESIZE];

	vnet_lenders_reap();
	if (!l)
		return NULL;
	snprintf(name, sizeof(name), "sluice_lend%u",
		__atomic_fetch_add(&count, 1, __ATOMIC_RELAXED));
	l->base.settle = lender_settle;
	l->base.abandon = lender_abandon;
	l->base.reap = lender_reap;
	l->base.window.chain = calloc(VIRTQ_WINDOW, sizeof(*l->base.window.chain));
	l->least = VNET_LEND_MIN;
	l->max_heads = packets;
	l->max_bodies = n - packets;
	l->overtake = LEND_OVERTAKE_US * rte_get_tsc_hz() / US_PER_S;
	l->too_late = LEND_LATE_US * rte_get_tsc_hz() / US_PER_S;
	l->heads = rte_zmalloc_socket("lend", n * sizeof(*l->heads), RTE_CACHE_LINE_SIZE, socket);
	if (l->heads && l->base.window.chain)
		l->pool = pool_new(l, name, socket);
	if (!l->pool) {
		lender_free(l);
		return NULL;
	}
	l->home = l->pool->pool_data;
	l->bodies = l->heads + packets;
	/* Populating has sent all of them home. */
	l->home->first = NULL;
	rte_mempool_obj_iter(l->pool, buf_init, l);
	return l;
}

/* Released, but some of their buffers are out. */
static struct vnet_lender *leaving;
static rte_spinlock_t leaving_lock = RTE_SPINLOCK_INITIALIZER;

void vnet_lender_release(struct vnet_lender *l)
{
	if (!l)
		return;
	rte_spinlock_lock(&leaving_lock);
	l->next = leaving;
	leaving = l;
	rte_spinlock_unlock(&leaving_lock);
	vnet_lenders_reap();
}

unsigned vnet_lenders_reap(void)
{
	struct vnet_lender **at = &leaving;
	unsigned left = 0;

	if (!virtq_load(&leaving))
		return 0;
	rte_spinlock_lock(&leaving_lock);
	while (*at) {
		struct vnet_lender *l = *at;

		lender_reap(&l->base, true);
		if (lend_any_away(l)) {
			at = &l->next;
			left++;
			continue;
		}
		*at = l->next;
		lender_free(l);
	}
	rte_spinlock_unlock(&leaving_lock);
	return left;
}

/* ---- what a burst and control do to a ring that lends: each once for all formats ---- */

virtq_inline void publish(
	struct virtq *vq, const struct virtq_view *v, uint16_t from, const struct virtq_ops *ops)
{
	ops->publish(vq, v);
	if (v->log) {
		virtq_log_begin();
		virtq_log_used(vq, v, from);
	}
}

virtq_inline void settle_with(struct virtq *vq, const struct virtq_view *v, struct vnet_lender *l,
	const struct virtq_ops *ops)
{
	uint16_t from = vq->used;

	if (lend_settle(vq, v, l, ops))
		publish(vq, v, from, ops);
}

virtq_inline void give_up_with(struct virtq *vq, const struct virtq_view *v, struct vnet_lender *l,
	const struct virtq_ops *ops)
{
	uint16_t from = vq->used;

	if (virtq_window_give(vq, v, &l->base.window, ops))
		publish(vq, v, from, ops);
}

#define OVERTAKE(ring)                                                                \
	__rte_noinline static bool overtake_##ring(                                   \
		struct virtq *vq, const struct virtq_view *v, struct virtq_window *w) \
	{                                                                             \
		return virtq_window_overtake(vq, v, w, &virtq_##ring##_ops);          \
	}
OVERTAKE(split)
OVERTAKE(packed)

bool lend_wait(struct virtq *vq, const struct virtq_view *v, struct vnet_lender *l)
{
	struct virtq_window *w = &l->base.window;
	uint64_t now = rte_rdtsc();

	if (l->since == 0) {
		l->since = now;
		return false;
	}
	if (now - l->since > l->too_late)
		l->late = true;
	if (now - l->since <= l->overtake && virtq_window_len(w) <= v->num / 4u)
		return false;
	return v->packed ? overtake_packed(vq, v, w) : overtake_split(vq, v, w);
}

/* ---- control's side ---- */

static uint32_t lender_settle(
	struct virtq_lender *lender, struct virtq *vq, const struct virtq_view *v)
{
	struct vnet_lender *l = (struct vnet_lender *)lender;

	if (v->packed)
		settle_with(vq, v, l, &virtq_packed_ops);
	else
		settle_with(vq, v, l, &virtq_split_ops);
	return lender->window.out;
}

/* Bodies that are out are no chain's any more. */
static void orphan(struct rte_mempool *mp, void *arg, void *obj, unsigned i)
{
	struct vnet_lender *l = arg;
	struct lend_buf *b = lend_buf_of(obj);

	(void)mp, (void)i;
	if (b->is_head || b->orphan)
		return;
	b->orphan = true;
	l->orphans++;
}

static uint32_t lender_abandon(
	struct virtq_lender *lender, struct virtq *vq, const struct virtq_view *v)
{
	struct vnet_lender *l = (struct vnet_lender *)lender;
	struct virtq_window *w = &lender->window;
	uint32_t lost = lender_settle(lender, vq, v);

	if (w->head == w->tail)
		return 0;
	rte_mempool_obj_iter(l->pool, orphan, l);
	for (uint32_t i = 0; i < l->n_bodies; i++) {
		lend_buf_of(l->bodies[i])->orphan = false;
		l->orphans--;
	}
	for (uint32_t i = w->head; i != w->tail; i++)
		virtq_window_at(w, i)->out = 0;
	w->out = 0;
	l->since = 0;
	l->late = false;
	if (v->packed)
		give_up_with(vq, v, l, &virtq_packed_ops);
	else
		give_up_with(vq, v, l, &virtq_split_ops);
	return lost;
}

/* Lend from this table from now on; NULL: from none. False: short of memory. */
static bool lender_follow(struct vnet_lender *l, struct virtq_mem *mem)
{
	struct lend_held *h;

	if (l->mem == mem)
		return true;
	if (l->mem) {
		h = calloc(1, sizeof(*h));
		if (!h)
			return false;
		h->mem = l->mem;
		h->next = l->held;
		l->held = h;
	}
	l->mem = mem ? virtq_mem_get(mem) : NULL;
	return true;
}

static bool held_free(const struct vnet_lender *l, const struct lend_held *h)
{
	return h->left && (int32_t)(virtq_load(&l->base.window.head) - h->until) >= 0 &&
	       virtq_load(&l->orphans) == 0;
}

static bool lender_reap(struct virtq_lender *lender, bool stopped)
{
	struct vnet_lender *l = (struct vnet_lender *)lender;

	/* Bodies that come home now are no chain's: nothing is given. */
	if (stopped)
		lend_collect(NULL, NULL, l, &virtq_split_ops);
	if (stopped)
		lender_follow(l, NULL);
	for (struct lend_held **at = &l->held; *at;) {
		struct lend_held *h = *at;

		if (held_free(l, h)) {
			*at = h->next;
			virtq_mem_put(h->mem);
			free(h);
			continue;
		}
		/* A turn of control's loop after another table came into force. */
		if (!h->left)
			h->until = virtq_load(&lender->window.tail);
		h->left = true;
		at = &h->next;
	}
	return l->held || l->orphans;
}

bool vnet_lend(struct virtq_view *view, struct vnet_lender *l, enum vnet_lending how)
{
	uint32_t half = view->num / 2u;

	if (view->mem->guest)
		return false;
	/* Chains of the view before may be out: somebody has to give them back. */
	if (!lender_follow(l, view->mem))
		how = VNET_LEND_NONE;
	virtq_window_resize(&l->base.window, view->num);
	l->base.window.ordered = (view->inflight_ring && !view->tracked) ||
				 (view->features & (1ull << VIRTIO_F_IN_ORDER));
	virtq_store(&l->limit, how == VNET_LEND_NONE ? 0 : RTE_MIN(half, l->max_heads));
	virtq_store(&l->unmapped, how == VNET_LEND_ALL ? 0 : VNET_MBUF_F_LENT_UNMAPPED);
	view->lender = &l->base;
	view->burst = vnet_dequeue_fn(view->features, view->arg, true);
	return how != VNET_LEND_NONE;
}

uint64_t vnet_lender_flags(const struct vnet_lender *l)
{
	return lend_flags(l);
}

void vnet_lender_least(struct vnet_lender *l, uint32_t bytes)
{
	virtq_store(&l->least, RTE_MAX(bytes, (uint32_t)VNET_LEND_MIN));
}

uint32_t vnet_lender_out(const struct vnet_lender *l)
{
	return virtq_load(&l->base.window.out);
}

/* ---- packets ---- */

uint16_t lend_pieces(
	struct vnet_lender *l, struct vnet_cursor c, struct rte_mbuf *head, uint32_t place)
{
	struct rte_mbuf *last = head;
	uint16_t n = 0;
	uint32_t part;

	while ((part = vnet_cursor_room(&c, UINT32_MAX)) > 0) {
		if (part > UINT16_MAX || l->n_bodies == 0) {
			lend_undo(l, head);
			return 0;
		}
		last->next = lend_body(l, c.seg->va + c.off, part, place);
		last = last->next;
		head->nb_segs++;
		c.off += part;
		n++;
	}
	return n;
}

void lend_undo(struct vnet_lender *l, struct rte_mbuf *head)
{
	for (struct rte_mbuf *m = head, *next; m; m = next) {
		next = m->next;
		m->next = NULL;
		m->nb_segs = 1;
		lend_keep(l, m, lend_buf_of(m));
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Transmit rings: posting, holding and freeing mbufs as drivers of real NICs do. */
#include <errno.h>
#include <stdlib.h>

#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_net.h>

#include "nicsim_priv.h"

/*
 * Theory of operation
 *
 * A ring has four positions. The application posts at `head`, one descriptor a segment. The device
 * reads at `sent` (nicsim_engine.c). The driver finds out about that only every rs_thresh
 * descriptors, and looks only when fewer than free_thresh are free: `clean`. Then it frees the
 * mbufs: `freed`. With lazy=1 it frees an mbuf only when its descriptor is posted again, as the
 * Intel drivers' paths with offloads do: then a ring holds as many mbufs as it has descriptors, for
 * ever. tx_done_cleanup frees what the driver can find out about, so up to rs_thresh - 1 mbufs stay
 * until the queue is stopped.
 */

static struct tx_desc *at(const struct tx_queue *q, uint64_t position)
{
	return &q->ring[position % q->size];
}

static uint64_t room(const struct tx_queue *q)
{
	return q->size - 1u - (q->head - q->clean);
}

/* ---- freeing ---- */

/* What a driver relies on when it frees in bulk without looking. */
static bool fast_free_right(const struct rte_mbuf *m, const struct rte_mempool *pool)
{
	return m->pool == pool && rte_mbuf_refcnt_read(m) == 1 && RTE_MBUF_DIRECT(m) && !m->next &&
	       m->nb_segs == 1;
}

/* As drivers do, in bulk to the first mbuf's pool; what would go wrong is counted and freed right. */
static void fast_free_until(struct tx_queue *q, uint64_t end)
{
	struct rte_mempool *pool = at(q, q->freed)->mbuf->pool;
	void *bulk[64];
	uint32_t n = 0;

	while (q->freed != end && n < RTE_DIM(bulk)) {
		struct tx_desc *d = at(q, q->freed++);

		if (fast_free_right(d->mbuf, pool)) {
			bulk[n++] = d->mbuf;
		} else {
			q->n[TX_FAST_FREE_WRONG]++;
			rte_pktmbuf_free_seg(d->mbuf);
		}
		d->mbuf = NULL;
		q->n[TX_FREED]++;
	}
	if (n)
		rte_mempool_put_bulk(pool, bulk, n);
}

static void free_until(struct tx_queue *q, uint64_t end)
{
	while (q->freed != end && (q->offloads & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE))
		fast_free_until(q, end);
	for (; q->freed != end; q->freed++) {
		struct tx_desc *d = at(q, q->freed);

		rte_pktmbuf_free_seg(d->mbuf);
		d->mbuf = NULL;
		q->n[TX_FREED]++;
	}
}

/* A link that is down does not keep the driver from freeing. */
static bool may_free(const struct tx_queue *q)
{
	return !(nicsim_stuck(q->nic) & (NICSIM_STALLED | NICSIM_FAILED));
}

/* As far as the driver can see: one more group of descriptors, if the device is through with it. */
static bool clean_group(struct tx_queue *q)
{
	if (!may_free(q) || q->sent - q->clean < q->rs_thresh)
		return false;
	q->clean += q->rs_thresh;
	if (!q->nic->conf.lazy)
		free_until(q, q->clean);
	return true;
}

void nicsim_tx_drain(struct tx_queue *q)
{
	for (; q->sent != q->head; q->sent += at(q, q->sent)->segs)
		q->n[TX_DROPPED]++;
	free_until(q, q->head);
	q->clean = q->head;
}

/* Packets, counted by their first segments, up to the n-th group's end. */
int nicsim_tx_cleanup(void *txq, uint32_t free_cnt)
{
	struct tx_queue *q = txq;
	uint32_t packets = 0;

	if (q->nic->conf.nocleanup)
		return -ENOTSUP;
	rte_rwlock_read_lock(&nicsims_lock);
	rte_spinlock_lock(&q->lock);
	nicsim_engine(q);
	while (may_free(q) && (!free_cnt || packets < free_cnt)) {
		uint64_t from = q->freed;

		if (q->freed == q->clean && !clean_group(q))
			break;
		for (uint64_t i = from; i != q->clean; i++)
			packets += at(q, i)->segs != 0;
		free_until(q, q->clean);
	}
	rte_spinlock_unlock(&q->lock);
	rte_rwlock_read_unlock(&nicsims_lock);
	return (int)packets;
}

/* ---- posting ---- */

/* Offloads a frame asks for, as bits of a queue's; UINT64_MAX: it asks for what no NIC of ours has. */
static uint64_t wanted(const struct rte_mbuf *m)
{
	const uint64_t known = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_IP_CKSUM |
			       RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_TCP_SEG;
	uint64_t l4 = m->ol_flags & RTE_MBUF_F_TX_L4_MASK, bits = 0;

	if ((m->ol_flags & RTE_MBUF_F_TX_OFFLOAD_MASK & ~known) || l4 == RTE_MBUF_F_TX_SCTP_CKSUM)
		return UINT64_MAX;
	if (m->ol_flags & RTE_MBUF_F_TX_IP_CKSUM)
		bits |= RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
	if (l4 == RTE_MBUF_F_TX_TCP_CKSUM)
		bits |= RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
	if (l4 == RTE_MBUF_F_TX_UDP_CKSUM)
		bits |= RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
	if (m->ol_flags & RTE_MBUF_F_TX_TCP_SEG)
		bits |= RTE_ETH_TX_OFFLOAD_TCP_TSO;
	return bits;
}

static bool length_ok(const struct rte_mbuf *m, uint32_t len)
{
	uint32_t max = m->ol_flags & RTE_MBUF_F_TX_TCP_SEG ? NICSIM_TSO_MAX : NICSIM_FRAME_MAX;

	return len == m->pkt_len && len >= RTE_ETHER_HDR_LEN && len <= max;
}

/* What is wrong with a frame, as a counter; TX_COUNTS: nothing. */
static enum tx_count fault_of(const struct tx_queue *q, const struct rte_mbuf *m)
{
	uint32_t segs = 0, len = 0;
	bool empty = false;

	for (const struct rte_mbuf *s = m; s; s = s->next) {
		segs++;
		len += s->data_len;
		empty = empty || !s->data_len;
	}
	if (segs != m->nb_segs || segs > q->nic->conf.nb_seg_max ||
		(segs > 1 && !(q->offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS)))
		return TX_BAD_SEGS;
	if (empty || !length_ok(m, len))
		return TX_BAD_LEN;
	return wanted(m) & ~q->offloads ? TX_BAD_OFFLOAD : TX_COUNTS;
}

uint16_t nicsim_tx_prepare(void *txq, struct rte_mbuf **pkts, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++) {
		int err = fault_of(txq, pkts[i]) == TX_COUNTS ? 0 : -EINVAL;

		if (!err)
			err = rte_net_intel_cksum_prepare(pkts[i]);
		if (err) {
			rte_errno = -err;
			return i;
		}
	}
	return n;
}

static void fill(struct tx_desc *d, struct rte_mbuf *seg)
{
	*d = (struct tx_desc){
		.mbuf = seg,
		.va = rte_pktmbuf_mtod(seg, void *),
		.iova = rte_mbuf_data_iova(seg),
		.len = seg->data_len,
	};
}

/* What is in the frame now, to compare with later. Malformed ones are never read. */
static void remember(struct tx_queue *q, struct tx_desc *first)
{
	uint32_t crc = 0;

	first->crc_known = !first->malformed;
	for (uint32_t i = 0; i < first->segs && first->crc_known; i++) {
		const struct tx_desc *d = at(q, q->head - first->segs + i);

		first->crc_known = nicsim_peek(q->piece, d->va, d->len);
		if (first->crc_known)
			crc = nicsim_crc(crc, q->piece, d->len);
	}
	first->crc = crc;
}

static void describe(struct tx_desc *first, const struct rte_mbuf *m, uint32_t segs)
{
	first->segs = (uint16_t)segs;
	first->ol_flags = m->ol_flags & RTE_MBUF_F_TX_OFFLOAD_MASK;
	first->l2_len = m->l2_len;
	first->l3_len = m->l3_len;
	first->l4_len = m->l4_len;
	first->mss = m->tso_segsz;
}

static bool post(struct tx_queue *q, struct rte_mbuf *m)
{
	struct tx_desc *first = at(q, q->head);
	enum tx_count fault = fault_of(q, m);
	uint32_t segs = 0;

	for (struct rte_mbuf *s = m; s; s = s->next)
		segs++;
	while (segs > room(q))
		if (!clean_group(q))
			return false;
	for (struct rte_mbuf *s = m; s; s = s->next) {
		if (q->head - q->freed == q->size)
			free_until(q, q->freed + 1);
		fill(at(q, q->head++), s);
	}
	describe(first, m, segs);
	first->malformed = fault != TX_COUNTS;
	if (first->malformed)
		q->n[fault]++;
	remember(q, first);
	first->due = rte_get_tsc_cycles() + __atomic_load_n(&q->nic->delay, __ATOMIC_RELAXED);
	return true;
}

/* As little as a driver can do: for benchmarks. */
static bool post_blindly(struct tx_queue *q, struct rte_mbuf *m)
{
	uint16_t segs = m->nb_segs;

	while (segs > room(q))
		if (!clean_group(q))
			return false;
	q->n[TX_PACKETS]++;
	q->n[TX_BYTES] += m->pkt_len;
	for (struct rte_mbuf *s = m; s; s = s->next, segs = 0) {
		struct tx_desc *d;

		if (q->head - q->freed == q->size)
			free_until(q, q->freed + 1);
		d = at(q, q->head++);
		d->mbuf = s;
		d->segs = segs;
	}
	return true;
}

static bool may_post(const struct tx_queue *q)
{
	return q->started && !(nicsim_stuck(q->nic) & NICSIM_FAILED);
}

uint16_t nicsim_tx_burst(void *txq, struct rte_mbuf **pkts, uint16_t n)
{
	struct tx_queue *q = txq;
	bool (*put)(struct tx_queue *, struct rte_mbuf *) =
		q->nic->conf.blind ? post_blindly : post;
	uint16_t posted = 0;

	rte_rwlock_read_lock(&nicsims_lock);
	rte_spinlock_lock(&q->lock);
	nicsim_engine(q);
	if (room(q) < q->free_thresh)
		clean_group(q);
	while (may_post(q) && posted < n && put(q, pkts[posted]))
		posted++;
	q->n[TX_REFUSED] += n - posted;
	rte_spinlock_unlock(&q->lock);
	rte_rwlock_read_unlock(&nicsims_lock);
	return posted;
}

int nicsim_tx_status(void *txq, uint16_t offset)
{
	struct tx_queue *q = txq;
	uint64_t position;
	int status;

	if (offset >= q->size)
		return -EINVAL;
	rte_spinlock_lock(&q->lock);
	position = q->head + offset - q->size; /* it was posted a ring ago */
	status = (int64_t)(position - q->sent) < 0 ? RTE_ETH_TX_DESC_DONE : RTE_ETH_TX_DESC_FULL;
	rte_spinlock_unlock(&q->lock);
	return status;
}

/* ---- queues ---- */

static int thresholds(struct tx_queue *q, const struct rte_eth_txconf *conf)
{
	q->rs_thresh = conf->tx_rs_thresh ? conf->tx_rs_thresh : q->nic->conf.rs_thresh;
	q->free_thresh =
		conf->tx_free_thresh ? conf->tx_free_thresh : RTE_MAX(q->rs_thresh, NICSIM_THRESH);
	if (q->rs_thresh <= q->free_thresh && q->free_thresh < q->size - 3 &&
		q->size % q->rs_thresh == 0)
		return 0;
	NICSIM_LOG(ERR,
		"%s: %u transmit descriptors with tx_rs_thresh %u and tx_free_thresh %u: the "
		"first must divide them, and be at most the second, which must be less than "
		"them - 3",
		q->nic->name, q->size, q->rs_thresh, q->free_thresh);
	return -EINVAL;
}

int nicsim_tx_setup(struct rte_eth_dev *dev, uint16_t i, uint16_t ndesc, unsigned int socket,
	const struct rte_eth_txconf *conf)
{
	struct tx_queue *q = calloc(1, sizeof(*q));

	(void)socket;
	if (!q)
		return -ENOMEM;
	q->nic = nicsim_of(dev);
	q->index = i;
	q->size = ndesc;
	q->offloads = conf->offloads | dev->data->dev_conf.txmode.offloads;
	q->deferred_start = conf->tx_deferred_start;
	q->ring = calloc(ndesc, sizeof(*q->ring));
	if (!q->ring || thresholds(q, conf) < 0) {
		free(q->ring);
		free(q);
		return -EINVAL;
	}
	rte_rwlock_write_lock(&nicsims_lock);
	q->nic->tx[i] = q;
	rte_rwlock_write_unlock(&nicsims_lock);
	dev->data->tx_queues[i] = q;
	return 0;
}

void nicsim_tx_release(struct rte_eth_dev *dev, uint16_t i)
{
	struct nicsim *nic = nicsim_of(dev);
	struct tx_queue *q = dev->data->tx_queues[i];

	if (!q)
		return;
	rte_rwlock_write_lock(&nicsims_lock);
	nic->tx[i] = NULL;
	rte_rwlock_write_unlock(&nicsims_lock);
	nicsim_tx_drain(q);
	rte_rwlock_write_lock(&nicsims_lock);
	for (int k = 0; k < TX_COUNTS; k++)
		nic->past_tx[k] += q->n[k];
	rte_rwlock_write_unlock(&nicsims_lock);
	free(q->ring);
	free(q);
	dev->data->tx_queues[i] = NULL;
}

int nicsim_tx_start(struct rte_eth_dev *dev, uint16_t i)
{
	struct tx_queue *q = dev->data->tx_queues[i];

	rte_spinlock_lock(&q->lock);
	q->started = true;
	rte_spinlock_unlock(&q->lock);
	dev->data->tx_queue_state[i] = RTE_ETH_QUEUE_STATE_STARTED;
	return 0;
}

int nicsim_tx_stop(struct rte_eth_dev *dev, uint16_t i)
{
	struct tx_queue *q = dev->data->tx_queues[i];

	rte_spinlock_lock(&q->lock);
	q->started = false;
	nicsim_tx_drain(q);
	rte_spinlock_unlock(&q->lock);
	dev->data->tx_queue_state[i] = RTE_ETH_QUEUE_STATE_STOPPED;
	return 0;
}

void nicsim_tx_info(struct rte_eth_dev *dev, uint16_t i, struct rte_eth_txq_info *info)
{
	const struct tx_queue *q = dev->data->tx_queues[i];

	info->nb_desc = q->size;
	info->conf.tx_free_thresh = q->free_thresh;
	info->conf.tx_rs_thresh = q->rs_thresh;
	info->conf.tx_deferred_start = q->deferred_start;
	info->conf.offloads = q->offloads;
}

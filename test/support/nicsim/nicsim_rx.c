/* SPDX-License-Identifier: BSD-3-Clause */
/* Receive rings: buffers taken from the pool long before a frame is written to them. */
#include <errno.h>
#include <stdlib.h>

#include "nicsim_priv.h"

/*
 * Theory of operation
 *
 * Starting a queue takes a buffer from its pool for every descriptor. The device writes a frame at
 * `head`, into as many buffers as it needs; the application takes it at `tail`; new buffers are
 * posted, rx_free_thresh at once, when that many descriptors are without. A pool that has fewer
 * leaves them without, and the device, once it has none, drops what comes.
 *
 * The device's buffers have a granularity of 128 bytes, as Intel's.
 */

#define GRANULE 128u

static struct rx_desc *at(const struct rx_queue *q, uint64_t position)
{
	return &q->ring[position % q->size];
}

/* ---- buffers ---- */

static bool post(struct rx_queue *q, uint32_t n)
{
	struct rte_mbuf *bulk[NICSIM_DESC_MAX];

	if (rte_pktmbuf_alloc_bulk(q->pool, bulk, n) != 0) {
		q->n[RX_NO_MBUF] += n;
		return false;
	}
	for (uint32_t i = 0; i < n; i++)
		*at(q, q->posted++) = (struct rx_desc){
			.mbuf = bulk[i],
			.va = rte_pktmbuf_mtod(bulk[i], void *),
			.iova = rte_mbuf_data_iova(bulk[i]),
		};
	return true;
}

static void refill(struct rx_queue *q)
{
	while (q->size - (q->posted - q->tail) >= q->free_thresh)
		if (!post(q, q->free_thresh))
			return;
}

static void drain(struct rx_queue *q)
{
	for (; q->tail != q->posted; q->tail++)
		rte_pktmbuf_free_seg(at(q, q->tail)->mbuf);
	q->head = q->tail;
}

/* ---- the device writes ---- */

/* Why a frame cannot be received, as a counter; RX_COUNTS: it can. */
static enum rx_count obstacle(const struct rx_queue *q, uint32_t len, uint32_t buffers)
{
	const struct rte_eth_dev *eth = q->nic->eth;

	if (!eth || !q->started || nicsim_stuck(q->nic))
		return RX_MISSED;
	if (len > eth->data->mtu + NICSIM_OVERHEAD ||
		(buffers > 1 && !(q->offloads & RTE_ETH_RX_OFFLOAD_SCATTER)))
		return RX_OVERSIZE;
	return buffers > q->posted - q->head ? RX_MISSED : RX_COUNTS;
}

static enum rx_count write_frame(struct rx_queue *q, const uint8_t *frame, uint32_t len)
{
	uint32_t buffers = (len + q->buf_len - 1) / q->buf_len, done = 0;
	uint64_t flags =
		q->offloads & RTE_ETH_RX_OFFLOAD_CHECKSUM ? nicsim_checksums(frame, len) : 0;
	enum rx_count why = obstacle(q, len, buffers);

	for (uint32_t i = 0; i < buffers && why == RX_COUNTS; i++) {
		struct rx_desc *d = at(q, q->head + i);

		d->len = RTE_MIN(len - done, (uint32_t)q->buf_len);
		d->last = i == buffers - 1;
		d->ol_flags = flags;
		if (nicsim_dma_write(q->nic, d->va, d->iova, frame + done, d->len) != DMA_OK)
			why = RX_DMA_FAULT;
		done += d->len;
	}
	if (why == RX_COUNTS)
		q->head += buffers;
	else
		q->n[why]++;
	return why;
}

bool nicsim_rx_deliver(struct rx_queue *q, const void *frame, uint32_t len)
{
	enum rx_count why;

	rte_spinlock_lock(&q->lock);
	why = write_frame(q, frame, len);
	rte_spinlock_unlock(&q->lock);
	return why == RX_COUNTS;
}

static void generate(struct rx_queue *q)
{
	uint8_t frame[NICSIM_FRAME_MAX];

	for (uint32_t i = 0; i < q->nic->conf.rxgen; i++) {
		nicsim_frame(frame, q->nic->conf.rxlen, q->seq++);
		write_frame(q, frame, q->nic->conf.rxlen);
	}
}

/* ---- the application takes ---- */

static struct rte_mbuf *take(struct rx_queue *q)
{
	struct rte_mbuf *first = at(q, q->tail)->mbuf, **link = &first;
	const struct rx_desc *d;

	first->nb_segs = 0;
	first->port = q->nic->eth->data->port_id;
	first->ol_flags |= at(q, q->tail)->ol_flags;
	do {
		d = at(q, q->tail++);
		*link = d->mbuf;
		link = &d->mbuf->next;
		d->mbuf->data_len = (uint16_t)d->len;
		first->pkt_len += d->len;
		first->nb_segs++;
	} while (!d->last);
	q->n[RX_PACKETS]++;
	q->n[RX_BYTES] += first->pkt_len;
	return first;
}

/* What others send to us arrives now at the latest. */
static void advance_senders(const struct nicsim *nic)
{
	struct nicsim *other;

	TAILQ_FOREACH (other, &nicsims, next)
		if (other == nic || other->peer == nic)
			nicsim_advance(other);
}

uint16_t nicsim_rx_burst(void *rxq, struct rte_mbuf **pkts, uint16_t n)
{
	struct rx_queue *q = rxq;
	uint16_t got = 0;

	rte_rwlock_read_lock(&nicsims_lock);
	advance_senders(q->nic);
	rte_spinlock_lock(&q->lock);
	if (q->started && !(nicsim_stuck(q->nic) & NICSIM_FAILED)) {
		generate(q);
		while (got < n && q->tail != q->head)
			pkts[got++] = take(q);
		refill(q);
	}
	rte_spinlock_unlock(&q->lock);
	rte_rwlock_read_unlock(&nicsims_lock);
	return got;
}

dpdk_queue_count nicsim_rx_count(void *rxq)
{
	struct rx_queue *q = rxq;
	dpdk_queue_count n;

	rte_spinlock_lock(&q->lock);
	n = (dpdk_queue_count)(q->head - q->tail);
	rte_spinlock_unlock(&q->lock);
	return n;
}

int nicsim_rx_status(void *rxq, uint16_t offset)
{
	struct rx_queue *q = rxq;
	int status = RTE_ETH_RX_DESC_UNAVAIL;

	if (offset >= q->size)
		return -EINVAL;
	rte_spinlock_lock(&q->lock);
	if (offset < q->head - q->tail)
		status = RTE_ETH_RX_DESC_DONE;
	else if (offset < q->posted - q->tail)
		status = RTE_ETH_RX_DESC_AVAIL;
	rte_spinlock_unlock(&q->lock);
	return status;
}

/* ---- queues ---- */

static int check(struct rx_queue *q)
{
	if (!q->buf_len) {
		NICSIM_LOG(ERR, "%s: mbufs of pool %s have no room for %u bytes and headroom",
			q->nic->name, q->pool->name, GRANULE);
		return -EINVAL;
	}
	if (q->free_thresh >= q->size || q->size % q->free_thresh) {
		NICSIM_LOG(ERR, "%s: rx_free_thresh %u does not divide %u receive descriptors",
			q->nic->name, q->free_thresh, q->size);
		return -EINVAL;
	}
	return 0;
}

int nicsim_rx_setup(struct rte_eth_dev *dev, uint16_t i, uint16_t ndesc, unsigned int socket,
	const struct rte_eth_rxconf *conf, struct rte_mempool *pool)
{
	uint32_t space = rte_pktmbuf_data_room_size(pool);
	struct rx_queue *q = calloc(1, sizeof(*q));

	(void)socket;
	if (!q)
		return -ENOMEM;
	q->nic = nicsim_of(dev);
	q->index = i;
	q->size = ndesc;
	q->pool = pool;
	q->free_thresh = conf->rx_free_thresh ? conf->rx_free_thresh : NICSIM_THRESH;
	q->offloads = conf->offloads | dev->data->dev_conf.rxmode.offloads;
	q->deferred_start = conf->rx_deferred_start;
	if (space > RTE_PKTMBUF_HEADROOM)
		q->buf_len = (uint16_t)RTE_ALIGN_FLOOR(space - RTE_PKTMBUF_HEADROOM, GRANULE);
	q->ring = calloc(ndesc, sizeof(*q->ring));
	if (!q->ring || check(q) < 0) {
		free(q->ring);
		free(q);
		return -EINVAL;
	}
	rte_rwlock_write_lock(&nicsims_lock);
	q->nic->rx[i] = q;
	rte_rwlock_write_unlock(&nicsims_lock);
	dev->data->rx_queues[i] = q;
	return 0;
}

void nicsim_rx_release(struct rte_eth_dev *dev, uint16_t i)
{
	struct nicsim *nic = nicsim_of(dev);
	struct rx_queue *q = dev->data->rx_queues[i];

	if (!q)
		return;
	rte_rwlock_write_lock(&nicsims_lock);
	nic->rx[i] = NULL;
	for (int k = 0; k < RX_COUNTS; k++)
		nic->past_rx[k] += q->n[k];
	rte_rwlock_write_unlock(&nicsims_lock);
	drain(q);
	free(q->ring);
	free(q);
	dev->data->rx_queues[i] = NULL;
}

int nicsim_rx_start(struct rte_eth_dev *dev, uint16_t i)
{
	struct rx_queue *q = dev->data->rx_queues[i];

	rte_spinlock_lock(&q->lock);
	q->started = q->started || post(q, q->size);
	rte_spinlock_unlock(&q->lock);
	if (!q->started) {
		NICSIM_LOG(ERR, "%s: pool %s has not %u mbufs for receive queue %u", q->nic->name,
			q->pool->name, q->size, i);
		return -ENOMEM;
	}
	dev->data->rx_queue_state[i] = RTE_ETH_QUEUE_STATE_STARTED;
	return 0;
}

int nicsim_rx_stop(struct rte_eth_dev *dev, uint16_t i)
{
	struct rx_queue *q = dev->data->rx_queues[i];

	rte_spinlock_lock(&q->lock);
	q->started = false;
	drain(q);
	rte_spinlock_unlock(&q->lock);
	dev->data->rx_queue_state[i] = RTE_ETH_QUEUE_STATE_STOPPED;
	return 0;
}

void nicsim_rx_info(struct rte_eth_dev *dev, uint16_t i, struct rte_eth_rxq_info *info)
{
	const struct rx_queue *q = dev->data->rx_queues[i];

	info->mp = q->pool;
	info->nb_desc = q->size;
	info->rx_buf_size = q->buf_len;
	info->scattered_rx = (q->offloads & RTE_ETH_RX_OFFLOAD_SCATTER) != 0;
	info->conf.rx_free_thresh = q->free_thresh;
	info->conf.rx_deferred_start = q->deferred_start;
	info->conf.offloads = q->offloads;
}

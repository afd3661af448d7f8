/* SPDX-License-Identifier: BSD-3-Clause */
/* Statistics: the basic ones, and what went wrong, by name. */
#include "nicsim_priv.h"

static const char *const tx_names[TX_COUNTS] = {
	[TX_PACKETS] = "tx_sent_packets",
	[TX_BYTES] = "tx_sent_bytes",
	[TX_GOOD] = "tx_marked_good",
	[TX_BAD] = "tx_marked_bad",
	[TX_UNMARKED] = "tx_unmarked",
	[TX_CHANGED] = "tx_changed",
	[TX_MBUF_CHANGED] = "tx_mbuf_changed",
	[TX_BAD_SEGS] = "tx_malformed_segs",
	[TX_BAD_LEN] = "tx_malformed_len",
	[TX_BAD_OFFLOAD] = "tx_malformed_offload",
	[TX_REFUSED] = "tx_refused",
	[TX_FREED] = "tx_freed",
	[TX_DROPPED] = "tx_dropped",
	[TX_FAST_FREE_WRONG] = "tx_fast_free_wrong",
	[TX_DMA_FAULT] = "tx_dma_fault",
	[TX_DMA_WRONG_IOVA] = "tx_dma_wrong_iova",
};

static const char *const dma_names[DMA_COUNTS] = {
	[DMA_MAPS] = "dma_maps",
	[DMA_UNMAPS] = "dma_unmaps",
	[DMA_REFUSED] = "dma_refused",
	[DMA_UNMAP_BUSY] = "dma_unmap_busy",
};

struct sums {
	uint64_t tx[TX_COUNTS];
	uint64_t held, pending;
};

static void add_tx(struct sums *sums, struct tx_queue *q)
{
	rte_spinlock_lock(&q->lock);
	for (int i = 0; i < TX_COUNTS; i++)
		sums->tx[i] += q->n[i];
	sums->held += q->head - q->freed;
	sums->pending += q->head - q->sent;
	rte_spinlock_unlock(&q->lock);
}

static void collect(struct rte_eth_dev *dev, struct sums *sums)
{
	*sums = (struct sums){0};
	for (uint16_t i = 0; i < dev->data->nb_tx_queues; i++)
		if (dev->data->tx_queues[i])
			add_tx(sums, dev->data->tx_queues[i]);
}

int nicsim_stats_get(DPDK_STATS_GET_PARAMS)
{
	DPDK_QUEUE_STATS *queues = DPDK_STATS_GET_QUEUES;
	struct sums sums;

	for (uint16_t i = 0; i < dev->data->nb_tx_queues; i++) {
		sums = (struct sums){0};
		if (!dev->data->tx_queues[i])
			continue;
		add_tx(&sums, dev->data->tx_queues[i]);
		stats->opackets += sums.tx[TX_PACKETS];
		stats->obytes += sums.tx[TX_BYTES];
		stats->oerrors += sums.tx[TX_BAD_SEGS] + sums.tx[TX_BAD_LEN] +
				  sums.tx[TX_BAD_OFFLOAD] + sums.tx[TX_DMA_FAULT] +
				  sums.tx[TX_DMA_WRONG_IOVA] + sums.tx[TX_DROPPED];
		if (queues && i < RTE_ETHDEV_QUEUE_STAT_CNTRS) {
			queues->q_opackets[i] = sums.tx[TX_PACKETS];
			queues->q_obytes[i] = sums.tx[TX_BYTES];
		}
	}
	return 0;
}

static void reset_tx(struct tx_queue *q)
{
	rte_spinlock_lock(&q->lock);
	memset(q->n, 0, sizeof(q->n));
	rte_spinlock_unlock(&q->lock);
}

int nicsim_stats_reset(struct rte_eth_dev *dev)
{
	struct dma *dma = &nicsim_of(dev)->dma;

	for (uint16_t i = 0; i < dev->data->nb_tx_queues; i++)
		if (dev->data->tx_queues[i])
			reset_tx(dev->data->tx_queues[i]);
	rte_rwlock_write_lock(&dma->lock);
	memset(dma->count, 0, sizeof(dma->count));
	rte_rwlock_write_unlock(&dma->lock);
	return 0;
}

/* ---- the extended ones ---- */

/* Where the next statistic goes: names, values, or neither, which counts them. */
struct sink {
	struct rte_eth_xstat_name *names;
	struct rte_eth_xstat *values;
	unsigned int n, room;
};

static void put(struct sink *s, const char *name, uint64_t value)
{
	if (s->n < s->room && s->names)
		rte_strscpy(s->names[s->n].name, name, sizeof(s->names[s->n].name));
	if (s->n < s->room && s->values)
		s->values[s->n] = (struct rte_eth_xstat){.id = s->n, .value = value};
	s->n++;
}

static int put_all(struct rte_eth_dev *dev, struct sink s)
{
	struct dma *dma = &nicsim_of(dev)->dma;
	struct sums sums;

	collect(dev, &sums);
	for (int i = 0; i < TX_COUNTS; i++)
		put(&s, tx_names[i], sums.tx[i]);
	put(&s, "tx_held", sums.held);
	put(&s, "tx_pending", sums.pending);
	rte_rwlock_read_lock(&dma->lock);
	put(&s, "dma_mapped", dma->n);
	for (int i = 0; i < DMA_COUNTS; i++)
		put(&s, dma_names[i], dma->count[i]);
	rte_rwlock_read_unlock(&dma->lock);
	return (int)s.n;
}

int nicsim_xstats_names(struct rte_eth_dev *dev, struct rte_eth_xstat_name *names, unsigned int n)
{
	return put_all(dev, (struct sink){.names = names, .room = n});
}

int nicsim_xstats_get(struct rte_eth_dev *dev, struct rte_eth_xstat *values, unsigned int n)
{
	return put_all(dev, (struct sink){.values = values, .room = n});
}

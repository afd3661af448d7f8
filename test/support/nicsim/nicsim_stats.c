/* SPDX-License-Identifier: BSD-3-Clause */
/* Statistics: the basic ones, and by name what the device found out. */
#include "nicsim_priv.h"

/*
 * Names of the extended statistics, and what they count:
 *
 *   frames sent, after segmentation	tx_sent_packets, tx_sent_bytes
 *   frames read, by what nicsim_verify() says	tx_marked_good, tx_marked_bad, tx_unmarked
 *   other content than when posted	tx_changed
 *   mbufs (segments) that pointed elsewhere than when posted	tx_mbuf_changed
 *   never sent, for the mbuf is wrong	tx_malformed_segs: number of segments, or not MULTI_SEGS
 *					tx_malformed_len: lengths, empty segments
 *					tx_malformed_offload: not turned on, or nonsense
 *   sent with a wrong IPv4, TCP or UDP checksum	tx_wrong_checksum
 *   not taken by tx_burst	tx_refused
 *   segments given back	tx_freed; by MBUF_FAST_FREE, wrongly: tx_fast_free_wrong
 *   given back unsent	tx_dropped
 *   the peer had no buffer, or is not there	tx_undelivered
 *   frames the IOMMU did not let through	tx_dma_fault, rx_dma_fault, and together dma_fault
 *   frames whose IOVA leads elsewhere than their address	tx_dma_wrong_iova
 *   frames whose memory was mapped, but is gone	tx_dma_gone
 *   segments in the rings now	tx_held; not read yet: tx_pending
 *   buffers that wait for frames	rx_posted; frames' buffers that wait for the application: rx_filled
 *   came in and had to be dropped	rx_missed: no buffer; rx_oversize
 *   buffers wanted while the pool was empty	rx_no_mbuf
 *   ranges mapped now	dma_mapped
 *   calls of rte_dev_dma_map() and _unmap()	dma_maps, dma_unmaps; refused: dma_refused
 *   unmapped while a held mbuf or a buffer lay there	dma_unmap_busy
 */
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
	[TX_BAD_CSUM] = "tx_wrong_checksum",
	[TX_REFUSED] = "tx_refused",
	[TX_FREED] = "tx_freed",
	[TX_DROPPED] = "tx_dropped",
	[TX_UNDELIVERED] = "tx_undelivered",
	[TX_FAST_FREE_WRONG] = "tx_fast_free_wrong",
	[TX_DMA_FAULT] = "tx_dma_fault",
	[TX_DMA_WRONG_IOVA] = "tx_dma_wrong_iova",
	[TX_DMA_GONE] = "tx_dma_gone",
};

static const char *const rx_names[RX_COUNTS] = {
	[RX_PACKETS] = "rx_taken_packets",
	[RX_BYTES] = "rx_taken_bytes",
	[RX_MISSED] = "rx_missed",
	[RX_OVERSIZE] = "rx_oversize",
	[RX_NO_MBUF] = "rx_no_mbuf",
	[RX_DMA_FAULT] = "rx_dma_fault",
};

static const char *const dma_names[DMA_COUNTS] = {
	[DMA_MAPS] = "dma_maps",
	[DMA_UNMAPS] = "dma_unmaps",
	[DMA_REFUSED] = "dma_refused",
	[DMA_UNMAP_BUSY] = "dma_unmap_busy",
};

struct sums {
	uint64_t tx[TX_COUNTS], rx[RX_COUNTS];
	uint64_t held, pending, posted, filled;
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

static void add_rx(struct sums *sums, struct rx_queue *q)
{
	rte_spinlock_lock(&q->lock);
	for (int i = 0; i < RX_COUNTS; i++)
		sums->rx[i] += q->n[i];
	sums->posted += q->posted - q->head;
	sums->filled += q->head - q->tail;
	rte_spinlock_unlock(&q->lock);
}

static void collect(const struct nicsim *nic, struct sums *sums)
{
	*sums = (struct sums){0};
	memcpy(sums->tx, nic->past_tx, sizeof(sums->tx));
	memcpy(sums->rx, nic->past_rx, sizeof(sums->rx));
	for (uint16_t i = 0; i < NICSIM_QUEUES_MAX; i++) {
		if (nic->tx[i])
			add_tx(sums, nic->tx[i]);
		if (nic->rx[i])
			add_rx(sums, nic->rx[i]);
	}
}

/* ---- the basic ones ---- */

static void per_queue(const struct nicsim *nic, DPDK_QUEUE_STATS *queues, uint16_t i)
{
	struct sums sums = {0};

	if (nic->tx[i])
		add_tx(&sums, nic->tx[i]);
	if (nic->rx[i])
		add_rx(&sums, nic->rx[i]);
	queues->q_opackets[i] = sums.tx[TX_PACKETS];
	queues->q_obytes[i] = sums.tx[TX_BYTES];
	queues->q_ipackets[i] = sums.rx[RX_PACKETS];
	queues->q_ibytes[i] = sums.rx[RX_BYTES];
}

int nicsim_stats_get(DPDK_STATS_GET_PARAMS)
{
	DPDK_QUEUE_STATS *queues = DPDK_STATS_GET_QUEUES;
	const struct nicsim *nic = nicsim_of(dev);
	struct sums s;

	collect(nic, &s);
	stats->opackets = s.tx[TX_PACKETS];
	stats->obytes = s.tx[TX_BYTES];
	stats->oerrors = s.tx[TX_BAD_SEGS] + s.tx[TX_BAD_LEN] + s.tx[TX_BAD_OFFLOAD] +
			 s.tx[TX_DMA_FAULT] + s.tx[TX_DMA_WRONG_IOVA] + s.tx[TX_DMA_GONE] +
			 s.tx[TX_DROPPED];
	stats->ipackets = s.rx[RX_PACKETS];
	stats->ibytes = s.rx[RX_BYTES];
	stats->imissed = s.rx[RX_MISSED];
	stats->ierrors = s.rx[RX_OVERSIZE] + s.rx[RX_DMA_FAULT];
	stats->rx_nombuf = s.rx[RX_NO_MBUF];
	for (uint16_t i = 0; queues && i < RTE_MIN(NICSIM_QUEUES_MAX, RTE_ETHDEV_QUEUE_STAT_CNTRS);
		i++)
		per_queue(nic, queues, i);
	return 0;
}

static void reset_tx(struct tx_queue *q)
{
	rte_spinlock_lock(&q->lock);
	memset(q->n, 0, sizeof(q->n));
	rte_spinlock_unlock(&q->lock);
}

static void reset_rx(struct rx_queue *q)
{
	rte_spinlock_lock(&q->lock);
	memset(q->n, 0, sizeof(q->n));
	rte_spinlock_unlock(&q->lock);
}

int nicsim_stats_reset(struct rte_eth_dev *dev)
{
	struct nicsim *nic = nicsim_of(dev);

	for (uint16_t i = 0; i < NICSIM_QUEUES_MAX; i++) {
		if (nic->tx[i])
			reset_tx(nic->tx[i]);
		if (nic->rx[i])
			reset_rx(nic->rx[i]);
	}
	memset(nic->past_tx, 0, sizeof(nic->past_tx));
	memset(nic->past_rx, 0, sizeof(nic->past_rx));
	rte_rwlock_write_lock(&nic->dma.lock);
	memset(nic->dma.count, 0, sizeof(nic->dma.count));
	rte_rwlock_write_unlock(&nic->dma.lock);
	return 0;
}

/* ---- the extended ones ---- */

void nicsim_stats_each(
	struct nicsim *nic, void (*each)(void *arg, const char *name, uint64_t value), void *arg)
{
	struct sums s;

	collect(nic, &s);
	for (int i = 0; i < TX_COUNTS; i++)
		each(arg, tx_names[i], s.tx[i]);
	each(arg, "tx_held", s.held);
	each(arg, "tx_pending", s.pending);
	for (int i = 0; i < RX_COUNTS; i++)
		each(arg, rx_names[i], s.rx[i]);
	each(arg, "rx_posted", s.posted);
	each(arg, "rx_filled", s.filled);
	rte_rwlock_read_lock(&nic->dma.lock);
	each(arg, "dma_fault", s.tx[TX_DMA_FAULT] + s.rx[RX_DMA_FAULT]);
	each(arg, "dma_mapped", nic->dma.n);
	for (int i = 0; i < DMA_COUNTS; i++)
		each(arg, dma_names[i], nic->dma.count[i]);
	rte_rwlock_read_unlock(&nic->dma.lock);
}

/* Where the next statistic goes: names, values, or neither, which counts them. */
struct sink {
	struct rte_eth_xstat_name *names;
	struct rte_eth_xstat *values;
	unsigned int n, room;
};

static void put(void *arg, const char *name, uint64_t value)
{
	struct sink *s = arg;

	if (s->n < s->room && s->names)
		rte_strscpy(s->names[s->n].name, name, sizeof(s->names[s->n].name));
	if (s->n < s->room && s->values)
		s->values[s->n] = (struct rte_eth_xstat){.id = s->n, .value = value};
	s->n++;
}

int nicsim_xstats_names(struct rte_eth_dev *dev, struct rte_eth_xstat_name *names, unsigned int n)
{
	struct sink sink = {.names = names, .room = n};

	nicsim_stats_each(nicsim_of(dev), put, &sink);
	return (int)sink.n;
}

int nicsim_xstats_get(struct rte_eth_dev *dev, struct rte_eth_xstat *values, unsigned int n)
{
	struct sink sink = {.values = values, .room = n};

	nicsim_stats_each(nicsim_of(dev), put, &sink);
	return (int)sink.n;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The device's side of transmit rings: reads frames when they are due and verifies them. */
#include <rte_cycles.h>
#include <rte_hash_crc.h>

#include "nicsim_priv.h"

uint32_t nicsim_crc(uint32_t crc, const void *data, uint32_t len)
{
	return ~rte_hash_crc(data, len, ~crc);
}

/* An mbuf in the ring is the driver's: nobody else may change where it points to. */
static bool mbuf_changed(const struct tx_desc *d)
{
	return rte_pktmbuf_mtod(d->mbuf, void *) != d->va || d->mbuf->data_len != d->len;
}

/* Gather a frame. @return its length, 0 if the device could not reach all of it */
static uint32_t gather(struct tx_queue *q, uint16_t segs)
{
	uint32_t len = 0;

	for (uint16_t i = 0; i < segs; i++) {
		const struct tx_desc *d = &q->ring[(q->sent + i) % q->size];
		enum dma_result result =
			nicsim_dma_read(q->nic, q->frame + len, d->va, d->iova, d->len);

		q->n[TX_MBUF_CHANGED] += mbuf_changed(d);
		if (result != DMA_OK) {
			q->n[result == DMA_FAULT ? TX_DMA_FAULT : TX_DMA_WRONG_IOVA]++;
			return 0;
		}
		len += d->len;
	}
	return len;
}

static void transmit(struct tx_queue *q, const struct tx_desc *first)
{
	static const enum tx_count verdicts[] = {
		[NICSIM_UNMARKED] = TX_UNMARKED,
		[NICSIM_GOOD] = TX_GOOD,
		[NICSIM_BAD] = TX_BAD,
	};
	uint32_t len = first->malformed ? 0 : gather(q, first->segs);

	if (!len)
		return;
	q->n[TX_CHANGED] += nicsim_crc(0, q->frame, len) != first->crc;
	q->n[verdicts[nicsim_verify(q->frame, len, NULL)]]++;
	q->n[TX_PACKETS]++;
	q->n[TX_BYTES] += len;
}

void nicsim_engine(struct tx_queue *q)
{
	uint64_t now = rte_get_tsc_cycles();

	while (!q->nic->stalled && q->started && q->sent != q->head) {
		const struct tx_desc *first = &q->ring[q->sent % q->size];

		if ((int64_t)(now - first->due) < 0)
			return;
		transmit(q, first);
		q->sent += first->segs;
	}
}

void nicsim_advance(struct nicsim *nic)
{
	struct rte_eth_dev_data *data = nic->eth ? nic->eth->data : NULL;

	for (uint16_t i = 0; data && i < data->nb_tx_queues; i++) {
		struct tx_queue *q = data->tx_queues[i];

		if (!q || !rte_spinlock_trylock(&q->lock))
			continue;
		nicsim_engine(q);
		rte_spinlock_unlock(&q->lock);
	}
}

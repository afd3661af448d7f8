/* SPDX-License-Identifier: BSD-3-Clause */
/* The device's side of transmit rings: reads frames when they are due, verifies and sends them. */
#include <rte_cycles.h>

#include "nicsim_priv.h"

/* To the same queue of the other end; one that has fewer takes turns. */
static bool deliver(const struct tx_queue *q, const uint8_t *frame, uint32_t len)
{
	const struct nicsim *peer = q->nic->peer;
	struct rx_queue *to;

	if (!peer || !peer->eth || !peer->eth->data->nb_rx_queues)
		return false;
	to = peer->rx[q->index % peer->eth->data->nb_rx_queues];
	return to && nicsim_rx_deliver(to, frame, len);
}

static void emit(struct tx_queue *q, const uint8_t *frame, uint32_t len)
{
	uint64_t csum = nicsim_checksums(frame, len);

	q->n[TX_BAD_CSUM] += (csum & RTE_MBUF_F_RX_IP_CKSUM_BAD) != 0 ||
			     (csum & RTE_MBUF_F_RX_L4_CKSUM_BAD) != 0;
	q->n[TX_PACKETS]++;
	q->n[TX_BYTES] += len;
	if (q->nic->conf.peer[0] && !deliver(q, frame, len))
		q->n[TX_UNDELIVERED]++;
}

/* An mbuf in the ring is the driver's: nobody else may change where it points to. */
static bool mbuf_changed(const struct tx_desc *d)
{
	return rte_pktmbuf_mtod(d->mbuf, void *) != d->va || d->mbuf->data_len != d->len;
}

/* @return bytes of the frame, 0 if the device could not reach all of it */
static uint32_t gather(struct tx_queue *q, uint16_t segs)
{
	static const enum tx_count counts[] = {
		[DMA_FAULT] = TX_DMA_FAULT,
		[DMA_WRONG_IOVA] = TX_DMA_WRONG_IOVA,
		[DMA_GONE] = TX_DMA_GONE,
	};
	uint32_t len = 0;

	for (uint16_t i = 0; i < segs; i++) {
		const struct tx_desc *d = &q->ring[(q->sent + i) % q->size];
		enum dma_result result =
			nicsim_dma_read(q->nic, q->frame + len, d->va, d->iova, d->len);

		q->n[TX_MBUF_CHANGED] += mbuf_changed(d);
		if (result != DMA_OK) {
			q->n[counts[result]]++;
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
	q->n[TX_CHANGED] += first->crc_known && nicsim_crc(0, q->frame, len) != first->crc;
	q->n[verdicts[nicsim_verify(q->frame, len, NULL)]]++;
	if (!nicsim_offload(q, first, len, emit))
		q->n[TX_BAD_OFFLOAD]++;
}

void nicsim_engine(struct tx_queue *q)
{
	uint64_t now = rte_get_tsc_cycles();

	if (q->nic->conf.blind && !nicsim_stuck(q->nic))
		q->sent = q->head; /* nobody looks */
	while (!nicsim_stuck(q->nic) && q->sent != q->head) {
		const struct tx_desc *first = &q->ring[q->sent % q->size];

		if ((int64_t)(now - first->due) < 0)
			return;
		transmit(q, first);
		q->sent += first->segs;
	}
}

void nicsim_advance(struct nicsim *nic)
{
	for (uint16_t i = 0; i < NICSIM_QUEUES_MAX; i++) {
		struct tx_queue *q = nic->tx[i];

		if (!q || !rte_spinlock_trylock(&q->lock))
			continue;
		nicsim_engine(q);
		rte_spinlock_unlock(&q->lock);
	}
}

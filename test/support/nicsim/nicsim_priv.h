/* SPDX-License-Identifier: BSD-3-Clause */
/* net_nicsim from inside: a device, its queues, and what its files do for each other. */
#ifndef NICSIM_PRIV_H
#define NICSIM_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include <sys/queue.h>

#include <bus_vdev_driver.h>
#include <ethdev_driver.h>
#include <rte_rwlock.h>
#include <rte_spinlock.h>

#include "dpdk_compat.h"
#include "nicsim.h"

#define NICSIM_QUEUES_MAX 64
#define NICSIM_DESC_MAX   4096
#define NICSIM_DESC_ALIGN 8
#define NICSIM_FRAME_MAX  9728u                          /* on the wire */
#define NICSIM_TSO_MAX    (UINT16_MAX + RTE_ETHER_HDR_LEN + 4u) /* handed over for segmentation */

extern int nicsim_logtype;
#define NICSIM_LOG(level, fmt, ...) \
	rte_log(RTE_LOG_##level, nicsim_logtype, "net_nicsim: " fmt "\n", ##__VA_ARGS__)

/* ---- nicsim_devargs.c ---- */

struct nicsim_conf {
	char peer[RTE_DEV_NAME_MAX_LEN]; /* whose receive queues get what we send; "": nobody's */
	uint32_t delay_us;
	uint32_t queues;
	uint32_t rs_thresh;
	uint32_t nb_seg_max;
	uint32_t maxdma;
	bool lazy, nocleanup, nosegs, fastfree, nodma;
};

/** @return 0, or -EINVAL with one line in why */
int nicsim_devargs_parse(const char *args, struct nicsim_conf *out, char *why, size_t why_len);

/* ---- counters: named in nicsim_stats.c ---- */

enum tx_count {
	TX_PACKETS,
	TX_BYTES,
	TX_GOOD,
	TX_BAD,
	TX_UNMARKED,
	TX_CHANGED,
	TX_MBUF_CHANGED,
	TX_BAD_SEGS,
	TX_BAD_LEN,
	TX_BAD_OFFLOAD,
	TX_REFUSED,
	TX_FREED,
	TX_DROPPED,
	TX_FAST_FREE_WRONG,
	TX_DMA_FAULT,
	TX_DMA_WRONG_IOVA,
	TX_COUNTS,
};

enum dma_count {
	DMA_MAPS,
	DMA_UNMAPS,
	DMA_REFUSED,
	DMA_UNMAP_BUSY,
	DMA_COUNTS,
};

/* ---- a device ---- */

/* What a descriptor says, taken from the mbuf when it was posted. */
struct tx_desc {
	struct rte_mbuf *mbuf; /* one segment; NULL once freed */
	const void *va;
	uint64_t iova;
	uint32_t len;

	/* of the whole frame, in its first descriptor */
	uint16_t segs; /* 0: not the first */
	bool malformed;
	uint32_t crc;
	uint64_t due; /* TSC */
};

/* Free-running positions: freed <= clean <= sent <= head. */
struct tx_queue {
	struct nicsim *nic;
	uint16_t index;
	rte_spinlock_t lock; /* everything below, but the configuration */

	uint16_t size, free_thresh, rs_thresh; /* configuration */
	bool multi_segs, fast_free, deferred_start;

	bool started;
	uint32_t head;  /* next to be posted */
	uint32_t sent;  /* next to be read by the device */
	uint32_t clean; /* descriptors before it may be posted again */
	uint32_t freed; /* mbufs before it went back to their pools */
	uint64_t n[TX_COUNTS];
	struct tx_desc *ring;
	uint8_t frame[NICSIM_TSO_MAX]; /* what the device has read */
};

struct mapping {
	uint8_t *va;
	uint64_t iova;
	uint64_t len;
};

struct dma {
	rte_rwlock_t lock; /* also held while the device reads or writes memory */
	struct mapping *map;
	uint32_t n, room;
	uint64_t count[DMA_COUNTS];
};

/* From the vdev's probe to its removal; the ethdev may be closed earlier. */
struct nicsim {
	TAILQ_ENTRY(nicsim) next;
	struct rte_eth_dev *eth; /* NULL: closed */
	char name[RTE_DEV_NAME_MAX_LEN];
	struct nicsim_conf conf;
	struct rte_ether_addr mac;
	struct dma dma;
	uint64_t delay; /* TSC cycles */
	bool stalled;
};

/* ---- nicsim_ethdev.c ---- */

/* All devices. Bursts read it, probe and remove write it. */
TAILQ_HEAD(nicsim_list, nicsim);
extern struct nicsim_list nicsims;
extern rte_rwlock_t nicsims_lock;

static inline struct nicsim *nicsim_of(const struct rte_eth_dev *dev)
{
	return dev->data->dev_private;
}

/* ---- nicsim_tx.c ---- */

uint16_t nicsim_tx_burst(void *txq, struct rte_mbuf **pkts, uint16_t n);
int nicsim_tx_setup(struct rte_eth_dev *dev, uint16_t i, uint16_t ndesc, unsigned int socket,
	const struct rte_eth_txconf *conf);
void nicsim_tx_release(struct rte_eth_dev *dev, uint16_t i);
int nicsim_tx_start(struct rte_eth_dev *dev, uint16_t i);
int nicsim_tx_stop(struct rte_eth_dev *dev, uint16_t i);
int nicsim_tx_cleanup(void *txq, uint32_t free_cnt);
int nicsim_tx_status(void *txq, uint16_t offset);
void nicsim_tx_info(struct rte_eth_dev *dev, uint16_t i, struct rte_eth_txq_info *info);
/** Free what the ring holds, sent or not; under its lock. */
void nicsim_tx_drain(struct tx_queue *q);

/* ---- nicsim_engine.c ---- */

/** Read and send what is due; under the queue's lock. */
void nicsim_engine(struct tx_queue *q);
/** The same for all queues of a device that are not busy. */
void nicsim_advance(struct nicsim *nic);
/** CRC32C, continued from crc, which is 0 at first. */
uint32_t nicsim_crc(uint32_t crc, const void *data, uint32_t len);

/* ---- nicsim_dma.c ---- */

enum dma_result {
	DMA_OK,
	DMA_FAULT,      /* not mapped */
	DMA_WRONG_IOVA, /* mapped, but the device would reach other memory than the mbuf's */
};

int nicsim_dma_map(struct rte_vdev_device *dev, void *va, uint64_t iova, size_t len);
int nicsim_dma_unmap(struct rte_vdev_device *dev, void *va, uint64_t iova, size_t len);
/** Read as the device does. Nothing is touched unless all of it is mapped. */
enum dma_result nicsim_dma_read(
	struct nicsim *nic, void *to, const void *va, uint64_t iova, uint32_t len);

/* ---- nicsim_stats.c ---- */

int nicsim_stats_get(DPDK_STATS_GET_PARAMS);
int nicsim_stats_reset(struct rte_eth_dev *dev);
int nicsim_xstats_names(struct rte_eth_dev *dev, struct rte_eth_xstat_name *names, unsigned int n);
int nicsim_xstats_get(struct rte_eth_dev *dev, struct rte_eth_xstat *values, unsigned int n);

#endif

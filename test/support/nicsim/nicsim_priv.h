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
#define NICSIM_DESC_MIN   32
#define NICSIM_DESC_MAX   4096
#define NICSIM_DESC_ALIGN 8
#define NICSIM_THRESH     32u   /* where the application does not say another */
#define NICSIM_FRAME_MAX  9728u /* on the wire */
#define NICSIM_OVERHEAD   ((uint32_t)RTE_ETHER_HDR_LEN + 2 * RTE_VLAN_HLEN)
#define NICSIM_TSO_MAX    (UINT16_MAX + NICSIM_OVERHEAD) /* handed over for segmentation */

extern int nicsim_logtype;
#define NICSIM_LOG(level, fmt, ...) \
	rte_log(RTE_LOG_##level, nicsim_logtype, "net_nicsim: " fmt "\n", ##__VA_ARGS__)

/* ---- nicsim_devargs.c ---- */

struct nicsim_conf {
	char peer[RTE_DEV_NAME_MAX_LEN]; /* whose receive queues get what we send; "": nobody's */
	uint32_t delay_us;               /* tx_burst to DMA */
	uint32_t queues;
	uint32_t rs_thresh;  /* default of tx_rs_thresh */
	uint32_t nb_seg_max; /* segments of a frame */
	uint32_t maxdma;     /* DMA mappings; 0: no limit */
	uint32_t rxgen;      /* frames that come in with each poll of a receive queue */
	uint32_t rxlen;      /* bytes of these */
	bool lazy;           /* free an mbuf only when its descriptor is used again */
	bool nocleanup, nosegs, fastfree, offloads, nodma;
	bool blind; /* look at no frame sent: benchmarks measure who sends */
};

/** @return 0, or -EINVAL with one line in why */
int nicsim_devargs_parse(const char *args, struct nicsim_conf *out, char *why, size_t why_len);

/* ---- counters: named and explained in nicsim_stats.c ---- */

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
	TX_BAD_CSUM,
	TX_REFUSED,
	TX_FREED,
	TX_DROPPED,
	TX_UNDELIVERED,
	TX_FAST_FREE_WRONG,
	TX_DMA_FAULT,
	TX_DMA_WRONG_IOVA,
	TX_DMA_GONE,
	TX_COUNTS,
};

enum rx_count {
	RX_PACKETS,
	RX_BYTES,
	RX_MISSED,
	RX_OVERSIZE,
	RX_NO_MBUF,
	RX_DMA_FAULT,
	RX_COUNTS,
};

enum dma_count {
	DMA_MAPS,
	DMA_UNMAPS,
	DMA_REFUSED,
	DMA_UNMAP_BUSY,
	DMA_COUNTS,
};

/* ---- a device ---- */

/* What a transmit descriptor says, taken from the mbuf when it was posted. */
struct tx_desc {
	struct rte_mbuf *mbuf; /* one segment; NULL once freed */
	const void *va;
	uint64_t iova;
	uint32_t len;

	/* of the whole frame, in its first descriptor */
	uint16_t segs; /* 0: not the first */
	bool malformed, crc_known;
	uint32_t crc;
	uint64_t due; /* TSC */
	uint64_t ol_flags;
	uint16_t l2_len, l3_len, l4_len, mss;
};

/* Free-running positions: freed <= clean <= sent <= head. */
struct tx_queue {
	struct nicsim *nic;
	uint16_t index;
	rte_spinlock_t lock; /* everything below, but the configuration */

	uint16_t size, free_thresh, rs_thresh; /* configuration */
	uint64_t offloads;
	bool deferred_start;

	bool started;
	uint64_t head;  /* next to be posted */
	uint64_t sent;  /* next to be read by the device */
	uint64_t clean; /* descriptors before it may be posted again */
	uint64_t freed; /* mbufs before it went back to their pools */
	uint64_t n[TX_COUNTS];
	struct tx_desc *ring;
	uint8_t frame[NICSIM_TSO_MAX]; /* what the device has read */
	uint8_t piece[NICSIM_TSO_MAX]; /* a segment made of it */
};

struct rx_desc {
	struct rte_mbuf *mbuf;
	void *va;
	uint64_t iova;
	uint32_t len;      /* what the device wrote */
	bool last;         /* of a frame */
	uint64_t ol_flags; /* what it found out about the frame */
};

/* Free-running positions: tail <= head <= posted. */
struct rx_queue {
	struct nicsim *nic;
	uint16_t index;
	rte_spinlock_t lock; /* everything below, but the configuration */

	uint16_t size, free_thresh; /* configuration */
	uint16_t buf_len;
	uint64_t offloads;
	bool deferred_start;
	struct rte_mempool *pool;

	bool started;
	uint64_t posted; /* next to get a buffer */
	uint64_t head;   /* next to be written by the device */
	uint64_t tail;   /* next to be taken by the application */
	uint32_t seq;    /* rxgen */
	uint64_t n[RX_COUNTS];
	struct rx_desc *ring;
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

/* Why a device does not work; bits of struct nicsim's `stuck`. */
enum {
	NICSIM_STALLED = 1,
	NICSIM_NO_LINK = 2,
	NICSIM_FAILED = 4,
};

/* From the vdev's probe to its removal; the ethdev may be closed earlier. What is not said to be
 * otherwise changes under nicsims_lock (to write). */
struct nicsim {
	TAILQ_ENTRY(nicsim) next;
	struct rte_eth_dev *eth; /* NULL: closed */
	struct nicsim *peer;
	char name[RTE_DEV_NAME_MAX_LEN];
	struct nicsim_conf conf;
	struct rte_ether_addr mac;
	struct dma dma;
	uint64_t delay;  /* TSC cycles; atomic */
	uint32_t stuck;  /* atomic */
	uint32_t resets; /* that fail before one works */
	struct tx_queue *tx[NICSIM_QUEUES_MAX];
	struct rx_queue *rx[NICSIM_QUEUES_MAX];

	/* counters of queues that are gone */
	uint64_t past_tx[TX_COUNTS];
	uint64_t past_rx[RX_COUNTS];
};

static inline uint32_t nicsim_stuck(const struct nicsim *nic)
{
	return __atomic_load_n(&nic->stuck, __ATOMIC_RELAXED);
}

/* ---- nicsim_ethdev.c ---- */

/* All devices. Who polls reads it; setting up and releasing queues, probe and remove write it. */
TAILQ_HEAD(nicsim_list, nicsim);
extern struct nicsim_list nicsims;
extern rte_rwlock_t nicsims_lock;

static inline struct nicsim *nicsim_of(const struct rte_eth_dev *dev)
{
	return dev->data->dev_private;
}

/** By its name; under nicsims_lock. */
struct nicsim *nicsim_find(const char *name);

/* ---- nicsim_tx.c ---- */

uint16_t nicsim_tx_burst(void *txq, struct rte_mbuf **pkts, uint16_t n);
uint16_t nicsim_tx_prepare(void *txq, struct rte_mbuf **pkts, uint16_t n);
int nicsim_tx_setup(struct rte_eth_dev *dev, uint16_t i, uint16_t ndesc, unsigned int socket,
	const struct rte_eth_txconf *conf);
void nicsim_tx_release(struct rte_eth_dev *dev, uint16_t i);
int nicsim_tx_start(struct rte_eth_dev *dev, uint16_t i);
int nicsim_tx_stop(struct rte_eth_dev *dev, uint16_t i);
int nicsim_tx_cleanup(void *txq, uint32_t free_cnt);
int nicsim_tx_status(void *txq, uint16_t offset);
void nicsim_tx_info(struct rte_eth_dev *dev, uint16_t i, struct rte_eth_txq_info *info);
/** Free what the ring holds, sent or not. */
void nicsim_tx_drain(struct tx_queue *q);

/* ---- nicsim_rx.c ---- */

uint16_t nicsim_rx_burst(void *rxq, struct rte_mbuf **pkts, uint16_t n);
int nicsim_rx_setup(struct rte_eth_dev *dev, uint16_t i, uint16_t ndesc, unsigned int socket,
	const struct rte_eth_rxconf *conf, struct rte_mempool *pool);
void nicsim_rx_release(struct rte_eth_dev *dev, uint16_t i);
int nicsim_rx_start(struct rte_eth_dev *dev, uint16_t i);
int nicsim_rx_stop(struct rte_eth_dev *dev, uint16_t i);
int nicsim_rx_status(void *rxq, uint16_t offset);
dpdk_queue_count nicsim_rx_count(void *rxq);
void nicsim_rx_info(struct rte_eth_dev *dev, uint16_t i, struct rte_eth_rxq_info *info);
/** A frame comes in on a queue. False: it had to be dropped, which is counted. */
bool nicsim_rx_deliver(struct rx_queue *q, const void *frame, uint32_t len);

/* ---- nicsim_engine.c ---- */

/** Read and send what is due; under the queue's lock and nicsims_lock (to read). */
void nicsim_engine(struct tx_queue *q);
/** The same for all queues of a device that are not busy; under nicsims_lock (to read). */
void nicsim_advance(struct nicsim *nic);

/* ---- nicsim_offload.c ---- */

/**
 * Do what a frame in q->frame asks for; give each frame that comes of it to emit(). False: its
 * header lengths lie outside of it.
 */
bool nicsim_offload(struct tx_queue *q, const struct tx_desc *d, uint32_t len,
	void (*emit)(struct tx_queue *q, const uint8_t *frame, uint32_t len));

/* ---- nicsim_frame.c ---- */

/** CRC32C, continued from crc, which is 0 at first. */
uint32_t nicsim_crc(uint32_t crc, const void *data, uint32_t len);
/** What a NIC says of a received frame's checksums: RTE_MBUF_F_RX_{IP,L4}_CKSUM_{GOOD,BAD}. */
uint64_t nicsim_checksums(const void *frame, uint32_t len);

/* ---- nicsim_dma.c ---- */

enum dma_result {
	DMA_OK,
	DMA_FAULT,      /* not mapped */
	DMA_WRONG_IOVA, /* mapped, but the device would reach other memory than the mbuf's */
	DMA_GONE,       /* mapped, but no longer there: a truncated file */
};

int nicsim_dma_map(struct rte_vdev_device *dev, void *va, uint64_t iova, size_t len);
int nicsim_dma_unmap(struct rte_vdev_device *dev, void *va, uint64_t iova, size_t len);
/** Read as a driver would not: also memory that is gone, which gives false and no signal. */
bool nicsim_peek(void *to, const void *va, uint32_t len);
/** Read or write as the device does. Nothing is touched unless all of it is mapped. */
enum dma_result nicsim_dma_read(
	struct nicsim *nic, void *to, const void *va, uint64_t iova, uint32_t len);
enum dma_result nicsim_dma_write(
	struct nicsim *nic, void *va, uint64_t iova, const void *from, uint32_t len);

/* ---- nicsim_events.c ---- */

void nicsim_set_link(struct nicsim *nic, bool up);
void nicsim_set_failed(struct nicsim *nic, uint32_t resets);
void nicsim_set_gone(struct nicsim *nic);
/** No callback of the device runs any more. */
void nicsim_events_cancel(struct nicsim *nic);

/* ---- nicsim_stats.c ---- */

int nicsim_stats_get(DPDK_STATS_GET_PARAMS);
int nicsim_stats_reset(struct rte_eth_dev *dev);
int nicsim_xstats_names(struct rte_eth_dev *dev, struct rte_eth_xstat_name *names, unsigned int n);
int nicsim_xstats_get(struct rte_eth_dev *dev, struct rte_eth_xstat *values, unsigned int n);
/** All of them, one by one; nic->eth is open. */
void nicsim_stats_each(
	struct nicsim *nic, void (*each)(void *arg, const char *name, uint64_t value), void *arg);

#endif

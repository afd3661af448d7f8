/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-net: packets between a virtqueue and mbufs. */
#ifndef VNET_H
#define VNET_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

#include "virtq.h"

/*
 * Theory of operation
 *
 * Two algorithms, each written once in passes over a whole burst and instantiated for
 * every ring format: dequeue (guest to mbufs) and enqueue (mbufs to guest). vnet_prepare()
 * picks the instance when a ring starts; no feature bit is tested per packet.
 *
 * Directions are the switch's: dequeue is our receive, enqueue our transmit.
 */

/* How received offload requests are expressed on mbufs. */
enum vnet_style {
	/* As requests to whoever sends the packet on: RTE_MBUF_F_TX_*_CKSUM, TX_TCP_SEG, with
	 * l2/l3/l4_len and tso_segsz. What a switch wants, and net_vhost's legacy-ol-flags. */
	VNET_STYLE_FORWARD,
	/* As facts about a received packet: RTE_MBUF_F_RX_L4_CKSUM_*, RX_LRO, packet_type. What
	 * the ethdev API asks of a driver. */
	VNET_STYLE_RECEIVE,
};

/* What the owner of a receiving ring decides. */
struct vnet_rx_conf {
	struct rte_mempool *pool; /* borrowed */
	uint16_t port;            /* goes into mbuf->port */
	enum vnet_style style;
	bool ext_buf; /* a packet longer than an mbuf goes into an external buffer, if it fits */
	bool linear;  /* and else is dropped, never put into a chain */
};

/**
 * Fill in a view's burst and its argument for a ring we receive from (conf != NULL) or send
 * to (conf == NULL). For vu_device_ops.prepare. @conf is borrowed as long as the device.
 */
void vnet_prepare(struct virtq_view *view, const struct vnet_rx_conf *conf);

/* ---- lending: packets over the guest's own memory ---- */

/* Shorter packets are always copied: that is cheaper than keeping account of them. Where another guest
 * gets them, so are those that fit one mbuf: its copy is in the lcore's cache when it is copied again. */
#define VNET_LEND_MIN          512
#define VNET_LEND_MIN_TO_GUEST 2048
#define VNET_LEND_NOTHING      UINT32_MAX

/* mbuf flags of a lent packet: segments behind the first are guest memory. Whoever cannot send them
 * so, or holds packets for long, must copy it. Two more flags say what NICs have to know:
 * of the ring, that it gives buffers back in order only, so that the guest gets none back before this
 * one; where that may take for ever (a NIC keeps the last it was given until there are more), copy. Of the memory, that not every device reaches it, see
 * vnet_dma.h. */
#define VNET_MBUF_F_LENT          RTE_BIT64(39)
#define VNET_MBUF_F_LENT_ORDERED  RTE_BIT64(38)
#define VNET_MBUF_F_LENT_UNMAPPED RTE_BIT64(37)
#define VNET_LENT_FLAGS           (VNET_MBUF_F_LENT | VNET_MBUF_F_LENT_ORDERED | VNET_MBUF_F_LENT_UNMAPPED)

/* Lends a ring's buffers. One a ring, for all its starts and stops. */
struct vnet_lender;

/**
 * @param packets that may be lent at a time
 * @param socket NUMA node
 * @return NULL: short of memory. Control thread.
 */
struct vnet_lender *vnet_lender_create(uint16_t packets, int socket);

/**
 * The owner does not need it any more, its ring is stopped. It is freed, and guest memory unmapped,
 * when the last buffer has come home: now, or in vnet_lenders_reap(). NULL is fine. Control thread.
 */
void vnet_lender_release(struct vnet_lender *lender);

/** Free what is released and has come home. Call from time to time. @return how many are left.
 * Any thread. */
unsigned vnet_lenders_reap(void);

/** Which of VNET_LENT_FLAGS its packets have. Control thread. */
uint64_t vnet_lender_flags(const struct vnet_lender *lender);

/** Lend packets of so many bytes or more, at least VNET_LEND_MIN, which it is at first. Control thread. */
void vnet_lender_least(struct vnet_lender *lender, uint32_t bytes);

/** Ring entries whose buffers are lent right now. Any thread. */
uint32_t vnet_lender_out(const struct vnet_lender *lender);

/* How much of a ring's packets may be lent. */
enum vnet_lending {
	VNET_LEND_NONE,  /* nothing for now, but what is lent is looked after */
	VNET_LEND_LOCAL, /* not to devices that need a mapping: VNET_MBUF_F_LENT_UNMAPPED */
	VNET_LEND_ALL,
};

/**
 * After vnet_prepare() of a ring we receive from: lend large packets instead of copying them. A ring
 * that has once had a lender keeps it until it stops.
 *
 * Nothing is lent from rings whose guest has an IOMMU, whose translations may end at any moment.
 * @return whether packets are lent
 */
bool vnet_lend(struct virtq_view *view, struct vnet_lender *lender, enum vnet_lending how);

/**
 * Receive up to n packets from the guest. The caller owns them.
 *
 * Packets that must not go on are dropped and counted in vq->stats; when the pool runs dry
 * the rest stays in the ring. Lcore; one at a time per ring.
 */
static inline uint16_t vnet_dequeue(struct virtq *vq, struct rte_mbuf **pkts, uint16_t n)
{
	return virtq_burst(vq, (void **)pkts, n);
}

/**
 * Send packets to the guest by copying them; the caller keeps the mbufs in any case.
 *
 * @return how many of the first packets are done with: delivered, or dropped and counted.
 *	   The others found no guest buffer (or the ring closed) and were not counted: the
 *	   caller tries again or calls vnet_give_up().
 *
 * Lcore; one at a time per ring.
 */
static inline uint16_t vnet_enqueue(struct virtq *vq, struct rte_mbuf **pkts, uint16_t n)
{
	return virtq_burst(vq, (void **)pkts, n);
}

/** Free packets of any kind, lent ones together. Any lcore. */
void vnet_free_others(struct rte_mbuf **pkts, uint16_t n);

/* In the pool's state already: one segment, one owner, memory of its own. */
static inline bool vnet_is_plain(const struct rte_mbuf *m)
{
	return rte_mbuf_refcnt_read(m) == 1 && m->nb_segs == 1 &&
	       !(m->ol_flags & (RTE_MBUF_F_EXTERNAL | RTE_MBUF_F_INDIRECT));
}

/**
 * As rte_pktmbuf_free_bulk(), but where all are like most, without a look at their second lines, which nobody else
 * has looked at: so none may be NULL, and none of one segment may have another behind it. Any lcore; n may be 0.
 */
static inline void vnet_free_bulk(struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t i = 0;

	while (i < n && likely(vnet_is_plain(pkts[i]) && pkts[i]->pool == pkts[0]->pool))
		i++;
	if (i < n)
		vnet_free_others(pkts, n);
	else if (n)
		rte_mempool_put_bulk(pkts[0]->pool, (void *const *)pkts, n);
}

/** Count n packets the guest had no room for, under the reason that holds right now. Same
 * thread as vnet_enqueue(). */
void vnet_give_up(struct virtq *vq, uint16_t n);

/*
 * UDP segmentation has two meanings, and mbufs a flag for one. RTE_MBUF_F_TX_UDP_SEG is what NICs
 * make of it, and virtio's USO: each segment is a datagram of its own. UFO, one datagram to be sent
 * as IP fragments of tso_segsz bytes, has a flag that vnet_init() reserves. Only guests take such
 * a packet as it is; for everybody else it must be cut by vnet_soften(), else it is just too long.
 */
#define VNET_MBUF_F_UFO RTE_MBUF_F_LAST_FREE

/* mbuf flags of packets that are to be cut into tso_segsz bytes. */
#define VNET_SEG_FLAGS (RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_UDP_SEG | VNET_MBUF_F_UFO)

/* Where a guest differs from NICs; among RTE_ETH_TX_OFFLOAD_*, which have no bits for it. */
#define VNET_TX_OFFLOAD_UFO    RTE_BIT64(62) /* takes VNET_MBUF_F_UFO */
#define VNET_TX_OFFLOAD_NO_CWR RTE_BIT64(63) /* takes TSO, but not with CWR set */
#define VNET_TX_OFFLOAD_OWN    (VNET_TX_OFFLOAD_UFO | VNET_TX_OFFLOAD_NO_CWR)

/**
 * Reserve the VNET_MBUF_F_ flags, so that no other library of the program puts something else there.
 * Call after rte_eal_init(), before the first packet; more than once does no harm.
 *
 * @param why	on failure: what is wrong, for people
 * @return 0 or a negative errno. Control thread.
 */
int vnet_init(char *why, size_t why_len);

/** RTE_ETH_TX_OFFLOAD_* and VNET_TX_OFFLOAD_* that a guest with these negotiated features takes as
 * they are. */
uint64_t vnet_tx_offloads(uint64_t features);

/** RTE_ETH_RX_OFFLOAD_* that packets from such a guest may need. */
uint64_t vnet_rx_offloads(uint64_t features);

/* ---- software instead of offloads ---- */

/* mbuf flags that ask for an offload a destination may lack. */
#define VNET_OFFLOAD_FLAGS (RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_IP_CKSUM | VNET_SEG_FLAGS)

struct vnet_soft; /* pools; any number of lcores may share them */

/** @param name	unique; @param socket NUMA node. NULL when memory is short. */
struct vnet_soft *vnet_soft_create(const char *name, int socket);
/** After the last packet made with it was freed. */
void vnet_soft_destroy(struct vnet_soft *soft);

/** The mbuf flags a destination with these offloads (as above) cannot take, or not always. Whether
 * it takes chains (MULTI_SEGS) is no flag: look at nb_segs. */
uint64_t vnet_soft_mask(uint64_t offloads);

/**
 * Make one packet fit for a destination that lacks offloads: compute checksums, cut TSO, USO
 * and UFO frames into segments.
 *
 * @param soft	NULL will do where nothing has to be copied: the packet is nobody else's, the
 *		destination takes chains, and nothing is cut
 * @param pkt	consumed: on return it is in out, or freed
 * @param offloads RTE_ETH_TX_OFFLOAD_* and VNET_TX_OFFLOAD_* the destination has
 * @param out	room for max packets, which the caller owns
 * @return how many packets came out; 0: it could not be done, pkt was freed
 *
 * Any thread: soft is nothing but mempools, which are safe to share. An lcore with one of its
 * own only waits less for others.
 */
uint16_t vnet_soften(struct vnet_soft *soft, struct rte_mbuf *pkt, uint64_t offloads,
	struct rte_mbuf **out, uint16_t max);

#endif

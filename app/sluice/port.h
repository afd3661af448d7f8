/* SPDX-License-Identifier: BSD-3-Clause */
/* Ports of the switch: a VM's vhost-user socket or a DPDK device, under one name and number. */
#ifndef PORT_H
#define PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_ether.h>
#include <rte_spinlock.h>

#include "drops.h"
#include "usock.h"
#include "vnet.h"
#include "vnet_dma.h"
#include "vu.h"

/*
 * Theory of operation
 *
 * A port is created, changed and deleted by the control thread only. Workers never see a
 * struct port: what they need of it is copied into the plan (plan.h), except for two things
 * that outlive plans and are written by one worker at a time: the counters of each receive
 * queue and the locks of the transmit queues. A port is therefore freed after a plan without
 * it is in force everywhere.
 *
 * Queues are named from the switch's side: receive queue i is where packets of the guest or
 * the wire arrive (ring 2i + 1 of a VM), transmit queue i where we send (ring 2i).
 */

#define PORT_MAX      1024
#define PORT_NAME_MAX 32 /* with the final NUL */

struct sluice;

enum port_kind {
	PORT_NONE, /* in plans: nothing can be sent there */
	PORT_VM,
	PORT_DEV,
	PORT_RELAY /* in plans: a VM whose rings a thread of its own polls, see relay.h */
};

/* What became of a stream's packets. Written by the one worker that polls the queue, read
 * by anybody (virtq_load). Never reset: clear keeps a copy to subtract. */
struct stream_stats {
	uint64_t rx_packets;
	uint64_t tx_packets; /* pairwise engines: delivered to the stream's outlet */
	uint64_t dropped;    /* pairwise engines: did not fit the outlet; testpmd's TX-dropped */
	uint64_t bad_ip_csum, bad_l4_csum; /* engine csum */
	uint64_t cycles;                   /* spent in polls that moved packets */
	uint64_t bursts;                   /* polls that moved packets */
};

/* How forward_direct() fares. */
struct stream_direct {
	uint8_t pause; /* bursts with packets before the next try */
	uint8_t doubt; /* how long the last pause was, less with each success */
};

/* Control thread, but for what is marked. */
struct port_rxq {
	_Alignas(64) struct stream_stats stats;
	struct stream_direct direct; /* the worker's */
	uint64_t gen;      /* written by the worker: packets generated (txonly, flowgen) */
	uint32_t tx_first; /* written by the worker: bursts sent of engine_conf.tx_first */
	/* Written by the worker, see sleep.c: packets received when it went to sleep, how often more
	 * had come without an interrupt, and whether there ever was one. */
	uint64_t before_nap;
	uint32_t missed;
	bool interrupts;
	_Alignas(64) struct virtq *vq; /* VM */
	struct vnet_lender *lender;    /* VM: NULL unless it has ever lent */
	bool usable;                   /* can be polled */
	int16_t worker;                /* index of the worker that shall poll it, or -1 */
	int16_t polled_by;             /* the one that may, in a plan not over yet, or -1 */
	int16_t pin;                   /* the worker it is pinned to, or -1 */
	uint32_t load;                 /* per mille of a worker, over the last second */
	uint64_t cycles_before;        /* stats.cycles when load was measured */
	struct stream_stats base;      /* at the last clear */
	struct virtq_stats ring_base;  /* VM: the same of its ring */
};

struct port_txq {
	_Alignas(64) rte_spinlock_t lock; /* workers; unused where the plan gives one owner */
	struct virtq *vq;                 /* VM */
	bool usable;
	struct virtq_stats ring_base; /* as in port_rxq */
};

/* What a VM port has only if it is asked for. */
struct port_vm_options {
	bool postcopy; /* a guest may arrive by post-copy migration */
	bool iommu;    /* VIRTIO_F_ACCESS_PLATFORM is offered */
	bool copy;     /* its buffers are never lent */
	bool has_mac;  /* for the guest, if its front-end asks */
	struct rte_ether_addr mac;
	struct usock_access access; /* to the socket we make */
};

struct port_vm {
	struct vu_device *dev;
	char path[USOCK_PATH_MAX];
	bool listen;
	struct vnet_rx_conf rx_conf[RTE_MAX_NUMA_NODES]; /* constant; rings use their node's */
	const struct virtq_mem *node_mem; /* only compared: the table mem_node is of */
	int mem_node;
	int told_node; /* where its memory lay when a line said that it is far; -1: it is not */
	uint16_t mtu;  /* what the guest was told; 0: any */
	const char *unmapped; /* why devices must be given copies; NULL: they need none. Static */
	struct port_vm_options options;
	bool relay_planned;          /* there was a plan since relay was set */
	struct relay *relay;         /* while a guest arrives by post-copy migration */
	struct relay *leaving_relay; /* of an older plan */
};

/* Frames a port takes as they are. A guest must not get others to a device: there are some
 * that stop their queue for good when given one. */
struct outlet_limits {
	uint32_t min_len, max_len; /* without FCS; for packets it cuts itself, what comes of them */
	uint16_t max_segs;         /* mbufs of a packet */
	uint16_t max_tso_segs;     /* of one that it cuts */
};

static inline uint32_t frame_of(uint16_t mtu)
{
	return mtu + RTE_ETHER_HDR_LEN + 2 * RTE_VLAN_HLEN;
}

struct port_dev_counts;

struct port_dev {
	uint16_t eth;    /* ethdev number */
	bool interrupts; /* it wakes who sleeps */
	bool picky;      /* `set promisc off` */
	bool link_off;   /* `set link-down` */
	bool left_out;   /* no plan has its queues: port_event.c */
	bool started;    /* its configuration has worked */
	bool stopped;    /* for good: what it held has come home */
	uint32_t retry;  /* seconds: when it is reset again, as that has failed; or 0 */
	uint32_t resets; /* it got when it asked for one */
	struct port_dev_counts *counts;
	char *devargs;
	struct outlet_limits limits;
	enum vnet_reach reach; /* what it can do with packets over guest memory */
	char reach_why[128];   /* VNET_REACH_NONE: why */
};

/* Since the port was added or cleared. Packets the switch lost are in drops, packets the
 * port itself lost in the other fields: both never count the same packet. */
struct port_counters {
	uint64_t rx_packets, rx_bytes;
	uint64_t rx_missed; /* a device had no descriptor free */
	uint64_t rx_errors;
	uint64_t rx_nombuf;
	uint64_t tx_packets, tx_bytes;
	uint64_t tx_errors;
	uint64_t ring_drops[VIRTQ_DROP_COUNT]; /* VM ports, sum of port_ring_stats() */
	uint64_t drops[SWITCH_DROP_COUNT];
	uint64_t left_out; /* polls put off because it had used more than its share: share.h */
};

/* Of a device: what it said last, and what it had said before it began from 0 again. */
struct port_dev_counts {
	struct port_counters seen, before;
};

/* What `show port stats` showed last, for its rates. */
struct port_shown {
	uint64_t time; /* monotonic, in ns; 0: nothing yet */
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
};

struct port {
	struct sluice *sl;
	uint16_t id; /* 0..PORT_MAX - 1: testpmd's port number */
	char name[PORT_NAME_MAX];
	enum port_kind kind;
	struct rte_ether_addr mac;  /* ours: source address of engine mac and txonly */
	struct rte_ether_addr peer; /* what they send to; testpmd's `set eth-peer` */
	int node;                   /* NUMA node of device or guest memory; -1: unknown */
	bool up;                    /* guest connected and running, or link up */
	uint64_t tx_offloads;       /* RTE_ETH_TX_OFFLOAD_* it takes right now */
	uint64_t csum_hw;           /* `csum set`: RTE_ETH_TX_OFFLOAD_*_CKSUM left to the port */
	uint16_t n_rxq, n_txq;
	struct port_rxq *rxq;
	struct port_txq *txq;
	struct port *cross; /* cross-connect partner, or NULL */
	bool forget;        /* flush its addresses once the next plan has settled */
	struct port *next_leaving;
	struct port_counters base;
	struct port_counters forward_base; /* verbs.h: where the forward statistics begin */
	struct port_shown shown;
	union {
		struct port_vm vm;
		struct port_dev dev;
	};
};

/* All functions: control thread. */

/**
 * Add a VM port: a vhost-user back-end socket.
 *
 * @param name	 letters, digits, '.', '_', '-'; starts with a letter; unique
 * @param queues 1..VU_QUEUE_PAIRS_MAX queue pairs
 * @param mac	 the guest's, for front-ends that ask for it; NULL: none
 * @param why	 on failure one line naming what is wrong and what to do
 * @return 0, -EINVAL, -EEXIST, -ENOSPC (too many ports), or what vu_device_create() said
 */
int port_add_vm(struct sluice *sl, const char *name, const char *path, bool listen, uint16_t queues,
	const struct port_vm_options *options, struct port **out, char *why, size_t why_len);

/**
 * Add any DPDK device: probe it if the EAL has not yet, configure, start.
 * @param queues receive queues; the device may have fewer: an error then
 */
int port_add_dev(struct sluice *sl, const char *name, const char *devargs, uint16_t queues,
	struct port **out, char *why, size_t why_len);

/**
 * Take it from all workers, then close and free it. Detaches a device from DPDK too.
 * @return 0; -ENOMEM: nothing happened; -ETIMEDOUT: a worker is late, and it is closed when
 *	   that one has come round: until then its number and its device stay taken
 */
int port_del(struct port *port);

/** No worker uses ports any more that were deleted: close and free them. */
void ports_left(struct sluice *sl);

/** The process ends though a worker may be using any of them: remove their socket files. */
void ports_abandon(const struct sluice *sl);

struct port *port_by_id(const struct sluice *sl, unsigned id);

/** By name, or by number where no port has that name. NULL: none. */
struct port *port_find(const struct sluice *sl, const char *name_or_id);

/** The next port after @prev (NULL: the first) in order of numbers, or NULL. */
struct port *port_next(const struct sluice *sl, const struct port *prev);

#define PORT_FOREACH(sl, p) for (p = port_next(sl, NULL); p; p = port_next(sl, p))

/** A VM port's ring since the port was added or cleared: tx selects the transmit queue. */
void port_ring_stats(const struct port *port, unsigned queue, bool tx, struct virtq_stats *out);

/** Counters since the port was added or cleared. */
void port_counters_get(const struct port *port, struct port_counters *out);
void port_counters_clear(struct port *port);

/** A receive queue's counters since its port was added or they were cleared. Cleared apart
 * from the port's, as testpmd's `clear fwd stats` is from `clear port stats`. */
void port_stream_stats(const struct port *port, unsigned queue, struct stream_stats *out);
void port_stream_stats_clear(struct port *port);

/** What port->peer is before `set eth-peer`: testpmd's 02:00:00:00:00:number. */
void port_default_peer(const struct port *port, struct rte_ether_addr *mac);

/** Link, offloads and node may have changed: look again, mark the plan dirty if so. */
void port_refresh(struct port *port);

/** Write the commands that make this port again, for `config save`. */
void port_save(const struct port *port, FILE *f);

/** The same for another process, whose EAL was not told of the device: with all its arguments. */
void port_save_whole(const struct port *port, FILE *f);

/* ---- between the port*.c files ---- */

int port_check_name(const struct sluice *sl, const char *name, char *why, size_t why_len);

/** Check the name, choose a number, allocate; the caller fills in the kind's part and then
 * calls port_enter() or port_free(). */
int port_new(struct sluice *sl, const char *name, enum port_kind kind, uint16_t n_rxq,
	uint16_t n_txq, struct port **out, char *why, size_t why_len);

/** Into the table, and the next plan. */
void port_enter(struct port *port);

/** The link went up or down. */
void port_set_up(struct port *port, bool up);
void port_free(struct port *port);

void port_vm_close(struct port *port);

/** There is another device, which may reach guest memory or not: look again. */
void ports_vm_remap(struct sluice *sl);

/** There is a plan that knows the port's relay, if it has one. */
void port_vm_relay_planned(struct port *port);
/** Every worker follows the newest plan: the relay may begin, and older ones go. */
void port_vm_relay_settled(struct port *port);
void port_vm_relay_left(struct port *port);

/**
 * Have made what DPDK's devices share, before there is one. Where there is no memory for it DPDK 22.11 ends the process,
 * which must not be when the first device is added to a switch that is at work. Control thread.
 *
 * @return whether it is there
 */
bool port_dev_ready(void);
void port_dev_close(struct port *port);

/** Configure the device and set it going, all queues usable. */
int port_dev_start(struct port *port);

/** Note what it has counted, for when it must not be asked. */
void port_dev_count(const struct port *port);

/* port_event.c: what devices say by themselves. */

/** Hear what this one says from now on. @return 0 or -ENOMEM */
int port_dev_listen(uint16_t eth);

/** Do what it has asked for, once a second. */
void port_dev_hear(struct port *port);

/** Whether it must be asked nothing now. */
bool port_dev_mute(const struct port *port);

/** What is wrong with it, a line; NULL: nothing. */
const char *port_dev_trouble(const struct port *port);
void port_vm_counters(const struct port *port, struct port_counters *out);
void port_dev_devargs(const struct port *port, FILE *f);

/* port_tap.c. Its interface on the host goes with us, or (on) stays. Nothing for other devices. */
void port_tap_persist(const struct port *port, bool on);

/* A descriptor that keeps its interface there and gets no packets, the caller's; or -1. */
int port_tap_spare(const struct port *port, unsigned *index);

/* The address it has had, which is among its arguments. */
void port_tap_address(uint16_t eth, const char *devargs);

struct rte_eth_dev_info;
bool port_tap_is(const struct rte_eth_dev_info *info);

void port_dev_counters(const struct port *port, struct port_counters *out);
void port_vm_refresh(struct port *port);

/* The NUMA node of a guest's memory, or -1; asked when the table is another one than the last. */
int port_vm_node(struct port *port, const struct virtq_mem *mem);

/* Once a second: whether it has moved, and a line if whoever polls the port is far from it. */
void port_vm_node_tick(struct port *port);
void port_dev_refresh(struct port *port);

#endif

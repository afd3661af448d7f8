/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver from inside: a port, its queues, and what its files do for each other. */
#ifndef SLUICE_PMD_H
#define SLUICE_PMD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <ethdev_driver.h>

#include "dpdk_compat.h"
#include "usock.h"
#include "virtq.h"
#include "vnet.h"
#include "vu.h"

struct event_base;
struct sl_notice;

extern int sl_logtype;
#define SL_LOG(level, fmt, ...) \
	rte_log(RTE_LOG_##level, sl_logtype, "net_sluice: " fmt "\n", ##__VA_ARGS__)

/* ---- sluice_devargs.c ---- */

/* What the user asked for with --vdev net_sluice0,iface=... */
struct sl_devargs {
	char iface[USOCK_PATH_MAX];
	uint16_t queues;
	bool client; /* connect to iface instead of listening there */
	bool tso;
	bool linear_buffer;
	bool ext_buffer;
	bool legacy_ol_flags;
	bool postcopy_support;
	bool iommu_support;
	bool zero_copy;
	char state_file[256];      /* empty: none */
	struct rte_ether_addr mac; /* zero: make one up */
};

/* What dpdk-pmdinfo.py shows of them. */
#define SL_DEVARGS_HELP                                                          \
	"iface=<path> queues=<1..128> client=<0|1> iommu-support=<0|1> "         \
	"postcopy-support=<0|1> tso=<0|1> linear-buffer=<0|1> ext-buffer=<0|1> " \
	"legacy-ol-flags=<0|1> zero-copy=<0|1> state-file=<path> mac=<xx:xx:xx:xx:xx:xx>"

/** @return 0, or -EINVAL with one line in why */
int sl_devargs_parse(const char *args, struct sl_devargs *out, char *why, size_t why_len);

/* ---- a port ---- */

struct sl_port;

/* One direction of a queue pair: what ethdev hands to the burst functions. It lives as long
 * as its port, so no lcore can be left with a queue that was freed. */
struct sl_queue {
	struct virtq *vq; /* set once */

	/* mbuf flags of packets that need work in software with the guest as it is now:
	 * received ones whose checksum it left to us, sent ones that need an offload it
	 * lacks. Written by control, read by the lcore. */
	uint64_t soften;
	uint64_t offloads; /* RTE_ETH_TX_OFFLOAD_* the guest takes; likewise */

	/* Set by the application's thread while the port is stopped. */
	struct vnet_soft *soft; /* of a transmit queue, the port's */
	bool vlan_strip;
	bool is_setup;
	struct vnet_rx_conf rx;     /* of a receive queue */
	struct vnet_lender *lender; /* of a receive queue with zero-copy=1; control */

	uint64_t unsent; /* packets the guest had no room for; written by the lcore */

	/* The counters at the last reset; the application's thread. */
	uint64_t unsent_base;
	struct virtq_stats base;

	int bell, wait, poke; /* receive interrupts, see sluice_intr.c; -1: none */

	struct sl_port *port; /* set once */
	uint16_t ring;        /* set once */
	bool is_mentioned;    /* that the guest uses it and nobody set it up; control */
} __rte_cache_aligned;

struct sl_port {
	/* set once */
	struct rte_eth_dev *eth;
	struct sl_devargs args;
	struct rte_ether_addr mac;

	/* What the application counts on us for; set by its thread while stopped. */
	bool vlan_strip;
	bool checksum_rx;       /* valid checksums, also in what the guest left incomplete */
	bool soften_tx;         /* offloads, also those the guest lacks */
	struct vnet_soft *soft; /* for the latter, else NULL */

	/* control thread only */
	struct vu_device *dev;
	bool started;
	bool copies_mentioned; /* that zero-copy=1 cannot be had */

	struct sl_port *next_lending; /* sluice_lend.c's */

	/* Under sluice_device.c's lock: changes the application has not been told of, and
	 * the alarm that will tell it, if one is set. */
	struct sl_notice *notice;
	unsigned int queue_events;
	bool link_event;

	/* Indexed by ring: 2i is the guest's receive queue, our transmit queue i; 2i + 1 is
	 * its transmit queue, our receive queue i. */
	struct sl_queue queue[];
};

static inline struct sl_queue *sl_tx_queue(struct sl_port *port, uint16_t i)
{
	return &port->queue[2 * i];
}

static inline struct sl_queue *sl_rx_queue(struct sl_port *port, uint16_t i)
{
	return &port->queue[2 * i + 1];
}

/* ---- sluice_control.c: the control thread ---- */

/** Make sure that the thread runs, until sl_control_put(). 0 or a negative errno. */
int sl_control_get(void);
void sl_control_put(void);

/** The thread's loop. */
struct event_base *sl_control_base(void);

/**
 * Run fn(arg) on the control thread and wait for its result. Any other thread.
 */
int sl_control_call(int (*fn)(void *arg), void *arg);

/* ---- sluice_device.c: the port's vhost-user device ---- */

/** Create the device; -errno with one line in why. */
int sl_device_open(struct sl_port *port, char *why, size_t why_len);

/**
 * End the connection and remove the socket.
 * @return 0, or -ETIMEDOUT: an lcore has not left a ring, the port's memory must stay
 */
int sl_device_close(struct sl_port *port);

/** Let lcores at the rings, or take them away; waits until it is so. */
int sl_device_start(struct sl_port *port);
int sl_device_stop(struct sl_port *port);

/** Packets (descriptor chains) the guest has waiting in a ring. */
int sl_device_fill(const struct sl_port *port, unsigned int ring);

/** What vu_device_bell() has for a ring. */
int sl_device_bell(const struct sl_port *port, unsigned int ring);

/** Everything about the port, for people. */
int sl_device_dump(struct sl_port *port, FILE *file);

/** For the control thread: look at the port's rings again. @param arg the port */
int sl_device_reconcile(void *arg);

/* ---- sluice_lend.c: zero-copy=1 ---- */

/** The port is there, and before it goes. The application's thread. */
void sl_lend_enter(struct sl_port *port);
void sl_lend_leave(struct sl_port *port);

/** In prepare() of a ring we receive from, and after the device's end. Control thread. */
void sl_lend_prepare(struct sl_port *port, struct sl_queue *q, struct virtq_view *view);
void sl_lend_close(struct sl_port *port);

/* ---- sluice_rxtx.c ---- */

uint16_t sl_rx_burst(void *rxq, struct rte_mbuf **pkts, uint16_t n);
uint16_t sl_tx_burst(void *txq, struct rte_mbuf **pkts, uint16_t n);
uint16_t sl_tx_prepare(void *txq, struct rte_mbuf **pkts, uint16_t n);

/* The same for applications and guests that need work done in software. */
uint16_t sl_rx_burst_soft(void *rxq, struct rte_mbuf **pkts, uint16_t n);
uint16_t sl_tx_burst_soft(void *txq, struct rte_mbuf **pkts, uint16_t n);

/* ---- sluice_intr.c: receive interrupts ---- */

/** Have them if the configuration asks for them; 0 or a negative errno. dev_start. */
int sl_intr_start(struct rte_eth_dev *dev);
void sl_intr_stop(struct rte_eth_dev *dev);
void sl_intr_init(struct sl_queue *q);
void sl_intr_close(struct sl_queue *q);
/** Wake whoever sleeps by the queue. Any thread. */
void sl_intr_poke(const struct sl_queue *q);
int sl_rx_intr_enable(struct rte_eth_dev *dev, uint16_t i);
int sl_rx_intr_disable(struct rte_eth_dev *dev, uint16_t i);

/* ---- sluice_xstats.c ---- */

int sl_stats_get(DPDK_STATS_GET_PARAMS);
int sl_stats_reset(struct rte_eth_dev *dev);
int sl_xstats_get_names(struct rte_eth_dev *dev, struct rte_eth_xstat_name *names, unsigned int n);
int sl_xstats_get(struct rte_eth_dev *dev, struct rte_eth_xstat *values, unsigned int n);

#endif

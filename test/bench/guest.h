/* SPDX-License-Identifier: BSD-3-Clause */
/* What the benchmark's guest shares between the thread that reads commands and the one that moves packets. */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <rte_ether.h>
#include <rte_mbuf.h>

#define GUEST_PORTS 32
#define GUEST_BURST 32
#define GUEST_RING  1024
#define FRAME_MIN   60u
#define FRAME_MAX   65535u
#define FRAME_IMIX  1u  /* as a size: 64, 570 and 1518 bytes, 7 : 4 : 1 */
#define TOUCH_AT    50u /* in the first line, which is the headers' otherwise */

enum role {
	ROLE_IDLE,    /* not even polled */
	ROLE_QUIET,   /* polled, which finds nothing */
	ROLE_RECEIVE, /* free what comes */
	ROLE_SEND,    /* make frames for the peer */
	ROLE_REFLECT, /* send what comes back to where it came from */
	ROLE_FORWARD, /* send what comes by another port */
};

/* A distribution of times: 64 steps for each power of two. */
#define HIST_STEPS   64u
#define HIST_BUCKETS (HIST_STEPS * 40u)
struct hist {
	uint64_t n, max;
	uint32_t buckets[HIST_BUCKETS];
};

/* Written by the worker, read by anybody: relaxed. */
struct port_stats {
	uint64_t rx, rx_bytes, tx, tx_bytes;
	uint64_t refused; /* made or got, and the ring had no room */
	uint64_t alien;   /* not for this port's address: flooded, and dropped here */
};

struct port {
	/* written by the main thread while the worker rests */
	enum role role;
	uint16_t out;   /* ROLE_FORWARD: port to send by */
	uint32_t seeds; /* frames to make before the worker goes on; the worker counts down */
	struct rte_ether_addr mac, peer;

	struct lean *lean; /* driven by ourselves, not by virtio-user */
	struct port_stats stats;
	unsigned next_size; /* of FRAME_IMIX; the worker's */
};

struct guest {
	struct rte_mempool *pool;
	uint16_t n_ports;
	/* written by the main thread while the worker rests, read by the worker */
	struct port ports[GUEST_PORTS];
	uint32_t frame; /* bytes without FCS, or FRAME_IMIX */
	double rate;    /* frames a second and sending port; 0: as fast as possible */
	bool touch;     /* write and read every line of payload */
	bool filter;    /* drop what is not for a port's own address */
	bool tso;       /* offload: frames above 1518 bytes are segments to be cut */

	/* the worker's, relaxed */
	uint64_t busy; /* TSC cycles of rounds that moved a packet */
	uint64_t gap;  /* longest time between two packets received */
	uint64_t sum;  /* of all that was read */
	uint64_t last_rx;
	struct hist latency, round; /* from stamp to receipt; of rounds that found nothing */

	bool clearing; /* raised by the main thread, lowered by the worker */
	bool running;  /* written by the main thread */
	bool resting;  /* written by the worker */
	bool quitting; /* written by the main thread */
};

extern struct guest guest;

static inline bool flag(const bool *f)
{
	return __atomic_load_n(f, __ATOMIC_ACQUIRE);
}

static inline void raise_flag(bool *f, bool value)
{
	__atomic_store_n(f, value, __ATOMIC_RELEASE);
}

static inline void count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* A word in every cache line of a piece of a frame, from an offset on. */

static inline void touch_write(void *piece, uint32_t off, uint32_t len, uint64_t value)
{
	for (; off + sizeof(value) <= len;
		off = RTE_ALIGN_FLOOR(off, RTE_CACHE_LINE_SIZE) + RTE_CACHE_LINE_SIZE)
		memcpy((uint8_t *)piece + off, &value, sizeof(value));
}

static inline uint64_t touch_read(const void *piece, uint32_t off, uint32_t len)
{
	uint64_t value, sum = 0;

	for (; off + sizeof(value) <= len;
		off = RTE_ALIGN_FLOOR(off, RTE_CACHE_LINE_SIZE) + RTE_CACHE_LINE_SIZE) {
		memcpy(&value, (const uint8_t *)piece + off, sizeof(value));
		sum += value;
	}
	return sum;
}

static inline void swap_macs(struct rte_ether_hdr *eth)
{
	struct rte_ether_addr addr = eth->dst_addr;

	eth->dst_addr = eth->src_addr;
	eth->src_addr = addr;
}

/** How long the next frame of a port is to be. */
uint32_t traffic_next_size(struct port *p);

/** Ethernet, IPv4 and UDP (TCP if it is to be cut) of a frame of a port's. */
void traffic_fill_headers(void *frame, uint32_t len, const struct port *p);

/** Move packets whenever `running`, until `quitting`; an lcore's main function. */
int traffic_worker(void *arg);

/** Count everything from zero, also while packets move; returns when that is done. */
void traffic_clear(void);

/** TSC cycles below which `share` (0 to 1) of all values lie. */
uint64_t hist_percentile(const struct hist *h, double share);

#endif

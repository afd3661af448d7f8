/* SPDX-License-Identifier: BSD-3-Clause */
/* A strict guest with a queue pair, our two ends of it, and the columns of the burst tests. */
#ifndef PAIR_H
#define PAIR_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

#include "ts_net.h"
#include "vnet.h"
#include "vq.h"

/* After the DPDK headers: cmocka defines names they use. */
#include "ts_tap.h"

#define F(name) (1ull << VIRTIO_NET_F_##name)

/* All mbufs come from here; while no packet is under way none is out. */
extern struct rte_mempool *pair_pool;

/* One column of the table: what the driver negotiated and how it lays chains out. */
struct column {
	const struct vq_format *format;
	bool indirect, mergeable, event_idx, v1;
};

/* A guest with a queue pair, and our two ends of it. */
struct pair {
	struct column c;
	struct ts_guest *guest;
	struct virtq_mem *mem;
	struct ts_ring *rx_ring, *tx_ring;
	struct ts_net net;
	struct virtq *rx, *tx; /* ours: we receive from the guest's tx */
	struct virtq_view rx_view, tx_view;
	struct vnet_rx_conf conf;
	struct vnet_lender *lender; /* NULL: everything is copied */
	uint64_t offered;           /* packets the guest sent */
};

/** @param extra features beyond those of the column
 * @param start	how far into its life each ring begins, in descriptors (split: chains) */
void pair_open(struct pair *p, const struct column *c, uint64_t extra, uint16_t start);

/** Nothing the driver may object to; every packet the guest sent is accounted for; no mbuf lost. */
void pair_close(struct pair *p);

/** What has come home goes back to the driver, which takes it. @return how many packets' chains */
unsigned pair_reap(struct pair *p);

/** One of a pair's rings for vq_hostile.h: that of what the guest sends, or of what it gets. Its memory
 * from 2 MiB on is where tables are written. */
struct vq pair_vq(const struct pair *p, bool sends);

/** Call run for every column of a format. */
void pair_over_columns(const struct vq_format *format, void (*run)(const struct column *));

/** Entries of a pair's rings: a power of two only where it must be. */
uint32_t pair_ring_size(const struct column *c);

/** How the driver of a column lays its i-th chain out. */
enum ts_mode pair_mode(const struct column *c, uint32_t i);

/** The bytes of a packet; @return how many. */
uint32_t pair_bytes(const struct rte_mbuf *m, uint8_t *out);

/** A packet with these bytes. */
struct rte_mbuf *pair_mbuf(const uint8_t *bytes, uint32_t len);

/* A test that is about split rings only. */
#define PAIR_SPLIT(fn) \
	((struct CMUnitTest){#fn "[split]", fn, NULL, NULL, (void *)(uintptr_t)&vq_formats[0]})

/* What pairs do with packets: in one of these ways, or in several one after the other. */
#define PAIR_COPY 1u
#define PAIR_LEND 2u
#define PAIR_FAR  4u /* copy to buffers that count as far away: lib/vnet/far.h */

/**
 * Start the EAL, run the tests, stop it. Each runs once for every ring format, which is its initial
 * state (const struct vq_format *), unless it brings one; and that for each mode.
 * @return main()'s value
 */
int pair_run_with(unsigned modes, const struct CMUnitTest *tests, size_t n, int argc, char **argv);

/** Likewise, but these tests know of formats by themselves: each runs once for each mode. */
int pair_run_cases(unsigned modes, const struct CMUnitTest *tests, size_t n, int argc, char **argv);

static inline int pair_run(const struct CMUnitTest *tests, size_t n, int argc, char **argv)
{
	return pair_run_with(PAIR_COPY | PAIR_LEND | PAIR_FAR, tests, n, argc, argv);
}

#endif

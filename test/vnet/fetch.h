/* SPDX-License-Identifier: BSD-3-Clause */
/* A queue pair whose guest's memory is watched: what a burst may read of it, and how often. */
#ifndef FETCH_H
#define FETCH_H

#include "pair.h"
#include "ts_watch.h"

/*
 * Theory of operation
 *
 * ts_watch.h records every access to guest memory. In one burst no byte of it may be read twice
 * (test_fetch_once.c): descriptors, tables, headers, payload, what the driver says of notifications.
 * These may, and test_fetch_again.c rewrites each between two reads:
 *
 *   split: avail->idx	  a burst that has used up what it saw looks again, and judges that number as
 *			  it did the first. Nothing of the first is left but what was taken by it.
 *   split: avail->ring	  prefetch() reads heads it does not check, to fetch what nobody reads.
 *			  take() reads each again, and only that one counts.
 *   a chain put back	  A packet too large for it puts it back, and the next takes it anew: all that
 *			  was read of it is forgotten.
 *   header and first	  of a frame that cannot be lent after all: it is copied like any other, as if
 *   bytes		  nobody had looked. They are read into private memory both times.
 *   packed: descriptors  that the in-flight region keeps when they are overwritten. They go back to
 *			  where they were, or nowhere.
 *
 * What the device area holds is ours, but a driver can write it: it is never read at all.
 */

struct watched {
	struct pair p;
	struct ts_watch *watch;
};

void fetch_open(struct watched *t, const struct column *c, uint64_t extra);
void fetch_close(struct watched *t);

/** One burst, watched; as vnet_dequeue(), vnet_enqueue(), and vnet_direct() from the guest to itself. */
uint16_t fetch_dequeue(struct watched *t, struct rte_mbuf **m);
uint16_t fetch_enqueue(struct watched *t, struct rte_mbuf **m, uint16_t n);
uint16_t fetch_direct(struct watched *t);

/** Of what was watched last nothing was read more often than it may be. */
void fetch_judge(const struct watched *t);

/** Nothing of a ring's device area was read. */
void fetch_never_device(const struct watched *t, const struct ts_ring *r);

/** The guest puts a packet into its ring, and does not publish it; as ts_net_send(). */
void fetch_sends(struct watched *t, const struct virtio_net_hdr_v1 *hdr, const uint8_t *frame,
	uint32_t len, const uint32_t *cuts, unsigned n_cuts, enum ts_mode mode);

/** How a driver may cut header and frame into descriptors; 0 ends. */
#define FETCH_CUTS 5
extern const uint32_t fetch_cuts[FETCH_CUTS][13];
unsigned fetch_count(const uint32_t *cuts);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* A port's share of an lcore, in cycles. */
#ifndef SHARE_H
#define SHARE_H

#include <stdbool.h>
#include <stdint.h>

struct plan;
struct worker;

/*
 * Theory of operation
 *
 * What a poll brings is bounded (VIRTQ_SHARE), but what becomes of it is not the same for all: a
 * guest may send what is flooded to a hundred ports, or has to be cut into segments, or lies in
 * cold memory. So each worker keeps an account of cycles for each port: the polls of its queues,
 * and the delivery of what it sent. He pays who sends, also for how a receiver has laid out its
 * buffers: a server with many clients would else use up its share by being sent to.
 *
 * Now and then accounts are settled: each port that had work is owed the same part of what all
 * of them cost. What it has taken beyond is its debt. With more than `set share` microseconds of
 * it the port is left out: it is not polled in rounds in which others have work, which it is owed
 * its part of as before, until that has paid the debt. A round that finds nothing else to do
 * serves who was left out, for that many microseconds, before it looks at the others again. And where
 * there are others, bursts of a port are halved while one takes longer than that. So no cycle is
 * lost, ports that cost the same are never far from even, and what a light neighbour waits for is
 * not a dear burst of each dear port.
 *
 * Devices count as ports with work, but have no debts: a device is no guest, it brings what is
 * for all of them.
 */

/* A worker's account of a port. The worker's own. */
struct share {
	uint64_t used;  /* cycles since accounts were settled; 0: it is not in worker.working */
	int64_t debt;   /* cycles; negative: it is owed some */
	bool left_out;  /* it is in worker.left_out */
	uint8_t halved; /* how often its bursts are */
};

/* `set share` when nobody has set it. */
#define SHARE_US 50

/* A poll that brought nothing and took as many cycles was work: chains that were dropped. */
#define SHARE_DEAR 1000

/* Settle after that part of `set share`: seldom enough to cost nothing. */
#define SHARE_SETTLE 4

/** What was charged has come to enough: settle all accounts. The worker. */
void share_settle(struct worker *w, const struct plan *plan);

/** The next of those that were left out, worker.n_left_out > 0. The worker. */
uint16_t share_next(struct worker *w);

/** Packets a poll of it takes at most. The worker. */
uint16_t share_burst(const struct worker *w, const struct plan *plan, uint16_t port);

/** A port that was left out has nothing to do: forget its debt. The worker. */
void share_forgive(struct worker *w, uint16_t port);

#endif

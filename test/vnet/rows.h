/* SPDX-License-Identifier: BSD-3-Clause */
/* A hostile guest's queue pair between two neighbours on one lcore: what must hold whatever it does. */
#ifndef ROWS_H
#define ROWS_H

#include <pthread.h>

#include "pair.h"
#include "vq_hostile.h"

/*
 * Theory of operation
 *
 * A row is a way to be hostile (R1 to R13 of the fault matrix). It is tried with everything a driver can
 * negotiate and in three intensities: how many chains it offers a round, and for how many rounds. In each
 * round the lcore polls the hostile pair in both directions, before that in every second one from guest to
 * guest without mbufs, and then both neighbours, which send each other packets. After every burst and at the end:
 *
 *   I1, I12	memory ends at guard pages: an access outside kills the program
 *   I2		a burst moves 64 packets at most and takes less CPU time than copying them could
 *   I3		rows that mutate have a second thread rewrite what was offered, at full speed
 *   I9		a parked ring's used position stays, and one that goes on moves by what was moved
 *   I11	what a burst returns, its packets and its drops are the same number
 *   I4		neither neighbour loses a packet or gets it a round later
 *   I6		no mbuf is missing in the end, and a ring that is started again works
 */

#define ROWS_MEMORY 0x1000000ull /* guest address of memory nobody else uses, */
#define ROWS_SIZE   0x1000000ull /* so much, */
#define ROWS_END    0x3100000ull /* and where the guest's memory ends */

struct trial;

struct row {
	const char *name;
	void (*offer)(struct trial *t); /* what is hostile in this round, before the poll */
	uint64_t features;
	bool mutate; /* a second thread rewrites rings, tables and buffers */
};

struct trial {
	const struct row *row;
	unsigned intensity; /* 1 to 3 */
	bool indirect, in_order;
	struct pair p;
	struct vq rx, tx; /* the same rings for vq_hostile.h: what the guest sends, what it gets */
	struct ts_rng rng;
	unsigned round;
	uint64_t offered; /* packets towards the guest */
	bool stop;        /* the second thread */
	pthread_t thread;
};

/** Chains to offer in this round. */
static inline unsigned rows_chains(const struct trial *t)
{
	return t->intensity == 1 ? 6 : t->intensity == 2 ? 16 : 60;
}

static inline uint32_t rows_below(struct trial *t, uint32_t n)
{
	return ts_rand_below(&t->rng, n);
}

/** A random place in memory for a buffer, away from its end. */
uint64_t rows_anywhere(struct trial *t);

/** Forget what is in a hostile ring and start it again, so that what is offered next is looked at. */
void rows_restart(struct vq *q);

/** One poll of the hostile pair; called for each round, and by rows that poll more often. */
void rows_poll(struct trial *t);

/** Run all rows over everything; main()'s value. SLUICE_ALL=1: in all intensities. */
int rows_main(const struct row *rows, size_t n, int argc, char **argv);

#endif

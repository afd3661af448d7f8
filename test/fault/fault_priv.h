/* SPDX-License-Identifier: BSD-3-Clause */
/* What the harness and the program of cases share. */
#ifndef FAULT_PRIV_H
#define FAULT_PRIV_H

#include "fault.h"

/* The polling thread; its own but for stop while it works. */
struct lcore {
	pthread_t thread;
	bool working, stop;
	uint64_t turns;
	uint64_t offered[2];  /* frames by each neighbour's guest */
	uint64_t received[2]; /* of these by the other one's */
	uint64_t idle;        /* turns that left a neighbour's frames lying */
	int64_t asleep_us;    /* without having waited for a CPU */
	/* before the case */
	uint64_t before[2]; /* frames each neighbour had sent */
	int fds, maps;
};

/** cmocka's three of every case; *state is a struct fault_case first. */
int fault_setup(void **state);
void fault_test(void **state);
int fault_teardown(void **state);

/** Asked once by each case that ends. */
bool fault_was_last(void);

/** A case holds: for the figures at the end. */
void fault_note(const struct fault_case *c, const struct lcore *l);

/** Of a name: the same in every run. */
uint32_t fault_hash(const char *name);

#endif

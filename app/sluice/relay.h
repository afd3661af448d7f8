/* SPDX-License-Identifier: BSD-3-Clause */
/* A relay: a thread that moves the packets of a port on which a worker might have to wait. */
#ifndef RELAY_H
#define RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_ring.h>

#include "virtq.h"

/*
 * Theory of operation
 *
 * In a post-copy migration a touch of the guest's memory may take as long as the network does to
 * bring the page. A worker that waited would keep its other ports waiting. So for the time of the
 * migration the port's rings belong to a thread of its own, and packets pass between it and the
 * workers in rte_rings, one for each queue and direction:
 *
 *	guest ring --- relay thread --- from_guest --- workers
 *	guest ring --- relay thread --- to_guest ----- workers
 *
 * Plans that know the relay have its rings where others have the guest's (PORT_RELAY). The thread
 * starts when every worker follows such a plan, and has ended before there is another one.
 */

struct relay;

/** @return NULL when memory is short. Control thread, as everything here but what workers do with
 * the rings. */
struct relay *relay_new(uint16_t queues);

/** What workers receive from, and send to. */
struct rte_ring *relay_from_guest(const struct relay *relay, unsigned queue);
struct rte_ring *relay_to_guest(const struct relay *relay, unsigned queue);

/** Let it poll these rings: nobody else does. @return 0 or a negative errno */
int relay_start(struct relay *relay, struct virtq *const *rx, struct virtq *const *tx);

/** Whether relay_start() was called. */
bool relay_runs(const struct relay *relay);

/** Have the thread end, if it runs, and wait for it. */
void relay_stop(struct relay *relay);

/** Have older ones freed with it. */
void relay_chain(struct relay *relay, struct relay *older);

/** When no worker knows it any more: free it and what packets it holds, and the older ones. */
void relay_free(struct relay *relay);

#endif

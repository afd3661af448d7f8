/* SPDX-License-Identifier: BSD-3-Clause */
/* Which worker polls which receive queue. */
#ifndef PLACEMENT_H
#define PLACEMENT_H

#include "port.h"

struct worker;

/*
 * A queue is given to a worker when it becomes usable and keeps it until it is not: the
 * one it is pinned to, or else the least loaded of those on the NUMA node of the guest's
 * memory (of all, if there is none), by how busy they were in the last second, then by
 * the number of queues. One that is late (plan_is_waiting()) is the last choice. A resting
 * worker (struct worker) gets none but those pinned to it. Nothing else moves by itself.
 * Control thread.
 */

/** Give every usable queue without a worker one; take it from those not usable. */
void placement_assign(struct sluice *sl);

/** Take every queue that is not pinned from its worker, so that the next plan deals them out
 * anew, by number of queues: other workers rest than before. */
void placement_deal(struct sluice *sl);

/** Pin a queue to a worker; the next plan moves it there. */
void placement_pin(struct port *port, unsigned queue, struct worker *w);

/** Unpin: it stays where it is, but may land elsewhere the next time it becomes usable. */
void placement_unpin(struct port *port, unsigned queue);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Workers that sleep when there is nothing to do: `set sleep`, and crowd.h. */
#ifndef SLEEP_H
#define SLEEP_H

#include <stdbool.h>
#include <stdint.h>

struct plan;
struct plan_worker;
struct port;
struct sluice;
struct worker;

/** Sleep until there may be something to do, unless there is already. The worker, between
 * iterations; its plan stays in use. */
void worker_sleep(struct worker *w, const struct plan *plan);

/* Control thread. */

/** Cycles it has slept so far. */
uint64_t worker_asleep(const struct worker *w, uint64_t now);

/** Wake all workers that sleep: there is a new plan, or the end. */
void workers_ring(const struct sluice *sl);

int worker_sleep_init(struct worker *w);
void worker_sleep_fini(struct worker *w);

/** Fill in what a worker needs to sleep under this plan, if it is to and can.
 * @return 0 or -ENOMEM */
int plan_worker_sleep(struct plan_worker *work, const struct worker *w);

/** How long it has to be idle before it sleeps, in microseconds; 0: it is not to sleep. */
uint32_t worker_sleep_us(const struct worker *w);

/** Whether its device has interrupted nobody though it should have, several times. */
bool port_misses_interrupts(const struct port *port);

/** Whether a packet for this port wakes who sleeps. */
bool port_can_wake(const struct port *port);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Placement: the least loaded worker near the guest's memory gets a new queue, unless it is late. */
#include "placement.h"

#include "sluice.h"

/* Differences in load below this many per mille are noise: the number of queues decides. */
#define LOAD_STEP 125

static unsigned queues_of(const struct sluice *sl, int worker)
{
	struct port *port;
	unsigned n = 0;

	PORT_FOREACH(sl, port)
	for (unsigned i = 0; i < port->n_rxq; i++)
		n += port->rxq[i].worker == worker;
	return n;
}

/* The most important first: it answers, it is near, it has time, it has few queues. */
static uint64_t cost_of(const struct sluice *sl, unsigned worker, int node)
{
	const struct worker *w = sl->workers[worker];

	return (uint64_t)plan_is_waiting(sl, w) << 63 | (uint64_t)(w->node != node) << 62 |
	       (uint64_t)(w->load / LOAD_STEP) << 32 | queues_of(sl, (int)worker);
}

static int least_loaded(const struct sluice *sl, int node)
{
	uint64_t best_cost = UINT64_MAX;
	int best = -1;

	for (unsigned i = 0; i < sl->n_workers; i++) {
		uint64_t cost = cost_of(sl, i, node);

		if (!sl->workers[i]->resting && cost < best_cost) {
			best_cost = cost;
			best = (int)i;
		}
	}
	return best;
}

static void place(struct port *port, struct port_rxq *q)
{
	if (!q->usable)
		q->worker = -1;
	else if (q->pin >= 0)
		q->worker = q->pin;
	else if (q->worker < 0)
		q->worker = (int16_t)least_loaded(port->sl, port->node);
}

void placement_assign(struct sluice *sl)
{
	struct port *port;

	PORT_FOREACH(sl, port)
	for (unsigned i = 0; i < port->n_rxq; i++)
		place(port, &port->rxq[i]);
}

void placement_deal(struct sluice *sl)
{
	struct port *port;

	PORT_FOREACH(sl, port)
	for (unsigned i = 0; i < port->n_rxq; i++)
		port->rxq[i].worker = -1;
	/* What they were busy with goes with the queues. */
	for (unsigned i = 0; i < sl->n_workers; i++)
		sl->workers[i]->load = 0;
}

void placement_pin(struct port *port, unsigned queue, struct worker *w)
{
	port->rxq[queue].pin = (int16_t)w->index;
}

void placement_unpin(struct port *port, unsigned queue)
{
	port->rxq[queue].pin = -1;
}

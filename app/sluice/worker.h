/* SPDX-License-Identifier: BSD-3-Clause */
/* A worker: one lcore that polls its streams. */
#ifndef WORKER_H
#define WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <rte_cycles.h>
#include <rte_mempool.h>
#include <rte_rcu_qsbr.h>

#include "crowd.h"
#include "fdb.h"
#include "plan.h"
#include "share.h"

struct vnet_soft;

/* What one worker did for one port. Written by the worker, read by anybody (virtq_load). */
struct worker_port {
	uint64_t drops[SWITCH_DROP_COUNT];
	uint64_t left_out; /* polls of its queues that were put off: share.h */
	struct share share;
};

/* Written by the worker, read by anybody (virtq_load). Cycles are rte_rdtsc()'s. */
struct worker_stats {
	uint64_t iterations;      /* rounds over all streams */
	uint64_t iterations_busy; /* that moved a packet */
	uint64_t packets;         /* received or made */
	uint64_t busy;            /* cycles in polls that moved packets and in flushes */
	uint64_t sleeps;          /* how often it slept */
	uint64_t asleep;          /* cycles in which it did */
	uint64_t asleep_since;    /* cycle count; 0: it is awake */
	uint64_t since;           /* cycle count when it began: total = now - since */
};

/* Packets waiting for a port until the end of the iteration. */
#define OUTPUT_MAX 64

/* Packets over guest memory were given to a device. Times are TSC's. */
struct lending {
	bool listed; /* its port is in worker.lending */
	bool fresh;  /* since forward_reclaim() looked */
	uint64_t given, asked;
};

struct output {
	uint16_t n;
	bool dirty; /* its port is in worker.dirty */
	struct lending lending;
	struct rte_mbuf *pkts[OUTPUT_MAX];
	uint16_t from[OUTPUT_MAX]; /* the port each came in by */
};

struct worker {
	/* Written by control before launch, then constant. */
	struct sluice *sl;
	struct plan *const *plan; /* the pointer plans are published by */
	struct rte_rcu_qsbr *rcu;
	const uint32_t *now; /* coarse seconds, written by control */
	const bool *quit;    /* written by control */
	struct rte_mempool *pool;
	struct vnet_soft *soft;
	uint16_t index; /* in sluice.workers and plan.workers; also its rcu thread id */
	unsigned lcore;
	int node;
	uint64_t us;    /* cycles in a microsecond */
	int doorbell;   /* eventfd: control has something for it */
	int interrupts; /* epoll instance for its devices' interrupts */

	/* Written by the worker when it begins, then constant. */
	pthread_t thread;
	bool runs; /* with release, after the others */

	/* The worker's own. */
	_Alignas(64) const struct plan_worker *work; /* its part of the plan, this iteration */
	struct worker_stats stats;
	uint64_t rand;
	struct output *outputs;    /* PORT_MAX */
	struct worker_port *ports; /* PORT_MAX */
	uint16_t *dirty;           /* numbers of the outputs that hold packets */
	uint16_t n_dirty;
	uint16_t n_lending;
	uint16_t *lending;   /* numbers of the devices that may hold what was lent */
	uint64_t idle_since; /* cycle count; 0: it is not idle */
	uint64_t stamp;      /* cycle count when it was read last, in this round */
	uint64_t unsettled;  /* cycles charged to ports since accounts were settled: share.h */
	uint16_t *working;   /* numbers of the ports they were charged to */
	uint16_t *left_out;  /* of those that are left out */
	uint16_t n_working, n_left_out;
	uint16_t n_halved; /* ports whose bursts are */
	uint16_t burst;    /* packets the next poll takes at most */
	struct fdb_cache fdb_cache;

	/* Control's. */
	_Alignas(64) uint64_t busy_before, time_before; /* when load was measured last */
	uint64_t asleep_before;                         /* stats.asleep then */
	uint32_t load, rest; /* per mille busy and asleep, over the last second */
	uint64_t busy_base;  /* stats.busy when the forward statistics were cleared */
	bool late;           /* was, when a plan waited for a second: see plan_is_waiting() */
	struct crowd crowd;
	bool resting; /* gets no queue but pinned ones: `set corelist`, `set nbcore` */
};

/** Serve every stream once. The worker. @return packets received or made */
uint32_t worker_iterate(struct worker *w, const struct plan *plan);

/** Make a worker for each lcore but the main one; none of them runs yet. Control thread.
 * @return 0, -ENOMEM, or -ENODEV: there is only the main lcore */
int workers_create(struct sluice *sl, char *why, size_t why_len);

/** Start them; a plan must be in force. Control thread. */
void workers_launch(struct sluice *sl);

/**
 * Have them finish and wait for it, some seconds at most. Control thread.
 * @param why	on failure one line
 * @return 0, or -ETIMEDOUT: one is still at work, or stopped in the midst of it
 */
int workers_stop(struct sluice *sl, char *why, size_t why_len);
void workers_destroy(struct sluice *sl);

/** The worker of an lcore, or NULL. */
struct worker *worker_of_lcore(const struct sluice *sl, unsigned lcore);

/** Measure the load of workers and queues; call once a second. Control thread. */
void workers_measure(struct sluice *sl);

static inline uint32_t worker_random(struct worker *w)
{
	w->rand ^= w->rand << 13;
	w->rand ^= w->rand >> 7;
	w->rand ^= w->rand << 17;
	return (uint32_t)(w->rand >> 32);
}

/* Packets over guest memory go to this port, a device. */
static inline void worker_lends(struct worker *w, uint16_t port)
{
	struct lending *l = &w->outputs[port].lending;

	l->fresh = true;
	if (l->listed)
		return;
	l->listed = true;
	w->lending[w->n_lending++] = port;
}

static inline void worker_drop(struct worker *w, uint16_t port, enum switch_drop why, uint64_t n)
{
	virtq_count(&w->ports[port].drops[why], n);
}

static inline void worker_charge(struct worker *w, uint16_t port, uint64_t cycles)
{
	struct share *s = &w->ports[port].share;

	if (s->used == 0)
		w->working[w->n_working++] = port;
	s->used += cycles;
	w->unsettled += cycles;
}

/* Cycles since the last look at the clock. */
static inline uint64_t worker_lap(struct worker *w)
{
	uint64_t before = w->stamp;

	w->stamp = rte_rdtsc();
	return w->stamp - before;
}

#endif

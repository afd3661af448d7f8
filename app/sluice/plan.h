/* SPDX-License-Identifier: BSD-3-Clause */
/* The plan: everything workers need to forward, as one immutable value. */
#ifndef PLAN_H
#define PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_ether.h>
#include <rte_spinlock.h>

#include "engine.h"
#include "port.h"

/*
 * Theory of operation
 *
 * Commands and vhost-user events edit ports and settings (struct port, struct sluice),
 * which only the control thread sees. plan_update() then builds a new plan from them,
 * publishes the pointer, waits until every worker has come round its loop once
 * (rte_rcu_qsbr), and frees the old plan. A worker loads the pointer once per iteration,
 * and holds neither packets nor pointers from one iteration to the next: so from then on,
 * when the plan has settled, nobody uses a queue, a port or a lock that only older ones knew.
 *
 * A worker may be late: its core is taken, or a debugger has stopped it. It is waited for
 * a second at most, and not at all by what vhost-user events cause. A timer then looks on;
 * until the plan settles the older plans stay, and the ports that were deleted wait.
 *
 * A receive queue has one consumer at a time. Where a queue goes from one worker to another,
 * the plan is partial: nobody polls it. When that one has settled, the whole one follows.
 *
 * A transmit queue is used without a lock only if one worker owns it in every plan:
 * there is one worker, or the device has a transmit queue for each. That holds whatever
 * the plan, so no transition has to care.
 */

/* Where a stream receives. */
struct source {
	enum port_kind kind;
	uint16_t eth, queue;    /* PORT_DEV; queue is the number people see for both */
	struct virtq *vq;       /* PORT_VM */
	struct rte_ring *relay; /* PORT_RELAY */
};

/* Where one worker, or one stream, sends what leaves by a port. */
struct outlet {
	enum port_kind kind;    /* PORT_NONE: there is no such port, or its device is left out */
	bool up;                /* a guest's ring runs, a device's link is up */
	uint16_t port;          /* its number */
	uint16_t eth, queue;    /* PORT_DEV; queue as in struct source */
	struct virtq *vq;       /* PORT_VM; a port without a usable ring has its first one here,
			       * which counts what is lost */
	struct rte_ring *relay; /* PORT_RELAY */
	rte_spinlock_t *lock;   /* NULL: nobody else sends there */
	uint64_t soften;        /* mbuf flags it cannot take as they are */
	uint64_t copy;          /* VNET_LENT_FLAGS of packets it must be given copies of */
	bool reclaim;           /* it keeps what it has sent until it is asked, or sends more */
	uint64_t offloads;      /* RTE_ETH_TX_OFFLOAD_* it takes */
	struct outlet_limits limits;
};

/* A receive queue a worker polls, and for pairwise engines where its packets go. */
struct stream {
	struct source rx;
	uint16_t port;                  /* where it receives */
	bool has_peer;                  /* tx is valid */
	struct outlet tx;               /* its partner, see enum engine_peer */
	bool direct;                    /* from one guest to another: forward_direct() */
	struct port_rxq *q;             /* counters; written by the polling worker only */
	struct rte_ether_addr src, dst; /* of engines mac, csum, txonly */
	uint64_t csum_hw;               /* engine csum: what it leaves to the outlet */
};

/* What one worker does. */
struct plan_worker {
	struct stream *streams;
	struct outlet *outlets; /* plan.n_ports of them, by port number */
	uint32_t n_streams;
	/* What it sleeps by, see sleep.c. The array is the worker's to write to. */
	struct pollfd *fds; /* NULL: it must not sleep */
	uint32_t n_fds, n_devs;
	uint32_t sleep_us; /* idle so long, it sleeps; 0: it must not */
};

struct plan {
	struct plan *older; /* control's: the one before, until this one has settled */
	uint64_t token;     /* control's: of rte_rcu_qsbr */
	bool partial;       /* a queue that goes to another worker is left out */
	const struct engine *engine;
	struct engine_conf conf;
	struct fdb *fdb;
	uint16_t n_ports; /* highest port number + 1 */
	uint16_t n_flood;
	uint16_t *flood; /* numbers of the devices, and of the VM ports with a running ring */
	uint16_t n_workers;
	struct plan_worker workers[];
};

/* All functions: control thread. */

/**
 * Build a plan from the state of the switch and put it in force; returns when every worker
 * follows it, or one has been late for a second: see plan_settled().
 *
 * @return 0, or -ENOMEM: the old plan goes on
 */
int plan_update(struct sluice *sl);

/** Whether every worker follows the newest plan. */
bool plan_settled(const struct sluice *sl);

/** Do what is to be done once they follow it. @return whether they do: no other plan is needed for that */
bool plan_advance(struct sluice *sl);

/** Whether this worker is one that a plan has waited for longer than a second, and is waiting
 * for still. */
bool plan_is_waiting(const struct sluice *sl, const struct worker *w);

/** A new plan at the end of this turn of the event loop, once, without waiting for workers. */
void plan_dirty(struct sluice *sl);

/** Try again if memory was short; call now and then. */
void plan_retry(struct sluice *sl);

/** The partner of a port under the configured engine and topology, or NULL. */
struct port *plan_peer(const struct sluice *sl, const struct port *port);

/** Its partner in the port list, as the topology pairs it; NULL if it is not in the list. */
struct port *plan_topology_peer(const struct sluice *sl, const struct port *port);

/** Whether the configured engine polls this port. */
bool plan_forwards(const struct sluice *sl, const struct port *port);

/** The ports of the port list, in the order of `set portlist` (default: by number). @return how
 * many */
unsigned plan_port_list(const struct sluice *sl, struct port *list[static PORT_MAX]);

/** The stream of a receive queue as the next plan would have it; q->worker must be set. */
struct stream plan_stream(struct port *port, unsigned queue);

int plan_init(struct sluice *sl);
void plan_fini(struct sluice *sl);

#endif

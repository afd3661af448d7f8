/* SPDX-License-Identifier: BSD-3-Clause */
/* The state of the running switch: what every command handler gets as cmd_ctx(). */
#ifndef SLUICE_H
#define SLUICE_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_log.h>
#include <rte_rcu_qsbr.h>

#include "options.h"
#include "plan.h"
#include "port.h"
#include "worker.h"

/*
 * Theory of operation
 *
 * The main lcore is the one control thread. It runs the libevent base: vhost-user
 * sockets, console, control socket, timers, signals. Every command handler and every
 * vhost-user callback runs there, so nothing in this struct needs a lock. All other lcores
 * are workers: they see the plan, their own struct worker, and nothing else.
 */

struct cmd_registry;
struct event;
struct event_base;

struct sluice {
	struct options opt;
	struct event_base *base;
	struct cmd_registry *commands;

	struct port *ports[PORT_MAX]; /* by number; NULL: free */
	uint16_t n_ports;             /* highest number in use + 1 */

	/* While another process hands over to us, or we to it: handover.h. */
	struct {
		bool dormant; /* VM ports are added dormant */
		bool given;   /* we own no VM port any more */
		bool idle;    /* workers have nothing to do and leave the CPU to the other's */
		char *origin; /* what the first of us was started with; NULL: too much */
		int number;   /* of the next port that is added; -1: the lowest that is free */
	} handover;

	/* What to forward and how; edit, then plan_update(). */
	const struct engine *engine;
	struct engine_conf conf;
	enum topology topology;
	bool has_portlist; /* false: all ports by number */
	uint16_t n_portlist;
	uint16_t portlist[PORT_MAX];
	bool forwarding;  /* between start and stop */
	bool show_cycles; /* `set record-core-cycles`: in the forward statistics */
	unsigned verbose; /* `set verbose`: above 0, what front-ends say is logged */

	struct worker **workers; /* n_workers */
	uint16_t n_workers;
	struct rte_rcu_qsbr *rcu;
	struct plan *plan; /* the newest; published with release order */
	struct event *plan_event, *plan_timer;
	bool plan_is_dirty;
	bool plan_late;       /* a worker is, and the log says so */
	uint64_t plan_since;  /* timer cycles: when the last settled plan was superseded */
	struct port *leaving; /* deleted, but a worker may still use them */

	struct fdb *fdb;
	struct rte_mempool *pools[RTE_MAX_NUMA_NODES]; /* NULL: no lcore on that node */

	struct event *tick; /* once a second */
	uint32_t now;       /* seconds, coarse; written by the tick, read by workers */
	bool quit;          /* written by control, read by workers */
};

/* What to do about too little of DPDK's memory. */
#define MORE_MEMORY                                                                           \
	"reserve more hugepages with usertools/setup, give --no-huge more with -m, or lower " \
	"--mbufs"

extern int sluice_logtype;

#define SL_LOG(level, fmt, ...) \
	rte_log(RTE_LOG_##level, sluice_logtype, "sluice: " fmt "\n", ##__VA_ARGS__)

/** Make everything and set the workers going; sl->opt is filled in, the rest zero.
 * @param why	on failure one line; sluice_close() is due all the same */
int sluice_open(struct sluice *sl, char *why, size_t why_len);

/**
 * End the workers, delete all ports, free everything.
 * @param why	on failure one line
 * @return 0, or -ETIMEDOUT: a worker does not end and may use anything, so nothing was freed,
 *	only the ports' socket files are gone; what is left to do is _exit()
 */
int sluice_close(struct sluice *sl, char *why, size_t why_len);

/** The mbuf pool of a NUMA node; of any node if it has none. Never NULL. */
struct rte_mempool *sluice_pool(const struct sluice *sl, int node);

/** Leave the event loop; main() then ends everything. */
void sluice_quit(struct sluice *sl);

/** Begin or end forwarding. @return 0 or -ENOMEM */
int sluice_start(struct sluice *sl);
int sluice_stop(struct sluice *sl);

/**
 * Have every stream send a number of txonly bursts, then begin forwarding (testpmd's
 * `start tx_first`).
 * @return 0, -ENOMEM, or -ETIME: not all was sent in a second; forwarding has begun anyway
 */
int sluice_start_tx_first(struct sluice *sl, uint32_t bursts);

#endif

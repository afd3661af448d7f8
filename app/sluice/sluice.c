/* SPDX-License-Identifier: BSD-3-Clause */
/* The running switch: its memory, its clock, starting and stopping. */
#include "sluice.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <event2/event.h>
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_malloc.h>

#include "virtq_gate.h"

/* Mbufs an lcore keeps to itself: a multiple of a burst, against the pool's lock-free ring. */
#define MBUF_CACHE 256

RTE_LOG_REGISTER(sluice_logtype, sluice, INFO);

/* ---- memory ---- */

struct rte_mempool *sluice_pool(const struct sluice *sl, int node)
{
	if (node >= 0 && node < RTE_MAX_NUMA_NODES && sl->pools[node])
		return sl->pools[node];
	for (node = 0; !sl->pools[node]; node++)
		;
	return sl->pools[node];
}

static int pool_create(struct sluice *sl, unsigned node, char *why, size_t why_len)
{
	char name[RTE_MEMPOOL_NAMESIZE];

	if (node >= RTE_MAX_NUMA_NODES || sl->pools[node])
		return 0;
	snprintf(name, sizeof(name), "mbufs%u", node);
	sl->pools[node] = rte_pktmbuf_pool_create(
		name, sl->opt.mbufs, MBUF_CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, (int)node);
	if (sl->pools[node])
		return 0;
	snprintf(why, why_len,
		"not enough memory for %u mbufs on NUMA node %u (%u MB): " MORE_MEMORY,
		sl->opt.mbufs, node, (unsigned)(sl->opt.mbufs / 1024 * 2.4));
	return -ENOMEM;
}

static int pools_create(struct sluice *sl, char *why, size_t why_len)
{
	unsigned lcore;
	int err = 0;

	RTE_LCORE_FOREACH(lcore)
	{
		if (err == 0)
			err = pool_create(sl, rte_lcore_to_socket_id(lcore), why, why_len);
	}
	return err;
}

static int rcu_create(struct sluice *sl)
{
	/* One more than workers: a size of none is not allowed. */
	uint32_t threads = rte_lcore_count();

	sl->rcu = rte_zmalloc("rcu", rte_rcu_qsbr_get_memsize(threads), RTE_CACHE_LINE_SIZE);
	if (!sl->rcu)
		return -ENOMEM;
	rte_rcu_qsbr_init(sl->rcu, threads);
	return 0;
}

static int fdb_open(struct sluice *sl)
{
	struct fdb_conf conf = {.ports = PORT_MAX, .socket = SOCKET_ID_ANY, .rcu = sl->rcu};

	return fdb_create(&conf, &sl->fdb);
}

/* ---- the clock ---- */

static uint32_t coarse_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint32_t)ts.tv_sec + 1; /* never 0, which is "not seen" in the fdb */
}

static void tick(int fd, short what, void *arg)
{
	struct sluice *sl = arg;
	struct port *port;

	virtq_store(&sl->now, coarse_seconds());
	workers_measure(sl);
	if (crowd_measure(sl))
		plan_dirty(sl);
	vnet_lenders_reap();
	fdb_age(sl->fdb, sl->now);
	PORT_FOREACH(sl, port)
	{
		if (port->kind == PORT_DEV)
			port_refresh(port);
		else
			port_vm_node_tick(port);
	}
	plan_retry(sl);
}

static int tick_start(struct sluice *sl)
{
	const struct timeval second = {.tv_sec = 1};

	sl->now = coarse_seconds();
	sl->tick = event_new(sl->base, -1, EV_PERSIST, tick, sl);
	return sl->tick && event_add(sl->tick, &second) == 0 ? 0 : -ENOMEM;
}

/* ---- life ---- */

/* A guest brings two descriptors for each ring and one for each piece of its memory. */
static void allow_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int sluice_open(struct sluice *sl, char *why, size_t why_len)
{
	int err;

	sl->handover.number = -1;
	sl->handover.idle = sl->opt.take_over != NULL;
	allow_descriptors();
	virtq_gate_init();
	sl->engine = sl->opt.engine;
	sl->conf = sl->opt.conf;
	sl->topology = sl->opt.topology;
	sl->show_cycles = sl->opt.show_cycles;
	sl->forwarding = !sl->opt.stopped;
	err = vnet_init(why, why_len);
	if (err == 0)
		err = pools_create(sl, why, why_len);
	if (err < 0)
		return err;
	port_dev_ready(); /* if there is no memory for that, there may be later */
	snprintf(why, why_len, "not enough memory to start");
	sl->base = event_base_new();
	if (!sl->base || rcu_create(sl) < 0 || fdb_open(sl) < 0)
		return -ENOMEM;
	err = workers_create(sl, why, why_len);
	if (err < 0)
		return err;
	if (plan_init(sl) < 0 || tick_start(sl) < 0)
		return -ENOMEM;
	workers_launch(sl);
	return 0;
}

/* Devices first, which hold what guests have lent. */
static void ports_close(struct sluice *sl)
{
	struct port *port, *next;

	for (port = port_next(sl, NULL); port; port = next) {
		next = port_next(sl, port);
		if (port->kind == PORT_DEV && port_del(port) == -ENOMEM)
			return; /* not even to leave tidily */
	}
	while ((port = port_next(sl, NULL)) != NULL) {
		if (port->kind == PORT_VM)
			vu_device_leave(port->vm.dev);
		if (port_del(port) == -ENOMEM)
			return;
	}
}

int sluice_close(struct sluice *sl, char *why, size_t why_len)
{
	if (workers_stop(sl, why, why_len) < 0) {
		ports_abandon(sl);
		return -ETIMEDOUT;
	}
	ports_close(sl);
	plan_fini(sl);
	workers_destroy(sl);
	fdb_destroy(sl->fdb);
	rte_free(sl->rcu);
	if (sl->tick)
		event_free(sl->tick);
	for (unsigned i = 0; i < RTE_MAX_NUMA_NODES; i++)
		rte_mempool_free(sl->pools[i]);
	if (sl->base)
		event_base_free(sl->base);
	return 0;
}

void sluice_quit(struct sluice *sl)
{
	event_base_loopexit(sl->base, NULL);
}

/* ---- forwarding ---- */

static int set_forwarding(struct sluice *sl, bool on)
{
	bool before = sl->forwarding;
	int err;

	sl->forwarding = on;
	err = plan_update(sl);
	if (err < 0)
		sl->forwarding = before;
	return err;
}

int sluice_start(struct sluice *sl)
{
	return set_forwarding(sl, true);
}

int sluice_stop(struct sluice *sl)
{
	return set_forwarding(sl, false);
}

/* Streams of this plan that have not sent their bursts yet. */
static bool tx_first_under_way(const struct sluice *sl)
{
	for (unsigned i = 0; i < sl->plan->n_workers; i++) {
		const struct plan_worker *work = &sl->plan->workers[i];

		for (unsigned s = 0; s < work->n_streams; s++)
			if (virtq_load(&work->streams[s].q->tx_first) < sl->plan->conf.tx_first)
				return true;
	}
	return false;
}

static int tx_first_wait(const struct sluice *sl)
{
	uint64_t deadline = rte_get_timer_cycles() + rte_get_timer_hz();

	while (tx_first_under_way(sl)) {
		if (rte_get_timer_cycles() > deadline)
			return -ETIME;
		sched_yield();
	}
	return 0;
}

static void tx_first_reset(struct sluice *sl)
{
	struct port *port;

	PORT_FOREACH(sl, port)
	for (unsigned i = 0; i < port->n_rxq; i++)
		port->rxq[i].tx_first = 0;
}

int sluice_start_tx_first(struct sluice *sl, uint32_t bursts)
{
	const struct engine *engine = sl->engine;
	int err = sluice_stop(sl), late;

	if (err < 0)
		return err;
	tx_first_reset(sl);
	sl->engine = &engine_txonly;
	sl->conf.tx_first = bursts;
	err = sluice_start(sl);
	late = err < 0 ? 0 : tx_first_wait(sl);
	sl->engine = engine;
	sl->conf.tx_first = 0;
	if (err == 0)
		err = sluice_start(sl);
	return err < 0 ? err : late;
}

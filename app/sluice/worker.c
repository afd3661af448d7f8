/* SPDX-License-Identifier: BSD-3-Clause */
/* Workers: the polling loop, their life, and how busy they are. */
#include "worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>

#include "forward.h"
#include "sleep.h"
#include "sluice.h"
#include "vnet.h"

/* How long the end waits for them. */
#define STOP_SECONDS 5

/* Iterations between two looks at what devices hold. */
#define RECLAIM_EVERY 16

/* ---- the loop ---- */

/*
 * The clock is read once a poll, for two reasons: polls that moved packets are what a worker is busy
 * with, and all that cost something are charged to the port.
 */
static inline uint16_t poll_stream(
	struct worker *w, const struct plan *plan, const struct stream *st, uint64_t *busy)
{
	uint16_t n = plan->engine->poll(w, plan, st);
	uint64_t cycles = worker_lap(w);

	/* An idle poll of a device may be a system call. */
	if (n == 0 && (likely(cycles < SHARE_DEAR) || st->rx.kind == PORT_DEV))
		return 0;
	worker_charge(w, st->port, cycles);
	if (n == 0)
		return 0;
	virtq_count(&st->q->stats.cycles, cycles);
	virtq_count(&st->q->stats.bursts, 1);
	*busy += cycles;
	return n;
}

/* Not polled now, or with care: w->burst. */
static bool is_left_out(struct worker *w, const struct plan *plan, uint16_t port)
{
	struct worker_port *at = &w->ports[port];

	if (at->share.left_out)
		virtq_count(&at->left_out, 1);
	else
		w->burst = share_burst(w, plan, port);
	return at->share.left_out;
}

static uint32_t poll_streams(struct worker *w, const struct plan *plan, uint64_t *busy)
{
	const struct plan_worker *work = w->work;
	uint32_t moved = 0;

	for (uint32_t i = 0; i < work->n_streams; i++) {
		const struct stream *st = &work->streams[i];

		if (unlikely(w->n_left_out | w->n_halved) && is_left_out(w, plan, st->port))
			continue;
		moved += poll_stream(w, plan, st, busy);
	}
	return moved;
}

static uint32_t poll_port(struct worker *w, const struct plan *plan, uint16_t port, uint64_t *busy)
{
	uint32_t moved = 0;

	for (uint32_t i = 0; i < w->work->n_streams; i++)
		if (w->work->streams[i].port == port)
			moved += poll_stream(w, plan, &w->work->streams[i], busy);
	return moved;
}

/* Nobody else had work. */
static __rte_noinline uint32_t poll_left_out(
	struct worker *w, const struct plan *plan, uint64_t *busy)
{
	uint64_t begin = w->stamp, limit = plan->conf.share_us * w->us;
	uint32_t moved = 0;

	for (uint16_t i = w->n_left_out; i > 0 && w->stamp - begin <= limit; i--) {
		uint64_t before = w->unsettled;
		uint16_t port = share_next(w);

		w->burst = share_burst(w, plan, port);
		moved += poll_port(w, plan, port, busy);
		if (w->unsettled == before)
			share_forgive(w, port);
	}
	return moved;
}

uint32_t worker_iterate(struct worker *w, const struct plan *plan)
{
	uint64_t busy = 0, before = w->unsettled;
	uint32_t moved;

	w->work = &plan->workers[w->index];
	w->burst = plan->conf.burst;
	w->stamp = rte_rdtsc(); /* what was between two rounds is nobody's */
	moved = poll_streams(w, plan, &busy);
	if (unlikely(w->n_left_out) && w->unsettled == before)
		moved += poll_left_out(w, plan, &busy);
	if (w->n_dirty)
		busy += forward_flush_all(w, plan);
	if (w->unsettled > before && w->unsettled * SHARE_SETTLE >= plan->conf.share_us * w->us)
		share_settle(w, plan);
	if (unlikely(w->n_lending) && w->stats.iterations % RECLAIM_EVERY == 0)
		forward_reclaim(w, plan);
	virtq_count(&w->stats.iterations, 1);
	if (moved) {
		virtq_count(&w->stats.iterations_busy, 1);
		virtq_count(&w->stats.packets, moved);
		virtq_count(&w->stats.busy, busy);
	} else if (w->work->n_streams == 0) {
		rte_pause();
	}
	return moved;
}

/* Idle long enough to sleep? Asked after every iteration of who may. */
static bool is_tired(struct worker *w, uint32_t moved)
{
	uint64_t now;

	if (moved) {
		w->idle_since = 0;
		return false;
	}
	now = rte_rdtsc();
	if (w->idle_since == 0)
		w->idle_since = now;
	return now - w->idle_since >= w->work->sleep_us * w->us;
}

static void serve(struct worker *w, const struct plan *plan)
{
	uint32_t moved = worker_iterate(w, plan);

	if (unlikely(w->work->sleep_us) && is_tired(w, moved)) {
		worker_sleep(w, plan);
		w->idle_since = 0;
	}
}

static int worker_main(void *arg)
{
	struct worker *w = arg;

	rte_rcu_qsbr_thread_register(w->rcu, w->index);
	rte_rcu_qsbr_thread_online(w->rcu, w->index);
	w->thread = pthread_self();
	virtq_store_release(&w->runs, true);
	virtq_store(&w->stats.since, rte_rdtsc());
	while (!virtq_load(w->quit)) {
		serve(w, virtq_load_acquire(w->plan));
		rte_rcu_qsbr_quiescent(w->rcu, w->index);
	}
	rte_rcu_qsbr_thread_offline(w->rcu, w->index);
	rte_rcu_qsbr_thread_unregister(w->rcu, w->index);
	return 0;
}

/* ---- life ---- */

static void *worker_zalloc(size_t size, int node)
{
	void *p = rte_zmalloc_socket("worker", size, RTE_CACHE_LINE_SIZE, node);

	return p ? p : rte_zmalloc("worker", size, RTE_CACHE_LINE_SIZE);
}

static void worker_free(struct worker *w)
{
	if (!w)
		return;
	if (w->soft)
		vnet_soft_destroy(w->soft);
	worker_sleep_fini(w);
	rte_free(w->outputs);
	rte_free(w->ports);
	rte_free(w->dirty);
	rte_free(w->lending);
	rte_free(w->working);
	rte_free(w->left_out);
	rte_free(w);
}

static struct worker *worker_new(struct sluice *sl, unsigned lcore, uint16_t index)
{
	int node = (int)rte_lcore_to_socket_id(lcore);
	struct worker *w = worker_zalloc(sizeof(*w), node);
	char name[RTE_MEMPOOL_NAMESIZE];

	if (!w)
		return NULL;
	snprintf(name, sizeof(name), "soft%u", index);
	w->sl = sl;
	w->plan = &sl->plan;
	w->rcu = sl->rcu;
	w->now = &sl->now;
	w->quit = &sl->quit;
	w->pool = sluice_pool(sl, node);
	w->index = index;
	w->lcore = lcore;
	w->node = node;
	w->us = rte_get_tsc_hz() / US_PER_S;
	w->rand = rte_rdtsc() | 1;
	w->outputs = worker_zalloc(PORT_MAX * sizeof(*w->outputs), node);
	w->ports = worker_zalloc(PORT_MAX * sizeof(*w->ports), node);
	w->dirty = worker_zalloc(PORT_MAX * sizeof(*w->dirty), node);
	w->lending = worker_zalloc(PORT_MAX * sizeof(*w->lending), node);
	w->working = worker_zalloc(PORT_MAX * sizeof(*w->working), node);
	w->left_out = worker_zalloc(PORT_MAX * sizeof(*w->left_out), node);
	w->soft = vnet_soft_create(name, node);
	if (worker_sleep_init(w) < 0 || !w->outputs || !w->ports || !w->dirty || !w->lending ||
		!w->working || !w->left_out || !w->soft) {
		worker_free(w);
		return NULL;
	}
	return w;
}

int workers_create(struct sluice *sl, char *why, size_t why_len)
{
	unsigned lcore;

	if (rte_lcore_count() < 2) {
		snprintf(why, why_len,
			"no lcore left to forward packets: give two or more, as in -l 0,1");
		return -ENODEV;
	}
	sl->workers = calloc(rte_lcore_count() - 1, sizeof(*sl->workers));
	RTE_LCORE_FOREACH_WORKER (lcore) {
		struct worker *w = sl->workers ? worker_new(sl, lcore, sl->n_workers) : NULL;

		if (!w) {
			snprintf(why, why_len, "not enough memory for the worker on lcore %u",
				lcore);
			return -ENOMEM;
		}
		sl->workers[sl->n_workers++] = w;
	}
	return 0;
}

void workers_launch(struct sluice *sl)
{
	for (unsigned i = 0; i < sl->n_workers; i++)
		rte_eal_remote_launch(worker_main, sl->workers[i], sl->workers[i]->lcore);
}

static const struct worker *first_running(const struct sluice *sl)
{
	for (unsigned i = 0; i < sl->n_workers; i++)
		if (rte_eal_get_lcore_state(sl->workers[i]->lcore) == RUNNING)
			return sl->workers[i];
	return NULL;
}

int workers_stop(struct sluice *sl, char *why, size_t why_len)
{
	uint64_t deadline = rte_get_timer_cycles() + STOP_SECONDS * rte_get_timer_hz();
	const struct worker *w;

	virtq_store(&sl->quit, true);
	workers_ring(sl);
	while ((w = first_running(sl)) != NULL) {
		if (rte_get_timer_cycles() > deadline) {
			snprintf(why, why_len,
				"ended without the worker on lcore %u, which has not come round "
				"for %u seconds: is its core taken, or its thread stopped?",
				w->lcore, STOP_SECONDS);
			return -ETIMEDOUT;
		}
		usleep(1000);
	}
	rte_eal_mp_wait_lcore();
	return 0;
}

void workers_destroy(struct sluice *sl)
{
	for (unsigned i = 0; i < sl->n_workers; i++)
		worker_free(sl->workers[i]);
	free(sl->workers);
	sl->workers = NULL;
	sl->n_workers = 0;
}

struct worker *worker_of_lcore(const struct sluice *sl, unsigned lcore)
{
	for (unsigned i = 0; i < sl->n_workers; i++)
		if (sl->workers[i]->lcore == lcore)
			return sl->workers[i];
	return NULL;
}

/* ---- how busy ---- */

static uint32_t per_mille(uint64_t part, uint64_t whole)
{
	return whole ? (uint32_t)RTE_MIN(part * 1000 / whole, UINT64_C(1000)) : 0;
}

static void worker_measure(struct worker *w, uint64_t now)
{
	uint64_t busy = virtq_load(&w->stats.busy);

	uint64_t asleep = RTE_MAX(worker_asleep(w, now), w->asleep_before);

	w->load = per_mille(busy - w->busy_before, now - w->time_before);
	w->rest = per_mille(asleep - w->asleep_before, now - w->time_before);
	w->busy_before = busy;
	w->asleep_before = asleep;
	w->time_before = now;
}

static void rxq_measure(struct port_rxq *q, uint64_t elapsed)
{
	uint64_t cycles = virtq_load(&q->stats.cycles);

	q->load = per_mille(cycles - q->cycles_before, elapsed);
	q->cycles_before = cycles;
}

void workers_measure(struct sluice *sl)
{
	uint64_t now = rte_rdtsc(), elapsed;
	struct port *port;

	if (sl->n_workers == 0)
		return;
	elapsed = now - sl->workers[0]->time_before;
	PORT_FOREACH(sl, port)
	for (unsigned i = 0; i < port->n_rxq; i++)
		rxq_measure(&port->rxq[i], elapsed);
	for (unsigned i = 0; i < sl->n_workers; i++)
		worker_measure(sl->workers[i], now);
}

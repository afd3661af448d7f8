/* SPDX-License-Identifier: BSD-3-Clause */
/* A relay: a thread that moves the packets of a port on which a worker might have to wait. */
#include "relay.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_lcore.h>
#include <rte_mbuf.h>

#include "dpdk_compat.h"
#include "vnet.h"

#define RING_SIZE 1024
#define IDLE_US   50

struct relay_queue {
	struct virtq *rx, *tx;
	struct rte_ring *from_guest, *to_guest;
};

struct relay {
	struct relay *older;
	dpdk_thread thread;
	bool runs, stop;
	uint16_t n;
	struct relay_queue queue[];
};

/* ---- the thread ---- */

/* What finds no room is lost as in a device whose queue is full; the guest sees it as sent. */
static uint16_t move_from(struct relay_queue *q)
{
	struct rte_mbuf *pkts[VIRTQ_BURST];
	uint16_t n = (uint16_t)RTE_MIN(rte_ring_free_count(q->from_guest), VIRTQ_BURST), done;

	n = n ? vnet_dequeue(q->rx, pkts, n) : 0;
	if (n == 0)
		return 0;
	done = (uint16_t)rte_ring_enqueue_burst(q->from_guest, (void **)pkts, n, NULL);
	vnet_free_bulk(pkts + done, n - done); /* none: it is the only producer */
	return n;
}

static uint16_t move_to(struct relay_queue *q)
{
	struct rte_mbuf *pkts[VIRTQ_BURST];
	uint16_t n =
		(uint16_t)rte_ring_dequeue_burst(q->to_guest, (void **)pkts, VIRTQ_BURST, NULL);
	uint16_t done;

	if (n == 0)
		return 0;
	done = vnet_enqueue(q->tx, pkts, n);
	if (done < n)
		vnet_give_up(q->tx, n - done);
	vnet_free_bulk(pkts, n);
	return n;
}

static dpdk_thread_ret relay_main(void *arg)
{
	struct relay *r = arg;

	while (!virtq_load(&r->stop)) {
		uint32_t moved = 0;

		for (unsigned i = 0; i < r->n; i++)
			moved += move_from(&r->queue[i]) + move_to(&r->queue[i]);
		if (moved == 0)
			usleep(IDLE_US);
	}
	return 0;
}

/* ---- control ---- */

/* Unique, because one relay may begin before the last one's plan has gone. */
static struct rte_ring *ring_new(void)
{
	static unsigned serial;
	char name[RTE_RING_NAMESIZE];

	snprintf(name, sizeof(name), "relay%u", serial++);
	return rte_ring_create(name, RING_SIZE, SOCKET_ID_ANY, 0);
}

struct relay *relay_new(uint16_t queues)
{
	struct relay *r = calloc(1, sizeof(*r) + queues * sizeof(r->queue[0]));

	if (!r)
		return NULL;
	r->n = queues;
	for (unsigned i = 0; i < queues; i++) {
		r->queue[i].from_guest = ring_new();
		r->queue[i].to_guest = ring_new();
		if (!r->queue[i].from_guest || !r->queue[i].to_guest) {
			relay_free(r);
			return NULL;
		}
	}
	return r;
}

struct rte_ring *relay_from_guest(const struct relay *r, unsigned queue)
{
	return r->queue[queue].from_guest;
}

struct rte_ring *relay_to_guest(const struct relay *r, unsigned queue)
{
	return r->queue[queue].to_guest;
}

int relay_start(struct relay *r, struct virtq *const *rx, struct virtq *const *tx)
{
	int err;

	for (unsigned i = 0; i < r->n; i++) {
		r->queue[i].rx = rx[i];
		r->queue[i].tx = tx[i];
	}
	err = dpdk_thread_create(&r->thread, "sluice-relay", relay_main, r);
	r->runs = err == 0;
	return err;
}

bool relay_runs(const struct relay *r)
{
	return r->runs;
}

void relay_stop(struct relay *r)
{
	if (!r->runs)
		return;
	virtq_store(&r->stop, true);
	dpdk_thread_join(r->thread);
	r->runs = false;
}

static void empty(struct rte_ring *ring)
{
	void *pkt;

	while (ring && rte_ring_dequeue(ring, &pkt) == 0)
		rte_pktmbuf_free(pkt);
	rte_ring_free(ring);
}

void relay_chain(struct relay *r, struct relay *older)
{
	r->older = older;
}

void relay_free(struct relay *r)
{
	while (r) {
		struct relay *older = r->older;

		for (unsigned i = 0; i < r->n; i++) {
			empty(r->queue[i].from_guest);
			empty(r->queue[i].to_guest);
		}
		free(r);
		r = older;
	}
}

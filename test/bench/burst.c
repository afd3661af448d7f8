/* SPDX-License-Identifier: BSD-3-Clause */
/* What one burst costs with everything in the cache: cycles, or instructions under callgrind. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_mbuf.h>

#include "measure.h"
#include "ring_guest.h"
#include "virtq_inflight.h"
#include "vnet.h"

/*
 * Theory of operation
 *
 * Guest and back-end are one thread, so nothing here waits for another CPU's cache: what remains is
 * the bursts' own instructions, which other programs on the machine hardly disturb. Only full bursts
 * are offered.
 *
 *	burst					cycles a packet, median of all bursts; a hop is a
 *						dequeue, an enqueue to another guest, and freeing
 *	valgrind --tool=callgrind --toggle-collect=timed_burst burst enqueue 64 packed
 *						instructions; divide by the packets it reports
 */

#define RING   256
#define BURST  32
#define ROOM   2240
#define ROUNDS 20000

struct bench {
	struct ring_guest guest;
	struct vnet_rx_conf rx;
	struct vnet_lender *lender; /* NULL: copy */
	bool enqueue, recorded;
	uint16_t size; /* of a frame */
};

/* What is asked for on the command line. */
struct ask {
	bool mergeable, packed, recorded, lent;
	uint16_t size;
};

__attribute__((noinline)) static uint16_t timed_burst(struct virtq *vq, struct rte_mbuf **pkts)
{
	return virtq_burst(vq, (void **)pkts, BURST);
}

/* The guest makes a burst available. */
static void offer(struct bench *b)
{
	ring_guest_offer(&b->guest, BURST);
}

/* A record as vu_state.c makes it. */
static void record(struct virtq_view *view)
{
	const uint64_t size = virtq_inflight_size(1, RING, view->packed);
	int fd = virtq_inflight_create(size);
	char why[160];

	if (fd < 0 || virtq_inflight_map(fd, size, 0, 1, RING, view->packed, &view->inflight, why,
			      sizeof(why)) != 0)
		die("no memory for a record");
	close(fd);
	view->inflight_ring = virtq_inflight_ring(view->inflight, 0, RING, view->packed);
	view->tracked = true;
}

static void open_bench(struct bench *b)
{
	struct virtq_view view = ring_guest_init(&b->guest);

	if (b->recorded)
		record(&view);
	vnet_prepare(&view, b->enqueue ? NULL : &b->rx);
	if (b->lender)
		vnet_lend(&view, b->lender, VNET_LEND_ALL);
	ring_guest_start(&b->guest, &view);
}

static void close_bench(struct bench *b)
{
	ring_guest_fini(&b->guest);
}

static void fill(struct rte_mbuf **pkts, struct bench *b)
{
	if (rte_pktmbuf_alloc_bulk(b->rx.pool, pkts, BURST) != 0)
		die("out of mbufs");
	for (unsigned i = 0; i < BURST; i++) {
		pkts[i]->data_len = b->size;
		pkts[i]->pkt_len = b->size;
	}
}

static double median_cycles(struct bench *b, double *took)
{
	struct rte_mbuf *pkts[BURST];

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t start;
		uint16_t done;

		if (b->enqueue)
			fill(pkts, b);
		offer(b);
		start = rte_rdtsc_precise();
		done = timed_burst(b->guest.vq, pkts);
		took[i] = (double)(rte_rdtsc_precise() - start);
		if (done != BURST)
			die("a burst was not full");
		vnet_free_bulk(pkts, BURST);
	}
	return quantile(took, ROUNDS, 0.5) / BURST;
}

/* From one guest to another, all that is done for a burst. */
__attribute__((noinline)) static void timed_hop(struct bench *from, struct bench *to)
{
	struct rte_mbuf *pkts[BURST];

	if (virtq_burst(from->guest.vq, (void **)pkts, BURST) != BURST ||
		virtq_burst(to->guest.vq, (void **)pkts, BURST) != BURST)
		die("a burst was not full");
	vnet_free_bulk(pkts, BURST);
}

static void tell(const char *what, const struct ask *ask, double cycles)
{
	printf("%-7s %5u %-6s %-9s %-4s %6.1f TSC cycles a packet, %d packets\n", what, ask->size,
		ask->packed ? "packed" : "split", ask->mergeable ? "mergeable" : "",
		ask->lent ? "lent" : "", cycles, ROUNDS * BURST);
}

static struct bench bench_of(struct rte_mempool *pool, const struct ask *ask, bool enqueue)
{
	return (struct bench){.guest = {.num = RING,
				      .room = ROOM,
				      .size = enqueue ? 0 : ask->size,
				      .packed = ask->packed,
				      .mergeable = ask->mergeable},
		.enqueue = enqueue,
		.recorded = ask->recorded,
		.size = ask->size,
		.rx = {.pool = pool}};
}

static void run_hop(struct rte_mempool *pool, const struct ask *ask)
{
	struct bench from = bench_of(pool, ask, false), to = bench_of(pool, ask, true);
	double *took = calloc(ROUNDS, sizeof(*took));
	uint64_t start;

	if (ask->lent)
		from.lender = vnet_lender_create(RING / 2, SOCKET_ID_ANY);
	if (!took || (ask->lent && !from.lender))
		die("out of memory");
	open_bench(&from);
	open_bench(&to);
	for (unsigned i = 0; i < ROUNDS; i++) {
		offer(&from);
		offer(&to);
		start = rte_rdtsc_precise();
		timed_hop(&from, &to);
		took[i] = (double)(rte_rdtsc_precise() - start);
	}
	tell("hop", ask, quantile(took, ROUNDS, 0.5) / BURST);
	free(took);
	vnet_lender_release(from.lender);
	close_bench(&from);
	close_bench(&to);
}

/* A ring whose guest sends nothing: what a port costs that has nothing to do. */
static void run_idle(struct rte_mempool *pool)
{
	const struct ask ask = {.size = 64};
	struct bench b = bench_of(pool, &ask, false);
	struct rte_mbuf *pkts[BURST];
	uint64_t start, took, best = UINT64_MAX;

	open_bench(&b);
	for (unsigned i = 0; i < 1000; i++) {
		start = rte_rdtsc_precise();
		for (unsigned k = 0; k < 1000; k++)
			timed_burst(b.guest.vq, pkts);
		took = rte_rdtsc_precise() - start;
		best = RTE_MIN(best, took);
	}
	printf("idle                            %6.1f TSC cycles a poll\n", (double)best / 1000);
	close_bench(&b);
}

static void run_one(struct rte_mempool *pool, const struct ask *ask, bool enqueue)
{
	struct bench b = bench_of(pool, ask, enqueue);
	double *took = calloc(ROUNDS, sizeof(*took));

	if (!took)
		die("out of memory");
	open_bench(&b);
	tell(enqueue ? "enqueue" : "dequeue", ask, median_cycles(&b, took));
	close_bench(&b);
	free(took);
}

/* False: nothing has this name. */
static bool run(struct rte_mempool *pool, const char *what, const struct ask *ask)
{
	if (strcmp(what, "hop") == 0)
		run_hop(pool, ask);
	else if (strcmp(what, "enqueue") == 0 || strcmp(what, "dequeue") == 0)
		run_one(pool, ask, what[0] == 'e');
	else
		return false;
	return true;
}

static void run_all(struct rte_mempool *pool)
{
	static const uint16_t sizes[] = {64, 256, 1500};

	run_idle(pool);
	for (unsigned i = 0; i < 2 * RTE_DIM(sizes); i++) {
		struct ask ask = {.size = sizes[i / 2], .packed = i & 1};

		run(pool, "dequeue", &ask);
		run(pool, "enqueue", &ask);
		run(pool, "hop", &ask);
		ask.lent = true;
		run(pool, "hop", &ask);
		ask = (struct ask){.size = ask.size, .packed = ask.packed, .mergeable = true};
		run(pool, "enqueue", &ask);
	}
}

static struct rte_mempool *start_dpdk(void)
{
	static char options[] = "burst\0--no-huge\0--no-pci\0--no-shconf\0-m\0"
				"64\0--lcores=0\0--log-level=error\0--no-telemetry\0";
	char *argv[16];
	int argc = 0;
	struct rte_mempool *pool;

	for (char *word = options; *word != '\0'; word += strlen(word) + 1)
		argv[argc++] = word;
	if (rte_eal_init(argc, argv) < 0)
		die("EAL does not start");
	pool = rte_pktmbuf_pool_create("burst", 4095, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	if (!pool)
		die("no memory for mbufs");
	return pool;
}

static bool parse(int argc, char **argv, struct ask *ask)
{
	if (argc < 3 || atoi(argv[2]) < 60 || atoi(argv[2]) > 1514)
		return false;
	ask->size = (uint16_t)atoi(argv[2]);
	for (int i = 3; i < argc; i++) {
		if (strcmp(argv[i], "mergeable") == 0)
			ask->mergeable = true;
		else if (strcmp(argv[i], "packed") == 0)
			ask->packed = true;
		else if (strcmp(argv[i], "recorded") == 0)
			ask->recorded = true;
		else if (strcmp(argv[i], "lent") == 0 && strcmp(argv[1], "hop") == 0)
			ask->lent = true;
		else
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct rte_mempool *pool;
	struct ask ask = {0};

	if (argc > 1 && !parse(argc, argv, &ask)) {
		fputs("usage: burst [dequeue|enqueue|hop SIZE(60-1514) [packed] [mergeable] "
		      "[recorded] [lent]]\n",
			stderr);
		return 2;
	}
	pool = start_dpdk();
	if (argc == 1)
		run_all(pool);
	else if (!run(pool, argv[1], &ask))
		die("dequeue, enqueue or hop");
	return rte_eal_cleanup();
}

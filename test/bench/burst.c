/* SPDX-License-Identifier: BSD-3-Clause */
/* What one burst costs with everything in the cache: cycles, or instructions under callgrind. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_mbuf.h>

#include "vnet.h"

/*
 * Theory of operation
 *
 * Guest and back-end are one thread, so nothing here waits for another CPU's cache: what remains is
 * the bursts' own instructions, which other programs on the machine hardly disturb. The guest is the
 * simplest there is: buffer i has descriptor i, and only full bursts are offered.
 *
 *	burst					cycles a packet, median of all bursts; a hop is a
 *						dequeue, an enqueue to another guest, and freeing
 *	valgrind --tool=callgrind --toggle-collect=timed_burst burst enqueue 64 0
 *						instructions; divide by the packets it reports
 */

#define RING   256
#define BURST  32
#define BUFFER 2368 /* an odd number of lines, lest all headers share a few sets of the cache */
#define ROUNDS 20000
#define HDR    sizeof(struct virtio_net_hdr_v1)

/* The guest's memory, one region at this address. */
#define GUEST_GPA 0x100000000ull
struct guest {
	_Alignas(4096) struct vring_desc desc[RING];
	_Alignas(4096) uint16_t avail[RING + 4];
	_Alignas(4096) uint8_t used[8 * RING + 8];
	_Alignas(4096) uint8_t buffer[RING][BUFFER];
};

struct bench {
	struct guest *guest;
	struct virtq *vq;
	struct virtq_view *view;
	struct vnet_rx_conf rx;
	struct vnet_lender *lender; /* NULL: copy */
	bool enqueue;
	uint16_t size; /* of a frame */
};

__attribute__((noinline)) static uint16_t timed_burst(struct virtq *vq, struct rte_mbuf **pkts)
{
	return virtq_burst(vq, (void **)pkts, BURST);
}

static void die(const char *what)
{
	fprintf(stderr, "burst: %s\n", what);
	exit(1);
}

/* Where a DPDK guest has its packets: at the beginning of a line, the header in the one before. */
static uint64_t buffer_offset(unsigned i)
{
	return offsetof(struct guest, buffer) + (uint64_t)i * BUFFER + 128 - HDR;
}

static void make_view(struct bench *b, bool mergeable)
{
	struct virtq_mem *mem = calloc(1, sizeof(*mem) + 2 * sizeof(mem->spans[0]));
	struct virtq_view view = {
		.desc = b->guest->desc,
		.avail = (void *)b->guest->avail,
		.used = (void *)b->guest->used,
		.num = RING,
		.hdr_len = HDR,
		.call_fd = -1,
		.mem = mem,
		.features = 1ull << VIRTIO_F_VERSION_1 | (uint64_t)mergeable
								 << VIRTIO_NET_F_MRG_RXBUF,
	};

	if (!mem)
		die("out of memory");
	mem->refs = 1;
	mem->n = 1;
	mem->spans[0] = (struct virtq_span){GUEST_GPA, sizeof(*b->guest), (uint8_t *)b->guest};
	vnet_prepare(&view, b->enqueue ? NULL : &b->rx);
	if (b->lender)
		vnet_lend(&view, b->lender, VNET_LEND_ALL);
	b->view = virtq_view_new(&view);
	if (!b->view)
		die("out of memory");
}

static void open_bench(struct bench *b, bool mergeable)
{
	uint32_t ticket;

	b->guest = aligned_alloc(4096, sizeof(*b->guest));
	b->vq = virtq_new();
	if (!b->guest || !b->vq)
		die("out of memory");
	memset(b->guest, 0, sizeof(*b->guest));
	for (unsigned i = 0; i < RING; i++) {
		b->guest->desc[i] = (struct vring_desc){.addr = GUEST_GPA + buffer_offset(i),
			.len = b->enqueue ? BUFFER - 128 : (uint32_t)(HDR + b->size),
			.flags = b->enqueue ? VRING_DESC_F_WRITE : 0};
		b->guest->avail[2 + i] = (uint16_t)i;
	}
	make_view(b, mergeable);
	virtq_start(b->vq, b->view, 0);
	virtq_gate_swap(&b->vq->gate, b->view, &ticket);
}

static void close_bench(struct bench *b)
{
	free(b->view->mem);
	free(b->view);
	virtq_free(b->vq);
	free(b->guest);
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

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static double median_cycles(struct bench *b, uint64_t *took)
{
	struct rte_mbuf *pkts[BURST];

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t start;
		uint16_t done;

		if (b->enqueue)
			fill(pkts, b);
		b->guest->avail[1] = (uint16_t)(b->guest->avail[1] + BURST);
		start = rte_rdtsc_precise();
		done = timed_burst(b->vq, pkts);
		took[i] = rte_rdtsc_precise() - start;
		if (done != BURST)
			die("a burst was not full");
		rte_pktmbuf_free_bulk(pkts, BURST);
	}
	qsort(took, ROUNDS, sizeof(*took), by_value);
	return (double)took[ROUNDS / 2] / BURST;
}

/* From one guest to another, all that is done for a burst. */
__attribute__((noinline)) static void timed_hop(struct bench *from, struct bench *to)
{
	struct rte_mbuf *pkts[BURST];

	if (virtq_burst(from->vq, (void **)pkts, BURST) != BURST ||
		virtq_burst(to->vq, (void **)pkts, BURST) != BURST)
		die("a burst was not full");
	rte_pktmbuf_free_bulk(pkts, BURST);
}

static void run_hop(struct rte_mempool *pool, uint16_t size, bool lend)
{
	struct bench from = {.size = size, .rx = {.pool = pool}};
	struct bench to = {.size = size, .enqueue = true};
	uint64_t *took = calloc(ROUNDS, sizeof(*took)), start;

	if (lend)
		from.lender = vnet_lender_create(RING / 2, SOCKET_ID_ANY);
	if (!took || (lend && !from.lender))
		die("out of memory");
	open_bench(&from, false);
	open_bench(&to, false);
	for (unsigned i = 0; i < ROUNDS; i++) {
		from.guest->avail[1] = (uint16_t)(from.guest->avail[1] + BURST);
		to.guest->avail[1] = (uint16_t)(to.guest->avail[1] + BURST);
		start = rte_rdtsc_precise();
		timed_hop(&from, &to);
		took[i] = rte_rdtsc_precise() - start;
	}
	qsort(took, ROUNDS, sizeof(*took), by_value);
	printf("%s %5u mrg 0  %6.1f TSC cycles a packet, %d packets\n",
		lend ? "hop,lent" : "hop     ", size, (double)took[ROUNDS / 2] / BURST,
		ROUNDS * BURST);
	free(took);
	vnet_lender_release(from.lender);
	close_bench(&from);
	close_bench(&to);
}

/* A ring whose guest sends nothing: what a port costs that has nothing to do. */
static void run_idle(struct rte_mempool *pool)
{
	struct bench b = {.size = 64, .rx = {.pool = pool}};
	struct rte_mbuf *pkts[BURST];
	uint64_t start, took, best = UINT64_MAX;

	open_bench(&b, false);
	for (unsigned i = 0; i < 1000; i++) {
		start = rte_rdtsc_precise();
		for (unsigned k = 0; k < 1000; k++)
			timed_burst(b.vq, pkts);
		took = rte_rdtsc_precise() - start;
		best = RTE_MIN(best, took);
	}
	printf("dequeue     0 mrg 0  %6.1f TSC cycles a poll\n", (double)best / 1000);
	close_bench(&b);
}

static void run(struct rte_mempool *pool, bool enqueue, uint16_t size, bool mergeable)
{
	struct bench b = {.enqueue = enqueue, .size = size, .rx = {.pool = pool}};
	uint64_t *took = calloc(ROUNDS, sizeof(*took));

	if (!took)
		die("out of memory");
	open_bench(&b, mergeable);
	printf("%s %5u mrg %d  %6.1f TSC cycles a packet, %d packets\n",
		enqueue ? "enqueue" : "dequeue", size, mergeable, median_cycles(&b, took),
		ROUNDS * BURST);
	close_bench(&b);
	free(took);
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

int main(int argc, char **argv)
{
	static const uint16_t sizes[] = {64, 256, 1500};
	struct rte_mempool *pool;

	if (argc != 1 && (argc != 4 || atoi(argv[2]) < 60 || atoi(argv[2]) > 1514)) {
		fprintf(stderr, "usage: burst [dequeue|enqueue|hop|hop,lent SIZE(60-1514) "
				"MERGEABLE(0|1)]\n");
		return 2;
	}
	pool = start_dpdk();
	if (argc == 4 && strncmp(argv[1], "hop", 3) == 0) {
		run_hop(pool, (uint16_t)atoi(argv[2]), strcmp(argv[1], "hop,lent") == 0);
		return 0;
	}
	if (argc == 4) {
		run(pool, strcmp(argv[1], "enqueue") == 0, (uint16_t)atoi(argv[2]), atoi(argv[3]));
		return 0;
	}
	run_idle(pool);
	for (unsigned i = 0; i < RTE_DIM(sizes); i++)
		run(pool, false, sizes[i], false);
	for (unsigned i = 0; i < 2 * RTE_DIM(sizes); i++)
		run(pool, true, sizes[i / 2], i & 1);
	for (unsigned i = 0; i < 2 * RTE_DIM(sizes); i++)
		run_hop(pool, sizes[i / 2], i & 1);
	return rte_eal_cleanup();
}

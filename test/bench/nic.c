/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames from a NIC to a guest: copied by the switch, or written by the NIC to the guest's buffers: what that could save. */
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include <rte_cpuflags.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_mbuf.h>

#include "measure.h"
#include "ring_guest.h"
#include "virtq_packed.h"
#include "virtq_split.h"
#include "vnet.h"

/*
 * Theory of operation
 *
 * One thread is the switch, the other what it works for: a NIC that writes frames to the buffers of its receive ring,
 * and a guest that reads a byte of every line of each frame it gets, and makes its buffer available again. What the NIC
 * has written, its descriptors too, then leaves that CPU's own caches, as what a device writes is in none of them:
 *
 *	llc	it is in the cache that all CPUs share (cldemote), where server CPUs have their devices write
 *	memory	it is in no cache (clflush)
 *
 * Only the switch is timed, bursts of frames that are there already, without the waiting. Two ways take turns:
 *
 *	copy	as it is: the NIC's buffers are mbufs of a pool. Take frames, post new mbufs, look at the addresses,
 *		vnet_enqueue(), free
 *	direct	the limit: the NIC's buffers are chains of the guest's ring. Take frames, copy the first line of each and
 *		look at that, since the guest may rewrite its own; write the headers, give the chains back, take as many
 *		others, post them
 *
 * In the second every frame is for this guest and fits one buffer, and nothing is ever taken back from the NIC: what it
 * takes to be right when that is not so comes on top. It is no part of the product.
 *
 *	nic [SIZE [packed] [llc|memory]]	TSC cycles a frame, of the switch and of the guest's reading
 *	valgrind --tool=callgrind --toggle-collect=timed_copy nic SIZE alone
 *		instructions, or timed_direct, on one CPU; divide by the frames it reports
 */

#define RING  512 /* the guest's */
#define POSTS 256 /* the NIC's */
#define BURST 32
#define AHEAD 4   /* bursts the NIC may be before the switch */
#define WARM  20  /* bursts of a turn that do not count: once around both rings */
#define TURN  100 /* those that do */
#define TURNS 40
#define LINE  64

struct nic_desc {
	uint8_t *at;
	uint32_t len; /* 0: the NIC has not written there yet */
	uint32_t unused;
};

/* One way's NIC and guest. */
struct side {
	const char *name;
	uint16_t (*way)(struct side *s);
	struct nic_desc *desc;
	struct rte_mbuf **mbuf; /* of each descriptor, for its driver */
	struct rte_mempool *pool;

	/* free running; written by the switch */
	_Alignas(LINE) uint32_t posted;
	uint32_t taken;

	/* written by the other thread */
	_Alignas(LINE) uint32_t filled;
	uint32_t seen;        /* the guest's: of its ring */
	uint32_t reads;       /* bursts */
	double reading[TURN]; /* cycles a frame, of the last bursts */

	struct ring_guest guest;
};

static struct {
	uint32_t size;
	bool packed, memory, alone;
} ask;
static struct side *serving;
static bool ending;

/* ---- the NIC ---- */

static void leave_cache(const uint8_t *at)
{
	if (ask.alone)
		return;
	if (ask.memory)
		__asm__ volatile("clflush %0" : : "m"(*at));
	else
		__asm__ volatile("cldemote %0" : : "m"(*at));
}

static void nic_write(struct nic_desc *d, uint32_t n)
{
	memset(d->at, (int)n, ask.size);
	for (uint32_t at = 0; at < ask.size; at += LINE)
		leave_cache(d->at + at);
	virtq_store_release(&d->len, ask.size);
}

/* False: there is nothing to do. */
static bool nic_turn(struct side *s)
{
	uint32_t room = virtq_load_acquire(&s->posted) - s->filled,
		 waiting = s->filled - virtq_load(&s->taken);

	if (room < BURST || waiting >= AHEAD * BURST)
		return false;
	for (uint32_t n = s->filled; n != s->filled + BURST; n++)
		nic_write(&s->desc[n % POSTS], n);
	for (uint32_t n = s->filled; n != s->filled + BURST; n += LINE / sizeof(*s->desc))
		leave_cache((const uint8_t *)&s->desc[n % POSTS]);
	virtq_store_release(&s->filled, s->filled + BURST);
	return true;
}

/* ---- the guest ---- */

static bool has_come(const struct side *s)
{
	const struct vring_packed_desc *desc = (const void *)s->guest.desc;
	bool odd = s->seen / RING & 1;

	if (!ask.packed)
		return virtq_load_acquire(&s->guest.view->used->idx) != (uint16_t)s->seen;
	return (virtq_load_acquire(&desc[s->seen % RING].flags) & PACKED_OWNER) ==
	       (odd ? 0 : PACKED_OWNER);
}

static bool guest_turn(struct side *s)
{
	uint64_t start = rte_rdtsc();
	uint32_t n = 0;

	for (; n < BURST && has_come(s); n++, s->seen++) {
		const volatile uint8_t *at = ring_guest_buffer(&s->guest, s->seen);

		for (uint32_t k = 0; k < HDR + ask.size; k += LINE)
			(void)at[k];
	}
	if (n == 0)
		return false;
	s->reading[s->reads++ % TURN] = (double)(rte_rdtsc() - start) / n;
	ring_guest_offer(&s->guest, n);
	return true;
}

static void *others(void *cpu)
{
	stay_on(*(int *)cpu);
	while (!virtq_load(&ending)) {
		struct side *s = virtq_load_acquire(&serving);

		nic_turn(s);
		guest_turn(s);
	}
	return NULL;
}

/* ---- the switch ---- */

/* As a NIC's driver: from descriptors to mbufs. */
virtq_inline void nic_take(struct side *s, struct rte_mbuf **pkts)
{
	for (uint32_t i = 0; i < BURST; i++) {
		const struct nic_desc *d = &s->desc[(s->taken + i) % POSTS];
		struct rte_mbuf *m = s->mbuf[(s->taken + i) % POSTS];
		uint32_t len = virtq_load_acquire(&d->len);

		if (len == 0)
			die("a burst was not full");
		m->data_off = RTE_PKTMBUF_HEADROOM;
		rte_mbuf_refcnt_set(m, 1);
		m->nb_segs = 1;
		m->port = 0;
		m->ol_flags = 0;
		m->packet_type = 0;
		m->data_len = (uint16_t)len;
		m->pkt_len = len;
		pkts[i] = m;
	}
	virtq_store_release(&s->taken, s->taken + BURST);
}

virtq_inline void nic_post(struct side *s, struct rte_mbuf **pkts)
{
	for (uint32_t i = 0; i < BURST; i++) {
		s->mbuf[(s->posted + i) % POSTS] = pkts[i];
		s->desc[(s->posted + i) % POSTS] = (struct nic_desc){
			.at = (uint8_t *)(uintptr_t)pkts[i]->buf_iova + RTE_PKTMBUF_HEADROOM};
	}
	virtq_store_release(&s->posted, s->posted + BURST);
}

/* The least a switch does. */
virtq_inline void look(const uint8_t *frame, uint32_t n)
{
	uint64_t address;

	memcpy(&address, frame, sizeof(address));
	if (unlikely(address != (uint8_t)n * 0x0101010101010101ull))
		die("a frame is not what was sent");
}

__rte_noinline static uint16_t timed_copy(struct side *s)
{
	struct rte_mbuf *pkts[BURST], *fresh[BURST];
	const uint32_t n = s->taken;
	uint16_t done;

	nic_take(s, pkts);
	if (rte_pktmbuf_alloc_bulk(s->pool, fresh, BURST) != 0)
		die("out of mbufs");
	nic_post(s, fresh);
	for (uint32_t i = 0; i < BURST; i++)
		rte_prefetch0(rte_pktmbuf_mtod(pkts[i], void *));
	for (uint32_t i = 0; i < BURST; i++)
		look(rte_pktmbuf_mtod(pkts[i], uint8_t *), n + i);
	done = vnet_enqueue(s->guest.vq, pkts, BURST);
	vnet_free_bulk(pkts, BURST);
	return done;
}

/* Behind the mbuf of a chain. */
struct shell {
	uint8_t first[LINE];
	uint8_t *hdr;
	uint16_t id, ndesc;
};

virtq_inline void direct_give(struct virtq *vq, const struct virtq_view *v,
	const struct rte_mbuf *m, const struct virtq_ops *ops)
{
	static const struct virtio_net_hdr_v1 hdr = {.num_buffers = 1};
	const struct shell *sh = (const struct shell *)(m + 1);
	const struct virtq_chain chain = {.id = sh->id, .ndesc = sh->ndesc};

	if (unlikely(memcmp(sh->hdr, &hdr, HDR) != 0))
		memcpy(sh->hdr, &hdr, HDR);
	virtq_count_frame(&vq->stats, sh->first, m->pkt_len);
	ops->give(vq, v, &chain, m->pkt_len + v->hdr_len);
}

virtq_inline void direct_take(struct virtq *vq, const struct virtq_view *v, struct virtq_segs *segs,
	struct rte_mbuf *m, const struct virtq_ops *ops)
{
	struct shell *sh = (struct shell *)(m + 1);
	struct virtq_chain chain;

	if (ops->ready(vq, v, 1) == 0 || !ops->take(vq, v, VIRTQ_TO_GUEST, segs, &chain) ||
		chain.nseg != 1 || chain.len < HDR + ask.size)
		die("the guest has no buffer that will do");
	sh->hdr = chain.seg->va;
	sh->id = chain.id;
	sh->ndesc = chain.ndesc;
	m->buf_addr = sh->hdr + HDR - RTE_PKTMBUF_HEADROOM;
	m->buf_iova = (uintptr_t)m->buf_addr;
}

/* Give n chains back, and take BURST. */
virtq_inline uint16_t direct(struct virtq *vq, const struct virtq_view *v, void **pkts, uint16_t n,
	const struct virtq_ops *ops)
{
	struct virtq_segs segs;
	uint64_t bytes = 0;

	ops->prefetch(vq, v, ops->ready(vq, v, BURST));
	for (uint16_t i = 0; i < n; i++) {
		direct_give(vq, v, pkts[i], ops);
		bytes += ((struct rte_mbuf *)pkts[i])->pkt_len;
	}
	if (n)
		ops->publish(vq, v);
	virtq_count(&vq->stats.packets, n);
	virtq_count(&vq->stats.bytes, bytes);
	virtq_segs_begin(&segs);
	for (uint16_t i = 0; i < BURST; i++)
		direct_take(vq, v, &segs, pkts[i], ops);
	return BURST;
}

static uint16_t direct_split(struct virtq *vq, const struct virtq_view *v, void **pkts, uint16_t n)
{
	return direct(vq, v, pkts, n, &virtq_split_ops);
}

static uint16_t direct_packed(struct virtq *vq, const struct virtq_view *v, void **pkts, uint16_t n)
{
	return direct(vq, v, pkts, n, &virtq_packed_ops);
}

__rte_noinline static uint16_t timed_direct(struct side *s)
{
	struct rte_mbuf *pkts[BURST];
	const uint32_t n = s->taken;
	uint16_t done;

	nic_take(s, pkts);
	for (uint32_t i = 0; i < BURST; i++) {
		rte_prefetch0(rte_pktmbuf_mtod(pkts[i], void *));
		rte_prefetch0(((struct shell *)(pkts[i] + 1))->hdr);
	}
	for (uint32_t i = 0; i < BURST; i++) {
		struct shell *sh = (struct shell *)(pkts[i] + 1);

		memcpy(sh->first, rte_pktmbuf_mtod(pkts[i], void *), sizeof(sh->first));
		look(sh->first, n + i);
	}
	done = virtq_burst(s->guest.vq, (void **)pkts, BURST);
	nic_post(s, pkts);
	return done;
}

/* ---- turns ---- */

static bool is_ready(struct side *s)
{
	return virtq_load_acquire(&s->filled) - s->taken >= BURST &&
	       (int32_t)(virtq_load_acquire(&s->guest.offered) - s->posted) >= BURST;
}

/* Cycles a frame, of the median burst; and of reading it. */
static double turn(struct side *s, double *reading)
{
	double took[TURN], last[TURN];

	virtq_store_release(&serving, s);
	for (int i = -WARM; i < TURN; i++) {
		uint64_t start;

		while (ask.alone && (nic_turn(s) || guest_turn(s)))
			;
		while (!is_ready(s))
			rte_pause();
		start = rte_rdtsc_precise();
		if (s->way(s) != BURST)
			die("the guest has no room");
		if (i >= 0)
			took[i] = (double)(rte_rdtsc_precise() - start) / BURST;
	}
	memcpy(last, s->reading, sizeof(last));
	*reading = quantile(last, TURN, 0.5);
	return quantile(took, TURN, 0.5);
}

static void side_open(struct side *s, uint32_t room, uint16_t private, virtq_burst_fn burst)
{
	struct rte_mbuf *pkts[BURST];
	struct virtq_view view;

	s->guest = (struct ring_guest){.num = RING, .room = room, .packed = ask.packed};
	view = ring_guest_init(&s->guest);
	vnet_prepare(&view, NULL);
	if (burst)
		view.burst = burst;
	ring_guest_start(&s->guest, &view);
	ring_guest_offer(&s->guest, RING);
	s->pool = rte_pktmbuf_pool_create(s->name, 2 * RING - 1, burst ? 0 : 256, private,
		burst ? 0 : (uint16_t)room, SOCKET_ID_ANY);
	s->desc = aligned_alloc(LINE, POSTS * sizeof(*s->desc));
	s->mbuf = calloc(POSTS, sizeof(struct rte_mbuf *));
	if (!s->pool || !s->desc || !s->mbuf)
		die("out of memory");
	while (s->posted != POSTS) {
		if (rte_pktmbuf_alloc_bulk(s->pool, pkts, BURST) != 0)
			die("out of mbufs");
		if (burst)
			burst(s->guest.vq, s->guest.view, (void **)pkts, 0);
		nic_post(s, pkts);
	}
}

static void side_close(struct side *s)
{
	rte_mempool_free(s->pool);
	free(s->mbuf);
	free(s->desc);
	ring_guest_fini(&s->guest);
}

static void tell(const char *name, double *took, double *reading, unsigned turns)
{
	printf("%-6s %7.0f [%.0f-%.0f], the guest reads it in %.0f\n", name,
		quantile(took, turns, 0.5), quantile(took, turns, 0.25),
		quantile(took, turns, 0.75), quantile(reading, turns, 0.5));
}

static void run(void)
{
	struct side sides[2] = {
		{.name = "copy", .way = timed_copy}, {.name = "direct", .way = timed_direct}};
	const unsigned turns = ask.alone ? 5 : TURNS;
	const uint32_t room = RTE_MAX(ask.size, 2048u) + RTE_PKTMBUF_HEADROOM;
	double took[2][TURNS], reading[2][TURNS], ratio[TURNS];
	pthread_t thread;

	side_open(&sides[0], room, 0, NULL);
	side_open(&sides[1], room, RTE_ALIGN(sizeof(struct shell), LINE),
		ask.packed ? direct_packed : direct_split);
	serving = &sides[0];
	ending = false;
	if (!ask.alone && pthread_create(&thread, NULL, others, &(int){1}) != 0)
		die("no thread");
	for (unsigned t = 0; t < turns; t++) {
		for (unsigned w = 0; w < 2; w++)
			took[w][t] = turn(&sides[w], &reading[w][t]);
		ratio[t] = took[1][t] / took[0][t];
	}
	virtq_store(&ending, true);
	if (!ask.alone)
		pthread_join(thread, NULL);
	printf("%u bytes, %s, %s: TSC cycles a frame, %u frames each way\n", ask.size,
		ask.packed ? "packed" : "split", ask.memory ? "memory" : "llc",
		turns * (WARM + TURN) * BURST);
	for (unsigned w = 0; w < 2; w++)
		tell(sides[w].name, took[w], reading[w], turns);
	printf("ratio  %7.2f [%.2f-%.2f]\n", quantile(ratio, turns, 0.5),
		quantile(ratio, turns, 0.25), quantile(ratio, turns, 0.75));
	for (unsigned w = 0; w < 2; w++)
		side_close(&sides[w]);
}

static void run_all(void)
{
	static const uint32_t sizes[] = {64, 256, 1518, 9000};

	for (unsigned i = 0; i < 2 * RTE_DIM(sizes); i++) {
		ask.size = sizes[i / 2];
		ask.packed = i & 1;
		run();
	}
}

static void start_dpdk(void)
{
	/* valgrind has no room for all that DPDK reserves for huge pages. */
	static char options[] = "nic\0--no-pci\0--no-shconf\0--iova-mode=va\0-m\0"
				"96\0--lcores=0\0--log-level=error\0--no-telemetry\0",
		    huge[] = "--in-memory", no_huge[] = "--no-huge";
	char *argv[16];
	int argc = 0;

	for (char *word = options; *word != '\0'; word += strlen(word) + 1)
		argv[argc++] = word;
	argv[argc++] = ask.alone ? no_huge : huge;
	if (rte_eal_init(argc, argv) < 0)
		die("EAL does not start: 96 MiB of huge pages");
}

static bool parse(int argc, char **argv)
{
	bool can_demote = rte_cpu_get_flag_enabled(RTE_CPUFLAG_CLDEMOTE) == 1;

	ask.memory = !can_demote;
	if (argc > 1)
		ask.size = (uint32_t)atoi(argv[1]);
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "packed") == 0)
			ask.packed = true;
		else if (strcmp(argv[i], "alone") == 0)
			ask.alone = true;
		else if (strcmp(argv[i], "memory") == 0)
			ask.memory = true;
		else if (strcmp(argv[i], "llc") != 0 || !can_demote)
			return false;
	}
	return argc == 1 || (ask.size >= LINE && ask.size <= 9000);
}

int main(int argc, char **argv)
{
	if (!parse(argc, argv)) {
		fputs("usage: nic [SIZE(64-9000) [packed] [alone] [llc|memory]]\n"
		      "llc is for CPUs that have cldemote\n",
			stderr);
		return 2;
	}
	start_dpdk();
	if (argc > 1)
		run();
	else
		run_all();
	return rte_eal_cleanup();
}

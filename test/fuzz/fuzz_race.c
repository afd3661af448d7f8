/* SPDX-License-Identifier: BSD-3-Clause */
/* Fuzz target: bursts of packets over a ring whose guest rewrites all of it meanwhile. */

/*
 * An input is three bytes (the settings of fuzz_chains, a position, enum negotiated); then
 * how many rewrites there are, and each: where, how many bytes, the bytes; then the memory as of fuzz_load().
 * A second thread does the rewrites and undoes them, one by one and again and again, while the first polls: so
 * each may come between a look at descriptors, tables, indexes or headers and the use of what was seen.
 *
 * Memory ends at pages that may not be touched; no packet is malformed, and none is missing in the end.
 */
#include <pthread.h>
#include <semaphore.h>

#include <rte_eal.h>
#include <rte_mbuf.h>
#include <rte_string_fns.h>

#include "fuzz_ring.h"
#include "offload_checks.h"
#include "virtq_lend.h"
#include "vnet.h"

/* Nobody looks for pointers in DPDK's memory, where the lender is: what it has would count as leaked. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

/* What was negotiated, the third byte. */
enum negotiated {
	MERGEABLE = 1 << 0,
	OFFLOADS = 1 << 1,
	LENDS = 1 << 2,
	FAR = 1 << 3,      /* buffers that count as far away */
	RECEIVES = 1 << 4, /* as an ethdev does */
	EXT_BUF = 1 << 5,
	LINEAR = 1 << 6,
};

#define REWRITES_MAX 32u
#define ROUNDS       3u
#define PACKETS      4u

struct rewrite {
	uint8_t *at;
	uint8_t len, turn;
	uint8_t bytes[2][16]; /* new, and what was there */
};

static struct rewrite rewrites[REWRITES_MAX];
static unsigned n_rewrites;
static bool stop;
static uint32_t times;
static sem_t begin, end;

static struct rte_mempool *pool;
static struct vnet_lender *lender;

/* ---- the second thread ---- */

/* Aligned words at once, as a CPU writes them. The sanitizer of threads would rightly call the rest a race. */
__attribute__((no_sanitize("thread"))) static void write_one(struct rewrite *r)
{
	const uint8_t *from = r->bytes[r->turn ^= 1];
	unsigned i = 0;

	for (; ((uintptr_t)(r->at + i) & 7) == 0 && i + 8 <= r->len; i += 8) {
		uint64_t word;

		memcpy(&word, from + i, 8);
		__atomic_store_n((uint64_t *)(uintptr_t)(r->at + i), word, __ATOMIC_RELAXED);
	}
	for (; i < r->len; i++)
		__atomic_store_n(r->at + i, from[i], __ATOMIC_RELAXED);
}

static void *rewriter(void *arg)
{
	(void)arg;
	for (;;) {
		sem_wait(&begin);
		while (!virtq_load(&stop)) {
			for (unsigned i = 0; i < n_rewrites; i++)
				write_one(&rewrites[i]);
			__atomic_store_n(&times, times + 1, __ATOMIC_RELAXED);
		}
		sem_post(&end);
	}
	return NULL;
}

static void load_rewrites(struct fuzz_input *in)
{
	n_rewrites = 0;
	for (unsigned n = fuzz_u8(in) % REWRITES_MAX; n > 0; n--) {
		struct rewrite *r = &rewrites[n_rewrites];
		const uint16_t at = fuzz_u16(in);

		r->len = (uint8_t)(1 + fuzz_u8(in) % 16);
		r->turn = 1;
		fuzz_bytes(in, r->bytes[0], r->len);
		r->at = ts_va(fuzz_guest, at, r->len);
		n_rewrites += r->at != NULL;
	}
}

/* Once the memory is as it was. */
static void remember(void)
{
	for (unsigned i = 0; i < n_rewrites; i++)
		memcpy(rewrites[i].bytes[1], rewrites[i].at, rewrites[i].len);
}

/* ---- the first ---- */

static uint64_t features(const struct virtq_view *v, uint8_t how)
{
	uint64_t f = 1ull << VIRTIO_F_VERSION_1;

	f |= v->packed ? 1ull << VIRTIO_F_RING_PACKED : 0;
	f |= v->indirect ? 1ull << VIRTIO_RING_F_INDIRECT_DESC : 0;
	f |= v->event_idx ? 1ull << VIRTIO_RING_F_EVENT_IDX : 0;
	f |= how & MERGEABLE ? F(MRG_RXBUF) : 0;
	f |= how & OFFLOADS ? HOST_ALL | GUEST_ALL : 0;
	return f;
}

static void check_packet(const struct rte_mbuf *m)
{
	struct rte_mbuf plain = *m;
	uint32_t len = 0;
	unsigned n = 0;

	for (const struct rte_mbuf *s = m; s; s = s->next, n++)
		len += s->data_len;
	PROMISE(len == m->pkt_len && n == m->nb_segs && len >= 14);
	plain.ol_flags &= VNET_OFFLOAD_FLAGS | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IPV6 |
			  RTE_MBUF_F_RX_L4_CKSUM_MASK | RTE_MBUF_F_RX_LRO;
	if (plain.ol_flags) /* else what else is there means nothing */
		offload_check_mbuf(&plain);
}

static void receive(const struct virtq_view *v)
{
	struct rte_mbuf *pkts[VIRTQ_BURST];
	uint16_t n = v->burst(fuzz_vq, v, (void **)pkts, VIRTQ_BURST);

	PROMISE(n <= VIRTQ_BURST);
	for (uint16_t i = 0; i < n; i++)
		check_packet(pkts[i]);
	vnet_free_bulk(pkts, n);
}

/* One that is short, one that fills an mbuf, one of several, one that asks for a checksum. */
static struct rte_mbuf *packet(unsigned i)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool),
			*more = i == 2 ? rte_pktmbuf_alloc(pool) : NULL;
	uint16_t len = i == 1 ? 1514 : 60;

	PROMISE(m && (i != 2 || more));
	memset(rte_pktmbuf_append(m, len), (int)i, len);
	if (more) {
		memset(rte_pktmbuf_append(more, 700), 0x77, 700);
		PROMISE(rte_pktmbuf_chain(m, more) == 0);
	}
	if (i == 3) {
		m->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM | RTE_MBUF_F_TX_IPV4;
		m->l2_len = 14;
		m->l3_len = 20;
		m->l4_len = 20;
	}
	return m;
}

static void send_some(const struct virtq_view *v)
{
	struct rte_mbuf *pkts[PACKETS];
	uint16_t n;

	for (unsigned i = 0; i < PACKETS; i++)
		pkts[i] = packet(i);
	n = v->burst(fuzz_vq, v, (void **)pkts, PACKETS);
	PROMISE(n <= PACKETS);
	vnet_free_bulk(pkts, PACKETS);
}

static void poll_ring(const struct virtq_view *v, uint8_t settings)
{
	for (unsigned i = 0; i < 2 && !fuzz_vq->fault; i++)
		if (settings & TO_GUEST)
			send_some(v);
		else
			receive(v);
	if (v->lender)
		v->lender->settle(v->lender, fuzz_vq, v);
}

static void prepare(void)
{
	static char line[] =
		"race --no-huge -m 64 --no-pci --no-shconf --no-telemetry -l 0 --log-level error";
	char *eal[16];
	int n = rte_strsplit(line, sizeof(line), eal, RTE_DIM(eal), ' ');
	pthread_t thread;

	PROMISE(rte_eal_init(n, eal) >= 0);
	pool = rte_pktmbuf_pool_create("race", 511, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	lender = vnet_lender_create(64, SOCKET_ID_ANY);
	PROMISE(pool && lender);
	fuzz_ring_prepare();
	PROMISE(sem_init(&begin, 0, 0) == 0 && sem_init(&end, 0, 0) == 0);
	PROMISE(pthread_create(&thread, NULL, rewriter, NULL) == 0);
}

/* The second thread has begun: it may be that there is only one CPU for both. */
static void start_rewriting(void)
{
	remember();
	stop = false;
	times = 0;
	sem_post(&begin);
	while (__atomic_load_n(&times, __ATOMIC_RELAXED) == 0)
		sched_yield();
}

static void stop_rewriting(void)
{
	virtq_store(&stop, true);
	sem_wait(&end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	uint8_t settings, position, how;
	struct vnet_rx_conf conf;
	struct virtq_view v;

	if (!pool)
		prepare();
	settings = fuzz_u8(&in);
	position = fuzz_u8(&in);
	how = fuzz_u8(&in);
	load_rewrites(&in);
	fuzz_load(&in);
	v = fuzz_view(settings);
	v.features = features(&v, how);
	conf = (struct vnet_rx_conf){.pool = pool,
		.style = how & RECEIVES ? VNET_STYLE_RECEIVE : VNET_STYLE_FORWARD,
		.ext_buf = how & EXT_BUF,
		.linear = how & LINEAR};
	vnet_prepare(&v, settings & TO_GUEST ? NULL : &conf);
	if ((how & LENDS) && !(settings & TO_GUEST))
		vnet_lend(&v, lender, VNET_LEND_ALL);
	if (n_rewrites)
		start_rewriting();
	for (unsigned i = 0; i < ROUNDS; i++) {
		virtq_start(
			fuzz_vq, &v, fuzz_base(&v, v.packed ? PACKED_WRAP | position : position));
		fuzz_vq->far = (struct virtq_far){.left = UINT16_MAX, .on = how & FAR};
		poll_ring(&v, settings);
		if (v.lender)
			v.lender->abandon(v.lender, fuzz_vq, &v);
	}
	if (settings & DISCARD)
		virtq_discard(fuzz_vq, &v, UINT32_MAX);
	if (n_rewrites)
		stop_rewriting();
	if (v.lender)
		v.lender->reap(v.lender, true);
	/* A lender keeps its last table. */
	PROMISE(rte_mempool_in_use_count(pool) == 0 && fuzz_mem->refs <= 2);
	return 0;
}

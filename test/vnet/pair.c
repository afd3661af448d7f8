/* SPDX-License-Identifier: BSD-3-Clause */
/* A strict guest with a queue pair, and our two ends of it. */
#include "pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_string_fns.h>

#include "virtq_lend.h"

#define GUEST_SIZE (48u << 20)
#define LENT_MAX   300

/* Whether pairs that are opened lend. */
static unsigned mode; /* PAIR_... */

struct rte_mempool *pair_pool;

static uint64_t column_features(const struct column *c)
{
	uint64_t f = c->format->features & ~(1ull << VIRTIO_F_VERSION_1);

	f |= c->v1 ? 1ull << VIRTIO_F_VERSION_1 : 0;
	f |= c->indirect ? 1ull << VIRTIO_RING_F_INDIRECT_DESC : 0;
	f |= c->event_idx ? 1ull << VIRTIO_RING_F_EVENT_IDX : 0;
	f |= c->mergeable ? F(MRG_RXBUF) : 0;
	return f | 1ull << VIRTIO_F_ANY_LAYOUT;
}

uint32_t pair_ring_size(const struct column *c)
{
	return c->format->features ? 251 : 256;
}

static struct ts_ring *new_ring(struct pair *p, uint64_t features, uint16_t start)
{
	const uint32_t size = pair_ring_size(&p->c);
	struct ts_ring_conf conf = {.guest = p->guest,
		.size = size,
		.features = features,
		.base = ts_base_at(features, size, start)};
	struct ts_ring *r;

	assert_int_equal(ts_ring_new(&conf, &r), 0);
	return r;
}

static struct virtq *begin(struct pair *p, const struct ts_ring *r, struct virtq_view *v,
	const struct vnet_rx_conf *conf)
{
	struct virtq *vq = virtq_new();
	uint32_t ticket;

	*v = vq_view_of(r);
	v->hdr_len = (uint8_t)ts_net_hdr_len(r->features);
	v->mem = p->mem;
	vnet_prepare(v, conf);
	if (conf && p->lender)
		assert_true(vnet_lend(v, p->lender, VNET_LEND_ALL));
	virtq_start(vq, v, ts_ring_used_pos(r));
	assert_null(virtq_gate_swap(&vq->gate, v, &ticket));
	return vq;
}

void pair_open(struct pair *p, const struct column *c, uint64_t extra, uint16_t start)
{
	uint64_t features = column_features(c) | extra;

	*p = (struct pair){.c = *c, .conf = {.pool = pair_pool, .port = 7}};
	p->guest = ts_guest_one(GUEST_SIZE);
	assert_non_null(p->guest);
	p->mem = vq_guarded_mem(p->guest);
	if (mode == PAIR_LEND)
		p->lender = vnet_lender_create(LENT_MAX, SOCKET_ID_ANY);
	assert_true(mode != PAIR_LEND || p->lender);
	p->rx_ring = new_ring(p, features, start);
	p->tx_ring = new_ring(p, features, start);
	ts_net_init(&p->net, p->guest, 0, p->rx_ring, p->tx_ring);
	p->rx = begin(p, p->tx_ring, &p->rx_view, &p->conf);
	p->tx = begin(p, p->rx_ring, &p->tx_view, NULL);
	if (mode == PAIR_FAR)
		p->tx->far = (struct virtq_far){.left = UINT16_MAX, .on = true};
}

unsigned pair_reap(struct pair *p)
{
	struct virtq_lender *lender = p->rx_view.lender;

	if (lender)
		lender->settle(lender, p->rx, &p->rx_view);
	return ts_net_reap(&p->net);
}

void pair_close(struct pair *p)
{
	uint64_t accounted = p->rx->stats.packets;

	pair_reap(p);
	vnet_lender_release(p->lender);
	assert_int_equal(vnet_lenders_reap(), 0);
	assert_int_equal(p->mem->refs, 1);
	for (unsigned i = 0; i < VIRTQ_DROP_COUNT; i++)
		accounted += p->rx->stats.drops[i];
	assert_int_equal(accounted, p->offered);
	ts_net_fini(&p->net); /* which looks at what did not come back */
	if (ts_net_faults(&p->net))
		fail_msg("%s", ts_net_why(&p->net));
	ts_ring_free(p->rx_ring);
	ts_ring_free(p->tx_ring);
	virtq_free(p->rx);
	virtq_free(p->tx);
	free(p->mem);
	ts_guest_free(p->guest);
	assert_int_equal(rte_mempool_in_use_count(pair_pool), 0);
}

struct vq pair_vq(const struct pair *p, bool sends)
{
	const struct column *c = &p->c;

	return (struct vq){.c = {c->format, c->indirect, c->mergeable, c->event_idx},
		.ops = c->format->ops,
		.guest = p->guest,
		.mem = p->mem,
		.ring = sends ? p->tx_ring : p->rx_ring,
		.view = sends ? p->rx_view : p->tx_view,
		.q = sends ? p->rx : p->tx};
}

void pair_over_columns(const struct vq_format *format, void (*run)(const struct column *))
{
	for (unsigned bits = 0; bits < 16; bits++) {
		struct column c = {format, bits & 1, bits & 2, bits & 4, bits & 8};

		run(&c);
	}
}

enum ts_mode pair_mode(const struct column *c, uint32_t i)
{
	if (!c->indirect || i % 3 == 0)
		return TS_DIRECT;
	return i % 3 == 2 && !c->format->features ? TS_MIXED : TS_INDIRECT;
}

uint32_t pair_bytes(const struct rte_mbuf *m, uint8_t *out)
{
	uint32_t at = 0;

	for (const struct rte_mbuf *s = m; s; s = s->next) {
		memcpy(out + at, rte_pktmbuf_mtod(s, void *), s->data_len);
		at += s->data_len;
	}
	assert_int_equal(at, m->pkt_len);
	return at;
}

struct rte_mbuf *pair_mbuf(const uint8_t *bytes, uint32_t len)
{
	struct rte_mbuf *head = rte_pktmbuf_alloc(pair_pool), *m = head;

	for (uint32_t at = 0; at < len;) {
		uint32_t part = RTE_MIN(len - at, rte_pktmbuf_tailroom(m));

		memcpy(rte_pktmbuf_append(m, (uint16_t)part), bytes + at, part);
		at += part;
		if (at == len)
			break;
		m->next = rte_pktmbuf_alloc(pair_pool);
		m = m->next;
		head->nb_segs++;
	}
	head->pkt_len = len;
	return head;
}

static int set_mode(unsigned to)
{
	mode = to;
	return 0;
}

static int set_copying(void **state)
{
	(void)state;
	return set_mode(PAIR_COPY);
}

static int set_lending(void **state)
{
	(void)state;
	return set_mode(PAIR_LEND);
}

static int set_far(void **state)
{
	(void)state;
	return set_mode(PAIR_FAR);
}

static const struct {
	CMFixtureFunction set;
	const char *name;
} all_modes[] = {{set_copying, ""}, {set_lending, ",lend"}, {set_far, ",far"}};

/* The tests that are to run, in one mode each. */
struct list {
	struct CMUnitTest *test;
	char (*name)[96];
	size_t n;
};

static void add(
	struct list *l, const struct CMUnitTest *t, size_t mode_i, const struct vq_format *format)
{
	const int len = (int)strcspn(t->name, format ? "[" : "");
	char *name = l->name[l->n];

	if (format)
		snprintf(name, sizeof(*l->name), "%.*s[%s%s]", len, t->name, format->name,
			all_modes[mode_i].name);
	else
		snprintf(name, sizeof(*l->name), "%s%s", t->name, all_modes[mode_i].name);
	l->test[l->n] = *t;
	l->test[l->n].name = name;
	l->test[l->n].setup_func = all_modes[mode_i].set;
	if (format)
		l->test[l->n].initial_state = (void *)(uintptr_t)format;
	l->n++;
}

/* Each test as often as there are formats (or once, if it knows of them) and modes. */
static int run_all(unsigned modes, bool formats, const struct CMUnitTest *tests, size_t n, int argc,
	char **argv)
{
	const size_t n_formats = formats ? vq_n_formats : 1, times = RTE_DIM(all_modes) * n_formats;
	struct list l = {calloc(n * times, sizeof(*l.test)), calloc(n * times, sizeof(*l.name)), 0};
	int rc = 1;

	for (size_t i = 0; l.test && l.name && i < n * times; i++) {
		const struct vq_format *format =
			formats ? &vq_formats[i % times / RTE_DIM(all_modes)] : NULL;
		const struct CMUnitTest *t = &tests[i / times];

		if (!(modes & (1u << i % RTE_DIM(all_modes))) ||
			(format && t->initial_state && t->initial_state != format))
			continue;
		add(&l, t, i % RTE_DIM(all_modes), format);
	}
	if (l.n)
		rc = ts_run_tests(l.test, l.n, argc, argv);
	free(l.name);
	free(l.test);
	return rc;
}

static int run_in_eal(unsigned modes, bool formats, const struct CMUnitTest *tests, size_t n,
	int argc, char **argv)
{
	static char line[] = "pair --no-huge -m 256 --no-pci --no-shconf --no-telemetry -l 0 "
			     "--log-level error";
	char *eal[16];
	int neal = rte_strsplit(line, sizeof(line), eal, RTE_DIM(eal), ' ');
	int err;

	if (rte_eal_init(neal, eal) < 0)
		return 99;
	pair_pool = rte_pktmbuf_pool_create(
		"pair", 1023, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (!pair_pool)
		return 99;
	err = run_all(modes, formats, tests, n, argc, argv);
	rte_mempool_free(pair_pool);
	rte_eal_cleanup();
	return err;
}

int pair_run_with(unsigned modes, const struct CMUnitTest *tests, size_t n, int argc, char **argv)
{
	return run_in_eal(modes, true, tests, n, argc, argv);
}

int pair_run_cases(unsigned modes, const struct CMUnitTest *tests, size_t n, int argc, char **argv)
{
	return run_in_eal(modes, false, tests, n, argc, argv);
}

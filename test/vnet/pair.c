/* SPDX-License-Identifier: BSD-3-Clause */
/* A strict guest with a queue pair, and our two ends of it. */
#include "pair.h"

#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_string_fns.h>

#define GUEST_SIZE (48u << 20)

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

static struct ts_ring *new_ring(struct pair *p, uint64_t features, uint16_t base)
{
	struct ts_ring_conf conf = {
		.guest = p->guest, .size = RING_SIZE, .features = features, .base = base};
	struct ts_ring *r;

	assert_int_equal(ts_ring_new(&conf, &r), 0);
	return r;
}

static struct virtq *start(struct pair *p, const struct ts_ring *r, struct virtq_view *v,
	const struct vnet_rx_conf *conf, uint64_t features, uint16_t base)
{
	struct virtq *vq = virtq_new();
	uint32_t ticket;

	*v = (struct virtq_view){.desc = r->desc,
		.avail = r->avail,
		.used = r->used,
		.num = RING_SIZE,
		.hdr_len = (uint8_t)ts_net_hdr_len(features),
		.event_idx = p->c.event_idx,
		.indirect = p->c.indirect,
		.call_fd = -1,
		.mem = p->mem,
		.features = features};
	vnet_prepare(v, conf);
	virtq_start(vq, v, base);
	assert_null(virtq_gate_swap(&vq->gate, v, &ticket));
	return vq;
}

void pair_open(struct pair *p, const struct column *c, uint64_t extra, uint16_t base)
{
	uint64_t features = column_features(c) | extra;

	*p = (struct pair){.c = *c, .conf = {.pool = pair_pool, .port = 7}};
	p->guest = ts_guest_one(GUEST_SIZE);
	assert_non_null(p->guest);
	p->mem = vq_guarded_mem(p->guest);
	p->rx_ring = new_ring(p, features, base);
	p->tx_ring = new_ring(p, features, base);
	ts_net_init(&p->net, p->guest, 0, p->rx_ring, p->tx_ring);
	p->rx = start(p, p->tx_ring, &p->rx_view, &p->conf, features, base);
	p->tx = start(p, p->rx_ring, &p->tx_view, NULL, features, base);
}

void pair_close(struct pair *p)
{
	uint64_t accounted = p->rx->stats.packets;

	for (unsigned i = 0; i < VIRTQ_DROP_COUNT; i++)
		accounted += p->rx->stats.drops[i];
	assert_int_equal(accounted, p->offered);
	if (ts_net_faults(&p->net))
		fail_msg("%s", ts_net_why(&p->net));
	ts_net_fini(&p->net);
	ts_ring_free(p->rx_ring);
	ts_ring_free(p->tx_ring);
	virtq_free(p->rx);
	virtq_free(p->tx);
	free(p->mem);
	ts_guest_free(p->guest);
	assert_int_equal(rte_mempool_in_use_count(pair_pool), 0);
}

void pair_over_columns(void (*run)(const struct column *))
{
	for (unsigned f = 0; f < vq_n_formats; f++)
		for (unsigned bits = 0; bits < 16; bits++) {
			struct column c = {&vq_formats[f], bits & 1, bits & 2, bits & 4, bits & 8};

			run(&c);
		}
}

enum ts_mode pair_mode(const struct column *c, uint32_t i)
{
	if (!c->indirect)
		return TS_DIRECT;
	return i % 3 == 0 ? TS_DIRECT : i % 3 == 1 ? TS_INDIRECT : TS_MIXED;
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

int pair_run(const struct CMUnitTest *tests, size_t n, int argc, char **argv)
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
	err = ts_run_tests(tests, n, argc, argv);
	rte_mempool_free(pair_pool);
	rte_eal_cleanup();
	return err;
}

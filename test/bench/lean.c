/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest's driver without a stack, a pool and mbufs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_byteorder.h>
#include <rte_common.h>
#include <rte_ip.h>
#include <rte_kvargs.h>

#include "guest.h"
#include "lean.h"
#include "lean_ring.h"
#include "ts_frontend.h"

/*
 * Theory of operation
 *
 * With one CPU for the guests of both ends, virtio-user takes longer for a small frame than a
 * switch does, and then a faster switch only finds fewer frames each time it looks. Here a frame is
 * sent back in the buffer it came in: only its addresses are swapped, and what of its payload an
 * application would touch. Buffers are either in the receive ring, which is always full, or
 * in the transmit ring, or on a stack, so twice as many as a ring has entries always suffice.
 *
 * The handshake is the tests' front-end's; the rings are driven by lean_ring.h, which knows both
 * formats and does no more than they ask for.
 */

#define BURST 64u
#define GPA   (1ull << 32)
#define HUGE  (2ull << 20)

struct lean {
	struct lean_ring rx, tx;
	uint32_t room;
	bool mergeable;
	uint32_t n_free;
	uint8_t **free;

	/* the main thread's */
	struct ts_fe fe;
	struct ts_guest *memory;
	uint64_t want;
	uint32_t size;
	bool server;
	char path[108];
};

static struct lean *leans[GUEST_PORTS];

/* ---- packets ---- */

static uint8_t *frame_of(uint8_t *buffer)
{
	return buffer + 2 * RTE_CACHE_LINE_SIZE;
}

static void reclaim(struct lean *l)
{
	uint8_t *buffer;
	uint32_t len;

	while ((buffer = lean_ring_take(&l->tx, &len)) != NULL)
		l->free[l->n_free++] = buffer;
}

static void send_frame(struct lean *l, struct port *p, uint8_t *buffer, uint32_t len)
{
	if (guest.touch)
		touch_write(frame_of(buffer), TOUCH_AT, len, guest.sum);
	lean_ring_add(&l->tx, buffer, frame_of(buffer) - LEAN_HDR, len + LEAN_HDR, 0);
	count(&p->stats.tx, 1);
	count(&p->stats.tx_bytes, len);
}

/* Nobody has written to this buffer since it was sent the last time. */
static bool has_headers(uint8_t *buffer, uint32_t len, const struct port *p)
{
	const struct rte_ether_hdr *eth = (void *)frame_of(buffer);
	const struct rte_ipv4_hdr *ip = (const void *)(eth + 1);

	return rte_is_same_ether_addr(&eth->src_addr, &p->mac) &&
	       rte_is_same_ether_addr(&eth->dst_addr, &p->peer) &&
	       ip->total_length == rte_cpu_to_be_16((uint16_t)(len - sizeof(*eth)));
}

/* Frames of its own. */
static void make(struct lean *l, struct port *p, uint32_t want)
{
	for (; want > 0 && l->tx.room > 0; want--) {
		uint32_t len = traffic_next_size(p);
		uint8_t *buffer = l->free[--l->n_free];

		if (!has_headers(buffer, len, p)) {
			memset(frame_of(buffer) - LEAN_HDR, 0, LEAN_HDR);
			traffic_fill_headers(frame_of(buffer), len, p);
		}
		send_frame(l, p, buffer, len);
	}
}

static void received(struct lean *l, struct port *p, uint8_t *buffer, uint32_t len)
{
	struct rte_ether_hdr *eth = (void *)frame_of(buffer);
	struct virtio_net_hdr_v1 *hdr = (void *)(frame_of(buffer) - LEAN_HDR);
	bool mine = !guest.filter || rte_is_same_ether_addr(&eth->dst_addr, &p->mac);

	if (unlikely(len > l->room || (l->mergeable && hdr->num_buffers != 1))) {
		count(&p->stats.refused, 1);
	} else if (!mine) {
		count(&p->stats.alien, 1);
	} else {
		if (guest.touch)
			guest.sum += touch_read(eth, TOUCH_AT, len);
		count(&p->stats.rx, 1);
		count(&p->stats.rx_bytes, len);
		if (p->role == ROLE_REFLECT && l->tx.room > 0) {
			swap_macs(eth);
			send_frame(l, p, buffer, len);
			return;
		}
		if (p->role == ROLE_REFLECT)
			count(&p->stats.refused, 1);
	}
	l->free[l->n_free++] = buffer;
}

static void offer(struct lean *l, uint32_t n)
{
	while (n-- > 0) {
		uint8_t *buffer = l->free[--l->n_free];

		lean_ring_add(&l->rx, buffer, frame_of(buffer) - LEAN_HDR, l->room + LEAN_HDR,
			VRING_DESC_F_WRITE);
	}
	lean_ring_publish(&l->rx);
}

uint32_t lean_work(struct lean *l, struct port *p)
{
	uint8_t *buffers[BURST];
	uint32_t lens[BURST], n = 0;

	if (p->role == ROLE_IDLE)
		return 0;
	if (l->tx.room < l->tx.num / 2)
		reclaim(l);
	if (p->role == ROLE_SEND || p->seeds > 0) {
		uint32_t want = p->role == ROLE_SEND ? BURST : RTE_MIN(p->seeds, BURST);

		make(l, p, want);
		p->seeds -= RTE_MIN(p->seeds, want);
		lean_ring_publish(&l->tx);
	}
	while (n < BURST && (buffers[n] = lean_ring_take(&l->rx, &lens[n])) != NULL)
		__builtin_prefetch(frame_of(buffers[n++]), 1);
	if (n == 0)
		return p->role == ROLE_SEND;
	for (uint32_t i = 0; i < n; i++)
		received(l, p, buffers[i], lens[i] - LEAN_HDR);
	lean_ring_publish(&l->tx);
	offer(l, n);
	return n;
}

/* ---- coming and going ---- */

static int argument(const char *key, const char *value, void *to)
{
	struct lean *l = to;
	bool on = strcmp(value, "0") != 0;

	if (strcmp(key, "path") == 0)
		snprintf(l->path, sizeof(l->path), "%s", value);
	else if (strcmp(key, "queue_size") == 0)
		l->size = (uint32_t)strtoul(value, NULL, 10);
	else if (strcmp(key, "server") == 0)
		l->server = on;
	else if (strcmp(key, "mrg_rxbuf") == 0)
		l->want |= (uint64_t)on << VIRTIO_NET_F_MRG_RXBUF;
	else if (strcmp(key, "packed_vq") == 0)
		l->want |= (uint64_t)on << VIRTIO_F_RING_PACKED;
	else if (strcmp(key, "in_order") == 0)
		l->want |= (uint64_t)on << VIRTIO_F_IN_ORDER;
	return 0;
}

static int parse(struct lean *l, struct port *p, const char *args)
{
	static const char *const keys[] = {
		"path", "mac", "queue_size", "server", "mrg_rxbuf", "packed_vq", "in_order", NULL};
	struct rte_kvargs *list = rte_kvargs_parse(args, keys);
	const char *mac = list ? rte_kvargs_get(list, "mac") : NULL;
	int err = -EINVAL;

	l->want = TS_BIT(VIRTIO_F_VERSION_1) | TS_BIT(TS_F_PROTOCOL_FEATURES);
	if (mac && rte_ether_unformat_addr(mac, &p->mac) == 0)
		err = rte_kvargs_process(list, NULL, argument, l);
	rte_kvargs_free(list);
	if (err || *l->path == '\0' || l->size < 2 * BURST) {
		fprintf(stderr, "guest: --lean %s: path=, mac=, queue_size=, and what is known\n",
			args);
		return -EINVAL;
	}
	return 0;
}

static uint64_t stride(const struct lean *l)
{
	/* odd, in lines, lest all headers share a few sets of the cache */
	return ((l->room / RTE_CACHE_LINE_SIZE + 3) | 1ull) * RTE_CACHE_LINE_SIZE;
}

static int allocate(struct lean *l)
{
	uint64_t buffers = 2 * l->size * stride(l), rings = 256ull << 10;
	struct ts_region_conf conf = {.gpa = GPA,
		.size = RTE_ALIGN_CEIL(buffers + rings, HUGE),
		.flags = TS_REGION_HUGE | TS_REGION_NOGUARD};
	uint8_t *first;
	int err;

	l->memory = ts_guest_new();
	l->free = calloc(2 * l->size, sizeof(*l->free));
	if (!l->memory || !l->free)
		return -ENOMEM;
	err = ts_guest_add(l->memory, &conf);
	if (err < 0)
		return err;
	first = ts_va(l->memory, ts_alloc_top(l->memory, 0, buffers, RTE_CACHE_LINE_SIZE), buffers);
	while (l->n_free < 2 * l->size) {
		l->free[l->n_free] = first + l->n_free * stride(l);
		l->n_free++;
	}
	return 0;
}

static int connect_to(struct lean *l)
{
	if (l->server)
		return ts_fe_accept(&l->fe);
	return ts_fe_connect(&l->fe, l->path);
}

static int bring_up(struct lean *l)
{
	int err = connect_to(l);

	if (!err)
		err = ts_fe_negotiate(&l->fe);
	if (!err && l->want & ~l->fe.features) {
		fprintf(stderr, "guest: %s: of the features %#" PRIx64 " it offers %#" PRIx64 "\n",
			l->path, l->want, l->fe.features);
		return -ENOTSUP;
	}
	if (!err)
		err = ts_fe_make_rings(&l->fe, 0, l->size, 0);
	if (!err)
		err = lean_ring_init(&l->rx, l->fe.rings[0].ring);
	if (!err)
		err = lean_ring_init(&l->tx, l->fe.rings[1].ring);
	if (err)
		return err;
	l->mergeable = l->want & TS_BIT(VIRTIO_NET_F_MRG_RXBUF);
	offer(l, l->size);
	return ts_fe_start(&l->fe);
}

static int prepare(struct lean *l, struct port *p, const char *args, uint32_t room)
{
	int err = parse(l, p, args);

	l->room = room;
	if (!err)
		err = allocate(l);
	if (err)
		return err;
	ts_fe_init(&l->fe, &ts_virtio_user, l->memory);
	l->fe.want = l->want;
	l->fe.timeout_ms = 20000;
	return l->server ? ts_fe_listen(&l->fe, l->path) : 0;
}

int lean_open(const char *const *args, unsigned n, uint32_t room)
{
	int err = 0;

	for (unsigned i = 0; !err && i < n; i++) {
		leans[i] = calloc(1, sizeof(*leans[i]));
		if (!leans[i])
			return -ENOMEM;
		guest.ports[i].lean = leans[i];
		err = prepare(leans[i], &guest.ports[i], args[i], room);
	}
	for (unsigned i = 0; !err && i < n; i++)
		err = bring_up(leans[i]);
	for (unsigned i = 0; err && i < n && leans[i]; i++)
		if (*leans[i]->fe.why)
			fprintf(stderr, "guest: %s: %s\n", leans[i]->path, leans[i]->fe.why);
	if (err)
		fprintf(stderr, "guest: %s\n", strerror(-err));
	return err;
}

void lean_close(void)
{
	for (unsigned i = 0; i < GUEST_PORTS && leans[i]; i++) {
		struct lean *l = leans[i];

		if (l->fe.guest)
			ts_fe_free(&l->fe);
		ts_guest_free(l->memory);
		lean_ring_fini(&l->rx);
		lean_ring_fini(&l->tx);
		free(l->free);
		free(l);
	}
}

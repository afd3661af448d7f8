/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest's packets: making, sending, receiving, reflecting, and what is measured of them. */
#include <string.h>

#include <rte_byteorder.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "guest.h"
#include "lean.h"

/*
 * Theory of operation
 *
 * A round polls every port once. What a frame carries: Ethernet, IPv4 and UDP (TCP if it is to be
 * cut) so that a switch finds what it looks for; behind them the time it was made, and a word in
 * every cache line if the guest touches its payload. testpmd never looks at payload, so its packets'
 * lines stay in the back-end's cache and copying looks almost free: a real guest's application fills
 * what it sends and reads what it gets.
 *
 * Only the worker writes what is counted, and no atomic is worth its price for that: a reader gets
 * whole words, each a little old.
 */

#define STAMP_AT 42u /* behind Ethernet, IPv4 and UDP; a TCP header's checksum is elsewhere */
#define TSO_MSS  1460u

struct tso_frame {
	struct rte_ether_hdr eth;
	struct rte_ipv4_hdr ip;
	struct rte_tcp_hdr tcp;
} __rte_packed __rte_aligned(2);

struct udp_frame {
	struct rte_ether_hdr eth;
	struct rte_ipv4_hdr ip;
	struct rte_udp_hdr udp;
} __rte_packed __rte_aligned(2);

/* ---- distributions ---- */

static unsigned hist_bucket(uint64_t value)
{
	unsigned shift = value < HIST_STEPS ? 0 : 63 - 6 - (unsigned)__builtin_clzll(value);
	unsigned bucket = shift * HIST_STEPS + (unsigned)(value >> shift);

	return RTE_MIN(bucket, HIST_BUCKETS - 1);
}

/* The middle of a bucket; the first two powers share the plain numbers. */
static uint64_t hist_value(unsigned bucket)
{
	unsigned shift = bucket < 2 * HIST_STEPS ? 0 : bucket / HIST_STEPS - 1;

	return ((uint64_t)(bucket - shift * HIST_STEPS) << shift) + ((1ull << shift) >> 1);
}

static void hist_add(struct hist *h, uint64_t value)
{
	h->buckets[hist_bucket(value)]++;
	h->max = RTE_MAX(h->max, value);
	h->n++;
}

uint64_t hist_percentile(const struct hist *h, double share)
{
	uint64_t wanted = (uint64_t)((double)h->n * share), seen = 0;

	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		seen += h->buckets[i];
		if (seen > wanted)
			return hist_value(i);
	}
	return h->max;
}

/* ---- frames ---- */

uint32_t traffic_next_size(struct port *p)
{
	static const uint16_t imix[] = {64, 570, 64, 64, 570, 64, 1518, 64, 570, 64, 570, 64};

	if (guest.frame != FRAME_IMIX)
		return guest.frame;
	p->next_size = (p->next_size + 1) % RTE_DIM(imix);
	return imix[p->next_size];
}

static void fill_ip(struct rte_ipv4_hdr *ip, uint32_t len, uint8_t proto, uint16_t port)
{
	*ip = (struct rte_ipv4_hdr){
		.version_ihl = RTE_IPV4_VHL_DEF,
		.total_length = rte_cpu_to_be_16((uint16_t)(len - sizeof(struct rte_ether_hdr))),
		.time_to_live = 64,
		.next_proto_id = proto,
		.src_addr = rte_cpu_to_be_32(RTE_IPV4(198, 18, 0, 1) + port),
		.dst_addr = rte_cpu_to_be_32(RTE_IPV4(198, 18, 1, 1) + port),
	};
	ip->hdr_checksum = rte_ipv4_cksum(ip);
}

/* A segment of TCP that somebody has to cut: said anew whenever it is sent. */
static void ask_for_cutting(struct rte_mbuf *m)
{
	m->ol_flags = RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM;
	m->l2_len = sizeof(struct rte_ether_hdr);
	m->l3_len = sizeof(struct rte_ipv4_hdr);
	m->l4_len = sizeof(struct rte_tcp_hdr);
	m->tso_segsz = TSO_MSS;
}

void traffic_fill_headers(void *frame, uint32_t len, const struct port *p)
{
	uint16_t port = (uint16_t)(p - guest.ports);
	struct rte_ether_hdr eth = {.src_addr = p->mac,
		.dst_addr = p->peer,
		.ether_type = RTE_BE16(RTE_ETHER_TYPE_IPV4)};

	if (guest.tso && len > 1518) {
		struct tso_frame *f = frame;

		memset(f, 0, sizeof(*f));
		f->eth = eth;
		fill_ip(&f->ip, len, IPPROTO_TCP, port);
		f->tcp.src_port = f->tcp.dst_port = RTE_BE16(9);
		f->tcp.data_off = sizeof(f->tcp) / 4 << 4;
		f->tcp.tcp_flags = RTE_TCP_ACK_FLAG;
	} else {
		struct udp_frame *f = frame;

		f->eth = eth;
		fill_ip(&f->ip, len, IPPROTO_UDP, port);
		f->udp = (struct rte_udp_hdr){RTE_BE16(9), RTE_BE16(9),
			rte_cpu_to_be_16((uint16_t)(len - STAMP_AT + sizeof(f->udp))), 0};
	}
}

/* A chain long enough for `len`. */
static struct rte_mbuf *frame_make(struct port *p, uint32_t len)
{
	struct rte_mbuf *head = rte_pktmbuf_alloc(guest.pool), *m = head;

	if (!head)
		return NULL;
	for (uint32_t left = len;;) {
		m->data_len = (uint16_t)RTE_MIN(left, rte_pktmbuf_tailroom(m));
		left -= m->data_len;
		if (left == 0)
			break;
		m->next = rte_pktmbuf_alloc(guest.pool);
		if (!m->next) {
			rte_pktmbuf_free(head);
			return NULL;
		}
		m = m->next;
		head->nb_segs++;
	}
	head->pkt_len = len;
	traffic_fill_headers(rte_pktmbuf_mtod(head, void *), len, p);
	return head;
}

/* ---- payload ---- */

static void write_payload(struct rte_mbuf *head, uint64_t value)
{
	uint32_t off = TOUCH_AT;

	for (struct rte_mbuf *m = head; m; m = m->next, off = 0)
		touch_write(rte_pktmbuf_mtod(m, void *), off, m->data_len, value);
}

static uint64_t read_payload(const struct rte_mbuf *head)
{
	uint64_t sum = 0;
	uint32_t off = TOUCH_AT;

	for (const struct rte_mbuf *m = head; m; m = m->next, off = 0)
		sum += touch_read(rte_pktmbuf_mtod(m, const void *), off, m->data_len);
	return sum;
}

/* ---- sending ---- */

static void prepare(struct rte_mbuf **pkts, uint16_t n)
{
	for (uint16_t i = 0; guest.touch && i < n; i++)
		write_payload(pkts[i], guest.sum + i);
	for (uint16_t i = 0; guest.tso && i < n; i++) {
		pkts[i]->ol_flags = 0;
		if (pkts[i]->pkt_len > 1518)
			ask_for_cutting(pkts[i]);
	}
}

/* Send all there is room for, free the rest; how many went. */
static uint16_t packets_send(struct port *p, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t number = (uint16_t)(p - guest.ports), ready = n, sent;
	uint64_t bytes = 0;

	prepare(pkts, n);
	if (guest.tso)
		ready = rte_eth_tx_prepare(number, 0, pkts, n);
	for (uint16_t i = 0; i < ready; i++)
		bytes += pkts[i]->pkt_len;
	sent = rte_eth_tx_burst(number, 0, pkts, ready);
	for (uint16_t i = sent; i < ready; i++)
		bytes -= pkts[i]->pkt_len;
	count(&p->stats.tx, sent);
	count(&p->stats.tx_bytes, bytes);
	if (sent < n) {
		count(&p->stats.refused, n - sent);
		rte_pktmbuf_free_bulk(pkts + sent, n - sent);
	}
	return sent;
}

static uint16_t make(struct port *p, unsigned want)
{
	struct rte_mbuf *pkts[GUEST_BURST];
	uint64_t now = rte_rdtsc();
	uint16_t n = 0;

	while (n < RTE_MIN(want, GUEST_BURST)) {
		pkts[n] = frame_make(p, traffic_next_size(p));
		if (!pkts[n])
			break;
		memcpy(rte_pktmbuf_mtod_offset(pkts[n], void *, STAMP_AT), &now, sizeof(now));
		n++;
	}
	return n ? packets_send(p, pkts, n) : 0;
}

/* How many frames are due at a rate. Nobody catches up on more than a burst. */
static unsigned due(uint64_t now, uint64_t *next)
{
	int64_t step = (int64_t)((double)rte_get_tsc_hz() / guest.rate);
	int64_t late = (int64_t)(now - *next);
	unsigned n = 0;

	if (*next == 0 || late > RTE_MAX(GUEST_BURST * step, (int64_t)rte_get_tsc_hz() / 10000)) {
		*next = now;
		late = 0;
	}
	for (; n < GUEST_BURST && late >= 0; n++, late -= step)
		*next += (uint64_t)step;
	return n;
}

/* ---- receiving ---- */

static void measure(struct rte_mbuf *const *pkts, uint16_t n)
{
	uint64_t now = rte_rdtsc(), stamp;

	if (guest.last_rx && now - guest.last_rx > guest.gap)
		guest.gap = now - guest.last_rx;
	guest.last_rx = now;
	for (uint16_t i = 0; i < n; i++) {
		memcpy(&stamp, rte_pktmbuf_mtod_offset(pkts[i], const void *, STAMP_AT),
			sizeof(stamp));
		hist_add(&guest.latency, now - stamp);
	}
}

/* Frames for somebody else are none of ours; how many are left. */
static uint16_t filter(struct port *p, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t kept = 0;

	for (uint16_t i = 0; i < n; i++) {
		const struct rte_ether_hdr *eth =
			rte_pktmbuf_mtod(pkts[i], const struct rte_ether_hdr *);

		if (rte_is_same_ether_addr(&eth->dst_addr, &p->mac))
			pkts[kept++] = pkts[i];
		else
			rte_pktmbuf_free(pkts[i]);
	}
	if (kept < n)
		count(&p->stats.alien, n - kept);
	return kept;
}

static uint16_t receive(struct port *p, struct rte_mbuf **pkts)
{
	uint16_t n = rte_eth_rx_burst((uint16_t)(p - guest.ports), 0, pkts, GUEST_BURST);
	uint64_t bytes = 0;

	if (n == 0)
		return 0;
	if (guest.filter)
		n = filter(p, pkts, n);
	for (uint16_t i = 0; i < n; i++)
		bytes += pkts[i]->pkt_len;
	for (uint16_t i = 0; guest.touch && i < n; i++)
		guest.sum += read_payload(pkts[i]);
	count(&p->stats.rx, n);
	count(&p->stats.rx_bytes, bytes);
	return n;
}

/* As testpmd's macswap, so that a learning switch sees each address at its own port. */
static void swap_addresses(struct rte_mbuf *const *pkts, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		swap_macs(rte_pktmbuf_mtod(pkts[i], struct rte_ether_hdr *));
}

/* ---- rounds ---- */

static uint16_t work(struct port *p, uint64_t now, uint64_t *next)
{
	struct rte_mbuf *pkts[GUEST_BURST];
	uint16_t n;

	if (p->role == ROLE_IDLE)
		return 0;
	if (p->role == ROLE_SEND) {
		unsigned want = guest.rate > 0 ? due(now, next) : GUEST_BURST;

		return want ? make(p, want) : 0;
	}
	n = receive(p, pkts);
	if (n == 0)
		return 0;
	if (p->role == ROLE_REFLECT || p->role == ROLE_FORWARD) {
		swap_addresses(pkts, n);
		packets_send(p->role == ROLE_FORWARD ? &guest.ports[p->out] : p, pkts, n);
		return n;
	}
	if (p->role == ROLE_RECEIVE && guest.rate > 0)
		measure(pkts, n);
	rte_pktmbuf_free_bulk(pkts, n);
	return n;
}

/* A few at a time: a ring that is full of them would not move. */
static void sow(struct port *p)
{
	if (p->seeds > 0)
		p->seeds -= RTE_MIN(p->seeds, (uint32_t)make(p, p->seeds));
}

static void count_from_zero(void)
{
	for (unsigned i = 0; i < guest.n_ports; i++)
		guest.ports[i].stats = (struct port_stats){0};
	guest.busy = guest.gap = guest.last_rx = 0;
	memset(&guest.latency, 0, sizeof(guest.latency));
	memset(&guest.round, 0, sizeof(guest.round));
	raise_flag(&guest.clearing, false);
}

static void run(void)
{
	uint64_t next[GUEST_PORTS] = {0}, start = rte_rdtsc(), now;

	guest.last_rx = 0;
	while (flag(&guest.running)) {
		uint32_t moved = 0;

		for (unsigned i = 0; i < guest.n_ports; i++) {
			struct port *p = &guest.ports[i];

			if (p->lean) {
				moved += lean_work(p->lean, p);
				continue;
			}
			sow(p);
			moved += work(p, start, &next[i]);
		}
		now = rte_rdtsc();
		if (moved > 0)
			count(&guest.busy, now - start);
		else if (guest.rate > 0)
			hist_add(&guest.round, now - start);
		start = now;
		if (flag(&guest.clearing)) {
			count_from_zero();
			start = rte_rdtsc();
		}
	}
}

int traffic_worker(void *arg)
{
	(void)arg;
	while (!flag(&guest.quitting)) {
		if (flag(&guest.clearing))
			count_from_zero();
		if (!flag(&guest.running)) {
			rte_delay_us_sleep(500);
			continue;
		}
		raise_flag(&guest.resting, false);
		run();
		raise_flag(&guest.resting, true);
	}
	return 0;
}

void traffic_clear(void)
{
	raise_flag(&guest.clearing, true);
	while (flag(&guest.clearing))
		rte_delay_us_sleep(100);
}

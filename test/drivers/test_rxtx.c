/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver's bursts: who owns which packet afterwards, whatever the guest has room for. */
#include <netinet/in.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_ip.h>
#include <rte_malloc.h>
#include <rte_string_fns.h>
#include <rte_tcp.h>

#include "sluice_pmd.h"
#include "ts_tap.h"

#define MAX      600
#define MSS      100
#define SEGMENTS 7 /* of a large packet */

static struct rte_mempool *pool;
static struct sl_queue queue;

/* ---- a guest that takes so many packets, and has so many for us ---- */

static struct {
	unsigned room;
	unsigned n; /* delivered */
	struct {
		uint32_t id;
		bool tagged, right;
	} got[MAX];
	struct rte_mbuf *waiting[MAX];
	unsigned nwaiting, asked[8], bursts;
} guest;

struct packet {
	struct rte_ether_hdr eth;
	struct rte_ipv4_hdr ip;
	struct rte_tcp_hdr tcp;
	uint32_t id;
	uint8_t rest[SEGMENTS * MSS];
} __attribute__((packed, aligned(2)));

static void look_at(const struct rte_mbuf *m)
{
	struct packet p;
	uint8_t *to = (uint8_t *)&p;
	bool tagged = rte_pktmbuf_mtod(m, struct rte_ether_hdr *)->ether_type ==
		      RTE_BE16(RTE_ETHER_TYPE_VLAN);
	uint32_t skip = tagged ? sizeof(struct rte_vlan_hdr) : 0;
	uint8_t flat[sizeof(p) + sizeof(struct rte_vlan_hdr)];
	const uint8_t *from = rte_pktmbuf_read(m, 0, m->pkt_len, flat);

	assert_non_null(from);
	assert_true(m->pkt_len >= offsetof(struct packet, rest) + skip);
	memcpy(to, from, 12);
	memcpy(to + 12, from + 12 + skip, m->pkt_len - 12 - skip);
	guest.got[guest.n].id = p.id;
	guest.got[guest.n].tagged = tagged;
	guest.got[guest.n].right = rte_ipv4_udptcp_cksum_verify(&p.ip, &p.tcp) == 0;
	guest.n++;
}

static uint16_t guest_takes(
	struct virtq *vq, const struct virtq_view *view, void **pkts, uint16_t n)
{
	uint16_t done;

	(void)vq, (void)view;
	assert_true(n <= VIRTQ_BURST);
	for (done = 0; done < n && guest.room > 0; done++, guest.room--)
		look_at(pkts[done]);
	return done;
}

static uint16_t guest_gives(
	struct virtq *vq, const struct virtq_view *view, void **pkts, uint16_t n)
{
	uint16_t done;

	(void)vq, (void)view;
	guest.asked[guest.bursts++] = n;
	for (done = 0; done < n && guest.nwaiting > 0; done++) {
		pkts[done] = guest.waiting[0];
		memmove(guest.waiting, guest.waiting + 1, --guest.nwaiting * sizeof(void *));
	}
	return done;
}

static void guest_is(virtq_burst_fn burst, unsigned room)
{
	static struct virtq_view view;
	uint32_t ticket;

	memset(&guest, 0, sizeof(guest));
	guest.room = room;
	view.burst = burst;
	virtq_gate_swap(&queue.vq->gate, &view, &ticket);
	memset(&queue.vq->stats, 0, sizeof(queue.vq->stats));
	queue.unsent = 0;
}

/* ---- packets ---- */

enum kind {
	PLAIN,
	CHECKSUM,
	TAGGED,
	BROKEN, /* asks for something that its headers do not allow */
	LARGE,
	KINDS
};

static struct rte_mbuf *packet_new(enum kind kind, uint32_t id)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	uint32_t payload = kind == LARGE ? SEGMENTS * MSS : 4;
	uint32_t len = offsetof(struct packet, id) + payload;
	struct packet *p;

	assert_non_null(m);
	p = (struct packet *)rte_pktmbuf_append(m, (uint16_t)len);
	memset(p, 0, len);
	p->eth.ether_type = RTE_BE16(RTE_ETHER_TYPE_IPV4);
	p->ip.version_ihl = 0x45;
	p->ip.next_proto_id = IPPROTO_TCP;
	p->ip.total_length = rte_cpu_to_be_16((uint16_t)(len - sizeof(p->eth)));
	p->tcp.data_off = 0x50;
	for (uint32_t i = 0; i < payload; i += kind == LARGE ? MSS : payload)
		memcpy((uint8_t *)&p->id + i, &id, sizeof(id)); /* each segment carries it */
	m->l2_len = sizeof(p->eth);
	m->l3_len = sizeof(p->ip);
	m->l4_len = sizeof(p->tcp);
	if (kind == CHECKSUM || kind == BROKEN || kind == LARGE)
		m->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM | RTE_MBUF_F_TX_IPV4;
	if (kind == TAGGED) {
		m->ol_flags |= RTE_MBUF_F_TX_VLAN;
		m->vlan_tci = 100;
	}
	if (kind == BROKEN)
		m->l3_len = 60;
	if (kind == LARGE) {
		m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IP_CKSUM;
		m->tso_segsz = MSS;
	}
	return m;
}

static uint32_t packet_id(struct rte_mbuf *m)
{
	uint32_t skip = rte_pktmbuf_mtod(m, struct rte_ether_hdr *)->ether_type ==
					RTE_BE16(RTE_ETHER_TYPE_VLAN)
				? 4
				: 0;
	uint32_t id;

	memcpy(&id, rte_pktmbuf_mtod_offset(m, uint8_t *, offsetof(struct packet, id) + skip), 4);
	return id;
}

static void nobody_holds_packets(void)
{
	static const char *const names[] = {"rxtx", "soft_dir", "soft_ind", "soft_big"};

	for (size_t i = 0; i < RTE_DIM(names); i++)
		assert_int_equal(rte_mempool_in_use_count(rte_mempool_lookup(names[i])), 0);
}

/* ---- sending ---- */

/* What became of a packet: how often it was delivered, and whether it came back. */
struct fate {
	unsigned delivered;
	bool returned;
};

/*
 * Nothing is lost without a count, nothing comes twice, order is kept, and a packet comes
 * back only if the guest is full.
 */
static void check_fates(const enum kind *kinds, uint16_t n, struct rte_mbuf **pkts, uint16_t done)
{
	struct fate fate[MAX] = {0};
	unsigned dropped = 0;
	uint32_t last = 0;

	for (unsigned i = 0; i < guest.n; i++) {
		uint32_t id = guest.got[i].id;

		assert_true(id < n && id >= last);
		last = id;
		fate[id].delivered++;
		assert_int_equal(guest.got[i].tagged, kinds[id] == TAGGED);
		assert_true(guest.got[i].right || kinds[id] == PLAIN || kinds[id] == TAGGED);
	}
	for (uint16_t i = done; i < n; i++) {
		uint32_t id = packet_id(pkts[i]);

		assert_true(id < n && id >= last);
		last = id;
		assert_false(fate[id].returned);
		fate[id].returned = true;
	}
	for (uint16_t i = 0; i < n; i++) {
		unsigned pieces = kinds[i] == LARGE ? SEGMENTS : 1;

		if (fate[i].returned)
			assert_int_equal(fate[i].delivered, 0);
		else if (fate[i].delivered < pieces)
			dropped += kinds[i] == BROKEN ? 1 : pieces - fate[i].delivered;
		assert_false(kinds[i] == BROKEN && fate[i].delivered);
	}
	assert_int_equal(dropped, queue.vq->stats.drops[VIRTQ_DROP_TX_OFFLOAD] +
					  queue.vq->stats.drops[VIRTQ_DROP_TX_NO_BUFFER]);
	assert_int_equal(queue.unsent, n - done);
	if (done < n)
		assert_int_equal(guest.room, 0);
}

static void send_and_check(const enum kind *kinds, uint16_t n, unsigned room)
{
	struct rte_mbuf *pkts[MAX];
	uint16_t done;

	for (uint16_t i = 0; i < n; i++)
		pkts[i] = packet_new(kinds[i], i);
	guest_is(guest_takes, room);
	done = sl_tx_burst_soft(&queue, pkts, n);
	assert_true(done <= n);
	check_fates(kinds, n, pkts, done);
	rte_pktmbuf_free_bulk(pkts + done, n - done);
	nobody_holds_packets();
}

static void buffer_freed(void *buf, void *arg)
{
	(void)arg;
	rte_free(buf);
}

/* The same packet in a buffer outside of its mbuf. */
static struct rte_mbuf *external(struct rte_mbuf *from)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	uint16_t len = 1024;
	uint8_t *buf = rte_malloc(NULL, len, 0);
	struct rte_mbuf_ext_shared_info *info;

	assert_true(m && buf);
	info = rte_pktmbuf_ext_shinfo_init_helper(buf, &len, buffer_freed, NULL);
	rte_pktmbuf_attach_extbuf(m, buf, rte_malloc_virt2iova(buf), len, info);
	rte_pktmbuf_reset_headroom(m);
	memcpy(rte_pktmbuf_append(m, from->data_len), rte_pktmbuf_mtod(from, void *),
		from->data_len);
	m->ol_flags |= from->ol_flags;
	m->vlan_tci = from->vlan_tci;
	m->tx_offload = from->tx_offload;
	rte_pktmbuf_free(from);
	return m;
}

/* A tag goes into an external buffer unless somebody else refers to it, too. */
static void test_tag_in_external_buffer(void **state)
{
	struct rte_mbuf *m, *other;

	(void)state;
	guest_is(guest_takes, MAX);
	m = external(packet_new(TAGGED, 7));
	assert_int_equal(sl_tx_burst_soft(&queue, &m, 1), 1);
	assert_int_equal(guest.n, 1);
	assert_int_equal(guest.got[0].id, 7);
	assert_true(guest.got[0].tagged);
	nobody_holds_packets();

	m = external(packet_new(TAGGED, 8));
	other = rte_pktmbuf_clone(m, pool);
	assert_non_null(other);
	assert_int_equal(sl_tx_burst_soft(&queue, &m, 1), 1);
	assert_int_equal(guest.n, 1);
	assert_int_equal(queue.vq->stats.drops[VIRTQ_DROP_TX_OFFLOAD], 1);
	assert_int_equal(packet_id(other), 8);
	rte_pktmbuf_free(other);
	nobody_holds_packets();
}

/* Every sequence of five packets, for a guest with every amount of room. */
static void test_send_soft(void **state)
{
	enum {
		N = 5
	};
	enum kind kinds[N];

	(void)state;
	for (unsigned code = 0; code < KINDS * KINDS * KINDS * KINDS * KINDS; code++) {
		unsigned rest = code, all = 0;

		for (unsigned i = 0; i < N; i++, rest /= KINDS) {
			kinds[i] = rest % KINDS;
			all += kinds[i] == LARGE ? SEGMENTS : 1;
		}
		for (unsigned room = 0; room <= all; room++)
			send_and_check(kinds, N, room);
	}
}

static void test_send_long(void **state)
{
	static const unsigned rooms[] = {0, 1, 63, 64, 65, 128, 300, 513};
	enum kind kinds[512];

	(void)state;
	for (size_t r = 0; r < RTE_DIM(rooms); r++) {
		for (unsigned i = 0; i < RTE_DIM(kinds); i++)
			kinds[i] = i % 97 == 3 ? BROKEN : i % 5 ? PLAIN : CHECKSUM;
		send_and_check(kinds, RTE_DIM(kinds), rooms[r]);
	}
}

static void test_send_plain(void **state)
{
	static const unsigned rooms[] = {0, 1, 63, 64, 65, 299, 300, 301};
	struct rte_mbuf *pkts[300];

	(void)state;
	for (size_t r = 0; r < RTE_DIM(rooms); r++) {
		uint16_t expected = (uint16_t)RTE_MIN(rooms[r], RTE_DIM(pkts)), done;

		for (uint16_t i = 0; i < RTE_DIM(pkts); i++)
			pkts[i] = packet_new(PLAIN, i);
		guest_is(guest_takes, rooms[r]);
		done = sl_tx_burst(&queue, pkts, RTE_DIM(pkts));
		assert_int_equal(done, expected);
		assert_int_equal(guest.n, expected);
		assert_int_equal(queue.unsent, RTE_DIM(pkts) - expected);
		rte_pktmbuf_free_bulk(pkts + done, RTE_DIM(pkts) - done);
		nobody_holds_packets();
	}
}

static void test_prepare(void **state)
{
	struct rte_mbuf *pkts[3];

	(void)state;
	for (uint16_t i = 0; i < RTE_DIM(pkts); i++)
		pkts[i] = packet_new(i == 0 ? LARGE : TAGGED, i);
	assert_int_equal(sl_tx_prepare(&queue, pkts, RTE_DIM(pkts)), RTE_DIM(pkts));
	pkts[1]->ol_flags |= RTE_MBUF_F_TX_TUNNEL_VXLAN;
	assert_int_equal(sl_tx_prepare(&queue, pkts, RTE_DIM(pkts)), 1);
	assert_int_equal(rte_errno, ENOTSUP);
	rte_pktmbuf_free_bulk(pkts, RTE_DIM(pkts));
}

/* ---- receiving ---- */

/* In pieces of a burst, until there is no more or the application has what it asked for. */
static void test_receive(void **state)
{
	static const struct {
		unsigned waiting, n, got, bursts, last;
	} rows[] = {
		{0, 32, 0, 1, 32},
		{10, 32, 10, 1, 32},
		{100, 32, 32, 1, 32},
		{64, 64, 64, 1, 64},
		{64, 200, 64, 2, 64},
		{65, 200, 65, 2, 64},
		{300, 200, 200, 4, 8},
	};

	(void)state;
	for (size_t r = 0; r < RTE_DIM(rows); r++) {
		struct rte_mbuf *pkts[MAX];
		unsigned got;

		guest_is(guest_gives, 0);
		for (; guest.nwaiting < rows[r].waiting; guest.nwaiting++)
			guest.waiting[guest.nwaiting] = packet_new(PLAIN, guest.nwaiting);
		got = sl_rx_burst(&queue, pkts, (uint16_t)rows[r].n);
		assert_int_equal(got, rows[r].got);
		assert_int_equal(guest.bursts, rows[r].bursts);
		assert_int_equal(guest.asked[guest.bursts - 1], rows[r].last);
		for (unsigned i = 0; i < got; i++)
			assert_int_equal(packet_id(pkts[i]), i);
		rte_pktmbuf_free_bulk(pkts, got);
		rte_pktmbuf_free_bulk(guest.waiting, guest.nwaiting);
		nobody_holds_packets();
	}
}

static bool checksum_is_right(const struct rte_mbuf *m)
{
	const struct packet *p = rte_pktmbuf_mtod(m, const struct packet *);

	return rte_ipv4_udptcp_cksum_verify(&p->ip, &p->tcp) == 0;
}

/* What the guest left to do is done, and said; the rest is as it came. */
static void test_receive_soft(void **state)
{
	static const enum kind kinds[] = {PLAIN, CHECKSUM, LARGE, BROKEN, PLAIN};
	struct rte_mbuf *pkts[RTE_DIM(kinds)];

	(void)state;
	guest_is(guest_gives, 0);
	for (unsigned i = 0; i < RTE_DIM(kinds); i++)
		guest.waiting[guest.nwaiting++] = packet_new(kinds[i], i);
	queue.soften = VNET_OFFLOAD_FLAGS;
	queue.vq->stats.packets = RTE_DIM(kinds); /* what lib/vnet does */
	queue.vq->stats.bytes = 10000 + guest.waiting[3]->pkt_len;
	assert_int_equal(sl_rx_burst_soft(&queue, pkts, RTE_DIM(pkts)), RTE_DIM(kinds) - 1);
	assert_int_equal(queue.vq->stats.drops[VIRTQ_DROP_RX_BAD_HEADER], 1);
	assert_int_equal(queue.vq->stats.packets, RTE_DIM(kinds) - 1);
	assert_int_equal(queue.vq->stats.bytes, 10000);
	assert_int_equal(pkts[0]->ol_flags, 0);
	assert_int_equal(pkts[1]->ol_flags, RTE_MBUF_F_RX_L4_CKSUM_GOOD);
	assert_true(checksum_is_right(pkts[1]));
	assert_int_equal(pkts[2]->ol_flags, RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_LRO);
	assert_true(checksum_is_right(pkts[2]));
	assert_int_equal(pkts[2]->pkt_len, offsetof(struct packet, id) + SEGMENTS * MSS);
	assert_int_equal(pkts[2]->tso_segsz, MSS);
	assert_int_equal(packet_id(pkts[3]), 4);
	rte_pktmbuf_free_bulk(pkts, RTE_DIM(kinds) - 1);
	nobody_holds_packets();
}

static void test_receive_strips_tags(void **state)
{
	struct rte_mbuf *pkts[2];

	(void)state;
	guest_is(guest_gives, 0);
	for (unsigned i = 0; i < 2; i++)
		guest.waiting[guest.nwaiting++] = packet_new(PLAIN, i);
	guest.waiting[1]->vlan_tci = 100;
	assert_int_equal(rte_vlan_insert(&guest.waiting[1]), 0);
	queue.soften = 0;
	queue.vlan_strip = true;
	assert_int_equal(sl_rx_burst_soft(&queue, pkts, 2), 2);
	queue.vlan_strip = false;
	assert_int_equal(pkts[0]->ol_flags, 0);
	assert_true(pkts[1]->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED);
	assert_int_equal(pkts[1]->vlan_tci, 100);
	assert_int_equal(packet_id(pkts[1]), 1);
	rte_pktmbuf_free_bulk(pkts, 2);
	nobody_holds_packets();
}

/* Only the first half of a tag is there; what lies behind it is nobody's. */
static void test_receive_half_a_tag(void **state)
{
	(void)state;
	queue.soften = 0;
	queue.vlan_strip = true;
	for (uint16_t len = RTE_ETHER_HDR_LEN; len <= RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN; len++) {
		bool whole = len == RTE_ETHER_HDR_LEN + RTE_VLAN_HLEN;
		struct rte_mbuf *m;

		guest_is(guest_gives, 0);
		m = guest.waiting[guest.nwaiting++] = packet_new(PLAIN, 0);
		m->data_len = m->pkt_len = len;
		rte_pktmbuf_mtod(m, struct rte_ether_hdr *)->ether_type =
			RTE_BE16(RTE_ETHER_TYPE_VLAN);
		assert_int_equal(sl_rx_burst_soft(&queue, &m, 1), 1);
		assert_int_equal(m->pkt_len, whole ? RTE_ETHER_HDR_LEN : len);
		assert_int_equal(m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED,
			whole ? RTE_MBUF_F_RX_VLAN_STRIPPED : 0);
		rte_pktmbuf_free(m);
	}
	queue.vlan_strip = false;
	nobody_holds_packets();
}

static int setup_soft(void **state)
{
	(void)state;
	queue.offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	queue.soften = vnet_soft_mask(queue.offloads);
	return 0;
}

int main(int argc, char **argv)
{
	static char line[] = "rxtx --no-huge -m 64 --no-pci --no-shconf --no-telemetry -l 0 "
			     "--log-level error";
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_send_soft, setup_soft),
		cmocka_unit_test_setup(test_send_long, setup_soft),
		cmocka_unit_test_setup(test_tag_in_external_buffer, setup_soft),
		cmocka_unit_test(test_send_plain),
		cmocka_unit_test(test_prepare),
		cmocka_unit_test(test_receive),
		cmocka_unit_test(test_receive_soft),
		cmocka_unit_test(test_receive_strips_tags),
		cmocka_unit_test(test_receive_half_a_tag),
	};
	char *eal[16];
	int neal = rte_strsplit(line, sizeof(line), eal, RTE_DIM(eal), ' '), err = 1;

	if (rte_eal_init(neal, eal) < 0) {
		fprintf(stderr, "%s: EAL does not start\n", argv[0]);
		return 1;
	}
	virtq_gate_init();
	pool = rte_pktmbuf_pool_create(
		"rxtx", 1023, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	queue.soft = vnet_soft_create("soft", SOCKET_ID_ANY);
	queue.vq = virtq_new();
	if (pool && queue.soft && queue.vq)
		err = ts_run_tests(tests, RTE_DIM(tests), argc, argv);
	virtq_free(queue.vq);
	vnet_soft_destroy(queue.soft);
	rte_mempool_free(pool);
	return rte_eal_cleanup() != 0 || err;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of software checksums, and of what vnet_soften() cannot do. */
#include <netinet/in.h>
#include <string.h>

#include <rte_mbuf_dyn.h>

#include "soft_fixture.h"

/* ---- checksums ---- */

static void test_checksums(void **state)
{
	uint8_t right[FRAME_MAX];

	for (size_t i = 0; i < frame_nspecs; i++) {
		for (int shape = 0; shape < SHAPES; shape++) {
			struct virtio_net_hdr h;
			struct rte_mbuf *m;
			uint64_t flags;
			bool in_place;

			frame_build(&frame, &frame_specs[i]);
			memcpy(right, frame.byte, frame.len);
			h = frame_strip(&frame);
			m = soft_packet(shape);
			flags = soft_request(m, &h);
			in_place = soft_is_alone(shape) && ((shape & 1) || m->nb_segs == 1);
			assert_int_equal(vnet_soften(soft, m, shape & 1 ? SEGS : 0, out, 1), 1);
			assert_int_equal(out[0] == m, in_place);
			assert_false(out[0]->ol_flags & VNET_OFFLOAD_FLAGS);
			assert_int_equal(out[0]->vlan_tci, 77);
			assert_int_equal(out[0]->port, 5);
			assert_int_equal(mbuf_bytes(out[0], bytes), frame.len);
			assert_memory_equal(bytes, right, frame.len);
			frame_check(&frame, bytes, frame.len);
			soft_release(flags);
			soft_free(1);
			soft_no_leak();
		}
	}
}

/* Only what is lacking is done. */
static void test_some_checksums(void **state)
{
	static const struct {
		uint64_t offloads;
		bool l4, ip; /* done in software */
	} rows[] = {
		{SEGS, true, true},
		{SEGS | RTE_ETH_TX_OFFLOAD_TCP_CKSUM, false, true},
		{SEGS | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM, true, false},
		{SEGS | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM, true, false},
		{SEGS | CSUMS, false, false},
	};

	for (size_t i = 0; i < RTE_DIM(rows); i++) {
		struct virtio_net_hdr h;
		struct rte_mbuf *m;
		uint64_t flags;
		uint8_t right[FRAME_MAX];

		frame_build(&frame, &frame_specs[0]);
		memcpy(right, frame.byte, frame.len);
		h = frame_strip(&frame);
		frame_put16(frame.byte + frame.l3 + 10, 0x5555);
		m = soft_packet(CHAIN);
		flags = soft_request(m, &h) | RTE_MBUF_F_TX_IP_CKSUM;
		m->ol_flags = flags;
		assert_int_equal(vnet_soften(soft, m, rows[i].offloads, out, 1), 1);
		assert_ptr_equal(m, out[0]);
		if (rows[i].l4)
			flags &= ~RTE_MBUF_F_TX_L4_MASK;
		if (rows[i].ip)
			flags &= ~RTE_MBUF_F_TX_IP_CKSUM;
		assert_true(m->ol_flags == flags);
		mbuf_bytes(m, bytes);
		assert_int_equal(!memcmp(bytes + frame.field, right + frame.field, 2), rows[i].l4);
		assert_int_equal(
			!memcmp(bytes + frame.l3 + 10, right + frame.l3 + 10, 2), rows[i].ip);
		soft_free(1);
	}
	soft_no_leak();
}

/* A UDP checksum that comes out as 0 is written as 0xffff. */
static void test_zero(void **state)
{
	struct virtio_net_hdr h;
	struct rte_mbuf *m;

	frame_build(&frame, &frame_specs[14]);
	frame_make_zero(&frame);
	h = frame_strip(&frame);
	m = soft_packet(ODD);
	soft_request(m, &h);
	assert_int_equal(vnet_soften(soft, m, SEGS, out, 1), 1);
	mbuf_bytes(out[0], bytes);
	assert_int_equal(frame_get16(bytes + frame.field), 0xffff);
	soft_free(1);
	soft_no_leak();
}

/* CRC32c bit by bit (RFC 9260, appendix A). */
static uint32_t crc32c(const uint8_t *p, uint32_t len)
{
	uint32_t crc = UINT32_MAX;

	for (uint32_t i = 0; i < len; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}

static void test_sctp(void **state)
{
	for (uint32_t payload = 0; payload < 4000; payload += 333) {
		uint32_t crc;
		struct rte_mbuf *m;

		frame_build(&frame, &(struct frame_spec){"", .v6 = payload & 1,
					    .proto = IPPROTO_SCTP, .payload = payload});
		memset(frame.byte + frame.field, 0, 4);
		crc = crc32c(frame.byte + frame.l4, frame.len - frame.l4);
		memset(frame.byte + frame.field, 0xab, 4);
		m = soft_packet(ODD);
		m->l2_len = frame.l3;
		m->l3_len = frame.l4 - frame.l3;
		m->ol_flags = RTE_MBUF_F_TX_SCTP_CKSUM;
		assert_int_equal(vnet_soften(soft, m, SEGS | CSUMS, out, 1), 1);
		assert_true(out[0]->ol_flags == 0);
		mbuf_bytes(out[0], bytes);
		for (int i = 0; i < 4; i++)
			assert_int_equal(bytes[frame.field + i], crc >> 8 * i & 0xff);
		soft_free(1);
	}
	soft_no_leak();
}

/* ---- one piece ---- */

static void test_linear(void **state)
{
	static const struct {
		uint32_t payload;
		bool fits;
	} rows[] = {{100, true}, {1994, true}, {1995, true}, {8000, true}, {9674, true},
		{9675, false}, {60000, false}};

	for (size_t i = 0; i < RTE_DIM(rows); i++) {
		struct rte_mbuf *m;
		uint16_t n;

		frame_build(&frame,
			&(struct frame_spec){"", .proto = IPPROTO_TCP, .payload = rows[i].payload});
		m = soft_packet(AT_HEADERS);
		m->vlan_tci = 77;
		m->port = 5;
		n = vnet_soften(soft, m, 0, out, 1);
		assert_int_equal(n, rows[i].fits);
		if (n) {
			soft_check(out[0], 0);
			assert_int_equal(mbuf_bytes(out[0], bytes), frame.len);
			assert_memory_equal(bytes, frame.byte, frame.len);
		}
		soft_free(n);
		soft_no_leak();
	}
}

/* ---- what cannot be done ---- */

/* Too many segments, or a request that does not fit the packet: freed, nothing comes out. */
static void test_impossible(void **state)
{
	static const struct {
		uint16_t mss, max;
		uint8_t l2, l3, l4; /* added to the right ones */
		uint64_t flags;
		bool linear;
	} rows[] = {
		{.mss = 1448, .max = 45}, /* it would be 46 */
		{.mss = 1, .max = OUT_MAX},
		{.mss = 0, .max = OUT_MAX},
		{.mss = 1448, .max = OUT_MAX, .l2 = 1},
		{.mss = 1448, .max = OUT_MAX, .l2 = 100},
		{.mss = 1448, .max = OUT_MAX, .l3 = 4},
		{.mss = 1448, .max = OUT_MAX, .l4 = 4},
		{.mss = 1448, .max = OUT_MAX, .flags = RTE_MBUF_F_TX_TUNNEL_VXLAN},
		{.mss = 9675, .max = OUT_MAX, .linear = true},
	};

	for (size_t i = 0; i < RTE_DIM(rows); i++) {
		struct virtio_net_hdr h;
		struct rte_mbuf *m;

		frame_build(&frame, &large_tcp[0]);
		h = soft_large(1448);
		m = soft_packet(CHAIN);
		soft_request(m, &h);
		m->tso_segsz = rows[i].mss;
		m->l2_len += rows[i].l2;
		m->l3_len += rows[i].l3;
		m->l4_len += rows[i].l4;
		m->ol_flags |= rows[i].flags;
		assert_int_equal(
			vnet_soften(soft, m, rows[i].linear ? 0 : SEGS, out, rows[i].max), 0);
		soft_no_leak();
		/* The same packet, to be summed up only. */
		if (rows[i].l2 + rows[i].l3 == 0)
			continue;
		m = soft_packet(CHAIN);
		m->ol_flags = RTE_MBUF_F_TX_TCP_CKSUM;
		m->l2_len = frame.l3 + rows[i].l2;
		m->l3_len = frame.l4 - frame.l3 + rows[i].l3;
		assert_int_equal(vnet_soften(soft, m, SEGS, out, 1), 0);
		m = soft_packet(CHAIN);
		m->ol_flags = RTE_MBUF_F_TX_IP_CKSUM;
		m->l2_len = frame.l3 + rows[i].l2;
		m->l3_len = frame.l4 - frame.l3 + rows[i].l3;
		assert_int_equal(vnet_soften(soft, m, SEGS, out, 1), 0);
		soft_no_leak();
	}
}

static void test_no_room(void **state)
{
	for (size_t i = 0; i < frame_nspecs; i++) {
		frame_build(&frame, &frame_specs[i]);
		assert_int_equal(vnet_soften(soft, soft_packet(CHAIN), SEGS, out, 0), 0);
		soft_no_leak();
	}
}

/* Without pools what can be done in place is done. */
static void test_no_pools(void **state)
{
	for (int shape = 0; shape < SHAPES; shape++) {
		struct virtio_net_hdr h;
		struct rte_mbuf *m;
		uint64_t flags;
		uint16_t n;

		frame_build(&frame, &frame_specs[0]);
		h = frame_strip(&frame);
		m = soft_packet(shape);
		flags = soft_request(m, &h);
		n = vnet_soften(NULL, m, SEGS, out, 1);
		assert_int_equal(n, soft_is_alone(shape));
		if (n)
			frame_check(&frame, bytes, mbuf_bytes(out[0], bytes));
		soft_free(n);
		soft_release(flags);

		frame_build(&frame, &large_tcp[5]);
		h = soft_large(1448);
		m = soft_packet(shape);
		flags = soft_request(m, &h);
		assert_int_equal(vnet_soften(NULL, m, SEGS, out, OUT_MAX), 0);
		soft_release(flags);
		soft_no_leak();
	}
}

/* Take all mbufs of a pool but n. @return how many were taken */
static unsigned drain(struct rte_mempool *mp, struct rte_mbuf **taken, unsigned n)
{
	unsigned count = rte_mempool_avail_count(mp) - n;

	for (unsigned i = 0; i < count; i++)
		assert_non_null(taken[i] = rte_pktmbuf_alloc(mp));
	return count;
}

static void lose_memory(const char *name, const struct frame_spec *spec, uint16_t mss,
	enum shape shape, uint64_t offloads)
{
	static struct rte_mbuf *taken[8192];
	struct rte_mempool *mp = rte_mempool_lookup(name);
	uint16_t all = (uint16_t)((spec->payload + mss - 1) / mss);

	for (unsigned left = 0; left < 60; left += 7) {
		unsigned count = drain(mp, taken, left);
		struct virtio_net_hdr h;
		struct rte_mbuf *m;
		uint64_t flags;
		uint16_t n;

		frame_build(&frame, spec);
		h = soft_large(mss);
		m = soft_packet(shape);
		flags = soft_request(m, &h);
		n = vnet_soften(soft, m, offloads, out, OUT_MAX);
		assert_true(n == 0 || n == all);
		soft_free(n);
		soft_release(flags);
		rte_pktmbuf_free_bulk(taken, count);
		soft_no_leak();
	}
}

/* Memory that runs out at any point loses the packet and nothing else. */
static void test_no_memory(void **state)
{
	static const char *const names[] = {"test_soft_dir", "test_soft_ind", "test_soft_big"};
	static const uint16_t mss[] = {1448, 3000, 12000};

	for (size_t i = 0; i < RTE_DIM(names); i++)
		for (size_t k = 0; k < RTE_DIM(mss); k++)
			for (int shape = 0; shape < SHAPES; shape++)
				for (int v6 = 0; v6 < 2; v6++)
					for (int segs = 0; segs < 2; segs++)
						lose_memory(names[i], &large_tcp[v6 ? 5 : 1],
							mss[k], shape, segs ? SEGS : 0);
}

/* ---- who lacks what ---- */

static void test_mask(void **state)
{
	static const struct {
		uint64_t offload, flags;
	} rows[] = {
		{RTE_ETH_TX_OFFLOAD_IPV4_CKSUM, RTE_MBUF_F_TX_IP_CKSUM},
		{RTE_ETH_TX_OFFLOAD_TCP_CKSUM, RTE_MBUF_F_TX_TCP_CKSUM},
		{RTE_ETH_TX_OFFLOAD_TCP_CKSUM, RTE_MBUF_F_TX_TCP_SEG},
		{RTE_ETH_TX_OFFLOAD_UDP_CKSUM, RTE_MBUF_F_TX_UDP_CKSUM},
		{RTE_ETH_TX_OFFLOAD_UDP_CKSUM, RTE_MBUF_F_TX_UDP_SEG},
		{RTE_ETH_TX_OFFLOAD_UDP_CKSUM, VNET_MBUF_F_UFO},
		{RTE_ETH_TX_OFFLOAD_SCTP_CKSUM, RTE_MBUF_F_TX_SCTP_CKSUM},
		{RTE_ETH_TX_OFFLOAD_TCP_TSO, RTE_MBUF_F_TX_TCP_SEG},
		{RTE_ETH_TX_OFFLOAD_UDP_TSO, RTE_MBUF_F_TX_UDP_SEG},
		{VNET_TX_OFFLOAD_UFO, VNET_MBUF_F_UFO},
	};
	const uint64_t all = CSUMS | RTE_ETH_TX_OFFLOAD_SCTP_CKSUM | TSO | USO | UFO;

	assert_true(vnet_soft_mask(all) == 0);
	assert_true(vnet_soft_mask(UINT64_MAX & ~VNET_TX_OFFLOAD_NO_CWR) == 0);
	assert_true(vnet_soft_mask(all | VNET_TX_OFFLOAD_NO_CWR) == RTE_MBUF_F_TX_TCP_SEG);
	/* Whatever a device can do. */
	assert_true(vnet_soft_mask(UINT64_MAX & ~VNET_TX_OFFLOAD_OWN) == VNET_MBUF_F_UFO);
	assert_true(vnet_soft_mask(0) == VNET_OFFLOAD_FLAGS);
	for (size_t i = 0; i < RTE_DIM(rows); i++) {
		uint64_t mask = vnet_soft_mask(all & ~rows[i].offload);

		assert_true(mask & rows[i].flags);
		assert_false(mask & ~VNET_OFFLOAD_FLAGS);
	}
	assert_false(vnet_soft_mask(all & ~CSUMS) & RTE_MBUF_F_RX_L4_CKSUM_MASK);
}

static void test_offloads(void **state)
{
	static const struct {
		uint64_t features, tx, rx;
	} rows[] = {
		{0, SEGS, 0},
		{F(GUEST_TSO4) | F(GUEST_TSO6) | F(HOST_TSO4), SEGS, 0},
		{F(GUEST_CSUM), SEGS | CSUMS, 0},
		{F(GUEST_CSUM) | F(GUEST_TSO4), SEGS | CSUMS, 0},
		{F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6),
			SEGS | CSUMS | TSO | VNET_TX_OFFLOAD_NO_CWR, 0},
		{F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6) | F(GUEST_ECN), SEGS | CSUMS | TSO,
			0},
		{F(GUEST_CSUM) | F(GUEST_UFO), SEGS | CSUMS | UFO, 0},
		{F(GUEST_CSUM) | F(GUEST_USO4), SEGS | CSUMS, 0},
		{F(GUEST_CSUM) | F(GUEST_USO4) | F(GUEST_USO6), SEGS | CSUMS | USO, 0},
		{F(CSUM), SEGS, RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM},
		{F(CSUM) | F(HOST_TSO6), SEGS,
			RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM |
				RTE_ETH_RX_OFFLOAD_TCP_LRO | RTE_ETH_RX_OFFLOAD_SCATTER},
		{F(CSUM) | F(HOST_UFO), SEGS,
			RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM |
				RTE_ETH_RX_OFFLOAD_SCATTER},
	};

	for (size_t i = 0; i < RTE_DIM(rows); i++) {
		assert_true(vnet_tx_offloads(rows[i].features) == rows[i].tx);
		assert_true(vnet_rx_offloads(rows[i].features) == rows[i].rx);
	}
}

/* With CWR and without. */
static const struct {
	struct frame_spec spec;
	uint8_t type;
} requests[] = {
	{{"tcp4 cwr", .proto = IPPROTO_TCP, .tcp_flags = 0x90, .payload = 30000},
		VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN},
	{{"tcp4", .proto = IPPROTO_TCP, .tcp_flags = 0x10, .payload = 3000},
		VIRTIO_NET_HDR_GSO_TCPV4},
	{{"tcp6 cwr", .v6 = true, .proto = IPPROTO_TCP, .tcp_flags = 0x90, .payload = 3000},
		VIRTIO_NET_HDR_GSO_TCPV6 | VIRTIO_NET_HDR_GSO_ECN},
	{{"tcp6", .v6 = true, .proto = IPPROTO_TCP, .tcp_flags = 0x10, .payload = 30000},
		VIRTIO_NET_HDR_GSO_TCPV6},
	{{"udp4", .proto = IPPROTO_UDP, .payload = 30000}, VIRTIO_NET_HDR_GSO_UDP},
	{{"udp6", .v6 = true, .proto = IPPROTO_UDP, .payload = 3000}, VIRTIO_NET_HDR_GSO_UDP},
	{{"udp4", .proto = IPPROTO_UDP, .payload = 3000}, VIRTIO_NET_HDR_GSO_UDP_L4},
	{{"udp6", .v6 = true, .proto = IPPROTO_UDP, .payload = 30000}, VIRTIO_NET_HDR_GSO_UDP_L4},
};

/* One packet for a guest with these features. @return did it pass whole? */
static bool check_taken(size_t row, uint64_t features)
{
	uint64_t offloads = vnet_tx_offloads(features);
	struct virtio_net_hdr h;
	struct rte_mbuf *m;
	bool whole;
	uint16_t n;

	frame_build(&frame, &requests[row].spec);
	h = soft_large(1448);
	h.gso_type = requests[row].type;
	m = soft_packet(CHAIN);
	soft_request(m, &h);
	/* Whoever has no flag in the mask is given the packet without asking. */
	if (!(m->ol_flags & vnet_soft_mask(offloads))) {
		struct vnet_patches patches;

		assert_int_equal(vnet_mbuf_to_hdr(m, features, &h, &patches), 0);
	}
	n = vnet_soften(soft, m, offloads, out, OUT_MAX);
	assert_true(n > 0);
	whole = out[0] == m;
	for (uint16_t k = 0; k < n; k++) {
		struct vnet_patches patches;

		assert_int_equal(vnet_mbuf_to_hdr(out[k], features, &h, &patches), 0);
		assert_int_equal(patches.n, 0);
		assert_int_equal(h.gso_type, whole ? requests[row].type : 0);
	}
	soft_free(n);
	return whole;
}

/* A guest never refuses what it was said to take, and gets whole what it can take whole. */
static void test_offloads_taken(void **state)
{
	const uint64_t tso = F(GUEST_TSO4) | F(GUEST_TSO6), uso = F(GUEST_USO4) | F(GUEST_USO6);
	const uint64_t bit[] = {F(GUEST_CSUM), F(GUEST_TSO4), F(GUEST_TSO6), F(GUEST_UFO),
		F(GUEST_ECN), F(GUEST_USO4), F(GUEST_USO6)};

	for (unsigned bits = 0; bits < 1u << RTE_DIM(bit); bits++) {
		uint64_t f = 0;

		for (size_t i = 0; i < RTE_DIM(bit); i++)
			f |= bits & 1u << i ? bit[i] : 0;
		for (size_t i = 0; i < RTE_DIM(requests); i++) {
			uint8_t type = requests[i].type;
			uint64_t needs = F(GUEST_CSUM);

			if (type == VIRTIO_NET_HDR_GSO_UDP)
				needs |= F(GUEST_UFO);
			else
				needs |= type == VIRTIO_NET_HDR_GSO_UDP_L4 ? uso : tso;
			if (type & VIRTIO_NET_HDR_GSO_ECN)
				needs |= F(GUEST_ECN);
			assert_int_equal(check_taken(i, f), (f & needs) == needs);
		}
	}
	soft_no_leak();
}

/* The bit is reserved once, however often that is asked for, and for nobody else. */
static void test_flag(void **state)
{
	const struct rte_mbuf_dynflag other = {.name = "other"};
	char why[128];

	assert_int_equal(vnet_init(why, sizeof(why)), 0);
	assert_int_equal(vnet_init(why, sizeof(why)), 0);
	assert_true(rte_mbuf_dynflag_register_bitnum(&other, 40) < 0);
}

/* Whatever is among them: each comes home, and what somebody else holds stays as it is. */
static void test_free_bulk(void **state)
{
	struct rte_mbuf *m[3];
	struct rte_mempool *other = rte_pktmbuf_pool_create(
		"other", 15, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);

	(void)state;
	assert_non_null(other);
	for (int shape = 0; shape < SHAPES; shape++) {
		struct virtio_net_hdr h;
		uint64_t flags;

		frame_build(&frame, &frame_specs[0]);
		h = frame_strip(&frame);
		m[1] = soft_packet(shape);
		flags = soft_request(m[1], &h);
		m[0] = rte_pktmbuf_alloc(m[1]->pool);
		m[2] = rte_pktmbuf_alloc(shape & 1 ? other : m[1]->pool);
		vnet_free_bulk(m, 0);
		vnet_free_bulk(m, RTE_DIM(m));
		soft_release(flags);
		soft_no_leak();
		assert_int_equal(rte_mempool_in_use_count(other), 0);
	}
	m[0] = rte_pktmbuf_alloc(other);
	m[1] = rte_pktmbuf_alloc(other);
	vnet_free_bulk(m, 2);
	assert_int_equal(rte_mempool_in_use_count(other), 0);
	rte_mempool_free(other);
}

static void test_create(void **state)
{
	assert_null(vnet_soft_create("a name that is too long for a pool", SOCKET_ID_ANY));
	assert_null(vnet_soft_create("test_soft", SOCKET_ID_ANY)); /* taken */
	vnet_soft_destroy(NULL);
	soft_no_leak();
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checksums),
		cmocka_unit_test(test_some_checksums),
		cmocka_unit_test(test_zero),
		cmocka_unit_test(test_sctp),
		cmocka_unit_test(test_linear),
		cmocka_unit_test(test_impossible),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_no_pools),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_mask),
		cmocka_unit_test(test_offloads),
		cmocka_unit_test(test_offloads_taken),
		cmocka_unit_test(test_flag),
		cmocka_unit_test(test_free_bulk),
		cmocka_unit_test(test_create),
	};

	return soft_run(tests, RTE_DIM(tests), argc, argv);
}

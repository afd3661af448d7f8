/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of software segmentation, TCP and UDP. */
#include <netinet/in.h>
#include <string.h>

#include "soft_fixture.h"

/* ---- segmentation ---- */

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)frame_get16(p) << 16 | frame_get16(p + 2);
}

/* Segment i of n, whose payload begins at place in the frame's. @return payload bytes */
static uint32_t check_tcp_segment(
	const struct rte_mbuf *m, uint16_t i, uint16_t n, uint32_t place, uint16_t mss)
{
	uint32_t len = mbuf_bytes(m, bytes), payload = len - frame.data;
	uint8_t flags = frame.byte[frame.l4 + 13];

	if (i > 0)
		flags &= ~0x80; /* CWR */
	if (i + 1 < n)
		flags &= ~0x09; /* FIN, PSH */
	assert_true(payload == mss || (i + 1 == n && payload > 0 && payload < mss));
	frame_check(&frame, bytes, len);
	assert_memory_equal(bytes + frame.data, frame.byte + frame.data + place, payload);
	assert_int_equal(get32(bytes + frame.l4 + 4), (uint32_t)(FRAME_SEQ + place));
	assert_int_equal(bytes[frame.l4 + 13], flags);
	if (!frame.v6) {
		assert_int_equal(frame_get16(bytes + frame.l3 + 4), (uint16_t)(FRAME_ID + i));
		assert_int_equal(frame_get16(bytes + frame.l3 + 6), 0x4000);
	}
	/* All the other bytes of the headers are those of the frame. */
	memcpy(bytes + frame.l3 + (frame.v6 ? 4 : 2), frame.byte + frame.l3 + (frame.v6 ? 4 : 2),
		frame.v6 ? 2 : 4);
	if (!frame.v6)
		memcpy(bytes + frame.l3 + 10, frame.byte + frame.l3 + 10, 2);
	memcpy(bytes + frame.l4 + 4, frame.byte + frame.l4 + 4, 4);
	bytes[frame.l4 + 13] = frame.byte[frame.l4 + 13];
	memcpy(bytes + frame.field, frame.byte + frame.field, 2);
	assert_memory_equal(bytes, frame.byte, frame.data);
	return payload;
}

static void run_tcp(
	const struct frame_spec *spec, uint16_t mss, enum shape shape, uint64_t offloads)
{
	struct virtio_net_hdr h;
	struct rte_mbuf *m;
	uint16_t n, expected;
	uint32_t place = 0;
	uint64_t flags;

	frame_build(&frame, spec);
	h = soft_large(mss);
	m = soft_packet(shape);
	flags = soft_request(m, &h);
	assert_true(flags & RTE_MBUF_F_TX_TCP_SEG);
	expected = (uint16_t)((spec->payload + mss - 1) / mss);
	n = vnet_soften(soft, m, offloads, out, expected);
	assert_int_equal(n, expected);
	for (uint16_t i = 0; i < n; i++) {
		soft_check(out[i], offloads);
		place += check_tcp_segment(out[i], i, n, place, mss);
	}
	assert_int_equal(place, spec->payload);
	soft_free(n);
	soft_release(flags);
	soft_no_leak();
}

static void test_tso(void **state)
{
	static const uint16_t mss[] = {1448, 1460, 537, 536, 2049, 4000, 12000};

	for (size_t i = 0; i < nlarge_tcp; i++)
		for (size_t k = 0; k < RTE_DIM(mss); k++)
			for (int shape = 0; shape < SHAPES; shape++)
				for (int segs = 0; segs < 2; segs++) {
					if ((shape == EXTERNAL || shape == EXTERNAL_CLONED) &&
						large_tcp[i].payload > 60000)
						continue; /* no buffer is as large */
					if (mss[k] > 9600 &&
						(!segs || large_tcp[i].payload < mss[k]))
						continue;
					run_tcp(&large_tcp[i], mss[k], shape, segs ? SEGS : 0);
				}
}

/* Payload is not copied where rte_gso can refer to it. */
static void test_tso_refers(void **state)
{
	for (int shape = 0; shape < SHAPES; shape++) {
		bool refers = shape == CHAIN || shape == ODD;
		struct virtio_net_hdr h;
		struct rte_mbuf *m;
		uint64_t flags;
		uint16_t n;

		frame_build(&frame, &large_tcp[1]);
		h = soft_large(1448);
		m = soft_packet(shape);
		flags = soft_request(m, &h);
		n = vnet_soften(soft, m, SEGS, out, OUT_MAX);
		for (uint16_t i = 0; i < n; i++)
			assert_int_equal(out[i]->next && RTE_MBUF_CLONED(out[i]->next), refers);
		soft_free(n);
		soft_release(flags);
		soft_no_leak();
	}
}

/* Programs may leave out what TCP_SEG implies, and which IP it is. */
static void test_tso_implied(void **state)
{
	for (size_t i = 0; i < nlarge_tcp; i++) {
		struct virtio_net_hdr h;
		struct rte_mbuf *m;
		uint32_t place = 0;
		uint16_t n;

		frame_build(&frame, &large_tcp[i]);
		h = soft_large(1448);
		m = soft_packet(CHAIN);
		soft_request(m, &h);
		m->ol_flags = RTE_MBUF_F_TX_TCP_SEG;
		n = vnet_soften(soft, m, SEGS | TSO, out, OUT_MAX);
		assert_true(n > 1);
		for (uint16_t k = 0; k < n; k++)
			place += check_tcp_segment(out[k], k, n, place, 1448);
		soft_free(n);
		soft_no_leak();
	}
}

/* Segments whose checksums the destination completes have the pseudo-header's sum. */
static void test_tso_hw_checksum(void **state)
{
	for (size_t i = 0; i < nlarge_tcp; i++) {
		struct virtio_net_hdr h;
		struct rte_mbuf *m;
		uint16_t n;

		frame_build(&frame, &large_tcp[i]);
		h = soft_large(1448);
		m = soft_packet(CHAIN);
		soft_request(m, &h);
		n = vnet_soften(soft, m, SEGS | CSUMS, out, OUT_MAX);
		assert_true(n > 1);
		for (uint16_t k = 0; k < n; k++) {
			uint32_t len = mbuf_bytes(out[k], bytes);
			uint16_t l4_bytes = (uint16_t)(len - frame.l4);

			assert_true(
				(out[k]->ol_flags & VNET_OFFLOAD_FLAGS) == RTE_MBUF_F_TX_TCP_CKSUM);
			assert_true(out[k]->ol_flags &
				    (frame.v6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4));
			assert_int_equal(out[k]->l2_len, frame.l3);
			assert_int_equal(out[k]->l3_len, frame.l4 - frame.l3);
			assert_int_equal(frame_get16(bytes + frame.field),
				frame_pseudo(&frame, bytes, l4_bytes));
		}
		soft_free(n);
		soft_no_leak();
	}
}

/* A destination that segments and sums gets the packet as it is; one that only seems to does not. */
static void test_tso_passed(void **state)
{
	static const struct {
		uint64_t offloads;
		bool passed;
	} rows[] = {
		{SEGS | CSUMS | TSO, true},
		{SEGS | TSO, false},
		{CSUMS | TSO, false},
		{SEGS | CSUMS | UFO, false},
	};

	for (size_t i = 0; i < RTE_DIM(rows); i++) {
		struct virtio_net_hdr h;
		struct rte_mbuf *m;
		uint16_t n;

		frame_build(&frame, &large_tcp[0]);
		h = soft_large(1448);
		m = soft_packet(CHAIN);
		soft_request(m, &h);
		n = vnet_soften(soft, m, rows[i].offloads, out, OUT_MAX);
		assert_int_equal(n == 1 && out[0] == m, rows[i].passed);
		soft_free(n);
		soft_no_leak();
	}
}

/* What fits one segment is not cut, but loses the flag. */
static void test_tso_small(void **state)
{
	for (int shape = 0; shape < SHAPES; shape++) {
		struct virtio_net_hdr h;
		struct rte_mbuf *m;
		uint64_t flags;

		frame_build(&frame, &frame_specs[0]);
		h = frame_strip(&frame);
		m = soft_packet(shape);
		flags = soft_request(m, &h) | RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IP_CKSUM;
		m->ol_flags = flags;
		m->tso_segsz = 1000;
		assert_int_equal(vnet_soften(soft, m, SEGS, out, OUT_MAX), 1);
		assert_false(out[0]->ol_flags & VNET_OFFLOAD_FLAGS);
		assert_int_equal(out[0]->tso_segsz, 0);
		frame_check(&frame, bytes, mbuf_bytes(out[0], bytes));
		soft_free(1);
		soft_release(flags);
		soft_no_leak();
	}
}

/* ---- fragments ---- */

/* Put fragments together again. @return the length of the datagram's frame */
static uint32_t reassemble(uint8_t *to, uint16_t n, uint16_t size)
{
	uint32_t hdr = frame.v6 ? frame.l4 + 8u : frame.l4, place = 0;
	uint8_t id[4] = {0};

	for (uint16_t i = 0; i < n; i++) {
		uint32_t len = mbuf_bytes(out[i], bytes), part = len - hdr;
		const uint8_t *ip = bytes + frame.l3, *fragment = bytes + frame.l4;
		uint16_t more = i + 1 < n;

		assert_int_equal(
			len - frame.l3 - (frame.v6 ? 40 : 0), frame_get16(ip + (frame.v6 ? 4 : 2)));
		assert_true(part <= size);
		if (frame.v6) {
			if (i == 0)
				memcpy(id, fragment + 4, 4);
			assert_memory_equal(id, fragment + 4, 4);
			assert_int_equal(fragment[0], IPPROTO_UDP);
			assert_int_equal(frame_get16(fragment + 2), place | more);
			assert_int_equal(bytes[frame.l3 + (frame.l4 - frame.l3 > 40 ? 40 : 6)],
				IPPROTO_FRAGMENT);
		} else {
			assert_int_equal(frame_fold(frame_sum(ip, frame.l4 - frame.l3, 0)), 0);
			assert_int_equal(frame_get16(ip + 4), FRAME_ID);
			assert_int_equal(frame_get16(ip + 6), place / 8 | more << 13);
		}
		if (i == 0)
			memcpy(to, frame.byte, frame.l4);
		memcpy(to + frame.l4 + place, bytes + hdr, part);
		place += part;
	}
	return frame.l4 + place;
}

static void test_ufo(void **state)
{
	static const struct frame_spec specs[] = {
		{"udp4", .proto = IPPROTO_UDP, .payload = 65000},
		{"udp4 vlan options", .proto = IPPROTO_UDP, .tag = {0x8100}, .options = 8,
			.payload = 9001},
		{"udp4 small", .proto = IPPROTO_UDP, .payload = 1600},
		{"udp6", .v6 = true, .proto = IPPROTO_UDP, .payload = 65000},
		{"udp6 vlan ext", .v6 = true, .proto = IPPROTO_UDP, .tag = {0x88a8}, .options = 16,
			.payload = 9001},
	};
	static const uint16_t sizes[] = {1480, 1479, 1232, 576, 40, 8};
	uint8_t right[FRAME_MAX], joined[FRAME_MAX];

	for (unsigned i = 0; i < RTE_DIM(specs) * RTE_DIM(sizes) * SHAPES * 2; i++) {
		const struct frame_spec *spec = &specs[i % RTE_DIM(specs)];
		uint16_t size = sizes[i / RTE_DIM(specs) % RTE_DIM(sizes)], n;
		enum shape shape = i / RTE_DIM(specs) / RTE_DIM(sizes) % SHAPES;
		uint64_t offloads = i & 1 ? SEGS : SEGS | CSUMS, flags;
		struct virtio_net_hdr h;
		struct rte_mbuf *m;

		if (i >= RTE_DIM(specs) * RTE_DIM(sizes) * SHAPES)
			offloads &= ~SEGS;
		if ((size < 100 && spec->payload > 10000) || size > spec->payload)
			continue; /* more pieces than there is room for, or only one */
		frame_build(&frame, spec);
		memcpy(right, frame.byte, frame.len);
		h = soft_large(size);
		m = soft_packet(shape);
		flags = soft_request(m, &h);
		n = vnet_soften(soft, m, offloads, out, OUT_MAX);
		assert_int_equal(n, (spec->payload + 8 + (size & ~7) - 1) / (size & ~7));
		for (uint16_t k = 0; k < n; k++)
			soft_check(out[k], offloads);
		assert_int_equal(reassemble(joined, n, size), frame.len);
		assert_memory_equal(joined, right, frame.len);
		soft_free(n);
		soft_release(flags);
		soft_no_leak();
	}
}

/* ---- datagrams ---- */

/* Datagram i of n, whose payload begins at place in the frame's. @return payload bytes */
static uint32_t check_datagram(
	const struct rte_mbuf *m, uint16_t i, uint16_t n, uint32_t place, uint16_t size)
{
	uint32_t len = mbuf_bytes(m, bytes), payload = len - frame.data;

	assert_true(payload == size || (i + 1 == n && payload > 0 && payload < size));
	frame_check(&frame, bytes, len);
	assert_int_equal(frame_get16(bytes + frame.l4 + 4), payload + 8);
	assert_memory_equal(bytes + frame.data, frame.byte + frame.data + place, payload);
	if (!frame.v6) {
		assert_int_equal(frame_get16(bytes + frame.l3 + 4), (uint16_t)(FRAME_ID + i));
		assert_int_equal(frame_get16(bytes + frame.l3 + 6), 0x4000);
	}
	/* Addresses and ports are those of the frame. */
	assert_memory_equal(bytes, frame.byte, frame.l3);
	assert_memory_equal(bytes + frame.l4, frame.byte + frame.l4, 4);
	return payload;
}

static const struct frame_spec large_udp[] = {
	{"udp4", .proto = IPPROTO_UDP, .payload = 65000},
	{"udp4 vlan options", .proto = IPPROTO_UDP, .tag = {0x8100}, .options = 8, .payload = 9001},
	{"udp6", .v6 = true, .proto = IPPROTO_UDP, .payload = 65000},
	{"udp6 vlan ext", .v6 = true, .proto = IPPROTO_UDP, .tag = {0x88a8}, .options = 16,
		.payload = 9001},
};

static void run_uso(
	const struct frame_spec *spec, uint16_t size, enum shape shape, uint64_t offloads)
{
	struct virtio_net_hdr h;
	struct rte_mbuf *m;
	uint32_t place = 0;
	uint64_t flags;
	uint16_t n;

	frame_build(&frame, spec);
	h = soft_large(size);
	h.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
	m = soft_packet(shape);
	flags = soft_request(m, &h);
	assert_true(flags & RTE_MBUF_F_TX_UDP_SEG);
	n = vnet_soften(soft, m, offloads, out, OUT_MAX);
	assert_int_equal(n, (spec->payload + size - 1) / size);
	for (uint16_t i = 0; i < n; i++) {
		soft_check(out[i], offloads);
		place += check_datagram(out[i], i, n, place, size);
	}
	assert_int_equal(place, spec->payload);
	soft_free(n);
	soft_release(flags);
	soft_no_leak();
}

static void test_uso(void **state)
{
	static const uint16_t sizes[] = {1472, 1471, 536, 100, 2049, 8999};

	for (size_t i = 0; i < RTE_DIM(large_udp); i++)
		for (size_t k = 0; k < RTE_DIM(sizes); k++)
			for (int shape = 0; shape < SHAPES; shape++)
				for (int segs = 0; segs < 2; segs++)
					run_uso(&large_udp[i], sizes[k], shape, segs ? SEGS : 0);
}

/* USO is for NICs to cut. UFO never is, though it is UDP too: only a guest can take it. */
static void test_uso_is_not_ufo(void **state)
{
	static const struct {
		uint8_t type;
		uint64_t offloads;
		bool passed;
	} rows[] = {
		{VIRTIO_NET_HDR_GSO_UDP_L4, SEGS | CSUMS | USO, true},
		{VIRTIO_NET_HDR_GSO_UDP_L4, SEGS | CSUMS | UFO, false},
		{VIRTIO_NET_HDR_GSO_UDP_L4, SEGS | USO, false},
		{VIRTIO_NET_HDR_GSO_UDP, SEGS | CSUMS | USO, false},
		{VIRTIO_NET_HDR_GSO_UDP, SEGS | CSUMS | TSO | USO, false},
		{VIRTIO_NET_HDR_GSO_UDP, SEGS | CSUMS | UFO, true},
	};

	for (size_t i = 0; i < RTE_DIM(rows); i++) {
		struct virtio_net_hdr h;
		struct rte_mbuf *m;
		uint16_t n;

		frame_build(&frame, &large_udp[i & 2]);
		h = soft_large(1400);
		h.gso_type = rows[i].type;
		m = soft_packet(CHAIN);
		soft_request(m, &h);
		assert_true(rows[i].passed || (m->ol_flags & vnet_soft_mask(rows[i].offloads)));
		n = vnet_soften(soft, m, rows[i].offloads, out, OUT_MAX);
		assert_int_equal(n == 1 && out[0] == m, rows[i].passed);
		for (uint16_t k = 0; k < n && !rows[i].passed; k++)
			assert_false(out[k]->ol_flags & VNET_SEG_FLAGS);
		soft_free(n);
		soft_no_leak();
	}
}

/* Datagrams whose checksums the destination completes have the pseudo-header's sum. */
static void test_uso_hw_checksum(void **state)
{
	for (size_t i = 0; i < RTE_DIM(large_udp); i++) {
		struct virtio_net_hdr h;
		struct rte_mbuf *m;
		uint16_t n;

		frame_build(&frame, &large_udp[i]);
		h = soft_large(1400);
		h.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
		m = soft_packet(CHAIN);
		soft_request(m, &h);
		n = vnet_soften(soft, m, SEGS | CSUMS, out, OUT_MAX);
		assert_true(n > 1);
		for (uint16_t k = 0; k < n; k++) {
			uint32_t len = mbuf_bytes(out[k], bytes);

			assert_true(
				(out[k]->ol_flags & VNET_OFFLOAD_FLAGS) == RTE_MBUF_F_TX_UDP_CKSUM);
			assert_int_equal(frame_get16(bytes + frame.field),
				frame_pseudo(&frame, bytes, (uint16_t)(len - frame.l4)));
		}
		soft_free(n);
		soft_no_leak();
	}
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tso),
		cmocka_unit_test(test_tso_refers),
		cmocka_unit_test(test_tso_implied),
		cmocka_unit_test(test_tso_hw_checksum),
		cmocka_unit_test(test_tso_passed),
		cmocka_unit_test(test_tso_small),
		cmocka_unit_test(test_ufo),
		cmocka_unit_test(test_uso),
		cmocka_unit_test(test_uso_is_not_ufo),
		cmocka_unit_test(test_uso_hw_checksum),
	};

	return soft_run(tests, RTE_DIM(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of what becomes of a guest's requests: flags, work done at once, or a refusal. */
#include <errno.h>

#include "offload_fixture.h"

/* ---- what a well-behaved guest sends ---- */

static void check_asked(const struct rte_mbuf *m, uint64_t seg)
{
	uint64_t ip = frame.v6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4;
	uint64_t l4 =
		frame.proto == IPPROTO_TCP ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM;

	if (seg && !frame.v6)
		ip |= RTE_MBUF_F_TX_IP_CKSUM;
	assert_true(m->ol_flags == (ip | l4 | seg));
	assert_int_equal(m->l2_len, frame.l3);
	assert_int_equal(m->l3_len, frame.l4 - frame.l3);
	assert_int_equal(m->l4_len, frame.data - frame.l4);
}

static void check_reported(const struct rte_mbuf *m, uint64_t lro, uint16_t segsz)
{
	assert_true(m->ol_flags == (RTE_MBUF_F_RX_L4_CKSUM_NONE | lro));
	assert_int_equal(m->tso_segsz, segsz);
	assert_int_equal(m->tx_offload & ~((uint64_t)UINT16_MAX << RTE_MBUF_TSO_SEGSZ_OFS), 0);
	assert_int_not_equal(m->packet_type, 0);
}

/* Checksum requests become flags, and the next guest gets the header the first one gave. */
static void test_checksum(void **state)
{
	for (size_t i = 0; i < frame_nspecs; i++) {
		struct virtio_net_hdr h, back;
		struct vnet_patches patches;
		struct rte_mbuf *m;

		print_message("%s\n", frame_specs[i].name);
		frame_build(&frame, &frame_specs[i]);
		h = frame_strip(&frame);
		m = packet();
		assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_FORWARD, m), 0);
		check_asked(m, 0);
		assert_bytes(m, frame.byte, frame.len);
		assert_int_equal(vnet_mbuf_to_hdr(m, GUEST_ALL, &back, &patches), 0);
		assert_hdr(&h, &back);
		assert_int_equal(patches.n, 0);

		m = packet();
		assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_RECEIVE, m), 0);
		check_reported(m, 0, 0);
		assert_bytes(m, frame.byte, frame.len);
	}
}

static void test_segmentation(void **state)
{
	for (size_t i = 0; i < RTE_DIM(large); i++) {
		struct virtio_net_hdr h = large_hdr(i), back;
		struct vnet_patches patches;
		uint32_t cut[] = {2048, 2900};
		struct rte_mbuf *m = guard_packet(
			&guard, frame.byte, frame.len, cut, frame.len > cut[1] ? 2 : 0);

		print_message("%s\n", large[i].spec.name);
		assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_FORWARD, m), 0);
		check_asked(m, large[i].seg);
		assert_int_equal(m->tso_segsz, 1400);
		assert_bytes(m, frame.byte, frame.len);
		assert_int_equal(vnet_mbuf_to_hdr(m, GUEST_ALL, &back, &patches), 0);
		assert_hdr(&h, &back);
		assert_int_equal(patches.n, 0);

		m = packet();
		assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_RECEIVE, m), 0);
		if (large[i].type == UFO)
			check_reported(m, 0, 0); /* one datagram: nothing was coalesced */
		else
			check_reported(m, RTE_MBUF_F_RX_LRO, 1400);
		m = packet();
		if (large[i].type == USO) { /* younger than the bit for everything */
			assert_int_equal(
				vnet_hdr_to_mbuf(&h, F(CSUM) | LEGACY, VNET_STYLE_FORWARD, m),
				-EINVAL);
		} else {
			assert_int_equal(
				vnet_hdr_to_mbuf(&h, F(CSUM) | LEGACY, VNET_STYLE_FORWARD, m), 0);
			check_asked(m, large[i].seg);
		}
		/* One segment's worth is not segmented. */
		h.gso_size = UINT16_MAX;
		m = packet();
		assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_FORWARD, m), 0);
		check_asked(m, 0);
		assert_int_equal(m->tso_segsz, 0);
	}
}

/* hdr_len is a hint, and only known flags count. */
static void test_ignored_fields(void **state)
{
	struct virtio_net_hdr h = {.flags = 0xfe, .csum_start = 0xffff, .csum_offset = 0xffff};
	struct rte_mbuf *m;

	frame_build(&frame, &frame_specs[0]);
	m = packet();
	assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_FORWARD, m), 0);
	assert_int_equal(m->ol_flags, 0);
	assert_bytes(m, frame.byte, frame.len);
	h = frame_strip(&frame);
	h.flags = 0xff;
	h.hdr_len = 0xffff;
	h.gso_size = 7;
	m = packet();
	assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_FORWARD, m), 0);
	check_asked(m, 0);
}

/* Flags that describe the buffer survive. */
static void test_flags_kept(void **state)
{
	struct virtio_net_hdr h;
	struct rte_mbuf *m;

	frame_build(&frame, &frame_specs[0]);
	h = frame_strip(&frame);
	m = packet();
	m->ol_flags = RTE_MBUF_F_EXTERNAL;
	assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_FORWARD, m), 0);
	assert_true(m->ol_flags & RTE_MBUF_F_EXTERNAL);
}

/* A stack that leaves the IP length of large frames open gets it filled in. */
static void test_ip_length_mended(void **state)
{
	static const size_t rows[] = {0, 3}; /* tcp4, tcp6 */

	for (size_t i = 0; i < RTE_DIM(rows); i++) {
		for (int style = VNET_STYLE_FORWARD; style <= VNET_STYLE_RECEIVE; style++) {
			struct virtio_net_hdr h = large_hdr(rows[i]);
			uint8_t right[FRAME_MAX];
			struct rte_mbuf *m;

			memcpy(right, frame.byte, frame.len);
			frame_put16(frame.byte + frame.l3 + (frame.v6 ? 4 : 2), 0);
			m = packet();
			assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, style, m), 0);
			assert_bytes(m, right, frame.len);
			/* What is not to be cut stays as the guest wants it, but for the sum. */
			h.gso_size = UINT16_MAX;
			m = packet();
			assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, style, m), 0);
			assert_true(m->ol_flags == 0);
			frame_put16(frame.byte + frame.field,
				frame_fold(frame_sum(right + frame.l4, frame.len - frame.l4, 0)));
			assert_bytes(m, frame.byte, frame.len);
		}
	}
}

/* ---- what only software can do ---- */

/* The frame as built has the checksum software must arrive at. */
static void check_in_software(struct virtio_net_hdr h, const uint8_t *right)
{
	for (uint32_t first = 1; first < frame.len; first++) {
		uint32_t cut[] = {
			first, first + (frame.len - first) / 3, first + (frame.len - first) / 2};
		struct rte_mbuf *m = guard_packet(&guard, frame.byte, frame.len, cut, 3);

		assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_FORWARD, m), 0);
		if (m->ol_flags == 0)
			assert_bytes(m, right, frame.len);
		else
			assert_true(first >= frame.data);
	}
}

/* Headers that are not in one piece: everything is summed up at once, over odd pieces too. */
static void test_scattered(void **state)
{
	uint8_t right[FRAME_MAX];

	for (size_t i = 0; i < frame_nspecs; i++) {
		struct virtio_net_hdr h;

		frame_build(&frame, &frame_specs[i]);
		memcpy(right, frame.byte, frame.len);
		h = frame_strip(&frame);
		check_in_software(h, right);
	}
}

/* A sum that comes out as 0 is written as 0xffff: to UDP 0 means "no checksum". */
static void test_zero(void **state)
{
	struct virtio_net_hdr h;
	uint8_t right[FRAME_MAX];

	frame_build(&frame, &(struct frame_spec){"", .proto = IPPROTO_UDP, .payload = 64});
	frame_make_zero(&frame);
	assert_int_equal(frame_get16(frame.byte + frame.field), 0xffff);
	memcpy(right, frame.byte, frame.len);
	h = frame_strip(&frame);
	check_in_software(h, right);
}

/* Put the frame into another one: 8 bytes of VXLAN behind UDP behind IPv4. */
static struct virtio_net_hdr encapsulate(uint8_t *right)
{
	static struct frame inner;
	struct virtio_net_hdr h;

	inner = frame;
	frame_build(
		&frame, &(struct frame_spec){"", .proto = IPPROTO_UDP, .payload = inner.len + 8});
	frame_put16(frame.byte + frame.l4 + 2, 4789);
	frame_put16(frame.byte + frame.field, 0);
	memcpy(frame.byte + frame.data, "\x08\0\0\0\0\0\x07\0", 8);
	memcpy(frame.byte + frame.data + 8, inner.byte, inner.len);
	memcpy(right, frame.byte, frame.len);
	h = frame_strip(&inner);
	memcpy(frame.byte + frame.data + 8, inner.byte, inner.len);
	h.csum_start += frame.data + 8;
	return h;
}

static void test_tunnel(void **state)
{
	uint8_t right[FRAME_MAX];

	for (size_t i = 0; i < frame_nspecs; i++) {
		struct virtio_net_hdr h;
		struct rte_mbuf *m;

		frame_build(&frame, &frame_specs[i]);
		h = encapsulate(right);
		for (int style = VNET_STYLE_FORWARD; style <= VNET_STYLE_RECEIVE; style++) {
			m = packet();
			assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, style, m), 0);
			assert_true(m->ol_flags == 0);
			assert_bytes(m, right, frame.len);
		}
		h.gso_type = frame_specs[i].v6 ? TCPV6 : TCPV4;
		h.gso_size = 10;
		assert_int_equal(
			vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_FORWARD, packet()), -EINVAL);
	}
}

/* Each turns a good TCP or UDP frame into one no NIC should be asked about. */
static void damage_pad(void)
{
	memset(frame.byte + frame.len, 0xee, 7);
	frame.len += 7;
}

static void damage_short_ip(void)
{
	uint8_t *len = frame.byte + frame.l3 + (frame.v6 ? 4 : 2);

	frame_put16(len, (uint16_t)(frame_get16(len) - 1));
}

static void damage_long_ip(void)
{
	uint8_t *len = frame.byte + frame.l3 + (frame.v6 ? 4 : 2);

	frame_put16(len, (uint16_t)(frame_get16(len) + 1));
}

static void damage_version(void)
{
	frame.byte[frame.l3] ^= 0x20;
}

static void damage_ethertype(void)
{
	frame_put16(frame.byte + frame.l3 - 2, frame.v6 ? 0x0800 : 0x86dd);
}

static void damage_proto(void)
{
	if (frame.v6)
		frame.byte[frame.l3 + 6] = IPPROTO_ICMPV6;
	else
		frame.byte[frame.l3 + 9] = IPPROTO_GRE;
}

static void damage_header_length(void)
{
	if (frame.v6)
		frame.byte[frame.l3 + 6] = IPPROTO_DSTOPTS; /* the transport is taken for one */
	else
		frame.byte[frame.l3] = 0x44;
}

static void damage_fragment(void)
{
	if (frame.v6)
		frame.byte[frame.l3 + 6] = IPPROTO_FRAGMENT;
	else
		frame.byte[frame.l3 + 6] |= 0x20;
}

static void damage_l4(void)
{
	if (frame.proto == IPPROTO_TCP)
		frame.byte[frame.l4 + 12] = 0x40;
	else
		frame.byte[frame.l4 + 5] ^= 1;
}

static void test_unfit_for_nics(void **state)
{
	static void (*const damages[])(void) = {damage_pad, damage_short_ip, damage_long_ip,
		damage_version, damage_ethertype, damage_proto, damage_header_length,
		damage_fragment, damage_l4};
	static const size_t specs[] = {0, 9, 14, 18};

	for (size_t s = 0; s < RTE_DIM(specs); s++) {
		for (size_t i = 0; i < RTE_DIM(damages); i++) {
			struct virtio_net_hdr h;
			uint16_t sum;
			struct rte_mbuf *m;

			frame_build(&frame, &frame_specs[specs[s]]);
			h = frame_strip(&frame);
			damages[i]();
			m = packet();
			assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, s & 1, m), 0);
			assert_true(m->ol_flags == 0 && m->tx_offload == 0);
			sum = frame_fold(frame_sum(frame.byte + frame.l4, frame.len - frame.l4, 0));
			frame_put16(frame.byte + frame.field, sum ? sum : 0xffff);
			assert_bytes(m, frame.byte, frame.len);
		}
	}
}

/* A routing header that is not used up: the pseudo-header has the last hop's address. */
static void test_routed(void **state)
{
	for (int left = 0; left < 2; left++) {
		struct virtio_net_hdr h;
		struct rte_mbuf *m;

		frame_build(&frame, &(struct frame_spec){"", .v6 = true, .proto = IPPROTO_TCP,
					    .options = 24, .payload = 100});
		frame.byte[frame.l3 + 6] = IPPROTO_ROUTING;
		frame.byte[frame.l3 + 43] = (uint8_t)left;
		h = frame_strip(&frame);
		m = packet();
		assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_FORWARD, m), 0);
		assert_int_equal(m->ol_flags == 0, left);
	}
}

/* Requests for what does not fit an mbuf's fields, or is no header, are carried out in software. */
static void check_no_flags(uint16_t start, uint16_t offset)
{
	struct virtio_net_hdr h = {.flags = NEEDS, .csum_start = start, .csum_offset = offset};
	struct rte_mbuf *m = packet();
	uint16_t sum;

	assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_FORWARD, m), 0);
	assert_true(m->ol_flags == 0 && m->tx_offload == 0);
	sum = frame_fold(frame_sum(frame.byte + start, frame.len - start, 0));
	frame_put16(frame.byte + start + offset, sum ? sum : 0xffff);
	assert_bytes(m, frame.byte, frame.len);
}

static void test_unfit_for_mbufs(void **state)
{
	/* 29 tags: 130 bytes; 28: 126 bytes, which still fit */
	for (unsigned tags = 28; tags <= 29; tags++) {
		uint8_t *p = frame.byte + 12;
		struct virtio_net_hdr h;

		frame_build(&frame, &(struct frame_spec){"", .proto = IPPROTO_TCP, .payload = 9});
		h = frame_strip(&frame);
		memmove(p + tags * 4, p, frame.len - 12);
		for (unsigned i = 0; i < tags; i++)
			frame_put16(p + i * 4, 0x8100);
		frame.len += tags * 4;
		if (tags == 29) {
			check_no_flags((uint16_t)(h.csum_start + tags * 4), h.csum_offset);
		} else {
			struct rte_mbuf *m = packet();

			h.csum_start += tags * 4;
			assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_FORWARD, m), 0);
			assert_int_equal(m->l2_len, 126);
		}
	}
	frame_build(&frame, &(struct frame_spec){"", .v6 = true, .proto = IPPROTO_TCP,
				    .options = 472, .payload = 9});
	check_no_flags(frame.l4, 16); /* 40 + 472 = 512 */
	frame_build(&frame, &(struct frame_spec){"", .proto = IPPROTO_TCP, .payload = 9});
	frame.byte[frame.l3] = 0x44; /* an IPv4 header of 16 bytes, and TCP where it would be */
	frame.byte[frame.l3 + 16 + 12] = 0x50;
	check_no_flags(frame.l3 + 16, 16);
	frame_build(&frame, &(struct frame_spec){"", .proto = IPPROTO_SCTP, .payload = 20});
	check_no_flags(frame.l4, 8);
}

/* Whatever csum_start and csum_offset: the sum is where it was asked for, nothing else moved. */
static void test_any_place(void **state)
{
	uint8_t right[128];

	frame_build(&frame, &(struct frame_spec){"", .proto = IPPROTO_UDP, .payload = 21});
	for (uint16_t start = 0; start <= frame.len + 2; start++) {
		for (uint16_t offset = 0; offset <= frame.len + 2; offset++) {
			struct virtio_net_hdr h = {
				.flags = NEEDS, .csum_start = start, .csum_offset = offset};
			bool fits = start + offset + 2u <= frame.len;
			struct rte_mbuf *m = packet();
			uint16_t sum;

			assert_int_equal(vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_FORWARD, m),
				fits ? 0 : -EINVAL);
			memcpy(right, frame.byte, frame.len);
			if (fits && m->ol_flags == 0) {
				sum = frame_fold(frame_sum(right + start, frame.len - start, 0));
				frame_put16(right + start + offset, sum ? sum : 0xffff);
			} else {
				assert_true(!fits || (start == frame.l4 && offset == 6));
			}
			assert_bytes(m, right, frame.len);
		}
	}
}

/* ---- what must be refused ---- */

static void test_refused(void **state)
{
	static const struct {
		size_t frame; /* in large[] */
		uint64_t features;
		uint8_t flags, type;
		uint16_t size, start, offset; /* start: from the transport header on */
	} rows[] = {
		{0, HOST_ALL & ~F(CSUM), NEEDS, 0, 0, 0, 16},
		{0, 0, NEEDS, 0, 0, 0, 16},
		{0, HOST_ALL, 0, TCPV4, 1400, 0, 16},
		{0, HOST_ALL, 2, TCPV4, 1400, 0, 16},
		{0, HOST_ALL, NEEDS, TCPV4, 0, 0, 16},
		{0, HOST_ALL & ~F(HOST_TSO4), NEEDS, TCPV4, 1400, 0, 16},
		{0, HOST_ALL & ~F(HOST_ECN), NEEDS, TCPV4 | ECN, 1400, 0, 16},
		{0, HOST_ALL, NEEDS, TCPV6, 1400, 0, 16},
		{0, HOST_ALL, NEEDS, UFO, 1400, 0, 16},
		{0, HOST_ALL, NEEDS, ECN, 1400, 0, 16},
		{0, HOST_ALL, NEEDS, 2, 1400, 0, 16},
		{0, HOST_ALL, NEEDS, USO, 1400, 0, 16},
		{0, HOST_ALL, NEEDS, 6, 1400, 0, 16},
		{0, HOST_ALL, NEEDS, 0x60 | TCPV4, 1400, 0, 16},
		{0, HOST_ALL, NEEDS, TCPV4, 1400, 1, 16},
		{0, HOST_ALL, NEEDS, TCPV4, 1400, 0, 6},
		{3, HOST_ALL & ~F(HOST_TSO6), NEEDS, TCPV6, 1400, 0, 16},
		{3, HOST_ALL, NEEDS, TCPV4, 1400, 0, 16},
		{5, HOST_ALL & ~F(HOST_UFO), NEEDS, UFO, 1400, 0, 6},
		{5, HOST_ALL, NEEDS, UFO | ECN, 1400, 0, 6},
		{5, HOST_ALL, NEEDS, UFO, 7, 0, 6},
		{5, HOST_ALL, NEEDS, TCPV4, 1400, 0, 6},
		{6, HOST_ALL, NEEDS, TCPV6, 1400, 0, 6},
		{7, HOST_ALL & ~F(HOST_USO), NEEDS, USO, 1400, 0, 6},
		{7, HOST_ALL, NEEDS, USO | ECN, 1400, 0, 6},
		{7, HOST_ALL, NEEDS, USO, 0, 0, 6},
		{7, HOST_ALL, NEEDS, USO, 1400, 0, 4},
		{8, HOST_ALL & ~F(HOST_USO), NEEDS, USO, 1400, 0, 6},
	};

	for (size_t i = 0; i < RTE_DIM(rows); i++) {
		for (int style = VNET_STYLE_FORWARD; style <= VNET_STYLE_RECEIVE; style++) {
			struct virtio_net_hdr h = large_hdr(rows[i].frame);
			struct rte_mbuf *m = packet();

			h.flags = rows[i].flags;
			h.gso_type = rows[i].type;
			h.gso_size = rows[i].size;
			h.csum_start += rows[i].start;
			h.csum_offset = rows[i].offset;
			if (vnet_hdr_to_mbuf(&h, rows[i].features, style, m) != -EINVAL)
				fail_msg("row %zu", i);
		}
	}
}

/* Longer than an IP header can say; one byte less goes. */
static void test_too_long(void **state)
{
	for (int v6 = 0; v6 <= 1; v6++) {
		uint32_t most = 65535u - 20 - (v6 ? 0 : 20);

		for (uint32_t payload = most; payload <= most + 40; payload++) {
			struct virtio_net_hdr h;

			frame_build(&frame, &(struct frame_spec){"", .v6 = v6, .proto = IPPROTO_TCP,
						    .payload = payload});
			h = frame_strip(&frame);
			h.gso_type = v6 ? TCPV6 : TCPV4;
			h.gso_size = 1400;
			assert_int_equal(
				vnet_hdr_to_mbuf(&h, HOST_ALL, VNET_STYLE_FORWARD, packet()),
				payload == most ? 0 : -EINVAL);
		}
	}
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_segmentation),
		cmocka_unit_test(test_ignored_fields),
		cmocka_unit_test(test_flags_kept),
		cmocka_unit_test(test_ip_length_mended),
		cmocka_unit_test(test_scattered),
		cmocka_unit_test(test_zero),
		cmocka_unit_test(test_tunnel),
		cmocka_unit_test(test_unfit_for_nics),
		cmocka_unit_test(test_routed),
		cmocka_unit_test(test_unfit_for_mbufs),
		cmocka_unit_test(test_any_place),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_too_long),
	};

	return offload_run(tests, RTE_DIM(tests), argc, argv);
}

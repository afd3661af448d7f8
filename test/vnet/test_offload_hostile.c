/* SPDX-License-Identifier: BSD-3-Clause */
/* Whatever guests and programs say: no access outside the packet, and mbufs any driver can take. */
#include <stdlib.h>

#include "offload_fixture.h"

static void try_header(const struct virtio_net_hdr *h, uint64_t features, uint32_t cut)
{
	for (int style = VNET_STYLE_FORWARD; style <= VNET_STYLE_RECEIVE; style++) {
		struct rte_mbuf *m = guard_packet(&guard, frame.byte, frame.len, &cut, cut != 0);

		if (vnet_hdr_to_mbuf(h, features, style, m) != 0)
			continue;
		assert_int_equal(m->pkt_len, frame.len);
		offload_check_mbuf(m);
		offload_check_to_guest(m, GUEST_ALL);
	}
}

/* Every flag byte with every gso_type. */
static void test_all_types(void **state)
{
	static const size_t specs[] = {0, 9, 14, 18};

	for (size_t s = 0; s < RTE_DIM(specs); s++) {
		struct virtio_net_hdr h;

		frame_build(&frame, &frame_specs[specs[s]]);
		h = frame_strip(&frame);
		h.gso_size = 100;
		for (unsigned i = 0; i < 65536; i++) {
			h.flags = (uint8_t)i;
			h.gso_type = (uint8_t)(i >> 8);
			try_header(&h, i % 3 ? HOST_ALL : i, 0);
		}
	}
}

/* Every value near a boundary in every 16-bit field, over every frame. */
static void test_boundaries(void **state)
{
	for (size_t s = 0; s < frame_nspecs; s++) {
		frame_build(&frame, &frame_specs[s]);
		const uint16_t edge[] = {0, 1, 7, 8, 13, 14, 16, frame.l3, frame.l4 - 1, frame.l4,
			frame.l4 + 1, frame.field, frame.data, (uint16_t)(frame.len - 2),
			(uint16_t)(frame.len - 1), (uint16_t)frame.len, (uint16_t)(frame.len + 1),
			0x7fff, 0x8000, 0xfffe, 0xffff};
		const uint8_t type[] = {0, TCPV4, TCPV6, UFO, TCPV4 | ECN, USO};

		for (size_t i = 0; i < RTE_DIM(edge) * RTE_DIM(edge) * RTE_DIM(edge); i++) {
			size_t n = RTE_DIM(edge);
			struct virtio_net_hdr h = {
				.flags = NEEDS,
				.gso_type = type[i % RTE_DIM(type)],
				.csum_start = edge[i % n],
				.csum_offset = edge[i / n % n],
				.gso_size = edge[i / n / n],
				.hdr_len = edge[i % n],
			};

			try_header(&h, HOST_ALL, 0);
			h.csum_start = frame.l4;
			try_header(&h, HOST_ALL, 0);
		}
	}
}

/* Every frame cut off everywhere, and in two pieces everywhere. */
static void test_truncated(void **state)
{
	for (size_t s = 0; s < frame_nspecs; s++) {
		struct virtio_net_hdr h;
		uint32_t full;

		frame_build(&frame, &frame_specs[s]);
		h = frame_strip(&frame);
		full = frame.len;
		for (uint32_t len = 1; len <= full; len++) {
			frame.len = len;
			for (int gso = 0; gso < 5; gso++) {
				h.gso_type = (uint8_t[]){0, TCPV4, TCPV6, UFO, USO}[gso];
				h.gso_size = 10;
				try_header(&h, HOST_ALL, 0);
				try_header(&h, HOST_ALL, len / 2);
			}
			h.csum_start = (uint16_t)(len - 1);
			try_header(&h, HOST_ALL, 0);
			h.csum_start = frame.l4;
		}
	}
}

/* All header lengths a program can write into an mbuf. */
static void test_any_lengths(void **state)
{
	static const uint64_t flags[] = {RTE_MBUF_F_TX_TCP_SEG, RTE_MBUF_F_TX_UDP_SEG,
		VNET_MBUF_F_UFO, RTE_MBUF_F_TX_TCP_CKSUM, RTE_MBUF_F_TX_UDP_CKSUM,
		RTE_MBUF_F_TX_SCTP_CKSUM, 0};

	for (size_t s = 0; s < frame_nspecs; s++) {
		struct rte_mbuf *m;

		frame_build(&frame, &frame_specs[s]);
		frame.len = RTE_MIN(frame.len, 200u);
		m = packet();
		for (unsigned i = 0; i < 128 * 512; i++) {
			m->l2_len = i % 128;
			m->l3_len = i / 128;
			m->l4_len = (uint8_t)i;
			m->tso_segsz = (uint16_t)(i * 31);
			m->ol_flags = flags[i % RTE_DIM(flags)] | RTE_MBUF_F_TX_IP_CKSUM;
			offload_check_to_guest(m, GUEST_ALL);
		}
	}
}

/* Many headers and frames near good ones, the same every time. */
static void test_random(void **state)
{
	unsigned short seed[3] = {0x5110, 0x1ce, 2};

	for (unsigned i = 0; i < 300000; i++) {
		const struct frame_spec *s = &frame_specs[(size_t)nrand48(seed) % frame_nspecs];
		struct virtio_net_hdr h;
		uint32_t cut;

		frame_build(&frame, s);
		h = frame_strip(&frame);
		h.gso_type = (uint8_t)(nrand48(seed) % 6);
		h.gso_size = (uint16_t)(nrand48(seed) % 64);
		for (long n = nrand48(seed) % 4; n > 0; n--)
			frame.byte[nrand48(seed) % (frame.data + 1)] = (uint8_t)nrand48(seed);
		for (long n = nrand48(seed) % 3; n > 0; n--)
			((uint8_t *)&h)[nrand48(seed) % (long)sizeof(h)] = (uint8_t)nrand48(seed);
		if (nrand48(seed) % 4 == 0)
			frame.len = 1 + (uint32_t)nrand48(seed) % frame.len;
		cut = nrand48(seed) % 2 ? (uint32_t)nrand48(seed) % frame.len : 0;
		try_header(&h, HOST_ALL, cut);
	}
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_types),
		cmocka_unit_test(test_boundaries),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_any_lengths),
		cmocka_unit_test(test_random),
	};

	return offload_run(tests, RTE_DIM(tests), argc, argv);
}

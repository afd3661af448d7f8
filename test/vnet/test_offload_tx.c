/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of the header and the patches a guest gets for an mbuf. */
#include <errno.h>

#include "offload_fixture.h"

/* ---- mbuf to guest ---- */

/* A packet as a DPDK program makes it: nothing in the checksum fields. */
static struct rte_mbuf *asking_packet(uint64_t flags)
{
	struct rte_mbuf *m;

	frame_put16(frame.byte + frame.field, 0x1234);
	if (!frame.v6)
		frame_put16(frame.byte + frame.l3 + 10, 0);
	m = packet();
	m->ol_flags = flags |
		      (frame.v6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM);
	m->l2_len = frame.l3;
	m->l3_len = frame.l4 - frame.l3;
	m->l4_len = frame.data - frame.l4;
	m->tso_segsz = 1400;
	return m;
}

static void apply(struct vnet_patches *patches)
{
	for (unsigned i = 0; i < patches->n; i++)
		memcpy(frame.byte + patches->at[i].offset, &patches->at[i].value, 2);
}

/* The guest's copy gets what the mbuf must not: the sum of the pseudo-header, IPv4's checksum. */
static void test_patches(void **state)
{
	uint8_t right[FRAME_MAX];

	for (size_t i = 0; i < RTE_DIM(large); i++) {
		struct virtio_net_hdr expected = large_hdr(i), h;
		struct vnet_patches patches;
		struct rte_mbuf *m;

		memcpy(right, frame.byte, frame.len);
		m = asking_packet(large[i].seg);
		assert_int_equal(vnet_mbuf_to_hdr(m, GUEST_ALL, &h, &patches), 0);
		assert_bytes(m, frame.byte, frame.len);
		assert_hdr(&h, &expected);
		assert_int_equal(patches.n, frame.v6 ? 1 : 2);
		apply(&patches);
		assert_memory_equal(frame.byte, right, frame.len);
		assert_int_equal(vnet_mbuf_to_hdr(m, GUEST_ALL & ~F(GUEST_ECN), &h, &patches),
			expected.gso_type & ECN ? -ENOTSUP : 0);
	}
}

static void test_ipv4_only(void **state)
{
	struct vnet_patches patches;
	struct virtio_net_hdr h;
	uint8_t right[FRAME_MAX];

	for (size_t i = 0; i < frame_nspecs; i++) {
		struct rte_mbuf *m;

		frame_build(&frame, &frame_specs[i]);
		memcpy(right, frame.byte, frame.len);
		m = asking_packet(0);
		if (frame.v6) {
			m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
			assert_int_equal(vnet_mbuf_to_hdr(m, GUEST_ALL, &h, &patches), -EINVAL);
			continue;
		}
		assert_int_equal(vnet_mbuf_to_hdr(m, 0, &h, &patches), 0);
		assert_hdr(&h, &(struct virtio_net_hdr){0});
		assert_int_equal(patches.n, 1);
		apply(&patches);
		assert_memory_equal(frame.byte + frame.l3, right + frame.l3, frame.l4 - frame.l3);
	}
}

/* An IPv4 header of every length, at the end of the frame: 20 bytes is the least. */
static void test_ipv4_short(void **state)
{
	for (unsigned len = 0; len <= 60; len += 4) {
		struct vnet_patches patches;
		struct virtio_net_hdr h;
		struct rte_mbuf *m;

		frame_build(&frame, &frame_specs[0]);
		frame.byte[frame.l3] = (uint8_t)(0x40 | len / 4);
		frame.len = frame.l3 + len;
		m = packet();
		m->ol_flags = RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_IPV4;
		m->l2_len = frame.l3;
		m->l3_len = len;
		assert_int_equal(
			vnet_mbuf_to_hdr(m, GUEST_ALL, &h, &patches), len >= 20 ? 0 : -EINVAL);
	}
}

static void test_data_valid(void **state)
{
	struct vnet_patches patches;
	struct virtio_net_hdr h;
	struct rte_mbuf *m;

	frame_build(&frame, &frame_specs[0]);
	m = packet();
	for (uint64_t flags = 0; flags < 4; flags++) {
		m->ol_flags = (flags & 1 ? RTE_MBUF_F_RX_L4_CKSUM_BAD : 0) |
			      (flags & 2 ? RTE_MBUF_F_RX_L4_CKSUM_GOOD : 0);
		assert_int_equal(vnet_mbuf_to_hdr(m, GUEST_ALL, &h, &patches), 0);
		assert_int_equal(h.flags, flags == 2 ? VIRTIO_NET_HDR_F_DATA_VALID : 0);
		assert_int_equal(vnet_mbuf_to_hdr(m, 0, &h, &patches), 0);
		assert_int_equal(h.flags, 0);
		assert_int_equal(patches.n, 0);
	}
}

static void test_not_negotiated(void **state)
{
	static const struct {
		size_t frame;
		uint64_t without;
	} rows[] = {
		{0, F(GUEST_CSUM)},
		{0, F(GUEST_TSO4)},
		{3, F(GUEST_CSUM)},
		{3, F(GUEST_TSO6)},
		{5, F(GUEST_CSUM)},
		{5, F(GUEST_UFO)},
		{6, F(GUEST_UFO)},
		{7, F(GUEST_CSUM)},
		{7, F(GUEST_USO4)},
		{8, F(GUEST_USO6)},
	};
	struct vnet_patches patches;
	struct virtio_net_hdr h;

	for (size_t i = 0; i < RTE_DIM(rows); i++) {
		struct rte_mbuf *m;

		large_hdr(rows[i].frame);
		m = asking_packet(large[rows[i].frame].seg);
		assert_int_equal(
			vnet_mbuf_to_hdr(m, GUEST_ALL & ~rows[i].without, &h, &patches), -ENOTSUP);
	}
	frame_build(&frame, &(struct frame_spec){"", .proto = IPPROTO_SCTP, .payload = 20});
	assert_int_equal(
		vnet_mbuf_to_hdr(asking_packet(RTE_MBUF_F_TX_SCTP_CKSUM), GUEST_ALL, &h, &patches),
		-ENOTSUP);
	/* A large frame of one segment needs no more than checksums. */
	large_hdr(1);
	frame_build(&frame, &frame_specs[0]);
	assert_int_equal(
		vnet_mbuf_to_hdr(asking_packet(RTE_MBUF_F_TX_TCP_SEG), F(GUEST_CSUM), &h, &patches),
		0);
	assert_int_equal(h.gso_type, 0);
}

static void test_bad_requests(void **state)
{
	static const uint64_t flags[] = {
		RTE_MBUF_F_TX_TUNNEL_VXLAN,
		RTE_MBUF_F_TX_OUTER_IPV4,
		RTE_MBUF_F_TX_IPV6,
		RTE_MBUF_F_TX_UDP_CKSUM,
		RTE_MBUF_F_TX_SCTP_CKSUM,
	};
	struct vnet_patches patches;
	struct virtio_net_hdr h;
	struct rte_mbuf *m;

	for (size_t i = 0; i < RTE_DIM(flags); i++) {
		large_hdr(0);
		m = asking_packet(flags[i] & RTE_MBUF_F_TX_L4_MASK ? 0 : RTE_MBUF_F_TX_TCP_SEG);
		m->ol_flags |= flags[i];
		assert_int_equal(vnet_mbuf_to_hdr(m, GUEST_ALL, &h, &patches), -EINVAL);
	}
	m = asking_packet(RTE_MBUF_F_TX_TCP_SEG);
	m->tso_segsz = 0;
	assert_int_equal(vnet_mbuf_to_hdr(m, GUEST_ALL, &h, &patches), -EINVAL);
	m = asking_packet(RTE_MBUF_F_TX_TCP_SEG);
	m->l4_len = 24;
	assert_int_equal(vnet_mbuf_to_hdr(m, GUEST_ALL, &h, &patches), -EINVAL);
}

/* IP lengths that are more than there is, or less than the transport header. */
static void test_bad_ip_lengths(void **state)
{
	static const size_t specs[] = {0, 9, 14, 18};
	struct vnet_patches patches;
	struct virtio_net_hdr h;

	for (size_t s = 0; s < RTE_DIM(specs); s++) {
		uint16_t ip_bytes, least;
		uint64_t l4;

		frame_build(&frame, &frame_specs[specs[s]]);
		l4 = frame.proto == IPPROTO_TCP ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM;
		ip_bytes = (uint16_t)(frame.len - frame.l3 - (frame.v6 ? 40 : 0));
		least = (uint16_t)(frame.data - frame.l3 - (frame.v6 ? 40 : 0));
		for (uint16_t len = 0; len < ip_bytes + 40; len++) {
			bool fits = len >= least && len <= ip_bytes;

			frame_put16(frame.byte + frame.l3 + (frame.v6 ? 4 : 2), len);
			assert_int_equal(
				vnet_mbuf_to_hdr(asking_packet(l4), GUEST_ALL, &h, &patches),
				fits ? 0 : -EINVAL);
		}
	}
}

/* Right lengths, but the frame ends somewhere. */
static void test_truncated_requests(void **state)
{
	static const uint64_t flags[] = {0, RTE_MBUF_F_TX_TCP_CKSUM, RTE_MBUF_F_TX_UDP_CKSUM,
		RTE_MBUF_F_TX_TCP_SEG, RTE_MBUF_F_TX_UDP_SEG, VNET_MBUF_F_UFO};
	struct vnet_patches patches;
	struct virtio_net_hdr h;

	for (size_t s = 0; s < frame_nspecs; s++) {
		uint16_t needed;

		frame_build(&frame, &frame_specs[s]);
		needed = frame.v6 ? UINT16_MAX : frame.l4; /* what IPv4's checksum needs */
		for (frame.len = 1; frame.len < frame.data; frame.len++) {
			for (size_t i = 0; i < RTE_DIM(flags); i++) {
				struct rte_mbuf *m = packet();

				m->ol_flags = flags[i] | RTE_MBUF_F_TX_IP_CKSUM;
				m->l2_len = frame.l3;
				m->l3_len = frame.l4 - frame.l3;
				m->l4_len = frame.data - frame.l4;
				m->tso_segsz = 100;
				assert_int_equal(vnet_mbuf_to_hdr(m, GUEST_ALL, &h, &patches),
					i == 0 && frame.len >= needed ? 0 : -EINVAL);
			}
		}
	}
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_patches),
		cmocka_unit_test(test_ipv4_only),
		cmocka_unit_test(test_ipv4_short),
		cmocka_unit_test(test_data_valid),
		cmocka_unit_test(test_not_negotiated),
		cmocka_unit_test(test_bad_requests),
		cmocka_unit_test(test_bad_ip_lengths),
		cmocka_unit_test(test_truncated_requests),
	};

	return offload_run(tests, RTE_DIM(tests), argc, argv);
}

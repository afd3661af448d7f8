/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the translation share: packets at the end of memory, large frames. */
#ifndef OFFLOAD_FIXTURE_H
#define OFFLOAD_FIXTURE_H

#include "offload_checks.h"

static struct guard guard;
static struct frame frame;

/* The frame in one piece, if a piece may be as large. */
static inline struct rte_mbuf *packet(void)
{
	uint32_t cut = UINT16_MAX;

	return guard_packet(&guard, frame.byte, frame.len, &cut, frame.len > cut);
}

static inline void assert_bytes(const struct rte_mbuf *m, const uint8_t *expected, uint32_t len)
{
	uint8_t bytes[FRAME_MAX];

	assert_int_equal(mbuf_bytes(m, bytes), len);
	assert_memory_equal(bytes, expected, len);
}

static inline void assert_hdr(const struct virtio_net_hdr *a, const struct virtio_net_hdr *b)
{
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->gso_type, b->gso_type);
	assert_int_equal(a->gso_size, b->gso_size);
	assert_int_equal(a->hdr_len, b->hdr_len);
	assert_int_equal(a->csum_start, b->csum_start);
	assert_int_equal(a->csum_offset, b->csum_offset);
}

static const struct {
	struct frame_spec spec;
	uint8_t type;
	uint64_t seg;
} large[] = {
	{{"tcp4", .proto = IPPROTO_TCP, .payload = 65000}, TCPV4, RTE_MBUF_F_TX_TCP_SEG},
	{{"tcp4 vlan", .proto = IPPROTO_TCP, .tag = {0x8100}, .options = 4, .tcp_options = 12,
		 .payload = 3000},
		TCPV4, RTE_MBUF_F_TX_TCP_SEG},
	{{"tcp4 802.1ad cwr", .proto = IPPROTO_TCP, .tag = {0x88a8}, .tcp_flags = 0x90,
		 .payload = 3000},
		TCPV4 | ECN, RTE_MBUF_F_TX_TCP_SEG},
	{{"tcp6", .v6 = true, .proto = IPPROTO_TCP, .payload = 65000}, TCPV6,
		RTE_MBUF_F_TX_TCP_SEG},
	{{"tcp6 ext cwr", .v6 = true, .proto = IPPROTO_TCP, .tag = {0x88a8, 0x8100}, .options = 8,
		 .tcp_flags = 0x90, .payload = 2000},
		TCPV6 | ECN, RTE_MBUF_F_TX_TCP_SEG},
	{{"udp4", .proto = IPPROTO_UDP, .payload = 60000}, UFO, VNET_MBUF_F_UFO},
	{{"udp6", .v6 = true, .proto = IPPROTO_UDP, .payload = 60000}, UFO, VNET_MBUF_F_UFO},
	{{"udp4 datagrams", .proto = IPPROTO_UDP, .tag = {0x8100}, .payload = 60001}, USO,
		RTE_MBUF_F_TX_UDP_SEG},
	{{"udp6 datagrams", .v6 = true, .proto = IPPROTO_UDP, .options = 8, .payload = 2801}, USO,
		RTE_MBUF_F_TX_UDP_SEG},
};

static inline struct virtio_net_hdr large_hdr(size_t i)
{
	struct virtio_net_hdr h;

	frame_build(&frame, &large[i].spec);
	h = frame_strip(&frame);
	h.gso_type = large[i].type;
	h.gso_size = 1400;
	h.hdr_len = frame.data;
	return h;
}

static inline int offload_run(const struct CMUnitTest *tests, size_t n, int argc, char **argv)
{
	int err;

	guard_init(&guard);
	err = ts_run_tests(tests, n, argc, argv);
	guard_fini(&guard);
	return err;
}

#endif

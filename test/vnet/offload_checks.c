/* SPDX-License-Identifier: BSD-3-Clause */
/* Properties of the translation that hold whatever comes. */
#include "offload_checks.h"

void offload_check_to_guest(const struct rte_mbuf *m, uint64_t features)
{
	struct vnet_patches patches;
	struct virtio_net_hdr h;

	if (vnet_mbuf_to_hdr(m, features, &h, &patches) != 0)
		return;
	assert_true(patches.n <= 2);
	for (unsigned i = 0; i < patches.n; i++)
		assert_true(patches.at[i].offset + 2u <= m->data_len);
	if (h.flags & NEEDS) {
		assert_true(features & F(GUEST_CSUM));
		assert_true(h.csum_start + h.csum_offset + 2u <= m->data_len);
	}
	switch (h.gso_type) {
	case TCPV4 | ECN:
	case TCPV6 | ECN:
		assert_true(features & F(GUEST_ECN));
		break;
	}
	switch (h.gso_type & ~ECN) {
	case 0:
		assert_int_equal(h.gso_size, 0);
		return;
	case TCPV4:
		assert_true(features & F(GUEST_TSO4));
		break;
	case TCPV6:
		assert_true(features & F(GUEST_TSO6));
		break;
	case UFO:
		assert_true(features & F(GUEST_UFO));
		break;
	case USO:
		assert_true(features & F(GUEST_USO4));
		break;
	default:
		fail_msg("gso_type %u", h.gso_type);
	}
	assert_true(h.flags & NEEDS);
	assert_true(h.gso_size > 0 && h.hdr_len <= m->data_len);
}

void offload_check_mbuf(const struct rte_mbuf *m)
{
	uint64_t ol = m->ol_flags, l4 = ol & RTE_MBUF_F_TX_L4_MASK;
	const uint8_t *p = rte_pktmbuf_mtod(m, const uint8_t *);

	if (ol == 0) {
		assert_true(m->tx_offload == 0);
		return;
	}
	if (ol & RTE_MBUF_F_RX_L4_CKSUM_MASK) {
		assert_false(ol & ~(RTE_MBUF_F_RX_L4_CKSUM_NONE | RTE_MBUF_F_RX_LRO));
		assert_int_equal(!(ol & RTE_MBUF_F_RX_LRO), m->tso_segsz == 0);
		return;
	}
	assert_false(ol & ~(VNET_OFFLOAD_FLAGS | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IPV6));
	assert_true(!(ol & RTE_MBUF_F_TX_IPV4) != !(ol & RTE_MBUF_F_TX_IPV6));
	assert_int_equal(p[m->l2_len] >> 4, ol & RTE_MBUF_F_TX_IPV4 ? 4 : 6);
	assert_true(l4 == RTE_MBUF_F_TX_TCP_CKSUM || l4 == RTE_MBUF_F_TX_UDP_CKSUM);
	assert_true(m->l2_len >= 14 && m->l3_len >= 20);
	assert_true(m->l4_len >= (l4 == RTE_MBUF_F_TX_TCP_CKSUM ? 20 : 8));
	assert_true(m->l2_len + m->l3_len + m->l4_len <= m->data_len);
	if (ol & RTE_MBUF_F_TX_TCP_SEG)
		assert_true(l4 == RTE_MBUF_F_TX_TCP_CKSUM && m->tso_segsz > 0 &&
			    m->tso_segsz < m->pkt_len - m->l2_len - m->l3_len - m->l4_len);
	else if (ol & RTE_MBUF_F_TX_UDP_SEG)
		assert_true(l4 == RTE_MBUF_F_TX_UDP_CKSUM && m->tso_segsz > 0 &&
			    m->tso_segsz < m->pkt_len - m->l2_len - m->l3_len - m->l4_len);
	else if (ol & VNET_MBUF_F_UFO)
		assert_true(l4 == RTE_MBUF_F_TX_UDP_CKSUM && m->tso_segsz >= 8);
	else
		assert_int_equal(m->tso_segsz, 0);
}

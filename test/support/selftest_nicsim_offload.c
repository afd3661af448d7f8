/* SPDX-License-Identifier: BSD-3-Clause */
/* What the NIC for tests computes: checksums and segments, against the other end's own arithmetic. */
#include <netinet/in.h>
#include <string.h>

#include "selftest_nicsim_port.h"
#include "ts_pkt.h"

#define CHECKSUMS                                                       \
	(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM | \
		RTE_ETH_TX_OFFLOAD_UDP_CKSUM)
#define TSO      RTE_ETH_TX_OFFLOAD_TCP_TSO
#define RX_FLAGS (RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_L4_CKSUM_MASK)

/* A frame as an application hands it over: checksums left to the NIC. */
static struct rte_mbuf *unfinished(const struct ts_ip *ip, uint16_t mss)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(tx_pool);
	uint8_t *p = rte_pktmbuf_mtod(m, uint8_t *);
	uint32_t len = ts_pkt_ip(p, 2000, ip, NULL);
	uint64_t csum =
		ip->proto == IPPROTO_TCP ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM;

	assert_true(len > 0);
	rte_pktmbuf_append(m, (uint16_t)len);
	m->l2_len = ip->vlan ? 18 : 14;
	m->l3_len = ip->v6 ? 40 : 20;
	m->l4_len = ip->proto == IPPROTO_TCP ? 20 : 8;
	m->tso_segsz = mss;
	m->ol_flags |= mss ? RTE_MBUF_F_TX_TCP_SEG : csum;
	m->ol_flags |= ip->v6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
	memset(p + m->l2_len + m->l3_len + (ip->proto == IPPROTO_TCP ? 16 : 6), 0xee, 2);
	if (!ip->v6)
		memset(p + m->l2_len + 10, 0xee, 2);
	return m;
}

static uint16_t open_pair(uint64_t tx, uint64_t rx, uint16_t *to)
{
	uint16_t from = port_probe(0, "peer=net_nicsim1,offloads=1");

	*to = port_probe(1, "offloads=1");
	port_start(from, &(struct port_conf){.tx_offloads = tx});
	port_start(*to, &(struct port_conf){.rx_offloads = rx});
	return from;
}

static void prepare_and_send(uint16_t port, struct rte_mbuf *m)
{
	assert_int_equal(rte_eth_tx_prepare(port, 0, &m, 1), 1);
	assert_true(send_one(port, 0, m));
}

/* One frame comes, all of it right; bytes of payload. */
static uint32_t receive_right(uint16_t port, uint64_t flags)
{
	const char *why = "nothing came";
	struct rte_mbuf *m;
	int payload = -1;

	if (rte_eth_rx_burst(port, 0, &m, 1) == 1) {
		assert_int_equal(m->ol_flags & RX_FLAGS, flags);
		payload = ts_pkt_ip_check(rte_pktmbuf_mtod(m, void *), m->pkt_len, false, &why);
		rte_pktmbuf_free(m);
	}
	if (payload < 0)
		fail_msg("%s", why);
	return (uint32_t)payload;
}

static const struct ts_ip kinds[] = {
	{.proto = IPPROTO_UDP},
	{.proto = IPPROTO_TCP, .seq = 1000},
	{.proto = IPPROTO_UDP, .v6 = true},
	{.proto = IPPROTO_TCP, .v6 = true, .seq = 5, .vlan = 7},
};

static void test_checksums(void **state)
{
	uint16_t to, from = open_pair(CHECKSUMS, RTE_ETH_RX_OFFLOAD_CHECKSUM, &to);

	(void)state;
	for (uint32_t i = 0; i < 400; i++) {
		struct ts_ip ip = kinds[i % RTE_DIM(kinds)];
		uint64_t flags = RTE_MBUF_F_RX_L4_CKSUM_GOOD;

		ip.payload = 1 + i;
		prepare_and_send(from, unfinished(&ip, 0));
		flags |= ip.v6 ? 0 : RTE_MBUF_F_RX_IP_CKSUM_GOOD;
		assert_int_equal(receive_right(to, flags), ip.payload);
	}
	expect(from, "tx_wrong_checksum", 0);
}

/* Sent without tx_prepare, the fields are not what the NIC needs: it does not notice. */
static void test_not_prepared(void **state)
{
	uint16_t to, from = open_pair(CHECKSUMS, RTE_ETH_RX_OFFLOAD_CHECKSUM, &to);
	struct ts_ip ip = {.proto = IPPROTO_UDP, .payload = 100};
	struct rte_mbuf *m;

	(void)state;
	assert_true(send_one(from, 0, unfinished(&ip, 0)));
	assert_int_equal(rte_eth_rx_burst(to, 0, &m, 1), 1);
	assert_int_equal(
		m->ol_flags & RX_FLAGS, RTE_MBUF_F_RX_IP_CKSUM_BAD | RTE_MBUF_F_RX_L4_CKSUM_BAD);
	rte_pktmbuf_free(m);
	expect(from, "tx_wrong_checksum", 1);
}

static void test_segmentation(void **state)
{
	uint16_t to, from = open_pair(CHECKSUMS | TSO, 0, &to);

	(void)state;
	for (uint32_t i = 0; i < 200; i++) {
		struct ts_ip ip = kinds[i % 2 ? 1 : 3];
		uint16_t mss = (uint16_t)(100 + i);
		uint32_t rest;

		ip.payload = 1 + 9 * i;
		prepare_and_send(from, unfinished(&ip, mss));
		for (rest = ip.payload; rest > mss; rest -= mss)
			assert_int_equal(receive_right(to, 0), mss);
		assert_int_equal(receive_right(to, 0), rest);
	}
	expect(from, "tx_wrong_checksum", 0);
	expect(from, "tx_changed", 0);
}

static void test_not_turned_on(void **state)
{
	uint16_t to, from = open_pair(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM, 0, &to);
	struct ts_ip ip = {.proto = IPPROTO_TCP, .payload = 100};
	struct rte_eth_dev_info info;
	struct rte_mbuf *m;

	(void)state;
	assert_true(send_one(from, 0, unfinished(&ip, 0)));
	assert_true(send_one(from, 0, unfinished(&ip, 50)));
	m = make(LEN);
	m->ol_flags = RTE_MBUF_F_TX_VLAN;
	assert_true(send_one(from, 0, m));
	expect(from, "tx_malformed_offload", 3);
	m = make(LEN);
	m->ol_flags = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
	m->l2_len = 14;
	m->l3_len = LEN; /* longer than the frame */
	assert_true(send_one(from, 0, m));
	assert_int_equal(nicsim_poll(from), 0);
	expect(from, "tx_malformed_offload", 4);
	expect(from, "tx_sent_packets", 0);
	assert_int_equal(rte_eth_dev_info_get(port_probe(2, ""), &info), 0);
	assert_int_equal(info.tx_offload_capa, RTE_ETH_TX_OFFLOAD_MULTI_SEGS);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(test_checksums),
		CASE(test_not_prepared),
		CASE(test_segmentation),
		CASE(test_not_turned_on),
	};

	return nicsim_main(tests, RTE_DIM(tests), argc, argv);
}

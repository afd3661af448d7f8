/* SPDX-License-Identifier: BSD-3-Clause */
/* What broke other back-ends' packets, played again: each case is named after the fix or the CVE it led to. */
#include <string.h>

#include "pair.h"
#include "ts_pkt.h"
#include "virtq_lend.h"
#include "vq_hostile.h"

/* DPDK's commits have no prefix. The walk has its own: test/virtq/test_replay.c. */

#define AT 0x1000000ull /* guest memory nobody else uses */

static uint8_t frame[70000], got[70000];

static void open_pair(struct pair *p, void **state, uint64_t extra)
{
	const struct column c = {*state, false, true, true, true};

	pair_open(p, &c, extra, 65500);
}

/* A chain of these parts is sent: what becomes of it. */
static uint16_t sends(struct pair *p, struct vq *q, const struct vq_part *part, unsigned n)
{
	struct rte_mbuf *m[VIRTQ_BURST];
	uint16_t received;

	vq_offer(q, part, n);
	p->offered++;
	received = vnet_dequeue(p->rx, m, VIRTQ_BURST);
	rte_pktmbuf_free_bulk(m, received);
	q->ahead = 0;
	assert_int_equal(p->rx->fault, VIRTQ_FAULT_NONE);
	return received;
}

/* The strict driver has not seen what was offered without it. */
static void close_pair(struct pair *p)
{
	struct virtq_lender *lender = p->rx_view.lender;

	if (lender)
		lender->settle(lender, p->rx, &p->rx_view);
	ts_net_reset(
		&p->net, ts_base_fresh(p->rx_ring->features), ts_base_fresh(p->tx_ring->features));
	p->tx_ring->faults = (struct ts_faults){0};
	pair_close(p);
}

/* ---- chains that are too short ---- */

static void no_longer_than_its_header_CVE_2022_2132_71bd0cc536(void **state)
{
	struct pair p;
	struct vq q;

	open_pair(&p, state, F(CSUM));
	q = pair_vq(&p, true);
	for (uint32_t len = 0; len < 12 + 14; len++) {
		const struct vq_part part = {AT, len, 0};

		assert_int_equal(sends(&p, &q, &part, 1), 0);
		assert_int_equal(p.rx->stats.drops[VIRTQ_DROP_RX_SHORT], len + 1);
	}
	assert_int_equal(sends(&p, &q, &(const struct vq_part){AT, 26, 0}, 1), 1);
	close_pair(&p);
}

/* A byte each, and nothing or not enough behind it: the length that is left never wraps. */
static void header_in_pieces_CVE_2022_2132_dc1516e260(void **state)
{
	struct vq_part part[40];
	struct pair p;
	struct vq q;

	open_pair(&p, state, F(CSUM));
	q = pair_vq(&p, true);
	for (unsigned n = 1; n <= RTE_DIM(part); n++) {
		for (unsigned i = 0; i < n; i++)
			part[i] = (struct vq_part){AT + i, 1, 0};
		assert_int_equal(sends(&p, &q, part, n), n >= 26);
	}
	assert_int_equal(p.rx->stats.drops[VIRTQ_DROP_RX_SHORT], 25);
	close_pair(&p);
}

static void header_and_nothing_e31b57e732(void **state)
{
	struct pair p;
	struct vq q;

	open_pair(&p, state, 0);
	q = pair_vq(&p, true);
	for (unsigned n = 1; n < 12; n++) {
		const struct vq_part part[] = {{AT, n, 0}, {AT, 12 - n, 0}, {AT, 0, 0}, {0, 0, 0}};

		assert_int_equal(sends(&p, &q, part, 2 + n % 3), 0);
	}
	assert_int_equal(p.rx->stats.drops[VIRTQ_DROP_RX_SHORT], 11);
	close_pair(&p);
}

/* ---- requests that contradict the packet ---- */

static uint16_t asks(struct pair *p, const struct virtio_net_hdr_v1 *hdr, uint32_t len)
{
	struct rte_mbuf *m[VIRTQ_BURST];
	uint16_t n;

	assert_int_equal(ts_net_send(&p->net, hdr, frame, len, NULL, 0, TS_DIRECT), 0);
	p->offered++;
	ts_ring_kick(p->tx_ring);
	n = vnet_dequeue(p->rx, m, VIRTQ_BURST);
	rte_pktmbuf_free_bulk(m, n);
	pair_reap(p);
	return n;
}

/* Each length, each start beyond it, in both styles: the second was the one without a check. */
static void checksum_starts_behind_CVE_2024_11614_4dc4e33ffa(void **state)
{
	static const uint16_t beyond[] = {0, 1, 2, 40, 0x7fff, 0x8000, 0xfffd};
	const struct ts_ip ip = {.proto = 17, .payload = 300, .partial = true};
	uint64_t refused = 0;
	struct virtio_net_hdr_v1 hdr;
	struct pair p;

	for (int style = VNET_STYLE_FORWARD; style <= VNET_STYLE_RECEIVE; style++) {
		open_pair(&p, state, F(CSUM));
		p.conf.style = style;
		refused = 0;
		ts_pkt_ip(frame, sizeof(frame), &ip, &hdr);
		for (uint32_t len = 14; len < 300; len += len < 80 ? 1 : 50) {
			for (unsigned i = 0; i < RTE_DIM(beyond); i++) {
				hdr.csum_start = (uint16_t)RTE_MIN(len + beyond[i], UINT16_MAX);
				hdr.csum_offset = (uint16_t)(i * 6);
				assert_int_equal(asks(&p, &hdr, len), 0);
				refused++;
			}
		}
		assert_int_equal(p.rx->stats.drops[VIRTQ_DROP_RX_BAD_HEADER], refused);
		pair_close(&p);
	}
}

static void checksum_lies_behind_snabb_d4f75523a(void **state)
{
	const struct ts_ip ip = {.proto = 17, .payload = 20, .partial = true};
	struct virtio_net_hdr_v1 hdr;
	uint64_t refused = 0;
	struct pair p;
	uint32_t len;

	open_pair(&p, state, F(CSUM));
	len = ts_pkt_ip(frame, sizeof(frame), &ip, &hdr);
	assert_int_equal(asks(&p, &hdr, len), 1);
	for (uint32_t over = len - hdr.csum_start - 1; over < 65536; over = over * 2 + 1) {
		hdr.csum_offset = (uint16_t)over;
		assert_int_equal(asks(&p, &hdr, len), 0);
		refused++;
	}
	assert_int_equal(p.rx->stats.drops[VIRTQ_DROP_RX_BAD_HEADER], refused);
	pair_close(&p);
}

/* An IP packet cut off anywhere in its headers, with a request for each of them. */
static void headers_cut_off_706ba48665(void **state)
{
	const struct ts_ip ip = {.proto = 6, .payload = 1000, .partial = true};
	struct virtio_net_hdr_v1 hdr;
	struct pair p;

	open_pair(&p, state, F(CSUM) | F(HOST_TSO4));
	ts_pkt_ip(frame, sizeof(frame), &ip, &hdr);
	hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	hdr.gso_size = 100;
	for (uint32_t len = 14; len < 14 + 20 + 20; len++)
		assert_int_equal(asks(&p, &hdr, len), 0);
	assert_int_equal(p.rx->stats.drops[VIRTQ_DROP_RX_BAD_HEADER], 40);
	pair_close(&p);
}

static void segments_of_nothing_7023f3e532(void **state)
{
	const struct ts_ip ip = {.proto = 6, .payload = 1000, .partial = true};
	struct virtio_net_hdr_v1 hdr;
	struct pair p;
	uint32_t len;

	open_pair(&p, state, F(CSUM) | F(HOST_TSO4));
	len = ts_pkt_ip(frame, sizeof(frame), &ip, &hdr);
	hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	hdr.gso_size = 0;
	assert_int_equal(asks(&p, &hdr, len), 0);
	assert_int_equal(p.rx->stats.drops[VIRTQ_DROP_RX_BAD_HEADER], 1);
	pair_close(&p);
}

/* ---- bounds of a poll ---- */

/* As much as there is, a burst at a time. */
static void never_runs_dry_CVE_2019_3900(void **state)
{
	struct rte_mbuf *m[VIRTQ_BURST];
	struct pair p;

	open_pair(&p, state, 0);
	for (unsigned round = 0; round < 20; round++) {
		while (ts_net_send(&p.net, NULL, frame, 60, NULL, 0, TS_DIRECT) == 0)
			p.offered++;
		ts_ring_kick(p.tx_ring);
		assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), VIRTQ_BURST);
		rte_pktmbuf_free_bulk(m, VIRTQ_BURST);
		pair_reap(&p);
	}
	for (uint16_t n; (n = vnet_dequeue(p.rx, m, VIRTQ_BURST)) > 0;)
		rte_pktmbuf_free_bulk(m, n);
	pair_reap(&p);
	pair_close(&p);
}

/* A packet that has to wait takes nothing, is counted when it is given up, and bars nobody's way. */
static void larger_than_what_is_posted_linux_livelock(void **state)
{
	struct rte_mbuf *m[2];
	uint16_t at;
	struct pair p;

	open_pair(&p, state, 0);
	ts_pkt_fill(frame, 65000, 1);
	m[0] = pair_mbuf(frame, 65000);
	ts_pkt_fill(frame, 60, 2);
	m[1] = pair_mbuf(frame, 60);
	assert_int_equal(ts_net_fill_rx(&p.net, 10, 4096), 10);
	at = p.tx->avail;
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(vnet_enqueue(p.tx, m, 2), 0);
	assert_int_equal(p.tx->avail, at);
	vnet_give_up(p.tx, 1);
	assert_int_equal(p.tx->stats.drops[VIRTQ_DROP_TX_NO_BUFFER], 1);
	assert_int_equal(vnet_enqueue(p.tx, m + 1, 1), 1);
	assert_int_equal(ts_net_recv(&p.net, got, sizeof(got), NULL), 60);
	assert_int_equal(ts_net_fill_rx(&p.net, 10, 4096), 10);
	assert_int_equal(vnet_enqueue(p.tx, m, 1), 1);
	assert_int_equal(ts_net_recv(&p.net, got, sizeof(got), NULL), 65000);
	assert_int_equal(ts_pkt_check(got, 65000, NULL), 0);
	rte_pktmbuf_free_bulk(m, 2);
	pair_close(&p);
}

/* ---- what a strict driver looks at ---- */

/* The header is as long as the features say, whatever they are. */
static void header_length_CVE_2023_6693(void **state)
{
	for (unsigned bits = 0; bits < 4; bits++) {
		const struct column c = {*state, false, bits & 1, false, bits & 2};
		struct virtio_net_hdr_v1 hdr;
		struct rte_mbuf *m[1];
		struct pair p;

		pair_open(&p, &c, 0, 0);
		assert_int_equal(p.rx_view.hdr_len, bits || p.rx_view.packed ? 12 : 10);
		ts_pkt_fill(frame, 300, bits);
		assert_int_equal(ts_net_send(&p.net, NULL, frame, 300, NULL, 0, TS_DIRECT), 0);
		p.offered++;
		ts_ring_kick(p.tx_ring);
		assert_int_equal(vnet_dequeue(p.rx, m, 1), 1);
		assert_int_equal(ts_net_fill_rx(&p.net, 1, p.rx_view.hdr_len + 300u), 1);
		assert_int_equal(vnet_enqueue(p.tx, m, 1), 1);
		rte_pktmbuf_free(m[0]);
		assert_int_equal(ts_net_recv(&p.net, got, sizeof(got), &hdr), 300);
		assert_memory_equal(got, frame, 300);
		pair_reap(&p);
		pair_close(&p);
	}
}

/* Windows looks at the length of a chain, and VERSION_1 demands a number of buffers also where they
 * are not merged. The test guest checks the first. */
static void length_and_buffers_f46f655143_b9c1ec8577(void **state)
{
	static const uint32_t sizes[] = {5, 7, 100, 2000};

	for (unsigned merge = 0; merge < 2; merge++) {
		const struct column c = {*state, false, merge, true, true};
		struct virtio_net_hdr_v1 hdr;
		struct rte_mbuf *m;
		struct pair p;

		pair_open(&p, &c, 0, 0);
		for (uint32_t len = 14; len < 1500; len += 97) {
			memset(&hdr, 0xff, sizeof(hdr));
			ts_pkt_fill(frame, RTE_MAX(len, 26u), len);
			m = pair_mbuf(frame, len);
			assert_int_equal(
				ts_net_post_rx(&p.net, sizes, RTE_DIM(sizes), TS_DIRECT), 0);
			ts_ring_kick(p.rx_ring);
			assert_int_equal(vnet_enqueue(p.tx, &m, 1), 1);
			rte_pktmbuf_free(m);
			assert_int_equal(ts_net_recv(&p.net, got, sizeof(got), &hdr), len);
			assert_int_equal(hdr.num_buffers, 1);
		}
		pair_close(&p);
	}
}

/* One packet into nearly all buffers of a ring, which are small. */
static void as_many_buffers_as_the_ring_14962a9c4f(void **state)
{
	struct rte_mbuf *m;
	struct pair p;

	open_pair(&p, state, 0);
	for (uint32_t len = 9000; len < 9000 + 3; len++) {
		struct virtio_net_hdr_v1 hdr;

		ts_pkt_fill(frame, len, len);
		m = pair_mbuf(frame, len);
		ts_net_fill_rx(&p.net, (len + 12 + 35) / 36, 36);
		assert_int_equal(vnet_enqueue(p.tx, &m, 1), 1);
		rte_pktmbuf_free(m);
		assert_int_equal(ts_net_recv(&p.net, got, sizeof(got), &hdr), len);
		assert_int_equal(hdr.num_buffers, (len + 12 + 35) / 36);
		assert_int_equal(ts_pkt_check(got, len, NULL), 0);
	}
	pair_close(&p);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_longer_than_its_header_CVE_2022_2132_71bd0cc536),
		cmocka_unit_test(header_in_pieces_CVE_2022_2132_dc1516e260),
		cmocka_unit_test(header_and_nothing_e31b57e732),
		cmocka_unit_test(checksum_starts_behind_CVE_2024_11614_4dc4e33ffa),
		cmocka_unit_test(checksum_lies_behind_snabb_d4f75523a),
		cmocka_unit_test(headers_cut_off_706ba48665),
		cmocka_unit_test(segments_of_nothing_7023f3e532),
		cmocka_unit_test(never_runs_dry_CVE_2019_3900),
		cmocka_unit_test(larger_than_what_is_posted_linux_livelock),
		cmocka_unit_test(header_length_CVE_2023_6693),
		cmocka_unit_test(length_and_buffers_f46f655143_b9c1ec8577),
		cmocka_unit_test(as_many_buffers_as_the_ring_14962a9c4f),
	};

	return pair_run_with(PAIR_COPY | PAIR_LEND, tests, RTE_DIM(tests), argc, argv);
}

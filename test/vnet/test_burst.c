/* SPDX-License-Identifier: BSD-3-Clause */
/* Packets through the burst functions, against a strict guest, over every layout and variant. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pair.h"
#include "ts_pkt.h"
#include "ts_raw.h"

#define PACKET_ROOM 70000

static uint8_t frame[PACKET_ROOM], got[PACKET_ROOM];

/* ---- guest to mbufs ---- */

static const uint32_t lengths[] = {26, 60, 64, 65, 128, 1514, 2048, 2049, 4096, 9014, 65550};

/* How header and payload are cut into descriptors; 0 ends. */
static const uint32_t cuts[][16] = {
	{0},
	{12},
	{10},
	{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
	{12, 14},
	{5, 20},
	{16, 1, 1},
};

static unsigned count_cuts(const uint32_t *c)
{
	unsigned n = 0;

	while (n < 16 && c[n])
		n++;
	return n;
}

static void guest_sends(struct pair *p, uint32_t len, unsigned cut, uint32_t seq)
{
	ts_pkt_fill(frame, len, seq);
	assert_int_equal(ts_net_send(&p->net, NULL, frame, len, cuts[cut], count_cuts(cuts[cut]),
				 pair_mode(&p->c, seq)),
		0);
	p->offered++;
}

static void receive_column(const struct column *c)
{
	struct rte_mbuf *m[VIRTQ_BURST];
	struct pair p;
	uint32_t seq = 0;

	pair_open(&p, c, 0, 65500);
	for (unsigned cut = 0; cut < RTE_DIM(cuts); cut++) {
		for (unsigned i = 0; i < RTE_DIM(lengths); i++)
			guest_sends(&p, lengths[i], cut, seq + i);
		ts_ring_kick(p.tx_ring);
		assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), RTE_DIM(lengths));
		for (unsigned i = 0; i < RTE_DIM(lengths); i++, seq++) {
			uint32_t number, len = pair_bytes(m[i], got);

			assert_int_equal(len, lengths[i]);
			assert_int_equal(ts_pkt_check(got, len, &number), 0);
			assert_int_equal(number, seq);
			assert_int_equal(m[i]->port, 7);
			rte_pktmbuf_free(m[i]);
		}
		assert_int_equal(pair_reap(&p), RTE_DIM(lengths));
	}
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 0);
	pair_close(&p);
}

static void receive_every_layout(void **state)
{
	pair_over_columns(*state, receive_column);
}

static void receive_counts_what_it_cannot_use(void **state)
{
	const struct column c = {*state, true, true, false, true};
	struct rte_mbuf *m[VIRTQ_BURST];
	static uint8_t huge[200000];
	struct pair p;

	pair_open(&p, &c, 0, 0);
	for (uint32_t len = 0; len < 14; len++, p.offered++)
		assert_int_equal(ts_net_send(&p.net, NULL, huge, len, NULL, 0, TS_DIRECT), 0);
	assert_int_equal(ts_net_send(&p.net, NULL, huge, sizeof(huge), NULL, 0, TS_DIRECT), 0);
	p.offered++;
	guest_sends(&p, 100, 0, 1);
	ts_ring_kick(p.tx_ring);
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 1);
	rte_pktmbuf_free(m[0]);
	assert_int_equal(p.rx->stats.drops[VIRTQ_DROP_RX_SHORT], 14);
	assert_int_equal(p.rx->stats.drops[VIRTQ_DROP_RX_TOO_BIG], 1);
	assert_int_equal(pair_reap(&p), 16);
	pair_close(&p);
}

/* An empty pool loses nothing: what does not fit stays in the ring. */
static void receive_waits_for_mbufs(void **state)
{
	const struct column c = {*state, false, true, true, true};
	unsigned all = rte_mempool_avail_count(pair_pool);
	struct rte_mbuf **hoard = calloc(all, sizeof(*hoard)), *m[VIRTQ_BURST];
	struct pair p;

	pair_open(&p, &c, 0, 0);
	for (unsigned i = 0; i < 10; i++)
		guest_sends(&p, 64, 0, i);
	ts_ring_kick(p.tx_ring);
	assert_int_equal(rte_pktmbuf_alloc_bulk(pair_pool, hoard, all), 0);
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 0);
	assert_int_equal(p.rx->stats.no_mbuf, 1);
	assert_int_equal(pair_reap(&p), 0);
	rte_pktmbuf_free_bulk(hoard, 4);
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 4);
	rte_pktmbuf_free_bulk(m, 4);
	rte_pktmbuf_free_bulk(hoard + 4, all - 4);
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 6);
	for (unsigned i = 0; i < 6; i++) {
		uint32_t number;

		assert_int_equal(ts_pkt_check(got, pair_bytes(m[i], got), &number), 0);
		assert_int_equal(number, i + 4);
		rte_pktmbuf_free(m[i]);
	}
	assert_int_equal(pair_reap(&p), 10);
	free(hoard);
	pair_close(&p);
}

static void receive_linear(void **state)
{
	const struct column c = {*state, true, true, true, true};
	struct rte_mbuf *m[VIRTQ_BURST];
	struct pair p;

	for (unsigned ext = 0; ext < 2; ext++) {
		pair_open(&p, &c, 0, 0);
		p.conf.linear = true;
		p.conf.ext_buf = ext;
		vnet_prepare(&p.rx_view, &p.conf);
		guest_sends(&p, 1500, 0, 0);
		guest_sends(&p, 9000, 0, 1);
		ts_ring_kick(p.tx_ring);
		assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 1 + ext);
		for (unsigned i = 0; i < 1 + ext; i++) {
			assert_int_equal(m[i]->nb_segs, 1);
			assert_int_equal(ts_pkt_check(got, pair_bytes(m[i], got), NULL), 0);
			rte_pktmbuf_free(m[i]);
		}
		assert_int_equal(p.rx->stats.drops[VIRTQ_DROP_RX_TOO_BIG], 1 - ext);
		assert_int_equal(pair_reap(&p), 2);
		pair_close(&p);
	}
}

/* ---- mbufs to guest ---- */

static unsigned we_send(struct pair *p, const uint32_t *len, unsigned n, uint32_t seq)
{
	struct rte_mbuf *m[VIRTQ_BURST];
	unsigned sent;

	for (unsigned i = 0; i < n; i++) {
		ts_pkt_fill(frame, len[i], seq + i);
		m[i] = pair_mbuf(frame, len[i]);
	}
	sent = vnet_enqueue(p->tx, m, (uint16_t)n);
	for (unsigned i = 0; i < n; i++)
		rte_pktmbuf_free(m[i]);
	return sent;
}

static void guest_receives(struct pair *p, uint32_t len, uint32_t seq)
{
	struct virtio_net_hdr_v1 hdr;
	uint32_t number;

	assert_int_equal(ts_net_recv(&p->net, got, sizeof(got), &hdr), len);
	assert_int_equal(ts_pkt_check(got, len, &number), 0);
	assert_int_equal(number, seq);
	assert_int_equal(hdr.flags, 0);
	assert_int_equal(hdr.gso_type, 0);
}

/* Buffers as drivers post them; 0 ends. */
static const uint32_t buffers[][24] = {
	{66000},
	{12, 66000},
	{10, 2, 14, 66000},
	{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 66000},
	{4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096,
		4096, 4096},
};

static void send_column(const struct column *c)
{
	struct pair p;
	uint32_t seq = 0;

	pair_open(&p, c, 0, 65530);
	for (unsigned b = 0; b < RTE_DIM(buffers); b++) {
		unsigned n = 0;

		while (n < 24 && buffers[b][n])
			n++;
		for (unsigned i = 0; i < RTE_DIM(lengths); i++)
			assert_int_equal(ts_net_post_rx(&p.net, buffers[b], n, pair_mode(c, i)), 0);
		ts_ring_kick(p.rx_ring);
		assert_int_equal(we_send(&p, lengths, RTE_DIM(lengths), seq), RTE_DIM(lengths));
		for (unsigned i = 0; i < RTE_DIM(lengths); i++)
			guest_receives(&p, lengths[i], seq++);
	}
	assert_int_equal(p.tx->stats.packets, seq);
	pair_close(&p);
}

static void send_every_layout(void **state)
{
	pair_over_columns(*state, send_column);
}

/* Small buffers of mixed sizes; a packet that finds too few takes none. */
static void merge_column(const struct column *c)
{
	const uint32_t big[] = {9000, 65550, 60};
	struct pair p;

	if (!c->mergeable)
		return;
	pair_open(&p, c, 0, 3);
	assert_int_equal(ts_net_fill_rx(&p.net, 10, 1500), 10);
	assert_int_equal(we_send(&p, big, 3, 0), 1);
	guest_receives(&p, 9000, 0);
	assert_int_equal(p.net.n_bufs, 7);
	assert_int_equal(we_send(&p, &big[1], 1, 1), 0);
	assert_int_equal(ts_net_fill_rx(&p.net, 80, 1024), 80);
	assert_int_equal(we_send(&p, &big[1], 2, 1), 2);
	guest_receives(&p, 65550, 1);
	guest_receives(&p, 60, 2);
	pair_close(&p);
}

static void send_merges_buffers(void **state)
{
	pair_over_columns(*state, merge_column);
}

/* Without merging, a packet larger than the buffer is dropped and the buffer kept. */
static void send_drops_what_does_not_fit(void **state)
{
	const struct column c = {*state, false, false, false, true};
	const uint32_t len[] = {60, 3000, 64};
	struct pair p;

	pair_open(&p, &c, 0, 0);
	assert_int_equal(ts_net_fill_rx(&p.net, 2, 1526), 2);
	assert_int_equal(we_send(&p, len, 3, 0), 3);
	guest_receives(&p, 60, 0);
	guest_receives(&p, 64, 2);
	assert_int_equal(p.tx->stats.drops[VIRTQ_DROP_TX_TOO_BIG], 1);
	pair_close(&p);
}

/* What was not taken is counted once, under the reason that holds at that time. */
static void send_gives_up(void **state)
{
	const struct column c = {*state, false, true, false, true};
	const uint32_t len[] = {60};
	struct pair p;
	uint32_t ticket;

	pair_open(&p, &c, 0, 0);
	assert_int_equal(we_send(&p, len, 1, 0), 0);
	vnet_give_up(p.tx, 1);
	assert_int_equal(p.tx->stats.drops[VIRTQ_DROP_TX_NO_BUFFER], 1);
	virtq_gate_swap(&p.tx->gate, NULL, &ticket);
	assert_int_equal(we_send(&p, len, 1, 0), 0);
	vnet_give_up(p.tx, 1);
	assert_int_equal(p.tx->stats.drops[VIRTQ_DROP_TX_DISCONNECTED], 1);
	virtq_gate_swap(&p.tx->gate, &p.tx_view, &ticket);
	virtq_park(p.tx, VIRTQ_FAULT_LOOP);
	assert_int_equal(we_send(&p, len, 1, 0), 0);
	vnet_give_up(p.tx, 1);
	assert_int_equal(p.tx->stats.drops[VIRTQ_DROP_TX_BROKEN], 1);
	pair_close(&p);
}

/* A bad chain parks the ring; what came before it in the same burst is delivered. */
static void fault_in_the_middle(void **state)
{
	const struct column c = {*state, false, true, false, true};
	struct rte_mbuf *m[VIRTQ_BURST];
	struct pair p;
	__le64 *bad;
	uint64_t good;

	pair_open(&p, &c, 0, 0);
	guest_sends(&p, 64, 0, 0);
	guest_sends(&p, 64, 0, 1);
	guest_sends(&p, 64, 0, 2);
	p.offered--;
	ts_ring_kick(p.tx_ring);
	bad = p.tx_ring->pdesc ? &p.tx_ring->pdesc[2].addr
			       : &p.tx_ring->desc[p.tx_ring->avail->ring[2]].addr;
	good = *bad;
	*bad = 1ull << 60;
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 2);
	rte_pktmbuf_free_bulk(m, 2);
	assert_int_equal(p.rx->fault, VIRTQ_FAULT_BAD_ADDRESS);
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 0);
	assert_int_equal(pair_reap(&p), 2);
	*bad = good;
	pair_close(&p);
}

/* Sixty-four chains of nothing, each as long as the ring: eight fit into a burst's steps, and all
 * are too short to be packets. */
static void expect_bounded(struct pair *p)
{
	struct rte_mbuf *m[VIRTQ_BURST];

	for (unsigned done = 0; done < 64; done += 8) {
		assert_int_equal(vnet_dequeue(p->rx, m, VIRTQ_BURST), 0);
		assert_int_equal(p->rx->stats.drops[VIRTQ_DROP_RX_SHORT], done + 8);
	}
	assert_int_equal(p->rx->fault, VIRTQ_FAULT_NONE);
	p->offered = 64;
}

/* Empty descriptors cost nothing but steps: a burst ends after so many, and a chain that alone
 * needs more parks the ring. */
static void empty_descriptors_are_bounded(void **state)
{
	const struct column c = {*state, true, true, false, true};
	const struct ts_seg nothing[256] = {0};
	struct pair p;

	pair_open(&p, &c, 0, 0);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(
			ts_ring_add(p.tx_ring, nothing, p.tx_ring->size, NULL, 0, &p, TS_INDIRECT),
			0);
	ts_ring_kick(p.tx_ring);
	expect_bounded(&p);
	for (unsigned i = 0; i < 64; i++)
		assert_ptr_equal(ts_ring_get_used(p.tx_ring, NULL), &p);
	pair_close(&p);
}

/* The same without tables, which only a split ring has room for: all chains are the same one. */
static void empty_links_are_bounded(void **state)
{
	const struct column c = {*state, false, true, false, true};
	struct pair p;
	uint32_t size;

	pair_open(&p, &c, 0, 0);
	size = p.tx_ring->size;
	for (uint32_t i = 0; i < size; i++)
		p.tx_ring->desc[i] = (struct vring_desc){
			0, 0, i + 1 < size ? VRING_DESC_F_NEXT : 0, (uint16_t)(i + 1)};
	for (unsigned i = 0; i < 64; i++)
		ts_raw_offer(p.tx_ring, 0);
	expect_bounded(&p);
	assert_int_equal(p.tx_ring->used->idx, 64);
	p.tx_ring->broken = true; /* the driver has not sent these */
	pair_close(&p);
}

/* A packet that can never fit is dropped for good: one that waits would hold up the others. */
static void hopeless_packet_is_dropped(void **state)
{
	const struct column c = {*state, true, true, false, true};
	const uint32_t cut[] = {12, 8, 8, 8, 8, 8, 8, 8}, len[] = {60000, 60};
	struct pair p;

	pair_open(&p, &c, 0, 0);
	for (unsigned i = 0; i < p.rx_ring->size; i++)
		assert_int_equal(ts_net_post_rx(&p.net, cut, RTE_DIM(cut), TS_INDIRECT), 0);
	ts_ring_kick(p.rx_ring);
	assert_int_equal(we_send(&p, len, 2, 0), 2);
	assert_int_equal(p.tx->stats.drops[VIRTQ_DROP_TX_TOO_BIG], 1);
	assert_int_equal(p.tx->fault, VIRTQ_FAULT_NONE);
	guest_receives(&p, 60, 1);
	pair_close(&p);
}

/* ---- offloads ---- */

/* 64 KiB frames go from one guest to another as they are: segments, fragments, datagrams. */
static const struct large {
	uint64_t features;
	uint8_t proto, type;
	uint64_t flag; /* of the mbuf on its way */
} large[] = {
	{F(HOST_TSO4) | F(GUEST_TSO4), 6, VIRTIO_NET_HDR_GSO_TCPV4, RTE_MBUF_F_TX_TCP_SEG},
	{F(HOST_UFO) | F(GUEST_UFO), 17, VIRTIO_NET_HDR_GSO_UDP, VNET_MBUF_F_UFO},
	{TS_BIT(TS_NET_F_HOST_USO) | TS_BIT(TS_NET_F_GUEST_USO4), 17, TS_NET_HDR_GSO_UDP_L4,
		RTE_MBUF_F_TX_UDP_SEG},
};

static void send_large(const struct column *c, const struct large *row)
{
	const uint64_t offloads = F(CSUM) | F(GUEST_CSUM) | row->features;
	const struct ts_ip ip = {.proto = row->proto, .payload = 64000, .partial = true};
	struct virtio_net_hdr_v1 hdr, back;
	struct rte_mbuf *m[VIRTQ_BURST];
	struct pair p;
	const char *why = "";
	uint32_t len;

	pair_open(&p, c, offloads, 0);
	len = ts_pkt_ip(frame, sizeof(frame), &ip, &hdr);
	hdr.gso_type = row->type;
	hdr.gso_size = 1448;
	assert_int_equal(ts_net_send(&p.net, &hdr, frame, len, NULL, 0, TS_INDIRECT), 0);
	p.offered++;
	ts_ring_kick(p.tx_ring);
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 1);
	assert_true((m[0]->ol_flags & VNET_SEG_FLAGS) == row->flag);
	assert_int_equal(m[0]->tso_segsz, 1448);
	assert_int_equal(ts_net_fill_rx(&p.net, 64, 4096), 64);
	assert_int_equal(vnet_enqueue(p.tx, m, 1), 1);
	rte_pktmbuf_free(m[0]);
	assert_int_equal(ts_net_recv(&p.net, got, sizeof(got), &back), len);
	assert_int_equal(back.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(back.gso_type, row->type);
	assert_int_equal(back.gso_size, 1448);
	assert_int_equal(back.csum_start, hdr.csum_start);
	assert_int_equal(back.csum_offset, hdr.csum_offset);
	if (ts_pkt_ip_check(got, len, true, &why) != 64000)
		fail_msg("%s", why);
	assert_int_equal(pair_reap(&p), 1);
	pair_close(&p);
}

static void large_between_guests(void **state)
{
	const struct column c = {*state, true, true, true, true};

	for (unsigned i = 0; i < RTE_DIM(large); i++)
		send_large(&c, &large[i]);
}

/* A guest that did not ask for partial checksums never gets one. */
static void offload_not_negotiated(void **state)
{
	const struct column c = {*state, true, true, true, true};
	const struct ts_ip ip = {.proto = 17, .payload = 100, .partial = true};
	struct virtio_net_hdr_v1 hdr;
	struct rte_mbuf *m[VIRTQ_BURST];
	struct pair p;

	pair_open(&p, &c, F(CSUM), 0);
	assert_int_equal(ts_net_send(&p.net, &hdr, frame,
				 ts_pkt_ip(frame, sizeof(frame), &ip, &hdr), NULL, 0, TS_DIRECT),
		0);
	p.offered++;
	ts_ring_kick(p.tx_ring);
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 1);
	assert_int_equal(ts_net_fill_rx(&p.net, 8, 4096), 8);
	assert_int_equal(vnet_enqueue(p.tx, m, 1), 1);
	assert_int_equal(p.tx->stats.drops[VIRTQ_DROP_TX_OFFLOAD], 1);
	rte_pktmbuf_free(m[0]);
	assert_int_equal(pair_reap(&p), 1);
	pair_close(&p);
}

/* A header that asks for what was not negotiated costs the packet. */
static void bad_header_is_dropped(void **state)
{
	const struct column c = {*state, true, true, true, true};
	const struct virtio_net_hdr_v1 bad = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 60000, .csum_offset = 6};
	struct rte_mbuf *m[VIRTQ_BURST];
	struct pair p;

	pair_open(&p, &c, F(CSUM), 0);
	ts_pkt_fill(frame, 64, 0);
	assert_int_equal(ts_net_send(&p.net, &bad, frame, 64, NULL, 0, TS_DIRECT), 0);
	p.offered++;
	ts_ring_kick(p.tx_ring);
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 0);
	assert_int_equal(p.rx->stats.drops[VIRTQ_DROP_RX_BAD_HEADER], 1);
	assert_int_equal(pair_reap(&p), 1);
	pair_close(&p);
}

/* Without VIRTIO_NET_F_CSUM a header says nothing, whatever is in it: the frame goes on as it is. */
static void ignore_column(const struct column *c)
{
	static const uint32_t cuts[] = {12, 3, 40};
	struct pair p;

	pair_open(&p, c, 0, 0);
	ts_pkt_fill(frame, 64, 0);
	for (unsigned i = 0; i < 256; i++) {
		const struct virtio_net_hdr_v1 hdr = {.flags = (uint8_t)i,
			.gso_type = (uint8_t)(i * 37),
			.gso_size = (uint16_t)(i * 257),
			.csum_start = (uint16_t)(i * 521)};
		struct rte_mbuf *m[VIRTQ_BURST];

		assert_int_equal(
			ts_net_send(&p.net, &hdr, frame, 64, cuts, i % 4, pair_mode(c, i)), 0);
		p.offered++;
		ts_ring_kick(p.tx_ring);
		assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 1);
		assert_int_equal(m[0]->ol_flags, 0);
		assert_int_equal(pair_bytes(m[0], got), 64);
		assert_memory_equal(got, frame, 64);
		rte_pktmbuf_free(m[0]);
		assert_int_equal(ts_net_reap(&p.net), 1);
	}
	pair_close(&p);
}

static void header_not_negotiated(void **state)
{
	pair_over_columns(*state, ignore_column);
}

/* Nor is it looked at, which would cost a cache line: here it lies where nobody may read. */
static void header_not_read(void **state)
{
	const struct column c = {*state, true, true, true, true};
	const uint64_t page = 4096;
	struct rte_mbuf *m[VIRTQ_BURST];
	struct ts_seg seg;
	struct pair p;
	void *lock;

	pair_open(&p, &c, 0, 0);
	ts_pkt_fill(frame, 64, 0);
	seg = (struct ts_seg){ts_alloc(p.guest, 0, 2 * page, page) + page - 12, 12 + 64};
	lock = ts_va(p.guest, seg.gpa + 12 - page, page);
	assert_int_equal(ts_net_send_at(&p.net, NULL, frame, 64, &seg, 1, TS_DIRECT), 0);
	p.offered++;
	ts_ring_kick(p.tx_ring);
	assert_int_equal(mprotect(lock, page, PROT_NONE), 0);
	assert_int_equal(vnet_dequeue(p.rx, m, VIRTQ_BURST), 1);
	assert_int_equal(mprotect(lock, page, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(pair_bytes(m[0], got), 64);
	assert_memory_equal(got, frame, 64);
	rte_pktmbuf_free(m[0]);
	assert_int_equal(ts_net_reap(&p.net), 1);
	pair_close(&p);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(receive_every_layout),
		cmocka_unit_test(receive_counts_what_it_cannot_use),
		cmocka_unit_test(receive_waits_for_mbufs),
		cmocka_unit_test(receive_linear),
		cmocka_unit_test(send_every_layout),
		cmocka_unit_test(send_merges_buffers),
		cmocka_unit_test(send_drops_what_does_not_fit),
		cmocka_unit_test(send_gives_up),
		cmocka_unit_test(fault_in_the_middle),
		cmocka_unit_test(empty_descriptors_are_bounded),
		PAIR_SPLIT(empty_links_are_bounded),
		cmocka_unit_test(hopeless_packet_is_dropped),
		cmocka_unit_test(large_between_guests),
		cmocka_unit_test(offload_not_negotiated),
		cmocka_unit_test(bad_header_is_dropped),
		cmocka_unit_test(header_not_negotiated),
		cmocka_unit_test(header_not_read),
	};

	return pair_run(tests, RTE_DIM(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of the test library: packets, and the virtio-net guest against a trusted device. */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "selftest_device.h"
#include "ts_net.h"
#include "ts_pkt.h"
#include "ts_tap.h"

static_assert(sizeof(struct virtio_net_hdr_v1) == 12, "virtio-net header");
static_assert(sizeof(struct virtio_net_hdr) == 10, "legacy virtio-net header");
static_assert(sizeof(struct vring_desc) == 16, "descriptor");
static_assert(sizeof(struct vring_used_elem) == 8, "used element");

/* ---- packets ---- */

static void test_pattern(void **state)
{
	static const uint32_t lens[] = {TS_PKT_MIN, 60, 1514, 9018};
	uint8_t p[9018];
	uint32_t seq;

	for (unsigned i = 0; i < TS_ARRAY_SIZE(lens); i++) {
		ts_pkt_fill(p, lens[i], 77 + i);
		assert_int_equal(ts_pkt_check(p, lens[i], &seq), 0);
		assert_int_equal(seq, 77 + i);
		assert_int_equal(ts_pkt_check(p, lens[i] - 1, NULL), -EBADMSG);
		p[lens[i] - 1] ^= 1;
		assert_int_equal(ts_pkt_check(p, lens[i], NULL), -EBADMSG);
	}
}

static void test_csum(void **state)
{
	/* The example of RFC 1071 section 3. */
	static const uint8_t rfc[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

	assert_int_equal(ts_csum_add(0, rfc, sizeof(rfc)), 0xddf2);
	assert_int_equal(ntohs(ts_csum_end(0xddf2)), 0x220d);
	assert_int_equal(ts_csum_add(0, rfc, 3), 0x0001 + 0xf200);
}

static void check_ip(struct ts_ip ip)
{
	uint8_t p[2000];
	struct virtio_net_hdr_v1 h;
	const char *why;
	uint32_t len;

	ip.partial = false;
	len = ts_pkt_ip(p, sizeof(p), &ip, &h);
	assert_int_equal(h.flags, 0);
	assert_int_equal(ts_pkt_ip_check(p, len, false, &why), ip.payload);
	p[len - 1] ^= 0x10;
	assert_int_equal(ts_pkt_ip_check(p, len, false, &why), -EBADMSG);
	ip.partial = true;
	assert_int_equal(ts_pkt_ip(p, sizeof(p), &ip, &h), len);
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(ts_pkt_ip_check(p, len, true, &why), ip.payload);
	assert_int_equal(ts_pkt_ip_check(p, len, false, &why), -EBADMSG);
	assert_string_equal(why, "wrong TCP/UDP checksum");
	assert_int_equal(ts_pkt_finish_csum(p, len, &h), 0);
	assert_int_equal(ts_pkt_ip_check(p, len, false, &why), ip.payload);
	h.csum_start = (uint16_t)(len - 1);
	assert_int_equal(ts_pkt_finish_csum(p, len, &h), -EBADMSG);
}

static void test_ip(void **state)
{
	static const uint32_t payloads[] = {1, 18, 101, 1400};

	for (unsigned i = 0; i < 2 * 2 * 2 * TS_ARRAY_SIZE(payloads); i++)
		check_ip((struct ts_ip){.v6 = i & 1,
			.proto = i & 2 ? IPPROTO_UDP : IPPROTO_TCP,
			.vlan = i & 4 ? 100 : 0,
			.seq = 1000,
			.payload = payloads[i / 8]});
	assert_int_equal(ts_pkt_ip(NULL, 40, &(struct ts_ip){.proto = IPPROTO_UDP}, NULL), 0);
}

/* ---- guest ---- */

#define MRG  TS_BIT(VIRTIO_NET_F_MRG_RXBUF)
#define CSUM TS_BIT(VIRTIO_NET_F_GUEST_CSUM)
#define TSO4 TS_BIT(VIRTIO_NET_F_GUEST_TSO4)
#define IND  TS_BIT(VIRTIO_RING_F_INDIRECT_DESC)

/* A test's initial state is its format; without VERSION_1, which it sets itself. */
static uint64_t format_of(void **state)
{
	return *(uint64_t *)*state & PACKED;
}

struct link {
	struct ts_guest *g;
	struct ts_net n;
	struct dev rx, tx;
	struct dev_chain first; /* of the packet delivered last */
	uint8_t pkt[70000], got[70000];
	struct virtio_net_hdr_v1 h;
};

static struct link *link_up(uint64_t features)
{
	struct link *l = calloc(1, sizeof(*l));
	struct ts_ring_conf c = {
		.size = 256, .features = features, .base = ts_base_fresh(features)};
	struct ts_ring *rx, *tx;

	l->g = c.guest = ts_guest_one(4 << 20);
	assert_int_equal(ts_ring_new(&c, &rx), 0);
	assert_int_equal(ts_ring_new(&c, &tx), 0);
	ts_net_init(&l->n, l->g, 0, rx, tx);
	dev_init(&l->rx, rx);
	dev_init(&l->tx, tx);
	l->h.num_buffers = 1;
	return l;
}

static void link_down(struct link *l)
{
	ts_net_fini(&l->n);
	ts_ring_free(l->n.rx);
	ts_ring_free(l->n.tx);
	ts_guest_free(l->g);
	free(l);
}

/* The device puts header and packet into as many buffers as it takes. */
static void deliver(struct link *l, uint32_t len)
{
	uint8_t all[70012];
	struct virtio_net_hdr_v1 *h = (void *)all;
	struct dev_chain chain[64];
	uint32_t total = l->n.hdr_len + len, done = 0, part[64];
	unsigned k = 0;

	*h = l->h;
	memcpy(all + l->n.hdr_len, l->pkt, len);
	for (; done < total && dev_pop(&l->rx, &chain[k]); done += part[k++])
		part[k] = dev_write(&l->rx, &chain[k], all + done, total - done);
	if (k > 0)
		l->first = chain[0];
	if (l->h.num_buffers == 1 && k > 1) {
		uint16_t num = (uint16_t)k;

		ts_guest_write(l->g, chain[0].in[0].gpa + 10, &num, sizeof(num));
	}
	for (unsigned i = 0; i < k; i++)
		dev_push(&l->rx, chain[i].head, part[i]);
	dev_flush(&l->rx);
}

static void expect_packet(struct link *l, uint32_t len, unsigned bufs)
{
	struct virtio_net_hdr_v1 h;
	int rc = ts_net_recv(&l->n, l->got, sizeof(l->got), &h);

	if (rc != (int)len)
		fail_msg("%d instead of %u bytes: %s", rc, len, ts_net_why(&l->n));
	assert_int_equal(l->n.n_bufs, bufs);
	assert_int_equal(h.num_buffers, bufs);
	assert_int_equal(ts_pkt_check(l->got, len, NULL), 0);
	assert_int_equal(ts_net_faults(&l->n), 0);
}

static void test_hdr_len(void **state)
{
	assert_int_equal(ts_net_hdr_len(0), 10);
	assert_int_equal(ts_net_hdr_len(MRG), 12);
	assert_int_equal(ts_net_hdr_len(V1), 12);
	assert_int_equal(ts_net_hdr_len(TS_BIT(VIRTIO_F_RING_PACKED)), 12);
}

static void test_rx_layouts(void **state)
{
	static const uint64_t features[] = {0, V1, V1 | MRG | IND};
	static const uint32_t tiny[] = {1, 2, 3, 4, 5, 100, 7, 1500};
	static const uint32_t own[] = {10, 1514};
	const uint64_t format = format_of(state);
	const unsigned modes = format ? TS_MIXED : TS_MIXED + 1;

	for (unsigned f = 0; f < TS_ARRAY_SIZE(features); f++) {
		struct link *l = link_up(features[f] | format);

		assert_int_equal(ts_net_recv(&l->n, l->got, sizeof(l->got), NULL), -EAGAIN);
		for (unsigned round = 0; round < 700; round++) {
			enum ts_mode mode = features[f] & IND ? round % modes : TS_DIRECT;

			assert_int_equal(ts_net_post_rx(&l->n, tiny, 8, mode), 0);
			assert_int_equal(ts_net_post_rx(&l->n, own, 2, mode), 0);
			ts_ring_kick(l->n.rx);
			for (uint32_t i = 0; i < 2; i++) {
				ts_pkt_fill(l->pkt, 60 + round + i, round);
				deliver(l, 60 + round + i);
				expect_packet(l, 60 + round + i, 1);
			}
		}
		link_down(l);
	}
}

static void test_rx_merge(void **state)
{
	struct link *l = link_up(V1 | MRG | format_of(state));

	assert_int_equal(ts_net_fill_rx(&l->n, 1000, 2048), 256);
	ts_pkt_fill(l->pkt, 9018, 1);
	deliver(l, 9018);
	expect_packet(l, 9018, 5);
	ts_pkt_fill(l->pkt, 2048 * 2 - 12, 2);
	deliver(l, 2048 * 2 - 12);
	expect_packet(l, 2048 * 2 - 12, 2);
	ts_pkt_fill(l->pkt, 60, 3);
	deliver(l, 60);
	expect_packet(l, 60, 1);
	assert_int_equal(ts_net_recv(&l->n, l->got, 10, NULL), -EAGAIN);
	deliver(l, 60);
	assert_int_equal(ts_net_recv(&l->n, l->got, 10, NULL), -EMSGSIZE);
	link_down(l);
}

static void test_rx_rules(void **state)
{
	const struct {
		uint64_t features;
		struct virtio_net_hdr_v1 h;
		const char *words;
	} cases[] = {
		{V1, {.num_buffers = 0}, "num_buffers is 0"},
		{V1, {.num_buffers = 2}, "without MRG_RXBUF"},
		{V1 | MRG, {.num_buffers = 2}, "only 1 were used"},
		{V1, {.num_buffers = 1, .flags = 2}, "without GUEST_CSUM"},
		{V1 | CSUM, {.num_buffers = 1, .flags = 4}, "unknown flag"},
		{V1 | CSUM, {.num_buffers = 1, .flags = 1, .csum_start = 99}, "behind the packet"},
		{V1 | CSUM, {.num_buffers = 1, .flags = 1, .gso_type = 1}, "not negotiated"},
		{V1 | CSUM, {.num_buffers = 1, .flags = 1, .gso_type = 9}, "unknown gso_type"},
		{V1 | CSUM | TSO4, {.num_buffers = 1, .gso_type = 1}, "without NEEDS_CSUM"},
		{V1 | CSUM | TSO4, {.num_buffers = 1, .flags = 1, .gso_type = 1}, "gso_size"},
		{V1 | CSUM | TSO4, {.num_buffers = 1, .flags = 1, .gso_type = 0x81}, "ECN"},
	};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		struct link *l = link_up(cases[i].features | format_of(state));

		ts_net_fill_rx(&l->n, 1, cases[i].h.num_buffers == 2 ? 112 : 2048);
		l->h = cases[i].h;
		ts_pkt_fill(l->pkt, 100, 0);
		deliver(l, 100);
		assert_int_equal(ts_net_recv(&l->n, l->got, sizeof(l->got), NULL), -EPROTO);
		assert_true(ts_net_faults(&l->n) >= 1);
		if (!strstr(ts_net_why(&l->n), cases[i].words))
			fail_msg("%s", ts_net_why(&l->n));
		link_down(l);
	}
}

static void test_rx_partial_ok(void **state)
{
	struct link *l = link_up(V1 | CSUM | TSO4 | format_of(state));
	struct virtio_net_hdr_v1 h;

	ts_net_fill_rx(&l->n, 2, 2048);
	l->h = (struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.gso_size = 1460,
		.csum_start = 34,
		.csum_offset = 16,
		.num_buffers = 1};
	ts_pkt_fill(l->pkt, 100, 0);
	deliver(l, 100);
	assert_int_equal(ts_net_recv(&l->n, l->got, sizeof(l->got), &h), 100);
	assert_memory_equal(&h, &l->h, sizeof(h));
	link_down(l);
}

/* Three buffers of 500 bytes, the device claims to have filled them so far. */
static void check_filling(void **state, const uint32_t *lens, uint16_t num, const char *words)
{
	struct link *l = link_up(V1 | MRG | format_of(state));
	const struct virtio_net_hdr_v1 h = {.num_buffers = num};
	struct dev_chain c;

	ts_net_fill_rx(&l->n, 3, 500);
	for (int i = 0; i < 3; i++) {
		assert_true(dev_pop(&l->rx, &c));
		if (i == 0)
			dev_write(&l->rx, &c, &h, sizeof(h));
		dev_push(&l->rx, c.head, lens[i]);
	}
	dev_flush(&l->rx);
	assert_int_equal(ts_net_recv(&l->n, l->got, sizeof(l->got), NULL), -EPROTO);
	assert_string_equal(ts_net_why(&l->n), words);
	link_down(l);
}

static void test_rx_filling(void **state)
{
	check_filling(state, (const uint32_t[]){499, 11, 0}, 2,
		"buffer 1 of 2 is filled with 499 of 500 bytes");
	check_filling(state, (const uint32_t[]){500, 499, 1}, 3,
		"buffer 2 of 3 is filled with 499 of 500 bytes");
	check_filling(state, (const uint32_t[]){11, 500, 500}, 3,
		"first buffer has 11 bytes, the header needs 12");
}

static void test_rx_overrun(void **state)
{
	for (int where = 0; where < 3; where++) {
		static const uint32_t sizes[] = {12, 500};
		struct link *l = link_up(V1 | format_of(state));
		const struct ts_seg *in;
		uint8_t x = 0;

		ts_net_post_rx(&l->n, sizes, 2, TS_DIRECT);
		ts_ring_publish(l->n.rx);
		deliver(l, 100);
		in = l->first.in;
		ts_guest_write(l->g,
			where == 0 ? in[0].gpa - 1 : in[where - 1].gpa + sizes[where - 1], &x, 1);
		assert_int_equal(ts_net_recv(&l->n, l->got, sizeof(l->got), NULL), -EPROTO);
		assert_non_null(strstr(ts_net_why(&l->n), "overwritten"));
		link_down(l);
	}
}

static void send_and_check(struct link *l, uint32_t len, const uint32_t *cuts, unsigned n_cuts,
	unsigned n_desc, enum ts_mode mode)
{
	const struct virtio_net_hdr_v1 h = {
		.flags = 1, .csum_start = 0x1234, .csum_offset = 0x5678};
	struct dev_chain c;

	ts_pkt_fill(l->pkt, len, len);
	assert_int_equal(ts_net_send(&l->n, &h, l->pkt, len, cuts, n_cuts, mode), 0);
	ts_ring_kick(l->n.tx);
	assert_int_equal(ts_net_reap(&l->n), 0);
	assert_true(dev_pop(&l->tx, &c));
	assert_int_equal(c.n_out, n_desc);
	assert_int_equal(c.n_in, 0);
	assert_int_equal(dev_read(&l->tx, &c, l->got), l->n.hdr_len + len);
	assert_memory_equal(l->got, &h, 10);
	assert_int_equal(ts_pkt_check(l->got + l->n.hdr_len, len, NULL), 0);
	dev_push(&l->tx, c.head, 0);
	dev_flush(&l->tx);
	assert_int_equal(ts_net_reap(&l->n), 1);
	assert_int_equal(ts_net_faults(&l->n), 0);
}

static void test_tx(void **state)
{
	static const uint32_t bytes[12] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
	static const uint32_t own[] = {12}, zero[] = {0, 12, 0}, exact[] = {12, 100};
	struct link *l = link_up(V1 | IND | format_of(state));

	for (int mode = TS_DIRECT; mode <= (format_of(state) ? TS_INDIRECT : TS_MIXED); mode++) {
		send_and_check(l, 60, NULL, 0, 1, (enum ts_mode)mode);
		send_and_check(l, 1514, own, 1, 2, (enum ts_mode)mode);
		send_and_check(l, 65000, bytes, 12, 13, (enum ts_mode)mode);
		send_and_check(l, 100, zero, 3, 4, (enum ts_mode)mode);
		send_and_check(l, 100, exact, 2, 2, (enum ts_mode)mode);
	}
	link_down(l);
	l = link_up(format_of(state));
	send_and_check(l, 60, own, 1, 2, TS_DIRECT);
	for (int i = 0; i < 1000; i++)
		send_and_check(l, 1514, bytes, 12, 13, TS_DIRECT);
	link_down(l);
}

static void test_tx_tamper(void **state)
{
	struct link *l = link_up(V1 | format_of(state));
	struct dev_chain c;

	ts_net_send(&l->n, NULL, l->pkt, 60, NULL, 0, TS_DIRECT);
	ts_ring_publish(l->n.tx);
	assert_true(dev_pop(&l->tx, &c));
	ts_guest_write(l->g, c.out[0].gpa, "x", 1);
	dev_push(&l->tx, c.head, 0);
	dev_flush(&l->tx);
	assert_int_equal(ts_net_reap(&l->n), 1);
	assert_non_null(strstr(ts_net_why(&l->n), "written by the device"));
	link_down(l);
}

/* Buffers that cross from one region into its neighbour, both ways. */
static void test_crossing(void **state)
{
	struct link *l = link_up(V1 | format_of(state));
	const struct ts_region_conf next = {.gpa = 5 << 20, .size = 1 << 20};
	struct ts_seg seg = {.len = 1024};
	struct dev_chain c;

	assert_int_equal(ts_guest_add(l->g, &next), 1);
	seg.gpa = ts_alloc_cross(l->g, 0, 20, 1004);
	assert_true(seg.gpa == (5 << 20) - 20);
	assert_int_equal(ts_net_post_rx_at(&l->n, &seg, 1, TS_DIRECT), 0);
	ts_ring_publish(l->n.rx);
	ts_pkt_fill(l->pkt, 1012, 9);
	deliver(l, 1012);
	expect_packet(l, 1012, 1);
	assert_int_equal(ts_net_send_at(&l->n, NULL, l->pkt, 1013, &seg, 1, TS_DIRECT), -EMSGSIZE);
	assert_int_equal(ts_net_send_at(&l->n, NULL, l->pkt, 1012, &seg, 1, TS_DIRECT), 0);
	ts_ring_publish(l->n.tx);
	assert_true(dev_pop(&l->tx, &c));
	assert_int_equal(dev_read(&l->tx, &c, l->got), 1024);
	assert_int_equal(ts_pkt_check(l->got + 12, 1012, NULL), 0);
	link_down(l);
}

/* After a reset all buffers are reused: guest memory must not run out. */
static void test_reset(void **state)
{
	struct link *l = link_up(V1 | MRG | format_of(state));
	uint32_t base;

	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(ts_net_fill_rx(&l->n, 256, 2048), 256);
		assert_int_equal(ts_net_send(&l->n, NULL, l->pkt, 60, NULL, 0, TS_DIRECT), 0);
		ts_ring_kick(l->n.tx);
		base = ts_base_at(l->n.features, 256, 65000 + i);
		ts_net_reset(&l->n, base, ts_base_at(l->n.features, 256, i));
		assert_int_equal(ts_ring_avail_pos(l->n.rx), base);
		assert_int_equal(l->n.rx->n_free, 256);
	}
	assert_int_equal(ts_net_faults(&l->n), 0);
	link_down(l);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pattern),
		cmocka_unit_test(test_csum),
		cmocka_unit_test(test_ip),
		cmocka_unit_test(test_hdr_len),
		CASE_BOTH(test_rx_layouts),
		CASE_BOTH(test_rx_merge),
		CASE_BOTH(test_rx_rules),
		CASE_BOTH(test_rx_partial_ok),
		CASE_BOTH(test_rx_filling),
		CASE_BOTH(test_rx_overrun),
		CASE_BOTH(test_tx),
		CASE_BOTH(test_tx_tamper),
		CASE_BOTH(test_crossing),
		CASE_BOTH(test_reset),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

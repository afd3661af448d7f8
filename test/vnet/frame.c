/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames of known content, checksums computed by the book, and mbufs that end where memory ends. */
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "frame.h"

/* After the DPDK headers: cmocka defines names they use. */
#include "ts_tap.h"

#define ACK  0x10
#define TCP4 .proto = IPPROTO_TCP, .tcp_flags = ACK
#define TCP6 .v6 = true, .proto = IPPROTO_TCP, .tcp_flags = ACK

const struct frame_spec frame_specs[] = {
	{"tcp4", TCP4, .payload = 1000},
	{"tcp4 odd", TCP4, .payload = 1001},
	{"tcp4 empty", TCP4},
	{"tcp4 vlan", TCP4, .tag = {0x8100}, .payload = 77},
	{"tcp4 802.1ad", TCP4, .tag = {0x88a8}, .payload = 78},
	{"tcp4 qinq", TCP4, .tag = {0x88a8, 0x8100}, .payload = 500},
	{"tcp4 two vlans", TCP4, .tag = {0x8100, 0x8100}, .payload = 501},
	{"tcp4 options", TCP4, .options = 40, .tcp_options = 40, .payload = 333},
	{"tcp4 vlan options", TCP4, .tag = {0x8100}, .options = 8, .tcp_options = 12, .payload = 9},
	{"tcp6", TCP6, .payload = 1000},
	{"tcp6 odd", TCP6, .payload = 1001},
	{"tcp6 vlan", TCP6, .tag = {0x8100}, .tcp_options = 12, .payload = 100},
	{"tcp6 qinq ext", TCP6, .tag = {0x88a8, 0x8100}, .options = 24, .payload = 100},
	{"tcp6 ext", TCP6, .options = 8, .tcp_options = 20, .payload = 1},
	{"udp4", .proto = IPPROTO_UDP, .payload = 1000},
	{"udp4 odd", .proto = IPPROTO_UDP, .payload = 3},
	{"udp4 empty", .proto = IPPROTO_UDP},
	{"udp4 vlan options", .proto = IPPROTO_UDP, .tag = {0x8100}, .options = 4, .payload = 10},
	{"udp6", .v6 = true, .proto = IPPROTO_UDP, .payload = 1000},
	{"udp6 vlan ext", .v6 = true, .proto = IPPROTO_UDP, .tag = {0x8100}, .options = 16,
		.payload = 55},
};
const size_t frame_nspecs = RTE_DIM(frame_specs);

/* ---- the book ---- */

void frame_put16(uint8_t *p, uint16_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

uint16_t frame_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

uint32_t frame_sum(const uint8_t *p, uint32_t len, uint32_t sum)
{
	for (uint32_t i = 0; i < len; i++) {
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

uint16_t frame_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

uint16_t frame_pseudo(const struct frame *f, const uint8_t *p, uint16_t len)
{
	const uint8_t *addresses = p + f->l3 + (f->v6 ? 8 : 12);

	return (uint16_t)~frame_fold(
		frame_sum(addresses, f->v6 ? 32 : 8, (uint32_t)f->proto + len));
}

static uint16_t l4_checksum(const struct frame *f, const uint8_t *p, uint32_t len)
{
	uint16_t l4_bytes = (uint16_t)(len - f->l4), value;

	value = frame_fold(frame_sum(p + f->l4, l4_bytes, frame_pseudo(f, p, l4_bytes)));
	return value == 0 && f->proto == IPPROTO_UDP ? 0xffff : value;
}

void frame_check(const struct frame *f, const uint8_t *p, uint32_t len)
{
	uint16_t have = frame_get16(p + f->field);
	uint8_t copy[FRAME_MAX];

	if (f->v6) {
		assert_int_equal(frame_get16(p + f->l3 + 4), len - f->l3 - 40);
	} else {
		assert_int_equal(frame_get16(p + f->l3 + 2), len - f->l3);
		assert_int_equal(frame_fold(frame_sum(p + f->l3, (p[f->l3] & 15) * 4u, 0)), 0);
	}
	if (f->proto == IPPROTO_UDP)
		assert_int_equal(frame_get16(p + f->l4 + 4), len - f->l4);
	memcpy(copy, p, len);
	frame_put16(copy + f->field, 0);
	assert_int_equal(have, l4_checksum(f, copy, len));
}

/* ---- building ---- */

static uint32_t build_l2(struct frame *f, const struct frame_spec *s)
{
	uint32_t off = 12;

	memset(f->byte, 0x52, off);
	for (int i = 0; i < 2 && s->tag[i]; i++, off += 4) {
		frame_put16(f->byte + off, s->tag[i]);
		frame_put16(f->byte + off + 2, (uint16_t)(100 + i));
	}
	frame_put16(f->byte + off, s->v6 ? 0x86dd : 0x0800);
	return off + 2;
}

static uint32_t build_ipv4(uint8_t *ip, const struct frame_spec *s)
{
	uint32_t len = 20u + s->options;

	memset(ip, 1, len); /* options: no operation */
	ip[0] = (uint8_t)(0x40 | len / 4);
	ip[1] = 0;
	frame_put16(ip + 4, FRAME_ID);
	frame_put16(ip + 6, 0x4000); /* DF */
	ip[8] = 64;
	ip[9] = s->proto;
	memcpy(ip + 12, "\xc6\x12\x00\x01\xc6\x12\x00\xfe", 8);
	return len;
}

static uint32_t build_ipv6(uint8_t *ip, const struct frame_spec *s)
{
	memset(ip, 0, 40);
	ip[0] = 0x60;
	ip[6] = s->options ? IPPROTO_HOPOPTS : s->proto;
	ip[7] = 64;
	for (int i = 8; i < 40; i++)
		ip[i] = (uint8_t)(0xa0 + i);
	if (s->options) {
		memset(ip + 40, 0, s->options); /* Pad1 */
		ip[40] = s->proto;
		ip[41] = (uint8_t)(s->options / 8 - 1);
	}
	return 40u + s->options;
}

static void build_l4(struct frame *f, const struct frame_spec *s)
{
	uint8_t *p = f->byte + f->l4;
	uint32_t len = s->proto == IPPROTO_TCP   ? 20u + s->tcp_options
		       : s->proto == IPPROTO_UDP ? 8
						 : 12;

	memset(p, 1, len);
	frame_put16(p, 9000);
	frame_put16(p + 2, 9001);
	f->data = (uint16_t)(f->l4 + len);
	f->len = f->data + s->payload;
	if (s->proto == IPPROTO_TCP) {
		frame_put16(p + 4, FRAME_SEQ >> 16);
		frame_put16(p + 6, FRAME_SEQ & 0xffff);
		p[12] = (uint8_t)(len / 4 << 4);
		p[13] = s->tcp_flags;
		f->field = f->l4 + 16;
	} else if (s->proto == IPPROTO_UDP) {
		frame_put16(p + 4, (uint16_t)(f->len - f->l4));
		f->field = f->l4 + 6;
	} else {
		f->field = f->l4 + 8;
	}
	for (uint32_t i = 0; i < s->payload; i++)
		f->byte[f->data + i] = (uint8_t)(i * 7 + (i >> 8));
}

void frame_build(struct frame *f, const struct frame_spec *s)
{
	uint8_t *ip;

	f->v6 = s->v6;
	f->proto = s->proto;
	f->l3 = (uint16_t)build_l2(f, s);
	ip = f->byte + f->l3;
	f->l4 = (uint16_t)(f->l3 + (s->v6 ? build_ipv6(ip, s) : build_ipv4(ip, s)));
	build_l4(f, s);
	if (s->v6) {
		frame_put16(ip + 4, (uint16_t)(f->len - f->l3 - 40));
	} else {
		frame_put16(ip + 2, (uint16_t)(f->len - f->l3));
		frame_put16(ip + 10, 0);
		frame_put16(ip + 10, frame_fold(frame_sum(ip, f->l4 - f->l3, 0)));
	}
	frame_put16(f->byte + f->field, 0);
	if (s->proto != IPPROTO_SCTP)
		frame_put16(f->byte + f->field, l4_checksum(f, f->byte, f->len));
}

void frame_make_zero(struct frame *f)
{
	uint8_t *word = f->byte + f->len - 2;

	frame_put16(word, 0);
	frame_put16(f->byte + f->field, 0);
	frame_put16(word, l4_checksum(f, f->byte, f->len));
	frame_put16(f->byte + f->field, l4_checksum(f, f->byte, f->len));
}

struct virtio_net_hdr frame_strip(struct frame *f)
{
	frame_put16(f->byte + f->field, frame_pseudo(f, f->byte, (uint16_t)(f->len - f->l4)));
	return (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = f->l4,
		.csum_offset = (uint16_t)(f->field - f->l4),
	};
}

/* ---- mbufs ---- */

void guard_init(struct guard *g)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	g->size = RTE_ALIGN_CEIL(FRAME_MAX, page);
	for (int i = 0; i < GUARD_PIECES; i++) {
		g->map[i] = mmap(NULL, g->size + page, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_true(g->map[i] != MAP_FAILED);
		assert_return_code(mprotect(g->map[i] + g->size, page, PROT_NONE), 0);
	}
}

void guard_fini(struct guard *g)
{
	for (int i = 0; i < GUARD_PIECES; i++)
		munmap(g->map[i], g->size + (size_t)sysconf(_SC_PAGESIZE));
}

struct rte_mbuf *guard_packet(
	struct guard *g, const uint8_t *p, uint32_t len, const uint32_t *cut, unsigned n)
{
	uint32_t from = 0;

	for (unsigned i = 0; i <= n; i++) {
		uint32_t to = i < n ? cut[i] : len;
		struct rte_mbuf *m = &g->m[i];

		memset(m, 0, sizeof(*m));
		m->buf_addr = g->map[i] + g->size - (to - from);
		memcpy(m->buf_addr, p + from, to - from);
		m->data_len = (uint16_t)(to - from);
		m->buf_len = m->data_len;
		m->next = i < n ? m + 1 : NULL;
		rte_mbuf_refcnt_set(m, 1);
		from = to;
	}
	g->m[0].nb_segs = (uint16_t)(n + 1);
	g->m[0].pkt_len = len;
	return &g->m[0];
}

uint32_t mbuf_bytes(const struct rte_mbuf *m, uint8_t *to)
{
	uint32_t len = 0;
	uint16_t segs = 0;
	const struct rte_mbuf *head = m;

	for (; m; m = m->next, segs++) {
		memcpy(to + len, rte_pktmbuf_mtod(m, const void *), m->data_len);
		len += m->data_len;
	}
	assert_int_equal(len, head->pkt_len);
	assert_int_equal(segs, head->nb_segs);
	return len;
}

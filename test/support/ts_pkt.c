/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames with a position-dependent pattern, so that any misplaced byte shows. */
#include "ts_pkt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define MAGIC   0x534c5543u
#define ETH_LEN 14u

static const uint8_t eth_addrs[12] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};

static void put16(uint8_t *p, uint16_t v)
{
	v = htons(v);
	memcpy(p, &v, 2);
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htonl(v);
	memcpy(p, &v, 4);
}

static uint16_t get16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, 2);
	return ntohs(v);
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return ntohl(v);
}

static uint8_t pattern(uint32_t at)
{
	return (uint8_t)((at * 2654435761u) >> 24);
}

void ts_pkt_fill(void *buf, uint32_t len, uint32_t seq)
{
	uint8_t *p = buf;

	memcpy(p, eth_addrs, sizeof(eth_addrs));
	put16(p + 12, 0x88b5);
	put32(p + 14, MAGIC);
	put32(p + 18, seq);
	put32(p + 22, len);
	for (uint32_t i = TS_PKT_MIN; i < len; i++)
		p[i] = pattern(seq * 65599 + i);
}

int ts_pkt_check(const void *buf, uint32_t len, uint32_t *seq)
{
	const uint8_t *p = buf;
	uint32_t n;

	if (len < TS_PKT_MIN || get16(p + 12) != 0x88b5 || get32(p + 14) != MAGIC ||
		get32(p + 22) != len)
		return -EBADMSG;
	n = get32(p + 18);
	for (uint32_t i = TS_PKT_MIN; i < len; i++)
		if (p[i] != pattern(n * 65599 + i))
			return -EBADMSG;
	if (seq)
		*seq = n;
	return 0;
}

uint32_t ts_csum_add(uint32_t sum, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t s = sum;

	for (size_t i = 0; i + 1 < len; i += 2)
		s += get16(p + i);
	if (len & 1)
		s += (uint32_t)p[len - 1] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint32_t)s;
}

/* In host order, not complemented. */
static uint16_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

uint16_t ts_csum_end(uint32_t sum)
{
	return htons((uint16_t)(0xffff - fold(sum)));
}

/* Where things are in a frame. */
struct layout {
	uint32_t l3, l4, data, end;
	uint32_t csum_at; /* offset of the checksum field inside L4 */
	bool v6;
	uint8_t proto;
};

static uint32_t l4_len(uint8_t proto)
{
	return proto == IPPROTO_TCP ? 20 : 8;
}

static uint32_t csum_offset(uint8_t proto)
{
	return proto == IPPROTO_TCP ? 16 : 6;
}

static uint32_t pseudo_sum(const uint8_t *p, const struct layout *l)
{
	const uint32_t addrs = l->l3 + (l->v6 ? 8 : 12);
	uint32_t sum = l->proto + (l->end - l->l4);

	return ts_csum_add(sum, p + addrs, l->v6 ? 32 : 8);
}

static void build_l3(uint8_t *p, const struct layout *l)
{
	static const uint8_t v6_addrs[32] = {0xfd, [15] = 1, [16] = 0xfd, [31] = 2};
	uint8_t *ip = p + l->l3;
	uint16_t sum;

	if (l->v6) {
		put32(ip, 0x60000000);
		put16(ip + 4, (uint16_t)(l->end - l->l4));
		ip[6] = l->proto;
		ip[7] = 64;
		memcpy(ip + 8, v6_addrs, sizeof(v6_addrs));
		return;
	}
	put32(ip, 0x45000000 | (l->end - l->l3));
	put32(ip + 4, 0x00004000);
	put32(ip + 8, 0x40000000 | (uint32_t)l->proto << 16);
	put32(ip + 12, 0x0a000001);
	put32(ip + 16, 0x0a000002);
	sum = ts_csum_end(ts_csum_add(0, ip, 20));
	memcpy(ip + 10, &sum, 2);
}

static void build_l4(uint8_t *p, const struct layout *l, const struct ts_ip *ip)
{
	uint8_t *h = p + l->l4;

	put16(h, 1000);
	put16(h + 2, 2000);
	if (l->proto == IPPROTO_TCP) {
		put32(h + 4, ip->seq);
		put32(h + 8, 1);
		put32(h + 12, 0x5010ffff);
	} else {
		put16(h + 4, (uint16_t)(l->end - l->l4));
	}
}

static void store_l4_csum(uint8_t *p, const struct layout *l, bool partial)
{
	uint32_t sum = pseudo_sum(p, l);
	uint16_t stored;

	if (partial)
		stored = htons(fold(sum));
	else
		stored = ts_csum_end(ts_csum_add(sum, p + l->l4, l->end - l->l4));
	if (!stored && !partial && l->proto == IPPROTO_UDP)
		stored = 0xffff;
	memcpy(p + l->l4 + l->csum_at, &stored, 2);
}

uint32_t ts_pkt_ip(void *buf, size_t cap, const struct ts_ip *ip, struct virtio_net_hdr_v1 *hdr)
{
	struct layout l = {.v6 = ip->v6, .proto = ip->proto, .csum_at = csum_offset(ip->proto)};
	uint8_t *p = buf;

	l.l3 = ETH_LEN + (ip->vlan ? 4 : 0);
	l.l4 = l.l3 + (ip->v6 ? 40 : 20);
	l.data = l.l4 + l4_len(ip->proto);
	l.end = l.data + ip->payload;
	if (l.end > cap || l.end - l.l3 > UINT16_MAX)
		return 0;
	memset(p, 0, l.data);
	memcpy(p, eth_addrs, sizeof(eth_addrs));
	if (ip->vlan) {
		put16(p + 12, 0x8100);
		put16(p + 14, ip->vlan);
	}
	put16(p + l.l3 - 2, ip->v6 ? 0x86dd : 0x0800);
	build_l3(p, &l);
	build_l4(p, &l, ip);
	for (uint32_t i = 0; i < ip->payload; i++)
		p[l.data + i] = pattern((ip->proto == IPPROTO_TCP ? ip->seq : 0) + i);
	store_l4_csum(p, &l, ip->partial);
	if (hdr) {
		*hdr = (struct virtio_net_hdr_v1){0};
		if (ip->partial) {
			hdr->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
			hdr->csum_start = (uint16_t)l.l4;
			hdr->csum_offset = (uint16_t)l.csum_at;
			hdr->hdr_len = (uint16_t)l.data;
		}
	}
	return l.end;
}

static const char *parse_l3(const uint8_t *p, uint32_t len, struct layout *l)
{
	uint16_t type;

	l->l3 = len >= ETH_LEN && get16(p + 12) == 0x8100 ? ETH_LEN + 4 : ETH_LEN;
	if (len < l->l3 + 28)
		return "shorter than Ethernet, IPv4 and UDP headers";
	type = get16(p + l->l3 - 2);
	l->v6 = type == 0x86dd;
	if (!l->v6 && type != 0x0800)
		return "not IP";
	l->l4 = l->l3 + (l->v6 ? 40 : 20);
	l->end = l->v6 ? l->l4 + get16(p + l->l3 + 4) : l->l3 + get16(p + l->l3 + 2);
	l->proto = p[l->l3 + (l->v6 ? 6 : 9)];
	l->csum_at = csum_offset(l->proto);
	if (l->proto != IPPROTO_TCP && l->proto != IPPROTO_UDP)
		return "neither TCP nor UDP";
	l->data = l->l4 + l4_len(l->proto);
	/* Ethernet padding behind a short packet is no error. */
	if (l->end > len || l->data > l->end || (l->end < len && len > 60))
		return "IP length does not match the frame";
	if (!l->v6 && ts_csum_add(0, p + l->l3, 20) != 0xffff)
		return "wrong IPv4 header checksum";
	return NULL;
}

static const char *check_l4(const uint8_t *p, const struct layout *l, bool partial)
{
	uint32_t sum = pseudo_sum(p, l);
	uint16_t stored = get16(p + l->l4 + l->csum_at);

	if (l->proto == IPPROTO_UDP && get16(p + l->l4 + 4) != l->end - l->l4)
		return "UDP length does not match IP";
	if (partial)
		return stored == fold(sum) ? NULL : "wrong pseudo header sum";
	if (ts_csum_add(sum, p + l->l4, l->end - l->l4) != 0xffff)
		return "wrong TCP/UDP checksum";
	return NULL;
}

static const char *check_payload(const uint8_t *p, const struct layout *l)
{
	uint32_t seq = l->proto == IPPROTO_TCP ? get32(p + l->l4 + 4) : 0;

	for (uint32_t i = l->data; i < l->end; i++)
		if (p[i] != pattern(seq + i - l->data))
			return "payload is not what was sent";
	return NULL;
}

int ts_pkt_ip_check(const void *buf, uint32_t len, bool partial, const char **why)
{
	struct layout l = {0};
	const char *bad = parse_l3(buf, len, &l);

	if (!bad)
		bad = check_l4(buf, &l, partial);
	if (!bad)
		bad = check_payload(buf, &l);
	if (why)
		*why = bad;
	return bad ? -EBADMSG : (int)(l.end - l.data);
}

int ts_pkt_finish_csum(void *buf, uint32_t len, const struct virtio_net_hdr_v1 *hdr)
{
	const uint32_t start = hdr->csum_start, at = start + hdr->csum_offset;
	uint8_t *p = buf;
	uint16_t sum;

	if (start >= len || at + 2 > len)
		return -EBADMSG;
	sum = ts_csum_end(ts_csum_add(0, p + start, len - start));
	if (!sum)
		sum = 0xffff;
	memcpy(p + at, &sum, 2);
	return 0;
}

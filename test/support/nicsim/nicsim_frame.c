/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames that carry what it takes to verify them; what a NIC sees in a frame. */
#include <netinet/in.h>
#include <string.h>

#include <rte_hash_crc.h>

#include "nicsim_priv.h"
#include "ts_pkt.h"

#define MAGIC   0x4e53494du /* "NSIM" */
#define HEADERS (RTE_ETHER_HDR_LEN + 20 + 8)

struct mark {
	rte_be32_t magic, seq, len, crc;
};

_Static_assert(sizeof(struct mark) == NICSIM_MARK, "as the header says");
_Static_assert(HEADERS + NICSIM_MARK <= NICSIM_FRAME_MIN, "as the header says");

uint32_t nicsim_crc(uint32_t crc, const void *data, uint32_t len)
{
	const uint8_t *p = data, *end = p + len;
	uint64_t word;

	crc = ~crc;
	for (; end - p >= (ptrdiff_t)sizeof(word); p += sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		crc = rte_hash_crc_8byte(word, crc);
	}
	while (p < end)
		crc = rte_hash_crc_1byte(*p++, crc);
	return ~crc;
}

static uint32_t mark_crc(const uint8_t *payload, uint32_t len)
{
	return nicsim_crc(0, payload + NICSIM_MARK, len - NICSIM_MARK);
}

void nicsim_mark(void *payload, uint32_t len, uint32_t seq)
{
	uint8_t *p = payload;
	struct mark mark = {
		.magic = rte_cpu_to_be_32(MAGIC),
		.seq = rte_cpu_to_be_32(seq),
		.len = rte_cpu_to_be_32(len - NICSIM_MARK),
	};

	for (uint32_t i = NICSIM_MARK; i < len; i++)
		p[i] = (uint8_t)(seq + 7 * i + (i >> 8));
	mark.crc = rte_cpu_to_be_32(mark_crc(p, len));
	memcpy(p, &mark, sizeof(mark));
}

void nicsim_frame(void *buf, uint32_t len, uint32_t seq)
{
	const struct ts_ip ip = {.proto = IPPROTO_UDP, .payload = len - HEADERS, .partial = true};
	struct virtio_net_hdr_v1 hdr;

	ts_pkt_ip(buf, len, &ip, &hdr);
	nicsim_mark((uint8_t *)buf + HEADERS, len - HEADERS, seq);
	ts_pkt_finish_csum(buf, len, &hdr);
}

/* ---- looking into frames ---- */

/* Where things are in a frame. proto 0: no TCP or UDP header that can be looked at. */
struct layout {
	uint32_t l3, l4, data, end;
	bool v6;
	uint8_t proto;
};

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static bool parse_l3(const uint8_t *p, uint32_t len, struct layout *l)
{
	uint16_t type;

	l->l3 = len >= 18 && get16(p + 12) == RTE_ETHER_TYPE_VLAN ? 18 : 14;
	if (len < l->l3 + 20)
		return false;
	type = get16(p + l->l3 - 2);
	l->v6 = type == RTE_ETHER_TYPE_IPV6;
	if (l->v6) {
		l->l4 = l->l3 + 40;
		l->end = l->l4 + get16(p + l->l3 + 4);
		l->proto = p[l->l3 + 6];
	} else {
		l->l4 = l->l3 + (p[l->l3] & 15) * 4u;
		l->end = l->l3 + get16(p + l->l3 + 2);
		l->proto = get16(p + l->l3 + 6) & 0x3fff ? 0 : p[l->l3 + 9]; /* no fragment */
	}
	return (l->v6 || type == RTE_ETHER_TYPE_IPV4) && l->l4 >= l->l3 + 20 && l->end <= len &&
	       l->l4 <= l->end;
}

static bool parse(const uint8_t *p, uint32_t len, struct layout *l)
{
	if (!parse_l3(p, len, l))
		return false;
	if (l->proto == IPPROTO_UDP && l->l4 + 8 <= l->end)
		l->data = l->l4 + 8;
	else if (l->proto == IPPROTO_TCP && l->l4 + 20 <= l->end)
		l->data = l->l4 + (p[l->l4 + 12] >> 4) * 4u;
	else
		l->proto = 0;
	if (l->data > l->end)
		l->proto = 0;
	return true;
}

static bool l4_right(const uint8_t *p, const struct layout *l)
{
	uint32_t addresses = l->l3 + (l->v6 ? 8 : 12);
	uint32_t sum = ts_csum_add(l->proto + l->end - l->l4, p + addresses, l->v6 ? 32 : 8);

	if (l->proto == IPPROTO_UDP && !l->v6 && !get16(p + l->l4 + 6))
		return true; /* it has none */
	return ts_csum_end(ts_csum_add(sum, p + l->l4, l->end - l->l4)) == 0;
}

uint64_t nicsim_checksums(const void *frame, uint32_t len)
{
	const uint8_t *p = frame;
	struct layout l = {0};
	uint64_t flags = 0;

	if (!parse(p, len, &l))
		return 0;
	if (!l.v6)
		flags |= ts_csum_end(ts_csum_add(0, p + l.l3, l.l4 - l.l3)) == 0
				 ? RTE_MBUF_F_RX_IP_CKSUM_GOOD
				 : RTE_MBUF_F_RX_IP_CKSUM_BAD;
	if (l.proto)
		flags |= l4_right(p, &l) ? RTE_MBUF_F_RX_L4_CKSUM_GOOD : RTE_MBUF_F_RX_L4_CKSUM_BAD;
	return flags;
}

enum nicsim_verdict nicsim_verify(const void *buf, uint32_t len, uint32_t *seq)
{
	static const uint8_t magic[] = {'S', 'L', 'U', 'C'}; /* ts_pkt_fill()'s */
	const uint8_t *p = buf;
	struct layout l = {0};
	struct mark mark;

	if (len >= TS_PKT_MIN && get16(p + 12) == 0x88b5 && memcmp(p + 14, magic, 4) == 0)
		return ts_pkt_check(p, len, seq) == 0 ? NICSIM_GOOD : NICSIM_BAD;
	if (!parse(p, len, &l) || !l.proto || l.end - l.data < sizeof(mark))
		return NICSIM_UNMARKED;
	memcpy(&mark, p + l.data, sizeof(mark));
	if (mark.magic != rte_cpu_to_be_32(MAGIC))
		return NICSIM_UNMARKED;
	if (seq)
		*seq = rte_be_to_cpu_32(mark.seq);
	if (rte_be_to_cpu_32(mark.len) != l.end - l.data - sizeof(mark) ||
		rte_be_to_cpu_32(mark.crc) != mark_crc(p + l.data, l.end - l.data))
		return NICSIM_BAD;
	return NICSIM_GOOD;
}

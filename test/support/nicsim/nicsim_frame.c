/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames that carry what it takes to verify them. */
#include <netinet/in.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_ether.h>

#include "nicsim_priv.h"
#include "ts_pkt.h"

#define MAGIC   0x4e53494du /* "NSIM" */
#define HEADERS (RTE_ETHER_HDR_LEN + 20 + 8)

struct mark {
	rte_be32_t magic, seq, len, crc;
};

_Static_assert(sizeof(struct mark) == NICSIM_MARK, "as the header says");

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

/* ---- verifying ---- */

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* Where the payload of TCP or UDP begins, and its end in *end; 0: there is none. */
static uint32_t payload_at(const uint8_t *p, uint32_t len, uint32_t *end)
{
	uint32_t l3 = len >= 18 && get16(p + 12) == RTE_ETHER_TYPE_VLAN ? 18 : 14, l4, ip_len;
	uint8_t proto;

	if (len < l3 + 40)
		return 0;
	if (get16(p + l3 - 2) == RTE_ETHER_TYPE_IPV4) {
		l4 = l3 + (p[l3] & 15) * 4u;
		ip_len = get16(p + l3 + 2);
		proto = p[l3 + 9];
	} else if (get16(p + l3 - 2) == RTE_ETHER_TYPE_IPV6) {
		l4 = l3 + 40;
		ip_len = 40u + get16(p + l3 + 4);
		proto = p[l3 + 6];
	} else {
		return 0;
	}
	*end = RTE_MIN(len, l3 + ip_len);
	if (proto == IPPROTO_UDP)
		return l4 + 8;
	if (proto == IPPROTO_TCP && l4 + 13 < len)
		return l4 + (p[l4 + 12] >> 4) * 4u;
	return 0;
}

enum nicsim_verdict nicsim_verify(const void *buf, uint32_t len, uint32_t *seq)
{
	static const uint8_t magic[] = {'S', 'L', 'U', 'C'}; /* ts_pkt_fill()'s */
	const uint8_t *p = buf;
	uint32_t end = 0, at = payload_at(p, len, &end);
	struct mark mark;

	if (len >= TS_PKT_MIN && get16(p + 12) == 0x88b5 && memcmp(p + 14, magic, 4) == 0)
		return ts_pkt_check(p, len, seq) == 0 ? NICSIM_GOOD : NICSIM_BAD;
	if (!at || end < at || end - at < sizeof(mark))
		return NICSIM_UNMARKED;
	memcpy(&mark, p + at, sizeof(mark));
	if (mark.magic != rte_cpu_to_be_32(MAGIC))
		return NICSIM_UNMARKED;
	if (seq)
		*seq = rte_be_to_cpu_32(mark.seq);
	if (rte_be_to_cpu_32(mark.len) != end - at - sizeof(mark) ||
		rte_be_to_cpu_32(mark.crc) != mark_crc(p + at, end - at))
		return NICSIM_BAD;
	return NICSIM_GOOD;
}

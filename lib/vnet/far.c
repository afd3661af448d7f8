/* SPDX-License-Identifier: BSD-3-Clause */
/* Copying past the cache, and finding out where that pays: not on the path of most packets. */
#include "far.h"

#include <string.h>

#define FAR_SCALE 16 /* of cycles a line, so that few of them can be compared */

#ifdef FAR_CAN
static inline void copy_line(uint8_t *to, const uint8_t *from)
{
	__m128i part[4];

	memcpy(part, from, sizeof(part));
	for (unsigned i = 0; i < 4; i++)
		_mm_stream_si128((__m128i *)(void *)to + i, part[i]);
}

void far_copy(uint8_t *to, const uint8_t *from, uint32_t len, const uint8_t *next)
{
	uint32_t part = RTE_CACHE_LINE_SIZE - ((uintptr_t)to & (RTE_CACHE_LINE_SIZE - 1));

	part = RTE_MIN(part, len);
	memmove(to, from, part);
	for (; len - part >= RTE_CACHE_LINE_SIZE; part += RTE_CACHE_LINE_SIZE) {
		const uint32_t at = part + FAR_AHEAD;

		rte_prefetch0(at < len ? from + at : next + (at - len));
		copy_line(to + part, from + part);
	}
	memmove(to + part, from + part, len - part);
}
#else
void far_copy(uint8_t *to, const uint8_t *from, uint32_t len, const uint8_t *next)
{
	(void)next;
	memmove(to, from, len);
}
#endif

uint64_t far_bytes(struct rte_mbuf *const *pkts, uint16_t n)
{
	uint64_t bytes = 0;

	for (uint16_t i = 0; i < n; i++) {
		if (pkts[i]->pkt_len < FAR_LEAST)
			return 0;
		bytes += pkts[i]->pkt_len;
	}
	return bytes;
}

void far_judge(struct virtq *vq, uint64_t cycles, uint64_t bytes)
{
	struct virtq_far *far = &vq->far;
	uint64_t line, slow = FAR_NS * rte_get_tsc_hz() / 1000000000;
	bool pays;

	if (bytes < FAR_JUDGE) {
		far->left = FAR_AGAIN;
		return;
	}
	line = cycles * RTE_CACHE_LINE_SIZE * FAR_SCALE / bytes;
	far->trying = !far->trying;
	if (far->trying) {
		far->took = (uint32_t)RTE_MIN(line, UINT32_MAX);
		far->left = 0;
		return;
	}
	far->left = FAR_EVERY;
	pays = far->took > slow * FAR_SCALE && line < far->took / 8 * 7;
	if (pays == far->on) {
		far->doubts = 0;
	} else if (++far->doubts == 2) {
		far->doubts = 0;
		virtq_store(&far->on, !far->on);
	}
}

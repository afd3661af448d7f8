/* SPDX-License-Identifier: BSD-3-Clause */
/* Buffers that are far from this CPU: large frames are written past the cache. */
#ifndef VNET_FAR_H
#define VNET_FAR_H

#include <rte_cycles.h>

#include "burst.h"

/*
 * Theory of operation
 *
 * A frame is written to lines that the guest has had last. Mostly they come from its CPU's cache, in few nanoseconds
 * each, with a dozen on their way. Large frames may run through more memory than caches hold, and virtual CPUs move
 * away: then each line is fetched from afar, only to be overwritten, and the guest fetches it from as far again. There,
 * stores that go past the caches (non-temporal) fetch nothing, and the guest reads from memory what it would have to
 * read from there anyway. What is copied is asked for FAR_AHEAD bytes before: nothing else in such a loop does. With
 * lines nearby they would only make the guest wait.
 *
 * Which it is shows: once in FAR_EVERY bursts two in turn are timed, the first written the ordinary way, the other past
 * the cache. That pays if an ordinary line takes long and one past the cache clearly less; two comparisons in turn that
 * say the same decide. How long a line takes is not enough: from a lent buffer it is fetched as well, from where the
 * sender had it. Only of frames of FAR_LEAST bytes: with shorter ones going past the cache has not paid, near or far.
 *
 * The first line of a frame, where headers are, and a last one that is not full are stored as ever. Stores past the
 * cache are not ordered with others: far_end() is between them and whatever tells the guest.
 */

#define FAR_NS    4    /* a line */
#define FAR_EVERY 256  /* bursts */
#define FAR_LEAST 4096 /* bytes of a frame */
#define FAR_AHEAD 1024 /* bytes: what is copied is asked for so long before */
#define FAR_JUDGE 8192 /* bytes of a burst that says something */
#define FAR_AGAIN 8    /* bursts, after one that did not */

/* One burst's. */
struct far_burst {
	bool past;      /* write past the cache */
	uint64_t start; /* TSC: this burst is measured; 0: it is not */
};

#if defined(__SSE2__) && !defined(VIRTQ_TSAN)
#define FAR_CAN
#include <emmintrin.h>

/* @param first bytes of the burst's first frame */
virtq_inline struct far_burst far_begin(struct virtq *vq, uint32_t first)
{
	struct far_burst b = {vq->far.on, 0};

	if (first >= FAR_LEAST && vq->far.left-- == 0) {
		b.past = vq->far.trying;
		b.start = rte_rdtsc();
	}
	return b;
}

/* All that was written is on its way to the guest. */
virtq_inline void far_end(struct far_burst b)
{
	if (b.past)
		_mm_sfence();
}
#else
virtq_inline struct far_burst far_begin(struct virtq *vq, uint32_t first)
{
	(void)vq, (void)first;
	return (struct far_burst){false, 0};
}

virtq_inline void far_end(struct far_burst b)
{
	(void)b;
}

#endif

/* Bytes of a burst's frames; 0: some are too short. Out of line. */
uint64_t far_bytes(struct rte_mbuf *const *pkts, uint16_t n);

/* Copy, past the cache what is whole lines. Out of line: what is near must stay small.
 * @param next what is copied after it, or anything: it is only asked for */
void far_copy(uint8_t *to, const uint8_t *from, uint32_t len, const uint8_t *next);

/* A burst of so many bytes took so long. Out of line. */
void far_judge(struct virtq *vq, uint64_t cycles, uint64_t bytes);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Whether it pays to write past the cache: what is measured, and what is made of it. */
#include "far.h"
#include "pair.h"

/* Two bursts whose lines take so many nanoseconds each, the ordinary way and past the cache. */
static void judge(struct virtq *vq, unsigned ordinary, unsigned past, uint64_t lines)
{
	const uint64_t ghz = rte_get_tsc_hz() / 1000000000 + 1;

	assert_false(vq->far.trying);
	far_judge(vq, lines * ordinary * ghz, lines * RTE_CACHE_LINE_SIZE);
	if (!vq->far.trying)
		return;
	assert_int_equal(vq->far.left, 0);
	far_judge(vq, lines * past * ghz, lines * RTE_CACHE_LINE_SIZE);
}

/* Two comparisons in turn must say so, each way, of bursts that are long enough to say anything. */
static void far_is_found_out(void **state)
{
	const unsigned near = FAR_NS / 2, far = 4 * FAR_NS;
	struct virtq *vq = virtq_new();

	(void)state;
	assert_non_null(vq);
	judge(vq, far, near, 1000);
	assert_int_equal(vq->far.left, FAR_EVERY);
	assert_false(vq->far.on);
	judge(vq, near, near, 1000);
	judge(vq, far, near, 1000);
	assert_false(vq->far.on);
	judge(vq, far, near, FAR_JUDGE / RTE_CACHE_LINE_SIZE - 1);
	assert_int_equal(vq->far.left, FAR_AGAIN);
	assert_false(vq->far.on);
	judge(vq, far, near, FAR_JUDGE / RTE_CACHE_LINE_SIZE);
	assert_true(vq->far.on);
	judge(vq, near, near, 1000);
	assert_true(vq->far.on);
	judge(vq, near, near, 1000);
	assert_false(vq->far.on);
	virtq_free(vq);
}

/* A line from a lent buffer takes long as well, but past the cache no less. */
static void slow_is_not_far(void **state)
{
	struct virtq *vq = virtq_new();

	(void)state;
	assert_non_null(vq);
	for (unsigned i = 0; i < 3; i++) {
		judge(vq, 4 * FAR_NS, 4 * FAR_NS, 1000);
		assert_false(vq->far.on);
	}
	/* nor does it pay where lines are near, however fast they would be */
	for (unsigned i = 0; i < 3; i++) {
		judge(vq, FAR_NS / 2, 1, 1000);
		assert_false(vq->far.on);
	}
	virtq_free(vq);
}

/* What is copied past the cache is what would be copied otherwise, wherever it begins and ends. */
static void past_the_cache(void **state)
{
	static uint8_t from[3000], to[3000], want[3000];

	(void)state;
	for (unsigned i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i * 31 + i / 256);
	for (unsigned shift = 0; shift < 2 * RTE_CACHE_LINE_SIZE; shift += 7)
		for (unsigned len = 0; len < sizeof(to) - shift; len += len < 200 ? 1 : 61) {
			const unsigned at = shift / 2;

			memset(to, 0xee, sizeof(to));
			memset(want, 0xee, sizeof(want));
			memcpy(want + shift, from + at, len);
			far_copy(to + shift, from + at, len, len % 2 ? from : to);
			far_end((struct far_burst){.past = true});
			assert_memory_equal(to, want, sizeof(to));
		}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		PAIR_SPLIT(far_is_found_out),
		PAIR_SPLIT(slow_is_not_far),
		cmocka_unit_test(past_the_cache),
	};

	return pair_run(tests, RTE_DIM(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* A ring's counters by name: each is shown, once, on the side where it counts. */
#include <string.h>

#include "ts_tap.h"
#include "ts_util.h"
#include "virtq_stats.h"

#define COUNTERS (sizeof(struct virtq_stats) / sizeof(uint64_t))

union counters {
	struct virtq_stats st;
	uint64_t n[COUNTERS];
};

/* How many names show the counter; the last of them. */
static unsigned shown(unsigned counter, bool to_guest, const char **name)
{
	union counters c = {0};
	const char *at;
	unsigned times = 0;
	uint64_t value;

	c.n[counter] = UINT64_C(1) << 40;
	for (unsigned i = 0; (at = virtq_stats_next(&c.st, to_guest, &i, &value)) != NULL;) {
		assert_true(value == 0 || value == c.n[counter]);
		if (value) {
			*name = at;
			times++;
		}
	}
	return times;
}

static unsigned index_of(const void *field, const struct virtq_stats *st)
{
	return (unsigned)((const uint64_t *)field - (const uint64_t *)st);
}

static void each_counter_is_shown_once(void **state)
{
	struct virtq_stats st;
	const char *name;

	for (unsigned i = 0; i < COUNTERS; i++) {
		bool drop = i >= index_of(st.drops, &st);
		bool rx_only = i >= index_of(&st.no_mbuf, &st) && !drop;
		unsigned rx = shown(i, false, &name), tx = shown(i, true, &name);

		assert_int_equal(rx + tx, drop || rx_only ? 1 : 2);
		assert_in_range(rx, rx_only || !drop, 1);
	}
}

/* A reason is named after its side. */
static void drops_are_on_their_side(void **state)
{
	for (unsigned d = 0; d < VIRTQ_DROP_COUNT; d++) {
		struct virtq_stats st = {0};
		const char *reason = virtq_drop_name(d), *name = NULL;
		bool to_guest = strncmp(reason, "tx_", 3) == 0;

		st.drops[d] = 3;
		assert_true(to_guest || strncmp(reason, "rx_", 3) == 0);
		assert_int_equal(shown(index_of(&st.drops[d], &st), to_guest, &name), 1);
		assert_int_equal(strncmp(name, "drop_", 5), 0);
		assert_string_equal(name + 5, reason);
		assert_int_equal(virtq_stats_drops(&st, to_guest), 3);
		assert_int_equal(virtq_stats_drops(&st, !to_guest), 0);
	}
}

static void a_bin_has_the_frames_its_name_says(void **state)
{
	static const struct {
		uint32_t len;
		const char *name;
	} frames[] = {
		{63, "undersize_packets"},
		{64, "size_64_packets"},
		{65, "size_65_127_packets"},
		{127, "size_65_127_packets"},
		{128, "size_128_255_packets"},
		{255, "size_128_255_packets"},
		{256, "size_256_511_packets"},
		{511, "size_256_511_packets"},
		{512, "size_512_1023_packets"},
		{1023, "size_512_1023_packets"},
		{1024, "size_1024_1518_packets"},
		{1518, "size_1024_1518_packets"},
		{1519, "size_1519_max_packets"},
		{65535, "size_1519_max_packets"},
	};
	static const uint8_t unicast[6] = {2};

	for (unsigned f = 0; f < TS_ARRAY_SIZE(frames); f++) {
		struct virtq_stats st = {0};
		uint64_t value = 0, sum = 0;
		const char *name;

		virtq_count_frame(&st, unicast, frames[f].len);
		for (unsigned i = 0; (name = virtq_stats_next(&st, false, &i, &value)) != NULL;) {
			assert_int_equal(value, strcmp(name, frames[f].name) == 0);
			sum += value;
		}
		assert_int_equal(sum, 1);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_counter_is_shown_once),
		cmocka_unit_test(drops_are_on_their_side),
		cmocka_unit_test(a_bin_has_the_frames_its_name_says),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of the test library: what the strict drivers catch a device at. */
#include <errno.h>

#include "selftest_ring.h"
#include "ts_raw.h"

static void expect_fault(struct one *o, const char *words)
{
	assert_int_equal(o->r->faults.count, 1);
	if (!strstr(o->r->faults.first, words))
		fail_msg("\"%s\" does not say \"%s\"", o->r->faults.first, words);
	one_free(o);
}

/* Three chains that the device has taken, and their ids. */
static void three_out(struct one *o, uint64_t features, uint16_t ids[3])
{
	struct dev_chain c;

	one_ring(o, features, 65534);
	add_in(o, 3);
	ts_ring_publish(o->r);
	for (int i = 0; i < 3; i++) {
		assert_true(dev_pop(&o->d, &c));
		ids[i] = c.head;
	}
}

/* An id no chain has that is out. */
static uint16_t other_id(const uint16_t ids[3])
{
	for (uint16_t id = 0;; id++)
		if (id != ids[0] && id != ids[1] && id != ids[2])
			return id;
}

static void test_bad_id(void **state)
{
	for (unsigned i = 0; i < 4; i++) {
		uint16_t ids[3];
		struct one o;

		three_out(&o, *(uint64_t *)*state, ids);
		const uint32_t bad[] = {other_id(ids), 8, 0x4000, UINT16_MAX};

		dev_push(&o.d, bad[i], 0);
		dev_push(&o.d, ids[0], 0);
		dev_flush(&o.d);
		/* Only a split ring says where the next one is. */
		assert_ptr_equal(ts_ring_get_used(o.r, NULL), o.r->pdesc ? NULL : &tokens[0]);
		assert_int_equal(o.r->broken, o.r->pdesc != NULL);
		assert_false(ts_ring_more_used(o.r));
		expect_fault(
			&o, o.r->pdesc ? "not one the device has" : "not a head the device has");
	}
}

static void test_bad_id_split(void **state)
{
	static const uint32_t bad[] = {0x10000, UINT32_MAX};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(bad); i++) {
		uint16_t ids[3];
		struct one o;

		three_out(&o, *(uint64_t *)*state, ids);
		dev_push(&o.d, bad[i], 0);
		dev_flush(&o.d);
		assert_null(ts_ring_get_used(o.r, NULL));
		expect_fault(&o, "not a head the device has");
	}
}

static void test_twice(void **state)
{
	uint16_t ids[3];
	struct one o;

	three_out(&o, *(uint64_t *)*state, ids);
	dev_push(&o.d, ids[1], 0);
	dev_push(&o.d, ids[1], 0);
	dev_flush(&o.d);
	assert_ptr_equal(ts_ring_get_used(o.r, NULL), &tokens[1]);
	assert_null(ts_ring_get_used(o.r, NULL));
	expect_fault(&o, "the device has");
}

static void test_unpublished(void **state)
{
	uint16_t ids[3];
	struct one o;

	three_out(&o, *(uint64_t *)*state, ids);
	add_in(&o, 1);
	dev_push(&o.d, other_id(ids), 0);
	dev_flush(&o.d);
	assert_null(ts_ring_get_used(o.r, NULL));
	expect_fault(&o, "the device has");
}

static void check_too_long(
	uint64_t format, bool writable, uint32_t claimed, uint32_t allowed, const char *words)
{
	struct dev_chain c;
	struct one o;
	uint32_t len;

	one_ring(&o, format, 0);
	assert_int_equal(
		ts_ring_add(o.r, &seg_out, !writable, &seg_in, writable, tokens, TS_DIRECT), 0);
	ts_ring_publish(o.r);
	assert_true(dev_pop(&o.d, &c));
	dev_push(&o.d, c.head, claimed);
	dev_flush(&o.d);
	assert_ptr_equal(ts_ring_get_used(o.r, &len), tokens);
	assert_int_equal(len, allowed);
	expect_fault(&o, words);
}

static void test_too_long(void **state)
{
	const uint64_t format = *(uint64_t *)*state;

	check_too_long(format, true, 101, 100, "more than the 100 writable");
	check_too_long(format, true, UINT32_MAX, 100, "more than the 100 writable");
	check_too_long(format, false, 10, 0, "more than the 0 writable");
}

static void test_tamper(void **state)
{
	for (unsigned what = 0; what < 4; what++) {
		const struct ts_seg segs[3] = {seg_in, seg_in, seg_in};
		struct dev_chain c;
		struct one o;

		one_ring(&o, *(uint64_t *)*state, 6);
		assert_int_equal(ts_ring_add(o.r, NULL, 0, segs, 3, tokens, TS_DIRECT), 0);
		ts_ring_publish(o.r);
		assert_true(dev_pop(&o.d, &c));
		/* Both rings used it from their beginning or their position on: entry 1 or 0. */
		if (o.r->desc)
			((uint8_t *)&o.r->desc[1])[5 * what]++;
		else
			((uint8_t *)&o.r->pdesc[0])[5 * what]++;
		dev_push(&o.d, c.head, 0);
		dev_flush(&o.d);
		assert_ptr_equal(ts_ring_get_used(o.r, NULL), tokens);
		expect_fault(&o, "was changed while the device had it");
	}
}

/* The second before the first. In a packed ring that is a batch of two, until the first comes. */
static void test_order(void **state)
{
	uint16_t ids[3];
	struct one o;

	three_out(&o, *(uint64_t *)*state | IN_ORDER, ids);
	dev_push(&o.d, ids[1], 0);
	if (o.r->pdesc)
		dev_push(&o.d, ids[0], 0);
	dev_flush(&o.d);
	assert_ptr_equal(ts_ring_get_used(o.r, NULL), o.r->pdesc ? &tokens[0] : NULL);
	expect_fault(&o, o.r->pdesc ? "was changed while the device had it" : "breaks the order");
}

/* One entry for three chains: the skipped ones count as filled. */
static void test_batch(void **state)
{
	uint16_t ids[3];
	struct one o;
	uint32_t len;

	three_out(&o, *(uint64_t *)*state | IN_ORDER | EVENT, ids);
	dev_push(&o.d, ids[2], 7);
	dev_skip(&o.d, ids[0]);
	dev_skip(&o.d, ids[1]);
	dev_flush(&o.d);
	for (int i = 0; i < 3; i++) {
		assert_true(ts_ring_more_used(o.r));
		assert_ptr_equal(ts_ring_get_used(o.r, &len), &tokens[i]);
		assert_int_equal(len, i < 2 ? 100 : 7);
		assert_int_equal(ts_ring_used_pos(o.r) & 0xffff, dev_off_wrap(o.d.used));
	}
	assert_null(ts_ring_get_used(o.r, NULL));
	assert_int_equal(o.r->faults.count, 0);
	one_free(&o);
}

/* Batches of chains of several descriptors, round and round. */
static void test_batches(void **state)
{
	const struct ts_seg segs[3] = {seg_in, seg_in, seg_in};
	struct one o;

	one_ring(&o, *(uint64_t *)*state | IN_ORDER, 0);
	for (unsigned round = 0; round < 100; round++) {
		const unsigned n = 1 + round % 3;
		struct dev_chain c[3];
		uint32_t len;

		for (unsigned i = 0; i < n; i++)
			assert_int_equal(ts_ring_add(o.r, NULL, 0, segs, (round + i) % 2 + 1,
						 &tokens[i], TS_DIRECT),
				0);
		ts_ring_publish(o.r);
		for (unsigned i = 0; i < n; i++)
			assert_true(dev_pop(&o.d, &c[i]));
		dev_push(&o.d, c[n - 1].head, 1);
		for (unsigned i = 0; i + 1 < n; i++)
			dev_skip(&o.d, c[i].head);
		dev_flush(&o.d);
		for (unsigned i = 0; i < n; i++) {
			assert_ptr_equal(ts_ring_get_used(o.r, &len), &tokens[i]);
			assert_int_equal(len, i + 1 < n ? 100 * c[i].n_in : 1);
		}
	}
	assert_int_equal(o.r->n_free, 8);
	assert_int_equal(o.r->faults.count, 0);
	one_free(&o);
}

/* ---- split ---- */

static void test_jump(void **state)
{
	static const uint16_t to[] = {65534 - 1, (uint16_t)(65534 + 4), 20000};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(to); i++) {
		uint16_t ids[3];
		struct one o;

		three_out(&o, *(uint64_t *)*state, ids);
		o.r->used->idx = to[i];
		assert_true(ts_ring_more_used(o.r));
		assert_null(ts_ring_get_used(o.r, NULL));
		assert_false(ts_ring_more_used(o.r));
		assert_true(o.r->broken);
		ts_ring_reset(o.r, 5);
		assert_false(o.r->broken);
		expect_fault(&o, "used index moved");
	}
}

static void test_forced_table_split(void **state)
{
	const struct ts_seg segs[3] = {seg_in, seg_in, seg_in};
	struct dev_chain c;
	struct one o;
	uint64_t at;

	one_ring(&o, *(uint64_t *)*state | INDIRECT, 0);
	at = ts_alloc(o.g, 0, 64, 16);
	o.r->force_table = at;
	assert_int_equal(ts_ring_add(o.r, &seg_out, 1, segs, 3, tokens, TS_INDIRECT), 0);
	assert_int_equal(ts_ring_add(o.r, &seg_out, 1, segs, 3, tokens, TS_INDIRECT), 0);
	ts_ring_publish(o.r);
	assert_int_equal(o.r->desc[0].addr, at);
	assert_int_not_equal(o.r->desc[1].addr, at);
	assert_true(dev_pop(&o.d, &c));
	assert_int_equal(c.n_out, 1);
	assert_int_equal(c.n_in, 3);
	assert_int_equal(ts_ring_add(o.r, &seg_out, 1, segs, 3, tokens, TS_MIXED), 0);
	assert_int_equal(o.r->n_free, 8 - 2 - 3);
	assert_int_equal(o.r->desc[4].flags, VRING_DESC_F_INDIRECT);
	assert_int_equal(o.r->desc[4].len, 2 * 16);
	one_free(&o);
}

/* ---- packed ---- */

static void test_forced_table_packed(void **state)
{
	const struct ts_seg segs[3] = {seg_in, seg_in, seg_in};
	struct vring_packed_desc table[4];
	struct dev_chain c;
	struct one o;
	uint64_t at;

	one_ring(&o, *(uint64_t *)*state | INDIRECT, 0);
	at = ts_alloc(o.g, 0, 64, 16);
	o.r->force_table = at;
	assert_int_equal(ts_ring_add(o.r, &seg_out, 1, segs, 3, tokens, TS_MIXED), -ENOTSUP);
	assert_int_equal(ts_ring_add(o.r, &seg_out, 1, segs, 3, tokens, TS_INDIRECT), 0);
	assert_int_equal(ts_ring_add(o.r, &seg_out, 1, segs, 3, tokens, TS_INDIRECT), 0);
	ts_ring_publish(o.r);
	assert_int_equal(o.r->pdesc[0].addr, at);
	assert_int_equal(o.r->pdesc[0].len, 4 * 16);
	assert_int_not_equal(o.r->pdesc[1].addr, at);
	assert_int_equal(ts_guest_read(o.g, at, table, sizeof(table)), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(table[i].flags, i ? VRING_DESC_F_WRITE : 0);
	assert_true(dev_pop(&o.d, &c));
	assert_int_equal(c.n_out, 1);
	assert_int_equal(c.n_in, 3);
	assert_int_equal(o.r->n_free, 8 - 2);
	one_free(&o);
}

/* What the driver writes: bits by wrap counter, and the id in the last descriptor only. */
static void test_packed_layout(void **state)
{
	const struct ts_seg segs[2] = {seg_in, seg_in};
	struct one o;
	uint16_t id;

	one_ring(&o, *(uint64_t *)*state, 6);
	assert_int_equal(ts_ring_add(o.r, &seg_out, 1, segs, 2, tokens, TS_DIRECT), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(o.r->pdesc[i].flags, i < 6 ? TS_PACKED_BITS : 0);
	ts_ring_publish(o.r);
	assert_int_equal(o.r->pdesc[6].flags, 1u << 7 | VRING_DESC_F_NEXT);
	assert_int_equal(o.r->pdesc[7].flags, 1u << 7 | VRING_DESC_F_NEXT | VRING_DESC_F_WRITE);
	assert_int_equal(o.r->pdesc[0].flags, 1u << 15 | VRING_DESC_F_WRITE);
	id = o.r->pdesc[0].id;
	assert_true(id < 8);
	assert_int_not_equal(o.r->pdesc[6].id, id);
	assert_int_not_equal(o.r->pdesc[7].id, id);
	one_free(&o);
}

static void test_wrong_bits(void **state)
{
	/* As published, then: the other round's available and used, used with another flag. */
	static const struct {
		uint16_t flags;
		const char *words;
	} cases[] = {
		{1u << 15 | VRING_DESC_F_WRITE, "neither available nor used"},
		{VRING_DESC_F_WRITE, "neither available nor used"},
		{1u << 7, "neither available nor used"}, /* WRITE is gone */
		{TS_PACKED_BITS | VRING_DESC_F_NEXT, "has flags 0x8081"},
		{TS_PACKED_BITS | VRING_DESC_F_INDIRECT, "has flags 0x8084"},
		{TS_PACKED_BITS | 1u << 3, "has flags 0x8088"},
	};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		struct one o;

		one_ring(&o, *(uint64_t *)*state, 6);
		add_in(&o, 3);
		ts_ring_publish(o.r);
		o.r->pdesc[6].len = 0;
		o.r->pdesc[6].flags = cases[i].flags;
		assert_true(ts_ring_more_used(o.r));
		assert_ptr_equal(ts_ring_get_used(o.r, NULL), i < 3 ? NULL : &tokens[0]);
		assert_int_equal(o.r->broken, i < 3);
		expect_fault(&o, cases[i].words);
	}
}

/* The length counts only with WRITE, and WRITE only if something was writable. */
static void test_write_flag(void **state)
{
	struct dev_chain c;
	uint32_t len = 1;
	uint16_t ids[3];
	struct one o;

	three_out(&o, *(uint64_t *)*state, ids);
	dev_push(&o.d, ids[0], 50);
	o.d.pushed[0].d.flags &= (uint16_t)~VRING_DESC_F_WRITE;
	dev_flush(&o.d);
	assert_ptr_equal(ts_ring_get_used(o.r, &len), &tokens[0]);
	assert_int_equal(len, 0);
	expect_fault(&o, "does not count without WRITE");

	one_ring(&o, *(uint64_t *)*state, 0);
	assert_int_equal(ts_ring_add(o.r, &seg_out, 1, NULL, 0, tokens, TS_DIRECT), 0);
	ts_ring_publish(o.r);
	assert_true(dev_pop(&o.d, &c));
	dev_push(&o.d, c.head, 0);
	o.d.pushed[0].d.flags |= VRING_DESC_F_WRITE;
	dev_flush(&o.d);
	assert_ptr_equal(ts_ring_get_used(o.r, NULL), tokens);
	expect_fault(&o, "nothing was writable");
}

/* Used without having been given anything: a descriptor never published, or one a second time. */
static void test_more_than_given(void **state)
{
	uint16_t ids[3];
	struct one o;

	three_out(&o, *(uint64_t *)*state, ids);
	for (int i = 0; i < 3; i++)
		dev_push(&o.d, ids[i], 0);
	dev_push(&o.d, ids[2], 0);
	dev_flush(&o.d);
	for (int i = 0; i < 3; i++)
		assert_ptr_equal(ts_ring_get_used(o.r, NULL), &tokens[i]);
	assert_true(ts_ring_more_used(o.r));
	assert_null(ts_ring_get_used(o.r, NULL));
	assert_true(o.r->broken);
	expect_fault(&o, "the device has none");
}

/* Chains of three, the device goes on too early or too late after the first. */
static void test_wrong_skip(void **state)
{
	for (unsigned skip = 1; skip < 6; skip++) {
		const struct ts_seg segs[3] = {seg_in, seg_in, seg_in};
		struct dev_chain c[2];
		struct one o;

		one_ring(&o, *(uint64_t *)*state, 6);
		for (int i = 0; i < 2; i++)
			assert_int_equal(
				ts_ring_add(o.r, NULL, 0, segs, 3, &tokens[i], TS_DIRECT), 0);
		ts_ring_publish(o.r);
		for (int i = 0; i < 2; i++)
			assert_true(dev_pop(&o.d, &c[i]));
		o.d.n_desc[c[0].head] = (uint16_t)skip;
		for (int i = 0; i < 2; i++)
			dev_push(&o.d, c[i].head, 1);
		dev_flush(&o.d);
		assert_ptr_equal(ts_ring_get_used(o.r, NULL), &tokens[0]);
		if (skip == 3) {
			assert_ptr_equal(ts_ring_get_used(o.r, NULL), &tokens[1]);
			assert_int_equal(o.r->faults.count, 0);
			one_free(&o);
			continue;
		}
		/* Too far ahead only the stopped ring shows it. */
		assert_null(ts_ring_get_used(o.r, NULL));
		assert_int_equal(o.r->faults.count, skip < 3);
		assert_int_equal(ts_ring_used_pos(o.r), ts_base_at(o.r->features, 8, 9));
		while (ts_ring_detach(o.r))
			;
		expect_fault(&o, "was changed while the device had it");
	}
}

/* What was used but not got yet is no fault of a stopped ring's. */
static void test_detach_used(void **state)
{
	uint16_t ids[3];
	struct one o;

	three_out(&o, *(uint64_t *)*state, ids);
	dev_push(&o.d, ids[2], 1);
	dev_push(&o.d, ids[0], 1);
	dev_flush(&o.d);
	for (int i = 0; i < 3; i++)
		assert_non_null(ts_ring_detach(o.r));
	assert_null(ts_ring_detach(o.r));
	assert_int_equal(o.r->faults.count, 0);
	one_free(&o);
}

static void test_driver_area(void **state)
{
	uint16_t ids[3];
	struct one o;

	three_out(&o, *(uint64_t *)*state | EVENT, ids);
	ts_ring_enable_cb(o.r);
	o.r->driver->off_wrap ^= 1;
	assert_null(ts_ring_get_used(o.r, NULL));
	expect_fault(&o, "driver event area was changed");
}

static void test_device_area(void **state)
{
	static const struct {
		uint64_t features;
		uint16_t off_wrap, flags;
		const char *words;
	} cases[] = {
		{EVENT, 0, 3, "flags are 0x3"},
		{EVENT, 0, 0x8000, "flags are 0x8000"},
		{0, 0, 2, "without EVENT_IDX"},
		{EVENT, 8, 2, "descriptor 8 of 8"},
		{EVENT, 0xffff, 2, "descriptor 32767 of 8"},
	};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		struct one o;

		one_ring(&o, *(uint64_t *)*state | cases[i].features, 0);
		o.r->device->off_wrap = cases[i].off_wrap;
		o.r->device->flags = cases[i].flags;
		add_in(&o, 1);
		assert_true(ts_ring_kick_prepare(o.r));
		expect_fault(&o, cases[i].words);
	}
}

/* ---- writing past the driver ---- */

static void test_raw(void **state)
{
	const struct vring_packed_desc d[3] = {
		{0x1000, 1, 70, VRING_DESC_F_NEXT},
		{0x2000, 2, 71, VRING_DESC_F_NEXT},
		{0x3000, 3, 72, VRING_DESC_F_WRITE},
	};
	const struct vring_packed_desc flipped = {.flags = TS_PACKED_BITS};
	struct dev_chain c;
	struct one o;
	uint16_t pos;

	one_ring(&o, *(uint64_t *)*state, 6);
	pos = ts_raw_put(o.r, (uint16_t)ts_ring_avail_pos(o.r), d, 3);
	assert_int_equal(pos, ts_base_at(PACKED, 8, 9) & 0xffff);
	assert_true(dev_pop(&o.d, &c));
	assert_int_equal(c.head, 72);
	assert_int_equal(c.n_out, 2);
	assert_int_equal(c.out[1].gpa, 0x2000);
	assert_int_equal(c.n_in, 1);
	assert_int_equal(dev_off_wrap(o.d.avail), pos);
	pos = ts_raw_put(o.r, pos, &flipped, 1);
	assert_true(dev_empty(&o.d));
	assert_int_equal(pos, ts_base_at(PACKED, 8, 10) & 0xffff);
	assert_int_equal(ts_raw_put(o.r, pos, d, 0), pos);
	assert_int_equal(ts_raw_behind(o.r, pos, 8), pos ^ 0x8000);
	one_free(&o);
}

static void test_raw_break(void **state)
{
	struct one o;

	one_ring(&o, *(uint64_t *)*state, 6);
	assert_true(dev_empty(&o.d));
	ts_raw_break(o.r);
	assert_false(dev_empty(&o.d));
	ts_ring_reset(o.r, ts_base_fresh(o.r->features));
	dev_init(&o.d, o.r);
	assert_true(dev_empty(&o.d));
	one_free(&o);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE_BOTH(test_bad_id),
		CASE_SPLIT(test_bad_id_split),
		CASE_BOTH(test_twice),
		CASE_BOTH(test_unpublished),
		CASE_BOTH(test_too_long),
		CASE_BOTH(test_tamper),
		CASE_BOTH(test_order),
		CASE_BOTH(test_batch),
		CASE_BOTH(test_batches),
		CASE_SPLIT(test_jump),
		CASE_SPLIT(test_forced_table_split),
		CASE_PACKED(test_forced_table_packed),
		CASE_PACKED(test_packed_layout),
		CASE_PACKED(test_wrong_bits),
		CASE_PACKED(test_write_flag),
		CASE_PACKED(test_more_than_given),
		CASE_PACKED(test_wrong_skip),
		CASE_PACKED(test_detach_used),
		CASE_PACKED(test_driver_area),
		CASE_PACKED(test_device_area),
		CASE_PACKED(test_raw),
		CASE_BOTH(test_raw_break),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of the test library: the drivers of both ring formats, against devices to be trusted. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "selftest_ring.h"

/* ---- random traffic over all variants ---- */

#define N_CHAINS 3000

/* Which layout a chain has; behind enum ts_mode: any the format allows. */
#define ANY_MODE (TS_MIXED + 1)

struct traffic {
	struct ts_rng rng;
	struct ts_ring *r;
	struct dev d;
	struct dev_chain held[64];
	unsigned n_held, added, got;
	uint64_t descriptors;   /* of the ring, so far */
	uint32_t len[N_CHAINS]; /* what the device reported per chain */
	uint8_t back[N_CHAINS];
};

static enum ts_mode pick_mode(struct traffic *t, int mode)
{
	if (mode != ANY_MODE)
		return (enum ts_mode)mode;
	return (enum ts_mode)ts_rand_below(&t->rng, dev_packed(&t->d) ? TS_MIXED : ANY_MODE);
}

static void traffic_add(struct traffic *t, enum ts_mode mode)
{
	struct ts_seg out[4], in[4];
	unsigned n_out = ts_rand_below(&t->rng, 4), n_in = ts_rand_below(&t->rng, 4);
	const unsigned n = n_out + n_in;
	int rc;

	for (unsigned i = 0; i < 4; i++) {
		out[i] = (struct ts_seg){t->added * 64 + i, i + 1};
		in[i] = (struct ts_seg){t->added * 64 + 8 + i, 100};
	}
	rc = ts_ring_add(t->r, out, n_out, in, n_in, &t->len[t->added], mode);
	if (n == 0 || n > t->r->size)
		assert_int_equal(rc, -EINVAL);
	else if (rc != -ENOSPC)
		assert_int_equal(rc, 0);
	if (rc == 0) {
		t->len[t->added++] = n_in * 100 / 2;
		t->descriptors += dev_packed(&t->d) && mode == TS_DIRECT ? n : 1;
	} else if (rc == -ENOSPC) {
		assert_true(t->r->n_free < n);
	}
}

/* Which chain this is tells its first address; the device must see what add() was given. */
static void check_chain(const struct dev_chain *c)
{
	const struct ts_seg *first = c->n_out ? c->out : c->in;
	uint64_t k = first->gpa / 64;

	for (unsigned i = 0; i < c->n_out; i++) {
		assert_int_equal(c->out[i].gpa, k * 64 + i);
		assert_int_equal(c->out[i].len, i + 1);
	}
	for (unsigned i = 0; i < c->n_in; i++)
		assert_int_equal(c->in[i].gpa, k * 64 + 8 + i);
}

static void traffic_device(struct traffic *t)
{
	bool wanted;

	while (t->n_held < TS_ARRAY_SIZE(t->held) && dev_pop(&t->d, &t->held[t->n_held]))
		check_chain(&t->held[t->n_held++]);
	for (unsigned n = ts_rand_below(&t->rng, t->n_held + 1); n > 0; n--) {
		bool in_order = ts_ring_has(t->r, VIRTIO_F_IN_ORDER);
		unsigned i = in_order ? 0 : ts_rand_below(&t->rng, t->n_held);

		dev_push(&t->d, t->held[i].head, t->held[i].n_in * 100 / 2);
		t->n_held--;
		if (in_order)
			memmove(t->held, t->held + 1, t->n_held * sizeof(t->held[0]));
		else
			t->held[i] = t->held[t->n_held];
	}
	wanted = dev_flush(&t->d);
	assert_int_equal(wanted, ts_ring_call_due(t->r));
}

static void traffic_reap(struct traffic *t)
{
	uint32_t *token, len;

	while ((token = ts_ring_get_used(t->r, &len))) {
		unsigned k = (unsigned)(token - t->len);

		assert_int_equal(len, *token);
		assert_int_equal(t->back[k], 0);
		t->back[k] = 1;
		if (ts_ring_has(t->r, VIRTIO_F_IN_ORDER))
			assert_int_equal(k, t->got);
		t->got++;
	}
}

/* Now and then the driver changes its mind. */
static void traffic_wish(struct traffic *t)
{
	switch (ts_rand_below(&t->rng, 8)) {
	case 0:
		ts_ring_disable_cb(t->r);
		break;
	case 1:
		ts_ring_enable_cb(t->r);
		break;
	case 2:
		ts_ring_enable_cb_delayed(t->r);
		break;
	default:
		break;
	}
}

static void run_traffic(uint64_t features, uint32_t size, uint64_t start, int mode, unsigned flags)
{
	struct ts_guest *g = ts_guest_one(4 << 20);
	struct traffic *t = calloc(1, sizeof(*t));
	uint32_t end;

	ts_rng_init(&t->rng, ts_seed());
	t->r = make_ring(g, size, features, start, flags);
	dev_init(&t->d, t->r);
	while (t->got < N_CHAINS) {
		for (unsigned n = ts_rand_below(&t->rng, 8); n > 0 && t->added < N_CHAINS; n--)
			traffic_add(t, pick_mode(t, mode));
		ts_ring_kick_prepare(t->r);
		traffic_device(t);
		traffic_reap(t);
		traffic_wish(t);
		if (t->r->faults.count)
			fail_msg("%s", t->r->faults.first);
	}
	assert_int_equal(t->r->n_free, size);
	end = ts_base_at(features, size, start + t->descriptors);
	assert_int_equal(ts_ring_avail_pos(t->r), end);
	assert_int_equal(ts_ring_used_pos(t->r), end);
	ts_ring_free(t->r);
	free(t);
	ts_guest_free(g);
}

static void test_traffic_split(void **state)
{
	static const uint64_t features[] = {
		0, V1, EVENT, V1 | EVENT, V1 | EVENT | IN_ORDER, IN_ORDER};
	static const uint32_t starts[] = {0, 64000};

	(void)state;
	for (unsigned f = 0; f < TS_ARRAY_SIZE(features); f++)
		for (unsigned s = 0; s < TS_ARRAY_SIZE(starts); s++)
			for (int mode = TS_DIRECT; mode <= ANY_MODE; mode++)
				for (unsigned flags = 0; flags <= TS_RING_SHUFFLE; flags++)
					run_traffic(
						features[f] | INDIRECT, 16, starts[s], mode, flags);
	run_traffic(V1 | EVENT, 8, 65535, TS_DIRECT, 0);
	run_traffic(V1 | INDIRECT, 32768, 0, TS_MIXED, TS_RING_SHUFFLE);
}

static void test_traffic_packed(void **state)
{
	static const uint64_t features[] = {0, EVENT, EVENT | IN_ORDER, IN_ORDER};
	static const uint32_t sizes[] = {1, 2, 3, 5, 7, 16, 255, 1000, 32767, 32768};
	static const int modes[] = {TS_DIRECT, TS_INDIRECT, ANY_MODE};

	(void)state;
	for (unsigned f = 0; f < TS_ARRAY_SIZE(features); f++)
		for (unsigned s = 0; s < TS_ARRAY_SIZE(sizes); s++)
			for (unsigned m = 0; m < TS_ARRAY_SIZE(modes); m++)
				for (unsigned round = 0; round < 2; round++)
					run_traffic(V1 | PACKED | INDIRECT | features[f], sizes[s],
						round * (2 * sizes[s] - 1), modes[m],
						round ? TS_RING_SHUFFLE : 0);
}

/* ---- single rules ---- */

static void test_create_split(void **state)
{
	static const uint32_t bad[] = {0, 3, 65536};
	struct ts_guest *g = ts_guest_one(2 << 20);
	struct ts_ring_conf c = {.guest = g, .features = V1};
	struct ts_ring *r;

	(void)state;
	for (unsigned i = 0; i < TS_ARRAY_SIZE(bad); i++) {
		c.size = bad[i];
		assert_int_equal(ts_ring_new(&c, &r), -EINVAL);
	}
	c.size = 32768;
	c.features = 0;
	assert_int_equal(ts_ring_new(&c, &r), 0);
	assert_int_equal(r->desc_gpa % 4096, 0);
	assert_int_equal(r->device_gpa % 4096, 0);
	ts_ring_free(r);
	while (ts_ring_new(&c, &r) == 0)
		ts_ring_free(r);
	assert_int_equal(ts_ring_new(&c, &r), -ENOMEM);
	ts_guest_forget(g);
	c.features = V1;
	assert_int_equal(ts_ring_new(&c, &r), 0);
	assert_int_equal(r->desc_gpa % 32, 16);
	assert_int_equal(r->driver_gpa % 4, 2);
	assert_int_equal(r->device_gpa % 8, 4);
	ts_ring_free(r);
	ts_guest_free(g);
}

static void test_create_packed(void **state)
{
	static const struct {
		uint32_t size, base;
		bool ok;
	} cases[] = {
		{0, 0x80008000, false}, {32769, 0x80008000, false}, {32768, 0x80008000, true},
		{1, 0x80008000, true}, {1, 0x00000000, true}, {1, 0x80008001, false},
		{7, 0x80068006, true}, {7, 0x80068007, false}, {7, 0x80078006, false},
		{7, 0x80020006, false}, /* eleven ahead */
		{7, 0x80060006, true},  /* seven: full */
		{7, 0x80050006, false}, /* eight */
		{7, 0x00068001, true},  /* two, through the end */
		{7, 0x80038001, false}, /* used is ahead of avail */
	};
	struct ts_guest *g = ts_guest_one(2 << 20);
	struct ts_ring *r;

	(void)state;
	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		const struct ts_ring_conf c = {.guest = g,
			.size = cases[i].size,
			.base = cases[i].base,
			.features = V1 | PACKED};
		const int rc = ts_ring_new(&c, &r);

		if (rc != (cases[i].ok ? 0 : -EINVAL))
			fail_msg("size %u base %#x: %d", cases[i].size, cases[i].base, rc);
		if (rc != 0)
			continue;
		assert_int_equal(ts_ring_avail_pos(r) & 0xffff, cases[i].base & 0xffff);
		assert_int_equal(ts_ring_used_pos(r) >> 16, cases[i].base >> 16);
		assert_null(r->desc || r->avail || r->used ? r : NULL);
		assert_int_equal(r->desc_gpa % 32, 16);
		assert_int_equal(r->driver_gpa % 8, 4);
		assert_int_equal(r->device_gpa % 8, 4);
		ts_ring_free(r);
	}
	ts_guest_free(g);
}

static void test_base_at(void **state)
{
	(void)state;
	assert_int_equal(ts_base_fresh(V1), 0);
	assert_int_equal(ts_base_fresh(PACKED), 0x80008000);
	assert_int_equal(ts_base_at(V1, 256, 65536 + 7), 7);
	assert_int_equal(ts_base_at(PACKED, 7, 6), 0x80068006);
	assert_int_equal(ts_base_at(PACKED, 7, 7), 0);
	assert_int_equal(ts_base_at(PACKED, 7, 13), 0x00060006);
	assert_int_equal(ts_base_at(PACKED, 7, 14), 0x80008000);
	assert_int_equal(ts_base_at(PACKED, 32768, 65535), 0x7fff7fff);
}

static void test_add_rejects(void **state)
{
	const uint64_t *format = *state;
	struct ts_seg many[9];
	struct one o;

	one_ring(&o, *format, 0);
	for (unsigned i = 0; i < 9; i++)
		many[i] = seg_in;
	assert_int_equal(ts_ring_add(o.r, NULL, 0, NULL, 0, tokens, TS_DIRECT), -EINVAL);
	assert_int_equal(ts_ring_add(o.r, &seg_out, 1, NULL, 0, NULL, TS_DIRECT), -EINVAL);
	assert_int_equal(ts_ring_add(o.r, NULL, 0, many, 9, tokens, TS_DIRECT), -EINVAL);
	assert_int_equal(ts_ring_add(o.r, NULL, 0, many, 2, tokens, TS_INDIRECT), -ENOTSUP);
	assert_int_equal(ts_ring_add(o.r, NULL, 0, many, 8, tokens, TS_DIRECT), 0);
	assert_int_equal(ts_ring_add(o.r, &seg_out, 1, NULL, 0, tokens, TS_DIRECT), -ENOSPC);
	assert_int_equal(o.r->n_out, 1);
	assert_ptr_equal(ts_ring_detach(o.r), tokens);
	assert_null(ts_ring_detach(o.r));
	assert_int_equal(o.r->n_free, 8);
	assert_int_equal(o.r->faults.count, 0);
	one_free(&o);
}

/* Publishing `n` from `from` on with the device waiting at `event`. */
static void test_kick_event(void **state)
{
	static const struct {
		uint16_t from;
		int n;
		uint16_t event;
		bool kick;
	} cases[] = {
		{0, 1, 0, true},
		{0, 1, 1, false},
		{0, 5, 4, true},
		{0, 5, 5, false},
		{0, 5, 65535, false},
		{65534, 4, 65533, false},
		{65534, 4, 65534, true},
		{65534, 4, 65535, true},
		{65534, 4, 1, true},
		{65534, 4, 2, false},
	};
	const uint64_t features = *(uint64_t *)*state | EVENT;

	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		const int ahead = (int16_t)(cases[i].event - cases[i].from);
		const uint64_t start = 65536 + cases[i].from, event = start + (uint64_t)ahead;
		struct one o;

		one_ring(&o, features, start);
		dev_want_kick(&o.d, (uint16_t)ts_base_at(features, 8, event), true);
		add_in(&o, cases[i].n);
		assert_true(dev_empty(&o.d));
		assert_int_equal(ts_ring_kick_prepare(o.r), cases[i].kick);
		assert_false(dev_empty(&o.d));
		assert_int_equal(ts_ring_avail_pos(o.r) & 0xffff,
			ts_base_at(features, 8, start + (unsigned)cases[i].n) & 0xffff);
		assert_false(ts_ring_kick_prepare(o.r));
		one_free(&o);
	}
}

/* An event of packed rings in the middle of a chain, and with flags that need no position. */
static void test_kick_event_packed(void **state)
{
	const struct ts_seg segs[3] = {seg_in, seg_in, seg_in};
	const uint64_t features = *(uint64_t *)*state | EVENT;

	for (uint64_t event = 4; event < 12; event++) {
		struct one o;

		one_ring(&o, features, 6);
		dev_want_kick(&o.d, (uint16_t)ts_base_at(features, 8, event), true);
		assert_int_equal(ts_ring_add(o.r, NULL, 0, segs, 3, tokens, TS_DIRECT), 0);
		assert_int_equal(ts_ring_kick_prepare(o.r), event >= 6 && event < 9);
		assert_int_equal(ts_ring_add(o.r, NULL, 0, segs, 1, tokens, TS_DIRECT), 0);
		assert_int_equal(ts_ring_kick_prepare(o.r), event == 9);
		o.r->device->flags = VRING_PACKED_EVENT_FLAG_ENABLE;
		assert_int_equal(ts_ring_add(o.r, NULL, 0, segs, 1, tokens, TS_DIRECT), 0);
		assert_true(ts_ring_kick_prepare(o.r));
		o.r->device->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
		assert_int_equal(ts_ring_add(o.r, NULL, 0, segs, 1, tokens, TS_DIRECT), 0);
		assert_false(ts_ring_kick_prepare(o.r));
		assert_int_equal(o.r->faults.count, 0);
		one_free(&o);
	}
}

static void test_kick_flag(void **state)
{
	struct one o;

	one_ring(&o, *(uint64_t *)*state, 0);
	dev_want_kick(&o.d, 0, true);
	add_in(&o, 1);
	assert_true(ts_ring_kick(o.r));
	dev_want_kick(&o.d, 0, false);
	add_in(&o, 1);
	assert_false(ts_ring_kick(o.r));
	assert_int_equal(o.r->n_kicks, 1);
	one_free(&o);
}

static bool use(struct one *o, int n)
{
	struct dev_chain c;

	for (int i = 0; i < n; i++) {
		assert_true(dev_pop(&o->d, &c));
		dev_push(&o->d, c.head, 1);
	}
	return dev_flush(&o->d);
}

static void check_calls(uint64_t features, uint64_t start)
{
	struct one o;

	one_ring(&o, features, start);
	add_in(&o, 8);
	ts_ring_publish(o.r);
	ts_ring_disable_cb(o.r);
	assert_false(use(&o, 2));
	assert_false(ts_ring_call_due(o.r));
	assert_false(ts_ring_enable_cb(o.r));
	assert_false(ts_ring_call_due(o.r));
	assert_non_null(ts_ring_get_used(o.r, NULL));
	assert_non_null(ts_ring_get_used(o.r, NULL));
	assert_true(ts_ring_enable_cb(o.r));
	assert_true(use(&o, 1));
	assert_true(ts_ring_call_due(o.r));
	assert_non_null(ts_ring_get_used(o.r, NULL));
	assert_false(ts_ring_call_due(o.r));
	/* 5 are out: with EVENT_IDX the delayed event lies behind the third more. */
	assert_true(ts_ring_enable_cb_delayed(o.r));
	assert_int_equal(use(&o, 3), !(features & EVENT));
	assert_int_equal(ts_ring_call_due(o.r), !(features & EVENT));
	assert_true(use(&o, 1));
	assert_true(ts_ring_call_due(o.r));
	assert_int_equal(o.r->faults.count, 0);
	one_free(&o);
}

static void test_calls(void **state)
{
	const uint64_t features = *(uint64_t *)*state;

	for (uint64_t start = 0; start < 16; start++) {
		check_calls(features, start);
		check_calls(features | EVENT, start);
		check_calls(features | EVENT, 65520 + start);
	}
}

/* A base whose halves differ: what lies between is taken, and the device goes on before it. */
static void test_reset_between(void **state)
{
	struct one o;

	one_ring(&o, *(uint64_t *)*state, 0);
	ts_ring_reset(o.r, 0x80068002); /* used at 6 of the round before */
	assert_int_equal(o.r->faults.count, 1);
	ts_ring_reset(o.r, 0x00068002 ^ 0x80008000); /* avail 2 in odd, used 6 in even rounds */
	assert_int_equal(o.r->faults.count, 1);
	assert_int_equal(o.r->n_free, 4);
	assert_int_equal(o.r->n_out, 0);
	assert_int_equal(ts_ring_avail_pos(o.r), 0x80060002);
	assert_int_equal(ts_ring_used_pos(o.r), 0x80068006);
	assert_false(ts_ring_more_used(o.r));
	add_in(&o, 4);
	assert_int_equal(ts_ring_add(o.r, &seg_out, 1, NULL, 0, tokens, TS_DIRECT), -ENOSPC);
	ts_ring_publish(o.r);
	assert_int_equal(ts_ring_avail_pos(o.r), 0x80060006);
	one_free(&o);
}

/* ---- two threads that sleep until they are told ---- */

#define N_SLEEPY 20000

struct sleepy {
	struct one o;
	unsigned done; /* by the device */
	bool lost_kick;
};

static bool told(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t n;

	return poll(&p, 1, 2000) == 1 && read(fd, &n, sizeof(n)) == sizeof(n);
}

static void *sleepy_device(void *arg)
{
	struct sleepy *s = arg;
	const uint64_t one = 1;
	struct dev_chain c;

	while (s->done < N_SLEEPY && !s->lost_kick) {
		dev_want_kick(&s->o.d, 0, false);
		while (dev_pop(&s->o.d, &c)) {
			dev_push(&s->o.d, c.head, 1);
			s->done++;
		}
		if (dev_flush(&s->o.d) && write(s->o.r->call_fd, &one, 8) != 8)
			break;
		dev_want_kick(&s->o.d, dev_off_wrap(s->o.d.avail), true);
		if (s->done < N_SLEEPY && dev_empty(&s->o.d))
			s->lost_kick = !told(s->o.r->kick_fd);
	}
	return NULL;
}

static void check_sleepy(uint64_t features)
{
	struct sleepy s = {.done = 0};
	unsigned added = 0, got = 0;
	bool lost_call = false;
	pthread_t t;

	one_ring(&s.o, features, 65000);
	s.o.r->kick_fd = eventfd(0, EFD_CLOEXEC);
	s.o.r->call_fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(pthread_create(&t, NULL, sleepy_device, &s), 0);
	while (got < N_SLEEPY && !lost_call) {
		while (added < N_SLEEPY &&
			ts_ring_add(s.o.r, NULL, 0, &seg_in, 1, tokens, TS_DIRECT) == 0)
			added++;
		ts_ring_kick(s.o.r);
		ts_ring_disable_cb(s.o.r);
		while (ts_ring_get_used(s.o.r, NULL))
			got++;
		if (s.o.r->n_out && ts_ring_enable_cb(s.o.r))
			lost_call = !told(s.o.r->call_fd);
	}
	pthread_join(t, NULL);
	assert_false(lost_call);
	assert_false(s.lost_kick);
	assert_int_equal(s.o.r->faults.count, 0);
	close(s.o.r->kick_fd);
	close(s.o.r->call_fd);
	one_free(&s.o);
}

static void test_sleepy(void **state)
{
	const uint64_t features = *(uint64_t *)*state;

	check_sleepy(features);
	check_sleepy(features | EVENT);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_traffic_split),
		cmocka_unit_test(test_traffic_packed),
		cmocka_unit_test(test_create_split),
		cmocka_unit_test(test_create_packed),
		cmocka_unit_test(test_base_at),
		CASE_BOTH(test_add_rejects),
		CASE_BOTH(test_kick_event),
		CASE_PACKED(test_kick_event_packed),
		CASE_BOTH(test_kick_flag),
		CASE_BOTH(test_calls),
		CASE_PACKED(test_reset_between),
		CASE_BOTH(test_sleepy),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of the test library: the split driver against a device that can be trusted by reading it. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "selftest_device.h"
#include "ts_guest.h"
#include "ts_ring.h"
#include "ts_tap.h"

#define MIB (UINT64_C(1) << 20)

/* ---- ring: random traffic over all variants ---- */

#define N_CHAINS 3000
#define V1       TS_BIT(VIRTIO_F_VERSION_1)
#define EVENT    TS_BIT(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT TS_BIT(VIRTIO_RING_F_INDIRECT_DESC)
#define IN_ORDER TS_BIT(VIRTIO_F_IN_ORDER)

static struct ts_ring *make_ring(
	struct ts_guest *g, uint32_t size, uint64_t features, uint32_t base, unsigned flags)
{
	const struct ts_ring_conf c = {
		.guest = g, .size = size, .features = features, .base = base, .flags = flags};
	struct ts_ring *r;

	assert_int_equal(ts_ring_new(&c, &r), 0);
	return r;
}

struct traffic {
	struct ts_rng rng;
	struct ts_ring *r;
	struct dev d;
	struct dev_chain held[64];
	unsigned n_held, added, got;
	uint32_t len[N_CHAINS]; /* what the device reported per chain */
	uint8_t back[N_CHAINS];
};

static void traffic_add(struct traffic *t, enum ts_mode mode)
{
	struct ts_seg out[4], in[4];
	unsigned n_out = ts_rand_below(&t->rng, 4), n_in = ts_rand_below(&t->rng, 4);
	int rc;

	for (unsigned i = 0; i < 4; i++) {
		out[i] = (struct ts_seg){t->added * 64 + i, i + 1};
		in[i] = (struct ts_seg){t->added * 64 + 8 + i, 100};
	}
	rc = ts_ring_add(t->r, out, n_out, in, n_in, &t->len[t->added], mode);
	if (n_out + n_in == 0)
		assert_int_equal(rc, -EINVAL);
	else if (rc != -ENOSPC)
		assert_int_equal(rc, 0);
	if (rc == 0)
		t->len[t->added++] = n_in * 100 / 2;
	else if (rc == -ENOSPC)
		assert_true(t->r->n_free < n_out + n_in);
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

static void run_traffic(uint64_t features, uint32_t size, uint32_t base, int mode, unsigned flags)
{
	struct ts_guest *g = ts_guest_one(4 * MIB);
	struct traffic *t = calloc(1, sizeof(*t));

	ts_rng_init(&t->rng, ts_seed());
	t->r = make_ring(g, size, features, base, flags);
	t->d = dev_of(t->r);
	while (t->got < N_CHAINS) {
		for (unsigned n = ts_rand_below(&t->rng, 8); n > 0 && t->added < N_CHAINS; n--)
			traffic_add(t, (enum ts_mode)mode);
		ts_ring_kick_prepare(t->r);
		traffic_device(t);
		traffic_reap(t);
		if (t->r->faults.count)
			fail_msg("%s", t->r->faults.first);
	}
	assert_int_equal(t->r->n_free, size);
	assert_int_equal(ts_ring_avail_pos(t->r), (uint16_t)(base + N_CHAINS));
	assert_int_equal(ts_ring_used_pos(t->r), (uint16_t)(base + N_CHAINS));
	ts_ring_free(t->r);
	free(t);
	ts_guest_free(g);
}

static void test_traffic(void **state)
{
	static const uint64_t features[] = {
		0, V1, EVENT, V1 | EVENT, V1 | EVENT | IN_ORDER, IN_ORDER};
	static const uint32_t bases[] = {0, 64000};

	for (unsigned f = 0; f < TS_ARRAY_SIZE(features); f++)
		for (unsigned b = 0; b < TS_ARRAY_SIZE(bases); b++)
			for (int mode = TS_DIRECT; mode <= TS_MIXED; mode++)
				for (unsigned flags = 0; flags <= TS_RING_SHUFFLE; flags++)
					run_traffic(
						features[f] | INDIRECT, 16, bases[b], mode, flags);
	run_traffic(V1 | EVENT, 8, 65535, TS_DIRECT, 0);
	run_traffic(V1 | INDIRECT, 32768, 0, TS_MIXED, TS_RING_SHUFFLE);
}

/* ---- ring: single rules ---- */

struct one {
	struct ts_guest *g;
	struct ts_ring *r;
	struct dev d;
};

static const struct ts_seg seg_out = {.gpa = 0x1000, .len = 10};
static const struct ts_seg seg_in = {.gpa = 0x2000, .len = 100};
static int tokens[64];

static struct one one_ring(uint64_t features, uint32_t base)
{
	struct one o = {.g = ts_guest_one(MIB)};

	o.r = make_ring(o.g, 8, features, base, 0);
	o.d = dev_of(o.r);
	return o;
}

static void one_free(struct one *o)
{
	ts_ring_free(o->r);
	ts_guest_free(o->g);
}

static void add_in(struct one *o, int n)
{
	for (int i = 0; i < n; i++)
		assert_int_equal(ts_ring_add(o->r, NULL, 0, &seg_in, 1, &tokens[i], TS_DIRECT), 0);
}

static void test_create(void **state)
{
	static const uint32_t bad[] = {0, 3, 65536};
	struct ts_guest *g = ts_guest_one(2 * MIB);
	struct ts_ring_conf c = {.guest = g, .features = V1};
	struct ts_ring *r;

	for (unsigned i = 0; i < TS_ARRAY_SIZE(bad); i++) {
		c.size = bad[i];
		assert_int_equal(ts_ring_new(&c, &r), -EINVAL);
	}
	c.size = 32768;
	c.features = V1 | TS_BIT(VIRTIO_F_RING_PACKED);
	assert_int_equal(ts_ring_new(&c, &r), -ENOTSUP);
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

static void test_add_rejects(void **state)
{
	struct one o = one_ring(V1, 0);
	struct ts_seg many[9];

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
	one_free(&o);
}

/* Publishing up to `to` from `from` with the device waiting at `event`. */
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

	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		struct one o = one_ring(V1 | EVENT, cases[i].from);

		dev_want_kick(&o.d, cases[i].event, true);
		add_in(&o, cases[i].n);
		assert_int_equal(o.r->avail->idx, cases[i].from);
		assert_int_equal(ts_ring_kick_prepare(o.r), cases[i].kick);
		assert_int_equal(o.r->avail->idx, (uint16_t)(cases[i].from + cases[i].n));
		assert_false(ts_ring_kick_prepare(o.r));
		one_free(&o);
	}
}

static void test_kick_flag(void **state)
{
	struct one o = one_ring(V1, 0);

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

static void check_calls(uint64_t features, uint32_t base)
{
	struct one o = one_ring(features, base);

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
	check_calls(V1, 0);
	check_calls(V1 | EVENT, 0);
	check_calls(V1 | EVENT, 65533);
	check_calls(EVENT, 65535);
}

/* ---- ring: two threads that sleep until they are told ---- */

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
		dev_want_kick(&s->o.d, s->o.d.avail, true);
		if (s->done < N_SLEEPY && dev_empty(&s->o.d))
			s->lost_kick = !told(s->o.r->kick_fd);
	}
	return NULL;
}

static void check_sleepy(uint64_t features)
{
	struct sleepy s = {.o = one_ring(features, 65000)};
	unsigned added = 0, got = 0;
	bool lost_call = false;
	pthread_t t;

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
	check_sleepy(V1);
	check_sleepy(V1 | EVENT);
}

/* ---- ring: what it catches ---- */

static void expect_fault(struct one *o, const char *words)
{
	assert_int_equal(o->r->faults.count, 1);
	if (!strstr(o->r->faults.first, words))
		fail_msg("\"%s\" does not say \"%s\"", o->r->faults.first, words);
	one_free(o);
}

static struct one three_out(uint64_t features)
{
	struct one o = one_ring(features, 65534);
	struct dev_chain c;

	add_in(&o, 3);
	ts_ring_publish(o.r);
	while (dev_pop(&o.d, &c))
		;
	return o;
}

static void test_bad_id(void **state)
{
	static const uint32_t bad[] = {3, 8, 0x10000, UINT32_MAX};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(bad); i++) {
		struct one o = three_out(V1);

		dev_push(&o.d, bad[i], 0);
		dev_push(&o.d, 0, 0);
		dev_flush(&o.d);
		assert_ptr_equal(ts_ring_get_used(o.r, NULL), &tokens[0]);
		expect_fault(&o, "not a head the device has");
	}
}

static void test_twice(void **state)
{
	struct one o = three_out(V1);

	dev_push(&o.d, 1, 0);
	dev_push(&o.d, 1, 0);
	dev_flush(&o.d);
	assert_ptr_equal(ts_ring_get_used(o.r, NULL), &tokens[1]);
	assert_null(ts_ring_get_used(o.r, NULL));
	expect_fault(&o, "used.id 1");
}

static void test_unpublished(void **state)
{
	struct one o = three_out(V1);

	add_in(&o, 1);
	dev_push(&o.d, 3, 0);
	dev_flush(&o.d);
	assert_null(ts_ring_get_used(o.r, NULL));
	expect_fault(&o, "used.id 3");
}

static void check_too_long(bool writable, uint32_t claimed, uint32_t allowed, const char *words)
{
	struct one o = one_ring(V1, 0);
	uint32_t len;

	assert_int_equal(
		ts_ring_add(o.r, &seg_out, !writable, &seg_in, writable, tokens, TS_DIRECT), 0);
	ts_ring_publish(o.r);
	dev_push(&o.d, 0, claimed);
	dev_flush(&o.d);
	assert_ptr_equal(ts_ring_get_used(o.r, &len), tokens);
	assert_int_equal(len, allowed);
	expect_fault(&o, words);
}

static void test_too_long(void **state)
{
	check_too_long(true, 101, 100, "more than the 100 writable");
	check_too_long(false, 10, 0, "more than the 0 writable");
}

static void test_jump(void **state)
{
	static const uint16_t to[] = {65534 - 1, (uint16_t)(65534 + 4), 20000};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(to); i++) {
		struct one o = three_out(V1);

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

static void test_tamper(void **state)
{
	struct one o = three_out(V1);

	o.r->desc[1].len++;
	dev_push(&o.d, 1, 0);
	dev_flush(&o.d);
	assert_ptr_equal(ts_ring_get_used(o.r, NULL), &tokens[1]);
	expect_fault(&o, "descriptor 1 was changed");
}

static void test_order(void **state)
{
	struct one o = three_out(V1 | IN_ORDER);

	dev_push(&o.d, 1, 0);
	dev_flush(&o.d);
	assert_null(ts_ring_get_used(o.r, NULL));
	expect_fault(&o, "breaks the order");
}

/* One entry for three chains: the skipped ones count as filled. */
static void test_batch(void **state)
{
	struct one o = three_out(V1 | IN_ORDER | EVENT);
	uint32_t len;

	dev_push(&o.d, 2, 7);
	o.d.used += 2;
	dev_flush(&o.d);
	for (int i = 0; i < 3; i++) {
		assert_true(ts_ring_more_used(o.r));
		assert_ptr_equal(ts_ring_get_used(o.r, &len), &tokens[i]);
		assert_int_equal(len, i < 2 ? 100 : 7);
	}
	assert_null(ts_ring_get_used(o.r, NULL));
	assert_int_equal(o.r->faults.count, 0);
	one_free(&o);
}

static void test_forced_table(void **state)
{
	struct one o = one_ring(V1 | INDIRECT, 0);
	const uint64_t at = ts_alloc(o.g, 0, 64, 16);
	const struct ts_seg segs[3] = {seg_in, seg_in, seg_in};
	struct dev_chain c;

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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_traffic),
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_add_rejects),
		cmocka_unit_test(test_kick_event),
		cmocka_unit_test(test_kick_flag),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_sleepy),
		cmocka_unit_test(test_bad_id),
		cmocka_unit_test(test_twice),
		cmocka_unit_test(test_unpublished),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_jump),
		cmocka_unit_test(test_tamper),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_batch),
		cmocka_unit_test(test_forced_table),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

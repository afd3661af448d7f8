/* SPDX-License-Identifier: BSD-3-Clause */
/* L1 to L5: a guest that is copied away while its rings run, and where it arrives. */
#include "rows.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SPLIT  FAULT_SPLIT
#define PACKED FAULT_PACKED

static const char *const formats[] = {"", "split", "packed"};

/* ---- L1: what was written is marked ---- */

static void marked(struct fault *f, const struct fault_case *c)
{
	unsigned n = (unsigned)c->arg[0];

	for (unsigned i = 0; i < 30; i++) {
		struct ts_log_result r = fault_logged(f, n);

		/* A chain's page and its ring's may be marked and yet have the bytes they had. */
		assert_true(r.changed > 0);
		assert_true(r.marked <= r.changed + 2 * 4 * n);
	}
}

static void l1(void)
{
	static const unsigned counts[] = {1, 7, 40};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(counts); i++)
		for (enum fault_format p = SPLIT; p <= PACKED; p++)
			fault_add(&(struct fault_case){.run = marked,
					  .phase = FAULT_MIGRATING,
					  .format = p,
					  .arg = {counts[i]}},
				"L1_marked[%s,%u chains]", formats[p], counts[i]);
}

/* ---- L2: many lcores ---- */

#define LCORES 4u

struct one_lcore {
	struct vd *t;
	unsigned pair;
	pthread_t thread;
};

/* Its own pair, until both rings have taken all there is. */
static void *one_pair(void *arg)
{
	const struct one_lcore *l = arg;
	const unsigned rx = 2 * l->pair, tx = rx + 1;
	const uint64_t end = ts_now_ms() + 20000;

	do {
		vd_burst(l->t, rx);
		vd_burst(l->t, tx);
	} while ((!vd_all_used(l->t, rx) || !vd_all_used(l->t, tx)) && ts_now_ms() < end);
	return NULL;
}

static void together(struct vd *t)
{
	struct one_lcore l[LCORES];

	for (unsigned i = 0; i < LCORES; i++) {
		l[i] = (struct one_lcore){.t = t, .pair = i};
		assert_int_equal(pthread_create(&l[i].thread, NULL, one_pair, &l[i]), 0);
	}
	for (unsigned i = 0; i < LCORES; i++)
		pthread_join(l[i].thread, NULL);
}

/* Their buffers are neighbours: a byte of the log is theirs in common. */
static void many_lcores(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	unsigned n = (unsigned)c->arg[0];

	fault_leave(f);
	fault_pairs(f, LCORES, true);
	vd_front_end(t, &ts_qemu_10);
	vd_connect(t);
	vd_start(t);
	fault_migrate(f);
	for (unsigned round = 0; round < 50; round++) {
		struct ts_log_result r;

		for (unsigned i = 0; i < 2 * LCORES; i++)
			fault_post(f, i, n);
		ts_log_begin(f->log);
		together(t);
		assert_true(ts_log_end(f->log, &r));
		if (r.missed || r.stray)
			fail_msg("round %u: %u missed (first 0x%llx), %u stray", round, r.missed,
				(unsigned long long)r.first, r.stray);
		for (unsigned i = 0; i < 2 * LCORES; i++)
			assert_int_equal(vd_guest_reaps(t, i), n);
	}
	fault_leave(f);
	ts_fe_free(&t->fe);
	fault_pairs(f, 2, false);
}

static void l2(void)
{
	for (unsigned n = 1; n < 30; n += 19)
		for (enum fault_format p = SPLIT; p <= PACKED; p++)
			fault_add(&(struct fault_case){.run = many_lcores, .format = p, .arg = {n}},
				"L2_8 rings on 4 lcores[%s,%u chains]", formats[p], n);
}

/* ---- L3: begun, cancelled, begun again ---- */

static unsigned bits_set(const struct ts_log *l)
{
	unsigned n = 0;

	for (uint64_t i = 0; i < l->size; i++)
		n += (unsigned)__builtin_popcount(ts_log_bits(l)[i]);
	return n;
}

static void silent(struct fault *f)
{
	ts_log_begin(f->log);
	fault_traffic(f);
	assert_int_equal(bits_set(f->log), 0);
}

static void cancelled(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;

	for (unsigned i = 0; i < 5; i++) {
		fault_logged(f, 10);
		vd_guest_adds(t, 1, 50); /* in the midst of it */
		vd_ok(t, ts_fe_log(&t->fe, false));
		assert_true(VD_WAIT(t, (vd_guest_reaps(t, 1), vd_all_used(t, 1)), 5000));
		silent(f);
		if (c->arg[0] == 0)
			vd_ok(t, ts_fe_log(&t->fe, true));
		else
			fault_migrate(f); /* with another log */
	}
	fault_logged(f, 10);
}

/* The driver stops while it is logged, and starts again: a new ring is logged like the old one. */
static void restarted(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;

	(void)c;
	for (unsigned i = 0; i < 5; i++) {
		vd_ok(t, ts_fe_stop(&t->fe));
		vd_ok(t, ts_fe_start(&t->fe));
		vd_ok(t, ts_fe_barrier(&t->fe));
		fault_logged(f, 10);
	}
}

static void l3(void)
{
	for (enum fault_format p = SPLIT; p <= PACKED; p++) {
		for (unsigned i = 0; i < 2; i++)
			fault_add(&(struct fault_case){.run = cancelled,
					  .phase = FAULT_MIGRATING,
					  .format = p,
					  .arg = {i}},
				"L3_cancelled and again[%s,%s]", formats[p],
				i ? "another log" : "the same log");
		fault_add(
			&(struct fault_case){
				.run = restarted, .phase = FAULT_MIGRATING, .format = p},
			"L3_driver restarts[%s]", formats[p]);
	}
}

/* ---- L4: nothing after the answer ---- */

static void go_on(struct vd *t, unsigned ring)
{
	vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, ring, t->fe.rings[ring].base));
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, ring, t->fe.rings[ring].kick));
}

static void last_base(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;

	for (unsigned round = 0; round < 20; round++) {
		struct ts_log_result r;

		for (unsigned i = 0; i < 4; i++)
			fault_post(f, i, i & 1 ? VD_RING_SIZE / 6 : VD_RING_SIZE / 2);
		for (unsigned i = 0; i < 4; i++)
			vd_ok(t, ts_fe_get_base(&t->fe, c->arg[0] ? 3 - i : i));
		ts_log_begin(f->log);
		vd_run_ms(t, 2);
		assert_true(ts_log_end(f->log, &r));
		assert_int_equal(r.changed, 0);
		assert_int_equal(r.marked, 0);
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(t->fe.rings[i].base, vd_shown(t, i));
			go_on(t, i);
		}
		vd_ok(t, ts_fe_barrier(&t->fe));
		for (unsigned i = 0; i < 4; i++)
			assert_true(VD_WAIT(
				t, (vd_guest_reaps(t, i), t->fe.rings[i].ring->n_out == 0), 5000));
	}
}

static void l4(void)
{
	for (enum fault_format p = SPLIT; p <= PACKED; p++)
		for (unsigned i = 0; i < 2; i++)
			fault_add(&(struct fault_case){.run = last_base,
					  .phase = FAULT_MIGRATING,
					  .format = p,
					  .arg = {i}},
				"L4_GET_VRING_BASE under load[%s,%s]", formats[p],
				i ? "last ring first" : "in order");
}

/* ---- L5: at the destination ---- */

/* The source has said where it stopped, of some rings, and is gone. The same rings go on from there. */
static void goes_on(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;

	for (unsigned i = 0; i < 4; i++)
		fault_post(f, i, 40);
	for (unsigned i = 0; i < c->arg[0]; i++)
		vd_ok(t, ts_fe_get_base(&t->fe, i));
	ts_fe_disconnect(&t->fe);
	fault_closed(f, NULL);
	for (unsigned i = (unsigned)c->arg[0]; i < 4; i++)
		t->fe.rings[i].base = vd_shown(t, i);
	vd_connect(t);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
	for (unsigned i = 0; i < 4; i++)
		assert_true(
			VD_WAIT(t, (vd_guest_reaps(t, i), t->fe.rings[i].ring->n_out == 0), 5000));
	fault_traffic(f);
}

/* What the source told is none of this ring's positions. */
static void no_position(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	const struct ts_vring_state s = {1, (uint32_t)c->arg[0]};
	struct ts_msg m;
	int rc;

	vd_ok(t, ts_fe_get_base(&t->fe, 1));
	ts_msg_make(&m, TS_SET_VRING_BASE, &s, sizeof(s));
	rc = fault_ask(f, &m);
	if (rc == -EREMOTEIO) {
		assert_non_null(strstr(vd_info(t).last_error, "base"));
		return;
	}
	assert_int_equal(rc, 0);
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, 1, t->fe.rings[1].kick));
	vd_ok(t, ts_fe_barrier(&t->fe));
	if (t->format) {
		assert_false(vd_ring_info(t, 1).usable);
		assert_int_equal(vd_info(t).trouble, VU_TROUBLE_RING_POSITION);
	}
	fault_neighbours_answer(f);
}

static void no_feature(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	uint64_t features = t->fe.features | TS_BIT(c->arg[0]);
	struct ts_msg m;

	fault_leave(f);
	vd_connect(t);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	ts_msg_make(&m, TS_SET_FEATURES, &features, sizeof(features));
	assert_int_equal(fault_ask(f, &m), -EREMOTEIO);
	assert_non_null(strstr(vd_info(t).last_error, "feature"));
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_FEATURES);
}

static void l5(void)
{
	static const unsigned told[] = {0, 1, 4};
	static const uint32_t bases[] = {0x1000000, 0x7fff7fff, 0xffffffff, VD_RING_SIZE | 0x10000u,
		(VD_RING_SIZE + 1) << 16};
	static const unsigned bits[] = {5, 37, 40, 63};

	for (enum fault_format p = SPLIT; p <= PACKED; p++) {
		for (unsigned i = 0; i < TS_ARRAY_SIZE(told); i++)
			fault_add(&(struct fault_case){.run = goes_on,
					  .phase = FAULT_MIGRATING,
					  .format = p,
					  .arg = {told[i]}},
				"L5_goes on[%s,%u of 4 bases told]", formats[p], told[i]);
		for (unsigned i = 0; i < TS_ARRAY_SIZE(bases); i++)
			fault_add(&(struct fault_case){.run = no_position,
					  .phase = FAULT_RUNNING,
					  .format = p,
					  .arg = {bases[i]}},
				"L5_base[%s,%#x]", formats[p], bases[i]);
	}
	for (unsigned i = 0; i < TS_ARRAY_SIZE(bits); i++)
		fault_add(
			&(struct fault_case){
				.run = no_feature, .phase = FAULT_RUNNING, .arg = {bits[i]}},
			"L5_features[bit %u more]", bits[i]);
}

void rows_migrate(void)
{
	l1();
	l2();
	l3();
	l4();
	l5();
}

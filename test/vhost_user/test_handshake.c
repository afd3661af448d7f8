/* SPDX-License-Identifier: BSD-3-Clause */
/* What known front-ends send, whole, cut short and in every other order. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vd.h"

/* ---- each front-end ---- */

/* What a case is about; its initial state. */
struct front_end {
	const struct ts_profile *profile;
	bool packed;
};

static int setup(void **state)
{
	const struct front_end *who = *state;
	const struct ts_profile *profile = who->profile;
	struct vd *t;

	*state = who->packed ? (void *)(uintptr_t)&vd_packed : NULL;
	vd_setup(state);
	t = *state;
	/* It takes the answer to GET_QUEUE_NUM for rings, QEMU takes it for pairs. */
	vd_conf(t, profile == &ts_cloud_hypervisor ? 4 : 2);
	vd_create(t);
	vd_front_end(t, profile);
	t->fe.pairs = t->fe.active = 2;
	return 0;
}

static void assert_rings(struct vd *t, unsigned pairs, bool usable)
{
	for (unsigned i = 0; i < 2 * pairs; i++) {
		struct vu_ring_info info = vd_ring_info(t, i);

		assert_int_equal(info.usable, usable);
		assert_int_equal(info.enabled && info.started, usable);
		assert_int_equal(t->ring[i].usable, usable);
		if (!usable)
			vd_assert_dead(t, i);
	}
	assert_int_equal(t->link, usable);
}

/* Boot, traffic, reboot, fewer and more queues, disconnect, and again. */
static void life(void **state)
{
	struct vd *t = *state;

	for (unsigned round = 0; round < 3; round++) {
		vd_connect(t);
		vd_start(t);
		assert_rings(t, 2, true);
		assert_int_equal(vd_info(t).trouble, VU_TROUBLE_NONE);
		vd_assert_traffic(t, 0, 2);
		vd_ok(t, ts_fe_stop(&t->fe));
		vd_ok(t, ts_fe_barrier(&t->fe));
		assert_rings(t, 2, false);
		/* The driver goes on where the rings were, as after a pause of the guest. */
		vd_ok(t, ts_fe_start(&t->fe));
		vd_ok(t, ts_fe_barrier(&t->fe));
		assert_rings(t, 2, true);
		vd_assert_traffic(t, 0, 2);
		if (t->fe.profile->channels) {
			vd_ok(t, ts_fe_set_active(&t->fe, 1));
			vd_ok(t, ts_fe_barrier(&t->fe));
			assert_false(vd_ring_info(t, 2).usable);
			assert_false(vd_ring_info(t, 3).usable);
			vd_assert_traffic(t, 0, 1);
			vd_ok(t, ts_fe_set_active(&t->fe, 2));
			vd_ok(t, ts_fe_barrier(&t->fe));
		}
		vd_assert_traffic(t, 0, 2);
		vd_disconnect(t);
		assert_false(t->link);
		ts_fe_boot_anew(&t->fe);
	}
	assert_int_equal(t->link_changes, 12);
}

static int all_of_it(struct vd *t)
{
	int rc = ts_fe_negotiate(&t->fe);

	if (rc)
		return rc;
	ts_guest_forget(t->guest);
	rc = ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, 0);
	return rc ? rc : ts_fe_start(&t->fe);
}

/* The connection breaks at every byte; nothing stays and the next one is served. */
static void cut_at_every_byte(void **state)
{
	struct vd *t = *state;
	int fds, maps, rc = -1;
	size_t cut;

	vd_connect(t);
	vd_start(t);
	vd_disconnect(t);
	fds = ts_count_fds(NULL);
	maps = ts_count_maps("memfd:ts-guest");
	for (cut = 1; rc != 0; cut++) {
		vd_connect(t);
		t->fe.cut_after = cut;
		rc = all_of_it(t);
		t->fe.cut_after = 0;
		if (rc != 0)
			assert_int_equal(rc, -ECONNRESET);
		vd_disconnect(t);
		assert_int_equal(ts_count_fds(NULL), fds);
		assert_int_equal(ts_count_maps("memfd:ts-guest"), maps);
		assert_false(t->link);
	}
	assert_in_range(cut, 300, 5000);
	vd_connect(t);
	vd_start(t);
	vd_assert_traffic(t, 0, 2);
}

/* ---- any order ---- */

enum step {
	FEATURES,
	ENABLE,
	CALL,
	ERR,
	NUM,
	BASE,
	ADDR,
	MEM,
	KICK,
	STEPS
};

#define START_AT 100u
#define USED_AT  90u

/* Where it takes and where it gives back; a split ring's base has no room for the latter. */
static uint32_t start_base(const struct vd *t)
{
	const uint32_t avail = vd_base(t, START_AT), used = vd_base(t, USED_AT);

	return t->format ? (uint16_t)avail | used << 16 : avail;
}

static void send_step(struct vd *t, enum step step)
{
	struct ts_fe *fe = &t->fe;
	struct ts_fe_ring *r = &fe->rings[1];

	switch (step) {
	case FEATURES:
		vd_ok(t, ts_fe_set_u64(fe, TS_SET_FEATURES, fe->features));
		break;
	case ENABLE:
		vd_ok(t, ts_fe_enable(fe, 1, true));
		break;
	case CALL:
		vd_ok(t, ts_fe_set_fd(fe, TS_SET_VRING_CALL, 1, r->call));
		break;
	case ERR:
		vd_ok(t, ts_fe_set_fd(fe, TS_SET_VRING_ERR, 1, r->kick));
		break;
	case NUM:
		vd_ok(t, ts_fe_set_state(fe, TS_SET_VRING_NUM, 1, VD_RING_SIZE));
		break;
	case BASE:
		vd_ok(t, ts_fe_set_state(fe, TS_SET_VRING_BASE, 1, start_base(t)));
		break;
	case ADDR:
		vd_ok(t, ts_fe_set_addr(fe, 1));
		break;
	case MEM:
		vd_ok(t, ts_fe_set_mem_table(fe));
		break;
	default:
		vd_ok(t, ts_fe_set_fd(fe, TS_SET_VRING_KICK, 1, r->kick));
		break;
	}
}

/* A ring that a back-end which died left ten chains behind in. */
static void ready_ring(struct vd *t)
{
	vd_conf(t, 1);
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	t->fe.need_reply = UINT64_MAX & ~TS_BIT(TS_GET_FEATURES);
	t->fe.rings[0].base = t->fe.rings[1].base = vd_base(t, START_AT);
	vd_connect(t);
	vd_start(t);
	vd_disconnect(t);
}

/* Whatever the order: this is what comes out. */
static void assert_running(struct vd *t)
{
	struct vu_ring_info info = vd_ring_info(t, 1);

	if (!info.usable || info.avail != (uint16_t)start_base(t))
		fail_msg("started %d enabled %d usable %d base %u; device: %s", info.started,
			info.enabled, info.usable, info.avail, vd_info(t).last_error);
	assert_int_equal(info.num, VD_RING_SIZE);
	assert_int_equal(info.used, (uint16_t)vd_base(t, USED_AT));
	assert_true(info.call_fd >= 0 && info.kick_fd >= 0);
	assert_int_equal(info.fault, VIRTQ_FAULT_NONE);
	/* The base is where we take, not where we give back. */
	vd_ok(t, ts_fe_get_base(&t->fe, 1));
	assert_int_equal(t->fe.rings[1].base, start_base(t));
}

static void send_all(struct vd *t, const enum step *order, unsigned n)
{
	ts_ring_reset(t->fe.rings[1].ring, start_base(t));
	if (!t->format)
		t->fe.rings[1].ring->used->idx = USED_AT;
	vd_connect(t);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	for (unsigned i = 0; i < n; i++)
		send_step(t, order[i]);
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_running(t);
	vd_disconnect(t);
}

/* All permutations of the first n, by Heap's algorithm. */
static void permute(struct vd *t, enum step *all, enum step *part, unsigned n)
{
	if (n <= 1) {
		send_all(t, all, STEPS);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		unsigned j = n & 1 ? 0 : i;
		enum step swap;

		permute(t, all, part, n - 1);
		swap = part[j];
		part[j] = part[n - 1];
		part[n - 1] = swap;
	}
}

static void trap_5_2_every_order_before_the_rings(void **state)
{
	enum step order[] = {FEATURES, ENABLE, CALL, ERR, MEM, NUM, BASE, ADDR, KICK};
	struct vd *t = *state;

	ready_ring(t);
	permute(t, order, order, 4);
}

static void trap_5_2_every_order_of_the_ring(void **state)
{
	enum step order[] = {FEATURES, ENABLE, CALL, ERR, MEM, NUM, BASE, ADDR, KICK};
	struct vd *t = *state;

	ready_ring(t);
	permute(t, order, order + 5, 3);
}

/* Not even the kick need be last; only the base must come before the ring starts. */
static bool base_in_time(const enum step *order)
{
	for (unsigned i = STEPS; i-- > 0;) {
		if (order[i] == BASE)
			return false;
		if (order[i] != ENABLE && order[i] != CALL && order[i] != ERR)
			return true;
	}
	return false;
}

static void trap_5_2_any_order(void **state)
{
	enum step order[] = {FEATURES, ENABLE, CALL, ERR, MEM, NUM, BASE, ADDR, KICK};
	struct vd *t = *state;
	struct ts_rng rng;

	ts_rng_init(&rng, ts_seed());
	ready_ring(t);
	for (unsigned round = 0; round < 1000; round++) {
		for (unsigned i = STEPS - 1; i > 0; i--) {
			unsigned j = ts_rand_below(&rng, i + 1);
			enum step swap = order[i];

			order[i] = order[j];
			order[j] = swap;
		}
		if (base_in_time(order))
			send_all(t, order, STEPS);
	}
}

/* Only what is known to be missing keeps a ring from running. */
static void trap_5_2_anything_missing(void **state)
{
	static const enum step all[] = {FEATURES, ENABLE, CALL, ERR, MEM, NUM, BASE, ADDR, KICK};
	struct vd *t = *state;

	ready_ring(t);
	for (unsigned missing = 0; missing < STEPS; missing++) {
		bool needed = missing != CALL && missing != ERR && missing != BASE;

		vd_connect(t);
		vd_ok(t, ts_fe_negotiate(&t->fe));
		for (unsigned i = 0; i < STEPS; i++)
			if (all[i] != missing)
				send_step(t, all[i]);
		vd_ok(t, ts_fe_barrier(&t->fe));
		assert_int_equal(vd_ring_info(t, 1).usable, !needed);
		if (needed) {
			send_step(t, (enum step)missing);
			vd_ok(t, ts_fe_barrier(&t->fe));
			assert_true(vd_ring_info(t, 1).usable);
		}
		vd_disconnect(t);
	}
}

/* cloud-hypervisor restores a guest without asking what we offer. */
static void trap_5_2_no_questions_asked(void **state)
{
	struct vd *t = *state;
	uint64_t features;

	ready_ring(t);
	features = t->fe.features;
	vd_connect(t);
	t->fe.features = features;
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_PROTOCOL_FEATURES,
			 TS_BIT(TS_PROTO_MQ) | TS_BIT(TS_PROTO_REPLY_ACK)));
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_true(vd_ring_info(t, 0).usable && vd_ring_info(t, 1).usable);
}

#define N_PROFILES 7

int main(int argc, char **argv)
{
	const struct CMUnitTest orders[] = {
		VD_BOTH(trap_5_2_every_order_before_the_rings),
		VD_BOTH(trap_5_2_every_order_of_the_ring),
		VD_BOTH(trap_5_2_any_order),
		VD_BOTH(trap_5_2_anything_missing),
		VD_BOTH(trap_5_2_no_questions_asked),
	};
	struct CMUnitTest tests[TS_ARRAY_SIZE(orders) + 3 * N_PROFILES];
	static struct front_end who[2 * N_PROFILES];
	static char names[3 * N_PROFILES][64];
	size_t n = TS_ARRAY_SIZE(orders), k = 0;

	memcpy(tests, orders, sizeof(orders));
	for (unsigned i = 0; ts_profiles[i / 2]; i++) {
		const char *name = ts_profiles[i / 2]->name, *format = i & 1 ? "packed" : "split";

		assert_true(i / 2 < N_PROFILES);
		who[i] = (struct front_end){ts_profiles[i / 2], i & 1};
		snprintf(names[k], sizeof(names[0]), "life[%s,%s]", name, format);
		tests[n++] = (struct CMUnitTest){names[k++], life, setup, vd_teardown, &who[i]};
		if (who[i].packed) /* the bytes are the same */
			continue;
		snprintf(names[k], sizeof(names[0]), "cut_at_every_byte[%s]", name);
		tests[n++] = (struct CMUnitTest){
			names[k++], cut_at_every_byte, setup, vd_teardown, &who[i]};
	}
	return ts_run_tests(tests, n, argc, argv);
}

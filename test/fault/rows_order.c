/* SPDX-License-Identifier: BSD-3-Clause */
/* M9, M14, M15: messages in any order and at any rate, and the eventfds they bring. */
#include "rows.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ts_raw.h"

/* ---- M9: order ---- */

/* What starts a ring, in an order of the case's own. */
static const struct ts_step parts[] = {
	{.op = TS_S_SET_FEATURES},
	{.op = TS_S_MEM_TABLE},
	{.op = TS_S_NUM},
	{.op = TS_S_BASE},
	{.op = TS_S_ADDR},
	{.op = TS_S_KICK},
	{.op = TS_S_CALL},
	{.op = TS_S_ENABLE, .arg = TS_ON},
};

#define PARTS TS_ARRAY_SIZE(parts)

static bool starts(enum ts_step_op op)
{
	return op != TS_S_CALL && op != TS_S_ENABLE;
}

/* Once all else is there the ring runs, and then it is too late to say how. */
static bool too_late(const struct ts_step *order)
{
	for (unsigned i = PARTS; i-- > 0;)
		if (starts(order[i].op))
			return order[i].op == TS_S_BASE || order[i].op == TS_S_SET_FEATURES;
	return false;
}

static void shuffle(struct ts_step *order, struct ts_rng *rng)
{
	memcpy(order, parts, sizeof(parts));
	for (unsigned i = PARTS; i > 1; i--) {
		unsigned k = ts_rand_below(rng, i);
		struct ts_step s = order[i - 1];

		order[i - 1] = order[k];
		order[k] = s;
	}
}

void fault_any_order(struct fault *f, const struct fault_case *c)
{
	struct ts_step order[PARTS], steps[3 * PARTS + 1];
	struct vd *t = f->t;
	struct ts_rng rng;
	unsigned n = 0;

	ts_rng_init(&rng, 0x9000 + c->arg[0]);
	do
		shuffle(order, &rng);
	while (too_late(order));
	for (unsigned i = 0; i < PARTS; i++) {
		bool each = order[i].op != TS_S_SET_FEATURES && order[i].op != TS_S_MEM_TABLE;

		if (each)
			steps[n++] = (struct ts_step){.op = TS_S_EACH_RING};
		steps[n++] = order[i];
		if (each)
			steps[n++] = (struct ts_step){.op = TS_S_NEXT};
	}
	steps[n] = (struct ts_step){.op = TS_S_END};
	fault_leave(f);
	vd_front_end(t, &ts_qemu_10);
	vd_connect(t);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, TS_RING_SHUFFLE));
	vd_ok(t, ts_fe_run(&t->fe, steps));
	vd_ok(t, ts_fe_barrier(&t->fe));
	fault_traffic(f);
}

/* One message, and it is the first there is. A polite start on the same connection still works. */
void fault_alone(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	struct ts_msg m;

	fault_leave(f);
	vd_front_end(t, &ts_qemu_10);
	vd_connect(t);
	c->msg->right(t, &m);
	m.hdr.flags |= c->arg[0] ? TS_NEED_REPLY : 0;
	vd_ok(t, ts_send_msg(&t->fe, &m));
	vd_run(t);
	if (vd_info(t).connection == VU_WAITING || c->msg->has_answer || c->arg[0]) {
		struct ts_reply r;

		if (ts_recv_reply(&t->fe, &r) == 0)
			ts_reply_close(&r);
	}
	if (vd_info(t).connection == VU_WAITING) {
		vd_connect(t);
	} else if (c->msg->id == TS_SET_VRING_KICK || c->msg->id == TS_SET_VRING_BASE) {
		vd_ok(t, ts_fe_get_base(&t->fe, 3));
		t->fe.rings[3].base = TS_FRESH;
	}
	vd_start(t);
	fault_traffic(f);
}

static void swallow(struct fault *f)
{
	struct ts_reply r;

	while (ts_recv_reply(&f->t->fe, &r) == 0) {
		ts_reply_close(&r);
		if (ts_fe_quiet(&f->t->fe))
			break;
	}
}

/* The same twice while rings run, and then what there is left is at least a connection that ends. */
static void twice(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;

	for (unsigned i = 0; i < 2; i++) {
		struct ts_msg m;

		c->msg->right(t, &m);
		m.hdr.flags |= TS_NEED_REPLY;
		if (ts_send_msg(&t->fe, &m) != 0)
			break;
		swallow(f);
	}
	fault_neighbours_answer(f);
}

/* Features that a running ring was not built for. */
static void other_features(struct fault *f, const struct fault_case *c)
{
	uint64_t features = f->t->fe.features ^ TS_BIT(c->arg[0]);
	struct ts_msg m;

	ts_msg_make(&m, TS_SET_FEATURES, &features, sizeof(features));
	fault_refused(f, &m);
}

void fault_base_twice(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;

	for (unsigned i = 0; i < 4; i++) {
		uint32_t base;

		vd_ok(t, ts_fe_get_base(&t->fe, i));
		base = t->fe.rings[i].base;
		assert_int_equal(base, vd_shown(t, i));
		for (unsigned k = 0; k < 3; k++) {
			vd_ok(t, ts_fe_get_base(&t->fe, i));
			assert_int_equal(t->fe.rings[i].base, base);
		}
	}
	if (c->arg[0]) /* and on from there */
		for (unsigned i = 0; i < 4; i++) {
			vd_ok(t,
				ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, i, t->fe.rings[i].base));
			vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, i, t->fe.rings[i].kick));
		}
	vd_ok(t, ts_fe_barrier(&t->fe));
	if (c->arg[0])
		fault_traffic(f);
}

/* Somebody else at the same path is turned away as long as the first one is there. */
static void second_connection(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	struct ts_fe other;
	bool away;

	ts_fe_init(&other, &ts_qemu_10, t->guest);
	other.pump = t->fe.pump;
	other.pump_arg = t->fe.pump_arg;
	away = ts_fe_connect(&other, t->path) == 0 && ts_fe_closed(&other);
	ts_fe_free(&other);
	assert_true(away);
	assert_true(vd_logged(t, "a second front-end was turned away"));
	assert_int_equal(vd_info(t).connections, 1);
	vd_ok(t, ts_fe_barrier(&t->fe));
	if (c->phase != FAULT_NEW)
		fault_traffic(f);
}

static void m9(void)
{
	static const unsigned bits[] = {VIRTIO_NET_F_MRG_RXBUF, VIRTIO_F_VERSION_1,
		VIRTIO_F_RING_PACKED, VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX,
		VIRTIO_NET_F_CSUM, VIRTIO_F_ACCESS_PLATFORM, TS_F_PROTOCOL_FEATURES, 63};

	for (unsigned i = 0; i < 60; i++)
		fault_add(&(struct fault_case){.run = fault_any_order, .arg = {i}}, "M9_order[%u]",
			i);
	FAULT_EACH_MSG(row)
	{
		for (unsigned i = 0; i < 2; i++)
			fault_add(&(struct fault_case){.run = fault_alone, .msg = row, .arg = {i}},
				"M9_first of all[%s,%s]", row->name, i ? "NEED_REPLY" : "no reply");
		for (unsigned phase = 1; phase < FAULT_PHASES; phase++)
			fault_add(
				&(struct fault_case){
					.run = twice, .msg = row, .phase = (enum fault_phase)phase},
				"M9_twice[%s,%s]", row->name, fault_phase_names[phase]);
	}
	for (unsigned i = 0; i < TS_ARRAY_SIZE(bits); i++)
		fault_add(
			&(struct fault_case){
				.run = other_features, .phase = FAULT_RUNNING, .arg = {bits[i]}},
			"M9_SET_FEATURES[bit %u turned,running]", bits[i]);
	for (unsigned i = 0; i < 2; i++)
		for (unsigned phase = 1; phase < FAULT_PHASES; phase++)
			fault_add(&(struct fault_case){.run = fault_base_twice,
					  .phase = (enum fault_phase)phase,
					  .arg = {i}},
				"M9_GET_VRING_BASE again[%s,%s]", i ? "and on" : "and stop",
				fault_phase_names[phase]);
	for (unsigned phase = 0; phase < FAULT_PHASES; phase++)
		fault_add(&(struct fault_case){.run = second_connection,
				  .phase = (enum fault_phase)phase},
			"M9_second connection[%s]", fault_phase_names[phase]);
}

/* ---- M14: as often as can be ---- */

static void enable_toggled(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;

	t->fe.need_reply = c->arg[1] ? UINT64_MAX : 0;
	for (unsigned i = 0; i < 1000; i++) {
		unsigned ring = c->arg[0] < 4 ? (unsigned)c->arg[0] : i / 2 % 4;

		vd_ok(t, ts_fe_enable(&t->fe, ring, i & 1));
		if (i % 50 == 0)
			fault_neighbours_answer(f);
	}
	vd_ok(t, ts_fe_barrier(&t->fe));
	fault_traffic(f);
}

/* The largest port there is. */
static void all_pairs_toggled(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;

	fault_leave(f);
	fault_pairs(f, VD_PAIRS_MAX, false);
	vd_front_end(t, &ts_qemu_10);
	vd_connect(t);
	t->fe.need_reply = c->arg[0] ? UINT64_MAX : 0;
	vd_ok(t, ts_fe_negotiate(&t->fe));
	if (c->arg[1]) {
		vd_ok(t, ts_fe_make_rings(&t->fe, 0, 16, 0));
		vd_ok(t, ts_fe_start(&t->fe));
	}
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < 2 * VD_PAIRS_MAX; i++)
			vd_ok(t, ts_fe_enable(&t->fe, i, round & 1));
		fault_neighbours_answer(f);
	}
	fault_leave(f);
	ts_fe_free(&t->fe);
	fault_pairs(f, 2, false);
}

/* The guest binds and unbinds its driver, as its front-end tells that. */
static void driver_flaps(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;

	fault_leave(f);
	vd_front_end(t, c->data);
	t->fe.pairs = t->fe.active = 1;
	vd_connect(t);
	for (unsigned i = 0; i < 50; i++) {
		if (i == 0 || c->arg[0])
			vd_ok(t, ts_fe_negotiate(&t->fe));
		ts_guest_forget(t->guest);
		ts_fe_boot_anew(&t->fe);
		vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, 0));
		vd_ok(t, ts_fe_start(&t->fe));
		vd_guest_sends(t, 1, 10);
		vd_ok(t, ts_fe_stop(&t->fe));
	}
	vd_ok(t, ts_fe_barrier(&t->fe));
}

/* Connections that come and go as fast as they can. */
static void connection_flaps(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;

	fault_leave(f);
	for (unsigned i = 0; i < 50; i++) {
		vd_connect(t);
		if (c->arg[0])
			vd_start(t);
		if (c->arg[0] > 1)
			vd_guest_sends(t, 1, 50);
		fault_leave(f);
	}
}

static void m14(void)
{
	static const char *const flaps[] = {"silent", "started", "under load"};

	for (unsigned i = 0; i < 5; i++)
		for (unsigned k = 0; k < 4; k++)
			fault_add(&(struct fault_case){.run = enable_toggled,
					  .phase = k / 2 ? FAULT_MIGRATING : FAULT_RUNNING,
					  .arg = {i, k & 1}},
				"M14_SET_VRING_ENABLE[ring %s,%s,%s]",
				(const char *[]){"0", "1", "2", "3", "any"}[i],
				k & 1 ? "NEED_REPLY" : "no reply", fault_phase_names[1 + k / 2]);
	for (unsigned i = 0; i < 4; i++)
		fault_add(&(struct fault_case){.run = all_pairs_toggled, .arg = {i & 1, i / 2}},
			"M14_128 pairs toggled[%s,%s]", i & 1 ? "NEED_REPLY" : "no reply",
			i / 2 ? "started" : "not started");
	for (unsigned p = 0; ts_profiles[p]; p++)
		fault_add(&(struct fault_case){.run = driver_flaps, .data = ts_profiles[p]},
			"M14_driver bound and unbound[%s]", ts_profiles[p]->name);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(flaps); i++)
		fault_add(&(struct fault_case){.run = connection_flaps, .arg = {i}},
			"M14_connected and gone[%s]", flaps[i]);
}

/* ---- M15: eventfds ---- */

enum event_kind {
	FULL,
	FULL_BLOCKING,
	SEMAPHORE,
	CLOSED_HERE,
	ONE_FOR_ALL,
	OWN_EPOLL,
};

static const char *const event_kinds[] = {
	"full", "full and blocking", "semaphore", "closed here", "one for all", "own epoll"};

/* The control thread's own epoll instance, as a front-end that could get at it would send it. */
static int own_epoll(void)
{
	char path[300], to[40];
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;
	int fd = -1;

	assert_non_null(dir);
	while (fd < 0 && (e = readdir(dir)) != NULL) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/fd/%s", e->d_name);
		n = readlink(path, to, sizeof(to) - 1);
		if (n > 0 && strncmp(to, "anon_inode:[eventpoll]", (size_t)n) == 0)
			fd = atoi(e->d_name);
	}
	closedir(dir);
	assert_true(fd >= 0);
	return dup(fd);
}

static int event_of(enum event_kind kind)
{
	const uint64_t full = UINT64_MAX - 1;
	int fd;

	if (kind == OWN_EPOLL)
		return own_epoll();
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | (kind == SEMAPHORE ? EFD_SEMAPHORE : 0));
	assert_true(fd >= 0);
	if (kind == FULL || kind == FULL_BLOCKING)
		assert_int_equal(write(fd, &full, sizeof(full)), sizeof(full));
	return fd;
}

static void give(struct fault *f, uint32_t request, unsigned ring, int fd)
{
	const uint64_t word = ring;
	struct ts_msg m;

	ts_msg_make(&m, request, &word, request == TS_SET_LOG_FD ? 0 : sizeof(word));
	m.fds[m.n_fds++] = fd;
	vd_ok(f->t, ts_send_msg(&f->t->fe, &m));
	vd_ok(f->t, ts_fe_barrier(&f->t->fe));
}

/* Calls are wanted, so each burst makes one. */
static void calls(struct fault *f)
{
	struct vd *t = f->t;

	for (unsigned i = 0; i < 20 && vd_info(t).connection == VU_CONNECTED; i++) {
		for (unsigned ring = 1; ring < 4; ring += 2) {
			vd_guest_takes(t, ring);
			ts_ring_enable_cb(t->fe.rings[ring].ring);
			vd_guest_adds(t, ring, 5);
		}
		vd_run_ms(t, 2);
		fault_neighbours_answer(f);
	}
}

static void use(struct fault *f, uint32_t request)
{
	struct vd *t = f->t;

	switch (request) {
	case TS_SET_VRING_CALL:
		calls(f);
		break;
	case TS_SET_VRING_ERR:
		ts_raw_break(t->fe.rings[1].ring);
		assert_true(VD_WAIT(t, vd_ring_info(t, 1).fault != VIRTQ_FAULT_NONE, 5000));
		vd_run_ms(t, 120);
		break;
	case TS_SET_LOG_FD:
		vd_run_ms(t, 250); /* two of its turns */
		break;
	default:
		vd_run_ms(t, 20);
		break;
	}
}

static void event(struct fault *f, const struct fault_case *c)
{
	const enum event_kind kind = (enum event_kind)c->arg[0];
	const uint32_t request = c->msg->id;
	struct vd *t = f->t;
	int fd = event_of(kind);

	for (unsigned i = 0; i < (kind == ONE_FOR_ALL && request != TS_SET_LOG_FD ? 4u : 1u); i++)
		give(f, request, kind == ONE_FOR_ALL ? i : 1, fd);
	f->may_sleep = kind == FULL_BLOCKING && request == TS_SET_VRING_CALL;
	if (kind == FULL_BLOCKING)
		assert_int_equal(fcntl(fd, F_SETFL, O_RDWR), 0);
	if (kind == CLOSED_HERE)
		close(fd);
	use(f, request);
	fault_neighbours_answer(f);
	if (f->may_sleep)
		fault_closed(f, "its call eventfd was made to block an lcore");
	else if (request == TS_SET_VRING_ERR)
		assert_int_equal(vd_info(t).trouble, VU_TROUBLE_PARKED);
	else if (request != TS_SET_VRING_CALL)
		fault_traffic(f);
	if (kind ==
		OWN_EPOLL) { /* it is the test's as well, and was not to be one that does not block */
		fault_leave(f);
		assert_int_equal(fcntl(fd, F_SETFL, O_RDWR), 0);
	}
	if (kind != CLOSED_HERE)
		close(fd);
}

static void m15(void)
{
	FAULT_EACH_MSG(row)
	{
		const bool log = row->id == TS_SET_LOG_FD;

		if (!log && (row->id < TS_SET_VRING_KICK || row->id > TS_SET_VRING_ERR))
			continue;
		for (unsigned i = 0; i < TS_ARRAY_SIZE(event_kinds); i++)
			fault_add(&(struct fault_case){.run = event,
					  .msg = row,
					  .phase = log ? FAULT_MIGRATING : FAULT_RUNNING,
					  .arg = {i}},
				"M15_eventfd[%s,%s]", row->name, event_kinds[i]);
	}
}

void rows_order(void)
{
	m9();
	m14();
	m15();
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The control thread against an lcore that works, and against one that does not come out. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vd.h"

#define TIME_MS 1000

static uint64_t count_of(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

/* Keep a ring busy; how many frames went in. */
static uint64_t feed(struct vd *t, unsigned ring)
{
	unsigned n = t->fe.rings[ring].ring->n_free / 4;

	vd_guest_reaps(t, ring);
	vd_guest_sends(t, ring, n);
	return n;
}

/* ---- an lcore at work ---- */

/* What was told is true, and nothing moves after it was told. */
static void trap_5_3_stop_one_ring_of_two(void **state)
{
	struct vd *t = *state;
	uint64_t end = ts_now_ms() + TIME_MS, sent = 0;
	unsigned round;

	vd_listen(t, 2, &ts_qemu_10);
	vd_start(t);
	vd_poll_begin(t);
	for (round = 0; round < 20 || ts_now_ms() < end; round++) {
		struct ts_ring *stopped = t->fe.rings[1].ring;
		uint64_t other = virtq_load(&t->ring[3].consumed);
		uint32_t used, more;

		sent += feed(t, 1);
		feed(t, 3);
		vd_ok(t, ts_fe_get_base(&t->fe, 1));
		used = vd_shown(t, 1);
		assert_int_equal(t->fe.rings[1].base, used);
		vd_guest_reaps(t, 1);
		assert_int_equal(virtq_load(&t->ring[1].consumed), sent - stopped->n_out);
		ts_ring_calls(stopped);
		more = stopped->n_free / 4;
		vd_guest_sends(t, 1, more);
		sent += more;
		feed(t, 3);
		assert_true(TS_WAIT(virtq_load(&t->ring[3].consumed) > other, 2000));
		assert_int_equal(vd_shown(t, 1), used);
		assert_int_equal(ts_ring_calls(stopped), 0);
		vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, 1, used));
		vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, 1, t->fe.rings[1].kick));
	}
	fprintf(stderr, "# %u stops\n", round);
}

/* Once the change is acknowledged the old eventfd is silent. */
static void call_is_switched(void **state)
{
	struct vd *t = *state;
	uint64_t end = ts_now_ms() + TIME_MS;
	unsigned round;

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	vd_poll_begin(t);
	for (round = 0; round < 20 || ts_now_ms() < end; round++) {
		int old;

		ts_ring_enable_cb(t->fe.rings[1].ring);
		feed(t, 1);
		vd_ok(t, ts_fe_new_call(&t->fe, 1, &old));
		count_of(old);
		feed(t, 1);
		assert_true(TS_WAIT(vd_all_used(t, 1), 2000));
		assert_int_equal(count_of(old), 0);
		close(old);
	}
	fprintf(stderr, "# %u switches, %llu calls\n", round,
		(unsigned long long)virtq_load(&vu_device_ring(t->dev, 1)->stats.calls));
}

static void gone_and_back(void **state)
{
	struct vd *t = *state;
	uint64_t end = ts_now_ms() + TIME_MS;
	unsigned round;

	vd_listen(t, 2, &ts_qemu_10);
	vd_poll_begin(t);
	for (round = 0; round < 20 || ts_now_ms() < end; round++) {
		vd_start(t);
		for (unsigned i = 0; i < 5; i++) {
			feed(t, 1);
			feed(t, 3);
		}
		vd_disconnect(t);
		vd_connect(t);
	}
	fprintf(stderr, "# %u connections\n", round);
}

/* ---- an lcore that is stuck inside a ring ---- */

static void stick(struct vd *t, unsigned ring)
{
	virtq_store(&t->ring[ring].hold, true);
	assert_true(TS_WAIT(virtq_load(&t->ring[ring].held), 5000));
}

static void let_go(struct vd *t, unsigned ring)
{
	virtq_store(&t->ring[ring].hold, false);
}

/* Its call eventfd must not become somebody else's descriptor while it may still write to it. */
static void stuck_keeps_what_it_uses(void **state)
{
	struct vd *t = *state;
	int other[64], old, maps;

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	ts_ring_enable_cb(t->fe.rings[1].ring);
	vd_poll_begin(t);
	stick(t, 1);
	vd_guest_sends(t, 1, 10);
	maps = ts_count_maps("memfd:ts-guest");
	t->fe.timeout_ms = 5000;
	assert_int_not_equal(ts_fe_new_call(&t->fe, 1, &old), 0);
	close(old);
	vd_disconnect(t);
	assert_int_equal(ts_count_maps("memfd:ts-guest"), maps);
	/* These take the lowest free numbers. */
	for (unsigned i = 0; i < TS_ARRAY_SIZE(other); i++)
		other[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	let_go(t, 1);
	assert_true(TS_WAIT(virtq_load(&t->ring[1].consumed) == 10, 2000));
	assert_true(VD_WAIT(t, ts_count_maps("memfd:ts-guest") < maps, 2000));
	for (unsigned i = 0; i < TS_ARRAY_SIZE(other); i++) {
		assert_int_equal(count_of(other[i]), 0);
		close(other[i]);
	}
}

/* GET_VRING_BASE cannot be answered while the ring may still move. */
static void stuck_has_no_base(void **state)
{
	struct vd *t = *state;

	vd_listen(t, 2, &ts_qemu_10);
	vd_start(t);
	vd_poll_begin(t);
	stick(t, 1);
	t->fe.timeout_ms = 5000;
	assert_int_equal(ts_fe_get_base(&t->fe, 1), -ECONNRESET);
	assert_true(vd_logged(t, "an lcore has not left a ring within 1000 ms: is it stopped?"));
	vd_disconnect(t);
	let_go(t, 1);
}

/* What was neither done nor refused has no answer: the connection ends, and with it what was said. */
static void stuck_has_no_answer(void **state)
{
	struct vd *t = *state;

	vd_listen(t, 2, &ts_qemu_10);
	vd_start(t);
	vd_poll_begin(t);
	stick(t, 1);
	t->fe.timeout_ms = 5000;
	t->fe.need_reply = UINT64_MAX;
	assert_int_equal(ts_fe_enable(&t->fe, 1, false), -ECONNRESET);
	assert_string_equal(vd_info(t).last_error, "an lcore does not leave a ring");
	assert_false(vd_ring_info(t, 1).started || vd_ring_info(t, 3).usable);
	let_go(t, 1);
	vd_disconnect(t);
	vd_connect(t);
	vd_start(t);
	assert_true(VD_WAIT(t, vd_ring_info(t, 1).usable && vd_ring_info(t, 3).usable, 2000));
}

/* The next front-end is served, its ring only when the lcore has left it. */
static void stuck_ring_waits(void **state)
{
	struct vd *t = *state;

	vd_listen(t, 2, &ts_qemu_10);
	t->fe.rings[1].base = vd_base(t, 500);
	vd_start(t);
	vd_poll_begin(t);
	stick(t, 1);
	vd_guest_sends(t, 1, 10); /* it may yet take these, once */
	vd_disconnect(t);
	t->fe.rings[1].base = vd_base(t, 9);
	vd_connect(t);
	vd_start(t);
	assert_true(vd_ring_info(t, 0).usable);
	assert_false(vd_ring_info(t, 1).usable);
	assert_true(vd_ring_info(t, 1).started);
	let_go(t, 1);
	assert_true(VD_WAIT(t, vd_ring_info(t, 1).usable, 2000));
	vd_guest_sends(t, 1, 10);
	assert_true(TS_WAIT(vd_all_used(t, 1), 2000));
	assert_int_equal(vd_guest_reaps(t, 1), 10);
	vd_poll_end(t);
	vd_assert_traffic(t, 0, 2);
}

/* An lcore as slow as can be: it has said that it comes in, and finds the view only later. */
struct slow_lcore {
	struct virtq_gate *gate;
	const struct virtq_view *view; /* what it found */
	struct virtq_view *before;     /* not this one */
	bool leave;
};

static void *slow_lcore(void *arg)
{
	struct slow_lcore *l = arg;
	struct virtq_view *v;

	while ((v = virtq_gate_view(l->gate)) == l->before)
		virtq_pause();
	l->view = v;
	while (!virtq_load(&l->leave))
		ts_nap();
	virtq_gate_leave(l->gate);
	return NULL;
}

/* It may be in with the view that was to replace the one that was taken away: both must live. */
static void stuck_with_either_view(void **state)
{
	struct vd *t = *state;
	struct slow_lcore l = {.leave = false};
	pthread_t thread;
	int maps, guest_maps;

	vd_conf(t, 1);
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	guest_maps = ts_count_maps("memfd:ts-guest");
	vd_connect(t);
	vd_start(t);
	l.gate = &vu_device_ring(t->dev, 1)->gate;
	l.before = virtq_gate_view(l.gate);
	virtq_store(&l.gate->turn, l.gate->turn + 1);
	assert_int_equal(pthread_create(&thread, NULL, slow_lcore, &l), 0);

	t->fe.timeout_ms = 5000;
	t->guest->r[1].size -= 4096; /* another mapping */
	assert_int_equal(ts_fe_set_mem_table(&t->fe), -ECONNRESET);
	t->guest->r[1].size += 4096;
	maps = ts_count_maps("memfd:ts-guest");
	vd_disconnect(t);
	vd_run_ms(t, 250);
	if (l.view) /* else it found the gate closed */
		assert_int_equal(ts_count_maps("memfd:ts-guest"), maps);
	virtq_store(&l.leave, true);
	pthread_join(thread, NULL);
	assert_non_null(l.view);
	assert_true(VD_WAIT(t, ts_count_maps("memfd:ts-guest") == guest_maps, 2000));
}

/* The front-end shares the call eventfd, fills it and makes it blocking: the lcore sleeps in the
 * call until control notices, wakes it and ends that connection. */
static void call_made_to_block(void **state)
{
	const uint64_t full = UINT64_MAX - 1;
	struct vd *t = *state;
	struct vu_info info;
	int fd;

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	vd_poll_begin(t);
	fd = t->fe.rings[1].ring->call_fd;
	count_of(fd);
	assert_int_equal(write(fd, &full, sizeof(full)), sizeof(full));
	assert_int_equal(fcntl(fd, F_SETFL, O_RDWR), 0);
	ts_ring_enable_cb(t->fe.rings[1].ring);
	feed(t, 1);
	for (unsigned i = 0; i < 100; i++) {
		vd_run_ms(t, 20);
		vu_device_info(t->dev, &info);
		if (info.connection == VU_WAITING)
			break;
	}
	assert_int_equal(info.connection, VU_WAITING);
	assert_string_equal(info.last_error, "its call eventfd was made to block an lcore");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(trap_5_3_stop_one_ring_of_two),
		VD_BOTH(call_is_switched),
		VD_BOTH(call_made_to_block),
		VD_BOTH(gone_and_back),
		VD_BOTH(stuck_keeps_what_it_uses),
		VD_BOTH(stuck_has_no_base),
		VD_BOTH(stuck_has_no_answer),
		VD_BOTH(stuck_ring_waits),
		VD_BOTH(stuck_with_either_view),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

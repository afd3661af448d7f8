/* SPDX-License-Identifier: BSD-3-Clause */
/* Bells: what an lcore sleeps by stays, whatever the front-end does with its kick eventfds. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vd.h"

static bool rings(int bell)
{
	struct pollfd p = {.fd = bell, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void ring(int kick)
{
	const uint64_t one = 1;

	assert_int_equal(write(kick, &one, sizeof(one)), sizeof(one));
}

static void send_kick(struct vd *t, unsigned index, int fd)
{
	struct ts_msg m;
	const uint64_t word = index | (fd < 0 ? TS_VRING_NOFD : 0);

	ts_msg_make(&m, TS_SET_VRING_KICK, &word, sizeof(word));
	if (fd >= 0) {
		m.fds[0] = fd;
		m.n_fds = 1;
	}
	vd_ok(t, ts_send_msg(&t->fe, &m));
	vd_ok(t, ts_fe_barrier(&t->fe));
}

static int bell_of(struct vd *t)
{
	int bell = vu_device_bell(t->dev, 1);

	assert_true(bell >= 0);
	assert_int_equal(vu_device_bell(t->dev, 1), bell);
	return bell;
}

static void kicks_are_heard(void **state)
{
	struct vd *t = *state;
	int bell;

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	bell = bell_of(t);
	vu_bell_silence(bell);
	for (unsigned i = 0; i < 3; i++) {
		assert_false(rings(bell));
		ring(t->fe.rings[1].kick);
		ring(t->fe.rings[1].kick);
		assert_true(rings(bell));
		vu_bell_silence(bell);
	}
	ring(t->fe.rings[0].kick);
	assert_false(rings(bell));
	assert_int_equal(vu_device_bell(t->dev, 2), -EINVAL);
}

/* The eventfd that was replaced is still open in the front-end, and must not be heard any more. */
static void trap_5_12_another_eventfd(void **state)
{
	struct vd *t = *state;
	int bell, other = eventfd(0, EFD_NONBLOCK);

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	bell = bell_of(t);
	send_kick(t, 1, other);
	vu_bell_silence(bell);
	ring(t->fe.rings[1].kick);
	assert_false(rings(bell));
	ring(other);
	assert_true(rings(bell));
	vu_bell_silence(bell);
	send_kick(t, 1, -1); /* "poll": nobody will kick */
	ring(other);
	assert_false(rings(bell));
	close(other);
}

static void reconnections(void **state)
{
	struct vd *t = *state;
	int bell, fds = 0;

	vd_listen(t, 1, &ts_qemu_10);
	bell = bell_of(t);
	assert_false(rings(bell));
	for (unsigned i = 0; i < 5; i++) {
		if (i > 0)
			vd_connect(t);
		vd_start(t);
		vu_bell_silence(bell);
		ring(t->fe.rings[1].kick);
		assert_true(rings(bell));
		vd_disconnect(t);
		vu_bell_silence(bell);
		assert_false(rings(bell));
		if (i == 0)
			fds = ts_count_fds(NULL);
		assert_int_equal(ts_count_fds(NULL), fds);
	}
}

/* A RARP to be sent is work, whatever the driver does: the lcore is woken, and does not fall asleep over
 * it. Without a kick eventfd nobody sleeps. */
static void a_rarp_wakes(void **state)
{
	static const uint8_t mac[8] = {0x52, 0x54, 0, 1, 2, 3};
	struct vd *t = *state;
	struct virtq *vq;
	uint8_t got[6];
	uint64_t word;
	int bell;

	memcpy(&word, mac, sizeof(word));
	vd_conf(t, 1);
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	t->fe.want_protocol |= TS_BIT(TS_PROTO_RARP);
	vd_connect(t);
	vd_start(t);
	bell = bell_of(t);
	vq = vu_device_ring(t->dev, 1);
	vu_bell_silence(bell);
	for (unsigned i = 0; i < 5; i++) {
		assert_true(virtq_arm(vq));
		assert_false(rings(bell));
		vd_ok(t, ts_fe_set_u64(&t->fe, TS_SEND_RARP, word));
		vd_ok(t, ts_fe_barrier(&t->fe));
		assert_true(rings(bell));
		vu_bell_silence(bell);
		virtq_disarm(vq);
		assert_false(virtq_arm(vq));
		assert_true(virtq_announced(vq, got));
		assert_memory_equal(got, mac, 6);
	}
	send_kick(t, 1, -1);
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SEND_RARP, word));
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_true(virtq_announced(vq, got));
	assert_false(virtq_arm(vq));
}

/* What is no eventfd could keep whoever asks it waiting. */
static void what_is_no_eventfd(void **state)
{
	struct vd *t = *state;
	FILE *file = tmpfile();
	struct ts_msg m;
	const uint64_t word = 1;

	assert_non_null(file);
	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	ts_msg_make(&m, TS_SET_VRING_KICK, &word, sizeof(word));
	m.fds[0] = fileno(file);
	m.n_fds = 1;
	vd_ok(t, ts_send_msg(&t->fe, &m));
	assert_true(VD_WAIT(t, vd_info(t).connection == VU_WAITING, 2000));
	assert_string_equal(vd_info(t).last_error, "ring 1: its descriptor is not an eventfd");
	fclose(file);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, vd_setup, vd_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(kicks_are_heard),
		VD_BOTH(trap_5_12_another_eventfd),
		VD_BOTH(a_rarp_wakes),
		VD_BOTH(reconnections),
		CASE(what_is_no_eventfd),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

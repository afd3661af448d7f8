/* SPDX-License-Identifier: BSD-3-Clause */
/* How connections come and go: second front-ends, dead ones, missing descriptors, the end. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "vd.h"

/* ---- listening ---- */

static void second_front_end(void **state)
{
	struct vd *t = *state;
	struct ts_fe second;

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	for (unsigned i = 0; i < 20; i++) {
		ts_fe_init(&second, &ts_qemu_10, t->guest);
		second.pump = t->fe.pump;
		second.pump_arg = t;
		assert_int_equal(ts_fe_connect(&second, t->path), 0);
		assert_true(ts_fe_closed(&second));
		ts_fe_free(&second);
		vd_assert_traffic(t, 0, 1);
	}
	assert_true(vd_logged(t, "a second front-end was turned away: one is connected"));
	assert_int_equal(vd_info(t).connections, 1);
	assert_int_equal(t->link_changes, 1);
}

/* Killed and back before we looked, with nothing, little or much left unread. */
static void gone_and_back_at_once(void **state)
{
	static const unsigned unread[] = {0, 1, 14, 4800};
	uint8_t words[4800];
	struct vd *t = *state;

	for (unsigned i = 0; i < sizeof(words); i += sizeof(struct ts_hdr))
		memcpy(words + i, &(struct ts_hdr){TS_SET_OWNER, TS_VERSION, 0}, 12);
	vd_listen(t, 1, &ts_qemu_10);
	for (unsigned i = 0; i < 40; i++) {
		uint64_t before = vd_info(t).connections;

		vd_start(t);
		assert_true(send(t->fe.sock, words, unread[i % 4], MSG_NOSIGNAL) >= 0);
		vd_ok(t, ts_fe_connect(&t->fe, t->path)); /* closes the old one first */
		assert_true(VD_WAIT(t, vd_info(t).connections > before, 2000));
		vd_ok(t, ts_fe_barrier(&t->fe));
	}
	assert_false(vd_logged(t, "a second front-end was turned away"));
}

/* An old refusal is not why this connection ended. */
static void gone_before_the_reply(void **state)
{
	const struct ts_hdr ask = {TS_GET_FEATURES, TS_VERSION, 0};
	struct vd *t = *state;

	vd_listen(t, 1, &ts_qemu_10);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	t->fe.need_reply = UINT64_MAX;
	assert_int_equal(ts_fe_set_state(&t->fe, TS_SET_VRING_NUM, 0, 0), -EREMOTEIO);
	assert_int_equal(send(t->fe.sock, &ask, sizeof(ask), 0), sizeof(ask));
	vd_disconnect(t);
	assert_string_equal(vd_info(t).last_error, "the front-end closed it");
}

static void out_of_descriptors(void **state)
{
	struct vd *t = *state;
	struct rlimit old, low;

	vd_conf(t, 1);
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	vd_ok(t, ts_fe_connect(&t->fe, t->path)); /* waits in the queue */
	low = (struct rlimit){(rlim_t)dup(0), old.rlim_max};
	close((int)low.rlim_cur);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	vd_run_ms(t, 250);
	assert_int_equal(t->n_log, 1); /* said once, not at every attempt */
	assert_true(vd_logged(t, "cannot accept a front-end: Too many open files"));
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_CANNOT_ACCEPT);
	assert_int_equal(vd_info(t).socket_errno, EMFILE);
	ts_fe_disconnect(&t->fe); /* it has lost its patience */
	assert_int_equal(vd_info(t).connections, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_true(VD_WAIT(t, vd_info(t).socket_errno == 0, 2000));
	vd_ok(t, ts_fe_connect(&t->fe, t->path));
	assert_true(VD_WAIT(t, vd_info(t).connection == VU_CONNECTED, 2000));
	vd_start(t);
	vd_assert_traffic(t, 0, 1);
}

/* Messages with descriptors we have no room for: the front-end goes, we stay. */
static void out_of_descriptors_for_a_message(void **state)
{
	struct vd *t = *state;
	struct rlimit old, low;

	vd_listen(t, 1, &ts_qemu_10);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	for (unsigned spare = 0; spare < 2; spare++) {
		int lowest = dup(0), rc;

		close(lowest);
		low = (struct rlimit){(rlim_t)lowest + spare, old.rlim_max};
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
		rc = ts_fe_set_mem_table(&t->fe);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
		assert_int_equal(rc, -ECONNRESET);
		assert_string_equal(vd_info(t).last_error,
			"we are out of file descriptors: raise the limit (ulimit -n)");
		vd_disconnect(t);
		assert_int_equal(ts_count_fds("memfd:ts-guest"), 2);
		vd_connect(t);
		vd_ok(t, ts_fe_negotiate(&t->fe));
	}
	vd_start(t);
	vd_assert_traffic(t, 0, 1);
}

/* ---- connecting ---- */

static void connecting(struct vd *t)
{
	vd_conf(t, 1);
	t->conf.listen = false;
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
}

static void accepted(struct vd *t)
{
	vd_ok(t, ts_fe_accept(&t->fe));
	assert_true(VD_WAIT(t, vd_info(t).connection == VU_CONNECTED, 2000));
}

static void connect_mode(void **state)
{
	struct vd *t = *state;

	vd_conf(t, 1);
	vd_front_end(t, &ts_qemu_10);
	vd_ok(t, ts_fe_listen(&t->fe, t->path));
	t->conf.listen = false;
	vd_create(t);
	for (unsigned i = 0; i < 5; i++) {
		accepted(t);
		vd_start(t);
		vd_assert_traffic(t, 0, 1);
		vd_disconnect(t);
		assert_false(t->link);
	}
	vd_destroy(t);
	assert_int_equal(access(t->path, F_OK), 0); /* not ours */
}

static void connect_before_anybody_listens(void **state)
{
	struct vd *t = *state;

	connecting(t);
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_CONNECT_REFUSED);
	assert_int_equal(vd_info(t).socket_errno, ENOENT);
	vd_run_ms(t, 250);
	assert_int_equal(t->n_log, 1); /* said once, not at every attempt */
	assert_true(vd_logged(t, "yet: No such file or directory"));
	close(vd_socket_at(t->path, SOCK_STREAM, 1));
	assert_true(VD_WAIT(t, vd_info(t).socket_errno == ECONNREFUSED, 2000));
	vd_ok(t, ts_fe_listen(&t->fe, t->path));
	accepted(t);
	assert_int_equal(vd_info(t).socket_errno, 0);
	vd_start(t);
	vd_assert_traffic(t, 0, 1);
}

/* A front-end that listens but never accepts holds nothing up. */
static void connect_to_a_full_queue(void **state)
{
	struct vd *t = *state;
	int fd = vd_socket_at(t->path, SOCK_STREAM, 0), waiting[2];
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	uint64_t start;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", t->path);
	for (unsigned i = 0; i < 2; i++) {
		waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		connect(waiting[i], (struct sockaddr *)&addr, sizeof(addr));
	}
	start = ts_now_ms();
	connecting(t);
	vd_run_ms(t, 250);
	assert_in_range(ts_now_ms() - start, 0, 5000);
	assert_int_equal(vd_info(t).socket_errno, EAGAIN);
	assert_int_equal(vd_info(t).connection, VU_WAITING);
	close(waiting[0]);
	close(waiting[1]);
	close(fd);
	unlink(t->path);
	vd_ok(t, ts_fe_listen(&t->fe, t->path));
	accepted(t);
}

static void disconnect_is_ours_to_say(void **state)
{
	struct vd *t = *state;

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	vd_assert_traffic(t, 0, 1);
	vu_device_disconnect(t->dev, "the operator said so");
	assert_true(ts_fe_closed(&t->fe));
	assert_false(t->link);
	assert_string_equal(vd_info(t).last_error, "the operator said so");
	vu_device_disconnect(t->dev, "twice");
	assert_string_equal(vd_info(t).last_error, "the operator said so");
	vd_connect(t);
	vd_start(t);
	vd_assert_traffic(t, 0, 1);
}

/* ---- attaching ---- */

static void attached(void **state)
{
	struct vd *t = *state;
	int fds, peer, more[2];

	connecting(t);
	fds = ts_count_fds(NULL);
	for (unsigned i = 0; i < 3; i++) {
		vd_ok(t, ts_fe_pair(&t->fe, &peer));
		assert_int_equal(vu_device_attach(t->dev, peer), 0);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, more), 0);
		assert_int_equal(vu_device_attach(t->dev, more[0]), -EBUSY);
		close(more[1]);
		vd_start(t);
		vd_assert_traffic(t, 0, 1);
		vd_disconnect(t);
	}
	assert_int_equal(ts_count_fds(NULL), fds + 8); /* what the front-end has of two rings */
}

/* ---- the end ---- */

/* Deleted with everything in flight. */
static void deleted_at_the_worst_time(void **state)
{
	const struct ts_hdr half = {TS_SET_MEM_TABLE, TS_VERSION, 264};
	struct vd *t = *state;

	for (unsigned round = 0; round < 6; round++) {
		struct ts_msg m;

		vd_listen(t, 2, &ts_qemu_10);
		vd_start(t);
		vd_guest_sends(t, 1, 20);
		vd_ok(t, ts_fe_enable(&t->fe, 3, false));
		vd_guest_sends(t, 3, 20);
		vd_park(t, 1);   /* not yet noticed */
		if (round & 1) { /* half a message, with descriptors */
			ts_msg_make(&m, half.request, NULL, 0);
			m.hdr = half;
			m.fds[m.n_fds++] = t->guest->r[0].fd;
			vd_ok(t, ts_send_msg(&t->fe, &m));
		}
		if (round & 2) { /* answers nobody reads, questions nobody has read */
			const struct ts_hdr ask = {TS_GET_FEATURES, TS_VERSION, 0};

			for (unsigned i = 0; i < 100000; i++)
				if (send(t->fe.sock, &ask, sizeof(ask), MSG_DONTWAIT) < 0)
					break;
		}
		if (round & 4)
			ts_fe_disconnect(&t->fe);
		vd_run(t);
		vd_destroy(t);
		assert_int_equal(event_base_get_num_events(t->base, EVENT_BASE_COUNT_ADDED), 0);
		ts_fe_free(&t->fe);
		ts_guest_free(t->guest);
		t->guest = NULL;
		assert_int_equal(ts_count_maps("memfd:ts-guest"), 0);
	}
}

/* I6 */
static void a_thousand_connections(void **state)
{
	struct vd *t = *state;
	int fds = 0, maps = 0;

	vd_conf(t, 2);
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	for (unsigned i = 0; i < 1000; i++) {
		vd_connect(t);
		if (i % 4 != 3)
			vd_start(t);
		vd_disconnect(t);
		if (i == 10) {
			fds = ts_count_fds(NULL);
			maps = ts_count_maps("memfd");
		}
	}
	assert_int_equal(ts_count_fds(NULL), fds);
	assert_int_equal(ts_count_maps("memfd"), maps);
	assert_int_equal(vd_info(t).connections, 1000);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, vd_setup, vd_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(second_front_end),
		CASE(gone_and_back_at_once),
		CASE(gone_before_the_reply),
		CASE(out_of_descriptors),
		CASE(out_of_descriptors_for_a_message),
		CASE(connect_mode),
		CASE(connect_before_anybody_listens),
		CASE(connect_to_a_full_queue),
		CASE(disconnect_is_ours_to_say),
		CASE(attached),
		VD_BOTH(deleted_at_the_worst_time),
		CASE(a_thousand_connections),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

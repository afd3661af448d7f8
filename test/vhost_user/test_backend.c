/* SPDX-License-Identifier: BSD-3-Clause */
/* The back-end channel as such: who may say what on it, and what its end means. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vd.h"

static void start(struct vd *t)
{
	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	assert_true(t->fe.backend_req >= 0);
}

/* The device closes its end. */
static bool channel_ends(struct vd *t, int fd)
{
	char byte;

	return VD_WAIT(t, recv(fd, &byte, 1, MSG_DONTWAIT) == 0, 1000);
}

static bool channel_lives(struct vd *t, int fd)
{
	char byte;

	vd_run_ms(t, 20);
	return recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static void say(struct vd *t, uint32_t flags, uint32_t size, size_t payload)
{
	uint8_t bytes[sizeof(struct ts_hdr) + 64] = {0};
	const struct ts_hdr h = {1, flags, size};

	memcpy(bytes, &h, sizeof(h));
	assert_int_equal(send(t->fe.backend_req, bytes, sizeof(h) + payload, 0),
		(ssize_t)(sizeof(h) + payload));
}

/* Nobody asked, so any answer is one too many; a connection survives all of it. */
static void what_is_no_answer(void **state)
{
	static const struct {
		uint32_t flags, size;
		size_t payload;
	} rows[] = {
		{TS_VERSION, 8, 8},
		{TS_REPLY, 8, 8},
		{TS_VERSION | TS_REPLY, 0, 0},
		{TS_VERSION | TS_REPLY, 16, 16},
		{TS_VERSION | TS_REPLY, UINT32_MAX, 0},
		{TS_VERSION | TS_REPLY, 8, 8},
	};
	struct vd *t = *state;

	vd_listen(t, 1, &ts_qemu_10);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(rows); i++) {
		vd_start(t);
		say(t, rows[i].flags, rows[i].size, rows[i].payload);
		assert_true(channel_ends(t, t->fe.backend_req));
		vd_assert_traffic(t, 0, 1);
		vd_disconnect(t);
		vd_connect(t);
	}
}

static void closed_by_the_front_end(void **state)
{
	struct vd *t = *state;
	int fds;

	start(t);
	fds = ts_count_fds(NULL);
	close(t->fe.backend_req);
	t->fe.backend_req = -1;
	assert_true(VD_WAIT(t, ts_count_fds(NULL) == fds - 2, 1000));
	assert_true(vd_logged(t, "back-end channel closed: by the front-end"));
	vd_assert_traffic(t, 0, 1);
}

/* Another one takes the place of the first; a socket of another kind does not. */
static void replaced(void **state)
{
	struct vd *t = *state;
	int sv[2], old;

	start(t);
	old = t->fe.backend_req;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sv), 0);
	t->fe.need_reply |= TS_BIT(TS_SET_BACKEND_REQ_FD);
	assert_int_equal(ts_fe_set_backend(&t->fe, sv[0]), -EREMOTEIO);
	close(sv[0]);
	close(sv[1]);
	assert_true(channel_lives(t, old));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	vd_ok(t, ts_fe_set_backend(&t->fe, sv[0]));
	close(sv[0]);
	assert_true(channel_ends(t, old));
	assert_true(channel_lives(t, sv[1]));
	vd_disconnect(t);
	assert_true(channel_ends(t, sv[1]));
	close(sv[1]);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, vd_setup, vd_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(what_is_no_answer),
		CASE(closed_by_the_front_end),
		CASE(replaced),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

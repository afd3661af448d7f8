/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of the test library: connecting, and what hostile senders really put on the wire. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ts_frontend.h"
#include "ts_tap.h"

/* ---- connecting ---- */

static void test_paths(void **state)
{
	struct ts_fe server, client;
	char path[64], twice[200];
	uint64_t t;

	snprintf(path, sizeof(path), "/tmp/ts-selftest-%d.sock", (int)getpid());
	memset(twice, 'x', sizeof(twice));
	twice[sizeof(twice) - 1] = '\0';
	ts_fe_init(&server, &ts_qemu_4, NULL);
	ts_fe_init(&client, &ts_qemu_4, NULL);
	client.timeout_ms = server.timeout_ms = 50;
	assert_int_equal(ts_fe_connect(&client, path), -ENOENT);
	assert_int_equal(ts_fe_connect(&client, twice), -ENAMETOOLONG);
	assert_int_equal(ts_fe_listen(&server, path), 0);
	t = ts_now_ms();
	assert_int_equal(ts_fe_accept(&server), -ETIMEDOUT);
	assert_true(ts_now_ms() - t >= 50);
	assert_int_equal(ts_fe_connect(&client, path), 0);
	assert_int_equal(ts_fe_accept(&server), 0);
	assert_int_equal(ts_send_raw(&client, 1, 1, 0, NULL, 0, NULL, 0), 0);
	assert_false(ts_fe_closed(&server));
	assert_false(ts_fe_closed(&client));
	ts_fe_disconnect(&server);
	assert_true(ts_fe_closed(&client));
	ts_fe_free(&client);
	ts_fe_free(&server);
	assert_int_equal(access(path, F_OK), -1);
}

/* A peer that never reads: writing ends in time. */
static void test_full_socket(void **state)
{
	struct ts_fe fe;
	struct ts_msg m;
	int peer, rc;

	ts_fe_init(&fe, &ts_qemu_4, NULL);
	fe.timeout_ms = 30;
	assert_int_equal(ts_fe_pair(&fe, &peer), 0);
	ts_msg_make(&m, TS_GET_FEATURES, NULL, 0);
	do
		rc = ts_send_msg(&fe, &m);
	while (rc == 0);
	assert_int_equal(rc, -ETIMEDOUT);
	close(peer);
	assert_int_equal(ts_send_msg(&fe, &m), -ECONNRESET);
	ts_fe_free(&fe);
}

/* ---- hostile sending, read by hand ---- */

struct raw {
	struct ts_fe fe;
	int peer;
	int dup_me;
	struct ts_msg m;
};

static void raw_up(struct raw *r)
{
	const uint64_t v = 0x1122334455667788;

	ts_fe_init(&r->fe, &ts_qemu_4, NULL);
	assert_int_equal(ts_fe_pair(&r->fe, &r->peer), 0);
	r->dup_me = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ts_msg_make(&r->m, TS_SET_VRING_KICK, &v, sizeof(v));
	r->m.fds[0] = r->m.fds[1] = r->dup_me;
	r->m.n_fds = 2;
}

static void raw_down(struct raw *r)
{
	close(r->peer);
	close(r->dup_me);
	ts_fe_free(&r->fe);
}

/* One recvmsg() at the peer: bytes, and how many fds came with them. */
static ssize_t take(struct raw *r, void *buf, size_t len, unsigned *n_fds)
{
	char control[CMSG_SPACE(sizeof(int) * TS_MAX_FDS)] __attribute__((aligned(8)));
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct msghdr mh = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(r->peer, &mh, MSG_DONTWAIT);

	*n_fds = 0;
	if (n < 0)
		return n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c))
		for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			close(fd);
			++*n_fds;
		}
	return n;
}

static void test_raw(void **state)
{
	uint8_t buf[200];
	struct ts_hdr h;
	struct raw r;
	unsigned fds;

	raw_up(&r);
	assert_int_equal(ts_send_raw(&r.fe, 77, 0xf, 1000, "abc", 3, &r.dup_me, 1), 0);
	assert_int_equal(take(&r, buf, sizeof(buf), &fds), 15);
	memcpy(&h, buf, sizeof(h));
	assert_int_equal(h.request, 77);
	assert_int_equal(h.flags, 0xf);
	assert_int_equal(h.size, 1000);
	assert_memory_equal(buf + 12, "abc", 3);
	assert_int_equal(fds, 1);
	assert_int_equal(ts_send_raw(&r.fe, 1, 1, 0, NULL, 5000, NULL, 0), -EINVAL);
	raw_down(&r);
}

static void test_many_fds(void **state)
{
	uint8_t buf[200];
	struct raw r;
	unsigned fds;

	raw_up(&r);
	for (unsigned i = 0; i < TS_MAX_FDS; i++)
		r.m.fds[i] = r.dup_me;
	r.m.n_fds = TS_MAX_FDS;
	assert_int_equal(ts_send_msg(&r.fe, &r.m), 0);
	assert_int_equal(take(&r, buf, sizeof(buf), &fds), 20);
	assert_int_equal(fds, TS_MAX_FDS);
	raw_down(&r);
}

static void test_two(void **state)
{
	uint8_t buf[200];
	struct raw r;
	unsigned fds;

	raw_up(&r);
	assert_int_equal(ts_send_two(&r.fe, &r.m, &r.m), 0);
	assert_int_equal(take(&r, buf, sizeof(buf), &fds), 40);
	assert_int_equal(fds, 2);
	assert_memory_equal(buf, buf + 20, 20);
	raw_down(&r);
}

static void test_late_fds(void **state)
{
	uint8_t buf[200];
	struct raw r;
	unsigned fds;

	raw_up(&r);
	assert_int_equal(ts_send_late_fds(&r.fe, &r.m, 12), 0);
	assert_int_equal(take(&r, buf, 12, &fds), 12);
	assert_int_equal(fds, 0);
	assert_int_equal(take(&r, buf, sizeof(buf), &fds), 8);
	assert_int_equal(fds, 2);
	assert_int_equal(ts_send_late_fds(&r.fe, &r.m, 20), -EINVAL);
	raw_down(&r);
}

static void test_cut(void **state)
{
	uint8_t buf[200];
	struct raw r;
	unsigned fds;

	for (size_t at = 0; at <= 20; at++) {
		raw_up(&r);
		assert_int_equal(ts_send_cut(&r.fe, &r.m, at), 0);
		if (at)
			assert_int_equal(take(&r, buf, sizeof(buf), &fds), at);
		assert_int_equal(take(&r, buf, sizeof(buf), &fds), 0);
		raw_down(&r);
	}
}

static void count_pumps(void *arg)
{
	++*(unsigned *)arg;
}

static void test_dribble(void **state)
{
	uint8_t buf[200];
	struct raw r;
	unsigned fds, pumps = 0;
	uint64_t t;

	raw_up(&r);
	r.fe.pump = count_pumps;
	r.fe.pump_arg = &pumps;
	t = ts_now_ms();
	assert_int_equal(ts_send_dribble(&r.fe, &r.m, 2), 0);
	assert_true(ts_now_ms() - t >= 20);
	assert_true(pumps >= 20);
	assert_int_equal(take(&r, buf, 1, &fds), 1);
	assert_int_equal(fds, 2);
	for (unsigned got = 1; got < 20; got++) {
		assert_int_equal(take(&r, buf + got, 1, &fds), 1);
		assert_int_equal(fds, 0);
	}
	assert_int_equal(take(&r, buf, sizeof(buf), &fds), -1);
	raw_down(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_full_socket),
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_many_fds),
		cmocka_unit_test(test_two),
		cmocka_unit_test(test_late_fds),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_dribble),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

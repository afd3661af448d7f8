/* SPDX-License-Identifier: BSD-3-Clause */
/* A stream of bytes and descriptors cut, glued and stalled in every way. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vd_msg.h"

#define FOR_EACH_MSG(row) for (const struct vd_msg *row = vd_msgs; row->id; row++)
#define TIMEOUT_MS        100

static int setup_with(void **state, uint16_t peer_timeout_ms)
{
	struct vd *t;

	vd_setup(state);
	t = *state;
	vd_conf(t, 2);
	t->conf.peer_timeout_ms = peer_timeout_ms;
	t->conf.features |= TS_BIT(VIRTIO_F_ACCESS_PLATFORM);
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	vd_connect(t);
	t->fe.rings[3].base = 0;
	vd_msg_begin();
	vd_msg_negotiate(t);
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, 0);
}

/* For what is about the timeout: the others must not fail on a busy machine. */
static int setup_hasty(void **state)
{
	return setup_with(state, TIMEOUT_MS);
}

static int teardown(void **state)
{
	vd_msg_done();
	return vd_teardown(state);
}

static void make(struct vd *t, const struct vd_msg *row, struct ts_msg *m)
{
	row->right(t, m);
	m->hdr.flags |= TS_NEED_REPLY;
}

/* Then GET_FEATURES must still be answered in step. */
static void answered(struct vd *t, const struct vd_msg *row, const char *how)
{
	struct vd_answer expect = vd_msg_answer(t, row, true, true);
	struct vd_answer last = vd_msg_answer(t, vd_msgs, true, false);
	struct ts_msg m;

	vd_msgs->right(t, &m);
	vd_ok(t, ts_send_msg(&t->fe, &m));
	vd_answer_add(&expect, &last);
	vd_assert_answer(t, &expect, how);
}

static void gone(struct vd *t, const char *why)
{
	assert_true(ts_fe_closed(&t->fe));
	assert_string_equal(vd_info(t).last_error, why);
	assert_int_equal(vd_info(t).connection, VU_WAITING);
	vd_connect(t);
	t->fe.rings[3].base = 0;
}

static void trap_5_7_byte_by_byte(void **state)
{
	struct vd *t = *state;

	FOR_EACH_MSG(row)
	{
		struct ts_msg m;

		make(t, row, &m);
		for (unsigned i = 0; i < sizeof(m.hdr) + m.len; i++)
			vd_run(t);
		vd_ok(t, ts_send_dribble(&t->fe, &m, 0));
		answered(t, row, row->name);
	}
}

/* In two pieces, with a look in between; the descriptors with one of them. */
static void send_in_two(struct vd *t, const struct ts_msg *m, size_t at, unsigned fds_with)
{
	uint8_t bytes[512];
	struct ts_frag frag[2] = {{.data = bytes, .len = at},
		{.data = bytes + at, .len = sizeof(m->hdr) + m->len - at}};

	memcpy(bytes, &m->hdr, sizeof(m->hdr));
	memcpy(bytes + sizeof(m->hdr), m->payload, m->len);
	frag[fds_with].fds = m->fds;
	frag[fds_with].n_fds = m->n_fds;
	vd_ok(t, ts_send_frags(&t->fe, &frag[0], 1));
	vd_run(t);
	vd_ok(t, ts_send_frags(&t->fe, &frag[1], 1));
}

static void trap_5_7_cut_in_two(void **state)
{
	struct vd *t = *state;

	FOR_EACH_MSG(row)
	{
		for (size_t at = 1; at < sizeof(struct ts_hdr) + row->size; at++) {
			struct ts_msg m;

			make(t, row, &m);
			send_in_two(t, &m, at, 0);
			answered(t, row, row->name);
		}
	}
}

/* Every pair of messages in one write. */
static void trap_5_7_two_in_one_write(void **state)
{
	struct vd *t = *state;

	FOR_EACH_MSG(first)
	{
		FOR_EACH_MSG(second)
		{
			struct vd_answer expect, next;
			struct ts_msg a, b;

			make(t, first, &a);
			expect = vd_msg_answer(t, first, true, true);
			make(t, second, &b);
			if (b.n_fds > 0)
				continue;
			/* The table does not have what was to be removed. */
			if (first->id == TS_SET_MEM_TABLE && second->id == TS_REM_MEM_REG)
				continue;
			next = vd_msg_answer(t, second, true, true);
			vd_answer_add(&expect, &next);
			vd_ok(t, ts_send_two(&t->fe, &a, &b));
			vd_assert_answer(t, &expect, second->name);
		}
	}
}

/* A hundred messages in one write, more than a turn of the loop reads. */
static void trap_5_7_many_in_one_write(void **state)
{
	struct ts_hdr many[100];
	const struct ts_frag frag = {.data = many, .len = sizeof(many)};
	struct vd *t = *state;
	uint64_t offered;

	for (unsigned i = 0; i < TS_ARRAY_SIZE(many); i++)
		many[i] = (struct ts_hdr){TS_SET_OWNER, TS_VERSION | TS_NEED_REPLY, 0};
	vd_ok(t, ts_send_frags(&t->fe, &frag, 1));
	for (unsigned i = 0; i < TS_ARRAY_SIZE(many); i++) {
		uint64_t ack = 1;

		vd_ok(t, ts_recv_answer(&t->fe, TS_SET_OWNER, &ack, sizeof(ack)));
		assert_int_equal(ack, 0);
	}
	vd_ok(t, ts_fe_get_u64(&t->fe, TS_GET_FEATURES, &offered));
}

/* Descriptors belong to the first byte of a header. */
static void trap_5_7_late_descriptors(void **state)
{
	struct vd *t = *state;

	FOR_EACH_MSG(row)
	{
		for (size_t at = 1; at < sizeof(struct ts_hdr) + row->size; at += 3) {
			int fds = ts_count_fds(NULL);
			struct ts_msg m;

			make(t, row, &m);
			m.n_fds = vd_msg_odd_fds(m.fds, 2);
			send_in_two(t, &m, at, 1);
			gone(t, "file descriptors came in the middle of a message");
			assert_int_equal(ts_count_fds(NULL), fds);
		}
	}
}

static void trap_5_7_too_many_descriptors(void **state)
{
	struct vd *t = *state;

	for (unsigned n = 9; n <= 253; n += 61) {
		int fds = ts_count_fds(NULL);
		struct ts_msg m;

		make(t, &vd_msgs[4], &m);
		for (m.n_fds = 0; m.n_fds < n; m.n_fds++)
			m.fds[m.n_fds] = t->guest->r[0].fd;
		vd_ok(t, ts_send_msg(&t->fe, &m));
		gone(t, "a message carried too many file descriptors");
		assert_int_equal(ts_count_fds(NULL), fds);
	}
}

static void trap_5_7_end_in_the_middle(void **state)
{
	struct vd *t = *state;

	FOR_EACH_MSG(row)
	{
		for (size_t at = 1; at < sizeof(struct ts_hdr) + row->size; at++) {
			int fds = ts_count_fds(NULL);
			struct ts_msg m;

			make(t, row, &m);
			vd_ok(t, ts_send_cut(&t->fe, &m, at));
			gone(t, "the front-end closed it");
			assert_int_equal(ts_count_fds(NULL), fds);
		}
	}
}

/* ---- time ---- */

static void stalled_message(void **state)
{
	struct vd *t = *state;

	for (size_t at = 1; at < 20; at += 6) {
		const struct ts_hdr h[2] = {{TS_SET_FEATURES, TS_VERSION, 8}};
		const struct ts_frag frag = {.data = h, .len = at};
		uint64_t start = ts_now_ms();

		vd_ok(t, ts_send_frags(&t->fe, &frag, 1));
		gone(t, "a message stayed incomplete for too long");
		assert_in_range(ts_now_ms() - start, TIMEOUT_MS - 5, TIMEOUT_MS + 3000);
	}
}

/* A byte now and then does not help: the deadline is for the whole message. */
static void dribbled_too_slowly(void **state)
{
	struct vd *t = *state;
	uint64_t start = ts_now_ms();
	struct ts_msg m;

	make(t, &vd_msgs[4], &m);
	assert_int_equal(ts_send_dribble(&t->fe, &m, TIMEOUT_MS / 10), -ECONNRESET);
	assert_in_range(ts_now_ms() - start, TIMEOUT_MS - 5, TIMEOUT_MS + 3000);
	gone(t, "a message stayed incomplete for too long");
}

/* Idle is not stalled. */
static void silence_between_messages(void **state)
{
	struct vd *t = *state;

	for (unsigned i = 0; i < 3; i++) {
		vd_ok(t, ts_fe_barrier(&t->fe));
		vd_run_ms(t, TIMEOUT_MS * 3 / 2);
	}
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_int_equal(vd_info(t).connections, 1);
}

/* Ask until the device can answer no more. Returns how many questions it has read. */
static unsigned fill_with_answers(struct vd *t)
{
	const struct ts_hdr ask = {TS_GET_FEATURES, TS_VERSION, 0};
	unsigned n = 0, idle = 0;

	while (idle < 20) {
		ssize_t sent = send(t->fe.sock, &ask, sizeof(ask), MSG_DONTWAIT | MSG_NOSIGNAL);

		vd_run(t);
		if (sent == (ssize_t)sizeof(ask)) {
			n++;
			idle = 0;
		} else {
			assert_int_equal(sent, -1);
			idle++;
		}
	}
	return n;
}

static void never_reads(void **state)
{
	struct vd *t = *state;
	uint64_t start;

	start = ts_now_ms();
	assert_true(fill_with_answers(t) > 10);
	assert_int_equal(vd_info(t).connection, VU_CONNECTED);
	assert_true(VD_WAIT(t, vd_info(t).connection == VU_WAITING, 5000));
	assert_in_range(ts_now_ms() - start, TIMEOUT_MS - 5, TIMEOUT_MS + 3000);
	assert_string_equal(vd_info(t).last_error, "it does not read our replies");
	vd_connect(t);
	vd_ok(t, ts_fe_barrier(&t->fe));
}

/* Late but in time: nothing is lost, nothing is said twice, and then the clock is stopped. */
static void reads_late(void **state)
{
	struct vd *t = *state;
	uint64_t value;
	unsigned n;

	vd_destroy(t);
	t->conf.peer_timeout_ms = 1500; /* this is not about being quick */
	vd_create(t);
	vd_connect(t);
	n = fill_with_answers(t);
	vd_run_ms(t, 100);
	while (n-- > 0) {
		vd_ok(t, ts_recv_answer(&t->fe, TS_GET_FEATURES, &value, sizeof(value)));
		assert_int_equal(value, t->conf.features);
	}
	assert_true(ts_fe_quiet(&t->fe));
	vd_run_ms(t, 2000);
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_int_equal(vd_info(t).connections, 1);
}

/* I5: a peer that stalls stalls only itself. */
static void others_go_on(void **state)
{
	struct vd *t = *state;
	struct vu_device *second;
	struct ts_fe fe;
	uint64_t offered;
	char why[200];
	int peer;

	vd_destroy(t);
	t->conf.peer_timeout_ms = 0; /* the default of five seconds */
	vd_create(t);
	vd_connect(t);

	fill_with_answers(t);

	t->conf.path = "/tmp/vu-test-nobody-listens-here";
	t->conf.listen = false;
	assert_int_equal(vu_device_create(t->base, &t->conf, &second, why, sizeof(why)), 0);
	t->conf.path = t->path;
	ts_fe_init(&fe, &ts_qemu_10, t->guest);
	fe.pump = t->fe.pump;
	fe.pump_arg = t;
	assert_int_equal(ts_fe_pair(&fe, &peer), 0);
	assert_int_equal(vu_device_attach(second, peer), 0);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(ts_fe_get_u64(&fe, TS_GET_FEATURES, &offered), 0);
	assert_int_equal(vd_info(t).connection, VU_CONNECTED);
	ts_fe_free(&fe);
	vu_device_destroy(second);
}

#define CASE(fn)  VD_BOTH_WITH(fn, setup, teardown)
#define HASTY(fn) cmocka_unit_test_setup_teardown(fn, setup_hasty, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(trap_5_7_byte_by_byte),
		CASE(trap_5_7_cut_in_two),
		CASE(trap_5_7_two_in_one_write),
		CASE(trap_5_7_many_in_one_write),
		CASE(trap_5_7_late_descriptors),
		CASE(trap_5_7_too_many_descriptors),
		CASE(trap_5_7_end_in_the_middle),
		HASTY(stalled_message),
		HASTY(dribbled_too_slowly),
		HASTY(silence_between_messages),
		HASTY(never_reads),
		CASE(reads_late),
		CASE(others_go_on),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

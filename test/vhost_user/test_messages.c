/* SPDX-License-Identifier: BSD-3-Clause */
/* Each request, right and wrong in every field: exactly one reply, no trace of a refused one. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "vd_msg.h"

#define FOR_EACH_MSG(row) for (const struct vd_msg *row = vd_msgs; row->id; row++)

static int setup(void **state)
{
	struct vd *t;

	vd_setup(state);
	t = *state;
	vd_conf(t, 2);
	t->conf.features |= TS_BIT(VIRTIO_F_ACCESS_PLATFORM);
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	vd_connect(t);
	t->fe.rings[3].base = 0;
	vd_msg_begin();
	return 0;
}

static int teardown(void **state)
{
	vd_msg_done();
	return vd_teardown(state);
}

static void flag(struct ts_msg *m, bool need_reply)
{
	m->hdr.flags = TS_VERSION | (need_reply ? TS_NEED_REPLY : 0);
}

/* A wrong message, from a running device: the answer, and nothing changed. */
static void refused(
	struct vd *t, struct ts_msg *m, const struct vd_answer *expect, const char *what)
{
	char before[4096], after[4096];

	vd_snapshot(t, before, sizeof(before));
	vd_exchange(t, m, expect, what);
	if (expect->closes) {
		vd_disconnect(t);
		vd_connect(t);
		t->fe.rings[3].base = 0;
		return;
	}
	vd_snapshot(t, after, sizeof(after));
	assert_string_equal(after, before);
}

static void trap_5_6_exactly_one_reply_right_bytes(void **state)
{
	struct vd *t = *state;

	FOR_EACH_MSG(row)
	{
		for (unsigned need = 0; need < 2; need++) {
			struct vd_answer expect = vd_msg_answer(t, row, true, need);
			struct ts_msg m;

			vd_msg_negotiate(t);
			row->right(t, &m);
			assert_int_equal(m.hdr.size, row->size);
			flag(&m, need);
			vd_exchange(t, &m, &expect, row->name);
		}
	}
}

/* What is wrong for a ring of this format is so once its format is known. */
static void choose_format(struct vd *t)
{
	struct ts_msg m;

	vd_msgs[1].right(t, &m);
	flag(&m, false);
	vd_ok(t, ts_send_msg(&t->fe, &m));
}

static void trap_5_6_refusals(void **state)
{
	struct vd *t = *state;

	FOR_EACH_MSG(row)
	{
		for (unsigned need = 0; need < 2; need++) {
			struct vd_answer expect = vd_msg_answer(t, row, false, need);
			struct ts_msg m;

			vd_msg_negotiate(t);
			choose_format(t);
			vd_run(t);
			row->wrong(t, &m);
			flag(&m, need);
			refused(t, &m, &expect, row->name);
		}
	}
}

/* The same from a device whose rings run: none of them notices. */
static void trap_5_6_refusals_while_running(void **state)
{
	struct vd *t = *state;

	FOR_EACH_MSG(row)
	{
		struct vd_answer expect = vd_msg_answer(t, row, false, true);
		struct ts_msg m;

		if (expect.closes)
			continue;
		vd_disconnect(t);
		vd_connect(t);
		vd_start(t);
		row->wrong(t, &m);
		flag(&m, true);
		refused(t, &m, &expect, row->name);
		vd_assert_traffic(t, 0, 2);
	}
}

static void trap_5_7_sizes(void **state)
{
	struct vd *t = *state;

	FOR_EACH_MSG(row)
	{
		const uint32_t size[] = {
			0, row->size - row->less - 1, row->size + 1, 272, 273, 0xffffffff};

		for (unsigned i = 0; i < TS_ARRAY_SIZE(size); i++) {
			struct vd_answer expect = vd_msg_answer(t, row, false, true);
			struct ts_msg m;

			if (size[i] == row->size)
				continue;
			vd_msg_negotiate(t);
			row->right(t, &m);
			flag(&m, true);
			m.hdr.size = size[i];
			m.len = size[i] < 300 ? size[i] : 0;
			if (size[i] > 272) {
				expect.closes = true;
				expect.len = 0;
			}
			refused(t, &m, &expect, row->name);
		}
	}
}

/* Any number of descriptors of any kind with any message; none stays. */
static void trap_5_7_descriptors(void **state)
{
	struct vd *t = *state;

	vd_disconnect(t);
	FOR_EACH_MSG(row)
	{
		for (unsigned n = 0; n <= 9; n++) {
			int fds = ts_count_fds(NULL);
			struct ts_msg m;
			uint64_t offered;

			vd_connect(t);
			row->right(t, &m);
			flag(&m, true);
			m.n_fds = vd_msg_odd_fds(m.fds, n);
			vd_ok(t, ts_send_msg(&t->fe, &m));
			vd_run_ms(t, 1);
			if (vd_info(t).connection == VU_CONNECTED) {
				struct ts_reply r;

				vd_ok(t, ts_recv_reply(&t->fe, &r));
				assert_int_equal(r.n_fds, 0);
				vd_ok(t, ts_fe_get_u64(&t->fe, TS_GET_FEATURES, &offered));
			}
			assert_true(n < 9 || vd_info(t).connection == VU_WAITING);
			vd_disconnect(t);
			assert_int_equal(ts_count_fds(NULL), fds);
		}
	}
}

static void trap_5_7_unknown_requests(void **state)
{
	static const uint32_t ids[] = {
		0, 21, 23, 26, 27, 33, 35, 41, 42, 43, 44, 45, 46, 1000, 0xffffffff};
	struct vd *t = *state;
	int fds;

	for (unsigned i = 0; i < TS_ARRAY_SIZE(ids); i++) {
		for (unsigned need = 0; need < 2; need++) {
			const struct vd_msg row = {.id = ids[i], .name = "unknown"};
			struct vd_answer expect = vd_msg_answer(t, &row, false, need);
			const uint64_t payload = 3;
			struct ts_msg m;

			fds = ts_count_fds(NULL);
			ts_msg_make(&m, ids[i], &payload, sizeof(payload));
			flag(&m, need);
			m.n_fds = vd_msg_odd_fds(m.fds, 3);
			refused(t, &m, &expect, "unknown");
			assert_int_equal(ts_count_fds(NULL), fds);
		}
	}
}

static void trap_5_6_without_its_feature(void **state)
{
	struct vd *t = *state;

	FOR_EACH_MSG(row)
	{
		for (unsigned need = 0; need < 2 && row->needs >= 0; need++) {
			struct vd_answer expect = vd_msg_answer(t, row, false, need);
			struct ts_msg m;

			row->right(t, &m);
			flag(&m, need);
			refused(t, &m, &expect, row->name);
		}
	}
}

static void trap_5_7_headers(void **state)
{
	static const uint32_t flags[] = {0, 2, 3, 5, 8, 0xd, 0xffffffff};
	const struct vd_answer closes = {.closes = true};
	struct vd *t = *state;

	for (unsigned i = 0; i < TS_ARRAY_SIZE(flags); i++) {
		struct ts_msg m;

		vd_msgs[0].right(t, &m);
		m.hdr.flags = flags[i];
		refused(t, &m, &closes, "header");
	}
	/* What is reserved today may mean something tomorrow. */
	for (unsigned bit = 4; bit < 32; bit++) {
		struct vd_answer expect = vd_msg_answer(t, &vd_msgs[0], true, false);
		struct ts_msg m;

		vd_msgs[0].right(t, &m);
		m.hdr.flags = 1 | 1u << bit;
		vd_exchange(t, &m, &expect, "reserved bit");
	}
}

/* ---- indexes and sizes ---- */

static void try_index(struct vd *t, const struct vd_msg *row, uint64_t index, bool legal)
{
	struct ts_msg m;
	struct vd_answer expect;

	row->right(t, &m);
	flag(&m, true);
	vd_msg_put_index(&m, index);
	expect = vd_msg_answer(t, row, legal, true);
	if (!legal) {
		refused(t, &m, &expect, row->name);
		return;
	}
	if (row->id == TS_GET_VRING_BASE)
		memcpy(expect.bytes + 12, &index, 4);
	vd_exchange(t, &m, &expect, row->name);
}

static void trap_5_8_indexes(void **state)
{
	static const uint64_t bad[] = {
		4, 5, 127, 128, 255, 256, 257, 65536 + 1, 0x7fffffff, 0x80000000, 0xffffffff};
	struct vd *t = *state;

	FOR_EACH_MSG(row)
	{
		if (!vd_msg_has_index(row))
			continue;
		for (unsigned i = 0; i < 4; i++)
			try_index(t, row, i, true);
		for (unsigned i = 0; i < TS_ARRAY_SIZE(bad); i++)
			try_index(t, row, bad[i], false);
	}
	/* Behind the index word of KICK, CALL and ERR nothing may be set but the no-fd bit. */
	for (unsigned bit = 9; bit < 64; bit++)
		try_index(t, &vd_msgs[10], TS_BIT(bit), false);
}

static void trap_5_8_indexes_of_the_largest_device(void **state)
{
	static const uint64_t bad[] = {256 + 512, 65536 + 1, 0xffffffff};
	struct vd *t = *state;

	vd_destroy(t);
	vd_listen(t, 128, &ts_qemu_10);
	FOR_EACH_MSG(row)
	{
		if (!vd_msg_has_index(row))
			continue;
		try_index(t, row, 255, true);
		try_index(t, row, 0, true);
		for (unsigned i = 0; i < TS_ARRAY_SIZE(bad); i++)
			try_index(t, row, bad[i], false);
	}
}

static void try_sizes(struct vd *t, bool any)
{
	for (uint64_t num = 0; num < 3u << 16; num += num < 70 || num > 32700 ? 1 : 97) {
		const struct ts_vring_state s = {3, (uint32_t)num};
		bool legal = num > 0 && num <= 32768 && (any || (num & (num - 1)) == 0);

		if (num == 33000)
			num = 65530;
		if (num == 66000)
			break;
		t->fe.need_reply = UINT64_MAX;
		t->fe.protocol = TS_BIT(TS_PROTO_REPLY_ACK);
		assert_int_equal(ts_fe_set_state(&t->fe, TS_SET_VRING_NUM, 3, s.num),
			legal ? 0 : -EREMOTEIO);
		if (legal)
			assert_int_equal(vd_ring_info(t, 3).num, num);
	}
	assert_int_equal(ts_fe_set_state(&t->fe, TS_SET_VRING_NUM, 3, 0xffffffff), -EREMOTEIO);
	assert_int_equal(ts_fe_set_state(&t->fe, TS_SET_VRING_NUM, 3, 65536 + 256), -EREMOTEIO);
	assert_int_equal(vd_ring_info(t, 3).num, 32768);
}

/* Only a split ring must have a power of two. */
static void trap_5_8_ring_sizes(void **state)
{
	struct vd *t = *state;

	try_sizes(t, true);
	choose_format(t);
	try_sizes(t, t->format);
}

/* KICK, CALL and ERR come with a descriptor or say that they do not. */
static void trap_5_8_no_fd_bit(void **state)
{
	struct vd *t = *state;

	for (const struct vd_msg *row = &vd_msgs[9]; row <= &vd_msgs[11]; row++) {
		for (unsigned n = 0; n < 3; n++) {
			for (unsigned nofd = 0; nofd < 2; nofd++) {
				bool legal = n == (nofd ? 0 : 1);
				struct vd_answer expect = vd_msg_answer(t, row, legal, true);
				struct ts_msg m;

				row->right(t, &m);
				m.fds[1] = m.fds[0];
				m.n_fds = n;
				flag(&m, true);
				vd_msg_put_index(&m, 3 | (nofd ? TS_VRING_NOFD : 0));
				vd_exchange(t, &m, &expect, row->name);
			}
		}
	}
	assert_true(vd_ring_info(t, 3).kick_fd >= 0 && vd_ring_info(t, 3).call_fd >= 0);
	/* Programs we may start do not inherit them. */
	assert_true(fcntl(vd_ring_info(t, 3).kick_fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(vd_ring_info(t, 3).call_fd, F_GETFD) & FD_CLOEXEC);
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, 3, -1));
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_CALL, 3, -1));
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_int_equal(vd_ring_info(t, 3).kick_fd, -1);
	assert_int_equal(vd_ring_info(t, 3).call_fd, -1);
}

/* After any thousand of them we are still in step. */
static void trap_5_6_a_thousand_random_messages(void **state)
{
	struct vd *t = *state;
	struct ts_rng rng;

	ts_rng_init(&rng, ts_seed());
	for (unsigned i = 0; i < 1000; i++) {
		const struct vd_msg *row = &vd_msgs[ts_rand_below(&rng, vd_n_msgs)];
		bool right = row->has_answer || ts_rand_below(&rng, 2),
		     need = ts_rand_below(&rng, 2);
		struct vd_answer expect;
		struct ts_msg m;

		/* What a running ring refuses would make right ones wrong. */
		if (row->id == TS_SET_VRING_KICK || (!right && !need))
			continue;
		vd_msg_negotiate(t);
		choose_format(t);
		if (right)
			row->right(t, &m);
		else
			row->wrong(t, &m);
		flag(&m, need);
		expect = vd_msg_answer(t, row, right, need);
		vd_exchange(t, &m, &expect, row->name);
	}
}

#define CASE(fn) VD_BOTH_WITH(fn, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(trap_5_6_exactly_one_reply_right_bytes),
		CASE(trap_5_6_refusals),
		CASE(trap_5_6_refusals_while_running),
		CASE(trap_5_7_sizes),
		CASE(trap_5_7_descriptors),
		CASE(trap_5_7_unknown_requests),
		CASE(trap_5_6_without_its_feature),
		CASE(trap_5_7_headers),
		CASE(trap_5_8_indexes),
		CASE(trap_5_8_indexes_of_the_largest_device),
		CASE(trap_5_8_ring_sizes),
		CASE(trap_5_8_no_fd_bit),
		CASE(trap_5_6_a_thousand_random_messages),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

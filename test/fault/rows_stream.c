/* SPDX-License-Identifier: BSD-3-Clause */
/* M1 to M4, M6, M8: connections that break off, stall, flood, and headers that lie. */
#include "rows.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HASTY_MS 60

static void make(struct fault *f, const struct fault_case *c, struct ts_msg *m)
{
	c->msg->right(f->t, m);
	m->hdr.flags |= TS_NEED_REPLY;
}

/* ---- M1: the front-end is gone ---- */

void fault_closes(struct fault *f, const struct fault_case *c)
{
	struct ts_msg m;

	make(f, c, &m);
	if (c->arg[0])
		ts_send_cut(&f->t->fe, &m, (sizeof(m.hdr) + m.len) / 2);
	else
		ts_send_msg(&f->t->fe, &m);
	if (c->arg[0] == 2) /* it may be in the middle of it */
		vd_run(f->t);
	fault_leave(f);
}

static void cut_handshake(struct fault *f, const struct fault_case *c)
{
	const struct ts_profile *profile = c->data;
	struct vd *t = f->t;
	int rc;

	fault_leave(f);
	vd_front_end(t, profile);
	vd_connect(t);
	t->fe.cut_after = 20 + 97 * c->arg[0] + fault_hash_of(c) % 97;
	rc = ts_fe_negotiate(&t->fe);
	if (!rc) {
		ts_guest_forget(t->guest);
		vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, 0));
		rc = ts_fe_start(&t->fe);
	}
	t->fe.cut_after = 0;
	assert_int_not_equal(rc, -EPROTO);
	if (vd_info(t).connection == VU_CONNECTED)
		fault_leave(f);
}

static void m1(void)
{
	static const char *const how[] = {"after", "half", "half and a look"};

	FAULT_EACH_MSG(row)
	for (unsigned phase = 0; phase < FAULT_PHASES; phase++)
		for (unsigned i = 0; i < 2; i++)
			fault_add(&(struct fault_case){.run = fault_closes,
					  .msg = row,
					  .phase = (enum fault_phase)phase,
					  .arg = {i ? 1 + phase % 2 : 0}},
				"M1_close[%s,%s,%s]", row->name, how[i ? 1 + phase % 2 : 0],
				fault_phase_names[phase]);
	for (unsigned p = 0; ts_profiles[p]; p++)
		for (unsigned i = 0; i < 12; i++)
			fault_add(
				&(struct fault_case){
					.run = cut_handshake, .data = ts_profiles[p], .arg = {i}},
				"M1_handshake cut[%s,part %u]", ts_profiles[p]->name, i);
}

/* ---- M2: sizes ---- */

void fault_size(struct fault *f, const struct fault_case *c)
{
	struct ts_msg m;

	make(f, c, &m);
	m.hdr.size = (uint32_t)c->arg[0];
	m.len = c->arg[0] < 300 ? c->arg[0] : 0;
	/* What an earlier message left behind must not fill it up. */
	memset(m.payload + c->msg->size, 0xa5, sizeof(m.payload) - c->msg->size);
	fault_refused(f, &m);
	if (c->arg[0] > 272)
		assert_int_equal(vd_info(f->t).connection, VU_WAITING);
}

static void m2(void)
{
	static const char *const name[] = {
		"0", "expected-1", "expected+1", "max", "max+1", "0xffffffff"};

	FAULT_EACH_MSG(row)
	{
		const uint32_t sizes[] = {
			0, row->size - row->less - 1, row->size + 1, 272, 273, UINT32_MAX};

		for (unsigned i = 0; i < TS_ARRAY_SIZE(sizes); i++)
			for (unsigned phase = 0; phase < 2; phase++) {
				if (row->size == 0 && i < 2)
					continue;
				fault_add(&(struct fault_case){.run = fault_size,
						  .msg = row,
						  .phase = (enum fault_phase)phase,
						  .arg = {sizes[i]}},
					"M2_size[%s,%s,%s]", row->name, name[i],
					fault_phase_names[phase]);
			}
	}
}

/* ---- M3: in pieces ---- */

static void answered(struct fault *f, const struct fault_case *c)
{
	struct vd_answer expect = vd_msg_answer(f->t, c->msg, true, true);
	struct vd_answer last = vd_msg_answer(f->t, vd_msgs, true, false);

	vd_answer_add(&expect, &last);
	vd_assert_answer(f->t, &expect, c->msg->name);
}

static void ask_features(struct fault *f)
{
	struct ts_msg m;

	vd_msgs->right(f->t, &m);
	vd_ok(f->t, ts_send_msg(&f->t->fe, &m));
}

static void dribbled(struct fault *f, const struct fault_case *c)
{
	struct ts_msg m;

	make(f, c, &m);
	vd_ok(f->t, ts_send_dribble(&f->t->fe, &m, 1));
	fault_neighbours_answer(f);
	ask_features(f);
	answered(f, c);
}

/* With the next one's header, whose rest comes later. */
static void coalesced(struct fault *f, const struct fault_case *c)
{
	const struct ts_hdr next = {TS_GET_FEATURES, TS_VERSION, 0};
	uint8_t bytes[512];
	struct ts_frag frag[2] = {{.data = bytes}, {.data = (const uint8_t *)&next + 7, .len = 5}};
	struct ts_msg m;

	make(f, c, &m);
	memcpy(bytes, &m.hdr, sizeof(m.hdr));
	memcpy(bytes + sizeof(m.hdr), m.payload, m.len);
	memcpy(bytes + sizeof(m.hdr) + m.len, &next, 7);
	frag[0].len = sizeof(m.hdr) + m.len + 7;
	frag[0].fds = m.fds;
	frag[0].n_fds = m.n_fds;
	vd_ok(f->t, ts_send_frags(&f->t->fe, &frag[0], 1));
	vd_run(f->t);
	fault_neighbours_answer(f);
	vd_ok(f->t, ts_send_frags(&f->t->fe, &frag[1], 1));
	answered(f, c);
}

void fault_silent(struct fault *f, const struct fault_case *c)
{
	uint64_t asked = 0;
	struct ts_msg m;

	make(f, c, &m);
	{
		const struct ts_frag frag = {.data = &m.hdr,
			.len = c->arg[0] ? sizeof(m.hdr) - 1 : 5,
			.fds = m.fds,
			.n_fds = m.n_fds};

		vd_ok(f->t, ts_send_frags(&f->t->fe, &frag, 1));
	}
	while (vd_info(f->t).connection == VU_CONNECTED && asked++ < 100000)
		fault_neighbours_answer(f);
	fault_closed(f, "a message stayed incomplete for too long");
}

static void m3(void)
{
	FAULT_EACH_MSG(row)
	{
		fault_add(&(struct fault_case){.run = dribbled, .msg = row},
			"M3_dribble[%s,byte by byte]", row->name);
		fault_add(&(struct fault_case){.run = coalesced, .msg = row},
			"M3_coalesced[%s,next header]", row->name);
		for (unsigned i = 0; i < 2; i++)
			fault_add(&(struct fault_case){.run = fault_silent,
					  .msg = row,
					  .phase = FAULT_RUNNING,
					  .arg = {i},
					  .timeout_ms = HASTY_MS},
				"M3_silence[%s,%s,running]", row->name,
				i ? "a byte missing" : "half a header");
	}
}

/* ---- M4: it asks and does not read ---- */

void fault_never_reads(struct fault *f, const struct fault_case *c)
{
	const long rss = fault_rss();
	unsigned sent = 0, idle = 0;

	for (; sent < 100000 && idle < 50; sent++) {
		struct ts_msg m;

		make(f, c, &m);
		if (m.n_fds > 0) /* an eventfd each is what it would cost us, not the port */
			m.hdr.request = TS_SET_OWNER, m.hdr.size = 0, m.len = 0, m.n_fds = 0;
		if (send(f->t->fe.sock, &m.hdr, sizeof(m.hdr) + 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			idle++;
		else if (m.len)
			send(f->t->fe.sock, m.payload, m.len, MSG_DONTWAIT | MSG_NOSIGNAL);
		vd_run(f->t);
		if (vd_info(f->t).connection == VU_WAITING)
			break;
	}
	assert_true(sent < 100000);
	fault_neighbours_answer(f);
	fault_closed(f, NULL);
	fault_rss_flat(rss, 4096);
}

static void m4(void)
{
	FAULT_EACH_MSG(row)
	if (row->id != TS_REM_MEM_REG)
		fault_add(&(struct fault_case){.run = fault_never_reads,
				  .msg = row,
				  .phase = FAULT_NEW,
				  .timeout_ms = HASTY_MS},
			"M4_never reads[%s,flood]", row->name);
}

/* ---- M6: floods of descriptors ---- */

void fault_flood(struct fault *f, const struct fault_case *c)
{
	int fds = -1;
	long rss = 0;

	fault_leave(f);
	for (uint64_t i = 0; i < c->arg[0]; i++) {
		struct ts_msg m;

		vd_connect(f->t);
		make(f, c, &m);
		m.n_fds = vd_msg_odd_fds(m.fds, 8);
		ts_send_msg(&f->t->fe, &m);
		if (i % 2)
			vd_run(f->t);
		fault_leave(f);
		if (i == 10) {
			fds = ts_count_fds(NULL);
			rss = fault_rss();
		}
	}
	assert_int_equal(ts_count_fds(NULL), fds);
	fault_rss_flat(rss, 2048);
}

/* No descriptor is left for another connection: it waits, and is taken when there is. */
void fault_out_of_descriptors(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	struct rlimit was, now;
	uint64_t before = vd_info(t).connections;
	int last;

	fault_leave(f);
	last = dup(0);
	close(last);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	now = was;
	now.rlim_cur = (rlim_t)(last + 1 + (int)c->arg[0]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
	vd_ok(t, ts_fe_connect(&t->fe, t->path));
	vd_run_ms(t, 20);
	fault_neighbours_answer(f);
	if (c->arg[0] == 0) {
		assert_int_equal(vd_info(t).connections, before);
		assert_true(vd_logged(t, "cannot accept a front-end"));
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_true(VD_WAIT(t, vd_info(t).connections > before, 10000));
	vd_ok(t, ts_fe_barrier(&t->fe));
}

/* A message that brings descriptors for which there is no room. */
void fault_out_of_room(struct fault *f, const struct fault_case *c)
{
	struct rlimit was, now;
	struct ts_msg m;
	int last = dup(0);

	close(last);
	make(f, c, &m);
	m.n_fds = vd_msg_odd_fds(m.fds, 8);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	now = was;
	now.rlim_cur = (rlim_t)(last + (int)c->arg[0]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
	ts_send_msg(&f->t->fe, &m);
	vd_run_ms(f->t, 5);
	fault_neighbours_answer(f);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	fault_leave(f);
}

static void m6(void)
{
	FAULT_EACH_MSG(row)
	{
		fault_add(&(struct fault_case){.run = fault_flood, .msg = row, .arg = {50}},
			"M6_connect and send 8 fds[%s,50 times]", row->name);
		fault_add(
			&(struct fault_case){
				.run = fault_flood, .msg = row, .arg = {3000}, .slow = true},
			"M6_connect and send 8 fds[%s,3000 times]", row->name);
		for (unsigned i = 0; i < 8; i += 3)
			fault_add(&(struct fault_case){.run = fault_out_of_room,
					  .msg = row,
					  .phase = FAULT_RUNNING,
					  .arg = {i}},
				"M6_RLIMIT_NOFILE[%s,room for %u of 8,running]", row->name, i);
	}
	for (unsigned i = 0; i < 4; i++)
		fault_add(&(struct fault_case){.run = fault_out_of_descriptors, .arg = {i}},
			"M6_accept at RLIMIT_NOFILE[room for %u]", i);
}

/* ---- M8: headers ---- */

void fault_unknown(struct fault *f, const struct fault_case *c)
{
	const uint64_t payload = 3;
	struct ts_msg m;

	ts_msg_make(&m, (uint32_t)c->arg[0], &payload, sizeof(payload));
	m.n_fds = vd_msg_odd_fds(m.fds, 3);
	if (c->arg[1]) {
		fault_refused(f, &m);
		assert_int_equal(vd_info(f->t).connection, VU_CONNECTED);
		return;
	}
	vd_ok(f->t, ts_send_msg(&f->t->fe, &m));
	fault_closed(f, "unknown");
}

static void header_flags(struct fault *f, const struct fault_case *c)
{
	struct ts_msg m;

	make(f, c, &m);
	m.hdr.flags = (uint32_t)c->arg[0];
	vd_ok(f->t, ts_send_msg(&f->t->fe, &m));
	fault_closed(f, NULL);
}

/* An acknowledgement nobody negotiated: asked for, it comes all the same. */
static void not_negotiated(struct fault *f, const struct fault_case *c)
{
	struct vd_answer expect;
	struct ts_msg m;

	fault_leave(f);
	vd_front_end(f->t, &ts_qemu_2_5);
	vd_connect(f->t);
	f->t->fe.rings[3].base = 0;
	make(f, c, &m);
	expect = vd_msg_answer(f->t, c->msg, c->msg->needs < 0, true);
	if (expect.closes) {
		vd_ok(f->t, ts_send_msg(&f->t->fe, &m));
		fault_closed(f, "without its protocol feature");
		return;
	}
	vd_exchange(f->t, &m, &expect, c->msg->name);
}

static void m8(void)
{
	static const uint32_t ids[] = {
		0, 23, 26, 27, 33, 35, 41, 44, 45, 1000, 0x80000000, UINT32_MAX};
	static const uint32_t flags[] = {0, 2, 3, 5, 8, 0xd, UINT32_MAX};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(ids); i++)
		for (unsigned k = 0; k < 4; k++)
			fault_add(&(struct fault_case){.run = fault_unknown,
					  .phase = k & 1 ? FAULT_RUNNING : FAULT_NEW,
					  .arg = {ids[i], k / 2}},
				"M8_unknown request[%#x,%s,%s]", ids[i],
				k / 2 ? "NEED_REPLY" : "no reply", fault_phase_names[k & 1]);
	FAULT_EACH_MSG(row)
	{
		for (unsigned i = 0; i < TS_ARRAY_SIZE(flags); i++)
			fault_add(&(struct fault_case){.run = header_flags,
					  .msg = row,
					  .phase = i & 1 ? FAULT_RUNNING : FAULT_NEW,
					  .arg = {flags[i]}},
				"M8_header flags[%s,%#x,%s]", row->name, flags[i],
				fault_phase_names[i & 1]);
		fault_add(&(struct fault_case){.run = not_negotiated, .msg = row},
			"M8_reply before REPLY_ACK[%s]", row->name);
	}
}

void rows_stream(void)
{
	m1();
	m2();
	m3();
	m4();
	m6();
	m8();
}

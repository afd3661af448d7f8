/* SPDX-License-Identifier: BSD-3-Clause */
/* Inputs that broke other back-ends, each named after what fixed it there: messages, memory and logs. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rows.h"

/*
 * Where an input is one of the matrix' the function is, too; what else it takes is here. Inputs that
 * are in a ring are in test/virtq and test/vnet.
 */

static const struct vd_msg *msg_of(enum ts_request id)
{
	FAULT_EACH_MSG(row)
	if (row->id == id)
		return row;
	return NULL;
}

/* ---- messages ---- */

/* 1407b0752e: with the bit that says so there need not be a descriptor. */
static void no_fd(struct fault *f, const struct fault_case *c)
{
	const uint64_t word = 3 | TS_VRING_NOFD;
	struct ts_msg m;

	ts_msg_make(&m, c->msg->id, &word, sizeof(word));
	assert_int_equal(fault_ask(f, &m), 0);
	if (c->phase == FAULT_RUNNING)
		fault_traffic(f);
}

/* 612e17cf6d: what a message allocates is not lost when it comes again. */
static void again_and_again(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	long rss = 0;

	for (unsigned i = 0; i < c->arg[0]; i++) {
		vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_NUM, 3, 256));
		if (i == 1000)
			rss = fault_rss();
	}
	vd_ok(t, ts_fe_barrier(&t->fe));
	fault_rss_flat(rss, 512);
}

/* 8138405528, fd40901c82: what follows a refused message is not looked at any more. */
static void nothing_after_a_refusal(struct fault *f, const struct fault_case *c)
{
	const struct ts_vring_state bad = {7, 1}, good = {0, 1};
	const struct ts_hdr h = {TS_SET_VRING_ENABLE, TS_VERSION, sizeof(bad)};
	uint8_t both[2 * (sizeof(h) + sizeof(bad))];
	const struct ts_frag frag = {.data = both, .len = sizeof(both)};
	struct vd *t = f->t;

	(void)c;
	memcpy(both, &h, sizeof(h));
	memcpy(both + sizeof(h), &bad, sizeof(bad));
	memcpy(both + sizeof(h) + sizeof(bad), &h, sizeof(h));
	memcpy(both + 2 * sizeof(h) + sizeof(bad), &good, sizeof(good));
	vd_ok(t, ts_send_frags(&t->fe, &frag, 1));
	fault_closed(f, "this port has 2 queue pairs");
	assert_false(vd_ring_info(t, 0).enabled);
}

/* 5093bee0fa: two descriptors are not eight bytes too many. As many regions as there may be are taken. */
static void legal_counts(struct fault *f, const struct fault_case *c)
{
	struct ts_mem_table table = {.n = (uint32_t)c->arg[0]};
	int fd = memfd_create("ts-table", MFD_CLOEXEC);
	struct ts_msg m;

	assert_int_equal(ftruncate(fd, 8 * 65536), 0);
	for (uint32_t i = 0; i < table.n; i++)
		table.region[i] = (struct ts_mem_region){i * 65536u, 65536, i * 65536u, i * 65536u};
	ts_msg_make(&m, TS_SET_MEM_TABLE, &table, 8 + table.n * sizeof(table.region[0]));
	for (m.n_fds = 0; m.n_fds < table.n; m.n_fds++)
		m.fds[m.n_fds] = fd;
	assert_int_equal(fault_ask(f, &m), 0);
	close(fd);
}

/* 92b58bc7e9: who asked is gone before the answer. */
static void gone_before_the_answer(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;

	for (unsigned i = 0; i < 20; i++) {
		struct ts_msg m;

		c->msg->right(t, &m);
		m.hdr.flags |= TS_NEED_REPLY;
		vd_ok(t, ts_send_msg(&t->fe, &m));
		shutdown(t->fe.sock, SHUT_RD);
		fault_leave(f);
		vd_connect(t);
		vd_ok(t, ts_fe_set_u64(
				 &t->fe, TS_SET_PROTOCOL_FEATURES, vu_default_protocol_features()));
	}
}

/* 9f22893adc and its like: no byte of an answer is what happened to be there. */
static void answers_say_nothing_else(struct fault *f, const struct fault_case *c)
{
	struct vd_answer expect;
	struct ts_msg m;

	for (unsigned i = 0; i < 3; i++) {
		/* Something to be left behind by. */
		memset(m.payload, 0xa5, sizeof(m.payload));
		ts_msg_make(&m, 1000, m.payload, 272);
		assert_int_equal(fault_ask(f, &m), -EREMOTEIO);
		expect = vd_msg_answer(f->t, c->msg, true, true);
		c->msg->right(f->t, &m);
		m.hdr.flags |= TS_NEED_REPLY;
		vd_exchange(f->t, &m, &expect, c->msg->name);
	}
}

/* 7cc4f260bf: the last index there can be, and the one behind it. */
static void last_index(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	struct ts_msg m;
	int rc;

	fault_leave(f);
	fault_pairs(f, VD_PAIRS_MAX, false);
	fault_enter(f, FAULT_NEW);
	c->msg->right(t, &m);
	vd_msg_put_index(&m, c->arg[0]);
	m.hdr.flags |= TS_NEED_REPLY;
	if (c->msg->id == TS_GET_VRING_BASE) {
		rc = ts_fe_get_base(&t->fe, (unsigned)c->arg[0]);
		assert_int_equal(rc, c->arg[0] < 256 ? 0 : -ECONNRESET);
	} else {
		assert_int_equal(fault_ask(f, &m), c->arg[0] < 256 ? 0 : -EREMOTEIO);
	}
	ts_fe_free(&t->fe);
	assert_true(VD_WAIT(t, vd_info(t).connection == VU_WAITING, 5000));
	fault_pairs(f, 2, false);
}

/* ---- memory ---- */

static int slot(struct fault *f, uint32_t request, uint64_t i, int fd)
{
	const struct ts_mem_slot s = {.region = {(1ull << 40) + i * (1 << 20), 65536,
					      (1ull << 45) + i * (1 << 20), i * 65536}};
	struct ts_msg m;

	ts_msg_make(&m, request, &s, sizeof(s));
	if (fd >= 0)
		m.fds[m.n_fds++] = fd;
	return fault_ask(f, &m);
}

static uint8_t first_byte(struct fault *f, uint64_t i)
{
	uint8_t byte = 0;

	assert_int_equal(
		virtq_mem_read(vd_info(f->t).mem, (1ull << 40) + i * (1 << 20), &byte, 1), 0);
	return byte;
}

/* 6889eb2d43: what is left when one was taken out is where it was. */
static void one_of_many_removed(struct fault *f, const struct fault_case *c)
{
	const uint64_t n = 5, gone = c->arg[0];
	int fd = memfd_create("ts-table", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, 8 * 65536), 0);
	for (uint64_t i = 0; i < n; i++) {
		uint8_t mark = (uint8_t)(0x10 + i);

		assert_int_equal(pwrite(fd, &mark, 1, (off_t)(i * 65536)), 1);
		assert_int_equal(slot(f, TS_ADD_MEM_REG, i, fd), 0);
	}
	assert_int_equal(slot(f, TS_REM_MEM_REG, gone, -1), 0);
	for (uint64_t i = 0; i < n; i++)
		if (i != gone)
			assert_int_equal(first_byte(f, i), 0x10 + i);
	assert_int_equal(slot(f, TS_ADD_MEM_REG, gone, fd), 0);
	assert_int_equal(first_byte(f, gone), 0x10 + gone);
	fault_traffic(f);
	close(fd);
}

/* fa3d5483f0: a descriptor that comes along with a removal is closed. */
static void removed_with_a_descriptor(struct fault *f, const struct fault_case *c)
{
	int fd = memfd_create("ts-table", MFD_CLOEXEC), fds = 0;

	(void)c;
	assert_int_equal(ftruncate(fd, 8 * 65536), 0);
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(slot(f, TS_ADD_MEM_REG, 1, fd), 0);
		assert_int_equal(slot(f, TS_REM_MEM_REG, 1, fd), 0);
		if (i == 0)
			fds = ts_count_fds(NULL);
	}
	assert_int_equal(ts_count_fds(NULL), fds);
	close(fd);
}

/* 4592719, e43e007: what lies in the file in front of a region is not of the region. */
static void in_front_of_a_region(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	const struct ts_region *high = &t->guest->r[1]; /* begins 8192 bytes into its file */
	const struct ts_ring *r = t->fe.rings[1].ring;
	const struct ts_vring_addr a = {.index = 1,
		.desc = high->uva - c->arg[0],
		.avail = ts_uva(t->guest, r->driver_gpa),
		.used = ts_uva(t->guest, r->device_gpa)};
	struct ts_msg m;

	ts_msg_make(&m, TS_SET_VRING_ADDR, &a, sizeof(a));
	assert_int_equal(fault_ask(f, &m), 0);
	assert_false(vd_ring_info(t, 1).usable);
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_RING_ADDRESSES);
}

/* ---- the log ---- */

/* CVE-2019-14835: descriptors without bytes, which have no page to be marked. */
static void empty_and_logged(struct fault *f, const struct fault_case *c)
{
	const struct ts_seg segs[] = {
		{0x480000, 0}, {0x480000, 0}, {0x480000, 1526}, {0x480800, 0}};
	struct vd *t = f->t;
	struct ts_ring *r = t->fe.rings[0].ring;
	struct ts_log_result result;

	fault_rest(f);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(ts_ring_add(r, NULL, 0, segs, 4, r, TS_DIRECT), 0);
	ts_ring_publish(r);
	ts_log_begin(f->log);
	t->ring[0].to_send = t->ring[0].sent + 20;
	fault_work(f);
	(void)c;
	assert_true(VD_WAIT(
		t, vd_all_used(t, 0) || vd_ring_info(t, 0).fault != VIRTQ_FAULT_NONE, 5000));
	assert_true(ts_log_end(f->log, &result)); /* nothing beside the log */
	assert_int_equal(result.missed, 0);
}

/* 6fae899, 7c33b12: nothing is written to a ring that has told its base. */
static void silent_after_base(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;

	(void)c;
	fault_post(f, 1, 60);
	fault_post(f, 0, 60);
	for (unsigned i = 0; i < 4; i++)
		vd_ok(t, ts_fe_get_base(&t->fe, i));
	ts_log_begin(f->log);
	vd_run_ms(t, 20);
	{
		struct ts_log_result r;

		assert_true(ts_log_end(f->log, &r));
		assert_int_equal(r.changed + r.marked, 0);
	}
}

/* ---- the list ---- */

static const struct ts_inflight regions[] = {
	{65536, 0, 0, 256, 0},
	{1 << 20, 0, 257, 256, 0},
	{1 << 20, 0, 65535, 256, 0},
	{65536, 0, 4, 0, 0},
	{65536, 0, 4, 65535, 0},
	{4096, 0, 4, 256, 0},
};

#define REPLAY(run_, phase_, msg_, a0, a1, data_, ...)                            \
	fault_add(&(struct fault_case){.run = run_,                               \
			  .phase = phase_,                                        \
			  .msg = (msg_) ? msg_of((enum ts_request)(msg_)) : NULL, \
			  .arg = {a0, a1},                                        \
			  .data = data_},                                         \
		"replay_" __VA_ARGS__)

static void replay_messages(void)
{
	static const uint32_t indexes[] = {0x10000, 0xffff0000, 0xffffffff};

	FAULT_EACH_MSG(row)
	{
		REPLAY(fault_many_fds, FAULT_NEW, row->id, 8, 0, NULL,
			"CVE-2019-14818 bf472259dd[8 fds,%s]", row->name);
		REPLAY(fault_flood, FAULT_NEW, row->id, 30, 0, NULL,
			"218daf1664[8 fds 30 times,%s]", row->name);
		REPLAY(fault_size, FAULT_NEW, row->id, 273, 0, NULL,
			"585283f9a7[payload too long,%s]", row->name);
		if (vd_msg_has_index(row))
			for (unsigned i = 0; i < TS_ARRAY_SIZE(indexes); i++)
				REPLAY(fault_bad_index, i & 1 ? FAULT_RUNNING : FAULT_NEW, row->id,
					indexes[i], 0, NULL, "CVE-2020-10723 c78d94189d %#x[%s]",
					indexes[i], row->name);
		if (vd_msg_has_index(row) &&
			(row->id < TS_SET_VRING_KICK || row->id > TS_SET_VRING_ERR))
			REPLAY(last_index, FAULT_NEW, row->id, 256, 0, NULL,
				"7cc4f260bf index 256[%s]", row->name);
		if (vd_msg_has_index(row))
			REPLAY(last_index, FAULT_NEW, row->id, 255, 0, NULL,
				"7cc4f260bf index 255[%s]", row->name);
		if (row->has_answer)
			REPLAY(answers_say_nothing_else, FAULT_NEW, row->id, 0, 0, NULL,
				"CVE-2021-3545 121841b25d[%s]", row->name);
		if (row->has_answer)
			REPLAY(gone_before_the_answer, FAULT_NEW, row->id, 0, 0, NULL,
				"92b58bc7e9[%s]", row->name);
	}
	for (uint32_t id = TS_SET_VRING_KICK; id <= TS_SET_VRING_ERR; id++)
		REPLAY(no_fd, id == TS_SET_VRING_KICK ? FAULT_NEW : FAULT_RUNNING, id, 0, 0, NULL,
			"1407b0752e[no fd,%s]", msg_of((enum ts_request)id)->name);
	REPLAY(again_and_again, FAULT_NEW, TS_SET_VRING_NUM, 20000, 0, NULL,
		"CVE-2019-14818 612e17cf6d SET_VRING_NUM 20000 times");
	REPLAY(fault_bad_index, FAULT_NEW, TS_GET_VRING_BASE, 4, 0, NULL,
		"3c929a0bb3 GET_VRING_BASE of a ring there is not");
	REPLAY(fault_bad_index, FAULT_RUNNING, TS_SET_VRING_BASE, 4, 0, NULL,
		"38c442d SET_VRING_BASE of a ring there is not");
	REPLAY(fault_set_num, FAULT_NEW, 0, 0, 0, NULL, "eb7c574b21 a ring of 0");
	REPLAY(fault_set_num, FAULT_NEW, 0, 65536, 0, NULL, "eb7c574b21 a ring of 65536");
	REPLAY(fault_unknown, FAULT_RUNNING, 0, 0x80000001, 1, NULL, "cdc37ca3d0 request 2^31+1");
	REPLAY(fault_unknown, FAULT_RUNNING, 0, UINT32_MAX, 0, NULL, "cdc37ca3d0 request -1");
	REPLAY(fault_unknown, FAULT_NEW, 0, 45, 1, NULL, "0152e88 an unknown request");
	REPLAY(fault_closes, FAULT_RUNNING, TS_SET_MEM_TABLE, 1, 0, NULL,
		"966f89d998 half a message");
	REPLAY(nothing_after_a_refusal, FAULT_NEW, 0, 0, 0, NULL, "8138405528 and what follows");
	for (unsigned n = 1; n <= 8; n++)
		REPLAY(legal_counts, FAULT_NEW, 0, n, 0, NULL, "5093bee0fa %u fds that are right",
			n);
	REPLAY(fault_out_of_descriptors, FAULT_NEW, 0, 0, 0, NULL,
		"CVE-2020-10717 no descriptor is left");
	for (unsigned i = 0; i < 8; i += 7)
		REPLAY(fault_out_of_room, FAULT_RUNNING, TS_SET_MEM_TABLE, i, 0, NULL,
			"218daf1664 MSG_CTRUNC with room for %u", i);
}

static void replay_memory(void)
{
	static const char *const bends[] = {"offset wraps", "size and offset wrap", "9 regions",
		"2^32-1 regions", "16 EiB", "guest address wraps", "guest addresses overlap",
		"user addresses overlap"};
	static const char *const fixes[] = {"0fe99cf73e", "0fe99cf73e", "4d490c7ce3",
		"CVE-2020-10724 acd4c92fa6", "0fe99cf73e", "0fe99cf73e", "4fafedc9da",
		"4fafedc9da"};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(bends); i++)
		REPLAY(fault_bent_table, FAULT_RUNNING, 0, 0, 0, rows_bend(bends[i]), "%s %s",
			fixes[i], bends[i]);
	for (unsigned i = 0; i < 3; i++)
		for (unsigned border = 2; border < 4; border++)
			REPLAY(fault_ring_border, FAULT_RUNNING, 0, i, border, NULL,
				"CVE-2018-1059 c6ae7de0de ring area %u across %s", i,
				border == 2 ? "two regions" : "the end");
	REPLAY(fault_ring_border, FAULT_RUNNING, 0, 0, 2, NULL,
		"293084a719 a ring across regions apart");
	REPLAY(fault_size, FAULT_RUNNING, TS_ADD_MEM_REG, 31, 0, NULL,
		"9f4e63491b ADD_MEM_REG too short");
	REPLAY(fault_size, FAULT_RUNNING, TS_REM_MEM_REG, 41, 0, NULL,
		"9f4e63491b REM_MEM_REG too long");
	REPLAY(fault_many_fds, FAULT_RUNNING, TS_ADD_MEM_REG, 0, 0, NULL,
		"316ee11144 no descriptor");
	REPLAY(fault_many_fds, FAULT_RUNNING, TS_REM_MEM_REG, 2, 0, NULL,
		"316ee11144 two descriptors");
	REPLAY(fault_all_slots, FAULT_RUNNING, 0, 510, 0, NULL,
		"b906a23c33 more slots than there are");
	REPLAY(fault_bent_slot, FAULT_RUNNING, 0, 0, 0, rows_bend("the same guest address"),
		"4fafedc9da the same address in another file");
	REPLAY(removed_with_a_descriptor, FAULT_RUNNING, 0, 0, 0, NULL,
		"fa3d5483f0 REM_MEM_REG with a descriptor");
	for (unsigned i = 0; i < 5; i += 2)
		REPLAY(one_of_many_removed, FAULT_RUNNING, 0, i, 0, NULL,
			"6889eb2d43 region %u of 5 removed", i);
	REPLAY(in_front_of_a_region, FAULT_RUNNING, 0, 16, 0, NULL, "4592719 16 bytes in front");
	REPLAY(in_front_of_a_region, FAULT_RUNNING, 0, 8192, 0, NULL,
		"e43e007 8192 bytes in front");
	REPLAY(fault_taken_away, FAULT_MIGRATING, 0, 0, 1, NULL,
		"CVE-2021-3748 bedd7e93d0 a region goes under a loaded ring");
	REPLAY(fault_cycled, FAULT_RUNNING, 0, 200, 0, NULL,
		"ca67ed289a added and removed 200 times");
}

static void replay_shared(void)
{
	REPLAY(fault_bad_log, FAULT_RUNNING, 0, UINT64_MAX - 0xfff, 0x2000, NULL,
		"CVE-2020-10722 3ae4beb079 size and offset wrap");
	REPLAY(fault_bad_log, FAULT_MIGRATING, 0, 0, 4096, NULL,
		"CVE-2020-10722 3ae4beb079 no size");
	REPLAY(fault_log_window, FAULT_RUNNING, 0, 0, 4096, NULL,
		"CVE-2020-10722 3ae4beb079 an aligned offset");
	REPLAY(fault_log_window, FAULT_RUNNING, 0, 0, 1001, NULL,
		"CVE-2020-10722 3ae4beb079 an odd offset");
	REPLAY(fault_log_window, FAULT_RUNNING, 0, 40, 0, NULL,
		"acbd487ddb a log that is too short");
	REPLAY(empty_and_logged, FAULT_MIGRATING, 0, 0, 0, NULL,
		"CVE-2019-14835 empty descriptors while logging");
	REPLAY(silent_after_base, FAULT_MIGRATING, 0, 0, 0, NULL,
		"6fae899 nothing after GET_VRING_BASE");
	REPLAY(fault_base_twice, FAULT_RUNNING, 0, 1, 0, NULL,
		"90bb22a197 GET_VRING_BASE is the position");
	REPLAY(fault_get_many, FAULT_NEW, 0, 256, 0, NULL, "CVE-2020-10726 e7debf6026 500 regions");
	for (unsigned i = 0; i < TS_ARRAY_SIZE(regions); i++)
		REPLAY(fault_set_inflight, FAULT_NEW, TS_SET_INFLIGHT_FD, 1 << 20, 0, &regions[i],
			"CVE-2021-3839 6442c329b9 %u queues of %u in %u bytes",
			regions[i].num_queues, regions[i].queue_size,
			(unsigned)regions[i].mmap_size);
	REPLAY(fault_many_fds, FAULT_NEW, TS_GET_INFLIGHT_FD, 8, 0, NULL,
		"CVE-2022-0669 af74f7db38 GET_INFLIGHT_FD with 8 fds");
	REPLAY(fault_many_fds, FAULT_NEW, TS_SET_INFLIGHT_FD, 8, 0, NULL,
		"CVE-2022-0669 af74f7db38 SET_INFLIGHT_FD with 8 fds");
	for (unsigned i = 0; i < 6; i++)
		REPLAY(fault_corrupted, FAULT_NEW, 0, i, 7, NULL,
			"5a4fbe79e6 region with wrong content %u", i);
}

int main(int argc, char **argv)
{
	static void (*const rows[])(void) = {replay_messages, replay_memory, replay_shared};

	return fault_main(rows, TS_ARRAY_SIZE(rows), argc, argv);
}

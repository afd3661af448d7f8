/* SPDX-License-Identifier: BSD-3-Clause */
/* P6: memory, descriptors, threads and events that are not to be had, at each call of the libraries. */
#include "rows.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "failing.h"
#include "vd_handover.h"
#include "vd_iommu.h"

/*
 * Theory of operation
 *
 * The libraries are compiled a second time, with failing.h included before everything else, so that each of their
 * calls that may fail asks whether it shall. An operation is done as often as it makes such calls, and each time
 * another one fails. It may then fail, in words, or work without what was not to be had; it must not hang. In
 * either case the port serves a front-end that comes next, and what the harness looks at holds.
 */

#define CALLS_MAX 400u /* more than any of these operations makes */
#define HANG_MS   3000

/* 0 or what failed; *t->fe.why in words. The front-end may be gone then. */
typedef int operation(struct fault *f);

struct row {
	const char *name;
	operation *run;
	enum fault_phase phase;
	bool anew; /* it begins without a connection */
	bool runs; /* with success rings run afterwards */
};

/* ---- operations ---- */

static int handshake(struct fault *f)
{
	struct vd *t = f->t;
	int rc = ts_fe_connect(&t->fe, t->path);

	if (!rc)
		rc = ts_fe_negotiate(&t->fe);
	if (rc)
		return rc;
	ts_guest_forget(t->guest);
	rc = ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, TS_RING_SHUFFLE);
	if (!rc)
		rc = ts_fe_start(&t->fe);
	return rc ? rc : ts_fe_barrier(&t->fe);
}

static int mem_table(struct fault *f)
{
	int rc = ts_fe_set_mem_table(&f->t->fe);

	return rc ? rc : ts_fe_barrier(&f->t->fe);
}

/* QEMU waits for an acknowledgement with the last of the addresses; here each is asked for. */
static int rings_again(struct fault *f)
{
	struct vd *t = f->t;
	int rc = 0;

	for (unsigned i = 0; i < 4 && !rc; i++) {
		rc = ts_fe_get_base(&t->fe, i);
		if (!rc)
			rc = ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, i, t->fe.rings[i].base);
		if (!rc)
			rc = ts_fe_set_addr(&t->fe, i);
		if (!rc)
			rc = ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, i, t->fe.rings[i].kick);
		if (!rc)
			rc = ts_fe_set_fd(&t->fe, TS_SET_VRING_CALL, i, t->fe.rings[i].call);
		if (!rc)
			rc = ts_fe_set_fd(&t->fe, TS_SET_VRING_ERR, i, t->fe.rings[i].err);
	}
	return rc ? rc : ts_fe_barrier(&t->fe);
}

static int off_and_on(struct fault *f)
{
	struct vd *t = f->t;
	int rc = 0;

	for (unsigned i = 0; i < 8 && !rc; i++)
		rc = ts_fe_enable(&t->fe, i % 4, i / 4);
	return rc ? rc : ts_fe_barrier(&t->fe);
}

static int log_on(struct fault *f)
{
	struct vd *t = f->t;
	int rc = ts_fe_set_log(&t->fe, f->log->fd, f->log->size, f->log->offset);

	return rc ? rc : ts_fe_log(&t->fe, true);
}

static int log_off(struct fault *f)
{
	return ts_fe_log(&f->t->fe, false);
}

static int in_flight(struct fault *f)
{
	struct vd *t = f->t;
	int rc = ts_fe_get_inflight(&t->fe, 4, VD_RING_SIZE);

	if (!rc)
		rc = ts_fe_set_inflight(&t->fe);
	return rc ? rc : ts_fe_barrier(&t->fe);
}

static int channel(struct fault *f)
{
	int ends[2], rc;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	rc = ts_fe_set_backend(&f->t->fe, ends[0]);
	if (!rc)
		rc = ts_fe_barrier(&f->t->fe);
	close(ends[0]);
	close(ends[1]);
	return rc;
}

static int reset(struct fault *f)
{
	int rc = ts_fe_simple(&f->t->fe, TS_RESET_OWNER);

	return rc ? rc : ts_fe_barrier(&f->t->fe);
}

/* The front-end goes: whoever has nothing left can still let go. */
static int leave(struct fault *f)
{
	fault_leave(f);
	return -ECONNRESET;
}

/* Who asks is answered, and else nothing is needed. */
static int look(struct fault *f)
{
	vd_info(f->t);
	for (unsigned i = 0; i < 4; i++)
		vd_ring_info(f->t, i);
	return ts_fe_barrier(&f->t->fe);
}

/* ---- of a device that is made ---- */

/* The port in a new form, with nothing of it left if that fails. */
static int create(struct fault *f)
{
	struct vd *t = f->t;
	char why[200] = "";
	int rc = vu_device_create(t->base, &t->conf, &t->dev, why, sizeof(why));

	if (rc == 0)
		return 0;
	assert_null(t->dev);
	assert_int_not_equal(why[0], '\0');
	if (t->conf.listen)
		assert_int_equal(access(t->path, F_OK), -1);
	return rc;
}

/* It moves: if it cannot, the older one goes on, and the newer one waits for another record. */
static int move(struct fault *f)
{
	struct vd *t = f->t;
	struct vu_record rec = {0}, copy;
	struct vu_device_conf conf = t->conf;
	struct vu_device *to = NULL;
	char why[200] = "";
	int rc;

	conf.dormant = true;
	rc = vu_device_create(t->base, &conf, &to, why, sizeof(why));
	if (!rc)
		rc = vu_device_freeze(t->dev, why, sizeof(why));
	if (rc) {
		assert_int_not_equal(why[0], '\0');
		vu_device_destroy(to);
		return rc;
	}
	rc = vu_device_record(t->dev, &rec, why, sizeof(why));
	if (!rc) {
		copy = vd_received(&rec);
		rc = vu_device_restore(to, &copy, why, sizeof(why));
		vu_record_free(&copy);
	}
	vu_record_free(&rec);
	if (rc) {
		assert_int_not_equal(why[0], '\0');
		vu_device_destroy(to);
		vu_device_resume(t->dev);
	} else {
		vd_destroy(t);
		t->dev = to;
		vu_device_resume(to);
	}
	return rc;
}

/* ---- one after the other ---- */

static const char *where;
static unsigned calls;

/* What holds after any of them. */
static void held(struct fault *f, const struct row *row, unsigned n, int rc)
{
	struct vd *t = f->t;

	if (rc == -ETIMEDOUT)
		fail_msg("call %u, %s: nobody answers (%s)", n, where, t->fe.why);
	fault_neighbours_answer(f);
	if (rc == 0 && row->runs && vd_info(t).connection != VU_WAITING)
		fault_traffic(f);
}

static void begin(struct fault *f, const struct row *row)
{
	struct vd *t = f->t;

	if (vd_info(t).connection != VU_WAITING)
		fault_leave(f);
	ts_fe_free(&t->fe);
	if (f->log) {
		ts_log_free(f->log);
		f->log = NULL;
	}
	if (row->anew) {
		vd_front_end(t, &ts_qemu_10);
		t->fe.want_protocol |= vu_default_protocol_features();
	} else {
		fault_enter(f, row->phase);
	}
	t->fe.timeout_ms = HANG_MS;
	if (row->run == log_on) {
		f->log = ts_log_new(t->guest, 0, 4096);
		assert_non_null(f->log);
	}
}

/* The devices of a moving port are two at a time: the lcore must not look for either. */
static int attempt(struct fault *f, const struct row *row, unsigned n)
{
	const bool rests = row->run == move;
	int rc;

	begin(f, row);
	if (rests)
		fault_rest(f);
	failing_begin(n);
	rc = row->run(f);
	calls = failing_end(&where);
	if (rests)
		fault_work(f);
	return rc;
}

static void each_call(struct fault *f, const struct fault_case *c)
{
	const struct row *row = c->data;
	unsigned n = 0;
	int rc;

	do {
		n++;
		rc = attempt(f, row, n);
		held(f, row, n, rc);
		if (rc == 0 && row->run == move) { /* and so it does once more */
			fault_rest(f);
			assert_int_equal(move(f), 0);
			fault_work(f);
		}
		assert_in_range(n, 1, CALLS_MAX);
		/* Another front-end, or this one again, is served as if nothing had been. */
	} while (where);
	fault_count(n - 1);
	if (rc && row->run != leave)
		fail_msg("with everything to be had: %d, %s", rc, f->t->fe.why);
	if (vd_info(f->t).connection != VU_WAITING)
		fault_leave(f);
}

/* Devices of all kinds, of which a call of each fails while they are made. */
static void each_call_of_a_new_one(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	const struct vu_device_conf conf = t->conf;
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
	char state[80];
	unsigned n = 0;
	int rc;

	snprintf(state, sizeof(state), "/dev/shm/sluice-test-%d.calls", getpid());
	fault_leave(f);
	do {
		n++;
		fault_rest(f);
		vd_destroy(t);
		t->conf.listen = c->arg[0] != 1;
		t->conf.state_path = c->arg[0] == 2 ? state : NULL;
		t->conf.mac = c->arg[0] == 2 ? mac : NULL;
		t->conf.dormant = c->arg[0] == 3;
		failing_begin(n);
		rc = create(f);
		calls = failing_end(&where);
		assert_in_range(n, 1, CALLS_MAX);
		if (rc == 0 && t->conf.listen && !t->conf.dormant) {
			/* Without something it wanted, perhaps, but it works. */
			fault_work(f);
			fault_enter(f, FAULT_RUNNING);
			fault_leave(f);
			fault_rest(f);
		}
		vd_destroy(t);
		assert_int_equal(access(state, F_OK), -1);
		t->conf = conf;
		vd_create(t);
		fault_work(f);
	} while (where);
	assert_int_equal(rc, 0);
	fault_count(n - 1);
}

/* What only delays a ring: it is tried again until there is what was not to be had. */

static void translated(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	const struct vu_device_conf conf = t->conf;

	fault_leave(f);
	fault_rest(f);
	vd_destroy(t);
	f->quarantined = true;
	fault_work(f);
	vd_iommu_start(t, 1);
	vd_iommu_traffic(t, VD_PAGE);
	fault_leave(f);
	failing_end(&where);
	ts_fe_free(&t->fe);
	t->guest->iova = 0;
	fault_rest(f);
	t->conf = conf;
	f->quarantined = false;
	fault_again(f);
}

struct later {
	const char *name, *file;
	fault_run *run;
	unsigned first; /* call: those before are no mere delay */
};

static void later(struct fault *f, const struct fault_case *c)
{
	const struct later *l = c->data;
	unsigned n = l->first;

	for (where = ""; where; n++) {
		failing_begin_in(l->file, n);
		l->run(f, c);
		failing_end(&where);
		if (where)
			fault_enter(f, FAULT_NEW);
	}
	assert_true(n - 1 > l->first);
	fault_count(n - 1 - l->first);
}

void rows_calls(void)
{
	static const struct later delays[] = {
		{"pages of a post-copy", "vu_on_postcopy.c", fault_slow_pages, 2},
		{"translations", "virtq_iotlb.c", translated, 2},
	};
	static const struct row rows[] = {
		{"a whole handshake", handshake, FAULT_NEW, true, true},
		{"SET_MEM_TABLE", mem_table, FAULT_RUNNING, false, true},
		{"rings stopped and started", rings_again, FAULT_RUNNING, false, true},
		{"rings disabled and enabled", off_and_on, FAULT_RUNNING, false, true},
		{"a log", log_on, FAULT_RUNNING, false, true},
		{"the end of a log", log_off, FAULT_MIGRATING, false, true},
		{"rings stopped and started under a log", rings_again, FAULT_MIGRATING, false,
			true},
		{"an in-flight region", in_flight, FAULT_NEW, false, false},
		{"a back-end channel", channel, FAULT_RUNNING, false, true},
		{"RESET_OWNER", reset, FAULT_RUNNING, false, false},
		{"the front-end leaves", leave, FAULT_RUNNING, false, false},
		{"the front-end leaves under a log", leave, FAULT_MIGRATING, false, false},
		{"statistics", look, FAULT_RUNNING, false, true},
		{"the port moves", move, FAULT_RUNNING, false, true},
		{"the port moves under a log", move, FAULT_MIGRATING, false, true},
	};
	static const char *const kinds[] = {"listens", "connects", "keeps its state", "is dormant"};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(rows); i++)
		for (unsigned packed = 0; packed < 2; packed++)
			fault_add(&(struct fault_case){.run = each_call,
					  .phase = rows[i].phase,
					  .format = packed ? FAULT_PACKED : FAULT_SPLIT,
					  .data = &rows[i]},
				"P6_calls[%s,%s]", rows[i].name, packed ? "packed" : "split");
	for (unsigned i = 0; i < TS_ARRAY_SIZE(delays); i++)
		fault_add(&(struct fault_case){.run = later, .data = &delays[i]}, "P6_delayed[%s]",
			delays[i].name);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(kinds); i++)
		fault_add(&(struct fault_case){.run = each_call_of_a_new_one, .arg = {i}},
			"P6_new port[that %s]", kinds[i]);
}

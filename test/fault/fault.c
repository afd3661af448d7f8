/* SPDX-License-Identifier: BSD-3-Clause */
/* The port, its neighbours and their lcore; what holds at the end of every case. */
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "fault_priv.h"

/* The lcore may wait for a CPU as long as it has to, but hardly be asleep: only to have a page mapped
 * while control maps another. */
#define SLEEP_MAX_US 1000000u
#define SAMPLE_US    10000u
#define AT_LEAST     8u /* turns, and frames of each neighbour, in every case */
#define SOON_MS      10000u

#define MAPS()       ts_count_maps("memfd:")

const char *const fault_phase_names[FAULT_PHASES] = {"new", "running", "migrating"};

/* What the lcore knows of its own past. */
struct watch {
	int schedstat;
	uint64_t sample; /* when it was, microseconds */
	int64_t awake;   /* until then */
};

static struct lcore lcore;
static struct fault fault;

/* ---- the lcore ---- */

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* Microseconds this thread ran or waited for a CPU; negative: the kernel does not say. */
static int64_t awake_us(int schedstat)
{
	char text[100];
	long long ran, waited;
	ssize_t n = pread(schedstat, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return -1;
	text[n] = '\0';
	if (sscanf(text, "%lld %lld", &ran, &waited) != 2)
		return -1;
	return (ran + waited) / 1000;
}

/* How long it has been asleep since the last time. */
static void watch(struct watch *w)
{
	const uint64_t now = now_us();
	int64_t awake;

	if (now - w->sample < SAMPLE_US)
		return;
	awake = awake_us(w->schedstat);
	if (awake >= 0 && w->awake >= 0) {
		int64_t asleep = (int64_t)(now - w->sample) - (awake - w->awake);

		if (asleep > lcore.asleep_us)
			lcore.asleep_us = asleep;
	}
	w->awake = awake;
	w->sample = now;
}

/* One turn of a neighbour: its guest sends, the other one's receives as much. */
static void neighbour(struct fault *f, unsigned i, bool send)
{
	struct vd *from = f->near[i], *to = f->near[!i];
	struct vd_ring *tx = &from->ring[1], *rx = &to->ring[0];
	const struct ts_ring *ring = from->fe.rings[1].ring;
	uint64_t before = tx->consumed, sent = rx->sent;

	if (send)
		lcore.offered[i] +=
			vd_guest_adds(from, 1, ring->n_free / 2 > 32 ? 32 : ring->n_free / 2);
	vd_guest_adds(to, 0, VD_RING_SIZE);
	vd_burst(from, 1);
	if (ring->n_out > 0 && tx->consumed == before)
		lcore.idle++;
	virtq_store(&rx->to_send, tx->consumed);
	vd_burst(to, 0);
	if (rx->sent == sent && rx->to_send > sent)
		lcore.idle++;
	vd_guest_takes(from, 1);
	lcore.received[i] += vd_guest_takes(to, 0);
}

static void turn(struct fault *f, bool send)
{
	neighbour(f, 0, send);
	neighbour(f, 1, send);
	virtq_store(&lcore.turns, lcore.turns + 1);
}

static void *work(void *arg)
{
	struct fault *f = arg;
	struct watch w = {.schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC),
		.sample = now_us()};

	w.awake = awake_us(w.schedstat);
	while (!virtq_load(&lcore.stop)) {
		for (unsigned i = 0; !f->quarantined && i < 2u * f->t->conf.queue_pairs; i++)
			vd_burst(f->t, i);
		turn(f, true);
		watch(&w);
	}
	close(w.schedstat);
	return NULL;
}

void fault_work(struct fault *f)
{
	const uint64_t turns = virtq_load(&lcore.turns);

	lcore.stop = false;
	assert_int_equal(pthread_create(&lcore.thread, NULL, work, f), 0);
	lcore.working = true;
	assert_true(TS_WAIT(virtq_load(&lcore.turns) > turns, SOON_MS));
}

void fault_rest(struct fault *f)
{
	(void)f;
	if (!lcore.working)
		return;
	virtq_store(&lcore.stop, true);
	pthread_join(lcore.thread, NULL);
	lcore.working = false;
}

/* ---- neighbours ---- */

static struct vd *move_in(struct event_base *base, uint64_t format)
{
	struct vd *t = vd_new(base, format);

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	return t;
}

static void neighbours_move_in(struct fault *f)
{
	if (f->near[0])
		return;
	f->near[0] = move_in(NULL, 0);
	f->near[1] = move_in(f->near[0]->base, TS_BIT(VIRTIO_F_RING_PACKED));
}

static void neighbours_move_out(struct fault *f)
{
	if (f->near[1])
		vd_free(f->near[1]);
	if (f->near[0])
		vd_free(f->near[0]);
}

void fault_neighbours_answer(struct fault *f)
{
	for (unsigned i = 0; i < 2; i++)
		vd_ok(f->near[i], ts_fe_barrier(&f->near[i]->fe));
}

/* Nothing on its way any more, and nothing lost: exactly what was sent has come. */
static void neighbours_hold(struct fault *f)
{
	for (unsigned i = 0; i < 1000; i++) {
		turn(f, false);
		if (f->near[0]->fe.rings[1].ring->n_out + f->near[1]->fe.rings[1].ring->n_out == 0)
			break;
	}
	for (unsigned i = 0; i < 2; i++) {
		struct vd *from = f->near[i], *to = f->near[!i];
		struct ts_ring *tx = from->fe.rings[1].ring, *rx = to->fe.rings[0].ring;

		if (tx->faults.count || rx->faults.count)
			fail_msg("neighbour %u: %s", i,
				tx->faults.count ? tx->faults.first : rx->faults.first);
		assert_int_equal(tx->n_out, 0);
		if (lcore.offered[i] != lcore.received[i])
			fail_msg("of %llu frames of neighbour %u %llu came",
				(unsigned long long)lcore.offered[i], i,
				(unsigned long long)lcore.received[i]);
		assert_int_equal(vd_info(from).connections, 1);
		assert_int_equal(from->ring[1].changes, 1);
		assert_true(lcore.offered[i] - lcore.before[i] >= AT_LEAST);
	}
	if (lcore.idle)
		fail_msg("%llu turns left a neighbour's frames lying",
			(unsigned long long)lcore.idle);
	if (!f->may_sleep && lcore.asleep_us > SLEEP_MAX_US)
		fail_msg("the lcore was asleep for %lld ms", (long long)lcore.asleep_us / 1000);
}

/* ---- the port ---- */

static uint64_t format_of(const struct fault_case *c)
{
	bool packed =
		c->format == FAULT_EITHER ? fault_hash(c->name) & 1 : c->format == FAULT_PACKED;

	return packed ? TS_BIT(VIRTIO_F_RING_PACKED) : 0;
}

static void forget_log(struct fault *f)
{
	ts_log_free(f->log);
	f->log = NULL;
}

void fault_migrate(struct fault *f)
{
	forget_log(f);
	f->log = ts_log_new(f->t->guest, 0, 4096);
	assert_non_null(f->log);
	vd_ok(f->t, ts_fe_set_log(&f->t->fe, f->log->fd, f->log->size, f->log->offset));
	vd_ok(f->t, ts_fe_log(&f->t->fe, true));
}

void fault_enter(struct fault *f, enum fault_phase phase)
{
	struct vd *t = f->t;

	vd_front_end(t, &ts_qemu_10);
	t->fe.want_protocol |= vu_default_protocol_features();
	t->fe.timeout_ms = 5000;
	vd_connect(t);
	if (phase == FAULT_NEW) {
		const uint64_t all = vu_default_protocol_features();

		t->fe.rings[3].base = 0;
		vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_PROTOCOL_FEATURES, all));
		t->fe.protocol = all;
		vd_ok(t, ts_fe_barrier(&t->fe));
		return;
	}
	vd_start(t);
	fault_traffic(f);
	if (phase == FAULT_MIGRATING)
		fault_migrate(f);
}

void fault_pairs(struct fault *f, uint16_t pairs, bool elsewhere)
{
	fault_rest(f);
	f->t->conf.queue_pairs = pairs;
	f->quarantined = elsewhere;
	fault_again(f);
}

void fault_again(struct fault *f)
{
	fault_rest(f);
	vd_destroy(f->t);
	vd_create(f->t);
	fault_work(f);
}

void fault_post(struct fault *f, unsigned ring, unsigned n)
{
	struct vd_ring *r = &f->t->ring[ring];

	if (ring & 1) {
		vd_guest_sends(f->t, ring, n);
	} else {
		vd_guest_posts(f->t, ring, n);
		/* Not from what was sent: that is counted after the guest can see it. */
		virtq_store(&r->to_send, virtq_load(&r->to_send) + n);
	}
}

void fault_traffic(struct fault *f)
{
	struct vd *t = f->t;

	for (unsigned i = 0; i < 2u * t->conf.queue_pairs; i++)
		fault_post(f, i, 20);
	for (unsigned i = 0; i < 2u * t->conf.queue_pairs; i++) {
		unsigned back = 0;

		if (!VD_WAIT(t, (back += vd_guest_reaps(t, i)) >= 20, SOON_MS))
			fail_msg("ring %u: %u of 20 came back; device: %s; %s", i, back,
				vd_info(t).last_error, vu_trouble_text(vd_info(t).trouble));
		assert_int_equal(back, 20);
	}
}

/* The guest writes nothing between the two looks at its memory. */
struct ts_log_result fault_logged(struct fault *f, unsigned n)
{
	struct vd *t = f->t;
	const unsigned rings = 2u * t->conf.queue_pairs;
	struct ts_log_result r;

	fault_rest(f);
	for (unsigned i = 0; i < rings; i++)
		fault_post(f, i, n);
	ts_log_begin(f->log);
	fault_work(f);
	for (unsigned i = 0; i < rings; i++)
		if (!VD_WAIT(t, vd_all_used(t, i), SOON_MS))
			fail_msg("ring %u did not take %u chains", i, n);
	assert_true(ts_log_end(f->log, &r));
	for (unsigned i = 0; i < rings; i++)
		assert_int_equal(vd_guest_reaps(t, i), n);
	if (r.missed || r.stray)
		fail_msg("%u pages changed, %u marked, %u missed (first 0x%llx), %u stray",
			r.changed, r.marked, r.missed, (unsigned long long)r.first, r.stray);
	return r;
}

void fault_closed(struct fault *f, const char *why)
{
	struct vd *t = f->t;

	if (!VD_WAIT(t, vd_info(t).connection == VU_WAITING, SOON_MS))
		fail_msg("the connection was not closed");
	assert_true(vd_info(t).last_error[0] != '\0');
	if (why && !strstr(vd_info(t).last_error, why))
		fail_msg("closed because \"%s\", not \"%s\"", vd_info(t).last_error, why);
}

void fault_leave(struct fault *f)
{
	ts_fe_disconnect(&f->t->fe);
	fault_closed(f, NULL);
}

int fault_ask(struct fault *f, struct ts_msg *m)
{
	uint64_t ack = 2;
	int rc;

	m->hdr.flags |= TS_NEED_REPLY;
	vd_ok(f->t, ts_send_msg(&f->t->fe, m));
	rc = ts_recv_answer(&f->t->fe, m->hdr.request, &ack, sizeof(ack));
	if (rc)
		return rc;
	assert_in_range(ack, 0, 1);
	return ack ? -EREMOTEIO : 0;
}

void fault_refused(struct fault *f, struct ts_msg *m)
{
	char before[4096], after[4096];
	struct vd *t = f->t;
	int rc;

	vd_snapshot(t, before, sizeof(before));
	rc = fault_ask(f, m);
	if (rc == -ECONNRESET) {
		fault_closed(f, NULL);
		return;
	}
	if (rc != -EREMOTEIO)
		fail_msg("request %u was not refused: %d", m->hdr.request, rc);
	assert_true(vd_info(t).last_error[0] != '\0');
	vd_snapshot(t, after, sizeof(after));
	assert_string_equal(after, before);
	vd_ok(t, ts_fe_barrier(&t->fe));
	if (f->c->phase != FAULT_NEW)
		fault_traffic(f);
}

/* ---- a case ---- */

int fault_setup(void **state)
{
	const struct fault_case *c = *state;
	struct fault *f = &fault;
	struct vd *t;

	ts_seed();
	neighbours_move_in(f);
	*state = f;
	f->c = c;
	f->t = t = vd_new(f->near[0]->base, format_of(c));
	vd_conf(t, 2);
	t->conf.features |= TS_BIT(VIRTIO_F_ACCESS_PLATFORM);
	t->conf.peer_timeout_ms = c->timeout_ms;
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	vd_msg_begin();
	lcore.idle = 0;
	lcore.asleep_us = 0;
	f->may_sleep = f->quarantined = false;
	lcore.maps = MAPS();
	for (unsigned i = 0; i < 2; i++)
		lcore.before[i] = lcore.offered[i];
	fault_work(f);
	lcore.fds = ts_count_fds(NULL);
	return 0;
}

/* I6: as if there had been no connection. What an lcore was stuck with goes when it is out. */
static void all_given_back(struct fault *f)
{
	struct vd *t = f->t;

	ts_fe_free(&t->fe);
	forget_log(f);
	assert_true(VD_WAIT(t, vd_info(t).connection == VU_WAITING, SOON_MS));
	if (!VD_WAIT(t, ts_count_fds(NULL) == lcore.fds && MAPS() == lcore.maps, SOON_MS))
		fail_msg("%d descriptors and %d mappings, %d and %d before", ts_count_fds(NULL),
			MAPS(), lcore.fds, lcore.maps);
}

/* What holds whatever was done. */
static void fault_end(struct fault *f)
{
	const uint64_t turns = virtq_load(&lcore.turns);

	fault_neighbours_answer(f);
	assert_true(VD_WAIT(f->t, virtq_load(&lcore.turns) > turns + AT_LEAST, SOON_MS));
	all_given_back(f);
	fault_enter(f, FAULT_RUNNING);
	fault_traffic(f);
	fault_leave(f);
	ts_fe_free(&f->t->fe);
	fault_rest(f);
	neighbours_hold(f);
	fault_note(f->c, &lcore);
}

void fault_test(void **state)
{
	struct fault *f = *state;

	fault_enter(f, f->c->phase);
	f->c->run(f, f->c);
	fault_end(f);
}

int fault_teardown(void **state)
{
	struct fault *f = *state;

	fault_rest(f);
	forget_log(f);
	vd_msg_done();
	vd_free(f->t);
	f->t = NULL;
	if (fault_was_last())
		neighbours_move_out(f);
	return 0;
}

/* ---- memory ---- */

/* Without what the allocator only keeps. */
long fault_rss(void)
{
	FILE *in = fopen("/proc/self/smaps_rollup", "re");
	char line[200];
	long kib = -1;

	malloc_trim(0);
	assert_non_null(in);
	while (kib < 0 && fgets(line, sizeof(line), in))
		if (sscanf(line, "Anonymous: %ld kB", &kib) != 1)
			kib = -1;
	fclose(in);
	assert_true(kib >= 0);
	return kib;
}

void fault_rss_flat(long before, long kib)
{
	long now = fault_rss();

	if (!TS_SANITIZED && now - before > kib)
		fail_msg("%ld KiB resident, %ld before", now, before);
}

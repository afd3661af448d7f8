/* SPDX-License-Identifier: BSD-3-Clause */
/* A back-end that is killed under load, and its successor. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vd.h"
#include "virtq_lend.h"
#include "virtq_packed.h"
#include "virtq_split.h"

/*
 * Theory of operation
 *
 * The back-end is a process of its own: a forked child with the device of vd.c and its data path.
 * The guest and the front-end stay in the parent. Frames are numbered; the child notes in shared
 * memory which it has taken, before it gives any back, so that after all the deaths the parent can
 * tell lost from doubled ones. The driver (ts_ring) is strict about used ids.
 */

#define ROUNDS (TS_SANITIZED ? 40 : 200)
#define FRAMES (1u << 24)

/* Written by the children. */
struct seen {
	uint8_t times[FRAMES];
	uint64_t filled; /* receive buffers */
};

struct crash {
	struct vd *t;
	struct seen *seen;
	pid_t child;
	uint64_t sent, reaped, received; /* frames and buffers */
	bool packed, region, lends;
	struct virtq_lender lender; /* the child's */
};

/* ---- the child ---- */

static struct seen *child_seen;
static struct ts_rng child_rng;

static uint32_t number_of(const struct virtq_chain *chain)
{
	uint32_t n;

	memcpy(&n, chain->seg[0].va, sizeof(n));
	return n % FRAMES;
}

static uint16_t take(struct virtq *vq, const struct virtq_view *v, enum virtq_dir dir,
	struct virtq_segs *segs, struct virtq_chain *chain)
{
	const struct virtq_ops *ops = v->packed ? &virtq_packed_ops : &virtq_split_ops;
	uint16_t n = ops->ready(vq, v, VIRTQ_BURST), i = 0;

	virtq_segs_begin(segs);
	while (!vq->fault && i < n && ops->take(vq, v, dir, segs, &chain[i]))
		i++;
	return i;
}

static uint16_t eat(struct virtq *vq, const struct virtq_view *v, void **pkts, uint16_t max)
{
	const struct virtq_ops *ops = v->packed ? &virtq_packed_ops : &virtq_split_ops;
	struct virtq_chain chain[VIRTQ_BURST];
	struct virtq_segs segs;
	uint16_t n = take(vq, v, VIRTQ_FROM_GUEST, &segs, chain);

	(void)pkts, (void)max;
	for (uint16_t i = 0; i < n; i++)
		virtq_store(&child_seen->times[number_of(&chain[i])],
			(uint8_t)(child_seen->times[number_of(&chain[i])] + 1));
	for (uint16_t i = 0; i < n; i++)
		ops->give(vq, v, &chain[i], 0);
	if (n > 0)
		ops->publish(vq, v);
	return n;
}

static uint16_t fill(struct virtq *vq, const struct virtq_view *v, void **pkts, uint16_t max)
{
	const struct virtq_ops *ops = v->packed ? &virtq_packed_ops : &virtq_split_ops;
	struct virtq_chain chain[VIRTQ_BURST];
	struct virtq_segs segs;
	uint16_t n = take(vq, v, VIRTQ_TO_GUEST, &segs, chain);

	(void)pkts, (void)max;
	for (uint16_t i = 0; i < n; i++) {
		memset(chain[i].seg[0].va, 0x77, 64);
		ops->give(vq, v, &chain[i], 64);
	}
	if (n > 0)
		ops->publish(vq, v);
	virtq_count(&child_seen->filled, n);
	return n;
}

/* Chains whose buffers are lent come home at random, and soon overtake. */
static bool homes(struct virtq *vq, const struct virtq_view *v, const struct virtq_ops *ops)
{
	struct virtq_window *w = &v->lender->window;
	bool gave = false;

	for (uint32_t i = w->head; i != w->tail; i++)
		if (virtq_window_at(w, i)->out > 0 && ts_rand_below(&child_rng, 8) == 0)
			gave |= virtq_window_home(vq, v, w, i, ops);
	gave |= virtq_window_give(vq, v, w, ops);
	if (!gave && ts_rand_below(&child_rng, 4) == 0)
		gave = virtq_window_overtake(vq, v, w, ops);
	return gave;
}

/* As eat(), but some are kept. */
static uint16_t eat_and_lend(
	struct virtq *vq, const struct virtq_view *v, void **pkts, uint16_t max)
{
	const struct virtq_ops *ops = v->packed ? &virtq_packed_ops : &virtq_split_ops;
	struct virtq_window *w = &v->lender->window;
	struct virtq_chain chain[VIRTQ_BURST];
	struct virtq_segs segs;
	bool gave = homes(vq, v, ops), publishes = gave;
	uint16_t n = 0, lent[VIRTQ_BURST];

	(void)pkts, (void)max;
	if (virtq_window_len(w) < VD_RING_SIZE / 2)
		n = take(vq, v, VIRTQ_FROM_GUEST, &segs, chain);
	for (uint16_t i = 0; i < n; i++) {
		virtq_store(&child_seen->times[number_of(&chain[i])],
			(uint8_t)(child_seen->times[number_of(&chain[i])] + 1));
		lent[i] = ts_rand_below(&child_rng, 2);
		publishes |= lent[i] == 0;
	}
	for (uint16_t i = 0; i < n; i++) {
		if (lent[i] || virtq_window_waits(w, w->tail)) {
			virtq_window_add(v, w, &chain[i], lent[i], publishes);
		} else {
			ops->give(vq, v, &chain[i], 0);
			gave = true;
		}
	}
	if (gave)
		ops->publish(vq, v);
	virtq_track_taken(vq, v);
	return n;
}

/* Rings do not stop here, they die. */
static uint32_t settle_nothing(
	struct virtq_lender *lender, struct virtq *vq, const struct virtq_view *v)
{
	(void)lender, (void)vq, (void)v;
	return 0;
}

static bool reap_nothing(struct virtq_lender *lender, bool stopped)
{
	(void)lender, (void)stopped;
	return false;
}

static void on_prepare(void *arg, unsigned ring, struct virtq_view *view)
{
	struct crash *c = arg;

	view->burst = ring & 1 ? eat : fill;
	if (!c->lends || !(ring & 1))
		return;
	virtq_window_resize(&c->lender.window, view->num);
	view->lender = &c->lender;
	view->burst = eat_and_lend;
}

static _Noreturn void back_end(struct crash *c)
{
	static const struct vu_device_ops ops = {.prepare = on_prepare};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	child_seen = c->seen;
	ts_rng_init(&child_rng, (uint64_t)getpid());
	c->lender.settle = c->lender.abandon = settle_nothing;
	c->lender.reap = reap_nothing;
	c->lender.window.chain = calloc(VIRTQ_WINDOW, sizeof(*c->lender.window.chain));
	c->t->conf.ops = &ops;
	c->t->conf.arg = c;
	vd_create(c->t);
	for (;;) {
		vd_run(c->t);
		for (unsigned i = 0; i < 100; i++) {
			vd_burst(c->t, 0);
			vd_burst(c->t, 1);
		}
	}
}

/* ---- the guest ---- */

static void post(struct crash *c)
{
	struct ts_ring *rx = c->t->fe.rings[0].ring, *tx = c->t->fe.rings[1].ring;
	const struct ts_seg buffer = {0x480000, 1526};

	while (c->sent < FRAMES) {
		/* A slot of its own for as long as it is out. */
		const struct ts_seg frame[] = {
			{0x400000 + 64 * (c->sent % 512), 60}, {0x4f0000, 16}};
		uint32_t number = (uint32_t)c->sent;
		bool two = c->sent % 3 == 0;

		ts_guest_write(c->t->guest, frame[0].gpa, &number, sizeof(number));
		if (ts_ring_add(tx, frame, 1 + two, NULL, 0, tx, TS_DIRECT) != 0)
			break;
		c->sent++;
	}
	while (ts_ring_add(rx, NULL, 0, &buffer, 1, rx, TS_DIRECT) == 0)
		;
	ts_ring_publish(tx);
	ts_ring_publish(rx);
}

static void reap(struct crash *c)
{
	struct ts_ring *rx = c->t->fe.rings[0].ring, *tx = c->t->fe.rings[1].ring;
	uint32_t len;

	while (ts_ring_get_used(tx, &len))
		c->reaped++;
	while (ts_ring_get_used(rx, &len)) {
		assert_int_equal(len, 64);
		c->received++;
	}
	if (rx->faults.count || tx->faults.count)
		fail_msg("after %llu frames: %s", (unsigned long long)c->reaped,
			rx->faults.count ? rx->faults.first : tx->faults.first);
}

static void load(struct crash *c, uint64_t us)
{
	uint64_t end = ts_now_ms() * 1000 + us;

	do {
		post(c);
		reap(c);
	} while (ts_now_ms() * 1000 < end);
}

/* ---- life and death ---- */

static void bear(struct crash *c)
{
	c->child = fork();
	assert_true(c->child >= 0);
	if (c->child == 0)
		back_end(c);
}

static void slay(struct crash *c)
{
	if (c->child <= 0)
		return;
	kill(c->child, SIGKILL);
	waitpid(c->child, NULL, 0);
	c->child = 0;
	unlink(c->t->path);
}

/* As QEMU does: a split ring goes on where it was used, of a packed one only the beginning is known. */
static void bases(struct crash *c)
{
	ts_fe_recover_bases(&c->t->fe);
	for (unsigned i = 0; i < 2 && c->packed; i++)
		c->t->fe.rings[i].base = 0x80008000;
}

static void connect_again(struct crash *c)
{
	struct vd *t = c->t;

	ts_fe_disconnect(&t->fe);
	t->fe.timeout_ms = 10000;
	vd_ok(t, ts_fe_connect(&t->fe, t->path));
	vd_ok(t, ts_fe_negotiate(&t->fe));
	if (c->region && t->fe.inflight_fd < 0) {
		vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, t->fe.features));
		vd_ok(t, ts_fe_get_inflight(&t->fe, 2, VD_RING_SIZE));
	}
	if (c->region)
		vd_ok(t, ts_fe_set_inflight(&t->fe));
	if (t->fe.rings[0].ring)
		bases(c);
	else
		vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, TS_RING_SHUFFLE));
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
}

/* Nothing lost; what came twice was in the hands of one that died. */
static void settle(struct crash *c)
{
	unsigned twice = 0;

	assert_true(TS_WAIT((reap(c), c->reaped == c->sent), 10000));
	for (uint64_t i = 0; i < c->sent; i++) {
		if (c->seen->times[i] == 0)
			fail_msg("frame %llu was lost", (unsigned long long)i);
		twice += c->seen->times[i] - 1u;
	}
	fprintf(stderr, "# %llu frames and %llu buffers over %u deaths, %u frames twice\n",
		(unsigned long long)c->sent, (unsigned long long)c->received, ROUNDS, twice);
	assert_in_range(twice, 0, ROUNDS * VIRTQ_BURST);
	assert_true(c->received > ROUNDS);
}

enum record {
	NO_RECORD,
	THEIR_REGION,
	OUR_FILE
};

static const char *state_file(void)
{
	static char path[64];

	if (!path[0]) /* the children have their parent's */
		snprintf(path, sizeof(path), "/dev/shm/sluice-test-%d.state", getpid());
	return path;
}

static void die_again_and_again(struct vd *t, bool packed, enum record record, bool lends)
{
	struct crash c = {
		.t = t, .packed = packed, .region = record == THEIR_REGION, .lends = lends};
	bool region = c.region;
	struct ts_rng rng;

	ts_rng_init(&rng, ts_seed());
	c.seen = mmap(
		NULL, sizeof(*c.seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(c.seen != MAP_FAILED);
	vd_conf(t, 1);
	if (record == OUR_FILE)
		t->conf.state_path = state_file();
	vd_front_end(t, &ts_qemu_10);
	t->fe.pump = NULL;
	t->fe.want |= packed ? TS_BIT(VIRTIO_F_RING_PACKED) : 0;
	t->fe.want_protocol |= region ? TS_BIT(TS_PROTO_INFLIGHT_SHMFD) : 0;
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t before = c.reaped;

		bear(&c);
		connect_again(&c);
		/* Traffic goes on at once, and in the midst of it: */
		assert_true(TS_WAIT((post(&c), reap(&c), c.reaped > before), 2000));
		load(&c, ts_rand_below(&rng, 4000));
		slay(&c);
		reap(&c);
	}
	bear(&c);
	connect_again(&c);
	settle(&c);
	slay(&c);
	munmap(c.seen, sizeof(*c.seen));
}

static void trap_5_13_split(void **state)
{
	die_again_and_again(*state, false, NO_RECORD, false);
}

static void trap_5_13_split_with_a_region(void **state)
{
	die_again_and_again(*state, false, THEIR_REGION, false);
}

static void trap_5_13_packed_with_a_region(void **state)
{
	die_again_and_again(*state, true, THEIR_REGION, false);
}

static void packed_with_a_record_of_ours(void **state)
{
	die_again_and_again(*state, true, OUR_FILE, false);
}

static void split_that_lends(void **state)
{
	die_again_and_again(*state, false, OUR_FILE, true);
}

static void packed_that_lends(void **state)
{
	die_again_and_again(*state, true, OUR_FILE, true);
}

static int teardown(void **state)
{
	unlink(state_file());
	return vd_teardown(state);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, vd_setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(trap_5_13_split),
		CASE(trap_5_13_split_with_a_region),
		CASE(trap_5_13_packed_with_a_region),
		CASE(packed_with_a_record_of_ours),
		CASE(split_that_lends),
		CASE(packed_that_lends),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

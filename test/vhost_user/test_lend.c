/* SPDX-License-Identifier: BSD-3-Clause */
/* Rings that lend their buffers: what must be home, or is given up, before a message is answered. */
#include "vd.h"
#include "virtq_lend.h"
#include "virtq_packed.h"
#include "virtq_split.h"

#define TX 1 /* the ring we receive from */

/* A lender whose buffers come home when the test, or another thread, says so. */
struct borrower {
	struct virtq_lender lender;
	const struct vu_device_ops *ops; /* vd's */
	struct vd *t;
	bool home; /* all of them may go home */
	unsigned settled, gave_up, reaped;
	bool holds; /* what reap() says */
	bool reaped_running;
	struct vu_device_ops mine;
};

static struct borrower b;

static const struct virtq_ops *ops_of(const struct virtq_view *v)
{
	return v->packed ? &virtq_packed_ops : &virtq_split_ops;
}

static uint16_t lend_all(struct virtq *vq, const struct virtq_view *v, void **pkts, uint16_t max)
{
	struct virtq_segs segs;
	struct virtq_chain chain;
	uint16_t n = 0;

	(void)pkts;
	virtq_segs_begin(&segs);
	for (; n < max && ops_of(v)->ready(vq, v, 1); n++) {
		if (!ops_of(v)->take(vq, v, VIRTQ_FROM_GUEST, &segs, &chain))
			break;
		virtq_window_add(v, &b.lender.window, &chain, 1, false);
	}
	return n;
}

static void give(struct virtq *vq, const struct virtq_view *v)
{
	if (virtq_window_give(vq, v, &b.lender.window, ops_of(v)))
		ops_of(v)->publish(vq, v);
}

static void all_home(struct virtq *vq, const struct virtq_view *v)
{
	struct virtq_window *w = &b.lender.window;

	for (uint32_t i = w->head; i != w->tail; i++)
		virtq_window_home(vq, v, w, i, ops_of(v));
	give(vq, v);
}

static uint32_t settle(struct virtq_lender *lender, struct virtq *vq, const struct virtq_view *v)
{
	b.settled++;
	if (virtq_load(&b.home))
		all_home(vq, v);
	return lender->window.out;
}

static uint32_t abandon(struct virtq_lender *lender, struct virtq *vq, const struct virtq_view *v)
{
	uint32_t out = lender->window.out;

	b.gave_up += out > 0;
	all_home(vq, v);
	return out;
}

static bool reap(struct virtq_lender *lender, bool stopped)
{
	b.reaped++;
	b.reaped_running = !stopped;
	assert_true(!stopped || virtq_window_len(&lender->window) == 0);
	return b.holds;
}

static void on_prepare(void *arg, unsigned ring, struct virtq_view *view)
{
	b.ops->prepare(arg, ring, view);
	if (ring != TX)
		return;
	view->burst = lend_all;
	virtq_window_resize(&b.lender.window, view->num);
	view->lender = &b.lender;
}

static void begin(struct vd *t)
{
	static struct virtq_lent room[VIRTQ_WINDOW];

	vd_conf(t, 1);
	b = (struct borrower){.lender = {settle, abandon, reap, {.chain = room}}, .t = t};
	b.ops = t->conf.ops;
	b.mine = *b.ops;
	b.mine.prepare = on_prepare;
	t->conf.ops = &b.mine;
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	vd_connect(t);
	vd_start(t);
	vd_guest_sends(t, TX, 5);
	assert_int_equal(vd_burst(t, TX), 5);
	assert_int_equal(vd_guest_reaps(t, TX), 0);
}

/* The answer is where the driver sees the ring stop, with nothing in flight. */
static void stop_ring(struct vd *t)
{
	vd_ok(t, ts_fe_get_base(&t->fe, TX));
	assert_int_equal(t->fe.rings[TX].base, vd_shown(t, TX));
}

/* GET_VRING_BASE: nothing is in flight once it is answered. */
static void answer_waits_for_what_is_lent(void **state)
{
	struct vd *t = *state;

	begin(t);
	b.home = true;
	stop_ring(t);
	assert_true(vd_all_used(t, TX));
	assert_int_equal(vd_guest_reaps(t, TX), 5);
	assert_int_equal(b.gave_up, 0);
	assert_true(b.reaped > 0);
	vd_destroy(t);
}

/* It does not wait for ever: the ring gets its chains back though somebody keeps the buffers. */
static void waiting_is_bounded(void **state)
{
	struct vd *t = *state;
	uint64_t before;

	begin(t);
	before = ts_now_ms();
	stop_ring(t);
	assert_true(vd_all_used(t, TX));
	assert_true(ts_now_ms() - before >= 19);
	assert_true(ts_now_ms() - before < 2000);
	assert_int_equal(vd_guest_reaps(t, TX), 5);
	assert_int_equal(b.gave_up, 1);
	assert_true(vd_logged(t, "a ring stops while somebody keeps buffers of"));
	vd_destroy(t);
}

/* Disabled, and the front-end gone: the same. */
static void every_end_of_a_ring_drains_it(void **state)
{
	struct vd *t = *state;

	begin(t);
	b.home = true;
	vd_ok(t, ts_fe_enable(&t->fe, TX, false));
	VD_WAIT(t, virtq_window_len(&b.lender.window) == 0, 1000);
	assert_int_equal(vd_guest_reaps(t, TX), 5);
	vd_ok(t, ts_fe_enable(&t->fe, TX, true));
	VD_WAIT(t, t->ring[TX].usable, 1000);
	vd_guest_sends(t, TX, 3);
	assert_int_equal(vd_burst(t, TX), 3);
	vd_disconnect(t);
	assert_int_equal(vd_guest_reaps(t, TX), 3);
	assert_int_equal(b.gave_up, 0);
	vd_destroy(t);
}

/* Memory that buffers still refer to is asked about again and again, also without a front-end. */
static void memory_is_let_go_of_later(void **state)
{
	struct vd *t = *state;
	unsigned reaped;

	begin(t);
	VD_WAIT(t, b.reaped_running, 1000);
	b.holds = true;
	vd_disconnect(t);
	reaped = b.reaped;
	VD_WAIT(t, b.reaped > reaped + 2, 2000);
	assert_false(b.reaped_running);
	b.holds = false;
	vd_run_ms(t, 300);
	reaped = b.reaped;
	vd_run_ms(t, 300);
	assert_int_equal(b.reaped, reaped);
	vd_destroy(t);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(answer_waits_for_what_is_lent),
		VD_BOTH(waiting_is_bounded),
		VD_BOTH(every_end_of_a_ring_drains_it),
		VD_BOTH(memory_is_let_go_of_later),
	};

	return ts_run_tests(tests, sizeof(tests) / sizeof(tests[0]), argc, argv);
}

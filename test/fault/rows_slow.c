/* SPDX-License-Identifier: BSD-3-Clause */
/* T9: pages that come late, or never. */
#include "rows.h"

#include <unistd.h>

#include "vd_postcopy.h"

/*
 * The port's owner has been told (vu_device_ops.postcopy) and has taken its rings from the lcore
 * that serves the neighbours: another one sleeps.
 */

static void leave_for_good(struct fault *f, struct vd_source *s)
{
	struct vd *t = f->t;

	virtq_store(&s->hold, true);
	vd_run_ms(t, 50);
	fault_leave(f);
	fault_neighbours_answer(f);
	vd_poll_end(t); /* it wakes, for its memory is gone from the front-end's point of view */
}

static void comes_late(struct fault *f, struct vd_source *s)
{
	struct vd *t = f->t;

	virtq_store(&s->hold, false);
	assert_true(VD_WAIT(t,
		virtq_load(&t->ring[1].consumed) == VD_SOURCE_FRAMES &&
			virtq_load(&t->ring[0].sent) == VD_SOURCE_FRAMES,
		30000));
	vd_poll_end(t);
	assert_int_equal(vd_guest_reaps(t, 1), VD_SOURCE_FRAMES);
	assert_int_equal(vd_guest_reaps(t, 0), VD_SOURCE_FRAMES);
	fault_leave(f);
}

void fault_slow_pages(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	struct vd_source s = {.t = t, .uffd = -1, .hold = true};
	const struct vu_device_conf conf = t->conf;
	uint64_t end;

	fault_leave(f);
	fault_rest(f);
	vd_destroy(t);
	t->ring[0].sent = t->ring[0].to_send = t->ring[1].consumed = 0;
	vd_source_begin(&s, c->arg[1]);
	f->quarantined = true;
	fault_work(f);
	vd_source_arrive(&s, c->arg[1]);
	virtq_store(&t->ring[0].to_send, VD_SOURCE_FRAMES);
	vd_poll_begin(t);
	for (end = ts_now_ms() + c->arg[0]; ts_now_ms() < end; vd_run_ms(t, 1))
		fault_neighbours_answer(f);
	if (c->arg[2])
		leave_for_good(f, &s);
	else
		comes_late(f, &s);
	vd_source_end(&s);
	ts_fe_free(&t->fe);
	fault_rest(f);
	t->conf = conf;
	virtq_store(&t->ring[0].to_send, virtq_load(&t->ring[0].sent));
	f->quarantined = false;
	fault_again(f);
}

void rows_slow(void)
{
	static const unsigned ms[] = {10, 100, 1000};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(ms); i++)
		for (unsigned slots = 0; slots < 2; slots++)
			for (unsigned gone = 0; gone < 2; gone++)
				fault_add(&(struct fault_case){.run = fault_slow_pages,
						  .arg = {ms[i], slots, gone}},
					"T9_pages[%s,%s after %u ms]", slots ? "regions" : "table",
					gone ? "never, it leaves" : "come", ms[i]);
}

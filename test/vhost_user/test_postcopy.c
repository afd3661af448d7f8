/* SPDX-License-Identifier: BSD-3-Clause */
/* Post-copy migration: a guest whose memory comes page by page, when somebody asks for it. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vd_postcopy.h"

/* The front-end answers what it is asked in the meantime. */
static bool all_moved(struct vd_source *s)
{
	if (s->iommu)
		vd_iommu_serve(s->t, VD_PAGE);
	return virtq_load(&s->t->ring[1].consumed) == VD_SOURCE_FRAMES &&
	       virtq_load(&s->t->ring[0].sent) == VD_SOURCE_FRAMES;
}

/* Polled until all frames have moved; then all pages have come. */
static void finish(struct vd_source *s)
{
	struct vd *t = s->t;
	struct ts_reply reply;
	struct ts_msg m;

	assert_true(VD_WAIT(t, all_moved(s), 30000));
	assert_true(virtq_load(&s->served) > 3);
	ts_msg_make(&m, TS_POSTCOPY_END, NULL, 0);
	m.hdr.flags |= 1u << 3;
	vd_source_ask(t, &m, &reply, 8);
	assert_int_equal(*(uint64_t *)reply.payload, 0);
	assert_true(ts_fe_quiet(&t->fe));
	vd_poll_end(t);
	assert_int_equal(vd_guest_reaps(t, 1), VD_SOURCE_FRAMES);
	assert_int_equal(vd_guest_reaps(t, 0), VD_SOURCE_FRAMES);
}

static void all_of_it(struct vd *t, bool slots, bool iommu)
{
	struct vd_source s = {.t = t, .uffd = -1, .iommu = iommu};

	vd_source_begin(&s, slots);
	vd_source_arrive(&s, slots);
	t->ring[0].to_send = VD_SOURCE_FRAMES;
	vd_poll_begin(t);
	finish(&s);
	if (iommu)
		vd_iommu_traffic(t, VD_PAGE);
	else
		vd_assert_traffic(t, 0, 1);
	vd_source_end(&s);
}

static void trap_5_15_table(void **state)
{
	all_of_it(*state, false, false);
}

static void trap_5_15_slots(void **state)
{
	all_of_it(*state, true, false);
}

static void trap_5_15_table_with_an_iommu(void **state)
{
	all_of_it(*state, false, true);
}

static void trap_5_15_slots_with_an_iommu(void **state)
{
	all_of_it(*state, true, true);
}

/* Control answers and works on while nobody serves pages. */
static void assert_awake(struct vd_source *s)
{
	for (unsigned i = 0; i < 30; i++) {
		uint64_t before = ts_now_ms();

		vd_ok(s->t, ts_fe_barrier(&s->t->fe));
		if (s->iommu)
			vd_iommu_serve(s->t, VD_PAGE);
		vd_run_ms(s->t, 10);
		assert_true(ts_now_ms() - before < 1000);
	}
}

/* Nobody serves for a while: whoever touches memory sleeps, and control does not. */
static void trap_5_15_control_goes_on(void **state)
{
	struct vd_source s = {.t = *state, .uffd = -1, .hold = true};
	struct vd *t = *state;

	vd_source_begin(&s, false);
	vd_source_arrive(&s, false);
	vd_poll_begin(t);
	assert_awake(&s);
	assert_false(vd_ring_info(t, 1).usable);
	assert_int_equal(virtq_load(&t->ring[1].consumed), 0);
	virtq_store(&s.hold, false);
	assert_true(VD_WAIT(t, virtq_load(&t->ring[1].consumed) == VD_SOURCE_FRAMES, 30000));
	vd_poll_end(t);
	vd_source_end(&s);
}

/* Rings that run, and whose indirect tables have not come: control does not look into those. */
static void trap_5_15_iommu_looks_ahead(void **state)
{
	struct vd_source s = {.t = *state, .uffd = -1, .iommu = true};
	struct vd *t = *state;

	vd_source_begin(&s, false);
	vd_source_arrive(&s, false);
	assert_true(VD_WAIT(t, (vd_iommu_serve(t, VD_PAGE), vd_all_usable(t)), 10000));
	virtq_store(&s.hold, true);
	assert_awake(&s);
	t->ring[0].to_send = VD_SOURCE_FRAMES;
	vd_poll_begin(t);
	assert_awake(&s);
	virtq_store(&s.hold, false);
	finish(&s);
	vd_source_end(&s);
}

/* A ring that is moved while it runs, to pages that have not come: they are fetched as the first
 * ones were. Disabled, it is control that looks into it. */
static void trap_5_15_ring_moves(void **state)
{
	struct vd_source s = {.t = *state, .uffd = -1};
	struct vd *t = *state;
	uint64_t elsewhere;

	vd_source_begin(&s, false);
	elsewhere = ts_alloc(t->guest, 0, 1u << 20, VD_PAGE);
	vd_source_arrive(&s, false);
	assert_true(VD_WAIT(t, vd_all_usable(t), 10000));
	vd_ok(t, ts_fe_enable(&t->fe, 1, false));
	assert_true(VD_WAIT(t, (vd_run_ms(t, 30), vd_all_used(t, 1)), 10000));
	virtq_store(&s.hold, true);
	t->fe.rings[1].ring->desc_gpa = elsewhere;
	t->fe.rings[1].ring->driver_gpa = elsewhere + (1u << 18);
	t->fe.rings[1].ring->device_gpa = elsewhere + (1u << 19);
	vd_ok(t, ts_fe_set_addr(&t->fe, 1));
	assert_awake(&s);
	virtq_store(&s.hold, false);
	vd_run_ms(t, 50);
	vd_source_end(&s);
}

/* The front-end has the file and may take a page away again: of a ring that runs that leaves zeros, not a
 * fault for which control would wait. */
static void trap_5_15_pages_go_again(void **state)
{
	struct vd_source s = {.t = *state, .uffd = -1};
	struct vd *t = *state;

	vd_source_begin(&s, false);
	vd_source_arrive(&s, false);
	assert_true(VD_WAIT(t, vd_all_usable(t), 10000));
	vd_ok(t, ts_fe_enable(&t->fe, 1, false));
	virtq_store(&s.hold, true);
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_int_equal(ts_region_punch(t->guest, 0, 0, t->guest->r[0].size), 0);
	assert_awake(&s);
	assert_int_equal(virtq_load(&s.asked), virtq_load(&s.served));
	vd_source_end(&s);
}

/* A front-end that leaves in the middle leaves sleepers behind; they wake, and nothing else is left. */
static void gone_in_the_middle(void **state)
{
	struct vd_source s = {.t = *state, .uffd = -1};
	struct vd *t = *state;

	vd_source_begin(&s, false);
	vd_source_arrive(&s, false);
	assert_true(VD_WAIT(t, vd_ring_info(t, 1).usable, 5000));
	virtq_store(&s.hold, true);
	vd_poll_begin(t);
	vd_run_ms(t, 50);
	vd_disconnect(t);
	vd_poll_end(t);
	vd_source_end(&s);
	vd_connect(t);
	vd_start(t);
	vd_assert_traffic(t, 0, 1);
}

static int simple(struct vd *t, enum ts_request request)
{
	t->fe.need_reply = UINT64_MAX;
	return ts_fe_simple(&t->fe, request);
}

static void refusals(void **state)
{
	struct vd *t = *state;
	struct vd_source s = {.t = t, .uffd = -1};
	struct ts_mem_slot slot = {0};
	struct ts_reply reply;
	struct ts_msg m;

	vd_source_begin(&s, true);
	slot.region = (struct ts_mem_region){t->guest->r[0].gpa, t->guest->r[0].size,
		t->guest->r[0].uva, t->guest->r[0].mmap_offset};
	assert_int_equal(simple(t, TS_POSTCOPY_LISTEN), -EREMOTEIO);
	vd_source_advise(&s);
	assert_int_equal(simple(t, TS_POSTCOPY_LISTEN), -EREMOTEIO);
	vd_source_send_slots(&s);
	ts_msg_make(&m, TS_REM_MEM_REG, &slot, sizeof(slot));
	m.hdr.flags |= 1u << 3;
	vd_source_ask(t, &m, &reply, 8);
	assert_int_equal(*(uint64_t *)reply.payload, 1);
	ts_msg_make(&m, TS_POSTCOPY_ADVISE, NULL, 0);
	vd_ok(t, ts_send_msg(&t->fe, &m));
	assert_true(VD_WAIT(t, vd_info(t).connection == VU_WAITING, 2000));
	vd_disconnect(t);
	vd_connect(t);
	vd_start(t);
	/* With memory that has been touched it cannot begin any more. */
	close(s.uffd);
	t->fe.need_reply = 0;
	ts_msg_make(&m, TS_POSTCOPY_ADVISE, NULL, 0);
	vd_source_ask(t, &m, &reply, 0);
	s.uffd = reply.fds[0];
	assert_int_equal(simple(t, TS_POSTCOPY_LISTEN), -EREMOTEIO);
	vd_assert_traffic(t, 0, 1);
	vd_source_end(&s);
}

/* By default it is not offered, and then not known. */
static void only_if_configured(void **state)
{
	struct vd *t = *state;

	for (uint32_t id = TS_POSTCOPY_ADVISE; id <= TS_POSTCOPY_END; id++) {
		struct ts_msg m;

		if (id == TS_POSTCOPY_ADVISE)
			vd_listen(t, 1, &ts_qemu_10);
		else
			vd_connect(t);
		t->fe.want_protocol |= TS_BIT(TS_PROTO_PAGEFAULT);
		vd_start(t);
		assert_false(t->fe.offered_protocol & TS_BIT(TS_PROTO_PAGEFAULT));
		ts_msg_make(&m, id, NULL, 0);
		vd_ok(t, ts_send_msg(&t->fe, &m));
		assert_true(VD_WAIT(t, vd_info(t).connection == VU_WAITING, 2000));
		assert_non_null(strstr(vd_info(t).last_error, "without its protocol feature"));
		vd_disconnect(t);
	}
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, vd_setup, vd_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(trap_5_15_table),
		VD_BOTH(trap_5_15_slots),
		VD_BOTH(trap_5_15_table_with_an_iommu),
		VD_BOTH(trap_5_15_slots_with_an_iommu),
		VD_BOTH(trap_5_15_control_goes_on),
		VD_BOTH(trap_5_15_iommu_looks_ahead),
		VD_BOTH(trap_5_15_ring_moves),
		VD_BOTH(trap_5_15_pages_go_again),
		VD_BOTH(gone_in_the_middle),
		CASE(refusals),
		CASE(only_if_configured),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

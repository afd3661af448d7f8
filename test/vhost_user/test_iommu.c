/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest with an IOMMU: misses in every place, invalidations, and front-ends that do not answer. */
#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vd_iommu.h"

#define PAGE VD_PAGE
#define BOTH VD_BOTH_WAYS
#define FRAME \
	0x400000u /* where vd_guest_sends() has its headers; the rest ends in the next region */
#define LATER 0x500000u

static uint64_t misses(const struct vd *t, unsigned ring)
{
	return vd_ring_info(t, ring).stats.iotlb_misses;
}

/* ---- misses ---- */

/* Rings wait for what they consist of, say so, and go on; entries as small as may be. */
static void from_nothing(void **state)
{
	static const uint64_t pages[] = {64, 256, 4096, 0x10000};
	struct vd *t = *state;

	for (unsigned i = 0; i < TS_ARRAY_SIZE(pages); i++) {
		unsigned served = 0;

		vd_iommu_open(t, 1);
		assert_false(t->link);
		assert_int_equal(vd_info(t).trouble, VU_TROUBLE_IOMMU);
		assert_true(VD_WAIT(
			t, (served += vd_iommu_serve(t, pages[i]), vd_all_usable(t)), 10000));
		assert_true(t->link);
		assert_int_equal(vd_info(t).trouble, VU_TROUBLE_NONE);
		if (pages[i] < 4096) /* several entries a ring */
			assert_true(served > 256 * 16 / pages[i]);
		vd_iommu_traffic(t, pages[i]);
		assert_true(misses(t, 0) > 0 && misses(t, 1) > 0);
		assert_int_equal(vd_ring_info(t, 0).fault, VIRTQ_FAULT_NONE);
		vd_iommu_traffic(t, pages[i]);
		vd_destroy(t);
		t->link = false;
	}
}

static bool asked_for(struct vd *t, uint64_t page, struct ts_iotlb *miss)
{
	while (VD_WAIT(t, vd_iommu_miss(t, miss), 50)) {
		if (miss->iova / PAGE == page / PAGE)
			return true;
		vd_ok(t,
			vd_iommu_tell(t, TS_IOTLB_UPDATE, miss->iova & ~(PAGE - 1ull), PAGE, BOTH));
		vd_burst(t, 1);
		vd_burst(t, 3);
	}
	return false;
}

/* Two rings that miss the same page ask once; and once more when there was no answer. */
static void asked_once_and_again(void **state)
{
	struct vd *t = *state;
	struct ts_iotlb miss;
	uint64_t began;

	vd_iommu_start(t, 2);
	vd_guest_sends(t, 1, 3);
	vd_guest_sends(t, 3, 3);
	vd_burst(t, 1);
	vd_burst(t, 3);
	assert_true(asked_for(t, FRAME, &miss));
	began = ts_now_ms();
	assert_int_equal(miss.perm, 1);
	assert_false(asked_for(t, FRAME, &miss) && ts_now_ms() - began < 800);
	assert_int_equal(t->ring[1].consumed + t->ring[3].consumed, 0);
	assert_true(asked_for(t, FRAME, &miss) || VD_WAIT(t, vd_iommu_miss(t, &miss), 3000));
	/* What it has not read yet is not lost. */
	vd_run_ms(t, 2500);
	assert_true(vd_iommu_miss(t, &miss));
	assert_int_equal(miss.iova / PAGE, FRAME / PAGE);
	assert_false(vd_iommu_miss(t, &miss));
	vd_ok(t, vd_iommu_tell(t, TS_IOTLB_UPDATE, FRAME, PAGE, BOTH));
	assert_true(VD_WAIT(t,
		(vd_burst(t, 1), vd_burst(t, 3), vd_iommu_serve(t, PAGE),
			t->ring[1].consumed + t->ring[3].consumed == 6),
		5000));
}

/* What is posted is asked for before it is needed: the burst that comes then misses nothing. */
static void looked_ahead(void **state)
{
	struct vd *t = *state;

	vd_iommu_start(t, 1);
	vd_guest_posts(t, 0, 9);
	/* Indirect tables, then what they say. */
	assert_true(VD_WAIT(t, vd_iommu_serve(t, PAGE) > 0, 1000));
	for (unsigned i = 0; i < 5; i++) {
		vd_run_ms(t, 20);
		vd_iommu_serve(t, PAGE);
	}
	t->ring[0].to_send = 9;
	vd_burst(t, 0);
	assert_int_equal(t->ring[0].sent, 9);
	assert_int_equal(misses(t, 0), 0);
}

/* ---- invalidations ---- */

/* Once it is acknowledged nothing is taken from there, until there is an update again. */
static void invalidated_under_traffic(void **state)
{
	struct vd *t = *state;
	uint64_t end = ts_now_ms() + 1000;
	unsigned round;

	vd_iommu_start(t, 1);
	vd_iommu_traffic(t, PAGE);
	vd_poll_begin(t);
	for (round = 0; round < 20 || ts_now_ms() < end; round++) {
		const uint64_t page = round & 1 ? FRAME : LATER - PAGE;
		uint64_t consumed;

		vd_guest_reaps(t, 1);
		vd_guest_sends(t, 1, t->fe.rings[1].ring->n_free / 8);
		vd_ok(t, vd_iommu_tell(t, TS_IOTLB_INVALIDATE, page, PAGE, 0));
		consumed = virtq_load(&t->ring[1].consumed);
		vd_guest_sends(t, 1, 3);
		ts_nap();
		assert_int_equal(virtq_load(&t->ring[1].consumed), consumed);
		assert_true(VD_WAIT(t,
			(vd_iommu_serve(t, PAGE), virtq_load(&t->ring[1].consumed) > consumed),
			5000));
	}
	assert_int_equal(vd_ring_info(t, 1).fault, VIRTQ_FAULT_NONE);
	fprintf(stderr, "# %u invalidations\n", round);
}

/* The ring itself: it stops, the link stays, and it goes on where it was. */
static void ring_invalidated(void **state)
{
	struct vd *t = *state;
	unsigned links;

	vd_iommu_start(t, 1);
	vd_iommu_traffic(t, PAGE);
	links = t->link_changes;
	for (unsigned i = 0; i < 3; i++) {
		vd_ok(t, vd_iommu_tell(t, TS_IOTLB_INVALIDATE, 0, 0, 0));
		assert_false(vd_ring_info(t, 0).usable || vd_ring_info(t, 1).usable);
		assert_true(VD_WAIT(t, (vd_iommu_serve(t, PAGE), vd_all_usable(t)), 5000));
		vd_iommu_traffic(t, PAGE);
	}
	assert_true(t->link);
	assert_int_equal(t->link_changes, links);
}

/* Memory that is replaced, and rings that all stop, end all translations. */
static void flushed(void **state)
{
	struct vd *t = *state;
	struct ts_iotlb miss;

	vd_iommu_start(t, 1);
	vd_iommu_traffic(t, PAGE);
	vd_ok(t, ts_fe_set_mem_table(&t->fe));
	assert_true(VD_WAIT(t, vd_iommu_miss(t, &miss), 1000));
	vd_ok(t, vd_iommu_tell(t, TS_IOTLB_UPDATE, miss.iova & ~(PAGE - 1ull), PAGE, BOTH));
	assert_true(VD_WAIT(t, (vd_iommu_serve(t, PAGE), vd_all_usable(t)), 5000));
	vd_iommu_traffic(t, PAGE);
	vd_ok(t, ts_fe_stop(&t->fe));
	/* While all are stopped nothing is sent. */
	vd_run_ms(t, 300);
	assert_false(vd_iommu_miss(t, &miss));
	vd_ok(t, ts_fe_start(&t->fe));
	assert_false(vd_all_usable(t));
	assert_true(VD_WAIT(t, (vd_iommu_serve(t, PAGE), vd_all_usable(t)), 5000));
	vd_iommu_traffic(t, PAGE);
}

/* ---- what is wrong ---- */

/* Mapped, but not for this: the ring is parked, as by a bad address. */
static void not_permitted(void **state)
{
	struct vd *t = *state;

	for (unsigned ring = 0; ring < 2; ring++) {
		int err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		uint64_t count;

		vd_iommu_start(t, 1);
		vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_ERR, ring, err));
		vd_ok(t, vd_iommu_tell(t, TS_IOTLB_UPDATE, 0x480000, PAGE, 1));
		vd_ok(t, vd_iommu_tell(t, TS_IOTLB_UPDATE, FRAME, PAGE, 2));
		t->ring[0].to_send = 9;
		if (ring & 1)
			vd_guest_sends(t, ring, 9);
		else
			vd_guest_posts(t, ring, 9);
		assert_true(VD_WAIT(t,
			(vd_burst(t, ring), vd_iommu_serve(t, PAGE),
				vd_ring_info(t, ring).fault == VIRTQ_FAULT_NO_PERMISSION),
			2000));
		assert_int_equal(read(err, &count, sizeof(count)), sizeof(count));
		assert_false(vd_ring_info(t, ring).usable);
		assert_true(vd_ring_info(t, ring ^ 1).usable);
		assert_int_equal(t->ring[1].consumed + t->ring[0].sent, 0);
		close(err);
		t->ring[0].to_send = 0;
		vd_destroy(t);
	}
}

static void updates_that_cannot_be(void **state)
{
	struct vd *t = *state;
	const struct ts_iotlb rows[] = {
		{0x1000, PAGE, 0x10, BOTH, TS_IOTLB_UPDATE, {0}},
		{0x1000, 0, 0, BOTH, TS_IOTLB_UPDATE, {0}},
		{0x1000, UINT64_MAX, 0, BOTH, TS_IOTLB_UPDATE, {0}},
		{0x1000, PAGE, 0, 0, TS_IOTLB_UPDATE, {0}},
		{0x1000, PAGE, 0, BOTH, TS_IOTLB_MISS, {0}},
		{0x1000, PAGE, 0, BOTH, 4, {0}},
		{0x1000, PAGE, 0, BOTH, 255, {0}},
	};

	vd_iommu_start(t, 1);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(rows); i++)
		assert_int_equal(ts_fe_iotlb(&t->fe, &rows[i]), -EREMOTEIO);
	vd_iommu_traffic(t, PAGE);
	/* A port that offers no IOMMU. */
	vd_destroy(t);
	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	assert_int_equal(vd_iommu_tell(t, TS_IOTLB_INVALIDATE, 0, 0, 0), -EREMOTEIO);
	vd_assert_traffic(t, 0, 1);
}

/* A thousand misses that nobody reads: nothing waits, and the other pair does not notice. */
static void trap_5_14_channel_not_read(void **state)
{
	struct vd *t = *state;
	uint64_t worst = 0, before;
	struct ts_iotlb miss;
	unsigned pending = 0;

	vd_iommu_start(t, 2);
	vd_iommu_traffic(t, PAGE);
	vd_guest_sends(t, 3, 3);
	assert_true(VD_WAIT(
		t, (vd_burst(t, 3), vd_iommu_serve(t, PAGE), t->ring[3].consumed == 3), 5000));
	vd_guest_reaps(t, 3);
	before = misses(t, 1);
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t began = ts_now_ms(), consumed = t->ring[1].consumed;

		vd_ok(t, vd_iommu_tell(t, TS_IOTLB_INVALIDATE, FRAME, PAGE, 0));
		vd_guest_sends(t, 1, 1);
		vd_burst(t, 1);
		vd_run(t);
		assert_int_equal(t->ring[1].consumed, consumed);
		consumed = t->ring[3].consumed;
		vd_ok(t, vd_iommu_tell(t, TS_IOTLB_UPDATE, FRAME, PAGE, BOTH));
		vd_guest_sends(t, 3, 1);
		vd_burst(t, 1);
		vd_burst(t, 3);
		assert_int_equal(t->ring[3].consumed, consumed + 1);
		assert_int_equal(vd_guest_reaps(t, 1), 1);
		assert_int_equal(vd_guest_reaps(t, 3), 1);
		if (ts_now_ms() - began > worst)
			worst = ts_now_ms() - began;
	}
	assert_int_equal(misses(t, 1), before + 1000);
	assert_true(worst < 500);
	/* What is read at last is whole, and the newest is among it. */
	while (VD_WAIT(t, vd_iommu_miss(t, &miss), 20)) {
		assert_int_equal(miss.iova / PAGE, FRAME / PAGE);
		pending++;
	}
	assert_true(pending >= 64 && pending < 1000);
	fprintf(stderr, "# %u of 1000 were kept, worst round %ju ms\n", pending, (uintmax_t)worst);
	vd_iommu_traffic(t, PAGE);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(from_nothing),
		VD_BOTH(asked_once_and_again),
		VD_BOTH(looked_ahead),
		VD_BOTH(invalidated_under_traffic),
		VD_BOTH(ring_invalidated),
		VD_BOTH(flushed),
		VD_BOTH(not_permitted),
		VD_BOTH(updates_that_cannot_be),
		VD_BOTH(trap_5_14_channel_not_read),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

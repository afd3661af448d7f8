/* SPDX-License-Identifier: BSD-3-Clause */
/* Rings that lie where they must not. */
#include "vd.h"

/* Give ring 1 these addresses as the front-end sees them. */
static void readdress(struct vd *t, uint64_t desc, uint64_t avail, uint64_t used)
{
	const struct ts_vring_addr a = {.index = 1, .desc = desc, .avail = avail, .used = used};
	const uint32_t flags = TS_VERSION | TS_NEED_REPLY;
	uint64_t ack = 1;

	vd_ok(t, ts_send_raw(&t->fe, TS_SET_VRING_ADDR, flags, sizeof(a), &a, sizeof(a), NULL, 0));
	vd_ok(t, ts_recv_answer(&t->fe, TS_SET_VRING_ADDR, &ack, sizeof(ack)));
	assert_int_equal(ack, 0);
}

static void ring_addresses(void **state)
{
	struct vd *t = *state;
	const uint64_t event = sizeof(struct vring_packed_desc_event);
	const uint64_t avail_len = t->format ? event : 6 + 2 * VD_RING_SIZE;
	const uint64_t used_len = t->format ? event : 6 + 8 * VD_RING_SIZE;
	const struct ts_ring *r;
	uint64_t desc, avail, used, low, end, high_end;

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	r = t->fe.rings[1].ring;
	desc = ts_uva(t->guest, r->desc_gpa);
	avail = ts_uva(t->guest, r->driver_gpa);
	used = ts_uva(t->guest, r->device_gpa);
	low = t->guest->r[0].uva;
	end = low + t->guest->r[0].size;
	high_end = t->guest->r[1].uva + t->guest->r[1].size;
	vd_assert_traffic(t, 0, 1);
	const struct {
		uint64_t desc, avail, used;
	} bad[] = {
		{end - 16 * VD_RING_SIZE + 16, avail, used},
		{low - 16, avail, used},
		{end, avail, used},
		{0, avail, used},
		{UINT64_MAX - 15, avail, used},
		{r->desc_gpa, avail, used},        /* a guest address is none of the front-end's */
		{desc, end - avail_len + 2, used}, /* only split's event index is outside */
		{desc, end - avail_len + 4, used},
		{desc, avail, ((end - used_len) & ~3ull) + 4},
		{high_end - 16 * VD_RING_SIZE + 16, avail, used},
	};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(bad); i++) {
		readdress(t, bad[i].desc, bad[i].avail, bad[i].used);
		assert_false(vd_ring_info(t, 1).usable);
		assert_int_equal(vd_info(t).trouble, VU_TROUBLE_RING_ADDRESSES);
		vd_assert_dead(t, 1);
		readdress(t, desc, avail, used);
		vd_assert_traffic(t, 0, 1);
	}
	/* Right at the end is inside. */
	readdress(t, end - 16 * VD_RING_SIZE, avail, used);
	assert_true(vd_ring_info(t, 1).usable);
	readdress(t, desc, end - avail_len, used);
	assert_true(vd_ring_info(t, 1).usable);
	readdress(t, desc, avail, (end - used_len) & ~3ull);
	assert_true(vd_ring_info(t, 1).usable);
}

static void misaligned_addresses(void **state)
{
	struct vd *t = *state;
	struct ts_vring_addr good = {
		.index = 1, .desc = 0x10000, .avail = 0x20000, .used = 0x30000};

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	t->fe.need_reply = UINT64_MAX;
	for (unsigned by = 1; by < 16; by++) {
		struct ts_vring_addr a = good;

		a.desc += by;
		assert_int_equal(ts_send_raw(&t->fe, TS_SET_VRING_ADDR, 9, 40, &a, 40, NULL, 0), 0);
		a = good;
		a.avail += by | 1;
		assert_int_equal(ts_send_raw(&t->fe, TS_SET_VRING_ADDR, 9, 40, &a, 40, NULL, 0), 0);
		a = good;
		a.used += by & 3 ? by : 1;
		assert_int_equal(ts_send_raw(&t->fe, TS_SET_VRING_ADDR, 9, 40, &a, 40, NULL, 0), 0);
		for (unsigned i = 0; i < 3; i++) {
			uint64_t ack = 0;

			vd_ok(t, ts_recv_answer(&t->fe, TS_SET_VRING_ADDR, &ack, sizeof(ack)));
			assert_int_equal(ack, 1);
		}
	}
	vd_assert_traffic(t, 0, 1);
}

/* Aligned for the front-end, but its region starts at an odd byte of the file. */
static void misaligned_region(void **state)
{
	struct vd *t = *state;

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	for (unsigned by = 1; by < 16; by++) {
		t->guest->r[0].mmap_offset = by;
		t->guest->r[0].size -= 16;
		vd_ok(t, ts_fe_set_mem_table(&t->fe));
		t->guest->r[0].mmap_offset = 0;
		t->guest->r[0].size += 16;
		assert_false(vd_ring_info(t, 1).usable);
		assert_int_equal(vd_info(t).trouble, VU_TROUBLE_RING_ADDRESSES);
		vd_assert_dead(t, 1);
		vd_ok(t, ts_fe_set_mem_table(&t->fe));
		vd_assert_traffic(t, 0, 1);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(ring_addresses),
		VD_BOTH(misaligned_addresses),
		VD_BOTH(misaligned_region),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

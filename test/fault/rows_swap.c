/* SPDX-License-Identifier: BSD-3-Clause */
/* T5 to T7: memory that comes and goes under rings, and what crosses its borders. */
#include "rows.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- T5: regions one by one ---- */

static int slot(struct fault *f, uint32_t request, const struct ts_mem_region *r, int fd)
{
	struct ts_mem_slot s = {.region = *r};
	struct ts_msg m;

	ts_msg_make(&m, request, &s, sizeof(s));
	if (request == TS_ADD_MEM_REG)
		m.fds[m.n_fds++] = fd;
	return fault_ask(f, &m);
}

static struct ts_mem_region region_of(const struct vd *t, unsigned i)
{
	const struct ts_region *r = &t->guest->r[i];

	return (struct ts_mem_region){r->gpa, r->size, r->uva, r->mmap_offset};
}

/* A region that rings lie in, or their frames, and back with it: no lcore is in it while it is away. */
void fault_taken_away(struct fault *f, const struct fault_case *c)
{
	const unsigned i = (unsigned)c->arg[0];
	struct vd *t = f->t;
	struct ts_mem_region r = region_of(t, i);
	int maps = ts_count_maps("memfd:ts-guest");

	for (unsigned round = 0; round < 10; round++) {
		if (c->arg[1])
			vd_guest_adds(t, 1, 30);
		assert_int_equal(slot(f, TS_REM_MEM_REG, &r, -1), 0);
		assert_int_equal(ts_count_maps("memfd:ts-guest"), maps - 1);
		if (i == 0)
			assert_false(vd_ring_info(t, 0).usable || vd_ring_info(t, 1).usable);
		fault_neighbours_answer(f);
		assert_int_equal(slot(f, TS_ADD_MEM_REG, &r, t->guest->r[i].fd), 0);
		assert_int_equal(ts_count_maps("memfd:ts-guest"), maps);
		vd_guest_takes(t, 1);
	}
	/* A frame that was not there parks its ring: the driver must reset it. */
	assert_true(VD_WAIT(t,
		(vd_guest_takes(t, 1), vd_all_used(t, 1)) ||
			(i == 1 && vd_ring_info(t, 1).fault != VIRTQ_FAULT_NONE),
		5000));
	if (vd_all_used(t, 1))
		fault_traffic(f);
}

/* One that rings do not need, as often as can be under traffic. */
void fault_cycled(struct fault *f, const struct fault_case *c)
{
	struct ts_mem_region r = {1ull << 40, 1 << 20, 1ull << 45, 0};
	int fd = memfd_create("ts-table", MFD_CLOEXEC), maps;
	struct vd *t = f->t;
	long rss = 0;

	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	maps = ts_count_maps("memfd:ts-table");
	for (uint64_t i = 0; i < c->arg[0]; i++) {
		vd_guest_adds(t, 1, 16);
		assert_int_equal(slot(f, TS_ADD_MEM_REG, &r, fd), 0);
		assert_int_equal(slot(f, TS_REM_MEM_REG, &r, -1), 0);
		vd_guest_reaps(t, 1);
		if (i == 20)
			rss = fault_rss();
	}
	assert_int_equal(ts_count_maps("memfd:ts-table"), maps);
	fault_rss_flat(rss, 4096);
	assert_true(VD_WAIT(t, (vd_guest_reaps(t, 1), vd_all_used(t, 1)), 5000));
	fault_traffic(f);
	close(fd);
}

static void not_there(struct fault *f, const struct fault_case *c)
{
	struct ts_mem_slot s = {.region = region_of(f->t, 0)};
	struct ts_msg m;

	switch (c->arg[0]) {
	case 0:
		s.region.gpa += 4096;
		break;
	case 1:
		s.region.size -= 4096;
		break;
	case 2:
		s.region.uva ^= 1ull << 40;
		break;
	case 3:
		s.region = (struct ts_mem_region){0};
		break;
	default:
		memset(&s, 0xff, sizeof(s));
		break;
	}
	ts_msg_make(&m, TS_REM_MEM_REG, &s, sizeof(s));
	fault_refused(f, &m);
}

/* Added once more for each further pair, as QEMU does it, and not once more than that. */
static void twice(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	struct ts_mem_slot s = {.region = region_of(t, (unsigned)c->arg[0])};
	int fd = t->guest->r[c->arg[0]].fd;
	struct ts_msg m;

	assert_int_equal(slot(f, TS_ADD_MEM_REG, &s.region, fd), 0);
	ts_msg_make(&m, TS_ADD_MEM_REG, &s, sizeof(s));
	m.fds[m.n_fds++] = fd;
	fault_refused(f, &m);
}

static void t5(void)
{
	static const char *const wrong[] = {"another guest address", "another size",
		"another user address", "nothing", "all ones"};

	for (unsigned i = 0; i < 2; i++)
		for (unsigned k = 0; k < 2; k++)
			for (unsigned phase = 1; phase < FAULT_PHASES; phase++)
				fault_add(&(struct fault_case){.run = fault_taken_away,
						  .phase = (enum fault_phase)phase,
						  .arg = {i, k}},
					"T5_REM_MEM_REG[%s,%s,%s]",
					i ? "frames in it" : "rings in it", k ? "loaded" : "idle",
					fault_phase_names[phase]);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(wrong); i++)
		fault_add(
			&(struct fault_case){.run = not_there, .phase = FAULT_RUNNING, .arg = {i}},
			"T5_REM_MEM_REG unknown[%s,running]", wrong[i]);
	for (unsigned i = 0; i < 2; i++)
		fault_add(&(struct fault_case){.run = twice, .phase = FAULT_RUNNING, .arg = {i}},
			"T5_ADD_MEM_REG again[region %u,running]", i);
	fault_add(&(struct fault_case){.run = fault_cycled, .phase = FAULT_RUNNING, .arg = {100}},
		"T5_added and removed[100 times,running]");
	fault_add(
		&(struct fault_case){
			.run = fault_cycled, .phase = FAULT_RUNNING, .arg = {10000}, .slow = true},
		"T5_added and removed[10000 times,running]");
}

/* ---- T6: the whole table, at any rate ---- */

enum layout {
	SAME,
	SPLIT,
	SHRUNK, /* by what nobody uses */
	MOVED,  /* its addresses for the front-end */
	ALL_OF_THEM
};

static const char *const layouts[] = {"the same", "split", "shrunk", "moved", "all of them"};

static void lay_out(struct vd *t, enum layout layout, struct ts_mem_table *table, int *fds)
{
	ts_fe_mem_table(&t->fe, table);
	fds[0] = t->guest->r[0].fd;
	fds[1] = t->guest->r[1].fd;
	if (layout == SPLIT) {
		uint64_t half = table->region[0].size / 2;

		table->region[2] = table->region[0];
		fds[2] = fds[0];
		table->region[0].size = half;
		table->region[2].gpa += half;
		table->region[2].uva += half;
		table->region[2].mmap_offset += half;
		table->region[2].size -= half;
		table->n = 3;
	} else if (layout == SHRUNK) {
		table->region[1].size /= 2;
	} else if (layout == MOVED) {
		table->region[1].uva += 1ull << 44;
	}
}

static void swapped(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	uint64_t sent[2] = {virtq_load(&t->ring[1].consumed), virtq_load(&t->ring[3].consumed)};

	for (unsigned round = 0; round < c->arg[2]; round++) {
		enum layout layout = c->arg[0] == ALL_OF_THEM ? round % 4 : (enum layout)c->arg[0];
		struct ts_mem_table table;
		struct ts_msg m;
		int fds[3];

		for (unsigned i = 0; i < 2; i++)
			sent[i] += vd_guest_adds(t, 1 + 2 * i, 16);
		lay_out(t, round & 1 || c->arg[0] == ALL_OF_THEM ? layout : SAME, &table, fds);
		ts_msg_make(&m, TS_SET_MEM_TABLE, &table, 8 + table.n * sizeof(table.region[0]));
		memcpy(m.fds, fds, table.n * sizeof(fds[0]));
		m.n_fds = table.n;
		if (c->arg[1])
			assert_int_equal(fault_ask(f, &m), 0);
		else
			vd_ok(t, ts_send_msg(&t->fe, &m));
		vd_run(t);
		vd_guest_reaps(t, 1);
		vd_guest_reaps(t, 3);
	}
	for (unsigned i = 1; i < 4; i += 2) {
		assert_true(VD_WAIT(t, (vd_guest_reaps(t, i), vd_all_used(t, i)), 5000));
		assert_int_equal(virtq_load(&t->ring[i].consumed), sent[i / 2]);
		assert_int_equal(t->ring[i].changes, 1);
	}
	fault_traffic(f);
}

static void t6(void)
{
	for (unsigned i = 0; i < TS_ARRAY_SIZE(layouts); i++)
		for (unsigned k = 0; k < 4; k++)
			fault_add(&(struct fault_case){.run = swapped,
					  .phase = k / 2 ? FAULT_MIGRATING : FAULT_RUNNING,
					  .arg = {i, k & 1, 100}},
				"T6_SET_MEM_TABLE[%s,%s,%s]", layouts[i],
				k & 1 ? "NEED_REPLY" : "no reply", fault_phase_names[1 + k / 2]);
	fault_add(&(struct fault_case){.run = swapped,
			  .phase = FAULT_RUNNING,
			  .arg = {ALL_OF_THEM, 1, 5000},
			  .slow = true},
		"T6_SET_MEM_TABLE[5000 times,running]");
}

/* ---- T7: borders ---- */

enum area {
	DESC,
	DRIVER,
	DEVICE
};

enum border {
	BEFORE,
	ACROSS_BEGIN,
	ACROSS_END, /* where the next region begins, for the guest */
	ACROSS_LAST,
	BEHIND,
	NOWHERE,
	BORDERS
};

static const char *const areas[] = {"descriptors", "driver area", "device area"};
static const char *const borders[] = {"in front of memory", "across its beginning",
	"across two regions", "across its end", "behind memory", "nowhere"};

static uint64_t bad_address(const struct vd *t, enum border border)
{
	const struct ts_region *low = &t->guest->r[0], *high = &t->guest->r[1];

	switch (border) {
	case BEFORE:
		return (low->uva < high->uva ? low : high)->uva - (1ull << 40);
	case ACROSS_BEGIN:
		return low->uva - 16;
	case ACROSS_END:
		return low->uva + low->size - (t->format ? 0 : 16);
	case ACROSS_LAST:
		return high->uva + high->size - (t->format ? 0 : 16);
	case BEHIND:
		return (low->uva > high->uva ? low : high)->uva + (1ull << 40);
	default:
		return UINT64_MAX - 15;
	}
}

/* The ring waits for an address that can be, and goes on then. */
void fault_ring_border(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	const struct ts_ring *r = t->fe.rings[1].ring;
	struct ts_vring_addr a = {.index = 1,
		.desc = ts_uva(t->guest, r->desc_gpa),
		.avail = ts_uva(t->guest, r->driver_gpa),
		.used = ts_uva(t->guest, r->device_gpa)};
	const uint64_t bad = bad_address(t, (enum border)c->arg[1]);
	struct ts_msg m;

	*(c->arg[0] == DESC ? &a.desc : c->arg[0] == DRIVER ? &a.avail : &a.used) = bad;
	ts_msg_make(&m, TS_SET_VRING_ADDR, &a, sizeof(a));
	assert_int_equal(fault_ask(f, &m), 0);
	assert_false(vd_ring_info(t, 1).usable);
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_RING_ADDRESSES);
	fault_neighbours_answer(f);
	vd_ok(t, ts_fe_set_addr(&t->fe, 1));
	vd_ok(t, ts_fe_barrier(&t->fe));
	fault_traffic(f);
}

struct piece {
	const char *name;
	uint64_t gpa;
	uint32_t len;
	bool right;
};

/* The guest has 0x100000 to 0x500000 and, behind that, to 0x700000. */
static const struct piece pieces[] = {
	{"the last byte", 0x6fffff, 1, true},
	{"all of a region", 0x100000, 0x400000, true},
	{"across two regions", 0x4ffff0, 32, true},
	{"both regions", 0x100000, 0x600000, true},
	{"one byte behind", 0x6fffff, 2, false},
	{"behind", 0x700000, 1, false},
	{"in front", 0xfffff, 1, false},
	{"across the beginning", 0xfffff, 2, false},
	{"4 GiB", 0x100000, UINT32_MAX, false},
	{"wraps", UINT64_MAX - 15, 64, false},
	{"nowhere", 0x8000000000000000, 64, false},
};

/* A frame to be read. Buffers to be written to are not where the rings are. */
static void buffer_border(struct fault *f, const struct fault_case *c)
{
	const struct piece *p = c->data;
	const struct ts_seg segs[] = {{0x400000, 12}, {p->gpa, p->len}};
	struct vd *t = f->t;
	struct ts_ring *r = t->fe.rings[1].ring;
	uint64_t consumed = virtq_load(&t->ring[1].consumed);

	assert_int_equal(
		ts_ring_add(r, segs, 2, NULL, 0, r, c->arg[0] ? TS_INDIRECT : TS_DIRECT), 0);
	ts_ring_publish(r);
	if (p->right) {
		assert_true(VD_WAIT(t, vd_all_used(t, 1), 5000));
		assert_int_equal(vd_guest_reaps(t, 1), 1);
		fault_traffic(f);
		return;
	}
	assert_true(VD_WAIT(t, vd_ring_info(t, 1).fault != VIRTQ_FAULT_NONE, 5000));
	assert_int_equal(virtq_load(&t->ring[1].consumed), consumed);
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_PARKED);
	assert_true(vd_ring_info(t, 3).usable);
}

/* An indirect table where it must not be. */
static void table_border(struct fault *f, const struct fault_case *c)
{
	const struct piece *p = c->data;
	const struct ts_seg segs[] = {{0x400000, 12}, {0x400040, 64}};
	struct vd *t = f->t;
	struct ts_ring *r = t->fe.rings[1].ring;

	r->force_table = p->gpa & ~15ull;
	if (ts_ring_add(r, segs, 2, NULL, 0, r, TS_INDIRECT) != 0) {
		r->force_table = TS_NOMEM;
		return; /* not even the guest can write there */
	}
	r->force_table = TS_NOMEM;
	ts_ring_publish(r);
	assert_true(VD_WAIT(
		t, vd_all_used(t, 1) || vd_ring_info(t, 1).fault != VIRTQ_FAULT_NONE, 5000));
}

static void t7(void)
{
	for (unsigned i = 0; i < TS_ARRAY_SIZE(areas); i++)
		for (unsigned k = 0; k < BORDERS; k++)
			fault_add(&(struct fault_case){.run = fault_ring_border,
					  .phase = FAULT_RUNNING,
					  .arg = {i, k}},
				"T7_ring[%s,%s]", areas[i], borders[k]);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(pieces); i++) {
		for (unsigned k = 0; k < 2; k++)
			fault_add(&(struct fault_case){.run = buffer_border,
					  .phase = FAULT_RUNNING,
					  .data = &pieces[i],
					  .arg = {k}},
				"T7_frame[%s,%s]", pieces[i].name, k ? "indirect" : "direct");
		fault_add(
			&(struct fault_case){
				.run = table_border, .phase = FAULT_RUNNING, .data = &pieces[i]},
			"T7_indirect table[%s]", pieces[i].name);
	}
}

void rows_swap(void)
{
	t5();
	t6();
	t7();
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* T1, T2 (what fstat can tell, and holes), T3 (sparse files), T4: tables that cannot be. */
#include "rows.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILE_SIZE (64u << 20)

/* A table to be bent: the guest's two regions, or n of a file of the test's. */
struct table {
	struct ts_mem_table t;
	int fds[TS_MAX_TABLE_SLOTS + 4];
	unsigned n_fds;
	int file;
};

static void table_of_guest(struct fault *f, struct table *b)
{
	ts_fe_mem_table(&f->t->fe, &b->t);
	b->n_fds = b->t.n;
	b->fds[0] = f->t->guest->r[0].fd;
	b->fds[1] = f->t->guest->r[1].fd;
	b->file = memfd_create("ts-table", MFD_CLOEXEC);
	assert_int_equal(ftruncate(b->file, FILE_SIZE), 0);
}

static void send_table(struct fault *f, const struct table *b, struct ts_msg *m)
{
	uint32_t n = b->t.n < TS_MAX_TABLE_SLOTS ? b->t.n : TS_MAX_TABLE_SLOTS;

	(void)f;
	ts_msg_make(m, TS_SET_MEM_TABLE, &b->t, 8 + n * sizeof(b->t.region[0]));
	memcpy(m->fds, b->fds, b->n_fds * sizeof(b->fds[0]));
	m->n_fds = b->n_fds;
}

/* ---- T1: what a table says ---- */

struct bend {
	const char *name;
	void (*how)(struct table *b);
	bool slot; /* also as ADD_MEM_REG of region 1 */
};

#define R1 (&b->t.region[1])
#define BEND(fn, ...)                   \
	static void fn(struct table *b) \
	{                               \
		__VA_ARGS__;            \
	}

BEND(no_regions, b->t.n = 0)
BEND(nine_regions, b->t.n = 9)
BEND(many_regions, b->t.n = 0x80000001)
BEND(all_regions, b->t.n = UINT32_MAX)
BEND(fewer_fds, b->n_fds = 1)
BEND(more_fds, b->fds[b->n_fds++] = b->file)
BEND(no_fds, b->n_fds = 0)
BEND(one_region, b->t.n = 1)
BEND(twice_the_same, *R1 = b->t.region[0]; b->fds[1] = b->fds[0])
BEND(same_gpa, R1->gpa = b->t.region[0].gpa)
BEND(gpa_overlaps, R1->gpa = b->t.region[0].gpa + b->t.region[0].size - 1)
BEND(gpa_around, R1->gpa = b->t.region[0].gpa - 1)
BEND(same_uva, R1->uva = b->t.region[0].uva)
BEND(uva_overlaps, R1->uva = b->t.region[0].uva + b->t.region[0].size - 1)
BEND(gpa_wraps, R1->gpa = UINT64_MAX - 4095)
BEND(uva_wraps, R1->uva = UINT64_MAX - 4095)
BEND(empty, R1->size = 0)
BEND(endless, R1->size = UINT64_MAX)
BEND(past_a_sign, R1->size = 1ull << 63)
BEND(offset_wraps, R1->mmap_offset = UINT64_MAX - 8191)
BEND(offset_past_a_sign, R1->mmap_offset = 1ull << 63)
BEND(offset_behind, R1->mmap_offset = 1ull << 40)
BEND(sum_wraps, R1->size = 1ull << 62; R1->mmap_offset = 3ull << 62)
BEND(one_byte_too_long, R1->size += 1)

static const struct bend bends[] = {
	{"no regions", no_regions, false},
	{"9 regions", nine_regions, false},
	{"2^31+1 regions", many_regions, false},
	{"2^32-1 regions", all_regions, false},
	{"a descriptor too few", fewer_fds, false},
	{"a descriptor too many", more_fds, false},
	{"no descriptor", no_fds, false},
	{"1 region of 2", one_region, false},
	{"twice the same", twice_the_same, false},
	{"the same guest address", same_gpa, true},
	{"guest addresses overlap", gpa_overlaps, true},
	{"guest addresses around another", gpa_around, true},
	{"the same user address", same_uva, true},
	{"user addresses overlap", uva_overlaps, true},
	{"guest address wraps", gpa_wraps, true},
	{"user address wraps", uva_wraps, true},
	{"empty", empty, true},
	{"16 EiB", endless, true},
	{"8 EiB", past_a_sign, true},
	{"offset wraps", offset_wraps, true},
	{"offset past a sign", offset_past_a_sign, true},
	{"offset behind its file", offset_behind, true},
	{"size and offset wrap", sum_wraps, true},
	{"a byte too long", one_byte_too_long, true},
};

const void *rows_bend(const char *name)
{
	for (unsigned i = 0; i < TS_ARRAY_SIZE(bends); i++)
		if (strcmp(bends[i].name, name) == 0)
			return &bends[i];
	return NULL;
}

void fault_bent_table(struct fault *f, const struct fault_case *c)
{
	struct ts_msg m;
	struct table b;

	table_of_guest(f, &b);
	((const struct bend *)c->data)->how(&b);
	send_table(f, &b, &m);
	fault_refused(f, &m);
	close(b.file);
}

/* The same about one region that is to be added to those there are. */
void fault_bent_slot(struct fault *f, const struct fault_case *c)
{
	struct ts_mem_slot slot = {0};
	struct ts_msg m;
	struct table b;

	table_of_guest(f, &b);
	b.t.region[1].gpa += 1ull << 40;
	b.t.region[1].uva += 1ull << 40;
	b.t.region[1].mmap_offset = 0;
	b.t.region[1].size = FILE_SIZE;
	((const struct bend *)c->data)->how(&b);
	slot.region = b.t.region[1];
	ts_msg_make(&m, TS_ADD_MEM_REG, &slot, sizeof(slot));
	m.fds[m.n_fds++] = b.file;
	fault_refused(f, &m);
	close(b.file);
}

/* As many as there may be, one more, and none of them again. */
void fault_all_slots(struct fault *f, const struct fault_case *c)
{
	int fd = memfd_create("ts-table", MFD_CLOEXEC), maps = ts_count_maps("memfd:ts-table");
	struct ts_mem_slot slot = {0};
	struct ts_msg m;

	assert_int_equal(ftruncate(fd, FILE_SIZE), 0);
	for (uint64_t i = 0; i <= c->arg[0]; i++) {
		slot.region = (struct ts_mem_region){
			(1ull << 40) + (i << 20), 8192, (1ull << 45) + (i << 20), i * 16384};
		ts_msg_make(&m, TS_ADD_MEM_REG, &slot, sizeof(slot));
		m.fds[m.n_fds++] = fd;
		if (i + 2 >= 509)
			fault_refused(f, &m);
		else
			assert_int_equal(fault_ask(f, &m), 0);
	}
	fault_traffic(f);
	assert_true(ts_count_maps("memfd:ts-table") > maps);
	vd_ok(f->t, ts_fe_set_mem_table(&f->t->fe));
	assert_int_equal(ts_count_maps("memfd:ts-table"), maps);
	fault_traffic(f);
	close(fd);
}

static void t1(void)
{
	static const unsigned counts[] = {6, 7, 100, 506, 507, 520};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(bends); i++) {
		for (unsigned phase = 0; phase < FAULT_PHASES; phase++)
			fault_add(&(struct fault_case){.run = fault_bent_table,
					  .phase = (enum fault_phase)phase,
					  .data = &bends[i]},
				"T1_SET_MEM_TABLE[%s,%s]", bends[i].name, fault_phase_names[phase]);
		if (bends[i].slot)
			fault_add(&(struct fault_case){.run = fault_bent_slot,
					  .phase = FAULT_RUNNING,
					  .data = &bends[i]},
				"T1_ADD_MEM_REG[%s,running]", bends[i].name);
	}
	for (unsigned i = 0; i < TS_ARRAY_SIZE(counts); i++)
		fault_add(
			&(struct fault_case){
				.run = fault_all_slots, .phase = FAULT_RUNNING, .arg = {counts[i]}},
			"T1_slots[%u added,running]", counts[i] + 1);
}

/* ---- T2: files ---- */

/* The file of one of the regions is shorter than it says. */
static void short_file(struct fault *f, const struct fault_case *c)
{
	struct ts_mem_region *r;
	struct ts_msg m;
	struct table b;

	table_of_guest(f, &b);
	r = &b.t.region[c->arg[0]];
	b.fds[c->arg[0]] = b.file;
	assert_int_equal(
		ftruncate(b.file, (off_t)((r->mmap_offset + r->size) * c->arg[1] / 8192)), 0);
	send_table(f, &b, &m);
	fault_refused(f, &m);
	close(b.file);
}

static void short_slot(struct fault *f, const struct fault_case *c)
{
	struct ts_mem_slot slot = {0, {1ull << 40, FILE_SIZE, 1ull << 45, 0}};
	struct ts_msg m;
	struct table b;

	table_of_guest(f, &b);
	assert_int_equal(ftruncate(b.file, (off_t)(FILE_SIZE * c->arg[1] / 8192)), 0);
	ts_msg_make(&m, TS_ADD_MEM_REG, &slot, sizeof(slot));
	m.fds[m.n_fds++] = b.file;
	fault_refused(f, &m);
	close(b.file);
}

/* Pages go while the lcore works, and come back as zeros. */
static void punched(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	const struct ts_ring *r = t->fe.rings[1].ring;
	const uint64_t low = t->guest->r[0].gpa;

	for (unsigned i = 0; i < 50; i++) {
		uint64_t at = c->arg[0] == 0   ? 0x400000 - low
			      : c->arg[0] == 1 ? 0x480000 - low
					       : (r->desc_gpa - low) & ~4095ull;

		for (unsigned k = 0; k < 4; k++)
			vd_guest_adds(t, k, 8);
		virtq_store(&t->ring[0].to_send, virtq_load(&t->ring[0].sent) + 8);
		assert_int_equal(
			ts_region_punch(t->guest, 0, at, c->arg[0] == 3 ? 1u << 20 : 16384), 0);
		vd_run_ms(t, 1);
		for (unsigned k = 0; k < 4; k++)
			vd_guest_takes(t, k);
	}
	fault_neighbours_answer(f);
	if (c->arg[0] < 2) {
		assert_true(VD_WAIT(t, (vd_guest_reaps(t, 1), vd_all_used(t, 1)), 5000));
		assert_int_equal(vd_ring_info(t, 1).fault, VIRTQ_FAULT_NONE);
	}
}

static void t2(void)
{
	static const unsigned parts[] = {8191, 8188, 4096, 1, 0};
	static const char *const names[] = {
		"almost as long", "a page short", "half", "a page", "nothing"};
	static const char *const holes[] = {"frames", "buffers", "a ring", "all rings"};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(parts); i++) {
		for (unsigned k = 0; k < 2; k++)
			fault_add(&(struct fault_case){.run = short_file,
					  .phase = k ? FAULT_RUNNING : FAULT_NEW,
					  .arg = {k, parts[i]}},
				"T2_short file[SET_MEM_TABLE,region %u,%s]", k, names[i]);
		fault_add(
			&(struct fault_case){
				.run = short_slot, .phase = FAULT_RUNNING, .arg = {0, parts[i]}},
			"T2_short file[ADD_MEM_REG,%s]", names[i]);
	}
	for (unsigned i = 0; i < TS_ARRAY_SIZE(holes); i++)
		for (unsigned phase = 1; phase < FAULT_PHASES; phase++)
			fault_add(&(struct fault_case){.run = punched,
					  .phase = (enum fault_phase)phase,
					  .arg = {i}},
				"T2_punched[%s,%s]", holes[i], fault_phase_names[phase]);
}

/* ---- T3: memory that is announced and not there ---- */

static void sparse(struct fault *f, const struct fault_case *c)
{
	const uint64_t size = c->arg[0];
	struct ts_mem_slot slot = {0, {1ull << 48, size, 1ull << 49, 0}};
	const long rss = fault_rss();
	struct ts_msg m;
	struct table b;

	table_of_guest(f, &b);
	assert_int_equal(ftruncate(b.file, (off_t)size), 0);
	for (unsigned i = 0; i < 3; i++) {
		ts_msg_make(&m, TS_ADD_MEM_REG, &slot, sizeof(slot));
		m.fds[m.n_fds++] = b.file;
		assert_int_equal(fault_ask(f, &m), 0);
		fault_traffic(f);
		ts_msg_make(&m, TS_REM_MEM_REG, &slot, sizeof(slot));
		assert_int_equal(fault_ask(f, &m), 0);
	}
	fault_rss_flat(rss, 1024);
	close(b.file);
}

static void t3(void)
{
	static const unsigned shifts[] = {30, 36, 40};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(shifts); i++)
		fault_add(
			&(struct fault_case){
				.run = sparse, .phase = FAULT_RUNNING, .arg = {1ull << shifts[i]}},
			"T3_sparse[2^%u bytes,running]", shifts[i]);
}

/* ---- T4: one of the regions cannot be mapped ---- */

#define ADDRESS_SPACE (1ull << 47)

static void cannot_map(struct fault *f, const struct fault_case *c)
{
	const unsigned n = (unsigned)c->arg[0], which = (unsigned)c->arg[1];
	int maps = ts_count_maps("memfd:"), fds = ts_count_fds(NULL);
	struct ts_msg m;
	struct table b;

	table_of_guest(f, &b);
	b.t.n = b.n_fds = n;
	for (unsigned i = 0; i < n; i++) {
		b.t.region[i] = (struct ts_mem_region){(uint64_t)i << 50,
			i == which ? ADDRESS_SPACE : 65536, (uint64_t)i << 50, 0};
		b.fds[i] = b.file;
	}
	assert_int_equal(ftruncate(b.file, (off_t)ADDRESS_SPACE), 0);
	send_table(f, &b, &m);
	fault_refused(f, &m);
	assert_non_null(strstr(vd_info(f->t).last_error, "cannot map"));
	assert_int_equal(ts_count_maps("memfd:"), maps);
	close(b.file);
	assert_int_equal(ts_count_fds(NULL), fds);
}

static void cannot_map_slot(struct fault *f, const struct fault_case *c)
{
	struct ts_mem_slot slot = {0, {1ull << 50, ADDRESS_SPACE, 1ull << 50, 0}};
	struct ts_msg m;
	struct table b;

	table_of_guest(f, &b);
	assert_int_equal(ftruncate(b.file, (off_t)ADDRESS_SPACE), 0);
	ts_msg_make(&m, TS_ADD_MEM_REG, &slot, sizeof(slot));
	m.fds[m.n_fds++] = b.file;
	fault_refused(f, &m);
	close(b.file);
}

static void t4(void)
{
	static const unsigned counts[] = {1, 2, 3, 8};

	for (unsigned phase = 0; phase < FAULT_PHASES; phase++) {
		for (unsigned i = 0; i < TS_ARRAY_SIZE(counts); i++)
			for (unsigned k = 0; k < counts[i]; k += k ? counts[i] : counts[i] - 1 ?: 1)
				fault_add(&(struct fault_case){.run = cannot_map,
						  .phase = (enum fault_phase)phase,
						  .arg = {counts[i], k}},
					"T4_ENOMEM[SET_MEM_TABLE,region %u of %u,%s]", k, counts[i],
					fault_phase_names[phase]);
		fault_add(&(struct fault_case){.run = cannot_map_slot,
				  .phase = (enum fault_phase)phase},
			"T4_ENOMEM[ADD_MEM_REG,%s]", fault_phase_names[phase]);
	}
}

void rows_table(void)
{
	t1();
	t2();
	t3();
	t4();
}

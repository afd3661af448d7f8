/* SPDX-License-Identifier: BSD-3-Clause */
/* M11, M12: the dirty log and the in-flight region, which the front-end shares and may write to. */
#include "rows.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- M11: the log ---- */

#define LOG_FILE 65536u

static int log_file(void)
{
	int fd = memfd_create("ts-log", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, LOG_FILE), 0);
	return fd;
}

void fault_bad_log(struct fault *f, const struct fault_case *c)
{
	const struct ts_log_area area = {c->arg[0], c->arg[1]};
	struct ts_msg m;
	int fd = log_file();

	ts_msg_make(&m, TS_SET_LOG_BASE, &area, sizeof(area));
	m.fds[m.n_fds++] = fd;
	fault_refused(f, &m);
	close(fd);
	assert_int_equal(vd_info(f->t).connection, VU_WAITING);
}

/* Its file has become shorter before it came. */
static void truncated_log(struct fault *f, const struct fault_case *c)
{
	const struct ts_log_area area = {4096, 4096};
	struct ts_msg m;
	int fd = log_file();

	assert_int_equal(ftruncate(fd, (off_t)c->arg[0]), 0);
	ts_msg_make(&m, TS_SET_LOG_BASE, &area, sizeof(area));
	m.fds[m.n_fds++] = fd;
	fault_refused(f, &m);
	close(fd);
}

/* Whatever a log covers: what changed there is marked, and nothing beside it in its file. */
void fault_log_window(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	struct ts_log_result r;

	f->log = ts_log_new(t->guest, c->arg[0], c->arg[1]);
	assert_non_null(f->log);
	vd_ok(t, ts_fe_set_log(&t->fe, f->log->fd, f->log->size, f->log->offset));
	vd_ok(t, ts_fe_log(&t->fe, true));
	for (unsigned i = 1; i < 5; i++)
		r = fault_logged(f, i);
	assert_true(r.changed > 0);
	assert_true(r.marked > 0 || c->arg[0] == 1);
}

/* Another log, again and again, while the lcore marks pages. */
static void log_swapped(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	int maps;

	fault_migrate(f);
	maps = ts_count_maps("memfd:ts-log");
	for (uint64_t i = 0; i < c->arg[0]; i++) {
		vd_guest_adds(t, 1, 16);
		vd_guest_adds(t, 3, 16);
		fault_migrate(f);
		assert_int_equal(ts_count_maps("memfd:ts-log"), maps);
		vd_guest_takes(t, 1);
		vd_guest_takes(t, 3);
	}
	assert_true(VD_WAIT(t,
		(vd_guest_takes(t, 1), vd_guest_takes(t, 3),
			t->fe.rings[1].ring->n_out + t->fe.rings[3].ring->n_out == 0),
		5000));
	fault_traffic(f);
}

static void m11(void)
{
	static const struct {
		const char *name;
		uint64_t size, offset;
	} bad[] = {
		{"empty", 0, 0},
		{"empty, offset", 0, 4096},
		{"sum wraps", UINT64_MAX - 0xfff, 0x2000},
		{"endless", UINT64_MAX, 0},
		{"offset at the end", 4096, UINT64_MAX},
		{"offset past a sign", 4096, 1ull << 63},
		{"both past a sign", 1ull << 63, 1ull << 63},
		{"a byte too long", LOG_FILE + 1, 0},
		{"a byte too far", LOG_FILE - 4095, 4096},
		{"behind its file", 1, LOG_FILE},
		{"bits for 2^64 bytes", 1ull << 49, 0},
	};
	static const uint64_t windows[][2] = {{0, 0}, {0, 4096}, {0, 8}, {0, 4095}, {0, 8191},
		{1, 0}, {40, 4096}, {100, 1}, {150, 0}, {4096, 0}, {30000, 12288}};
	static const uint32_t lengths[] = {0, 1, 4096, 8191};

	for (unsigned phase = 0; phase < FAULT_PHASES; phase++) {
		for (unsigned i = 0; i < TS_ARRAY_SIZE(bad); i++)
			fault_add(&(struct fault_case){.run = fault_bad_log,
					  .phase = (enum fault_phase)phase,
					  .arg = {bad[i].size, bad[i].offset}},
				"M11_SET_LOG_BASE[%s,%s]", bad[i].name, fault_phase_names[phase]);
		for (unsigned i = 0; i < TS_ARRAY_SIZE(lengths); i++)
			fault_add(&(struct fault_case){.run = truncated_log,
					  .phase = (enum fault_phase)phase,
					  .arg = {lengths[i]}},
				"M11_cut to[%u bytes,%s]", lengths[i], fault_phase_names[phase]);
	}
	for (unsigned i = 0; i < TS_ARRAY_SIZE(windows); i++)
		fault_add(&(struct fault_case){.run = fault_log_window,
				  .phase = FAULT_RUNNING,
				  .arg = {windows[i][0], windows[i][1]}},
			"M11_window[size %u,offset %u]", (unsigned)windows[i][0],
			(unsigned)windows[i][1]);
	fault_add(&(struct fault_case){.run = log_swapped, .phase = FAULT_RUNNING, .arg = {20}},
		"M11_replaced[20 times]");
	fault_add(
		&(struct fault_case){
			.run = log_swapped, .phase = FAULT_RUNNING, .arg = {500}, .slow = true},
		"M11_replaced[500 times]");
}

/* ---- M12: the in-flight region ---- */

void fault_get_inflight(struct fault *f, const struct fault_case *c)
{
	const struct ts_inflight want = {
		.num_queues = (uint16_t)c->arg[0], .queue_size = (uint16_t)c->arg[1]};
	struct ts_msg m;

	ts_msg_make(&m, TS_GET_INFLIGHT_FD, &want, sizeof(want));
	fault_refused(f, &m);
	assert_int_equal(vd_info(f->t).connection, VU_WAITING);
}

/* What the front-end asks for decides how much memory it gets: bounded, and given back. */
void fault_get_many(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	const long rss = fault_rss();
	int fds;

	vd_ok(t, ts_fe_get_inflight(&t->fe, 4, (uint16_t)c->arg[0]));
	fds = ts_count_fds(NULL);
	for (unsigned i = 0; i < 500; i++)
		vd_ok(t, ts_fe_get_inflight(&t->fe, 4, (uint16_t)c->arg[0]));
	assert_int_equal(ts_count_fds(NULL), fds);
	fault_rss_flat(rss, 4096);
}

static int region_file(uint64_t size)
{
	int fd = memfd_create("ts-region", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

void fault_set_inflight(struct fault *f, const struct fault_case *c)
{
	struct ts_inflight in = *(const struct ts_inflight *)c->data;
	int fd = region_file(c->arg[0]);
	struct ts_msg m;

	ts_msg_make(&m, TS_SET_INFLIGHT_FD, &in, sizeof(in));
	m.fds[m.n_fds++] = fd;
	fault_refused(f, &m);
	close(fd);
}

/* One takes the place of the other. */
static void set_many(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	int maps = ts_count_maps("sluice-inflight");

	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, TS_BIT(VIRTIO_F_VERSION_1) | t->format));
	for (unsigned i = 0; i < 300; i++) {
		if (i % c->arg[0] == 0)
			vd_ok(t, ts_fe_get_inflight(&t->fe, 4, VD_RING_SIZE));
		vd_ok(t, ts_fe_set_inflight(&t->fe));
	}
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_int_equal(ts_count_maps("sluice-inflight"), maps + 1);
}

/* What may be in a region that comes back. */
enum content {
	ONES,
	DESC_NUM,
	USED_IDX,
	HEADS,
	LOOPS,
	ALL_IN_FLIGHT,
	OLDER,
	NEWER,
	RANDOM,
	WHILE_RUNNING,
	CONTENTS
};

static const char *const contents[CONTENTS] = {"all ones", "desc_num", "used_idx", "heads",
	"next that loops", "all in flight", "older version", "newer version", "random",
	"random while running"};

static void scribble(uint8_t *at, uint64_t size, enum content what, struct ts_rng *rng)
{
	const uint64_t part = size / 4;

	if (what == ONES)
		memset(at, 0xff, size);
	for (uint64_t i = 0; (what == RANDOM || what == WHILE_RUNNING) && i < size; i++)
		at[i] = (uint8_t)ts_rand(rng);
	for (unsigned q = 0; what > ONES && what < RANDOM && q < 4; q++) {
		uint16_t *head = (uint16_t *)(void *)(at + q * part), *next;

		head[4] = what == OLDER ? 0 : what == NEWER ? 2 : 1; /* version */
		head[5] = what == DESC_NUM ? 0xffff : VD_RING_SIZE;
		head[6] = what == HEADS ? 0xfffe : 0;
		head[7] = what == USED_IDX || what == HEADS ? 0x7fff : 0;
		for (uint64_t k = 32; what >= LOOPS && k + 16 <= part; k += 16) {
			next = (uint16_t *)(void *)(at + q * part + k);
			next[0] = what == ALL_IN_FLIGHT || what == LOOPS;
			next[1] = 5; /* packed */
			next[3] = 7; /* split */
		}
	}
}

/* A guest that has lost its ring may find anything in it: only that the port serves others counts. */
static void as_good_as_it_goes(struct fault *f)
{
	for (unsigned i = 0; i < 4; i++)
		vd_guest_adds(f->t, i, 20);
	vd_run_ms(f->t, 10);
	for (unsigned i = 0; i < 4; i++)
		vd_guest_takes(f->t, i);
	fault_neighbours_answer(f);
}

void fault_corrupted(struct fault *f, const struct fault_case *c)
{
	const enum content what = (enum content)c->arg[0];
	struct vd *t = f->t;
	struct ts_rng rng;
	uint64_t size;
	uint8_t *at;

	ts_rng_init(&rng, 0x1200 + c->arg[1]);
	fault_leave(f);
	vd_front_end(t, &ts_qemu_10);
	t->fe.want_protocol |= TS_BIT(TS_PROTO_INFLIGHT_SHMFD);
	vd_connect(t);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, t->fe.features));
	vd_ok(t, ts_fe_get_inflight(&t->fe, 4, VD_RING_SIZE));
	size = t->fe.inflight.mmap_size;
	at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, t->fe.inflight_fd, 0);
	assert_true(at != MAP_FAILED);
	if (what != WHILE_RUNNING)
		scribble(at, size, what, &rng);
	vd_ok(t, ts_fe_set_inflight(&t->fe));
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, 0));
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
	for (unsigned i = 0; i < 5; i++) {
		if (what == WHILE_RUNNING)
			scribble(at, size, what, &rng);
		as_good_as_it_goes(f);
	}
	munmap(at, size);
	vd_ok(t, ts_fe_barrier(&t->fe));
}

static void m12(void)
{
	static const uint16_t queues[] = {0, 1, 4, 5, 256, 257, 65535},
			      sizes[] = {0, 256, 32769, 65535};
	static const struct {
		const char *name;
		uint64_t file;
		struct ts_inflight in;
	} bad[] = {
		{"no size", 65536, {0, 0, 4, 256, 0}},
		{"too small", 65536, {4096, 0, 4, 256, 0}},
		{"a byte too small", 65536, {4 * 4160 - 1, 0, 4, 256, 0}},
		{"endless", 65536, {UINT64_MAX, 0, 4, 256, 0}},
		{"sum wraps", 65536, {65536, UINT64_MAX - 7, 4, 256, 0}},
		{"offset behind", 65536, {65536, 65536, 4, 256, 0}},
		{"odd offset", 65536, {33024, 4, 4, 256, 0}},
		{"no file", 0, {33024, 0, 4, 256, 0}},
		{"short file", 33023, {33024, 0, 4, 256, 0}},
		{"no queues", 65536, {33024, 0, 0, 256, 0}},
		{"257 queues", 1 << 20, {1 << 20, 0, 257, 256, 0}},
		{"65535 queues", 1 << 20, {1 << 20, 0, 65535, 65535, 0}},
		{"no entries", 65536, {33024, 0, 4, 0, 0}},
		{"65535 entries", 65536, {33024, 0, 4, 65535, 0}},
	};
	static const uint16_t many[] = {1, 256, 32768};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(queues); i++)
		for (unsigned k = 0; k < TS_ARRAY_SIZE(sizes); k++)
			if (queues[i] == 0 || queues[i] > 4 || k != 1)
				fault_add(&(struct fault_case){.run = fault_get_inflight,
						  .phase = k & 1 ? FAULT_RUNNING : FAULT_NEW,
						  .arg = {queues[i], sizes[k]}},
					"M12_GET_INFLIGHT_FD[%u queues,%u entries]", queues[i],
					sizes[k]);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(bad); i++)
		for (unsigned phase = 0; phase < FAULT_PHASES; phase++)
			fault_add(&(struct fault_case){.run = fault_set_inflight,
					  .phase = (enum fault_phase)phase,
					  .arg = {bad[i].file},
					  .data = &bad[i].in},
				"M12_SET_INFLIGHT_FD[%s,%s]", bad[i].name,
				fault_phase_names[phase]);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(many); i++)
		fault_add(&(struct fault_case){.run = fault_get_many, .arg = {many[i]}},
			"M12_GET_INFLIGHT_FD again[500 times,%u entries]", many[i]);
	for (unsigned i = 1; i <= 10; i += 9)
		fault_add(&(struct fault_case){.run = set_many, .arg = {i}},
			"M12_SET_INFLIGHT_FD again[%s]",
			i == 1 ? "another each time" : "mostly the same");
	for (unsigned i = 0; i < CONTENTS; i++)
		for (unsigned k = 0; k < (i >= RANDOM ? 16u : 2u); k++)
			fault_add(&(struct fault_case){.run = fault_corrupted, .arg = {i, k}},
				"M12_content[%s,%u]", contents[i], k);
}

void rows_shared(void)
{
	m11();
	m12();
}

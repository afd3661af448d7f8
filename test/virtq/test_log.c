/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty log: what is refused, which bits are set, and that no write to the guest goes unmarked. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ts_log.h"
#include "virtq_log.h"
#include "vq.h"

static struct virtq_log *map(const struct ts_log *l)
{
	struct virtq_log *log = NULL;
	char why[160] = "";

	if (virtq_log_create(l->fd, l->size, l->offset, &log, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	return log;
}

/* ---- the map ---- */

static void refused(int fd, uint64_t size, uint64_t offset, const char *line)
{
	struct virtq_log *log = NULL;
	char why[160] = "";

	assert_int_equal(virtq_log_create(fd, size, offset, &log, why, sizeof(why)), -EINVAL);
	assert_string_equal(why, line);
	assert_null(log);
}

static void trap_5_8_refused(struct vq *t)
{
	struct ts_log *l = ts_log_new(t->guest, 4096, 4096);
	int event = eventfd(0, EFD_CLOEXEC), maps = ts_count_maps("memfd:ts-log");

	refused(l->fd, 0, 0, "it is empty");
	refused(l->fd, 0, 4096, "it is empty");
	refused(l->fd, l->file_len + 1, 0, "its file holds 12288 bytes, 12289 are needed");
	refused(l->fd, 4096, l->file_len, "its file holds 12288 bytes, 16384 are needed");
	refused(l->fd, UINT64_MAX - 0xfff, 0x2000,
		"offset 0x2000 and size 0xfffffffffffff000 wrap around");
	refused(l->fd, 0x2000, UINT64_MAX - 0xfff,
		"offset 0xfffffffffffff000 and size 0x2000 wrap around");
	refused(l->fd, INT64_MAX, 1, "offset 0x1 and size 0x7fffffffffffffff wrap around");
	refused(event, 4096, 0, "its descriptor is not a memory file (memfd, tmpfs or hugetlbfs)");
	refused(-1, 4096, 0, "its descriptor is not a memory file (memfd, tmpfs or hugetlbfs)");
	assert_int_equal(ts_count_maps("memfd:ts-log"), maps);
	close(event);
	ts_log_free(l);
}

static void counted(struct vq *t)
{
	struct ts_log *l = ts_log_new(t->guest, 0, 0);
	int maps = ts_count_maps("memfd:ts-log");
	struct virtq_log *log = map(l);

	assert_int_equal(ts_count_maps("memfd:ts-log"), maps + 1);
	assert_ptr_equal(virtq_log_get(log), log);
	virtq_log_put(log);
	assert_int_equal(ts_count_maps("memfd:ts-log"), maps + 1);
	virtq_log_put(log);
	assert_int_equal(ts_count_maps("memfd:ts-log"), maps);
	assert_null(virtq_log_get(NULL));
	virtq_log_put(NULL);
	ts_log_free(l);
}

/* ---- bits ---- */

static bool overlap(uint64_t page, uint64_t gpa, uint64_t len)
{
	uint64_t last = gpa > UINT64_MAX - (len - 1) ? UINT64_MAX : gpa + len - 1;

	return len > 0 && page >= gpa / TS_LOG_PAGE && page <= last / TS_LOG_PAGE;
}

static void mark_and_look(struct ts_log *l, struct virtq_log *log, uint64_t gpa, uint64_t len)
{
	struct ts_log_result r;

	ts_log_begin(l);
	virtq_log_mark(log, gpa, len);
	for (uint64_t page = 0; page < 8 * l->size; page++)
		assert_int_equal(ts_log_marked(l, page * TS_LOG_PAGE), overlap(page, gpa, len));
	assert_true(ts_log_end(l, &r));
}

/* Any place and length in and behind the log, whose file goes on before and after it. */
static void trap_5_10_bits_and_nothing_past_the_end(struct vq *t)
{
	static const uint64_t offsets[] = {0, 4096, 24, 4096 + 8};
	static const uint64_t sizes[] = {1, 100, 4096};

	for (unsigned o = 0; o < TS_ARRAY_SIZE(offsets); o++) {
		for (unsigned s = 0; s < TS_ARRAY_SIZE(sizes); s++) {
			struct ts_log *l = ts_log_new(t->guest, sizes[s], offsets[o]);
			const uint64_t end = sizes[s] * 8 * TS_LOG_PAGE;
			struct virtq_log *log = map(l);
			const uint64_t cases[][2] = {{0, 1}, {4095, 1}, {4095, 2}, {0, 4096},
				{4096, 4096 * 9}, {1, 0}, {end - 1, 1}, {end - 1, 2}, {end, 1},
				{end - 4097, 9000}, {0, UINT64_MAX}, {4097, UINT64_MAX},
				{UINT64_MAX, 1}, {UINT64_MAX, UINT64_MAX}, {end, UINT64_MAX}};

			for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++)
				mark_and_look(l, log, cases[i][0], cases[i][1]);
			virtq_log_put(log);
			ts_log_free(l);
		}
	}
}

/* ---- two who mark, and one who fetches ---- */

#define PAGES 4096u

/* A round: both write to their pages and mark them, the odd ones and the even ones, which share
 * bytes, while the front-end fetches. What is lost must show in the same round, or the next one
 * covers it up. */
struct shared {
	struct virtq_log *log;
	struct ts_log *l;
	uint64_t cell[PAGES]; /* instead of the page */
	uint64_t copy[PAGES]; /* the front-end's */
	uint64_t begun, ended;
};

static void write_and_mark(struct shared *s, unsigned page, uint64_t round)
{
	virtq_store(&s->cell[page], round);
	virtq_log_begin();
	virtq_log_mark(s->log, page * TS_LOG_PAGE + round % TS_LOG_PAGE, 1);
}

static void await(const uint64_t *what, uint64_t value)
{
	for (unsigned i = 1; virtq_load_acquire(what) != value; i++) {
		virtq_pause();
		if (i % 1000 == 0)
			sched_yield();
	}
}

static void *mark_odd(void *arg)
{
	struct shared *s = arg;

	for (uint64_t round = 1;; round++) {
		await(&s->begun, round);
		if (virtq_load(&s->cell[0]) == UINT64_MAX)
			return NULL;
		for (unsigned p = 1; p < PAGES; p += 2)
			write_and_mark(s, p, round);
		virtq_store_release(&s->ended, round);
	}
}

/* As a front-end copies: fetch a byte and clear it, then read the pages it names. */
static void fetch(struct shared *s, unsigned byte)
{
	uint8_t dirty = __atomic_exchange_n(&ts_log_bits(s->l)[byte], 0, __ATOMIC_SEQ_CST);

	for (unsigned p = 8 * byte; dirty; p++, dirty >>= 1)
		if (dirty & 1)
			s->copy[p] = virtq_load(&s->cell[p]);
}

/* Every other time the bits are set from the start. */
static void one_round(struct shared *s, uint64_t round)
{
	memset(ts_log_bits(s->l), round % 2 ? 0xff : 0, PAGES / 8);
	virtq_store_release(&s->begun, round);
	for (unsigned byte = 0; byte < PAGES / 8; byte++) {
		for (unsigned p = 8 * byte; p < 8 * byte + 8; p += 2)
			write_and_mark(s, p, round);
		fetch(s, (byte + PAGES / 16) % (PAGES / 8));
		fetch(s, byte);
	}
	await(&s->ended, round);
	for (unsigned byte = 0; byte < PAGES / 8; byte++)
		fetch(s, byte);
	for (unsigned p = 0; p < PAGES; p++)
		if (s->copy[p] != round)
			fail_msg("round %llu: page %u was lost", (unsigned long long)round, p);
}

static void trap_5_10_two_threads_lose_no_bit(struct vq *t)
{
	static struct shared s;
	uint64_t end = ts_now_ms() + 500, round = 0;
	pthread_t thread;

	memset(&s, 0, sizeof(s));
	s.l = ts_log_new(t->guest, PAGES / 8, 0);
	s.log = map(s.l);
	assert_int_equal(pthread_create(&thread, NULL, mark_odd, &s), 0);
	while (ts_now_ms() < end)
		one_round(&s, ++round);
	virtq_store(&s.cell[0], UINT64_MAX);
	virtq_store_release(&s.begun, round + 1);
	pthread_join(thread, NULL);
	fprintf(stderr, "# %llu rounds\n", (unsigned long long)round);
	virtq_log_put(s.log);
	ts_log_free(s.l);
}

/* ---- rings ---- */

struct logged {
	struct vq *t;
	struct ts_log *l;
};

static struct logged log_ring(struct vq *t, bool ring)
{
	struct logged g = {t, ts_log_new(t->guest, 0, 4096)};

	assert_non_null(g.l);
	t->view.log = map(g.l);
	t->view.log_ring = ring;
	t->view.log_used = t->ring->device_gpa;
	return g;
}

static void log_end(struct logged *g)
{
	virtq_log_put(g->t->view.log);
	g->t->view.log = NULL;
	ts_log_free(g->l);
}

/* No page missed, none marked that is not memory, and at most so many that did not change. */
static void look(const struct logged *g, unsigned extra)
{
	struct ts_log_result r;

	assert_true(ts_log_end(g->l, &r));
	if (r.missed || r.stray || r.marked > r.changed + extra)
		fail_msg("%u pages changed, %u marked, %u missed (first 0x%llx), %u stray",
			r.changed, r.marked, r.missed, (unsigned long long)r.first, r.stray);
	assert_true(r.changed > 0);
}

/* Buffers that begin and end where pages and regions do, or do not. */
static const struct ts_seg buffers[][3] = {
	{{VQ_LOW_GPA, 64}},
	{{VQ_LOW_GPA + 4096 - 12, 12}, {VQ_LOW_GPA + 3 * 4096 - 1, 2}},
	{{VQ_HIGH_GPA - 5000, 10000}},
	{{VQ_FAR_GPA, 1}, {VQ_LOW_GPA + 100, 1}, {VQ_FAR_GPA + VQ_REGION_SIZE - 1, 1}},
};

static unsigned segments(const struct ts_seg *seg)
{
	unsigned n = 0;

	while (n < 3 && seg[n].len)
		n++;
	return n;
}

static void fill(const struct virtq_chain *chain, uint32_t written, uint8_t value)
{
	for (uint16_t i = 0; i < chain->nseg && written > 0; i++) {
		uint32_t part = written < chain->seg[i].len ? written : chain->seg[i].len;

		memset(chain->seg[i].va, value, part);
		written -= part;
	}
}

static uint16_t write_burst(struct vq *t, uint16_t max, uint8_t value)
{
	struct virtq_chain chain[8];
	uint32_t written[8], hint = 0;
	uint16_t n = t->ops->ready(t->q, &t->view, max), from = t->q->used, i;

	vq_burst_begin(t);
	for (i = 0; i < n && t->ops->take(t->q, &t->view, VIRTQ_TO_GUEST, t->segs, &chain[i]);
		i++) {
		written[i] = 1 + ts_rand_below(&t->rng, chain[i].len);
		fill(&chain[i], written[i], value);
	}
	n = i;
	for (i = 0; i < n; i++)
		t->ops->give(t->q, &t->view, &chain[i], written[i]);
	t->ops->publish(t->q, &t->view);
	virtq_log_begin();
	virtq_log_used(t->q, &t->view, from);
	for (i = 0; i < n; i++)
		virtq_log_chain(&t->view, &hint, &chain[i], written[i]);
	return n;
}

static void post(struct vq *t, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct ts_seg *seg = buffers[ts_rand_below(&t->rng, 4)];

		vq_post(t, VIRTQ_TO_GUEST, seg, segments(seg), NULL);
	}
}

static void reap(struct vq *t)
{
	while (ts_ring_get_used(t->ring, NULL))
		;
	vq_assert_polite(t);
}

static void trap_5_10_no_write_goes_unmarked(struct vq *t)
{
	struct logged g = log_ring(t, true);

	for (unsigned round = 1; round < 200; round++) {
		unsigned n = 1 + ts_rand_below(&t->rng, 8);

		post(t, n);
		ts_log_begin(g.l);
		assert_int_equal(write_burst(t, (uint16_t)n, (uint8_t)round), n);
		look(&g, 2 * n);
		reap(t);
	}
	log_end(&g);
}

static void trap_5_10_start_sleep_discard(struct vq *t)
{
	struct logged g = log_ring(t, true);
	uint32_t ticket;

	((uint16_t *)t->view.used)[t->view.packed] = 0; /* else nothing would change */
	ts_log_begin(g.l);
	virtq_start(t->q, &t->view, virtq_position(t->q, t->view.packed));
	look(&g, 2);
	t->view.kicks = true;
	assert_null(virtq_gate_swap(&t->q->gate, &t->view, &ticket));
	ts_log_begin(g.l);
	assert_true(virtq_arm(t->q));
	look(&g, 2);
	ts_log_begin(g.l);
	virtq_disarm(t->q);
	look(&g, 2);
	virtq_gate_swap(&t->q->gate, NULL, &ticket);
	for (unsigned round = 0; round < 50; round++) {
		unsigned n = 1 + ts_rand_below(&t->rng, 8);

		post(t, n);
		ts_log_begin(g.l);
		assert_int_not_equal(virtq_discard(t->q, &t->view, 1000), 0);
		look(&g, 2);
		reap(t);
	}
	log_end(&g);
}

/* Without VHOST_VRING_F_LOG only what chains hold. */
static void ring_is_left_out(struct vq *t)
{
	struct logged g = log_ring(t, false);
	struct ts_log_result r;

	vq_post(t, VIRTQ_TO_GUEST, buffers[0], 1, NULL);
	ts_log_begin(g.l);
	assert_int_equal(write_burst(t, 1, 0x77), 1);
	virtq_log_kicks(&t->view);
	assert_true(ts_log_end(g.l, &r));
	assert_int_equal(r.marked, 1);
	assert_true(ts_log_marked(g.l, VQ_LOW_GPA));
	assert_true(r.missed > 0);
	log_end(&g);
}

static const struct vq_test tests[] = {
	{"trap_5_8_refused", trap_5_8_refused, 16, 0, VQ_OVER_FORMAT},
	{"counted", counted, 16, 0, VQ_OVER_FORMAT},
	{"trap_5_10_bits_and_nothing_past_the_end", trap_5_10_bits_and_nothing_past_the_end, 16, 0,
		VQ_OVER_FORMAT},
	{"trap_5_10_two_threads_lose_no_bit", trap_5_10_two_threads_lose_no_bit, 16, 0,
		VQ_OVER_FORMAT},
	{"trap_5_10_no_write_goes_unmarked", trap_5_10_no_write_goes_unmarked, 256, 65300,
		VQ_OVER_ALL},
	{"trap_5_10_no_write_goes_unmarked_large", trap_5_10_no_write_goes_unmarked, 2048, 2000,
		VQ_OVER_LAYOUT},
	{"trap_5_10_start_sleep_discard", trap_5_10_start_sleep_discard, 256, 65300, VQ_OVER_ALL},
	{"ring_is_left_out", ring_is_left_out, 16, 0, VQ_OVER_FORMAT},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

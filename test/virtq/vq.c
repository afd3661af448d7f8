/* SPDX-License-Identifier: BSD-3-Clause */
/* The fixture of the ring tests, and how a test becomes one cmocka case per column. */
#include "vq.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "virtq_packed.h"
#include "virtq_split.h"

#define TOKEN ((void *)(uintptr_t)1)

const struct vq_format vq_formats[] = {
	{"split", 0, &virtq_split_ops, {1, 2, 4, 256, 1024, 32768}},
	{"packed", TS_BIT(VIRTIO_F_RING_PACKED), &virtq_packed_ops,
		{1, 2, 3, 5, 7, 255, 256, 1000, 32767, 32768}},
};
const unsigned vq_n_formats = TS_ARRAY_SIZE(vq_formats);

/* ---- fixture ---- */

struct virtq_mem *vq_guarded_mem(const struct ts_guest *g)
{
	struct virtq_mem *mem = calloc(1, sizeof(*mem) + (g->n + 1) * sizeof(mem->spans[0]));

	assert_non_null(mem);
	mem->refs = 1;
	for (; mem->n < g->n; mem->n++) {
		const struct ts_region *r = &g->r[mem->n];
		uint32_t at = mem->n;

		for (; at > 0 && mem->spans[at - 1].gpa > r->gpa; at--)
			mem->spans[at] = mem->spans[at - 1];
		mem->spans[at] = (struct virtq_span){r->gpa, r->size, r->va};
	}
	return mem;
}

static void make_guest(struct vq *t)
{
	static const struct ts_region_conf regions[] = {
		[VQ_RINGS] = {.gpa = 0x100000, .size = 8u << 20},
		[VQ_LOW] = {.gpa = VQ_LOW_GPA, .size = VQ_REGION_SIZE},
		[VQ_HIGH] = {.gpa = VQ_HIGH_GPA, .size = VQ_REGION_SIZE},
		[VQ_FAR] = {.gpa = VQ_FAR_GPA, .size = VQ_REGION_SIZE},
	};

	t->guest = ts_guest_new();
	assert_non_null(t->guest);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(regions); i++)
		assert_int_equal(ts_guest_add(t->guest, &regions[i]), i);
	t->mem = vq_guarded_mem(t->guest);
}

static uint64_t features_of(const struct vq_case *c)
{
	return c->format->features | TS_BIT(VIRTIO_F_VERSION_1) |
	       (c->indirect ? TS_BIT(VIRTIO_RING_F_INDIRECT_DESC) : 0) |
	       (c->mergeable ? TS_BIT(15) : 0) |
	       (c->event_idx ? TS_BIT(VIRTIO_RING_F_EVENT_IDX) : 0);
}

struct virtq_view vq_view_of(const struct ts_ring *r)
{
	const bool packed = ts_ring_has(r, VIRTIO_F_RING_PACKED);
	struct virtq_view v = {.num = (uint16_t)r->size,
		.packed = packed,
		.hdr_len = 12,
		.event_idx = ts_ring_has(r, VIRTIO_RING_F_EVENT_IDX),
		.indirect = ts_ring_has(r, VIRTIO_RING_F_INDIRECT_DESC),
		.call_fd = r->call_fd,
		.features = r->features};

	v.desc = packed ? (void *)r->pdesc : r->desc;
	if (packed)
		v.driver = r->driver;
	else
		v.avail = r->avail;
	if (packed)
		v.device = r->device;
	else
		v.used = r->used;
	return v;
}

void vq_new_ring(struct vq *t, uint32_t size, uint16_t base)
{
	struct ts_ring_conf conf = {.guest = t->guest,
		.region = VQ_RINGS,
		.size = size,
		.features = features_of(&t->c),
		.base = ts_base_at(features_of(&t->c), size, base),
		.flags = TS_RING_SHUFFLE};
	int call_fd = t->ring ? t->ring->call_fd : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	ts_ring_free(t->ring);
	ts_guest_forget(t->guest);
	assert_int_equal(ts_ring_new(&conf, &t->ring), 0);
	t->ring->call_fd = call_fd;
	t->view = vq_view_of(t->ring);
	t->view.mem = t->mem;
	virtq_start(t->q, &t->view, conf.base);
	vq_burst_begin(t);
}

void vq_open(struct vq *t, const struct vq_case *c, uint32_t size, uint16_t base)
{
	*t = (struct vq){.c = *c, .ops = c->format->ops};
	ts_rng_init(&t->rng, ts_seed());
	make_guest(t);
	t->q = virtq_new();
	t->segs = malloc(sizeof(*t->segs));
	assert_non_null(t->q);
	assert_non_null(t->segs);
	vq_new_ring(t, size, base);
}

void vq_close(struct vq *t)
{
	if (t->ring)
		close(t->ring->call_fd);
	ts_ring_free(t->ring);
	free(t->segs);
	virtq_free(t->q);
	free(t->mem);
	ts_guest_free(t->guest);
}

/* ---- columns ---- */

struct column {
	const struct vq_test *test;
	const void *arg;
	struct vq_case c;
	struct vq t;
	char name[96];
};

static int column_setup(void **state)
{
	struct column *col = *state;

	vq_open(&col->t, &col->c, col->test->size, col->test->base);
	col->t.arg = col->arg;
	return 0;
}

static int column_teardown(void **state)
{
	struct column *col = *state;

	vq_close(&col->t);
	return 0;
}

static void column_run(void **state)
{
	struct column *col = *state;

	col->test->run(&col->t);
}

static void name_column(struct column *col)
{
	const struct vq_case *c = &col->c;
	const unsigned over = col->test->over & ~(unsigned)(VQ_SPLIT | VQ_PACKED);
	const char *layout = c->indirect ? ",indirect" : ",direct";

	if (over == VQ_OVER_FORMAT || over == VQ_OVER_EVENT_IDX)
		layout = "";
	snprintf(col->name, sizeof(col->name), "%s[%s%s%s%s]", col->test->name, c->format->name,
		layout, c->mergeable ? ",mergeable" : "", c->event_idx ? ",event_idx" : "");
}

/* Bits: indirect, mergeable, event index. */
static bool column_exists(unsigned over, const struct vq_format *format, unsigned bits)
{
	if (over & (format->features ? VQ_SPLIT : VQ_PACKED))
		return false;
	switch (over & ~(unsigned)(VQ_SPLIT | VQ_PACKED)) {
	case VQ_OVER_ALL:
		return true;
	case VQ_OVER_LAYOUT:
		return bits < 2;
	case VQ_OVER_FORMAT:
		return bits == 1;
	default:
		return bits == 5;
	}
}

int vq_main_with(
	const struct vq_test *tests, const void *const *args, size_t n, int argc, char **argv)
{
	size_t max = n * vq_n_formats * 8, count = 0;
	struct column *cols = calloc(max, sizeof(*cols));
	struct CMUnitTest *cases = calloc(max, sizeof(*cases));
	int rc;

	if (!cols || !cases)
		return 1;
	for (size_t i = 0; i < n * vq_n_formats; i++) {
		for (unsigned bits = 0; bits < 8; bits++) {
			const struct vq_format *format = &vq_formats[i % vq_n_formats];
			struct column *col = &cols[count];

			col->test = &tests[i / vq_n_formats];
			col->arg = args ? args[i / vq_n_formats] : NULL;
			if (!column_exists(col->test->over, format, bits))
				continue;
			col->c = (struct vq_case){format, bits & 1, bits & 2, bits & 4};
			name_column(col);
			cases[count++] = (struct CMUnitTest){
				col->name, column_run, column_setup, column_teardown, col};
		}
	}
	rc = ts_run_tests(cases, count, argc, argv);
	free(cases);
	free(cols);
	return rc;
}

int vq_main(const struct vq_test *tests, size_t n, int argc, char **argv)
{
	return vq_main_with(tests, NULL, n, argc, argv);
}

/* ---- what tests do again and again ---- */

void vq_post(struct vq *t, enum virtq_dir dir, const struct ts_seg *seg, unsigned n, void *token)
{
	token = token ? token : TOKEN;
	if (dir == VIRTQ_FROM_GUEST)
		assert_int_equal(ts_ring_add(t->ring, seg, n, NULL, 0, token, vq_mode(t)), 0);
	else
		assert_int_equal(ts_ring_add(t->ring, NULL, 0, seg, n, token, vq_mode(t)), 0);
	ts_ring_publish(t->ring);
}

struct virtq_chain vq_take(struct vq *t, enum virtq_dir dir)
{
	struct virtq_chain chain;

	assert_int_equal(t->ops->ready(t->q, &t->view, 1), 1);
	if (!t->ops->take(t->q, &t->view, dir, t->segs, &chain))
		fail_msg("the ring was parked: %s", virtq_fault_text(t->q->fault));
	return chain;
}

uint32_t vq_post_some(struct vq *t, uint32_t n, uint64_t *number)
{
	const struct ts_seg one_buffer = {VQ_LOW_GPA, 64};
	uint32_t i;

	for (i = 0; i < n; i++) {
		void *token = (void *)(uintptr_t)(*number + 1);

		if (ts_ring_add(t->ring, &one_buffer, 1, NULL, 0, token, vq_mode(t)) != 0)
			break;
		++*number;
	}
	ts_ring_publish(t->ring);
	return i;
}

uint16_t vq_take_some(struct vq *t, struct virtq_chain *chain, uint16_t max)
{
	uint16_t n = t->ops->ready(t->q, &t->view, max), i = 0;

	vq_burst_begin(t);
	while (i < n && t->ops->take(t->q, &t->view, VIRTQ_FROM_GUEST, t->segs, &chain[i]))
		i++;
	return i;
}

void vq_give_all(struct vq *t, const struct virtq_chain *chain, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		t->ops->give(t->q, &t->view, &chain[i], 0);
	if (n > 0)
		t->ops->publish(t->q, &t->view);
}

void vq_reap_all(struct vq *t, uint64_t *number)
{
	void *token;

	while ((token = ts_ring_get_used(t->ring, NULL)))
		assert_int_equal((uintptr_t)token, ++*number);
	vq_assert_polite(t);
}

void vq_assert_segments(
	struct vq *t, const struct virtq_chain *chain, const struct ts_seg *seg, unsigned n)
{
	uint16_t at = 0;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t gpa = seg[i].gpa, len = seg[i].len;

		bytes += len;
		while (len > 0) {
			const struct ts_region *r = NULL;
			uint64_t part;

			for (unsigned k = 0; k < t->guest->n; k++)
				if (gpa - t->guest->r[k].gpa < t->guest->r[k].size)
					r = &t->guest->r[k];
			assert_non_null(r);
			part = r->gpa + r->size - gpa;
			part = part < len ? part : len;
			assert_true(at < chain->nseg);
			assert_ptr_equal(chain->seg[at].va, r->va + (gpa - r->gpa));
			assert_int_equal(chain->seg[at].len, part);
			at++;
			gpa += part;
			len -= part;
		}
	}
	assert_int_equal(chain->nseg, at);
	assert_int_equal(chain->len, bytes);
}

void vq_assert_polite(const struct vq *t)
{
	if (t->ring->faults.count)
		fail_msg("%u faults, the first: %s", t->ring->faults.count, t->ring->faults.first);
	assert_int_equal(t->q->fault, VIRTQ_FAULT_NONE);
}

bool vq_in_guest(const struct vq *t, const uint8_t *va, uint64_t len)
{
	for (uint32_t i = 0; i < t->mem->n; i++) {
		uint64_t off = (uint64_t)(va - t->mem->spans[i].hva);

		if (off < t->mem->spans[i].size)
			return len <= t->mem->spans[i].size - off;
	}
	return false;
}

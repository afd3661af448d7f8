/* SPDX-License-Identifier: BSD-3-Clause */
/* Walks over tables of an IOTLB that learns an address at a time. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "virtq_iotlb.h"
#include "vq.h"

/* I/O addresses are guest addresses here. */

struct walk {
	struct virtq_iotlb *tlb;
	struct virtq_mem *read, *write;
	struct virtq_mem *guest; /* front-end addresses are guest addresses */
	struct virtq_mem *saved; /* of the fixture */
	int event;
};

static void map(struct walk *w, uint64_t gpa, uint64_t len, uint8_t perm)
{
	char why[200];

	assert_int_equal(virtq_iotlb_update(w->tlb, w->guest, gpa, len, gpa, perm, why, 200), 0);
}

/* What a reconciled view has. */
static void look(struct vq *t, struct walk *w, enum virtq_dir dir)
{
	virtq_mem_put(w->read);
	virtq_mem_put(w->write);
	w->read = virtq_iotlb_table(w->tlb, w->guest, VIRTQ_PERM_READ);
	w->write = virtq_iotlb_table(w->tlb, w->guest, VIRTQ_PERM_WRITE);
	t->view.mem = dir == VIRTQ_FROM_GUEST ? w->read : w->write;
	t->view.tables = w->read;
	virtq_store(&t->q->miss_perm, 0);
}

static struct virtq_mem *table_of(const struct ts_guest *g)
{
	struct virtq_mem_req reqs[8];
	struct virtq_mem *mem;
	char why[200];

	for (unsigned i = 0; i < g->n; i++)
		reqs[i] = (struct virtq_mem_req){
			g->r[i].gpa, g->r[i].size, g->r[i].gpa, g->r[i].mmap_offset, g->r[i].fd};
	assert_int_equal(virtq_mem_create(reqs, g->n, NULL, &mem, why, sizeof(why)), 0);
	return mem;
}

static void walk_open(struct vq *t, struct walk *w)
{
	*w = (struct walk){.tlb = virtq_iotlb_new(),
		.guest = table_of(t->guest),
		.saved = t->view.mem,
		.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	t->view.miss_fd = w->event;
}

static void walk_close(struct vq *t, struct walk *w)
{
	t->view.mem = w->saved;
	t->view.tables = NULL;
	virtq_mem_put(w->read);
	virtq_mem_put(w->write);
	virtq_mem_put(w->guest);
	virtq_iotlb_free(w->tlb);
	close(w->event);
}

static bool try_take(struct vq *t, enum virtq_dir dir, struct virtq_chain *chain)
{
	vq_burst_begin(t);
	return t->ops->ready(t->q, &t->view, 1) &&
	       t->ops->take(t->q, &t->view, dir, t->segs, chain);
}

/* Nothing moves, nothing is parked, and control hears of it once. Returns the address. */
static uint64_t missed(struct vq *t, struct walk *w, enum virtq_dir dir, uint8_t perm)
{
	uint16_t at = t->q->avail;
	struct virtq_chain chain;
	uint64_t count, before = t->q->stats.iotlb_misses;

	look(t, w, dir);
	for (unsigned i = 0; i < 3; i++)
		assert_false(try_take(t, dir, &chain));
	assert_int_equal(t->q->fault, VIRTQ_FAULT_NONE);
	assert_int_equal(t->q->avail, at);
	assert_int_equal(t->segs->n, 0);
	assert_int_equal(t->q->miss_perm, perm);
	assert_int_equal(read(w->event, &count, sizeof(count)), sizeof(count));
	assert_int_equal(count, 1);
	assert_int_equal(t->q->stats.iotlb_misses, before + 1);
	return t->q->miss;
}

/* The table of two descriptors becomes known in pieces, the first of which ends in the middle of
 * the second; it is read, whatever the buffers are for. */
static void indirect_table(struct vq *t, struct walk *w, enum virtq_dir dir, uint8_t perm)
{
	uint64_t table = missed(t, w, dir, VIRTQ_PERM_READ);

	map(w, table, 24, VIRTQ_PERM_WRITE);
	assert_int_equal(missed(t, w, dir, VIRTQ_PERM_READ), table);
	map(w, table, 24, VIRTQ_PERM_READ);
	assert_int_equal(missed(t, w, dir, perm), VQ_LOW_GPA + 100);
	map(w, VQ_LOW_GPA, 4096, perm);
	assert_int_equal(missed(t, w, dir, VIRTQ_PERM_READ), table + 24);
	map(w, table + 24, 8, VIRTQ_PERM_BOTH);
	assert_true(virtq_iotlb_invalidate(w->tlb, VQ_LOW_GPA, 4096));
}

static void assert_pieces(const struct walk *w, const struct virtq_chain *chain)
{
	static const struct ts_seg piece[] = {
		{VQ_LOW_GPA + 100, 500}, {VQ_HIGH_GPA - 50, 50}, {VQ_HIGH_GPA, 30}};

	assert_int_equal(chain->nseg, TS_ARRAY_SIZE(piece));
	for (unsigned i = 0; i < TS_ARRAY_SIZE(piece); i++) {
		assert_ptr_equal(chain->seg[i].va, virtq_mem_uva(w->guest, piece[i].gpa, 1));
		assert_int_equal(chain->seg[i].len, piece[i].len);
	}
}

static void both_directions(struct vq *t, enum virtq_dir dir)
{
	const struct ts_seg seg[] = {{VQ_LOW_GPA + 100, 500}, {VQ_HIGH_GPA - 50, 80}};
	const uint8_t perm = dir == VIRTQ_FROM_GUEST ? VIRTQ_PERM_READ : VIRTQ_PERM_WRITE;
	struct virtq_chain chain;
	struct walk w;

	walk_open(t, &w);
	vq_post(t, dir, seg, 2, t);
	if (t->c.indirect)
		indirect_table(t, &w, dir, perm);
	assert_int_equal(missed(t, &w, dir, perm), VQ_LOW_GPA + 100);
	map(&w, VQ_LOW_GPA, 4096, VIRTQ_PERM_BOTH & ~perm); /* not what is needed */
	assert_int_equal(missed(t, &w, dir, perm), VQ_LOW_GPA + 100);
	map(&w, VQ_LOW_GPA, 300, perm);
	assert_int_equal(missed(t, &w, dir, perm), VQ_LOW_GPA + 300);
	map(&w, VQ_LOW_GPA + 300, 3796, VIRTQ_PERM_BOTH);
	assert_int_equal(missed(t, &w, dir, perm), VQ_HIGH_GPA - 50);
	map(&w, VQ_HIGH_GPA - 4096, 4096, perm);
	assert_int_equal(missed(t, &w, dir, perm), VQ_HIGH_GPA);
	map(&w, VQ_HIGH_GPA, 4096, perm);
	look(t, &w, dir);
	assert_true(try_take(t, dir, &chain));
	assert_int_equal(chain.len, 580);
	assert_pieces(&w, &chain);
	t->ops->give(t->q, &t->view, &chain, dir == VIRTQ_TO_GUEST ? 580 : 0);
	t->ops->publish(t->q, &t->view);
	assert_ptr_equal(ts_ring_get_used(t->ring, NULL), t);
	vq_assert_polite(t);
	walk_close(t, &w);
}

static void one_miss_after_the_other_from_guest(struct vq *t)
{
	both_directions(t, VIRTQ_FROM_GUEST);
}

static void one_miss_after_the_other_to_guest(struct vq *t)
{
	both_directions(t, VIRTQ_TO_GUEST);
}

/* Chains before the one that misses are served in the same burst. */
static void those_before_it_go(struct vq *t)
{
	const struct ts_seg known[] = {{VQ_LOW_GPA, 64}}, unknown[] = {{VQ_HIGH_GPA, 64}};
	struct virtq_chain chain[3];
	struct walk w;

	walk_open(t, &w);
	map(&w, t->guest->r[VQ_RINGS].gpa, VQ_REGION_SIZE, VIRTQ_PERM_BOTH);
	map(&w, VQ_LOW_GPA, 4096, VIRTQ_PERM_READ);
	look(t, &w, VIRTQ_FROM_GUEST);
	vq_post(t, VIRTQ_FROM_GUEST, known, 1, t);
	vq_post(t, VIRTQ_FROM_GUEST, known, 1, &w);
	vq_post(t, VIRTQ_FROM_GUEST, unknown, 1, chain);
	vq_burst_begin(t);
	assert_int_equal(t->ops->ready(t->q, &t->view, 3), 3);
	for (unsigned i = 0; i < 2; i++)
		assert_true(t->ops->take(t->q, &t->view, VIRTQ_FROM_GUEST, t->segs, &chain[i]));
	assert_false(t->ops->take(t->q, &t->view, VIRTQ_FROM_GUEST, t->segs, &chain[2]));
	assert_int_equal(t->q->miss, VQ_HIGH_GPA);
	for (unsigned i = 0; i < 2; i++)
		t->ops->give(t->q, &t->view, &chain[i], 0);
	t->ops->publish(t->q, &t->view);
	assert_ptr_equal(ts_ring_get_used(t->ring, NULL), t);
	assert_ptr_equal(ts_ring_get_used(t->ring, NULL), &w);
	assert_null(ts_ring_get_used(t->ring, NULL));
	map(&w, VQ_HIGH_GPA, 64, VIRTQ_PERM_READ);
	look(t, &w, VIRTQ_FROM_GUEST);
	assert_true(try_take(t, VIRTQ_FROM_GUEST, &chain[2]));
	t->ops->give(t->q, &t->view, &chain[2], 0);
	t->ops->publish(t->q, &t->view);
	assert_ptr_equal(ts_ring_get_used(t->ring, NULL), chain);
	vq_assert_polite(t);
	walk_close(t, &w);
}

int main(int argc, char **argv)
{
	const struct vq_test tests[] = {
		{"one_miss_after_the_other_from_guest", one_miss_after_the_other_from_guest, 16, 0,
			VQ_OVER_LAYOUT},
		{"one_miss_after_the_other_to_guest", one_miss_after_the_other_to_guest, 16, 0,
			VQ_OVER_LAYOUT},
		{"those_before_it_go", those_before_it_go, 16, 0, VQ_OVER_LAYOUT},
	};

	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

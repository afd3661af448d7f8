/* SPDX-License-Identifier: BSD-3-Clause */
/* A ring with an in-flight region, and its back-end's death. */
#include "vq_inflight.h"

#include <string.h>
#include <unistd.h>

struct virtq_inflight *vq_inflight_region(uint16_t rings, uint16_t num)
{
	const uint64_t size = virtq_inflight_size(rings, num, true);
	struct virtq_inflight *region = NULL;
	char why[160] = "";
	int fd = virtq_inflight_create(size);

	assert_true(fd >= 0);
	if (virtq_inflight_map(fd, size, 0, rings, num, true, &region, why, sizeof(why)) != 0)
		fail_msg("not mapped: %s", why);
	close(fd);
	return region;
}

struct virtq_inflight *vq_inflight_begin(struct vq *t, uint32_t size, uint16_t base)
{
	struct virtq_inflight *region = vq_inflight_region(1, (uint16_t)size);

	vq_new_ring(t, size, base);
	t->view.inflight_ring = virtq_inflight_ring(region, 0, (uint16_t)size, t->view.packed);
	assert_non_null(t->view.inflight_ring);
	virtq_start(t->q, &t->view, vq_base(t, vq_pos(t, base), vq_pos(t, base)));
	return region;
}

void vq_inflight_crash(struct vq *t)
{
	const uint16_t wrong = vq_pos(t, ts_rand_below(&t->rng, 2 * t->ring->size));

	memset(t->q, 0xee, sizeof(*t->q));
	virtq_start(t->q, &t->view, vq_base(t, wrong, wrong));
	assert_int_equal(t->q->used, vq_shown(t));
	assert_int_equal(t->q->avail, vq_shown(t));
}

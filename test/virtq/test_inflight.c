/* SPDX-License-Identifier: BSD-3-Clause */
/* The in-flight region: its layout, what is recorded in it, and any bytes at all. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "virtq_lend.h"
#include "vq_inflight.h"

/* Offsets as QEMU and DPDK have them, written down a second time. */
enum {
	VERSION = 8,
	SPLIT_USED = 14,
	PACKED_USED = 16,
	PACKED_OLD = 18,
	PACKED_USED_WRAP = 20,
	PACKED_OLD_WRAP = 21,
};

/* ---- layout ---- */

static void layout(struct vq *t)
{
	static const struct {
		uint16_t num;
		uint64_t split, packed; /* of one ring */
	} sizes[] = {{1, 64, 64}, {2, 64, 128}, {3, 64, 128}, {256, 4160, 8256}, {255, 4096, 8192},
		{32768, 524352, 1048640}};
	const bool packed = t->view.packed;

	for (unsigned i = 0; i < TS_ARRAY_SIZE(sizes); i++) {
		uint64_t part = packed ? sizes[i].packed : sizes[i].split;
		struct virtq_inflight *r;

		assert_int_equal(virtq_inflight_size(1, sizes[i].num, packed), part);
		assert_int_equal(virtq_inflight_size(256, sizes[i].num, packed), 256 * part);
		r = vq_inflight_region(3, sizes[i].num);
		assert_ptr_equal(virtq_inflight_ring(r, 2, sizes[i].num, packed),
			(uint8_t *)virtq_inflight_ring(r, 0, sizes[i].num, packed) + 2 * part);
		assert_null(virtq_inflight_ring(r, 3, sizes[i].num, packed));
		assert_null(virtq_inflight_ring(r, 0, (uint16_t)(sizes[i].num + 1), packed));
		virtq_inflight_put(r);
	}
	assert_null(virtq_inflight_ring(NULL, 0, 1, packed));
}

static void refused(int fd, uint64_t size, uint64_t offset, bool packed, const char *text)
{
	struct virtq_inflight *region = NULL;
	char why[160] = "";

	assert_int_equal(
		virtq_inflight_map(fd, size, offset, 4, 256, packed, &region, why, sizeof(why)),
		-EINVAL);
	if (!strstr(why, text))
		fail_msg("\"%s\" does not say \"%s\"", why, text);
	assert_null(region);
}

static void regions(struct vq *t)
{
	const bool packed = t->view.packed;
	const uint64_t size = virtq_inflight_size(4, 256, packed);
	int fd = virtq_inflight_create(size), null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct virtq_inflight *region = NULL;
	char why[160] = "";

	assert_int_equal(lseek(fd, 0, SEEK_END), size);
	/* The front-end cannot take its end away from under us. */
	assert_int_equal(ftruncate(fd, (off_t)size - 1), -1);
	assert_int_equal(errno, EPERM);
	refused(fd, size - 1, 0, packed, "bytes");
	refused(fd, 0, 0, packed, "0 bytes");
	refused(fd, size + 1, 0, packed, "its file holds");
	refused(fd, size, 8, packed, "its file holds");
	refused(fd, size, 4, packed, "not a multiple of 8");
	refused(fd, UINT64_MAX - 7, 0, packed, "wrap around");
	refused(fd, size, UINT64_MAX - 7, packed, "wrap around");
	refused(null, size, 0, packed, "not a memory file");
	assert_int_equal(
		virtq_inflight_map(fd, size, 0, 4, 256, packed, &region, why, sizeof(why)), 0);
	/* Large enough for a split ring is not so for a packed one. */
	assert_true((virtq_inflight_ring(region, 3, 256, true) != NULL) == packed);
	virtq_inflight_get(region);
	virtq_inflight_put(region);
	((uint8_t *)virtq_inflight_ring(region, 3, 256, packed))[4111] = 1;
	virtq_inflight_put(region);
	virtq_inflight_put(NULL);
	assert_int_equal(ts_count_maps("sluice-inflight"), 0);
	close(fd);
	close(null);
}

/* ---- what is recorded ---- */

static uint16_t word(const struct vq *t, unsigned at)
{
	uint16_t v;

	memcpy(&v, (uint8_t *)t->view.inflight_ring + at, sizeof(v));
	return v;
}

static uint8_t byte(const struct vq *t, unsigned at)
{
	return ((uint8_t *)t->view.inflight_ring)[at];
}

/* At rest both positions are where the driver is. */
static void recorded(struct vq *t)
{
	struct virtq_inflight *region = vq_inflight_begin(t, 16, 3);
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;

	for (unsigned round = 0; round < 100; round++) {
		const uint16_t pos = vq_shown(t);

		assert_int_equal(word(t, VERSION), 1);
		if (t->view.packed) {
			assert_int_equal(word(t, PACKED_USED), pos & 0x7fff);
			assert_int_equal(word(t, PACKED_OLD), pos & 0x7fff);
			assert_int_equal(byte(t, PACKED_USED_WRAP), pos >> 15);
			assert_int_equal(byte(t, PACKED_OLD_WRAP), pos >> 15);
		} else {
			assert_int_equal(word(t, SPLIT_USED), pos);
		}
		vq_post_some(t, ts_rand_below(&t->rng, 18), &posted);
		if (round % 7 == 6)
			virtq_discard(t->q, &t->view, UINT32_MAX);
		else
			vq_give_all(t, chain, vq_take_some(t, chain, VIRTQ_BURST));
		vq_reap_all(t, &reaped);
	}
	assert_int_equal(reaped, posted);
	virtq_inflight_put(region);
}

/* Stopped in order: the next start says where, as for a driver that was reset. */
static void stopped(struct vq *t)
{
	struct virtq_inflight *region = vq_inflight_begin(t, 32, 7);
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;

	vq_post_some(t, 20, &posted);
	vq_give_all(t, chain, vq_take_some(t, chain, VIRTQ_BURST));
	vq_reap_all(t, &reaped);
	virtq_inflight_stop(t->view.inflight_ring, t->view.packed);
	virtq_inflight_stop(NULL, t->view.packed);
	assert_int_equal(word(t, VERSION), 0);
	ts_ring_reset(t->ring, vq_base(t, vq_pos(t, 3), vq_pos(t, 3)));
	virtq_start(t->q, &t->view, vq_base(t, vq_pos(t, 3), vq_pos(t, 3)));
	assert_int_equal(t->q->avail, vq_pos(t, 3));
	assert_int_equal(t->q->used, vq_pos(t, 3));
	assert_int_equal(word(t, VERSION), 1);
	vq_inflight_crash(t);
	posted = reaped = 0;
	vq_post_some(t, 32, &posted);
	vq_give_all(t, chain, vq_take_some(t, chain, VIRTQ_BURST));
	vq_reap_all(t, &reaped);
	assert_int_equal(reaped, 32);
	virtq_inflight_put(region);
}

/* What the dead one had lent may be sent twice; what it had not, it had not sent before it gave it back. */
static void repeated(struct vq *t)
{
	static struct virtq_lender lender;
	struct virtq_inflight *region = vq_inflight_begin(t, 256, 3);
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0, twice;

	for (unsigned i = 0; i < 20; i++) {
		vq_post_some(t, 10 * i, &posted);
		t->view.lender = i % 4 == 0 ? NULL : &lender;
		memset(t->q, 0, sizeof(*t->q));
		virtq_start(t->q, &t->view, vq_base(t, 0, 0));
		twice = posted - reaped < VIRTQ_BURST ? posted - reaped : VIRTQ_BURST;
		assert_int_equal(t->q->stats.repeated, i % 4 == 0 ? 0 : twice);
		assert_int_equal(t->q->stats.recovered, 0);
		t->view.lender = NULL;
		while (reaped < posted) {
			vq_give_all(t, chain, vq_take_some(t, chain, VIRTQ_BURST));
			vq_reap_all(t, &reaped);
		}
	}
	virtq_inflight_put(region);
}

/* ---- any bytes at all ---- */

static void noise(struct vq *t, uint64_t len)
{
	uint8_t *bytes = t->view.inflight_ring;
	const unsigned kind = ts_rand_below(&t->rng, 4);

	for (uint64_t i = 0; i < len; i++)
		bytes[i] = kind == 0   ? (uint8_t)ts_rand(&t->rng)
			   : kind == 1 ? (uint8_t)ts_rand_below(&t->rng, 3)
			   : kind == 2 ? 0xff
				       : (uint8_t)(ts_rand_below(&t->rng, 9) == 0);
	bytes[VERSION] = 1;
	bytes[VERSION + 1] = 0;
}

/* We come to no harm, whatever becomes of this guest's ring. */
static void hostile_bytes(struct vq *t)
{
	for (const uint32_t *size = t->c.format->sizes; *size && *size <= 1024; size++) {
		struct virtq_inflight *region = vq_inflight_region(1, (uint16_t)*size);
		const uint64_t len = virtq_inflight_size(1, (uint16_t)*size, t->view.packed);

		for (unsigned round = 0; round < 200; round++) {
			struct virtq_chain chain[VIRTQ_BURST];
			uint64_t posted = 0;

			vq_new_ring(t, *size, (uint16_t)ts_rand(&t->rng));
			t->view.inflight_ring =
				virtq_inflight_ring(region, 0, (uint16_t)*size, t->view.packed);
			vq_post_some(t, ts_rand_below(&t->rng, 2 * *size), &posted);
			noise(t, len);
			virtq_start(t->q, &t->view, vq_base(t, vq_pos(t, 5), vq_pos(t, 5)));
			for (unsigned i = 0; i < 3; i++) {
				if (t->view.packed)
					assert_true((t->q->used & 0x7fff) < *size &&
						    (t->q->avail & 0x7fff) < *size);
				noise(t, len);
				vq_give_all(t, chain, vq_take_some(t, chain, VIRTQ_BURST));
				if (t->q->fault)
					break;
			}
		}
		virtq_inflight_put(region);
	}
}

static const struct vq_test tests[] = {
	{"layout", layout, 256, 0, VQ_OVER_FORMAT},
	{"regions", regions, 256, 0, VQ_OVER_FORMAT},
	{"recorded", recorded, 256, 0, VQ_OVER_LAYOUT},
	{"stopped", stopped, 256, 0, VQ_OVER_LAYOUT},
	{"repeated", repeated, 256, 0, VQ_OVER_LAYOUT},
	{"hostile_bytes", hostile_bytes, 256, 0, VQ_OVER_FORMAT},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

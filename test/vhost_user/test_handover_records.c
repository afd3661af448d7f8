/* SPDX-License-Identifier: BSD-3-Clause */
/* Records of any content, and builds with other features. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vd_handover.h"

static int restore(struct vu_device *dev, struct vu_record *copy, char *why, size_t len)
{
	int err = vu_device_restore(dev, copy, why, len);

	vu_record_free(copy);
	return err;
}

/* A record of a device that goes on afterwards, and what its process had before. */
struct hostile {
	struct vu_record rec;
	int fds, maps;
};

static void begin_hostile(struct vd *t, struct hostile *h)
{
	vd_up(t, 1);
	vd_assert_traffic(t, 0, 1);
	vd_freeze(t);
	h->maps = ts_count_maps("memfd:ts-guest");
	h->fds = ts_count_fds(NULL);
	h->rec = vd_record(t);
}

static void end_hostile(struct vd *t, struct hostile *h)
{
	vu_record_free(&h->rec);
	assert_int_equal(ts_count_fds(NULL), h->fds);
	assert_int_equal(ts_count_maps("memfd:ts-guest"), h->maps);
	assert_int_equal(vu_device_resume(t->dev), 0);
	vd_assert_traffic(t, 0, 1);
	vd_ok(t, ts_fe_barrier(&t->fe));
}

/* Also without some of its descriptors, or with one too many. */
static void a_record_cut_short(void **state)
{
	struct vd *t = *state;
	struct vu_record copy;
	struct hostile h;
	struct vu_device *to;
	char why[200];

	begin_hostile(t, &h);
	to = vd_dormant(t);
	for (size_t len = 0; len < h.rec.len; len++) {
		copy = vd_received(&h.rec);
		copy.len = len;
		assert_int_equal(restore(to, &copy, why, sizeof(why)), -EINVAL);
	}
	for (unsigned n = 0; n < h.rec.nfds; n++) {
		copy = vd_received(&h.rec);
		while (copy.nfds > n)
			close(copy.fds[--copy.nfds]);
		assert_int_equal(restore(to, &copy, why, sizeof(why)), -EINVAL);
	}
	copy = vd_received(&h.rec);
	copy.fds[copy.nfds++] = dup(0);
	assert_int_equal(restore(to, &copy, why, sizeof(why)), -EINVAL);
	vu_device_destroy(to);
	end_hostile(t, &h);
}

/* Each number by several others. What is accepted must at least run and end. */
static void a_record_of_other_numbers(void **state)
{
	static const uint64_t odd[] = {0, 1, 2, 255, 65535, 1ull << 31, INT64_MAX, UINT64_MAX};
	struct vd *t = *state;
	struct vu_record copy;
	struct hostile h;
	unsigned accepted = 0;
	char why[200];

	begin_hostile(t, &h);
	for (size_t at = 0; at + 8 <= h.rec.len; at++) {
		struct vu_device *to = vd_dormant(t);

		copy = vd_received(&h.rec);
		memcpy(copy.bytes + at, &odd[at % TS_ARRAY_SIZE(odd)], 8);
		accepted += restore(to, &copy, why, sizeof(why)) == 0;
		vu_device_destroy(to);
	}
	fprintf(stderr, "# %u of %zu were accepted\n", accepted, h.rec.len);
	end_hostile(t, &h);
}

/* Descriptors that are something else. */
static void a_record_of_other_descriptors(void **state)
{
	struct vd *t = *state;
	struct vu_record copy;
	struct hostile h;
	struct vu_device *to;
	char why[200];

	begin_hostile(t, &h);
	to = vd_dormant(t);
	for (unsigned i = 0; i < h.rec.nfds; i++) {
		int pipe_fds[2];

		assert_int_equal(pipe(pipe_fds), 0);
		copy = vd_received(&h.rec);
		dup2(pipe_fds[0], copy.fds[i]);
		assert_int_equal(restore(to, &copy, why, sizeof(why)), -EINVAL);
		close(pipe_fds[0]);
		close(pipe_fds[1]);
	}
	vu_device_destroy(to);
	end_hostile(t, &h);
}

static void a_missing_feature(void **state)
{
	struct vd *t = *state;
	char why[200] = "";

	(void)t;
	assert_int_equal(vu_handover_check(vu_possible_features(), vu_default_protocol_features(),
				 why, sizeof(why)),
		0);
	assert_int_equal(
		vu_handover_check(vu_possible_features() | TS_BIT(VIRTIO_NET_F_RSS),
			vu_default_protocol_features() | TS_BIT(13) | TS_BIT(10), why, sizeof(why)),
		-ENOTSUP);
	assert_non_null(strstr(why, "RSS"));
}

/* What one build offered another one goes on offering. */
static void the_old_offer_is_kept(void **state)
{
	struct vd *t = *state;
	uint64_t less;

	vd_conf(t, 1);
	t->conf.features &= ~TS_BIT(VIRTIO_NET_F_HOST_UFO);
	vd_create(t);
	less = vd_info(t).features_offered;
	t->conf.features |= TS_BIT(VIRTIO_NET_F_HOST_UFO);
	vd_move(t);
	assert_int_equal(vd_info(t).features_offered, less);
	vd_front_end(t, &ts_qemu_10);
	vd_connect(t);
	vd_start(t);
	assert_int_equal(t->fe.offered, less);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(a_record_cut_short),
		VD_BOTH(a_record_of_other_numbers),
		VD_BOTH(a_record_of_other_descriptors),
		VD_BOTH(a_missing_feature),
		VD_BOTH(the_old_offer_is_kept),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

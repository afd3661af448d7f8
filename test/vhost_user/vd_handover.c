/* SPDX-License-Identifier: BSD-3-Clause */
/* Moving a device. */
#include "vd_handover.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void vd_freeze(struct vd *t)
{
	char why[200] = "";

	if (vu_device_freeze(t->dev, why, sizeof(why)) != 0)
		fail_msg("not frozen: %s", why);
}

struct vu_record vd_record(struct vd *t)
{
	struct vu_record rec;
	char why[200] = "";

	if (vu_device_record(t->dev, &rec, why, sizeof(why)) != 0)
		fail_msg("not recorded: %s", why);
	return rec;
}

struct vu_record vd_received(const struct vu_record *rec)
{
	struct vu_record copy = {.bytes = malloc(rec->len),
		.len = rec->len,
		.fds = calloc(rec->nfds + 1, sizeof(int))};

	assert_non_null(copy.bytes);
	assert_non_null(copy.fds);
	memcpy(copy.bytes, rec->bytes, rec->len);
	for (unsigned i = 0; i < rec->nfds; i++)
		copy.fds[copy.nfds++] = dup(rec->fds[i]);
	return copy;
}

struct vu_device *vd_dormant(struct vd *t)
{
	struct vu_device_conf conf = t->conf;
	struct vu_device *dev = NULL;
	char why[200] = "";

	conf.dormant = true;
	if (vu_device_create(t->base, &conf, &dev, why, sizeof(why)) != 0)
		fail_msg("not created: %s", why);
	return dev;
}

void vd_move(struct vd *t)
{
	struct vu_device *to = vd_dormant(t);
	struct vu_record rec, copy;
	char why[200] = "";

	vd_freeze(t);
	rec = vd_record(t);
	copy = vd_received(&rec);
	if (vu_device_restore(to, &copy, why, sizeof(why)) != 0)
		fail_msg("not restored: %s", why);
	vu_record_free(&rec);
	vu_record_free(&copy);
	vd_destroy(t);
	t->dev = to;
	assert_int_equal(vu_device_resume(to), 0);
}

void vd_up(struct vd *t, uint16_t pairs)
{
	vd_listen(t, pairs, &ts_qemu_10);
	vd_start(t);
}

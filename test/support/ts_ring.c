/* SPDX-License-Identifier: BSD-3-Clause */
/* What all ring formats share: choosing one by features, and the two eventfds. */
#include "ts_ring.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

int ts_ring_new(const struct ts_ring_conf *conf, struct ts_ring **out)
{
	*out = NULL;
	if (conf->features & TS_BIT(VIRTIO_F_RING_PACKED))
		return -ENOTSUP;
	return ts_ring_split_ops.create(conf, out);
}

void ts_ring_free(struct ts_ring *r)
{
	if (r)
		r->ops->destroy(r);
}

bool ts_ring_kick(struct ts_ring *r)
{
	const uint64_t one = 1;

	if (!ts_ring_kick_prepare(r))
		return false;
	r->n_kicks++;
	if (r->kick_fd >= 0 && write(r->kick_fd, &one, sizeof(one)) != sizeof(one))
		ts_fault(&r->faults, "kick eventfd cannot be written: errno %d", errno);
	return true;
}

uint64_t ts_ring_calls(struct ts_ring *r)
{
	struct pollfd p = {.fd = r->call_fd, .events = POLLIN};
	uint64_t n;

	if (r->call_fd < 0 || poll(&p, 1, 0) != 1 || !(p.revents & POLLIN))
		return 0;
	return read(r->call_fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

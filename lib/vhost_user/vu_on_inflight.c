/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests about the in-flight region, which outlives us: virtq_inflight.h. */
#include <string.h>

#include <linux/virtio_config.h>

#include "virtq_inflight.h"
#include "vu_message.h"
#include "vu_state.h"

/* What the front-end asks for decides how much memory it gets. */
static int check_rings(struct vu_context *c)
{
	const struct vu_inflight *in = &c->msg->payload.inflight;

	if (in->num_queues == 0 || in->num_queues > c->dev->nrings)
		return vu_refuse(c->dev, VU_TROUBLE_NONE,
			"an in-flight region for %u queues: this port has %u", in->num_queues,
			c->dev->nrings);
	if (in->queue_size == 0 || in->queue_size > VIRTQ_NUM_MAX)
		return vu_refuse(c->dev, VU_TROUBLE_NONE,
			"an in-flight region for rings of %u entries: a ring has 1 to %u",
			in->queue_size, VIRTQ_NUM_MAX);
	return 0;
}

/* The file is the front-end's to keep, and to bring with SET_INFLIGHT_FD: we hold nothing. As long
 * as the format is not known it is made for the larger one. */
int vu_on_get_inflight_fd(struct vu_context *c)
{
	const struct vu_inflight *in = &c->msg->payload.inflight;
	const struct vu_device *dev = c->dev;
	bool packed = !dev->features_set || vu_has_feature(dev, VIRTIO_F_RING_PACKED);
	int err = check_rings(c);

	if (err)
		return err;
	c->reply->inflight = (struct vu_inflight){
		.mmap_size = virtq_inflight_size(in->num_queues, in->queue_size, packed),
		.num_queues = in->num_queues,
		.queue_size = in->queue_size,
	};
	c->reply_fd = virtq_inflight_create(c->reply->inflight.mmap_size);
	if (c->reply_fd < 0)
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "no memory for an in-flight region: %s",
			strerror(-c->reply_fd));
	return 0;
}

/* A running ring has its state in the old one. */
int vu_on_set_inflight_fd(struct vu_context *c)
{
	const struct vu_inflight *in = &c->msg->payload.inflight;
	struct vu_device *dev = c->dev;
	struct virtq_inflight *region, *old = dev->inflight;
	int err = check_rings(c);
	char why[160];

	for (unsigned i = 0; !err && i < dev->nrings; i++)
		if (dev->queue[i].positioned)
			err = vu_refuse(dev, VU_TROUBLE_NONE,
				"SET_INFLIGHT_FD while ring %u is running", i);
	if (err)
		return err;
	if (virtq_inflight_map(c->fds[0], in->mmap_size, in->mmap_offset, in->num_queues,
		    in->queue_size, vu_has_feature(dev, VIRTIO_F_RING_PACKED), &region, why,
		    sizeof(why)) != 0)
		return vu_refuse(dev, VU_TROUBLE_NONE, "the in-flight region is no good: %s", why);
	dev->inflight = region;
	virtq_inflight_put(old);
	return 0;
}

void vu_inflight_stop(struct vu_device *dev, unsigned ring)
{
	bool packed = vu_has_feature(dev, VIRTIO_F_RING_PACKED);

	void *part = virtq_inflight_ring(dev->inflight, ring, dev->queue[ring].num, packed);

	virtq_inflight_stop(part, packed);
	vu_state_stop(dev, ring);
}

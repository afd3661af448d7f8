/* SPDX-License-Identifier: BSD-3-Clause */
/* Forgetting what was said: rings, driver, connection. */
#include <string.h>

#include "virtq_inflight.h"
#include "virtq_log.h"
#include "vu_backend.h"
#include "vu_device.h"
#include "vu_iommu.h"

static void forget_driver(struct vu_device *dev)
{
	for (unsigned i = 0; i < dev->nrings; i++) {
		struct vu_queue *q = &dev->queue[i];

		q->num = q->base = 0;
		q->have_addr = q->bad_addr = q->bad_position = false;
		/* Also of a ring in which an lcore is stuck. */
		q->positioned = false;
		q->fault = VIRTQ_FAULT_NONE;
	}
	dev->features_set = dev->features_refused = false;
	dev->features = 0;
	dev->status = 0;
	virtq_inflight_put(dev->inflight);
	dev->inflight = NULL;
}

static void forget_connection(struct vu_device *dev)
{
	for (unsigned i = 0; i < dev->nrings; i++) {
		struct vu_queue *q = &dev->queue[i];

		vu_kick_set(q, -1);
		vu_close_call_fd(q, &q->call_fd);
		vu_close_fd(&q->err_fd);
		virtq_announce(q->vq, NULL);
	}
	vu_backend_close(dev);
	vu_memory_forget(dev);
	vu_iommu_flush(dev);
	virtq_log_put(dev->log);
	dev->log = NULL;
	vu_close_fd(&dev->log_fd);
	dev->protocol_features = 0;
	dev->mtu = 0;
	memcpy(dev->mac, dev->mac_at_first, sizeof(dev->mac));
}

/** Stop every ring, and forget as much of what was said as is asked for. */
int vu_device_reset(struct vu_device *dev, enum vu_reset what)
{
	int err;

	if (what >= VU_RESET_CONNECTION) /* who sleeps for a page must leave its ring */
		vu_postcopy_end(dev);
	for (unsigned i = 0; i < dev->nrings; i++) {
		/* Without a connection, who comes back may know no more than after a crash. */
		if (what < VU_RESET_CONNECTION && dev->queue[i].positioned)
			vu_inflight_stop(dev, i);
		dev->queue[i].started = false;
		if (what >= VU_RESET_RINGS)
			dev->queue[i].enable = VU_ENABLE_UNSET;
	}
	if (what >= VU_RESET_RINGS)
		dev->odd_enable_seen = false;
	err = vu_reconcile(dev);
	if (what >= VU_RESET_DRIVER)
		forget_driver(dev);
	if (what >= VU_RESET_CONNECTION)
		forget_connection(dev);
	return err;
}

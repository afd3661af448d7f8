/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests about the device as a whole. */
#include <errno.h>
#include <string.h>

#include <linux/virtio_config.h>

#include "vu_backend.h"
#include "vu_message.h"

int vu_on_get_features(struct vu_context *c)
{
	c->reply->u64 = c->dev->offered;
	return 0;
}

/* "Ring states": without the protocol features there is no SET_VRING_ENABLE, all rings are
 * enabled; with them nothing changes here, because SET_VRING_ENABLE may have come first. */
static int judge_features(struct vu_device *dev, uint64_t features)
{
	if (features & ~dev->offered)
		return vu_refuse(dev, VU_TROUBLE_FEATURES,
			"the front-end wants features 0x%llx that are not offered",
			(unsigned long long)(features & ~dev->offered));
	/* But for the log of a migration, which begins and ends while the guest goes on. */
	if (dev->features_set && ((features ^ dev->features) & ~(1ull << VU_F_LOG_ALL)) &&
		vu_any_started(dev))
		return vu_refuse(dev, VU_TROUBLE_FEATURES,
			"the front-end changes features while a ring is running");
	return 0;
}

int vu_on_set_features(struct vu_context *c)
{
	struct vu_device *dev = c->dev;
	uint64_t features = c->msg->payload.u64;

	dev->features_refused = judge_features(dev, features) != 0;
	if (dev->features_refused)
		return -EINVAL;
	dev->features = features;
	dev->features_set = true;
	if (!(features & (1ull << VU_F_PROTOCOL_FEATURES)))
		for (unsigned i = 0; i < dev->nrings; i++)
			dev->queue[i].enable = VU_ENABLE_ON;
	return 0;
}

int vu_on_set_owner(struct vu_context *c)
{
	(void)c;
	return 0;
}

/* Both texts: the one of 2015 ("the front-end will usually close the connection") and
 * today's ("deprecated: ignore, or disable all rings"). Everything else is kept. */
int vu_on_reset_owner(struct vu_context *c)
{
	return vu_device_reset(c->dev, VU_RESET_RINGS);
}

/* What the driver said is forgotten; what the front-end gave (memory, eventfds, the protocol
 * features) is kept: QEMU sends its error eventfds once only. */
int vu_on_reset_device(struct vu_context *c)
{
	return vu_device_reset(c->dev, VU_RESET_DRIVER);
}

int vu_on_get_protocol_features(struct vu_context *c)
{
	c->reply->u64 = c->dev->protocol_offered;
	return 0;
}

int vu_on_set_protocol_features(struct vu_context *c)
{
	uint64_t features = c->msg->payload.u64;

	if (features & ~c->dev->protocol_offered)
		return vu_refuse(c->dev, VU_TROUBLE_FEATURES,
			"the front-end wants protocol features 0x%llx that are not offered",
			(unsigned long long)(features & ~c->dev->protocol_offered));
	c->dev->protocol_features = features;
	return 0;
}

int vu_on_set_backend_req_fd(struct vu_context *c)
{
	int err = vu_backend_open(c->dev, vu_take_fd(c));

	if (err)
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "the back-end channel cannot be used: %s",
			strerror(-err));
	return 0;
}

/* QEMU compares this with its queue pairs. */
int vu_on_get_queue_num(struct vu_context *c)
{
	c->reply->u64 = c->dev->nrings / 2;
	return 0;
}

/* The driver's side of a device. Rings are started by their kicks, not by DRIVER_OK; what counts is
 * that the driver reads back whether its features were accepted, and that it resets with 0. */
int vu_on_set_status(struct vu_context *c)
{
	struct vu_device *dev = c->dev;
	uint64_t status = c->msg->payload.u64;

	if (status > UINT8_MAX)
		return vu_refuse(dev, VU_TROUBLE_NONE, "device status 0x%llx: it has 8 bits",
			(unsigned long long)status);
	if (!dev->features_set || dev->features_refused)
		status &= ~(uint64_t)VIRTIO_CONFIG_S_FEATURES_OK;
	dev->status = (uint8_t)status;
	return status == 0 && vu_any_started(dev) ? vu_device_reset(dev, VU_RESET_STARTED) : 0;
}

int vu_on_get_status(struct vu_context *c)
{
	c->reply->u64 = c->dev->status;
	return 0;
}

#define MTU_MIN 68 /* virtio 1.2, 5.1.4.1 */

int vu_on_net_set_mtu(struct vu_context *c)
{
	struct vu_device *dev = c->dev;
	uint64_t mtu = c->msg->payload.u64;

	if (mtu < MTU_MIN || mtu > UINT16_MAX)
		return vu_refuse(dev, VU_TROUBLE_NONE, "an MTU of %llu: %u to %u are possible",
			(unsigned long long)mtu, MTU_MIN, UINT16_MAX);
	dev->mtu = (uint16_t)mtu;
	if (dev->ops->mtu_changed)
		dev->ops->mtu_changed(dev->arg);
	return 0;
}

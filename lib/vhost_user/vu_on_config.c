/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests about the device's configuration space, for ports that have one. */
#include <string.h>

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>

#include "vu_message.h"

/*
 * Theory of operation
 *
 * The front-end makes the guest's configuration space itself, or (cloud-hypervisor, for instance)
 * asks us for it. Nothing in ours changes by itself: the address and the number of pairs are the
 * port's, the MTU is the front-end's own, and for the guest the link is up as long as we are there.
 * So BACKEND_CONFIG_CHANGE_MSG is never sent.
 */

#define HEAD       offsetof(struct vu_config, space)
#define MTU_ANYHOW 1500

/* What is behind the fields we fill in reads as 0. */
static void fill(const struct vu_device *dev, uint8_t space[VU_CONFIG_MAX])
{
	struct virtio_net_config net = {
		.status = htole16(VIRTIO_NET_S_LINK_UP),
		.max_virtqueue_pairs = htole16(dev->nrings / 2),
		.mtu = htole16(dev->mtu ? dev->mtu : MTU_ANYHOW),
	};

	memcpy(net.mac, dev->mac, sizeof(net.mac));
	memset(space, 0, VU_CONFIG_MAX);
	memcpy(space, &net, sizeof(net));
}

static bool is_inside(const struct vu_context *c)
{
	const struct vu_config *conf = &c->msg->payload.config;

	return conf->size >= 1 && conf->size <= VU_CONFIG_MAX &&
	       conf->offset <= VU_CONFIG_MAX - conf->size &&
	       c->msg->header.size == HEAD + conf->size;
}

/* "The back-end uses zero length of payload to indicate an error": that is an answer too. */
int vu_on_get_config(struct vu_context *c)
{
	const struct vu_config *conf = &c->msg->payload.config;
	uint8_t space[VU_CONFIG_MAX];

	c->reply_size = 0;
	if (!is_inside(c)) {
		vu_refuse(c->dev, VU_TROUBLE_NONE, "GET_CONFIG of %u bytes at %u: the space has %u",
			conf->size, conf->offset, VU_CONFIG_MAX);
		return 0;
	}
	fill(c->dev, space);
	c->reply->config = (struct vu_config){.offset = conf->offset, .size = conf->size};
	memcpy(c->reply->config.space, space + conf->offset, conf->size);
	c->reply_size = (uint32_t)(HEAD + conf->size);
	return 0;
}

/* virtio 1.2, 5.1.4: a driver may write nothing but, if it is older than virtio 1.0, its address. */
int vu_on_set_config(struct vu_context *c)
{
	const struct vu_config *conf = &c->msg->payload.config;
	struct vu_device *dev = c->dev;

	if (!is_inside(c) || conf->offset + conf->size > sizeof(dev->mac) || !dev->features_set ||
		vu_has_feature(dev, VIRTIO_F_VERSION_1))
		return vu_refuse(dev, VU_TROUBLE_NONE,
			"SET_CONFIG of %u bytes at %u: a driver may not write there", conf->size,
			conf->offset);
	memcpy(dev->mac + conf->offset, conf->space, conf->size);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests about a guest that moves to another host, or has just come from one. */
#include <string.h>

#include "virtq_log.h"
#include "vu_message.h"

/*
 * Theory of operation (vhost-user specification, "Migration")
 *
 * A front-end that begins to copy its guest sends SET_LOG_BASE, then SET_FEATURES with
 * VHOST_F_LOG_ALL, then each ring's addresses with VHOST_VRING_F_LOG, all while the rings run; to end
 * it takes both bits back. Each of these only makes new views. What lcores mark is in virtq_log.h.
 *
 * The log may grow while it is used: the views with the old one are taken away before the answer,
 * and with the last of them the old mapping goes.
 */

int vu_on_set_log_base(struct vu_context *c)
{
	const struct vu_log_area *area = &c->msg->payload.log;
	struct virtq_log *log;
	char why[160];

	if (virtq_log_create(c->fds[0], area->size, area->offset, &log, why, sizeof(why)) != 0)
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "the dirty log was refused: %s", why);
	virtq_log_put(c->dev->log);
	c->dev->log = log;
	/* The specification leaves open what is in the answer: QEMU takes anything, rust-vmm wants
	 * its message back. */
	c->reply->log = *area;
	return 0;
}

/* It is signalled now and then while the log is used, see vu_on_tick(): not by lcores, for which it
 * would be a system call more for each burst. */
int vu_on_set_log_fd(struct vu_context *c)
{
	if (!vu_is_eventfd(c->fds[0]))
		return vu_refuse(
			c->dev, VU_TROUBLE_NONE, "the dirty log's descriptor is not an eventfd");
	vu_close_fd(&c->dev->log_fd);
	c->dev->log_fd = vu_take_fd(c);
	return 0;
}

/* The first pair's lcore receives it from the ring, between two bursts of the guest's: whatever it
 * does with packets it does with this one. */
int vu_on_send_rarp(struct vu_context *c)
{
	static const uint8_t none[6];
	uint8_t mac[6];

	memcpy(mac, &c->msg->payload, sizeof(mac));
	if ((mac[0] & 1) || memcmp(mac, none, sizeof(mac)) == 0)
		return vu_refuse(c->dev, VU_TROUBLE_NONE,
			"SEND_RARP for %02x:%02x:%02x:%02x:%02x:%02x, which is no station's "
			"address",
			mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	virtq_announce(c->dev->queue[1].vq, mac);
	vu_bell_ring(&c->dev->queue[1]);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests about one ring. */
#include <fcntl.h>
#include <sys/stat.h>

#include <linux/virtio_config.h>

#include "vu_message.h"

static bool known_split(const struct vu_device *dev)
{
	return dev->features_set && !vu_has_feature(dev, VIRTIO_F_RING_PACKED);
}

int vu_on_set_vring_num(struct vu_context *c)
{
	uint32_t num = c->msg->payload.state.num;

	if (num == 0 || num > VIRTQ_NUM_MAX)
		return vu_refuse(c->dev, VU_TROUBLE_NONE, "ring %u: %u entries: a ring has 1 to %u",
			c->ring, num, VIRTQ_NUM_MAX);
	if (known_split(c->dev) && (num & (num - 1)) != 0)
		return vu_refuse(c->dev, VU_TROUBLE_NONE,
			"ring %u: %u entries: a split ring has a power of two", c->ring, num);
	c->q->num = (uint16_t)num;
	return 0;
}

int vu_on_set_vring_addr(struct vu_context *c)
{
	const struct vu_ring_addr *a = &c->msg->payload.addr;

	if (a->desc % 16 != 0 || a->avail % 2 != 0 || a->used % 4 != 0)
		return vu_refuse(c->dev, VU_TROUBLE_RING_ADDRESSES,
			"ring %u: its addresses are not aligned", c->ring);
	c->q->addr = *a;
	c->q->have_addr = true;
	return 0;
}

int vu_on_set_vring_base(struct vu_context *c)
{
	if (known_split(c->dev) && c->msg->payload.state.num > UINT16_MAX)
		return vu_refuse(c->dev, VU_TROUBLE_NONE,
			"ring %u: base %u is outside a split ring's 0 to 65535", c->ring,
			c->msg->payload.state.num);
	c->q->base = c->msg->payload.state.num;
	return 0;
}

/* Stops this ring and no other; asking again gives the same answer. While an lcore is stuck
 * inside there is no answer: the ring may still move. */
int vu_on_get_vring_base(struct vu_context *c)
{
	bool ran = c->q->positioned;
	int err;

	c->q->started = false;
	err = vu_reconcile_ring(c->dev, c->ring);
	if (err || c->q->positioned)
		return vu_refuse(
			c->dev, VU_TROUBLE_NONE, "ring %u: an lcore does not leave it", c->ring);
	if (ran)
		vu_inflight_stop(c->dev, c->ring);
	vu_kick_set(c->q, -1);
	c->reply->state = (struct vu_ring_state){c->ring, c->q->base};
	return 0;
}

int vu_take_fd(struct vu_context *c)
{
	int fd = c->nfds ? c->fds[0] : -1;

	if (c->nfds)
		c->fds[0] = -1;
	return fd;
}

/* An lcore will write to it or sleep by it: it must be an eventfd (an anonymous inode), not a
 * file on a slow disk, and must not block. */
bool vu_is_eventfd(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == 0 &&
	       fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) == 0;
}

static int take_eventfd(struct vu_context *c, int *fd)
{
	if (c->nfds && !vu_is_eventfd(c->fds[0]))
		return vu_refuse(c->dev, VU_TROUBLE_NONE,
			"ring %u: its descriptor is not an eventfd", c->ring);
	*fd = vu_take_fd(c);
	return 0;
}

/* We poll, so this message is the kick: waiting for a real one would lose receive rings,
 * which a Linux guest kicks once and which nobody kicks after a reconnection. */
int vu_on_set_vring_kick(struct vu_context *c)
{
	int fd = -1, err = take_eventfd(c, &fd);

	if (err)
		return err;
	if (vu_kick_set(c->q, fd) != 0)
		vu_log(c->dev, VU_LOG_WARNING, "ring %u: its kick descriptor cannot be waited for",
			c->ring);
	c->q->started = true;
	return 0;
}

/* The lcore must be off the old descriptor before it is closed. */
int vu_on_set_vring_call(struct vu_context *c)
{
	int old = c->q->call_fd, err;

	err = take_eventfd(c, &c->q->call_fd);
	if (err)
		return err;
	err = vu_reconcile_ring(c->dev, c->ring);
	vu_close_call_fd(c->q, &old);
	return err;
}

int vu_on_set_vring_err(struct vu_context *c)
{
	int old = c->q->err_fd, err;

	err = take_eventfd(c, &c->q->err_fd);
	if (!err)
		vu_close_fd(&old);
	return err;
}

int vu_on_set_vring_enable(struct vu_context *c)
{
	uint32_t num = c->msg->payload.state.num;

	if (num > 1)
		return vu_refuse(
			c->dev, VU_TROUBLE_NONE, "ring %u: enable is 0 or 1, not %u", c->ring, num);
	c->q->enable = num ? VU_ENABLE_ON : VU_ENABLE_OFF;
	if (c->ring & 1)
		c->dev->odd_enable_seen = true;
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Receive interrupts: how an application's lcore sleeps until a guest sends. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_interrupts.h>

#include "sluice_pmd.h"

/*
 * Theory of operation
 *
 * Applications take the descriptors of a port's receive queues once and wait for them for ever
 * (rte_eth_dev_rx_intr_ctl_q()). A guest's kick eventfd comes and goes. So what they get is, per
 * queue, an epoll instance of ours, `wait`, which holds the ring's bell (vu_device_bell()) and an
 * eventfd, `poke`, for what no guest kicks for: packets that were there before the application
 * asked for interrupts, and a ring that became usable.
 */

static int hold(int epoll, int fd)
{
	struct epoll_event readable = {.events = EPOLLIN};

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &readable) < 0 ? -errno : 0;
}

static int queue_init(struct sl_queue *q)
{
	int err;

	if (q->wait >= 0)
		return 0;
	q->bell = sl_device_bell(q->port, q->ring);
	if (q->bell < 0)
		return q->bell;
	q->poke = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	q->wait = epoll_create1(EPOLL_CLOEXEC);
	if (q->poke < 0 || q->wait < 0)
		return -errno;
	err = hold(q->wait, q->bell);
	return err ? err : hold(q->wait, q->poke);
}

static int handle_fill(struct rte_eth_dev *dev, struct rte_intr_handle *handle, uint16_t n)
{
	int err = rte_intr_vec_list_alloc(handle, NULL, n);

	err = err ? err : rte_intr_type_set(handle, RTE_INTR_HANDLE_VDEV);
	err = err ? err : rte_intr_efd_counter_size_set(handle, 0); /* we silence it ourselves */
	err = err ? err : rte_intr_nb_efd_set(handle, n);
	err = err ? err : rte_intr_max_intr_set(handle, n + 1);
	for (uint16_t i = 0; i < n && !err; i++) {
		err = rte_intr_vec_list_index_set(handle, i, RTE_INTR_VEC_RXTX_OFFSET + i);
		err = err ? err
			  : rte_intr_efds_index_set(
				    handle, i, sl_rx_queue(dev->data->dev_private, i)->wait);
	}
	return err;
}

int sl_intr_start(struct rte_eth_dev *dev)
{
	struct sl_port *port = dev->data->dev_private;
	struct rte_intr_handle *handle;
	uint16_t n = dev->data->nb_rx_queues;
	int err = 0;

	sl_intr_stop(dev);
	if (!dev->data->dev_conf.intr_conf.rxq)
		return 0;
	if (n > RTE_MAX_RXTX_INTR_VEC_ID) {
		SL_LOG(ERR, "%s: DPDK has interrupts for %d receive queues at most",
			port->args.iface, RTE_MAX_RXTX_INTR_VEC_ID);
		return -ENOTSUP;
	}
	for (uint16_t i = 0; i < n && !err; i++)
		err = queue_init(sl_rx_queue(port, i));
	handle = err ? NULL : rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);
	if (!err && !handle)
		err = -ENOMEM;
	dev->intr_handle = handle;
	err = err ? err : handle_fill(dev, handle, n);
	if (err)
		sl_intr_stop(dev);
	return err;
}

void sl_intr_stop(struct rte_eth_dev *dev)
{
	if (!dev->intr_handle)
		return;
	rte_intr_vec_list_free(dev->intr_handle);
	rte_intr_instance_free(dev->intr_handle);
	dev->intr_handle = NULL;
}

void sl_intr_close(struct sl_queue *q)
{
	if (q->wait >= 0)
		close(q->wait);
	if (q->poke >= 0)
		close(q->poke);
	q->wait = q->poke = q->bell = -1;
}

void sl_intr_init(struct sl_queue *q)
{
	q->wait = q->poke = q->bell = -1;
}

void sl_intr_poke(const struct sl_queue *q)
{
	static const uint64_t one = 1;

	/* Full is as good as one. */
	if (q->poke >= 0 && write(q->poke, &one, sizeof(one)) < 0)
		return;
}

int sl_rx_intr_enable(struct rte_eth_dev *dev, uint16_t i)
{
	struct sl_queue *q = sl_rx_queue(dev->data->dev_private, i);

	if (q->wait < 0)
		return -ENOTSUP; /* intr_conf.rxq was not set */
	if (!virtq_arm(q->vq))
		sl_intr_poke(q);
	return 0;
}

int sl_rx_intr_disable(struct rte_eth_dev *dev, uint16_t i)
{
	struct sl_queue *q = sl_rx_queue(dev->data->dev_private, i);
	uint64_t count;

	if (q->wait < 0)
		return -ENOTSUP;
	vu_bell_silence(q->bell);
	while (read(q->poke, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	virtq_disarm(q->vq);
	return 0;
}

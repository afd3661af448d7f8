/* SPDX-License-Identifier: BSD-3-Clause */
/* Control by a test: stalling, polling, resetting a device while a program uses it. */
#include <errno.h>

#include <rte_cycles.h>

#include "nicsim_priv.h"

/* Do something with a port's device, which stays meanwhile. -ENODEV if it is none of ours. */
static int with(uint16_t port, int (*action)(struct nicsim *nic, uint32_t value), uint32_t value)
{
	struct nicsim *nic;
	int result = -ENODEV;

	rte_rwlock_read_lock(&nicsims_lock);
	TAILQ_FOREACH (nic, &nicsims, next)
		if (nic->eth && nic->eth->data->port_id == port) {
			result = action(nic, value);
			break;
		}
	rte_rwlock_read_unlock(&nicsims_lock);
	return result;
}

static int stall(struct nicsim *nic, uint32_t on)
{
	nic->stalled = on;
	return 0;
}

static int poll(struct nicsim *nic, uint32_t unused)
{
	(void)unused;
	nicsim_advance(nic);
	return 0;
}

static int delay(struct nicsim *nic, uint32_t us)
{
	nic->delay = us * rte_get_tsc_hz() / US_PER_S;
	return 0;
}

static int reset(struct nicsim *nic, uint32_t unused)
{
	struct rte_eth_dev_data *data = nic->eth->data;

	(void)unused;
	for (uint16_t i = 0; i < data->nb_tx_queues; i++) {
		struct tx_queue *q = data->tx_queues[i];

		if (!q)
			continue;
		rte_spinlock_lock(&q->lock);
		nicsim_tx_drain(q);
		rte_spinlock_unlock(&q->lock);
	}
	return 0;
}

static int held(struct nicsim *nic, uint32_t queue)
{
	struct rte_eth_dev_data *data = nic->eth->data;
	struct tx_queue *q = queue < data->nb_tx_queues ? data->tx_queues[queue] : NULL;
	uint32_t n;

	if (!q)
		return -EINVAL;
	rte_spinlock_lock(&q->lock);
	n = q->head - q->freed;
	rte_spinlock_unlock(&q->lock);
	return (int)n;
}

int nicsim_stall(uint16_t port, bool on)
{
	return with(port, stall, on);
}

int nicsim_poll(uint16_t port)
{
	return with(port, poll, 0);
}

int nicsim_delay(uint16_t port, uint32_t us)
{
	return with(port, delay, us);
}

int nicsim_reset(uint16_t port)
{
	return with(port, reset, 0);
}

int nicsim_tx_held(uint16_t port, uint16_t queue)
{
	return with(port, held, queue);
}

uint64_t nicsim_stat(uint16_t port, const char *name)
{
	uint64_t id, value;

	if (rte_eth_xstats_get_id_by_name(port, name, &id) != 0 ||
		rte_eth_xstats_get_by_id(port, &id, &value, 1) != 1)
		return UINT64_MAX;
	return value;
}

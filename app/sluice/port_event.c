/* SPDX-License-Identifier: BSD-3-Clause */
/* Device ports: what a device says by itself. */
#include <string.h>

#include <rte_ethdev.h>

#include "plan.h"
#include "port.h"
#include "sluice.h"

/*
 * Theory of operation
 *
 * A device may ask for a reset (a virtual function does when its physical one was reset), be taken out of the machine,
 * or mend itself, in which time it must be asked nothing. It says so on DPDK's interrupt thread, which only takes
 * note; the control thread looks at its tick.
 *
 * A reset frees the queues, so first a plan without them is in force. What the device held, lent packets among it, comes
 * home as it is stopped. Then it is made as it was when it was added, and if that fails, again later.
 */

#define SAYS_RESET   1u
#define SAYS_GONE    2u
#define SAYS_MENDING 4u

/* Seconds between attempts. */
#define RETRY_S 10

/* By ethdev. */
static uint32_t says[RTE_MAX_ETHPORTS];

/* DPDK's interrupt thread. */
static int hear(uint16_t eth, enum rte_eth_event_type event, void *arg, void *ret)
{
	switch (event) {
	case RTE_ETH_EVENT_INTR_RESET:
		__atomic_fetch_or(&says[eth], SAYS_RESET, __ATOMIC_RELAXED);
		break;
	case RTE_ETH_EVENT_INTR_RMV:
		__atomic_fetch_or(&says[eth], SAYS_GONE, __ATOMIC_RELAXED);
		break;
	case RTE_ETH_EVENT_ERR_RECOVERING:
		__atomic_fetch_or(&says[eth], SAYS_MENDING, __ATOMIC_RELAXED);
		break;
	case RTE_ETH_EVENT_RECOVERY_FAILED:
		__atomic_fetch_or(&says[eth], SAYS_RESET, __ATOMIC_RELAXED);
		__atomic_fetch_and(&says[eth], ~SAYS_MENDING, __ATOMIC_RELAXED);
		break;
	case RTE_ETH_EVENT_RECOVERY_SUCCESS:
		__atomic_fetch_and(&says[eth], ~SAYS_MENDING, __ATOMIC_RELAXED);
		break;
	default:
		break;
	}
	return 0;
}

/* DPDK remembers who listens for as long as the process lives, however often it is told. */
int port_dev_listen(uint16_t eth)
{
	static const enum rte_eth_event_type events[] = {RTE_ETH_EVENT_INTR_RESET,
		RTE_ETH_EVENT_INTR_RMV, RTE_ETH_EVENT_ERR_RECOVERING, RTE_ETH_EVENT_RECOVERY_FAILED,
		RTE_ETH_EVENT_RECOVERY_SUCCESS};
	int err = 0;

	virtq_store(&says[eth], 0);
	for (unsigned i = 0; i < RTE_DIM(events) && err == 0; i++)
		err = rte_eth_dev_callback_register(eth, events[i], hear, NULL);
	return err;
}

bool port_dev_mute(const struct port *port)
{
	return virtq_load(&says[port->dev.eth]) != 0;
}

const char *port_dev_trouble(const struct port *port)
{
	uint32_t said = virtq_load(&says[port->dev.eth]);

	return said & SAYS_GONE      ? "the device has been taken out: delete the port"
	       : port->dev.retry     ? "the device asks for a reset, which has not worked yet"
	       : said & SAYS_RESET   ? "the device asks for a reset"
	       : said & SAYS_MENDING ? "the device recovers from an error"
				     : NULL;
}

/* No plan from the next one on has its queues. */
static void leave_out(struct port *port, const char *why)
{
	if (port->dev.left_out)
		return;
	port->dev.left_out = true;
	SL_LOG(WARNING, "port %s: %s", port->name, why);
	for (unsigned i = 0; i < port->n_rxq; i++)
		port->rxq[i].usable = false;
	for (unsigned i = 0; i < port->n_txq; i++)
		port->txq[i].usable = false;
	port_set_up(port, false);
	plan_dirty(port->sl);
}

/* It may count from 0 again, or go on. */
static void carry(struct port_dev *dev, const struct port_dev_stats *before)
{
	uint64_t *sum = (uint64_t *)&dev->carried;

	for (size_t i = 0; i < sizeof(dev->carried) / sizeof(*sum); i++)
		sum[i] += ((const uint64_t *)before)[i] - ((const uint64_t *)&dev->seen)[i];
}

/* As it was, with what commands have set since. */
static int begin_anew(struct port *port)
{
	struct port_dev_stats before;
	uint16_t eth = port->dev.eth;
	int err;

	rte_eth_dev_stop(eth);
	port_dev_count(port);
	before = port->dev.seen;
	err = rte_eth_dev_reset(eth);
	if (err == 0)
		err = port_dev_start(port);
	port_dev_count(port);
	carry(&port->dev, &before);
	if (err < 0)
		return err;
	if (port->dev.picky)
		rte_eth_promiscuous_disable(eth);
	if (port->dev.link_off)
		rte_eth_dev_set_link_down(eth);
	return 0;
}

static void reset(struct port *port)
{
	struct port_dev *dev = &port->dev;
	int err;

	leave_out(port, "the device asks for a reset, and gets one");
	if (port->sl->now < dev->retry || plan_update(port->sl) < 0 || !plan_settled(port->sl))
		return;
	__atomic_fetch_and(&says[dev->eth], ~SAYS_RESET, __ATOMIC_RELAXED);
	err = begin_anew(port);
	if (err < 0) {
		__atomic_fetch_or(&says[dev->eth], SAYS_RESET, __ATOMIC_RELAXED);
		dev->retry = port->sl->now + RETRY_S;
		SL_LOG(ERR, "port %s: the reset failed: %s; the next attempt is in %u s",
			port->name, strerror(-err), RETRY_S);
		return;
	}
	dev->left_out = false;
	dev->retry = 0;
	dev->resets++;
	SL_LOG(NOTICE, "port %s: the device has been reset", port->name);
	plan_dirty(port->sl);
}

void port_dev_hear(struct port *port)
{
	uint32_t said = virtq_load(&says[port->dev.eth]);

	if (said & SAYS_GONE)
		leave_out(port, "the device has been taken out: delete the port");
	else if (said & SAYS_RESET)
		reset(port);
}

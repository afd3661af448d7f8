/* SPDX-License-Identifier: BSD-3-Clause */
/* Device ports: what a device says by itself. */
#include <errno.h>
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
 * Whichever it is, first a plan without the device is in force: a reset frees its queues. What it held, lent packets
 * among it, comes home when it is stopped. After a reset it is made as it was, and if that fails, again later; one that
 * has mended itself is taken back; one that is gone, or cannot be reset, waits for its port to be deleted.
 */

#define SAYS_RESET   1u
#define SAYS_GONE    2u
#define SAYS_MENDING 4u
#define SAYS_BROKEN  8u /* it could not mend itself, or its driver has no reset */

/* Seconds between attempts. */
#define RETRY_S 10

/* By ethdev. */
static uint32_t says[RTE_MAX_ETHPORTS];

static void note(uint16_t eth, uint32_t is, uint32_t is_not)
{
	__atomic_fetch_or(&says[eth], is, __ATOMIC_RELAXED);
	__atomic_fetch_and(&says[eth], ~is_not, __ATOMIC_RELAXED);
}

/* DPDK's interrupt thread. */
static int hear(uint16_t eth, enum rte_eth_event_type event, void *arg, void *ret)
{
	switch (event) {
	case RTE_ETH_EVENT_INTR_RESET:
		note(eth, SAYS_RESET, 0);
		break;
	case RTE_ETH_EVENT_INTR_RMV:
		note(eth, SAYS_GONE, 0);
		break;
	case RTE_ETH_EVENT_ERR_RECOVERING:
		note(eth, SAYS_MENDING, 0);
		break;
	case RTE_ETH_EVENT_RECOVERY_SUCCESS:
		note(eth, 0, SAYS_MENDING);
		break;
	case RTE_ETH_EVENT_RECOVERY_FAILED:
		note(eth, SAYS_BROKEN, SAYS_MENDING);
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
	       : said & SAYS_BROKEN  ? "the device is broken: delete the port and add it again"
	       : said & SAYS_MENDING ? "the device recovers from an error"
	       : port->dev.retry     ? "the device asks for a reset, which has not worked yet"
	       : said & SAYS_RESET   ? "the device asks for a reset"
				     : NULL;
}

static void use(struct port *port, bool it)
{
	port->dev.left_out = !it;
	for (unsigned i = 0; i < port->n_rxq; i++)
		port->rxq[i].usable = it;
	for (unsigned i = 0; i < port->n_txq; i++)
		port->txq[i].usable = it;
}

/* Whether no worker can be at its queues any more. The first time it makes a plan without them, which may take. */
static bool is_out(struct port *port)
{
	struct sluice *sl = port->sl;

	if (!port->dev.left_out) {
		SL_LOG(WARNING, "port %s: %s", port->name, port_dev_trouble(port));
		use(port, false);
		port_set_up(port, false);
		if (plan_update(sl) < 0)
			plan_dirty(sl);
	}
	return !sl->plan_is_dirty && plan_settled(sl);
}

static void take_back(struct port *port, const char *what)
{
	use(port, true);
	port->dev.retry = 0;
	SL_LOG(NOTICE, "port %s: the device %s", port->name, what);
	plan_dirty(port->sl);
}

/* As it was, with what commands have set since. Whether its interrupts work is to be tried anew. */
static int begin_anew(struct port *port)
{
	uint16_t eth = port->dev.eth;
	int err;

	port_dev_count(port);
	err = rte_eth_dev_reset(eth); /* stops it */
	if (err < 0)
		return err;
	for (unsigned i = 0; i < port->n_rxq; i++) {
		port->rxq[i].interrupts = false;
		virtq_store(&port->rxq[i].missed, 0);
	}
	err = port_dev_start(port);
	if (err < 0)
		return err;
	port_dev_count(port);
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

	if (port->sl->now < dev->retry)
		return;
	note(dev->eth, 0, SAYS_RESET);
	err = begin_anew(port);
	if (err == 0) {
		dev->resets++;
		take_back(port, "has been reset");
		return;
	}
	if (err == -ENOTSUP) {
		note(dev->eth, SAYS_BROKEN, 0);
		SL_LOG(ERR, "port %s: %s", port->name, port_dev_trouble(port));
		return;
	}
	note(dev->eth, SAYS_RESET, 0);
	use(port, false);
	dev->retry = port->sl->now + RETRY_S;
	SL_LOG(ERR, "port %s: the reset failed: %s; the next attempt is in %u s", port->name,
		strerror(-err), RETRY_S);
}

void port_dev_hear(struct port *port)
{
	struct port_dev *dev = &port->dev;
	uint32_t said = virtq_load(&says[dev->eth]);

	if (said == 0) {
		if (dev->left_out)
			take_back(port, "has recovered");
		return;
	}
	if (!is_out(port))
		return;
	if ((said & (SAYS_GONE | SAYS_BROKEN)) && !dev->stopped) {
		rte_eth_dev_stop(dev->eth);
		dev->stopped = true;
	} else if (said == SAYS_RESET) {
		reset(port);
	}
}

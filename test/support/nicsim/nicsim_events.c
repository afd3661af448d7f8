/* SPDX-License-Identifier: BSD-3-Clause */
/* What a device tells its application: the cable, and that it needs a reset. */
#include <errno.h>

#include <rte_alarm.h>

#include "nicsim_priv.h"

/* As with a NIC, callbacks run on the interrupt thread. After one the device may be gone. */
static void tell(const struct nicsim *nic, enum rte_eth_event_type event)
{
	struct rte_eth_dev *eth;

	rte_rwlock_read_lock(&nicsims_lock);
	eth = nic->eth;
	rte_rwlock_read_unlock(&nicsims_lock);
	if (eth)
		rte_eth_dev_callback_process(eth, event, NULL);
}

static void tell_link(void *nic)
{
	tell(nic, RTE_ETH_EVENT_INTR_LSC);
}

static void tell_reset(void *nic)
{
	tell(nic, RTE_ETH_EVENT_INTR_RESET);
}

static void tell_gone(void *nic)
{
	tell(nic, RTE_ETH_EVENT_INTR_RMV);
}

static void soon(struct nicsim *nic, rte_eal_alarm_callback callback)
{
	if (rte_eal_alarm_set(1, callback, nic) < 0)
		NICSIM_LOG(ERR, "%s: nobody hears of an event: no alarm", nic->name);
}

void nicsim_set_link(struct nicsim *nic, bool up)
{
	struct rte_eth_link link = nic->eth->data->dev_link;

	if (up)
		__atomic_and_fetch(&nic->stuck, ~(uint32_t)NICSIM_NO_LINK, __ATOMIC_RELAXED);
	else
		__atomic_or_fetch(&nic->stuck, NICSIM_NO_LINK, __ATOMIC_RELAXED);
	link.link_status = up ? RTE_ETH_LINK_UP : RTE_ETH_LINK_DOWN;
	if (rte_eth_linkstatus_set(nic->eth, &link) == 0 && nic->eth->data->dev_conf.intr_conf.lsc)
		soon(nic, tell_link);
}

void nicsim_set_failed(struct nicsim *nic, uint32_t resets)
{
	nic->resets = resets;
	__atomic_or_fetch(&nic->stuck, NICSIM_FAILED, __ATOMIC_RELAXED);
	soon(nic, tell_reset);
}

void nicsim_set_gone(struct nicsim *nic)
{
	__atomic_or_fetch(&nic->stuck, NICSIM_FAILED, __ATOMIC_RELAXED);
	soon(nic, tell_gone);
}

void nicsim_events_cancel(struct nicsim *nic)
{
	rte_eal_alarm_cancel(tell_link, nic);
	rte_eal_alarm_cancel(tell_reset, nic);
	rte_eal_alarm_cancel(tell_gone, nic);
}

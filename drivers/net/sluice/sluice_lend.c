/* SPDX-License-Identifier: BSD-3-Clause */
/* zero-copy=1: lending guests' buffers to whatever devices the application has. */
#include <pthread.h>

#include <rte_alarm.h>

#include "sluice_pmd.h"
#include "vnet_dma.h"

/*
 * Theory of operation
 *
 * An application may send what it has received to any of its devices, and we do not see which. So a
 * queue lends only if all of them reach the guest's memory: those that are there when it starts are
 * added to the registry (vnet_dma.h). When one comes later, everything is copied at once, until it can
 * be added: while DPDK tells of it, it is no whole device yet. If there is one that does not reach
 * the memory, everything is copied.
 *
 * Devices come on the application's threads, rings start on the control thread. Who tells all ports
 * of a new device waits for the control thread meanwhile, and holds the lock of the list of ports,
 * which that thread never takes; it takes the one of the list of devices.
 */

/* All queues of a port together; a guest's ring is seldom longer than 1024, and half of it is lent. */
#define LENT_MAX   512
#define LENT_TOTAL 4096
#define LENT_MIN   64

/* Until a device that we were told of is looked at. */
#define NEW_US 1000

static struct {
	pthread_mutex_t lock;
	struct rte_device
		*dev[RTE_MAX_ETHPORTS]; /* what was added; NULL: none, or it needs nothing */
	bool known[RTE_MAX_ETHPORTS];
	bool unable[RTE_MAX_ETHPORTS]; /* must be given copies */
	bool coming[RTE_MAX_ETHPORTS]; /* we were told of it, it is not there yet */
} lending = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct sl_port *ports; /* with zero-copy=1 */
static pthread_mutex_t ports_lock = PTHREAD_MUTEX_INITIALIZER;

static void add(uint16_t id)
{
	struct rte_eth_dev_info info;
	char why[160];
	enum vnet_reach reach;

	if (lending.known[id] || rte_eth_dev_info_get(id, &info) != 0)
		return;
	reach = vnet_dma_add(info.device, why, sizeof(why));
	lending.known[id] = true;
	lending.dev[id] = reach == VNET_REACH_MAPPED ? info.device : NULL;
	lending.unable[id] = reach == VNET_REACH_NONE;
	if (reach == VNET_REACH_NONE)
		SL_LOG(WARNING, "zero-copy=1 is of no use while there is port %u: %s", id, why);
}

static void forget(uint16_t id)
{
	if (lending.dev[id])
		vnet_dma_remove(lending.dev[id]);
	lending.dev[id] = NULL;
	lending.known[id] = lending.unable[id] = false;
}

/* Ports look at their rings again, and at all devices. */
static void look_again(void)
{
	pthread_mutex_lock(&ports_lock);
	for (struct sl_port *port = ports; port; port = port->next_lending)
		sl_control_call(sl_device_reconcile, port);
	pthread_mutex_unlock(&ports_lock);
}

static void on_alarm(void *arg)
{
	uint16_t id = (uint16_t)(uintptr_t)arg;

	if (!rte_eth_dev_is_valid_port(id) && rte_eal_alarm_set(NEW_US, on_alarm, arg) == 0)
		return;
	pthread_mutex_lock(&lending.lock);
	lending.coming[id] = false;
	pthread_mutex_unlock(&lending.lock);
	look_again();
}

static int on_new(uint16_t id, enum rte_eth_event_type event, void *arg, void *ret)
{
	(void)event, (void)arg, (void)ret;
	pthread_mutex_lock(&lending.lock);
	lending.coming[id] = rte_eal_alarm_set(NEW_US, on_alarm, (void *)(uintptr_t)id) == 0;
	pthread_mutex_unlock(&lending.lock);
	look_again();
	return 0;
}

static int on_destroy(uint16_t id, enum rte_eth_event_type event, void *arg, void *ret)
{
	(void)event, (void)arg, (void)ret;
	pthread_mutex_lock(&lending.lock);
	forget(id);
	pthread_mutex_unlock(&lending.lock);
	return 0;
}

void sl_lend_enter(struct sl_port *port)
{
	static bool watching;

	if (!port->args.zero_copy)
		return;
	pthread_mutex_lock(&ports_lock);
	port->next_lending = ports;
	ports = port;
	if (!watching) { /* once for the process; ports of ours come and go */
		rte_eth_dev_callback_register(RTE_ETH_ALL, RTE_ETH_EVENT_NEW, on_new, NULL);
		rte_eth_dev_callback_register(RTE_ETH_ALL, RTE_ETH_EVENT_DESTROY, on_destroy, NULL);
	}
	watching = true;
	pthread_mutex_unlock(&ports_lock);
}

void sl_lend_leave(struct sl_port *port)
{
	pthread_mutex_lock(&ports_lock);
	for (struct sl_port **at = &ports; *at; at = &(*at)->next_lending) {
		if (*at == port) {
			*at = port->next_lending;
			break;
		}
	}
	pthread_mutex_unlock(&ports_lock);
}

/* Does every device reach this memory? */
static bool all_reach(const struct virtq_mem *mem, const char **why)
{
	bool able = true;

	pthread_mutex_lock(&lending.lock);
	for (uint16_t id = 0; id < RTE_MAX_ETHPORTS; id++) {
		if (!lending.coming[id] && rte_eth_dev_is_valid_port(id))
			add(id);
		able &= !lending.coming[id] && !lending.unable[id];
	}
	pthread_mutex_unlock(&lending.lock);
	*why = "a device must be given copies";
	return able && vnet_dma_map(mem, why);
}

void sl_lend_prepare(struct sl_port *port, struct sl_queue *q, struct virtq_view *view)
{
	uint16_t packets = RTE_MIN(LENT_MAX, RTE_MAX(LENT_TOTAL / port->args.queues, LENT_MIN));
	const char *why = "short of memory";
	bool able;

	if (!q->lender)
		q->lender = vnet_lender_create(packets, port->eth->data->numa_node);
	able = q->lender && all_reach(view->mem, &why);
	if (q->lender)
		vnet_lend(view, q->lender, able ? VNET_LEND_ALL : VNET_LEND_NONE);
	if (!able && !port->copies_mentioned)
		SL_LOG(WARNING, "%s: packets are copied in spite of zero-copy=1: %s",
			port->args.iface, why);
	port->copies_mentioned |= !able;
}

void sl_lend_close(struct sl_port *port)
{
	for (unsigned int i = 0; i < 2u * port->args.queues; i++) {
		vnet_lender_release(port->queue[i].lender);
		port->queue[i].lender = NULL;
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* On which NUMA node a guest's memory lies, and whether those who poll its rings are near. */
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "port.h"
#include "sluice.h"

/*
 * The first page of the guest's first region stands for all. When a memory table is new, that page is brought in, if need be,
 * to learn where it lies; but not where a guest arrives by post-copy migration, for then whoever asks for a page waits until
 * the front-end sends it. Afterwards each second only looks where it has come to lie: numactl, libvirt or the kernel's own
 * balancing may move it. Nothing of ours moves along; queues that are new, or dealt again, go to workers that are near.
 */

/* Where the page lies, without touching it; negative if it is not here. */
static int look(void *page)
{
	int node = -1;

	return syscall(SYS_move_pages, 0, 1ul, &page, NULL, &node, 0) < 0 ? -1 : node;
}

static int ask(void *page)
{
	int node = -1;

	if (syscall(SYS_get_mempolicy, &node, NULL, 0ul, page, MPOL_F_NODE | MPOL_F_ADDR) < 0)
		return -1;
	return node;
}

static void *page_of(const struct virtq_mem *mem)
{
	struct virtq_region_info region;

	if (!mem || !virtq_mem_region(mem, 0, &region))
		return NULL;
	return (void *)((uintptr_t)region.hva & ~(uintptr_t)4095);
}

int port_vm_node(struct port *port, const struct virtq_mem *mem)
{
	void *page;

	if (mem == port->vm.node_mem && mem)
		return port->vm.mem_node;
	page = page_of(mem);
	port->vm.node_mem = mem;
	port->vm.mem_node = page ? look(page) : -1;
	if (page && port->vm.mem_node < 0 && !port->vm.options.postcopy)
		port->vm.mem_node = ask(page);
	return port->vm.mem_node;
}

/* A worker of another node that polls one of its queues, or NULL. */
static const struct worker *far_worker(const struct port *port)
{
	for (unsigned i = 0; i < port->n_rxq; i++) {
		const struct port_rxq *q = &port->rxq[i];

		if (q->usable && q->worker >= 0 && port->sl->workers[q->worker]->node != port->node)
			return port->sl->workers[q->worker];
	}
	return NULL;
}

static void warn(struct port *port)
{
	const struct worker *w = port->node >= 0 ? far_worker(port) : NULL;

	if (!w) {
		port->vm.told_node = -1;
		return;
	}
	if (port->vm.told_node == port->node)
		return;
	port->vm.told_node = port->node;
	SL_LOG(WARNING,
		"port %s: its guest's memory lies on NUMA node %d, and lcore %u, which polls it, "
		"is of node %d: each packet crosses between them; start with an lcore of node %d "
		"(-l), or keep the guest on node %d",
		port->name, port->node, w->lcore, w->node, port->node, w->node);
}

void port_vm_node_tick(struct port *port)
{
	const struct virtq_mem *mem = vu_device_memory(port->vm.dev);
	void *page = mem && mem == port->vm.node_mem ? page_of(mem) : NULL;
	int node = page ? look(page) : -1;

	if (node >= 0 && node != port->node) {
		port->node = port->vm.mem_node = node;
		plan_dirty(port->sl);
	}
	warn(port);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Which devices can send packets over a guest's memory, and giving them a way to it. */
#ifndef VNET_DMA_H
#define VNET_DMA_H

#include <stdbool.h>
#include <stddef.h>

#include <rte_dev.h>

#include "virtq_mem.h"

/*
 * Theory of operation
 *
 * A lent packet (vnet.h) can go as it is to a device whose driver copies it by CPU. A device that
 * reads it by itself needs the guest's memory in its IOMMU, at our addresses: there is no
 * translation per packet. So every region of every table that is lent from is mapped for every such
 * device, when the first of the two is there and the other comes, and unmapped before the region
 * goes. What could not be mapped is copied for those devices.
 *
 * Devices behind VFIO share one container: a region is mapped there once for all of them. Mapping
 * pins the memory and brings in every page of it, so for them only regions of huge pages are
 * mapped: those are the guest's for good, while a guest in small pages may have been given more than
 * there is.
 *
 * All functions: one thread at a time; the process has one registry.
 */

enum vnet_reach {
	VNET_REACH_NONE,   /* must be given copies */
	VNET_REACH_MAPPED, /* reads what is mapped for it */
	VNET_REACH_ALL,    /* its driver reads by CPU */
};

/**
 * A device that packets will be sent to. Maps for it what is known; call vnet_dma_map() again for
 * tables that were mapped before.
 *
 * @param why	with VNET_REACH_NONE one line saying why
 * @return what it can do; VNET_REACH_MAPPED: call vnet_dma_remove() before it goes
 */
enum vnet_reach vnet_dma_add(struct rte_device *dev, char *why, size_t why_len);

/** It has stopped and holds no packet. */
void vnet_dma_remove(struct rte_device *dev);

/**
 * Have all of a table mapped for all devices that were added.
 *
 * @param why	NULL, or if it is not, becomes a static text saying why
 * @return whether it is; without such devices it always is
 */
bool vnet_dma_map(const struct virtq_mem *mem, const char **why);

#endif

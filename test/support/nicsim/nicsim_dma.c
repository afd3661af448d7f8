/* SPDX-License-Identifier: BSD-3-Clause */
/* What the device can reach: EAL's memory, and what rte_dev_dma_map() was called for. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/uio.h>

#include <rte_errno.h>
#include <rte_memory.h>

#include "nicsim_priv.h"

/*
 * Theory of operation
 *
 * This is the IOMMU. A descriptor has an IOVA; it must lead to the memory its mbuf points to, in
 * ranges that are mapped now. EAL maps its own memory for every device, also heaps of external
 * memory, but not what is only registered (rte_extmem_register). The lock is held while the device
 * reads or writes, so that after unmapping nothing of the range is touched any more.
 *
 * Memory that is not EAL's may be gone when its file was truncated. A NIC would read its pages,
 * which are pinned; nicsim has the kernel copy, which then fails instead of raising SIGBUS.
 */

/* ---- the table ---- */

static struct mapping *lookup(const struct dma *dma, uint64_t iova)
{
	for (uint32_t i = 0; i < dma->n; i++)
		if (iova - dma->map[i].iova < dma->map[i].len)
			return &dma->map[i];
	return NULL;
}

static bool overlaps(const struct dma *dma, uint64_t iova, uint64_t len)
{
	for (uint32_t i = 0; i < dma->n; i++)
		if (iova - dma->map[i].iova < dma->map[i].len || dma->map[i].iova - iova < len)
			return true;
	return false;
}

static int insert(struct nicsim *nic, uint8_t *va, uint64_t iova, uint64_t len)
{
	struct dma *dma = &nic->dma;

	if (nic->conf.nodma)
		return -ENOTSUP;
	if (iova + len < iova || (uintptr_t)va + len < (uintptr_t)va)
		return -EINVAL;
	if (nic->conf.maxdma && dma->n >= nic->conf.maxdma)
		return -ENOSPC;
	if (overlaps(dma, iova, len))
		return -EEXIST;
	if (dma->n == dma->room) {
		uint32_t more = dma->room ? 2 * dma->room : 16;
		struct mapping *map = realloc(dma->map, more * sizeof(*map));

		if (!map)
			return -ENOMEM;
		dma->map = map;
		dma->room = more;
	}
	dma->map[dma->n++] = (struct mapping){.va = va, .iova = iova, .len = len};
	return 0;
}

/* As rte_dev_dma_map() wants it. */
static int result_of(int err)
{
	if (err)
		rte_errno = -err;
	return err;
}

int nicsim_dma_map(struct rte_vdev_device *dev, void *va, uint64_t iova, size_t len)
{
	struct nicsim *nic;
	int err = -ENODEV;

	rte_rwlock_read_lock(&nicsims_lock);
	nic = nicsim_find(rte_vdev_device_name(dev));
	if (nic) {
		rte_rwlock_write_lock(&nic->dma.lock);
		err = insert(nic, va, iova, len);
		nic->dma.count[err ? DMA_REFUSED : DMA_MAPS]++;
		rte_rwlock_write_unlock(&nic->dma.lock);
	}
	rte_rwlock_read_unlock(&nicsims_lock);
	return result_of(err);
}

static bool uses_tx(struct tx_queue *q, const uint8_t *va, uint64_t len)
{
	bool uses = false;

	rte_spinlock_lock(&q->lock);
	for (uint64_t p = q->freed; p != q->head && !uses; p++)
		uses = (uint64_t)((const uint8_t *)q->ring[p % q->size].va - va) < len;
	rte_spinlock_unlock(&q->lock);
	return uses;
}

static bool uses_rx(struct rx_queue *q, const uint8_t *va, uint64_t len)
{
	bool uses = false;

	rte_spinlock_lock(&q->lock);
	for (uint64_t p = q->head; p != q->posted && !uses; p++)
		uses = (uint64_t)((const uint8_t *)q->ring[p % q->size].va - va) < len;
	rte_spinlock_unlock(&q->lock);
	return uses;
}

/* A held mbuf or a receive buffer lies in the range. */
static bool busy(struct nicsim *nic, const uint8_t *va, uint64_t len)
{
	for (uint16_t i = 0; i < NICSIM_QUEUES_MAX; i++)
		if ((nic->tx[i] && uses_tx(nic->tx[i], va, len)) ||
			(nic->rx[i] && uses_rx(nic->rx[i], va, len)))
			return true;
	return false;
}

static int take_out(struct dma *dma, const uint8_t *va, uint64_t iova, uint64_t len)
{
	struct mapping *m = lookup(dma, iova);

	if (!m || m->iova != iova || m->va != va || m->len != len)
		return -ENOENT;
	*m = dma->map[--dma->n];
	return 0;
}

int nicsim_dma_unmap(struct rte_vdev_device *dev, void *va, uint64_t iova, size_t len)
{
	struct nicsim *nic;
	int err = -ENODEV;

	rte_rwlock_read_lock(&nicsims_lock);
	nic = nicsim_find(rte_vdev_device_name(dev));
	if (nic) {
		bool early = busy(nic, va, len);

		rte_rwlock_write_lock(&nic->dma.lock);
		err = take_out(&nic->dma, va, iova, len);
		nic->dma.count[err ? DMA_REFUSED : DMA_UNMAPS]++;
		nic->dma.count[DMA_UNMAP_BUSY] += !err && early;
		rte_rwlock_write_unlock(&nic->dma.lock);
	}
	rte_rwlock_read_unlock(&nicsims_lock);
	return result_of(err);
}

/* ---- the device's accesses ---- */

static enum dma_result in_eal(const uint8_t *va, uint64_t iova, uint64_t len)
{
	const struct rte_memseg_list *list = rte_mem_virt2memseg_list(va);

	if (!list || (list->external && !list->heap) ||
		(uint64_t)(va - (const uint8_t *)list->base_va) > list->len - len)
		return DMA_FAULT;
	while (len) {
		const struct rte_memseg *page = rte_mem_virt2memseg(va, list);
		uint64_t in_page, n;

		if (!page || !page->addr)
			return DMA_FAULT;
		in_page = (uint64_t)(va - (const uint8_t *)page->addr);
		if (page->iova != RTE_BAD_IOVA && page->iova + in_page != iova)
			return DMA_WRONG_IOVA;
		n = RTE_MIN(len, page->len - in_page);
		va += n;
		iova += n;
		len -= n;
	}
	return DMA_OK;
}

static enum dma_result reach(const struct dma *dma, const uint8_t *va, uint64_t iova, uint64_t len)
{
	const struct mapping *m;

	while (len && (m = lookup(dma, iova)) != NULL) {
		uint64_t in = iova - m->iova, n = RTE_MIN(len, m->len - in);

		if (m->va + in != va)
			return DMA_WRONG_IOVA;
		va += n;
		iova += n;
		len -= n;
	}
	return len ? in_eal(va, iova, len) : DMA_OK;
}

static bool copy(void *to, const void *from, const void *foreign, uint32_t len)
{
	const struct rte_memseg_list *list = rte_mem_virt2memseg_list(foreign);
	const struct iovec into = {to, len}, out_of = {(void *)(uintptr_t)from, len};

	if (!list || list->external)
		return process_vm_readv(getpid(), &into, 1, &out_of, 1, 0) == (ssize_t)len;
	memcpy(to, from, len);
	return true;
}

bool nicsim_peek(void *to, const void *va, uint32_t len)
{
	return copy(to, va, va, len);
}

enum dma_result nicsim_dma_read(
	struct nicsim *nic, void *to, const void *va, uint64_t iova, uint32_t len)
{
	enum dma_result result;

	rte_rwlock_read_lock(&nic->dma.lock);
	result = reach(&nic->dma, va, iova, len);
	if (result == DMA_OK && !copy(to, va, va, len))
		result = DMA_GONE;
	rte_rwlock_read_unlock(&nic->dma.lock);
	return result;
}

enum dma_result nicsim_dma_write(
	struct nicsim *nic, void *va, uint64_t iova, const void *from, uint32_t len)
{
	enum dma_result result;

	rte_rwlock_read_lock(&nic->dma.lock);
	result = reach(&nic->dma, va, iova, len);
	if (result == DMA_OK && !copy(va, from, va, len))
		result = DMA_GONE;
	rte_rwlock_read_unlock(&nic->dma.lock);
	return result;
}

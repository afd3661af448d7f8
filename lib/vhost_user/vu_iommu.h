/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest with an IOMMU: translations from the front-end, and asking it for those we miss. */
#ifndef VU_IOMMU_H
#define VU_IOMMU_H

#include <stdbool.h>
#include <stdint.h>

#include "virtq_mem.h"

struct vu_device;
struct virtq_view;

/** A device that may offer VIRTIO_F_ACCESS_PLATFORM. 0 or -ENOMEM, -EMFILE, -ENFILE. */
int vu_iommu_open(struct vu_device *dev);

/** After all views are gone. Without vu_iommu_open() nothing happens. */
void vu_iommu_close(struct vu_device *dev);

/** Are the addresses of this device's rings, and in them, those of an IOMMU? */
bool vu_iommu_used(const struct vu_device *dev);

/** The memory table may have been replaced, which ends all translations. Before describing. */
void vu_iommu_sync(struct vu_device *dev);

/** Forget all translations: nobody tells us of invalidations while no ring is started. */
void vu_iommu_flush(struct vu_device *dev);

/**
 * Where an area of a ring is. What is not known is asked for.
 * @param waits	set if it is NULL only because of that
 */
void *vu_iommu_area(
	struct vu_device *dev, uint64_t iova, uint64_t len, enum virtq_perm perm, bool *waits);

/** Let a view translate by the tables of now. */
void vu_iommu_describe(struct vu_device *dev, unsigned ring, struct virtq_view *v);

/** A ring has a view with the tables of now: what it missed may have come, it looks again. */
void vu_iommu_look_again(struct vu_device *dev, unsigned ring);

/** Ask once more for what is still missing. */
void vu_iommu_tick(struct vu_device *dev);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* The front-end's IOMMU: every I/O address is a guest address and VD_IOVA more. */
#ifndef VD_IOMMU_H
#define VD_IOMMU_H

#include "vd.h"

#define VD_IOVA      0x80000000000ull
#define VD_PAGE      4096u
#define VD_BOTH_WAYS 3u /* may be read and written */

/** A device that offers an IOMMU, to be changed before vd_create(). */
void vd_iommu_conf(struct vd *t, uint16_t pairs);

/** A front-end of a guest that has one; not yet connected. */
void vd_iommu_front_end(struct vd *t);

/** Such a device and front-end, connected and started; its rings still wait. */
void vd_iommu_open(struct vd *t, uint16_t pairs);

/** The same, and rings that run. */
void vd_iommu_start(struct vd *t, uint16_t pairs);

/** UPDATE or INVALIDATE a range of guest addresses: 0, or -EREMOTEIO if it was refused. */
int vd_iommu_tell(struct vd *t, uint8_t type, uint64_t gpa, uint64_t size, uint8_t perm);

/** The next miss, with the guest address in iova: whether there is one. */
bool vd_iommu_miss(struct vd *t, struct ts_iotlb *miss);

/** Answer all misses there are, with so many bytes around each. Returns how many. */
unsigned vd_iommu_serve(struct vd *t, uint64_t size);

/** All rings are published. */
bool vd_all_usable(const struct vd *t);

/** Frames in both directions of the first pair, with misses served as they come. */
void vd_iommu_traffic(struct vd *t, uint64_t size);

#endif

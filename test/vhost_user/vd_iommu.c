/* SPDX-License-Identifier: BSD-3-Clause */
/* The front-end's IOMMU. */
#include "vd_iommu.h"

void vd_iommu_conf(struct vd *t, uint16_t pairs)
{
	vd_conf(t, pairs);
	t->conf.features |= TS_BIT(VIRTIO_F_ACCESS_PLATFORM);
}

void vd_iommu_front_end(struct vd *t)
{
	vd_front_end(t, &ts_qemu_10);
	t->guest->iova = VD_IOVA;
	t->fe.want |= TS_BIT(VIRTIO_F_ACCESS_PLATFORM);
}

void vd_iommu_open(struct vd *t, uint16_t pairs)
{
	vd_iommu_conf(t, pairs);
	vd_create(t);
	vd_iommu_front_end(t);
	vd_connect(t);
	vd_start(t);
}

void vd_iommu_start(struct vd *t, uint16_t pairs)
{
	vd_iommu_open(t, pairs);
	assert_true(VD_WAIT(t, (vd_iommu_serve(t, VD_PAGE), vd_all_usable(t)), 5000));
}

int vd_iommu_tell(struct vd *t, uint8_t type, uint64_t gpa, uint64_t size, uint8_t perm)
{
	const struct ts_iotlb m = {gpa + VD_IOVA, size, ts_uva(t->guest, gpa), perm, type, {0}};

	return ts_fe_iotlb(&t->fe, &m);
}

bool vd_iommu_miss(struct vd *t, struct ts_iotlb *miss)
{
	int rc = ts_fe_miss(&t->fe, miss);

	if (rc < 0)
		vd_ok(t, rc);
	miss->iova -= VD_IOVA;
	return rc > 0;
}

unsigned vd_iommu_serve(struct vd *t, uint64_t size)
{
	struct ts_iotlb miss;
	unsigned n = 0;

	vd_run(t);
	for (; vd_iommu_miss(t, &miss); n++) {
		vd_ok(t, vd_iommu_tell(
				 t, TS_IOTLB_UPDATE, miss.iova & ~(size - 1), size, VD_BOTH_WAYS));
		vd_run(t);
	}
	return n;
}

bool vd_all_usable(const struct vd *t)
{
	for (unsigned i = 0; i < 2u * t->conf.queue_pairs; i++)
		if (!vd_ring_info(t, i).usable)
			return false;
	return true;
}

void vd_iommu_traffic(struct vd *t, uint64_t size)
{
	uint64_t consumed = t->ring[1].consumed, sent = t->ring[0].sent;

	vd_guest_sends(t, 1, 20);
	assert_true(VD_WAIT(t,
		(vd_burst(t, 1), vd_iommu_serve(t, size), t->ring[1].consumed == consumed + 20),
		5000));
	assert_int_equal(vd_guest_reaps(t, 1), 20);
	vd_guest_posts(t, 0, 20);
	t->ring[0].to_send = sent + 20;
	assert_true(VD_WAIT(
		t, (vd_burst(t, 0), vd_iommu_serve(t, size), t->ring[0].sent == sent + 20), 5000));
	assert_int_equal(vd_guest_reaps(t, 0), 20);
}

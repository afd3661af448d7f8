/* SPDX-License-Identifier: BSD-3-Clause */
/* Picking a burst function, and accounting for what no burst could take. */
#include "burst.h"

void vnet_prepare(struct virtq_view *view, const struct vnet_rx_conf *conf)
{
	view->arg = conf;
	view->burst =
		conf ? vnet_dequeue_fn(view->features, conf) : vnet_enqueue_fn(view->features);
}

void vnet_give_up(struct virtq *vq, uint16_t n)
{
	const struct virtq_view *view = virtq_gate_enter(&vq->gate);
	enum virtq_drop why = view ? VIRTQ_DROP_TX_NO_BUFFER : virtq_load(&vq->closed);

	virtq_gate_leave(&vq->gate);
	if (vq->fault)
		why = VIRTQ_DROP_TX_BROKEN;
	virtq_drop(vq, why, n);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Picking a burst function, naming a guest's offloads, accounting for what no burst could take. */
#include <stdio.h>

#include <rte_errno.h>
#include <rte_mbuf_dyn.h>

#include "burst.h"
#include "offload.h"

/* Constants, not what DPDK happens to give: bursts test them together with other flags. DPDK gives
 * bits away from the other end. */
static const struct {
	const char *name;
	uint64_t flag;
} flags[] = {
	{"sluice_ufo", VNET_MBUF_F_UFO},
	{"sluice_lent", VNET_MBUF_F_LENT},
	{"sluice_lent_ordered", VNET_MBUF_F_LENT_ORDERED},
	{"sluice_lent_unmapped", VNET_MBUF_F_LENT_UNMAPPED},
};

int vnet_init(char *why, size_t why_len)
{
	for (unsigned i = 0; i < RTE_DIM(flags); i++) {
		int bit = __builtin_ctzll(flags[i].flag);
		struct rte_mbuf_dynflag flag = {0};

		snprintf(flag.name, sizeof(flag.name), "%s", flags[i].name);
		if (rte_mbuf_dynflag_register_bitnum(&flag, (unsigned)bit) == bit)
			continue;
		snprintf(why, why_len,
			"mbuf flag %d cannot be reserved (%s): another library of this program has "
			"taken it, use one of the two only",
			bit, rte_strerror(rte_errno));
		return -rte_errno;
	}
	return 0;
}

void vnet_prepare(struct virtq_view *view, const struct vnet_rx_conf *conf)
{
	view->arg = conf;
	view->burst = conf ? vnet_dequeue_fn(view->features, conf, false)
			   : vnet_enqueue_fn(view->features);
}

void vnet_give_up(struct virtq *vq, uint16_t n)
{
	const struct virtq_view *view = virtq_gate_enter(&vq->gate);
	enum virtq_drop why = !view                        ? virtq_load(&vq->closed)
			      : virtq_load(&vq->miss_perm) ? VIRTQ_DROP_TX_IOMMU
							   : VIRTQ_DROP_TX_NO_BUFFER;

	virtq_gate_leave(&vq->gate);
	if (vq->fault)
		why = VIRTQ_DROP_TX_BROKEN;
	virtq_drop(vq, why, n);
}

uint64_t vnet_tx_offloads(uint64_t features)
{
	const uint64_t tso = FEATURE(GUEST_TSO4) | FEATURE(GUEST_TSO6);
	const uint64_t uso = FEATURE(GUEST_USO4) | FEATURE(GUEST_USO6);
	uint64_t offloads = TX_MULTI_SEGS;

	if (!(features & FEATURE(GUEST_CSUM)))
		return offloads;
	offloads |= TX_IPV4_CKSUM | TX_TCP_CKSUM | TX_UDP_CKSUM;
	if ((features & tso) == tso)
		offloads |= TX_TCP_TSO | (features & FEATURE(GUEST_ECN) ? 0 : NO_CWR);
	if ((features & uso) == uso)
		offloads |= TX_UDP_TSO;
	if (features & FEATURE(GUEST_UFO))
		offloads |= TX_UFO;
	return offloads;
}

uint64_t vnet_rx_offloads(uint64_t features)
{
	const uint64_t gso =
		FEATURE(GSO) | FEATURE(HOST_TSO4) | FEATURE(HOST_TSO6) | FEATURE(HOST_USO);
	uint64_t offloads;

	if (!(features & FEATURE(CSUM)))
		return 0;
	offloads = RX_TCP_CKSUM | RX_UDP_CKSUM;
	if (features & gso)
		offloads |= RX_TCP_LRO | RX_SCATTER;
	if (features & FEATURE(HOST_UFO))
		offloads |= RX_SCATTER;
	return offloads;
}

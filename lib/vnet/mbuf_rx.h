/* SPDX-License-Identifier: BSD-3-Clause */
/* What a driver fills in of an mbuf, at once: for dequeue.c. */
#ifndef VNET_MBUF_RX_H
#define VNET_MBUF_RX_H

#include <string.h>

#include "burst.h"

/*
 * What a driver has to fill in of an mbuf, data_off to hash, lies side by side: it is copied
 * from a template instead of set field by field. The rest is as the pool keeps it, so that the
 * mbuf's second line is not touched.
 */
#define MBUF_RX_AT  offsetof(struct rte_mbuf, data_off)
#define MBUF_RX_LEN (offsetof(struct rte_mbuf, hash) + sizeof(uint32_t) - MBUF_RX_AT)

struct mbuf_rx {
	uint16_t data_off, refcnt, nb_segs, port;
	uint64_t ol_flags;
	uint32_t packet_type, pkt_len;
	uint16_t data_len, vlan_tci;
	uint32_t hash;
};
#define SAME_PLACE(field) \
	(offsetof(struct mbuf_rx, field) + MBUF_RX_AT == offsetof(struct rte_mbuf, field))
_Static_assert(MBUF_RX_AT == 16 && sizeof(struct mbuf_rx) == MBUF_RX_LEN && SAME_PLACE(refcnt) &&
		       SAME_PLACE(nb_segs) && SAME_PLACE(port) && SAME_PLACE(ol_flags) &&
		       SAME_PLACE(packet_type) && SAME_PLACE(pkt_len) && SAME_PLACE(data_len) &&
		       SAME_PLACE(vlan_tci),
	"a driver's part of an mbuf has moved: look whether it still lies side by side");

static inline struct mbuf_rx mbuf_template(const struct vnet_rx_conf *conf)
{
	uint32_t pinned = rte_pktmbuf_priv_flags(conf->pool) & RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF;

	return (struct mbuf_rx){
		.data_off = RTE_MIN(RTE_PKTMBUF_HEADROOM, rte_pktmbuf_data_room_size(conf->pool)),
		.refcnt = 1,
		.nb_segs = 1,
		.port = conf->port,
		.ol_flags = pinned ? RTE_MBUF_F_EXTERNAL : 0,
	};
}

virtq_inline void mbuf_init(struct rte_mbuf *m, const struct mbuf_rx *template)
{
	memcpy((uint8_t *)m + MBUF_RX_AT, template, MBUF_RX_LEN);
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest that has moved here says so: by a packet it has not sent. */
#include <string.h>

#include <rte_arp.h>
#include <rte_ether.h>

#include "burst.h"

#define RARP_LEN     60 /* what the wire wants, without the frame check sequence */
#define RARP_REQUEST 3

/* RFC 903: who am I? The answer does not matter, the source address does. */
static void write_rarp(uint8_t *at, const uint8_t mac[6])
{
	struct rte_ether_hdr *eth = (void *)at;
	struct rte_arp_hdr *arp = (void *)(eth + 1);

	memset(at, 0, RARP_LEN);
	memset(&eth->dst_addr, 0xff, sizeof(eth->dst_addr));
	memcpy(&eth->src_addr, mac, sizeof(eth->src_addr));
	eth->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_RARP);
	arp->arp_hardware = rte_cpu_to_be_16(RTE_ARP_HRD_ETHER);
	arp->arp_protocol = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
	arp->arp_hlen = sizeof(eth->src_addr);
	arp->arp_plen = sizeof(uint32_t);
	arp->arp_opcode = rte_cpu_to_be_16(RARP_REQUEST);
	memcpy(&arp->arp_data.arp_sha, mac, sizeof(arp->arp_data.arp_sha));
	memcpy(&arp->arp_data.arp_tha, mac, sizeof(arp->arp_data.arp_tha));
}

uint16_t vnet_announce(struct virtq *vq, const struct virtq_view *v, struct rte_mbuf **pkt)
{
	const struct vnet_rx_conf *conf = v->arg;
	struct rte_mbuf *m = rte_pktmbuf_alloc(conf->pool);
	uint8_t mac[6];
	char *at;

	if (!m)
		return 0;
	at = rte_pktmbuf_append(m, RARP_LEN);
	if (!at || !virtq_announced(vq, mac)) {
		rte_pktmbuf_free(m);
		return 0;
	}
	write_rarp((uint8_t *)at, mac);
	m->port = conf->port;
	virtq_count_frame(&vq->stats, (uint8_t *)at, RARP_LEN);
	vnet_count_burst(&vq->stats, 1, RARP_LEN);
	*pkt = m;
	return 1;
}

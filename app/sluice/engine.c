/* SPDX-License-Identifier: BSD-3-Clause */
/* The list of engines and what they are told. */
#include "engine.h"

#include <string.h>

#include <rte_common.h>
#include <rte_ip.h>
#include <rte_udp.h>

#include "share.h"

const struct engine *const engines[] = {
	&engine_bridge,
	&engine_cross,
	&engine_io,
	&engine_mac,
	&engine_macswap,
	&engine_rxonly,
	&engine_txonly,
	&engine_flowgen,
	&engine_icmpecho,
	&engine_csum,
	NULL,
};

const struct engine *engine_find(const char *name)
{
	for (const struct engine *const *e = engines; *e; e++)
		if (strcmp((*e)->name, name) == 0)
			return *e;
	return NULL;
}

void engine_conf_init(struct engine_conf *conf)
{
	*conf = (struct engine_conf){
		.burst = BURST_MAX,
		.retry_count = 64,
		.retry_delay_us = 1,
		.sleep_auto = true,
		.share_us = SHARE_US,
		.tx_segs = 1,
		.tx_seg_len = {64},
		/* RFC 2544: benchmarking addresses, and the discard port. */
		.tx_ip_src = RTE_IPV4(198u, 18, 0, 1),
		.tx_ip_dst = RTE_IPV4(198u, 18, 0, 2),
		.tx_udp_src = 9,
		.tx_udp_dst = 9,
		.flowgen_flows = 1024,
	};
}

uint32_t engine_conf_tx_len(const struct engine_conf *conf)
{
	uint32_t len = 0;

	for (unsigned i = 0; i < conf->tx_segs; i++)
		len += conf->tx_seg_len[i];
	return len;
}

const char *engine_conf_check_txpkts(const uint16_t *len, unsigned segs, uint16_t room)
{
	if (segs == 0 || segs > TXPKT_SEGS_MAX)
		return "a packet has 1 to " RTE_STR(TXPKT_SEGS_MAX) " segments";
	for (unsigned i = 0; i < segs; i++) {
		if (len[i] == 0)
			return "a segment has at least one byte";
		if (len[i] > room)
			return "a segment does not fit an mbuf: give several, as in 1500,1500";
	}
	if (len[0] < ENGINE_TX_HEADERS)
		return "the first segment must hold the Ethernet, IPv4 and UDP headers: 42 bytes";
	return NULL;
}

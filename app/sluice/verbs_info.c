/* SPDX-License-Identifier: BSD-3-Clause */
/* testpmd's verbs: what ports are. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_ethdev.h>

#include "verbs.h"

#define TEXT_MAX  256
#define NAMES_MAX 2048 /* all feature names together */

/* Everything testpmd tells of a port; a VM port has what testpmd shows of net_vhost, with what is
 * really known in place of its constants. */
struct info {
	char devname[TEXT_MAX], driver[TEXT_MAX], firmware[TEXT_MAX];
	char devargs[USOCK_PATH_MAX + TEXT_MAX];
	unsigned node;
	uint32_t speed; /* Mb/s */
	bool full_duplex, autoneg, promiscuous, allmulticast;
	uint16_t mtu;
	struct rte_eth_dev_info eth;
};

/* ---- finding out ---- */

static void vm_info(const struct port *port, struct info *o)
{
	*o = (struct info){
		.driver = "net_sluice",
		.node = verb_node(port->node),
		.speed = RTE_ETH_SPEED_NUM_10G,
		.full_duplex = true,
		.promiscuous = true,
		.allmulticast = true,
		.mtu = port->vm.mtu ? port->vm.mtu : RTE_ETHER_MTU,
		.eth =
			{
				.max_rx_pktlen = UINT32_MAX,
				.max_rx_queues = port->n_rxq,
				.max_tx_queues = port->n_txq,
				.max_mac_addrs = 1,
				.rx_desc_lim = {.nb_max = VIRTQ_NUM_MAX, .nb_align = 1},
				.tx_desc_lim = {.nb_max = VIRTQ_NUM_MAX,
					.nb_align = 1,
					.nb_seg_max = UINT16_MAX,
					.nb_mtu_seg_max = UINT16_MAX},
			},
	};
	snprintf(o->devname, sizeof(o->devname), "%s", port->name);
	snprintf(o->devargs, sizeof(o->devargs), "iface=%s,queues=%u,client=%d", port->vm.path,
		port->n_rxq, !port->vm.listen);
}

static void dev_info(const struct port *port, struct info *o)
{
	uint16_t eth = port->dev.eth;
	struct rte_eth_link link = {0};

	*o = (struct info){.node = verb_node(port->node)};
	if (!port_dev_mute(port)) {
		rte_eth_dev_info_get(eth, &o->eth);
		rte_eth_link_get_nowait(eth, &link);
		rte_eth_dev_get_mtu(eth, &o->mtu);
	}
	o->speed = link.link_speed;
	o->full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	o->autoneg = link.link_autoneg == RTE_ETH_LINK_AUTONEG;
	o->promiscuous = rte_eth_promiscuous_get(eth) == 1;
	o->allmulticast = rte_eth_allmulticast_get(eth) == 1;
	if (port_dev_mute(port) ||
		rte_eth_dev_fw_version_get(eth, o->firmware, sizeof(o->firmware)) != 0)
		o->firmware[0] = 0;
	if (rte_eth_dev_get_name_by_port(eth, o->devname) != 0)
		o->devname[0] = 0;
	snprintf(o->driver, sizeof(o->driver), "%s", o->eth.driver_name ? o->eth.driver_name : "");
	snprintf(o->devargs, sizeof(o->devargs), "%s", port->dev.devargs);
}

static void get_info(const struct port *port, struct info *o)
{
	if (port->kind == PORT_VM)
		vm_info(port, o);
	else
		dev_info(port, o);
}

/* As rte_eth_link_speed_to_str(), which is experimental. @return buf */
static const char *speed_text(uint32_t mbps, char buf[static 32])
{
	if (mbps == RTE_ETH_SPEED_NUM_UNKNOWN)
		return "Unknown";
	if (mbps == RTE_ETH_SPEED_NUM_NONE)
		return "None";
	if (mbps < 1000)
		snprintf(buf, 32, "%u Mbps", mbps);
	else
		snprintf(buf, 32, "%g Gbps", mbps / 1000.0);
	return buf;
}

/* ---- show port info ---- */

/* RSS flow types in the order of their bits, from 2 on. */
static const char *const flow_types[] = {
	"ipv4",
	"ipv4-frag",
	"ipv4-tcp",
	"ipv4-udp",
	"ipv4-sctp",
	"ipv4-other",
	"ipv6",
	"ipv6-frag",
	"ipv6-tcp",
	"ipv6-udp",
	"ipv6-sctp",
	"ipv6-other",
	"l2-payload",
	"ipv6-ex",
	"ipv6-tcp-ex",
	"ipv6-udp-ex",
	"port",
	"vxlan",
	"geneve",
	"nvgre",
	NULL,
	"gtpu",
	"eth",
	"s-vlan",
	"c-vlan",
	"esp",
	"ah",
	"l2tpv3",
	"pfcp",
	"pppoe",
	"ecpri",
	"mpls",
	"ipv4-chksum",
	"l4-chksum",
	"l2tpv2",
};

#define FLOW_LINE 64 /* characters */

static void print_flow_types(struct cmd *c, uint64_t types)
{
	size_t width = 0;

	if (!types) {
		cmd_printf(c, "No RSS offload flow type is supported.\n");
		return;
	}
	cmd_printf(c, "Supported RSS offload flow types:\n");
	for (size_t i = 0; i < RTE_DIM(flow_types); i++) {
		if (!flow_types[i] || !(types >> (i + 2) & 1))
			continue;
		if (width && width + 2 + strlen(flow_types[i]) > FLOW_LINE) {
			cmd_printf(c, "\n");
			width = 0;
		}
		cmd_printf(c, "  %s", flow_types[i]);
		width += 2 + strlen(flow_types[i]);
	}
	cmd_printf(c, "\n");
}

static const char *on_off(uint64_t bits, uint64_t bit)
{
	return bits & bit ? "on" : "off";
}

static void print_offloads(struct cmd *c, const struct port *port, const struct info *o)
{
	int vlan = port->kind == PORT_DEV ? rte_eth_dev_get_vlan_offload(port->dev.eth) : 0;
	uint64_t bits = vlan > 0 ? (uint64_t)vlan : 0;

	cmd_printf(c, "Maximum number of MAC addresses: %u\n", o->eth.max_mac_addrs);
	cmd_printf(c, "Maximum number of MAC addresses of hash filtering: %u\n",
		o->eth.max_hash_mac_addrs);
	cmd_printf(c, "VLAN offload: \n  strip %s, filter %s, extend %s, qinq strip %s\n",
		on_off(bits, RTE_ETH_VLAN_STRIP_OFFLOAD), on_off(bits, RTE_ETH_VLAN_FILTER_OFFLOAD),
		on_off(bits, RTE_ETH_VLAN_EXTEND_OFFLOAD),
		on_off(bits, RTE_ETH_QINQ_STRIP_OFFLOAD));
	if (o->eth.hash_key_size > 0)
		cmd_printf(c, "Hash key size in bytes: %u\n", o->eth.hash_key_size);
	if (o->eth.reta_size > 0)
		cmd_printf(c, "Redirection table size: %u\n", o->eth.reta_size);
	print_flow_types(c, o->eth.flow_type_rss_offloads);
}

static void print_queues(struct cmd *c, const char *side, unsigned now, unsigned max,
	const struct rte_eth_desc_lim *lim)
{
	cmd_printf(c,
		"Current number of %s queues: %u\n"
		"Max possible %s queues: %u\n"
		"Max possible number of %sDs per queue: %u\n"
		"Min possible number of %sDs per queue: %u\n"
		"%sDs number alignment: %u\n",
		side, now, side, max, side, lim->nb_max, side, lim->nb_min, side, lim->nb_align);
}

static const char *error_mode(const struct rte_eth_dev_info *eth)
{
	switch (eth->err_handle_mode) {
	case RTE_ETH_ERROR_HANDLE_MODE_NONE:
		return "none";
	case RTE_ETH_ERROR_HANDLE_MODE_PASSIVE:
		return "passive";
	case RTE_ETH_ERROR_HANDLE_MODE_PROACTIVE:
		return "proactive";
	}
	return "unknown";
}

/* Device capabilities in the order of their bits. */
static const char *const capabilities[] = {
	"RUNTIME_RX_QUEUE_SETUP",
	"RUNTIME_TX_QUEUE_SETUP",
	"RXQ_SHARE",
	"FLOW_RULE_KEEP",
	"FLOW_SHARED_OBJECT_KEEP",
};

static void print_limits(struct cmd *c, const struct port *port, const struct info *o)
{
	const struct rte_eth_dev_info *eth = &o->eth;

	cmd_printf(c, "Minimum size of RX buffer: %u\n", eth->min_rx_bufsize);
	cmd_printf(c, "Maximum configurable length of RX packet: %u\n", eth->max_rx_pktlen);
	cmd_printf(c, "Maximum configurable size of LRO aggregated packet: %u\n",
		eth->max_lro_pkt_size);
	print_queues(c, "RX", port->n_rxq, eth->max_rx_queues, &eth->rx_desc_lim);
	print_queues(c, "TX", port->n_txq, eth->max_tx_queues, &eth->tx_desc_lim);
	cmd_printf(c, "Max segment number per packet: %u\n", eth->tx_desc_lim.nb_seg_max);
	cmd_printf(c, "Max segment number per MTU/TSO: %u\n", eth->tx_desc_lim.nb_mtu_seg_max);
	cmd_printf(c, "Device capabilities: 0x%" PRIx64 "(", eth->dev_capa);
	for (size_t i = 0; i < RTE_DIM(capabilities); i++)
		if (eth->dev_capa >> i & 1)
			cmd_printf(c, " %s", capabilities[i]);
	cmd_printf(c, " )\nDevice error handling mode: %s\n", error_mode(eth));
}

/* After all that testpmd has. */
static void print_front_end(struct cmd *c, const struct port *port)
{
	char names[NAMES_MAX];
	struct vu_info info;

	vu_device_info(port->vm.dev, &info);
	cmd_printf(c, "vhost-user socket: %s (%s), front-end %s\n", info.path,
		info.listen ? "listening" : "connecting",
		info.connection == VU_CONNECTED ? "connected" : "not connected");
	cmd_printf(c, "Negotiated features: %s\n",
		vu_feature_names(info.features, names, sizeof(names)));
	if (info.trouble != VU_TROUBLE_NONE)
		cmd_printf(c, "No traffic: %s\n", vu_trouble_text(info.trouble));
}

static void print_info(struct cmd *c, const struct port *port, const struct info *o)
{
	char speed[32];

	cmd_printf(
		c, "\n********************* Infos for port %-2u *********************\n", port->id);
	cmd_printf(
		c, "MAC address: " RTE_ETHER_ADDR_PRT_FMT "\n", RTE_ETHER_ADDR_BYTES(&port->mac));
	cmd_printf(c, "Device name: %s\nDriver name: %s\n", o->devname, o->driver);
	cmd_printf(c, "Firmware-version: %s\n", *o->firmware ? o->firmware : "not available");
	cmd_printf(c, "Devargs: %s\n", o->devargs);
	cmd_printf(c, "Connect to socket: %u\nmemory allocation on the socket: %u\n", o->node,
		o->node);
	cmd_printf(c, "Link status: %s\nLink speed: %s\n", port->up ? "up" : "down",
		speed_text(o->speed, speed));
	cmd_printf(c, "Link duplex: %s\n", o->full_duplex ? "full-duplex" : "half-duplex");
	cmd_printf(c, "Autoneg status: %s\nMTU: %u\n", o->autoneg ? "On" : "Off", o->mtu);
	cmd_printf(c, "Promiscuous mode: %s\nAllmulticast mode: %s\n",
		o->promiscuous ? "enabled" : "disabled", o->allmulticast ? "enabled" : "disabled");
	print_offloads(c, port, o);
	print_limits(c, port, o);
	if (port->kind == PORT_VM)
		print_front_end(c, port);
}

static json_t *info_json(const struct port *port, const struct info *o)
{
	char mac[RTE_ETHER_ADDR_FMT_SIZE];
	json_t *row = verb_port_json(port);

	json_object_set_new(row, "devargs", cmd_json_text(o->devargs));
	json_object_update_new(
		row, json_pack("{s:s, s:s, s:s, s:I, s:i, s:b, s:i, s:i, s:i}", "mac",
			     mac_text(&port->mac, mac), "driver", o->driver, "link",
			     port->up ? "up" : "down", "speed_mbps", (json_int_t)o->speed, "mtu",
			     o->mtu, "promiscuous", o->promiscuous, "socket", (int)o->node,
			     "rx_queues", port->n_rxq, "tx_queues", port->n_txq));
	return row;
}

static int show_info(struct cmd *c)
{
	struct port *list[PORT_MAX];
	int n = verb_ports(c, list);
	json_t *all = json_array();

	for (int i = 0; i < n; i++) {
		struct info o;

		get_info(list[i], &o);
		print_info(c, list[i], &o);
		json_array_append_new(all, info_json(list[i], &o));
	}
	verb_json_ports(c, all);
	return n < 0 ? n : 0;
}

/* ---- show port summary ---- */

static unsigned count_ports(const struct sluice *sl)
{
	struct port *port;
	unsigned n = 0;

	PORT_FOREACH(sl, port)
	n++;
	return n;
}

static int show_summary(struct cmd *c)
{
	struct port *list[PORT_MAX];
	int n = verb_ports(c, list);
	json_t *all = json_array();

	if (n >= 0)
		cmd_printf(c, "Number of available ports: %u\n%-4s %-17s %-12s %-14s %-8s %s\n",
			count_ports(cmd_ctx(c)), "Port", "MAC Address", "Name", "Driver", "Status",
			"Link");
	for (int i = 0; i < n; i++) {
		struct info o;
		char speed[32];

		get_info(list[i], &o);
		cmd_printf(c, "%-4u " RTE_ETHER_ADDR_PRT_FMT " %-12s %-14s %-8s %s\n", list[i]->id,
			RTE_ETHER_ADDR_BYTES(&list[i]->mac), list[i]->name, o.driver,
			list[i]->up ? "up" : "down", speed_text(o.speed, speed));
		json_array_append_new(all, info_json(list[i], &o));
	}
	verb_json_ports(c, all);
	return n < 0 ? n : 0;
}

/* ---- how full ---- */

static int fill_of(const struct port *port, unsigned queue)
{
	struct vu_ring_info ring;

	if (port->kind == PORT_DEV)
		return port_dev_mute(port) ? -EAGAIN
					   : rte_eth_rx_queue_count(port->dev.eth, (uint16_t)queue);
	vu_ring_info(port->vm.dev, 2 * queue + 1, &ring);
	return ring.fill;
}

static int show_used(struct cmd *c)
{
	const struct port *port = cmd_port(c, "PORT");
	uint64_t queue = cmd_u64(c, "QUEUE", 0);
	int n;

	if (!port)
		return -ENOENT;
	if (queue >= port->n_rxq)
		return cmd_fail(c, -ERANGE,
			"Invalid queueid = %" PRIu64 ": port '%s' has %u queues", queue, port->name,
			port->n_rxq);
	n = fill_of(port, (unsigned)queue);
	if (n < 0)
		return cmd_fail(c, n,
			"Invalid queueid = %" PRIu64 ": the driver of '%s' does not tell", queue,
			port->name);
	cmd_printf(c, "Used desc count = %d\n", n);
	verb_json_number(c, "used_desc_count", (uint64_t)n);
	return 0;
}

const struct command info_commands[] = {
	{"show port info (all|PORT)", "what a port is and can do",
		"Of VM ports with socket and negotiated features; `port show` tells more.",
		show_info, 0},
	{"show port summary (all|PORT)", "ports, one line each", NULL, show_summary, 0},
	{"show port PORT rxq QUEUE:0..65535 desc used count", "packets waiting in a receive queue",
		"Of a VM port: what its guest has sent and the switch not yet taken.", show_used,
		0},
	{0},
};

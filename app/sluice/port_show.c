/* SPDX-License-Identifier: BSD-3-Clause */
/* `port show`: a port in one line, and in full. */
#include "port_show.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <rte_ethdev.h>

#include "commands.h"

#define NAMES_MAX 2048 /* all feature names together */

static const char *kind_text(const struct port *port)
{
	if (port->kind == PORT_DEV)
		return "dev";
	return port->vm.listen ? "listen" : "connect";
}

static const char *where_text(const struct port *port)
{
	return port->kind == PORT_DEV ? port->dev.devargs : port->vm.path;
}

static void set_text(json_t *o, const char *key, const char *text)
{
	json_object_set_new(o, key, cmd_json_text(text));
}

static void set_number(json_t *o, const char *key, uint64_t n)
{
	json_object_set_new(o, key, json_integer((json_int_t)n));
}

static uint64_t total_drops(const struct port_counters *c)
{
	uint64_t sum = c->rx_missed;

	for (unsigned d = 0; d < VIRTQ_DROP_COUNT; d++)
		sum += c->ring_drops[d];
	for (unsigned d = 0; d < SWITCH_DROP_COUNT; d++)
		sum += c->drops[d];
	return sum;
}

json_t *port_list_json(const struct sluice *sl)
{
	json_t *list = json_array();
	struct port_counters c;
	struct port *port;

	PORT_FOREACH(sl, port)
	{
		json_t *row = json_object();

		port_counters_get(port, &c);
		set_number(row, "port", port->id);
		set_text(row, "name", port->name);
		set_text(row, "link", port->up ? "up" : "down");
		set_text(row, "kind", kind_text(port));
		set_number(row, "rx", c.rx_packets);
		set_number(row, "tx", c.tx_packets);
		set_number(row, "drops", total_drops(&c));
		set_text(row, "at", where_text(port));
		json_array_append_new(list, row);
	}
	return list;
}

/* ---- VM ports ---- */

static json_t *memory_json(const struct virtq_mem *mem)
{
	json_t *list = json_array();
	struct virtq_region_info r;
	char text[32];

	for (uint32_t i = 0; mem && virtq_mem_region(mem, i, &r); i++) {
		json_t *row = json_object();

		snprintf(text, sizeof(text), "0x%jx", (uintmax_t)r.gpa);
		set_text(row, "guest_address", text);
		snprintf(text, sizeof(text), "0x%jx", (uintmax_t)r.uva);
		set_text(row, "frontend_address", text);
		set_number(row, "mib", r.size >> 20);
		set_number(row, "page_kib", r.page_size >> 10);
		json_array_append_new(list, row);
	}
	return list;
}

static const char *ring_state(const struct vu_ring_info *r)
{
	if (r->fault)
		return "parked";
	if (r->usable)
		return "running";
	if (r->started)
		return "disabled";
	return r->num ? "stopped" : "unset";
}

static json_t *ring_json(const struct port *port, unsigned ring)
{
	const struct port_rxq *q = &port->rxq[ring / 2];
	struct vu_ring_info r;
	json_t *row = json_object();
	bool rx = ring & 1;

	vu_ring_info(port->vm.dev, ring, &r);
	set_number(row, "ring", ring);
	set_text(row, "queue", rx ? "rx" : "tx");
	set_text(row, "state", ring_state(&r));
	set_number(row, "size", r.num);
	set_number(row, "fill", r.fill);
	set_number(row, "avail", r.avail);
	set_number(row, "used", r.used);
	json_object_set_new(row, "callfd", json_integer(r.call_fd));
	json_object_set_new(row, "kickfd", json_integer(r.kick_fd));
	set_number(row, "packets", r.stats.packets);
	set_number(row, "calls", r.stats.calls);
	if (rx && q->worker >= 0)
		set_number(row, "lcore", port->sl->workers[q->worker]->lcore);
	if (rx)
		set_number(row, "direct", r.stats.direct);
	if (rx && q->lender) {
		set_number(row, "zero_copy", r.stats.lent);
		set_number(row, "lent_now", vnet_lender_out(q->lender));
	}
	if (r.stats.recovered || r.stats.repeated) {
		set_number(row, "recovered", r.stats.recovered);
		set_number(row, "repeated", r.stats.repeated);
	}
	if (r.fault)
		set_text(row, "fault", virtq_fault_text(r.fault));
	return row;
}

/* Rings the front-end never mentioned are left out, but for the first pair. */
static json_t *rings_json(const struct port *port)
{
	json_t *list = json_array();
	struct vu_ring_info r;

	for (unsigned ring = 0; ring < 2u * port->n_rxq; ring++) {
		vu_ring_info(port->vm.dev, ring, &r);
		if (ring < 2 || r.num)
			json_array_append_new(list, ring_json(port, ring));
	}
	return list;
}

static void add_names(
	json_t *o, const char *key, const char *(*names)(uint64_t, char *, size_t), uint64_t bits)
{
	char buf[NAMES_MAX];

	set_text(o, key, names(bits, buf, sizeof(buf)));
}

/* The driver is there, but has not given us a single buffer to send into. */
static bool gives_no_buffers(const struct port *port)
{
	struct vu_ring_info r;
	bool any = false;

	for (unsigned i = 0; i < port->n_txq; i++) {
		vu_ring_info(port->vm.dev, 2 * i, &r);
		if (r.usable && !r.untouched)
			return false;
		any |= r.usable;
	}
	return any;
}

/* Whether what was refused last, or ended the last connection, has to do with it. */
static bool is_told_by_last_error(enum vu_trouble trouble)
{
	return trouble != VU_TROUBLE_NO_DRIVER && trouble != VU_TROUBLE_NO_MEMORY_TABLE &&
	       trouble != VU_TROUBLE_NOT_ENABLED && trouble != VU_TROUBLE_NOT_SHARED;
}

/* Why there is no traffic, in words, where there is none. */
static void add_trouble(json_t *o, const struct port *port, const struct vu_info *info)
{
	char text[512];
	const char *more = is_told_by_last_error(info->trouble) ? info->last_error : "";

	if (info->trouble != VU_TROUBLE_NONE) {
		if (info->trouble == VU_TROUBLE_CONNECT_REFUSED ||
			info->trouble == VU_TROUBLE_CANNOT_ACCEPT)
			more = strerror(info->socket_errno);
		snprintf(text, sizeof(text), "%s%s%s%s", vu_trouble_text(info->trouble),
			*more ? " (" : "", more, *more ? ")" : "");
		set_text(o, "trouble", text);
	} else if (gives_no_buffers(port)) {
		set_text(o, "trouble",
			"the guest has posted no receive buffer: is its interface up "
			"(ip link set eth0 up)?");
	} else if (*info->last_error) {
		set_text(o, "last_error", info->last_error);
	}
}

static void add_zero_copy(json_t *o, const struct port *port)
{
	const struct port_vm_options *opt = &port->vm.options;
	char text[128];

	snprintf(text, sizeof(text), "%s%s%s",
		opt->copy       ? "off: copy"
		: opt->postcopy ? "off: postcopy"
		: opt->iommu    ? "off: iommu"
				: "on",
		port->vm.unmapped ? ", but not to devices: " : "",
		port->vm.unmapped ? port->vm.unmapped : "");
	set_text(o, "zero_copy", text);
}

/* Who may connect, as it is now: others may have changed it. */
static void add_access(json_t *o, const char *path)
{
	char text[64];
	struct stat st;

	if (lstat(path, &st) < 0)
		snprintf(text, sizeof(text), "%s", strerror(errno));
	else
		snprintf(text, sizeof(text), "owner %u group %u mode 0%o", st.st_uid, st.st_gid,
			st.st_mode & 0777);
	set_text(o, "socket_access", text);
}

static void add_vm(json_t *o, const struct port *port)
{
	struct vu_info info;

	vu_device_info(port->vm.dev, &info);
	set_text(o, "socket", info.path);
	add_access(o, info.path);
	set_text(o, "mode", info.listen ? "listen" : "connect");
	set_text(o, "front_end", info.connection == VU_CONNECTED ? "connected" : "not connected");
	add_trouble(o, port, &info);
	set_number(o, "connections", info.connections);
	set_number(o, "queue_pairs", info.queue_pairs);
	add_names(o, "features", vu_feature_names, info.features);
	add_names(o, "protocol_features", vu_protocol_feature_names, info.protocol_features);
	if (info.mtu)
		set_number(o, "mtu", info.mtu);
	if (info.status)
		add_names(o, "device_status", vu_status_names, info.status);
	add_zero_copy(o, port);
	json_object_set_new(o, "memory", memory_json(info.mem));
	json_object_set_new(o, "rings", rings_json(port));
}

/* ---- devices ---- */

static void add_offloads(json_t *o, uint64_t offloads)
{
	json_t *list = json_array();

	for (uint64_t bit = 1; bit; bit <<= 1)
		if (offloads & bit)
			json_array_append_new(list, json_string(rte_eth_dev_tx_offload_name(bit)));
	json_object_set_new(o, "tx_offloads", list);
}

static json_t *rxqs_json(const struct port *port)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < port->n_rxq; i++) {
		const struct port_rxq *q = &port->rxq[i];
		struct stream_stats st;
		json_t *row = json_object();

		port_stream_stats(port, i, &st);
		set_number(row, "queue", i);
		if (q->worker >= 0)
			set_number(row, "lcore", port->sl->workers[q->worker]->lcore);
		set_number(row, "packets", st.rx_packets);
		json_array_append_new(list, row);
	}
	return list;
}

static void add_dev(json_t *o, const struct port *port)
{
	struct rte_eth_dev_info info;
	struct rte_eth_link link;

	set_text(o, "devargs", port->dev.devargs);
	if (port_dev_mute(port))
		set_text(o, "trouble", port_dev_trouble(port));
	else if (rte_eth_dev_info_get(port->dev.eth, &info) == 0)
		set_text(o, "driver", info.driver_name);
	if (!port_dev_mute(port) && rte_eth_link_get_nowait(port->dev.eth, &link) == 0 &&
		link.link_speed != RTE_ETH_SPEED_NUM_UNKNOWN)
		set_number(o, "speed_mbps", link.link_speed);
	set_text(o, "zero_copy", port->dev.reach == VNET_REACH_NONE ? port->dev.reach_why : "yes");
	if (port->dev.resets)
		set_number(o, "resets", port->dev.resets);
	set_number(o, "rx_queues", port->n_rxq);
	set_number(o, "tx_queues", port->n_txq);
	add_offloads(o, port->tx_offloads);
	json_object_set_new(o, "queues", rxqs_json(port));
}

/* ---- drops: one row for each reason that occurred ---- */

static void add_drop(
	json_t *list, const char *at, const char *reason, uint64_t n, const char *advice)
{
	json_t *row;

	if (n == 0)
		return;
	row = json_object();
	set_text(row, "at", at);
	set_text(row, "reason", reason);
	set_number(row, "packets", n);
	set_text(row, "advice", advice);
	json_array_append_new(list, row);
}

static void add_ring_drops(json_t *list, const struct port *port, unsigned ring)
{
	struct virtq_stats st;
	char at[16];

	snprintf(at, sizeof(at), "ring %u", ring);
	port_ring_stats(port, ring / 2, !(ring & 1), &st);
	for (unsigned d = 0; d < VIRTQ_DROP_COUNT; d++)
		add_drop(list, at, virtq_drop_name(d), st.drops[d], virtq_drop_advice(d));
}

static json_t *drops_by_place(const struct port *port, const struct port_counters *c)
{
	json_t *list = json_array();

	for (unsigned ring = 0; port->kind == PORT_VM && ring < 2u * port->n_rxq; ring++)
		add_ring_drops(list, port, ring);
	for (unsigned d = 0; d < SWITCH_DROP_COUNT; d++)
		add_drop(list, "switch", switch_drop_name(d), c->drops[d], switch_drop_advice(d));
	add_drop(list, "device", "rx_missed", c->rx_missed,
		"the device had no free descriptor: its worker is too busy");
	return list;
}

/* ---- both ---- */

static json_t *counters_json(const struct port_counters *c)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "rx_packets",
		(json_int_t)c->rx_packets, "rx_bytes", (json_int_t)c->rx_bytes, "tx_packets",
		(json_int_t)c->tx_packets, "tx_bytes", (json_int_t)c->tx_bytes, "rx_errors",
		(json_int_t)c->rx_errors, "tx_errors", (json_int_t)c->tx_errors, "left_out_polls",
		(json_int_t)c->left_out);
}

json_t *port_json(const struct port *port)
{
	char mac[RTE_ETHER_ADDR_FMT_SIZE];
	struct port_counters c;
	json_t *o = json_object();

	port_counters_get(port, &c);
	set_text(o, "name", port->name);
	set_number(o, "port", port->id);
	set_text(o, "kind", kind_text(port));
	set_text(o, "link", port->up ? "up" : "down");
	set_text(o, "mac", mac_text(&port->mac, mac));
	json_object_set_new(o, "numa_node", json_integer(port->node));
	if (port->cross)
		set_text(o, "cross", port->cross->name);
	if (port->kind == PORT_VM)
		add_vm(o, port);
	else
		add_dev(o, port);
	json_object_set_new(o, "counters", counters_json(&c));
	json_object_set_new(o, "drops", drops_by_place(port, &c));
	return o;
}

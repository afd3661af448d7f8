/* SPDX-License-Identifier: BSD-3-Clause */
/* All command tables together, completion, and what handlers share. */
#include "commands.h"

#include <errno.h>
#include <string.h>

const struct command_group command_groups[] = {
	{"Ports", port_commands},
	{"Statistics", stats_commands},
	{"Extended statistics", xstats_commands},
	{"Port information", info_commands},
	{"Hot plug as in testpmd", hotplug_commands},
	{"Start and stop", start_commands},
	{"Forwarding", set_commands},
	{"Forwarding in effect", show_commands},
	{"Topology, cross-connect, checksums", forward_commands},
	{"Bridge", fdb_commands},
	{"Configuration", config_commands},
	{"Upgrade", upgrade_commands},
};

const size_t n_command_groups = RTE_DIM(command_groups);

static void complete_port(void *ctx, struct cmd_candidates *out)
{
	const struct sluice *sl = ctx;
	struct port *port;

	PORT_FOREACH(sl, port)
	cmd_candidate(out, port->name);
}

int commands_create(struct sluice *sl, struct cmd_registry **reg, char *why, size_t why_len)
{
	int err = cmd_registry_new(command_groups, n_command_groups, sl, reg, why, why_len);

	if (err == 0 && sl)
		err = cmd_completer_add(*reg, "PORT", complete_port);
	return err;
}

struct port *cmd_port(struct cmd *c, const char *param)
{
	const char *name = cmd_str(c, param);
	struct port *port = port_find(cmd_ctx(c), name);

	if (!port)
		cmd_fail(c, -ENOENT, "there is no port '%s': see `port show`", name);
	return port;
}

int cmd_updated(struct cmd *c)
{
	if (plan_update(cmd_ctx(c)) < 0)
		return cmd_fail(
			c, -ENOMEM, "not enough memory for a new plan: the old one goes on");
	return 0;
}

int cmd_port_del(struct cmd *c, struct port *port)
{
	char name[PORT_NAME_MAX];
	int err;

	memcpy(name, port->name, sizeof(name));
	err = port_del(port);
	if (err == -ETIMEDOUT)
		return cmd_fail(c, err,
			"port '%s' is closed as soon as no worker uses it, and one has not come "
			"round for a second: is its core taken, or its thread stopped?",
			name);
	if (err < 0)
		return cmd_fail(c, err, "not enough memory to take port '%s' out: try again", name);
	return 0;
}

const char *mac_text(const struct rte_ether_addr *mac, char buf[static RTE_ETHER_ADDR_FMT_SIZE])
{
	snprintf(buf, RTE_ETHER_ADDR_FMT_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x", mac->addr_bytes[0],
		mac->addr_bytes[1], mac->addr_bytes[2], mac->addr_bytes[3], mac->addr_bytes[4],
		mac->addr_bytes[5]);
	return buf;
}

static void add_drop(json_t *list, const char *reason, uint64_t packets, const char *advice)
{
	if (packets)
		json_array_append_new(
			list, json_pack("{s:s, s:I, s:s}", "reason", reason, "packets",
				      (json_int_t)packets, "advice", advice));
}

void drops_json(json_t *list, const struct port_counters *c)
{
	for (unsigned d = 0; d < VIRTQ_DROP_COUNT; d++)
		add_drop(list, virtq_drop_name(d), c->ring_drops[d], virtq_drop_advice(d));
	for (unsigned d = 0; d < SWITCH_DROP_COUNT; d++)
		add_drop(list, switch_drop_name(d), c->drops[d], switch_drop_advice(d));
	add_drop(list, "rx_missed", c->rx_missed,
		"the device had no free descriptor: its worker is too busy");
}

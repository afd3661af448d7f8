/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands: which engine forwards, starting and stopping it, and the cross-connect's pairs. */
#include <errno.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_lcore.h>

#include "commands.h"
#include "show_config.h"

/* ---- the engine ---- */

static int set_fwd(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	sl->engine = engine_find(cmd_after(c, "fwd"));
	sl->conf.retry = cmd_has(c, "retry");
	cmd_printf(c, "Set %s packet forwarding mode%s\n", sl->engine->name,
		sl->conf.retry ? " with retry" : "");
	return cmd_updated(c);
}

static int set_retry(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	sl->conf.retry_delay_us = (uint32_t)cmd_u64(c, "US", 1);
	sl->conf.retry_count = (uint16_t)cmd_u64(c, "N", 64);
	return cmd_updated(c);
}

static int set_topology(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	sl->topology = (enum topology)topology_find(cmd_after(c, "topology"));
	return cmd_updated(c);
}

static int show_fwd(struct cmd *c)
{
	show_config_fwd(cmd_ctx(c), cmd_out(c));
	return 0;
}

/* ---- start, stop ---- */

static int start(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	if (sl->forwarding) {
		cmd_printf(c, "Packet forwarding already started\n");
		return 0;
	}
	if (sluice_start(sl) < 0)
		return cmd_fail(c, -ENOMEM, "not enough memory to start");
	show_config_fwd(sl, cmd_out(c));
	return 0;
}

static int start_tx_first(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	struct port *port;
	int err;

	PORT_FOREACH(sl, port)
	if (!port->up)
		cmd_printf(c, "Port %u (%s) is down: what is sent there is lost\n", port->id,
			port->name);
	err = sluice_start_tx_first(sl, (uint32_t)cmd_u64(c, "N", 1));
	if (err == -ETIME)
		cmd_printf(c, "Not all bursts were sent within a second\n");
	else if (err < 0)
		return cmd_fail(c, err, "not enough memory to start");
	show_config_fwd(sl, cmd_out(c));
	return 0;
}

static int stop(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	if (!sl->forwarding) {
		cmd_printf(c, "Packet forwarding not started\n");
		return 0;
	}
	cmd_printf(c, "Telling cores to stop...\n");
	if (sluice_stop(sl) < 0)
		return cmd_fail(c, -ENOMEM, "not enough memory for a new plan: forwarding goes on");
	cmd_printf(c, "Waiting for lcores to finish...\n\nDone.\n");
	return 0;
}

/* ---- cross-connect ---- */

static int cross_add(struct cmd *c)
{
	struct port *a = cmd_port(c, "A"), *b = a ? cmd_port(c, "B") : NULL;

	if (!a || !b)
		return -ENOENT;
	if (a == b)
		return cmd_fail(c, -EINVAL, "a port cannot be its own partner: name two ports");
	for (struct port *p = a; p; p = p == a ? b : NULL)
		if (p->cross && p->cross != a && p->cross != b)
			return cmd_fail(c, -EBUSY,
				"port '%s' is connected to '%s': `cross del %s` first", p->name,
				p->cross->name, p->name);
	a->cross = b;
	b->cross = a;
	return cmd_updated(c);
}

static int cross_del(struct cmd *c)
{
	struct port *a = cmd_port(c, "A");

	if (!a)
		return -ENOENT;
	if (!a->cross)
		return cmd_fail(c, -ENOENT, "port '%s' is connected to nobody", a->name);
	a->cross->cross = NULL;
	a->cross = NULL;
	return cmd_updated(c);
}

static int cross_show(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	json_t *list = json_array();
	struct port *port;

	PORT_FOREACH(sl, port)
	if (port->cross && port->id < port->cross->id)
		json_array_append_new(
			list, json_pack("{s:s, s:s}", "a", port->name, "b", port->cross->name));
	cmd_json(c, list);
	return 0;
}

/* ---- engine csum ---- */

static const struct {
	const char *name;
	uint64_t offload;
} sums[] = {
	{"ip", RTE_ETH_TX_OFFLOAD_IPV4_CKSUM},
	{"tcp", RTE_ETH_TX_OFFLOAD_TCP_CKSUM},
	{"udp", RTE_ETH_TX_OFFLOAD_UDP_CKSUM},
};

static int csum_set(struct cmd *c)
{
	struct port *port = cmd_port(c, "NAME");

	if (!port)
		return -ENOENT;
	for (size_t i = 0; i < RTE_DIM(sums); i++) {
		if (strcmp(cmd_after(c, "set"), sums[i].name) != 0)
			continue;
		port->csum_hw &= ~sums[i].offload;
		if (cmd_has(c, "hw"))
			port->csum_hw |= sums[i].offload;
	}
	return cmd_updated(c);
}

static int csum_show(struct cmd *c)
{
	const struct port *port = cmd_port(c, "NAME");
	json_t *o;

	if (!port)
		return -ENOENT;
	o = json_object();
	for (size_t i = 0; i < RTE_DIM(sums); i++)
		json_object_set_new(o, sums[i].name,
			json_string(port->csum_hw & sums[i].offload ? "hw" : "sw"));
	cmd_json(c, o);
	return 0;
}

#define ENGINES "(bridge|cross|io|mac|macswap|rxonly|txonly|flowgen|icmpecho|csum)"

const struct command forward_commands[] = {
	{"set fwd " ENGINES " [retry]", "choose the forwarding engine",
		"bridge is a learning L2 bridge over all ports; cross connects pairs made by "
		"`cross "
		"add`; the others are testpmd's and pass packets along `set portlist` and the "
		"topology. With retry, a full destination is tried again, see `set burst tx "
		"delay`.",
		set_fwd, 0},
	{"set burst tx delay US:0..1000 retry N:0..65535", "how `set fwd ENGINE retry` tries again",
		NULL, set_retry, 0},
	{"set topology (paired|chained|loop)", "how testpmd's engines pair the ports of the list",
		"paired: 0 with 1, 2 with 3; chained: 0 to 1, 1 to 2, the last to 0; loop: each to "
		"itself.",
		set_topology, 0},
	{"show config fwd", "engine, and which lcore polls which queue", NULL, show_fwd, 0},
	{"start", "begin forwarding", NULL, start, 0},
	{"start tx_first [N:1..100000]", "send N bursts of `set txpkts` packets first",
		"Each queue sends N bursts (default 1), then the engine forwards.", start_tx_first,
		0},
	{"stop", "end forwarding", NULL, stop, 0},
	{"cross add A:PORT B:PORT", "connect two ports (with `set fwd cross`)", NULL, cross_add, 0},
	{"cross del A:PORT", "disconnect a port from its partner", NULL, cross_del, 0},
	{"cross show", "pairs of connected ports", NULL, cross_show, 0},
	{"csum set (ip|tcp|udp) (hw|sw) NAME:PORT", "who computes checksums in `set fwd csum`",
		"hw: the port the packet leaves by; sw: the engine.", csum_set, 0},
	{"csum show NAME:PORT", "who computes checksums in `set fwd csum`", NULL, csum_show, 0},
	{0},
};

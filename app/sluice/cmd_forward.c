/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands: the topology, the cross-connect's pairs, who computes checksums. */
#include <errno.h>
#include <string.h>

#include <rte_ethdev.h>

#include "commands.h"

static int set_topology(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	sl->topology = (enum topology)topology_find(cmd_after(c, "topology"));
	return cmd_updated(c);
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

const struct command forward_commands[] = {
	{"set topology (paired|chained|loop)", "how testpmd's engines pair the ports of the list",
		"paired: 0 with 1, 2 with 3; chained: 0 to 1, 1 to 2, the last to 0; loop: each to "
		"itself.",
		set_topology, 0},
	{"cross add A:PORT B:PORT", "connect two ports (with `set fwd cross`)", NULL, cross_add, 0},
	{"cross del A:PORT", "disconnect a port from its partner", NULL, cross_del, 0},
	{"cross show", "pairs of connected ports", NULL, cross_show, 0},
	{"csum set (ip|tcp|udp) (hw|sw) NAME:PORT", "who computes checksums in `set fwd csum`",
		"hw: the port the packet leaves by; sw: the engine.", csum_set, 0},
	{"csum show NAME:PORT", "who computes checksums in `set fwd csum`", NULL, csum_show, 0},
	{0},
};

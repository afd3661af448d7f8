/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands: ports come and go, queues move. `port show` is in cmd_port_show.c. */
#include <errno.h>
#include <string.h>

#include "commands.h"
#include "placement.h"
#include "port_show.h"

static int added(struct cmd *c, int err, const struct port *port, const char *why)
{
	if (err < 0)
		return cmd_fail(c, err, "%s", why);
	cmd_printf(c, "port %s is number %u\n", port->name, port->id);
	cmd_json(c, json_pack("{s:s, s:i}", "name", port->name, "port", port->id));
	return 0;
}

static int add_vm(struct cmd *c, bool listen)
{
	struct port_vm_options options = {
		.postcopy = cmd_has(c, "postcopy"),
		.iommu = cmd_has(c, "iommu"),
		.copy = cmd_has(c, "copy"),
		.has_mac = cmd_has(c, "ADDR"),
		.access = USOCK_ACCESS_DEFAULT,
	};
	char why[512] = "";
	struct port *port = NULL;
	int err;

	if (options.has_mac)
		cmd_mac(c, "ADDR", options.mac.addr_bytes);
	err = usock_parse_access(cmd_str(c, "USER"), cmd_str(c, "GROUP"), cmd_str(c, "MODE"),
		&options.access, why, sizeof(why));
	if (err < 0)
		return cmd_fail(c, err, "%s", why);
	err = port_add_vm(cmd_ctx(c), cmd_str(c, "NAME"), cmd_str(c, "PATH"), listen,
		(uint16_t)cmd_u64(c, "N", 1), &options, &port, why, sizeof(why));
	return added(c, err, port, why);
}

static int add_listen(struct cmd *c)
{
	return add_vm(c, true);
}

static int add_connect(struct cmd *c)
{
	return add_vm(c, false);
}

static int add_dev(struct cmd *c)
{
	char why[512] = "";
	struct port *port = NULL;
	int err = port_add_dev(cmd_ctx(c), cmd_str(c, "NAME"), cmd_str(c, "DEVARGS"),
		(uint16_t)cmd_u64(c, "N", 1), &port, why, sizeof(why));

	return added(c, err, port, why);
}

static int del(struct cmd *c)
{
	struct port *port = cmd_port(c, "NAME");

	if (!port)
		return -ENOENT;
	return cmd_port_del(c, port);
}

static int show(struct cmd *c)
{
	struct port *port;

	if (!cmd_has(c, "NAME")) {
		cmd_json(c, port_list_json(cmd_ctx(c)));
		return 0;
	}
	port = cmd_port(c, "NAME");
	if (!port)
		return -ENOENT;
	cmd_json(c, port_json(port));
	return 0;
}

static int set_peer(struct cmd *c)
{
	struct port *port = cmd_port(c, "NAME");

	if (!port)
		return -ENOENT;
	cmd_mac(c, "ADDR", port->peer.addr_bytes);
	return cmd_updated(c);
}

/* ---- queues ---- */

static int check_queue(struct cmd *c, const struct port *port, uint64_t queue)
{
	if (queue < port->n_rxq)
		return 0;
	return cmd_fail(c, -ERANGE, "port '%s' has receive queues 0 to %u, no %ju", port->name,
		port->n_rxq - 1u, (uintmax_t)queue);
}

static int pin(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	struct port *port = cmd_port(c, "NAME");
	uint64_t queue = cmd_u64(c, "QUEUE", 0), lcore = cmd_u64(c, "LCORE", 0);
	struct worker *w = worker_of_lcore(sl, (unsigned)lcore);

	if (!port)
		return -ENOENT;
	if (check_queue(c, port, queue) < 0)
		return -ERANGE;
	if (!w)
		return cmd_fail(c, -EINVAL,
			"lcore %ju forwards no packets: see `show config cores` for those that do",
			(uintmax_t)lcore);
	placement_pin(port, (unsigned)queue, w);
	return cmd_updated(c);
}

static int unpin(struct cmd *c)
{
	struct port *port = cmd_port(c, "NAME");
	uint64_t queue = cmd_u64(c, "QUEUE", 0);

	if (!port)
		return -ENOENT;
	if (check_queue(c, port, queue) < 0)
		return -ERANGE;
	placement_unpin(port, (unsigned)queue);
	return 0;
}

const struct command port_commands[] = {
	{"port add NAME listen PATH [queues N:1..128] [mac ADDR:mac] [owner USER] [group GROUP] "
	 "[mode MODE] [postcopy] [iommu] [copy]",
		"add a VM port; the VMM connects to PATH",
		"PATH is the vhost-user socket, which sluice creates; QEMU's -chardev "
		"socket,path=PATH,reconnect=1 connects to it. N is how many queue pairs the guest "
		"may "
		"use (default 1). ADDR is the guest's address where the VMM asks the back-end for "
		"it, "
		"as cloud-hypervisor does; QEMU has its own and only warns. With postcopy the "
		"guest "
		"may be migrated to here by post-copy, with iommu its driver may use the IOMMU the "
		"VMM "
		"gives it (QEMU: iommu_platform=on). Large packets are sent out of the guest's own "
		"memory; with copy they are copied first, as they are with postcopy and iommu. The "
		"socket belongs to USER and GROUP (names or numbers) and has the permissions MODE "
		"(octal), so that only its VMM can connect; without, it is ours, and the umask "
		"says who may.",
		add_listen, 0},
	{"port add NAME connect PATH [queues N:1..128] [mac ADDR:mac] [postcopy] [iommu] [copy]",
		"add a VM port; sluice connects to the VMM's PATH",
		"The VMM creates the socket, as QEMU's -chardev socket,path=PATH,server=on does. "
		"Tried again for ever, so that it survives restarts on both sides.",
		add_connect, 0},
	{"port add NAME dev DEVARGS [queues N:1..128]", "add a DPDK device",
		"DEVARGS is a PCI address (0000:01:00.0), or a virtual device with its arguments, "
		"such "
		"as net_tap0,iface=up0 or net_af_packet0,iface=eth1. N is the number of receive "
		"queues "
		"(default 1).",
		add_dev, 0},
	{"port del NAME:PORT", "delete a port", NULL, del, 0},
	{"port show [NAME:PORT]", "all ports, or one in full",
		"In full: negotiated features, socket, memory regions, rings with their fill "
		"level, "
		"drops by reason, and when a guest does not come up the likely cause.",
		show, 0},
	{"queue pin NAME:PORT QUEUE:0..127 LCORE:0..", "have one lcore poll a port's receive queue",
		"The queue moves at once, under traffic, and stays until it is unpinned or "
		"deleted.",
		pin, 0},
	{"queue unpin NAME:PORT QUEUE:0..127", "let sluice choose the lcore again",
		"The queue stays where it is until it is disabled and enabled again.", unpin, 0},
	{"set eth-peer NAME:PORT ADDR:mac", "destination address of engines mac, csum and txonly",
		NULL, set_peer, 0},
	{0},
};

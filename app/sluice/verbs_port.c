/* SPDX-License-Identifier: BSD-3-Clause */
/* testpmd's verbs: attaching and detaching ports, and its steps that are not needed here. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_kvargs.h>

#include "verbs.h"

static unsigned total(const struct sluice *sl)
{
	struct port *port;
	unsigned n = 0;

	PORT_FOREACH(sl, port)
	n++;
	return n;
}

/* ---- attach ---- */

/* testpmd's vhost devices, net_vhost0,iface=PATH,..., are VM ports here. */
struct vhost_args {
	char iface[USOCK_PATH_MAX];
	unsigned queues;
	bool client;
};

static bool is_vhost(const char *devargs)
{
	static const char *const drivers[] = {"net_vhost", "eth_vhost", "net_sluice"};

	for (size_t i = 0; i < RTE_DIM(drivers); i++) {
		size_t len = strlen(drivers[i]);

		if (strncmp(devargs, drivers[i], len) == 0 &&
			(isdigit((unsigned char)devargs[len]) || devargs[len] == ',' ||
				!devargs[len]))
			return true;
	}
	return false;
}

static int take_number(const char *value, unsigned min, unsigned max, unsigned *out)
{
	char *end;
	unsigned long n = value ? strtoul(value, &end, 10) : 0;

	if (!value || !isdigit((unsigned char)*value) || *end || n < min || n > max)
		return -EINVAL;
	*out = (unsigned)n;
	return 0;
}

static int take_iface(const char *key, const char *value, void *arg)
{
	struct vhost_args *a = arg;

	if (!value || !*value || strlen(value) >= sizeof(a->iface))
		return -EINVAL;
	snprintf(a->iface, sizeof(a->iface), "%s", value);
	return 0;
}

static int take_queues(const char *key, const char *value, void *arg)
{
	struct vhost_args *a = arg;

	return take_number(value, 1, VU_QUEUE_PAIRS_MAX, &a->queues);
}

static int take_client(const char *key, const char *value, void *arg)
{
	struct vhost_args *a = arg;
	unsigned client = 0;
	int err = take_number(value, 0, 1, &client);

	a->client = client;
	return err;
}

static int parse_vhost(struct cmd *c, const char *devargs, struct vhost_args *a)
{
	static const char *const keys[] = {"iface", "queues", "client", NULL};
	const char *comma = strchr(devargs, ',');
	struct rte_kvargs *kv = rte_kvargs_parse(comma ? comma + 1 : "", keys);
	int err = -EINVAL;

	*a = (struct vhost_args){.queues = 1};
	if (kv && rte_kvargs_process(kv, "iface", take_iface, a) == 0 &&
		rte_kvargs_process(kv, "queues", take_queues, a) == 0 &&
		rte_kvargs_process(kv, "client", take_client, a) == 0 && *a->iface)
		err = 0;
	rte_kvargs_free(kv);
	if (err < 0)
		cmd_fail(c, err,
			"Failed to attach port %s: a vhost port takes iface=PATH, "
			"queues=1..%d and client=0|1",
			devargs, VU_QUEUE_PAIRS_MAX);
	return err;
}

/* The device's own name if it can be a port's, else the first portN that is free. */
static void make_name(const struct sluice *sl, const char *devargs, char name[PORT_NAME_MAX])
{
	char why[512];
	unsigned i = 0;

	snprintf(name, PORT_NAME_MAX, "%.*s",
		(int)RTE_MIN(strcspn(devargs, ","), PORT_NAME_MAX - 1u), devargs);
	while (port_check_name(sl, name, why, sizeof(why)) < 0)
		snprintf(name, PORT_NAME_MAX, "port%u", i++);
}

static int attach(struct cmd *c)
{
	const char *devargs = cmd_str(c, "DEVARGS");
	struct sluice *sl = cmd_ctx(c);
	char name[PORT_NAME_MAX], why[512] = "";
	struct port *port = NULL;
	struct vhost_args a;
	int err;

	make_name(sl, devargs, name);
	if (is_vhost(devargs)) {
		err = parse_vhost(c, devargs, &a);
		if (err < 0)
			return err;
		err = port_add_vm(sl, name, a.iface, !a.client, (uint16_t)a.queues, NULL, &port,
			why, sizeof(why));
	} else {
		err = port_add_dev(sl, name, devargs, 1, &port, why, sizeof(why));
	}
	if (err < 0)
		return cmd_fail(c, err, "Failed to attach port %s: %s", devargs, why);
	cmd_printf(c, "Attaching a new port...\nPort %u is attached. Now total ports is %u\nDone\n",
		port->id, total(sl));
	cmd_json(c, verb_port_json(port));
	return 0;
}

/* ---- detach ---- */

static int detach(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	struct port *port = cmd_port(c, "PORT");
	unsigned id;
	int err;

	if (!port)
		return -ENOENT;
	id = port->id;
	cmd_json(c, verb_port_json(port));
	err = cmd_port_del(c, port);
	if (err < 0)
		return err;
	cmd_printf(c,
		"Removing a device...\nPort %u is closed\nDevice is detached\nNow total ports is "
		"%u\nDone\n",
		id, total(sl));
	return 0;
}

/* ---- not needed ---- */

static int not_needed(struct cmd *c)
{
	const char *verb = cmd_after(c, "port");
	struct port *list[PORT_MAX];
	int n = verb_ports(c, list);

	if (n < 0)
		return n;
	cmd_printf(c,
		"port %s is not needed here: a port works from `port attach` to `port detach`\n",
		verb);
	cmd_json(c, json_pack("{s:b}", "needed", 0));
	return 0;
}

const struct command hotplug_commands[] = {
	{"port attach DEVARGS", "add a port under a name made from its device's",
		"As `port add NAME dev DEVARGS`. net_vhost0,iface=PATH[,queues=N][,client=1] "
		"becomes a "
		"VM port: `port add net_vhost0 listen PATH`, or connect.",
		attach, 0},
	{"port detach PORT", "delete a port, as `port del`", NULL, detach, 0},
	{"port (start|stop|close) (all|PORT)", "nothing: ports need no such steps here",
		"Scripts made for testpmd use them.", not_needed, 0},
	{0},
};

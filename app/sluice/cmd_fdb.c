/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands: the bridge's forwarding database. */
#include <errno.h>

#include "commands.h"
#include "fdb.h"

#define ROWS 256

static uint64_t key_of(struct cmd *c)
{
	struct rte_ether_addr mac = {{0}};

	cmd_mac(c, "ADDR", mac.addr_bytes);
	return fdb_key(&mac, 0);
}

/* ---- show ---- */

static json_t *row_json(const struct sluice *sl, const struct fdb_row *row)
{
	const struct port *port = port_by_id(sl, row->port);
	char text[RTE_ETHER_ADDR_FMT_SIZE];
	struct rte_ether_addr mac;
	json_t *o;

	fdb_key_mac(row->key, &mac);
	o = json_pack("{s:s, s:s, s:s}", "address", mac_text(&mac, text), "port",
		port ? port->name : "?", "kind", row->is_static ? "static" : "learnt");
	if (row->seen)
		json_object_set_new(o, "age", json_integer((json_int_t)(sl->now - row->seen)));
	return o;
}

static json_t *rows_json(const struct sluice *sl, const struct port *only)
{
	json_t *list = json_array();
	struct fdb_row rows[ROWS];
	uint32_t cursor = 0;
	unsigned n;

	while ((n = fdb_show(sl->fdb, &cursor, rows, ROWS)) > 0)
		for (unsigned i = 0; i < n; i++)
			if (!only || rows[i].port == only->id)
				json_array_append_new(list, row_json(sl, &rows[i]));
	return list;
}

static int show(struct cmd *c)
{
	struct port *only = NULL;

	if (cmd_has(c, "NAME")) {
		only = cmd_port(c, "NAME");
		if (!only)
			return -ENOENT;
	}
	cmd_json(c, rows_json(cmd_ctx(c), only));
	return 0;
}

static json_t *limits_json(const struct sluice *sl)
{
	json_t *list = json_array();
	struct fdb_port_stats st;
	struct port *port;

	PORT_FOREACH(sl, port)
	{
		if (fdb_port_stats(sl->fdb, port->id, &st) < 0)
			continue;
		json_array_append_new(
			list, json_pack("{s:s, s:I, s:I, s:I}", "port", port->name, "learnt",
				      (json_int_t)st.learnt, "limit", (json_int_t)st.limit,
				      "refused", (json_int_t)st.refused));
	}
	return list;
}

static int stats(struct cmd *c)
{
	const struct sluice *sl = cmd_ctx(c);
	json_t *o = json_object();
	struct fdb_stats st;

	fdb_stats(sl->fdb, &st);
	json_object_set_new(o, "ageing", json_integer(fdb_max_age(sl->fdb)));
	json_object_set_new(o, "entries", json_integer(st.entries));
	json_object_set_new(o, "learnt_now", json_integer(st.learnt));
	json_object_set_new(o, "static_now", json_integer(st.statics));
	for (unsigned i = 0; i < FDB_COUNTER_COUNT; i++)
		json_object_set_new(
			o, fdb_counter_name(i), json_integer((json_int_t)st.counter[i]));
	json_object_set_new(o, "ports", limits_json(sl));
	cmd_json(c, o);
	return 0;
}

/* ---- change ---- */

static int flush(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	struct port *port;

	if (!cmd_has(c, "NAME")) {
		fdb_flush_all(sl->fdb, false);
		return 0;
	}
	port = cmd_port(c, "NAME");
	return port ? fdb_flush_port(sl->fdb, port->id, false) : -ENOENT;
}

static int set_ageing(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	return fdb_set_max_age(sl->fdb, (uint32_t)cmd_u64(c, "SECONDS", FDB_MAX_AGE));
}

static int set_limit(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	struct port *port = cmd_port(c, "NAME");
	uint32_t limit = cmd_has(c, "none") ? UINT32_MAX : (uint32_t)cmd_u64(c, "N", 0);

	return port ? fdb_set_limit(sl->fdb, port->id, limit) : -ENOENT;
}

static int add_static(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	struct port *port = cmd_port(c, "NAME");
	int err = port ? fdb_add_static(sl->fdb, key_of(c), port->id) : -ENOENT;

	if (err == -EINVAL)
		return cmd_fail(c, err,
			"%s is no station's address: it must be neither a group's nor "
			"all zero",
			cmd_str(c, "ADDR"));
	if (err == -ENOSPC)
		return cmd_fail(c, err, "the table is full: flush it, or delete static entries");
	return err;
}

static int del(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	int err = fdb_del(sl->fdb, key_of(c));

	return err < 0 ? cmd_fail(c, err, "%s is not in the table", cmd_str(c, "ADDR")) : 0;
}

const struct command fdb_commands[] = {
	{"fdb show [NAME:PORT]", "addresses the bridge knows", NULL, show, 0},
	{"fdb stats", "counters of the forwarding database", NULL, stats, 0},
	{"fdb flush [NAME:PORT]", "forget learnt addresses, of one port or all", NULL, flush, 0},
	{"fdb set ageing SECONDS:0..2147483647", "forget an address not seen for so long",
		"0: never. The default is 300.", set_ageing, 0},
	{"fdb set limit NAME:PORT (none|N:0..4294967294)",
		"how many addresses a port may have learnt",
		"Packets from further addresses are forwarded, packets to them flooded. The "
		"default is "
		"8192.",
		set_limit, 0},
	{"fdb static add ADDR:mac NAME:PORT", "bind an address to a port",
		"It is never aged and never moves to another port.", add_static, 0},
	{"fdb static del ADDR:mac", "forget an address", NULL, del, 0},
	{0},
};

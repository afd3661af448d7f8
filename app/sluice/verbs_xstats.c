/* SPDX-License-Identifier: BSD-3-Clause */
/* testpmd's verbs: extended statistics; a VM port's carry librte_vhost's names. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include <rte_ethdev.h>

#include "verbs.h"
#include "virtq_stats.h"

/* Where statistics go: the text and an object. */
struct sink {
	struct cmd *c;
	json_t *o;
};

__attribute__((format(printf, 3, 4))) static void put(
	struct sink *s, uint64_t value, const char *format, ...)
{
	char name[RTE_ETH_XSTATS_NAME_SIZE];
	va_list ap;

	va_start(ap, format);
	vsnprintf(name, sizeof(name), format, ap);
	va_end(ap);
	cmd_printf(s->c, "%s: %" PRIu64 "\n", name, value);
	json_object_set_new(s->o, name, json_integer((json_int_t)value));
}

/* ---- VM ports ---- */

/* What ethdev puts before a driver's own. */
static void put_basic(struct sink *s, const struct port *port)
{
	struct port_counters c;
	struct verb_counters v;

	port_counters_get(port, &c);
	verb_counters(&c, &v);
	put(s, v.rx_packets, "rx_good_packets");
	put(s, v.tx_packets, "tx_good_packets");
	put(s, v.rx_bytes, "rx_good_bytes");
	put(s, v.tx_bytes, "tx_good_bytes");
	put(s, v.rx_missed, "rx_missed_errors");
	put(s, v.rx_errors, "rx_errors");
	put(s, v.tx_errors, "tx_errors");
	put(s, v.rx_nombuf, "rx_mbuf_allocation_errors");
}

static void put_queue_basic(struct sink *s, const struct port *port, bool rx, unsigned i)
{
	const char *side = rx ? "rx" : "tx";
	struct virtq_stats st;

	port_ring_stats(port, i, !rx, &st);
	put(s, st.packets, "%s_q%u_packets", side, i);
	put(s, st.bytes, "%s_q%u_bytes", side, i);
	if (rx)
		put(s, virtq_stats_drops(&st, false), "rx_q%u_errors", i);
}

static void put_queue(struct sink *s, const struct port *port, bool rx, unsigned i)
{
	const char *name;
	struct virtq_stats st;
	uint64_t value;

	port_ring_stats(port, i, !rx, &st);
	for (unsigned k = 0; (name = virtq_stats_next(&st, !rx, &k, &value)) != NULL;)
		put(s, value, "%s_q%u_%s", rx ? "rx" : "tx", i, name);
}

static void put_vm(struct sink *s, const struct port *port)
{
	put_basic(s, port);
	for (int tx = 0; tx <= 1; tx++)
		for (unsigned i = 0; i < port->n_rxq; i++)
			put_queue_basic(s, port, !tx, i);
	for (int tx = 0; tx <= 1; tx++)
		for (unsigned i = 0; i < port->n_rxq; i++)
			put_queue(s, port, !tx, i);
}

/* ---- devices ---- */

static int put_dev(struct sink *s, const struct port *port)
{
	uint16_t eth = port->dev.eth;
	int n = port_dev_mute(port) ? 0 : rte_eth_xstats_get(eth, NULL, 0);
	struct rte_eth_xstat_name *names = n > 0 ? calloc((size_t)n, sizeof(*names)) : NULL;
	struct rte_eth_xstat *values = n > 0 ? calloc((size_t)n, sizeof(*values)) : NULL;
	bool ok = names && values && rte_eth_xstats_get_names(eth, names, (unsigned)n) == n &&
		  rte_eth_xstats_get(eth, values, (unsigned)n) == n;

	for (int i = 0; ok && i < n; i++)
		put(s, values[i].value, "%s", names[values[i].id].name);
	free(names);
	free(values);
	return ok || n == 0 ? 0 : -EIO;
}

/* ---- the verbs ---- */

static void put_switch(struct sink *s, const struct port *port)
{
	struct port_counters c;

	port_counters_get(port, &c);
	for (unsigned d = 0; d < SWITCH_DROP_COUNT; d++)
		put(s, c.drops[d], "drop_%s", switch_drop_name(d));
	put(s, c.left_out, "left_out_polls");
}

static int show_port(struct cmd *c, const struct port *port, json_t *o)
{
	struct sink s = {c, json_object()};
	int err = 0;

	cmd_printf(c, "###### NIC extended statistics for port %-2u\n", port->id);
	if (port->kind == PORT_VM)
		put_vm(&s, port);
	else
		err = put_dev(&s, port);
	put_switch(&s, port);
	json_object_set_new(o, "xstats", s.o);
	return err;
}

static int show(struct cmd *c)
{
	struct port *list[PORT_MAX];
	int n = verb_ports(c, list), err = n < 0 ? n : 0;
	json_t *all = json_array();

	for (int i = 0; i < n; i++) {
		json_t *o = verb_port_json(list[i]);

		if (show_port(c, list[i], o) < 0)
			err = cmd_fail(c, -EIO,
				"the driver of port '%s' gives no extended statistics",
				list[i]->name);
		json_array_append_new(all, o);
	}
	verb_json_ports(c, all);
	return err;
}

static int clear(struct cmd *c)
{
	struct port *list[PORT_MAX];
	int n = verb_ports(c, list);
	json_t *all = json_array();

	for (int i = 0; i < n; i++) {
		verb_port_clear(list[i], true);
		list[i]->shown = (struct port_shown){0};
		json_array_append_new(all, verb_port_json(list[i]));
	}
	verb_json_ports(c, all);
	cmd_quiet(c);
	return n < 0 ? n : 0;
}

const struct command xstats_commands[] = {
	{"show port xstats (all|PORT)", "extended statistics, by queue",
		"Of VM ports under librte_vhost's names, with one counter for each reason to drop "
		"a "
		"packet; of devices what their driver has.",
		show, 0},
	{"clear port xstats (all|PORT)", "count from zero",
		"The counters of `show port stats` are cleared too.", clear, 0},
	{0},
};

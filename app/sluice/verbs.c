/* SPDX-License-Identifier: BSD-3-Clause */
/* What the handlers of testpmd's verbs share. */
#include "verbs.h"

#include <errno.h>
#include <time.h>

#include <rte_ethdev.h>

static uint64_t sum(const uint64_t *drops, unsigned from, unsigned to)
{
	uint64_t n = 0;

	for (unsigned i = from; i <= to; i++)
		n += drops[i];
	return n;
}

/* A VM's ring drops are sorted into the classes that testpmd knows from devices. What found no
 * room at the guest is dropped by the engine, in its terms, and no error of the port. */
void verb_counters(const struct port_counters *c, struct verb_counters *out)
{
	const uint64_t *ring = c->ring_drops;

	*out = (struct verb_counters){
		.rx_packets = c->rx_packets,
		.rx_bytes = c->rx_bytes,
		.rx_missed =
			c->rx_missed + ring[VIRTQ_DROP_RX_NO_MBUF] + ring[VIRTQ_DROP_RX_DISABLED],
		.rx_errors = c->rx_errors + ring[VIRTQ_DROP_RX_SHORT] +
			     ring[VIRTQ_DROP_RX_BAD_HEADER] + ring[VIRTQ_DROP_RX_TOO_BIG],
		.rx_nombuf = c->rx_nombuf,
		.tx_packets = c->tx_packets,
		.tx_bytes = c->tx_bytes,
		.tx_errors =
			c->tx_errors + ring[VIRTQ_DROP_TX_TOO_BIG] + ring[VIRTQ_DROP_TX_OFFLOAD],
		.tx_dropped = c->tx_errors +
			      sum(ring, VIRTQ_DROP_TX_NO_BUFFER, VIRTQ_DROP_COUNT - 1) +
			      sum(c->drops, SWITCH_DROP_FIRST_TX, SWITCH_DROP_COUNT - 1),
	};
}

/* a -= b; both are nothing but uint64_t. */
static void subtract(struct port_counters *a, const struct port_counters *b)
{
	for (size_t i = 0; i < sizeof(*a) / sizeof(uint64_t); i++)
		((uint64_t *)a)[i] -= ((const uint64_t *)b)[i];
}

void verb_forward_counters(const struct port *port, struct port_counters *out)
{
	port_counters_get(port, out);
	subtract(out, &port->forward_base);
}

void verb_forward_clear(struct port *port)
{
	port_counters_get(port, &port->forward_base);
	port_stream_stats_clear(port);
}

/* What the port's counters lose, the forward statistics' beginning loses too (below zero: it is
 * only ever subtracted). Some drivers reset the basic counters with the extended ones. */
void verb_port_clear(struct port *port, bool device)
{
	struct port_counters before;

	port_counters_get(port, &before);
	if (device && port->kind == PORT_DEV && !port_dev_mute(port))
		rte_eth_xstats_reset(port->dev.eth);
	port_counters_clear(port);
	subtract(&port->forward_base, &before);
}

int verb_ports(struct cmd *c, struct port *list[static PORT_MAX])
{
	struct port *port;
	int n = 0;

	if (!cmd_has(c, "all")) {
		list[0] = cmd_port(c, "PORT");
		return list[0] ? 1 : -ENOENT;
	}
	PORT_FOREACH((struct sluice *)cmd_ctx(c), port)
	list[n++] = port;
	return n;
}

unsigned verb_forwarding_ports(const struct sluice *sl, struct port *list[static PORT_MAX])
{
	struct port *port;
	unsigned n = 0;

	PORT_FOREACH(sl, port)
	n += plan_forwards(sl, port);
	/* The list's order, or all by number: bridge and cross do not look at it. */
	if (plan_port_list(sl, list) == n)
		return n;
	n = 0;
	PORT_FOREACH(sl, port)
	list[n++] = port;
	return n;
}

void verb_json_ports(struct cmd *c, json_t *list)
{
	if (cmd_has(c, "all")) {
		cmd_json(c, list);
		return;
	}
	cmd_json(c, json_incref(json_array_get(list, 0)));
	json_decref(list);
}

void verb_json_number(struct cmd *c, const char *name, uint64_t value)
{
	cmd_json(c, json_pack("{s:I}", name, (json_int_t)value));
}

json_t *verb_counters_json(const struct verb_counters *c)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "rx_packets",
		(json_int_t)c->rx_packets, "rx_bytes", (json_int_t)c->rx_bytes, "rx_missed",
		(json_int_t)c->rx_missed, "rx_errors", (json_int_t)c->rx_errors, "rx_nombuf",
		(json_int_t)c->rx_nombuf, "tx_packets", (json_int_t)c->tx_packets, "tx_bytes",
		(json_int_t)c->tx_bytes, "tx_errors", (json_int_t)c->tx_errors, "tx_dropped",
		(json_int_t)c->tx_dropped);
}

json_t *verb_port_json(const struct port *port)
{
	return json_pack("{s:i, s:s}", "port", port->id, "name", port->name);
}

uint64_t verb_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

int verb_numbers(struct cmd *c, const char *text, unsigned max, uint16_t *out, unsigned room)
{
	char why[256];
	int n = options_parse_list(text, max, out, room, why, sizeof(why));

	return n < 0 ? cmd_fail(c, n, "%s", why) : n;
}

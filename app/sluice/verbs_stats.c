/* SPDX-License-Identifier: BSD-3-Clause */
/* testpmd's verbs: counters of ports. */
#include <errno.h>
#include <inttypes.h>

#include "verbs.h"

#define BORDER "############################"

/* ---- since the last show ---- */

struct rates {
	uint64_t rx_pps, rx_bps, tx_pps, tx_bps;
};

static uint64_t per_second(uint64_t now, uint64_t before, uint64_t ns)
{
	return ns ? (uint64_t)((double)(now - before) * 1e9 / (double)ns) : 0;
}

static void shown(struct port *port, uint64_t now, const struct verb_counters *c)
{
	port->shown = (struct port_shown){
		.time = now,
		.rx_packets = c->rx_packets,
		.rx_bytes = c->rx_bytes,
		.tx_packets = c->tx_packets,
		.tx_bytes = c->tx_bytes,
	};
}

/* testpmd's first rates are 0 too. */
static struct rates take_rates(struct port *port, const struct verb_counters *c)
{
	const struct port_shown *old = &port->shown;
	uint64_t now = verb_now(), ns = old->time ? now - old->time : 0;
	struct rates r = {
		.rx_pps = per_second(c->rx_packets, old->rx_packets, ns),
		.rx_bps = 8 * per_second(c->rx_bytes, old->rx_bytes, ns),
		.tx_pps = per_second(c->tx_packets, old->tx_packets, ns),
		.tx_bps = 8 * per_second(c->tx_bytes, old->tx_bytes, ns),
	};

	shown(port, now, c);
	return r;
}

/* ---- show ---- */

static void print(struct cmd *c, const struct port *port, const struct verb_counters *v,
	const struct rates *r)
{
	cmd_printf(c,
		"\n  ######################## NIC statistics for port %-2u "
		"########################\n",
		port->id);
	cmd_printf(c,
		"  RX-packets: %-10" PRIu64 " RX-missed: %-10" PRIu64 " RX-bytes:  %-" PRIu64 "\n",
		v->rx_packets, v->rx_missed, v->rx_bytes);
	cmd_printf(c, "  RX-errors: %-" PRIu64 "\n", v->rx_errors);
	cmd_printf(c, "  RX-nombuf:  %-10" PRIu64 "\n", v->rx_nombuf);
	cmd_printf(c,
		"  TX-packets: %-10" PRIu64 " TX-errors: %-10" PRIu64 " TX-bytes:  %-" PRIu64 "\n",
		v->tx_packets, v->tx_errors, v->tx_bytes);
	cmd_printf(c, "\n  Throughput (since last show)\n");
	cmd_printf(c,
		"  Rx-pps: %12" PRIu64 "          Rx-bps: %12" PRIu64 "\n"
		"  Tx-pps: %12" PRIu64 "          Tx-bps: %12" PRIu64 "\n",
		r->rx_pps, r->rx_bps, r->tx_pps, r->tx_bps);
	cmd_printf(c, "  " BORDER "####################" BORDER "\n");
}

/* {"reason": packets} of those that occurred. */
static json_t *drops_by_reason(const struct port_counters *pc)
{
	json_t *o = json_object();

	for (unsigned d = 0; d < VIRTQ_DROP_COUNT; d++)
		if (pc->ring_drops[d])
			json_object_set_new(
				o, virtq_drop_name(d), json_integer((json_int_t)pc->ring_drops[d]));
	for (unsigned d = 0; d < SWITCH_DROP_COUNT; d++)
		if (pc->drops[d])
			json_object_set_new(
				o, switch_drop_name(d), json_integer((json_int_t)pc->drops[d]));
	return o;
}

static json_t *to_json(const struct port *port, const struct port_counters *pc,
	const struct verb_counters *v, const struct rates *r)
{
	json_t *o = verb_port_json(port);

	json_object_update_new(o, verb_counters_json(v));
	json_object_update_new(o, json_pack("{s:I, s:I, s:I, s:I}", "rx_pps", (json_int_t)r->rx_pps,
					  "rx_bps", (json_int_t)r->rx_bps, "tx_pps",
					  (json_int_t)r->tx_pps, "tx_bps", (json_int_t)r->tx_bps));
	json_object_set_new(o, "drops", drops_by_reason(pc));
	return o;
}

static int show(struct cmd *c)
{
	struct port *list[PORT_MAX];
	int n = verb_ports(c, list);
	json_t *all = json_array();

	for (int i = 0; i < n; i++) {
		struct port_counters pc;
		struct verb_counters v;
		struct rates r;

		port_counters_get(list[i], &pc);
		verb_counters(&pc, &v);
		r = take_rates(list[i], &v);
		print(c, list[i], &v, &r);
		json_array_append_new(all, to_json(list[i], &pc, &v, &r));
	}
	verb_json_ports(c, all);
	return n < 0 ? n : 0;
}

/* ---- clear ---- */

static int clear(struct cmd *c)
{
	static const struct verb_counters zero;
	struct port *list[PORT_MAX];
	int n = verb_ports(c, list);
	json_t *all = json_array();

	for (int i = 0; i < n; i++) {
		verb_port_clear(list[i], false);
		shown(list[i], verb_now(), &zero);
		cmd_printf(c, "\n  NIC statistics for port %u cleared\n", list[i]->id);
		json_array_append_new(all, verb_port_json(list[i]));
	}
	verb_json_ports(c, all);
	return n < 0 ? n : 0;
}

const struct command stats_commands[] = {
	{"show port stats (all|PORT)", "packets, bytes, errors and the rates since the last show",
		"RX-missed counts packets nobody could take (no descriptor or mbuf free, a "
		"disabled "
		"queue), RX-errors what was no packet, TX-errors what was taken and could not be "
		"delivered. What found no room at a guest is TX-dropped in `show fwd stats all`. "
		"The "
		"first rates are 0.",
		show, 0},
	{"clear port stats (all|PORT)", "count from zero", NULL, clear, 0},
	{0},
};

/* SPDX-License-Identifier: BSD-3-Clause */
/* testpmd's verbs: start, stop, and the forward statistics that stop prints. */
#include <errno.h>
#include <inttypes.h>

#include <rte_cycles.h>

#include "show_config.h"
#include "verbs.h"

#define BURSTS_MAX 100000

/* ---- forward statistics ---- */

static void clear_forward(struct sluice *sl)
{
	struct port *port;

	PORT_FOREACH(sl, port)
	verb_forward_clear(port);
	for (unsigned i = 0; i < sl->n_workers; i++)
		sl->workers[i]->busy_base = virtq_load(&sl->workers[i]->stats.busy);
}

static uint64_t busy_cycles(const struct sluice *sl)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < sl->n_workers; i++)
		n += virtq_load(&sl->workers[i]->stats.busy) - sl->workers[i]->busy_base;
	return n;
}

static bool makes_packets(const struct engine *engine)
{
	return engine == &engine_txonly || engine == &engine_flowgen;
}

/* What testpmd tells of a stream with engine csum; a port's is the sum of its streams'. */
struct bad_sums {
	uint64_t ip, l4;
};

static void print_bad_sums_of_stream(struct cmd *c, const struct stream_stats *st)
{
	cmd_printf(c,
		"  RX- bad IP checksum: %-14" PRIu64 "  Rx- bad L4 checksum: %-14" PRIu64
		" Rx- bad outer L4 checksum: %-14u\n RX- bad outer IP checksum: %-14u\n",
		st->bad_ip_csum, st->bad_l4_csum, 0, 0);
}

static json_t *stream_json(const struct stream *s, unsigned queue, const struct stream_stats *st)
{
	json_t *o = json_pack("{s:i, s:i, s:I}", "port", s->port, "queue", queue, "rx_packets",
		(json_int_t)st->rx_packets);

	if (s->has_peer)
		json_object_update_new(
			o, json_pack("{s:i, s:i, s:I, s:I}", "tx_port", s->tx.port, "tx_queue",
				   s->tx.queue, "tx_packets", (json_int_t)st->tx_packets,
				   "tx_dropped", (json_int_t)st->dropped));
	return o;
}

/* A stream has one outlet, or (bridge) its packets' addresses decide. */
static void print_stream(
	struct cmd *c, const struct stream *s, unsigned queue, const struct stream_stats *st)
{
	const struct sluice *sl = cmd_ctx(c);

	cmd_printf(c, "\n  ------- Forward Stats for RX Port=%2u/Queue=%2u -> ", s->port, queue);
	if (!s->has_peer) {
		cmd_printf(c, "%s -------\n  RX-packets: %-14" PRIu64 "\n", sl->engine->name,
			st->rx_packets);
		return;
	}
	cmd_printf(c, "TX Port=%2u/Queue=%2u -------\n", s->tx.port, s->tx.queue);
	cmd_printf(c,
		"  RX-packets: %-14" PRIu64 " TX-packets: %-14" PRIu64 " TX-dropped: %-14" PRIu64,
		st->rx_packets, st->tx_packets, st->dropped);
	if (sl->engine == &engine_csum)
		print_bad_sums_of_stream(c, st);
	else
		cmd_printf(c, "\n");
}

static unsigned most_queues(struct port *const *list, unsigned n)
{
	unsigned most = 0;

	for (unsigned i = 0; i < n; i++)
		most = RTE_MAX(most, (unsigned)list[i]->n_rxq);
	return most;
}

/* In words only if a port has several, as testpmd; without those where nothing moved. */
static void show_stream(struct cmd *c, struct port *port, unsigned queue, bool words, json_t *all)
{
	struct stream s = plan_stream(port, queue);
	struct stream_stats st;

	port_stream_stats(port, queue, &st);
	if (!st.rx_packets && !st.tx_packets && !st.dropped)
		return;
	if (words)
		print_stream(c, &s, queue, &st);
	json_array_append_new(all, stream_json(&s, queue, &st));
}

static json_t *show_streams(struct cmd *c, struct port *const *list, unsigned n)
{
	bool words = show_config_streams(cmd_ctx(c)) > n;
	unsigned queues = most_queues(list, n);
	json_t *all = json_array();

	for (unsigned q = 0; q < queues; q++)
		for (unsigned i = 0; i < n; i++)
			if (q < list[i]->n_rxq)
				show_stream(c, list[i], q, words, all);
	return all;
}

static struct bad_sums bad_sums_of(const struct port *port)
{
	struct bad_sums sum = {0, 0};
	struct stream_stats st;

	for (unsigned i = 0; i < port->n_rxq; i++) {
		port_stream_stats(port, i, &st);
		sum.ip += st.bad_ip_csum;
		sum.l4 += st.bad_l4_csum;
	}
	return sum;
}

static void print_line(struct cmd *c, const char *side, uint64_t packets, uint64_t dropped)
{
	cmd_printf(c,
		"  %s-packets: %-14" PRIu64 " %s-dropped: %-14" PRIu64 "%s-total: %-" PRIu64 "\n",
		side, packets, side, dropped, side, packets + dropped);
}

static void print_port(struct cmd *c, const struct port *port, const struct verb_counters *v)
{
	const struct sluice *sl = cmd_ctx(c);
	struct bad_sums bad = bad_sums_of(port);

	cmd_printf(c,
		"\n  ---------------------- Forward statistics for port %-2u "
		"----------------------\n",
		port->id);
	print_line(c, "RX", v->rx_packets, v->rx_missed);
	if (sl->engine == &engine_csum)
		cmd_printf(c,
			"  Bad-ipcsum: %-14" PRIu64 " Bad-l4csum: %-14" PRIu64
			"Bad-outer-l4csum: %-14u\n  Bad-outer-ipcsum: %-14u\n",
			bad.ip, bad.l4, 0, 0);
	if (v->rx_errors + v->rx_nombuf > 0)
		cmd_printf(c, "  RX-error: %-" PRIu64 "\n  RX-nombufs: %-14" PRIu64 "\n",
			v->rx_errors, v->rx_nombuf);
	print_line(c, "TX", v->tx_packets, v->tx_dropped);
	cmd_printf(c, "  --------------------------------------"
		      "--------------------------------------\n");
}

static void add(struct verb_counters *sum, const struct verb_counters *v)
{
	for (size_t i = 0; i < sizeof(*v) / sizeof(uint64_t); i++)
		((uint64_t *)sum)[i] += ((const uint64_t *)v)[i];
}

static void print_sum(struct cmd *c, const struct verb_counters *v)
{
	cmd_printf(c, "\n  +++++++++++++++ Accumulated forward statistics for all ports"
		      "+++++++++++++++\n");
	print_line(c, "RX", v->rx_packets, v->rx_missed);
	if (v->rx_nombuf > 0)
		cmd_printf(c, "  RX-nombufs: %-14" PRIu64 "\n", v->rx_nombuf);
	print_line(c, "TX", v->tx_packets, v->tx_dropped);
	cmd_printf(c, "  ++++++++++++++++++++++++++++++++++++++"
		      "++++++++++++++++++++++++++++++++++++++\n");
}

static void show_cycles(struct cmd *c, const struct verb_counters *v, json_t *o)
{
	const struct sluice *sl = cmd_ctx(c);
	uint64_t packets = makes_packets(sl->engine) ? v->tx_packets : v->rx_packets;
	uint64_t cycles = busy_cycles(sl);

	json_object_set_new(o, "busy_cycles", json_integer((json_int_t)cycles));
	if (packets == 0)
		return;
	json_object_set_new(o, "cycles_per_packet", json_real((double)cycles / (double)packets));
	if (sl->show_cycles)
		cmd_printf(c,
			"\n  CPU cycles/packet=%.2F (busy cycles=%" PRIu64
			" / total %s packets=%" PRIu64 ") at %" PRIu64 " MHz Clock\n",
			(double)cycles / (double)packets, cycles, sl->engine->name, packets,
			rte_get_tsc_hz() / 1000000);
}

/* The whole table; its JSON is the answer. */
static void show_forward(struct cmd *c)
{
	struct port *list[PORT_MAX];
	unsigned n = verb_forwarding_ports(cmd_ctx(c), list);
	json_t *o = json_object(), *ports = json_array();
	struct verb_counters sum = {0};

	json_object_set_new(o, "streams", show_streams(c, list, n));
	for (unsigned i = 0; i < n; i++) {
		json_t *row = verb_port_json(list[i]);
		struct port_counters pc;
		struct verb_counters v;

		verb_forward_counters(list[i], &pc);
		verb_counters(&pc, &v);
		print_port(c, list[i], &v);
		add(&sum, &v);
		json_object_update_new(row, verb_counters_json(&v));
		json_array_append_new(ports, row);
	}
	print_sum(c, &sum);
	json_object_set_new(o, "ports", ports);
	json_object_set_new(o, "total", verb_counters_json(&sum));
	show_cycles(c, &sum, o);
	cmd_json(c, o);
}

static int show(struct cmd *c)
{
	show_forward(c);
	return 0;
}

static int clear(struct cmd *c)
{
	clear_forward(cmd_ctx(c));
	cmd_json(c, json_object());
	cmd_quiet(c);
	return 0;
}

static int record_cycles(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	sl->show_cycles = cmd_has(c, "on");
	cmd_json(c, json_pack("{s:b}", "record_core_cycles", sl->show_cycles));
	cmd_quiet(c);
	return 0;
}

/* ---- start ---- */

static int started(struct cmd *c)
{
	const struct sluice *sl = cmd_ctx(c);

	show_config_fwd(sl, cmd_out(c));
	show_config_rxtx(sl, cmd_out(c));
	cmd_json(c, show_config_json(sl));
	return 0;
}

static int start(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	if (sl->forwarding) {
		cmd_printf(c, "Packet forwarding already started\n");
		cmd_json(c, json_pack("{s:b}", "forwarding", 1));
		return 0;
	}
	clear_forward(sl);
	if (sluice_start(sl) < 0)
		return cmd_fail(
			c, -ENOMEM, "not enough memory for a new plan: forwarding stays off");
	return started(c);
}

/* The ports that packets made here get to: up, and so is a queue of the port that sends them. */
static unsigned find_ready(
	const struct sluice *sl, struct port *const *list, unsigned n, bool ready[static PORT_MAX])
{
	unsigned found = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct port *to = plan_topology_peer(sl, list[i]);
		bool sends = false;

		for (unsigned q = 0; q < list[i]->n_rxq; q++)
			sends |= list[i]->rxq[q].usable;
		found += ready[to->id] |= sends && to->up;
	}
	return found;
}

/* Packets sent into nothing make a benchmark that measures nothing. */
static int check_tx_first(struct cmd *c)
{
	const struct sluice *sl = cmd_ctx(c);
	bool ready[PORT_MAX] = {false};
	struct port *list[PORT_MAX];
	unsigned n = plan_port_list(sl, list);

	if (n == 0)
		return cmd_fail(c, -ENOTCONN, "there is no port to send to: `port add` one");
	if (find_ready(sl, list, n, ready) == 0)
		return cmd_fail(c, -ENOTCONN,
			"no packet would arrive, no two ports of a pair are up: wait for their "
			"guests' "
			"drivers (`show port summary all`), or `start` without tx_first");
	for (unsigned i = 0; i < n; i++)
		if (!ready[list[i]->id])
			cmd_printf(c, "Warning! Nothing is sent to port %u (%s): %s\n", list[i]->id,
				list[i]->name,
				list[i]->up ? "the port that would send is not up"
					    : "it is down, is its guest's driver running?");
	return 0;
}

static int start_tx_first(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	int err = check_tx_first(c);

	if (err < 0)
		return err;
	clear_forward(sl);
	err = sluice_start_tx_first(sl, (uint32_t)cmd_u64(c, "N", 1));
	if (err == -ETIME)
		cmd_printf(c, "Warning! Not all bursts were sent within a second\n");
	else if (err < 0)
		return cmd_fail(c, err, "not enough memory for a new plan: forwarding stays off");
	return started(c);
}

/* ---- stop ---- */

static int stop(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	if (!sl->forwarding) {
		cmd_printf(c, "Packet forwarding not started\n");
		cmd_json(c, json_pack("{s:b}", "forwarding", 0));
		return 0;
	}
	if (sluice_stop(sl) < 0)
		return cmd_fail(c, -ENOMEM, "not enough memory for a new plan: forwarding goes on");
	cmd_printf(c, "Telling cores to stop...\nWaiting for lcores to finish...\n");
	show_forward(c);
	cmd_printf(c, "\nDone.\n");
	return 0;
}

const struct command start_commands[] = {
	{"start", "begin forwarding", "The forward statistics begin from zero.", start, 0},
	{"start tx_first [N:1.." RTE_STR(BURSTS_MAX) "]", "send bursts of packets, then forward",
		"Every queue sends N bursts (default 1) of the packets of `set txpkts` to the port "
		"the topology pairs it with, then the engine forwards. Refused while no port is up "
		"to receive them; while forwarding, it begins anew.",
		start_tx_first, 0},
	{"stop", "end forwarding and show the forward statistics", NULL, stop, 0},
	{"show fwd stats all", "what was forwarded and dropped since start",
		"RX-dropped is RX-missed of `show port stats`. TX-dropped is all that was meant "
		"for a "
		"port and did not get there: no room at the guest, no guest, a full device queue, "
		"TX-errors; `port show` has the reasons. Queues have their own lines if ports have "
		"several.",
		show, 0},
	{"clear fwd stats all", "count forward statistics from zero", NULL, clear, 0},
	{"set record-core-cycles (on|off)", "show cycles per packet with the forward statistics",
		"Busy cycles: those of polls that moved packets, of all lcores. They are always "
		"measured.",
		record_cycles, 0},
	{0},
};

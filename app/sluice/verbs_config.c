/* SPDX-License-Identifier: BSD-3-Clause */
/* testpmd's verbs: what is configured. */
#include "show_config.h"
#include "sleep.h"
#include "verbs.h"

static int show_fwd(struct cmd *c)
{
	show_config_fwd(cmd_ctx(c), cmd_out(c));
	cmd_json(c, show_config_json(cmd_ctx(c)));
	return 0;
}

static int show_rxtx(struct cmd *c)
{
	show_config_rxtx(cmd_ctx(c), cmd_out(c));
	cmd_json(c, show_config_json(cmd_ctx(c)));
	return 0;
}

/* ---- lcores ---- */

static unsigned queues_of(const struct sluice *sl, const struct worker *w)
{
	struct port *port;
	unsigned n = 0;

	PORT_FOREACH(sl, port)
	for (unsigned i = 0; i < port->n_rxq; i++)
		n += port->rxq[i].worker == w->index;
	return n;
}

/* A port on which a worker cannot sleep though it should, or NULL. */
static const struct port *keeps_awake(const struct sluice *sl, const struct worker *w)
{
	struct port *port;

	PORT_FOREACH(sl, port)
	for (unsigned i = 0; i < port->n_rxq && worker_sleep_us(w) > 0; i++)
		if (port->rxq[i].worker == w->index && !port_can_wake(port))
			return port;
	return NULL;
}

static int show_cores(struct cmd *c)
{
	const struct sluice *sl = cmd_ctx(c);
	json_t *all = json_array();

	cmd_printf(c, "List of forwarding lcores:");
	for (unsigned i = 0; i < sl->n_workers; i++)
		if (!sl->workers[i]->resting)
			cmd_printf(c, " %2u", sl->workers[i]->lcore);
	cmd_printf(c, "\n");
	for (unsigned i = 0; i < sl->n_workers; i++) {
		const struct worker *w = sl->workers[i];
		const struct port *awake = keeps_awake(sl, w);
		unsigned queues = queues_of(sl, w);

		cmd_printf(c, "Logical Core %u (socket %u) polls %u queues - busy %u.%u %%%s",
			w->lcore, verb_node(w->node), queues, w->load / 10, w->load % 10,
			w->resting ? " - resting" : "");
		if (awake)
			cmd_printf(c, " - kept awake by port %s", awake->name);
		else if (worker_sleep_us(w))
			cmd_printf(c, " - asleep %u.%u %%", w->rest / 10, w->rest % 10);
		if (w->crowd.crowded || w->crowd.waits >= 10)
			cmd_printf(c, " - waits for its CPU %u.%u %%", w->crowd.waits / 10,
				w->crowd.waits % 10);
		cmd_printf(c, "\n");
		json_array_append_new(all,
			json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:s?, s:b, s:b, s:I, s:I}",
				"lcore", w->lcore, "socket", w->node, "queues", queues,
				"busy_per_mille", w->load, "asleep_per_mille", w->rest,
				"waits_per_mille", w->crowd.waits, "kept_awake_by",
				awake ? awake->name : NULL, "crowded", w->crowd.crowded, "resting",
				w->resting, "rounds", (json_int_t)virtq_load(&w->stats.iterations),
				"busy_rounds", (json_int_t)virtq_load(&w->stats.iterations_busy)));
	}
	cmd_json(c, all);
	return 0;
}

/* ---- packets made here ---- */

static const char *split_name(enum txsplit split)
{
	return split == TXSPLIT_OFF ? "off" : split == TXSPLIT_ON ? "on" : "rand";
}

static int show_txpkts(struct cmd *c)
{
	const struct engine_conf *conf = &((const struct sluice *)cmd_ctx(c))->conf;
	json_t *sizes = json_array();

	cmd_printf(c, "Number of segments: %u\nSegment sizes: ", conf->tx_segs);
	for (unsigned i = 0; i < conf->tx_segs; i++) {
		cmd_printf(c, "%s%u", i ? "," : "", conf->tx_seg_len[i]);
		json_array_append_new(sizes, json_integer(conf->tx_seg_len[i]));
	}
	cmd_printf(c, "\nSplit packet: %s\n", split_name(conf->tx_split));
	cmd_json(
		c, json_pack("{s:o, s:s}", "segments", sizes, "split", split_name(conf->tx_split)));
	return 0;
}

const struct command show_commands[] = {
	{"show config fwd", "the engine, and which lcore polls which queue", NULL, show_fwd, 0},
	{"show config rxtx", "queues of all ports, who polls them and how busy with it",
		"Busy is the share of the last second in polls that moved packets.", show_rxtx, 0},
	{"show config cores", "lcores that forward, and how busy they are", NULL, show_cores, 0},
	{"show config txpkts", "packets of txonly, flowgen and start tx_first", NULL, show_txpkts,
		0},
	{0},
};

/* SPDX-License-Identifier: BSD-3-Clause */
/* testpmd's verbs: set what is forwarded, how, and on which lcores. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "placement.h"
#include "verbs.h"

/* One burst may hold a worker this long, and `port del` waits for workers. */
#define RETRY_US_MAX 10000

/* ---- the engine ---- */

static int set_fwd(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	sl->engine = engine_find(cmd_after(c, "fwd"));
	sl->conf.retry = cmd_has(c, "retry");
	cmd_printf(c, "Set %s packet forwarding mode%s\n", sl->engine->name,
		sl->conf.retry ? " with retry" : "");
	cmd_json(c, json_pack("{s:s, s:b}", "engine", sl->engine->name, "retry", sl->conf.retry));
	return cmd_updated(c);
}

static int set_burst(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	unsigned n = (unsigned)cmd_u64(c, "N", 0);

	if (n > BURST_MAX)
		return cmd_fail(c, -ERANGE,
			"nb pkt per burst: %u > %u (maximum packet per burst)  ignored", n,
			BURST_MAX);
	sl->conf.burst = (uint16_t)n;
	cmd_printf(c, "Number of packets per burst set to %u\n", n);
	verb_json_number(c, "burst", n);
	return cmd_updated(c);
}

static int set_sleep(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	sl->conf.sleep_auto = cmd_has(c, "auto");
	sl->conf.sleep_us = (uint32_t)cmd_u64(c, "US", 0);
	cmd_json(c, json_pack("{s:b, s:i}", "auto", sl->conf.sleep_auto, "sleep_us",
			    (int)sl->conf.sleep_us));
	cmd_quiet(c);
	return cmd_updated(c);
}

static int set_share(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	sl->conf.share_us = (uint32_t)cmd_u64(c, "US", 0);
	verb_json_number(c, "share_us", sl->conf.share_us);
	cmd_quiet(c);
	return cmd_updated(c);
}

static int set_retry(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	uint64_t us = cmd_u64(c, "US", 1), n = cmd_u64(c, "N", 64);

	if (us * n > RETRY_US_MAX)
		return cmd_fail(c, -ERANGE,
			"%" PRIu64 " retries %" PRIu64 " us apart would hold an lcore %" PRIu64
			" us: at most %u in all",
			n, us, us * n, RETRY_US_MAX);
	sl->conf.retry_delay_us = (uint32_t)us;
	sl->conf.retry_count = (uint16_t)n;
	cmd_json(c, json_pack("{s:I, s:I}", "retry_delay_us", (json_int_t)us, "retry_count",
			    (json_int_t)n));
	cmd_quiet(c);
	return cmd_updated(c);
}

/* ---- packets made here ---- */

static uint16_t segment_room(const struct sluice *sl)
{
	return (uint16_t)(rte_pktmbuf_data_room_size(sluice_pool(sl, -1)) - RTE_PKTMBUF_HEADROOM);
}

static int set_txpkts(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	uint16_t len[TXPKT_SEGS_MAX];
	int n = verb_numbers(c, cmd_str(c, "LENGTHS"), UINT16_MAX, len, TXPKT_SEGS_MAX);
	json_t *list = json_array();
	const char *wrong;

	for (int i = 0; i < n; i++)
		json_array_append_new(list, json_integer(len[i]));
	cmd_json(c, json_pack("{s:o}", "segments", list));
	cmd_quiet(c);
	if (n < 0)
		return n;
	wrong = engine_conf_check_txpkts(len, (unsigned)n, segment_room(sl));
	if (wrong)
		return cmd_fail(c, -EINVAL, "set txpkts %s: %s", cmd_str(c, "LENGTHS"), wrong);
	sl->conf.tx_segs = (uint16_t)n;
	memcpy(sl->conf.tx_seg_len, len, (size_t)n * sizeof(len[0]));
	return cmd_updated(c);
}

static int set_txsplit(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	sl->conf.tx_split = cmd_has(c, "rand") ? TXSPLIT_RAND
			    : cmd_has(c, "on") ? TXSPLIT_ON
					       : TXSPLIT_OFF;
	cmd_json(c, json_pack("{s:s}", "split", cmd_after(c, "txsplit")));
	cmd_quiet(c);
	return cmd_updated(c);
}

/* ---- ports ---- */

static void report_portlist(struct cmd *c, unsigned before)
{
	const struct sluice *sl = cmd_ctx(c);
	struct port *list[PORT_MAX];
	unsigned n = plan_port_list(sl, list);
	json_t *names = json_array();

	if (n != before)
		cmd_printf(c,
			"previous number of forwarding ports %u - changed to number of configured "
			"ports %u\n",
			before, n);
	if (sl->topology == TOPOLOGY_PAIRED && n % 2)
		cmd_printf(c, "\nWarning! port-topology=paired and odd forward ports number, the "
			      "last port will pair with itself.\n\n");
	for (unsigned i = 0; i < n; i++)
		json_array_append_new(names, json_string(list[i]->name));
	cmd_json(c, json_pack("{s:o}", "ports", names));
	cmd_quiet(c);
}

static int use_portlist(struct cmd *c, const uint16_t *ids, unsigned n)
{
	struct sluice *sl = cmd_ctx(c);
	struct port *list[PORT_MAX];
	unsigned before = plan_port_list(sl, list);

	sl->has_portlist = !cmd_has(c, "all");
	sl->n_portlist = (uint16_t)n;
	memcpy(sl->portlist, ids, n * sizeof(ids[0]));
	report_portlist(c, before);
	return cmd_updated(c);
}

/* Add one port to the list. */
static int list_port(struct cmd *c, const char *name, uint16_t *ids, unsigned *n)
{
	const struct port *port = port_find(cmd_ctx(c), name);

	if (!port)
		return cmd_fail(c, -ENOENT, "Invalid port %s: see `show port summary all`", name);
	for (unsigned i = 0; i < *n; i++)
		if (ids[i] == port->id)
			return cmd_fail(
				c, -EINVAL, "duplicated port %s at index %u and %u", name, i, *n);
	ids[(*n)++] = port->id;
	return 0;
}

static int set_portlist(struct cmd *c)
{
	uint16_t ids[PORT_MAX];
	unsigned n = 0;
	char *text, *rest, *name;
	int err = 0;

	if (cmd_has(c, "all") || cmd_has(c, "none"))
		return use_portlist(c, ids, 0);
	text = rest = strdup(cmd_str(c, "PORTS"));
	if (!text)
		return -ENOMEM;
	while (err == 0 && (name = strsep(&rest, ",")) != NULL)
		err = list_port(c, name, ids, &n);
	free(text);
	return err < 0 ? err : use_portlist(c, ids, n);
}

static int set_portmask(struct cmd *c)
{
	uint64_t mask = cmd_u64(c, "MASK", 0);
	uint16_t ids[64];
	unsigned n = 0;

	if (mask == 0)
		return cmd_fail(c, -EINVAL, "Invalid NULL mask of ports");
	for (unsigned id = 0; id < 64; id++) {
		if (!(mask >> id & 1))
			continue;
		if (!port_by_id(cmd_ctx(c), id))
			return cmd_fail(c, -ENOENT,
				"Invalid port %u: see `show port summary all`, and give the mask "
				"as in "
				"0x3",
				id);
		ids[n++] = (uint16_t)id;
	}
	return use_portlist(c, ids, n);
}

/* testpmd's own errors for drivers that always receive everything, as VM ports do. */
static int set_promisc_of(struct port *port, bool on)
{
	int err = 0;

	if (port->kind == PORT_VM)
		return on ? 0 : -ENOTSUP;
	if (!port_dev_mute(port)) /* else when it is reset */
		err = on ? rte_eth_promiscuous_enable(port->dev.eth)
			 : rte_eth_promiscuous_disable(port->dev.eth);
	if (!err)
		port->dev.picky = !on;
	return err;
}

static int set_promisc(struct cmd *c)
{
	struct port *list[PORT_MAX];
	int n = verb_ports(c, list), err = n < 0 ? n : 0;
	bool on = cmd_has(c, "on");
	json_t *all = json_array();

	for (int i = 0; i < n; i++) {
		int failed = set_promisc_of(list[i], on);

		if (failed && !err)
			err = cmd_fail(c, failed,
				"Error during %s promiscuous mode for port %u: %s",
				on ? "enabling" : "disabling", list[i]->id, strerror(-failed));
		json_array_append_new(all, verb_port_json(list[i]));
	}
	verb_json_ports(c, all);
	cmd_quiet(c);
	return err;
}

static int set_link(struct cmd *c)
{
	bool up = cmd_has(c, "link-up");
	struct port *port = cmd_port(c, "PORT");
	int err = 0;

	if (!port)
		return -ENOENT;
	if (port->kind == PORT_VM)
		return cmd_fail(c, -ENOTSUP,
			"Set link %s fail. The link of a VM port is up while its guest's driver "
			"runs",
			up ? "up" : "down");
	if (!port_dev_mute(port)) /* else when it is reset */
		err = up ? rte_eth_dev_set_link_up(port->dev.eth)
			 : rte_eth_dev_set_link_down(port->dev.eth);
	if (err < 0)
		return cmd_fail(c, err, "Set link %s fail. Port '%s': %s", up ? "up" : "down",
			port->name, strerror(-err));
	port->dev.link_off = !up;
	port_refresh(port);
	cmd_json(c, verb_port_json(port));
	cmd_quiet(c);
	return 0;
}

/* ---- lcores ---- */

static int cores_changed(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	json_t *list = json_array();

	for (unsigned i = 0; i < sl->n_workers; i++)
		if (!sl->workers[i]->resting)
			json_array_append_new(list, json_integer(sl->workers[i]->lcore));
	cmd_json(c, json_pack("{s:o}", "lcores", list));
	cmd_quiet(c);
	placement_deal(sl);
	return cmd_updated(c);
}

static int set_nbcore(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	unsigned n = (unsigned)cmd_u64(c, "N", 1);

	if (n > sl->n_workers)
		return cmd_fail(c, -ERANGE,
			"nb fwd cores %u > %u (max. number of configured lcores) - ignored", n,
			sl->n_workers);
	for (unsigned i = 0; i < sl->n_workers; i++)
		sl->workers[i]->resting = i >= n;
	cmd_printf(c, "Number of forwarding cores set to %u\n", n);
	return cores_changed(c);
}

static int check_core(struct cmd *c, const uint16_t *lcores, unsigned i)
{
	unsigned lcore = lcores[i];

	if (lcore == rte_get_main_lcore())
		return cmd_fail(c, -EINVAL,
			"lcore %u cannot be masked on for running packet forwarding, which is the "
			"main "
			"lcore and reserved for command line parsing only",
			lcore);
	if (!worker_of_lcore(cmd_ctx(c), lcore))
		return cmd_fail(c, -EINVAL, "lcore %u not enabled", lcore);
	for (unsigned k = 0; k < i; k++)
		if (lcores[k] == lcore)
			return cmd_fail(
				c, -EINVAL, "duplicated core %u at index %u and %u", lcore, k, i);
	return 0;
}

static int set_corelist(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	uint16_t lcores[RTE_MAX_LCORE];
	int n = verb_numbers(c, cmd_str(c, "LCORES"), RTE_MAX_LCORE - 1, lcores, RTE_MAX_LCORE);
	unsigned before = 0;

	if (n < 0)
		return n;
	for (unsigned i = 0; i < (unsigned)n; i++)
		if (check_core(c, lcores, i) < 0)
			return -EINVAL;
	for (unsigned i = 0; i < sl->n_workers; i++) {
		before += !sl->workers[i]->resting;
		sl->workers[i]->resting = true;
	}
	for (int i = 0; i < n; i++)
		worker_of_lcore(sl, lcores[i])->resting = false;
	if ((unsigned)n != before)
		cmd_printf(c,
			"previous number of forwarding cores %u - changed to number of configured "
			"cores "
			"%d\n",
			before, n);
	return cores_changed(c);
}

/* ---- what is logged ---- */

static int set_verbose(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	unsigned level = (unsigned)cmd_u64(c, "LEVEL", 0);

	cmd_printf(c, "Change verbose level from %u to %u\n", sl->verbose, level);
	if (level > 0)
		cmd_printf(c, "Packets are not printed here: the vhost-user messages are logged\n");
	sl->verbose = level;
	rte_log_set_level((uint32_t)sluice_logtype, level ? RTE_LOG_DEBUG : RTE_LOG_INFO);
	verb_json_number(c, "verbose", level);
	return 0;
}

#define ENGINES "(bridge|cross|io|mac|macswap|rxonly|txonly|flowgen|icmpecho|csum)"

const struct command set_commands[] = {
	{"set fwd " ENGINES " [retry]", "choose the forwarding engine",
		"bridge is a learning L2 bridge over all ports; cross connects pairs made by "
		"`cross "
		"add`; the others are testpmd's and pass packets along `set portlist` and the "
		"topology. With retry, a full destination is tried again, see `set burst tx "
		"delay`.",
		set_fwd, 0},
	{"set burst N:1..65535", "packets in a burst, at most " RTE_STR(BURST_MAX), NULL, set_burst,
		0},
	{"set burst tx delay US:0..10000 retry N:0..65535",
		"how `set fwd ENGINE retry` tries again",
		"Up to N times, US microseconds apart (1 and 64 at first). The lcore waits: "
		"together at "
		"most 10 ms.",
		set_retry, 0},
	{"set sleep (auto|US:0..1000000)",
		"let an lcore sleep when its queues were empty for US microseconds; 0: never",
		"auto at first: an lcore polls all the time, but where other threads want its CPU "
		"it "
		"sleeps when idle, until they are gone. Guests kick, and devices interrupt, to "
		"wake "
		"one that sleeps. A device can do so if its driver has receive interrupts and the "
		"port was added after this command with a US; an lcore with a queue that cannot "
		"wake "
		"it stays awake: see `show config cores`.",
		set_sleep, 0},
	{"set share US:0..1000",
		"microseconds of an lcore a port may take beyond its share; 0: any number",
		RTE_STR(SHARE_US) " at first. A port that has taken more is left out while others "
				  "on its lcore have work, until they have had theirs; devices "
				  "never are. `show "
				  "port xstats` counts it (left_out_polls).",
		set_share, 0},
	{"set txpkts LENGTHS", "lengths of the segments of packets made here, as in 64 or 64,128",
		"For txonly, flowgen and start tx_first. The first holds the headers, 42 bytes.",
		set_txpkts, 0},
	{"set txsplit (off|on|rand)",
		"whether packets have all segments (on, off) or a random number of them", NULL,
		set_txsplit, 0},
	{"set portlist (all|none|PORTS)",
		"ports that testpmd's engines use, in this order: as in 0,2,1,3",
		"By numbers or names. The topology pairs neighbours in the list. bridge and cross "
		"do "
		"not look at it. `all` is every port by number, those to come too; a list stays "
		"what it is when its ports are deleted, at last `none`.",
		set_portlist, 0},
	{"set portmask MASK:0..", "the same as a mask of port numbers, as in 0x3", NULL,
		set_portmask, 0},
	{"set nbcore N:1..1024", "let the first N lcores forward",
		"Queues are dealt out anew, but for pinned ones (`queue pin`).", set_nbcore, 0},
	{"set corelist LCORES", "let these lcores forward, as in 1,2",
		"Queues are dealt out anew, but for pinned ones (`queue pin`).", set_corelist, 0},
	{"set promisc (all|PORT) (on|off)", "whether a device receives what is not addressed to it",
		"On at first: a switch needs it. VM ports always receive everything.", set_promisc,
		0},
	{"set link-up port PORT", "switch the link of a device on", NULL, set_link, 0},
	{"set link-down port PORT", "switch the link of a device off", NULL, set_link, 0},
	{"set verbose LEVEL:0..65535", "above 0: log what front-ends say", NULL, set_verbose, 0},
	{0},
};

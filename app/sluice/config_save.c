/* SPDX-License-Identifier: BSD-3-Clause */
/* `config save`: the running state as commands. */
#include "config_save.h"

#include <arpa/inet.h>
#include <string.h>

#include <rte_ethdev.h>

#include "commands.h"
#include "fdb.h"

#define ROWS 256

/* ---- ports ---- */

static void save_pins(const struct port *port, FILE *f)
{
	for (unsigned i = 0; i < port->n_rxq; i++)
		if (port->rxq[i].pin >= 0)
			fprintf(f, "queue pin %s %u %u\n", port->name, i,
				port->sl->workers[port->rxq[i].pin]->lcore);
}

static void save_peer(const struct port *port, FILE *f)
{
	char text[RTE_ETHER_ADDR_FMT_SIZE];
	struct rte_ether_addr usual;

	port_default_peer(port, &usual);
	if (!rte_is_same_ether_addr(&port->peer, &usual))
		fprintf(f, "set eth-peer %s %s\n", port->name, mac_text(&port->peer, text));
}

static void save_csum(const struct port *port, FILE *f)
{
	if (port->csum_hw & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM)
		fprintf(f, "csum set ip hw %s\n", port->name);
	if (port->csum_hw & RTE_ETH_TX_OFFLOAD_TCP_CKSUM)
		fprintf(f, "csum set tcp hw %s\n", port->name);
	if (port->csum_hw & RTE_ETH_TX_OFFLOAD_UDP_CKSUM)
		fprintf(f, "csum set udp hw %s\n", port->name);
}

static void save_device(const struct port *port, FILE *f)
{
	if (port->kind == PORT_DEV && port->dev.picky)
		fprintf(f, "set promisc %s off\n", port->name);
	if (port->kind == PORT_DEV && port->dev.link_off)
		fprintf(f, "set link-down port %s\n", port->name);
}

static void save_settings(const struct port *port, FILE *f)
{
	save_device(port, f);
	save_pins(port, f);
	save_peer(port, f);
	save_csum(port, f);
}

static void save_crosses(const struct sluice *sl, FILE *f)
{
	struct port *port;

	PORT_FOREACH(sl, port)
	if (port->cross && port->id < port->cross->id)
		fprintf(f, "cross add %s %s\n", port->name, port->cross->name);
}

/* ---- the bridge ---- */

static void save_statics(const struct sluice *sl, FILE *f)
{
	struct fdb_row rows[ROWS];
	uint32_t cursor = 0;
	unsigned n;

	while ((n = fdb_show(sl->fdb, &cursor, rows, ROWS)) > 0) {
		for (unsigned i = 0; i < n; i++) {
			const struct port *port = port_by_id(sl, rows[i].port);
			char text[RTE_ETHER_ADDR_FMT_SIZE];
			struct rte_ether_addr mac;

			fdb_key_mac(rows[i].key, &mac);
			if (rows[i].is_static && port)
				fprintf(f, "fdb static add %s %s\n", mac_text(&mac, text),
					port->name);
		}
	}
}

static void save_limits(const struct sluice *sl, FILE *f)
{
	struct fdb_port_stats st;
	struct port *port;

	PORT_FOREACH(sl, port)
	{
		if (fdb_port_stats(sl->fdb, port->id, &st) < 0 || st.limit == FDB_PORT_LIMIT)
			continue;
		if (st.limit == UINT32_MAX)
			fprintf(f, "fdb set limit %s none\n", port->name);
		else
			fprintf(f, "fdb set limit %s %u\n", port->name, st.limit);
	}
}

static void save_fdb(const struct sluice *sl, FILE *f)
{
	if (fdb_max_age(sl->fdb) != FDB_MAX_AGE)
		fprintf(f, "fdb set ageing %u\n", fdb_max_age(sl->fdb));
	save_limits(sl, f);
	save_statics(sl, f);
}

/* ---- forwarding ---- */

/* Ports get the lowest free numbers when the file is read: without gaps. */
static unsigned number_then(const struct sluice *sl, unsigned id)
{
	unsigned n = 0;

	for (unsigned i = 0; i < id; i++)
		n += sl->ports[i] != NULL;
	return n;
}

static void save_portlist(const struct sluice *sl, bool same_numbers, FILE *f)
{
	if (!sl->has_portlist)
		return;
	fputs("set portlist ", f);
	if (sl->n_portlist == 0)
		fputs("none", f);
	for (unsigned i = 0; i < sl->n_portlist; i++)
		fprintf(f, "%s%u", i ? "," : "",
			same_numbers ? sl->portlist[i] : number_then(sl, sl->portlist[i]));
	fputc('\n', f);
}

static void save_txpkts(const struct engine_conf *conf, FILE *f)
{
	static const char *const splits[] = {
		[TXSPLIT_OFF] = "off", [TXSPLIT_ON] = "on", [TXSPLIT_RAND] = "rand"};

	fputs("set txpkts ", f);
	for (unsigned i = 0; i < conf->tx_segs; i++)
		fprintf(f, "%s%u", i ? "," : "", conf->tx_seg_len[i]);
	fprintf(f, "\nset txsplit %s\n", splits[conf->tx_split]);
}

static void save_packets(const struct engine_conf *conf, FILE *f)
{
	char src[INET_ADDRSTRLEN], dst[INET_ADDRSTRLEN];
	struct in_addr a = {htonl(conf->tx_ip_src)}, b = {htonl(conf->tx_ip_dst)};

	save_txpkts(conf, f);
	fprintf(f, "set txonly ip %s %s\n", inet_ntop(AF_INET, &a, src, sizeof(src)),
		inet_ntop(AF_INET, &b, dst, sizeof(dst)));
	fprintf(f, "set txonly udp %u %u\n", conf->tx_udp_src, conf->tx_udp_dst);
	fprintf(f, "set txonly multi-flow %s\n", conf->tx_multi_flow ? "on" : "off");
	fprintf(f, "set flowgen flows %u\n", conf->flowgen_flows);
}

/* Before the ports, so that no queue has to move. */
static void save_cores(const struct sluice *sl, FILE *f)
{
	bool any = false, comma = false;

	for (unsigned i = 0; i < sl->n_workers; i++)
		any |= sl->workers[i]->resting;
	if (!any)
		return;
	fputs("set corelist ", f);
	for (unsigned i = 0; i < sl->n_workers; i++) {
		if (sl->workers[i]->resting)
			continue;
		fprintf(f, "%s%u", comma ? "," : "", sl->workers[i]->lcore);
		comma = true;
	}
	fputc('\n', f);
}

static void save_forwarding(const struct sluice *sl, bool same_numbers, FILE *f)
{
	save_portlist(sl, same_numbers, f);
	fprintf(f, "set topology %s\n", topology_name(sl->topology));
	fprintf(f, "set burst %u\n", sl->conf.burst);
	if (sl->conf.share_us != SHARE_US)
		fprintf(f, "set share %u\n", sl->conf.share_us);
	fprintf(f, "set burst tx delay %u retry %u\n", sl->conf.retry_delay_us,
		sl->conf.retry_count);
	save_packets(&sl->conf, f);
	if (sl->show_cycles)
		fputs("set record-core-cycles on\n", f);
	if (sl->verbose)
		fprintf(f, "set verbose %u\n", sl->verbose);
	fprintf(f, "set fwd %s%s\n", sl->engine->name, sl->conf.retry ? " retry" : "");
	fprintf(f, "%s\n", sl->forwarding ? "start" : "stop");
}

void config_save_early(const struct sluice *sl, FILE *f)
{
	save_cores(sl, f);
	/* Before the ports: a device is told when it is configured that it will have to wake us. */
	if (!sl->conf.sleep_auto)
		fprintf(f, "set sleep %u\n", sl->conf.sleep_us);
}

static void save_rest(const struct sluice *sl, bool same_numbers, FILE *f)
{
	save_crosses(sl, f);
	save_fdb(sl, f);
	save_forwarding(sl, same_numbers, f);
}

void config_save_late(const struct sluice *sl, FILE *f)
{
	const struct port *port;

	PORT_FOREACH(sl, port)
	save_settings(port, f);
	save_rest(sl, true, f);
}

void config_save(const struct sluice *sl, FILE *f)
{
	const struct port *port;

	fputs("# written by `config save`\n", f);
	config_save_early(sl, f);
	PORT_FOREACH(sl, port)
	{
		port_save(port, f);
		save_settings(port, f);
	}
	save_rest(sl, false, f);
}

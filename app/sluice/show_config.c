/* SPDX-License-Identifier: BSD-3-Clause */
/* `show config fwd` and `rxtx`, in testpmd's words. */
#include "show_config.h"

#include <inttypes.h>

#include <rte_ethdev.h>

#include "verbs.h"

/* ---- streams ---- */

/* Whether this worker polls this queue, or will after `start`. */
static bool streams_on(
	const struct sluice *sl, const struct worker *w, const struct port *port, unsigned queue)
{
	return port->rxq[queue].worker == w->index && plan_forwards(sl, port);
}

static unsigned streams_of(const struct sluice *sl, const struct worker *w)
{
	struct port *port;
	unsigned n = 0;

	PORT_FOREACH(sl, port)
	for (unsigned i = 0; i < port->n_rxq; i++)
		n += streams_on(sl, w, port, i);
	return n;
}

unsigned show_config_streams(const struct sluice *sl)
{
	unsigned n = 0;

	for (unsigned i = 0; i < sl->n_workers; i++)
		n += streams_of(sl, sl->workers[i]);
	return n;
}

/* As testpmd, which employs no more than there are streams. */
static unsigned busy_workers(const struct sluice *sl)
{
	unsigned n = 0;

	for (unsigned i = 0; i < sl->n_workers; i++)
		n += streams_of(sl, sl->workers[i]) > 0;
	return n;
}

static void show_stream(const struct sluice *sl, struct port *port, unsigned queue, FILE *f)
{
	struct stream st = plan_stream(port, queue);
	const struct port *peer = st.has_peer ? sl->ports[st.tx.port] : NULL;

	fprintf(f, "\n  RX P=%u/Q=%u (socket %u) -> ", port->id, queue, verb_node(port->node));
	if (peer)
		fprintf(f, "TX P=%u/Q=%u (socket %u) peer=" RTE_ETHER_ADDR_PRT_FMT, peer->id,
			st.tx.queue, verb_node(peer->node), RTE_ETHER_ADDR_BYTES(&st.dst));
	else
		fprintf(f, "%s", sl->engine->name);
}

/* In testpmd's order: the first queue of each port, then the second. */
static void show_worker(const struct sluice *sl, const struct worker *w, FILE *f)
{
	struct port *list[PORT_MAX];
	unsigned ports = verb_forwarding_ports(sl, list), left = streams_of(sl, w);

	if (left == 0)
		return;
	fprintf(f, "Logical Core %u (socket %u) forwards packets on %u streams:", w->lcore,
		verb_node(w->node), left);
	for (unsigned q = 0; left > 0; q++) {
		for (unsigned i = 0; i < ports; i++) {
			if (q >= list[i]->n_rxq || !streams_on(sl, w, list[i], q))
				continue;
			show_stream(sl, list[i], q, f);
			left--;
		}
	}
	fputc('\n', f);
}

/* Streams testpmd would list; here a queue is polled when its guest says so. */
static void show_unused(const struct sluice *sl, FILE *f)
{
	struct port *port;

	PORT_FOREACH(sl, port)
	{
		unsigned unused = 0;

		for (unsigned i = 0; i < port->n_rxq; i++)
			unused += !port->rxq[i].usable && plan_forwards(sl, port);
		if (unused)
			fprintf(f, "Not polled: %u of %u queues of port %u (%s), %s\n", unused,
				port->n_rxq, port->id, port->name,
				port->kind == PORT_VM ? "not started by its guest"
						      : "its device is out of use");
	}
}

void show_config_fwd(const struct sluice *sl, FILE *f)
{
	struct port *list[PORT_MAX];

	fprintf(f,
		"%s packet forwarding%s - ports=%u - cores=%u - streams=%u - NUMA support enabled, "
		"MP allocation mode: native\n",
		sl->engine->name, sl->conf.retry ? " with retry" : "",
		verb_forwarding_ports(sl, list), busy_workers(sl), show_config_streams(sl));
	if (sl->conf.retry)
		fprintf(f, "TX retry num: %u, delay between TX retries: %uus\n",
			sl->conf.retry_count, sl->conf.retry_delay_us);
	for (unsigned i = 0; i < sl->n_workers; i++)
		show_worker(sl, sl->workers[i], f);
	show_unused(sl, f);
	fputc('\n', f);
}

/* ---- the same as JSON ---- */

static json_t *stream_json(const struct sluice *sl, struct port *port, unsigned queue)
{
	const struct port_rxq *q = &port->rxq[queue];
	struct stream st = plan_stream(port, queue);
	char mac[RTE_ETHER_ADDR_FMT_SIZE];
	json_t *o = verb_port_json(port);

	json_object_set_new(o, "queue", json_integer(queue));
	if (q->worker >= 0)
		json_object_set_new(o, "lcore", json_integer(sl->workers[q->worker]->lcore));
	json_object_set_new(o, "usable", json_boolean(q->usable));
	json_object_set_new(o, "busy_per_mille", json_integer(q->load));
	if (st.has_peer)
		json_object_update_new(
			o, json_pack("{s:i, s:i, s:s}", "tx_port", st.tx.port, "tx_queue",
				   st.tx.queue, "peer", mac_text(&st.dst, mac)));
	return o;
}

json_t *show_config_json(const struct sluice *sl)
{
	json_t *streams = json_array();
	struct port *list[PORT_MAX], *port;

	PORT_FOREACH(sl, port)
	for (unsigned i = 0; i < port->n_rxq && plan_forwards(sl, port); i++)
		json_array_append_new(streams, stream_json(sl, port, i));
	return json_pack("{s:s, s:b, s:b, s:i, s:i, s:i, s:i, s:i, s:o}", "engine",
		sl->engine->name, "forwarding", sl->forwarding, "retry", sl->conf.retry,
		"retry_count", sl->conf.retry_count, "retry_delay_us", (int)sl->conf.retry_delay_us,
		"burst", sl->conf.burst, "ports", verb_forwarding_ports(sl, list), "cores",
		busy_workers(sl), "streams", streams);
}

/* ---- queues ---- */

/* What testpmd prints of a queue; zero where the driver does not say. */
struct queue_conf {
	unsigned desc, free_thresh, rs_thresh;
	struct rte_eth_thresh thresh;
	uint64_t offloads;
};

/* Those that testpmd could name, too. */
static uint64_t ethdev_offloads(const struct port *port)
{
	return port->tx_offloads & ~VNET_TX_OFFLOAD_OWN;
}

static void vm_queue_conf(const struct port *port, bool rx, unsigned queue, struct queue_conf *q)
{
	struct vu_ring_info ring;
	struct vu_info info;

	vu_device_info(port->vm.dev, &info);
	vu_ring_info(port->vm.dev, 2 * queue + rx, &ring);
	*q = (struct queue_conf){
		.desc = ring.num,
		.offloads = rx ? vnet_rx_offloads(info.features) : ethdev_offloads(port),
	};
}

static void dev_rxq_conf(const struct port *port, unsigned queue, struct queue_conf *q)
{
	struct rte_eth_rxq_info info;

	*q = (struct queue_conf){0};
	if (rte_eth_rx_queue_info_get(port->dev.eth, (uint16_t)queue, &info) == 0)
		*q = (struct queue_conf){
			.desc = info.nb_desc,
			.free_thresh = info.conf.rx_free_thresh,
			.thresh = info.conf.rx_thresh,
			.offloads = info.conf.offloads,
		};
}

static void dev_txq_conf(const struct port *port, unsigned queue, struct queue_conf *q)
{
	struct rte_eth_txq_info info;

	*q = (struct queue_conf){.offloads = port->tx_offloads};
	if (rte_eth_tx_queue_info_get(port->dev.eth, (uint16_t)queue, &info) == 0)
		*q = (struct queue_conf){
			.desc = info.nb_desc,
			.free_thresh = info.conf.tx_free_thresh,
			.rs_thresh = info.conf.tx_rs_thresh,
			.thresh = info.conf.tx_thresh,
			.offloads = info.conf.offloads,
		};
}

static void rxq_conf(const struct port *port, unsigned queue, struct queue_conf *q)
{
	if (port->kind == PORT_VM)
		vm_queue_conf(port, true, queue, q);
	else
		dev_rxq_conf(port, queue, q);
}

static void show_polled(const struct port *port, const struct port_rxq *q, FILE *f)
{
	const struct sluice *sl = port->sl;

	if (q->worker < 0)
		fprintf(f, "      not polled: not started by the guest\n");
	else
		fprintf(f, "      polled by lcore %u%s - busy %u.%u %%\n",
			sl->workers[q->worker]->lcore, q->pin >= 0 ? " (pinned)" : "", q->load / 10,
			q->load % 10);
}

static void show_rxq(const struct port *port, unsigned queue, FILE *f)
{
	struct queue_conf q;

	rxq_conf(port, queue, &q);
	fprintf(f,
		"    RX queue: %u\n"
		"      RX desc=%u - RX free threshold=%u\n"
		"      RX threshold registers: pthresh=%u hthresh=%u  wthresh=%u\n"
		"      RX Offloads=0x%" PRIx64 "\n",
		queue, q.desc, q.free_thresh, q.thresh.pthresh, q.thresh.hthresh, q.thresh.wthresh,
		q.offloads);
	show_polled(port, &port->rxq[queue], f);
}

static void show_txq(const struct port *port, unsigned queue, FILE *f)
{
	struct queue_conf q;

	if (port->kind == PORT_VM)
		vm_queue_conf(port, false, queue, &q);
	else
		dev_txq_conf(port, queue, &q);
	fprintf(f,
		"    TX queue: %u\n"
		"      TX desc=%u - TX free threshold=%u\n"
		"      TX threshold registers: pthresh=%u hthresh=%u  wthresh=%u\n"
		"      TX offloads=0x%" PRIx64 " - TX RS bit threshold=%u\n",
		queue, q.desc, q.free_thresh, q.thresh.pthresh, q.thresh.hthresh, q.thresh.wthresh,
		q.offloads, q.rs_thresh);
}

static void show_port(const struct port *port, FILE *f)
{
	struct queue_conf first;

	rxq_conf(port, 0, &first);
	fprintf(f, "  port %u: RX queue number: %u Tx queue number: %u\n", port->id, port->n_rxq,
		port->n_txq);
	fprintf(f, "    Rx offloads=0x%" PRIx64 " Tx offloads=0x%" PRIx64 "\n", first.offloads,
		ethdev_offloads(port));
	/* The first, and those in use: a guest may start few of many. */
	for (unsigned i = 0; i < port->n_rxq; i++)
		if (i == 0 || port->rxq[i].usable)
			show_rxq(port, i, f);
	for (unsigned i = 0; i < port->n_txq; i++)
		if (i == 0 || port->txq[i].usable)
			show_txq(port, i, f);
}

void show_config_rxtx(const struct sluice *sl, FILE *f)
{
	struct port *list[PORT_MAX], *port;

	fprintf(f, "  %s packet forwarding%s packets/burst=%u\n", sl->engine->name,
		sl->conf.retry ? " with retry" : "", sl->conf.burst);
	if (sl->engine == &engine_txonly || sl->engine == &engine_flowgen)
		fprintf(f, "  packet len=%u - nb packet segments=%u\n",
			engine_conf_tx_len(&sl->conf), sl->conf.tx_segs);
	fprintf(f, "  nb forwarding cores=%u - nb forwarding ports=%u\n", busy_workers(sl),
		verb_forwarding_ports(sl, list));
	PORT_FOREACH(sl, port)
	show_port(port, f);
}

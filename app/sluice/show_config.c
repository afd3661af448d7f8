/* SPDX-License-Identifier: BSD-3-Clause */
/* `show config fwd`, in testpmd's words. */
#include "show_config.h"

#include <rte_lcore.h>

#include "sluice.h"

static unsigned node_of(int node)
{
	return node < 0 ? 0 : (unsigned)node;
}

static unsigned streams_of(const struct sluice *sl, const struct worker *w)
{
	struct port *port;
	unsigned n = 0;

	PORT_FOREACH(sl, port)
	for (unsigned i = 0; i < port->n_rxq; i++)
		n += port->rxq[i].worker == w->index;
	return n;
}

static void show_stream(const struct sluice *sl, struct port *port, unsigned queue, FILE *f)
{
	struct stream st = plan_stream(port, queue);
	const struct port *peer = st.has_peer ? sl->ports[st.tx.port] : NULL;

	fprintf(f, "\n  RX P=%u/Q=%u (socket %u) -> ", port->id, queue, node_of(port->node));
	if (peer)
		fprintf(f, "TX P=%u/Q=%u (socket %u) peer=" RTE_ETHER_ADDR_PRT_FMT, peer->id,
			st.tx.queue, node_of(peer->node), RTE_ETHER_ADDR_BYTES(&st.dst));
	else
		fprintf(f, "%s", sl->engine->name);
}

static void show_worker(const struct sluice *sl, const struct worker *w, FILE *f)
{
	struct port *port;

	fprintf(f, "Logical Core %u (socket %u) forwards packets on %u streams:", w->lcore,
		node_of(w->node), streams_of(sl, w));
	PORT_FOREACH(sl, port)
	for (unsigned i = 0; i < port->n_rxq; i++)
		if (port->rxq[i].worker == w->index)
			show_stream(sl, port, i, f);
	fputc('\n', f);
}

void show_config_fwd(const struct sluice *sl, FILE *f)
{
	struct port *list[PORT_MAX];
	unsigned streams = 0;

	for (unsigned i = 0; i < sl->n_workers; i++)
		streams += streams_of(sl, sl->workers[i]);
	fprintf(f,
		"%s packet forwarding%s - ports=%u - cores=%u - streams=%u - NUMA support enabled, "
		"MP allocation mode: native\n",
		sl->engine->name, sl->conf.retry ? " with retry" : "", plan_port_list(sl, list),
		sl->n_workers, streams);
	if (sl->conf.retry)
		fprintf(f, "TX retry num: %u, delay between TX retries: %uus\n",
			sl->conf.retry_count, sl->conf.retry_delay_us);
	for (unsigned i = 0; i < sl->n_workers; i++)
		show_worker(sl, sl->workers[i], f);
	fputc('\n', f);
}

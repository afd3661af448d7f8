/* SPDX-License-Identifier: BSD-3-Clause */
/* Statistics: the basic ones, and per queue under librte_vhost's names. */
#include <errno.h>
#include <inttypes.h>

#include "sluice_pmd.h"
#include "virtq_stats.h"

/*
 * Theory of operation
 *
 * Rings count in their struct virtq_stats and never go back. A reset keeps a copy of the
 * counters in the queue, and every reader shows the difference; so no reader ever writes
 * what an lcore writes, and counters survive a restart of the port.
 *
 * Names are rx_q0_good_packets and so on, from virtq_stats.h. Each drop reason is
 * rx_q0_drop_<reason> or tx_q0_drop_<reason>, with the reason's own name (virtq_drop_name),
 * which is the same in every tool of ours: rx_q0_drop_rx_no_mbuf.
 *
 * What becomes of drops in the basic statistics:
 *   imissed	  received, and nobody could take it: no mbuf, or an unused queue
 *   ierrors	  the guest sent something that is no packet
 *   oerrors	  taken from the application, not delivered
 * A packet the guest has no room for is none of these: the burst hands it back. How often
 * that happened is tx_q0_unsent_packets.
 */

/* ---- one queue's counters ---- */

static void ring_counters(const struct sl_queue *q, struct virtq_stats *now)
{
	for (size_t i = 0; i < sizeof(*now) / sizeof(uint64_t); i++)
		((uint64_t *)now)[i] = virtq_load(&((uint64_t *)&q->vq->stats)[i]);
}

static void since_reset(const struct sl_queue *q, struct virtq_stats *out)
{
	ring_counters(q, out);
	for (size_t i = 0; i < sizeof(*out) / sizeof(uint64_t); i++)
		((uint64_t *)out)[i] -= ((const uint64_t *)&q->base)[i];
}

static void reset(struct sl_queue *q)
{
	ring_counters(q, &q->base);
	q->unsent_base = virtq_load(&q->unsent);
}

/* ---- the basic statistics ---- */

static void add_rx(struct rte_eth_stats *stats, const struct virtq_stats *st)
{
	uint64_t missed = st->drops[VIRTQ_DROP_RX_NO_MBUF] + st->drops[VIRTQ_DROP_RX_DISABLED];

	stats->ipackets += st->packets;
	stats->ibytes += st->bytes;
	stats->imissed += missed;
	stats->ierrors += virtq_stats_drops(st, false) - missed;
	stats->rx_nombuf += st->no_mbuf;
}

static void add_tx(struct rte_eth_stats *stats, const struct virtq_stats *st)
{
	stats->opackets += st->packets;
	stats->obytes += st->bytes;
	stats->oerrors += virtq_stats_drops(st, true);
}

int sl_stats_get(DPDK_STATS_GET_PARAMS)
{
	DPDK_QUEUE_STATS *queues = DPDK_STATS_GET_QUEUES;
	struct sl_port *port = dev->data->dev_private;
	struct virtq_stats st;

	/* All of them: what a guest sends to a queue nobody set up is missed as well. */
	for (uint16_t i = 0; i < port->args.queues; i++) {
		since_reset(sl_rx_queue(port, i), &st);
		add_rx(stats, &st);
		if (queues && i < RTE_MIN(dev->data->nb_rx_queues, RTE_ETHDEV_QUEUE_STAT_CNTRS)) {
			queues->q_ipackets[i] = st.packets;
			queues->q_ibytes[i] = st.bytes;
			queues->q_errors[i] = virtq_stats_drops(&st, false);
		}
	}
	for (uint16_t i = 0; i < port->args.queues; i++) {
		since_reset(sl_tx_queue(port, i), &st);
		add_tx(stats, &st);
		if (queues && i < RTE_MIN(dev->data->nb_tx_queues, RTE_ETHDEV_QUEUE_STAT_CNTRS)) {
			queues->q_opackets[i] = st.packets;
			queues->q_obytes[i] = st.bytes;
		}
	}
	return 0;
}

int sl_stats_reset(struct rte_eth_dev *dev)
{
	struct sl_port *port = dev->data->dev_private;

	for (unsigned int i = 0; i < 2u * port->args.queues; i++)
		reset(&port->queue[i]);
	return 0;
}

/* ---- the extended ones ---- */

/* Where the next statistic goes: names, values, or neither, which counts them. */
struct sink {
	struct rte_eth_xstat_name *names;
	struct rte_eth_xstat *values;
	unsigned int n, room;
};

__rte_format_printf(3, 4) static void put(struct sink *s, uint64_t value, const char *format, ...)
{
	va_list ap;

	if (s->n < s->room && s->names) {
		va_start(ap, format);
		vsnprintf(s->names[s->n].name, sizeof(s->names[s->n].name), format, ap);
		va_end(ap);
	}
	if (s->n < s->room && s->values)
		s->values[s->n] = (struct rte_eth_xstat){.id = s->n, .value = value};
	s->n++;
}

static void put_queue(struct sink *s, const struct sl_queue *q, bool tx, uint16_t i)
{
	struct virtq_stats st;
	const char *name;
	uint64_t value;

	since_reset(q, &st);
	for (unsigned int k = 0; (name = virtq_stats_next(&st, tx, &k, &value)) != NULL;)
		put(s, value, "%s_q%u_%s", tx ? "tx" : "rx", i, name);
	if (tx)
		put(s, virtq_load(&q->unsent) - q->unsent_base, "tx_q%u_unsent_packets", i);
}

static int put_all(struct rte_eth_dev *dev, struct sink s)
{
	struct sl_port *port = dev->data->dev_private;

	for (uint16_t i = 0; i < dev->data->nb_rx_queues; i++)
		put_queue(&s, sl_rx_queue(port, i), false, i);
	for (uint16_t i = 0; i < dev->data->nb_tx_queues; i++)
		put_queue(&s, sl_tx_queue(port, i), true, i);
	return (int)s.n;
}

int sl_xstats_get_names(struct rte_eth_dev *dev, struct rte_eth_xstat_name *names, unsigned int n)
{
	return put_all(dev, (struct sink){.names = names, .room = n});
}

int sl_xstats_get(struct rte_eth_dev *dev, struct rte_eth_xstat *values, unsigned int n)
{
	return put_all(dev, (struct sink){.values = values, .room = n});
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Where a port meets its vhost-user device: everything here runs on the control thread. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#include <rte_alarm.h>

#include "sluice_pmd.h"
#include "virtq_uapi.h"

/*
 * Theory of operation
 *
 * The device is there from probe to close, so that a guest may come and go whenever it
 * likes; the link tells whether one is there. prepare() decides what lcores do at its
 * rings: in a started port they move packets; in a stopped one a burst that does nothing
 * keeps what the guest has sent for later; a ring without an ethdev queue gets no burst,
 * and the device throws away and counts what comes there.
 *
 * The application is told of changes on the EAL's interrupt thread, as by any driver of
 * hardware: its callback may wait for a lock that is held by a thread of the application's
 * which in turn waits for the control thread. For the same reason closing a port does not
 * wait for a callback: what an alarm has in hand outlives the port and is only cut off.
 */

/* What a guest may send us larger than a frame on the wire. */
#define SEGMENTATION                                                            \
	(1ull << VIRTIO_NET_F_HOST_TSO4 | 1ull << VIRTIO_NET_F_HOST_TSO6 |      \
		1ull << VIRTIO_NET_F_HOST_ECN | 1ull << VIRTIO_NET_F_HOST_UFO | \
		1ull << VIRTIO_NET_F_HOST_USO | 1ull << VIRTIO_NET_F_GSO)

/* What mbufs have no flag for that an application could know: see VNET_MBUF_F_UFO. */
#define FRAGMENTATION (1ull << VIRTIO_NET_F_HOST_UFO | 1ull << VIRTIO_NET_F_GSO)

/* ---- telling the application ---- */

/* An alarm under way. */
struct sl_notice {
	struct sl_port *port; /* NULL: it was closed */
};

/* Of all ports' notices, and of what they tell. Never held while anything else is waited for. */
static pthread_mutex_t notice_lock = PTHREAD_MUTEX_INITIALIZER;

/* The callback may even close the port, so nothing of it is read afterwards. */
static void on_alarm(void *arg)
{
	struct sl_notice *notice = arg;
	struct rte_eth_dev *eth = NULL;
	unsigned int queue_events = 0;
	bool link_event = false;

	pthread_mutex_lock(&notice_lock);
	if (notice->port) {
		eth = notice->port->eth;
		queue_events = notice->port->queue_events;
		link_event = notice->port->link_event;
		notice->port->queue_events = 0;
		notice->port->link_event = false;
		notice->port->notice = NULL;
	}
	pthread_mutex_unlock(&notice_lock);
	free(notice);
	while (queue_events-- > 0)
		rte_eth_dev_callback_process(eth, RTE_ETH_EVENT_QUEUE_STATE, NULL);
	if (link_event)
		rte_eth_dev_callback_process(eth, RTE_ETH_EVENT_INTR_LSC, NULL);
}

static struct sl_notice *notice_new(struct sl_port *port)
{
	struct sl_notice *notice = malloc(sizeof(*notice));

	if (notice)
		notice->port = port;
	if (notice && rte_eal_alarm_set(1, on_alarm, notice) == 0)
		return notice;
	SL_LOG(ERR, "%s: no memory to tell the application of a change", port->args.iface);
	free(notice);
	return NULL; /* the next change tells of this one too */
}

static void notify(struct sl_port *port, unsigned int queue_events, bool link_event)
{
	pthread_mutex_lock(&notice_lock);
	port->queue_events += queue_events;
	port->link_event |= link_event;
	if (!port->notice)
		port->notice = notice_new(port);
	pthread_mutex_unlock(&notice_lock);
}

static void notify_no_more(struct sl_port *port)
{
	pthread_mutex_lock(&notice_lock);
	if (port->notice)
		port->notice->port = NULL;
	pthread_mutex_unlock(&notice_lock);
}

/* ---- what the device asks and tells ---- */

static void prepare_rx(struct sl_port *port, struct sl_queue *q, struct virtq_view *view)
{
	vnet_prepare(view, &q->rx);
	if (port->args.zero_copy)
		sl_lend_prepare(port, q, view);
	/* Only ever set while the port runs: the lcore reads it outside the gate. */
	if (port->checksum_rx && (view->features & (1ull << VIRTIO_NET_F_CSUM)))
		virtq_store(&q->soften, VNET_OFFLOAD_FLAGS);
}

static void prepare_tx(struct sl_queue *q, struct virtq_view *view)
{
	uint64_t offloads = vnet_tx_offloads(view->features);

	vnet_prepare(view, NULL);
	virtq_store(&q->offloads, offloads);
	virtq_store(&q->soften, vnet_soft_mask(offloads));
}

static uint16_t nobody_polls(
	struct virtq *vq, const struct virtq_view *view, void **pkts, uint16_t n)
{
	(void)vq, (void)view, (void)pkts, (void)n;
	return 0;
}

static void mention_unused(struct sl_port *port, unsigned int ring)
{
	struct sl_queue *q = &port->queue[ring];

	if (!q->is_mentioned)
		SL_LOG(WARNING,
			"%s: the guest uses ring %u, but the application has set up no %s queue "
			"%u: configure as many queues as the guest has",
			port->args.iface, ring, ring & 1 ? "receive" : "transmit", ring / 2);
	q->is_mentioned = true;
}

static void on_prepare(void *arg, unsigned int ring, struct virtq_view *view)
{
	struct sl_port *port = arg;
	struct sl_queue *q = &port->queue[ring];

	if (!port->started)
		view->burst = nobody_polls;
	else if (!q->is_setup)
		mention_unused(port, ring);
	else if (ring & 1)
		prepare_rx(port, q, view);
	else
		prepare_tx(q, view);
}

static void on_ring_changed(void *arg, unsigned int ring, bool usable)
{
	struct sl_port *port = arg;

	SL_LOG(INFO, "%s: ring %u is %s", port->args.iface, ring, usable ? "usable" : "closed");
	sl_intr_poke(&port->queue[ring]);
	notify(port, 1, false);
}

static void on_link_changed(void *arg, bool up)
{
	struct sl_port *port = arg;
	struct rte_eth_link link = port->eth->data->dev_link;

	link.link_status = up ? RTE_ETH_LINK_UP : RTE_ETH_LINK_DOWN;
	rte_eth_linkstatus_set(port->eth, &link);
	notify(port, 0, true);
}

static void on_log(void *arg, enum vu_log_level level, const char *line)
{
	static const uint32_t levels[] = {
		[VU_LOG_ERROR] = RTE_LOG_ERR,
		[VU_LOG_WARNING] = RTE_LOG_WARNING,
		[VU_LOG_INFO] = RTE_LOG_INFO,
		[VU_LOG_DEBUG] = RTE_LOG_DEBUG,
	};
	const struct sl_port *port = arg;

	rte_log(levels[level], sl_logtype, "net_sluice: %s: %s\n", port->args.iface, line);
}

static const struct vu_device_ops device_ops = {
	.prepare = on_prepare,
	.ring_changed = on_ring_changed,
	.link_changed = on_link_changed,
	.log = on_log,
};

/* ---- what the ethdev operations ask, each a function for any thread and its other half ---- */

struct open_call {
	struct sl_port *port;
	char *why;
	size_t why_len;
};

/* Legacy flags are requests that the application may hand to any other device. */
static uint64_t offered(const struct sl_devargs *args)
{
	uint64_t features = vu_default_features();

	/* Who keeps a packet must not keep all that were received after it. */
	if (args->zero_copy)
		features &= ~(1ull << VIRTIO_F_IN_ORDER);
	if (args->iommu_support)
		features |= 1ull << VIRTIO_F_ACCESS_PLATFORM;
	return features & ~(args->tso ? 0 : SEGMENTATION) &
	       ~(args->legacy_ol_flags ? FRAGMENTATION : 0);
}

static int device_open(void *arg)
{
	struct open_call *c = arg;
	struct sl_port *port = c->port;
	struct vu_device_conf conf = {
		.path = port->args.iface,
		.state_path = port->args.state_file[0] ? port->args.state_file : NULL,
		.listen = !port->args.client,
		.queue_pairs = port->args.queues,
		.features = offered(&port->args),
		.initial_enable = VU_ENABLE_AUTO,
		.postcopy = port->args.postcopy_support,
		.ops = &device_ops,
		.arg = port,
	};
	int err = vu_device_create(sl_control_base(), &conf, &port->dev, c->why, c->why_len);

	if (err)
		return err;
	for (unsigned int i = 0; i < 2u * port->args.queues; i++)
		port->queue[i].vq = vu_device_ring(port->dev, i);
	return 0;
}

int sl_device_open(struct sl_port *port, char *why, size_t why_len)
{
	struct open_call c = {port, why, why_len};
	int err;

	snprintf(why, why_len, "out of memory");
	err = sl_control_get();
	if (err)
		return err;
	err = sl_control_call(device_open, &c);
	if (err)
		sl_control_put();
	else
		sl_lend_enter(port);
	return err;
}

static int device_close(void *arg)
{
	struct sl_port *port = arg;
	int err;

	port->started = false;
	err = vu_device_reconcile(port->dev);
	vu_device_leave(port->dev);
	vu_device_destroy(port->dev);
	sl_lend_close(port);
	notify_no_more(port);
	return err == -ETIMEDOUT ? err : 0;
}

int sl_device_close(struct sl_port *port)
{
	int err;

	sl_lend_leave(port);
	err = sl_control_call(device_close, port);
	sl_control_put();
	return err;
}

int sl_device_reconcile(void *arg)
{
	struct sl_port *port = arg;

	return vu_device_reconcile(port->dev);
}

static int device_start(void *arg)
{
	struct sl_port *port = arg;

	for (unsigned int i = 0; i < 2u * port->args.queues; i++) {
		port->queue[i].soften = 0;
		port->queue[i].is_mentioned = false;
	}
	port->started = true;
	return vu_device_reconcile(port->dev);
}

int sl_device_start(struct sl_port *port)
{
	return sl_control_call(device_start, port);
}

static int device_stop(void *arg)
{
	struct sl_port *port = arg;

	port->started = false;
	return vu_device_reconcile(port->dev);
}

int sl_device_stop(struct sl_port *port)
{
	return sl_control_call(device_stop, port);
}

struct ring_call {
	const struct sl_port *port;
	unsigned int ring;
};

static int device_fill(void *arg)
{
	const struct ring_call *c = arg;
	struct vu_ring_info info;

	vu_ring_info(c->port->dev, c->ring, &info);
	return info.fill;
}

int sl_device_fill(const struct sl_port *port, unsigned int ring)
{
	struct ring_call c = {port, ring};

	return sl_control_call(device_fill, &c);
}

static int device_bell(void *arg)
{
	const struct ring_call *c = arg;

	return vu_device_bell(c->port->dev, c->ring);
}

int sl_device_bell(const struct sl_port *port, unsigned int ring)
{
	struct ring_call c = {port, ring};

	return sl_control_call(device_bell, &c);
}

/* ---- for people ---- */

struct dump_call {
	struct sl_port *port;
	FILE *file;
};

static void dump_ring(const struct sl_port *port, unsigned int ring, FILE *file)
{
	struct vu_ring_info info;

	vu_ring_info(port->dev, ring, &info);
	fprintf(file, "  ring %u: %s, %s, %s, %u entries, %u waiting, fault: %s\n", ring,
		info.started ? "started" : "stopped", info.enabled ? "enabled" : "disabled",
		info.usable ? "usable" : "closed", info.num, info.fill,
		virtq_fault_text(info.fault));
	for (unsigned int i = 0; i < VIRTQ_DROP_COUNT; i++)
		if (info.stats.drops[i])
			fprintf(file, "    %s: %" PRIu64 " (%s)\n", virtq_drop_name(i),
				info.stats.drops[i], virtq_drop_advice(i));
}

static int device_dump(void *arg)
{
	const struct dump_call *c = arg;
	struct vu_info info;
	char names[512];

	vu_device_info(c->port->dev, &info);
	fprintf(c->file, "  socket: %s (%s), %s, %" PRIu64 " connections so far\n", info.path,
		info.listen ? "listening" : "connecting",
		info.connection == VU_CONNECTED ? "connected" : "not connected", info.connections);
	fprintf(c->file, "  features: %s\n", vu_feature_names(info.features, names, sizeof(names)));
	fprintf(c->file, "  protocol features: %s\n",
		vu_protocol_feature_names(info.protocol_features, names, sizeof(names)));
	fprintf(c->file, "  device status: %s\n",
		vu_status_names(info.status, names, sizeof(names)));
	if (info.mtu)
		fprintf(c->file, "  MTU of the guest: %u\n", info.mtu);
	fprintf(c->file, "  trouble: %s\n  last error: %s\n", vu_trouble_text(info.trouble),
		info.last_error);
	for (unsigned int i = 0; i < 2u * info.queue_pairs; i++)
		dump_ring(c->port, i, c->file);
	return 0;
}

int sl_device_dump(struct sl_port *port, FILE *file)
{
	struct dump_call c = {port, file};

	return sl_control_call(device_dump, &c);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* VM ports: a vhost-user device, its rings as the port's queues. */
#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/virtio_config.h>
#include <string.h>
#include <sys/vfs.h>

#include "port.h"
#include "relay.h"
#include "sluice.h"

void port_vm_refresh(struct port *port)
{
	struct vu_info info;

	vu_device_info(port->vm.dev, &info);
	port->tx_offloads = vnet_tx_offloads(info.features);
	port->node = port_vm_node(port, info.mem);
	port->vm.mtu = info.mtu;
	plan_dirty(port->sl);
}

/* ---- vhost-user events, on the control thread ---- */

/* Packets a port may lend at a time: a ring lends half of it, and seldom has more than 1024. */
#define LENT_MAX   512
#define LENT_TOTAL 4096
#define LENT_MIN   64

/* A guest that moves here page by page, or may move its addresses, keeps its buffers to itself. */
static bool may_lend(const struct port *port)
{
	return !port->vm.options.copy && !port->vm.options.postcopy && !port->vm.options.iommu;
}

static void lend(struct port *port, struct port_rxq *q, struct virtq_view *view, int node)
{
	const uint16_t packets = RTE_MIN(LENT_MAX, RTE_MAX(LENT_TOTAL / port->n_rxq, LENT_MIN));

	if (!q->lender)
		q->lender = vnet_lender_create(packets, node);
	if (!q->lender)
		return; /* short of memory: everything is copied */
	port->vm.unmapped = NULL;
	vnet_lend(view, q->lender,
		vnet_dma_map(view->mem, &port->vm.unmapped) ? VNET_LEND_ALL : VNET_LEND_LOCAL);
}

static void vm_prepare(void *arg, unsigned ring, struct virtq_view *view)
{
	struct port *port = arg;
	int node = ring & 1 ? port_vm_node(port, virtq_mem_of_guest(view->mem)) : 0;

	if (node < 0 || node >= RTE_MAX_NUMA_NODES)
		node = 0;
	vnet_prepare(view, ring & 1 ? &port->vm.rx_conf[node] : NULL);
	if ((ring & 1) && may_lend(port))
		lend(port, &port->rxq[ring / 2], view, node);
}

void ports_vm_remap(struct sluice *sl)
{
	struct port *port;

	PORT_FOREACH(sl, port)
	if (port->kind == PORT_VM)
		vu_device_reconcile(port->vm.dev);
}

static void vm_ring_changed(void *arg, unsigned ring, bool usable)
{
	struct port *port = arg;

	if (ring & 1)
		port->rxq[ring / 2].usable = usable;
	else
		port->txq[ring / 2].usable = usable;
	port_vm_refresh(port);
}

static void vm_link_changed(void *arg, bool up)
{
	struct port *port = arg;

	if (!up)
		port->vm.node_mem = NULL; /* the next table may come to lie where this one did */
	port_set_up(port, up);
}

static void vm_mtu_changed(void *arg)
{
	port_vm_refresh(arg);
}

static void relay_leaves(struct port *port)
{
	if (!port->vm.relay)
		return;
	relay_stop(port->vm.relay);
	relay_chain(port->vm.relay, port->vm.leaving_relay);
	port->vm.leaving_relay = port->vm.relay;
	port->vm.relay = NULL;
}

/* No ring is usable when it begins: from the next plan on workers leave them to the relay. */
static void vm_postcopy(void *arg, bool on)
{
	struct port *port = arg;

	relay_leaves(port);
	if (on) {
		port->vm.relay = relay_new(port->n_rxq);
		port->vm.relay_planned = false;
		if (!port->vm.relay)
			SL_LOG(WARNING,
				"port %s: short of memory: until the guest's memory is here, its "
				"lcores will wait for it",
				port->name);
	}
	plan_dirty(port->sl);
}

void port_vm_relay_planned(struct port *port)
{
	port->vm.relay_planned = port->vm.relay != NULL;
}

void port_vm_relay_settled(struct port *port)
{
	struct virtq *rx[VU_QUEUE_PAIRS_MAX], *tx[VU_QUEUE_PAIRS_MAX];

	port_vm_relay_left(port);
	if (!port->vm.relay || !port->vm.relay_planned || relay_runs(port->vm.relay))
		return;
	for (unsigned i = 0; i < port->n_rxq; i++) {
		rx[i] = port->rxq[i].vq;
		tx[i] = port->txq[i].vq;
	}
	if (relay_start(port->vm.relay, rx, tx) != 0)
		SL_LOG(ERR, "port %s: no thread for its packets until its memory is here",
			port->name);
}

void port_vm_relay_left(struct port *port)
{
	relay_free(port->vm.leaving_relay);
	port->vm.leaving_relay = NULL;
}

static void vm_log(void *arg, enum vu_log_level level, const char *line)
{
	static const uint32_t levels[] = {
		[VU_LOG_ERROR] = RTE_LOG_ERR,
		[VU_LOG_WARNING] = RTE_LOG_WARNING,
		[VU_LOG_INFO] = RTE_LOG_INFO,
		[VU_LOG_DEBUG] = RTE_LOG_DEBUG,
	};
	const struct port *port = arg;

	rte_log(levels[level], sluice_logtype, "sluice: port %s: %s\n", port->name, line);
}

static const struct vu_device_ops vm_ops = {
	.prepare = vm_prepare,
	.ring_changed = vm_ring_changed,
	.link_changed = vm_link_changed,
	.mtu_changed = vm_mtu_changed,
	.postcopy = vm_postcopy,
	.log = vm_log,
};

/* ---- life ---- */

/* Beside the control socket, if that is in memory, unless we are told where. False: nowhere. */
static bool state_dir(const struct options *opt, char *dir, size_t len)
{
	const char *slash = opt->control ? strrchr(opt->control, '/') : NULL;
	struct statfs fs;

	if (opt->state_dir)
		return snprintf(dir, len, "%s", opt->state_dir) < (int)len &&
		       strcmp(opt->state_dir, "none") != 0;
	if (!opt->control)
		return false;
	snprintf(dir, len, "%.*s", slash ? (int)(slash - opt->control) + 1 : 1,
		slash ? opt->control : ".");
	return statfs(dir, &fs) == 0 && (uint32_t)fs.f_type == TMPFS_MAGIC;
}

/* Named after the control socket as well, so that switches do not meet there. NULL: none is kept. */
static const char *state_path(const struct port *port, char *path, size_t len)
{
	const struct options *opt = &port->sl->opt;
	const char *name = opt->control ? opt->control : "sluice";
	char dir[PATH_MAX];

	if (strrchr(name, '/'))
		name = strrchr(name, '/') + 1;
	if (!state_dir(opt, dir, sizeof(dir)) ||
		snprintf(path, len, "%s/%s.%s.state", dir, name, port->name) >= (int)len)
		return NULL;
	return path;
}

static int vm_open(struct port *port, const char *path, bool listen, char *why, size_t why_len)
{
	char state[PATH_MAX];
	struct vu_device_conf conf = {
		.path = path,
		.listen = listen,
		.access = &port->vm.options.access,
		.queue_pairs = port->n_rxq,
		.features = vu_default_features() |
			    (port->vm.options.iommu ? 1ull << VIRTIO_F_ACCESS_PLATFORM : 0),
		.mac = port->vm.options.has_mac ? port->vm.options.mac.addr_bytes : NULL,
		.initial_enable = VU_ENABLE_AUTO,
		.postcopy = port->vm.options.postcopy,
		.dormant = port->sl->handover.dormant,
		.state_path = state_path(port, state, sizeof(state)),
		.ops = &vm_ops,
		.arg = port,
	};
	int err;

	snprintf(port->vm.path, sizeof(port->vm.path), "%s", path);
	port->vm.listen = listen;
	port->vm.told_node = -1;
	for (int node = 0; node < RTE_MAX_NUMA_NODES; node++)
		port->vm.rx_conf[node] = (struct vnet_rx_conf){
			.pool = sluice_pool(port->sl, node),
			.port = port->id,
			.style = VNET_STYLE_FORWARD,
		};
	err = vu_device_create(port->sl->base, &conf, &port->vm.dev, why, why_len);
	if (err < 0)
		return err;
	for (unsigned i = 0; i < port->n_rxq; i++) {
		port->txq[i].vq = vu_device_ring(port->vm.dev, 2 * i);
		port->rxq[i].vq = vu_device_ring(port->vm.dev, 2 * i + 1);
	}
	return 0;
}

int port_add_vm(struct sluice *sl, const char *name, const char *path, bool listen, uint16_t queues,
	const struct port_vm_options *options, struct port **out, char *why, size_t why_len)
{
	struct port *port;
	int err = port_new(sl, name, PORT_VM, queues, queues, &port, why, why_len);

	if (err < 0)
		return err;
	port->vm.options =
		options ? *options : (struct port_vm_options){.access = USOCK_ACCESS_DEFAULT};
	err = vm_open(port, path, listen, why, why_len);
	if (err < 0) {
		port_free(port);
		return err;
	}
	port_enter(port);
	*out = port;
	return 0;
}

/* While the port still hears of it: a relay must have left the rings. */
void port_vm_close(struct port *port)
{
	if (port->vm.dev && !port->sl->handover.given)
		vu_device_disconnect(port->vm.dev, NULL);
	port_vm_relay_left(port);
	vu_device_destroy(port->vm.dev);
	for (unsigned i = 0; i < port->n_rxq; i++)
		vnet_lender_release(port->rxq[i].lender);
}

/* ---- counters ---- */

static void add_drops(struct port_counters *c, const struct virtq_stats *ring)
{
	for (unsigned d = 0; d < VIRTQ_DROP_COUNT; d++)
		c->ring_drops[d] += ring->drops[d];
}

void port_vm_counters(const struct port *port, struct port_counters *c)
{
	for (unsigned i = 0; i < port->n_rxq; i++) {
		struct virtq_stats rx, tx;

		port_ring_stats(port, i, false, &rx);
		port_ring_stats(port, i, true, &tx);
		c->rx_packets += rx.packets;
		c->rx_bytes += rx.bytes;
		c->rx_nombuf += rx.no_mbuf;
		c->tx_packets += tx.packets;
		c->tx_bytes += tx.bytes;
		add_drops(c, &rx);
		add_drops(c, &tx);
	}
}

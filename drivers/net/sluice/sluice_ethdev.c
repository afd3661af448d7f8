/* SPDX-License-Identifier: BSD-3-Clause */
/* The poll-mode driver net_sluice: a VM's vhost-user port as an ethdev. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <bus_vdev_driver.h>
#include <ethdev_driver.h>
#include <ethdev_vdev.h>

#include "dpdk_compat.h"
#include "sluice_pmd.h"

/*
 * Theory of operation
 *
 * The driver joins lib/vhost_user (who is connected) and lib/vnet (packets), and does
 * nothing else. To an application it is net_vhost under another name:
 *
 *   probe	devargs; the socket appears	       sluice_devargs.c, sluice_device.c
 *   configure, queue setup, start	       lcores may work as soon as a guest is there
 *   rx_burst, tx_burst			       sluice_rxtx.c
 *   stop	lcores may not; the guest stays connected
 *   close	the guest is disconnected, the socket removed
 *
 * Three kinds of threads meet. The application's call the operations in this file, one at
 * a time per port, as ethdev demands. Lcores call the bursts. Everything about the
 * vhost-user device happens on one control thread (sluice_control.c), which the
 * operations ask and wait for.
 */

RTE_LOG_REGISTER(sl_logtype, pmd.net.sluice, NOTICE);

/* The longest frame: 64 KiB of IP behind a header, as segmentation offload makes them. */
#define FRAME_MAX   (UINT16_MAX + RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN)

#define RX_CHECKSUM (RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM)
#define TX_CHECKSUM                                                    \
	(RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM | \
		RTE_ETH_TX_OFFLOAD_IPV4_CKSUM)
#define TX_SEGMENT (RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_UDP_TSO)

/* ---- what the port is ---- */

static int infos_get(struct rte_eth_dev *dev, struct rte_eth_dev_info *info)
{
	const struct sl_devargs *args = &((struct sl_port *)dev->data->dev_private)->args;

	info->max_mac_addrs = 1;
	info->max_rx_queues = args->queues;
	info->max_tx_queues = args->queues;
	info->max_rx_pktlen = FRAME_MAX;
	info->max_lro_pkt_size = FRAME_MAX;
	info->min_mtu = RTE_ETHER_MIN_MTU;
	info->max_mtu = UINT16_MAX;

	info->rx_offload_capa = RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
	info->tx_offload_capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
	if (!args->linear_buffer)
		info->rx_offload_capa |= RTE_ETH_RX_OFFLOAD_SCATTER;
	if (args->legacy_ol_flags)
		return 0; /* offloads are not negotiated, flags are passed through */
	info->rx_offload_capa |= RX_CHECKSUM;
	info->tx_offload_capa |= TX_CHECKSUM;
	if (args->tso) {
		info->rx_offload_capa |= RTE_ETH_RX_OFFLOAD_TCP_LRO;
		info->tx_offload_capa |= TX_SEGMENT;
	}
	return 0;
}

/* The control thread keeps data->dev_link true at all times. */
static int link_update(struct rte_eth_dev *dev, int wait_to_complete)
{
	(void)dev, (void)wait_to_complete;
	return 0;
}

/* Frames of any size pass; the MTU is the application's own affair, also the one that the guest was
 * told: rte_eth_dev_priv_dump() shows it. */
static int mtu_set(struct rte_eth_dev *dev, uint16_t mtu)
{
	(void)dev, (void)mtu;
	return 0;
}

static int mac_addr_set(struct rte_eth_dev *dev, struct rte_ether_addr *mac)
{
	(void)dev, (void)mac;
	return 0;
}

/* Promiscuous, that is: whatever the guest sends is for us. It cannot be turned off. */
static int always_on(struct rte_eth_dev *dev)
{
	(void)dev;
	return 0;
}

/* Asks the control thread: for looking at now and then, not for every poll. */
static dpdk_queue_count rx_queue_count(void *rxq)
{
	const struct sl_queue *q = rxq;

	return (dpdk_queue_count)sl_device_fill(q->port, q->ring);
}

static int tx_done_cleanup(void *txq, uint32_t free_cnt)
{
	(void)txq, (void)free_cnt;
	return 0; /* packets are copied: none is ever held back */
}

static int priv_dump(struct rte_eth_dev *dev, FILE *file)
{
	return sl_device_dump(dev->data->dev_private, file);
}

/* ---- queues ---- */

static int rx_queue_setup(struct rte_eth_dev *dev, uint16_t i, uint16_t ndesc, unsigned int socket,
	const struct rte_eth_rxconf *conf, struct rte_mempool *pool)
{
	struct sl_port *port = dev->data->dev_private;
	struct sl_queue *q = sl_rx_queue(port, i);

	(void)ndesc, (void)socket, (void)conf; /* the guest made the ring */
	q->rx.pool = pool;
	q->rx.port = dev->data->port_id;
	q->rx.linear = port->args.linear_buffer;
	q->rx.ext_buf = port->args.ext_buffer;
	q->is_setup = true;
	dev->data->rx_queues[i] = q;
	return 0;
}

static int tx_queue_setup(struct rte_eth_dev *dev, uint16_t i, uint16_t ndesc, unsigned int socket,
	const struct rte_eth_txconf *conf)
{
	struct sl_queue *q = sl_tx_queue(dev->data->dev_private, i);

	(void)ndesc, (void)socket, (void)conf;
	q->is_setup = true;
	dev->data->tx_queues[i] = q;
	return 0;
}

static void rx_queue_release(struct rte_eth_dev *dev, uint16_t i)
{
	sl_rx_queue(dev->data->dev_private, i)->is_setup = false;
}

static void tx_queue_release(struct rte_eth_dev *dev, uint16_t i)
{
	sl_tx_queue(dev->data->dev_private, i)->is_setup = false;
}

/* ---- from configure to stop ---- */

/*
 * Which burst functions serve this configuration. Software stands in for an offload that
 * one side counts on and the other may lack; which guest it will be is not known yet.
 */
static int dev_configure(struct rte_eth_dev *dev)
{
	const uint64_t wanted = RTE_ETH_TX_OFFLOAD_VLAN_INSERT | TX_SEGMENT;
	uint64_t rx = dev->data->dev_conf.rxmode.offloads;
	uint64_t tx = dev->data->dev_conf.txmode.offloads;
	struct sl_port *port = dev->data->dev_private;
	bool legacy = port->args.legacy_ol_flags;

	port->vlan_strip = rx & RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
	port->checksum_rx = !legacy && !(rx & RX_CHECKSUM);
	port->soften_tx = legacy || (tx & (TX_CHECKSUM | wanted));
	dev->rx_pkt_burst = port->vlan_strip || port->checksum_rx ? sl_rx_burst_soft : sl_rx_burst;
	dev->tx_pkt_burst = port->soften_tx ? sl_tx_burst_soft : sl_tx_burst;
	return 0;
}

static int soft_create(struct rte_eth_dev *dev, struct sl_port *port)
{
	char name[32];

	if (!port->soften_tx || port->soft)
		return 0;
	snprintf(name, sizeof(name), "sluice%u", dev->data->port_id);
	port->soft = vnet_soft_create(name, dev->data->numa_node);
	if (port->soft)
		return 0;
	SL_LOG(ERR,
		"%s: no memory for checksums and segmentation in software: start the program "
		"with more, or turn transmit offloads off",
		port->args.iface);
	return -ENOMEM;
}

/* Hand to the queues what the lcores need of this configuration. */
static int queues_prepare(struct rte_eth_dev *dev, struct sl_port *port)
{
	enum vnet_style style = port->args.legacy_ol_flags || port->checksum_rx
					? VNET_STYLE_FORWARD
					: VNET_STYLE_RECEIVE;
	int err = soft_create(dev, port);

	for (uint16_t i = 0; i < port->args.queues; i++) {
		sl_rx_queue(port, i)->rx.style = style;
		sl_rx_queue(port, i)->vlan_strip = port->vlan_strip;
		sl_tx_queue(port, i)->soft = port->soft;
	}
	return err;
}

static void queue_states(struct rte_eth_dev *dev, uint8_t state)
{
	memset(dev->data->rx_queue_state, state, dev->data->nb_rx_queues);
	memset(dev->data->tx_queue_state, state, dev->data->nb_tx_queues);
}

static int dev_start(struct rte_eth_dev *dev)
{
	struct sl_port *port = dev->data->dev_private;
	int err = queues_prepare(dev, port);

	if (!err)
		err = sl_intr_start(dev);
	if (err)
		return err;
	err = sl_device_start(port);
	if (err)
		sl_device_stop(port);
	else
		queue_states(dev, RTE_ETH_QUEUE_STATE_STARTED);
	return err;
}

static int dev_stop(struct rte_eth_dev *dev)
{
	queue_states(dev, RTE_ETH_QUEUE_STATE_STOPPED);
	return sl_device_stop(dev->data->dev_private);
}

static int dev_close(struct rte_eth_dev *dev)
{
	struct sl_port *port = dev->data->dev_private;

	if (rte_eal_process_type() != RTE_PROC_PRIMARY)
		return 0;
	dev->data->mac_addrs = NULL; /* part of the port, which ethdev frees */
	sl_intr_stop(dev);
	if (sl_device_close(port) == 0) {
		for (uint16_t i = 0; i < 2 * port->args.queues; i++)
			sl_intr_close(&port->queue[i]);
		vnet_soft_destroy(port->soft);
	} else {
		SL_LOG(WARNING,
			"%s: an lcore has not left the port: what it may use is never freed",
			port->args.iface);
		dev->data->dev_private = NULL; /* also not by ethdev */
	}
	return 0;
}

static const struct eth_dev_ops ops = {
	.dev_configure = dev_configure,
	.dev_start = dev_start,
	.dev_stop = dev_stop,
	.dev_close = dev_close,
	.dev_infos_get = infos_get,
	.link_update = link_update,
	.mtu_set = mtu_set,
	.mac_addr_set = mac_addr_set,
	.promiscuous_enable = always_on,
	.allmulticast_enable = always_on,
	.rx_queue_setup = rx_queue_setup,
	.tx_queue_setup = tx_queue_setup,
	.rx_queue_release = rx_queue_release,
	.rx_queue_intr_enable = sl_rx_intr_enable,
	.rx_queue_intr_disable = sl_rx_intr_disable,
	.tx_queue_release = tx_queue_release,
	.tx_done_cleanup = tx_done_cleanup,
	.stats_get = sl_stats_get,
	.stats_reset = sl_stats_reset,
	.xstats_get_names = sl_xstats_get_names,
	.xstats_get = sl_xstats_get,
	.xstats_reset = sl_stats_reset,
	.eth_dev_priv_dump = priv_dump,
};

/* ---- probe and remove ---- */

static void make_mac(struct sl_port *port, uint16_t id)
{
	static const struct rte_ether_addr base = {{0x56, 'S', 'L', 'U', 'C', 0}};

	port->mac = port->args.mac;
	if (rte_is_zero_ether_addr(&port->mac)) {
		port->mac = base;
		port->mac.addr_bytes[5] = (uint8_t)id;
	}
}

static void port_init(struct sl_port *port, struct rte_eth_dev *eth, const struct sl_devargs *args)
{
	struct rte_eth_dev_data *data = eth->data;

	port->eth = eth;
	port->args = *args;
	for (uint16_t i = 0; i < 2 * args->queues; i++) {
		port->queue[i].port = port;
		port->queue[i].ring = i;
		sl_intr_init(&port->queue[i]);
	}
	make_mac(port, data->port_id);
	data->mac_addrs = &port->mac;
	data->dev_link = (struct rte_eth_link){
		.link_speed = RTE_ETH_SPEED_NUM_10G,
		.link_duplex = RTE_ETH_LINK_FULL_DUPLEX,
		.link_autoneg = RTE_ETH_LINK_FIXED,
		.link_status = RTE_ETH_LINK_DOWN,
	};
	data->dev_flags = RTE_ETH_DEV_INTR_LSC | RTE_ETH_DEV_AUTOFILL_QUEUE_XSTATS;
	data->promiscuous = 1;
	data->all_multicast = 1;
	eth->dev_ops = &ops;
	eth->rx_pkt_burst = sl_rx_burst;
	eth->tx_pkt_burst = sl_tx_burst;
	eth->tx_pkt_prepare = sl_tx_prepare;
	eth->rx_queue_count = rx_queue_count;
}

static int port_create(
	struct rte_vdev_device *vdev, const struct sl_devargs *args, char *why, size_t why_len)
{
	size_t size = sizeof(struct sl_port) + 2 * args->queues * sizeof(struct sl_queue);
	struct rte_eth_dev *eth = rte_eth_vdev_allocate(vdev, size);
	struct sl_port *port;
	int err;

	if (!eth) {
		snprintf(why, why_len, "no free port or no memory for it (at most %u ports)",
			RTE_MAX_ETHPORTS);
		return -ENOMEM;
	}
	port = eth->data->dev_private;
	port_init(port, eth, args);
	err = sl_device_open(port, why, why_len);
	if (err) {
		eth->data->mac_addrs = NULL;
		rte_eth_dev_release_port(eth);
		return err;
	}
	rte_eth_dev_probing_finish(eth);
	return 0;
}

static int probe(struct rte_vdev_device *vdev)
{
	const char *name = rte_vdev_device_name(vdev);
	struct sl_devargs args;
	char why[256];
	int err;

	if (rte_eal_process_type() != RTE_PROC_PRIMARY) {
		SL_LOG(ERR, "%s: a secondary process cannot use the port", name);
		return -ENOTSUP;
	}
	if (vdev->device.numa_node == SOCKET_ID_ANY)
		vdev->device.numa_node = (int)rte_socket_id();
	err = sl_devargs_parse(rte_vdev_device_args(vdev), &args, why, sizeof(why));
	if (!err)
		err = vnet_init(why, sizeof(why));
	if (!err)
		err = port_create(vdev, &args, why, sizeof(why));
	if (err)
		SL_LOG(ERR, "%s: %s", name, why);
	return err;
}

static int remove_port(struct rte_vdev_device *vdev)
{
	struct rte_eth_dev *eth = rte_eth_dev_allocated(rte_vdev_device_name(vdev));

	if (!eth)
		return 0; /* the application has closed it */
	dev_close(eth);
	return rte_eth_dev_release_port(eth);
}

/* ---- the driver ---- */

static struct rte_vdev_driver driver = {
	.driver.name = "net_sluice",
	.probe = probe,
	.remove = remove_port,
};

/* Drivers see structures that change with every release, not only with the ABI version in
 * library names: in another release than ours we stay out. */
RTE_INIT(sluice_register)
{
	if (rte_version_year() == RTE_VER_YEAR && rte_version_month() == RTE_VER_MONTH) {
		rte_vdev_register(&driver);
		return;
	}
	fprintf(stderr,
		"net_sluice: built for DPDK %u.%02u, this is %u.%02u: not loaded; build it again "
		"for this DPDK\n",
		RTE_VER_YEAR, RTE_VER_MONTH, rte_version_year(), rte_version_month());
}

/* What dpdk-pmdinfo.py looks for. */
__attribute__((used)) static const char pmd_info[] =
	"PMD_INFO_STRING= {\"name\": \"net_sluice\", \"params\": \"" SL_DEVARGS_HELP
	"\", \"pci_ids\": []}";

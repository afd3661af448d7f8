/* SPDX-License-Identifier: BSD-3-Clause */
/* net_nicsim, for tests: an ethdev that treats mbufs as real NICs and their drivers do. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <ethdev_vdev.h>
#include <rte_cycles.h>

#include "nicsim_priv.h"

/*
 * Theory of operation
 *
 * net_null and net_ring are through with an mbuf before tx_burst returns. A NIC is not: it reads the
 * frame later, by DMA, and its driver frees the mbuf later still, or not at all while nothing else
 * is sent. This device does the same in software, checks at each step that nobody touched what it
 * holds, and counts what it finds.
 *
 *   the application posts	   nicsim_tx.c	     the ring; holding and freeing
 *   the device reads	   nicsim_engine.c   when due; what was posted must still be there
 *   through the IOMMU	   nicsim_dma.c	     rte_dev_dma_map() and its table
 *   computes checksums	   nicsim_offload.c
 *   and sends to its peer	   nicsim_rx.c	     whose buffers have long been waiting
 *   a test interferes	   nicsim_ctl.c, nicsim_events.c
 *
 * There is no thread: a device works when it, or the device it sends to, is polled. Whoever comes
 * first takes the lock of a queue. Locks are taken in this order: nicsims_lock, transmit queue,
 * receive queue, DMA table. Nothing here is fast.
 */

RTE_LOG_REGISTER(nicsim_logtype, pmd.net.nicsim, NOTICE);

struct nicsim_list nicsims = TAILQ_HEAD_INITIALIZER(nicsims);
rte_rwlock_t nicsims_lock = RTE_RWLOCK_INITIALIZER;

struct nicsim *nicsim_find(const char *name)
{
	struct nicsim *nic;

	TAILQ_FOREACH (nic, &nicsims, next)
		if (strcmp(nic->name, name) == 0)
			return nic;
	return NULL;
}

/* ---- what the port is ---- */

static uint64_t tx_capa(const struct nicsim_conf *conf)
{
	uint64_t capa = 0;

	if (!conf->nosegs)
		capa |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	if (conf->fastfree)
		capa |= RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	if (conf->offloads)
		capa |= RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM |
			RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_TSO;
	return capa;
}

static void defaults(const struct nicsim_conf *conf, struct rte_eth_dev_info *info)
{
	const struct rte_eth_dev_portconf port = {
		.burst_size = 32, .ring_size = 512, .nb_queues = 1};

	info->default_rxportconf = port;
	info->default_txportconf = port;
	info->default_rxconf.rx_free_thresh = NICSIM_THRESH;
	info->default_txconf.tx_rs_thresh = (uint16_t)conf->rs_thresh;
	info->default_txconf.tx_free_thresh = (uint16_t)RTE_MAX(conf->rs_thresh, NICSIM_THRESH);
}

static int infos_get(struct rte_eth_dev *dev, struct rte_eth_dev_info *info)
{
	const struct nicsim_conf *conf = &nicsim_of(dev)->conf;
	const struct rte_eth_desc_lim limits = {
		.nb_max = NICSIM_DESC_MAX,
		.nb_min = NICSIM_DESC_MIN,
		.nb_align = NICSIM_DESC_ALIGN,
	};

	info->max_mac_addrs = 1;
	info->max_rx_queues = (uint16_t)conf->queues;
	info->max_tx_queues = (uint16_t)conf->queues;
	info->max_rx_pktlen = NICSIM_FRAME_MAX;
	info->min_mtu = RTE_ETHER_MIN_MTU;
	info->max_mtu = 9216;
	info->rx_desc_lim = limits;
	info->tx_desc_lim = limits;
	info->tx_desc_lim.nb_seg_max = (uint16_t)conf->nb_seg_max;
	info->tx_desc_lim.nb_mtu_seg_max = (uint16_t)conf->nb_seg_max;
	info->tx_offload_capa = tx_capa(conf);
	info->tx_queue_offload_capa = info->tx_offload_capa;
	info->rx_offload_capa = RTE_ETH_RX_OFFLOAD_SCATTER;
	if (conf->offloads)
		info->rx_offload_capa |= RTE_ETH_RX_OFFLOAD_CHECKSUM;
	info->rx_queue_offload_capa = info->rx_offload_capa;
	defaults(conf, info);
	return 0;
}

/* data->dev_link is true at all times. */
static int link_update(struct rte_eth_dev *dev, int wait_to_complete)
{
	(void)dev, (void)wait_to_complete;
	return 0;
}

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

/* The wire has two ends: what comes is for us, whatever its address. */
static int accept_all(struct rte_eth_dev *dev)
{
	(void)dev;
	return 0;
}

static int set_link_up(struct rte_eth_dev *dev)
{
	nicsim_set_link(nicsim_of(dev), true);
	return 0;
}

static int set_link_down(struct rte_eth_dev *dev)
{
	nicsim_set_link(nicsim_of(dev), false);
	return 0;
}

/* ---- from configure to close ---- */

static int dev_configure(struct rte_eth_dev *dev)
{
	(void)dev;
	return 0;
}

static int dev_stop(struct rte_eth_dev *dev)
{
	for (uint16_t i = 0; i < dev->data->nb_tx_queues; i++)
		if (dev->data->tx_queues[i])
			nicsim_tx_stop(dev, i);
	for (uint16_t i = 0; i < dev->data->nb_rx_queues; i++)
		if (dev->data->rx_queues[i])
			nicsim_rx_stop(dev, i);
	return 0;
}

static bool deferred_rx(const struct rx_queue *q)
{
	return q->deferred_start;
}

static bool deferred_tx(const struct tx_queue *q)
{
	return q->deferred_start;
}

static int dev_start(struct rte_eth_dev *dev)
{
	struct nicsim *nic = nicsim_of(dev);
	int err = 0;

	if (nicsim_stuck(nic) & NICSIM_FAILED) {
		NICSIM_LOG(ERR, "%s: it has failed: rte_eth_dev_reset() it first", nic->name);
		return -EIO;
	}
	for (uint16_t i = 0; i < dev->data->nb_rx_queues && !err; i++)
		if (!deferred_rx(dev->data->rx_queues[i]))
			err = nicsim_rx_start(dev, i);
	for (uint16_t i = 0; i < dev->data->nb_tx_queues && !err; i++)
		if (!deferred_tx(dev->data->tx_queues[i]))
			err = nicsim_tx_start(dev, i);
	if (err)
		dev_stop(dev);
	return err;
}

static int dev_reset(struct rte_eth_dev *dev)
{
	struct nicsim *nic = nicsim_of(dev);

	if (nic->resets) {
		nic->resets--;
		return -EIO;
	}
	__atomic_and_fetch(&nic->stuck, ~(uint32_t)NICSIM_FAILED, __ATOMIC_RELAXED);
	return 0;
}

static int dev_close(struct rte_eth_dev *dev)
{
	struct nicsim *nic = nicsim_of(dev);

	if (rte_eal_process_type() != RTE_PROC_PRIMARY || !nic)
		return 0;
	nicsim_events_cancel(nic);
	dev_stop(dev);
	for (uint16_t i = 0; i < dev->data->nb_tx_queues; i++)
		nicsim_tx_release(dev, i);
	for (uint16_t i = 0; i < dev->data->nb_rx_queues; i++)
		nicsim_rx_release(dev, i);
	rte_rwlock_write_lock(&nicsims_lock);
	nic->eth = NULL;
	rte_rwlock_write_unlock(&nicsims_lock);
	nicsim_events_cancel(nic);     /* of what happened meanwhile */
	dev->data->mac_addrs = NULL;   /* both are */
	dev->data->dev_private = NULL; /* the vdev's */
	return 0;
}

static const struct eth_dev_ops ops = {
	.dev_configure = dev_configure,
	.dev_start = dev_start,
	.dev_stop = dev_stop,
	.dev_close = dev_close,
	.dev_reset = dev_reset,
	.dev_set_link_up = set_link_up,
	.dev_set_link_down = set_link_down,
	.dev_infos_get = infos_get,
	.link_update = link_update,
	.mtu_set = mtu_set,
	.mac_addr_set = mac_addr_set,
	.promiscuous_enable = accept_all,
	.promiscuous_disable = accept_all,
	.allmulticast_enable = accept_all,
	.allmulticast_disable = accept_all,
	.rx_queue_setup = nicsim_rx_setup,
	.rx_queue_release = nicsim_rx_release,
	.rx_queue_start = nicsim_rx_start,
	.rx_queue_stop = nicsim_rx_stop,
	.rxq_info_get = nicsim_rx_info,
	.tx_queue_setup = nicsim_tx_setup,
	.tx_queue_release = nicsim_tx_release,
	.tx_queue_start = nicsim_tx_start,
	.tx_queue_stop = nicsim_tx_stop,
	.txq_info_get = nicsim_tx_info,
	.tx_done_cleanup = nicsim_tx_cleanup,
	.stats_get = nicsim_stats_get,
	.stats_reset = nicsim_stats_reset,
	.xstats_get_names = nicsim_xstats_names,
	.xstats_get = nicsim_xstats_get,
	.xstats_reset = nicsim_stats_reset,
};

/* ---- probe and remove ---- */

static void port_init(struct nicsim *nic, struct rte_eth_dev *eth)
{
	static const struct rte_ether_addr base = {{0x02, 'N', 'I', 'C', 0, 0}};
	struct rte_eth_dev_data *data = eth->data;

	nic->mac = base;
	nic->mac.addr_bytes[5] = (uint8_t)data->port_id;
	nic->delay = nic->conf.delay_us * rte_get_tsc_hz() / US_PER_S;
	data->dev_private = nic;
	data->mac_addrs = &nic->mac;
	data->dev_link = (struct rte_eth_link){
		.link_speed = RTE_ETH_SPEED_NUM_10G,
		.link_duplex = RTE_ETH_LINK_FULL_DUPLEX,
		.link_autoneg = RTE_ETH_LINK_FIXED,
		.link_status = RTE_ETH_LINK_UP,
	};
	data->dev_flags = RTE_ETH_DEV_INTR_LSC | RTE_ETH_DEV_AUTOFILL_QUEUE_XSTATS;
	eth->dev_ops = &ops;
	eth->rx_pkt_burst = nicsim_rx_burst;
	eth->rx_queue_count = nicsim_rx_count;
	eth->rx_descriptor_status = nicsim_rx_status;
	eth->tx_pkt_burst = nicsim_tx_burst;
	eth->tx_pkt_prepare = nicsim_tx_prepare;
	eth->tx_descriptor_status = nicsim_tx_status;
}

/* Who sends to whom; under nicsims_lock, to write. */
static void connect_peers(void)
{
	struct nicsim *nic;

	TAILQ_FOREACH (nic, &nicsims, next)
		nic->peer = nicsim_find(nic->conf.peer);
}

static void nic_free(struct nicsim *nic)
{
	if (nic->dma.n)
		NICSIM_LOG(WARNING, "%s: %u DMA mappings were never undone", nic->name, nic->dma.n);
	free(nic->dma.map);
	free(nic);
}

static int nic_create(struct rte_vdev_device *vdev, const struct nicsim_conf *conf)
{
	struct rte_eth_dev *eth = rte_eth_vdev_allocate(vdev, 0);
	struct nicsim *nic = calloc(1, sizeof(*nic));

	if (!eth || !nic) {
		if (eth)
			rte_eth_dev_release_port(eth);
		free(nic);
		return -ENOMEM;
	}
	nic->conf = *conf;
	rte_strscpy(nic->name, rte_vdev_device_name(vdev), sizeof(nic->name));
	port_init(nic, eth);
	nic->eth = eth;
	rte_rwlock_write_lock(&nicsims_lock);
	TAILQ_INSERT_TAIL(&nicsims, nic, next);
	connect_peers();
	rte_rwlock_write_unlock(&nicsims_lock);
	rte_eth_dev_probing_finish(eth);
	return 0;
}

static int probe(struct rte_vdev_device *vdev)
{
	struct nicsim_conf conf;
	char why[256] = "no free port or no memory for it";
	int err;

	if (rte_eal_process_type() != RTE_PROC_PRIMARY)
		return -ENOTSUP;
	if (vdev->device.numa_node == SOCKET_ID_ANY)
		vdev->device.numa_node = (int)rte_socket_id();
	err = nicsim_devargs_parse(rte_vdev_device_args(vdev), &conf, why, sizeof(why));
	if (!err)
		err = nic_create(vdev, &conf);
	if (err)
		NICSIM_LOG(ERR, "%s: %s", rte_vdev_device_name(vdev), why);
	return err;
}

static int remove_nic(struct rte_vdev_device *vdev)
{
	struct rte_eth_dev *eth = rte_eth_dev_allocated(rte_vdev_device_name(vdev));
	struct nicsim *nic;

	if (eth) {
		dev_close(eth);
		rte_eth_dev_release_port(eth);
	}
	rte_rwlock_write_lock(&nicsims_lock);
	nic = nicsim_find(rte_vdev_device_name(vdev));
	if (nic)
		TAILQ_REMOVE(&nicsims, nic, next);
	connect_peers();
	rte_rwlock_write_unlock(&nicsims_lock);
	if (nic)
		nic_free(nic);
	return 0;
}

static struct rte_vdev_driver driver = {
	.driver.name = "net_nicsim",
	.probe = probe,
	.remove = remove_nic,
	.dma_map = nicsim_dma_map,
	.dma_unmap = nicsim_dma_unmap,
};

RTE_INIT(nicsim_register)
{
	rte_vdev_register(&driver);
}

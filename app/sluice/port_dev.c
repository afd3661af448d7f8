/* SPDX-License-Identifier: BSD-3-Clause */
/* Device ports: any DPDK device, through the public ethdev API. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_malloc.h>

#include "command.h"
#include "port.h"
#include "sleep.h"
#include "sluice.h"

#define RX_OFFLOADS (RTE_ETH_RX_OFFLOAD_CHECKSUM | RTE_ETH_RX_OFFLOAD_SCATTER)

/* No FAST_FREE: our mbufs come from several pools, of which one completes what guests have lent, and may
 * have several owners. */
#define TX_OFFLOADS                                                         \
	(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM |     \
		RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_TSO | \
		RTE_ETH_TX_OFFLOAD_UDP_TSO | RTE_ETH_TX_OFFLOAD_MULTI_SEGS)

#define DESCRIPTORS 1024

/* MB: more than what DPDK's devices share, and than most drivers want for one. */
#define ROOM 4u

static bool has_room(void)
{
	void *room = rte_malloc("room", ROOM << 20, 0);

	rte_free(room);
	return room;
}

bool port_dev_ready(void)
{
	static bool ready;
	uint64_t id;

	ready = ready || (has_room() && rte_eth_dev_owner_new(&id) == 0);
	return ready;
}

/* Drivers that got no memory have all sorts of errors for it. */
static const char *room_hint(void)
{
	return has_room() ? "" : "; DPDK's memory is nearly used up: " MORE_MEMORY;
}

/* ---- finding the device ---- */

static bool in_use(const struct sluice *sl, uint16_t eth)
{
	struct port *port;

	PORT_FOREACH(sl, port)
	if (port->kind == PORT_DEV && port->dev.eth == eth)
		return true;
	for (port = sl->leaving; port; port = port->next_leaving)
		if (port->kind == PORT_DEV && port->dev.eth == eth)
			return true;
	return false;
}

/* An ethdev of this device that is no port yet. *taken: there are only others. */
static bool free_ethdev(const struct sluice *sl, const char *devargs, uint16_t *eth, bool *taken)
{
	struct rte_dev_iterator it;
	bool found = false;
	uint16_t id;

	*taken = false;
	RTE_ETH_FOREACH_MATCHING_DEV(id, devargs, &it)
	{
		if (found)
			continue; /* not out: the iterator frees itself at the end */
		found = !in_use(sl, id);
		*taken |= !found;
		*eth = id;
	}
	return found;
}

/* One that comes from another process is described in full, and the EAL may have been told less. */
static bool known_by_name(const struct sluice *sl, const char *devargs, uint16_t *eth, bool *taken)
{
	char *name = sl->handover.number >= 0 ? strndup(devargs, strcspn(devargs, ",")) : NULL;
	bool found = name && free_ethdev(sl, name, eth, taken);

	free(name);
	if (found)
		port_tap_address(*eth, devargs);
	return found;
}

/* The EAL may have probed it at start (a PCI device, --vdev). *probed: no, we did. */
static int find_ethdev(const struct sluice *sl, const char *devargs, uint16_t *eth, bool *probed,
	char *why, size_t why_len)
{
	bool taken;
	int err;

	*probed = false;
	if (free_ethdev(sl, devargs, eth, &taken) || known_by_name(sl, devargs, eth, &taken))
		return 0;
	if (taken) {
		snprintf(why, why_len, "device '%s' is a port already", devargs);
		return -EBUSY;
	}
	err = rte_dev_probe(devargs);
	if (err < 0) {
		snprintf(why, why_len,
			"DPDK cannot probe device '%s' (%s): check name and arguments, for PCI the "
			"address and its binding to vfio-pci%s",
			devargs, strerror(-err), room_hint());
		return err;
	}
	*probed = true;
	if (free_ethdev(sl, devargs, eth, &taken))
		return 0;
	snprintf(why, why_len, "device '%s' was probed, but is no network device", devargs);
	return -ENODEV;
}

/* ---- making it run ---- */

static int setup_queues(struct port *port, const struct rte_eth_dev_info *info)
{
	uint16_t eth = port->dev.eth, n_rxd = DESCRIPTORS, n_txd = DESCRIPTORS;
	unsigned node = (unsigned)port->node;
	struct rte_mempool *pool = sluice_pool(port->sl, port->node);
	int err = rte_eth_dev_adjust_nb_rx_tx_desc(eth, &n_rxd, &n_txd);

	for (uint16_t i = 0; i < port->n_rxq && err == 0; i++) {
		struct rte_eth_rxconf conf = info->default_rxconf;

		err = rte_eth_rx_queue_setup(eth, i, n_rxd, node, &conf, pool);
	}
	for (uint16_t i = 0; i < port->n_txq && err == 0; i++) {
		struct rte_eth_txconf conf = info->default_txconf;

		conf.offloads = port->tx_offloads;
		err = rte_eth_tx_queue_setup(eth, i, n_txd, node, &conf);
	}
	return err;
}

static struct rte_eth_conf device_conf(const struct port *port, const struct rte_eth_dev_info *info)
{
	struct rte_eth_conf conf = {0};

	conf.rxmode.offloads = info->rx_offload_capa & RX_OFFLOADS;
	conf.txmode.offloads = port->tx_offloads;
	conf.intr_conf.rxq = port->sl->conf.sleep_us > 0 || port->dev.interrupts;
	if (port->n_rxq > 1) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf =
			info->flow_type_rss_offloads &
			(RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
	}
	return conf;
}

/* A transmit queue per worker if it can be; some drivers want as many as receive queues. */
static int configure(struct port *port, const struct rte_eth_dev_info *info)
{
	struct rte_eth_conf conf = device_conf(port, info);
	uint16_t eth = port->dev.eth;
	int err = rte_eth_dev_configure(eth, port->n_rxq, port->n_txq, &conf);

	if (err == 0 || port->n_txq == port->n_rxq || port->dev.started)
		return err;
	port->n_txq = port->n_rxq;
	return rte_eth_dev_configure(eth, port->n_rxq, port->n_txq, &conf);
}

/* Whether its driver can wake us cannot be asked, only tried. Some (net_tap) cannot switch
 * interrupts on and off: theirs are always on. */
static bool has_interrupts(const struct port *port)
{
	uint16_t eth = port->dev.eth;
	int err;

	if (port->sl->conf.sleep_us == 0 && !port->dev.interrupts)
		return false;
	if (rte_eth_dev_rx_intr_ctl_q_get_fd(eth, 0) < 0)
		return false;
	err = rte_eth_dev_rx_intr_enable(eth, 0);
	rte_eth_dev_rx_intr_disable(eth, 0);
	return err == 0 || err == -ENOTSUP;
}

static uint16_t or_any(uint16_t segs)
{
	return segs ? segs : UINT16_MAX;
}

static void learn_limits(struct port *port, const struct rte_eth_dev_info *info)
{
	bool chains = port->tx_offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	uint16_t mtu = RTE_ETHER_MTU;

	rte_eth_dev_get_mtu(port->dev.eth, &mtu);
	port->dev.limits = (struct outlet_limits){
		.min_len = RTE_ETHER_MIN_LEN - RTE_ETHER_CRC_LEN,
		.max_len = frame_of(mtu),
		.max_segs = chains ? or_any(info->tx_desc_lim.nb_mtu_seg_max) : 1,
		.max_tso_segs = chains ? or_any(info->tx_desc_lim.nb_seg_max) : 1,
	};
}

int port_dev_start(struct port *port)
{
	uint16_t eth = port->dev.eth;
	struct rte_eth_dev_info info;
	int err = rte_eth_dev_info_get(eth, &info);

	if (err == 0)
		err = configure(port, &info);
	if (err == 0)
		err = setup_queues(port, &info);
	if (err == 0)
		err = rte_eth_dev_start(eth);
	if (err < 0)
		return err;
	port->dev.interrupts = has_interrupts(port);
	/* A switch wants everything; drivers that always give it say "not supported". */
	rte_eth_promiscuous_enable(eth);
	rte_eth_allmulticast_enable(eth);
	rte_eth_macaddr_get(eth, &port->mac);
	learn_limits(port, &info);
	for (unsigned i = 0; i < port->n_rxq; i++)
		port->rxq[i].usable = true;
	for (unsigned i = 0; i < port->n_txq; i++)
		port->txq[i].usable = true;
	port->dev.started = true;
	return 0;
}

/* What it can do with packets over guest memory. */
static void learn_reach(struct port *port, const struct rte_eth_dev_info *info)
{
	struct port_dev *dev = &port->dev;

	if (dev->limits.max_segs == 1) { /* a lent packet has two at least */
		snprintf(dev->reach_why, sizeof(dev->reach_why),
			"it takes no packet of several segments");
		dev->reach = VNET_REACH_NONE;
		return;
	}
	dev->reach = vnet_dma_add(info->device, dev->reach_why, sizeof(dev->reach_why));
	if (dev->reach == VNET_REACH_MAPPED)
		ports_vm_remap(port->sl);
}

/* Close the ethdev and take its device out of DPDK, unless another port is on it. */
static void detach(const struct sluice *sl, uint16_t eth)
{
	struct rte_eth_dev_info info, other;
	struct port *port;
	bool known = rte_eth_dev_info_get(eth, &info) == 0;

	rte_eth_dev_stop(eth);
	rte_eth_dev_close(eth);
	PORT_FOREACH(sl, port)
	if (known && port->kind == PORT_DEV && port->dev.eth != eth &&
		rte_eth_dev_info_get(port->dev.eth, &other) == 0)
		known = other.device != info.device;
	if (known && info.device)
		rte_dev_remove(info.device);
}

static int check_queues(const struct rte_eth_dev_info *info, const char *devargs, uint16_t queues,
	char *why, size_t why_len)
{
	uint16_t max = info->max_rx_queues;

	/* When it starts it puts two descriptors per queue into one message to secondary processes,
	 * and does not look whether they fit. */
	if (port_tap_is(info))
		max = RTE_MIN(max, RTE_MP_MAX_FD_NUM / 2);
	if (queues <= max)
		return 0;
	snprintf(why, why_len, "device '%s' has only %u receive queues, not %u", devargs, max,
		queues);
	return -EINVAL;
}

static uint64_t usable_offloads(const struct rte_eth_dev_info *info)
{
	uint64_t offloads = info->tx_offload_capa & TX_OFFLOADS;

	/* It compares frames with the MTU, and so refuses to cut any of full-sized segments. */
	if (port_tap_is(info))
		offloads &= ~RTE_ETH_TX_OFFLOAD_TCP_TSO;
	return offloads;
}

/* Everything after the ethdev is found; the caller undoes it. */
static int dev_open(struct sluice *sl, const char *name, const char *devargs, uint16_t queues,
	uint16_t eth, struct port **out, char *why, size_t why_len)
{
	struct rte_eth_dev_info info;
	struct port *port;
	uint16_t n_txq;
	int err = rte_eth_dev_info_get(eth, &info);

	if (err < 0) {
		snprintf(why, why_len, "device '%s' does not answer: %s", devargs, strerror(-err));
		return err;
	}
	err = check_queues(&info, devargs, queues, why, why_len);
	if (err < 0)
		return err;
	n_txq = RTE_MAX(1, RTE_MIN(sl->n_workers, info.max_tx_queues));
	/* Room for what configure() may fall back to. */
	err = port_new(sl, name, PORT_DEV, queues, RTE_MAX(n_txq, queues), &port, why, why_len);
	if (err < 0)
		return err;
	port->n_txq = n_txq;
	port->dev.eth = eth;
	port->node = rte_eth_dev_socket_id(eth);
	port->tx_offloads = usable_offloads(&info);
	port->dev.devargs = strdup(devargs);
	port->dev.counts = calloc(1, sizeof(*port->dev.counts));
	err = port->dev.devargs && port->dev.counts ? port_dev_listen(eth) : -ENOMEM;
	if (err == 0)
		err = port_dev_start(port);
	if (err < 0) {
		snprintf(why, why_len, "device '%s' does not start with %u queues: %s%s", devargs,
			queues, strerror(-err), room_hint());
		free(port->dev.devargs);
		free(port->dev.counts);
		port_free(port);
		return err;
	}
	learn_reach(port, &info);
	*out = port;
	return 0;
}

int port_add_dev(struct sluice *sl, const char *name, const char *devargs, uint16_t queues,
	struct port **out, char *why, size_t why_len)
{
	uint16_t eth = 0;
	bool probed = false;
	int err = port_check_name(sl, name, why, why_len);

	if (err == 0 && !port_dev_ready()) {
		snprintf(why, why_len, "DPDK's memory is nearly used up: " MORE_MEMORY);
		err = -ENOMEM;
	}
	if (err == 0)
		err = find_ethdev(sl, devargs, &eth, &probed, why, why_len);
	if (err < 0)
		return err;
	err = dev_open(sl, name, devargs, queues, eth, out, why, why_len);
	if (err < 0) {
		if (probed)
			detach(sl, eth);
		return err;
	}
	port_enter(*out);
	port_dev_refresh(*out);
	return 0;
}

/* Stopped first: what it holds comes home, then it loses the way to it. */
void port_dev_close(struct port *port)
{
	struct rte_eth_dev_info info;

	rte_eth_dev_stop(port->dev.eth);
	if (port->dev.reach == VNET_REACH_MAPPED && rte_eth_dev_info_get(port->dev.eth, &info) == 0)
		vnet_dma_remove(info.device);
	detach(port->sl, port->dev.eth);
	free(port->dev.devargs);
	free(port->dev.counts);
}

/* ---- afterwards ---- */

static void look_at_interrupts(struct port *port)
{
	if (!port->dev.interrupts || !port_misses_interrupts(port))
		return;
	port->dev.interrupts = false;
	SL_LOG(WARNING,
		"port %s: the device sends no interrupts, so its worker stays awake; with vfio-pci "
		"another --vfio-intr (msi, legacy) may help",
		port->name);
	plan_dirty(port->sl);
}

void port_dev_refresh(struct port *port)
{
	struct rte_eth_link link;
	bool up;

	port_dev_hear(port);
	if (port_dev_mute(port))
		return;
	look_at_interrupts(port);
	if (rte_eth_link_get_nowait(port->dev.eth, &link) < 0)
		return;
	up = link.link_status == RTE_ETH_LINK_UP;
	if (up != port->up)
		SL_LOG(INFO, "port %s: link is %s", port->name, up ? "up" : "down");
	port_set_up(port, up);
}

/* Of one that the EAL probed at its start we were told the name only. */
static char *whole_devargs(const struct port *port, const struct rte_eth_dev_info *info)
{
	const struct rte_devargs *args = info->device ? rte_dev_devargs(info->device) : NULL;
	char *whole = NULL;

	if (!args || strchr(port->dev.devargs, ',') || !args->args || !*args->args)
		return strdup(port->dev.devargs);
	return asprintf(&whole, "%s,%s", port->dev.devargs, args->args) < 0 ? NULL : whole;
}

/* A TAP keeps its address, which else is made up anew. */
void port_dev_devargs(const struct port *port, FILE *f)
{
	char mac[RTE_ETHER_ADDR_FMT_SIZE], *whole = NULL, *fixed = NULL;
	struct rte_eth_dev_info info;

	if (rte_eth_dev_info_get(port->dev.eth, &info) == 0) {
		whole = whole_devargs(port, &info);
		rte_ether_format_addr(mac, sizeof(mac), &port->mac);
		if (whole && port_tap_is(&info) && !strstr(whole, ",mac=") &&
			asprintf(&fixed, "%s,mac=%s", whole, mac) < 0)
			fixed = NULL;
	}
	cmd_put_word(f, fixed ? fixed : whole ? whole : port->dev.devargs);
	free(fixed);
	free(whole);
}

/* a += b. */
static void add(struct port_counters *a, const struct port_counters *b)
{
	for (size_t i = 0; i < sizeof(*a) / sizeof(uint64_t); i++)
		((uint64_t *)a)[i] += ((const uint64_t *)b)[i];
}

/* It counts from 0 again, after a reset or of its own accord. */
static bool is_less(const struct port_counters *a, const struct port_counters *b)
{
	return a->rx_packets < b->rx_packets || a->tx_packets < b->tx_packets;
}

void port_dev_count(const struct port *port)
{
	struct port_dev_counts *counts = port->dev.counts;
	struct port_counters now;
	struct rte_eth_stats st;

	if (rte_eth_stats_get(port->dev.eth, &st) < 0)
		return;
	now = (struct port_counters){
		.rx_packets = st.ipackets,
		.rx_bytes = st.ibytes,
		.rx_missed = st.imissed,
		.rx_errors = st.ierrors,
		.rx_nombuf = st.rx_nombuf,
		.tx_packets = st.opackets,
		.tx_bytes = st.obytes,
		.tx_errors = st.oerrors,
	};
	if (is_less(&now, &counts->seen))
		add(&counts->before, &counts->seen);
	counts->seen = now;
}

void port_dev_counters(const struct port *port, struct port_counters *c)
{
	if (!port_dev_mute(port))
		port_dev_count(port);
	*c = port->dev.counts->seen;
	add(c, &port->dev.counts->before);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The benchmark's guest: virtio-user ports that send, receive and reflect as a harness tells them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>

#include "guest.h"
#include "lean.h"

/*
 * Theory of operation
 *
 *	guest EAL-OPTIONS -- [--room BYTES] [--mbufs N] [--offloads] [--tso] [--lean ARGUMENTS]...
 *
 * Its ports are EAL's virtio-user devices, or what --lean says, with the same arguments, for which
 * it has a driver of its own (lean.c).
 *
 * The main thread reads commands, one a line, and answers with a prompt; one worker lcore moves
 * packets between start and stop (guest_traffic.c). `running` hands over between them, and whoever
 * waits for it owns nothing else.
 *
 *	set role PORT|all idle|quiet|receive|send|reflect|forward:PORT
 *	set peer PORT ADDRESS	where a port's frames go
 *	set frame BYTES|imix	set rate FRAMES-A-SECOND (a port; 0: no limit)
 *	set touch on|off	set filter on|off
 *	seed PORT N		make N frames first
 *	start	stop	quit
 *	clear	stats	latency	at any time; the last two answer with a line of JSON
 */

struct options {
	uint32_t room, mbufs;
	bool offloads, tso;
	const char *lean[GUEST_PORTS];
	unsigned n_lean;
};

struct guest guest = {.frame = 64, .filter = true, .resting = true};

static uint64_t load(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* ---- what it tells ---- */

static void tell_stats(void)
{
	printf("{\"tsc_hz\": %" PRIu64 ", \"tsc\": %" PRIu64 ", \"busy\": %" PRIu64
	       ", \"ports\": [",
		rte_get_tsc_hz(), rte_rdtsc(), load(&guest.busy));
	for (unsigned i = 0; i < guest.n_ports; i++) {
		const struct port_stats *s = &guest.ports[i].stats;

		printf("%s{\"rx\": %" PRIu64 ", \"rx_bytes\": %" PRIu64 ", \"tx\": %" PRIu64
		       ", \"tx_bytes\": %" PRIu64 ", \"refused\": %" PRIu64 ", \"alien\": %" PRIu64
		       "}",
			i ? ", " : "", load(&s->rx), load(&s->rx_bytes), load(&s->tx),
			load(&s->tx_bytes), load(&s->refused), load(&s->alien));
	}
	printf("]}\n");
}

static double nanoseconds(uint64_t tsc)
{
	return (double)tsc * 1e9 / (double)rte_get_tsc_hz();
}

static void tell_hist(const char *name, const struct hist *h)
{
	printf("\"%s\": {\"n\": %" PRIu64
	       ", \"p50\": %.0f, \"p90\": %.0f, \"p99\": %.0f, \"max\": %.0f}",
		name, h->n, nanoseconds(hist_percentile(h, 0.5)),
		nanoseconds(hist_percentile(h, 0.9)), nanoseconds(hist_percentile(h, 0.99)),
		nanoseconds(h->max));
}

/* In nanoseconds. `round`: how long the guest itself takes to look again, the floor of all it can tell. */
static void tell_latency(void)
{
	printf("{");
	tell_hist("latency", &guest.latency);
	printf(", ");
	tell_hist("round", &guest.round);
	printf(", \"gap\": %.0f}\n", nanoseconds(load(&guest.gap)));
}

/* ---- what it is told ---- */

static struct port *find_port(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	return *text != '\0' && *end == '\0' && n < guest.n_ports ? &guest.ports[n] : NULL;
}

static const char *port_role(struct port *p, const char *name)
{
	static const char *const names[] = {"idle", "quiet", "receive", "send", "reflect"};
	const struct port *out;

	for (unsigned i = 0; i < RTE_DIM(names); i++) {
		if (strcmp(name, names[i]) == 0) {
			p->role = (enum role)i;
			return NULL;
		}
	}
	out = strncmp(name, "forward:", 8) == 0 ? find_port(name + 8) : NULL;
	if (!out)
		return "idle, quiet, receive, send, reflect or forward:PORT";
	p->role = ROLE_FORWARD;
	p->out = (uint16_t)(out - guest.ports);
	return NULL;
}

static const char *set_role(const char *which, const char *name)
{
	struct port *p = find_port(which);
	const char *wrong = NULL;

	if (p)
		return port_role(p, name);
	if (strcmp(which, "all") != 0)
		return "a port";
	for (unsigned i = 0; !wrong && i < guest.n_ports; i++)
		wrong = port_role(&guest.ports[i], name);
	return wrong;
}

static const char *set_frame(const char *value)
{
	unsigned long size = strtoul(value, NULL, 10);

	if (strcmp(value, "imix") == 0)
		guest.frame = FRAME_IMIX;
	else if (size < FRAME_MIN || size > FRAME_MAX)
		return "60 to 65535 bytes, or imix";
	else
		guest.frame = (uint32_t)size;
	return NULL;
}

static const char *set_flag(bool *which, const char *value)
{
	*which = strcmp(value, "on") == 0;
	return *which || strcmp(value, "off") == 0 ? NULL : "on or off";
}

static const char *set(const char *what, const char *value, const char *more)
{
	struct port *p = find_port(value);

	if (strcmp(what, "role") == 0)
		return set_role(value, more);
	if (strcmp(what, "frame") == 0)
		return set_frame(value);
	if (strcmp(what, "touch") == 0)
		return set_flag(&guest.touch, value);
	if (strcmp(what, "filter") == 0)
		return set_flag(&guest.filter, value);
	if (strcmp(what, "rate") == 0) {
		guest.rate = strtod(value, NULL);
		return guest.rate > 0 && guest.ports[0].lean ? "0: a lean guest has no clock"
							     : NULL;
	}
	if (strcmp(what, "peer") == 0)
		return p && rte_ether_unformat_addr(more, &p->peer) == 0 ? NULL
									 : "a port, an address";
	return "role, peer, frame, rate, touch or filter";
}

static const char *seed(const char *which, const char *n)
{
	struct port *p = find_port(which);

	if (!p)
		return "a port";
	p->seeds = (uint32_t)strtoul(n, NULL, 10);
	return NULL;
}

static void start(void)
{
	raise_flag(&guest.running, true);
	while (flag(&guest.resting))
		rte_delay_us_sleep(100);
}

static void stop(void)
{
	raise_flag(&guest.running, false);
	while (!flag(&guest.resting))
		rte_delay_us_sleep(100);
}

/* What may be asked only while the worker rests. */
static const char *command_resting(char *verb, const char *a, const char *b, const char *c)
{
	if (strcmp(verb, "set") == 0)
		return set(a, b, c);
	if (strcmp(verb, "seed") == 0)
		return seed(a, b);
	if (strcmp(verb, "start") == 0)
		start();
	else
		return "set, seed, start, stop, clear, stats, latency or quit";
	return NULL;
}

static const char *command(char *line)
{
	char *word[4];

	for (unsigned i = 0; i < RTE_DIM(word); i++) {
		word[i] = strtok(i ? NULL : line, " \r\n");
		if (!word[i])
			word[i] = line + strlen(line);
	}
	if (strcmp(word[0], "stop") == 0)
		stop();
	else if (strcmp(word[0], "clear") == 0)
		traffic_clear();
	else if (strcmp(word[0], "stats") == 0)
		tell_stats();
	else if (strcmp(word[0], "latency") == 0)
		tell_latency();
	else if (strcmp(word[0], "quit") == 0)
		raise_flag(&guest.quitting, true);
	else if (*word[0] != '\0')
		return flag(&guest.running) ? "stop first"
					    : command_resting(word[0], word[1], word[2], word[3]);
	return NULL;
}

static void command_loop(void)
{
	char line[128];

	while (!flag(&guest.quitting)) {
		const char *wrong;

		/* testpmd's, so that one harness can talk to either. */
		printf("testpmd> ");
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin))
			break;
		/* A terminal in raw mode does not echo, and whoever reads us looks for it. */
		printf("%s", line);
		wrong = command(line);
		if (wrong)
			printf("expected %s\n", wrong);
	}
	stop();
	raise_flag(&guest.quitting, true);
}

/* ---- start ---- */

/* What a Linux guest has; without, a virtio-user port negotiates no offload at all. */
static struct rte_eth_conf port_conf(const struct options *opt)
{
	struct rte_eth_conf conf = {.txmode.offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS};

	if (opt->offloads || opt->tso) {
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
		conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
	}
	if (opt->tso) {
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_TCP_LRO;
		conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_TCP_TSO;
	}
	return conf;
}

static int port_start(uint16_t port, const struct options *opt)
{
	struct rte_eth_conf conf = port_conf(opt);
	struct port *p = &guest.ports[port];
	int err = rte_eth_dev_configure(port, 1, 1, &conf);

	if (!err)
		err = rte_eth_rx_queue_setup(port, 0, GUEST_RING, 0, NULL, guest.pool);
	if (!err)
		err = rte_eth_tx_queue_setup(port, 0, GUEST_RING, 0, NULL);
	if (!err)
		err = rte_eth_dev_start(port);
	if (!err)
		err = rte_eth_macaddr_get(port, &p->mac);
	if (err)
		fprintf(stderr, "guest: port %u: %s\n", port, strerror(-err));
	return err;
}

static int parse(int argc, char **argv, struct options *opt)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--offloads") == 0)
			opt->offloads = true;
		else if (strcmp(argv[i], "--tso") == 0)
			opt->tso = true;
		else if (strcmp(argv[i], "--lean") == 0 && i + 1 < argc &&
			 opt->n_lean < GUEST_PORTS)
			opt->lean[opt->n_lean++] = argv[++i];
		else if (strcmp(argv[i], "--room") == 0 && i + 1 < argc)
			opt->room = (uint32_t)strtoul(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--mbufs") == 0 && i + 1 < argc)
			opt->mbufs = (uint32_t)strtoul(argv[++i], NULL, 10);
		else {
			fprintf(stderr, "guest: unknown option %s\n", argv[i]);
			return -EINVAL;
		}
	}
	return 0;
}

static int start_ports(const struct options *opt)
{
	uint16_t port;

	guest.n_ports = opt->n_lean ? (uint16_t)opt->n_lean : rte_eth_dev_count_avail();
	if (guest.n_ports > GUEST_PORTS || rte_lcore_count() != 2) {
		fprintf(stderr, "guest: at most %d ports, one main and one worker lcore\n",
			GUEST_PORTS);
		return -EINVAL;
	}
	if (opt->n_lean)
		return lean_open(opt->lean, opt->n_lean, opt->room);
	guest.pool = rte_pktmbuf_pool_create("guest", opt->mbufs, 256, 0,
		(uint16_t)(RTE_PKTMBUF_HEADROOM + opt->room), (int)rte_socket_id());
	if (!guest.pool) {
		fprintf(stderr, "guest: no memory for %u mbufs\n", opt->mbufs);
		return -ENOMEM;
	}
	guest.tso = opt->tso;
	RTE_ETH_FOREACH_DEV(port)
	{
		if (port_start(port, opt) != 0)
			return -EIO;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct options opt = {.room = 2048, .mbufs = 16384};
	int used = rte_eal_init(argc, argv);
	uint16_t port;

	if (used < 0 || parse(argc - used, argv + used, &opt) != 0 || start_ports(&opt) != 0)
		return 1;
	rte_eal_mp_remote_launch(traffic_worker, NULL, SKIP_MAIN);
	command_loop();
	rte_eal_mp_wait_lcore();
	RTE_ETH_FOREACH_DEV(port)
	{
		rte_eth_dev_stop(port);
		rte_eth_dev_close(port);
	}
	lean_close();
	return rte_eal_cleanup();
}

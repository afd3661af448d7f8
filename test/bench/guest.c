/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest that writes and reads its packets, with the few verbs of testpmd the benchmark needs. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>

/*
 * Theory of operation
 *
 * testpmd never looks at payload, so its packets' lines stay in the back-end's cache and copying
 * looks almost free. A real guest's application fills what it sends and reads what it gets; so
 * does this one, a word in every line. To the benchmark it is a testpmd: same prompt, and
 *
 *	set portlist N[,N]...	set fwd txonly|rxonly|macswap	set txpkts BYTES
 *	start [tx_first BURSTS]	stop	quit
 *
 * The main thread reads commands, one worker lcore moves packets between start and stop;
 * `running` hands over between them, and whoever waits for it owns nothing else.
 */

#define BURST     32
#define RING      1024
#define MBUFS     16384
#define PORTS_MAX 4

enum mode {
	TXONLY,
	RXONLY,
	MACSWAP
};

struct guest {
	struct rte_mempool *pool;
	/* written by the main thread while the worker rests, read by the worker */
	enum mode mode;
	uint16_t ports[PORTS_MAX];
	unsigned n;
	unsigned first; /* bursts to send before forwarding */
	uint16_t size;

	uint64_t sum;  /* of all that was read; the worker's */
	bool running;  /* written by the main thread */
	bool resting;  /* written by the worker */
	bool quitting; /* written by the main thread */
};

static struct guest guest = {.ports = {0}, .n = 1, .size = 64, .resting = true};

static bool flag(const bool *f)
{
	return __atomic_load_n(f, __ATOMIC_ACQUIRE);
}

static void raise_flag(bool *f, bool value)
{
	__atomic_store_n(f, value, __ATOMIC_RELEASE);
}

/* ---- packets ---- */

static void write_lines(struct rte_mbuf *m, uint64_t value)
{
	for (uint32_t off = 0; off + sizeof(value) <= m->data_len; off += RTE_CACHE_LINE_SIZE)
		memcpy(rte_pktmbuf_mtod_offset(m, void *, off), &value, sizeof(value));
}

static uint64_t read_lines(const struct rte_mbuf *m)
{
	uint64_t value, sum = 0;

	for (uint32_t off = 0; off + sizeof(value) <= m->data_len; off += RTE_CACHE_LINE_SIZE) {
		memcpy(&value, rte_pktmbuf_mtod_offset(m, const void *, off), sizeof(value));
		sum += value;
	}
	return sum;
}

static void packets_send(uint16_t port, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t sent;

	for (uint16_t i = 0; i < n; i++)
		write_lines(pkts[i], guest.sum + i);
	sent = rte_eth_tx_burst(port, 0, pkts, n);
	rte_pktmbuf_free_bulk(pkts + sent, n - sent);
}

static void make(uint16_t port)
{
	struct rte_mbuf *pkts[BURST];

	if (rte_pktmbuf_alloc_bulk(guest.pool, pkts, BURST) != 0)
		return;
	for (unsigned i = 0; i < BURST; i++)
		pkts[i]->data_len = (uint16_t)(pkts[i]->pkt_len = guest.size);
	packets_send(port, pkts, BURST);
}

static uint16_t receive(uint16_t port, struct rte_mbuf **pkts)
{
	uint16_t n = rte_eth_rx_burst(port, 0, pkts, BURST);

	for (uint16_t i = 0; i < n; i++)
		guest.sum += read_lines(pkts[i]);
	return n;
}

/* Port i of the list and its peer: 0 and 1, 2 and 3, a single one with itself. */
static void work(unsigned i)
{
	struct rte_mbuf *pkts[BURST];
	uint16_t port = guest.ports[i], n;

	if (guest.mode == TXONLY) {
		make(port);
		return;
	}
	n = receive(port, pkts);
	if (n == 0)
		return;
	if (guest.mode == RXONLY)
		rte_pktmbuf_free_bulk(pkts, n);
	else
		packets_send(guest.ports[guest.n > 1 ? i ^ 1 : i], pkts, n);
}

static int worker(void *arg)
{
	(void)arg;
	while (!flag(&guest.quitting)) {
		if (!flag(&guest.running)) {
			rte_delay_us_sleep(500);
			continue;
		}
		raise_flag(&guest.resting, false);
		for (unsigned k = 0; k < guest.first; k++)
			for (unsigned i = 0; i < guest.n; i++)
				make(guest.ports[i]);
		while (flag(&guest.running))
			for (unsigned i = 0; i < guest.n; i++)
				work(i);
		raise_flag(&guest.resting, true);
	}
	return 0;
}

/* ---- commands ---- */

static const char *set_ports(char *list)
{
	unsigned n = 0;

	for (char *word = strtok(list, ","); word; word = strtok(NULL, ",")) {
		long port = strtol(word, NULL, 10);

		if (n == PORTS_MAX || !rte_eth_dev_is_valid_port((uint16_t)port))
			return "no such list of ports";
		guest.ports[n++] = (uint16_t)port;
	}
	if (n == 3)
		return "one, two or four ports";
	guest.n = n;
	return NULL;
}

static const char *set_mode(const char *name)
{
	static const char *const names[] = {"txonly", "rxonly", "macswap"};

	for (unsigned i = 0; i < RTE_DIM(names); i++) {
		if (strcmp(name, names[i]) == 0) {
			guest.mode = (enum mode)i;
			return NULL;
		}
	}
	return "txonly, rxonly or macswap";
}

static const char *set(const char *what, char *value)
{
	if (strcmp(what, "portlist") == 0)
		return set_ports(value);
	if (strcmp(what, "fwd") == 0)
		return set_mode(value);
	if (strcmp(what, "txpkts") == 0) {
		guest.size = (uint16_t)RTE_MIN(RTE_MAX(atoi(value), 60), 1514);
		return NULL;
	}
	return "portlist, fwd or txpkts";
}

/* As in testpmd: what has waited so far is not for this run. */
static void start(unsigned first)
{
	struct rte_mbuf *pkts[BURST];

	for (unsigned i = 0; i < guest.n; i++)
		for (unsigned k = 0, n = 1; n > 0 && k < 2 * RING / BURST; k++)
			rte_pktmbuf_free_bulk(
				pkts, n = rte_eth_rx_burst(guest.ports[i], 0, pkts, BURST));
	guest.first = first;
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

static const char *command(char *line)
{
	char *verb = strtok(line, " \r\n"), *word = strtok(NULL, " \r\n"),
	     *value = strtok(NULL, " \r\n");

	if (!verb)
		return NULL;
	if (strcmp(verb, "stop") == 0)
		stop();
	else if (strcmp(verb, "quit") == 0)
		raise_flag(&guest.quitting, true);
	else if (flag(&guest.running))
		return "stop first";
	else if (strcmp(verb, "start") == 0)
		start(word && value ? (unsigned)atoi(value) : 0);
	else if (strcmp(verb, "set") == 0 && value)
		return set(word, value);
	else
		return "set, start, stop or quit";
	return NULL;
}

static void command_loop(void)
{
	char line[128];

	while (!flag(&guest.quitting)) {
		const char *wrong;

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

static int port_start(uint16_t port)
{
	const struct rte_eth_conf conf = {0};
	int err = rte_eth_dev_configure(port, 1, 1, &conf);

	if (!err)
		err = rte_eth_rx_queue_setup(port, 0, RING, 0, NULL, guest.pool);
	if (!err)
		err = rte_eth_tx_queue_setup(port, 0, RING, 0, NULL);
	if (!err)
		err = rte_eth_dev_start(port);
	if (err)
		fprintf(stderr, "guest: port %u: %s\n", port, strerror(-err));
	return err;
}

int main(int argc, char **argv)
{
	uint16_t port;

	if (rte_eal_init(argc, argv) < 0)
		return 1;
	guest.pool = rte_pktmbuf_pool_create("guest", MBUFS, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	if (!guest.pool || rte_lcore_count() != 2) {
		fprintf(stderr, "guest: no memory, or not one main and one worker lcore\n");
		return 1;
	}
	RTE_ETH_FOREACH_DEV(port)
	{
		if (port_start(port) != 0)
			return 1;
	}
	rte_eal_mp_remote_launch(worker, NULL, SKIP_MAIN);
	command_loop();
	rte_eal_mp_wait_lcore();
	RTE_ETH_FOREACH_DEV(port)
	{
		rte_eth_dev_stop(port);
		rte_eth_dev_close(port);
	}
	return rte_eal_cleanup();
}

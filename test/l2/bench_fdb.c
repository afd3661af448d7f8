/* SPDX-License-Identifier: BSD-3-Clause */
/* What the forwarding database costs per packet: keys, learning and lookup of 64-packet bursts. */
#include <stdio.h>
#include <stdlib.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ether.h>
#include <rte_string_fns.h>

#include "fdb.h"

#define FRAMES (1u << 16)
#define ROUNDS 31
#define LEARN  1
#define LOOKUP 2

struct frame {
	struct rte_ether_hdr eth;
	uint8_t rest[64 - sizeof(struct rte_ether_hdr)];
};

/* `pairs` of addresses, a frame from the first to the second of each, `run` frames in a row. */
struct load {
	const char *name;
	uint32_t pairs;
	uint32_t run;
	uint32_t limit; /* of the port the sources are on */
	int what;       /* LEARN, LOOKUP */
	bool known;     /* are the addresses in the table? */
};

static const struct load loads[] = {
	{"one flow", 1, 64, FDB_PORT_LIMIT, LEARN | LOOKUP, true},
	{"8 flows, in runs of 8", 8, 8, FDB_PORT_LIMIT, LEARN | LOOKUP, true},
	{"8 flows, mixed", 8, 1, FDB_PORT_LIMIT, LEARN | LOOKUP, true},
	{"64 flows, mixed", 64, 1, FDB_PORT_LIMIT, LEARN | LOOKUP, true},
	{"  only learning", 64, 1, FDB_PORT_LIMIT, LEARN, true},
	{"  only lookup", 64, 1, FDB_PORT_LIMIT, LOOKUP, true},
	{"1024 flows, mixed", 1024, 1, FDB_PORT_LIMIT, LEARN | LOOKUP, true},
	{"8192 flows, mixed", 8192, 1, FDB_PORT_LIMIT, LEARN | LOOKUP, true},
	{"one unknown destination", 1, 64, FDB_PORT_LIMIT, LOOKUP, false},
	{"unknown destinations", FRAMES, 1, FDB_PORT_LIMIT, LOOKUP, false},
	{"flood, port at its limit", FRAMES, 1, 0, LEARN, false},
	{"learning new addresses", FRAMES / 2, 1, UINT32_MAX, LEARN, false},
};

static struct frame frames[FRAMES];
static struct fdb_cache cache;

static void station(struct rte_ether_addr *mac, uint32_t id)
{
	fdb_key_mac(fdb_key_of((uint64_t)id << 8 | 0x02, 0), mac);
}

static void frames_fill(const struct load *load)
{
	uint32_t pair = 0;

	for (uint32_t i = 0; i < FRAMES; i++) {
		if (i % load->run == 0)
			pair = rand() % load->pairs;
		if (load->pairs >= FRAMES / 2)
			pair = i % load->pairs; /* no address twice in a row of rounds */
		station(&frames[i].eth.src_addr, 2 * pair + 1);
		station(&frames[i].eth.dst_addr, 2 * pair + 2);
	}
}

/* All frames once, in bursts; the cycles they took. */
static uint64_t run(struct fdb *fdb, int what, uint32_t frames_n)
{
	uint64_t dst[FDB_BURST], src[FDB_BURST], start = rte_rdtsc_precise(), sum = 0;
	uint16_t port[FDB_BURST];

	for (uint32_t first = 0; first < frames_n; first += FDB_BURST) {
		for (unsigned int i = 0; i < FDB_BURST; i++)
			fdb_keys(&frames[first + i].eth, 0, &dst[i], &src[i]);
		if (what & LEARN)
			sum += fdb_learn(fdb, &cache, 0, src, FDB_BURST, 1);
		if (what & LOOKUP)
			sum += fdb_lookup(fdb, &cache, dst, FDB_BURST, port);
	}
	__asm__ volatile("" ::"r"(sum));
	return rte_rdtsc_precise() - start;
}

static void teach(struct fdb *fdb, const struct load *load)
{
	struct rte_ether_addr mac;

	for (uint32_t id = 1; load->known && id <= 2 * load->pairs; id++) {
		uint64_t key;

		station(&mac, id);
		key = fdb_key(&mac, 0);
		fdb_learn(fdb, &cache, id % 2 == 0, &key, 1, 1);
	}
}

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int measure(const struct load *load)
{
	struct fdb_conf conf = {.ports = 2, .socket = SOCKET_ID_ANY};
	bool fresh = load->limit == UINT32_MAX;
	uint32_t n = fresh ? FRAMES / 2 : FRAMES;
	uint64_t cycles[ROUNDS];
	struct fdb *fdb;

	if (fdb_create(&conf, &fdb) != 0)
		return -1;
	memset(&cache, 0, sizeof(cache));
	fdb_set_limit(fdb, 0, load->limit);
	fdb_set_limit(fdb, 1, UINT32_MAX);
	frames_fill(load);
	teach(fdb, load);
	run(fdb, load->what, fresh ? 0 : n);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		cycles[i] = run(fdb, load->what, n);
		fdb_flush_port(fdb, 0, false);
		if (!fresh)
			teach(fdb, load);
		else
			for (unsigned int call = 0; call < 16; call++)
				fdb_age(fdb, 1);
	}
	qsort(cycles, ROUNDS, sizeof(cycles[0]), by_value);
	printf("%-28s %8.1f %8.1f %8.1f\n", load->name, (double)cycles[0] / n,
		(double)cycles[ROUNDS / 2] / n, (double)cycles[ROUNDS * 9 / 10] / n);
	fdb_destroy(fdb);
	return 0;
}

int main(void)
{
	static char line[] = "bench_fdb --no-huge -m 64 --no-shconf --no-pci --no-telemetry -l 0 "
			     "--log-level error";
	char *argv[16];
	int argc = rte_strsplit(line, sizeof(line), argv, RTE_DIM(argv), ' ');

	if (rte_eal_init(argc, argv) < 0) {
		fprintf(stderr, "bench_fdb: EAL does not start: %s\n", rte_strerror(rte_errno));
		return 1;
	}
	printf("TSC cycles per packet (TSC %.2f GHz)\n", (double)rte_get_tsc_hz() / 1e9);
	printf("%-28s %8s %8s %8s\n", "", "best", "median", "90 %");
	for (size_t i = 0; i < RTE_DIM(loads); i++)
		if (measure(&loads[i]) != 0) {
			fprintf(stderr, "bench_fdb: the table does not fit into 64 MiB\n");
			return 1;
		}
	rte_eal_cleanup();
	return 0;
}

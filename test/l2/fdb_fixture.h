/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the forwarding database share: EAL, a table with one worker, its sums. */
#ifndef FDB_FIXTURE_H
#define FDB_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_malloc.h>
#include <rte_string_fns.h>

#include "fdb.h"
#include "ts_tap.h"

#define PORTS 4

/* Stations are small numbers; the first octet of the address is 02. */
static inline uint64_t station(uint64_t id, uint16_t vlan)
{
	return fdb_key_of(id << 8 | 0x02, vlan);
}

struct bridge {
	struct fdb *fdb;
	struct fdb_cache cache;
	struct rte_rcu_qsbr *rcu;
};

static inline struct rte_rcu_qsbr *rcu_new(unsigned int threads)
{
	struct rte_rcu_qsbr *rcu =
		rte_zmalloc("test", rte_rcu_qsbr_get_memsize(threads), RTE_CACHE_LINE_SIZE);

	assert_non_null(rcu);
	assert_int_equal(rte_rcu_qsbr_init(rcu, threads), 0);
	return rcu;
}

static inline void rcu_join(struct rte_rcu_qsbr *rcu, unsigned int thread)
{
	assert_int_equal(rte_rcu_qsbr_thread_register(rcu, thread), 0);
	rte_rcu_qsbr_thread_online(rcu, thread);
}

static inline void rcu_leave(struct rte_rcu_qsbr *rcu, unsigned int thread)
{
	rte_rcu_qsbr_thread_offline(rcu, thread);
	assert_int_equal(rte_rcu_qsbr_thread_unregister(rcu, thread), 0);
}

static inline struct bridge *bridge_new(uint32_t entries, uint16_t ports, bool with_rcu)
{
	struct fdb_conf conf = {.entries = entries, .ports = ports, .socket = SOCKET_ID_ANY};
	struct bridge *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	if (with_rcu) {
		b->rcu = rcu_new(1);
		rcu_join(b->rcu, 0);
		conf.rcu = b->rcu;
	}
	assert_int_equal(fdb_create(&conf, &b->fdb), 0);
	return b;
}

static inline void bridge_free(struct bridge *b)
{
	if (b->rcu != NULL)
		rcu_leave(b->rcu, 0);
	fdb_destroy(b->fdb);
	rte_free(b->rcu);
	free(b);
}

static inline uint64_t learn(struct bridge *b, uint16_t port, uint64_t key, uint32_t now)
{
	return fdb_learn(b->fdb, &b->cache, port, &key, 1, now);
}

static inline uint16_t lookup(struct bridge *b, uint64_t key)
{
	uint16_t port;
	uint64_t miss = fdb_lookup(b->fdb, &b->cache, &key, 1, &port);

	assert_int_equal(miss, port == FDB_MISS);
	return port;
}

static inline uint64_t counter(const struct bridge *b, enum fdb_counter what)
{
	struct fdb_stats stats;

	fdb_stats(b->fdb, &stats);
	return stats.counter[what];
}

/* What is in the table agrees with what it says of itself. */
static inline void check_sums(struct fdb *fdb, uint16_t ports)
{
	uint32_t per_port[256] = {0}, cursor = 0, statics = 0, sum = 0;
	struct fdb_row rows[37];
	struct fdb_port_stats port;
	struct fdb_stats stats;
	unsigned int n;

	while ((n = fdb_show(fdb, &cursor, rows, RTE_DIM(rows))) != 0)
		for (unsigned int i = 0; i < n; i++) {
			assert_true(rows[i].port < ports);
			assert_true(fdb_key_is_station(rows[i].key));
			statics += rows[i].is_static;
			per_port[rows[i].port] += !rows[i].is_static;
		}
	for (uint16_t p = 0; p < ports; p++) {
		assert_int_equal(fdb_port_stats(fdb, p, &port), 0);
		assert_int_equal(per_port[p], port.learnt);
		sum += port.learnt;
	}
	fdb_stats(fdb, &stats);
	assert_int_equal(stats.learnt, sum);
	assert_int_equal(stats.statics, statics);
	assert_true(stats.learnt + stats.statics + stats.stale <= stats.entries);
}

static inline uint32_t occupied(const struct bridge *b)
{
	struct fdb_stats stats;

	fdb_stats(b->fdb, &stats);
	return stats.learnt + stats.statics + stats.stale;
}

/* Start EAL with 64 MiB of ordinary memory, run main's tests, end EAL; main's status. */
#define RUN_UNDER_EAL(tests) \
	(eal_start() != 0 ? 1 : ts_run_tests(tests, RTE_DIM(tests), argc, argv) + eal_end())

static inline int eal_start(void)
{
	static char line[] = "test_fdb --no-huge -m 64 --no-shconf --no-pci --no-telemetry -l 0 "
			     "--log-level lib.hash:1";
	char *argv[16];
	int argc = rte_strsplit(line, sizeof(line), argv, RTE_DIM(argv), ' ');

	if (rte_eal_init(argc, argv) >= 0)
		return 0;
	fprintf(stderr, "test_fdb: EAL does not start: %s\n", rte_strerror(rte_errno));
	return -1;
}

static inline int eal_end(void)
{
	return rte_eal_cleanup() != 0;
}

#endif

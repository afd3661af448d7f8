/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of the forwarding database under load: limits, floods, reclaim, threads. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <rte_hash_crc.h>

#include "fdb_fixture.h"

/* ---- limits ---- */

/* Addresses that all have the same CRC32: a table that trusts it holds 16 of them. */
static void test_chosen_addresses(void **state)
{
	struct bridge *b = bridge_new(4096, 1, false);
	uint64_t crc[46], combo[46], kernel[46], base = station(0, 0);
	unsigned int n = 0, k = 0;

	for (unsigned int bit = 2; bit < 48; bit++) {
		uint64_t c = UINT64_C(1) << bit;
		uint64_t v = rte_hash_crc_8byte(base ^ c, 0) ^ rte_hash_crc_8byte(base, 0);

		for (unsigned int i = 0; i < n; i++)
			if ((v ^ crc[i]) < v) {
				v ^= crc[i];
				c ^= combo[i];
			}
		if (v == 0) {
			kernel[k++] = c;
		} else {
			crc[n] = v;
			combo[n++] = c;
		}
	}
	assert_true(k >= 11);
	for (unsigned int i = 1; i < 2048; i++) {
		uint64_t key = base;

		for (unsigned int j = 0; j < 11; j++)
			key ^= i >> j & 1 ? kernel[j] : 0;
		assert_int_equal(rte_hash_crc_8byte(key, 0), rte_hash_crc_8byte(base, 0));
		assert_int_equal(learn(b, 0, key, 1), 0);
		assert_int_equal(lookup(b, key), 0);
	}
	assert_int_equal(counter(b, FDB_LEARNT), 2047);
	assert_int_equal(counter(b, FDB_FULL), 0);
	bridge_free(b);
}

static uint64_t flood(struct bridge *b, uint16_t port, uint64_t first, uint64_t count)
{
	uint64_t src[FDB_BURST], sent = 0;

	while (sent < count) {
		unsigned int n = RTE_MIN((uint64_t)FDB_BURST, count - sent);

		for (unsigned int i = 0; i < n; i++) /* an odd factor: no address twice */
			src[i] = station((first + sent + i) * 0x9e3779b97f & 0xffffffffff, 0);
		assert_int_equal(fdb_learn(b->fdb, &b->cache, port, src, n, 1), 0);
		sent += n;
	}
	return sent;
}

static void test_flood(void **state)
{
	struct bridge *b = bridge_new(0, PORTS, false);
	const uint64_t count = 10 * 1000 * 1000;
	struct fdb_port_stats port;

	learn(b, 0, fdb_key_of(0xaa02, 5), 1);
	assert_int_equal(flood(b, 1, 1, count), count);
	assert_int_equal(fdb_port_stats(b->fdb, 1, &port), 0);
	assert_int_equal(port.learnt, FDB_PORT_LIMIT);
	assert_int_equal(port.refused, count - FDB_PORT_LIMIT);
	assert_int_equal(counter(b, FDB_LIMIT), count - FDB_PORT_LIMIT);
	assert_int_equal(counter(b, FDB_FULL), 0);
	assert_int_equal(lookup(b, fdb_key_of(0xaa02, 5)), 0);
	learn(b, 2, fdb_key_of(0xbb02, 5), 1);
	assert_int_equal(lookup(b, fdb_key_of(0xbb02, 5)), 2);
	check_sums(b->fdb, PORTS);
	bridge_free(b);
}

/* Ports that flood without a limit fill all but an eighth; quiet ports learn on, until
 * nothing at all is left. */
static void test_full(void **state)
{
	struct bridge *b = bridge_new(1024, 64, false);
	struct fdb_port_stats port;

	for (uint16_t p = 0; p < 64; p++)
		assert_int_equal(fdb_set_limit(b->fdb, p, UINT32_MAX), 0);
	flood(b, 0, 1, 2000);
	assert_int_equal(occupied(b), 1024 - 128);
	assert_int_equal(counter(b, FDB_FULL), 2000 - (1024 - 128));
	for (uint16_t p = 1; p < 64; p++)
		flood(b, p, 10000 * p, 2 * FDB_FEW);
	for (uint16_t p = 1; p < 64; p++) {
		assert_int_equal(fdb_port_stats(b->fdb, p, &port), 0);
		assert_int_equal(port.learnt, p <= 128 / FDB_FEW ? FDB_FEW : 0);
	}
	assert_int_equal(occupied(b), 1024);
	assert_int_equal(fdb_add_static(b->fdb, station(1, 9), 0), -ENOSPC);
	check_sums(b->fdb, 64);

	fdb_flush_all(b->fdb, false);
	assert_int_equal(fdb_age(b->fdb, 1), 1024);
	assert_int_equal(fdb_add_static(b->fdb, station(1, 9), 0), 0);
	flood(b, 3, 1, 100);
	assert_int_equal(occupied(b), 101);
	check_sums(b->fdb, 64);
	bridge_free(b);
}

/* A flushed entry stays flushed however often its port is flushed again unswept. */
static void test_generations(void **state)
{
	struct bridge *b = bridge_new(64, PORTS, false);

	learn(b, 1, station(1, 0), 1);
	learn(b, 2, station(2, 0), 1);
	assert_int_equal(fdb_add_static(b->fdb, station(3, 0), 1), 0);
	for (unsigned int i = 0; i < 70000; i++) {
		assert_int_equal(fdb_flush_port(b->fdb, 1, false), 0);
		assert_int_equal(lookup(b, station(1, 0)), FDB_MISS);
	}
	assert_int_equal(lookup(b, station(2, 0)), 2);
	assert_int_equal(lookup(b, station(3, 0)), 1);
	learn(b, 1, station(1, 0), 1);
	assert_int_equal(lookup(b, station(1, 0)), 1);
	check_sums(b->fdb, PORTS);
	bridge_free(b);
}

/* A table larger than one call's budget is covered by 16 calls. */
static void test_age_is_bounded(void **state)
{
	struct bridge *b = bridge_new(FDB_ENTRIES * 2, PORTS, false);
	unsigned int gone = 0;

	assert_int_equal(fdb_set_limit(b->fdb, 1, UINT32_MAX), 0);
	flood(b, 1, 1, 100000);
	for (unsigned int call = 0; call < 16; call++) {
		unsigned int n = fdb_age(b->fdb, 1000);

		assert_true(n <= FDB_ENTRIES * 2 * 5 / 4 / 16 + 1);
		gone += n;
	}
	assert_int_equal(gone, 100000);
	assert_int_equal(occupied(b), 0);
	bridge_free(b);
}

/* ---- reclaim ---- */

/* While a worker may still look at a deleted entry, its slot is nobody else's. */
static void test_reclaim_waits(void **state)
{
	struct bridge *b = bridge_new(16, 1, true);
	const unsigned int spare = 16 / 4;

	for (uint64_t id = 1; id <= 16; id++)
		learn(b, 0, station(id, 0), 1);
	assert_int_equal(occupied(b), 16);
	fdb_flush_all(b->fdb, false);
	assert_int_equal(fdb_age(b->fdb, 1), 16);
	for (uint64_t id = 101; id <= 116; id++)
		learn(b, 0, station(id, 0), 1);
	assert_int_equal(occupied(b), spare);
	assert_int_equal(counter(b, FDB_FULL), 16 - spare);

	rte_rcu_qsbr_quiescent(b->rcu, 0);
	for (uint64_t id = 101; id <= 116; id++)
		learn(b, 0, station(id, 0), 1);
	assert_int_equal(occupied(b), 16);
	for (uint64_t id = 1; id <= 16; id++) {
		assert_int_equal(lookup(b, station(id, 0)), FDB_MISS);
		assert_int_equal(lookup(b, station(id + 100, 0)), 0);
	}
	bridge_free(b);
}

/* ---- threads ---- */

#define WORKERS  2
#define STATIONS 512
#define STATICS  1000 /* stations from here on are static now and then, never learnt */

struct storm {
	struct fdb *fdb;
	struct rte_rcu_qsbr *rcu;
	bool roaming; /* every worker claims every station for its own port */
	bool stop;
	uint32_t now;
};

struct worker {
	struct storm *storm;
	unsigned int id;
	uint64_t hits, wrong, invalid;
	pthread_t thread;
};

static uint64_t storm_pick(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005 + 1442695040888963407;
	return *seed >> 40;
}

static void worker_burst(struct worker *w, struct fdb_cache *cache, uint64_t *seed)
{
	struct storm *s = w->storm;
	uint16_t in = s->roaming ? w->id : storm_pick(seed) % PORTS, out[FDB_BURST];
	uint32_t now = __atomic_load_n(&s->now, __ATOMIC_RELAXED);
	uint64_t src[FDB_BURST], dst[FDB_BURST], id[FDB_BURST];

	for (unsigned int i = 0; i < FDB_BURST; i++) {
		uint64_t pick = storm_pick(seed) % STATIONS;

		src[i] = station(s->roaming ? pick : (pick & ~3) | in, 0);
		id[i] = storm_pick(seed) % STATIONS + (i % 8 == 0 ? STATICS : 0);
		dst[i] = station(id[i], 0);
	}
	w->invalid |= fdb_learn(s->fdb, cache, in, src, FDB_BURST, now);
	fdb_lookup(s->fdb, cache, dst, FDB_BURST, out);
	for (unsigned int i = 0; i < FDB_BURST; i++) {
		if (out[i] == FDB_MISS)
			continue;
		__atomic_store_n(&w->hits, w->hits + 1, __ATOMIC_RELAXED);
		if (s->roaming && id[i] < STATICS)
			w->wrong += out[i] >= WORKERS;
		else
			w->wrong += out[i] != id[i] % PORTS;
	}
	rte_rcu_qsbr_quiescent(s->rcu, w->id);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct fdb_cache cache = {0};
	uint64_t seed = w->id + 1;

	rte_rcu_qsbr_thread_online(w->storm->rcu, w->id);
	while (!__atomic_load_n(&w->storm->stop, __ATOMIC_RELAXED))
		worker_burst(w, &cache, &seed);
	rte_rcu_qsbr_thread_offline(w->storm->rcu, w->id);
	return NULL;
}

/* Workers inherit the one lcore of the main thread: give them the whole machine. */
static void worker_start(struct worker *w)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	for (int i = 0; i < CPU_SETSIZE; i++)
		CPU_SET(i, &cpus);
	assert_int_equal(rte_rcu_qsbr_thread_register(w->storm->rcu, w->id), 0);
	assert_int_equal(pthread_create(&w->thread, NULL, worker_main, w), 0);
	assert_int_equal(pthread_setaffinity_np(w->thread, sizeof(cpus), &cpus), 0);
}

/* A static entry of the storm: full is a fair answer now and then. */
static bool storm_static(struct storm *s, uint64_t id)
{
	int ret = fdb_add_static(s->fdb, station(id, 0), id % PORTS);

	assert_true(ret == 0 || ret == -ENOSPC);
	return ret == 0;
}

/* Whether everything that is to be judged has happened, which depends on who gets the processor. */
static bool storm_seen(const struct storm *s, const struct worker *w)
{
	struct fdb_stats stats;

	for (unsigned int i = 0; i < WORKERS; i++)
		if (__atomic_load_n(&w[i].hits, __ATOMIC_RELAXED) == 0)
			return false;
	fdb_stats(s->fdb, &stats);
	return stats.counter[FDB_AGED] && stats.counter[FDB_FLUSHED] &&
	       (stats.counter[FDB_MOVED] || !s->roaming);
}

static void storm_control(struct storm *s, const struct worker *w, unsigned int rounds)
{
	struct fdb_row rows[64];
	uint64_t seed = 99;
	unsigned int statics = 0;

	for (unsigned int i = 0; i < rounds || (i < 100 * rounds && !storm_seen(s, w)); i++) {
		uint64_t id = STATICS + storm_pick(&seed) % STATIONS;
		bool added = storm_static(s, id), forget = i % 5 == 0;
		uint32_t cursor = 0;

		if (i % 3 == 0)
			fdb_flush_port(s->fdb, storm_pick(&seed) % PORTS, forget);
		fdb_age(s->fdb, __atomic_add_fetch(&s->now, i % 2, __ATOMIC_RELAXED));
		fdb_show(s->fdb, &cursor, rows, RTE_DIM(rows));
		if (fdb_del(s->fdb, station(id, 0)) == 0)
			statics++;
		else
			assert_true(!added || forget);
		usleep(20);
	}
	assert_true(statics > 0);
}

static void storm_run(bool roaming)
{
	struct storm s = {.rcu = rcu_new(WORKERS), .roaming = roaming, .now = 1};
	struct fdb_conf conf = {
		.entries = 2 * STATIONS, .ports = PORTS, .socket = SOCKET_ID_ANY, .rcu = s.rcu};
	struct worker w[WORKERS] = {0};
	struct fdb_stats stats;

	assert_int_equal(fdb_create(&conf, &s.fdb), 0);
	assert_int_equal(fdb_set_max_age(s.fdb, 1), 0);
	for (unsigned int i = 0; i < WORKERS; i++) {
		w[i] = (struct worker){.storm = &s, .id = i};
		worker_start(&w[i]);
	}
	storm_control(&s, w, 1500);
	__atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < WORKERS; i++) {
		assert_int_equal(pthread_join(w[i].thread, NULL), 0);
		assert_int_equal(rte_rcu_qsbr_thread_unregister(s.rcu, i), 0);
	}
	for (unsigned int i = 0; i < WORKERS; i++) {
		assert_int_equal(w[i].wrong, 0);
		assert_int_equal(w[i].invalid, 0);
		assert_true(w[i].hits > 0);
	}
	fdb_stats(s.fdb, &stats);
	assert_true(stats.counter[FDB_AGED] > 0 && stats.counter[FDB_FLUSHED] > 0);
	assert_int_equal(stats.counter[FDB_MOVED] > 0, roaming);
	assert_int_equal(stats.counter[FDB_LEARNT],
		stats.learnt + stats.counter[FDB_AGED] + stats.counter[FDB_FLUSHED]);
	check_sums(s.fdb, PORTS);
	fdb_destroy(s.fdb);
	rte_free(s.rcu);
}

static void test_threads(void **state)
{
	storm_run(false);
	storm_run(true);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chosen_addresses),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_generations),
		cmocka_unit_test(test_age_is_bounded),
		cmocka_unit_test(test_reclaim_waits),
		cmocka_unit_test(test_threads),
	};

	return RUN_UNDER_EAL(tests);
}

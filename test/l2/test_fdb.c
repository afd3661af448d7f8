/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of what the forwarding database does: keys, scripts of steps, bursts, showing. */
#include <errno.h>

#include <rte_random.h>

#include "fdb_fixture.h"

/* ---- keys ---- */

static void test_keys(void **state)
{
	static const struct {
		uint8_t mac[6];
		uint16_t vlan;
		uint64_t key;
		bool group, is_station;
	} rows[] = {
		{{0, 0, 0, 0, 0, 0}, 0, 0x8000000000000000, false, false},
		{{0, 0, 0, 0, 0, 0}, 7, 0x8007000000000000, false, false},
		{{2, 0, 0, 0, 0, 1}, 0, 0x8000010000000002, false, true},
		{{0, 0, 0, 0, 0, 1}, 4095, 0x8fff010000000000, false, true},
		{{1, 0x80, 0xc2, 0, 0, 0}, 1, 0x8001000000c28001, true, false},
		{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 0, 0x8000ffffffffffff, true, false},
		{{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc}, 0xf123, 0x8123bc9a78563412, false, true},
	};

	for (size_t i = 0; i < RTE_DIM(rows); i++) {
		uint8_t frame[12] = {
			0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xab, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa};
		struct rte_ether_addr mac;
		uint64_t dst, src, key;

		memcpy(&mac, rows[i].mac, sizeof(mac));
		key = fdb_key(&mac, rows[i].vlan);
		assert_int_equal(key, rows[i].key);
		assert_int_equal(fdb_key_is_group(key), rows[i].group);
		assert_int_equal(fdb_key_is_station(key), rows[i].is_station);
		assert_int_equal(fdb_key_vlan(key), rows[i].vlan & 0xfff);
		memcpy(frame, rows[i].mac, 6);
		fdb_keys(frame, rows[i].vlan, &dst, &src);
		assert_int_equal(dst, key);
		assert_int_equal(src & FDB_KEY_MAC, 0xaaaaaaaaaaab);
		memcpy(frame + 6, rows[i].mac, 6);
		fdb_keys(frame, rows[i].vlan, &dst, &src);
		assert_int_equal(src, key);
		fdb_key_mac(key, &mac);
		assert_memory_equal(&mac, rows[i].mac, 6);
	}
}

/* ---- creation and arguments ---- */

static void test_create(void **state)
{
	static const struct {
		uint32_t entries;
		uint16_t ports;
		int ret;
	} rows[] = {
		{0, 1, 0},
		{0, 0, -EINVAL},
		{FDB_ENTRIES_MIN - 1, 1, -EINVAL},
		{FDB_ENTRIES_MIN, 1, 0},
		{FDB_ENTRIES_MAX + 1, 1, -EINVAL},
		{FDB_ENTRIES_MAX, 1, -ENOMEM}, /* more than this test's 64 MiB */
		{1000, 4096, 0},
	};

	for (size_t i = 0; i < RTE_DIM(rows); i++) {
		struct fdb_conf conf = {.entries = rows[i].entries,
			.ports = rows[i].ports,
			.socket = SOCKET_ID_ANY};
		struct fdb *fdb = NULL;

		assert_int_equal(fdb_create(&conf, &fdb), rows[i].ret);
		assert_int_equal(fdb == NULL, rows[i].ret != 0);
		fdb_destroy(fdb);
	}
}

static void test_arguments(void **state)
{
	struct bridge *b = bridge_new(64, PORTS, false);
	struct fdb_port_stats port;

	assert_int_equal(fdb_max_age(b->fdb), FDB_MAX_AGE);
	assert_int_equal(fdb_set_max_age(b->fdb, (uint32_t)INT32_MAX + 1), -EINVAL);
	assert_int_equal(fdb_set_max_age(b->fdb, 17), 0);
	assert_int_equal(fdb_max_age(b->fdb), 17);
	assert_int_equal(fdb_set_limit(b->fdb, PORTS, 1), -EINVAL);
	assert_int_equal(fdb_flush_port(b->fdb, PORTS, false), -EINVAL);
	assert_int_equal(fdb_port_stats(b->fdb, PORTS, &port), -EINVAL);
	assert_int_equal(fdb_add_static(b->fdb, station(1, 0), PORTS), -EINVAL);
	assert_int_equal(fdb_add_static(b->fdb, station(1, 0) | 1, 0), -EINVAL);
	assert_int_equal(fdb_add_static(b->fdb, fdb_key_of(0, 5), 0), -EINVAL);
	assert_int_equal(fdb_del(b->fdb, station(1, 0)), -ENOENT);
	assert_int_equal(fdb_port_stats(b->fdb, 0, &port), 0);
	assert_int_equal(port.limit, FDB_PORT_LIMIT);
	bridge_free(b);
}

/* ---- scripts ---- */

enum op {
	LEARN,  /* expect: 1 if the source is invalid */
	LOOKUP, /* expect: port */
	STATIC, /* expect: 0 or -errno */
	DEL,    /* likewise */
	FLUSH,  /* likewise; learnt only */
	FORGET, /* likewise; statics as well */
	FLUSH_ALL,
	FORGET_ALL,
	AGE,     /* expect: entries removed */
	MAX_AGE, /* now: the time */
	LIMIT,   /* now: the limit */
	COUNT,   /* port: enum fdb_counter; expect: its value */
	ROOM,    /* expect: entries occupied, stale ones included */
};

#define MISS FDB_MISS

struct step {
	enum op op;
	int port;
	uint64_t id;
	uint16_t vlan;
	uint32_t now;
	int expect;
};

struct script {
	const char *name;
	struct step step[24];
	unsigned int steps;
};

#define SCRIPT(name, ...)                                                                       \
	{                                                                                       \
		name, {__VA_ARGS__}, sizeof((struct step[]){__VA_ARGS__}) / sizeof(struct step) \
	}

static const struct script scripts[] = {
	SCRIPT("learnt where seen, per VLAN", {LOOKUP, 0, 1, 0, 0, MISS}, {LEARN, 1, 1, 0, 5, 0},
		{LOOKUP, 0, 1, 0, 0, 1}, {LOOKUP, 0, 1, 7, 0, MISS}, {LEARN, 2, 1, 7, 5, 0},
		{LOOKUP, 0, 1, 7, 0, 2}, {LOOKUP, 0, 1, 0, 0, 1}, {LOOKUP, 0, 2, 0, 0, MISS},
		{COUNT, FDB_LEARNT, 0, 0, 0, 2}, {COUNT, FDB_MOVED, 0, 0, 0, 0}),
	SCRIPT("a station moves", {LEARN, 1, 1, 0, 5, 0}, {LEARN, 2, 1, 0, 5, 0},
		{LOOKUP, 0, 1, 0, 0, 2}, {LEARN, 1, 1, 0, 6, 0}, {LOOKUP, 0, 1, 0, 0, 1},
		{COUNT, FDB_LEARNT, 0, 0, 0, 1}, {COUNT, FDB_MOVED, 0, 0, 0, 2},
		{ROOM, 0, 0, 0, 0, 1}),
	SCRIPT("ages, but not when seen", {LEARN, 1, 1, 0, 100, 0}, {LEARN, 1, 2, 0, 100, 0},
		{AGE, 0, 0, 0, 400, 0}, {LEARN, 1, 2, 0, 300, 0}, {AGE, 0, 0, 0, 401, 1},
		{LOOKUP, 0, 1, 0, 0, MISS}, {LOOKUP, 0, 2, 0, 0, 1}, {AGE, 0, 0, 0, 600, 0},
		{AGE, 0, 0, 0, 601, 1}, {COUNT, FDB_AGED, 0, 0, 0, 2}, {ROOM, 0, 0, 0, 0, 0},
		{LEARN, 2, 1, 0, 601, 0}, {LOOKUP, 0, 1, 0, 0, 2}),
	SCRIPT("the ageing time changes at run time", {MAX_AGE, 0, 0, 0, 0, 0},
		{LEARN, 1, 1, 0, 0, 0}, {AGE, 0, 0, 0, 2000000000, 0}, {MAX_AGE, 0, 0, 0, 10, 0},
		{LEARN, 1, 1, 0, 50, 0}, {AGE, 0, 0, 0, 60, 0}, {AGE, 0, 0, 0, 61, 1}),
	SCRIPT("the clock wraps, or a worker's is ahead", {LEARN, 1, 1, 0, 0xfffffff0, 0},
		{AGE, 0, 0, 0, 0xfffffff0, 0}, {AGE, 0, 0, 0, 284, 0}, {AGE, 0, 0, 0, 285, 1},
		{LEARN, 1, 1, 0, 101, 0}, {AGE, 0, 0, 0, 100, 0}, {LOOKUP, 0, 1, 0, 0, 1}),
	SCRIPT("static entries stay", {STATIC, 1, 1, 0, 0, 0}, {LOOKUP, 0, 1, 0, 0, 1},
		{AGE, 0, 0, 0, 1000000, 0}, {LEARN, 2, 1, 0, 5, 0}, {LOOKUP, 0, 1, 0, 0, 1},
		{COUNT, FDB_HELD, 0, 0, 0, 1}, {LEARN, 1, 1, 0, 5, 0},
		{COUNT, FDB_HELD, 0, 0, 0, 1}, {FLUSH, 1, 0, 0, 0, 0}, {FLUSH_ALL, 0, 0, 0, 0, 0},
		{LOOKUP, 0, 1, 0, 0, 1}, {STATIC, 2, 1, 0, 0, 0}, {LOOKUP, 0, 1, 0, 0, 2},
		{ROOM, 0, 0, 0, 0, 1}, {DEL, 0, 1, 0, 0, 0}, {LOOKUP, 0, 1, 0, 0, MISS},
		{DEL, 0, 1, 0, 0, -ENOENT}, {LEARN, 3, 1, 0, 5, 0}, {LOOKUP, 0, 1, 0, 0, 3},
		{COUNT, FDB_DELETED, 0, 0, 0, 1}),
	SCRIPT("a learnt address becomes static, a flushed one too", {LEARN, 1, 1, 0, 5, 0},
		{STATIC, 2, 1, 0, 0, 0}, {LOOKUP, 0, 1, 0, 0, 2}, {FLUSH, 1, 0, 0, 0, 0},
		{LOOKUP, 0, 1, 0, 0, 2}, {LEARN, 1, 2, 0, 5, 0}, {FLUSH, 1, 0, 0, 0, 0},
		{STATIC, 1, 2, 0, 0, 0}, {LOOKUP, 0, 2, 0, 0, 1}, {ROOM, 0, 0, 0, 0, 2},
		{AGE, 0, 0, 0, 5, 0}),
	SCRIPT("a port's flush is at once, the rest later", {LEARN, 1, 1, 0, 5, 0},
		{LEARN, 1, 2, 0, 5, 0}, {LEARN, 2, 3, 0, 5, 0}, {FLUSH, 1, 0, 0, 0, 0},
		{LOOKUP, 0, 1, 0, 0, MISS}, {LOOKUP, 0, 2, 0, 0, MISS}, {LOOKUP, 0, 3, 0, 0, 2},
		{COUNT, FDB_FLUSHED, 0, 0, 0, 2}, {ROOM, 0, 0, 0, 0, 3}, {LEARN, 1, 1, 0, 6, 0},
		{LOOKUP, 0, 1, 0, 0, 1}, {COUNT, FDB_LEARNT, 0, 0, 0, 4},
		{DEL, 0, 2, 0, 0, -ENOENT}, {ROOM, 0, 0, 0, 0, 2}, {LEARN, 1, 2, 0, 6, 0},
		{FLUSH, 1, 0, 0, 0, 0}, {AGE, 0, 0, 0, 6, 2}, {ROOM, 0, 0, 0, 0, 1},
		{COUNT, FDB_AGED, 0, 0, 0, 0}, {COUNT, FDB_MOVED, 0, 0, 0, 0}),
	SCRIPT("stale entries are swept even if nothing ages", {MAX_AGE, 0, 0, 0, 0, 0},
		{LEARN, 1, 1, 0, 5, 0}, {FLUSH, 1, 0, 0, 0, 0}, {AGE, 0, 0, 0, 6, 1},
		{ROOM, 0, 0, 0, 0, 0}),
	SCRIPT("a flushed address is learnt elsewhere: not a move", {LEARN, 1, 1, 0, 5, 0},
		{FLUSH, 1, 0, 0, 0, 0}, {LEARN, 2, 1, 0, 5, 0}, {LOOKUP, 0, 1, 0, 0, 2},
		{COUNT, FDB_MOVED, 0, 0, 0, 0}, {COUNT, FDB_LEARNT, 0, 0, 0, 2},
		{FLUSH, 1, 0, 0, 0, 0}, {LOOKUP, 0, 1, 0, 0, 2}),
	SCRIPT("everything goes", {LEARN, 1, 1, 0, 5, 0}, {STATIC, 1, 2, 0, 0, 0},
		{STATIC, 2, 3, 0, 0, 0}, {LEARN, 2, 4, 0, 5, 0}, {FORGET, 1, 0, 0, 0, 0},
		{LOOKUP, 0, 1, 0, 0, MISS}, {LOOKUP, 0, 2, 0, 0, MISS}, {LOOKUP, 0, 3, 0, 0, 2},
		{LOOKUP, 0, 4, 0, 0, 2}, {FORGET_ALL, 0, 0, 0, 0, 0}, {LOOKUP, 0, 3, 0, 0, MISS},
		{LOOKUP, 0, 4, 0, 0, MISS}, {AGE, 0, 0, 0, 5, 2}, {ROOM, 0, 0, 0, 0, 0}),
	SCRIPT("a port's limit", {LIMIT, 1, 0, 0, 2, 0}, {LEARN, 1, 1, 0, 5, 0},
		{LEARN, 1, 2, 0, 5, 0}, {LEARN, 1, 3, 0, 5, 0}, {LOOKUP, 0, 3, 0, 0, MISS},
		{COUNT, FDB_LIMIT, 0, 0, 0, 1}, {LEARN, 1, 1, 0, 6, 0},
		{COUNT, FDB_LIMIT, 0, 0, 0, 1}, {LEARN, 2, 3, 0, 5, 0}, {LEARN, 1, 3, 0, 6, 0},
		{LOOKUP, 0, 3, 0, 0, 2}, {COUNT, FDB_LIMIT, 0, 0, 0, 2}, {STATIC, 1, 9, 0, 0, 0},
		{DEL, 0, 1, 0, 0, 0}, {LEARN, 1, 3, 0, 6, 0}, {LOOKUP, 0, 3, 0, 0, 1},
		{COUNT, FDB_MOVED, 0, 0, 0, 1}, {LIMIT, 1, 0, 0, 1, 0}, {LEARN, 1, 2, 0, 6, 0},
		{LOOKUP, 0, 2, 0, 0, 1}, {LEARN, 1, 8, 0, 6, 0}, {LOOKUP, 0, 8, 0, 0, MISS}),
	SCRIPT("a flush makes room under the limit; limit 0 learns nothing", {LIMIT, 1, 0, 0, 1, 0},
		{LEARN, 1, 1, 0, 5, 0}, {FLUSH, 1, 0, 0, 0, 0}, {LEARN, 1, 2, 0, 5, 0},
		{LOOKUP, 0, 2, 0, 0, 1}, {LIMIT, 2, 0, 0, 0, 0}, {LEARN, 2, 3, 0, 5, 0},
		{LOOKUP, 0, 3, 0, 0, MISS}, {COUNT, FDB_LIMIT, 0, 0, 0, 1}),
};

static int step_run(struct bridge *b, const struct step *s)
{
	uint64_t key = station(s->id, s->vlan);

	switch (s->op) {
	case LEARN:
		return learn(b, s->port, key, s->now);
	case LOOKUP:
		return lookup(b, key);
	case STATIC:
		return fdb_add_static(b->fdb, key, s->port);
	case DEL:
		return fdb_del(b->fdb, key);
	case FLUSH:
	case FORGET:
		return fdb_flush_port(b->fdb, s->port, s->op == FORGET);
	case FLUSH_ALL:
	case FORGET_ALL:
		fdb_flush_all(b->fdb, s->op == FORGET_ALL);
		return 0;
	case AGE:
		return fdb_age(b->fdb, s->now);
	case MAX_AGE:
		return fdb_set_max_age(b->fdb, s->now);
	case LIMIT:
		return fdb_set_limit(b->fdb, s->port, s->now);
	case COUNT:
		return counter(b, s->port);
	case ROOM:
		return occupied(b);
	}
	return -1;
}

static void script_run(const struct script *script, bool with_rcu)
{
	struct bridge *b = bridge_new(64, PORTS, with_rcu);

	for (unsigned int i = 0; i < script->steps; i++) {
		int got = step_run(b, &script->step[i]);

		if (got != script->step[i].expect)
			fail_msg("\"%s\", step %u: got %d, not %d", script->name, i + 1, got,
				script->step[i].expect);
		check_sums(b->fdb, PORTS);
		if (with_rcu)
			rte_rcu_qsbr_quiescent(b->rcu, 0);
	}
	bridge_free(b);
}

static void test_scripts(void **state)
{
	for (size_t i = 0; i < RTE_DIM(scripts); i++) {
		script_run(&scripts[i], false);
		script_run(&scripts[i], true);
	}
}

/* ---- bursts ---- */

static void test_burst_sources(void **state)
{
	struct bridge *b = bridge_new(256, PORTS, false);
	uint64_t src[FDB_BURST], invalid = 0;
	uint16_t port[FDB_BURST];

	/* every fifth source a group, every seventh all zero, pairs of neighbours equal */
	for (unsigned int i = 0; i < FDB_BURST; i++) {
		src[i] = station(i / 2 + 1, 3);
		if (i % 5 == 0)
			src[i] |= 1;
		if (i % 7 == 0)
			src[i] = fdb_key_of(0, 3);
		invalid |= (uint64_t)(i % 5 == 0 || i % 7 == 0) << i;
	}
	for (unsigned int round = 0; round < 3; round++) {
		assert_int_equal(fdb_learn(b->fdb, &b->cache, 2, src, FDB_BURST, 1), invalid);
		assert_int_equal(fdb_lookup(b->fdb, &b->cache, src, FDB_BURST, port), invalid);
		for (unsigned int i = 0; i < FDB_BURST; i++)
			assert_int_equal(port[i], invalid >> i & 1 ? FDB_MISS : 2);
	}
	assert_int_equal(fdb_learn(b->fdb, &b->cache, 2, src, 0, 1), 0);
	check_sums(b->fdb, PORTS);
	bridge_free(b);
}

/* Runs of equal, unknown and group destinations in all arrangements give what single
 * lookups give. */
static void test_burst_destinations(void **state)
{
	struct bridge *b = bridge_new(256, PORTS, false);
	uint64_t dst[FDB_BURST];
	uint16_t port[FDB_BURST];

	for (uint64_t id = 1; id <= 100; id++)
		learn(b, id % PORTS, station(id, 0), 1);
	for (unsigned int round = 0; round < 2000; round++) {
		unsigned int n = rte_rand_max(FDB_BURST) + 1;
		uint64_t miss, expect = 0;

		if (round % 3 == 0)
			memset(&b->cache, 0, sizeof(b->cache));
		for (unsigned int i = 0; i < n; i++) {
			dst[i] = station(rte_rand_max(130) + 1, 0) | (rte_rand_max(10) == 0);
			if (i > 0 && rte_rand_max(3) == 0)
				dst[i] = dst[i - 1];
		}
		miss = fdb_lookup(b->fdb, &b->cache, dst, n, port);
		for (unsigned int i = 0; i < n; i++) {
			uint64_t id = (dst[i] & FDB_KEY_MAC) >> 8;
			bool known = id <= 100 && !fdb_key_is_group(dst[i]);

			assert_int_equal(port[i], known ? id % PORTS : FDB_MISS);
			expect |= (uint64_t)!known << i;
		}
		assert_int_equal(miss, expect);
	}
	bridge_free(b);
}

/* A hint that outlived its entry finds nothing, whoever has the slot now. */
static void test_old_hints(void **state)
{
	struct bridge *b = bridge_new(16, PORTS, false);

	learn(b, 1, station(1, 0), 1);
	assert_int_equal(lookup(b, station(1, 0)), 1);
	assert_int_equal(fdb_del(b->fdb, station(1, 0)), 0);
	for (uint64_t id = 2; id < 200; id++) {
		learn(b, 2, station(id, 0), 1);
		assert_int_equal(lookup(b, station(1, 0)), FDB_MISS);
		assert_int_equal(lookup(b, station(id, 0)), 2);
		assert_int_equal(fdb_del(b->fdb, station(id, 0)), 0);
	}
	bridge_free(b);
}

static void test_show(void **state)
{
	struct bridge *b = bridge_new(64, PORTS, false);
	struct fdb_row rows[3];
	uint64_t seen = 0;
	uint32_t cursor = 0;
	unsigned int n;

	for (uint64_t id = 1; id <= 20; id++)
		learn(b, id % 2, station(id, 5), 100 + id);
	assert_int_equal(fdb_add_static(b->fdb, station(21, 5), 3), 0);
	while ((n = fdb_show(b->fdb, &cursor, rows, RTE_DIM(rows))) != 0)
		for (unsigned int i = 0; i < n; i++) {
			uint64_t id = (rows[i].key & FDB_KEY_MAC) >> 8;

			assert_int_equal(fdb_key_vlan(rows[i].key), 5);
			assert_int_equal(rows[i].is_static, id == 21);
			assert_int_equal(rows[i].port, id == 21 ? 3 : id % 2);
			assert_int_equal(rows[i].seen, id == 21 ? 0 : 100 + id);
			assert_int_equal(seen >> id & 1, 0);
			seen |= UINT64_C(1) << id;
		}
	assert_int_equal(seen, (UINT64_C(1) << 22) - 2);
	for (int i = 0; i < FDB_COUNTER_COUNT; i++) {
		assert_true(strlen(fdb_counter_name(i)) > 0);
		assert_true(strlen(fdb_counter_help(i)) > 0);
	}
	bridge_free(b);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_scripts),
		cmocka_unit_test(test_burst_sources),
		cmocka_unit_test(test_burst_destinations),
		cmocka_unit_test(test_old_hints),
		cmocka_unit_test(test_show),
	};

	return RUN_UNDER_EAL(tests);
}

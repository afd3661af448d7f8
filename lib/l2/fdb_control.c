/* SPDX-License-Identifier: BSD-3-Clause */
/* The forwarding database: what control does with it, ageing, flushing, showing. */
#include <errno.h>

#include "fdb_table.h"

#define AGE_MIN    4096u /* slots one fdb_age visits at least: 64 KiB of memory */
#define AGE_CALLS  16    /* fdb_age calls that cover a large table */
#define SHOW_CHUNK 256   /* slots looked at under the lock at once */
#define ANY_PORT   FDB_MISS

/* ---- ageing ---- */

static bool is_stale(const struct fdb *fdb, const struct fdb_entry *e)
{
	return !fdb_is_valid(fdb, load(&e->where));
}

static bool is_old(const struct fdb *fdb, const struct fdb_entry *e, uint32_t now)
{
	uint32_t max_age = load(&fdb->max_age);

	/* signed: a worker's clock may be a little ahead */
	return (load(&e->where) & WHERE_STATIC) == 0 && max_age != 0 &&
	       (int32_t)(now - load(&e->stamp)) > (int32_t)max_age;
}

static bool must_go(const struct fdb *fdb, const struct fdb_entry *e, uint32_t now)
{
	return load(&e->key) != 0 && (is_stale(fdb, e) || is_old(fdb, e, now));
}

static bool age_one(struct fdb *fdb, struct fdb_entry *e, uint32_t now)
{
	bool gone;

	rte_spinlock_lock(&fdb->lock);
	gone = must_go(fdb, e, now);
	if (gone) {
		if (!is_stale(fdb, e))
			fdb_count_locked(fdb, FDB_AGED, 1);
		fdb_remove_locked(fdb, e);
	}
	rte_spinlock_unlock(&fdb->lock);
	return gone;
}

unsigned int fdb_age(struct fdb *fdb, uint32_t now)
{
	uint32_t budget = RTE_MIN(fdb->slots, RTE_MAX(AGE_MIN, fdb->slots / AGE_CALLS + 1));
	unsigned int gone = 0;

	for (; budget > 0; budget--) {
		struct fdb_entry *e = &fdb->entry[fdb->cursor];

		fdb->cursor = fdb->cursor + 1 < fdb->slots ? fdb->cursor + 1 : 0;
		if (must_go(fdb, e, now))
			gone += age_one(fdb, e, now);
	}
	return gone;
}

int fdb_set_max_age(struct fdb *fdb, uint32_t seconds)
{
	if (seconds > INT32_MAX)
		return -EINVAL;
	store(&fdb->max_age, seconds);
	return 0;
}

uint32_t fdb_max_age(const struct fdb *fdb)
{
	return load(&fdb->max_age);
}

/* ---- the operator ---- */

int fdb_set_limit(struct fdb *fdb, uint16_t port, uint32_t limit)
{
	if (port >= fdb->ports)
		return -EINVAL;
	store(&fdb->port[port].limit, limit);
	return 0;
}

int fdb_add_static(struct fdb *fdb, uint64_t key, uint16_t port)
{
	uint32_t where = WHERE_STATIC | port;
	int32_t slot;

	if (!fdb_key_is_station(key) || port >= fdb->ports)
		return -EINVAL;
	rte_spinlock_lock(&fdb->lock);
	slot = fdb_slot_locked(fdb, key);
	if (slot >= 0) {
		fdb_uncount_locked(fdb, fdb->entry[slot].where);
		store(&fdb->entry[slot].where, where);
	} else {
		slot = fdb_insert_locked(fdb, key, where, 0);
	}
	if (slot >= 0)
		store(&fdb->statics, fdb->statics + 1);
	rte_spinlock_unlock(&fdb->lock);
	return slot >= 0 ? 0 : -ENOSPC;
}

int fdb_del(struct fdb *fdb, uint64_t key)
{
	int32_t slot;
	int ret = -ENOENT;

	rte_spinlock_lock(&fdb->lock);
	slot = fdb_slot_locked(fdb, key);
	if (slot >= 0) {
		if (!is_stale(fdb, &fdb->entry[slot])) {
			fdb_count_locked(fdb, FDB_DELETED, 1);
			ret = 0;
		}
		fdb_remove_locked(fdb, &fdb->entry[slot]);
	}
	rte_spinlock_unlock(&fdb->lock);
	return ret;
}

/* Remove all entries of a port, or of any: the static ones, or all but those. */
static void purge_locked(struct fdb *fdb, uint16_t port, bool statics)
{
	for (uint32_t i = 0; i < fdb->slots; i++) {
		struct fdb_entry *e = &fdb->entry[i];

		if (e->key == 0 || ((e->where & WHERE_STATIC) != 0) != statics)
			continue;
		if (port != ANY_PORT && (uint16_t)e->where != port)
			continue;
		if (statics)
			fdb_count_locked(fdb, FDB_DELETED, 1);
		fdb_remove_locked(fdb, e);
	}
}

static void flush_locked(struct fdb *fdb, uint16_t port)
{
	uint32_t gen = fdb->current[port] >> WHERE_GEN_SHIFT;
	uint32_t learnt = fdb->port[port].learnt;

	fdb_count_locked(fdb, FDB_FLUSHED, learnt);
	if (gen == WHERE_GEN_MAX)
		purge_locked(fdb, port, false);
	store(&fdb->learnt, fdb->learnt - fdb->port[port].learnt);
	store(&fdb->port[port].learnt, 0);
	gen = gen == WHERE_GEN_MAX ? 0 : gen + 1;
	store(&fdb->current[port], gen << WHERE_GEN_SHIFT | port);
}

int fdb_flush_port(struct fdb *fdb, uint16_t port, bool statics)
{
	if (port >= fdb->ports)
		return -EINVAL;
	rte_spinlock_lock(&fdb->lock);
	flush_locked(fdb, port);
	if (statics)
		purge_locked(fdb, port, true);
	rte_spinlock_unlock(&fdb->lock);
	return 0;
}

void fdb_flush_all(struct fdb *fdb, bool statics)
{
	rte_spinlock_lock(&fdb->lock);
	for (uint16_t port = 0; port < fdb->ports; port++)
		flush_locked(fdb, port);
	if (statics)
		purge_locked(fdb, ANY_PORT, true);
	rte_spinlock_unlock(&fdb->lock);
}

/* ---- looking around ---- */

unsigned int fdb_show(struct fdb *fdb, uint32_t *cursor, struct fdb_row *rows, unsigned int max)
{
	unsigned int n = 0;

	while (n < max && *cursor < fdb->slots) {
		uint32_t end = RTE_MIN(*cursor + SHOW_CHUNK, fdb->slots);

		rte_spinlock_lock(&fdb->lock);
		for (; n < max && *cursor < end; (*cursor)++) {
			const struct fdb_entry *e = &fdb->entry[*cursor];

			if (e->key == 0 || is_stale(fdb, e))
				continue;
			rows[n++] = (struct fdb_row){
				.key = e->key,
				.seen = load(&e->stamp),
				.port = (uint16_t)e->where,
				.is_static = (e->where & WHERE_STATIC) != 0,
			};
		}
		rte_spinlock_unlock(&fdb->lock);
	}
	return n;
}

void fdb_stats(const struct fdb *fdb, struct fdb_stats *stats)
{
	uint32_t used = load(&fdb->used);

	for (unsigned int i = 0; i < FDB_COUNTER_COUNT; i++)
		stats->counter[i] = load(&fdb->counter[i]);
	for (uint16_t port = 0; port < fdb->ports; port++)
		stats->counter[FDB_LIMIT] += load(&fdb->port[port].refused);
	stats->learnt = load(&fdb->learnt);
	stats->statics = load(&fdb->statics);
	stats->stale = used - RTE_MIN(used, stats->learnt + stats->statics);
	stats->entries = fdb->entries;
}

int fdb_port_stats(const struct fdb *fdb, uint16_t port, struct fdb_port_stats *stats)
{
	if (port >= fdb->ports)
		return -EINVAL;
	stats->learnt = load(&fdb->port[port].learnt);
	stats->limit = load(&fdb->port[port].limit);
	stats->refused = load(&fdb->port[port].refused);
	return 0;
}

static const struct {
	const char *name;
	const char *help;
} counters[] = {
#define X(name, text, help) {text, help},
	FDB_COUNTERS(X)
#undef X
};

const char *fdb_counter_name(enum fdb_counter counter)
{
	return counters[counter].name;
}

const char *fdb_counter_help(enum fdb_counter counter)
{
	return counters[counter].help;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The table itself, shared by what workers (fdb.c) and control (fdb_control.c) do with it. */
#ifndef FDB_TABLE_H
#define FDB_TABLE_H

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_spinlock.h>

#include "fdb.h"

/* entry.where: port in bits 0-15, its generation in 16-30, static in 31 (generation 0). */
#define WHERE_GEN_SHIFT 16
#define WHERE_GEN_MAX   0x7fffu
#define WHERE_STATIC    (UINT32_C(1) << 31)
#define WHERE_NONE      (WHERE_STATIC | FDB_MISS)

/* Four to a cache line. Written under the lock but for stamp; read by all. */
struct fdb_entry {
	uint64_t key;
	uint32_t where;
	uint32_t stamp; /* written by workers on sight */
};

/* Of one port; a line each, as every port's workers count there. */
struct fdb_port {
	uint32_t learnt;  /* written under the lock, read by workers */
	uint32_t limit;   /* written by control, read by workers */
	uint64_t refused; /* added to by workers */
} __rte_cache_aligned;

struct fdb {
	/* constant after creation */
	struct fdb_entry *entry; /* slots + 1: the last is what an unknown address finds */
	struct fdb_port *port;
	struct rte_hash *hash;
	uint64_t secret[2];
	uint32_t slots;
	uint32_t entries;
	uint32_t reserve;
	uint16_t ports;
	bool rcu;

	uint32_t *current; /* per port, the `where` of an address learnt now; written by flush */
	uint32_t max_age;  /* written by control */

	rte_spinlock_t lock __rte_cache_aligned;
	uint32_t used;                       /* under the lock: entries in the hash */
	uint32_t learnt;                     /* under the lock: of them valid and not static */
	uint32_t statics;                    /* under the lock: of them static */
	uint32_t cursor;                     /* fdb_age's */
	uint64_t counter[FDB_COUNTER_COUNT]; /* under the lock, but FULL, BUSY, HELD: atomic */
};

#define load(p)     __atomic_load_n(p, __ATOMIC_RELAXED)
#define store(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)

/* A key beyond prediction: its upper bits choose a hint, its CRC the bucket. */
static inline uint64_t fdb_mix(const struct fdb *fdb, uint64_t key)
{
	unsigned __int128 m = (unsigned __int128)(key ^ fdb->secret[0]) * fdb->secret[1];

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline hash_sig_t fdb_mix_sig(uint64_t mix)
{
	return rte_hash_crc_8byte(mix, 0);
}

static inline struct fdb_entry *fdb_nowhere(const struct fdb *fdb)
{
	return &fdb->entry[fdb->slots];
}

/* Is an entry with this `where` static, or learnt since its port's last flush? */
static inline bool fdb_is_valid(const struct fdb *fdb, uint32_t where)
{
	return (where & WHERE_STATIC) != 0 || where == load(&fdb->current[(uint16_t)where]);
}

static inline void fdb_count_locked(struct fdb *fdb, enum fdb_counter what, uint64_t n)
{
	store(&fdb->counter[what], fdb->counter[what] + n);
}

/* All *_locked: under the lock. */

/* The slot of a key, or negative. */
int32_t fdb_slot_locked(const struct fdb *fdb, uint64_t key);

/* A new entry for a key not in the table. Its slot, or -ENOSPC. */
int32_t fdb_insert_locked(struct fdb *fdb, uint64_t key, uint32_t where, uint32_t stamp);

/* An entry with this `where` is about to change or go: take it out of the sums it is in. */
void fdb_uncount_locked(struct fdb *fdb, uint32_t where);

void fdb_remove_locked(struct fdb *fdb, struct fdb_entry *e);

#endif

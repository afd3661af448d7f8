/* SPDX-License-Identifier: BSD-3-Clause */
/* The forwarding database of a learning bridge: which port has this address. */
#ifndef FDB_H
#define FDB_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_rcu_qsbr.h>

/*
 * By value: a port is a number below `ports`, an address in a VLAN is one 64-bit key.
 * The table knows neither packets nor devices.
 *
 * Who may call what
 *
 *   worker    fdb_learn, fdb_lookup: any number of threads at once, each with a struct
 *             fdb_cache of its own. With `rcu` given, the thread is registered and online
 *             there, and reports quiescence between bursts, never inside one.
 *   control   everything else: any thread, while workers run; calls from several threads
 *             are serialised by the writer lock. fdb_age: from one thread at a time.
 *   owner     fdb_create, fdb_destroy: nobody else may use the table meanwhile.
 *
 * A lookup and the refresh of a known address take no lock. Learning, moving and every
 * control call take the writer lock; a worker gives up after a bounded number of tries
 * and learns from a later packet instead.
 *
 * Reclaim: a deleted entry is gone for every lookup that starts afterwards. Its memory
 * slot is used for another address only after every worker online in `rcu` reported
 * quiescence, so that a lookup under way answers with the old port, never with some other
 * address's. Nothing waits: the slot sits in a defer queue and is taken from there by a
 * later deletion or when slots run out. A worker that stops reporting quiescence while
 * online therefore stops learning in the end (counted: full), and nothing worse. With
 * `rcu` NULL slots are reused at once: one thread only.
 *
 * A packet whose source is not learnt (limit, full, busy, held) is forwarded all the same;
 * packets to that address are flooded. Not learning never means dropping.
 */

/* Packets one call takes. */
#define FDB_BURST 64

/* fdb_lookup's answer when the packet must be flooded. */
#define FDB_MISS UINT16_MAX

/* Addresses a table holds unless told otherwise: about 6 MiB. */
#define FDB_ENTRIES     65536
#define FDB_ENTRIES_MIN 16
#define FDB_ENTRIES_MAX (1u << 22)

/* Seconds an address is kept without being seen (IEEE 802.1Q 8.8.3 recommends 300). */
#define FDB_MAX_AGE 300

/* Addresses one port may have learnt: one hostile port cannot take more than an eighth of
 * a table of the default size. An uplink to a large network deserves more. */
#define FDB_PORT_LIMIT 8192

/* The last eighth of a table is kept for ports that have learnt fewer than this, so that
 * ports flooding together cannot keep a quiet one from being found. */
#define FDB_FEW 32

/* What happened, counted since creation. */
#define FDB_COUNTERS(X)                                                              \
	X(LEARNT, "learnt", "addresses learnt")                                      \
	X(MOVED, "moved", "addresses that moved to another port")                    \
	X(AGED, "aged", "addresses forgotten after the ageing time")                 \
	X(FLUSHED, "flushed", "learnt addresses forgotten by a flush")               \
	X(DELETED, "deleted", "entries deleted by the operator")                     \
	X(LIMIT, "limit", "not learnt: the port is at its limit")                    \
	X(FULL, "full", "not learnt: the table is full")                             \
	X(BUSY, "busy", "not learnt: the table was being changed; a later one will") \
	X(HELD, "held", "not moved: the address is static on another port")

enum fdb_counter {
#define X(name, text, help) FDB_##name,
	FDB_COUNTERS(X)
#undef X
	FDB_COUNTER_COUNT
};

struct fdb; /* the table, private to fdb.c */

/* What fdb_create needs; zero is a sensible value but for `ports`. */
struct fdb_conf {
	uint32_t entries;         /* learnt and static addresses together; 0: FDB_ENTRIES */
	uint16_t ports;           /* port numbers are below this; at least 1 */
	int socket;               /* NUMA node of the memory, or SOCKET_ID_ANY */
	struct rte_rcu_qsbr *rcu; /* the workers', initialised; borrowed for the table's life */
};

/*
 * Where a worker found addresses lately. Only a hint: each use is checked against the
 * table, so it needs no invalidation. All zero is empty. Belongs to one worker and one
 * table: zero it before using it with another. 32 KiB, of which an address in use
 * touches one line; two ways, so that up to a thousand addresses seldom displace each
 * other. Private to fdb.c but for its size.
 */
#define FDB_CACHE_SETS 2048
struct fdb_cache {
	struct {
		uint32_t tag[2];
		uint32_t slot[2];
	} set[FDB_CACHE_SETS];
};

/* One entry, as fdb_show copies it out. */
struct fdb_row {
	uint64_t key;
	uint32_t seen; /* the `now` of the last burst it was a source in; 0 if never */
	uint16_t port;
	bool is_static;
};

struct fdb_stats {
	uint64_t counter[FDB_COUNTER_COUNT];
	uint32_t learnt;  /* addresses learnt and valid now */
	uint32_t statics; /* static entries now */
	uint32_t stale;   /* flushed, not swept yet by fdb_age: still occupy the table */
	uint32_t entries; /* the table's size: learnt + statics + stale never exceed it */
};

struct fdb_port_stats {
	uint32_t learnt;  /* addresses learnt and valid now */
	uint32_t limit;   /* how many may be */
	uint64_t refused; /* not learnt because of it, since creation */
};

/*
 * Keys. Bits 0-47 are the address with its first octet lowest, so that bit 0 is the group
 * bit; 48-59 the VLAN; 63 is set, so that no key is zero.
 */
#define FDB_KEY_MAC ((UINT64_C(1) << 48) - 1)
#define FDB_KEY_SET (UINT64_C(1) << 63)

static inline uint64_t fdb_key_of(uint64_t mac, uint16_t vlan)
{
	return (mac & FDB_KEY_MAC) | (uint64_t)(vlan & 0xfff) << 48 | FDB_KEY_SET;
}

/* The key of an address in a VLAN; `vlan` 0 is untagged, only its low 12 bits count. */
static inline uint64_t fdb_key(const struct rte_ether_addr *mac, uint16_t vlan)
{
	uint64_t v = 0;

	memcpy(&v, mac, sizeof(*mac));
	return fdb_key_of(rte_le_to_cpu_64(v), vlan);
}

/* Both keys of a packet at once. `eth`: an Ethernet header, no alignment needed; 12 bytes
 * are read. */
static inline void fdb_keys(const void *eth, uint16_t vlan, uint64_t *dst, uint64_t *src)
{
	uint64_t v[2];

	memcpy(&v[0], eth, sizeof(v[0]));
	memcpy(&v[1], (const char *)eth + 4, sizeof(v[1]));
	*dst = fdb_key_of(rte_le_to_cpu_64(v[0]), vlan);
	*src = fdb_key_of(rte_le_to_cpu_64(v[1]) >> 16, vlan);
}

static inline void fdb_key_mac(uint64_t key, struct rte_ether_addr *mac)
{
	uint64_t v = rte_cpu_to_le_64(key & FDB_KEY_MAC);

	memcpy(mac, &v, sizeof(*mac));
}

static inline uint16_t fdb_key_vlan(uint64_t key)
{
	return (key >> 48) & 0xfff;
}

/* Multicast or broadcast. */
static inline bool fdb_key_is_group(uint64_t key)
{
	return key & 1;
}

/* A station may have this address: neither a group nor all zero. */
static inline bool fdb_key_is_station(uint64_t key)
{
	return !fdb_key_is_group(key) && (key & FDB_KEY_MAC) != 0;
}

/**
 * Make a table. Owner thread, after EAL initialisation.
 *
 * @param conf  see struct fdb_conf; not kept
 * @param out   the table; free with fdb_destroy
 * @return 0, -EINVAL (no ports, or entries outside FDB_ENTRIES_MIN..MAX), -ENOMEM, or
 *         what getrandom(2) said
 */
int fdb_create(const struct fdb_conf *conf, struct fdb **out);

/* Free a table; NULL is fine. Owner thread, when no worker is online in its `rcu` any more. */
void fdb_destroy(struct fdb *fdb);

/**
 * Learn the sources of a burst, refresh the known ones. Worker.
 *
 * @param cache  the worker's
 * @param port   where all these packets came from; below `ports`
 * @param src    source keys, one per packet
 * @param n      packets, at most FDB_BURST
 * @param now    coarse seconds on any clock shared with fdb_age; may wrap
 * @return bit i is set when packet i has no valid source (a group address, or all zero):
 *         an invalid frame, to be dropped and counted by the caller
 */
uint64_t fdb_learn(struct fdb *fdb, struct fdb_cache *cache, uint16_t port, const uint64_t *src,
	unsigned int n, uint32_t now);

/**
 * Find the ports of a burst's destinations. Worker.
 *
 * @param cache  the worker's; the same as for fdb_learn
 * @param dst    destination keys, one per packet
 * @param n      packets, at most FDB_BURST
 * @param port   per packet its port, or FDB_MISS when unknown or a group address
 * @return bit i is set when port[i] is FDB_MISS
 */
uint64_t fdb_lookup(const struct fdb *fdb, struct fdb_cache *cache, const uint64_t *dst,
	unsigned int n, uint16_t *port);

/**
 * Forget what was not seen for longer than the ageing time, and sweep what was flushed.
 * Control, one thread, about once a second. Bounded: a call visits a sixteenth of the
 * table (at least 4096 slots), the next goes on from there; an address is gone at most 16
 * calls after its time is up.
 *
 * @param now  as in fdb_learn
 * @return entries removed
 */
unsigned int fdb_age(struct fdb *fdb, uint32_t now);

/* Set the ageing time in seconds, 0: never. Control. -EINVAL above INT32_MAX. */
int fdb_set_max_age(struct fdb *fdb, uint32_t seconds);

uint32_t fdb_max_age(const struct fdb *fdb);

/* How many addresses `port` may have learnt; 0: it learns none, UINT32_MAX: no limit. What
 * it has learnt already stays. A move to a port at its limit is refused, too: the address
 * stays where it was. Control. -EINVAL: no such port. */
int fdb_set_limit(struct fdb *fdb, uint16_t port, uint32_t limit);

/**
 * Add a static entry, or make a known one static on `port`. Never aged, never moved,
 * counts against no port's limit. Control.
 *
 * @return 0, -EINVAL (no station's address, no such port), -ENOSPC (table full)
 */
int fdb_add_static(struct fdb *fdb, uint64_t key, uint16_t port);

/* Delete one entry, learnt or static. Control. 0 or -ENOENT. */
int fdb_del(struct fdb *fdb, uint64_t key);

/**
 * Forget what was learnt on a port: lookups miss at once, in O(1), and fdb_age sweeps the
 * entries later. Control. When a port goes away, first make sure (by `rcu`) that no worker
 * still holds packets it received there, or it would be learnt again.
 *
 * @param statics  forget its static entries as well, in one walk over the table during
 *                 which workers look up but do not learn
 * @return 0 or -EINVAL: no such port
 */
int fdb_flush_port(struct fdb *fdb, uint16_t port, bool statics);

/* The same for all ports. */
void fdb_flush_all(struct fdb *fdb, bool statics);

/**
 * Copy entries out. Control. Repeat until it returns 0; entries that change between two
 * calls may be missed.
 *
 * @param cursor  0 to begin, then as the last call left it
 * @param rows    where to
 * @param max     how many fit there
 * @return how many were copied
 */
unsigned int fdb_show(struct fdb *fdb, uint32_t *cursor, struct fdb_row *rows, unsigned int max);

/* Read the counters. Control; takes no lock: figures may be a few packets apart. */
void fdb_stats(const struct fdb *fdb, struct fdb_stats *stats);

/* A port's part of them. -EINVAL: no such port. */
int fdb_port_stats(const struct fdb *fdb, uint16_t port, struct fdb_port_stats *stats);

/* A counter's name in statistics, and what it counts; both constant. */
const char *fdb_counter_name(enum fdb_counter counter);
const char *fdb_counter_help(enum fdb_counter counter);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* The forwarding database: what workers do with it, looking up and learning. */
#include <rte_pause.h>
#include <rte_prefetch.h>

#include "fdb_table.h"

/*
 * Theory of operation
 *
 * The hash maps a key to a slot number, and entry[slot] holds what is known about it. An
 * entry repeats its key, so that a slot number alone, however old, can be checked: equal
 * keys mean it is the right entry. That is what makes a worker's fdb_cache a mere hint,
 * and lets most packets be done without touching the hash.
 *
 * `where` is a port, the port's generation when it was learnt, and the static bit. A
 * flush raises the port's generation in current[]: entries of an older one compare
 * unequal and are treated as absent from that moment. They are stale, and fdb_age
 * removes them. Generations have 15 bits; before one is used a second time every entry of
 * the port is removed, so an old entry never becomes valid again.
 *
 * Writers (learning, moving, control) hold `lock`. It also makes rte_hash's own locking
 * for several writers unnecessary, whose per-lcore stores of free slots would blur
 * how much the table holds. Readers take nothing:
 *
 *	insert				lookup
 *	where, stamp			slot, by hint or by hash
 *	key (release)   --- A ---	key equal? (acquire)
 *					where
 *	remove				(quiescent: never between key and where)
 *	key = 0
 *	slot to the defer queue
 *
 * A: who sees the key sees at least the `where` that came with it. A slot gets its next
 * key only after a grace period, so who saw the key still reads a `where` of that address.
 * `stamp` is written by whoever sees the address, without order: an entry seen in the
 * very moment it is aged is removed, and learnt again from its next packet.
 *
 * Neighbours are hostile: CRC32 alone is linear, so anybody could choose addresses that
 * share a bucket and so keep a victim out. Keys are multiplied with a secret first.
 */

#define LOCK_TRIES 64                /* some thousand cycles: longer than any one insertion */
#define NOTHING    FDB_COUNTER_COUNT /* an outcome not worth counting */

/* ---- looking up ---- */

#define SET_SHIFT 53
_Static_assert(FDB_CACHE_SETS == 1 << (64 - SET_SHIFT), "a set for each value of the upper bits");

static inline bool entry_is(const struct fdb_entry *e, uint64_t key)
{
	return __atomic_load_n(&e->key, __ATOMIC_ACQUIRE) == key; /* A */
}

/* The newest hint comes first and pushes out the older of the two. */
static inline void hint_set(struct fdb_cache *cache, uint64_t mix, uint32_t slot)
{
	uint32_t *tag = cache->set[mix >> SET_SHIFT].tag;
	uint32_t *old = cache->set[mix >> SET_SHIFT].slot;

	tag[1] = tag[0];
	old[1] = old[0];
	tag[0] = (uint32_t)mix;
	old[0] = slot;
}

/* The entry of a key if the cache knows it, or fdb_nowhere(). */
static inline struct fdb_entry *hinted(
	const struct fdb *fdb, const struct fdb_cache *cache, uint64_t key, uint64_t mix)
{
	const uint32_t *tag = cache->set[mix >> SET_SHIFT].tag;
	const uint32_t *slot = cache->set[mix >> SET_SHIFT].slot;
	bool second = tag[0] != (uint32_t)mix;
	struct fdb_entry *e = &fdb->entry[slot[second]];

	return likely(tag[second] == (uint32_t)mix && entry_is(e, key)) ? e : fdb_nowhere(fdb);
}

/* The addresses the cache did not know, whose bits are set in `todo`, by hash. */
static void find_hashed(const struct fdb *fdb, struct fdb_cache *cache, const uint64_t *key,
	const uint64_t *mix, uint64_t todo, struct fdb_entry **found)
{
	const void *keys[FDB_BURST];
	hash_sig_t sigs[FDB_BURST];
	int32_t slots[FDB_BURST];
	uint8_t index[FDB_BURST];
	unsigned int i, n = 0;

	for (; todo != 0; todo &= todo - 1) {
		i = __builtin_ctzll(todo);
		index[n] = i;
		keys[n] = &key[i];
		sigs[n++] = fdb_mix_sig(mix[i]);
	}
	rte_hash_lookup_with_hash_bulk(fdb->hash, keys, sigs, n, slots);
	for (unsigned int j = 0; j < n; j++)
		if (slots[j] >= 0)
			rte_prefetch0(&fdb->entry[slots[j]]);
	for (unsigned int j = 0; j < n; j++) {
		i = index[j];
		if (slots[j] < 0 || !entry_is(&fdb->entry[slots[j]], key[i]))
			continue;
		found[i] = &fdb->entry[slots[j]];
		hint_set(cache, mix[i], slots[j]);
	}
}

/* The entries of `n` keys; an unknown one's is fdb_nowhere(). */
static inline void find(const struct fdb *fdb, struct fdb_cache *cache, const uint64_t *key,
	unsigned int n, struct fdb_entry **found)
{
	uint64_t mix[FDB_BURST], same = 0, todo = 0, last = 0;
	struct fdb_entry *e = fdb_nowhere(fdb);

	for (unsigned int i = 0; i < n; i++) {
		if (key[i] == last) {
			same |= UINT64_C(1) << i;
		} else if (unlikely(fdb_key_is_group(key[i]))) {
			e = fdb_nowhere(fdb);
		} else {
			mix[i] = fdb_mix(fdb, key[i]);
			e = hinted(fdb, cache, key[i], mix[i]);
			todo |= (uint64_t)(e == fdb_nowhere(fdb)) << i;
		}
		last = key[i];
		found[i] = e;
	}
	if (likely(todo == 0))
		return;
	find_hashed(fdb, cache, key, mix, todo, found);
	for (; same != 0; same &= same - 1) {
		unsigned int i = __builtin_ctzll(same);

		found[i] = found[i - 1];
	}
}

uint64_t fdb_lookup(const struct fdb *fdb, struct fdb_cache *cache, const uint64_t *dst,
	unsigned int n, uint16_t *port)
{
	struct fdb_entry *found[FDB_BURST];
	uint64_t miss = 0;

	find(fdb, cache, dst, n, found);
	for (unsigned int i = 0; i < n; i++) {
		uint32_t where = load(&found[i]->where);

		port[i] = fdb_is_valid(fdb, where) ? (uint16_t)where : FDB_MISS;
		miss |= (uint64_t)(port[i] == FDB_MISS) << i;
	}
	return miss;
}

/* ---- learning ---- */

/* May the port learn one more? Asked with and without the lock. */
static enum fdb_counter room(const struct fdb *fdb, uint16_t port, bool needs_slot)
{
	uint32_t learnt = load(&fdb->port[port].learnt);
	uint32_t used = load(&fdb->used);
	uint32_t few = learnt < FDB_FEW ? 0 : fdb->reserve;

	if (learnt >= load(&fdb->port[port].limit))
		return FDB_LIMIT;
	if (needs_slot && used >= fdb->entries - few)
		return FDB_FULL;
	return NOTHING;
}

static inline void touch(struct fdb_entry *e, uint32_t now)
{
	if (load(&e->stamp) != now)
		store(&e->stamp, now);
}

static void count_learnt_locked(struct fdb *fdb, uint16_t port)
{
	store(&fdb->port[port].learnt, fdb->port[port].learnt + 1);
	store(&fdb->learnt, fdb->learnt + 1);
}

/* A known address, seen on a port that is not where the entry says. */
static enum fdb_counter relearn_locked(
	struct fdb *fdb, struct fdb_entry *e, uint16_t port, uint32_t now)
{
	bool moved = fdb_is_valid(fdb, e->where);
	enum fdb_counter why;

	if (e->where & WHERE_STATIC)
		return (uint16_t)e->where == port ? NOTHING : FDB_HELD;
	if (e->where == fdb->current[port])
		return NOTHING; /* another worker was first */
	why = room(fdb, port, false);
	if (why != NOTHING)
		return why;
	fdb_uncount_locked(fdb, e->where);
	count_learnt_locked(fdb, port);
	fdb_count_locked(fdb, moved ? FDB_MOVED : FDB_LEARNT, 1);
	touch(e, now);
	store(&e->where, fdb->current[port]);
	return NOTHING;
}

static enum fdb_counter learn_locked(
	struct fdb *fdb, struct fdb_cache *cache, uint16_t port, uint64_t key, uint32_t now)
{
	int32_t slot = fdb_slot_locked(fdb, key);
	enum fdb_counter why;

	if (slot >= 0)
		return relearn_locked(fdb, &fdb->entry[slot], port, now);
	why = room(fdb, port, true);
	if (why != NOTHING)
		return why;
	slot = fdb_insert_locked(fdb, key, fdb->current[port], now);
	if (slot < 0)
		return FDB_FULL;
	count_learnt_locked(fdb, port);
	fdb_count_locked(fdb, FDB_LEARNT, 1);
	hint_set(cache, fdb_mix(fdb, key), slot);
	return NOTHING;
}

static bool lock_bounded(struct fdb *fdb)
{
	for (unsigned int i = 0; i < LOCK_TRIES; i++) {
		if (rte_spinlock_trylock(&fdb->lock))
			return true;
		rte_pause();
	}
	return false;
}

/* One address that is not where `port` would have it. What cannot be learnt anyway is
 * refused before the lock, so that a flood stays on its own lcore. */
static enum fdb_counter learn_one(struct fdb *fdb, struct fdb_cache *cache, uint16_t port,
	uint64_t key, const struct fdb_entry *known, uint32_t now)
{
	enum fdb_counter why;

	if (known != fdb_nowhere(fdb) && (load(&known->where) & WHERE_STATIC))
		return FDB_HELD;
	why = room(fdb, port, known == fdb_nowhere(fdb));
	if (why != NOTHING)
		return why;
	if (!lock_bounded(fdb))
		return FDB_BUSY;
	why = learn_locked(fdb, cache, port, key, now);
	rte_spinlock_unlock(&fdb->lock);
	return why;
}

static void count_refused(struct fdb *fdb, uint16_t port, const uint8_t *n)
{
	static const enum fdb_counter shared[] = {FDB_FULL, FDB_BUSY, FDB_HELD};

	if (n[FDB_LIMIT] != 0)
		__atomic_fetch_add(&fdb->port[port].refused, n[FDB_LIMIT], __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < RTE_DIM(shared); i++)
		if (n[shared[i]] != 0)
			__atomic_fetch_add(
				&fdb->counter[shared[i]], n[shared[i]], __ATOMIC_RELAXED);
}

/* The packets of a burst that are not just a refresh; returns those of no station. */
static uint64_t learn_odd(struct fdb *fdb, struct fdb_cache *cache, uint16_t port,
	const uint64_t *src, struct fdb_entry *const *found, uint64_t odd, uint32_t now)
{
	uint8_t refused[FDB_COUNTER_COUNT + 1] = {0};
	uint64_t invalid = 0;

	for (; odd != 0; odd &= odd - 1) {
		unsigned int i = __builtin_ctzll(odd);

		if (!fdb_key_is_station(src[i]))
			invalid |= UINT64_C(1) << i;
		else if (i > 0 && src[i] == src[i - 1])
			continue; /* just tried */
		else if (refused[FDB_BUSY] != 0)
			refused[FDB_BUSY]++; /* do not wait once per packet */
		else
			refused[learn_one(fdb, cache, port, src[i], found[i], now)]++;
	}
	count_refused(fdb, port, refused);
	return invalid;
}

uint64_t fdb_learn(struct fdb *fdb, struct fdb_cache *cache, uint16_t port, const uint64_t *src,
	unsigned int n, uint32_t now)
{
	uint32_t learnt = load(&fdb->current[port]), fixed = WHERE_STATIC | port;
	struct fdb_entry *found[FDB_BURST];
	uint64_t odd = 0;

	find(fdb, cache, src, n, found);
	for (unsigned int i = 0; i < n; i++) {
		uint32_t where = load(&found[i]->where);

		if (likely(where == learnt || where == fixed))
			touch(found[i], now);
		else
			odd |= UINT64_C(1) << i;
	}
	return likely(odd == 0) ? 0 : learn_odd(fdb, cache, port, src, found, odd, now);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of the forwarding database: made, freed, entries put in and taken out. */
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

#include <rte_malloc.h>

#include "fdb_table.h"

/* Slots taken from the defer queue at once: bounds what one learner does for the others. */
#define RECLAIM 32

int32_t fdb_slot_locked(const struct fdb *fdb, uint64_t key)
{
	return rte_hash_lookup_with_hash(fdb->hash, &key, fdb_mix_sig(fdb_mix(fdb, key)));
}

int32_t fdb_insert_locked(struct fdb *fdb, uint64_t key, uint32_t where, uint32_t stamp)
{
	hash_sig_t sig = fdb_mix_sig(fdb_mix(fdb, key));
	int32_t slot;

	if (fdb->used >= fdb->entries)
		return -ENOSPC;
	slot = rte_hash_add_key_with_hash(fdb->hash, &key, sig);
	if (slot < 0)
		return -ENOSPC;

	struct fdb_entry *e = &fdb->entry[slot];

	store(&e->where, where);
	store(&e->stamp, stamp);
	__atomic_store_n(&e->key, key, __ATOMIC_RELEASE); /* A */
	store(&fdb->used, fdb->used + 1);
	return slot;
}

void fdb_uncount_locked(struct fdb *fdb, uint32_t where)
{
	uint32_t *port_learnt;

	if (where & WHERE_STATIC) {
		store(&fdb->statics, fdb->statics - 1);
	} else if (fdb_is_valid(fdb, where)) {
		port_learnt = &fdb->port[(uint16_t)where].learnt;
		store(port_learnt, *port_learnt - 1);
		store(&fdb->learnt, fdb->learnt - 1);
	}
}

void fdb_remove_locked(struct fdb *fdb, struct fdb_entry *e)
{
	uint64_t key = e->key;
	int32_t slot;

	fdb_uncount_locked(fdb, e->where);
	store(&fdb->used, fdb->used - 1);
	store(&e->key, 0);
	slot = rte_hash_del_key_with_hash(fdb->hash, &key, fdb_mix_sig(fdb_mix(fdb, key)));
	if (!fdb->rcu)
		rte_hash_free_key_with_position(fdb->hash, slot);
}

/* ---- making and freeing ---- */

static int keys_differ(const void *a, const void *b, size_t len)
{
	return *(const uint64_t *)a != *(const uint64_t *)b;
}

/* A quarter more slots than addresses: cuckoo insertion stays short, and slots waiting
 * for their grace period do not make the table look full. */
static int hash_create(struct fdb *fdb, const struct fdb_conf *conf)
{
	static uint32_t serial;
	struct rte_hash_rcu_config rcu = {.v = conf->rcu, .max_reclaim_size = RECLAIM};
	struct rte_hash_parameters params = {
		.entries = fdb->entries + fdb->entries / 4,
		.key_len = sizeof(uint64_t),
		.hash_func = rte_hash_crc,
		.socket_id = conf->socket,
		.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF,
	};
	char name[RTE_HASH_NAMESIZE];

	snprintf(name, sizeof(name), "fdb%u", __atomic_fetch_add(&serial, 1, __ATOMIC_RELAXED));
	params.name = name;
	fdb->hash = rte_hash_create(&params);
	if (fdb->hash == NULL)
		return -ENOMEM;
	rte_hash_set_cmp_func(fdb->hash, keys_differ);
	fdb->rcu = conf->rcu != NULL;
	if (fdb->rcu && rte_hash_rcu_qsbr_add(fdb->hash, &rcu) != 0)
		return -ENOMEM;
	fdb->slots = rte_hash_max_key_id(fdb->hash) + 1;
	return 0;
}

static int arrays_create(struct fdb *fdb, int socket)
{
	fdb->entry = rte_zmalloc_socket(
		"fdb", (fdb->slots + 1) * sizeof(*fdb->entry), RTE_CACHE_LINE_SIZE, socket);
	fdb->port = rte_zmalloc_socket(
		"fdb", fdb->ports * sizeof(*fdb->port), RTE_CACHE_LINE_SIZE, socket);
	fdb->current = rte_zmalloc_socket(
		"fdb", fdb->ports * sizeof(*fdb->current), RTE_CACHE_LINE_SIZE, socket);
	if (fdb->entry == NULL || fdb->port == NULL || fdb->current == NULL)
		return -ENOMEM;
	fdb_nowhere(fdb)->where = WHERE_NONE;
	for (uint16_t port = 0; port < fdb->ports; port++) {
		fdb->current[port] = port;
		fdb->port[port].limit = FDB_PORT_LIMIT;
	}
	return 0;
}

static int fdb_init(struct fdb *fdb, const struct fdb_conf *conf)
{
	int ret;

	fdb->entries = conf->entries != 0 ? conf->entries : FDB_ENTRIES;
	fdb->reserve = fdb->entries / 8;
	fdb->ports = conf->ports;
	fdb->max_age = FDB_MAX_AGE;
	rte_spinlock_init(&fdb->lock);
	if (getrandom(fdb->secret, sizeof(fdb->secret), 0) != sizeof(fdb->secret))
		return -errno;
	fdb->secret[1] |= 1;
	ret = hash_create(fdb, conf);
	return ret != 0 ? ret : arrays_create(fdb, conf->socket);
}

int fdb_create(const struct fdb_conf *conf, struct fdb **out)
{
	struct fdb *fdb;
	int ret;

	if (conf->ports == 0 || (conf->entries != 0 && conf->entries < FDB_ENTRIES_MIN) ||
		conf->entries > FDB_ENTRIES_MAX)
		return -EINVAL;
	fdb = rte_zmalloc_socket("fdb", sizeof(*fdb), RTE_CACHE_LINE_SIZE, conf->socket);
	if (fdb == NULL)
		return -ENOMEM;
	ret = fdb_init(fdb, conf);
	if (ret != 0) {
		fdb_destroy(fdb);
		return ret;
	}
	*out = fdb;
	return 0;
}

void fdb_destroy(struct fdb *fdb)
{
	if (fdb == NULL)
		return;
	rte_hash_free(fdb->hash);
	rte_free(fdb->entry);
	rte_free(fdb->port);
	rte_free(fdb->current);
	rte_free(fdb);
}

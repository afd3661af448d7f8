/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of ports, and what both kinds have in common. */
#include "port.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

#include "command.h"
#include "fdb.h"
#include "sluice.h"

/* ---- finding ---- */

struct port *port_by_id(const struct sluice *sl, unsigned id)
{
	return id < PORT_MAX ? sl->ports[id] : NULL;
}

struct port *port_next(const struct sluice *sl, const struct port *prev)
{
	for (unsigned id = prev ? prev->id + 1u : 0; id < sl->n_ports; id++)
		if (sl->ports[id])
			return sl->ports[id];
	return NULL;
}

static struct port *port_by_name(const struct sluice *sl, const char *name)
{
	struct port *port;

	PORT_FOREACH(sl, port)
	if (strcmp(port->name, name) == 0)
		return port;
	return NULL;
}

struct port *port_find(const struct sluice *sl, const char *name_or_id)
{
	struct port *port = port_by_name(sl, name_or_id);
	unsigned long id;
	char *end;

	if (port || !isdigit((unsigned char)*name_or_id))
		return port;
	id = strtoul(name_or_id, &end, 10);
	return *end || id >= PORT_MAX ? NULL : sl->ports[id];
}

/* ---- a new one ---- */

static bool name_is_valid(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len >= PORT_NAME_MAX || !isalpha((unsigned char)name[0]))
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
	       len;
}

int port_check_name(const struct sluice *sl, const char *name, char *why, size_t why_len)
{
	if (!name_is_valid(name)) {
		snprintf(why, why_len,
			"'%s' cannot name a port: use up to %d letters, digits, '.', '_' or '-', "
			"a letter first",
			name, PORT_NAME_MAX - 1);
		return -EINVAL;
	}
	if (port_by_name(sl, name)) {
		snprintf(why, why_len,
			"there is a port '%s' already: choose another name or `port del %s` first",
			name, name);
		return -EEXIST;
	}
	return 0;
}

static bool is_leaving(const struct sluice *sl, int id)
{
	for (const struct port *port = sl->leaving; port; port = port->next_leaving)
		if (port->id == id)
			return true;
	return false;
}

static int free_number(const struct sluice *sl)
{
	if (sl->handover.number >= 0)
		return port_by_id(sl, (unsigned)sl->handover.number) ? -1 : sl->handover.number;
	for (int id = 0; id < PORT_MAX; id++)
		if (!sl->ports[id] && !is_leaving(sl, id))
			return id;
	return -1;
}

/* Locally administered, and telling which port it is. */
static void make_mac(struct rte_ether_addr *mac, uint8_t first, uint16_t id)
{
	*mac = (struct rte_ether_addr){{first, 0, 0, 0, (uint8_t)(id >> 8), (uint8_t)id}};
}

void port_default_peer(const struct port *port, struct rte_ether_addr *mac)
{
	make_mac(mac, 0x02, port->id);
}

static int alloc_queues(struct port *port)
{
	size_t rx = port->n_rxq * sizeof(*port->rxq), tx = port->n_txq * sizeof(*port->txq);

	port->rxq = aligned_alloc(RTE_CACHE_LINE_SIZE, rx);
	port->txq = aligned_alloc(RTE_CACHE_LINE_SIZE, tx);
	if (!port->rxq || !port->txq)
		return -ENOMEM;
	memset(port->rxq, 0, rx);
	memset(port->txq, 0, tx);
	for (unsigned i = 0; i < port->n_rxq; i++)
		port->rxq[i].worker = port->rxq[i].pin = port->rxq[i].polled_by = -1;
	for (unsigned i = 0; i < port->n_txq; i++)
		rte_spinlock_init(&port->txq[i].lock);
	return 0;
}

/* What workers counted for the last port of this number is history. */
static void forget_drops(struct sluice *sl, uint16_t id)
{
	for (unsigned i = 0; i < sl->n_workers; i++)
		memset(&sl->workers[i]->ports[id], 0, sizeof(sl->workers[i]->ports[id]));
}

int port_new(struct sluice *sl, const char *name, enum port_kind kind, uint16_t n_rxq,
	uint16_t n_txq, struct port **out, char *why, size_t why_len)
{
	int err = port_check_name(sl, name, why, why_len);
	int id = free_number(sl);
	struct port *port;

	if (err < 0)
		return err;
	if (id < 0) {
		snprintf(why, why_len, "there are %d ports already: delete one first", PORT_MAX);
		return -ENOSPC;
	}
	port = calloc(1, sizeof(*port));
	if (!port)
		goto no_memory;
	port->sl = sl;
	port->id = (uint16_t)id;
	snprintf(port->name, sizeof(port->name), "%s", name);
	port->kind = kind;
	port->node = -1;
	port->n_rxq = n_rxq;
	port->n_txq = n_txq;
	make_mac(&port->mac, 0x56, port->id);
	port_default_peer(port, &port->peer);
	if (alloc_queues(port) < 0)
		goto no_memory;
	forget_drops(sl, port->id);
	*out = port;
	return 0;

no_memory:
	port_free(port);
	snprintf(why, why_len, "not enough memory for port '%s'", name);
	return -ENOMEM;
}

void port_free(struct port *port)
{
	if (!port)
		return;
	free(port->rxq);
	free(port->txq);
	free(port);
}

void port_enter(struct port *port)
{
	struct sluice *sl = port->sl;

	sl->ports[port->id] = port;
	sl->n_ports = RTE_MAX(sl->n_ports, port->id + 1u);
	if (plan_update(sl) < 0)
		plan_dirty(sl); /* tried again by the tick */
}

/* ---- gone ---- */

static void table_remove(struct sluice *sl, uint16_t id)
{
	sl->ports[id] = NULL;
	while (sl->n_ports > 0 && !sl->ports[sl->n_ports - 1])
		sl->n_ports--;
}

static void portlist_remove(struct sluice *sl, uint16_t id)
{
	uint16_t n = 0;

	for (unsigned i = 0; i < sl->n_portlist; i++)
		if (sl->portlist[i] != id)
			sl->portlist[n++] = sl->portlist[i];
	sl->n_portlist = n;
}

static void leave(struct port *port)
{
	struct sluice *sl = port->sl;

	fdb_flush_port(sl->fdb, port->id, true);
	fdb_set_limit(sl->fdb, port->id, FDB_PORT_LIMIT);
	if (port->kind == PORT_VM)
		port_vm_close(port);
	else
		port_dev_close(port);
	port_free(port);
}

void ports_left(struct sluice *sl)
{
	struct port *port;

	while ((port = sl->leaving) != NULL) {
		sl->leaving = port->next_leaving;
		leave(port);
	}
}

static void abandon(const struct port *port)
{
	if (port->kind == PORT_VM)
		vu_device_abandon(port->vm.dev);
}

void ports_abandon(const struct sluice *sl)
{
	const struct port *port;

	PORT_FOREACH(sl, port)
	abandon(port);
	for (port = sl->leaving; port; port = port->next_leaving)
		abandon(port);
}

int port_del(struct port *port)
{
	struct sluice *sl = port->sl;
	struct port *cross = port->cross;

	table_remove(sl, port->id);
	if (cross)
		cross->cross = NULL;
	if (plan_update(sl) < 0) {
		port_enter(port);
		if (cross)
			cross->cross = port;
		return -ENOMEM;
	}
	portlist_remove(sl, port->id);
	if (!plan_settled(sl)) {
		port->next_leaving = sl->leaving;
		sl->leaving = port;
		return -ETIMEDOUT;
	}
	leave(port);
	return 0;
}

/* ---- counters ---- */

static void add_workers(const struct port *port, struct port_counters *c)
{
	const struct sluice *sl = port->sl;

	for (unsigned i = 0; i < sl->n_workers; i++) {
		const struct worker_port *at = &sl->workers[i]->ports[port->id];

		for (unsigned d = 0; d < SWITCH_DROP_COUNT; d++)
			c->drops[d] += virtq_load(&at->drops[d]);
		c->left_out += virtq_load(&at->left_out);
	}
}

/* What no other place subtracts an earlier reading from; a VM's rings do so themselves. */
static void absolute_counters(const struct port *port, struct port_counters *c)
{
	memset(c, 0, sizeof(*c));
	if (port->kind == PORT_DEV)
		port_dev_counters(port, c);
	add_workers(port, c);
}

/* a -= b, for structs of nothing but uint64_t. */
static void subtract(void *a, const void *b, size_t size)
{
	for (size_t i = 0; i < size / sizeof(uint64_t); i++)
		((uint64_t *)a)[i] -= ((const uint64_t *)b)[i];
}

/* The same for a copy of counters that a worker goes on writing. */
static void read_counters(void *to, const void *from, size_t size)
{
	for (size_t i = 0; i < size / sizeof(uint64_t); i++)
		((uint64_t *)to)[i] = virtq_load((const uint64_t *)from + i);
}

void port_counters_get(const struct port *port, struct port_counters *out)
{
	absolute_counters(port, out);
	subtract(out, &port->base, sizeof(*out));
	if (port->kind == PORT_VM)
		port_vm_counters(port, out);
}

void port_counters_clear(struct port *port)
{
	absolute_counters(port, &port->base);
	for (unsigned i = 0; i < port->n_rxq && port->kind == PORT_VM; i++) {
		struct port_rxq *rx = &port->rxq[i];
		struct port_txq *tx = &port->txq[i];

		read_counters(&rx->ring_base, &rx->vq->stats, sizeof(rx->ring_base));
		read_counters(&tx->ring_base, &tx->vq->stats, sizeof(tx->ring_base));
	}
}

void port_ring_stats(const struct port *port, unsigned queue, bool tx, struct virtq_stats *out)
{
	const struct port_rxq *rxq = &port->rxq[queue];
	const struct port_txq *txq = &port->txq[queue];

	read_counters(out, tx ? &txq->vq->stats : &rxq->vq->stats, sizeof(*out));
	subtract(out, tx ? &txq->ring_base : &rxq->ring_base, sizeof(*out));
}

void port_stream_stats(const struct port *port, unsigned queue, struct stream_stats *out)
{
	const struct port_rxq *q = &port->rxq[queue];

	read_counters(out, &q->stats, sizeof(*out));
	subtract(out, &q->base, sizeof(*out));
}

void port_stream_stats_clear(struct port *port)
{
	for (unsigned i = 0; i < port->n_rxq; i++)
		read_counters(&port->rxq[i].base, &port->rxq[i].stats, sizeof(port->rxq[i].base));
}

/* ---- both kinds ---- */

void port_refresh(struct port *port)
{
	if (port->kind == PORT_VM)
		port_vm_refresh(port);
	else
		port_dev_refresh(port);
}

void port_set_up(struct port *port, bool up)
{
	if (port->up == up)
		return;
	port->up = up;
	port->forget |= !up;
	plan_dirty(port->sl);
}

static void save_access(const struct usock_access *access, FILE *f)
{
	if (access->uid != (uid_t)-1)
		fprintf(f, " owner %u", access->uid);
	if (access->gid != (gid_t)-1)
		fprintf(f, " group %u", access->gid);
	if (access->mode)
		fprintf(f, " mode 0%o", access->mode);
}

static void save(const struct port *port, bool whole, FILE *f)
{
	fprintf(f, "port add %s ", port->name);
	if (port->kind == PORT_VM) {
		fputs(port->vm.listen ? "listen " : "connect ", f);
		cmd_put_word(f, port->vm.path);
		fprintf(f, " queues %u", port->n_rxq);
		if (port->vm.options.has_mac)
			fprintf(f, " mac " RTE_ETHER_ADDR_PRT_FMT,
				RTE_ETHER_ADDR_BYTES(&port->vm.options.mac));
		save_access(&port->vm.options.access, f);
		fputs(port->vm.options.postcopy ? " postcopy" : "", f);
		fputs(port->vm.options.iommu ? " iommu" : "", f);
		fputs(port->vm.options.copy ? " copy\n" : "\n", f);
	} else {
		fputs("dev ", f);
		if (whole)
			port_dev_devargs(port, f);
		else
			cmd_put_word(f, port->dev.devargs);
		fprintf(f, " queues %u\n", port->n_rxq);
	}
}

void port_save(const struct port *port, FILE *f)
{
	save(port, false, f);
}

void port_save_whole(const struct port *port, FILE *f)
{
	save(port, true, f);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Building a plan and putting it in force. */
#include "plan.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include <event2/event.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>

#include "placement.h"
#include "relay.h"
#include "sleep.h"
#include "sluice.h"

/* ---- who sends to whom ---- */

unsigned plan_port_list(const struct sluice *sl, struct port *list[static PORT_MAX])
{
	struct port *port;
	unsigned n = 0;

	if (!sl->has_portlist) {
		PORT_FOREACH(sl, port)
		list[n++] = port;
		return n;
	}
	for (unsigned i = 0; i < sl->n_portlist; i++) {
		port = port_by_id(sl, sl->portlist[i]);
		if (port)
			list[n++] = port;
	}
	return n;
}

/* testpmd's topologies; the odd one out of a paired list pairs with itself. */
static unsigned topology_peer(enum topology topology, unsigned i, unsigned n)
{
	switch (topology) {
	case TOPOLOGY_PAIRED:
		return (i ^ 1) < n ? i ^ 1 : i;
	case TOPOLOGY_CHAINED:
		return (i + 1) % n;
	case TOPOLOGY_LOOP:
		break;
	}
	return i;
}

struct port *plan_topology_peer(const struct sluice *sl, const struct port *port)
{
	struct port *list[PORT_MAX];
	unsigned n = plan_port_list(sl, list);

	for (unsigned i = 0; i < n; i++)
		if (list[i] == port)
			return list[topology_peer(sl->topology, i, n)];
	return NULL;
}

struct port *plan_peer(const struct sluice *sl, const struct port *port)
{
	switch (sl->engine->peer) {
	case ENGINE_PEER_TOPOLOGY:
		return plan_topology_peer(sl, port);
	case ENGINE_PEER_SELF:
		return sl->ports[port->id];
	case ENGINE_PEER_CROSS:
		return port->cross;
	case ENGINE_PEER_NONE:
		break;
	}
	return NULL;
}

/* ---- the parts of a plan ---- */

static bool in_port_list(const struct sluice *sl, uint16_t id)
{
	for (unsigned i = 0; i < sl->n_portlist; i++)
		if (sl->portlist[i] == id)
			return true;
	return !sl->has_portlist;
}

/* `set portlist` is testpmd's and narrows its engines; bridge and cross-connect have their
 * own idea of who takes part. */
bool plan_forwards(const struct sluice *sl, const struct port *port)
{
	bool listed = sl->engine != &engine_bridge && sl->engine->peer != ENGINE_PEER_CROSS;

	return !listed || in_port_list(sl, port->id);
}

/* The k-th usable transmit queue, counted round and round. -1: none is. */
static int usable_txq(const struct port *port, unsigned k)
{
	unsigned usable = 0;

	for (unsigned i = 0; i < port->n_txq; i++)
		usable += port->txq[i].usable;
	if (usable == 0)
		return -1;
	k %= usable;
	for (unsigned i = 0; i < port->n_txq; i++)
		if (port->txq[i].usable && k-- == 0)
			return (int)i;
	return -1;
}

/* Lent packets with any of these flags are copied for a port: it cannot send them so, or nobody would wait for it. */
static uint64_t copied_for(const struct port *to)
{
	if (to->kind == PORT_VM) /* one whose pages are on their way */
		return to->vm.relay ? VNET_LENT_FLAGS : 0;
	if (to->dev.reach == VNET_REACH_NONE)
		return VNET_LENT_FLAGS;
	return to->dev.reach == VNET_REACH_MAPPED
		       ? VNET_MBUF_F_LENT_UNMAPPED | VNET_MBUF_F_LENT_ORDERED
		       : 0;
}

static void vm_outlet(const struct port *port, unsigned k, struct outlet *out)
{
	int queue = usable_txq(port, k);

	out->up = queue >= 0;
	out->queue = (uint16_t)(queue < 0 ? 0 : queue);
	out->vq = port->txq[out->queue].vq;
	if (port->vm.relay) {
		out->kind = PORT_RELAY;
		out->relay = relay_to_guest(port->vm.relay, out->queue);
	}
	out->copy = copied_for(port);
	/* It copies chains; and a ring that is down counts, whatever it is given. */
	out->offloads = port->tx_offloads | RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	out->soften = out->up ? vnet_soft_mask(out->offloads) : 0;
	/* virtio 1.2, 5.1.4.1: nothing longer for a driver that was told an MTU. */
	out->limits = (struct outlet_limits){
		0, port->vm.mtu ? frame_of(port->vm.mtu) : UINT32_MAX, UINT16_MAX, UINT16_MAX};
}

static void dev_outlet(const struct port *port, unsigned k, struct outlet *out)
{
	out->up = port->up;
	out->eth = port->dev.eth;
	out->queue = (uint16_t)(k % port->n_txq);
	out->offloads = port->tx_offloads;
	out->soften = vnet_soft_mask(out->offloads);
	out->copy = copied_for(port);
	out->reclaim = port->dev.reach == VNET_REACH_MAPPED;
	out->limits = port->dev.limits;
}

/* Where worker `index` sends to a port; `k` chooses among its queues if it has to share. */
static struct outlet make_outlet(const struct port *port, unsigned index, unsigned k)
{
	const struct sluice *sl = port->sl;
	bool own = port->kind == PORT_DEV && port->n_txq >= sl->n_workers;
	struct outlet out = {.kind = port->kind, .port = port->id};

	if (port->kind == PORT_VM)
		vm_outlet(port, k, &out);
	else if (port->dev.left_out)
		out.kind = PORT_NONE;
	else
		dev_outlet(port, own ? index : k, &out);
	if (sl->n_workers > 1 && !own)
		out.lock = &port->txq[out.queue].lock;
	return out;
}

static struct stream make_stream(struct port *port, unsigned queue, const struct port *peer)
{
	struct port_rxq *q = &port->rxq[queue];
	struct stream st = {
		.rx = {.kind = port->kind, .queue = (uint16_t)queue, .vq = q->vq},
		.port = port->id,
		.q = q,
	};

	if (port->kind == PORT_DEV)
		st.rx.eth = port->dev.eth;
	if (port->kind == PORT_VM && port->vm.relay) {
		st.rx.kind = PORT_RELAY;
		st.rx.relay = relay_from_guest(port->vm.relay, queue);
	}
	if (peer) {
		st.has_peer = true;
		st.tx = make_outlet(peer, (unsigned)q->worker, queue);
		st.direct = st.rx.kind == PORT_VM && st.tx.kind == PORT_VM && st.tx.up;
		st.src = peer->mac;
		st.dst = peer->peer;
		st.csum_hw = peer->csum_hw;
	}
	return st;
}

struct stream plan_stream(struct port *port, unsigned queue)
{
	return make_stream(port, queue, plan_peer(port->sl, port));
}

/* ---- a whole plan ---- */

/* A plan and all older ones. */
static void plan_free(struct plan *plan)
{
	struct plan *older;

	for (; plan; plan = older) {
		older = plan->older;
		for (unsigned i = 0; i < plan->n_workers; i++) {
			free(plan->workers[i].streams);
			free(plan->workers[i].outlets);
			free(plan->workers[i].fds);
		}
		free(plan->flood);
		free(plan);
	}
}

static struct plan *plan_new(const struct sluice *sl)
{
	struct plan *plan = calloc(1, sizeof(*plan) + sl->n_workers * sizeof(plan->workers[0]));

	if (!plan)
		return NULL;
	plan->engine = sl->engine;
	plan->conf = sl->conf;
	plan->fdb = sl->fdb;
	plan->n_ports = sl->n_ports;
	plan->n_workers = sl->n_workers;
	plan->flood = calloc(sl->n_ports + 1u, sizeof(*plan->flood));
	for (unsigned i = 0; i < plan->n_workers; i++) {
		struct plan_worker *work = &plan->workers[i];

		work->outlets = calloc(sl->n_ports + 1u, sizeof(*work->outlets));
		if (!work->outlets || !plan->flood) {
			plan_free(plan);
			return NULL;
		}
	}
	return plan;
}

/* A device's link state is only a hint: a TAP in another namespace seems down and works. */
static bool floods_to(const struct outlet *out)
{
	return out->kind == PORT_DEV || out->up;
}

static void fill_outlets(struct plan *plan, const struct sluice *sl)
{
	for (uint16_t id = 0; id < sl->n_ports; id++) {
		const struct port *port = sl->ports[id];

		for (unsigned i = 0; i < plan->n_workers; i++) {
			struct outlet *out = &plan->workers[i].outlets[id];

			out->port = id;
			if (port)
				*out = make_outlet(port, i, i);
		}
		if (port && floods_to(&plan->workers[0].outlets[id]))
			plan->flood[plan->n_flood++] = id;
	}
}

static bool moves(const struct port_rxq *q)
{
	return q->polled_by >= 0 && q->polled_by != q->worker;
}

static int add_stream(struct plan_worker *work, struct stream st)
{
	/* Grown by doubling: full at every power of two. */
	if ((work->n_streams & (work->n_streams - 1)) == 0) {
		size_t room = work->n_streams ? 2u * work->n_streams : 1;
		struct stream *more = realloc(work->streams, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		work->streams = more;
	}
	work->streams[work->n_streams++] = st;
	return 0;
}

/* But for the queues that are on their way from one worker to another. */
static int fill_port(struct plan *plan, struct port *port, const struct port *peer)
{
	int err = 0;

	for (unsigned i = 0; i < port->n_rxq; i++) {
		const struct port_rxq *q = &port->rxq[i];

		if (q->worker < 0)
			continue;
		if (moves(q))
			plan->partial = true;
		else
			err |= add_stream(&plan->workers[q->worker], make_stream(port, i, peer));
	}
	return err;
}

/* The port list is made once, not for every stream. */
static int fill_paired(struct plan *plan, const struct sluice *sl)
{
	struct port *list[PORT_MAX];
	unsigned n = plan_port_list(sl, list);
	int err = 0;

	for (unsigned i = 0; i < n; i++)
		err |= fill_port(plan, list[i], list[topology_peer(sl->topology, i, n)]);
	return err;
}

static int fill_streams(struct plan *plan, const struct sluice *sl)
{
	struct port *port;
	int err = 0;

	if (sl->engine->peer == ENGINE_PEER_TOPOLOGY)
		return fill_paired(plan, sl);
	PORT_FOREACH(sl, port)
	if (plan_forwards(sl, port))
		err |= fill_port(plan, port, plan_peer(sl, port));
	return err;
}

static int fill_sleep(struct plan *plan, const struct sluice *sl)
{
	int err = 0;

	for (unsigned i = 0; i < plan->n_workers; i++)
		err |= plan_worker_sleep(&plan->workers[i], sl->workers[i]);
	return err;
}

static struct plan *plan_build(const struct sluice *sl)
{
	struct plan *plan = plan_new(sl);

	if (!plan)
		return NULL;
	fill_outlets(plan, sl);
	if ((sl->forwarding && fill_streams(plan, sl) < 0) || fill_sleep(plan, sl) < 0) {
		plan_free(plan);
		return NULL;
	}
	return plan;
}

/* ---- in force ---- */

/* How long a worker is waited for. */
#define PATIENCE_MS 1000

/* How often to look again, without anybody waiting. */
#define LOOK_MS 10

/* A queue belongs to the worker of the newest plan that has it. */
static void note_pollers(const struct plan *plan)
{
	for (unsigned i = 0; i < plan->n_workers; i++)
		for (unsigned s = 0; s < plan->workers[i].n_streams; s++)
			plan->workers[i].streams[s].q->polled_by = (int16_t)i;
}

static void note_relays(struct sluice *sl)
{
	struct port *port;

	PORT_FOREACH(sl, port)
	if (port->kind == PORT_VM)
		port_vm_relay_planned(port);
}

static void look_again(struct sluice *sl)
{
	const struct timeval soon = {.tv_usec = LOOK_MS * 1000};

	event_add(sl->plan_timer, &soon);
}

/* From which length on packets of a port, with these flags, are lent: whether they may leave by a device
 * decides. What is copied for the only one who gets it is not lent first. */
static uint32_t lend_least(const struct sluice *sl, const struct port *port, uint64_t lent)
{
	const struct port *peer = plan_peer(sl, port), *to;

	if (peer && (copied_for(peer) & lent))
		return VNET_LEND_NOTHING;
	if (peer)
		return peer->kind == PORT_DEV ? VNET_LEND_MIN : VNET_LEND_MIN_TO_GUEST;
	PORT_FOREACH(sl, to)
	if (to->kind == PORT_DEV && !(copied_for(to) & lent))
		return VNET_LEND_MIN;
	return VNET_LEND_MIN_TO_GUEST;
}

static void note_lending(const struct sluice *sl)
{
	struct port *port;

	PORT_FOREACH(sl, port)
	{
		for (unsigned i = 0; port->kind == PORT_VM && i < port->n_rxq; i++) {
			struct vnet_lender *l = port->rxq[i].lender;

			if (l)
				vnet_lender_least(l, lend_least(sl, port, vnet_lender_flags(l)));
		}
	}
}

static int publish(struct sluice *sl)
{
	struct plan *plan = plan_build(sl);

	if (!plan) {
		SL_LOG(ERR, "not enough memory for a new plan: the change waits");
		return -ENOMEM;
	}
	if (plan_settled(sl))
		sl->plan_since = rte_get_timer_cycles();
	plan->older = sl->plan;
	virtq_store_release(&sl->plan, plan);
	plan->token = rte_rcu_qsbr_start(sl->rcu);
	workers_ring(sl);
	note_relays(sl);
	note_pollers(plan);
	note_lending(sl);
	sl->plan_is_dirty = false;
	return 0;
}

/* The workers follow: nobody holds packets of a port that went down any more, so what it
 * had taught us can be forgotten without being learnt again. */
static void settle(struct sluice *sl)
{
	struct port *port;

	plan_free(sl->plan->older);
	sl->plan->older = NULL;
	PORT_FOREACH(sl, port)
	{
		for (unsigned i = 0; i < port->n_rxq; i++)
			port->rxq[i].polled_by = -1;
		if (port->forget) {
			port->forget = false;
			fdb_flush_port(sl->fdb, port->id, false);
		}
		if (port->kind == PORT_VM)
			port_vm_relay_settled(port);
	}
	note_pollers(sl->plan);
	ports_left(sl);
	if (sl->plan_late)
		SL_LOG(INFO, "all workers have come round again");
	sl->plan_late = false;
}

bool plan_settled(const struct sluice *sl)
{
	return !sl->plan || !sl->plan->older;
}

bool plan_advance(struct sluice *sl)
{
	if (plan_settled(sl))
		return true;
	if (!rte_rcu_qsbr_check(sl->rcu, sl->plan->token, false))
		return false;
	settle(sl);
	if (!sl->plan->partial)
		return true;
	sl->plan_is_dirty = publish(sl) < 0; /* then the tick tries again */
	return sl->plan_is_dirty;
}

static bool is_late(const struct sluice *sl)
{
	return rte_get_timer_cycles() - sl->plan_since > rte_get_timer_hz() / 1000 * PATIENCE_MS;
}

static bool is_behind(const struct sluice *sl, unsigned worker)
{
	return virtq_load(&sl->rcu->qsbr_cnt[worker].cnt) < sl->plan->token;
}

static void warn_late(struct sluice *sl)
{
	if (sl->plan_late)
		return;
	sl->plan_late = true;
	for (unsigned i = 0; i < sl->n_workers; i++) {
		sl->workers[i]->late = is_behind(sl, i);
		if (sl->workers[i]->late)
			SL_LOG(WARNING,
				"the worker on lcore %u has not come round for a second: is its "
				"core "
				"taken, or its thread stopped?",
				sl->workers[i]->lcore);
	}
}

bool plan_is_waiting(const struct sluice *sl, const struct worker *w)
{
	return sl->plan_late && w->late && is_behind(sl, w->index);
}

static void plan_look(int fd, short what, void *arg)
{
	struct sluice *sl = arg;

	if (plan_advance(sl))
		return;
	if (is_late(sl))
		warn_late(sl);
	look_again(sl);
}

int plan_update(struct sluice *sl)
{
	placement_assign(sl);
	if (publish(sl) < 0)
		return -ENOMEM;
	while (!plan_advance(sl)) {
		if (is_late(sl)) {
			warn_late(sl);
			look_again(sl);
			break;
		}
		sched_yield();
	}
	return 0;
}

static void plan_event(int fd, short what, void *arg)
{
	struct sluice *sl = arg;

	placement_assign(sl);
	if (publish(sl) == 0)
		plan_look(fd, what, sl);
}

void plan_dirty(struct sluice *sl)
{
	if (!sl->plan_is_dirty)
		event_active(sl->plan_event, 0, 0);
	sl->plan_is_dirty = true;
}

void plan_retry(struct sluice *sl)
{
	if (sl->plan_is_dirty)
		event_active(sl->plan_event, 0, 0);
}

int plan_init(struct sluice *sl)
{
	sl->plan_event = event_new(sl->base, -1, 0, plan_event, sl);
	sl->plan_timer = event_new(sl->base, -1, 0, plan_look, sl);
	return sl->plan_event && sl->plan_timer ? plan_update(sl) : -ENOMEM;
}

void plan_fini(struct sluice *sl)
{
	if (sl->plan_event)
		event_free(sl->plan_event);
	if (sl->plan_timer)
		event_free(sl->plan_timer);
	sl->plan_event = sl->plan_timer = NULL;
	ports_left(sl);
	plan_free(sl->plan);
	sl->plan = NULL;
}

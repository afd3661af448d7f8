/* SPDX-License-Identifier: BSD-3-Clause */
/* Workers that sleep when there is nothing to do. */
#include "sleep.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>

#include "sluice.h"
#include "vu.h"

/*
 * Theory of operation
 *
 * A worker whose queues have all been empty for `set sleep` microseconds asks every guest to kick
 * and every device to interrupt, looks once more, and sleeps in ppoll(2) for
 *
 *   its doorbell		the control thread has a new plan for it, or wants it to end
 *   the bells of its rings	a guest has kicked
 *   its devices' interrupts	collected in an epoll instance of DPDK's
 *
 * It stays a reader of its plan meanwhile: who publishes another one rings, and the worker takes
 * back what it asked for before it reports that it has left the old one. So a queue that moves to
 * another worker never does so armed.
 *
 * It does not sleep if one of its queues could not wake it; plan_build() knows.
 *
 * A driver may say that its device interrupts, and the device does not: net_e1000_em leaves
 * MSI-X off, which is what vfio-pci gives it. So until a queue's first interrupt has come, naps are
 * short. If packets have come when one ends, and no interrupt, several times in a row, control
 * is told, and the device counts as one without interrupts.
 */

#define NAP_MS     100
#define MISSES_MAX 3

/* Idle so long, who is crowded sleeps: a guest that is about to send more is not yet made to kick. */
#define CROWDED_US 50

static void rings_disarm(const struct plan_worker *work)
{
	for (uint32_t i = 0; i < work->n_streams; i++)
		if (work->streams[i].rx.kind == PORT_VM)
			virtq_disarm(work->streams[i].rx.vq);
}

static bool rings_arm(const struct plan_worker *work)
{
	for (uint32_t i = 0; i < work->n_streams; i++)
		if (work->streams[i].rx.kind == PORT_VM && !virtq_arm(work->streams[i].rx.vq))
			return false;
	return true;
}

static void devices_disarm(const struct worker *w)
{
	for (uint32_t i = 0; i < w->work->n_streams; i++) {
		const struct source *rx = &w->work->streams[i].rx;

		if (rx->kind != PORT_DEV)
			continue;
		rte_eth_dev_rx_intr_disable(rx->eth, rx->queue);
		rte_eth_dev_rx_intr_ctl_q(
			rx->eth, rx->queue, w->interrupts, RTE_INTR_EVENT_DEL, NULL);
	}
}

static bool device_arm(const struct worker *w, const struct stream *st)
{
	const struct source *rx = &st->rx;
	int err = rte_eth_dev_rx_intr_ctl_q(
		rx->eth, rx->queue, w->interrupts, RTE_INTR_EVENT_ADD, st->q);

	st->q->before_nap = st->q->stats.rx_packets;
	if (err == 0)
		err = rte_eth_dev_rx_intr_enable(rx->eth, rx->queue);
	return err == 0 || err == -ENOTSUP;
}

static bool devices_arm(const struct worker *w)
{
	for (uint32_t i = 0; i < w->work->n_streams; i++) {
		const struct stream *st = &w->work->streams[i];

		if (st->rx.kind == PORT_DEV && !device_arm(w, st))
			return false;
	}
	return true;
}

static void silence_devices(const struct worker *w)
{
	struct rte_epoll_event rang[8];

	for (uint32_t i = 0; i <= w->work->n_devs / RTE_DIM(rang); i++) {
		int n = rte_epoll_wait(w->interrupts, rang, RTE_DIM(rang), 0);

		for (int k = 0; k < n; k++)
			((struct port_rxq *)rang[k].epdata.data)->interrupts = true;
	}
}

static bool is_untried(const struct stream *st)
{
	return st->rx.kind == PORT_DEV && !st->q->interrupts;
}

static bool all_tried(const struct worker *w)
{
	for (uint32_t i = 0; i < w->work->n_streams; i++)
		if (is_untried(&w->work->streams[i]))
			return false;
	return true;
}

/* False: nothing has woken it, the nap is over. */
static bool doze(struct worker *w)
{
	static const struct timespec limit = {.tv_nsec = NAP_MS * 1000000};
	struct pollfd *fds = w->work->fds;
	uint64_t count;
	int n;

	fds[0] = (struct pollfd){.fd = w->doorbell, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = w->work->n_devs ? w->interrupts : -1, .events = POLLIN};
	n = ppoll(fds, w->work->n_fds, all_tried(w) ? NULL : &limit, NULL);
	if (n <= 0)
		return n < 0;
	if (fds[0].revents && read(w->doorbell, &count, sizeof(count)) < 0)
		return true;
	if (fds[1].revents)
		silence_devices(w);
	for (uint32_t i = 2; i < w->work->n_fds; i++)
		if (fds[i].revents)
			vu_bell_silence(fds[i].fd);
	return true;
}

/* After a nap that nothing ended, with interrupts still asked for. */
static void look_for_missed(struct worker *w, const struct plan *plan)
{
	worker_iterate(w, plan);
	silence_devices(w);
	for (uint32_t i = 0; i < w->work->n_streams; i++) {
		const struct stream *st = &w->work->streams[i];

		if (is_untried(st) && st->q->stats.rx_packets != st->q->before_nap)
			virtq_store(&st->q->missed, st->q->missed + 1);
	}
}

static void nap(struct worker *w, const struct plan *plan)
{
	uint64_t begin = rte_rdtsc();
	bool woken;

	virtq_store(&w->stats.asleep_since, begin);
	woken = doze(w);
	virtq_store(&w->stats.asleep_since, 0);
	virtq_count(&w->stats.asleep, rte_rdtsc() - begin);
	virtq_count(&w->stats.sleeps, 1);
	if (!woken)
		look_for_missed(w, plan);
}

void worker_sleep(struct worker *w, const struct plan *plan)
{
	if (rings_arm(w->work)) {
		/* A device has no second look of its own: poll everything once more. */
		if (w->work->n_devs == 0 || (devices_arm(w) && worker_iterate(w, plan) == 0))
			nap(w, plan);
		if (w->work->n_devs)
			devices_disarm(w);
	}
	rings_disarm(w->work);
}

/* ---- control thread ---- */

/* Between the worker's two stores a nap may be counted not at all; the next look has it. */
uint64_t worker_asleep(const struct worker *w, uint64_t now)
{
	uint64_t since = virtq_load(&w->stats.asleep_since);
	uint64_t asleep = virtq_load(&w->stats.asleep);

	return since && since < now ? asleep + now - since : asleep;
}

void workers_ring(const struct sluice *sl)
{
	static const uint64_t one = 1;

	for (unsigned i = 0; i < sl->n_workers; i++)
		if (write(sl->workers[i]->doorbell, &one, sizeof(one)) < 0 && errno != EAGAIN)
			SL_LOG(ERR, "cannot wake the worker on lcore %u", sl->workers[i]->lcore);
}

int worker_sleep_init(struct worker *w)
{
	w->doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	w->interrupts = epoll_create1(EPOLL_CLOEXEC);
	return w->doorbell < 0 || w->interrupts < 0 ? -errno : 0;
}

void worker_sleep_fini(struct worker *w)
{
	if (w->doorbell >= 0)
		close(w->doorbell);
	if (w->interrupts >= 0)
		close(w->interrupts);
}

bool port_misses_interrupts(const struct port *port)
{
	for (unsigned i = 0; i < port->n_rxq; i++)
		if (virtq_load(&port->rxq[i].missed) >= MISSES_MAX)
			return true;
	return false;
}

bool port_can_wake(const struct port *port)
{
	return port->kind == PORT_VM ? !port->vm.relay : port->dev.interrupts;
}

static int bell_of(const struct stream *st, const struct sluice *sl)
{
	return vu_device_bell(sl->ports[st->port]->vm.dev, 2u * st->rx.queue + 1);
}

/* Who its guests are, when the worker sleeps. False: it must not. */
static bool may_sleep(const struct plan_worker *work, const struct sluice *sl)
{
	for (uint32_t i = 0; i < work->n_streams; i++)
		if (!port_can_wake(sl->ports[work->streams[i].port]))
			return false;
	return true;
}

uint32_t worker_sleep_us(const struct worker *w)
{
	const struct sluice *sl = w->sl;

	if (sl->handover.idle)
		return 1;
	return sl->conf.sleep_auto && w->crowd.crowded ? CROWDED_US : sl->conf.sleep_us;
}

int plan_worker_sleep(struct plan_worker *work, const struct worker *w)
{
	const struct sluice *sl = w->sl;
	uint32_t us = worker_sleep_us(w), n = 2;

	if (us == 0 || !may_sleep(work, sl))
		return 0;
	work->fds = calloc(work->n_streams + 2, sizeof(*work->fds));
	if (!work->fds)
		return -ENOMEM;
	for (uint32_t i = 0; i < work->n_streams; i++) {
		const struct stream *st = &work->streams[i];
		int bell = -1;

		if (st->rx.kind == PORT_DEV)
			work->n_devs++;
		else
			bell = bell_of(st, sl);
		if (bell >= 0)
			work->fds[n++] = (struct pollfd){.fd = bell, .events = POLLIN};
		else if (st->rx.kind == PORT_VM) { /* out of descriptors: it stays awake */
			free(work->fds);
			work->fds = NULL;
			return 0;
		}
	}
	work->n_fds = n;
	work->sleep_us = us;
	return 0;
}

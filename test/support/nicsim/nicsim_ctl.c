/* SPDX-License-Identifier: BSD-3-Clause */
/* Control by a test: by C calls in the same process, by DPDK telemetry from another. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_telemetry.h>

#include "nicsim_priv.h"

/*
 * Theory of operation
 *
 * Every action is a function of a device and up to three numbers, which is called while the device
 * can neither be closed nor removed (nicsims_lock, to read). C calls find the device by port,
 * telemetry by name: "/nicsim/stall,net_nicsim0,1" answers {"/nicsim/stall": {"result": 0}}.
 */

typedef int action(struct nicsim *nic, const uint32_t n[3]);

/* ---- actions ---- */

static int stall(struct nicsim *nic, const uint32_t n[3])
{
	if (n[0])
		__atomic_or_fetch(&nic->stuck, NICSIM_STALLED, __ATOMIC_RELAXED);
	else
		__atomic_and_fetch(&nic->stuck, ~(uint32_t)NICSIM_STALLED, __ATOMIC_RELAXED);
	return 0;
}

static int poll(struct nicsim *nic, const uint32_t n[3])
{
	nicsim_advance(nic);
	return 0;
}

static int delay(struct nicsim *nic, const uint32_t n[3])
{
	uint64_t cycles = n[0] * rte_get_tsc_hz() / US_PER_S;

	__atomic_store_n(&nic->delay, cycles, __ATOMIC_RELAXED);
	return 0;
}

static int reset(struct nicsim *nic, const uint32_t n[3])
{
	for (uint16_t i = 0; i < NICSIM_QUEUES_MAX; i++) {
		struct tx_queue *q = nic->tx[i];

		if (!q)
			continue;
		rte_spinlock_lock(&q->lock);
		nicsim_tx_drain(q);
		rte_spinlock_unlock(&q->lock);
	}
	return 0;
}

static int link_state(struct nicsim *nic, const uint32_t n[3])
{
	nicsim_set_link(nic, n[0]);
	return 0;
}

static int fail(struct nicsim *nic, const uint32_t n[3])
{
	nicsim_set_failed(nic, n[0]);
	return 0;
}

static int gone(struct nicsim *nic, const uint32_t n[3])
{
	nicsim_set_gone(nic);
	return 0;
}

static int held(struct nicsim *nic, const uint32_t n[3])
{
	struct tx_queue *q = n[0] < NICSIM_QUEUES_MAX ? nic->tx[n[0]] : NULL;
	uint32_t segs;

	if (!q)
		return -EINVAL;
	rte_spinlock_lock(&q->lock);
	segs = q->head - q->freed;
	rte_spinlock_unlock(&q->lock);
	return (int)segs;
}

/* Queue, how many, how long each: frames that can be verified. How many came in. */
static int generate(struct nicsim *nic, const uint32_t n[3])
{
	struct rx_queue *q = n[0] < NICSIM_QUEUES_MAX ? nic->rx[n[0]] : NULL;
	uint8_t frame[NICSIM_FRAME_MAX];
	int received = 0;

	if (!q || n[1] > NICSIM_DESC_MAX || n[2] < NICSIM_FRAME_MIN || n[2] > sizeof(frame))
		return -EINVAL;
	for (uint32_t i = 0; i < n[1]; i++) {
		nicsim_frame(frame, n[2], i);
		received += nicsim_rx_deliver(q, frame, n[2]);
	}
	return received;
}

/* ---- from C ---- */

static struct nicsim *by_port(uint16_t port)
{
	struct nicsim *nic;

	TAILQ_FOREACH (nic, &nicsims, next)
		if (nic->eth && nic->eth->data->port_id == port)
			return nic;
	return NULL;
}

static int with(uint16_t port, action *act, uint32_t value)
{
	const uint32_t n[3] = {value};
	struct nicsim *nic;
	int result = -ENODEV;

	rte_rwlock_read_lock(&nicsims_lock);
	nic = by_port(port);
	if (nic)
		result = act(nic, n);
	rte_rwlock_read_unlock(&nicsims_lock);
	return result;
}

int nicsim_stall(uint16_t port, bool on)
{
	return with(port, stall, on);
}

int nicsim_poll(uint16_t port)
{
	return with(port, poll, 0);
}

int nicsim_delay(uint16_t port, uint32_t us)
{
	return with(port, delay, us);
}

int nicsim_reset(uint16_t port)
{
	return with(port, reset, 0);
}

int nicsim_link(uint16_t port, bool up)
{
	return with(port, link_state, up);
}

int nicsim_fail(uint16_t port)
{
	return with(port, fail, 0);
}

int nicsim_tx_held(uint16_t port, uint16_t queue)
{
	return with(port, held, queue);
}

int nicsim_inject(uint16_t port, uint16_t queue, const void *frame, uint32_t len)
{
	struct nicsim *nic;
	int result = -ENODEV;

	rte_rwlock_read_lock(&nicsims_lock);
	nic = by_port(port);
	if (nic && (queue >= NICSIM_QUEUES_MAX || !nic->rx[queue] || !len))
		result = -EINVAL;
	else if (nic)
		result = nicsim_rx_deliver(nic->rx[queue], frame, len) ? 0 : -ENOBUFS;
	rte_rwlock_read_unlock(&nicsims_lock);
	return result;
}

uint64_t nicsim_stat(uint16_t port, const char *name)
{
	uint64_t id, value;

	if (rte_eth_xstats_get_id_by_name(port, name, &id) != 0 ||
		rte_eth_xstats_get_by_id(port, &id, &value, 1) != 1)
		return UINT64_MAX;
	return value;
}

/* ---- by telemetry ---- */

static const struct command {
	const char *path;
	action *act;
	int numbers;
	const char *help;
} commands[] = {
	{"/nicsim/stall", stall, 1,
		"Stops all progress of a device, or lets it go on. Parameters: name, 0|1"},
	{"/nicsim/poll", poll, 0, "Lets a device do what is due. Parameters: name"},
	{"/nicsim/delay", delay, 1, "Time until frames are read. Parameters: name, microseconds"},
	{"/nicsim/reset", reset, 0, "Frees all that transmit rings hold. Parameters: name"},
	{"/nicsim/link", link_state, 1, "Pulls or plugs the cable. Parameters: name, 0|1"},
	{"/nicsim/fail", fail, 1,
		"A device stops working and asks for a reset. Parameters: name, how many fail "
		"first"},
	{"/nicsim/gone", gone, 0, "A device is taken out of the machine. Parameters: name"},
	{"/nicsim/held", held, 1, "mbufs a transmit queue holds. Parameters: name, queue"},
	{"/nicsim/inject", generate, 3,
		"Frames come in. Parameters: name, queue, how many, bytes of each"},
};

/* "name,1,2": the name ends where the first comma was. @return how many numbers; -1 for others */
static int split(char *params, uint32_t n[3])
{
	char *word, *rest = params, *end;
	int i = 0;

	strsep(&rest, ",");
	for (; (word = strsep(&rest, ",")) != NULL && i < 3; i++) {
		n[i] = (uint32_t)strtoul(word, &end, 10);
		if (*word < '0' || *word > '9' || *end)
			return -1;
	}
	return word ? -1 : i;
}

static int run(const struct command *command, const char *params)
{
	uint32_t n[3] = {0};
	char copy[128];
	struct nicsim *nic;
	int result = -ENODEV;

	if (rte_strscpy(copy, params ? params : "", sizeof(copy)) < 0 ||
		split(copy, n) != command->numbers)
		return -EINVAL;
	rte_rwlock_read_lock(&nicsims_lock);
	nic = nicsim_find(copy);
	if (nic && nic->eth)
		result = command->act(nic, n);
	rte_rwlock_read_unlock(&nicsims_lock);
	return result;
}

static int on_command(const char *path, const char *params, struct rte_tel_data *data)
{
	rte_tel_data_start_dict(data);
	for (size_t i = 0; i < RTE_DIM(commands); i++)
		if (strcmp(commands[i].path, path) == 0)
			return rte_tel_data_add_dict_int(data, "result", run(&commands[i], params));
	return -EINVAL;
}

static void add_stat(void *data, const char *name, uint64_t value)
{
	dpdk_tel_add_u64(data, name, value);
}

static int on_stats(const char *path, const char *params, struct rte_tel_data *data)
{
	struct nicsim *nic;

	rte_tel_data_start_dict(data);
	rte_rwlock_read_lock(&nicsims_lock);
	nic = nicsim_find(params ? params : "");
	if (nic)
		nicsim_stats_each(nic, add_stat, data);
	rte_rwlock_read_unlock(&nicsims_lock);
	return nic ? 0 : -ENODEV;
}

RTE_INIT(nicsim_telemetry)
{
	for (size_t i = 0; i < RTE_DIM(commands); i++)
		rte_telemetry_register_cmd(commands[i].path, on_command, commands[i].help);
	rte_telemetry_register_cmd("/nicsim/stats", on_stats,
		"What a device counted, also while closed. Parameters: name");
}

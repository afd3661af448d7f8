/* SPDX-License-Identifier: BSD-3-Clause */
/* The control thread's half of the gate. */
#include "virtq_gate.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

bool virtq_gate_fenced;

static int membarrier(int cmd)
{
	return (int)syscall(__NR_membarrier, cmd, 0, 0);
}

void virtq_gate_init(void)
{
	if (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) != 0)
		virtq_gate_fenced = true;
}

/*
 * A', and A on behalf of every lcore. Should the kernel refuse for once, lcores do it
 * themselves from their next burst on, and what they have not yet made visible of this one
 * will long be so after the nap.
 */
void virtq_gate_fence(void)
{
	const struct timespec nap = {.tv_nsec = 10000000};

	virtq_fence_full();
	if (virtq_load(&virtq_gate_fenced) || membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0)
		return;
	virtq_store(&virtq_gate_fenced, true);
	nanosleep(&nap, NULL);
}

struct virtq_view *virtq_gate_put(struct virtq_gate *gate, struct virtq_view *view)
{
	return __atomic_exchange_n(&gate->view, view, __ATOMIC_SEQ_CST);
}

uint32_t virtq_gate_ticket(const struct virtq_gate *gate)
{
	return __atomic_load_n(&gate->turn, __ATOMIC_SEQ_CST); /* B' */
}

struct virtq_view *virtq_gate_swap(
	struct virtq_gate *gate, struct virtq_view *view, uint32_t *ticket)
{
	struct virtq_view *old = virtq_gate_put(gate, view);

	if (old) /* a closed gate is opened without waiting for anybody */
		virtq_gate_fence();
	*ticket = virtq_gate_ticket(gate);
	return old;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static bool still_inside(const struct virtq_gate *gate, uint32_t ticket)
{
	return (ticket & 1) && virtq_load_acquire(&gate->turn) == ticket; /* B' */
}

int virtq_gate_wait(const struct virtq_gate *gate, uint32_t ticket, unsigned ms)
{
	uint64_t deadline;

	/* A burst takes microseconds; only a preempted lcore takes longer, and then the
	 * kindest thing is to give it our CPU. */
	for (int i = 0; i < 1000; i++) {
		if (!still_inside(gate, ticket))
			return 0;
		virtq_pause();
	}
	deadline = now_ns() + (uint64_t)ms * 1000000;
	while (still_inside(gate, ticket)) {
		struct timespec nap = {.tv_nsec = 20000};

		if (now_ns() >= deadline)
			return -ETIMEDOUT;
		nanosleep(&nap, NULL);
	}
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The gate: how the control thread takes a view away from a running lcore. */
#ifndef VIRTQ_GATE_H
#define VIRTQ_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "virtq_order.h"

/*
 * Theory of operation
 *
 * One gate per ring. The lcore that polls the ring goes in, works, and comes out once a
 * burst; `turn` is odd while it is inside. The control thread publishes a new view (or
 * none) and then waits until nobody can still hold the old one:
 *
 *	lcore				control thread
 *	turn = odd			view = new
 *	--- A ---			--- A' ---
 *	v = view			t = turn
 *	work with v			t even: nobody is inside, or will see the new view
 *	--- B ---			t odd: wait until turn changes
 *	turn = even			--- B' ---
 *					free old
 *
 * A pairs with A': whoever comes second sees the other (store, then load, on both
 * sides). On the lcore that would be a full fence a burst, so the control thread pays
 * for both with membarrier(2), which makes every running thread of this process execute
 * one; where the kernel lacks it, virtq_gate_fenced is set and the lcore pays.
 * B (release) pairs with B' (acquire): the lcore's last use is over before the free.
 *
 * A gate admits one lcore at a time: queues shared by lcores have a lock outside.
 */
struct virtq_view;

struct virtq_gate {
	uint32_t turn;           /* written by the lcore, read by control */
	struct virtq_view *view; /* written by control, read by the lcore */
};

/* Set once by virtq_gate_init(), before any lcore polls. */
extern bool virtq_gate_fenced;

/**
 * Choose how lcores are ordered against the control thread. Call once per process, before
 * the first ring starts; calling again is harmless. Any thread.
 */
void virtq_gate_init(void);

/* Lcore: go in. NULL means the gate is closed; leave all the same. */
static inline const struct virtq_view *virtq_gate_enter(struct virtq_gate *gate)
{
#if defined(VIRTQ_TSAN) || defined(VIRTQ_GATE_SEQ_CST)
	/* ThreadSanitizer sees neither membarrier nor fences. */
	__atomic_add_fetch(&gate->turn, 1, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&gate->view, __ATOMIC_SEQ_CST);
#else
	virtq_store(&gate->turn, gate->turn + 1);
	if (virtq_unlikely(virtq_load(&virtq_gate_fenced)))
		virtq_fence_full(); /* A */
	else
		__asm__ volatile("" ::: "memory"); /* A, the CPU's half is membarrier's */
	return virtq_load_acquire(&gate->view);
#endif
}

/* Lcore: come out. The view must not be used any more. */
static inline void virtq_gate_leave(struct virtq_gate *gate)
{
	virtq_store_release(&gate->turn, gate->turn + 1); /* B */
}

/**
 * Control thread: put another view in place; lcores that come in from now on see it.
 * @param ticket	what to hand to virtq_gate_wait()
 * @return the view that was there, which may be in use until virtq_gate_wait() says not
 */
struct virtq_view *virtq_gate_swap(
	struct virtq_gate *gate, struct virtq_view *view, uint32_t *ticket);

/**
 * The same in its three steps, so that many gates share one fence, which interrupts every CPU we run
 * on: put views into all of them, fence, take the tickets, wait for each.
 */
struct virtq_view *virtq_gate_put(struct virtq_gate *gate, struct virtq_view *view);
void virtq_gate_fence(void);
uint32_t virtq_gate_ticket(const struct virtq_gate *gate);

/**
 * Control thread: wait until no lcore holds what virtq_gate_swap() returned.
 * @param ms	how long at most; 0 only looks
 * @return 0, or -ETIMEDOUT: the lcore is stuck inside, the old view must be kept
 */
int virtq_gate_wait(const struct virtq_gate *gate, uint32_t ticket, unsigned ms);

/* Control thread: the view in force. */
static inline struct virtq_view *virtq_gate_view(const struct virtq_gate *gate)
{
	return virtq_load(&gate->view);
}

#endif

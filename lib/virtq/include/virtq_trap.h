/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that vanishes under us: its front-end cut the file short, or it has no page. */
#ifndef VIRTQ_TRAP_H
#define VIRTQ_TRAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Theory of operation
 *
 * What a front-end shares stays its own: it may truncate the file, or punch a hole into one in huge
 * pages when no free page is left. Whoever touches such a page then (an lcore in a burst, control
 * as it starts a ring, the driver of a NIC with a packet that is lent) gets SIGBUS, which ends the
 * process. Nobody can look first: the file may change between the look and the access.
 *
 * So each mapping of a front-end's memory has a trap, and one handler for the process catches the
 * signal. It finds the trap by the faulting address and maps zeros of our own over the page. The
 * instruction is executed again and reads zeros, or writes where nobody looks; the burst goes on as
 * if the guest had written that, and a guest may write anything. Then
 *
 *   the handler	marks the trap as sprung and signals the eventfd of all traps
 *   control		wakes, finds the device that has a sprung trap, parks its rings
 *   a trap that has sprung stays so: its mapping is never used for a table made later
 *
 * Nothing is unwound, so there is nothing a burst or anybody else has to do, or to pay, for it.
 *
 *   how much	A piece of 64 KiB, or the page if that is larger (huge pages can only be replaced
 *		whole). Not all of the mapping: taking 16 GiB out of the page tables keeps an lcore
 *		busy for a tenth of a second. Where the process has no room for another piece
 *		(vm.max_map_count), all of it, which needs none.
 *   in a handler	Only system calls: no lock, no allocation. Traps are read without a lock, by
 *		sequence: one that changes meanwhile is not ours, because who faults in a mapping
 *		has a reference to it.
 *   other signals	A SIGBUS elsewhere, or one that was sent, goes to the handler that was there before
 *		ours; by default the process ends as it would have.
 *
 * Each mapping looks whether the handler is still ours. An application that sets another while
 * guests are connected must have it call ours in turn, and must not block SIGBUS in its lcores.
 */

struct virtq_trap;

/**
 * Set a trap for a mapping that nobody has touched yet.
 * @param page	size of its pages; at and len are multiples of it
 * @return the trap, or NULL: out of memory, or of descriptors for the eventfd. Not for lcores.
 */
struct virtq_trap *virtq_trap_set(void *at, size_t len, size_t page);

/** The mapping is about to go, and nobody uses it any more. Not for lcores. */
void virtq_trap_remove(struct virtq_trap *trap);

/** Has a page of it vanished? Any thread. */
bool virtq_trap_sprung(const struct virtq_trap *trap);

/**
 * An eventfd that is signalled each time a page has been replaced, of whatever mapping. Nobody reads
 * it: watch it edge-triggered (EPOLLET, EV_ET). It stays open as long as the process.
 * @return the descriptor or -EMFILE, -ENFILE, -ENOMEM. Any thread.
 */
int virtq_trap_fd(void);

#endif

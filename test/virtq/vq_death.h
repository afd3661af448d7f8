/* SPDX-License-Identifier: BSD-3-Clause */
/* Death of a process at any instruction. */
#ifndef VQ_DEATH_H
#define VQ_DEATH_H

/**
 * Let a copy of this process do something, and kill it after so many instructions.
 * @return how many it executed before its end
 */
unsigned vq_kill_after(void (*deed)(void), unsigned steps);

#endif

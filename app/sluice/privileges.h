/* SPDX-License-Identifier: BSD-3-Clause */
/* What the process gives up, so that whoever takes it over has less. */
#ifndef PRIVILEGES_H
#define PRIVILEGES_H

#include <stddef.h>

/*
 * Theory of operation
 *
 * Ports come and go while we run, so what adding one needs has to stay: opening devices (VFIO, TAP,
 * AF_PACKET, AF_XDP), giving sockets away, locking memory. Everything else goes, in two steps.
 *
 *   capabilities	before the EAL starts, so that every thread it makes has the same. SYS_ADMIN is
 *			kept only where physical addresses have to be read (no --iova-mode=va).
 *   system calls	once all threads are there: nothing is executed, forked, traced, mounted, loaded
 *			into the kernel from here on, by whatever means. Who tries gets EPERM.
 */

/**
 * Keep the capabilities a switch needs, of those there are.
 *
 * @param argv	the EAL's arguments: what they say of addresses decides on SYS_ADMIN
 * @param why	on failure one line
 * @return 0 or a negative errno
 *
 * The first thread, before there is another.
 */
int privileges_limit(int argc, char *const *argv, char *why, size_t why_len);

/**
 * Refuse system calls a switch has no use for, in every thread, for good.
 * @return 0 or a negative errno, with one line in why
 */
int privileges_seal(char *why, size_t why_len);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Descriptors that systemd keeps for the process after us. */
#ifndef FDSTORE_H
#define FDSTORE_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Theory of operation (doc/upgrade.md has what users see)
 *
 * systemd holds descriptors of a service that is restarted, orderly or after a crash, and lets go of
 * them when it is stopped. Each listening socket goes there when it is made, under the name of its
 * file, and leaves with the file. A process that is told to end adds one more: a socket in which its
 * state lies, written as for a newer process (handover.h), the descriptors among it. So order, numbers
 * and descriptors that are the same do not depend on how systemd keeps them.
 *
 * Where there is no store, or it is full, systemd closes what it gets, and it is as without.
 */

/** Take what there is from the process before. First of all, before there is a child. */
void fdstore_open(void);

/** Is there a store to put anything in? */
bool fdstore_is_there(void);

/** The state of the process before, for once: the store has it no more. @return -1: there is none */
int fdstore_state(void);

/** Put it there. @param fd lent. @return 0 or a negative errno */
int fdstore_put_state(int fd);

/** What keeps a TAP's interface there until the next process has it. @param fd lent */
void fdstore_put_tap(int fd, unsigned index);

/** The configuration is there: what only bridged the time until now is let go. */
void fdstore_settled(void);

/** Another process of the service is the main one from here on. */
void fdstore_main_pid(pid_t pid);

#endif

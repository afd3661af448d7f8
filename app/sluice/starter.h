/* SPDX-License-Identifier: BSD-3-Clause */
/* Whoever starts a newer process for us, once we may not any more. */
#ifndef STARTER_H
#define STARTER_H

#include <sys/types.h>

/*
 * Theory of operation
 *
 * After its start a switch may execute nothing (privileges.h), but an upgrade means to execute its
 * successor. So a child is forked before there is anything worth taking over: it has no threads, no
 * memory of guests, and one thing to do. It keeps the command line, the environment and the CPUs of
 * that moment, and starts a newer sluice with them when it is asked to. What can be asked for is only
 * which program (a file of ours or of root's that others may not change), the EAL's --file-prefix and
 * the control socket to take over from. It ends when we do; what it has started goes on.
 */

/** Keep the command line, before anybody changes it. @return 0 or -ENOMEM */
int starter_remember(int argc, char **argv);

/** That command line without the program, a line for each word, for free(). NULL: out of memory */
char *starter_words(void);

/** Fork it. The first thread, before there is another. @return 0 or a negative errno */
int starter_open(void);

/**
 * Start a newer process.
 * @param binary	NULL: the file this one was started from
 * @param prefix	EAL's --file-prefix for it
 * @param control	the socket it is to ask at
 * @return 0, -EPERM (others may change the program), or the error of starting it. Control thread.
 */
int starter_start(const char *binary, const char *prefix, const char *control, pid_t *pid);

#endif

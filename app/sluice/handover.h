/* SPDX-License-Identifier: BSD-3-Clause */
/* A running switch hands itself over to a newer process: both sides. */
#ifndef HANDOVER_H
#define HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "handover_wire.h"

/*
 * Theory of operation (doc/upgrade.md has the steps)
 *
 * The newer process connects to the control socket of the older one and asks for "take-over". What
 * follows are frames. As long as the newer one makes itself ready, the older one serves as ever. Then
 * it stops forwarding, freezes its VM ports, and sends them; from here on it does nothing else, for a
 * few milliseconds, or until a deadline.
 *
 * There is one owner at any time, wherever one of the two is killed:
 *
 *   before TAKEN was sent	the old one. It goes on if the other end closes or is late; who is late
 *				finds that TAKEN cannot be sent any more, and gives up.
 *   after			the new one. The old one has all descriptors still, and touches nothing.
 *   the old one dies		the new one, if it was ready. That it has died and does not only say
 *				nothing the kernel tells (a pidfd).
 *
 * Devices cannot be shared like that: the old one closes them when the new one serves the VM ports, and
 * then hangs up, upon which the new one opens them.
 *
 * Where a service manager keeps descriptors (fdstore.h) the same frames serve a restart: the one that
 * ends writes all that it would say to a newer process into a socket, which is kept, and the next one
 * reads it there. Nobody answers: it is checked as a whole before anything is done, and after that a
 * port that cannot go on begins anew.
 */

struct ctlsock;
struct sluice;

/* What the last one came to, for `upgrade show`. */
enum handover_state {
	HANDOVER_NONE,
	HANDOVER_RUNNING, /* a newer process is on its way */
	HANDOVER_FAILED,  /* and we go on */
	HANDOVER_DONE,    /* we have taken over */
};

struct handover_status {
	enum handover_state state;
	pid_t pid; /* the other process */
	char text[256];
	unsigned vm_ports, devices;
	double gap_ms;     /* without forwarding */
	double devices_ms; /* until there were devices again; 0: there are none */
	uint64_t lost;
};

/** Control thread, as all here. */
const struct handover_status *handover_status(void);

/** Somebody asks to take over; what ctlsock_on_take_over() wants. */
struct handover_old {
	struct sluice *sl;
	struct ctlsock *control;
};
void handover_begin(void *old, int fd);

/**
 * The process ends, and another one will be started in its place: write everything down for that. Then
 * no port is ours any more.
 * @param why	on failure one line, and all goes on
 * @return the socket in which it lies, or a negative errno
 */
int handover_leave(struct handover_old *old, char *why, size_t why_len);

/**
 * Go on where another process has stopped, if that was started with the same.
 * @param state	the socket in which it lies; closed
 * @param control	on success the control socket, served by us
 * @param why	on failure one line; then nothing has been done
 * @return 0 or a negative errno
 */
int handover_resume(
	struct sluice *sl, int state, struct ctlsock **control, char *why, size_t why_len);

/** What this process was started with: words, and the file of commands. For free(); NULL: too much */
char *handover_origin(const struct sluice *sl);

/** The process ends: whoever is taking over is told. */
void handover_cancel(void);

/** Start a newer process that will ask. @return 0 or a negative errno after filling in why */
int handover_spawn(const char *binary, const char *control, char *why, size_t why_len);

/**
 * Take over from the switch at a control socket.
 * @param control	on success the control socket, served by us
 * @param why	on failure one line; then the other one goes on, and we have to end
 * @return 0 or a negative errno
 */
int handover_take(
	struct sluice *sl, const char *path, struct ctlsock **control, char *why, size_t why_len);

/* ---- between the handover*.c files ---- */

void handover_set(enum handover_state state, pid_t pid, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
struct handover_status *handover_status_edit(void);

/** Packets that ports have lost since they were added, all together. */
uint64_t handover_lost(const struct sluice *sl);

/** Run commands, one a line. Those that fail are appended to *later, or (NULL) logged.
 * @return 0, or -ENOMEM: some of them were not run and not appended either */
int handover_run(struct sluice *sl, const char *lines, char **later);

/** Add a port by its command, with this number. @return 0 or the command's error */
int handover_add(struct sluice *sl, uint32_t id, const char *line, char *why, size_t why_len);

#endif

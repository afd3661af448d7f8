/* SPDX-License-Identifier: BSD-3-Clause */
/* What two switches say to each other when the newer one takes over: frames, with descriptors. */
#ifndef HANDOVER_WIRE_H
#define HANDOVER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_MAGIC   0x70756c73u
#define FRAME_VERSION 2u
#define FRAME_MAX     (2u << 20) /* bytes of a payload */
#define FRAME_FDS_MAX 2048u

/* In the order in which they come; doc/upgrade.md. */
enum frame_type {
	/* old to new */
	FRAME_ORIGIN =
		1,      /* command line and file of commands of the first process; may be missing */
	FRAME_EARLY,    /* commands to run before there are ports */
	FRAME_PORT,     /* struct frame_port, and the command that adds it */
	FRAME_COMMANDS, /* commands to run when the ports are there */
	FRAME_ADDRESSES, /* learnt ones: struct frame_address, many */
	FRAME_PREPARE,   /* that was the configuration */
	/* new to old */
	FRAME_PREPARED,
	/* old to new; its ports are frozen */
	FRAME_STATE,   /* struct frame_state, counters, a record, and its descriptors */
	FRAME_CONTROL, /* struct frame_control, and the control socket */
	FRAME_ALL,     /* struct frame_all: that was everything */
	/* new to old: nothing has been touched yet */
	FRAME_READY,
	/* old to new: it is yours */
	FRAME_COMMIT,
	/* new to old: it is mine */
	FRAME_TAKEN,
	/* either: it is not to be, and why */
	FRAME_ABORT,
};

struct frame_header {
	uint32_t magic, version, type, len, nfds;
};

struct frame_port {
	uint32_t id, is_vm;
	uint64_t features, protocol_features; /* offered */
};

struct frame_address {
	uint64_t key;
	uint32_t port, seen;
};

struct frame_state {
	uint32_t id, counters; /* bytes of these */
};

struct frame_control {
	uint64_t dev, ino; /* of the socket file */
};

struct frame_all {
	uint64_t since; /* monotonic, in ns: when the old one stopped forwarding */
	uint64_t lost;  /* packets, until all was frozen */
};

struct frame {
	uint32_t type, len, nfds;
	char *payload; /* with a NUL behind it */
	int *fds;
};

/**
 * Send one whole frame, within so many milliseconds.
 * @param fds	borrowed
 * @return 0, -ETIMEDOUT, or sendmsg's error; then the connection is of no use any more
 */
int frame_send(int sock, enum frame_type type, const void *payload, size_t len, const int *fds,
	unsigned nfds, int ms);

/**
 * Receive one.
 * @param ms	-1: for ever
 * @return 0 and a frame for frame_clear(); -ECONNRESET: the other one has closed it; -EPROTO: what came
 *	   is no frame of ours; -ETIMEDOUT, -ENOMEM, or recvmsg's error
 */
int frame_recv(int sock, struct frame *f, int ms);

/** Receive what should be a frame of this type, of which nothing but its type matters. It needs no memory. */
bool frame_is_next(int sock, enum frame_type type, int ms);

/** Free it and close the descriptors that were not taken (set to -1). */
void frame_clear(struct frame *f);

/** Monotonic, in ns: of all processes. */
uint64_t frame_clock(void);

#endif

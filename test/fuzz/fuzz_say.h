/* SPDX-License-Identifier: BSD-3-Clause */
/* What the front-end of fuzz_handshake.c can say, mostly right. */
#ifndef FUZZ_SAY_H
#define FUZZ_SAY_H

#include "fuzz_device.h"
#include "ts_frontend.h"

enum action {
	TRAFFIC, /* frames or buffers are made available, and polled */
	POLL,
	SAY_FEATURES,
	SAY_PROTOCOL,
	SAY_OWNER,
	SAY_MEMORY,
	ADD_REGION,
	REMOVE_REGION,
	SAY_NUM,
	SAY_BASE,
	SAY_ADDR,
	SAY_KICK,
	SAY_CALL,
	SAY_ERR,
	ENABLE,
	GET_BASE,
	INFLIGHT,
	IOTLB,
	ANSWER_MISSES,
	CHANNEL,
	CONFIG,
	RESET,
	LOG,
	STATUS,
	MTU,
	RARP,
	ASK,
	START_ALL,
	TIME,
	BOOT,      /* the guest stops its rings and makes new ones */
	RECONNECT, /* 1: and rings are started, 2: new ones */
	CUT,       /* the same, in the midst of a message */
	ACTIONS
};

#define REGIONS   3u
#define RING_SIZE 16u

/* Who talks. */
struct talk {
	struct event_base *base;
	struct ts_guest *guest;
	struct ts_fe fe;
	int null_fd, some_fd[3]; /* an eventfd, a socket, a file */
	bool acks;               /* everything is to be acknowledged */
};

extern struct talk talk;

/** Say what an argument chooses, of a ring; let the device work, and read its answers.
 * @param spoil NULL, or where offset, number and bytes are that replace some of the message */
void fuzz_say(enum action what, unsigned ring, uint8_t arg, struct fuzz_input *spoil);

/** The guest's IOMMU knows every page. @param most requests to answer */
void fuzz_answer_misses(unsigned most);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* A device, its front-end and a data path, in one process and mostly one thread. */
#ifndef VD_H
#define VD_H

#include <pthread.h>

#include "ts_frontend.h"
#include "ts_tap.h"
#include "ts_util.h"
#include "vu.h"

#define VD_RING_SIZE 256u
#define VD_LOG_LINES 64
#define VD_PAIRS_MAX 128u

struct vd;

/* What the data path did with a ring; view->arg. */
struct vd_ring {
	struct vd *vd;
	unsigned index;
	/* written by whoever polls, read by anybody */
	uint64_t consumed; /* chains taken from the guest and given back */
	uint64_t bytes;    /* in them */
	uint64_t sent;     /* chains filled and given to the guest */
	uint64_t inside;   /* bursts that began */
	/* written by the test */
	uint64_t to_send; /* chains to fill */
	bool hold;        /* stay inside the burst */
	/* written by ops, on the control thread */
	unsigned prepared, changes;
	bool usable;
	bool unpolled; /* prepare() leaves it without a burst */
};

struct vd {
	char dir[32];
	char path[64];
	struct event_base *base;
	struct vu_device_conf conf;
	struct vu_device *dev;
	struct ts_guest *guest;
	struct ts_fe fe;
	uint64_t status; /* what GET_STATUS must answer, for the table of messages */
	struct vd_ring ring[2 * VD_PAIRS_MAX];
	bool link;
	unsigned link_changes, mtu_changes;
	char log[VD_LOG_LINES][320];
	unsigned n_log;
	int fds_before;
	/* a polling thread, if the test starts one */
	pthread_t poller;
	bool polling, stop_polling;
};

/** cmocka setup and teardown: *state becomes a struct vd without a device. */
int vd_setup(void **state);
/** Everything goes, and nothing is left: descriptors, mappings, socket file. */
int vd_teardown(void **state);

/** Configuration of a listening device in a directory of our own; change it, then vd_create(). */
void vd_conf(struct vd *t, uint16_t pairs);
void vd_create(struct vd *t);
/** Both, and a front-end that has connected. */
void vd_listen(struct vd *t, uint16_t pairs, const struct ts_profile *profile);
void vd_destroy(struct vd *t);

/** A front-end of this profile, for the device's path; not yet connected. */
void vd_front_end(struct vd *t, const struct ts_profile *profile);
/** Connect the front-end, and have it negotiate, make its rings and start. */
void vd_connect(struct vd *t);
void vd_start(struct vd *t);
/** The same, but wait until the device has noticed that the front-end is gone. */
void vd_disconnect(struct vd *t);

/** Run the control thread's loop until nothing is left to do. */
void vd_run(struct vd *t);
/** Run the control thread's loop, and wait. */
void vd_run_ms(struct vd *t, unsigned ms);
#define VD_WAIT(t, cond, ms) TS_WAIT((vd_run(t), (cond)), ms)

/** Poll rings from a thread of its own until vd_poll_end(). */
void vd_poll_begin(struct vd *t);
void vd_poll_end(struct vd *t);
/** One burst on a ring, here. */
uint16_t vd_burst(struct vd *t, unsigned ring);

/** The guest sends n frames on a ring (not yet consumed), or posts n buffers. */
void vd_guest_sends(struct vd *t, unsigned ring, unsigned n);
void vd_guest_posts(struct vd *t, unsigned ring, unsigned n);
/** What came back to the guest; checks the lengths. */
unsigned vd_guest_reaps(struct vd *t, unsigned ring);

/** Frames in both directions of these pairs arrive, driven from here. */
void vd_assert_traffic(struct vd *t, unsigned first_pair, unsigned pairs);

/** The ring does not move: nothing is consumed, written or called. */
void vd_assert_dead(struct vd *t, unsigned ring);

struct vu_ring_info vd_ring_info(const struct vd *t, unsigned ring);
struct vu_info vd_info(const struct vd *t);

/** Has a line been logged that contains text? */
bool vd_logged(const struct vd *t, const char *text);
void vd_forget_log(struct vd *t);

/** A socket of somebody else's at a path; listening unless backlog is negative. */
int vd_socket_at(const char *path, int type, int backlog);

/** rc must be 0; says fe.why otherwise. */
void vd_ok(struct vd *t, int rc);

#endif

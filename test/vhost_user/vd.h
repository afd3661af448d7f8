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
	bool held;         /* it stays inside, as it was told */
	/* written by the test */
	uint64_t to_send; /* chains to fill */
	bool hold;        /* stay inside the burst */
	/* written by ops, on the control thread */
	unsigned prepared, changes;
	bool usable;
	bool unpolled; /* prepare() leaves it without a burst */
};

struct vd {
	uint64_t format; /* VIRTIO_F_RING_PACKED if this case is about packed rings */
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
	int fds_before, maps_before;
	bool shares_base;
	/* a polling thread, if the test starts one */
	pthread_t poller;
	bool polling, stop_polling;
};

/** A case's table entries: one for each ring format, which is its initial state. */
#define VD_CASE(fn, setup, teardown, format, initial) \
	((struct CMUnitTest){#fn "[" format "]", fn, setup, teardown, (void *)(uintptr_t)(initial)})
#define VD_BOTH_WITH(fn, setup, teardown)            \
	VD_CASE(fn, setup, teardown, "split", NULL), \
		VD_CASE(fn, setup, teardown, "packed", &vd_packed)
#define VD_BOTH(fn) VD_BOTH_WITH(fn, vd_setup, vd_teardown)

extern const char vd_packed;

/** One without a device. base: a control thread's loop it shares with others; NULL: one of its own. */
struct vd *vd_new(struct event_base *base, uint64_t format);
/** Everything goes, and nothing is left: descriptors, mappings, socket file. */
void vd_free(struct vd *t);

/** cmocka setup and teardown: *state becomes a struct vd without a device, and goes. */
int vd_setup(void **state);
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
/** The same for a thread that must not assert: as many as fit (how many), and faults of the ring. */
unsigned vd_guest_adds(struct vd *t, unsigned ring, unsigned n);
unsigned vd_guest_takes(struct vd *t, unsigned ring);

/** Frames in both directions of these pairs arrive, driven from here. */
void vd_assert_traffic(struct vd *t, unsigned first_pair, unsigned pairs);

/** The position so far into a ring's life, as SET_VRING_BASE carries it. */
static inline uint32_t vd_base(const struct vd *t, uint64_t n)
{
	return ts_base_at(t->format, VD_RING_SIZE, n);
}

/** How far the device has come by what the ring says, in the same form. */
static inline uint32_t vd_shown(const struct vd *t, unsigned ring)
{
	return ts_ring_used_pos(t->fe.rings[ring].ring);
}

/** All that was published has been consumed. */
static inline bool vd_all_used(const struct vd *t, unsigned ring)
{
	return (uint16_t)vd_shown(t, ring) == (uint16_t)ts_ring_avail_pos(t->fe.rings[ring].ring);
}

/** The driver breaks the ring, and a burst (if anybody polls it) finds out: why. */
enum virtq_fault vd_park(struct vd *t, unsigned ring);

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

/* SPDX-License-Identifier: BSD-3-Clause */
/* A device from inside: what the files of this library share. */
#ifndef VU_DEVICE_H
#define VU_DEVICE_H

#include <stdio.h>
#include <time.h>

#include <event2/event.h>

#include "usock.h"
#include "vu.h"
#include "vu_proto.h"

enum vu_enable {
	VU_ENABLE_UNSET,
	VU_ENABLE_ON,
	VU_ENABLE_OFF
};

struct vu_range {
	uint8_t *at;
	uint64_t len;
};

/* What the front-end said about a ring, and what reconcile() made of it. */
struct vu_queue {
	/* configuration: edited by handlers, forgotten with the connection */
	uint16_t num;
	uint32_t base;
	bool started;
	bool have_addr;
	enum vu_enable enable;
	struct vu_ring_addr addr;
	int kick_fd, call_fd, err_fd;

	uint32_t own_kicks; /* of what kick_fd has counted */
	int bell;           /* epoll instance that holds kick_fd; -1 until vu_device_bell() */

	/* consequences: edited by reconcile() only */
	struct virtq *vq;
	struct virtq_view *drain;    /* started and disabled: we consume and discard */
	struct virtq_view *replaced; /* by one that is in force already; until reconciling ends */
	bool positioned;             /* virtq_start() has run since the last kick */
	uint32_t start;              /* and from here */
	bool waits;                  /* for the IOMMU's translation of its addresses */
	bool bad_addr;               /* its addresses are not in the memory table */
	bool fetching, fetched;      /* these pages of it, in a post-copy migration */
	struct vu_range pages[3];
	bool bad_position;           /* its format does not allow this size and base */
	enum virtq_fault fault;      /* noticed and reported */
	uint32_t last_turn;          /* of the gate, a tick ago */
	struct virtq_lender *lender; /* its owner's, once it has lent; or NULL */

	/* views an lcore has not come out with in time, freed when it does: it may be in with
	 * the one that was taken away or with the one that was to follow */
	struct virtq_view *stuck[2]; /* the second may be NULL */
	uint32_t stuck_ticket;
	bool stuck_owns_call[2]; /* its call_fd is ours to close then */
};

/* One front-end's connection: framing state. */
struct vu_conn {
	int fd; /* -1: none */
	struct event *readable, *writable, *deadline;
	struct vu_message in;
	size_t in_len; /* header and payload bytes so far */
	int fds[VU_FDS_MAX];
	unsigned nfds;
	struct vu_message out;
	size_t out_len, out_done;
	int out_fd; /* goes with the first byte; -1: none */
};

/* A region that was added more than once, and how often more. */
struct vu_mem_again {
	uint64_t gpa, size, uva;
	unsigned times;
};

/* Post-copy migration, see vu_on_postcopy.c. */
struct vu_postcopy {
	int uffd;                  /* -1: none */
	bool listening;            /* memory is mapped, but may not have come */
	struct virtq_mem *waiting; /* until the front-end serves its faults; or NULL */
};

struct vu_device {
	struct event_base *base;
	const struct vu_device_ops *ops;
	void *arg;
	char path[USOCK_PATH_MAX];
	bool listen;
	uint16_t nrings;
	uint64_t offered, protocol_offered;
	enum vu_initial_enable initial_enable;
	uint16_t peer_timeout_ms;
	bool frozen; /* on its way to or from another process, see vu_handover.c */

	int listen_fd;
	struct usock_access access; /* to the socket we make */
	struct usock_file listen_file;
	struct event *accepting, *retry, *tick;
	struct event *vanished; /* pages of somebody's memory have */
	long tick_us;           /* how far ahead the tick was set */
	int socket_errno;       /* why none connected, at the last attempt; told once */
	uint64_t connections;

	struct vu_conn conn;
	struct vu_iommu *iommu;     /* NULL: not offered */
	struct vu_backend *backend; /* channel for our requests; NULL: none */
	bool features_set;
	bool features_refused; /* the last that were asked for: there is no FEATURES_OK */
	uint64_t features, protocol_features;
	uint8_t status;
	uint16_t mtu;                    /* NET_SET_MTU; 0: none */
	uint8_t mac[6], mac_at_first[6]; /* of the guest, in our configuration space */
	bool odd_enable_seen;            /* an odd ring had its own SET_VRING_ENABLE */
	unsigned hasty;                  /* front-ends in a row that left before SET_FEATURES */
	struct virtq_mem *mem;
	struct virtq_log *log; /* NULL: none */
	struct vu_postcopy postcopy;
	int log_fd;                     /* eventfd to signal while it is used; -1: none */
	struct vu_mem_again *mem_again; /* see vu_on_memory.c */
	unsigned n_mem_again;
	struct virtq_inflight *inflight;
	bool leaving;           /* vu_device_leave() */
	char *state_path;       /* NULL: none is kept */
	struct vu_state *state; /* NULL: none; vu_state.h */
	bool link;
	enum vu_trouble refused; /* why the last refused message was, if it tells */
	char last_error[200];
	time_t log_second;
	unsigned log_lines; /* in that second */

	bool try_again;       /* memory was short; the tick reconciles once more */
	bool conn_again;      /* the connection could not be listened to: the tick tries again */
	bool lend_later;      /* lent buffers hold memory: the tick looks after them */
	int64_t lend_wait_us; /* until when rings wait for lent buffers */
	unsigned drain_first;
	struct vu_queue *queue;
};

/* vu_socket.c: how connections come to be */
int vu_socket_open(struct vu_device *dev, char *why, size_t why_len);
void vu_socket_close(struct vu_device *dev);
void vu_socket_again(struct vu_device *dev);                           /* the connection ended */
int vu_socket_adopt(struct vu_device *dev, char *why, size_t why_len); /* listen_fd is there */
void vu_socket_pause(struct vu_device *dev);
void vu_socket_go(struct vu_device *dev);

/* vu_conn.c: framing */
int vu_conn_open(struct vu_device *dev, int fd); /* takes fd */
void vu_conn_close(struct vu_device *dev, const char *reason);
int vu_conn_reply(struct vu_device *dev, uint32_t payload_size, int fd); /* takes fd */
const char *vu_conn_adopt(struct vu_device *dev); /* conn is filled in; NULL, or what is wrong */
void vu_conn_pause(struct vu_device *dev);
void vu_conn_go(struct vu_device *dev);
void vu_conn_drop(struct vu_device *dev); /* without a word, also half of one */
void vu_close_fds(int *fds, unsigned n);

/* vu_message.c: the table and the gate. False: the connection must end. */
bool vu_message_handle(struct vu_device *dev, struct vu_message *msg, int *fds, unsigned nfds);
const char *vu_message_name(uint32_t request);

/* vu_on_memory.c */
bool vu_memory_gone(const struct vu_device *dev);
void vu_on_vanished(evutil_socket_t fd, short what, void *arg);
void vu_memory_forget(struct vu_device *dev);

/* vu_reset.c */
/* How much of what was said is forgotten: each includes the ones before it. */
enum vu_reset {
	VU_RESET_STARTED,   /* what is started */
	VU_RESET_RINGS,     /* what is enabled */
	VU_RESET_DRIVER,    /* what the guest's driver chose: features, sizes, addresses */
	VU_RESET_CONNECTION /* all of it */
};
int vu_device_reset(struct vu_device *dev, enum vu_reset what);

/* vu_reconcile.c: from configuration to views */
int vu_reconcile_ring(struct vu_device *dev, unsigned ring);
int vu_reconcile(struct vu_device *dev);
bool vu_queue_enabled(const struct vu_device *dev, unsigned ring);
void vu_park(struct vu_device *dev, unsigned ring, enum virtq_fault fault);
bool vu_park_all(struct vu_device *dev, enum virtq_fault fault);
void vu_reap_stuck(struct vu_device *dev);
void vu_close_call_fd(struct vu_queue *q, int *fd);
bool vu_any_stuck(const struct vu_device *dev);
bool vu_wake_caller(const struct virtq_view *v);

/* vu_tick.c: what is looked at from time to time */
void vu_tick_start(struct vu_device *dev);

/* Set a timer of ours. One for which there is no memory goes off at once: that is better than never. */
void vu_timer_set(struct event *timer, const struct timeval *after);
void vu_on_tick(evutil_socket_t fd, short what, void *arg);

/* vu_lend.c: buffers that are lent */
void vu_lend_drain(struct vu_device *dev, struct vu_queue *q, const struct virtq_view *old);
void vu_lend_reap(struct vu_device *dev);

/* vu_on_inflight.c: the ring was stopped, and who starts it again will say where */
void vu_inflight_stop(struct vu_device *dev, unsigned ring);

/* vu_bell.c */
void vu_bell_init(struct vu_queue *q);
void vu_bell_ring(struct vu_queue *q);
int vu_kick_set(struct vu_queue *q, int fd); /* takes fd, closes the old one */

/* vu_on_postcopy.c */
void vu_postcopy_end(struct vu_device *dev);
bool vu_postcopy_has(struct vu_device *dev, struct vu_queue *q, const struct vu_range range[3]);

/* vu_device.c */
void vu_log(struct vu_device *dev, enum vu_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int vu_refuse(struct vu_device *dev, enum vu_trouble trouble, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static inline bool vu_any_started(const struct vu_device *dev)
{
	for (unsigned i = 0; i < dev->nrings; i++)
		if (dev->queue[i].started)
			return true;
	return false;
}

static inline bool vu_has_feature(const struct vu_device *dev, unsigned bit)
{
	return dev->features & (1ull << bit);
}

static inline bool vu_has_protocol_feature(const struct vu_device *dev, unsigned bit)
{
	return dev->protocol_features & (1ull << bit);
}

static inline void vu_close_fd(int *fd)
{
	if (*fd >= 0)
		vu_close_fds(fd, 1);
	*fd = -1;
}

#endif

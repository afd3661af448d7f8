/* SPDX-License-Identifier: BSD-3-Clause */
/* A vhost-user back-end device: one socket, one front-end, many rings. */
#ifndef VU_H
#define VU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtq.h"

/*
 * Theory of operation
 *
 * A device is a socket path, listening or connecting, that serves one front-end at a
 * time and for ever: it accepts or reconnects again by itself. Everything here runs on
 * one control thread, the one that runs the libevent base the device was given; nothing
 * ever blocks on the peer. Lcores see none of this, only the struct virtq of each ring.
 *
 *   socket -> message -> gate (the table in vu_message.c) -> handler edits configuration
 *	    -> reconcile() makes a view per ring and publishes it -> ops tell the owner
 *	    -> the reply: so an acknowledgement means the lcores have switched already
 *
 * Ring 2i is queue pair i's receive queue as the guest names it (we send into it),
 * 2i + 1 its transmit queue (we receive from it).
 */

struct event_base;
struct usock_access;
struct vu_device;

/* KICK, CALL and ERR carry an 8-bit ring index. */
#define VU_QUEUE_PAIRS_MAX 128

/* Who is enabled before the first SET_VRING_ENABLE, where VHOST_USER_F_PROTOCOL_FEATURES
 * was negotiated. AUTO: nobody, except for front-ends that negotiate as the 2015 text of
 * the specification did, which expect the first pair. */
enum vu_initial_enable {
	VU_ENABLE_AUTO,
	VU_ENABLE_FIRST_PAIR,
	VU_ENABLE_NONE
};

enum vu_log_level {
	VU_LOG_ERROR,
	VU_LOG_WARNING,
	VU_LOG_INFO,
	VU_LOG_DEBUG
};

/* Called on the control thread. None may destroy the device. */
struct vu_device_ops {
	/**
	 * Fill in what the data path decides, view->burst and view->arg, from
	 * view->features and the ring's direction. Called before a view is published. A
	 * view left without a burst says that nobody polls this ring for now: it stays
	 * closed until vu_device_reconcile().
	 */
	void (*prepare)(void *arg, unsigned ring, struct virtq_view *view);

	/** A ring became usable (started and enabled) or ceased to be; lcores have switched. */
	void (*ring_changed)(void *arg, unsigned ring, bool usable);

	/** A front-end is there and its first queue works (up), or not any more. */
	void (*link_changed)(void *arg, bool up);

	/** vu_info.mtu may be another one. NULL: it limits nothing. */
	void (*mtu_changed)(void *arg);

	/**
	 * A post-copy migration to here begins, or (false) is over. Between the two whoever touches
	 * the guest's memory may sleep until its page has come over the network: only in bursts of
	 * this device's rings, and never in the control thread. NULL: nobody minds.
	 */
	void (*postcopy)(void *arg, bool on);

	/** One line for people. NULL: nobody listens. */
	void (*log)(void *arg, enum vu_log_level level, const char *line);
};

struct vu_device_conf {
	const char *path; /* as usock_check() wants it; copied */
	bool listen;      /* we create the socket; false: we connect, and try again for ever */
	/* Who may connect to the socket we create; copied. NULL: as the umask has it. */
	const struct usock_access *access;
	uint16_t queue_pairs; /* 1..VU_QUEUE_PAIRS_MAX, what GET_QUEUE_NUM answers */
	uint64_t features;    /* virtio bits offered: of vu_possible_features() */
	/* The guest's address for front-ends that ask us for the configuration space (GET_CONFIG);
	 * copied. NULL: we have no such space. */
	const uint8_t *mac;
	enum vu_initial_enable initial_enable;
	bool postcopy; /* offer post-copy migration; see the op */
	/* Neither listen nor connect: wait to be given the state of a device of another process,
	 * see vu_handover.h. */
	bool dormant;
	/* A file in a tmpfs, made if it is not there, in which rings leave what the next process has
	 * to know after a crash; copied. NULL: none. */
	const char *state_path;
	uint16_t peer_timeout_ms; /* for the rest of a message, or to read a reply; 0: 5000 */
	const struct vu_device_ops *ops; /* borrowed for the device's life */
	void *arg;                       /* handed to every op */
};

/** The virtio feature bits a device should offer, and all that it can. Any thread. */
uint64_t vu_default_features(void);
uint64_t vu_possible_features(void);

/** The protocol feature bits every device offers. Any thread. */
uint64_t vu_default_protocol_features(void);

/**
 * Create a device and start serving its socket.
 *
 * @param base	the control thread's loop; borrowed for the device's life
 * @param why	on failure one line naming what is wrong and what to do
 * @return 0, -EINVAL (configuration), -ENAMETOOLONG (path), -EADDRINUSE (somebody else's
 *	   file, or a live listener), or the socket call's error
 *
 * Control thread.
 */
int vu_device_create(struct event_base *base, const struct vu_device_conf *conf,
	struct vu_device **out, char *why, size_t why_len);

/**
 * Close everything: gates first, then the connection, mappings, descriptors and, where we
 * made it, the socket file. No op is called from here on. The rings are freed too: the
 * owner has taken them from its lcores before.
 */
void vu_device_destroy(struct vu_device *dev);

/**
 * Before vu_device_destroy(): the process ends and the front-end does not. What rings that run have
 * recorded at the state path stays for the next one, as after a crash.
 */
void vu_device_leave(struct vu_device *dev);

/**
 * Where an lcore may still be inside and the process ends all the same: stop listening or
 * connecting and remove the socket file where we made it. Everything else stays as it is until
 * the process has ended, which must be at once.
 */
void vu_device_abandon(struct vu_device *dev);

/** Ring i of 2 * queue_pairs; lives as long as the device. */
struct virtq *vu_device_ring(struct vu_device *dev, unsigned ring);

/** What vu_device_info() says of the guest's memory, without the rest. Control thread. */
const struct virtq_mem *vu_device_memory(const struct vu_device *dev);

/**
 * What to poll(2) for, in order to sleep until the guest kicks ring i: readable once it has. It
 * stays the same and open as long as the device, whatever the front-end does.
 * @return the descriptor, or -EINVAL, -EMFILE, -ENFILE, -ENOMEM
 *
 * Control thread. To be woken by it: any thread; virtq_arm() comes first.
 */
int vu_device_bell(struct vu_device *dev, unsigned ring);

/** Forget that the bell rang. Whoever sleeps by it. Never blocks. */
void vu_bell_silence(int bell);

/**
 * What prepare() decides has changed: ask it again for every ring.
 * @return 0: lcores have switched; -ETIMEDOUT: one has not left its ring
 *
 * Control thread, not from inside an op.
 */
int vu_device_reconcile(struct vu_device *dev);

/**
 * Serve a connected stream socket as if it had been accepted: one that was inherited, or an
 * end of a socketpair. The descriptor is ours from here on, also on failure.
 * @return 0, -EBUSY (a front-end is connected) or -ENOMEM
 *
 * Control thread.
 */
int vu_device_attach(struct vu_device *dev, int fd);

/** Drop the connection, as if the front-end had; listening or reconnecting goes on. */
void vu_device_disconnect(struct vu_device *dev, const char *reason);

/* ---- what a device is, for people and for the data path's owner ---- */

enum vu_connection {
	VU_WAITING,
	VU_CONNECTED
};

/* Why there is no traffic, as far as can be told from here. */
enum vu_trouble {
	VU_TROUBLE_NONE,
	VU_TROUBLE_NO_FRONT_END,    /* nobody has connected / nobody listens at the path */
	VU_TROUBLE_CONNECT_REFUSED, /* connecting: error in vu_info.socket_errno */
	VU_TROUBLE_CANNOT_ACCEPT,   /* listening: likewise */
	VU_TROUBLE_NO_DRIVER,       /* connected, but the guest's driver has not started */
	VU_TROUBLE_NO_MEMORY_TABLE, /* the driver has started, no memory table was accepted */
	VU_TROUBLE_MEMORY_REJECTED, /* see vu_info.last_error */
	VU_TROUBLE_RING_ADDRESSES,  /* ring addresses are not in the memory table */
	VU_TROUBLE_RING_POSITION,   /* a ring's size or base is none of its format's */
	VU_TROUBLE_FEATURES,        /* front-end asked for features not offered */
	VU_TROUBLE_QUEUES,          /* front-end uses more queues than configured */
	VU_TROUBLE_NOT_ENABLED,     /* started, never enabled */
	VU_TROUBLE_PARKED,          /* a ring is parked: see its fault */
	VU_TROUBLE_IOMMU,           /* ring addresses are not translated (yet) */
	VU_TROUBLE_NOT_SHARED,      /* the driver kicks, and we see empty rings */
	VU_TROUBLE_MEMORY_GONE,     /* its file was cut short, or had no page: virtq_trap.h */
};

struct vu_info {
	const char *path;
	bool listen;
	enum vu_connection connection;
	int socket_errno; /* why a front-end could not be reached or accepted; 0: none */
	bool link;
	uint16_t queue_pairs; /* configured */
	uint64_t features_offered;
	uint64_t protocol_features_offered;
	uint64_t features;           /* acknowledged; 0 before SET_FEATURES */
	uint64_t protocol_features;  /* acknowledged */
	uint8_t status;              /* of the device, virtio 1.2, 2.1; 0 if we are not told */
	uint16_t mtu;                /* of the guest's interface, as far as we are told; 0: any */
	const struct virtq_mem *mem; /* borrowed until control returns to the loop; may be NULL */
	uint64_t connections;        /* front-ends seen so far */
	enum vu_trouble trouble;
	char last_error[200]; /* the last message refused, or why the last connection ended */
};

struct vu_ring_info {
	bool started, enabled, usable;
	uint16_t num; /* entries; 0 before SET_VRING_NUM */
	bool packed;
	uint16_t avail, used; /* our position; packed: bit 15 is the wrap counter */
	uint16_t fill;        /* entries waiting for us */
	bool untouched;       /* usable, but the driver has not made anything available yet */
	int call_fd, kick_fd; /* -1: none */
	enum virtq_fault fault;
	struct virtq_stats stats; /* a copy */
};

/* Control thread. */
void vu_device_info(const struct vu_device *dev, struct vu_info *info);
void vu_ring_info(const struct vu_device *dev, unsigned ring, struct vu_ring_info *info);

/* One request as doc/protocol.md has it. */
struct vu_request_info {
	const char *name, *does;
	int needs; /* protocol feature without which it is refused; -1: none */
	bool replies;
};

/** What the back-end knows of a request; false: it does not know it. Any thread. */
bool vu_request_info(uint32_t id, struct vu_request_info *info);

/* Whether a feature bit is offered. */
enum vu_offer {
	VU_OFFER_NEVER,
	VU_OFFER_OPTED, /* by ports that are configured for it */
	VU_OFFER_ALWAYS
};

/* One feature bit as doc/protocol.md has it. */
struct vu_bit_info {
	const char *name;
	enum vu_offer offer;
	const char *why; /* what for, or why not */
};

/** A virtio or a protocol feature bit; false: we do not know it. Any thread. */
bool vu_feature_info(unsigned bit, struct vu_bit_info *info);
bool vu_protocol_feature_info(unsigned bit, struct vu_bit_info *info);

/** The sentence for a trouble, in words an operator can act on. */
const char *vu_trouble_text(enum vu_trouble trouble);

/**
 * Names of the bits set, separated by spaces, unknown ones as "bit37".
 * @return buf
 */
const char *vu_feature_names(uint64_t features, char *buf, size_t len);
const char *vu_protocol_feature_names(uint64_t features, char *buf, size_t len);
const char *vu_status_names(uint64_t status, char *buf, size_t len);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* A vhost-user front-end: polite like the well-known ones, or as hostile as a test wants it. */
#ifndef TS_FRONTEND_H
#define TS_FRONTEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#include "ts_guest.h"
#include "ts_ring.h"
#include "ts_vhost.h"

#define TS_MAX_RINGS   256
#define TS_MAX_FDS     253 /* the most Linux passes in one message */
#define TS_MAX_PAYLOAD 4096

/** A base no ring of either format can have: begin where a new ring does. */
#define TS_FRESH 0x7fff0000u

/** What a current Linux guest takes of what is offered, on a split ring; for a packed one add
 * VIRTIO_F_RING_PACKED. */
#define TS_GUEST_MODERN                                                             \
	(TS_BIT(VIRTIO_NET_F_CSUM) | TS_BIT(VIRTIO_NET_F_GUEST_CSUM) |              \
		TS_BIT(VIRTIO_NET_F_GUEST_TSO4) | TS_BIT(VIRTIO_NET_F_GUEST_TSO6) | \
		TS_BIT(VIRTIO_NET_F_GUEST_ECN) | TS_BIT(VIRTIO_NET_F_GUEST_UFO) |   \
		TS_BIT(VIRTIO_NET_F_HOST_TSO4) | TS_BIT(VIRTIO_NET_F_HOST_TSO6) |   \
		TS_BIT(VIRTIO_NET_F_HOST_ECN) | TS_BIT(VIRTIO_NET_F_HOST_UFO) |     \
		TS_BIT(VIRTIO_NET_F_MRG_RXBUF) | TS_BIT(VIRTIO_NET_F_MQ) |          \
		TS_BIT(VIRTIO_F_ANY_LAYOUT) | TS_BIT(VIRTIO_RING_F_INDIRECT_DESC) | \
		TS_BIT(VIRTIO_RING_F_EVENT_IDX) | TS_BIT(TS_F_PROTOCOL_FEATURES) |  \
		TS_BIT(VIRTIO_F_VERSION_1))

struct ts_profile;

/** What the front-end has of one ring. The eventfds are its own, closed by ts_fe_free(). */
struct ts_fe_ring {
	struct ts_ring *
		ring; /* made by ts_fe_make_rings() or set by the test; NULL: unused by the guest */
	bool own_ring;
	int kick;
	int call;
	int err;
	int masked;    /* a call fd some front-ends send first; nothing may stay on it after CALL */
	uint32_t base; /* what SET_VRING_BASE will send, at first TS_FRESH; see ts_fe_base() */
};

/**
 * One front-end. Calls are synchronous, bounded by timeout_ms, and return 0 or a negative errno:
 *	-ETIMEDOUT	the back-end did not read or did not answer
 *	-ECONNRESET	it closed the connection
 *	-EPROTO		its answer is malformed (wrong id, flags, size, unexpected fds)
 *	-EREMOTEIO	it answered NEED_REPLY with failure
 * The reason in words is in `why`. One thread may use a front-end.
 */
struct ts_fe {
	int sock;
	int listener;
	char path[108]; /* of the listener, removed by ts_fe_free() */
	int timeout_ms;
	size_t cut_after; /* so many bytes more, then the connection breaks; 0: it does not */
	void (*pump)(
		void *arg); /* called while waiting: runs a back-end that lives in this thread */
	void *pump_arg;
	const struct ts_profile *profile;
	struct ts_guest *guest;
	unsigned pairs;         /* queue pairs the device has */
	unsigned active;        /* of these, enabled: 1..pairs */
	uint64_t want;          /* virtio features the guest would take; with ACCESS_PLATFORM an
				 * I/O address is guest->iova more than the guest address */
	uint64_t want_protocol; /* protocol features the front-end knows */
	uint64_t need_reply;    /* bit per request id: ask for an acknowledgement if negotiated */
	uint64_t offered;       /* GET_FEATURES */
	uint64_t features;      /* SET_FEATURES: offered & want */
	uint64_t offered_protocol;
	uint64_t protocol; /* SET_PROTOCOL_FEATURES */
	uint64_t queue_num;
	uint64_t mem_slots;
	bool log_rings;  /* SET_VRING_ADDR asks to log the ring itself, too */
	unsigned added;  /* regions of the guest that ADD_MEM_REG has told on this connection */
	int backend_req; /* our end of the back-end channel; -1 none */
	int inflight_fd; /* the region, kept over connections; -1: none yet */
	struct ts_inflight inflight;
	struct ts_fe_ring rings[TS_MAX_RINGS];
	char why[160];
};

/* ---- connection ---- */

/** Prepare for a profile (ts_frontend.h: ts_qemu_10, ...): masks from it, one pair, 2 s timeout. */
void ts_fe_init(struct ts_fe *fe, const struct ts_profile *profile, struct ts_guest *guest);

/** Disconnect, stop listening (and remove the path), close all eventfds, free rings it made. */
void ts_fe_free(struct ts_fe *fe);

/** Connect over a socketpair; *peer is the back-end's end, the caller's to close or hand over. */
int ts_fe_pair(struct ts_fe *fe, int *peer);

/** Connect to a listening back-end, trying until the timeout while nobody listens. */
int ts_fe_connect(struct ts_fe *fe, const char *path);

/** Listen for a connecting back-end (replaces a file of that name), then wait for it. */
int ts_fe_listen(struct ts_fe *fe, const char *path);
int ts_fe_accept(struct ts_fe *fe);

/** Close the connection only; rings, bases and eventfds stay for the next one. */
void ts_fe_disconnect(struct ts_fe *fe);

/** Wait up to the timeout for the back-end to close; false if it did not or sent something. */
bool ts_fe_closed(struct ts_fe *fe);

/** True if not one byte waits to be read: there was no answer nobody asked for. */
bool ts_fe_quiet(struct ts_fe *fe);

/* ---- whole sequences ---- */

enum ts_step_op {
	TS_S_END,
	/* Loops, closed by TS_S_NEXT. Rings are those of the pair inside EACH_PAIR, else all. */
	TS_S_EACH_PAIR,
	TS_S_EACH_RING,
	TS_S_EACH_RX,
	TS_S_EACH_TX,
	TS_S_NEXT,
	TS_S_GET_FEATURES,
	TS_S_SET_FEATURES,
	TS_S_GET_PROTOCOL,
	TS_S_SET_PROTOCOL,
	TS_S_SET_OWNER,
	TS_S_RESET_OWNER,
	TS_S_GET_QUEUE_NUM, /* arg 1: the answer is compared in rings, not in pairs */
	TS_S_GET_MEM_SLOTS,
	TS_S_BACKEND_REQ,
	TS_S_ADD_STATUS, /* arg: status bits to add to what GET_STATUS says */
	TS_S_SET_STATUS, /* arg: status */
	TS_S_MEM_TABLE,  /* arg 1: ADD_MEM_REG for each region where negotiated */
	TS_S_INFLIGHT,   /* SET_INFLIGHT_FD, and the first time GET_INFLIGHT_FD before it */
	TS_S_NUM,
	TS_S_BASE, /* arg: enum ts_base_from */
	TS_S_ADDR,
	TS_S_KICK,
	TS_S_CALL,
	TS_S_CALL_MASKED, /* the `masked` eventfd instead of `call` */
	TS_S_ERR,
	TS_S_ENABLE, /* arg: enum ts_enable; outside a ring loop: the pair's even index only */
	TS_S_GET_BASE,
};

enum ts_base_from {
	TS_BASE_SAVED,      /* what GET_VRING_BASE said */
	TS_BASE_AVAIL,      /* what the ring's driver has published */
	TS_BASE_AVAIL_HALF, /* what was saved, packed without its used half */
};

enum ts_enable {
	TS_OFF,
	TS_ON,
	TS_ON_IF_ACTIVE, /* 1 for rings of active pairs, nothing for the others */
	TS_BY_ACTIVE,    /* 1 for rings of active pairs, 0 for the others */
};

enum ts_step_flags {
	TS_ONCE = 1 << 0,        /* inside EACH_PAIR: the first pair only */
	TS_LAST = 1 << 1,        /* inside EACH_PAIR: the last pair only */
	TS_IF_PROTOCOL = 1 << 2, /* only if the back-end offers VHOST_USER_F_PROTOCOL_FEATURES */
	TS_IF_MANY = 1 << 3,     /* only with more than one pair */
};

struct ts_step {
	enum ts_step_op op;
	uint32_t arg;
	unsigned flags;
	uint64_t protocol; /* all of these protocol feature bits must be negotiated */
};

/** The habits of one front-end: what it acknowledges and in which order it sends what. */
struct ts_profile {
	const char *name;
	uint64_t protocol;   /* protocol features it knows */
	uint64_t need_reply; /* bit per request id it wants acknowledged when it may ask */
	const struct ts_step *init;
	const struct ts_step *start;
	const struct ts_step *stop;
	const struct ts_step *channels; /* the guest changed the number of active pairs */
};

extern const struct ts_profile
	ts_qemu_seed; /* the 2015 development tree the first text came from */
extern const struct ts_profile ts_qemu_2_5;
extern const struct ts_profile ts_qemu_4;
extern const struct ts_profile ts_qemu_7;
extern const struct ts_profile ts_qemu_10;
extern const struct ts_profile ts_cloud_hypervisor;
extern const struct ts_profile ts_virtio_user;       /* DPDK's */
extern const struct ts_profile *const ts_profiles[]; /* all of them, NULL at the end */

/** Send the messages of a step table (a profile's or a test's own); stops at the first error. */
int ts_fe_run(struct ts_fe *fe, const struct ts_step *steps);

/** Connected: negotiate. Afterwards features and protocol are known and rings can be made. */
int ts_fe_negotiate(struct ts_fe *fe);

/**
 * Make 2 * pairs rings of `size` with the negotiated features in guest region `region`, starting at
 * rings[].base (see ts_fe_boot_anew()), their eventfds attached. Rings made before are freed first;
 * their guest memory is not: ts_guest_forget().
 */
int ts_fe_make_rings(struct ts_fe *fe, unsigned region, uint32_t size, unsigned ring_flags);

/** The guest boots anew: its rings will begin at their beginning, and nothing is in flight. */
void ts_fe_boot_anew(struct ts_fe *fe);

/** rings[].base; TS_FRESH becomes where a new ring of the negotiated format begins. */
uint32_t ts_fe_base(struct ts_fe *fe, unsigned index);

/**
 * The guest's driver is up: hand over memory and rings. cloud-hypervisor takes each base from the
 * avail ring: buffers posted before ts_fe_start() are then skipped by the device, as they really are.
 */
int ts_fe_start(struct ts_fe *fe);

/** The guest's driver goes down: stop the rings, saving their bases. */
int ts_fe_stop(struct ts_fe *fe);

/** ethtool -L in the guest. */
int ts_fe_set_active(struct ts_fe *fe, unsigned pairs);

/** The back-end died: the bases are what it published last, as QEMU reconstructs them. */
void ts_fe_recover_bases(struct ts_fe *fe);

/* ---- single messages, polite ---- */

/** Ask for a region for so many rings of so many entries; the one kept so far is closed. */
int ts_fe_get_inflight(struct ts_fe *fe, uint16_t num_queues, uint16_t queue_size);

/** Hand the region kept to the back-end. */
int ts_fe_set_inflight(struct ts_fe *fe);

int ts_fe_get_u64(struct ts_fe *fe, enum ts_request request, uint64_t *value);
int ts_fe_set_u64(struct ts_fe *fe, enum ts_request request, uint64_t value);
int ts_fe_simple(struct ts_fe *fe, enum ts_request request);
int ts_fe_set_state(struct ts_fe *fe, enum ts_request request, uint32_t index, uint32_t num);
int ts_fe_set_mem_table(struct ts_fe *fe);
int ts_fe_add_mem_reg(struct ts_fe *fe, unsigned region);
int ts_fe_set_addr(struct ts_fe *fe, unsigned index);
int ts_fe_enable(struct ts_fe *fe, unsigned index, bool on);
int ts_fe_get_base(struct ts_fe *fe, unsigned index);

/** SET_LOG_BASE; the answer must be the message's own 16 bytes, as rust-vmm wants it. */
int ts_fe_set_log(struct ts_fe *fe, int fd, uint64_t size, uint64_t offset);

/**
 * Migration begins or ends, as QEMU says it while the rings run: SET_FEATURES with or without
 * VHOST_F_LOG_ALL, then the addresses of every ring the guest uses. All of it has been handled then.
 */
int ts_fe_log(struct ts_fe *fe, bool on);

/** KICK, CALL or ERR with this fd, or with fd -1 and the no-fd bit. */
int ts_fe_set_fd(struct ts_fe *fe, enum ts_request request, unsigned index, int fd);

/** UPDATE or INVALIDATE a translation, which is always acknowledged: -EREMOTEIO if it failed. */
int ts_fe_iotlb(struct ts_fe *fe, const struct ts_iotlb *m);

/** Read one request of the back-end's, if there is one: 1, 0, or -EPROTO. */
int ts_fe_miss(struct ts_fe *fe, struct ts_iotlb *m);

/** Hand over one end of a socket for the back-end's requests; the caller keeps both. */
int ts_fe_set_backend(struct ts_fe *fe, int fd);

/** Replace a ring's call eventfd by a fresh one and send it; *old gets the caller's old one. */
int ts_fe_new_call(struct ts_fe *fe, unsigned index, int *old);

/** A GET_FEATURES round trip: everything sent before has been handled. */
int ts_fe_barrier(struct ts_fe *fe);

/** What SET_MEM_TABLE will carry, for tests that bend it before sending. */
void ts_fe_mem_table(const struct ts_fe *fe, struct ts_mem_table *table);

/* ---- raw, for hostile tests ---- */

struct ts_reply {
	struct ts_hdr hdr;
	uint8_t payload[TS_MAX_PAYLOAD] __attribute__((aligned(8)));
	int fds[TS_MAX_FDS]; /* the caller's to close */
	unsigned n_fds;
};

/** A message as sent: `len` payload bytes follow the header, whatever hdr.size claims. */
struct ts_msg {
	struct ts_hdr hdr;
	uint8_t payload[TS_MAX_PAYLOAD] __attribute__((aligned(8)));
	size_t len;
	int fds[TS_MAX_FDS]; /* borrowed */
	unsigned n_fds;
};

/** Fill in a message with consistent sizes, version 1 and no fds; then spoil what you like. */
void ts_msg_make(struct ts_msg *m, uint32_t request, const void *payload, size_t len);

/** One piece of the stream: sent with one sendmsg() of its own. */
struct ts_frag {
	const void *data;
	size_t len;
	const int *fds;
	unsigned n_fds;
	unsigned pause_ms; /* before it */
};

int ts_send_frags(struct ts_fe *fe, const struct ts_frag *frags, unsigned n);

/** One message in one write, nothing checked: `size` goes into the header, payload_len are sent. */
int ts_send_raw(struct ts_fe *fe, uint32_t request, uint32_t flags, uint32_t size,
	const void *payload, size_t payload_len, const int *fds, unsigned n_fds);

int ts_send_msg(struct ts_fe *fe, const struct ts_msg *m);

/** Byte by byte, each with a pause before it; the fds travel with the first byte. */
int ts_send_dribble(struct ts_fe *fe, const struct ts_msg *m, unsigned pause_ms);

/** Two messages in one write; only the first one's fds are sent. */
int ts_send_two(struct ts_fe *fe, const struct ts_msg *a, const struct ts_msg *b);

/** The first `at` bytes without fds, the rest with them. */
int ts_send_late_fds(struct ts_fe *fe, const struct ts_msg *m, size_t at);

/** The first `at` bytes (with the fds), then end of file. The receiving side stays open. */
int ts_send_cut(struct ts_fe *fe, const struct ts_msg *m, size_t at);

/** Read one whole message, checking nothing but that it fits. */
int ts_recv_reply(struct ts_fe *fe, struct ts_reply *reply);

/** Read one message and check that it answers `request` with flags 0x5, `size` bytes and no fd. */
int ts_recv_answer(struct ts_fe *fe, uint32_t request, void *payload, uint32_t size);

/** Close the fds that came with a reply. */
void ts_reply_close(struct ts_reply *reply);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* A virtqueue: what is true now (view), where we are (virtq), what became of every packet. */
#ifndef VIRTQ_H
#define VIRTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_ring.h>

#include "virtq_gate.h"
#include "virtq_limits.h"
#include "virtq_mem.h"
#include "virtq_order.h"

/*
 * Theory of operation
 *
 * Each ring has three structs with three owners:
 *
 *   vu_queue_conf  what the front-end said            control thread (lib/vhost_user)
 *   virtq_view     what is true now, immutable        made by control, read by the lcore
 *   virtq          where we are in the ring           the polling lcore
 *
 * reconcile() makes a view out of the configuration and publishes it through the gate.
 * The lcore calls virtq_burst() again and again: in, the view's burst function, out. With
 * the gate closed the control thread owns the struct virtq and may read and set where we
 * are.
 *
 * A burst function is an algorithm of lib/vnet instantiated over a struct virtq_ops (the
 * ring's verbs) that the compiler sees as a constant: virtq_split.h, virtq_packed.h.
 */

/* Why a ring is parked: only the guest's driver, or its front-end, can have caused it, only a restart of
 * the ring (GET_VRING_BASE, then a kick) mends it. */
#define VIRTQ_FAULTS(X)                                                                          \
	X(NONE, "none")                                                                          \
	X(AVAIL_JUMP, "the driver made more descriptors available than the ring holds")          \
	X(BAD_INDEX, "a descriptor index is outside its table")                                  \
	X(LOOP, "a descriptor chain is longer than its table: a loop")                           \
	X(TOO_LONG, "a descriptor chain has more segments than one burst holds")                 \
	X(BAD_ADDRESS, "a descriptor points outside guest memory")                               \
	X(NO_PERMISSION, "the guest's IOMMU does not permit what a descriptor asks for")         \
	X(BAD_DIRECTION, "a descriptor is writable where it must be readable, or the reverse")   \
	X(BAD_INDIRECT, "an indirect table has a wrong length, is nested or was not negotiated") \
	X(TOO_MANY_BYTES, "a descriptor chain is 4 GiB or longer")                               \
	X(EMPTY, "a receive buffer has no room at all")                                          \
	X(NO_MEMORY, "memory that the front-end shares has vanished")

enum virtq_fault {
#define X(name, text) VIRTQ_FAULT_##name,
	VIRTQ_FAULTS(X)
#undef X
	VIRTQ_FAULT_COUNT,
	VIRTQ_MISS = VIRTQ_FAULT_COUNT /* no fault: the IOTLB has to be asked for */
};

/* Every packet that is lost is lost for one of these reasons. Names are the statistics'
 * names and stable; rx_ is from the guest, tx_ towards it; the text says what to do. */
#define VIRTQ_DROPS(X)                                                                             \
	X(RX_NO_MBUF, "rx_no_mbuf", "no free mbuf: enlarge the pool (--mbufs)")                    \
	X(RX_SHORT, "rx_short", "the guest sent a chain without a whole Ethernet header")          \
	X(RX_BAD_HEADER, "rx_bad_virtio_header",                                                   \
		"the guest's virtio-net header contradicts its packet or the negotiated features") \
	X(RX_TOO_BIG, "rx_too_big", "the packet does not fit one buffer and chaining is off")      \
	X(RX_DISABLED, "rx_ring_disabled",                                                         \
		"the guest sent on a queue that is disabled or that nobody polls")                 \
	X(TX_NO_BUFFER, "tx_no_guest_buffer",                                                      \
		"the guest posts receive buffers too slowly: give it CPU, or a larger ring")       \
	X(TX_DISCONNECTED, "tx_not_connected", "no guest is connected")                            \
	X(TX_STOPPED, "tx_ring_stopped", "the guest's driver has not started this queue")          \
	X(TX_DISABLED, "tx_ring_disabled", "the guest has disabled this queue")                    \
	X(TX_IOMMU, "tx_iommu_wait", "the guest's IOMMU has not told yet where its buffers are")   \
	X(TX_BROKEN, "tx_ring_parked", "the ring is parked after a driver error: see its fault")   \
	X(TX_TOO_BIG, "tx_too_big", "the packet does not fit the guest's receive buffer")          \
	X(TX_OFFLOAD, "tx_offload_unsupported",                                                    \
		"the packet needs an offload the guest did not negotiate")

enum virtq_drop {
#define X(name, str, text) VIRTQ_DROP_##name,
	VIRTQ_DROPS(X)
#undef X
	VIRTQ_DROP_COUNT
};

const char *virtq_fault_text(enum virtq_fault fault);
const char *virtq_drop_name(enum virtq_drop drop);
const char *virtq_drop_advice(enum virtq_drop drop);

/* Frame sizes as librte_vhost bins them: <64, 64, 65-127, 128-255, 256-511, 512-1023,
 * 1024-1518, above. */
#define VIRTQ_SIZE_BINS 8

/* Written by whoever polls the ring, read by anybody (virtq_load). Never reset: who wants
 * to count from zero subtracts an earlier copy. */
struct virtq_stats {
	uint64_t packets;
	uint64_t bytes; /* Ethernet frames, without the virtio-net header */
	uint64_t multicast;
	uint64_t broadcast;
	uint64_t size[VIRTQ_SIZE_BINS];
	uint64_t calls;        /* notifications sent to the guest */
	uint64_t calls_failed; /* its eventfd was full or broken */
	uint64_t iotlb_misses; /* addresses that had to be asked for */
	uint64_t recovered;    /* chains that a dead process had, given back by the next one */
	uint64_t no_mbuf;      /* times a burst found the mbuf pool empty; nothing was lost */
	uint64_t lent;         /* packets that were not copied */
	uint64_t lent_not;     /* that were, because too much was lent, or for too long */
	uint64_t direct;       /* packets that went to another guest without an mbuf */
	uint64_t repeated;     /* that it may have sent, taken again: VIRTQ_BURST at most */
	uint64_t drops[VIRTQ_DROP_COUNT];
};

struct virtq;
struct virtq_inflight;
struct virtq_lender;
struct virtq_log;
struct virtq_view;

/**
 * Move up to n packets (struct rte_mbuf *) between the ring and pkts.
 * @return how many packets were moved: towards the guest, how many of pkts are done with
 *
 * Lcore, inside the gate.
 */
typedef uint16_t (*virtq_burst_fn)(
	struct virtq *vq, const struct virtq_view *view, void **pkts, uint16_t n);

/* What is true of a started ring. Made by the control thread, never changed. */
struct virtq_view {
	/* the ring, in our addresses: descriptors, driver area, device area */
	struct vring_desc *desc; /* packed: struct vring_packed_desc, which is as large */
	union {
		struct vring_avail *avail;
		struct vring_packed_desc_event *driver;
	};
	union {
		struct vring_used *used;
		struct vring_packed_desc_event *device;
	};
	uint16_t num;    /* entries, a power of two for split */
	bool packed;     /* VIRTIO_F_RING_PACKED */
	uint8_t hdr_len; /* virtio-net header: 10 or 12 */
	bool event_idx;  /* VIRTIO_RING_F_EVENT_IDX */
	bool indirect;   /* VIRTIO_RING_F_INDIRECT_DESC */
	bool kicks;      /* the front-end gave a kick eventfd: the driver can wake who sleeps */
	bool patient;    /* the control thread works with it, and calls by virtq_signal() */
	int call_fd;     /* non-blocking eventfd, or -1; owned by the configuration */
	struct virtq_mem *mem;
	struct virtq_mem *tables; /* where indirect tables are looked up; NULL: in mem */
	int miss_fd;              /* eventfd to write after a miss; only with an IOTLB's table */
	virtq_burst_fn burst;
	const void *arg;   /* what the burst needs to know, see its own documentation */
	uint64_t features; /* negotiated virtio features */

	/* The dirty log, NULL: nobody copies the guest's memory; virtq_log.h. The view holds a
	 * reference. */
	struct virtq_log *log;
	uint64_t log_used; /* guest address of a split ring's used area */
	bool log_ring;     /* also what we write to the ring itself */

	/* The ring's part of the in-flight region, NULL: it has none; virtq_inflight.h. The view
	 * holds a reference to the region. */
	void *inflight_ring;
	struct virtq_inflight *inflight;
	bool tracked; /* that region is a record of our own: virtq_track.h */

	/* Who lends the ring's buffers, NULL: nobody, every chain is given back in the burst that
	 * took it; virtq_lend.h. Lasts longer than the view. */
	struct virtq_lender *lender;
};

/* How far the buffers are that we send to: lib/vnet/far.h. The lcore's; others read .on. */
struct virtq_far {
	uint16_t left;  /* bursts until the next one that is measured */
	uint8_t doubts; /* comparisons in turn that said the opposite */
	bool trying;    /* the one that is measured next goes past the cache */
	bool on;
	uint32_t took; /* what was measured the ordinary way */
};

/* Where we are. Line 0 is all an idle poll touches. */
struct virtq {
	struct virtq_gate gate;
	uint16_t avail; /* next available entry to take; see virtq_start() for packed */
	uint16_t
		avail_seen; /* split: the driver's index when last read; packed: avail, a burst ago */
	uint16_t used;      /* next used entry to write */
	uint16_t called;    /* used when the guest was last asked whether to call (event index) */
	bool called_valid;  /* false until the first call after a start */
	bool armed;         /* the driver has been asked to kick: virtq_arm() */
	uint8_t fault;      /* enum virtq_fault, 0 while healthy */
	uint8_t closed;     /* enum virtq_drop for what is sent while the gate is closed;
			      * written by control, read by the lcore */
	uint8_t pending;    /* packed: head_rest is still to be written, which publishes;
			      * enum packed_pending */
	uint16_t head_at;   /* packed: the first descriptor given since the last publication */
	uint64_t head_rest; /* packed: its second half: length, id, flags */
	uint64_t announce;  /* virtq_announce(); set by control, taken by the lcore */
	uint64_t miss;      /* I/O address without a translation; valid with miss_perm */
	uint8_t miss_perm;  /* enum virtq_perm, set by the lcore; control sets 0: try again */
	_Alignas(64) struct virtq_stats stats;
	struct virtq_far far;
};

/** A new ring, closed (TX_DISCONNECTED). Free with virtq_free() after its lcores left. */
struct virtq *virtq_new(void);
void virtq_free(struct virtq *vq);

/** One burst. Lcore; one at a time per ring. */
static inline uint16_t virtq_burst(struct virtq *vq, void **pkts, uint16_t n)
{
	const struct virtq_view *view = virtq_gate_enter(&vq->gate);
	uint16_t done = 0;

	if (virtq_likely(view != NULL))
		done = view->burst(vq, view, pkts, n);
	virtq_gate_leave(&vq->gate);
	return done;
}

/**
 * Ask the driver to kick when it makes something available, in order to sleep until then.
 *
 * @return true: nothing is there now, and for whatever comes there will be a kick (on a closed
 *	   ring, ring_changed() of the device); false: there is something to do already, or
 *	   nobody could kick, and nothing was asked for
 *
 * Lcore that polls the ring, between bursts. virtio 1.2, 2.7.7 and 2.8.10 "Notifications".
 */
bool virtq_arm(struct virtq *vq);

/** Ask for kicks no more: we poll again. Lcore that polls the ring. */
void virtq_disarm(struct virtq *vq);

/**
 * Have a ring that we receive from deliver one RARP with this source address, as if the guest had
 * sent it: the guest has moved here and cannot say so itself. NULL: not any more.
 *
 * Control thread, at any time. The next burst does it; of several requests until then, the last.
 */
void virtq_announce(struct virtq *vq, const uint8_t mac[6]);

/** Take such a request. False: there was none. Lcore, inside the gate. */
bool virtq_announced(struct virtq *vq, uint8_t mac[6]);

static inline void virtq_drop(struct virtq *vq, enum virtq_drop why, uint16_t n)
{
	virtq_count(&vq->stats.drops[why], n);
}

/* Park the ring: the burst ends, later ones do nothing, control finds out by itself. */
static inline void virtq_park(struct virtq *vq, enum virtq_fault fault)
{
	virtq_store(&vq->fault, (uint8_t)fault);
}

/**
 * Count a frame in packets, bytes, casts and size bins.
 * @param frame	its first byte; at least 6 must be readable
 */
void virtq_count_frame_slow(struct virtq_stats *st, const uint8_t *frame);

static inline void virtq_count_frame(struct virtq_stats *st, const uint8_t *frame, uint32_t len)
{
	uint32_t bin = len < 64      ? 0
		       : len == 64   ? 1
		       : len < 1024  ? 27 - (uint32_t)__builtin_clz(len)
		       : len <= 1518 ? 6
				     : 7;

	virtq_count(&st->size[bin], 1);
	if (virtq_unlikely(frame[0] & 1))
		virtq_count_frame_slow(st, frame);
}

/* ---- control thread, gate closed ---- */

/**
 * Take a position, before the first view of a start is published.
 * @param base	as SET_VRING_BASE gives it. Split: the next available entry; the used position
 *		is what the ring itself says, so that a ring taken over from a back-end that
 *		died goes on where the driver saw it stop. Packed: in the low half the next
 *		available, in the high half the next used descriptor, each an index in bits
 *		0 to 14 and the wrap counter in bit 15; a high half of 0 may have been left out, as
 *		the ring shows. If the view's in-flight region tells of a crash, the region decides.
 *
 * Clears a fault. Tells the driver not to kick: we poll.
 */
void virtq_start(struct virtq *vq, const struct virtq_view *view, uint32_t base);

/** Where we are, as GET_VRING_BASE answers it. */
uint32_t virtq_position(const struct virtq *vq, bool packed);

/** Entries the driver has made available and we have not taken. For people: any thread that
 * keeps the view from being freed; 0 if the ring makes no sense just now. */
uint16_t virtq_fill(const struct virtq *vq, const struct virtq_view *view);

/**
 * Consume what the driver made available and throw it away: a started but disabled TX
 * ring (vhost-user specification, "Ring states").
 * @param view	a view that is not published
 * @param max	no more chains after so many ring entries
 * @return how many entries there were
 */
uint32_t virtq_discard(struct virtq *vq, const struct virtq_view *view, uint32_t max);

/* What virtq_peek() found: a descriptor as the driver wrote it, or one of an indirect table. Of one
 * that is itself a table: whether to read that. */
typedef bool (*virtq_peek_fn)(void *arg, uint64_t addr, uint32_t len, bool table);

/**
 * Look at buffers the driver has made available, without taking them; what they say may change at
 * any moment, and a chain that makes no sense ends it.
 * @param view	in force: it is read while the lcore works with it
 * @param max	at most so many descriptors
 */
void virtq_peek(const struct virtq *vq, const struct virtq_view *view, uint32_t max,
	virtq_peek_fn fn, void *arg);

/* Room for the view's lifetime. */
struct virtq_view *virtq_view_new(const struct virtq_view *from);

/** Drop the view and its references on memory tables, log and in-flight region. */
void virtq_view_free(struct virtq_view *view);

#endif

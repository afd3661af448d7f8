/* SPDX-License-Identifier: BSD-3-Clause */
/* A virtio-net guest on two rings: it posts, receives, sends and reaps, and checks the device. */
#ifndef TS_NET_H
#define TS_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#include "ts_ring.h"

#define TS_POISON 0xa5 /* fills buffers before the device gets them, and the gaps around them */
#define TS_GAP    16u  /* bytes of gap before and after each segment */

/* Feature bits the distribution's header does not know yet. */
#define TS_NET_F_GUEST_USO4   54
#define TS_NET_F_GUEST_USO6   55
#define TS_NET_F_HOST_USO     56
#define TS_NET_HDR_GSO_UDP_L4 5

/** Bytes of virtio-net header in front of each packet: 10 or 12 (VIRTIO 1.2 section 5.1.6). */
unsigned ts_net_hdr_len(uint64_t features);

struct ts_buf;

/**
 * One queue pair of a guest. rx or tx may be NULL if a test needs only one. Every buffer is
 * surrounded by gaps that are checked when it comes back; what a device did wrong is in `faults`
 * (packet rules) and in the rings' own faults (ring rules): ts_net_faults() adds them.
 */
struct ts_net {
	struct ts_guest *guest;
	unsigned region; /* where buffers are allocated */
	struct ts_ring *rx;
	struct ts_ring *tx;
	uint64_t features;
	unsigned hdr_len;
	unsigned n_bufs; /* how many RX buffers the last received packet took */
	struct ts_faults faults;
	struct ts_buf *idle; /* buffers the device does not have */
};

/** Set up; nothing is allocated or posted yet. */
void ts_net_init(struct ts_net *n, struct ts_guest *guest, unsigned region, struct ts_ring *rx,
	struct ts_ring *tx);

/** Take all buffers back from the (stopped) rings and free the bookkeeping. */
void ts_net_fini(struct ts_net *n);

/** After the rings were stopped: take all buffers back and restart both rings at these bases. */
void ts_net_reset(struct ts_net *n, uint32_t rx_base, uint32_t tx_base);

/**
 * Post one RX buffer made of descriptors of these sizes; the header is simply its first bytes, so
 * {hdr_len, 1514} puts it into a descriptor of its own and {2048} makes a mergeable buffer. Not
 * published: ts_ring_kick(n->rx). Returns 0, -ENOMEM (region full) or what ts_ring_add() says.
 */
int ts_net_post_rx(struct ts_net *n, const uint32_t *sizes, unsigned n_sizes, enum ts_mode mode);

/** Post an RX buffer at addresses of the test's choice (crossing regions, ...). No gaps. */
int ts_net_post_rx_at(
	struct ts_net *n, const struct ts_seg *segs, unsigned n_segs, enum ts_mode mode);

/** Post up to `count` RX buffers of one descriptor of `size`, publish and kick: how many fitted. */
unsigned ts_net_fill_rx(struct ts_net *n, unsigned count, uint32_t size);

/**
 * Receive one packet into `buf`. `hdr` (may be NULL) gets its header, with num_buffers 1 where the
 * header has no such field. Buffers go to the idle list, not back to the ring.
 * Returns its length without the header, -EAGAIN when there is none, -EPROTO when the device broke
 * a rule (also recorded in faults), -EMSGSIZE when `cap` is too small.
 */
int ts_net_recv(struct ts_net *n, void *buf, size_t cap, struct virtio_net_hdr_v1 *hdr);

/**
 * Put one packet into the TX ring, not published: ts_ring_kick(n->tx). Header and payload form one
 * string of bytes that is cut into descriptors of the lengths in `cuts`; what remains goes into one
 * more. No cuts: one descriptor. `hdr` may be NULL (all zeros).
 * Returns 0, -ENOMEM or what ts_ring_add() says.
 */
int ts_net_send(struct ts_net *n, const struct virtio_net_hdr_v1 *hdr, const void *payload,
	size_t len, const uint32_t *cuts, unsigned n_cuts, enum ts_mode mode);

/** As ts_net_send(), but the bytes go where the test says; `segs` must hold them exactly. */
int ts_net_send_at(struct ts_net *n, const struct virtio_net_hdr_v1 *hdr, const void *payload,
	size_t len, const struct ts_seg *segs, unsigned n_segs, enum ts_mode mode);

/**
 * Take back completed TX buffers, checking that the device did not write to them: how many. They
 * are poisoned at once: a device that still reads them sends poison.
 */
unsigned ts_net_reap(struct ts_net *n);

/** Faults of the packets and of both rings together. */
unsigned ts_net_faults(const struct ts_net *n);

/** The first fault recorded anywhere; "" if there is none. */
const char *ts_net_why(const struct ts_net *n);

#endif

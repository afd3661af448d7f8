/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames of known content, checksums computed by the book, and mbufs that end where memory ends. */
#ifndef FRAME_H
#define FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#include <rte_mbuf.h>

#define FRAME_MAX 66000u
#define FRAME_SEQ 0xfffff000u /* wraps within a large frame */
#define FRAME_ID  0xfff0u

/* What a frame is made of. */
struct frame_spec {
	const char *name;
	bool v6;
	uint8_t proto;    /* IPPROTO_TCP, _UDP or _SCTP */
	uint16_t tag[2];  /* TPIDs, 0: none */
	uint16_t options; /* of IPv4, or length of a hop-by-hop header; a multiple of 4 or 8 */
	uint8_t tcp_options;
	uint8_t tcp_flags;
	uint32_t payload;
};

/* A frame and where things are in it, by construction. */
struct frame {
	uint8_t byte[FRAME_MAX];
	uint32_t len;
	uint16_t l3, l4, data, field;
	bool v6;
	uint8_t proto;
};

/* Sums over TCP, UDP, IPv4, IPv6, tags and options: what most tables run over. */
extern const struct frame_spec frame_specs[];
extern const size_t frame_nspecs;

/** Build a frame with right lengths and checksums. */
void frame_build(struct frame *f, const struct frame_spec *spec);

/** The sum of RFC 1071 over bytes, not complemented, continued from sum. */
uint32_t frame_sum(const uint8_t *p, uint32_t len, uint32_t sum);

/** The sum of the pseudo-header for len bytes of transport, folded; host order. */
uint16_t frame_pseudo(const struct frame *f, const uint8_t *p, uint16_t len);

/** Complement of a folded sum. */
uint16_t frame_fold(uint32_t sum);

void frame_put16(uint8_t *p, uint16_t value);
uint16_t frame_get16(const uint8_t *p);

/** Change the last two bytes (the payload's length must be even) so that the checksum is 0. */
void frame_make_zero(struct frame *f);

/** Leave only the pseudo-header's sum in the checksum field, as a guest does; @return the
 * header that goes with it. */
struct virtio_net_hdr frame_strip(struct frame *f);

/** Fail the test unless lengths, IPv4 checksum and transport checksum of p are right. */
void frame_check(const struct frame *f, const uint8_t *p, uint32_t len);

/* ---- mbufs outside of any pool ---- */

#define GUARD_PIECES 4

/* Pieces of memory that end at an unmapped page. */
struct guard {
	uint8_t *map[GUARD_PIECES];
	size_t size; /* of each without the unmapped page */
	struct rte_mbuf m[GUARD_PIECES];
};

void guard_init(struct guard *g);
void guard_fini(struct guard *g);

/** A packet cut at the given ascending offsets (n of them), each piece at the end of its
 * memory. Valid until the next call. */
struct rte_mbuf *guard_packet(
	struct guard *g, const uint8_t *p, uint32_t len, const uint32_t *cut, unsigned n);

/** Copy a packet out of any mbuf. @return its length */
uint32_t mbuf_bytes(const struct rte_mbuf *m, uint8_t *to);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Packets whose every byte can be checked on arrival, and internet checksums to compare with. */
#ifndef TS_PKT_H
#define TS_PKT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#define TS_PKT_MIN 26u /* two MAC addresses, type, magic, sequence number, length */

/**
 * Fill an Ethernet frame of `len` >= TS_PKT_MIN bytes: destination 02:..:02, source 02:..:01, the
 * local experimental type 0x88b5, then sequence number, length and a pattern made from both.
 * The MAC addresses may be changed afterwards; ts_pkt_check() does not look at them.
 */
void ts_pkt_fill(void *buf, uint32_t len, uint32_t seq);

/** Check every byte of a filled frame. 0 and its number in *seq (may be NULL), or -EBADMSG. */
int ts_pkt_check(const void *buf, uint32_t len, uint32_t *seq);

/** The internet checksum (RFC 1071), not complemented, continued from `sum`. */
uint32_t ts_csum_add(uint32_t sum, const void *data, size_t len);

/** Fold and complement: the 16 bits in network order as they are stored. */
uint16_t ts_csum_end(uint32_t sum);

struct ts_ip {
	bool v6;
	uint8_t proto;    /* IPPROTO_TCP or IPPROTO_UDP */
	uint16_t vlan;    /* 802.1Q tag; 0: none */
	uint32_t seq;     /* TCP sequence number = position of the payload in the pattern */
	uint32_t payload; /* bytes */
	bool partial;     /* leave the pseudo header sum in the checksum field (NEEDS_CSUM) */
};

/**
 * Build Ethernet + IP + TCP/UDP + pattern. `hdr` (may be NULL) is zeroed and, with `partial`, gets
 * flags, csum_start, csum_offset and hdr_len; gso fields are the caller's business.
 * Returns the length of the frame, 0 if `cap` is too small.
 */
uint32_t ts_pkt_ip(void *buf, size_t cap, const struct ts_ip *ip, struct virtio_net_hdr_v1 *hdr);

/**
 * Check an IP frame from ts_pkt_ip(), also one of the segments made from it: lengths, IPv4 header
 * checksum, TCP/UDP checksum (the pseudo header sum alone if `partial`), payload pattern.
 * Returns the number of payload bytes, or -EBADMSG with the reason in *why (may be NULL).
 */
int ts_pkt_ip_check(const void *buf, uint32_t len, bool partial, const char **why);

/** Finish the checksum of a NEEDS_CSUM frame as a guest does; -EBADMSG if it lies outside. */
int ts_pkt_finish_csum(void *buf, uint32_t len, const struct virtio_net_hdr_v1 *hdr);

#endif

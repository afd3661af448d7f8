/* SPDX-License-Identifier: BSD-3-Clause */
/* net_nicsim from a test in the same process: frames it can verify, and what becomes of the device. */
#ifndef NICSIM_H
#define NICSIM_H

#include <stdbool.h>
#include <stdint.h>

/* ---- frames that can be verified on the way ---- */

#define NICSIM_MARK      16u /* bytes of a mark: magic, sequence number, length, checksum */
#define NICSIM_FRAME_MIN 60u

/**
 * Make a mark and a pattern of a payload of `len` >= NICSIM_MARK bytes: magic "NSIM", sequence
 * number, number of bytes behind the mark, CRC32C of these; all in network order.
 */
void nicsim_mark(void *payload, uint32_t len, uint32_t seq);

/**
 * Fill a frame of `len` >= NICSIM_FRAME_MIN bytes: Ethernet from 02:..:01 to 02:..:02, IPv4, UDP
 * with a right checksum, and a payload with a mark. MAC addresses may be changed afterwards.
 */
void nicsim_frame(void *buf, uint32_t len, uint32_t seq);

enum nicsim_verdict {
	NICSIM_UNMARKED,
	NICSIM_GOOD,
	NICSIM_BAD,
};

/**
 * Look for a mark and verify what it stands for. A frame is marked if its UDP or TCP payload
 * (Ethernet, at most one VLAN tag, IPv4 or IPv6) begins with a mark, or if it is ts_pkt_fill()'s.
 * The sequence number goes to *seq (may be NULL).
 */
enum nicsim_verdict nicsim_verify(const void *buf, uint32_t len, uint32_t *seq);

/* ---- what becomes of the device ----
 * By port number, on any thread, at any time the port exists. 0, or -ENODEV if it is no nicsim. */

/** Stop all progress: nothing is read, written or freed; transmit rings fill. Or let it go on. */
int nicsim_stall(uint16_t port, bool on);

/** Let the device do what is due, as a poll of the port would. */
int nicsim_poll(uint16_t port);

/** Time from tx_burst to reading the frame, from now on, in microseconds. */
int nicsim_delay(uint16_t port, uint32_t us);

/** Free all that the transmit rings hold, also what was not sent yet. */
int nicsim_reset(uint16_t port);

/** Pull or plug the cable; the application hears of it (RTE_ETH_EVENT_INTR_LSC). */
int nicsim_link(uint16_t port, bool up);

/**
 * The device stops working, holding what it holds, and asks for a reset
 * (RTE_ETH_EVENT_INTR_RESET). It works again after rte_eth_dev_reset() and a start.
 */
int nicsim_fail(uint16_t port);

/**
 * A frame comes in from outside, on one receive queue. -ENOBUFS if the device has to drop it
 * (counted), -EINVAL if there is no such queue.
 */
int nicsim_inject(uint16_t port, uint16_t queue, const void *frame, uint32_t len);

/** mbufs that a transmit queue holds now, or -EINVAL. */
int nicsim_tx_held(uint16_t port, uint16_t queue);

/** One of the port's extended statistics; UINT64_MAX if there is none of that name. */
uint64_t nicsim_stat(uint16_t port, const char *name);

#endif

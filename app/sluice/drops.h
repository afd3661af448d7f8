/* SPDX-License-Identifier: BSD-3-Clause */
/* Why the switch itself drops packets; what rings drop is in virtq.h. */
#ifndef DROPS_H
#define DROPS_H

/*
 * Counted per worker and port. The first group counts at the port a packet came in by, the
 * tx_ group at the port it should have left by. Names are the statistics' names and stable;
 * the text says what to do.
 */
#define SWITCH_DROPS(X)                                                                            \
	X(NO_DESTINATION, "no_destination", "no other port is up, or the port has no partner")     \
	X(SAME_PORT, "same_port", "normal: the destination is behind the port it came from")       \
	X(BAD_SOURCE, "bad_source", "the source address is a multicast address or zero")           \
	X(LINK_LOCAL, "link_local",                                                                \
		"normal: bridges do not forward 01:80:c2:00:00:00 to 0f (STP, LACP, LLDP)")        \
	X(CONSUMED, "consumed", "normal: the engine ends packets here (rxonly, icmpecho)")         \
	X(TX_NIC_FULL, "tx_nic_full", "the device's transmit queue is full: it is the bottleneck") \
	X(TX_LINK_DOWN, "tx_link_down", "the device's link is down: check cable and peer")         \
	X(TX_OFFLOAD, "tx_offload_failed",                                                         \
		"the packet could not be segmented, summed or flattened for this port")            \
	X(TX_MTU_EXCEEDED, "tx_mtu_exceeded",                                                      \
		"longer than the MTU of the device or guest it goes to: give all guests the "      \
		"least (QEMU's host_mtu)")                                                         \
	X(TX_NO_MBUF, "tx_no_mbuf", "no free mbuf for a copy: enlarge the pool (--mbufs)")         \
	X(TX_MIGRATING, "tx_migrating", "the guest's memory is still on its way (post-copy)")      \
	X(TX_NO_PORT, "tx_no_port",                                                                \
		"normal for a moment: the destination port was deleted, or its device is reset")

enum switch_drop {
#define X(name, str, text) SWITCH_DROP_##name,
	SWITCH_DROPS(X)
#undef X
	SWITCH_DROP_COUNT
};

/* The first drop that counts at the transmitting side. */
#define SWITCH_DROP_FIRST_TX SWITCH_DROP_TX_NIC_FULL

const char *switch_drop_name(enum switch_drop drop);
const char *switch_drop_advice(enum switch_drop drop);

#endif

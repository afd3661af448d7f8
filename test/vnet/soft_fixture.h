/* SPDX-License-Identifier: BSD-3-Clause */
/* A vnet_soft, and packets in every shape memory can give them. */
#ifndef SOFT_FIXTURE_H
#define SOFT_FIXTURE_H

#include <rte_ethdev.h>

#include "frame.h"
#include "offload.h"

/* After the DPDK headers: cmocka defines names they use. */
#include "ts_tap.h"

#define F(name)  (1ull << VIRTIO_NET_F_##name)
#define HOST_ALL (F(CSUM) | F(HOST_TSO4) | F(HOST_TSO6) | F(HOST_UFO) | F(HOST_ECN) | F(HOST_USO))

#define SEGS     RTE_ETH_TX_OFFLOAD_MULTI_SEGS
#define CSUMS                                                           \
	(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM | \
		RTE_ETH_TX_OFFLOAD_UDP_CKSUM)
#define TSO     RTE_ETH_TX_OFFLOAD_TCP_TSO
#define USO     RTE_ETH_TX_OFFLOAD_UDP_TSO
#define UFO     VNET_TX_OFFLOAD_UFO

#define OUT_MAX 2048

enum shape {
	CHAIN,           /* as vnet_dequeue() makes it */
	ODD,             /* in pieces of 1111 bytes */
	AT_HEADERS,      /* the first mbuf ends with the headers */
	EXTERNAL,        /* in one external buffer */
	SHARED,          /* a chain somebody else holds too */
	CLONED,          /* indirect mbufs */
	EXTERNAL_CLONED, /* somebody else refers to the same external buffer */
	SHAPES,
};

/* Large TCP frames with all flags set that segmentation must look at. */
extern const struct frame_spec large_tcp[];
extern const size_t nlarge_tcp;

extern struct vnet_soft *soft;
extern struct frame frame; /* what soft_packet() makes packets of */
extern struct rte_mbuf *out[OUT_MAX];
extern uint8_t bytes[FRAME_MAX];

/** Start the EAL, run the tests, stop it. @return main()'s value */
int soft_run(const struct CMUnitTest *tests, size_t n, int argc, char **argv);

/** A packet with the frame's bytes. */
struct rte_mbuf *soft_packet(enum shape shape);

/** Is the packet nobody else's? Then it is not copied without need. */
static inline bool soft_is_alone(enum shape shape)
{
	return shape <= EXTERNAL;
}

/** Put a guest's request into the packet. @return its flags */
uint64_t soft_request(struct rte_mbuf *m, const struct virtio_net_hdr *h);

/** A guest's request to cut the frame, which it prepares for that: UDP into fragments. */
struct virtio_net_hdr soft_large(uint16_t mss);

/** A segment: nothing left to be asked for, and metadata of the packet it came from. */
void soft_check(const struct rte_mbuf *m, uint64_t offloads);

/** If somebody else holds the packet: check that it is as it was, and let go. */
void soft_release(uint64_t flags);

/** Free out[]. */
void soft_free(uint16_t n);

/** All mbufs are home again. */
void soft_no_leak(void);

#endif

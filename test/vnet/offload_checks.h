/* SPDX-License-Identifier: BSD-3-Clause */
/* Properties of the translation that hold whatever comes, for tests and the fuzz target. */
#ifndef OFFLOAD_CHECKS_H
#define OFFLOAD_CHECKS_H

#include <netinet/in.h>
#include <string.h>

#include "frame.h"
#include "offload.h"

/* After the DPDK headers: cmocka defines names they use. */
#include "ts_tap.h"

#define F(name)  (1ull << VIRTIO_NET_F_##name)
#define HOST_ALL (F(CSUM) | F(HOST_TSO4) | F(HOST_TSO6) | F(HOST_UFO) | F(HOST_ECN) | F(HOST_USO))
#define GUEST_ALL                                                                      \
	(F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6) | F(GUEST_UFO) | F(GUEST_ECN) | \
		F(GUEST_USO4) | F(GUEST_USO6))
#define LEGACY (1ull << 6) /* VIRTIO_NET_F_GSO */

#define NEEDS  VIRTIO_NET_HDR_F_NEEDS_CSUM
#define TCPV4  VIRTIO_NET_HDR_GSO_TCPV4
#define TCPV6  VIRTIO_NET_HDR_GSO_TCPV6
#define UFO    VIRTIO_NET_HDR_GSO_UDP
#define USO    VIRTIO_NET_HDR_GSO_UDP_L4
#define ECN    VIRTIO_NET_HDR_GSO_ECN

/** A guest that negotiated these features is told nothing else, and nothing outside the packet. */
void offload_check_to_guest(const struct rte_mbuf *m, uint64_t features);

/** After anything a guest can say the mbuf is one any driver can be given. */
void offload_check_mbuf(const struct rte_mbuf *m);

#endif

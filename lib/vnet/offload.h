/* SPDX-License-Identifier: BSD-3-Clause */
/* Checksum and segmentation requests: virtio-net header <-> mbuf, and their arithmetic. */
#ifndef VNET_OFFLOAD_H
#define VNET_OFFLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "virtq_uapi.h"
#include "vnet.h"

#define FEATURE(name) (1ull << VIRTIO_NET_F_##name)

/* Bits of the ethdev API (RTE_ETH_TX_OFFLOAD_*, RTE_ETH_RX_OFFLOAD_*), which this layer has no
 * business with otherwise. */
#define TX_IPV4_CKSUM RTE_BIT64(1)
#define TX_UDP_CKSUM  RTE_BIT64(2)
#define TX_TCP_CKSUM  RTE_BIT64(3)
#define TX_SCTP_CKSUM RTE_BIT64(4)
#define TX_TCP_TSO    RTE_BIT64(5)
#define TX_UDP_TSO    RTE_BIT64(6)
#define TX_MULTI_SEGS RTE_BIT64(15)
#define TX_UFO        VNET_TX_OFFLOAD_UFO
#define NO_CWR        VNET_TX_OFFLOAD_NO_CWR
#define RX_UDP_CKSUM  RTE_BIT64(2)
#define RX_TCP_CKSUM  RTE_BIT64(3)
#define RX_TCP_LRO    RTE_BIT64(4)
#define RX_SCATTER    RTE_BIT64(13)

/* A 16-bit word in which the guest's copy of a frame must differ from the mbuf. */
struct vnet_patch {
	uint32_t offset; /* in the frame; may be odd */
	uint16_t value;  /* as it lies in memory */
};

/* One for the IPv4 header, one for the transport header. */
struct vnet_patches {
	struct vnet_patch at[2];
	unsigned n;
};

/* Where the headers of an IP frame are. All of them lie in the first segment. */
struct vnet_frame {
	uint16_t l3, l4, data; /* offsets: IP header, transport header, what follows it */
	uint16_t field;        /* offset of the transport checksum */
	uint16_t link;         /* offset of the byte of the IP headers that names the transport */
	uint16_t l4_bytes;     /* transport header and payload, as the IP header says */
	uint8_t proto;         /* IPPROTO_TCP, _UDP or _SCTP */
	bool v4;
	bool ufo; /* what is to be cut becomes IP fragments: the transport header is payload */
};

/**
 * Turn a guest's request into mbuf flags. Call if flags or gso_type is not 0.
 *
 * Nothing in @h is believed. A checksum over something that is not plainly TCP or UDP is
 * computed here and now, so that no driver ever sees a request it could stumble over. In
 * segmentation requests a wrong IP length is mended.
 *
 * @param h	the header, copied out of the guest's memory
 * @param features negotiated features of the guest
 * @param m	the whole packet in memory of ours, written to; its flags are added to
 * @return 0, or -EINVAL: the packet must be dropped, its request contradicts the packet or the
 *	   features
 *
 * Lcore. virtio 1.2, 5.1.6.2.2 "Device Requirements: Packet Transmission".
 */
int vnet_hdr_to_mbuf(const struct virtio_net_hdr *h, uint64_t features, enum vnet_style style,
	struct rte_mbuf *m);

/**
 * Turn mbuf flags into the header a guest gets. The mbuf may be shared and stays as it is.
 *
 * @param features negotiated features of the guest
 * @param h	overwritten, native byte order
 * @param patches overwritten: what to change in the guest's copy of the frame
 * @return 0; -ENOTSUP: the guest did not negotiate what the packet needs; -EINVAL: the
 *	   mbuf's flags and lengths do not fit its data. Then the packet must not be sent.
 *
 * Lcore. virtio 1.2, 5.1.6.4.1 "Device Requirements: Processing of Incoming Packets".
 */
int vnet_mbuf_to_hdr(const struct rte_mbuf *m, uint64_t features, struct virtio_net_hdr *h,
	struct vnet_patches *patches);

/* ---- for soft.c ---- */

/** Find the headers of a packet with a TX_L4 or segmentation request. 0 or -EINVAL. */
int vnet_frame_asked(const struct rte_mbuf *m, struct vnet_frame *f);

/** How many bytes a segmentation request has to cut: those behind the transport header, for IP
 * fragments also that. */
uint32_t vnet_frame_cuttable(const struct rte_mbuf *m, const struct vnet_frame *f);

/** Does a TCP packet tell of a reduced window (CWR)? */
bool vnet_frame_cwr(const struct rte_mbuf *m, const struct vnet_frame *f);

/** The pseudo-header's sum for len bytes of transport, not complemented. */
uint16_t vnet_pseudo_sum(const struct rte_mbuf *m, const struct vnet_frame *f, uint16_t len);

/** The checksum that belongs into a TCP or UDP frame, whatever is there now. */
uint16_t vnet_l4_checksum(const struct rte_mbuf *m, const struct vnet_frame *f);

/** The checksum that belongs into the IPv4 header at m->l2_len. 0, or -EINVAL: none there. */
int vnet_ipv4_checksum(const struct rte_mbuf *m, uint16_t *value);

#endif

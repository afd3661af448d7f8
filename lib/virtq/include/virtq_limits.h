/* SPDX-License-Identifier: BSD-3-Clause */
/* The limits of a virtqueue and of guest memory, each with its reason. */
#ifndef VIRTQ_LIMITS_H
#define VIRTQ_LIMITS_H

/* Memory slots: what the KVM-based front-ends can use and what libvhost-user and
 * rust-vmm offer; QEMU refuses a back-end whose answer shrinks, so a constant. */
#define VIRTQ_MEM_SLOTS 509

/* The largest ring the virtio specification allows (2.7 "Split Virtqueues"). */
#define VIRTQ_NUM_MAX 32768

/* Packets one burst moves: 64 halves the fixed cost per packet against 32 and its
 * headers still fit the first-level cache. */
#define VIRTQ_BURST 64

/* Segments one burst may gather. A single chain may use all of them: 1024 is
 * what QEMU and the Linux kernel's vhost accept for one request (UIO_MAXIOV). */
#define VIRTQ_SEGS 1024

/* Steps from one descriptor to the next in all chains of one burst: what bounds a burst
 * whose descriptors are empty and so take up no segment. */
#define VIRTQ_LINKS (2 * VIRTQ_SEGS)

/* A burst's share of its lcore, in bytes: a burst of full Ethernet frames, and room for some more.
 * When what is larger or in pieces adds up to it, the burst ends; others have their turn before the
 * rest. A piece is as much work as so many bytes of one that is whole. */
#define VIRTQ_SHARE       (VIRTQ_BURST * 2048u)
#define VIRTQ_SHARE_PIECE 256u

/* Descriptors in one indirect table: the same 1024. */
#define VIRTQ_INDIRECT_MAX VIRTQ_SEGS

/* How long, in milliseconds, the control thread waits for an lcore to leave a view. */
#define VIRTQ_GATE_WAIT_MS 1000

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernel's virtio-net header, and what that of Linux 6.1 lacks. */
#ifndef VIRTQ_UAPI_H
#define VIRTQ_UAPI_H

#include <linux/virtio_net.h>

/* UDP segmentation (virtio 1.3, 5.1.3 and 5.1.6): in the kernel's header since Linux 6.2. */
#ifndef VIRTIO_NET_F_HOST_USO
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO   56
#endif
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

#endif

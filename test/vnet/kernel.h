/* SPDX-License-Identifier: BSD-3-Clause */
/* What Linux makes of a virtio-net header: an independent reference for offloads. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#define PIECES_MAX  1024
#define PIECES_ROOM (512u << 10)

/* Frames, one after the other. */
struct pieces {
	unsigned n;
	uint32_t len[PIECES_MAX];
	const uint8_t *at[PIECES_MAX]; /* into byte */
	uint32_t used;
	uint8_t byte[PIECES_ROOM];
};

void pieces_clear(struct pieces *p);

/** Room for one more frame of at most len bytes, which the caller fills; NULL: none. */
uint8_t *pieces_add(struct pieces *p, uint32_t len);

struct kernel {
	int in, out;   /* TAP devices, joined by a bridge */
	uint32_t mark; /* tells where the frames of one case end */
	bool has_uso;  /* since Linux 6.2 */
};

/**
 * Go to a network namespace of our own and build the bridge there. It ends with the process.
 *
 * @param why	on failure: what is missing
 * @return 0 or a negative errno. Before there are other threads.
 */
int kernel_open(struct kernel *k, char *why, size_t why_len);

/**
 * Send a frame with a header, as a guest would, and collect what comes out at the other end, where
 * nothing is offloaded. None: the kernel refused the frame.
 *
 * @return 0, or a negative errno if the bridge does not work
 */
int kernel_pass(struct kernel *k, const struct virtio_net_hdr *h, const uint8_t *frame,
	uint32_t len, struct pieces *out);

void kernel_close(struct kernel *k);

#endif

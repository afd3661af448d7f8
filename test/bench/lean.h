/* SPDX-License-Identifier: BSD-3-Clause */
/* A driver that does the least for what circles, so that a switch is the limit and not its guest. */
#ifndef LEAN_H
#define LEAN_H

#include <stdint.h>

struct port;
struct lean;

/**
 * Make the guest's ports of arguments as virtio-user devices have: path, mac, queue_size, packed_vq, mrg_rxbuf, in_order, server.
 *
 * @param room  bytes of a buffer, for a frame
 * @return      0, or a negative errno once it has said why
 */
int lean_open(const char *const *args, unsigned n, uint32_t room);

/** Hang up, and give back all memory. Nothing happens if there is nothing. */
void lean_close(void);

/** Poll a port once. @return frames received; the worker's thread */
uint32_t lean_work(struct lean *l, struct port *p);

#endif

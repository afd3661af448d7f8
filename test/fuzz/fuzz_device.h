/* SPDX-License-Identifier: BSD-3-Clause */
/* What targets with a device share: a clock, a data path, a front-end that behaves, and what must be left of one. */
#ifndef FUZZ_DEVICE_H
#define FUZZ_DEVICE_H

#include <event2/event.h>

#include "fuzz.h"
#include "vu.h"

/* More than so many of an input are not looked at, so that none takes long. */
#define FUZZ_ACTIONS 100u

/** Before all else: what stays as long as the process is there, so that nothing seems to be left by an input. */
void fuzz_begin(void);

/** Time passes, for the device and all who ask for the monotonic clock. */
void fuzz_time_passes(unsigned ms);

/** The loop, as often as a message and its answer may need. */
void fuzz_run(struct event_base *base);

/** A virtq_burst_fn: take everything, use both ends of it, give it back. view->arg: NULL towards the guest. */
uint16_t fuzz_burst(struct virtq *vq, const struct virtq_view *v, void **pkts, uint16_t max);

/** Its vu_device_ops.prepare. */
void fuzz_prepare_view(void *arg, unsigned ring, struct virtq_view *view);

/** Every ring of so many pairs once. */
void fuzz_poll(struct vu_device *dev, unsigned pairs);

/** Send with descriptors; what does not fit is lost. */
void fuzz_send(int sock, const void *data, size_t len, const int *fds, unsigned n_fds);

/** Read what the device has answered: all of it is of the one form there is. */
void fuzz_read_answers(int sock);

/** Has the device closed the connection? vu_device_info() knows, but looks at much else. */
bool fuzz_closed(int sock);

int fuzz_lowest_fd(void);

/** The front-end has closed its socket: once the device has noticed nothing is left of what it brought.
 * @param fd_before fuzz_lowest_fd() before it came; -1: the device may have some more of its own */
void fuzz_gone(struct event_base *base, struct vu_device *dev, int fd_before);

/** A front-end that behaves comes, moves frames on every ring, stops and goes. @param format VIRTIO_F_RING_PACKED's bit or 0 */
void fuzz_polite(struct event_base *base, struct vu_device *dev, uint64_t format);

#endif

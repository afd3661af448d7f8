/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing to and reading from other people's eventfds without ever waiting. */
#ifndef VIRTQ_SIGNAL_H
#define VIRTQ_SIGNAL_H

#include <stdint.h>

/**
 * Add 1 to an eventfd that somebody else may make blocking and full at any moment. About 8 us: for
 * the control thread; lcores write().
 * @return 0, also if it was full already; -EINVAL (not an eventfd), -EBADF, -EMFILE
 */
int virtq_signal(int fd);

/** Empty such an eventfd. @return what was in it; 0: nothing, or it cannot be read. Any thread. */
uint64_t virtq_signal_take(int fd);

#endif

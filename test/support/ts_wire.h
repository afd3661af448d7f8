/* SPDX-License-Identifier: BSD-3-Clause */
/* Private to the front-end's sources: bounded reading and writing of its socket. */
#ifndef TS_WIRE_H
#define TS_WIRE_H

#include "ts_frontend.h"

/** Remember why a call fails (the request's name is put in front); returns `rc`. */
int ts_fail(struct ts_fe *fe, int rc, uint32_t request, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/** Write all of it, the fds with the first byte. */
int ts_write_all(struct ts_fe *fe, const void *data, size_t len, const int *fds, unsigned n_fds);

/** A message without an answer of its own: send it, and read the acknowledgement if one is due. */
int ts_tell(struct ts_fe *fe, uint32_t request, const void *payload, uint32_t size, const int *fds,
	unsigned n_fds);

/** Make an eventfd in *fd unless it is one already. */
int ts_need_eventfd(struct ts_fe *fe, int *fd);

/** Wait for the socket (or the listener); pumps. */
int ts_wait_io(struct ts_fe *fe, int fd, short events, uint64_t deadline);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* The back-end channel: requests of ours to the front-end. */
#ifndef VU_BACKEND_H
#define VU_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

struct vu_device;

/* vhost-user specification, "Back-end message types". */
enum vu_backend_request {
	VU_BACKEND_IOTLB_MSG = 1,
	VU_BACKEND_CONFIG_CHANGE_MSG = 2,
	VU_BACKEND_VRING_CALL = 4,
	VU_BACKEND_VRING_ERR = 5
};

#define VU_BACKEND_PAYLOAD_MAX 32 /* struct vu_iotlb */
#define VU_BACKEND_QUEUE       64 /* messages that wait for the front-end to read */

/**
 * Have a channel, instead of the one there was; SET_BACKEND_REQ_FD.
 * @param fd	a connected stream socket; ours from here on, also on failure
 * @return 0, -ENOTSOCK or -ENOMEM
 */
int vu_backend_open(struct vu_device *dev, int fd);

/** Close it, with all that waits. Without one nothing happens. */
void vu_backend_close(struct vu_device *dev);

/**
 * Send a request. Never blocks: what the front-end does not read waits, and when too much waits the
 * oldest is lost. Whoever must not lose one has to repeat it.
 *
 * @param payload	size bytes, at most VU_BACKEND_PAYLOAD_MAX
 * @param need_reply	ask for an answer; a failure is logged, nobody waits for it
 * @return 0 (on its way, or waits), -ENOTCONN (no channel), or -ESHUTDOWN: all rings are stopped,
 *	   and then nothing may be sent; or the device is frozen
 */
int vu_backend_send(struct vu_device *dev, enum vu_backend_request request, const void *payload,
	uint32_t size, bool need_reply);

/** Has the front-end read all there was? Without a channel it has. */
bool vu_backend_is_read(const struct vu_device *dev);

/** What of it belongs to a record; there is a front-end. See vu_record.h. */
struct vu_cursor;
void vu_backend_fields(struct vu_cursor *c, struct vu_device *dev);

/** Neither read nor write, as long as the device is frozen. */
void vu_backend_pause(struct vu_device *dev);
void vu_backend_go(struct vu_device *dev);

/** All rings have stopped: forget what waits. */
void vu_backend_suspend(struct vu_device *dev);

#endif

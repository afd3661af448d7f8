/* SPDX-License-Identifier: BSD-3-Clause */
/* A running device moves from one process to another, and its front-end does not notice. */
#ifndef VU_HANDOVER_H
#define VU_HANDOVER_H

#include <stddef.h>
#include <stdint.h>

#include "vu.h"

/*
 * Theory of operation
 *
 *	old				new
 *	vu_device_freeze()		vu_device_create() of the same configuration, dormant
 *	vu_device_record()  --------->	vu_device_restore()
 *					(ready: nothing of the guest's has been touched)
 *	vu_device_destroy()		vu_device_resume()
 *
 * A frozen device has no ring running, reads and answers nothing, and keeps everything. Who owns
 * it is whoever resumes it: the old process, if the new one fails, and then it is as if nothing
 * had happened. A frozen or dormant device that is destroyed closes descriptors and does nothing
 * else: the connection lives as long as another process has it, and the socket file stays.
 *
 * The front-end's messages wait in the socket, the guest's packets in its rings. Translations of a
 * guest's IOMMU are not moved, the new process asks for them as after any miss.
 *
 * The record is of this machine and of this moment, but it is not trusted: each number has its
 * limit, memory and descriptors are checked as when they come from a front-end.
 */

/* A record and the descriptors that belong to it. */
struct vu_record {
	uint8_t *bytes;
	size_t len, room;
	int *fds;
	unsigned nfds, fds_room;
};

/* Bytes and descriptors no record exceeds: what receives one need not have room for more. */
#define VU_RECORD_MAX     (1u << 20)
#define VU_RECORD_FDS_MAX 2048u

/**
 * Can a device that has offered this be restored here?
 * @param why	if not, one line with the features' names
 * @return 0 or -ENOTSUP. Any thread.
 */
int vu_handover_check(uint64_t features, uint64_t protocol_features, char *why, size_t why_len);

/**
 * Stop all rings and all conversation, so that the device can be recorded. Lent buffers are waited
 * for as with any ring that stops. The owner hears of rings that stop (ring_changed), and nothing
 * of the link.
 *
 * @param why	on failure one line; then the device goes on as before
 * @return 0, -EBUSY (a post-copy migration, an lcore that is stuck, frozen already) or -ETIMEDOUT
 *
 * Control thread, not from inside an op.
 */
int vu_device_freeze(struct vu_device *dev, char *why, size_t why_len);

/**
 * Write a frozen device down.
 * @param out	overwritten; the descriptors in it are the device's: send them before it is destroyed.
 *		Free with vu_record_free() in any case
 * @return 0, -ENOMEM, or -EMFILE: a descriptor could not be kept when memory was mapped
 */
int vu_device_record(struct vu_device *dev, struct vu_record *out, char *why, size_t why_len);
void vu_record_free(struct vu_record *rec);

/**
 * Give a dormant device (vu_device_conf.dormant) the state of another one. What it offers is from
 * then on what that one had offered, for as long as it lives.
 *
 * @param rec	its descriptors are taken or closed, also on failure
 * @param why	on failure one line; the device is as dormant as before
 * @return 0, -EINVAL, -ENOTSUP (features) or -ENOMEM
 *
 * Control thread.
 */
int vu_device_restore(struct vu_device *dev, struct vu_record *rec, char *why, size_t why_len);

/**
 * Go on with a frozen, or begin with a restored device. One that is dormant and was given nothing
 * begins with its socket, as if it had just been created.
 * @return 0, or what reconciling said. Control thread, not from inside an op.
 */
int vu_device_resume(struct vu_device *dev);

#endif

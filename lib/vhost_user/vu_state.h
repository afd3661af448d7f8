/* SPDX-License-Identifier: BSD-3-Clause */
/* A device's own record of its rings: a file that outlives the process. */
#ifndef VU_STATE_H
#define VU_STATE_H

#include "vu_device.h"

/*
 * Theory of operation
 *
 * One file for each device, in memory (tmpfs), locked and mapped as long as the device lives, so that
 * recording is no system call and a process that is killed leaves it as it was. It has a header, a
 * row for each ring that says whose state this is, and a part for each ring: virtq_track.h. Parts lie
 * where they would with the largest rings, and take memory when their ring starts, as much as it
 * needs: what is not there then cannot be missing later.
 *
 *	header	magic, version, number of rings, checksum
 *	rows	for each ring: memory file, offset in it, size, features, checksum
 *	parts	for each ring, on pages of its own
 *
 * A ring that starts goes on by its part if the row says that it is the same ring: the same file of
 * guest memory (a front-end keeps that one over a reconnection), the same places in it, size and
 * features; and if the ring's contents agree (virtq_track_start()). Otherwise the part begins anew. A
 * ring that was stopped in order (GET_VRING_BASE) leaves a part that tells nothing.
 *
 * A file that is not ours, or not as we write it, is not used: one line says so, and it is
 * written anew if it may be. Without a file everything works but a crash. One that is cut off while it is
 * used is given up, with a line: what is mapped of it is trapped (virtq_trap.h).
 *
 * A front-end's in-flight region, where there is one, is used instead.
 */

struct vu_state;

/** Open or make the file at dev's state path. Without one, or in trouble (one line in the log), NULL. */
struct vu_state *vu_state_open(struct vu_device *dev);

/** The same for a device that has come from another process, which may have its file still: a new one. */
struct vu_state *vu_state_anew(struct vu_device *dev);

/** The device ends in order: the file goes. NULL is fine. @param leave but not if it tells of rings that run */
void vu_state_close(struct vu_state *state, bool leave);

/** Pages of somebody's memory have vanished (virtq_trap.h): of the file? Then the device goes on without. */
void vu_state_look(struct vu_device *dev);

/** Say in a view where the ring's part is; prepare() has not been asked yet. */
void vu_state_describe(struct vu_device *dev, unsigned ring, struct virtq_view *v);

/** The ring is about to take its position: a part that is another ring's begins anew. */
void vu_state_position(struct vu_device *dev, unsigned ring, const struct virtq_view *v);

/** prepare() was asked: a ring that needs no record has none from here on. */
void vu_state_spare(struct vu_device *dev, unsigned ring, struct virtq_view *v);

/** The ring was stopped in order: its part tells nothing. */
void vu_state_stop(struct vu_device *dev, unsigned ring);

#endif

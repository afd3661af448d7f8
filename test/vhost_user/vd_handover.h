/* SPDX-License-Identifier: BSD-3-Clause */
/* Moving a device of vd.h to another one, in this process. */
#ifndef VD_HANDOVER_H
#define VD_HANDOVER_H

#include "vd.h"
#include "vu_handover.h"

/** A device that waits for the state of t's. */
struct vu_device *vd_dormant(struct vd *t);

void vd_freeze(struct vd *t);
struct vu_record vd_record(struct vd *t);

/** A record as another process receives it: with descriptors of its own. */
struct vu_record vd_received(const struct vu_record *rec);

/** To a new device. Everything the old one had goes before the new one begins. */
void vd_move(struct vd *t);

/** A device that runs, with these pairs. */
void vd_up(struct vd *t, uint16_t pairs);

#endif

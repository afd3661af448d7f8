/* SPDX-License-Identifier: BSD-3-Clause */
/* Post-copy: a guest that left its memory at the source, and whoever fetches it page by page. */
#ifndef VD_POSTCOPY_H
#define VD_POSTCOPY_H

#include "vd_iommu.h"

#define VD_SOURCE_FRAMES 20u /* waiting in each ring of the guest's only pair */

/* The front-end's half: the guest's memory as it was at the source, and who fetches it. */
struct vd_source {
	struct vd *t;
	uint8_t *copy[TS_MAX_REGIONS];
	uint64_t base[TS_MAX_REGIONS]; /* where the back-end has mapped it */
	int uffd;
	pthread_t thread;
	bool iommu; /* the guest has one */
	bool serving, stop, hold;
	uint64_t served, asked;
};

/** A device that offers post-copy, a front-end that has negotiated it, and a guest with nothing here. */
void vd_source_begin(struct vd_source *s, bool slots);

/** From POSTCOPY_ADVISE to rings that are started; s->hold may be changed from then on. */
void vd_source_arrive(struct vd_source *s, bool slots);

/** Nobody serves any more, and nothing of the source is left. */
void vd_source_end(struct vd_source *s);

/** Parts of these: a message and its answer of so many bytes, the first two messages, the regions. */
void vd_source_ask(struct vd *t, struct ts_msg *m, struct ts_reply *reply, uint32_t size);
void vd_source_advise(struct vd_source *s);
void vd_source_send_slots(struct vd_source *s);

#endif

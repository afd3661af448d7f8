/* SPDX-License-Identifier: BSD-3-Clause */
/* Every request of the protocol so far, right and wrong, and what must come back, byte for byte. */
#ifndef VD_MSG_H
#define VD_MSG_H

#include "vd.h"

struct vd_msg {
	enum ts_request id;
	const char *name;
	uint32_t size;   /* of a right payload; SET_MEM_TABLE: of two regions */
	uint32_t less;   /* so many bytes may be missing at its end */
	bool has_answer; /* besides an acknowledgement */
	int needs;       /* enum ts_protocol_bit without which it is refused; -1: none */
	/* Fill in a right one, and a wrong one that differs in what it says only. Both may
	 * attach descriptors of t's, see vd_msg_fds(); and send what must come before, which
	 * has no answer. */
	void (*right)(struct vd *t, struct ts_msg *m);
	void (*wrong)(struct vd *t, struct ts_msg *m);
};

/* All of them; id 0 ends it. For a device with two pairs that offers VIRTIO_F_ACCESS_PLATFORM. */
extern const struct vd_msg vd_msgs[];
extern const unsigned vd_n_msgs;

/** Make the descriptors messages carry; they live until vd_msg_done(). */
void vd_msg_begin(void);
void vd_msg_done(void);

/** One descriptor of each odd kind (at most max); borrowed. */
unsigned vd_msg_odd_fds(int *fds, unsigned max);

/** Does a request name a ring; and the same message for another one, possible or not. */
bool vd_msg_has_index(const struct vd_msg *row);
void vd_msg_put_index(struct ts_msg *m, uint64_t index);

/** What the device must answer: bytes, and whether it then closes. */
struct vd_answer {
	uint8_t bytes[256];
	size_t len;
	bool closes;
};

/** Negotiate all protocol features that are offered: then only what is in a message counts. */
void vd_msg_negotiate(struct vd *t);

/** The answer to a right (or wrong) message with (or without) NEED_REPLY. */
struct vd_answer vd_msg_answer(struct vd *t, const struct vd_msg *row, bool right, bool need_reply);

/** Add one answer to another. */
void vd_answer_add(struct vd_answer *a, const struct vd_answer *b);

/**
 * Read all that the device has to say; the messages were sent. What was sent last must have been
 * a GET_FEATURES, or the device must close.
 */
void vd_assert_answer(struct vd *t, const struct vd_answer *expect, const char *what);

/** Send a message and a GET_FEATURES behind it, and check all that comes back. */
void vd_exchange(
	struct vd *t, const struct ts_msg *m, const struct vd_answer *expect, const char *what);

/** All that a refused message must not change, as text. */
void vd_snapshot(const struct vd *t, char *buf, size_t len);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* What every request's handler gets, and all handlers. */
#ifndef VU_MESSAGE_H
#define VU_MESSAGE_H

#include "vu_device.h"

/* One request under way. */
struct vu_context {
	struct vu_device *dev;
	const struct vu_message *msg;
	int *fds; /* who takes one sets its slot to -1; the rest is closed */
	unsigned nfds;
	unsigned ring;      /* where the request names one */
	struct vu_queue *q; /* likewise */

	/* the answer of a request that has one, preset by its row */
	bool replies;
	union vu_payload *reply;
	uint32_t reply_size;
	int reply_fd; /* sent along and closed; -1: none */
};

/*
 * Handlers edit configuration and nothing else; 0, or a negative error after vu_refuse(), and then
 * nothing has changed. In the files named vu_on_*.c.
 */

/* vu_on_device.c */
int vu_on_get_features(struct vu_context *c);
int vu_on_set_features(struct vu_context *c);
int vu_on_set_owner(struct vu_context *c);
int vu_on_reset_owner(struct vu_context *c);
int vu_on_get_protocol_features(struct vu_context *c);
int vu_on_set_protocol_features(struct vu_context *c);
int vu_on_get_queue_num(struct vu_context *c);
int vu_on_set_backend_req_fd(struct vu_context *c);
int vu_on_reset_device(struct vu_context *c);
int vu_on_net_set_mtu(struct vu_context *c);
int vu_on_set_status(struct vu_context *c);
int vu_on_get_status(struct vu_context *c);

/* vu_on_inflight.c */
int vu_on_get_inflight_fd(struct vu_context *c);
int vu_on_set_inflight_fd(struct vu_context *c);

/* vu_on_config.c */
int vu_on_get_config(struct vu_context *c);
int vu_on_set_config(struct vu_context *c);

/* vu_on_memory.c */
int vu_on_set_mem_table(struct vu_context *c);
int vu_on_get_max_mem_slots(struct vu_context *c);
int vu_on_add_mem_reg(struct vu_context *c);
int vu_on_rem_mem_reg(struct vu_context *c);

/* vu_on_migration.c */
int vu_on_set_log_base(struct vu_context *c);
int vu_on_set_log_fd(struct vu_context *c);
int vu_on_send_rarp(struct vu_context *c);

/* vu_iommu.c */
int vu_on_iotlb_msg(struct vu_context *c);

/* vu_on_ring.c */
int vu_on_set_vring_num(struct vu_context *c);
int vu_on_set_vring_addr(struct vu_context *c);
int vu_on_set_vring_base(struct vu_context *c);
int vu_on_get_vring_base(struct vu_context *c);
int vu_on_set_vring_kick(struct vu_context *c);
int vu_on_set_vring_call(struct vu_context *c);
int vu_on_set_vring_err(struct vu_context *c);
int vu_on_set_vring_enable(struct vu_context *c);

/* vu_on_postcopy.c */
int vu_on_postcopy_advise(struct vu_context *c);
int vu_on_postcopy_listen(struct vu_context *c);
int vu_on_postcopy_end(struct vu_context *c);
/* Eight zero bytes instead of memory: faults are served. */
bool vu_postcopy_is_ack(const struct vu_context *c);
void vu_postcopy_wait(struct vu_device *dev, struct virtq_mem *mem); /* takes mem */
struct virtq_mem *vu_postcopy_acked(struct vu_context *c); /* the caller's; NULL: refused */

/* The descriptor that came with the request, now the caller's to close; -1: none. */
int vu_take_fd(struct vu_context *c);

/* An eventfd, or another anonymous inode; it does not block from here on. */
bool vu_is_eventfd(int fd);

#endif

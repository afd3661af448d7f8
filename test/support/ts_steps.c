/* SPDX-License-Identifier: BSD-3-Clause */
/* Runs step tables: loops, conditions, and one message per step. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ts_wire.h"

/* Where the machine is: -1 outside a loop of that kind. */
struct at {
	int pair;
	int ring;
};

static int step_get_features(struct ts_fe *fe)
{
	int rc = ts_fe_get_u64(fe, TS_GET_FEATURES, &fe->offered);

	if (!rc)
		fe->features = fe->offered & fe->want;
	return rc;
}

/* The bits count once the message is out: it cannot ask for its own acknowledgement. */
static int step_set_protocol(struct ts_fe *fe)
{
	const uint64_t acked = fe->offered_protocol & fe->want_protocol;
	int rc = ts_fe_set_u64(fe, TS_SET_PROTOCOL_FEATURES, acked);

	if (!rc)
		fe->protocol = acked;
	return rc;
}

static int step_queue_num(struct ts_fe *fe, bool in_rings)
{
	const unsigned need = in_rings ? 2 * fe->pairs : fe->pairs;
	int rc = ts_fe_get_u64(fe, TS_GET_QUEUE_NUM, &fe->queue_num);

	if (!rc && fe->queue_num < need)
		rc = ts_fail(fe, -E2BIG, TS_GET_QUEUE_NUM, "%llu offered, %u needed",
			(unsigned long long)fe->queue_num, need);
	return rc;
}

static int step_backend_req(struct ts_fe *fe)
{
	int sv[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		return ts_fail(
			fe, -errno, TS_SET_BACKEND_REQ_FD, "socketpair: %s", strerror(errno));
	if (fe->backend_req >= 0)
		close(fe->backend_req);
	fe->backend_req = sv[0];
	rc = ts_fe_set_backend(fe, sv[1]);
	close(sv[1]);
	return rc;
}

static int step_add_status(struct ts_fe *fe, uint32_t bits)
{
	uint64_t now;
	int rc = ts_fe_get_u64(fe, TS_GET_STATUS, &now);

	if (rc || (now & bits) == bits)
		return rc;
	return ts_fe_set_u64(fe, TS_SET_STATUS, now | bits);
}

static int step_memory(struct ts_fe *fe, bool may_add)
{
	int rc = 0;

	if (!may_add || !(fe->protocol & TS_BIT(TS_PROTO_CONFIGURE_MEM_SLOTS)))
		return ts_fe_set_mem_table(fe);
	/* Each once, as QEMU does, which remembers what the back-end has. */
	while (fe->added < fe->guest->n && !rc) {
		rc = ts_fe_add_mem_reg(fe, fe->added);
		fe->added += !rc;
	}
	return rc;
}

/* One region for all connections, as large as the largest ring needs. */
static int step_inflight(struct ts_fe *fe)
{
	uint32_t size = 1;
	int rc = 0;

	for (unsigned i = 0; i < 2 * fe->pairs; i++)
		if (fe->rings[i].ring && fe->rings[i].ring->size > size)
			size = fe->rings[i].ring->size;
	if (fe->inflight_fd < 0)
		rc = ts_fe_get_inflight(fe, (uint16_t)(2 * fe->pairs), (uint16_t)size);
	return rc ? rc : ts_fe_set_inflight(fe);
}

static int step_base(struct ts_fe *fe, unsigned i, enum ts_base_from from)
{
	struct ts_fe_ring *r = &fe->rings[i];
	uint32_t base;

	if (from == TS_BASE_AVAIL)
		r->base = ts_ring_avail_pos(r->ring);
	base = ts_fe_base(fe, i);
	if (from == TS_BASE_AVAIL_HALF)
		base &= UINT16_MAX;
	return ts_fe_set_state(fe, TS_SET_VRING_BASE, i, base);
}

static int step_fd(struct ts_fe *fe, enum ts_request request, unsigned i, int *fd)
{
	int rc = ts_need_eventfd(fe, fd);

	return rc ? rc : ts_fe_set_fd(fe, request, i, *fd);
}

static int step_enable(struct ts_fe *fe, struct at at, enum ts_enable how)
{
	const unsigned i = (unsigned)(at.ring < 0 ? 2 * at.pair : at.ring);
	const bool active = i / 2 < fe->active;

	switch (how) {
	case TS_OFF:
		return ts_fe_enable(fe, i, false);
	case TS_ON:
		return ts_fe_enable(fe, i, true);
	case TS_ON_IF_ACTIVE:
		return active ? ts_fe_enable(fe, i, true) : 0;
	default:
		return ts_fe_enable(fe, i, active);
	}
}

static int ring_step(struct ts_fe *fe, const struct ts_step *s, struct at at)
{
	const unsigned i = (unsigned)at.ring;
	struct ts_fe_ring *r = &fe->rings[i];

	switch (s->op) {
	case TS_S_CALL_MASKED:
		return step_fd(fe, TS_SET_VRING_CALL, i, &r->masked);
	case TS_S_ERR:
		return step_fd(fe, TS_SET_VRING_ERR, i, &r->err);
	default:
		break;
	}
	if (!r->ring)
		return 0;
	switch (s->op) {
	case TS_S_NUM:
		return ts_fe_set_state(fe, TS_SET_VRING_NUM, i, r->ring->size);
	case TS_S_BASE:
		return step_base(fe, i, (enum ts_base_from)s->arg);
	case TS_S_ADDR:
		return ts_fe_set_addr(fe, i);
	case TS_S_KICK:
		return step_fd(fe, TS_SET_VRING_KICK, i, &r->kick);
	case TS_S_CALL:
		return step_fd(fe, TS_SET_VRING_CALL, i, &r->call);
	case TS_S_GET_BASE:
		return ts_fe_get_base(fe, i);
	default:
		return ts_fail(fe, -EINVAL, 0, "step %d is not a message", s->op);
	}
}

static int one_step(struct ts_fe *fe, const struct ts_step *s, struct at at)
{
	switch (s->op) {
	case TS_S_GET_FEATURES:
		return step_get_features(fe);
	case TS_S_SET_FEATURES:
		return ts_fe_set_u64(fe, TS_SET_FEATURES, fe->features);
	case TS_S_GET_PROTOCOL:
		return ts_fe_get_u64(fe, TS_GET_PROTOCOL_FEATURES, &fe->offered_protocol);
	case TS_S_SET_PROTOCOL:
		return step_set_protocol(fe);
	case TS_S_SET_OWNER:
		return ts_fe_simple(fe, TS_SET_OWNER);
	case TS_S_RESET_OWNER:
		return ts_fe_simple(fe, TS_RESET_OWNER);
	case TS_S_GET_QUEUE_NUM:
		return step_queue_num(fe, s->arg);
	case TS_S_GET_MEM_SLOTS:
		return ts_fe_get_u64(fe, TS_GET_MAX_MEM_SLOTS, &fe->mem_slots);
	case TS_S_BACKEND_REQ:
		return step_backend_req(fe);
	case TS_S_ADD_STATUS:
		return step_add_status(fe, s->arg);
	case TS_S_SET_STATUS:
		return ts_fe_set_u64(fe, TS_SET_STATUS, s->arg);
	case TS_S_INFLIGHT:
		return step_inflight(fe);
	case TS_S_MEM_TABLE:
		return step_memory(fe, s->arg);
	case TS_S_ENABLE:
		return step_enable(fe, at, (enum ts_enable)s->arg);
	default:
		if (at.ring < 0)
			return ts_fail(fe, -EINVAL, 0, "step %d is outside a ring loop", s->op);
		return ring_step(fe, s, at);
	}
}

static bool applies(const struct ts_fe *fe, const struct ts_step *s, struct at at)
{
	if ((s->flags & TS_ONCE) && at.pair > 0)
		return false;
	if ((s->flags & TS_LAST) && at.pair != (int)fe->pairs - 1)
		return false;
	if ((s->flags & TS_IF_PROTOCOL) && !(fe->offered & TS_BIT(TS_F_PROTOCOL_FEATURES)))
		return false;
	if ((s->flags & TS_IF_MANY) && fe->pairs < 2)
		return false;
	return (fe->protocol & s->protocol) == s->protocol;
}

static bool is_loop(const struct ts_step *s)
{
	return s->op == TS_S_EACH_PAIR || s->op == TS_S_EACH_RING || s->op == TS_S_EACH_RX ||
	       s->op == TS_S_EACH_TX;
}

/* From a loop's first step to the NEXT that closes it. */
static const struct ts_step *loop_end(const struct ts_step *s)
{
	for (int depth = 0; s->op != TS_S_END; s++) {
		if (is_loop(s))
			depth++;
		else if (s->op == TS_S_NEXT && depth-- == 0)
			break;
	}
	return s;
}

static int run(struct ts_fe *fe, const struct ts_step *s, struct at at);

static int run_loop(struct ts_fe *fe, const struct ts_step *s, struct at at)
{
	const bool pairs = s->op == TS_S_EACH_PAIR;
	const int step = pairs || s->op == TS_S_EACH_RING ? 1 : 2;
	int i = s->op == TS_S_EACH_TX, end = (int)(pairs ? fe->pairs : 2 * fe->pairs);
	int rc = 0;

	if (!pairs && at.pair >= 0) {
		i += 2 * at.pair;
		end = 2 * at.pair + 2;
	}
	for (; i < end && !rc; i += step) {
		const struct at inner = {.pair = pairs ? i : at.pair, .ring = pairs ? -1 : i};

		rc = run(fe, s + 1, inner);
	}
	return rc;
}

static int run(struct ts_fe *fe, const struct ts_step *s, struct at at)
{
	int rc = 0;

	for (; s->op != TS_S_END && s->op != TS_S_NEXT && !rc; s++) {
		if (is_loop(s)) {
			rc = run_loop(fe, s, at);
			s = loop_end(s + 1);
		} else if (applies(fe, s, at)) {
			rc = one_step(fe, s, at);
		}
	}
	return rc;
}

int ts_fe_run(struct ts_fe *fe, const struct ts_step *steps)
{
	return run(fe, steps, (struct at){.pair = -1, .ring = -1});
}

int ts_fe_negotiate(struct ts_fe *fe)
{
	return ts_fe_run(fe, fe->profile->init);
}

int ts_fe_start(struct ts_fe *fe)
{
	return ts_fe_run(fe, fe->profile->start);
}

int ts_fe_stop(struct ts_fe *fe)
{
	return ts_fe_run(fe, fe->profile->stop);
}

int ts_fe_set_active(struct ts_fe *fe, unsigned pairs)
{
	if (!pairs || pairs > fe->pairs)
		return ts_fail(fe, -EINVAL, 0, "%u active pairs of %u", pairs, fe->pairs);
	if (!fe->profile->channels)
		return ts_fail(fe, -ENOTSUP, 0, "%s does not tell its channels", fe->profile->name);
	fe->active = pairs;
	return ts_fe_run(fe, fe->profile->channels);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* A polite vhost-user front-end: single messages with their answers checked, rings and eventfds. */

/*
 * Theory of operation
 *
 * The front-end is synchronous: it sends a message and, if that message has an answer, reads it
 * before it does anything else. Each wait ends at timeout_ms. What is sent in which order is not
 * here but in the step tables of ts_handshake.c; what goes over the socket byte by byte is in
 * ts_wire.c (bounded I/O) and ts_hostile.c (anything goes).
 *
 * A message is acknowledged (NEED_REPLY) if REPLY_ACK was negotiated and the request's bit is set in
 * need_reply. Some front-ends set the flag on requests that have an answer anyway; then there is
 * still only that answer.
 */
#include "ts_frontend.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ts_wire.h"

/* ---- life ---- */

void ts_fe_init(struct ts_fe *fe, const struct ts_profile *profile, struct ts_guest *guest)
{
	*fe = (struct ts_fe){.sock = -1,
		.listener = -1,
		.backend_req = -1,
		.inflight_fd = -1,
		.timeout_ms = 2000,
		.profile = profile,
		.guest = guest,
		.pairs = 1,
		.active = 1,
		.want = TS_GUEST_MODERN,
		.want_protocol = profile->protocol,
		.need_reply = profile->need_reply};
	for (unsigned i = 0; i < TS_MAX_RINGS; i++) {
		struct ts_fe_ring *r = &fe->rings[i];

		r->kick = r->call = r->err = r->masked = -1;
		r->base = TS_FRESH;
	}
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void drop_ring(struct ts_fe_ring *r)
{
	if (r->own_ring)
		ts_ring_free(r->ring);
	r->ring = NULL;
	r->own_ring = false;
}

void ts_fe_free(struct ts_fe *fe)
{
	ts_fe_disconnect(fe);
	if (fe->listener >= 0)
		unlink(fe->path);
	close_fd(&fe->listener);
	close_fd(&fe->inflight_fd);
	for (unsigned i = 0; i < TS_MAX_RINGS; i++) {
		struct ts_fe_ring *r = &fe->rings[i];

		drop_ring(r);
		close_fd(&r->kick);
		close_fd(&r->call);
		close_fd(&r->err);
		close_fd(&r->masked);
	}
}

int ts_need_eventfd(struct ts_fe *fe, int *fd)
{
	if (*fd < 0)
		*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *fd >= 0 ? 0 : ts_fail(fe, -errno, 0, "eventfd: %s", strerror(errno));
}

uint32_t ts_fe_base(struct ts_fe *fe, unsigned index)
{
	struct ts_fe_ring *r = &fe->rings[index];

	if (r->base == TS_FRESH)
		r->base = ts_base_fresh(r->ring ? r->ring->features : fe->features);
	return r->base;
}

void ts_fe_boot_anew(struct ts_fe *fe)
{
	for (unsigned i = 0; i < TS_MAX_RINGS; i++)
		fe->rings[i].base = TS_FRESH;
	close_fd(&fe->inflight_fd);
}

int ts_fe_make_rings(struct ts_fe *fe, unsigned region, uint32_t size, unsigned ring_flags)
{
	for (unsigned i = 0; i < 2 * fe->pairs; i++) {
		struct ts_fe_ring *r = &fe->rings[i];
		struct ts_ring_conf conf = {.guest = fe->guest,
			.region = region,
			.size = size,
			.features = fe->features,
			.flags = ring_flags};
		int rc;

		drop_ring(r);
		conf.base = ts_fe_base(fe, i);
		rc = ts_ring_new(&conf, &r->ring);
		if (rc)
			return ts_fail(fe, rc, 0, "ring %u of size %u: %s", i, size, strerror(-rc));
		r->own_ring = true;
		rc = ts_need_eventfd(fe, &r->kick);
		if (!rc)
			rc = ts_need_eventfd(fe, &r->call);
		if (rc)
			return rc;
		r->ring->kick_fd = r->kick;
		r->ring->call_fd = r->call;
	}
	return 0;
}

void ts_fe_recover_bases(struct ts_fe *fe)
{
	for (unsigned i = 0; i < 2 * fe->pairs; i++)
		if (fe->rings[i].ring)
			fe->rings[i].base = ts_ring_used_pos(fe->rings[i].ring);
}

/* ---- one message ---- */

static bool wants_ack(const struct ts_fe *fe, uint32_t request)
{
	return (fe->protocol & TS_BIT(TS_PROTO_REPLY_ACK)) && (fe->need_reply & TS_BIT(request));
}

static int send_polite(struct ts_fe *fe, uint32_t request, const void *payload, uint32_t size,
	const int *fds, unsigned n_fds)
{
	const uint32_t flags = TS_VERSION | (wants_ack(fe, request) ? TS_NEED_REPLY : 0);

	return ts_send_raw(fe, request, flags, size, payload, size, fds, n_fds);
}

int ts_tell(struct ts_fe *fe, uint32_t request, const void *payload, uint32_t size, const int *fds,
	unsigned n_fds)
{
	uint64_t ack;
	int rc = send_polite(fe, request, payload, size, fds, n_fds);

	if (rc || !wants_ack(fe, request))
		return rc;
	rc = ts_recv_answer(fe, request, &ack, sizeof(ack));
	if (!rc && ack)
		rc = ts_fail(fe, -EREMOTEIO, request, "the back-end answered failure (%#llx)",
			(unsigned long long)ack);
	return rc;
}

int ts_fe_simple(struct ts_fe *fe, enum ts_request request)
{
	return ts_tell(fe, request, NULL, 0, NULL, 0);
}

int ts_fe_set_u64(struct ts_fe *fe, enum ts_request request, uint64_t value)
{
	return ts_tell(fe, request, &value, sizeof(value), NULL, 0);
}

int ts_fe_get_u64(struct ts_fe *fe, enum ts_request request, uint64_t *value)
{
	int rc = send_polite(fe, request, NULL, 0, NULL, 0);

	return rc ? rc : ts_recv_answer(fe, request, value, sizeof(*value));
}

int ts_fe_set_state(struct ts_fe *fe, enum ts_request request, uint32_t index, uint32_t num)
{
	const struct ts_vring_state s = {.index = index, .num = num};

	return ts_tell(fe, request, &s, sizeof(s), NULL, 0);
}

int ts_fe_enable(struct ts_fe *fe, unsigned index, bool on)
{
	return ts_fe_set_state(fe, TS_SET_VRING_ENABLE, index, on);
}

int ts_fe_barrier(struct ts_fe *fe)
{
	uint64_t ignored;

	return ts_fe_get_u64(fe, TS_GET_FEATURES, &ignored);
}

int ts_fe_get_base(struct ts_fe *fe, unsigned index)
{
	struct ts_vring_state s = {.index = index};
	int rc = send_polite(fe, TS_GET_VRING_BASE, &s, sizeof(s), NULL, 0);

	if (!rc)
		rc = ts_recv_answer(fe, TS_GET_VRING_BASE, &s, sizeof(s));
	if (rc)
		return rc;
	if (s.index != index)
		return ts_fail(fe, -EPROTO, TS_GET_VRING_BASE, "asked for ring %u, got %u", index,
			s.index);
	fe->rings[index].base = s.num;
	return 0;
}

static uint64_t ring_address(const struct ts_fe *fe, const struct ts_ring *r, uint64_t gpa)
{
	return ts_ring_has(r, VIRTIO_F_ACCESS_PLATFORM) ? gpa + ts_ring_iova(r)
							: ts_uva(fe->guest, gpa);
}

int ts_fe_set_addr(struct ts_fe *fe, unsigned index)
{
	const struct ts_ring *r = fe->rings[index].ring;
	const struct ts_vring_addr a = {.index = index,
		.flags = fe->log_rings ? TS_VRING_F_LOG : 0,
		.desc = ring_address(fe, r, r->desc_gpa),
		.avail = ring_address(fe, r, r->driver_gpa),
		.used = ring_address(fe, r, r->device_gpa),
		.log = r->device_gpa + ts_ring_iova(r)};

	return ts_tell(fe, TS_SET_VRING_ADDR, &a, sizeof(a), NULL, 0);
}

int ts_fe_set_log(struct ts_fe *fe, int fd, uint64_t size, uint64_t offset)
{
	const struct ts_log_area area = {size, offset};
	struct ts_log_area back;
	int rc = send_polite(fe, TS_SET_LOG_BASE, &area, sizeof(area), &fd, 1);

	if (!rc)
		rc = ts_recv_answer(fe, TS_SET_LOG_BASE, &back, sizeof(back));
	if (!rc && memcmp(&area, &back, sizeof(area)) != 0)
		rc = ts_fail(fe, -EPROTO, TS_SET_LOG_BASE, "it is not our message that came back");
	return rc;
}

int ts_fe_log(struct ts_fe *fe, bool on)
{
	const uint64_t bit = TS_BIT(TS_F_LOG_ALL);
	int rc;

	fe->features = on ? fe->features | bit : fe->features & ~bit;
	fe->log_rings = on;
	rc = ts_fe_set_u64(fe, TS_SET_FEATURES, fe->features);
	for (unsigned i = 0; !rc && i < 2 * fe->pairs; i++)
		if (fe->rings[i].ring)
			rc = ts_fe_set_addr(fe, i);
	return rc ? rc : ts_fe_barrier(fe);
}

int ts_fe_get_inflight(struct ts_fe *fe, uint16_t num_queues, uint16_t queue_size)
{
	const struct ts_inflight want = {.num_queues = num_queues, .queue_size = queue_size};
	struct ts_reply r;
	int rc = send_polite(fe, TS_GET_INFLIGHT_FD, &want, sizeof(want), NULL, 0);

	if (!rc)
		rc = ts_recv_reply(fe, &r);
	if (rc)
		return ts_fail(fe, rc, TS_GET_INFLIGHT_FD, "no answer");
	if (r.n_fds != 1 || r.hdr.request != TS_GET_INFLIGHT_FD ||
		r.hdr.flags != (TS_VERSION | TS_REPLY) || r.hdr.size != sizeof(want)) {
		ts_reply_close(&r);
		return ts_fail(fe, -EPROTO, TS_GET_INFLIGHT_FD, "%u fds and %u bytes", r.n_fds,
			r.hdr.size);
	}
	memcpy(&fe->inflight, r.payload, sizeof(fe->inflight));
	close_fd(&fe->inflight_fd);
	fe->inflight_fd = r.fds[0];
	return 0;
}

int ts_fe_set_inflight(struct ts_fe *fe)
{
	return ts_tell(
		fe, TS_SET_INFLIGHT_FD, &fe->inflight, sizeof(fe->inflight), &fe->inflight_fd, 1);
}

int ts_fe_set_fd(struct ts_fe *fe, enum ts_request request, unsigned index, int fd)
{
	const uint64_t v = index | (fd < 0 ? TS_VRING_NOFD : 0);

	return ts_tell(fe, request, &v, sizeof(v), &fd, fd >= 0);
}

int ts_fe_new_call(struct ts_fe *fe, unsigned index, int *old)
{
	struct ts_fe_ring *r = &fe->rings[index];
	int rc;

	*old = r->call;
	r->call = -1;
	rc = ts_need_eventfd(fe, &r->call);
	if (r->ring)
		r->ring->call_fd = r->call;
	return rc ? rc : ts_fe_set_fd(fe, TS_SET_VRING_CALL, index, r->call);
}

int ts_fe_iotlb(struct ts_fe *fe, const struct ts_iotlb *m)
{
	uint64_t status;
	int rc = send_polite(fe, TS_IOTLB_MSG, m, sizeof(*m), NULL, 0);

	if (!rc)
		rc = ts_recv_answer(fe, TS_IOTLB_MSG, &status, sizeof(status));
	return rc ? rc : status ? -EREMOTEIO : 0;
}

int ts_fe_miss(struct ts_fe *fe, struct ts_iotlb *m)
{
	uint8_t bytes[sizeof(struct ts_hdr) + sizeof(*m)];
	struct ts_hdr h;
	ssize_t n = recv(fe->backend_req, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return 0;
	memcpy(&h, bytes, sizeof(h));
	memcpy(m, bytes + sizeof(h), sizeof(*m));
	if (n != sizeof(bytes) || h.request != 1 || h.flags != TS_VERSION || h.size != sizeof(*m) ||
		m->type != TS_IOTLB_MISS)
		return ts_fail(fe, -EPROTO, 0, "%zd bytes that are no IOTLB miss", n);
	return 1;
}

int ts_fe_set_backend(struct ts_fe *fe, int fd)
{
	return ts_tell(fe, TS_SET_BACKEND_REQ_FD, NULL, 0, &fd, 1);
}

/* ---- memory ---- */

static struct ts_mem_region wire_region(const struct ts_region *r)
{
	return (struct ts_mem_region){
		.gpa = r->gpa, .size = r->size, .uva = r->uva, .mmap_offset = r->mmap_offset};
}

void ts_fe_mem_table(const struct ts_fe *fe, struct ts_mem_table *t)
{
	*t = (struct ts_mem_table){0};
	for (unsigned i = 0; i < fe->guest->n && i < TS_MAX_TABLE_SLOTS; i++)
		t->region[t->n++] = wire_region(&fe->guest->r[i]);
}

int ts_fe_set_mem_table(struct ts_fe *fe)
{
	struct ts_mem_table t;
	int fds[TS_MAX_TABLE_SLOTS];

	if (fe->guest->n > TS_MAX_TABLE_SLOTS)
		return ts_fail(fe, -E2BIG, TS_SET_MEM_TABLE, "the guest has %u regions, 8 fit",
			fe->guest->n);
	ts_fe_mem_table(fe, &t);
	for (unsigned i = 0; i < t.n; i++)
		fds[i] = fe->guest->r[i].fd;
	return ts_tell(fe, TS_SET_MEM_TABLE, &t, 8 + t.n * (uint32_t)sizeof(t.region[0]), fds, t.n);
}

int ts_fe_add_mem_reg(struct ts_fe *fe, unsigned region)
{
	const struct ts_region *r = &fe->guest->r[region];
	const struct ts_mem_slot s = {.region = wire_region(r)};

	return ts_tell(fe, TS_ADD_MEM_REG, &s, sizeof(s), &r->fd, 1);
}

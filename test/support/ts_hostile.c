/* SPDX-License-Identifier: BSD-3-Clause */
/* Sending what no polite front-end sends: any bytes, in any pieces, with any fds. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "ts_wire.h"

/* A message laid out as it goes over the wire. */
struct flat {
	uint8_t bytes[sizeof(struct ts_hdr) + TS_MAX_PAYLOAD];
	size_t len;
};

static void flatten(struct flat *f, const struct ts_msg *m)
{
	memcpy(f->bytes, &m->hdr, sizeof(m->hdr));
	memcpy(f->bytes + sizeof(m->hdr), m->payload, m->len);
	f->len = sizeof(m->hdr) + m->len;
}

static void pause_ms(struct ts_fe *fe, unsigned ms)
{
	const uint64_t end = ts_now_ms() + ms;

	while (ts_now_ms() < end) {
		if (fe->pump)
			fe->pump(fe->pump_arg);
		ts_nap();
	}
}

void ts_msg_make(struct ts_msg *m, uint32_t request, const void *payload, size_t len)
{
	m->hdr = (struct ts_hdr){.request = request, .flags = TS_VERSION, .size = (uint32_t)len};
	m->len = len <= TS_MAX_PAYLOAD ? len : TS_MAX_PAYLOAD;
	m->n_fds = 0;
	if (m->len)
		memcpy(m->payload, payload, m->len);
}

int ts_send_frags(struct ts_fe *fe, const struct ts_frag *frags, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int rc;

		pause_ms(fe, frags[i].pause_ms);
		rc = ts_write_all(fe, frags[i].data, frags[i].len, frags[i].fds, frags[i].n_fds);
		if (rc)
			return ts_fail(fe, rc, 0, "fragment %u of %u: %s", i + 1, n, strerror(-rc));
	}
	return 0;
}

int ts_send_msg(struct ts_fe *fe, const struct ts_msg *m)
{
	struct flat f;
	int rc;

	flatten(&f, m);
	rc = ts_write_all(fe, f.bytes, f.len, m->fds, m->n_fds);
	return rc ? ts_fail(fe, rc, m->hdr.request, "not sent: %s", strerror(-rc)) : 0;
}

int ts_send_raw(struct ts_fe *fe, uint32_t request, uint32_t flags, uint32_t size,
	const void *payload, size_t payload_len, const int *fds, unsigned n_fds)
{
	struct ts_msg m;

	if (payload_len > TS_MAX_PAYLOAD || n_fds > TS_MAX_FDS)
		return ts_fail(fe, -EINVAL, request, "the test sends more than a ts_msg holds");
	ts_msg_make(&m, request, payload, payload_len);
	m.hdr.flags = flags;
	m.hdr.size = size;
	m.n_fds = n_fds;
	if (n_fds)
		memcpy(m.fds, fds, n_fds * sizeof(*fds));
	return ts_send_msg(fe, &m);
}

int ts_send_dribble(struct ts_fe *fe, const struct ts_msg *m, unsigned ms)
{
	struct flat f;

	flatten(&f, m);
	for (size_t i = 0; i < f.len; i++) {
		const struct ts_frag one = {.data = f.bytes + i,
			.len = 1,
			.fds = m->fds,
			.n_fds = i ? 0 : m->n_fds,
			.pause_ms = ms};
		int rc = ts_send_frags(fe, &one, 1);

		if (rc)
			return rc;
	}
	return 0;
}

int ts_send_two(struct ts_fe *fe, const struct ts_msg *a, const struct ts_msg *b)
{
	uint8_t both[2 * sizeof(struct flat)];
	struct ts_frag one = {.data = both, .fds = a->fds, .n_fds = a->n_fds};
	struct flat f;

	flatten(&f, a);
	memcpy(both, f.bytes, f.len);
	one.len = f.len;
	flatten(&f, b);
	memcpy(both + one.len, f.bytes, f.len);
	one.len += f.len;
	return ts_send_frags(fe, &one, 1);
}

int ts_send_late_fds(struct ts_fe *fe, const struct ts_msg *m, size_t at)
{
	struct flat f;

	flatten(&f, m);
	if (at >= f.len)
		return ts_fail(fe, -EINVAL, m->hdr.request, "no byte left to carry the fds");
	return ts_send_frags(fe,
		(const struct ts_frag[]){
			{.data = f.bytes, .len = at},
			{.data = f.bytes + at, .len = f.len - at, .fds = m->fds, .n_fds = m->n_fds},
		},
		2);
}

int ts_send_cut(struct ts_fe *fe, const struct ts_msg *m, size_t at)
{
	struct flat f;
	int rc;

	flatten(&f, m);
	if (at > f.len)
		at = f.len;
	rc = ts_send_frags(fe,
		&(const struct ts_frag){
			.data = f.bytes, .len = at, .fds = m->fds, .n_fds = m->n_fds},
		1);
	if (!rc && shutdown(fe->sock, SHUT_WR))
		rc = ts_fail(fe, -errno, m->hdr.request, "shutdown: %s", strerror(errno));
	return rc;
}

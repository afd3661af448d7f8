/* SPDX-License-Identifier: BSD-3-Clause */
/* What all ring formats share: choosing one by features, positions, eventfds, laying chains out. */
#include "ts_ring_impl.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

int ts_ring_new(const struct ts_ring_conf *conf, struct ts_ring **out)
{
	*out = NULL;
	if (conf->features & TS_BIT(VIRTIO_F_RING_PACKED))
		return ts_ring_packed_ops.create(conf, out);
	return ts_ring_split_ops.create(conf, out);
}

uint32_t ts_base_at(uint64_t features, uint32_t size, uint64_t n)
{
	uint32_t half;

	if (!(features & TS_BIT(VIRTIO_F_RING_PACKED)))
		return (uint16_t)n;
	half = (uint32_t)(n % size) | (n / size & 1 ? 0 : 1u << 15);
	return half | half << 16;
}

void ts_ring_free(struct ts_ring *r)
{
	if (r)
		r->ops->destroy(r);
}

bool ts_ring_kick(struct ts_ring *r)
{
	const uint64_t one = 1;

	if (!ts_ring_kick_prepare(r))
		return false;
	r->n_kicks++;
	if (r->kick_fd >= 0 && write(r->kick_fd, &one, sizeof(one)) != sizeof(one))
		ts_fault(&r->faults, "kick eventfd cannot be written: errno %d", errno);
	return true;
}

uint64_t ts_ring_calls(struct ts_ring *r)
{
	struct pollfd p = {.fd = r->call_fd, .events = POLLIN};
	uint64_t n;

	if (r->call_fd < 0 || poll(&p, 1, 0) != 1 || !(p.revents & POLLIN))
		return 0;
	return read(r->call_fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

/* ---- for the formats ---- */

struct ts_ring ts_ring_begin(const struct ts_ring_ops *ops, const struct ts_ring_conf *conf)
{
	return (struct ts_ring){.ops = ops,
		.guest = conf->guest,
		.region = conf->region,
		.size = conf->size,
		.features = conf->features,
		.force_table = TS_NOMEM,
		.kick_fd = -1,
		.call_fd = -1};
}

uint16_t ts_chain_flags(const struct ts_chain *c, unsigned i)
{
	return (uint16_t)((i < c->n_out ? 0 : VRING_DESC_F_WRITE) |
			  (i + 1 < c->n ? VRING_DESC_F_NEXT : 0));
}

uint32_t ts_chain_writable(const struct ts_chain *c)
{
	uint32_t sum = 0;

	for (unsigned i = c->n_out; i < c->n; i++)
		sum += ts_chain_seg(c, i)->len;
	return sum;
}

uint64_t ts_ring_table(struct ts_ring *r, struct ts_table *own, uint32_t n)
{
	uint64_t at = r->force_table;

	if (at != TS_NOMEM) {
		r->force_table = TS_NOMEM;
		return at;
	}
	if (own->cap < n) {
		at = ts_alloc(r->guest, r->region, 16ull * n, 16);
		if (at == TS_NOMEM)
			return at;
		*own = (struct ts_table){at, n};
	}
	return own->gpa;
}

uint64_t ts_ring_alloc(struct ts_ring *r, uint64_t len, uint64_t align)
{
	uint64_t at = ts_alloc(r->guest, r->region, len + align, 2 * align);

	return at == TS_NOMEM ? at : at + align;
}

void ts_ring_ids(uint16_t *ids, uint32_t n, bool shuffle)
{
	struct ts_rng rng;

	for (uint32_t i = 0; i < n; i++)
		ids[i] = (uint16_t)i;
	if (!shuffle)
		return;
	ts_rng_init(&rng, ts_seed());
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t j = ts_rand_below(&rng, i + 1);
		uint16_t t = ids[i];

		ids[i] = ids[j];
		ids[j] = t;
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* A queue pair whose guest's memory is watched. */
#include "fetch.h"

#include "vnet_direct.h"

static uint64_t device_bytes(const struct ts_ring *r)
{
	return r->pdesc ? 4 : 6 + 8ull * r->size;
}

static void allow_hints(struct ts_watch *w, const struct ts_ring *r)
{
	if (r->pdesc)
		return;
	ts_watch_allow(w, r->driver_gpa + 2, 2, 254);
	ts_watch_allow(w, r->driver_gpa + 4, 2ull * r->size, 1);
}

void fetch_open(struct watched *t, const struct column *c, uint64_t extra)
{
	pair_open(&t->p, c, extra, 65500);
	t->watch = ts_watch_new(t->p.guest);
	assert_non_null(t->watch);
	allow_hints(t->watch, t->p.rx_ring);
	allow_hints(t->watch, t->p.tx_ring);
}

void fetch_close(struct watched *t)
{
	ts_watch_free(t->watch);
	pair_close(&t->p);
}

void fetch_never_device(const struct watched *t, const struct ts_ring *r)
{
	for (uint64_t i = 0; i < device_bytes(r); i++)
		if (ts_watch_reads(t->watch, r->device_gpa + i))
			fail_msg("the device area is read at byte %u", (unsigned)i);
}

void fetch_judge(const struct watched *t)
{
	char why[400];

	assert_int_not_equal(t->watch->n, 0);
	if (!ts_watch_once(t->watch, why, sizeof(why)))
		fail_msg("%s", why);
	fetch_never_device(t, t->p.rx_ring);
	fetch_never_device(t, t->p.tx_ring);
}

uint16_t fetch_dequeue(struct watched *t, struct rte_mbuf **m)
{
	uint16_t n;

	ts_watch_begin(t->watch);
	n = vnet_dequeue(t->p.rx, m, VIRTQ_BURST);
	ts_watch_end(t->watch);
	return n;
}

uint16_t fetch_enqueue(struct watched *t, struct rte_mbuf **m, uint16_t n)
{
	ts_watch_begin(t->watch);
	n = vnet_enqueue(t->p.tx, m, n);
	ts_watch_end(t->watch);
	return n;
}

uint16_t fetch_direct(struct watched *t)
{
	uint16_t n;

	ts_watch_begin(t->watch);
	n = vnet_direct(t->p.rx, (struct vnet_direct_to){t->p.tx, UINT32_MAX, NULL}, VIRTQ_BURST);
	ts_watch_end(t->watch);
	return n;
}

void fetch_sends(struct watched *t, const struct virtio_net_hdr_v1 *hdr, const uint8_t *frame,
	uint32_t len, const uint32_t *cuts, unsigned n_cuts, enum ts_mode mode)
{
	assert_int_equal(ts_net_send(&t->p.net, hdr, frame, len, cuts, n_cuts, mode), 0);
	t->p.offered++;
}

const uint32_t fetch_cuts[FETCH_CUTS][13] = {
	{0}, {12}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {12, 14, 30}, {16, 1, 1, 200}};

unsigned fetch_count(const uint32_t *cuts)
{
	unsigned n = 0;

	while (cuts[n])
		n++;
	return n;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Two guests, and packets that go from one to the other without mbufs. */
#include "guests.h"

#include "ts_pkt.h"

#define ROOM 70000

static uint8_t frame[ROOM], got[ROOM];

uint16_t guests_direct(const struct guests *g, uint16_t n, uint32_t max_len, rte_spinlock_t *lock)
{
	return vnet_direct(g->from.rx, (struct vnet_direct_to){g->to.tx, max_len, lock}, n);
}

void guests_sends(
	struct pair *p, uint32_t len, const uint32_t *cuts, uint32_t seq, enum ts_mode mode)
{
	unsigned n = 0;

	while (cuts && cuts[n])
		n++;
	ts_pkt_fill(frame, len, seq);
	assert_int_equal(ts_net_send(&p->net, NULL, frame, len, cuts, n, mode), 0);
	p->offered++;
}

void guests_receives(struct pair *p, uint32_t len, uint32_t seq)
{
	struct virtio_net_hdr_v1 hdr;
	uint32_t number;

	assert_int_equal(ts_net_recv(&p->net, got, sizeof(got), &hdr), len);
	assert_int_equal(ts_pkt_check(got, len, &number), 0);
	assert_int_equal(number, seq);
	assert_int_equal(hdr.flags | hdr.gso_type, 0);
	assert_int_equal(hdr.num_buffers, 1);
}

struct column guests_column(const struct vq_format *format)
{
	return (struct column){.format = format, .mergeable = true, .event_idx = true, .v1 = true};
}

void guests_open(struct guests *g, const struct column *from, const struct column *to)
{
	pair_open(&g->from, from, 0, 65500);
	pair_open(&g->to, to, 0, 65530);
}

void guests_close(struct guests *g)
{
	pair_reap(&g->from);
	assert_int_equal(g->from.rx->stats.packets, g->to.tx->stats.packets);
	assert_int_equal(g->from.rx->stats.bytes, g->to.tx->stats.bytes);
	pair_close(&g->from);
	pair_close(&g->to);
}

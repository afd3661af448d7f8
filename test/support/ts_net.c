/* SPDX-License-Identifier: BSD-3-Clause */
/* Buffers, header rules and packet assembly of a virtio-net guest (VIRTIO 1.2 section 5.1.6). */

/*
 * Theory of operation
 *
 * A struct ts_buf is a chain the device may have: an arena of guest memory with the segments laid
 * into it, TS_GAP poisoned bytes before, between and after them. It is the ring's token. When it
 * comes back the gaps must still be poison, and a TX arena must hash as before. Idle buffers are
 * kept in one list and taken again by size, since guest memory has no free().
 */
#include "ts_net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct ts_buf {
	struct ts_buf *next;
	uint64_t arena; /* TS_NOMEM: the test's own addresses, no gaps */
	uint32_t cap;   /* bytes of arena */
	unsigned n_max;
	unsigned n;
	uint64_t total;
	uint64_t hash; /* TX: of the arena when it was sent */
	struct ts_seg seg[];
};

/* A string of bytes in several places: header and payload of a packet, or one buffer's segments. */
struct walk {
	const struct ts_seg *seg;
	unsigned left;
	uint32_t off;
};

unsigned ts_net_hdr_len(uint64_t features)
{
	const uint64_t modern = TS_BIT(VIRTIO_NET_F_MRG_RXBUF) | TS_BIT(VIRTIO_F_VERSION_1) |
				TS_BIT(VIRTIO_F_RING_PACKED);

	return features & modern ? 12 : 10;
}

void ts_net_init(struct ts_net *n, struct ts_guest *guest, unsigned region, struct ts_ring *rx,
	struct ts_ring *tx)
{
	const struct ts_ring *any = rx ? rx : tx;

	*n = (struct ts_net){.guest = guest, .region = region, .rx = rx, .tx = tx};
	n->features = any->features;
	n->hdr_len = ts_net_hdr_len(n->features);
}

/* ---- buffers ---- */

static void put_idle(struct ts_net *n, struct ts_buf *b)
{
	b->next = n->idle;
	n->idle = b;
}

static struct ts_buf *find_idle(struct ts_net *n, unsigned n_segs, uint32_t cap)
{
	for (struct ts_buf **p = &n->idle; *p; p = &(*p)->next) {
		struct ts_buf *b = *p;

		if ((b->arena == TS_NOMEM) != (cap == 0) || b->n_max < n_segs || b->cap < cap)
			continue;
		*p = b->next;
		return b;
	}
	return NULL;
}

static struct ts_buf *get_buf(struct ts_net *n, unsigned n_segs, uint32_t cap)
{
	struct ts_buf *b = find_idle(n, n_segs, cap);
	uint64_t arena = TS_NOMEM;

	if (b)
		return b;
	if (cap) {
		arena = ts_alloc(n->guest, n->region, cap, 64);
		if (arena == TS_NOMEM)
			return NULL;
	}
	b = calloc(1, sizeof(*b) + n_segs * sizeof(b->seg[0]));
	if (!b)
		return NULL;
	b->arena = arena;
	b->cap = cap;
	b->n_max = n_segs;
	return b;
}

static struct ts_buf *lay_out(struct ts_net *n, const uint32_t *sizes, unsigned n_sizes)
{
	uint64_t cap = TS_GAP, at;
	struct ts_buf *b;

	for (unsigned i = 0; i < n_sizes; i++)
		cap += (uint64_t)sizes[i] + TS_GAP;
	if (cap > UINT32_MAX)
		return NULL;
	b = get_buf(n, n_sizes, (uint32_t)cap);
	if (!b)
		return NULL;
	memset(ts_va(n->guest, b->arena, b->cap), TS_POISON, b->cap);
	at = b->arena + TS_GAP;
	b->n = n_sizes;
	b->total = cap - TS_GAP * (n_sizes + 1u);
	for (unsigned i = 0; i < n_sizes; i++) {
		b->seg[i] = (struct ts_seg){.gpa = at, .len = sizes[i]};
		at += sizes[i] + TS_GAP;
	}
	return b;
}

static struct ts_buf *lay_at(struct ts_net *n, const struct ts_seg *segs, unsigned n_segs)
{
	struct ts_buf *b = get_buf(n, n_segs, 0);

	if (!b)
		return NULL;
	b->n = n_segs;
	b->total = 0;
	for (unsigned i = 0; i < n_segs; i++) {
		b->seg[i] = segs[i];
		b->total += segs[i].len;
	}
	return b;
}

static bool gap_ok(const struct ts_net *n, uint64_t from, uint64_t to)
{
	const uint8_t *p = ts_va(n->guest, from, to - from);

	for (uint64_t i = 0; i < to - from; i++)
		if (p[i] != TS_POISON)
			return false;
	return true;
}

static void check_gaps(struct ts_net *n, const struct ts_buf *b)
{
	uint64_t from = b->arena;

	if (b->arena == TS_NOMEM)
		return;
	for (unsigned i = 0; i <= b->n; i++) {
		uint64_t to = i < b->n ? b->seg[i].gpa : b->arena + b->cap;

		if (!gap_ok(n, from, to)) {
			ts_fault(&n->faults, "bytes %s descriptor %u of %u were overwritten",
				i < b->n ? "before" : "after", i < b->n ? i : i - 1, b->n);
			return;
		}
		if (i < b->n)
			from = b->seg[i].gpa + b->seg[i].len;
	}
}

static uint64_t hash_arena(const struct ts_net *n, const struct ts_buf *b)
{
	const uint8_t *p = b->arena == TS_NOMEM ? NULL : ts_va(n->guest, b->arena, b->cap);
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (uint32_t i = 0; p && i < b->cap; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* Move `len` bytes between private memory and the walk's segments, and step it on. */
static int walk_copy(struct ts_net *n, struct walk *w, void *to, const void *from, size_t len)
{
	size_t done = 0;

	while (done < len && w->left) {
		uint32_t chunk = w->seg->len - w->off;
		uint64_t at = w->seg->gpa + w->off;
		int rc;

		if (chunk > len - done)
			chunk = (uint32_t)(len - done);
		if (to)
			rc = ts_guest_read(n->guest, at, (uint8_t *)to + done, chunk);
		else
			rc = ts_guest_write(n->guest, at, (const uint8_t *)from + done, chunk);
		if (rc)
			return rc;
		done += chunk;
		w->off += chunk;
		if (w->off == w->seg->len) {
			w->seg++;
			w->left--;
			w->off = 0;
		}
	}
	return done == len ? 0 : -EMSGSIZE;
}

/* ---- receive ---- */

static int post(struct ts_net *n, struct ts_buf *b, enum ts_mode mode)
{
	int rc;

	if (!b)
		return -ENOMEM;
	rc = ts_ring_add(n->rx, NULL, 0, b->seg, b->n, b, mode);
	if (rc)
		put_idle(n, b);
	return rc;
}

int ts_net_post_rx(struct ts_net *n, const uint32_t *sizes, unsigned n_sizes, enum ts_mode mode)
{
	return post(n, lay_out(n, sizes, n_sizes), mode);
}

int ts_net_post_rx_at(
	struct ts_net *n, const struct ts_seg *segs, unsigned n_segs, enum ts_mode mode)
{
	return post(n, lay_at(n, segs, n_segs), mode);
}

unsigned ts_net_fill_rx(struct ts_net *n, unsigned count, uint32_t size)
{
	unsigned done = 0;

	while (done < count && ts_net_post_rx(n, &size, 1, TS_DIRECT) == 0)
		done++;
	ts_ring_kick(n->rx);
	return done;
}

static bool has(const struct ts_net *n, unsigned bit)
{
	return n->features & TS_BIT(bit);
}

/* The feature a guest must have acknowledged to be sent this GSO type; -1 for no such type. */
static int gso_feature(uint8_t type)
{
	switch (type) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return VIRTIO_NET_F_GUEST_TSO4;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return VIRTIO_NET_F_GUEST_TSO6;
	case VIRTIO_NET_HDR_GSO_UDP:
		return VIRTIO_NET_F_GUEST_UFO;
	case TS_NET_HDR_GSO_UDP_L4:
		return TS_NET_F_GUEST_USO4;
	default:
		return -1;
	}
}

static const char *gso_rule(const struct ts_net *n, const struct virtio_net_hdr_v1 *h)
{
	const uint8_t type = h->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
	const int bit = gso_feature(type);

	if (h->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return NULL;
	if (bit < 0)
		return "unknown gso_type";
	if (!has(n, (unsigned)bit) &&
		!(type == TS_NET_HDR_GSO_UDP_L4 && has(n, TS_NET_F_GUEST_USO6)))
		return "gso_type was not negotiated";
	if ((h->gso_type & VIRTIO_NET_HDR_GSO_ECN) && !has(n, VIRTIO_NET_F_GUEST_ECN))
		return "GSO_ECN was not negotiated";
	if (!(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return "gso_type without NEEDS_CSUM";
	return h->gso_size ? NULL : "gso_size is 0";
}

/* The device's duties of section 5.1.6.4.1; NULL when they are met. */
static const char *header_rule(
	const struct ts_net *n, const struct virtio_net_hdr_v1 *h, uint64_t len)
{
	if (n->hdr_len == 12 && !h->num_buffers)
		return "num_buffers is 0";
	if (!has(n, VIRTIO_NET_F_MRG_RXBUF) && h->num_buffers != 1)
		return "num_buffers is not 1 without MRG_RXBUF";
	if (h->flags && !has(n, VIRTIO_NET_F_GUEST_CSUM))
		return "flags is not 0 without GUEST_CSUM";
	if (h->flags & ~(VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID))
		return "unknown flag";
	if ((h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
		(uint64_t)h->csum_start + h->csum_offset + 2 > len)
		return "checksum field is behind the packet";
	return gso_rule(n, h);
}

struct packet {
	uint8_t *to;
	size_t cap;
	size_t len;
};

/* Copy what one buffer holds behind what is already there; too much is counted, not copied. */
static void append(struct ts_net *n, struct packet *p, struct walk *w, uint32_t len)
{
	if (p->len <= p->cap && len <= p->cap - p->len &&
		walk_copy(n, w, p->to + p->len, NULL, len))
		ts_fault(&n->faults, "a receive buffer is not guest memory");
	p->len += len;
}

static struct ts_buf *take_rx(struct ts_net *n, uint32_t *len)
{
	struct ts_buf *b = ts_ring_get_used(n->rx, len);

	if (b) {
		check_gaps(n, b);
		n->n_bufs++;
	}
	return b;
}

static struct walk walk_of(const struct ts_buf *b)
{
	return (struct walk){.seg = b->seg, .left = b->n};
}

static int recv_first(struct ts_net *n, struct packet *p, struct virtio_net_hdr_v1 *h,
	struct ts_buf *b, uint32_t len)
{
	struct walk w = walk_of(b);

	h->num_buffers = 1;
	if (len < n->hdr_len || walk_copy(n, &w, h, NULL, n->hdr_len)) {
		ts_fault(&n->faults, "first buffer has %u bytes, the header needs %u", len,
			n->hdr_len);
		return -EPROTO;
	}
	append(n, p, &w, len - n->hdr_len);
	if (h->num_buffers > 1 && len != b->total) {
		ts_fault(&n->faults, "buffer 1 of %u is filled with %u of %llu bytes",
			h->num_buffers, len, (unsigned long long)b->total);
		return -EPROTO;
	}
	return 0;
}

static int recv_rest(struct ts_net *n, struct packet *p, unsigned num)
{
	int rc = 0;

	for (unsigned i = 2; i <= num; i++) {
		uint32_t len;
		struct ts_buf *b = take_rx(n, &len);
		struct walk w;

		if (!b) {
			ts_fault(&n->faults, "num_buffers is %u, only %u were used", num, i - 1);
			return -EPROTO;
		}
		w = walk_of(b);
		append(n, p, &w, len);
		if (i < num && len != b->total) {
			ts_fault(&n->faults, "buffer %u of %u is filled with %u of %llu bytes", i,
				num, len, (unsigned long long)b->total);
			rc = -EPROTO;
		}
		put_idle(n, b);
	}
	return rc;
}

int ts_net_recv(struct ts_net *n, void *buf, size_t cap, struct virtio_net_hdr_v1 *hdr)
{
	struct packet p = {.to = buf, .cap = cap};
	struct virtio_net_hdr_v1 h = {0};
	const unsigned faults = ts_net_faults(n);
	const char *broken;
	struct ts_buf *b;
	uint32_t len;
	int rc;

	n->n_bufs = 0;
	b = take_rx(n, &len);
	if (!b)
		return ts_net_faults(n) == faults ? -EAGAIN : -EPROTO;
	rc = recv_first(n, &p, &h, b, len);
	put_idle(n, b);
	/* Without MRG_RXBUF the field must be 1, and is not believed. */
	if (!rc && has(n, VIRTIO_NET_F_MRG_RXBUF))
		rc = recv_rest(n, &p, h.num_buffers);
	if (rc)
		return rc;
	broken = header_rule(n, &h, p.len);
	if (broken)
		ts_fault(&n->faults, "receive header: %s", broken);
	if (hdr)
		*hdr = h;
	if (ts_net_faults(n) != faults)
		return -EPROTO;
	return p.len <= cap ? (int)p.len : -EMSGSIZE;
}

/* ---- send ---- */

static int fill_and_add(struct ts_net *n, struct ts_buf *b, const struct virtio_net_hdr_v1 *hdr,
	const void *payload, size_t len, enum ts_mode mode)
{
	static const struct virtio_net_hdr_v1 none;
	struct walk w;
	int rc;

	if (!b)
		return -ENOMEM;
	w = walk_of(b);
	rc = walk_copy(n, &w, NULL, hdr ? hdr : &none, n->hdr_len);
	if (!rc)
		rc = walk_copy(n, &w, NULL, payload, len);
	if (!rc) {
		b->hash = hash_arena(n, b);
		rc = ts_ring_add(n->tx, b->seg, b->n, NULL, 0, b, mode);
	}
	if (rc)
		put_idle(n, b);
	return rc;
}

int ts_net_send(struct ts_net *n, const struct virtio_net_hdr_v1 *hdr, const void *payload,
	size_t len, const uint32_t *cuts, unsigned n_cuts, enum ts_mode mode)
{
	uint32_t *sizes = calloc(n_cuts + 1u, sizeof(*sizes));
	size_t left = n->hdr_len + len;
	unsigned k = 0;
	int rc;

	if (!sizes)
		return -ENOMEM;
	while (k < n_cuts && cuts[k] < left) {
		sizes[k] = cuts[k];
		left -= cuts[k++];
	}
	if (left)
		sizes[k++] = (uint32_t)left;
	rc = fill_and_add(n, lay_out(n, sizes, k), hdr, payload, len, mode);
	free(sizes);
	return rc;
}

int ts_net_send_at(struct ts_net *n, const struct virtio_net_hdr_v1 *hdr, const void *payload,
	size_t len, const struct ts_seg *segs, unsigned n_segs, enum ts_mode mode)
{
	return fill_and_add(n, lay_at(n, segs, n_segs), hdr, payload, len, mode);
}

unsigned ts_net_reap(struct ts_net *n)
{
	unsigned done = 0;
	struct ts_buf *b;

	while ((b = ts_ring_get_used(n->tx, NULL))) {
		if (hash_arena(n, b) != b->hash)
			ts_fault(&n->faults, "a transmit buffer was written by the device");
		if (b->arena != TS_NOMEM)
			memset(ts_va(n->guest, b->arena, b->cap), TS_POISON, b->cap);
		put_idle(n, b);
		done++;
	}
	return done;
}

/* ---- life ---- */

static void take_back(struct ts_net *n, struct ts_ring *r)
{
	struct ts_buf *b;

	while (r && (b = ts_ring_detach(r)))
		put_idle(n, b);
}

void ts_net_reset(struct ts_net *n, uint32_t rx_base, uint32_t tx_base)
{
	take_back(n, n->rx);
	take_back(n, n->tx);
	if (n->rx)
		ts_ring_reset(n->rx, rx_base);
	if (n->tx)
		ts_ring_reset(n->tx, tx_base);
}

void ts_net_fini(struct ts_net *n)
{
	take_back(n, n->rx);
	take_back(n, n->tx);
	while (n->idle) {
		struct ts_buf *b = n->idle;

		n->idle = b->next;
		free(b);
	}
}

unsigned ts_net_faults(const struct ts_net *n)
{
	return n->faults.count + (n->rx ? n->rx->faults.count : 0) +
	       (n->tx ? n->tx->faults.count : 0);
}

const char *ts_net_why(const struct ts_net *n)
{
	if (n->rx && n->rx->faults.count)
		return n->rx->faults.first;
	if (n->tx && n->tx->faults.count)
		return n->tx->faults.first;
	return n->faults.first;
}

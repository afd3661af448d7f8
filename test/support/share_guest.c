/* SPDX-License-Identifier: BSD-3-Clause */
/* Guests of one switch as a small program: two neighbours whose frames circle, and others that cost as much as they can. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ts_frontend.h"
#include "ts_net.h"
#include "ts_pkt.h"

/*
 * Theory of operation
 *
 * One thread drives all queue pairs. The neighbours are polite: CIRCLING frames go from the first to the
 * second and back, and each circle is timed. Nobody sends more than fits the other's ring, so
 * each frame that does not come back was lost.
 *
 * The others write their rings once. To offer all chains anew is then one store of an index, so
 * they are always ahead of the switch, and take next to no time from the neighbours. All post
 * buffers that hold a packet each, but for the last, whose buffers are tables of small pieces.
 *
 * Each line on stdin, "KIND MILLISECONDS", makes the others do something for so long, and is answered
 * by a line of JSON with what the neighbours saw meanwhile.
 */

#define RING     256u
#define CIRCLING 16u
#define LEN      64u
#define LARGE    60000u
#define MSS      536u
#define PIECES   128u
#define MEMORY   (16u << 20)
#define OTHERS   6u
#define TIMES    (1u << 20)
#define GIVE_UP  10000u /* ms */

enum {
	A,
	B,
	FIRST,
	PORTS = FIRST + OTHERS
};

struct port {
	struct ts_fe fe;
	struct ts_net net; /* neighbours only */
	uint64_t frame;    /* others: guest address of what they send, header included */
	uint64_t tables;   /* others: a table for each descriptor of the ring they send by */
};

static struct port ports[PORTS];
static unsigned n_ports;
static uint64_t began[CIRCLING];
static uint32_t times[TIMES];

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void address(uint8_t *frame, unsigned from, unsigned to)
{
	const uint8_t mac[6] = {0x02, 0, 0, 0, 0x05, 0};

	memcpy(frame, mac, 6);
	memcpy(frame + 6, mac, 6);
	frame[5] = (uint8_t)to;
	frame[11] = (uint8_t)from;
}

/* ---- the neighbours ---- */

static int pass_on(unsigned from, unsigned to, uint8_t *frame)
{
	address(frame, from, to);
	return ts_net_send(&ports[from].net, NULL, frame, LEN, NULL, 0, TS_DIRECT);
}

static void start_circle(uint32_t seq)
{
	uint8_t frame[LEN];

	ts_pkt_fill(frame, LEN, seq);
	began[seq] = now_ns();
	pass_on(A, B, frame);
}

/* What one has received, others' frames left out. False: nothing. */
static int receive(unsigned at, uint8_t *frame, uint32_t *seq)
{
	const uint32_t size = 2048;
	int len;

	do {
		len = ts_net_recv(&ports[at].net, frame, 2048, NULL);
		if (len < 0)
			return len;
		ts_net_post_rx(&ports[at].net, &size, 1, TS_DIRECT);
	} while (len != LEN || ts_pkt_check(frame, LEN, seq) != 0 || *seq >= CIRCLING);
	return len;
}

/* One turn; how many circles were completed, whose times are in times[] from n on. */
static uint32_t turn(bool again, uint32_t n)
{
	uint8_t frame[2048];
	uint32_t seq, done = 0;

	while (receive(B, frame, &seq) > 0)
		pass_on(B, A, frame);
	while (receive(A, frame, &seq) > 0) {
		times[(n + done++) % TIMES] = (uint32_t)(now_ns() - began[seq]);
		if (again)
			start_circle(seq);
	}
	for (unsigned i = A; i <= B; i++) {
		ts_net_reap(&ports[i].net);
		ts_ring_kick(ports[i].net.rx);
		ts_ring_kick(ports[i].net.tx);
	}
	return done;
}

/* ---- the others ---- */

static void offer_all(struct ts_ring *r)
{
	uint16_t used = __atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE);

	__atomic_store_n(&r->avail->idx, (uint16_t)(used + RING), __ATOMIC_RELEASE);
}

static bool is_consumed(const struct ts_ring *r)
{
	return __atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE) == r->avail->idx;
}

/* Descriptor i of a ring is a table of its own. */
static struct vring_desc *table_of(const struct port *p, struct ts_ring *r, unsigned i)
{
	uint64_t gpa = p->tables + i * PIECES * sizeof(struct vring_desc);

	r->avail->ring[i] = (uint16_t)i;
	r->desc[i] = (struct vring_desc){.addr = gpa,
		.len = PIECES * sizeof(struct vring_desc),
		.flags = VRING_DESC_F_INDIRECT};
	return ts_va(p->fe.guest, gpa, PIECES * sizeof(struct vring_desc));
}

/* n pieces of these lengths, from an address on; the last takes what is left. */
static void cut(struct vring_desc *to, unsigned n, uint64_t gpa, uint32_t len, uint32_t first,
	uint32_t piece, uint16_t flags)
{
	for (unsigned i = 0; i < n; i++) {
		uint32_t part = i == 0 ? first : piece;

		if (i + 1 == n)
			part = len;
		to[i] = (struct vring_desc){gpa, part,
			(uint16_t)(flags | (i + 1 < n ? VRING_DESC_F_NEXT : 0)), (uint16_t)(i + 1)};
		gpa += part;
		len -= part;
	}
}

/* A ring to receive by: buffers that hold a packet each, or tables of pieces. */
static void post_all(struct port *p, struct ts_ring *r, bool pieces)
{
	struct ts_guest *g = p->fe.guest;
	uint64_t tables = p->tables;

	if (pieces)
		p->tables = ts_alloc(g, 0, RING * PIECES * sizeof(struct vring_desc), 16);
	for (unsigned i = 0; i < RING; i++) {
		uint64_t gpa = ts_alloc(g, 0, 2048, 64);

		if (pieces) {
			struct vring_desc *t = table_of(p, r, i);

			cut(t, 8, gpa, 68, 12, 8, VRING_DESC_F_WRITE);
			r->desc[i].len = 8 * sizeof(*t);
		} else {
			r->avail->ring[i] = (uint16_t)i;
			r->desc[i] = (struct vring_desc){gpa, 2048, VRING_DESC_F_WRITE, 0};
		}
	}
	p->tables = tables;
	offer_all(r);
}

enum kind {
	IDLE,
	HONEST,
	PIECE,
	EMPTY,
	LARGEST,
	TINY,
	KINDS
};

static const char *const kinds[KINDS] = {
	[IDLE] = "idle",
	[HONEST] = "honest",
	[PIECE] = "pieces",
	[EMPTY] = "empty",
	[LARGEST] = "large",
	[TINY] = "tiny",
};

static unsigned hdr_len(const struct port *p)
{
	return ts_net_hdr_len(p->fe.features);
}

/* What it sends, with its header, in guest memory. Returns the bytes of both. */
static uint32_t write_frame(const struct port *p, enum kind kind, unsigned from, unsigned to)
{
	struct virtio_net_hdr_v1 hdr = {0};
	uint8_t *at = ts_va(p->fe.guest, p->frame, hdr_len(p) + LARGE);
	uint32_t len = kind == PIECE ? 100 : 1514;

	if (kind == LARGEST) {
		const struct ts_ip ip = {.proto = 6, .payload = LARGE - 100, .partial = true};

		len = ts_pkt_ip(at + hdr_len(p), LARGE, &ip, &hdr);
		hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
		hdr.gso_size = MSS;
	} else {
		ts_pkt_fill(at + hdr_len(p), len, CIRCLING);
	}
	memcpy(at, &hdr, hdr_len(p));
	address(at + hdr_len(p), from, to);
	return hdr_len(p) + len;
}

static void write_ring(struct port *p, enum kind kind, unsigned from, unsigned to)
{
	struct ts_ring *r = p->fe.rings[1].ring;
	uint32_t len = write_frame(p, kind, from, to);

	for (unsigned i = 0; i < RING; i++) {
		struct vring_desc *t = table_of(p, r, i);

		if (kind == PIECE) {
			cut(t, len - hdr_len(p) + 1, p->frame, len, hdr_len(p), 1, 0);
			r->desc[i].len = (len - hdr_len(p) + 1) * sizeof(*t);
		} else if (kind == EMPTY) {
			cut(t, PIECES, p->frame, 0, 0, 0, 0);
		} else {
			r->desc[i] = (struct vring_desc){.addr = p->frame, .len = len};
		}
	}
}

/* Each sends to the next one that has proper buffers, or all to the one that has not. */
static unsigned target_of(unsigned from, enum kind kind)
{
	unsigned last = n_ports - 1, proper = n_ports - FIRST > 1 ? last - 1 : last;

	if (kind == TINY)
		return last;
	return from >= proper ? FIRST : from + 1;
}

static bool sends(unsigned i, enum kind kind)
{
	return kind != IDLE && (kind != TINY || i != n_ports - 1);
}

/* The switch is to have taken what they offered before. */
static bool change(enum kind kind)
{
	for (unsigned i = FIRST; i < n_ports; i++) {
		struct ts_ring *r = ports[i].fe.rings[1].ring;

		if (!TS_WAIT(is_consumed(r), GIVE_UP))
			return false;
		write_ring(&ports[i], kind, i, target_of(i, kind));
	}
	return true;
}

static void drive_others(enum kind kind)
{
	for (unsigned i = FIRST; i < n_ports; i++) {
		offer_all(ports[i].fe.rings[0].ring);
		if (sends(i, kind))
			offer_all(ports[i].fe.rings[1].ring);
	}
}

/* ---- a window ---- */

static int by_value(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static double us(uint32_t n, unsigned per_mille)
{
	return n ? times[(uint64_t)(n - 1) * per_mille / 1000] / 1e3 : 0;
}

static void say(enum kind kind, double seconds, uint32_t circles, uint32_t lost)
{
	uint32_t n = circles < TIMES ? circles : TIMES;

	qsort(times, n, sizeof(times[0]), by_value);
	printf("{\"kind\": \"%s\", \"per_second\": %.0f, \"p50\": %.1f, \"p99\": %.1f, \"lost\": "
	       "%u, "
	       "\"faults\": %u}\n",
		kinds[kind], circles / seconds, us(n, 500), us(n, 990), lost,
		ts_net_faults(&ports[A].net) + ts_net_faults(&ports[B].net));
	fflush(stdout);
}

static bool window(enum kind kind, unsigned ms)
{
	uint64_t start, end;
	uint32_t n = 0, back = 0;

	if (!change(kind))
		return false;
	start = now_ns();
	end = start + ms * UINT64_C(1000000);
	for (uint32_t i = 0; i < CIRCLING; i++)
		start_circle(i);
	while (now_ns() < end) {
		drive_others(kind);
		n += turn(true, n);
	}
	end = now_ns();
	TS_WAIT((back += turn(false, n + back)) >= CIRCLING, GIVE_UP);
	say(kind, (double)(end - start) / 1e9, n, CIRCLING - back);
	return true;
}

static bool obey(const char *line)
{
	char word[16];
	unsigned ms;

	if (sscanf(line, "%15s %u", word, &ms) != 2)
		return false;
	for (unsigned kind = 0; kind < KINDS; kind++)
		if (strcmp(word, kinds[kind]) == 0)
			return window(kind, ms);
	return false;
}

/* ---- life ---- */

static int bring_up(struct port *p, const char *path)
{
	ts_fe_init(&p->fe, &ts_qemu_10, ts_guest_one(MEMORY));
	p->fe.timeout_ms = 60000;
	p->fe.want = TS_BIT(VIRTIO_NET_F_MRG_RXBUF) | TS_BIT(VIRTIO_RING_F_INDIRECT_DESC) |
		     TS_BIT(VIRTIO_F_VERSION_1) | TS_BIT(TS_F_PROTOCOL_FEATURES) |
		     TS_BIT(VIRTIO_NET_F_CSUM) | TS_BIT(VIRTIO_NET_F_HOST_TSO4);
	if (!p->fe.guest || ts_fe_connect(&p->fe, path) < 0 || ts_fe_negotiate(&p->fe) < 0 ||
		ts_fe_make_rings(&p->fe, 0, RING, 0) < 0)
		return -ECONNREFUSED;
	return 0;
}

static int start_neighbour(struct port *p)
{
	ts_net_init(&p->net, p->fe.guest, 0, p->fe.rings[0].ring, p->fe.rings[1].ring);
	ts_net_fill_rx(&p->net, RING, 2048);
	return ts_fe_start(&p->fe);
}

static int start_other(struct port *p, bool last)
{
	struct ts_guest *g = p->fe.guest;

	p->tables = ts_alloc(g, 0, RING * PIECES * sizeof(struct vring_desc), 16);
	p->frame = ts_alloc(g, 0, LARGE + 64, 64);
	post_all(p, p->fe.rings[0].ring, last);
	for (unsigned i = 0; i < 2; i++)
		p->fe.rings[i].ring->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	return ts_fe_start(&p->fe);
}

/* The bridge is to know them all. */
static void introduce(void)
{
	for (unsigned i = FIRST; i < n_ports; i++) {
		write_ring(&ports[i], HONEST, i, A);
		ports[i].fe.rings[1].ring->avail->idx++;
	}
}

int main(int argc, char **argv)
{
	char line[64];
	int err = argc < 5 || argc > PORTS + 1 ? -EINVAL : 0;

	if (err) {
		fputs("usage: share_guest NEIGHBOUR NEIGHBOUR OTHER OTHER...\n", stderr);
		return 2;
	}
	n_ports = (unsigned)argc - 1;
	for (unsigned i = 0; i < n_ports && err == 0; i++) {
		err = bring_up(&ports[i], argv[i + 1]);
		if (err == 0)
			err = i <= B ? start_neighbour(&ports[i])
				     : start_other(&ports[i], i == n_ports - 1);
		if (err)
			fprintf(stderr, "share_guest: %s: %s\n", argv[i + 1], ports[i].fe.why);
	}
	if (err == 0) {
		introduce();
		puts("up");
		fflush(stdout);
		while (fgets(line, sizeof(line), stdin))
			if (!obey(line))
				break;
		err = feof(stdin) ? 0 : -EIO;
	}
	for (unsigned i = 0; i < n_ports; i++) {
		if (i <= B && ports[i].net.guest)
			ts_net_fini(&ports[i].net);
		ts_guest_free(ports[i].fe.guest);
		ts_fe_free(&ports[i].fe);
	}
	return err ? 1 : 0;
}

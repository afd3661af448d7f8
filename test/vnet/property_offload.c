/* SPDX-License-Identifier: BSD-3-Clause */
/* Random virtio-net headers in front of random frames: whatever passes is what Linux makes of it. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>

#include "frame.h"
#include "kernel.h"
#include "offload.h"
#include "pair.h"

/*
 * Theory of operation
 *
 * Each case is a frame and a header. Both go the way of a guest's packet: through a ring into
 * vnet_dequeue(). What was accepted is brought to the wire in two ways,
 *
 *   software  vnet_soften() for a destination without any offload
 *   guest     vnet_mbuf_to_hdr() for a guest with all of them; the kernel is that guest
 *
 * and both must be what the kernel makes of the original, frame by frame and byte by byte. What
 * was not accepted must have been counted once, as a bad header, and must not have been right.
 *
 * SLUICE_SEED repeats a run, SLUICE_ROUNDS=N makes it longer.
 */

#define HOST_ALL (F(CSUM) | F(HOST_TSO4) | F(HOST_TSO6) | F(HOST_UFO) | F(HOST_ECN) | F(HOST_USO))
#define GUEST_ALL                                                                      \
	(F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6) | F(GUEST_UFO) | F(GUEST_ECN) | \
		F(GUEST_USO4) | F(GUEST_USO6))
#define NEEDS   VIRTIO_NET_HDR_F_NEEDS_CSUM
#define UFO     VIRTIO_NET_HDR_GSO_UDP
#define USO     VIRTIO_NET_HDR_GSO_UDP_L4
#define ECN     VIRTIO_NET_HDR_GSO_ECN

#define ROUNDS  10000
#define CUT_MAX 60 /* the kernel takes 64 datagrams at most */
#define OUT_MAX 2048

static struct kernel kernel;
static char no_kernel[160];
static struct vnet_soft *soft;
static struct ts_rng rng;

/* What a guest may lack. */
static const uint64_t host_bits[] = {
	F(CSUM), F(HOST_TSO4), F(HOST_TSO6), F(HOST_UFO), F(HOST_ECN), F(HOST_USO)};

/* ---- a case ---- */

static struct frame frame;
static struct virtio_net_hdr hdr;
static uint64_t features;
static bool right;   /* by construction: must be accepted */
static bool damaged; /* the frame, or where the header says its checksum is */

static struct {
	unsigned accepted, refused, silent, unlike;
} seen;

static uint32_t below(uint32_t n)
{
	return ts_rand_below(&rng, n);
}

static bool one_in(uint32_t n)
{
	return below(n) == 0;
}

static uint32_t any_payload(void)
{
	static const uint32_t most[] = {4, 100, 3000, 3000, 20000, 65535 - 200};

	return below(most[below(RTE_DIM(most))] + 1);
}

static struct frame_spec any_spec(void)
{
	static const uint16_t tpid[] = {0x8100, 0x88a8};
	struct frame_spec s = {
		.v6 = one_in(2),
		.proto = one_in(2) ? IPPROTO_TCP : IPPROTO_UDP,
		.tcp_options = (uint8_t)(one_in(2) ? 0 : 4 * below(11)),
		.tcp_flags = (uint8_t)below(256),
		.payload = any_payload(),
	};

	if (one_in(3))
		s.options = (uint16_t)(s.v6 ? 8 + 8 * below(4) : 4 + 4 * below(10));
	for (uint32_t tags = one_in(3) ? 1 + below(2) : 0; tags > 0; tags--)
		s.tag[tags - 1] = tpid[below(2)];
	return s;
}

static void frame_new(const struct frame_spec *s)
{
	frame_build(&frame, s);
	memcpy(frame.byte, "\x02\0\0\0\0\2\x02\0\0\0\0\1", 12);
	hdr = frame_strip(&frame);
}

/* A request that a guest with all features may make. */
static void ask_to_cut(void)
{
	bool tcp = frame.proto == IPPROTO_TCP;
	uint32_t whole, least;

	hdr.gso_type = !tcp && !kernel.has_uso ? UFO
		       : !tcp                  ? (one_in(2) ? UFO : USO)
		       : frame.v6              ? VIRTIO_NET_HDR_GSO_TCPV6
					       : VIRTIO_NET_HDR_GSO_TCPV4;
	if (tcp && one_in(3))
		hdr.gso_type |= ECN;
	whole = frame.len - (hdr.gso_type == UFO ? frame.l4 : frame.data);
	least = RTE_MAX(whole / CUT_MAX + 1, hdr.gso_type == UFO ? 16u : 1u);
	hdr.gso_size = (uint16_t)RTE_MIN(least + below(one_in(2) ? 1500 : whole + 10), 65000u);
	hdr.hdr_len = (uint16_t)(one_in(2) ? frame.data : below(65536));
	/* Some stacks leave the length of what is to be cut open. */
	if (tcp && whole > hdr.gso_size && one_in(4))
		frame_put16(frame.byte + frame.l3 + (frame.v6 ? 4 : 2), (uint16_t)below(65536));
}

static void case_right(void)
{
	struct frame_spec s = any_spec();

	frame_new(&s);
	hdr.flags |= (uint8_t)(below(128) << 1); /* unknown ones mean nothing */
	if (one_in(3))
		hdr.gso_size = (uint16_t)below(65536); /* nor this, without a type */
	else
		ask_to_cut();
	right = true;
	damaged = false;
}

static uint16_t any_place(void)
{
	const uint32_t near[] = {
		0, 13, 14, frame.l3, frame.l4, frame.field, frame.data, frame.len, 0x8000, 0xffff};

	if (one_in(3))
		return (uint16_t)below(65536);
	return (uint16_t)(near[below(RTE_DIM(near))] + below(5) - 2);
}

static void damage_header(void)
{
	static const uint8_t types[] = {0, 1, 2, UFO, VIRTIO_NET_HDR_GSO_TCPV6, USO, 6, ECN,
		1 | ECN, 4 | ECN, UFO | ECN, USO | ECN, 0x21, 0x44};

	switch (below(5)) {
	case 0:
		hdr.flags = (uint8_t)below(256);
		break;
	case 1:
		hdr.gso_type = one_in(4) ? (uint8_t)below(256) : types[below(RTE_DIM(types))];
		break;
	case 2:
		hdr.gso_size = one_in(2) ? (uint16_t)below(16) : any_place();
		break;
	case 3:
		hdr.csum_start = any_place();
		damaged = true;
		break;
	default:
		hdr.csum_offset = (uint16_t)(one_in(2) ? below(24) : any_place());
		damaged = true;
		break;
	}
}

static void damage_frame(void)
{
	uint32_t from = 12, room = RTE_MIN(frame.len, frame.data + 4u) - from;

	damaged = true;
	switch (below(5)) {
	case 0: /* cut off */
		frame.len = 14 + below(one_in(2) ? frame.len - 13 : RTE_MIN(room, frame.len - 13));
		break;
	case 1: /* longer than its headers say */
		frame.len = RTE_MIN(frame.len + 1 + below(50), FRAME_MAX);
		break;
	case 2: /* another extension header */
		if (frame.v6 && frame.l3 + 48u < frame.len)
			frame.byte[frame.l3 + 6] =
				(uint8_t[]){43, 60, 44, 51, 0, 59, 50, 135}[below(8)];
		break;
	case 3: /* nothing but noise */
		for (uint32_t i = from; i < frame.len && one_in(3); i++)
			frame.byte[i] = (uint8_t)below(256);
		break;
	default:
		for (uint32_t n = 1 + below(3); n > 0; n--)
			frame.byte[from + below(room)] = (uint8_t)below(256);
		break;
	}
}

static void case_any(void)
{
	case_right();
	for (uint32_t n = 1 + below(3); n > 0; n--) {
		if (one_in(2) || frame.len < 40)
			damage_header();
		else
			damage_frame();
	}
	if (hdr.gso_size > 0) /* as many pieces as the kernel takes */
		hdr.gso_size = (uint16_t)RTE_MAX(hdr.gso_size, frame.len / CUT_MAX + 1);
	if ((uint32_t)hdr.csum_start + hdr.csum_offset < 12) /* addresses: bridges care */
		hdr.csum_start = 12;
	right = false;
}

/* ---- what virtio 1.3, 5.1.6.2 says without looking at the frame ---- */

static uint64_t type_needs(uint8_t type)
{
	switch (type & ~ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return F(HOST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return F(HOST_TSO6);
	case UFO:
		return F(HOST_UFO);
	case USO:
		return F(HOST_USO);
	default:
		return 1ull << 63;
	}
}

/* Who has not negotiated CSUM has nothing to ask for, and its headers are not looked at. */
static bool is_heard(void)
{
	return features & F(CSUM);
}

static bool must_refuse(void)
{
	uint64_t needs = 0;

	if (!is_heard())
		return false;
	if ((hdr.flags & NEEDS) && (uint32_t)hdr.csum_start + hdr.csum_offset + 2 > frame.len)
		return true;
	if (hdr.gso_type)
		needs |= type_needs(hdr.gso_type) | (hdr.gso_type & ECN ? F(HOST_ECN) : 0);
	if (hdr.gso_type && (!(hdr.flags & NEEDS) || hdr.gso_size == 0))
		return true;
	return needs & ~features;
}

static bool must_accept(void)
{
	return !must_refuse() && (right || !is_heard() || hdr.gso_type == 0);
}

/* ---- through the ring, and to the wire ---- */

static uint64_t dropped(const struct virtq_stats *st)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < VIRTQ_DROP_COUNT; i++)
		n += st->drops[i];
	return n;
}

/* NULL: refused, and counted once, as a bad header. */
static struct rte_mbuf *case_send(struct pair *g)
{
	const struct virtq_stats *st = &g->rx->stats;
	const uint64_t before = dropped(st), bad = st->drops[VIRTQ_DROP_RX_BAD_HEADER];
	struct virtio_net_hdr_v1 full = {.num_buffers = 0};
	uint32_t cuts[3], n_cuts = below(4);
	struct rte_mbuf *m = NULL;
	uint16_t n;

	/* The packet before, which may have been lent, is gone. */
	assert_int_equal(pair_reap(g), g->offered > 0);
	memcpy(&full, &hdr, sizeof(hdr));
	for (uint32_t i = 0; i < n_cuts; i++)
		cuts[i] = 1 + below(frame.len / 3);
	assert_int_equal(ts_net_send(&g->net, &full, frame.byte, frame.len, cuts, n_cuts,
				 pair_mode(&g->c, below(3))),
		0);
	g->offered++;
	ts_ring_kick(g->tx_ring);
	n = vnet_dequeue(g->rx, &m, 1);
	assert_int_equal(dropped(st) - before, 1 - n);
	assert_int_equal(st->drops[VIRTQ_DROP_RX_BAD_HEADER] - bad, 1 - n);
	return n ? m : NULL;
}

/* The kernel takes TCP's options for payload when it looks whether there is anything to cut. */
static bool fits_one(const struct virtio_net_hdr *h, const uint8_t *p)
{
	uint32_t from = h->csum_start;

	if (h->gso_type == USO)
		from += 8;
	else if (h->gso_type != UFO && from + 13 <= frame.len)
		from += (p[from + 12] >> 4) * 4u;
	return frame.len <= from + h->gso_size;
}

static void by_kernel(const struct virtio_net_hdr *h, const uint8_t *p, struct pieces *out)
{
	struct virtio_net_hdr asked = *h;
	int err;

	/* It wants a hint to be true; and what does not divide into fragments we round down. */
	asked.hdr_len = 0;
	if (fits_one(h, p))
		asked.gso_type = 0;
	else if (asked.gso_type == UFO)
		asked.gso_size &= ~7;
	err = kernel_pass(&kernel, &asked, p, frame.len, out);
	if (err)
		fail_msg("the kernel does not answer: %s", strerror(-err));
}

/* Through a guest that can everything: what it is given must mean the same. */
static void by_guest(const struct rte_mbuf *m, struct pieces *out)
{
	static uint8_t bytes[FRAME_MAX];
	struct vnet_patches patches;
	struct virtio_net_hdr h;

	assert_int_equal(vnet_mbuf_to_hdr(m, GUEST_ALL, &h, &patches), 0);
	assert_int_equal(mbuf_bytes(m, bytes), frame.len);
	for (unsigned i = 0; i < patches.n; i++)
		memcpy(bytes + patches.at[i].offset, &patches.at[i].value, 2);
	by_kernel(&h, bytes, out);
}

/* Consumes m. Now and then for a destination that takes no chains either, if all frames fit. */
static void by_software(struct rte_mbuf *m, struct pieces *to)
{
	static struct rte_mbuf *out[OUT_MAX];
	uint32_t most = m->ol_flags & VNET_SEG_FLAGS ? m->tso_segsz + 200u : m->pkt_len;
	uint64_t offloads = most < 9000 && one_in(3) ? 0 : RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	uint16_t n = vnet_soften(soft, m, offloads, out, OUT_MAX);

	pieces_clear(to);
	for (uint16_t i = 0; i < n; i++) {
		uint8_t *at = pieces_add(to, out[i]->pkt_len);

		assert_non_null(at);
		mbuf_bytes(out[i], at);
		assert_false(out[i]->ol_flags & VNET_OFFLOAD_FLAGS);
	}
	rte_pktmbuf_free_bulk(out, n);
}

/* ---- judging ---- */

/* Is the transport checksum of a finished frame right by the book? */
static bool sum_is_right(const uint8_t *p, uint32_t len)
{
	struct frame f = {.l3 = 14, .l4 = hdr.csum_start};
	uint32_t end;

	while (f.l3 + 20u < len &&
		(frame_get16(p + f.l3 - 2) == 0x8100 || frame_get16(p + f.l3 - 2) == 0x88a8))
		f.l3 += 4;
	f.v6 = p[f.l3] >> 4 == 6;
	f.proto = hdr.csum_offset == 16 ? IPPROTO_TCP : IPPROTO_UDP;
	end = f.l3 + frame_get16(p + f.l3 + (f.v6 ? 4 : 2)) + (f.v6 ? 40u : 0);
	return end <= len && end > f.l4 &&
	       frame_fold(frame_sum(
		       p + f.l4, end - f.l4, frame_pseudo(&f, p, (uint16_t)(end - f.l4)))) == 0;
}

/* Where the two may differ. */
static void blank(struct pieces *p, bool sum)
{
	uint32_t at = (uint32_t)hdr.csum_start + hdr.csum_offset;

	for (unsigned i = 0; i < p->n; i++) {
		uint8_t *byte = p->byte + (p->at[i] - p->byte);

		/* Fragments have a number that is anybody's choice. */
		if (hdr.gso_type == UFO && frame.v6 && p->n > 1)
			memset(byte + frame.l4 + 4, 0, 4);
		if (at + 2 > p->len[i])
			continue;
		/* Two zeros: TCP's may be written either way. */
		if (sum || (hdr.csum_offset == 16 && frame_get16(byte + at) == 0xffff))
			memset(byte + at, 0, 2);
	}
}

static bool same(const struct pieces *a, const struct pieces *b)
{
	return a->n == b->n && memcmp(a->len, b->len, a->n * sizeof(a->len[0])) == 0 &&
	       memcmp(a->byte, b->byte, a->used) == 0;
}

static void complain(const char *what, const struct pieces *ours, const struct pieces *theirs)
{
	fprintf(stderr,
		"%s\nheader: flags %#x type %#x hdr_len %u size %u start %u offset %u; features "
		"%#llx\nframe of %u bytes, by construction %s %s, l3 %u l4 %u data %u%s:\n",
		what, hdr.flags, hdr.gso_type, hdr.hdr_len, hdr.gso_size, hdr.csum_start,
		hdr.csum_offset, (unsigned long long)features, frame.len,
		frame.v6 ? "IPv6" : "IPv4", frame.proto == IPPROTO_TCP ? "TCP" : "UDP", frame.l3,
		frame.l4, frame.data, damaged ? ", damaged" : "");
	for (uint32_t i = 0; i < RTE_MIN(frame.len, 128u); i++)
		fprintf(stderr, "%02x%s", frame.byte[i], i % 32 == 31 ? "\n" : " ");
	fprintf(stderr, "\nours %u frames, the kernel's %u\n", ours->n, theirs->n);
	for (unsigned i = 0; i < RTE_MIN(ours->n, theirs->n); i++)
		for (uint32_t k = 0; k < RTE_MAX(ours->len[i], theirs->len[i]); k++)
			if (k >= ours->len[i] || k >= theirs->len[i] ||
				ours->at[i][k] != theirs->at[i][k]) {
				fprintf(stderr, "frame %u (%u and %u bytes) differs at %u\n", i,
					ours->len[i], theirs->len[i], k);
				fail_msg("%s", what);
			}
	fail_msg("%s", what);
}

/* The kernel continues whatever a guest has put into the checksum field, we leave to NICs what
 * looks like TCP or UDP, and they begin with the right value. */
static void judge_sums(struct pieces *ours, struct pieces *theirs, const char *what)
{
	bool fragments = hdr.gso_type == UFO && ours->n > 1;

	for (unsigned i = 0; i < ours->n && !fragments; i++)
		if (!sum_is_right(ours->at[i], ours->len[i]))
			complain(what, ours, theirs);
	blank(ours, true);
	blank(theirs, true);
	if (!fragments && !same(ours, theirs))
		complain(what, ours, theirs);
	seen.unlike++;
}

/* It refuses to sum up from where no transport header can be, and takes no torn tag. We do what
 * the guest says. */
static bool kernel_dislikes(void)
{
	return (is_heard() && (hdr.flags & NEEDS) && hdr.csum_start < 14 + 20) ||
	       frame.len < 14 + 2 * 4;
}

static void judge(struct pieces *ours, struct pieces *theirs, const char *what)
{
	if (theirs->n == 0 && kernel_dislikes()) {
		seen.silent++;
		return;
	}
	blank(ours, false);
	blank(theirs, false);
	if (same(ours, theirs))
		return;
	if (!damaged)
		complain(what, ours, theirs);
	judge_sums(ours, theirs, what);
}

/* The kernel miscounts where fragments of IPv6 lie behind other extension headers, and gives each
 * a copy of destination options. So ours are put together again and must be the datagram. */
static bool kernel_cannot(const struct pieces *ours)
{
	return hdr.gso_type == UFO && ours->n > 1 && frame.v6 && frame.l4 - frame.l3 > 40;
}

static void judge_fragments(struct pieces *ours)
{
	static struct pieces whole;
	static uint8_t datagram[FRAME_MAX];
	struct virtio_net_hdr sum_only = hdr;
	uint32_t at = frame.l4;

	sum_only.gso_type = 0;
	by_kernel(&sum_only, frame.byte, &whole);
	for (unsigned i = 0; i < ours->n; i++) {
		const uint8_t *p = ours->at[i], *fragment = p + frame.l4;
		uint32_t len = ours->len[i] - frame.l4 - 8;

		if (fragment[0] != IPPROTO_UDP ||
			frame_get16(fragment + 2) != (at - frame.l4 + (i + 1 < ours->n)) ||
			memcmp(fragment + 4, ours->at[0] + frame.l4 + 4, 4) != 0 ||
			frame_get16(p + frame.l3 + 4) != ours->len[i] - frame.l3 - 40)
			complain("a fragment has a wrong header", ours, &whole);
		memcpy(datagram + at, fragment + 8, len);
		at += len;
	}
	memcpy(datagram, frame.byte, frame.l4);
	frame_put16(datagram + frame.l3 + 4, (uint16_t)(at - frame.l3 - 40));
	if (damaged && sum_is_right(datagram, at)) /* as in judge_sums() */
		memcpy(datagram + frame.field, whole.at[0] + frame.field, 2);
	if (whole.n != 1 || at != whole.len[0] ||
		memcmp(datagram + frame.l4, whole.at[0] + frame.l4, at - frame.l4) != 0)
		complain("fragments do not make up the datagram", ours, &whole);
}

static void run_case(struct pair *g)
{
	static const struct virtio_net_hdr none;
	static struct pieces theirs, again, ours;
	struct rte_mbuf *m = case_send(g);

	pieces_clear(&ours);
	by_kernel(is_heard() ? &hdr : &none, frame.byte, &theirs);
	if (!m) {
		seen.refused++;
		if (must_accept())
			complain("refused what must be accepted", &ours, &theirs);
		return;
	}
	seen.accepted++;
	if (must_refuse())
		complain("accepted what must be refused", &ours, &theirs);
	by_guest(m, &again);
	by_software(m, &ours);
	if (ours.n == 0)
		complain("accepted, but nothing came out", &ours, &theirs);
	if (kernel_cannot(&ours))
		judge_fragments(&ours);
	else
		judge(&ours, &theirs, "software does not do what the kernel does");
	judge(&again, &theirs, "the next guest is not told what this one said");
}

/* @param cases with each guest; @param most features in a row that a guest may lack */
static void run(const struct vq_format *format, void (*make)(void), unsigned cases, uint32_t most)
{
	const char *rounds = getenv("SLUICE_ROUNDS");
	unsigned long n = rounds ? strtoul(rounds, NULL, 10) : ROUNDS;
	struct column c;
	struct pair g;

	if (no_kernel[0])
		ts_skip("%s", no_kernel);
	if (!kernel.has_uso)
		fprintf(stderr, "# without USO, which this kernel does not know\n");
	if (!soft) /* or left by a case that failed */
		soft = vnet_soft_create("offload", SOCKET_ID_ANY);
	assert_non_null(soft);
	memset(&seen, 0, sizeof(seen));
	ts_rng_init(&rng, ts_seed());
	for (unsigned long done = 0; done < n; done += cases) {
		features = HOST_ALL;
		for (uint32_t lacks = below(most + 1); lacks > 0; lacks--)
			features &= ~host_bits[below(RTE_DIM(host_bits))];
		c = (struct column){format, one_in(2), one_in(2), one_in(2), one_in(2)};
		pair_open(&g, &c, features, 0);
		for (unsigned i = 0; i < cases; i++) {
			make();
			run_case(&g);
		}
		pair_close(&g);
	}
	vnet_soft_destroy(soft);
	soft = NULL;
	fprintf(stderr,
		"# %u accepted, %u refused; damaged: %u the kernel refused, %u with a checksum "
		"begun wrong\n",
		seen.accepted, seen.refused, seen.silent, seen.unlike);
}

/* What a correct driver may send is accepted, and is on the wire what it would be without us. */
static void right_requests(void **state)
{
	run(*state, case_right, 100, 0);
	assert_int_equal(seen.refused, 0);
}

/* What a driver should not send is refused, or means the same to us as to the kernel. */
static void any_requests(void **state)
{
	run(*state, case_any, 20, 2);
	assert_true(seen.accepted > 0 && seen.refused > 0);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(right_requests),
		cmocka_unit_test(any_requests),
	};
	int err;

	if (kernel_open(&kernel, no_kernel, sizeof(no_kernel)) == 0)
		no_kernel[0] = '\0';
	err = pair_run_with(PAIR_COPY | PAIR_LEND, tests, RTE_DIM(tests), argc, argv);
	kernel_close(&kernel);
	return err;
}

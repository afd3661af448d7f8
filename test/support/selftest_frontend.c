/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of the test library: the front-end against a small back-end that writes down what it gets. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ts_frontend.h"
#include "ts_tap.h"

/* ---- a back-end ---- */

enum spoil {
	SPOIL_NOTHING,
	SPOIL_SILENT,
	SPOIL_CLOSE,
	SPOIL_FLAGS,
	SPOIL_SIZE,
	SPOIL_ID,
	SPOIL_FD
};

struct backend {
	int fd;
	pthread_t thread;
	uint64_t features, protocol, queue_num;
	uint64_t nack;     /* bit per request: answer NEED_REPLY with failure */
	uint32_t spoil_on; /* request whose answer is spoilt */
	enum spoil spoil;
	uint64_t acked_protocol, status;
	char trace[8192]; /* "name[ring[=value]][!]" per message; ! is NEED_REPLY */
	unsigned bad_regions;
	struct ts_vring_addr addr; /* the last one */
};

static const char *const short_names[] = {
	[TS_GET_FEATURES] = "gf",
	[TS_SET_FEATURES] = "sf",
	[TS_SET_OWNER] = "own",
	[TS_RESET_OWNER] = "reset",
	[TS_SET_MEM_TABLE] = "mem",
	[TS_SET_VRING_NUM] = "n",
	[TS_SET_VRING_ADDR] = "a",
	[TS_SET_VRING_BASE] = "b",
	[TS_GET_VRING_BASE] = "g",
	[TS_SET_VRING_KICK] = "k",
	[TS_SET_VRING_CALL] = "c",
	[TS_SET_VRING_ERR] = "x",
	[TS_GET_PROTOCOL_FEATURES] = "gp",
	[TS_SET_PROTOCOL_FEATURES] = "sp",
	[TS_GET_QUEUE_NUM] = "qn",
	[TS_SET_VRING_ENABLE] = "e",
	[TS_SET_BACKEND_REQ_FD] = "brq",
	[TS_GET_INFLIGHT_FD] = "gi",
	[TS_SET_INFLIGHT_FD] = "si",
	[TS_GET_MAX_MEM_SLOTS] = "slots",
	[TS_ADD_MEM_REG] = "add",
	[TS_SET_STATUS] = "ss",
	[TS_GET_STATUS] = "gs",
};

/* Each region starts with its own guest address: is that what its fd and offset lead to? */
static void check_region(struct backend *b, const struct ts_mem_region *r, int fd)
{
	uint64_t found = 0;
	void *p = mmap(NULL, r->size, PROT_READ, MAP_SHARED, fd, (off_t)r->mmap_offset);

	if (p != MAP_FAILED) {
		memcpy(&found, p, sizeof(found));
		munmap(p, r->size);
	}
	b->bad_regions += found != r->gpa;
}

static void note(struct backend *b, const struct ts_reply *m)
{
	struct ts_vring_state s = {0};
	const uint32_t id = m->hdr.request;
	const char *name = id < TS_ARRAY_SIZE(short_names) ? short_names[id] : NULL;
	size_t at = strlen(b->trace);
	char what[40] = "";

	memcpy(&s, m->payload, m->hdr.size < sizeof(s) ? m->hdr.size : sizeof(s));
	if (id == TS_SET_VRING_ENABLE || id == TS_SET_VRING_BASE)
		snprintf(what, sizeof(what), "%u=%u", s.index, s.num);
	else if (id >= TS_SET_VRING_NUM && id <= TS_SET_VRING_ERR)
		snprintf(what, sizeof(what), "%u", s.index);
	else if (id == TS_SET_STATUS)
		snprintf(what, sizeof(what), "%u", s.index);
	snprintf(b->trace + at, sizeof(b->trace) - at, "%s%s%s%s", at ? " " : "", name ? name : "?",
		what, m->hdr.flags & TS_NEED_REPLY ? "!" : "");
}

static int backend_answer(
	struct backend *b, struct ts_fe *io, const struct ts_reply *m, const void *p, uint32_t size)
{
	enum spoil spoil = m->hdr.request == b->spoil_on ? b->spoil : SPOIL_NOTHING;
	uint32_t flags = TS_VERSION | TS_REPLY;

	if (spoil == SPOIL_SILENT)
		return 0;
	if (spoil == SPOIL_CLOSE)
		return -1;
	return ts_send_raw(io, m->hdr.request + (spoil == SPOIL_ID),
		spoil == SPOIL_FLAGS ? flags | TS_NEED_REPLY : flags,
		spoil == SPOIL_SIZE ? size - 4 : size, p, spoil == SPOIL_SIZE ? size - 4 : size,
		&b->fd, spoil == SPOIL_FD);
}

/* Only an fd that comes back counts here. */
static int answer_inflight(struct backend *b, struct ts_fe *io, const struct ts_reply *m)
{
	return ts_send_raw(io, m->hdr.request, TS_VERSION | TS_REPLY, sizeof(struct ts_inflight),
		m->payload, sizeof(struct ts_inflight), &b->fd, 1);
}

static int backend_handle(struct backend *b, struct ts_fe *io, const struct ts_reply *m)
{
	struct ts_mem_table t;
	uint64_t v = 0;

	memcpy(&v, m->payload, m->hdr.size < 8 ? m->hdr.size : 8);
	switch (m->hdr.request) {
	case TS_GET_FEATURES:
		return backend_answer(b, io, m, &b->features, 8);
	case TS_GET_PROTOCOL_FEATURES:
		return backend_answer(b, io, m, &b->protocol, 8);
	case TS_GET_QUEUE_NUM:
		return backend_answer(b, io, m, &b->queue_num, 8);
	case TS_GET_MAX_MEM_SLOTS:
		v = 509;
		return backend_answer(b, io, m, &v, 8);
	case TS_GET_INFLIGHT_FD:
		return answer_inflight(b, io, m);
	case TS_GET_STATUS:
		return backend_answer(b, io, m, &b->status, 8);
	case TS_GET_VRING_BASE:
		return backend_answer(
			b, io, m, &(struct ts_vring_state){(uint32_t)v, 100 + (uint32_t)v}, 8);
	case TS_SET_VRING_ADDR:
		memcpy(&b->addr, m->payload, sizeof(b->addr));
		break;
	case TS_SET_STATUS:
		b->status = v;
		break;
	case TS_SET_PROTOCOL_FEATURES:
		b->acked_protocol = v;
		break;
	case TS_SET_MEM_TABLE:
		memcpy(&t, m->payload, m->hdr.size);
		for (unsigned i = 0; i < t.n && i < m->n_fds; i++)
			check_region(b, &t.region[i], m->fds[i]);
		b->bad_regions += t.n != m->n_fds || m->hdr.size != 8 + 32 * t.n;
		break;
	case TS_ADD_MEM_REG:
		memcpy(&t.region[0], m->payload + 8, sizeof(t.region[0]));
		check_region(b, &t.region[0], m->fds[0]);
		break;
	default:
		break;
	}
	v = (b->nack >> m->hdr.request) & 1;
	return m->hdr.flags & TS_NEED_REPLY ? backend_answer(b, io, m, &v, 8) : 0;
}

static void *backend_main(void *arg)
{
	struct backend *b = arg;
	struct ts_reply m;
	struct ts_fe io; /* only its bounded reading and writing is used */

	ts_fe_init(&io, &ts_qemu_4, NULL);
	io.sock = b->fd;
	io.timeout_ms = 5000;
	while (ts_recv_reply(&io, &m) == 0) {
		int rc;

		note(b, &m);
		rc = backend_handle(b, &io, &m);
		ts_reply_close(&m);
		if (rc)
			break;
	}
	close(b->fd);
	return NULL;
}

/* ---- fixture ---- */

#define ALL_PROTOCOL UINT64_MAX
#define PLAIN        (TS_BIT(TS_PROTO_MQ) | TS_BIT(TS_PROTO_REPLY_ACK))

struct wire {
	struct ts_guest *g;
	struct ts_fe fe;
	struct backend b;
	int fds_before;
};

static void wire_up(struct wire *w, const struct ts_profile *p, unsigned pairs, uint64_t protocol)
{
	memset(w, 0, sizeof(*w));
	w->fds_before = ts_count_fds(NULL);
	w->g = ts_guest_new();
	for (uint64_t i = 0; i < 3; i++) {
		const struct ts_region_conf c = {
			.gpa = i << 30, .size = 1 << 20, .uva = i << 40, .mmap_offset = i * 8192};

		assert_int_equal(ts_guest_add(w->g, &c), i);
		assert_int_not_equal(ts_alloc(w->g, (unsigned)i, 8, 8), TS_NOMEM);
		memcpy(w->g->r[i].va, &c.gpa, sizeof(c.gpa));
	}
	w->b.features = TS_GUEST_MODERN | TS_BIT(VIRTIO_F_RING_PACKED) | TS_BIT(TS_F_LOG_ALL);
	w->b.protocol = protocol;
	w->b.queue_num = 16;
	ts_fe_init(&w->fe, p, w->g);
	w->fe.pairs = w->fe.active = pairs;
	assert_int_equal(ts_fe_pair(&w->fe, &w->b.fd), 0);
	assert_int_equal(pthread_create(&w->b.thread, NULL, backend_main, &w->b), 0);
}

static void ok(struct wire *w, int rc)
{
	if (rc)
		fail_msg("%s: %s (%d)", w->fe.profile->name, w->fe.why, rc);
}

static void wire_start(struct wire *w)
{
	ok(w, ts_fe_negotiate(&w->fe));
	ok(w, ts_fe_make_rings(&w->fe, 0, 256, 0));
	ok(w, ts_fe_start(&w->fe));
}

/* Everything was handled and answered once, and nothing is left behind. */
static void wire_down(struct wire *w)
{
	assert_true(w->fe.sock < 0 || ts_fe_quiet(&w->fe));
	ts_fe_free(&w->fe);
	pthread_join(w->b.thread, NULL);
	assert_int_equal(w->b.bad_regions, 0);
	ts_guest_free(w->g);
	assert_int_equal(ts_count_fds(NULL), w->fds_before);
}

/* ---- orders ---- */

#define QEMU_RING(i)       "n" #i " b" #i "=0 a" #i " k" #i
#define QEMU_RING_CALL(i)  QEMU_RING(i) " c" #i
#define QEMU_RING_ACKED(i) "n" #i " b" #i "=0 a" #i " k" #i "! c" #i "!"
#define CLH_RING(i)        "a" #i "! b" #i "=0! c" #i "! k" #i "!"

static const struct {
	const struct ts_profile *profile;
	unsigned pairs;
	uint64_t protocol;
	const char *init, *start, *stop;
} orders[] = {
	{&ts_qemu_seed, 2, ALL_PROTOCOL, "gf gp sp qn own gf c0 c1 gf gp sp gf c2 c3",
		"e0=1 e2=1 c0 c1 c2 c3 sf mem " QEMU_RING(0) " " QEMU_RING(1) " sf " QEMU_RING(
			2) " " QEMU_RING(3),
		"reset reset g0 g1 g2 g3"},
	{&ts_qemu_seed, 1, 0, "gf gp sp own gf c0 c1",
		"c0 c1 sf mem " QEMU_RING(0) " " QEMU_RING(1), "reset reset g0 g1"},
	{&ts_qemu_2_5, 2, ALL_PROTOCOL, "gf gp sp qn own gf c0 c1 gf gp sp gf c2 c3",
		"e0=1 e1=1 e2=1 e3=1 c0 c1 c2 c3 sf mem " QEMU_RING(0) " " QEMU_RING(
			1) " sf " QEMU_RING(2) " " QEMU_RING(3),
		"g0 g1 g2 g3"},
	{&ts_qemu_4, 2, PLAIN, "gf gp sp qn own gf c0 c1 gf gp sp gf c2 c3",
		"sf mem! " QEMU_RING_CALL(0) " " QEMU_RING_CALL(1) " e0=1 e1=1 sf " QEMU_RING_CALL(
			2) " " QEMU_RING_CALL(3) " e2=1 e3=1",
		"g0 g1 g2 g3"},
	{&ts_qemu_7, 1, PLAIN, "gf gp sp qn own gf c0 x0 c1 x1",
		"e0=1 e1=1 sf mem! " QEMU_RING_CALL(0) " " QEMU_RING_CALL(1), "g0 g1"},
	{&ts_qemu_10, 2, PLAIN, "gf gp sp qn own gf c0! x0! c1! x1! gf gp sp gf c2! x2! c3! x3!",
		"e0=1! e1=1! sf mem! " QEMU_RING_ACKED(0) " " QEMU_RING_ACKED(
			1) " e2=1! e3=1! sf " QEMU_RING_ACKED(2) " " QEMU_RING_ACKED(3),
		"g0 g1 g2 g3"},
	{&ts_qemu_10, 1, ALL_PROTOCOL, "gf gp sp qn slots brq! own gf c0! x0! c1! x1!",
		"e0=1! e1=1! sf gs ss8 add! add! add! " QEMU_RING_ACKED(0) " " QEMU_RING_ACKED(
			1) " gs ss15",
		"g0 g1 ss0"},
	{&ts_cloud_hypervisor, 1, ALL_PROTOCOL, "own gf gp sp qn!",
		"sf! mem! n0! n1! gi! si! " CLH_RING(0) " " CLH_RING(1) " e0=1! e1=1! brq!",
		"e0=0! g0! e1=0! g1!"},
	{&ts_virtio_user, 2, PLAIN, "own gf gp sp",
		"c0 c2 c1 c3 sf mem! " QEMU_RING(0) " " QEMU_RING(2) " " QEMU_RING(1) " " QEMU_RING(
			3) " e0=1 e1=1 e0=1 e1=1 e2=1 e3=1",
		"e0=0 e1=0 e2=0 e3=0 g0 g1 g2 g3"},
	{&ts_virtio_user, 1, ALL_PROTOCOL, "own gf gp sp",
		"ss0! gs ss1! gs ss3! c0 c1 sf gs ss11! mem! " QEMU_RING(0) " " QEMU_RING(
			1) " e0=1 e1=1 gs ss15!",
		"e0=0 e1=0 g0 g1 ss0!"},
};

static void took(struct wire *w, const char *expected)
{
	char *last;

	ok(w, ts_fe_barrier(&w->fe));
	/* The barrier itself is the last message; its acknowledgement flag is the profile's habit. */
	last = strrchr(w->b.trace, ' ');
	assert_non_null(last);
	*last = '\0';
	assert_string_equal(w->b.trace, expected);
	w->b.trace[0] = '\0';
}

static void forget_trace(struct wire *w)
{
	ok(w, ts_fe_barrier(&w->fe));
	w->b.trace[0] = '\0';
}

static void test_orders(void **state)
{
	for (unsigned i = 0; i < TS_ARRAY_SIZE(orders); i++) {
		struct wire w;

		wire_up(&w, orders[i].profile, orders[i].pairs, orders[i].protocol);
		ok(&w, ts_fe_negotiate(&w.fe));
		took(&w, orders[i].init);
		assert_int_equal(w.fe.features, TS_GUEST_MODERN);
		assert_int_equal(w.fe.protocol, orders[i].profile->protocol & orders[i].protocol);
		assert_int_equal(w.b.acked_protocol, w.fe.protocol);
		ok(&w, ts_fe_make_rings(&w.fe, 0, 256, 0));
		ok(&w, ts_fe_start(&w.fe));
		took(&w, orders[i].start);
		ok(&w, ts_fe_stop(&w.fe));
		took(&w, orders[i].stop);
		for (unsigned r = 0; r < 2 * w.fe.pairs; r++)
			assert_int_equal(w.fe.rings[r].base, 100 + r);
		wire_down(&w);
	}
}

/* Packed rings: the same messages, with bases of their own. */
static void test_packed(void **state)
{
	static const struct {
		const struct ts_profile *profile;
		const char *fresh, *again;
	} cases[] = {
		{&ts_qemu_10, "b1=2147516416", "b1=101"},
		{&ts_cloud_hypervisor, "b1=2147516416", "b1=2147516416"},
		{&ts_virtio_user, "b1=32768", "b1=101"},
	};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		struct wire w;

		wire_up(&w, cases[i].profile, 1, PLAIN);
		w.fe.want |= TS_BIT(VIRTIO_F_RING_PACKED);
		ok(&w, ts_fe_negotiate(&w.fe));
		ok(&w, ts_fe_make_rings(&w.fe, 0, 255, 0));
		assert_int_equal(w.fe.rings[1].base, 0x80008000);
		assert_ptr_equal(w.fe.rings[1].ring->ops, &ts_ring_packed_ops);
		ok(&w, ts_fe_start(&w.fe));
		ok(&w, ts_fe_barrier(&w.fe));
		assert_non_null(strstr(w.b.trace, cases[i].fresh));
		assert_int_equal(w.b.addr.desc, (uintptr_t)w.fe.rings[1].ring->pdesc);
		assert_int_equal(w.b.addr.avail, (uintptr_t)w.fe.rings[1].ring->driver);
		assert_int_equal(w.b.addr.used, (uintptr_t)w.fe.rings[1].ring->device);
		ok(&w, ts_fe_stop(&w.fe));
		forget_trace(&w);
		ok(&w, ts_fe_start(&w.fe));
		ok(&w, ts_fe_barrier(&w.fe));
		assert_non_null(strstr(w.b.trace, cases[i].again));
		wire_down(&w);
	}
}

static void test_profiles_complete(void **state)
{
	for (unsigned i = 0; ts_profiles[i]; i++) {
		bool seen = false;

		for (unsigned k = 0; k < TS_ARRAY_SIZE(orders); k++)
			seen |= orders[k].profile == ts_profiles[i];
		assert_true(seen);
	}
}

/* Without bit 30 nobody speaks of protocol features or enables anything. */
static void test_no_bit_30(void **state)
{
	for (unsigned i = 0; ts_profiles[i]; i++) {
		struct wire w;

		wire_up(&w, ts_profiles[i], 1, ALL_PROTOCOL);
		w.b.features &= ~TS_BIT(TS_F_PROTOCOL_FEATURES);
		wire_start(&w);
		ok(&w, ts_fe_barrier(&w.fe));
		assert_null(strstr(w.b.trace, "gp"));
		assert_null(strchr(w.b.trace, '!'));
		assert_null(strstr(w.b.trace, " e"));
		assert_int_equal(w.fe.protocol, 0);
		wire_down(&w);
	}
}

static void test_channels(void **state)
{
	struct wire w;

	wire_up(&w, &ts_qemu_7, 3, PLAIN);
	w.fe.active = 1;
	wire_start(&w);
	ok(&w, ts_fe_barrier(&w.fe));
	assert_non_null(strstr(w.b.trace, "e1=1"));
	assert_null(strstr(w.b.trace, "e2="));
	assert_non_null(strstr(w.b.trace, "k5"));
	forget_trace(&w);
	ok(&w, ts_fe_set_active(&w.fe, 2));
	took(&w, "e0=1 e1=1 e2=1 e3=1 e4=0 e5=0");
	assert_int_equal(ts_fe_set_active(&w.fe, 4), -EINVAL);
	wire_down(&w);
	wire_up(&w, &ts_qemu_seed, 2, PLAIN);
	wire_start(&w);
	forget_trace(&w);
	ok(&w, ts_fe_set_active(&w.fe, 1));
	took(&w, "e0=1 e2=0");
	wire_down(&w);
}

/* A guest that set up only one pair of two. */
static void test_unused_rings(void **state)
{
	struct wire w;

	wire_up(&w, &ts_qemu_7, 2, PLAIN);
	ok(&w, ts_fe_negotiate(&w.fe));
	w.fe.pairs = 1;
	ok(&w, ts_fe_make_rings(&w.fe, 0, 256, 0));
	w.fe.pairs = 2;
	forget_trace(&w);
	ok(&w, ts_fe_start(&w.fe));
	took(&w, "e0=1 e1=1 sf mem! " QEMU_RING_CALL(0) " " QEMU_RING_CALL(1) " e2=1 e3=1 sf");
	ok(&w, ts_fe_stop(&w.fe));
	took(&w, "g0 g1");
	wire_down(&w);
}

/* ---- single calls and answers ---- */

static void test_calls(void **state)
{
	struct ts_mem_table t;
	struct wire w;
	uint64_t v = 1;
	int old;

	wire_up(&w, &ts_qemu_10, 1, PLAIN);
	wire_start(&w);
	forget_trace(&w);
	ok(&w, ts_fe_new_call(&w.fe, 1, &old));
	assert_int_not_equal(old, w.fe.rings[1].call);
	assert_int_equal(w.fe.rings[1].ring->call_fd, w.fe.rings[1].call);
	close(old);
	ok(&w, ts_fe_set_fd(&w.fe, TS_SET_VRING_KICK, 0, -1));
	ok(&w, ts_fe_enable(&w.fe, 1, false));
	took(&w, "c1! k256! e1=0!");
	assert_int_equal(w.b.addr.index, 1);
	assert_int_equal(w.b.addr.desc, (uintptr_t)w.fe.rings[1].ring->desc);
	assert_int_equal(w.b.addr.avail, (uintptr_t)w.fe.rings[1].ring->avail);
	assert_int_equal(w.b.addr.used, (uintptr_t)w.fe.rings[1].ring->used);
	assert_int_equal(w.b.addr.log, w.fe.rings[1].ring->device_gpa);
	ts_fe_mem_table(&w.fe, &t);
	assert_int_equal(t.n, 3);
	assert_int_equal(t.region[2].mmap_offset, 2 * 8192);
	assert_int_equal(t.region[2].uva, UINT64_C(2) << 40);
	assert_int_equal(ts_ring_calls(w.fe.rings[0].ring), 0);
	assert_int_equal(write(w.fe.rings[0].call, &v, 8), 8);
	assert_int_equal(write(w.fe.rings[0].call, &v, 8), 8);
	assert_int_equal(ts_ring_calls(w.fe.rings[0].ring), 2);
	assert_int_equal(ts_ring_calls(w.fe.rings[0].ring), 0);
	w.fe.rings[0].ring->used->idx = 77;
	ts_fe_recover_bases(&w.fe);
	assert_int_equal(w.fe.rings[0].base, 77);
	wire_down(&w);
}

static void test_nack(void **state)
{
	struct wire w;

	wire_up(&w, &ts_qemu_4, 1, PLAIN);
	w.b.nack = TS_BIT(TS_SET_MEM_TABLE);
	ok(&w, ts_fe_negotiate(&w.fe));
	ok(&w, ts_fe_make_rings(&w.fe, 0, 256, 0));
	assert_int_equal(ts_fe_start(&w.fe), -EREMOTEIO);
	assert_string_equal(w.fe.why, "SET_MEM_TABLE: the back-end answered failure (0x1)");
	wire_down(&w);
}

static void test_too_few_queues(void **state)
{
	struct wire w;

	wire_up(&w, &ts_qemu_4, 17, PLAIN);
	assert_int_equal(ts_fe_negotiate(&w.fe), -E2BIG);
	assert_string_equal(w.fe.why, "GET_QUEUE_NUM: 16 offered, 17 needed");
	wire_down(&w);
	wire_up(&w, &ts_cloud_hypervisor, 9, PLAIN);
	assert_int_equal(ts_fe_negotiate(&w.fe), -E2BIG);
	wire_down(&w);
}

static void test_spoilt_answers(void **state)
{
	static const struct {
		enum spoil spoil;
		int rc;
	} cases[] = {
		{SPOIL_SILENT, -ETIMEDOUT},
		{SPOIL_CLOSE, -ECONNRESET},
		{SPOIL_FLAGS, -EPROTO},
		{SPOIL_SIZE, -EPROTO},
		{SPOIL_ID, -EPROTO},
		{SPOIL_FD, -EPROTO},
	};
	static const uint32_t requests[] = {TS_GET_QUEUE_NUM, TS_GET_VRING_BASE, TS_SET_MEM_TABLE};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(cases) * TS_ARRAY_SIZE(requests); i++) {
		const unsigned k = i % TS_ARRAY_SIZE(cases);
		struct wire w;
		uint64_t t;
		int rc;

		wire_up(&w, &ts_qemu_4, 1, PLAIN);
		w.fe.timeout_ms = 50;
		w.b.spoil = cases[k].spoil;
		w.b.spoil_on = requests[i / TS_ARRAY_SIZE(cases)];
		t = ts_now_ms();
		rc = ts_fe_negotiate(&w.fe);
		if (!rc)
			rc = ts_fe_make_rings(&w.fe, 0, 256, 0);
		if (!rc)
			rc = ts_fe_start(&w.fe);
		if (!rc)
			rc = ts_fe_stop(&w.fe);
		assert_int_equal(rc, cases[k].rc);
		assert_true(ts_now_ms() - t < 2000);
		assert_true(w.fe.why[0]);
		ts_fe_disconnect(&w.fe);
		wire_down(&w);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orders),
		cmocka_unit_test(test_packed),
		cmocka_unit_test(test_profiles_complete),
		cmocka_unit_test(test_no_bit_30),
		cmocka_unit_test(test_channels),
		cmocka_unit_test(test_unused_rings),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_nack),
		cmocka_unit_test(test_too_few_queues),
		cmocka_unit_test(test_spoilt_answers),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

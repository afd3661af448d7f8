/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of requests as tests send them, written without looking at the device's own. */
#include "vd_msg.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define RING 3u /* the last of two pairs */

/* An in-flight region for four rings of 256: 16 bytes and 16 an entry, up to a line; packed, and
 * before the format is known, 32 and 32. */
#define REGION_SIZE        (4u * 4160u)
#define REGION_SIZE_PACKED (4u * 8256u)

/* ---- descriptors ---- */

static int event_fd = -1, log_fd = -1, region_fd = -1, odd[9];

void vd_msg_begin(void)
{
	event_fd = eventfd(0, EFD_CLOEXEC);
	log_fd = memfd_create("log", MFD_CLOEXEC);
	assert_int_equal(ftruncate(log_fd, 8192), 0);
	region_fd = memfd_create("region", MFD_CLOEXEC);
	assert_int_equal(ftruncate(region_fd, REGION_SIZE_PACKED), 0);
	odd[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
	odd[1] = memfd_create("odd", MFD_CLOEXEC);
	odd[2] = eventfd(0, EFD_CLOEXEC);
	odd[3] = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	odd[4] = epoll_create1(EPOLL_CLOEXEC);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, &odd[5]), 0);
	assert_int_equal(pipe2(&odd[7], O_CLOEXEC), 0);
}

void vd_msg_done(void)
{
	close(event_fd);
	close(log_fd);
	close(region_fd);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(odd); i++)
		close(odd[i]);
}

unsigned vd_msg_odd_fds(int *fds, unsigned max)
{
	unsigned n = max < TS_ARRAY_SIZE(odd) ? max : TS_ARRAY_SIZE(odd);

	memcpy(fds, odd, n * sizeof(*fds));
	return n;
}

static void attach(struct ts_msg *m, int fd)
{
	m->fds[m->n_fds++] = fd;
}

/* ---- right and wrong ---- */

static void put_u64(struct ts_msg *m, uint32_t id, uint64_t value)
{
	ts_msg_make(m, id, &value, sizeof(value));
}

static void put_state(struct ts_msg *m, uint32_t id, uint32_t num)
{
	const struct ts_vring_state s = {RING, num};

	ts_msg_make(m, id, &s, sizeof(s));
}

#define EMPTY(fn, id)                                  \
	static void fn(struct vd *t, struct ts_msg *m) \
	{                                              \
		(void)t;                               \
		ts_msg_make(m, id, NULL, 0);           \
	}
/* An empty message can only be wrong by not being empty. */
#define FULL(fn, id)                                   \
	static void fn(struct vd *t, struct ts_msg *m) \
	{                                              \
		(void)t;                               \
		put_u64(m, id, 0);                     \
	}
#define U64(fn, id, value)                             \
	static void fn(struct vd *t, struct ts_msg *m) \
	{                                              \
		(void)t;                               \
		put_u64(m, id, value);                 \
	}
#define STATE(fn, id, num)                             \
	static void fn(struct vd *t, struct ts_msg *m) \
	{                                              \
		(void)t;                               \
		put_state(m, id, num);                 \
	}
#define WITH_FD(fn, id, fd)                            \
	static void fn(struct vd *t, struct ts_msg *m) \
	{                                              \
		(void)t;                               \
		put_u64(m, id, RING);                  \
		attach(m, fd);                         \
	}

EMPTY(get_features, TS_GET_FEATURES)
FULL(get_features_wrong, TS_GET_FEATURES)
U64(set_features_wrong, TS_SET_FEATURES, TS_BIT(63) | TS_BIT(VIRTIO_F_VERSION_1))
EMPTY(set_owner, TS_SET_OWNER)
FULL(set_owner_wrong, TS_SET_OWNER)
EMPTY(reset_owner, TS_RESET_OWNER)
FULL(reset_owner_wrong, TS_RESET_OWNER)
STATE(get_base, TS_GET_VRING_BASE, 0)
WITH_FD(set_kick, TS_SET_VRING_KICK, event_fd)
WITH_FD(set_call, TS_SET_VRING_CALL, event_fd)
WITH_FD(set_call_wrong, TS_SET_VRING_CALL, odd[0])
WITH_FD(set_err, TS_SET_VRING_ERR, event_fd)
WITH_FD(set_err_wrong, TS_SET_VRING_ERR, odd[0])
EMPTY(get_protocol, TS_GET_PROTOCOL_FEATURES)
FULL(get_protocol_wrong, TS_GET_PROTOCOL_FEATURES)
U64(set_protocol, TS_SET_PROTOCOL_FEATURES, vu_default_protocol_features())
U64(set_protocol_wrong, TS_SET_PROTOCOL_FEATURES, TS_BIT(TS_PROTO_MQ) | TS_BIT(40))
FULL(reset_device_wrong, TS_RESET_DEVICE)
EMPTY(get_queue_num, TS_GET_QUEUE_NUM)
FULL(get_queue_num_wrong, TS_GET_QUEUE_NUM)
STATE(set_enable, TS_SET_VRING_ENABLE, 1)
U64(set_status_wrong, TS_SET_STATUS, 0x100 | TS_STATUS_ACKNOWLEDGE)
EMPTY(get_status, TS_GET_STATUS)
U64(set_mtu, TS_NET_SET_MTU, 9000)
U64(set_mtu_wrong, TS_NET_SET_MTU, 65536)
FULL(get_status_wrong, TS_GET_STATUS)
STATE(set_enable_wrong, TS_SET_VRING_ENABLE, 2)

U64(send_rarp, TS_SEND_RARP, 0x010000005452)
U64(send_rarp_wrong, TS_SEND_RARP, 0x010000005453) /* a group's address */

static struct ts_inflight region_of(const struct vd *t)
{
	return (struct ts_inflight){.mmap_size = t->format ? REGION_SIZE_PACKED : REGION_SIZE,
		.num_queues = 4,
		.queue_size = 256};
}

static void get_inflight(struct vd *t, struct ts_msg *m)
{
	const struct ts_inflight want = {.num_queues = 4, .queue_size = 256};

	(void)t;
	ts_msg_make(m, TS_GET_INFLIGHT_FD, &want, sizeof(want));
}

static void get_inflight_wrong(struct vd *t, struct ts_msg *m)
{
	const struct ts_inflight want = {.num_queues = 65535, .queue_size = 65535};

	(void)t;
	ts_msg_make(m, TS_GET_INFLIGHT_FD, &want, sizeof(want));
}

static void set_inflight(struct vd *t, struct ts_msg *m)
{
	const struct ts_inflight region = region_of(t);

	ts_msg_make(m, TS_SET_INFLIGHT_FD, &region, sizeof(region));
	attach(m, region_fd);
}

static void set_inflight_wrong(struct vd *t, struct ts_msg *m)
{
	struct ts_inflight longer = region_of(t);

	longer.mmap_offset = REGION_SIZE_PACKED; /* more than its file has */
	ts_msg_make(m, TS_SET_INFLIGHT_FD, &longer, sizeof(longer));
	attach(m, region_fd);
}

static const struct ts_log_area log_area = {4096, 4096};

static void set_log(struct vd *t, struct ts_msg *m)
{
	(void)t;
	ts_msg_make(m, TS_SET_LOG_BASE, &log_area, sizeof(log_area));
	attach(m, log_fd);
}

static void set_log_wrong(struct vd *t, struct ts_msg *m)
{
	const struct ts_log_area longer = {4096, 4097};

	(void)t;
	ts_msg_make(m, TS_SET_LOG_BASE, &longer, sizeof(longer));
	attach(m, log_fd);
}

static void set_log_fd(struct vd *t, struct ts_msg *m)
{
	(void)t;
	ts_msg_make(m, TS_SET_LOG_FD, NULL, 0);
	attach(m, event_fd);
}

static void set_log_fd_wrong(struct vd *t, struct ts_msg *m)
{
	(void)t;
	ts_msg_make(m, TS_SET_LOG_FD, NULL, 0);
	attach(m, odd[0]);
}

static void set_backend(struct vd *t, struct ts_msg *m)
{
	(void)t;
	ts_msg_make(m, TS_SET_BACKEND_REQ_FD, NULL, 0);
	attach(m, odd[5]);
}

static void set_backend_wrong(struct vd *t, struct ts_msg *m)
{
	(void)t;
	ts_msg_make(m, TS_SET_BACKEND_REQ_FD, NULL, 0);
	attach(m, odd[1]); /* not a socket */
}

static void put_iotlb(struct ts_msg *m, uint8_t type)
{
	const struct ts_iotlb msg = {.size = 0x200000, .type = type};

	ts_msg_make(m, TS_IOTLB_MSG, &msg, sizeof(msg));
}

static void iotlb(struct vd *t, struct ts_msg *m)
{
	(void)t;
	put_iotlb(m, TS_IOTLB_INVALIDATE);
}

static void iotlb_wrong(struct vd *t, struct ts_msg *m)
{
	(void)t;
	put_iotlb(m, TS_IOTLB_MISS); /* that is for us to send */
}

static void set_features(struct vd *t, struct ts_msg *m)
{
	t->fe.features = TS_BIT(TS_F_PROTOCOL_FEATURES) | TS_BIT(VIRTIO_F_VERSION_1) | t->format;
	put_u64(m, TS_SET_FEATURES, t->fe.features);
}

/* Only a packed ring may have any size, and a base of 32 bits. */
static void set_num(struct vd *t, struct ts_msg *m)
{
	put_state(m, TS_SET_VRING_NUM, t->format ? 511 : 512);
}

static void set_num_wrong(struct vd *t, struct ts_msg *m)
{
	put_state(m, TS_SET_VRING_NUM, t->format ? 0 : 513);
}

static void set_base(struct vd *t, struct ts_msg *m)
{
	t->fe.rings[RING].base = t->format ? 0x80118012 : 0xfff0;
	put_state(m, TS_SET_VRING_BASE, t->fe.rings[RING].base);
}

/* Packed there is none, but one of a ring that the device does not have. */
static void set_base_wrong(struct vd *t, struct ts_msg *m)
{
	const struct ts_vring_state s = {t->format ? RING + 1 : RING, 0x10000};

	ts_msg_make(m, TS_SET_VRING_BASE, &s, sizeof(s));
}

static void reset_device(struct vd *t, struct ts_msg *m)
{
	t->fe.rings[RING].base = 0;
	t->status = 0;
	t->fe.features = 0;
	ts_msg_make(m, TS_RESET_DEVICE, NULL, 0);
}

static void set_status(struct vd *t, struct ts_msg *m)
{
	t->status = TS_STATUS_ACKNOWLEDGE | TS_STATUS_DRIVER;
	put_u64(m, TS_SET_STATUS, t->status);
}

static void set_kick_wrong(struct vd *t, struct ts_msg *m)
{
	(void)t;
	put_u64(m, TS_SET_VRING_KICK, RING); /* neither a descriptor nor the bit that says so */
}

static void get_base_wrong(struct vd *t, struct ts_msg *m)
{
	const struct ts_vring_state s = {RING + 1, 0};

	(void)t;
	ts_msg_make(m, TS_GET_VRING_BASE, &s, sizeof(s));
}

static void put_addr(struct ts_msg *m, uint64_t desc)
{
	const struct ts_vring_addr a = {
		.index = RING, .desc = desc, .avail = 0x20002, .used = 0x30004};

	ts_msg_make(m, TS_SET_VRING_ADDR, &a, sizeof(a));
}

static void set_addr(struct vd *t, struct ts_msg *m)
{
	(void)t;
	put_addr(m, 0x10010);
}

static void set_addr_wrong(struct vd *t, struct ts_msg *m)
{
	(void)t;
	put_addr(m, 0x10008);
}

static void put_table(struct vd *t, struct ts_msg *m, uint64_t add)
{
	struct ts_mem_table table;

	ts_fe_mem_table(&t->fe, &table);
	table.region[1].size += add;
	ts_msg_make(m, TS_SET_MEM_TABLE, &table, 8 + table.n * sizeof(table.region[0]));
	for (unsigned i = 0; i < table.n; i++)
		attach(m, t->guest->r[i].fd);
}

static void set_mem(struct vd *t, struct ts_msg *m)
{
	put_table(t, m, 0);
}

static void set_mem_wrong(struct vd *t, struct ts_msg *m)
{
	put_table(t, m, 4096); /* more than its file has */
}

/* ---- memory slots ---- */

EMPTY(get_slots, TS_GET_MAX_MEM_SLOTS)
FULL(get_slots_wrong, TS_GET_MAX_MEM_SLOTS)

/* A region beside all others, and each time another one. */
static void put_slot(struct ts_msg *m, uint32_t id, uint64_t size)
{
	static uint64_t n;
	const struct ts_mem_slot s = {.region = {.gpa = TS_BIT(40) + n, .size = size, .uva = n}};

	ts_msg_make(m, id, &s, sizeof(s));
	n += 64u << 20;
}

static void add_mem(struct vd *t, struct ts_msg *m)
{
	put_slot(m, TS_ADD_MEM_REG, 65536);
	attach(m, t->guest->r[0].fd);
}

static void add_mem_wrong(struct vd *t, struct ts_msg *m)
{
	put_slot(m, TS_ADD_MEM_REG, t->guest->r[0].size + 4096); /* more than its file has */
	attach(m, t->guest->r[0].fd);
}

/* One that is there, if it may be said at all. */
static void rem_mem(struct vd *t, struct ts_msg *m)
{
	add_mem(t, m);
	if (vd_info(t).protocol_features & TS_BIT(TS_PROTO_CONFIGURE_MEM_SLOTS)) {
		vd_ok(t, ts_send_msg(&t->fe, m));
		vd_run(t);
	}
	m->hdr.request = TS_REM_MEM_REG;
	m->n_fds = 0;
}

static void rem_mem_wrong(struct vd *t, struct ts_msg *m)
{
	rem_mem(t, m);
	((struct ts_mem_slot *)m->payload)->region.size -= 4096;
}

#define ROW(id, size, has_answer, fn) ROW_WITH(-1, id, size, has_answer, fn)
#define ROW_WITH(needs, id, size, has_answer, fn)                        \
	{                                                                \
		TS_##id, #id, size, 0, has_answer, needs, fn, fn##_wrong \
	}

#define SLOTS TS_PROTO_CONFIGURE_MEM_SLOTS

const struct vd_msg vd_msgs[] = {
	ROW(GET_FEATURES, 0, true, get_features),
	ROW(SET_FEATURES, 8, false, set_features),
	ROW(SET_OWNER, 0, false, set_owner),
	ROW(RESET_OWNER, 0, false, reset_owner),
	ROW(SET_MEM_TABLE, 72, false, set_mem),
	ROW(SET_VRING_NUM, 8, false, set_num),
	ROW(SET_VRING_ADDR, 40, false, set_addr),
	ROW(SET_VRING_BASE, 8, false, set_base),
	ROW(GET_VRING_BASE, 8, true, get_base),
	ROW(SET_VRING_KICK, 8, false, set_kick),
	ROW(SET_VRING_CALL, 8, false, set_call),
	ROW(SET_VRING_ERR, 8, false, set_err),
	ROW(GET_PROTOCOL_FEATURES, 0, true, get_protocol),
	ROW(SET_PROTOCOL_FEATURES, 8, false, set_protocol),
	ROW(GET_QUEUE_NUM, 0, true, get_queue_num),
	ROW(SET_VRING_ENABLE, 8, false, set_enable),
	ROW_WITH(TS_PROTO_BACKEND_REQ, SET_BACKEND_REQ_FD, 0, false, set_backend),
	ROW(IOTLB_MSG, 32, true, iotlb),
	ROW_WITH(TS_PROTO_INFLIGHT_SHMFD, GET_INFLIGHT_FD, 24, true, get_inflight),
	ROW_WITH(TS_PROTO_INFLIGHT_SHMFD, SET_INFLIGHT_FD, 24, false, set_inflight),
	ROW_WITH(TS_PROTO_RESET_DEVICE, RESET_DEVICE, 0, false, reset_device),
	ROW_WITH(SLOTS, GET_MAX_MEM_SLOTS, 0, true, get_slots),
	{TS_ADD_MEM_REG, "ADD_MEM_REG", 40, 8, false, SLOTS, add_mem, add_mem_wrong},
	{TS_REM_MEM_REG, "REM_MEM_REG", 40, 8, false, SLOTS, rem_mem, rem_mem_wrong},
	ROW_WITH(TS_PROTO_NET_MTU, NET_SET_MTU, 8, false, set_mtu),
	ROW_WITH(TS_PROTO_STATUS, SET_STATUS, 8, false, set_status),
	ROW_WITH(TS_PROTO_STATUS, GET_STATUS, 0, true, get_status),
	ROW_WITH(TS_PROTO_LOG_SHMFD, SET_LOG_BASE, 16, true, set_log),
	ROW(SET_LOG_FD, 0, false, set_log_fd),
	ROW_WITH(TS_PROTO_RARP, SEND_RARP, 8, false, send_rarp),
	{0},
};

const unsigned vd_n_msgs = TS_ARRAY_SIZE(vd_msgs) - 1;

bool vd_msg_has_index(const struct vd_msg *row)
{
	return (row->id >= TS_SET_VRING_NUM && row->id <= TS_SET_VRING_ERR) ||
	       row->id == TS_SET_VRING_ENABLE;
}

void vd_msg_put_index(struct ts_msg *m, uint64_t index)
{
	if (m->hdr.request >= TS_SET_VRING_KICK && m->hdr.request <= TS_SET_VRING_ERR)
		memcpy(m->payload, &index, sizeof(uint64_t));
	else
		memcpy(m->payload, &index, sizeof(uint32_t));
}

void vd_msg_negotiate(struct vd *t)
{
	struct ts_msg m;

	put_u64(&m, TS_SET_PROTOCOL_FEATURES, vu_default_protocol_features());
	vd_ok(t, ts_send_msg(&t->fe, &m));
	vd_run(t);
}

/* ---- answers ---- */

static void put_answer(struct vd_answer *a, uint32_t id, const void *payload, uint32_t size)
{
	const struct ts_hdr h = {id, 5, size};

	memcpy(a->bytes + a->len, &h, sizeof(h));
	memcpy(a->bytes + a->len + sizeof(h), payload, size);
	a->len += sizeof(h) + size;
}

static uint64_t answer_u64(struct vd *t, enum ts_request id)
{
	switch (id) {
	case TS_GET_FEATURES:
		return t->conf.features;
	case TS_GET_PROTOCOL_FEATURES:
		return vu_default_protocol_features();
	case TS_GET_STATUS:
		return t->status;
	case TS_GET_MAX_MEM_SLOTS:
		return 509;
	default:
		return t->conf.queue_pairs;
	}
}

struct vd_answer vd_msg_answer(struct vd *t, const struct vd_msg *row, bool right, bool need_reply)
{
	const struct ts_vring_state base = {RING, ts_fe_base(&t->fe, RING)};
	struct ts_inflight got = region_of(t);
	struct vd_answer a = {.len = 0};
	uint64_t value = right ? 0 : 1;

	if (row->id == TS_IOTLB_MSG) {
		put_answer(&a, row->id, &value, sizeof(value));
		return a;
	}
	if (!row->has_answer) {
		a.closes = !right && !need_reply;
		if (need_reply)
			put_answer(&a, row->id, &value, sizeof(value));
		return a;
	}
	a.closes = !right;
	value = answer_u64(t, row->id);
	if (!t->fe.features)
		got.mmap_size = REGION_SIZE_PACKED;
	if (right && row->id == TS_GET_INFLIGHT_FD)
		put_answer(&a, row->id, &got, sizeof(got));
	else if (right && row->id == TS_SET_LOG_BASE)
		put_answer(&a, row->id, &log_area, sizeof(log_area));
	else if (right && row->id == TS_GET_VRING_BASE)
		put_answer(&a, row->id, &base, sizeof(base));
	else if (right)
		put_answer(&a, row->id, &value, sizeof(value));
	return a;
}

void vd_answer_add(struct vd_answer *a, const struct vd_answer *b)
{
	if (a->closes)
		return;
	assert_true(a->len + b->len <= sizeof(a->bytes));
	memcpy(a->bytes + a->len, b->bytes, b->len);
	a->len += b->len;
	a->closes = b->closes;
}

/* Everything until the expected length is there and the device is quiet, or it closes. */
static size_t read_all(
	struct vd *t, uint8_t *buf, size_t room, const struct vd_answer *expect, bool *closed)
{
	size_t len = 0;

	*closed = false;
	TS_WAIT(({
		ssize_t n;

		vd_run(t);
		n = recv(t->fe.sock, buf + len, room - len, MSG_DONTWAIT);
		if (n > 0)
			len += (size_t)n;
		*closed = n == 0 || (n < 0 && errno == ECONNRESET);
		*closed || (n < 0 && !expect->closes && len >= expect->len);
	}),
		2000);
	return len;
}

void vd_assert_answer(struct vd *t, const struct vd_answer *expect, const char *what)
{
	uint8_t got[512];
	bool closed;
	size_t len = read_all(t, got, sizeof(got), expect, &closed);

	if (closed != expect->closes || len != expect->len)
		fail_msg("%s: %zu bytes and %s instead of %zu bytes and %s; device: %s", what, len,
			closed ? "closed" : "open", expect->len, expect->closes ? "closed" : "open",
			vd_info(t).last_error);
	if (memcmp(got, expect->bytes, len) != 0)
		fail_msg("%s: the bytes differ", what);
}

void vd_exchange(
	struct vd *t, const struct ts_msg *m, const struct vd_answer *expect, const char *what)
{
	struct vd_answer all = *expect, features = vd_msg_answer(t, &vd_msgs[0], true, false);
	struct ts_msg last;

	vd_ok(t, ts_send_msg(&t->fe, m));
	get_features(t, &last);
	vd_run(t); /* it may close before it has read this */
	ts_send_msg(&t->fe, &last);
	vd_answer_add(&all, &features);
	vd_assert_answer(t, &all, what);
}

/* ---- what must not change ---- */

void vd_snapshot(const struct vd *t, char *buf, size_t len)
{
	const struct vu_info i = vd_info(t);
	size_t at = (size_t)snprintf(buf, len,
		"features %llx protocol %llx status %x mtu %u mem %p link %d\n",
		(unsigned long long)i.features, (unsigned long long)i.protocol_features, i.status,
		i.mtu, (const void *)i.mem, i.link);

	for (unsigned r = 0; r < 2u * i.queue_pairs && at < len; r++) {
		const struct vu_ring_info q = vd_ring_info(t, r);

		at += (size_t)snprintf(buf + at, len - at,
			"ring %u started %d enabled %d usable %d num %u avail %u used %u call %d "
			"kick %d fault %d changes %u\n",
			r, q.started, q.enabled, q.usable, q.num, q.avail, q.used, q.call_fd,
			q.kick_fd, q.fault, t->ring[r].changes);
	}
}

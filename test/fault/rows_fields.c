/* SPDX-License-Identifier: BSD-3-Clause */
/* M5, M7, M10, M13: descriptors, indexes, sizes and offsets. */
#include "rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "vd_iommu.h"

/* ---- M5: descriptors ---- */

void fault_many_fds(struct fault *f, const struct fault_case *c)
{
	unsigned n = (unsigned)c->arg[0];
	struct ts_msg m;

	c->msg->right(f->t, &m);
	for (m.n_fds = vd_msg_odd_fds(m.fds, n); m.n_fds < n; m.n_fds++)
		m.fds[m.n_fds] = m.fds[m.n_fds % 9];
	fault_refused(f, &m);
}

enum fd_kind {
	EVENT,
	MEMORY,
	SOCKET,
};

static enum fd_kind kind_of(uint32_t id)
{
	switch (id) {
	case TS_SET_MEM_TABLE:
	case TS_ADD_MEM_REG:
	case TS_SET_LOG_BASE:
	case TS_SET_INFLIGHT_FD:
		return MEMORY;
	case TS_SET_BACKEND_REQ_FD:
		return SOCKET;
	default:
		return EVENT;
	}
}

static int pipe_end(unsigned which)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	close(ends[!which]);
	return ends[which];
}

static int listening(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct sockaddr_un nameless = {.sun_family = AF_UNIX};

	if (fd >= 0 && bind(fd, (const struct sockaddr *)&nameless, sizeof(sa_family_t)) == 0)
		listen(fd, 1);
	return fd;
}

static int file_of(int flags, off_t len)
{
	char path[40];
	int fd = memfd_create("fault", MFD_CLOEXEC), again;

	if (ftruncate(fd, len) != 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	close(fd);
	return again;
}

/* The socket the port itself listens on, as a process it trusts could send it. */
static int own_listener(const struct vd *t)
{
	for (int fd = 3; fd < 1024; fd++) {
		struct sockaddr_un un = {.sun_family = AF_UNSPEC};
		socklen_t len = sizeof(un), size = sizeof(int);
		int listens = 0;

		if (getsockname(fd, (struct sockaddr *)&un, &len) == 0 &&
			un.sun_family == AF_UNIX && strcmp(un.sun_path, t->path) == 0 &&
			getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens)
			return dup(fd);
	}
	return -1;
}

static const char *const types[] = {"/dev/null", "pipe to read", "pipe to write", "socket",
	"listening socket", "datagram socket", "directory", "file to read only",
	"file to write only", "empty file", "eventfd", "semaphore", "epoll", "timerfd",
	"own listener"};

static int make_type(const struct vd *t, unsigned type)
{
	switch (type) {
	case 0:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case 1:
	case 2:
		return pipe_end(type - 1);
	case 3:
		return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	case 4:
		return listening();
	case 5:
		return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	case 6:
		return open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case 7:
		return file_of(O_RDONLY, 64 << 20);
	case 8:
		return file_of(O_WRONLY, 64 << 20);
	case 9:
		return file_of(O_RDWR, 0);
	case 10:
		return eventfd(3, EFD_CLOEXEC);
	case 11:
		return eventfd(3, EFD_CLOEXEC | EFD_SEMAPHORE);
	case 12:
		return epoll_create1(EPOLL_CLOEXEC);
	case 13:
		return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	default:
		return own_listener(t);
	}
}

/* No kind of message can be served by it. Sockets and what else has no name are told apart by using them. */
static bool hopeless(enum fd_kind kind, unsigned type)
{
	const bool sock = (type >= 3 && type <= 5) || type == 14,
		   nameless = type >= 10 && type < 14;

	return kind == MEMORY || (kind == SOCKET && !sock) || (kind == EVENT && !nameless);
}

void fault_odd_type(struct fault *f, const struct fault_case *c)
{
	unsigned type = (unsigned)c->arg[0];
	int fd = make_type(f->t, type);
	struct ts_msg m;

	assert_true(fd >= 0);
	c->msg->right(f->t, &m);
	m.fds[m.n_fds - 1] = fd;
	if (hopeless(kind_of(c->msg->id), type)) {
		fault_refused(f, &m);
	} else {
		int rc = fault_ask(f, &m);

		assert_true(rc == 0 || rc == -EREMOTEIO);
		vd_run_ms(f->t, 5);
		vd_ok(f->t, ts_fe_barrier(&f->t->fe));
	}
	close(fd);
}

static void m5(void)
{
	static const unsigned counts[] = {0, 1, 2, 8, 9, 253};

	FAULT_EACH_MSG(row)
	{
		const unsigned right = rows_fds_of(row);

		for (unsigned i = 0; i < TS_ARRAY_SIZE(counts); i++)
			for (unsigned phase = 0; phase < 2; phase++)
				if (counts[i] != right &&
					!(row->id == TS_REM_MEM_REG && counts[i] == 1))
					fault_add(&(struct fault_case){.run = fault_many_fds,
							  .msg = row,
							  .phase = (enum fault_phase)phase,
							  .arg = {counts[i]}},
						"M5_fds[%s,%u,%s]", row->name, counts[i],
						fault_phase_names[phase]);
		for (unsigned i = 0; right > 0 && i < TS_ARRAY_SIZE(types); i++)
			fault_add(
				&(struct fault_case){.run = fault_odd_type, .msg = row, .arg = {i}},
				"M5_type[%s,%s]", row->name, types[i]);
	}
}

/* ---- M7: indexes ---- */

void fault_bad_index(struct fault *f, const struct fault_case *c)
{
	const long rss = fault_rss();
	struct ts_msg m;

	c->msg->right(f->t, &m);
	vd_msg_put_index(&m, c->arg[0]);
	fault_refused(f, &m);
	fault_rss_flat(rss, 512);
}

/* An index within bounds, before there is anything and after: it is about a ring, and no other. */
static void good_index(struct fault *f, const struct fault_case *c)
{
	struct ts_msg m;
	int rc;

	c->msg->right(f->t, &m);
	vd_msg_put_index(&m, c->arg[0]);
	m.hdr.flags |= TS_NEED_REPLY;
	vd_ok(f->t, ts_send_msg(&f->t->fe, &m));
	if (c->msg->id == TS_GET_VRING_BASE) {
		struct ts_vring_state s;

		vd_ok(f->t, ts_recv_answer(&f->t->fe, c->msg->id, &s, sizeof(s)));
		assert_int_equal(s.index, c->arg[0]);
	} else {
		uint64_t ack = 2;

		rc = ts_recv_answer(&f->t->fe, c->msg->id, &ack, sizeof(ack));
		vd_ok(f->t, rc);
		assert_in_range(ack, 0, 1);
	}
	vd_ok(f->t, ts_fe_barrier(&f->t->fe));
}

static void m7(void)
{
	static const uint64_t bad[] = {
		4, 127, 128, 255, 0x10000, 0x10003, 0x7fffffff, 0x80000000, 0xffff0000, UINT32_MAX};

	FAULT_EACH_MSG(row)
	{
		for (unsigned i = 0; vd_msg_has_index(row) && i < TS_ARRAY_SIZE(bad); i++)
			for (unsigned phase = 0; phase < 2; phase++)
				fault_add(&(struct fault_case){.run = fault_bad_index,
						  .msg = row,
						  .phase = (enum fault_phase)phase,
						  .arg = {bad[i]}},
					"M7_index[%s,%#llx,%s]", row->name,
					(unsigned long long)bad[i], fault_phase_names[phase]);
		for (unsigned i = 0; vd_msg_has_index(row) && i < 4; i++)
			fault_add(&(struct fault_case){.run = good_index, .msg = row, .arg = {i}},
				"M7_within bounds[%s,%u,new]", row->name, i);
	}
}

/* ---- M10: sizes of rings ---- */

void fault_set_num(struct fault *f, const struct fault_case *c)
{
	const uint64_t num = c->arg[0];
	struct vd *t = f->t;
	bool right = num > 0 && num <= 32768 && (t->format || (num & (num - 1)) == 0);
	const struct ts_vring_state s = {3, (uint32_t)num};
	struct ts_msg m;

	if (c->phase == FAULT_NEW) {
		vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES,
				 TS_BIT(VIRTIO_F_VERSION_1) | TS_BIT(TS_F_PROTOCOL_FEATURES) |
					 t->format));
		vd_ok(t, ts_fe_barrier(&t->fe));
	}
	ts_msg_make(&m, TS_SET_VRING_NUM, &s, sizeof(s));
	if (c->phase != FAULT_NEW || !right) {
		fault_refused(f, &m);
		return;
	}
	assert_int_equal(fault_ask(f, &m), 0);
	assert_int_equal(vd_ring_info(t, 3).num, num);
}

static void m10(void)
{
	static const uint32_t nums[] = {0, 1, 2, 3, 255, 256, 1000, 32767, 32768, 32769, 65535,
		65536, 65537, 0x10100, 0x80000000, UINT32_MAX};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(nums); i++)
		for (unsigned phase = 0; phase < FAULT_PHASES; phase++)
			fault_add(&(struct fault_case){.run = fault_set_num,
					  .phase = (enum fault_phase)phase,
					  .arg = {nums[i]}},
				"M10_SET_VRING_NUM[%u,%s]", nums[i], fault_phase_names[phase]);
}

/* ---- M13: the configuration space and the IOMMU ---- */

struct wire_config {
	uint32_t offset, size, flags;
	uint8_t space[260];
};

void fault_config(struct fault *f, const struct fault_case *c)
{
	static const uint8_t address[6] = {0x52, 0x54, 0, 1, 2, 3};
	const struct wire_config wire = {(uint32_t)c->arg[0], (uint32_t)c->arg[1], 0, {0}};
	uint32_t request = (uint32_t)c->arg[2], size = 12 + (wire.size < 256 ? wire.size : 256);
	struct vd *t = f->t;
	struct ts_msg m;

	fault_leave(f);
	t->conf.mac = address;
	fault_again(f);
	fault_enter(f, FAULT_NEW);
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_PROTOCOL_FEATURES,
			 TS_BIT(TS_PROTO_CONFIG) | TS_BIT(TS_PROTO_REPLY_ACK)));
	vd_ok(t, ts_fe_barrier(&t->fe));
	ts_msg_make(&m, request, &wire, size);
	if (request == TS_SET_CONFIG) {
		fault_refused(f, &m);
		return;
	}
	vd_ok(t, ts_send_msg(&t->fe, &m));
	{
		const bool inside = wire.size >= 1 && (uint64_t)wire.offset + wire.size <= 256;
		struct ts_reply reply;

		vd_ok(t, ts_recv_reply(&t->fe, &reply));
		assert_int_equal(reply.hdr.size, inside ? size : 0);
		for (uint32_t i = 12; inside && i < size; i++)
			assert_true(wire.offset + i - 12 < 12 || reply.payload[i] == 0);
	}
	vd_ok(t, ts_fe_barrier(&t->fe));
}

/* Translations nobody needs, by the thousand; and then what there is must still work. */
static void iotlb_flood(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;
	const struct ts_region *r = &t->guest->r[0];
	struct ts_rng rng;
	long rss;

	ts_rng_init(&rng, 1 + c->arg[0]);
	rss = fault_rss();
	for (unsigned i = 0; i < 3000; i++) {
		struct ts_iotlb m = {(uint64_t)i << 12, 4096, r->uva, 3, TS_IOTLB_UPDATE, {0}};

		switch (c->arg[0]) {
		case 1: /* on top of each other */
			m.iova = ts_rand_below(&rng, 64) << 10;
			m.size = 1 + ts_rand_below(&rng, 1 << 20);
			break;
		case 2:
			m.size = i & 1 ? 0 : UINT64_MAX - i;
			break;
		case 3: /* through the end */
			m.iova = UINT64_MAX - 4095 * (i % 3);
			m.size = 1ull << (i % 63);
			break;
		case 4:
			m.iova = ts_rand(&rng), m.size = ts_rand(&rng), m.uva = ts_rand(&rng);
			m.perm = (uint8_t)ts_rand(&rng), m.type = (uint8_t)ts_rand(&rng);
			break;
		case 5:
			m.type = i & 1 ? TS_IOTLB_UPDATE : TS_IOTLB_INVALIDATE;
			m.iova = 0, m.size = i % 5 ? UINT64_MAX : 1;
			break;
		default:
			break;
		}
		ts_fe_iotlb(&t->fe, &m); /* always acknowledged, with whatever */
		if (vd_info(t).connection == VU_WAITING)
			fail_msg("closed: %s", vd_info(t).last_error);
	}
	fault_rss_flat(rss, 4096);
	vd_ok(t, ts_fe_barrier(&t->fe));
}

static void iommu_of(struct fault *f, bool on)
{
	f->t->guest->iova = on ? VD_IOVA : 0;
	if (on)
		f->t->fe.want |= TS_BIT(VIRTIO_F_ACCESS_PLATFORM);
}

/* Rings, or what is in them, that are never translated: they wait, and only they. */
static void never_translated(struct fault *f, const struct fault_case *c)
{
	struct vd *t = f->t;

	fault_leave(f);
	vd_front_end(t, &ts_qemu_10);
	iommu_of(f, true);
	vd_connect(t);
	vd_start(t);
	if (c->arg[0]) {
		assert_true(VD_WAIT(t, (vd_iommu_serve(t, VD_PAGE), vd_all_usable(t)), 10000));
		vd_guest_sends(t, 1, 20);
		vd_guest_sends(t, 3, 20);
		if (c->arg[0] > 1)
			vd_ok(t, vd_iommu_tell(t, TS_IOTLB_INVALIDATE, 0, 0, 0));
	}
	for (unsigned i = 0; i < 20; i++) {
		vd_run_ms(t, 2);
		fault_neighbours_answer(f);
	}
	assert_int_equal(virtq_load(&t->ring[1].consumed), 0);
	fault_leave(f);
	iommu_of(f, false);
}

static void m13(void)
{
	static const uint32_t at[][2] = {{0, 0}, {0, 1}, {0, 256}, {0, 257}, {255, 1}, {255, 2},
		{256, 1}, {256, 0}, {1, 256}, {UINT32_MAX, 1}, {UINT32_MAX - 7, 8}, {0, UINT32_MAX},
		{UINT32_MAX, UINT32_MAX}, {0x80000000, 0x80000000}};
	static const char *const floods[] = {"one after another", "overlapping", "empty or endless",
		"through the end", "random", "taken back"};
	static const char *const waits[] = {"rings", "buffers", "invalidated"};

	for (unsigned i = 0; i < TS_ARRAY_SIZE(at); i++)
		for (unsigned k = 0; k < 2; k++)
			fault_add(&(struct fault_case){.run = fault_config,
					  .arg = {at[i][0], at[i][1],
						  k ? TS_SET_CONFIG : TS_GET_CONFIG}},
				"M13_%s[offset %#x,size %#x]", k ? "SET_CONFIG" : "GET_CONFIG",
				at[i][0], at[i][1]);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(floods); i++)
		for (unsigned phase = 0; phase < 2; phase++)
			fault_add(&(struct fault_case){.run = iotlb_flood,
					  .phase = (enum fault_phase)phase,
					  .arg = {i}},
				"M13_IOTLB flood[%s,%s]", floods[i], fault_phase_names[phase]);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(waits); i++)
		fault_add(&(struct fault_case){.run = never_translated, .arg = {i}},
			"M13_never translated[%s]", waits[i]);
}

unsigned rows_fds_of(const struct vd_msg *row)
{
	switch (row->id) {
	case TS_SET_MEM_TABLE:
		return 2;
	case TS_SET_LOG_BASE:
	case TS_SET_LOG_FD:
	case TS_SET_VRING_KICK:
	case TS_SET_VRING_CALL:
	case TS_SET_VRING_ERR:
	case TS_SET_BACKEND_REQ_FD:
	case TS_SET_INFLIGHT_FD:
	case TS_ADD_MEM_REG:
		return 1;
	default:
		return 0;
	}
}

void rows_fields(void)
{
	m5();
	m7();
	m10();
	m13();
}

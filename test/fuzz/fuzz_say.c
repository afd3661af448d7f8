/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages of a front-end, each with an argument that chooses among values of which most are right. */
#include "fuzz_say.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct talk talk;

/* As ts_fe_*() says it, but for a byte here and there. */
struct saying {
	struct fuzz_input *in;
	bool spoil;
};

static void tell(const struct saying *s, uint32_t request, const void *payload, size_t len,
	const int *fds, unsigned n_fds)
{
	struct {
		struct ts_hdr h;
		uint8_t payload[512];
	} m = {.h = {request, TS_VERSION, (uint32_t)len}};
	uint8_t *bytes = (uint8_t *)&m;

	if (talk.acks && (talk.fe.protocol & TS_BIT(TS_PROTO_REPLY_ACK)))
		m.h.flags |= TS_NEED_REPLY;
	if (len)
		memcpy(m.payload, payload, len);
	if (s->spoil) {
		uint8_t at = fuzz_u8(s->in), n = fuzz_u8(s->in) % 9;

		/* Now and then one more descriptor, or one less. */
		if (at >= 0xf0)
			n_fds = n_fds ? 0 : 1;
		fuzz_bytes(s->in, bytes + at % (sizeof(m.h) + len), n);
	}
	fuzz_send(
		talk.fe.sock, bytes, sizeof(m.h) + len, n_fds && !fds ? &talk.null_fd : fds, n_fds);
	fuzz_run(talk.base);
	fuzz_read_answers(talk.fe.sock);
}

static void say_u64(const struct saying *s, enum ts_request request, uint64_t v)
{
	tell(s, request, &v, sizeof(v), NULL, 0);
}

static void say_state(const struct saying *s, enum ts_request request, uint32_t ring, uint32_t num)
{
	const struct ts_vring_state state = {ring, num};

	tell(s, request, &state, sizeof(state), NULL, 0);
}

/* An eventfd, none, or something else. */
static void say_fd(
	const struct saying *s, enum ts_request request, unsigned ring, int right, uint8_t arg)
{
	const int fds[] = {right, right, right, right, talk.some_fd[0], talk.some_fd[1],
		talk.some_fd[2], talk.null_fd};
	uint64_t word = ring;
	int fd = fds[arg % 8];

	if (arg & 0x40) {
		word |= TS_VRING_NOFD;
		fd = -1;
	}
	tell(s, request, &word, sizeof(word), &fd, fd >= 0);
}

static struct ts_mem_region region(unsigned i, uint8_t arg)
{
	const struct ts_region *r = &talk.guest->r[i];
	struct ts_mem_region m = {r->gpa, r->size, r->uva, r->mmap_offset};

	if (arg & 0x40) /* half of it */
		m.size /= 2;
	if (arg & 0x20) /* elsewhere for the front-end */
		m.uva += 0x10000000;
	return m;
}

static void say_memory(const struct saying *s, uint8_t arg)
{
	struct ts_mem_table t = {0};
	int fds[REGIONS];

	for (unsigned i = 0; i < REGIONS; i++) {
		if (arg >> i & 1)
			continue;
		fds[t.n] = talk.guest->r[i].fd;
		t.region[t.n++] = region(i, i == 0 ? arg : 0);
	}
	tell(s, TS_SET_MEM_TABLE, &t, 8 + t.n * sizeof(t.region[0]), fds, t.n);
}

static void say_region(const struct saying *s, enum ts_request request, uint8_t arg)
{
	const unsigned i = arg % REGIONS;
	const struct ts_mem_slot slot = {.region = region(i, arg)};

	tell(s, request, &slot, sizeof(slot), &talk.guest->r[i].fd, request == TS_ADD_MEM_REG);
}

static void say_addr(const struct saying *s, unsigned ring, uint8_t arg)
{
	const struct ts_ring *r = talk.fe.rings[arg & 4 ? ring ^ 1 : ring].ring;
	const bool io = ts_ring_has(r, VIRTIO_F_ACCESS_PLATFORM);
	const uint64_t off = io ? 0 : talk.guest->r[0].uva - talk.guest->r[0].gpa;
	const struct ts_vring_addr a = {.index = ring,
		.flags = arg & 1,
		.desc = r->desc_gpa + ts_ring_iova(r) + off,
		.avail = r->driver_gpa + ts_ring_iova(r) + off,
		.used = r->device_gpa + ts_ring_iova(r) + off + (arg & 8 ? 0x20000 : 0),
		.log = r->device_gpa + (arg & 2 ? 0x100000 : 0)};

	tell(s, TS_SET_VRING_ADDR, &a, sizeof(a), NULL, 0);
}

static void say_num(const struct saying *s, unsigned ring, uint8_t arg)
{
	static const uint32_t nums[] = {
		RING_SIZE, RING_SIZE, RING_SIZE, RING_SIZE / 2, 1, 7, 1024, 0};

	say_state(s, TS_SET_VRING_NUM, ring, nums[arg % 8]);
}

static void say_base(const struct saying *s, unsigned ring, uint8_t arg)
{
	const struct ts_ring *r = talk.fe.rings[ring].ring;
	const uint32_t bases[] = {ts_fe_base(&talk.fe, ring), ts_fe_base(&talk.fe, ring),
		ts_ring_used_pos(r), ts_ring_avail_pos(r), ts_base_fresh(r->features), 0,
		arg * 0x01010101u, 0x80038003u};

	say_state(s, TS_SET_VRING_BASE, ring, bases[arg % 8]);
}

static void say_features(const struct saying *s, uint8_t arg)
{
	uint64_t f = talk.fe.features;

	if (arg & 1)
		f ^= TS_BIT(TS_F_LOG_ALL);
	if (arg & 2)
		f ^= TS_BIT(VIRTIO_F_RING_PACKED);
	if (arg & 4)
		f ^= TS_BIT(VIRTIO_F_ACCESS_PLATFORM);
	if (arg & 8)
		f ^= TS_BIT(TS_F_PROTOCOL_FEATURES);
	if (arg & 16)
		f ^= TS_BIT(arg >> 5 << 3);
	say_u64(s, TS_SET_FEATURES, f);
}

static void say_inflight(const struct saying *s, uint8_t arg)
{
	struct ts_inflight region = talk.fe.inflight;

	if (talk.fe.inflight_fd < 0 || (arg & 1))
		ts_fe_get_inflight(&talk.fe, 2 * talk.fe.pairs, arg & 2 ? RING_SIZE : 256);
	if (talk.fe.inflight_fd < 0)
		return;
	region = talk.fe.inflight;
	if (arg & 4)
		region.mmap_offset += 64;
	if (arg & 8)
		region.queue_size *= 2;
	tell(s, TS_SET_INFLIGHT_FD, &region, sizeof(region), &talk.fe.inflight_fd, 1);
}

static void say_iotlb(const struct saying *s, uint8_t arg)
{
	const struct ts_region *r = &talk.guest->r[arg % REGIONS];
	const struct ts_iotlb m = {.iova = r->gpa + talk.guest->iova + (arg & 4 ? 0x1000 : 0),
		.size = arg & 8 ? 0x1000 : r->size,
		.uva = r->uva + (arg & 4 ? 0x1000 : 0),
		.perm = arg & 16 ? 1 + arg % 3 : 3,
		.type = arg & 32 ? TS_IOTLB_INVALIDATE : TS_IOTLB_UPDATE};

	tell(s, TS_IOTLB_MSG, &m, sizeof(m), NULL, 0);
}

void fuzz_answer_misses(unsigned most)
{
	struct ts_iotlb m;

	for (; most > 0 && talk.fe.backend_req >= 0 && ts_fe_miss(&talk.fe, &m) == 1; most--) {
		const uint64_t uva = ts_uva(talk.guest, m.iova - talk.guest->iova);

		m.type = TS_IOTLB_UPDATE;
		m.size = 0x1000;
		m.perm = 3;
		m.uva = uva == TS_NOMEM ? 0 : uva & ~0xfffull;
		m.iova &= ~0xfffull;
		ts_fe_iotlb(&talk.fe, &m);
	}
}

static void say_channel(const struct saying *s, uint8_t arg)
{
	int sv[2];

	if (arg & 1) {
		tell(s, TS_SET_BACKEND_REQ_FD, NULL, 0, &talk.some_fd[arg / 2 % 3], 1);
		return;
	}
	PROMISE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0);
	if (talk.fe.backend_req >= 0)
		close(talk.fe.backend_req);
	talk.fe.backend_req = sv[0];
	tell(s, TS_SET_BACKEND_REQ_FD, NULL, 0, &sv[1], 1);
	close(sv[1]);
}

static void say_config(const struct saying *s, uint8_t arg)
{
	struct {
		uint32_t offset, size, flags;
		uint8_t space[256];
	} c = {.offset = arg & 1 ? arg : 0, .size = arg & 2 ? 6 : 256};

	tell(s, arg & 4 ? TS_SET_CONFIG : TS_GET_CONFIG, &c, 12 + c.size, NULL, 0);
}

static void say_log(const struct saying *s, uint8_t arg)
{
	const struct ts_log_area area = {arg & 1 ? 8 : 4096, arg & 2 ? 4096 : 0};
	int fd;

	if (arg & 4) {
		tell(s, TS_SET_LOG_FD, NULL, 0, &talk.some_fd[arg & 8 ? 0 : 1], 1);
		return;
	}
	fd = memfd_create("fuzz-log", MFD_CLOEXEC);
	PROMISE(fd >= 0 && ftruncate(fd, arg & 16 ? 100 : 8192) == 0);
	tell(s, TS_SET_LOG_BASE, &area, sizeof(area), &fd, 1);
	if (arg & 32)
		PROMISE(ftruncate(fd, 0) == 0);
	close(fd);
}

static void ask(const struct saying *s, uint8_t arg)
{
	static const enum ts_request requests[] = {TS_GET_FEATURES, TS_GET_PROTOCOL_FEATURES,
		TS_GET_QUEUE_NUM, TS_GET_MAX_MEM_SLOTS, TS_GET_STATUS, TS_SET_OWNER};

	tell(s, requests[arg % 6], NULL, 0, NULL, 0);
}

static void reset(const struct saying *s, uint8_t arg)
{
	static const enum ts_request requests[] = {TS_RESET_DEVICE, TS_RESET_OWNER, TS_SET_STATUS};
	const enum ts_request request = requests[arg % 3];

	if (request == TS_SET_STATUS)
		say_u64(s, request, 0);
	else
		tell(s, request, NULL, 0, NULL, 0);
}

void fuzz_say(enum action what, unsigned ring, uint8_t arg, struct fuzz_input *spoil)
{
	const struct saying said = {spoil, spoil != NULL}, *s = &said;
	const struct ts_fe_ring *r = &talk.fe.rings[ring];

	switch (what) {
	case SAY_FEATURES:
		say_features(s, arg);
		break;
	case SAY_PROTOCOL:
		say_u64(s, TS_SET_PROTOCOL_FEATURES,
			talk.fe.protocol ^ (arg & 32 ? TS_BIT(arg % 17) : 0));
		break;
	case SAY_MEMORY:
		say_memory(s, arg);
		break;
	case ADD_REGION:
		say_region(s, TS_ADD_MEM_REG, arg);
		break;
	case REMOVE_REGION:
		say_region(s, TS_REM_MEM_REG, arg);
		break;
	case SAY_NUM:
		say_num(s, ring, arg);
		break;
	case SAY_BASE:
		say_base(s, ring, arg);
		break;
	case SAY_ADDR:
		say_addr(s, ring, arg);
		break;
	case SAY_KICK:
		say_fd(s, TS_SET_VRING_KICK, ring, r->kick, arg);
		break;
	case SAY_CALL:
		say_fd(s, TS_SET_VRING_CALL, ring, r->call, arg);
		break;
	case SAY_ERR:
		say_fd(s, TS_SET_VRING_ERR, ring, r->err, arg);
		break;
	case ENABLE:
		say_state(s, TS_SET_VRING_ENABLE, ring, arg & 1);
		break;
	case GET_BASE:
		say_state(s, TS_GET_VRING_BASE, ring, 0);
		break;
	case INFLIGHT:
		say_inflight(s, arg);
		break;
	case IOTLB:
		say_iotlb(s, arg);
		break;
	case CHANNEL:
		say_channel(s, arg);
		break;
	case CONFIG:
		say_config(s, arg);
		break;
	case RESET:
		reset(s, arg);
		break;
	case LOG:
		say_log(s, arg);
		break;
	case STATUS:
		say_u64(s, TS_SET_STATUS, arg);
		break;
	case MTU:
		say_u64(s, TS_NET_SET_MTU, arg * 64u);
		break;
	case RARP:
		say_u64(s, TS_SEND_RARP, 0x020000000000ull | arg);
		break;
	default:
		ask(s, arg);
		break;
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Fuzz target: a front-end that says sensible things in any order, while its guest moves frames. */

/*
 * An input is a byte of settings and a list of actions of two bytes: enum action with ring and SPOIL, and an
 * argument that chooses among values of which most are right. A message that is spoiled has some of its bytes
 * replaced. What fuzz_messages reaches by luck only is the rule here: rings that run, stop, start
 * elsewhere, lose their memory, are logged, tracked, translated.
 *
 * As long as the front-end has not lied, a driver that is strict finds nothing wrong with what is used.
 * After each input nothing is left of the connection, and a front-end that behaves moves frames.
 */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz_say.h"

enum setting {
	PACKED = 1 << 0,
	IOMMU = 1 << 1,
	ALL = 1 << 2,     /* protocol features, not only those of the profile */
	ACKS = 1 << 3,    /* everything is to be acknowledged */
	STARTED = 1 << 4, /* it begins with all rings running */
			  /* the upper two bits: the profile */
};

#define SPOIL 0x80 /* of an action: offset, length, bytes follow */

#define PAIRS 2u
#define RINGS (2 * PAIRS)
#define IOVA  0x40000000ull

static struct vu_device *dev;
static uint8_t settings;
static bool honest; /* so far */

/* ---- the guest ---- */

static void traffic(unsigned ring, uint8_t arg)
{
	static const uint64_t at[] = {0x140000, 0x141ff0, 0x160000, 0x15fff0};
	struct ts_ring *r = talk.fe.rings[ring].ring;
	const struct ts_seg out[] = {{at[arg & 3], 12}, {at[arg >> 2 & 3], 64}},
			    in = {at[arg & 3], 1526};
	const enum ts_mode mode = arg & 16 ? TS_INDIRECT : TS_DIRECT;

	for (unsigned i = 0; i <= arg >> 5; i++)
		if (ring & 1)
			ts_ring_add(r, out, 1 + (arg >> i & 1), NULL, 0, r, mode);
		else
			ts_ring_add(r, NULL, 0, &in, 1, r, TS_DIRECT);
	ts_ring_publish(r);
	fuzz_poll(dev, PAIRS);
	while (ts_ring_get_used(r, NULL))
		;
	if (honest && r->faults.count > 0)
		fprintf(stderr, "ring %u: %s\n", ring, r->faults.first);
	PROMISE(!honest || (r->faults.count == 0 && !r->broken));
}

/* The guest boots: new rings. */
static void boot(void)
{
	for (unsigned i = 0; i < RINGS; i++)
		talk.fe.rings[i].base = TS_FRESH;
	ts_guest_forget(talk.guest);
	PROMISE(ts_fe_make_rings(&talk.fe, 0, RING_SIZE, TS_RING_SHUFFLE) == 0);
}

/* ---- the connection ---- */

static void attach(void)
{
	int peer;

	PROMISE(ts_fe_pair(&talk.fe, &peer) == 0 && vu_device_attach(dev, peer) == 0);
	talk.fe.features = 0;
	PROMISE(ts_fe_negotiate(&talk.fe) == 0);
}

/* All has been given back that was taken: rings go on where they were used. */
static void start_all(void)
{
	for (unsigned i = 0; i < RINGS; i++)
		talk.fe.rings[i].base = ts_ring_used_pos(talk.fe.rings[i].ring);
	ts_fe_start(&talk.fe);
	for (unsigned i = 0; i < REGIONS && (settings & IOMMU); i++)
		fuzz_say(IOTLB, 0, (uint8_t)i, NULL);
	fuzz_run(talk.base);
	fuzz_read_answers(talk.fe.sock);
}

static void come_back(uint8_t arg)
{
	ts_fe_disconnect(&talk.fe);
	fuzz_gone(talk.base, dev, -1);
	attach();
	if (arg & 2)
		boot();
	honest |= arg & 2;
	if (arg & 1)
		start_all();
}

/* Half a message, with its descriptors. */
static void cut(uint8_t arg)
{
	const struct ts_hdr h = {TS_SET_MEM_TABLE, TS_VERSION, 72};

	fuzz_send(talk.fe.sock, &h, 1 + arg / 4 % sizeof(h), talk.some_fd, arg / 4 % 4);
	fuzz_run(talk.base);
}

/* What a front-end may say at any time without telling a lie. */
static bool is_honest(enum action what, uint8_t arg)
{
	switch (what) {
	case ENABLE:
	case GET_BASE:
	case CONFIG:
	case MTU:
	case RARP:
	case ASK:
	case RESET:
		return true;
	case STATUS:
		return arg != 0;
	case IOTLB:
		return (arg & ~35) == 0;
	default:
		return false;
	}
}

static void act(struct fuzz_input *in)
{
	const uint8_t first = fuzz_u8(in), arg = fuzz_u8(in);
	const enum action what = (enum action)((first & 31) % ACTIONS);
	const unsigned ring = first >> 5 & (RINGS - 1);

	switch (what) {
	case TRAFFIC:
		traffic(ring, arg);
		break;
	case POLL:
		fuzz_poll(dev, PAIRS);
		break;
	case ANSWER_MISSES:
		fuzz_answer_misses(1 + arg % 16u);
		break;
	case START_ALL:
		start_all();
		break;
	case TIME:
		fuzz_time_passes(10 * (1u + arg));
		fuzz_run(talk.base);
		break;
	case BOOT:
		honest &= ts_fe_stop(&talk.fe) == 0;
		boot();
		break;
	case CUT:
		cut(arg);
		come_back(arg);
		break;
	case RECONNECT:
		come_back(arg);
		break;
	default:
		honest &= is_honest(what, arg) && !(first & SPOIL);
		fuzz_say(what, ring, arg, first & SPOIL ? in : NULL);
		break;
	}
	if (fuzz_closed(talk.fe.sock))
		come_back(0);
}

static void on_log(void *arg, enum vu_log_level level, const char *line)
{
	(void)arg, (void)level;
	PROMISE(strlen(line) < 400);
}

static void prepare(void)
{
	static const struct vu_device_ops ops = {.prepare = fuzz_prepare_view, .log = on_log};
	static const uint8_t mac[] = {2, 0, 0, 0, 0, 1};
	static const struct ts_region_conf regions[REGIONS] = {{.gpa = 0x100000, .size = 0x40000},
		{.gpa = 0x140000, .size = 0x20000},
		{.gpa = 0x160000, .size = 0x10000, .mmap_offset = 0x1000}};
	const struct vu_device_conf conf = {.path = "/nobody/listens/here",
		.queue_pairs = PAIRS,
		.features = vu_possible_features(),
		.mac = mac,
		.ops = &ops};
	int ends[2];
	char why[200];

	fuzz_begin();
	talk.base = event_base_new();
	talk.guest = ts_guest_new();
	PROMISE(talk.base && talk.guest);
	for (unsigned i = 0; i < REGIONS; i++)
		PROMISE(ts_guest_add(talk.guest, &regions[i]) == (int)i);
	talk.guest->iova = IOVA;
	talk.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	talk.some_fd[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	PROMISE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	talk.some_fd[1] = ends[0];
	talk.some_fd[2] = memfd_create("fuzz-some", MFD_CLOEXEC);
	PROMISE(vu_device_create(talk.base, &conf, &dev, why, sizeof(why)) == 0);
}

static void pump(void *arg)
{
	fuzz_run(arg);
}

static void make_front_end(void)
{
	static const struct ts_profile *const profiles[] = {
		&ts_qemu_10, &ts_qemu_2_5, &ts_virtio_user, &ts_qemu_4};

	ts_fe_init(&talk.fe, profiles[settings >> 6], talk.guest);
	talk.fe.timeout_ms = 0;
	talk.fe.pump = pump;
	talk.fe.pump_arg = talk.base;
	talk.fe.pairs = talk.fe.active = PAIRS;
	if (settings & PACKED)
		talk.fe.want |= TS_BIT(VIRTIO_F_RING_PACKED);
	if (settings & IOMMU)
		talk.fe.want |= TS_BIT(VIRTIO_F_ACCESS_PLATFORM);
	if (settings & ALL)
		talk.fe.want_protocol = UINT64_MAX;
	if (settings & ACKS)
		talk.fe.need_reply = UINT64_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	int fd_before;

	if (!talk.base)
		prepare();
	fd_before = fuzz_lowest_fd();
	settings = fuzz_u8(&in);
	honest = true;
	talk.acks = settings & ACKS;
	make_front_end();
	attach();
	boot();
	if (settings & STARTED)
		start_all();
	for (unsigned n = 0; in.left > 0 && n < FUZZ_ACTIONS; n++)
		act(&in);
	ts_fe_free(&talk.fe);
	fuzz_gone(talk.base, dev, fd_before);
	fuzz_polite(talk.base, dev, settings & PACKED ? TS_BIT(VIRTIO_F_RING_PACKED) : 0);
	PROMISE(fuzz_lowest_fd() == fd_before);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Fuzz target: everything a front-end can send, and what then happens to its rings. */

/*
 * An input is a list of actions, see enum action. The device is attached to one end of a
 * socketpair; its data path is polled by action; time passes by action too, because
 * clock_gettime() is ours. After each input the front-end goes, and nothing may be left.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "fuzz.h"
#include "virtq_log.h"
#include "virtq_packed.h"
#include "virtq_split.h"
#include "vu.h"

enum action {
	MESSAGE,   /* id, how, number of fds, their kinds, length, payload; then the loop runs */
	BYTES,     /* length, bytes: not even a message; the loop does not run */
	RUN,       /* the loop */
	POLL,      /* every ring once */
	MEMORY,    /* which file, offset, length, bytes: the guest writes */
	TIME,      /* tens of milliseconds pass */
	RECONNECT, /* the front-end dies and comes back */
	HANG_UP,   /* it stops talking, but stays */
	ACTIONS
};

/* MESSAGE's "how" */
enum how {
	FLAGS = 0x0f,     /* of the header */
	CLAIM = 1 << 4,   /* two bytes follow: the size the header claims */
	NO_RUN = 1 << 5,  /* the loop does not run afterwards */
	NO_READ = 1 << 6, /* nor are answers read */
};

#define PAIRS 2u

static const size_t file_size[] = {0x20000, 0x10000, 0x1000};
static int kinds[8]; /* the descriptors messages carry: three files of memory first */
static uint8_t *file[3];
static struct event_base *base;
static struct vu_device *dev;
static int front_end = -1;
static long long skew_ns;

/* libevent asks for the time here. libFuzzer asks for another clock, which stays as it is. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, id, ts);
	long long ns = ts->tv_nsec;

	if (id == CLOCK_REALTIME)
		return rc;
	ns += skew_ns;
	ts->tv_sec += ns / 1000000000;
	ts->tv_nsec = ns % 1000000000;
	return rc;
}

/* ---- the data path: take everything, use both ends of it, give it back ---- */

/* Wherever the front-end said the log and the ring lie. */
static void mark(const struct virtq *vq, const struct virtq_view *v, uint16_t from,
	const struct virtq_chain *chain, uint16_t n)
{
	uint32_t hint = 0;

	virtq_log_begin();
	virtq_log_used(vq, v, from);
	for (uint16_t i = 0; i < n; i++)
		virtq_log_chain(v, &hint, &chain[i], chain[i].len);
}

static uint16_t churn(struct virtq *vq, const struct virtq_view *v, void **pkts, uint16_t max)
{
	const struct virtq_ops *ops = v->packed ? &virtq_packed_ops : &virtq_split_ops;
	enum virtq_dir dir = v->arg ? VIRTQ_FROM_GUEST : VIRTQ_TO_GUEST;
	struct virtq_chain chain[VIRTQ_BURST];
	struct virtq_segs segs;
	uint16_t n, taken = 0, from = vq->used;

	(void)pkts;
	if (vq->fault)
		return 0;
	n = ops->ready(vq, v, max);
	virtq_segs_begin(&segs);
	while (taken < n && ops->take(vq, v, dir, &segs, &chain[taken]))
		taken++;
	for (uint16_t i = 0; i < taken; i++) {
		for (uint16_t k = 0; k < chain[i].nseg; k++) {
			const struct virtq_seg *s = &chain[i].seg[k];

			PROMISE(s->len > 0);
			if (dir == VIRTQ_TO_GUEST)
				s->va[0] = s->va[s->len - 1] = (uint8_t)i;
			else
				PROMISE((virtq_load(&s->va[s->len - 1]) & 0x100) == 0);
		}
		ops->give(vq, v, &chain[i], chain[i].len);
	}
	if (taken)
		ops->publish(vq, v);
	if (taken && v->log)
		mark(vq, v, from, chain, taken);
	return taken;
}

static void on_prepare(void *arg, unsigned ring, struct virtq_view *view)
{
	(void)arg;
	view->burst = churn;
	view->arg = ring & 1 ? &base : NULL;
}

/* Lines are formatted from what the front-end said: that is worth doing too. */
static void on_log(void *arg, enum vu_log_level level, const char *line)
{
	(void)arg, (void)level;
	PROMISE(strlen(line) < 400);
}

static const struct vu_device_ops ops = {.prepare = on_prepare, .log = on_log};

/* ---- life ---- */

static void prepare(void)
{
	const struct vu_device_conf conf = {.path = "/nobody/listens/here",
		.queue_pairs = PAIRS,
		.features = vu_default_features(),
		.ops = &ops};
	char why[200], path[40];
	int pipes[2];

	for (unsigned i = 0; i < 3; i++) {
		kinds[i] = memfd_create("fuzz", MFD_CLOEXEC);
		PROMISE(ftruncate(kinds[i], (off_t)file_size[i]) == 0);
		file[i] = mmap(NULL, file_size[i], PROT_READ | PROT_WRITE, MAP_SHARED, kinds[i], 0);
		PROMISE(file[i] != MAP_FAILED);
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", kinds[1]);
	kinds[3] = open(path, O_RDONLY | O_CLOEXEC);
	kinds[4] = eventfd(0, EFD_CLOEXEC);
	kinds[5] = eventfd(0, EFD_CLOEXEC);
	kinds[6] = open("/dev/null", O_RDWR | O_CLOEXEC);
	PROMISE(pipe2(pipes, O_CLOEXEC) == 0);
	kinds[7] = pipes[0];
	base = event_base_new();
	PROMISE(vu_device_create(base, &conf, &dev, why, sizeof(why)) == 0);
}

static void attach(void)
{
	int sv[2], small = 1;

	PROMISE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0);
	/* A few answers that nobody reads fill it. */
	PROMISE(setsockopt(sv[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) == 0);
	front_end = sv[0];
	PROMISE(vu_device_attach(dev, sv[1]) == 0);
}

static void run(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

static int lowest_free_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static bool connected(void)
{
	struct vu_info info;

	vu_device_info(dev, &info);
	return info.connection == VU_CONNECTED;
}

static unsigned count_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned n = 0;

	PROMISE(f != NULL);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "memfd:fuzz") != NULL;
	fclose(f);
	return n;
}

/* The front-end goes: now nothing is left of what it brought. */
static void detach(int fd_before)
{
	static unsigned inputs;

	close(front_end);
	front_end = -1;
	for (unsigned i = 0; connected() && i < 100; i++)
		run();
	PROMISE(!connected());
	for (unsigned i = 0; i < 2 * PAIRS; i++) {
		struct vu_ring_info info;

		vu_ring_info(dev, i, &info);
		PROMISE(!info.usable && !info.started && info.call_fd < 0 && info.kick_fd < 0);
	}
	PROMISE(lowest_free_fd() == fd_before);
	if (inputs++ % 64 == 0)
		PROMISE(count_maps() == 3);
}

/* ---- actions ---- */

/* Everything the device says is an answer of the one form there is. */
static void read_answers(void)
{
	struct {
		uint32_t request, flags, size;
	} h;
	uint8_t payload[24];

	while (recv(front_end, &h, sizeof(h), MSG_DONTWAIT) == sizeof(h)) {
		PROMISE(h.flags == 5 && (h.size == 8 || h.size == 16 || h.size == 24));
		PROMISE(recv(front_end, payload, h.size, MSG_DONTWAIT) == (ssize_t)h.size);
	}
}

static void transmit(const void *data, size_t len, const int *fds, unsigned n_fds)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * 15)];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds) {
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		*CMSG_FIRSTHDR(&mh) = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int) * n_fds),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&mh)), fds, sizeof(int) * n_fds);
	}
	sendmsg(front_end, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void act_message(struct fuzz_input *in)
{
	uint8_t id = fuzz_u8(in), how = fuzz_u8(in), n_fds = fuzz_u8(in) & 15, len;
	struct {
		uint32_t request, flags, size;
		uint8_t payload[255];
	} m;
	int fds[15];

	for (unsigned i = 0; i < n_fds; i++)
		fds[i] = kinds[fuzz_u8(in) % 8];
	m.request = id;
	m.flags = how & FLAGS;
	len = fuzz_u8(in);
	m.size = how & CLAIM ? fuzz_u16(in) : len;
	fuzz_bytes(in, m.payload, len);
	transmit(&m, 12u + len, fds, n_fds);
	if (!(how & NO_RUN))
		run();
	if (!(how & NO_READ))
		read_answers();
}

static void act_bytes(struct fuzz_input *in)
{
	uint8_t bytes[255], len = fuzz_u8(in);

	fuzz_bytes(in, bytes, len);
	transmit(bytes, len, &kinds[4], len & 1);
}

static void act_memory(struct fuzz_input *in)
{
	unsigned which = fuzz_u8(in) % 3;
	size_t at = fuzz_u16(in), len = fuzz_u8(in);

	if (at + len <= file_size[which])
		fuzz_bytes(in, file[which] + at, len);
}

static void act_poll(void)
{
	for (unsigned i = 0; i < 2 * PAIRS; i++)
		virtq_burst(vu_device_ring(dev, i), NULL, VIRTQ_BURST);
}

static void act(struct fuzz_input *in, int fd_before)
{
	switch (fuzz_u8(in) % ACTIONS) {
	case MESSAGE:
		act_message(in);
		break;
	case BYTES:
		act_bytes(in);
		break;
	case RUN:
		run();
		break;
	case POLL:
		act_poll();
		break;
	case MEMORY:
		act_memory(in);
		break;
	case TIME:
		skew_ns += (1 + fuzz_u8(in)) * 10000000ll;
		run();
		break;
	case RECONNECT:
		detach(fd_before);
		attach();
		break;
	default:
		shutdown(front_end, SHUT_WR);
		break;
	}
	if (!connected()) {
		detach(fd_before);
		attach();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	int fd_before;

	if (!dev)
		prepare();
	for (unsigned i = 0; i < 3; i++)
		memset(file[i], 0, file_size[i]);
	fd_before = lowest_free_fd();
	attach();
	while (in.left > 0)
		act(&in, fd_before);
	detach(fd_before);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Fuzz target: everything a front-end can send, and what then happens to its rings. */

/*
 * An input is a list of actions, see enum action. The device is attached to one end of a
 * socketpair; its data path is polled by action; time passes by action too. After each input the
 * front-end goes, and nothing may be left.
 */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz_device.h"

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

/* Lines are formatted from what the front-end said: that is worth doing too. */
static void on_log(void *arg, enum vu_log_level level, const char *line)
{
	(void)arg, (void)level;
	PROMISE(strlen(line) < 400);
}

static const struct vu_device_ops ops = {.prepare = fuzz_prepare_view, .log = on_log};

/* ---- life ---- */

static void prepare(void)
{
	const struct vu_device_conf conf = {.path = "/nobody/listens/here",
		.queue_pairs = PAIRS,
		.features = vu_default_features(),
		.ops = &ops};
	char why[200], path[40];
	int pipes[2];

	fuzz_begin();
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

static void detach(int fd_before)
{
	close(front_end);
	front_end = -1;
	fuzz_gone(base, dev, fd_before);
}

/* ---- actions ---- */

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
	fuzz_send(front_end, &m, 12u + len, fds, n_fds);
	if (!(how & NO_RUN))
		run();
	if (!(how & NO_READ))
		fuzz_read_answers(front_end);
}

static void act_bytes(struct fuzz_input *in)
{
	uint8_t bytes[255], len = fuzz_u8(in);

	fuzz_bytes(in, bytes, len);
	fuzz_send(front_end, bytes, len, &kinds[4], len & 1);
}

static void act_memory(struct fuzz_input *in)
{
	unsigned which = fuzz_u8(in) % 3;
	size_t at = fuzz_u16(in), len = fuzz_u8(in);

	if (at + len <= file_size[which])
		fuzz_bytes(in, file[which] + at, len);
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
		fuzz_poll(dev, PAIRS);
		break;
	case MEMORY:
		act_memory(in);
		break;
	case TIME:
		fuzz_time_passes(10 * (1u + fuzz_u8(in)));
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
	if (fuzz_closed(front_end)) {
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
	fd_before = fuzz_lowest_fd();
	attach();
	while (in.left > 0)
		act(&in, fd_before);
	detach(fd_before);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing to and reading from other people's eventfds without ever waiting. */
#include "virtq_signal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "virtq_order.h"

/*
 * Theory of operation
 *
 * O_NONBLOCK belongs to the open file, which the front-end shares: it can make an eventfd blocking
 * and full between our look and our write(). So we do not write. The kernel itself signals an
 * eventfd when an asynchronous read is done (IOCB_FLAG_RESFD); that adds 1, stops at the largest
 * number and waits for nobody. What is read is a byte of /dev/zero, which is done at once.
 */

#define EVENTS 32

static aio_context_t context; /* of the process; 0: the kernel has none for us */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_context(void)
{
	if (syscall(SYS_io_setup, EVENTS, &context) < 0)
		context = 0;
}

/* Without asynchronous reads (a seccomp filter, say) there is a window, of a few instructions. */
static int write_if_room(int fd)
{
	static const uint64_t one = 1;
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	if (fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
		return -errno;
	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
		return 0; /* full: whoever reads it finds it signalled */
	return write(fd, &one, sizeof(one)) == sizeof(one) ? 0 : -errno;
}

static int read_and_signal(int zero, int fd)
{
	const struct timespec now = {0, 0};
	struct io_event done[EVENTS];
	uint8_t byte;
	struct iocb cb = {.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)zero,
		.aio_buf = (uintptr_t)&byte,
		.aio_nbytes = sizeof(byte),
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)fd};
	struct iocb *list = &cb;
	int err = syscall(SYS_io_submit, context, 1, &list) == 1 ? 0 : -errno;

	syscall(SYS_io_getevents, context, 0, EVENTS, done, &now);
	return err;
}

int virtq_signal(int fd)
{
	int zero, err;

	if (fd < 0)
		return -EBADF;
	pthread_once(&once, make_context);
	if (!context)
		return write_if_room(fd);
	zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	if (zero < 0)
		return -errno;
	err = read_and_signal(zero, fd);
	close(zero);
	return err;
}

uint64_t virtq_signal_take(int fd)
{
	uint64_t count = 0;
	const struct iovec to = {&count, sizeof(count)};
	ssize_t n = preadv2(fd, &to, 1, -1, RWF_NOWAIT);

	return n == sizeof(count) ? count : 0;
}

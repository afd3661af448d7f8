/* SPDX-License-Identifier: BSD-3-Clause */
/* Fuzz target: a record of another process's device, of any content, and what then happens to its rings. */

/*
 * An input is a number of descriptors, their kinds, and the record. A device that takes it is resumed
 * and polled. Whether it does or not, no descriptor is left.
 */
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz_device.h"
#include "vu_handover.h"

enum kind {
	MEMORY,
	EVENT,
	STREAM,
	LISTENER,
	PIPE,
	KINDS
};

#define FDS_MAX 40u
#define SIZE    0x20000

static struct event_base *base;
static int kinds[KINDS];

static void prepare(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fds[2];

	fuzz_begin();
	base = event_base_new();
	kinds[MEMORY] = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	kinds[EVENT] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	PROMISE(base && ftruncate(kinds[MEMORY], SIZE) == 0);
	PROMISE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	kinds[STREAM] = fds[0];
	kinds[LISTENER] = socket(AF_UNIX, SOCK_STREAM, 0);
	/* A name of the kernel's choice: no file. */
	PROMISE(bind(kinds[LISTENER], (void *)&addr, sizeof(sa_family_t)) == 0 &&
		listen(kinds[LISTENER], 1) == 0);
	PROMISE(pipe(fds) == 0);
	kinds[PIPE] = fds[0];
}

static struct vu_device *make_device(void)
{
	static const struct vu_device_ops ops = {.prepare = fuzz_prepare_view};
	const struct vu_device_conf conf = {.path = "/nowhere",
		.listen = true,
		.queue_pairs = 1,
		.features = vu_default_features(),
		.dormant = true,
		.ops = &ops};
	struct vu_device *dev = NULL;
	char why[200];

	PROMISE(vu_device_create(base, &conf, &dev, why, sizeof(why)) == 0);
	return dev;
}

static void use(struct vu_device *dev)
{
	vu_device_resume(dev);
	for (unsigned i = 0; i < 3; i++) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		fuzz_poll(dev, 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	struct vu_device *dev;
	int fds[FDS_MAX], lowest;
	struct vu_record rec = {.fds = fds};
	unsigned n;
	char why[256];

	if (!base)
		prepare();
	lowest = fuzz_lowest_fd();
	dev = make_device();
	n = fuzz_u8(&in) % (FDS_MAX + 1);
	while (rec.nfds < n)
		fds[rec.nfds++] = dup(kinds[fuzz_u8(&in) % KINDS]);
	rec.bytes = malloc(in.left + 1); /* of its own, so that reading beyond it is noticed */
	PROMISE(rec.bytes);
	rec.len = fuzz_bytes(&in, rec.bytes, in.left);
	if (vu_device_restore(dev, &rec, why, sizeof(why)) == 0)
		use(dev);
	free(rec.bytes);
	vu_device_destroy(dev);
	PROMISE(fuzz_lowest_fd() == lowest);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The part of a device's surroundings that is not to be fuzzed. */
#include "fuzz_device.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ts_frontend.h"
#include "virtq_log.h"
#include "virtq_packed.h"
#include "virtq_split.h"
#include "virtq_trap.h"

#define POLITE_SIZE   16u
#define POLITE_MEMORY 0x40000u

static struct ts_guest *polite_guest;

/* fuzz_fence.c: nobody reads what is beside a file's mapping. */
static void check_fence(int fd, size_t len)
{
	uint8_t *at = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);

	PROMISE(at != MAP_FAILED);
	for (unsigned i = 0; i < 2; i++)
		PROMISE(pwrite(fd, i ? at + len : at - 1, 1, 0) == -1 && errno == EFAULT);
	munmap(at, len);
}

void fuzz_begin(void)
{
	static const struct ts_region_conf low = {.gpa = 0x100000, .size = POLITE_MEMORY},
					   high = {.gpa = 0x180000, .size = POLITE_MEMORY};

	PROMISE(virtq_trap_fd() >= 0);
	polite_guest = ts_guest_new();
	PROMISE(polite_guest && ts_guest_add(polite_guest, &low) == 0 &&
		ts_guest_add(polite_guest, &high) == 1);
	check_fence(polite_guest->r[0].fd, POLITE_MEMORY);
}

/* ---- time ---- */

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

void fuzz_time_passes(unsigned ms)
{
	skew_ns += ms * 1000000ll;
}

void fuzz_run(struct event_base *base)
{
	for (unsigned i = 0; i < 2; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

/* ---- the data path ---- */

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

static void use(const struct virtq_chain *chain, enum virtq_dir dir)
{
	for (uint16_t i = 0; i < chain->nseg; i++) {
		const struct virtq_seg *s = &chain->seg[i];

		PROMISE(s->len > 0);
		if (dir == VIRTQ_TO_GUEST)
			s->va[0] = s->va[s->len - 1] = (uint8_t)i;
		else
			PROMISE((virtq_load(&s->va[s->len - 1]) & 0x100) == 0);
	}
}

uint16_t fuzz_burst(struct virtq *vq, const struct virtq_view *v, void **pkts, uint16_t max)
{
	const struct virtq_ops *ops = v->packed ? &virtq_packed_ops : &virtq_split_ops;
	enum virtq_dir dir = v->arg ? VIRTQ_FROM_GUEST : VIRTQ_TO_GUEST;
	struct virtq_chain chain[VIRTQ_BURST];
	uint16_t n, taken = 0, from = vq->used;
	struct virtq_segs segs;

	(void)pkts;
	if (vq->fault)
		return 0;
	n = ops->ready(vq, v, max);
	virtq_segs_begin(&segs);
	while (taken < n && ops->take(vq, v, dir, &segs, &chain[taken]))
		taken++;
	for (uint16_t i = 0; i < taken; i++) {
		use(&chain[i], dir);
		ops->give(vq, v, &chain[i], dir == VIRTQ_TO_GUEST ? chain[i].len : 0);
	}
	if (taken)
		ops->publish(vq, v);
	if (taken && v->log)
		mark(vq, v, from, chain, taken);
	return taken;
}

void fuzz_prepare_view(void *arg, unsigned ring, struct virtq_view *view)
{
	(void)arg;
	view->burst = fuzz_burst;
	view->arg = ring & 1 ? &skew_ns : NULL;
}

void fuzz_poll(struct vu_device *dev, unsigned pairs)
{
	for (unsigned i = 0; i < 2 * pairs; i++)
		virtq_burst(vu_device_ring(dev, i), NULL, VIRTQ_BURST);
}

/* ---- the socket ---- */

void fuzz_send(int sock, const void *data, size_t len, const int *fds, unsigned n_fds)
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
	sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
}

#define CONFIG_SPACE 24u /* the request for it, answered with what was asked for */

/* The sizes of the answers there are; descriptors that come along are closed by not asking for them. */
void fuzz_read_answers(int sock)
{
	struct ts_hdr h;
	uint8_t payload[12 + 256];

	while (recv(sock, &h, sizeof(h), MSG_DONTWAIT) == sizeof(h)) {
		PROMISE(h.flags == 5);
		PROMISE(h.size == 8 || h.size == 16 || h.size == 24 ||
			(h.request == CONFIG_SPACE && h.size <= sizeof(payload)));
		PROMISE(h.size == 0 ||
			recv(sock, payload, h.size, MSG_DONTWAIT) == (ssize_t)h.size);
	}
}

/* ---- who comes and goes ---- */

bool fuzz_closed(int sock)
{
	struct pollfd p = {.fd = sock, .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0;
}

int fuzz_lowest_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

void fuzz_gone(struct event_base *base, struct vu_device *dev, int fd_before)
{
	static int maps;
	static unsigned inputs;
	struct vu_info info;
	unsigned runs = 0;

	do {
		PROMISE(runs++ < 100);
		fuzz_run(base);
		vu_device_info(dev, &info);
	} while (info.connection == VU_CONNECTED);
	PROMISE(info.mem == NULL && !info.link);
	for (unsigned i = 0; i < 2u * info.queue_pairs; i++) {
		struct vu_ring_info ring;

		vu_ring_info(dev, i, &ring);
		PROMISE(!ring.usable && !ring.started && ring.call_fd < 0 && ring.kick_fd < 0);
	}
	PROMISE(fd_before < 0 || fuzz_lowest_fd() == fd_before);
	if (inputs++ % 64 != 0)
		return;
	/* The input's own are always as many. */
	PROMISE(maps == 0 || ts_count_maps("memfd:") == maps);
	maps = ts_count_maps("memfd:");
}

static void pump(void *base)
{
	fuzz_run(base);
}

static void went_well(const struct ts_fe *fe, int rc)
{
	if (rc == 0)
		return;
	fprintf(stderr, "a front-end that behaves: %s\n", fe->why);
	abort();
}

/* What was given comes back, whole. */
static void traffic(const struct ts_fe *fe, struct vu_device *dev, unsigned ring)
{
	const struct ts_seg frame[] = {{0x180000, 12}, {0x181000, 64}}, buffer = {0x182000, 1526};
	struct ts_ring *r = fe->rings[ring].ring;
	uint32_t len;

	for (unsigned i = 0; i < 2 * POLITE_SIZE; i++) {
		int rc = ring & 1 ? ts_ring_add(r, frame, 2, NULL, 0, r,
					    i % 2 ? TS_INDIRECT : TS_DIRECT)
				  : ts_ring_add(r, NULL, 0, &buffer, 1, r, TS_DIRECT);

		PROMISE(rc == 0);
		ts_ring_publish(r);
		fuzz_poll(dev, fe->pairs);
		PROMISE(ts_ring_get_used(r, &len) == r && len == (ring & 1 ? 0 : buffer.len));
	}
	PROMISE(r->faults.count == 0 && !r->broken);
}

void fuzz_polite(struct event_base *base, struct vu_device *dev, uint64_t format)
{
	static struct ts_fe fe;
	struct vu_info info;
	int peer;

	vu_device_info(dev, &info);
	ts_guest_forget(polite_guest);
	ts_fe_init(&fe, &ts_qemu_10, polite_guest);
	fe.pump = pump;
	fe.pump_arg = base;
	fe.want |= format;
	fe.pairs = fe.active = info.queue_pairs;
	went_well(&fe, ts_fe_pair(&fe, &peer));
	PROMISE(vu_device_attach(dev, peer) == 0);
	went_well(&fe, ts_fe_negotiate(&fe));
	went_well(&fe, ts_fe_make_rings(&fe, 0, POLITE_SIZE, TS_RING_SHUFFLE));
	went_well(&fe, ts_fe_start(&fe));
	went_well(&fe, ts_fe_barrier(&fe));
	for (unsigned i = 0; i < 2 * fe.pairs; i++)
		traffic(&fe, dev, i);
	went_well(&fe, ts_fe_stop(&fe));
	ts_fe_free(&fe);
	fuzz_gone(base, dev, -1);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* A device that moves from process to process under load. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vd_handover.h"

#define OWNERS 40

struct chain {
	uint64_t consumed; /* by all owners; shared */
};

static bool send_record(int sock, const struct vu_record *rec)
{
	union {
		char buf[CMSG_SPACE(64 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {rec->bytes, rec->len};
	struct msghdr mh = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = CMSG_SPACE(rec->nfds * sizeof(int))};

	control.align = (struct cmsghdr){.cmsg_len = CMSG_LEN(rec->nfds * sizeof(int)),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.align), rec->fds, rec->nfds * sizeof(int));
	return sendmsg(sock, &mh, 0) == (ssize_t)rec->len;
}

static bool receive_record(int sock, struct vu_record *rec)
{
	union {
		char buf[CMSG_SPACE(64 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov;
	struct msghdr mh = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};
	struct cmsghdr *cm;
	ssize_t n;

	*rec = (struct vu_record){.bytes = malloc(1 << 16), .fds = calloc(64, sizeof(int))};
	iov = (struct iovec){rec->bytes, 1 << 16};
	n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
	cm = CMSG_FIRSTHDR(&mh);
	if (n <= 0 || !cm)
		return false;
	rec->len = (size_t)n;
	rec->nfds = (unsigned)((cm->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(rec->fds, CMSG_DATA(cm), rec->nfds * sizeof(int));
	return true;
}

/* Serve until the next owner asks (a byte comes), then hand over and end. */
static _Noreturn void own(struct vd *t, struct chain *c, int from, int to)
{
	uint64_t consumed = 0;
	struct vu_record rec;
	char byte, why[200];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (from < 0) {
		vd_create(t);
	} else {
		t->dev = vd_dormant(t);
		if (write(from, "", 1) != 1 || !receive_record(from, &rec) ||
			vu_device_restore(t->dev, &rec, why, sizeof(why)) != 0 ||
			read(from, &byte, 1) != 0 || vu_device_resume(t->dev) != 0)
			_exit(1);
	}
	t->ring[0].to_send = UINT64_MAX / 2;
	t->ring[0].sent = t->ring[1].consumed = 0;
	while (recv(to, &byte, 1, MSG_DONTWAIT) != 1) {
		vd_run(t);
		for (unsigned i = 0; i < 20; i++) {
			vd_burst(t, 0);
			vd_burst(t, 1);
		}
		__atomic_add_fetch(&c->consumed, t->ring[1].consumed - consumed, __ATOMIC_RELAXED);
		consumed = t->ring[1].consumed;
	}
	if (vu_device_freeze(t->dev, why, sizeof(why)) != 0 ||
		vu_device_record(t->dev, &rec, why, sizeof(why)) != 0 || !send_record(to, &rec))
		_exit(1);
	vd_destroy(t);
	_exit(0);
}

/* What came back is taken. */
static void reap(struct vd *t, uint64_t *reaped)
{
	struct ts_ring *rx = t->fe.rings[0].ring, *tx = t->fe.rings[1].ring;
	uint32_t len;

	while (ts_ring_get_used(tx, &len))
		++*reaped;
	while (ts_ring_get_used(rx, &len))
		;
	if (rx->faults.count || tx->faults.count)
		fail_msg("%s", rx->faults.count ? rx->faults.first : tx->faults.first);
}

/* The guest keeps both rings busy; everything it gave comes back once. */
static void keep_busy(struct vd *t, uint64_t *reaped, uint64_t *sent)
{
	struct ts_ring *rx = t->fe.rings[0].ring, *tx = t->fe.rings[1].ring;
	const struct ts_seg frame = {0x400000, 76}, buffer = {0x480000, 1526};

	while (*sent - *reaped < VD_RING_SIZE / 2 &&
		ts_ring_add(tx, &frame, 1, NULL, 0, tx, TS_DIRECT) == 0)
		++*sent;
	while (ts_ring_add(rx, NULL, 0, &buffer, 1, rx, TS_DIRECT) == 0)
		;
	ts_ring_publish(tx);
	ts_ring_publish(rx);
	reap(t, reaped);
}

static void from_process_to_process(void **state)
{
	struct vd *t = *state;
	struct chain *c =
		mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t reaped = 0, sent = 0, before;
	int pipes[OWNERS][2], status;
	pid_t child[OWNERS];

	assert_true(c != MAP_FAILED);
	vd_conf(t, 1);
	vd_front_end(t, &ts_qemu_10);
	t->fe.pump = NULL;
	t->fe.timeout_ms = 10000;
	for (unsigned i = 0; i < OWNERS; i++) {
		assert_int_equal(
			socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pipes[i]), 0);
		child[i] = fork();
		assert_true(child[i] >= 0);
		if (child[i] == 0)
			own(t, c, i > 0 ? pipes[i - 1][1] : -1, pipes[i][0]);
		close(pipes[i][0]);
		if (i == 0) {
			vd_ok(t, ts_fe_connect(&t->fe, t->path));
			vd_ok(t, ts_fe_negotiate(&t->fe));
			vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, TS_RING_SHUFFLE));
			vd_ok(t, ts_fe_start(&t->fe));
		} else { /* who has handed over has ended well */
			assert_true(TS_WAIT((keep_busy(t, &reaped, &sent),
						    waitpid(child[i - 1], &status, WNOHANG) > 0),
				10000));
			assert_int_equal(status, 0);
		}
		before = reaped;
		assert_true(TS_WAIT((keep_busy(t, &reaped, &sent), reaped > before + 200), 10000));
	}
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_true(TS_WAIT((keep_busy(t, &reaped, &sent), reaped > before + 1000), 10000));
	/* The last owner counts a turn when it is over, and is killed after that. */
	assert_true(TS_WAIT(
		(reap(t, &reaped), reaped == sent && virtq_load(&c->consumed) == sent), 10000));
	kill(child[OWNERS - 1], SIGKILL);
	waitpid(child[OWNERS - 1], NULL, 0);
	for (unsigned i = 0; i < OWNERS; i++)
		close(pipes[i][1]);
	unlink(t->path);
	munmap(c, sizeof(*c));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(from_process_to_process),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

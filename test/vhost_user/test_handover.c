/* SPDX-License-Identifier: BSD-3-Clause */
/* A device that moves to another process while its front-end and its guest go on. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vd.h"
#include "vd_msg.h"
#include "vu_handover.h"

/*
 * Theory of operation
 *
 * Most cases move a device inside this process: the record's descriptors are duplicated, as a
 * socket does it, and the old device is destroyed before the new one goes on. In the last cases
 * each owner is a process of its own.
 */

/* ---- moving ---- */

static void freeze(struct vd *t)
{
	char why[200] = "";

	if (vu_device_freeze(t->dev, why, sizeof(why)) != 0)
		fail_msg("not frozen: %s", why);
}

static struct vu_record record(struct vd *t)
{
	struct vu_record rec;
	char why[200] = "";

	if (vu_device_record(t->dev, &rec, why, sizeof(why)) != 0)
		fail_msg("not recorded: %s", why);
	return rec;
}

/* As another process receives it. */
static struct vu_record received(const struct vu_record *rec)
{
	struct vu_record copy = {.bytes = malloc(rec->len),
		.len = rec->len,
		.fds = calloc(rec->nfds + 1, sizeof(int))};

	assert_non_null(copy.bytes);
	assert_non_null(copy.fds);
	memcpy(copy.bytes, rec->bytes, rec->len);
	for (unsigned i = 0; i < rec->nfds; i++)
		copy.fds[copy.nfds++] = dup(rec->fds[i]);
	return copy;
}

static struct vu_device *dormant(struct vd *t)
{
	struct vu_device_conf conf = t->conf;
	struct vu_device *dev = NULL;
	char why[200] = "";

	conf.dormant = true;
	if (vu_device_create(t->base, &conf, &dev, why, sizeof(why)) != 0)
		fail_msg("not created: %s", why);
	return dev;
}

/* To a new device. Everything the old one had goes before the new one begins. */
static void move(struct vd *t)
{
	struct vu_device *to = dormant(t);
	struct vu_record rec, copy;
	char why[200] = "";

	freeze(t);
	rec = record(t);
	copy = received(&rec);
	if (vu_device_restore(to, &copy, why, sizeof(why)) != 0)
		fail_msg("not restored: %s", why);
	vu_record_free(&rec);
	vu_record_free(&copy);
	vd_destroy(t);
	t->dev = to;
	assert_int_equal(vu_device_resume(to), 0);
}

static void up(struct vd *t, uint16_t pairs)
{
	vd_listen(t, pairs, &ts_qemu_10);
	vd_start(t);
}

/* ---- rings ---- */

static void traffic_goes_on(void **state)
{
	struct vd *t = *state;

	up(t, 2);
	for (unsigned i = 0; i < 30; i++) {
		vd_assert_traffic(t, 0, 2);
		move(t);
		assert_true(t->link);
	}
	assert_int_equal(t->link_changes, 1 + 30); /* each device says so once, and never "down" */
	assert_int_equal(vd_info(t).connections, 1);
	vd_assert_traffic(t, 0, 2);
	vd_disconnect(t);
	vd_connect(t);
	vd_start(t);
	vd_assert_traffic(t, 0, 2);
}

/* What waits in the rings is there afterwards, at every position of the ring and its wrap. */
static void what_waits_in_rings(void **state)
{
	struct vd *t = *state;

	up(t, 1);
	for (unsigned i = 0; i < 60; i++) {
		uint64_t consumed = t->ring[1].consumed, sent = t->ring[0].sent;

		vd_guest_sends(t, 1, 7 + i % 13);
		vd_guest_posts(t, 0, 11 + i % 5);
		t->ring[0].to_send = sent + 5;
		vd_burst(t, 0);
		move(t);
		assert_int_equal(t->ring[1].consumed, consumed);
		t->ring[0].to_send = sent + 11 + i % 5;
		while (vd_burst(t, 0) + vd_burst(t, 1) > 0)
			;
		assert_int_equal(t->ring[1].consumed, consumed + 7 + i % 13);
		assert_int_equal(vd_guest_reaps(t, 1), 7 + i % 13);
		assert_int_equal(vd_guest_reaps(t, 0), 11 + i % 5);
	}
}

/* A thread polls all the while, and finds closed gates. */
static void freezing_under_load(void **state)
{
	struct vd *t = *state;

	up(t, 2);
	vd_poll_begin(t);
	for (unsigned i = 0; i < 50; i++) {
		vd_guest_sends(t, 1, 20);
		vd_guest_sends(t, 3, 20);
		freeze(t);
		assert_false(vd_ring_info(t, 1).usable);
		assert_int_equal(vu_device_resume(t->dev), 0);
		assert_true(TS_WAIT(vd_all_used(t, 1) && vd_all_used(t, 3), 5000));
		assert_int_equal(vd_guest_reaps(t, 1), 20);
		assert_int_equal(vd_guest_reaps(t, 3), 20);
	}
	vd_poll_end(t);
	assert_int_equal(t->link_changes, 1);
}

/* An lcore that does not come out: nothing is handed over, and later all goes on. */
static void a_stuck_lcore(void **state)
{
	struct vd *t = *state;
	char why[200] = "";

	up(t, 1);
	t->ring[1].hold = true;
	vd_poll_begin(t);
	assert_true(TS_WAIT(virtq_load(&t->ring[1].held), 5000));
	assert_int_not_equal(vu_device_freeze(t->dev, why, sizeof(why)), 0);
	assert_non_null(strstr(why, "lcore"));
	virtq_store(&t->ring[1].hold, false);
	vd_poll_end(t);
	assert_true(VD_WAIT(t, vd_ring_info(t, 1).usable, 5000));
	vd_assert_traffic(t, 0, 1);
	move(t);
	vd_assert_traffic(t, 0, 1);
}

static void stopped_and_disabled_rings(void **state)
{
	struct vd *t = *state;

	up(t, 3);
	vd_assert_traffic(t, 0, 3);
	vd_ok(t, ts_fe_enable(&t->fe, 1, false));
	vd_ok(t, ts_fe_get_base(&t->fe, 2));
	vd_ok(t, ts_fe_get_base(&t->fe, 3));
	vd_ok(t, ts_fe_barrier(&t->fe));
	move(t);
	assert_false(vd_ring_info(t, 1).usable);
	assert_false(vd_ring_info(t, 2).started);
	vd_guest_sends(t, 1, 5); /* a disabled ring is consumed and discarded */
	assert_true(VD_WAIT(t, vd_all_used(t, 1), 5000));
	assert_int_equal(vd_guest_reaps(t, 1), 5);
	vd_assert_traffic(t, 2, 1);
	vd_ok(t, ts_fe_enable(&t->fe, 1, true));
	for (unsigned i = 2; i < 4; i++) {
		vd_ok(t, ts_fe_get_base(&t->fe, i)); /* the same as before */
		assert_int_equal(t->fe.rings[i].base, ts_ring_used_pos(t->fe.rings[i].ring));
		vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, i, t->fe.rings[i].base));
		vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, i, t->fe.rings[i].kick));
	}
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_assert_traffic(t, 0, 3);
}

static void a_parked_ring(void **state)
{
	struct vd *t = *state;
	struct vu_ring_info before;
	enum virtq_fault fault;

	up(t, 2);
	vd_assert_traffic(t, 0, 2);
	fault = vd_park(t, 1);
	assert_true(VD_WAIT(t, vd_ring_info(t, 1).fault == fault, 5000));
	before = vd_ring_info(t, 1);
	move(t);
	assert_int_equal(vd_ring_info(t, 1).fault, fault);
	assert_false(vd_ring_info(t, 1).usable);
	vd_assert_traffic(t, 1, 1);
	vd_ok(t, ts_fe_get_base(&t->fe, 1));
	assert_int_equal(t->fe.rings[1].base,
		t->format ? before.avail | (uint32_t)before.used << 16 : before.avail);
	assert_int_equal(vd_ring_info(t, 1).fault, VIRTQ_FAULT_NONE);
}

/* ---- what was said ---- */

static void all_that_was_said(void **state)
{
	struct vd *t = *state;
	struct vu_ring_info before[4], now;
	struct vu_info i, j;

	vd_listen(t, 2, &ts_qemu_10);
	t->fe.want_protocol = ~0ull;
	vd_start(t);
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_NET_SET_MTU, 1400));
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_assert_traffic(t, 0, 2);
	i = vd_info(t);
	for (unsigned r = 0; r < 4; r++)
		before[r] = vd_ring_info(t, r);
	move(t);
	j = vd_info(t);
	assert_int_equal(j.connection, VU_CONNECTED);
	assert_int_equal(j.features, i.features);
	assert_int_equal(j.features_offered, i.features_offered);
	assert_int_equal(j.protocol_features, i.protocol_features);
	assert_int_equal(j.protocol_features_offered, i.protocol_features_offered);
	assert_int_equal(j.status, i.status);
	assert_int_equal(j.mtu, i.mtu);
	assert_int_equal(j.mem->n, 2);
	for (unsigned r = 0; r < 4; r++) {
		now = vd_ring_info(t, r);
		assert_int_equal(now.num, before[r].num);
		assert_int_equal(now.avail, before[r].avail);
		assert_int_equal(now.used, before[r].used);
		assert_int_equal(now.call_fd >= 0, before[r].call_fd >= 0);
		assert_int_equal(now.kick_fd >= 0, before[r].kick_fd >= 0);
		assert_memory_equal(&now.stats, &before[r].stats, sizeof(now.stats));
	}
}

/* A dirty log, an in-flight region and the back-end channel. */
static void log_region_and_channel(void **state)
{
	struct vd *t = *state;
	int log = memfd_create("log", MFD_CLOEXEC);
	uint8_t *bits;

	assert_int_equal(ftruncate(log, 4096), 0);
	bits = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, log, 0);
	vd_listen(t, 1, &ts_qemu_10);
	t->fe.want_protocol |= TS_BIT(TS_PROTO_INFLIGHT_SHMFD) | TS_BIT(TS_PROTO_LOG_SHMFD) |
			       TS_BIT(TS_PROTO_BACKEND_REQ);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, t->fe.features));
	vd_ok(t, ts_fe_get_inflight(&t->fe, 2, VD_RING_SIZE));
	vd_ok(t, ts_fe_set_inflight(&t->fe));
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, TS_RING_SHUFFLE));
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_set_log(&t->fe, log, 4096, 0));
	vd_ok(t, ts_fe_log(&t->fe, true));
	vd_ok(t, ts_fe_barrier(&t->fe));
	for (unsigned i = 0; i < 5; i++) {
		vd_assert_traffic(t, 0, 1);
		move(t);
		memset(bits, 0, 4096);
		vd_assert_traffic(t, 0, 1);
		assert_true(bits[0x480 / 8] & 1); /* the page of receive buffers */
		assert_int_equal(ts_count_maps("sluice-inflight"), 1);
	}
	munmap(bits, 4096);
	close(log);
}

/* A message that has come in part, cut behind every byte. */
static void in_the_middle_of_a_message(void **state)
{
	const int fd = eventfd(0, EFD_CLOEXEC);
	struct vd *t = *state;
	const uint32_t m[] = {TS_SET_VRING_ERR, TS_VERSION, 8, 1, 0};

	up(t, 1);
	for (size_t at = 1; at < sizeof(m); at++) {
		const struct ts_frag begin = {m, at, &fd, 1, 0};
		const struct ts_frag end = {(const char *)m + at, sizeof(m) - at, NULL, 0, 0};

		vd_ok(t, ts_send_frags(&t->fe, &begin, 1));
		vd_run(t);
		move(t);
		vd_ok(t, ts_send_frags(&t->fe, &end, 1));
		vd_ok(t, ts_fe_barrier(&t->fe));
	}
	close(fd);
	vd_assert_traffic(t, 0, 1);
}

static void enable(struct vd *t, bool on)
{
	const struct {
		uint32_t ring, on;
	} state = {1, on};
	struct ts_msg m;

	ts_msg_make(&m, TS_SET_VRING_ENABLE, &state, sizeof(state));
	vd_ok(t, ts_send_msg(&t->fe, &m));
}

/* Messages that nobody has read yet are read by who comes. */
static void messages_meanwhile(void **state)
{
	struct vd *t = *state;

	up(t, 1);
	freeze(t);
	enable(t, false);
	vd_run_ms(t, 20);
	assert_true(vd_ring_info(t, 1).enabled);
	assert_int_equal(vu_device_resume(t->dev), 0);
	vd_run(t);
	assert_false(vd_ring_info(t, 1).enabled);
	freeze(t);
	enable(t, true);
	assert_int_equal(vu_device_resume(t->dev), 0);
	move(t);
	vd_run(t);
	vd_assert_traffic(t, 0, 1);
}

/* Nobody is connected; the one who comes meanwhile is served. */
static void without_a_front_end(void **state)
{
	struct vd *t = *state;

	vd_conf(t, 1);
	vd_create(t);
	move(t);
	vd_front_end(t, &ts_qemu_10);
	freeze(t);
	vd_ok(t, ts_fe_connect(&t->fe, t->path));
	assert_int_equal(vu_device_resume(t->dev), 0);
	move(t);
	assert_true(VD_WAIT(t, vd_info(t).connections == 1, 5000));
	vd_start(t);
	vd_assert_traffic(t, 0, 1);
}

static void connecting(void **state)
{
	struct vd *t = *state;

	vd_front_end(t, &ts_qemu_10);
	vd_conf(t, 1);
	t->conf.listen = false;
	vd_create(t);
	move(t);
	t->fe.pairs = t->fe.active = 1;
	vd_ok(t, ts_fe_listen(&t->fe, t->path));
	assert_true(VD_WAIT(t, vd_info(t).connection == VU_CONNECTED, 5000));
	vd_ok(t, ts_fe_accept(&t->fe));
	vd_start(t);
	move(t);
	vd_assert_traffic(t, 0, 1);
}

/* ---- records of any content ---- */

static int restore(struct vu_device *dev, struct vu_record *copy, char *why, size_t len)
{
	int err = vu_device_restore(dev, copy, why, len);

	vu_record_free(copy);
	return err;
}

static void begin_hostile(struct vd *t)
{
	up(t, 1);
	vd_assert_traffic(t, 0, 1);
	freeze(t);
}

static void end_hostile(struct vd *t, int fds, int maps)
{
	assert_int_equal(ts_count_fds(NULL), fds);
	assert_int_equal(ts_count_maps("memfd:ts-guest"), maps);
	assert_int_equal(vu_device_resume(t->dev), 0);
	vd_assert_traffic(t, 0, 1);
	vd_ok(t, ts_fe_barrier(&t->fe));
}

/* Also without some of its descriptors, or with one too many. */
static void a_record_cut_short(void **state)
{
	struct vd *t = *state;
	struct vu_record rec, copy;
	struct vu_device *to;
	char why[200];
	int fds, maps;

	begin_hostile(t);
	maps = ts_count_maps("memfd:ts-guest");
	fds = ts_count_fds(NULL);
	to = dormant(t);
	rec = record(t);
	for (size_t len = 0; len < rec.len; len++) {
		copy = received(&rec);
		copy.len = len;
		assert_int_equal(restore(to, &copy, why, sizeof(why)), -EINVAL);
	}
	for (unsigned n = 0; n < rec.nfds; n++) {
		copy = received(&rec);
		while (copy.nfds > n)
			close(copy.fds[--copy.nfds]);
		assert_int_equal(restore(to, &copy, why, sizeof(why)), -EINVAL);
	}
	copy = received(&rec);
	copy.fds[copy.nfds++] = dup(0);
	assert_int_equal(restore(to, &copy, why, sizeof(why)), -EINVAL);
	vu_device_destroy(to);
	vu_record_free(&rec);
	end_hostile(t, fds, maps);
}

/* Each number by several others. What is accepted must at least run and end. */
static void a_record_of_other_numbers(void **state)
{
	static const uint64_t odd[] = {0, 1, 2, 255, 65535, 1ull << 31, INT64_MAX, UINT64_MAX};
	struct vd *t = *state;
	struct vu_record rec, copy;
	unsigned accepted = 0;
	char why[200];
	int fds, maps;

	begin_hostile(t);
	maps = ts_count_maps("memfd:ts-guest");
	fds = ts_count_fds(NULL);
	rec = record(t);
	for (size_t at = 0; at + 8 <= rec.len; at++) {
		struct vu_device *to = dormant(t);

		copy = received(&rec);
		memcpy(copy.bytes + at, &odd[at % TS_ARRAY_SIZE(odd)], 8);
		accepted += restore(to, &copy, why, sizeof(why)) == 0;
		vu_device_destroy(to);
	}
	fprintf(stderr, "# %u of %zu were accepted\n", accepted, rec.len);
	vu_record_free(&rec);
	end_hostile(t, fds, maps);
}

/* Descriptors that are something else. */
static void a_record_of_other_descriptors(void **state)
{
	struct vd *t = *state;
	struct vu_record rec, copy;
	struct vu_device *to;
	char why[200];
	int fds, maps;

	begin_hostile(t);
	maps = ts_count_maps("memfd:ts-guest");
	fds = ts_count_fds(NULL);
	to = dormant(t);
	rec = record(t);
	for (unsigned i = 0; i < rec.nfds; i++) {
		int pipe_fds[2];

		assert_int_equal(pipe(pipe_fds), 0);
		copy = received(&rec);
		dup2(pipe_fds[0], copy.fds[i]);
		assert_int_equal(restore(to, &copy, why, sizeof(why)), -EINVAL);
		close(pipe_fds[0]);
		close(pipe_fds[1]);
	}
	vu_device_destroy(to);
	vu_record_free(&rec);
	end_hostile(t, fds, maps);
}

static void a_missing_feature(void **state)
{
	struct vd *t = *state;
	char why[200] = "";

	(void)t;
	assert_int_equal(vu_handover_check(vu_possible_features(), vu_default_protocol_features(),
				 why, sizeof(why)),
		0);
	assert_int_equal(
		vu_handover_check(vu_possible_features() | TS_BIT(VIRTIO_NET_F_RSS),
			vu_default_protocol_features() | TS_BIT(13) | TS_BIT(10), why, sizeof(why)),
		-ENOTSUP);
	assert_non_null(strstr(why, "RSS"));
}

/* What one build offered another one goes on offering. */
static void the_old_offer_is_kept(void **state)
{
	struct vd *t = *state;
	uint64_t less;

	vd_conf(t, 1);
	t->conf.features &= ~TS_BIT(VIRTIO_NET_F_HOST_UFO);
	vd_create(t);
	less = vd_info(t).features_offered;
	t->conf.features |= TS_BIT(VIRTIO_NET_F_HOST_UFO);
	move(t);
	assert_int_equal(vd_info(t).features_offered, less);
	vd_front_end(t, &ts_qemu_10);
	vd_connect(t);
	vd_start(t);
	assert_int_equal(t->fe.offered, less);
}

/* ---- owners that are processes ---- */

#define OWNERS 40

struct chain {
	uint64_t consumed, filled; /* by all owners; shared */
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
	uint64_t consumed = 0, sent = 0;
	struct vu_record rec;
	char byte, why[200];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (from < 0) {
		vd_create(t);
	} else {
		t->dev = dormant(t);
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
		__atomic_add_fetch(&c->filled, t->ring[0].sent - sent, __ATOMIC_RELAXED);
		consumed = t->ring[1].consumed;
		sent = t->ring[0].sent;
	}
	if (vu_device_freeze(t->dev, why, sizeof(why)) != 0 ||
		vu_device_record(t->dev, &rec, why, sizeof(why)) != 0 || !send_record(to, &rec))
		_exit(1);
	vd_destroy(t);
	_exit(0);
}

/* The guest keeps both rings busy; everything it gave comes back once. */
static void keep_busy(struct vd *t, uint64_t *reaped, uint64_t *sent)
{
	struct ts_ring *rx = t->fe.rings[0].ring, *tx = t->fe.rings[1].ring;
	const struct ts_seg frame = {0x400000, 76}, buffer = {0x480000, 1526};
	uint32_t len;

	while (*sent - *reaped < VD_RING_SIZE / 2 &&
		ts_ring_add(tx, &frame, 1, NULL, 0, tx, TS_DIRECT) == 0)
		++*sent;
	while (ts_ring_add(rx, NULL, 0, &buffer, 1, rx, TS_DIRECT) == 0)
		;
	ts_ring_publish(tx);
	ts_ring_publish(rx);
	while (ts_ring_get_used(tx, &len))
		++*reaped;
	while (ts_ring_get_used(rx, &len))
		;
	if (rx->faults.count || tx->faults.count)
		fail_msg("%s", rx->faults.count ? rx->faults.first : tx->faults.first);
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
	kill(child[OWNERS - 1], SIGKILL);
	waitpid(child[OWNERS - 1], NULL, 0);
	for (unsigned i = 0; i < OWNERS; i++)
		close(pipes[i][1]);
	unlink(t->path);
	assert_true(c->consumed <= sent && c->consumed + VD_RING_SIZE >= sent);
	munmap(c, sizeof(*c));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(traffic_goes_on),
		VD_BOTH(what_waits_in_rings),
		VD_BOTH(freezing_under_load),
		VD_BOTH(a_stuck_lcore),
		VD_BOTH(stopped_and_disabled_rings),
		VD_BOTH(a_parked_ring),
		VD_BOTH(all_that_was_said),
		VD_BOTH(log_region_and_channel),
		VD_BOTH(in_the_middle_of_a_message),
		VD_BOTH(messages_meanwhile),
		VD_BOTH(without_a_front_end),
		VD_BOTH(connecting),
		VD_BOTH(a_record_cut_short),
		VD_BOTH(a_record_of_other_numbers),
		VD_BOTH(a_record_of_other_descriptors),
		VD_BOTH(a_missing_feature),
		VD_BOTH(the_old_offer_is_kept),
		VD_BOTH(from_process_to_process),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

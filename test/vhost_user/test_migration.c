/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest that is copied away while its rings run: the dirty log by its messages, and RARP. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ts_log.h"
#include "vd_iommu.h"

#define LOG_MAPS() ts_count_maps("memfd:ts-log")

/* Logs the test has shared; freed when it is over, also if it failed. */
static struct ts_log *logs[4];
static unsigned n_logs;

static int teardown(void **state)
{
	while (n_logs > 0)
		ts_log_free(logs[--n_logs]);
	return vd_teardown(state);
}

static void running(struct vd *t, uint16_t pairs)
{
	vd_conf(t, pairs);
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	t->fe.want_protocol |= TS_BIT(TS_PROTO_LOG_SHMFD) | TS_BIT(TS_PROTO_RARP);
	vd_connect(t);
	vd_start(t);
}

static struct ts_log *share(struct vd *t, uint64_t size, uint64_t offset)
{
	struct ts_log *l = ts_log_new(t->guest, size, offset);

	assert_non_null(l);
	assert_true(n_logs < TS_ARRAY_SIZE(logs));
	logs[n_logs++] = l;
	vd_ok(t, ts_fe_set_log(&t->fe, l->fd, l->size, l->offset));
	return l;
}

static struct ts_log_result look(const struct ts_log *l)
{
	struct ts_log_result r;

	assert_true(ts_log_end(l, &r));
	if (r.missed || r.stray)
		fail_msg("%u pages changed, %u marked, %u missed (first 0x%llx), %u stray",
			r.changed, r.marked, r.missed, (unsigned long long)r.first, r.stray);
	return r;
}

/* ---- what is written is marked ---- */

/* One burst on each ring, which the guest does not see before the pages were compared. */
static void trap_5_10_all_writes_are_marked(void **state)
{
	struct vd *t = *state;
	struct ts_log *l;

	running(t, 2);
	l = share(t, 0, 4096);
	vd_ok(t, ts_fe_log(&t->fe, true));
	for (unsigned round = 0; round < 200; round++) {
		const unsigned n = 1 + round % 10;
		struct ts_log_result r;

		for (unsigned i = 0; i < 4; i++) {
			if (i & 1)
				vd_guest_sends(t, i, n);
			else
				vd_guest_posts(t, i, n);
			t->ring[i].to_send = t->ring[i].sent + n;
		}
		ts_log_begin(l);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(vd_burst(t, i), n);
		r = look(l);
		assert_true(r.changed > 0 && r.marked <= r.changed + 2 * 4 * n);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(vd_guest_reaps(t, i), n);
	}
	vd_ok(t, ts_fe_log(&t->fe, false));
	ts_log_begin(l);
	vd_assert_traffic(t, 0, 2);
	assert_int_equal(ts_log_bits(l)[0] | l->file[l->offset + l->size / 2], 0);
	vd_disconnect(t);
	assert_int_equal(LOG_MAPS(), 1);
}

/* Data is always marked, a ring only if it asks for that, where it says that it lies. */
static void the_ring_says_where_it_lies(void **state)
{
	struct vd *t = *state;
	struct ts_vring_addr a = {.index = 1, .flags = TS_VRING_F_LOG, .log = 77 * TS_LOG_PAGE};
	struct ts_log_result r;
	struct ts_log *l;
	struct ts_msg m;

	running(t, 1);
	l = share(t, 0, 0);
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, t->fe.features | TS_BIT(TS_F_LOG_ALL)));
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_guest_sends(t, 1, 1);
	ts_log_begin(l);
	vd_burst(t, 1);
	assert_true(ts_log_end(l, &r));
	assert_int_equal(r.marked, 0);
	assert_int_not_equal(r.missed, 0);
	vd_guest_reaps(t, 1);

	a.desc = ts_uva(t->guest, t->fe.rings[1].ring->desc_gpa);
	a.avail = ts_uva(t->guest, t->fe.rings[1].ring->driver_gpa);
	a.used = ts_uva(t->guest, t->fe.rings[1].ring->device_gpa);
	ts_msg_make(&m, TS_SET_VRING_ADDR, &a, sizeof(a));
	vd_ok(t, ts_send_msg(&t->fe, &m));
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_guest_sends(t, 1, 1);
	ts_log_begin(l);
	vd_burst(t, 1);
	assert_true(ts_log_end(l, &r));
	assert_int_equal(r.marked, 1);
	/* A packed ring is where it is: there is no used ring to be named. */
	assert_true(ts_log_marked(l, t->format ? t->fe.rings[1].ring->desc_gpa : a.log));
	assert_int_equal(t->ring[1].changes, 1);
}

/* The control thread writes too: it drains disabled rings, and starts them. */
static void trap_5_10_control_marks_too(void **state)
{
	struct vd *t = *state;
	struct ts_log *l;

	running(t, 1);
	l = share(t, 0, 0);
	vd_ok(t, ts_fe_log(&t->fe, true));
	vd_ok(t, ts_fe_enable(&t->fe, 1, false));
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_guest_sends(t, 1, 5);
	ts_log_begin(l);
	assert_true(VD_WAIT(t, ts_ring_more_used(t->fe.rings[1].ring), 1000));
	assert_true(look(l).changed > 0);
	assert_int_equal(vd_guest_reaps(t, 1), 5);

	vd_ok(t, ts_fe_get_base(&t->fe, 1));
	if (t->format) /* else a start would change nothing */
		t->fe.rings[1].ring->device->flags = 0;
	else
		t->fe.rings[1].ring->used->flags = 0;
	ts_log_begin(l);
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, 1, t->fe.rings[1].kick));
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_true(look(l).changed > 0);
}

/* The log is by guest address, and nobody tells those: descriptors and SET_VRING_ADDR have I/O
 * addresses. Translations come and go meanwhile, those of the rings too. */
static void trap_5_10_with_an_iommu(void **state)
{
	struct vd *t = *state;
	struct ts_log *l;

	vd_iommu_conf(t, 1);
	vd_create(t);
	vd_iommu_front_end(t);
	t->fe.want_protocol |= TS_BIT(TS_PROTO_LOG_SHMFD);
	vd_connect(t);
	vd_start(t);
	l = share(t, 0, 4096);
	vd_ok(t, ts_fe_log(&t->fe, true));
	assert_true(VD_WAIT(t, (vd_iommu_serve(t, VD_PAGE), vd_all_usable(t)), 5000));
	for (unsigned round = 0; round < 60; round++) {
		const uint64_t n = 1 + round % 10, done = t->ring[0].sent + t->ring[1].consumed;
		struct ts_log_result r;

		vd_guest_sends(t, 1, (unsigned)n);
		vd_guest_posts(t, 0, (unsigned)n);
		t->ring[0].to_send = t->ring[0].sent + n;
		ts_log_begin(l);
		if (round % 4 == 3)
			vd_ok(t, vd_iommu_tell(t, TS_IOTLB_INVALIDATE, 0, 0, 0));
		assert_true(VD_WAIT(t,
			(vd_burst(t, 0), vd_burst(t, 1), vd_iommu_serve(t, VD_PAGE),
				t->ring[0].sent + t->ring[1].consumed == done + 2 * n),
			5000));
		r = look(l);
		assert_true(r.changed > 0 && r.marked <= r.changed + 4 * n);
		assert_int_equal(vd_guest_reaps(t, 0), n);
		assert_int_equal(vd_guest_reaps(t, 1), n);
	}
	assert_true(vd_ring_info(t, 0).stats.iotlb_misses > 0);
}

/* ---- the log itself ---- */

static void trap_5_10_smaller_than_the_guest(void **state)
{
	struct vd *t = *state;
	struct ts_log_result r;
	struct ts_log *l;

	running(t, 1);
	/* The guest begins at 1 MiB, its buffers lie at 4.5 MiB: the first bits are for pages
	 * without memory, for the last pages there are none. */
	l = share(t, 40, 4096);
	vd_ok(t, ts_fe_log(&t->fe, true));
	vd_guest_sends(t, 1, 20);
	vd_guest_posts(t, 0, 20);
	t->ring[0].to_send = 20;
	ts_log_begin(l);
	assert_int_equal(vd_burst(t, 0) + vd_burst(t, 1), 40);
	r = look(l);
	assert_true(r.marked > 0 && r.marked < r.changed);
}

/* What the device writes of a ring: its used entries, packed its descriptors. */
static uint64_t used_area(const struct ts_ring *r, uint64_t at)
{
	return r->pdesc ? r->desc_gpa + at : r->device_gpa;
}

/* A new log takes the place of the old one, which nobody writes to once the answer has come. */
static void trap_5_10_log_grows_under_load(void **state)
{
	struct vd *t = *state;
	struct ts_log *l[4];

	running(t, 2);
	l[0] = share(t, 256, 0);
	vd_ok(t, ts_fe_log(&t->fe, true));
	vd_poll_begin(t);
	for (unsigned i = 1; i < 4; i++) {
		struct ts_log_result r;

		vd_guest_sends(t, 1, VD_RING_SIZE / 3);
		vd_guest_sends(t, 3, VD_RING_SIZE / 3);
		l[i] = share(t, 256u << i, 4096 * i);
		ts_log_begin(l[i - 1]);
		assert_int_equal(
			LOG_MAPS(), (int)i + 2); /* each is mapped here, one by the device */
		vd_guest_sends(t, 1, 30);
		assert_true(TS_WAIT((vd_guest_reaps(t, 1), t->fe.rings[1].ring->n_out == 0), 5000));
		assert_true(TS_WAIT((vd_guest_reaps(t, 3), t->fe.rings[3].ring->n_out == 0), 5000));
		assert_true(ts_log_end(l[i - 1], &r));
		assert_int_equal(r.marked, 0);
		assert_true(
			ts_log_marked(l[i], used_area(t->fe.rings[1].ring, 0)) ||
			ts_log_marked(l[i], used_area(t->fe.rings[1].ring, 16 * VD_RING_SIZE - 1)));
	}
	vd_poll_end(t);
	assert_int_equal(t->ring[1].changes, 1);
	vd_disconnect(t);
	assert_int_equal(LOG_MAPS(), 4);
}

/* Refused, the old one stays. */
static void a_refused_log_changes_nothing(void **state)
{
	struct vd *t = *state;
	struct ts_log *l;

	running(t, 1);
	l = share(t, 0, 0);
	vd_ok(t, ts_fe_log(&t->fe, true));
	assert_int_equal(ts_fe_set_log(&t->fe, l->fd, l->file_len + 1, 0), -ECONNRESET);
	assert_string_equal(vd_info(t).last_error,
		"the dirty log was refused: its file holds 8192 bytes, 8193 are needed");
	assert_true(VD_WAIT(t, vd_info(t).connection == VU_WAITING, 1000));
	assert_int_equal(LOG_MAPS(), 1);
}

/* Without a log there is nothing to mark, and without the protocol feature no log. */
static void log_all_without_a_log(void **state)
{
	struct vd *t = *state;

	running(t, 1);
	vd_ok(t, ts_fe_log(&t->fe, true));
	vd_assert_traffic(t, 0, 1);
	vd_ok(t, ts_fe_log(&t->fe, false));
	vd_assert_traffic(t, 0, 1);
	assert_int_equal(t->ring[1].changes, 1);
}

/* ---- while packets go through ---- */

static void trap_5_1_log_toggled_100_times_under_load(void **state)
{
	struct vd *t = *state;
	unsigned changes[4];

	running(t, 2);
	for (unsigned i = 0; i < 4; i++)
		changes[i] = t->ring[i].changes;
	share(t, 0, 0);
	vd_poll_begin(t);
	for (unsigned round = 0; round < 100; round++) {
		vd_guest_sends(t, 1, 8);
		vd_guest_sends(t, 3, 8);
		vd_ok(t, ts_fe_log(&t->fe, round % 2 == 0));
		assert_true(TS_WAIT((vd_guest_reaps(t, 1), t->fe.rings[1].ring->n_out == 0), 5000));
		assert_true(TS_WAIT((vd_guest_reaps(t, 3), t->fe.rings[3].ring->n_out == 0), 5000));
	}
	vd_poll_end(t);
	assert_int_equal(t->ring[1].consumed, 800);
	assert_int_equal(t->ring[3].consumed, 800);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(t->ring[i].changes, changes[i]);
	assert_int_equal(t->link_changes, 1);
}

/* When the last base has been told, all is marked and nothing is written any more. */
static void trap_5_10_nothing_after_the_last_base(void **state)
{
	struct vd *t = *state;
	struct ts_log *l;

	running(t, 2);
	l = share(t, 0, 4096);
	vd_ok(t, ts_fe_log(&t->fe, true));
	vd_poll_begin(t);
	for (unsigned round = 0; round < 20; round++) {
		struct ts_log_result r;

		for (unsigned i = 0; i < 4; i++) {
			vd_guest_reaps(t, i);
			if (i & 1)
				vd_guest_sends(t, i, VD_RING_SIZE / 6);
			else
				vd_guest_posts(t, i, VD_RING_SIZE / 2);
		}
		ts_log_begin(l);
		for (unsigned i = 0; i < 4; i += 2)
			virtq_store(&t->ring[i].to_send,
				virtq_load(&t->ring[i].to_send) + VD_RING_SIZE / 2);
		for (unsigned i = 0; i < 4; i++)
			vd_ok(t, ts_fe_get_base(&t->fe, i));
		look(l);
		ts_log_begin(l);
		vd_run_ms(t, 2);
		assert_true(ts_log_end(l, &r));
		assert_int_equal(r.changed, 0);
		assert_int_equal(r.marked, 0);
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(t->fe.rings[i].base, vd_shown(t, i));
			vd_ok(t,
				ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, i, t->fe.rings[i].base));
			vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, i, t->fe.rings[i].kick));
		}
		vd_ok(t, ts_fe_barrier(&t->fe));
		for (unsigned i = 0; i < 4; i++)
			assert_true(TS_WAIT(
				(vd_guest_reaps(t, i), t->fe.rings[i].ring->n_out == 0), 5000));
	}
	vd_poll_end(t);
}

/* ---- the eventfd ---- */

static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void give_log_fd(struct vd *t, int fd)
{
	struct ts_msg m;

	ts_msg_make(&m, TS_SET_LOG_FD, NULL, 0);
	m.fds[m.n_fds++] = fd;
	vd_ok(t, ts_send_msg(&t->fe, &m));
	vd_ok(t, ts_fe_barrier(&t->fe));
}

/* It tells that the log is used, and never holds us up. */
static void the_log_is_signalled(void **state)
{
	const uint64_t full = UINT64_MAX - 1;
	struct vd *t = *state;
	int first = eventfd(0, EFD_CLOEXEC), fd = eventfd(0, EFD_CLOEXEC);
	uint64_t n;

	running(t, 1);
	share(t, 0, 0);
	give_log_fd(t, first);
	give_log_fd(t, fd);
	vd_run_ms(t, 250);
	assert_false(readable(fd));
	vd_ok(t, ts_fe_log(&t->fe, true));
	assert_true(VD_WAIT(t, readable(fd), 2000));
	assert_false(readable(first));
	assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(write(fd, &full, sizeof(full)), sizeof(full));
	assert_int_equal(fcntl(fd, F_SETFL, O_RDWR), 0);
	vd_run_ms(t, 250);
	vd_assert_traffic(t, 0, 1);
	close(first);
	close(fd);
}

/* ---- RARP ---- */

static void announced_by_the_ring(void **state)
{
	static const uint8_t mac[8] = {0x52, 0x54, 0, 1, 2, 3, 0xee, 0xff};
	struct vd *t = *state;
	uint8_t got[6];
	uint64_t word;

	running(t, 1);
	memcpy(&word, mac, sizeof(word));
	for (unsigned i = 1; i <= 5; i++) {
		vd_ok(t, ts_fe_set_u64(&t->fe, TS_SEND_RARP, word));
		vd_ok(t, ts_fe_barrier(&t->fe));
		assert_true(virtq_announced(vu_device_ring(t->dev, 1), got));
		assert_memory_equal(got, mac, 6);
	}
	t->fe.need_reply = UINT64_MAX;
	assert_int_equal(ts_fe_set_u64(&t->fe, TS_SEND_RARP, 0), -EREMOTEIO);
	assert_int_equal(ts_fe_set_u64(&t->fe, TS_SEND_RARP, word | 1), -EREMOTEIO);
	assert_false(virtq_announced(vu_device_ring(t->dev, 1), got));
	/* Five kicks of our own are no sign of a driver that writes elsewhere. */
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_NONE);
	/* What nobody took goes with its connection. */
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SEND_RARP, word));
	vd_disconnect(t);
	assert_false(virtq_announced(vu_device_ring(t->dev, 1), got));
}

#define CASE(fn) VD_BOTH_WITH(fn, vd_setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(trap_5_10_all_writes_are_marked),
		CASE(the_ring_says_where_it_lies),
		CASE(trap_5_10_control_marks_too),
		CASE(trap_5_10_with_an_iommu),
		CASE(trap_5_10_smaller_than_the_guest),
		CASE(trap_5_10_log_grows_under_load),
		CASE(a_refused_log_changes_nothing),
		CASE(log_all_without_a_log),
		CASE(trap_5_1_log_toggled_100_times_under_load),
		CASE(trap_5_10_nothing_after_the_last_base),
		CASE(the_log_is_signalled),
		CASE(announced_by_the_ring),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that the front-end takes away under us, at every stage: the port is parked, and comes back. */
#include <linux/memfd.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ts_log.h"
#include "vd.h"

#define RX 0
#define TX 1

/* The guest does not touch its memory until it is whole again: it would die of it itself. */
static void cut(struct vd *t, unsigned region)
{
	assert_int_equal(ts_region_truncate(t->guest, region, 0), 0);
}

static void mend(struct vd *t)
{
	for (unsigned i = 0; i < 2; i++) {
		const uint64_t whole = i ? (2u << 20) + 8192 : 4u << 20;

		assert_int_equal(ts_region_truncate(t->guest, i, whole), 0);
	}
}

static void begin(struct vd *t, uint16_t pairs)
{
	vd_conf(t, pairs);
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	t->fe.want_protocol |= TS_BIT(TS_PROTO_LOG_SHMFD) | TS_BIT(TS_PROTO_INFLIGHT_SHMFD);
	vd_connect(t);
}

static bool told(int err_fd)
{
	struct pollfd p = {.fd = err_fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

/* All rings, though only one was touched; soon, and with the reason. */
static void assert_parked(struct vd *t, const char *what)
{
	char line[120];

	assert_true(VD_WAIT(t, !t->link, 2000));
	for (unsigned i = 0; i < 2u * t->conf.queue_pairs; i++) {
		assert_false(vd_ring_info(t, i).usable);
		assert_int_not_equal(vd_ring_info(t, i).fault, VIRTQ_FAULT_NONE);
		assert_int_equal(vd_burst(t, i), 0);
		assert_true(told(t->fe.rings[i].err));
	}
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_MEMORY_GONE);
	assert_string_equal(vd_info(t).last_error, what);
	snprintf(line, sizeof(line), "all rings are parked: %s has vanished", what);
	assert_true(vd_logged(t, line));
}

/* With the memory there again, and said again, everything is as ever. */
static void assert_comes_back(struct vd *t)
{
	mend(t);
	vd_disconnect(t);
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_NO_FRONT_END);
	vd_connect(t);
	vd_start(t);
	vd_assert_traffic(t, 0, t->conf.queue_pairs);
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_NONE);
}

/* Before a burst, which finds its ring gone, or only its payload. */
static void before_a_burst(void **state)
{
	struct vd *t = *state;

	begin(t, 2);
	for (unsigned round = 0; round < 4; round++) {
		const unsigned ring = round & 1 ? TX : RX;

		vd_start(t);
		vd_assert_traffic(t, 0, 2);
		if (ring == TX)
			vd_guest_sends(t, TX, 20);
		else
			vd_guest_posts(t, RX, 20);
		cut(t, round / 2);
		t->ring[RX].to_send += 20;
		vd_burst(t, ring);
		t->ring[RX].to_send = t->ring[RX].sent;
		if (round == 2) { /* receive buffers lie beside the rings */
			assert_true(t->link);
			cut(t, 0);
			vd_burst(t, TX);
		}
		assert_parked(t, "guest memory");
		assert_comes_back(t);
		vd_disconnect(t);
		vd_connect(t);
	}
}

/* An lcore inside: between its two looks at the ring. */
static void in_a_burst(void **state)
{
	struct vd *t = *state;

	begin(t, 2);
	vd_start(t);
	vd_poll_begin(t);
	for (unsigned round = 0; round < 6; round++) {
		struct vd_ring *r = &t->ring[round & 1 ? TX : RX];

		vd_guest_sends(t, TX, 20);
		vd_guest_sends(t, 3, 20);
		vd_guest_posts(t, RX, 20);
		virtq_store(&t->ring[RX].to_send, t->ring[RX].to_send + 20);
		virtq_store(&r->hold, true);
		assert_true(TS_WAIT(virtq_load(&r->held), 1000));
		cut(t, 0);
		cut(t, 1);
		virtq_store(&r->hold, false);
		assert_true(VD_WAIT(t, !t->link, 2000));
		vd_poll_end(t);
		t->ring[RX].to_send = t->ring[RX].sent;
		assert_parked(t, "guest memory");
		assert_comes_back(t);
		vd_poll_begin(t);
	}
	vd_poll_end(t);
}

/* Control is the first to look at a ring that starts. */
static void before_the_start(void **state)
{
	struct vd *t = *state;

	begin(t, 1);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	vd_ok(t, ts_fe_set_u64(&t->fe, TS_SET_FEATURES, t->fe.features));
	ts_guest_forget(t->guest);
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, TS_RING_SHUFFLE));
	vd_ok(t, ts_fe_set_mem_table(&t->fe));
	cut(t, 0);
	for (unsigned i = 0; i < 2; i++) {
		vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_NUM, i, VD_RING_SIZE));
		vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, i, vd_base(t, 0)));
		vd_ok(t, ts_fe_set_addr(&t->fe, i));
		vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_ERR, i, t->fe.rings[i].err));
		vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, i, t->fe.rings[i].kick));
		vd_ok(t, ts_fe_enable(&t->fe, i, true));
	}
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_run_ms(t, 20);
	assert_false(t->link || vd_ring_info(t, 0).usable || vd_ring_info(t, 1).usable);
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_MEMORY_GONE);
	assert_comes_back(t);
}

/* Control discards what is sent on a disabled ring. */
static void discarded(void **state)
{
	struct vd *t = *state;

	begin(t, 1);
	vd_start(t);
	vd_ok(t, ts_fe_enable(&t->fe, TX, false));
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_guest_sends(t, TX, 20);
	cut(t, 0);
	assert_parked(t, "guest memory");
	assert_comes_back(t);
}

/* Memory said anew on the same connection: rings go on when they are started again. */
static void without_a_new_connection(void **state)
{
	struct vd *t = *state;

	begin(t, 1);
	vd_start(t);
	vd_assert_traffic(t, 0, 1);
	vd_guest_sends(t, TX, 20);
	cut(t, 1);
	assert_int_equal(vd_burst(t, TX), 20);
	assert_parked(t, "guest memory");
	mend(t);
	for (unsigned i = 0; i < 2; i++) {
		vd_ok(t, ts_fe_get_base(&t->fe, i));
		vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, i, ts_fe_base(&t->fe, i)));
		vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, i, t->fe.rings[i].kick));
	}
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_false(t->link);
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_MEMORY_GONE);
	vd_ok(t, ts_fe_set_mem_table(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_true(t->link);
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_NONE);
	assert_int_equal(vd_guest_reaps(t, TX), 20);
	vd_assert_traffic(t, 0, 1);
}

static void dirty_log(void **state)
{
	struct vd *t = *state;
	struct ts_log *l;

	begin(t, 1);
	vd_start(t);
	l = ts_log_new(t->guest, 0, 4096);
	assert_non_null(l);
	vd_ok(t, ts_fe_set_log(&t->fe, l->fd, l->size, l->offset));
	vd_ok(t, ts_fe_log(&t->fe, true));
	vd_assert_traffic(t, 0, 1);
	vd_guest_sends(t, TX, 20);
	assert_int_equal(ftruncate(l->fd, 0), 0);
	assert_int_equal(vd_burst(t, TX), 20);
	assert_int_equal(vd_guest_reaps(t, TX), 20);
	ts_log_free(l);
	assert_parked(t, "the dirty log");
	assert_comes_back(t);
	assert_int_equal(ts_count_maps("memfd:ts-log"), 0);
}

/* Ours is sealed; what a front-end brings need not be. */
static void inflight_region(void **state)
{
	struct vd *t = *state;

	begin(t, 1);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	vd_ok(t, ts_fe_get_inflight(&t->fe, 2, VD_RING_SIZE));
	assert_int_not_equal(ftruncate(t->fe.inflight_fd, 0), 0);
	close(t->fe.inflight_fd);
	t->fe.inflight_fd = memfd_create("theirs", MFD_CLOEXEC);
	assert_int_equal(ftruncate(t->fe.inflight_fd, (off_t)t->fe.inflight.mmap_size), 0);
	vd_ok(t, ts_fe_set_inflight(&t->fe));
	ts_guest_forget(t->guest);
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, TS_RING_SHUFFLE));
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_assert_traffic(t, 0, 1);
	assert_int_equal(ftruncate(t->fe.inflight_fd, 0), 0);
	vd_guest_sends(t, TX, 20);
	assert_int_equal(vd_burst(t, TX), 20);
	if (t->link && !vd_ring_info(t, RX).fault) {
		vd_guest_posts(t, RX, 5);
		t->ring[RX].to_send += 5;
		vd_burst(t, RX);
	}
	assert_parked(t, "the in-flight region");
	t->ring[RX].to_send = t->ring[RX].sent;
	close(t->fe.inflight_fd);
	t->fe.inflight_fd = -1;
	assert_comes_back(t);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(before_a_burst),
		VD_BOTH(in_a_burst),
		VD_BOTH(before_the_start),
		VD_BOTH(discarded),
		VD_BOTH(without_a_new_connection),
		VD_BOTH(dirty_log),
		VD_BOTH(inflight_region),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

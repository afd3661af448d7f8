/* SPDX-License-Identifier: BSD-3-Clause */
/* Rings that stop, start again and break. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vd.h"

static void running(struct vd *t, uint16_t pairs)
{
	vd_listen(t, pairs, &ts_qemu_10);
	vd_start(t);
}

static void restart(struct vd *t, unsigned ring)
{
	vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, ring, t->fe.rings[ring].base));
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, ring, t->fe.rings[ring].kick));
	vd_ok(t, ts_fe_barrier(&t->fe));
}

static unsigned events(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t n = 0;

	if (poll(&p, 1, 0) == 1)
		assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
	return (unsigned)n;
}

/* The driver was reset, and its ring begins anew. */
static void begin_anew(struct vd *t, unsigned ring)
{
	t->fe.rings[ring].base = vd_base(t, 0);
	ts_ring_reset(t->fe.rings[ring].ring, t->fe.rings[ring].base);
}

/* ---- GET_VRING_BASE ---- */

/* This ring, its true position, again and again; the others go on. */
static void trap_5_3_stop_one_ring(void **state)
{
	struct vd *t = *state;

	running(t, 2);
	for (unsigned ring = 0; ring < 4; ring++) {
		uint32_t base;

		vd_assert_traffic(t, 0, 2);
		vd_ok(t, ts_fe_get_base(&t->fe, ring));
		base = t->fe.rings[ring].base;
		assert_int_equal(base, vd_shown(t, ring));
		for (unsigned i = 0; i < 3; i++) {
			vd_ok(t, ts_fe_get_base(&t->fe, ring));
			assert_int_equal(t->fe.rings[ring].base, base);
		}
		for (unsigned other = 0; other < 4; other++)
			assert_int_equal(vd_ring_info(t, other).usable, other != ring);
		assert_int_equal(vd_ring_info(t, ring).kick_fd, -1);
		assert_true(t->link);
		vd_assert_traffic(t, ring < 2 ? 1 : 0, 1);
		if (ring & 1)
			vd_guest_sends(t, ring, 3);
		vd_assert_dead(t, ring);
		restart(t, ring);
		if (ring & 1) {
			assert_int_equal(vd_burst(t, ring), 3);
			assert_int_equal(vd_guest_reaps(t, ring), 3);
		}
	}
	vd_assert_traffic(t, 0, 2);
}

static void trap_5_3_stop_through_the_end_of_the_index(void **state)
{
	struct vd *t = *state;

	vd_listen(t, 1, &ts_qemu_10);
	t->fe.rings[1].base = vd_base(t, 65530);
	vd_start(t);
	for (unsigned i = 0; i < 15; i++) {
		vd_guest_sends(t, 1, 1);
		vd_burst(t, 1);
		vd_guest_reaps(t, 1);
		vd_ok(t, ts_fe_get_base(&t->fe, 1));
		assert_int_equal(t->fe.rings[1].base, vd_base(t, 65531 + i));
		restart(t, 1);
	}
}

/* Round after round of a ring of any size, stopped and started anywhere in it. */
static void trap_5_11_any_size(void **state)
{
	static const uint32_t sizes[] = {1, 2, 3, 7, 61, 255, 256, 1000, 32767, 32768};
	struct vd *t = *state;

	for (unsigned i = 0; i < TS_ARRAY_SIZE(sizes); i++) {
		const uint32_t size = sizes[i];
		uint64_t posted = 0;

		vd_listen(t, 1, &ts_qemu_10);
		vd_ok(t, ts_fe_negotiate(&t->fe));
		ts_guest_forget(t->guest);
		vd_ok(t, ts_fe_make_rings(&t->fe, 0, size, TS_RING_SHUFFLE));
		vd_ok(t, ts_fe_start(&t->fe));
		vd_ok(t, ts_fe_barrier(&t->fe));
		assert_int_equal(vd_ring_info(t, 0).num, size);
		while (posted < 2 * size + 20) {
			const unsigned n = size < 61 ? size : 61;

			vd_guest_posts(t, 0, n);
			t->ring[0].to_send = t->ring[0].sent + n;
			vd_burst(t, 0);
			assert_int_equal(vd_guest_reaps(t, 0), n);
			posted += n;
			if (posted % 5)
				continue;
			vd_ok(t, ts_fe_get_base(&t->fe, 0));
			assert_int_equal(t->fe.rings[0].base, ts_base_at(t->format, size, posted));
			restart(t, 0);
		}
		vd_destroy(t);
	}
}

/* VPP once wiped the position first, DPDK crashed on a ring it had never seen. */
static void trap_5_3_stop_what_never_ran(void **state)
{
	struct vd *t = *state;

	vd_listen(t, 2, &ts_qemu_10);
	for (unsigned ring = 0; ring < 4; ring++) {
		vd_ok(t, ts_fe_get_base(&t->fe, ring));
		assert_int_equal(t->fe.rings[ring].base, 0);
		vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, ring, 4711));
		vd_ok(t, ts_fe_get_base(&t->fe, ring));
		assert_int_equal(t->fe.rings[ring].base, 4711);
		vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, ring, -1));
		vd_ok(t, ts_fe_get_base(&t->fe, ring));
		assert_int_equal(t->fe.rings[ring].base, 4711);
	}
}

/* Enabled but not kicked again, a stopped ring must stay untouched. */
static void trap_5_2_enable_does_not_start(void **state)
{
	struct vd *t = *state;

	running(t, 1);
	vd_assert_traffic(t, 0, 1);
	vd_guest_sends(t, 1, 5);
	vd_ok(t, ts_fe_get_base(&t->fe, 1));
	vd_ok(t, ts_fe_enable(&t->fe, 1, false));
	vd_ok(t, ts_fe_enable(&t->fe, 1, true));
	vd_ok(t, ts_fe_set_addr(&t->fe, 1));
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_CALL, 1, t->fe.rings[1].call));
	vd_ok(t, ts_fe_set_mem_table(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_false(vd_ring_info(t, 1).usable);
	vd_assert_dead(t, 1);
}

/* Nothing of a disabled ring is consumed once its base was told. */
static void trap_5_3_stop_a_disabled_ring(void **state)
{
	struct vd *t = *state;

	running(t, 1);
	vd_ok(t, ts_fe_enable(&t->fe, 1, false));
	vd_guest_sends(t, 1, 5);
	assert_true(VD_WAIT(t, ts_ring_more_used(t->fe.rings[1].ring), 1000));
	vd_guest_sends(t, 1, 4);
	vd_ok(t, ts_fe_get_base(&t->fe, 1));
	assert_int_equal(t->fe.rings[1].base, vd_shown(t, 1));
	vd_assert_dead(t, 1);
	vd_ok(t, ts_fe_enable(&t->fe, 1, true));
	restart(t, 1);
	vd_burst(t, 1);
	assert_int_equal(vd_guest_reaps(t, 1), 9);
}

static void settings_of_a_running_ring(void **state)
{
	struct vd *t = *state;

	running(t, 1);
	t->fe.need_reply = UINT64_MAX;
	assert_int_equal(ts_fe_set_state(&t->fe, TS_SET_VRING_NUM, 1, 128), -EREMOTEIO);
	assert_int_equal(ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, 1, 128), -EREMOTEIO);
	vd_assert_traffic(t, 0, 1);
	/* Another kick is nothing new. */
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, 1, t->fe.rings[1].kick));
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, 1, -1));
	vd_assert_traffic(t, 0, 1);
	assert_int_equal(t->ring[1].changes, 1);
}

/* ---- id 4 ---- */

static void reset_owner(void **state)
{
	struct vd *t = *state;
	struct vu_info info;

	running(t, 2);
	vd_assert_traffic(t, 0, 2);
	vd_ok(t, ts_fe_simple(&t->fe, TS_RESET_OWNER));
	vd_ok(t, ts_fe_simple(&t->fe, TS_RESET_OWNER));
	vd_ok(t, ts_fe_barrier(&t->fe));
	info = vd_info(t);
	assert_int_equal(info.connection, VU_CONNECTED);
	assert_int_equal(info.features, t->fe.features);
	assert_non_null(info.mem);
	assert_false(t->link);
	for (unsigned i = 0; i < 4; i++) {
		assert_false(vd_ring_info(t, i).started || vd_ring_info(t, i).enabled);
		vd_assert_dead(t, i);
		vd_ok(t, ts_fe_get_base(&t->fe, i));
		assert_int_equal(t->fe.rings[i].base, vd_shown(t, i));
	}
	/* A front-end that goes on needs to kick and to enable, no more. */
	for (unsigned i = 0; i < 4; i++) {
		vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, i, t->fe.rings[i].kick));
		vd_ok(t, ts_fe_enable(&t->fe, i, true));
	}
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_assert_traffic(t, 0, 2);
}

/* ---- RESET_DEVICE ---- */

static void reset_device(void **state)
{
	struct vd *t = *state;
	int err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct vu_info before, info;

	vd_conf(t, 2);
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	t->fe.need_reply |= TS_BIT(TS_RESET_DEVICE);
	vd_connect(t);
	vd_start(t);
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_ERR, 1, err));
	vd_assert_traffic(t, 0, 2);
	before = vd_info(t);
	for (unsigned twice = 0; twice < 2; twice++) {
		vd_ok(t, ts_fe_simple(&t->fe, TS_RESET_DEVICE));
		info = vd_info(t);
		assert_int_equal(info.connection, VU_CONNECTED);
		assert_int_equal(info.protocol_features, before.protocol_features);
		assert_int_equal(info.features, 0);
		assert_ptr_equal(info.mem, before.mem);
		assert_false(t->link);
		for (unsigned i = 0; i < 4; i++) {
			struct vu_ring_info r = vd_ring_info(t, i);

			assert_false(r.started || r.enabled || r.usable);
			assert_int_equal(r.num, 0);
			assert_true(r.call_fd >= 0 && r.kick_fd >= 0);
			vd_assert_dead(t, i);
		}
	}
	/* Nothing of the old driver's starts anything: a kick and an enable are not enough. */
	for (unsigned i = 0; i < 4; i++) {
		vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, i, t->fe.rings[i].kick));
		vd_ok(t, ts_fe_enable(&t->fe, i, true));
		assert_false(vd_ring_info(t, i).usable);
		vd_assert_dead(t, i);
	}
	/* The next driver, which wants other rings. The error eventfd is not sent again. */
	vd_ok(t, ts_fe_simple(&t->fe, TS_RESET_DEVICE));
	ts_guest_forget(t->guest);
	for (unsigned i = 0; i < 4; i++)
		t->fe.rings[i].base = TS_FRESH;
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE / 2, TS_RING_SHUFFLE));
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_int_equal(vd_ring_info(t, 1).num, VD_RING_SIZE / 2);
	vd_assert_traffic(t, 0, 2);
	vd_park(t, 1);
	assert_true(VD_WAIT(t, vd_ring_info(t, 1).fault != VIRTQ_FAULT_NONE, 1000));
	assert_int_equal(events(err), 1);
	/* It mends what is parked, and a driver that is gone does not count as parked. */
	vd_ok(t, ts_fe_simple(&t->fe, TS_RESET_DEVICE));
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_NO_DRIVER);
	close(err);
}

/* ---- VIRTIO_F_RING_RESET ---- */

/* Somebody else's memory now: whatever is read there is bad, whatever is written shows. */
static void areas_of(const struct ts_ring *r, void *at[3], size_t len[3])
{
	at[0] = r->pdesc ? (void *)r->pdesc : r->desc;
	at[1] = r->pdesc ? (void *)r->driver : r->avail;
	at[2] = r->pdesc ? (void *)r->device : r->used;
	len[0] = 16 * r->size;
	len[1] = r->pdesc ? sizeof(*r->driver) : 6 + 2 * r->size;
	len[2] = r->pdesc ? sizeof(*r->device) : 6 + 8 * r->size;
}

static void poison(struct ts_ring *r)
{
	void *at[3];
	size_t len[3];

	areas_of(r, at, len);
	for (unsigned i = 0; i < 3; i++)
		memset(at[i], 0xa5, len[i]);
}

static bool is_poison(const struct ts_ring *r)
{
	void *at[3];
	size_t len[3];

	areas_of(r, at, len);
	for (unsigned i = 0; i < 3; i++)
		for (size_t k = 0; k < len[i]; k++)
			if (((uint8_t *)at[i])[k] != 0xa5)
				return false;
	return true;
}

/* As QEMU does it for a guest's reset of one queue: stopped by GET_VRING_BASE, then set up anew, with
 * another size, at another place, from the start; the other rings go on all the time. */
static void trap_5_3_reset_one_ring(void **state)
{
	struct vd *t = *state;
	uint32_t size = VD_RING_SIZE;

	vd_conf(t, 2);
	t->conf.features |= TS_BIT(VIRTIO_F_RING_RESET);
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	t->fe.want |= TS_BIT(VIRTIO_F_RING_RESET);
	vd_connect(t);
	vd_start(t);
	assert_true(vd_info(t).features & TS_BIT(VIRTIO_F_RING_RESET));
	for (unsigned ring = 0; ring < 8; ring++) {
		struct ts_fe_ring *r = &t->fe.rings[ring % 4];
		struct ts_ring *old = r->ring;
		struct ts_ring_conf conf = {.guest = t->guest,
			.region = 1,
			.features = t->fe.features,
			.base = vd_base(t, 0),
			.flags = TS_RING_SHUFFLE};

		vd_assert_traffic(t, 0, 2);
		vd_ok(t, ts_fe_get_base(&t->fe, ring % 4));
		poison(old);
		vd_assert_traffic(t, ring % 4 < 2 ? 1 : 0, 1);
		vd_ok(t, ts_fe_enable(&t->fe, ring % 4, true));
		vd_ok(t, ts_fe_set_mem_table(&t->fe));
		t->ring[ring % 4].to_send += 4;
		assert_int_equal(vd_burst(t, ring % 4), 0);
		vd_run_ms(t, 30);
		t->ring[ring % 4].to_send -= 4;
		assert_true(is_poison(old));

		conf.size = size = size != VD_RING_SIZE ? VD_RING_SIZE : t->format ? 61 : 64;
		assert_int_equal(ts_ring_new(&conf, &r->ring), 0);
		r->ring->kick_fd = r->kick;
		r->ring->call_fd = r->call;
		vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_NUM, ring % 4, conf.size));
		vd_ok(t, ts_fe_set_state(&t->fe, TS_SET_VRING_BASE, ring % 4, conf.base));
		vd_ok(t, ts_fe_set_addr(&t->fe, ring % 4));
		vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, ring % 4, r->kick));
		vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_CALL, ring % 4, r->call));
		vd_ok(t, ts_fe_barrier(&t->fe));
		assert_int_equal(vd_ring_info(t, ring % 4).num, conf.size);
		ts_ring_free(old);
	}
	vd_assert_traffic(t, 0, 2);
	assert_int_equal(t->link_changes, 1);
}

/* ---- parked rings ---- */

static void parked_ring(void **state)
{
	struct vd *t = *state;
	int err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	enum virtq_fault fault;
	char line[200];
	struct virtq *vq;
	uint32_t base;

	running(t, 2);
	vq = vu_device_ring(t->dev, 1);
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_ERR, 1, err));
	vd_assert_traffic(t, 0, 2);
	vd_forget_log(t);
	base = vd_shown(t, 1);
	fault = vd_park(t, 1);
	assert_int_equal(vq->fault, fault);
	assert_true(VD_WAIT(t, vd_ring_info(t, 1).fault != VIRTQ_FAULT_NONE, 1000));
	assert_int_equal(events(err), 1);
	snprintf(line, sizeof(line), "ring 1 is parked: %s", virtq_fault_text(fault));
	assert_true(vd_logged(t, line));
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_PARKED);
	assert_false(vd_ring_info(t, 1).usable);
	assert_int_equal(t->ring[1].changes, 2);
	assert_int_equal(vq->closed, VIRTQ_DROP_TX_BROKEN);
	assert_true(t->link);
	vd_assert_dead(t, 1);
	assert_int_equal(events(err), 0);
	vd_assert_traffic(t, 1, 1);
	assert_true(vd_ring_info(t, 0).usable);

	/* Neither a kick nor an address mends it. */
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_KICK, 1, t->fe.rings[1].kick));
	vd_ok(t, ts_fe_set_addr(&t->fe, 1));
	vd_ok(t, ts_fe_enable(&t->fe, 1, true));
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_false(vd_ring_info(t, 1).usable);

	/* The driver was reset: stop, and start from the beginning. */
	vd_ok(t, ts_fe_get_base(&t->fe, 1));
	assert_int_equal(t->fe.rings[1].base, base);
	assert_int_equal(vq->closed, VIRTQ_DROP_TX_STOPPED);
	begin_anew(t, 1);
	restart(t, 1);
	assert_int_equal(vd_ring_info(t, 1).fault, VIRTQ_FAULT_NONE);
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_NONE);
	vd_assert_traffic(t, 0, 2);
	close(err);
}

/* A ring may also break while it is drained, and its error eventfd may be full or missing. */
static void parked_while_disabled(void **state)
{
	struct vd *t = *state;
	const uint64_t full = UINT64_MAX - 1;
	int err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	running(t, 1);
	assert_int_equal(write(err, &full, sizeof(full)), sizeof(full));
	for (unsigned i = 0; i < 2; i++) {
		vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_ERR, 1, i ? -1 : err));
		vd_ok(t, ts_fe_enable(&t->fe, 1, false));
		vd_park(t, 1);
		assert_true(VD_WAIT(t, vd_ring_info(t, 1).fault != VIRTQ_FAULT_NONE, 1000));
		vd_ok(t, ts_fe_get_base(&t->fe, 1));
		begin_anew(t, 1);
		vd_ok(t, ts_fe_enable(&t->fe, 1, true));
		restart(t, 1);
		vd_assert_traffic(t, 0, 1);
	}
	close(err);
}

static void parked_then_disconnected(void **state)
{
	struct vd *t = *state;

	running(t, 1);
	vd_park(t, 1);
	assert_true(VD_WAIT(t, vd_ring_info(t, 1).fault != VIRTQ_FAULT_NONE, 1000));
	vd_disconnect(t);
	assert_int_equal(vd_ring_info(t, 1).fault, VIRTQ_FAULT_NONE);
	assert_int_equal(vu_device_ring(t->dev, 1)->closed, VIRTQ_DROP_TX_DISCONNECTED);
	vd_connect(t);
	vd_start(t);
	vd_assert_traffic(t, 0, 1);
}

/* ---- calls ---- */

static void call_comes_and_goes(void **state)
{
	struct vd *t = *state;
	int old;

	running(t, 1);
	for (unsigned i = 0; i < 10; i++) {
		ts_ring_enable_cb(t->fe.rings[1].ring);
		vd_guest_sends(t, 1, 3);
		vd_ok(t, ts_fe_new_call(&t->fe, 1, &old));
		vd_ok(t, ts_fe_barrier(&t->fe));
		events(old);
		vd_burst(t, 1);
		assert_int_equal(events(old), 0);
		close(old);
		assert_true(!ts_ring_call_due(t->fe.rings[1].ring) ||
			    ts_ring_calls(t->fe.rings[1].ring) == 1);
		assert_int_equal(vd_guest_reaps(t, 1), 3);
	}
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_CALL, 1, -1));
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_guest_sends(t, 1, 3);
	vd_burst(t, 1);
	assert_int_equal(ts_ring_calls(t->fe.rings[1].ring), 0);
	assert_int_equal(vd_guest_reaps(t, 1), 3);
	assert_int_equal(t->ring[1].changes, 1);
}

/* The front-end's eventfds block and are full: neither an lcore nor the control thread waits. */
static void calls_never_block(void **state)
{
	const uint64_t full = UINT64_MAX - 1;
	struct vd *t = *state;
	int call = eventfd(0, EFD_CLOEXEC), err = eventfd(0, EFD_CLOEXEC);

	running(t, 1);
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_CALL, 1, call));
	vd_ok(t, ts_fe_set_fd(&t->fe, TS_SET_VRING_ERR, 1, err));
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_int_equal(write(call, &full, sizeof(full)), sizeof(full));
	assert_int_equal(write(err, &full, sizeof(full)), sizeof(full));
	ts_ring_enable_cb(t->fe.rings[1].ring);
	vd_guest_sends(t, 1, 5);
	vd_burst(t, 1);
	assert_int_equal(vd_guest_reaps(t, 1), 5);
	assert_int_equal(vu_device_ring(t->dev, 1)->stats.calls_failed, 1);

	/* From here on it is the control thread that calls, and they block again. */
	assert_int_equal(fcntl(call, F_SETFL, O_RDWR), 0);
	assert_int_equal(fcntl(err, F_SETFL, O_RDWR), 0);
	ts_ring_enable_cb(t->fe.rings[1].ring);
	vd_ok(t, ts_fe_enable(&t->fe, 1, false));
	vd_guest_sends(t, 1, 7);
	assert_true(VD_WAIT(t, ts_ring_more_used(t->fe.rings[1].ring), 1000));
	assert_int_equal(vd_guest_reaps(t, 1), 7);
	vd_park(t, 1);
	assert_true(VD_WAIT(t, vd_ring_info(t, 1).fault != VIRTQ_FAULT_NONE, 1000));
	assert_false((fcntl(call, F_GETFL) | fcntl(err, F_GETFL)) & O_NONBLOCK);
	close(call);
	close(err);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(trap_5_3_stop_one_ring),
		VD_BOTH(trap_5_3_stop_through_the_end_of_the_index),
		VD_CASE(trap_5_11_any_size, vd_setup, vd_teardown, "packed", &vd_packed),
		VD_BOTH(trap_5_3_stop_what_never_ran),
		VD_BOTH(trap_5_2_enable_does_not_start),
		VD_BOTH(trap_5_3_stop_a_disabled_ring),
		VD_BOTH(settings_of_a_running_ring),
		VD_BOTH(reset_owner),
		VD_BOTH(reset_device),
		VD_BOTH(trap_5_3_reset_one_ring),
		VD_BOTH(parked_ring),
		VD_BOTH(parked_while_disabled),
		VD_BOTH(parked_then_disconnected),
		VD_BOTH(call_comes_and_goes),
		VD_BOTH(calls_never_block),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

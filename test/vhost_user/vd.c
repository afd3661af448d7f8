/* SPDX-License-Identifier: BSD-3-Clause */
/* The fixture of the vhost-user tests. */
#include "vd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "ts_raw.h"
#include "virtq_log.h"
#include "virtq_packed.h"
#include "virtq_split.h"
#include "virtq_trap.h"

/* ---- a data path: what comes is counted, what is asked for is sent ---- */

#define FRAME_LEN  76u /* with the virtio-net header */
#define BUFFER_LEN 1526u

static const struct virtq_ops *ops_of(const struct virtq_view *v)
{
	return v->packed ? &virtq_packed_ops : &virtq_split_ops;
}

static void linger(struct vd_ring *r)
{
	virtq_count(&r->inside, 1);
	while (virtq_load(&r->hold)) {
		virtq_store(&r->held, true);
		ts_nap();
	}
	virtq_store(&r->held, false);
}

static void log_used(const struct virtq *vq, const struct virtq_view *v, uint16_t from)
{
	if (!v->log)
		return;
	virtq_log_begin();
	virtq_log_used(vq, v, from);
}

static void log_frame(const struct virtq_view *v, const struct virtq_chain *chain)
{
	uint32_t hint = 0;

	if (!v->log)
		return;
	virtq_log_begin();
	virtq_log_chain(v, &hint, chain, FRAME_LEN);
}

static uint16_t sink(struct virtq *vq, const struct virtq_view *v, void **pkts, uint16_t max)
{
	struct vd_ring *r = (struct vd_ring *)(uintptr_t)v->arg;
	const struct virtq_ops *ops = ops_of(v);
	struct virtq_chain chain[VIRTQ_BURST];
	struct virtq_segs segs;
	uint16_t n, taken = 0;
	const uint16_t from = vq->used;
	uint64_t bytes = 0;

	(void)pkts;
	linger(r);
	if (vq->fault)
		return 0;
	n = ops->ready(vq, v, max < VIRTQ_BURST ? max : VIRTQ_BURST);
	virtq_segs_begin(&segs);
	while (taken < n && ops->take(vq, v, VIRTQ_FROM_GUEST, &segs, &chain[taken]))
		taken++;
	for (uint16_t i = 0; i < taken; i++) {
		for (uint16_t k = 0; k < chain[i].nseg; k++)
			virtq_load(&chain[i].seg[k].va[chain[i].seg[k].len - 1]);
		bytes += chain[i].len;
		ops->give(vq, v, &chain[i], 0);
	}
	if (taken == 0)
		return 0;
	ops->publish(vq, v);
	log_used(vq, v, from);
	virtq_count(&r->bytes, bytes);
	virtq_count(&r->consumed, taken);
	return taken;
}

static uint16_t source(struct virtq *vq, const struct virtq_view *v, void **pkts, uint16_t max)
{
	struct vd_ring *r = (struct vd_ring *)(uintptr_t)v->arg;
	const struct virtq_ops *ops = ops_of(v);
	uint64_t want = virtq_load(&r->to_send) - r->sent;
	const uint16_t from = vq->used;
	uint16_t n, done = 0;

	(void)pkts;
	linger(r);
	if (vq->fault || want == 0)
		return 0;
	n = ops->ready(vq, v, want < max ? (uint16_t)want : max);
	for (; done < n; done++) {
		struct virtq_segs segs;
		struct virtq_chain chain;

		virtq_segs_begin(&segs);
		if (!ops->take(vq, v, VIRTQ_TO_GUEST, &segs, &chain))
			break;
		memset(chain.seg[0].va, 0x5a + (uint8_t)r->sent, FRAME_LEN);
		log_frame(v, &chain);
		ops->give(vq, v, &chain, FRAME_LEN);
	}
	if (done == 0)
		return 0;
	ops->publish(vq, v);
	log_used(vq, v, from);
	virtq_count(&r->sent, done);
	return done;
}

/* ---- ops ---- */

static void on_prepare(void *arg, unsigned ring, struct virtq_view *view)
{
	struct vd *t = arg;

	t->ring[ring].prepared++;
	view->arg = &t->ring[ring];
	if (!t->ring[ring].unpolled)
		view->burst = ring & 1 ? sink : source;
}

static void on_ring_changed(void *arg, unsigned ring, bool usable)
{
	struct vd *t = arg;

	t->ring[ring].changes++;
	t->ring[ring].usable = usable;
}

static void on_link_changed(void *arg, bool up)
{
	struct vd *t = arg;

	t->link_changes++;
	t->link = up;
}

static void on_mtu_changed(void *arg)
{
	((struct vd *)arg)->mtu_changes++;
}

static void on_log(void *arg, enum vu_log_level level, const char *line)
{
	struct vd *t = arg;

	if (level == VU_LOG_DEBUG)
		return;
	snprintf(t->log[t->n_log++ % VD_LOG_LINES], sizeof(t->log[0]), "%s", line);
}

static const struct vu_device_ops ops = {
	.prepare = on_prepare,
	.ring_changed = on_ring_changed,
	.link_changed = on_link_changed,
	.mtu_changed = on_mtu_changed,
	.log = on_log,
};

/* ---- life ---- */

const char vd_packed;

struct vd *vd_new(struct event_base *base, uint64_t format)
{
	struct vd *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->format = format;
	virtq_trap_fd(); /* stays open as long as the process */
	t->fds_before = ts_count_fds(NULL);
	t->maps_before = ts_count_maps("memfd:ts-guest");
	strcpy(t->dir, "/tmp/vu-test-XXXXXX");
	assert_non_null(mkdtemp(t->dir));
	snprintf(t->path, sizeof(t->path), "%s/s", t->dir);
	t->shares_base = base != NULL;
	t->base = base ? base : event_base_new();
	assert_non_null(t->base);
	for (unsigned i = 0; i < 2 * VD_PAIRS_MAX; i++) {
		t->ring[i].vd = t;
		t->ring[i].index = i;
	}
	ts_fe_init(&t->fe, &ts_qemu_10, NULL);
	return t;
}

/* All of it goes before anything is asserted, so that a failure leaves nothing behind either. */
void vd_free(struct vd *t)
{
	int maps, fds, fds_before = t->fds_before, maps_before = t->maps_before;
	bool socket_left, more_left;

	for (unsigned i = 0; i < 2 * VD_PAIRS_MAX; i++)
		virtq_store(&t->ring[i].hold, false);
	if (t->polling)
		vd_poll_end(t);
	vd_destroy(t);
	ts_fe_free(&t->fe);
	ts_guest_free(t->guest);
	if (!t->shares_base)
		event_base_free(t->base);
	socket_left = unlink(t->path) == 0;
	more_left = rmdir(t->dir) != 0;
	free(t);
	maps = ts_count_maps("memfd:ts-guest");
	fds = ts_count_fds(NULL);
	assert_false(socket_left);
	assert_false(more_left);
	assert_int_equal(maps, maps_before);
	assert_int_equal(fds, fds_before);
}

int vd_setup(void **state)
{
	uint64_t format = *state == &vd_packed ? TS_BIT(VIRTIO_F_RING_PACKED) : 0;

	ts_seed();
	*state = vd_new(NULL, format);
	return 0;
}

int vd_teardown(void **state)
{
	vd_free(*state);
	return 0;
}

void vd_conf(struct vd *t, uint16_t pairs)
{
	t->conf = (struct vu_device_conf){.path = t->path,
		.listen = true,
		.queue_pairs = pairs,
		.features = vu_default_features(),
		.ops = &ops,
		.arg = t};
}

void vd_create(struct vd *t)
{
	char why[200] = "";

	if (vu_device_create(t->base, &t->conf, &t->dev, why, sizeof(why)) != 0)
		fail_msg("not created: %s", why);
}

void vd_destroy(struct vd *t)
{
	vu_device_destroy(t->dev);
	t->dev = NULL;
}

static void pump(void *arg)
{
	vd_run(arg);
}

/* Two regions that are neighbours for the guest, rings in the first. */
static void make_guest(struct vd *t)
{
	const struct ts_region_conf low = {.gpa = 0x100000, .size = 4u << 20};
	const struct ts_region_conf high = {.gpa = 0x500000, .size = 2u << 20, .mmap_offset = 8192};

	t->guest = ts_guest_new();
	assert_non_null(t->guest);
	assert_int_equal(ts_guest_add(t->guest, &low), 0);
	assert_int_equal(ts_guest_add(t->guest, &high), 1);
}

void vd_front_end(struct vd *t, const struct ts_profile *profile)
{
	ts_fe_free(&t->fe);
	if (!t->guest)
		make_guest(t);
	ts_guest_forget(t->guest);
	ts_fe_init(&t->fe, profile, t->guest);
	t->fe.want |= t->format;
	t->fe.pump = pump;
	t->fe.pump_arg = t;
	t->fe.pairs = t->fe.active = t->conf.queue_pairs;
}

void vd_connect(struct vd *t)
{
	uint64_t before = vd_info(t).connections;

	t->fe.features = 0;
	vd_ok(t, ts_fe_connect(&t->fe, t->path));
	t->status = 0;
	assert_true(VD_WAIT(t, vd_info(t).connections > before, 5000));
}

void vd_start(struct vd *t)
{
	vd_ok(t, ts_fe_negotiate(&t->fe));
	ts_guest_forget(t->guest);
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, TS_RING_SHUFFLE));
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
}

void vd_disconnect(struct vd *t)
{
	ts_fe_disconnect(&t->fe);
	assert_true(VD_WAIT(t, vd_info(t).connection == VU_WAITING, 5000));
}

void vd_listen(struct vd *t, uint16_t pairs, const struct ts_profile *profile)
{
	vd_conf(t, pairs);
	vd_create(t);
	vd_front_end(t, profile);
	vd_connect(t);
}

void vd_run(struct vd *t)
{
	event_base_loop(t->base, EVLOOP_NONBLOCK);
}

void vd_run_ms(struct vd *t, unsigned ms)
{
	uint64_t end = ts_now_ms() + ms;

	VD_WAIT(t, ts_now_ms() >= end, ms + 1000);
}

/* ---- polling ---- */

static void *poll_all(void *arg)
{
	struct vd *t = arg;

	while (!virtq_load(&t->stop_polling))
		for (unsigned i = 0; i < 2u * t->conf.queue_pairs; i++)
			vd_burst(t, i);
	return NULL;
}

void vd_poll_begin(struct vd *t)
{
	t->stop_polling = false;
	assert_int_equal(pthread_create(&t->poller, NULL, poll_all, t), 0);
	t->polling = true;
}

void vd_poll_end(struct vd *t)
{
	virtq_store(&t->stop_polling, true);
	pthread_join(t->poller, NULL);
	t->polling = false;
}

uint16_t vd_burst(struct vd *t, unsigned ring)
{
	return virtq_burst(vu_device_ring(t->dev, ring), NULL, VIRTQ_BURST);
}

/* ---- the guest ---- */

unsigned vd_guest_adds(struct vd *t, unsigned ring, unsigned n)
{
	struct ts_ring *r = t->fe.rings[ring].ring;
	/* Across both regions now and then. */
	const struct ts_seg frame[] = {
		{0x400000 + 128 * ring, 12}, {0x500000 - 30, FRAME_LEN - 12}};
	const struct ts_seg buffer[] = {{0x480000 + 2048 * (ring % 64), BUFFER_LEN}};
	const bool out = ring & 1;
	unsigned i;

	for (i = 0; i < n; i++) {
		enum ts_mode mode = ts_ring_has(r, VIRTIO_RING_F_INDIRECT_DESC) && i % 3 == 0
					    ? TS_INDIRECT
					    : TS_DIRECT;

		if (ts_ring_add(r, frame, out ? 2 : 0, buffer, out ? 0 : 1, r, mode) != 0)
			break;
	}
	ts_ring_publish(r);
	return i;
}

void vd_guest_sends(struct vd *t, unsigned ring, unsigned n)
{
	assert_true(ring & 1);
	assert_int_equal(vd_guest_adds(t, ring, n), n);
}

void vd_guest_posts(struct vd *t, unsigned ring, unsigned n)
{
	assert_false(ring & 1);
	assert_int_equal(vd_guest_adds(t, ring, n), n);
}

unsigned vd_guest_takes(struct vd *t, unsigned ring)
{
	struct ts_ring *r = t->fe.rings[ring].ring;
	const uint32_t right = ring & 1 ? 0 : FRAME_LEN;
	unsigned n = 0;
	uint32_t len;

	while (ts_ring_get_used(r, &len)) {
		if (len != right)
			ts_fault(&r->faults, "%u bytes came back, not %u", len, right);
		n++;
	}
	return n;
}

unsigned vd_guest_reaps(struct vd *t, unsigned ring)
{
	unsigned n = vd_guest_takes(t, ring);

	if (t->fe.rings[ring].ring->faults.count)
		fail_msg("ring %u: %s", ring, t->fe.rings[ring].ring->faults.first);
	return n;
}

void vd_assert_traffic(struct vd *t, unsigned first_pair, unsigned pairs)
{
	for (unsigned p = first_pair; p < first_pair + pairs; p++) {
		struct vd_ring *rx = &t->ring[2 * p], *tx = &t->ring[2 * p + 1];
		uint64_t consumed = tx->consumed, sent = rx->sent;

		vd_guest_sends(t, 2 * p + 1, 20);
		vd_burst(t, 2 * p + 1);
		assert_int_equal(tx->consumed, consumed + 20);
		assert_int_equal(vd_guest_reaps(t, 2 * p + 1), 20);
		vd_guest_posts(t, 2 * p, 20);
		rx->to_send = sent + 20;
		vd_burst(t, 2 * p);
		assert_int_equal(rx->sent, sent + 20);
		assert_int_equal(vd_guest_reaps(t, 2 * p), 20);
	}
}

void vd_assert_dead(struct vd *t, unsigned ring)
{
	struct ts_ring *r = t->fe.rings[ring].ring;
	const uint32_t used = vd_shown(t, ring);
	const uint64_t inside = t->ring[ring].inside;

	ts_ring_calls(r);
	t->ring[ring].to_send += 4;
	assert_int_equal(vd_burst(t, ring), 0);
	vd_run_ms(t, 30);
	t->ring[ring].to_send -= 4;
	assert_int_equal(t->ring[ring].inside, inside);
	assert_int_equal(vd_shown(t, ring), used);
	assert_int_equal(ts_ring_calls(r), 0);
}

enum virtq_fault vd_park(struct vd *t, unsigned ring)
{
	ts_raw_break(t->fe.rings[ring].ring);
	vd_burst(t, ring);
	return t->format ? VIRTQ_FAULT_LOOP : VIRTQ_FAULT_AVAIL_JUMP;
}

int vd_socket_at(const char *path, int type, int backlog)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	if (backlog >= 0)
		assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

/* ---- looking ---- */

struct vu_ring_info vd_ring_info(const struct vd *t, unsigned ring)
{
	struct vu_ring_info info;

	vu_ring_info(t->dev, ring, &info);
	return info;
}

struct vu_info vd_info(const struct vd *t)
{
	struct vu_info info;

	vu_device_info(t->dev, &info);
	return info;
}

bool vd_logged(const struct vd *t, const char *text)
{
	for (unsigned i = 0; i < VD_LOG_LINES; i++)
		if (strstr(t->log[i], text))
			return true;
	return false;
}

void vd_forget_log(struct vd *t)
{
	memset(t->log, 0, sizeof(t->log));
}

void vd_ok(struct vd *t, int rc)
{
	if (rc != 0)
		fail_msg("%s (%d); device: %s", t->fe.why, rc,
			t->dev ? vd_info(t).last_error : "none");
}

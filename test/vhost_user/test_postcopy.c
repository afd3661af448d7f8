/* SPDX-License-Identifier: BSD-3-Clause */
/* Post-copy migration: a guest whose memory comes page by page, when somebody asks for it. */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vd_iommu.h"

#define PAGE    4096u
#define FRAMES  20u
#define HOLD_MS 5000u /* so that who sleeps is found, and not waited for for ever */

/* The front-end's half: the guest's memory as it was at the source, and who fetches it. */
struct source {
	struct vd *t;
	uint8_t *copy[TS_MAX_REGIONS];
	uint64_t base[TS_MAX_REGIONS]; /* where the back-end has mapped it */
	int uffd;
	pthread_t thread;
	bool iommu; /* the guest has one */
	bool serving, stop, hold;
	uint64_t served, asked;
};

static void fetch(struct source *s, uint64_t address)
{
	for (unsigned i = 0; i < s->t->guest->n; i++) {
		const struct ts_region *r = &s->t->guest->r[i];
		uint64_t off = (address & ~(uint64_t)(PAGE - 1)) - s->base[i];
		struct uffdio_range wake = {address & ~(uint64_t)(PAGE - 1), PAGE};

		if (off >= r->size)
			continue;
		/* By the file: to ThreadSanitizer a page that comes is nobody's access. */
		if (pwrite(r->fd, s->copy[i] + off, PAGE, (off_t)(r->mmap_offset + off)) != PAGE)
			continue;
		ioctl(s->uffd, UFFDIO_WAKE, &wake);
		virtq_store(&s->served, s->served + 1);
	}
}

static void *serve(void *arg)
{
	struct source *s = arg;
	uint64_t free_since = ts_now_ms();

	while (!virtq_load(&s->stop)) {
		struct pollfd p = {.fd = s->uffd, .events = POLLIN};
		struct uffd_msg m;

		if (!virtq_load(&s->hold))
			free_since = ts_now_ms();
		if ((virtq_load(&s->hold) && ts_now_ms() - free_since < HOLD_MS) ||
			poll(&p, 1, 10) != 1 || read(s->uffd, &m, sizeof(m)) != sizeof(m)) {
			usleep(1000);
			continue;
		}
		virtq_store(&s->asked, s->asked + 1);
		if (m.event == UFFD_EVENT_PAGEFAULT)
			fetch(s, m.arg.pagefault.address);
	}
	return NULL;
}

/* The guest stops there: what it had is kept, what it will have here is nothing. */
static void leave_source(struct source *s)
{
	for (unsigned i = 0; i < s->t->guest->n; i++) {
		const struct ts_region *r = &s->t->guest->r[i];

		s->copy[i] = malloc(r->size);
		assert_non_null(s->copy[i]);
		memcpy(s->copy[i], r->va, r->size);
		assert_int_equal(ts_region_punch(s->t->guest, i, 0, r->size), 0);
	}
}

static uint64_t pages_here(const struct source *s)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < s->t->guest->n; i++) {
		const struct ts_region *r = &s->t->guest->r[i];
		unsigned char *there = malloc(r->size / PAGE);

		assert_int_equal(mincore(r->va, r->size, there), 0);
		for (uint64_t k = 0; k < r->size / PAGE; k++)
			n += there[k] & 1;
		free(there);
	}
	return n;
}

/* ---- messages ---- */

static void ask(struct vd *t, struct ts_msg *m, struct ts_reply *reply, uint32_t size)
{
	vd_ok(t, ts_send_msg(&t->fe, m));
	vd_ok(t, ts_recv_reply(&t->fe, reply));
	assert_int_equal(reply->hdr.request, m->hdr.request);
	assert_int_equal(reply->hdr.flags, 5);
	assert_int_equal(reply->hdr.size, size);
}

static void advise_and_listen(struct source *s)
{
	struct vd *t = s->t;
	struct ts_reply reply;
	struct ts_msg m;

	ts_msg_make(&m, TS_POSTCOPY_ADVISE, NULL, 0);
	ask(t, &m, &reply, 0);
	assert_int_equal(reply.n_fds, 1);
	s->uffd = reply.fds[0];
	ts_msg_make(&m, TS_POSTCOPY_LISTEN, NULL, 0);
	m.hdr.flags |= 1u << 3;
	ask(t, &m, &reply, 8);
	assert_int_equal(*(uint64_t *)reply.payload, 0);
}

static void acknowledge(struct vd *t, uint32_t request)
{
	const uint64_t zero = 0;
	struct ts_msg m;

	ts_msg_make(&m, request, &zero, sizeof(zero));
	vd_ok(t, ts_send_msg(&t->fe, &m));
	vd_ok(t, ts_fe_barrier(&t->fe));
}

static void send_table(struct source *s)
{
	struct vd *t = s->t;
	struct ts_mem_table table;
	const struct ts_mem_table *where;
	struct ts_reply reply;
	struct ts_msg m;
	uint32_t size;

	ts_fe_mem_table(&t->fe, &table);
	size = (uint32_t)(8 + table.n * sizeof(table.region[0]));
	ts_msg_make(&m, TS_SET_MEM_TABLE, &table, size);
	for (unsigned i = 0; i < t->guest->n; i++)
		m.fds[m.n_fds++] = t->guest->r[i].fd;
	ask(t, &m, &reply, size);
	where = (const struct ts_mem_table *)reply.payload;
	assert_int_equal(where->n, table.n);
	for (unsigned i = 0; i < table.n; i++) {
		assert_int_equal(where->region[i].gpa, table.region[i].gpa);
		s->base[i] = where->region[i].uva;
	}
}

static void send_slots(struct source *s)
{
	struct vd *t = s->t;

	for (unsigned i = 0; i < t->guest->n; i++) {
		const struct ts_region *r = &t->guest->r[i];
		const struct ts_mem_slot slot = {0, {r->gpa, r->size, r->uva, r->mmap_offset}};
		const struct ts_mem_slot *where;
		struct ts_reply reply;
		struct ts_msg m;

		ts_msg_make(&m, TS_ADD_MEM_REG, &slot, sizeof(slot));
		m.fds[m.n_fds++] = r->fd;
		ask(t, &m, &reply, sizeof(slot));
		where = (const struct ts_mem_slot *)reply.payload;
		assert_int_equal(where->region.gpa, r->gpa);
		s->base[i] = where->region.uva;
	}
}

/* ---- from the connection to running rings ---- */

static void arrive(struct source *s, bool slots)
{
	static const struct ts_step rings[] = {
		{.op = TS_S_SET_FEATURES},
		{.op = TS_S_EACH_RING},
		{.op = TS_S_NUM},
		{.op = TS_S_BASE},
		{.op = TS_S_ADDR},
		{.op = TS_S_KICK},
		{.op = TS_S_CALL},
		{.op = TS_S_ENABLE, .arg = TS_ON},
		{.op = TS_S_NEXT},
		{.op = TS_S_END},
	};
	struct vd *t = s->t;

	advise_and_listen(s);
	if (slots)
		send_slots(s);
	else
		send_table(s);
	assert_int_equal(pages_here(s), 0); /* mapped, not touched */
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
	s->serving = true;
	acknowledge(t, slots ? TS_ADD_MEM_REG : TS_SET_MEM_TABLE);
	vd_ok(t, ts_fe_run(&t->fe, rings));
	vd_ok(t, ts_fe_barrier(&t->fe));
}

static void begin(struct source *s, bool slots)
{
	struct vd *t = s->t;

	if (s->iommu)
		vd_iommu_conf(t, 1);
	else
		vd_conf(t, 1);
	t->conf.postcopy = true;
	vd_create(t);
	if (s->iommu)
		vd_iommu_front_end(t);
	else
		vd_front_end(t, &ts_qemu_10);
	t->fe.want_protocol |= TS_BIT(TS_PROTO_PAGEFAULT) | TS_BIT(TS_PROTO_CONFIGURE_MEM_SLOTS);
	if (!slots)
		t->fe.want_protocol &= ~TS_BIT(TS_PROTO_CONFIGURE_MEM_SLOTS);
	vd_connect(t);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, 0));
	/* Indirect tables on pages of their own. */
	assert_int_not_equal(ts_alloc(t->guest, 0, PAGE, PAGE), TS_NOMEM);
	vd_guest_sends(t, 1, FRAMES);
	vd_guest_posts(t, 0, FRAMES);
	leave_source(s);
}

static void end(struct source *s)
{
	virtq_store(&s->stop, true);
	if (s->serving)
		pthread_join(s->thread, NULL);
	if (s->uffd >= 0)
		close(s->uffd);
	for (unsigned i = 0; i < s->t->guest->n; i++)
		free(s->copy[i]);
}

/* The front-end answers what it is asked in the meantime. */
static bool all_moved(struct source *s)
{
	if (s->iommu)
		vd_iommu_serve(s->t, PAGE);
	return virtq_load(&s->t->ring[1].consumed) == FRAMES &&
	       virtq_load(&s->t->ring[0].sent) == FRAMES;
}

/* Polled until all frames have moved; then all pages have come. */
static void finish(struct source *s)
{
	struct vd *t = s->t;
	struct ts_reply reply;
	struct ts_msg m;

	assert_true(VD_WAIT(t, all_moved(s), 30000));
	assert_true(virtq_load(&s->served) > 3);
	ts_msg_make(&m, TS_POSTCOPY_END, NULL, 0);
	m.hdr.flags |= 1u << 3;
	ask(t, &m, &reply, 8);
	assert_int_equal(*(uint64_t *)reply.payload, 0);
	assert_true(ts_fe_quiet(&t->fe));
	vd_poll_end(t);
	assert_int_equal(vd_guest_reaps(t, 1), FRAMES);
	assert_int_equal(vd_guest_reaps(t, 0), FRAMES);
}

static void all_of_it(struct vd *t, bool slots, bool iommu)
{
	struct source s = {.t = t, .uffd = -1, .iommu = iommu};

	begin(&s, slots);
	arrive(&s, slots);
	t->ring[0].to_send = FRAMES;
	vd_poll_begin(t);
	finish(&s);
	if (iommu)
		vd_iommu_traffic(t, PAGE);
	else
		vd_assert_traffic(t, 0, 1);
	end(&s);
}

static void trap_5_15_table(void **state)
{
	all_of_it(*state, false, false);
}

static void trap_5_15_slots(void **state)
{
	all_of_it(*state, true, false);
}

static void trap_5_15_table_with_an_iommu(void **state)
{
	all_of_it(*state, false, true);
}

static void trap_5_15_slots_with_an_iommu(void **state)
{
	all_of_it(*state, true, true);
}

/* Control answers and works on while nobody serves pages. */
static void assert_awake(struct source *s)
{
	for (unsigned i = 0; i < 30; i++) {
		uint64_t before = ts_now_ms();

		vd_ok(s->t, ts_fe_barrier(&s->t->fe));
		if (s->iommu)
			vd_iommu_serve(s->t, PAGE);
		vd_run_ms(s->t, 10);
		assert_true(ts_now_ms() - before < 1000);
	}
}

/* Nobody serves for a while: whoever touches memory sleeps, and control does not. */
static void trap_5_15_control_goes_on(void **state)
{
	struct source s = {.t = *state, .uffd = -1, .hold = true};
	struct vd *t = *state;

	begin(&s, false);
	arrive(&s, false);
	vd_poll_begin(t);
	assert_awake(&s);
	assert_false(vd_ring_info(t, 1).usable);
	assert_int_equal(virtq_load(&t->ring[1].consumed), 0);
	virtq_store(&s.hold, false);
	assert_true(VD_WAIT(t, virtq_load(&t->ring[1].consumed) == FRAMES, 30000));
	vd_poll_end(t);
	end(&s);
}

/* Rings that run, and whose indirect tables have not come: control does not look into those. */
static void trap_5_15_iommu_looks_ahead(void **state)
{
	struct source s = {.t = *state, .uffd = -1, .iommu = true};
	struct vd *t = *state;

	begin(&s, false);
	arrive(&s, false);
	assert_true(VD_WAIT(t, (vd_iommu_serve(t, PAGE), vd_all_usable(t)), 10000));
	virtq_store(&s.hold, true);
	assert_awake(&s);
	t->ring[0].to_send = FRAMES;
	vd_poll_begin(t);
	assert_awake(&s);
	virtq_store(&s.hold, false);
	finish(&s);
	end(&s);
}

/* A ring that is moved while it runs, to pages that have not come: they are fetched as the first
 * ones were. Disabled, it is control that looks into it. */
static void trap_5_15_ring_moves(void **state)
{
	struct source s = {.t = *state, .uffd = -1};
	struct vd *t = *state;
	uint64_t elsewhere;

	begin(&s, false);
	elsewhere = ts_alloc(t->guest, 0, 1u << 20, PAGE);
	arrive(&s, false);
	assert_true(VD_WAIT(t, vd_all_usable(t), 10000));
	vd_ok(t, ts_fe_enable(&t->fe, 1, false));
	assert_true(VD_WAIT(t, (vd_run_ms(t, 30), vd_all_used(t, 1)), 10000));
	virtq_store(&s.hold, true);
	t->fe.rings[1].ring->desc_gpa = elsewhere;
	t->fe.rings[1].ring->driver_gpa = elsewhere + (1u << 18);
	t->fe.rings[1].ring->device_gpa = elsewhere + (1u << 19);
	vd_ok(t, ts_fe_set_addr(&t->fe, 1));
	assert_awake(&s);
	virtq_store(&s.hold, false);
	vd_run_ms(t, 50);
	end(&s);
}

/* The front-end has the file and may take a page away again: of a ring that runs that leaves zeros, not a
 * fault for which control would wait. */
static void trap_5_15_pages_go_again(void **state)
{
	struct source s = {.t = *state, .uffd = -1};
	struct vd *t = *state;

	begin(&s, false);
	arrive(&s, false);
	assert_true(VD_WAIT(t, vd_all_usable(t), 10000));
	vd_ok(t, ts_fe_enable(&t->fe, 1, false));
	virtq_store(&s.hold, true);
	vd_ok(t, ts_fe_barrier(&t->fe));
	assert_int_equal(ts_region_punch(t->guest, 0, 0, t->guest->r[0].size), 0);
	assert_awake(&s);
	assert_int_equal(virtq_load(&s.asked), virtq_load(&s.served));
	end(&s);
}

/* A front-end that leaves in the middle leaves sleepers behind; they wake, and nothing else is left. */
static void gone_in_the_middle(void **state)
{
	struct source s = {.t = *state, .uffd = -1};
	struct vd *t = *state;

	begin(&s, false);
	arrive(&s, false);
	assert_true(VD_WAIT(t, vd_ring_info(t, 1).usable, 5000));
	virtq_store(&s.hold, true);
	vd_poll_begin(t);
	vd_run_ms(t, 50);
	vd_disconnect(t);
	vd_poll_end(t);
	end(&s);
	vd_connect(t);
	vd_start(t);
	vd_assert_traffic(t, 0, 1);
}

static int simple(struct vd *t, enum ts_request request)
{
	t->fe.need_reply = UINT64_MAX;
	return ts_fe_simple(&t->fe, request);
}

static void refusals(void **state)
{
	struct vd *t = *state;
	struct source s = {.t = t, .uffd = -1};
	struct ts_mem_slot slot = {0};
	struct ts_reply reply;
	struct ts_msg m;

	begin(&s, true);
	slot.region = (struct ts_mem_region){t->guest->r[0].gpa, t->guest->r[0].size,
		t->guest->r[0].uva, t->guest->r[0].mmap_offset};
	assert_int_equal(simple(t, TS_POSTCOPY_LISTEN), -EREMOTEIO);
	advise_and_listen(&s);
	assert_int_equal(simple(t, TS_POSTCOPY_LISTEN), -EREMOTEIO);
	send_slots(&s);
	ts_msg_make(&m, TS_REM_MEM_REG, &slot, sizeof(slot));
	m.hdr.flags |= 1u << 3;
	ask(t, &m, &reply, 8);
	assert_int_equal(*(uint64_t *)reply.payload, 1);
	ts_msg_make(&m, TS_POSTCOPY_ADVISE, NULL, 0);
	vd_ok(t, ts_send_msg(&t->fe, &m));
	assert_true(VD_WAIT(t, vd_info(t).connection == VU_WAITING, 2000));
	vd_disconnect(t);
	vd_connect(t);
	vd_start(t);
	/* With memory that has been touched it cannot begin any more. */
	close(s.uffd);
	t->fe.need_reply = 0;
	ts_msg_make(&m, TS_POSTCOPY_ADVISE, NULL, 0);
	ask(t, &m, &reply, 0);
	s.uffd = reply.fds[0];
	assert_int_equal(simple(t, TS_POSTCOPY_LISTEN), -EREMOTEIO);
	vd_assert_traffic(t, 0, 1);
	end(&s);
}

/* By default it is not offered, and then not known. */
static void only_if_configured(void **state)
{
	struct vd *t = *state;

	for (uint32_t id = TS_POSTCOPY_ADVISE; id <= TS_POSTCOPY_END; id++) {
		struct ts_msg m;

		if (id == TS_POSTCOPY_ADVISE)
			vd_listen(t, 1, &ts_qemu_10);
		else
			vd_connect(t);
		t->fe.want_protocol |= TS_BIT(TS_PROTO_PAGEFAULT);
		vd_start(t);
		assert_false(t->fe.offered_protocol & TS_BIT(TS_PROTO_PAGEFAULT));
		ts_msg_make(&m, id, NULL, 0);
		vd_ok(t, ts_send_msg(&t->fe, &m));
		assert_true(VD_WAIT(t, vd_info(t).connection == VU_WAITING, 2000));
		assert_non_null(strstr(vd_info(t).last_error, "without its protocol feature"));
		vd_disconnect(t);
	}
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, vd_setup, vd_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(trap_5_15_table),
		VD_BOTH(trap_5_15_slots),
		VD_BOTH(trap_5_15_table_with_an_iommu),
		VD_BOTH(trap_5_15_slots_with_an_iommu),
		VD_BOTH(trap_5_15_control_goes_on),
		VD_BOTH(trap_5_15_iommu_looks_ahead),
		VD_BOTH(trap_5_15_ring_moves),
		VD_BOTH(trap_5_15_pages_go_again),
		VD_BOTH(gone_in_the_middle),
		CASE(refusals),
		CASE(only_if_configured),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

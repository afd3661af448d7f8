/* SPDX-License-Identifier: BSD-3-Clause */
/* The source of a post-copy migration. */
#include "vd_postcopy.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define HOLD_MS 5000u /* so that who sleeps is found, and not waited for for ever */

static void fetch(struct vd_source *s, uint64_t address)
{
	for (unsigned i = 0; i < s->t->guest->n; i++) {
		const struct ts_region *r = &s->t->guest->r[i];
		uint64_t off = (address & ~(uint64_t)(VD_PAGE - 1)) - s->base[i];
		struct uffdio_range wake = {address & ~(uint64_t)(VD_PAGE - 1), VD_PAGE};

		if (off >= r->size)
			continue;
		/* By the file: to ThreadSanitizer a page that comes is nobody's access. */
		if (pwrite(r->fd, s->copy[i] + off, VD_PAGE, (off_t)(r->mmap_offset + off)) !=
			VD_PAGE)
			continue;
		ioctl(s->uffd, UFFDIO_WAKE, &wake);
		virtq_store(&s->served, s->served + 1);
	}
}

static void *serve(void *arg)
{
	struct vd_source *s = arg;
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
static void leave_source(struct vd_source *s)
{
	for (unsigned i = 0; i < s->t->guest->n; i++) {
		const struct ts_region *r = &s->t->guest->r[i];

		s->copy[i] = malloc(r->size);
		assert_non_null(s->copy[i]);
		memcpy(s->copy[i], r->va, r->size);
		assert_int_equal(ts_region_punch(s->t->guest, i, 0, r->size), 0);
	}
}

static uint64_t pages_here(const struct vd_source *s)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < s->t->guest->n; i++) {
		const struct ts_region *r = &s->t->guest->r[i];
		unsigned char *there = malloc(r->size / VD_PAGE);

		assert_int_equal(mincore(r->va, r->size, there), 0);
		for (uint64_t k = 0; k < r->size / VD_PAGE; k++)
			n += there[k] & 1;
		free(there);
	}
	return n;
}

/* ---- messages ---- */

void vd_source_ask(struct vd *t, struct ts_msg *m, struct ts_reply *reply, uint32_t size)
{
	vd_ok(t, ts_send_msg(&t->fe, m));
	vd_ok(t, ts_recv_reply(&t->fe, reply));
	assert_int_equal(reply->hdr.request, m->hdr.request);
	assert_int_equal(reply->hdr.flags, 5);
	assert_int_equal(reply->hdr.size, size);
}

void vd_source_advise(struct vd_source *s)
{
	struct vd *t = s->t;
	struct ts_reply reply;
	struct ts_msg m;

	ts_msg_make(&m, TS_POSTCOPY_ADVISE, NULL, 0);
	vd_source_ask(t, &m, &reply, 0);
	assert_int_equal(reply.n_fds, 1);
	s->uffd = reply.fds[0];
	ts_msg_make(&m, TS_POSTCOPY_LISTEN, NULL, 0);
	m.hdr.flags |= 1u << 3;
	vd_source_ask(t, &m, &reply, 8);
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

static void send_table(struct vd_source *s)
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
	vd_source_ask(t, &m, &reply, size);
	where = (const struct ts_mem_table *)reply.payload;
	assert_int_equal(where->n, table.n);
	for (unsigned i = 0; i < table.n; i++) {
		assert_int_equal(where->region[i].gpa, table.region[i].gpa);
		s->base[i] = where->region[i].uva;
	}
}

void vd_source_send_slots(struct vd_source *s)
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
		vd_source_ask(t, &m, &reply, sizeof(slot));
		where = (const struct ts_mem_slot *)reply.payload;
		assert_int_equal(where->region.gpa, r->gpa);
		s->base[i] = where->region.uva;
	}
}

/* ---- from the connection to running rings ---- */

void vd_source_arrive(struct vd_source *s, bool slots)
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

	vd_source_advise(s);
	if (slots)
		vd_source_send_slots(s);
	else
		send_table(s);
	assert_int_equal(pages_here(s), 0); /* mapped, not touched */
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
	s->serving = true;
	acknowledge(t, slots ? TS_ADD_MEM_REG : TS_SET_MEM_TABLE);
	vd_ok(t, ts_fe_run(&t->fe, rings));
	vd_ok(t, ts_fe_barrier(&t->fe));
}

void vd_source_begin(struct vd_source *s, bool slots)
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
	assert_int_not_equal(ts_alloc(t->guest, 0, VD_PAGE, VD_PAGE), TS_NOMEM);
	vd_guest_sends(t, 1, VD_SOURCE_FRAMES);
	vd_guest_posts(t, 0, VD_SOURCE_FRAMES);
	leave_source(s);
}

void vd_source_end(struct vd_source *s)
{
	virtq_store(&s->stop, true);
	if (s->serving)
		pthread_join(s->thread, NULL);
	if (s->uffd >= 0)
		close(s->uffd);
	for (unsigned i = 0; i < s->t->guest->n; i++)
		free(s->copy[i]);
}

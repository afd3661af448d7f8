/* SPDX-License-Identifier: BSD-3-Clause */
/* ADD_MEM_REG and REM_MEM_REG: what they take, what they refuse, and regions that come and go while rings run. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vd.h"

#define K      1024ull
#define SLOTS  509u
#define STEP   (16 * K) /* of one region to the next in the file: never neighbours */
#define GPA(i) (TS_BIT(32) + (i)*64 * K)
#define UVA(i) (TS_BIT(45) + (i)*64 * K)

/* A file for regions besides the guest's own; closed by whoever made it. */
static int make_file(void)
{
	int fd = memfd_create("slots", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)((SLOTS + 1) * STEP)), 0);
	return fd;
}

#define MAPS() ts_count_maps("memfd:slots")

static struct ts_mem_region region(uint64_t i)
{
	return (struct ts_mem_region){GPA(i), 8 * K, UVA(i), i * STEP};
}

/* One message of `size` payload bytes; the answer. */
static int send_slot(struct vd *t, enum ts_request id, struct ts_mem_region r, uint32_t size,
	const int *fds, unsigned n_fds)
{
	struct {
		struct ts_mem_slot slot;
		uint64_t more;
	} payload = {.slot = {.pad = UINT64_MAX, .region = r}};
	uint64_t ack = 2;

	vd_ok(t, ts_send_raw(
			 &t->fe, id, TS_VERSION | TS_NEED_REPLY, size, &payload, size, fds, n_fds));
	vd_ok(t, ts_recv_answer(&t->fe, id, &ack, sizeof(ack)));
	assert_in_range(ack, 0, 1);
	return ack ? -EREMOTEIO : 0;
}

static int add(struct vd *t, struct ts_mem_region r, int fd)
{
	return send_slot(t, TS_ADD_MEM_REG, r, 40, &fd, 1);
}

static int rem(struct vd *t, struct ts_mem_region r)
{
	return send_slot(t, TS_REM_MEM_REG, r, 40, NULL, 0);
}

static uint32_t count(const struct vd *t)
{
	const struct virtq_mem *mem = vd_info(t).mem;

	return mem ? mem->n : 0;
}

static void begin(struct vd *t, uint16_t pairs)
{
	vd_listen(t, pairs, &ts_qemu_10);
	vd_start(t);
	assert_int_equal(t->fe.mem_slots, SLOTS);
	assert_int_equal(count(t), 2);
}

/* ---- what the messages may look like ---- */

/* QEMU 5.1 sends 36 bytes. What is missing is 0. */
static void trap_5_7_short_payloads(void **state)
{
	struct vd *t = *state;
	int fd = make_file();

	begin(t, 1);
	for (uint32_t size = 30; size <= 42; size++) {
		const bool right = size >= 32 && size <= 40;
		struct ts_mem_region r = region(3);
		struct virtq_region_info info;
		char mark = (char)size, got = 0;

		/* Both halves of the offset say something. */
		r.mmap_offset = size >= 37 ? 0x21000 : 0x1000;
		assert_int_equal(pwrite(fd, &mark, 1, size < 34 ? 0 : (off_t)r.mmap_offset), 1);
		assert_int_equal(
			send_slot(t, TS_ADD_MEM_REG, r, size, &fd, 1), right ? 0 : -EREMOTEIO);
		assert_int_equal(count(t), right ? 3 : 2);
		if (!right)
			continue;
		assert_true(virtq_mem_region(vd_info(t).mem, 2, &info));
		memcpy(&got, info.hva, 1);
		assert_int_equal(got, mark);
		assert_int_equal(send_slot(t, TS_REM_MEM_REG, r, size, NULL, 0), 0);
		assert_int_equal(count(t), 2);
	}
	vd_assert_traffic(t, 0, 1);
	close(fd);
}

/* Only where and how large it is names a region; a descriptor may come along. */
static void removed_by_its_addresses(void **state)
{
	struct vd *t = *state;
	int fd = make_file(), fds, other[2];
	struct ts_mem_region r = region(3);

	begin(t, 1);
	other[0] = other[1] = t->fe.rings[0].kick;
	fds = ts_count_fds(NULL);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(add(t, r, fd), 0);
		assert_int_equal(MAPS(), 1);
		r.mmap_offset = i * 0x123457;
		assert_int_equal(
			send_slot(t, TS_REM_MEM_REG, r, 40, i & 1 ? &fd : other, i % 3 ? 1 : 0), 0);
		assert_int_equal(MAPS(), 0);
		assert_int_equal(ts_count_fds(NULL), fds);
		r = region(3);
	}
	assert_int_equal(send_slot(t, TS_ADD_MEM_REG, r, 40, NULL, 0), -EREMOTEIO);
	assert_int_equal(send_slot(t, TS_ADD_MEM_REG, r, 40, other, 2), -EREMOTEIO);
	assert_int_equal(send_slot(t, TS_REM_MEM_REG, r, 40, other, 2), -EREMOTEIO);
	assert_int_equal(ts_count_fds(NULL), fds);
	close(fd);
}

/* ---- refusals ---- */

/* And the table in force is still this one. */
static void refused(struct vd *t, const struct virtq_mem *mem, int rc, const char *line)
{
	assert_int_equal(rc, -EREMOTEIO);
	assert_string_equal(vd_info(t).last_error, line);
	assert_ptr_equal(vd_info(t).mem, mem);
	vd_assert_traffic(t, 0, 1);
}

static void trap_5_5_refused_leaves_the_old_one(void **state)
{
	struct vd *t = *state;
	struct ts_mem_region r = region(3);
	const struct virtq_mem *mem;
	int fd = make_file();

	begin(t, 1);
	assert_int_equal(add(t, r, fd), 0);
	mem = vd_info(t).mem;
	refused(t, mem, add(t, r, fd), "memory region 3 is the same as one before it");
	r.uva = UVA(4);
	refused(t, mem, add(t, r, fd), "memory regions 2 and 3 overlap in guest addresses");
	r = region(3);
	r.gpa = GPA(4);
	refused(t, mem, add(t, r, fd), "memory regions 2 and 3 overlap in front-end addresses");
	r = region(4);
	r.size = (SLOTS + 1) * STEP;
	refused(t, mem, add(t, r, fd),
		"memory region 3: its file holds 8355840 bytes, 8421376 are needed");
	refused(t, mem, add(t, region(4), t->fe.rings[0].kick),
		"memory region 3: its descriptor is not a memory file (memfd, tmpfs or hugetlbfs)");
	r = region(3);
	r.size -= 4096;
	refused(t, mem, rem(t, r),
		"there is no memory region at guest 0x100030000 size 0x1000 front-end "
		"0x200000030000");
	refused(t, mem, rem(t, region(4)),
		"there is no memory region at guest 0x100040000 size 0x2000 front-end "
		"0x200000040000");
	assert_int_equal(rem(t, region(3)), 0);
	assert_int_equal(MAPS(), 0);
	close(fd);
}

static void as_many_as_promised(void **state)
{
	struct vd *t = *state;
	const struct virtq_mem *mem;
	int fd = make_file();

	begin(t, 1);
	for (unsigned i = 2; i < SLOTS; i++)
		assert_int_equal(add(t, region(i), fd), 0);
	mem = vd_info(t).mem;
	refused(t, mem, add(t, region(SLOTS), fd), "510 memory regions: 1 to 509 are possible");
	assert_int_equal(rem(t, region(77)), 0);
	assert_int_equal(add(t, region(SLOTS), fd), 0);
	assert_int_equal(count(t), SLOTS);
	vd_disconnect(t);
	assert_int_equal(MAPS(), 0);
	close(fd);
}

/* QEMU before 8.0 says all of it once for every pair; a pair may follow much later. */
static void once_for_each_pair(void **state)
{
	struct vd *t = *state;
	struct ts_mem_region x = region(3), y = region(3);
	int fd = make_file();

	y.size = 4 * K; /* lies where x was */
	begin(t, 2);
	assert_int_equal(add(t, x, fd), 0);
	assert_int_equal(add(t, x, fd), 0);
	assert_int_equal(count(t), 3);
	assert_int_equal(MAPS(), 1);
	assert_int_equal(add(t, x, fd), -EREMOTEIO); /* there is no third pair */
	for (unsigned pair = 0; pair < 2; pair++) {
		assert_int_equal(rem(t, x), 0);
		assert_int_equal(add(t, y, fd), 0);
		assert_int_equal(count(t), 3);
	}
	assert_int_equal(rem(t, x), -EREMOTEIO);
	for (unsigned pair = 0; pair < 2; pair++)
		assert_int_equal(rem(t, y), 0);
	assert_int_equal(rem(t, y), -EREMOTEIO);
	assert_int_equal(MAPS(), 0);
	/* What one connection said is nothing to the next. */
	assert_int_equal(add(t, x, fd), 0);
	assert_int_equal(add(t, x, fd), 0);
	vd_disconnect(t);
	vd_connect(t);
	vd_start(t);
	assert_int_equal(rem(t, x), -EREMOTEIO);
	vd_assert_traffic(t, 0, 2);
	close(fd);
}

/* ---- regions with something in them ---- */

/* The region the rings lie in goes: before the answer nothing touches them, nor is it mapped. When it comes
 * back they go on where they were. */
static void trap_5_5_ring_in_a_region_that_goes(void **state)
{
	struct vd *t = *state;
	const struct ts_region *home;
	struct ts_mem_region r;
	uint64_t sent = 0, reaped = 0;
	int maps;

	begin(t, 2);
	home = &t->guest->r[0];
	r = (struct ts_mem_region){home->gpa, home->size, home->uva, home->mmap_offset};
	maps = ts_count_maps("memfd:ts-guest");
	vd_poll_begin(t);
	for (unsigned round = 0; round < 50; round++) {
		vd_guest_sends(t, 3, 20);
		sent += 20;
		assert_int_equal(rem(t, r), 0);
		assert_int_equal(ts_count_maps("memfd:ts-guest"), maps - 1);
		assert_false(vd_ring_info(t, 3).usable || vd_ring_info(t, 0).usable);
		assert_int_equal(vd_info(t).trouble, VU_TROUBLE_RING_ADDRESSES);
		reaped += vd_guest_reaps(t, 3);
		if (round % 10 == 0) {
			vd_poll_end(t);
			for (unsigned i = 0; i < 4; i++)
				vd_assert_dead(t, i);
			vd_poll_begin(t);
		}
		assert_int_equal(add(t, r, home->fd), 0);
		assert_true(vd_ring_info(t, 3).usable);
		assert_true(TS_WAIT((reaped += vd_guest_reaps(t, 3)) == sent, 3000));
	}
	vd_poll_end(t);
	assert_int_equal(t->ring[3].consumed, sent);
	vd_assert_traffic(t, 0, 2);
}

/* The last one goes, too: a device without memory, until it has some again. */
static void all_of_them(void **state)
{
	struct vd *t = *state;
	struct ts_mem_table all;

	begin(t, 1);
	ts_fe_mem_table(&t->fe, &all);
	for (unsigned i = 0; i < all.n; i++)
		assert_int_equal(rem(t, all.region[i]), 0);
	assert_null(vd_info(t).mem);
	assert_int_equal(vd_info(t).trouble, VU_TROUBLE_NO_MEMORY_TABLE);
	vd_assert_dead(t, 1);
	for (unsigned i = 0; i < all.n; i++)
		assert_int_equal(add(t, all.region[i], t->guest->r[i].fd), 0);
	vd_assert_traffic(t, 0, 1);
}

/* ---- under load ---- */

/* What is in flight from slots must come back before one of them goes. */
struct load {
	uint64_t sent[2], reaped[2];
};

static void send_from(struct vd *t, struct load *l, unsigned which, uint64_t gpa)
{
	struct ts_ring *r = t->fe.rings[2 * which + 1].ring;
	const struct ts_seg frame[] = {{gpa, 12}, {gpa + 8 * K - 64, 64}};

	if (r->n_free < 4)
		return;
	assert_int_equal(ts_ring_add(r, frame, 2, NULL, 0, r, TS_DIRECT), 0);
	ts_ring_publish(r);
	l->sent[which]++;
}

static bool all_back(struct vd *t, struct load *l)
{
	for (unsigned i = 0; i < 2; i++)
		l->reaped[i] += vd_guest_reaps(t, 2 * i + 1);
	return l->reaped[0] == l->sent[0] && l->reaped[1] == l->sent[1];
}

/* 10,000 additions and removals, up to all slots, while two rings send from whatever is there. */
static void trap_5_5_ten_thousand_changes(void **state)
{
	bool present[SLOTS + 1] = {false};
	unsigned n = 0, full = 0, round;
	struct vd *t = *state;
	struct load l = {{0}, {0}};
	int fd = make_file(), fds, maps;
	struct ts_rng rng;

	ts_rng_init(&rng, ts_seed());
	begin(t, 2);
	vd_poll_begin(t);
	maps = ts_count_maps(NULL);
	fds = ts_count_fds(NULL);
	for (round = 0; round < 10000; round++) {
		uint64_t i = ts_rand_below(&rng, SLOTS + 1);
		bool up = round / 1500 % 2 == 0;

		/* Towards the full table, then towards the empty one. */
		for (unsigned k = 0; k < 500 && present[i] == up; k++)
			i = ts_rand_below(&rng, SLOTS + 1);
		if (!present[i]) {
			int rc = add(t, region(i), fd);

			assert_int_equal(rc, n == SLOTS - 2 ? -EREMOTEIO : 0);
			full += rc != 0;
			present[i] = rc == 0;
			n += rc == 0;
		} else {
			assert_true(TS_WAIT(all_back(t, &l), 5000));
			assert_int_equal(rem(t, region(i)), 0);
			present[i] = false;
			n--;
		}
		i = ts_rand_below(&rng, SLOTS + 1);
		if (present[i])
			send_from(t, &l, round & 1, GPA(i));
		all_back(t, &l);
		if (round % 500 == 0) {
			assert_int_equal(MAPS(), n);
			assert_int_equal(ts_count_fds(NULL), fds + (int)n); /* one a region */
		}
	}
	assert_true(TS_WAIT(all_back(t, &l), 5000));
	vd_poll_end(t);
	for (unsigned i = 0; i <= SLOTS; i++)
		if (present[i])
			assert_int_equal(rem(t, region(i)), 0);
	assert_int_equal(t->ring[1].consumed, l.sent[0]);
	assert_int_equal(t->ring[3].consumed, l.sent[1]);
	assert_int_equal(MAPS(), 0);
	/* The heap grows, and so does what a sanitizer keeps: not by one in a hundred changes. */
	assert_in_range(ts_count_maps(NULL), 1, maps + 64);
	assert_int_equal(ts_count_fds(NULL), fds);
	vd_assert_traffic(t, 0, 2);
	fprintf(stderr, "# %u changes, %u at a full table, %llu frames\n", round, full,
		(unsigned long long)(l.sent[0] + l.sent[1]));
	assert_true(full > 0);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(trap_5_7_short_payloads),
		VD_BOTH(removed_by_its_addresses),
		VD_BOTH(trap_5_5_refused_leaves_the_old_one),
		VD_BOTH(as_many_as_promised),
		VD_BOTH(once_for_each_pair),
		VD_BOTH(trap_5_5_ring_in_a_region_that_goes),
		VD_BOTH(all_of_them),
		VD_BOTH(trap_5_5_ten_thousand_changes),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

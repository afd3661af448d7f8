/* SPDX-License-Identifier: BSD-3-Clause */
/* SET_MEM_TABLE while the rings run: the same, moved, split, refused. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vd.h"

#define MAPS() ts_count_maps("memfd:ts-guest")

/* A table of the test's own; the answer. */
static int send_table(
	struct vd *t, const struct ts_mem_table *table, const int *fds, unsigned n_fds)
{
	const uint32_t size = 8 + table->n * (uint32_t)sizeof(table->region[0]);
	uint64_t ack = 0;

	vd_ok(t, ts_send_raw(&t->fe, TS_SET_MEM_TABLE, TS_VERSION | TS_NEED_REPLY, size, table,
			 size, fds, n_fds));
	vd_ok(t, ts_recv_answer(&t->fe, TS_SET_MEM_TABLE, &ack, sizeof(ack)));
	return ack ? -EREMOTEIO : 0;
}

static void fds_of(struct vd *t, int *fds)
{
	fds[0] = t->guest->r[0].fd;
	fds[1] = t->guest->r[1].fd;
}

/* The guest's first region as two halves: the same memory, mapped anew. */
static void split_table(struct vd *t, struct ts_mem_table *table, int *fds)
{
	uint64_t half = t->guest->r[0].size / 2;

	ts_fe_mem_table(&t->fe, table);
	fds_of(t, fds);
	table->region[2] = table->region[0];
	table->region[0].size = half;
	table->region[2].gpa += half;
	table->region[2].uva += half;
	table->region[2].mmap_offset += half;
	table->region[2].size -= half;
	fds[2] = fds[0];
	table->n = 3;
}

static void the_same(void **state)
{
	struct vd *t = *state;
	int maps, fds;

	vd_listen(t, 2, &ts_qemu_10);
	vd_start(t);
	maps = MAPS();
	fds = ts_count_fds(NULL);
	for (unsigned i = 0; i < 20; i++) {
		vd_assert_traffic(t, 0, 2);
		vd_ok(t, ts_fe_set_mem_table(&t->fe));
		assert_int_equal(MAPS(), maps);
		assert_int_equal(ts_count_fds(NULL), fds);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(t->ring[i].changes, 1);
	assert_int_equal(t->link_changes, 1);
}

static void split_and_joined(void **state)
{
	struct vd *t = *state;
	struct ts_mem_table table;
	int maps, fds[3];

	vd_listen(t, 2, &ts_qemu_10);
	vd_start(t);
	maps = MAPS();
	for (unsigned i = 0; i < 20; i++) {
		split_table(t, &table, fds);
		assert_int_equal(send_table(t, &table, fds, 3), 0);
		assert_int_equal(MAPS(), maps + 1);
		vd_assert_traffic(t, 0, 2);
		vd_ok(t, ts_fe_set_mem_table(&t->fe));
		assert_int_equal(MAPS(), maps);
		vd_assert_traffic(t, 0, 2);
	}
	assert_int_equal(t->ring[1].changes, 1);
}

/* Rings are found again by the addresses the front-end gave; where those are gone they wait. */
static void moved(void **state)
{
	struct vd *t = *state;
	struct ts_mem_table table;
	uint64_t uva;
	int fds[2];

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	vd_assert_traffic(t, 0, 1);
	uva = t->guest->r[0].uva;
	for (unsigned i = 0; i < 5; i++) {
		t->guest->r[0].uva = uva + (i + 1) * 0x100000000ull;
		ts_fe_mem_table(&t->fe, &table);
		fds_of(t, fds);
		assert_int_equal(send_table(t, &table, fds, 2), 0);
		assert_false(vd_ring_info(t, 0).usable || vd_ring_info(t, 1).usable);
		assert_int_equal(vd_info(t).trouble, VU_TROUBLE_RING_ADDRESSES);
		vd_guest_sends(t, 1, 3);
		vd_assert_dead(t, 1);
		vd_ok(t, ts_fe_set_addr(&t->fe, 0));
		vd_ok(t, ts_fe_set_addr(&t->fe, 1));
		vd_ok(t, ts_fe_barrier(&t->fe));
		assert_int_equal(vd_burst(t, 1), 3);
		assert_int_equal(vd_guest_reaps(t, 1), 3);
		vd_assert_traffic(t, 0, 1);
	}
	t->guest->r[0].uva = uva;
}

/* Only what the rings need goes: their memory stays mapped until they let go. */
static void taken_away(void **state)
{
	struct vd *t = *state;
	struct ts_mem_table table;
	int maps, fds[2];

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	maps = MAPS();
	ts_fe_mem_table(&t->fe, &table);
	fds_of(t, fds);
	table.n = 1;
	table.region[0] = table.region[1];
	assert_int_equal(send_table(t, &table, &fds[1], 1), 0);
	assert_int_equal(MAPS(), maps - 1);
	assert_false(t->link);
	assert_int_equal(t->ring[1].changes, 2);
	vd_assert_dead(t, 1);
	vd_ok(t, ts_fe_set_mem_table(&t->fe));
	assert_true(t->link);
	vd_assert_traffic(t, 0, 1);
}

/* I8 */
static void refused_leaves_the_old_one(void **state)
{
	struct vd *t = *state;
	const struct virtq_mem *mem;
	char line[220];
	int maps, n_fds;

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	mem = vd_info(t).mem;
	maps = MAPS();
	n_fds = ts_count_fds(NULL);
	for (unsigned i = 0; i < 12; i++) {
		struct ts_mem_table table;
		int fds[9], with = 2;

		ts_fe_mem_table(&t->fe, &table);
		fds_of(t, fds);
		fds[2] = fds[0];
		switch (i) {
		case 0: /* overlap in guest addresses */
			table.region[1].gpa = table.region[0].gpa + 4096;
			break;
		case 1: /* in the front-end's */
			table.region[1].uva = table.region[0].uva + table.region[0].size - 1;
			break;
		case 2:
			table.region[1].size = 0;
			break;
		case 3:
			table.region[1].size += 4096;
			break;
		case 4:
			table.region[1].mmap_offset = UINT64_MAX - 8192;
			break;
		case 5:
			table.region[0].gpa = UINT64_MAX - 4096;
			break;
		case 6:
			fds[1] = t->fe.rings[0].kick;
			break;
		case 7: /* fewer descriptors than regions */
			with = 1;
			break;
		case 8: /* and more */
			with = 3;
			break;
		case 9:
			with = 0;
			break;
		case 10:
			table.n = 1;
			break;
		default:
			table.region[1].uva = UINT64_MAX - 4096;
			break;
		}
		assert_int_equal(send_table(t, &table, fds, (unsigned)with), -EREMOTEIO);
		assert_ptr_equal(vd_info(t).mem, mem);
		assert_int_equal(MAPS(), maps);
		assert_int_equal(ts_count_fds(NULL), n_fds);
		snprintf(line, sizeof(line), "refused: %s", vd_info(t).last_error);
		assert_true(vd_logged(t, line));
		assert_int_equal(vd_info(t).trouble, VU_TROUBLE_NONE); /* because it works */
		vd_assert_traffic(t, 0, 1);
	}
}

static void count_of_regions(void **state)
{
	static const uint32_t bad[] = {0, 9, 255, 0x80000000, 0xffffffff};
	struct vd *t = *state;
	struct ts_mem_table table;
	int fds[8];

	vd_listen(t, 1, &ts_qemu_10);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(bad); i++) {
		struct ts_msg m;
		uint64_t ack = 0;

		ts_fe_mem_table(&t->fe, &table);
		fds_of(t, fds);
		table.n = bad[i];
		ts_msg_make(&m, TS_SET_MEM_TABLE, &table, sizeof(table));
		m.hdr.flags |= TS_NEED_REPLY;
		memcpy(m.fds, fds, 2 * sizeof(*fds));
		m.n_fds = 2;
		vd_ok(t, ts_send_msg(&t->fe, &m));
		vd_ok(t, ts_recv_answer(&t->fe, TS_SET_MEM_TABLE, &ack, sizeof(ack)));
		assert_int_equal(ack, 1);
		assert_null(vd_info(t).mem);
		assert_int_equal(vd_info(t).trouble, VU_TROUBLE_MEMORY_REJECTED);
	}
	for (table.n = 0; table.n < 8; table.n++) {
		table.region[table.n] = (struct ts_mem_region){
			table.n * 65536ull, 65536, table.n * 65536ull, table.n * 65536ull};
		fds[table.n] = t->guest->r[0].fd;
	}
	for (; table.n > 0; table.n--)
		assert_int_equal(send_table(t, &table, fds, table.n), 0);
	table.n = 8;
	assert_int_equal(send_table(t, &table, fds, 8), 0);
}

/* A disabled ring is drained through the table in force, not through the one it started with. */
static void changed_while_drained(void **state)
{
	struct vd *t = *state;
	struct ts_mem_table table;
	int maps, fds[3];

	vd_listen(t, 1, &ts_qemu_10);
	vd_start(t);
	maps = MAPS();
	vd_ok(t, ts_fe_enable(&t->fe, 1, false));
	for (unsigned i = 0; i < 5; i++) {
		split_table(t, &table, fds);
		assert_int_equal(send_table(t, &table, fds, 3), 0);
		assert_int_equal(MAPS(), maps + 1);
		vd_guest_sends(t, 1, 5);
		assert_true(VD_WAIT(t, ts_ring_more_used(t->fe.rings[1].ring), 1000));
		assert_int_equal(vd_guest_reaps(t, 1), 5);
		vd_ok(t, ts_fe_set_mem_table(&t->fe));
		assert_int_equal(MAPS(), maps);
	}
}

/* Under a polling thread: nothing faults, nothing grows, no frame is lost or seen twice. */
static void trap_5_5_under_load(void **state)
{
	struct vd *t = *state;
	uint64_t sent = 0, reaped = 0, end = ts_now_ms() + 2000;
	struct ts_mem_table table;
	int maps, n_fds, fds[3];
	unsigned round;

	vd_listen(t, 2, &ts_qemu_10);
	vd_start(t);
	maps = MAPS();
	vd_poll_begin(t);
	n_fds = ts_count_fds(NULL);
	for (round = 0; round < 50 || (round < 10000 && ts_now_ms() < end); round++) {
		unsigned n = t->fe.rings[3].ring->n_free / 4;

		vd_guest_sends(t, 3, n);
		sent += n;
		switch (round % 3) {
		case 0:
			split_table(t, &table, fds);
			assert_int_equal(send_table(t, &table, fds, 3), 0);
			break;
		case 1:
			split_table(t, &table, fds);
			table.region[2].size += 4096;
			assert_int_equal(send_table(t, &table, fds, 3), -EREMOTEIO);
			break;
		default:
			vd_ok(t, ts_fe_set_mem_table(&t->fe));
			break;
		}
		reaped += vd_guest_reaps(t, 3);
	}
	vd_ok(t, ts_fe_set_mem_table(&t->fe));
	assert_true(VD_WAIT(t, (reaped += vd_guest_reaps(t, 3)) == sent, 3000));
	vd_poll_end(t);
	assert_int_equal(t->ring[3].consumed, sent);
	assert_int_equal(MAPS(), maps);
	assert_int_equal(ts_count_fds(NULL), n_fds);
	fprintf(stderr, "# %u tables, %llu frames\n", round, (unsigned long long)sent);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VD_BOTH(the_same),
		VD_BOTH(split_and_joined),
		VD_BOTH(moved),
		VD_BOTH(taken_away),
		VD_BOTH(refused_leaves_the_old_one),
		VD_BOTH(count_of_regions),
		VD_BOTH(changed_while_drained),
		VD_BOTH(trap_5_5_under_load),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The state file: what is believed of it, whose it is, and what it is when nothing is kept. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vd_handover.h"

static char path[64], other[64];

static int setup(void **state)
{
	snprintf(path, sizeof(path), "/dev/shm/sluice-test-%d.state", getpid());
	snprintf(other, sizeof(other), "/dev/shm/sluice-test-%d.other", getpid());
	return vd_setup(state);
}

static int teardown(void **state)
{
	int err = vd_teardown(state);

	unlink(path);
	unlink(other);
	return err;
}

/* A device with packed rings and a state file, and its guest. */
static void begin(struct vd *t, const char *file)
{
	vd_conf(t, 1);
	t->conf.state_path = file;
	vd_create(t);
	vd_front_end(t, &ts_qemu_10);
	vd_connect(t);
	t->fe.want |= TS_BIT(VIRTIO_F_RING_PACKED);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	ts_guest_forget(t->guest);
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, TS_RING_SHUFFLE));
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_assert_traffic(t, 0, 1);
}

/* The front-end comes back and knows no more than where it began. */
static void come_back(struct vd *t)
{
	vd_disconnect(t);
	vd_connect(t);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	t->fe.rings[0].base = t->fe.rings[1].base = 0x80008000;
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
}

/* Copy a file, so that it looks as it did when the process died. */
static void copy(const char *from, const char *to)
{
	static char buf[1 << 16];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		assert_int_equal(write(out, buf, (size_t)n), n);
	close(in);
	close(out);
}

static void a_packed_ring_goes_on(void **state)
{
	struct vd *t = *state;

	begin(t, path);
	for (unsigned i = 0; i < 20; i++) {
		come_back(t);
		vd_assert_traffic(t, 0, 1);
	}
	vd_disconnect(t);
	vd_destroy(t);
	assert_int_equal(access(path, F_OK), -1); /* nothing is left */
}

static void it_is_small_and_ours_only(void **state)
{
	struct vd *t = *state;
	struct stat st;

	begin(t, path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true(st.st_blocks * 512 < 64 * 1024);
	vd_disconnect(t);
	vd_destroy(t);
}

/* Each byte of the header, wrong. */
static void damaged_files_are_written_anew(void **state)
{
	struct vd *t = *state;
	char byte;
	int fd;

	begin(t, path);
	copy(path, other);
	vd_disconnect(t);
	vd_destroy(t);
	for (off_t at = 0; at < 24; at++) {
		copy(other, path);
		fd = open(path, O_RDWR);
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x41;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		close(fd);
		vd_forget_log(t);
		vd_create(t);
		assert_true(vd_logged(t, "rings start clean: state file"));
		vd_destroy(t);
	}
}

static void cut_and_foreign_files(void **state)
{
	static const struct {
		off_t size;
		const char *said;
	} cuts[] = {{1, "it is no state file"}, {23, "it is no state file"}, {24, "it is cut off"},
		{5000, "it is cut off"}, {2000000, "it is cut off"}};
	struct vd *t = *state;

	begin(t, path);
	copy(path, other);
	vd_disconnect(t);
	vd_destroy(t);
	for (unsigned i = 0; i < TS_ARRAY_SIZE(cuts); i++) {
		copy(other, path);
		assert_int_equal(truncate(path, cuts[i].size), 0);
		vd_forget_log(t);
		vd_create(t);
		assert_true(vd_logged(t, cuts[i].said));
		vd_destroy(t);
	}
	copy(other, path);
	t->conf.queue_pairs = 2;
	vd_forget_log(t);
	vd_create(t);
	assert_true(vd_logged(t, "it is of a port with another number of queues"));
	vd_destroy(t);
}

/* Somebody empties the file under a switch that uses it: rings go on, as without one. */
static void one_that_is_cut_off_while_it_is_used(void **state)
{
	static const off_t left[] = {0, 4096};
	struct vd *t = *state;

	for (unsigned i = 0; i < TS_ARRAY_SIZE(left); i++) {
		vd_forget_log(t);
		begin(t, path);
		assert_int_equal(truncate(path, left[i]), 0);
		vd_assert_traffic(t, 0, 1);
		/* The next start looks at the header. */
		vd_ok(t, ts_fe_stop(&t->fe));
		vd_ok(t, ts_fe_start(&t->fe));
		vd_ok(t, ts_fe_barrier(&t->fe));
		vd_assert_traffic(t, 0, 1);
		assert_true(vd_logged(t, "was cut off while it was used"));
		assert_int_equal(access(path, F_OK), -1);
		vd_disconnect(t);
		vd_destroy(t);
	}
}

static void works_without(struct vd *t, const char *file, const char *said)
{
	vd_forget_log(t);
	begin(t, file);
	assert_true(vd_logged(t, said));
	vd_disconnect(t);
	vd_destroy(t);
}

static void files_that_cannot_be_had(void **state)
{
	struct vd *t = *state;
	int fd;

	works_without(t, "/dev/shm/no/such/folder/x", "No such file or directory");
	works_without(t, "/dev/shm", "Is a directory");
	assert_int_equal(symlink(other, path), 0);
	works_without(t, path, "it is a symbolic link");
	assert_int_equal(access(other, F_OK), -1);
	unlink(path);
	fd = open(path, O_RDWR | O_CREAT, 0644);
	fchmod(fd, 0644);
	works_without(t, path, "others may read or write it");
	fchmod(fd, 0600);
	assert_int_equal(link(path, other), 0);
	works_without(t, path, "it has another name as well");
	unlink(other);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	works_without(t, path, "another process has it");
	assert_int_equal(access(path, F_OK), 0); /* theirs */
	close(fd);
}

/* A ring's row or part is not what it was: that ring begins where the front-end says. */
static void another_guest_starts_clean(void **state)
{
	struct vd *t = *state;

	begin(t, path);
	vd_disconnect(t);
	vd_connect(t);
	vd_ok(t, ts_fe_negotiate(&t->fe));
	/* A driver that was reset: the same places, cleared. */
	ts_guest_forget(t->guest);
	t->fe.rings[0].base = t->fe.rings[1].base = TS_FRESH;
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE, TS_RING_SHUFFLE));
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_assert_traffic(t, 0, 1);
	/* Other sizes. */
	vd_ok(t, ts_fe_stop(&t->fe));
	ts_guest_forget(t->guest);
	t->fe.rings[0].base = t->fe.rings[1].base = TS_FRESH;
	vd_ok(t, ts_fe_make_rings(&t->fe, 0, VD_RING_SIZE / 2, TS_RING_SHUFFLE));
	vd_ok(t, ts_fe_start(&t->fe));
	vd_ok(t, ts_fe_barrier(&t->fe));
	vd_assert_traffic(t, 0, 1);
	vd_disconnect(t);
	vd_destroy(t);
}

/* The next process goes on there; once the rings are stopped there is nothing to go on with. */
static void an_end_in_order(void **state)
{
	struct vd *t = *state;

	begin(t, path);
	for (unsigned i = 0; i < 3; i++) {
		vu_device_leave(t->dev);
		vd_destroy(t);
		assert_int_equal(access(path, F_OK), 0);
		vd_create(t);
		come_back(t);
		vd_assert_traffic(t, 0, 1);
	}
	for (unsigned ring = 0; ring < 2; ring++)
		vd_ok(t, ts_fe_get_base(&t->fe, ring));
	vu_device_leave(t->dev);
	vd_destroy(t);
	assert_int_equal(access(path, F_OK), -1);
}

/* Each device that has it next writes a record of its own, and the one before removes none but its own. */
static void it_moves_with_its_device(void **state)
{
	struct vd *t = *state;
	struct stat before, after;

	begin(t, path);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(stat(path, &before), 0);
		vd_move(t);
		assert_int_equal(stat(path, &after), 0);
		assert_int_not_equal(before.st_ino, after.st_ino);
		vd_assert_traffic(t, 0, 1);
	}
	come_back(t);
	vd_assert_traffic(t, 0, 1);
	vd_destroy(t);
	assert_int_equal(stat(path, &after), -1);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(a_packed_ring_goes_on),
		CASE(it_is_small_and_ours_only),
		CASE(damaged_files_are_written_anew),
		CASE(cut_and_foreign_files),
		CASE(one_that_is_cut_off_while_it_is_used),
		CASE(files_that_cannot_be_had),
		CASE(another_guest_starts_clean),
		CASE(an_end_in_order),
		CASE(it_moves_with_its_device),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

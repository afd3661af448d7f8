/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that vanishes: what is read then, who is told, and what every other SIGBUS does. */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ts_tap.h"
#include "ts_util.h"
#include "virtq.h"
#include "virtq_trap.h"

#define K    1024ull
#define M    (1024 * K)
#define SIZE (4 * M)

static int file_of(uint64_t len, unsigned flags)
{
	int fd = memfd_create("vm", MFD_CLOEXEC | flags);

	if (fd < 0 && flags)
		ts_skip("the kernel has no huge pages of this size");
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	return fd;
}

static struct virtq_mem *share(int fd, uint64_t len, const struct virtq_mem *old)
{
	const struct virtq_mem_req req = {.size = len, .fd = fd};
	struct virtq_mem *mem = NULL;
	char why[200] = "";

	if (virtq_mem_create(&req, 1, old, &mem, why, sizeof(why)) != 0)
		fail_msg("refused: %s", why);
	return mem;
}

static uint8_t *at(const struct virtq_mem *mem, uint64_t gpa)
{
	uint64_t len = 1;
	uint32_t hint = 0;

	return virtq_mem_gpa(mem, &hint, gpa, &len);
}

/* ---- ours ---- */

/* Zeros can be read and anything written, all over the region; the rest of it stays shared. */
static void truncated(void **state)
{
	const int fd = file_of(SIZE, 0), other_fd = file_of(SIZE, 0);
	struct virtq_mem *mem = share(fd, SIZE, NULL), *other = share(other_fd, SIZE, NULL);
	uint8_t byte;

	(void)state;
	memset(at(mem, 0), 0x5a, SIZE);
	memset(at(other, 0), 0x5b, SIZE);
	assert_int_equal(ftruncate(fd, M), 0);
	assert_false(virtq_mem_gone(mem));
	for (uint64_t gpa = 0; gpa < SIZE; gpa += 4 * K)
		assert_int_equal(virtq_load(at(mem, gpa)), gpa < M ? 0x5a : 0);
	assert_true(virtq_mem_gone(mem));
	memset(at(mem, 0), 0x77, SIZE);
	assert_int_equal(virtq_load(at(mem, SIZE - 1)), 0x77);
	assert_int_equal(pread(fd, &byte, 1, M - 1), 1);
	assert_int_equal(byte, 0x77);
	assert_false(virtq_mem_gone(other));
	assert_int_equal(virtq_load(at(other, SIZE - 1)), 0x5b);
	virtq_mem_put(mem);
	virtq_mem_put(other);
	assert_int_equal(ts_count_maps("memfd:vm"), 0);
	close(fd);
	close(other_fd);
}

/* A file that is whole again does not make the mapping whole: a later table gets another. */
static void not_used_again(void **state)
{
	const int fd = file_of(SIZE, 0);
	struct virtq_mem *mem = share(fd, SIZE, NULL), *same, *later;

	(void)state;
	same = share(fd, SIZE, mem);
	assert_ptr_equal(at(mem, 0), at(same, 0));
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(virtq_load(at(mem, M)), 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	assert_true(virtq_mem_gone(same));
	later = share(fd, SIZE, mem);
	assert_ptr_not_equal(at(later, 0), at(mem, 0));
	assert_false(virtq_mem_gone(later));
	assert_int_equal(pwrite(fd, "x", 1, M), 1);
	assert_int_equal(virtq_load(at(later, M)), 'x');
	virtq_mem_put(mem);
	virtq_mem_put(same);
	virtq_mem_put(later);
	close(fd);
}

/* The eventfd tells each time, by an edge: nobody has to read it. */
static void told(void **state)
{
	const int fd = file_of(SIZE, 0);
	struct virtq_mem *mem = share(fd, SIZE, NULL);
	struct pollfd p = {.fd = virtq_trap_fd(), .events = POLLIN};
	uint64_t before = 0, after = 0;

	(void)state;
	if (poll(&p, 1, 0) == 1)
		assert_int_equal(read(p.fd, &before, sizeof(before)), sizeof(before));
	assert_int_equal(ftruncate(fd, 0), 0);
	for (uint64_t gpa = 0; gpa < SIZE; gpa += M)
		virtq_load(at(mem, gpa));
	assert_int_equal(read(p.fd, &after, sizeof(after)), sizeof(after));
	assert_int_equal(after, SIZE / M);
	virtq_mem_put(mem);
	close(fd);
}

/* No page of a gigabyte is free, on nearly any machine; where one is, the test has it. */
static void huge_page_that_is_not_there(void **state)
{
	const int fd = file_of(1024 * M, MFD_HUGETLB | MFD_HUGE_1GB);
	struct virtq_mem *mem = share(fd, 1024 * M, NULL);

	(void)state;
	virtq_load(at(mem, 77 * M));
	if (!virtq_mem_gone(mem)) {
		virtq_mem_put(mem);
		close(fd);
		ts_skip("there is a free page of 1 GiB");
	}
	for (uint64_t gpa = 0; gpa < 1024 * M; gpa += 64 * M)
		virtq_store(at(mem, gpa), (uint8_t)1);
	virtq_mem_put(mem);
	close(fd);
}

/* The page of a hole that was punched is made anew where there is memory. */
static void hole(void **state)
{
	const int fd = file_of(SIZE, 0);
	struct virtq_mem *mem = share(fd, SIZE, NULL);

	(void)state;
	memset(at(mem, 0), 0x5a, SIZE);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, M), 0);
	assert_int_equal(virtq_load(at(mem, 0)), 0);
	assert_int_equal(virtq_load(at(mem, M)), 0x5a);
	assert_false(virtq_mem_gone(mem));
	virtq_mem_put(mem);
	close(fd);
}

/* ---- many threads ---- */

static bool stop_churning;

static void *churn(void *arg)
{
	const int fd = file_of(M, 0);

	while (!virtq_load((bool *)arg)) {
		struct virtq_mem *mem[80];

		for (unsigned i = 0; i < TS_ARRAY_SIZE(mem); i++)
			mem[i] = share(fd, (1 + i % 7) * 128 * K, NULL);
		for (unsigned i = 0; i < TS_ARRAY_SIZE(mem); i++)
			virtq_mem_put(mem[i]);
	}
	close(fd);
	return NULL;
}

static void *sweep(void *arg)
{
	struct virtq_mem *mem = arg;

	for (uint64_t gpa = 0; gpa < SIZE; gpa += 4 * K)
		virtq_store(at(mem, gpa), (uint8_t)(virtq_load(at(mem, gpa)) + 1));
	return NULL;
}

/* Two lcores fault in the same pages while control maps and unmaps others. */
static void together(void **state)
{
	pthread_t churner, sweeper[2];

	(void)state;
	virtq_store(&stop_churning, false);
	assert_int_equal(pthread_create(&churner, NULL, churn, &stop_churning), 0);
	for (unsigned round = 0; round < 50; round++) {
		const int fd = file_of(SIZE, 0);
		struct virtq_mem *mem = share(fd, SIZE, NULL);

		assert_int_equal(ftruncate(fd, 0), 0);
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(pthread_create(&sweeper[i], NULL, sweep, mem), 0);
		for (unsigned i = 0; i < 2; i++)
			pthread_join(sweeper[i], NULL);
		assert_true(virtq_mem_gone(mem));
		virtq_mem_put(mem);
		close(fd);
	}
	virtq_store(&stop_churning, true);
	pthread_join(churner, NULL);
	assert_int_equal(ts_count_maps("memfd:vm"), 0);
}

/* ---- in a process of its own ---- */

/* How the child ended: its exit status, or minus its signal. */
static int in_child(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		const struct sigaction by_default = {.sa_handler = SIG_DFL};

		sigaction(SIGBUS, &by_default, NULL);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Memory of nobody's that faults; and ours, so that the handler is there. */
static uint8_t *foreign(void)
{
	const int fd = file_of(SIZE, 0);
	uint8_t *va = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	share(file_of(SIZE, 0), SIZE, NULL);
	if (va == MAP_FAILED || ftruncate(fd, 0) != 0)
		_exit(99);
	return va;
}

static void touch_foreign(void)
{
	virtq_load(foreign());
}

/* One that was set while ours was there, and calls it, or (later) ours calls it: no circle. */
static struct sigaction ours;

static void call_ours(int sig, siginfo_t *info, void *context)
{
	ours.sa_sigaction(sig, info, context);
}

static void touch_both(void)
{
	const struct sigaction a = {.sa_flags = SA_SIGINFO, .sa_sigaction = call_ours};
	const int fd = file_of(SIZE, 0);
	struct virtq_mem *mem;

	foreign();
	sigaction(SIGBUS, &a, &ours);
	mem = share(fd, SIZE, NULL);
	alarm(10);
	if (ftruncate(fd, 0) != 0 || virtq_load(at(mem, 0)) != 0)
		_exit(95);
	sigaction(SIGBUS, &a, NULL);
	if (virtq_load(at(mem, M)) != 0)
		_exit(94);
	virtq_load(foreign());
}

static uint8_t *expected;

static void exit_if_address(int sig, siginfo_t *info, void *context)
{
	_exit(sig == SIGBUS && context && info->si_addr == expected ? 42 : 43);
}

static void touch_handled(void)
{
	const struct sigaction a = {.sa_flags = SA_SIGINFO, .sa_sigaction = exit_if_address};

	sigaction(SIGBUS, &a, NULL);
	expected = foreign();
	virtq_load(expected);
}

static void exit_if_bus(int sig)
{
	_exit(sig == SIGBUS ? 42 : 43);
}

static void with(void (*handler)(int))
{
	const struct sigaction a = {.sa_handler = handler};

	sigaction(SIGBUS, &a, NULL);
	foreign();
}

static void touch_handled_simply(void)
{
	with(exit_if_bus);
	virtq_load(foreign());
}

static void touch_ignored(void)
{
	with(SIG_IGN);
	virtq_load(foreign());
}

static void sent(void)
{
	with(SIG_DFL);
	kill(getpid(), SIGBUS);
}

static void sent_ignored(void)
{
	with(SIG_IGN);
	kill(getpid(), SIGBUS);
	_exit(7);
}

static void sent_handled(void)
{
	with(exit_if_bus);
	kill(getpid(), SIGBUS);
}

static void not_ours(void **state)
{
	(void)state;
	assert_int_equal(in_child(touch_handled), 42);
	assert_int_equal(in_child(touch_handled_simply), 42);
	assert_int_equal(in_child(touch_ignored), -SIGBUS);
	assert_int_equal(in_child(touch_foreign), -SIGBUS);
	assert_int_equal(in_child(touch_both), -SIGBUS);
	assert_int_equal(in_child(sent), -SIGBUS);
	assert_int_equal(in_child(sent_ignored), 7);
	assert_int_equal(in_child(sent_handled), 42);
}

/* As many mappings as a process may have: then all of the region is replaced, which needs no more. */
static void crowded(void)
{
	const int fd = file_of(SIZE, 0);
	struct virtq_mem *mem = share(fd, SIZE, NULL);
	const size_t page = 4096, pages = 1u << 18;
	uint8_t *va = mmap(NULL, pages * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (va == MAP_FAILED || ftruncate(fd, 0) != 0)
		_exit(98);
	for (size_t i = 1; i < pages; i += 2)
		if (mprotect(va + i * page, page, PROT_READ) != 0)
			break;
	virtq_load(at(mem, 2 * M));
	if (!virtq_mem_gone(mem))
		_exit(97);
	for (uint64_t gpa = 0; gpa < SIZE; gpa += 4 * K)
		if (virtq_load(at(mem, gpa)) != 0)
			_exit(96);
	virtq_mem_put(mem);
	_exit(42);
}

static void no_room_for_a_piece(void **state)
{
	(void)state;
	if (TS_SANITIZED)
		ts_skip("a sanitizer needs mappings of its own");
	assert_int_equal(in_child(crowded), 42);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(not_ours),
		cmocka_unit_test(truncated),
		cmocka_unit_test(not_used_again),
		cmocka_unit_test(told),
		cmocka_unit_test(hole),
		cmocka_unit_test(huge_page_that_is_not_there),
		cmocka_unit_test(together),
		cmocka_unit_test(no_room_for_a_piece),
	};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

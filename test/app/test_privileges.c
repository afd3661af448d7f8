/* SPDX-License-Identifier: BSD-3-Clause */
/* What a switch can still do once it has given up the rest: each case in a process of its own. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cap-ng.h>

#include "privileges.h"
#include "ts_tap.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static char program[] = "sluice", mode_va[] = "--iova-mode=va", mode[] = "--iova-mode", va[] = "va";
static char *physical[] = {program, va};
static char *virtual[] = {program, mode_va};
static char *virtual_in_two[] = {program, mode, va};

/* Runs it in a child; its exit status, -1: it was killed. */
static int apart(int (*what)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(what());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool limit(int n, char **argv)
{
	char why[200];

	return privileges_limit(n, argv, why, sizeof(why)) == 0;
}

static bool has(unsigned capability)
{
	capng_get_caps_process();
	return capng_have_capability(CAPNG_EFFECTIVE, capability) ||
	       capng_have_capability(CAPNG_PERMITTED, capability) ||
	       capng_have_capability(CAPNG_BOUNDING_SET, capability);
}

static int limited(void)
{
	static const unsigned gone[] = {CAP_SYS_MODULE, CAP_SYS_PTRACE, CAP_SYS_BOOT, CAP_SYS_TIME,
		CAP_SETUID, CAP_SETGID, CAP_SETPCAP, CAP_KILL, CAP_MKNOD, CAP_SYS_CHROOT,
		CAP_DAC_READ_SEARCH, CAP_SETFCAP, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE};
	static const unsigned there[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_IPC_LOCK, CAP_NET_ADMIN,
		CAP_NET_RAW, CAP_SYS_ADMIN};
	bool before[COUNT(there)]; /* root in a container has not all of them */

	for (unsigned i = 0; i < COUNT(there); i++)
		before[i] = has(there[i]);
	if (!limit(COUNT(physical), physical))
		return 1;
	for (unsigned i = 0; i < COUNT(gone); i++)
		if (has(gone[i]))
			return 2;
	for (unsigned i = 0; i < COUNT(there); i++)
		if (has(there[i]) != before[i])
			return 3;
	return 0;
}

static int no_admin(void)
{
	return !limit(COUNT(virtual), virtual) || has(CAP_SYS_ADMIN);
}

static int no_admin_in_two(void)
{
	return !limit(COUNT(virtual_in_two), virtual_in_two) || has(CAP_SYS_ADMIN);
}

/* Whoever has less to begin with is not given more, and need not be root. */
static int unprivileged(void)
{
	if (setgid(65534) || setuid(65534) || !limit(COUNT(physical), physical))
		return 1;
	capng_get_caps_process();
	return capng_have_capabilities(CAPNG_SELECT_CAPS) != CAPNG_NONE;
}

static void capabilities(void **state)
{
	if (geteuid() != 0)
		ts_skip("only root has capabilities to give up");
	assert_int_equal(apart(limited), 0);
	assert_int_equal(apart(no_admin), 0);
	assert_int_equal(apart(no_admin_in_two), 0);
	assert_int_equal(apart(unprivileged), 0);
}

/* ---- system calls ---- */

static void *nothing(void *arg)
{
	return arg;
}

/* Another thread, there before: it must be no way around. */
static void *execute(void *arg)
{
	char *argv[] = {program, NULL}, *env[] = {NULL};

	pthread_barrier_wait(arg); /* there */
	pthread_barrier_wait(arg); /* sealed */
	return (void *)(intptr_t)(execve("/bin/true", argv, env) == -1 && errno == EPERM);
}

static int sealed(void)
{
	char *argv[] = {program, NULL}, *env[] = {NULL}, why[200];
	char from = 1, to = 0;
	struct iovec here = {&to, 1}, there = {&from, 1};
	pthread_barrier_t turn;
	pthread_t earlier, later;
	void *refused;

	pthread_barrier_init(&turn, NULL, 2);
	if (pthread_create(&earlier, NULL, execute, &turn))
		return 1;
	pthread_barrier_wait(&turn);
	if (privileges_seal(why, sizeof(why)) < 0)
		return 2;
	pthread_barrier_wait(&turn);
	pthread_join(earlier, &refused);
	if (!refused)
		return 3;
	if (execve("/bin/true", argv, env) != -1 || errno != EPERM)
		return 4;
	if (fork() != -1 || errno != EPERM)
		return 5;
	if (vfork() != -1 || errno != EPERM)
		return 6;
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != -1 || errno != EPERM)
		return 7;
	if (process_vm_readv(getppid(), &here, 1, &there, 1, 0) != -1 || errno != EPERM)
		return 12;
	if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) != 1)
		return 13;
	if (mount("none", "/nowhere", "tmpfs", 0, NULL) != -1 || errno != EPERM)
		return 8;
	if (syscall(SYS_finit_module, -1, "", 0) != -1 || errno != EPERM)
		return 9;
	if (pthread_create(&later, NULL, nothing, NULL) || pthread_join(later, NULL))
		return 10;
	return open("/dev/null", O_RDWR | O_CLOEXEC) < 0 ? 11 : 0;
}

static void system_calls(void **state)
{
	assert_int_equal(apart(sealed), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(capabilities),
		cmocka_unit_test(system_calls),
	};

	return ts_run_tests(tests, COUNT(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Death of a process at any instruction. */
#include "vq_death.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ts_tap.h"

static _Noreturn void victim(void (*deed)(void))
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	deed();
	raise(SIGSTOP);
	_exit(0);
}

unsigned vq_kill_after(void (*deed)(void), unsigned steps)
{
	int status;
	unsigned done = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		victim(deed);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	while (done < steps) {
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0)
			break;
		waitpid(pid, &status, 0);
		if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
			break;
		done++;
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return done;
}

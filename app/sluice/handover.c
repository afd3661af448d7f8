/* SPDX-License-Identifier: BSD-3-Clause */
/* Handing over: what both sides share, and starting the newer process. */
#include "handover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_eal.h>

#include "commands.h"

static struct handover_status status;
static pid_t child; /* that was started last, and has not been seen to end; 0: none */

struct handover_status *handover_status_edit(void)
{
	return &status;
}

void handover_set(enum handover_state state, pid_t pid, const char *fmt, ...)
{
	va_list ap;

	status = (struct handover_status){.state = state, .pid = pid};
	va_start(ap, fmt);
	vsnprintf(status.text, sizeof(status.text), fmt, ap);
	va_end(ap);
	SL_LOG(NOTICE, "%s", status.text);
}

/* ---- commands ---- */

static void append(char **list, const char *line)
{
	char *more = NULL;

	if (asprintf(&more, "%s%s\n", *list ? *list : "", line) < 0)
		return;
	free(*list);
	*list = more;
}

void handover_run(struct sluice *sl, const char *lines, char **later)
{
	char *copy = strdup(lines), *rest = copy;

	for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
		struct cmd_result res;

		if (cmd_run(sl->commands, line, &res) != 0 && later)
			append(later, line);
		else if (res.err)
			SL_LOG(WARNING, "'%s' was not taken over: %s", line,
				res.error ? res.error : "out of memory");
		cmd_result_clear(&res);
	}
	free(copy);
}

int handover_add(struct sluice *sl, uint32_t id, const char *line, char *why, size_t why_len)
{
	struct cmd_result res;
	int err;

	sl->handover.number = id < PORT_MAX ? (int)id : PORT_MAX;
	err = cmd_run(sl->commands, line, &res);
	sl->handover.number = -1;
	if (err)
		snprintf(why, why_len, "%s", res.error ? res.error : "out of memory");
	cmd_result_clear(&res);
	return err;
}

uint64_t handover_lost(const struct sluice *sl)
{
	const struct port *port;
	uint64_t sum = 0;

	PORT_FOREACH(sl, port)
	{
		struct port_counters c;

		port_counters_get(port, &c);
		for (unsigned d = 0; d < VIRTQ_DROP_COUNT; d++)
			sum += c.ring_drops[d];
		for (unsigned d = 0; d < SWITCH_DROP_COUNT; d++)
			sum += c.drops[d];
	}
	return sum;
}

/* ---- starting the newer process ---- */

/* Of this process, before the EAL changed it. */
static struct {
	char **argv;
	int argc;
	char binary[PATH_MAX];
	cpu_set_t cpus;
} at_start;

int handover_remember(int argc, char **argv)
{
	ssize_t n = readlink("/proc/self/exe", at_start.binary, sizeof(at_start.binary) - 1);

	at_start.binary[n < 0 ? 0 : n] = '\0';
	sched_getaffinity(0, sizeof(at_start.cpus), &at_start.cpus);
	at_start.argv = calloc((size_t)argc + 1, sizeof(char *));
	for (int i = 0; at_start.argv && i < argc; i++) {
		at_start.argv[i] = strdup(argv[i]);
		if (!at_start.argv[i])
			return -ENOMEM;
		at_start.argc++;
	}
	return at_start.argv ? 0 : -ENOMEM;
}

/* What must not be said again: devices have one owner, and come over one by one; the rest comes over
 * too, or is another one's. */
static const struct word {
	const char *name;
	bool eal, value;
} left_out[] = {
	{"--file-prefix", true, true},
	{"--vdev", true, true},
	{"--allow", true, true},
	{"--block", true, true},
	{"-a", true, true},
	{"-b", true, true},
	{"--commands", false, true},
	{"--cmdline-file", false, true},
	{"--control", false, true},
	{"--take-over", false, true},
	{"--interactive", false, false},
	{"-i", false, false},
};

static const struct word *is_left_out(const char *arg, bool eal, bool *has_value)
{
	for (size_t i = 0; i < RTE_DIM(left_out); i++) {
		const struct word *w = &left_out[i];
		size_t len = strlen(w->name);

		if (w->eal != eal || strncmp(arg, w->name, len) != 0)
			continue;
		/* --name=value, -avalue */
		*has_value = w->value && arg[len] && (arg[len] == '=' || arg[1] != '-');
		if (!arg[len] || *has_value)
			return w;
	}
	return NULL;
}

/* Two names in turn: of an older one nothing is left. */
static void next_prefix(char *out, size_t len)
{
	static const char suffix[] = "-next";
	const char *dir = rte_eal_get_runtime_dir(), *slash = strrchr(dir, '/');
	const char *name = slash ? slash + 1 : dir;
	size_t n = strlen(name), s = strlen(suffix);

	if (n > s && strcmp(name + n - s, suffix) == 0)
		snprintf(out, len, "--file-prefix=%.*s", (int)(n - s), name);
	else
		snprintf(out, len, "--file-prefix=%s%s", name, suffix);
}

/* @return how many words */
static int make_argv(char **argv, char *binary, char *prefix, char *path)
{
	static char pci[] = "-a", nothing[] = "0000:00:00.0", dashes[] = "--",
		    take_over[] = "--take-over";
	bool eal = true, no_pci = false, value;
	int n = 0;

	argv[n++] = binary;
	for (int i = 1; i <= at_start.argc; i++) {
		char *arg = i < at_start.argc ? at_start.argv[i] : dashes;
		const struct word *w;

		if (eal && strcmp(arg, dashes) == 0) {
			argv[n++] = prefix;
			if (!no_pci) {
				argv[n++] = pci;
				argv[n++] = nothing;
			}
			argv[n++] = arg;
			eal = false;
			continue;
		}
		if (i == at_start.argc)
			break;
		no_pci |= eal && strcmp(arg, "--no-pci") == 0;
		w = is_left_out(arg, eal, &value);
		if (!w)
			argv[n++] = arg;
		else if (w->value && !value)
			i++;
	}
	argv[n++] = take_over;
	argv[n++] = path;
	argv[n] = NULL;
	return n;
}

/* With nothing of ours but standard output and error; not where the EAL put this thread. */
static int spawn(pid_t *pid, const char *binary, char **argv)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, pipe_only;
	cpu_set_t now;
	int err;

	sigemptyset(&none);
	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &pipe_only);
	posix_spawnattr_setflags(
		&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	sched_getaffinity(0, sizeof(now), &now);
	sched_setaffinity(0, sizeof(at_start.cpus), &at_start.cpus);
	err = posix_spawn(pid, binary, &files, &attr, argv, environ);
	sched_setaffinity(0, sizeof(now), &now);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return -err;
}

int handover_spawn(const char *binary, const char *control, char *why, size_t why_len)
{
	char **argv = calloc((size_t)at_start.argc + 8, sizeof(char *));
	char *program = strdup(binary ? binary : at_start.binary), *path = strdup(control);
	char prefix[128];
	pid_t pid = 0;
	int err = -ENOMEM;

	if (argv && program && path) {
		next_prefix(prefix, sizeof(prefix));
		make_argv(argv, program, prefix, path);
		err = spawn(&pid, program, argv);
	}
	if (err)
		snprintf(why, why_len, "cannot start '%s': %s", program ? program : "sluice",
			strerror(-err));
	if (!err) {
		child = pid;
		handover_set(HANDOVER_RUNNING, pid, "process %d is to take over", (int)pid);
	}
	free(argv);
	free(program);
	free(path);
	return err;
}

const struct handover_status *handover_status(void)
{
	if (child == 0 || waitpid(child, NULL, WNOHANG) != child)
		return &status;
	if (status.state == HANDOVER_RUNNING && status.pid == child)
		handover_set(HANDOVER_FAILED, status.pid,
			"the newer process has ended before it could take over: see its log; this "
			"one goes on");
	child = 0;
	return &status;
}

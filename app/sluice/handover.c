/* SPDX-License-Identifier: BSD-3-Clause */
/* Handing over: what both sides share, and starting the newer process. */
#include "handover.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rte_eal.h>

#include "commands.h"
#include "starter.h"

static struct handover_status status;
/* Who was started last, and has not been seen to end. */
static pid_t child;
static int child_fd = -1;

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

static int append(char **list, const char *line)
{
	char *more = NULL;

	if (asprintf(&more, "%s%s\n", *list ? *list : "", line) < 0)
		return -ENOMEM;
	free(*list);
	*list = more;
	return 0;
}

int handover_run(struct sluice *sl, const char *lines, char **later)
{
	char *copy = strdup(lines), *rest = copy;
	int err = copy ? 0 : -ENOMEM;

	for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
		struct cmd_result res;

		cmd_run(sl->commands, line, &res);
		if (res.err == -ENOMEM)
			err = -ENOMEM;
		else if (res.err && later)
			err = append(later, line) < 0 ? -ENOMEM : err;
		else if (res.err)
			SL_LOG(WARNING, "'%s' was not taken over: %s", line,
				res.error ? res.error : "out of memory");
		cmd_result_clear(&res);
	}
	free(copy);
	return err;
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

int handover_spawn(const char *binary, const char *control, char *why, size_t why_len)
{
	char prefix[128];
	pid_t pid = 0;
	int err;

	next_prefix(prefix, sizeof(prefix));
	err = starter_start(binary, prefix, control, &pid);
	if (err) {
		snprintf(why, why_len, "cannot start '%s': %s", binary ? binary : "sluice",
			err == -EPERM ? "it must be a file of ours or root's that nobody else may "
					"write to"
				      : strerror(-err));
		return err;
	}
	if (child_fd >= 0)
		close(child_fd);
	child = pid;
	child_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	handover_set(HANDOVER_RUNNING, pid, "process %d is to take over", (int)pid);
	return 0;
}

const struct handover_status *handover_status(void)
{
	struct pollfd p = {.fd = child_fd, .events = POLLIN};

	/* Without a descriptor it had ended before one could be had. */
	if (child == 0 || (child_fd >= 0 && poll(&p, 1, 0) != 1))
		return &status;
	if (status.state == HANDOVER_RUNNING && status.pid == child)
		handover_set(HANDOVER_FAILED, status.pid,
			"the newer process has ended before it could take over: see its log; this "
			"one goes on");
	if (child_fd >= 0)
		close(child_fd);
	child_fd = -1;
	child = 0;
	return &status;
}

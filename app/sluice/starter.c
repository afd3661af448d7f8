/* SPDX-License-Identifier: BSD-3-Clause */
/* The child that starts newer processes, and asking it. */
#include "starter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_common.h>

#include "usock.h"

struct request {
	char binary[PATH_MAX]; /* empty: the file this one was started from */
	char prefix[128];
	char control[USOCK_PATH_MAX];
};

struct answer {
	int err;
	pid_t pid;
};

static int ask_fd = -1;

/* Of this process, before the EAL changed it. */
static struct {
	char **argv;
	int argc;
	char binary[PATH_MAX];
} at_start;

/* ---- in the child ---- */

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

/* @return how many words */
static int make_argv(char **argv, struct request *r)
{
	static char pci[] = "-a", nothing[] = "0000:00:00.0", dashes[] = "--",
		    take_over[] = "--take-over";
	bool eal = true, no_pci = false, value;
	int n = 0;

	argv[n++] = r->binary;
	for (int i = 1; i <= at_start.argc; i++) {
		char *arg = i < at_start.argc ? at_start.argv[i] : dashes;
		const struct word *w;

		if (eal && strcmp(arg, dashes) == 0) {
			argv[n++] = r->prefix;
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
	argv[n++] = r->control;
	argv[n] = NULL;
	return n;
}

/* Whoever has taken us over must not have a program of his own run. */
static int check(const char *binary)
{
	struct stat st;

	if (stat(binary, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid()) ||
		(st.st_mode & (S_IWGRP | S_IWOTH)))
		return -EPERM;
	return 0;
}

/* With nothing of ours but standard output and error. */
static int spawn(pid_t *pid, const char *binary, char **argv)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, defaults;
	int err;

	sigemptyset(&none);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	sigaddset(&defaults, SIGINT);
	sigaddset(&defaults, SIGCHLD);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setflags(
		&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	err = posix_spawn(pid, binary, &files, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return -err;
}

static struct answer serve_one(struct request *r)
{
	char **argv = calloc((size_t)at_start.argc + 8, sizeof(char *));
	struct answer a = {.err = argv ? 0 : -ENOMEM};

	r->binary[sizeof(r->binary) - 1] = r->prefix[sizeof(r->prefix) - 1] =
		r->control[sizeof(r->control) - 1] = '\0';
	if (!r->binary[0])
		memcpy(r->binary, at_start.binary, sizeof(r->binary));
	if (!a.err)
		a.err = check(r->binary);
	if (!a.err) {
		make_argv(argv, r);
		a.err = spawn(&a.pid, r->binary, argv);
	}
	free(argv);
	return a;
}

/* Until the other end is closed, which its end does. */
static void serve(int fd)
{
	static struct request r;
	struct answer a;

	fd = dup2(fd, STDERR_FILENO + 1); /* of what the switch was started with nothing */
	closefrom(STDERR_FILENO + 2);
	setsid(); /* who interrupts the switch does not mean us */
	signal(SIGINT, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	prctl(PR_SET_NAME, "sluice-starter");
	while (recv(fd, &r, sizeof(r), 0) == (ssize_t)sizeof(r)) {
		a = serve_one(&r);
		if (send(fd, &a, sizeof(a), MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(EXIT_SUCCESS);
}

/* ---- in the switch ---- */

int starter_remember(int argc, char **argv)
{
	ssize_t n = readlink("/proc/self/exe", at_start.binary, sizeof(at_start.binary) - 1);

	at_start.binary[n < 0 ? 0 : n] = '\0';
	at_start.argv = calloc((size_t)argc + 1, sizeof(char *));
	for (int i = 0; at_start.argv && i < argc; i++) {
		at_start.argv[i] = strdup(argv[i]);
		if (!at_start.argv[i])
			return -ENOMEM;
		at_start.argc++;
	}
	return at_start.argv ? 0 : -ENOMEM;
}

char *starter_words(void)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	for (int i = 1; i < at_start.argc; i++)
		fprintf(f, "%s\n", at_start.argv[i]);
	fclose(f);
	return text;
}

int starter_open(void)
{
	int pair[2], err;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		serve(pair[1]);
	}
	err = -errno;
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return err;
	}
	ask_fd = pair[0];
	return 0;
}

int starter_start(const char *binary, const char *prefix, const char *control, pid_t *pid)
{
	static struct request r;
	struct answer a = {.err = -EPIPE};

	memset(&r, 0, sizeof(r));
	snprintf(r.binary, sizeof(r.binary), "%s", binary ? binary : "");
	snprintf(r.prefix, sizeof(r.prefix), "%s", prefix);
	snprintf(r.control, sizeof(r.control), "%s", control);
	if (send(ask_fd, &r, sizeof(r), MSG_NOSIGNAL) < 0)
		return -errno;
	if (recv(ask_fd, &a, sizeof(a), 0) != (ssize_t)sizeof(a))
		return -EPIPE;
	*pid = a.pid;
	return a.err;
}

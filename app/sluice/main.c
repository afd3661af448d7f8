/* SPDX-License-Identifier: BSD-3-Clause */
/* sluice: a vhost-user switch. This file starts it, runs its event loop and ends it. */
#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <systemd/sd-daemon.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_version.h>

#include "commands.h"
#include "console.h"
#include "ctlsock.h"
#include "fdstore.h"
#include "handover.h"
#include "leftovers.h"
#include "privileges.h"
#include "starter.h"
#include "usock.h"

/* What surrounds the switch: where commands come from, and what ends it. */
struct program {
	struct sluice sl;
	struct ctlsock *control;
	struct handover_old old; /* for who takes over from us */
	struct console *console;
	struct event *sigint, *sigterm;
	bool told_to_end;    /* by SIGTERM: another one may be started in our place */
	bool resumed;        /* what another one left: it has the configuration */
	struct event *stats; /* --stats-period */
};

static int fail(const char *why)
{
	fprintf(stderr, "sluice: %s\n", why);
	return EXIT_FAILURE;
}

/* ---- without an EAL ---- */

static int dump_commands(void)
{
	struct cmd_registry *reg;
	char why[256];
	json_t *json;
	int err;

	if (commands_create(NULL, &reg, why, sizeof(why)) < 0)
		return fail(why);
	json = command_dump_json(reg);
	err = json ? json_dumpf(json, stdout, JSON_INDENT(2)) : -1;
	putchar('\n');
	json_decref(json);
	cmd_registry_free(reg);
	return err < 0 ? fail("cannot write the command table") : EXIT_SUCCESS;
}

static int act(enum options_action action)
{
	switch (action) {
	case OPTIONS_HELP:
		options_help();
		return EXIT_SUCCESS;
	case OPTIONS_VERSION:
		printf("sluice %s, %s\n", SLUICE_VERSION, rte_version());
		return EXIT_SUCCESS;
	case OPTIONS_DUMP_COMMANDS:
		return dump_commands();
	case OPTIONS_RUN:
		break;
	}
	return EXIT_FAILURE;
}

/* ---- the EAL ---- */

static unsigned long free_hugepages(void)
{
	unsigned long sum = 0, n;
	glob_t found;

	if (glob("/sys/kernel/mm/hugepages/*/free_hugepages", 0, NULL, &found) != 0)
		return 0;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		FILE *f = fopen(found.gl_pathv[i], "re");

		if (f && fscanf(f, "%lu", &n) == 1)
			sum += n;
		if (f)
			fclose(f);
	}
	globfree(&found);
	return sum;
}

static int eal_start(int argc, char **argv)
{
	atexit(leftovers_remove_runtime); /* before the EAL's own, and so after them */
	if (rte_eal_init(argc, argv) >= 0)
		return 0;
	if (geteuid() != 0)
		return fail(
			"DPDK did not start: run as root, or with access to hugepages and devices");
	if (free_hugepages() == 0)
		return fail("DPDK did not start: no hugepage is free; reserve some with "
			    "`usertools/setup`, or run with --no-huge");
	if (rte_errno == 0) /* only from where it locks its run-time files */
		return fail("DPDK did not start: another program has this --file-prefix: choose "
			    "another one, or --in-memory");
	fprintf(stderr,
		"sluice: DPDK did not start (%s): see its message above; our own options "
		"stand after --\n",
		rte_strerror(rte_errno));
	return EXIT_FAILURE;
}

/* ---- the loop ---- */

static void on_signal(int sig, short what, void *arg)
{
	struct program *p = arg;

	p->told_to_end |= sig == SIGTERM;
	sluice_quit(&p->sl);
}

static void on_console_end(enum console_end why, void *arg)
{
	struct program *p = arg;

	sluice_quit(&p->sl);
}

static int catch_signals(struct program *p)
{
	/* What libevent gives back: a second one does not cut our end short. */
	signal(SIGTERM, SIG_IGN);
	p->sigint = evsignal_new(p->sl.base, SIGINT, on_signal, p);
	p->sigterm = evsignal_new(p->sl.base, SIGTERM, on_signal, p);
	signal(SIGPIPE, SIG_IGN);
	if (!p->sigint || !p->sigterm || event_add(p->sigint, NULL) || event_add(p->sigterm, NULL))
		return fail("cannot catch signals");
	return 0;
}

/* The configuration. @return 0, EXIT_FAILURE, or -1: it said `quit` */
static int run_commands(struct program *p, const char *path)
{
	struct cmd_result res;
	int status = 0;

	cmd_run_file(p->sl.commands, path, &res);
	fputs(res.text, stdout);
	fflush(stdout);
	if (res.err)
		status = fail(res.error);
	else if (res.stop)
		status = -1;
	cmd_result_clear(&res);
	return status;
}

static int open_console(struct program *p, char *why, size_t why_len)
{
	struct console_conf conf = {
		.in_fd = STDIN_FILENO,
		.out_fd = STDOUT_FILENO,
		.prompt = CONSOLE_PROMPT,
		.ended = on_console_end,
		.arg = p,
	};

	return console_new(p->sl.base, p->sl.commands, &conf, &p->console, why, why_len);
}

/* testpmd's heading, and no clearing of the screen. */
static void print_stats(int fd, short what, void *arg)
{
	const struct program *p = arg;
	struct cmd_result res;

	cmd_run(p->sl.commands, "show port stats all", &res);
	printf("\nPort statistics ====================================%s", res.text);
	fflush(stdout);
	cmd_result_clear(&res);
}

static int start_stats(struct program *p)
{
	const struct timeval period = {.tv_sec = p->sl.opt.stats_period};

	p->stats = event_new(p->sl.base, -1, EV_PERSIST, print_stats, p);
	if (!p->stats || event_add(p->stats, &period))
		return fail("not enough memory for --stats-period");
	return 0;
}

/* A script that failed in part should not look as if it had not. */
static int console_status(const struct program *p)
{
	if (!p->console || isatty(STDIN_FILENO))
		return EXIT_SUCCESS;
	return console_failures(p->console) ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* What the process before has left. */
static void resume(struct program *p)
{
	int state = fdstore_state();
	char why[256];

	if (state < 0)
		return;
	if (handover_resume(&p->sl, state, &p->control, why, sizeof(why)) == 0)
		p->resumed = true;
	else
		SL_LOG(WARNING, "starts anew, the state of the process before is not used: %s",
			why);
}

/* For the one after us, if there will be one. Else all ends as ever. */
static void leave(struct program *p)
{
	char why[256] = "there is no store";
	int state;

	if (!p->told_to_end || !fdstore_is_there())
		return;
	handover_cancel();
	state = handover_leave(&p->old, why, sizeof(why));
	if (state < 0 || fdstore_put_state(state) < 0)
		SL_LOG(WARNING, "connections end with this process: %s", why);
	if (state >= 0)
		close(state);
}

/* First, for it makes /run/sluice; who connects is served after the configuration. With --take-over
 * both come from the other process. */
static int open_control(struct program *p, char *why, size_t why_len)
{
	const struct options *opt = &p->sl.opt;
	int err = 0;

	if (fdstore_is_there() && !opt->take_over)
		p->sl.handover.origin = handover_origin(&p->sl);
	resume(p);
	if (opt->take_over)
		err = handover_take(&p->sl, opt->take_over, &p->control, why, why_len);
	else if (opt->control && !p->resumed)
		err = ctlsock_new(p->sl.base, p->sl.commands, opt->control, &opt->access,
			&p->control, why, why_len);
	if (err < 0 || !p->control)
		return err;
	p->old = (struct handover_old){&p->sl, p->control};
	ctlsock_on_take_over(p->control, handover_begin, &p->old);
	return 0;
}

static int serve(struct program *p)
{
	const struct options *opt = &p->sl.opt;
	char why[256] = "";
	int status;

	if (catch_signals(p))
		return EXIT_FAILURE;
	if (commands_create(&p->sl, &p->sl.commands, why, sizeof(why)) < 0)
		return fail(*why ? why : "not enough memory for the commands");
	if (open_control(p, why, sizeof(why)) < 0)
		return fail(why);
	if (opt->commands && !p->resumed) {
		status = run_commands(p, opt->commands);
		if (status)
			return status < 0 ? EXIT_SUCCESS : status;
	}
	usock_disinherit();
	fdstore_settled();
	if (opt->interactive && open_console(p, why, sizeof(why)) < 0)
		return fail(why);
	if (opt->stats_period && start_stats(p))
		return EXIT_FAILURE;
	if (!opt->keep_privileges && privileges_seal(why, sizeof(why)) < 0)
		return fail(why);
	sd_notify(0, "READY=1");
	event_base_dispatch(p->sl.base);
	sd_notify(0, "STOPPING=1");
	leave(p);
	return console_status(p);
}

/* No way back into what a stopped worker may be using: no destructor, no atexit(). */
static void end_without(const char *why)
{
	fail(why);
	fflush(stdout);
	leftovers_remove_runtime();
	_exit(EXIT_FAILURE);
}

static void end(struct program *p)
{
	char why[256];

	handover_cancel();
	console_free(p->console);
	ctlsock_free(p->control);
	if (p->sl.commands)
		cmd_registry_free(p->sl.commands);
	if (p->stats)
		event_free(p->stats);
	if (p->sigint)
		event_free(p->sigint);
	if (p->sigterm)
		event_free(p->sigterm);
	if (sluice_close(&p->sl, why, sizeof(why)) < 0)
		end_without(why);
}

int main(int argc, char **argv)
{
	static struct program p;
	char why[256];
	int n_eal, status;

	if (starter_remember(argc, argv) < 0)
		return fail("out of memory");
	fdstore_open();
	if (options_parse(argc, argv, &p.sl.opt, &n_eal, why, sizeof(why)) < 0)
		return fail(why);
	if (p.sl.opt.action != OPTIONS_RUN)
		return act(p.sl.opt.action);
	if (!p.sl.opt.keep_privileges && privileges_limit(n_eal, argv, why, sizeof(why)) < 0)
		return fail(why);
	if (starter_open() < 0)
		return fail("cannot start a child: is the limit of processes reached?");
	if (eal_start(n_eal, argv))
		return EXIT_FAILURE;
	status = sluice_open(&p.sl, why, sizeof(why)) < 0 ? fail(why) : serve(&p);
	end(&p);
	leftovers_remove_hugepages();
	rte_eal_cleanup();
	return status;
}

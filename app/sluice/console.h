/* SPDX-License-Identifier: BSD-3-Clause */
/* The interactive console: commands typed on a terminal, or read from a pipe or a file. */
#pragma once

#include <stddef.h>

#define CONSOLE_PROMPT     "sluice> "
#define CONSOLE_PROMPT_MAX 31 /* bytes */

struct cmd_registry;
struct console;
struct event_base;

/* Why the console reads no more. */
enum console_end {
	CONSOLE_EOF,       /* Ctrl-D, or the end of the pipe or file */
	CONSOLE_INTERRUPT, /* Ctrl-C */
	CONSOLE_STOP,      /* a command returned CMD_STOP */
	CONSOLE_HANGUP,    /* the terminal is gone */
};

struct console_conf {
	int in_fd; /* usually 0 and 1; stay the caller's, with their flags as they are */
	int out_fd;
	const char *prompt; /* up to CONSOLE_PROMPT_MAX bytes */
	/*
	 * Called once, when the console has read its last command. The terminal is back in the mode
	 * it had; console_free() may be called from here.
	 */
	void (*ended)(enum console_end why, void *arg);
	void *arg;
};

/*
 * Start reading commands. On a terminal: with prompt, line editing, history and completion. Of
 * anything else: plain lines, nothing is printed but what the commands print. A command's error is
 * printed like its text. base and reg must outlive the console. Only one at a time.
 * Thread: the control thread, which also runs base. Returns 0, or a negative errno with one line in
 * err.
 */
int console_new(struct event_base *base, struct cmd_registry *reg, const struct console_conf *conf,
	struct console **console, char *err, size_t err_len);

/* Print what waits (for at most a second), restore the terminal, free. NULL is fine. */
void console_free(struct console *console);

/* Print text above the prompt, which ends with a line end: for news that no command asked for. */
void console_print(struct console *console, const char *text);

/* How many commands failed so far: a program that runs a script may end with an error then. */
unsigned int console_failures(const struct console *console);

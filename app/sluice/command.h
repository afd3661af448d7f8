/* SPDX-License-Identifier: BSD-3-Clause */
/* The operator's commands: rows of grammar and handlers, and what runs a line against them. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/*
 * A command is one row of a table. Several files contribute a table each:
 *
 *	const struct command port_commands[] = {
 *		{"port add NAME listen PATH [queues N:1..128]", "add a VM port", NULL, port_add, 0},
 *		{"show port stats (all|PORT)", "packet counters of ports", NULL, port_stats, 0},
 *		{0},
 *	};
 *
 * The grammar is what an operator reads in `help` and in the man page:
 *
 *	word              a literal, lower case
 *	NAME              a parameter: any one word
 *	N:1..128          a number (decimal or 0x...) in this range; `N:1..` has no upper end
 *	MASK:hex          a hexadecimal number, with or without 0x
 *	ADDR:mac          an Ethernet address
 *	FROM:PORT         any one word, completed like PORT (see cmd_completer_add())
 *	NAME...           the rest of the line, one word or more (only as the last thing)
 *	(a|b c|NAME)      exactly one of these
 *	[a|NAME]          one of these or nothing; several [] in a row may be given in any order
 *
 * A line is split at blanks; '...' and "..." keep blanks together, and \" and \\ mean themselves
 * inside "...". A word which starts with # ends the line. There are no abbreviations. Where a word
 * could be a literal or a parameter it is the literal; a word in quotes is always a parameter.
 *
 * Thread: everything here runs on the control thread. A handler must not block.
 */

#define CMD_LINE_MAX  65536 /* bytes in a line, without its end */
#define CMD_WORDS_MAX 512   /* words in a line */
#define CMD_DEPTH_MAX 8     /* `commands FILE` inside of `commands FILE` */
#define CMD_FILE_MAX  (16u << 20)
#define CMD_HIDDEN    1u /* a flag: runs, but help, completion and the man page do not show it */
#define CMD_STOP      1  /* a handler returns it: done, and run nothing more of this input */

struct cmd;
struct cmd_registry;

struct command {
	const char *grammar;
	const char *help;              /* one line, lower case, no full stop */
	const char *desc;              /* paragraphs, an empty line between them, or NULL */
	int (*handler)(struct cmd *c); /* 0, CMD_STOP or a negative errno */
	unsigned int flags;            /* CMD_HIDDEN or 0 */
};

/* One file's rows under the title which `help` and the man page give them. The last row is {0}. */
struct command_group {
	const char *title;
	const struct command *rows;
};

/* What a line came to; cmd_result_clear() frees it. */
struct cmd_result {
	int err;     /* 0 or a negative errno */
	bool stop;   /* the handler returned CMD_STOP */
	char *error; /* one line without its end if err, else NULL */
	char *text; /* what to print, never NULL; of a command that failed, what it printed before */
	json_t *data; /* the same as JSON, NULL only if err */
};

/*
 * For handlers. `name` is a literal or a parameter as the grammar spells it, without its type.
 */

/* The pointer given to cmd_registry_new(). */
void *cmd_ctx(const struct cmd *c);

/* True if this literal or parameter is part of the line. */
bool cmd_has(const struct cmd *c, const char *name);

/*
 * The value of a parameter, NULL if the line does not have it. Lives as long as the handler runs.
 * The words of a `NAME...` are joined by one blank.
 */
const char *cmd_str(const struct cmd *c, const char *name);

/*
 * The value of a number or hex parameter (already checked against its range), `absent` if the line
 * does not have it.
 */
uint64_t cmd_u64(const struct cmd *c, const char *name, uint64_t absent);

/* The six bytes of a mac parameter; false, and mac untouched, if the line does not have it. */
bool cmd_mac(const struct cmd *c, const char *name, uint8_t mac[6]);

/*
 * The word right after this literal: of "set fwd (io|mac)", cmd_after(c, "fwd") is "io" or "mac".
 * NULL if none.
 */
const char *cmd_after(const struct cmd *c, const char *literal);

/* Add to the text answer; cmd_out() is the same as a stream, which the handler must not close. */
void cmd_printf(struct cmd *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
FILE *cmd_out(struct cmd *c);

/*
 * Set the JSON answer; takes over the reference, the last call counts. A handler may give text,
 * JSON or both: missing text is made from the JSON, missing JSON is {"text": ...}.
 */
void cmd_json(struct cmd *c, json_t *data);

/* No text is to be made from the JSON: people need no answer when all is well. */
void cmd_quiet(struct cmd *c);

/*
 * Say why the command failed: one line that names what was wrong and what to do, without a line
 * end. err is a negative errno. Returns err, so that a handler ends with `return cmd_fail(c,
 * -ENOENT, "...")`.
 */
int cmd_fail(struct cmd *c, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * For the program and the transports.
 */

/*
 * Compile all rows; `help` and `commands FILE` join them as a last group. groups and what they
 * point at must outlive the registry. ctx is for cmd_ctx(). Returns 0, or -EINVAL (a wrong grammar)
 * or -ENOMEM with one line in err.
 */
int cmd_registry_new(const struct command_group *groups, size_t n, void *ctx,
	struct cmd_registry **reg, char *err, size_t err_len);
void cmd_registry_free(struct cmd_registry *reg);

/*
 * Run one line. res is overwritten, the caller clears it. Returns res->err. An empty line and a
 * comment succeed and do nothing. May be called by a handler.
 */
int cmd_run(struct cmd_registry *reg, const char *line, struct cmd_result *res);

/*
 * Run each line of a regular file, up to the first that fails: its error reads "PATH:LINE:
 * message". res->text is all that the commands printed. Returns res->err.
 */
int cmd_run_file(struct cmd_registry *reg, const char *path, struct cmd_result *res);
void cmd_result_clear(struct cmd_result *res);

/* The words which may stand at the end of a line, sorted; cmd_candidates_clear() frees them. */
struct cmd_candidates {
	char **word;
	size_t n;
	size_t start;       /* where in the line the word begins that they would replace */
	const char *prefix; /* what of it is there already; only valid inside of a completer */
};

/* Offers values of one kind of parameter, by cmd_candidate(). ctx is the registry's. */
typedef void cmd_completer_t(void *ctx, struct cmd_candidates *out);

/* kind is the name of a parameter or, if it was given one, its type: PORT. Returns 0 or -ENOMEM. */
int cmd_completer_add(struct cmd_registry *reg, const char *kind, cmd_completer_t *fn);
void cmd_candidate(struct cmd_candidates *out, const char *word);

/*
 * Complete the last word of line (the empty one after a blank). out is overwritten; no candidates
 * is no error.
 */
void cmd_complete(struct cmd_registry *reg, const char *line, struct cmd_candidates *out);
void cmd_candidates_clear(struct cmd_candidates *out);

/*
 * The table for doc/gen-man: {"version", "groups": [{"title", "commands": [{"grammar", "help",
 * "description"}]}]}, description only where there is one. The caller owns the value.
 */
json_t *command_dump_json(const struct cmd_registry *reg);

/*
 * Write a word so that a line with it reads back as this word: in quotes where it needs them. For
 * `config save`.
 */
void cmd_put_word(FILE *f, const char *word);

/* A JSON string of any bytes: what is not UTF-8 becomes '?'. NULL only without memory. */
json_t *cmd_json_text(const char *text);

/*
 * Print a JSON value for people: objects as aligned "key: value" lines, lists of flat objects as a
 * table.
 */
void cmd_render(FILE *f, const json_t *value);

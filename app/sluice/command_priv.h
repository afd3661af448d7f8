/* SPDX-License-Identifier: BSD-3-Clause */
/* What the command*.c files share: compiled grammar, a split line, and the state of a match. */
#pragma once

#include "command.h"

#define CMD_OPTIONS_MAX 16 /* runs of [] in one row */
#define CMD_BRANCH_MAX  32 /* alternatives in one () or [], [] in one run */
#define CMD_EXPECT_MAX  256

enum cmd_node_kind {
	NODE_LITERAL,
	NODE_PARAM,
	NODE_CHOICE,  /* walk one branch; each ends at ->next */
	NODE_OPTIONS, /* walk any branches once each, in any order; each ends back here */
	NODE_END,
};

enum cmd_value {
	VALUE_TEXT,
	VALUE_NUMBER,
	VALUE_HEX,
	VALUE_MAC,
};

struct cmd_node {
	enum cmd_node_kind kind;
	enum cmd_value value;
	bool rest;          /* a parameter which takes all that follows */
	char *word;         /* the literal, or the parameter's name */
	char *type;         /* the completer's kind, if it is not the name */
	uint64_t min, max;  /* VALUE_NUMBER */
	unsigned int index; /* NODE_OPTIONS: which of the row's */
	struct cmd_node *next;
	struct cmd_node *branch[CMD_BRANCH_MAX];
	unsigned int n_branch;
	struct cmd_node *all; /* the rule's nodes, to free them */
};

struct cmd_rule {
	const struct command *row;
	const struct command_group *group;
	struct cmd_node *start;
	struct cmd_node *all;
	unsigned int n_options;
};

struct cmd_completer {
	const char *kind;
	cmd_completer_t *fn;
};

struct cmd_registry {
	void *ctx;
	struct cmd_rule *rules;
	size_t n_rules;
	struct cmd_completer *completers;
	size_t n_completers;
	unsigned int depth; /* of cmd_run_file() */
};

struct cmd_token {
	char *text;
	size_t start; /* where the word begins in the line */
	bool quoted;
};

struct cmd_tokens {
	char *buf; /* holds every text */
	struct cmd_token *v;
	size_t n;
	bool open; /* the line ends inside of the last word: a completion would go on with it */
};

/* Compile one row. Returns 0, or -EINVAL or -ENOMEM with one line in err. */
int cmd_rule_compile(struct cmd_rule *rule, char *err, size_t err_len);
void cmd_rule_free(struct cmd_rule *rule);

/*
 * Split a line. lenient: for completion, an open quote is fine. Returns 0 or -EINVAL, -E2BIG,
 * -ENOMEM with err.
 */
int cmd_split(const char *line, bool lenient, struct cmd_tokens *t, char *err, size_t err_len);
void cmd_tokens_free(struct cmd_tokens *t);

/* The state of matching one line against all rows, and the best that any row came to. */
struct cmd_match {
	const struct cmd_token *tok;
	size_t n;

	/* the walk under way */
	const struct cmd_rule *rule;
	const struct cmd_node *path[CMD_WORDS_MAX];
	uint32_t used[CMD_OPTIONS_MAX];

	/* the best so far: how many words it took, by which nodes, what could have followed */
	bool any;
	size_t far;
	const struct cmd_node *best[CMD_WORDS_MAX];
	const struct cmd_node *expect[CMD_EXPECT_MAX];
	size_t n_expect;
	const struct cmd_rule *full; /* the row, if it took all words and may end */
};

void cmd_match(
	struct cmd_match *m, const struct cmd_registry *reg, const struct cmd_token *tok, size_t n);

/* Why a match without ->full failed, as one line. The caller frees it; NULL only without memory. */
char *cmd_explain(const struct cmd_match *m);

/* The words nearest to a mistyped one: the better one so far stays in *best. */
void cmd_nearer(const char *typed, const char *candidate, const char **best, size_t *best_distance);

/*
 * Returns 0, -EINVAL (no number) or -ERANGE (below 0 or beyond 64 bits). base is 10 (0x is fine
 * too) or 16.
 */
int cmd_parse_u64(const char *text, int base, uint64_t *value);
int cmd_parse_mac(const char *text, uint8_t mac[6]);

struct cmd_registry *cmd_registry_of(const struct cmd *c);

extern const struct command command_builtin[];

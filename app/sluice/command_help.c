/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands of the command machinery itself, help and files, and the table as JSON. */
#include "command_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HELP_COLUMN 48
#define HELP_WIDTH  96

static bool shown(const struct cmd_rule *rule)
{
	return !(rule->row->flags & CMD_HIDDEN);
}

static bool has_word(const struct cmd_rule *rule, const char *word)
{
	for (const struct cmd_node *node = rule->all; node; node = node->all)
		if (node->kind == NODE_LITERAL && strcmp(node->word, word) == 0)
			return true;
	return false;
}

/* True if every one of the blank-separated words is a literal of the row. */
static bool has_words(const struct cmd_rule *rule, const char *words)
{
	char *copy = strdup(words ? words : ""), *save = NULL;
	bool all = copy != NULL;

	for (char *w = all ? strtok_r(copy, " ", &save) : NULL; w && all;
		w = strtok_r(NULL, " ", &save))
		all = has_word(rule, w);
	free(copy);
	return all;
}

static void put_row(FILE *f, const struct command *row)
{
	if (strlen(row->grammar) < HELP_COLUMN)
		fprintf(f, "  %-*s %s\n", HELP_COLUMN, row->grammar, row->help);
	else
		fprintf(f, "  %s\n  %*s %s\n", row->grammar, HELP_COLUMN, "", row->help);
}

/* One paragraph, whatever its lines are. */
static void put_filled(FILE *f, const char *text, size_t len)
{
	size_t column = 0;

	for (size_t i = 0, word; i < len; i += word + 1) {
		word = strcspn(text + i, " \n");
		if (word > len - i)
			word = len - i;
		if (word == 0)
			continue;
		if (column > 0 && column + 1 + word > HELP_WIDTH) {
			fputc('\n', f);
			column = 0;
		}
		column += (size_t)fprintf(
			f, "%s%.*s", column > 0 ? " " : "    ", (int)word, text + i);
	}
	fputc('\n', f);
}

static void put_desc(FILE *f, const char *desc)
{
	while (*desc) {
		const char *end = strstr(desc, "\n\n");
		size_t len = end ? (size_t)(end - desc) : strlen(desc);

		fputc('\n', f);
		put_filled(f, desc, len);
		desc += len + (end ? 2 : 0);
	}
}

static json_t *row_json(const struct command *row)
{
	json_t *o = json_pack("{s:s, s:s}", "grammar", row->grammar, "help", row->help);

	if (row->desc)
		json_object_set_new(o, "description", json_string(row->desc));
	return o;
}

/* Prints and collects the rows with these words, a title before each group's; returns how many. */
static size_t list_rows(const struct cmd_registry *reg, const char *words, FILE *f, json_t *groups,
	const struct cmd_rule **only)
{
	const struct command_group *group = NULL;
	json_t *commands = NULL;
	size_t n = 0;

	for (size_t i = 0; i < reg->n_rules; i++) {
		const struct cmd_rule *rule = &reg->rules[i];

		if (!shown(rule) || !has_words(rule, words))
			continue;
		if (rule->group != group) {
			group = rule->group;
			commands = json_array();
			json_array_append_new(groups, json_pack("{s:s, s:o}", "title", group->title,
							      "commands", commands));
			if (f)
				fprintf(f, "%s%s:\n", n > 0 ? "\n" : "", group->title);
		}
		json_array_append_new(commands, row_json(rule->row));
		if (f)
			put_row(f, rule->row);
		*only = rule;
		n++;
	}
	return n;
}

json_t *command_dump_json(const struct cmd_registry *reg)
{
	const struct cmd_rule *last;
	json_t *groups = json_array();

	list_rows(reg, NULL, NULL, groups, &last);
	return json_pack("{s:s, s:o}", "version", SLUICE_VERSION, "groups", groups);
}

/*
 * The first of the words that no row has, and the literal nearest to it if one is near; false if
 * all are known.
 */
static bool unknown_word(
	const struct cmd_registry *reg, const char *words, char word[64], const char **near)
{
	size_t best = 0;

	for (const char *p = words; *p; p += strspn(p, " ")) {
		size_t len = strcspn(p, " ");
		bool known = false;

		snprintf(word, 64, "%.*s", (int)len, p);
		*near = NULL;
		for (size_t i = 0; i < reg->n_rules && !known; i++) {
			known = has_word(&reg->rules[i], word);
			for (const struct cmd_node *node = reg->rules[i].all; node;
				node = node->all)
				if (node->kind == NODE_LITERAL && shown(&reg->rules[i]))
					cmd_nearer(word, node->word, near, &best);
		}
		if (!known)
			return true;
		p += len;
	}
	return false;
}

static int help_nothing(struct cmd *c, const struct cmd_registry *reg, const char *words)
{
	const char *near = NULL;
	char word[64];

	if (!unknown_word(reg, words, word, &near))
		return cmd_fail(
			c, -ENOENT, "help: no command has all of '%s' ('help' lists all)", words);
	if (near)
		return cmd_fail(c, -ENOENT,
			"help: no command has the word '%s'; did you mean '%s'?", word, near);
	return cmd_fail(c, -ENOENT, "help: no command has the word '%s' ('help' lists all)", word);
}

static int help(struct cmd *c)
{
	const struct cmd_registry *reg = cmd_registry_of(c);
	const char *words = cmd_str(c, "WORD");
	const struct cmd_rule *only = NULL;
	json_t *groups = json_array();
	size_t n = list_rows(reg, words, cmd_out(c), groups, &only);

	cmd_json(c, json_pack("{s:o}", "groups", groups));
	if (n == 0)
		return help_nothing(c, reg, words);
	if (n == 1 && only->row->desc)
		put_desc(cmd_out(c), only->row->desc);
	return 0;
}

static int commands(struct cmd *c)
{
	struct cmd_result res;
	int rc = cmd_run_file(cmd_registry_of(c), cmd_str(c, "FILE"), &res);

	fputs(res.text ? res.text : "", cmd_out(c));
	if (rc)
		cmd_fail(c, rc, "%s", res.error ? res.error : "out of memory");
	else if (res.stop)
		rc = CMD_STOP;
	cmd_result_clear(&res);
	return rc;
}

const struct command command_builtin[] = {
	{"help [WORD...]", "list the commands, all or those with these words",
		"With words that leave one command, its description follows.", help, 0},
	{"commands FILE", "run the commands in a file",
		"One command a line, empty lines and # comments as everywhere. Stops at the first "
		"command that\n"
		"fails and says FILE:LINE. A relative FILE is looked up where the switch was "
		"started.",
		commands, 0},
	{0},
};

/* SPDX-License-Identifier: BSD-3-Clause */
/* Compiles the grammar string of a command's row into the nodes that lines are matched against. */
#include "command_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct parser {
	const char *grammar;
	const char *p;
	struct cmd_rule *rule;
	char *err;
	size_t err_len;
	int rc;
};

static void *fail(struct parser *ps, const char *what)
{
	if (!ps->rc) {
		snprintf(ps->err, ps->err_len, "grammar \"%s\", column %zu: %s", ps->grammar,
			(size_t)(ps->p - ps->grammar) + 1, what);
		ps->rc = -EINVAL;
	}
	return NULL;
}

static void *fail_memory(struct parser *ps)
{
	if (!ps->rc)
		snprintf(ps->err, ps->err_len, "out of memory");
	ps->rc = ps->rc ? ps->rc : -ENOMEM;
	return NULL;
}

static struct cmd_node *new_node(struct parser *ps, enum cmd_node_kind kind)
{
	struct cmd_node *node = calloc(1, sizeof(*node));

	if (!node)
		return fail_memory(ps);
	node->kind = kind;
	node->all = ps->rule->all;
	ps->rule->all = node;
	return node;
}

static void skip_blanks(struct parser *ps)
{
	while (*ps->p == ' ')
		ps->p++;
}

static char *take(struct parser *ps, size_t len)
{
	char *text = strndup(ps->p, len);

	ps->p += len;
	return text ? text : fail_memory(ps);
}

static struct cmd_node *parse_literal(struct parser *ps)
{
	struct cmd_node *node = new_node(ps, NODE_LITERAL);

	if (node)
		node->word = take(ps, strspn(ps->p, "abcdefghijklmnopqrstuvwxyz0123456789_-"));
	return ps->rc ? NULL : node;
}

static void parse_range(struct parser *ps, struct cmd_node *node)
{
	char *end;

	node->value = VALUE_NUMBER;
	errno = 0;
	node->min = strtoull(ps->p, &end, 10);
	if (errno || strncmp(end, "..", 2) != 0) {
		fail(ps, "a range is written LOW..HIGH or LOW..");
		return;
	}
	ps->p = end + 2;
	node->max = UINT64_MAX;
	if (isdigit((unsigned char)*ps->p)) {
		node->max = strtoull(ps->p, &end, 10);
		ps->p = end;
	}
	if (errno || node->max < node->min)
		fail(ps, "the range ends below its beginning");
}

static void parse_type(struct parser *ps, struct cmd_node *node)
{
	size_t upper = strspn(ps->p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

	if (isdigit((unsigned char)*ps->p)) {
		parse_range(ps, node);
	} else if (upper > 0) {
		node->type = take(ps, upper);
	} else if (strncmp(ps->p, "hex", 3) == 0) {
		node->value = VALUE_HEX;
		ps->p += 3;
	} else if (strncmp(ps->p, "mac", 3) == 0) {
		node->value = VALUE_MAC;
		ps->p += 3;
	} else {
		fail(ps, "a type is LOW..HIGH, hex, mac or the upper-case name of a completer");
	}
}

static struct cmd_node *parse_param(struct parser *ps)
{
	struct cmd_node *node = new_node(ps, NODE_PARAM);

	if (!node)
		return NULL;
	node->word = take(ps, strspn(ps->p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"));
	if (!ps->rc && *ps->p == ':') {
		ps->p++;
		parse_type(ps, node);
	}
	if (strncmp(ps->p, "...", 3) == 0) {
		node->rest = true;
		ps->p += 3;
		if (node->value != VALUE_TEXT)
			fail(ps, "the rest of a line has no type");
	}
	return ps->rc ? NULL : node;
}

static struct cmd_node *parse_seq(struct parser *ps);

/* The branches of "(a|b)" or "[a|b]", with ps->p behind the opening bracket. */
static struct cmd_node *parse_choice(struct parser *ps, char close)
{
	struct cmd_node *node = new_node(ps, NODE_CHOICE);

	while (node) {
		if (node->n_branch == CMD_BRANCH_MAX)
			return fail(ps, "too many alternatives");
		node->branch[node->n_branch] = parse_seq(ps);
		if (!node->branch[node->n_branch++])
			return NULL;
		skip_blanks(ps);
		if (*ps->p == close) {
			ps->p++;
			return node;
		}
		if (*ps->p != '|')
			return fail(
				ps, close == ')' ? "expected '|' or ')'" : "expected '|' or ']'");
		ps->p++;
	}
	return NULL;
}

static struct cmd_node *new_options(struct parser *ps)
{
	struct cmd_node *node = new_node(ps, NODE_OPTIONS);

	if (!node)
		return NULL;
	if (ps->rule->n_options == CMD_OPTIONS_MAX)
		return fail(ps, "too many [] apart from each other");
	node->index = ps->rule->n_options++;
	return node;
}

/*
 * "[...]": joins the [] right before it, so that both may be given in any order. Returns NULL if it
 * joined.
 */
static struct cmd_node *parse_optional(struct parser *ps, struct cmd_node *before)
{
	struct cmd_node *options =
		before && before->kind == NODE_OPTIONS ? before : new_options(ps);
	struct cmd_node *branch;

	if (!options)
		return NULL;
	if (options->n_branch == CMD_BRANCH_MAX)
		return fail(ps, "too many [] in a row");
	ps->p++;
	branch = parse_choice(ps, ']');
	if (!branch)
		return NULL;
	options->branch[options->n_branch++] = branch;
	return options == before ? NULL : options;
}

static struct cmd_node *parse_item(struct parser *ps, struct cmd_node *before)
{
	if (*ps->p == '(') {
		ps->p++;
		return parse_choice(ps, ')');
	}
	if (*ps->p == '[')
		return parse_optional(ps, before);
	if (islower((unsigned char)*ps->p) || isdigit((unsigned char)*ps->p))
		return parse_literal(ps);
	if (isupper((unsigned char)*ps->p))
		return parse_param(ps);
	return fail(ps, "expected a word, '(' or '['");
}

static bool at_seq_end(char ch)
{
	return ch == '\0' || ch == '|' || ch == ')' || ch == ']';
}

/*
 * Items up to the end of the string or of the enclosing bracket, linked by ->next; NULL after an
 * error.
 */
static struct cmd_node *parse_seq(struct parser *ps)
{
	struct cmd_node *first = NULL, *last = NULL;

	for (skip_blanks(ps); !at_seq_end(*ps->p); skip_blanks(ps)) {
		struct cmd_node *node;

		node = parse_item(ps, last);
		if (!ps->rc && *ps->p != ' ' && !at_seq_end(*ps->p))
			fail(ps, "expected a blank");
		if (ps->rc)
			return NULL;
		if (!node)
			continue;
		if (last)
			last->next = node;
		else
			first = node;
		last = node;
	}
	/* Taking no word, it could be walked again and again in vain. */
	if (first && first->kind == NODE_OPTIONS && !first->next)
		return fail(ps, "nothing but [] stands here");
	return first ? first : fail(ps, "expected a word");
}

/* Names of parameters on one way through a row, to find one that is there twice. */
struct names {
	const char *v[CMD_BRANCH_MAX];
	size_t n;
};

static void check_names(struct parser *ps, const struct cmd_node *node, struct names *names);

static void check_param(struct parser *ps, const struct cmd_node *node, struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		if (strcmp(names->v[i], node->word) == 0)
			fail(ps, "a parameter's name is there twice");
	if (names->n == CMD_BRANCH_MAX)
		fail(ps, "too many parameters");
	else
		names->v[names->n++] = node->word;
}

static void check_choice(struct parser *ps, const struct cmd_node *node, struct names *names)
{
	struct names before = *names;

	for (unsigned int i = 0; i < node->n_branch; i++) {
		struct names here = before;

		check_names(ps, node->branch[i], &here);
		for (size_t j = before.n; j < here.n && names->n < CMD_BRANCH_MAX; j++)
			names->v[names->n++] = here.v[j];
	}
}

/* Before link(): ->next still ends at the end of each branch. */
static void check_names(struct parser *ps, const struct cmd_node *node, struct names *names)
{
	for (; node; node = node->next) {
		if (node->kind == NODE_PARAM)
			check_param(ps, node, names);
		else if (node->kind == NODE_CHOICE)
			check_choice(ps, node, names);
		for (unsigned int i = 0; node->kind == NODE_OPTIONS && i < node->n_branch; i++)
			check_names(ps, node->branch[i], names);
	}
}

/* True if the row can only end from here on. */
static bool is_end(const struct cmd_node *node)
{
	while (node->kind == NODE_OPTIONS)
		node = node->next;
	return node->kind == NODE_END;
}

/*
 * Make ->next of every node the one to go on with when it is done: the one behind the bracket, at a
 * branch's end.
 */
static void link_seq(struct parser *ps, struct cmd_node *node, struct cmd_node *after)
{
	while (node) {
		struct cmd_node *sibling = node->next;

		node->next = sibling ? sibling : after;
		if (node->rest && (sibling || !is_end(after)))
			fail(ps, "nothing can follow '...'");
		for (unsigned int i = 0; i < node->n_branch; i++)
			link_seq(ps, node->branch[i],
				node->kind == NODE_OPTIONS ? node : node->next);
		node = sibling;
	}
}

int cmd_rule_compile(struct cmd_rule *rule, char *err, size_t err_len)
{
	struct parser ps = {.grammar = rule->row->grammar,
		.p = rule->row->grammar,
		.rule = rule,
		.err = err,
		.err_len = err_len};
	struct cmd_node *end = new_node(&ps, NODE_END);
	struct names names = {.n = 0};

	rule->start = end ? parse_seq(&ps) : NULL;
	if (rule->start && *ps.p != '\0')
		fail(&ps, "a bracket is closed that was not opened");
	else if (rule->start && rule->start->kind != NODE_LITERAL)
		fail(&ps, "a command begins with a lower-case word");
	if (!ps.rc && (!rule->row->help || !rule->row->handler))
		fail(&ps, "the row has no help text or no handler");
	if (!ps.rc) {
		check_names(&ps, rule->start, &names);
		link_seq(&ps, rule->start, end);
	}
	return ps.rc;
}

void cmd_rule_free(struct cmd_rule *rule)
{
	while (rule->all) {
		struct cmd_node *node = rule->all;

		rule->all = node->all;
		free(node->word);
		free(node->type);
		free(node);
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Matches a split line against every row at once, and completes the last word of a line. */
#include "command_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Theory of operation. walk() follows every way through a row's nodes that the words of the line
 * allow, and offers each place where it could not go on. Of all offers, of all rows, the best one
 * counts:
 *
 *   1. word by word, a literal beats a parameter. So a line means the same whatever ports are called, and a mistyped
 *      "show port stat all" is not taken for another command which has a parameter in that place;
 *   2. then the one which took more words.
 *
 * What the best ones (there may be several alike) were waiting for is what the error names and what
 * TAB offers. The walk is bounded by the row: nothing in a grammar repeats, each word is taken by a
 * node of its own.
 */

static bool accepts(const struct cmd_node *node, const struct cmd_token *tok)
{
	uint64_t v;
	uint8_t mac[6];

	if (node->kind == NODE_LITERAL)
		return !tok->quoted && strcmp(tok->text, node->word) == 0;
	switch (node->value) {
	case VALUE_NUMBER:
		return cmd_parse_u64(tok->text, 10, &v) == 0 && v >= node->min && v <= node->max;
	case VALUE_HEX:
		return cmd_parse_u64(tok->text, 16, &v) == 0;
	case VALUE_MAC:
		return cmd_parse_mac(tok->text, mac) == 0;
	default:
		return true;
	}
}

/* Above 0 if the walk's path is better than the best so far, below if worse. */
static int compare(const struct cmd_match *m, size_t far)
{
	size_t both = far < m->far ? far : m->far;

	for (size_t i = 0; i < both; i++) {
		bool ours = m->path[i]->kind == NODE_LITERAL;
		bool theirs = m->best[i]->kind == NODE_LITERAL;

		if (ours != theirs)
			return ours ? 1 : -1;
	}
	return far == m->far ? 0 : far > m->far ? 1 : -1;
}

static bool same_word(const struct cmd_node *a, const struct cmd_node *b)
{
	if (a->kind != b->kind || a->kind == NODE_END)
		return a->kind == b->kind;
	return strcmp(a->word, b->word) == 0 && a->value == b->value && a->min == b->min &&
	       a->max == b->max;
}

static void add_expected(struct cmd_match *m, const struct cmd_node *node)
{
	for (size_t i = 0; i < m->n_expect; i++)
		if (same_word(m->expect[i], node))
			return;
	if (m->n_expect < CMD_EXPECT_MAX)
		m->expect[m->n_expect++] = node;
}

/*
 * The walk took `far` words and stands before a node that does not take the next one, or at the
 * row's end.
 */
static void offer(struct cmd_match *m, size_t far, const struct cmd_node *node)
{
	int better = m->any ? compare(m, far) : 1;
	bool full = node->kind == NODE_END && far == m->n;

	if (better < 0)
		return;
	if (better > 0) {
		m->any = true;
		m->far = far;
		m->full = NULL;
		m->n_expect = 0;
	}
	if (better > 0 || (full && !m->full))
		memcpy(m->best, m->path, far * sizeof(m->path[0]));
	if (full)
		m->full = m->full ? m->full : m->rule;
	else
		add_expected(m, node);
}

static void walk(struct cmd_match *m, const struct cmd_node *node, size_t pos);

static void walk_word(struct cmd_match *m, const struct cmd_node *node, size_t pos)
{
	size_t end = node->rest ? m->n : pos + 1;

	if (pos == m->n || !accepts(node, &m->tok[pos])) {
		offer(m, pos, node);
		return;
	}
	for (size_t i = pos; i < end; i++)
		m->path[i] = node;
	walk(m, node->next, end);
}

static void walk_options(struct cmd_match *m, const struct cmd_node *node, size_t pos)
{
	uint32_t *used = &m->used[node->index];

	for (unsigned int i = 0; i < node->n_branch; i++) {
		if (*used & (UINT32_C(1) << i))
			continue;
		*used |= UINT32_C(1) << i;
		walk(m, node->branch[i], pos);
		*used &= ~(UINT32_C(1) << i);
	}
	walk(m, node->next, pos);
}

static void walk(struct cmd_match *m, const struct cmd_node *node, size_t pos)
{
	switch (node->kind) {
	case NODE_END:
		offer(m, pos, node);
		return;
	case NODE_CHOICE:
		for (unsigned int i = 0; i < node->n_branch; i++)
			walk(m, node->branch[i], pos);
		return;
	case NODE_OPTIONS:
		walk_options(m, node, pos);
		return;
	default:
		walk_word(m, node, pos);
	}
}

static void match_rules(struct cmd_match *m, const struct cmd_registry *reg, bool hidden,
	const struct cmd_token *tok, size_t n)
{
	m->tok = tok;
	m->n = n;
	m->any = false;
	m->far = 0;
	m->n_expect = 0;
	m->full = NULL;
	memset(m->used, 0, sizeof(m->used));
	for (size_t i = 0; i < reg->n_rules; i++) {
		if ((reg->rules[i].row->flags & CMD_HIDDEN) && !hidden)
			continue;
		m->rule = &reg->rules[i];
		walk(m, m->rule->start, 0);
	}
}

void cmd_match(
	struct cmd_match *m, const struct cmd_registry *reg, const struct cmd_token *tok, size_t n)
{
	match_rules(m, reg, true, tok, n);
}

void cmd_candidate(struct cmd_candidates *out, const char *word)
{
	char **more;

	if (strncmp(word, out->prefix, strlen(out->prefix)) != 0)
		return;
	more = realloc(out->word, (out->n + 1) * sizeof(*more));
	if (!more)
		return;
	out->word = more;
	more[out->n] = strdup(word);
	if (more[out->n])
		out->n++;
}

static void complete_param(
	struct cmd_registry *reg, const struct cmd_node *node, struct cmd_candidates *out)
{
	const char *kind = node->type ? node->type : node->word;

	for (size_t i = 0; i < reg->n_completers; i++)
		if (strcmp(reg->completers[i].kind, kind) == 0)
			reg->completers[i].fn(reg->ctx, out);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_unique(struct cmd_candidates *out)
{
	size_t kept = 0;

	if (out->n > 0)
		qsort(out->word, out->n, sizeof(*out->word), by_name);
	for (size_t i = 0; i < out->n; i++) {
		if (kept > 0 && strcmp(out->word[kept - 1], out->word[i]) == 0)
			free(out->word[i]);
		else
			out->word[kept++] = out->word[i];
	}
	out->n = kept;
}

static void complete_words(
	struct cmd_registry *reg, const struct cmd_tokens *t, struct cmd_candidates *out)
{
	size_t before = t->open ? t->n - 1 : t->n;
	bool quoted = t->open && t->v[before].quoted;
	struct cmd_match *m = malloc(sizeof(*m));

	if (!m)
		return;
	match_rules(m, reg, false, t->v, before);
	for (size_t i = 0; m->any && m->far == before && i < m->n_expect; i++) {
		if (m->expect[i]->kind == NODE_PARAM)
			complete_param(reg, m->expect[i], out);
		else if (m->expect[i]->kind == NODE_LITERAL && !quoted)
			cmd_candidate(out, m->expect[i]->word);
	}
	free(m);
	sort_unique(out);
}

void cmd_complete(struct cmd_registry *reg, const char *line, struct cmd_candidates *out)
{
	struct cmd_tokens t;
	char err[128];

	memset(out, 0, sizeof(*out));
	if (cmd_split(line, true, &t, err, sizeof(err)))
		return;
	out->prefix = t.open ? t.v[t.n - 1].text : "";
	out->start = t.open ? t.v[t.n - 1].start : strlen(line);
	complete_words(reg, &t, out);
	out->prefix = NULL;
	cmd_tokens_free(&t);
}

void cmd_candidates_clear(struct cmd_candidates *out)
{
	for (size_t i = 0; i < out->n; i++)
		free(out->word[i]);
	free(out->word);
	memset(out, 0, sizeof(*out));
}

int cmd_completer_add(struct cmd_registry *reg, const char *kind, cmd_completer_t *fn)
{
	struct cmd_completer *more =
		realloc(reg->completers, (reg->n_completers + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	reg->completers = more;
	more[reg->n_completers++] = (struct cmd_completer){kind, fn};
	return 0;
}

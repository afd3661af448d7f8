/* SPDX-License-Identifier: BSD-3-Clause */
/* Says in one line why a command line fits no row: which word, and what was expected there. */
#include "command_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LISTED_MAX 8  /* expected words that one line still holds well */
#define SHOWN_MAX  48 /* bytes of a word quoted back */

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t ab = a < b ? a : b;

	return ab < c ? ab : c;
}

/*
 * Edits between two words; two neighbours swapped count as one. SIZE_MAX if a word is longer than
 * any literal.
 */
static size_t distance(const char *a, const char *b)
{
	size_t d[3][32], na = strlen(a), nb = strlen(b);
	size_t *prev2 = d[0], *prev = d[1], *row = d[2];

	if (na > 30 || nb > 30)
		return SIZE_MAX;
	for (size_t j = 0; j <= nb; j++)
		row[j] = j;
	for (size_t i = 1; i <= na; i++) {
		size_t *free_row = prev2;

		prev2 = prev;
		prev = row;
		row = free_row;
		row[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			row[j] = min3(
				prev[j] + 1, row[j - 1] + 1, prev[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
				prev2[j - 2] < row[j])
				row[j] = prev2[j - 2] + 1;
		}
	}
	return row[nb];
}

void cmd_nearer(const char *typed, const char *candidate, const char **best, size_t *best_distance)
{
	size_t d = distance(typed, candidate);
	size_t allowed = strlen(typed) < 5 ? 1 : 2;

	if (d > allowed || (*best && d >= *best_distance))
		return;
	*best = candidate;
	*best_distance = d;
}

static const char *nearest_expected(const struct cmd_match *m, const char *typed)
{
	const char *best = NULL;
	size_t best_distance = 0;

	for (size_t i = 0; i < m->n_expect; i++)
		if (m->expect[i]->kind == NODE_LITERAL)
			cmd_nearer(typed, m->expect[i]->word, &best, &best_distance);
	return best;
}

/* A word of the operator's, in quotes, kept short and printable. */
static void put_typed(FILE *f, const struct cmd_token *tok)
{
	const char *word = tok->text;
	size_t n = 0;

	fputc('\'', f);
	for (; *word && n < SHOWN_MAX; word++, n++)
		fputc(iscntrl((unsigned char)*word) ? '?' : *word, f);
	fprintf(f, "%s'%s", *word ? "..." : "", tok->quoted ? " (in quotes)" : "");
}

static void put_words(FILE *f, const struct cmd_match *m, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		fprintf(f, "%s%s", i > from ? " " : "", m->best[i]->word);
}

static size_t leading_literals(const struct cmd_match *m)
{
	size_t n = 0;

	while (n < m->far && m->best[n]->kind == NODE_LITERAL)
		n++;
	return n;
}

static void put_range(FILE *f, const struct cmd_node *node)
{
	if (node->max == UINT64_MAX)
		fprintf(f, "%ju or more", (uintmax_t)node->min);
	else
		fprintf(f, "%ju to %ju", (uintmax_t)node->min, (uintmax_t)node->max);
}

static void put_expected(FILE *f, const struct cmd_node *node)
{
	switch (node->kind) {
	case NODE_LITERAL:
		fprintf(f, "'%s'", node->word);
		break;
	case NODE_END:
		fputs("the end of the line", f);
		break;
	default:
		fputs(node->word, f);
		if (node->value == VALUE_NUMBER) {
			fputs(" (", f);
			put_range(f, node);
			fputc(')', f);
		}
	}
}

static void put_all_expected(FILE *f, const struct cmd_match *m)
{
	for (size_t i = 0; i < m->n_expect; i++) {
		if (i > 0)
			fputs(i + 1 == m->n_expect ? " or " : ", ", f);
		put_expected(f, m->expect[i]);
	}
}

/* The parameter whose value is wrong, if the word at fault can only be meant as that; else NULL. */
static const struct cmd_node *misfit_param(const struct cmd_match *m)
{
	const struct cmd_node *param = NULL;
	const char *word = m->far < m->n ? m->tok[m->far].text : "";
	bool number = isdigit((unsigned char)word[word[0] == '-']);

	if (m->far == m->n)
		return NULL;
	for (size_t i = 0; i < m->n_expect; i++) {
		if (m->expect[i]->kind != NODE_PARAM)
			continue;
		if (param)
			return NULL;
		param = m->expect[i];
	}
	return param && (m->n_expect == 1 || (number && param->value != VALUE_MAC)) ? param : NULL;
}

static void explain_value(FILE *f, const struct cmd_match *m, const struct cmd_node *param)
{
	const char *word = m->tok[m->far].text;
	size_t from = m->far;
	uint64_t v;

	while (from > 0 && m->best[from - 1]->kind == NODE_LITERAL)
		from--;
	if (from < m->far)
		put_words(f, m, from, m->far);
	else
		fputs(param->word, f);
	fputs(": ", f);
	if (param->value == VALUE_NUMBER && cmd_parse_u64(word, 10, &v) != -EINVAL) {
		fprintf(f, "%.*s is out of range, ", SHOWN_MAX, word);
		put_range(f, param);
		return;
	}
	put_typed(f, &m->tok[m->far]);
	if (param->value == VALUE_NUMBER) {
		fputs(" is not a number, ", f);
		put_range(f, param);
	} else if (param->value == VALUE_HEX) {
		fputs(" is not a hexadecimal number of up to 64 bits", f);
	} else {
		fputs(" is not a MAC address like 52:54:00:12:34:56", f);
	}
}

static void explain_command(FILE *f, const struct cmd_match *m)
{
	const char *typed = m->tok[0].text;
	const char *near = nearest_expected(m, typed);

	fputs("unknown command ", f);
	put_typed(f, &m->tok[0]);
	if (near)
		fprintf(f, "; did you mean '%s'?", near);
	fputs(" ('help' lists all)", f);
}

/* More words are possible than a line should list. */
static void explain_many(FILE *f, const struct cmd_match *m)
{
	size_t lead = leading_literals(m);
	const char *near = m->far < m->n ? nearest_expected(m, m->tok[m->far].text) : NULL;

	if (m->far < m->n) {
		fputs("unknown word ", f);
		put_typed(f, &m->tok[m->far]);
	} else {
		fputs("the line ends too early", f);
	}
	if (near)
		fprintf(f, "; did you mean '%s'?", near);
	fputs(" ('help ", f);
	put_words(f, m, 0, lead);
	fputs("' lists all)", f);
}

static bool given_before(const struct cmd_match *m)
{
	const struct cmd_token *tok = &m->tok[m->far];

	for (size_t i = leading_literals(m); i < m->far && !tok->quoted; i++)
		if (m->best[i]->kind == NODE_LITERAL && strcmp(m->best[i]->word, tok->text) == 0)
			return true;
	return false;
}

static void explain_word(FILE *f, const struct cmd_match *m)
{
	const struct cmd_node *before = m->best[m->far - 1];

	if (m->far < m->n && given_before(m)) {
		put_typed(f, &m->tok[m->far]);
		fputs(" is given twice", f);
		return;
	}
	fputs("expected ", f);
	put_all_expected(f, m);
	if (before->kind == NODE_PARAM)
		fprintf(f, " after %s", before->word);
	else if (m->far > leading_literals(m))
		fprintf(f, " after '%s'", before->word);
	if (m->far < m->n) {
		fputs(", got ", f);
		put_typed(f, &m->tok[m->far]);
	} else {
		fputs(", but the line ends", f);
	}
}

static void explain(FILE *f, const struct cmd_match *m)
{
	const struct cmd_node *param;

	if (m->far == 0) {
		explain_command(f, m);
		return;
	}
	param = misfit_param(m);
	if (param) {
		explain_value(f, m, param);
		return;
	}
	put_words(f, m, 0, leading_literals(m));
	fputs(": ", f);
	if (m->n_expect > LISTED_MAX)
		explain_many(f, m);
	else
		explain_word(f, m);
}

char *cmd_explain(const struct cmd_match *m)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	explain(f, m);
	fclose(f);
	return text;
}

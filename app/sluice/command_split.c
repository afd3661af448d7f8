/* SPDX-License-Identifier: BSD-3-Clause */
/* Splits a command line into words and reads the values words can hold. */
#include "command_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct splitter {
	const char *line;
	const char *p;
	char *out; /* the next byte of a word's text */
	const char *unclosed;
};

static bool is_blank(char ch)
{
	return ch == ' ' || ch == '\t' || ch == '\r' || ch == '\v' || ch == '\f';
}

static void take_quoted(struct splitter *s)
{
	const char *open = s->p;
	char quote = *s->p++;

	while (*s->p && *s->p != quote) {
		if (quote == '"' && *s->p == '\\' && (s->p[1] == '"' || s->p[1] == '\\'))
			s->p++;
		*s->out++ = *s->p++;
	}
	if (*s->p)
		s->p++;
	else
		s->unclosed = open;
}

static void take_word(struct splitter *s, struct cmd_token *tok)
{
	tok->text = s->out;
	tok->start = (size_t)(s->p - s->line);
	tok->quoted = false;
	while (*s->p && !is_blank(*s->p)) {
		if (*s->p == '"' || *s->p == '\'') {
			tok->quoted = true;
			take_quoted(s);
		} else {
			*s->out++ = *s->p++;
		}
	}
	*s->out++ = '\0';
}

static int check_line(const char *line, size_t len, char *err, size_t err_len)
{
	if (len > CMD_LINE_MAX) {
		snprintf(err, err_len, "the line is %zu bytes long, more than %d", len,
			CMD_LINE_MAX);
		return -E2BIG;
	}
	if (memchr(line, '\n', len)) {
		snprintf(err, err_len, "a command is one line: give one at a time");
		return -EINVAL;
	}
	return 0;
}

static int take_words(struct splitter *s, struct cmd_tokens *t, char *err, size_t err_len)
{
	for (;;) {
		while (is_blank(*s->p))
			s->p++;
		if (*s->p == '\0' || *s->p == '#')
			return 0;
		if (t->n == CMD_WORDS_MAX) {
			snprintf(err, err_len, "the line has more than %d words", CMD_WORDS_MAX);
			return -E2BIG;
		}
		take_word(s, &t->v[t->n++]);
		t->open = *s->p == '\0';
	}
}

int cmd_split(const char *line, bool lenient, struct cmd_tokens *t, char *err, size_t err_len)
{
	size_t len = strlen(line);
	size_t words = len / 2 + 1 < CMD_WORDS_MAX ? len / 2 + 1 : CMD_WORDS_MAX;
	int rc = check_line(line, len, err, err_len);

	memset(t, 0, sizeof(*t));
	if (rc)
		return rc;
	t->buf = malloc(len + words + 1);
	t->v = calloc(words, sizeof(*t->v));
	if (!t->buf || !t->v) {
		snprintf(err, err_len, "out of memory");
		rc = -ENOMEM;
	} else {
		struct splitter s = {.line = line, .p = line, .out = t->buf};

		rc = take_words(&s, t, err, err_len);
		if (!rc && s.unclosed && !lenient) {
			snprintf(err, err_len, "the %s at column %zu is not closed",
				*s.unclosed == '"' ? "double quote" : "single quote",
				(size_t)(s.unclosed - line) + 1);
			rc = -EINVAL;
		}
	}
	if (rc)
		cmd_tokens_free(t);
	return rc;
}

void cmd_tokens_free(struct cmd_tokens *t)
{
	free(t->buf);
	free(t->v);
	memset(t, 0, sizeof(*t));
}

void cmd_put_word(FILE *f, const char *word)
{
	if (*word != '\0' && *word != '#' && !strpbrk(word, " \t\r\v\f\"'")) {
		fputs(word, f);
		return;
	}
	fputc('"', f);
	for (; *word; word++) {
		if (*word == '"' || *word == '\\')
			fputc('\\', f);
		fputc(*word, f);
	}
	fputc('"', f);
}

int cmd_parse_u64(const char *text, int base, uint64_t *value)
{
	const char *digits = text;
	char *end;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
		digits = text + 2;
		base = 16;
	}
	if (text[0] == '-' && isdigit((unsigned char)text[1]))
		return -ERANGE;
	if (!isxdigit((unsigned char)digits[0]))
		return -EINVAL;
	errno = 0;
	*value = strtoull(digits, &end, base);
	if (end == digits || *end != '\0')
		return -EINVAL;
	return errno ? -ERANGE : 0;
}

int cmd_parse_mac(const char *text, uint8_t mac[6])
{
	unsigned int b[6];
	int end = 0;

	if (strlen(text) != 17 || strspn(text, "0123456789abcdefABCDEF:") != 17)
		return -EINVAL;
	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		    &end) != 6 ||
		end != 17)
		return -EINVAL;
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Runs command lines: the registry of rows, what a handler sees of a line, results, and files. */
#include "command_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Theory of operation. Every file of the program that has commands contributes a table of rows;
 * cmd_registry_new() compiles them all, once. A line then goes through
 *
 *	cmd_split()    words                           command_split.c
 *	cmd_match()    the row, and a node per word    command_match.c, over nodes from command_grammar.c
 *	handler        looks up values by name, answers with text, JSON or an error
 *	cmd_result     all that a transport needs: console.c prints it, ctlsock.c sends it
 *
 * so that neither a handler nor a row knows where a line came from. `help`, the man pages and
 * completion read the same rows.
 */

struct cmd {
	struct cmd_registry *reg;
	struct cmd_tokens words;
	struct cmd_match match;
	char *rest; /* the value of a NAME..., once asked for */
	FILE *out;
	char *text;
	size_t text_len;
	json_t *data;
	char *error;
	int err;
	bool quiet;
};

static int add_group(
	struct cmd_registry *reg, const struct command_group *group, char *err, size_t err_len)
{
	for (const struct command *row = group->rows; row->grammar; row++) {
		struct cmd_rule *more = realloc(reg->rules, (reg->n_rules + 1) * sizeof(*more));
		int rc;

		if (!more) {
			snprintf(err, err_len, "out of memory");
			return -ENOMEM;
		}
		reg->rules = more;
		more[reg->n_rules] = (struct cmd_rule){.row = row, .group = group};
		rc = cmd_rule_compile(&more[reg->n_rules++], err, err_len);
		if (rc)
			return rc;
	}
	return 0;
}

int cmd_registry_new(const struct command_group *groups, size_t n, void *ctx,
	struct cmd_registry **out, char *err, size_t err_len)
{
	static const struct command_group builtin = {"Help and files", command_builtin};
	struct cmd_registry *reg = calloc(1, sizeof(*reg));
	int rc = reg ? 0 : -ENOMEM;

	if (!reg) {
		snprintf(err, err_len, "out of memory");
		return rc;
	}
	reg->ctx = ctx;
	for (size_t i = 0; !rc && i < n; i++)
		rc = add_group(reg, &groups[i], err, err_len);
	if (!rc)
		rc = add_group(reg, &builtin, err, err_len);
	if (rc) {
		cmd_registry_free(reg);
		return rc;
	}
	*out = reg;
	return 0;
}

void cmd_registry_free(struct cmd_registry *reg)
{
	if (!reg)
		return;
	for (size_t i = 0; i < reg->n_rules; i++)
		cmd_rule_free(&reg->rules[i]);
	free(reg->rules);
	free(reg->completers);
	free(reg);
}

void *cmd_ctx(const struct cmd *c)
{
	return c->reg->ctx;
}

struct cmd_registry *cmd_registry_of(const struct cmd *c)
{
	return c->reg;
}

/* The place of the word that this literal or parameter took; the number of words if none did. */
static size_t find(const struct cmd *c, const char *name)
{
	size_t i = 0;

	while (i < c->match.far && strcmp(c->match.best[i]->word, name) != 0)
		i++;
	return i;
}

bool cmd_has(const struct cmd *c, const char *name)
{
	return find(c, name) < c->match.far;
}

static char *join(const struct cmd_token *tok, size_t n)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%s%s", i > 0 ? " " : "", tok[i].text);
	fclose(f);
	return text;
}

const char *cmd_str(const struct cmd *c, const char *name)
{
	size_t i = find(c, name);

	if (i == c->match.far)
		return NULL;
	return c->match.best[i]->rest ? c->rest : c->words.v[i].text;
}

uint64_t cmd_u64(const struct cmd *c, const char *name, uint64_t absent)
{
	size_t i = find(c, name);
	uint64_t v = absent;

	if (i < c->match.far)
		cmd_parse_u64(
			c->words.v[i].text, c->match.best[i]->value == VALUE_HEX ? 16 : 10, &v);
	return v;
}

bool cmd_mac(const struct cmd *c, const char *name, uint8_t mac[6])
{
	const char *text = cmd_str(c, name);

	return text && cmd_parse_mac(text, mac) == 0;
}

const char *cmd_after(const struct cmd *c, const char *literal)
{
	size_t i = find(c, literal);

	return i + 1 < c->match.far ? c->words.v[i + 1].text : NULL;
}

FILE *cmd_out(struct cmd *c)
{
	return c->out;
}

void cmd_printf(struct cmd *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(c->out, fmt, ap);
	va_end(ap);
}

void cmd_json(struct cmd *c, json_t *data)
{
	json_decref(c->data);
	c->data = data;
}

void cmd_quiet(struct cmd *c)
{
	c->quiet = true;
}

/* Errors are one line whatever they quote. */
static void one_line(char *text)
{
	for (; text && *text; text++)
		if (*text == '\n' || *text == '\r')
			*text = text[1] ? ' ' : '\0';
}

int cmd_fail(struct cmd *c, int err, const char *fmt, ...)
{
	va_list ap;

	free(c->error);
	va_start(ap, fmt);
	if (vasprintf(&c->error, fmt, ap) < 0)
		c->error = NULL;
	va_end(ap);
	one_line(c->error);
	c->err = err;
	return err;
}

json_t *cmd_json_text(const char *text)
{
	json_t *value = json_string(text);
	char *plain;

	if (value)
		return value;
	plain = strdup(text);
	if (!plain)
		return NULL;
	for (char *p = plain; *p; p++)
		if (*p & 0x80)
			*p = '?';
	value = json_string(plain);
	free(plain);
	return value;
}

/* The missing one of text and JSON is made from the other. */
static void complete_answer(struct cmd *c)
{
	json_t *text;

	fflush(c->out);
	if (c->data) {
		if (c->text_len == 0 && c->err == 0 && !c->quiet)
			cmd_render(c->out, c->data);
		return;
	}
	text = cmd_json_text(c->text ? c->text : "");
	if (text)
		c->data = json_pack("{s:o}", "text", text);
}

static void call_handler(struct cmd *c)
{
	const struct cmd_rule *rule = c->match.full;
	size_t last = c->match.far - 1;
	int rc;

	for (size_t i = 0; i <= last && !c->rest; i++)
		if (c->match.best[i]->rest)
			c->rest = join(&c->words.v[i], c->words.n - i);
	rc = rule->row->handler(c);
	if (rc < 0 && !c->error)
		cmd_fail(c, rc, "%s: %s", rule->row->grammar, strerror(-rc));
	if (!c->error)
		c->err = rc;
}

static void run_words(struct cmd *c)
{
	char *why;

	cmd_match(&c->match, c->reg, c->words.v, c->words.n);
	if (c->match.full) {
		call_handler(c);
		return;
	}
	why = cmd_explain(&c->match);
	cmd_fail(c, -EINVAL, "%s", why ? why : "out of memory");
	free(why);
}

static void take_result(struct cmd *c, struct cmd_result *res)
{
	complete_answer(c);
	fclose(c->out);
	res->err = c->err < 0 ? c->err : 0;
	res->stop = c->err == CMD_STOP;
	res->error = c->error;
	res->text = c->text;
	res->data = c->data;
	free(c->rest);
	cmd_tokens_free(&c->words);
}

int cmd_run(struct cmd_registry *reg, const char *line, struct cmd_result *res)
{
	struct cmd *c = calloc(1, sizeof(*c));
	char err[256];
	int rc;

	memset(res, 0, sizeof(*res));
	if (c)
		c->out = open_memstream(&c->text, &c->text_len);
	if (!c || !c->out) {
		free(c);
		res->error = strdup("out of memory");
		res->text = strdup("");
		return res->err = -ENOMEM;
	}
	c->reg = reg;
	rc = cmd_split(line, false, &c->words, err, sizeof(err));
	if (rc)
		cmd_fail(c, rc, "%s", err);
	else if (c->words.n > 0)
		run_words(c);
	take_result(c, res);
	free(c);
	return res->err;
}

void cmd_result_clear(struct cmd_result *res)
{
	free(res->error);
	free(res->text);
	json_decref(res->data);
	memset(res, 0, sizeof(*res));
}

/* A file of commands being run: the text of all of them, and the first error. */
struct file_run {
	struct cmd_registry *reg;
	const char *path;
	FILE *out;
	struct cmd_result *res;
};

static void file_error(struct file_run *run, int err, unsigned int line, const char *what)
{
	run->res->err = err;
	if ((line ? asprintf(&run->res->error, "%s:%u: %s", run->path, line, what)
		  : asprintf(&run->res->error, "%s: %s", run->path, what)) < 0)
		run->res->error = NULL;
}

/* The whole file as a string, NULL with the error set. */
static char *read_commands(struct file_run *run)
{
	struct stat st;
	char *text = NULL;
	ssize_t n = -1;
	int fd = open(run->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 || fstat(fd, &st) < 0) {
		file_error(run, -errno, 0, strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		file_error(run, -EINVAL, 0, "not a regular file");
	} else if (st.st_size > CMD_FILE_MAX) {
		file_error(run, -EFBIG, 0, "the file is larger than 16 MiB");
	} else {
		text = malloc((size_t)st.st_size + 1);
		n = text ? read(fd, text, (size_t)st.st_size) : -1;
		if (n < 0)
			file_error(run, -errno, 0, strerror(errno));
		else
			text[n] = '\0';
	}
	if (fd >= 0)
		close(fd);
	if (n < 0) {
		free(text);
		return NULL;
	}
	if (strlen(text) != (size_t)n) {
		file_error(run, -EINVAL, 0, "not a text file: it has a NUL byte");
		free(text);
		return NULL;
	}
	return text;
}

static void run_lines(struct file_run *run, char *text)
{
	unsigned int number = 1;

	for (char *line = strsep(&text, "\n"); line; line = strsep(&text, "\n"), number++) {
		struct cmd_result one;

		cmd_run(run->reg, line, &one);
		fputs(one.text ? one.text : "", run->out);
		if (one.err)
			file_error(run, one.err, number, one.error ? one.error : "out of memory");
		run->res->stop = one.stop;
		cmd_result_clear(&one);
		if (run->res->err || run->res->stop)
			return;
	}
}

static void run_file(struct file_run *run)
{
	char *text;

	if (run->reg->depth == CMD_DEPTH_MAX) {
		file_error(run, -ELOOP, 0,
			"files of commands are nested too deep, does one run itself?");
		return;
	}
	text = read_commands(run);
	if (!text)
		return;
	run->reg->depth++;
	run_lines(run, text);
	run->reg->depth--;
	free(text);
}

int cmd_run_file(struct cmd_registry *reg, const char *path, struct cmd_result *res)
{
	struct file_run run = {.reg = reg, .path = path, .res = res};
	size_t len;
	json_t *text;

	memset(res, 0, sizeof(*res));
	run.out = open_memstream(&res->text, &len);
	if (!run.out) {
		file_error(&run, -ENOMEM, 0, "out of memory");
		res->text = strdup("");
		return res->err;
	}
	run_file(&run);
	fclose(run.out);
	text = cmd_json_text(res->text);
	res->data = text ? json_pack("{s:o}", "text", text) : NULL;
	return res->err;
}

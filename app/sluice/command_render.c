/* SPDX-License-Identifier: BSD-3-Clause */
/* Prints a JSON value for people, for commands that answer with JSON only. */
#include "command.h"

#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 32

static void render(FILE *f, const json_t *value, int indent);

static bool is_scalar(const json_t *v)
{
	const json_t *e;
	size_t i;

	if (json_is_array(v)) {
		json_array_foreach (v, i, e)
			if (json_is_object(e) || json_is_array(e))
				return false;
		return true;
	}
	return !json_is_object(v) || json_object_size(v) == 0;
}

static void put_scalar(FILE *f, const json_t *v)
{
	const json_t *e;
	size_t i;

	if (json_is_string(v))
		fputs(json_string_length(v) ? json_string_value(v) : "-", f);
	else if (json_is_integer(v))
		fprintf(f, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
	else if (json_is_real(v))
		fprintf(f, "%.6g", json_real_value(v));
	else if (json_is_boolean(v))
		fputs(json_is_true(v) ? "yes" : "no", f);
	else if (json_is_array(v) && json_array_size(v) > 0)
		json_array_foreach (v, i, e) {
			fputs(i > 0 ? ", " : "", f);
			put_scalar(f, e);
		}
	else
		fputc('-', f);
}

/* The caller frees it; NULL only without memory. */
static char *scalar_text(const json_t *v)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	if (v)
		put_scalar(f, v);
	fclose(f);
	return text;
}

static bool is_table(const json_t *v)
{
	const json_t *row, *cell;
	const char *key;
	size_t i;

	if (!json_is_array(v) || json_array_size(v) == 0)
		return false;
	json_array_foreach (v, i, row) {
		if (!json_is_object(row) || json_object_size(row) == 0)
			return false;
		json_object_foreach ((json_t *)(uintptr_t)row, key, cell)
			if (!is_scalar(cell))
				return false;
	}
	return true;
}

struct column {
	const char *key;
	int width;
	bool numbers;
};

static struct column *find_column(struct column *cols, size_t *n, const char *key)
{
	for (size_t i = 0; i < *n; i++)
		if (strcmp(cols[i].key, key) == 0)
			return &cols[i];
	if (*n == COLUMNS_MAX)
		return NULL;
	cols[*n] = (struct column){key, (int)strlen(key), true};
	return &cols[(*n)++];
}

static size_t measure(const json_t *table, struct column *cols)
{
	const json_t *row, *cell;
	const char *key;
	size_t i, n = 0;

	json_array_foreach (table, i, row) {
		json_object_foreach ((json_t *)(uintptr_t)row, key, cell) {
			struct column *col = find_column(cols, &n, key);
			char *text = col ? scalar_text(cell) : NULL;

			if (text && (int)strlen(text) > col->width)
				col->width = (int)strlen(text);
			if (col && !json_is_number(cell))
				col->numbers = false;
			free(text);
		}
	}
	return n;
}

static void put_cell(FILE *f, const struct column *col, const char *text, bool last)
{
	if (col->numbers)
		fprintf(f, "%*s", col->width, text);
	else if (last)
		fputs(text, f);
	else
		fprintf(f, "%-*s", col->width, text);
	fputs(last ? "\n" : "  ", f);
}

static void render_table(FILE *f, const json_t *table, int indent)
{
	struct column cols[COLUMNS_MAX];
	size_t n = measure(table, cols), i;
	const json_t *row;

	fprintf(f, "%*s", indent, "");
	for (size_t c = 0; c < n; c++)
		put_cell(f, &cols[c], cols[c].key, c + 1 == n);
	json_array_foreach (table, i, row) {
		fprintf(f, "%*s", indent, "");
		for (size_t c = 0; c < n; c++) {
			const json_t *cell = json_object_get(row, cols[c].key);
			char *text = scalar_text(cell);

			put_cell(f, &cols[c], text ? text : "", c + 1 == n);
			free(text);
		}
	}
}

static void render_object(FILE *f, const json_t *object, int indent)
{
	const json_t *v;
	const char *key;
	int width = 0;

	json_object_foreach ((json_t *)(uintptr_t)object, key, v)
		if (is_scalar(v) && (int)strlen(key) > width)
			width = (int)strlen(key);
	json_object_foreach ((json_t *)(uintptr_t)object, key, v) {
		fprintf(f, "%*s%s:", indent, "", key);
		if (is_scalar(v)) {
			fprintf(f, "%*s", width - (int)strlen(key) + 1, "");
			put_scalar(f, v);
			fputc('\n', f);
		} else {
			fputc('\n', f);
			render(f, v, indent + 2);
		}
	}
}

static void render(FILE *f, const json_t *value, int indent)
{
	const json_t *e;
	size_t i;

	if (is_scalar(value)) {
		fprintf(f, "%*s", indent, "");
		put_scalar(f, value);
		fputc('\n', f);
	} else if (is_table(value)) {
		render_table(f, value, indent);
	} else if (json_is_object(value)) {
		render_object(f, value, indent);
	} else {
		json_array_foreach (value, i, e) {
			fputs(i > 0 ? "\n" : "", f);
			render(f, e, indent);
		}
	}
}

void cmd_render(FILE *f, const json_t *value)
{
	render(f, value, 0);
}

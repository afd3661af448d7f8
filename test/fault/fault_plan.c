/* SPDX-License-Identifier: BSD-3-Clause */
/* The cases that were generated: which of them run, and what became of them row by row. */
#include "fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault_priv.h"

#define CASES_MAX 4096u
#define ROWS_MAX  32u

static struct fault_case cases[CASES_MAX];
static unsigned n_cases, n_left;

/* Of one row of the matrix. */
struct figures {
	char row[8];
	unsigned of, ran, held;
	unsigned counted;
	uint64_t frames;
	int64_t asleep_us;
};

static struct figures figures[ROWS_MAX];
static unsigned n_figures;

uint32_t fault_hash_of(const struct fault_case *c)
{
	return fault_hash(c->name);
}

uint32_t fault_hash(const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	return h ^ h >> 15;
}

static struct figures *row_of(const struct fault_case *c)
{
	size_t len = strcspn(c->name, "_");
	struct figures *r;

	for (unsigned i = 0; i < n_figures; i++)
		if (strlen(figures[i].row) == len && strncmp(figures[i].row, c->name, len) == 0)
			return &figures[i];
	if (n_figures == ROWS_MAX || len >= sizeof(figures[0].row)) {
		fprintf(stderr, "%s: no place for its row\n", c->name);
		exit(2);
	}
	r = &figures[n_figures++];
	memcpy(r->row, c->name, len);
	return r;
}

void fault_add(const struct fault_case *c, const char *fmt, ...)
{
	struct fault_case *to = &cases[n_cases];
	va_list ap;

	if (n_cases == CASES_MAX) {
		fprintf(stderr, "more than %u cases\n", CASES_MAX);
		exit(2);
	}
	*to = *c;
	va_start(ap, fmt);
	vsnprintf(to->name, sizeof(to->name), fmt, ap);
	va_end(ap);
	for (unsigned i = 0; i < n_cases; i++)
		if (strcmp(cases[i].name, to->name) == 0) {
			fprintf(stderr, "%s: two cases have this name\n", to->name);
			exit(2);
		}
	n_cases++;
	row_of(to)->of++;
}

/* Of the same kind and about the same message. */
static bool alike(const struct fault_case *a, const struct fault_case *b)
{
	size_t len = strcspn(a->name, "[");

	return a->msg == b->msg && len == strcspn(b->name, "[") &&
	       strncmp(a->name, b->name, len) == 0;
}

/* For the short run, of those that are alike the one whose name's hash is smallest; some more where
 * no message makes a difference. */
static bool stands_for_others(const struct fault_case *c)
{
	if (c->slow)
		return false;
	if (!c->msg && fault_hash(c->name) % 6 == 0)
		return true;
	for (unsigned i = 0; i < n_cases; i++)
		if (&cases[i] != c && !cases[i].slow && alike(&cases[i], c) &&
			fault_hash(cases[i].name) < fault_hash(c->name))
			return false;
	return true;
}

static unsigned counted; /* by the running case */

void fault_count(unsigned n)
{
	counted += n;
}

void fault_note(const struct fault_case *c, const struct lcore *l)
{
	struct figures *r = row_of(c);

	r->held++;
	r->counted += counted;
	counted = 0;
	r->frames += l->received[0] + l->received[1] - l->before[0] - l->before[1];
	if (l->asleep_us > r->asleep_us)
		r->asleep_us = l->asleep_us;
}

bool fault_was_last(void)
{
	return --n_left == 0;
}

static const char *times(const struct figures *r)
{
	static char text[40];

	text[0] = '\0';
	if (r->counted)
		snprintf(text, sizeof(text), ", each of %u failures", r->counted);
	return text;
}

static void tell(void)
{
	for (const struct figures *r = figures; r < figures + n_figures; r++)
		if (r->ran > 0)
			fprintf(stderr,
				"# %-3s %u of %u cases run, %u hold%s; neighbours: %llu frames, "
				"none lost, at most %lld ms asleep\n",
				r->row, r->ran, r->of, r->held, times(r),
				(unsigned long long)r->frames, (long long)r->asleep_us / 1000);
}

static bool named(const struct fault_case *c, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strstr(c->name, argv[i]))
			return true;
	return false;
}

int fault_main(void (*const rows[])(void), unsigned n, int argc, char **argv)
{
	static struct CMUnitTest tests[CASES_MAX];
	const bool all = argc > 1 || ts_all();
	unsigned chosen = 0;
	int rc;

	for (unsigned i = 0; i < n; i++)
		rows[i]();
	for (unsigned i = 0; i < n_cases; i++) {
		struct fault_case *c = &cases[i];

		if (!all && !stands_for_others(c))
			continue;
		tests[chosen++] =
			(struct CMUnitTest){c->name, fault_test, fault_setup, fault_teardown, c};
		if (argc > 1 && !named(c, argc, argv))
			continue;
		row_of(c)->ran++;
		n_left++;
	}
	rc = ts_run_tests(tests, chosen, argc, argv);
	if (n_left == 0)
		tell();
	return rc;
}

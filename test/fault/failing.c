/* SPDX-License-Identifier: BSD-3-Clause */
/* Which call of the libraries fails. */
#include "failing.h"

/* Of the thread that asked for it: lcores and whoever fetches pages are spared. */
static _Thread_local struct {
	bool counting;
	const char *only; /* this file, or NULL */
	unsigned n, at;
	char where[80];
} failing;

bool failing_call(int error, const char *file, int line)
{
	const char *name = strrchr(file, '/');

	name = name ? name + 1 : file;
	if (!failing.counting || (failing.only && strcmp(failing.only, name) != 0) ||
		++failing.n != failing.at)
		return false;
	snprintf(failing.where, sizeof(failing.where), "%s:%d", name, line);
	errno = error;
	return true;
}

void failing_begin(unsigned n)
{
	failing_begin_in(NULL, n);
}

void failing_begin_in(const char *file, unsigned n)
{
	failing.only = file;
	failing.n = 0;
	failing.at = n;
	failing.where[0] = '\0';
	failing.counting = true;
}

unsigned failing_end(const char **where)
{
	failing.counting = false;
	*where = failing.where[0] ? failing.where : NULL;
	return failing.n;
}

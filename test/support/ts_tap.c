/* SPDX-License-Identifier: BSD-3-Clause */
/* TAP for cmocka: its own output cannot say why a case was skipped, nor that skipping is no failure. */
#include "ts_tap.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char why_skipped[200];

void ts_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why_skipped, sizeof(why_skipped), fmt, ap);
	va_end(ap);
	skip();
	abort(); /* skip() jumps */
}

static bool wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strstr(name, argv[i]))
			return true;
	return argc < 2;
}

/* cmocka reports progress to stdout and failures to stderr: only the latter are for people. */
static FILE *take_stdout(void)
{
	FILE *tap = fdopen(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3), "w");
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (!tap || null < 0 || dup2(null, STDOUT_FILENO) < 0) {
		perror("stdout");
		exit(2);
	}
	close(null);
	setvbuf(tap, NULL, _IOLBF, 0);
	return tap;
}

int ts_run_tests(const struct CMUnitTest *tests, size_t n, int argc, char **argv)
{
	unsigned done = 0, failed = 0, chosen = 0;
	FILE *tap;

	for (size_t i = 0; i < n; i++)
		chosen += wanted(tests[i].name, argc, argv);
	if (argc == 2 && strcmp(argv[1], "--list") == 0) {
		for (size_t i = 0; i < n; i++)
			puts(tests[i].name);
		return 0;
	}
	unsetenv("CMOCKA_MESSAGE_OUTPUT");
	tap = take_stdout();
	fprintf(tap, "1..%u\n", chosen);
	for (size_t i = 0; i < n; i++) {
		bool bad;

		if (!wanted(tests[i].name, argc, argv))
			continue;
		why_skipped[0] = '\0';
		bad = _cmocka_run_group_tests(tests[i].name, &tests[i], 1, NULL, NULL) != 0;
		failed += bad;
		fprintf(tap, "%sok %u - %s%s%s\n", bad ? "not " : "", ++done, tests[i].name,
			why_skipped[0] ? " # SKIP " : "", why_skipped);
	}
	fclose(tap);
	if (!chosen)
		fprintf(stderr, "%s: no case has this name; --list shows them\n", argv[0]);
	return failed || !chosen;
}

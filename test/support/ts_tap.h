/* SPDX-License-Identifier: BSD-3-Clause */
/* Runs cmocka cases and tells their results one by one as TAP, with the reason of each skip. */
#ifndef TS_TAP_H
#define TS_TAP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/**
 * Run the cases whose names contain one of argv[1..] (all without arguments), each in a cmocka
 * group of its own; "--list" prints the names. TAP goes to stdout, everything else to stderr.
 * Returns main()'s value: 1 if a case failed or none was found.
 */
int ts_run_tests(const struct CMUnitTest *tests, size_t n, int argc, char **argv);

/** End the running case as skipped, saying why. */
void ts_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif

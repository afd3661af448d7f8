/* SPDX-License-Identifier: BSD-3-Clause */
/* A sample table of commands for the tests of the command machinery. */
#pragma once

#include "command.h"

/* What the handlers saw last; the ctx of sample_registry(). */
struct sample {
	char row[64];
	char name[64];
	char path[256];
	char args[256];
	uint64_t n;
	unsigned int runs;
	bool stopped;
};

/*
 * A registry of the sample rows and completers; stops the test with a message if it does not
 * compile.
 */
struct cmd_registry *sample_registry(struct sample *sample);

/* SPDX-License-Identifier: BSD-3-Clause */
/* What a switch was started with: who is started with the same may go on where it stopped. */
#include <stdio.h>
#include <stdlib.h>

#include "handover.h"
#include "sluice.h"
#include "starter.h"

static int copy(FILE *from, FILE *to)
{
	char buf[4096];
	size_t n;

	while ((n = fread(buf, 1, sizeof(buf), from)) > 0)
		fwrite(buf, 1, n, to);
	return ferror(from) ? -1 : 0;
}

static int write_origin(const char *commands, FILE *to)
{
	char *words = starter_words();
	FILE *f = commands ? fopen(commands, "re") : NULL;
	int err = words && !commands == !f ? 0 : -1;

	if (!err)
		fprintf(to, "%s\n", words);
	if (!err && f)
		err = copy(f, to);
	if (f)
		fclose(f);
	free(words);
	return err;
}

char *handover_origin(const struct sluice *sl)
{
	char *text = NULL;
	size_t len = 0;
	FILE *to = open_memstream(&text, &len);
	int err = to ? write_origin(sl->opt.commands, to) : -1;

	if (to)
		fclose(to);
	if (err || len >= FRAME_MAX) {
		free(text);
		text = NULL;
	}
	return text;
}

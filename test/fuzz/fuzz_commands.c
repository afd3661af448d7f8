/* SPDX-License-Identifier: BSD-3-Clause */
/* Fuzz target: lines as an operator types them, requests as a client of the control socket sends them. */

/*
 * An input is lines. One that begins with a tab is a request to the control socket without it; any
 * other is run, and completed at each of its ends. The table is the tests' (sample_commands.c), whose
 * handlers touch nothing.
 */
#include "ctlsock.h"
#include "fuzz.h"
#include "sample_commands.h"

static struct sample sample;
static struct cmd_registry *reg;

static bool one_line(const char *text)
{
	return *text && !strchr(text, '\n');
}

static void complete(const char *line)
{
	struct cmd_candidates found;

	cmd_complete(reg, line, &found);
	PROMISE(found.start <= strlen(line));
	cmd_candidates_clear(&found);
}

static void run(char *line)
{
	struct cmd_result res;
	int err;

	complete(line);
	err = cmd_run(reg, line, &res);
	PROMISE(err == res.err && err <= 0 && res.text);
	PROMISE(err ? res.error && one_line(res.error) : !res.error);
	cmd_result_clear(&res);
}

/* Whatever is asked, an answer is JSON, or empty: who sends a notification waits for none. */
static void request(const char *line, size_t len)
{
	size_t answer_len;
	char *answer = ctlsock_rpc(reg, line, len, &answer_len);
	json_t *json;

	PROMISE(answer);
	PROMISE(!memchr(answer, '\n', answer_len));
	json = json_loadb(answer, answer_len, 0, NULL);
	PROMISE(json || answer_len == 0);
	json_decref(json);
	free(answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	char line[4097];

	if (!reg)
		reg = sample_registry(&sample);
	while (in.left > 0) {
		const uint8_t *end = memchr(in.at, '\n', in.left);
		size_t len = end ? (size_t)(end - in.at) : in.left;
		size_t fits = len < sizeof(line) ? len : sizeof(line) - 1;

		memcpy(line, in.at, fits);
		line[fits] = '\0';
		in.at += len + (end != NULL);
		in.left -= len + (end != NULL);
		if (line[0] == '\t')
			request(line + 1, fits - 1);
		else
			run(line);
	}
	return 0;
}

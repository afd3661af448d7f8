/* SPDX-License-Identifier: BSD-3-Clause */
/* A switch of commands only: serves the sample table, for the tests of sluicectl and gen-man. */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "ctlsock.h"
#include "sample_commands.h"

static int dump(const struct cmd_registry *reg)
{
	json_t *table = command_dump_json(reg);

	json_dumpf(table, stdout, JSON_INDENT(2));
	json_decref(table);
	return 0;
}

static int serve(struct cmd_registry *reg, const char *path, const struct sample *sample)
{
	struct event_base *base = event_base_new();
	struct ctlsock *sock;
	char err[256];

	if (ctlsock_new(base, reg, path, NULL, &sock, err, sizeof(err))) {
		fprintf(stderr, "%s\n", err);
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	while (!sample->stopped)
		event_base_loop(base, EVLOOP_ONCE);
	ctlsock_free(sock);
	event_base_free(base);
	return 0;
}

int main(int argc, char **argv)
{
	struct sample sample = {0};
	struct cmd_registry *reg = sample_registry(&sample);
	int rc;

	if (argc != 2) {
		fprintf(stderr, "usage: ctl_server SOCKET | --dump-commands\n");
		return 2;
	}
	rc = strcmp(argv[1], "--dump-commands") == 0 ? dump(reg) : serve(reg, argv[1], &sample);
	cmd_registry_free(reg);
	return rc;
}

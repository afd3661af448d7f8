/* SPDX-License-Identifier: BSD-3-Clause */
/* A sample table of commands, shaped like the switch's, for the tests of the command machinery. */
#include "sample_commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void keep(char *to, size_t len, const char *value)
{
	snprintf(to, len, "%s", value ? value : "");
}

static struct sample *note(struct cmd *c, const char *row)
{
	struct sample *s = cmd_ctx(c);

	keep(s->row, sizeof(s->row), row);
	keep(s->name, sizeof(s->name), cmd_str(c, "NAME"));
	s->n = cmd_u64(c, "N", 0);
	s->runs++;
	return s;
}

static int port_add(struct cmd *c)
{
	struct sample *s = note(c, "port add");

	keep(s->path, sizeof(s->path), cmd_str(c, "PATH"));
	keep(s->args, sizeof(s->args), cmd_str(c, "DEVARGS"));
	return 0;
}

static int port_del(struct cmd *c)
{
	struct sample *s = note(c, "port del");

	return cmd_fail(c, -ENOENT, "there is no port '%s'\n", s->name);
}

static int port_show(struct cmd *c)
{
	note(c, "port show");
	cmd_json(c, json_pack("{s:s, s:i, s:b, s:[s,s], s:{s:i}, s:[{s:s,s:i},{s:s,s:i}]}", "name",
			    cmd_has(c, "NAME") ? cmd_str(c, "NAME") : "all", "mtu", 1500, "up", 1,
			    "features", "csum", "tso4", "memory", "regions", 2, "queues", "ring",
			    "rx0", "packets", 12345, "ring", "tx0", "packets", 6));
	return 0;
}

static int port_mac(struct cmd *c)
{
	uint8_t mac[6] = {0};
	bool set = cmd_mac(c, "ADDR", mac);

	note(c, "port mac");
	cmd_printf(c, "%s %02x\n", set ? "set" : "cleared", mac[5]);
	return 0;
}

static int show_stats(struct cmd *c)
{
	struct sample *s = note(c, "show port stats");

	keep(s->name, sizeof(s->name), cmd_has(c, "all") ? "(all)" : cmd_str(c, "PORT"));
	cmd_printf(c, "packets of %s\n", s->name);
	cmd_json(c, json_pack("{s:s, s:i}", "port", s->name, "packets", 7));
	return 0;
}

static int show_any(struct cmd *c)
{
	note(c, "show any");
	return 0;
}

static int set_fwd(struct cmd *c)
{
	keep(note(c, "set fwd")->name, sizeof(((struct sample *)0)->name), cmd_after(c, "fwd"));
	return 0;
}

static int set_burst(struct cmd *c)
{
	note(c, "set burst");
	return 0;
}

static int set_mask(struct cmd *c)
{
	struct sample *s = note(c, "set portmask");

	s->n = cmd_u64(c, "MASK", 0);
	return 0;
}

static int start(struct cmd *c)
{
	struct sample *s = note(c, "start");

	s->n = cmd_has(c, "tx_first") ? cmd_u64(c, "N", 1) : 0;
	return 0;
}

static int blob(struct cmd *c)
{
	uint64_t n = note(c, "blob")->n;

	for (uint64_t i = 0; i < n; i++)
		cmd_printf(c, "%s",
			"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n");
	return 0;
}

static int grumble(struct cmd *c)
{
	note(c, "grumble");
	cmd_printf(c, "half of it\n");
	return cmd_fail(c, -EIO, "the other half is missing");
}

static int silent(struct cmd *c)
{
	note(c, "silent");
	return -EBUSY;
}

static int latin(struct cmd *c)
{
	note(c, "latin");
	cmd_printf(c, "caf\xe9\n");
	return 0;
}

static int doze(struct cmd *c)
{
	usleep((useconds_t)cmd_u64(c, "MS", 0) * 1000);
	return 0;
}

static int quit(struct cmd *c)
{
	note(c, "quit")->stopped = true;
	return CMD_STOP;
}

static const struct command port_rows[] = {
	{"port add NAME listen PATH [queues N:1..128] [mode (server|client)]",
		"add a VM port on a socket",
		"The switch listens on PATH.\n\nA VM whose front-end connects there gets the port.",
		port_add, 0},
	{"port add NAME connect PATH [queues N:1..128]", "add a VM port that connects to a socket",
		NULL, port_add, 0},
	{"port add NAME dev DEVARGS...", "add a DPDK device", NULL, port_add, 0},
	{"port del NAME:PORT", "remove a port", NULL, port_del, 0},
	{"port show [NAME:PORT]", "all about a port", NULL, port_show, 0},
	{"port mac PORT [ADDR:mac]", "set or clear a port's address", NULL, port_mac, 0},
	{0},
};

static const struct command forward_rows[] = {
	{"show port stats (all|PORT)", "packet counters", NULL, show_stats, 0},
	{"show port PORT", "a row in which PORT could be 'stats'", NULL, show_any, 0},
	{"set fwd (io|mac|macswap|rxonly) [retry]", "choose the forwarding engine", NULL, set_fwd,
		0},
	{"set burst N:1..512", "packets in a burst", NULL, set_burst, 0},
	{"set portmask MASK:hex", "forward only these ports", NULL, set_mask, 0},
	{"start [tx_first [N:1..65535]]", "start forwarding", NULL, start, 0},
	{0},
};

static const struct command odd_rows[] = {
	{"blob N:1..", "print N lines of 64 bytes", NULL, blob, 0},
	{"doze MS:1..10000", "hold up the program", NULL, doze, 0},
	{"grumble", "print, then fail", NULL, grumble, 0},
	{"silent", "fail and say nothing", NULL, silent, 0},
	{"latin", "print what is not UTF-8", NULL, latin, CMD_HIDDEN},
	{"quit", "end the program", NULL, quit, 0},
	{0},
};

static void complete_port(void *ctx, struct cmd_candidates *out)
{
	cmd_candidate(out, "vm2");
	cmd_candidate(out, "vm1");
	cmd_candidate(out, "0000:00:04.0");
}

struct cmd_registry *sample_registry(struct sample *sample)
{
	static const struct command_group groups[] = {
		{"Ports", port_rows},
		{"Forwarding", forward_rows},
		{"Odds", odd_rows},
	};
	struct cmd_registry *reg;
	char err[256];

	if (cmd_registry_new(groups, 3, sample, &reg, err, sizeof(err)) ||
		cmd_completer_add(reg, "PORT", complete_port)) {
		fprintf(stderr, "the sample table does not compile: %s\n", err);
		exit(1);
	}
	return reg;
}

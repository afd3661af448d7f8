/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands: a newer process takes over. */
#include <errno.h>
#include <unistd.h>

#include "commands.h"
#include "handover.h"

static int start(struct cmd *c)
{
	const struct sluice *sl = cmd_ctx(c);
	const char *binary = cmd_str(c, "BINARY");
	char why[256];
	int err;

	if (handover_status()->state == HANDOVER_RUNNING)
		return cmd_fail(
			c, -EBUSY, "%s already: see `upgrade show`", handover_status()->text);
	if (!sl->opt.control)
		return cmd_fail(c, -EINVAL,
			"a newer process asks at the control socket, and there is none "
			"(--control)");
	err = handover_spawn(binary, sl->opt.control, why, sizeof(why));
	if (err < 0)
		return cmd_fail(c, err, "%s", why);
	cmd_printf(c, "%s\n", handover_status()->text);
	cmd_json(c, json_pack("{s:i}", "pid", (int)handover_status()->pid));
	return 0;
}

static int show(struct cmd *c)
{
	static const char *const states[] = {
		[HANDOVER_NONE] = "none",
		[HANDOVER_RUNNING] = "running",
		[HANDOVER_FAILED] = "failed",
		[HANDOVER_DONE] = "done",
	};
	const struct handover_status *st = handover_status();

	cmd_printf(c, "%s\n", st->state ? st->text : "there was no upgrade");
	cmd_json(c, json_pack("{s:s, s:i, s:i, s:s, s:i, s:i, s:f, s:f, s:I}", "state",
			    states[st->state], "pid", (int)getpid(), "other", (int)st->pid, "text",
			    st->text, "vm_ports", (int)st->vm_ports, "devices", (int)st->devices,
			    "gap_ms", st->gap_ms, "devices_ms", st->devices_ms, "lost",
			    (json_int_t)st->lost));
	return 0;
}

const struct command upgrade_commands[] = {
	{"upgrade start [BINARY]", "have a newer process take over, without loss of a connection",
		"Starts BINARY (default: the file this one was started from) with the options of "
		"this one, which hands over sockets, connections, memory, rings and addresses, and "
		"ends. Guests notice nothing. If anything goes wrong, this one goes on. `sluicectl "
		"upgrade` does this and waits for the end.",
		start, 0},
	{"upgrade show", "what became of the last upgrade", NULL, show, 0},
	{0},
};

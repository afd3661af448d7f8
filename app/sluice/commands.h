/* SPDX-License-Identifier: BSD-3-Clause */
/* The switch's command tables, and what their handlers share. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "command.h"
#include "sluice.h"

extern const struct command port_commands[], forward_commands[], fdb_commands[], config_commands[],
	upgrade_commands[];

/* verbs_*.c: as in testpmd. */
extern const struct command start_commands[], set_commands[], show_commands[], stats_commands[],
	xstats_commands[], info_commands[], hotplug_commands[];

/** All groups, for cmd_registry_new(). */
extern const struct command_group command_groups[];
extern const size_t n_command_groups;

/**
 * The registry of all commands with its completers.
 * @param sl	what handlers get as cmd_ctx(); NULL: only to look at the table
 */
int commands_create(struct sluice *sl, struct cmd_registry **reg, char *why, size_t why_len);

/** The port a parameter names, or NULL after cmd_fail(); the handler returns -ENOENT then. */
struct port *cmd_port(struct cmd *c, const char *param);

/** Put what the handler edited in force: plan_update(), or cmd_fail(). */
int cmd_updated(struct cmd *c);

/** port_del(), or cmd_fail(). */
int cmd_port_del(struct cmd *c, struct port *port);

/** An Ethernet address as text. @return buf */
const char *mac_text(const struct rte_ether_addr *mac, char buf[static RTE_ETHER_ADDR_FMT_SIZE]);

/** Add the drops of a port that are not zero to a JSON list, with reason, count and advice. */
void drops_json(json_t *list, const struct port_counters *c);

#endif

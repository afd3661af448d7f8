/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands: the packets engines make, saving the configuration, leaving. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "config_save.h"

static int quit(struct cmd *c)
{
	sluice_quit(cmd_ctx(c));
	return CMD_STOP;
}

/* A file is whole or not there: written beside, then renamed. */
static int save_to(const struct sluice *sl, const char *path)
{
	char *tmp = NULL;
	FILE *f = NULL;
	int err = 0;

	if (asprintf(&tmp, "%s.%d.tmp", path, (int)getpid()) < 0)
		return -ENOMEM;
	f = fopen(tmp, "we");
	if (!f) {
		err = -errno;
		free(tmp);
		return err;
	}
	config_save(sl, f);
	if (ferror(f) || fflush(f) || fsync(fileno(f)))
		err = errno ? -errno : -EIO;
	if (fclose(f) && !err)
		err = -errno;
	if (!err && rename(tmp, path) < 0)
		err = -errno;
	if (err)
		unlink(tmp);
	free(tmp);
	return err;
}

static int save(struct cmd *c)
{
	const char *path = cmd_str(c, "FILE");
	int err = save_to(cmd_ctx(c), path);

	return err < 0 ? cmd_fail(c, err, "cannot write '%s': %s", path, strerror(-err)) : 0;
}

static int show(struct cmd *c)
{
	config_save(cmd_ctx(c), cmd_out(c));
	return 0;
}

/* ---- packets made here ---- */

static int set_ip(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);
	struct in_addr src, dst;

	if (inet_pton(AF_INET, cmd_str(c, "SRC"), &src) != 1 ||
		inet_pton(AF_INET, cmd_str(c, "DST"), &dst) != 1)
		return cmd_fail(c, -EINVAL, "'%s' and '%s' must both be IPv4 addresses",
			cmd_str(c, "SRC"), cmd_str(c, "DST"));
	sl->conf.tx_ip_src = ntohl(src.s_addr);
	sl->conf.tx_ip_dst = ntohl(dst.s_addr);
	return cmd_updated(c);
}

static int set_udp(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	sl->conf.tx_udp_src = (uint16_t)cmd_u64(c, "SRC", 9);
	sl->conf.tx_udp_dst = (uint16_t)cmd_u64(c, "DST", sl->conf.tx_udp_src);
	return cmd_updated(c);
}

static int set_multi_flow(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	sl->conf.tx_multi_flow = cmd_has(c, "on");
	return cmd_updated(c);
}

static int set_flows(struct cmd *c)
{
	struct sluice *sl = cmd_ctx(c);

	sl->conf.flowgen_flows = (uint32_t)cmd_u64(c, "N", 1024);
	return cmd_updated(c);
}

const struct command config_commands[] = {
	{"set txonly ip SRC DST", "IPv4 addresses in packets of txonly",
		"The default is 198.18.0.1 to 198.18.0.2.", set_ip, 0},
	{"set txonly udp SRC:1..65535 [DST:1..65535]", "UDP ports in packets of txonly",
		"The default is 9 to 9.", set_udp, 0},
	{"set txonly multi-flow (on|off)", "another UDP source port for each packet of txonly",
		NULL, set_multi_flow, 0},
	{"set flowgen flows N:1..65536", "how many flows flowgen makes", NULL, set_flows, 0},
	{"config save FILE", "write a file of commands that recreates this state",
		"`sluice -- --commands FILE` and `commands FILE` read it.", save, 0},
	{"config show", "print what `config save` would write", NULL, show, 0},
	{"quit", "end sluice", NULL, quit, 0},
	{0},
};

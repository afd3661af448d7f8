/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line: what is ours, what is the EAL's, and what is wrong with it. */
#include "options.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>
#include <rte_mbuf.h>

#include "ctlsock.h"

#define MBUFS_DEFAULT 32768
#define MBUFS_MIN     1024
#define MBUFS_MAX     (1u << 26)

/* Every option once: getopt's table, the help text and the parser are made from this. The last
 * column continues the help on a line of its own. */
#define OPTIONS(X)                                                                                \
	X(INTERACTIVE, 'i', "interactive", NULL, "read commands from standard input")             \
	X(COMMANDS, 0, "commands", "FILE", "run the commands in FILE first: the configuration")   \
	X(CONTROL, 0, "control", "PATH",                                                          \
		"control socket, or 'none' (default " CTLSOCK_DEFAULT_PATH ")")                   \
	X(CONTROL_GROUP, 0, "control-group", "GROUP",                                             \
		"who may use it beside us (default: our group)")                                  \
	X(TAKE_OVER, 0, "take-over", "PATH",                                                      \
		"take everything over from the sluice with this control socket")                  \
	X(STATE_DIR, 0, "state-dir", "DIR",                                                       \
		"where rings leave what a crash must not lose, or 'none'")                        \
	X(MBUFS, 0, "mbufs", "N", "packet buffers per NUMA node (default 32768, 2.4 KB each)")    \
	X(BURST, 0, "burst", "N", "packets per poll, 1 to 64 (default 64)")                       \
	X(FWD, 0, "fwd", "ENGINE", "forwarding engine (default bridge)")                          \
	X(FORWARD_MODE, 0, "forward-mode", "ENGINE", "the same, as testpmd spells it")            \
	X(TOPOLOGY, 0, "port-topology", "NAME", "paired, chained or loop, for testpmd's engines") \
	X(TX_IP, 0, "tx-ip", "SRC,DST", "IPv4 addresses in packets of txonly")                    \
	X(TX_UDP, 0, "tx-udp", "SRC[,DST]", "UDP ports in packets of txonly")                     \
	X(MULTI_FLOW, 0, "txonly-multi-flow", NULL,                                               \
		"another UDP source port for each packet of txonly")                              \
	X(FLOWS, 0, "flowgen-flows", "N", "flows of flowgen (default 1024)")                      \
	X(TXPKTS, 0, "txpkts", "N[,N...]", "lengths of the segments of packets made here")        \
	X(CYCLES, 0, "record-core-cycles", NULL, "cycles per packet with forward statistics")     \
	X(STATS_PERIOD, 0, "stats-period", "SECONDS", "print port statistics now and then")       \
	X(CMDLINE_FILE, 0, "cmdline-file", "FILE", "as --commands, as testpmd spells it")         \
	X(AUTO_START, 'a', "auto-start", NULL, "forward at once, which is the default")           \
	X(STOP, 0, "stop", NULL, "do not forward until `start`")                                  \
	X(KEEP_PRIVILEGES, 0, "keep-privileges", NULL,                                            \
		"do not give up capabilities and system calls a switch does not need")            \
	X(DUMP_COMMANDS, 0, "dump-commands", NULL, "print the command table as JSON and exit")    \
	X(VERSION, 0, "version", NULL, "print the version and exit")                              \
	X(HELP, 'h', "help", NULL, "print this and exit")

enum option_id {
	OPTION_BASE = 255, /* beyond every short option */
#define X(id, letter, name, arg, help) OPTION_##id,
	OPTIONS(X)
#undef X
};

static const struct option long_options[] = {
#define X(id, letter, name, arg, help) {name, (arg) != NULL, NULL, OPTION_##id},
	OPTIONS(X)
#undef X
		{0},
};

void options_help(void)
{
	static const struct {
		char letter;
		const char *name, *arg, *help;
	} rows[] = {
#define X(id, letter, name, arg, help) {letter, name, arg, help},
		OPTIONS(X)
#undef X
	};
	char left[64];

	printf("Usage: sluice [EAL options] -- [options]\n\n"
	       "A vhost-user switch: attaches virtual machines to each other and to NICs.\n"
	       "EAL options are DPDK's, such as -l 0,1 (the first lcore controls, the others "
	       "forward),\n--file-prefix NAME, --no-pci, -a PCI-ADDRESS. Options:\n\n");
	for (size_t i = 0; i < RTE_DIM(rows); i++) {
		snprintf(left, sizeof(left), "%c%c%s--%s %s", rows[i].letter ? '-' : ' ',
			rows[i].letter ? rows[i].letter : ' ', rows[i].letter ? ", " : "  ",
			rows[i].name, rows[i].arg ? rows[i].arg : "");
		printf("  %-30s %s\n", left, rows[i].help);
	}
	printf("\nEngines:");
	for (const struct engine *const *e = engines; *e; e++)
		printf(" %s", (*e)->name);
	printf("\n");
}

/* ---- values ---- */

static int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 0);
	if (errno || end == text || *end || *text == '-' || *value < min || *value > max)
		return -EINVAL;
	return 0;
}

static int number_option(const char *name, const char *text, uint64_t min, uint64_t max,
	uint64_t *value, char *why, size_t why_len)
{
	int err = parse_number(text, min, max, value);

	if (err < 0)
		snprintf(why, why_len, "--%s wants a number from %ju to %ju, not '%s'", name,
			(uintmax_t)min, (uintmax_t)max, text);
	return err;
}

static int parse_engine(struct options *opt, const char *text, char *why, size_t why_len)
{
	size_t n = 0;

	opt->engine = engine_find(text);
	if (opt->engine)
		return 0;
	n = (size_t)snprintf(
		why, why_len, "there is no forwarding engine '%s': choose one of", text);
	for (const struct engine *const *e = engines; *e && n < why_len; e++)
		n += (size_t)snprintf(why + n, why_len - n, " %s", (*e)->name);
	return -EINVAL;
}

static const char *const topologies[] = {
	[TOPOLOGY_PAIRED] = "paired",
	[TOPOLOGY_CHAINED] = "chained",
	[TOPOLOGY_LOOP] = "loop",
};

const char *topology_name(enum topology topology)
{
	return topologies[topology];
}

int topology_find(const char *name)
{
	for (unsigned i = 0; i < RTE_DIM(topologies); i++)
		if (strcmp(topologies[i], name) == 0)
			return (int)i;
	return -ENOENT;
}

static int parse_topology(struct options *opt, const char *text, char *why, size_t why_len)
{
	int topology = topology_find(text);

	if (topology < 0) {
		snprintf(
			why, why_len, "--port-topology is paired, chained or loop, not '%s'", text);
		return -EINVAL;
	}
	opt->topology = (enum topology)topology;
	return 0;
}

/* "A,B" into two words; the second may be missing: then it is the first. */
static int split_pair(const char *text, char a[32], char b[32])
{
	const char *comma = strchr(text, ',');
	size_t len = comma ? (size_t)(comma - text) : strlen(text);

	if (len >= 32 || (comma && strlen(comma + 1) >= 32))
		return -EINVAL;
	snprintf(a, 32, "%.*s", (int)len, text);
	snprintf(b, 32, "%s", comma ? comma + 1 : a);
	return 0;
}

static int parse_tx_ip(struct options *opt, const char *text, char *why, size_t why_len)
{
	char a[32], b[32];
	struct in_addr src, dst;

	if (!strchr(text, ',') || split_pair(text, a, b) < 0 || inet_pton(AF_INET, a, &src) != 1 ||
		inet_pton(AF_INET, b, &dst) != 1) {
		snprintf(why, why_len, "--tx-ip wants two IPv4 addresses, SRC,DST, not '%s'", text);
		return -EINVAL;
	}
	opt->conf.tx_ip_src = ntohl(src.s_addr);
	opt->conf.tx_ip_dst = ntohl(dst.s_addr);
	return 0;
}

static int parse_tx_udp(struct options *opt, const char *text, char *why, size_t why_len)
{
	char a[32], b[32];
	uint64_t src, dst;

	if (split_pair(text, a, b) < 0 || parse_number(a, 1, 65535, &src) < 0 ||
		parse_number(b, 1, 65535, &dst) < 0) {
		snprintf(why, why_len, "--tx-udp wants UDP ports, SRC or SRC,DST, not '%s'", text);
		return -EINVAL;
	}
	opt->conf.tx_udp_src = (uint16_t)src;
	opt->conf.tx_udp_dst = (uint16_t)dst;
	return 0;
}

int options_parse_list(
	const char *text, unsigned max, uint16_t *out, unsigned room, char *why, size_t why_len)
{
	const char *at = text;
	unsigned n = 0;

	for (;;) {
		char *end;
		unsigned long value = strtoul(at, &end, 10);

		if (!isdigit((unsigned char)*at) || (*end && *end != ',')) {
			snprintf(why, why_len,
				"'%s' is not a list of numbers with commas between: as in "
				"64,128",
				text);
			return -EINVAL;
		}
		if (value > max) {
			snprintf(why, why_len, "%lu in '%s' is too large: at most %u", value, text,
				max);
			return -ERANGE;
		}
		if (n == room) {
			snprintf(why, why_len, "'%s' has more than %u numbers", text, room);
			return -E2BIG;
		}
		out[n++] = (uint16_t)value;
		if (!*end)
			return (int)n;
		at = end + 1;
	}
}

static int parse_txpkts(struct options *opt, const char *text, char *why, size_t why_len)
{
	uint16_t len[TXPKT_SEGS_MAX];
	int n = options_parse_list(text, UINT16_MAX, len, TXPKT_SEGS_MAX, why, why_len);
	const char *wrong;

	if (n < 0)
		return n;
	wrong = engine_conf_check_txpkts(
		len, (unsigned)n, RTE_MBUF_DEFAULT_BUF_SIZE - RTE_PKTMBUF_HEADROOM);
	if (wrong) {
		snprintf(why, why_len, "--txpkts %s: %s", text, wrong);
		return -EINVAL;
	}
	opt->conf.tx_segs = (uint16_t)n;
	memcpy(opt->conf.tx_seg_len, len, (size_t)n * sizeof(len[0]));
	return 0;
}

/* ---- the line ---- */

static int apply(struct options *opt, int id, const char *arg, char *why, size_t why_len)
{
	uint64_t value = 0;
	int err = 0;

	switch (id) {
	case 'i':
	case OPTION_INTERACTIVE:
		opt->interactive = true;
		break;
	case OPTION_COMMANDS:
	case OPTION_CMDLINE_FILE:
		opt->commands = arg;
		break;
	case OPTION_CONTROL:
		opt->control = strcmp(arg, "none") == 0 ? NULL : arg;
		break;
	case OPTION_CONTROL_GROUP:
		return usock_parse_access(NULL, arg, NULL, &opt->access, why, why_len) < 0 ? -EINVAL
											   : 0;
	case OPTION_KEEP_PRIVILEGES:
		opt->keep_privileges = true;
		break;
	case OPTION_TAKE_OVER:
		opt->take_over = arg;
		break;
	case OPTION_STATE_DIR:
		opt->state_dir = arg;
		break;
	case OPTION_MBUFS:
		err = number_option("mbufs", arg, MBUFS_MIN, MBUFS_MAX, &value, why, why_len);
		opt->mbufs = (uint32_t)value;
		break;
	case OPTION_BURST:
		err = number_option("burst", arg, 1, BURST_MAX, &value, why, why_len);
		opt->conf.burst = (uint16_t)value;
		break;
	case OPTION_FWD:
	case OPTION_FORWARD_MODE:
		return parse_engine(opt, arg, why, why_len);
	case OPTION_TOPOLOGY:
		return parse_topology(opt, arg, why, why_len);
	case OPTION_TX_IP:
		return parse_tx_ip(opt, arg, why, why_len);
	case OPTION_TX_UDP:
		return parse_tx_udp(opt, arg, why, why_len);
	case OPTION_MULTI_FLOW:
		opt->conf.tx_multi_flow = true;
		break;
	case OPTION_FLOWS:
		err = number_option("flowgen-flows", arg, 1, 65536, &value, why, why_len);
		opt->conf.flowgen_flows = (uint32_t)value;
		break;
	case OPTION_TXPKTS:
		return parse_txpkts(opt, arg, why, why_len);
	case OPTION_CYCLES:
		opt->show_cycles = true;
		break;
	case OPTION_STATS_PERIOD:
		err = number_option("stats-period", arg, 1, 86400, &value, why, why_len);
		opt->stats_period = (uint32_t)value;
		break;
	case 'a':
	case OPTION_AUTO_START:
		opt->stopped = false;
		break;
	case OPTION_STOP:
		opt->stopped = true;
		break;
	}
	return err;
}

/* These need no EAL and work wherever they stand. */
static enum options_action find_action(int argc, char **argv)
{
	static const struct {
		const char *text;
		enum options_action action;
	} words[] = {
		{"-h", OPTIONS_HELP},
		{"--help", OPTIONS_HELP},
		{"--version", OPTIONS_VERSION},
		{"--dump-commands", OPTIONS_DUMP_COMMANDS},
	};

	for (int i = 1; i < argc; i++)
		for (size_t k = 0; k < RTE_DIM(words); k++)
			if (strcmp(argv[i], words[k].text) == 0)
				return words[k].action;
	return OPTIONS_RUN;
}

static int find_separator(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--") == 0)
			return i;
	return argc;
}

/* What the other one hands over cannot come from here as well. */
static int check_take_over(struct options *opt, char *why, size_t why_len)
{
	if (opt->commands || opt->interactive || !opt->control ||
		strcmp(opt->control, CTLSOCK_DEFAULT_PATH) != 0) {
		snprintf(why, why_len,
			"--take-over brings configuration and control socket along: leave out "
			"--commands, --control and --interactive");
		return -EINVAL;
	}
	opt->control = opt->take_over;
	return 0;
}

static int parse_ours(int argc, char **argv, struct options *opt, char *why, size_t why_len)
{
	int id, err = 0;

	optind = 0;
	while (err == 0 && (id = getopt_long(argc, argv, ":iah", long_options, NULL)) != -1) {
		if (id == ':' || id == '?') {
			snprintf(why, why_len,
				id == ':'
					? "option %s wants a value (see --help)"
					: "there is no option %s (EAL options stand before --; see "
					  "--help)",
				argv[optind - 1]);
			return -EINVAL;
		}
		err = apply(opt, id, optarg, why, why_len);
	}
	if (err == 0 && opt->take_over)
		err = check_take_over(opt, why, why_len);
	if (err == 0 && optind < argc) {
		snprintf(why, why_len, "'%s' is no option (see --help)", argv[optind]);
		return -EINVAL;
	}
	return err;
}

int options_parse(int argc, char **argv, struct options *opt, int *n_eal, char *why, size_t why_len)
{
	int separator = find_separator(argc, argv);

	*opt = (struct options){
		.action = find_action(argc, argv),
		.control = CTLSOCK_DEFAULT_PATH,
		.access = {.uid = (uid_t)-1, .gid = (gid_t)-1, .mode = 0660},
		.mbufs = MBUFS_DEFAULT,
		.engine = engines[0],
		.topology = TOPOLOGY_PAIRED,
	};
	engine_conf_init(&opt->conf);
	*n_eal = separator;
	if (opt->action != OPTIONS_RUN || separator == argc)
		return 0;
	/* "--" stands where getopt expects the program's name. */
	return parse_ours(argc - separator, argv + separator, opt, why, why_len);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of sluice, after the EAL's part. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine.h"
#include "usock.h"

enum options_action {
	OPTIONS_RUN,
	OPTIONS_HELP,
	OPTIONS_VERSION,
	OPTIONS_DUMP_COMMANDS,
};

struct options {
	enum options_action action;
	bool interactive;
	bool stopped;               /* --stop */
	const char *commands;       /* a file, or NULL */
	const char *control;        /* socket path, or NULL */
	struct usock_access access; /* to it */
	const char *take_over;      /* socket path of who hands over to us, or NULL */
	const char *state_dir; /* a folder in a tmpfs, "none", or NULL: beside the control socket */
	bool keep_privileges;
	uint32_t mbufs; /* per NUMA node */
	const struct engine *engine;
	enum topology topology;
	struct engine_conf conf;
	bool show_cycles;
	uint32_t stats_period; /* seconds; 0: none */
};

/**
 * Take argv apart: what stands before "--" is the EAL's, what follows ours. The actions
 * are found on either side, so that `sluice -h` works without an EAL.
 *
 * @param n_eal	how many of argv the EAL gets, argv[0] included
 * @param why	on failure one line
 * @return 0 or -EINVAL
 */
int options_parse(
	int argc, char **argv, struct options *opt, int *n_eal, char *why, size_t why_len);

void options_help(void);

const char *topology_name(enum topology topology);

/** @return an enum topology, or -ENOENT */
int topology_find(const char *name);

/**
 * Take "1,2,3" apart.
 * @param max	the largest a number may be
 * @param why	on failure one line
 * @return how many numbers, or a negative errno
 */
int options_parse_list(
	const char *text, unsigned max, uint16_t *out, unsigned room, char *why, size_t why_len);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* The configuration as testpmd prints it. */
#ifndef SHOW_CONFIG_H
#define SHOW_CONFIG_H

#include <jansson.h>
#include <stdio.h>

struct sluice;

/* Control thread. */

/** Engine and streams, as testpmd's `show config fwd` and `start`. */
void show_config_fwd(const struct sluice *sl, FILE *f);

/** Queues and how they are set up, as testpmd's `show config rxtx` and `start`. */
void show_config_rxtx(const struct sluice *sl, FILE *f);

/** How many queues are polled, or will be after `start`: testpmd's streams. */
unsigned show_config_streams(const struct sluice *sl);

/** Engine and streams; the caller owns the value. */
json_t *show_config_json(const struct sluice *sl);

#endif

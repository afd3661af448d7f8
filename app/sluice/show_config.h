/* SPDX-License-Identifier: BSD-3-Clause */
/* The configuration as testpmd prints it. */
#ifndef SHOW_CONFIG_H
#define SHOW_CONFIG_H

#include <stdio.h>

struct sluice;

/** Engine and streams, as testpmd's `show config fwd` and `start`. Control thread. */
void show_config_fwd(const struct sluice *sl, FILE *f);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* The running state as a file of commands. */
#ifndef CONFIG_SAVE_H
#define CONFIG_SAVE_H

#include <stdio.h>

struct sluice;

/** Write commands that make this state again, in a stable order. Control thread. */
void config_save(const struct sluice *sl, FILE *f);

#endif

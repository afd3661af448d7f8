/* SPDX-License-Identifier: BSD-3-Clause */
/* The running state as a file of commands. */
#ifndef CONFIG_SAVE_H
#define CONFIG_SAVE_H

#include <stdio.h>

struct sluice;

/** Write commands that make this state again, in a stable order. Control thread. */
void config_save(const struct sluice *sl, FILE *f);

/**
 * The same in parts, for who adds the ports itself (port_save()) and gives them the numbers they have:
 * what comes before them, and what comes after.
 */
void config_save_early(const struct sluice *sl, FILE *f);
void config_save_late(const struct sluice *sl, FILE *f);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Workers that are not alone on their CPU: `set sleep auto`. */
#ifndef CROWD_H
#define CROWD_H

#include <stdbool.h>
#include <stdint.h>

struct sluice;

/* Control's, of one worker. */
struct crowd {
	uint64_t time;     /* ns: when we looked last */
	uint64_t ran;      /* ns that its thread had had of a CPU by then */
	uint64_t asleep;   /* cycles that it had slept */
	uint64_t cpu;      /* ns that all threads had had of its CPU; 0: we did not look */
	uint32_t waits;    /* per mille of the last second in which it waited for its CPU */
	uint32_t alone;    /* seconds in a row that nobody else was there, while crowded */
	uint32_t patience; /* how many of them it takes */
	uint32_t left;     /* sluice.now when it was crowded last; 0: never */
	bool crowded;      /* others want its CPU: it is to sleep when it has nothing to do */
};

/**
 * See who waited for a CPU, and who is not alone on it; call once a second. Control thread.
 *
 * @return whether somebody's `crowded` is another now: a new plan is needed
 */
bool crowd_measure(struct sluice *sl);

#endif

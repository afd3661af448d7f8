/* SPDX-License-Identifier: BSD-3-Clause */
/* How much memory an x86-64 instruction touches, of those that compilers make of C. */
#ifndef TS_WATCH_INSN_H
#define TS_WATCH_INSN_H

#include <stdbool.h>
#include <stdint.h>

struct ts_insn {
	uint8_t width;    /* bytes of its memory operand; a string instruction's: of one step */
	bool only_stores; /* if it writes memory, it does not read it first */
};

/** False: it is none of those, or depends on more than its code. */
bool ts_insn_of(const uint8_t *ip, struct ts_insn *insn);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Names and advice for what the switch drops. */
#include "drops.h"

const char *switch_drop_name(enum switch_drop drop)
{
	static const char *const names[] = {
#define X(name, str, text) str,
		SWITCH_DROPS(X)
#undef X
	};

	return names[drop];
}

const char *switch_drop_advice(enum switch_drop drop)
{
	static const char *const texts[] = {
#define X(name, str, text) text,
		SWITCH_DROPS(X)
#undef X
	};

	return texts[drop];
}

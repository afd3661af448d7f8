/* SPDX-License-Identifier: BSD-3-Clause */
/* Rows L1 to L5 of the fault matrix: live migration. */
#include "rows.h"

int main(int argc, char **argv)
{
	static void (*const rows[])(void) = {rows_migrate};

	return fault_main(rows, TS_ARRAY_SIZE(rows), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Rows T1 to T9 of the fault matrix: memory tables and mappings. */
#include "rows.h"

int main(int argc, char **argv)
{
	static void (*const rows[])(void) = {rows_table, rows_swap, rows_slow};

	return fault_main(rows, TS_ARRAY_SIZE(rows), argc, argv);
}

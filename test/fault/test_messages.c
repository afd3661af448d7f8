/* SPDX-License-Identifier: BSD-3-Clause */
/* Rows M1 to M15 of the fault matrix: the front-end's messages. */
#include "rows.h"

int main(int argc, char **argv)
{
	static void (*const rows[])(void) = {rows_stream, rows_fields, rows_order, rows_shared};

	return fault_main(rows, TS_ARRAY_SIZE(rows), argc, argv);
}

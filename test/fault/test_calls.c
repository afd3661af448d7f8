/* SPDX-License-Identifier: BSD-3-Clause */
/* Row P6 of the fault matrix: what the libraries ask for and do not get. */
#include "rows.h"

int main(int argc, char **argv)
{
	static void (*const rows[])(void) = {rows_calls};

	return fault_main(rows, TS_ARRAY_SIZE(rows), argc, argv);
}

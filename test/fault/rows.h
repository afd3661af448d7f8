/* SPDX-License-Identifier: BSD-3-Clause */
/* The rows of the matrix. */
#ifndef ROWS_H
#define ROWS_H

#include "fault.h"

void rows_stream(void); /* M1 to M4, M6, M8 */

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* The rows of the matrix. */
#ifndef ROWS_H
#define ROWS_H

#include "fault.h"

/** Descriptors a right message of this kind carries. */
unsigned rows_fds_of(const struct vd_msg *row);

void rows_stream(void);  /* M1 to M4, M6, M8 */
void rows_fields(void);  /* M5, M7, M10, M13 */
void rows_order(void);   /* M9, M14, M15 */
void rows_shared(void);  /* M11, M12 */
void rows_table(void);   /* T1 to T4 */
void rows_swap(void);    /* T5 to T7 */
void rows_slow(void);    /* T9 */
void rows_migrate(void); /* L1 to L5 */

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* The rows of the matrix. */
#ifndef ROWS_H
#define ROWS_H

#include "fault.h"

/** Descriptors a right message of this kind carries. */
unsigned rows_fds_of(const struct vd_msg *row);

/* Faults that are also replayed, see test_replay.c; arguments are those of their rows. */
typedef void fault_run(struct fault *f, const struct fault_case *c);

fault_run fault_closes;
fault_run fault_size;
fault_run fault_silent;
fault_run fault_never_reads;
fault_run fault_flood;
fault_run fault_out_of_descriptors;
fault_run fault_out_of_room;
fault_run fault_unknown;
fault_run fault_many_fds;
fault_run fault_odd_type;
fault_run fault_bad_index;
fault_run fault_set_num;
fault_run fault_config;
fault_run fault_any_order;
fault_run fault_base_twice;
fault_run fault_alone;
fault_run fault_bad_log;
fault_run fault_log_window;
fault_run fault_get_inflight;
fault_run fault_get_many;
fault_run fault_set_inflight;
fault_run fault_corrupted;
fault_run fault_bent_table;
fault_run fault_bent_slot;
fault_run fault_all_slots;
fault_run fault_taken_away;
fault_run fault_ring_border;
fault_run fault_cycled;
fault_run fault_slow_pages;

/** What fault_bent_table() and fault_bent_slot() take as data, by its name. */
const void *rows_bend(const char *name);

void rows_stream(void);  /* M1 to M4, M6, M8 */
void rows_fields(void);  /* M5, M7, M10, M13 */
void rows_order(void);   /* M9, M14, M15 */
void rows_shared(void);  /* M11, M12 */
void rows_table(void);   /* T1 to T4 */
void rows_swap(void);    /* T5 to T7 */
void rows_slow(void);    /* T9 */
void rows_migrate(void); /* L1 to L5 */
void rows_calls(void);   /* P6 */

#endif

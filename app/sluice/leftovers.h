/* SPDX-License-Identifier: BSD-3-Clause */
/* What the EAL leaves in the file system at its end. */
#ifndef LEFTOVERS_H
#define LEFTOVERS_H

/*
 * rte_eal_cleanup() leaves its run-time directory with all files, and those of hugepages that
 * something still occupies: a library's few bytes are enough for all of them. They are ours to
 * remove, unless another program has the same --file-prefix. With --in-memory there are none.
 * Control thread.
 */

/** The run-time directory. After rte_eal_cleanup(), or where it cannot be called. */
void leftovers_remove_runtime(void);

/** The files of the hugepages that are mapped, which they stay. Before rte_eal_cleanup(), which
 * finds nothing to remove then; after all guests' memory was unmapped, for its files may have
 * such names too. */
void leftovers_remove_hugepages(void);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* The counters of a ring by name: what every tool of ours shows under the same names. */
#ifndef VIRTQ_STATS_H
#define VIRTQ_STATS_H

#include "virtq.h"

/**
 * Walk the counters of a ring: librte_vhost's names in its order, with 0 for what cannot
 * happen here, then one for each reason to lose a packet in this direction.
 *
 * @param st	a copy of the counters that nobody writes meanwhile
 * @param to_guest	false: a ring the guest sends by, which tools call rx
 * @param i	the caller's place in the walk: 0 to begin with, not to be changed
 * @param value	where the value goes
 * @return the name without what names the queue ("good_packets" of rx_q0_good_packets), which
 *	is static; NULL at the end
 *
 * Any thread.
 */
const char *virtq_stats_next(
	const struct virtq_stats *st, bool to_guest, unsigned *i, uint64_t *value);

/** Packets lost in this direction, for whatever reason. Any thread. */
uint64_t virtq_stats_drops(const struct virtq_stats *st, bool to_guest);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* The names of a ring's counters, once for all who show them. */
#include "virtq_stats.h"

#define BIT_RX         1 /* rings the guest sends by */
#define BIT_TX         2
#define BOTH           (BIT_RX | BIT_TX)

#define COUNTER(field) offsetof(struct virtq_stats, field)
#define NOTHING        SIZE_MAX

/* X() of VIRTQ_DROPS: the reasons begin with those of the guest's packets. */
#define X(name, str, text)                               \
	{"drop_" str, COUNTER(drops[VIRTQ_DROP_##name]), \
		VIRTQ_DROP_##name <= VIRTQ_DROP_RX_DISABLED ? BIT_RX : BIT_TX},

static const struct counter {
	const char *name;
	size_t offset; /* in struct virtq_stats, or NOTHING */
	unsigned sides;
} stats[] = {{"good_packets", COUNTER(packets), BOTH}, {"good_bytes", COUNTER(bytes), BOTH},
	{"multicast_packets", COUNTER(multicast), BOTH},
	{"broadcast_packets", COUNTER(broadcast), BOTH},
	{"undersize_packets", COUNTER(size[0]), BOTH}, {"size_64_packets", COUNTER(size[1]), BOTH},
	{"size_65_127_packets", COUNTER(size[2]), BOTH},
	{"size_128_255_packets", COUNTER(size[3]), BOTH},
	{"size_256_511_packets", COUNTER(size[4]), BOTH},
	{"size_512_1023_packets", COUNTER(size[5]), BOTH},
	{"size_1024_1518_packets", COUNTER(size[6]), BOTH},
	{"size_1519_max_packets", COUNTER(size[7]), BOTH},
	{"guest_notifications", COUNTER(calls), BOTH},
	{"guest_notifications_error", COUNTER(calls_failed), BOTH},
	/* hits: every address that is no miss; no asynchronous copies */
	{"iotlb_hits", NOTHING, BOTH}, {"iotlb_misses", COUNTER(iotlb_misses), BOTH},
	{"inflight_submitted", NOTHING, BOTH}, {"inflight_completed", NOTHING, BOTH},
	{"mbuf_alloc_failed", COUNTER(no_mbuf), BIT_RX},
	{"zero_copy_packets", COUNTER(lent), BIT_RX},
	{"zero_copy_declined_packets", COUNTER(lent_not), BIT_RX},
	{"direct_packets", COUNTER(direct), BIT_RX}, {"recovered_chains", COUNTER(recovered), BOTH},
	{"repeated_chains", COUNTER(repeated), BIT_RX}, VIRTQ_DROPS(X)};

#undef X

_Static_assert(VIRTQ_SIZE_BINS == 8, "each bin has its name above");

static uint64_t value_of(const struct counter *stat, const struct virtq_stats *st)
{
	if (stat->offset == NOTHING)
		return 0;
	return *(const uint64_t *)((const char *)st + stat->offset);
}

const char *virtq_stats_next(
	const struct virtq_stats *st, bool to_guest, unsigned *i, uint64_t *value)
{
	unsigned side = to_guest ? BIT_TX : BIT_RX;

	while (*i < sizeof(stats) / sizeof(*stats)) {
		const struct counter *stat = &stats[(*i)++];

		if (stat->sides & side) {
			*value = value_of(stat, st);
			return stat->name;
		}
	}
	return NULL;
}

uint64_t virtq_stats_drops(const struct virtq_stats *st, bool to_guest)
{
	unsigned first = to_guest ? VIRTQ_DROP_RX_DISABLED + 1 : 0;
	unsigned end = to_guest ? VIRTQ_DROP_COUNT : VIRTQ_DROP_RX_DISABLED + 1;
	uint64_t sum = 0;

	for (unsigned d = first; d < end; d++)
		sum += st->drops[d];
	return sum;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Forwarding engines: what happens to the packets of a stream. */
#ifndef ENGINE_H
#define ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_ether.h>

struct plan;
struct stream;
struct worker;

/* Where a stream's packets go. */
enum engine_peer {
	ENGINE_PEER_NONE,     /* decided per packet (bridge), or nowhere (rxonly) */
	ENGINE_PEER_TOPOLOGY, /* port list and --port-topology, as testpmd pairs ports */
	ENGINE_PEER_SELF,     /* back out of the same port */
	ENGINE_PEER_CROSS,    /* the port's cross-connect partner */
};

struct engine {
	const char *name;
	const char *help;
	enum engine_peer peer;

	/**
	 * Serve one stream once: bounded work, no lock but the outlet's, no allocation but
	 * mbufs. Every packet received ends in an outlet, an output buffer or a drop counter.
	 *
	 * @return packets received or made; 0 means the poll was idle. Lcore.
	 */
	uint16_t (*poll)(struct worker *w, const struct plan *plan, const struct stream *stream);
};

extern const struct engine engine_bridge, engine_cross, engine_io, engine_mac, engine_macswap,
	engine_rxonly, engine_txonly, engine_flowgen, engine_icmpecho, engine_csum;

/** All engines, ending with NULL; the first is the default. */
extern const struct engine *const engines[];

/** NULL: there is none of this name. */
const struct engine *engine_find(const char *name);

/* Packets an engine moves in one poll at most, and `set burst`'s limit. */
#define BURST_MAX      64

#define TXPKT_SEGS_MAX 16

/* Ethernet, IPv4 and UDP: what every packet made here begins with. */
#define ENGINE_TX_HEADERS 42

/* As testpmd: partner of list position i is i^1, i+1 (in a ring), or i. */
enum topology {
	TOPOLOGY_PAIRED,
	TOPOLOGY_CHAINED,
	TOPOLOGY_LOOP,
};

/* Whether txonly cuts packets into the segments of `set txpkts`. */
enum txsplit {
	TXSPLIT_OFF,  /* all segments of txpkts, always */
	TXSPLIT_ON,   /* the same; testpmd differs only for a pool of small mbufs */
	TXSPLIT_RAND, /* a random number of the first segments */
};

/* What engines are told by `set ...`; commands edit sluice.conf and call plan_update(),
 * each plan has its own copy. */
struct engine_conf {
	uint16_t burst; /* 1..BURST_MAX */
	/* Try again when a destination is full: `set fwd ENGINE retry`. */
	bool retry;
	uint16_t retry_count;
	uint32_t retry_delay_us;
	/* `set sleep`: idle so long, a worker sleeps; 0: it never does, unless it is crowded (auto). */
	uint32_t sleep_us;
	bool sleep_auto;
	uint32_t share_us; /* `set share`: a port with so much debt is left out; 0: none is */
	/* Packets of txonly, flowgen and start tx_first. */
	uint16_t tx_segs; /* 1..TXPKT_SEGS_MAX */
	uint16_t tx_seg_len[TXPKT_SEGS_MAX];
	enum txsplit tx_split;
	uint32_t tx_ip_src, tx_ip_dst; /* host byte order */
	uint16_t tx_udp_src, tx_udp_dst;
	bool tx_multi_flow;     /* vary the source port per packet */
	uint32_t flowgen_flows; /* 1.. */
	uint32_t tx_first;      /* bursts each stream sends before it rests; 0: no end */
};

/** testpmd's defaults, but for the burst (64). */
void engine_conf_init(struct engine_conf *conf);

/** Bytes of a txonly packet: all its segments. */
uint32_t engine_conf_tx_len(const struct engine_conf *conf);

/** One line naming what is wrong, or NULL: lengths fit mbufs and hold the headers. */
const char *engine_conf_check_txpkts(const uint16_t *len, unsigned segs, uint16_t room);

#endif

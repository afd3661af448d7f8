/* SPDX-License-Identifier: BSD-3-Clause */
/* What the handlers of testpmd's verbs share. */
#ifndef VERBS_H
#define VERBS_H

#include "commands.h"

/*
 * Theory of operation
 *
 * verbs_*.c answer the commands that benchmark scripts know from testpmd, with the same text;
 * test/app/test_verbs_same.py compares the two programs. A port may be named wherever testpmd
 * wants its number. Errors are cmd_fail()'s one line: testpmd's words where it has any.
 */

/* A port's counters under testpmd's names. */
struct verb_counters {
	uint64_t rx_packets, rx_bytes;
	uint64_t rx_missed; /* nobody could take it: no descriptor, no mbuf, a disabled queue */
	uint64_t rx_errors; /* it was no packet */
	uint64_t rx_nombuf;
	uint64_t tx_packets, tx_bytes;
	uint64_t tx_errors;  /* taken, and could not be delivered */
	uint64_t tx_dropped; /* all that was meant for this port and did not get there */
};

void verb_counters(const struct port_counters *c, struct verb_counters *out);

/** What became of packets since start or the last clear of the forward statistics: apart from
 * the port's counters, which have their own clear. */
void verb_forward_counters(const struct port *port, struct port_counters *out);
void verb_forward_clear(struct port *port);

/** Clear the port's counters and leave the forward statistics as they are.
 * @param device also those that the driver keeps */
void verb_port_clear(struct port *port, bool device);

/**
 * The ports that (all|PORT) means.
 * @return how many, or -ENOENT after cmd_fail()
 */
int verb_ports(struct cmd *c, struct port *list[static PORT_MAX]);

/** The ports the engine polls, testpmd's forwarding ports, in its order. @return how many */
unsigned verb_forwarding_ports(const struct sluice *sl, struct port *list[static PORT_MAX]);

/** Answer with a list that has an entry for each of them; for PORT, with its only entry. */
void verb_json_ports(struct cmd *c, json_t *list);

/** An object of one number: what `set NAME` set. */
void verb_json_number(struct cmd *c, const char *name, uint64_t value);

json_t *verb_counters_json(const struct verb_counters *c);

/** Begin the entry of a port: {"port": 0, "name": "vm0"}. */
json_t *verb_port_json(const struct port *port);

/** Monotonic nanoseconds. */
uint64_t verb_now(void);

/**
 * Take "1,2,3" apart.
 * @return how many numbers, or -EINVAL after cmd_fail()
 */
int verb_numbers(struct cmd *c, const char *text, unsigned max, uint16_t *out, unsigned room);

/** The NUMA node as testpmd prints it: an unknown one is 0. */
static inline unsigned verb_node(int node)
{
	return node < 0 ? 0 : (unsigned)node;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* nicsim ports and what they send, for its own tests. */
#ifndef SELFTEST_NICSIM_PORT_H
#define SELFTEST_NICSIM_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "nicsim.h"
#include "ts_tap.h"
#include "ts_util.h"

#define RING   128u /* descriptors of every queue */
#define LEN    300u /* bytes of a frame */
#define QUEUES 2u

extern struct rte_mempool *tx_pool, *rx_pool, *other_pool;

struct port_conf {
	uint64_t tx_offloads, rx_offloads;
	uint16_t free_thresh;
	bool deferred, lsc;
};

/** Probe net_nicsim<i>, without configuring it. Its port number. */
uint16_t port_probe(unsigned i, const char *args);

/** Configure, set up QUEUES queues, start. */
void port_start(uint16_t port, const struct port_conf *conf);

/** Both, as an application without wishes does. */
uint16_t port_open(unsigned i, const char *args);

/** Fail the case unless an extended statistic has this value. */
void expect(uint16_t port, const char *name, uint64_t value);

/** A frame that can be verified, numbered one by one, in an mbuf of tx_pool. */
struct rte_mbuf *make(uint32_t len);

/** The same in a chain of `segs` mbufs of equal length. */
struct rte_mbuf *make_chain(uint32_t len, uint32_t segs);

/** Send one; free it if it is refused. */
bool send_one(uint16_t port, uint16_t queue, struct rte_mbuf *m);

/** Send n on queue 0. How many were taken. */
unsigned send_some(uint16_t port, unsigned n);

/** mbufs taken from tx_pool. */
unsigned in_use(void);

/** main() of a program: the EAL, the pools, the cases; after each, no port and no mbuf is left. */
int nicsim_main(const struct CMUnitTest *tests, size_t n, int argc, char **argv);
int nicsim_setup(void **state);
int nicsim_teardown(void **state);

#define CASE(f) cmocka_unit_test_setup_teardown(f, nicsim_setup, nicsim_teardown)

#endif

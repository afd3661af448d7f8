/* SPDX-License-Identifier: BSD-3-Clause */
/* The differences between the DPDK versions we build with (22.11 to 25.11), in one place. */
#ifndef DPDK_COMPAT_H
#define DPDK_COMPAT_H

#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_thread.h>
#include <rte_version.h>

/* Control threads: pthreads until 23.11 gave them a type, a name and a return value of
 * their own. Define a thread function as `static dpdk_thread_ret f(void *arg)`. */
#if RTE_VERSION < RTE_VERSION_NUM(23, 11, 0, 0)
typedef pthread_t dpdk_thread;
typedef void *dpdk_thread_ret;

static inline int dpdk_thread_create(
	dpdk_thread *thread, const char *name, dpdk_thread_ret (*run)(void *), void *arg)
{
	return rte_ctrl_thread_create(thread, name, NULL, run, arg);
}

static inline void dpdk_thread_join(dpdk_thread thread)
{
	pthread_join(thread, NULL);
}
#else
typedef rte_thread_t dpdk_thread;
typedef uint32_t dpdk_thread_ret;

static inline int dpdk_thread_create(
	dpdk_thread *thread, const char *name, dpdk_thread_ret (*run)(void *), void *arg)
{
	return rte_thread_create_control(thread, name, run, arg);
}

static inline void dpdk_thread_join(dpdk_thread thread)
{
	rte_thread_join(thread, NULL);
}
#endif

/* What eth_rx_queue_count_t returns: negative errors are possible since 25.11. */
#if RTE_VERSION < RTE_VERSION_NUM(25, 11, 0, 0)
typedef uint32_t dpdk_queue_count;
#else
typedef int dpdk_queue_count;
#endif

/* A driver's stats_get: since 25.11 the queues' counters have a struct of their own, which
 * may be NULL; its fields are called as before. Define it as
 * `static int f(DPDK_STATS_GET_PARAMS)`, with dev, stats and the latter in
 * DPDK_STATS_GET_QUEUES. */
#if RTE_VERSION < RTE_VERSION_NUM(25, 11, 0, 0)
#define DPDK_STATS_GET_PARAMS struct rte_eth_dev *dev, struct rte_eth_stats *stats
#define DPDK_STATS_GET_QUEUES stats
#define DPDK_QUEUE_STATS      struct rte_eth_stats
#else
#define DPDK_STATS_GET_PARAMS \
	struct rte_eth_dev *dev, struct rte_eth_stats *stats, struct eth_queue_stats *queue_stats
#define DPDK_STATS_GET_QUEUES queue_stats
#define DPDK_QUEUE_STATS      struct eth_queue_stats
#endif

/* A number in a telemetry answer. */
#if RTE_VERSION < RTE_VERSION_NUM(23, 3, 0, 0)
#define dpdk_tel_add_u64 rte_tel_data_add_dict_u64
#else
#define dpdk_tel_add_u64 rte_tel_data_add_dict_uint
#endif

#endif

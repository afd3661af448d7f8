/* SPDX-License-Identifier: BSD-3-Clause */
/* All memory ordering of the project in one place. */
#ifndef VIRTQ_ORDER_H
#define VIRTQ_ORDER_H

#include <stdbool.h>
#include <stdint.h>

/* gcc says so with a macro, clang with a feature. */
#if defined(__SANITIZE_THREAD__)
#define VIRTQ_TSAN
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define VIRTQ_TSAN
#endif
#endif

#define virtq_likely(x)   __builtin_expect(!!(x), 1)
#define virtq_unlikely(x) __builtin_expect(!!(x), 0)

/* One fetch of a field a peer may rewrite at any moment; never split, never repeated. With
 * volatile rather than a relaxed atomic, because compilers take the latter for a barrier and
 * read everything else again behind it. ThreadSanitizer knows only atomics. */
#ifdef VIRTQ_TSAN
#define virtq_load(p)     __atomic_load_n(p, __ATOMIC_RELAXED)
#define virtq_store(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#else
#define virtq_load(p)     (*(const volatile __typeof__(*(p)) *)(p))
#define virtq_store(p, v) ((void)(*(volatile __typeof__(*(p)) *)(p) = (v)))
#endif

/* Where we are: one writer, who publishes by other means, and readers to whom any recent value is as
 * good. Not volatile, so that it stays in a register for the length of a burst. */
#ifdef VIRTQ_TSAN
#define virtq_move(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#else
#define virtq_move(p, v) ((void)(*(p) = (v)))
#endif

#define virtq_load_acquire(p)     __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define virtq_store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)

/* StoreLoad: everything before is visible to every CPU before anything after is read. */
static inline void virtq_fence_full(void)
{
#if defined(__x86_64__)
	/* Cheaper than mfence and as strong for ordinary memory. */
	__asm__ volatile("lock; addl $0, -4(%%rsp)" ::: "memory", "cc");
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

static inline void virtq_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

/* Fetch a line in order to write it: one transfer instead of two. */
static inline void virtq_prefetch_write(const void *p)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
#else
	__builtin_prefetch(p, 1);
#endif
}

/* A counter with one writer and any number of readers. */
static inline void virtq_count(uint64_t *counter, uint64_t n)
{
	virtq_store(counter, *counter + n);
}

#endif

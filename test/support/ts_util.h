/* SPDX-License-Identifier: BSD-3-Clause */
/* Small tools every test needs: clock, repeatable randomness, waiting, counting what a process holds. */
#ifndef TS_UTIL_H
#define TS_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TS_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define TS_BIT(n)        (UINT64_C(1) << (n))

/* A sanitizer makes many instructions of one, and needs memory of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TS_SANITIZED 1
#endif
#endif
#ifndef TS_SANITIZED
#define TS_SANITIZED 0
#endif

/**
 * A list of broken promises. The strict peers report here instead of asserting, so that one test
 * can ask "nothing went wrong" and another "exactly this went wrong".
 */
struct ts_faults {
	unsigned count;
	char first[160]; /* the first one: later ones are often its consequences */
	char last[160];
};

/** Record one fault; the text says what was seen and what was allowed. */
void ts_fault(struct ts_faults *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** Milliseconds of CLOCK_MONOTONIC. */
uint64_t ts_now_ms(void);

/** Sleep about 100 microseconds: the pause between two looks at a condition. */
void ts_nap(void);

/**
 * Wait until COND holds, looking at it at least once more after the deadline.
 * Value: true if it held within MS milliseconds.
 */
#define TS_WAIT(cond, ms)                                              \
	({                                                             \
		const uint64_t ts_end_ = ts_now_ms() + (uint64_t)(ms); \
		bool ts_late_, ts_ok_;                                 \
		for (;;) {                                             \
			ts_late_ = ts_now_ms() >= ts_end_;             \
			ts_ok_ = (cond);                               \
			if (ts_ok_ || ts_late_)                        \
				break;                                 \
			ts_nap();                                      \
		}                                                      \
		ts_ok_;                                                \
	})

/** xorshift64*: repeatable for a given seed, never for cryptography. */
struct ts_rng {
	uint64_t state;
};

/**
 * The seed of this run: environment SLUICE_SEED (a number, or "random" for the clock), otherwise
 * a constant. Printed once to stderr so that a failure can be repeated. Ends the process with one
 * line if SLUICE_SEED is not a number.
 */
uint64_t ts_seed(void);

/** Are generated tests to run all their cases (SLUICE_ALL=1), or those that are enough for every day? */
bool ts_all(void);

/** Start a generator; two generators with the same seed give the same numbers. */
void ts_rng_init(struct ts_rng *rng, uint64_t seed);

uint64_t ts_rand(struct ts_rng *rng);

/** Uniform enough in [0, n); 0 if n is 0. */
uint32_t ts_rand_below(struct ts_rng *rng, uint32_t n);

/**
 * Open file descriptors of this process whose link target contains `target`
 * ("memfd:", "eventfd", "socket:"); NULL counts all. Negative errno on failure.
 */
int ts_count_fds(const char *target);

/**
 * Memory mappings of this process whose line in /proc/self/maps contains `what`; NULL counts all.
 * Negative errno on failure.
 */
int ts_count_maps(const char *what);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Every single access of this thread to guest memory, in order: who reads a byte twice is found out. */
#ifndef TS_WATCH_H
#define TS_WATCH_H

#include <stdbool.h>

#include "ts_guest.h"

/*
 * Theory of operation
 *
 * While a watch is on, nobody may touch the guest's pages. The first instruction that does faults: the
 * handler learns address and direction from the kernel and the width from the instruction, opens the
 * page, and has the processor trap behind that one instruction (EFLAGS.TF), where the page is closed
 * again. So no access is missed and none is seen twice, whatever the compiler made of the source.
 *
 * Libraries copy in overlapping pieces. A program that watches is linked with ts_watch_copy.c, whose
 * memcpy() touches each byte once. An instruction whose width is not known ends the program.
 *
 * x86-64 only, one thread at a time, nothing with a sanitizer in it.
 */

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TS_WATCH_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TS_WATCH_SANITIZED
#endif
#if defined(__x86_64__) && !defined(TS_WATCH_SANITIZED)
#define TS_WATCH_CAN
#endif

struct ts_access {
	uint64_t gpa;
	uint8_t len; /* bytes */
	bool read, write;
	uintptr_t ip; /* the instruction */
};

struct ts_watch {
	const struct ts_guest *guest;
	struct ts_access *access; /* since ts_watch_begin() */
	unsigned n;
	/* Called behind each instruction that accessed, guest memory open: it may rewrite what
	 * was read. NULL: nobody. */
	void (*after)(void *arg, const struct ts_access *a);
	void *arg;
	uint8_t *reads[TS_MAX_REGIONS];   /* how often each byte was read */
	uint8_t *allowed[TS_MAX_REGIONS]; /* and how often more than once it may be */
};

/** NULL without memory. Free with ts_watch_free() before the guest. */
struct ts_watch *ts_watch_new(const struct ts_guest *g);
void ts_watch_free(struct ts_watch *w);

/** Bytes that may be read more than once, until the next call for them: `more` times. */
void ts_watch_allow(struct ts_watch *w, uint64_t gpa, uint64_t len, uint8_t more);

/** From here to ts_watch_end() every access is recorded; what was recorded before is forgotten. */
void ts_watch_begin(struct ts_watch *w);
void ts_watch_end(struct ts_watch *w);

/** How often a byte was read. */
unsigned ts_watch_reads(const struct ts_watch *w, uint64_t gpa);

/**
 * The first byte that was read more often than it may be.
 * @param why one line: which byte, by which instructions (addresses in the program's file)
 * @return true: there is none
 */
bool ts_watch_once(const struct ts_watch *w, char *why, size_t cap);

#endif

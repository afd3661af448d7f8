/* SPDX-License-Identifier: BSD-3-Clause */
/* A dirty log as a front-end shares it, and a look at which pages of the guest really changed. */
#ifndef TS_LOG_H
#define TS_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "ts_guest.h"

#define TS_LOG_PAGE 4096u

struct ts_log {
	struct ts_guest *guest; /* borrowed; its regions do not change */
	int fd;                 /* a memfd of one page more than needed on either side */
	uint64_t size, offset;  /* of the log in it, bytes */
	uint8_t *file;          /* all of it, mapped; what is not log is filled with a pattern */
	uint64_t file_len;
	uint8_t **copy; /* a region's bytes at ts_log_begin() */
};

/** What happened between begin and end, in pages. */
struct ts_log_result {
	unsigned changed; /* the guest's bytes differ */
	unsigned marked;
	unsigned missed; /* changed, covered by the log and not marked */
	unsigned stray;  /* marked where the guest has no memory */
	uint64_t first;  /* guest address of the first missed */
};

/** @param size bytes, 0: as large as the guest needs; @param offset where it begins. NULL: no memory */
struct ts_log *ts_log_new(struct ts_guest *guest, uint64_t size, uint64_t offset);
void ts_log_free(struct ts_log *log);

/** Clear all bits and remember what the guest's memory looks like. */
void ts_log_begin(struct ts_log *log);

/** Compare. False: something beside the log itself was written to in its file. */
bool ts_log_end(const struct ts_log *log, struct ts_log_result *result);

/** Is this page marked? False where the log has no bit for it. */
bool ts_log_marked(const struct ts_log *log, uint64_t gpa);

/** The log's own bytes. */
static inline uint8_t *ts_log_bits(const struct ts_log *log)
{
	return log->file + log->offset;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Walking a record of a device, in either direction: what writes a field also reads it. */
#ifndef VU_RECORD_H
#define VU_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vu_record;

struct vu_cursor {
	struct vu_record *rec;
	bool reading; /* from the record to the device; false: the other way */
	size_t at;
	unsigned fd_at;
	const char *wrong; /* NULL: nothing so far. From then on zeros are read */
};

void vu_record_wrong(struct vu_cursor *c, const char *what);

/** A number; one that is read is at most @max. */
void vu_record_number(struct vu_cursor *c, uint64_t *v, uint64_t max);

void vu_record_bytes(struct vu_cursor *c, void *p, size_t len);

/** A descriptor, or -1. What was read is the caller's; what was written stays the device's. */
void vu_record_fd(struct vu_cursor *c, int *fd);

/* A number of any type, or a bool. */
#define VU_RECORD(c, x, max)                           \
	do {                                           \
		uint64_t value_ = (uint64_t)(x);       \
		vu_record_number((c), &value_, (max)); \
		if ((c)->reading)                      \
			(x) = (__typeof__(x))value_;   \
	} while (0)

#endif

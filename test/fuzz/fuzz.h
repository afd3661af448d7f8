/* SPDX-License-Identifier: BSD-3-Clause */
/* What the fuzz targets share: the entry points, reading an input, and giving up loudly. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libFuzzer's, or replay.c's. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** A promise of the code under test; breaking it is a crash. */
#define PROMISE(cond)                                                                      \
	do {                                                                               \
		if (!(cond)) {                                                             \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                           \
		}                                                                          \
	} while (0)

/* What is left of an input. Reading past its end gives zeros. */
struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

static inline size_t fuzz_bytes(struct fuzz_input *in, void *to, size_t n)
{
	size_t got = n < in->left ? n : in->left;

	memset(to, 0, n);
	if (got)
		memcpy(to, in->at, got);
	in->at += got;
	in->left -= got;
	return got;
}

static inline uint8_t fuzz_u8(struct fuzz_input *in)
{
	uint8_t v;

	fuzz_bytes(in, &v, sizeof(v));
	return v;
}

static inline uint16_t fuzz_u16(struct fuzz_input *in)
{
	uint16_t v;

	fuzz_bytes(in, &v, sizeof(v));
	return v;
}

#endif

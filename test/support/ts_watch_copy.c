/* SPDX-License-Identifier: BSD-3-Clause */
/* The C library's copies with each byte touched once, for programs that watch: ts_watch.h. */
#include <stdint.h>
#include <string.h>

#include "ts_watch.h"

#ifdef TS_WATCH_CAN

/* Volatile, or compilers make calls of memcpy() out of them. */
typedef volatile uint64_t __attribute__((may_alias, aligned(1))) word;
typedef volatile uint8_t byte;

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	size_t i = 0;

	for (; n - i >= sizeof(word); i += sizeof(word))
		*(word *)((uint8_t *)to + i) = *(const word *)((const uint8_t *)from + i);
	for (; i < n; i++)
		((byte *)to)[i] = ((const byte *)from)[i];
	return to;
}

void *memmove(void *to, const void *from, size_t n)
{
	if ((uintptr_t)to - (uintptr_t)from >= n)
		return memcpy(to, from, n);
	while (n-- > 0)
		((byte *)to)[n] = ((const byte *)from)[n];
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int d = ((const byte *)a)[i] - ((const byte *)b)[i];

		if (d != 0)
			return d;
	}
	return 0;
}

#endif

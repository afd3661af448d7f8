/* SPDX-License-Identifier: BSD-3-Clause */
/* What a device maps of a front-end's files has a page before and behind it that may not be touched. */

/*
 * Linked with --wrap=mmap64 (what mmap() is called with offsets of 64 bits) and --wrap=munmap: lib/ calls these. A target that maps the guest's memory itself
 * has such pages from ts_guest.c.
 */
#include <sys/mman.h>

#include "fuzz.h"

#define PAGE       4096ul
#define FENCED_MAX 4096u

void *__real_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off);
int __real_munmap(void *at, size_t len);
void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off);
int __wrap_munmap(void *at, size_t len);

static const void *fenced[FENCED_MAX];

static const void **find(const void *at)
{
	for (unsigned i = 0; i < FENCED_MAX; i++)
		if (fenced[i] == at)
			return &fenced[i];
	return NULL;
}

static size_t in_pages(size_t len)
{
	return (len + PAGE - 1) & ~(PAGE - 1);
}

void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	const void **place = at || fd < 0 || len > SIZE_MAX / 2 ? NULL : find(NULL);
	uint8_t *room;

	if (!place)
		return __real_mmap64(at, len, prot, flags, fd, off);
	room = __real_mmap64(NULL, in_pages(len) + 2 * PAGE, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return MAP_FAILED;
	at = __real_mmap64(room + PAGE, len, prot, flags | MAP_FIXED, fd, off);
	if (at == MAP_FAILED)
		__real_munmap(room, in_pages(len) + 2 * PAGE);
	else
		*place = at;
	return at;
}

int __wrap_munmap(void *at, size_t len)
{
	const void **place = at ? find(at) : NULL;

	if (!place)
		return __real_munmap(at, len);
	*place = NULL;
	return __real_munmap((uint8_t *)at - PAGE, in_pages(len) + 2 * PAGE);
}

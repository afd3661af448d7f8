/* SPDX-License-Identifier: BSD-3-Clause */
/* Walking a record: numbers, bytes and descriptors, each with its check. */
#include "vu_record.h"

#include <stdlib.h>
#include <string.h>

#include "vu_handover.h"

void vu_record_wrong(struct vu_cursor *c, const char *what)
{
	if (!c->wrong)
		c->wrong = what;
}

/* Room for so many more of an array's elements. False: there is no memory. */
static bool grow(void **array, size_t element, size_t n, size_t *room)
{
	size_t want = *room ? *room : 64;
	void *more;

	while (want < n)
		want *= 2;
	if (want == *room)
		return true;
	more = realloc(*array, want * element);
	if (!more)
		return false;
	*array = more;
	*room = want;
	return true;
}

static void read_bytes(struct vu_cursor *c, void *p, size_t len)
{
	if (!c->wrong && len > c->rec->len - c->at)
		vu_record_wrong(c, "it ends too early");
	memset(p, 0, len);
	if (c->wrong)
		return;
	memcpy(p, c->rec->bytes + c->at, len);
	c->at += len;
}

void vu_record_bytes(struct vu_cursor *c, void *p, size_t len)
{
	struct vu_record *rec = c->rec;

	if (c->reading) {
		read_bytes(c, p, len);
		return;
	}
	if (c->wrong || !grow((void **)&rec->bytes, 1, rec->len + len, &rec->room)) {
		vu_record_wrong(c, "out of memory");
		return;
	}
	memcpy(rec->bytes + rec->len, p, len);
	rec->len += len;
}

void vu_record_number(struct vu_cursor *c, uint64_t *v, uint64_t max)
{
	vu_record_bytes(c, v, sizeof(*v));
	if (*v <= max)
		return;
	vu_record_wrong(c, "a number in it is too large");
	if (c->reading)
		*v = 0;
}

static void write_fd(struct vu_cursor *c, int fd)
{
	struct vu_record *rec = c->rec;
	size_t room = rec->fds_room;

	if (!grow((void **)&rec->fds, sizeof(rec->fds[0]), rec->nfds + 1u, &room)) {
		vu_record_wrong(c, "out of memory");
		return;
	}
	rec->fds_room = (unsigned)room;
	rec->fds[rec->nfds++] = fd;
}

void vu_record_fd(struct vu_cursor *c, int *fd)
{
	uint64_t there = *fd >= 0;

	vu_record_number(c, &there, 1);
	if (c->reading)
		*fd = -1;
	if (!there || c->wrong)
		return;
	if (!c->reading) {
		write_fd(c, *fd);
		return;
	}
	if (c->fd_at == c->rec->nfds) {
		vu_record_wrong(c, "a descriptor is missing");
		return;
	}
	*fd = c->rec->fds[c->fd_at];
	c->rec->fds[c->fd_at++] = -1;
}

void vu_record_free(struct vu_record *rec)
{
	free(rec->bytes);
	free(rec->fds);
	*rec = (struct vu_record){0};
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* A dirty log as a front-end shares it. */
#include "ts_log.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/memfd.h>

#define PATTERN 0x96

static uint64_t bytes_needed(const struct ts_guest *g)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < g->n; i++)
		if (g->r[i].gpa + g->r[i].size > end)
			end = g->r[i].gpa + g->r[i].size;
	return (end + 8 * TS_LOG_PAGE - 1) / (8 * TS_LOG_PAGE);
}

static bool map_file(struct ts_log *l)
{
	l->file_len = (l->offset + l->size + 2 * TS_LOG_PAGE - 1) & ~(uint64_t)(TS_LOG_PAGE - 1);
	l->fd = memfd_create("ts-log", MFD_CLOEXEC);
	if (l->fd < 0 || ftruncate(l->fd, (off_t)l->file_len) != 0)
		return false;
	l->file = mmap(NULL, l->file_len, PROT_READ | PROT_WRITE, MAP_SHARED, l->fd, 0);
	if (l->file == MAP_FAILED)
		return false;
	memset(l->file, PATTERN, l->file_len);
	memset(ts_log_bits(l), 0, l->size);
	return true;
}

struct ts_log *ts_log_new(struct ts_guest *guest, uint64_t size, uint64_t offset)
{
	struct ts_log *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	*l = (struct ts_log){.guest = guest,
		.fd = -1,
		.size = size ? size : bytes_needed(guest),
		.offset = offset,
		.file = MAP_FAILED,
		.copy = calloc(guest->n, sizeof(*l->copy))};
	for (unsigned i = 0; l->copy && i < guest->n; i++)
		l->copy[i] = malloc(guest->r[i].size);
	if (l->copy && map_file(l))
		return l;
	ts_log_free(l);
	return NULL;
}

void ts_log_free(struct ts_log *l)
{
	if (!l)
		return;
	if (l->file != MAP_FAILED)
		munmap(l->file, l->file_len);
	if (l->fd >= 0)
		close(l->fd);
	for (unsigned i = 0; l->copy && i < l->guest->n; i++)
		free(l->copy[i]);
	free(l->copy);
	free(l);
}

void ts_log_begin(struct ts_log *l)
{
	memset(ts_log_bits(l), 0, l->size);
	for (unsigned i = 0; i < l->guest->n; i++)
		memcpy(l->copy[i], l->guest->r[i].va, l->guest->r[i].size);
}

bool ts_log_marked(const struct ts_log *l, uint64_t gpa)
{
	uint64_t page = gpa / TS_LOG_PAGE;

	return page / 8 < l->size && ts_log_bits(l)[page / 8] >> page % 8 & 1;
}

static unsigned count_bits(const struct ts_log *l)
{
	unsigned n = 0;

	for (uint64_t i = 0; i < l->size; i++)
		n += (unsigned)__builtin_popcount(ts_log_bits(l)[i]);
	return n;
}

static void compare_region(const struct ts_log *l, unsigned i, struct ts_log_result *r)
{
	const struct ts_region *g = &l->guest->r[i];

	for (uint64_t at = 0; at < g->size; at += TS_LOG_PAGE) {
		bool marked = ts_log_marked(l, g->gpa + at);

		r->stray -= marked;
		if (memcmp(g->va + at, l->copy[i] + at, TS_LOG_PAGE) == 0)
			continue;
		r->changed++;
		if (marked || (g->gpa + at) / TS_LOG_PAGE / 8 >= l->size)
			continue;
		if (r->missed++ == 0)
			r->first = g->gpa + at;
	}
}

bool ts_log_end(const struct ts_log *l, struct ts_log_result *r)
{
	*r = (struct ts_log_result){.marked = count_bits(l)};
	r->stray = r->marked;
	for (unsigned i = 0; i < l->guest->n; i++)
		compare_region(l, i, r);
	for (uint64_t i = 0; i < l->file_len; i++)
		if ((i < l->offset || i >= l->offset + l->size) && l->file[i] != PATTERN)
			return false;
	return true;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty log: mapping it, setting bits, and what of a ring we write. */
#include "virtq_log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "virtq_map.h"
#include "virtq_packed.h"

struct virtq_log {
	uint32_t refs;
	uint64_t pages; /* that have a bit */
	struct virtq_map map;
};

int virtq_log_create(
	int fd, uint64_t size, uint64_t offset, struct virtq_log **out, char *why, size_t why_len)
{
	struct virtq_log *log;
	int err;

	if (size == 0) {
		snprintf(why, why_len, "it is empty");
		return -EINVAL;
	}
	err = virtq_map_check(fd, offset, size, NULL, why, why_len);
	if (err)
		return err;
	log = calloc(1, sizeof(*log));
	err = log ? virtq_map_open(&log->map, fd, offset, size) : -ENOMEM;
	if (err) {
		snprintf(why, why_len, "it cannot be mapped: %s", strerror(-err));
		free(log);
		return err;
	}
	log->refs = 1;
	log->pages = size * 8;
	*out = log;
	return 0;
}

struct virtq_log *virtq_log_get(struct virtq_log *log)
{
	if (log)
		__atomic_add_fetch(&log->refs, 1, __ATOMIC_RELAXED);
	return log;
}

void virtq_log_put(struct virtq_log *log)
{
	if (!log || __atomic_sub_fetch(&log->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	virtq_map_close(&log->map);
	free(log);
}

bool virtq_log_gone(const struct virtq_log *log)
{
	return virtq_trap_sprung(log->map.trap);
}

struct virtq_share virtq_log_share(const struct virtq_log *log)
{
	return log->map.share;
}

void virtq_log_mark(struct virtq_log *log, uint64_t gpa, uint64_t len)
{
	uint64_t page = gpa / VIRTQ_LOG_PAGE, last;

	if (len == 0 || page >= log->pages)
		return;
	last = gpa > UINT64_MAX - (len - 1) ? UINT64_MAX : gpa + len - 1;
	last /= VIRTQ_LOG_PAGE;
	if (last >= log->pages)
		last = log->pages - 1;
	for (; page <= last; page++) {
		uint8_t *byte = &log->map.at[page / 8], bit = (uint8_t)(1u << page % 8);

		if (!(virtq_load(byte) & bit))
			__atomic_fetch_or(byte, bit, __ATOMIC_RELAXED);
	}
}

/* ---- what a ring is written to ---- */

/* Guest memory by our address. What we have written lies in a span; where two of them are
 * neighbours here, a range may begin in one and end in the other. */
static void mark_va(const struct virtq_view *v, uint32_t *hint, const uint8_t *va, uint64_t len)
{
	const struct virtq_mem *mem = virtq_mem_of_guest(v->mem);
	uint32_t at = *hint < mem->n ? *hint : 0;

	for (uint32_t left = mem->n; len > 0 && left > 0; left--) {
		const struct virtq_span *s = &mem->spans[at];
		uint64_t off = (uintptr_t)va - (uintptr_t)s->hva, part;

		if (off < s->size) {
			part = len < s->size - off ? len : s->size - off;
			virtq_log_mark(v->log, s->gpa + off, part);
			*hint = at;
			va += part;
			len -= part;
		}
		at = at + 1 == mem->n ? 0 : at + 1;
	}
}

void virtq_log_chain(const struct virtq_view *v, uint32_t *hint, const struct virtq_chain *chain,
	uint32_t written)
{
	for (uint16_t i = 0; i < chain->nseg && written > 0; i++) {
		uint32_t part = written < chain->seg[i].len ? written : chain->seg[i].len;

		mark_va(v, hint, chain->seg[i].va, part);
		written -= part;
	}
}

/* n entries of a ring of num, from one of them on, which may go round its end. */
struct run {
	uint64_t at, len;
};

static void runs(struct run out[2], uint32_t first, uint32_t n, uint32_t num, uint32_t entry)
{
	uint32_t head = n < num - first ? n : num - first;

	out[0] = (struct run){(uint64_t)first * entry, (uint64_t)head * entry};
	out[1] = (struct run){0, (uint64_t)(n - head) * entry};
}

/* Only the first descriptor of a chain is overwritten, but those between lie on the same pages or
 * nearly so. No message names the guest address of a descriptor ring: it is found from ours. */
static void log_used_packed(const struct virtq *vq, const struct virtq_view *v, uint16_t from)
{
	struct run r[2];
	uint32_t hint = 0;

	runs(r, from & PACKED_INDEX, packed_distance(from, vq->used, v->num), v->num,
		sizeof(struct vring_packed_desc));
	for (unsigned i = 0; i < 2; i++)
		mark_va(v, &hint, (uint8_t *)v->desc + r[i].at, r[i].len);
}

static void log_used_split(const struct virtq *vq, const struct virtq_view *v, uint16_t from)
{
	struct run r[2];

	runs(r, from & (v->num - 1u), (uint16_t)(vq->used - from), v->num,
		sizeof(struct vring_used_elem));
	for (unsigned i = 0; i < 2; i++)
		virtq_log_mark(v->log, v->log_used + offsetof(struct vring_used, ring) + r[i].at,
			r[i].len);
	virtq_log_mark(v->log, v->log_used, offsetof(struct vring_used, ring));
}

void virtq_log_used(const struct virtq *vq, const struct virtq_view *v, uint16_t from)
{
	if (!v->log_ring)
		return;
	if (v->packed)
		log_used_packed(vq, v, from);
	else
		log_used_split(vq, v, from);
}

void virtq_log_kicks(const struct virtq_view *v)
{
	uint32_t hint = 0;

	if (!v->log_ring)
		return;
	if (v->packed) {
		mark_va(v, &hint, (uint8_t *)v->device, sizeof(*v->device));
		return;
	}
	virtq_log_mark(v->log, v->log_used, offsetof(struct vring_used, ring));
	virtq_log_mark(v->log,
		v->log_used + offsetof(struct vring_used, ring) +
			(uint64_t)v->num * sizeof(struct vring_used_elem),
		sizeof(uint16_t));
}

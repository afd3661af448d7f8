/* SPDX-License-Identifier: BSD-3-Clause */
/* The record's file: opening and believing it, and its parts. */
#include "vu_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtq_inflight.h"
#include "virtq_track.h"
#include "virtq_trap.h"

#define MAGIC   0x6574617473636c73ull /* "slcstate" */
#define VERSION 1
#define PAGE    4096u

/* Whose state a part is. */
struct row {
	uint64_t dev, ino;          /* the memory file */
	uint64_t desc, avail, used; /* offsets in it */
	uint64_t features;
	uint32_t num;
	uint32_t sum;
};

struct header {
	uint64_t magic;
	uint32_t version, nrings;
	uint32_t unused, sum;
	struct row row[];
};

struct part {
	struct virtq_inflight *region;
	uint16_t num;
	bool packed;
	bool mentioned; /* that there is no room for it */
};

struct vu_state {
	int fd;
	char *path;
	struct header *header;
	size_t header_size;
	struct virtq_trap *trap; /* the header's */
	unsigned nrings;
	struct part part[];
};

/* FNV-1a: against accidents. Up to the sum, which is the last word. */
static uint32_t sum_of(const void *at, size_t size)
{
	const uint8_t *byte = at;
	uint32_t sum = 2166136261u;

	for (size_t i = 0; i < size - sizeof(sum); i++)
		sum = (sum ^ byte[i]) * 16777619u;
	return sum;
}

static uint64_t stride(void)
{
	return (virtq_inflight_size(1, VIRTQ_NUM_MAX, true) + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

static size_t header_size(unsigned nrings)
{
	size_t size = sizeof(struct header) + nrings * sizeof(struct row);

	return (size + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static uint64_t file_size(unsigned nrings)
{
	return header_size(nrings) + nrings * stride();
}

/* ---- the file ---- */

/* NULL: it is a file only we can have written. */
static const char *foreign(const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return "it is not a regular file";
	if (st->st_uid != geteuid())
		return "it belongs to another user";
	if (st->st_mode & (S_IRWXG | S_IRWXO))
		return "others may read or write it";
	if (st->st_nlink > 1)
		return "it has another name as well";
	return NULL;
}

/* NULL: what the file says can be believed. An empty one was just made. */
static const char *unusable(const struct header *h, uint64_t size, unsigned nrings)
{
	if (size < sizeof(*h) || h->magic != MAGIC)
		return "it is no state file";
	if (h->version != VERSION)
		return "it is another version's";
	if (h->sum != sum_of(h, sizeof(*h)))
		return "it is damaged";
	if (h->nrings != nrings)
		return "it is of a port with another number of queues";
	return size == file_size(nrings) ? NULL : "it is cut off";
}

static void write_header(struct vu_state *s)
{
	struct header *h = s->header;

	memset(h, 0, s->header_size);
	*h = (struct header){.magic = MAGIC, .version = VERSION, .nrings = s->nrings};
	h->sum = sum_of(h, sizeof(*h));
}

/* What the file has before it is mapped. */
static const char *judge(int fd, uint64_t size, unsigned nrings)
{
	struct header h = {0};

	if (pread(fd, &h, sizeof(h), 0) < 0)
		return strerror(errno);
	return unusable(&h, size, nrings);
}

static int map_header(struct vu_state *s)
{
	int err = posix_fallocate(s->fd, 0, (off_t)s->header_size);
	void *at;

	if (err)
		return -err;
	at = mmap(NULL, s->header_size, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	s->header = at;
	s->trap = virtq_trap_set(at, s->header_size, PAGE);
	return s->trap ? 0 : -ENOMEM;
}

/* The descriptor, locked, and what is wrong with it (-1). */
static int open_file(const char *path, struct stat *st, const char **why)
{
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);

	*why = NULL;
	if (fd < 0 || fstat(fd, st) < 0)
		*why = fd < 0 && errno == ELOOP ? "it is a symbolic link" : strerror(errno);
	else
		*why = foreign(st);
	if (!*why && flock(fd, LOCK_EX | LOCK_NB) < 0)
		*why = "another process has it";
	/* Only memory files know seals: another file's pages may have to wait for a disk. */
	if (!*why && fcntl(fd, F_GET_SEALS) < 0) {
		*why = "it is not in memory: choose a folder in a tmpfs";
		if (st->st_size == 0) /* we have just made it */
			unlink(path);
	}
	if (*why && fd >= 0)
		close(fd);
	return *why ? -1 : fd;
}

/* Empty it and write a header. */
static int renew(struct vu_state *s)
{
	int err;

	if (ftruncate(s->fd, 0) < 0 || ftruncate(s->fd, (off_t)file_size(s->nrings)) < 0)
		return -errno;
	err = map_header(s);
	if (!err)
		write_header(s);
	return err;
}

static void state_free(struct vu_state *s)
{
	for (unsigned i = 0; i < s->nrings; i++)
		virtq_inflight_put(s->part[i].region);
	if (s->trap)
		virtq_trap_remove(s->trap);
	if (s->header)
		munmap(s->header, s->header_size);
	if (s->fd >= 0)
		close(s->fd);
	free(s->path);
	free(s);
}

static struct vu_state *state_new(const char *path, unsigned nrings)
{
	struct vu_state *s = calloc(1, sizeof(*s) + nrings * sizeof(s->part[0]));

	if (!s)
		return NULL;
	s->fd = -1;
	s->nrings = nrings;
	s->header_size = header_size(nrings);
	s->path = strdup(path);
	if (s->path)
		return s;
	free(s);
	return NULL;
}

struct vu_state *vu_state_open(struct vu_device *dev)
{
	const char *path = dev->state_path, *why, *unused;
	struct vu_state *s = path ? state_new(path, dev->nrings) : NULL;
	struct stat st;
	int err;

	if (!s)
		return NULL;
	s->fd = open_file(path, &st, &why);
	if (s->fd < 0) {
		vu_log(dev, VU_LOG_WARNING,
			"rings cannot go on after a crash: no state file %s: %s", path, why);
		state_free(s);
		return NULL;
	}
	unused = st.st_size > 0 ? judge(s->fd, (uint64_t)st.st_size, s->nrings) : NULL;
	if (unused)
		vu_log(dev, VU_LOG_WARNING, "rings start clean: state file %s is not used: %s",
			path, unused);
	err = unused || st.st_size == 0 ? renew(s) : map_header(s);
	if (err) {
		vu_log(dev, VU_LOG_WARNING,
			"rings cannot go on after a crash: no state file %s: %s", path,
			strerror(-err));
		unlink(path);
		state_free(s);
		return NULL;
	}
	return s;
}

/* Positions came by another way. Whoever has the file open removes it only if it is still there. */
struct vu_state *vu_state_anew(struct vu_device *dev)
{
	struct stat st;

	if (dev->state_path && lstat(dev->state_path, &st) == 0 && !foreign(&st))
		unlink(dev->state_path);
	return vu_state_open(dev);
}

static void *ring_part(const struct part *p)
{
	return virtq_inflight_ring(p->region, 0, p->num, p->packed);
}

static bool any_tells(const struct vu_state *s)
{
	for (unsigned i = 0; i < s->nrings; i++)
		if (s->part[i].region &&
			virtq_track_tells(ring_part(&s->part[i]), s->part[i].packed))
			return true;
	return false;
}

void vu_state_close(struct vu_state *s, bool leave)
{
	struct stat st, now;

	if (!s)
		return;
	if (!(leave && any_tells(s)) && fstat(s->fd, &st) == 0 && lstat(s->path, &now) == 0 &&
		st.st_dev == now.st_dev && st.st_ino == now.st_ino)
		unlink(s->path);
	state_free(s);
}

static bool gone(const struct vu_state *s)
{
	bool any = virtq_trap_sprung(s->trap);

	for (unsigned i = 0; i < s->nrings && !any; i++)
		any = s->part[i].region && virtq_inflight_gone(s->part[i].region);
	return any;
}

void vu_state_look(struct vu_device *dev)
{
	struct vu_state *s = dev->state;

	if (!s || !gone(s))
		return;
	vu_log(dev, VU_LOG_WARNING,
		"rings cannot go on after a crash: state file %s was cut off while it was used",
		s->path);
	dev->state = NULL;
	vu_reconcile(dev);
	vu_state_close(s, false);
}

/* ---- rings ---- */

/* The part as it is mapped, for rings of this size; NULL: there is no memory for it. */
static void *part_of(struct vu_device *dev, unsigned ring, uint16_t num, bool packed)
{
	struct vu_state *s = dev->state;
	struct part *part = &s->part[ring];
	uint64_t at = s->header_size + ring * stride(), size = virtq_inflight_size(1, num, packed);
	char why[160];
	int err;

	if (part->region && (part->num != num || part->packed != packed)) {
		virtq_inflight_put(part->region);
		part->region = NULL;
	}
	if (part->region)
		return virtq_inflight_ring(part->region, 0, num, packed);
	err = posix_fallocate(s->fd, (off_t)at, (off_t)size);
	if (err)
		snprintf(why, sizeof(why), "%s", strerror(err));
	else
		err = virtq_inflight_map(
			s->fd, size, at, 1, num, packed, &part->region, why, sizeof(why));
	if (err && !part->mentioned)
		vu_log(dev, VU_LOG_WARNING,
			"ring %u cannot go on after a crash: no part of state file %s: %s", ring,
			s->path, why);
	part->mentioned |= err != 0;
	part->num = num;
	part->packed = packed;
	return err ? NULL : virtq_inflight_ring(part->region, 0, num, packed);
}

/* A split ring towards the guest shows all there is to know. */
void vu_state_describe(struct vu_device *dev, unsigned ring, struct virtq_view *v)
{
	if (!dev->state || v->inflight_ring || (!v->packed && !(ring & 1)))
		return;
	v->inflight_ring = part_of(dev, ring, v->num, v->packed);
	v->tracked = v->inflight_ring != NULL;
	v->inflight = v->tracked ? dev->state->part[ring].region : NULL;
}

static bool find(const struct virtq_view *v, const void *at, struct row *row, uint64_t *offset)
{
	return virtq_mem_file(virtq_mem_of_guest(v->mem), at, &row->dev, &row->ino, offset);
}

static bool make_row(const struct virtq_view *v, struct row *row)
{
	memset(row, 0, sizeof(*row));
	row->features = v->features;
	row->num = v->num;
	if (!find(v, v->used, row, &row->used) || !find(v, v->avail, row, &row->avail) ||
		!find(v, v->desc, row, &row->desc))
		return false;
	row->sum = sum_of(row, sizeof(*row));
	return true;
}

void vu_state_position(struct vu_device *dev, unsigned ring, const struct virtq_view *v)
{
	struct row row, *was;

	if (!v->tracked)
		return;
	was = &dev->state->header->row[ring];
	if (make_row(v, &row) && memcmp(&row, was, sizeof(row)) == 0) {
		if (virtq_track_tells(v->inflight_ring, v->packed))
			vu_log(dev, VU_LOG_INFO, "ring %u was left without being stopped", ring);
		return;
	}
	/* First it tells nothing, then it is another ring's. */
	virtq_inflight_stop(v->inflight_ring, v->packed);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	memcpy(was, &row, sizeof(row));
}

void vu_state_spare(struct vu_device *dev, unsigned ring, struct virtq_view *v)
{
	if (!v->tracked || v->packed || v->lender || !dev->queue[ring].positioned)
		return;
	virtq_inflight_stop(v->inflight_ring, false);
	v->inflight_ring = NULL;
	v->inflight = NULL;
	v->tracked = false;
}

void vu_state_stop(struct vu_device *dev, unsigned ring)
{
	const struct part *part = dev->state ? &dev->state->part[ring] : NULL;

	if (part && part->region)
		virtq_inflight_stop(ring_part(part), part->packed);
}

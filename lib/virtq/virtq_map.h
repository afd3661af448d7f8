/* SPDX-License-Identifier: BSD-3-Clause */
/* Mapping what a front-end shares: memory files, checked before they are touched. */
#ifndef VIRTQ_MAP_H
#define VIRTQ_MAP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "virtq_mem.h"
#include "virtq_trap.h"

struct virtq_map {
	uint8_t *at; /* the byte that was asked for */
	void *map;
	size_t map_len;
	uint64_t page_size; /* of the file */
	struct virtq_trap *trap;
	struct virtq_share share;
};

/* A file, as its front-end cannot make it look like another. */
struct virtq_file {
	dev_t dev;
	ino_t ino;
};

/**
 * Is it a memory file that holds this range?
 * @param file	NULL, or becomes which file it is
 * @param why	what is wrong with it, if anything is
 * @return 0 or -EINVAL
 */
int virtq_map_check(
	int fd, uint64_t offset, uint64_t size, struct virtq_file *file, char *why, size_t why_len);

/** Map a checked range, for reading and writing. 0 or mmap's error, negative. */
int virtq_map_open(struct virtq_map *map, int fd, uint64_t offset, uint64_t size);
void virtq_map_close(struct virtq_map *map);

#endif

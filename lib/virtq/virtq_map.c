/* SPDX-License-Identifier: BSD-3-Clause */
/* Mapping what a front-end shares. */
#include "virtq_map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define HUGETLBFS_MAGIC 0x958458f6

int virtq_map_check(
	int fd, uint64_t offset, uint64_t size, struct virtq_file *file, char *why, size_t why_len)
{
	struct stat st;

	/* Only memory: another file's server could let fstat(), or a page fault, wait for ever.
	 * This call asks no file system, and only memory files know seals. */
	if (fcntl(fd, F_GET_SEALS) < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		snprintf(why, why_len,
			"its descriptor is not a memory file (memfd, tmpfs or hugetlbfs)");
		return -EINVAL;
	}
	if (size > INT64_MAX || offset > INT64_MAX - size) {
		snprintf(why, why_len, "offset 0x%" PRIx64 " and size 0x%" PRIx64 " wrap around",
			offset, size);
		return -EINVAL;
	}
	if ((uint64_t)st.st_size < offset + size) {
		snprintf(why, why_len, "its file holds %" PRIu64 " bytes, %" PRIu64 " are needed",
			(uint64_t)st.st_size, offset + size);
		return -EINVAL;
	}
	if (file)
		*file = (struct virtq_file){st.st_dev, st.st_ino};
	return 0;
}

static uint64_t backing_page_size(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) == 0 && (uint32_t)fs.f_type == HUGETLBFS_MAGIC && fs.f_bsize > 0)
		return (uint64_t)fs.f_bsize;
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* From the page that holds the offset, so that hugetlbfs accepts it. */
int virtq_map_open(struct virtq_map *map, int fd, uint64_t offset, uint64_t size)
{
	uint64_t page = backing_page_size(fd);
	uint64_t lead = offset & (page - 1);
	uint64_t len = (lead + size + page - 1) & ~(page - 1);
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		(off_t)(offset - lead));

	if (at == MAP_FAILED)
		return -errno;
	/* A core file of the switch must not contain its guests. */
	madvise(at, len, MADV_DONTDUMP);
	*map = (struct virtq_map){
		.at = (uint8_t *)at + lead,
		.map = at,
		.map_len = len,
		.page_size = page,
		.trap = virtq_trap_set(at, len, page),
		.share = {fcntl(fd, F_DUPFD_CLOEXEC, 0), offset, size},
	};
	if (map->trap)
		return 0;
	virtq_map_close(map);
	return -ENOMEM;
}

void virtq_map_close(struct virtq_map *map)
{
	if (map->trap)
		virtq_trap_remove(map->trap);
	munmap(map->map, map->map_len);
	if (map->share.fd >= 0)
		close(map->share.fd);
}

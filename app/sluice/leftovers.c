/* SPDX-License-Identifier: BSD-3-Clause */
/* What the EAL leaves in the file system at its end. */
#include "leftovers.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_eal.h>

/* An EAL that failed to start keeps its sockets open. */
static bool is_ours(const struct sockaddr_un *addr)
{
	for (int fd = 0; fd < 256; fd++) {
		struct sockaddr_un own = {0};
		socklen_t len = sizeof(own) - 1;

		if (getsockname(fd, (struct sockaddr *)&own, &len) == 0 &&
			own.sun_family == AF_UNIX && strcmp(own.sun_path, addr->sun_path) == 0)
			return true;
	}
	return false;
}

/* Whether another program, of whatever socket type, is behind the socket file. */
static bool is_served(const char *dir, const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t room = sizeof(addr.sun_path);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool served = true;

	if (fd < 0)
		return true;
	if (snprintf(addr.sun_path, room, "%s/%s", dir, name) < (int)room)
		served = !is_ours(&addr) &&
			 (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 ||
				 (errno != ECONNREFUSED && errno != ENOENT));
	close(fd);
	return served;
}

/* Whether another program has the same --file-prefix: then a socket of its is there. */
static bool is_shared(const char *path, DIR *dir)
{
	const struct dirent *e;
	bool served = false;

	while (!served && (e = readdir(dir)) != NULL)
		served = e->d_type == DT_SOCK && is_served(path, e->d_name);
	rewinddir(dir);
	return served;
}

void leftovers_remove_runtime(void)
{
	const char *path = rte_eal_get_runtime_dir();
	DIR *dir = *path ? opendir(path) : NULL;
	const struct dirent *e;

	if (!dir)
		return;
	if (is_shared(path, dir))
		goto out;
	while ((e = readdir(dir)) != NULL)
		if (e->d_type == DT_REG || e->d_type == DT_SOCK)
			unlinkat(dirfd(dir), e->d_name, 0);
	rmdir(path);
out:
	closedir(dir);
}

/* Of a line of /proc/self/maps: the file, if its name is one the EAL gives to hugepages. */
static const char *hugepage_file(char *line, const char *prefix)
{
	const char *path = strchr(line, '/'), *name;

	if (!path)
		return NULL;
	line[strcspn(line, "\n")] = '\0';
	name = strrchr(path, '/') + 1;
	if (strncmp(name, prefix, strlen(prefix)) != 0)
		return NULL;
	return strncmp(name + strlen(prefix), "map_", 4) == 0 ? path : NULL;
}

static void remove_mapped(FILE *maps, const char *prefix)
{
	char line[512];
	const char *path;

	while (fgets(line, sizeof(line), maps)) {
		path = hugepage_file(line, prefix);
		if (path)
			unlink(path);
	}
}

void leftovers_remove_hugepages(void)
{
	const char *runtime = rte_eal_get_runtime_dir(), *prefix = strrchr(runtime, '/');
	DIR *dir = prefix ? opendir(runtime) : NULL;
	FILE *maps;

	if (!dir)
		return;
	maps = is_shared(runtime, dir) ? NULL : fopen("/proc/self/maps", "re");
	closedir(dir);
	if (!maps)
		return;
	remove_mapped(maps, prefix + 1);
	fclose(maps);
}

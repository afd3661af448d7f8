/* SPDX-License-Identifier: BSD-3-Clause */
/* Listening sockets that outlive a process: somebody else keeps them, and the next one finds them. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "usock.h"
#include "usock_priv.h"

struct heir {
	struct heir *next;
	struct usock_file file;
	int fd;
};

static struct usock_keeper keeper;
static struct heir *heirs;

void usock_keep(const struct usock_keeper *k)
{
	keeper = *k;
}

void usock_was_made(int fd, const struct usock_file *file)
{
	if (keeper.made)
		keeper.made(fd, file);
}

void usock_was_removed(const struct usock_file *file)
{
	if (keeper.removed && file->ino)
		keeper.removed(file);
}

static bool listens(int fd)
{
	socklen_t len = sizeof(int);
	int is;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is, &len) == 0 && is == 1;
}

int usock_inherit(int fd, const struct usock_file *file)
{
	struct heir *h = listens(fd) ? malloc(sizeof(*h)) : NULL;

	if (!h) {
		close(fd);
		return -1;
	}
	*h = (struct heir){heirs, *file, fd};
	heirs = h;
	return 0;
}

int usock_take_inherited(const struct usock_file *file)
{
	for (struct heir **at = &heirs; *at; at = &(*at)->next) {
		struct heir *h = *at;
		int fd = h->fd;

		if (h->file.dev != file->dev || h->file.ino != file->ino)
			continue;
		*at = h->next;
		free(h);
		return fd;
	}
	return -1;
}

void usock_claim(const struct usock_file *file)
{
	int fd = usock_take_inherited(file);

	if (fd >= 0)
		close(fd);
}

/* Where it was bound, unless that was too long for its address. */
static void remove_file(const struct heir *h)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(addr) - 1;

	if (getsockname(h->fd, (struct sockaddr *)&addr, &len) == 0 && addr.sun_path[0])
		usock_remove(addr.sun_path, &h->file);
	else
		usock_was_removed(&h->file);
}

unsigned usock_disinherit(void)
{
	unsigned n = 0;

	while (heirs) {
		struct heir *h = heirs;

		heirs = h->next;
		remove_file(h);
		close(h->fd);
		free(h);
		n++;
	}
	return n;
}

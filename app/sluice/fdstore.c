/* SPDX-License-Identifier: BSD-3-Clause */
/* The service manager's side of descriptors that outlive us. */
#include "fdstore.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "usock.h"

#define STATE     "state"
#define TAP       "tap-"
#define NAME_ROOM 64

/* A TAP of the process before: nothing but held. */
struct tap {
	struct tap *next;
	int fd;
	char name[];
};

static bool there;
static struct tap *taps;
static int state = -1;

static void name_of(char out[NAME_ROOM], const struct usock_file *file)
{
	snprintf(out, NAME_ROOM, "listen-%jx-%jx", (uintmax_t)file->dev, (uintmax_t)file->ino);
}

/* Its end is no news: whoever writes to it is gone by then. */
static int put(int fd, const char *name)
{
	char text[128];
	int n;

	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	n = sd_pid_notify_with_fds(0, 0, text, &fd, 1);
	return n > 0 ? 0 : n < 0 ? n : -ENOENT;
}

static void drop(const char *name)
{
	sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

static void on_made(int fd, const struct usock_file *file)
{
	char name[NAME_ROOM];

	name_of(name, file);
	put(fd, name);
}

static void on_removed(const struct usock_file *file)
{
	char name[NAME_ROOM];

	name_of(name, file);
	drop(name);
}

static void hold(int fd, const char *name)
{
	struct tap *t = malloc(sizeof(*t) + strlen(name) + 1);

	if (!t) {
		close(fd);
		drop(name);
		return;
	}
	t->next = taps;
	t->fd = fd;
	strcpy(t->name, name);
	taps = t;
}

static void take(int fd, const char *name)
{
	struct usock_file file;
	uintmax_t dev, ino;

	if (strcmp(name, STATE) == 0 && state < 0) {
		state = fd;
	} else if (strncmp(name, TAP, strlen(TAP)) == 0) {
		hold(fd, name);
	} else if (sscanf(name, "listen-%jx-%jx", &dev, &ino) == 2) {
		file = (struct usock_file){(dev_t)dev, (ino_t)ino};
		if (usock_inherit(fd, &file) < 0)
			drop(name);
	} else {
		close(fd);
		drop(name);
	}
}

/* Before version 254 systemd does not say whether there is a store: the unit does, in the same variable. */
void fdstore_open(void)
{
	static const struct usock_keeper keeper = {on_made, on_removed};
	const char *room = getenv("FDSTORE");
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);

	there = room && strtoul(room, NULL, 10) > 0 && getenv("NOTIFY_SOCKET");
	if (there)
		usock_keep(&keeper);
	for (int i = 0; i < n; i++) {
		take(SD_LISTEN_FDS_START + i, names[i]);
		free(names[i]);
	}
	free(names);
}

bool fdstore_is_there(void)
{
	return there;
}

int fdstore_state(void)
{
	int fd = state;

	state = -1;
	if (fd >= 0)
		drop(STATE);
	return fd;
}

int fdstore_put_state(int fd)
{
	return put(fd, STATE);
}

void fdstore_put_tap(int fd, unsigned index)
{
	char name[NAME_ROOM];

	snprintf(name, sizeof(name), TAP "%u", index);
	put(fd, name);
}

void fdstore_settled(void)
{
	while (taps) {
		struct tap *t = taps;

		taps = t->next;
		close(t->fd);
		drop(t->name);
		free(t);
	}
}

void fdstore_main_pid(pid_t pid)
{
	sd_notifyf(0, "MAINPID=%d", (int)pid);
}

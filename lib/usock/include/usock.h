/* SPDX-License-Identifier: BSD-3-Clause */
/* Unix stream sockets that have a path. */
#ifndef USOCK_H
#define USOCK_H

#include <limits.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * Theory of operation
 *
 * A path leads through its directory, which is opened once: what is looked at, bound, given away
 * and removed lies in that directory, whatever becomes of the names above it. The last name is never
 * followed if it is a symbolic link, and what is there is removed only if it is a socket, nobody
 * serves it, and it is ours. A path that does not fit into a socket's address is reached through
 * /proc/self/fd.
 */

/* Bytes of a path with its end; its last name has to fit into a socket's address. */
#define USOCK_PATH_MAX 1024

/* Who may connect to a socket we make. */
struct usock_access {
	uid_t uid;   /* owner; (uid_t)-1: we */
	gid_t gid;   /* (gid_t)-1: our group */
	mode_t mode; /* permissions; 0: what the umask leaves */
};

#define USOCK_ACCESS_DEFAULT ((struct usock_access){.uid = (uid_t)-1, .gid = (gid_t)-1})

/* A socket file we made. */
struct usock_file {
	dev_t dev;
	ino_t ino;
};

/**
 * Whether a path can be a socket's.
 * @param why	on failure one line: what is wrong, what to do
 * @return 0, -EINVAL (none), -ENAMETOOLONG
 *
 * Any thread, as all of this.
 */
int usock_check(const char *path, char *why, size_t why_len);

/**
 * Connect, without waiting. A symbolic link is followed: who made it could have made a socket.
 * @return a non-blocking descriptor, or the negative error of connect(2) and its like: -EAGAIN says
 *	   that somebody listens and is busy, -ECONNREFUSED that nobody serves the socket any more
 */
int usock_connect(const char *path);

/**
 * Make a socket and listen. A stale one that is ours, or belongs to whom access gives it, is replaced.
 *
 * @param file	which one is ours: for usock_remove()
 * @param why	on failure one line: what is wrong, what to do
 * @return a non-blocking descriptor, or -EADDRINUSE (something else is there), or the error of the
 *	   system call that failed; then nothing is left behind
 */
int usock_listen(const char *path, int backlog, const struct usock_access *access,
	struct usock_file *file, char *why, size_t why_len);

/** Remove it if it is still the one we made. */
void usock_remove(const char *path, const struct usock_file *file);

/*
 * A socket can outlive the process: a keeper, who is told of each that listens, holds a second
 * descriptor of it, and the next process inherits that. Whoever connects meanwhile waits in its queue.
 * What is inherited is told apart by its file, and usock_listen() at the path of that file takes it
 * instead of making another. Control thread, all of this.
 */
struct usock_keeper {
	void (*made)(int fd, const struct usock_file *file); /* fd is lent */
	void (*removed)(const struct usock_file *file);
};

/** From now on tell who keeps them. */
void usock_keep(const struct usock_keeper *k);

/**
 * A listening socket of the process before.
 * @param fd	ours from here on, also on failure
 * @return 0, or -1: it does not listen
 */
int usock_inherit(int fd, const struct usock_file *file);

/** This file's socket has come another way as well: the inherited descriptor is not needed. */
void usock_claim(const struct usock_file *file);

/** Nobody listens at what is left: close and remove it. @return how many there were */
unsigned usock_disinherit(void);

/**
 * Read who may connect from words.
 *
 * @param owner, group	names or numbers, NULL: as in access
 * @param mode		octal digits, NULL: likewise
 * @param why		on failure one line: what is wrong, what to do
 * @return 0, -EINVAL or -ENOENT (no such user or group); then access is unchanged
 */
int usock_parse_access(const char *owner, const char *group, const char *mode,
	struct usock_access *access, char *why, size_t why_len);

#endif

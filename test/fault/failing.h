/* SPDX-License-Identifier: BSD-3-Clause */
/* Included before everything else where the libraries are compiled for row P6: what may fail asks first. */
#ifndef FAILING_H
#define FAILING_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

/** Is this call, at this place of the libraries, the one that fails? Then errno says why. */
bool failing_call(int error, const char *file, int line);

/** The n-th call of this thread fails from now on, the first is 1; 0: none, they are only counted. */
void failing_begin(unsigned n);

/** The same for calls in one file only, such as "virtq_mem.c". */
void failing_begin_in(const char *file, unsigned n);

/** None fails any more. How many there were; *where: which one failed, NULL if there were too few. */
unsigned failing_end(const char **where);

#ifdef FAILING_LIBRARY
#define FAILING(error)       failing_call(error, __FILE__, __LINE__)

#define malloc(...)          (FAILING(ENOMEM) ? NULL : malloc(__VA_ARGS__))
#define calloc(...)          (FAILING(ENOMEM) ? NULL : calloc(__VA_ARGS__))
#define realloc(...)         (FAILING(ENOMEM) ? NULL : realloc(__VA_ARGS__))
#define aligned_alloc(...)   (FAILING(ENOMEM) ? NULL : aligned_alloc(__VA_ARGS__))
#define strdup(...)          (FAILING(ENOMEM) ? NULL : strdup(__VA_ARGS__))
#define fopen(...)           (FAILING(EMFILE) ? NULL : fopen(__VA_ARGS__))
#define mmap(...)            (FAILING(ENOMEM) ? MAP_FAILED : mmap(__VA_ARGS__))
#define pthread_create(...)  (FAILING(EAGAIN) ? EAGAIN : pthread_create(__VA_ARGS__))
#define posix_fallocate(...) (FAILING(ENOSPC) ? ENOSPC : posix_fallocate(__VA_ARGS__))
#define eventfd(...)         (FAILING(EMFILE) ? -1 : eventfd(__VA_ARGS__))
#define epoll_create1(...)   (FAILING(EMFILE) ? -1 : epoll_create1(__VA_ARGS__))
#define epoll_ctl(...)       (FAILING(ENOSPC) ? -1 : epoll_ctl(__VA_ARGS__))
#define memfd_create(...)    (FAILING(EMFILE) ? -1 : memfd_create(__VA_ARGS__))
#define socket(...)          (FAILING(EMFILE) ? -1 : socket(__VA_ARGS__))
#define bind(...)            (FAILING(ENOMEM) ? -1 : bind(__VA_ARGS__))
#define listen(...)          (FAILING(ENOBUFS) ? -1 : listen(__VA_ARGS__))
#define connect(...)         (FAILING(EAGAIN) ? -1 : connect(__VA_ARGS__))
#define accept4(...)         (FAILING(EMFILE) ? -1 : accept4(__VA_ARGS__))
#define open(...)            (FAILING(EMFILE) ? -1 : open(__VA_ARGS__))
#define openat(...)          (FAILING(ENFILE) ? -1 : openat(__VA_ARGS__))
#define fcntl(...)           (FAILING(EMFILE) ? -1 : fcntl(__VA_ARGS__))
#define ftruncate(...)       (FAILING(ENOSPC) ? -1 : ftruncate(__VA_ARGS__))
#define sendmsg(...)         (FAILING(ENOBUFS) ? -1 : sendmsg(__VA_ARGS__))
#define recvmsg(...)         (FAILING(ENOMEM) ? -1 : recvmsg(__VA_ARGS__))
#define event_new(...)       (FAILING(ENOMEM) ? NULL : event_new(__VA_ARGS__))
#define event_add(...)       (FAILING(ENOMEM) ? -1 : event_add(__VA_ARGS__))
#endif

#endif

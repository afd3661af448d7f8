/* SPDX-License-Identifier: BSD-3-Clause */
/* Between the files of this folder. */
#ifndef USOCK_PRIV_H
#define USOCK_PRIV_H

struct usock_file;

/* For the keeper, if there is one. */
void usock_was_made(int fd, const struct usock_file *file);
void usock_was_removed(const struct usock_file *file);

/* The listening socket of this file that was inherited, the caller's from here on; or -1. */
int usock_take_inherited(const struct usock_file *file);

#endif

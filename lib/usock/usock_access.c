/* SPDX-License-Identifier: BSD-3-Clause */
/* Owner, group and permissions of a socket, from words. */
#include "usock.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A number of at most 32 bits that is no "nobody in particular". */
static bool number(const char *word, int base, unsigned long *out)
{
	const char *digits = base == 8 ? "01234567" : "0123456789";

	if (!*word || strlen(word) > 10 || word[strspn(word, digits)])
		return false;
	*out = strtoul(word, NULL, base);
	return *out < UINT32_MAX;
}

static int unknown(const char *kind, const char *word, char *why, size_t why_len)
{
	snprintf(why, why_len, "there is no %s '%s': give the name or number of one", kind, word);
	return -ENOENT;
}

/* The answers of the name service need memory of a size it does not tell: more than anybody's entry. */
#define ENTRY_MAX 65536

static int find_user(const char *word, uid_t *uid, char *why, size_t why_len)
{
	struct passwd entry, *found = NULL;
	unsigned long n;
	char *room;

	if (number(word, 10, &n)) {
		*uid = (uid_t)n;
		return 0;
	}
	room = malloc(ENTRY_MAX);
	if (room && getpwnam_r(word, &entry, room, ENTRY_MAX, &found) == 0 && found)
		*uid = found->pw_uid;
	free(room);
	return found ? 0 : unknown("user", word, why, why_len);
}

static int find_group(const char *word, gid_t *gid, char *why, size_t why_len)
{
	struct group entry, *found = NULL;
	unsigned long n;
	char *room;

	if (number(word, 10, &n)) {
		*gid = (gid_t)n;
		return 0;
	}
	room = malloc(ENTRY_MAX);
	if (room && getgrnam_r(word, &entry, room, ENTRY_MAX, &found) == 0 && found)
		*gid = found->gr_gid;
	free(room);
	return found ? 0 : unknown("group", word, why, why_len);
}

static int read_mode(const char *word, mode_t *mode, char *why, size_t why_len)
{
	unsigned long n;

	if (!number(word, 8, &n) || n > 0777 || !(n & 0200)) {
		snprintf(why, why_len,
			"mode '%s': expected up to three octal digits in which the owner may "
			"write, such "
			"as 0660",
			word);
		return -EINVAL;
	}
	*mode = (mode_t)n;
	return 0;
}

int usock_parse_access(const char *owner, const char *group, const char *mode,
	struct usock_access *access, char *why, size_t why_len)
{
	struct usock_access a = *access;
	int err = owner ? find_user(owner, &a.uid, why, why_len) : 0;

	if (!err && group)
		err = find_group(group, &a.gid, why, why_len);
	if (!err && mode)
		err = read_mode(mode, &a.mode, why, why_len);
	if (!err)
		*access = a;
	return err;
}

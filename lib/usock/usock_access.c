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

/* The answers of the name service need memory of a size it does not tell: more than anybody's entry. */
#define ENTRY_MAX 65536

static bool user_named(const char *word, char *room, uint32_t *id)
{
	struct passwd entry, *found = NULL;

	if (getpwnam_r(word, &entry, room, ENTRY_MAX, &found) != 0 || !found)
		return false;
	*id = found->pw_uid;
	return true;
}

static bool group_named(const char *word, char *room, uint32_t *id)
{
	struct group entry, *found = NULL;

	if (getgrnam_r(word, &entry, room, ENTRY_MAX, &found) != 0 || !found)
		return false;
	*id = found->gr_gid;
	return true;
}

static int find(const char *kind, bool (*named)(const char *, char *, uint32_t *), const char *word,
	uint32_t *id, char *why, size_t why_len)
{
	unsigned long n;
	char *room;
	bool found;

	if (number(word, 10, &n)) {
		*id = (uint32_t)n;
		return 0;
	}
	room = malloc(ENTRY_MAX);
	found = room && named(word, room, id);
	free(room);
	if (found)
		return 0;
	snprintf(why, why_len, "there is no %s '%s': give the name or number of one", kind, word);
	return -ENOENT;
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
	int err = owner ? find("user", user_named, owner, &a.uid, why, why_len) : 0;

	if (!err && group)
		err = find("group", group_named, group, &a.gid, why, why_len);
	if (!err && mode)
		err = read_mode(mode, &a.mode, why, why_len);
	if (!err)
		*access = a;
	return err;
}

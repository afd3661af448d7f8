/* SPDX-License-Identifier: BSD-3-Clause */
/* The words after --vdev net_nicsim0, : which NIC it shall be like. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_kvargs.h>

#include "nicsim_priv.h"

/* A key is a number within bounds, or the name of a device. */
static const struct key {
	const char *name;
	size_t offset;
	uint32_t min, max;
	enum {
		NUMBER,
		FLAG,
		NAME
	} type;
} keys[] = {
	{"peer", offsetof(struct nicsim_conf, peer), 0, 0, NAME},
	{"delay_us", offsetof(struct nicsim_conf, delay_us), 0, 60 * 1000 * 1000, NUMBER},
	{"queues", offsetof(struct nicsim_conf, queues), 1, NICSIM_QUEUES_MAX, NUMBER},
	{"rs_thresh", offsetof(struct nicsim_conf, rs_thresh), 1, 256, NUMBER},
	{"nb_seg_max", offsetof(struct nicsim_conf, nb_seg_max), 1, UINT8_MAX, NUMBER},
	{"maxdma", offsetof(struct nicsim_conf, maxdma), 0, 65535, NUMBER},
	{"rxgen", offsetof(struct nicsim_conf, rxgen), 0, NICSIM_DESC_MAX, NUMBER},
	{"rxlen", offsetof(struct nicsim_conf, rxlen), NICSIM_FRAME_MIN, NICSIM_FRAME_MAX, NUMBER},
	{"lazy", offsetof(struct nicsim_conf, lazy), 0, 1, FLAG},
	{"nocleanup", offsetof(struct nicsim_conf, nocleanup), 0, 1, FLAG},
	{"nosegs", offsetof(struct nicsim_conf, nosegs), 0, 1, FLAG},
	{"fastfree", offsetof(struct nicsim_conf, fastfree), 0, 1, FLAG},
	{"offloads", offsetof(struct nicsim_conf, offloads), 0, 1, FLAG},
	{"nodma", offsetof(struct nicsim_conf, nodma), 0, 1, FLAG},
	{"blind", offsetof(struct nicsim_conf, blind), 0, 1, FLAG},
};

static int parse_number(
	const struct key *key, const char *value, uint32_t *n, char *why, size_t why_len)
{
	char *end;
	unsigned long parsed = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || parsed < key->min || parsed > key->max) {
		snprintf(why, why_len, "%s=%s: it takes a number from %u to %u", key->name, value,
			key->min, key->max);
		return -EINVAL;
	}
	*n = (uint32_t)parsed;
	return 0;
}

static int store(const struct key *key, const char *value, struct nicsim_conf *out, char *why,
	size_t why_len)
{
	char *field = (char *)out + key->offset;
	uint32_t n;

	if (key->type == NAME) {
		if (rte_strscpy(field, value, RTE_DEV_NAME_MAX_LEN) > 0)
			return 0;
		snprintf(why, why_len, "%s=%s: it takes a device's name", key->name, value);
		return -EINVAL;
	}
	if (parse_number(key, value, &n, why, why_len) < 0)
		return -EINVAL;
	if (key->type == FLAG)
		*(bool *)field = n != 0;
	else
		memcpy(field, &n, sizeof(n));
	return 0;
}

static int on_pair(
	const struct rte_kvargs_pair *pair, struct nicsim_conf *out, char *why, size_t why_len)
{
	int n;

	for (size_t i = 0; i < RTE_DIM(keys); i++)
		if (strcmp(keys[i].name, pair->key) == 0)
			return store(&keys[i], pair->value ? pair->value : "", out, why, why_len);
	n = snprintf(why, why_len, "%s is unknown; known are:", pair->key);
	for (size_t i = 0; i < RTE_DIM(keys) && n > 0 && (size_t)n < why_len; i++)
		n += snprintf(why + n, why_len - (size_t)n, " %s", keys[i].name);
	return -EINVAL;
}

int nicsim_devargs_parse(const char *args, struct nicsim_conf *out, char *why, size_t why_len)
{
	struct rte_kvargs *pairs = rte_kvargs_parse(args ? args : "", NULL);
	int err = 0;

	*out = (struct nicsim_conf){
		.queues = NICSIM_QUEUES_MAX,
		.rs_thresh = NICSIM_THRESH,
		.nb_seg_max = UINT8_MAX,
		.rxlen = 256,
	};
	if (!pairs) {
		snprintf(why, why_len, "'%s' is not of the form key=value,key=value", args);
		return -EINVAL;
	}
	for (unsigned int i = 0; i < pairs->count && !err; i++)
		err = on_pair(&pairs->pairs[i], out, why, why_len);
	rte_kvargs_free(pairs);
	return err;
}

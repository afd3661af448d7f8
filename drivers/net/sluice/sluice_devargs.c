/* SPDX-License-Identifier: BSD-3-Clause */
/* The words after --vdev net_sluice0, : net_vhost's, and mac. */
#include <errno.h>
#include <string.h>

#include <rte_kvargs.h>

#include "sluice_pmd.h"

struct context {
	struct sl_devargs *out;
	char *why;
	size_t why_len;
	uint32_t seen; /* bit per key */
};

static int parse_iface(struct sl_devargs *out, const char *value)
{
	char why[8];

	if (usock_check(value, why, sizeof(why)) == -ENAMETOOLONG)
		return -ENAMETOOLONG;
	strcpy(out->iface, value);
	return 0;
}

static int parse_state_file(struct sl_devargs *out, const char *value)
{
	if (!value[0] || strlen(value) >= sizeof(out->state_file))
		return -EINVAL;
	strcpy(out->state_file, value);
	return 0;
}

static int parse_queues(struct sl_devargs *out, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (*end || n < 1 || n > VU_QUEUE_PAIRS_MAX)
		return -EINVAL;
	out->queues = (uint16_t)n;
	return 0;
}

static int parse_mac(struct sl_devargs *out, const char *value)
{
	if (rte_ether_unformat_addr(value, &out->mac) != 0 ||
		!rte_is_valid_assigned_ether_addr(&out->mac))
		return -EINVAL;
	return 0;
}

static int parse_flag(bool *flag, const char *value)
{
	if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
		return -EINVAL;
	*flag = value[0] == '1';
	return 0;
}

#define FLAG(name)                                                         \
	static int parse_##name(struct sl_devargs *out, const char *value) \
	{                                                                  \
		return parse_flag(&out->name, value);                      \
	}
FLAG(client)
FLAG(tso)
FLAG(linear_buffer)
FLAG(ext_buffer)
FLAG(legacy_ol_flags)
FLAG(postcopy_support)
FLAG(iommu_support)
FLAG(zero_copy)

static const struct key {
	const char *name;
	int (*parse)(struct sl_devargs *out, const char *value);
	const char *takes;
} keys[] = {
	{"iface", parse_iface, "the path of a unix socket"},
	{"queues", parse_queues, "a number of queue pairs from 1 to 128"},
	{"client", parse_client, "0 (listen at iface) or 1 (connect to it)"},
	{"iommu-support", parse_iommu_support, "0 or 1"},
	{"postcopy-support", parse_postcopy_support, "0 or 1"},
	{"tso", parse_tso, "0 or 1"},
	{"linear-buffer", parse_linear_buffer, "0 or 1"},
	{"ext-buffer", parse_ext_buffer, "0 or 1"},
	{"legacy-ol-flags", parse_legacy_ol_flags, "0 or 1"},
	{"zero-copy", parse_zero_copy, "0 or 1"},
	{"state-file", parse_state_file, "the path of a file in a tmpfs"},
	{"mac", parse_mac, "a unicast address as 02:00:00:00:00:01"},
};

static int explain(struct context *c, const struct key *key, const char *value, int err)
{
	switch (err) {
	case 0:
		return 0;
	case -ENAMETOOLONG:
		usock_check(value, c->why, c->why_len);
		return err;
	default:
		snprintf(c->why, c->why_len, "%s=%s: it takes %s", key->name, value, key->takes);
		return err;
	}
}

static int on_pair(struct context *c, const struct rte_kvargs_pair *pair)
{
	const char *value = pair->value ? pair->value : "";

	for (unsigned int i = 0; i < RTE_DIM(keys); i++) {
		if (strcmp(keys[i].name, pair->key) != 0)
			continue;
		if (c->seen & (1u << i)) {
			snprintf(c->why, c->why_len, "%s is given twice", pair->key);
			return -EINVAL;
		}
		c->seen |= 1u << i;
		return explain(c, &keys[i], value, keys[i].parse(c->out, value));
	}
	snprintf(c->why, c->why_len, "%s is unknown; known are: " SL_DEVARGS_HELP, pair->key);
	return -EINVAL;
}

int sl_devargs_parse(const char *args, struct sl_devargs *out, char *why, size_t why_len)
{
	struct context c = {.out = out, .why = why, .why_len = why_len};
	struct rte_kvargs *pairs = rte_kvargs_parse(args ? args : "", NULL);
	int err = 0;

	*out = (struct sl_devargs){.queues = 1};
	if (!pairs) {
		snprintf(why, why_len, "'%s' is not of the form key=value,key=value", args);
		return -EINVAL;
	}
	for (unsigned int i = 0; i < pairs->count && !err; i++)
		err = on_pair(&c, &pairs->pairs[i]);
	rte_kvargs_free(pairs);
	if (!err && !out->iface[0]) {
		snprintf(why, why_len, "iface=<path of a unix socket> is missing");
		return -EINVAL;
	}
	if (err)
		return -EINVAL;
	if (out->zero_copy && out->linear_buffer) {
		snprintf(why, why_len,
			"zero-copy=1 makes chains of mbufs, linear-buffer=1 none: use one of them");
		return -EINVAL;
	}
	if (out->zero_copy && (out->postcopy_support || out->iommu_support)) {
		snprintf(why, why_len,
			"zero-copy=1 does not go together with %s=1: use one of them",
			out->iommu_support ? "iommu-support" : "postcopy-support");
		return -EINVAL;
	}
	if (out->tso && out->linear_buffer && !out->ext_buffer) {
		SL_LOG(WARNING, "%s: tso=1 has no effect with linear-buffer=1 and ext-buffer=0",
			out->iface);
		out->tso = false;
	}
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* What real front-ends said, message by message, sent again: afterwards packets go both ways. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ts_wire.h"
#include "vd.h"

/*
 * Theory of operation
 *
 * The files in recorded/ were written by test/integration/test_recorded.py, which also looks whether
 * today's front-ends still say the same. A line is a request as test/support/record.py puts it. Order,
 * rings, sizes and acknowledgements are taken from it; memory, addresses and bases are our own guest's.
 * "-- traffic N": now N queue pairs work. "-- down": now none does.
 */

struct line {
	char name[40], word[3][20];
	unsigned words;
	bool need_reply;
};

struct recording {
	bool made;  /* the guest's rings */
	bool added; /* our regions, at the first ADD_MEM_REG */
};

static bool parse(char *text, struct line *l)
{
	char *save, *word = strtok_r(text, " \n", &save);

	memset(l, 0, sizeof(*l));
	if (!word)
		return false;
	snprintf(l->name, sizeof(l->name), "%s", word);
	while ((word = strtok_r(NULL, " \n", &save))) {
		if (strcmp(word, "!") == 0)
			l->need_reply = true;
		else if (strcmp(word, "fd") != 0 && l->words < 3)
			snprintf(l->word[l->words++], sizeof(l->word[0]), "%s", word);
	}
	return true;
}

static uint32_t number(const struct line *l, unsigned i)
{
	return (uint32_t)strtoul(l->word[i], NULL, 0);
}

static bool is(const struct line *l, const char *name)
{
	return strcmp(l->name, name) == 0;
}

static bool has(const struct line *l, const char *word)
{
	for (unsigned i = 0; i < l->words; i++)
		if (strcmp(l->word[i], word) == 0)
			return true;
	return false;
}

/* ---- one request ---- */

static int set_features(struct vd *t, const struct line *l)
{
	const uint64_t ours = TS_BIT(TS_F_PROTOCOL_FEATURES) | TS_BIT(VIRTIO_F_RING_PACKED);

	t->fe.features = t->fe.offered & TS_GUEST_MODERN & ~ours;
	if (has(l, "protocol"))
		t->fe.features |= TS_BIT(TS_F_PROTOCOL_FEATURES);
	if (has(l, "packed"))
		t->fe.features |= TS_BIT(VIRTIO_F_RING_PACKED);
	return ts_fe_set_u64(&t->fe, TS_SET_FEATURES, t->fe.features);
}

/* The guest makes its rings when its driver starts, which is what the first NUM tells of. */
static int set_num(struct vd *t, const struct line *l, struct recording *rec)
{
	if (!rec->made) {
		ts_guest_forget(t->guest);
		for (unsigned i = 0; i < 2 * t->fe.pairs; i++)
			t->fe.rings[i].base = TS_FRESH;
		vd_ok(t, ts_fe_make_rings(&t->fe, 0, number(l, 1), 0));
		rec->made = true;
	}
	return ts_fe_set_state(&t->fe, TS_SET_VRING_NUM, number(l, 0), number(l, 1));
}

static int set_fd(struct vd *t, const struct line *l, enum ts_request id, int *fd)
{
	int rc = ts_need_eventfd(&t->fe, fd);

	return rc ? rc : ts_fe_set_fd(&t->fe, id, number(l, 0), *fd);
}

static int ring_request(struct vd *t, const struct line *l, struct recording *rec)
{
	struct ts_fe_ring *r = &t->fe.rings[number(l, 0)];

	if (is(l, "SET_VRING_NUM"))
		return set_num(t, l, rec);
	if (is(l, "SET_VRING_BASE"))
		return ts_fe_set_state(
			&t->fe, TS_SET_VRING_BASE, number(l, 0), ts_fe_base(&t->fe, number(l, 0)));
	if (is(l, "SET_VRING_ADDR"))
		return ts_fe_set_addr(&t->fe, number(l, 0));
	if (is(l, "GET_VRING_BASE")) {
		rec->made = false; /* what starts next are new rings */
		return ts_fe_get_base(&t->fe, number(l, 0));
	}
	if (is(l, "SET_VRING_KICK"))
		return set_fd(t, l, TS_SET_VRING_KICK, &r->kick);
	/* Until the guest runs, another one than the guest's. */
	if (is(l, "SET_VRING_CALL"))
		return set_fd(t, l, TS_SET_VRING_CALL, rec->made ? &r->call : &r->masked);
	if (is(l, "SET_VRING_ERR"))
		return set_fd(t, l, TS_SET_VRING_ERR, &r->err);
	return ts_fe_enable(&t->fe, number(l, 0), number(l, 1));
}

static int add_memory(struct vd *t, struct recording *rec)
{
	int rc = 0;

	for (unsigned i = 0; i < t->guest->n && !rc && !rec->added; i++)
		rc = ts_fe_add_mem_reg(&t->fe, i);
	rec->added = true;
	return rc;
}

static int request(struct vd *t, const struct line *l, struct recording *rec)
{
	struct ts_fe *fe = &t->fe;
	uint64_t value;

	fe->need_reply = l->need_reply ? UINT64_MAX : 0;
	if (strstr(l->name, "VRING_"))
		return ring_request(t, l, rec);
	if (is(l, "GET_FEATURES"))
		return ts_fe_get_u64(fe, TS_GET_FEATURES, &fe->offered);
	if (is(l, "SET_FEATURES"))
		return set_features(t, l);
	if (is(l, "GET_PROTOCOL_FEATURES"))
		return ts_fe_get_u64(fe, TS_GET_PROTOCOL_FEATURES, &fe->offered_protocol);
	if (is(l, "SET_PROTOCOL_FEATURES")) {
		fe->protocol = strtoull(l->word[0], NULL, 0) & fe->offered_protocol;
		return ts_fe_set_u64(fe, TS_SET_PROTOCOL_FEATURES, fe->protocol);
	}
	if (is(l, "SET_OWNER"))
		return ts_fe_simple(fe, TS_SET_OWNER);
	if (is(l, "RESET_DEVICE"))
		return ts_fe_simple(fe, TS_RESET_DEVICE);
	if (is(l, "GET_QUEUE_NUM"))
		return ts_fe_get_u64(fe, TS_GET_QUEUE_NUM, &fe->queue_num);
	if (is(l, "GET_MAX_MEM_SLOTS"))
		return ts_fe_get_u64(fe, TS_GET_MAX_MEM_SLOTS, &fe->mem_slots);
	if (is(l, "GET_STATUS"))
		return ts_fe_get_u64(fe, TS_GET_STATUS, &value);
	if (is(l, "SET_STATUS"))
		return ts_fe_set_u64(fe, TS_SET_STATUS, number(l, 0));
	if (is(l, "SET_MEM_TABLE"))
		return ts_fe_set_mem_table(fe);
	if (is(l, "ADD_MEM_REG"))
		return add_memory(t, rec);
	if (is(l, "SET_BACKEND_REQ_FD") || is(l, "REM_MEM_REG"))
		return 0; /* need more than a line tells; tested by themselves */
	fail_msg("the recording has %s, which is not known here", l->name);
	return -1;
}

/* ---- a whole recording ---- */

static void mark(struct vd *t, const struct line *l)
{
	if (strcmp(l->word[0], "traffic") == 0)
		vd_assert_traffic(t, 0, number(l, 1));
	else if (strcmp(l->word[0], "down") == 0)
		assert_false(t->link);
	else
		fail_msg("the recording has an unknown mark %s", l->word[0]);
}

static void replay(struct vd *t, const char *name)
{
	unsigned n = 0, marks = 0;
	struct recording rec = {0};
	char text[256];
	struct line l;
	FILE *f;

	snprintf(text, sizeof(text), "%s/%s", RECORDED, name);
	f = fopen(text, "r");
	assert_non_null(f);
	while (fgets(text, sizeof(text), f) && parse(text, &l)) {
		n++;
		if (is(&l, "--")) {
			marks++;
			mark(t, &l);
		} else if (request(t, &l, &rec) != 0) {
			fail_msg("%s, line %u, %s: %s; device: %s", name, n, l.name, t->fe.why,
				vd_info(t).last_error);
		} else if (!strstr(l.name, "GET_")) {
			vd_ok(t, ts_fe_barrier(&t->fe));
		}
	}
	fclose(f);
	assert_true(n > 15 && marks > 0);
}

static void trap_5_2_recorded_handshakes(void **state)
{
	struct vd *t = *state;
	DIR *dir = opendir(RECORDED);
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(dir);
	vd_listen(t, 2, &ts_qemu_7);
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		if (n++ > 0)
			vd_connect(t);
		replay(t, e->d_name);
		vd_disconnect(t);
	}
	closedir(dir);
	assert_true(n >= 6);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, vd_setup, vd_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {CASE(trap_5_2_recorded_handshakes)};

	return ts_run_tests(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

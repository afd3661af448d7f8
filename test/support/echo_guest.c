/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest as a small program: it sends frames, sends back what it gets, and checks every byte. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/mempolicy.h>

#include "ts_frontend.h"
#include "ts_net.h"
#include "ts_pkt.h"

/*
 * Theory of operation
 *
 * One thread polls both rings of one queue pair, in memory of pages of 4 KiB or 2 MiB. The frames
 * are ts_pkt.h's; an echo has its MAC addresses swapped. What the device gives back is poisoned
 * at once (ts_net_reap()), and so is all memory after the rings were stopped, so that a
 * device which still reads it sends frames that cannot be right. At the end, which is a signal or
 * the device's hanging up, one line of JSON says what happened. SIGUSR1 has its memory move to the other NUMA node.
 */

#define RING      256
#define RX_SIZE   2048
#define FRAME_MAX 65549
#define CUTS_MAX  15
#define MEMORY    (16u << 20)

struct echo {
	const char *path;
	bool packed;
	bool huge;
	char flood; /* its own frames are no ts_pkt.h's but one of these, see flood() */
	int node;   /* of NUMA, where its memory lies at first; -1: anywhere */
	bool keep;  /* no polite end: as if it had been killed */
	enum ts_mode mode;
	uint32_t cuts[CUTS_MAX];
	unsigned n_cuts;
	uint32_t to_send; /* frames of its own, of these sizes in turn */
	uint32_t min;
	uint32_t max;
};

struct count {
	unsigned received, spoiled, echoed, sent, refused;
};

static volatile sig_atomic_t ending, moving;

static void end(int sig)
{
	(void)sig;
	ending = 1;
}

static void move(int sig)
{
	(void)sig;
	moving = 1;
}

/* All its pages to the other of two NUMA nodes, from under whoever else maps them. */
static int to_node(const struct ts_fe *fe, unsigned node)
{
	const unsigned long mask = 1ul << node;

	if (syscall(SYS_mbind, fe->guest->r[0].va, MEMORY, MPOL_BIND, &mask, 8 * sizeof(mask),
		    MPOL_MF_MOVE_ALL) < 0)
		return -errno;
	return 0;
}

static int fail(const char *what, int err, const struct ts_fe *fe)
{
	fprintf(stderr, "echo_guest: %s: %s (%s)\n", what, strerror(-err), fe->why);
	return 1;
}

/* ---- packets ---- */

static void swap_macs(uint8_t *frame)
{
	uint8_t mac[6];

	memcpy(mac, frame, 6);
	memcpy(frame, frame + 6, 6);
	memcpy(frame + 6, mac, 6);
}

static int put(struct ts_net *net, const struct echo *e, const void *frame, uint32_t len)
{
	return ts_net_send(net, NULL, frame, len, e->cuts, e->n_cuts, e->mode);
}

static void post(struct ts_net *net)
{
	const uint32_t size = RX_SIZE;

	while (ts_net_post_rx(net, &size, 1, TS_DIRECT) == 0)
		;
	ts_ring_kick(net->rx);
}

/* Takes nothing in that it could not send back at once. */
static unsigned echo_back(struct ts_net *net, const struct echo *e, struct count *c)
{
	uint8_t frame[FRAME_MAX];
	unsigned n = 0;

	while (net->tx->n_free > e->n_cuts) {
		int len = ts_net_recv(net, frame, sizeof(frame), NULL);

		if (len == -EAGAIN)
			break;
		n++;
		if (len < 0 || ts_pkt_check(frame, (uint32_t)len, NULL) != 0) {
			c->spoiled++;
			continue;
		}
		c->received++;
		swap_macs(frame);
		if (put(net, e, frame, (uint32_t)len) == 0)
			c->echoed++;
		else
			c->refused++;
	}
	return n;
}

/* Frames of one kind to 02:00:00:00:00:77: b(roadcast, to all), m(any sources), v(LAN tags in any number), r(unts). */
static void flood(uint8_t *frame, uint32_t len, uint32_t seq, char kind)
{
	static const uint8_t to[12] = {2, 0, 0, 0, 0, 0x77, 2, 0, 0, 0, 0, 0x66};
	uint64_t mix = (seq + 1) * 0x9e3779b97f4a7c15ull;
	uint8_t whole[FRAME_MAX] = {0};

	mix ^= mix >> 29;
	memcpy(whole, to, sizeof(to));
	if (kind == 'b')
		memset(whole, 0xff, 6);
	if (kind == 'm')
		memcpy(whole + 7, &mix, 5);
	for (unsigned i = 0; kind == 'v' && i < 1 + seq % 9; i++) {
		const uint8_t tag[4] = {mix >> i & 1 ? 0x88 : 0x81, mix >> i & 1 ? 0xa8 : 0,
			(uint8_t)(mix >> 8 >> i), (uint8_t)(mix >> 16 >> i)};

		memcpy(whole + 12 + 4 * i, tag, sizeof(tag));
	}
	memcpy(frame, whole, len);
}

static unsigned send_own(struct ts_net *net, const struct echo *e, struct count *c)
{
	uint8_t frame[FRAME_MAX];
	uint32_t before = c->sent;

	while (c->sent < e->to_send && net->tx->n_free > e->n_cuts) {
		uint32_t len = e->min + c->sent % (e->max - e->min + 1);

		if (e->flood)
			flood(frame, len, c->sent, e->flood);
		else
			ts_pkt_fill(frame, len, c->sent);
		if (put(net, e, frame, len) != 0)
			break;
		c->sent++;
	}
	return c->sent - before;
}

static bool hung_up(const struct ts_fe *fe)
{
	struct pollfd p = {.fd = fe->sock, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

static void work(struct ts_fe *fe, struct ts_net *net, const struct echo *e, struct count *c)
{
	unsigned node = e->node > 0;

	while (!ending && !hung_up(fe)) {
		unsigned n;

		if (moving) {
			node = !node;
			moving = 0;
			printf("node %d\n", to_node(fe, node) == 0 ? (int)node : -1);
			fflush(stdout);
		}
		n = ts_net_reap(net) + echo_back(net, e, c) + send_own(net, e, c);

		ts_ring_kick(net->tx);
		post(net);
		if (n == 0)
			ts_nap();
	}
}

/* ---- life ---- */

static int bring_up(struct ts_fe *fe, const struct echo *e)
{
	struct ts_region_conf conf = {
		.gpa = 1 << 20, .size = MEMORY, .flags = e->huge ? TS_REGION_HUGE : 0};
	int err;

	fe->guest = ts_guest_new();
	err = fe->guest ? ts_guest_add(fe->guest, &conf) : -ENOMEM;
	if (err >= 0 && e->node >= 0)
		err = to_node(fe, (unsigned)e->node);
	if (err < 0)
		return err;
	err = ts_fe_connect(fe, e->path);
	if (err == 0)
		err = ts_fe_negotiate(fe);
	if (err == 0)
		err = ts_fe_make_rings(fe, 0, RING, 0);
	return err;
}

static void say(const struct ts_net *net, const struct count *c, int stopped)
{
	printf("{\"received\": %u, \"spoiled\": %u, \"echoed\": %u, \"refused\": %u, \"sent\": %u, "
	       "\"out\": %u, \"stopped\": %s, \"faults\": %u, \"why\": \"%s\"}\n",
		c->received, c->spoiled, c->echoed, c->refused, c->sent, net->tx->n_out,
		stopped == 0 ? "true" : "false", ts_net_faults(net), ts_net_why(net));
}

static int run(struct ts_fe *fe, const struct echo *e)
{
	struct count c = {0};
	struct ts_net net;
	int err = bring_up(fe, e);

	if (err < 0)
		return fail(e->path, err, fe);
	ts_net_init(&net, fe->guest, 0, fe->rings[0].ring, fe->rings[1].ring);
	post(&net);
	err = ts_fe_start(fe);
	if (err < 0)
		return fail("start", err, fe);
	puts("up");
	fflush(stdout);
	work(fe, &net, e, &c);
	err = e->keep ? -ECANCELED : ts_fe_stop(fe);
	ts_net_reap(&net);
	say(&net, &c, err);
	ts_net_fini(&net);
	if (err == 0)
		memset(fe->guest->r[0].va, TS_POISON, fe->guest->r[0].size);
	return 0;
}

static int set_cuts(struct echo *e, char *list)
{
	for (char *word = strtok(list, ","); word; word = strtok(NULL, ",")) {
		if (e->n_cuts == CUTS_MAX || atoi(word) <= 0)
			return -EINVAL;
		e->cuts[e->n_cuts++] = (uint32_t)atoi(word);
	}
	return 0;
}

static int set(struct echo *e, char *word)
{
	if (strcmp(word, "packed") == 0)
		e->packed = true;
	else if (strcmp(word, "huge") == 0)
		e->huge = true;
	else if (strcmp(word, "keep") == 0)
		e->keep = true;
	else if (strcmp(word, "node=0") == 0 || strcmp(word, "node=1") == 0)
		e->node = word[5] - '0';
	else if (strncmp(word, "flood=", 6) == 0)
		e->flood = word[6];
	else if (strcmp(word, "indirect") == 0)
		e->mode = TS_INDIRECT;
	else if (strncmp(word, "cuts=", 5) == 0)
		return set_cuts(e, word + 5);
	else if (sscanf(word, "send=%u,%u-%u", &e->to_send, &e->min, &e->max) != 3 ||
		 e->min < (e->flood ? 1 : TS_PKT_MIN) || e->max < e->min || e->max > FRAME_MAX)
		return -EINVAL;
	return 0;
}

int main(int argc, char **argv)
{
	struct echo e = {.path = argv[1], .mode = TS_DIRECT, .node = -1};
	struct ts_fe fe;
	int err = argc < 2 ? -EINVAL : 0;

	for (int i = 2; i < argc && err == 0; i++)
		err = set(&e, argv[i]);
	if (err) {
		fputs("usage: echo_guest SOCKET [packed] [huge] [indirect] [keep] [node=0|1] "
		      "[flood=b|m|v|r] [cuts=BYTES,...] "
		      "[send=FRAMES,MIN-MAX]\n",
			stderr);
		return 2;
	}
	signal(SIGTERM, end);
	signal(SIGINT, end);
	signal(SIGUSR1, move);
	ts_fe_init(&fe, &ts_qemu_10, NULL);
	fe.timeout_ms = 60000;
	fe.want = TS_BIT(VIRTIO_NET_F_MRG_RXBUF) | TS_BIT(VIRTIO_RING_F_INDIRECT_DESC) |
		  TS_BIT(VIRTIO_RING_F_EVENT_IDX) | TS_BIT(VIRTIO_F_VERSION_1) |
		  TS_BIT(TS_F_PROTOCOL_FEATURES) | (e.packed ? TS_BIT(VIRTIO_F_RING_PACKED) : 0);
	err = run(&fe, &e);
	ts_guest_free(fe.guest);
	ts_fe_free(&fe);
	return err;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* The in-flight region: its layout, what is recorded, and going on after a death at any instruction. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "virtq_inflight.h"
#include "vq.h"

static const struct ts_seg one_buffer[] = {{VQ_LOW_GPA, 64}};

/* Offsets as QEMU and DPDK have them, written down a second time. */
enum {
	VERSION = 8,
	SPLIT_USED = 14,
	PACKED_USED = 16,
	PACKED_OLD = 18,
	PACKED_USED_WRAP = 20,
	PACKED_OLD_WRAP = 21,
};

/* ---- a ring with a region, and its death ---- */

static struct virtq_inflight *region_new(uint16_t rings, uint16_t num)
{
	const uint64_t size = virtq_inflight_size(rings, num, true);
	struct virtq_inflight *region = NULL;
	char why[160] = "";
	int fd = virtq_inflight_create(size);

	assert_true(fd >= 0);
	if (virtq_inflight_map(fd, size, 0, rings, num, true, &region, why, sizeof(why)) != 0)
		fail_msg("not mapped: %s", why);
	close(fd);
	return region;
}

/* A new ring whose state is in a new region. */
static struct virtq_inflight *begin(struct vq *t, uint32_t size, uint16_t base)
{
	struct virtq_inflight *region = region_new(1, (uint16_t)size);

	vq_new_ring(t, size, base);
	t->view.inflight_ring = virtq_inflight_ring(region, 0, (uint16_t)size, t->view.packed);
	assert_non_null(t->view.inflight_ring);
	virtq_start(t->q, &t->view, vq_base(t, vq_pos(t, base), vq_pos(t, base)));
	return region;
}

/* All that a process knows is gone; what the front-end says is wrong. */
static void crash(struct vq *t)
{
	const uint16_t wrong = vq_pos(t, ts_rand_below(&t->rng, 2 * t->ring->size));

	memset(t->q, 0xee, sizeof(*t->q));
	virtq_start(t->q, &t->view, vq_base(t, wrong, wrong));
	assert_int_equal(t->q->used, vq_shown(t));
	assert_int_equal(t->q->avail, vq_shown(t));
}

static uint32_t post_some(struct vq *t, uint32_t n, uint64_t *number)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		void *token = (void *)(uintptr_t)(*number + 1);

		if (ts_ring_add(t->ring, one_buffer, 1, NULL, 0, token, vq_mode(t)) != 0)
			break;
		++*number;
	}
	ts_ring_publish(t->ring);
	return i;
}

static uint16_t take_some(struct vq *t, struct virtq_chain *chain, uint16_t max)
{
	uint16_t n = t->ops->ready(t->q, &t->view, max), i = 0;

	vq_burst_begin(t);
	while (i < n && t->ops->take(t->q, &t->view, VIRTQ_FROM_GUEST, t->segs, &chain[i]))
		i++;
	return i;
}

static void give_all(struct vq *t, const struct virtq_chain *chain, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		t->ops->give(t->q, &t->view, &chain[i], 0);
	if (n > 0)
		t->ops->publish(t->q, &t->view);
}

/* Tokens come in order, each once. */
static void reap_all(struct vq *t, uint64_t *number)
{
	void *token;

	while ((token = ts_ring_get_used(t->ring, NULL)))
		assert_int_equal((uintptr_t)token, ++*number);
	vq_assert_polite(t);
}

/* ---- layout ---- */

static void layout(struct vq *t)
{
	static const struct {
		uint16_t num;
		uint64_t split, packed; /* of one ring */
	} sizes[] = {{1, 64, 64}, {2, 64, 128}, {3, 64, 128}, {256, 4160, 8256}, {255, 4096, 8192},
		{32768, 524352, 1048640}};
	const bool packed = t->view.packed;

	for (unsigned i = 0; i < TS_ARRAY_SIZE(sizes); i++) {
		uint64_t part = packed ? sizes[i].packed : sizes[i].split;
		struct virtq_inflight *r;

		assert_int_equal(virtq_inflight_size(1, sizes[i].num, packed), part);
		assert_int_equal(virtq_inflight_size(256, sizes[i].num, packed), 256 * part);
		r = region_new(3, sizes[i].num);
		assert_ptr_equal(virtq_inflight_ring(r, 2, sizes[i].num, packed),
			(uint8_t *)virtq_inflight_ring(r, 0, sizes[i].num, packed) + 2 * part);
		assert_null(virtq_inflight_ring(r, 3, sizes[i].num, packed));
		assert_null(virtq_inflight_ring(r, 0, (uint16_t)(sizes[i].num + 1), packed));
		virtq_inflight_put(r);
	}
	assert_null(virtq_inflight_ring(NULL, 0, 1, packed));
}

static void refused(int fd, uint64_t size, uint64_t offset, bool packed, const char *text)
{
	struct virtq_inflight *region = NULL;
	char why[160] = "";

	assert_int_equal(
		virtq_inflight_map(fd, size, offset, 4, 256, packed, &region, why, sizeof(why)),
		-EINVAL);
	if (!strstr(why, text))
		fail_msg("\"%s\" does not say \"%s\"", why, text);
	assert_null(region);
}

static void regions(struct vq *t)
{
	const bool packed = t->view.packed;
	const uint64_t size = virtq_inflight_size(4, 256, packed);
	int fd = virtq_inflight_create(size), null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct virtq_inflight *region = NULL;
	char why[160] = "";

	assert_int_equal(lseek(fd, 0, SEEK_END), size);
	/* The front-end cannot take its end away from under us. */
	assert_int_equal(ftruncate(fd, (off_t)size - 1), -1);
	assert_int_equal(errno, EPERM);
	refused(fd, size - 1, 0, packed, "bytes");
	refused(fd, 0, 0, packed, "0 bytes");
	refused(fd, size + 1, 0, packed, "its file holds");
	refused(fd, size, 8, packed, "its file holds");
	refused(fd, size, 4, packed, "not a multiple of 8");
	refused(fd, UINT64_MAX - 7, 0, packed, "wrap around");
	refused(fd, size, UINT64_MAX - 7, packed, "wrap around");
	refused(null, size, 0, packed, "not a memory file");
	assert_int_equal(
		virtq_inflight_map(fd, size, 0, 4, 256, packed, &region, why, sizeof(why)), 0);
	/* Large enough for a split ring is not so for a packed one. */
	assert_true((virtq_inflight_ring(region, 3, 256, true) != NULL) == packed);
	virtq_inflight_get(region);
	virtq_inflight_put(region);
	((uint8_t *)virtq_inflight_ring(region, 3, 256, packed))[4111] = 1;
	virtq_inflight_put(region);
	virtq_inflight_put(NULL);
	assert_int_equal(ts_count_maps("sluice-inflight"), 0);
	close(fd);
	close(null);
}

/* ---- what is recorded ---- */

static uint16_t word(const struct vq *t, unsigned at)
{
	uint16_t v;

	memcpy(&v, (uint8_t *)t->view.inflight_ring + at, sizeof(v));
	return v;
}

static uint8_t byte(const struct vq *t, unsigned at)
{
	return ((uint8_t *)t->view.inflight_ring)[at];
}

/* At rest both positions are where the driver is. */
static void recorded(struct vq *t)
{
	struct virtq_inflight *region = begin(t, 16, 3);
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;

	for (unsigned round = 0; round < 100; round++) {
		const uint16_t pos = vq_shown(t);

		assert_int_equal(word(t, VERSION), 1);
		if (t->view.packed) {
			assert_int_equal(word(t, PACKED_USED), pos & 0x7fff);
			assert_int_equal(word(t, PACKED_OLD), pos & 0x7fff);
			assert_int_equal(byte(t, PACKED_USED_WRAP), pos >> 15);
			assert_int_equal(byte(t, PACKED_OLD_WRAP), pos >> 15);
		} else {
			assert_int_equal(word(t, SPLIT_USED), pos);
		}
		post_some(t, ts_rand_below(&t->rng, 18), &posted);
		if (round % 7 == 6)
			virtq_discard(t->q, &t->view, UINT32_MAX);
		else
			give_all(t, chain, take_some(t, chain, VIRTQ_BURST));
		reap_all(t, &reaped);
	}
	assert_int_equal(reaped, posted);
	virtq_inflight_put(region);
}

/* ---- death between two bursts, or in the middle of one ---- */

static void crash_one_size(struct vq *t, uint32_t size)
{
	struct virtq_inflight *region = begin(t, size, (uint16_t)(65536 - size - 3));
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;

	for (unsigned round = 0; round < 300 || reaped < 2 * size; round++) {
		uint16_t n;

		post_some(t, ts_rand_below(&t->rng, 3 * VIRTQ_BURST), &posted);
		n = take_some(t, chain, (uint16_t)(1 + ts_rand_below(&t->rng, VIRTQ_BURST)));
		if (ts_rand_below(&t->rng, 3) == 0)
			crash(t); /* with chains in its hands */
		else
			give_all(t, chain, n);
		if (ts_rand_below(&t->rng, 3) == 0)
			crash(t);
		if (ts_rand_below(&t->rng, 2) == 0)
			reap_all(t, &reaped);
	}
	while (reaped < posted) {
		give_all(t, chain, take_some(t, chain, VIRTQ_BURST));
		reap_all(t, &reaped);
	}
	virtq_inflight_put(region);
}

static void trap_5_13_crash(struct vq *t)
{
	for (const uint32_t *size = t->c.format->sizes; *size; size++)
		crash_one_size(t, *size);
}

/* ---- death at any instruction ---- */

static _Noreturn void victim(struct vq *t, const struct virtq_chain *chain, uint16_t n)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	give_all(t, chain, n);
	raise(SIGSTOP);
	_exit(0);
}

/* Let it execute so many instructions, then kill it. Returns how many it executed before its end. */
static unsigned kill_after(
	struct vq *t, const struct virtq_chain *chain, uint16_t n, unsigned steps)
{
	int status;
	unsigned done = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		victim(t, chain, n);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	while (done < steps) {
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0)
			break;
		waitpid(pid, &status, 0);
		if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
			break;
		done++;
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return done;
}

/* From one place to the next, so that all of them together take no more than some seconds. */
static unsigned few(unsigned all)
{
	return 1 + (unsigned)((uint64_t)all * all / 100000);
}

/* A burst of several chains is cut off at one place after another (at every instruction unless a
 * sanitizer makes thousands of them), and each time the next process goes on. */
static void trap_5_13_killed_at_any_instruction(struct vq *t)
{
	struct virtq_inflight *region = begin(t, 8, 65530);
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;
	unsigned all = UINT32_MAX, step = 1, before = 0, after = 0;

	for (unsigned at = 0; all == UINT32_MAX || at <= all; at += all == UINT32_MAX ? 0 : step) {
		const uint16_t shown = vq_shown(t);
		uint16_t n;
		unsigned done;

		post_some(t, 1 + at % 4, &posted);
		n = take_some(t, chain, VIRTQ_BURST);
		assert_true(n > 0);
		done = kill_after(t, chain, n, all == UINT32_MAX ? 1000000 : at);
		if (all == UINT32_MAX) {
			all = done;
			step = few(all);
		}
		if (vq_shown(t) == shown)
			before++;
		else
			after++;
		crash(t);
		give_all(t, chain, take_some(t, chain, VIRTQ_BURST));
		reap_all(t, &reaped);
		assert_int_equal(reaped, posted);
	}
	assert_true(all > 20 && before > 0 && after > 0);
	virtq_inflight_put(region);
}

/* The batch was as long as the ring: both indexes are the same then. */
static void a_batch_of_the_whole_ring(struct vq *t)
{
	for (uint32_t size = t->view.packed ? 1 : 2; size <= 64; size *= 2) {
		struct virtq_inflight *region = begin(t, size, 0);
		struct virtq_chain chain[VIRTQ_BURST];
		uint64_t posted = 0, reaped = 0;

		for (unsigned at = 0; at < 120; at += 7) {
			uint16_t n;

			assert_int_equal(post_some(t, size, &posted), size);
			n = take_some(t, chain, VIRTQ_BURST);
			assert_int_equal(n, size);
			kill_after(t, chain, n, at * size / 4);
			crash(t);
			give_all(t, chain, take_some(t, chain, VIRTQ_BURST));
			reap_all(t, &reaped);
			assert_int_equal(reaped, posted);
		}
		virtq_inflight_put(region);
	}
}

/* ---- what others leave ---- */

/* A back-end that completes out of order marks what it takes. */
static void mark(struct vq *t, const struct virtq_chain *chain, uint64_t counter)
{
	struct virtq_inflight_split *split = t->view.inflight_ring;
	struct virtq_inflight_packed *packed = t->view.inflight_ring;
	uint16_t e;

	if (!t->view.packed) {
		split->desc[chain->id].inflight = 1;
		split->desc[chain->id].counter = counter;
		return;
	}
	e = packed->free_head;
	packed->desc[e].inflight = 1;
	packed->desc[e].num = chain->ndesc;
	packed->desc[e].last = e;
	packed->desc[e].id = chain->id;
	packed->desc[e].counter = counter;
	packed->free_head = packed->old_free_head = packed->desc[e].next;
}

static void unmark(struct vq *t, const struct virtq_chain *chain)
{
	struct virtq_inflight_split *split = t->view.inflight_ring;
	struct virtq_inflight_packed *packed = t->view.inflight_ring;

	if (!t->view.packed) {
		split->desc[chain->id].inflight = 0;
		return;
	}
	for (uint16_t i = 0; i < t->view.num; i++) {
		if (!packed->desc[i].inflight || packed->desc[i].id != chain->id)
			continue;
		packed->desc[i].inflight = 0;
		packed->desc[i].next = packed->free_head;
		packed->free_head = packed->old_free_head = i;
	}
}

static void reap_set(struct vq *t, bool *seen, unsigned n, unsigned *got)
{
	void *token;

	while ((token = ts_ring_get_used(t->ring, NULL))) {
		uintptr_t i = (uintptr_t)token - 1;

		assert_true(i < n && !seen[i]);
		seen[i] = true;
		++*got;
	}
	vq_assert_polite(t);
}

/* Died with some of its chains given back and others not: those come back, once. */
static void out_of_order(struct vq *t)
{
	for (unsigned round = 0; round < 50; round++) {
		struct virtq_inflight *region = begin(t, 32, (uint16_t)(65500 + round));
		struct virtq_chain chain[VIRTQ_BURST];
		bool seen[32] = {false};
		uint64_t posted = 0;
		unsigned got = 0;
		uint16_t n;

		post_some(t, 32, &posted);
		n = take_some(t, chain, 16);
		for (uint16_t i = 0; i < n; i++)
			mark(t, &chain[i], i);
		for (uint16_t i = n; i-- > 0;)
			if (i == n - 1 || ts_rand_below(&t->rng, 2)) {
				give_all(t, &chain[i], 1);
				unmark(t, &chain[i]);
			}
		memset(t->q, 0xee, sizeof(*t->q));
		virtq_start(t->q, &t->view, 0);
		reap_set(t, seen, 32, &got);
		assert_int_equal(got, n); /* all that were taken, none that was not */
		give_all(t, chain, take_some(t, chain, VIRTQ_BURST));
		reap_set(t, seen, 32, &got);
		assert_int_equal(got, 32);
		for (uint16_t i = 0; i < 32; i++)
			assert_true(seen[i]);
		/* And it is over: nothing comes twice after another death. */
		crash(t);
		assert_int_equal(take_some(t, chain, VIRTQ_BURST), 0);
		virtq_inflight_put(region);
	}
}

/* The same, killed while handing back. */
static void killed_while_handing_back(struct vq *t)
{
	unsigned all = 100000;

	for (unsigned at = 0; at <= all; at += few(all)) {
		struct virtq_inflight *region = begin(t, 8, (uint16_t)at);
		struct virtq_chain chain[VIRTQ_BURST];
		bool seen[8] = {false};
		uint64_t posted = 0;
		unsigned got = 0, done = 0;
		int status;
		pid_t pid;

		post_some(t, 8, &posted);
		assert_int_equal(take_some(t, chain, 5), 5);
		for (uint16_t i = 0; i < 5; i++)
			mark(t, &chain[i], i);
		give_all(t, &chain[3], 1);
		unmark(t, &chain[3]);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			ptrace(PTRACE_TRACEME, 0, NULL, NULL);
			raise(SIGSTOP);
			virtq_start(t->q, &t->view, 0);
			raise(SIGSTOP);
			_exit(0);
		}
		waitpid(pid, &status, 0);
		for (; done < (at == 0 ? 1000000 : at); done++) {
			ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL);
			waitpid(pid, &status, 0);
			if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
				break;
		}
		all = at == 0 ? done : all;
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		memset(t->q, 0xee, sizeof(*t->q));
		virtq_start(t->q, &t->view, 0);
		give_all(t, chain, take_some(t, chain, VIRTQ_BURST));
		reap_set(t, seen, 8, &got);
		assert_int_equal(got, 8);
		virtq_inflight_put(region);
	}
}

/* Split: marked, but as we would take them anyway: they are taken, nothing is lost. */
static void in_order_is_taken_again(struct vq *t)
{
	struct virtq_inflight *region = begin(t, 32, 65520);
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0;

	post_some(t, 20, &posted);
	assert_int_equal(take_some(t, chain, 9), 9);
	for (uint16_t i = 0; i < 9; i++)
		mark(t, &chain[i], i);
	crash(t);
	assert_int_equal(take_some(t, chain, VIRTQ_BURST), 20);
	for (uint16_t i = 0; i < 32; i++)
		assert_int_equal(
			((struct virtq_inflight_split *)t->view.inflight_ring)->desc[i].inflight,
			0);
	virtq_inflight_put(region);
}

/* Split: published, but still marked: the batch list says which. */
static void an_unfinished_batch(struct vq *t)
{
	struct virtq_inflight *region = begin(t, 32, 65520);
	struct virtq_inflight_split *part = t->view.inflight_ring;
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;

	post_some(t, 20, &posted);
	assert_int_equal(take_some(t, chain, 9), 9);
	for (uint16_t i = 0; i < 9; i++)
		mark(t, &chain[i], i);
	for (uint16_t i = 0; i < 4; i++) {
		part->desc[chain[i].id].next = part->last_batch_head;
		part->last_batch_head = chain[i].id;
	}
	t->view.inflight_ring = NULL; /* used_idx stays behind */
	give_all(t, chain, 4);
	t->view.inflight_ring = part;
	crash(t);
	assert_int_equal(take_some(t, chain, VIRTQ_BURST), 16);
	give_all(t, chain, 16);
	reap_all(t, &reaped);
	assert_int_equal(reaped, 20);
	virtq_inflight_put(region);
}

/* Stopped in order: the next start says where, as for a driver that was reset. */
static void stopped(struct vq *t)
{
	struct virtq_inflight *region = begin(t, 32, 7);
	struct virtq_chain chain[VIRTQ_BURST];
	uint64_t posted = 0, reaped = 0;

	post_some(t, 20, &posted);
	give_all(t, chain, take_some(t, chain, VIRTQ_BURST));
	reap_all(t, &reaped);
	virtq_inflight_stop(t->view.inflight_ring, t->view.packed);
	virtq_inflight_stop(NULL, t->view.packed);
	assert_int_equal(word(t, VERSION), 0);
	ts_ring_reset(t->ring, vq_base(t, vq_pos(t, 3), vq_pos(t, 3)));
	virtq_start(t->q, &t->view, vq_base(t, vq_pos(t, 3), vq_pos(t, 3)));
	assert_int_equal(t->q->avail, vq_pos(t, 3));
	assert_int_equal(t->q->used, vq_pos(t, 3));
	assert_int_equal(word(t, VERSION), 1);
	crash(t);
	posted = reaped = 0;
	post_some(t, 32, &posted);
	give_all(t, chain, take_some(t, chain, VIRTQ_BURST));
	reap_all(t, &reaped);
	assert_int_equal(reaped, 32);
	virtq_inflight_put(region);
}

/* ---- any bytes at all ---- */

static void noise(struct vq *t, uint64_t len)
{
	uint8_t *bytes = t->view.inflight_ring;
	const unsigned kind = ts_rand_below(&t->rng, 4);

	for (uint64_t i = 0; i < len; i++)
		bytes[i] = kind == 0   ? (uint8_t)ts_rand(&t->rng)
			   : kind == 1 ? (uint8_t)ts_rand_below(&t->rng, 3)
			   : kind == 2 ? 0xff
				       : (uint8_t)(ts_rand_below(&t->rng, 9) == 0);
	bytes[VERSION] = 1;
	bytes[VERSION + 1] = 0;
}

/* We come to no harm, whatever becomes of this guest's ring. */
static void hostile_bytes(struct vq *t)
{
	for (const uint32_t *size = t->c.format->sizes; *size && *size <= 1024; size++) {
		struct virtq_inflight *region = region_new(1, (uint16_t)*size);
		const uint64_t len = virtq_inflight_size(1, (uint16_t)*size, t->view.packed);

		for (unsigned round = 0; round < 200; round++) {
			struct virtq_chain chain[VIRTQ_BURST];
			uint64_t posted = 0;

			vq_new_ring(t, *size, (uint16_t)ts_rand(&t->rng));
			t->view.inflight_ring =
				virtq_inflight_ring(region, 0, (uint16_t)*size, t->view.packed);
			post_some(t, ts_rand_below(&t->rng, 2 * *size), &posted);
			noise(t, len);
			virtq_start(t->q, &t->view, vq_base(t, vq_pos(t, 5), vq_pos(t, 5)));
			for (unsigned i = 0; i < 3; i++) {
				if (t->view.packed)
					assert_true((t->q->used & 0x7fff) < *size &&
						    (t->q->avail & 0x7fff) < *size);
				noise(t, len);
				give_all(t, chain, take_some(t, chain, VIRTQ_BURST));
				if (t->q->fault)
					break;
			}
		}
		virtq_inflight_put(region);
	}
}

static const struct vq_test tests[] = {
	{"layout", layout, 256, 0, VQ_OVER_FORMAT},
	{"regions", regions, 256, 0, VQ_OVER_FORMAT},
	{"recorded", recorded, 256, 0, VQ_OVER_LAYOUT},
	{"trap_5_13_crash", trap_5_13_crash, 256, 0, VQ_OVER_LAYOUT},
	{"trap_5_13_killed_at_any_instruction", trap_5_13_killed_at_any_instruction, 256, 0,
		VQ_OVER_LAYOUT},
	{"a_batch_of_the_whole_ring", a_batch_of_the_whole_ring, 256, 0, VQ_OVER_FORMAT},
	{"out_of_order", out_of_order, 256, 0, VQ_OVER_LAYOUT},
	{"killed_while_handing_back", killed_while_handing_back, 256, 0, VQ_OVER_FORMAT},
	{"in_order_is_taken_again", in_order_is_taken_again, 256, 0, VQ_OVER_FORMAT | VQ_SPLIT},
	{"an_unfinished_batch", an_unfinished_batch, 256, 0, VQ_OVER_FORMAT | VQ_SPLIT},
	{"stopped", stopped, 256, 0, VQ_OVER_LAYOUT},
	{"hostile_bytes", hostile_bytes, 256, 0, VQ_OVER_FORMAT},
};

int main(int argc, char **argv)
{
	return vq_main(tests, TS_ARRAY_SIZE(tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Fuzz target: a device's own record of its rings, of any content and length, found at a start and while it is used. */

/*
 * An input is a byte of settings and a list of actions, see enum action. A front-end and a driver that
 * behave move frames, of which some are lent; the process dies, also in the midst of a burst, and another
 * finds the file. Between and during all this the file is written to, cut, or made something else, and the
 * guest writes to its rings.
 *
 * As long as nobody has meddled, everything the driver made available must come back once. Whatever became of
 * the file: a start says at most one line about it, the front-end is served, the next one that behaves moves
 * frames over rings of its own, and nothing is left.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz_device.h"
#include "ts_frontend.h"
#include "virtq_inflight.h"
#include "virtq_lend.h"
#include "virtq_packed.h"
#include "virtq_split.h"

enum setting {
	PACKED = 1 << 0,
	LENDS = 1 << 1, /* the transmit ring's buffers */
};

enum action {
	OFFER,     /* how many frames and buffers */
	POLL,      /* what is lent and comes home */
	DIE,       /* enum death, and with IN_BURST after how many chains given back */
	COME_BACK, /* the front-end; enum base */
	STOP,      /* all rings, in order, and start them again */
	FILL,      /* the file: where, with 0x80 in the midst of a burst, offset, length, bytes */
	CUT,       /* the file, or make it longer: which length, and how much more */
	SUM,       /* checksums of the file are right again */
	GUEST,     /* ring, area, offset, length, bytes: the guest writes there */
	TIME,      /* tens of milliseconds */
	ACTIONS
};

/* What DIE does; the lower two bits are an enum base. */
enum death {
	IN_ORDER = 1 << 2, /* the process is asked to end */
	IN_BURST = 1 << 3, /* it is killed in the midst of one */
	REPLACED = 3 << 4, /* by then something else is there instead of the file: enum instead */
	MEDDLED = 1 << 7,  /* the next actions, up to TIME, happen while nobody is there */
};

enum instead {
	THE_FILE,
	NO_FILE,
	A_LINK,
	OPEN_TO_ALL,
};

/* What the front-end says where rings begin. */
enum base {
	AS_QEMU, /* split: what was used; packed: what it said before */
	AT_FIRST,
	AT_AVAIL,
	AT_USED,
};

/* Of the file: what begins there is documented in vu_state.h. */
#define HEADER 0u
#define ROW    24u /* for each ring */
#define PART   4096u

#define RINGS  2u
#define SIZE   16u
#define FRAMES 32u

static struct event_base *base;
static struct vu_device *dev;
static struct ts_guest *guest;
static struct ts_fe fe;
static struct virtq_lender lender;
static struct ts_rng lend; /* state 0: nothing is lent */
static char path[64], other[64];
static bool meddled, dying;
static unsigned warnings, give_at_most;
static struct {
	off_t at;
	uint8_t len, bytes[255];
} write_later; /* in the midst of the next burst that publishes */
static uint64_t format;

static void write_file(off_t at, const uint8_t *bytes, uint8_t len)
{
	int fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return;
	meddled |= len > 0;
	if (pwrite(fd, bytes, len, at) < 0)
		perror("write");
	close(fd);
}

/* ---- the data path of a ring that lends ---- */

/* Each chain that is given back, or would be were the process still there. */
static bool still_there(void)
{
	if (give_at_most == 0)
		dying = true;
	else
		give_at_most--;
	return !dying;
}

static bool homes(
	struct virtq *vq, const struct virtq_view *v, const struct virtq_ops *ops, bool all)
{
	struct virtq_window *w = &v->lender->window;
	bool gave = false;

	for (uint32_t i = w->head; i != w->tail && still_there(); i++)
		if (virtq_window_at(w, i)->out > 0 && (all || ts_rand_below(&lend, 4) == 0))
			gave |= virtq_window_home(vq, v, w, i, ops);
	if (dying)
		return false;
	gave |= virtq_window_give(vq, v, w, ops);
	if (!gave && !all && ts_rand_below(&lend, 4) == 0)
		gave = virtq_window_overtake(vq, v, w, ops);
	return gave;
}

static void give_or_keep(struct virtq *vq, const struct virtq_view *v,
	const struct virtq_chain *chain, uint16_t n, bool gave, const struct virtq_ops *ops)
{
	const uint64_t lent = lend.state ? ts_rand(&lend) : 0;
	const bool publishes = gave || (~lent & ((1ull << n) - 1)) != 0;
	struct virtq_window *w = &v->lender->window;

	for (uint16_t i = 0; i < n && still_there(); i++) {
		if ((lent >> i & 1) || virtq_window_waits(w, w->tail)) {
			virtq_window_add(v, w, &chain[i], lent >> i & 1, publishes);
		} else {
			ops->give(vq, v, &chain[i], 0);
			gave = true;
		}
	}
	if (dying)
		return;
	if (gave && write_later.len > 0)
		write_file(write_later.at, write_later.bytes, write_later.len);
	if (gave) {
		write_later.len = 0;
		ops->publish(vq, v);
	}
	virtq_track_taken(vq, v);
}

static uint16_t burst_that_lends(
	struct virtq *vq, const struct virtq_view *v, void **pkts, uint16_t max)
{
	const struct virtq_ops *ops = v->packed ? &virtq_packed_ops : &virtq_split_ops;
	struct virtq_chain chain[32];
	struct virtq_segs segs;
	uint16_t n = 0, ready = 0;
	bool gave;

	(void)pkts, (void)max;
	if (vq->fault || dying)
		return 0;
	gave = homes(vq, v, ops, !lend.state);
	if (!virtq_window_full(&v->lender->window))
		ready = ops->ready(vq, v, 32);
	virtq_segs_begin(&segs);
	while (n < ready && ops->take(vq, v, VIRTQ_FROM_GUEST, &segs, &chain[n]))
		n++;
	if (!dying)
		give_or_keep(vq, v, chain, n, gave, ops);
	return n;
}

/* The ring stops: all is home at once, or nobody is there who could say so. */
static uint32_t settle(struct virtq_lender *l, struct virtq *vq, const struct virtq_view *v)
{
	const struct virtq_ops *ops = v->packed ? &virtq_packed_ops : &virtq_split_ops;

	give_at_most = UINT32_MAX;
	if (!dying && homes(vq, v, ops, true))
		ops->publish(vq, v);
	(void)l;
	return 0;
}

static bool reap_nothing(struct virtq_lender *l, bool stopped)
{
	(void)l, (void)stopped;
	return false;
}

static void on_prepare(void *arg, unsigned ring, struct virtq_view *view)
{
	fuzz_prepare_view(arg, ring, view);
	if (!arg || !(ring & 1))
		return;
	virtq_window_resize(&lender.window, view->num);
	view->lender = &lender;
	view->burst = burst_that_lends;
}

/* ---- the process ---- */

static void on_log(void *arg, enum vu_log_level level, const char *line)
{
	(void)arg;
	PROMISE(strlen(line) < 400);
	warnings += level <= VU_LOG_WARNING;
}

static void begin_process(bool lends)
{
	static const struct vu_device_ops ops = {.prepare = on_prepare, .log = on_log};
	const struct vu_device_conf conf = {.path = "/nobody/listens/here",
		.queue_pairs = 1,
		.features = vu_default_features(),
		.state_path = path,
		.ops = &ops,
		.arg = lends ? &lender : NULL};
	char why[200];

	lender.window = (struct virtq_window){.chain = lender.window.chain};
	lend.state = 0;
	dying = false;
	give_at_most = UINT32_MAX;
	warnings = 0;
	PROMISE(vu_device_create(base, &conf, &dev, why, sizeof(why)) == 0);
	PROMISE(warnings <= 1);
}

/* What a process that was killed leaves: a file that is out of reach cannot be removed. */
static void end_process(bool in_order)
{
	if (in_order) {
		vu_device_leave(dev);
	} else {
		dying = true;
		rename(path, other);
	}
	vu_device_destroy(dev);
	dev = NULL;
	if (!in_order)
		rename(other, path);
}

/* ---- the front-end ---- */

static void well(int rc)
{
	if (rc == 0)
		return;
	fprintf(stderr, "the front-end: %s\n", fe.why);
	abort();
}

static void pump(void *arg)
{
	fuzz_run(arg);
}

static void say_base(enum base kind)
{
	const bool packed = format;

	if (!fe.rings[0].ring)
		return;
	for (unsigned i = 0; i < RINGS; i++) {
		const struct ts_ring *r = fe.rings[i].ring;

		if (kind == AT_FIRST)
			fe.rings[i].base = TS_FRESH;
		else if (kind == AT_AVAIL)
			fe.rings[i].base = ts_ring_avail_pos(r);
		else if (kind == AT_USED || !packed)
			fe.rings[i].base = ts_ring_used_pos(r);
	}
	meddled |= kind != AS_QEMU;
}

static void connect_front_end(enum base kind)
{
	int peer;

	well(ts_fe_pair(&fe, &peer));
	PROMISE(vu_device_attach(dev, peer) == 0);
	well(ts_fe_negotiate(&fe));
	if (!fe.rings[0].ring)
		well(ts_fe_make_rings(&fe, 0, SIZE, TS_RING_SHUFFLE));
	say_base(kind);
	well(ts_fe_start(&fe));
	well(ts_fe_barrier(&fe));
}

static void leave(void)
{
	ts_fe_disconnect(&fe);
	fuzz_gone(base, dev, -1);
}

/* ---- the driver ---- */

static void offer(unsigned n)
{
	const struct ts_seg frame[] = {{0x110000, 12}, {0x111000, 64}}, buffer = {0x112000, 1526};
	struct ts_ring *rx = fe.rings[0].ring, *tx = fe.rings[1].ring;

	for (unsigned i = 0; i < n; i++) {
		ts_ring_add(tx, frame, 1 + i % 2, NULL, 0, tx, i % 3 ? TS_DIRECT : TS_INDIRECT);
		ts_ring_add(rx, NULL, 0, &buffer, 1, rx, TS_DIRECT);
	}
	ts_ring_publish(tx);
	ts_ring_publish(rx);
}

static void reap(void)
{
	for (unsigned i = 0; i < RINGS && !meddled; i++) {
		struct ts_ring *r = fe.rings[i].ring;

		while (ts_ring_get_used(r, NULL))
			;
		if (r->faults.count > 0)
			fprintf(stderr, "ring %u: %s\n", i, r->faults.first);
		PROMISE(r->faults.count == 0 && !r->broken);
	}
}

/* Nobody has meddled: what was made available comes back. */
static void settle_accounts(void)
{
	if (meddled)
		return;
	lend.state = 0;
	fuzz_poll(dev, RINGS / 2);
	fuzz_poll(dev, RINGS / 2);
	reap();
	for (unsigned i = 0; i < RINGS; i++)
		PROMISE(fe.rings[i].ring->n_out == 0);
}

/* ---- actions ---- */

static uint64_t part_at(unsigned ring)
{
	const uint64_t part = virtq_inflight_size(1, VIRTQ_NUM_MAX, true);

	return PART + ring * ((part + 4095) & ~4095ull);
}

static void act_fill(struct fuzz_input *in)
{
	const uint64_t places[] = {
		HEADER, ROW, ROW + 56, part_at(0), part_at(1), part_at(1), part_at(2)};
	const uint8_t where = fuzz_u8(in);
	uint64_t at = places[(where & 0x7f) % (sizeof(places) / sizeof(places[0]))];
	uint8_t bytes[255], len;

	at += fuzz_u16(in) % 1024;
	len = fuzz_u8(in);
	fuzz_bytes(in, bytes, len);
	if (!(where & 0x80)) {
		write_file((off_t)at, bytes, len);
		return;
	}
	meddled |= len > 0;
	write_later.at = (off_t)at;
	write_later.len = len;
	memcpy(write_later.bytes, bytes, len);
}

static void act_cut(struct fuzz_input *in)
{
	const uint64_t sizes[] = {
		0, ROW, ROW + 56, PART, part_at(1), part_at(1) + 4096, part_at(2)};
	uint64_t size = sizes[fuzz_u8(in) % (sizeof(sizes) / sizeof(sizes[0]))];
	struct stat st;

	size += fuzz_u16(in) % 8192;
	if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	meddled = true;
	if (truncate(path, (off_t)size) < 0)
		perror("cut");
}

static uint32_t sum_of(const uint8_t *at, size_t size)
{
	uint32_t sum = 2166136261u;

	for (size_t i = 0; i < size; i++)
		sum = (sum ^ at[i]) * 16777619u;
	return sum;
}

/* The header's, and those of the rows. */
static void act_sum(void)
{
	static const struct {
		size_t at, len;
	} summed[] = {{HEADER, 20}, {ROW, 52}, {ROW + 56, 52}};
	int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	uint8_t page[256];

	if (fd < 0)
		return;
	for (unsigned i = 0; i < 3; i++) {
		uint32_t sum;

		if (pread(fd, page, summed[i].len, (off_t)summed[i].at) != (ssize_t)summed[i].len)
			break;
		sum = sum_of(page, summed[i].len);
		if (pwrite(fd, &sum, 4, (off_t)(summed[i].at + summed[i].len)) != 4)
			break;
	}
	close(fd);
}

static void act_guest(struct fuzz_input *in)
{
	const uint8_t where = fuzz_u8(in);
	const struct ts_ring *r = fe.rings[where & 1].ring;
	const uint64_t areas[] = {r->desc_gpa, r->driver_gpa, r->device_gpa};
	uint64_t at = areas[where / 2 % 3] + fuzz_u16(in) % (16 * SIZE);
	uint8_t bytes[255], len = fuzz_u8(in);

	fuzz_bytes(in, bytes, len);
	meddled |= len > 0;
	ts_guest_write(guest, at, bytes, len);
}

static void replace(enum instead what)
{
	meddled |= what != THE_FILE;
	if (what == NO_FILE || what == A_LINK)
		unlink(path);
	if (what == A_LINK && symlink(other, path) < 0)
		perror("link");
	if (what == OPEN_TO_ALL)
		chmod(path, 0666);
}

static void act_file(struct fuzz_input *in, enum action what)
{
	if (what == FILL)
		act_fill(in);
	else if (what == CUT)
		act_cut(in);
	else if (what == SUM)
		act_sum();
	else if (what == GUEST)
		act_guest(in);
}

static void act_die(struct fuzz_input *in, bool lends)
{
	const uint8_t how = fuzz_u8(in);
	enum action what = FILL;

	if (how & IN_BURST) {
		give_at_most = fuzz_u8(in) % FRAMES;
		lend.state = give_at_most + 1;
		virtq_burst(vu_device_ring(dev, 1), NULL, VIRTQ_BURST);
	}
	end_process((how & IN_ORDER) && !dying);
	/* Of it the front-end only notices that it is gone. */
	ts_fe_disconnect(&fe);
	replace((enum instead)((how & REPLACED) >> 4));
	while ((how & MEDDLED) && in->left > 0 && what != TIME) {
		what = (enum action)(fuzz_u8(in) % ACTIONS);
		act_file(in, what);
	}
	begin_process(lends);
	connect_front_end((enum base)(how & 3));
	reap();
}

static void act(struct fuzz_input *in, bool lends)
{
	const enum action what = (enum action)(fuzz_u8(in) % ACTIONS);

	switch (what) {
	case OFFER:
		offer(fuzz_u8(in) % FRAMES);
		break;
	case POLL:
		lend.state = fuzz_u8(in);
		fuzz_poll(dev, RINGS / 2);
		reap();
		break;
	case DIE:
		act_die(in, lends);
		break;
	case COME_BACK:
		leave();
		connect_front_end((enum base)(fuzz_u8(in) & 3));
		break;
	case STOP:
		well(ts_fe_stop(&fe));
		well(ts_fe_start(&fe));
		well(ts_fe_barrier(&fe));
		break;
	case TIME:
		fuzz_time_passes(10 * (1u + fuzz_u8(in)));
		fuzz_run(base);
		break;
	default:
		act_file(in, what);
		break;
	}
}

static void prepare(void)
{
	static const struct ts_region_conf memory = {.gpa = 0x100000, .size = 0x40000};

	snprintf(path, sizeof(path), "/dev/shm/sluice-fuzz-%d.state", getpid());
	snprintf(other, sizeof(other), "/dev/shm/sluice-fuzz-%d.other", getpid());
	fuzz_begin();
	base = event_base_new();
	guest = ts_guest_new();
	PROMISE(base && guest && ts_guest_add(guest, &memory) == 0);
	lender.window.chain = calloc(VIRTQ_WINDOW, sizeof(*lender.window.chain));
	PROMISE(lender.window.chain);
	lender.settle = lender.abandon = settle;
	lender.reap = reap_nothing;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	uint8_t settings;
	struct stat st;
	int fd_before;

	if (!base)
		prepare();
	settings = fuzz_u8(&in);
	format = settings & PACKED ? TS_BIT(VIRTIO_F_RING_PACKED) : 0;
	fd_before = fuzz_lowest_fd();
	meddled = false;
	write_later.len = 0;
	ts_guest_forget(guest);
	ts_fe_init(&fe, &ts_qemu_10, guest);
	fe.timeout_ms = 0;
	fe.pump = pump;
	fe.pump_arg = base;
	fe.want |= format;
	begin_process(settings & LENDS);
	connect_front_end(AS_QEMU);
	for (unsigned n = 0; in.left > 0 && n < FUZZ_ACTIONS; n++)
		act(&in, settings & LENDS);
	settle_accounts();
	leave();
	ts_fe_free(&fe);
	lend.state = 0;
	fuzz_polite(base, dev, format);
	vu_device_destroy(dev);
	dev = NULL;
	/* A file of its own goes with it; another's is left alone. */
	PROMISE(meddled || lstat(path, &st) < 0);
	unlink(path);
	PROMISE(fuzz_lowest_fd() == fd_before);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Handing over: the side of the newer process. */
#include "handover.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "commands.h"
#include "ctlsock.h"
#include "fdb.h"
#include "vu_handover.h"

#define STEP_MS  60000
#define DEATH_MS 2000 /* from its sockets' end to its own */
#define CLOSE_S  30   /* for the older one to close its devices */

struct device {
	struct device *next;
	uint32_t id;
	char line[];
};

/* What somebody left who is gone. */
struct kept {
	struct kept *next;
	struct frame f;
};

struct taking {
	struct sluice *sl;
	bool resumes; /* from these: nobody is there to be asked, or to go on */
	struct kept *kept, **kept_last;
	int sock, pidfd; /* of the old one */
	pid_t pid;
	struct device *devices, **last; /* to be added at last */
	char *later;                    /* commands that need them */
	int control;
	struct frame_control control_file;
	struct frame_all all;
	uint64_t since;
	uint64_t lost; /* handover_lost() when the ports had their state */
	bool died;     /* the old one */
	unsigned vm_ports;
	double gap_ms;
	struct event *closed; /* the old one has closed its devices */
	char *why;
	size_t why_len;
};

static int fail(struct taking *t, int err, const char *what)
{
	if (what != t->why)
		snprintf(t->why, t->why_len, "cannot take over: %s", what);
	return err;
}

/* ---- asking ---- */

static int reach(struct taking *t, const char *path)
{
	static const char ask[] =
		"{\"jsonrpc\":\"2.0\",\"method\":\"" CTLSOCK_TAKE_OVER "\",\"id\":1}\n";
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (strlen(path) >= sizeof(addr.sun_path))
		return fail(t, -ENAMETOOLONG, "the path is too long");
	strcpy(addr.sun_path, path);
	t->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (t->sock < 0 || connect(t->sock, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		getsockopt(t->sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
		int err = -errno;

		snprintf(t->why, t->why_len, "cannot take over from %s: %s", path, strerror(-err));
		return err;
	}
	if (peer.uid != geteuid() && peer.uid != 0)
		return fail(t, -EPERM, "another user's program listens there");
	t->pid = peer.pid;
	t->pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	if (t->pidfd < 0)
		return fail(t, -errno, "the other process cannot be watched (pidfd_open)");
	if (send(t->sock, ask, strlen(ask), MSG_NOSIGNAL) != (ssize_t)strlen(ask))
		return fail(t, -EPIPE, "the other process does not listen");
	return 0;
}

/* Its sockets have ended: has it? */
static bool has_died(const struct taking *t)
{
	struct pollfd p = {.fd = t->pidfd, .events = POLLIN};

	return poll(&p, 1, DEATH_MS) == 1;
}

/* 0: there is no other who could go on. */
static int refuse(struct taking *t, const char *what)
{
	if (t->resumes) {
		SL_LOG(WARNING, "begins anew: %s", what);
		return 0;
	}
	frame_send(t->sock, FRAME_ABORT, what, strnlen(what, 250), NULL, 0, 1000);
	return fail(t, -EINVAL, what);
}

static int bad_frame(struct taking *t, int err, const struct frame *f)
{
	if (!err && f->type == FRAME_ABORT)
		return fail(t, -ECANCELED, f->payload);
	if (!err)
		return refuse(t, "the other process has said something else than is due");
	if (err == -EPROTO)
		return fail(
			t, err, "the switch there cannot hand over, or only to another version");
	return fail(t, err, err == -ECONNRESET ? "the other process has hung up" : strerror(-err));
}

/* The next one that came, or comes. */
static int next_frame(struct taking *t, struct frame *f, int ms)
{
	struct kept *k = t->kept;

	if (!t->resumes)
		return frame_recv(t->sock, f, ms);
	if (!k)
		return -ECONNRESET;
	*f = k->f;
	t->kept = k->next;
	free(k);
	return 0;
}

/* ---- the configuration ---- */

static int keep_device(struct taking *t, uint32_t id, const char *line)
{
	struct device *d = malloc(sizeof(*d) + strlen(line) + 1);

	if (!d)
		return refuse(t, "out of memory");
	d->next = NULL;
	d->id = id;
	strcpy(d->line, line);
	*t->last = d;
	t->last = &d->next;
	return 0;
}

static int take_port(struct taking *t, const struct frame *f)
{
	const char *line = f->payload + sizeof(struct frame_port);
	char why[256], all[512];
	struct frame_port port;

	if (f->len < sizeof(port))
		return refuse(t, "a port's frame is too short");
	memcpy(&port, f->payload, sizeof(port));
	if (!port.is_vm)
		return keep_device(t, port.id, line);
	/* Who resumes finds out when it is the port's turn. */
	if ((!t->resumes && vu_handover_check(port.features, port.protocol_features, why,
				    sizeof(why)) != 0) ||
		handover_add(t->sl, port.id, line, why, sizeof(why)) != 0) {
		snprintf(all, sizeof(all), "'%s': %s", line, why);
		return refuse(t, all);
	}
	return 0;
}

static int take_commands(struct taking *t, const struct frame *f, char **later)
{
	return handover_run(t->sl, f->payload, later) < 0
		       ? refuse(t, "there is not enough memory for the configuration")
		       : 0;
}

static void take_addresses(struct taking *t, const struct frame *f, struct fdb_cache *cache)
{
	struct frame_address a;

	for (size_t at = 0; cache && at + sizeof(a) <= f->len; at += sizeof(a)) {
		memcpy(&a, f->payload + at, sizeof(a));
		if (a.port < PORT_MAX)
			fdb_learn(t->sl->fdb, cache, (uint16_t)a.port, &a.key, 1, a.seen);
	}
}

static void keep_origin(struct sluice *sl, const char *text)
{
	free(sl->handover.origin);
	sl->handover.origin = strdup(text);
}

static int take_configuration(struct taking *t)
{
	struct fdb_cache *cache = calloc(1, sizeof(*cache));
	bool more = true;
	int err = 0;

	while (more && !err) {
		struct frame f;

		err = next_frame(t, &f, STEP_MS);
		if (err)
			err = bad_frame(t, err, &f);
		else if (f.type == FRAME_ORIGIN)
			keep_origin(t->sl, f.payload);
		else if (f.type == FRAME_EARLY)
			err = take_commands(t, &f, NULL);
		else if (f.type == FRAME_PORT)
			err = take_port(t, &f);
		else if (f.type == FRAME_COMMANDS)
			err = take_commands(t, &f, &t->later);
		else if (f.type == FRAME_ADDRESSES)
			take_addresses(t, &f, cache);
		else if (f.type == FRAME_PREPARE)
			more = false;
		else
			err = bad_frame(t, 0, &f);
		frame_clear(&f);
	}
	free(cache);
	return err;
}

/* ---- state ---- */

static void take_counters(struct port *port, const char *from, size_t len)
{
	struct virtq_stats st;

	if (len != 2u * port->n_rxq * sizeof(st))
		return; /* of a build that counts other things */
	for (unsigned i = 0; i < port->n_rxq; i++) {
		memcpy(&port->rxq[i].ring_base, from, sizeof(st));
		memcpy(&port->txq[i].ring_base, from + sizeof(st), sizeof(st));
		from += 2 * sizeof(st);
	}
}

static int take_state(struct taking *t, struct frame *f)
{
	const char *at = f->payload + sizeof(struct frame_state);
	struct frame_state head;
	struct vu_record rec;
	struct port *port;
	char why[256];

	if (f->len < sizeof(head))
		return refuse(t, "a port's state is too short");
	memcpy(&head, f->payload, sizeof(head));
	port = port_by_id(t->sl, head.id);
	if (!port || port->kind != PORT_VM || head.counters > f->len - sizeof(head))
		return refuse(t, "a state came that belongs to no port");
	rec = (struct vu_record){.bytes = (uint8_t *)(uintptr_t)at + head.counters,
		.len = f->len - sizeof(head) - head.counters,
		.fds = f->fds,
		.nfds = f->nfds};
	if (vu_device_restore(port->vm.dev, &rec, why, sizeof(why)) != 0)
		return refuse(t, why);
	take_counters(port, at, head.counters);
	return 0;
}

static int take_control(struct taking *t, struct frame *f)
{
	if (f->len != sizeof(t->control_file) || f->nfds != 1)
		return refuse(t, "the control socket is missing");
	memcpy(&t->control_file, f->payload, sizeof(t->control_file));
	t->control = f->fds[0];
	f->fds[0] = -1;
	return 0;
}

/* A send that fails is noticed by the next receive. */
static int be_ready(struct taking *t, const struct frame *f)
{
	if (f->len != sizeof(t->all))
		return refuse(t, "the last of the frames is too short");
	memcpy(&t->all, f->payload, sizeof(t->all));
	t->lost = handover_lost(t->sl);
	if (!t->resumes)
		frame_send(t->sock, FRAME_READY, "", 0, NULL, 0, STEP_MS);
	return 0;
}

/* Ours only if the old one can still learn of it. */
static int say_taken(struct taking *t)
{
	if (t->resumes || frame_send(t->sock, FRAME_TAKEN, "", 0, NULL, 0, STEP_MS) == 0)
		return 0;
	t->died = has_died(t);
	return t->died ? 0 : fail(t, -ETIMEDOUT, "it took too long, and the other process goes on");
}

static int take_all(struct taking *t)
{
	for (;;) {
		struct frame f;
		bool mine = false;
		int err = next_frame(t, &f, -1);

		if (err) {
			t->died = has_died(t);
			return t->died ? 0 : bad_frame(t, err, &f);
		}
		if (f.type == FRAME_STATE)
			err = take_state(t, &f);
		else if (f.type == FRAME_CONTROL)
			err = take_control(t, &f);
		else if (f.type == FRAME_ALL)
			err = be_ready(t, &f);
		else if (f.type == FRAME_COMMIT && (t->all.since || t->resumes))
			mine = true;
		else
			err = bad_frame(t, 0, &f);
		frame_clear(&f);
		if (mine)
			return say_taken(t);
		if (err)
			return err;
	}
}

/* ---- ours ---- */

static void open_gates(struct taking *t)
{
	struct sluice *sl = t->sl;
	struct port *port;

	t->since = t->all.since ? t->all.since : frame_clock();
	sl->handover.dormant = sl->handover.idle = false;
	PORT_FOREACH(sl, port)
	{
		if (port->kind != PORT_VM)
			continue;
		if (vu_device_resume(port->vm.dev) != 0)
			SL_LOG(ERR, "port %s: it has not begun at once", port->name);
		t->vm_ports++;
	}
	if (plan_update(sl) < 0)
		plan_dirty(sl);
	t->gap_ms = (double)(frame_clock() - t->since) / 1e6;
	t->lost = t->all.lost + handover_lost(sl) - t->lost;
}

static unsigned open_devices(struct taking *t)
{
	unsigned n = 0;
	char why[256];

	for (const struct device *d = t->devices; d; d = d->next) {
		if (handover_add(t->sl, d->id, d->line, why, sizeof(why)) == 0) {
			port_tap_persist(port_by_id(t->sl, d->id), false);
			n++;
		} else {
			SL_LOG(ERR, "'%s' was not taken over: %s", d->line, why);
		}
	}
	if (t->later && handover_run(t->sl, t->later, NULL) < 0)
		SL_LOG(ERR,
			"not enough memory for some of the configuration: compare `config show`");
	return n;
}

static void clean(struct taking *t)
{
	struct device *d;
	struct kept *k;

	while ((k = t->kept)) {
		t->kept = k->next;
		frame_clear(&k->f);
		free(k);
	}

	while ((d = t->devices)) {
		t->devices = d->next;
		free(d);
	}
	if (t->closed)
		event_free(t->closed);
	free(t->later);
	if (t->control >= 0)
		close(t->control);
	if (t->pidfd >= 0)
		close(t->pidfd);
	if (t->sock >= 0)
		close(t->sock);
	free(t);
}

static void finish(struct taking *t)
{
	struct handover_status *st = handover_status_edit();
	unsigned devices = open_devices(t);
	double ms = devices ? (double)(frame_clock() - t->since) / 1e6 : 0;
	char away[48] = "", from[48] = "the one before it";

	if (!t->resumes)
		snprintf(from, sizeof(from), "process %d", (int)t->pid);
	if (devices)
		snprintf(away, sizeof(away), " (devices %.1f ms)", ms);
	handover_set(HANDOVER_DONE, t->pid,
		"took over %u VM ports and %u devices from %s%s: %.1f ms without "
		"forwarding%s, %ju packets lost",
		t->vm_ports, devices, from, t->died ? ", which has died" : "", t->gap_ms, away,
		(uintmax_t)t->lost);
	st->vm_ports = t->vm_ports;
	st->devices = devices;
	st->gap_ms = t->gap_ms;
	st->devices_ms = ms;
	st->lost = t->lost;
	clean(t);
}

static void on_closed(int fd, short what, void *arg)
{
	struct taking *t = arg;

	if (what & EV_TIMEOUT)
		SL_LOG(WARNING, "process %d has not closed its devices within %d s", (int)t->pid,
			CLOSE_S);
	finish(t);
}

/* What needs devices has to wait for the old one; the VM ports go on by now. */
static void finish_later(struct taking *t)
{
	static const struct timeval patience = {CLOSE_S, 0};

	handover_set(HANDOVER_RUNNING, t->pid,
		"took over %u VM ports from process %d, which closes its devices", t->vm_ports,
		(int)t->pid);
	t->closed = event_new(t->sl->base, t->sock, EV_READ, on_closed, t);
	if (!t->closed || event_add(t->closed, &patience) < 0)
		finish(t);
}

/* Whatever goes wrong from here on, the guests are ours. */
static void own(struct taking *t, const char *path, struct ctlsock **control)
{
	int err;

	open_gates(t);
	if (t->control >= 0)
		err = ctlsock_adopt(t->sl->base, t->sl->commands, path, t->control,
			&(const struct usock_file){t->control_file.dev, t->control_file.ino},
			control, t->why, t->why_len);
	else
		err = ctlsock_new(t->sl->base, t->sl->commands, path, &t->sl->opt.access, control,
			t->why, t->why_len);
	t->control = -1;
	if (err < 0)
		SL_LOG(ERR, "%s", t->why);
	if ((t->devices || t->later) && !t->resumes)
		finish_later(t);
	else
		finish(t);
}

static struct taking *begin(struct sluice *sl, char *why, size_t why_len)
{
	struct taking *t = calloc(1, sizeof(*t));

	if (t)
		*t = (struct taking){.sl = sl,
			.sock = -1,
			.pidfd = -1,
			.control = -1,
			.last = &t->devices,
			.kept_last = &t->kept,
			.why = why,
			.why_len = why_len};
	return t;
}

int handover_take(
	struct sluice *sl, const char *path, struct ctlsock **control, char *why, size_t why_len)
{
	struct taking *t = begin(sl, why, why_len);
	int err;

	if (!t) {
		snprintf(why, why_len, "out of memory");
		return -ENOMEM;
	}
	sl->handover.dormant = true;
	err = reach(t, path);
	if (!err)
		err = take_configuration(t);
	if (!err) {
		frame_send(t->sock, FRAME_PREPARED, "", 0, NULL, 0, STEP_MS);
		err = take_all(t);
	}
	if (err)
		clean(t);
	else
		own(t, path, control);
	return err;
}

/* ---- the other one has left it, and is gone ---- */

static bool is_control_file(const struct sluice *sl, const struct frame *f)
{
	struct frame_control was;
	struct stat st;

	if (f->len != sizeof(was) || f->nfds != 1 || !sl->opt.control)
		return false;
	memcpy(&was, f->payload, sizeof(was));
	return lstat(sl->opt.control, &st) == 0 && st.st_dev == was.dev && st.st_ino == was.ino;
}

/* NULL: this may come, after one of type @before. */
static const char *odd(const struct sluice *sl, const struct frame *f, uint32_t before)
{
	if (f->type < before || f->type > FRAME_COMMIT || f->type == FRAME_PREPARED ||
		f->type == FRAME_READY ||
		(f->type == FRAME_ALL && f->len != sizeof(struct frame_all)))
		return "it is damaged";
	if (before == 0 && (f->type != FRAME_ORIGIN || !sl->handover.origin ||
				   strcmp(f->payload, sl->handover.origin) != 0))
		return "options or commands are others now";
	if (f->type == FRAME_CONTROL && !is_control_file(sl, f))
		return "it is of an earlier time";
	return NULL;
}

/* All of it, before any of it is used. */
static const char *read_kept(struct taking *t, int from)
{
	bool seen[FRAME_COMMIT + 1] = {false};
	uint32_t before = 0;
	const char *wrong;

	while (before != FRAME_COMMIT) {
		struct kept *k = calloc(1, sizeof(*k));

		if (!k)
			return "out of memory";
		if (frame_recv(from, &k->f, 0) != 0) {
			free(k);
			return "it is damaged";
		}
		*t->kept_last = k;
		t->kept_last = &k->next;
		wrong = odd(t->sl, &k->f, before);
		if (wrong)
			return wrong;
		before = k->f.type;
		seen[before] = true;
	}
	return seen[FRAME_PREPARE] && seen[FRAME_CONTROL] && seen[FRAME_ALL] ? NULL
									     : "it is damaged";
}

int handover_resume(
	struct sluice *sl, int state, struct ctlsock **control, char *why, size_t why_len)
{
	struct taking *t = begin(sl, why, why_len);
	const char *wrong = t ? read_kept(t, state) : "out of memory";
	int err = -EINVAL;

	close(state);
	if (wrong) {
		snprintf(why, why_len, "%s", wrong);
	} else {
		t->resumes = sl->handover.dormant = sl->handover.idle = true;
		err = take_configuration(t);
		if (!err)
			err = take_all(t);
	}
	if (!err)
		own(t, sl->opt.control, control);
	else if (t)
		clean(t);
	return err;
}

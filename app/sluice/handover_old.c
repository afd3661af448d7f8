/* SPDX-License-Identifier: BSD-3-Clause */
/* Handing over: the side of the older process. */
#include "handover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "commands.h"
#include "config_save.h"
#include "ctlsock.h"
#include "fdb.h"
#include "fdstore.h"
#include "vu_handover.h"

#define PREPARE_S 60    /* for the newer one to make itself ready */
#define STEP_MS   10000 /* for each step while nothing is forwarded */
#define ROWS      4096

/* The one take-over there is. */
static struct {
	struct handover_old *old;
	struct bufferevent *bev; /* while the newer one makes itself ready */
	struct evbuffer *out;    /* to it */
	pid_t pid;
	uint64_t lost;
} now;

static pid_t peer_of(int fd)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	return peer.pid;
}

static void failed(const char *why)
{
	handover_set(HANDOVER_FAILED, now.pid, "process %d did not take over: %s; this one goes on",
		(int)now.pid, why);
}

/* ---- while everything goes on: the configuration ---- */

static void say(enum frame_type type, const void *a, size_t a_len, const void *b, size_t b_len)
{
	const struct frame_header h = {
		FRAME_MAGIC, FRAME_VERSION, (uint32_t)type, (uint32_t)(a_len + b_len), 0};

	evbuffer_add(now.out, &h, sizeof(h));
	evbuffer_add(now.out, a, a_len);
	evbuffer_add(now.out, b, b_len);
}

/* What a function writes to a file, as text; NULL without memory. */
static char *text_of(void (*save)(const struct sluice *sl, FILE *f))
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	save(now.old->sl, f);
	fclose(f);
	return text;
}

static bool say_commands(enum frame_type type, char *text)
{
	if (text && strlen(text) < FRAME_MAX)
		say(type, text, strlen(text), "", 0);
	return text && strlen(text) < FRAME_MAX;
}

static bool say_port(const struct port *port)
{
	struct frame_port head = {.id = port->id, .is_vm = port->kind == PORT_VM};
	char *line = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&line, &len);

	if (!f)
		return false;
	port_save_whole(port, f);
	fclose(f);
	if (!line)
		return false;
	line[strcspn(line, "\n")] = '\0';
	if (port->kind == PORT_VM) {
		struct vu_info info;

		vu_device_info(port->vm.dev, &info);
		head.features = info.features_offered;
		head.protocol_features = info.protocol_features_offered;
	}
	say(FRAME_PORT, &head, sizeof(head), line, strlen(line));
	free(line);
	return true;
}

static void say_addresses(void)
{
	struct frame_address *out = calloc(ROWS, sizeof(*out));
	struct fdb_row *rows = calloc(ROWS, sizeof(*rows));
	uint32_t cursor = 0;
	unsigned n, k;

	while (out && rows && (n = fdb_show(now.old->sl->fdb, &cursor, rows, ROWS)) > 0) {
		k = 0;
		for (unsigned i = 0; i < n; i++)
			if (!rows[i].is_static)
				out[k++] = (struct frame_address){
					rows[i].key, rows[i].port, rows[i].seen};
		say(FRAME_ADDRESSES, out, k * sizeof(*out), "", 0);
	}
	free(out);
	free(rows);
}

static bool say_configuration(void)
{
	const struct sluice *sl = now.old->sl;
	char *early = text_of(config_save_early), *late = text_of(config_save_late);
	const struct port *port;
	bool ok;

	if (sl->handover.origin)
		say_commands(FRAME_ORIGIN, sl->handover.origin);
	ok = say_commands(FRAME_EARLY, early);

	free(early);
	PORT_FOREACH(sl, port)
	ok = ok && say_port(port);
	ok = ok && say_commands(FRAME_COMMANDS, late);
	free(late);
	say_addresses();
	say(FRAME_PREPARE, "", 0, "", 0);
	return ok;
}

static void forget_bev(void)
{
	if (now.bev)
		bufferevent_free(now.bev);
	now.bev = NULL;
}

static void give_up(const char *why)
{
	forget_bev();
	failed(why);
}

/* ---- while nothing is forwarded: state ---- */

static const char *freeze_all(struct sluice *sl, unsigned tries, char *why, size_t why_len)
{
	struct port *port;

	sl->handover.idle = true;
	if (sluice_stop(sl) < 0)
		return "not enough memory";
	while (!plan_advance(sl)) {
		if (--tries == 0)
			return "a worker has not come round for a second";
		usleep(100000);
	}
	if (sl->plan_is_dirty)
		return "not enough memory";
	PORT_FOREACH(sl, port)
	if (port->kind == PORT_VM && vu_device_freeze(port->vm.dev, why, why_len) != 0)
		return why;
	return NULL;
}

/* What was counted when the counters were cleared last. */
static size_t put_counters(const struct port *port, struct virtq_stats *out)
{
	for (unsigned i = 0; i < port->n_rxq; i++) {
		*out++ = port->rxq[i].ring_base;
		*out++ = port->txq[i].ring_base;
	}
	return 2u * port->n_rxq * sizeof(*out);
}

static const char *send_state(
	int fd, const struct port *port, int patience, char *why, size_t why_len)
{
	struct frame_state head = {.id = port->id};
	const char *wrong = "it does not read, or is gone";
	size_t room = 2u * port->n_rxq * sizeof(struct virtq_stats);
	struct vu_record rec;
	char *payload = NULL;

	if (vu_device_record(port->vm.dev, &rec, why, why_len) != 0) {
		vu_record_free(&rec);
		return why;
	}
	payload = malloc(sizeof(head) + room + rec.len);
	if (!payload) {
		wrong = "not enough memory";
	} else {
		head.counters = (uint32_t)put_counters(port, (void *)(payload + sizeof(head)));
		memcpy(payload, &head, sizeof(head));
		memcpy(payload + sizeof(head) + room, rec.bytes, rec.len);
		if (frame_send(fd, FRAME_STATE, payload, sizeof(head) + room + rec.len, rec.fds,
			    rec.nfds, patience) == 0)
			wrong = NULL;
	}
	free(payload);
	vu_record_free(&rec);
	return wrong;
}

static const char *send_all(int fd, uint64_t since, int patience, char *why, size_t why_len)
{
	const struct handover_old *old = now.old;
	struct frame_all all = {.since = since, .lost = handover_lost(old->sl) - now.lost};
	struct frame_control control;
	const char *wrong = NULL;
	struct port *port;
	struct usock_file file;
	int listener = ctlsock_listener(old->control, &file);

	PORT_FOREACH(old->sl, port)
	if (port->kind == PORT_VM && !wrong)
		wrong = send_state(fd, port, patience, why, why_len);
	control = (struct frame_control){file.dev, file.ino};
	if (!wrong && (frame_send(fd, FRAME_CONTROL, &control, sizeof(control), &listener, 1,
			       patience) != 0 ||
			      frame_send(fd, FRAME_ALL, &all, sizeof(all), NULL, 0, patience) != 0))
		wrong = "it does not read, or is gone";
	return wrong;
}

static const char *expect(int fd, enum frame_type type, char *why, size_t why_len)
{
	struct frame f;
	int err = frame_recv(fd, &f, STEP_MS);

	if (err == -ETIMEDOUT)
		return "it has not answered in 10 s";
	if (err)
		return "it is gone";
	if (f.type == FRAME_ABORT)
		snprintf(why, why_len, "%s", f.payload);
	else if (f.type != (uint32_t)type)
		snprintf(why, why_len, "it has said something else than is due");
	else
		why = NULL;
	frame_clear(&f);
	return why;
}

/* It may have said why, and hung up while we were still sending. */
static const char *last_words(int fd, const char *wrong, char *why, size_t why_len)
{
	struct frame f;

	if (frame_recv(fd, &f, 0) != 0)
		return wrong;
	if (f.type == FRAME_ABORT) {
		snprintf(why, why_len, "%s", f.payload);
		wrong = why;
	}
	frame_clear(&f);
	return wrong;
}

/* The newer one serves the VM ports meanwhile. */
static void close_devices(struct sluice *sl)
{
	struct port *port, *next;

	for (port = port_next(sl, NULL); port; port = next) {
		next = port_next(sl, port);
		if (port->kind != PORT_DEV)
			continue;
		port_tap_persist(port, true);
		port_del(port);
	}
}

/*
 * From here on only the newer one says whose it is: what it has sent before we hang up counts. To hear it we need nothing
 * that could be short, for then both of us would be the owner.
 */
static const char *commit(int fd)
{
	if (frame_send(fd, FRAME_COMMIT, "", 0, NULL, 0, STEP_MS) == 0 &&
		frame_is_next(fd, FRAME_TAKEN, STEP_MS))
		return NULL;
	shutdown(fd, SHUT_RDWR);
	return frame_is_next(fd, FRAME_TAKEN, 0) ? NULL : "it is gone, or does not want it";
}

/* Nobody else has it: all goes on where it stopped. */
static void go_on(struct sluice *sl, bool forwarding)
{
	struct port *port;

	PORT_FOREACH(sl, port)
	if (port->kind == PORT_VM)
		vu_device_resume(port->vm.dev);
	sl->forwarding = forwarding;
	sl->handover.idle = false;
	if (plan_update(sl) < 0)
		plan_dirty(sl);
}

/* From here on it is somebody else's. */
static void give(const struct handover_old *old)
{
	old->sl->handover.given = true;
	ctlsock_forfeit(old->control);
}

static void hand_over(int fd)
{
	struct sluice *sl = now.old->sl;
	bool forwarding = sl->forwarding;
	uint64_t since = frame_clock();
	char why[256] = "";
	const char *wrong;

	now.lost = handover_lost(sl);
	wrong = freeze_all(sl, 1, why, sizeof(why));
	if (!wrong) {
		wrong = send_all(fd, since, STEP_MS, why, sizeof(why));
		if (wrong)
			wrong = last_words(fd, wrong, why, sizeof(why));
	}
	if (!wrong)
		wrong = expect(fd, FRAME_READY, why, sizeof(why));
	if (wrong)
		frame_send(fd, FRAME_ABORT, wrong, strlen(wrong), NULL, 0, 100);
	else
		wrong = commit(fd);
	if (wrong) {
		go_on(sl, forwarding);
		failed(wrong);
	} else {
		fdstore_main_pid(now.pid); /* before we end, which else ends the service */
		give(now.old);
		SL_LOG(NOTICE, "process %d has taken over", (int)now.pid);
		close_devices(sl);
		sluice_quit(sl);
	}
	close(fd); /* for the newer one: devices are free */
}

/* ---- the newer one has asked ---- */

static void on_read(struct bufferevent *bev, void *arg)
{
	struct evbuffer *in = bufferevent_get_input(bev);
	struct frame_header h;
	char why[256];

	if (evbuffer_copyout(in, &h, sizeof(h)) < (ssize_t)sizeof(h))
		return;
	if (h.magic != FRAME_MAGIC || h.version != FRAME_VERSION || h.len >= sizeof(why)) {
		give_up("it speaks another protocol");
		return;
	}
	if (evbuffer_get_length(in) < sizeof(h) + h.len)
		return;
	evbuffer_drain(in, sizeof(h));
	evbuffer_remove(in, why, h.len);
	why[h.len] = '\0';
	if (h.type == FRAME_PREPARED) {
		int fd = dup(bufferevent_getfd(bev));

		forget_bev();
		if (fd >= 0)
			hand_over(fd);
		else
			failed("no descriptor is left");
	} else {
		give_up(h.type == FRAME_ABORT ? why : "it has said something else than is due");
	}
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	give_up(what & BEV_EVENT_TIMEOUT ? "it was not ready within 60 s" : "it is gone");
}

void handover_begin(void *old, int fd)
{
	static const struct timeval patience = {PREPARE_S, 0};
	static const char busy[] = "another process is taking over already";

	if (now.bev) {
		frame_send(fd, FRAME_ABORT, busy, strlen(busy), NULL, 0, 100);
		close(fd);
		return;
	}
	now.old = old;
	now.pid = peer_of(fd);
	now.bev = bufferevent_socket_new(now.old->sl->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!now.bev) {
		close(fd);
		return;
	}
	handover_set(
		HANDOVER_RUNNING, now.pid, "process %d makes ready to take over", (int)now.pid);
	bufferevent_setcb(now.bev, on_read, NULL, on_event, NULL);
	bufferevent_set_timeouts(now.bev, &patience, &patience);
	now.out = bufferevent_get_output(now.bev);
	if (!say_configuration())
		give_up("not enough memory");
	else
		bufferevent_enable(now.bev, EV_READ | EV_WRITE);
}

/* ---- nobody has asked, but somebody will ---- */

#define TRIES 40        /* over four seconds: nobody asks a second time */
#define ROOM  (1 << 29) /* the socket is somebody's memory only as far as it is filled */

/* A socket to write to without waiting, and the one in which that lies; what root may is not much less. */
static int make_pair(int pair[2])
{
	const int room = ROOM;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	if (setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
		setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	return 0;
}

static const char *write_configuration(int fd)
{
	const char *wrong = "not enough memory";

	now.out = evbuffer_new();
	if (now.out && say_configuration())
		wrong = NULL;
	while (!wrong && evbuffer_get_length(now.out) > 0)
		if (evbuffer_write(now.out, fd) <= 0)
			wrong = "it is more than a socket holds";
	if (now.out)
		evbuffer_free(now.out);
	now.out = NULL;
	return wrong;
}

static const char *write_all(int fd, char *why, size_t why_len)
{
	const char *wrong = write_configuration(fd);
	uint64_t since = frame_clock();

	if (!wrong)
		wrong = freeze_all(now.old->sl, TRIES, why, why_len);
	if (!wrong)
		wrong = send_all(fd, since, 0, why, why_len);
	if (!wrong && frame_send(fd, FRAME_COMMIT, "", 0, NULL, 0, 0) != 0)
		wrong = "it is more than a socket holds";
	return wrong;
}

static void keep_taps(struct sluice *sl)
{
	struct port *port;

	PORT_FOREACH(sl, port)
	{
		unsigned index;
		int fd = port_tap_spare(port, &index);

		if (fd < 0)
			continue;
		fdstore_put_tap(fd, index);
		close(fd);
	}
}

int handover_leave(struct handover_old *old, char *why, size_t why_len)
{
	struct sluice *sl = old->sl;
	bool forwarding = sl->forwarding;
	char text[256] = "";
	const char *wrong;
	int pair[2], err;

	if (!sl->handover.origin || !old->control || handover_status()->state == HANDOVER_RUNNING) {
		snprintf(why, why_len, "an upgrade is not through, or there is no control socket");
		return -EBUSY;
	}
	err = make_pair(pair);
	if (err) {
		snprintf(why, why_len, "%s", strerror(-err));
		return err;
	}
	now.old = old;
	now.lost = handover_lost(sl);
	wrong = write_all(pair[1], text, sizeof(text));
	close(pair[1]);
	if (!wrong) {
		give(old);
		keep_taps(sl);
		return pair[0];
	}
	close(pair[0]);
	go_on(sl, forwarding);
	snprintf(why, why_len, "%s", wrong);
	return -EIO;
}

void handover_cancel(void)
{
	static const char ends[] = "the other process was told to end";

	if (!now.bev)
		return;
	/* Else it would find us dead, and take over. Without the whole configuration it cannot. */
	if (evbuffer_get_length(bufferevent_get_output(now.bev)) == 0)
		frame_send(
			bufferevent_getfd(now.bev), FRAME_ABORT, ends, strlen(ends), NULL, 0, 100);
	give_up("this one ends");
}

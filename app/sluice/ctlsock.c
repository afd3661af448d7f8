/* SPDX-License-Identifier: BSD-3-Clause */
/* The control socket: makes and removes the socket file, and serves its clients. */
#include "ctlsock.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "usock.h"

/*
 * Theory of operation. A client sends requests, one a line (ctlsock_rpc.c answers them), and reads
 * the answers in the same order. All of it happens on the control thread, between two commands, so
 * nothing that a client does may hold up the loop or pile up memory:
 *
 *	- the sockets are non-blocking, bufferevents keep what is half received or half sent;
 *	- a request is at most CTLSOCK_LINE_MAX long, what follows it stays in the kernel;
 *	- TURN requests of a client are answered, then the others have their turn;
 *	- a client that does not read its answers is not served beyond WAITING_MAX of them, nor read
 *	  from, and closed when it took none for STALLED_S; one answer is at most CTLSOCK_ANSWER_MAX;
 *	- more than CTLSOCK_CLIENTS_MAX are told so and closed;
 *	- if accept() fails (no file descriptor left) we try again in a second, not at once.
 */

#define TURN        16
#define WAITING_MAX (1u << 20)
#define STALLED_S   60
#define OWN_DIR     "/run/sluice"

struct client {
	TAILQ_ENTRY(client) link;
	struct ctlsock *sock;
	struct bufferevent *bev;
	struct event *again; /* more requests are here than one turn answers */
	bool closing;        /* no more requests are taken; ends when the answers are out */
	bool leaving;        /* it does not want answers, but the switch */
};

struct ctlsock {
	struct event_base *base;
	struct cmd_registry *reg;
	struct evconnlistener *listener;
	struct event *retry; /* of accept() */
	char path[USOCK_PATH_MAX];
	struct usock_file file; /* which is ours at path */
	void (*take_over)(void *arg, int fd);
	void *take_over_arg;
	TAILQ_HEAD(, client) clients;
	unsigned int n_clients;
};

static void client_free(struct client *cl)
{
	TAILQ_REMOVE(&cl->sock->clients, cl, link);
	cl->sock->n_clients--;
	event_free(cl->again);
	bufferevent_free(cl->bev);
	free(cl);
}

static size_t waiting(const struct client *cl)
{
	return evbuffer_get_length(bufferevent_get_output(cl->bev));
}

/* Who gets no answer must not wait for one: nothing more is read, and what is out is the last. */
static void give_up(struct client *cl)
{
	struct evbuffer *in = bufferevent_get_input(cl->bev);

	evbuffer_drain(in, evbuffer_get_length(in));
	bufferevent_disable(cl->bev, EV_READ);
	cl->closing = true;
}

static void put(struct client *cl, const char *answer, size_t len)
{
	if (bufferevent_write(cl->bev, answer, len) < 0 || bufferevent_write(cl->bev, "\n", 1) < 0)
		give_up(cl);
}

/* Takes over answer; NULL: there was not enough memory for one; empty: nobody waits for any. */
static void send_answer(struct client *cl, char *answer, size_t len)
{
	static const char none[] = "{\"jsonrpc\": \"2.0\", \"id\": null, \"error\": "
				   "{\"code\": -12, \"message\": \"out of memory\"}}";

	char why[96];

	if (len > CTLSOCK_ANSWER_MAX) {
		free(answer);
		snprintf(why, sizeof(why), "the answer is %zu bytes long, more than %u", len,
			CTLSOCK_ANSWER_MAX);
		answer = ctlsock_rpc_error(CTLSOCK_RPC_BUSY, why, &len);
	}
	if (answer && len > 0)
		put(cl, answer, len);
	else if (!answer)
		put(cl, none, sizeof(none) - 1);
	free(answer);
}

static void refuse_long_line(struct client *cl)
{
	size_t len;
	char *answer = ctlsock_rpc_error(
		CTLSOCK_RPC_REQUEST, "a request is at most 65536 bytes long", &len);

	send_answer(cl, answer, len);
	give_up(cl);
}

/* The socket's permissions let a group in, too, which is to run commands only. */
static bool is_us(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == geteuid() || peer.uid == 0);
}

static bool may_take_over(const struct client *cl, const char *line, size_t len)
{
	return cl->sock->take_over && strstr(line, CTLSOCK_TAKE_OVER) &&
	       is_us(bufferevent_getfd(cl->bev)) && ctlsock_rpc_is(line, len, CTLSOCK_TAKE_OVER);
}

static void hand_off(struct client *cl)
{
	struct ctlsock *s = cl->sock;
	int fd = fcntl(bufferevent_getfd(cl->bev), F_DUPFD_CLOEXEC, 0);

	client_free(cl);
	if (fd >= 0)
		s->take_over(s->take_over_arg, fd);
}

/* Answer the next request that is completely here; false if there is none. */
static bool serve_one(struct client *cl)
{
	struct evbuffer *in = bufferevent_get_input(cl->bev);
	size_t line_len, len = 0;
	char *line = evbuffer_readln(in, &line_len, EVBUFFER_EOL_LF);
	char *answer;

	if (!line && evbuffer_get_length(in) > CTLSOCK_LINE_MAX)
		refuse_long_line(cl);
	if (!line)
		return false;
	cl->leaving = may_take_over(cl, line, line_len);
	if (cl->leaving) {
		free(line);
		return false;
	}
	if (strspn(line, " \t\r") < line_len) {
		answer = ctlsock_rpc(cl->sock->reg, line, line_len, &len);
		send_answer(cl, answer, len);
	}
	free(line);
	return true;
}

/* Later, and if there is no memory for later, at once. */
static void serve_again(struct client *cl)
{
	static const struct timeval now = {0, 0};

	if (event_add(cl->again, &now) < 0)
		event_active(cl->again, EV_TIMEOUT, 0);
}

static void serve(struct client *cl)
{
	bool more = true;

	for (int i = 0; i < TURN && more && waiting(cl) <= WAITING_MAX; i++)
		more = serve_one(cl);
	if (cl->leaving)
		hand_off(cl);
	else if (more && waiting(cl) <= WAITING_MAX)
		serve_again(cl);
	else if (cl->closing && waiting(cl) == 0)
		client_free(cl);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	serve(arg);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct client *cl = arg;

	if (!event_pending(cl->again, EV_TIMEOUT, NULL))
		serve(cl);
}

/* The answers are out. */
static void on_written(struct bufferevent *bev, void *arg)
{
	on_read(bev, arg);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct client *cl = arg;

	if (what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) {
		client_free(cl);
		return;
	}
	if (what & BEV_EVENT_EOF) {
		cl->closing =
			true; /* it may have shut down only its sending side, and still read */
		on_read(bev, cl);
	}
}

static struct client *client_new(struct ctlsock *s, evutil_socket_t fd)
{
	static const struct timeval stalled = {STALLED_S, 0};
	struct client *cl = calloc(1, sizeof(*cl));

	if (!cl) {
		close(fd);
		return NULL;
	}
	cl->sock = s;
	cl->bev = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
	cl->again = evtimer_new(s->base, on_again, cl);
	if (!cl->bev || !cl->again) {
		if (cl->again)
			event_free(cl->again);
		if (cl->bev)
			bufferevent_free(cl->bev);
		else
			close(fd);
		free(cl);
		return NULL;
	}
	bufferevent_setcb(cl->bev, on_read, on_written, on_event, cl);
	bufferevent_setwatermark(cl->bev, EV_READ, 0, CTLSOCK_LINE_MAX + 1);
	bufferevent_set_timeouts(cl->bev, NULL, &stalled);
	TAILQ_INSERT_TAIL(&s->clients, cl, link);
	s->n_clients++;
	return cl;
}

static void refuse_client(evutil_socket_t fd)
{
	size_t len;
	char *answer = ctlsock_rpc_error(CTLSOCK_RPC_BUSY,
		"64 clients are connected already: close one, then try again", &len);

	if (answer) {
		answer[len] = '\n'; /* in the place of the NUL */
		(void)!send(fd, answer, len + 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	free(answer);
	close(fd);
}

static void on_accept(
	struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *addr, int len, void *arg)
{
	struct ctlsock *s = arg;
	struct client *cl;

	if (s->n_clients == CTLSOCK_CLIENTS_MAX) {
		refuse_client(fd);
		return;
	}
	cl = client_new(s, fd);
	if (cl)
		bufferevent_enable(cl->bev, EV_READ | EV_WRITE);
}

static void on_accept_error(struct evconnlistener *l, void *arg)
{
	static const struct timeval pause = {1, 0};
	struct ctlsock *s = arg;

	evconnlistener_disable(l);
	if (event_add(s->retry, &pause) < 0)
		event_active(s->retry, EV_TIMEOUT, 0);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct ctlsock *s = arg;

	evconnlistener_enable(s->listener);
}

static int fail(char *err, size_t err_len, int rc, const char *what)
{
	snprintf(err, err_len, "control socket: %s", what);
	return rc;
}

/* Make the directories of path that are /run/sluice or below it. */
static int make_dirs(const char *path, char *why, size_t why_len)
{
	char dir[USOCK_PATH_MAX];

	if (strncmp(path, OWN_DIR "/", sizeof(OWN_DIR)) != 0)
		return 0;
	for (const char *end = path + sizeof(OWN_DIR) - 1; end; end = strchr(end + 1, '/')) {
		snprintf(dir, sizeof(dir), "%.*s", (int)(end - path), path);
		if (mkdir(dir, 0755) == 0) {
			(void)!chmod(dir, 0755); /* whatever the umask */
		} else if (errno != EEXIST) {
			int rc = -errno;

			snprintf(why, why_len, "cannot make the directory %s: %s", dir,
				strerror(-rc));
			return rc;
		}
	}
	return 0;
}

static int open_socket(struct ctlsock *s, const char *path, const struct usock_access *access,
	char *err, size_t err_len)
{
	const struct usock_access ours = {(uid_t)-1, (gid_t)-1, 0660};
	char why[USOCK_PATH_MAX + 256];
	int rc = usock_check(path, why, sizeof(why));

	if (!rc) {
		strcpy(s->path, path);
		rc = make_dirs(path, why, sizeof(why));
	}
	if (!rc)
		rc = usock_listen(path, CTLSOCK_CLIENTS_MAX, access ? access : &ours, &s->file, why,
			sizeof(why));
	return rc < 0 ? fail(err, err_len, rc, why) : rc;
}

/* With s->path and file set. Both are ours, also on failure. */
static int serve_on(struct ctlsock *s, int fd, struct event_base *base, struct cmd_registry *reg,
	struct ctlsock **sock, char *err, size_t err_len)
{
	s->base = base;
	s->reg = reg;
	TAILQ_INIT(&s->clients);
	signal(SIGPIPE, SIG_IGN);
	s->retry = evtimer_new(base, on_retry, s);
	s->listener = evconnlistener_new(
		base, on_accept, s, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!s->listener || !s->retry) {
		if (!s->listener)
			close(fd);
		fail(err, err_len, -ENOMEM, "out of memory");
		ctlsock_free(s);
		return -ENOMEM;
	}
	evconnlistener_set_error_cb(s->listener, on_accept_error);
	*sock = s;
	return 0;
}

int ctlsock_new(struct event_base *base, struct cmd_registry *reg, const char *path,
	const struct usock_access *access, struct ctlsock **sock, char *err, size_t err_len)
{
	struct ctlsock *s = calloc(1, sizeof(*s));
	int fd = s ? open_socket(s, path, access, err, err_len)
		   : fail(err, err_len, -ENOMEM, "out of memory");

	if (fd < 0) {
		free(s);
		return fd;
	}
	return serve_on(s, fd, base, reg, sock, err, err_len);
}

int ctlsock_adopt(struct event_base *base, struct cmd_registry *reg, const char *path, int fd,
	const struct usock_file *file, struct ctlsock **sock, char *err, size_t err_len)
{
	struct ctlsock *s = calloc(1, sizeof(*s));

	if (!s) {
		close(fd);
		return fail(err, err_len, -ENOMEM, "out of memory");
	}
	snprintf(s->path, sizeof(s->path), "%s", path);
	s->file = *file;
	usock_claim(file);
	listen(fd,
		CTLSOCK_CLIENTS_MAX); /* again, so that who connects sees our process behind it */
	return serve_on(s, fd, base, reg, sock, err, err_len);
}

void ctlsock_on_take_over(struct ctlsock *s, void (*fn)(void *arg, int fd), void *arg)
{
	s->take_over = fn;
	s->take_over_arg = arg;
}

int ctlsock_listener(const struct ctlsock *s, struct usock_file *file)
{
	*file = s->file;
	return evconnlistener_get_fd(s->listener);
}

void ctlsock_forfeit(struct ctlsock *s)
{
	s->file.ino = 0;
}

/* The last chance of an answer, `quit`'s for example. */
static void push_out(struct client *cl)
{
	struct evbuffer *out = bufferevent_get_output(cl->bev);

	evbuffer_unfreeze(out, 1); /* a bufferevent keeps others from draining its output */
	evbuffer_write(out, bufferevent_getfd(cl->bev));
}

void ctlsock_free(struct ctlsock *s)
{
	struct client *cl;

	if (!s)
		return;
	usock_remove(s->path, &s->file);
	if (s->listener)
		evconnlistener_free(s->listener);
	while ((cl = TAILQ_FIRST(&s->clients))) {
		push_out(cl);
		client_free(cl);
	}
	if (s->retry)
		event_free(s->retry);
	free(s);
}

unsigned int ctlsock_clients(const struct ctlsock *s)
{
	return s->n_clients;
}

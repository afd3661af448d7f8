/* SPDX-License-Identifier: BSD-3-Clause */
/* The interactive console: DPDK's rdline on a terminal, plain lines from anything else. */
#include "console.h"

#include <cmdline_rdline.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <termios.h>
#include <unistd.h>

#include "command.h"

/*
 * Theory of operation. Whoever sits at the console must not be able to hold up the control thread:
 *
 *	input	is read only when libevent says that some is there, so read() does not wait; a file
 *		or /dev/null cannot be polled, and a timer reads a piece of it in each turn.
 *	output	is kept in a buffer and written when the terminal or pipe takes it (Ctrl-S, a pager).
 *		O_NONBLOCK belongs to the open file, which a shell shares with us; so we open our
 *		own by /proc/self/fd. Where that fails, and for files, we write at once.
 *
 * A line goes to cmd_run() and its text to the output. On a terminal each byte goes through rdline
 * first; Ctrl-C is taken out before, as the terminal makes no signal of it while we have it.
 */

#define READ_SIZE   4096
#define WAITING_MAX (16u << 20) /* bytes that wait for a terminal that takes none */

struct console {
	struct event_base *base;
	struct cmd_registry *reg;
	struct console_conf conf;
	struct event *readable; /* or the timer that reads a file */
	struct evbuffer *line;  /* not a terminal: what is read and not run yet */
	int out_fd;             /* ours, or conf.out_fd */
	bool out_polled;
	struct evbuffer *out;
	struct event *writable;
	struct rdline *rdline;         /* a terminal's */
	struct cmd_candidates offered; /* between two calls of rdline's for one TAB */
	bool running;                  /* a command of the console's */
	bool over;
	bool skipping; /* a line that is too long */
	unsigned int failures;
};

/* For exit() without console_free(): the terminal must never stay as we need it. */
static struct termios saved_mode;
static int saved_fd = -1;

static void restore_terminal(void)
{
	pid_t front = saved_fd >= 0 ? tcgetpgrp(saved_fd) : 0;

	if (saved_fd >= 0 && (front < 0 || front == getpgrp())) /* else it would stop us */
		tcsetattr(saved_fd, TCSANOW, &saved_mode);
	saved_fd = -1;
}

static int take_terminal(int fd)
{
	static bool registered;
	struct termios mode;

	if (tcgetattr(fd, &saved_mode) < 0)
		return -errno;
	if (!registered && atexit(restore_terminal) == 0)
		registered = true;
	mode = saved_mode;
	mode.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	mode.c_cc[VINTR] = _POSIX_VDISABLE;
	mode.c_cc[VSUSP] = _POSIX_VDISABLE; /* VQUIT stays: it ends a program that hangs */
	mode.c_cc[VMIN] = 1;
	mode.c_cc[VTIME] = 0;
	saved_fd = fd;
	return tcsetattr(fd, TCSANOW, &mode) < 0 ? -errno : 0;
}

static bool can_poll(int fd)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int ep = epoll_create1(EPOLL_CLOEXEC);
	bool can = ep >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0;

	if (ep >= 0)
		close(ep);
	return can;
}

static void flush_output(struct console *con)
{
	while (evbuffer_get_length(con->out) > 0) {
		if (evbuffer_write(con->out, con->out_fd) > 0)
			continue;
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN && con->out_polled)
			event_add(con->writable, NULL);
		else
			evbuffer_drain(
				con->out, evbuffer_get_length(con->out)); /* nobody reads it */
		return;
	}
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	flush_output(arg);
}

static void put(struct console *con, const char *text)
{
	if (evbuffer_get_length(con->out) < WAITING_MAX)
		evbuffer_add(con->out, text, strlen(text));
}

static void end(struct console *con, enum console_end why)
{
	if (con->over)
		return;
	con->over = true;
	event_del(con->readable);
	flush_output(con);
	restore_terminal();
	con->conf.ended(why, con->conf.arg);
}

/* Returns false if nothing more is to be run. */
static bool run(struct console *con, const char *line)
{
	struct cmd_result res;
	bool stop;

	con->running = true;
	if (cmd_run(con->reg, line, &res))
		con->failures++;
	con->running = false;
	put(con, res.text ? res.text : "");
	if (res.text && res.text[0] && res.text[strlen(res.text) - 1] != '\n')
		put(con, "\n");
	if (res.err) {
		put(con, res.error ? res.error : "out of memory");
		put(con, "\n");
	}
	stop = res.stop;
	cmd_result_clear(&res);
	return !stop;
}

static int rdline_put(struct rdline *rdl, char ch)
{
	struct console *con = rdline_get_opaque(rdl);

	return ch == '\r' ? 0 : evbuffer_add(con->out, &ch, 1); /* the terminal adds it to \n */
}

static void rdline_line(struct rdline *rdl, const char *buf, unsigned int size)
{
	struct console *con = rdline_get_opaque(rdl);
	char *line = strndup(buf, strcspn(buf, "\n"));

	if (!line)
		return;
	if (line[strspn(line, " \t")] != '\0')
		rdline_add_history(rdl, line);
	flush_output(con);
	if (!run(con, line))
		rdline_quit(rdl);
	free(line);
}

/* How many bytes all candidates begin with. */
static size_t common_length(const struct cmd_candidates *found)
{
	size_t len = strlen(found->word[0]);

	for (size_t i = 1; i < found->n; i++) {
		size_t same = 0;

		while (same < len && found->word[i][same] == found->word[0][same])
			same++;
		len = same;
	}
	return len;
}

/* What TAB can add to the line at once; false if there is nothing that all candidates share. */
static bool complete_now(
	const struct cmd_candidates *found, const char *line, char *dst, size_t size)
{
	size_t typed = strlen(line) - found->start;
	size_t common = common_length(found);
	const char *more;

	if (found->n > 1 && common <= typed)
		return false;
	if (typed > 0 && strchr("'\"", line[found->start]))
		return false; /* what stands there is not what the candidates begin with */
	more = found->word[0] + (typed < common ? typed : common);
	snprintf(dst, size, "%.*s%s", (int)(common - (size_t)(more - found->word[0])), more,
		found->n == 1 ? " " : "");
	return true;
}

/* rdline's contract: return 2 to add dst to the line, 1 for one of a list (called again), 0. */
static int rdline_tab(
	struct rdline *rdl, const char *line, char *dst, unsigned int size, int *state)
{
	struct console *con = rdline_get_opaque(rdl);
	bool list = *state < 0; /* the help key: never adds */

	if (*state <= 0) {
		cmd_candidates_clear(&con->offered);
		cmd_complete(con->reg, line, &con->offered);
		*state = 0;
		if (con->offered.n > 0 && !list && complete_now(&con->offered, line, dst, size))
			return RDLINE_RES_COMPLETE;
	}
	if ((size_t)*state >= con->offered.n)
		return 0;
	snprintf(dst, size, "%s", con->offered.word[*state]);
	++*state;
	return 1;
}

/* Returns false when the console is over, and may be freed. */
static bool typed(struct console *con, char ch)
{
	int rc = ch == 0x03 ? 0 : rdline_char_in(con->rdline, ch);

	if (ch == 0x03 || rc == RDLINE_RES_EOF) {
		put(con, "\n");
		end(con, ch == 0x03 ? CONSOLE_INTERRUPT : CONSOLE_EOF);
		return false;
	}
	if (rc == RDLINE_RES_EXITED) {
		end(con, CONSOLE_STOP);
		return false;
	}
	if (rc == RDLINE_RES_VALIDATED)
		rdline_newline(con->rdline, con->conf.prompt);
	return true;
}

/* A line of a pipe or file, with its length as a NUL byte could hide some of it. */
static bool run_plain(struct console *con, const char *line, size_t len)
{
	if (con->skipping) {
		con->skipping = false;
		return true;
	}
	if (strlen(line) == len)
		return run(con, line);
	con->failures++;
	put(con, "the line has a NUL byte\n");
	return true;
}

/* A line end does not come: say so once, and drop the line up to its end. */
static void skip_long_line(struct console *con)
{
	if (!con->skipping) {
		con->failures++;
		put(con, "the line is too long, more than 65536 bytes\n");
	}
	con->skipping = true;
	evbuffer_drain(con->line, evbuffer_get_length(con->line));
}

/* Run the lines that are here. Returns false when the console is over, and may be freed. */
static bool run_lines(struct console *con)
{
	size_t len;
	char *line;

	while ((line = evbuffer_readln(con->line, &len, EVBUFFER_EOL_LF))) {
		bool more = run_plain(con, line, len);

		free(line);
		if (!more) {
			end(con, CONSOLE_STOP);
			return false;
		}
	}
	if (evbuffer_get_length(con->line) > CMD_LINE_MAX)
		skip_long_line(con);
	flush_output(con);
	return true;
}

static void got_bytes(struct console *con, const char *buf, size_t n)
{
	if (!con->rdline) {
		evbuffer_add(con->line, buf, n);
		run_lines(con);
		return;
	}
	for (size_t i = 0; i < n; i++)
		if (!typed(con, buf[i]))
			return;
	flush_output(con);
}

static void got_end(struct console *con)
{
	if (con->rdline) {
		end(con, CONSOLE_HANGUP);
		return;
	}
	if (evbuffer_get_length(con->line) > 0)
		evbuffer_add(con->line, "\n", 1); /* the last line may lack its end */
	if (run_lines(con))
		end(con, CONSOLE_EOF);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct console *con = arg;
	char buf[READ_SIZE];
	ssize_t n = read(con->conf.in_fd, buf, sizeof(buf));

	if (n > 0)
		got_bytes(con, buf, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		got_end(con);
}

/* Our own opening of a terminal or pipe, which may be non-blocking; else the caller's. */
static void open_output(struct console *con)
{
	char path[32];
	int fd = -1;

	con->out_fd = con->conf.out_fd;
	if (!can_poll(con->conf.out_fd))
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", con->conf.out_fd);
	fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return;
	con->out_fd = fd;
	con->out_polled = true;
}

static bool add_events(struct console *con)
{
	static const struct timeval at_once = {0, 1};
	bool polled = can_poll(con->conf.in_fd);

	con->readable = event_new(con->base, polled ? con->conf.in_fd : -1,
		polled ? EV_READ | EV_PERSIST : EV_PERSIST, on_readable, con);
	con->writable = event_new(con->base, con->out_fd, EV_WRITE, on_writable, con);
	return con->readable && con->writable &&
	       event_add(con->readable, polled ? NULL : &at_once) == 0;
}

static int start_terminal(struct console *con)
{
	con->rdline = rdline_new(rdline_put, rdline_line, rdline_tab, con);
	if (!con->rdline)
		return -ENOMEM;
	rdline_newline(con->rdline, con->conf.prompt);
	flush_output(con);
	return take_terminal(con->conf.in_fd);
}

int console_new(struct event_base *base, struct cmd_registry *reg, const struct console_conf *conf,
	struct console **console, char *err, size_t err_len)
{
	struct console *con;
	int rc = 0;

	if (strlen(conf->prompt) > CONSOLE_PROMPT_MAX) {
		snprintf(err, err_len, "the prompt is longer than %d bytes", CONSOLE_PROMPT_MAX);
		return -EINVAL;
	}
	con = calloc(1, sizeof(*con));
	if (!con) {
		snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	con->base = base;
	con->reg = reg;
	con->conf = *conf;
	signal(SIGPIPE, SIG_IGN);
	open_output(con);
	con->line = evbuffer_new();
	con->out = evbuffer_new();
	if (!con->line || !con->out || !add_events(con))
		rc = -ENOMEM;
	else if (isatty(conf->in_fd))
		rc = start_terminal(con);
	if (rc) {
		snprintf(err, err_len, "the console cannot start: %s", strerror(-rc));
		console_free(con);
		return rc;
	}
	*console = con;
	return 0;
}

/* What still waits gets a second. */
static void drain_output(struct console *con)
{
	struct pollfd pfd = {.fd = con->out_fd, .events = POLLOUT};

	for (int i = 0; i < 10 && evbuffer_get_length(con->out) > 0; i++) {
		flush_output(con);
		if (evbuffer_get_length(con->out) > 0)
			poll(&pfd, 1, 100);
	}
}

void console_free(struct console *con)
{
	if (!con)
		return;
	if (con->out && con->writable)
		drain_output(con);
	restore_terminal();
	if (con->readable)
		event_free(con->readable);
	if (con->writable)
		event_free(con->writable);
	if (con->line)
		evbuffer_free(con->line);
	if (con->out)
		evbuffer_free(con->out);
	if (con->out_fd != con->conf.out_fd)
		close(con->out_fd);
	rdline_free(con->rdline);
	cmd_candidates_clear(&con->offered);
	free(con);
}

void console_print(struct console *con, const char *text)
{
	bool at_prompt = con->rdline && !con->running && !con->over;

	if (at_prompt)
		put(con, "\r\033[K");
	put(con, text);
	if (at_prompt)
		rdline_redisplay(con->rdline);
	flush_output(con);
}

unsigned int console_failures(const struct console *con)
{
	return con->failures;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of the console on a pseudo terminal, a pipe and a file. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#include "console.h"
#include "sample_commands.h"
#include "ts_tap.h"

static struct sample sample;
static struct cmd_registry *reg;
static struct event_base *base;
static struct console *console;
static int master, slave; /* the two ends of a terminal */
static int ended;         /* 0, or 1 + the reason */
static char seen[1 << 20];
static size_t n_seen;

static void on_end(enum console_end why, void *arg)
{
	assert_int_equal(ended, 0);
	assert_ptr_equal(arg, &ended);
	ended = 1 + (int)why;
}

static void open_console(int in, int out)
{
	struct console_conf conf = {in, out, "test> ", on_end, &ended};
	char err[256];

	if (console_new(base, reg, &conf, &console, err, sizeof(err)))
		fail_msg("%s", err);
}

static int setup(void **state)
{
	memset(&sample, 0, sizeof(sample));
	reg = sample_registry(&sample);
	base = event_base_new();
	console = NULL;
	ended = 0;
	n_seen = 0;
	return 0;
}

static int setup_terminal(void **state)
{
	setup(state);
	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	fcntl(master, F_SETFL, O_NONBLOCK);
	open_console(slave, slave);
	return 0;
}

static int teardown(void **state)
{
	console_free(console);
	event_base_free(base);
	cmd_registry_free(reg);
	return 0;
}

static int teardown_terminal(void **state)
{
	teardown(state);
	close(master);
	close(slave);
	return 0;
}

static void pump(void)
{
	for (int i = 0; i < 10; i++)
		event_base_loop(base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
}

/* A terminal hands bytes over when the kernel gets to it. */
#define AWAIT(cond)                                         \
	do {                                                \
		for (int i = 0; i < 2000 && !(cond); i++) { \
			pump();                             \
			usleep(1000);                       \
		}                                           \
		assert_true(cond);                          \
	} while (0)

/* What came out at fd since the last time, for at most a second until it ends with tail. */
static const char *output(int fd, const char *tail)
{
	n_seen = 0;
	for (int i = 0; i < 1000; i++) {
		ssize_t n;

		pump();
		n = read(fd, seen + n_seen, sizeof(seen) - 1 - n_seen);
		if (n > 0)
			n_seen += (size_t)n;
		seen[n_seen] = '\0';
		if (n_seen >= strlen(tail) && strcmp(seen + n_seen - strlen(tail), tail) == 0)
			return seen;
		usleep(1000);
	}
	fail_msg("'%s' does not end with '%s'", seen, tail);
	return NULL;
}

static void type(const char *keys, const char *shows)
{
	assert_int_equal(write(master, keys, strlen(keys)), (ssize_t)strlen(keys));
	assert_string_equal(output(master, shows), shows);
}

static void lines_are_edited_and_run(void **state)
{
	assert_string_equal(output(master, "test> "), "test> ");
	type("show port stats all", "show port stats all");
	type("\r", "\r\npackets of (all)\r\ntest> ");
	type("prot\r", "prot\r\nunknown command 'prot'; did you mean 'port'? ('help' lists "
		       "all)\r\ntest> ");
	assert_int_equal(console_failures(console), 1);
	type("\r", "\r\ntest> ");
	type("set burst 7\b\r", "set burst 7\010\033[0K\r\nset burst: expected N (1 to "
				"512), but the line ends\r\ntest> ");
	assert_int_equal(write(master, "\033[A\033[A\r", 7), 7); /* up, up: the one before */
	output(master, "did you mean 'port'? ('help' lists all)\r\ntest> ");
	assert_int_equal(ended, 0);
}

static void tab_completes(void **state)
{
	output(master, "test> ");
	assert_int_equal(write(master, "sh\t", 3), 3);
	assert_non_null(strstr(output(master, "show \033[0K"), "sh"));
	assert_int_equal(write(master, "po\t", 3), 3);
	output(master, "port \033[0K");
	assert_int_equal(write(master, "st\tv\t", 5), 5);
	output(master, "m\033[0K");
	assert_int_equal(write(master, "\t", 1), 1);
	assert_non_null(
		strstr(output(master, "test> show port stats vm\033[0K"), "\r\n vm1\r\n vm2\r\n"));
	assert_int_equal(write(master, "2\r", 2), 2);
	output(master, "packets of vm2\r\ntest> ");
	assert_int_equal(write(master, "xyz \t\r", 6), 6); /* nothing to offer */
	output(master, "unknown command 'xyz' ('help' lists all)\r\ntest> ");
}

static tcflag_t local_mode(void)
{
	struct termios mode;

	assert_int_equal(tcgetattr(slave, &mode), 0);
	return mode.c_lflag & (ICANON | ECHO);
}

static void interrupt_ends_and_restores(void **state)
{
	output(master, "test> ");
	assert_int_equal(local_mode(), 0);
	type("set b\003", "set b\r\n");
	assert_int_equal(ended, 1 + CONSOLE_INTERRUPT);
	assert_int_equal(local_mode(), ICANON | ECHO);
	assert_int_equal(write(master, "start\r", 6), 6);
	pump();
	assert_int_equal(sample.runs, 0);
}

static void end_of_file_ends(void **state)
{
	output(master, "test> ");
	type("x\004\b\004", "x\010\033[0K\r\n"); /* in a line, Ctrl-D deletes */
	assert_int_equal(ended, 1 + CONSOLE_EOF);
	assert_int_equal(local_mode(), ICANON | ECHO);
}

static void quit_ends(void **state)
{
	output(master, "test> ");
	type("quit\rstart\r", "quit\r\n");
	assert_int_equal(ended, 1 + CONSOLE_STOP);
	assert_int_equal(sample.runs, 1);
}

static void hangup_ends(void **state)
{
	output(master, "test> ");
	close(master);
	AWAIT(ended);
	assert_int_equal(ended, 1 + CONSOLE_HANGUP);
	master = open("/dev/null", O_RDONLY);
}

static void news_go_above_the_prompt(void **state)
{
	output(master, "test> ");
	type("set b", "set b");
	console_print(console, "port vm1 is up\n");
	assert_string_equal(output(master, "b\033[0K"),
		"\r\033[Kport vm1 is up\r\n\033M\033Etest> set b\033[0K");
	type("urst 9\r", "urst 9\r\ntest> ");
	assert_int_equal(sample.n, 9);
}

static void a_stopped_terminal_does_not_block(void **state)
{
	output(master, "test> ");
	assert_int_equal(write(master, "\023", 1), 1); /* Ctrl-S */
	pump();
	assert_int_equal(write(master, "blob 2000\rstart\r", 16), 16);
	AWAIT(strcmp(sample.row, "start") == 0); /* both ran, nothing was printed */
	assert_int_equal(write(master, "\021", 1), 1);
	output(master, "abcde\r\ntest> start\r\ntest> ");
	assert_true(n_seen > 2000 * 64);
}

static void pipes_run_plain_lines(void **state)
{
	int in[2], out[2];

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe2(out, O_NONBLOCK), 0);
	open_console(in[0], out[1]);
	assert_int_equal(write(in[1], "show port stats all\n\n# no\nsta", 29), 29);
	assert_string_equal(output(out[0], "\n"), "packets of (all)\n");
	assert_int_equal(write(in[1], "rt tx_first\r\nprot\nport mac vm1", 30), 30);
	assert_string_equal(output(out[0], "all)\n"),
		"unknown command 'prot'; did you mean 'port'? ('help' lists all)\n");
	assert_string_equal(sample.row, "start");
	assert_int_equal(ended, 0);
	close(in[1]);
	assert_string_equal(output(out[0], "\n"), "cleared 00\n"); /* without a line end */
	pump();
	assert_int_equal(ended, 1 + CONSOLE_EOF);
	assert_int_equal(console_failures(console), 1);
	assert_int_equal(fcntl(out[1], F_GETFL) & O_ACCMODE, O_WRONLY);
	close(in[0]);
	close(out[0]);
	close(out[1]);
}

static void odd_lines_of_a_pipe_are_told(void **state)
{
	char *line = malloc(70000);
	int in[2], out[2];

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe2(out, O_NONBLOCK), 0);
	open_console(in[0], out[1]);
	fcntl(in[1], F_SETPIPE_SZ, 1 << 20);
	memset(line, 'x', 70000);
	line[69998] = '\n';
	assert_int_equal(write(in[1], line, 70000 - 1), 70000 - 1);
	assert_int_equal(write(in[1], "start\0x\nstart\nquit\nstart\n", 25), 25);
	assert_string_equal(output(out[0], "byte\n"),
		"the line is too long, more than 65536 bytes\nthe line has a NUL byte\n");
	assert_int_equal(ended, 1 + CONSOLE_STOP);
	assert_int_equal(sample.runs, 2);
	assert_int_equal(console_failures(console), 2);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
	free(line);
}

static void a_slow_pipe_does_not_block(void **state)
{
	int in[2], out[2];

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0); /* blocking, as a shell makes it */
	open_console(in[0], out[1]);
	assert_int_equal(write(in[1], "blob 5000\nstart\n", 16), 16);
	pump();
	assert_string_equal(sample.row, "start");
	assert_int_equal(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	output(out[0], "abcde\n");
	while (n_seen < 5000 * 64) {
		size_t before = n_seen;

		output(out[0], "\n");
		n_seen += before;
	}
	assert_int_equal(n_seen, 5000 * 64);
	assert_int_equal(write(in[1], "blob 5000\n", 10), 10);
	pump();
	close(out[0]); /* and nobody reads the rest: no signal, no wait */
	for (int i = 0; i < 2; i++)
		close(in[i]);
	pump();
	console_free(console);
	console = NULL;
	close(out[1]);
}

static void files_are_read(void **state)
{
	int in = memfd_create("in", MFD_CLOEXEC), out = memfd_create("out", MFD_CLOEXEC);

	assert_int_equal(write(in, "show port stats all\nset burst 5", 31), 31);
	lseek(in, 0, SEEK_SET);
	open_console(in, out);
	AWAIT(ended);
	assert_int_equal(ended, 1 + CONSOLE_EOF);
	assert_int_equal(sample.n, 5);
	assert_int_equal(pread(out, seen, sizeof(seen), 0), 17);
	close(in);
	close(out);
}

static void dev_null_is_the_end(void **state)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	open_console(fd, fd);
	AWAIT(ended);
	assert_int_equal(ended, 1 + CONSOLE_EOF);
	close(fd);
}

static void free_and_clear(enum console_end why, void *arg)
{
	console_free(console);
	console = NULL;
}

static void may_be_freed_when_it_ends(void **state)
{
	struct console_conf conf = {slave, slave, "> ", free_and_clear, NULL};
	char err[256];

	console_free(console);
	assert_int_equal(console_new(base, reg, &conf, &console, err, sizeof(err)), 0);
	assert_int_equal(write(master, "start\r\003start\r", 13), 13);
	AWAIT(!console);
	assert_int_equal(sample.runs, 1);
}

static void long_prompts_are_refused(void **state)
{
	struct console_conf conf = {0, 1, "12345678901234567890123456789012", on_end, &ended};
	char err[256];

	assert_int_equal(console_new(base, reg, &conf, &console, err, sizeof(err)), -EINVAL);
	assert_string_equal(err, "the prompt is longer than 31 bytes");
}

#define ON_TERMINAL(test) cmocka_unit_test_setup_teardown(test, setup_terminal, teardown_terminal)
#define ON_PIPE(test)     cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		ON_TERMINAL(lines_are_edited_and_run),
		ON_TERMINAL(tab_completes),
		ON_TERMINAL(interrupt_ends_and_restores),
		ON_TERMINAL(end_of_file_ends),
		ON_TERMINAL(quit_ends),
		ON_TERMINAL(hangup_ends),
		ON_TERMINAL(news_go_above_the_prompt),
		ON_TERMINAL(a_stopped_terminal_does_not_block),
		ON_TERMINAL(may_be_freed_when_it_ends),
		ON_PIPE(pipes_run_plain_lines),
		ON_PIPE(odd_lines_of_a_pipe_are_told),
		ON_PIPE(a_slow_pipe_does_not_block),
		ON_PIPE(files_are_read),
		ON_PIPE(dev_null_is_the_end),
		ON_PIPE(long_prompts_are_refused),
	};

	return ts_run_tests(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}

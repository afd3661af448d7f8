/* SPDX-License-Identifier: BSD-3-Clause */
/* Tests of the control socket: requests good and bad, slow and many clients, and the socket file. */
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctlsock.h"
#include "sample_commands.h"
#include "ts_tap.h"

static struct sample sample;
static struct cmd_registry *reg;
static struct event_base *base;
static struct ctlsock *sock;
static char dir[64], path[96], err[256];
static int fds_before;

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int setup(void **state)
{
	fds_before = count_fds();
	memset(&sample, 0, sizeof(sample));
	strcpy(dir, "/tmp/sluice-test-ctlsock-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/control.sock", dir);
	reg = sample_registry(&sample);
	base = event_base_new();
	sock = NULL;
	return 0;
}

static int setup_listening(void **state)
{
	setup(state);
	if (ctlsock_new(base, reg, path, NULL, &sock, err, sizeof(err)))
		fail_msg("%s", err);
	return 0;
}

static int teardown(void **state)
{
	ctlsock_free(sock);
	event_base_free(base);
	cmd_registry_free(reg);
	assert_int_equal(rmdir(dir), 0); /* the socket file is gone */
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

static void pump(int turns)
{
	while (turns-- > 0)
		event_base_loop(base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
}

static int client(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* Serve until the client has a whole line, which replaces the last one, or the end. */
static const char *next_line(int fd)
{
	static char *line;
	static const size_t piece = 65536;
	size_t len = 0;

	free(line);
	line = NULL;
	for (int idle = 0; idle < 2000; idle++) {
		ssize_t n;
		char *end;

		line = realloc(line, len + piece + 1);
		n = recv(fd, line + len, piece, MSG_DONTWAIT | MSG_PEEK);
		if (n == 0)
			return NULL;
		if (n < 0) {
			pump(1);
			continue;
		}
		idle = 0;
		end = memchr(line + len, '\n', (size_t)n);
		n = recv(fd, line + len, end ? (size_t)(end + 1 - line) - len : (size_t)n, 0);
		len += (size_t)n;
		if (end) {
			line[len - 1] = '\0';
			return line;
		}
	}
	fail_msg("no answer, only %zu bytes", len);
	return NULL;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void expect(int fd, const char *request, const char *answer)
{
	const char *line;

	say(fd, request);
	say(fd, "\n");
	line = next_line(fd);
	assert_non_null(line);
	assert_string_equal(line, answer);
}

static void expect_closed(int fd)
{
	assert_null(next_line(fd));
	close(fd);
}

static void stop_clients(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	pump(5);
	assert_int_equal(ctlsock_clients(sock), 0);
}

#define RUN(id, command)                   \
	"{\"jsonrpc\":\"2.0\",\"id\":" #id \
	",\"method\":\"run\",\"params\":{\"command\":\"" command "\"}}"
#define OK(id, body)    "{\"jsonrpc\":\"2.0\",\"id\":" #id ",\"result\":" body "}"
#define ERROR(id, body) "{\"jsonrpc\":\"2.0\",\"id\":" #id ",\"error\":" body "}"

static void commands_are_answered(void **state)
{
	int fd = client();

	expect(fd, RUN(1, "show port stats all"),
		OK(1, "{\"text\":\"packets of "
		      "(all)\\n\",\"data\":{\"port\":\"(all)\",\"packets\":7}}"));
	expect(fd, RUN("x", "set burst 32"), OK("x", "{\"text\":\"\",\"data\":{\"text\":\"\"}}"));
	assert_int_equal(sample.n, 32);
	expect(fd, RUN(null, ""), OK(null, "{\"text\":\"\",\"data\":{\"text\":\"\"}}"));
	expect(fd, RUN(2, "port del vm1"),
		ERROR(2, "{\"code\":-2,\"message\":\"there is no port 'vm1'\"}"));
	expect(fd, RUN(3, "prot"),
		ERROR(3, "{\"code\":-22,\"message\":\"unknown command 'prot'; did you mean 'port'? "
			 "('help' lists all)\"}"));
	expect(fd, RUN(4, "grumble"),
		ERROR(4, "{\"code\":-5,\"message\":\"the other half is missing\","
			 "\"data\":{\"text\":\"half of it\\n\",\"data\":{\"text\":\"half of "
			 "it\\n\"}}}"));
	expect(fd, RUN(5, "latin"),
		OK(5, "{\"text\":\"caf?\\n\",\"data\":{\"text\":\"caf?\\n\"}}"));
	expect(fd, RUN(6, "port\\nshow"),
		ERROR(6, "{\"code\":-22,\"message\":\"a command is one line: give one at a "
			 "time\"}"));
	expect(fd,
		"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"complete\",\"params\":{\"line\":\"set "
		"fwd mac\"}}",
		OK(7, "{\"start\":8,\"words\":[\"mac\",\"macswap\"]}"));
	stop_clients(&fd, 1);
}

static void bad_requests_are_answered_and_survived(void **state)
{
	static const struct {
		const char *request;
		int code;
	} cases[] = {
		{"hello", -32700},
		{"{", -32700},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"run\"} x", -32700},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", -32700},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"run\",\"params\":{\"command\":"
		 "\"a\\u0000b\"}}",
			-32700},
		{"5", -32600},
		{"null", -32600},
		{"\"run\"", -32600},
		{"[" RUN(1, "quit") "]", -32600},
		{"{}", -32600},
		{"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"run\"}", -32600},
		{"{\"jsonrpc\":\"2.0\",\"id\":[1],\"method\":\"run\"}", -32600},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", -32600},
		{"{\"jsonrpc\":\"2.0\",\"id\":1}", -32600},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"walk\"}", -32601},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"run\"}", -32602},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"run\",\"params\":[\"help\"]}", -32602},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"run\",\"params\":{\"command\":5}}",
			-32602},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"complete\",\"params\":{}}", -32602},
	};
	int fd = client();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *answer, *error;

		say(fd, cases[i].request);
		say(fd, "\n");
		answer = json_loads(next_line(fd), 0, NULL);
		error = json_object_get(answer, "error");
		if (json_integer_value(json_object_get(error, "code")) != cases[i].code)
			fail_msg("%s: %s", cases[i].request, json_dumps(answer, 0));
		assert_null(strchr(json_string_value(json_object_get(error, "message")), '\n'));
		assert_non_null(json_object_get(answer, "id"));
		assert_int_equal(json_is_null(json_object_get(answer, "id")),
			cases[i].code > -32601 || cases[i].code == -32700);
		json_decref(answer);
	}
	assert_int_equal(sample.runs, 0);
	say(fd, "\n  \r\n\t\n"); /* blank lines are nothing */
	say(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"run\",\"params\":{\"command\":\"set burst "
		"9\"}}\r\n");
	expect(fd, RUN(9, "start"), OK(9, "{\"text\":\"\",\"data\":{\"text\":\"\"}}"));
	assert_int_equal(sample.runs, 2); /* the notification ran, without an answer */
	stop_clients(&fd, 1);
}

static void deep_and_broken_json_is_survived(void **state)
{
	char *deep = malloc(60002);
	int fd = client();

	memset(deep, '[', 60000);
	strcpy(deep + 60000, "\n");
	say(fd, deep);
	assert_non_null(strstr(next_line(fd), "-32700"));
	for (size_t i = 0; i + 5 < 60000; i += 5)
		memcpy(deep + i, "{\"a\":", 5);
	say(fd, deep);
	assert_non_null(strstr(next_line(fd), "-32700"));
	send(fd, "\0\0\n", 3, 0);
	assert_non_null(strstr(next_line(fd), "-32700"));
	expect(fd, RUN(1, "start"), OK(1, "{\"text\":\"\",\"data\":{\"text\":\"\"}}"));
	free(deep);
	stop_clients(&fd, 1);
}

static void long_lines_end_their_connection(void **state)
{
	char *line = malloc(CTLSOCK_LINE_MAX + 2);
	size_t n = strlen(RUN(1, "start"));
	int fd = client(), other = client();

	memset(line, ' ', CTLSOCK_LINE_MAX + 1);
	memcpy(line, RUN(1, "start"), n);
	line[CTLSOCK_LINE_MAX] = '\n';
	line[CTLSOCK_LINE_MAX + 1] = '\0';
	say(fd, line); /* as long as may be */
	assert_string_equal(next_line(fd), OK(1, "{\"text\":\"\",\"data\":{\"text\":\"\"}}"));
	line[CTLSOCK_LINE_MAX] = ' ';
	say(fd, line);
	assert_non_null(strstr(next_line(fd), "a request is at most 65536 bytes long"));
	expect_closed(fd);
	expect(other, RUN(1, "start"), OK(1, "{\"text\":\"\",\"data\":{\"text\":\"\"}}"));
	free(line);
	stop_clients(&other, 1);
}

static void requests_arrive_in_pieces(void **state)
{
	static const char request[] = RUN(1, "start") "\n";
	int fd = client();

	for (size_t i = 0; i < sizeof(request) - 1; i++) {
		assert_int_equal(send(fd, &request[i], 1, 0), 1);
		pump(1);
	}
	assert_string_equal(next_line(fd), OK(1, "{\"text\":\"\",\"data\":{\"text\":\"\"}}"));
	send(fd, request, 10, 0); /* and one that never ends */
	pump(2);
	stop_clients(&fd, 1);
}

static void a_flood_leaves_others_their_turn(void **state)
{
	size_t n = strlen(RUN(1, "start") "\n");
	int fd = client(), other = client();
	char *flood;

	flood = malloc(500 * n + 1);
	for (int i = 0; i < 500; i++)
		strcpy(flood + i * n, RUN(1, "start") "\n");
	say(fd, flood);
	free(flood);
	pump(3);
	assert_true(sample.runs < 200);
	say(other, RUN(2, "set burst 3") "\n");
	assert_string_equal(next_line(other), OK(2, "{\"text\":\"\",\"data\":{\"text\":\"\"}}"));
	assert_true(sample.runs < 400);
	for (int i = 0; i < 500; i++)
		assert_non_null(strstr(next_line(fd), "\"result\""));
	assert_int_equal(sample.runs, 501);
	stop_clients((int[]){fd, other}, 2);
}

static void a_slow_reader_waits_alone(void **state)
{
	int fd = client(), other = client();

	for (int i = 0; i < 100; i++)
		say(fd, RUN(1, "blob 10000") "\n"); /* 1.3 MB of answer each */
	pump(500);
	assert_true(sample.runs >= 1 && sample.runs <= 3);
	expect(other, RUN(2, "start"), OK(2, "{\"text\":\"\",\"data\":{\"text\":\"\"}}"));
	for (int i = 0; i < 20; i++)
		assert_true(strlen(next_line(fd)) > 1280000);
	assert_true(sample.runs < 30);
	stop_clients((int[]){fd, other}, 2); /* with answers unread */
}

static void endless_answers_are_refused(void **state)
{
	int fd = client();

	say(fd, RUN(1, "blob 140000") "\n");
	assert_non_null(strstr(next_line(fd), "\"code\":-32000,\"message\":\"the answer is 18"));
	expect(fd, RUN(1, "start"), OK(1, "{\"text\":\"\",\"data\":{\"text\":\"\"}}"));
	stop_clients(&fd, 1);
}

static void clients_are_counted(void **state)
{
	int fds[CTLSOCK_CLIENTS_MAX], late;

	for (int i = 0; i < CTLSOCK_CLIENTS_MAX; i++) {
		fds[i] = client();
		pump(1);
	}
	assert_int_equal(ctlsock_clients(sock), CTLSOCK_CLIENTS_MAX);
	late = client();
	assert_string_equal(next_line(late),
		ERROR(null, "{\"code\":-32000,\"message\":\"64 clients are connected "
			    "already: close one, then try again\"}"));
	expect_closed(late);
	close(fds[7]);
	pump(3);
	fds[7] = client();
	for (int i = 0; i < CTLSOCK_CLIENTS_MAX; i++)
		expect(fds[i], RUN(1, "start"), OK(1, "{\"text\":\"\",\"data\":{\"text\":\"\"}}"));
	stop_clients(fds, CTLSOCK_CLIENTS_MAX);
}

static void half_closed_clients_get_their_answers(void **state)
{
	int fd = client();

	for (int i = 0; i < 40; i++)
		say(fd, RUN(1, "start") "\n");
	say(fd, RUN(2, "blob 20000") "\n" RUN(3, "never ends"));
	shutdown(fd, SHUT_WR);
	for (int i = 0; i < 40; i++)
		assert_non_null(strstr(next_line(fd), "\"id\":1"));
	assert_true(strlen(next_line(fd)) > 2560000);
	expect_closed(fd);
	assert_int_equal(sample.runs, 41);
	assert_int_equal(ctlsock_clients(sock), 0);
}

static void quit_is_answered_before_the_end(void **state)
{
	int fd = client();

	say(fd, RUN(1, "quit") "\n");
	while (!sample.stopped)
		event_base_loop(base, EVLOOP_ONCE);
	ctlsock_free(sock); /* as the program does after its loop */
	sock = NULL;
	assert_string_equal(next_line(fd), OK(1, "{\"text\":\"\",\"data\":{\"text\":\"\"}}"));
	expect_closed(fd);
}

static void no_descriptor_left_is_survived(void **state)
{
	struct rlimit limit, low;
	int fd = client(), held[64], n = 0;
	struct timeval pause = {1, 200000};

	getrlimit(RLIMIT_NOFILE, &limit);
	low = limit;
	low.rlim_cur = (rlim_t)count_fds() + 4;
	setrlimit(RLIMIT_NOFILE, &low);
	while (n < 64 && (held[n] = dup(0)) >= 0)
		n++;
	pump(50); /* accept() fails, once */
	assert_int_equal(ctlsock_clients(sock), 0);
	while (n > 0)
		close(held[--n]);
	setrlimit(RLIMIT_NOFILE, &limit);
	event_base_loopexit(base, &pause);
	event_base_dispatch(base);
	assert_int_equal(ctlsock_clients(sock), 1);
	expect(fd, RUN(1, "start"), OK(1, "{\"text\":\"\",\"data\":{\"text\":\"\"}}"));
	stop_clients(&fd, 1);
}

static int bind_at(const char *where)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, where);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* The message has the path in its place. */
static void expect_refused(const char *where, int code, const char *message)
{
	char want[512], text[400];

	snprintf(text, sizeof(text), message, where);
	snprintf(want, sizeof(want), "control socket: %s", text);
	assert_int_equal(ctlsock_new(base, reg, where, NULL, &sock, err, sizeof(err)), code);
	assert_string_equal(err, want);
	assert_null(sock);
}

static void a_stale_socket_is_replaced(void **state)
{
	struct stat st;
	mode_t mask;
	int fd;

	close(bind_at(path));
	mask = umask(0077);
	assert_int_equal(ctlsock_new(base, reg, path, NULL, &sock, err, sizeof(err)), 0);
	umask(mask);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0660);
	fd = client();
	expect(fd, RUN(1, "start"), OK(1, "{\"text\":\"\",\"data\":{\"text\":\"\"}}"));
	stop_clients(&fd, 1);
}

static void what_is_not_ours_is_left_alone(void **state)
{
	int fd = bind_at(path), n, backlog[4];
	const char *another = "another program serves %s: stop it or choose another path";
	struct stat before, after;

	listen(fd, 0);
	stat(path, &before);
	expect_refused(path, -EADDRINUSE, another);
	for (n = 0; n < 4; n++) { /* now its queue is full, and it still listens */
		struct sockaddr_un addr = {.sun_family = AF_UNIX};

		strcpy(addr.sun_path, path);
		backlog[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)!connect(backlog[n], (struct sockaddr *)&addr, sizeof(addr));
	}
	expect_refused(path, -EADDRINUSE, another);
	while (n > 0)
		close(backlog[--n]);
	close(fd);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 1, 1), 0);
		expect_refused(path, -EADDRINUSE,
			"%s is a stale socket of user 1: remove it or choose another path");
	}
	stat(path, &after);
	assert_int_equal(after.st_ino, before.st_ino);
	unlink(path);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	expect_refused(path, -EADDRINUSE, "%s exists and is not a socket: choose another path");
	unlink(path);
	assert_int_equal(symlink("/nowhere", path), 0);
	expect_refused(path, -EADDRINUSE, "%s exists and is not a socket: choose another path");
	unlink(path);
}

static void impossible_paths_get_one_line(void **state)
{
	char where[200];

	snprintf(where, sizeof(where), "%s/none/control.sock", dir);
	expect_refused(where, -ENOENT,
		"cannot listen at %s: No such file or directory: make its directory, or choose "
		"another path");
	expect_refused("", -EINVAL, "a socket path is missing");
	memset(where, 'a', 108);
	where[108] = '\0';
	assert_int_equal(
		ctlsock_new(base, reg, where, NULL, &sock, err, sizeof(err)), -ENAMETOOLONG);
	assert_string_equal(err,
		"control socket: the socket path has 108 bytes and its last name 108, at most 85 "
		"are possible there: choose a shorter one");
	assert_int_equal(chdir(dir), 0);
	where[107] = '\0';
	assert_int_equal(ctlsock_new(base, reg, where, NULL, &sock, err, sizeof(err)), 0);
	ctlsock_free(sock);
	sock = NULL;
	assert_int_equal(chdir("/"), 0);
}

static void only_our_file_is_unlinked(void **state)
{
	int fd;

	assert_int_equal(ctlsock_new(base, reg, path, NULL, &sock, err, sizeof(err)), 0);
	fd = client();
	unlink(path);
	close(bind_at(path)); /* somebody took the path */
	ctlsock_free(sock);
	sock = NULL;
	assert_int_equal(unlink(path), 0);
	close(fd);
}

static void own_directories_are_made(void **state)
{
	bool had = access("/run/sluice", F_OK) == 0;
	char where[96], deep[128];
	struct stat st;
	mode_t mask;

	if (access("/run", W_OK) != 0)
		ts_skip("/run is not writable");
	snprintf(where, sizeof(where), "/run/sluice/test-%d", (int)getpid());
	snprintf(deep, sizeof(deep), "%s/control.sock", where);
	mask = umask(0077);
	assert_int_equal(ctlsock_new(base, reg, deep, NULL, &sock, err, sizeof(err)), 0);
	umask(mask);
	assert_int_equal(stat(where, &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0755);
	ctlsock_free(sock);
	sock = NULL;
	assert_int_equal(rmdir(where), 0);
	if (!had)
		rmdir("/run/sluice");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(commands_are_answered, setup_listening, teardown),
		cmocka_unit_test_setup_teardown(
			bad_requests_are_answered_and_survived, setup_listening, teardown),
		cmocka_unit_test_setup_teardown(
			deep_and_broken_json_is_survived, setup_listening, teardown),
		cmocka_unit_test_setup_teardown(
			long_lines_end_their_connection, setup_listening, teardown),
		cmocka_unit_test_setup_teardown(
			requests_arrive_in_pieces, setup_listening, teardown),
		cmocka_unit_test_setup_teardown(
			a_flood_leaves_others_their_turn, setup_listening, teardown),
		cmocka_unit_test_setup_teardown(
			a_slow_reader_waits_alone, setup_listening, teardown),
		cmocka_unit_test_setup_teardown(
			endless_answers_are_refused, setup_listening, teardown),
		cmocka_unit_test_setup_teardown(clients_are_counted, setup_listening, teardown),
		cmocka_unit_test_setup_teardown(
			half_closed_clients_get_their_answers, setup_listening, teardown),
		cmocka_unit_test_setup_teardown(
			quit_is_answered_before_the_end, setup_listening, teardown),
		cmocka_unit_test_setup_teardown(
			no_descriptor_left_is_survived, setup_listening, teardown),
		cmocka_unit_test_setup_teardown(a_stale_socket_is_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_ours_is_left_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(impossible_paths_get_one_line, setup, teardown),
		cmocka_unit_test_setup_teardown(only_our_file_is_unlinked, setup, teardown),
		cmocka_unit_test_setup_teardown(own_directories_are_made, setup, teardown),
	};

	return ts_run_tests(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tests of the command machinery: grammar, matching, error lines, files, help, completion,
 * rendering.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sample_commands.h"
#include "ts_tap.h"

static struct sample sample;
static struct cmd_registry *reg;

static int setup(void **state)
{
	memset(&sample, 0, sizeof(sample));
	reg = sample_registry(&sample);
	return 0;
}

static int teardown(void **state)
{
	cmd_registry_free(reg);
	return 0;
}

static void expect_ok(const char *line, const char *row)
{
	struct cmd_result res;

	sample.row[0] = '\0';
	if (cmd_run(reg, line, &res))
		print_error("%s: %s\n", line, res.error);
	assert_int_equal(res.err, 0);
	assert_null(res.error);
	assert_non_null(res.text);
	assert_non_null(res.data);
	assert_string_equal(sample.row, row);
	cmd_result_clear(&res);
}

static void expect_error(const char *line, const char *error)
{
	struct cmd_result res;
	unsigned int runs = sample.runs;

	assert_true(cmd_run(reg, line, &res) < 0);
	assert_string_equal(res.error, error);
	assert_int_equal(sample.runs, runs);
	cmd_result_clear(&res);
}

static void values_reach_the_handler(void **state)
{
	expect_ok("port add vm1 listen /run/a.sock", "port add");
	assert_string_equal(sample.name, "vm1");
	assert_string_equal(sample.path, "/run/a.sock");
	assert_int_equal(sample.n, 0);
	expect_ok("port add vm1 connect /run/a.sock queues 128", "port add");
	assert_int_equal(sample.n, 128);
	expect_ok("port add up0 dev net_tap0,iface=tap0   # the uplink", "port add");
	assert_string_equal(sample.args, "net_tap0,iface=tap0");
	expect_ok("  port\tadd x dev a  'b c' \"d \\\" \\\\ \"  ", "port add");
	assert_string_equal(sample.args, "a b c d \" \\ ");
	expect_ok("set fwd macswap", "set fwd");
	assert_string_equal(sample.name, "macswap");
	expect_ok("set fwd io retry", "set fwd");
	expect_ok("set burst 0x20", "set burst");
	assert_int_equal(sample.n, 32);
	expect_ok("set portmask ff", "set portmask");
	assert_int_equal(sample.n, 255);
	expect_ok("set portmask 0xF0", "set portmask");
	assert_int_equal(sample.n, 240);
	expect_ok("start", "start");
	assert_int_equal(sample.n, 0);
	expect_ok("start tx_first", "start");
	assert_int_equal(sample.n, 1);
	expect_ok("start tx_first 65535\r", "start");
	assert_int_equal(sample.n, 65535);
	expect_ok("port mac vm1 52:54:00:12:34:5F", "port mac");
	expect_ok("port mac vm1", "port mac");
}

static void options_come_in_any_order(void **state)
{
	expect_ok("port add a listen p queues 2 mode client", "port add");
	expect_ok("port add a listen p mode client queues 3", "port add");
	assert_int_equal(sample.n, 3);
	expect_ok("port add a listen p mode client", "port add");
	expect_error("port add a listen p queues 2 queues 3", "port add: 'queues' is given twice");
}

static void literals_beat_parameters(void **state)
{
	expect_ok("show port stats all", "show port stats");
	assert_string_equal(sample.name, "(all)");
	expect_ok("show port stats \"all\"", "show port stats");
	assert_string_equal(sample.name, "all");
	expect_ok("show port vm1", "show any");
	expect_ok("show port 'stats'", "show any");
	expect_error(
		"show port stats", "show port stats: expected 'all' or PORT, but the line ends");
	expect_ok("port add listen listen p", "port add");
	assert_string_equal(sample.name, "listen");
	expect_ok("port add '' listen p", "port add");
	assert_string_equal(sample.name, "");
}

static void nothing_is_no_error(void **state)
{
	expect_ok("", "");
	expect_ok("   ", "");
	expect_ok("# all of it a comment 'with a quote", "");
	expect_ok("port add a dev x#y #z", "port add");
	assert_string_equal(sample.args, "x#y");
}

static void errors_name_word_and_expectation(void **state)
{
	expect_error("port add vm1 lsten /run/a",
		"port add: expected 'listen', 'connect' or 'dev' after NAME, got 'lsten'");
	expect_error("port add vm1 listen /p queues 200", "queues: 200 is out of range, 1 to 128");
	expect_error("port add vm1 listen /p queues 0", "queues: 0 is out of range, 1 to 128");
	expect_error("port add vm1 listen /p queues -1", "queues: -1 is out of range, 1 to 128");
	expect_error(
		"port add vm1 listen /p queues two", "queues: 'two' is not a number, 1 to 128");
	expect_error("port add vm1 listen /p queues",
		"port add: expected N (1 to 128) after 'queues', but the line ends");
	expect_error("port add vm1 listen /p quues 2", "port add: expected 'queues', 'mode' or the "
						       "end of the line after PATH, got 'quues'");
	expect_error("port add vm1 listen /p mode mixed",
		"port add: expected 'server' or 'client' after 'mode', got 'mixed'");
	expect_error(
		"port add vm1 listen", "port add: expected PATH after 'listen', but the line ends");
	expect_error(
		"port add vm1 dev", "port add: expected DEVARGS after 'dev', but the line ends");
	expect_error("port add", "port add: expected NAME, but the line ends");
	expect_error("port del a b", "port del: expected the end of the line after NAME, got 'b'");
	expect_error(
		"prot add vm1", "unknown command 'prot'; did you mean 'port'? ('help' lists all)");
	expect_error("xyzzy", "unknown command 'xyzzy' ('help' lists all)");
	expect_error("'port' add",
		"unknown command 'port' (in quotes); did you mean 'port'? ('help' lists all)");
	expect_error("set burst 18446744073709551616",
		"set burst: 18446744073709551616 is out of range, 1 to 512");
	expect_error("set burst 5x", "set burst: '5x' is not a number, 1 to 512");
	expect_error("set burst ''", "set burst: '' (in quotes) is not a number, 1 to 512");
	expect_error("blob 0", "blob: 0 is out of range, 1 or more");
	expect_error(
		"set fwd ioo", "set fwd: expected 'io', 'mac', 'macswap' or 'rxonly', got 'ioo'");
	expect_error("set portmask 0xg",
		"set portmask: '0xg' is not a hexadecimal number of up to 64 bits");
	expect_error("port mac vm1 52:54:00:12:34",
		"port mac: expected ADDR or the end of the line after PORT, got '52:54:00:12:34'");
	expect_error("start now", "start: expected 'tx_first' or the end of the line, got 'now'");
	expect_error("start tx_first 65536", "start tx_first: 65536 is out of range, 1 to 65535");
	expect_error("pu", "unknown command 'pu' ('help' lists all)");
	expect_error("por", "unknown command 'por'; did you mean 'port'? ('help' lists all)");
	expect_error("a\001b", "unknown command 'a?b' ('help' lists all)");
	expect_error("port add 'x", "the single quote at column 10 is not closed");
	expect_error("port add x\nport add y", "a command is one line: give one at a time");
}

static void long_lines_are_bounded(void **state)
{
	char *line = malloc(CMD_LINE_MAX + 2);

	memset(line, 'x', CMD_LINE_MAX + 1);
	line[CMD_LINE_MAX + 1] = '\0';
	expect_error(line, "the line is 65537 bytes long, more than 65536");
	line[CMD_LINE_MAX] = '\0';
	expect_error(line, "unknown command 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...' "
			   "('help' lists all)");
	for (size_t i = 1; i < CMD_LINE_MAX; i += 2)
		line[i] = ' ';
	expect_error(line, "the line has more than 512 words");
	line[2 * CMD_WORDS_MAX] = '\0';
	expect_error(line, "unknown command 'x' ('help' lists all)");
	memcpy(line, "port add a dev  ", 16);
	expect_ok(line, "port add");
	free(line);
}

/* All rows of a table with one wrong grammar, and what the compiler says. */
static void wrong_grammars_are_refused(void **state)
{
	static const char *const cases[][2] = {
		{"", "column 1: expected a word"},
		{"NAME", "column 5: a command begins with a lower-case word"},
		{"(a|b) c", "column 8: a command begins with a lower-case word"},
		{"a (b|c", "column 7: expected '|' or ')'"},
		{"a [b", "column 5: expected '|' or ']'"},
		{"a [b)", "column 5: expected '|' or ']'"},
		{"a b)", "column 4: a bracket is closed that was not opened"},
		{"a | b", "column 3: a bracket is closed that was not opened"},
		{"a (|b)", "column 4: expected a word"},
		{"a []", "column 4: expected a word"},
		{"a [[b]]", "column 7: nothing but [] stands here"},
		{"a (b|[c] [d])", "column 13: nothing but [] stands here"},
		{"a N:5..3", "column 9: the range ends below its beginning"},
		{"a N:5", "column 5: a range is written LOW..HIGH or LOW.."},
		{"a N:oct", "column 5: a type is LOW..HIGH, hex, mac or the upper-case name of a "
			    "completer"},
		{"a N:1..5...", "column 12: the rest of a line has no type"},
		{"a X... b", "column 9: nothing can follow '...'"},
		{"a X... [b]", "column 11: nothing can follow '...'"},
		{"a [X...] b", "column 11: nothing can follow '...'"},
		{"a X b X", "column 8: a parameter's name is there twice"},
		{"a X [b X]", "column 10: a parameter's name is there twice"},
		{"a [b X] [c X]", "column 14: a parameter's name is there twice"},
		{"a bC", "column 4: expected a blank"},
		{"a Xc", "column 4: expected a blank"},
		{"a b...", "column 4: expected a blank"},
		{"a *", "column 3: expected a word, '(' or '['"},
	};
	static const char *const good[] = {"a (b X|c X)", "a [X...]", "a [b X] [Y...]",
		"a [b [c [d]]]", "a ((b|c) d|e)", "5tswap link-up", "a [b|X]"};
	char err[256], want[256];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct command rows[] = {
			{cases[i][0], "help", NULL, (int (*)(struct cmd *))abort, 0}, {0}};
		struct command_group group = {"t", rows};
		struct cmd_registry *r = NULL;

		snprintf(want, sizeof(want), "grammar \"%s\", %s", cases[i][0], cases[i][1]);
		assert_int_equal(cmd_registry_new(&group, 1, NULL, &r, err, sizeof(err)), -EINVAL);
		assert_string_equal(err, want);
		assert_null(r);
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct command rows[] = {
			{good[i], "help", NULL, (int (*)(struct cmd *))abort, 0}, {0}};
		struct command_group group = {"t", rows};
		struct cmd_registry *r = NULL;

		if (cmd_registry_new(&group, 1, NULL, &r, err, sizeof(err)))
			fail_msg("%s", err);
		cmd_registry_free(r);
	}
}

static void answers_complete_each_other(void **state)
{
	struct cmd_result res;

	assert_int_equal(cmd_run(reg, "show port stats all", &res), 0);
	assert_string_equal(res.text, "packets of (all)\n");
	assert_int_equal(json_integer_value(json_object_get(res.data, "packets")), 7);
	cmd_result_clear(&res);

	assert_int_equal(cmd_run(reg, "port mac vm1", &res), 0);
	assert_string_equal(json_string_value(json_object_get(res.data, "text")), "cleared 00\n");
	cmd_result_clear(&res);

	assert_int_equal(cmd_run(reg, "latin", &res), 0);
	assert_string_equal(res.text, "caf\xe9\n");
	assert_string_equal(json_string_value(json_object_get(res.data, "text")), "caf?\n");
	cmd_result_clear(&res);

	assert_int_equal(cmd_run(reg, "port show vm1", &res), 0);
	assert_string_equal(res.text, "name:     vm1\n"
				      "mtu:      1500\n"
				      "up:       yes\n"
				      "features: csum, tso4\n"
				      "memory:\n"
				      "  regions: 2\n"
				      "queues:\n"
				      "  ring  packets\n"
				      "  rx0     12345\n"
				      "  tx0         6\n");
	cmd_result_clear(&res);
}

static void failing_handlers(void **state)
{
	struct cmd_result res;

	assert_int_equal(cmd_run(reg, "port del vm9", &res), -ENOENT);
	assert_string_equal(res.error, "there is no port 'vm9'");
	cmd_result_clear(&res);
	assert_int_equal(cmd_run(reg, "grumble", &res), -EIO);
	assert_string_equal(res.error, "the other half is missing");
	assert_string_equal(res.text, "half of it\n");
	cmd_result_clear(&res);
	assert_int_equal(cmd_run(reg, "silent", &res), -EBUSY);
	assert_string_equal(res.error, "silent: Device or resource busy");
	cmd_result_clear(&res);
	assert_int_equal(cmd_run(reg, "quit", &res), 0);
	assert_true(res.stop);
	cmd_result_clear(&res);
}

static char dir[] = "/tmp/sluice-test-command-XXXXXX";

static const char *write_file(const char *name, const char *text)
{
	static char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	return path;
}

static int make_dir(void **state)
{
	setup(state);
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	return 0;
}

static int remove_dir(void **state)
{
	static const char *const files[] = {
		"good", "bad", "outer", "self", "quits", "binary", "fifo", "crlf"};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		unlink(files[i]);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(rmdir(dir), 0);
	return teardown(state);
}

static void expect_file_error(const char *path, const char *error, const char *text)
{
	struct cmd_result res;
	char line[256];

	snprintf(line, sizeof(line), "commands %s", path);
	assert_true(cmd_run(reg, line, &res) < 0);
	assert_string_equal(res.error, error);
	assert_string_equal(res.text, text);
	cmd_result_clear(&res);
}

static void files_of_commands(void **state)
{
	struct cmd_result res;

	write_file("good", "# a file\nport mac vm1\n\n  show port stats all # yes\nport mac vm1 "
			   "00:00:00:00:00:07");
	assert_int_equal(cmd_run_file(reg, "good", &res), 0);
	assert_string_equal(res.text, "cleared 00\npackets of (all)\nset 07\n");
	assert_string_equal(json_string_value(json_object_get(res.data, "text")), res.text);
	cmd_result_clear(&res);
	write_file("crlf", "port mac vm1\r\n# x\r\nset fwd io\r\n");
	expect_ok("commands crlf", "set fwd");
	assert_string_equal(sample.name, "io");

	write_file("bad", "port mac vm1\n\nport mak\nport mac vm1\n");
	expect_file_error("bad", "bad:3: port: expected 'add', 'del', 'show' or 'mac', got 'mak'",
		"cleared 00\n");
	write_file("outer", "commands good\ncommands bad\ncommands good\n");
	expect_file_error("outer",
		"outer:2: bad:3: port: expected 'add', 'del', 'show' or 'mac', got 'mak'",
		"cleared 00\npackets of (all)\nset 07\ncleared 00\n");
	write_file("quits", "port mac vm1\nquit\nport mac vm1\n");
	assert_int_equal(cmd_run(reg, "commands quits", &res), 0);
	assert_true(res.stop);
	assert_string_equal(res.text, "cleared 00\n");
	cmd_result_clear(&res);
}

static void files_that_cannot_run(void **state)
{
	struct cmd_result res;

	write_file("self", "commands self\n");
	assert_true(cmd_run(reg, "commands self", &res) < 0);
	assert_string_equal(res.error,
		"self:1: self:1: self:1: self:1: self:1: self:1: self:1: self:1: self: "
		"files of commands are nested too deep, does one run itself?");
	cmd_result_clear(&res);
	expect_file_error("none", "none: No such file or directory", "");
	expect_file_error("/", "/: not a regular file", "");
	assert_int_equal(mkfifo("fifo", 0600), 0);
	expect_file_error("fifo", "fifo: not a regular file", "");
	write_file("binary", "port mac vm1\n");
	assert_int_equal(truncate("binary", 20), 0);
	expect_file_error("binary", "binary: not a text file: it has a NUL byte", "");
	assert_int_equal(truncate("binary", CMD_FILE_MAX + 1), 0);
	expect_file_error("binary", "binary: the file is larger than 16 MiB", "");
	expect_ok("port mac vm1", "port mac");
}

static void expect_help(const char *line, const char *part, const char *absent)
{
	struct cmd_result res;

	assert_int_equal(cmd_run(reg, line, &res), 0);
	if (!strstr(res.text, part) || (absent && strstr(res.text, absent)))
		fail_msg("%s:\n%s", line, res.text);
	assert_true(json_array_size(json_object_get(res.data, "groups")) > 0);
	cmd_result_clear(&res);
}

static void help_lists_and_filters(void **state)
{
	expect_help("help", "Ports:\n  port add NAME listen PATH", "latin");
	expect_help("help", "\nHelp and files:\n  help [WORD...]      ", NULL);
	expect_help("help",
		"  set burst N:1..512                               packets in a burst\n", NULL);
	expect_help("help show", "show port stats", "set burst");
	expect_help("help stats", "Forwarding:\n  show port stats (all|PORT)", "Ports:");
	expect_help("help port show", "port show [NAME:PORT]", "port add");
	expect_help("help listen queues", "The switch listens on PATH.\n\n    A VM whose",
		"connect PATH");
	expect_error(
		"help frobnicate", "help: no command has the word 'frobnicate' ('help' lists all)");
	expect_error("help prot", "help: no command has the word 'prot'; did you mean 'port'?");
	expect_error(
		"help port burst", "help: no command has all of 'port burst' ('help' lists all)");
}

static void expect_candidates(const char *line, size_t start, const char *words)
{
	struct cmd_candidates found;
	char joined[512] = "";

	cmd_complete(reg, line, &found);
	for (size_t i = 0; i < found.n; i++) {
		strcat(joined, i > 0 ? " " : "");
		strcat(joined, found.word[i]);
	}
	assert_string_equal(joined, words);
	assert_int_equal(found.start, start);
	cmd_candidates_clear(&found);
}

static void completion_offers_words(void **state)
{
	expect_candidates("", 0, "blob commands doze grumble help port quit set show silent start");
	expect_candidates("  p", 2, "port");
	expect_candidates("port", 0, "port");
	expect_candidates("port ", 5, "add del mac show");
	expect_candidates("port a", 5, "add");
	expect_candidates("port add x ", 11, "connect dev listen");
	expect_candidates("port add ", 9, "");
	expect_candidates("port del ", 9, "0000:00:04.0 vm1 vm2");
	expect_candidates("port show v", 10, "vm1 vm2");
	expect_candidates("port show 'v", 10, "vm1 vm2");
	expect_candidates("show port stats ", 16, "0000:00:04.0 all vm1 vm2");
	expect_candidates("show port stats '", 16, "0000:00:04.0 vm1 vm2");
	expect_candidates("show port ", 10, "0000:00:04.0 stats vm1 vm2");
	expect_candidates("port add x listen p ", 20, "mode queues");
	expect_candidates("port add x listen p mode client ", 32, "queues");
	expect_candidates("set fwd m", 8, "mac macswap");
	expect_candidates("set fwd mac ", 12, "retry");
	expect_candidates("set fwd mac retry ", 18, "");
	expect_candidates("prot ", 5, "");
	expect_candidates("set burst 1000 ", 15, "");
	expect_candidates("start tx_first 12", 15, "");
	expect_candidates("lat", 0, "");
}

static void words_are_quoted_to_read_back(void **state)
{
	static const char *const words[] = {"plain", "", "with blank", "#hash", "x#y", "quo\"te",
		"apo'strophe", "back\\slash", "both \" and \\", "tab\there", "net_tap0,iface=x"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		char line[256];
		FILE *f = fmemopen(line, sizeof(line), "w");

		fputs("port add ", f);
		cmd_put_word(f, words[i]);
		fputs(" listen ", f);
		cmd_put_word(f, words[i]);
		fclose(f);
		expect_ok(line, "port add");
		assert_string_equal(sample.name, words[i]);
		assert_string_equal(sample.path, words[i]);
	}
}

static void dump_has_the_table(void **state)
{
	json_t *dump = command_dump_json(reg);
	char *text;
	json_t *groups = json_object_get(dump, "groups");
	json_t *first = json_array_get(json_object_get(json_array_get(groups, 0), "commands"), 0);

	assert_string_equal(json_string_value(json_object_get(dump, "version")), SLUICE_VERSION);
	assert_int_equal(json_array_size(groups), 4);
	assert_string_equal(
		json_string_value(json_object_get(json_array_get(groups, 0), "title")), "Ports");
	assert_string_equal(json_string_value(json_object_get(first, "grammar")),
		"port add NAME listen PATH [queues N:1..128] [mode (server|client)]");
	assert_non_null(json_object_get(first, "description"));
	text = json_dumps(groups, 0);
	assert_null(strstr(text, "latin"));
	free(text);
	json_decref(dump);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(values_reach_the_handler, setup, teardown),
		cmocka_unit_test_setup_teardown(options_come_in_any_order, setup, teardown),
		cmocka_unit_test_setup_teardown(literals_beat_parameters, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_is_no_error, setup, teardown),
		cmocka_unit_test_setup_teardown(errors_name_word_and_expectation, setup, teardown),
		cmocka_unit_test_setup_teardown(long_lines_are_bounded, setup, teardown),
		cmocka_unit_test(wrong_grammars_are_refused),
		cmocka_unit_test_setup_teardown(answers_complete_each_other, setup, teardown),
		cmocka_unit_test_setup_teardown(failing_handlers, setup, teardown),
		cmocka_unit_test_setup_teardown(files_of_commands, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(files_that_cannot_run, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(help_lists_and_filters, setup, teardown),
		cmocka_unit_test_setup_teardown(completion_offers_words, setup, teardown),
		cmocka_unit_test_setup_teardown(words_are_quoted_to_read_back, setup, teardown),
		cmocka_unit_test_setup_teardown(dump_has_the_table, setup, teardown),
	};

	return ts_run_tests(tests, sizeof(tests) / sizeof(*tests), argc, argv);
}

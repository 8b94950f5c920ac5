#include <stdlib.h>
#include <unistd.h>

#include "base/conf.h"
#include "check.h"

struct cfg {
	char listen[32];
	char name[65];
	uint64_t port;
	uint64_t window_bytes;
	uint64_t beat_ns;
	bool tls;
	int mode;
};

static const struct lb_conf_field fields[] = {
	{.key = "listen",
	 .type = LB_CT_STR,
	 .offset = offsetof(struct cfg, listen),
	 .size = sizeof(((struct cfg *)0)->listen),
	 .min = 1,
	 .max = 31,
	 .help = "address to listen on"},
	{.key = "name",
	 .type = LB_CT_NAME,
	 .offset = offsetof(struct cfg, name),
	 .size = sizeof(((struct cfg *)0)->name),
	 .dflt = "site-a"},
	{.key = "port",
	 .type = LB_CT_U64,
	 .offset = offsetof(struct cfg, port),
	 .min = 1,
	 .max = 65535,
	 .dflt = "7400"},
	{.key = "window",
	 .type = LB_CT_BYTES,
	 .offset = offsetof(struct cfg, window_bytes),
	 .min = 4096,
	 .max = 1u << 30,
	 .dflt = "8 MiB"},
	{.key = "beat",
	 .type = LB_CT_DURATION,
	 .offset = offsetof(struct cfg, beat_ns),
	 .min = 1000000,
	 .dflt = "2s"},
	{.key = "tls", .type = LB_CT_BOOL, .offset = offsetof(struct cfg, tls), .dflt = "true"},
	{.key = "mode",
	 .type = LB_CT_ENUM,
	 .offset = offsetof(struct cfg, mode),
	 .choices = "hot|sealed|off",
	 .dflt = "sealed"},
	{0},
};
static const char *const also[] = {"groups", NULL};

static struct lb_conf *parse(const char *text)
{
	struct lb_conf *c = NULL;

	assert_int_equal(lb_conf_parse(&c, "t.yaml", text, strlen(text), NULL), 0);
	return c;
}

static void test_tree(void **state)
{
	struct lb_conf *c = parse("a: 1\nlist: [x, 'y z']\nmap:\n  k: v\n  \"q\": |\n    two\n"
				  "    lines\n# end\n");
	const struct lb_conf_node *root = lb_conf_root(c);
	const struct lb_conf_node *n;

	(void)state;
	assert_int_equal(lb_conf_kind(root), LB_CONF_MAP);
	assert_int_equal(lb_conf_count(root), 3);
	assert_string_equal(lb_conf_key(root, 1), "list");
	n = lb_conf_get(root, "list");
	assert_int_equal(lb_conf_kind(n), LB_CONF_SEQ);
	assert_int_equal(lb_conf_count(n), 2);
	assert_null(lb_conf_text(n));
	assert_null(lb_conf_get(n, "x"));
	assert_string_equal(lb_conf_text(lb_conf_item(n, 1)), "y z");
	assert_int_equal(lb_conf_line(lb_conf_item(n, 1)), 2);
	assert_int_equal(lb_conf_column(lb_conf_item(n, 1)),
			 12); /* of the text, inside its quotes */
	n = lb_conf_get(root, "map");
	assert_string_equal(lb_conf_text(lb_conf_get(n, "q")), "two\nlines\n");
	assert_int_equal(lb_conf_column(lb_conf_key_node(n, 0)), 3);
	assert_null(lb_conf_get(root, "none"));
	assert_int_equal(lb_conf_problem_count(c), 0);
	assert_string_equal(lb_conf_problems(c), "");
	assert_int_equal(lb_conf_check(c, NULL), 0);
	lb_conf_destroy(c);
	lb_conf_destroy(NULL);
}

static void test_nothing_is_an_empty_map(void **state)
{
	static const char *const rows[] = {"", "---\n", "# only this\n", "\xef\xbb\xbf", "\n\n"};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct lb_conf *c = parse(rows[i]);

		assert_int_equal(lb_conf_kind(lb_conf_root(c)), LB_CONF_MAP);
		assert_int_equal(lb_conf_count(lb_conf_root(c)), 0);
		lb_conf_destroy(c);
	}
}

/* Texts that are refused, and the first line that says so. @fatal: already by the parse. */
static void test_refused_documents(void **state)
{
	static const struct {
		const char *text;
		bool fatal;
		const char *line;
	} rows[] = {
		{"a: [1, 2\nb: 3\n", true, "t.yaml:3:1: error: not YAML: "},
		{"a: 1\n\tb: 2\n", true, "t.yaml:"},
		{"a: 1\n---\nb: 2\n", true,
		 "t.yaml:2:1: error: a second document (---) in one file\n"},
		{"a: &x 1\n", false, "t.yaml:1:4: error: anchors (&) are not supported"},
		{"a: [&x {b: 1}]\n", false, "t.yaml:1:5: error: anchors (&) are not supported"},
		{"a: *x\n", false, "t.yaml:1:4: error: aliases (*) are not supported"},
		{"*x : 1\n", true, "t.yaml:1:1: error: aliases (*) are not supported"},
		{"a: !!int 1\n", false, "t.yaml:1:4: error: tags (!) are not supported\n"},
		{"<<: {b: 1}\n", false, "t.yaml:1:1: error: merge keys (<<) are not supported"},
		{"a: 1\nb: 2\na: 3\n", false,
		 "t.yaml:3:1: error: duplicate key \"a\", first on line 1\n"},
		{"m:\n  {x: 1, \"x\": 2}\n", false,
		 "t.yaml:2:11: error: duplicate key \"x\", first on line 2\n"},
		{"? [a, b]\n: 1\n", true, "t.yaml:1:3: error: a key must be a simple text\n"},
		{": 1\n", false, "t.yaml:1:1: error: a key is missing before ':'\n"},
		{"a: \"x\\0y\"\n", false, "t.yaml:1:5: error: a NUL character inside a text\n"},
		{"ok: 1\nbad: \xff\n", true, "t.yaml:2:6: error: not UTF-8 text (byte 0xff)\n"},
		{"a: \x01\n", true, "t.yaml:1:4: error: control character 0x01\n"},
		{"[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]\n", true,
		 "t.yaml:1:17: error: nested deeper than 16\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct lb_conf *c = NULL;
		struct lb_err err = {0};
		int rc = lb_conf_parse(&c, "t.yaml", rows[i].text, strlen(rows[i].text), &err);

		assert_int_equal(rc, rows[i].fatal ? LB_EINPUT : 0);
		assert_non_null(c);
		if (strncmp(lb_conf_problems(c), rows[i].line, strlen(rows[i].line)) != 0)
			fail_msg("row %zu: %s", i, lb_conf_problems(c));
		assert_int_equal(lb_conf_check(c, &err), LB_EINPUT);
		assert_int_equal(strncmp(err.msg, "t.yaml:", 7), 0);
		assert_int_equal(lb_conf_kind(lb_conf_root(c)), LB_CONF_MAP);
		lb_conf_destroy(c);
	}
}

static void test_sixteen_levels_are_fine(void **state)
{
	struct lb_conf *c = parse("[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]\n");

	(void)state;
	assert_int_equal(lb_conf_problem_count(c), 0);
	lb_conf_destroy(c);
}

static void test_too_large(void **state)
{
	struct lb_conf *c = NULL;
	struct lb_err err = {0};
	size_t len = 1024 * 1024 + 1;
	char *text = malloc(len);

	(void)state;
	assert_non_null(text);
	memset(text, '#', len);
	assert_int_equal(lb_conf_parse(&c, "big", text, len, &err), LB_EINPUT);
	assert_string_equal(err.msg, "big: 1048577 bytes, at most 1048576");
	lb_conf_destroy(c);
	assert_int_equal(lb_conf_parse(&c, "big", text, len - 1, &err), 0);
	lb_conf_destroy(c);
	/* Many values in few bytes. */
	for (size_t i = 0; i < len; i++)
		text[i] = i % 2 != 0 ? 'a' : ',';
	text[0] = '[';
	assert_int_equal(lb_conf_parse(&c, "big", text, len - 1, &err), LB_EINPUT);
	assert_non_null(strstr(err.msg, "more than 100000 values"));
	lb_conf_destroy(c);
	free(text);
}

static void test_fill_defaults(void **state)
{
	struct lb_conf *c = parse("listen: 127.0.0.1:7400\n");
	struct cfg cfg = {0};

	(void)state;
	lb_conf_fill(c, lb_conf_root(c), fields, NULL, &cfg);
	assert_int_equal(lb_conf_check(c, NULL), 0);
	assert_string_equal(cfg.listen, "127.0.0.1:7400");
	assert_string_equal(cfg.name, "site-a");
	assert_int_equal(cfg.port, 7400);
	assert_int_equal(cfg.window_bytes, 8 << 20);
	assert_int_equal(cfg.beat_ns, 2000000000u);
	assert_true(cfg.tls);
	assert_int_equal(cfg.mode, 1);
	lb_conf_destroy(c);
}

static void test_fill_values(void **state)
{
	struct lb_conf *c = parse("listen: no\nname: b.2\nport: 1\nwindow: 64 KiB\nbeat: 250ms\n"
				  "tls: false\nmode: off\ngroups: {a: 1}\n");
	struct cfg cfg = {0};

	(void)state;
	lb_conf_fill(c, lb_conf_root(c), fields, also, &cfg);
	assert_string_equal(lb_conf_problems(c), "");
	assert_string_equal(cfg.listen, "no"); /* not a boolean */
	assert_string_equal(cfg.name, "b.2");
	assert_int_equal(cfg.port, 1);
	assert_int_equal(cfg.window_bytes, 65536);
	assert_int_equal(cfg.beat_ns, 250000000u);
	assert_false(cfg.tls);
	assert_int_equal(cfg.mode, 2);
	lb_conf_destroy(c);
}

static void test_fill_of_nothing(void **state)
{
	struct lb_conf *c = parse("");
	struct cfg cfg = {0};

	(void)state;
	lb_conf_fill(c, NULL, fields, NULL, &cfg);
	assert_int_equal(cfg.port, 7400);
	assert_string_equal(lb_conf_problems(c),
			    "t.yaml: error: missing key \"listen\": address to listen on\n");
	lb_conf_destroy(c);
}

/* The message of one bad line in an otherwise good file. */
static void test_fill_refuses(void **state)
{
	static const struct {
		const char *line, *expect;
	} rows[] = {
		{"port: 0", "2:7: error: port: 0 is outside 1 to 65535\n"},
		{"port: 65536", "2:7: error: port: 65536 is outside 1 to 65535\n"},
		{"port: -1", "2:7: error: port: \"-1\" is not a whole number\n"},
		{"port: 0x10", "2:7: error: port: \"0x10\" is not a whole number\n"},
		{"port: 010", "2:7: error: port: \"010\" is not a whole number\n"},
		{"port: 18446744073709551616",
		 "2:7: error: port: \"18446744073709551616\" is not a whole number\n"},
		{"port: [1]", "2:7: error: port: expected one value, not a list\n"},
		{"port: {a: 1}", "2:7: error: port: expected one value, not a mapping\n"},
		{"port:", "2:1: error: port: no value\n"},
		{"window: 64 MB", "2:9: error: window: \"64 MB\" is not a size such as 512, 64 "
				  "KiB, 1 GiB\n"},
		{"window: 1", "2:9: error: window: 1 is outside 4 KiB to 1 GiB\n"},
		{"window: 2 GiB", "2:9: error: window: 2 GiB is outside 4 KiB to 1 GiB\n"},
		{"window: 99999999 PiB", "2:9: error: window: \"99999999 PiB\" is not a size"},
		{"beat: 5", "2:7: error: beat: \"5\" is not a duration such as 250ms, 5s, 10m, "
			    "2h, 7d\n"},
		{"beat: 1us", "2:7: error: beat: 1us is below the minimum 1ms\n"},
		{"beat: 5 parsecs", "2:7: error: beat: \"5 parsecs\" is not a duration"},
		{"tls: yes", "2:6: error: tls: \"yes\" is neither true nor false\n"},
		{"mode: seled", "2:7: error: mode: \"seled\" is none of hot|sealed|off, did you "
				"mean \"sealed\"?\n"},
		{"mode: xyzzy", "2:7: error: mode: \"xyzzy\" is none of hot|sealed|off\n"},
		{"name: a b", "2:7: error: name: \"a b\" is not a name"},
		{"name: .hidden", "2:7: error: name: \".hidden\" is not a name: it starts with"},
		{"name: ''", "2:8: error: name: 0 bytes long, must be 1 to 64\n"},
		{"prot: 1", "2:1: error: unknown key \"prot\", did you mean \"port\"?\n"},
		{"group: 1", "2:1: error: unknown key \"group\", did you mean \"groups\"?\n"},
		{"nonsense: 1", "2:1: error: unknown key \"nonsense\"\n"},
		{"mode: \"\\e[31m\"", "2:8: error: mode: \"\\x1b[31m\" is none of"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[128];
		struct cfg cfg = {0};
		struct lb_conf *c;

		(void)snprintf(text, sizeof(text), "listen: x\n%s\n", rows[i].line);
		c = parse(text);
		lb_conf_fill(c, lb_conf_root(c), fields, also, &cfg);
		assert_int_equal(lb_conf_problem_count(c), 1);
		if (strncmp(lb_conf_problems(c) + 7, rows[i].expect, strlen(rows[i].expect)) != 0)
			fail_msg("row %zu: %s", i, lb_conf_problems(c));
		lb_conf_destroy(c);
	}
}

static void test_refused_value_has_one_message(void **state)
{
	struct lb_conf *c = parse("listen: x\nport: *p\nmode: !t zzz\n");
	struct cfg cfg = {0};

	(void)state;
	lb_conf_fill(c, lb_conf_root(c), fields, NULL, &cfg);
	assert_int_equal(lb_conf_problem_count(c), 2);
	lb_conf_destroy(c);
}

static void test_not_a_map(void **state)
{
	struct lb_conf *c = parse("- a\n- b\n");
	struct cfg cfg = {0};

	(void)state;
	lb_conf_fill(c, lb_conf_root(c), fields, NULL, &cfg);
	assert_int_equal(lb_conf_problem_count(c), 1);
	assert_non_null(strstr(lb_conf_problems(c), "expected a mapping"));
	assert_int_equal(cfg.port, 7400);
	lb_conf_destroy(c);
}

/* All problems of one run, in the file's order, each with its line and a caret under the place. */
static void test_rendering(void **state)
{
	struct lb_conf *c = parse("port: 99999\nlisten: a\nmo\xc3\xa9: 1   # \xe6\x97\xa5\n"
				  "tls: \xe6\x97\xa5\xe6\x9c\xac\n");
	struct cfg cfg = {0};
	struct lb_err err;

	(void)state;
	lb_conf_fill(c, lb_conf_root(c), fields, NULL, &cfg);
	assert_string_equal(
		lb_conf_problems(c),
		"t.yaml:1:7: error: port: 99999 is outside 1 to 65535\n"
		"    1 | port: 99999\n"
		"      |       ^~~~~\n"
		"t.yaml:3:1: error: unknown key \"mo\xc3\xa9\", did you mean \"mode\"?\n"
		"    3 | mo\xc3\xa9: 1   # \xe6\x97\xa5\n"
		"      | ^~~\n"
		"t.yaml:4:6: error: tls: \"\xe6\x97\xa5\xe6\x9c\xac\" is neither true nor false\n"
		"    4 | tls: \xe6\x97\xa5\xe6\x9c\xac\n"
		"      |      ^~~~\n");
	assert_int_equal(lb_conf_check(c, &err), LB_EINPUT);
	assert_string_equal(err.msg, "t.yaml:1:7: port: 99999 is outside 1 to 65535 (and 2 more)");
	lb_conf_problem(c, NULL, "too %s", "late");
	assert_int_equal(strncmp(lb_conf_problems(c), "t.yaml: error: too late\n", 24), 0);
	lb_conf_destroy(c);
}

static void test_problems_are_bounded(void **state)
{
	struct lb_conf *c = parse("a: 1\n");
	char line[1000];

	(void)state;
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = 0;
	for (int i = 0; i < 250; i++)
		lb_conf_problem(c, lb_conf_root(c), "%d %s", i, line);
	assert_int_equal(lb_conf_problem_count(c), 250);
	assert_non_null(strstr(lb_conf_problems(c), "t.yaml: 150 more problems\n"));
	lb_conf_destroy(c);
}

static void test_long_line_is_cut_around_the_place(void **state)
{
	char text[700] = "";
	struct lb_conf *c;
	const char *p;

	(void)state;
	text[0] = '[';
	for (size_t i = 1; i < 600; i += 2)
		memcpy(text + i, "a,", 2);
	memcpy(text + 300, ", *x", 4);
	memcpy(text + 601, "]\n", 3);
	c = parse(text);
	assert_int_equal(lb_conf_problem_count(c), 1);
	p = strstr(lb_conf_problems(c), "| ...");
	assert_non_null(p);
	p = strstr(p, "^");
	assert_non_null(p);
	lb_conf_destroy(c);
}

static void test_file(void **state)
{
	char path[] = "/tmp/lb-test-conf-XXXXXX";
	int fd = mkstemp(path);
	struct lb_conf *c = NULL;
	struct lb_err err;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "a: 1\n", 5), 5);
	assert_int_equal(close(fd), 0);
	assert_int_equal(lb_conf_parse_file(&c, path, NULL), 0);
	assert_string_equal(lb_conf_text(lb_conf_get(lb_conf_root(c), "a")), "1");
	lb_conf_destroy(c);
	assert_int_equal(unlink(path), 0);
	c = NULL;
	assert_int_equal(lb_conf_parse_file(&c, path, &err), LB_ENOTFOUND);
	assert_non_null(strstr(err.msg, path));
	assert_int_equal(lb_conf_parse_file(&c, "/tmp", &err), LB_EIO);
	assert_null(c);
}

static void test_nearest_word(void **state)
{
	static const char *const words[] = {"status", "start", "stop", "a", NULL};
	static char longest[100];

	(void)state;
	assert_string_equal(lb_nearest_word("statsu", words), "status");
	assert_string_equal(lb_nearest_word("tsart", words), "start");
	assert_string_equal(lb_nearest_word("stp", words), "stop");
	assert_string_equal(lb_nearest_word("start", words), "start");
	assert_null(lb_nearest_word("b", words));
	assert_null(lb_nearest_word("frobnicate", words));
	assert_null(lb_nearest_word("", words));
	memset(longest, 's', sizeof(longest) - 1);
	assert_null(lb_nearest_word(longest, words));
}

static void test_amounts(void **state)
{
	uint64_t v = 7;
	struct lb_err err;

	(void)state;
	assert_int_equal(lb_parse_bytes(&v, "0", NULL), 0);
	assert_int_equal(v, 0);
	assert_int_equal(lb_parse_bytes(&v, "512", NULL), 0);
	assert_int_equal(v, 512);
	assert_int_equal(lb_parse_bytes(&v, "1 TiB", NULL), 0);
	assert_true(v == 1ull << 40);
	assert_int_equal(lb_parse_bytes(&v, "16383PiB", NULL), 0);
	assert_int_equal(lb_parse_bytes(&v, "16384PiB", &err), LB_EINPUT);
	assert_int_equal(lb_parse_bytes(&v, "1  KiB", &err), LB_EINPUT);
	assert_int_equal(lb_parse_bytes(&v, "1 ", &err), LB_EINPUT);
	assert_int_equal(lb_parse_bytes(&v, "", &err), LB_EINPUT);
	assert_int_equal(lb_parse_bytes(&v, "1.5 GiB", &err), LB_EINPUT);
	assert_true(v == 16383ull << 50); /* untouched by failures */
	assert_int_equal(lb_parse_duration_ns(&v, "7d", NULL), 0);
	assert_true(v == 7ull * 86400 * 1000000000);
	assert_int_equal(lb_parse_duration_ns(&v, "0", NULL), 0);
	assert_int_equal(lb_parse_duration_ns(&v, "1 h", NULL), 0);
	assert_int_equal(lb_parse_duration_ns(&v, "10", &err), LB_EINPUT);
	assert_int_equal(lb_parse_duration_ns(&v, "1000000w", &err), LB_EINPUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tree),
		cmocka_unit_test(test_nothing_is_an_empty_map),
		cmocka_unit_test(test_refused_documents),
		cmocka_unit_test(test_sixteen_levels_are_fine),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_fill_defaults),
		cmocka_unit_test(test_fill_values),
		cmocka_unit_test(test_fill_of_nothing),
		cmocka_unit_test(test_fill_refuses),
		cmocka_unit_test(test_refused_value_has_one_message),
		cmocka_unit_test(test_not_a_map),
		cmocka_unit_test(test_rendering),
		cmocka_unit_test(test_problems_are_bounded),
		cmocka_unit_test(test_long_line_is_cut_around_the_place),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_nearest_word),
		cmocka_unit_test(test_amounts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <inttypes.h>
#include <unistd.h>

#include "base/log.h"
#include "check.h"

struct tap {
	char line[5000];
	enum lb_log_level lvl;
	int count;
};

static void on_line(void *arg, enum lb_log_level lvl, const char *line)
{
	struct tap *t = arg;

	(void)snprintf(t->line, sizeof(t->line), "%s", line);
	t->lvl = lvl;
	t->count++;
}

static int setup(void **state)
{
	static struct tap tap;

	memset(&tap, 0, sizeof(tap));
	lb_log_set_fd(-1);
	lb_log_set_level(LB_LOG_INFO);
	lb_log_set_tap(on_line, &tap);
	*state = &tap;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	lb_log_set_fd(2);
	lb_log_set_tap(NULL, NULL);
	return 0;
}

/* The line after its time stamp, whose form is checked here. */
static const char *body(const struct tap *t)
{
	int y, mo, d, h, mi, s, ms, used = 0;

	assert_int_equal(sscanf(t->line, "ts=%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n", &y, &mo, &d, &h, &mi,
				&s, &ms, &used),
			 7);
	assert_int_equal(used, 28);
	return t->line + used;
}

static void test_types(void **state)
{
	struct tap *t = *state;
	const char *none = NULL;

	lb_log(LB_LOG_WARN, "ship", "peer_lost", "a=%s", "text", "b=%d", -7, "c=%u", 8u, "d=%x",
	       255u, "e=%" PRIu64, UINT64_MAX, "f=%" PRId64, INT64_MIN, "g=%s", none, "h=%zu",
	       (size_t)5, NULL);
	assert_string_equal(body(t), "lvl=warn comp=ship ev=peer_lost a=text b=-7 c=8 d=ff "
				     "e=18446744073709551615 f=-9223372036854775808 g=- h=5");
	assert_int_equal(t->lvl, LB_LOG_WARN);
	lb_log(LB_LOG_ERROR, "c", "e", NULL);
	assert_string_equal(body(t), "lvl=error comp=c ev=e");
}

static void test_quoting(void **state)
{
	static const struct {
		const char *value, *expect;
	} rows[] = {
		{"", "v=\"\""},
		{"a b", "v=\"a b\""},
		{"say \"hi\" \\", "v=\"say \\\"hi\\\" \\\\\""},
		{"x\nts=forged lvl=error", "v=\"x\\x0ats=forged lvl=error\""},
		{"\x1b[31mred", "v=\"\\x1b[31mred\""},
		{"a=b", "v=\"a=b\""},
		{"10.0.0.1:7400/x+y_-", "v=10.0.0.1:7400/x+y_-"},
		{"\xc3\xa9", "v=\"\xc3\xa9\""},
		{"\xe2\x80\xae", "v=\"\\u202e\""},
		{"\xff", "v=\"\\xff\""},
	};
	struct tap *t = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		lb_log(LB_LOG_INFO, "c", "e", "v=%s", rows[i].value, NULL);
		assert_string_equal(body(t) + strlen("lvl=info comp=c ev=e "), rows[i].expect);
	}
}

static void test_level(void **state)
{
	struct tap *t = *state;
	enum lb_log_level lvl = LB_LOG_INFO;
	struct lb_err err;

	lb_log(LB_LOG_DEBUG, "c", "e", NULL);
	assert_int_equal(t->count, 0);
	lb_log_set_level(LB_LOG_DEBUG);
	lb_log(LB_LOG_DEBUG, "c", "e", NULL);
	assert_int_equal(t->count, 1);
	assert_int_equal(lb_log_level_parse(&lvl, "error", NULL), 0);
	assert_int_equal(lvl, LB_LOG_ERROR);
	assert_int_equal(lb_log_level_parse(&lvl, "loud", &err), LB_EINPUT);
	assert_int_equal(lvl, LB_LOG_ERROR);
}

/* A value that does not fit is cut between characters and its quote closed; one line stays one. */
static void test_long_value(void **state)
{
	struct tap *t = *state;
	char big[9000];

	memset(big, '\n', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	lb_log(LB_LOG_INFO, "c", "e", "v=%s", big, "after=%d", 1, NULL);
	size_t n = strlen(t->line);

	assert_true(n > 4080 && n < 4096);
	assert_string_equal(t->line + n - 5, "\\x0a\"");
	assert_null(strstr(t->line, "after"));
	memset(big, 'a', sizeof(big) - 1);
	lb_log(LB_LOG_INFO, "c", "e", "v=%s", big, "after=%d", 1, NULL);
	assert_true(strlen(t->line) < 4096);
}

static void test_fd_gets_one_line(void **state)
{
	int fds[2];
	char buf[200] = {0};

	(void)state;
	assert_int_equal(pipe(fds), 0);
	lb_log_set_fd(fds[1]);
	lb_log_set_tap(NULL, NULL);
	lb_log(LB_LOG_INFO, "c", "e", "v=%d", 1, NULL);
	ssize_t n = read(fds[0], buf, sizeof(buf) - 1);

	assert_true(n > 0);
	assert_string_equal(buf + n - 5, " v=1\n");
	assert_int_equal(close(fds[0]), 0);
	assert_int_equal(close(fds[1]), 0);
}

static void test_escape(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{"plain \\ \"text\"", "plain \\ \"text\""},
		{"\t\r\x7f", "\\x09\\x0d\\x7f"},
		{"\xc2\x9b", "\\u009b"},                      /* C1: CSI */
		{"\xe2\x81\xa6", "\\u2066"},                  /* bidi isolate */
		{"\xef\xbb\xbf", "\\ufeff"},                  /* BOM */
		{"\xc0\xaf", "\\xc0\\xaf"},                   /* overlong */
		{"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* surrogate */
		{"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* above U+10FFFF */
		{"\xf8\x88\x80\x80\x80", "\\xf8\\x88\\x80\\x80\\x80"},
		{"\xe6\x97\xa5\xe6\x9c\xac", "\xe6\x97\xa5\xe6\x9c\xac"},
		{"\xf0\x9f\x9b\x9f", "\xf0\x9f\x9b\x9f"},
		{"\xe6\x97", "\\xe6\\x97"}, /* cut short */
	};
	char out[64];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(lb_text_escape(out, sizeof(out), rows[i].in), rows[i].out);
	assert_string_equal(lb_text_escape(out, 4, "abcdef"), "abc");
	assert_string_equal(lb_text_escape(out, 5, "a\n\n"), "a"); /* an escape is never cut */
	assert_string_equal(lb_text_escape(out, 1, "abc"), "");
	(void)lb_text_escape(out, 0, "abc");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_types, setup, teardown),
		cmocka_unit_test_setup_teardown(test_quoting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_level, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_value, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fd_gets_one_line, setup, teardown),
		cmocka_unit_test(test_escape),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <errno.h>

#include "base/err.h"
#include "check.h"

static void test_set_and_wrap(void **state)
{
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(lb_err_set(&err, LB_EINPUT, 0, "parse %d", 7), LB_EINPUT);
	assert_int_equal(err.code, LB_EINPUT);
	assert_string_equal(err.msg, "parse 7");
	assert_int_equal(lb_err_wrap(&err, LB_EIO, "site %s", "a"), LB_EINPUT);
	assert_string_equal(err.msg, "site a: parse 7");
	assert_int_equal(lb_err_set(NULL, LB_EIO, 0, "x"), LB_EIO);
	assert_int_equal(lb_err_wrap(NULL, LB_EIO, "x"), LB_EIO);
	err = (struct lb_err){0}; /* whoever failed said nothing: it is a failure all the same */
	assert_int_equal(lb_err_wrap(&err, LB_EAGAIN, "disk %s", "vda"), LB_EAGAIN);
	assert_int_equal(err.code, LB_EAGAIN);
	assert_string_equal(err.msg, "disk vda: try again");
}

static void test_long_message_is_cut(void **state)
{
	struct lb_err err = {0};
	char big[1000];

	(void)state;
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	(void)lb_err_set(&err, LB_EIO, ENOENT, "%s", big);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	(void)lb_err_wrap(&err, LB_EIO, "%s", big);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
}

/* A message is cut between characters, and what is no UTF-8 does not make it unspeakable. */
static void test_message_is_utf8(void **state)
{
	static const char shi[] = "\xe9\x80\xa0"; /* one character */
	struct lb_err err = {0};
	char big[1000] = "x";

	(void)state;
	for (size_t i = 0; i < 300; i++)
		memcpy(big + 1 + 3 * i, shi, sizeof(shi));
	(void)lb_err_set(&err, LB_EIO, ENOENT, "%s", big);
	assert_int_equal(strlen(err.msg), 1 + 84 * 3); /* of 255 bytes two are no whole one */
	(void)lb_err_wrap(&err, LB_EIO, "open");
	assert_int_equal(strlen(err.msg), 7 + 82 * 3);
	(void)lb_err_set(&err, LB_EINPUT, 0, "\"%.4s\": no such key", shi);
	assert_string_equal(err.msg, "\"\xe9\x80\xa0\": no such key");
	(void)lb_err_set(&err, LB_EINPUT, 0, "\"%.5s\": no such key", big + 1);
	assert_string_equal(err.msg, "\"\xe9\x80\xa0??\": no such key");
	(void)lb_err_errno(&err, ENOENT, "open caf\xe9.yaml");
	assert_string_equal(err.msg, "open caf?.yaml: No such file or directory");
}

static void test_errno(void **state)
{
	static const struct {
		int sys;
		enum lb_code code;
	} rows[] = {
		{ENOSPC, LB_ENOSPC}, {EDQUOT, LB_ENOSPC},    {ENOMEM, LB_ENOMEM},
		{EEXIST, LB_EEXIST}, {ENOENT, LB_ENOTFOUND}, {EACCES, LB_EDENIED},
		{EPERM, LB_EDENIED}, {EIO, LB_EIO},          {EBADF, LB_EIO},
	};
	struct lb_err err = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(lb_err_errno(&err, rows[i].sys, "open f"), rows[i].code);
		assert_int_equal(err.code, rows[i].code);
		assert_int_equal(err.sys_errno, rows[i].sys);
		assert_int_equal(lb_err_errno(NULL, rows[i].sys, "open f"), rows[i].code);
	}
	(void)lb_err_errno(&err, ENOENT, "open %s", "f");
	assert_string_equal(err.msg, "open f: No such file or directory");
}

static void test_names_are_stable(void **state)
{
	(void)state;
	assert_string_equal(lb_err_name(0), "LB_OK");
	assert_string_equal(lb_err_name(LB_EFENCED), "LB_EFENCED");
	assert_string_equal(lb_err_text(LB_EINPUT), "refused input");
	/* The numbers travel between processes: appending is the only change allowed. */
	assert_int_equal(LB_EINVAL, -1);
	assert_int_equal(LB_EVERSION, -22);
	/* A foreign number is our bug, not undefined behaviour. */
	assert_string_equal(lb_err_name(12345), "LB_EINVAL");
	assert_string_equal(lb_err_name(-12345), "LB_EINVAL");
}

static void test_exit_status(void **state)
{
	(void)state;
	assert_int_equal(lb_err_exit_status(0), 0);
	assert_int_equal(lb_err_exit_status(LB_EINVAL), 1);
	assert_int_equal(lb_err_exit_status(LB_EIO), 1);
	assert_int_equal(lb_err_exit_status(LB_EPROTO), 1);
	assert_int_equal(lb_err_exit_status(LB_EINPUT), 3);
	assert_int_equal(lb_err_exit_status(LB_ENOTFOUND), 3);
	assert_int_equal(lb_err_exit_status(LB_ETIMEDOUT), 4);
	assert_int_equal(lb_err_exit_status(LB_EDENIED), 5);
	assert_int_equal(lb_err_exit_status(LB_ECORRUPT), 6);
	assert_int_equal(lb_err_exit_status(LB_EFENCED), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_and_wrap),     cmocka_unit_test(test_long_message_is_cut),
		cmocka_unit_test(test_message_is_utf8),  cmocka_unit_test(test_errno),
		cmocka_unit_test(test_names_are_stable), cmocka_unit_test(test_exit_status),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

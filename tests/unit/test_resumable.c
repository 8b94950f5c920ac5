/* What is said of a memory point's device state before anybody needs it. */
#include "agent_int.h"
#include "base/err.h"
#include "check.h"
#include "state_fix.h"

static void test_fits(void **state)
{
	uint8_t bytes[FIX_STATE_MAX];
	size_t len = fix_state(bytes);
	struct vm_cpu have = fix_state_cpu();
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(sa_state_fits(bytes, len, &have, &err), 0);
	have.leaf[1].ecx |= 1u << 12; /* more than is needed */
	assert_int_equal(sa_state_fits(bytes, len, &have, &err), 0);
}

static void test_a_missing_feature_is_named(void **state)
{
	uint8_t bytes[FIX_STATE_MAX];
	size_t len = fix_state(bytes);
	struct vm_cpu have = fix_state_cpu();
	struct lb_err err = {0};

	(void)state;
	have.leaf[1].ecx &= ~1u;
	assert_int_equal(sa_state_fits(bytes, len, &have, &err), LB_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "lacks sse3"));
}

static void test_another_vendor(void **state)
{
	uint8_t bytes[FIX_STATE_MAX];
	size_t len = fix_state(bytes);
	struct vm_cpu have = fix_state_cpu();
	struct lb_err err = {0};

	(void)state;
	have.leaf[0].ebx = 0x68747541;
	have.leaf[0].edx = 0x69746e65;
	have.leaf[0].ecx = 0x444d4163;
	assert_int_equal(sa_state_fits(bytes, len, &have, &err), LB_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "AuthenticAMD"));
}

static void test_bytes_that_are_none(void **state)
{
	uint8_t bytes[FIX_STATE_MAX];
	size_t len = fix_state(bytes);
	struct vm_cpu have = fix_state_cpu();

	(void)state;
	for (size_t n = 0; n < len; n++)
		assert_int_not_equal(sa_state_fits(bytes, n, &have, NULL), 0);
	bytes[8] = 9; /* a later version's */
	assert_int_not_equal(sa_state_fits(bytes, len, &have, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fits),
		cmocka_unit_test(test_a_missing_feature_is_named),
		cmocka_unit_test(test_another_vendor),
		cmocka_unit_test(test_bytes_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

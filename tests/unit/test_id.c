#include "base/env.h"
#include "base/err.h"
#include "base/id.h"
#include "check.h"

static void test_text_round_trip(void **state)
{
	struct lb_id id = {{0x00, 0x01, 0xab, 0xff}};
	struct lb_id back;
	struct lb_hash hash = {{0xfe, 0xdc}};
	struct lb_hash hash_back;
	char text[LB_HASH_TEXT];

	(void)state;
	assert_string_equal(lb_id_text(&id, text), "0001abff000000000000000000000000");
	assert_int_equal(lb_id_parse(&back, text, NULL), 0);
	assert_true(lb_id_equal(&id, &back));
	assert_int_equal(lb_id_parse(&back, "0001ABFF000000000000000000000000", NULL), 0);
	assert_true(lb_id_equal(&id, &back));
	assert_int_equal(strlen(lb_hash_text(&hash, text)), 64);
	assert_int_equal(lb_hash_parse(&hash_back, text, NULL), 0);
	assert_true(lb_hash_equal(&hash, &hash_back));
}

static void test_refused_text(void **state)
{
	static const char *const bad[] = {
		"",
		"00",
		"0001abff00000000000000000000000",
		"0001abff0000000000000000000000000",
		"0001abfg000000000000000000000000",
		" 001abff000000000000000000000000",
		"0x01abff000000000000000000000000",
	};
	struct lb_id id = {{42}};
	struct lb_hash hash = {{42}};
	struct lb_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(lb_id_parse(&id, bad[i], &err), LB_EINPUT);
		assert_int_equal(err.code, LB_EINPUT);
		assert_int_equal(lb_hash_parse(&hash, bad[i], &err), LB_EINPUT);
	}
	assert_int_equal(id.b[0], 42); /* outputs are not clobbered */
	assert_int_equal(hash.b[0], 42);
}

static void test_compare_and_zero(void **state)
{
	struct lb_id a = {{1}};
	struct lb_id b = {{2}};
	struct lb_id zero = {{0}};
	struct lb_hash hash_zero = {{0}};
	struct lb_hash one = {{0}};

	(void)state;
	one.b[31] = 1;
	assert_true(lb_id_compare(&a, &b) < 0);
	assert_true(lb_id_compare(&b, &a) > 0);
	assert_int_equal(lb_id_compare(&a, &a), 0);
	assert_true(lb_id_is_zero(&zero));
	assert_false(lb_id_is_zero(&a));
	assert_true(lb_hash_is_zero(&hash_zero));
	assert_false(lb_hash_is_zero(&one));
	assert_false(lb_hash_equal(&one, &hash_zero));
}

static void test_random_ids_differ(void **state)
{
	struct lb_id a;
	struct lb_id b;

	(void)state;
	lb_id_random(&a, lb_env_real());
	lb_id_random(&b, lb_env_real());
	assert_false(lb_id_equal(&a, &b));
	assert_false(lb_id_is_zero(&a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_round_trip),
		cmocka_unit_test(test_refused_text),
		cmocka_unit_test(test_compare_and_zero),
		cmocka_unit_test(test_random_ids_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

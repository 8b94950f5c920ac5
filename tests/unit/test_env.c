#include "base/env.h"
#include "check.h"

static void test_clocks(void **state)
{
	struct lb_env *env = lb_env_real();
	uint64_t a = env->now_ns(env);

	(void)state;
	assert_true(env->now_ns(env) >= a);
	assert_true(env->wall_ns(env) > 1600000000u * 1000000000ull); /* after 2020 */
}

static void test_random_fills_everything(void **state)
{
	struct lb_env *env = lb_env_real();
	uint8_t buf[1000] = {0};
	size_t zeros = 0;

	(void)state;
	env->random(env, buf, sizeof(buf));
	for (size_t i = 0; i < sizeof(buf); i++)
		zeros += buf[i] == 0;
	assert_true(zeros < 100);
	assert_true(lb_env_random_u64(env) != lb_env_random_u64(env));
	env->random(env, buf, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clocks),
		cmocka_unit_test(test_random_fills_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

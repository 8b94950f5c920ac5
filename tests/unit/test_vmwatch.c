/* Machines that go on from memory: does what is left of it still come? */
#include "check.h"
#include "vms_int.h"

#define S UINT64_C(1000000000)

static void test_it_comes(void **state)
{
	struct sa_vm_lazy lazy = {0};

	(void)state;
	for (uint64_t t = 0; t < 600; t += 2)
		assert_false(sa_vm_starves(&lazy, 1000 - t, t * S)); /* slowly, and it does come */
	for (uint64_t t = 600; t < 700; t += 2)
		assert_false(sa_vm_starves(&lazy, 0, t * S)); /* all is there */
}

static void test_it_hangs(void **state)
{
	struct sa_vm_lazy lazy = {0};

	(void)state;
	assert_false(sa_vm_starves(&lazy, 1000, 5000 * S)); /* looked at for the first time */
	assert_false(sa_vm_starves(&lazy, 900, 5002 * S));
	assert_false(sa_vm_starves(&lazy, 900, 5011 * S)); /* a disk may be slow for a while */
	assert_true(sa_vm_starves(&lazy, 900, 5012 * S));
	assert_true(sa_vm_starves(&lazy, 900, 5100 * S));
	assert_false(sa_vm_starves(&lazy, 884, 5102 * S)); /* it goes on */
	assert_false(sa_vm_starves(&lazy, 884, 5110 * S));
	assert_true(sa_vm_starves(&lazy, 884, 5112 * S));
	/* started again, cold */
	assert_false(sa_vm_starves(&lazy, 0, 5114 * S));
	assert_false(sa_vm_starves(&lazy, 0, 5200 * S));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_comes),
		cmocka_unit_test(test_it_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

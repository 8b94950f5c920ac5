#include <pthread.h>

#include "base/buf.h"
#include "base/err.h"
#include "check.h"

static void test_lifetime(void **state)
{
	struct lb_buf *b = NULL;

	(void)state;
	assert_int_equal(lb_buf_create(&b, 16, NULL), 0);
	assert_int_equal(b->len, 0);
	assert_int_equal(b->cap, 16);
	assert_ptr_equal(lb_buf_ref(b), b);
	lb_buf_unref(b);
	b->p[15] = 1; /* still there: ASan would say otherwise */
	lb_buf_unref(b);
	lb_buf_unref(NULL);
}

static void test_copy(void **state)
{
	struct lb_buf *b = NULL;

	(void)state;
	assert_int_equal(lb_buf_copy_of(&b, "abc", 3, NULL), 0);
	assert_int_equal(b->len, 3);
	assert_memory_equal(b->p, "abc", 3);
	lb_buf_unref(b);
	assert_int_equal(lb_buf_copy_of(&b, NULL, 0, NULL), 0);
	assert_int_equal(b->len, 0);
	assert_non_null(b->p);
	lb_buf_unref(b);
}

static void *churn(void *arg)
{
	for (int i = 0; i < 10000; i++)
		lb_buf_unref(lb_buf_ref(arg));
	lb_buf_unref(arg);
	return NULL;
}

static void test_count_is_atomic(void **state)
{
	struct lb_buf *b = NULL;
	pthread_t t[4];

	(void)state;
	assert_int_equal(lb_buf_create(&b, 1, NULL), 0);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, churn, lb_buf_ref(b)), 0);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	assert_int_equal(b->refs, 1);
	lb_buf_unref(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lifetime),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_count_is_atomic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/loop.h"
#include "check.h"

struct fixture {
	struct lb_loop *l;
	struct lb_timer *a;
	struct lb_timer *b;
	int order[8];
	int n;
	int posted;
};

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	assert_int_equal(lb_loop_create(&x->l, NULL), 0);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	lb_timer_destroy(x->a);
	lb_timer_destroy(x->b);
	lb_loop_destroy(x->l);
	free(x);
	return 0;
}

static void note_1(void *arg)
{
	struct fixture *x = arg;

	x->order[x->n++] = 1;
}

static void note_2(void *arg)
{
	struct fixture *x = arg;

	x->order[x->n++] = 2;
}

static void stop(void *arg)
{
	struct fixture *x = arg;

	lb_loop_stop(x->l);
}

static void test_post_is_ordered_and_asynchronous(void **state)
{
	struct fixture *x = *state;

	lb_loop_post(x->l, note_1, x);
	lb_loop_post(x->l, note_2, x);
	lb_loop_post(x->l, note_1, x);
	lb_loop_post(x->l, stop, x);
	assert_int_equal(x->n, 0);
	assert_int_equal(lb_loop_run(x->l, NULL), 0);
	assert_int_equal(x->n, 3);
	assert_int_equal(x->order[1], 2);
}

static void test_stop_before_run(void **state)
{
	struct fixture *x = *state;

	lb_loop_stop(x->l);
	assert_int_equal(lb_loop_run(x->l, NULL), 0);
	/* And it does not stick. */
	lb_loop_post(x->l, note_1, x);
	lb_loop_post(x->l, stop, x);
	assert_int_equal(lb_loop_run(x->l, NULL), 0);
	assert_int_equal(x->n, 1);
}

static void count(void *arg)
{
	struct fixture *x = arg;

	if (++x->posted == 4000)
		lb_loop_stop(x->l);
}

static void *post_many(void *arg)
{
	struct fixture *x = arg;

	assert_false(lb_loop_mine(x->l));
	for (int i = 0; i < 1000; i++)
		lb_loop_post(x->l, count, x);
	return NULL;
}

static void test_post_from_threads(void **state)
{
	struct fixture *x = *state;
	pthread_t t[4];

	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, post_many, x), 0);
	assert_true(lb_loop_mine(x->l));
	assert_int_equal(lb_loop_run(x->l, NULL), 0);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	assert_int_equal(x->posted, 4000);
}

static void test_posts_left_at_destroy_are_dropped(void **state)
{
	struct fixture *x = *state;

	lb_loop_post(x->l, note_1, x);
	lb_loop_destroy(x->l);
	x->l = NULL;
	assert_int_equal(x->n, 0);
}

static void note_2_and_stop(void *arg)
{
	struct fixture *x = arg;

	x->order[x->n++] = 2;
	if (x->n >= 4) {
		lb_timer_stop(x->b);
		lb_loop_stop(x->l);
	}
}

static void test_timers(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(lb_timer_create(&x->a, x->l, note_1, x, NULL), 0);
	assert_int_equal(lb_timer_create(&x->b, x->l, note_2_and_stop, x, NULL), 0);
	lb_timer_start(x->b, 20000000, 1);
	lb_timer_start(x->a, 0, 0);
	assert_int_equal(x->n, 0); /* asynchronous even when it is due */
	assert_int_equal(lb_loop_run(x->l, NULL), 0);
	assert_int_equal(x->n, 4);
	assert_int_equal(x->order[0], 1); /* once */
	assert_int_equal(x->order[1], 2);
	assert_int_equal(x->order[3], 2);
}

static void test_stopped_timer_is_silent(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(lb_timer_create(&x->a, x->l, note_1, x, NULL), 0);
	assert_int_equal(lb_timer_create(&x->b, x->l, stop, x, NULL), 0);
	lb_timer_start(x->a, 1000000, 0);
	lb_timer_stop(x->a);
	lb_timer_start(x->b, 5000000, 0);
	assert_int_equal(lb_loop_run(x->l, NULL), 0);
	assert_int_equal(x->n, 0);
	lb_timer_destroy(NULL);
}

static void test_signal(void **state)
{
	struct fixture *x = *state;
	struct lb_err err;

	assert_int_equal(lb_loop_on_signal(x->l, SIGUSR1, stop, x, NULL), 0);
	assert_int_equal(lb_loop_on_signal(x->l, SIGKILL, stop, x, &err), LB_EIO);
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(lb_loop_run(x->l, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_post_is_ordered_and_asynchronous, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_stop_before_run, setup, teardown),
		cmocka_unit_test_setup_teardown(test_post_from_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_posts_left_at_destroy_are_dropped, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_timers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stopped_timer_is_silent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signal, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/thread.h"
#include "check.h"

enum {
	JOBS = 500
};

struct fixture {
	struct lb_loop *l;
	struct lb_pool *p;
	int worked; /* atomic */
	int done;
};

struct job {
	struct fixture *x;
	int result;
};

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	assert_int_equal(lb_loop_create(&x->l, NULL), 0);
	assert_int_equal(lb_pool_create(&x->p, x->l, 3, NULL), 0);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	lb_pool_destroy(x->p);
	lb_loop_destroy(x->l);
	free(x);
	return 0;
}

static void work(void *arg)
{
	struct job *j = arg;

	assert_false(lb_loop_mine(j->x->l));
	j->result = 42;
	(void)__atomic_fetch_add(&j->x->worked, 1, __ATOMIC_RELAXED);
}

static void done(void *arg)
{
	struct job *j = arg;

	assert_true(lb_loop_mine(j->x->l));
	assert_int_equal(j->result, 42);
	if (++j->x->done == JOBS)
		lb_loop_stop(j->x->l);
}

static void test_work_and_done(void **state)
{
	static struct job jobs[JOBS];
	struct fixture *x = *state;

	for (size_t i = 0; i < JOBS; i++) {
		jobs[i] = (struct job){.x = x};
		lb_pool_submit(x->p, work, done, &jobs[i]);
	}
	assert_int_equal(x->done, 0);
	assert_int_equal(lb_loop_run(x->l, NULL), 0);
	assert_int_equal(x->done, JOBS);
	assert_int_equal(x->worked, JOBS);
}

static void stop(void *arg)
{
	struct fixture *x = arg;

	lb_loop_stop(x->l);
}

/* Destroy finishes every job, and no done() runs afterwards although it is posted already. */
static void test_destroy_finishes_silently(void **state)
{
	static struct job jobs[JOBS];
	struct fixture *x = *state;

	for (size_t i = 0; i < JOBS; i++) {
		jobs[i] = (struct job){.x = x};
		lb_pool_submit(x->p, work, i % 2 != 0 ? done : NULL, &jobs[i]);
	}
	lb_pool_destroy(x->p);
	x->p = NULL;
	assert_int_equal(x->worked, JOBS);
	lb_loop_post(x->l, stop, x);
	assert_int_equal(lb_loop_run(x->l, NULL), 0);
	assert_int_equal(x->done, 0);
}

/* The same, with the loop gone before it could deliver: nothing leaks (ASan). */
static void test_loop_destroyed_first_to_run(void **state)
{
	static struct job job;
	struct fixture *x = *state;

	job = (struct job){.x = x};
	lb_pool_submit(x->p, work, done, &job);
	lb_pool_destroy(x->p);
	x->p = NULL;
	lb_loop_destroy(x->l);
	x->l = NULL;
	assert_int_equal(x->done, 0);
}

static void note_mask(void *arg)
{
	assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, arg), 0);
}

/* Or a child's end cuts short what its starter's thread waits for, and a stop reaches nobody. */
static void test_signals_are_for_the_first_thread(void **state)
{
	struct fixture *x = *state;
	sigset_t theirs, mine;

	(void)sigemptyset(&theirs);
	lb_pool_submit(x->p, note_mask, NULL, &theirs);
	lb_pool_destroy(x->p);
	x->p = NULL;
	assert_int_equal(sigismember(&theirs, SIGCHLD), 1);
	assert_int_equal(sigismember(&theirs, SIGTERM), 1);
	assert_int_equal(sigismember(&theirs, SIGPIPE), 1);
	assert_int_equal(sigismember(&theirs, SIGSEGV), 0);
	assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &mine), 0);
	assert_int_equal(sigismember(&mine, SIGTERM), 0);
}

/* On the clock that nobody sets, and no wait is too long for its type. */
static void test_deadline(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct timespec before, t;
	pthread_cond_t c;

	(void)state;
	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &before), 0);
	t = lb_cond_deadline(UINT64_C(1999999999));
	assert_true(t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
	assert_true(t.tv_sec >= before.tv_sec + 1);
	t = lb_cond_deadline(UINT64_MAX);
	assert_true(t.tv_sec > before.tv_sec + INT32_MAX && t.tv_nsec < 1000000000);
	lb_cond_init(&c);
	t = lb_cond_deadline(0);
	assert_int_equal(pthread_mutex_lock(&lock), 0);
	assert_int_equal(pthread_cond_timedwait(&c, &lock, &t), ETIMEDOUT);
	assert_int_equal(pthread_mutex_unlock(&lock), 0);
	assert_int_equal(pthread_cond_destroy(&c), 0);
}

static void test_refused_sizes(void **state)
{
	struct fixture *x = *state;
	struct lb_pool *p = NULL;
	struct lb_err err;

	assert_int_equal(lb_pool_create(&p, x->l, 0, &err), LB_EINVAL);
	assert_int_equal(lb_pool_create(&p, x->l, 100000, &err), LB_EINVAL);
	assert_null(p);
	lb_pool_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_work_and_done, setup, teardown),
		cmocka_unit_test_setup_teardown(test_destroy_finishes_silently, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loop_destroyed_first_to_run, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signals_are_for_the_first_thread, setup,
						teardown),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test_setup_teardown(test_refused_sizes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/err.h"
#include "base/loop.h"
#include "check.h"

struct fixture {
	struct lb_loop *l;
	struct lb_child *c;
	struct lb_child_cfg cfg;
	int calls;
	int status;
	int signo;
	bool timed_out;
	char output[256];
	size_t output_len;
	size_t streamed;
	bool destroy_on_output;
};

static void on_exit_cb(void *arg, int status, int signo, bool timed_out, const char *output,
		       size_t len)
{
	struct fixture *x = arg;

	x->calls++;
	x->status = status;
	x->signo = signo;
	x->timed_out = timed_out;
	x->output_len = len;
	assert_int_equal(output[len], 0);
	(void)snprintf(x->output, sizeof(x->output), "%s", output);
	lb_child_destroy(x->c);
	x->c = NULL;
	lb_loop_stop(x->l);
}

static void on_output(void *arg, const char *p, size_t len)
{
	struct fixture *x = arg;

	(void)p;
	x->streamed += len;
	if (x->destroy_on_output) {
		lb_child_destroy(x->c);
		x->c = NULL;
		lb_loop_stop(x->l);
	}
}

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	assert_int_equal(lb_loop_create(&x->l, NULL), 0);
	x->cfg = (struct lb_child_cfg){.on_exit = on_exit_cb, .on_output = on_output, .arg = x};
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	lb_child_destroy(x->c);
	lb_loop_destroy(x->l);
	/* Whatever the test did, nobody is left: neither running nor a zombie. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	free(x);
	return 0;
}

static void start_shell(struct fixture *x, const char *script)
{
	const char *argv[] = {"/bin/sh", "-c", script, NULL};

	x->cfg.argv = argv;
	assert_int_equal(lb_child_spawn(&x->c, x->l, &x->cfg, NULL), 0);
	assert_int_equal(x->calls, 0);
}

static void run_shell(struct fixture *x, const char *script)
{
	start_shell(x, script);
	assert_int_equal(lb_loop_run(x->l, NULL), 0);
	assert_int_equal(x->calls, 1);
}

static void test_output_and_status(void **state)
{
	struct fixture *x = *state;

	run_shell(x, "echo out; echo err >&2; read line; echo \"in=$?\"; exit 3");
	assert_string_equal(x->output, "out\nerr\nin=1\n"); /* in order; stdin is empty */
	assert_int_equal(x->status, 3);
	assert_int_equal(x->signo, 0);
	assert_false(x->timed_out);
	assert_int_equal(x->streamed, 13);
}

static void test_output_is_bounded(void **state)
{
	struct fixture *x = *state;

	x->cfg.max_output_bytes = 100;
	run_shell(x, "i=0; while [ $i -lt 5000 ]; do echo 0123456789012345678; i=$((i+1)); done");
	assert_int_equal(x->output_len, 100);
	assert_int_equal(x->streamed, 100000);
	assert_int_equal(x->status, 0);
}

static void test_environment(void **state)
{
	static const char *const env[] = {"ONLY=this", NULL};
	struct fixture *x = *state;

	x->cfg.env = env;
	run_shell(x, "echo $ONLY$HOME");
	assert_string_equal(x->output, "this\n");
}

static void test_timeout_kills_the_group(void **state)
{
	struct fixture *x = *state;

	/* The shell's own child must die too, else it would be reparented and waited for above. */
	x->cfg.timeout_ns = 1000000;
	run_shell(x, "sleep 1000 & wait");
	assert_true(x->timed_out);
	assert_int_equal(x->signo, SIGKILL);
}

static void test_kill(void **state)
{
	struct fixture *x = *state;

	start_shell(x, "exec sleep 1000");
	assert_true(lb_child_pid(x->c) > 0);
	lb_child_kill(x->c, SIGTERM);
	assert_int_equal(lb_loop_run(x->l, NULL), 0);
	assert_int_equal(x->signo, SIGTERM);
	assert_false(x->timed_out);
}

static void test_own_process_group(void **state)
{
	struct fixture *x = *state;

	start_shell(x, "exec sleep 1000");
	assert_int_equal(getpgid(lb_child_pid(x->c)), lb_child_pid(x->c));
}

/* A background process that keeps the pipe open does not delay the end. */
static void test_background_process_is_not_waited_for(void **state)
{
	struct fixture *x = *state;

	run_shell(x, "sleep 1000 & echo $!");
	assert_int_equal(x->status, 0);
	assert_int_equal(kill(atoi(x->output), SIGKILL), 0);
}

static void test_destroy_while_running(void **state)
{
	struct fixture *x = *state;

	start_shell(x, "exec sleep 1000");
	lb_child_destroy(x->c);
	x->c = NULL;
	lb_loop_destroy(x->l); /* waits for the killed one */
	assert_int_equal(x->calls, 0);
	assert_int_equal(lb_loop_create(&x->l, NULL), 0);
}

static void test_destroy_in_on_output(void **state)
{
	struct fixture *x = *state;

	x->destroy_on_output = true;
	start_shell(x, "echo hi; exec sleep 1000");
	assert_int_equal(lb_loop_run(x->l, NULL), 0);
	assert_int_equal(x->calls, 0);
}

static void test_spawn_failures(void **state)
{
	static const char *const none[] = {"/nonexistent/program", NULL};
	static const char *const denied[] = {"/etc/passwd", NULL};
	static const char *const empty[] = {NULL};
	struct fixture *x = *state;
	struct lb_err err;

	x->cfg.argv = none;
	assert_int_equal(lb_child_spawn(&x->c, x->l, &x->cfg, &err), LB_ENOTFOUND);
	assert_non_null(strstr(err.msg, "/nonexistent/program"));
	x->cfg.argv = denied;
	assert_int_equal(lb_child_spawn(&x->c, x->l, &x->cfg, &err), LB_EDENIED);
	x->cfg.argv = empty;
	assert_int_equal(lb_child_spawn(&x->c, x->l, &x->cfg, &err), LB_EINVAL);
	assert_null(x->c);
	assert_int_equal(x->calls, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_output_and_status, setup, teardown),
		cmocka_unit_test_setup_teardown(test_output_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_environment, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timeout_kills_the_group, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_process_group, setup, teardown),
		cmocka_unit_test_setup_teardown(test_background_process_is_not_waited_for, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_destroy_while_running, setup, teardown),
		cmocka_unit_test_setup_teardown(test_destroy_in_on_output, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spawn_failures, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

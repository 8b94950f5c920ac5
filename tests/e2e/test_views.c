/*
 * View servers as the agent runs them: a real nbdkit per volume, argv[1] is our plugin. They
 * outlive the agent and are adopted; what died is waited for; what is stopped leaves no process, no
 * zombie and no key behind.
 */
#include <libgen.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_int.h"
#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/loop.h"
#include "check.h"
#include "proc_int.h"
#include "store_fix.h"

static const char *plugin;

struct world {
	char dir[64], boot[80];
	struct sf_group group[2];
	struct sf_point point;
	struct sa_agent agent;
	struct sa_config cfg;
};

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static void open_store(struct world *w)
{
	struct rep_store_cfg cfg = {.segment_bytes = 1 << 20};
	struct sa_agent *a = &w->agent;
	struct lb_err err = {0};
	char path[80];

	(void)snprintf(path, sizeof(path), "%s/store", w->dir);
	must(lb_fs_dir_create(&a->store_fs, path, &err), &err);
	must(rep_store_open(&a->store, a->env, a->store_fs, &cfg, &err), &err);
	sf_group_init(&w->group[0], 0, 1, 16, 3);
	sf_group_write(&w->group[0], 8);
	sf_point_cut(&w->group[0], &w->point);
	must(sf_point_send(a->store, &w->point, &err), &err);
	must(rep_store_commit(a->store, &err), &err);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct sa_agent *a = &w->agent;
	struct lb_key kek = {{1}};
	struct lb_err err = {0};
	char copy[SA_PATH_BYTES];

	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/lb_views_XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	(void)snprintf(w->boot, sizeof(w->boot), "%s/boot", w->dir);
	assert_int_equal(mkdir(w->boot, 0700), 0);
	a->env = lb_env_real();
	a->cfg = &w->cfg;
	(void)snprintf(w->cfg.state_dir, sizeof(w->cfg.state_dir), "%s", w->dir);
	(void)snprintf(copy, sizeof(copy), "%s", plugin);
	(void)snprintf(a->plugin_dir, sizeof(a->plugin_dir), "%s", dirname(copy));
	must(lb_loop_create(&a->loop, &err), &err);
	open_store(w);
	must(sa_keyring_open(&a->keyring, a->env, w->dir, &kek, &err), &err);
	must(sa_keyring_put(a->keyring, &w->group[0].vol[0].machine, &w->group[0].dek, &err), &err);
	must(sa_views_create(&a->views, a, &err), &err);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	struct sa_agent *a = &w->agent;
	const char *argv[] = {"rm", "-rf", w->dir, NULL};
	struct lb_err err = {0};

	sa_view_stop_all(a->views, w->boot);
	sa_views_destroy(a->views);
	sa_keyring_close(a->keyring);
	rep_store_close(a->store);
	lb_fs_destroy(a->store_fs);
	lb_loop_destroy(a->loop);
	sf_point_free(&w->point);
	sf_group_fini(&w->group[0]);
	must(sa_proc_run(argv, "/dev/null", 10000000000u, &err), &err);
	free(w);
	return 0;
}

static pid_t serve_in(struct world *w, const char *dir)
{
	struct sf_volume *v = &w->group[0].vol[0];
	struct sa_view view;
	struct lb_err err = {0};
	char path[SA_PATH_BYTES], text[32];

	must(sa_view_serve(w->agent.views, dir, &w->point.hash, &v->volume, v->name, &view, &err),
	     &err);
	assert_int_equal(view.size_bytes, 16 * 4096);
	assert_int_equal(access(view.socket, F_OK), 0);
	(void)snprintf(path, sizeof(path), "%s/%s.pid", dir, v->name);
	assert_true(sa_read_text(path, text, sizeof(text)) > 0);
	return (pid_t)strtol(text, NULL, 10);
}

static pid_t serve(struct world *w)
{
	return serve_in(w, w->boot);
}

static bool exists(pid_t pid) /* zombies too */
{
	return kill(pid, 0) == 0;
}

/* All are children of this process; what ended stays a zombie for the product to reap. */
static void wait_for_end(pid_t pid)
{
	siginfo_t si;

	assert_int_equal(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
}

/* The agent ends and comes again: the server is the same one. */
static void test_adopt(void **state)
{
	struct world *w = *state;
	struct lb_err err = {0};
	pid_t pid = serve(w);

	assert_int_equal(serve(w), pid);
	sa_views_destroy(w->agent.views);
	must(sa_views_create(&w->agent.views, &w->agent, &err), &err);
	assert_true(exists(pid));
	assert_int_equal(serve(w), pid);
	sa_view_stop_all(w->agent.views, w->boot);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), pid); /* ended already */
}

static void test_stop(void **state)
{
	struct world *w = *state;
	char path[128];
	pid_t pid = serve(w);

	sa_view_stop_all(w->agent.views, w->boot);
	assert_false(exists(pid));
	(void)snprintf(path, sizeof(path), "%s/%s.keys", w->boot, w->group[0].vol[0].name);
	assert_int_equal(access(path, F_OK), -1);
}

/* One that died is no server and, after the next look, no zombie. Its stale pid file and socket do
 * not look like a server that is ready. */
static void test_died(void **state)
{
	struct world *w = *state;
	pid_t first = serve(w), second;

	(void)kill(first, SIGKILL);
	wait_for_end(first);
	assert_true(exists(first)); /* as a zombie */
	second = serve(w);
	assert_int_not_equal(second, first);
	sa_view_stop_all(w->agent.views, w->boot);
	assert_false(exists(first));
	assert_false(exists(second));
}

static void *serve_too(void *arg)
{
	(void)serve(arg);
	return NULL;
}

/* Two who want one view at the same time get one server. */
static void test_served_twice(void **state)
{
	struct world *w = *state;
	pthread_t other;

	assert_int_equal(pthread_create(&other, NULL, serve_too, w), 0);
	(void)serve(w);
	assert_int_equal(pthread_join(other, NULL), 0);
	sa_view_stop_all(w->agent.views, w->boot);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left */
}

/* A pid file of "boot" whose number the server of "boot1" got since. */
static void test_number_given_away(void **state)
{
	struct world *w = *state;
	const char *volume = w->group[0].vol[0].name;
	char other[96], path[200];
	pid_t pid;
	FILE *f;

	(void)snprintf(other, sizeof(other), "%s1", w->boot);
	assert_int_equal(mkdir(other, 0700), 0);
	pid = serve_in(w, other);
	(void)snprintf(path, sizeof(path), "%s/%s.pid", w->boot, volume);
	f = fopen(path, "we");
	assert_non_null(f);
	(void)fprintf(f, "%d\n", (int)pid);
	assert_int_equal(fclose(f), 0);
	sa_view_stop_all(w->agent.views, w->boot);
	assert_int_equal(serve_in(w, other), pid); /* it is there as before */
	sa_view_stop_all(w->agent.views, other);
	assert_false(exists(pid));
}

static void test_refused(void **state)
{
	struct world *w = *state;
	struct sf_volume *v = &w->group[0].vol[0];
	struct sa_view view;
	struct lb_err err = {0};

	(void)snprintf(w->agent.plugin_dir, sizeof(w->agent.plugin_dir), "/nowhere");
	assert_int_equal(sa_view_serve(w->agent.views, w->boot, &w->point.hash, &v->volume, v->name,
				       &view, &err),
			 LB_EIO);
	assert_non_null(strstr(err.msg, "/nowhere")); /* nbdkit's own words */
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_adopt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_died, setup, teardown),
		cmocka_unit_test_setup_teardown(test_served_twice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_number_given_away, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
	};

	if (argc != 2)
		return 2;
	if (system("command -v nbdkit > /dev/null") != 0) {
		print_message("skipped: needs nbdkit\n");
		return 77;
	}
	plugin = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * A real process, a real directory, a real SIGKILL: a child runs a runbook whose effects are files
 * made with O_EXCL, and kills itself at boundary k of them; the next child takes the run over. For
 * every k.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "check.h"
#include "runbooks/run.h"

#define STEPS 10u

static const char *text =
	"apiVersion: lifeboat/v1\nkind: Runbook\nname: files\nsteps:\n"
	"  - {id: s0, action: report}\n  - {id: s1, action: report, needs: [s0]}\n"
	"  - {id: s2, action: report, needs: [s0]}\n  - {id: s3, action: report, needs: [s1, s2]}\n"
	"  - {id: s4, action: report, needs: [s3]}\n  - {id: s5, action: report, needs: [s3]}\n"
	"  - {id: s6, action: report, needs: [s4]}\n  - {id: s7, action: report, needs: [s5, s6]}\n"
	"  - {id: s8, action: report, needs: [s7]}\nfinally:\n  - {id: s9, action: report}\n";

static unsigned kill_at, boundary_count;

static void boundary(void)
{
	if (++boundary_count == kill_at)
		(void)kill(getpid(), SIGKILL);
}

static void effect_path(char out[32], uint32_t step)
{
	(void)snprintf(out, 32, "effect-%u", step);
}

/* Exit status 10: order broken, 11: an effect that is there was asked for as new. */
static void v_start(struct rb_verbs *v, struct rb_run *run, const struct rb_effect *e)
{
	char path[32];
	int fd;

	(void)v;
	boundary();
	for (uint32_t p = 0; p < e->runbook->step_count; p++) {
		effect_path(path, p);
		if (rb_runbook_edge(e->runbook, p, e->token.step) && access(path, F_OK) != 0)
			_exit(10);
	}
	effect_path(path, e->token.step);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
	if (fd < 0 && (errno != EEXIST || !e->reissued))
		_exit(11);
	if (fd >= 0)
		(void)close(fd);
	boundary();
	(void)rb_run_effect_done(run, &e->token, 0, "made", NULL);
	boundary();
}

static void v_cancel(struct rb_verbs *v, struct rb_run *run, const struct rb_token *t)
{
	(void)v;
	(void)run;
	(void)t;
}

/* One life: exit status 0 when the run is done. */
static void child(void)
{
	struct rb_verbs verbs = {.start = v_start, .cancel = v_cancel};
	struct rb_run_cfg cfg = {.env = lb_env_real(),
				 .path = "run.log",
				 .verbs = &verbs,
				 .source_name = "files.yaml",
				 .source = text,
				 .source_bytes = strlen(text),
				 .mode = RB_FAILOVER,
				 .who = "test"};
	struct rb_run_status st;
	struct rb_run *run = NULL;
	int rc;

	if (lb_fs_dir_create(&cfg.fs, ".", NULL) != 0)
		_exit(12);
	rc = rb_run_open(&run, &cfg, NULL);
	if (rc == LB_ENOTFOUND)
		rc = rb_run_start(&run, &cfg, NULL);
	if (rc != 0 || rb_run_pump(run, NULL) != 0)
		_exit(13);
	rb_run_status(run, &st);
	_exit(st.state == RB_RUN_DONE ? 0 : 14);
}

static int live(unsigned k)
{
	int status = 0;
	pid_t pid;

	kill_at = k;
	boundary_count = 0;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		child();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static unsigned clean_up(void)
{
	unsigned made = 0;

	for (uint32_t i = 0; i < STEPS; i++) {
		char path[32];

		effect_path(path, i);
		made += unlink(path) == 0 ? 1 : 0;
	}
	(void)unlink("run.log");
	return made;
}

static void every_effect_once_whenever_it_is_killed(void **state)
{
	unsigned k = 1, kills = 0;

	(void)state;
	for (;; k++) {
		int status = live(k);

		if (WIFEXITED(status)) {
			assert_int_equal(WEXITSTATUS(status), 0);
			assert_int_equal(clean_up(), STEPS);
			break;
		}
		assert_int_equal(WTERMSIG(status), SIGKILL);
		kills++;
		status = live(k % 3 + 1); /* the next life ends soon too */
		if (WIFSIGNALED(status))
			kills++;
		status = live(0);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			fail_msg("killed at %u: then status 0x%x", k, (unsigned)status);
		assert_int_equal(clean_up(), STEPS);
	}
	print_message("%u kills over %u boundaries\n", kills, k - 1);
	assert_int_equal(k - 1, 3 * STEPS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_effect_once_whenever_it_is_killed),
	};
	char dir[] = "/tmp/rb-kill-XXXXXX";
	int rc;

	if (mkdtemp(dir) == NULL || chdir(dir) != 0)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	(void)clean_up();
	(void)rmdir(dir);
	return rc;
}

/*
 * The lifeboat program's terminal UI in a pseudo terminal: real curses, real sockets, real signals.
 * test_tui_pty BIN_DIR AGENT_DIR
 */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "fake_agent.h"
#include "pty_vt.h"

static char dir[] = "/tmp/lbtui.XXXXXX";
static char program[512], agent_dir[512], socket_path[100], editor[120];

static const char *const plain_env[] = {"TERM=xterm-256color", "LC_ALL=C.UTF-8", "TZ=UTC",
					"PATH=/usr/bin:/bin", NULL};

static struct pty_vt *start_with(const char *const *env, const char *option, int w, int h)
{
	const char *argv[] = {program, "--socket", socket_path, "tui", option, NULL};

	return pty_vt_start(argv, env, w, h);
}

static struct pty_vt *start(void)
{
	return start_with(plain_env, NULL, 80, 24);
}

static void quit(struct pty_vt *p)
{
	int status;

	pty_vt_type(p, "q");
	status = pty_vt_wait_end(p, false);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_false(pty_vt_alternate(p));
	assert_true(pty_vt_cursor(p));
	assert_true(pty_vt_settings_kept(p));
	pty_vt_end(p);
}

/* ---- the first frame, with no agent at all and with one that never answers ---- */

static void test_no_agent(void **state)
{
	struct timespec a, b;
	struct pty_vt *p;

	(void)state;
	(void)clock_gettime(CLOCK_MONOTONIC, &a);
	p = start();
	pty_vt_wait(p, "q quit");
	(void)clock_gettime(CLOCK_MONOTONIC, &b);
	print_message("first frame after %ld ms\n",
		      (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000);
	pty_vt_wait(p, "NO AGENT");
	pty_vt_wait(p, "no agent answers on");
	quit(p);
}

static void test_silent_agent(void **state)
{
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p;

	(void)state;
	fake_agent_mood(f, FAKE_SILENT);
	p = start();
	pty_vt_wait(p, "CONNECTING");
	pty_vt_type(p, "2");
	pty_vt_wait(p, "SITE"); /* it is not held up */
	quit(p);
	fake_agent_stop(f);
}

/* ---- views, sizes ---- */

static void test_views_and_sizes(void **state)
{
	static const int sizes[][2] = {{80, 24}, {60, 15}, {200, 50}, {40, 9}, {132, 10}};
	static const char *const seen[] = {"protected?", "SITE",  "MACHINE", "POINT", "RUNBOOK",
					   "STATE",      "STATE", "EVENT",   "serial"};
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start();

	(void)state;
	pty_vt_wait(p, "Am I protected?");
	pty_vt_wait(p, "DRILL");
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		pty_vt_size(p, sizes[s][0], sizes[s][1]);
		for (char k = '1'; k <= '9'; k++) {
			const char key[] = {k, '\0'};

			pty_vt_type(p, key);
			pty_vt_wait(p, seen[k - '1']);
		}
	}
	pty_vt_size(p, 1, 1);
	pty_vt_type(p, "4\n5\n\033");
	pty_vt_size(p, 80, 24);
	pty_vt_type(p, "1");
	pty_vt_wait(p, "Am I protected?");
	quit(p);
	fake_agent_stop(f);
}

/* The whole failover by keys, as far as the request. */
static void test_failover_by_keys(void **state)
{
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start();

	(void)state;
	pty_vt_wait(p, "DRILL");
	pty_vt_type(p, "F");
	pty_vt_wait(p, "/etc/lifeboat/runbooks/tokyo-to-osaka.yaml");
	pty_vt_type(p, "\033[B"); /* Down */
	pty_vt_wait(p, ">tokyo-to-osaka");
	pty_vt_wait(p, "no problems; expected");
	pty_vt_type(p, "F");
	pty_vt_wait(p, "1/4");
	pty_vt_type(p, "\r");
	pty_vt_wait(p, "2/4");
	pty_vt_type(p, "\r");
	pty_vt_wait(p, "3/4");
	pty_vt_type(p, "\r");
	pty_vt_wait(p, "Type tokyo to do it:");
	pty_vt_type(p, "\r");
	pty_vt_wait(p, "what is typed is not the name");
	assert_int_equal(fake_agent_posts(f), 0);
	pty_vt_type(p, "tokyo\r");
	pty_vt_wait(p, "run 7f3e9a1c has begun");
	assert_int_equal(fake_agent_posts(f), 1);
	quit(p);
	fake_agent_stop(f);
}

/* ---- colours and characters ---- */

static void test_no_color(void **state)
{
	static const char *const env[] = {"TERM=xterm-256color", "LC_ALL=C.UTF-8", "NO_COLOR=1",
					  NULL};
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start_with(env, NULL, 80, 24);

	(void)state;
	pty_vt_wait(p, "DRILL");
	assert_false(pty_vt_coloured(p));
	quit(p);
	p = start();
	pty_vt_wait(p, "DRILL");
	assert_true(pty_vt_coloured(p));
	quit(p);
	fake_agent_stop(f);
}

static void test_ascii(void **state)
{
	static const char *const env[] = {"TERM=vt100", "LC_ALL=C", NULL};
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start_with(env, NULL, 80, 24);

	(void)state;
	pty_vt_wait(p, "DRILL");
	pty_vt_type(p, "2");
	pty_vt_wait(p, "-- Links");
	pty_vt_type(p, "3");
	pty_vt_wait(p, "??????"); /* a Japanese name, where none can be shown */
	quit(p);
	p = start_with(env, NULL, 80, 24);
	pty_vt_wait(p, "DRILL");
	assert_true(pty_vt_ascii(p));
	quit(p);
	fake_agent_stop(f);
}

static void test_japanese(void **state)
{
	static const char *const env[] = {"TERM=xterm-256color", "LC_ALL=ja_JP.UTF-8", NULL};
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start_with(env, NULL, 80, 24);

	(void)state;
	pty_vt_wait(p, "保護されている?");
	pty_vt_type(p, "3");
	pty_vt_wait(p, "受注サーバー  erp"); /* columns are right after wide characters */
	quit(p);
	fake_agent_stop(f);
}

static void refused(const char *const *env, const char *words)
{
	struct pty_vt *p = start_with(env, NULL, 80, 24);
	int status = pty_vt_wait_end(p, false);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 3);
	assert_true(pty_vt_shows(p, words));
	assert_true(pty_vt_shows(p, "lifeboat watch --plain"));
	assert_true(pty_vt_settings_kept(p));
	pty_vt_end(p);
}

static void test_terminals(void **state)
{
	static const char *const unknown[] = {"TERM=no-such-terminal", "LC_ALL=C.UTF-8", NULL};
	static const char *const dumb[] = {"TERM=dumb", "LC_ALL=C.UTF-8", NULL};
	static const char *const none[] = {"LC_ALL=C.UTF-8", NULL};

	(void)state;
	refused(unknown, "TERM=no-such-terminal is not known");
	refused(dumb, "cannot move the cursor");
	refused(none, "TERM is not set");
}

/* ---- signals ---- */

static void test_signals(void **state)
{
	static const int signals[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGSEGV, SIGABRT, SIGBUS};
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);

	(void)state;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct pty_vt *p = start();
		int status;

		pty_vt_wait(p, "DRILL");
		assert_true(pty_vt_alternate(p));
		assert_false(pty_vt_settings_kept(p));
		assert_int_equal(kill(pty_vt_pid(p), signals[i]), 0);
		status = pty_vt_wait_end(p, false);
		if (i < 4) {
			assert_true(WIFEXITED(status));
			assert_int_equal(WEXITSTATUS(status), 128 + signals[i]);
		} else {
			assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
		}
		assert_false(pty_vt_alternate(p));
		assert_true(pty_vt_cursor(p));
		assert_true(pty_vt_settings_kept(p));
		pty_vt_end(p);
	}
	fake_agent_stop(f);
}

/* Ctrl-Z gives the terminal back; a shell's fg brings everything again. */
static void test_stop_and_go(void **state)
{
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start();
	int status;

	(void)state;
	pty_vt_wait(p, "DRILL");
	pty_vt_type(p, "\032");
	status = pty_vt_wait_end(p, true);
	assert_true(WIFSTOPPED(status));
	assert_false(pty_vt_alternate(p));
	assert_true(pty_vt_settings_kept(p));
	assert_int_equal(kill(pty_vt_pid(p), SIGCONT), 0);
	pty_vt_type(p, "2");
	pty_vt_wait(p, "Links");
	assert_true(pty_vt_alternate(p));
	quit(p);
	fake_agent_stop(f);
}

/* ---- slow, stopped, other terminals ---- */

/* Each key is read while nobody takes what is drawn: the UI never waits for its terminal. */
static void type_unseen(struct pty_vt *p, const char *keys)
{
	for (; *keys != '\0'; keys++)
		pty_vt_type_unseen(p, *keys);
}

/* Ninety views are asked for while the terminal is busy with the first: one is drawn, the last. */
static void test_slow_terminal(void **state)
{
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start();
	uint64_t before;

	(void)state;
	pty_vt_wait(p, " DRILL ");
	pty_vt_type(p, "9");
	pty_vt_wait(p, "serial console"); /* every question so far is answered with it */
	before = pty_vt_bytes(p);
	for (int i = 0; i < 10; i++)
		type_unseen(p, "234567841");
	type_unseen(p, "3");
	pty_vt_wait(p, "MACHINE");
	pty_vt_wait(p, "fileserver");
	print_message("91 views behind its back: %" PRIu64 " bytes\n", pty_vt_bytes(p) - before);
	assert_true(pty_vt_bytes(p) - before < 12288); /* that of one frame and the last */
	quit(p);
	fake_agent_stop(f);
}

/* Ctrl-S, or a link that is dead: it still ends when it is told to, and soon. */
static void test_stopped_terminal(void **state)
{
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);

	(void)state;
	for (int killed = 0; killed < 2; killed++) {
		struct pty_vt *p = start();

		pty_vt_wait(p, " DRILL ");
		pty_vt_type(p, "\023");
		type_unseen(p, "23456784123456784");
		if (killed != 0) {
			assert_int_equal(kill(pty_vt_pid(p), SIGTERM), 0);
			assert_int_equal(WEXITSTATUS(pty_vt_wait_end(p, false)), 128 + SIGTERM);
			assert_true(pty_vt_settings_kept(p));
			pty_vt_end(p);
			continue;
		}
		pty_vt_type(p, "\021");
		pty_vt_wait(p, "7f87e4c9be64");
		quit(p);
	}
	fake_agent_stop(f);
}

/* One that never answers is drawn on at once, too. */
static void test_mute_terminal(void **state)
{
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start();

	(void)state;
	pty_vt_mute(p);
	pty_vt_wait(p, " DRILL ");
	for (int i = 0; i < 20; i++) {
		pty_vt_type(p, "3");
		pty_vt_wait(p, "fileserver");
		pty_vt_type(p, "2");
		pty_vt_wait(p, "Links");
	}
	quit(p);
	fake_agent_stop(f);
}

/* Answers in pieces are answers: their digits are no keys. */
static void test_torn_answers(void **state)
{
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start();

	(void)state;
	pty_vt_wait(p, " DRILL ");
	pty_vt_torn(p);
	for (int i = 0; i < 10; i++) {
		pty_vt_type(p, "3");
		pty_vt_wait(p, "fileserver");
		pty_vt_type(p, "2");
		pty_vt_wait(p, "Links");
	}
	assert_false(pty_vt_shows(p, "1R"));
	quit(p);
	fake_agent_stop(f);
}

/* Below the first line, which has a clock. */
static char *plan_of(struct pty_vt *p)
{
	char *screen, *below;

	pty_vt_type(p, "5");
	pty_vt_wait(p, ">files-only");
	pty_vt_type(p, "\033[B");
	pty_vt_wait(p, ">tokyo-to-osaka");
	pty_vt_wait(p, "no problems; expected");
	screen = pty_vt_screen(p);
	below = strchr(screen, '\n');
	assert_non_null(below);
	memmove(screen, below, strlen(below) + 1);
	return screen;
}

/* Three hundred sizes at once: at the end the screen is that of a terminal that was never resized.
 */
static void test_resize_storm(void **state)
{
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start();
	char *stormy, *calm;

	(void)state;
	pty_vt_wait(p, " DRILL ");
	for (int i = 0; i < 300; i++) {
		pty_vt_size(p, 1 + (i * 37) % 211, 1 + (i * 17) % 61);
		if (i % 7 == 0)
			pty_vt_type(p, "2");
	}
	pty_vt_size(p, 80, 24);
	stormy = plan_of(p);
	quit(p);
	p = start();
	calm = plan_of(p);
	quit(p);
	assert_string_equal(stormy, calm);
	free(stormy);
	free(calm);
	fake_agent_stop(f);
}

/* The terminal draws a frame's line in two columns: frames become ASCII, without an option. */
static void test_wide_terminal(void **state)
{
	static const char *const env[] = {"TERM=xterm-256color", "LC_ALL=ja_JP.UTF-8", NULL};
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start_with(env, NULL, 80, 24);

	(void)state;
	pty_vt_wide(p);
	pty_vt_wait(p, "-- グループ");
	assert_false(pty_vt_shows(p, "─"));
	quit(p);
	p = start_with(env, NULL, 80, 24); /* the same with one that is not */
	pty_vt_wait(p, "── グループ");
	pty_vt_type(p, "2");
	pty_vt_wait(p, "── 回線");
	quit(p);
	fake_agent_stop(f);
}

/* ---- the agent ---- */

static void test_agent_restart(void **state)
{
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start();

	(void)state;
	pty_vt_wait(p, " DRILL ");
	fake_agent_stop(f);
	pty_vt_wait(p, "NO ANSWER FOR");
	assert_true(pty_vt_shows(p, "erp"));
	f = fake_agent_start(socket_path, agent_dir);
	pty_vt_wait_gone(p, "NO ANSWER FOR");
	quit(p);
	fake_agent_stop(f);
}

static void test_moods(void **state)
{
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start();

	(void)state;
	pty_vt_wait(p, " DRILL ");
	fake_agent_mood(f, FAKE_NONSENSE);
	pty_vt_wait(p, "is not a JSON object");
	fake_agent_mood(f, FAKE_GOOD);
	pty_vt_wait_gone(p, "is not a JSON object");
	fake_agent_mood(f, FAKE_LARGE);
	pty_vt_wait(p, "is larger than");
	fake_agent_mood(f, FAKE_GOOD);
	pty_vt_wait_gone(p, "is larger than");
	fake_agent_mood(f, FAKE_SHORT);
	pty_vt_wait(p, "broke off");
	fake_agent_mood(f, FAKE_OTHER);
	pty_vt_wait_gone(p, "broke off");
	for (const char *k = "123456789"; *k != '\0'; k++) {
		const char key[] = {*k, '\0'};

		pty_vt_type(p, key);
	}
	fake_agent_mood(f, FAKE_GOOD);
	pty_vt_type(p, "1");
	pty_vt_wait(p, "Am I protected?");
	pty_vt_wait(p, " DRILL ");
	assert_string_equal(pty_vt_title(p), "");
	quit(p);
	fake_agent_stop(f);
}

/* ---- commands, the editor ---- */

static void test_command(void **state)
{
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start();

	(void)state;
	pty_vt_wait(p, " DRILL ");
	pty_vt_type(p, ":site li\t\r");
	pty_vt_wait(p, "(this site)");
	pty_vt_wait(p, "$ lifeboat site list");
	pty_vt_type(p, "\033");
	pty_vt_wait(p, "Am I protected?");
	pty_vt_type(p, ":point show nothing\r");
	pty_vt_wait(p, "LB_ENOTFOUND");
	pty_vt_type(p, "\033:watch\r"); /* it goes on until it is ended */
	pty_vt_wait(p, "comp=agent ev=started");
	pty_vt_type(p, "\033");
	pty_vt_wait(p, "Am I protected?");
	quit(p);
	fake_agent_stop(f);
}

/* Without a terminal UI: a line for each event, with its date where the day changes. */
static void test_watch_plain(void **state)
{
	const char *argv[] = {program, "--socket", socket_path, "watch", "--plain", NULL};
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = pty_vt_start(argv, plain_env, 120, 24);

	(void)state;
	pty_vt_wait(p, "2026-11-25 14:55:53 info agent started site=osaka");
	pty_vt_wait(p, "\n14:56:06 info accept peer_up");
	assert_int_equal(kill(pty_vt_pid(p), SIGTERM), 0);
	(void)pty_vt_wait_end(p, false);
	pty_vt_end(p);
	fake_agent_stop(f);
}

static void test_editor(void **state)
{
	char visual[200];
	const char *env[] = {"TERM=xterm-256color", "LC_ALL=C.UTF-8", "PATH=/usr/bin:/bin", visual,
			     NULL};
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p;

	(void)state;
	(void)snprintf(visual, sizeof(visual), "VISUAL=%s --flag", editor);
	p = start_with(env, NULL, 80, 24);
	pty_vt_type(p, "5");
	pty_vt_wait(p, ">files-only");
	pty_vt_type(p, "e");
	pty_vt_wait(p, "EDITING --flag /etc/lifeboat/runbooks/files-only.yaml");
	assert_false(pty_vt_alternate(p));
	pty_vt_type(p, "done\r"); /* the editor has the keys */
	pty_vt_wait(p, ">files-only");
	assert_true(pty_vt_alternate(p));
	quit(p);
	fake_agent_stop(f);
}

/* ---- bytes ---- */

/* An idle screen costs less than 2 kB for every second its clock shows. */
static void test_idle_bytes(void **state)
{
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start();
	uint64_t before = 0, used;
	char was[16];

	(void)state;
	pty_vt_wait(p, " DRILL ");
	pty_vt_type(p, "4"); /* the ages of a page of points change */
	pty_vt_wait(p, "7f87e4c9be64");
	for (int round = 0; round < 6; round++) {
		char *screen = pty_vt_screen(p), *first = strchr(screen, '\n');

		assert_non_null(first);
		*first = '\0';
		(void)snprintf(was, sizeof(was), "%s", first - 8);
		free(screen);
		if (round == 1) /* the first second still draws */
			before = pty_vt_bytes(p);
		pty_vt_wait_gone(p, was);
	}
	used = pty_vt_bytes(p) - before;
	print_message("idle: %" PRIu64 " bytes a second\n", used / 5);
	assert_true(used < 5 * 2048);
	quit(p);
	fake_agent_stop(f);
}

/*
 * What one key costs on the way to the terminal: on a link of 8 kbit/s a kilobyte is a second.
 * Whole other views stay below four, moving the selection below a third.
 */
static void test_bytes_of_keys(void **state)
{
	static const char *const seen[] = {"protected?", "SITE",  "MACHINE", "POINT", "RUNBOOK",
					   "STATE",      "STATE", "EVENT",   "serial"};
	struct fake_agent *f = fake_agent_start(socket_path, agent_dir);
	struct pty_vt *p = start();
	uint64_t most = 0, before;

	(void)state;
	pty_vt_wait(p, " DRILL ");
	for (char k = '2'; k <= '9'; k++) {
		const char key[] = {k, '\0'};

		before = pty_vt_bytes(p);
		pty_vt_type(p, key);
		pty_vt_wait(p, seen[k - '1']);
		most = pty_vt_bytes(p) - before > most ? pty_vt_bytes(p) - before : most;
	}
	print_message("another view: at most %" PRIu64 " bytes\n", most);
	assert_true(most < 4096);
	pty_vt_type(p, "4");
	pty_vt_wait(p, ">17e3b2baf838");
	pty_vt_wait(p, "fileserver/vda");
	before = pty_vt_bytes(p);
	pty_vt_type(p, "j");
	pty_vt_wait(p, ">7f87e4c9be64");
	print_message("the next line: %" PRIu64 " bytes\n", pty_vt_bytes(p) - before);
	assert_true(pty_vt_bytes(p) - before < 1400);
	quit(p);
	fake_agent_stop(f);
}

static int set_up(void **state)
{
	FILE *f;

	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	(void)snprintf(socket_path, sizeof(socket_path), "%s/s", dir);
	(void)snprintf(editor, sizeof(editor), "%s/editor", dir);
	f = fopen(editor, "w");
	if (f == NULL)
		return -1;
	(void)fputs("#!/bin/sh\necho EDITING \"$@\"\nread line\n", f);
	(void)fclose(f);
	return chmod(editor, 0700);
}

static int tear_down(void **state)
{
	(void)state;
	(void)unlink(editor);
	(void)unlink(socket_path);
	return rmdir(dir);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_agent),        cmocka_unit_test(test_silent_agent),
		cmocka_unit_test(test_views_and_sizes), cmocka_unit_test(test_failover_by_keys),
		cmocka_unit_test(test_no_color),        cmocka_unit_test(test_ascii),
		cmocka_unit_test(test_japanese),        cmocka_unit_test(test_terminals),
		cmocka_unit_test(test_signals),         cmocka_unit_test(test_stop_and_go),
		cmocka_unit_test(test_agent_restart),   cmocka_unit_test(test_moods),
		cmocka_unit_test(test_slow_terminal),   cmocka_unit_test(test_stopped_terminal),
		cmocka_unit_test(test_resize_storm),    cmocka_unit_test(test_mute_terminal),
		cmocka_unit_test(test_torn_answers),    cmocka_unit_test(test_wide_terminal),
		cmocka_unit_test(test_command),         cmocka_unit_test(test_editor),
		cmocka_unit_test(test_watch_plain),     cmocka_unit_test(test_idle_bytes),
		cmocka_unit_test(test_bytes_of_keys),
	};

	if (argc < 3)
		return 2;
	(void)snprintf(program, sizeof(program), "%s/lifeboat", argv[1]);
	(void)snprintf(agent_dir, sizeof(agent_dir), "%s", argv[2]);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}

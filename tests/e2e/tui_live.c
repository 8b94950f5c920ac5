/*
 * The terminal UI with real agents behind it: tui_live PHASE COMMAND...
 *
 * line: COMMAND is at the other end of a line of 8 kbit/s, with 80x24. All is usable and right,
 * nothing typed is lost, nothing piles up; the time of each view is printed.
 *
 * agent: says "please: kill" and "please: start" to whoever called it. The UI says that nobody
 * answers, and finds the new agent.
 *
 * machine: console and screen of machine pay, which runs under lifeboat-vm here. LB_SAYS and
 * LB_SHOWS: what it says and shows.
 *
 * plan: prints the screen of the second runbook's plan, without its clock.
 *
 * wide: COMMAND is the UI in tmux, which lets questions through to a terminal that draws frames two
 * columns wide: they become ASCII.
 *
 * shells: COMMAND is the programs' directory and one for scratch. A name that only the agent knows
 * is completed by Tab in bash, zsh and fish.
 *
 * Exit status 0: everything was seen.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "pty_vt.h"

#define LONG_MS 80000 /* a slow line on a busy machine */

static int64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void fail(struct pty_vt *p, const char *what)
{
	char *screen = pty_vt_screen(p);

	(void)fprintf(stderr, "FAILED: %s; the screen:\n%s\n", what, screen);
	exit(1);
}

/* Type @keys, until @then is there; say how long that took. */
static void press(struct pty_vt *p, const char *what, const char *keys, const char *then)
{
	int64_t from = now_ms();
	uint64_t bytes = pty_vt_bytes(p);

	pty_vt_type(p, keys);
	pty_vt_wait_long(p, then, LONG_MS);
	(void)printf("%-28s %6" PRId64 " ms %6" PRIu64 " bytes\n", what, now_ms() - from,
		     pty_vt_bytes(p) - bytes);
	(void)fflush(stdout);
}

static void show(struct pty_vt *p, const char *what)
{
	char *screen = pty_vt_screen(p);

	(void)printf("-- %s\n%s", what, screen);
	(void)fflush(stdout);
	free(screen);
}

static void quit(struct pty_vt *p)
{
	int status;

	pty_vt_type(p, "q");
	status = pty_vt_wait_end(p, false);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail(p, "it did not end well");
	if (pty_vt_alternate(p) || !pty_vt_cursor(p))
		fail(p, "the terminal was not given back");
}

/* The screen without its first line, which has a clock. */
static char *below_the_clock(struct pty_vt *p)
{
	char *screen = pty_vt_screen(p), *below = strchr(screen, '\n');

	below = below != NULL ? strdup(below) : NULL;
	free(screen);
	if (below == NULL)
		abort();
	return below;
}

static struct pty_vt *start(const char *const *command)
{
	static const char *const env[] = {"TERM=xterm-256color", "LC_ALL=C.UTF-8", "TZ=UTC",
					  "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};

	return pty_vt_start(command, env, 80, 24);
}

/* ---- a slow line ---- */

static const struct {
	const char *name, *key, *there;
} views[] = {
	{"sites", "2", "Links"},  {"machines", "3", "MACHINE"},
	{"points", "4", "POINT"}, {"runbooks", "5", "RUNBOOK"},
	{"runs", "6", "STATE"},   {"drills", "7", "drills went well"},
	{"events", "8", "EVENT"}, {"console", "9", "serial console"},
};

/* What is typed while the screen is behind arrives, in order. */
static void nothing_is_lost(struct pty_vt *p)
{
	press(p, "6 keys at once: help, search", "234?fail", "Search: fail");
	press(p, "leave it", "\033", "3machines");
	press(p, "a command line", ":point list --max 3", ":point list --max 3");
	press(p, "its output", "\r", "scroll   Esc leave");
	press(p, "leave it", "\033", "q quit");
}

static void nothing_piles_up(struct pty_vt *p)
{
	uint64_t bytes = pty_vt_bytes(p);

	for (int i = 0; i < 8; i++)
		pty_vt_type(p, "23456781");
	press(p, "64 views at once, then one", "5", "no problems; expected");
	bytes = pty_vt_bytes(p) - bytes;
	(void)printf("64 views and one were drawn with %" PRIu64 " bytes\n", bytes);
	if (bytes > 16384)
		fail(p, "the terminal was written to faster than it takes");
}

/* The wizard as far as its last page; nothing is done. */
static void wizard(struct pty_vt *p)
{
	press(p, "wizard: what is lost", "F", "1/4");
	press(p, "wizard: who is alive", "\r", "2/4");
	press(p, "wizard: the plan", "\r", "3/4");
	press(p, "wizard: the name", "\r", "Type tokyo to do it:");
	press(p, "wizard: half of it", "tok", "to do it: tok");
	press(p, "wizard: left", "\033", "no problems; expected");
}

static void plan(struct pty_vt *p)
{
	char *screen;

	pty_vt_type(p, "5");
	pty_vt_wait_long(p, ">a-drill", LONG_MS);
	pty_vt_type(p, "\033[B");
	pty_vt_wait_long(p, ">z-over", LONG_MS);
	pty_vt_wait_long(p, "no problems; expected", LONG_MS);
	pty_vt_wait_long(p, "e edit", LONG_MS);
	screen = below_the_clock(p);
	(void)fputs(screen + 1, stdout);
	free(screen);
	quit(p);
}

/* At the end the far screen is the one that is seen here, whole. */
static void same_as_here(struct pty_vt *p)
{
	const char *const here[] = {getenv("LB_FAST"), "--socket", getenv("LB_SOCKET"), "tui",
				    NULL};
	struct pty_vt *fast = start(here);
	char *want;

	pty_vt_type(fast, "5");
	pty_vt_wait_long(fast, ">a-drill", LONG_MS);
	pty_vt_wait_long(fast, "no problems; expected", LONG_MS);
	pty_vt_wait_long(fast, "q quit", LONG_MS);
	want = below_the_clock(fast);
	quit(fast);
	pty_vt_end(fast);
	pty_vt_type(p, "?");
	pty_vt_wait_long(p, "Search:", LONG_MS);
	pty_vt_type(p, "\033");
	press(p, "no message any more", "\033", want);
	free(want);
}

static void line(struct pty_vt *p)
{
	press(p, "start", "", "Am I protected?");
	press(p, "the first answer", "", "within their goal");
	for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++)
		press(p, views[i].name, views[i].key, views[i].there);
	nothing_is_lost(p);
	nothing_piles_up(p);
	wizard(p);
	same_as_here(p);
	quit(p);
}

/* ---- an agent that dies ---- */

static void please(const char *what)
{
	(void)printf("please: %s\n", what);
	(void)fflush(stdout);
}

static void agent(struct pty_vt *p)
{
	pty_vt_wait_long(p, "within their goal", LONG_MS);
	please("kill");
	pty_vt_wait_long(p, "NO ANSWER FOR", LONG_MS);
	pty_vt_wait_long(p, "no agent answers on", LONG_MS);
	if (!pty_vt_shows(p, "erp"))
		fail(p, "old truth is gone");
	pty_vt_type(p, "3"); /* it is not held up */
	pty_vt_wait(p, "MACHINE");
	please("start");
	pty_vt_wait_gone(p, "NO ANSWER FOR");
	pty_vt_type(p, "1");
	pty_vt_wait_long(p, "Am I protected?", LONG_MS);
	quit(p);
}

/* ---- a machine ---- */

static void machine(struct pty_vt *p)
{
	pty_vt_wait_long(p, "Am I protected?", LONG_MS);
	pty_vt_type(p, "3");
	pty_vt_wait_long(p, "pay", LONG_MS);
	pty_vt_type(p, "/pay\r");
	pty_vt_wait_long(p, ">pay", LONG_MS);
	pty_vt_wait_long(p, "Enter console  s screen", LONG_MS);
	pty_vt_type(p, "\r");
	pty_vt_wait_long(p, getenv("LB_SAYS"), LONG_MS);
	show(p, "its console");
	pty_vt_type(p, "\0331"); /* from the window, or from view 9 */
	pty_vt_wait_long(p, "Am I protected?", LONG_MS);
	pty_vt_type(p, "3");
	pty_vt_wait_long(p, "Enter console  s screen", LONG_MS);
	pty_vt_type(p, "s");
	pty_vt_wait_long(p, "vm screenshot pay", LONG_MS);
	pty_vt_wait_long(p, getenv("LB_SHOWS"), LONG_MS);
	pty_vt_wait_gone(p, "it runs: Esc ends it");
	show(p, "its screen");
	pty_vt_type(p, "\033");
	pty_vt_wait_long(p, ">pay", LONG_MS);
	quit(p);
}

/* ---- a terminal around another ---- */

static void wide(struct pty_vt *p)
{
	pty_vt_wide(p);
	pty_vt_wait_long(p, "-- Groups", LONG_MS);
	if (pty_vt_shows(p, "─"))
		fail(p, "a frame that is two columns wide there");
	show(p, "frames in tmux in a wide terminal");
	pty_vt_type(p, "q"); /* the terminal is given back by tmux */
	if (pty_vt_wait_end(p, false) != 0)
		fail(p, "it did not end well");
}

/* ---- completion ---- */

static void complete_in(const char *const *shell, const char *const *env, const char *ready,
			const char *load)
{
	struct pty_vt *p = pty_vt_start(shell, env, 80, 24);

	pty_vt_type(p, ready);
	pty_vt_wait_long(p, "a prompt: 42", LONG_MS);
	pty_vt_type(p, load);
	pty_vt_wait_long(p, "loaded: 43", LONG_MS);
	pty_vt_type(p, "lifeboat group cut c\t");
	pty_vt_wait_long(p, "lifeboat group cut crm", LONG_MS);
	(void)printf("%s completes a name of the agent's\n", shell[0]);
	pty_vt_end(p);
}

static int shells(const char *bin, const char *scratch)
{
	char path[1024], home[512];
	const char *env[] = {
		"TERM=xterm-256color", "LC_ALL=C.UTF-8", path, home, getenv("LB_SOCKET_IS"), NULL};

	(void)snprintf(path, sizeof(path), "PATH=%s:/usr/bin:/bin", bin);
	(void)snprintf(home, sizeof(home), "HOME=%s", scratch);
	complete_in((const char *const[]){"/bin/bash", "--norc", "--noprofile", "-i", NULL}, env,
		    "echo a prompt: $((6 * 7))\r",
		    "source <(lifeboat completion bash); echo loaded: $((42 + 1))\r");
	complete_in((const char *const[]){"/usr/bin/zsh", "-f", "-i", NULL}, env,
		    "autoload -Uz compinit; compinit -u -D; echo a prompt: $((6 * 7))\r",
		    "source <(lifeboat completion zsh); echo loaded: $((42 + 1))\r");
	complete_in((const char *const[]){"/usr/bin/fish", "--no-config", "-i", NULL}, env,
		    "echo a prompt: (math 6 '*' 7)\r",
		    "lifeboat completion fish | source; echo loaded: (math 42 + 1)\r");
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*fn)(struct pty_vt *p);
	} phases[] = {{"line", line},
		      {"agent", agent},
		      {"machine", machine},
		      {"plan", plan},
		      {"wide", wide}};
	const size_t count = sizeof(phases) / sizeof(phases[0]);
	struct pty_vt *p;
	size_t i = 0;

	if (argc == 4 && strcmp(argv[1], "shells") == 0)
		return shells(argv[2], argv[3]);
	while (argc > 2 && i < count && strcmp(phases[i].name, argv[1]) != 0)
		i++;
	if (argc <= 2 || i == count) {
		(void)fputs("usage: tui_live line|agent|machine|plan|wide|shells COMMAND...\n",
			    stderr);
		return 2;
	}
	p = start((const char *const *)argv + 2);
	phases[i].fn(p);
	pty_vt_end(p);
	return 0;
}

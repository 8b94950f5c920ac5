/*
 * The demo's acts by keys only, in the terminal UI of the backup site: tui_story PHASE LIFEBOAT
 * SOCKET
 *
 *   watch      protected, machines, recovery points, the age of the newest
 *   drill      choose the runbook, drill it, see it end well, read the console of a booted machine
 *   failover   the wizard to its typed name, the run to its end, the banner, the console
 *   screen     (of e2e.cold) the screen of a machine under the KVM core
 *
 * Each phase is a terminal UI of its own: a run goes on when one ends, and the next finds it.
 * Prints the screens it came by. Exit status 0: everything was seen.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pty_vt.h"

#define LONG_MS 300000 /* emulated guests on a busy machine */

static void show(struct pty_vt *p, const char *what)
{
	char *screen = pty_vt_screen(p);

	(void)printf("-- %s\n%s", what, screen);
	(void)fflush(stdout);
	free(screen);
}

static void press(struct pty_vt *p, const char *keys, const char *then)
{
	pty_vt_type(p, keys);
	pty_vt_wait(p, then);
}

static void watch(struct pty_vt *p)
{
	pty_vt_wait_long(p, "YES: 1 of 1 groups", LONG_MS);
	pty_vt_wait(p, "tokyo, 1 groups; this site is the backup");
	show(p, "overview");
	press(p, "3", "erp-db");
	pty_vt_wait(p, "old-crm");
	press(p, "4", "erp-db/vda"); /* what the newest point holds */
	show(p, "points");
	press(p, "2", "top "); /* a curve of what the link carries */
	show(p, "links");
}

static void choose_runbook(struct pty_vt *p, const char *key)
{
	press(p, key, "choose a runbook");
	pty_vt_wait(p, ">tokyo-to-osaka");
	pty_vt_wait(p, "no problems; expected");
}

/* The open run to its end, then the console of the first machine. */
static void follow(struct pty_vt *p, const char *mode)
{
	char title[80];

	(void)snprintf(title, sizeof(title), "tokyo-to-osaka (%s) ~ RUNNING", mode);
	pty_vt_wait(p, title);
	(void)snprintf(title, sizeof(title), "tokyo-to-osaka (%s) ✓ DONE", mode);
	pty_vt_wait_long(p, title, LONG_MS);
	pty_vt_wait(p, "RTO achieved");
	show(p, "the run");
	press(p, "\033[B", ">db");
	press(p, "\r", "erp-db: serial console");
	pty_vt_wait(p, "LBW seq="); /* it goes on where the point was taken */
	show(p, "the console of erp-db");
}

static void drill(struct pty_vt *p)
{
	choose_runbook(p, "D");
	press(p, "D", "$ lifeboat ");
	pty_vt_wait(p, "Enter does it");
	pty_vt_type(p, "\r");
	pty_vt_wait(p, " DRILL ");
	follow(p, "drill");
	press(p, "7", "1 of 1 drills went well");
}

static void failover(struct pty_vt *p)
{
	choose_runbook(p, "F");
	press(p, "F", "1/4");
	pty_vt_wait(p, "erp: "); /* what would be lost, of which group */
	show(p, "what would be lost");
	press(p, "\r", "2/4");
	pty_vt_wait(p, "tokyo is not connected, since");
	show(p, "who is alive");
	press(p, "\r", "3/4");
	pty_vt_wait(p, "boot     db erp-db");
	press(p, "\r", "Type tokyo to do it:");
	press(p, "\r", "what is typed is not the name");
	pty_vt_type(p, "tokyo\r");
	pty_vt_wait(p, "FAILOVER RUNNING");
	follow(p, "failover");
	press(p, "1", "FAILED OVER");
	pty_vt_wait(p, "erp runs here and is replicated nowhere");
	show(p, "afterwards");
}

/* e2e.cold: what stands on the screen of a machine under the KVM core. */
static void screen(struct pty_vt *p)
{
	press(p, "3", ">crm");
	pty_vt_wait(p, "s screen"); /* once it is known which machines have one */
	press(p, "s", "welcome to Osaka.");
	show(p, "the screen of crm");
	pty_vt_type(p, "q");
	pty_vt_wait_gone(p, "welcome to Osaka.");
}

int main(int argc, char **argv)
{
	static const char *const env[] = {"TERM=xterm-256color", "LC_ALL=C.UTF-8", "TZ=UTC",
					  "PATH=/usr/bin:/bin", NULL};
	static const struct {
		const char *name;
		void (*fn)(struct pty_vt *p);
	} phases[] = {
		{"watch", watch}, {"drill", drill}, {"failover", failover}, {"screen", screen}};
	struct pty_vt *p;
	size_t i = 0;

	while (argc == 4 && i < 4 && strcmp(phases[i].name, argv[1]) != 0)
		i++;
	if (argc != 4 || i == 4) {
		(void)fputs("usage: tui_story watch|drill|failover|screen LIFEBOAT SOCKET\n",
			    stderr);
		return 2;
	}
	p = pty_vt_start((const char *const[]){argv[2], "--socket", argv[3], "tui", NULL}, env, 100,
			 30);
	phases[i].fn(p);
	pty_vt_type(p, "q");
	i = (size_t)pty_vt_wait_end(p, false);
	pty_vt_end(p);
	return i == 0 ? 0 : 1;
}

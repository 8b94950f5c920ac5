/* `lifeboat tui` becomes lifeboat-tui, a program of its own: curses is not needed where only the
 * agent and the command line are. */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli_int.h"

#define PROGRAM "lifeboat-tui"

/* Beside this program, else wherever PATH finds it. */
static void program_path(char *out, size_t cap)
{
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	exe[n > 0 ? n : 0] = '\0';
	(void)snprintf(out, cap, "%s/" PROGRAM, n > 0 ? dirname(exe) : ".");
	if (n <= 0 || access(out, X_OK) != 0)
		(void)snprintf(out, cap, PROGRAM);
}

int cli_tui(struct cli *c)
{
	char path[PATH_MAX + 16];
	const char *argv[10];
	size_t n = 0;

	if (c->json)
		return lb_err_set(&c->err, LB_EINPUT, 0,
				  "tui is for people; `lifeboat status --json` is for programs");
	program_path(path, sizeof(path));
	argv[n++] = PROGRAM;
	argv[n++] = "--socket";
	argv[n++] = c->socket;
	if (c->ascii)
		argv[n++] = "--ascii";
	if (c->read_only)
		argv[n++] = "--read-only";
	if (c->theme != NULL) {
		argv[n++] = "--theme";
		argv[n++] = c->theme;
	}
	argv[n] = NULL;
	(void)execvp(path, (char *const *)argv);
	return lb_err_errno(&c->err, errno, "start " PROGRAM " (package lifeboat-tui)");
}

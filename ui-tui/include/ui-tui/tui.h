/*
 * ui-tui/tui.h - the terminal UI as a whole: the pure machine of app.h on this terminal, with the
 * agent behind a socket.
 */
#ifndef UI_TUI_TUI_H
#define UI_TUI_TUI_H

#include <stdbool.h>

struct lb_err;

struct ui_tui_cfg {
	const char *socket;  /* of the agent */
	const char *theme;   /* NULL: default, or mono with NO_COLOR */
	const char *program; /* the lifeboat program, for the command line */
	bool ascii, read_only;
};

/* Runs until the user leaves or a signal ends it. *status is the exit status of the program: 0, or
 * 128 + the signal's number. The locale is set. Errors: LB_EUNSUPPORTED: not on this terminal,
 * LB_EINPUT: no such theme. The terminal is as it was in every case. */
int ui_tui_run(const struct ui_tui_cfg *cfg, int *status, struct lb_err *err);

#endif

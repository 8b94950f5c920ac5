/*
 * ui-tui/src/theme_int.h - how a style looks. Every theme tells states apart without colour too:
 * by words, marks, bold and reverse.
 */
#ifndef UI_THEME_INT_H
#define UI_THEME_INT_H

#include <stdbool.h>

#include "ui-tui/grid.h"

struct lb_err;

enum ui_theme {
	UI_THEME_DEFAULT,
	UI_THEME_HIGH_CONTRAST,
	UI_THEME_BLUE_ORANGE, /* for who does not tell red from green */
	UI_THEME_MONO,        /* NO_COLOR: bold, reverse, underline only */
	UI_THEMES
};

struct ui_look {
	short fg, bg; /* ANSI 0..7, -1: the terminal's own */
	bool bold, reverse, underline, dim;
};

struct ui_look ui_theme_look(enum ui_theme t, enum ui_style s);
const char *ui_theme_name(enum ui_theme t); /* "default", "high-contrast", ... */
int ui_theme_parse(enum ui_theme *out, const char *name, struct lb_err *err); /* LB_EINPUT */

#endif

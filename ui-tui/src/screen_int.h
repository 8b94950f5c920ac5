/*
 * ui-tui/src/screen_int.h - the terminal: the only file that knows curses.
 *
 * One per process (curses has one). The terminal is given back by ui_screen_close(), when the
 * process stops for Ctrl-Z or an editor, and when it dies by a signal that cannot be handled.
 * Thread: the UI's.
 */
#ifndef UI_SCREEN_INT_H
#define UI_SCREEN_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "theme_int.h"

struct lb_err;

/* @utf8: find out how wide frames are here. Errors: LB_EUNSUPPORTED: no terminal, or of a kind that
 * cannot do it; the message says what to use instead. */
int ui_screen_open(enum ui_theme theme, bool utf8, struct lb_err *err);
void ui_screen_close(void); /* also when it is not open */
/* May it be drawn, or is the last frame still on its way (tty_int.h)? */
bool ui_screen_ready(uint64_t now_ns);
/* Both true: not all was taken; ui_screen_flush() when ui_screen_out() is writable. */
bool ui_screen_draw(const struct ui_grid *g, uint64_t now_ns);
bool ui_screen_flush(void);
int ui_screen_in(void); /* readable: there are keys */
int ui_screen_out(void);
bool ui_screen_gone(void); /* nobody is there to write to */
/* The terminal draws characters of ambiguous width in two columns (Japanese habits): frames must be
 * ASCII. It says so some time after the first frame. */
bool ui_screen_wide(void);
/* The next key of ui-tui/app.h that was typed; false: none is waiting. */
bool ui_screen_key(uint32_t *key);
void ui_screen_size(int *w, int *h); /* asks the terminal */
/* The terminal as it was, for another program; and back. */
void ui_screen_suspend(void);
void ui_screen_resume(void);
void ui_screen_repaint(void); /* with the next ui_screen_draw(), which is at once */

#endif

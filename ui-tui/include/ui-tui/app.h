/*
 * ui-tui/app.h - the terminal UI as a pure machine: input -> orders, state -> grid of cells.
 *
 *   keys, ticks, answers ──► ui_app_step() ──► orders: ask the agent, run, edit, quit
 *                                 │
 *                            ui_app_draw() ──► grid
 *
 * No terminal, no socket, no clock in here: the shell (shell.c) carries out the orders, asks the
 * agent on threads of its own and hands the answers back as input. So nothing here can block, and
 * tests drive every screen and every key without a terminal.
 *
 * Invariants:
 *   (U1) a request that the agent calls dangerous leaves only after its site's name was typed.
 *   (U2) a request that changes something leaves only after its equal command line was shown.
 *   (U3) read-only: no such request ever leaves.
 *   (U4) no byte of foreign text that is not clean reaches the grid.
 * Thread: one at a time. Out of memory aborts.
 */
#ifndef UI_TUI_APP_H
#define UI_TUI_APP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json_t;
struct lb_err;
struct ui_app;
struct ui_grid;

struct ui_app_cfg {
	const char
		*socket; /* shown, and part of the commands when it is not the default; borrowed */
	bool ascii, read_only;
};

/* Keys are code points; these have none. */
enum {
	UI_K_TAB = 9,
	UI_K_ENTER = 10,
	UI_K_ESC = 27,
	UI_K_BACKSPACE = 127,
	UI_K_UP = 0x110000,
	UI_K_DOWN,
	UI_K_LEFT,
	UI_K_RIGHT,
	UI_K_PAGE_UP,
	UI_K_PAGE_DOWN,
	UI_K_HOME,
	UI_K_END,
	UI_K_DELETE,
	UI_K_BACKTAB,
	UI_K_F1, /* F1 is help, F2..F10 follow */
	UI_K_F10 = UI_K_F1 + 9,
	UI_K_LAST = UI_K_F10
};
#define UI_K_CTRL(c) ((c)&0x1f)

enum ui_input_kind {
	UI_IN_KEY,    /* .key */
	UI_IN_SIZE,   /* .w, .h */
	UI_IN_TICK,   /* time passed: about four a second */
	UI_IN_ANSWER, /* .id, .rc, .body or .message and .hint */
	UI_IN_OUTPUT, /* .text, .len: of the command that runs */
	UI_IN_EXIT,   /* the command ended with .rc; -1: it did not start (.message) */
	UI_IN_EDITED, /* the editor has ended with .rc */
};
struct ui_input {
	enum ui_input_kind kind;
	uint64_t now_ns, wall_ns; /* always */
	uint32_t key;
	int w, h;
	uint64_t id;
	int rc;
	const struct json_t *body; /* borrowed */
	const char *message, *hint, *text;
	size_t len;
};

enum ui_order_kind {
	UI_DO_ASK,  /* .id .method .path .body; .acts: it changes something */
	UI_DO_RUN,  /* .argv: the lifeboat program with these arguments, output as UI_IN_OUTPUT */
	UI_DO_KILL, /* end that command */
	UI_DO_EDIT, /* .path in the user's editor, on this terminal */
	UI_DO_REPAINT, /* the terminal is not what we think it is */
	UI_DO_QUIT,
};
#define UI_ARGS_MAX 24u
struct ui_order {
	enum ui_order_kind kind;
	uint64_t id;
	bool acts;
	const char *method;
	char path[640];
	struct json_t *body; /* owned by the order; may be NULL */
	char *argv[UI_ARGS_MAX + 1];
};
struct ui_orders { /* in order; borrowed until the next step */
	struct ui_order *item;
	size_t count;
};

struct ui_app *ui_app_create(const struct ui_app_cfg *cfg);
void ui_app_destroy(struct ui_app *a);   /* NULL is allowed */
void ui_app_set_ascii(struct ui_app *a); /* from now on: the terminal turned out to need it */
void ui_app_step(struct ui_app *a, const struct ui_input *in, struct ui_orders *out);
/* The screen as it is now, into a grid made by ui_grid_init(), of any size. */
void ui_app_draw(struct ui_app *a, struct ui_grid *g);

/* Every deed for the manual page, one a line: key, views ("" everywhere), what it does; by tabs. */
void ui_app_print_keys(FILE *out);

/* For tests: how often a view was drawn and a deed done, by name ("view overview", "deed
 * group-cut"); 0 when there is no such thing. */
unsigned ui_app_reached(const struct ui_app *a, const char *name);
/* The @i-th name that ui_app_reached() knows, at most 64 bytes; false after the last. */
bool ui_app_place(size_t i, char *out, size_t cap);

#endif

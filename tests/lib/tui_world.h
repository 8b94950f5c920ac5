/*
 * tests/lib/tui_world.h - the UI's core with an agent that is a directory of JSON files, and time
 * that only the test moves. No terminal, no thread, no socket.
 *
 * GET /v1/runs/1a2b is answered with runs_1a2b.json, without the query; a POST is noted, and
 * answered with act.json. What is not there is LB_ENOTFOUND. With tw_live() a real agent answers.
 */
#ifndef TESTS_TUI_WORLD_H
#define TESTS_TUI_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "theme_int.h"
#include "ui-tui/app.h"
#include "ui-tui/grid.h"

struct json_t;
struct sa_ctl;

#define TW_ACTS 16u

struct tui_world {
	struct ui_app *app;
	struct ui_grid grid;
	uint64_t now_ns, wall_ns;
	const char *dir;
	struct sa_ctl *live;       /* a real agent answers instead of @dir; borrowed */
	bool away;                 /* nobody answers */
	bool refuse;               /* every request that acts is LB_EDENIED */
	const char *name_all;      /* every name and text that the agent tells is this one */
	const char *override_path; /* this path is answered with that object (borrowed) */
	const struct json_t *override_body;
	/* what was asked for, besides looking */
	struct {
		char path[640];
		char *body; /* JSON, sorted keys */
	} act[TW_ACTS];
	unsigned acts, asked; /* @asked: looks so far */
	char run[1024];       /* words of the last command, each in brackets */
	char edit[640];
	bool quit;
	unsigned kills, repaints;
};

void tw_init(struct tui_world *w, const char *dir, const struct ui_app_cfg *cfg, int columns,
	     int rows);
/* Nobody answers, from the first question on. */
void tw_init_away(struct tui_world *w, const struct ui_app_cfg *cfg, int columns, int rows);
void tw_live(struct tui_world *w, struct sa_ctl *ctl, const struct ui_app_cfg *cfg, int columns,
	     int rows);
void tw_fini(struct tui_world *w);
void tw_input(struct tui_world *w, struct ui_input *in);
void tw_key(struct tui_world *w, uint32_t key);
void tw_type(struct tui_world *w, const char *text); /* ASCII */
void tw_pass(struct tui_world *w, uint64_t ns);      /* ticks, four a second */
void tw_size(struct tui_world *w, int columns, int rows);
char *tw_screen(struct tui_world *w); /* as text; free it */
/* How @theme shows the screen: a line for each row that is not plain from end to end, with its
 * spans of one look: "row: column+columns look, ...". What is not listed is plain. */
void tw_looks(struct tui_world *w, enum ui_theme theme, FILE *out);
bool tw_shows(struct tui_world *w, const char *text); /* somewhere on the screen */

#endif

/* ui-tui/src/views_int.h - the views, one file each; views.c has their table. */
#ifndef UI_VIEWS_INT_H
#define UI_VIEWS_INT_H

#include "app_int.h"

const struct ui_table *ui_overview_table(const struct ui_app *a);
void ui_overview_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area);
const struct ui_table *ui_sites_table(const struct ui_app *a);
void ui_sites_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area);
const struct ui_table *ui_machines_table(const struct ui_app *a);
void ui_machines_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area);
const struct ui_table *ui_points_table(const struct ui_app *a);
void ui_points_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area);
const struct ui_table *ui_runbooks_table(const struct ui_app *a);
void ui_runbooks_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area);
const struct ui_table *ui_runs_table(const struct ui_app *a);
void ui_runs_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area);
const struct ui_table *ui_drills_table(const struct ui_app *a);
void ui_drills_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area);
const struct ui_table *ui_events_table(const struct ui_app *a);
void ui_events_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area);
void ui_console_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area);

/* How many of @count lines are shown in @rows rows: all, or so many that one row says what is left
 * out. */
size_t ui_lines_shown(size_t count, int rows);
/* That row: where the others can be seen. Nothing when @left_out is 0. */
void ui_put_more(struct ui_grid *g, int y, struct ui_area area, size_t left_out, const char *where);

/* One row of a list of runs. */
extern const struct ui_col ui_run_cols[];
#define UI_RUN_COLS 7u
void ui_run_cell(const struct ui_app *a, const struct ui_run *r, unsigned col, struct ui_out *out);

#endif

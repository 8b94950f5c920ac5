/* Drills: when was this last proven? */
#include <string.h>

#include "base/text.h"
#include "views_int.h"

static const struct ui_run *nth(const struct ui_app *a, size_t row)
{
	for (size_t i = 0; i < a->model.runs; i++)
		if (strcmp(a->model.run[i].mode, "drill") == 0 && row-- == 0)
			return &a->model.run[i];
	return NULL;
}

static size_t rows(const struct ui_app *a)
{
	size_t n = 0;

	for (size_t i = 0; i < a->model.runs; i++)
		n += strcmp(a->model.run[i].mode, "drill") == 0 ? 1 : 0;
	return n;
}

static void cell(const struct ui_app *a, size_t row, unsigned col, struct ui_out *out)
{
	const struct ui_run *r = nth(a, row);

	if (r != NULL)
		ui_run_cell(a, r, col, out);
}

static const char *key_of(const struct ui_app *a, size_t row)
{
	const struct ui_run *r = nth(a, row);

	return r != NULL ? r->id.show : "";
}

static const struct ui_table table = {.col = ui_run_cols,
				      .cols = UI_RUN_COLS,
				      .rows = rows,
				      .cell = cell,
				      .key = key_of,
				      .part = UI_PART_STATUS,
				      .newest_first = true,
				      .empty = N_("no drill at this site yet: D drills a runbook")};

const struct ui_table *ui_drills_table(const struct ui_app *a)
{
	(void)a;
	return &table;
}

/* The last @n drills as one line of marks, newest right. */
static void draw_line(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	int x = area.x + area.w - 2;
	size_t good = 0, n = rows(a);

	for (size_t i = 0; i < n; i++) {
		const struct ui_run *r = nth(a, i);
		enum ui_style style = ui_state_style(r->state);

		good += style == UI_OK ? 1 : 0;
		if (x > area.x + 40)
			(void)ui_put(g, area.y, x--, 1, style, ui_mark(a, style));
	}
	(void)ui_putf(g, area.y, area.x + 1, 39, UI_HEAD, _("%zu of %zu drills went well"), good,
		      n);
}

void ui_drills_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	draw_line(a, g, area);
	ui_list_draw(a, &a->list[UI_VIEW_DRILLS], &table, g,
		     (struct ui_area){area.y + 1, area.x, area.h - 1, area.w}, true);
}

/* Events, newest first. */
#include <string.h>

#include "base/text.h"
#include "views_int.h"

static const struct ui_event *nth(const struct ui_app *a, size_t row)
{
	return &a->model.event[a->model.events - 1 - row];
}

static size_t rows(const struct ui_app *a)
{
	return a->model.events;
}

/* Of "ts=... lvl=... comp=... ev=... rest" the rest: the others have columns. */
static const char *fields(const struct ui_event *e)
{
	const char *p = strstr(e->line, " ev=");

	p = p != NULL ? strchr(p + 1, ' ') : NULL;
	return p != NULL ? p + 1 : "";
}

static void cell(const struct ui_app *a, size_t row, unsigned col, struct ui_out *out)
{
	const struct ui_event *e = nth(a, row);
	char text[LB_HUMAN_BYTES];

	switch (col) {
	case 0:
		(void)snprintf(out->text, sizeof(out->text), "%s", ui_when(a, text, e->wall_ns));
		break;
	case 1:
		(void)snprintf(out->text, sizeof(out->text), "%s", e->level);
		out->style = ui_state_style(e->level);
		break;
	case 2:
		(void)snprintf(out->text, sizeof(out->text), "%s %s", e->comp, e->ev);
		break;
	default:
		(void)snprintf(out->text, sizeof(out->text), "%s", fields(e));
		out->style = UI_DIM;
	}
}

static const char *key_of(const struct ui_app *a, size_t row)
{
	return nth(a, row)->key;
}

static const struct ui_col cols[] = {{N_("TIME"), 1, false},
				     {N_("LEVEL"), 0, false},
				     {N_("EVENT"), 0, false},
				     {N_("FIELDS"), 2, false}};
static const struct ui_table table = {.col = cols,
				      .cols = 4,
				      .rows = rows,
				      .cell = cell,
				      .key = key_of,
				      .part = UI_PART_EVENTS,
				      .newest_first = true,
				      .empty = N_("no event yet")};

const struct ui_table *ui_events_table(const struct ui_app *a)
{
	(void)a;
	return &table;
}

void ui_events_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	ui_list_draw(a, &a->list[UI_VIEW_EVENTS], &table, g, area, true);
}

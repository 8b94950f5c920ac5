/* Everything that can be done here, searchable; Enter does the entry. */
#include <string.h>

#include "app_int.h"

static const struct ui_deed *nth(const struct ui_app *a, size_t row)
{
	for (const struct ui_deed *d = ui_deeds; d->id != NULL; d++)
		if (ui_deed_here(a, d) && row-- == 0)
			return d;
	return NULL;
}

static size_t rows(const struct ui_app *a)
{
	size_t n = 0;

	while (nth(a, n) != NULL)
		n++;
	return n;
}

static void cell(const struct ui_app *a, size_t row, unsigned col, struct ui_out *out)
{
	const struct ui_deed *d = nth(a, row);

	if (d == NULL)
		return;
	out->style = col == 0 ? UI_KEY : UI_TEXT;
	(void)snprintf(out->text, sizeof(out->text), "%s",
		       col == 0   ? d->label
		       : col == 1 ? _(d->name)
				  : _(d->help));
}

static const char *key_of(const struct ui_app *a, size_t row)
{
	const struct ui_deed *d = nth(a, row);

	return d != NULL ? d->id : "";
}

static const struct ui_col cols[] = {
	{N_("KEY"), 0, false}, {N_("WHAT"), 0, false}, {N_("MEANS"), 1, false}};
static const struct ui_table table = {.cols = 3,
				      .col = cols,
				      .rows = rows,
				      .cell = cell,
				      .key = key_of,
				      .empty = "",
				      .newest_first = true /* the best match */};

void ui_help_open(struct ui_app *a)
{
	memset(&a->help, 0, sizeof(a->help));
	a->layer = UI_LAYER_HELP;
}

void ui_help_key(struct ui_app *a, uint32_t key)
{
	struct ui_list *l = &a->help.list;
	size_t row;

	if (key == UI_K_ESC) {
		a->layer = UI_LAYER_NONE;
		return;
	}
	if (key == UI_K_ENTER) {
		row = ui_list_row(a, l, &table);
		a->layer = UI_LAYER_NONE;
		if (row != UI_NONE && nth(a, row) != NULL)
			ui_deed_do(a, nth(a, row));
		return;
	}
	if (key >= 0x20 && key < UI_K_UP && ui_line_key(l->filter, sizeof(l->filter), key)) {
		l->key[0] = '\0'; /* the best match is the first */
		l->seen[0] = '\0';
		return;
	}
	(void)ui_list_key(a, l, &table, key, a->h - 8);
}

void ui_help_draw(struct ui_app *a, struct ui_grid *g)
{
	struct ui_area in = ui_box(g, (struct ui_area){1, 0, g->h - 3, g->w}, _("Help"));
	const struct ui_deed *d;
	size_t row;
	int page = a->page, x;

	x = in.x + ui_put(g, in.y, in.x, in.w, UI_DIM, _("Search: "));
	x += ui_put(g, in.y, x, in.x + in.w - x - 1, UI_FIELD, a->help.list.filter);
	g->cursor_y = in.y;
	g->cursor_x = x < g->w ? x : g->w - 1;
	ui_list_draw(a, &a->help.list, &table, g, (struct ui_area){in.y + 1, in.x, in.h - 3, in.w},
		     true);
	a->page = page;
	row = ui_list_row(a, &a->help.list, &table);
	d = row != UI_NONE ? nth(a, row) : NULL;
	if (d != NULL && in.h > 5) /* whole, where the table had no room for it */
		(void)ui_wrap(g, (struct ui_area){in.y + in.h - 2, in.x, 2, in.w}, UI_DIM,
			      _(d->help));
}

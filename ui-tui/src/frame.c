/*
 * What is around every view: who and in which mode, the views, the message line, the hints. Hints
 * have priority over data: they are there at every height.
 */
#include <string.h>

#include "app_int.h"
#include "base/text.h"

/* The mode in words of the API, which stay English: they are what is told on the phone. */
static enum ui_style mode_style(const char *mode)
{
	if (strcmp(mode, "NORMAL") == 0)
		return UI_BAR_NORMAL;
	if (strcmp(mode, "DRILL") == 0)
		return UI_BAR_DRILL;
	return strcmp(mode, "FAILED OVER") == 0 ? UI_BAR_FAILED_OVER : UI_BAR_FAILOVER;
}

static void draw_bar(struct ui_app *a, struct ui_grid *g)
{
	const struct ui_model *m = &a->model;
	char clock[LB_HUMAN_BYTES], age[LB_HUMAN_BYTES], banner[UI_LINE_BYTES];
	enum ui_style style;
	uint64_t age_ns = 0;
	int x = 1;

	ui_fill(g, (struct ui_area){0, 0, 1, g->w}, UI_BAR);
	ui_put_right(g, 0, 0, g->w - 1, UI_BAR, lb_human_clock(clock, a->wall_ns));
	x += ui_put(g, 0, x, g->w / 3, UI_BAR, m->site.show[0] != '\0' ? m->site.show : "lifeboat");
	if (!m->part[UI_PART_STATUS].loaded) {
		style = UI_BAR_LOST;
		(void)snprintf(banner, sizeof(banner), " %s ",
			       m->part[UI_PART_STATUS].error[0] != '\0' ? _("NO AGENT")
									: _("CONNECTING"));
	} else if (ui_part_late(a, UI_PART_STATUS, &age_ns)) {
		style = UI_BAR_LOST;
		(void)snprintf(banner, sizeof(banner), _(" NO ANSWER FOR %s, last: %s "),
			       lb_human_duration(age, age_ns / 1000000000u * 1000000000u), m->mode);
	} else {
		style = mode_style(m->mode);
		(void)snprintf(banner, sizeof(banner), " %s ", m->mode);
	}
	x += 1 + ui_put(g, 0, x + 1, g->w - x - 11, style, banner);
	if (ui_read_only(a))
		x += 1 + ui_put(g, 0, x + 1, g->w - x - 11, UI_BAR, _("read-only"));
	(void)ui_put(g, 0, x + 1, g->w - x - 11, UI_BAR, _(ui_views[a->view].title));
}

static void draw_tabs(struct ui_app *a, struct ui_grid *g, int y)
{
	int x = 0, need = 0;

	for (unsigned v = 0; v < UI_VIEWS; v++)
		need += ui_columns(_(ui_views[v].title)) + 2;
	for (unsigned v = 0; v < UI_VIEWS && x < g->w; v++) {
		bool here = v == a->view;
		int at = x;

		x += ui_putf(g, y, x, g->w - x, UI_KEY, "%u", v + 1);
		if (here || need <= g->w) /* too narrow: only the name of the one that is shown */
			x += ui_put(g, y, x, g->w - x, here ? UI_SELECT : UI_DIM,
				    _(ui_views[v].title));
		if (here)
			ui_restyle(g, (struct ui_area){y, at, 1, x - at}, UI_SELECT);
		x++;
	}
}

/* ---- hints ---- */

static int put_hint(struct ui_grid *g, int y, int x, const char *key, const char *name)
{
	int need = ui_columns(key) + 1 + ui_columns(name);

	if (x + need > g->w)
		return 0;
	x += ui_put(g, y, x, g->w - x, UI_KEY, key);
	(void)ui_put(g, y, x + 1, g->w - x - 1, UI_DIM, name);
	return need + 2;
}

static void draw_deed_hints(struct ui_app *a, struct ui_grid *g, int y)
{
	static const char *const always[] = {"help", "command", "back", "quit"};
	int x = 1, keep = 1;

	/* what belongs to this view first, but never without the way out and the help */
	for (const struct ui_deed *d = ui_deeds; d->id != NULL; d++)
		if (d->views == 0 && (strcmp(d->id, "help") == 0 || strcmp(d->id, "quit") == 0))
			keep += ui_columns(d->label) + ui_columns(_(d->name)) + 3;
	for (const struct ui_deed *d = ui_deeds; d->id != NULL; d++) {
		int need = ui_columns(d->label) + ui_columns(_(d->name)) + 3;

		if (d->views == 0 || !ui_deed_here(a, d) || x + need + keep > g->w)
			continue;
		x += put_hint(g, y, x, d->label, _(d->name));
	}
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		for (const struct ui_deed *d = ui_deeds; d->id != NULL; d++) {
			int need = ui_columns(d->label) + ui_columns(_(d->name)) + 3;
			bool must = i == 0 || i == 3;

			if (strcmp(d->id, always[i]) != 0 || (!must && x + need + keep > g->w))
				continue;
			x += put_hint(g, y, x, d->label, _(d->name));
		}
}

static void draw_hints(struct ui_app *a, struct ui_grid *g, int y)
{
	switch (a->layer) {
	case UI_LAYER_NONE:
		draw_deed_hints(a, g, y);
		break;
	case UI_LAYER_FILTER:
		(void)ui_put(g, y, 1, g->w - 1, UI_DIM,
			     _("type to filter   Enter keep it   Esc remove it"));
		break;
	case UI_LAYER_COMMAND:
		(void)ui_put(g, y, 1, g->w - 1, UI_DIM,
			     _("Tab complete   Enter run   Esc leave   (as `lifeboat ...`)"));
		break;
	case UI_LAYER_HELP:
		(void)ui_put(g, y, 1, g->w - 1, UI_DIM,
			     _("type to search   Up/Down choose   Enter do it   Esc leave"));
		break;
	case UI_LAYER_PAGER:
		(void)ui_put(g, y, 1, g->w - 1, UI_DIM,
			     a->pager.running ? _("it runs: Esc ends it   Up/Down PgUp/PgDn scroll")
					      : _("Up/Down PgUp/PgDn scroll   Esc leave"));
		break;
	case UI_LAYER_DIALOG:
		(void)ui_put(g, y, 1, g->w - 1, UI_DIM,
			     ui_dialog_asks_why(a) ? _("type the reason, then Enter   Esc leave")
			     : a->dialog.must_type[0] != '\0'
				     ? _("type the site's name, then Enter   Esc leave")
				     : _("Enter do it   Esc leave"));
		break;
	case UI_LAYER_WIZARD:
		(void)ui_put(
			g, y, 1, g->w - 1, UI_DIM,
			a->wizard.page < 3
				? _("Enter next   Left before   Up/Down scroll   Esc leave")
				: _("type the site's name, then Enter   Left before   Esc leave"));
		break;
	}
}

/* The part whose rows are on the screen and are old, or cannot be had; UI_PARTS: none. The plan and
 * one runbook say so themselves, as does the console of a run that has ended: it ended with it. */
static enum ui_part worst_part(const struct ui_app *a, uint64_t *age_ns)
{
	unsigned parts = ui_parts_shown(a) & ~(1u << UI_PART_PLAN) & ~(1u << UI_PART_RUNBOOK);

	if ((ui_views[a->view].parts & (1u << UI_PART_EVENTS)) == 0)
		parts &= ~(1u << UI_PART_EVENTS);
	if (a->view == UI_VIEW_RUNS && ui_run_ended(&a->model.detail))
		parts &= ~(1u << UI_PART_CONSOLE);
	for (unsigned p = 0; p < UI_PARTS; p++) {
		bool late = ui_part_late(a, (enum ui_part)p, age_ns);

		if ((parts & (1u << p)) != 0 &&
		    (late || (!a->model.part[p].loaded && a->model.part[p].error[0] != '\0')))
			return (enum ui_part)p;
	}
	return UI_PARTS;
}

/* The request that is out; NULL: none. */
static const struct ui_pending *waiting_for(const struct ui_app *a)
{
	for (size_t i = 0; i < UI_ACTS_MAX; i++)
		if (a->pending[i].id != 0)
			return &a->pending[i];
	return NULL;
}

static bool stands_still(const struct ui_app *a)
{
	return a->view == UI_VIEW_RUNS && a->run_id[0] != '\0' &&
	       a->model.detail_problem[0] != '\0';
}

/* What went wrong is shown whole, over the last rows of the view if need be. */
static void put_said(struct ui_app *a, struct ui_grid *g, struct ui_area line, enum ui_style style,
		     const char *text)
{
	bool bad = style == UI_BAD || style == UI_WARN;
	struct ui_area rows = {line.y, line.x + 2, 1, line.w - 2};

	if (bad && a->layer == UI_LAYER_NONE && ui_columns(text) > rows.w) {
		line.x = 1;
		rows = (struct ui_area){0, 3, g->h / 3, g->w - 4};
		rows.h = ui_wrap(NULL, rows, style, text);
		rows.y = line.y - (rows.h - 1);
		if (ui_list_now(a)->filter[0] != '\0')
			rows.y--; /* it stands in the last one */
		ui_fill(g, (struct ui_area){rows.y, 0, rows.h, g->w}, UI_TEXT);
	}
	(void)ui_put(g, rows.y, line.x, 2, style, ui_mark(a, style));
	(void)ui_wrap(g, rows, style, text);
}

/* What is shown is not how things are: said as long as it is so. */
static void draw_old(struct ui_app *a, struct ui_grid *g, struct ui_area line)
{
	const char *error = a->model.part[UI_PART_STATUS].error;
	char age[LB_HUMAN_BYTES];
	uint64_t age_ns = 0;
	enum ui_part p = error[0] == '\0' ? worst_part(a, &age_ns) : UI_PART_STATUS;

	if (p == UI_PARTS)
		return;
	error = a->model.part[p].error[0] != '\0' ? a->model.part[p].error : _("no answer yet");
	if (p == UI_PART_STATUS)
		put_said(a, g, line, UI_BAD, error);
	else if (!a->model.part[p].loaded)
		(void)ui_putf(g, line.y, line.x, line.w, UI_WARN, "! %s: %s", ui_part_name(p),
			      error);
	else
		(void)ui_putf(g, line.y, line.x, line.w, UI_WARN,
			      _("! %s: as they were %s ago: %s"), ui_part_name(p),
			      lb_human_duration(age, age_ns / 1000000000u * 1000000000u), error);
}

static void draw_message(struct ui_app *a, struct ui_grid *g, int y)
{
	const struct ui_list *l = ui_list_now(a);
	int x = 1;

	if (a->layer == UI_LAYER_COMMAND) {
		ui_command_draw(a, g, (struct ui_area){y, 0, 1, g->w});
		return;
	}
	if (a->layer == UI_LAYER_FILTER || (a->layer == UI_LAYER_NONE && l->filter[0] != '\0'))
		x += ui_putf(g, y, x, g->w / 2, UI_FIELD, "/%s", l->filter) + 2;
	if (a->layer == UI_LAYER_FILTER) {
		g->cursor_y = y;
		g->cursor_x = x - 2 < g->w ? x - 2 : g->w - 1;
	} else if (a->message[0] != '\0') {
		put_said(a, g, (struct ui_area){y, x, 1, g->w - x}, a->message_style, a->message);
	} else if (stands_still(a)) {
		(void)ui_putf(g, y, x, g->w - x, UI_BAD,
			      _("%s the run stands still, its log cannot be written: %s"),
			      ui_mark(a, UI_BAD), a->model.detail_problem);
	} else if (waiting_for(a) != NULL) {
		(void)ui_putf(g, y, x, g->w - x, UI_WARN, _("! %s: not answered yet"),
			      waiting_for(a)->what);
	} else {
		draw_old(a, g, (struct ui_area){y, x, 1, g->w - x});
	}
}

static void draw_layer(struct ui_app *a, struct ui_grid *g)
{
	if (a->layer == UI_LAYER_HELP)
		ui_help_draw(a, g);
	if (a->layer == UI_LAYER_PAGER)
		ui_pager_draw(a, g);
	if (a->layer == UI_LAYER_DIALOG)
		ui_dialog_draw(a, g);
	if (a->layer == UI_LAYER_WIZARD)
		ui_wizard_draw(a, g);
}

static void draw_frame(struct ui_app *a, struct ui_grid *g)
{
	int top = 1, bottom = g->h - 2;

	draw_bar(a, g);
	if (g->h >= 12) {
		draw_tabs(a, g, 1);
		top = 2;
	}
	if (bottom > top && g->w >= 10) {
		ui_views[a->view].draw(a, g, (struct ui_area){top, 0, bottom - top, g->w});
		a->view_count[a->view]++;
	}
	if (g->h >= 4)
		draw_layer(a, g);
	if (g->h >= 3)
		draw_message(a, g, g->h - 2);
	if (g->h >= 2)
		draw_hints(a, g, g->h - 1);
}

bool ui_fits(const struct ui_app *a)
{
	return a->w >= 30 && a->h >= 8;
}

void ui_app_draw(struct ui_app *a, struct ui_grid *g)
{
	g->ascii = a->cfg.ascii;
	ui_grid_clear(g);
	if (!ui_fits(a) || g->w < a->w || g->h < a->h) {
		(void)ui_put(g, 0, 0, g->w, UI_BAR,
			     a->model.mode[0] != '\0' ? a->model.mode : "lifeboat");
		(void)ui_put(g, 1, 0, g->w, UI_TEXT, _("enlarge the window; q quits"));
		return;
	}
	draw_frame(a, g);
}

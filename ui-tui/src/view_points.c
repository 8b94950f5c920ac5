/* Recovery points: along a line of time, and as a list, newest first; below, what one holds. */
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "views_int.h"

static size_t rows(const struct ui_app *a)
{
	return a->model.points;
}

static enum ui_style style_of(const struct ui_point *p)
{
	return p->bad ? UI_BAD : p->verified ? UI_OK : UI_TEXT;
}

/* Words, so that it can be read aloud: "verified booted". */
static void marks(const struct ui_app *a, const struct ui_point *p, char *out, size_t cap)
{
	(void)snprintf(out, cap, "%s%s%s%s", p->bad ? ui_mark(a, UI_BAD) : "",
		       p->bad ? _(" BAD ") : "",
		       p->deep       ? _("deep-verified ")
		       : p->verified ? _("verified ")
				     : "",
		       p->booted ? _("booted") : "");
}

static void cell(const struct ui_app *a, size_t row, unsigned col, struct ui_out *out)
{
	const struct ui_point *p = &a->model.point[row];
	uint64_t age = a->wall_ns > p->captured_wall_ns ? a->wall_ns - p->captured_wall_ns : 0;
	char text[LB_HUMAN_BYTES];

	switch (col) {
	case 0:
		(void)snprintf(out->text, sizeof(out->text), "%.12s", p->id.show);
		break;
	case 1:
		(void)snprintf(out->text, sizeof(out->text), "%s", p->group.show);
		break;
	case 2:
		(void)snprintf(out->text, sizeof(out->text), "%" PRIu64, p->seq);
		break;
	case 3:
		(void)snprintf(out->text, sizeof(out->text), "%s",
			       lb_human_wall(text, p->captured_wall_ns));
		break;
	case 4:
		(void)snprintf(out->text, sizeof(out->text), "%s",
			       lb_human_duration(text, age / 1000000000u * 1000000000u));
		break;
	case 5:
		(void)snprintf(out->text, sizeof(out->text), "%s", p->consistency);
		break;
	case 6:
		if (p->stored_bytes.known)
			(void)snprintf(out->text, sizeof(out->text), "%s",
				       lb_human_bytes(text, p->stored_bytes.n));
		break;
	default:
		marks(a, p, out->text, sizeof(out->text));
		out->style = style_of(p);
	}
}

static const char *key_of(const struct ui_app *a, size_t row)
{
	return a->model.point[row].id.show;
}

static const struct ui_col cols[] = {
	{N_("POINT"), 0, false}, {N_("GROUP"), 1, false}, {N_("SEQ"), 5, true},
	{N_("TAKEN"), 4, false}, {N_("AGE"), 0, true},    {N_("CLASS"), 2, false},
	{N_("SIZE"), 6, true},   {N_("MARKS"), 0, false},
};
static const struct ui_table table = {.col = cols,
				      .cols = 8,
				      .rows = rows,
				      .cell = cell,
				      .key = key_of,
				      .part = UI_PART_POINTS,
				      .newest_first = true,
				      .empty = N_("this site keeps no recovery point yet")};

const struct ui_table *ui_points_table(const struct ui_app *a)
{
	(void)a;
	return &table;
}

/* ---- the line of time ---- */

/* What one stands for on the line: bad, booted, verified, else its class. */
static const char *sign(const struct ui_app *a, const struct ui_point *p)
{
	bool ascii = a->cfg.ascii;

	if (p->bad)
		return ascii ? "X" : "✗";
	if (p->booted)
		return "B";
	if (p->verified)
		return ascii ? "v" : "✓";
	switch (p->consistency[0]) {
	case 'f':
		return "f";
	case 'a':
		return "a";
	case 'm':
		return "m";
	default:
		return ascii ? "." : "·";
	}
}

/* What the signs mean, in as many words as there is room for. */
static const char *legend(const struct ui_app *a, int room)
{
	const char *whole = a->cfg.ascii
				    ? _(". crash f files a app m memory v verified B booted X bad")
				    : _("· crash f files a app m memory ✓ verified B booted ✗ bad");

	if (ui_columns(whole) <= room)
		return whole;
	return a->cfg.ascii ? _("f files a app m memory v checked B booted X bad")
			    : _("f files a app m memory ✓ checked B booted ✗ bad");
}

/* The points of the group of @here, oldest left; the selected one is marked. */
static void draw_line(struct ui_app *a, struct ui_grid *g, struct ui_area area,
		      const struct ui_point *here)
{
	const struct ui_model *m = &a->model;
	char text[LB_HUMAN_BYTES];
	int x = area.x + area.w - 2;
	const struct ui_point *oldest = here;

	for (size_t i = 0; i < m->points && x > area.x + 1; i++) {
		const struct ui_point *p = &m->point[i];

		if (strcmp(p->group.show, here->group.show) != 0)
			continue;
		(void)ui_put(g, area.y, x, 1, p == here ? UI_SELECT : style_of(p), sign(a, p));
		oldest = p;
		x--;
	}
	x = area.x + 2 +
	    ui_put(g, area.y + 1, area.x + 1, area.w - 2, UI_DIM,
		   ui_when(a, text, oldest->captured_wall_ns));
	ui_put_right(g, area.y + 1, x, area.x + area.w - 1 - x, UI_DIM,
		     legend(a, area.x + area.w - 1 - x));
}

static void draw_volumes(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	const struct ui_model *m = &a->model;
	char size[LB_HUMAN_BYTES], layer[LB_HUMAN_BYTES];
	int rows = area.h - 1 - (m->jobs > 0 && area.h > 2 ? 1 : 0);
	size_t job = 0, n = ui_lines_shown(m->volumes, rows);

	ui_rule(g, area.y, area.x, area.w, _("Holds"));
	if (!m->part[UI_PART_POINT].loaded) /* which is not: nothing */
		(void)ui_put(g, area.y + 1, area.x + 1, area.w - 1, UI_DIM, _("no answer yet"));
	ui_put_more(g, area.y + 1 + (int)n, area, m->volumes - n, "`:point show`");
	for (size_t i = 0; i < n; i++)
		(void)ui_putf(g, area.y + 1 + (int)i, area.x + 1, area.w - 1, UI_TEXT,
			      _("%s/%s  %s %s, %s changed"), m->volume[i].machine.show,
			      m->volume[i].volume.show, m->volume[i].kind,
			      lb_human_bytes(size, m->volume[i].size_bytes),
			      lb_human_bytes(layer, m->volume[i].layer_bytes));
	while (job < m->jobs && strcmp(m->job[job].state, "running") != 0)
		job++;
	if (job == m->jobs)
		job = 0;
	if (m->jobs > 0 && area.h > 2) {
		const struct ui_job *j = &m->job[job];
		int y = area.y + area.h - 1;

		ui_fill(g, (struct ui_area){y, area.x, 1, area.w}, UI_TEXT);
		(void)ui_putf(g, y, area.x + 1, area.w - 1, ui_state_style(j->state),
			      "%s %s %s %s  %s %s", _("job"), j->id.show, j->what, j->state,
			      j->all_bytes.n > 0 ? lb_human_bytes(size, j->done_bytes.n) : "",
			      j->error);
	}
}

void ui_points_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	struct ui_list *l = &a->list[UI_VIEW_POINTS];
	size_t row = ui_list_row(a, l, &table);
	int above = row != UI_NONE && area.h >= 10 ? 2 : 0,
	    below = row != UI_NONE && area.h >= 12 ? 5 : 0;

	if (above > 0)
		draw_line(a, g, (struct ui_area){area.y, area.x, above, area.w},
			  &a->model.point[row]);
	ui_list_draw(a, l, &table, g,
		     (struct ui_area){area.y + above, area.x, area.h - above - below, area.w},
		     true);
	if (below > 0)
		draw_volumes(a, g,
			     (struct ui_area){area.y + area.h - below, area.x, below, area.w});
}

/* Runbooks; beside the list, the problems of the selected one with carets, or its plan. */
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "views_int.h"

static size_t rows(const struct ui_app *a)
{
	return a->model.runbooks;
}

static void cell(const struct ui_app *a, size_t row, unsigned col, struct ui_out *out)
{
	const struct ui_runbook *b = &a->model.runbook[row];
	char text[LB_HUMAN_BYTES];

	switch (col) {
	case 0:
		(void)snprintf(out->text, sizeof(out->text), "%s", b->name.show);
		break;
	case 1:
		(void)snprintf(out->text, sizeof(out->text), "%s",
			       lb_human_wall(text, b->changed_wall_ns));
		break;
	default:
		(void)snprintf(out->text, sizeof(out->text), "%s", b->path.show);
		out->style = UI_DIM;
	}
}

static const char *key_of(const struct ui_app *a, size_t row)
{
	return a->model.runbook[row].name.show;
}

static const struct ui_col cols[] = {
	{N_("RUNBOOK"), 0, false}, {N_("CHANGED"), 1, false}, {N_("FILE"), 2, false}};
static const struct ui_table table = {.col = cols,
				      .cols = 3,
				      .rows = rows,
				      .cell = cell,
				      .key = key_of,
				      .part = UI_PART_RUNBOOKS,
				      .empty = N_("no *.yaml in the directory of runbooks "
						  "(`runbooks` in the agent's configuration)")};

const struct ui_table *ui_runbooks_table(const struct ui_app *a)
{
	(void)a;
	return &table;
}

/* "file.yaml:4:9: error: ..." of a problem, then source and caret. */
static enum ui_style lint_style(const char *line)
{
	return strstr(line, ": error: ") != NULL ? UI_BAD
	       : strstr(line, "^") != NULL       ? UI_WARN
						 : UI_TEXT;
}

static void draw_plan(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	const struct ui_model *m = &a->model;
	char total[LB_HUMAN_BYTES], rto[LB_HUMAN_BYTES], at[LB_HUMAN_BYTES], took[LB_HUMAN_BYTES];
	size_t n = ui_lines_shown(m->plan_steps, area.h - 1);
	int y = area.y;

	(void)ui_putf(g, y++, area.x + 1, area.w - 1, m->plan_fits ? UI_OK : UI_WARN,
		      m->plan_fits ? _("%s no problems; expected %s, goal %s")
				   : _("%s no problems; expected %s, OVER the goal %s"),
		      ui_mark(a, m->plan_fits ? UI_OK : UI_WARN),
		      lb_human_duration(total, m->plan_total_ns),
		      m->plan_rto_ns > 0 ? lb_human_duration(rto, m->plan_rto_ns) : "-");
	for (size_t i = 0; i < n; i++) {
		const struct ui_plan_step *s = &m->plan_step[i];

		(void)ui_putf(g, y++, area.x + 1, area.w - 1, UI_TEXT,
			      "%3u  %9s  +%-9s %-7s %s %s%s", s->wave + 1,
			      lb_human_duration(at, s->start_ns),
			      lb_human_duration(took, s->expect_ns), s->action, s->id, s->what,
			      s->critical ? _("  (critical)") : "");
	}
	ui_put_more(g, y, area, m->plan_steps - n, "`:runbook plan`");
}

void ui_runbooks_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	const struct ui_model *m = &a->model;
	int list_h = (int)m->runbooks + 1, y;
	size_t n;

	list_h = list_h > area.h / 2 ? area.h / 2 : list_h < 2 ? 2 : list_h;
	ui_list_draw(a, &a->list[UI_VIEW_RUNBOOKS], &table, g,
		     (struct ui_area){area.y, area.x, list_h, area.w}, true);
	y = area.y + list_h;
	if (m->runbooks == 0 || y + 1 >= area.y + area.h)
		return;
	ui_rule(g, y++, area.x, area.w,
		m->lint.count > 0 ? _("Problems") : _("Plan of a failover"));
	n = ui_lines_shown(m->lint.count, area.y + area.h - y);
	for (size_t i = 0; i < n; i++)
		(void)ui_put(g, y++, area.x + 1, area.w - 1, lint_style(m->lint.line[i]),
			     m->lint.line[i]);
	ui_put_more(g, y, area, m->lint.count - n, "`:runbook lint`");
	if (m->lint.count == 0 && m->part[UI_PART_PLAN].loaded)
		draw_plan(a, g, (struct ui_area){y, area.x, area.y + area.h - y, area.w});
	else if (m->lint.count == 0)
		(void)ui_put(g, y, area.x + 1, area.w - 1, UI_DIM, ui_plan_missing(a));
}

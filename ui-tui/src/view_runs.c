/* Runs, and one run as it goes: steps, time against budget, probe output, the end of the console.
 */
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "views_int.h"

/* ---- a list of runs, also of drills ---- */

const struct ui_col ui_run_cols[] = {{N_("RUN"), 0, false},   {N_("RUNBOOK"), 0, false},
				     {N_("MODE"), 2, false},  {N_("STATE"), 0, false},
				     {N_("BEGAN"), 3, false}, {N_("TOOK"), 1, true},
				     {N_("STEPS"), 4, false}};

void ui_run_cell(const struct ui_app *a, const struct ui_run *r, unsigned col, struct ui_out *out)
{
	char text[LB_HUMAN_BYTES];

	switch (col) {
	case 0:
		(void)snprintf(out->text, sizeof(out->text), "%.8s", r->id.show);
		break;
	case 1:
		(void)snprintf(out->text, sizeof(out->text), "%s", r->runbook.show);
		break;
	case 2:
		(void)snprintf(out->text, sizeof(out->text), "%s", r->mode);
		break;
	case 3:
		out->style = ui_state_style(r->state);
		(void)snprintf(out->text, sizeof(out->text), "%s %s", ui_mark(a, out->style),
			       r->state);
		break;
	case 4:
		(void)snprintf(out->text, sizeof(out->text), "%s",
			       lb_human_wall(text, r->began_wall_ns));
		break;
	case 5:
		(void)snprintf(out->text, sizeof(out->text), "%s",
			       lb_human_duration(text, r->elapsed_ns));
		break;
	default:
		(void)snprintf(out->text, sizeof(out->text),
			       r->waiting > 0 ? _("%u/%u, %u wait") : "%u/%u", r->ended, r->steps,
			       r->waiting);
	}
}

static size_t run_rows(const struct ui_app *a)
{
	return a->model.runs;
}

static void run_cell(const struct ui_app *a, size_t row, unsigned col, struct ui_out *out)
{
	ui_run_cell(a, &a->model.run[row], col, out);
}

static const char *run_key(const struct ui_app *a, size_t row)
{
	return a->model.run[row].id.show;
}

static const struct ui_table runs = {.col = ui_run_cols,
				     .cols = UI_RUN_COLS,
				     .rows = run_rows,
				     .cell = run_cell,
				     .key = run_key,
				     .part = UI_PART_STATUS,
				     .newest_first = true,
				     .empty = N_("nothing was run at this site yet")};

/* ---- steps of one run ---- */

static size_t step_rows(const struct ui_app *a)
{
	return a->model.steps;
}

static uint64_t took_ns(const struct ui_app *a, const struct ui_step *s)
{
	uint64_t end = s->end_ns > s->first_ns ? s->end_ns : a->model.detail.elapsed_ns;

	return strcmp(s->state, "pending") != 0 && end > s->first_ns ? end - s->first_ns : 0;
}

static void step_time(const struct ui_app *a, const struct ui_step *s, struct ui_out *out)
{
	char took[LB_HUMAN_BYTES], budget[LB_HUMAN_BYTES];
	uint64_t ns = took_ns(a, s);

	if (ns == 0 && s->budget_ns == 0)
		return;
	(void)snprintf(out->text, sizeof(out->text), "%s%s%s%s",
		       ns > 0 ? lb_human_duration(took, ns) : "", s->budget_ns > 0 ? " / " : "",
		       s->budget_ns > 0 ? lb_human_duration(budget, s->budget_ns) : "",
		       s->late ? _(" LATE") : "");
	out->style = s->late ? UI_WARN : UI_TEXT;
}

static void step_cell(const struct ui_app *a, size_t row, unsigned col, struct ui_out *out)
{
	const struct ui_step *s = &a->model.step[row];

	switch (col) {
	case 0:
		(void)snprintf(out->text, sizeof(out->text), "%s", s->id.show);
		break;
	case 1:
		(void)snprintf(out->text, sizeof(out->text), "%s", s->action);
		break;
	case 2:
		out->style = ui_state_style(s->state);
		(void)snprintf(out->text, sizeof(out->text), "%s %s", ui_mark(a, out->style),
			       s->state);
		break;
	case 3:
		step_time(a, s, out);
		break;
	case 4:
		if (s->attempt > 1)
			(void)snprintf(out->text, sizeof(out->text), "%u", s->attempt);
		break;
	default:
		(void)snprintf(out->text, sizeof(out->text), "%s",
			       s->detail[0] != '\0' ? s->detail : s->note);
		out->style = s->code[0] != '\0' ? UI_BAD : UI_DIM;
	}
}

static const char *step_key(const struct ui_app *a, size_t row)
{
	return a->model.step[row].id.show;
}

static const struct ui_col step_cols[] = {{N_("STEP"), 0, false},  {N_("ACTION"), 2, false},
					  {N_("STATE"), 0, false}, {N_("TIME"), 1, true},
					  {N_("TRY"), 4, true},    {N_("DETAIL"), 3, false}};
static const struct ui_table steps = {.col = step_cols,
				      .cols = 6,
				      .rows = step_rows,
				      .cell = step_cell,
				      .key = step_key,
				      .part = UI_PART_RUN,
				      .empty = N_("no answer yet")};

const struct ui_table *ui_runs_table(const struct ui_app *a)
{
	return a->run_id[0] != '\0' ? &steps : &runs;
}

/* ---- one run ---- */

static void draw_title(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	const struct ui_model *m = &a->model;
	const struct ui_run *r = &m->detail;
	char took[LB_HUMAN_BYTES], rto[LB_HUMAN_BYTES], achieved[LB_HUMAN_BYTES];
	enum ui_style style = ui_state_style(r->state);
	int x = area.x + 1;

	if (area.w >= 70) /* else the time and its goal need the room; the list has the id */
		x += ui_putf(g, area.y, x, area.w - 1, UI_HEAD, "%.8s ", r->id.show);
	x += ui_putf(g, area.y, x, area.x + area.w - x, UI_HEAD, "%s (%s) ", r->runbook.show,
		     r->mode);
	x += ui_putf(g, area.y, x, area.x + area.w - x, style, "%s %s ", ui_mark(a, style),
		     r->state);
	x += ui_put(g, area.y, x, area.x + area.w - x, UI_TEXT,
		    lb_human_duration(took, r->elapsed_ns));
	if (r->rto_ns > 0) {
		bool late = r->elapsed_ns > r->rto_ns;

		x += ui_putf(g, area.y, x, area.x + area.w - x, late ? UI_BAD : UI_TEXT,
			     late ? _(" OVER the goal of %s ") : _(" of %s "),
			     lb_human_duration(rto, r->rto_ns));
		if (area.x + area.w - x > 12)
			ui_bar(g, area.y, x, 10, late ? UI_BAD : UI_OK, r->elapsed_ns, r->rto_ns);
		x += 11;
	}
	if (m->rto_achieved_ns.known)
		(void)ui_putf(g, area.y, x, area.x + area.w - x, UI_OK, _("RTO achieved: %s"),
			      lb_human_duration(achieved, m->rto_achieved_ns.n));
}

/* Below the list: all that the selected step said, and the end of its machine's console. */
static void draw_step(struct ui_app *a, struct ui_grid *g, struct ui_area area,
		      const struct ui_step *s)
{
	const struct ui_lines *c = &a->model.console;
	int y = area.y, n = 0;
	bool mine = strcmp(a->machine, s->machine.show) == 0 && s->machine.show[0] != '\0';

	ui_rule(g, y++, area.x, area.w, s->id.show);
	n = ui_wrap(g, (struct ui_area){y, area.x + 1, area.h > 5 ? 2 : 1, area.w - 2},
		    s->code[0] != '\0' ? UI_BAD : UI_TEXT,
		    s->detail[0] != '\0' ? s->detail : s->note);
	y += n;
	if (s->reason[0] != '\0' && y < area.y + area.h)
		(void)ui_putf(g, y++, area.x + 1, area.w - 1, UI_TEXT, _("why: %s"), s->reason);
	if (s->isolation[0] != '\0' && y < area.y + area.h)
		(void)ui_putf(g, y++, area.x + 1, area.w - 1, UI_DIM, _("isolated: %s"),
			      s->isolation);
	if (!mine || y + 1 >= area.y + area.h)
		return;
	ui_rule(g, y++, area.x, area.w, a->machine);
	n = area.y + area.h - y;
	for (int i = 0; i < n && (size_t)i < c->count; i++)
		(void)ui_put(
			g, y + i, area.x + 1, area.w - 1, UI_TEXT,
			c->line[(c->count > (size_t)n ? c->count - (size_t)n : 0) + (size_t)i]);
}

static void draw_run(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	const struct ui_model *m = &a->model;
	size_t row = ui_list_row(a, &a->steps, &steps);
	int list_h = (int)m->steps + 1, below;

	if (!m->part[UI_PART_RUN].loaded) {
		(void)ui_put(g, area.y, area.x + 1, area.w - 1, UI_DIM,
			     m->part[UI_PART_RUN].error[0] != '\0' ? m->part[UI_PART_RUN].error
								   : _("no answer yet"));
		return;
	}
	draw_title(a, g, area);
	list_h = list_h > area.h - 1 ? area.h - 1 : list_h;
	if (area.h >= 10 && list_h > area.h - 6)
		list_h = area.h - 6;
	below = area.h - 1 - list_h;
	ui_list_draw(a, &a->steps, &steps, g, (struct ui_area){area.y + 1, area.x, list_h, area.w},
		     true);
	if (below >= 2 && row != UI_NONE)
		draw_step(a, g, (struct ui_area){area.y + 1 + list_h, area.x, below, area.w},
			  &m->step[row]);
}

void ui_runs_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	if (a->run_id[0] != '\0')
		draw_run(a, g, area);
	else
		ui_list_draw(a, &a->list[UI_VIEW_RUNS], &runs, g, area, true);
}

/* The table of views. */
#include "views_int.h"

size_t ui_lines_shown(size_t count, int rows)
{
	if (rows <= 0)
		return 0;
	return count <= (size_t)rows ? count : (size_t)rows - 1;
}

void ui_put_more(struct ui_grid *g, int y, struct ui_area area, size_t left_out, const char *where)
{
	if (left_out > 0 && y < area.y + area.h)
		(void)ui_putf(g, y, area.x + 1, area.w - 1, UI_WARN, _("! and %zu more: %s"),
			      left_out, where);
}

#define PART(p) (1u << UI_PART_##p)

const struct ui_view ui_views[UI_VIEWS] = {
	[UI_VIEW_OVERVIEW] = {"overview", N_("overview"), ui_overview_table,
			      PART(DOCTOR) | PART(SITES), ui_overview_draw},
	[UI_VIEW_SITES] = {"sites", N_("sites"), ui_sites_table, PART(SITES) | PART(HISTORY),
			   ui_sites_draw},
	[UI_VIEW_MACHINES] = {"machines", N_("machines"), ui_machines_table,
			      PART(MACHINES) | PART(VMS), ui_machines_draw},
	[UI_VIEW_POINTS] = {"points", N_("points"), ui_points_table,
			    PART(POINTS) | PART(POINT) | PART(JOBS), ui_points_draw},
	[UI_VIEW_RUNBOOKS] = {"runbooks", N_("runbooks"), ui_runbooks_table,
			      PART(RUNBOOKS) | PART(RUNBOOK) | PART(PLAN), ui_runbooks_draw},
	[UI_VIEW_RUNS] = {"runs", N_("runs"), ui_runs_table, PART(RUN) | PART(CONSOLE),
			  ui_runs_draw},
	[UI_VIEW_DRILLS] = {"drills", N_("drills"), ui_drills_table, 0, ui_drills_draw},
	[UI_VIEW_EVENTS] = {"events", N_("events"), ui_events_table, PART(EVENTS), ui_events_draw},
	[UI_VIEW_CONSOLE] = {"console", N_("console"), NULL, PART(RUN) | PART(CONSOLE) | PART(VMS),
			     ui_console_draw},
};

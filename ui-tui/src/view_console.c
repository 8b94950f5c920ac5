/* A booted machine: the end of its serial console. */
#include <string.h>

#include "views_int.h"

static void draw_lines(struct ui_app *a, struct ui_grid *g, struct ui_area area,
		       const struct ui_lines *l, int back)
{
	size_t room = area.h > 0 ? (size_t)area.h : 0, end, first;

	back = back > (int)l->count ? (int)l->count : back;
	end = l->count - (size_t)back;
	if (end < room)
		end = l->count < room ? l->count : room;
	first = end > room ? end - room : 0;
	for (size_t i = first; i < end; i++)
		(void)ui_put(g, area.y + (int)(i - first), area.x, area.w, UI_TEXT, l->line[i]);
	a->page = area.h;
}

/* Whose it is: a machine may have been booted by many runs. And that it is not its end. */
static void draw_title(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	const struct ui_model *m = &a->model;
	char text[UI_LINE_BYTES];
	size_t back = (size_t)a->console_back;

	back = back < m->console.count ? back : m->console.count;
	if (m->part[UI_PART_RUN].loaded)
		(void)snprintf(text, sizeof(text), _("%s: serial console, run %.8s (%s)"),
			       a->machine, a->run_id, m->detail.mode);
	else
		(void)snprintf(text, sizeof(text), _("%s: serial console"), a->machine);
	ui_rule(g, area.y, area.x, area.w, text);
	if (back == 0)
		return;
	(void)snprintf(text, sizeof(text), _(" newer lines below: %zu "), back);
	ui_put_right(g, area.y, area.x, area.w, UI_WARN, text);
}

void ui_console_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	const struct ui_model *m = &a->model;
	const enum ui_part part = UI_PART_CONSOLE;

	if (a->machine[0] == '\0') {
		(void)ui_put(g, area.y, area.x + 1, area.w - 1, UI_DIM,
			     _("no run has booted a machine yet; 6 shows the runs"));
		return;
	}
	draw_title(a, g, area);
	area.y++;
	area.h--;
	if (!m->part[part].loaded) {
		(void)ui_put(g, area.y, area.x + 1, area.w - 1,
			     m->part[part].error[0] != '\0' ? UI_WARN : UI_DIM,
			     m->part[part].error[0] != '\0' ? m->part[part].error
							    : _("no answer yet"));
		return;
	}
	draw_lines(a, g, area, &m->console, a->console_back);
}

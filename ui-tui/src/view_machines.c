/* Machines with their groups. */
#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "views_int.h"

static size_t rows(const struct ui_app *a)
{
	return a->model.machines;
}

static void cell(const struct ui_app *a, size_t row, unsigned col, struct ui_out *out)
{
	const struct ui_machine *x = &a->model.machine[row];
	const struct ui_group *g = ui_model_group(&a->model, x->group.show);

	switch (col) {
	case 0:
		(void)snprintf(out->text, sizeof(out->text), "%s", x->name.show);
		break;
	case 1:
		(void)snprintf(out->text, sizeof(out->text), "%s", x->group.show);
		break;
	case 2:
		(void)snprintf(out->text, sizeof(out->text), "%s", g != NULL ? g->role : "");
		out->style = ui_state_style(out->text);
		break;
	case 3:
		(void)snprintf(out->text, sizeof(out->text), "%s", x->state);
		break;
	case 4:
		ui_age_text(out->text, sizeof(out->text),
			    ui_rpo_now(a, UI_PART_MACHINES, x->rpo_ns));
		break;
	default:
		(void)snprintf(out->text, sizeof(out->text), "%s", x->driver);
		out->style = UI_DIM;
	}
}

static const char *key_of(const struct ui_app *a, size_t row)
{
	return a->model.machine[row].name.show;
}

static const struct ui_col cols[] = {{N_("MACHINE"), 0, false}, {N_("GROUP"), 1, false},
				     {N_("ROLE"), 2, false},    {N_("STATE"), 0, false},
				     {N_("RPO"), 1, true},      {N_("DRIVER"), 4, false}};
static const struct ui_table table = {.col = cols,
				      .cols = 6,
				      .rows = rows,
				      .cell = cell,
				      .key = key_of,
				      .part = UI_PART_MACHINES,
				      .empty = N_("no machine at this site yet")};

const struct ui_table *ui_machines_table(const struct ui_app *a)
{
	(void)a;
	return &table;
}

/* More of the group of the selected machine. */
static void draw_group(struct ui_grid *g, struct ui_area area, const struct ui_group *x)
{
	char a[LB_HUMAN_BYTES] = "-", b[LB_HUMAN_BYTES] = "-", c[LB_HUMAN_BYTES] = "-";
	char newest[24] = "-";

	if (x->interval_ns.known)
		(void)lb_human_duration(a, x->interval_ns.n);
	if (x->bytes_changed.known)
		(void)lb_human_bytes(b, x->bytes_changed.n);
	if (x->bytes_shipped.known)
		(void)lb_human_bytes(c, x->bytes_shipped.n);
	if (x->last_seq.known)
		(void)snprintf(newest, sizeof(newest), "%" PRIu64, x->last_seq.n);
	ui_rule(g, area.y, area.x, area.w, x->name.show);
	(void)ui_putf(g, area.y + 1, area.x + 1, area.w - 1, UI_TEXT,
		      _("%s, epoch %" PRIu64 ", peer %s; a point every %s; newest is %s"), x->role,
		      x->epoch, x->peer, a, newest);
	(void)ui_putf(g, area.y + 2, area.x + 1, area.w - 1, UI_TEXT,
		      _("changed %s, shipped %s since start"), b, c);
	(void)ui_put(g, area.y + 3, area.x + 1, area.w - 1, x->problem[0] != '\0' ? UI_BAD : UI_DIM,
		     x->problem[0] != '\0' ? x->problem : x->why);
}

void ui_machines_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	struct ui_list *l = &a->list[UI_VIEW_MACHINES];
	size_t row = ui_list_row(a, l, &table);
	const struct ui_group *x =
		row == UI_NONE ? NULL : ui_model_group(&a->model, a->model.machine[row].group.show);
	int below = x != NULL && area.h >= 9 ? 4 : 0;

	ui_list_draw(a, l, &table, g, (struct ui_area){area.y, area.x, area.h - below, area.w},
		     true);
	if (below > 0)
		draw_group(g, (struct ui_area){area.y + area.h - below, area.x, below, area.w}, x);
}

#include "ui-tui/app.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "app_int.h"
#include "base/assert.h"

#define MESSAGE_NS UINT64_C(20000000000) /* then the line is free again */

struct ui_app *ui_app_create(const struct ui_app_cfg *cfg)
{
	struct ui_app *a = calloc(1, sizeof(*a));

	LB_ASSERT(a != NULL);
	a->cfg = *cfg;
	a->w = 80;
	a->h = 24;
	a->next_id = 1;
	ui_model_init(&a->model);
	return a;
}

static void drop_orders(struct ui_app *a)
{
	for (size_t i = 0; i < a->orders.count; i++) {
		struct ui_order *o = &a->orders.item[i];

		json_decref(o->body);
		for (size_t k = 0; k < UI_ARGS_MAX && o->argv[k] != NULL; k++)
			free(o->argv[k]);
	}
	a->orders.count = 0;
}

void ui_app_destroy(struct ui_app *a)
{
	if (a == NULL)
		return;
	drop_orders(a);
	free(a->orders.item);
	ui_act_fini(&a->dialog.act);
	free(a->wizard.text);
	free(a->pager.lines.line);
	free(a->pager.text);
	ui_model_fini(&a->model);
	free(a);
}

void ui_app_set_ascii(struct ui_app *a)
{
	a->cfg.ascii = true;
}

/* ---- where we are ---- */

void ui_open_view(struct ui_app *a, enum ui_view_id view)
{
	a->view = view;
	a->layer = UI_LAYER_NONE;
	ui_list_now(a)->seen[0] = '\0'; /* what was drawn there once is not what is meant */
}

void ui_open_run(struct ui_app *a, const char *id)
{
	if (strcmp(a->run_id, id) != 0) {
		(void)snprintf(a->run_id, sizeof(a->run_id), "%s", id);
		a->machine[0] = '\0';
		a->console_back = 0;
		memset(&a->steps, 0, sizeof(a->steps));
		ui_asks_renew(a, UI_PART_RUN);
		ui_asks_renew(a, UI_PART_CONSOLE);
	}
}

static void open_book(struct ui_app *a, const char *name)
{
	if (strcmp(a->book, name) == 0)
		return;
	(void)snprintf(a->book, sizeof(a->book), "%s", name);
	ui_asks_renew(a, UI_PART_RUNBOOK);
	ui_asks_renew(a, UI_PART_PLAN);
}

const struct ui_table *ui_table_now(const struct ui_app *a)
{
	return ui_views[a->view].table != NULL ? ui_views[a->view].table(a) : NULL;
}

struct ui_list *ui_list_now(struct ui_app *a)
{
	return a->view == UI_VIEW_RUNS && a->run_id[0] != '\0' ? &a->steps : &a->list[a->view];
}

size_t ui_row_now(const struct ui_app *a)
{
	const struct ui_table *t = ui_table_now(a);
	const struct ui_list *l =
		a->view == UI_VIEW_RUNS && a->run_id[0] != '\0' ? &a->steps : &a->list[a->view];

	return t == NULL ? UI_NONE : ui_list_row(a, l, t);
}

/* ---- what views follow ---- */

/* The runbook and the point under the cursor are shown beside the list. */
static void follow_selection(struct ui_app *a)
{
	size_t row = ui_row_now(a);

	if (row == UI_NONE)
		return;
	if (a->view == UI_VIEW_RUNBOOKS && a->layer != UI_LAYER_WIZARD && row < a->model.runbooks &&
	    a->model.runbook[row].name.exact)
		open_book(a, a->model.runbook[row].name.show);
	if (a->view == UI_VIEW_POINTS && row < a->model.points &&
	    strcmp(a->point_id, a->model.point[row].id.show) != 0) {
		(void)snprintf(a->point_id, sizeof(a->point_id), "%s", a->model.point[row].id.show);
		ui_asks_renew(a, UI_PART_POINT);
	}
}

/* The console belongs to a machine that a run booted; without a choice, the first of the newest
 * run that has one. */
static void follow_console(struct ui_app *a)
{
	bool found = false;

	if (a->view != UI_VIEW_CONSOLE && a->view != UI_VIEW_RUNS)
		return;
	if (a->view == UI_VIEW_CONSOLE && a->run_id[0] == '\0' && a->model.runs > 0 &&
	    a->model.run[0].id.exact)
		ui_open_run(a, a->model.run[0].id.show);
	for (size_t i = 0; i < a->model.steps && !found; i++)
		found = a->model.step[i].booted &&
			strcmp(a->model.step[i].machine.show, a->machine) == 0;
	if (found)
		return;
	for (size_t i = 0; i < a->model.steps; i++)
		if (a->model.step[i].booted && a->model.step[i].machine.exact) {
			(void)snprintf(a->machine, sizeof(a->machine), "%s",
				       a->model.step[i].machine.show);
			ui_asks_renew(a, UI_PART_CONSOLE);
			return;
		}
}

/* A runbook was changed on disk: its text is old. */
static void follow_change(struct ui_app *a)
{
	for (size_t i = 0; i < a->model.runbooks; i++) {
		const struct ui_runbook *r = &a->model.runbook[i];

		if (strcmp(r->name.show, a->book) != 0)
			continue;
		if (a->book_changed_ns != 0 && a->book_changed_ns != r->changed_wall_ns) {
			ui_asks_renew(a, UI_PART_RUNBOOK);
			ui_asks_renew(a, UI_PART_PLAN);
		}
		a->book_changed_ns = r->changed_wall_ns;
		return; /* of two with one name each would be the other's change, for ever */
	}
}

/* ---- answers to requests ---- */

static void remember(struct ui_app *a, uint64_t id, const char *outcome)
{
	for (size_t i = 0; i < a->log_count; i++)
		if (a->log[i].id == id)
			(void)snprintf(a->log[i].outcome, sizeof(a->log[i].outcome), "%s", outcome);
}

static void after_yes(struct ui_app *a, const struct ui_pending *p, const json_t *body)
{
	struct ui_name id;

	ui_asks_now(a);
	ui_name_set(&id, json_string_value(
				 json_object_get(body, p->then == UI_THEN_JOB ? "job" : "run")));
	if (p->then == UI_THEN_OPEN_RUN && id.exact && id.show[0] != '\0') {
		if (a->layer == UI_LAYER_NONE) { /* else the keys that are typed now mean that */
			ui_open_view(a, UI_VIEW_RUNS);
			ui_open_run(a, id.show);
		}
		ui_say(a, UI_OK, _("%s: run %.8s has begun"), p->what, id.show);
	} else if (p->then == UI_THEN_JOB) {
		ui_say(a, UI_OK, _("%s: job %s runs"), p->what, id.show);
	} else { /* taken on; the views show what becomes of it */
		ui_say(a, UI_OK, _("%s: accepted"), p->what);
	}
}

static void act_answer(struct ui_app *a, const struct ui_input *in)
{
	for (size_t i = 0; i < UI_ACTS_MAX; i++) {
		struct ui_pending p = a->pending[i];

		if (p.id == 0 || p.id != in->id)
			continue;
		a->pending[i].id = 0;
		if (in->rc == 0)
			after_yes(a, &p, in->body);
		else
			ui_say(a, UI_BAD, "%s: %s%s%s", p.what,
			       in->message != NULL ? in->message : "?",
			       in->hint != NULL && in->hint[0] != '\0' ? " - " : "",
			       in->hint != NULL ? in->hint : "");
		remember(a, in->id, a->message);
	}
}

/* ---- keys ---- */

static void filter_key(struct ui_app *a, uint32_t key)
{
	struct ui_list *l = ui_list_now(a);

	if (key == UI_K_ESC)
		l->filter[0] = '\0';
	if (key == UI_K_ESC || key == UI_K_ENTER)
		a->layer = UI_LAYER_NONE;
	else if (ui_line_key(l->filter, sizeof(l->filter), key))
		l->seen[0] = '\0'; /* the first that matches is meant, drawn or not */
	else
		(void)ui_list_key(a, l, ui_table_now(a), key, a->page);
}

static void view_key(struct ui_app *a, uint32_t key)
{
	const struct ui_table *t = ui_table_now(a);

	if (ui_deed_key(a, key))
		return;
	if (t != NULL)
		(void)ui_list_key(a, ui_list_now(a), t, key, a->page);
}

static void on_key(struct ui_app *a, uint32_t key)
{
	if (key == UI_K_CTRL('l')) {
		(void)ui_order(a, UI_DO_REPAINT);
		return;
	}
	if (key == '\r')
		key = UI_K_ENTER;
	/* what cannot be seen cannot be agreed to */
	if (!ui_fits(a) && key != 'q' && key != UI_K_F10)
		return;
	switch (a->layer) {
	case UI_LAYER_NONE:
		view_key(a, key);
		break;
	case UI_LAYER_FILTER:
		filter_key(a, key);
		break;
	case UI_LAYER_COMMAND:
		ui_command_key(a, key);
		break;
	case UI_LAYER_HELP:
		ui_help_key(a, key);
		break;
	case UI_LAYER_PAGER:
		ui_pager_key(a, key);
		break;
	case UI_LAYER_DIALOG:
		ui_dialog_key(a, key);
		break;
	case UI_LAYER_WIZARD:
		ui_wizard_key(a, key);
		break;
	}
}

static void on_edited(struct ui_app *a, const struct ui_input *in)
{
	(void)ui_order(a, UI_DO_REPAINT);
	if (in->rc != 0)
		ui_say(a, UI_WARN, _("the editor ended with status %d"), in->rc);
	ui_asks_renew(a, UI_PART_RUNBOOK);
	ui_asks_renew(a, UI_PART_PLAN);
	a->ask[UI_PART_RUNBOOKS].due_ns = 0;
}

void ui_app_step(struct ui_app *a, const struct ui_input *in, struct ui_orders *out)
{
	drop_orders(a);
	a->now_ns = in->now_ns;
	a->wall_ns = in->wall_ns;
	switch (in->kind) {
	case UI_IN_KEY:
		on_key(a, in->key);
		break;
	case UI_IN_SIZE:
		a->w = in->w < UI_GRID_MAX ? in->w : UI_GRID_MAX;
		a->h = in->h < UI_GRID_MAX ? in->h : UI_GRID_MAX;
		break;
	case UI_IN_TICK:
		break;
	case UI_IN_ANSWER:
		if (!ui_asks_answer(a, in))
			act_answer(a, in);
		break;
	case UI_IN_OUTPUT:
		ui_pager_output(a, in->text, in->len);
		break;
	case UI_IN_EXIT:
		ui_pager_exit(a, in->rc, in->message);
		break;
	case UI_IN_EDITED:
		on_edited(a, in);
		break;
	}
	follow_change(a);
	ui_wizard_follow(a);
	follow_selection(a);
	follow_console(a);
	ui_asks_due(a);
	if (a->message[0] != '\0' && a->now_ns - a->message_ns > MESSAGE_NS)
		a->message[0] = '\0';
	*out = a->orders;
}

/* ---- for tests ---- */

unsigned ui_app_reached(const struct ui_app *a, const char *name)
{
	for (size_t i = 0; i < UI_VIEWS; i++)
		if (strncmp(name, "view ", 5) == 0 && strcmp(name + 5, ui_views[i].id) == 0)
			return a->view_count[i];
	for (size_t i = 0; ui_deeds[i].id != NULL; i++)
		if (strncmp(name, "deed ", 5) == 0 && strcmp(name + 5, ui_deeds[i].id) == 0)
			return a->deed_count[i];
	return 0;
}

bool ui_app_place(size_t i, char *out, size_t cap)
{
	size_t deeds = 0;

	while (ui_deeds[deeds].id != NULL)
		deeds++;
	if (i >= UI_VIEWS + deeds)
		return false;
	(void)snprintf(out, cap, "%s %s", i < UI_VIEWS ? "view" : "deed",
		       i < UI_VIEWS ? ui_views[i].id : ui_deeds[i - UI_VIEWS].id);
	return true;
}

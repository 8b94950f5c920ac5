/*
 * What a person can do, in one table: hints, help and keys all come from it. A deed that changes
 * something only fills the dialog; the request leaves when the dialog is answered.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "app_int.h"
#include "base/assert.h"
#include "siteagent/ctl.h"

#define IN(view) (1u << UI_VIEW_##view)

/* ---- what is selected ---- */

static const struct ui_group *group_now(const struct ui_app *a)
{
	size_t row = ui_row_now(a);

	if (row == UI_NONE)
		return NULL;
	if (a->view == UI_VIEW_OVERVIEW)
		return row < a->model.groups ? &a->model.group[row] : NULL;
	if (a->view == UI_VIEW_MACHINES && row < a->model.machines)
		return ui_model_group(&a->model, a->model.machine[row].group.show);
	return NULL;
}

static const struct ui_point *point_now(const struct ui_app *a)
{
	size_t row = a->view == UI_VIEW_POINTS ? ui_row_now(a) : UI_NONE;

	return row != UI_NONE && row < a->model.points ? &a->model.point[row] : NULL;
}

static const struct ui_runbook *book_now(const struct ui_app *a)
{
	size_t row = a->view == UI_VIEW_RUNBOOKS ? ui_row_now(a) : UI_NONE;

	return row != UI_NONE && row < a->model.runbooks ? &a->model.runbook[row] : NULL;
}

static bool run_open(const struct ui_app *a)
{
	return a->view == UI_VIEW_RUNS && a->run_id[0] != '\0';
}

static const struct ui_step *step_now(const struct ui_app *a)
{
	size_t row = run_open(a) ? ui_row_now(a) : UI_NONE;

	return row != UI_NONE && row < a->model.steps ? &a->model.step[row] : NULL;
}

static bool run_live(const struct ui_app *a)
{
	return run_open(a) && a->model.part[UI_PART_RUN].loaded && !ui_run_ended(&a->model.detail);
}

/* ---- ready ---- */

static bool has_source_group(const struct ui_app *a)
{
	const struct ui_group *g = group_now(a);

	return g != NULL && g->source && g->name.exact;
}

static bool has_point(const struct ui_app *a)
{
	return point_now(a) != NULL && point_now(a)->id.exact;
}

static bool has_book(const struct ui_app *a)
{
	const struct ui_runbook *b = book_now(a);

	return b != NULL && b->name.exact && b->path.exact;
}

static bool book_good(const struct ui_app *a)
{
	const struct ui_runbook *b = book_now(a);

	return b != NULL && has_book(a) && a->model.part[UI_PART_RUNBOOK].loaded &&
	       strcmp(a->model.text_name.show, b->name.show) == 0;
}

static bool has_rows(const struct ui_app *a)
{
	return ui_table_now(a) != NULL;
}

static bool fence_waits(const struct ui_app *a)
{
	for (size_t i = 0; i < a->model.steps; i++)
		if (strcmp(a->model.step[i].action, "fence") == 0 &&
		    strcmp(a->model.step[i].state, "waiting") == 0)
			return true;
	return false;
}

/* The name that must be typed; without one nothing that wants it is possible. */
static bool site_known(const struct ui_app *a)
{
	return a->model.site.exact && a->model.site.show[0] != '\0';
}

static bool run_halted(const struct ui_app *a)
{
	return run_live(a) && (site_known(a) || !fence_waits(a)) &&
	       (strcmp(a->model.detail.state, "HALTED") == 0 || a->model.detail.waiting > 0);
}

static bool step_waits(const struct ui_app *a)
{
	const struct ui_step *s = step_now(a);

	return run_live(a) && s != NULL && s->id.exact && strcmp(s->state, "waiting") == 0;
}

static bool may_skip(const struct ui_app *a)
{
	return step_waits(a) && site_known(a);
}

static bool may_cancel(const struct ui_app *a)
{
	return run_live(a) && site_known(a);
}

static bool run_running(const struct ui_app *a)
{
	return run_live(a) && strcmp(a->model.detail.state, "RUNNING") == 0;
}

static bool run_list(const struct ui_app *a)
{
	return ui_row_now(a) != UI_NONE && !run_open(a);
}

static bool step_booted(const struct ui_app *a)
{
	const struct ui_step *s = step_now(a);

	return s != NULL && s->booted && s->machine.exact;
}

static const struct ui_machine *machine_now(const struct ui_app *a)
{
	size_t row = a->view == UI_VIEW_MACHINES ? ui_row_now(a) : UI_NONE;

	return row != UI_NONE && row < a->model.machines ? &a->model.machine[row] : NULL;
}

static bool machine_booted(const struct ui_app *a)
{
	const struct ui_machine *x = machine_now(a);

	return x != NULL && x->name.exact && x->run.exact && x->run.show[0] != '\0';
}

static bool has_console(const struct ui_app *a)
{
	return a->machine[0] != '\0';
}

/* The next machine that the open run booted; NULL: there is no other. */
static const struct ui_step *next_booted(const struct ui_app *a)
{
	const struct ui_model *m = &a->model;
	size_t at = 0;

	while (at < m->steps && strcmp(m->step[at].machine.show, a->machine) != 0)
		at++;
	for (size_t k = 1; k <= m->steps; k++) {
		const struct ui_step *s = &m->step[(at + k) % m->steps];

		if (s->booted && s->machine.exact && strcmp(s->machine.show, a->machine) != 0)
			return s;
	}
	return NULL;
}

static bool has_next(const struct ui_app *a)
{
	return next_booted(a) != NULL;
}

/* The machine whose screen can be seen: it runs here under lifeboat-vm; "" none. */
static const char *picture_name(const struct ui_app *a)
{
	const struct ui_model *m = &a->model;
	const struct ui_machine *x = machine_now(a);
	const char *name = x != NULL ? x->name.show : "", *domain = x != NULL ? x->domain.show : "";

	if (a->view == UI_VIEW_CONSOLE) {
		name = a->machine;
		domain = strcmp(m->console_machine.show, name) == 0 ? m->console_domain : "";
	}
	if (domain[0] != '\0') /* a drill's goes by a name of its own */
		name = domain;
	for (size_t i = 0; i < m->vms; i++)
		if (strcmp(m->vm[i].name.show, name) == 0 && m->vm[i].name.exact &&
		    strcmp(m->vm[i].state, "running") == 0)
			return m->vm[i].name.show;
	return "";
}

/* It runs here under lifeboat-vm, or a run has booted it: then its console can be seen. */
static bool has_serial(const struct ui_app *a)
{
	return machine_booted(a) ||
	       (a->view == UI_VIEW_MACHINES && picture_name(a)[0] != '\0' &&
		!ui_read_only(a)); /* `vm console` is not for who may only look */
}

static bool has_picture(const struct ui_app *a)
{
	return picture_name(a)[0] != '\0';
}

/* ---- moving about ---- */

static void do_help(struct ui_app *a)
{
	ui_help_open(a);
}

static void do_command(struct ui_app *a)
{
	ui_command_open(a, "");
}

static void do_filter(struct ui_app *a)
{
	a->layer = UI_LAYER_FILTER;
}

static void do_quit(struct ui_app *a)
{
	(void)ui_order(a, UI_DO_QUIT);
}

static void do_refresh(struct ui_app *a)
{
	for (unsigned p = 0; p < UI_PARTS; p++)
		a->ask[p].id = 0;
	ui_asks_now(a);
}

static void do_next(struct ui_app *a)
{
	ui_open_view(a, (enum ui_view_id)((a->view + 1u) % UI_VIEWS));
}

static void do_back(struct ui_app *a)
{
	struct ui_list *l = ui_list_now(a);

	if (a->message[0] != '\0') {
		a->message[0] = '\0';
	} else if (l->filter[0] != '\0') {
		l->filter[0] = '\0';
	} else if (run_open(a)) {
		a->run_id[0] = '\0';
		ui_list_now(a)->seen[0] = '\0';
	} else {
		ui_open_view(a, UI_VIEW_OVERVIEW);
	}
}

static void do_log(struct ui_app *a)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	int rc;

	LB_ASSERT(f != NULL);
	for (size_t i = 0; i < a->log_count; i++)
		(void)fprintf(f, "$ %s\n  %s\n", a->log[i].equal,
			      a->log[i].outcome[0] != '\0' ? a->log[i].outcome
							   : _("no answer yet"));
	rc = fclose(f);
	LB_ASSERT(rc == 0);
	ui_pager_open_whole(a, _("Commands of this session"),
			    len > 0 ? text : _("nothing was done yet"));
	free(text);
}

/* ---- groups and points ---- */

static void do_cut(struct ui_app *a)
{
	const struct ui_group *g = group_now(a);
	char name[2 * UI_NAME_BYTES + 8], part[3 * UI_NAME_BYTES];
	struct ui_act *act = &a->dialog.act;

	(void)snprintf(act->what, sizeof(act->what), _("take a recovery point of %s now"),
		       g->name.show);
	ui_equal(a, act->equal, sizeof(act->equal), "group cut %s",
		 ui_quote(name, sizeof(name), g->name.show));
	(void)snprintf(act->path, sizeof(act->path), "/v1/groups/%s/cut",
		       sa_ctl_path_part(part, sizeof(part), g->name.show));
	act->body = json_object();
	ui_dialog_open(a);
}

static void verify(struct ui_app *a, bool deep)
{
	const struct ui_point *p = point_now(a);
	struct ui_act *act = &a->dialog.act;

	(void)snprintf(act->what, sizeof(act->what),
		       deep ? _("verify point %.12s, decrypting it") : _("verify point %.12s"),
		       p->id.show);
	ui_equal(a, act->equal, sizeof(act->equal), "point verify %.12s%s", p->id.show,
		 deep ? " --deep" : "");
	(void)snprintf(act->path, sizeof(act->path), "/v1/points/%.100s/verify", p->id.show);
	act->body = json_pack("{s:b}", "deep", (int)deep);
	act->then = UI_THEN_JOB;
	ui_dialog_open(a);
}

static void do_verify(struct ui_app *a)
{
	verify(a, false);
}

static void do_verify_deep(struct ui_app *a)
{
	verify(a, true);
}

static void do_export(struct ui_app *a)
{
	char line[UI_INPUT_BYTES];

	(void)snprintf(line, sizeof(line), "point export %.12s ", point_now(a)->id.show);
	ui_command_open(a, line);
}

/* ---- runbooks ---- */

static void do_edit(struct ui_app *a)
{
	struct ui_order *o = ui_order(a, UI_DO_EDIT);

	(void)snprintf(o->path, sizeof(o->path), "%s", book_now(a)->path.show);
}

static void do_drill(struct ui_app *a)
{
	const struct ui_runbook *b = book_now(a);
	char path[2 * UI_NAME_BYTES + 8];
	struct ui_act *act = &a->dialog.act;

	(void)snprintf(act->what, sizeof(act->what), _("drill %s"), b->name.show);
	(void)snprintf(a->dialog.text, sizeof(a->dialog.text), "%s",
		       _("Boots the replicas in an isolated network. Roles and replication are "
			 "not touched; what it booted is removed at the end."));
	ui_equal(a, act->equal, sizeof(act->equal), "drill %s",
		 ui_quote(path, sizeof(path), b->path.show));
	(void)snprintf(act->path, sizeof(act->path), "/v1/runs");
	act->body = json_pack("{s:s, s:s, s:s}", "name", b->path.show, "text", a->model.text,
			      "mode", "drill");
	act->then = UI_THEN_OPEN_RUN;
	ui_dialog_open(a);
}

static void do_failover(struct ui_app *a)
{
	ui_wizard_open(a, book_now(a)->name.show, book_now(a)->path.show);
}

static void do_choose_book(struct ui_app *a)
{
	ui_open_view(a, UI_VIEW_RUNBOOKS);
	ui_say(a, UI_TEXT, "%s", _("choose a runbook: F fails over, D drills"));
}

static void do_text(struct ui_app *a)
{
	ui_pager_open(a, a->model.text_name.show, a->model.text);
}

/* ---- runs ---- */

static void do_open_run(struct ui_app *a)
{
	size_t row = ui_row_now(a), n = 0;

	for (size_t i = 0; i < a->model.runs; i++) {
		const struct ui_run *r = &a->model.run[i];

		if (a->view == UI_VIEW_DRILLS && strcmp(r->mode, "drill") != 0)
			continue;
		if (n++ != row || !r->id.exact)
			continue;
		ui_open_view(a, UI_VIEW_RUNS);
		ui_open_run(a, r->id.show);
		return;
	}
}

static void command_run(struct ui_app *a, const char *command, const char *what,
			const struct ui_step *step, bool dangerous)
{
	char name[2 * UI_NAME_BYTES + 8] = "", part[3 * UI_NAME_BYTES];
	struct ui_act *act = &a->dialog.act;

	(void)snprintf(act->what, sizeof(act->what), "%s: %.8s%s%s", what, a->run_id,
		       step != NULL ? " " : "", step != NULL ? step->id.show : "");
	if (step != NULL)
		(void)ui_quote(name, sizeof(name), step->id.show);
	(void)snprintf(a->dialog.command, sizeof(a->dialog.command), "run %s %.8s%s%s", command,
		       a->run_id, step != NULL ? " " : "", name);
	(void)snprintf(act->path, sizeof(act->path), "/v1/runs/%s/command",
		       sa_ctl_path_part(part, sizeof(part), a->run_id));
	act->body = json_pack("{s:s}", "command", command);
	if (step != NULL)
		(void)json_object_set_new(act->body, "step", json_string(step->id.show));
	if (dangerous)
		(void)snprintf(a->dialog.must_type, sizeof(a->dialog.must_type), "%s",
			       a->model.site.show);
	ui_dialog_open(a);
}

static void do_halt(struct ui_app *a)
{
	command_run(a, "halt", _("start no further step"), NULL, false);
}

static void do_continue(struct ui_app *a)
{
	bool fence = fence_waits(a);

	(void)snprintf(a->dialog.text, sizeof(a->dialog.text), "%s",
		       fence ? _("The old site is not fenced: it may still be active when machines "
				 "boot here.")
			     : _("What has failed stays a warning of the run; what depends on it "
				 "runs."));
	command_run(a, "continue", _("go on"), NULL, fence);
}

static void do_retry(struct ui_app *a)
{
	command_run(a, "retry", _("try again"), step_now(a), false);
}

static void do_skip(struct ui_app *a)
{
	(void)snprintf(a->dialog.text, sizeof(a->dialog.text), "%s",
		       _("What depends on the step runs as if it had been done. A site can be "
			 "left half failed over."));
	a->dialog.wants_reason = true; /* the agent takes none without */
	command_run(a, "skip", _("leave out"), step_now(a), true);
}

static void do_cancel(struct ui_app *a)
{
	(void)snprintf(a->dialog.text, sizeof(a->dialog.text), "%s",
		       _("Ends the run; its finally steps still run. A site can be left half "
			 "failed over."));
	command_run(a, "cancel", _("cancel the run"), NULL, true);
}

static void show_console(struct ui_app *a, const char *machine)
{
	if (strcmp(a->machine, machine) != 0) {
		(void)snprintf(a->machine, sizeof(a->machine), "%s", machine);
		ui_asks_renew(a, UI_PART_CONSOLE);
		a->console_back = 0;
	}
}

static void do_console(struct ui_app *a)
{
	const struct ui_step *s = step_now(a);

	LB_ASSERT(s != NULL); /* step_booted() */
	show_console(a, s->machine.show);
	ui_open_view(a, UI_VIEW_CONSOLE);
}

static void do_machine_console(struct ui_app *a)
{
	const struct ui_machine *x = machine_now(a);
	char line[UI_INPUT_BYTES], name[2 * UI_NAME_BYTES + 8];

	LB_ASSERT(x != NULL); /* has_serial() */
	if (!machine_booted(a)) {
		(void)snprintf(line, sizeof(line), "vm console %s --once",
			       ui_quote(name, sizeof(name), picture_name(a)));
		ui_command_run(a, line);
		return;
	}
	ui_open_run(a, x->run.show);
	show_console(a, x->name.show);
	ui_open_view(a, UI_VIEW_CONSOLE);
}

static void do_next_console(struct ui_app *a)
{
	show_console(a, next_booted(a)->machine.show);
}

/* Its screen is asked of the machine itself by the program that knows how. */
static void do_picture(struct ui_app *a)
{
	char line[UI_INPUT_BYTES], name[2 * UI_NAME_BYTES + 8];

	(void)snprintf(line, sizeof(line), "vm screenshot %s",
		       ui_quote(name, sizeof(name), picture_name(a)));
	ui_command_run(a, line);
}

static void do_older(struct ui_app *a)
{
	if ((size_t)a->console_back < a->model.console.count)
		a->console_back += a->page > 1 ? a->page : 1;
}

static void do_newer(struct ui_app *a)
{
	a->console_back -= a->page > 1 ? a->page : 1;
	a->console_back = a->console_back < 0 ? 0 : a->console_back;
}

static void do_event(struct ui_app *a)
{
	size_t row = ui_row_now(a);

	if (row < a->model.events) /* newest first on the screen */
		ui_pager_open_whole(a, _("Event"), a->model.event[a->model.events - 1 - row].line);
}

/* ---- the table ---- */

const struct ui_deed ui_deeds[] = {
	{"failover", 'F', "F", N_("fail over"),
	 N_("Fail over by this runbook: shows what would be lost, who is alive and the plan, then "
	    "wants the typed name of the site that gives way"),
	 IN(RUNBOOKS), true, book_good, do_failover},
	{"choose-failover", 'F', "F", N_("fail over"), N_("Choose a runbook to fail over by"),
	 IN(OVERVIEW) | IN(SITES) | IN(MACHINES) | IN(DRILLS), true, NULL, do_choose_book},
	{"drill", 'D', "D", N_("drill"),
	 N_("Run this runbook as a drill: isolated, roles and replication untouched"), IN(RUNBOOKS),
	 true, book_good, do_drill},
	{"choose-drill", 'D', "D", N_("drill"), N_("Choose a runbook to drill"),
	 IN(OVERVIEW) | IN(SITES) | IN(MACHINES) | IN(DRILLS), true, NULL, do_choose_book},
	{"edit", 'e', "e", N_("edit"),
	 N_("Open this runbook in $EDITOR; it is checked again when you come back"), IN(RUNBOOKS),
	 true, has_book, do_edit},
	{"text", UI_K_ENTER, "Enter", N_("text"), N_("Show the text of this runbook"), IN(RUNBOOKS),
	 false, book_good, do_text},
	{"cut", 'c', "c", N_("point now"), N_("Take a recovery point of this group now"),
	 IN(OVERVIEW) | IN(MACHINES), true, has_source_group, do_cut},
	{"verify", 'v', "v", N_("verify"), N_("Check every byte that this point needs"), IN(POINTS),
	 true, has_point, do_verify},
	{"verify-deep", 'V', "V", N_("deep verify"),
	 N_("Check every byte that this point needs, decrypting it"), IN(POINTS), true, has_point,
	 do_verify_deep},
	{"export", 'x', "x", N_("export"), N_("Write a volume of this point as an image file"),
	 IN(POINTS), true, has_point, do_export},
	{"open-run", UI_K_ENTER, "Enter", N_("open"), N_("Show this run, step by step"),
	 IN(RUNS) | IN(DRILLS), false, run_list, do_open_run},
	{"run-continue", 'c', "c", N_("continue"),
	 N_("Go on with the halted run; what failed stays a warning"), IN(RUNS), true, run_halted,
	 do_continue},
	{"run-retry", 't', "t", N_("try again"), N_("Try the failed step again"), IN(RUNS), true,
	 step_waits, do_retry},
	{"run-skip", 's', "s", N_("skip"),
	 N_("Leave the failed step out; wants a reason and the typed name of this site"), IN(RUNS),
	 true, may_skip, do_skip},
	{"run-halt", 'h', "h", N_("halt"), N_("Start no further step of the run"), IN(RUNS), true,
	 run_running, do_halt},
	{"run-cancel", 'X', "X", N_("cancel"), N_("End the run; wants the typed name of this site"),
	 IN(RUNS), true, may_cancel, do_cancel},
	{"console", UI_K_ENTER, "Enter", N_("console"),
	 N_("Show the serial console of the machine that this step booted"), IN(RUNS), false,
	 step_booted, do_console},
	{"machine-console", UI_K_ENTER, "Enter", N_("console"),
	 N_("Show the serial console of this machine, which runs here"), IN(MACHINES), false,
	 has_serial, do_machine_console},
	{"picture", 's', "s", N_("screen"), N_("Show the screen of this machine as text"),
	 IN(MACHINES) | IN(CONSOLE), true, has_picture, do_picture},
	{"console-next", 'n', "n", N_("next machine"), N_("Console of the next booted machine"),
	 IN(CONSOLE), false, has_next, do_next_console},
	{"console-older", UI_K_PAGE_UP, "PgUp", N_("older"), N_("Older lines of the console"),
	 IN(CONSOLE), false, has_console, do_older},
	{"console-newer", UI_K_PAGE_DOWN, "PgDn", N_("newer"), N_("Newer lines of the console"),
	 IN(CONSOLE), false, has_console, do_newer},
	{"event", UI_K_ENTER, "Enter", N_("whole line"), N_("Show the whole event"), IN(EVENTS),
	 false, has_rows, do_event},
	{"help", '?', "?", N_("help"), N_("This list; type to search it, Enter does the entry"), 0,
	 false, NULL, do_help},
	{"command", ':', ":", N_("command"),
	 N_("Run a command of the lifeboat program; Tab completes"), 0, false, NULL, do_command},
	{"filter", '/', "/", N_("filter"), N_("Show only the lines that hold a text"), 0, false,
	 has_rows, do_filter},
	{"log", 'l', "l", N_("log"), N_("What was done in this session, as commands"), 0, false,
	 NULL, do_log},
	{"refresh", 'r', "r", N_("refresh"), N_("Ask the agent for everything again"), 0, false,
	 NULL, do_refresh},
	{"next-view", UI_K_TAB, "Tab", N_("next view"), N_("The next view; 1 to 9 choose one"), 0,
	 false, NULL, do_next},
	{"back", UI_K_ESC, "Esc", N_("back"), N_("Back to where you came from"), 0, false, NULL,
	 do_back},
	{"quit", 'q', "q", N_("quit"), N_("Leave; runs and drills go on without this program"), 0,
	 false, NULL, do_quit},
	{NULL, 0, NULL, NULL, NULL, 0, false, NULL, NULL},
};

bool ui_deed_here(const struct ui_app *a, const struct ui_deed *d)
{
	if (d->changes && ui_read_only(a))
		return false;
	if (d->views != 0 && (d->views & (1u << a->view)) == 0)
		return false;
	return d->ready == NULL || d->ready(a);
}

void ui_deed_do(struct ui_app *a, const struct ui_deed *d)
{
	LB_ASSERT(ui_deed_here(a, d));
	a->deed_count[d - ui_deeds]++;
	if (a->layer == UI_LAYER_HELP)
		a->layer = UI_LAYER_NONE;
	d->fn(a);
}

/* A key that would mean something here but for a reason: say the reason. */
static bool say_why_not(struct ui_app *a, const struct ui_deed *d)
{
	if (d->views != 0 && (d->views & (1u << a->view)) == 0)
		return false;
	if (d->changes && ui_read_only(a))
		ui_say(a, UI_WARN, _("read-only: \"%s\" is switched off"), _(d->name));
	else
		ui_say(a, UI_TEXT, _("\"%s\" is not possible here now"), _(d->name));
	return true;
}

bool ui_deed_key(struct ui_app *a, uint32_t key)
{
	static const uint32_t other_key[] = {'?', ':', '/', 'r'}; /* F1 to F4 */
	const struct ui_deed *blocked = NULL;

	if (key >= '1' && key < '1' + UI_VIEWS) {
		ui_open_view(a, (enum ui_view_id)(key - '1'));
		return true;
	}
	if (key >= UI_K_F1 && key < UI_K_F1 + 4)
		key = other_key[key - UI_K_F1];
	if (key == UI_K_F10)
		key = 'q';
	for (const struct ui_deed *d = ui_deeds; d->id != NULL; d++) {
		if (d->key != key)
			continue;
		if (ui_deed_here(a, d)) {
			ui_deed_do(a, d);
			return true;
		}
		blocked = blocked == NULL && d->views != 0 ? d : blocked;
	}
	return blocked != NULL && say_why_not(a, blocked);
}

void ui_app_print_keys(FILE *out)
{
	for (const struct ui_deed *d = ui_deeds; d->id != NULL; d++) {
		const char *gap = "";

		(void)fprintf(out, "%s\t", d->label);
		for (unsigned v = 0; v < UI_VIEWS; v++)
			if ((d->views & (1u << v)) != 0) {
				(void)fprintf(out, "%s%s", gap, ui_views[v].id);
				gap = ", ";
			}
		(void)fprintf(out, "\t%s\n", d->help);
	}
}

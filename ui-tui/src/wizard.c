/*
 * The failover: what would be lost, who is seen alive, the plan; then the typed name of the site
 * that gives way. The request leaves from the last page only, and only with that name (U1).
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "app_int.h"
#include "base/assert.h"
#include "base/text.h"

enum page {
	PAGE_LOST,
	PAGE_ALIVE,
	PAGE_PLAN,
	PAGE_CONFIRM,
	PAGES
};

static bool text_ready(const struct ui_app *a)
{
	return a->model.part[UI_PART_RUNBOOK].loaded && a->model.text != NULL &&
	       strcmp(a->model.text_name.show, a->wizard.runbook) == 0;
}

/* The plan is that of the text that is started: both are asked for anew when it changes. */
static bool plan_ready(const struct ui_app *a)
{
	return a->model.part[UI_PART_PLAN].loaded && text_ready(a) && a->wizard.text != NULL &&
	       strcmp(a->wizard.text, a->model.text) == 0;
}

static void keep_text(struct ui_app *a)
{
	free(a->wizard.text);
	a->wizard.text = strdup(a->model.text);
	LB_ASSERT(a->wizard.text != NULL);
}

void ui_wizard_open(struct ui_app *a, const char *name, const char *path)
{
	free(a->wizard.text);
	memset(&a->wizard, 0, sizeof(a->wizard));
	(void)snprintf(a->wizard.runbook, sizeof(a->wizard.runbook), "%s", name);
	(void)snprintf(a->wizard.path, sizeof(a->wizard.path), "%s", path);
	if (text_ready(a))
		keep_text(a);
	a->layer = UI_LAYER_WIZARD;
}

/* What was looked at is not what would be started: it is looked at again, and typed again. */
void ui_wizard_follow(struct ui_app *a)
{
	struct ui_wizard *w = &a->wizard;

	if (a->layer != UI_LAYER_WIZARD || !text_ready(a) ||
	    (w->text != NULL && strcmp(w->text, a->model.text) == 0))
		return;
	if (w->text != NULL) {
		w->page = PAGE_LOST;
		w->scroll = 0;
		w->typed[0] = '\0';
		ui_say(a, UI_WARN, "%s", _("the runbook was changed just now: look at it again"));
	}
	keep_text(a);
}

static void equal(const struct ui_app *a, char *out, size_t cap)
{
	char path[2 * UI_NAME_BYTES + 8], site[2 * UI_NAME_BYTES + 8];

	ui_equal(a, out, cap, "run start %s --confirm %s",
		 ui_quote(path, sizeof(path), a->wizard.path),
		 ui_quote(site, sizeof(site), a->model.gives_way.show));
}

static void start(struct ui_app *a)
{
	struct ui_act act = {.then = UI_THEN_OPEN_RUN};

	(void)snprintf(act.what, sizeof(act.what), _("failover by %s"), a->wizard.runbook);
	equal(a, act.equal, sizeof(act.equal));
	(void)snprintf(act.path, sizeof(act.path), "/v1/runs");
	act.body = json_pack("{s:s, s:s, s:s, s:s}", "name", a->wizard.path, "text", a->wizard.text,
			     "mode", "failover", "confirm", a->wizard.typed);
	a->layer = UI_LAYER_NONE;
	ui_act_send(a, &act);
}

/* Inside of the box, which ui_wizard_draw() makes. */
static struct ui_area inside(const struct ui_app *a)
{
	return (struct ui_area){2, 2, a->h - 5, a->w - 4};
}

static int command_rows(const struct ui_app *a)
{
	char cmd[640];

	equal(a, cmd, sizeof(cmd));
	return ui_wrap(NULL, (struct ui_area){0, 0, a->h, inside(a).w - 2}, UI_KEY, cmd);
}

/* What stands in the way of the last page; NULL: nothing. */
static const char *why_not(const struct ui_app *a)
{
	const struct ui_model *m = &a->model;

	if (m->lint.count > 0)
		return _("the runbook has problems: fix them first");
	if (!plan_ready(a))
		return ui_plan_missing(a);
	if (!m->gives_way.exact || m->gives_way.show[0] == '\0')
		return _("the plan does not say which site gives way");
	/* what cannot be seen cannot be agreed to */
	return command_rows(a) + 1 > inside(a).h ? _("the window is too small for this: enlarge it")
						 : NULL;
}

static void confirm_key(struct ui_app *a, uint32_t key)
{
	struct ui_wizard *w = &a->wizard;

	if (key != UI_K_ENTER) {
		(void)ui_line_key(w->typed, sizeof(w->typed), key);
		return;
	}
	if (why_not(a) != NULL)
		ui_say(a, UI_WARN, "%s", why_not(a));
	else if (strcmp(w->typed, a->model.gives_way.show) != 0)
		ui_say(a, UI_WARN, _("what is typed is not the name: %s"), a->model.gives_way.show);
	else
		start(a);
}

void ui_wizard_key(struct ui_app *a, uint32_t key)
{
	struct ui_wizard *w = &a->wizard;

	if (key == UI_K_ESC) {
		a->layer = UI_LAYER_NONE;
	} else if (key == UI_K_LEFT) {
		w->page -= w->page > 0 ? 1 : 0;
		w->scroll = 0;
	} else if (key == UI_K_UP || key == UI_K_PAGE_UP) {
		w->scroll -= w->scroll > 0 ? 1 : 0;
	} else if (key == UI_K_DOWN || key == UI_K_PAGE_DOWN) {
		w->scroll += w->scroll < 1000 ? 1 : 0;
	} else if (w->page == PAGE_CONFIRM) {
		confirm_key(a, key);
	} else if (key == UI_K_ENTER || key == UI_K_RIGHT) {
		w->page++;
		w->scroll = 0;
	}
}

/* ---- pages: lines below a scroll position ---- */

struct sheet {
	struct ui_grid *g;
	struct ui_area in;
	int skip, y;
	int lines; /* so far, above, shown and below */
	bool more; /* a line had no room, or not all that it needs */
};

static void line(struct sheet *s, enum ui_style style, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void line(struct sheet *s, enum ui_style style, const char *fmt, ...)
{
	char text[1024];
	struct ui_area rest;
	va_list ap;
	int need;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	s->lines++;
	if (s->skip-- > 0)
		return;
	rest = (struct ui_area){s->y, s->in.x, s->in.y + s->in.h - s->y, s->in.w};
	need = ui_wrap(NULL, (struct ui_area){0, 0, 1000, s->in.w}, style, text);
	s->more = s->more || need > rest.h;
	s->y += ui_wrap(s->g, rest, style, text);
}

/* Would this failover take the group over? A runbook that boots nothing takes all of its site. */
static bool concerned(const struct ui_model *m, const struct ui_group *g)
{
	if (strcmp(g->role, "BACKUP") != 0)
		return false;
	for (size_t i = 0; i < m->plan_groups; i++)
		if (strcmp(m->plan_group[i].show, g->name.show) == 0)
			return true;
	return m->plan_groups == 0;
}

/* As many as there is room for, and how many more. */
static void machines_of(const struct ui_model *m, const struct ui_group *g, char *out, size_t cap)
{
	size_t n = 0, left_out = 0;

	out[0] = '\0';
	for (size_t i = 0; i < m->machines; i++) {
		const char *name = m->machine[i].name.show;

		if (strcmp(m->machine[i].group.show, g->name.show) != 0)
			continue;
		if (left_out > 0 || n + strlen(name) + 40 > cap)
			left_out++;
		else
			n += (size_t)snprintf(out + n, cap - n, "%s%s", n > 0 ? ", " : "", name);
	}
	if (left_out > 0)
		(void)snprintf(out + n, cap - n, _(" and %zu more"), left_out);
}

static void group_lost(const struct ui_app *a, struct sheet *s, const struct ui_group *g)
{
	struct ui_number now = ui_rpo_now(a, UI_PART_STATUS, g->rpo_ns);
	char rpo[LB_HUMAN_BYTES], when[LB_HUMAN_BYTES], names[UI_LINE_BYTES];
	enum ui_style good = now.known && now.n <= ui_rpo_goal_ns(g) ? UI_OK : UI_WARN;

	if (g->newest_id[0] == '\0') {
		line(s, UI_BAD, _("%s %s: no recovery point is here: all of it is lost"),
		     ui_mark(a, UI_BAD), g->name.show);
		return;
	}
	ui_age_text(rpo, sizeof(rpo), now);
	line(s, good, "%s %s: %s", ui_mark(a, good), g->name.show, rpo);
	line(s, UI_TEXT, _("    newest point: %" PRIu64 ", taken %s, %s %s"), g->last_seq.n,
	     lb_human_wall(when, g->newest_wall_ns.n), g->consistency, g->marks);
	machines_of(&a->model, g, names, sizeof(names));
	if (names[0] != '\0')
		line(s, UI_TEXT, _("    of %s"), names);
}

static void page_lost(const struct ui_app *a, struct sheet *s)
{
	const struct ui_model *m = &a->model;
	unsigned any = 0;

	line(s, UI_TEXT, "%s",
	     _("What was written after the newest recovery point is lost. At most:"));
	line(s, UI_TEXT, " ");
	for (size_t i = 0; i < m->groups; i++)
		if (concerned(m, &m->group[i])) {
			group_lost(a, s, &m->group[i]);
			any++;
		}
	if (any == 0)
		line(s, UI_WARN, "! %s",
		     _("no group is a BACKUP here: there is nothing to fail over"));
	line(s, UI_TEXT, " ");
	line(s, UI_DIM, "%s",
	     _("The disks of the other site may still hold it: nothing here deletes it there, and "
	       "nothing brings it over."));
}

static const struct ui_site *site_of(const struct ui_model *m, const char *name)
{
	for (size_t i = 0; i < m->sites; i++)
		if (strcmp(m->site_list[i].name.show, name) == 0)
			return &m->site_list[i];
	return NULL;
}

/* Is it connected now? What is said of it is what was seen, not what is guessed from ages. */
static bool say_alive(const struct ui_app *a, struct sheet *s, const char *name)
{
	const struct ui_site *site = site_of(&a->model, name);
	bool up =
		site != NULL && (strcmp(site->inbound, "up") == 0 || strcmp(site->link, "up") == 0);
	char ago[LB_HUMAN_BYTES];
	uint64_t age_ns;

	if (!a->model.part[UI_PART_SITES].loaded || ui_part_late(a, UI_PART_SITES, &age_ns)) {
		line(s, UI_WARN, _("? %s: not known yet"), name);
		return false;
	}
	if (site == NULL)
		line(s, UI_WARN, _("? %s is no peer of this site"), name);
	else if (site->self)
		line(s, UI_WARN, _("! %s is this site itself"), name);
	else if (up)
		line(s, UI_WARN, _("! %s is connected to this site now"), name);
	else if (site->inbound[0] != '\0')
		line(s, UI_TEXT, _("  %s is not connected, since %s"), name,
		     lb_human_duration(ago, site->inbound_for_ns.n));
	else
		line(s, UI_TEXT, _("  %s was not connected since this agent's start"), name);
	return up;
}

/* Is @name one of those that give way? They stand with commas between. */
static bool is_named(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (; *list != '\0'; list += strcspn(list, ","), list += *list == ',' ? 1 : 0)
		if (strcspn(list, ",") == n && strncmp(list, name, n) == 0)
			return true;
	return false;
}

/* A runbook that fences no site wants the name of this one. */
static bool fences_nobody(const struct ui_app *a)
{
	return plan_ready(a) && strcmp(a->model.gives_way.show, a->model.site.show) == 0;
}

static bool say_alive_all(const struct ui_app *a, struct sheet *s, const char *list)
{
	char names[UI_NAME_BYTES], *save = NULL;
	bool alive = false;

	(void)snprintf(names, sizeof(names), "%s", list);
	for (char *name = strtok_r(names, ",", &save); name != NULL;
	     name = strtok_r(NULL, ",", &save))
		alive = say_alive(a, s, name) || alive;
	return alive;
}

static void page_alive(const struct ui_app *a, struct sheet *s)
{
	const struct ui_model *m = &a->model;
	const char *said = plan_ready(a) && !fences_nobody(a) ? m->gives_way.show : "", *last = "";
	bool alive;

	if (fences_nobody(a))
		line(s, UI_WARN, "! %s",
		     _("This runbook fences no site: what runs elsewhere goes on running."));
	else
		line(s, UI_TEXT, _("The site that gives way: %s"),
		     said[0] != '\0' ? said : _("unknown"));
	line(s, UI_TEXT, " ");
	alive = say_alive_all(a, s, said);
	for (size_t i = 0; i < m->groups; i++) {
		const struct ui_group *g = &m->group[i];

		if (!concerned(m, g) || is_named(said, g->peer) || strcmp(g->peer, last) == 0)
			continue;
		last = g->peer;
		alive = say_alive(a, s, last) || alive;
	}
	line(s, UI_TEXT, " ");
	line(s, alive ? UI_BAD : UI_TEXT, "%s%s", alive ? ui_mark(a, UI_BAD) : "",
	     alive ? _(" It is alive. Failing over stops its machines' protection: only go on "
		       "when you mean it.")
		   : _("Not being heard is not being dead: make sure its machines are off."));
}

static void page_plan(const struct ui_app *a, struct sheet *s)
{
	const struct ui_model *m = &a->model;
	char total[LB_HUMAN_BYTES], at[LB_HUMAN_BYTES], rto[LB_HUMAN_BYTES];

	for (size_t i = 0; i < m->lint.count; i++)
		line(s, UI_BAD, "%s", m->lint.line[i]);
	if (m->lint.count > 0)
		return;
	if (!plan_ready(a)) {
		line(s, UI_DIM, "%s", ui_plan_missing(a));
		return;
	}
	line(s, m->plan_fits ? UI_OK : UI_WARN, _("%s expected %s, goal %s"),
	     ui_mark(a, m->plan_fits ? UI_OK : UI_WARN), lb_human_duration(total, m->plan_total_ns),
	     m->plan_rto_ns > 0 ? lb_human_duration(rto, m->plan_rto_ns) : "-");
	for (size_t i = 0; i < m->plan_steps; i++) {
		const struct ui_plan_step *p = &m->plan_step[i];

		line(s, UI_TEXT, "%3u  %-9s %-8s %s %s%s", p->wave + 1,
		     lb_human_duration(at, p->start_ns), p->action, p->id, p->what,
		     p->critical ? _("  (critical)") : "");
	}
}

static void page_confirm(struct ui_app *a, struct sheet *s)
{
	const struct ui_model *m = &a->model;
	char cmd[640], text[UI_LINE_BYTES];
	int x, rows = command_rows(a), more;

	if (why_not(a) != NULL) {
		line(s, UI_BAD, "%s %s", ui_mark(a, UI_BAD), why_not(a));
		return;
	}
	equal(a, cmd, sizeof(cmd));
	(void)ui_put(s->g, s->y, s->in.x, 2, UI_KEY, "$");
	s->y += ui_wrap(s->g, (struct ui_area){s->y, s->in.x + 2, rows, s->in.w - 2}, UI_KEY, cmd);
	if (fences_nobody(a))
		(void)snprintf(
			text, sizeof(text), "%s",
			_("No site is fenced: machines are booted here that may run elsewhere."));
	else
		(void)snprintf(
			text, sizeof(text),
			_("%s gives way to %s: it is fenced, and its machines are booted here."),
			m->gives_way.show, m->site.show);
	more = ui_wrap(NULL, (struct ui_area){0, 0, s->in.h, s->in.w}, UI_TEXT, text);
	if (rows + 1 + more + 1 + 1 <= s->in.h) { /* where there is room beside what is asked */
		(void)ui_wrap(s->g, (struct ui_area){s->y + 1, s->in.x, more, s->in.w}, UI_TEXT,
			      text);
		s->y += more + 2;
	}
	x = s->in.x + ui_putf(s->g, s->y, s->in.x, s->in.w, UI_WARN, _("Type %s to do it: "),
			      m->gives_way.show);
	x += ui_put_end(s->g, s->y, x, s->in.x + s->in.w - x - 1, UI_FIELD, a->wizard.typed);
	s->g->cursor_y = s->y;
	s->g->cursor_x = x < s->g->w ? x : s->g->w - 1;
}

void ui_wizard_draw(struct ui_app *a, struct ui_grid *g)
{
	static const char *const names[PAGES] = {N_("1/4 What would be lost"),
						 N_("2/4 Who is seen alive"), N_("3/4 The plan"),
						 N_("4/4 Confirm")};
	struct ui_wizard *w = &a->wizard;
	char title[UI_LINE_BYTES];
	struct sheet s = {.g = g};

	(void)snprintf(title, sizeof(title), _("Failover by %s: %s"), w->runbook,
		       _(names[w->page < PAGES ? w->page : 0]));
	s.in = ui_box(g, (struct ui_area){1, 0, g->h - 3, g->w}, title);
	s.y = s.in.y;
	s.skip = w->page == PAGE_CONFIRM ? 0 : w->scroll;
	if (w->page == PAGE_LOST)
		page_lost(a, &s);
	else if (w->page == PAGE_ALIVE)
		page_alive(a, &s);
	else if (w->page == PAGE_PLAN)
		page_plan(a, &s);
	else
		page_confirm(a, &s);
	if (w->page != PAGE_CONFIRM && w->scroll >= s.lines)
		w->scroll = s.lines > 0 ? s.lines - 1 : 0;
	if (s.more)
		(void)ui_put(g, s.in.y + s.in.h, s.in.x + 1, s.in.w - 2, UI_WARN,
			     _(" more below: Down "));
}

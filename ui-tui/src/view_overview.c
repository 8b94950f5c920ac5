/* One screen that answers: am I protected? worst RPO? who is active? last drill? what needs me? */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/text.h"
#include "views_int.h"

#define ANSWER_X       20 /* behind the questions */
#define WHOLE_H        18 /* rows: below that the groups need them */
#define DRILL_FRESH_NS (UINT64_C(30) * 86400 * 1000000000)

/* ---- am I protected ---- */

enum verdict {
	PROTECTED,
	UNPROTECTED,
	UNKNOWN
};

static enum verdict judge(const struct ui_app *a, const struct ui_group *g)
{
	struct ui_number rpo = ui_rpo_now(a, UI_PART_STATUS, g->rpo_ns);

	if (strcmp(g->role, "FENCED") == 0 || g->problem[0] != '\0')
		return UNPROTECTED;
	if (g->source && strcmp(g->link, "up") != 0)
		return UNPROTECTED;
	if (!g->source && strcmp(g->role, "BACKUP") != 0)
		return UNPROTECTED; /* it runs here now, and is replicated nowhere */
	if (!rpo.known)
		return UNKNOWN;
	return rpo.n <= ui_rpo_goal_ns(g) ? PROTECTED : UNPROTECTED;
}

static enum ui_style rpo_style(const struct ui_app *a, const struct ui_group *g)
{
	uint64_t age_ns;

	return judge(a, g) == PROTECTED && !ui_part_late(a, UI_PART_STATUS, &age_ns) ? UI_OK
										     : UI_WARN;
}

static void put_answer(struct ui_grid *g, int *y, struct ui_area area, const char *question,
		       enum ui_style style, const char *answer)
{
	int x = area.x + 1;

	if (*y >= area.y + area.h)
		return;
	(void)ui_put(g, *y, x, area.w - 1, UI_HEAD, question);
	x = area.x + ANSWER_X;
	(void)ui_put(g, *y, x, area.x + area.w - x, style, answer);
	(*y)++;
}

static void say_protected(struct ui_app *a, struct ui_grid *g, int *y, struct ui_area area)
{
	const struct ui_model *m = &a->model;
	size_t good = 0, unknown = 0;
	char text[UI_LINE_BYTES], age[LB_HUMAN_BYTES];
	enum ui_style style;
	uint64_t age_ns;

	for (size_t i = 0; i < m->groups; i++) {
		good += judge(a, &m->group[i]) == PROTECTED ? 1 : 0;
		unknown += judge(a, &m->group[i]) == UNKNOWN ? 1 : 0;
	}
	if (!m->part[UI_PART_STATUS].loaded || m->groups == 0) {
		style = UI_WARN;
		(void)snprintf(text, sizeof(text), "? %s",
			       m->part[UI_PART_STATUS].loaded ? _("NO: there is no group yet")
							      : _("UNKNOWN: no answer yet"));
	} else if (ui_part_late(a, UI_PART_STATUS, &age_ns)) {
		style = UI_WARN;
		(void)snprintf(text, sizeof(text), _("? UNKNOWN: no answer for %s"),
			       lb_human_duration(age, age_ns / 1000000000u * 1000000000u));
	} else if (good == m->groups) {
		style = UI_OK;
		(void)snprintf(text, sizeof(text), _("%s YES: %zu of %zu groups within their goal"),
			       ui_mark(a, style), good, m->groups);
	} else if (good + unknown == m->groups) {
		style = UI_WARN;
		(void)snprintf(text, sizeof(text), _("? UNKNOWN: %zu of %zu groups say nothing"),
			       unknown, m->groups);
	} else {
		style = UI_BAD;
		(void)snprintf(text, sizeof(text),
			       _("%s NO: only %zu of %zu groups within their goal"),
			       ui_mark(a, style), good, m->groups);
	}
	put_answer(g, y, area, _("Am I protected?"), style, text);
}

/* ---- worst RPO, who is active, last drill ---- */

static void say_worst(struct ui_app *a, struct ui_grid *g, int *y, struct ui_area area)
{
	const struct ui_model *m = &a->model;
	const struct ui_group *worst = NULL;
	char text[UI_LINE_BYTES], age[LB_HUMAN_BYTES];

	for (size_t i = 0; i < m->groups; i++) {
		const struct ui_group *x = &m->group[i];

		if (strcmp(x->role, "FENCED") == 0)
			continue;
		if (worst == NULL || !x->rpo_ns.known ||
		    (worst->rpo_ns.known && x->rpo_ns.n > worst->rpo_ns.n))
			worst = x;
	}
	if (worst == NULL) {
		put_answer(g, y, area, _("Worst RPO"), UI_TEXT, "-");
		return;
	}
	ui_age_text(age, sizeof(age), ui_rpo_now(a, UI_PART_STATUS, worst->rpo_ns));
	(void)snprintf(text, sizeof(text), "%s (%s)", age, worst->name.show);
	put_answer(g, y, area, _("Worst RPO"), rpo_style(a, worst), text);
}

/* Is this the first group that is active at its peer? */
static bool first_of_peer(const struct ui_model *m, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (strcmp(m->group[i].role, "PRIMARY") != 0 &&
		    strcmp(m->group[i].peer, m->group[at].peer) == 0)
			return false;
	return true;
}

static void say_active(struct ui_app *a, struct ui_grid *g, int *y, struct ui_area area)
{
	const struct ui_model *m = &a->model;
	size_t here = 0, there = 0, n = 0;
	char text[UI_LINE_BYTES] = "-", peers[160] = "";

	for (size_t i = 0; i < m->groups; i++) {
		const struct ui_group *x = &m->group[i];

		if (strcmp(x->role, "PRIMARY") == 0) {
			here++;
			continue;
		}
		there++;
		if (first_of_peer(m, i) && n + strlen(x->peer) + 2 < sizeof(peers))
			n += (size_t)snprintf(peers + n, sizeof(peers) - n, "%s%s",
					      n > 0 ? " " : "", x->peer);
	}
	if (here > 0 && there > 0)
		(void)snprintf(text, sizeof(text), _("%s (this site): %zu groups; %s: %zu"),
			       m->site.show, here, peers, there);
	else if (here > 0)
		(void)snprintf(text, sizeof(text), _("%s (this site), %zu groups"), m->site.show,
			       here);
	else if (there > 0)
		(void)snprintf(text, sizeof(text), _("%s, %zu groups; this site is the backup"),
			       peers, there);
	put_answer(g, y, area, _("Who is active?"), UI_TEXT, text);
}

static void say_drill(struct ui_app *a, struct ui_grid *g, int *y, struct ui_area area)
{
	const struct ui_run *r = ui_run_latest(&a->model, true);
	char text[UI_LINE_BYTES], ago[LB_HUMAN_BYTES], took[LB_HUMAN_BYTES];
	uint64_t age = 0;

	if (r == NULL && !a->model.part[UI_PART_STATUS].loaded) {
		put_answer(g, y, area, _("Last drill"), UI_TEXT, "-");
		return;
	}
	if (r == NULL) {
		put_answer(g, y, area, _("Last drill"), UI_WARN, _("! never at this site"));
		return;
	}
	age = a->wall_ns > r->began_wall_ns ? a->wall_ns - r->began_wall_ns : 0;
	(void)snprintf(text, sizeof(text),
		       ui_run_ended(r) ? _("%s %s, took %s, %s ago: %s")
				       : _("%s %s for %s, began %s ago: %s"),
		       ui_mark(a, ui_state_style(r->state)), r->state,
		       lb_human_duration(took, r->elapsed_ns),
		       lb_human_duration(ago, age / 1000000000u * 1000000000u), r->runbook.show);
	put_answer(g, y, area, _("Last drill"),
		   age > DRILL_FRESH_NS ? UI_WARN : ui_state_style(r->state), text);
}

/* ---- what needs me ---- */

struct needs {
	struct ui_grid *g; /* NULL: they are only counted */
	struct ui_area area;
	int *y;
	unsigned count;
	int room;  /* rows */
	int lines; /* that all would take */
	bool whole;
};

/* Whole, over two lines, when there is room for all of them so. */
static void put_need(struct needs *n, enum ui_style style, const char *text)
{
	struct ui_area rest = {*n->y, n->area.x + ANSWER_X, 2, n->area.w - ANSWER_X};
	int lines = n->whole ? ui_wrap(NULL, rest, style, text) : 1;

	put_answer(n->g, n->y, n->area, n->count == 1 ? _("What needs me?") : "", style,
		   lines > 1 ? "" : text);
	if (lines > 1)
		*n->y += ui_wrap(n->g, rest, style, text) - 1;
	n->room -= lines;
}

static void need(struct needs *n, enum ui_style style, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void need(struct needs *n, enum ui_style style, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	n->count++;
	if (n->g == NULL)
		n->lines +=
			ui_wrap(NULL, (struct ui_area){0, 0, 2, n->area.w - ANSWER_X}, style, text);
	else if (n->room > 0)
		put_need(n, style, text);
}

static void group_needs(struct ui_app *a, struct needs *n, const struct ui_group *g)
{
	const char *bad = ui_mark(a, UI_BAD);

	if (strcmp(g->role, "FENCED") == 0)
		need(n, UI_BAD, _("%s %s: another site has taken over; nothing is shipped"), bad,
		     g->name.show);
	else if (g->problem[0] != '\0')
		need(n, UI_BAD, "%s %s: %s", bad, g->name.show, g->problem);
	else if (g->source && strcmp(g->link, "up") != 0)
		need(n, UI_BAD, _("%s %s: the link to %s is down"), bad, g->name.show, g->peer);
	else if (judge(a, g) == UNPROTECTED && strcmp(g->role, "PRIMARY") == 0 && !g->source)
		need(n, UI_WARN, _("! %s runs here and is replicated nowhere"), g->name.show);
	else if (!g->source && strcmp(g->role, "BACKUP") != 0)
		need(n, UI_WARN, _("! %s is %s here"), g->name.show, g->role);
	else if (judge(a, g) == UNPROTECTED)
		need(n, UI_BAD, _("%s %s: the newest point is too old"), bad, g->name.show);
}

static void all_needs(struct ui_app *a, struct needs *out)
{
	const struct ui_model *m = &a->model;
	struct needs n = *out;

	if (m->alarm[0] != '\0')
		need(&n, UI_BAD, "%s %s", ui_mark(a, UI_BAD), m->alarm);
	for (size_t i = 0; i < m->runs; i++)
		if (!ui_run_ended(&m->run[i]) &&
		    (strcmp(m->run[i].state, "HALTED") == 0 || m->run[i].waiting > 0))
			need(&n, UI_WARN, _("! run %.8s (%s) waits for you: view 6"),
			     m->run[i].id.show, m->run[i].runbook.show);
	if (m->part[UI_PART_STATUS].loaded && !m->enrolled)
		need(&n, UI_WARN, "! %s", _("not enrolled: lifeboat site init, or site join"));
	if (m->suspect)
		need(&n, UI_BAD, "%s %s", ui_mark(a, UI_BAD),
		     _("the store is suspect after a failed sync: restart the agent, verify"));
	for (size_t i = 0; i < m->groups; i++)
		group_needs(a, &n, &m->group[i]);
	for (size_t i = 0; i < m->sites; i++)
		if (strcmp(m->site_list[i].inbound, "down") == 0)
			need(&n, UI_WARN, _("! %s is not connected any more"),
			     m->site_list[i].name.show);
	for (size_t i = 0; i < m->checks; i++)
		if (!m->check[i].ok && strcmp(m->check[i].name, "alarm") != 0 &&
		    strcmp(m->check[i].name, "group-protected") != 0)
			need(&n, UI_WARN, "! %s: %s", m->check[i].name, m->check[i].text);
	*out = n;
}

/* "Nothing" is the word of an agent that was asked everything and has answered. */
static void say_nothing(struct ui_app *a, struct ui_grid *g, int *y, struct ui_area area)
{
	static const enum ui_part asked[] = {UI_PART_STATUS, UI_PART_SITES, UI_PART_DOCTOR};
	bool known = true;
	uint64_t age_ns;

	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
		known = known && a->model.part[asked[i]].loaded &&
			a->model.part[asked[i]].error[0] == '\0' &&
			!ui_part_late(a, asked[i], &age_ns);
	put_answer(g, y, area, _("What needs me?"), known ? UI_OK : UI_TEXT,
		   known                                  ? _("nothing")
		   : a->model.part[UI_PART_STATUS].loaded ? _("? not all is known yet")
							  : "-");
}

/* None is left out unsaid: the last line tells how many more there are. */
static void say_needs(struct ui_app *a, struct ui_grid *g, int *y, struct ui_area area, int room)
{
	struct needs n = {.area = area, .y = y};
	char more[UI_LINE_BYTES];
	unsigned all;

	all_needs(a, &n);
	all = n.count;
	n = (struct needs){
		.g = g, .area = area, .y = y, .whole = n.lines <= room && area.h >= WHOLE_H};
	n.room = (int)all > room ? room - 1 : room;
	all_needs(a, &n);
	if ((int)all > room) {
		(void)snprintf(more, sizeof(more), _("! and %u more: `:doctor`, `:status`"),
			       all - (unsigned)(room - 1));
		put_answer(g, y, area, room == 1 ? _("What needs me?") : "", UI_WARN, more);
	}
	if (all == 0)
		say_nothing(a, g, y, area);
}

/* ---- the groups ---- */

static size_t rows(const struct ui_app *a)
{
	return a->model.groups;
}

static void note(const struct ui_group *g, struct ui_out *out)
{
	char eta[LB_HUMAN_BYTES] = "?";

	if (g->problem[0] != '\0') {
		out->style = UI_BAD;
		(void)snprintf(out->text, sizeof(out->text), "%s", g->problem);
		return;
	}
	if (g->scan_all.n > 0 && g->scan_done.n < g->scan_all.n) {
		if (g->eta_s.known)
			(void)lb_human_duration(eta, g->eta_s.n * 1000000000u);
		(void)snprintf(out->text, sizeof(out->text), _("scan %.0f %%, ETA %s"),
			       100.0 * (double)g->scan_done.n / (double)g->scan_all.n, eta);
		return;
	}
	(void)snprintf(out->text, sizeof(out->text), "%s", g->marks[0] != '\0' ? g->marks : g->why);
	out->style = UI_DIM;
}

static void cell(const struct ui_app *a, size_t row, unsigned col, struct ui_out *out)
{
	const struct ui_group *g = &a->model.group[row];

	switch (col) {
	case 0:
		(void)snprintf(out->text, sizeof(out->text), "%s", g->name.show);
		break;
	case 1:
		out->style = ui_state_style(g->role);
		(void)snprintf(out->text, sizeof(out->text), "%s", g->role);
		break;
	case 2:
		(void)snprintf(out->text, sizeof(out->text), "%" PRIu64, g->epoch);
		break;
	case 3:
		(void)snprintf(out->text, sizeof(out->text), "%s", g->peer);
		break;
	case 4:
		out->style = rpo_style(a, g);
		ui_age_text(out->text, sizeof(out->text), ui_rpo_now(a, UI_PART_STATUS, g->rpo_ns));
		break;
	case 5:
		if (g->last_seq.known)
			(void)snprintf(out->text, sizeof(out->text), "%" PRIu64, g->last_seq.n);
		break;
	case 6:
		out->style = ui_state_style(g->link);
		(void)snprintf(out->text, sizeof(out->text), "%s", g->link);
		break;
	default:
		note(g, out);
	}
}

static const char *key_of(const struct ui_app *a, size_t row)
{
	return a->model.group[row].name.show;
}

static const struct ui_col cols[] = {
	{N_("GROUP"), 0, false}, {N_("ROLE"), 0, false}, {N_("EPOCH"), 4, true},
	{N_("PEER"), 2, false},  {N_("RPO"), 0, true},   {N_("SEQ"), 5, true},
	{N_("LINK"), 3, false},  {N_("NOTE"), 6, false},
};
static const struct ui_table groups = {.col = cols,
				       .cols = 8,
				       .rows = rows,
				       .cell = cell,
				       .key = key_of,
				       .part = UI_PART_STATUS,
				       .empty = N_("no protection group at this site yet")};

const struct ui_table *ui_overview_table(const struct ui_app *a)
{
	(void)a;
	return &groups;
}

void ui_overview_draw(struct ui_app *a, struct ui_grid *g, struct ui_area area)
{
	int y = area.y, room = area.h - 4 - 3 < 1 ? 1 : area.h - 4 - 3;

	say_protected(a, g, &y, area);
	say_worst(a, g, &y, area);
	say_active(a, g, &y, area);
	say_drill(a, g, &y, area);
	say_needs(a, g, &y, area, room > 6 ? room / 2 : room > 3 ? 3 : room);
	if (y + 2 < area.y + area.h)
		ui_rule(g, y++, area.x, area.w, _("Groups"));
	ui_list_draw(a, &a->list[UI_VIEW_OVERVIEW], &groups, g,
		     (struct ui_area){y, area.x, area.y + area.h - y, area.w}, true);
}

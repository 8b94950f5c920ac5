/*
 * What is asked of the agent, and when: only what is on the screen, each part at its own pace, one
 * question of a part at a time. A part that fails is asked again more slowly (up to 5 s), so that
 * an agent in trouble is not hurried.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "app_int.h"
#include "base/err.h"
#include "siteagent/ctl.h"

#define BIT(part) (1u << (part))
#define MS        UINT64_C(1000000)

#define EVENTS_PAGE 500u /* the agent answers so many at once */

static const struct {
	uint32_t every_ms; /* 0: once; again when it was forgotten */
} paces[UI_PARTS] = {
	[UI_PART_STATUS] = {1000}, [UI_PART_SITES] = {3000},    [UI_PART_MACHINES] = {3000},
	[UI_PART_VMS] = {3000},    [UI_PART_HISTORY] = {5000},  [UI_PART_POINTS] = {3000},
	[UI_PART_POINT] = {0},     [UI_PART_RUNBOOKS] = {5000}, [UI_PART_RUNBOOK] = {0},
	[UI_PART_PLAN] = {0},      [UI_PART_RUN] = {700},       [UI_PART_CONSOLE] = {1500},
	[UI_PART_EVENTS] = {1500}, [UI_PART_DOCTOR] = {10000},  [UI_PART_JOBS] = {1500},
};

/* What a question is about beyond its part; the answer to a question about something else that has
 * been left meanwhile is dropped. */
static const char *about(const struct ui_app *a, enum ui_part part)
{
	switch (part) {
	case UI_PART_POINT:
		return a->point_id;
	case UI_PART_RUNBOOK:
	case UI_PART_PLAN:
		return a->book;
	case UI_PART_RUN:
		return a->run_id;
	case UI_PART_CONSOLE:
		return a->machine;
	case UI_PART_STATUS:
	case UI_PART_SITES:
	case UI_PART_MACHINES:
	case UI_PART_VMS:
	case UI_PART_HISTORY:
	case UI_PART_POINTS:
	case UI_PART_RUNBOOKS:
	case UI_PART_EVENTS:
	case UI_PART_DOCTOR:
	case UI_PART_JOBS:
	case UI_PARTS:
		break;
	}
	return "";
}

const char *ui_part_name(enum ui_part part)
{
	static const char *const names[UI_PARTS] = {
		[UI_PART_STATUS] = "status",     [UI_PART_SITES] = "sites",
		[UI_PART_MACHINES] = "machines", [UI_PART_VMS] = "vms",
		[UI_PART_HISTORY] = "history",   [UI_PART_POINTS] = "points",
		[UI_PART_POINT] = "point",       [UI_PART_RUNBOOKS] = "runbooks",
		[UI_PART_RUNBOOK] = "runbook",   [UI_PART_PLAN] = "plan",
		[UI_PART_RUN] = "run",           [UI_PART_CONSOLE] = "console",
		[UI_PART_EVENTS] = "events",     [UI_PART_DOCTOR] = "doctor",
		[UI_PART_JOBS] = "jobs",
	};

	return names[part];
}

unsigned ui_parts_shown(const struct ui_app *a)
{
	unsigned parts = BIT(UI_PART_STATUS) | BIT(UI_PART_EVENTS) | ui_views[a->view].parts;

	if (a->layer == UI_LAYER_WIZARD)
		parts |= BIT(UI_PART_SITES) | BIT(UI_PART_MACHINES) | BIT(UI_PART_RUNBOOK) |
			 BIT(UI_PART_PLAN);
	if (a->run_id[0] == '\0')
		parts &= ~(BIT(UI_PART_RUN) | BIT(UI_PART_CONSOLE));
	if (a->machine[0] == '\0')
		parts &= ~BIT(UI_PART_CONSOLE);
	if (a->point_id[0] == '\0')
		parts &= ~BIT(UI_PART_POINT);
	if (a->book[0] == '\0')
		parts &= ~(BIT(UI_PART_RUNBOOK) | BIT(UI_PART_PLAN));
	if (!a->model.part[UI_PART_RUNBOOK].loaded)
		parts &= ~BIT(UI_PART_PLAN); /* its text first */
	return parts;
}

/* ---- what is not new any more ---- */

/* How old an answer gets when all is well. */
static uint64_t usual_ns(enum ui_part part)
{
	return paces[part].every_ms * MS + 1000 * MS;
}

bool ui_part_late(const struct ui_app *a, enum ui_part part, uint64_t *age_ns)
{
	bool out = a->ask[part].id != 0 && a->now_ns - a->ask[part].sent_ns > 2000 * MS;
	bool failed = a->model.part[part].error[0] != '\0';

	if (!ui_model_age(&a->model, part, a->now_ns, age_ns))
		return false;
	if (paces[part].every_ms == 0)
		return failed;
	return *age_ns > usual_ns(part) + 3000 * MS && (out || failed);
}

struct ui_number ui_rpo_now(const struct ui_app *a, enum ui_part part, struct ui_number rpo_ns)
{
	uint64_t asked = a->model.part[part].asked_ns;
	uint64_t since = a->now_ns > asked ? a->now_ns - asked : 0;

	/* up: it is a bound; in seconds: no screen is drawn anew for less */
	if (rpo_ns.known && since > usual_ns(part) && rpo_ns.n < UINT64_MAX / 2)
		rpo_ns.n += (since / (1000 * MS) + 1) * 1000 * MS;
	return rpo_ns;
}

/* ---- asking ---- */

static void ask_plan(struct ui_app *a, struct ui_order *o)
{
	o->method = "POST";
	(void)snprintf(o->path, sizeof(o->path), "/v1/runbooks/plan");
	o->body = json_pack("{s:s, s:s, s:s}", "name", a->book, "text", a->model.text, "mode",
			    "failover");
}

static void ask(struct ui_app *a, enum ui_part part)
{
	struct ui_order *o = ui_order(a, UI_DO_ASK);
	char one[3 * UI_NAME_BYTES], two[3 * UI_NAME_BYTES];
	static const char *const plain[UI_PARTS] = {
		[UI_PART_STATUS] = "status",     [UI_PART_SITES] = "sites",
		[UI_PART_MACHINES] = "machines", [UI_PART_VMS] = "vms",
		[UI_PART_HISTORY] = "history",   [UI_PART_POINTS] = "points?max=200",
		[UI_PART_RUNBOOKS] = "runbooks", [UI_PART_DOCTOR] = "doctor",
		[UI_PART_JOBS] = "jobs",
	};

	o->id = a->next_id++;
	o->method = "GET";
	a->ask[part].id = o->id;
	a->ask[part].sent_ns = a->now_ns;
	(void)snprintf(a->ask[part].about, sizeof(a->ask[part].about), "%s", about(a, part));
	(void)sa_ctl_path_part(one, sizeof(one), about(a, part));
	if (plain[part] != NULL)
		(void)snprintf(o->path, sizeof(o->path), "/v1/%s", plain[part]);
	else if (part == UI_PART_POINT)
		(void)snprintf(o->path, sizeof(o->path), "/v1/points/%s", one);
	else if (part == UI_PART_RUNBOOK)
		(void)snprintf(o->path, sizeof(o->path), "/v1/runbooks/%s", one);
	else if (part == UI_PART_PLAN)
		ask_plan(a, o);
	else if (part == UI_PART_RUN)
		(void)snprintf(o->path, sizeof(o->path), "/v1/runs/%s", one);
	else if (part == UI_PART_EVENTS)
		(void)snprintf(o->path, sizeof(o->path), "/v1/events?after=%" PRIu64,
			       a->model.events_seen);
	else
		(void)snprintf(o->path, sizeof(o->path), "/v1/runs/%s/console?machine=%s",
			       sa_ctl_path_part(two, sizeof(two), a->run_id), one);
}

void ui_asks_due(struct ui_app *a)
{
	unsigned parts = ui_parts_shown(a);

	for (unsigned p = 0; p < UI_PARTS; p++) {
		bool due = a->now_ns >= a->ask[p].due_ns;

		if ((parts & BIT(p)) == 0 || a->ask[p].id != 0 || !due)
			continue;
		if (paces[p].every_ms == 0 && a->model.part[p].loaded)
			continue;
		ask(a, (enum ui_part)p);
	}
}

void ui_asks_now(struct ui_app *a)
{
	for (unsigned p = 0; p < UI_PARTS; p++) {
		a->ask[p].due_ns = 0;
		if (paces[p].every_ms == 0)
			a->model.part[p].loaded = false;
	}
	ui_asks_due(a);
}

void ui_asks_renew(struct ui_app *a, enum ui_part part)
{
	ui_model_forget(&a->model, part);
	a->ask[part].id = 0; /* an answer under way is about something else */
	a->ask[part].due_ns = 0;
}

/* An agent in trouble is not hurried. */
static void slow_down(struct ui_app *a, enum ui_part part)
{
	a->ask[part].due_ns = a->now_ns + (paces[part].every_ms == 0 ? 5000u : 2000u) * MS;
}

static void missed(struct ui_app *a, enum ui_part part, const struct ui_input *in)
{
	char text[320];

	(void)snprintf(text, sizeof(text), "%s", in->message != NULL ? in->message : "no answer");
	ui_model_miss(&a->model, part, text);
	slow_down(a, part);
	/* a runbook with problems: the hint is all of them, with carets; an agent that is away says
	 * nothing about it */
	if (part == UI_PART_PLAN && in->rc == LB_EINPUT)
		ui_lines_set(&a->model.lint,
			     in->hint != NULL && in->hint[0] != '\0' ? in->hint : text, false);
}

/* Events numbered below what was seen: the agent's state.db began anew, and so do we. */
static bool events_began_anew(const struct ui_app *a, const json_t *body)
{
	const json_t *list = json_object_get(body, "events");

	return a->model.events_seen > 0 && json_array_size(list) > 0 &&
	       (uint64_t)json_integer_value(json_object_get(json_array_get(list, 0), "n")) <=
		       a->model.events_seen;
}

/* A plan is made of a text: of another text, another plan. */
static void take_text(struct ui_app *a, const struct ui_input *in)
{
	char *was = a->model.text;

	a->model.text = NULL;
	ui_model_take(&a->model, UI_PART_RUNBOOK, in->body, in->now_ns);
	if (a->model.text == NULL)
		a->model.text = was; /* it was no answer */
	else if (was == NULL || strcmp(was, a->model.text) != 0)
		ui_asks_renew(a, UI_PART_PLAN);
	if (a->model.text != was)
		free(was);
}

bool ui_asks_answer(struct ui_app *a, const struct ui_input *in)
{
	unsigned p = 0;

	while (p < UI_PARTS && (a->ask[p].id == 0 || a->ask[p].id != in->id))
		p++;
	if (p == UI_PARTS)
		return false;
	a->ask[p].id = 0;
	if (strcmp(a->ask[p].about, about(a, (enum ui_part)p)) != 0) {
		a->ask[p].due_ns = 0;
		return true;
	}
	if (in->rc != 0 || in->body == NULL) {
		missed(a, (enum ui_part)p, in);
		return true;
	}
	if (p == UI_PART_EVENTS && events_began_anew(a, in->body))
		a->model.events_seen = 0;
	if (p == UI_PART_RUNBOOK)
		take_text(a, in);
	else
		ui_model_take(&a->model, (enum ui_part)p, in->body, in->now_ns);
	if (a->model.part[p].error[0] != '\0') {
		slow_down(a, (enum ui_part)p);
		return true;
	}
	a->model.part[p].asked_ns = a->ask[p].sent_ns;
	a->ask[p].due_ns = a->ask[p].sent_ns + paces[p].every_ms * MS;
	if (p == UI_PART_EVENTS &&
	    json_array_size(json_object_get(in->body, "events")) >= EVENTS_PAGE)
		a->ask[p].due_ns = 0; /* there are newer ones */
	return true;
}

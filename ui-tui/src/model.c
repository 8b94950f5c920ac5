#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "model_int.h"

#define LINES_MAX  4000u
#define EVENTS_MAX 1000u

static void *zeroed(size_t count, size_t bytes)
{
	void *p = calloc(count > 0 ? count : 1, bytes);

	LB_ASSERT(p != NULL);
	return p;
}

void ui_model_init(struct ui_model *m)
{
	memset(m, 0, sizeof(*m));
}

/* ---- fields ---- */

static const char *raw(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static void get_name(struct ui_name *out, const json_t *o, const char *key)
{
	ui_name_set(out, raw(o, key));
}

static void get_text(char *out, size_t out_bytes, const json_t *o, const char *key)
{
	const char *s = raw(o, key);

	(void)ui_clean(out, out_bytes, s != NULL ? s : "");
}
#define TEXT(out, o, key) get_text(out, sizeof(out), o, key)

static struct ui_number number_of(const json_t *v)
{
	json_int_t n = json_integer_value(v);

	return (struct ui_number){.known = json_is_integer(v) && n >= 0,
				  .n = n > 0 ? (uint64_t)n : 0};
}

static struct ui_number get_number(const json_t *o, const char *key)
{
	return number_of(json_object_get(o, key));
}

static uint64_t get_u64(const json_t *o, const char *key)
{
	return get_number(o, key).n;
}

static unsigned get_count(const json_t *o, const char *key)
{
	uint64_t n = get_u64(o, key);

	return n > 1000000 ? 1000000u : (unsigned)n;
}

static bool get_bool(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

/* Objects of an array, at most @max of them. */
static size_t count_of(const json_t *list, size_t max)
{
	size_t n = json_array_size(list);

	return n > max ? max : n;
}

/* ---- lines ---- */

static size_t line_count(const char *text)
{
	size_t n = text[0] != '\0' ? 1 : 0;

	for (; *text != '\0'; text++)
		n += text[0] == '\n' && text[1] != '\0' ? 1 : 0;
	return n;
}

static void tabs_to_spaces(char *out, size_t cap, const char *s, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n + 1 < cap; i++) {
		if (s[i] != '\t') {
			out[n++] = s[i];
			continue;
		}
		do
			out[n++] = ' ';
		while (n % 8 != 0 && n + 1 < cap);
	}
	out[n] = '\0';
}

void ui_lines_set(struct ui_lines *l, const char *text, bool console)
{
	size_t n = line_count(text), skip = n > LINES_MAX ? n - LINES_MAX : 0;
	char one[UI_LINE_BYTES];

	free(l->line);
	l->count = n - skip;
	l->line = zeroed(l->count, sizeof(*l->line));
	for (size_t i = 0; i < n; i++) {
		size_t len = strcspn(text, "\n");

		if (i >= skip && console) {
			ui_clean_console(l->line[i - skip], UI_LINE_BYTES, text, len);
		} else if (i >= skip) {
			tabs_to_spaces(one, sizeof(one), text, len);
			(void)ui_clean(l->line[i - skip], UI_LINE_BYTES, one);
		}
		text += len + (text[len] != '\0' ? 1 : 0);
	}
}

static void drop_lines(struct ui_lines *l)
{
	free(l->line);
	*l = (struct ui_lines){.count = 0};
}

/* ---- status: groups and runs ---- */

static void take_newest(struct ui_group *g, const json_t *p)
{
	size_t n = 0, i;
	json_t *mark;

	g->newest_wall_ns = get_number(p, "captured_wall_ns");
	if (p != NULL)
		g->last_seq = get_number(p, "seq");
	TEXT(g->newest_id, p, "id");
	TEXT(g->consistency, p, "consistency");
	json_array_foreach(json_object_get(p, "marks"), i, mark)
	{
		char one[24];

		(void)ui_clean(one, sizeof(one),
			       json_is_string(mark) ? json_string_value(mark) : "");
		if (n + strlen(one) + 2 >= sizeof(g->marks))
			break;
		n += (size_t)snprintf(g->marks + n, sizeof(g->marks) - n, "%s%s", n > 0 ? "," : "",
				      one);
	}
}

static void take_group(struct ui_group *g, const json_t *o)
{
	const json_t *progress = json_object_get(o, "progress"),
		     *problem = json_object_get(o, "problem");

	get_name(&g->name, o, "name");
	TEXT(g->role, o, "role");
	TEXT(g->peer, o, "peer");
	TEXT(g->why, o, "why");
	TEXT(g->link, o, "link");
	g->epoch = get_u64(o, "epoch");
	g->source = json_is_array(json_object_get(o, "machines"));
	g->rpo_ns = get_number(o, "rpo_ns");
	g->interval_ns = get_number(o, "interval_ns");
	g->points_acked = get_number(o, "points_acked");
	g->last_seq = get_number(o, "last_acked_seq");
	g->bytes_shipped = get_number(o, "bytes_shipped");
	g->bytes_changed = get_number(o, "bytes_changed");
	g->rate_bytes_per_s = get_number(o, "rate_bytes_per_s");
	g->scan_done = get_number(progress, "done_bytes");
	g->scan_all = get_number(progress, "all_bytes");
	g->eta_s = get_number(progress, "eta_s");
	TEXT(g->problem, problem, "message");
	TEXT(g->problem_code, problem, "code");
	take_newest(g, json_object_get(o, "newest_point"));
}

static void take_run(struct ui_run *r, const json_t *o)
{
	get_name(&r->id, o, "id");
	get_name(&r->runbook, o, "runbook");
	TEXT(r->mode, o, "mode");
	TEXT(r->state, o, "state");
	TEXT(r->who, o, "who");
	r->began_wall_ns = get_u64(o, "began_wall_ns");
	r->elapsed_ns = get_u64(o, "elapsed_ns");
	r->rto_ns = get_u64(o, "rto_ns");
	r->steps = get_count(o, "steps");
	r->ended = get_count(o, "ended");
	r->running = get_count(o, "running");
	r->waiting = get_count(o, "waiting");
}

/*
 * TAKE_LIST: replace a list of the model by the objects of the array @json, at most @max.
 * The list's items are plain values, filled by @fill.
 */
#define TAKE_LIST(items, n, json, max, fill)                           \
	do {                                                           \
		const json_t *list_ = (json);                          \
		free(items);                                           \
		(n) = count_of(list_, max);                            \
		(items) = zeroed(n, sizeof(*(items)));                 \
		for (size_t i_ = 0; i_ < (n); i_++)                    \
			fill(&(items)[i_], json_array_get(list_, i_)); \
	} while (0)

static void take_status(struct ui_model *m, const json_t *o)
{
	const json_t *store = json_object_get(o, "store");

	get_name(&m->site, o, "site");
	TEXT(m->mode, o, "mode");
	TEXT(m->version, o, "version");
	TEXT(m->alarm, o, "alarm");
	m->enrolled = get_bool(o, "enrolled");
	m->read_only = get_bool(o, "read_only");
	m->uptime_ns = get_number(o, "uptime_ns");
	m->wall_ns = get_number(o, "wall_ns");
	m->has_store = json_is_object(store);
	m->suspect = get_bool(store, "suspect");
	m->store_bytes = get_number(store, "bytes");
	m->received_bytes = get_number(store, "bytes_received");
	m->connections = get_number(store, "connections");
	TAKE_LIST(m->group, m->groups, json_object_get(o, "groups"), 1000, take_group);
	TAKE_LIST(m->run, m->runs, json_object_get(o, "runs"), 200, take_run);
}

/* ---- the other lists ---- */

static void take_site(struct ui_site *s, const json_t *o)
{
	get_name(&s->name, o, "name");
	TEXT(s->id, o, "id");
	TEXT(s->address, o, "address");
	TEXT(s->link, o, "link");
	TEXT(s->problem, json_object_get(o, "problem"), "message");
	TEXT(s->inbound, o, "inbound");
	s->inbound_for_ns = get_number(o, "inbound_for_ns");
	s->self = get_bool(o, "self");
	s->enrolled = get_bool(o, "enrolled");
	s->cert_left_s = get_number(o, "certificate_left_s");
}

static void take_machine(struct ui_machine *x, const json_t *o)
{
	get_name(&x->name, o, "name");
	get_name(&x->group, o, "group");
	TEXT(x->driver, o, "driver");
	TEXT(x->state, o, "state");
	get_name(&x->run, o, "run");
	get_name(&x->domain, o, "domain");
	x->rpo_ns = get_number(o, "rpo_ns");
}

static void take_vm(struct ui_vm *v, const json_t *o)
{
	get_name(&v->name, o, "name");
	TEXT(v->state, o, "state");
}

static uint64_t *numbers(const json_t *list, size_t count)
{
	uint64_t *out = zeroed(count, sizeof(*out));

	for (size_t i = 0; i < count; i++)
		out[i] = number_of(json_array_get(list, i)).n;
	return out;
}

static void take_samples(struct ui_samples *s, const json_t *o)
{
	const json_t *rate = json_object_get(o, "shipped_bytes_per_s"),
		     *rpo = json_object_get(o, "rpo_ns");

	get_name(&s->group, o, "name");
	s->count = count_of(rate, 1000);
	s->rate = numbers(rate, s->count);
	s->rpo_ns = numbers(rpo, s->count);
}

static void drop_samples(struct ui_model *m)
{
	for (size_t i = 0; i < m->samples; i++) {
		free(m->sample[i].rate);
		free(m->sample[i].rpo_ns);
	}
	m->samples = 0;
}

static bool has_mark(const json_t *o, const char *name)
{
	size_t i;
	json_t *mark;

	json_array_foreach(json_object_get(o, "marks"), i, mark)
	{
		if (json_is_string(mark) && strcmp(json_string_value(mark), name) == 0)
			return true;
	}
	return false;
}

static void take_point(struct ui_point *p, const json_t *o)
{
	get_name(&p->id, o, "id");
	get_name(&p->group, o, "group");
	p->epoch = get_u64(o, "epoch");
	p->seq = get_u64(o, "seq");
	p->captured_wall_ns = get_u64(o, "captured_wall_ns");
	p->received_wall_ns = get_number(o, "received_wall_ns");
	p->stored_bytes = get_number(o, "stored_bytes");
	TEXT(p->consistency, o, "consistency");
	p->deep = has_mark(o, "deep-verified");
	p->verified = p->deep || has_mark(o, "verified");
	p->booted = has_mark(o, "booted");
	p->bad = has_mark(o, "bad") || has_mark(o, "damaged");
}

/* The API's order is oldest first; a person looks for the newest. */
static void take_points(struct ui_model *m, const json_t *o)
{
	TAKE_LIST(m->point, m->points, json_object_get(o, "points"), 1000, take_point);
	for (size_t i = 0; i < m->points / 2; i++) {
		struct ui_point swap = m->point[i];

		m->point[i] = m->point[m->points - 1 - i];
		m->point[m->points - 1 - i] = swap;
	}
}

static void take_volume(struct ui_volume *v, const json_t *o)
{
	get_name(&v->machine, o, "machine");
	get_name(&v->volume, o, "volume");
	TEXT(v->kind, o, "kind");
	v->size_bytes = get_u64(o, "size_bytes");
	v->layer_bytes = get_u64(o, "layer_bytes");
}

static void take_runbook(struct ui_runbook *r, const json_t *o)
{
	get_name(&r->name, o, "name");
	get_name(&r->path, o, "path");
	r->size_bytes = get_u64(o, "size_bytes");
	r->changed_wall_ns = get_u64(o, "changed_wall_ns");
}

static void take_check(struct ui_check *c, const json_t *o)
{
	TEXT(c->name, o, "check");
	TEXT(c->text, o, "text");
	c->ok = get_bool(o, "ok");
}

static void take_job(struct ui_job *j, const json_t *o)
{
	get_name(&j->id, o, "id");
	TEXT(j->what, o, "what");
	TEXT(j->state, o, "state");
	TEXT(j->error, json_object_get(o, "error"), "message");
	j->done_bytes = get_number(o, "done_bytes");
	j->all_bytes = get_number(o, "all_bytes");
	j->eta_s = get_number(o, "eta_s");
	j->damaged = get_number(json_object_get(o, "result"), "damaged");
}

/* ---- events: each answer continues the one before ---- */

static void take_event(struct ui_event *e, const json_t *o)
{
	e->n = get_u64(o, "n");
	e->wall_ns = get_u64(o, "wall_ns");
	(void)snprintf(e->key, sizeof(e->key), "%llu", (unsigned long long)e->n);
	TEXT(e->level, o, "level");
	TEXT(e->comp, o, "comp");
	TEXT(e->ev, o, "ev");
	TEXT(e->line, o, "line");
}

static void take_events(struct ui_model *m, const json_t *o)
{
	const json_t *list = json_object_get(o, "events");
	size_t n = count_of(list, EVENTS_MAX), drop;

	if (m->event == NULL)
		m->event = zeroed(EVENTS_MAX, sizeof(*m->event));
	drop = m->events + n > EVENTS_MAX ? m->events + n - EVENTS_MAX : 0;
	memmove(m->event, m->event + drop, (m->events - drop) * sizeof(*m->event));
	m->events -= drop;
	for (size_t i = 0; i < n; i++) {
		struct ui_event *e = &m->event[m->events];

		memset(e, 0, sizeof(*e));
		take_event(e, json_array_get(list, i));
		if (e->n <= m->events_seen)
			continue; /* seen already, or nonsense */
		m->events_seen = e->n;
		m->events++;
	}
}

/* ---- one run ---- */

static void take_boot(struct ui_step *s, const json_t *boot)
{
	s->booted = json_is_object(boot);
	s->point_seq = get_u64(boot, "seq");
	s->captured_wall_ns = get_u64(boot, "captured_wall_ns");
	s->rpo_bound_ns = get_number(boot, "rpo_bound_at_start_ns");
	TEXT(s->isolation, json_object_get(boot, "isolation"), "evidence");
}

static void take_step(struct ui_step *s, const json_t *o)
{
	get_name(&s->id, o, "id");
	get_name(&s->machine, o, "machine");
	TEXT(s->action, o, "action");
	TEXT(s->state, o, "state");
	TEXT(s->code, o, "code");
	TEXT(s->detail, o, "detail");
	TEXT(s->note, o, "note");
	TEXT(s->reason, o, "reason");
	s->attempt = get_count(o, "attempt");
	s->first_ns = get_u64(o, "first_ns");
	s->end_ns = get_u64(o, "end_ns");
	s->budget_ns = get_u64(o, "budget_ns");
	s->late = get_bool(o, "late");
	s->finally = get_bool(o, "finally");
	take_boot(s, json_object_get(o, "boot"));
}

static void take_detail(struct ui_model *m, const json_t *o)
{
	memset(&m->detail, 0, sizeof(m->detail));
	take_run(&m->detail, o);
	TEXT(m->detail_problem, o, "log_error");
	m->rto_achieved_ns = get_number(o, "rto_achieved_ns");
	TAKE_LIST(m->step, m->steps, json_object_get(o, "steps"), 512, take_step);
	/* only the list of runs has it as a number */
	m->detail.waiting = 0;
	for (size_t i = 0; i < m->steps; i++)
		m->detail.waiting += strcmp(m->step[i].state, "waiting") == 0 ? 1 : 0;
}

/* ---- one runbook, its plan ---- */

static void take_plan_step(struct ui_plan_step *s, const json_t *o)
{
	TEXT(s->id, o, "id");
	TEXT(s->action, o, "action");
	TEXT(s->what, o, "what");
	s->wave = get_count(o, "wave");
	s->start_ns = get_u64(o, "start_ns");
	s->expect_ns = get_u64(o, "expect_ns");
	s->worst_ns = get_u64(o, "worst_ns");
	s->critical = get_bool(o, "critical");
}

static void take_name(struct ui_name *n, const json_t *v)
{
	ui_name_set(n, json_string_value(v));
}

static void take_plan(struct ui_model *m, const json_t *o)
{
	get_name(&m->gives_way, o, "confirm");
	TEXT(m->plan_name, o, "runbook");
	m->plan_total_ns = get_u64(o, "total_ns");
	m->plan_rto_ns = get_u64(o, "rto_ns");
	m->plan_fits = get_bool(o, "fits_rto");
	TAKE_LIST(m->plan_group, m->plan_groups, json_object_get(o, "groups"), 1000, take_name);
	TAKE_LIST(m->plan_step, m->plan_steps, json_object_get(o, "steps"), 512, take_plan_step);
	drop_lines(&m->lint);
}

static void take_text(struct ui_model *m, const json_t *o)
{
	const char *text = raw(o, "text");

	get_name(&m->text_name, o, "name");
	free(m->text);
	m->text = strdup(text != NULL ? text : "");
	LB_ASSERT(m->text != NULL);
	ui_lines_set(&m->text_lines, m->text, false);
}

static void take_console(struct ui_model *m, const json_t *o)
{
	const char *text = raw(o, "text");

	get_name(&m->console_machine, o, "machine");
	TEXT(m->console_domain, o, "domain");
	ui_lines_set(&m->console, text != NULL ? text : "", true);
}

/* ---- all of it ---- */

static void take_part(struct ui_model *m, enum ui_part part, const json_t *o)
{
	switch (part) {
	case UI_PART_STATUS:
		take_status(m, o);
		break;
	case UI_PART_SITES:
		TAKE_LIST(m->site_list, m->sites, json_object_get(o, "sites"), 256, take_site);
		break;
	case UI_PART_MACHINES:
		TAKE_LIST(m->machine, m->machines, json_object_get(o, "machines"), 2000,
			  take_machine);
		break;
	case UI_PART_VMS:
		TAKE_LIST(m->vm, m->vms, json_object_get(o, "vms"), 2000, take_vm);
		break;
	case UI_PART_HISTORY:
		drop_samples(m);
		m->sample_every_ns = get_u64(o, "every_ns");
		TAKE_LIST(m->sample, m->samples, json_object_get(o, "groups"), 1000, take_samples);
		break;
	case UI_PART_POINTS:
		take_points(m, o);
		break;
	case UI_PART_POINT:
		get_name(&m->point_id, o, "id");
		TAKE_LIST(m->volume, m->volumes, json_object_get(o, "volumes"), 1000, take_volume);
		break;
	case UI_PART_RUNBOOKS:
		TAKE_LIST(m->runbook, m->runbooks, json_object_get(o, "runbooks"), 500,
			  take_runbook);
		break;
	case UI_PART_RUNBOOK:
		take_text(m, o);
		break;
	case UI_PART_PLAN:
		take_plan(m, o);
		break;
	case UI_PART_RUN:
		take_detail(m, o);
		break;
	case UI_PART_CONSOLE:
		take_console(m, o);
		break;
	case UI_PART_EVENTS:
		take_events(m, o);
		break;
	case UI_PART_DOCTOR:
		TAKE_LIST(m->check, m->checks, json_object_get(o, "checks"), 200, take_check);
		break;
	case UI_PART_JOBS:
		TAKE_LIST(m->job, m->jobs, json_object_get(o, "jobs"), 100, take_job);
		break;
	case UI_PARTS:
		break;
	}
}

/* What every answer about a part has: without it, it is an answer to something else, or of somebody
 * else, and would wipe out what is known. */
static bool is_about(enum ui_part part, const json_t *o)
{
	static const struct {
		const char *list, *text;
	} has[UI_PARTS] = {
		[UI_PART_STATUS] = {"groups", "mode"},   [UI_PART_SITES] = {"sites", NULL},
		[UI_PART_MACHINES] = {"machines", NULL}, [UI_PART_VMS] = {"vms", NULL},
		[UI_PART_HISTORY] = {"groups", NULL},    [UI_PART_POINTS] = {"points", NULL},
		[UI_PART_POINT] = {NULL, "id"},          [UI_PART_RUNBOOKS] = {"runbooks", NULL},
		[UI_PART_RUNBOOK] = {NULL, "text"},      [UI_PART_PLAN] = {"steps", NULL},
		[UI_PART_RUN] = {"steps", "state"},      [UI_PART_CONSOLE] = {NULL, "text"},
		[UI_PART_EVENTS] = {"events", NULL},     [UI_PART_DOCTOR] = {"checks", NULL},
		[UI_PART_JOBS] = {"jobs", NULL},
	};

	return json_is_object(o) &&
	       (has[part].list == NULL || json_is_array(json_object_get(o, has[part].list))) &&
	       (has[part].text == NULL || json_is_string(json_object_get(o, has[part].text)));
}

void ui_model_take(struct ui_model *m, enum ui_part part, const struct json_t *body,
		   uint64_t now_ns)
{
	if (!is_about(part, body)) {
		ui_model_miss(m, part, "the answer is not about what was asked");
		return;
	}
	take_part(m, part, body);
	m->part[part].loaded = true;
	m->part[part].at_ns = now_ns;
	m->part[part].error[0] = '\0';
}

void ui_model_miss(struct ui_model *m, enum ui_part part, const char *error)
{
	(void)ui_clean(m->part[part].error, sizeof(m->part[part].error), error);
}

void ui_model_forget(struct ui_model *m, enum ui_part part)
{
	json_t *nothing = json_object();

	LB_ASSERT(nothing != NULL);
	if (part != UI_PART_EVENTS)
		take_part(m, part, nothing);
	json_decref(nothing);
	m->part[part].loaded = false;
	m->part[part].error[0] = '\0';
}

void ui_model_fini(struct ui_model *m)
{
	drop_samples(m);
	free(m->sample);
	free(m->group);
	free(m->run);
	free(m->site_list);
	free(m->machine);
	free(m->vm);
	free(m->point);
	free(m->runbook);
	free(m->event);
	free(m->check);
	free(m->job);
	free(m->volume);
	free(m->step);
	free(m->text);
	free(m->plan_group);
	free(m->plan_step);
	drop_lines(&m->text_lines);
	drop_lines(&m->lint);
	drop_lines(&m->console);
}

const struct ui_group *ui_model_group(const struct ui_model *m, const char *name)
{
	for (size_t i = 0; i < m->groups; i++)
		if (strcmp(m->group[i].name.show, name) == 0)
			return &m->group[i];
	return NULL;
}

bool ui_model_age(const struct ui_model *m, enum ui_part part, uint64_t now_ns, uint64_t *age_ns)
{
	if (!m->part[part].loaded)
		return false;
	*age_ns = now_ns > m->part[part].at_ns ? now_ns - m->part[part].at_ns : 0;
	return true;
}

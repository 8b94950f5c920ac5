/*
 * The paths of the control API (docs/control-api.md). One table; each row says whether the verb is
 * dangerous, that is whether the request must carry the typed name of the site it acts on.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agent_api_int.h"
#include "agent_int.h"
#include "api_parse_int.h"
#include "base/env.h"
#include "base/log.h"
#include "base/loop.h"
#include "runbooks/lang.h"
#include "runbooks/plan.h"

#define CONFIRM_BYTES ((size_t)8 * SA_NAME_BYTES)

const char *sa_call_text(const struct call *c, const char *key)
{
	const char *s = json_string_value(json_object_get(c->api->body, key));

	return s != NULL ? s : json_string_value(json_object_get(c->api->query, key));
}

void sa_call_fail(struct call *c, int code, const char *msg)
{
	struct lb_err err = {0};

	(void)lb_err_set(&err, (enum lb_code)code, 0, "%s", msg);
	sa_api_fail(c->rq, &err, NULL);
}

static void answer_or_fail(struct call *c, json_t *o, const char *msg)
{
	if (o != NULL)
		sa_api_answer(c->rq, o);
	else
		sa_call_fail(c, LB_ENOTFOUND, msg);
}

/* ---- reading ---- */

static void get_status(struct call *c)
{
	json_t *o = sa_status_json(c->agent);

	(void)json_object_set_new(o, "read_only", json_boolean(c->api->read_only));
	sa_api_answer(c->rq, o);
}

static void get_sites(struct call *c)
{
	sa_api_answer(c->rq, sa_sites_json(c->agent));
}

static void get_groups(struct call *c)
{
	sa_api_answer(c->rq, sa_groups_json(c->agent));
}

static void get_machines(struct call *c)
{
	sa_api_answer(c->rq, sa_machines_json(c->agent));
}

static void get_history(struct call *c)
{
	sa_api_answer(c->rq, sa_history_json(c->agent->history));
}

static void get_runbooks(struct call *c)
{
	sa_api_answer(c->rq, sa_books_json(c->agent));
}

static void get_runbook(struct call *c)
{
	struct lb_err err = {0};
	json_t *o = NULL;

	if (sa_book_read(c->agent, c->api->part[1], &o, &err) != 0)
		sa_api_fail(c->rq, &err, "`lifeboat runbook list` shows what there is");
	else
		sa_api_answer(c->rq, o);
}

static void get_doctor(struct call *c)
{
	sa_api_answer(c->rq, sa_doctor_json(c->agent));
}

/* The number that the query gives as @key; false: it is none, answered. */
static bool query_number(struct call *c, const char *key, uint64_t *out)
{
	const char *text = sa_call_text(c, key);
	size_t digits = text != NULL ? strspn(text, "0123456789") : 0;
	struct lb_err err = {0};

	if (text == NULL)
		return true;
	if (digits > 0 && digits <= 18 && text[digits] == '\0') {
		*out = strtoull(text, NULL, 10);
		return true;
	}
	(void)lb_err_set(&err, LB_EINPUT, 0, "%s: \"%.40s\" is not a number", key, text);
	sa_api_fail(c->rq, &err, NULL);
	return false;
}

static void get_points(struct call *c)
{
	const char *name = sa_call_text(c, "group");
	struct sa_role_record rec;
	uint64_t n = 100;

	if (!query_number(c, "max", &n))
		return;
	if (name != NULL && !sa_role_by_name(c->agent->roles, name, &rec)) {
		sa_call_fail(c, LB_ENOTFOUND, "no group of that name at this site");
		return;
	}
	sa_api_answer(c->rq, sa_points_json(c->agent, name != NULL ? &rec.group : NULL,
					    n == 0 || n > 10000 ? 10000 : (unsigned)n));
}

/* The point a path names; answers the error itself. */
bool sa_call_point(struct call *c, const char *text, struct rep_point *out)
{
	const char *name = sa_call_text(c, "group");
	struct sa_role_record rec;
	struct lb_err err = {0};

	if (name != NULL && !sa_role_by_name(c->agent->roles, name, &rec)) {
		sa_call_fail(c, LB_ENOTFOUND, "no group of that name at this site");
		return false;
	}
	if (sa_point_resolve(c->agent, text, name != NULL ? &rec.group : NULL, out, &err) == 0)
		return true;
	sa_api_fail(c->rq, &err, "`lifeboat point list` shows what there is");
	return false;
}

static void get_point(struct call *c)
{
	struct rep_point p;

	if (sa_call_point(c, c->api->part[1], &p))
		answer_or_fail(c, sa_point_json(c->agent, &p.manifest), "no such recovery point");
}

static void get_jobs(struct call *c)
{
	sa_api_answer(c->rq, sa_jobs_json(c->agent->jobs));
}

static void get_job(struct call *c)
{
	answer_or_fail(c, sa_job_json(c->agent->jobs, c->api->part[1]), "no such job");
}

static void get_runs(struct call *c)
{
	sa_api_answer(c->rq, sa_runs_json(c->agent->runs));
}

static void get_run(struct call *c)
{
	answer_or_fail(c, sa_run_json(c->agent->runs, c->api->part[1]),
		       "no run begins with that id");
}

static void get_console(struct call *c)
{
	const char *machine = sa_call_text(c, "machine");

	answer_or_fail(c,
		       sa_runs_console_json(c->agent->runs, c->api->part[1],
					    machine != NULL ? machine : ""),
		       "that run booted no machine of that name (give ?machine=NAME)");
}

static int add_event(void *arg, const struct sa_event *e)
{
	json_t *o = json_pack("{s:I, s:I, s:s, s:s, s:s, s:s}", "n", (json_int_t)e->n, "wall_ns",
			      (json_int_t)e->wall_ns, "level", e->level, "comp", e->comp, "ev",
			      e->ev, "line", e->line);

	return o == NULL ? 0 : json_array_append_new(arg, o);
}

static void get_events(struct call *c)
{
	json_t *list;
	struct lb_err err = {0};
	uint64_t after = 0;

	if (!query_number(c, "after", &after))
		return;
	list = json_array();
	if (sa_catalog_events(c->agent->catalog, after, 500, add_event, list, &err) != 0) {
		json_decref(list);
		sa_api_fail(c->rq, &err, NULL);
		return;
	}
	sa_api_answer(c->rq, json_pack("{s:o}", "events", list));
}

static void get_catalog_dump(struct call *c)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	struct lb_err err = {0};
	int rc = f == NULL ? lb_err_set(&err, LB_ENOMEM, 0, "catalog dump")
			   : sa_catalog_dump(c->agent->catalog, f, &err);

	if (f != NULL && fclose(f) != 0 && rc == 0)
		rc = lb_err_set(&err, LB_ENOMEM, 0, "catalog dump");
	if (rc != 0)
		sa_api_fail(c->rq, &err, NULL);
	else
		sa_api_answer(c->rq, json_pack("{s:s}", "dump", text));
	free(text);
}

static void post_job_cancel(struct call *c)
{
	if (sa_job_cancel(c->agent->jobs, c->api->part[1]))
		sa_api_answer(c->rq, json_pack("{s:b}", "cancelled", 1));
	else
		sa_call_fail(c, LB_ENOTFOUND, "no such job");
}

/* ---- runbooks and runs ---- */

static struct rb_runbook *parse_runbook(struct call *c)
{
	const char *text = sa_call_text(c, "text"), *name = sa_call_text(c, "name");
	struct rb_runbook *rb = NULL;
	struct lb_err err = {0};
	char *problems = NULL;

	if (text == NULL) {
		sa_call_fail(c, LB_EINPUT, "\"text\" (the runbook) is missing");
		return NULL;
	}
	if (rb_runbook_parse(&rb, name != NULL ? name : "runbook", text, strlen(text), &problems,
			     &err) != 0)
		sa_api_fail(c->rq, &err, problems);
	free(problems);
	return rb;
}

static void post_lint(struct call *c)
{
	struct rb_runbook *rb = parse_runbook(c);

	if (rb != NULL)
		sa_api_answer(c->rq, json_pack("{s:b, s:s, s:i}", "ok", 1, "runbook", rb->name,
					       "steps", (int)rb->step_count));
	rb_runbook_destroy(rb);
}

/* As bits. A run in a mode that @rb does not have is refused in the end: until then all count. */
static unsigned modes_of(const struct rb_runbook *rb, const char *mode)
{
	enum rb_mode m = RB_DRILL;

	return rb_mode_parse(&m, mode, NULL) == 0 && (rb->modes & 1u << m) != 0 ? 1u << m : ~0u;
}

static bool fences(const struct rb_step *s, unsigned modes)
{
	return s->action == RB_FENCE && (s->modes & modes) != 0;
}

static bool is_fenced_before(const struct rb_runbook *rb, size_t step, unsigned modes)
{
	for (size_t i = 0; i < step; i++)
		if (fences(&rb->steps[i], modes) &&
		    strcmp(rb->steps[i].site, rb->steps[step].site) == 0)
			return true;
	return false;
}

/* What must be typed for a run in one of @modes: the sites that it fences, each once, in the order
 * of the text and with commas between; else this site. false: they are too many for that. */
static bool gives_way(const struct call *c, const struct rb_runbook *rb, unsigned modes,
		      char out[CONFIRM_BYTES])
{
	size_t n = 0;

	for (size_t i = 0; i < rb->step_count; i++) {
		if (!fences(&rb->steps[i], modes) || is_fenced_before(rb, i, modes))
			continue;
		n += (size_t)snprintf(out + n, CONFIRM_BYTES - n, "%s%s", n > 0 ? "," : "",
				      rb->steps[i].site);
		if (n >= CONFIRM_BYTES)
			return false;
	}
	if (n == 0)
		(void)snprintf(out, CONFIRM_BYTES, "%s", c->agent->cfg->site);
	return true;
}

static json_t *plan_step_json(const struct rb_step *st, const struct rb_plan_step *s)
{
	const char *what = st->machine[0] != '\0' ? st->machine
			   : st->site[0] != '\0'  ? st->site
			   : st->run_count > 0    ? st->run[0]
						  : "";

	return json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:b}", "id", st->id, "action",
			 rb_action_name(st->action), "what", what, "wave", (int)s->wave, "start_ns",
			 (json_int_t)s->start_ns, "expect_ns", (json_int_t)s->expect_ns, "worst_ns",
			 (json_int_t)s->worst_ns, "critical", (int)s->critical);
}

/* Names of the groups here whose machines @rb boots, each once. */
static json_t *plan_groups(struct call *c, const struct rb_runbook *rb)
{
	json_t *set = json_object(), *list = json_array();
	struct sa_role_record rec;
	const char *name;
	struct lb_id group;
	json_t *v;

	for (size_t i = 0; c->agent->store != NULL && i < rb->step_count; i++)
		if (rb->steps[i].action == RB_BOOT &&
		    sa_group_of_machine(c->agent, rb->steps[i].machine, &group, NULL) == 0 &&
		    sa_role_get(c->agent->roles, &group, &rec))
			(void)json_object_set_new(set, rec.name, json_true());
	json_object_foreach(set, name, v)
	{
		(void)json_array_append_new(list, json_string(name));
	}
	json_decref(set);
	return list;
}

static json_t *plan_json(struct call *c, const struct rb_runbook *rb, const struct rb_plan *plan)
{
	char *text = rb_plan_text(plan, rb), confirm[CONFIRM_BYTES];
	json_t *steps = json_array(), *o;

	if (!gives_way(c, rb, 1u << plan->mode, confirm))
		confirm[0] = '\0'; /* nothing that one could type */
	for (size_t i = 0; i < plan->step_count; i++)
		(void)json_array_append_new(
			steps, plan_step_json(&rb->steps[plan->steps[i].step], &plan->steps[i]));
	o = json_pack("{s:s, s:s, s:s, s:I, s:I, s:b, s:s, s:o, s:o}", "runbook", rb->name, "mode",
		      rb_mode_name(plan->mode), "confirm", confirm, "rto_ns",
		      (json_int_t)plan->rto_ns, "total_ns", (json_int_t)plan->total_ns, "fits_rto",
		      (int)plan->fits_rto, "text", text != NULL ? text : "", "groups",
		      plan_groups(c, rb), "steps", steps);
	free(text);
	return o;
}

static void post_plan(struct call *c)
{
	struct rb_runbook *rb = parse_runbook(c);
	const char *mode_text = sa_call_text(c, "mode");
	struct rb_plan *plan = NULL;
	struct lb_err err = {0};
	enum rb_mode mode = RB_FAILOVER;

	if (rb == NULL)
		return;
	if ((mode_text != NULL && rb_mode_parse(&mode, mode_text, &err) != 0) ||
	    rb_plan_create(&plan, rb, mode, NULL, &err) != 0)
		sa_api_fail(c->rq, &err, NULL);
	else
		sa_api_answer(c->rq, plan_json(c, rb, plan));
	rb_plan_destroy(plan);
	rb_runbook_destroy(rb);
}

/* A failover acts on the site it takes over from: that name must be typed. */
static bool confirmed(struct call *c, const struct rb_runbook *rb, const char *mode)
{
	const char *typed = sa_call_text(c, "confirm");
	char site[CONFIRM_BYTES], hint[CONFIRM_BYTES + 80];
	struct lb_err err = {0};

	if (strcmp(mode, "drill") == 0)
		return true;
	if (!gives_way(c, rb, modes_of(rb, mode), site)) {
		sa_call_fail(c, LB_EINPUT, "it fences more sites than can be confirmed at once");
		return false;
	}
	if (typed != NULL && strcmp(typed, site) == 0)
		return true;
	(void)lb_err_set(&err, LB_EDENIED, 0, "%s of %s: the typed site name is %s", mode, site,
			 typed == NULL ? "missing" : "another one");
	(void)snprintf(hint, sizeof(hint), "type the name of the site that gives way: --confirm %s",
		       site);
	sa_api_fail(c->rq, &err, hint);
	return false;
}

static void post_runs(struct call *c)
{
	const char *mode = sa_call_text(c, "mode"), *text = sa_call_text(c, "text"),
		   *name = sa_call_text(c, "name");
	struct rb_runbook *rb;
	struct lb_err err = {0};
	char who[32], id[LB_ID_TEXT];
	struct sa_run_request rq = {
		.name = name != NULL ? name : "runbook",
		.text = text,
		.mode = mode,
		.who = who,
		.unattended = json_is_true(json_object_get(c->api->body, "unattended"))};

	if (mode == NULL) {
		sa_call_fail(c, LB_EINPUT, "\"mode\" is missing: drill, failover or planned");
		return;
	}
	rb = parse_runbook(c);
	if (rb == NULL)
		return;
	(void)snprintf(who, sizeof(who), "uid:%u", (unsigned)c->api->uid);
	rq.text_bytes = strlen(text);
	if (confirmed(c, rb, mode)) {
		if (sa_run_start(c->agent->runs, &rq, id, &err) != 0)
			sa_api_fail(c->rq, &err, NULL);
		else
			sa_api_answer(c->rq, json_pack("{s:s}", "run", id));
	}
	rb_runbook_destroy(rb);
}

/* Skipping a step and cancelling a run can leave a site half failed over; going on without a fence,
 * two sites active. */
static bool is_dangerous(const struct call *c, const char *command)
{
	return strcmp(command, "skip") == 0 || strcmp(command, "cancel") == 0 ||
	       (strcmp(command, "continue") == 0 &&
		sa_run_fence_waits(c->agent->runs, c->api->part[1]));
}

static void post_run_command(struct call *c)
{
	const char *command = sa_call_text(c, "command"), *typed = sa_call_text(c, "confirm");
	struct lb_err err = {0};
	char who[32];

	if (command == NULL) {
		sa_call_fail(c, LB_EINPUT, "\"command\" is missing");
		return;
	}
	if (is_dangerous(c, command) &&
	    (typed == NULL || strcmp(typed, c->agent->cfg->site) != 0)) {
		(void)lb_err_set(&err, LB_EDENIED, 0, "%s needs the typed name of this site",
				 command);
		sa_api_fail(c->rq, &err, "--confirm SITE, with the name of the site the run is at");
		return;
	}
	(void)snprintf(who, sizeof(who), "uid:%u", (unsigned)c->api->uid);
	if (sa_run_command(c->agent->runs, c->api->part[1], command, sa_call_text(c, "step"),
			   sa_call_text(c, "reason"), who, &err) != 0)
		sa_api_fail(c->rq, &err,
			    err.code == LB_ESUSPECT ? "make room, then start lifeboatd again: the "
						      "run goes on by itself"
						    : NULL);
	else
		answer_or_fail(c, sa_run_json(c->agent->runs, c->api->part[1]), "run");
}

/* ---- sites ---- */

static void post_site_init(struct call *c)
{
	struct lb_err err = {0};
	int rc = sa_ident_init(c->agent->ident, &err);

	if (rc == 0)
		rc = sa_agent_enrolled(c->agent, &err);
	if (rc != 0)
		sa_api_fail(c->rq, &err, NULL);
	else
		sa_api_answer(c->rq, sa_sites_json(c->agent));
}

static void post_site_token(struct call *c)
{
	const char *name = sa_call_text(c, "name");
	const json_t *ttl = json_object_get(c->api->body, "ttl_ns");
	bool renew = json_is_true(json_object_get(c->api->body, "renew"));
	uint64_t ttl_ns = UINT64_C(900000000000);
	struct lb_err err = {0};
	char token[256];
	int rc;

	if (name == NULL) {
		sa_call_fail(c, LB_EINPUT, "\"name\" (of the site that will join) is missing");
		return;
	}
	if (json_is_integer(ttl))
		ttl_ns = (uint64_t)json_integer_value(ttl);
	rc = renew ? sa_enrol_token_renew(c->agent->enrol, name, ttl_ns, token, sizeof(token), &err)
		   : sa_enrol_token(c->agent->enrol, name, ttl_ns, token, sizeof(token), &err);
	if (rc != 0)
		sa_api_fail(c->rq, &err,
			    rc == LB_EEXIST ? "--renew makes a token for another certificate of it"
					    : NULL);
	else
		sa_api_answer(c->rq, json_pack("{s:s}", "token", token));
}

/* Its name must be typed: what it protects here gets no more points. */
static bool may_remove(struct call *c, const char *name, const struct sa_peer *p)
{
	const char *typed = sa_call_text(c, "confirm"), *hint = NULL;
	const struct sa_agent *a = c->agent;
	struct lb_err err = {0};
	char type[160];

	if (p == NULL)
		(void)lb_err_set(&err, LB_ENOTFOUND, 0, "no site %.64s is enrolled", name);
	for (size_t i = 0; i < a->groups && err.code == 0; i++)
		if (strcmp(a->group[i].cfg->peer, name) == 0) {
			(void)lb_err_set(&err, LB_EDENIED, 0, "group %s is protected to site %s",
					 a->group[i].cfg->name, name);
			hint = "take the group out of the configuration first";
		}
	if (err.code == 0 && (typed == NULL || strcmp(typed, name) != 0)) {
		(void)lb_err_set(&err, LB_EDENIED, 0, "remove site %s: the typed site name is %s",
				 name, typed == NULL ? "missing" : "another one");
		(void)snprintf(type, sizeof(type), "type its name: --confirm %.64s", name);
		hint = type;
	}
	if (err.code != 0)
		sa_api_fail(c->rq, &err, hint);
	return err.code == 0;
}

static void post_site_remove(struct call *c)
{
	const char *name = sa_call_text(c, "name");
	struct sa_agent *a = c->agent;
	const struct sa_peer *p;
	struct lb_err err = {0}, why;

	if (name == NULL) {
		sa_call_fail(c, LB_EINPUT, "\"name\" (of the site to remove) is missing");
		return;
	}
	p = sa_ident_ready(a->ident) ? sa_ident_peer_by_name(a->ident, name) : NULL;
	if (!may_remove(c, name, p))
		return;
	if (sa_ident_peer_retire(a->ident, name, &err) != 0) {
		sa_api_fail(c->rq, &err, NULL);
		return;
	}
	(void)lb_err_set(&why, LB_EDENIED, 0, "site %s was removed", name);
	if (a->target != NULL)
		rep_target_drop(a->target, &p->site, &why);
	lb_log(LB_LOG_WARN, "enrol", "peer_removed", "site=%s", name, "uid=%u",
	       (unsigned)c->api->uid, NULL);
	sa_api_answer(c->rq, sa_sites_json(a));
}

struct sa_join {
	struct call call;
	bool renew;
	char token[256];
	int rc;
	struct lb_err err;
};

static void join_work(void *arg)
{
	struct sa_join *j = arg;

	struct sa_agent *a = j->call.agent;

	j->rc = j->renew ? sa_enrol_renew(a->ident, j->token, &j->err)
			 : sa_enrol_join(a->ident, j->token, &a->cfg->listen, &j->err);
}

static void join_done(void *arg)
{
	struct sa_join *j = arg;
	struct sa_agent *a = j->call.agent;

	if (j->rc == 0)
		j->rc = j->renew ? sa_agent_renewed(a, &j->err) : sa_agent_enrolled(a, &j->err);
	if (j->rc != 0)
		sa_api_fail(j->call.rq, &j->err, NULL);
	else
		sa_api_answer(j->call.rq, sa_sites_json(a));
	sa_join_drop(a);
}

void sa_join_drop(struct sa_agent *a)
{
	if (a->join != NULL)
		explicit_bzero(a->join->token, sizeof(a->join->token));
	free(a->join);
	a->join = NULL;
}

static void ask_ca(struct call *c, const char *token, bool renew)
{
	struct sa_join *j;

	if (token == NULL || strlen(token) >= sizeof(j->token)) {
		sa_call_fail(c, LB_EINPUT, "\"token\" is missing or too long");
		return;
	}
	if (c->agent->join != NULL) {
		sa_call_fail(c, LB_EBUSY, "this site is joining already");
		return;
	}
	j = calloc(1, sizeof(*j));
	if (j == NULL) {
		sa_call_fail(c, LB_ENOMEM, "join");
		return;
	}
	j->call = (struct call){.agent = c->agent, .rq = c->rq}; /* api is the request's */
	j->renew = renew;
	memcpy(j->token, token, strlen(token) + 1);
	c->agent->join = j;
	lb_pool_submit(c->agent->pool, join_work, join_done, j);
}

static void post_site_join(struct call *c)
{
	ask_ca(c, sa_call_text(c, "token"), false);
}

static void post_site_renew(struct call *c)
{
	const char *token = sa_call_text(c, "token");
	struct sa_agent *a = c->agent;
	struct lb_err err = {0};
	int rc;

	if (token != NULL) {
		ask_ca(c, token, true);
		return;
	}
	rc = sa_ident_renew(a->ident, &err);
	if (rc == 0)
		rc = sa_agent_renewed(a, &err);
	if (rc != 0)
		sa_api_fail(c->rq, &err,
			    rc == LB_EUNSUPPORTED
				    ? "there: lifeboat site token NAME --renew > token; "
				      "here: lifeboat site renew token"
				    : NULL);
	else
		sa_api_answer(c->rq, sa_sites_json(a));
}

static void post_group_cut(struct call *c)
{
	struct sa_protected *g = sa_protect_find(c->agent, c->api->part[1]);

	if (g == NULL || !g->added) {
		sa_call_fail(c, LB_ENOTFOUND, "no group of that name is protected here");
		return;
	}
	rep_source_cut_now(g->engine, &g->id);
	sa_api_answer(c->rq, json_pack("{s:s}", "group", g->cfg->name));
}

/* ---- the table ---- */

static const struct path {
	const char *method;
	const char *pattern; /* parts; "*" is any one */
	void (*fn)(struct call *c);
} paths[] = {
	{"GET", "status", get_status},
	{"GET", "sites", get_sites},
	{"GET", "groups", get_groups},
	{"GET", "machines", get_machines},
	{"GET", "history", get_history},
	{"GET", "points", get_points},
	{"GET", "points/*", get_point},
	{"GET", "jobs", get_jobs},
	{"GET", "jobs/*", get_job},
	{"GET", "runbooks", get_runbooks},
	{"GET", "runbooks/*", get_runbook},
	{"GET", "runs", get_runs},
	{"GET", "runs/*", get_run},
	{"GET", "runs/*/console", get_console},
	{"GET", "cpu", sa_get_cpu},
	{"GET", "vms", sa_get_vms},
	{"GET", "vms/*", sa_get_vm},
	{"GET", "events", get_events},
	{"GET", "doctor", get_doctor},
	{"GET", "catalog/dump", get_catalog_dump},
	{"POST", "site/init", post_site_init},
	{"POST", "site/token", post_site_token},
	{"POST", "site/join", post_site_join},
	{"POST", "site/renew", post_site_renew},
	{"POST", "site/remove", post_site_remove},
	{"POST", "groups/*/cut", post_group_cut},
	{"POST", "points/*/verify", sa_post_point_verify},
	{"POST", "points/*/export", sa_post_point_export},
	{"POST", "verify", sa_post_verify},
	{"POST", "catalog/rebuild", sa_post_catalog_rebuild},
	{"POST", "jobs/*/cancel", post_job_cancel},
	{"POST", "runbooks/lint", post_lint},
	{"POST", "runbooks/plan", post_plan},
	{"POST", "vms/*/command", sa_post_vm_command},
	{"POST", "runs", post_runs},
	{"POST", "runs/*/command", post_run_command},
};

/* What a body may say is of one type each: an option of another one must not be taken for absent.
 */
static const struct {
	const char *key;
	json_type type;
	const char *is;
} keys[] = {
	{"name", JSON_STRING, "text"},     {"token", JSON_STRING, "text"},
	{"confirm", JSON_STRING, "text"},  {"text", JSON_STRING, "text"},
	{"mode", JSON_STRING, "text"},     {"path", JSON_STRING, "text"},
	{"format", JSON_STRING, "text"},   {"machine", JSON_STRING, "text"},
	{"volume", JSON_STRING, "text"},   {"command", JSON_STRING, "text"},
	{"step", JSON_STRING, "text"},     {"reason", JSON_STRING, "text"},
	{"group", JSON_STRING, "text"},    {"ttl_ns", JSON_INTEGER, "an integer"},
	{"deep", JSON_TRUE, "a boolean"},  {"unattended", JSON_TRUE, "a boolean"},
	{"renew", JSON_TRUE, "a boolean"},
};

static bool types_fit(struct call *c)
{
	struct lb_err err = {0};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		const json_t *v = json_object_get(c->api->body, keys[i].key);

		if (v == NULL || json_is_null(v) || json_typeof(v) == keys[i].type ||
		    (keys[i].type == JSON_TRUE && json_is_false(v)))
			continue;
		(void)lb_err_set(&err, LB_EINPUT, 0, "\"%s\" must be %s", keys[i].key, keys[i].is);
		sa_api_fail(c->rq, &err, NULL);
		return false;
	}
	return true;
}

void sa_agent_on_api(void *arg, struct sa_api_request *rq, const struct sa_api_call *api)
{
	struct call c = {.agent = arg, .rq = rq, .api = api};

	if (!types_fit(&c))
		return;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (strcmp(paths[i].method, api->method) == 0 &&
		    sa_api_matches(paths[i].pattern, api->part)) {
			paths[i].fn(&c);
			return;
		}
	sa_call_fail(&c, LB_ENOTFOUND, "no such path; docs/control-api.md lists them");
}

/* POSTs that change nothing: questions too long for a URL. */
bool sa_agent_api_looks(const char *const *part)
{
	return sa_api_matches("runbooks/lint", part) || sa_api_matches("runbooks/plan", part);
}

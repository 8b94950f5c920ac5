/*
 * The paths of the control API (docs/control-api.md). One table; each row says whether the verb is
 * dangerous, that is whether the request must carry the typed name of the site it acts on.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agent_int.h"
#include "api_parse_int.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/loop.h"
#include "imaging/dev.h"
#include "replicator/export.h"
#include "replicator/view.h"
#include "runbooks/lang.h"
#include "runbooks/plan.h"

struct call {
	struct sa_agent *agent;
	struct sa_api_request *rq;
	const struct sa_api_call *api;
};

static const char *text_of(const struct call *c, const char *key)
{
	const char *s = json_string_value(json_object_get(c->api->body, key));

	return s != NULL ? s : json_string_value(json_object_get(c->api->query, key));
}

static void fail(struct call *c, int code, const char *msg)
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
		fail(c, LB_ENOTFOUND, msg);
}

/* ---- reading ---- */

static void get_status(struct call *c)
{
	sa_api_answer(c->rq, sa_status_json(c->agent));
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

static void get_doctor(struct call *c)
{
	sa_api_answer(c->rq, sa_doctor_json(c->agent));
}

static void get_points(struct call *c)
{
	const char *name = text_of(c, "group"), *max = text_of(c, "max");
	unsigned long n = max != NULL ? strtoul(max, NULL, 10) : 100;
	struct sa_role_record rec;

	if (name != NULL && !sa_role_by_name(c->agent->roles, name, &rec)) {
		fail(c, LB_ENOTFOUND, "no group of that name at this site");
		return;
	}
	sa_api_answer(c->rq, sa_points_json(c->agent, name != NULL ? &rec.group : NULL,
					    n == 0 || n > 10000 ? 10000 : (unsigned)n));
}

/* The point a path names; answers the error itself. */
static bool resolve(struct call *c, const char *text, struct rep_point *out)
{
	const char *name = text_of(c, "group");
	struct sa_role_record rec;
	struct lb_err err = {0};

	if (name != NULL && !sa_role_by_name(c->agent->roles, name, &rec)) {
		fail(c, LB_ENOTFOUND, "no group of that name at this site");
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

	if (resolve(c, c->api->part[1], &p))
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
	const char *machine = text_of(c, "machine");

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
	const char *after = text_of(c, "after");
	json_t *list = json_array();
	struct lb_err err = {0};

	if (sa_catalog_events(c->agent->catalog, after != NULL ? strtoull(after, NULL, 10) : 0, 500,
			      add_event, list, &err) != 0) {
		json_decref(list);
		sa_api_fail(c->rq, &err, NULL);
		return;
	}
	sa_api_answer(c->rq, json_pack("{s:o}", "events", list));
}

/* ---- jobs ---- */

struct work {
	struct sa_agent *agent;
	struct sa_job *job;
	struct lb_hash point;
	bool one_point, deep;
	char group[SA_NAME_BYTES], machine[SA_NAME_BYTES], volume[SA_NAME_BYTES];
	char path[SA_PATH_BYTES];
	json_t *damage;
};

static void started(struct call *c, int rc, const char *id, struct lb_err *err)
{
	if (rc != 0)
		sa_api_fail(c->rq, err, NULL);
	else
		sa_api_answer(c->rq, json_pack("{s:s}", "job", id));
}

static void on_damage(void *arg, const struct rep_damage *d)
{
	struct work *w = arg;

	if (json_array_size(w->damage) < 1000)
		(void)json_array_append_new(w->damage, json_pack("{s:s, s:I, s:I}", "what", d->what,
								 "segment", (json_int_t)d->segment,
								 "offset", (json_int_t)d->offset));
}

static void on_scrubbed(void *arg, uint64_t done, uint64_t all)
{
	struct work *w = arg;

	sa_job_progress(w->job, done, all);
}

static int work_key_of(void *arg, const struct lb_id *site, struct lb_pubkey *out)
{
	struct work *w = arg;
	const struct sa_peer *p = sa_ident_peer_by_site(w->agent->ident, site);

	if (p == NULL)
		return LB_ENOTFOUND;
	*out = p->key;
	return 0;
}

static int work_dek_of(void *arg, const struct lb_id *key_id, struct lb_key *out)
{
	struct work *w = arg;

	return sa_keyring_by_id(w->agent->keyring, key_id, out);
}

static int verify(struct sa_job *job, void *arg, json_t **result, struct lb_err *err)
{
	struct work *w = arg;
	struct sa_agent *a = w->agent;
	struct rep_scrub_stats st = {0};
	struct rep_scrub_opts o = {
		.on_damage = on_damage,
		.progress = on_scrubbed,
		.key_of = work_key_of,
		.dek_of = w->deep ? work_dek_of : NULL,
		.arg = w,
		.only = w->one_point ? &w->point : NULL,
	};
	int rc;

	w->job = job;
	w->damage = json_array();
	rc = rep_store_scrub(a->store, &o, &st, err);
	if (w->one_point)
		(void)sa_catalog_mark(a->catalog, &w->point,
				      rc != 0   ? SA_MARK_BAD
				      : w->deep ? SA_MARK_DEEP_VERIFIED
						: SA_MARK_VERIFIED,
				      a->env->wall_ns(a->env), rc != 0 ? err->msg : "", NULL);
	*result =
		json_pack("{s:I, s:I, s:I, s:I, s:b, s:O}", "records", (json_int_t)st.records,
			  "bytes", (json_int_t)st.bytes, "points", (json_int_t)st.points, "damaged",
			  (json_int_t)st.damaged, "deep", w->deep, "damage", w->damage);
	return rc;
}

static void work_free(void *arg)
{
	struct work *w = arg;

	json_decref(w->damage);
	free(w);
}

static struct work *work_new(struct call *c)
{
	struct work *w = NULL;

	if (c->agent->store == NULL)
		fail(c, LB_ENOTFOUND, "this site keeps no recovery points");
	else if ((w = calloc(1, sizeof(*w))) == NULL)
		fail(c, LB_ENOMEM, "job");
	else
		w->agent = c->agent;
	return w;
}

static void start_verify(struct call *c, const struct rep_point *p)
{
	struct work *w = work_new(c);
	struct lb_err err = {0};
	const char *id = NULL;
	int rc;

	if (w == NULL)
		return;
	w->deep = json_is_true(json_object_get(c->api->body, "deep"));
	w->one_point = p != NULL;
	if (p != NULL)
		w->point = p->manifest;
	rc = sa_job_start(c->agent->jobs, p != NULL ? "verify point" : "verify store", verify, w,
			  work_free, &id, &err);
	if (rc != 0)
		work_free(w);
	started(c, rc, id, &err);
}

static void post_verify(struct call *c)
{
	start_verify(c, NULL);
}

static void post_point_verify(struct call *c)
{
	struct rep_point p;

	if (resolve(c, c->api->part[1], &p))
		start_verify(c, &p);
}

static void on_exported(void *arg, uint64_t done, uint64_t all)
{
	struct work *w = arg;

	sa_job_progress(w->job, done, all);
}

/* The volume to export: by machine and volume name, or the only one. */
static int find_volume(const struct work *w, struct lb_id *out, struct lb_err *err)
{
	struct rep_manifest *m = malloc(sizeof(*m));
	struct lb_buf *bytes = NULL;
	unsigned hits = 0;
	int rc = m == NULL ? lb_err_set(err, LB_ENOMEM, 0, "manifest") : 0;

	if (rc == 0)
		rc = rep_store_read_manifest(w->agent->store, &w->point, &bytes, err);
	if (rc == 0)
		rc = rep_manifest_decode(m, bytes->p, bytes->len, err);
	for (uint32_t i = 0; rc == 0 && i < m->volumes; i++)
		if ((w->machine[0] == '\0' || strcmp(w->machine, m->volume[i].machine_name) == 0) &&
		    (w->volume[0] == '\0' || strcmp(w->volume, m->volume[i].volume_name) == 0)) {
			*out = m->volume[i].volume;
			hits++;
		}
	if (rc == 0 && hits != 1)
		rc = lb_err_set(
			err, LB_EINPUT, 0,
			"%u volumes of the point fit machine \"%s\" volume \"%s\"; name one", hits,
			w->machine, w->volume);
	lb_buf_unref(bytes);
	free(m);
	return rc;
}

static int export(struct sa_job *job, void *arg, json_t **result, struct lb_err *err)
{
	struct work *w = arg;
	struct rep_view_cfg cfg = {.dek_of = work_dek_of, .arg = w};
	struct img_dev *view = NULL;
	struct lb_id volume;
	int rc = find_volume(w, &volume, err);

	w->job = job;
	if (rc == 0)
		rc = rep_view_open(&view, w->agent->store, &w->point, &volume, &cfg, err);
	if (rc == 0)
		rc = rep_export_raw(view, w->path, on_exported, w, err);
	if (rc == 0)
		*result = json_pack("{s:s, s:I}", "path", w->path, "size_bytes",
				    (json_int_t)view->size_bytes);
	img_dev_destroy(view);
	return rc;
}

static void copy_text(char *out, size_t cap, const char *s)
{
	(void)snprintf(out, cap, "%s", s != NULL ? s : "");
}

static void post_point_export(struct call *c)
{
	const char *path = text_of(c, "path");
	struct lb_err err = {0};
	struct rep_point p;
	struct work *w;
	const char *id = NULL;
	int rc;

	if (path == NULL || path[0] != '/' || strlen(path) >= SA_PATH_BYTES) {
		fail(c, LB_EINPUT, "\"path\" must be an absolute path of less than 256 bytes");
		return;
	}
	if (!resolve(c, c->api->part[1], &p) || (w = work_new(c)) == NULL)
		return;
	w->point = p.manifest;
	copy_text(w->path, sizeof(w->path), path);
	copy_text(w->machine, sizeof(w->machine), text_of(c, "machine"));
	copy_text(w->volume, sizeof(w->volume), text_of(c, "volume"));
	rc = sa_job_start(c->agent->jobs, "export point", export, w, work_free, &id, &err);
	if (rc != 0)
		work_free(w);
	started(c, rc, id, &err);
}

static int rebuild(struct sa_job *job, void *arg, json_t **result, struct lb_err *err)
{
	struct work *w = arg;

	(void)job;
	(void)result;
	return sa_catalog_rebuild(w->agent->catalog, w->agent->store, err);
}

static void post_catalog_rebuild(struct call *c)
{
	struct work *w = work_new(c);
	struct lb_err err = {0};
	const char *id = NULL;
	int rc;

	if (w == NULL)
		return;
	rc = sa_job_start(c->agent->jobs, "catalog rebuild", rebuild, w, work_free, &id, &err);
	if (rc != 0)
		work_free(w);
	started(c, rc, id, &err);
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
		fail(c, LB_ENOTFOUND, "no such job");
}

/* ---- runbooks and runs ---- */

static struct rb_runbook *parse_runbook(struct call *c)
{
	const char *text = text_of(c, "text"), *name = text_of(c, "name");
	struct rb_runbook *rb = NULL;
	struct lb_err err = {0};
	char *problems = NULL;

	if (text == NULL) {
		fail(c, LB_EINPUT, "\"text\" (the runbook) is missing");
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

static void post_plan(struct call *c)
{
	struct rb_runbook *rb = parse_runbook(c);
	const char *mode_text = text_of(c, "mode");
	struct rb_plan *plan = NULL;
	struct lb_err err = {0};
	enum rb_mode mode = RB_FAILOVER;
	char *text = NULL;
	json_t *steps;

	if (rb == NULL)
		return;
	if ((mode_text != NULL && rb_mode_parse(&mode, mode_text, &err) != 0) ||
	    rb_plan_create(&plan, rb, mode, NULL, &err) != 0) {
		sa_api_fail(c->rq, &err, NULL);
		goto out;
	}
	text = rb_plan_text(plan, rb);
	steps = json_array();
	for (size_t i = 0; i < plan->step_count; i++) {
		const struct rb_plan_step *s = &plan->steps[i];

		(void)json_array_append_new(
			steps,
			json_pack("{s:s, s:i, s:I, s:I, s:I, s:b}", "id", rb->steps[s->step].id,
				  "wave", (int)s->wave, "start_ns", (json_int_t)s->start_ns,
				  "expect_ns", (json_int_t)s->expect_ns, "worst_ns",
				  (json_int_t)s->worst_ns, "critical", s->critical));
	}
	sa_api_answer(c->rq,
		      json_pack("{s:s, s:I, s:b, s:s, s:o}", "mode", rb_mode_name(mode), "total_ns",
				(json_int_t)plan->total_ns, "fits_rto", plan->fits_rto, "text",
				text != NULL ? text : "", "steps", steps));
out:
	free(text);
	rb_plan_destroy(plan);
	rb_runbook_destroy(rb);
}

/* A failover acts on the site it takes over from: that name must be typed. */
static bool confirmed(struct call *c, const struct rb_runbook *rb, const char *mode)
{
	const char *typed = text_of(c, "confirm"), *site = c->agent->cfg->site;
	struct lb_err err = {0};
	char hint[160];

	if (strcmp(mode, "drill") == 0)
		return true;
	for (size_t i = 0; i < rb->step_count; i++)
		if (rb->steps[i].action == RB_FENCE)
			site = rb->steps[i].site;
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
	const char *mode = text_of(c, "mode"), *text = text_of(c, "text"),
		   *name = text_of(c, "name");
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
		fail(c, LB_EINPUT, "\"mode\" is missing: drill, failover or planned");
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

static void post_run_command(struct call *c)
{
	const char *command = text_of(c, "command"), *typed = text_of(c, "confirm");
	struct lb_err err = {0};
	char who[32];

	if (command == NULL) {
		fail(c, LB_EINPUT, "\"command\" is missing");
		return;
	}
	/* skipping a step and cancelling a run can leave a site half failed over */
	if ((strcmp(command, "skip") == 0 || strcmp(command, "cancel") == 0) &&
	    (typed == NULL || strcmp(typed, c->agent->cfg->site) != 0)) {
		(void)lb_err_set(&err, LB_EDENIED, 0, "%s needs the typed name of this site",
				 command);
		sa_api_fail(c->rq, &err, "--confirm SITE, with the name of the site the run is at");
		return;
	}
	(void)snprintf(who, sizeof(who), "uid:%u", (unsigned)c->api->uid);
	if (sa_run_command(c->agent->runs, c->api->part[1], command, text_of(c, "step"),
			   text_of(c, "reason"), who, &err) != 0)
		sa_api_fail(c->rq, &err, NULL);
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
	const char *name = text_of(c, "name");
	const json_t *ttl = json_object_get(c->api->body, "ttl_ns");
	struct lb_err err = {0};
	char token[256];

	if (name == NULL) {
		fail(c, LB_EINPUT, "\"name\" (of the site that will join) is missing");
		return;
	}
	if (sa_enrol_token(c->agent->enrol, name,
			   json_is_integer(ttl) ? (uint64_t)json_integer_value(ttl)
						: UINT64_C(900000000000),
			   token, sizeof(token), &err) != 0)
		sa_api_fail(c->rq, &err, NULL);
	else
		sa_api_answer(c->rq, json_pack("{s:s}", "token", token));
}

struct join {
	struct call call;
	char token[256];
	int rc;
	struct lb_err err;
};

static void join_work(void *arg)
{
	struct join *j = arg;

	j->rc = sa_enrol_join(j->call.agent->ident, j->token, &j->call.agent->cfg->listen, &j->err);
}

static void join_done(void *arg)
{
	struct join *j = arg;

	if (j->rc == 0)
		j->rc = sa_agent_enrolled(j->call.agent, &j->err);
	if (j->rc != 0)
		sa_api_fail(j->call.rq, &j->err, NULL);
	else
		sa_api_answer(j->call.rq, sa_sites_json(j->call.agent));
	explicit_bzero(j->token, sizeof(j->token));
	free(j);
}

static void post_site_join(struct call *c)
{
	const char *token = text_of(c, "token");
	struct join *j = calloc(1, sizeof(*j));

	if (j == NULL || token == NULL || strlen(token) >= sizeof(j->token)) {
		free(j);
		fail(c, LB_EINPUT, "\"token\" is missing or too long");
		return;
	}
	j->call = *c;
	memcpy(j->token, token, strlen(token) + 1);
	lb_pool_submit(c->agent->pool, join_work, join_done, j);
}

static void post_group_cut(struct call *c)
{
	struct sa_protected *g = sa_protect_find(c->agent, c->api->part[1]);

	if (g == NULL || !g->added) {
		fail(c, LB_ENOTFOUND, "no group of that name is protected here");
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
	{"GET", "points", get_points},
	{"GET", "points/*", get_point},
	{"GET", "jobs", get_jobs},
	{"GET", "jobs/*", get_job},
	{"GET", "runs", get_runs},
	{"GET", "runs/*", get_run},
	{"GET", "runs/*/console", get_console},
	{"GET", "events", get_events},
	{"GET", "doctor", get_doctor},
	{"GET", "catalog/dump", get_catalog_dump},
	{"POST", "site/init", post_site_init},
	{"POST", "site/token", post_site_token},
	{"POST", "site/join", post_site_join},
	{"POST", "groups/*/cut", post_group_cut},
	{"POST", "points/*/verify", post_point_verify},
	{"POST", "points/*/export", post_point_export},
	{"POST", "verify", post_verify},
	{"POST", "catalog/rebuild", post_catalog_rebuild},
	{"POST", "jobs/*/cancel", post_job_cancel},
	{"POST", "runbooks/lint", post_lint},
	{"POST", "runbooks/plan", post_plan},
	{"POST", "runs", post_runs},
	{"POST", "runs/*/command", post_run_command},
};

void sa_agent_on_api(void *arg, struct sa_api_request *rq, const struct sa_api_call *api)
{
	struct call c = {.agent = arg, .rq = rq, .api = api};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (strcmp(paths[i].method, api->method) == 0 &&
		    sa_api_matches(paths[i].pattern, api->part)) {
			paths[i].fn(&c);
			return;
		}
	fail(&c, LB_ENOTFOUND, "no such path; docs/control-api.md lists them");
}

#include "api_stub.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent_api_int.h"
#include "agent_int.h"
#include "api_parse_int.h"
#include "base/loop.h"
#include "export_int.h"

struct sa_api_request {
	struct api_stub_answer *out;
};

/* There is one call at a time; what has no request at hand notes what it did here. */
static struct api_stub_answer *current;

static void did(const char *what, const char *which)
{
	(void)snprintf(current->did, sizeof(current->did), "%s%s%s", what, which != NULL ? " " : "",
		       which != NULL ? which : "");
}

static json_t *object(const char *what)
{
	return json_pack("{s:s}", "what", what);
}

/* ---- the agent's side of a request ---- */

void sa_api_answer(struct sa_api_request *rq, struct json_t *body)
{
	rq->out->times++;
	json_decref(rq->out->body);
	rq->out->body = body;
}

void sa_api_fail(struct sa_api_request *rq, const struct lb_err *err, const char *hint)
{
	rq->out->times++;
	rq->out->err = *err;
	(void)snprintf(rq->out->hint, sizeof(rq->out->hint), "%s", hint != NULL ? hint : "");
	json_decref(sa_api_error_json(err, hint));
}

/* ---- status ---- */

struct json_t *sa_status_json(struct sa_agent *a)
{
	(void)a;
	return object("status");
}

struct json_t *sa_groups_json(struct sa_agent *a)
{
	(void)a;
	return object("groups");
}

struct json_t *sa_sites_json(struct sa_agent *a)
{
	(void)a;
	return object("sites");
}

struct json_t *sa_machines_json(struct sa_agent *a)
{
	(void)a;
	return object("machines");
}

struct json_t *sa_history_json(const struct sa_history *h)
{
	(void)h;
	return object("history");
}

struct json_t *sa_books_json(const struct sa_agent *a)
{
	(void)a;
	return object("runbooks");
}

int sa_book_read(const struct sa_agent *a, const char *name, struct json_t **out,
		 struct lb_err *err)
{
	(void)a;
	if (strcmp(name, "r") != 0)
		return lb_err_set(err, LB_ENOTFOUND, 0, "no runbook of that name");
	*out = object("runbook");
	return 0;
}

int sa_group_of_machine(struct sa_agent *a, const char *machine, struct lb_id *group,
			struct lb_err *err)
{
	(void)a;
	(void)err;
	memset(group, 0, sizeof(*group));
	return strcmp(machine, "db") == 0 ? 0 : LB_ENOTFOUND;
}

bool sa_role_get(struct sa_roles *r, const struct lb_id *group, struct sa_role_record *out)
{
	(void)r;
	(void)group;
	*out = (struct sa_role_record){.name = "erp"};
	return true;
}

struct json_t *sa_doctor_json(struct sa_agent *a)
{
	(void)a;
	return object("doctor");
}

struct json_t *sa_points_json(struct sa_agent *a, const struct lb_id *group, unsigned max)
{
	(void)a;
	return json_pack("{s:b, s:i}", "one_group", group != NULL, "max", (int)max);
}

struct json_t *sa_point_json(struct sa_agent *a, const struct lb_hash *point)
{
	(void)a;
	(void)point;
	return object("point");
}

int sa_point_resolve(struct sa_agent *a, const char *text, const struct lb_id *group,
		     struct rep_point *out, struct lb_err *err)
{
	(void)a;
	(void)group;
	if (strcmp(text, "latest") != 0)
		return lb_err_set(err, LB_ENOTFOUND, 0, "no point %.40s", text);
	memset(out, 0, sizeof(*out));
	return 0;
}

bool sa_role_by_name(struct sa_roles *r, const char *name, struct sa_role_record *out)
{
	(void)r;
	memset(out, 0, sizeof(*out));
	return strcmp(name, "erp") == 0;
}

/* ---- jobs, catalog ---- */

struct json_t *sa_jobs_json(struct sa_jobs *j)
{
	(void)j;
	return object("jobs");
}

struct json_t *sa_job_json(struct sa_jobs *j, const char *id)
{
	(void)j;
	return strcmp(id, "j1") == 0 ? object("job") : NULL;
}

bool sa_job_cancel(struct sa_jobs *j, const char *id)
{
	(void)j;
	did("job_cancel", id);
	return strcmp(id, "j1") == 0;
}

int sa_job_start(struct sa_jobs *j, const char *what, sa_job_fn work, void *arg,
		 void (*free_arg)(void *arg), const char **id_out, struct lb_err *err)
{
	(void)j;
	(void)work;
	(void)err;
	did("job", what);
	free_arg(arg);
	*id_out = "j1";
	return 0;
}

void sa_job_progress(struct sa_job *job, uint64_t done, uint64_t all)
{
	(void)job;
	(void)done;
	(void)all;
}

bool sa_job_cancelled(const struct sa_job *job)
{
	(void)job;
	return false;
}

int sa_export_qcow2(struct sa_agent *a, struct sa_job *job, const struct lb_hash *point,
		    const struct lb_id *volume, const char *path, uint64_t *size_bytes,
		    struct lb_err *err)
{
	(void)a;
	(void)job;
	(void)point;
	(void)volume;
	(void)path;
	(void)size_bytes;
	return lb_err_set(err, LB_EUNSUPPORTED, 0, "stub");
}

int sa_catalog_events(struct sa_catalog *c, uint64_t after, unsigned max, sa_event_fn fn, void *arg,
		      struct lb_err *err)
{
	struct sa_event e = {.n = after + 1, .level = "info", .comp = "agent", .ev = "started"};

	(void)c;
	(void)err;
	return max > 0 && fn(arg, &e) != 0 ? LB_ENOMEM : 0;
}

int sa_catalog_dump(struct sa_catalog *c, FILE *out, struct lb_err *err)
{
	(void)c;
	(void)err;
	(void)fputs("lifeboat catalog 1\n", out);
	return 0;
}

int sa_catalog_rebuild(struct sa_catalog *c, struct rep_store *s, struct lb_err *err)
{
	(void)c;
	(void)s;
	(void)err;
	return 0;
}

int sa_catalog_mark(struct sa_catalog *c, const struct lb_hash *point, enum sa_mark mark,
		    uint64_t wall_ns, const char *note, struct lb_err *err)
{
	(void)c;
	(void)point;
	(void)mark;
	(void)wall_ns;
	(void)note;
	(void)err;
	return 0;
}

/* ---- runs ---- */

struct json_t *sa_runs_json(struct sa_runs *r)
{
	(void)r;
	return object("runs");
}

struct json_t *sa_run_json(struct sa_runs *r, const char *id)
{
	(void)r;
	return strcmp(id, "1a2b") == 0 || strcmp(id, "2b3c") == 0 ? object("run") : NULL;
}

/* 2b3c: of which the fence failed. */
bool sa_run_fence_waits(struct sa_runs *r, const char *id)
{
	(void)r;
	return strcmp(id, "2b3c") == 0;
}

struct json_t *sa_runs_console_json(struct sa_runs *r, const char *id, const char *machine)
{
	(void)r;
	(void)id;
	return strcmp(machine, "db") == 0 ? object("console") : NULL;
}

int sa_run_start(struct sa_runs *r, const struct sa_run_request *rq, char *id_out,
		 struct lb_err *err)
{
	(void)r;
	(void)err;
	did("run_start", rq->mode);
	(void)snprintf(id_out, LB_ID_TEXT, "1a2b");
	return 0;
}

int sa_run_command(struct sa_runs *r, const char *id, const char *command, const char *step,
		   const char *reason, const char *who, struct lb_err *err)
{
	(void)r;
	(void)step;
	(void)reason;
	(void)who;
	if (strcmp(id, "3c4d") == 0)
		return lb_err_set(err, LB_ESUSPECT, 0, "run log could not be written");
	if (strcmp(id, "1a2b") != 0 && strcmp(id, "2b3c") != 0)
		return lb_err_set(err, LB_ENOTFOUND, 0, "no run %.40s", id);
	did("run_command", command);
	return 0;
}

/* ---- site, protection ---- */

int sa_ident_init(struct sa_ident *id, struct lb_err *err)
{
	(void)id;
	(void)err;
	did("init", NULL);
	return 0;
}

bool sa_ident_ready(const struct sa_ident *id)
{
	(void)id;
	return true;
}

const struct sa_peer *sa_ident_peer_by_name(const struct sa_ident *id, const char *name)
{
	static const struct sa_peer nara = {.name = "nara"};

	(void)id;
	return strcmp(name, nara.name) == 0 ? &nara : NULL;
}

int sa_ident_peer_retire(struct sa_ident *id, const char *name, struct lb_err *err)
{
	(void)id;
	(void)err;
	did("retire", name);
	return 0;
}

int sa_ident_key_of(const struct sa_ident *id, const struct lb_id *site, struct lb_pubkey *out)
{
	(void)id;
	(void)site;
	(void)out;
	return LB_ENOTFOUND;
}

int sa_keyring_by_id(struct sa_keyring *k, const struct lb_id *key_id, struct lb_key *out)
{
	(void)k;
	(void)key_id;
	(void)out;
	return LB_ENOTFOUND;
}

int sa_agent_enrolled(struct sa_agent *a, struct lb_err *err)
{
	(void)a;
	(void)err;
	return 0;
}

int sa_enrol_token(struct sa_enrol *e, const char *peer_name, uint64_t ttl_ns, char *out,
		   size_t out_bytes, struct lb_err *err)
{
	(void)e;
	(void)ttl_ns;
	(void)err;
	did("token", peer_name);
	(void)snprintf(out, out_bytes, "secret");
	return 0;
}

int sa_enrol_token_renew(struct sa_enrol *e, const char *peer_name, uint64_t ttl_ns, char *out,
			 size_t out_bytes, struct lb_err *err)
{
	(void)e;
	(void)ttl_ns;
	did("token-renew", peer_name);
	(void)snprintf(out, out_bytes, "secret");
	return strcmp(peer_name, "tokyo") == 0
		       ? 0
		       : lb_err_set(err, LB_ENOTFOUND, 0, "no site of that name is enrolled");
}

int sa_enrol_renew(struct sa_ident *id, const char *token_text, struct lb_err *err)
{
	(void)id;
	did("renew-by", token_text);
	return strcmp(token_text, "good") == 0 ? 0 : lb_err_set(err, LB_EAUTH, 0, "bad token");
}

int sa_ident_renew(struct sa_ident *id, struct lb_err *err)
{
	(void)id;
	did("renew", NULL);
	return lb_err_set(err, LB_EUNSUPPORTED, 0, "the CA is elsewhere");
}

int sa_agent_renewed(struct sa_agent *a, struct lb_err *err)
{
	(void)a;
	(void)err;
	return 0;
}

int sa_enrol_join(struct sa_ident *id, const char *token_text, const struct sa_addr *listen,
		  struct lb_err *err)
{
	(void)id;
	(void)listen;
	did("join", NULL);
	return strcmp(token_text, "good") == 0 ? 0 : lb_err_set(err, LB_EAUTH, 0, "bad token");
}

/* Work and its end, at once: what a real pool does later. */
void lb_pool_submit(struct lb_pool *p, lb_loop_fn work, lb_loop_fn done, void *arg)
{
	(void)p;
	work(arg);
	done(arg);
}

struct sa_protected *sa_protect_find(struct sa_agent *a, const char *group_name)
{
	return strcmp(group_name, "erp") == 0 ? a->group : NULL;
}

void rep_source_cut_now(struct rep_source *s, const struct lb_id *group)
{
	(void)s;
	(void)group;
	did("cut", NULL);
}

/* ---- machines: vms.c asks their processes ---- */

void sa_get_cpu(struct call *c)
{
	did("cpu", NULL);
	sa_api_answer(c->rq, json_object());
}

void sa_get_vms(struct call *c)
{
	did("vms", NULL);
	sa_api_answer(c->rq, json_pack("{s:[]}", "vms"));
}

void sa_get_vm(struct call *c)
{
	did("vm", c->api->part[1]);
	sa_api_answer(c->rq, json_object());
}

void sa_post_vm_command(struct call *c)
{
	const char *command = sa_call_text(c, "command");

	did("vm-command", command);
	sa_api_answer(c->rq, json_object());
}

/* ---- one call ---- */

static void add_query(struct sa_api_parsed *p, char *query)
{
	char *save = NULL;

	for (char *q = strtok_r(query, "&", &save); q != NULL; q = strtok_r(NULL, "&", &save)) {
		char *value = strchr(q, '=');

		if (value != NULL)
			*value++ = '\0';
		sa_api_parsed_query(p, q, value);
	}
}

static void act(struct api_stub_answer *out, const char *method, const struct sa_api_parsed *p)
{
	static struct sa_config cfg = {.site = "osaka"};
	static const struct sa_group_cfg group_cfg = {.name = "erp"};
	struct sa_protected group = {.cfg = &group_cfg, .added = true};
	char store; /* only its being there is looked at */
	struct sa_agent a = {.cfg = &cfg,
			     .store = (struct rep_store *)(void *)&store,
			     .group = &group,
			     .groups = 1};
	struct sa_api_request rq = {.out = out};
	const struct sa_api_call call = {
		.method = method, .part = p->part, .query = p->query, .body = p->body, .uid = 7};

	current = out;
	sa_agent_on_api(&a, &rq, &call);
	current = NULL;
}

void api_stub_call(struct api_stub_answer *out, const char *method, const char *target,
		   const char *body, size_t body_len)
{
	struct sa_api_parsed p;
	char *url = strdup(target), *query;

	*out = (struct api_stub_answer){.times = 0};
	if (url == NULL)
		abort();
	query = strchr(url, '?');
	if (query != NULL)
		*query++ = '\0';
	if (sa_api_parse(&p, method, url, body, body_len, &out->err) != 0) {
		out->times = 1;
	} else {
		if (query != NULL)
			add_query(&p, query);
		act(out, method, &p);
		sa_api_parsed_fini(&p);
	}
	free(url);
}

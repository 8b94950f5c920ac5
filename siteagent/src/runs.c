#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "runs_int.h"

#define RUNS_KEPT 200u

struct sa_run *sa_run_of(struct sa_runs *r, const struct rb_run *run)
{
	for (struct sa_run *s = r->first; s != NULL; s = s->next)
		if (s->run == run)
			return s;
	return NULL;
}

static struct sa_run *by_id(struct sa_runs *r, const char *id)
{
	struct sa_run *found = NULL;
	size_t n = strlen(id);

	for (struct sa_run *s = r->first; s != NULL; s = s->next) {
		if (n < 4 || strncmp(s->id, id, n) != 0)
			continue;
		if (found != NULL)
			return NULL; /* not unique */
		found = s;
	}
	return found;
}

static enum rb_run_state state_of(const struct sa_run *s)
{
	struct rb_run_status st;

	rb_run_status(s->run, &st);
	return st.state;
}

/* ---- the run's callbacks ---- */

static void failed(struct sa_run *s, const struct lb_err *err)
{
	lb_log(LB_LOG_ERROR, "run", "log_failed", "run=%s", s->id, "err=%s", err->msg, NULL);
}

static void on_wake(void *arg)
{
	struct sa_run *s = arg;
	struct lb_err err = {0};

	if (rb_run_tick(s->run, &err) != 0)
		failed(s, &err);
}

static void wake_at(void *arg, struct rb_run *run, uint64_t at_ns)
{
	struct sa_run *s = arg;
	struct lb_env *env = s->runs->agent->env;
	uint64_t now = env->now_ns(env);

	(void)run;
	if (at_ns == UINT64_MAX)
		lb_timer_stop(s->wake);
	else
		lb_timer_start(s->wake, at_ns > now ? at_ns - now : 0, 0);
}

static void log_step(struct sa_run *s, uint32_t step)
{
	struct rb_step_status st;

	rb_run_step_status(s->run, step, &st);
	lb_log(LB_LOG_INFO, "run", "step", "run=%.8s", s->id, "step=%s", st.step->id, "state=%s",
	       rb_step_state_name(st.view.state), "detail=%s", st.view.detail, NULL);
}

static void changed(void *arg, struct rb_run *run, uint32_t step)
{
	struct sa_run *s = arg;

	(void)run;
	if (step != RB_NO_STEP) {
		log_step(s, step);
		return;
	}
	lb_log(LB_LOG_INFO, "run", "state", "run=%s", s->id, "state=%s",
	       rb_run_state_name(state_of(s)), NULL);
	if (rb_run_state_ended(state_of(s)) && s->mode == RB_DRILL)
		sa_verbs_clean_drill(s);
}

/* ---- start, resume ---- */

static struct sa_run *run_new(struct sa_runs *r, struct lb_err *err)
{
	struct sa_run *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		(void)lb_err_set(err, LB_ENOMEM, 0, "run");
		return NULL;
	}
	s->runs = r;
	if (lb_timer_create(&s->wake, r->agent->loop, on_wake, s, err) != 0) {
		free(s);
		return NULL;
	}
	return s;
}

static void run_free(struct sa_run *s)
{
	sa_verbs_drop(s);
	rb_run_destroy(s->run);
	lb_timer_destroy(s->wake);
	free(s);
}

static struct rb_run_cfg run_cfg(struct sa_run *s)
{
	return (struct rb_run_cfg){
		.env = s->runs->agent->env,
		.fs = s->runs->agent->state,
		.path = s->path,
		.verbs = &s->runs->verbs,
		.listener = {.changed = changed, .wake_at = wake_at, .arg = s},
	};
}

static void adopt(struct sa_run *s)
{
	struct rb_run_status st;

	rb_run_status(s->run, &st);
	(void)lb_id_text(&st.id, s->id);
	s->mode = st.mode;
	s->next = s->runs->first;
	s->runs->first = s;
}

int sa_run_start(struct sa_runs *r, const struct sa_run_request *rq, char *id_out,
		 struct lb_err *err)
{
	struct sa_run *s = run_new(r, err);
	struct rb_run_cfg cfg;
	struct rb_fact facts[] = {{"site.target", r->agent->cfg->site}};
	struct lb_id file;
	char hex[LB_ID_TEXT];
	int rc;

	if (s == NULL)
		return err->code;
	lb_id_random(&file, r->agent->env);
	(void)snprintf(s->path, sizeof(s->path), "runs/%s.log", lb_id_text(&file, hex));
	cfg = run_cfg(s);
	cfg.source_name = rq->name;
	cfg.source = rq->text;
	cfg.source_bytes = rq->text_bytes;
	cfg.unattended = rq->unattended;
	cfg.who = rq->who;
	cfg.facts = facts;
	cfg.fact_count = 1;
	rc = rb_mode_parse(&cfg.mode, rq->mode, err);
	if (rc == 0)
		rc = rb_run_start(&s->run, &cfg, err);
	if (rc != 0) {
		run_free(s);
		return rc;
	}
	s->live = true;
	adopt(s);
	memcpy(id_out, s->id, LB_ID_TEXT);
	lb_log(LB_LOG_WARN, "run", "started", "run=%s", s->id, "mode=%s", rq->mode, "who=%s",
	       rq->who, NULL);
	return rb_run_pump(s->run, err);
}

/* One log of an earlier process: ended ones are only read, others are taken over. */
static void reopen(struct sa_runs *r, const char *name)
{
	struct lb_err err = {0};
	struct sa_run *s = run_new(r, &err);
	struct rb_run_cfg cfg;
	int rc;

	if (s == NULL)
		return;
	(void)snprintf(s->path, sizeof(s->path), "runs/%.50s", name);
	rc = rb_run_load(&s->run, r->agent->state, s->path, &err);
	if (rc == 0 && !rb_run_state_ended(state_of(s))) {
		rb_run_destroy(s->run);
		s->run = NULL;
		cfg = run_cfg(s);
		rc = rb_run_open(&s->run, &cfg, &err);
		s->live = rc == 0;
	}
	if (rc != 0) {
		lb_log(LB_LOG_ERROR, "run", "log_unreadable", "file=%s", s->path, "err=%s", err.msg,
		       NULL);
		run_free(s);
		return;
	}
	adopt(s);
	if (!s->live)
		return;
	lb_log(LB_LOG_WARN, "run", "resumed", "run=%s", s->id, NULL);
	if (rb_run_pump(s->run, &err) != 0)
		failed(s, &err);
}

struct names {
	char (*name)[64];
	size_t n;
};

static int collect(void *arg, const char *name)
{
	struct names *l = arg;
	char(*grown)[64];
	size_t len = strlen(name);

	if (len < 5 || len >= 64 || strcmp(name + len - 4, ".log") != 0)
		return 0;
	grown = realloc(l->name, (l->n + 1) * sizeof(*grown));
	if (grown == NULL)
		return LB_ENOMEM;
	l->name = grown;
	memcpy(l->name[l->n++], name, len + 1);
	return 0;
}

int sa_runs_create(struct sa_runs **out, struct sa_agent *a, struct lb_err *err)
{
	struct sa_runs *r = calloc(1, sizeof(*r));
	struct names found = {0};
	int rc;

	if (r == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "runs");
	r->agent = a;
	sa_verbs_init(&r->verbs);
	rc = lb_fs_mkdir(a->state, "runs", err);
	if (rc == 0)
		rc = lb_fs_mkdir(a->state, "boots", err);
	if (rc == 0)
		rc = lb_fs_mkdir(a->state, "reports", err);
	if (rc == 0) /* a run's log is only as durable as the name of its directory */
		rc = lb_fs_sync_dir(a->state, "", err);
	if (rc == 0)
		rc = lb_fs_list(a->state, "runs", collect, &found, err);
	for (size_t i = 0; i < found.n && i < RUNS_KEPT && rc == 0; i++)
		reopen(r, found.name[i]);
	free(found.name);
	if (rc != 0) {
		sa_runs_destroy(r);
		return rc;
	}
	*out = r;
	return 0;
}

void sa_runs_destroy(struct sa_runs *r)
{
	struct sa_run *next;

	if (r == NULL)
		return;
	for (struct sa_run *s = r->first; s != NULL; s = next) {
		next = s->next;
		run_free(s);
	}
	free(r);
}

/* ---- commands and status ---- */

int sa_run_command(struct sa_runs *r, const char *id, const char *command, const char *step,
		   const char *reason, const char *who, struct lb_err *err)
{
	struct sa_run *s = by_id(r, id);

	if (s == NULL)
		return lb_err_set(err, LB_ENOTFOUND, 0, "no run %.40s (or not unique)", id);
	if (!s->live)
		return lb_err_set(err, LB_EINPUT, 0, "run %s has ended", s->id);
	for (int c = 0; c < RB_CMD_COUNT; c++)
		if (strcmp(rb_command_name((enum rb_command)c), command) == 0)
			return rb_run_command(s->run, (enum rb_command)c, step, who, reason, err);
	return lb_err_set(err, LB_EINPUT, 0,
			  "unknown command %.40s: halt, continue, retry, skip or cancel", command);
}

static json_t *brief(struct sa_run *s)
{
	struct rb_run_status st;

	rb_run_status(s->run, &st);
	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:i, s:i, s:i, s:i, s:s}", "id",
			 s->id, "runbook", st.name, "mode", rb_mode_name(st.mode), "state",
			 rb_run_state_name(st.state), "began_wall_ns", (json_int_t)st.began_wall_ns,
			 "elapsed_ns", (json_int_t)st.elapsed_ns, "rto_ns", (json_int_t)st.rto_ns,
			 "steps", (int)st.step_count, "ended", (int)st.ended, "running",
			 (int)st.running, "waiting", (int)st.waiting, "who",
			 st.who != NULL ? st.who : "");
}

struct json_t *sa_runs_json(struct sa_runs *r)
{
	json_t *list = json_array();

	for (struct sa_run *s = r->first; s != NULL; s = s->next)
		(void)json_array_append_new(list, brief(s));
	return json_pack("{s:o}", "runs", list);
}

struct json_t *sa_run_json(struct sa_runs *r, const char *id)
{
	struct sa_run *s = by_id(r, id);

	return s == NULL ? NULL : sa_run_report_json(s);
}

struct json_t *sa_runs_console_json(struct sa_runs *r, const char *id, const char *machine)
{
	struct sa_run *s = by_id(r, id);

	return s == NULL ? NULL : sa_run_console_json(s, machine);
}

const char *sa_runs_mode(struct sa_runs *r)
{
	const char *mode = "NORMAL";

	for (struct sa_run *s = r->first; s != NULL; s = s->next) {
		bool ended = rb_run_state_ended(state_of(s));

		if (!ended && s->mode != RB_DRILL)
			return "FAILOVER RUNNING";
		if (!ended)
			mode = "DRILL";
	}
	for (size_t i = 0; i < sa_roles_count(r->agent->roles); i++) {
		struct sa_role_record rec;

		if (sa_roles_at(r->agent->roles, i, &rec) && rec.role == SA_ROLE_PRIMARY &&
		    rec.epoch > 1 && strcmp(mode, "NORMAL") == 0)
			mode = "FAILED OVER";
	}
	return mode;
}

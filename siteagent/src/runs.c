#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "runs_int.h"

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

bool sa_run_ended(const struct sa_run *s)
{
	return rb_run_state_ended(state_of(s));
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
	lb_log(LB_LOG_INFO, "run", "step", "run=%s", s->id, "step=%s", st.step->id, "state=%s",
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
	sa_verbs_settle(s);
}

/* ---- start, resume ---- */

static void run_free(struct sa_run *s)
{
	sa_verbs_drop(s);
	free(s->serve);
	rb_run_destroy(s->run);
	lb_timer_destroy(s->wake);
	lb_timer_destroy(s->again);
	free(s);
}

static void on_again(void *arg)
{
	sa_verbs_settle(arg);
}

static struct sa_run *run_new(struct sa_runs *r, struct lb_err *err)
{
	struct sa_run *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL) {
		(void)lb_err_set(err, LB_ENOMEM, 0, "run");
		return NULL;
	}
	s->runs = r;
	rc = lb_timer_create(&s->wake, r->agent->loop, on_wake, s, err);
	if (rc == 0)
		rc = lb_timer_create(&s->again, r->agent->loop, on_again, s, err);
	if (rc != 0) {
		run_free(s);
		return NULL;
	}
	return s;
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

/* Into the list, newest first. */
static void adopt(struct sa_run *s)
{
	struct sa_run **at = &s->runs->first;
	struct rb_run_status st, other;

	rb_run_status(s->run, &st);
	(void)lb_id_text(&st.id, s->id);
	s->mode = st.mode;
	for (; *at != NULL; at = &(*at)->next) {
		rb_run_status((*at)->run, &other);
		if (other.began_wall_ns <= st.began_wall_ns)
			break;
	}
	s->next = *at;
	*at = s;
}

/* Machines of it are there, or may be: they are watched, and started again, by what the run knows;
 * or they are a drill's and still to be removed. */
static bool has_machines(const struct sa_run *s)
{
	for (const struct sa_boot *b = s->boots; b != NULL; b = b->next)
		if (b->state != SA_BOOT_CLEANED)
			return true;
	return false;
}

/* Only the memory of old runs goes, not their logs. */
static void forget_old(struct sa_runs *r)
{
	struct sa_run **p = &r->first;
	unsigned kept = 0;

	while (*p != NULL) {
		struct sa_run *s = *p;

		if (!sa_run_ended(s) || s->cleaning || s->verbs != NULL || s->serve != NULL ||
		    has_machines(s) || kept++ < r->kept) {
			p = &s->next;
			continue;
		}
		*p = s->next;
		run_free(s);
	}
}

/* ---- what a real failover does to others ---- */

#define ANY_MODE UINT_MAX

/* Of those that run in one of @modes. */
static const struct rb_step *first_in(const struct rb_runbook *rb, enum rb_action action,
				      unsigned modes)
{
	for (size_t i = 0; i < rb->step_count; i++)
		if (rb->steps[i].action == action && (rb->steps[i].modes & modes) != 0)
			return &rb->steps[i];
	return NULL;
}

static const struct rb_step *first_step(const struct rb_runbook *rb, enum rb_action action)
{
	return first_in(rb, action, ANY_MODE);
}

/* Do both touch @machine's group? One that boots nothing fences every group of its site. */
static bool touches(struct sa_runs *r, const struct rb_runbook *rb, const char *machine)
{
	struct lb_id mine, theirs;
	bool known =
		r->agent->store != NULL && sa_group_of_machine(r->agent, machine, &mine, NULL) == 0;

	if (first_step(rb, RB_BOOT) == NULL)
		return true;
	for (size_t i = 0; i < rb->step_count; i++) {
		const struct rb_step *st = &rb->steps[i];

		if (st->action != RB_BOOT)
			continue;
		if (strcmp(st->machine, machine) == 0)
			return true;
		if (known && sa_group_of_machine(r->agent, st->machine, &theirs, NULL) == 0 &&
		    lb_id_equal(&mine, &theirs))
			return true;
	}
	return false;
}

static bool overlap(struct sa_runs *r, const struct rb_runbook *a, const struct rb_runbook *b)
{
	if (first_step(a, RB_BOOT) == NULL)
		return true;
	for (size_t i = 0; i < a->step_count; i++)
		if (a->steps[i].action == RB_BOOT && touches(r, b, a->steps[i].machine))
			return true;
	return false;
}

/* One failover of a group at a time: two would fence and boot it twice. */
static int check_alone(struct sa_runs *r, const struct rb_runbook *rb, struct lb_err *err)
{
	for (struct sa_run *s = r->first; s != NULL; s = s->next)
		if (s->live && s->mode != RB_DRILL && !sa_run_ended(s) &&
		    overlap(r, rb, rb_run_runbook(s->run)))
			return lb_err_set(err, LB_EBUSY, 0,
					  "run %.8s (%s) fails over machines of the same group; "
					  "continue or cancel it first",
					  s->id, rb_mode_name(s->mode));
	return 0;
}

static struct sa_run *live_failover(struct sa_runs *r)
{
	for (struct sa_run *s = r->first; s != NULL; s = s->next)
		if (s->live && s->mode != RB_DRILL && !sa_run_ended(s))
			return s;
	return NULL;
}

/* A drill would only be pre-empted at once. */
static int check_no_failover(struct sa_runs *r, struct lb_err *err)
{
	const struct sa_run *s = live_failover(r);

	return s == NULL ? 0
			 : lb_err_set(err, LB_EBUSY, 0,
				      "run %.8s (%s) is under way; drill when it has ended", s->id,
				      rb_mode_name(s->mode));
}

/* It is over or was told so, and its machines are not gone yet. */
static bool is_in_way(const struct sa_run *s)
{
	return s->mode == RB_DRILL && (s->preempted || sa_run_ended(s)) && has_machines(s);
}

bool sa_runs_may_boot(const struct sa_runs *r)
{
	if (r->preempt_over)
		return true;
	for (const struct sa_run *s = r->first; s != NULL; s = s->next)
		if (is_in_way(s))
			return false;
	return true;
}

static void on_preempt_over(void *arg)
{
	struct sa_runs *r = arg;

	if (sa_runs_may_boot(r))
		return;
	lb_log(LB_LOG_ERROR, "run", "drill_in_the_way", "err=%s",
	       "a drill's machines are still there; the failover boots beside them", NULL);
	r->preempt_over = true;
	sa_verbs_unpark(r);
}

/* Drills end now; the failover's boots wait until they are gone, or for the grace. */
static void preempt_drills(struct sa_runs *r, const struct sa_run *by)
{
	r->preempt_over = false;
	for (struct sa_run *s = r->first; s != NULL; s = s->next) {
		struct lb_err err = {0};

		if (s->mode != RB_DRILL || !s->live || sa_run_ended(s) || s->preempted)
			continue;
		s->preempted = true;
		lb_log(LB_LOG_WARN, "run", "drill_preempted", "run=%s", s->id, "by=%s", by->id,
		       NULL);
		if (rb_run_command(s->run, RB_CMD_CANCEL, NULL, "lifeboatd",
				   "a failover pre-empts drills", &err) != 0)
			lb_log(LB_LOG_WARN, "run", "drill_not_cancelled", "run=%s", s->id, "err=%s",
			       err.msg, NULL);
		sa_verbs_settle(s);
	}
	lb_timer_start(r->preempt, r->preempt_grace_ns, 0);
}

/* ---- start ---- */

/* The site that runs @rb's machines now: the one it fences in @mode, else who wrote their group,
 * else the only peer. "" when none of that is known. */
static const char *source_site(struct sa_runs *r, const struct rb_runbook *rb, enum rb_mode mode)
{
	struct sa_agent *a = r->agent;
	const struct rb_step *fence = first_in(rb, RB_FENCE, 1u << mode),
			     *boot = first_in(rb, RB_BOOT, 1u << mode);
	const struct sa_peer *p = NULL;
	struct sa_role_record rec;
	struct lb_id group;

	if (fence != NULL)
		return fence->site;
	if (boot != NULL && a->store != NULL &&
	    sa_group_of_machine(a, boot->machine, &group, NULL) == 0 &&
	    sa_role_get(a->roles, &group, &rec))
		p = sa_ident_peer_by_site(a->ident, &rec.writer);
	if (p == NULL && sa_ident_peer_count(a->ident) == 1)
		p = sa_ident_peer(a->ident, 0);
	return p != NULL ? p->name : "";
}

static int open_new(struct sa_run *s, const struct sa_run_request *rq, const struct rb_runbook *rb,
		    enum rb_mode mode, struct lb_err *err)
{
	const char *source = source_site(s->runs, rb, mode);
	struct rb_fact facts[] = {{"site.target", s->runs->agent->cfg->site},
				  {"site.source", source}};
	struct rb_run_cfg cfg;
	char hex[LB_ID_TEXT];
	struct lb_id file;

	lb_id_random(&file, s->runs->agent->env);
	(void)snprintf(s->path, sizeof(s->path), "runs/%s.log", lb_id_text(&file, hex));
	cfg = run_cfg(s);
	cfg.mode = mode;
	cfg.source_name = rq->name;
	cfg.source = rq->text;
	cfg.source_bytes = rq->text_bytes;
	cfg.unattended = rq->unattended;
	cfg.who = rq->who;
	cfg.facts = facts;
	cfg.fact_count = source[0] != '\0' ? 2 : 1;
	return rb_run_start(&s->run, &cfg, err);
}

/* Listed, with what held at its start; nothing was asked of the verbs yet. */
static int make_run(struct sa_runs *r, const struct sa_run_request *rq, struct sa_run **out,
		    struct lb_err *err)
{
	struct sa_run *s = run_new(r, err);
	struct rb_runbook *rb = NULL;
	enum rb_mode mode = RB_DRILL;
	int rc = s == NULL ? LB_ENOMEM : rb_mode_parse(&mode, rq->mode, err);

	if (rc == 0)
		rc = rb_runbook_parse(&rb, rq->name, rq->text, rq->text_bytes, NULL, err);
	if (rc == 0)
		rc = mode == RB_DRILL ? check_no_failover(r, err) : check_alone(r, rb, err);
	if (rc == 0)
		rc = open_new(s, rq, rb, mode, err);
	rb_runbook_destroy(rb);
	if (rc != 0) {
		if (s != NULL)
			run_free(s);
		return rc;
	}
	s->live = true;
	adopt(s);
	sa_run_start_note(s);
	*out = s;
	return 0;
}

/* Nothing was asked of anybody: told as failed, it must not go on after the next start. */
static void forget_start(struct sa_runs *r, struct sa_run *s)
{
	struct lb_fs *fs = r->agent->state;
	struct sa_run **at = &r->first;

	if (s->verbs != NULL || lb_fs_unlink(fs, s->path, NULL) != 0)
		return; /* it is listed, and says itself what is wrong with it */
	(void)lb_fs_sync_dir(fs, "runs", NULL);
	while (*at != NULL && *at != s)
		at = &(*at)->next;
	*at = s->next;
	run_free(s);
}

int sa_run_start(struct sa_runs *r, const struct sa_run_request *rq, char *id_out,
		 struct lb_err *err)
{
	struct sa_run *s = NULL;
	int rc = make_run(r, rq, &s, err);

	if (rc != 0)
		return rc;
	memcpy(id_out, s->id, LB_ID_TEXT);
	lb_log(LB_LOG_WARN, "run", "started", "run=%s", s->id, "mode=%s", rq->mode, "who=%s",
	       rq->who, NULL);
	if (s->mode != RB_DRILL)
		preempt_drills(r, s);
	forget_old(r);
	rc = rb_run_pump(s->run, err);
	if (rc != 0)
		forget_start(r, s);
	return rc;
}

/* ---- resume ---- */

/* One log of an earlier process: ended ones are only read, others are taken over. */
static int open_old(struct sa_run *s, struct lb_err *err)
{
	struct rb_run_cfg cfg;
	int rc = rb_run_load(&s->run, s->runs->agent->state, s->path, err);

	if (rc != 0 || sa_run_ended(s))
		return rc;
	rb_run_destroy(s->run);
	s->run = NULL;
	cfg = run_cfg(s);
	rc = rb_run_open(&s->run, &cfg, err);
	s->live = rc == 0;
	return rc;
}

/* An agent that was killed while it began a run had asked for nothing yet. */
static void not_opened(const struct sa_run *s, int rc, const struct lb_err *err)
{
	if (rc == LB_ENOTFOUND && lb_fs_unlink(s->runs->agent->state, s->path, NULL) == 0)
		lb_log(LB_LOG_INFO, "run", "never_began", "file=%s", s->path, NULL);
	else
		lb_log(LB_LOG_ERROR, "run", "log_unreadable", "file=%s", s->path, "err=%s",
		       err->msg, NULL);
}

static void reopen(struct sa_runs *r, const char *name)
{
	struct lb_err err = {0};
	struct sa_run *s = run_new(r, &err);
	int rc;

	if (s == NULL)
		return;
	(void)snprintf(s->path, sizeof(s->path), "runs/%.50s", name);
	rc = open_old(s, &err);
	if (rc != 0) {
		not_opened(s, rc, &err);
		run_free(s);
		return;
	}
	adopt(s);
	sa_boots_load(s, (uint32_t)rb_run_runbook(s->run)->step_count);
	sa_run_start_load(s);
}

static void resume(struct sa_run *s)
{
	struct lb_err err = {0};

	if (s->live) {
		lb_log(LB_LOG_WARN, "run", "resumed", "run=%s", s->id, NULL);
		if (rb_run_pump(s->run, &err) != 0)
			failed(s, &err);
	}
	sa_verbs_settle(s);
}

/* When all are known: what was under way goes on, what a drill left is removed. A failover comes
 * last, so that its boots find what is in their way: the agent may have died before it had told
 * every drill. */
static void resume_all(struct sa_runs *r)
{
	const struct sa_run *real = live_failover(r);

	for (struct sa_run *s = r->first; s != NULL; s = s->next)
		if (s->mode == RB_DRILL)
			resume(s);
	if (real != NULL)
		preempt_drills(r, real);
	for (struct sa_run *s = r->first; s != NULL; s = s->next)
		if (s->mode != RB_DRILL)
			resume(s);
	for (struct sa_run *s = r->first; s != NULL; s = s->next)
		sa_boots_serve_again(s);
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
	r->exec_grace_ns = SA_EXEC_GRACE_NS;
	r->preempt_grace_ns = SA_PREEMPT_GRACE_NS;
	r->kept = SA_RUNS_KEPT;
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
	if (rc == 0)
		rc = lb_timer_create(&r->preempt, a->loop, on_preempt_over, r, err);
	for (size_t i = 0; i < found.n && rc == 0; i++)
		reopen(r, found.name[i]);
	free(found.name);
	if (rc != 0) {
		sa_runs_destroy(r);
		return rc;
	}
	resume_all(r);
	forget_old(r);
	*out = r;
	return 0;
}

void sa_runs_stop(struct sa_runs *r)
{
	for (struct sa_run *s = r != NULL ? r->first : NULL; s != NULL; s = s->next)
		sa_verbs_cancel_all(s);
}

void sa_runs_destroy(struct sa_runs *r)
{
	struct sa_run *next;

	if (r == NULL)
		return;
	lb_timer_destroy(r->preempt);
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

bool sa_run_fence_waits(struct sa_runs *r, const char *id)
{
	struct sa_run *s = by_id(r, id);
	struct rb_run_status run = {.step_count = 0};
	struct rb_step_status st;
	bool waits = false;

	if (s != NULL)
		rb_run_status(s->run, &run);
	for (uint32_t i = 0; i < run.step_count && !waits; i++) {
		rb_run_step_status(s->run, i, &st);
		waits = st.step->action == RB_FENCE && st.view.state == RB_STEP_WAITING;
	}
	return waits;
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

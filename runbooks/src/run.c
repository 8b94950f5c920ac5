#include "runbooks/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/env.h"
#include "base/err.h"
#include "base/text.h"
#include "run_int.h"

#define NOTE_BYTES 128u
#define OWN_FACTS  5u /* run.id run.name run.mode step.id step.attempt; the log has the others */

struct slot {            /* per step, what the engine need not know */
	bool has_result; /* answered, not yet told to the engine */
	uint32_t result_attempt;
	struct rb_result result;
	char note[NOTE_BYTES];
	char **argv; /* of the newest attempt */
	enum rb_step_state seen;
	uint32_t seen_starts;
};

struct rb_run {
	struct lb_env *env; /* NULL: loaded, read-only */
	struct rb_verbs *verbs;
	struct rb_listener listener;
	struct rb_log *log;
	struct rb_replay p; /* runbook, engine, begin */
	struct slot *slots;
	uint64_t base_t_ns, base_now_ns; /* run time = base_t + (now - base_now) */
	uint64_t told_wake_ns;
	uint64_t told_seq;
	bool busy; /* inside a callback or between them */
	bool must_resume;
	int log_rc;
	char log_error[256];
};

/* ---- replay ---- */

static int replay_begin(struct rb_replay *p, const struct rb_record *r,
			const struct rb_log_begin *b, struct lb_err *err)
{
	struct lb_err why = {0};
	int rc;

	if (p->engine != NULL)
		return lb_err_set(err, LB_ECORRUPT, 0, "run log: a second beginning");
	rc = rb_runbook_parse(&p->rb, b->source_name, (const char *)b->source, b->source_bytes,
			      NULL, &why);
	if (rc == 0)
		rc = rb_engine_create(&p->engine, p->rb, b->mode, b->unattended, &why);
	if (rc != 0) /* it was checked before it was written */
		return lb_err_set(err, rc == LB_ENOMEM ? LB_ENOMEM : LB_ECORRUPT, 0,
				  "run log: its runbook is refused: %.200s", why.msg);
	p->engine->test_bug = p->test_bug;
	p->begin = *b;
	p->begin.source = NULL;
	p->began_wall_ns = r->wall_ns;
	return 0;
}

int rb_replay_record(void *replay, const struct rb_record *r, const struct rb_log_begin *begin,
		     struct lb_err *err)
{
	struct rb_replay *p = replay;
	int rc = 0;

	if (begin != NULL)
		rc = replay_begin(p, r, begin, err);
	else if (p->engine == NULL)
		rc = lb_err_set(err, LB_ECORRUPT, 0, "run log: does not start with its beginning");
	return rc != 0 ? rc : rb_engine_replay(p->engine, r, err);
}

void rb_replay_fini(struct rb_replay *p)
{
	rb_engine_destroy(p->engine);
	rb_runbook_destroy(p->rb);
	p->engine = NULL;
	p->rb = NULL;
}

/* ---- facts and argv ---- */

struct facts {
	struct rb_fact list[OWN_FACTS + RB_LOG_MAX_FACTS];
	size_t count;
	char id[LB_ID_TEXT];
	char attempt[16];
};

static void make_facts(struct facts *f, const struct rb_replay *p, uint32_t step, uint32_t attempt)
{
	struct rb_fact *l = f->list;

	(void)snprintf(f->attempt, sizeof(f->attempt), "%u", attempt);
	l[0] = (struct rb_fact){"run.id", lb_id_text(&p->begin.run, f->id)};
	l[1] = (struct rb_fact){"run.name", p->rb->name};
	l[2] = (struct rb_fact){"run.mode", rb_mode_name(p->begin.mode)};
	l[3] = (struct rb_fact){"step.id", p->rb->steps[step].id};
	l[4] = (struct rb_fact){"step.attempt", f->attempt};
	f->count = OWN_FACTS;
	for (size_t i = 0; i < p->begin.fact_count; i++)
		l[f->count++] = (struct rb_fact){p->begin.facts[i].name, p->begin.facts[i].value};
}

static void free_argv(char **argv)
{
	if (argv == NULL)
		return;
	for (size_t i = 0; argv[i] != NULL; i++)
		free(argv[i]);
	free(argv);
}

static int expand_argv(char ***out, const struct rb_replay *p, uint32_t step, uint32_t attempt,
		       struct lb_err *err)
{
	const struct rb_step *d = &p->rb->steps[step];
	struct facts f;
	char arg[4096];
	char **argv = calloc(d->run_count + 1, sizeof(*argv));
	int rc = 0;

	if (argv == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "arguments of step %s", d->id);
	make_facts(&f, p, step, attempt);
	for (size_t i = 0; i < d->run_count && rc == 0; i++) {
		rc = rb_expand(arg, sizeof(arg), d->run[i], p->rb, f.list, f.count, err);
		if (rc != 0) {
			rc = lb_err_wrap(err, rc, "step %s, run[%zu]", d->id, i);
		} else {
			argv[i] = strdup(arg);
			if (argv[i] == NULL)
				rc = lb_err_set(err, LB_ENOMEM, 0, "arguments of step %s", d->id);
		}
	}
	if (rc != 0)
		free_argv(argv);
	else
		*out = argv;
	return rc;
}

static int check_exec_steps(const struct rb_replay *p, struct lb_err *err)
{
	for (uint32_t i = 0; i < p->rb->step_count; i++) {
		char **argv = NULL;
		int rc;

		if (p->rb->steps[i].action != RB_EXEC)
			continue;
		rc = expand_argv(&argv, p, i, 1, err);
		if (rc != 0)
			return rc;
		free_argv(argv);
	}
	return 0;
}

static int take_facts(struct rb_log_begin *b, const struct rb_run_cfg *cfg, struct lb_err *err)
{
	for (size_t i = 0; i < cfg->fact_count; i++) {
		const struct rb_fact *f = &cfg->facts[i];

		if (strcmp(f->name, "site.source") != 0 && strcmp(f->name, "site.target") != 0)
			return lb_err_set(err, LB_EINPUT, 0, "fact %s: not one a run is given",
					  f->name);
		for (size_t k = 0; k < i; k++)
			if (strcmp(f->name, cfg->facts[k].name) == 0)
				return lb_err_set(err, LB_EINPUT, 0, "fact %s: given twice",
						  f->name);
		if (strlen(f->value) >= sizeof(b->facts[0].value))
			return lb_err_set(err, LB_EINPUT, 0, "fact %s: longer than %zu bytes",
					  f->name, sizeof(b->facts[0].value) - 1);
		(void)snprintf(b->facts[i].name, sizeof(b->facts[i].name), "%s", f->name);
		(void)snprintf(b->facts[i].value, sizeof(b->facts[i].value), "%s", f->value);
	}
	b->fact_count = cfg->fact_count;
	return 0;
}

/* ---- start, open, load ---- */

static struct rb_run *run_alloc(struct lb_err *err)
{
	struct rb_run *r = calloc(1, sizeof(*r));

	if (r == NULL)
		(void)lb_err_set(err, LB_ENOMEM, 0, "run");
	else
		r->told_wake_ns = UINT64_MAX;
	return r;
}

static int alloc_slots(struct rb_run *r, struct lb_err *err)
{
	r->slots = calloc(r->p.rb->step_count + 1, sizeof(*r->slots));
	if (r->slots == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "run of %s", r->p.rb->name);
	return 0;
}

static void attach(struct rb_run *r, const struct rb_run_cfg *cfg)
{
	struct rb_log_end end;

	rb_log_end(r->log, &end);
	LB_ASSERT(cfg->env != NULL && cfg->verbs != NULL);
	r->env = cfg->env;
	r->verbs = cfg->verbs;
	r->listener = cfg->listener;
	r->base_t_ns = end.t_ns;
	r->base_now_ns = cfg->env->now_ns(cfg->env);
}

void rb_run_destroy(struct rb_run *r)
{
	if (r == NULL)
		return;
	LB_ASSERT(!r->busy);
	for (size_t i = 0; r->slots != NULL && i < r->p.rb->step_count; i++)
		free_argv(r->slots[i].argv);
	free(r->slots);
	rb_log_destroy(r->log);
	rb_replay_fini(&r->p);
	free(r);
}

static int log_first(struct rb_run *r, const struct rb_run_cfg *cfg, struct lb_err *err)
{
	struct rb_log_begin b = r->p.begin;
	struct rb_todos todos;
	struct rb_record rec;
	int rc = rb_log_create(&r->log, cfg->fs, cfg->path, err);

	if (rc != 0)
		return rc;
	b.source = (const uint8_t *)r->p.rb->source;
	b.source_bytes = r->p.rb->source_bytes;
	rb_engine_begin(r->p.engine, &todos);
	LB_ASSERT(todos.count == 1 && todos.items[0].what == RB_DO_LOG);
	rec = todos.items[0].record;
	rec.wall_ns = cfg->env->wall_ns(cfg->env);
	r->p.began_wall_ns = rec.wall_ns;
	rc = rb_log_add(r->log, &rec, &b, err);
	return rc != 0 ? rc : rb_log_commit(r->log, err);
}

int rb_run_start(struct rb_run **out, const struct rb_run_cfg *cfg, struct lb_err *err)
{
	struct rb_run *r = run_alloc(err);
	struct rb_log_begin *b;
	int rc;

	if (r == NULL)
		return LB_ENOMEM;
	b = &r->p.begin;
	b->mode = cfg->mode;
	b->unattended = cfg->unattended;
	(void)snprintf(b->who, sizeof(b->who), "%s", cfg->who != NULL ? cfg->who : "");
	(void)snprintf(b->source_name, sizeof(b->source_name), "%s", cfg->source_name);
	lb_id_random(&b->run, cfg->env);
	rc = take_facts(b, cfg, err);
	if (rc == 0)
		rc = rb_runbook_parse(&r->p.rb, b->source_name, cfg->source, cfg->source_bytes,
				      NULL, err);
	if (rc == 0)
		rc = rb_engine_create(&r->p.engine, r->p.rb, cfg->mode, cfg->unattended, err);
	if (rc == 0)
		rc = check_exec_steps(&r->p, err);
	if (rc == 0)
		rc = alloc_slots(r, err);
	if (rc == 0)
		rc = log_first(r, cfg, err);
	if (rc == 0) {
		attach(r, cfg);
		*out = r;
		r = NULL;
	} else { /* told as failed: it must not be found, and gone on with, later */
		rb_log_discard(r->log, cfg->fs);
		r->log = NULL;
	}
	rb_run_destroy(r);
	return rc;
}

static int open_log(struct rb_run **out, struct lb_fs *fs, const char *path, bool own,
		    enum rb_test_bug bug, struct lb_err *err)
{
	struct rb_run *r = run_alloc(err);
	int rc;

	if (r == NULL)
		return LB_ENOMEM;
	r->p.test_bug = bug;
	if (own)
		rc = rb_log_open(&r->log, fs, path, rb_replay_record, &r->p, err);
	else
		rc = rb_log_load(&r->log, fs, path, rb_replay_record, &r->p, err);
	if (rc == 0 && r->p.engine == NULL)
		rc = lb_err_set(err, LB_ENOTFOUND, 0, "run log %s: the run was never started",
				path);
	if (rc == 0)
		rc = alloc_slots(r, err);
	if (rc == 0) {
		*out = r;
		r = NULL;
	}
	rb_run_destroy(r);
	return rc;
}

int rb_run_open_bug(struct rb_run **out, const struct rb_run_cfg *cfg, enum rb_test_bug bug,
		    struct lb_err *err)
{
	struct rb_run *r = NULL;
	int rc = open_log(&r, cfg->fs, cfg->path, true, bug, err);

	if (rc != 0)
		return rc;
	attach(r, cfg);
	r->must_resume = !rb_run_state_ended(rb_engine_state(r->p.engine));
	*out = r;
	return 0;
}

int rb_run_open(struct rb_run **out, const struct rb_run_cfg *cfg, struct lb_err *err)
{
	return rb_run_open_bug(out, cfg, RB_BUG_NONE, err);
}

int rb_run_load(struct rb_run **out, struct lb_fs *fs, const char *path, struct lb_err *err)
{
	return open_log(out, fs, path, false, RB_BUG_NONE, err);
}

void rb_run_seed_bug(struct rb_run *r, enum rb_test_bug bug)
{
	r->p.engine->test_bug = bug;
}

/* ---- doing what the engine says ---- */

static uint64_t run_now(const struct rb_run *r)
{
	if (r->env == NULL)
		return r->base_t_ns;
	return r->base_t_ns + (r->env->now_ns(r->env) - r->base_now_ns);
}

static void keep_result(struct slot *s, uint32_t attempt, int code, const char *detail)
{
	s->has_result = true;
	s->result_attempt = attempt;
	s->result.code = code;
	(void)snprintf(s->result.detail, sizeof(s->result.detail), "%s",
		       detail != NULL ? detail : "");
}

static void start_effect(struct rb_run *r, const struct rb_todo *t)
{
	struct slot *s = &r->slots[t->step];
	const struct rb_step *d = &r->p.rb->steps[t->step];
	struct rb_result known = {0};
	struct lb_err err = {0};
	struct rb_effect e = {
		.token = {r->p.begin.run, t->step, t->attempt, t->generation},
		.step = d,
		.runbook = r->p.rb,
		.mode = r->p.begin.mode,
		.reissued = t->reissued,
	};

	s->note[0] = '\0';
	s->has_result = false;
	if (d->action == RB_EXEC) {
		free_argv(s->argv);
		s->argv = NULL;
		if (expand_argv(&s->argv, &r->p, t->step, t->attempt, &err) != 0) {
			keep_result(s, t->attempt, err.code, err.msg);
			return;
		}
		e.argv = (const char *const *)s->argv;
	}
	if (t->reissued && r->verbs->query != NULL && r->verbs->query(r->verbs, &e, &known)) {
		known.detail[sizeof(known.detail) - 1] = '\0';
		keep_result(s, t->attempt, known.code, known.detail);
		return;
	}
	r->verbs->start(r->verbs, r, &e);
}

static void cancel_effect(struct rb_run *r, const struct rb_todo *t)
{
	struct rb_token token = {r->p.begin.run, t->step, t->attempt, t->generation};

	if (!r->slots[t->step].has_result)
		r->verbs->cancel(r->verbs, r, &token);
}

static int perform(struct rb_run *r, const struct rb_todos *todos, struct lb_err *err)
{
	for (size_t i = 0; i < todos->count; i++) {
		const struct rb_todo *t = &todos->items[i];
		struct rb_record rec = t->record;
		int rc = 0;

		switch (t->what) {
		case RB_DO_LOG:
			rec.wall_ns = r->env->wall_ns(r->env);
			rc = rb_log_add(r->log, &rec, NULL, err);
			break;
		case RB_DO_START:
			start_effect(r, t);
			break;
		case RB_DO_CANCEL:
			cancel_effect(r, t);
			break;
		}
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* One event, its records made durable, then the effects they allow. */
static int feed(struct rb_run *r, const struct rb_event *ev, struct lb_err *err)
{
	uint64_t t_ns = run_now(r);
	struct rb_event next = *ev;
	struct rb_todos todos;
	struct rb_log_end end;
	struct lb_err local = {0};
	int rc = rb_engine_step(r->p.engine, &next, t_ns, &todos, err);

	if (rc != 0)
		return rc; /* a refused command changes nothing */
	for (;;) {
		rc = perform(r, &todos, &local);
		if (rc == 0 && !rb_log_has_batch(r->log))
			return 0;
		if (rc == 0)
			rc = rb_log_commit(r->log, &local);
		if (rc != 0)
			break;
		rb_log_end(r->log, &end);
		next = (struct rb_event){.kind = RB_EV_LOGGED, .seq = end.seq};
		rc = rb_engine_step(r->p.engine, &next, t_ns, &todos, err);
		LB_ASSERT(rc == 0);
	}
	r->log_rc = rc;
	(void)snprintf(r->log_error, sizeof(r->log_error), "%s", local.msg);
	return lb_err_set(err, (enum lb_code)rc, local.sys_errno, "run log: %s", local.msg);
}

static bool next_result(struct rb_run *r, struct rb_event *ev)
{
	for (uint32_t i = 0; i < r->p.rb->step_count; i++) {
		struct slot *s = &r->slots[i];

		if (!s->has_result)
			continue;
		s->has_result = false;
		*ev = (struct rb_event){
			.kind = RB_EV_RESULT,
			.step = i,
			.attempt = s->result_attempt,
			.code = s->result.code,
			.text = s->result.detail,
		};
		return true;
	}
	return false;
}

uint64_t rb_run_deadline_ns(const struct rb_run *r)
{
	uint64_t at = rb_engine_deadline_ns(r->p.engine);

	return at != UINT64_MAX ? r->base_now_ns + (at - r->base_t_ns) : at;
}

static void tell_listener(struct rb_run *r)
{
	uint64_t at = rb_run_deadline_ns(r);
	struct rb_log_end end;

	for (uint32_t i = 0; i < r->p.rb->step_count; i++) {
		struct slot *s = &r->slots[i];
		struct rb_step_view v;

		rb_engine_step_view(r->p.engine, i, &v);
		if (v.state == s->seen && v.starts == s->seen_starts)
			continue;
		s->seen = v.state;
		s->seen_starts = v.starts;
		if (r->listener.changed != NULL)
			r->listener.changed(r->listener.arg, r, i);
	}
	rb_log_end(r->log, &end);
	if (end.seq != r->told_seq && r->listener.changed != NULL)
		r->listener.changed(r->listener.arg, r, RB_NO_STEP);
	r->told_seq = end.seq;
	if (at != r->told_wake_ns && r->listener.wake_at != NULL)
		r->listener.wake_at(r->listener.arg, r, at);
	r->told_wake_ns = at;
}

/* The one entry of all events. Answers given from inside callbacks are taken up here, not nested.
 */
static int drive(struct rb_run *r, const struct rb_event *ev, struct lb_err *err)
{
	struct rb_event next;
	int rc;

	LB_ASSERT(!r->busy && r->env != NULL);
	if (r->log_rc != 0)
		return lb_err_set(err, LB_ESUSPECT, 0, "run log could not be written: %s",
				  r->log_error);
	r->busy = true;
	rc = feed(r, ev, err);
	for (;;) {
		while (rc == 0 && next_result(r, &next))
			rc = feed(r, &next, err);
		tell_listener(r);
		if (rc != 0 || !next_result(r, &next))
			break;
		rc = feed(r, &next, err);
	}
	r->busy = false;
	return rc;
}

int rb_run_pump(struct rb_run *r, struct lb_err *err)
{
	struct rb_event ev = {.kind = RB_EV_TICK};

	if (r->must_resume) {
		r->must_resume = false;
		ev.kind = RB_EV_RESUME;
		ev.generation = rb_engine_generation(r->p.engine) + 1;
	}
	return drive(r, &ev, err);
}

int rb_run_tick(struct rb_run *r, struct lb_err *err)
{
	return rb_run_pump(r, err);
}

int rb_run_effect_done(struct rb_run *r, const struct rb_token *t, int code, const char *detail,
		       struct lb_err *err)
{
	struct rb_event ev;

	LB_ASSERT(code <= 0 && r->env != NULL);
	if (!lb_id_equal(&t->run, &r->p.begin.run) || t->step >= r->p.rb->step_count ||
	    t->generation != rb_engine_generation(r->p.engine))
		return 0;
	if (r->busy) {
		keep_result(&r->slots[t->step], t->attempt, code, detail);
		return 0;
	}
	ev = (struct rb_event){
		.kind = RB_EV_RESULT,
		.step = t->step,
		.attempt = t->attempt,
		.code = code,
		.text = detail,
	};
	return drive(r, &ev, err);
}

void rb_run_effect_note(struct rb_run *r, const struct rb_token *t, const char *note)
{
	struct rb_step_view v;

	if (!lb_id_equal(&t->run, &r->p.begin.run) || t->step >= r->p.rb->step_count)
		return;
	rb_engine_step_view(r->p.engine, t->step, &v);
	if (v.attempt != t->attempt)
		return;
	(void)snprintf(r->slots[t->step].note, NOTE_BYTES, "%s", note);
	(void)lb_utf8_clean(r->slots[t->step].note);
}

int rb_run_command(struct rb_run *r, enum rb_command c, const char *step_id, const char *who,
		   const char *reason, struct lb_err *err)
{
	char who_cut[RB_NAME_BYTES], reason_cut[RB_DETAIL_BYTES];
	struct rb_event ev = {.kind = RB_EV_COMMAND, .command = c, .step = RB_NO_STEP};

	if (r->busy)
		return lb_err_set(err, LB_EBUSY, 0, "%s: asked from inside a callback",
				  rb_command_name(c));
	/* "go on with this step" must not be taken for "go on with all of them" */
	if (step_id != NULL && c != RB_CMD_RETRY && c != RB_CMD_SKIP)
		return lb_err_set(err, LB_EINPUT, 0, "%s: is for the whole run, not for step %.64s",
				  rb_command_name(c), step_id);
	if (step_id != NULL) {
		ev.step = rb_runbook_find(r->p.rb, step_id);
		if (ev.step == RB_NO_STEP)
			return lb_err_set(err, LB_EINPUT, 0, "%s: no step \"%s\" in this run",
					  rb_command_name(c), step_id);
	}
	(void)snprintf(who_cut, sizeof(who_cut), "%s", who != NULL ? who : "");
	(void)snprintf(reason_cut, sizeof(reason_cut), "%s", reason != NULL ? reason : "");
	(void)lb_utf8_clean(who_cut);
	(void)lb_utf8_clean(reason_cut);
	ev.who = who_cut;
	ev.text = reason_cut;
	return drive(r, &ev, err);
}

/* ---- status ---- */

const struct rb_runbook *rb_run_runbook(const struct rb_run *r)
{
	return r->p.rb;
}

static void count_steps(const struct rb_run *r, struct rb_run_status *out)
{
	for (uint32_t i = 0; i < r->p.rb->step_count; i++) {
		struct rb_step_view v;

		rb_engine_step_view(r->p.engine, i, &v);
		out->ended += rb_step_state_ended(v.state) ? 1 : 0;
		out->running += v.state == RB_STEP_RUNNING || v.state == RB_STEP_STOPPING ? 1 : 0;
		out->waiting += v.state == RB_STEP_WAITING ? 1 : 0;
		out->failed += v.state == RB_STEP_FAILED ? 1 : 0;
	}
}

void rb_run_status(const struct rb_run *r, struct rb_run_status *out)
{
	enum rb_run_state state = rb_engine_state(r->p.engine);
	bool ended = rb_run_state_ended(state);
	struct rb_log_end end;

	rb_log_end(r->log, &end);
	*out = (struct rb_run_status){
		.id = r->p.begin.run,
		.name = r->p.rb->name,
		.mode = r->p.begin.mode,
		.state = state,
		.in_finally = !ended && rb_engine_in_finally(r->p.engine),
		.unattended = r->p.begin.unattended,
		.generation = rb_engine_generation(r->p.engine),
		.elapsed_ns = ended ? rb_engine_end_ns(r->p.engine) : run_now(r),
		.rto_ns = r->p.rb->rto_ns,
		.began_wall_ns = r->p.began_wall_ns,
		.last_wall_ns = end.wall_ns,
		.record_count = end.seq,
		.head = end.head,
		.step_count = r->p.rb->step_count,
		.who = r->p.begin.who,
		.log_error = r->log_error,
	};
	count_steps(r, out);
}

void rb_run_step_status(const struct rb_run *r, uint32_t step, struct rb_step_status *out)
{
	LB_ASSERT(step < r->p.rb->step_count);
	out->step = &r->p.rb->steps[step];
	rb_engine_step_view(r->p.engine, step, &out->view);
	out->note = r->slots[step].note;
}

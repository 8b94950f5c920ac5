#include "runbooks/engine.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "engine_int.h"

const char *rb_run_state_name(enum rb_run_state s)
{
	static const char *const names[] = {
		[RB_RUN_NEW] = "NEW",
		[RB_RUN_RUNNING] = "RUNNING",
		[RB_RUN_HALTED] = "HALTED",
		[RB_RUN_DONE] = "DONE",
		[RB_RUN_DONE_WITH_WARNINGS] = "DONE-WITH-WARNINGS",
		[RB_RUN_FAILED] = "FAILED",
		[RB_RUN_ABORTED] = "ABORTED",
	};
	return names[s];
}

const char *rb_step_state_name(enum rb_step_state s)
{
	static const char *const names[] = {
		[RB_STEP_PENDING] = "pending",     [RB_STEP_RUNNING] = "running",
		[RB_STEP_STOPPING] = "stopping",   [RB_STEP_BACKOFF] = "backoff",
		[RB_STEP_WAITING] = "waiting",     [RB_STEP_DONE] = "done",
		[RB_STEP_FAILED] = "failed",       [RB_STEP_SKIPPED] = "skipped",
		[RB_STEP_CANCELLED] = "cancelled", [RB_STEP_NOT_IN_MODE] = "not-in-mode",
	};
	return names[s];
}

const char *rb_command_name(enum rb_command c)
{
	static const char *const names[] = {
		[RB_CMD_HALT] = "halt", [RB_CMD_CONTINUE] = "continue", [RB_CMD_RETRY] = "retry",
		[RB_CMD_SKIP] = "skip", [RB_CMD_CANCEL] = "cancel",     [RB_CMD_COUNT] = "?",
	};
	return names[c];
}

bool rb_run_state_ended(enum rb_run_state s)
{
	return s >= RB_RUN_DONE;
}

int rb_engine_create(struct rb_engine **out, const struct rb_runbook *rb, enum rb_mode mode,
		     bool unattended, struct lb_err *err)
{
	struct rb_engine *e;

	if ((rb->modes & (1u << mode)) == 0)
		return lb_err_set(err, LB_EINPUT, 0, "runbook %s has no mode %s", rb->name,
				  rb_mode_name(mode));
	e = calloc(1, sizeof(*e));
	if (e == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "engine of %s", rb->name);
	/* In one call a step can end by time, be timed out and start, and its verb be told twice.
	 */
	e->todo_cap = rb->step_count * 4 + 8;
	e->steps = calloc(rb->step_count + 1, sizeof(*e->steps));
	e->todos = calloc(e->todo_cap, sizeof(*e->todos));
	if (e->steps == NULL || e->todos == NULL) {
		rb_engine_destroy(e);
		return lb_err_set(err, LB_ENOMEM, 0, "engine of %s", rb->name);
	}
	e->rb = rb;
	e->mode = mode;
	e->unattended = unattended;
	for (size_t i = 0; i < rb->step_count; i++)
		if ((rb->steps[i].modes & (1u << mode)) == 0)
			e->steps[i].st = RB_STEP_NOT_IN_MODE;
	*out = e;
	return 0;
}

void rb_engine_destroy(struct rb_engine *e)
{
	if (e == NULL)
		return;
	free(e->steps);
	free(e->todos);
	free(e);
}

static struct rb_todo *add_todo(struct rb_engine *e, enum rb_do what)
{
	struct rb_todo *t;

	LB_ASSERT(e->todo_count < e->todo_cap);
	t = &e->todos[e->todo_count++];
	memset(t, 0, sizeof(*t));
	t->what = what;
	return t;
}

static void tell_verb(struct rb_engine *e, enum rb_do what, uint32_t i)
{
	struct rb_step_run *s = &e->steps[i];
	struct rb_todo *t = add_todo(e, what);

	t->step = i;
	t->attempt = s->attempt;
	t->generation = e->generation;
	t->reissued = s->reissue;
	if (what == RB_DO_START) {
		s->start_due = false;
		s->asked = true;
	} else {
		s->cancel_due = false;
	}
}

static void log_record(struct rb_engine *e, struct rb_record r)
{
	struct rb_todo *t;

	r.seq = e->seq + 1;
	r.t_ns = e->now_ns;
	if (r.generation == 0)
		r.generation = e->generation;
	LB_ASSERT(rb_check_record(e, &r, NULL) == 0);
	rb_apply(e, &r);
	if (e->test_bug == RB_BUG_EFFECT_BEFORE_LOG && r.type == RB_REC_START &&
	    e->steps[r.step].start_due)
		tell_verb(e, RB_DO_START, r.step);
	if (r.type == RB_REC_RESULT)
		r.text = e->steps[r.step].detail; /* as cut, and alive after the event */
	t = add_todo(e, RB_DO_LOG);
	t->record = r;
}

static void log_step(struct rb_engine *e, enum rb_record_type type, uint32_t i, uint32_t attempt)
{
	log_record(e, (struct rb_record){.type = type, .step = i, .attempt = attempt});
}

/* What time alone does to step @i. */
static bool expire(struct rb_engine *e, uint32_t i)
{
	struct rb_step_run *s = &e->steps[i];

	if ((s->st != RB_STEP_RUNNING && s->st != RB_STEP_STOPPING) || s->deadline_ns > e->now_ns)
		return false;
	if (s->st == RB_STEP_STOPPING)
		log_step(e, RB_REC_GIVEUP, i, s->attempt);
	else if (e->rb->steps[i].action == RB_WAIT)
		log_step(e, RB_REC_RESULT, i, s->attempt);
	else
		log_step(e, RB_REC_TIMEOUT, i, s->attempt);
	if (e->test_bug == RB_BUG_RETRY_WHILE_STOPPING && s->st == RB_STEP_STOPPING) {
		s->st = RB_STEP_PENDING;
		s->cancel_due = false;
	}
	return true;
}

static void schedule(struct rb_engine *e)
{
	bool again = true;

	while (again && e->begun && e->end == RB_RUN_NEW) {
		bool open = false;

		again = false;
		for (uint32_t i = 0; i < e->rb->step_count; i++) {
			again |= expire(e, i);
			if (rb_may_start(e, i, e->now_ns)) {
				log_step(e, RB_REC_START, i, e->steps[i].attempt + 1);
				again = true;
			}
			open |= !rb_step_ended(e, i);
		}
		if (!open)
			log_record(e, (struct rb_record){.type = RB_REC_END,
							 .step = RB_NO_STEP,
							 .state = rb_end_state(e)});
	}
}

/* R1: only what is durable reaches the verbs. */
static void tell_verbs(struct rb_engine *e)
{
	for (uint32_t i = 0; i < e->rb->step_count; i++) {
		struct rb_step_run *s = &e->steps[i];

		if (s->start_due && s->start_seq <= e->logged_seq)
			tell_verb(e, RB_DO_START, i);
		if (s->cancel_due && s->cancel_seq <= e->logged_seq)
			tell_verb(e, RB_DO_CANCEL, i);
	}
}

void rb_engine_begin(struct rb_engine *e, struct rb_todos *out)
{
	LB_ASSERT(!e->begun);
	e->todo_count = 0;
	log_record(e,
		   (struct rb_record){.type = RB_REC_BEGIN, .step = RB_NO_STEP, .generation = 1});
	*out = (struct rb_todos){.items = e->todos, .count = e->todo_count};
}

int rb_engine_replay(struct rb_engine *e, const struct rb_record *r, struct lb_err *err)
{
	int rc = rb_check_record(e, r, err);

	if (rc != 0)
		return rc;
	rb_apply(e, r);
	e->logged_seq = e->seq;
	return 0;
}

static void on_result(struct rb_engine *e, const struct rb_event *ev)
{
	if (ev->step >= e->rb->step_count || !e->steps[ev->step].asked ||
	    e->steps[ev->step].attempt != ev->attempt)
		return; /* an attempt that was given up, or an answer given twice */
	log_record(e, (struct rb_record){.type = RB_REC_RESULT,
					 .step = ev->step,
					 .attempt = ev->attempt,
					 .code = ev->code,
					 .text = ev->text});
}

static int on_command(struct rb_engine *e, const struct rb_event *ev, struct lb_err *err)
{
	struct rb_record r = {
		.type = RB_REC_COMMAND,
		.command = ev->command,
		.step = ev->step,
		.who = ev->who,
		.text = ev->text,
	};
	int rc = rb_check_command(e, &r, err);

	if (rc == 0)
		log_record(e, r);
	return rc;
}

static uint32_t resume_as(const struct rb_engine *e, const struct rb_event *ev)
{
	return e->test_bug == RB_BUG_SAME_GENERATION ? e->generation : ev->generation;
}

int rb_engine_step(struct rb_engine *e, const struct rb_event *ev, uint64_t now_ns,
		   struct rb_todos *out, struct lb_err *err)
{
	int rc = 0;

	LB_ASSERT(e->begun && now_ns >= e->now_ns);
	e->todo_count = 0;
	e->now_ns = now_ns;
	switch (ev->kind) {
	case RB_EV_LOGGED:
		LB_ASSERT(ev->seq <= e->seq);
		e->logged_seq = ev->seq > e->logged_seq ? ev->seq : e->logged_seq;
		break;
	case RB_EV_RESULT:
		LB_ASSERT(ev->code <= 0);
		on_result(e, ev);
		break;
	case RB_EV_TICK:
		break;
	case RB_EV_COMMAND:
		rc = on_command(e, ev, err);
		break;
	case RB_EV_RESUME:
		if (e->end == RB_RUN_NEW)
			log_record(e, (struct rb_record){.type = RB_REC_RESUME,
							 .step = RB_NO_STEP,
							 .generation = resume_as(e, ev)});
		break;
	}
	if (rc == 0) {
		schedule(e);
		tell_verbs(e);
	}
	*out = (struct rb_todos){.items = e->todos, .count = e->todo_count};
	return rc;
}

uint64_t rb_engine_deadline_ns(const struct rb_engine *e)
{
	uint64_t at = UINT64_MAX;
	bool halted = rb_is_halted(e);

	for (size_t i = 0; i < e->rb->step_count; i++) {
		const struct rb_step_run *s = &e->steps[i];
		uint64_t t = UINT64_MAX;

		if (s->st == RB_STEP_RUNNING || s->st == RB_STEP_STOPPING)
			t = s->deadline_ns;
		else if (s->st == RB_STEP_BACKOFF &&
			 (!halted || s->forced || i >= e->rb->finally_first))
			t = s->retry_ns;
		at = t < at ? t : at;
	}
	return at;
}

enum rb_run_state rb_engine_state(const struct rb_engine *e)
{
	bool waiting = false, moving = false;

	if (!e->begun)
		return RB_RUN_NEW;
	if (e->end != RB_RUN_NEW)
		return e->end;
	if (rb_normal_ended(e) || e->cancelling || e->failing)
		return RB_RUN_RUNNING;
	if (rb_is_halted(e))
		return RB_RUN_HALTED;
	for (uint32_t i = 0; i < e->rb->finally_first; i++) {
		enum rb_step_state s = e->steps[i].st;

		waiting |= s == RB_STEP_WAITING;
		moving |= s == RB_STEP_RUNNING || s == RB_STEP_STOPPING || s == RB_STEP_BACKOFF ||
			  rb_may_start(e, i, e->now_ns);
	}
	return waiting && !moving ? RB_RUN_HALTED : RB_RUN_RUNNING;
}

bool rb_engine_in_finally(const struct rb_engine *e)
{
	return e->begun && rb_normal_ended(e);
}

uint32_t rb_engine_generation(const struct rb_engine *e)
{
	return e->generation;
}

uint64_t rb_engine_end_ns(const struct rb_engine *e)
{
	return e->end_ns;
}

static bool is_late(const struct rb_engine *e, uint32_t i)
{
	const struct rb_step_run *s = &e->steps[i];
	uint64_t budget_ns = e->rb->steps[i].budget_ns;

	if (budget_ns == 0 || s->attempt == 0)
		return false;
	return (rb_step_state_ended(s->st) ? s->end_ns : e->now_ns) - s->first_ns > budget_ns;
}

void rb_engine_step_view(const struct rb_engine *e, uint32_t step, struct rb_step_view *out)
{
	const struct rb_step_run *s;

	LB_ASSERT(step < e->rb->step_count);
	s = &e->steps[step];
	*out = (struct rb_step_view){
		.state = s->st,
		.attempt = s->attempt,
		.starts = s->starts,
		.code = s->code,
		.late = is_late(e, step),
		.first_ns = s->first_ns,
		.start_ns = s->start_ns,
		.end_ns = s->end_ns,
		.retry_ns = s->retry_ns,
		.detail = s->detail,
		.reason = s->reason,
	};
}

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/text.h"
#include "engine_int.h"
#include "runbooks/run.h"
#include "table.h"

bool rb_step_state_ended(enum rb_step_state s)
{
	return s == RB_STEP_DONE || s == RB_STEP_FAILED || s == RB_STEP_SKIPPED ||
	       s == RB_STEP_CANCELLED || s == RB_STEP_NOT_IN_MODE;
}

/* A step left out in this mode passes on what it waits for: it ends when that has ended. */
bool rb_step_ended(const struct rb_engine *e, uint32_t i)
{
	const struct rb_step_run *s = &e->steps[i];

	return s->st == RB_STEP_NOT_IN_MODE ? s->passed : rb_step_state_ended(s->st);
}

static bool all_ended(const struct rb_engine *e, size_t to)
{
	for (uint32_t i = 0; i < to; i++)
		if (!rb_step_ended(e, i))
			return false;
	return true;
}

bool rb_normal_ended(const struct rb_engine *e)
{
	return all_ended(e, e->rb->finally_first);
}

bool rb_is_halted(const struct rb_engine *e)
{
	if (e->operator_halt)
		return true;
	for (size_t i = 0; i < e->rb->finally_first; i++)
		if (e->steps[i].st == RB_STEP_WAITING && e->steps[i].halts)
			return true;
	return false;
}

enum rb_run_state rb_end_state(const struct rb_engine *e)
{
	if (e->failing || e->failed_at_cancel)
		return RB_RUN_FAILED;
	if (e->cancelling)
		return RB_RUN_ABORTED;
	for (size_t i = 0; i < e->rb->step_count; i++) {
		enum rb_step_state s = e->steps[i].st;

		if (s == RB_STEP_FAILED || s == RB_STEP_SKIPPED)
			return RB_RUN_DONE_WITH_WARNINGS;
	}
	return RB_RUN_DONE;
}

static bool deps_ended(const struct rb_engine *e, uint32_t i)
{
	const struct rb_step *d = &e->rb->steps[i];

	if (e->test_bug == RB_BUG_IGNORE_NEEDS)
		return true;
	for (size_t k = 0; k < d->need_count; k++)
		if (!rb_step_ended(e, d->needs[k]))
			return false;
	if (d->group == RB_NO_GROUP && !d->is_finally)
		return true;
	for (uint32_t k = 0; k < e->rb->step_count; k++)
		if (!rb_step_ended(e, k) && rb_barrier_edge(e->rb, k, i))
			return false;
	return true;
}

bool rb_may_start(const struct rb_engine *e, uint32_t i, uint64_t now_ns)
{
	const struct rb_step_run *s = &e->steps[i];

	if (s->st != RB_STEP_PENDING && !(s->st == RB_STEP_BACKOFF && s->retry_ns <= now_ns))
		return false;
	if (i < e->rb->finally_first && !s->forced && rb_is_halted(e))
		return false;
	return deps_ended(e, i);
}

/* ---- which records fit ---- */

int rb_check_command(const struct rb_engine *e, const struct rb_record *r, struct lb_err *err)
{
	const char *name = rb_command_name(r->command);
	const struct rb_step_run *s = NULL;

	if (e->end != RB_RUN_NEW)
		return lb_err_set(err, LB_EINPUT, 0, "%s: the run has ended: %s", name,
				  rb_run_state_name(e->end));
	if (e->cancelling || e->failing || rb_normal_ended(e))
		return lb_err_set(err, LB_EINPUT, 0, "%s: the run is ending already", name);
	if (r->command == RB_CMD_RETRY || r->command == RB_CMD_SKIP) {
		if (r->step >= e->rb->finally_first)
			return lb_err_set(
				err, LB_EINPUT, 0, "%s: needs one of the run's steps%s", name,
				r->step < e->rb->step_count ? ", not of its finally" : "");
		s = &e->steps[r->step];
	}
	switch (r->command) {
	case RB_CMD_HALT:
		if (e->operator_halt)
			return lb_err_set(err, LB_EINPUT, 0, "halt: the run is halted already");
		return 0;
	case RB_CMD_CONTINUE:
		for (size_t i = 0; i < e->rb->finally_first; i++)
			if (e->steps[i].st == RB_STEP_WAITING)
				return 0;
		if (e->operator_halt)
			return 0;
		return lb_err_set(err, LB_EINPUT, 0, "continue: nothing waits for an answer");
	case RB_CMD_RETRY:
		if (s->st == RB_STEP_WAITING || s->st == RB_STEP_BACKOFF)
			return 0;
		break;
	case RB_CMD_SKIP:
		if (r->text == NULL || r->text[0] == '\0')
			return lb_err_set(err, LB_EINPUT, 0, "skip %s: needs a reason",
					  e->rb->steps[r->step].id);
		if (s->st == RB_STEP_WAITING || s->st == RB_STEP_BACKOFF ||
		    s->st == RB_STEP_PENDING)
			return 0;
		break;
	case RB_CMD_CANCEL:
		return 0;
	case RB_CMD_COUNT:
		return lb_err_set(err, LB_EINPUT, 0, "no such command");
	}
	LB_ASSERT(s != NULL);
	return lb_err_set(err, LB_EINPUT, 0, "%s %s: the step is %s", name,
			  e->rb->steps[r->step].id, rb_step_state_name(s->st));
}

static bool step_record_fits(const struct rb_engine *e, const struct rb_record *r)
{
	const struct rb_step_run *s;

	if (r->step >= e->rb->step_count)
		return false;
	s = &e->steps[r->step];
	if (r->type == RB_REC_START)
		return rb_may_start(e, r->step, r->t_ns) && r->attempt == s->attempt + 1;
	if (r->attempt != s->attempt)
		return false;
	if (r->type == RB_REC_RESULT)
		return r->code <= 0 && (s->st == RB_STEP_RUNNING || s->st == RB_STEP_STOPPING);
	if (r->type == RB_REC_TIMEOUT)
		return s->st == RB_STEP_RUNNING && r->t_ns >= s->deadline_ns;
	return s->st == RB_STEP_STOPPING && r->t_ns >= s->deadline_ns;
}

static bool record_fits(const struct rb_engine *e, const struct rb_record *r)
{
	if (r->type == RB_REC_BEGIN)
		return !e->begun && r->generation == 1;
	if (!e->begun || e->end != RB_RUN_NEW)
		return false;
	if (r->type == RB_REC_RESUME)
		return r->generation > e->generation || e->test_bug == RB_BUG_SAME_GENERATION;
	if (r->generation != e->generation)
		return false;
	switch (r->type) {
	case RB_REC_START:
	case RB_REC_RESULT:
	case RB_REC_TIMEOUT:
	case RB_REC_GIVEUP:
		return step_record_fits(e, r);
	case RB_REC_COMMAND:
		return rb_check_command(e, r, NULL) == 0;
	case RB_REC_END:
		return all_ended(e, e->rb->step_count) && r->state == rb_end_state(e);
	case RB_REC_BEGIN:
	case RB_REC_RESUME:
		break;
	}
	return false;
}

int rb_check_record(const struct rb_engine *e, const struct rb_record *r, struct lb_err *err)
{
	if (r->seq == e->seq + 1 && r->t_ns >= e->now_ns && record_fits(e, r))
		return 0;
	return lb_err_set(err, LB_ECORRUPT, 0,
			  "run log: record %" PRIu64
			  " (type %d, step %u, attempt %u) cannot follow "
			  "what is before it",
			  r->seq, (int)r->type, r->step, r->attempt);
}

/* ---- what they do ---- */

static void copy_text(char out[RB_DETAIL_BYTES], const char *text)
{
	(void)snprintf(out, RB_DETAIL_BYTES, "%s", text == NULL ? "" : text);
	(void)lb_utf8_clean(out); /* it is told as JSON, and a hook may have said anything */
}

/* Nothing new starts: what has not started is cancelled, what runs may end. */
static void close_pending(struct rb_engine *e)
{
	for (size_t i = 0; i < e->rb->finally_first; i++) {
		struct rb_step_run *s = &e->steps[i];

		if (s->st == RB_STEP_PENDING || s->st == RB_STEP_BACKOFF ||
		    s->st == RB_STEP_WAITING)
			s->st = RB_STEP_CANCELLED;
	}
}

static void fail_for_good(struct rb_engine *e, uint32_t i, enum rb_policy policy)
{
	struct rb_step_run *s = &e->steps[i];

	s->forced = false;
	if (e->rb->steps[i].is_finally || policy == RB_POLICY_CONTINUE || e->failing) {
		s->st = RB_STEP_FAILED;
	} else if (e->cancelling) {
		s->st = RB_STEP_CANCELLED;
	} else if (e->unattended) {
		s->st = RB_STEP_FAILED;
		e->failing = true;
		close_pending(e);
	} else {
		s->st = RB_STEP_WAITING;
		s->halts = policy == RB_POLICY_HALT;
	}
}

static uint64_t backoff_ns(const struct rb_step *d, uint32_t tries)
{
	uint64_t w = d->backoff_min_ns;

	for (uint32_t k = 1; k < tries && w < d->backoff_max_ns; k++)
		w *= 2; /* max is bounded by the language, far from overflow */
	return w < d->backoff_max_ns ? w : d->backoff_max_ns;
}

static void attempt_failed(struct rb_engine *e, uint32_t i, uint64_t t_ns)
{
	const struct rb_step *d = &e->rb->steps[i];
	struct rb_step_run *s = &e->steps[i];
	bool stop = !d->is_finally && (e->cancelling || e->failing);

	/* A fenced site does not become unfenced by trying again. */
	if (!stop && s->tries <= d->retries && lb_err_class(s->code) != LB_CLASS_FENCE) {
		s->st = RB_STEP_BACKOFF;
		s->retry_ns = t_ns + backoff_ns(d, s->tries);
		return;
	}
	fail_for_good(e, i, s->timed_out ? d->on_timeout : d->on_failure);
}

static void ask_to_stop(struct rb_step_run *s, const struct rb_record *r)
{
	s->st = RB_STEP_STOPPING;
	s->cancel_due = true;
	s->cancel_seq = r->seq;
	s->deadline_ns = r->t_ns + RB_CANCEL_GRACE_NS;
}

static void apply_start(struct rb_engine *e, const struct rb_record *r)
{
	const struct rb_step *d = &e->rb->steps[r->step];
	struct rb_step_run *s = &e->steps[r->step];
	bool wait = d->action == RB_WAIT;

	if (r->attempt == 1)
		s->first_ns = r->t_ns;
	s->st = RB_STEP_RUNNING;
	s->attempt = r->attempt;
	s->tries++;
	s->starts++;
	s->timed_out = false;
	s->asked = false;
	s->start_ns = r->t_ns;
	s->deadline_ns = r->t_ns + (wait ? d->wait_ns : d->timeout_ns);
	s->start_due = !wait;
	s->start_seq = r->seq;
	s->reissue = false;
}

static void apply_result(struct rb_engine *e, const struct rb_record *r)
{
	struct rb_step_run *s = &e->steps[r->step];
	bool finally = e->rb->steps[r->step].is_finally;

	s->asked = s->start_due = s->cancel_due = false;
	s->code = r->code;
	s->end_ns = r->t_ns;
	copy_text(s->detail, r->text);
	if (r->code ==
	    0) { /* also after its timeout: the effect is there, doing it twice is worse */
		s->st = RB_STEP_DONE;
		s->forced = false;
	} else if (e->cancelling && !finally) {
		s->st = RB_STEP_CANCELLED;
	} else {
		attempt_failed(e, r->step, r->t_ns);
	}
}

static void apply_giveup(struct rb_engine *e, const struct rb_record *r)
{
	struct rb_step_run *s = &e->steps[r->step];

	s->asked = s->start_due = s->cancel_due = false;
	s->code = LB_ETIMEDOUT;
	s->end_ns = r->t_ns;
	copy_text(s->detail, "did not end after it was cancelled; it may still be acting");
	fail_for_good(e, r->step, e->rb->steps[r->step].on_timeout);
}

static void apply_resume(struct rb_engine *e, const struct rb_record *r)
{
	e->generation = r->generation;
	for (size_t i = 0; i < e->rb->step_count; i++) {
		const struct rb_step *d = &e->rb->steps[i];
		struct rb_step_run *s = &e->steps[i];

		if ((s->st != RB_STEP_RUNNING && s->st != RB_STEP_STOPPING) || d->action == RB_WAIT)
			continue;
		if (e->test_bug == RB_BUG_FORGET_ON_RESUME) {
			s->start_due = s->cancel_due = false;
			continue;
		}
		if (e->test_bug == RB_BUG_NEW_NAME_ON_RESUME)
			s->attempt++;
		s->asked = false;
		s->reissue = s->start_due = true;
		s->starts++;
		s->start_seq = r->seq;
		if (s->st == RB_STEP_STOPPING)
			ask_to_stop(s, r); /* after the start: the verb adopts, then ends it */
		else
			s->deadline_ns = r->t_ns + d->timeout_ns;
	}
}

static void apply_cancel(struct rb_engine *e, const struct rb_record *r)
{
	for (size_t i = 0; i < e->rb->finally_first; i++)
		if (e->steps[i].st == RB_STEP_WAITING)
			e->failed_at_cancel = true;
	e->cancelling = true;
	e->operator_halt = false;
	close_pending(e);
	for (size_t i = 0; i < e->rb->finally_first; i++) {
		struct rb_step_run *s = &e->steps[i];

		if (s->st != RB_STEP_RUNNING)
			continue;
		if (e->rb->steps[i].action == RB_WAIT) {
			s->st = RB_STEP_CANCELLED;
			s->end_ns = r->t_ns;
		} else {
			ask_to_stop(s, r);
		}
	}
}

static void apply_command(struct rb_engine *e, const struct rb_record *r)
{
	struct rb_step_run *s = r->step < e->rb->step_count ? &e->steps[r->step] : NULL;

	switch (r->command) {
	case RB_CMD_HALT:
		e->operator_halt = true;
		break;
	case RB_CMD_CONTINUE:
		e->operator_halt = false;
		for (size_t i = 0; i < e->rb->finally_first; i++)
			if (e->steps[i].st == RB_STEP_WAITING)
				e->steps[i].st = RB_STEP_FAILED;
		break;
	case RB_CMD_RETRY:
		LB_ASSERT(s != NULL);
		s->st = RB_STEP_PENDING;
		s->forced = true;
		s->tries = 0;
		break;
	case RB_CMD_SKIP:
		LB_ASSERT(s != NULL);
		s->st = RB_STEP_SKIPPED;
		copy_text(s->reason, r->text);
		break;
	case RB_CMD_CANCEL:
		apply_cancel(e, r);
		break;
	case RB_CMD_COUNT:
		LB_ASSERT(false);
	}
}

static void pass_left_out(struct rb_engine *e)
{
	bool again = true;

	while (again) {
		again = false;
		for (uint32_t i = 0; i < e->rb->step_count; i++) {
			struct rb_step_run *s = &e->steps[i];

			if (s->st != RB_STEP_NOT_IN_MODE || s->passed || !deps_ended(e, i))
				continue;
			s->passed = again = true;
		}
	}
}

void rb_apply(struct rb_engine *e, const struct rb_record *r)
{
	e->seq = r->seq;
	e->now_ns = r->t_ns;
	switch (r->type) {
	case RB_REC_BEGIN:
		e->begun = true;
		e->generation = r->generation;
		break;
	case RB_REC_RESUME:
		apply_resume(e, r);
		break;
	case RB_REC_START:
		apply_start(e, r);
		break;
	case RB_REC_RESULT:
		apply_result(e, r);
		break;
	case RB_REC_TIMEOUT:
		e->steps[r->step].timed_out = true;
		ask_to_stop(&e->steps[r->step], r);
		break;
	case RB_REC_GIVEUP:
		apply_giveup(e, r);
		break;
	case RB_REC_COMMAND:
		apply_command(e, r);
		break;
	case RB_REC_END:
		e->end = r->state;
		e->end_ns = r->t_ns;
		break;
	}
	pass_left_out(e);
}

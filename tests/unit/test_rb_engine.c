/*
 * The engine alone: each test tells it what happened and reads what it wants done, as one line of
 * text:
 * ">a/1" start step a, attempt 1; "!a/1" cancel it; "~a/1" start again after a restart.
 */
#include <stdlib.h>

#include "base/err.h"
#include "check.h"
#include "runbooks/engine.h"
#include "runbooks/run.h"

#define S_NS 1000000000ull

struct h {
	struct rb_runbook *rb;
	struct rb_engine *e;
	uint64_t now_ns;
	char did[1024];
	char logged[1024]; /* record types of the last call */
	struct rb_record log[256];
	size_t log_count;
};

static const char *head = "apiVersion: lifeboat/v1\nkind: Runbook\nname: t\n";

static void take(struct h *h, const struct rb_todos *todos)
{
	for (size_t i = 0; i < todos->count; i++) {
		const struct rb_todo *t = &todos->items[i];
		size_t len = strlen(h->did);

		if (t->what == RB_DO_LOG) {
			assert_true(h->log_count < 256);
			h->log[h->log_count] = t->record;
			h->log[h->log_count].who = "w";
			h->log[h->log_count++].text = "x";
			len = strlen(h->logged);
			(void)snprintf(h->logged + len, sizeof(h->logged) - len, "%s%d",
				       len != 0 ? " " : "", (int)t->record.type);
			continue;
		}
		(void)snprintf(h->did + len, sizeof(h->did) - len, "%s%c%s/%u", len != 0 ? " " : "",
			       t->what == RB_DO_CANCEL ? '!' : (t->reissued ? '~' : '>'),
			       h->rb->steps[t->step].id, t->attempt);
	}
}

/* One event and, when it logged something, that it is durable. */
static int tell(struct h *h, struct rb_event ev, struct lb_err *err)
{
	struct rb_todos todos;
	size_t before = h->log_count;
	int rc;

	h->did[0] = h->logged[0] = '\0';
	rc = rb_engine_step(h->e, &ev, h->now_ns, &todos, err);
	take(h, &todos);
	if (h->log_count == before)
		return rc;
	assert_string_equal(h->did, ""); /* R1: nothing before it is durable */
	ev = (struct rb_event){.kind = RB_EV_LOGGED, .seq = h->log[h->log_count - 1].seq};
	assert_int_equal(rb_engine_step(h->e, &ev, h->now_ns, &todos, NULL), 0);
	take(h, &todos);
	return rc;
}

static const char *tick(struct h *h, uint64_t seconds)
{
	h->now_ns += seconds * S_NS;
	assert_int_equal(tell(h, (struct rb_event){.kind = RB_EV_TICK}, NULL), 0);
	return h->did;
}

static uint32_t step_of(struct h *h, const char *id)
{
	return rb_runbook_find(h->rb, id);
}

static const char *result(struct h *h, const char *id, uint32_t attempt, int code)
{
	assert_int_equal(tell(h,
			      (struct rb_event){.kind = RB_EV_RESULT,
						.step = step_of(h, id),
						.attempt = attempt,
						.code = code,
						.text = "said"},
			      NULL),
			 0);
	return h->did;
}

static int try_command(struct h *h, enum rb_command c, const char *id, const char *why,
		       struct lb_err *err)
{
	return tell(h,
		    (struct rb_event){.kind = RB_EV_COMMAND,
				      .command = c,
				      .step = id != NULL ? step_of(h, id) : RB_NO_STEP,
				      .who = "me",
				      .text = why},
		    err);
}

static const char *command(struct h *h, enum rb_command c, const char *id)
{
	struct lb_err err = {0};

	if (try_command(h, c, id, "why", &err) != 0)
		fail_msg("%s", err.msg);
	return h->did;
}

static void refused(struct h *h, enum rb_command c, const char *id, const char *why,
		    const char *want)
{
	struct lb_err err = {0};

	assert_int_equal(try_command(h, c, id, why, &err), LB_EINPUT);
	assert_string_equal(err.msg, want);
	assert_string_equal(h->did, "");
	assert_string_equal(h->logged, "");
}

static void begin_as(struct h *h, const char *body, enum rb_mode mode, bool unattended)
{
	char text[4096];
	char *problems = NULL;
	struct rb_todos todos;

	memset(h, 0, sizeof(*h));
	(void)snprintf(text, sizeof(text), "%s%s", head, body);
	if (rb_runbook_parse(&h->rb, "t.yaml", text, strlen(text), &problems, NULL) != 0)
		fail_msg("%s", problems);
	assert_int_equal(rb_engine_create(&h->e, h->rb, mode, unattended, NULL), 0);
	assert_int_equal(rb_engine_state(h->e), RB_RUN_NEW);
	rb_engine_begin(h->e, &todos);
	take(h, &todos);
	(void)tick(h, 0);
}

static void begin(struct h *h, const char *body)
{
	begin_as(h, body, RB_FAILOVER, false);
}

static void end(struct h *h)
{
	rb_engine_destroy(h->e);
	rb_runbook_destroy(h->rb);
}

static enum rb_step_state state_of(struct h *h, const char *id)
{
	struct rb_step_view v;

	rb_engine_step_view(h->e, step_of(h, id), &v);
	return v.state;
}

static const char *diamond = "steps:\n"
			     "  - {id: a, action: fence, site: x}\n"
			     "  - {id: b, action: report, needs: [a]}\n"
			     "  - {id: c, action: report, needs: [a]}\n"
			     "  - {id: d, action: report, needs: [b, c]}\n"
			     "finally:\n  - {id: z, action: report}\n";

static void steps_run_in_parallel_by_their_needs(void **state)
{
	struct h h;

	(void)state;
	begin(&h, diamond);
	assert_string_equal(h.did, ">a/1");
	assert_string_equal(result(&h, "a", 1, 0), ">b/1 >c/1");
	assert_string_equal(result(&h, "c", 1, 0), "");
	assert_string_equal(result(&h, "b", 1, 0), ">d/1");
	assert_false(rb_engine_in_finally(h.e));
	assert_string_equal(result(&h, "d", 1, 0), ">z/1");
	assert_true(rb_engine_in_finally(h.e));
	h.now_ns += 5 * S_NS;
	assert_string_equal(result(&h, "z", 1, 0), "");
	assert_int_equal(rb_engine_state(h.e), RB_RUN_DONE);
	assert_int_equal(rb_engine_end_ns(h.e), 5 * S_NS);
	assert_int_equal(rb_engine_deadline_ns(h.e), UINT64_MAX);
	end(&h);
}

static void groups_are_barriers(void **state)
{
	struct h h;

	(void)state;
	begin(&h, "groups:\n  - {id: two, priority: 2}\n  - {id: one, priority: 1}\n  - {id: uno, "
		  "priority: 1}\n"
		  "steps:\n  - {id: c, action: report, group: two}\n  - {id: a, action: report, "
		  "group: one}\n"
		  "  - {id: b, action: report, group: uno}\n  - {id: free, action: report}\n");
	assert_string_equal(h.did, ">a/1 >b/1 >free/1");
	assert_string_equal(result(&h, "a", 1, 0), "");
	assert_string_equal(result(&h, "b", 1, 0), ">c/1");
	end(&h);
}

static void a_left_out_step_passes_on_what_it_waits_for(void **state)
{
	struct h h;

	(void)state;
	begin(&h, "steps:\n  - {id: a, action: report}\n  - {id: b, action: report, needs: [a], "
		  "modes: [drill]}\n"
		  "  - {id: c, action: report, needs: [b]}\n");
	assert_string_equal(h.did, ">a/1");
	assert_int_equal(state_of(&h, "b"), RB_STEP_NOT_IN_MODE);
	assert_string_equal(result(&h, "a", 1, 0), ">c/1");
	assert_string_equal(result(&h, "c", 1, 0), "");
	assert_int_equal(rb_engine_state(h.e), RB_RUN_DONE);
	end(&h);
}

static void retries_back_off_and_double(void **state)
{
	struct h h;

	(void)state;
	begin(&h, "steps:\n  - {id: a, action: exec, run: [/x], retries: 3, backoff: 10s..25s}\n");
	assert_string_equal(result(&h, "a", 1, LB_EIO), "");
	assert_int_equal(state_of(&h, "a"), RB_STEP_BACKOFF);
	assert_int_equal(rb_engine_deadline_ns(h.e), 10 * S_NS);
	assert_string_equal(tick(&h, 9), "");
	assert_string_equal(tick(&h, 1), ">a/2");
	assert_string_equal(result(&h, "a", 2, LB_EIO), "");
	assert_string_equal(tick(&h, 19), "");
	assert_string_equal(tick(&h, 1), ">a/3");
	assert_string_equal(result(&h, "a", 3, LB_EIO), "");
	assert_string_equal(tick(&h, 24), "");
	assert_string_equal(tick(&h, 1), ">a/4");
	assert_string_equal(result(&h, "a", 4, LB_EIO), "");
	assert_int_equal(state_of(&h, "a"), RB_STEP_WAITING);
	assert_int_equal(rb_engine_state(h.e), RB_RUN_HALTED);
	/* an operator's retry begins a new series */
	assert_string_equal(command(&h, RB_CMD_RETRY, "a"), ">a/5");
	assert_string_equal(result(&h, "a", 5, LB_EIO), "");
	assert_string_equal(command(&h, RB_CMD_RETRY, "a"),
			    ">a/6"); /* now, not after the backoff */
	assert_string_equal(result(&h, "a", 6, 0), "");
	assert_int_equal(rb_engine_state(h.e), RB_RUN_DONE);
	end(&h);
}

static void a_fenced_answer_is_not_retried(void **state)
{
	struct h h;

	(void)state;
	begin(&h, "steps:\n  - {id: a, action: exec, run: [/x], retries: 3}\n");
	assert_string_equal(result(&h, "a", 1, LB_EFENCED), "");
	assert_int_equal(state_of(&h, "a"), RB_STEP_WAITING);
	end(&h);
}

static void begin_two(struct h *h, const char *policy)
{
	char text[512];

	(void)snprintf(text, sizeof(text),
		       "steps:\n  - {id: a, action: report, on_failure: %s}\n"
		       "  - {id: b, action: report}\n  - {id: c, action: report, needs: [b]}\n"
		       "  - {id: d, action: report, needs: [a]}\n",
		       policy);
	begin(h, text);
}

static void halt_stops_the_others_and_ask_does_not(void **state)
{
	struct h h;

	(void)state;
	begin_two(&h, "halt");
	assert_string_equal(result(&h, "a", 1, LB_EIO), "");
	assert_int_equal(rb_engine_state(h.e), RB_RUN_HALTED);
	assert_string_equal(result(&h, "b", 1, 0), ""); /* c may not start */
	assert_string_equal(command(&h, RB_CMD_CONTINUE, NULL), ">c/1 >d/1");
	assert_int_equal(state_of(&h, "a"), RB_STEP_FAILED);
	assert_string_equal(result(&h, "c", 1, 0), "");
	assert_string_equal(result(&h, "d", 1, 0), "");
	assert_int_equal(rb_engine_state(h.e), RB_RUN_DONE_WITH_WARNINGS);
	end(&h);

	begin_two(&h, "ask");
	assert_string_equal(result(&h, "a", 1, LB_EIO), "");
	assert_int_equal(rb_engine_state(h.e), RB_RUN_RUNNING);
	assert_string_equal(result(&h, "b", 1, 0), ">c/1");
	assert_string_equal(result(&h, "c", 1, 0), "");
	assert_int_equal(rb_engine_state(h.e), RB_RUN_HALTED); /* nothing else is left to do */
	assert_string_equal(command(&h, RB_CMD_SKIP, "a"), ">d/1");
	assert_string_equal(result(&h, "d", 1, 0), "");
	assert_int_equal(rb_engine_state(h.e), RB_RUN_DONE_WITH_WARNINGS);
	end(&h);

	begin_two(&h, "continue");
	assert_string_equal(result(&h, "a", 1, LB_EIO), ">d/1");
	assert_int_equal(rb_engine_state(h.e), RB_RUN_RUNNING);
	end(&h);
}

static void a_retry_starts_while_another_step_halts(void **state)
{
	struct h h;

	(void)state;
	begin(&h, "steps:\n  - {id: a, action: report}\n  - {id: b, action: report}\n  - {id: c, "
		  "action: report, needs: [a]}\n");
	(void)result(&h, "a", 1, LB_EIO);
	(void)result(&h, "b", 1, LB_EIO);
	assert_string_equal(command(&h, RB_CMD_RETRY, "a"), ">a/2");
	assert_int_equal(rb_engine_state(h.e), RB_RUN_HALTED);
	assert_string_equal(result(&h, "a", 2, 0), ""); /* c waits: b still halts the run */
	assert_string_equal(command(&h, RB_CMD_SKIP, "b"), ">c/1");
	end(&h);
}

static void an_operators_halt_holds_new_steps_only(void **state)
{
	struct h h;

	(void)state;
	begin(&h, diamond);
	assert_string_equal(command(&h, RB_CMD_HALT, NULL), "");
	assert_int_equal(rb_engine_state(h.e), RB_RUN_HALTED);
	refused(&h, RB_CMD_HALT, NULL, NULL, "halt: the run is halted already");
	assert_string_equal(result(&h, "a", 1, 0), "");
	assert_string_equal(command(&h, RB_CMD_CONTINUE, NULL), ">b/1 >c/1");
	refused(&h, RB_CMD_CONTINUE, NULL, NULL, "continue: nothing waits for an answer");
	end(&h);
}

static void commands_that_do_not_fit_are_refused_with_the_reason(void **state)
{
	struct h h;

	(void)state;
	begin(&h, diamond);
	refused(&h, RB_CMD_RETRY, "a", "", "retry a: the step is running");
	refused(&h, RB_CMD_SKIP, "a", "why", "skip a: the step is running");
	refused(&h, RB_CMD_SKIP, "b", "", "skip b: needs a reason");
	refused(&h, RB_CMD_SKIP, "z", "why",
		"skip: needs one of the run's steps, not of its finally");
	refused(&h, RB_CMD_RETRY, NULL, "why", "retry: needs one of the run's steps");
	assert_string_equal(command(&h, RB_CMD_CANCEL, NULL), "!a/1");
	refused(&h, RB_CMD_HALT, NULL, NULL, "halt: the run is ending already");
	(void)result(&h, "a", 1, LB_ECANCELED);
	(void)result(&h, "z", 1, 0);
	refused(&h, RB_CMD_CANCEL, NULL, NULL, "cancel: the run has ended: ABORTED");
	end(&h);
}

static void a_timeout_cancels_first_and_then_tries_again(void **state)
{
	struct h h;

	(void)state;
	begin(&h, "steps:\n  - {id: a, action: exec, run: [/x], timeout: 60s, retries: 1, backoff: "
		  "5s, on_timeout: ask}\n");
	assert_string_equal(tick(&h, 59), "");
	assert_string_equal(tick(&h, 1), "!a/1");
	assert_int_equal(state_of(&h, "a"), RB_STEP_STOPPING);
	assert_string_equal(tick(&h, 29), ""); /* R3: not before the old attempt has ended */
	assert_string_equal(result(&h, "a", 1, LB_ECANCELED), "");
	assert_string_equal(tick(&h, 5), ">a/2");
	assert_string_equal(tick(&h, 60), "!a/2");
	/* it was done in the last moment: that counts */
	assert_string_equal(result(&h, "a", 2, 0), "");
	assert_int_equal(rb_engine_state(h.e), RB_RUN_DONE);
	end(&h);
}

static void what_never_ends_is_given_up_and_not_retried(void **state)
{
	struct h h;
	struct rb_step_view v;

	(void)state;
	begin(&h, "steps:\n  - {id: a, action: exec, run: [/x], timeout: 60s, retries: 5}\n");
	(void)tick(&h, 60);
	assert_string_equal(tick(&h, RB_CANCEL_GRACE_NS / S_NS), "");
	assert_string_equal(h.logged, "13");
	assert_int_equal(state_of(&h, "a"), RB_STEP_WAITING);
	rb_engine_step_view(h.e, 0, &v);
	assert_int_equal(v.code, LB_ETIMEDOUT);
	assert_string_equal(result(&h, "a", 1, 0), ""); /* too late: ignored */
	assert_string_equal(h.logged, "");
	assert_string_equal(command(&h, RB_CMD_RETRY, "a"), ">a/2"); /* a person may */
	end(&h);
}

static void cancel_ends_what_runs_and_runs_finally(void **state)
{
	struct h h;

	(void)state;
	begin(&h, diamond);
	(void)result(&h, "a", 1, 0);
	assert_string_equal(command(&h, RB_CMD_CANCEL, NULL), "!b/1 !c/1");
	assert_int_equal(state_of(&h, "d"), RB_STEP_CANCELLED);
	assert_string_equal(result(&h, "b", 1, LB_ECANCELED), "");
	assert_string_equal(result(&h, "c", 1, 0), ">z/1");
	assert_int_equal(state_of(&h, "c"), RB_STEP_DONE);
	assert_string_equal(result(&h, "z", 1, LB_EIO), "");
	assert_int_equal(state_of(&h, "z"), RB_STEP_FAILED);
	assert_int_equal(rb_engine_state(h.e), RB_RUN_ABORTED);
	end(&h);

	begin(&h, diamond); /* cancelled because it had failed */
	(void)result(&h, "a", 1, LB_EIO);
	assert_string_equal(command(&h, RB_CMD_CANCEL, NULL), ">z/1");
	(void)result(&h, "z", 1, 0);
	assert_int_equal(rb_engine_state(h.e), RB_RUN_FAILED);
	end(&h);
}

static void unattended_fails_instead_of_asking(void **state)
{
	struct h h;

	(void)state;
	begin_as(&h, diamond, RB_DRILL, true);
	(void)result(&h, "a", 1, 0);
	assert_string_equal(result(&h, "b", 1, LB_EIO), ""); /* c may end first */
	refused(&h, RB_CMD_CONTINUE, NULL, NULL, "continue: the run is ending already");
	assert_string_equal(result(&h, "c", 1, 0), ">z/1");
	(void)result(&h, "z", 1, 0);
	assert_int_equal(rb_engine_state(h.e), RB_RUN_FAILED);
	end(&h);
}

static void wait_is_the_engines_own(void **state)
{
	struct h h;

	(void)state;
	begin(&h, "steps:\n  - {id: w, action: wait, for: 10s}\n  - {id: a, action: report, needs: "
		  "[w]}\n");
	assert_string_equal(h.did, "");
	assert_int_equal(rb_engine_deadline_ns(h.e), 10 * S_NS);
	assert_string_equal(tick(&h, 10), ">a/1");
	end(&h);
	begin(&h, "steps:\n  - {id: w, action: wait, for: 10s}\n");
	assert_string_equal(command(&h, RB_CMD_CANCEL, NULL), "");
	assert_int_equal(rb_engine_state(h.e), RB_RUN_ABORTED);
	end(&h);
}

static void answers_to_nothing_are_ignored(void **state)
{
	struct h h;

	(void)state;
	begin(&h, "steps:\n  - {id: a, action: exec, run: [/x], retries: 1, backoff: 1s}\n  - {id: "
		  "b, action: report, needs: [a]}\n");
	assert_string_equal(result(&h, "a", 2, 0), "");
	assert_string_equal(h.logged, "");
	assert_string_equal(result(&h, "b", 1, 0), "");
	assert_string_equal(h.logged, "");
	(void)result(&h, "a", 1, LB_EIO);
	assert_string_equal(result(&h, "a", 1, 0), "");
	assert_string_equal(h.logged, "");
	end(&h);
}

static void budget_marks_late_and_nothing_more(void **state)
{
	struct h h;
	struct rb_step_view v;

	(void)state;
	begin(&h, "steps:\n  - {id: a, action: report, budget: 10s}\n");
	(void)tick(&h, 10);
	rb_engine_step_view(h.e, 0, &v);
	assert_false(v.late);
	(void)tick(&h, 1);
	rb_engine_step_view(h.e, 0, &v);
	assert_true(v.late);
	(void)result(&h, "a", 1, 0);
	assert_int_equal(rb_engine_state(h.e), RB_RUN_DONE);
	end(&h);
}

/* ---- replay ---- */

static struct rb_engine *replayed(struct h *h, size_t count)
{
	struct rb_engine *e = NULL;

	assert_int_equal(rb_engine_create(&e, h->rb, RB_FAILOVER, false, NULL), 0);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(rb_engine_replay(e, &h->log[i], NULL), 0);
	return e;
}

static void replay_gives_the_same_state(void **state)
{
	struct h h;
	struct rb_engine *e;

	(void)state;
	begin(&h, diamond);
	(void)result(&h, "a", 1, 0);
	(void)tick(&h, 61); /* b and c time out */
	(void)result(&h, "b", 1, LB_ECANCELED);
	e = replayed(&h, h.log_count);
	assert_int_equal(rb_engine_state(e), rb_engine_state(h.e));
	for (uint32_t i = 0; i < h.rb->step_count; i++) {
		struct rb_step_view x, y;

		rb_engine_step_view(e, i, &x);
		rb_engine_step_view(h.e, i, &y);
		assert_int_equal(x.state, y.state);
		assert_int_equal(x.attempt, y.attempt);
		assert_int_equal(x.start_ns, y.start_ns);
	}
	rb_engine_destroy(h.e);
	h.e = e;
	h.now_ns += S_NS;
	assert_int_equal(tell(&h, (struct rb_event){.kind = RB_EV_RESUME, .generation = 2}, NULL),
			 0);
	/* c was being cancelled: it is adopted and cancelled again; b waits for a person */
	assert_string_equal(h.did, "~c/1 !c/1");
	assert_int_equal(rb_engine_generation(h.e), 2);
	end(&h);
}

static void a_resumed_attempt_gets_its_whole_timeout(void **state)
{
	struct h h;
	struct rb_engine *e;

	(void)state;
	begin(&h, "steps:\n  - {id: a, action: exec, run: [/x], timeout: 60s}\n");
	(void)tick(&h, 50);
	e = replayed(&h, h.log_count);
	rb_engine_destroy(h.e);
	h.e = e;
	assert_int_equal(tell(&h, (struct rb_event){.kind = RB_EV_RESUME, .generation = 2}, NULL),
			 0);
	assert_string_equal(h.did, "~a/1");
	assert_int_equal(rb_engine_deadline_ns(h.e), h.now_ns + 60 * S_NS);
	end(&h);
}

static void impossible_records_are_refused(void **state)
{
	struct h h;
	const struct rb_record bad[] = {
		{.type = RB_REC_BEGIN, .generation = 1},
		{.type = RB_REC_RESUME, .generation = 1},
		{.type = RB_REC_START, .generation = 1, .step = 1, .attempt = 1}, /* a runs */
		{.type = RB_REC_START, .generation = 1, .step = 0, .attempt = 1},
		{.type = RB_REC_START, .generation = 1, .step = 99, .attempt = 1},
		{.type = RB_REC_RESULT, .generation = 1, .step = 0, .attempt = 2},
		{.type = RB_REC_RESULT, .generation = 1, .step = 0, .attempt = 1, .code = 7},
		{.type = RB_REC_RESULT, .generation = 2, .step = 0, .attempt = 1},
		{.type = RB_REC_RESULT, .generation = 1, .step = 1, .attempt = 0},
		{.type = RB_REC_TIMEOUT, .generation = 1, .step = 0, .attempt = 1}, /* too early */
		{.type = RB_REC_GIVEUP, .generation = 1, .step = 0, .attempt = 1},
		{.type = RB_REC_COMMAND, .generation = 1, .command = RB_CMD_RETRY, .step = 0},
		{.type = RB_REC_COMMAND, .generation = 1, .command = RB_CMD_SKIP, .step = 1},
		{.type = RB_REC_END, .generation = 1, .state = RB_RUN_DONE},
	};

	(void)state;
	begin(&h, diamond);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct rb_engine *e = replayed(&h, h.log_count);
		struct rb_record r = bad[i];

		r.seq = h.log_count + 1;
		if (rb_engine_replay(e, &r, NULL) != LB_ECORRUPT)
			fail_msg("record %zu was taken", i);
		r = (struct rb_record){.type = RB_REC_RESULT, .generation = 1, .attempt = 1};
		r.seq = h.log_count + 2; /* a gap */
		assert_int_equal(rb_engine_replay(e, &r, NULL), LB_ECORRUPT);
		r.seq = h.log_count + 1;
		assert_int_equal(rb_engine_replay(e, &r, NULL), 0); /* none of them left a trace */
		rb_engine_destroy(e);
	}
	end(&h);
}

static void a_mode_the_runbook_lacks_is_refused(void **state)
{
	struct h h;
	struct rb_engine *e = NULL;

	(void)state;
	begin(&h, "modes: [failover]\nsteps:\n  - {id: a, action: report}\n");
	assert_int_equal(rb_engine_create(&e, h.rb, RB_DRILL, false, NULL), LB_EINPUT);
	end(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(steps_run_in_parallel_by_their_needs),
		cmocka_unit_test(groups_are_barriers),
		cmocka_unit_test(a_left_out_step_passes_on_what_it_waits_for),
		cmocka_unit_test(retries_back_off_and_double),
		cmocka_unit_test(a_fenced_answer_is_not_retried),
		cmocka_unit_test(halt_stops_the_others_and_ask_does_not),
		cmocka_unit_test(a_retry_starts_while_another_step_halts),
		cmocka_unit_test(an_operators_halt_holds_new_steps_only),
		cmocka_unit_test(commands_that_do_not_fit_are_refused_with_the_reason),
		cmocka_unit_test(a_timeout_cancels_first_and_then_tries_again),
		cmocka_unit_test(what_never_ends_is_given_up_and_not_retried),
		cmocka_unit_test(cancel_ends_what_runs_and_runs_finally),
		cmocka_unit_test(unattended_fails_instead_of_asking),
		cmocka_unit_test(wait_is_the_engines_own),
		cmocka_unit_test(answers_to_nothing_are_ignored),
		cmocka_unit_test(budget_marks_late_and_nothing_more),
		cmocka_unit_test(replay_gives_the_same_state),
		cmocka_unit_test(a_resumed_attempt_gets_its_whole_timeout),
		cmocka_unit_test(impossible_records_are_refused),
		cmocka_unit_test(a_mode_the_runbook_lacks_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

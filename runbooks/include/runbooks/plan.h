/*
 * runbooks/plan.h - what a run would do and when, as data. Executes nothing, asks nobody.
 *
 * The schedule assumes no resource limits: a step starts as soon as what it waits for (needs, group
 * barriers; for finally: everything) has ended. Slack is how much later it could end without moving
 * the end of the run; the critical path is what has none (Kelley and Walker, CPM, 1959).
 */
#ifndef RUNBOOKS_PLAN_H
#define RUNBOOKS_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runbooks/lang.h"

struct rb_plan_step {
	uint32_t step;      /* index into the runbook's steps */
	uint32_t wave;      /* 0: starts at once; n: waits for a step of wave n-1 */
	uint64_t start_ns;  /* expected, from the start of the run */
	uint64_t expect_ns; /* expected duration */
	uint64_t slack_ns;
	uint64_t
		worst_ns; /* longest it can take before its policy decides: timeouts and backoffs */
	bool critical;    /* on the critical path */
};

struct rb_plan {
	enum rb_mode mode;
	struct rb_plan_step *steps; /* those of the mode, by (wave, step) */
	size_t step_count;
	uint32_t wave_count;
	uint64_t total_ns; /* expected time of the run */
	uint64_t ready_ns; /* end of the last step that is not finally: what the rto means */
	uint64_t rto_ns;   /* goal, 0: none */
	bool fits_rto;     /* true when there is no goal */
};

/*
 * @expect_ns: one value per step of the runbook (from drill history), 0 = unknown; NULL = all
 * unknown. Unknown is taken as the step's budget, else as half its timeout (wait: its time). *out
 * is the caller's. Errors: LB_EINPUT when the runbook has no such mode, LB_ENOMEM.
 */
int rb_plan_create(struct rb_plan **out, const struct rb_runbook *rb, enum rb_mode mode,
		   const uint64_t *expect_ns, struct lb_err *err);
void rb_plan_destroy(struct rb_plan *p); /* NULL is allowed */

/* The plan as a table for people, '*' marks the critical path. Free it. NULL: no memory. */
char *rb_plan_text(const struct rb_plan *p, const struct rb_runbook *rb);

#endif

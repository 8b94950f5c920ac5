/*
 * run_int.h - replay of a log into a runbook and its engine; shared with the fuzzer and the crash
 * tests.
 */
#ifndef RUNBOOKS_RUN_INT_H
#define RUNBOOKS_RUN_INT_H

#include "engine_int.h"
#include "runbooks/run.h"
#include "runlog_int.h"

struct rb_replay {
	struct rb_runbook *rb;
	struct rb_engine *engine; /* NULL until the BEGIN record was seen */
	struct rb_log_begin begin;
	uint64_t began_wall_ns;
	enum rb_test_bug test_bug; /* given to the engine */
};

/* rb_log_fn: feed one record. Errors: LB_ECORRUPT, LB_ENOMEM. */
int rb_replay_record(void *replay, const struct rb_record *r, const struct rb_log_begin *begin,
		     struct lb_err *err);
void rb_replay_fini(struct rb_replay *p);

/* Tests only: the bug that later start/open calls give to their engines is in the run's own engine.
 */
void rb_run_seed_bug(struct rb_run *r, enum rb_test_bug bug);
int rb_run_open_bug(struct rb_run **out, const struct rb_run_cfg *cfg, enum rb_test_bug bug,
		    struct lb_err *err);

#endif

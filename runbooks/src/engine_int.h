/*
 * engine_int.h - the engine's state, shared by engine.c (decides) and engine_apply.c (applies
 * records).
 *
 * Split so that R4 holds by construction: only rb_apply() changes what a run is, and it sees
 * nothing but the record; what to log next is decided in engine.c from that state.
 */
#ifndef RUNBOOKS_ENGINE_INT_H
#define RUNBOOKS_ENGINE_INT_H

#include "runbooks/engine.h"

/* Seeded bugs: the crash and property tests switch one on and must fail. Zero in the product. */
enum rb_test_bug {
	RB_BUG_NONE,
	RB_BUG_EFFECT_BEFORE_LOG,    /* breaks R1 */
	RB_BUG_IGNORE_NEEDS,         /* breaks R2 */
	RB_BUG_RETRY_WHILE_STOPPING, /* breaks R3 */
	RB_BUG_NEW_NAME_ON_RESUME,   /* breaks R5: the effect is done under a second name */
	RB_BUG_FORGET_ON_RESUME,     /* breaks R5 and R6: nothing is asked for again */
	RB_BUG_SAME_GENERATION,      /* breaks R5: a superseded engine could still act */
	RB_BUG_COUNT
};

struct rb_step_run {
	enum rb_step_state st;
	uint32_t attempt, starts;
	uint32_t tries; /* in this series; an operator's retry begins a new one */
	int32_t code;
	bool passed; /* NOT_IN_MODE: all it waits for has ended, so it counts as ended too */
	bool forced; /* retry by an operator: starts although the run is halted */
	bool halts;  /* WAITING, and the whole run waits with it */
	bool timed_out;
	bool asked;     /* the verb of this generation owes an answer */
	bool start_due; /* ask once .start_seq is durable */
	bool cancel_due;
	bool reissue;
	uint64_t start_seq, cancel_seq;
	uint64_t first_ns, start_ns, end_ns, retry_ns, deadline_ns;
	char detail[RB_DETAIL_BYTES];
	char reason[RB_DETAIL_BYTES];
};

struct rb_engine {
	const struct rb_runbook *rb;
	enum rb_mode mode;
	bool unattended;
	bool begun;
	bool operator_halt;
	bool failing;    /* unattended and something halted: no step starts any more */
	bool cancelling; /* by an operator */
	bool failed_at_cancel;
	enum rb_run_state end; /* RB_RUN_NEW until there is an END record */
	uint32_t generation;
	uint64_t seq, logged_seq;
	uint64_t now_ns, end_ns;
	struct rb_step_run *steps;
	struct rb_todo *todos;
	size_t todo_count, todo_cap;
	enum rb_test_bug test_bug;
};

bool rb_step_state_ended(enum rb_step_state s);
bool rb_step_ended(const struct rb_engine *e, uint32_t i);
/* Every step before the finally steps has ended. */
bool rb_normal_ended(const struct rb_engine *e);
bool rb_is_halted(const struct rb_engine *e);
/* What END record this state leads to. */
enum rb_run_state rb_end_state(const struct rb_engine *e);
/* True when step @i may start at run time @now_ns. */
bool rb_may_start(const struct rb_engine *e, uint32_t i, uint64_t now_ns);
/* 0, or LB_EINPUT and why command @r does not fit. */
int rb_check_command(const struct rb_engine *e, const struct rb_record *r, struct lb_err *err);
/* 0, or LB_ECORRUPT when @r cannot follow this state. */
int rb_check_record(const struct rb_engine *e, const struct rb_record *r, struct lb_err *err);
/* Change the state by @r, which passed rb_check_record(). */
void rb_apply(struct rb_engine *e, const struct rb_record *r);

#endif

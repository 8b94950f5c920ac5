/*
 * runbooks/engine.h - the run of a runbook as a pure state machine: step(event, now) -> actions.
 *
 *                    ┌── last answer given [continue|retry|skip] ──┐
 *                    ▼                                             │
 *   [begin] ──► RUNNING ── a step fails, policy halt; [halt] ──► HALTED
 *                 │  └─ nothing left to start but what asks ──────►│
 *      all ended  │                     [cancel], or unattended    │
 *                 ▼                                  ▼◄────────────┘
 *             (finally steps of the runbook run, whatever happened)
 *                 ▼                                  ▼
 *      DONE | DONE-WITH-WARNINGS              ABORTED | FAILED
 *
 *   one step:  PENDING ─► RUNNING ─► DONE
 *                 ▲         │ fails or times out (then the verb is cancelled first: STOPPING)
 *                 │         ├─ tries left ─► BACKOFF ─► RUNNING (attempt + 1)
 *                 │         ├─ policy continue ─► FAILED (a warning; what needs it runs)
 *                 └[retry]──┴─ halt, ask ─► WAITING ─[skip]─► SKIPPED, [continue]─► FAILED
 *
 * Invariants: (R1) an effect is asked for only after the record that starts it is durable
 * (RB_EV_LOGGED). (R2) a step starts only when all it waits for has ended. (R3) one attempt of a
 * step at a time: after a timeout the next starts only when the verb said that the old one has
 * ended. (R4) the state is a function of the records alone: replaying the log gives the same state.
 * (R5) after a restart every effect started and not ended is asked for again under the same (run,
 * step, attempt) and a higher generation. (R6) when all verbs answer, a run ends or waits for a
 * person; it is never stuck.
 *
 * Time is run time: ns since the begin of the run, standing still while no engine has it open.
 * The engine does no I/O and, after create, allocates nothing. Thread: one at a time.
 */
#ifndef RUNBOOKS_ENGINE_H
#define RUNBOOKS_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runbooks/lang.h"

#define RB_DETAIL_BYTES 1025u /* of one result or reason; longer is cut */

/* Numbers are stored in the log: never reused. */
enum rb_run_state {
	RB_RUN_NEW = 0, /* no RB_REC_BEGIN yet */
	RB_RUN_RUNNING = 1,
	RB_RUN_HALTED = 2,
	RB_RUN_DONE = 3,
	RB_RUN_DONE_WITH_WARNINGS = 4,
	RB_RUN_FAILED = 5,
	RB_RUN_ABORTED = 6,
};
enum rb_step_state {
	RB_STEP_PENDING,
	RB_STEP_RUNNING,
	RB_STEP_STOPPING, /* timed out or the run was cancelled; waits for the verb to end */
	RB_STEP_BACKOFF,
	RB_STEP_WAITING, /* failed; an operator must say retry, skip or continue */
	RB_STEP_DONE,
	RB_STEP_FAILED,  /* failed for good; a warning of the run */
	RB_STEP_SKIPPED, /* by an operator */
	RB_STEP_CANCELLED,
	RB_STEP_NOT_IN_MODE,
};
const char *rb_run_state_name(enum rb_run_state s);   /* "RUNNING", "DONE-WITH-WARNINGS", ... */
const char *rb_step_state_name(enum rb_step_state s); /* "pending", "not-in-mode", ... */
bool rb_run_state_ended(enum rb_run_state s);

/* Numbers are stored in the log: never reused. */
enum rb_command {
	RB_CMD_HALT = 0,
	RB_CMD_CONTINUE = 1,
	RB_CMD_RETRY = 2,
	RB_CMD_SKIP = 3,
	RB_CMD_CANCEL = 4,
	RB_CMD_COUNT
};
const char *rb_command_name(enum rb_command c);

/* Numbers are stored in the log: never reused. */
enum rb_record_type {
	RB_REC_BEGIN = 1,    /* first of every log; payload in docs/formats/runlog.md */
	RB_REC_RESUME = 2,   /* an engine took the log over under a new generation */
	RB_REC_START = 10,   /* step, attempt */
	RB_REC_RESULT = 11,  /* step, attempt, code, text */
	RB_REC_TIMEOUT = 12, /* step, attempt: the verb is being cancelled */
	RB_REC_GIVEUP = 13,  /* step, attempt: it did not end after the cancel either */
	RB_REC_COMMAND = 20, /* command, step, who, text = reason */
	RB_REC_END = 30,     /* state */
};

struct rb_record {
	enum rb_record_type type;
	uint64_t seq;        /* from 1 */
	uint64_t t_ns;       /* run time */
	uint64_t wall_ns;    /* since 1970, for people */
	uint32_t generation; /* of the engine that wrote it, from 1 */
	uint32_t step;       /* or RB_NO_STEP */
	uint32_t attempt;    /* from 1 */
	int32_t code;        /* RESULT: 0 or a negative lb_code */
	enum rb_command command;
	enum rb_run_state state; /* END */
	const char *who;         /* COMMAND, BEGIN; borrowed */
	const char *text;        /* RESULT: detail; COMMAND: reason; borrowed */
};

enum rb_event_kind {
	RB_EV_LOGGED,  /* all records up to .seq are durable */
	RB_EV_RESULT,  /* the verb of (.step, .attempt) ended with .code, .text */
	RB_EV_TICK,    /* time passed */
	RB_EV_COMMAND, /* .command, .step, .who, .text */
	RB_EV_RESUME,  /* after replay: take over under .generation */
};
struct rb_event {
	enum rb_event_kind kind;
	uint64_t seq;
	uint32_t step, attempt, generation;
	int32_t code;
	enum rb_command command;
	const char *who, *text;
};

enum rb_do {
	RB_DO_LOG,    /* append .record; when durable answer with RB_EV_LOGGED */
	RB_DO_START,  /* ask the verb for the effect of (.step, .attempt) */
	RB_DO_CANCEL, /* tell the verb of (.step, .attempt) to end soon; it still answers */
};
struct rb_todo {
	enum rb_do what;
	struct rb_record record;
	uint32_t step, attempt, generation;
	bool reissued; /* START: an earlier generation may have done it already */
};
struct rb_todos { /* in order; borrowed from the engine until its next call */
	const struct rb_todo *items;
	size_t count;
};

struct rb_step_view {
	enum rb_step_state state;
	uint32_t attempt;  /* 0: never started */
	uint32_t starts;   /* how often an effect was asked for, re-issues included */
	int32_t code;      /* of the last result */
	bool late;         /* ran longer than its budget, at the last event */
	uint64_t first_ns; /* run time of the first start */
	uint64_t start_ns; /* of the last start */
	uint64_t end_ns;
	uint64_t retry_ns;  /* BACKOFF: next try */
	const char *detail; /* of the last result, "" when none */
	const char *reason; /* SKIPPED: the operator's */
};

struct rb_engine;

/* @rb is borrowed until destroy. @unattended: nobody answers: what would halt or ask fails the run.
 * Errors: LB_EINPUT when the runbook has no such mode, LB_ENOMEM. */
int rb_engine_create(struct rb_engine **out, const struct rb_runbook *rb, enum rb_mode mode,
		     bool unattended, struct lb_err *err);
void rb_engine_destroy(struct rb_engine *e); /* NULL is allowed */

/* The first record of a new run; exactly once, on a new engine. @out: one RB_DO_LOG. */
void rb_engine_begin(struct rb_engine *e, struct rb_todos *out);

/*
 * Replay one record of the log, in order, before any rb_engine_step(). LB_ECORRUPT when it does not
 * fit the state (a log that no engine can have written).
 */
int rb_engine_replay(struct rb_engine *e, const struct rb_record *r, struct lb_err *err);

/*
 * One event at run time @now_ns (never smaller than before). *out: what to do, in this order.
 * A result of a superseded attempt or a second one is ignored (*out empty).
 * Errors: LB_EINPUT, a command that does not fit the state, with the reason; nothing changed then.
 */
int rb_engine_step(struct rb_engine *e, const struct rb_event *ev, uint64_t now_ns,
		   struct rb_todos *out, struct lb_err *err);

/* Run time of the next RB_EV_TICK that matters; UINT64_MAX: none. */
uint64_t rb_engine_deadline_ns(const struct rb_engine *e);

enum rb_run_state rb_engine_state(const struct rb_engine *e);
bool rb_engine_in_finally(const struct rb_engine *e);
uint32_t rb_engine_generation(const struct rb_engine *e);
uint64_t rb_engine_end_ns(const struct rb_engine *e); /* run time of the END record, 0: none */
void rb_engine_step_view(const struct rb_engine *e, uint32_t step, struct rb_step_view *out);

#endif

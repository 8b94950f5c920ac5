/*
 * runbooks/run.h - the shell around the engine: one run = one log file, verbs, operator, listener.
 *
 * rb_run_start() makes the log; rb_run_open() takes over the log of a run that was interrupted at
 * any instant (kill -9, power cut) and goes on by itself; rb_run_load() only reads. The log holds
 * the runbook's text and the facts, so a run does not change when files around it do. Format:
 * docs/formats/runlog.md. Each record carries the SHA-256 of the one before it.
 *
 * Exactly once: an effect is named by (run, step, attempt). A verb MUST be idempotent by that name:
 * asked again (reissued, higher generation) it finds out first whether the effect is there already
 * (query), and finishes or adopts it; and it MUST refuse a generation lower than one it has seen
 * for the same run. Where the outside can store the name (domain metadata, an object's key, the
 * role record) it goes there in the same atomic act as the effect. A verb also cleans up what an
 * EARLIER attempt of its step left behind.
 *
 * Thread: all calls on the owner's thread. Log writes and syncs block it (some hundred bytes each).
 * No callback runs inside rb_run_start() or rb_run_open(): they run from rb_run_pump() on.
 */
#ifndef RUNBOOKS_RUN_H
#define RUNBOOKS_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "runbooks/engine.h"
#include "runbooks/lang.h"

struct lb_env;
struct lb_err;
struct lb_fs;
struct rb_run;

struct rb_token {
	struct lb_id run;
	uint32_t step;
	uint32_t attempt;    /* (run, step, attempt) names the effect */
	uint32_t generation; /* of the engine that asks; not part of the name */
};

/* One effect asked of the verbs. All pointers are borrowed until rb_run_effect_done(). */
struct rb_effect {
	struct rb_token token;
	const struct rb_step *step; /* action, machine, site, point, probes, ... */
	const struct rb_runbook *runbook;
	enum rb_mode mode;
	const char *const *argv; /* exec: expanded, NULL-terminated; else NULL */
	bool reissued;           /* an earlier generation may have done it, in whole or in part */
};

struct rb_result {
	int code;                     /* 0 or a negative lb_code */
	char detail[RB_DETAIL_BYTES]; /* one line for people and the report */
};

/*
 * What a runbook can do, implemented by the owner (embed it). RB_WAIT never arrives here.
 * start():  begin the effect; answer later, exactly once, with rb_run_effect_done(). Never blocks.
 * cancel(): end soon (timeout, operator's cancel) and still answer once, LB_ECANCELED or as it
 * ended. If it has not answered after RB_CANCEL_GRACE_NS the step is given up: never retried by
 * itself. query():  optional; asked before a re-issue: true when the effect of (run, step, attempt)
 * is known to have ended, with its result. Local knowledge only, never blocks. Then start() is not
 * called.
 */
struct rb_verbs {
	void (*start)(struct rb_verbs *v, struct rb_run *run, const struct rb_effect *e);
	void (*cancel)(struct rb_verbs *v, struct rb_run *run, const struct rb_token *t);
	bool (*query)(struct rb_verbs *v, const struct rb_effect *e, struct rb_result *out);
};
#define RB_CANCEL_GRACE_NS (30ull * 1000000000ull)

/* Told after the fact, when the record is durable. All may be NULL. Not from inside: command,
 * destroy. */
struct rb_listener {
	/* Something changed; @step is RB_NO_STEP for the run as a whole. */
	void (*changed)(void *arg, struct rb_run *run, uint32_t step);
	/* Call rb_run_tick() at @at_ns of lb_env.now_ns (UINT64_MAX: no need). Replaces the one
	 * before. */
	void (*wake_at)(void *arg, struct rb_run *run, uint64_t at_ns);
	void *arg;
};

struct rb_run_cfg {
	struct lb_env *env;     /* borrowed: clock, random */
	struct lb_fs *fs;       /* borrowed */
	const char *path;       /* log file in @fs; its directory exists */
	struct rb_verbs *verbs; /* borrowed */
	struct rb_listener listener;
	/* rb_run_start() only: */
	const char *source_name; /* of the runbook, for messages: "tokyo.yaml" */
	const char *source;      /* its text */
	size_t source_bytes;
	enum rb_mode mode;
	bool unattended; /* nobody answers (scheduled drill): halt and ask fail the run */
	const char *who; /* who started it, for the log */
	const struct rb_fact *facts; /* site.source, site.target; others are made here */
	size_t fact_count;
};

/* Errors: LB_EINPUT (runbook, mode, facts), LB_EEXIST (path), LB_EIO, LB_ENOSPC, LB_ENOMEM. After
 * any error no effect has been asked for, and no log is left that one could open. *out is the
 * caller's: rb_run_destroy(). */
int rb_run_start(struct rb_run **out, const struct rb_run_cfg *cfg, struct lb_err *err);

/*
 * Take over: cut a torn tail, replay, log the new generation. A run that had ended opens too
 * (status only). Errors: LB_EBUSY (another process has it), LB_ECORRUPT (damage before the tail:
 * nothing is changed), LB_ENOTFOUND (no file, or a start that died before it began: remove it),
 * LB_EIO, LB_ENOSPC, LB_ENOMEM.
 */
int rb_run_open(struct rb_run **out, const struct rb_run_cfg *cfg, struct lb_err *err);

/* Read a log without taking it over or changing it; only the status functions may be called then.
 */
int rb_run_load(struct rb_run **out, struct lb_fs *fs, const char *path, struct lb_err *err);

/* Closes the log. Effects under way are not told; open() asks for them again. NULL is allowed. */
void rb_run_destroy(struct rb_run *r);

/* Once after start or open: the first steps. Errors: as rb_run_tick(). */
int rb_run_pump(struct rb_run *r, struct lb_err *err);
/* Time passed. Errors: LB_EIO, LB_ENOSPC: the log cannot be written; from then on no effect is
 * asked for and every call gives LB_ESUSPECT until the run is opened again. */
int rb_run_tick(struct rb_run *r, struct lb_err *err);
/* lb_env.now_ns of the next rb_run_tick() that matters, as wake_at() was told; UINT64_MAX: none. */
uint64_t rb_run_deadline_ns(const struct rb_run *r);
/* The verb's answer; may be called from inside start() too. Answers to attempts that are over are
 * ignored.
 * @code > 0 is a bug. Errors: as rb_run_tick(). */
int rb_run_effect_done(struct rb_run *r, const struct rb_token *t, int code, const char *detail,
		       struct lb_err *err);
/* Progress of a running effect for the status, not logged ("63 % of 40 GiB"). */
void rb_run_effect_note(struct rb_run *r, const struct rb_token *t, const char *note);

/*
 * An operator's command: halt, continue, retry STEP, skip STEP reason, cancel. @step_id and @reason
 * are NULL where they do not apply; skip needs a reason. Durable when it returns 0. Errors:
 * LB_EINPUT (does not fit the state; says why), LB_EBUSY (from inside a callback), as
 * rb_run_tick().
 */
int rb_run_command(struct rb_run *r, enum rb_command c, const char *step_id, const char *who,
		   const char *reason, struct lb_err *err);

/* ---- status: values only, strings borrowed until the next call on the run ---- */
struct rb_run_status {
	struct lb_id id;
	const char *name;
	enum rb_mode mode;
	enum rb_run_state state;
	bool in_finally;
	bool unattended;
	uint32_t generation;
	uint64_t elapsed_ns;                  /* run time so far, or of the whole run */
	uint64_t rto_ns;                      /* goal; 0: none */
	uint64_t began_wall_ns, last_wall_ns; /* first and newest record */
	uint64_t record_count;
	struct lb_hash head; /* SHA-256 of the newest record: names the whole log */
	size_t step_count;
	size_t ended, running, waiting, failed; /* steps; waiting: for an operator */
	const char *who;
	const char *log_error; /* "" or why the log cannot be written */
};
struct rb_step_status {
	const struct rb_step *step;
	struct rb_step_view view;
	const char *note; /* newest rb_run_effect_note() of the running attempt, or "" */
};
void rb_run_status(const struct rb_run *r, struct rb_run_status *out);
void rb_run_step_status(const struct rb_run *r, uint32_t step, struct rb_step_status *out);
const struct rb_runbook *rb_run_runbook(const struct rb_run *r);

#endif

/*
 * siteagent/src/runs_int.h - between runs.c (which runs there are) and verbs.c (what a step does).
 *
 * A boot is one machine started by one step. It lives in <state_dir>/boots/<run>/<step>: view maps,
 * sockets, overlays, serial log. Drill boots are removed when their run has ended; failover boots
 * stay, and outlive the agent.
 */
#ifndef SITEAGENT_RUNS_INT_H
#define SITEAGENT_RUNS_INT_H

#include <stdbool.h>

#include "agent_int.h"
#include "runbooks/run.h"

#define SA_DETAIL_BYTES 512u

struct sa_boot {
	struct sa_boot *next;
	uint32_t step;
	char machine[SA_NAME_BYTES];
	char domain[SA_NAME_BYTES];
	char address[SA_HOST_BYTES]; /* numeric, "" unknown */
	char dir[SA_PATH_BYTES];
	struct lb_hash point;
	uint64_t point_seq;
	uint64_t point_wall_ns;
	uint64_t booted_ns;
	struct sa_hv_machine *vm; /* used by one worker at a time */
};

struct sa_run {
	struct sa_runs *runs;
	struct sa_run *next; /* newest first */
	struct rb_run *run;
	struct lb_timer *wake;
	char path[64]; /* of the log, below state_dir */
	char id[LB_ID_TEXT];
	enum rb_mode mode;
	bool live; /* opened, not only loaded */
	bool cleaning;
	struct sa_boot *boots;
	struct verb *verbs; /* under way; verbs.c */
};

struct sa_runs {
	struct rb_verbs verbs; /* first: the vtable finds its owner by it */
	struct sa_agent *agent;
	struct sa_run *first;
};

/* verbs.c */
void sa_verbs_init(struct rb_verbs *v);
struct sa_run *sa_run_of(struct sa_runs *r, const struct rb_run *run);
/* Stop what a drill booted, remove its directory. Asynchronous. */
void sa_verbs_clean_drill(struct sa_run *r);
/* The agent stops: drop handles, leave failover machines running. No verb may be under way (pool is
 * gone). */
void sa_verbs_drop(struct sa_run *r);
/* Console tail of a booted machine as JSON, NULL when there is none of that name. */
struct json_t *sa_run_console_json(struct sa_run *r, const char *machine);

/* report.c: the run as JSON, also what the report step writes. */
struct json_t *sa_run_report_json(struct sa_run *r);

#endif

/*
 * runbooks/lang.h - the runbook language: YAML text to a checked, immutable struct rb_runbook.
 *
 * Reference: docs/formats/runbook.md (written from the same table this checker uses). All problems
 * of a text come out in one run, each with file:line:col, caret and "did you mean". What the
 * language of a later version knows and this one does not run (approve, undo, ...) is refused by
 * name, never ignored.
 *
 * Ownership: a struct rb_runbook owns everything it points to; readers borrow. Thread: any,
 * immutable. Units: durations are ns. Indices into .steps are the step numbers of plan, engine and
 * log.
 */
#ifndef RUNBOOKS_LANG_H
#define RUNBOOKS_LANG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"

struct lb_err;
struct lb_conf;

#define RB_NAME_BYTES 65u /* 64 characters of [A-Za-z0-9._-] and a NUL */
#define RB_TEXT_BYTES 257u
#define RB_MAX_STEPS  512u
#define RB_MAX_NEEDS  128u
#define RB_MAX_GROUPS 64u
#define RB_MAX_PROBES 16u
#define RB_MAX_ARGS   64u
#define RB_MAX_VARS   128u
#define RB_MAX_MAPS   256u
#define RB_MAX_SOURCE (256u << 10) /* bytes of one runbook text */
#define RB_NO_GROUP   UINT32_MAX
#define RB_NO_STEP    UINT32_MAX

/* Append only: the numbers are not stored, the names are part of the language. */
#define RB_ACTIONS(X)                                                             \
	X(RB_FENCE, "fence", true, "make sure a site has no effect any more")     \
	X(RB_BOOT, "boot", true, "start a machine from a recovery point")         \
	X(RB_STOP, "stop", true, "stop a machine cleanly")                        \
	X(RB_PROBE, "probe", true, "check that a machine answers")                \
	X(RB_WAIT, "wait", true, "let time pass")                                 \
	X(RB_EXEC, "exec", true, "run a program; argv only, never a shell")       \
	X(RB_REPORT, "report", true, "write the report of the run")               \
	X(RB_MIGRATE, "migrate", false, "move a running machine to another host") \
	X(RB_APPROVE, "approve", false, "wait for people to agree")               \
	X(RB_PROMPT, "prompt", false, "ask the operator")                         \
	X(RB_HTTP, "http", false, "call a web hook")                              \
	X(RB_NETWORK, "network", false, "change an address or a route")           \
	X(RB_CAPACITY, "capacity", false, "reserve or free capacity")             \
	X(RB_COMMIT, "commit", false, "open the commit window")
#define RB_ACTION_ENUM(name, text, available, help) name,
enum rb_action {
	RB_ACTIONS(RB_ACTION_ENUM) RB_ACTION_COUNT
};
#undef RB_ACTION_ENUM

enum rb_mode {
	RB_DRILL = 0,
	RB_FAILOVER = 1,
	RB_PLANNED = 2,
	RB_MODE_COUNT
}; /* stored in the run log */

/* halt: no step starts any more until an operator decides. ask: only what depends on the failed
 * step waits. continue: the failure is a warning and what depends on the step runs. */
enum rb_policy {
	RB_POLICY_HALT,
	RB_POLICY_CONTINUE,
	RB_POLICY_ASK
};

enum rb_probe_kind {
	RB_PROBE_TCP,
	RB_PROBE_SERIAL,
	RB_PROBE_GUEST
};

struct rb_probe {
	enum rb_probe_kind kind;
	uint16_t port;            /* TCP: the machine accepts a connection */
	char text[RB_TEXT_BYTES]; /* SERIAL: a line of the console holds this; GUEST: "heartbeat" */
	uint64_t within_ns;       /* counted from the boot, or from the start of a probe step */
};

struct rb_step {
	char id[RB_NAME_BYTES];
	enum rb_action action;
	bool is_finally;
	unsigned modes;        /* bit (1u << enum rb_mode) */
	uint32_t group;        /* index, or RB_NO_GROUP */
	const uint32_t *needs; /* step indices */
	size_t need_count;
	enum rb_policy on_failure;
	enum rb_policy on_timeout;
	uint64_t timeout_ns;     /* of one attempt; 0 only for wait */
	uint64_t budget_ns;      /* shown as late beyond it, never enforced; 0: none */
	uint32_t retries;        /* further attempts after the first */
	uint64_t backoff_min_ns; /* wait before retry n: min * 2^(n-1), at most max */
	uint64_t backoff_max_ns;
	char site[RB_NAME_BYTES];    /* fence */
	char machine[RB_NAME_BYTES]; /* boot, stop, probe */
	char point[RB_NAME_BYTES];   /* boot: "latest-good" (default), "latest", or an id prefix */
	uint64_t wait_ns;            /* wait */
	const struct rb_probe *probes; /* boot, probe: all must pass */
	size_t probe_count;
	const char *const *run; /* exec: argv, not yet expanded, NULL-terminated */
	size_t run_count;
	unsigned line, column; /* of the step in the text, from 1 */
};

struct rb_group {
	char id[RB_NAME_BYTES];
	uint32_t priority; /* steps of a group start when all of smaller priority have ended */
	enum rb_policy on_member_failure;
};

struct rb_var {
	char name[RB_NAME_BYTES];
	char value[RB_TEXT_BYTES];
};

struct rb_map_network {
	char name[RB_NAME_BYTES];
	char to[RB_MODE_COUNT][RB_NAME_BYTES]; /* "" when not mapped in that mode */
};

struct rb_map_ip { /* host byte order; IPv4 in this version; from and to are equally long */
	uint32_t from, to;
	uint8_t prefix_bits;
};

struct rb_runbook {
	char name[RB_NAME_BYTES];
	uint64_t rto_ns; /* 0: no goal */
	unsigned modes;
	struct rb_var *vars;
	size_t var_count;
	struct rb_map_network *networks;
	size_t network_count;
	struct rb_map_ip *ips;
	size_t ip_count;
	struct rb_group *groups;
	size_t group_count;
	struct rb_step *steps; /* steps in the order of the text, then the finally steps */
	size_t step_count;
	size_t finally_first; /* index of the first finally step; step_count when there is none */
	char *source;         /* the text as given, source_bytes long, and a NUL */
	size_t source_bytes;
	struct lb_hash
		source_hash; /* SHA-256 of it: "has the runbook changed since it was verified" */
};

/*
 * Parse and check @len bytes named @name in messages. *out is set only when there is no problem at
 * all. *problems (may be NULL) is set to NULL or to the full text of all problems, with carets, to
 * be freed by the caller, in both cases. Errors: LB_EINPUT with the first problem in @err,
 * LB_ENOMEM.
 */
int rb_runbook_parse(struct rb_runbook **out, const char *name, const char *text, size_t len,
		     char **problems, struct lb_err *err);
void rb_runbook_destroy(struct rb_runbook *rb); /* NULL is allowed */

/* RB_NO_STEP when there is none of that id. */
uint32_t rb_runbook_find(const struct rb_runbook *rb, const char *step_id);
/* True when a run of @rb may start @b only after @a has ended: needs, group barrier, finally. */
bool rb_runbook_edge(const struct rb_runbook *rb, uint32_t a, uint32_t b);

/* JSON Schema draft-07 of the language from the checker's own table, for editors. Free it. NULL: no
 * memory. */
char *rb_schema_json(void);
/* The same table as the Markdown rows of docs/formats/runbook.md. Free it. NULL: no memory. */
char *rb_keys_markdown(void);

const char *rb_action_name(enum rb_action a);
const char *rb_mode_name(enum rb_mode m); /* "drill", "failover", "planned" */
const char *rb_policy_name(enum rb_policy p);
int rb_mode_parse(enum rb_mode *out, const char *text, struct lb_err *err); /* LB_EINPUT */

/*
 * Variables: "${name}" in exec.run is replaced when the step starts, "$$" is one "$". Known are the
 * runbook's vars and the facts run.id run.name run.mode step.id step.attempt site.source
 * site.target. Values are put into one argument each: nothing is split, nothing is a shell.
 */
struct rb_fact {
	const char *name;
	const char *value;
};
/* Expand @text into @out. Errors: LB_EINPUT: unknown name, bad "${", does not fit. */
int rb_expand(char *out, size_t out_bytes, const char *text, const struct rb_runbook *rb,
	      const struct rb_fact *facts, size_t fact_count, struct lb_err *err);

#endif
